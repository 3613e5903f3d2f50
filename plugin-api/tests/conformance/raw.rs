//! Faults that the safe SDK makes impossible: a good table with one function replaced.

use crate::ladder::{Fault, table};
use crate::{assert_only, fired, padded};
use std::collections::BTreeSet;
use std::sync::Mutex;
use vq_plugin_api::abi::{
    SCORER_V1, SEARCH_V1, VqBuf, VqCodes, VqCodesMut, VqCtx, VqMat, VqMatMut, VqMethod, VqScorerV1,
    VqSearchV1, VqStr, rc,
};
use vq_plugin_api::conformance::{Report, Severity};
use vq_plugin_api::{adapter, conformance};

type Compress = unsafe extern "C" fn(
    *const core::ffi::c_void,
    *const VqCtx,
    VqMat,
    VqCodesMut,
    *mut VqBuf,
) -> i32;

pub(crate) fn good() -> &'static VqMethod {
    static GOOD: std::sync::OnceLock<&'static VqMethod> = std::sync::OnceLock::new();
    GOOD.get_or_init(table::<{ Fault::None as u8 }>)
}

fn good_compress() -> Compress {
    good().compress.expect("the SDK fills the table")
}

fn changed(change: impl FnOnce(&mut VqMethod)) -> Report {
    let mut method = *good();
    change(&mut method);
    conformance::check(adapter::plugin(vec![Box::leak(Box::new(method))]))
}

macro_rules! replaced {
    ($($(#[$meta:meta])* $field:ident: $name:ident($($arg:ident: $ty:ty),+) $body:block => $rule:literal;)+) => { $(
        $(#[$meta])*
        #[test]
        fn $name() {
            unsafe extern "C" fn replacement($($arg: $ty),+) -> i32 $body
            let report = changed(|method| method.$field = Some(replacement));
            assert_only(&report, $rule, Severity::Error);
        }
    )+ };
}

pub(crate) type This = *const core::ffi::c_void;

replaced! {
    compress: codes_written_past_the_end_are_noticed(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good_compress()(this, ctx, x, codes, err) };
        // SAFETY: the kit's buffer goes on for a page after its last code.
        let past = unsafe { codes.data.add(codes.rows * codes.row_stride) };
        // SAFETY: as above.
        unsafe { past.write(0) };
        code
    } => "output-bounds";

    decompress: rows_written_before_the_start_are_noticed(
        this: This,
        ctx: *const VqCtx,
        codes: VqCodes,
        x: VqMatMut,
        err: *mut VqBuf
    ) {
        // SAFETY: the kit's buffer starts a page before its first row.
        let before = unsafe { x.data.sub(1) };
        // SAFETY: as above.
        unsafe { before.write(0.0) };
        // SAFETY: the arguments are passed on.
        unsafe { good().decompress.unwrap()(this, ctx, codes, x, err) }
    } => "output-bounds";

    save: a_model_written_past_the_end_is_noticed(this: This, model: *mut VqBuf, err: *mut VqBuf) {
        // SAFETY: the kit lends its buffer during the call.
        let buf = unsafe { *model };
        // SAFETY: the kit's buffer goes on for a page after its last byte.
        let past = unsafe { buf.ptr.add(buf.cap) };
        // SAFETY: as above.
        unsafe { past.write(0) };
        // SAFETY: the arguments are passed on.
        unsafe { good().save.unwrap()(this, model, err) }
    } => "output-bounds";

    compress: rows_that_compress_writes_into_are_noticed(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good_compress()(this, ctx, x, codes, err) };
        if x.rows > 0 {
            // SAFETY: the first of the values that were lent to read, in memory of the kit's.
            unsafe { x.data.cast_mut().write(0.0) };
        }
        code
    } => "lent-input";

    compress: what_lies_between_rows_is_nobodys_to_write(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        if x.row_stride > x.dim {
            // SAFETY: behind the first row and before the second.
            let between = unsafe { x.data.cast_mut().add(x.dim) };
            // SAFETY: as above.
            unsafe { between.write(0.0) };
        }
        // SAFETY: the arguments are passed on.
        unsafe { good_compress()(this, ctx, x, codes, err) }
    } => "lent-input";

    decompress: codes_that_decompress_writes_into_are_noticed(
        this: This,
        ctx: *const VqCtx,
        codes: VqCodes,
        x: VqMatMut,
        err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good().decompress.unwrap()(this, ctx, codes, x, err) };
        if codes.rows > 0 {
            // SAFETY: the first of the bytes that were lent to read, in memory of the kit's.
            unsafe { codes.data.cast_mut().write(1) };
            // SAFETY: likewise.
            let last = unsafe { codes.data.cast_mut().add(codes.code_bytes - 1) };
            // SAFETY: likewise.
            unsafe { last.write(0) };
        }
        code
    } => "lent-input";

    fit: training_rows_that_fit_writes_into_are_noticed(
        this: *mut core::ffi::c_void, ctx: *const VqCtx, train: VqMat, err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good().fit.unwrap()(this, ctx, train, err) };
        if train.rows > 3 {
            // SAFETY: the first of the values that were lent to read, in memory of the kit's.
            unsafe { train.data.cast_mut().write(0.0) };
        }
        code
    } => "lent-input";

    compress: an_ignored_stride_is_noticed(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        let x = VqMat { row_stride: x.dim, ..x };
        // SAFETY: the arguments are passed on, with fewer floats than were lent.
        unsafe { good_compress()(this, ctx, x, codes, err) }
    } => "strides";

    compress: a_refused_empty_batch_is_noticed(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        // An error with a sentence: "no vq_ctx".
        let ctx = if x.rows == 0 { core::ptr::null() } else { ctx };
        // SAFETY: the arguments are passed on.
        unsafe { good_compress()(this, ctx, x, codes, err) }
    } => "empty-batch";

    decompress: success_before_fit_is_noticed(
        this: This,
        ctx: *const VqCtx,
        codes: VqCodes,
        x: VqMatMut,
        err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good().decompress.unwrap()(this, ctx, codes, x, err) };
        // SAFETY: the kit lends its buffer during the call.
        let said = unsafe { (*err).ptr };
        // SAFETY: as above; text is there whenever an error is returned.
        let first = unsafe { said.read() };
        // "decompress was called before fit or load"
        if code == rc::ERROR && first == b'd' { rc::OK } else { code }
    } => "order";

    fit: an_ignored_dimension_is_noticed(
        this: *mut core::ffi::c_void, ctx: *const VqCtx, train: VqMat, err: *mut VqBuf
    ) {
        let fit = good().fit.unwrap();
        // SAFETY: the arguments are passed on.
        let code = unsafe { fit(this, ctx, train, err) };
        if code != rc::ERROR || train.rows != 50 {
            return code;
        }
        let narrow = VqMat { dim: train.dim - 1, ..train };
        // SAFETY: as above, with fewer floats than were lent.
        unsafe { fit(this, ctx, narrow, err) }
    } => "wrong-dimension";

    compress: an_unknown_return_code_is_noticed(
        _this: This, _ctx: *const VqCtx, _x: VqMat, _codes: VqCodesMut, _err: *mut VqBuf
    ) {
        99
    } => "return-values";
}

