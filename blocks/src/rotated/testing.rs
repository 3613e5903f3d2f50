//! What the tests of methods over rotated rows share: their rows, codes and estimates, and the numbers that
//! papers state of them.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use ndarray::{Array2, ArrayView2, Axis, Slice};
use vq_kernels::Draw;
use vq_kernels::distance::{dot, l2_sq, norm_sq};
use vq_plugin_api::{Context, GridRequest, GridSink, Metric, Quantizer, Scorer, Space};

/// Independent standard normal numbers (n, d).
#[must_use]
pub fn gaussian(n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut draw = Draw::new(seed);
    Array2::from_shape_simple_fn((n, d), || draw.normal() as f32)
}

/// A method that learned from `x` (n, d) with `seed`, which draws its rotation.
#[must_use]
pub fn fitted<Q: Quantizer>(params: Q::Params, metric: Metric, x: &Array2<f32>, seed: u64) -> Q {
    let mut made = Q::create(params, Space { dim: x.ncols(), metric }).unwrap();
    made.fit(x.view(), &Context::detached(1, seed)).unwrap();
    made
}

/// Codes (n, code_bytes) of `x` (n, d).
#[must_use]
pub fn codes<Q: Quantizer>(made: &Q, x: ArrayView2<'_, f32>) -> Array2<u8> {
    let mut codes = Array2::zeros((x.nrows(), made.code_bytes()));
    made.compress(x, codes.view_mut(), &Context::detached(1, 0)).unwrap();
    codes
}

/// What `codes` decode to (n, d).
#[must_use]
pub fn decoded<Q: Quantizer>(made: &Q, codes: &Array2<u8>, dim: usize) -> Array2<f32> {
    let mut x = Array2::zeros((codes.nrows(), dim));
    made.decompress(codes.view(), x.view_mut(), &Context::detached(1, 0)).unwrap();
    x
}

/// Estimates and bounds (queries, n); the bounds are 0 where there are none.
#[must_use]
pub fn estimates<Q: Scorer>(
    made: &Q,
    queries: ArrayView2<'_, f32>,
    codes: &Array2<u8>,
) -> (Array2<f32>, Array2<f32>) {
    let (ctx, n) = (Context::detached(1, 0), codes.nrows());
    let mut packed = Array2::zeros((n, made.packed_bytes()));
    made.pack(codes.view(), packed.view_mut(), &ctx).unwrap();
    let mut found = (Array2::zeros((queries.nrows(), n)), Array2::zeros((queries.nrows(), n)));
    let rows = found.0.outer_iter_mut().zip(found.1.outer_iter_mut());
    for (q, (estimates, bounds)) in queries.outer_iter().zip(rows) {
        let query = made.query(q, &ctx).unwrap();
        let bounds = Q::BOUNDS.then(|| bounds.into_slice().unwrap());
        made.score(&query, packed.view(), estimates.into_slice().unwrap(), bounds).unwrap();
    }
    found
}

/// That any batch of rows has the same codes, another seed has others, and a loaded model encodes,
/// decodes and estimates as the saved one does; one that is cut is refused.
pub fn batches_seeds_and_models<Q: Scorer>(params: Q::Params)
where
    Q::Params: Clone,
{
    let x = gaussian(700, 13, 2) + 3.0;
    let made: Q = fitted(params.clone(), Metric::L2, &x, 5);
    let all = codes(&made, x.view());
    for rows in [1, 7, 129] {
        let last = Slice::from(-rows..);
        let some = codes(&made, x.slice_axis(Axis(0), last));
        assert_eq!(some, all.slice_axis(Axis(0), last));
    }
    let other: Q = fitted(params.clone(), Metric::L2, &x, 6);
    assert_ne!(codes(&other, x.view()), all);
    let mut loaded = Q::create(params, Space { dim: 13, metric: Metric::L2 }).unwrap();
    let model = made.save().unwrap();
    loaded.load(&model).unwrap();
    assert_eq!(codes(&loaded, x.view()), all);
    assert_eq!(decoded(&loaded, &all, 13), decoded(&made, &all, 13));
    let queries = x.slice_axis(Axis(0), Slice::from(..9));
    assert_eq!(estimates(&loaded, queries, &all), estimates(&made, queries, &all));
    assert!(loaded.load(&model[..model.len() - 1]).is_err());
}

/// Data (n, 12) to train on that is hardly data: one row, a constant dimension, zeros, one row many
/// times, huge, tiny and far from the origin.
#[must_use]
pub fn degenerate() -> [Array2<f32>; 7] {
    let plain = gaussian(300, 12, 3);
    let mut constant = plain.clone();
    constant.column_mut(4).fill(7.0);
    [
        plain.slice_axis(Axis(0), Slice::from(..1)).to_owned(),
        constant,
        Array2::zeros((40, 12)),
        Array2::from_elem((40, 12), -3.5e37),
        plain.mapv(|x| x * 1e30),
        plain.mapv(|x| x * 1e-30),
        plain.mapv(|x| 1e6 + x),
    ]
}

