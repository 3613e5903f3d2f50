//! The calling side of the contract: a plugin's tables as safe Rust values.
//!
//! The host and the conformance kit both call through here. Nothing a plugin says is believed
//! unread: texts must be UTF-8, tables complete, return codes known. Outputs are slices of the
//! caller's, who guards them as it needs, for instance by [`Guarded`]; a call fills, allocates and
//! checks nothing around them, so that it can be timed.

use crate::abi::{
    self, MAGIC, MODEL_BYTES_UNKNOWN, SCORER_V1, VqBuf, VqCodes, VqCodesMut, VqConfig,
    VqGridRequest, VqGridSink, VqMat, VqMatMut, VqMethod, VqParam, VqPlugin, VqScorerV1, VqStr,
    flag, rc,
};
use crate::error::ErrorKind;
use crate::params::{Config, Param, Value, check};
use crate::quantizer::{cartesian, label, meets_rate};
use crate::thread_state::{Change, Changed, ThreadState};
use crate::wire::{self, Lent};
use crate::{GridRequest, GridSink, Space};
use core::ffi::c_void;
use lending::Lending;
use ndarray::{ArrayView2, ArrayViewMut2};
use std::fmt;
use std::sync::Arc;

mod guarded;
mod lending;

pub use guarded::Guarded;
pub use lending::Caller;

/// More methods than any library has.
const MAX_METHODS: usize = 256;
/// More parameters than any method has.
const MAX_PARAMS: usize = 256;
/// More choices, or values of a default grid, than any parameter has.
const MAX_VALUES: usize = 4096;
/// Characters of a description, a paper, an author list that are kept.
const LONG_TEXT: usize = 2000;
/// Bytes of a text among a parameter's values. More is refused, as a value cannot be cut.
const VALUE_BYTES: usize = 4096;
/// Characters of a name, a version, a label that are kept.
const SHORT_TEXT: usize = 200;
/// More configurations than anybody sweeps.
const MAX_CONFIGS: usize = 100_000;
/// Bytes of error text that are kept.
const ERROR_BYTES: usize = 4096;

/// A library's table that is not a v1 plugin.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DescribeError {
    /// The entry function answered NULL.
    #[error(
        "it cannot serve ABI {}.{} (the entry function returned NULL)",
        abi::ABI_MAJOR,
        abi::ABI_MINOR
    )]
    Refused,
    /// The first bytes are wrong.
    #[error("its table does not start with the plugin magic")]
    Magic,
    /// Another major version.
    #[error(
        "it speaks plugin ABI {major}.{minor}, this host speaks {}.{}",
        abi::ABI_MAJOR,
        abi::ABI_MINOR
    )]
    Version {
        /// The plugin's major version.
        major: u32,
        /// The plugin's minor version.
        minor: u32,
    },
    /// A struct of another size: built against another header.
    #[error("its {table} has {found} bytes where ABI 1 has {expected}")]
    Size {
        /// The C name.
        table: &'static str,
        /// As the plugin says.
        found: usize,
        /// As this host was built.
        expected: usize,
    },
    /// A text, list or pointer that cannot be.
    #[error("method {method}: {reason}")]
    Method {
        /// Its id, or its position.
        method: String,
        /// What is wrong.
        reason: String,
    },
    /// A table that cannot be read at all.
    #[error("{0}")]
    Table(String),
}

/// What a plugin says of one of its methods.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields of vq_method, documented there")]
pub struct Descriptor {
    pub id: String,
    pub name: String,
    pub version: String,
    pub description: String,
    pub paper: String,
    pub authors: String,
    pub license: String,
    pub homepage: String,
    pub tags: String,
    pub needs_training: bool,
    pub deterministic: bool,
    pub thread_safe: bool,
    pub has_scorer: bool,
    pub params: Vec<Param>,
}

/// A plugin's table, read and checked.
#[derive(Clone, Debug)]
pub struct Plugin {
    sdk: String,
    abi: (u32, u32),
    methods: Vec<Method>,
    changed: Arc<Changed>,
}