/// True for the id of the scorer.
fn is_scorer(id: VqStr) -> bool {
    // SAFETY: the host's text lives during the call.
    unsafe { core::slice::from_raw_parts(id.ptr, id.len) == SCORER_V1.as_bytes() }
}

pub(crate) fn good_scorer() -> &'static VqScorerV1 {
    let get = good().get_extension.expect("it has extensions");
    // SAFETY: the SDK's own table; the id lives during the call.
    let table = unsafe { get(VqStr::new(SCORER_V1)) };
    // SAFETY: what that id stands for, static.
    unsafe { &*table.cast() }
}

#[test]
fn places_that_a_search_does_not_write_are_noticed() {
    unsafe extern "C" fn nothing(
        _this: This,
        _ctx: *const VqCtx,
        _queries: VqMat,
        _packed: *const u8,
        _len: usize,
        _n: usize,
        _k: usize,
        _ids: *mut u64,
        _estimates: *mut f32,
        _err: *mut VqBuf,
    ) -> i32 {
        rc::OK
    }
    static TABLE: VqSearchV1 = VqSearchV1 {
        struct_size: size_of::<VqSearchV1>() as u32,
        flags: 0,
        packed_bytes: None,
        pack: None,
        search: Some(nothing),
        reserved: 0,
    };
    unsafe extern "C" fn extension(id: VqStr) -> *const core::ffi::c_void {
        // SAFETY: the host's text lives during the call.
        let id = unsafe { core::slice::from_raw_parts(id.ptr, id.len) };
        if id == SEARCH_V1.as_bytes() { (&raw const TABLE).cast() } else { core::ptr::null() }
    }
    let report = changed(|method| method.get_extension = Some(extension));
    let written = report.findings().filter(|finding| finding.rule == "fully-written").count();
    assert!(written > 0, "\n{report}");
    assert_eq!(report.errors().next().unwrap().function, "search");
}

#[test]
fn a_table_for_an_unknown_id_is_noticed() {
    unsafe extern "C" fn extension(id: VqStr) -> *const core::ffi::c_void {
        // SAFETY: the host's text lives during the call.
        let known = unsafe { core::slice::from_raw_parts(id.ptr, id.len) } == SEARCH_V1.as_bytes();
        if known { core::ptr::null() } else { core::ptr::from_ref(good_scorer()).cast() }
    }
    let report = changed(|method| method.get_extension = Some(extension));
    assert_only(&report, "extensions", Severity::Error);
}

