//! From a [`Quantizer`] to the C table: the only place where author code meets raw pointers.
//!
//! Every function checks what it was given, runs the author's code in a pool of the host's thread
//! budget, and turns errors and panics into return codes.

use crate::abi::{
    ABI_MAJOR, ABI_MINOR, MAGIC, MODEL_BYTES_UNKNOWN, SCORER_V1, VqBuf, VqCodes, VqCodesMut,
    VqConfig, VqCtx, VqGridRequest, VqGridSink, VqMat, VqMatMut, VqMethod, VqParam, VqPlugin,
    VqScorerV1, VqSpace, VqStr, VqValue, flag, rc,
};
use crate::context::Context;
use crate::error::ErrorKind;
use crate::params::{Config, Params, Value};
use crate::wire::{self, Lent};
use crate::{Error, GridRequest, GridSink, Quantizer, Scorer, Space};
use core::ffi::c_void;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

// A panic that aborts would take the host's worker down before the guard below can speak.
#[cfg(panic = "abort")]
compile_error!("a vq-host plugin must be built with panic = \"unwind\"");

/// What the host's `vq_instance` points to.
struct Held<Q> {
    quantizer: Q,
    space: Space,
    code_bytes: usize,
    /// fit or load has succeeded.
    ready: bool,
}

/// One pool per thread budget, kept: starting threads for every block would cost more than small
/// blocks do.
static POOLS: Mutex<Vec<(usize, Arc<ThreadPool>)>> = Mutex::new(Vec::new());

fn pool(threads: usize) -> Result<Arc<ThreadPool>, Error> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, pool)) = pools.iter().find(|(n, _)| *n == threads) {
        return Ok(pool.clone());
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("vq-plugin-{i}"))
        .build()
        .map_err(|e| Error::failed(format!("cannot start {threads} threads: {e}")))?;
    let pool = Arc::new(pool);
    pools.push((threads, pool.clone()));
    Ok(pool)
}

/// Runs `body`; its error or panic becomes a return code and text in `err`.
///
/// # Safety
/// `err` is null or the caller's buffer.
unsafe fn guard(err: *mut VqBuf, body: impl FnOnce() -> Result<(), Error>) -> i32 {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return rc::OK,
        Ok(Err(error)) => error,
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&'static str>().copied())
                .unwrap_or("no message");
            let error = Error::new(ErrorKind::Panicked, format!("panicked: {text}"));
            // Its Drop is author code and could panic again.
            core::mem::forget(payload);
            error
        }
    };
    // SAFETY: passed on.
    unsafe { wire::write_error(err, &error.to_string()) };
    error.kind().code()
}

/// # Safety
/// `ctx` is null or valid during the call.
unsafe fn context<'a>(ctx: *const VqCtx) -> Result<&'a VqCtx, Error> {
    // SAFETY: null or valid, says the caller.
    let ctx = unsafe { ctx.as_ref() }.ok_or_else(|| Error::failed("no vq_ctx"))?;
    if ctx.struct_size as usize != size_of::<VqCtx>() {
        return Err(Error::failed(format!("a vq_ctx of {} bytes", ctx.struct_size)));
    }
    Ok(ctx)
}

impl<Q: Quantizer> Held<Q> {
    /// # Safety
    /// `this` is null or came from `create` of the same method.
    unsafe fn of<'a>(this: *const c_void) -> Result<&'a Self, Error> {
        // SAFETY: null or a Held<Q>, says the caller.
        unsafe { this.cast::<Self>().as_ref() }.ok_or_else(|| Error::failed("no instance"))
    }

    /// # Safety
    /// As for [`Held::of`], with unique access.
    unsafe fn of_mut<'a>(this: *mut c_void) -> Result<&'a mut Self, Error> {
        // SAFETY: null or a Held<Q>, says the caller.
        unsafe { this.cast::<Self>().as_mut() }.ok_or_else(|| Error::failed("no instance"))
    }

    fn ready(&self, function: &str) -> Result<(), Error> {
        if self.ready {
            return Ok(());
        }
        Err(Error::failed(format!("{function} was called before fit or load")))
    }

