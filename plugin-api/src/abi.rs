//! The `repr(C)` twin of `include/vq_plugin.h`, version 1, frozen.
//!
//! The header documents each field and function; this file only mirrors it. Both sides assert
//! the same sizes and offsets, and `StableAbi` lets the host compare a Rust plugin's view of
//! these types with its own before it calls anything.
//!
//! The types behind `void *` (extensions) are not reached by that comparison: they are told
//! apart by their id and `struct_size`.

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use core::ffi::c_void;

/// Major version of the contract; a plugin of another one is refused.
pub const ABI_MAJOR: u32 = 1;
/// Minor version: new extension ids, never new fields.
pub const ABI_MINOR: u32 = 1;
/// The first eight bytes of a [`VqPlugin`].
pub const MAGIC: [u8; 8] = *b"VQPLUG\0\x01";
/// The symbol every plugin exports.
pub const ENTRY_SYMBOL: &str = "vq_plugin_entry_v1";
/// Id of the scorer extension, [`VqScorerV1`].
pub const SCORER_V1: &str = "vq.scorer/1";
/// Id of the search extension, [`VqSearchV1`], of minor version 1.
pub const SEARCH_V1: &str = "vq.search/1";
/// The id of a place that a search has no code for.
pub const SEARCH_NONE: u64 = u64::MAX;
/// `model_bytes` of a method that does not state it.
pub const MODEL_BYTES_UNKNOWN: u64 = u64::MAX;

/// Signature of [`ENTRY_SYMBOL`].
pub type Entry = unsafe extern "C" fn(host_major: u32, host_minor: u32) -> *const VqPlugin;

/// Return codes (`vq_rc`).
#[expect(missing_docs, reason = "named and documented in vq_plugin.h")]
pub mod rc {
    pub const OK: i32 = 0;
    pub const ERROR: i32 = 1;
    pub const PANIC: i32 = 2;
    pub const CANCELLED: i32 = 3;
    pub const SHORT_BUFFER: i32 = 4;
    pub const UNSUPPORTED: i32 = 5;
    pub const BAD_CONFIG: i32 = 6;
}

/// Kinds of a [`VqValue`] (`VQ_KIND_*`).
#[expect(missing_docs, reason = "named and documented in vq_plugin.h")]
pub mod kind {
    pub const NULL: u32 = 0;
    pub const BOOL: u32 = 1;
    pub const INT: u32 = 2;
    pub const FLOAT: u32 = 3;
    pub const STRING: u32 = 4;
    pub const LIST: u32 = 5;
}

/// Flags of a method and of its extensions.
#[expect(missing_docs, reason = "named and documented in vq_plugin.h")]
pub mod flag {
    pub const NEEDS_TRAINING: u32 = 1;
    pub const DETERMINISTIC: u32 = 2;
    pub const THREAD_SAFE: u32 = 4;
    pub const SCORER_BOUNDS: u32 = 1;
    pub const SEARCH_RANKS_ESTIMATES: u32 = 1;
}

/// The task of `parallel_for`: a plain function pointer to C, wrapped because abi_stable does not
/// describe function pointers nested in signatures.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct VqTask {
    /// The function; it must not unwind.
    pub run: unsafe extern "C" fn(task_ctx: *mut c_void, i: usize),
}

macro_rules! tables {
    ($(
        $(#[$meta:meta])*
        struct $name:ident = $c_name:literal, $size:literal {
            $( $field:ident: $ty:ty = $offset:literal ),+ $(,)?
        }
    )+) => { $(
        #[doc = concat!("`", $c_name, "` of the C header.")]
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, StableAbi)]
        #[expect(missing_docs, reason = "fields are documented in vq_plugin.h")]
        pub struct $name { $( pub $field: $ty ),+ }

        #[cfg(target_pointer_width = "64")]
        const _: () = {
            assert!(size_of::<$name>() == $size, concat!($c_name, " has another size in C"));
            $( assert!(
                core::mem::offset_of!($name, $field) == $offset,
                concat!($c_name, ".", stringify!($field), " lies elsewhere in C")
            ); )+
        };
    )+ };
}

