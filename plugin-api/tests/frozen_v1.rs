//! ABI 1 is frozen: these are its numbers, names and types as they were released. A line that
//! fails here, or no longer compiles, is a change that would break plugins already shipped: take
//! the change back and offer the new capability as an extension id.
#![cfg(target_pointer_width = "64")]

use core::ffi::c_void;
use core::mem::{align_of, offset_of};
use vq_plugin_api::abi::{self, *};

type Text = VqStr;

/// Asserts each struct's size, that its fields are these and no more, and each field's offset and
/// type.
macro_rules! frozen {
    ($( $name:ident, $size:literal { $( $field:ident @ $offset:literal: $ty:ty ),+ $(,)? } )+) => { $(
        #[test]
        #[expect(non_snake_case, reason = "named after the struct")]
        fn $name() {
            assert_eq!((size_of::<$name>(), align_of::<$name>()), ($size, 8), "size, alignment");
            $(
                assert_eq!(offset_of!($name, $field), $offset, stringify!($field));
                let _: fn(&$name) -> &$ty = |table| &table.$field;
            )+
            // No `..`: a field more does not compile.
            let _ = |table: $name| { let $name { $( $field: _ ),+ } = table; };
        }
    )+ };
}

frozen! {
    VqStr, 16 { ptr @ 0: *const u8, len @ 8: usize }
    VqBuf, 24 { ptr @ 0: *mut u8, cap @ 8: usize, len @ 16: usize }
    VqValue, 56 {
        kind @ 0: u32, reserved @ 4: u32, i @ 8: i64, f @ 16: f64, s @ 24: Text,
        items @ 40: *const VqValue, n_items @ 48: usize,
    }
    VqEntry, 72 { name @ 0: Text, value @ 16: VqValue }
    VqConfig, 16 { entries @ 0: *const VqEntry, n_entries @ 8: usize }
    VqParam, 328 {
        struct_size @ 0: u32, kind @ 4: u32, item_kind @ 8: u32, reserved @ 12: u32,
        name @ 16: Text, help @ 32: Text, default_value @ 48: VqValue, min @ 104: VqValue,
        max @ 160: VqValue, choices @ 216: VqValue, grid @ 272: VqValue,
    }
    VqSpace, 16 { dim @ 0: usize, metric @ 8: u32, reserved @ 12: u32 }
    VqMat, 32 { data @ 0: *const f32, rows @ 8: usize, dim @ 16: usize, row_stride @ 24: usize }
    VqMatMut, 32 { data @ 0: *mut f32, rows @ 8: usize, dim @ 16: usize, row_stride @ 24: usize }
    VqCodes, 32 {
        data @ 0: *const u8, rows @ 8: usize, code_bytes @ 16: usize, row_stride @ 24: usize,
    }
    VqCodesMut, 32 {
        data @ 0: *mut u8, rows @ 8: usize, code_bytes @ 16: usize, row_stride @ 24: usize,
    }
    VqCtx, 56 {
        struct_size @ 0: u32, threads @ 4: u32, seed @ 8: u64, host @ 16: *mut c_void,
        log @ 24: unsafe extern "C" fn(*mut c_void, u32, Text),
        progress @ 32: unsafe extern "C" fn(*mut c_void, f32, Text) -> i32,
        parallel_for @ 40: unsafe extern "C" fn(*mut c_void, usize, VqTask, *mut c_void),
        get_host_extension @ 48: unsafe extern "C" fn(*mut c_void, Text) -> *const c_void,
    }
    VqGridRequest, 48 {
        struct_size @ 0: u32, reserved @ 4: u32, space @ 8: VqSpace, bits_per_dim @ 24: f64,
        axes @ 32: *const VqEntry, n_axes @ 40: usize,
    }
    VqGridSink, 32 {
        struct_size @ 0: u32, reserved @ 4: u32, host @ 8: *mut c_void,
        emit @ 16: unsafe extern "C" fn(*mut c_void, *const VqConfig, Text) -> i32,
        skip @ 24: unsafe extern "C" fn(*mut c_void, *const VqConfig, Text),
    }
    VqMethod, 264 {
        struct_size @ 0: u32, flags @ 4: u32, id @ 8: Text, name @ 24: Text, version @ 40: Text,
        description @ 56: Text, paper @ 72: Text, authors @ 88: Text, license @ 104: Text,
        homepage @ 120: Text, tags @ 136: Text, params @ 152: *const VqParam,
        n_params @ 160: usize,
        expand_grid @ 168: Option<
            unsafe extern "C" fn(*const VqGridRequest, *const VqGridSink, *mut VqBuf) -> i32,
        >,
        create @ 176: Option<
            unsafe extern "C" fn(
                *const VqConfig, *const VqSpace, *mut *mut c_void, *mut VqBuf,
            ) -> i32,
        >,
        destroy @ 184: Option<unsafe extern "C" fn(*mut c_void)>,
        fit @ 192: Option<
            unsafe extern "C" fn(*mut c_void, *const VqCtx, VqMat, *mut VqBuf) -> i32,
        >,
        code_bytes @ 200: Option<unsafe extern "C" fn(*const c_void) -> usize>,
        model_bytes @ 208: Option<unsafe extern "C" fn(*const c_void) -> u64>,
        ratio @ 216: Option<unsafe extern "C" fn(*const c_void) -> f64>,
        compress @ 224: Option<
            unsafe extern "C" fn(
                *const c_void, *const VqCtx, VqMat, VqCodesMut, *mut VqBuf,
            ) -> i32,
        >,
        decompress @ 232: Option<
            unsafe extern "C" fn(
                *const c_void, *const VqCtx, VqCodes, VqMatMut, *mut VqBuf,
            ) -> i32,
        >,
        save @ 240: Option<unsafe extern "C" fn(*const c_void, *mut VqBuf, *mut VqBuf) -> i32>,
        load @ 248: Option<unsafe extern "C" fn(*mut c_void, Text, *mut VqBuf) -> i32>,
        get_extension @ 256: Option<unsafe extern "C" fn(Text) -> *const c_void>,
    }
    VqPlugin, 56 {
        magic @ 0: [u8; 8], abi_major @ 8: u32, abi_minor @ 12: u32, struct_size @ 16: u32,
        reserved @ 20: u32, sdk @ 24: Text, methods @ 40: *const *const VqMethod,
        n_methods @ 48: usize,
    }
    VqScorerV1, 32 {
        struct_size @ 0: u32, flags @ 4: u32,
        packed_bytes @ 8: Option<unsafe extern "C" fn(*const c_void, usize) -> usize>,
        pack @ 16: Option<
            unsafe extern "C" fn(
                *const c_void, *const VqCtx, VqCodes, *mut u8, usize, *mut VqBuf,
            ) -> i32,
        >,
        score @ 24: Option<
            unsafe extern "C" fn(
                *const c_void, *const VqCtx, VqMat, *const u8, usize, usize, VqMatMut, VqMatMut,
                *mut VqBuf,
            ) -> i32,
        >,
    }
}

