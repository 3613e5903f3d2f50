//! What optimized product quantization promises.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use ndarray::{Array2, ArrayView1, Axis, Slice};
use vq_blocks::{Product, Training};
use vq_kernels::Draw;
use vq_kernels::distance::{dot, l2_sq};
use vq_kernels::rotation::Rotation;
use vq_opq::{Opq, OpqParams};
use vq_plugin_api::testing::Subject;
use vq_plugin_api::{Context, Metric, Quantizer, Scorer, Space};

const SEED: u64 = 42;

fn fitted(m: usize, bits: u32, x: &Array2<f32>, metric: Metric, threads: usize) -> Opq {
    let params = OpqParams { m, bits, rounds: 10, iterations: 10, points_per_centroid: 1000 };
    let mut opq = Opq::create(params, Space { dim: x.ncols(), metric }).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| opq.fit(x.view(), &Context::detached(threads, SEED))).unwrap();
    opq
}

fn codes(opq: &Opq, x: &Array2<f32>) -> Array2<u8> {
    let mut codes = Array2::zeros((x.nrows(), opq.code_bytes()));
    opq.compress(x.view(), codes.view_mut(), &Context::detached(1, SEED)).unwrap();
    codes
}

fn decoded(opq: &Opq, codes: &Array2<u8>, dim: usize) -> Array2<f32> {
    let mut x = Array2::zeros((codes.nrows(), dim));
    opq.decompress(codes.view(), x.view_mut(), &Context::detached(1, SEED)).unwrap();
    x
}

fn error(opq: &Opq, x: &Array2<f32>) -> f64 {
    let back = decoded(opq, &codes(opq, x), x.ncols());
    l2_sq(x.as_slice().unwrap(), back.as_slice().unwrap())
}

/// The squared error of product quantization with the same seed.
fn error_of_pq(m: usize, bits: u32, x: &Array2<f32>) -> f64 {
    let ctx = Context::detached(1, SEED);
    let training = Training { iterations: 10, points_per_centroid: 1000 };
    let mut product = Product::new(x.ncols(), m, bits).unwrap();
    product.fit(x.view(), training, SEED, &|_| Ok(())).unwrap();
    let mut codes = Array2::zeros((x.nrows(), product.code_bytes()));
    let mut back = Array2::zeros(x.dim());
    product.encode(x.view(), codes.view_mut(), &ctx).unwrap();
    product.decode(codes.view(), back.view_mut(), &ctx).unwrap();
    l2_sq(x.as_slice().unwrap(), back.as_slice().unwrap())
}

/// Normal rows whose dimension t has the standard deviation `spread(t)`, then `turn`.
fn rows(n: usize, d: usize, spread: impl Fn(usize) -> f64, turn: Option<u64>) -> Array2<f32> {
    let mut draw = Draw::new(7);
    let mut x = Array2::zeros((n, d));
    for mut row in x.outer_iter_mut() {
        row.iter_mut().enumerate().for_each(|(t, x)| *x = (spread(t) * draw.normal()) as f32);
    }
    let Some(seed) = turn else { return x };
    let mut turned = Array2::zeros(x.dim());
    Rotation::dense(d, seed).apply(x.view(), turned.view_mut());
    turned
}

fn decaying(t: usize) -> f64 {
    0.8_f64.powi(t as i32)
}

#[test]
fn it_is_never_worse_than_pq_on_the_training_rows() {
    let clustered = {
        let mut draw = Draw::new(3);
        let mut x = rows(900, 12, |_| 0.05, None);
        for mut row in x.outer_iter_mut() {
            let cluster = draw.below(9);
            row.iter_mut().enumerate().for_each(|(t, x)| *x += ((t * 7 + cluster * 5) % 9) as f32);
        }
        x
    };
    let mut constant = rows(700, 12, decaying, Some(1));
    constant.column_mut(4).fill(7.0);
    let decayed = rows(900, 12, decaying, Some(5));
    for x in [
        &rows(900, 12, |_| 1.0, None),
        &rows(900, 12, decaying, None),
        &clustered,
        &constant,
        &Array2::zeros((60, 12)),
        &Array2::from_elem((60, 12), -3.5e37),
        &decayed.mapv(|x| x * 1e30),
        &decayed.mapv(|x| x * 1e-30),
        &decayed.mapv(|x| 1e6 + x),
        &decayed.slice_axis(Axis(0), Slice::from(..1)).to_owned(),
    ] {
        for (m, bits) in [(4, 4), (12, 2), (1, 5), (3, 6)] {
            let (ours, pq) =
                (error(&fitted(m, bits, x, Metric::L2, 2), x), error_of_pq(m, bits, x));
            assert!(ours <= pq, "m = {m}, {bits} bits: {ours} above {pq}, {}", x[[0, 0]]);
        }
    }
}