tables! {
    struct VqStr = "vq_str", 16 { ptr: *const u8 = 0, len: usize = 8 }
    struct VqBuf = "vq_buf", 24 { ptr: *mut u8 = 0, cap: usize = 8, len: usize = 16 }
    struct VqValue = "vq_value", 56 {
        kind: u32 = 0, reserved: u32 = 4, i: i64 = 8, f: f64 = 16, s: VqStr = 24,
        items: *const VqValue = 40, n_items: usize = 48,
    }
    struct VqEntry = "vq_entry", 72 { name: VqStr = 0, value: VqValue = 16 }
    struct VqConfig = "vq_config", 16 { entries: *const VqEntry = 0, n_entries: usize = 8 }
    struct VqParam = "vq_param", 328 {
        struct_size: u32 = 0, kind: u32 = 4, item_kind: u32 = 8, reserved: u32 = 12,
        name: VqStr = 16, help: VqStr = 32, default_value: VqValue = 48, min: VqValue = 104,
        max: VqValue = 160, choices: VqValue = 216, grid: VqValue = 272,
    }
    struct VqSpace = "vq_space", 16 { dim: usize = 0, metric: u32 = 8, reserved: u32 = 12 }
    struct VqMat = "vq_mat", 32 {
        data: *const f32 = 0, rows: usize = 8, dim: usize = 16, row_stride: usize = 24,
    }
    struct VqMatMut = "vq_mat_mut", 32 {
        data: *mut f32 = 0, rows: usize = 8, dim: usize = 16, row_stride: usize = 24,
    }
    struct VqCodes = "vq_codes", 32 {
        data: *const u8 = 0, rows: usize = 8, code_bytes: usize = 16, row_stride: usize = 24,
    }
    struct VqCodesMut = "vq_codes_mut", 32 {
        data: *mut u8 = 0, rows: usize = 8, code_bytes: usize = 16, row_stride: usize = 24,
    }
    struct VqCtx = "vq_ctx", 56 {
        struct_size: u32 = 0, threads: u32 = 4, seed: u64 = 8, host: *mut c_void = 16,
        log: unsafe extern "C" fn(host: *mut c_void, level: u32, text: VqStr) = 24,
        progress: unsafe extern "C" fn(host: *mut c_void, fraction: f32, stage: VqStr) -> i32 = 32,
        parallel_for: unsafe extern "C" fn(
            host: *mut c_void,
            n: usize,
            task: VqTask,
            task_ctx: *mut c_void,
        ) = 40,
        get_host_extension: unsafe extern "C" fn(host: *mut c_void, id: VqStr) -> *const c_void = 48,
    }
    struct VqGridRequest = "vq_grid_request", 48 {
        struct_size: u32 = 0, reserved: u32 = 4, space: VqSpace = 8, bits_per_dim: f64 = 24,
        axes: *const VqEntry = 32, n_axes: usize = 40,
    }
    struct VqGridSink = "vq_grid_sink", 32 {
        struct_size: u32 = 0, reserved: u32 = 4, host: *mut c_void = 8,
        emit: unsafe extern "C" fn(host: *mut c_void, config: *const VqConfig, label: VqStr) -> i32 = 16,
        skip: unsafe extern "C" fn(host: *mut c_void, config: *const VqConfig, reason: VqStr) = 24,
    }
    struct VqMethod = "vq_method", 264 {
        struct_size: u32 = 0, flags: u32 = 4,
        id: VqStr = 8, name: VqStr = 24, version: VqStr = 40, description: VqStr = 56,
        paper: VqStr = 72, authors: VqStr = 88, license: VqStr = 104, homepage: VqStr = 120,
        tags: VqStr = 136,
        params: *const VqParam = 152, n_params: usize = 160,
        expand_grid: Option<unsafe extern "C" fn(
            request: *const VqGridRequest, sink: *const VqGridSink, err: *mut VqBuf,
        ) -> i32> = 168,
        create: Option<unsafe extern "C" fn(
            config: *const VqConfig, space: *const VqSpace, out: *mut *mut c_void, err: *mut VqBuf,
        ) -> i32> = 176,
        destroy: Option<unsafe extern "C" fn(this: *mut c_void)> = 184,
        fit: Option<unsafe extern "C" fn(
            this: *mut c_void, ctx: *const VqCtx, train: VqMat, err: *mut VqBuf,
        ) -> i32> = 192,
        code_bytes: Option<unsafe extern "C" fn(this: *const c_void) -> usize> = 200,
        model_bytes: Option<unsafe extern "C" fn(this: *const c_void) -> u64> = 208,
        ratio: Option<unsafe extern "C" fn(this: *const c_void) -> f64> = 216,
        compress: Option<unsafe extern "C" fn(
            this: *const c_void, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf,
        ) -> i32> = 224,
        decompress: Option<unsafe extern "C" fn(
            this: *const c_void, ctx: *const VqCtx, codes: VqCodes, x: VqMatMut, err: *mut VqBuf,
        ) -> i32> = 232,
        save: Option<unsafe extern "C" fn(
            this: *const c_void, model: *mut VqBuf, err: *mut VqBuf,
        ) -> i32> = 240,
        load: Option<unsafe extern "C" fn(this: *mut c_void, model: VqStr, err: *mut VqBuf) -> i32> = 248,
        get_extension: Option<unsafe extern "C" fn(id: VqStr) -> *const c_void> = 256,
    }
    struct VqPlugin = "vq_plugin", 56 {
        magic: [u8; 8] = 0, abi_major: u32 = 8, abi_minor: u32 = 12, struct_size: u32 = 16,
        reserved: u32 = 20, sdk: VqStr = 24, methods: *const *const VqMethod = 40,
        n_methods: usize = 48,
    }
    struct VqScorerV1 = "vq_scorer_v1", 32 {
        struct_size: u32 = 0, flags: u32 = 4,
        packed_bytes: Option<unsafe extern "C" fn(this: *const c_void, n: usize) -> usize> = 8,
        pack: Option<unsafe extern "C" fn(
            this: *const c_void, ctx: *const VqCtx, codes: VqCodes,
            packed: *mut u8, packed_len: usize, err: *mut VqBuf,
        ) -> i32> = 16,
        score: Option<unsafe extern "C" fn(
            this: *const c_void, ctx: *const VqCtx, queries: VqMat,
            codes: *const u8, codes_len: usize, n: usize,
            estimates: VqMatMut, bounds: VqMatMut, err: *mut VqBuf,
        ) -> i32> = 24,
    }
    struct VqSearchV1 = "vq_search_v1", 40 {
        struct_size: u32 = 0, flags: u32 = 4,
        packed_bytes: Option<unsafe extern "C" fn(this: *const c_void, n: usize) -> usize> = 8,
        pack: Option<unsafe extern "C" fn(
            this: *const c_void, ctx: *const VqCtx, codes: VqCodes,
            packed: *mut u8, packed_len: usize, err: *mut VqBuf,
        ) -> i32> = 16,
        search: Option<unsafe extern "C" fn(
            this: *const c_void, ctx: *const VqCtx, queries: VqMat,
            packed: *const u8, packed_len: usize, n: usize, k: usize,
            ids: *mut u64, estimates: *mut f32, err: *mut VqBuf,
        ) -> i32> = 24,
        reserved: u64 = 32,
    }
}