/// One method, ready to be called.
#[derive(Clone)]
pub struct Method {
    raw: &'static VqMethod,
    about: Descriptor,
    watch: Option<Watch>,
    changed: Arc<Changed>,
}

/// Hears the name of each function of a method before it is called, on the thread that calls.
pub type Watch = Arc<dyn Fn(&'static str) + Send + Sync>;

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Plugin {
    /// Reads a plugin's table.
    ///
    /// # Errors
    /// Anything that makes the table unusable; nothing of the plugin but `get_extension` is
    /// called.
    ///
    /// # Safety
    /// `raw` is what a library's `vq_plugin_entry_v1` answered, and the library stays loaded. Its
    /// pointers are trusted where no check can help: a hostile table can crash this process, which
    /// is why libraries are described in a child process.
    pub unsafe fn read(raw: *const VqPlugin) -> Result<Self, DescribeError> {
        // SAFETY: null or the plugin's static table.
        let raw = unsafe { raw.as_ref() }.ok_or(DescribeError::Refused)?;
        if raw.magic != MAGIC {
            return Err(DescribeError::Magic);
        }
        if raw.abi_major != abi::ABI_MAJOR {
            return Err(DescribeError::Version { major: raw.abi_major, minor: raw.abi_minor });
        }
        size("vq_plugin", raw.struct_size, size_of::<VqPlugin>())?;
        let table = |e: crate::Error| DescribeError::Table(e.to_string());
        if raw.n_methods == 0 || raw.n_methods > MAX_METHODS {
            return Err(DescribeError::Table(format!("it offers {} methods", raw.n_methods)));
        }
        // SAFETY: the plugin's static text.
        let sdk = cut(unsafe { raw.sdk.text() }.map_err(table)?, SHORT_TEXT);
        // SAFETY: `n_methods` pointers, says the table.
        let pointers = unsafe { wire::slice(raw.methods, raw.n_methods) }.map_err(table)?;
        let changed = Arc::new(Changed::default());
        let mut methods: Vec<Method> = Vec::with_capacity(pointers.len());
        for (i, pointer) in pointers.iter().enumerate() {
            // SAFETY: null or a static table of the plugin.
            let method = unsafe { pointer.as_ref() }
                .ok_or_else(|| DescribeError::Table(format!("its method {i} is NULL")))?;
            size("vq_method", method.struct_size, size_of::<VqMethod>())?;
            let about = describe(method, i, &changed)?;
            if methods.iter().any(|m| m.about.id == about.id) {
                return Err(DescribeError::Table(format!("it offers {} twice", about.id)));
            }
            let changed = Arc::clone(&changed);
            methods.push(Method { raw: method, about, watch: None, changed });
        }
        Ok(Plugin { sdk, abi: (raw.abi_major, raw.abi_minor), methods, changed })
    }

    /// A plugin linked into this program, for an author's own tests.
    ///
    /// # Errors
    /// As for [`Plugin::read`].
    pub fn linked(raw: &'static VqPlugin) -> Result<Self, DescribeError> {
        // SAFETY: a static reference to a table of this very program.
        unsafe { Self::read(raw) }
    }

    /// What built it.
    pub fn sdk(&self) -> &str {
        &self.sdk
    }

    /// The contract's version it was built for.
    pub fn abi(&self) -> (u32, u32) {
        self.abi
    }

    /// What its functions have left changed in the threads that called them, so far. All of it
    /// was put back when the call returned.
    pub fn changed(&self) -> Change {
        self.changed.so_far()
    }

    /// Its methods, in its order.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }
}

fn size(table: &'static str, found: u32, expected: usize) -> Result<(), DescribeError> {
    let found = found as usize;
    if found == expected { Ok(()) } else { Err(DescribeError::Size { table, found, expected }) }
}

/// The first `most` characters of `text`, with an ellipsis where it has more.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn describe(
    raw: &'static VqMethod,
    position: usize,
    changed: &Arc<Changed>,
) -> Result<Descriptor, DescribeError> {
    let wrong =
        |method: &str, reason: String| DescribeError::Method { method: method.into(), reason };
    let text = |what: &str, text: VqStr, most: usize| {
        // SAFETY: the plugin's static text.
        let text = unsafe { text.text() };
        text.map(|text| cut(text, most))
            .map_err(|e| wrong(&format!("number {position}"), format!("{what}: {e}")))
    };
    let id = text("id", raw.id, SHORT_TEXT)?;
    if !is_name(&id, "-_") {
        return Err(wrong(
            &format!("number {position}"),
            format!("id {id:?} is not [a-z][a-z0-9_-]*"),
        ));
    }
    let missing = [
        ("create", raw.create.is_none()),
        ("destroy", raw.destroy.is_none()),
        ("fit", raw.fit.is_none()),
        ("code_bytes", raw.code_bytes.is_none()),
        ("compress", raw.compress.is_none()),
        ("decompress", raw.decompress.is_none()),
        ("load (save is there)", raw.save.is_some() && raw.load.is_none()),
        ("save (load is there)", raw.save.is_none() && raw.load.is_some()),
    ];
    if let Some((function, _)) = missing.iter().find(|(_, missing)| *missing) {
        return Err(wrong(&id, format!("it has no {function}")));
    }
    if raw.n_params > MAX_PARAMS {
        return Err(wrong(&id, format!("it has {} parameters", raw.n_params)));
    }
    // SAFETY: `n_params` descriptions, says the table.
    let raw_params: &[VqParam] =
        unsafe { wire::slice(raw.params, raw.n_params) }.map_err(|e| wrong(&id, e.to_string()))?;
    let mut params: Vec<Param> = Vec::new();
    for raw in raw_params {
        // SAFETY: the plugin's static table.
        let param = unsafe { wire::read_param(raw) }.map_err(|e| wrong(&id, e.to_string()))?;
        let name = &param.name;
        if !is_name(name, "_") {
            let name = cut(name, SHORT_TEXT);
            return Err(wrong(&id, format!("parameter {name:?} is not [a-z][a-z0-9_]*")));
        }
        let values = param.choices.len().max(param.grid.len());
        if values > MAX_VALUES {
            return Err(wrong(
                &id,
                format!("parameter {name} has {values} choices or grid values"),
            ));
        }
        let values = param.choices.iter().chain(&param.grid).chain([&param.default]);
        if let Some(bytes) = values.map(longest_text).max().filter(|bytes| *bytes > VALUE_BYTES) {
            return Err(wrong(
                &id,
                format!("parameter {name} has a value of {bytes} bytes, above {VALUE_BYTES}"),
            ));
        }
        if params.iter().any(|p| p.name == *name) {
            return Err(wrong(&id, format!("parameter {name} stands twice")));
        }
        param
            .check(&param.default)
            .and_then(|()| param.grid.iter().try_for_each(|value| param.check(value)))
            .map_err(|reason| {
                let reason = cut(&reason, LONG_TEXT);
                wrong(&id, format!("parameter {name}, default or grid: {reason}"))
            })?;
        params.push(Param { help: cut(&param.help, LONG_TEXT), ..param });
    }
    let method = Method {
        raw,
        watch: None,
        changed: Arc::clone(changed),
        about: Descriptor {
            name: text("name", raw.name, SHORT_TEXT)?,
            version: text("version", raw.version, SHORT_TEXT)?,
            description: text("description", raw.description, LONG_TEXT)?,
            paper: text("paper", raw.paper, LONG_TEXT)?,
            authors: text("authors", raw.authors, LONG_TEXT)?,
            license: text("license", raw.license, SHORT_TEXT)?,
            homepage: text("homepage", raw.homepage, LONG_TEXT)?,
            tags: text("tags", raw.tags, LONG_TEXT)?,
            needs_training: raw.flags & flag::NEEDS_TRAINING != 0,
            deterministic: raw.flags & flag::DETERMINISTIC != 0,
            thread_safe: raw.flags & flag::THREAD_SAFE != 0,
            has_scorer: false,
            params,
            id,
        },
    };
    let has_scorer =
        method.scorer_table().map_err(|reason| wrong(&method.about.id, reason))?.is_some();
    Ok(Descriptor { has_scorer, ..method.about })
}

