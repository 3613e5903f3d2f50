//! What is known of PCA and of truncated rows, and the law for every plugin.

use ndarray::{Array2, Axis, Slice, arr2};
use vq_blocks::rotated::testing::{
    Mean, codes, decoded, degenerate, error_of, estimates, fitted, gaussian, proposals,
};
use vq_blocks::rotated::{Basis, Centring, Frame, Scalars};
use vq_kernels::distance::{dot, l2_sq, norm_sq};
use vq_kernels::rotation::Rotation;
use vq_pca::{Kept, Pca, PcaParams, Tail};
use vq_plugin_api::{Context, Metric, Quantizer, Space};

const PLAIN: PcaParams = PcaParams {
    rate: 0.0,
    kept: 8,
    basis: Kept::Pca,
    tail: Tail::None,
    center: Centring::Mean,
    scalars: Scalars::F32,
};

/// Rows whose principal directions have the deviations 1, 0.9, 0.9², …, turned and moved off the origin.
fn rows(n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut x = gaussian(n, d, seed);
    for (t, mut column) in x.columns_mut().into_iter().enumerate() {
        column *= 0.9_f32.powi(t as i32);
    }
    let mut turned = Array2::zeros(x.dim());
    Rotation::dense(d, 99).apply(x.view(), turned.view_mut());
    turned + 0.5
}

fn units(mut x: Array2<f32>) -> Array2<f32> {
    for mut row in x.outer_iter_mut() {
        let norm = norm_sq(&row.to_vec()).sqrt() as f32;
        row /= norm;
    }
    x
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_pca::plugin()).assert_clean();
}

/// The error on its training rows is Σλ over the directions left out, exactly but for f32; relative to Σλ in f16 what f16
/// rounds of each coordinate, 2^−11 at most.
#[test]
fn the_error_on_training_rows_is_the_variance_left_out() {
    let x = rows(700, 24, 1);
    let centre = Frame::centre_of(x.view(), Centring::Mean).unwrap();
    let (variances, _) = Basis::principal(&centre, x.view());
    let all = variances.iter().sum::<f64>();
    let mean = x.mean_axis(Axis(0)).unwrap();
    let spread = l2_sq(x.as_slice().unwrap(), (Array2::zeros(x.dim()) + mean).as_slice().unwrap());
    for (scalars, rounded) in [(Scalars::F32, 1e-6), (Scalars::F16, 0.5_f64.powi(22))] {
        for kept in [1, 5, 23, 24] {
            let params = PcaParams { kept, scalars, ..PLAIN };
            let made: Pca = fitted(params, Metric::L2, &x, 1);
            let back = decoded(&made, &codes(&made, x.view()), 24);
            let left = l2_sq(x.as_slice().unwrap(), back.as_slice().unwrap()) / spread;
            let expected = variances[kept..].iter().sum::<f64>() / all;
            assert!(
                (left - expected).abs() < 1e-5 * expected + rounded,
                "{kept}: {left} {expected}"
            );
        }
    }
}

/// No other subspace leaves less: the first coordinates leave their share, which is more.
#[test]
fn principal_directions_leave_less_than_the_first_coordinates() {
    let x = rows(700, 24, 1);
    let [pca, natural] = [Kept::Pca, Kept::Natural]
        .map(|basis| error_of::<Pca>(PcaParams { basis, ..PLAIN }, &x).value);
    assert!(pca < 0.3 * natural, "{pca} {natural}");
}

/// Without the norm distances are low by the tail of the rows; with it they are right in the mean.
#[test]
fn the_norm_of_the_tail_takes_the_bias_of_distances() {
    let (x, queries) = (rows(500, 24, 1), rows(480, 24, 2));
    for scalars in [Scalars::F32, Scalars::F16] {
        let off = |tail, metric| {
            let params = PcaParams { tail, scalars, ..PLAIN };
            let made: Pca = fitted(params, metric, &x, 1);
            let found = estimates(&made, queries.view(), &codes(&made, x.view())).0;
            let part = |rows: ndarray::ArrayView2<'_, f32>, found: ndarray::ArrayView2<'_, f32>| {
                let one = |((q, i), e): ((usize, usize), &f32)| {
                    f64::from(*e)
                        - l2_sq(rows.row(q).to_slice().unwrap(), x.row(i).to_slice().unwrap())
                };
                found.indexed_iter().map(one).sum::<f64>() / found.len() as f64
            };
            let parts =
                queries.axis_chunks_iter(Axis(0), 20).zip(found.axis_chunks_iter(Axis(0), 20));
            Mean::of(&parts.map(|(rows, found)| part(rows, found)).collect::<Vec<_>>())
        };
        let (without, with) = (off(Tail::None, Metric::L2), off(Tail::Norm, Metric::L2));
        // What is left is the rounding of t, 2^−11 of it at most in f16.
        let limit = 0.5_f64.powi(10) * without.value.abs() + 4.5 * with.error;
        assert!(with.value.abs() < limit && without.value < -0.1, "{with:?} {without:?}");
    }
}

/// Truncated and renormalised, an estimate is the cosine of the query with the kept part of the row.
#[test]
fn truncated_rows_are_of_unit_length_under_cosine() {
    let x = units(rows(300, 24, 1));
    let params = PcaParams { basis: Kept::Natural, center: Centring::None, ..PLAIN };
    let made: Pca = fitted(params, Metric::Cosine, &x, 1);
    let found = codes(&made, x.view());
    let back = decoded(&made, &found, 24);
    let queries = x.slice_axis(Axis(0), Slice::from(..9));
    let estimates = estimates(&made, queries, &found).0;
    for (i, (x, back)) in x.outer_iter().zip(back.outer_iter()).enumerate() {
        let (kept, back) = (x.to_vec()[..8].to_vec(), back.to_vec());
        assert!((norm_sq(&back) - 1.0).abs() < 1e-6 && back[8..].iter().all(|x| *x == 0.0));
        for (q, estimates) in queries.outer_iter().zip(estimates.outer_iter()) {
            let exact = dot(&q.to_vec()[..8], &kept) / norm_sq(&kept).sqrt();
            assert!((f64::from(estimates[i]) - exact).abs() < 1e-5);
        }
    }
}