// SAFETY: a table reachable from a plugin is never written after the entry function returned it.
unsafe impl Sync for VqPlugin {}
// SAFETY: as above; the pointers inside point to memory that lives until the process ends.
unsafe impl Send for VqPlugin {}
// SAFETY: as for VqPlugin.
unsafe impl Sync for VqMethod {}
// SAFETY: as for VqPlugin.
unsafe impl Send for VqMethod {}

impl VqStr {
    /// Borrows `text`; the caller keeps it alive as long as the contract says.
    pub fn new(text: &str) -> Self {
        VqStr { ptr: text.as_ptr(), len: text.len() }
    }
}

impl VqValue {
    /// The absent value.
    pub const NULL: VqValue = VqValue {
        kind: kind::NULL,
        reserved: 0,
        i: 0,
        f: 0.0,
        s: VqStr { ptr: core::ptr::null(), len: 0 },
        items: core::ptr::null(),
        n_items: 0,
    };
}

/// What a Rust plugin exports through abi_stable besides the C symbol, so that a host built with
/// other types refuses it with a sentence instead of a crash. The calls go through the C table.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = VqRootRef)))]
pub struct VqRoot {
    /// The same table that [`ENTRY_SYMBOL`] answers.
    #[sabi(last_prefix_field)]
    pub plugin: extern "C" fn() -> *const VqPlugin,
}

impl RootModule for VqRootRef {
    abi_stable::declare_root_module_statics! {VqRootRef}
    const BASE_NAME: &'static str = "vq_plugin";
    const NAME: &'static str = "vq_plugin";
    const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
}