/// Bytes of the longest text in `value`.
fn longest_text(value: &Value) -> usize {
    match value {
        Value::Str(text) => text.len(),
        Value::List(items) => items.iter().map(longest_text).max().unwrap_or(0),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
    }
}

fn is_name(text: &str, also: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
}

/// A call that did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin said so.
    #[error("{function}: {message}")]
    Said {
        /// The function of the contract.
        function: &'static str,
        /// What kind of failure.
        kind: ErrorKind,
        /// The plugin's sentence.
        message: String,
    },
    /// The plugin broke the contract.
    #[error("{function} {message}")]
    Broke {
        /// The function of the contract.
        function: &'static str,
        /// What it did, after its name.
        message: String,
    },
}

impl CallError {
    pub(crate) fn broke(function: &'static str, message: impl Into<String>) -> Self {
        CallError::Broke { function, message: message.into() }
    }

    /// The plugin's sentence alone, without the function's name.
    pub fn message(&self) -> &str {
        match self {
            CallError::Said { message, .. } | CallError::Broke { message, .. } => message,
        }
    }

    /// The kind of a failure that the plugin reported itself.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            CallError::Said { kind, .. } => Some(*kind),
            CallError::Broke { .. } => None,
        }
    }
}

/// Calls a function that reports errors, with a buffer for its text.
fn call(
    method: &Method,
    function: &'static str,
    run: impl FnOnce(*mut VqBuf) -> i32,
) -> Result<(), CallError> {
    let mut text = [0; ERROR_BYTES];
    let mut buf = VqBuf::over(&mut text);
    let code = method.guarded(function, || run(&mut buf));
    if code == rc::OK {
        return Ok(());
    }
    let message = one_line(&String::from_utf8_lossy(&text[..buf.len.min(ERROR_BYTES)]));
    match ErrorKind::from_code(code) {
        Some(kind) => Err(CallError::Said {
            function,
            kind,
            message: if message.is_empty() { "failed without saying why".into() } else { message },
        }),
        None => {
            Err(CallError::broke(function, format!("returned the unknown code {code}: {message}")))
        }
    }
}

