//! A plugin of ABI 1 from Rust without the SDK: one range [lo, hi] for all dimensions, one byte a
//! value,
//!
//! ```text
//! code = round(levels·(x − lo) / (hi − lo)),  x̂ = lo + (hi − lo)·code / levels
//! ```
//!
//! Frozen with the tables beside it: it must build and run unchanged for as long as hosts speak
//! ABI 1.

// A copy is whole, whatever of it is used.
#[allow(dead_code)]
mod abi;

use abi::*;
use core::ffi::c_void;
use core::ptr::null;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice::{from_raw_parts, from_raw_parts_mut};

struct Golden {
    dim: usize,
    metric: u32,
    levels: f64,
    /// lo and hi, once learned.
    range: Option<[f32; 2]>,
}

/// A return code and its sentence.
type Refusal = (i32, String);

fn failed(text: impl Into<String>) -> Refusal {
    (rc::ERROR, text.into())
}

/// # Safety
/// `err` is the caller's buffer.
unsafe fn answer(err: *mut VqBuf, body: impl FnOnce() -> Result<(), Refusal>) -> i32 {
    let done = catch_unwind(AssertUnwindSafe(body));
    let (code, text) = match done.unwrap_or_else(|_| Err((rc::PANIC, "panicked".into()))) {
        Ok(()) => return rc::OK,
        Err(refusal) => refusal,
    };
    unsafe {
        (*err).len = text.len().min((*err).cap);
        text.as_ptr().copy_to_nonoverlapping((*err).ptr, (*err).len);
    }
    code
}

const fn text(text: &'static str) -> VqStr {
    VqStr { ptr: text.as_ptr(), len: text.len() }
}

unsafe fn slice<'a, T>(ptr: *const T, len: usize) -> &'a [T] {
    if len == 0 { &[] } else { unsafe { from_raw_parts(ptr, len) } }
}

unsafe fn read(text: VqStr) -> String {
    String::from_utf8_lossy(unsafe { slice(text.ptr, text.len) }).into_owned()
}

impl Golden {
    unsafe fn of<'a>(this: *const c_void) -> &'a Golden {
        unsafe { &*this.cast() }
    }

    /// lo and hi − lo, in f64 so that no finite range overflows.
    fn scale(&self) -> Result<(f64, f64), Refusal> {
        let [lo, hi] = self.range.ok_or_else(|| failed("called before fit or load"))?;
        Ok((f64::from(lo), f64::from(hi) - f64::from(lo)))
    }

    fn expect(&self, dim: usize, width: usize, same_rows: bool) -> Result<(), Refusal> {
        if dim == self.dim && width == self.dim && same_rows {
            return Ok(());
        }
        Err(failed("rows or codes of another shape"))
    }

    unsafe fn configured(config: *const VqConfig, space: VqSpace) -> Result<Golden, Refusal> {
        let mut levels = 255;
        for entry in unsafe { slice((*config).entries, (*config).n_entries) } {
            let name = unsafe { read(entry.name) };
            if name != "levels" {
                return Err((rc::BAD_CONFIG, format!("{name}: unknown parameter")));
            }
            if entry.value.kind != kind::INT {
                return Err((rc::BAD_CONFIG, "levels: expected an integer".into()));
            }
            levels = entry.value.i;
            if !(1..=255).contains(&levels) {
                return Err((rc::BAD_CONFIG, format!("levels: {levels} is not within 1 and 255")));
            }
        }
        let VqSpace { dim, metric, .. } = space;
        Ok(Golden { dim, metric, levels: levels as f64, range: None })
    }
}

