//! What the paper claims of RaBitQ, and the law for every plugin.

use vq_kernels::Draw;
use vq_kernels::distance::l2_sq;
use vq_plugin_api::ndarray::Array2;
use vq_plugin_api::{Context, Metric, Quantizer, Scorer, Space, conformance};
use vq_rabitq1::{Rabitq, RabitqParams};

const D: usize = 128;
const N: usize = 400;

fn rows(seed: u64, n: usize) -> Array2<f32> {
    let mut draw = Draw::new(seed);
    Array2::from_shape_simple_fn((n, D), || 2.0 + draw.normal() as f32)
}

fn fitted(x: &Array2<f32>, seed: u64) -> (Rabitq, Context<'static>) {
    let space = Space { dim: D, metric: Metric::L2 };
    let ctx = Context::detached(1, seed);
    let mut rabitq = Rabitq::create(RabitqParams { epsilon: 1.9 }, space).unwrap();
    rabitq.fit(x.view(), &ctx).unwrap();
    (rabitq, ctx)
}

fn codes(rabitq: &Rabitq, x: &Array2<f32>, ctx: &Context) -> Array2<u8> {
    let mut codes = Array2::zeros((x.nrows(), rabitq.code_bytes()));
    rabitq.compress(x.view(), codes.view_mut(), ctx).unwrap();
    codes
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    conformance::check(vq_rabitq1::plugin()).assert_clean();
}

/// The decoded row is nearest among multiples of o̅: its squared error is 1 − ⟨o̅, o⟩², whose mean at
/// d = 128 is 0.3605 ± 2 % (E⟨o̅, o⟩ = √d·Γ(d/2)/(√π·Γ((d+1)/2)) = 0.79944, Lemma B.3).
#[test]
fn one_bit_leaves_the_error_of_the_paper() {
    let x = rows(1, N);
    let (rabitq, ctx) = fitted(&x, 3);
    let mut back = Array2::zeros(x.raw_dim());
    rabitq.decompress(codes(&rabitq, &x, &ctx).view(), back.view_mut(), &ctx).unwrap();
    let spread = N as f64 * D as f64;
    let error = l2_sq(x.as_slice().unwrap(), back.as_slice().unwrap()) / spread;
    assert!((error / 0.3605 - 1.0).abs() < 0.02, "{error}");
}

/// Unbiased (eq. 12) and within ±ε₀ standard deviations as often as a normal number is: 0.943 at ε₀ = 1.9
/// for rows and queries that are nearly orthogonal (eq. 16). Over 30 rotations, with tolerances of four
/// standard errors of 30·400 and of 30·400·5 pairs.
#[test]
fn estimates_are_unbiased_and_the_bound_holds_as_often_as_claimed() {
    let (x, queries) = (rows(1, N), rows(2, 5));
    let (mut bias, mut within, mut spread) = (0.0, 0.0, 0.0);
    for seed in 0..30 {
        let (rabitq, ctx) = fitted(&x, seed);
        let codes = codes(&rabitq, &x, &ctx);
        let mut packed = Array2::zeros((N, rabitq.packed_bytes()));
        rabitq.pack(codes.view(), packed.view_mut(), &ctx).unwrap();
        for q in queries.outer_iter() {
            let query = rabitq.query(q, &ctx).unwrap();
            let (mut estimates, mut bounds) = (vec![0.0; N], vec![0.0; N]);
            rabitq.score(&query, packed.view(), &mut estimates, Some(&mut bounds)).unwrap();
            for ((x, estimate), bound) in x.outer_iter().zip(estimates).zip(bounds) {
                let off = f64::from(estimate) - l2_sq(&x.to_vec(), &q.to_vec());
                bias += off;
                spread += off * off;
                within += f64::from(u8::from(off.abs() <= f64::from(bound)));
            }
        }
    }
    let pairs = (30 * N * 5) as f64;
    let deviation = (spread / pairs).sqrt();
    assert!((bias / pairs).abs() < 4.0 * deviation / f64::from(30 * N as u32).sqrt(), "{bias}");
    assert!((within / pairs - 0.943).abs() < 0.01, "{}", within / pairs);
}
