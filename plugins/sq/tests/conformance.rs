//! What scalar quantization promises: the laws of every plugin, and the published distortions.

#![expect(clippy::unwrap_used, reason = "a test fails where a promise is broken")]

use ndarray::{Array2, Axis, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use vq_plugin_api::params::Config;
use vq_plugin_api::{Context, Error, Metric, Params, Quantizer, Space, Value};
use vq_sq::{Sq, SqParams};

fn config(pairs: &[(&str, Value)]) -> Config {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn create(pairs: &[(&str, Value)], dim: usize) -> Result<Sq, Error> {
    let params = SqParams::from_config(&config(pairs)).unwrap();
    Sq::create(params, Space { dim, metric: Metric::L2 })
}

fn fitted(pairs: &[(&str, Value)], train: &Array2<f32>, threads: usize) -> Sq {
    let mut sq = create(pairs, train.ncols()).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| sq.fit(train.view(), &Context::detached(threads, 1))).unwrap();
    sq
}

fn codes(sq: &Sq, x: &Array2<f32>, threads: usize) -> Array2<u8> {
    let mut codes = Array2::from_elem((x.nrows(), sq.code_bytes()), 0xA5);
    sq.compress(x.view(), codes.view_mut(), &Context::detached(threads, 1)).unwrap();
    codes
}

fn decoded(sq: &Sq, codes: &Array2<u8>, dim: usize) -> Array2<f32> {
    let mut x = Array2::from_elem((codes.nrows(), dim), f32::NAN);
    sq.decompress(codes.view(), x.view_mut(), &Context::detached(2, 1)).unwrap();
    x
}

fn gaussian(n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((n, d), || StandardNormal.sample(&mut rng))
}

/// Every kind of training, at a width that is packed and one that is not.
fn configurations() -> Vec<Vec<(&'static str, Value)>> {
    let mut all = Vec::new();
    for bits in [1_i64, 3, 4, 8, 11, 16] {
        for range in ["dimension", "global"] {
            let base = [("bits", Value::Int(bits)), ("range", range.into())];
            let ways: [&[(&str, Value)]; 4] = [
                &[],
                &[("trim", 0.01.into())],
                &[("fit", "mse".into())],
                &[("levels", "lloyd_max".into())],
            ];
            for way in &ways[..if bits > 8 { 3 } else { 4 }] {
                all.push([&base, *way].concat());
            }
        }
    }
    all
}

/// Trains on a million numbers, measures on four million others: the mean squared error must be the
/// published one within 1 %, and the measurement must be precise enough for that to say something:
/// four standard errors, of the mean of as many squared errors as there are numbers, within 1 %.
fn assert_distortion(pairs: &[(&str, Value)], published: f64) {
    let train = gaussian(1 << 18, 4, 1);
    let x = gaussian(1 << 20, 4, 2);
    let sq = fitted(pairs, &train, 2);
    let back = decoded(&sq, &codes(&sq, &x, 2), 4);
    let squares: Vec<f64> = x.iter().zip(&back).map(|(x, y)| f64::from(x - y).powi(2)).collect();
    let n = squares.len() as f64;
    let mean = squares.iter().sum::<f64>() / n;
    let variance = squares.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let standard_error = (variance / n).sqrt() / published;
    assert!(4.0 * standard_error < 0.01, "{pairs:?}: standard error {standard_error}");
    let off = mean / published - 1.0;
    assert!(off.abs() < 0.01, "{pairs:?}: {mean}, published {published}, {:.2} %", 100.0 * off);
}

#[test]
fn lloyd_max_reaches_the_distortions_of_max_1960() {
    for (bits, published) in (1_i64..).zip([0.3634, 0.1175, 0.03454, 0.009497, 0.002499]) {
        for range in ["global", "dimension"] {
            let pairs = [
                ("bits", Value::Int(bits)),
                ("levels", "lloyd_max".into()),
                ("range", range.into()),
            ];
            assert_distortion(&pairs, published);
        }
    }
}

#[test]
fn uniform_levels_of_least_error_reach_the_optimum_of_max_1960() {
    for (bits, published) in (1_i64..).zip([0.3634, 0.1188, 0.03744, 0.01154]) {
        for range in ["global", "dimension"] {
            let pairs =
                [("bits", Value::Int(bits)), ("fit", "mse".into()), ("range", range.into())];
            assert_distortion(&pairs, published);
        }
    }
}

#[test]
fn uniform_data_err_by_a_twelfth_of_the_squared_step() {
    // 2^bits cells over [0, 1): the squared error is 4^−bits / 12. Squares of uniform errors deviate
    // by 0.894 of their mean, 0.18 % for 250,000 independent ones; a golden-ratio sequence, which
    // covers the interval more evenly than chance, does no worse.
    let n = 250_000;
    let x = Array2::from_shape_fn((n, 1), |(i, _)| {
        ((i as f64 + 0.5) * 0.618_033_988_749_894_9).fract() as f32
    });
    for bits in [1_i64, 2, 5, 8, 12] {
        let sq = fitted(&[("bits", Value::Int(bits))], &x, 1);
        let back = decoded(&sq, &codes(&sq, &x, 1), 1);
        let error = x.iter().zip(&back).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
        let off = error / n as f64 * 12.0 * 4.0_f64.powi(bits as i32) - 1.0;
        assert!(off.abs() < 0.01, "{bits} bits: {off}");
    }
}

#[test]
fn codes_take_exactly_their_bits() {
    for bits in 1..=16_i64 {
        for d in [1, 7, 8, 100, 128] {
            let sq = create(&[("bits", Value::Int(bits))], d).unwrap();
            assert_eq!(sq.code_bytes(), (bits as usize * d).div_ceil(8));
        }
    }
}

#[test]
fn neither_batches_nor_threads_nor_strides_change_codes() {
    let wide = gaussian(600, 40, 3);
    let x = wide.slice(s![.., 2..35]).to_owned();
    for pairs in configurations() {
        let sq = fitted(&pairs, &x, 1);
        let whole = codes(&sq, &x, 1);
        assert_eq!(whole, codes(&fitted(&pairs, &x, 2), &x, 2), "{pairs:?}");
        let mut strided = Array2::zeros(whole.raw_dim());
        sq.compress(wide.slice(s![.., 2..35]), strided.view_mut(), &Context::detached(2, 1))
            .unwrap();
        assert_eq!(whole, strided);
        let back = decoded(&sq, &whole, 33);
        for i in [0, 1, 299, 599] {
            let one = x.slice(s![i..=i, ..]).to_owned();
            assert_eq!(whole.slice(s![i..=i, ..]), codes(&sq, &one, 1));
            let code = whole.slice(s![i..=i, ..]).to_owned();
            assert_eq!(back.slice(s![i..=i, ..]), decoded(&sq, &code, 33));
        }
    }
}

/// However dimensions are shared out among tasks.
#[test]
fn each_dimension_is_learned_as_if_alone() {
    for (d, threads) in [(63, 1), (64, 2), (65, 1), (130, 1), (130, 3)] {
        let x = gaussian(300, d, d as u64);
        for fit in ["range", "mse"] {
            let pairs = [("bits", Value::Int(8)), ("fit", fit.into())];
            let all = codes(&fitted(&pairs, &x, threads), &x, 2);
            for j in 0..d {
                let column = x.slice(s![.., j..=j]).to_owned();
                let alone = codes(&fitted(&pairs, &column, 1), &column, 1);
                assert_eq!(all.slice(s![.., j..=j]), alone, "{j} of {d}, {threads} threads, {fit}");
            }
        }
    }
}

#[test]
fn a_value_that_is_a_level_keeps_its_code() {
    let x = gaussian(400, 9, 4);
    for pairs in configurations() {
        let sq = fitted(&pairs, &x, 2);
        let once = decoded(&sq, &codes(&sq, &x, 1), 9);
        let twice = decoded(&sq, &codes(&sq, &once, 1), 9);
        assert_eq!(once, twice, "{pairs:?}");
    }
}

#[test]
fn a_loaded_model_gives_the_same_codes_and_rows_and_damage_is_refused() {
    let x = gaussian(300, 10, 5);
    for pairs in configurations() {
        let sq = fitted(&pairs, &x, 2);
        let model = sq.save().unwrap();
        let mut restored = create(&pairs, 10).unwrap();
        restored.load(&model).unwrap();
        let codes = codes(&sq, &x, 1);
        assert_eq!(codes, self::codes(&restored, &x, 1));
        assert_eq!(decoded(&sq, &codes, 10), decoded(&restored, &codes, 10));
        assert!(restored.load(&model[..model.len() - 1]).is_err());
        assert!(restored.load(&[model.as_slice(), &[0]].concat()).is_err());
    }
    let global = fitted(&[("range", "global".into())], &x, 1);
    assert_eq!(global.model_bytes(), Some(24));
}

#[test]
fn finite_rows_stay_finite_whatever_the_training_rows() {
    let edges = [f32::MAX, f32::MIN, 1e-45, 0.0, -1e30, 1e30, 1e-38, 3.0];
    let huge = Array2::from_shape_fn((16, 5), |(i, j)| edges[(i * 3 + j) % 8]);
    let trains = [
        huge.clone(),
        gaussian(1, 5, 6),
        Array2::zeros((3, 5)),
        Array2::from_elem((40, 5), 1e38),
        Array2::from_elem((2, 5), f32::NAN),
        Array2::from_shape_fn((50, 5), |(i, j)| if i == 7 { 1e20 } else { (j * i % 3) as f32 }),
        Array2::from_shape_fn((50, 5), |(i, _)| if i % 2 == 0 { 1e-44 } else { 0.0 }),
    ];
    for pairs in configurations() {
        for train in &trains {
            let sq = fitted(&pairs, train, 2);
            for x in [&huge, train] {
                let back = decoded(&sq, &codes(&sq, x, 1), 5);
                assert!(back.iter().all(|x| x.is_finite()), "{pairs:?}\n{train}");
            }
        }
    }
}

#[test]
fn a_constant_dimension_comes_back_exactly() {
    let mut x = gaussian(200, 3, 7);
    x.index_axis_mut(Axis(1), 1).fill(0.1);
    for pairs in configurations().into_iter().filter(|p| p[1].1 == Value::from("dimension")) {
        let sq = fitted(&pairs, &x, 1);
        let back = decoded(&sq, &codes(&sq, &x, 1), 3);
        assert!(back.column(1).iter().all(|x| *x == 0.1), "{pairs:?}");
    }
}

#[test]
fn few_distinct_values_are_kept_exactly_by_free_levels() {
    let x = Array2::from_shape_fn((500, 2), |(i, j)| ((i * i + j) % 13) as f32 * 100.0);
    let sq = fitted(&[("bits", Value::Int(4)), ("levels", "lloyd_max".into())], &x, 1);
    assert_eq!(decoded(&sq, &codes(&sq, &x, 1), 2), x);
}

#[test]
fn trim_leaves_outliers_outside_the_range() {
    let mut x = gaussian(1000, 2, 8);
    x[[17, 0]] = 1e6;
    x[[18, 0]] = -1e6;
    let error = |trim: f64| {
        let sq = fitted(&[("bits", Value::Int(4)), ("trim", trim.into())], &x, 1);
        let back = decoded(&sq, &codes(&sq, &x, 1), 2);
        f64::from((x[[0, 0]] - back[[0, 0]]).abs())
    };
    assert!(error(0.0) > 1000.0);
    assert!(error(0.01) < 0.5);
}

#[test]
fn impossible_combinations_say_which_parameter_and_why() {
    let reason = |pairs: &[(&str, Value)]| create(pairs, 8).err().unwrap().to_string();
    let free = ("levels", Value::from("lloyd_max"));
    assert!(reason(&[free.clone(), ("bits", Value::Int(9))]).starts_with("bits: 9 is more than"));
    assert!(reason(&[free.clone(), ("fit", "mse".into())]).starts_with("fit: mse concerns"));
    assert!(reason(&[free, ("trim", 0.1.into())]).starts_with("trim: levels of least"));
    assert!(fitted_on_nothing().to_string().contains("no training rows"));
}

fn fitted_on_nothing() -> Error {
    let mut sq = create(&[], 4).unwrap();
    sq.fit(Array2::zeros((0, 4)).view(), &Context::detached(1, 1)).unwrap_err()
}

#[test]
fn a_wanted_rate_is_met_by_whole_bits() {
    for d in [100, 128, 384] {
        for bits in 1..=16_i64 {
            let axes = Sq::rate_axes(Space { dim: d, metric: Metric::L2 }, bits as f64);
            assert_eq!(axes, [("bits", vec![Value::Int(bits)])]);
        }
    }
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_sq::plugin()).assert_clean();
}
