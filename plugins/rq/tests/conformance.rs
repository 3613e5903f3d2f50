//! What residual quantization promises, asked through the C table as the host asks it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use ndarray::{Array2, ArrayView2};
use std::sync::atomic::{AtomicUsize, Ordering};
use vq_plugin_api::handle::{Caller, Instance, Method, Plugin, Proposal};
use vq_plugin_api::params::Config;
use vq_plugin_api::{ErrorKind, GridRequest, Metric, Space, Value};

fn method() -> Method {
    Plugin::linked(vq_rq::plugin()).unwrap().methods()[0].clone()
}

fn config(pairs: &[(&str, i64)]) -> Config {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::Int(*value))).collect()
}

fn with<R>(threads: usize, seed: u64, run: impl FnOnce(&Caller<'_>) -> R) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    run(&Caller { threads, seed, log: &|_, _| (), progress: &|_, _| true, pool: &pool })
}

fn fitted(pairs: &[(&str, i64)], metric: Metric, x: &Array2<f32>, caller: &Caller<'_>) -> Instance {
    let space = Space { dim: x.ncols(), metric };
    let mut made = method().create(&config(pairs), space).unwrap();
    made.fit(x.view(), caller).unwrap();
    made
}

fn encode(made: &Instance, x: ArrayView2<'_, f32>, caller: &Caller<'_>) -> Array2<u8> {
    let mut codes = vec![0; x.nrows() * made.code_bytes()];
    made.compress(x, made.code_bytes(), caller, &mut codes).unwrap();
    Array2::from_shape_vec((x.nrows(), made.code_bytes()), codes).unwrap()
}

fn decode(made: &Instance, codes: &Array2<u8>, caller: &Caller<'_>) -> Array2<f32> {
    let mut x = vec![0.0; codes.nrows() * made.space().dim];
    made.decompress(codes.view(), caller, &mut x).unwrap();
    Array2::from_shape_vec((codes.nrows(), made.space().dim), x).unwrap()
}

fn score(
    made: &Instance,
    queries: ArrayView2<'_, f32>,
    codes: &Array2<u8>,
    caller: &Caller<'_>,
) -> Vec<f32> {
    let (scorer, n) = (made.scorer().unwrap(), codes.nrows());
    let mut packed = vec![0; scorer.packed_bytes(n).unwrap()];
    scorer.pack(codes.view(), caller, &mut packed).unwrap();
    let mut estimates = vec![0.0; queries.nrows() * n];
    scorer.score(queries, &packed, n, caller, &mut estimates, None).unwrap();
    estimates
}

fn l2_sq(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Standard normal numbers, by Box and Muller from splitmix64.
fn gaussian(n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    Array2::from_shape_simple_fn((n, d), || {
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * uniform()).cos()) as f32
    })
}

fn proposals(dim: usize, bits_per_dim: Option<f64>, axes: &[(&str, &[i64])]) -> Vec<String> {
    let axis = |values: &[i64]| values.iter().map(|v| Value::Int(*v)).collect();
    let axes = axes.iter().map(|(name, values)| ((*name).to_owned(), axis(values))).collect();
    let request = GridRequest { space: Space { dim, metric: Metric::L2 }, bits_per_dim, axes };
    let told = method().expand(&request).unwrap().into_iter().map(|proposal| match proposal {
        Proposal::Emit { label, code_bytes, .. } => format!("{label}: {}", code_bytes.unwrap()),
        Proposal::Skip { reason, .. } => reason,
    });
    told.collect()
}

#[test]
fn threads_and_batches_change_nothing_and_seeds_do() {
    let x = gaussian(1500, 12, 1);
    for pairs in CONFIGS {
        let codes = |threads, seed| {
            with(threads, seed, |caller| {
                encode(&fitted(pairs, Metric::L2, &x, caller), x.view(), caller)
            })
        };
        let one = codes(1, 5);
        assert_eq!(one, codes(2, 5), "{pairs:?}");
        assert_ne!(one, codes(2, 6), "{pairs:?}");
        with(2, 5, |caller| {
            let made = fitted(pairs, Metric::L2, &x, caller);
            for rows in [1, 7, 129] {
                let last = ndarray::Slice::from(-rows..);
                let some = x.slice_axis(ndarray::Axis(0), last);
                let expected = one.slice_axis(ndarray::Axis(0), last);
                assert_eq!(encode(&made, some, caller), expected, "{pairs:?}");
            }
        });
    }
}