/// A function that `describe` has seen; the table is frozen, so this does not fail.
fn present<F>(name: &'static str, function: Option<F>) -> Result<F, CallError> {
    function.ok_or_else(|| CallError::broke(name, "is NULL"))
}

/// Control characters become spaces: a plugin's text must not steer a terminal.
fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One answer of a grid generator.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
pub enum Proposal {
    /// A configuration to measure, every parameter filled in.
    Emit {
        /// All parameters.
        config: Config,
        /// `m=8 bits=4`.
        label: String,
        /// Stored bytes per vector, where the method knows before training.
        code_bytes: Option<usize>,
    },
    /// A combination that cannot be.
    Skip {
        /// What was tried.
        config: Config,
        /// Why it cannot be.
        reason: String,
    },
}

/// Collects proposals; also the host's side of `vq_grid_sink`.
#[derive(Default)]
struct Proposals(Vec<(Config, Result<String, String>)>);

impl GridSink for Proposals {
    fn emit(&mut self, config: &Config, label: &str) -> bool {
        self.0.push((config.clone(), Ok(cut(&one_line(label), SHORT_TEXT))));
        self.0.len() < MAX_CONFIGS
    }

    fn skip(&mut self, config: &Config, reason: &str) {
        if self.0.len() < MAX_CONFIGS {
            self.0.push((config.clone(), Err(cut(&one_line(reason), LONG_TEXT))));
        }
    }
}

/// # Safety
/// `host` is the `Proposals` that `expand` lent; `config` and `text` live during the call.
unsafe fn proposals<'a>(
    host: *mut c_void,
    config: *const VqConfig,
    text: VqStr,
) -> Option<(&'a mut Proposals, Config, &'a str)> {
    // SAFETY: passed on.
    let proposals = unsafe { host.cast::<Proposals>().as_mut() }?;
    // SAFETY: passed on.
    let config = unsafe { wire::read_config(config) }.ok()?;
    // SAFETY: passed on.
    let text = unsafe { text.text() }.ok()?;
    Some((proposals, config, text))
}