    fn matches(&self, what: &str, expected: usize, found: usize) -> Result<(), Error> {
        if expected == found {
            return Ok(());
        }
        Err(Error::failed(format!("{what} is {found}, expected {expected}")))
    }
}

struct Shim<Q>(PhantomData<Q>);

impl<Q: Quantizer> Shim<Q> {
    unsafe extern "C" fn expand_grid(
        request: *const VqGridRequest,
        sink: *const VqGridSink,
        err: *mut VqBuf,
    ) -> i32 {
        let body = || {
            // SAFETY: null or valid during the call, by contract.
            let request = unsafe { request.as_ref() }.ok_or_else(|| Error::failed("no request"))?;
            // SAFETY: null or valid during the call, by contract.
            let sink = unsafe { sink.as_ref() }.ok_or_else(|| Error::failed("no sink"))?;
            // SAFETY: lent for the call, by contract.
            let axes = unsafe { wire::slice(request.axes, request.n_axes) }?;
            // SAFETY: lent for the call, by contract.
            let axes = unsafe { wire::read_entries(axes) }?;
            let axes = axes
                .into_iter()
                .map(|(name, value)| match value {
                    Value::List(values) => Ok((name.to_owned(), values)),
                    _ => Err(Error::param(name, "an axis is a list of values")),
                })
                .collect::<Result<_, _>>()?;
            let request = GridRequest {
                space: Space::of(request.space)?,
                bits_per_dim: (request.bits_per_dim > 0.0).then_some(request.bits_per_dim),
                axes,
            };
            Q::expand_grid(&request, &mut RawSink(sink))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    unsafe extern "C" fn create(
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

    unsafe extern "C" fn destroy(this: *mut c_void) {
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

    unsafe extern "C" fn fit(
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
            pool(ctx.threads())?.install(|| held.quantizer.fit(train, &ctx))?;
            held.ready = true;
            Ok(())
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    unsafe extern "C" fn code_bytes(this: *const c_void) -> usize {
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

    unsafe extern "C" fn model_bytes(this: *const c_void) -> u64 {
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

    unsafe extern "C" fn ratio(this: *const c_void) -> f64 {
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

    unsafe extern "C" fn compress(
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
            pool(ctx.threads())?.install(|| held.quantizer.compress(x, codes, &ctx))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    unsafe extern "C" fn decompress(
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
            pool(ctx.threads())?.install(|| held.quantizer.decompress(codes, x, &ctx))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    unsafe extern "C" fn save(this: *const c_void, model: *mut VqBuf, err: *mut VqBuf) -> i32 {
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

    unsafe extern "C" fn load(this: *mut c_void, model: VqStr, err: *mut VqBuf) -> i32 {
        let body = || {
            // SAFETY: `this` came from `create`; load has it alone, by contract.
            let held = unsafe { Held::<Q>::of_mut(this) }?;
            // SAFETY: lent for the call, by contract.
            let model = unsafe { wire::slice(model.ptr, model.len) }?;
            held.quantizer.load(model)?;
            held.ready = true;
            Ok(())
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    unsafe extern "C" fn no_extension(_id: VqStr) -> *const c_void {
        core::ptr::null()
    }
}

/// The plugin's side of a `vq_grid_sink`.
struct RawSink<'a>(&'a VqGridSink);

impl GridSink for RawSink<'_> {
    fn emit(&mut self, config: &Config, label: &str) -> bool {
        let lent = Lent::config(config);
        // SAFETY: the host keeps its sink valid during expand_grid; `lent` outlives the call.
        let stop = unsafe { (self.0.emit)(self.0.host, &lent.as_config(), VqStr::new(label)) };
        stop == 0
    }

    fn skip(&mut self, config: &Config, reason: &str) {
        let lent = Lent::config(config);
        // SAFETY: as in `emit`.
        unsafe { (self.0.skip)(self.0.host, &lent.as_config(), VqStr::new(reason)) }
    }
}

struct ScorerShim<Q>(PhantomData<Q>);

impl<Q: Scorer> ScorerShim<Q> {
    const TABLE: VqScorerV1 = VqScorerV1 {
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
            pool(ctx.threads())?.install(|| held.quantizer.pack(codes, packed, &ctx))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }

    unsafe extern "C" fn get_extension(id: VqStr) -> *const c_void {
        // SAFETY: lent for the call, by contract.
        match unsafe { id.text() } {
            Ok(SCORER_V1) => (&const { Self::TABLE } as *const VqScorerV1).cast(),
            _ => core::ptr::null(),
        }
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
            let fill = |out: VqMatMut, fill: fn(&Q, &Q::Query, ArrayView2<'_, u8>, &mut [f32])| {
                // SAFETY: lent for the call, by contract.
                let mut out = unsafe { out.view_mut() }?;
                held.matches("the rows of the estimates", queries.nrows(), out.nrows())?;
                held.matches("the columns of the estimates", n, out.ncols())?;
                pool(ctx.threads())?.install(|| {
                    let rows: Vec<_> =
                        out.axis_iter_mut(Axis(0)).zip(queries.outer_iter()).collect();
                    rows.into_par_iter().with_max_len(1).try_for_each(|(mut out, query)| {
                        let query = held.quantizer.query(query)?;
                        let out =
                            out.as_slice_mut().ok_or_else(|| Error::failed("strided estimates"))?;
                        fill(&held.quantizer, &query, codes, out);
                        Ok::<(), Error>(())
                    })
                })
            };
            if n == 0 || queries.nrows() == 0 {
                return Ok(());
            }
            fill(estimates, Q::score)?;
            if Q::BOUNDS && !bounds.data.is_null() {
                fill(bounds, Q::bounds)?;
            }
            Ok(())
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }
}

fn lent_forever(text: &'static str) -> VqStr {
    VqStr::new(text)
}

fn method<Q: Quantizer>(
    get_extension: unsafe extern "C" fn(VqStr) -> *const c_void,
) -> &'static VqMethod {
    let params: Vec<VqParam> = Q::Params::schema()
        .into_iter()
        .map(|param| {
            // Described once per process and never freed, like the library itself.
            let param: &'static crate::params::Param = Box::leak(Box::new(param));
            let lent: &'static mut Lent<'static> = Box::leak(Box::default());
            let mut list_or_null = |items: &'static [Value]| match items {
                [] => VqValue::NULL,
                items => lent.list(items),
            };
            let choices = list_or_null(&param.choices);
            let grid = list_or_null(&param.grid);
            VqParam {
                struct_size: size_of::<VqParam>() as u32,
                kind: param.kind.code(),
                item_kind: param.item_kind.map_or(0, |kind| kind.code()),
                reserved: 0,
                name: lent_forever(&param.name),
                help: lent_forever(&param.help),
                default_value: lent.value(&param.default),
                min: param.min.as_ref().map_or(VqValue::NULL, |v| lent.value(v)),
                max: param.max.as_ref().map_or(VqValue::NULL, |v| lent.value(v)),
                choices,
                grid,
            }
        })
        .collect();
    let params: &'static [VqParam] = params.leak();
    let about = Q::METHOD;
    let training = if about.needs_training { flag::NEEDS_TRAINING } else { 0 };
    Box::leak(Box::new(VqMethod {
        struct_size: size_of::<VqMethod>() as u32,
        flags: training | flag::DETERMINISTIC | flag::THREAD_SAFE,
        id: lent_forever(about.id),
        name: lent_forever(about.name),
        version: lent_forever(about.version),
        description: lent_forever(about.description),
        paper: lent_forever(about.paper),
        authors: lent_forever(about.authors),
        license: lent_forever(about.license),
        homepage: lent_forever(about.homepage),
        tags: lent_forever(about.tags),
        params: params.as_ptr(),
        n_params: params.len(),
        expand_grid: Some(Shim::<Q>::expand_grid),
        create: Some(Shim::<Q>::create),
        destroy: Some(Shim::<Q>::destroy),
        fit: Some(Shim::<Q>::fit),
        code_bytes: Some(Shim::<Q>::code_bytes),
        model_bytes: Some(Shim::<Q>::model_bytes),
        ratio: Some(Shim::<Q>::ratio),
        compress: Some(Shim::<Q>::compress),
        decompress: Some(Shim::<Q>::decompress),
        save: Some(Shim::<Q>::save),
        load: Some(Shim::<Q>::load),
        get_extension: Some(get_extension),
    }))
}

/// The table of a method without extensions, for [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
pub fn plain<Q: Quantizer>() -> &'static VqMethod {
    method::<Q>(Shim::<Q>::no_extension)
}

/// The table of a method with a scorer, for [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
pub fn with_scorer<Q: Scorer>() -> &'static VqMethod {
    method::<Q>(ScorerShim::<Q>::get_extension)
}

/// The plugin's table, for [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
pub fn plugin(methods: Vec<&'static VqMethod>) -> &'static VqPlugin {
    let methods: &'static [&'static VqMethod] = methods.leak();
    Box::leak(Box::new(VqPlugin {
        magic: MAGIC,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        struct_size: size_of::<VqPlugin>() as u32,
        reserved: 0,
        sdk: lent_forever(concat!("vq-plugin-api ", env!("CARGO_PKG_VERSION"))),
        methods: methods.as_ptr().cast(),
        n_methods: methods.len(),
    }))
}

/// Exports quantizers from a `cdylib`: `export_plugin!(Lattice)`, or with their extensions
/// `export_plugin!(Pq: Scorer, Opq: Scorer)`. Defines `plugin()`, which a test hands to
/// [`conformance::check`](crate::conformance::check).
#[macro_export]
macro_rules! export_plugin {
    ($($quantizer:ty $(: $extension:ident)?),+ $(,)?) => {
        /// This plugin's table, the one [`vq_plugin_entry_v1`] answers.
        pub fn plugin() -> &'static $crate::abi::VqPlugin {
            static PLUGIN: ::std::sync::OnceLock<&'static $crate::abi::VqPlugin> =
                ::std::sync::OnceLock::new();
            PLUGIN.get_or_init(|| $crate::adapter::plugin(::std::vec![
                $( $crate::export_plugin!(@method $quantizer $(, $extension)?) ),+
            ]))
        }

        $crate::export_plugin!(@symbols);
    };
    (@method $quantizer:ty) => { $crate::adapter::plain::<$quantizer>() };
    (@method $quantizer:ty, Scorer) => { $crate::adapter::with_scorer::<$quantizer>() };
    (@symbols) => {
        #[doc(hidden)]
        mod vq_plugin_symbols {
            #[unsafe(no_mangle)]
            extern "C" fn vq_plugin_entry_v1(
                host_major: u32,
                _host_minor: u32,
            ) -> *const $crate::abi::VqPlugin {
                if host_major == $crate::abi::ABI_MAJOR { super::plugin() } else { ::core::ptr::null() }
            }

            extern "C" fn table() -> *const $crate::abi::VqPlugin { super::plugin() }

            fn root() -> $crate::abi::VqRootRef {
                use $crate::abi_stable::prefix_type::PrefixTypeTrait;
                $crate::abi::VqRoot { plugin: table }.leak_into_prefix()
            }

            // What #[export_root_module] writes, but for its paths: it names `::abi_stable`, which
            // an author's crate does not depend on.
            extern "C" fn erased_root() -> $crate::abi_stable::library::RootModuleResult {
                $crate::abi_stable::library::__call_root_module_loader(root)
            }

            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static HEADER: $crate::abi_stable::library::LibHeader =
                // SAFETY: `erased_root` answers a VqRootRef, as the type parameter says.
                unsafe {
                    $crate::abi_stable::library::LibHeader::from_constructor::<$crate::abi::VqRootRef>(
                        erased_root,
                        $crate::abi_stable::library::CheckTypeLayout::Yes,
                    )
                };
        }
    };
}

// A host would take a plugin with another name for one without a layout to check.
const _: () = {
    let (ours, theirs) = (
        b"_1as_0lib_1header_0root_bmodule_bloader",
        abi_stable::library::ROOT_MODULE_LOADER_NAME.as_bytes(),
    );
    assert!(ours.len() == theirs.len(), "abi_stable looks for another symbol");
    let mut i = 0;
    while i < ours.len() {
        assert!(ours[i] == theirs[i], "abi_stable looks for another symbol");
        i += 1;
    }
};