unsafe extern "C" fn expand_grid(
    request: *const VqGridRequest,
    sink: *const VqGridSink,
    err: *mut VqBuf,
) -> i32 {
    let body = || {
        let (request, sink) = unsafe { (&*request, &*sink) };
        let mut values = vec![LEVELS[0], LEVELS[1]];
        for axis in unsafe { slice(request.axes, request.n_axes) } {
            if unsafe { read(axis.name) } == "levels" {
                values = unsafe { slice(axis.value.items, axis.value.n_items) }.to_vec();
            }
        }
        for value in values {
            let entry = VqEntry { name: text("levels"), value };
            let config = VqConfig { entries: &entry, n_entries: 1 };
            let rate_missed = request.bits_per_dim > 0.0 && request.bits_per_dim != 8.0;
            let wrong = unsafe { Golden::configured(&config, request.space) }.err();
            let reason = wrong.map(|(_, reason)| reason);
            let reason = reason.or(rate_missed.then(|| "stores 8 bits a dimension".into()));
            let said = reason.clone().unwrap_or_else(|| format!("levels={}", value.i));
            let said = VqStr { ptr: said.as_ptr(), len: said.len() };
            if reason.is_some() {
                unsafe { (sink.skip)(sink.host, &config, said) };
            } else if unsafe { (sink.emit)(sink.host, &config, said) } != 0 {
                break;
            }
        }
        Ok(())
    };
    unsafe { answer(err, body) }
}

unsafe extern "C" fn create(
    config: *const VqConfig,
    space: *const VqSpace,
    out: *mut *mut c_void,
    err: *mut VqBuf,
) -> i32 {
    let body = || {
        let made = unsafe { Golden::configured(config, *space) }?;
        unsafe { *out = Box::into_raw(Box::new(made)).cast() };
        Ok(())
    };
    unsafe { answer(err, body) }
}

unsafe extern "C" fn destroy(this: *mut c_void) {
    if !this.is_null() {
        drop(unsafe { Box::from_raw(this.cast::<Golden>()) });
    }
}

unsafe extern "C" fn fit(
    this: *mut c_void,
    ctx: *const VqCtx,
    train: VqMat,
    err: *mut VqBuf,
) -> i32 {
    let body = || {
        let (golden, ctx) = unsafe { (&mut *this.cast::<Golden>(), &*ctx) };
        golden.expect(train.dim, golden.dim, true)?;
        unsafe { (ctx.log)(ctx.host, LOG_INFO, text("looking for the range")) };
        let [mut lo, mut hi] = [f32::INFINITY, f32::NEG_INFINITY];
        for i in 0..train.rows {
            if i % 1024 == 0 {
                let fraction = i as f32 / train.rows as f32;
                if unsafe { (ctx.progress)(ctx.host, fraction, text("range")) } != 0 {
                    return Err((rc::CANCELLED, "cancelled".into()));
                }
            }
            for x in unsafe { slice(train.data.add(i * train.row_stride), train.dim) } {
                // A NaN stays, and is refused below.
                (lo, hi) = (if *x >= lo { lo } else { *x }, if *x <= hi { hi } else { *x });
            }
        }
        if !lo.is_finite() || !hi.is_finite() {
            return Err(failed("the training rows have no finite range"));
        }
        golden.range = Some([lo, hi]);
        Ok(())
    };
    unsafe { answer(err, body) }
}

unsafe extern "C" fn code_bytes(this: *const c_void) -> usize {
    unsafe { Golden::of(this) }.dim
}

unsafe extern "C" fn model_bytes(_this: *const c_void) -> u64 {
    8
}

unsafe extern "C" fn ratio(_this: *const c_void) -> f64 {
    4.0
}

struct Rows<'a> {
    golden: &'a Golden,
    lo: f64,
    width: f64,
    x: VqMat,
    codes: VqCodesMut,
}