unsafe extern "C" fn sink_emit(host: *mut c_void, config: *const VqConfig, label: VqStr) -> i32 {
    // SAFETY: the plugin passes back what `expand` lent.
    match unsafe { proposals(host, config, label) } {
        Some((proposals, config, label)) => i32::from(!proposals.emit(&config, label)),
        None => 1,
    }
}

unsafe extern "C" fn sink_skip(host: *mut c_void, config: *const VqConfig, reason: VqStr) {
    // SAFETY: the plugin passes back what `expand` lent.
    if let Some((proposals, config, reason)) = unsafe { proposals(host, config, reason) } {
        proposals.skip(&config, reason);
    }
}

impl Method {
    /// What the plugin says of it.
    pub fn about(&self) -> &Descriptor {
        &self.about
    }

    /// The same method; `watch` hears of every call that it and its instances are about to get.
    /// For who must know which call never came back.
    #[must_use]
    pub fn watched(&self, watch: Watch) -> Method {
        Method { watch: Some(watch), ..self.clone() }
    }

    /// Runs a call into the plugin: whoever watches hears of it first, and what it leaves changed
    /// in this thread is put back.
    fn guarded<T>(&self, function: &'static str, call: impl FnOnce() -> T) -> T {
        if let Some(watch) = &self.watch {
            watch(function);
        }
        let before = ThreadState::take();
        let answer = call();
        self.changed.note(before.restore());
        answer
    }

    fn lending<'a>(&'a self, caller: &'a Caller<'a>) -> Lending<'a> {
        Lending { caller, changed: &self.changed }
    }

    /// The configurations for `request`: the generator's, or the cartesian product where the
    /// method has none. Each is completed with defaults, checked against the schema and tried on
    /// the constructor; what fails becomes a skip with its reason.
    ///
    /// # Errors
    /// The generator failed.
    pub fn expand(&self, request: &GridRequest) -> Result<Vec<Proposal>, CallError> {
        let schema = &self.about.params;
        let mut answers = Proposals::default();
        if let Some(expand_grid) = self.raw.expand_grid {
            let lent = Lent::axes(&request.axes);
            let raw = VqGridRequest {
                struct_size: size_of::<VqGridRequest>() as u32,
                reserved: 0,
                space: request.space.raw(),
                bits_per_dim: request.bits_per_dim.unwrap_or(0.0),
                axes: lent.entries().as_ptr(),
                n_axes: lent.entries().len(),
            };
            let sink = VqGridSink {
                struct_size: size_of::<VqGridSink>() as u32,
                reserved: 0,
                host: (&raw mut answers).cast(),
                emit: sink_emit,
                skip: sink_skip,
            };
            call(self, "expand_grid", |err| {
                // SAFETY: all three live during the call; the table is the plugin's own.
                unsafe { expand_grid(&raw, &sink, err) }
            })?;
        } else {
            for config in cartesian(schema, request, &[]) {
                let label = label(schema, request, &config);
                answers.emit(&config, &label);
            }
        }
        let dim = request.space.dim;
        let mut proposals = Vec::with_capacity(answers.0.len());
        for (mut config, answer) in answers.0 {
            let label = match answer {
                Ok(label) => label,
                Err(reason) => {
                    proposals.push(Proposal::Skip { config, reason });
                    continue;
                }
            };
            for param in schema {
                config.entry(param.name.clone()).or_insert_with(|| param.default.clone());
            }
            let made = check(schema, &config).map_err(|e| e.to_string()).and_then(|()| {
                self.create(&config, request.space).map_err(|e| e.message().to_owned())
            });
            let missed = |bytes: usize| {
                request.bits_per_dim.filter(|bits| bytes > 0 && !meets_rate(bytes, dim, *bits))
            };
            proposals.push(match made.map(|instance| instance.code_bytes()) {
                Err(reason) => Proposal::Skip { config, reason },
                Ok(bytes) => match missed(bytes) {
                    Some(bits) => {
                        let rate = 8.0 * bytes as f64 / dim as f64;
                        let reason = format!("stores {rate:.3} bits/dim, {bits} were asked");
                        Proposal::Skip { config, reason }
                    }
                    None => {
                        Proposal::Emit { config, label, code_bytes: (bytes > 0).then_some(bytes) }
                    }
                },
            });
        }
        Ok(proposals)
    }

    /// The constructor.
    ///
    /// # Errors
    /// The plugin refused, naming the parameter.
    pub fn create(&self, config: &Config, space: Space) -> Result<Instance, CallError> {
        let lent = Lent::config(config);
        let space_raw = space.raw();
        let mut this: *mut c_void = core::ptr::null_mut();
        let create = present("create", self.raw.create)?;
        call(self, "create", |err| {
            // SAFETY: all arguments live during the call; the table is the plugin's own.
            unsafe { create(&lent.as_config(), &space_raw, &mut this, err) }
        })?;
        if this.is_null() {
            return Err(CallError::broke("create", "succeeded but gave no instance"));
        }
        Ok(Instance { method: self.clone(), space, this })
    }

    fn scorer_table(&self) -> Result<Option<&'static VqScorerV1>, String> {
        let Some(get_extension) = self.raw.get_extension else { return Ok(None) };
        let before = ThreadState::take();
        // SAFETY: the table is the plugin's own; the id lives during the call.
        let table = unsafe { get_extension(VqStr::new(SCORER_V1)) };
        self.changed.note(before.restore());
        // SAFETY: null or, by the id's meaning, a static vq_scorer_v1.
        let Some(table) = (unsafe { table.cast::<VqScorerV1>().as_ref() }) else { return Ok(None) };
        let (found, expected) = (table.struct_size as usize, size_of::<VqScorerV1>());
        if found != expected {
            return Err(format!("its {SCORER_V1} table has {found} bytes, expected {expected}"));
        }
        if table.score.is_none() || table.pack.is_some() != table.packed_bytes.is_some() {
            return Err(format!("its {SCORER_V1} table is incomplete"));
        }
        Ok(Some(table))
    }
}

