//! What anisotropic quantization promises.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use ndarray::{Array2, ArrayView1};
use proptest::prelude::*;
use vq_kernels::Draw;
use vq_kernels::pack::{pack, unpack};
use vq_plugin_api::testing::{Subject, gaussian};
use vq_plugin_api::{Context, Metric, Quantizer, Space};
use vq_scann::{Scann, ScannParams};

const SEED: u64 = 42;

/// At d = 12 the default threshold gives errors along a row no weight: η = 0.46 becomes 1.
const STRONG: f64 = 0.6;

fn subject() -> Subject {
    Subject::of(vq_scann::plugin())
}

fn params(m: usize, bits: u32, threshold: f64, rounds: usize) -> ScannParams {
    ScannParams { m, bits, threshold, rounds, iterations: 10, points_per_centroid: 1000 }
}

fn fitted(params: ScannParams, x: &Array2<f32>, threads: usize) -> Scann {
    let space = Space { dim: x.ncols(), metric: Metric::Ip };
    let mut made = Scann::create(params, space).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| made.fit(x.view(), &Context::detached(threads, SEED))).unwrap();
    made
}

fn codes(made: &Scann, x: &Array2<f32>, threads: usize) -> Array2<u8> {
    let mut codes = Array2::zeros((x.nrows(), made.code_bytes()));
    made.compress(x.view(), codes.view_mut(), &Context::detached(threads, SEED)).unwrap();
    codes
}

fn decoded(made: &Scann, codes: &Array2<u8>, dim: usize) -> Array2<f32> {
    let mut x = Array2::zeros((codes.nrows(), dim));
    made.decompress(codes.view(), x.view_mut(), &Context::detached(1, SEED)).unwrap();
    x
}

fn eta(threshold: f64, dim: usize) -> f64 {
    let square = threshold * threshold;
    ((dim as f64 - 1.0) * square / (1.0 - square)).max(1.0)
}

/// ‖e‖² and ⟨e, u⟩² of a row.
fn errors(x: ArrayView1<'_, f32>, back: ArrayView1<'_, f32>) -> (f64, f64) {
    let (mut whole, mut along, mut length) = (0.0, 0.0, 0.0);
    for (x, back) in x.iter().zip(back) {
        let (x, e) = (f64::from(*x), f64::from(*x) - f64::from(*back));
        whole += e * e;
        along += e * x;
        length += x * x;
    }
    (whole, if length > 0.0 { along * along / length } else { 0.0 })
}

fn loss(x: ArrayView1<'_, f32>, back: ArrayView1<'_, f32>, eta: f64) -> f64 {
    let (whole, along) = errors(x, back);
    whole + (eta - 1.0) * along
}

fn losses(made: &Scann, x: &Array2<f32>, eta: f64) -> f64 {
    let back = decoded(made, &codes(made, x, 2), x.ncols());
    x.outer_iter().zip(back.outer_iter()).map(|(x, back)| loss(x, back, eta)).sum()
}

#[test]
fn threads_and_batches_change_nothing() {
    let x = gaussian(1500, 12, 1);
    for (m, bits) in [(4, 8), (3, 4), (4, 5), (6, 1), (1, 7)] {
        let params = || params(m, bits, STRONG, 3);
        let one = codes(&fitted(params(), &x, 1), &x, 1);
        let made = fitted(params(), &x, 3);
        assert_eq!(one, codes(&made, &x, 3), "m={m} bits={bits}");
        for rows in [1, 7, 129] {
            let some = x.slice(ndarray::s![-rows.., ..]).to_owned();
            assert_eq!(codes(&made, &some, 2), one.slice(ndarray::s![-rows.., ..]));
        }
    }
}

#[test]
fn a_loaded_model_encodes_decodes_and_scores_like_the_saved_one() {
    subject().a_loaded_model_encodes_decodes_and_scores_like_the_saved_one(&[
        &[("m", 4), ("rounds", 3)],
        &[("m", 3), ("bits", 4)],
    ]);
}

#[test]
fn estimates_are_the_values_of_the_decoded_rows() {
    subject().estimates_are_the_values_of_the_decoded_rows(&[&[("m", 4), ("rounds", 3)]]);
}

#[test]
fn training_stops_when_asked_to() {
    subject().training_stops_when_asked_to(&[("m", 4)]);
}

