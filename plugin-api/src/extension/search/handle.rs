//! The calling side of a search.

use crate::abi::{SEARCH_V1, VqMat, VqSearchV1, flag};
use crate::extension::packed;
use crate::handle::{CallError, Caller, Instance, Method, call, present};
use crate::wire;
use ndarray::ArrayView2;

/// The method's table, if it offers one.
///
/// # Errors
/// A table that is incomplete or of another size.
pub(super) fn table(method: &Method) -> Result<Option<&'static VqSearchV1>, String> {
    // SAFETY: null or, by the id's meaning, a static vq_search_v1.
    let Some(table) = (unsafe { method.extension(SEARCH_V1).cast::<VqSearchV1>().as_ref() }) else {
        return Ok(None);
    };
    let (found, expected) = (table.struct_size as usize, size_of::<VqSearchV1>());
    if found != expected {
        return Err(format!("its {SEARCH_V1} table has {found} bytes, expected {expected}"));
    }
    if table.search.is_none() || table.pack.is_some() != table.packed_bytes.is_some() {
        return Err(format!("its {SEARCH_V1} table is incomplete"));
    }
    Ok(Some(table))
}

impl Instance {
    /// The search, where the method has one.
    pub fn search(&self) -> Option<Search<'_>> {
        let table = table(self.method()).ok()??;
        Some(Search { instance: self, table })
    }
}

/// The extension `vq.search/1` of an instance.
#[derive(Debug)]
pub struct Search<'a> {
    instance: &'a Instance,
    table: &'static VqSearchV1,
}

impl Search<'_> {
    /// True if it claims to answer what sorting the scorer's estimates gives.
    pub fn ranks_estimates(&self) -> bool {
        self.table.flags & flag::SEARCH_RANKS_ESTIMATES != 0
    }

    /// Bytes that `n` codes take in the layout that `search` reads.
    ///
    /// # Errors
    /// More than 16 times the codes and a mebibyte.
    pub fn packed_bytes(&self, n: usize) -> Result<usize, CallError> {
        packed::bytes(self.instance, self.table.packed_bytes, n)
    }

    /// Brings `codes` (n, code_bytes) into the layout that `search` reads, of as many bytes as
    /// [`Search::packed_bytes`] says; the codes as they are where the method has no other layout.
    ///
    /// # Errors
    /// As the plugin says; another length than that of the codes where these are taken as they are.
    pub fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        caller: &Caller<'_>,
        packed: &mut [u8],
    ) -> Result<(), CallError> {
        packed::pack(self.instance, self.table.pack, codes, caller, packed)
    }

    /// The `k` nearest of `n` packed codes to each of `queries` (q, d): rows of the block into `ids`
    /// (q · k), estimates into `estimates` (q · k).
    ///
    /// What the plugin answers is not judged here; [`Misplaced`](super::Misplaced) is for that.
    ///
    /// # Errors
    /// As the plugin says.
    ///
    /// # Panics
    /// If `ids` or `estimates` has another length, or `k` is 0.
    pub fn search(
        &self,
        queries: ArrayView2<'_, f32>,
        (packed, n): (&[u8], usize),
        k: usize,
        caller: &Caller<'_>,
        ids: &mut [u64],
        estimates: &mut [f32],
    ) -> Result<(), CallError> {
        let places = queries.nrows() * k;
        assert!(k > 0, "a search for nothing");
        assert_eq!(ids.len(), places, "room for the ids");
        assert_eq!(estimates.len(), places, "room for the estimates");
        let search = present("search", self.table.search)?;
        let queries = wire::lendable(queries);
        let lending = self.instance.method().lending(caller);
        let ctx = lending.raw();
        let (ids, estimates) = (ids.as_mut_ptr(), estimates.as_mut_ptr());
        call(self.instance.method(), "search", |err| {
            // SAFETY: the arguments live during the call.
            unsafe {
                search(
                    self.instance.this(),
                    &ctx,
                    VqMat::of(&queries.view()),
                    packed.as_ptr(),
                    packed.len(),
                    n,
                    k,
                    ids,
                    estimates,
                    err,
                )
            }
        })
    }
}