#[test]
fn a_loaded_model_encodes_decodes_and_scores_like_the_saved_one() {
    let x = gaussian(700, 12, 2) + 3.0;
    with(2, 1, |caller| {
        for pairs in CONFIGS {
            let made = fitted(pairs, Metric::L2, &x, caller);
            let model = made.save().unwrap().unwrap();
            let mut loaded = method().create(&config(pairs), made.space()).unwrap();
            loaded.load(&model).unwrap();
            let codes = encode(&made, x.view(), caller);
            assert_eq!(codes, encode(&loaded, x.view(), caller));
            assert_eq!(decode(&made, &codes, caller), decode(&loaded, &codes, caller));
            let queries = x.slice_axis(ndarray::Axis(0), ndarray::Slice::from(..40));
            let scored = [&made, &loaded].map(|of| score(of, queries, &codes, caller));
            assert_eq!(scored[0], scored[1]);
            assert_eq!(model, loaded.save().unwrap().unwrap());
            assert!(loaded.load(&model[..model.len() - 1]).is_err());
        }
    });
}

#[test]
fn degenerate_rows_give_finite_ones() {
    let plain = gaussian(400, 12, 3);
    let mut constant = plain.clone();
    constant.column_mut(4).fill(7.0);
    let rows = [
        plain.slice_axis(ndarray::Axis(0), ndarray::Slice::from(..1)).to_owned(),
        constant,
        Array2::zeros((400, 12)),
        Array2::from_elem((400, 12), -3.5e37),
        plain.mapv(|x| x * 1e30),
        plain.mapv(|x| (x * 1e38).clamp(f32::MIN, f32::MAX)),
        plain.mapv(|x| x * 1e-30),
        plain.mapv(|x| 1e6 + x),
    ];
    with(2, 1, |caller| {
        for (pairs, x) in CONFIGS.iter().flat_map(|pairs| rows.iter().map(move |x| (pairs, x))) {
            let made = fitted(pairs, Metric::L2, x, caller);
            let codes = encode(&made, x.view(), caller);
            let back = decode(&made, &codes, caller);
            assert!(back.iter().all(|x| x.is_finite()), "{pairs:?}");
            let mean = (x / x.nrows() as f32).sum_axis(ndarray::Axis(0));
            let spread = l2_sq(x, &(Array2::zeros(x.dim()) + mean));
            let rounding = 1e-12 * x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            assert!(l2_sq(x, &back) <= 0.7 * spread + rounding, "{pairs:?} {}", x[[0, 0]]);
            // Rows unlike any in training: any code, no panic.
            let odd = ndarray::arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
            let back = decode(&made, &encode(&made, odd.view(), caller), caller);
            assert!(back.iter().all(|x| x.is_finite()), "{pairs:?}");
        }
    });
}

#[test]
fn estimates_are_the_values_of_the_decoded_rows() {
    let x = gaussian(600, 12, 4) + 2.0;
    with(2, 1, |caller| {
        for (pairs, metric) in
            CONFIGS.iter().flat_map(|pairs| [(pairs, Metric::L2), (pairs, Metric::Ip)])
        {
            let made = fitted(pairs, metric, &x, caller);
            let codes = encode(&made, x.view(), caller);
            let back = decode(&made, &codes, caller);
            let queries = x.slice_axis(ndarray::Axis(0), ndarray::Slice::from(..5));
            let estimates = score(&made, queries, &codes, caller);
            for (q, estimates) in queries.outer_iter().zip(estimates.chunks_exact(codes.nrows())) {
                for (x, estimate) in back.outer_iter().zip(estimates) {
                    let pairs = q.iter().zip(x).map(|(q, x)| (f64::from(*q), f64::from(*x)));
                    let exact: f64 = match metric {
                        Metric::L2 => pairs.map(|(q, x)| (q - x).powi(2)).sum(),
                        _ => pairs.map(|(q, x)| q * x).sum(),
                    };
                    assert!((exact - f64::from(*estimate)).abs() < 2e-4, "{exact} {estimate}");
                }
            }
        }
    });
}

#[test]
fn training_stops_when_asked_to() {
    let x = gaussian(3000, 12, 5);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let calls = AtomicUsize::new(0);
    let progress = |fraction: f32, _: &str| {
        assert!((0.0..=1.0).contains(&fraction));
        calls.fetch_add(1, Ordering::Relaxed) < 20
    };
    let caller = Caller { threads: 2, seed: 1, log: &|_, _| (), progress: &progress, pool: &pool };
    let space = Space { dim: 12, metric: Metric::L2 };
    let mut made = method().create(&config(CONFIGS[0]), space).unwrap();
    let error = made.fit(x.view(), &caller).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Cancelled));
    assert_eq!(calls.into_inner(), 21);
}

