//! The extension `vq.search/1`: the k nearest codes of a block, for methods whose fast scan never
//! writes all estimates.

use super::{Extension, Offer};
use crate::abi::{SEARCH_NONE, SEARCH_V1};
use crate::{Context, Error, Quantizer};
use core::ffi::c_void;
use ndarray::{ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;
use std::fmt;

pub(crate) mod handle;
pub(crate) mod law;
mod order;
mod shim;

pub use order::{Misplaced, nearer};

/// Nearest codes of a block to raw queries.
pub trait Search: Quantizer {
    /// True if the answer is what sorting the estimates of the method's own
    /// [`Scorer`](crate::Scorer) gives, ids and values. Where it is false the host records the
    /// search's own recall beside that of the estimates.
    const RANKS_ESTIMATES: bool = false;

    /// Bytes that `n` codes take in the layout that [`Search::search`] reads, known once the method
    /// is fitted. They are memory of a scan, not stored.
    fn packed_bytes(&self, n: usize) -> usize {
        n * self.code_bytes()
    }

    /// Converts a block of `codes` (n, code_bytes) into `packed`, which many queries then search.
    ///
    /// # Errors
    /// Codes that no vector could have.
    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let _ = ctx;
        packed.iter_mut().zip(codes).for_each(|(packed, code)| *packed = *code);
        Ok(())
    }

    /// Finds the [`Hits::k`] nearest of `codes` to each of `queries` (q, d), by the space's metric:
    /// squared distance for L2, inner product for Ip and Cosine. See [`Row::fill`] for the order.
    ///
    /// # Errors
    /// Codes that no vector could have.
    fn search(
        &self,
        queries: ArrayView2<'_, f32>,
        codes: Packed<'_>,
        hits: Hits<'_>,
        ctx: &Context<'_>,
    ) -> Result<(), Error>;
}

/// A block of codes as [`Search::pack`] wrote them.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// [`Search::packed_bytes`] of them.
    pub bytes: &'a [u8],
    /// Codes.
    pub n: usize,
}

/// Where a search answers: k places for each of q queries.
pub struct Hits<'a> {
    k: usize,
    ids: &'a mut [u64],
    estimates: &'a mut [f32],
}

impl fmt::Debug for Hits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hits").field("k", &self.k).field("places", &self.ids.len()).finish()
    }
}

impl<'a> Hits<'a> {
    /// Over ids and estimates, both (q, k); all places are empty at first.
    pub(crate) fn over(k: usize, ids: &'a mut [u64], estimates: &'a mut [f32]) -> Self {
        ids.fill(SEARCH_NONE);
        estimates.fill(f32::NAN);
        Hits { k, ids, estimates }
    }

    /// Codes wanted for each query, at least 1. May be more than the block has.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The places of each query in turn.
    pub fn rows(self) -> impl ExactSizeIterator<Item = Row<'a>> {
        let estimates = self.estimates.chunks_exact_mut(self.k);
        let rows = self.ids.chunks_exact_mut(self.k).zip(estimates);
        rows.map(|(ids, estimates)| Row { ids, estimates })
    }

    /// Fills the places of each query with what `search` answers for it, in parallel over the
    /// queries.
    ///
    /// # Errors
    /// The first of `search`.
    pub fn fill_each<H: IntoIterator<Item = (f32, u64)>>(
        self,
        queries: ArrayView2<'_, f32>,
        search: impl Fn(ArrayView1<'_, f32>) -> Result<H, Error> + Sync,
    ) -> Result<(), Error> {
        let rows: Vec<_> = queries.axis_iter(Axis(0)).zip(self.rows()).collect();
        rows.into_par_iter().with_max_len(1).try_for_each(|(query, row)| {
            row.fill(search(query)?);
            Ok(())
        })
    }
}

/// The places of one query.
#[derive(Debug)]
pub struct Row<'a> {
    ids: &'a mut [u64],
    estimates: &'a mut [f32],
}

impl Row<'_> {
    /// Writes (estimate, row in the block): the best first, which is the smallest estimate for L2
    /// and the largest for Ip and Cosine; of equal estimates the lower row first, as [`nearer`] has
    /// it. Places that are left stay empty, which is right where the block has fewer than k codes.
    pub fn fill(self, best_first: impl IntoIterator<Item = (f32, u64)>) {
        let places = self.ids.iter_mut().zip(self.estimates);
        for ((to_id, to_estimate), (estimate, id)) in places.zip(best_first) {
            (*to_id, *to_estimate) = (id, estimate);
        }
    }
}

/// The name of [`Search`] in [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
#[derive(Debug)]
pub struct Offered;

impl<Q: Search> Offer<Q> for Offered {
    const ID: &'static str = SEARCH_V1;

    fn table() -> *const c_void {
        core::ptr::from_ref(&const { shim::Shim::<Q>::TABLE }).cast()
    }
}

pub(super) const EXTENSION: Extension = Extension {
    id: SEARCH_V1,
    offered: |method| Ok(handle::table(method)?.is_some()),
    law: law::LAW,
};
