//! The tables of ABI 1, copied when it was released. Never edited.

use core::ffi::c_void;

pub const ABI_MAJOR: u32 = 1;
pub const ABI_MINOR: u32 = 0;
pub const MAGIC: [u8; 8] = *b"VQPLUG\0\x01";
pub const SCORER_V1: &str = "vq.scorer/1";

pub mod rc {
    pub const OK: i32 = 0;
    pub const ERROR: i32 = 1;
    pub const PANIC: i32 = 2;
    pub const CANCELLED: i32 = 3;
    pub const SHORT_BUFFER: i32 = 4;
    pub const BAD_CONFIG: i32 = 6;
}

pub mod kind {
    pub const NULL: u32 = 0;
    pub const BOOL: u32 = 1;
    pub const INT: u32 = 2;
    pub const FLOAT: u32 = 3;
    pub const STRING: u32 = 4;
    pub const LIST: u32 = 5;
}

pub mod flag {
    pub const NEEDS_TRAINING: u32 = 1;
    pub const DETERMINISTIC: u32 = 2;
    pub const THREAD_SAFE: u32 = 4;
}

pub const METRIC_L2: u32 = 0;
pub const LOG_INFO: u32 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VqStr {
    pub ptr: *const u8,
    pub len: usize,
}

#[repr(C)]
pub struct VqBuf {
    pub ptr: *mut u8,
    pub cap: usize,
    pub len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VqValue {
    pub kind: u32,
    pub reserved: u32,
    pub i: i64,
    pub f: f64,
    pub s: VqStr,
    pub items: *const VqValue,
    pub n_items: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VqEntry {
    pub name: VqStr,
    pub value: VqValue,
}

#[repr(C)]
pub struct VqConfig {
    pub entries: *const VqEntry,
    pub n_entries: usize,
}

#[repr(C)]
pub struct VqParam {
    pub struct_size: u32,
    pub kind: u32,
    pub item_kind: u32,
    pub reserved: u32,
    pub name: VqStr,
    pub help: VqStr,
    pub default_value: VqValue,
    pub min: VqValue,
    pub max: VqValue,
    pub choices: VqValue,
    pub grid: VqValue,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VqSpace {
    pub dim: usize,
    pub metric: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VqMat {
    pub data: *const f32,
    pub rows: usize,
    pub dim: usize,
    pub row_stride: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VqMatMut {
    pub data: *mut f32,
    pub rows: usize,
    pub dim: usize,
    pub row_stride: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VqCodes {
    pub data: *const u8,
    pub rows: usize,
    pub code_bytes: usize,
    pub row_stride: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VqCodesMut {
    pub data: *mut u8,
    pub rows: usize,
    pub code_bytes: usize,
    pub row_stride: usize,
}

#[repr(C)]
pub struct VqCtx {
    pub struct_size: u32,
    pub threads: u32,
    pub seed: u64,
    pub host: *mut c_void,
    pub log: unsafe extern "C" fn(*mut c_void, u32, VqStr),
    pub progress: unsafe extern "C" fn(*mut c_void, f32, VqStr) -> i32,
    pub parallel_for: unsafe extern "C" fn(
        *mut c_void,
        usize,
        unsafe extern "C" fn(*mut c_void, usize),
        *mut c_void,
    ),
    pub get_host_extension: unsafe extern "C" fn(*mut c_void, VqStr) -> *const c_void,
}

#[repr(C)]
pub struct VqGridRequest {
    pub struct_size: u32,
    pub reserved: u32,
    pub space: VqSpace,
    pub bits_per_dim: f64,
    pub axes: *const VqEntry,
    pub n_axes: usize,
}

#[repr(C)]
pub struct VqGridSink {
    pub struct_size: u32,
    pub reserved: u32,
    pub host: *mut c_void,
    pub emit: unsafe extern "C" fn(*mut c_void, *const VqConfig, VqStr) -> i32,
    pub skip: unsafe extern "C" fn(*mut c_void, *const VqConfig, VqStr),
}

pub type ExpandGrid =
    unsafe extern "C" fn(*const VqGridRequest, *const VqGridSink, *mut VqBuf) -> i32;
pub type Create =
    unsafe extern "C" fn(*const VqConfig, *const VqSpace, *mut *mut c_void, *mut VqBuf) -> i32;
pub type Fit = unsafe extern "C" fn(*mut c_void, *const VqCtx, VqMat, *mut VqBuf) -> i32;
pub type Compress =
    unsafe extern "C" fn(*const c_void, *const VqCtx, VqMat, VqCodesMut, *mut VqBuf) -> i32;
pub type Decompress =
    unsafe extern "C" fn(*const c_void, *const VqCtx, VqCodes, VqMatMut, *mut VqBuf) -> i32;

#[repr(C)]
pub struct VqMethod {
    pub struct_size: u32,
    pub flags: u32,
    pub id: VqStr,
    pub name: VqStr,
    pub version: VqStr,
    pub description: VqStr,
    pub paper: VqStr,
    pub authors: VqStr,
    pub license: VqStr,
    pub homepage: VqStr,
    pub tags: VqStr,
    pub params: *const VqParam,
    pub n_params: usize,
    pub expand_grid: Option<ExpandGrid>,
    pub create: Option<Create>,
    pub destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    pub fit: Option<Fit>,
    pub code_bytes: Option<unsafe extern "C" fn(*const c_void) -> usize>,
    pub model_bytes: Option<unsafe extern "C" fn(*const c_void) -> u64>,
    pub ratio: Option<unsafe extern "C" fn(*const c_void) -> f64>,
    pub compress: Option<Compress>,
    pub decompress: Option<Decompress>,
    pub save: Option<unsafe extern "C" fn(*const c_void, *mut VqBuf, *mut VqBuf) -> i32>,
    pub load: Option<unsafe extern "C" fn(*mut c_void, VqStr, *mut VqBuf) -> i32>,
    pub get_extension: Option<unsafe extern "C" fn(VqStr) -> *const c_void>,
}

#[repr(C)]
pub struct VqPlugin {
    pub magic: [u8; 8],
    pub abi_major: u32,
    pub abi_minor: u32,
    pub struct_size: u32,
    pub reserved: u32,
    pub sdk: VqStr,
    pub methods: *const *const VqMethod,
    pub n_methods: usize,
}

pub type Pack =
    unsafe extern "C" fn(*const c_void, *const VqCtx, VqCodes, *mut u8, usize, *mut VqBuf) -> i32;
pub type Score = unsafe extern "C" fn(
    *const c_void,
    *const VqCtx,
    VqMat,
    *const u8,
    usize,
    usize,
    VqMatMut,
    VqMatMut,
    *mut VqBuf,
) -> i32;

#[repr(C)]
pub struct VqScorerV1 {
    pub struct_size: u32,
    pub flags: u32,
    pub packed_bytes: Option<unsafe extern "C" fn(*const c_void, usize) -> usize>,
    pub pack: Option<Pack>,
    pub score: Option<Score>,
}