/// The report on the good method with `scorer` for its own.
macro_rules! with_scorer {
    ($($field:ident: $value:expr),+) => {{
        static TABLE: std::sync::OnceLock<VqScorerV1> = std::sync::OnceLock::new();
        TABLE.get_or_init(|| VqScorerV1 { $($field: $value,)+ ..*good_scorer() });
        unsafe extern "C" fn extension(id: VqStr) -> *const core::ffi::c_void {
            if is_scorer(id) { core::ptr::from_ref(TABLE.get().unwrap()).cast() } else { core::ptr::null() }
        }
        changed(|method| method.get_extension = Some(extension))
    }};
}

#[test]
fn queries_and_packed_codes_that_score_writes_into_are_noticed() {
    unsafe extern "C" fn into_queries(
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
        // SAFETY: the arguments are passed on.
        let code = unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) };
        if queries.rows > 0 {
            // SAFETY: the first of the values that were lent to read, in memory of the kit's.
            unsafe { queries.data.cast_mut().write(9.0) };
        }
        code
    }
    unsafe extern "C" fn into_codes(
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
        // SAFETY: the arguments are passed on.
        let code = unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) };
        if len > 0 {
            // SAFETY: the first of the bytes that were lent to read, in memory of the kit's.
            let first = unsafe { codes.read() };
            // SAFETY: likewise.
            unsafe { codes.cast_mut().write(!first) };
        }
        code
    }
    for (report, name) in [
        (with_scorer!(score: Some(into_queries)), "queries"),
        (with_scorer!(score: Some(into_codes)), "codes"),
    ] {
        assert_only(&report, "lent-input", Severity::Error);
        let finding = report.errors().next().unwrap();
        let found = format!("wrote into {name}, which it was lent");
        assert_eq!((finding.function, &finding.found), ("score", &found));
    }
}

#[test]
fn packed_bytes_that_nobody_reads_may_stay_unwritten() {
    let report = with_scorer!(
        packed_bytes: Some(padded::packed_bytes),
        pack: Some(padded::pack),
        score: Some(padded::score)
    );
    assert_eq!(fired(&report), [].into(), "\n{report}");
}

#[test]
fn packed_bytes_that_are_read_must_be_written() {
    let report = with_scorer!(
        packed_bytes: Some(padded::packed_bytes),
        pack: Some(padded::pack),
        score: Some(padded::score_of_padding)
    );
    assert_only(&report, "fully-written", Severity::Error);
    assert_eq!(report.errors().next().unwrap().function, "pack");
}

#[test]
fn a_table_without_fit_is_noticed() {
    let report = changed(|method| method.fit = None);
    assert_only(&report, "table", Severity::Error);
    assert_eq!(report.errors().next().unwrap().found, "method ladder: it has no fit");
}

/// An instance that was loaded and has no scorer, or another: only decoding is promised.
#[test]
fn a_scorer_that_is_gone_after_load_is_noted_and_no_fault() {
    unsafe extern "C" fn only_once_fitted(
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
        if LOADED.lock().unwrap().contains(&this.addr()) {
            const WHY: &str = "not after load";
            // SAFETY: the kit lends its buffer, larger than this, during the call.
            let text = unsafe { &mut *err };
            // SAFETY: as above.
            unsafe { text.ptr.copy_from_nonoverlapping(WHY.as_ptr(), WHY.len()) };
            text.len = WHY.len();
            return rc::UNSUPPORTED;
        }
        let score = good_scorer().score.expect("it scores");
        // SAFETY: the arguments are passed on.
        unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) }
    }
    static LOADED: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());
    static TABLE: std::sync::OnceLock<VqScorerV1> = std::sync::OnceLock::new();
    TABLE.get_or_init(|| VqScorerV1 { score: Some(only_once_fitted), ..*good_scorer() });
    unsafe extern "C" fn extension(id: VqStr) -> *const core::ffi::c_void {
        if is_scorer(id) {
            core::ptr::from_ref(TABLE.get().unwrap()).cast()
        } else {
            core::ptr::null()
        }
    }
    unsafe extern "C" fn load(this: *mut core::ffi::c_void, model: VqStr, err: *mut VqBuf) -> i32 {
        LOADED.lock().unwrap().insert(this.addr());
        // SAFETY: the arguments are passed on.
        unsafe { good().load.unwrap()(this, model, err) }
    }
    unsafe extern "C" fn fit(
        this: *mut core::ffi::c_void,
        ctx: *const VqCtx,
        train: VqMat,
        err: *mut VqBuf,
    ) -> i32 {
        LOADED.lock().unwrap().remove(&this.addr());
        // SAFETY: the arguments are passed on.
        unsafe { good().fit.unwrap()(this, ctx, train, err) }
    }
    let report = changed(|method| {
        method.get_extension = Some(extension);
        method.load = Some(load);
        method.fit = Some(fit);
    });
    assert_eq!(fired(&report), [].into(), "\n{report}");
    let note = &report.methods[0].skipped[0];
    assert_eq!(note.rule, "save-load");
    assert!(note.why.contains("leaves its metrics unproven"), "{note}");
}
