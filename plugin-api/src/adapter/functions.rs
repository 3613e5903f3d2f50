//! The functions of `vq_method`.

use super::held::{Held, context, guard, in_pool};
use crate::abi::{
    MODEL_BYTES_UNKNOWN, VqBuf, VqCodes, VqCodesMut, VqConfig, VqCtx, VqMat, VqMatMut, VqSpace,
    VqStr,
};
use crate::context::Context;
use crate::error::ErrorKind;
use crate::params::Params;
use crate::{Error, Quantizer, Space, wire};
use core::ffi::c_void;
use std::marker::PhantomData;

/// The functions of `vq_method` for a `Q`.
pub(super) struct Shim<Q>(PhantomData<Q>);

impl<Q: Quantizer> Shim<Q> {
    pub(super) unsafe extern "C" fn create(
        config: *const VqConfig,
        space: *const VqSpace,
        out: *mut *mut c_void,
        err: *mut VqBuf,
    ) -> i32 {
        let body = || {
            // SAFETY: lent for the call, by contract.
            let config = unsafe { wire::read_config(config) }?;
            // SAFETY: null or valid during the call, by contract.
            let space = unsafe { space.as_ref() }.ok_or_else(|| Error::failed("no space"))?;
            let space = Space::of(*space)?;
            // SAFETY: null or the caller's, by contract.
            let out = unsafe { out.as_mut() }
                .ok_or_else(|| Error::failed("no place for the instance"))?;
            let quantizer = Q::create(Q::Params::from_config(&config)?, space)?;
            let code_bytes = quantizer.code_bytes();
            let held = Held { quantizer, space, code_bytes, ready: false };
            *out = Box::into_raw(Box::new(held)).cast();
            Ok(())
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    pub(super) unsafe extern "C" fn destroy(this: *mut c_void) {
        if this.is_null() {
            return;
        }
        let body = || {
            // SAFETY: `this` came from `create` and the caller gives it up.
            drop(unsafe { Box::from_raw(this.cast::<Held<Q>>()) });
            Ok(())
        };
        // SAFETY: a null buffer is allowed.
        let _ = unsafe { guard(core::ptr::null_mut(), body) };
    }

    pub(super) unsafe extern "C" fn fit(
        this: *mut c_void,
        ctx: *const VqCtx,
        train: VqMat,
        err: *mut VqBuf,
    ) -> i32 {
        let body = || {
            // SAFETY: `this` came from `create`; fit has it alone, by contract.
            let held = unsafe { Held::<Q>::of_mut(this) }?;
            // SAFETY: valid during the call, by contract.
            let ctx = Context::of(unsafe { context(ctx) }?);
            // SAFETY: lent for the call, by contract.
            let train = unsafe { train.view() }?;
            held.matches("the dimension of the training rows", held.space.dim, train.ncols())?;
            in_pool(ctx.threads(), || held.quantizer.fit(train, &ctx))?;
            held.is_ready();
            Ok(())
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    pub(super) unsafe extern "C" fn code_bytes(this: *const c_void) -> usize {
        let mut bytes = 0;
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            bytes = unsafe { Held::<Q>::of(this) }?.quantizer.code_bytes();
            Ok(())
        };
        // SAFETY: a null buffer is allowed.
        let _ = unsafe { guard(core::ptr::null_mut(), body) };
        bytes
    }

    pub(super) unsafe extern "C" fn model_bytes(this: *const c_void) -> u64 {
        let mut bytes = MODEL_BYTES_UNKNOWN;
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            let held = unsafe { Held::<Q>::of(this) }?;
            held.ready("model_bytes")?;
            bytes = held.quantizer.model_bytes().unwrap_or(MODEL_BYTES_UNKNOWN);
            Ok(())
        };
        // SAFETY: a null buffer is allowed.
        let _ = unsafe { guard(core::ptr::null_mut(), body) };
        bytes
    }

    pub(super) unsafe extern "C" fn ratio(this: *const c_void) -> f64 {
        let mut ratio = f64::NAN;
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            let held = unsafe { Held::<Q>::of(this) }?;
            ratio = held.quantizer.ratio(held.space);
            Ok(())
        };
        // SAFETY: a null buffer is allowed.
        let _ = unsafe { guard(core::ptr::null_mut(), body) };
        ratio
    }

    pub(super) unsafe extern "C" fn compress(
        this: *const c_void,
        ctx: *const VqCtx,
        x: VqMat,
        codes: VqCodesMut,
        err: *mut VqBuf,
    ) -> i32 {
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            let held = unsafe { Held::<Q>::of(this) }?;
            // SAFETY: valid during the call, by contract.
            let ctx = Context::of(unsafe { context(ctx) }?);
            // SAFETY: lent for the call, by contract.
            let x = unsafe { x.view() }?;
            // SAFETY: lent for the call, by contract.
            let codes = unsafe { codes.view_mut() }?;
            held.ready("compress")?;
            held.matches("the dimension of the rows", held.space.dim, x.ncols())?;
            held.matches("the width of the codes", held.code_bytes, codes.ncols())?;
            held.matches("the number of codes", x.nrows(), codes.nrows())?;
            if x.is_empty() {
                return Ok(());
            }
            in_pool(ctx.threads(), || held.quantizer.compress(x, codes, &ctx))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    pub(super) unsafe extern "C" fn decompress(
        this: *const c_void,
        ctx: *const VqCtx,
        codes: VqCodes,
        x: VqMatMut,
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
            let x = unsafe { x.view_mut() }?;
            held.ready("decompress")?;
            held.matches("the width of the codes", held.code_bytes, codes.ncols())?;
            held.matches("the dimension of the rows", held.space.dim, x.ncols())?;
            held.matches("the number of rows", codes.nrows(), x.nrows())?;
            if codes.nrows() == 0 {
                return Ok(());
            }
            in_pool(ctx.threads(), || held.quantizer.decompress(codes, x, &ctx))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    pub(super) unsafe extern "C" fn save(
        this: *const c_void,
        model: *mut VqBuf,
        err: *mut VqBuf,
    ) -> i32 {
        let body = || {
            // SAFETY: `this` came from `create`, by contract.
            let held = unsafe { Held::<Q>::of(this) }?;
            held.ready("save")?;
            // SAFETY: null or the caller's, by contract.
            let buf = unsafe { model.as_mut() }.ok_or_else(|| Error::failed("no buffer"))?;
            let bytes = held.quantizer.save()?;
            // SAFETY: `cap` bytes are the caller's to lend.
            let room = unsafe { wire::slice_mut(buf.ptr, buf.cap) }?;
            buf.len = bytes.len();
            match room.get_mut(..bytes.len()) {
                Some(room) => room.copy_from_slice(&bytes),
                None => {
                    let text = format!("the model has {} bytes", bytes.len());
                    return Err(Error::new(ErrorKind::ShortBuffer, text));
                }
            }
            Ok(())
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    pub(super) unsafe extern "C" fn load(this: *mut c_void, model: VqStr, err: *mut VqBuf) -> i32 {
        let body = || {
            // SAFETY: `this` came from `create`; load has it alone, by contract.
            let held = unsafe { Held::<Q>::of_mut(this) }?;
            // SAFETY: lent for the call, by contract.
            let model = unsafe { wire::slice(model.ptr, model.len) }?;
            held.quantizer.load(model)?;
            held.is_ready();
            Ok(())
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }
}