unsafe extern "C" fn compress_row(rows: *mut c_void, i: usize) {
    let Rows { golden, lo, width, x, codes } = unsafe { &*rows.cast::<Rows<'_>>() };
    let x = unsafe { from_raw_parts(x.data.add(i * x.row_stride), golden.dim) };
    let row = unsafe { from_raw_parts_mut(codes.data.add(i * codes.row_stride), golden.dim) };
    for (x, code) in x.iter().zip(row) {
        // The cast saturates, and turns NaN into 0.
        let level = (golden.levels * (f64::from(*x) - lo) / width).round() as u8;
        *code = level.min(golden.levels as u8);
    }
}

unsafe extern "C" fn compress(
    this: *const c_void,
    ctx: *const VqCtx,
    x: VqMat,
    codes: VqCodesMut,
    err: *mut VqBuf,
) -> i32 {
    let body = || {
        let (golden, ctx) = unsafe { (Golden::of(this), &*ctx) };
        golden.expect(x.dim, codes.code_bytes, x.rows == codes.rows)?;
        let (lo, width) = golden.scale()?;
        let mut rows = Rows { golden, lo, width, x, codes };
        let shared = (&raw mut rows).cast();
        unsafe { (ctx.parallel_for)(ctx.host, x.rows, compress_row, shared) };
        Ok(())
    };
    unsafe { answer(err, body) }
}

unsafe extern "C" fn decompress(
    this: *const c_void,
    _ctx: *const VqCtx,
    codes: VqCodes,
    x: VqMatMut,
    err: *mut VqBuf,
) -> i32 {
    let body = || {
        let golden = unsafe { Golden::of(this) };
        golden.expect(x.dim, codes.code_bytes, x.rows == codes.rows)?;
        let (lo, width) = golden.scale()?;
        for i in 0..x.rows {
            let row = unsafe { from_raw_parts(codes.data.add(i * codes.row_stride), golden.dim) };
            let x = unsafe { from_raw_parts_mut(x.data.add(i * x.row_stride), golden.dim) };
            for (code, x) in row.iter().zip(x) {
                // A code above `levels` is no row's, and stays in range.
                let part = (f64::from(*code) / golden.levels).min(1.0);
                *x = (lo + width * part) as f32;
            }
        }
        Ok(())
    };
    unsafe { answer(err, body) }
}

unsafe extern "C" fn save(this: *const c_void, model: *mut VqBuf, err: *mut VqBuf) -> i32 {
    let body = || {
        let golden = unsafe { Golden::of(this) };
        let range = golden.range.ok_or_else(|| failed("called before fit or load"))?;
        let bytes: Vec<u8> = range.iter().flat_map(|end| end.to_le_bytes()).collect();
        let model = unsafe { &mut *model };
        model.len = bytes.len();
        if model.cap < bytes.len() {
            return Err((rc::SHORT_BUFFER, "the model has 8 bytes".into()));
        }
        unsafe { bytes.as_ptr().copy_to_nonoverlapping(model.ptr, bytes.len()) };
        Ok(())
    };
    unsafe { answer(err, body) }
}

unsafe extern "C" fn load(this: *mut c_void, model: VqStr, err: *mut VqBuf) -> i32 {
    let body = || {
        let bytes = unsafe { slice(model.ptr, model.len) };
        let [a, b, c, d, e, f, g, h] = *bytes else { return Err(failed("no such model")) };
        let range = [f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h])];
        if !(range[0].is_finite() && range[1].is_finite()) {
            return Err(failed("the model's range is not finite"));
        }
        unsafe { (*this.cast::<Golden>()).range = Some(range) };
        Ok(())
    };
    unsafe { answer(err, body) }
}

unsafe extern "C" fn score(
    this: *const c_void,
    _ctx: *const VqCtx,
    queries: VqMat,
    codes: *const u8,
    codes_len: usize,
    n: usize,
    estimates: VqMatMut,
    _bounds: VqMatMut,
    err: *mut VqBuf,
) -> i32 {
    let body = || {
        let golden = unsafe { Golden::of(this) };
        golden.expect(queries.dim, golden.dim, codes_len == n * golden.dim)?;
        let (lo, width) = golden.scale()?;
        let codes = unsafe { slice(codes, codes_len) };
        for q in 0..queries.rows {
            let query = unsafe { slice(queries.data.add(q * queries.row_stride), golden.dim) };
            for (i, code) in codes.chunks_exact(golden.dim).enumerate() {
                let pairs = query.iter().zip(code).map(|(q, code)| {
                    let part = (f64::from(*code) / golden.levels).min(1.0);
                    (f64::from(*q), lo + width * part)
                });
                let estimate: f64 = if golden.metric == METRIC_L2 {
                    pairs.map(|(q, x)| (q - x) * (q - x)).sum()
                } else {
                    pairs.map(|(q, x)| q * x).sum()
                };
                unsafe { *estimates.data.add(q * estimates.row_stride + i) = estimate as f32 };
            }
        }
        Ok(())
    };
    unsafe { answer(err, body) }
}

