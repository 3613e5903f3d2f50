//! The nearest of all codes of product quantization by the kernel's own top-k scan: the same
//! estimates as the plugin's scorer, of which most are never written.

use crate::codec::{Codec, Packed, Team};
use crate::failure::Failure;
use ndarray::ArrayView2;
use rayon::prelude::*;
use std::time::{Duration, Instant};
use vq_kernels::lookup::add_terms;
use vq_kernels::pack::{pack, packed_bytes};
use vq_kernels::{Lookup, TopK};
use vq_plugin_api::handle::Guarded;

/// Per query the `top` nearest rows as (−estimate, row), nearest first.
pub(crate) type Found = Vec<Vec<(f32, u32)>>;

/// The codebooks of a fitted product quantizer.
pub(crate) struct Codebooks {
    m: usize,
    bits: u32,
    /// Dimensions of a sub-space.
    sub: usize,
    /// (m, sub, 2^bits).
    columns: Vec<f32>,
}

impl Codebooks {
    /// As the plugin decodes them: code i, i, … i is centroid i of every sub-space.
    pub(crate) fn of(codec: &Codec, m: usize, bits: u32, team: Team<'_>) -> Result<Self, Failure> {
        let k = 1 << bits;
        let width = packed_bytes(m, bits);
        let mut codes = vec![0; k * width];
        for (i, code) in codes.chunks_exact_mut(width).enumerate() {
            pack(&vec![i as u16; m], bits, code);
        }
        let mut rows = Guarded::rows();
        codec.decode(&codes, &mut rows, team)?;
        let rows = rows.values();
        let dim = rows.len() / k;
        let columns = (0..dim * k).map(|at| rows[at % k * dim + at / k]).collect();
        Ok(Codebooks { m, bits, sub: dim / m, columns })
    }

    /// −‖qⱼ − cⱼ(i)‖² of every sub-space and centroid: the largest sum is the nearest code.
    fn tables(&self, query: &[f32]) -> Lookup {
        let k = 1 << self.bits;
        let mut entries = Vec::with_capacity(self.m * k);
        let mut sums = vec![0.0_f64; k];
        for (query, columns) in
            query.chunks_exact(self.sub).zip(self.columns.chunks_exact(self.sub * k))
        {
            sums.fill(0.0);
            add_terms(query, columns, &mut sums, |q, c| -((q - c) * (q - c)));
            entries.extend(sums.iter().map(|sum| *sum as f32));
        }
        Lookup::new(entries, self.m, self.bits)
    }

    /// The `top` nearest codes of each of `queries` (q, d), tables included in the time.
    pub(crate) fn search(
        &self,
        blocks: &[Packed],
        queries: ArrayView2<'_, f32>,
        top: usize,
        team: Team<'_>,
    ) -> (Found, Duration) {
        let started = Instant::now();
        let queries: Vec<_> = queries.outer_iter().collect();
        let found = team.pool.install(|| {
            let each = queries.par_iter().map(|query| {
                let lookup = self.tables(query.as_slice().unwrap_or_default());
                let mut best = TopK::new(top);
                for block in blocks {
                    let first = block.first as u32;
                    lookup.push_sums(&block.codes, first..first + block.len as u32, &mut best);
                }
                best.into_sorted()
            });
            each.collect()
        });
        (found, started.elapsed())
    }
}
