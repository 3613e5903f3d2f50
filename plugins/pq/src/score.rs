//! Asymmetric estimates: `‖q − x̂‖² = Σⱼ ‖qⱼ − cⱼ(iⱼ)‖²` and `⟨q, x̂⟩ = Σⱼ ⟨qⱼ, cⱼ(iⱼ)⟩`, one table
//! entry each (section IV of the paper). They are the exact values for the decoded vector.
//!
//! For a scan the codes are interleaved.

use crate::Pq;
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};
use vq_kernels::Lookup;
use vq_kernels::lookup::{add_terms, interleave};
use vq_plugin_api::{Context, Error, Metric, Scorer};

impl Scorer for Pq {
    type Query = Lookup;
    const PACKED: bool = true;

    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        mut packed: ArrayViewMut2<'_, u8>,
        _: &Context<'_>,
    ) -> Result<(), Error> {
        let packed = packed.as_slice_mut().ok_or_else(|| Error::failed("strided codes"))?;
        interleave(codes, packed);
        Ok(())
    }

    fn query(&self, query: ArrayView1<'_, f32>, _: &Context<'_>) -> Result<Lookup, Error> {
        let (m, k, sub) = (self.params.m, self.k(), self.sub);
        let query = query.to_vec();
        // A sum of m entries stays finite, whatever the query.
        let limit = f64::from(f32::MAX) / (m + 1) as f64;
        let mut entries = Vec::with_capacity(m * k);
        let mut sums = vec![0.0_f64; k];
        for (j, columns) in self.transposed.chunks_exact(k * sub).enumerate() {
            sums.fill(0.0);
            let query = &query[j * sub..][..sub];
            match self.metric {
                Metric::L2 => add_terms(query, columns, &mut sums, |q, c| (q - c) * (q - c)),
                Metric::Ip | Metric::Cosine => add_terms(query, columns, &mut sums, |q, c| q * c),
            }
            entries.extend(sums.iter().map(|sum| sum.clamp(-limit, limit) as f32));
        }
        Ok(Lookup::new(entries, m, self.params.bits))
    }

    fn score(
        &self,
        query: &Lookup,
        codes: ArrayView2<'_, u8>,
        estimates: &mut [f32],
        _: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        let codes = codes.to_slice().ok_or_else(|| Error::failed("strided codes"))?;
        query.sums(codes, estimates);
        Ok(())
    }
}