/// A constructed method. Destroyed on drop.
#[derive(Debug)]
pub struct Instance {
    method: Method,
    space: Space,
    this: *mut c_void,
}

// SAFETY: an instance may move between threads; the contract only forbids concurrent calls to
// fit, load and destroy, which need unique access here.
unsafe impl Send for Instance {}
// SAFETY: `&Instance` offers only the functions that a VQ_THREAD_SAFE method allows concurrently;
// the host asks `thread_safe` before it shares one.
unsafe impl Sync for Instance {}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.method.raw.destroy {
            self.method.guarded("destroy", || {
                // SAFETY: `this` came from `create` and is given up here.
                unsafe { destroy(self.this) }
            });
        }
    }
}

impl Instance {
    /// The method it was made by.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The space it was made for.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Stored bytes per vector; 0 where the method does not know before training.
    pub fn code_bytes(&self) -> usize {
        let Some(code_bytes) = self.method.raw.code_bytes else { return 0 };
        self.method.guarded("code_bytes", || {
            // SAFETY: `this` is this method's instance.
            unsafe { code_bytes(self.this) }
        })
    }

    /// Bytes of state that decoding needs; `None` where the method does not state them.
    pub fn model_bytes(&self) -> Option<u64> {
        let model_bytes = self.method.raw.model_bytes?;
        let bytes = self.method.guarded("model_bytes", || {
            // SAFETY: `this` is this method's instance.
            unsafe { model_bytes(self.this) }
        });
        Some(bytes).filter(|bytes| *bytes != MODEL_BYTES_UNKNOWN)
    }

    /// The method's own claim; `None` where it makes none.
    pub fn ratio(&self) -> Option<f64> {
        let ratio = self.method.raw.ratio?;
        Some(self.method.guarded("ratio", || {
            // SAFETY: `this` is this method's instance.
            unsafe { ratio(self.this) }
        }))
    }

