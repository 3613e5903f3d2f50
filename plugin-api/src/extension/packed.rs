//! Layouts of packed codes: `packed_bytes` and `pack` have the same types and meaning in every
//! extension that reads codes.

use crate::abi::{VqBuf, VqCodes, VqCtx};
use crate::handle::{CallError, Caller, Instance, call};
use crate::wire;
use core::ffi::c_void;
use ndarray::{ArrayView2, ArrayViewMut2};

type PackedBytes = unsafe extern "C" fn(*const c_void, usize) -> usize;
type Pack =
    unsafe extern "C" fn(*const c_void, *const VqCtx, VqCodes, *mut u8, usize, *mut VqBuf) -> i32;

/// Bytes that `n` codes take, packed.
///
/// # Errors
/// More than 16 times the codes and a mebibyte.
pub(super) fn bytes(
    instance: &Instance,
    packed_bytes: Option<PackedBytes>,
    n: usize,
) -> Result<usize, CallError> {
    let plain = n.saturating_mul(instance.code_bytes());
    let Some(packed_bytes) = packed_bytes else { return Ok(plain) };
    let bytes = instance.method().guarded("packed_bytes", || {
        // SAFETY: `this` is this method's instance.
        unsafe { packed_bytes(instance.this(), n) }
    });
    if bytes > plain.saturating_mul(16).saturating_add(1 << 20) {
        let asked = format!("asks {bytes} bytes for {n} codes");
        return Err(CallError::broke("packed_bytes", asked));
    }
    Ok(bytes)
}

/// Packs `codes` (n, code_bytes); copies them where the method has no other layout.
///
/// # Errors
/// As the plugin says; another length than that of the codes where these are copied.
pub(super) fn pack(
    instance: &Instance,
    pack: Option<Pack>,
    codes: ArrayView2<'_, u8>,
    caller: &Caller<'_>,
    packed: &mut [u8],
) -> Result<(), CallError> {
    let Some(pack) = pack else {
        let mut packed = ArrayViewMut2::from_shape(codes.dim(), packed).map_err(|_| {
            let now = instance.code_bytes();
            CallError::broke("code_bytes", format!("was {} and is {now}", codes.ncols()))
        })?;
        packed.assign(&codes);
        return Ok(());
    };
    let lending = instance.method().lending(caller);
    let ctx = lending.raw();
    let codes = wire::lendable(codes);
    let (out, len) = (packed.as_mut_ptr(), packed.len());
    call(instance.method(), "pack", |err| {
        // SAFETY: the arguments live during the call.
        unsafe { pack(instance.this(), &ctx, VqCodes::of(&codes.view()), out, len, err) }
    })
}
