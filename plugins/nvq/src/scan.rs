//! Estimates of packed codes: those of the values of decoded rows, ‖z‖² + ‖y‖² − 2⟨z, y⟩ or ⟨q, c⟩ + ⟨z, y⟩ with
//! y = m + w·l.
//!
//! A packed code has a byte for each index, the curve, m, w and ‖y‖². A curve is the row's own, so that no
//! table serves all codes: y is made of each code anew, by looking up levels, once for all queries that a
//! thread searches for.

use crate::fit::Fit;
use crate::{CURVE_BYTES, Nvq};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;
use vq_blocks::contiguous;
use vq_blocks::rotated::Query;
use vq_kernels::distance::norm_sq;
use vq_kernels::{Path, TopK};
use vq_plugin_api::{Context, Error, Hits, Metric, Packed, Scorer, Search};

/// Sums side by side.
const LANES: usize = 32;

/// Codes that are made rows at a time.
const STEP: usize = 64;

/// Queries that share the rows, at most.
const QUERIES: usize = 256;

/// Numbers of a packed code behind its curve: m, w and ‖y‖².
const NUMBERS: usize = 3;

/// Indices and coordinates of one row, both (d).
struct RowScratch {
    values: Vec<u16>,
    y: Vec<f32>,
}

impl RowScratch {
    fn new(dim: usize) -> Self {
        RowScratch { values: vec![0; dim], y: vec![0.0; dim] }
    }
}

impl Nvq {
    /// Bytes of a packed code.
    fn scan_bytes(&self) -> usize {
        self.fitter.coded() + CURVE_BYTES + 4 * NUMBERS
    }

    fn pack_rows<'a>(
        &self,
        codes: ArrayView2<'_, u8>,
        packed: impl Iterator<Item = &'a mut [u8]>,
    ) -> Result<(), Error> {
        let RowScratch { mut values, mut y } = RowScratch::new(self.space.dim);
        for (code, packed) in codes.outer_iter().zip(packed) {
            let fit = match code.to_slice() {
                Some(code) => self.read(code, &mut values),
                None => self.read(&code.to_vec(), &mut values),
            };
            self.fitter.read(&values, fit, &mut y);
            let (indices, rest) = packed.split_at_mut(self.fitter.coded());
            indices.iter_mut().zip(&values).for_each(|(to, value)| *to = *value as u8);
            rest[0] = fit.curve;
            let numbers = [fit.m, fit.w, norm_sq(&y) as f32];
            for (to, number) in rest[CURVE_BYTES..].as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
                *to = number.to_le_bytes();
            }
        }
        Ok(())
    }

    /// Makes y of a packed code in `row`, and answers ‖y‖².
    fn unpack(&self, packed: &[u8], RowScratch { values, y }: &mut RowScratch) -> f32 {
        let (indices, rest) = packed.split_at(self.fitter.coded());
        values.iter_mut().zip(indices).for_each(|(to, index)| *to = u16::from(*index));
        let mut numbers = [0.0; NUMBERS];
        for (to, bytes) in numbers.iter_mut().zip(rest[CURVE_BYTES..].as_chunks::<4>().0) {
            *to = f32::from_le_bytes(*bytes);
        }
        let [m, w, length_sq] = numbers;
        self.fitter.read(values, Fit { curve: rest[0], m, w }, y);
        length_sq
    }

    /// The estimate of the row y.
    fn estimate(&self, query: &Query, y: &[f32], length_sq: f32) -> f32 {
        let coded = self.fitter.coded();
        let inner = product(&query.z[..coded], &y[..coded]);
        query.estimate(f64::from(inner), f64::from(length_sq))
    }

    /// The `k` nearest of `n` packed codes of each query, best first; of equal ones the lower row.
    fn top_k(&self, queries: &[Query], packed: &[u8], n: usize, k: usize) -> Vec<TopK> {
        let mut tops: Vec<TopK> = queries.iter().map(|_| TopK::new(k.min(n))).collect();
        let (dim, least) = (self.space.dim, self.space.metric == Metric::L2);
        let mut scratch = RowScratch::new(dim);
        let (mut rows, mut lengths) = (vec![0.0; STEP * dim], [0.0; STEP]);
        let mut estimates = [0.0; STEP];
        let blocks = packed.chunks(STEP * self.scan_bytes());
        for (first, block) in (0..).step_by(STEP).zip(blocks) {
            let codes = block.chunks_exact(self.scan_bytes());
            let count = codes.len();
            for ((code, row), length_sq) in codes.zip(rows.chunks_exact_mut(dim)).zip(&mut lengths)
            {
                *length_sq = self.unpack(code, &mut scratch);
                row.copy_from_slice(&scratch.y);
            }
            for (query, top) in queries.iter().zip(&mut tops) {
                let estimates = &mut estimates[..count];
                let made = rows.chunks_exact(dim).zip(lengths);
                for (to, (row, length_sq)) in estimates.iter_mut().zip(made) {
                    let estimate = self.estimate(query, row, length_sq);
                    *to = if least { 0.0 - estimate } else { estimate };
                }
                top.push_row(first, estimates);
            }
        }
        tops
    }
}