/// Correlated dimensions are what OPQ is for. With 2^bits centroids in each of m sub-spaces of a Gaussian
/// source the least error is m·|Σ|^(1/d)-shaped (section 3.2.2): it needs the principal directions, shared
/// out evenly. Turned rows must end as near as the unturned ones that are shared out by hand.
#[test]
fn a_turn_of_the_data_is_undone() {
    let by_hand = rows(4000, 8, |t| [1.0, 0.02, 0.9, 0.02, 0.8, 0.02, 0.7, 0.02][t], None);
    let mut turned = Array2::zeros(by_hand.dim());
    Rotation::dense(8, 11).apply(by_hand.view(), turned.view_mut());
    let (pq, opq) =
        (error_of_pq(4, 4, &turned), error(&fitted(4, 4, &turned, Metric::L2, 2), &turned));
    let best = error_of_pq(4, 4, &by_hand);
    assert!(opq < 0.5 * pq, "{opq}, pq {pq}");
    assert!(opq < 1.05 * best, "{opq}, by hand {best}");
}

#[test]
fn rounds_lower_the_error_of_the_start() {
    // Three clusters per pair of dimensions, turned: no Gaussian, so the parametric start is not the best.
    let mut draw = Draw::new(2);
    let mut x = rows(3000, 8, |_| 0.03, None);
    for mut row in x.outer_iter_mut() {
        for pair in 0..4 {
            let (a, b) = [(1.0, 0.0), (-0.5, 0.9), (-0.5, -0.9)][draw.below(3)];
            row[2 * pair] += a;
            row[2 * pair + 1] += b;
        }
    }
    let mut turned = Array2::zeros(x.dim());
    Rotation::dense(8, 4).apply(x.view(), turned.view_mut());
    let with = |rounds| {
        let params = OpqParams { m: 4, bits: 2, rounds, iterations: 10, points_per_centroid: 1000 };
        let mut opq = Opq::create(params, Space { dim: 8, metric: Metric::L2 }).unwrap();
        opq.fit(turned.view(), &Context::detached(1, SEED)).unwrap();
        error(&opq, &turned)
    };
    let errors = [0, 20, 100].map(with);
    // What has settled moves by rounding.
    assert!(errors[1] < 0.9 * errors[0] && errors[2] < 1.0001 * errors[1], "{errors:?}");
}

#[test]
fn threads_change_nothing_and_a_model_gives_the_same_bits_again() {
    let x = rows(900, 12, decaying, Some(5));
    let opq = fitted(4, 5, &x, Metric::L2, 1);
    let model = opq.save().unwrap();
    assert_eq!(model, fitted(4, 5, &x, Metric::L2, 3).save().unwrap());
    // 12 bytes of lengths and a flag apart.
    assert_eq!(opq.model_bytes(), Some(4 * (32 * 12 + 1 + 12 + 144)));
    let params = OpqParams { m: 4, bits: 5, rounds: 10, iterations: 10, points_per_centroid: 1000 };
    let mut loaded = Opq::create(params, Space { dim: 12, metric: Metric::L2 }).unwrap();
    loaded.load(&model).unwrap();
    assert_eq!(codes(&opq, &x), codes(&loaded, &x));
    assert_eq!(decoded(&opq, &codes(&opq, &x), 12), decoded(&loaded, &codes(&opq, &x), 12));
    assert_eq!(model, loaded.save().unwrap());
    assert!(loaded.load(&model[..model.len() - 1]).is_err());
}

#[test]
fn estimates_are_the_values_of_the_decoded_rows() {
    let x = rows(600, 12, decaying, Some(5)) + 2.0;
    for metric in [Metric::L2, Metric::Ip] {
        let opq = fitted(4, 4, &x, metric, 2);
        let codes = codes(&opq, &x);
        let back = decoded(&opq, &codes, 12);
        let mut packed = Array2::zeros(codes.dim());
        let ctx = Context::detached(1, SEED);
        Scorer::pack(&opq, codes.view(), packed.view_mut(), &ctx).unwrap();
        let mut estimates = vec![0.0; 600];
        for q in x.outer_iter().take(5) {
            let query = opq.query(q, &ctx).unwrap();
            opq.score(&query, packed.view(), &mut estimates, None).unwrap();
            let exact = |back: ArrayView1<'_, f32>| match metric {
                Metric::L2 => l2_sq(&q.to_vec(), &back.to_vec()),
                _ => dot(&q.to_vec(), &back.to_vec()),
            };
            for (back, estimate) in back.outer_iter().zip(&estimates) {
                let exact = exact(back);
                assert!((exact - f64::from(*estimate)).abs() < 2e-4, "{exact} {estimate}");
            }
        }
    }
}

const CONFIGS: &[&[(&str, i64)]] =
    &[&[("m", 4), ("rounds", 5)], &[("m", 3), ("bits", 4)], &[("m", 12), ("bits", 5)]];

#[test]
fn threads_and_batches_change_nothing_and_seeds_do() {
    Subject::of(vq_opq::plugin()).threads_and_batches_change_nothing_and_seeds_do(CONFIGS);
}

#[test]
fn degenerate_rows_give_finite_ones() {
    Subject::of(vq_opq::plugin()).degenerate_rows_give_finite_ones(CONFIGS);
}

#[test]
fn training_stops_when_asked_to() {
    Subject::of(vq_opq::plugin()).training_stops_when_asked_to(CONFIGS[0]);
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_opq::plugin()).assert_clean();
}