const CONFIGS: &[&[(&str, i64)]] = &[
    &[("layers", 3), ("bits", 6)],
    &[("layers", 4), ("beam", 1)],
    &[("layers", 5), ("bits", 3), ("beam", 3)],
    &[("layers", 2), ("bits", 9), ("beam", 2)],
];

#[test]
fn five_bit_codes_take_five_bits_and_no_norm_is_stored() {
    for (layers, bits, bytes) in [(6, 5, 4), (5, 5, 4), (8, 8, 8), (3, 12, 5), (30, 1, 4)] {
        let space = Space { dim: 30, metric: Metric::L2 };
        let made = method().create(&config(&[("layers", layers), ("bits", bits)]), space).unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(made.ratio(), Some(120.0 / bytes as f64));
    }
}

#[test]
fn the_grid_sweeps_layers_and_beams_at_any_dimension() {
    assert_eq!(
        proposals(100, None, &[]),
        [
            "layers=2 beam=1: 2",
            "layers=2 beam=5: 2",
            "layers=4 beam=1: 4",
            "layers=4 beam=5: 4",
            "layers=8 beam=1: 8",
            "layers=8 beam=5: 8"
        ]
    );
}

#[test]
fn a_rate_is_answered_by_the_nearest_number_of_layers() {
    let greedy = [("beam", &[1][..])];
    assert_eq!(proposals(128, Some(1.0), &greedy), ["layers=16 beam=1: 16"]);
    assert_eq!(proposals(128, Some(4.0), &greedy), ["layers=64 beam=1: 64"]);
    assert_eq!(proposals(100, Some(1.0), &greedy), ["layers=13 beam=1: 13"]);
    assert_eq!(proposals(384, Some(2.0), &greedy), ["layers=96 beam=1: 96"]);
    assert_eq!(proposals(100, Some(0.1), &greedy), ["layers=1 beam=1: 1"]);
    assert_eq!(
        proposals(100, Some(1.0), &[("beam", &[1]), ("bits", &[4])]),
        ["layers=25 bits=4 beam=1: 13"]
    );
    assert_eq!(proposals(128, Some(1.0), &[]), ["layers=16 beam=1: 16", "layers=16 beam=5: 16"]);
}

#[test]
fn a_beam_of_all_partial_codes_finds_the_best_code() {
    let x = gaussian(500, 6, 9) + 10.0;
    with(1, 1, |caller| {
        let made = fitted(&[("layers", 3), ("bits", 2), ("beam", 16)], Metric::L2, &x, caller);
        let back = decode(&made, &encode(&made, x.view(), caller), caller);
        let all = Array2::from_shape_fn((64, 1), |(i, _)| i as u8);
        let all = decode(&made, &all, caller);
        for (x, back) in x.outer_iter().zip(back.outer_iter()) {
            let to = |row: ndarray::ArrayView1<'_, f32>| -> f64 {
                x.iter().zip(row).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
            };
            let least = all.outer_iter().map(to).fold(f64::INFINITY, f64::min);
            assert!(to(back) <= least * (1.0 + 1e-5));
        }
    });
}

#[test]
fn wider_beams_and_more_layers_come_nearer() {
    let (x, train) = (gaussian(2000, 16, 10), gaussian(4000, 16, 11));
    with(2, 1, |caller| {
        let error = |layers: i64, beam: i64| {
            let pairs = [("layers", layers), ("bits", 5), ("beam", beam)];
            let made = fitted(&pairs, Metric::L2, &train, caller);
            let back = decode(&made, &encode(&made, x.view(), caller), caller);
            l2_sq(&x, &back) / x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
        };
        let (greedy, five, twenty) = (error(6, 1), error(6, 5), error(6, 20));
        assert!(five < 0.97 * greedy && twenty < five, "{greedy} {five} {twenty}");
        assert!(five < 0.7 * error(3, 5));
        // 30 bits in 16 dimensions: no code can pass the Shannon bound.
        assert!(twenty > 2.0_f64.powf(-2.0 * 30.0 / 16.0));
    });
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_rq::plugin()).assert_clean();
}
