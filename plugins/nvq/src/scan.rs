//! Estimates of packed codes: those of the values of decoded rows, ‖z‖² + ‖y‖² − 2⟨z, y⟩ or ⟨q, c⟩ + ⟨z, y⟩ with
//! y = m + w·l, so that ⟨z, y⟩ = m·Σz + w·⟨z, l⟩.
//!
//! A curve is the row's own, so that no table serves all codes. A packed code has its levels, as integers of 16
//! bits, and w, m and ‖y‖².

use crate::curve::UNIT;
use crate::{Nvq, fit::Fit};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;
use vq_blocks::contiguous;
use vq_blocks::rotated::Query;
use vq_kernels::distance::norm_sq;
use vq_kernels::{Path, TopK};
use vq_plugin_api::{Context, Error, Hits, Metric, Packed, Scorer, Search};

/// Sums side by side.
const LANES: usize = 32;

/// Codes that stay in the caches while queries pass by.
const STEP: usize = 64;

/// Queries that share them, at most.
const QUERIES: usize = 256;

/// Numbers of a packed code behind its levels: w, m and ‖y‖².
const NUMBERS: usize = 3;

/// A query in the frame.
pub struct Sought {
    query: Query,
    /// Of the coordinates that have bits.
    sum: f64,
}

impl Nvq {
    fn sought(&self, q: ArrayView1<'_, f32>) -> Result<Sought, Error> {
        let query = self.frame()?.query(&q.to_vec(), self.space.metric);
        let sum = query.z[..self.fitter.coded()].iter().map(|z| f64::from(*z)).sum();
        Ok(Sought { query, sum })
    }

    /// Bytes of a packed code.
    fn scan_bytes(&self) -> usize {
        2 * self.fitter.coded() + 4 * NUMBERS
    }

    fn pack_rows(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) {
        let (mut values, mut y) = (vec![0; self.space.dim], vec![0.0; self.space.dim]);
        let packed = packed.chunks_exact_mut(self.scan_bytes());
        for (code, packed) in codes.outer_iter().zip(packed) {
            let fit = self.read(&code.to_vec(), &mut values);
            self.fitter.read(&values, fit, &mut y);
            let (levels, numbers) = packed.split_at_mut(2 * self.fitter.coded());
            let integers = self.fitter.integers(&values, fit.curve);
            for (to, level) in levels.as_chunks_mut::<2>().0.iter_mut().zip(integers) {
                *to = level.to_le_bytes();
            }
            let Fit { m, w, .. } = fit;
            let numbers = numbers.as_chunks_mut::<4>().0.iter_mut();
            numbers.zip([w, m, norm_sq(&y) as f32]).for_each(|(to, x)| *to = x.to_le_bytes());
        }
    }

    fn estimate(&self, Sought { query, sum }: &Sought, packed: &[u8]) -> f32 {
        let coded = self.fitter.coded();
        let (levels, numbers) = packed.split_at(2 * coded);
        let product = product(&query.z[..coded], levels.as_chunks::<2>().0);
        let number = |i: usize| f64::from(f32::from_le_bytes(numbers.as_chunks::<4>().0[i]));
        let [w, m, length_sq] = [0, 1, 2].map(number);
        query.estimate(m * sum + w / f64::from(UNIT) * f64::from(product), length_sq)
    }

    /// The `k` nearest of `n` packed codes of each query.
    fn top_k(&self, sought: &[Sought], packed: &[u8], n: usize, k: usize) -> Vec<TopK> {
        let mut tops: Vec<TopK> = sought.iter().map(|_| TopK::new(k.min(n))).collect();
        let least = self.space.metric == Metric::L2;
        let mut estimates = [0.0; STEP];
        for (first, block) in (0..).step_by(STEP).zip(packed.chunks(STEP * self.scan_bytes())) {
            for (sought, top) in sought.iter().zip(&mut tops) {
                let codes = block.chunks_exact(self.scan_bytes());
                let estimates = &mut estimates[..codes.len()];
                for (to, code) in estimates.iter_mut().zip(codes) {
                    let estimate = self.estimate(sought, code);
                    *to = if least { 0.0 - estimate } else { estimate };
                }
                top.push_row(first, estimates);
            }
        }
        tops
    }
}

