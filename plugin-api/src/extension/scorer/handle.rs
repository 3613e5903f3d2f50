//! The calling side of a scorer.

use crate::abi::{SCORER_V1, VqMat, VqMatMut, VqScorerV1, flag};
use crate::extension::packed;
use crate::handle::{CallError, Caller, Instance, Method, call, present};
use crate::wire;
use ndarray::ArrayView2;

/// The method's table, if it offers one.
///
/// # Errors
/// A table that is incomplete or of another size.
pub(super) fn table(method: &Method) -> Result<Option<&'static VqScorerV1>, String> {
    // SAFETY: null or, by the id's meaning, a static vq_scorer_v1.
    let Some(table) = (unsafe { method.extension(SCORER_V1).cast::<VqScorerV1>().as_ref() }) else {
        return Ok(None);
    };
    let (found, expected) = (table.struct_size as usize, size_of::<VqScorerV1>());
    if found != expected {
        return Err(format!("its {SCORER_V1} table has {found} bytes, expected {expected}"));
    }
    if table.score.is_none() || table.pack.is_some() != table.packed_bytes.is_some() {
        return Err(format!("its {SCORER_V1} table is incomplete"));
    }
    Ok(Some(table))
}

impl Instance {
    /// The scorer, where the method has one.
    pub fn scorer(&self) -> Option<Scorer<'_>> {
        let table = table(self.method()).ok()??;
        Some(Scorer { instance: self, table })
    }
}

/// The extension `vq.scorer/1` of an instance.
#[derive(Debug)]
pub struct Scorer<'a> {
    instance: &'a Instance,
    table: &'static VqScorerV1,
}

impl Scorer<'_> {
    /// True if it claims error bounds.
    pub fn has_bounds(&self) -> bool {
        self.table.flags & flag::SCORER_BOUNDS != 0
    }

    /// Bytes that `n` codes take in the layout that `score` reads.
    ///
    /// # Errors
    /// More than 16 times the codes and a mebibyte.
    pub fn packed_bytes(&self, n: usize) -> Result<usize, CallError> {
        packed::bytes(self.instance, self.table.packed_bytes, n)
    }

    /// Brings `codes` (n, code_bytes) into the layout that `score` reads, of as many bytes as
    /// [`Scorer::packed_bytes`] says; the codes as they are where the method has no other layout.
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

    /// Estimates between `queries` (q, d) and `n` packed codes into `estimates` (q · n): squared
    /// distance for L2, inner product for Ip and Cosine; with `bounds` (q · n), also the claimed
    /// half-widths.
    ///
    /// # Errors
    /// As the plugin says.
    ///
    /// # Panics
    /// If `estimates` or `bounds` has another length.
    pub fn score(
        &self,
        queries: ArrayView2<'_, f32>,
        packed: &[u8],
        n: usize,
        caller: &Caller<'_>,
        estimates: &mut [f32],
        bounds: Option<&mut [f32]>,
    ) -> Result<(), CallError> {
        let rows = queries.nrows();
        assert_eq!(estimates.len(), rows * n, "room for the estimates of all pairs");
        let score = present("score", self.table.score)?;
        let queries = wire::lendable(queries);
        let lending = self.instance.method().lending(caller);
        let ctx = lending.raw();
        let out = VqMatMut::over(estimates, rows, n);
        let bounds_out = bounds.map_or(VqMatMut::NONE, |bounds| {
            assert_eq!(bounds.len(), rows * n, "room for the bounds of all pairs");
            VqMatMut::over(bounds, rows, n)
        });
        call(self.instance.method(), "score", |err| {
            // SAFETY: the arguments live during the call.
            unsafe {
                score(
                    self.instance.this(),
                    &ctx,
                    VqMat::of(&queries.view()),
                    packed.as_ptr(),
                    packed.len(),
                    n,
                    out,
                    bounds_out,
                    err,
                )
            }
        })
    }
}