/// ‖x − x̂‖²/‖x‖² over the rows.
#[must_use]
pub fn error(x: &Array2<f32>, back: &Array2<f32>) -> Mean {
    let one = |(x, back): (ndarray::ArrayView1<'_, f32>, ndarray::ArrayView1<'_, f32>)| {
        l2_sq(x.to_slice().unwrap(), back.to_slice().unwrap()) / norm_sq(x.to_slice().unwrap())
    };
    Mean::of(&x.outer_iter().zip(back.outer_iter()).map(one).collect::<Vec<_>>())
}

/// The same of a method's own codes, fitted to the rows.
#[must_use]
pub fn error_of<Q: Quantizer>(params: Q::Params, x: &Array2<f32>) -> Mean {
    let made: Q = fitted(params, Metric::L2, x, 3);
    error(x, &decoded(&made, &codes(&made, x.view()), x.ncols()))
}

/// A mean and its standard error.
#[derive(Clone, Copy, Debug)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

impl Mean {
    /// Of independent numbers, two at least.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let spread = values.iter().map(|x| (x - value).powi(2)).sum::<f64>() / (n - 1.0);
        Mean { value, error: (spread / n).sqrt() }
    }

    /// Whether `expected` is within 4.5 standard errors, and a part `more` of it.
    #[must_use]
    pub fn is(&self, expected: f64, more: f64) -> bool {
        (self.value - expected).abs() < 4.5 * self.error + more * expected.abs()
    }

    /// The mean with the standard error of that of `n` rows instead of its own `of`.
    #[must_use]
    pub fn of_rows(self, n: usize, of: usize) -> Self {
        Mean { error: self.error * (of as f64 / n as f64).sqrt(), ..self }
    }
}

/// How estimates ⟨q, x⟩ of unit rows and unit queries behave, one number for each rotation.
#[derive(Debug)]
pub struct Products {
    /// Slope of the estimates on the true values, which spread over −1 to 1.
    pub slope: Mean,
    /// Mean of estimate − true value.
    pub bias: Mean,
    /// d times the mean square of the error where the true value t is near 0, for 1 − t².
    pub variance: Mean,
}

/// Products of estimates of methods `made(seed)`, fitted to the rows that they are given, for 24 seeds.
pub fn products<Q: Scorer>(dim: usize, made: impl Fn(&Array2<f32>, u64) -> Q) -> Products {
    const ROTATIONS: u64 = 24;
    let unit = |mut x: Array2<f32>| {
        for mut row in x.outer_iter_mut() {
            let norm = norm_sq(row.as_slice().unwrap()).sqrt() as f32;
            row /= norm;
        }
        x
    };
    let x = unit(gaussian(48, dim, 1));
    // Query i has the cosine ±0.9 or 0 with row i, and nearly 0 with all others.
    let noise = gaussian(48, dim, 2);
    let mut queries = Array2::zeros(x.dim());
    for (i, ((x, noise), mut q)) in
        x.outer_iter().zip(noise.outer_iter()).zip(queries.outer_iter_mut()).enumerate()
    {
        let along = dot(x.to_slice().unwrap(), noise.to_slice().unwrap());
        let across: Vec<f64> = noise
            .iter()
            .zip(x)
            .map(|(noise, x)| f64::from(*noise) - along * f64::from(*x))
            .collect();
        let length = across.iter().map(|a| a * a).sum::<f64>().sqrt();
        let cosine = [0.9, -0.9, 0.0][i % 3];
        let rest = (1.0_f64 - cosine * cosine).sqrt() / length;
        for ((q, x), across) in q.iter_mut().zip(x).zip(&across) {
            *q = (cosine * f64::from(*x) + rest * across) as f32;
        }
    }
    let (mut slopes, mut biases, mut variances) = (vec![], vec![], vec![]);
    for seed in 0..ROTATIONS {
        let made = made(&x, seed);
        let (found, _) = estimates(&made, queries.view(), &codes(&made, x.view()));
        let (mut tt, mut te, mut bias, mut square) = (0.0, 0.0, 0.0, (0.0, 0.0));
        for ((q, i), e) in found.indexed_iter() {
            let e = f64::from(*e);
            let t = dot(queries.row(q).to_slice().unwrap(), x.row(i).to_slice().unwrap());
            (tt, te, bias) = (tt + t * t, te + t * e, bias + e - t);
            if t.abs() < 0.3 {
                square = (square.0 + 1.0 - t * t, square.1 + dim as f64 * (e - t).powi(2));
            }
        }
        slopes.push(te / tt);
        biases.push(bias / found.len() as f64);
        variances.push(square.1 / square.0);
    }
    Products { slope: Mean::of(&slopes), bias: Mean::of(&biases), variance: Mean::of(&variances) }
}

/// What a grid generator answers: `label: code_bytes`, or the reason of a skip.
#[must_use]
pub fn proposals<Q: Quantizer>(dim: usize, bits_per_dim: Option<f64>) -> Vec<String> {
    struct Told(Vec<String>);
    impl GridSink for Told {
        fn emit(&mut self, _: &vq_plugin_api::params::Config, label: &str) -> bool {
            self.0.push(label.to_owned());
            true
        }
        fn skip(&mut self, _: &vq_plugin_api::params::Config, reason: &str) {
            self.0.push(format!("skipped: {reason}"));
        }
    }
    let space = Space { dim, metric: Metric::L2 };
    let mut told = Told(Vec::new());
    let request = GridRequest { space, bits_per_dim, axes: Default::default() };
    Q::expand_grid(&request, &mut told).unwrap();
    told.0
}
