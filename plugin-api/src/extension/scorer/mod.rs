//! The extension `vq.scorer/1`: estimates of distances from raw queries to codes, without
//! decoding. Methods with an estimator of their own are judged by it.

use super::{Extension, Offer};
use crate::abi::SCORER_V1;
use crate::{Context, Error, Quantizer};
use core::ffi::c_void;
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis};
use rayon::prelude::*;

pub(crate) mod handle;
pub(crate) mod law;
mod shim;

/// Asymmetric estimates from a raw query to codes.
pub trait Scorer: Quantizer {
    /// What is computed once per query: a lookup table, a rotated query.
    type Query: Send;

    /// True if [`Scorer::score`] claims error bounds.
    const BOUNDS: bool = false;

    /// True if [`Scorer::score`] reads what [`Scorer::pack`] made of the codes, instead of the
    /// codes as `compress` wrote them.
    const PACKED: bool = false;

    /// Bytes per code of what [`Scorer::pack`] makes, known once the method is fitted. They are
    /// memory of a scan, not stored: scalars that follow from the code may stand here for free.
    fn packed_bytes(&self) -> usize {
        self.code_bytes()
    }

    /// Converts `codes` (n, code_bytes) into `packed` (n, packed_bytes). Called only with
    /// [`Scorer::PACKED`], once for a block of codes that many queries are scored against, and
    /// scored as the same block: rows may be interleaved within it. A code's estimate must not
    /// depend on the others.
    ///
    /// # Errors
    /// Codes that no vector could have.
    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        mut packed: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let _ = ctx;
        packed.assign(&codes);
        Ok(())
    }

    /// Prepares `query` (d), once for the estimates and bounds of a call. All randomness derives
    /// from [`Context::seed`].
    ///
    /// # Errors
    /// Whatever makes it impossible.
    fn query(&self, query: ArrayView1<'_, f32>, ctx: &Context<'_>) -> Result<Self::Query, Error>;

    /// Writes into `estimates` (n) the space's metric between the query and each of `codes`
    /// (n, code_bytes, or packed_bytes with [`Scorer::PACKED`]): squared distance for L2, inner
    /// product for Ip and Cosine.
    ///
    /// With [`Scorer::BOUNDS`], and where the caller wants them, also writes into `bounds` (n) the
    /// claimed half-width of each estimate's error, finite and not negative.
    ///
    /// # Errors
    /// Codes that no vector could have.
    fn score(
        &self,
        query: &Self::Query,
        codes: ArrayView2<'_, u8>,
        estimates: &mut [f32],
        bounds: Option<&mut [f32]>,
    ) -> Result<(), Error>;

    /// Writes into `estimates` (q, n) what [`Scorer::score`] would of each of `queries` (q, d), and
    /// into `bounds` (q, n) likewise. By default it asks for each query by itself, on all threads; a
    /// method that is faster with many at once writes its own. An estimate must not depend on which
    /// other queries are asked about.
    ///
    /// # Errors
    /// Codes that no vector could have; whatever makes a query impossible.
    fn score_all(
        &self,
        queries: ArrayView2<'_, f32>,
        codes: ArrayView2<'_, u8>,
        mut estimates: ArrayViewMut2<'_, f32>,
        mut bounds: Option<ArrayViewMut2<'_, f32>>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let mut bounds = bounds.as_mut().map(|bounds| bounds.axis_iter_mut(Axis(0)));
        let rows: Vec<_> = queries
            .outer_iter()
            .zip(estimates.axis_iter_mut(Axis(0)))
            .map(|(query, estimates)| {
                let bounds = bounds.as_mut().and_then(Iterator::next);
                (query, estimates, bounds)
            })
            .collect();
        rows.into_par_iter().with_max_len(1).try_for_each(|(query, estimates, bounds)| {
            let query = self.query(query, ctx)?;
            let estimates = row(estimates)?;
            let bounds = bounds.map(row).transpose()?;
            self.score(&query, codes, estimates, bounds)
        })
    }
}

fn row(values: ArrayViewMut1<'_, f32>) -> Result<&mut [f32], Error> {
    values.into_slice().ok_or_else(|| Error::failed("estimates that are not contiguous"))
}

/// The name of [`Scorer`] in [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
#[derive(Debug)]
pub struct Offered;

impl<Q: Scorer> Offer<Q> for Offered {
    const ID: &'static str = SCORER_V1;

    fn table() -> *const c_void {
        core::ptr::from_ref(&const { shim::Shim::<Q>::TABLE }).cast()
    }
}

pub(super) const EXTENSION: Extension = Extension {
    id: SCORER_V1,
    offered: |method| Ok(handle::table(method)?.is_some()),
    law: law::LAW,
};