#[test]
fn degenerate_rows_give_finite_ones_that_lose_no_more_than_the_nearest_centroids() {
    let plain = gaussian(300, 12, 3);
    let rows = [
        Array2::zeros((300, 12)),
        Array2::from_elem((300, 12), -3.5e37),
        plain.mapv(|x| x * 1e30),
        plain.mapv(|x| (x * 1e38).clamp(f32::MIN, f32::MAX)),
        plain.mapv(|x| x * 1e-30),
        plain.mapv(|x| 1e4 + x),
        plain.slice(ndarray::s![..1, ..]).to_owned(),
    ];
    let eta = eta(STRONG, 12);
    for x in &rows {
        let (made, plain) = (params(4, 5, STRONG, 4), params(4, 5, 0.0, 0));
        let (made, plain) = (fitted(made, x, 2), fitted(plain, x, 2));
        let spread: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
        let (ours, nearest) = (losses(&made, x, eta), losses(&plain, x, eta));
        assert!(ours <= nearest * 1.0001 + 1e-12 * spread, "{ours} {nearest} {}", x[[0, 0]]);
        let odd = ndarray::arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
        let back = decoded(&made, &codes(&made, &odd, 1), 12);
        assert!(back.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn without_a_threshold_it_is_pq() {
    let x = gaussian(800, 12, 5);
    let made = fitted(params(4, 6, 0.0, 10), &x, 2);
    let ctx = Context::detached(2, SEED);
    let mut product = vq_blocks::Product::new(12, 4, 6).unwrap();
    let training = vq_blocks::Training { iterations: 10, points_per_centroid: 1000 };
    product.fit(x.view(), training, SEED, &|_| Ok(())).unwrap();
    let mut expected = Array2::zeros((800, product.code_bytes()));
    product.encode(x.view(), expected.view_mut(), &ctx).unwrap();
    assert_eq!(codes(&made, &x, 1), expected);
    // η is below 1 at so few dimensions, and taken for 1.
    assert_eq!(codes(&fitted(params(4, 6, 0.2, 10), &x, 1), &x, 1), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn no_single_index_lowers_the_loss(
        shape in prop::sample::select(vec![(2_usize, 3_u32), (3, 2), (6, 1), (4, 4), (1, 5), (3, 6)]),
        threshold in 0.3_f64..0.95,
        offset in prop::sample::select(vec![0.0_f32, 2.0]),
        seed in any::<u64>(),
    ) {
        let (m, bits) = shape;
        let (x, train) = (gaussian(40, 12, seed) + offset, gaussian(500, 12, seed ^ 1) + offset);
        let (made, eta) = (fitted(params(m, bits, threshold, 2), &train, 1), eta(threshold, 12));
        let chosen = codes(&made, &x, 1);
        let back = decoded(&made, &chosen, 12);
        for (i, x) in x.outer_iter().enumerate() {
            let now = loss(x, back.row(i), eta);
            let mut values = vec![0; m];
            unpack(chosen.row(i).to_slice().unwrap(), bits, &mut values);
            for j in 0..m {
                for c in 0..1_u16 << bits {
                    let mut other = values.clone();
                    other[j] = c;
                    let mut packed = Array2::zeros((1, made.code_bytes()));
                    pack(&other, bits, packed.as_slice_mut().unwrap());
                    let other = loss(x, decoded(&made, &packed, 12).row(0), eta);
                    prop_assert!(now <= other * (1.0 + 1e-4) + 1e-5, "{now} {other}");
                }
            }
        }
    }
}

#[test]
fn training_lowers_the_loss_of_rows_that_it_never_saw() {
    // Unit rows off the centre, as embeddings are.
    let unit = |n: usize, seed: u64| {
        let mut x = gaussian(n, 32, seed) + 0.5;
        for mut row in x.outer_iter_mut() {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.mapv_inplace(|x| x / length);
        }
        x
    };
    let (train, x) = (unit(6000, 1), unit(2000, 2));
    let eta = eta(0.4, 32);
    let [nearest, descended, shaped] = [(0.0, 0), (0.4, 0), (0.4, 8)]
        .map(|(threshold, rounds)| fitted(params(8, 5, threshold, rounds), &train, 2));
    let [a, b, c] = [&nearest, &descended, &shaped].map(|made| losses(made, &x, eta));
    assert!(b < 0.95 * a && c < 0.98 * b, "{a} {b} {c}");
    // That is what ranks: the error of ⟨x, x̂⟩.
    let along = |made: &Scann| -> f64 {
        let back = decoded(made, &codes(made, &x, 2), 32);
        x.outer_iter().zip(back.outer_iter()).map(|(x, back)| errors(x, back).1).sum()
    };
    let (before, after) = (along(&nearest), along(&shaped));
    assert!(after < 0.5 * before, "{before} {after}");
}

#[test]
fn seeds_change_codes() {
    let x = gaussian(900, 16, Draw::new(3).word());
    let with = |seed: u64| {
        let space = Space { dim: 16, metric: Metric::Ip };
        let mut made = Scann::create(params(4, 5, STRONG, 2), space).unwrap();
        made.fit(x.view(), &Context::detached(1, seed)).unwrap();
        codes(&made, &x, 1)
    };
    assert_ne!(with(1), with(2));
}

#[test]
fn grids_are_those_of_pq() {
    assert_eq!(subject().proposals(128, Some(1.0), &[]), ["m=16 bits=8: 16", "m=32 bits=4: 16"]);
    assert_eq!(subject().proposals(100, Some(1.0), &[]), ["m=10 bits=9: 12"]);
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_scann::plugin()).assert_clean();
}