unsafe extern "C" fn get_extension(id: VqStr) -> *const c_void {
    if unsafe { read(id) } == SCORER_V1 { (&raw const SCORER).cast() } else { null() }
}

/// A table that is never written.
#[repr(transparent)]
struct Table<T>(T);
unsafe impl<T> Sync for Table<T> {}

static SCORER: Table<VqScorerV1> = Table(VqScorerV1 {
    struct_size: size_of::<VqScorerV1>() as u32,
    flags: 0,
    packed_bytes: None,
    pack: None,
    score: Some(score),
});

const NOTHING: VqValue = VqValue {
    kind: kind::NULL,
    reserved: 0,
    i: 0,
    f: 0.0,
    s: VqStr { ptr: null(), len: 0 },
    items: null(),
    n_items: 0,
};

const fn int(i: i64) -> VqValue {
    VqValue { kind: kind::INT, i, ..NOTHING }
}

const LEVELS: [VqValue; 2] = [int(15), int(255)];

static GRID: Table<[VqValue; 2]> = Table(LEVELS);

static PARAMS: Table<[VqParam; 1]> = Table([VqParam {
    struct_size: size_of::<VqParam>() as u32,
    kind: kind::INT,
    item_kind: kind::NULL,
    reserved: 0,
    name: text("levels"),
    help: text("The highest code."),
    default_value: int(255),
    min: int(1),
    max: int(255),
    choices: NOTHING,
    grid: VqValue { kind: kind::LIST, items: (&raw const GRID).cast(), n_items: 2, ..NOTHING },
}]);

static METHOD: Table<VqMethod> = Table(VqMethod {
    struct_size: size_of::<VqMethod>() as u32,
    flags: flag::NEEDS_TRAINING | flag::DETERMINISTIC | flag::THREAD_SAFE,
    id: text("golden_rust"),
    name: text("Golden Rust"),
    version: text("1.0.0"),
    description: text("ABI 1 from Rust, without the SDK"),
    paper: text(""),
    authors: text("vq-host"),
    license: text("MIT OR Apache-2.0"),
    homepage: text(""),
    tags: text("golden, scalar"),
    params: (&raw const PARAMS).cast(),
    n_params: 1,
    expand_grid: Some(expand_grid),
    create: Some(create),
    destroy: Some(destroy),
    fit: Some(fit),
    code_bytes: Some(code_bytes),
    model_bytes: Some(model_bytes),
    ratio: Some(ratio),
    compress: Some(compress),
    decompress: Some(decompress),
    save: Some(save),
    load: Some(load),
    get_extension: Some(get_extension),
});

static METHODS: Table<[*const VqMethod; 1]> = Table([(&raw const METHOD).cast()]);

static PLUGIN: Table<VqPlugin> = Table(VqPlugin {
    magic: MAGIC,
    abi_major: ABI_MAJOR,
    abi_minor: ABI_MINOR,
    struct_size: size_of::<VqPlugin>() as u32,
    reserved: 0,
    sdk: text("golden-rust 1"),
    methods: (&raw const METHODS).cast(),
    n_methods: 1,
});

/// The one exported symbol.
#[unsafe(no_mangle)]
pub extern "C" fn vq_plugin_entry_v1(host_major: u32, _host_minor: u32) -> *const VqPlugin {
    if host_major == ABI_MAJOR { (&raw const PLUGIN).cast() } else { null() }
}