#[test]
fn with_all_coordinates_nothing_is_lost() {
    for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
        let mut x = units(rows(100, 13, 1));
        x.row_mut(3).fill(0.0);
        for basis in [Kept::Pca, Kept::Natural] {
            for tail in [Tail::None, Tail::Norm] {
                let params = PcaParams { kept: 99, basis, tail, ..PLAIN };
                let made: Pca = fitted(params, metric, &x, 1);
                let found = codes(&made, x.view());
                let back = decoded(&made, &found, 13);
                assert!(
                    (&back - &x).iter().all(|off| off.abs() < 1e-5),
                    "{metric:?} {basis:?} {tail:?}"
                );
                for ((q, i), estimate) in estimates(&made, x.view(), &found).0.indexed_iter() {
                    let (q, x) = (x.row(q).to_vec(), x.row(i).to_vec());
                    let exact = if metric == Metric::L2 { l2_sq(&q, &x) } else { dot(&q, &x) };
                    assert!((f64::from(*estimate) - exact).abs() < 1e-5, "{metric:?} {estimate}");
                }
            }
        }
    }
}

#[test]
fn a_rate_is_a_budget_and_recommends_one_configuration() {
    for (dim, rate, tail, bytes) in [
        (100, 1.0, Tail::Norm, 12),
        (100, 1.0, Tail::None, 12),
        (384, 2.0, Tail::Norm, 96),
        (7, 8.0, Tail::Norm, 6),
    ] {
        let params = PcaParams { rate, tail, scalars: Scalars::F16, ..PLAIN };
        let made = Pca::create(params, Space { dim, metric: Metric::L2 });
        if bytes < 7 {
            assert_eq!(
                made.err().unwrap().to_string(),
                "rate: 6 bytes fill less than 95 % of the 7 bytes of 8 bits/dim at d = 7"
            );
        } else {
            assert_eq!(made.unwrap().code_bytes(), bytes);
            assert_eq!(proposals::<Pca>(dim, Some(rate)), [format!("rate={rate}")]);
        }
    }
    assert_eq!(
        proposals::<Pca>(15, Some(1.0)),
        ["skipped: rate: no coordinate fits the 1 bytes of 1 bits/dim at d = 15"]
    );
    assert_eq!(
        proposals::<Pca>(100, Some(20.0)),
        ["skipped: rate: 200 bytes fill less than 95 % of the 250 bytes of 20 bits/dim at d = 100"]
    );
    assert_eq!(proposals::<Pca>(128, None), ["rate=1", "rate=2", "rate=4", "rate=8"]);
}

#[test]
fn batches_change_nothing_and_a_loaded_model_is_the_saved_one() {
    let x = rows(700, 13, 2);
    for basis in [Kept::Pca, Kept::Natural] {
        let params = PcaParams { basis, tail: Tail::Norm, scalars: Scalars::F16, ..PLAIN };
        let made: Pca = fitted(params.clone(), Metric::L2, &x, 5);
        let all = codes(&made, x.view());
        for n in [1, 7, 129] {
            let last = Slice::from(-n..);
            assert_eq!(codes(&made, x.slice_axis(Axis(0), last)), all.slice_axis(Axis(0), last));
        }
        let space = Space { dim: 13, metric: Metric::L2 };
        let mut again = Pca::create(params.clone(), space).unwrap();
        again.fit(x.view(), &Context::detached(3, 5)).unwrap();
        assert_eq!(codes(&again, x.view()), all);
        let mut loaded = Pca::create(params, space).unwrap();
        let model = made.save().unwrap();
        loaded.load(&model).unwrap();
        assert_eq!(decoded(&loaded, &all, 13), decoded(&made, &all, 13));
        let queries = x.slice_axis(Axis(0), Slice::from(..9));
        assert_eq!(estimates(&loaded, queries, &all), estimates(&made, queries, &all));
        assert!(loaded.load(&model[..model.len() - 1]).is_err());
    }
}

#[test]
fn degenerate_rows_are_coded() {
    for x in degenerate() {
        for (basis, tail) in [(Kept::Pca, Tail::Norm), (Kept::Natural, Tail::None)] {
            let params = PcaParams { kept: 11, basis, tail, scalars: Scalars::F16, ..PLAIN };
            let made: Pca = fitted(params, Metric::L2, &x, 1);
            let back = decoded(&made, &codes(&made, x.view()), 12);
            let mean = x.mean_axis(Axis(0)).unwrap();
            let sum = |a: &Array2<f32>, b: &Array2<f32>| {
                l2_sq(a.as_slice().unwrap(), b.as_slice().unwrap())
            };
            let spread = sum(&x, &(Array2::zeros(x.dim()) + mean));
            let rounding = 1e-11 * norm_sq(x.as_slice().unwrap());
            assert!(sum(&x, &back) <= 0.2 * spread + rounding, "{}", x[[0, 0]]);
            let odd = arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
            let back = decoded(&made, &codes(&made, odd.view()), 12);
            assert!(back.iter().all(|x| x.is_finite()));
        }
    }
}