/// ⟨z, y⟩ in f32, which the order of sums decides.
fn product(z: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let ((z, z_rest), (y, y_rest)) = (z.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    Path::fastest().run(
        #[inline(always)]
        || {
            for (z, y) in z.iter().zip(y) {
                for i in 0..LANES {
                    sums[i] += z[i] * y[i];
                }
            }
        },
    );
    for (sum, (z, y)) in sums.iter_mut().zip(z_rest.iter().zip(y_rest)) {
        *sum += z * y;
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

impl Scorer for Nvq {
    type Query = Query;
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
        let packed = contiguous(packed.as_slice_mut())?;
        self.pack_rows(codes, packed.chunks_exact_mut(self.scan_bytes()))
    }

    fn query(&self, query: ArrayView1<'_, f32>, _: &Context<'_>) -> Result<Query, Error> {
        Ok(self.frame()?.query(&query.to_vec(), self.space.metric))
    }

    fn score(
        &self,
        query: &Query,
        codes: ArrayView2<'_, u8>,
        estimates: &mut [f32],
        _: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        let mut row = RowScratch::new(self.space.dim);
        let codes = contiguous(codes.to_slice())?.chunks_exact(self.scan_bytes());
        for (estimate, code) in estimates.iter_mut().zip(codes) {
            let length_sq = self.unpack(code, &mut row);
            *estimate = self.estimate(query, &row.y, length_sq);
        }
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
        self.pack_rows(codes, packed.chunks_exact_mut(self.scan_bytes()))
    }

    fn search(
        &self,
        queries: ArrayView2<'_, f32>,
        codes: Packed<'_>,
        hits: Hits<'_>,
        _: &Context<'_>,
    ) -> Result<(), Error> {
        let (frame, k) = (self.frame()?, hits.k());
        let together = queries.nrows().div_ceil(rayon::current_num_threads()).clamp(1, QUERIES);
        let mut rows: Vec<_> = hits.rows().collect();
        let mut parts = Vec::new();
        while !rows.is_empty() {
            let rest = rows.split_off(together.min(rows.len()));
            parts.push(std::mem::replace(&mut rows, rest));
        }
        let least = self.space.metric == Metric::L2;
        let queries = queries.axis_chunks_iter(Axis(0), together).into_par_iter();
        queries.zip(parts).for_each(|(queries, places)| {
            let of = |q: ArrayView1<'_, f32>| frame.query(&q.to_vec(), self.space.metric);
            let queries: Vec<Query> = queries.outer_iter().map(of).collect();
            let found = self.top_k(&queries, codes.bytes, codes.n, k);
            for (places, top) in places.into_iter().zip(found) {
                let estimate = |score: f32| if least { 0.0 - score } else { score };
                let best = top.into_sorted().into_iter();
                places.fill(best.map(|(score, row)| (estimate(score), row.into())));
            }
        });
        Ok(())
    }
}