    /// Learns from `train` (n, d).
    ///
    /// # Errors
    /// As the plugin says.
    pub fn fit(
        &mut self,
        train: ArrayView2<'_, f32>,
        caller: &Caller<'_>,
    ) -> Result<(), CallError> {
        let fit = present("fit", self.method.raw.fit)?;
        let train = wire::lendable(train);
        let lending = self.method.lending(caller);
        let (ctx, train) = (lending.raw(), VqMat::of(&train.view()));
        call(&self.method, "fit", |err| {
            // SAFETY: the arguments live during the call, and `&mut self` has the instance alone.
            unsafe { fit(self.this, &ctx, train, err) }
        })
    }

    /// Encodes `x` (n, d) into `codes`, n · `code_bytes` bytes.
    ///
    /// # Errors
    /// As the plugin says.
    ///
    /// # Panics
    /// If `codes` has another length.
    pub fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        code_bytes: usize,
        caller: &Caller<'_>,
        codes: &mut [u8],
    ) -> Result<(), CallError> {
        assert_eq!(codes.len(), x.nrows() * code_bytes, "room for the codes of all rows");
        let compress = present("compress", self.method.raw.compress)?;
        let lending = self.method.lending(caller);
        let ctx = lending.raw();
        let x = wire::lendable(x);
        let out = VqCodesMut::over(codes, x.nrows(), code_bytes);
        call(&self.method, "compress", |err| {
            // SAFETY: the arguments live during the call.
            unsafe { compress(self.this, &ctx, VqMat::of(&x.view()), out, err) }
        })
    }

    /// Decodes `codes` (n, code_bytes) into `x`, n · d values.
    ///
    /// # Errors
    /// As the plugin says.
    ///
    /// # Panics
    /// If `x` has another length.
    pub fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        caller: &Caller<'_>,
        x: &mut [f32],
    ) -> Result<(), CallError> {
        let (rows, dim) = (codes.nrows(), self.space.dim);
        assert_eq!(x.len(), rows * dim, "room for the rows of all codes");
        let decompress = present("decompress", self.method.raw.decompress)?;
        let lending = self.method.lending(caller);
        let ctx = lending.raw();
        let codes = wire::lendable(codes);
        let out = VqMatMut::over(x, rows, dim);
        call(&self.method, "decompress", |err| {
            // SAFETY: the arguments live during the call.
            unsafe { decompress(self.this, &ctx, VqCodes::of(&codes.view()), out, err) }
        })
    }

    /// The fitted model; `None` where the method does not offer it.
    ///
    /// # Errors
    /// As the plugin says; a length that changes between two calls.
    pub fn save(&self) -> Result<Option<Vec<u8>>, CallError> {
        let Some(save) = self.method.raw.save else { return Ok(None) };
        let mut model = Guarded::codes();
        let mut room = 0;
        for _ in 0..2 {
            let mut buf = VqBuf::over(model.lend(room));
            let done = call(&self.method, "save", |err| {
                // SAFETY: the buffers live during the call.
                unsafe { save(self.this, &mut buf, err) }
            });
            let (cap, len) = (buf.cap, buf.len);
            let saved = model.finish("save")?;
            match done {
                Ok(()) if len <= cap => return Ok(Some(saved[..len].to_vec())),
                Ok(()) => {
                    return Err(CallError::broke("save", format!("wrote {len} bytes into {cap}")));
                }
                Err(error) => match error.kind() {
                    Some(ErrorKind::Unsupported) => return Ok(None),
                    Some(ErrorKind::ShortBuffer) if len > cap && len <= isize::MAX as usize => {
                        room = len;
                    }
                    _ => return Err(error),
                },
            }
        }
        Err(CallError::broke("save", "asked for more room after it was given what it asked for"))
    }

    /// Restores a model that an equal instance saved.
    ///
    /// # Errors
    /// As the plugin says.
    pub fn load(&mut self, model: &[u8]) -> Result<(), CallError> {
        let Some(load) = self.method.raw.load else {
            return Err(CallError::Said {
                function: "load",
                kind: ErrorKind::Unsupported,
                message: "load is not offered".into(),
            });
        };
        call(&self.method, "load", |err| {
            // SAFETY: the bytes live during the call, and `&mut self` has the instance alone.
            unsafe { load(self.this, VqStr { ptr: model.as_ptr(), len: model.len() }, err) }
        })
    }

    /// The scorer, where the method has one.
    pub fn scorer(&self) -> Option<Scorer<'_>> {
        let table = self.method.scorer_table().ok()??;
        Some(Scorer { instance: self, table })
    }
}

