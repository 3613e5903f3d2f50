//! The C table of a scorer.

use super::Scorer;
use crate::abi::{VqBuf, VqCodes, VqCtx, VqMat, VqMatMut, VqScorerV1, flag};
use crate::adapter::{Held, context, guard, in_pool};
use crate::{Context, Error, wire};
use core::ffi::c_void;
use ndarray::{ArrayView2, ArrayViewMut2};
use std::marker::PhantomData;

/// The functions of `vq_scorer_v1` for a `Q`.
pub(super) struct Shim<Q>(PhantomData<Q>);

impl<Q: Scorer> Shim<Q> {
    pub(super) const TABLE: VqScorerV1 = VqScorerV1 {
        struct_size: size_of::<VqScorerV1>() as u32,
        flags: if Q::BOUNDS { flag::SCORER_BOUNDS } else { 0 },
        packed_bytes: if Q::PACKED { Some(Self::packed_bytes) } else { None },
        pack: if Q::PACKED { Some(Self::pack) } else { None },
        score: Some(Self::score),
    };

    /// Bytes per code that `score` reads.
    fn width(held: &Held<Q>) -> usize {
        if Q::PACKED { held.quantizer.packed_bytes() } else { held.code_bytes }
    }

    unsafe extern "C" fn packed_bytes(this: *const c_void, n: usize) -> usize {
        let mut bytes = 0;
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            let held = unsafe { Held::<Q>::of(this) }?;
            held.ready("packed_bytes")?;
            bytes = Self::width(held).saturating_mul(n);
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
            let shape = (codes.nrows(), Self::width(held));
            let packed = ArrayViewMut2::from_shape(shape, packed).map_err(|_| {
                Error::failed(format!("{packed_len} bytes for {} codes of {}", shape.0, shape.1))
            })?;
            if codes.nrows() == 0 {
                return Ok(());
            }
            in_pool(ctx.threads(), || held.quantizer.pack(codes, packed, &ctx))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    unsafe extern "C" fn score(
        this: *const c_void,
        ctx: *const VqCtx,
        queries: VqMat,
        codes: *const u8,
        codes_len: usize,
        n: usize,
        estimates: VqMatMut,
        bounds: VqMatMut,
        err: *mut VqBuf,
    ) -> i32 {
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            let held = unsafe { Held::<Q>::of(this) }?;
            // SAFETY: valid during the call, by contract.
            let ctx = Context::of(unsafe { context(ctx) }?);
            held.ready("score")?;
            // SAFETY: lent for the call, by contract.
            let queries = unsafe { queries.view() }?;
            // SAFETY: lent for the call, by contract.
            let codes = unsafe { wire::slice(codes, codes_len) }?;
            let width = Self::width(held);
            let codes = ArrayView2::from_shape((n, width), codes).map_err(|_| {
                Error::failed(format!("{codes_len} bytes for {n} codes of {width}"))
            })?;
            held.matches("the dimension of the queries", held.space.dim, queries.ncols())?;
            let view = |out: VqMatMut, what: &str| {
                // SAFETY: lent for the call, by contract.
                let out = unsafe { out.view_mut() }?;
                held.matches(&format!("the rows of the {what}"), queries.nrows(), out.nrows())?;
                held.matches(&format!("the columns of the {what}"), n, out.ncols())?;
                Ok(out)
            };
            if n == 0 || queries.nrows() == 0 {
                return Ok(());
            }
            let wanted = Q::BOUNDS && !bounds.data.is_null();
            let estimates = view(estimates, "estimates")?;
            let bounds = wanted.then(|| view(bounds, "bounds")).transpose()?;
            in_pool(ctx.threads(), || {
                held.quantizer.score_all(queries, codes, estimates, bounds, &ctx)
            })
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }
}
