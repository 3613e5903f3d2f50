//! The C table of a search.

use super::{Hits, Packed, Search};
use crate::abi::{VqBuf, VqCodes, VqCtx, VqMat, VqSearchV1, flag};
use crate::adapter::{Held, context, guard, in_pool};
use crate::{Context, Error, wire};
use core::ffi::c_void;
use std::marker::PhantomData;

/// The functions of `vq_search_v1` for a `Q`.
pub(super) struct Shim<Q>(PhantomData<Q>);

impl<Q: Search> Shim<Q> {
    pub(super) const TABLE: VqSearchV1 = VqSearchV1 {
        struct_size: size_of::<VqSearchV1>() as u32,
        flags: if Q::RANKS_ESTIMATES { flag::SEARCH_RANKS_ESTIMATES } else { 0 },
        packed_bytes: Some(Self::packed_bytes),
        pack: Some(Self::pack),
        search: Some(Self::search),
        reserved: 0,
    };

    unsafe extern "C" fn packed_bytes(this: *const c_void, n: usize) -> usize {
        let mut bytes = 0;
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            let held = unsafe { Held::<Q>::of(this) }?;
            held.ready("packed_bytes")?;
            bytes = held.quantizer.packed_bytes(n);
            Ok(())
        };
        // SAFETY: a null buffer is allowed.
        let _ = unsafe { guard(core::ptr::null_mut(), body) };
        bytes
    }

    unsafe extern "C" fn pack(
        this: *const c_void,
        ctx: *const VqCtx,
        codes: VqCodes,
        packed: *mut u8,
        packed_len: usize,
        err: *mut VqBuf,
    ) -> i32 {
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            let held = unsafe { Held::<Q>::of(this) }?;
            // SAFETY: valid during the call, by contract.
            let ctx = Context::of(unsafe { context(ctx) }?);
            // SAFETY: lent for the call, by contract.
            let codes = unsafe { codes.view() }?;
            // SAFETY: lent for the call, by contract.
            let packed = unsafe { wire::slice_mut(packed, packed_len) }?;
            held.ready("pack")?;
            held.matches("the width of the codes", held.code_bytes, codes.ncols())?;
            let bytes = held.quantizer.packed_bytes(codes.nrows());
            held.matches("the length of the packed codes", bytes, packed.len())?;
            if codes.nrows() == 0 {
                return Ok(());
            }
            in_pool(ctx.threads(), || held.quantizer.pack(codes, packed, &ctx))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    unsafe extern "C" fn search(
        this: *const c_void,
        ctx: *const VqCtx,
        queries: VqMat,
        packed: *const u8,
        packed_len: usize,
        n: usize,
        k: usize,
        ids: *mut u64,
        estimates: *mut f32,
        err: *mut VqBuf,
    ) -> i32 {
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            let held = unsafe { Held::<Q>::of(this) }?;
            // SAFETY: valid during the call, by contract.
            let ctx = Context::of(unsafe { context(ctx) }?);
            held.ready("search")?;
            // SAFETY: lent for the call, by contract.
            let queries = unsafe { queries.view() }?;
            held.matches("the dimension of the queries", held.space.dim, queries.ncols())?;
            // SAFETY: lent for the call, by contract.
            let bytes = unsafe { wire::slice(packed, packed_len) }?;
            let expected = held.quantizer.packed_bytes(n);
            held.matches("the length of the packed codes", expected, bytes.len())?;
            if k == 0 {
                return Err(Error::failed("k is 0, expected at least 1"));
            }
            let places = queries.nrows().checked_mul(k);
            let places = places.ok_or_else(|| Error::failed("too many places"))?;
            // SAFETY: (q, k) of the caller's, by contract.
            let ids = unsafe { wire::slice_mut(ids, places) }?;
            // SAFETY: likewise.
            let estimates = unsafe { wire::slice_mut(estimates, places) }?;
            let hits = Hits::over(k, ids, estimates);
            if n == 0 || queries.nrows() == 0 {
                return Ok(());
            }
            let codes = Packed { bytes, n };
            in_pool(ctx.threads(), || held.quantizer.search(queries, codes, hits, &ctx))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }
}
