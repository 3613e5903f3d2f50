//! Packed codes that begin with eight bytes that nothing is written into.

use crate::raw::{This, good, good_scorer};
use vq_plugin_api::abi::{VqBuf, VqCodes, VqCtx, VqMat, VqMatMut, rc};

pub(crate) const PADDING: usize = 8;

pub(crate) unsafe extern "C" fn packed_bytes(this: This, n: usize) -> usize {
    // SAFETY: the instance is passed on.
    PADDING + n * unsafe { good().code_bytes.expect("it says so")(this) }
}

pub(crate) unsafe extern "C" fn pack(
    _this: This,
    _ctx: *const VqCtx,
    codes: VqCodes,
    packed: *mut u8,
    _packed_len: usize,
    _err: *mut VqBuf,
) -> i32 {
    for row in 0..codes.rows {
        // SAFETY: a row of what was lent.
        let from = unsafe { codes.data.add(row * codes.row_stride) };
        // SAFETY: its place behind the padding.
        let to = unsafe { packed.add(PADDING + row * codes.code_bytes) };
        // SAFETY: a code of each, in memory of its own.
        unsafe { to.copy_from_nonoverlapping(from, codes.code_bytes) };
    }
    rc::OK
}

pub(crate) unsafe extern "C" fn score(
    this: This,
    ctx: *const VqCtx,
    queries: VqMat,
    codes: *const u8,
    len: usize,
    n: usize,
    estimates: VqMatMut,
    bounds: VqMatMut,
    err: *mut VqBuf,
) -> i32 {
    let score = good_scorer().score.expect("it scores");
    // SAFETY: `packed_bytes` has asked for the padding.
    let (codes, len) = (unsafe { codes.add(PADDING) }, len - PADDING);
    // SAFETY: the arguments are passed on.
    unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) }
}

/// The same, adding a byte of the padding to the first estimate.
pub(crate) unsafe extern "C" fn score_of_padding(
    this: This,
    ctx: *const VqCtx,
    queries: VqMat,
    codes: *const u8,
    len: usize,
    n: usize,
    estimates: VqMatMut,
    bounds: VqMatMut,
    err: *mut VqBuf,
) -> i32 {
    // SAFETY: the arguments are passed on.
    let code = unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) };
    if estimates.rows > 0 && n > 0 {
        // SAFETY: the first byte of the padding.
        let padding = f32::from(unsafe { codes.read() });
        // SAFETY: the first estimate, which was just written.
        let first = unsafe { estimates.data.read() };
        // SAFETY: likewise.
        unsafe { estimates.data.write(first + padding) };
    }
    code
}
