//! The extension `vq.scorer/1`: estimates of distances from raw queries to codes, without
//! decoding. Methods with an estimator of their own are judged by it.

use crate::{Error, Quantizer};
use ndarray::{ArrayView1, ArrayView2};

/// Asymmetric estimates from a raw query to codes.
pub trait Scorer: Quantizer {
    /// What is computed once per query: a lookup table, a rotated query.
    type Query: Send;

    /// True if [`Scorer::bounds`] claims error bounds.
    const BOUNDS: bool = false;

    /// Prepares `query` (d).
    ///
    /// # Errors
    /// Whatever makes it impossible.
    fn query(&self, query: ArrayView1<'_, f32>) -> Result<Self::Query, Error>;

    /// Writes into `estimates` (n) the space's metric between the query and each of `codes`
    /// (n, code_bytes): squared distance for L2, inner product for Ip and Cosine.
    fn score(&self, query: &Self::Query, codes: ArrayView2<'_, u8>, estimates: &mut [f32]);

    /// Writes into `bounds` (n) the claimed half-width of each estimate's error. Called only with
    /// [`Scorer::BOUNDS`].
    fn bounds(&self, query: &Self::Query, codes: ArrayView2<'_, u8>, bounds: &mut [f32]) {
        let _ = (query, codes);
        bounds.fill(f32::INFINITY);
    }
}