#[test]
fn a_task_is_a_plain_function_pointer() {
    assert_eq!(size_of::<VqTask>(), size_of::<unsafe extern "C" fn(*mut c_void, usize)>());
    let _: fn(VqTask) -> unsafe extern "C" fn(*mut c_void, usize) = |VqTask { run }| run;
}

#[test]
fn names_and_codes_are_those_of_the_release() {
    assert_eq!((ABI_MAJOR, MAGIC), (1, *b"VQPLUG\0\x01"));
    assert_eq!((ENTRY_SYMBOL, SCORER_V1), ("vq_plugin_entry_v1", "vq.scorer/1"));
    assert_eq!(MODEL_BYTES_UNKNOWN, u64::MAX);
    let _: fn(Entry) -> unsafe extern "C" fn(u32, u32) -> *const VqPlugin = |entry| entry;
    {
        use abi::rc::*;
        let codes = [OK, ERROR, PANIC, CANCELLED, SHORT_BUFFER, UNSUPPORTED, BAD_CONFIG];
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6]);
    }
    {
        use abi::kind::*;
        assert_eq!([NULL, BOOL, INT, FLOAT, STRING, LIST], [0, 1, 2, 3, 4, 5]);
    }
    use abi::flag::*;
    assert_eq!([NEEDS_TRAINING, DETERMINISTIC, THREAD_SAFE, SCORER_BOUNDS], [1, 2, 4, 1]);
}
