//! Estimates from tables of `⟨q, c⟩`: the inner product is their sum, and
//!
//! `‖q − x̂‖² = ‖q‖² − 2·Σ_l ⟨q, c_l(i_l)⟩ + ‖x̂‖²`.
//!
//! `‖x̂‖²` follows from the code, so it is not stored: a scan has it beside the codes, one f32 for each.
//! For L2 everything is relative to the mean of the first layer, so that data far from the origin does
//! not cancel. Both estimates are, up to f32 rounding, exact for the decoded vector.

use super::layers::{BLOCK, bounded};
use super::{Part, Residual};
use crate::contiguous;
use crate::scan::{self, Tables};
use ndarray::{ArrayView2, ArrayViewMut2};
use vq_kernels::distance::{dot, norm_sq};
use vq_kernels::pack::unpack;
use vq_plugin_api::{Context, Error, Metric};

impl Residual {
    /// Bytes per code of what [`pack`](Self::pack) makes.
    #[must_use]
    pub fn packed_bytes(&self, metric: Metric) -> usize {
        match metric {
            Metric::L2 => self.code_bytes() + scan::TERM_BYTES,
            Metric::Ip | Metric::Cosine => self.code_bytes(),
        }
    }

    /// Packs a block `codes` (n, code_bytes) for a scan by [`tables`](Self::tables): interleaved, for L2
    /// with ‖x̂‖² of each behind them. O(n · layers · d) for L2.
    ///
    /// # Errors
    /// Strided codes, which the host never lends.
    ///
    /// # Panics
    /// When `packed` is not n · packed_bytes long.
    pub fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        metric: Metric,
        packed: &mut [u8],
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let terms = scan::pack(codes, packed);
        if metric != Metric::L2 {
            return Ok(());
        }
        let norms = ArrayViewMut2::from_shape((codes.nrows(), scan::TERM_BYTES), terms)
            .map_err(|e| Error::failed(e.to_string()))?;
        ctx.par_blocks(codes, norms, BLOCK, |codes, mut norms| {
            let codes = codes.as_standard_layout();
            let mut values = vec![0_u16; self.shape.indices()];
            let mut sum = vec![0.0_f32; self.sub()];
            for (code, mut norm) in codes.outer_iter().zip(norms.outer_iter_mut()) {
                unpack(contiguous(code.to_slice())?, self.shape.bits, &mut values);
                let parts = self.parts.iter().zip(values.chunks_exact(self.shape.layers));
                let exact: f64 =
                    parts.map(|(part, code)| part.layers.scaled_norm_sq(code, &mut sum)).sum();
                let bytes = (exact.min(self.limit()) as f32).to_le_bytes();
                norm.iter_mut().zip(bytes).for_each(|(norm, byte)| *norm = byte);
            }
            Ok(())
        })
    }

    /// The tables of `query` (d), in the units of `metric`. O(layers · 2^bits · d).
    ///
    /// # Panics
    /// Before training, or when the query has another dimension.
    #[must_use]
    pub fn tables(&self, query: &[f32], metric: Metric) -> Tables {
        assert_eq!(query.len(), self.dim, "dimension of the query");
        let (k, indices, limit) = (self.shape.k(), self.shape.indices(), self.limit());
        let mut entries = vec![0.0_f32; indices * k];
        let mut constant = 0.0;
        let parts = query.chunks_exact(self.sub()).zip(&self.parts);
        for ((query, Part { layers, .. }), entries) in
            parts.zip(entries.chunks_exact_mut(self.shape.layers * k))
        {
            let mut q = vec![0.0; query.len()];
            let unscale = layers.unscale();
            layers.normalise(query, &mut q);
            let factor = match metric {
                Metric::L2 => {
                    constant += unscale * norm_sq(&q);
                    -2.0 * unscale
                }
                Metric::Ip | Metric::Cosine => {
                    // ⟨q, x̂⟩ = ⟨q, x̂ − mean⟩ + ⟨q, mean⟩, the mean in the units of the scale.
                    for (q, x) in q.iter_mut().zip(query) {
                        *q = bounded(x * layers.normal.scale);
                    }
                    constant += unscale * dot(&q, &layers.normal.shift);
                    unscale
                }
            };
            let q = ArrayView2::from_shape((1, q.len()), &q).expect("one row");
            for (layer, entries) in layers.layers.iter().zip(entries.chunks_exact_mut(k)) {
                let scores = ArrayViewMut2::from_shape((1, k), &mut *entries).expect("one row");
                layer.products.scores(q, scores);
                for entry in entries {
                    *entry = (factor * f64::from(*entry)).clamp(-limit, limit) as f32;
                }
            }
        }
        let tables = Tables::new(entries, indices, self.shape.bits)
            .plus(constant.clamp(-limit, limit) as f32);
        if metric == Metric::L2 { tables.with_terms().not_negative() } else { tables }
    }

    /// Sums of a query's terms stay finite below this.
    fn limit(&self) -> f64 {
        f64::from(f32::MAX) / (self.shape.indices() + 3) as f64
    }
}
