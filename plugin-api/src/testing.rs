//! What tests of a method share: helpers that ask it through its C table, as the host asks it, and
//! promises that every trained codebook method can be held to.
//!
//! ```ignore
//! use vq_plugin_api::testing::Subject;
//!
//! #[test]
//! fn training_stops_when_asked_to() {
//!     Subject::of(my_method::plugin()).training_stops_when_asked_to(&[("m", 4)]);
//! }
//! ```
//!
//! What holds for any method at all is [`conformance`](crate::conformance).

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and speak to whoever runs them, as tests do"
)]

use crate::abi::VqPlugin;
use crate::conformance::cell;
use crate::handle::{Caller, Instance, Method, Plugin, Proposal};
use crate::params::Config;
use crate::{ErrorKind, GridRequest, Metric, Space, Value};
use ndarray::{Array2, ArrayView2, Axis, Slice};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Parameters of whole numbers.
pub type Params<'a> = &'a [(&'a str, i64)];

/// Says that a test is skipped, and why: a test that passes without having tested must not look like
/// one that has.
pub fn skipped(why: &str) {
    println!("skipped: {why}");
}

/// `params` as a configuration.
pub fn config(params: Params<'_>) -> Config {
    params.iter().map(|(name, value)| ((*name).to_owned(), Value::Int(*value))).collect()
}

/// Runs `body` with what is lent to calls: so many threads and this seed.
pub fn calling<R>(threads: usize, seed: u64, body: impl FnOnce(&Caller<'_>) -> R) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    body(&Caller { threads, seed, log: &|_, _| (), progress: &|_, _| true, pool: &pool })
}

/// `n` rows (n, d) of independent standard normal numbers.
pub fn gaussian(n: usize, d: usize, seed: u64) -> Array2<f32> {
    cell::gaussian(n, Space { dim: d, metric: Metric::L2 }, seed)
}

/// Σ (a − b)², in f64.
pub fn l2_sq(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// The codes (n, code_bytes) of `x` (n, d).
pub fn encode(made: &Instance, x: ArrayView2<'_, f32>, caller: &Caller<'_>) -> Array2<u8> {
    let mut codes = vec![0; x.nrows() * made.code_bytes()];
    made.compress(x, made.code_bytes(), caller, &mut codes).unwrap();
    Array2::from_shape_vec((x.nrows(), made.code_bytes()), codes).unwrap()
}

/// The rows (n, d) that `codes` decode to.
pub fn decode(made: &Instance, codes: &Array2<u8>, caller: &Caller<'_>) -> Array2<f32> {
    let mut x = vec![0.0; codes.nrows() * made.space().dim];
    made.decompress(codes.view(), caller, &mut x).unwrap();
    Array2::from_shape_vec((codes.nrows(), made.space().dim), x).unwrap()
}

/// The scorer's estimates (q, n) of all pairs.
pub fn score(
    made: &Instance,
    queries: ArrayView2<'_, f32>,
    codes: &Array2<u8>,
    caller: &Caller<'_>,
) -> Array2<f32> {
    let (scorer, n) = (made.scorer().unwrap(), codes.nrows());
    let mut packed = vec![0; scorer.packed_bytes(n).unwrap()];
    scorer.pack(codes.view(), caller, &mut packed).unwrap();
    let mut estimates = vec![0.0; queries.nrows() * n];
    scorer.score(queries, &packed, n, caller, &mut estimates, None).unwrap();
    Array2::from_shape_vec((queries.nrows(), n), estimates).unwrap()
}

fn first(rows: &Array2<f32>, n: usize) -> ArrayView2<'_, f32> {
    rows.slice_axis(Axis(0), Slice::from(..n))
}

/// The first method of a plugin that is linked into the test.
#[derive(Debug)]
pub struct Subject(Method);

impl Subject {
    /// The first method of `plugin`.
    pub fn of(plugin: &'static VqPlugin) -> Self {
        Subject(Plugin::linked(plugin).unwrap().methods()[0].clone())
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.0
    }

    /// An instance that learned from `x` (n, d).
    pub fn fitted(
        &self,
        params: Params<'_>,
        metric: Metric,
        x: &Array2<f32>,
        caller: &Caller<'_>,
    ) -> Instance {
        let space = Space { dim: x.ncols(), metric };
        let mut made = self.0.create(&config(params), space).unwrap();
        made.fit(x.view(), caller).unwrap();
        made
    }

    /// What the grid generator answers in the order of its answers: `label: code_bytes`, or the
    /// reason of a skip.
    pub fn proposals(
        &self,
        dim: usize,
        bits_per_dim: Option<f64>,
        axes: &[(&str, &[i64])],
    ) -> Vec<String> {
        let axis = |values: &[i64]| values.iter().map(|v| Value::Int(*v)).collect();
        let axes = axes.iter().map(|(name, values)| ((*name).to_owned(), axis(values))).collect();
        let space = Space { dim, metric: Metric::L2 };
        let proposals = self.0.expand(&GridRequest { space, bits_per_dim, axes }).unwrap();
        let told = proposals.into_iter().map(|proposal| match proposal {
            Proposal::Emit { label, code_bytes, .. } => format!("{label}: {}", code_bytes.unwrap()),
            Proposal::Skip { reason, .. } => reason,
        });
        told.collect()
    }

    /// Codes are the same on one thread and two and in calls of a few rows, and others with another
    /// seed.
    pub fn threads_and_batches_change_nothing_and_seeds_do(&self, configs: &[Params<'_>]) {
        let x = gaussian(1500, 12, 1);
        for params in configs {
            let codes = |threads, seed| {
                calling(threads, seed, |caller| {
                    encode(&self.fitted(params, Metric::L2, &x, caller), x.view(), caller)
                })
            };
            let one = codes(1, 5);
            assert_eq!(one, codes(2, 5), "{params:?}");
            assert_ne!(one, codes(2, 6), "{params:?}");
            calling(2, 5, |caller| {
                let made = self.fitted(params, Metric::L2, &x, caller);
                for rows in [1, 7, 129] {
                    let last = Slice::from(-rows..);
                    let some = x.slice_axis(Axis(0), last);
                    let expected = one.slice_axis(Axis(0), last);
                    assert_eq!(encode(&made, some, caller), expected, "{params:?}");
                }
            });
        }
    }

    /// After `load` codes, rows and estimates are those of the instance that was saved, and so is the
    /// model; a shorter one is refused.
    pub fn a_loaded_model_encodes_decodes_and_scores_like_the_saved_one(
        &self,
        configs: &[Params<'_>],
    ) {
        let x = gaussian(700, 12, 2) + 3.0;
        calling(2, 1, |caller| {
            for params in configs {
                let made = self.fitted(params, Metric::L2, &x, caller);
                let model = made.save().unwrap().unwrap();
                let mut loaded = self.0.create(&config(params), made.space()).unwrap();
                loaded.load(&model).unwrap();
                let codes = encode(&made, x.view(), caller);
                assert_eq!(codes, encode(&loaded, x.view(), caller));
                assert_eq!(decode(&made, &codes, caller), decode(&loaded, &codes, caller));
                let scored = [&made, &loaded].map(|of| score(of, first(&x, 40), &codes, caller));
                assert_eq!(scored[0], scored[1]);
                assert_eq!(model, loaded.save().unwrap().unwrap());
                assert!(loaded.load(&model[..model.len() - 1]).is_err());
            }
        });
    }

    /// Constant, tiny, huge and few rows are encoded with an error below their spread; rows unlike
    /// any in training decode to finite ones.
    pub fn degenerate_rows_give_finite_ones(&self, configs: &[Params<'_>]) {
        let plain = gaussian(400, 12, 3);
        let mut constant = plain.clone();
        constant.column_mut(4).fill(7.0);
        let rows = [
            first(&plain, 1).to_owned(),
            constant,
            Array2::zeros((400, 12)),
            Array2::from_elem((400, 12), -3.5e37),
            plain.mapv(|x| x * 1e30),
            plain.mapv(|x| (x * 1e38).clamp(f32::MIN, f32::MAX)),
            plain.mapv(|x| x * 1e-30),
            plain.mapv(|x| 1e6 + x),
        ];
        calling(2, 1, |caller| {
            for (params, x) in configs.iter().flat_map(|of| rows.iter().map(move |x| (of, x))) {
                let made = self.fitted(params, Metric::L2, x, caller);
                let codes = encode(&made, x.view(), caller);
                let back = decode(&made, &codes, caller);
                assert!(back.iter().all(|x| x.is_finite()), "{params:?}");
                let mean = (x / x.nrows() as f32).sum_axis(Axis(0));
                let spread = l2_sq(x, &(Array2::zeros(x.dim()) + mean));
                let rounding = 1e-12 * x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
                let error = l2_sq(x, &back);
                assert!(error <= 0.7 * spread + rounding, "{params:?} {}", x[[0, 0]]);
                // Rows unlike any in training: any code, no panic.
                let odd = ndarray::arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
                let back = decode(&made, &encode(&made, odd.view(), caller), caller);
                assert!(back.iter().all(|x| x.is_finite()), "{params:?}");
            }
        });
    }

    /// Estimates are the exact values for the decoded rows, up to rounding, for L2 and Ip.
    pub fn estimates_are_the_values_of_the_decoded_rows(&self, configs: &[Params<'_>]) {
        let x = gaussian(600, 12, 4) + 2.0;
        let metrics = [Metric::L2, Metric::Ip];
        calling(2, 1, |caller| {
            for (params, metric) in configs.iter().flat_map(|of| metrics.map(|metric| (of, metric)))
            {
                let made = self.fitted(params, metric, &x, caller);
                let codes = encode(&made, x.view(), caller);
                let back = decode(&made, &codes, caller);
                let estimates = score(&made, first(&x, 5), &codes, caller);
                for ((q, i), estimate) in estimates.indexed_iter() {
                    let pairs = x.row(q).into_iter().zip(back.row(i));
                    let pairs = pairs.map(|(q, x)| (f64::from(*q), f64::from(*x)));
                    let exact: f64 = match metric {
                        Metric::L2 => pairs.map(|(q, x)| (q - x).powi(2)).sum(),
                        Metric::Ip | Metric::Cosine => pairs.map(|(q, x)| q * x).sum(),
                    };
                    assert!((exact - f64::from(*estimate)).abs() < 2e-4, "{exact} {estimate}");
                }
            }
        });
    }

    /// `fit` reports progress and stops at the first report that is answered by a stop.
    pub fn training_stops_when_asked_to(&self, params: Params<'_>) {
        let x = gaussian(3000, 12, 5);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let calls = AtomicUsize::new(0);
        let progress = |fraction: f32, _: &str| {
            assert!((0.0..=1.0).contains(&fraction));
            calls.fetch_add(1, Ordering::Relaxed) < 20
        };
        let log = &|_, _: &str| ();
        let caller = Caller { threads: 2, seed: 1, log, progress: &progress, pool: &pool };
        let space = Space { dim: 12, metric: Metric::L2 };
        let mut made = self.0.create(&config(params), space).unwrap();
        let error = made.fit(x.view(), &caller).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::Cancelled));
        assert_eq!(calls.into_inner(), 21);
    }
}
