//! Asymmetric estimates from tables of `⟨q, c⟩`: the inner product is their sum, and
//!
//! `‖q − x̂‖² = ‖q‖² − 2·Σ_l ⟨q, c_l(i_l)⟩ + ‖x̂‖²`.
//!
//! `‖x̂‖²` follows from the code, so it is not stored: a scan's packed layout is the interleaved codes
//! and, for L2, behind them one f32 of `‖x̂‖²` per code. For L2 everything is relative to the mean of the first layer, so that data far from the
//! origin does not cancel. Both estimates are, up to f32 rounding, exact for the decoded vector.

use crate::Rq;
use crate::encode::{BLOCK, bounded};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2};
use vq_kernels::Lookup;
use vq_kernels::distance::{dot, norm_sq};
use vq_kernels::lookup::interleave;
use vq_kernels::pack::unpack;
use vq_plugin_api::{Context, Error, Metric, Quantizer, Scorer};

/// Bytes of ‖x̂‖² per code.
const NORM_BYTES: usize = size_of::<f32>();

/// A query's tables.
pub struct Tables {
    lookup: Lookup,
    /// What is the same for all codes: ‖q‖², or the part of ⟨q, x̂⟩ that is the mean's.
    constant: f32,
}

impl Rq {
    /// Sums of a query's terms stay finite below this.
    fn limit(&self) -> f64 {
        f64::from(f32::MAX) / (self.params.layers + 3) as f64
    }
}

impl Scorer for Rq {
    type Query = Tables;
    const PACKED: bool = true;

    fn packed_bytes(&self) -> usize {
        match self.space.metric {
            Metric::L2 => self.code_bytes() + NORM_BYTES,
            Metric::Ip | Metric::Cosine => self.code_bytes(),
        }
    }

    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        mut packed: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let packed = packed.as_slice_mut().ok_or_else(|| Error::failed("strided codes"))?;
        let (interleaved, norms) = packed.split_at_mut(codes.len());
        interleave(codes, interleaved);
        if self.space.metric != Metric::L2 {
            return Ok(());
        }
        let norms = ArrayViewMut2::from_shape((codes.nrows(), NORM_BYTES), norms)
            .map_err(|e| Error::failed(e.to_string()))?;
        ctx.par_blocks(codes, norms, BLOCK, |codes, mut norms| {
            let codes = codes.as_standard_layout();
            let mut values = vec![0_u16; self.params.layers];
            let mut sum = vec![0.0_f32; self.space.dim];
            let unscale = f64::from(self.layers.normal.scale).powi(-2);
            for (code, mut norm) in codes.outer_iter().zip(norms.outer_iter_mut()) {
                let code = code.to_slice().ok_or_else(|| Error::failed("strided codes"))?;
                unpack(code, self.params.bits, &mut values);
                let exact = unscale * self.layers.norm_sq(&values, &mut sum);
                let bytes = (exact.min(self.limit()) as f32).to_le_bytes();
                norm.iter_mut().zip(bytes).for_each(|(norm, byte)| *norm = byte);
            }
            Ok(())
        })
    }

    fn query(&self, query: ArrayView1<'_, f32>) -> Result<Tables, Error> {
        let (k, layers) = (self.k(), &self.layers);
        let normal = &layers.normal;
        let query = query.to_vec();
        let mut q = Array2::zeros((1, query.len()));
        let unscale = f64::from(normal.scale).powi(-2);
        let (factor, constant) = {
            let q = q.as_slice_mut().ok_or_else(|| Error::failed("strided query"))?;
            normal.apply(&query, q);
            match self.space.metric {
                Metric::L2 => (-2.0 * unscale, unscale * norm_sq(q)),
                Metric::Ip | Metric::Cosine => {
                    // ⟨q, x̂⟩ = ⟨q, x̂ − mean⟩ + ⟨q, mean⟩, the mean in the units of the scale.
                    for (q, x) in q.iter_mut().zip(&query) {
                        *q = bounded(x * normal.scale);
                    }
                    (unscale, unscale * dot(q, &normal.shift))
                }
            }
        };
        let limit = self.limit();
        let mut entries = vec![0.0_f32; self.params.layers * k];
        for (layer, entries) in layers.layers.iter().zip(entries.chunks_exact_mut(k)) {
            let scores = ArrayViewMut2::from_shape((1, k), &mut *entries)
                .map_err(|e| Error::failed(e.to_string()))?;
            layer.products.scores(q.view(), scores);
            for entry in entries {
                *entry = (factor * f64::from(*entry)).clamp(-limit, limit) as f32;
            }
        }
        let lookup = Lookup::new(entries, self.params.layers, self.params.bits);
        Ok(Tables { lookup, constant: constant.clamp(-limit, limit) as f32 })
    }

    fn score(&self, query: &Tables, codes: ArrayView2<'_, u8>, estimates: &mut [f32]) {
        let packed = codes.as_standard_layout();
        let packed = packed.as_slice().expect("the layout is standard");
        let (interleaved, norms) = packed.split_at(estimates.len() * self.code_bytes());
        query.lookup.sums(interleaved, estimates);
        match self.space.metric {
            Metric::L2 => {
                for (estimate, norm) in estimates.iter_mut().zip(norms.as_chunks().0) {
                    let norm = f32::from_le_bytes(*norm);
                    // Rounding must not make a distance negative.
                    *estimate = (*estimate + (query.constant + norm)).max(0.0);
                }
            }
            Metric::Ip | Metric::Cosine => {
                estimates.iter_mut().for_each(|estimate| *estimate += query.constant);
            }
        }
    }
}