/// Σ z·l in f32, whose order of sums is the same on every machine.
fn product(z: &[f32], levels: &[[u8; 2]]) -> f32 {
    let (z, z_rest) = z.as_chunks::<LANES>();
    let (levels, levels_rest) = levels.as_chunks::<LANES>();
    let mut sums = Path::fastest().run(
        #[inline(always)]
        || sums(z, levels),
    );
    for (sum, (z, bytes)) in sums.iter_mut().zip(z_rest.iter().zip(levels_rest)) {
        *sum += z * f32::from(u16::from_le_bytes(*bytes));
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

/// A function, whose sums stay in registers: a closure's would be rotated through them.
#[inline(always)]
fn sums(z: &[[f32; LANES]], levels: &[[[u8; 2]; LANES]]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (z, levels) in z.iter().zip(levels) {
        for i in 0..LANES {
            sums[i] += z[i] * f32::from(u16::from_le_bytes(levels[i]));
        }
    }
    sums
}

impl Scorer for Nvq {
    type Query = Sought;
    const PACKED: bool = true;

    fn packed_bytes(&self) -> usize {
        self.scan_bytes()
    }

    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        mut packed: ArrayViewMut2<'_, u8>,
        _: &Context<'_>,
    ) -> Result<(), Error> {
        self.pack_rows(codes, contiguous(packed.as_slice_mut())?);
        Ok(())
    }

    fn query(&self, query: ArrayView1<'_, f32>, _: &Context<'_>) -> Result<Sought, Error> {
        self.sought(query)
    }

    fn score(
        &self,
        query: &Sought,
        codes: ArrayView2<'_, u8>,
        estimates: &mut [f32],
        _: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        let codes = contiguous(codes.to_slice())?.chunks_exact(self.scan_bytes());
        estimates.iter_mut().zip(codes).for_each(|(to, code)| *to = self.estimate(query, code));
        Ok(())
    }
}

impl Search for Nvq {
    const RANKS_ESTIMATES: bool = true;

    fn packed_bytes(&self, n: usize) -> usize {
        n * self.scan_bytes()
    }

    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
        _: &Context<'_>,
    ) -> Result<(), Error> {
        self.pack_rows(codes, packed);
        Ok(())
    }

    fn search(
        &self,
        queries: ArrayView2<'_, f32>,
        codes: Packed<'_>,
        hits: Hits<'_>,
        _: &Context<'_>,
    ) -> Result<(), Error> {
        let (k, least) = (hits.k(), self.space.metric == Metric::L2);
        let together = queries.nrows().div_ceil(rayon::current_num_threads()).clamp(1, QUERIES);
        let mut rows: Vec<_> = hits.rows().collect();
        let mut parts = Vec::new();
        while !rows.is_empty() {
            let rest = rows.split_off(together.min(rows.len()));
            parts.push(std::mem::replace(&mut rows, rest));
        }
        let queries = queries.axis_chunks_iter(Axis(0), together).into_par_iter();
        queries.zip(parts).try_for_each(|(queries, places)| {
            let sought: Result<Vec<_>, Error> =
                queries.outer_iter().map(|query| self.sought(query)).collect();
            let found = self.top_k(&sought?, codes.bytes, codes.n, k);
            for (places, top) in places.into_iter().zip(found) {
                let estimate = |score: f32| if least { 0.0 - score } else { score };
                let best = top.into_sorted().into_iter();
                places.fill(best.map(|(score, row)| (estimate(score), row.into())));
            }
            Ok(())
        })
    }
}