/// The extension `vq.scorer/1` of an instance.
#[derive(Debug)]
pub struct Scorer<'a> {
    instance: &'a Instance,
    table: &'static VqScorerV1,
}

impl Scorer<'_> {
    /// True if it claims error bounds.
    pub fn has_bounds(&self) -> bool {
        self.table.flags & flag::SCORER_BOUNDS != 0
    }

    /// Bytes that `n` codes take in the layout that `score` reads.
    ///
    /// # Errors
    /// More than 16 times the codes and a mebibyte.
    pub fn packed_bytes(&self, n: usize) -> Result<usize, CallError> {
        let plain = n.saturating_mul(self.instance.code_bytes());
        let Some(packed_bytes) = self.table.packed_bytes else { return Ok(plain) };
        let bytes = self.instance.method.guarded("packed_bytes", || {
            // SAFETY: `this` is this method's instance.
            unsafe { packed_bytes(self.instance.this, n) }
        });
        if bytes > plain.saturating_mul(16).saturating_add(1 << 20) {
            let asked = format!("asks {bytes} bytes for {n} codes");
            return Err(CallError::broke("packed_bytes", asked));
        }
        Ok(bytes)
    }

    /// Brings `codes` (n, code_bytes) into the layout that `score` reads, of as many bytes as
    /// [`Scorer::packed_bytes`] says; the codes as they are where the method has no other layout.
    ///
    /// # Errors
    /// As the plugin says; another length than that of the codes where these are taken as they are.
    pub fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        caller: &Caller<'_>,
        packed: &mut [u8],
    ) -> Result<(), CallError> {
        let Some(pack) = self.table.pack else {
            let mut packed = ArrayViewMut2::from_shape(codes.dim(), packed).map_err(|_| {
                let now = self.instance.code_bytes();
                CallError::broke("code_bytes", format!("was {} and is {now}", codes.ncols()))
            })?;
            packed.assign(&codes);
            return Ok(());
        };
        let lending = self.instance.method.lending(caller);
        let ctx = lending.raw();
        let codes = wire::lendable(codes);
        let (out, len) = (packed.as_mut_ptr(), packed.len());
        call(&self.instance.method, "pack", |err| {
            // SAFETY: the arguments live during the call.
            unsafe { pack(self.instance.this, &ctx, VqCodes::of(&codes.view()), out, len, err) }
        })
    }

    /// Estimates between `queries` (q, d) and `n` packed codes into `estimates` (q · n): squared
    /// distance for L2, inner product for Ip and Cosine; with `bounds` (q · n), also the claimed
    /// half-widths.
    ///
    /// # Errors
    /// As the plugin says.
    ///
    /// # Panics
    /// If `estimates` or `bounds` has another length.
    pub fn score(
        &self,
        queries: ArrayView2<'_, f32>,
        packed: &[u8],
        n: usize,
        caller: &Caller<'_>,
        estimates: &mut [f32],
        bounds: Option<&mut [f32]>,
    ) -> Result<(), CallError> {
        let rows = queries.nrows();
        assert_eq!(estimates.len(), rows * n, "room for the estimates of all pairs");
        let score = present("score", self.table.score)?;
        let queries = wire::lendable(queries);
        let lending = self.instance.method.lending(caller);
        let ctx = lending.raw();
        let out = VqMatMut::over(estimates, rows, n);
        let bounds_out = bounds.map_or(VqMatMut::NONE, |bounds| {
            assert_eq!(bounds.len(), rows * n, "room for the bounds of all pairs");
            VqMatMut::over(bounds, rows, n)
        });
        call(&self.instance.method, "score", |err| {
            // SAFETY: the arguments live during the call.
            unsafe {
                score(
                    self.instance.this,
                    &ctx,
                    VqMat::of(&queries.view()),
                    packed.as_ptr(),
                    packed.len(),
                    n,
                    out,
                    bounds_out,
                    err,
                )
            }
        })
    }
}
