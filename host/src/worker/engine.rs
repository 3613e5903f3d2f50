//! A process with plugin code that obeys the referee: it opens the library when it is told to, and
//! makes the calls it is asked for on values that it was lent.
//!
//! Everything here runs beside plugin code and may be changed by it, so that nothing here decides
//! anything: the referee checks what comes back, and holds the clock.

use super::exchange::{
    Area, AreaError, Closed, Frames, Kept, Opened, Reply, Request, slots, trespassed,
};
use super::fault::HostFault;
use super::protocol::{Engine, Message, Order};
use super::reporter::{Failure, Reporter};
use crate::plugin::load;
use crate::python;
use crate::record::Outcome;
use ndarray::ArrayView2;
use nix::libc;
use rayon::prelude::*;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use vq_plugin_api::handle::{CallError, Caller, Instance, Plugin};
use vq_plugin_api::thread_state::Change;

/// Values that a thread copies at a time.
const COPIED: usize = 1 << 17;
/// Characters of an error that are told.
const MOST_TEXT: usize = 4096;

/// What the referee and this process share.
#[derive(Debug)]
pub(super) struct Shared {
    frames: Frames,
    lent: Area,
    filled: Area,
}

impl Shared {
    /// From the descriptors in the order of [`super::supervise`].
    pub(super) fn new([socket, lent, filled]: [OwnedFd; 3]) -> Result<Self, AreaError> {
        let frames = Frames::new(socket, &lent, &filled)?;
        Ok(Shared { frames, lent: Area::map(lent, false)?, filled: Area::map(filled, true)? })
    }
}

/// Obeys until the referee has no more requests.
pub(super) fn serve(
    order: &Order,
    engine: &Engine,
    mut shared: Shared,
    reporter: &Reporter,
    confined: Message,
) -> Result<(), HostFault> {
    let threads = engine.threads;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| HostFault::Threads { threads, reason: e.to_string() })?;
    watch_pages().map_err(|e| HostFault::Begin { reason: e.to_string() })?;
    watched(Place::Lent, shared.lent.addresses());
    watched(Place::Filled, shared.filled.addresses());
    #[cfg(target_os = "linux")]
    python::bridge::exchanging([&shared.lent, &shared.filled].map(|area| {
        let [pages, _] = area.addresses();
        pages
    }));
    reporter.send(&confined);
    let mut host = Host {
        order,
        engine,
        pool: &pool,
        alone: None,
        reporter,
        plugin: None,
        instance: None,
        code_bytes: 0,
        train: None,
        model: Vec::new(),
        packed: None,
    };
    let mut told = Change::default();
    while let Ok(request) = shared.frames.request() {
        let (number, socket) = shared.frames.place();
        NUMBER.store(number, Ordering::Relaxed);
        SOCKET.store(socket, Ordering::Relaxed);
        let reply = host.obey(request, &shared.lent, &mut shared.filled);
        // Before the answer: whoever needs this process no more ends it.
        python::noticed().into_iter().for_each(|of| reporter.send(&Message::Notice(of)));
        if let Some(now) = host.plugin.as_ref().map(Plugin::changed).filter(|now| *now != told) {
            super::work::note(reporter, "a call of the library", now);
            told = now;
        }
        if shared.frames.reply(&reply.unwrap_or_else(Reply::from)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Why a request was not done.
enum Refusal {
    Call(CallError),
    /// By opening the library.
    Failed(String),
    Host(AreaError),
    /// The request makes no sense here.
    Order(&'static str),
    /// This function wrote outside its output.
    Outside(&'static str),
    /// code_bytes() was another.
    Width {
        was: usize,
        is: usize,
    },
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Refusal::Call(error)
    }
}

impl From<AreaError> for Refusal {
    fn from(error: AreaError) -> Self {
        Refusal::Host(error)
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let failure = match refusal {
            Refusal::Call(error) if python::broke_contract() => Failure::invalid(error.to_string()),
            Refusal::Call(error) => Failure::from(error),
            Refusal::Failed(error) => Failure::failed(error),
            Refusal::Host(error) if error.no_memory() => {
                let error = format!("ran out of memory: {error}");
                return Reply::Failed { outcome: Outcome::OutOfMemory, error };
            }
            Refusal::Host(error) => return Reply::Broken(error.to_string()),
            Refusal::Order(what) => return Reply::Broken(what.to_owned()),
            Refusal::Outside(function) => {
                return Reply::Trespassed(format!("{function} wrote outside its output"));
            }
            Refusal::Width { was, is } => {
                let error = format!("code_bytes() was {was} once it was fitted and is {is} later");
                return Reply::Failed { outcome: Outcome::Invalid, error };
            }
        };
        match failure {
            Failure::Method { outcome, mut error } => {
                if let Some((end, _)) = error.char_indices().nth(MOST_TEXT) {
                    error.truncate(end);
                }
                Reply::Failed { outcome, error }
            }
            Failure::Host(_)
            | Failure::Replaced { .. }
            | Failure::Ended(_)
            | Failure::Again { .. } => {
                Reply::Broken("a call failed for the host's own reasons".to_owned())
            }
        }
    }
}

/// This process's part of a cell.
struct Host<'a> {
    order: &'a Order,
    engine: &'a Engine,
    pool: &'a rayon::ThreadPool,
    /// What calls are lent instead, while they have one thread.
    alone: Option<rayon::ThreadPool>,
    reporter: &'a Reporter,
    plugin: Option<Plugin>,
    instance: Option<Instance>,
    /// As it was said when it was fitted or loaded.
    code_bytes: usize,
    /// Training rows, until fit.
    train: Option<Kept>,
    /// What was saved, or is to be loaded.
    model: Vec<u8>,
    /// Packed codes, and of how many rows.
    packed: Option<(Closed, usize)>,
}

impl Host<'_> {
    fn obey(&mut self, request: Request, lent: &Area, filled: &mut Area) -> Result<Reply, Refusal> {
        let dim = self.engine.space.dim;
        match request {
            // As a call does that has several threads: to wake them is a part of the way.
            Request::Nothing if self.alone.is_none() && self.engine.threads > 1 => {
                self.pool.broadcast(|_| ());
            }
            Request::Nothing => {}
            Request::Open => return self.open().map(Reply::Opened),
            Request::Train { first, rows, of } => {
                let train = match &mut self.train {
                    Some(train) => train,
                    None => self.train.insert(Kept::new(4 * of * dim)?),
                };
                let place = train.write::<f32>().get_mut(first * dim..(first + rows) * dim);
                let place = place.ok_or(Refusal::Order("more training rows than announced"))?;
                let values: &[f32] = lent.lent(rows * dim);
                // Most of the time is that of the first touch of each page.
                self.pool.install(|| {
                    let pieces = place.par_chunks_mut(COPIED).zip(values.par_chunks(COPIED));
                    pieces.for_each(|(to, from)| to.copy_from_slice(from));
                });
            }
            Request::Fit => return self.fit(),
            Request::Save => {
                let saved = calling("save", "the model", || {
                    self.instance()?.save().map_err(Refusal::from)
                })?;
                let bytes = saved.as_ref().map(Vec::len);
                self.model = saved.unwrap_or_default();
                return Ok(Reply::Saved(bytes));
            }
            Request::Model { from, bytes } => {
                let part = self.model.get(from..from + bytes);
                let part = part.ok_or(Refusal::Order("no such part of the model"))?;
                output(filled, bytes)?.copy_from_slice(part);
            }
            Request::Load { first, bytes, of } => {
                if first == 0 {
                    self.model.clear();
                    self.model.reserve_exact(of);
                }
                self.model.extend_from_slice(lent.lent(bytes));
                if self.model.len() == of {
                    let model = std::mem::take(&mut self.model);
                    let instance = self.instance.as_mut().ok_or(UNOPENED)?;
                    calling("load", "model", || instance.load(&model).map_err(Refusal::from))?;
                    return self.fitted();
                }
            }
            Request::Compress { rows } => {
                let x = matrix(lent.lent(rows * dim), rows, dim)?;
                let width = self.width()?;
                let codes = output(filled, rows * width)?;
                calling("compress", "x", || {
                    let instance = self.instance()?;
                    self.lend(|caller| instance.compress(x, width, caller, codes))
                })?;
            }
            Request::Decompress { rows } => {
                let codes = self.codes(lent, rows)?;
                let x = output(filled, rows * dim)?;
                calling("decompress", "codes", || {
                    let instance = self.instance()?;
                    self.lend(|caller| instance.decompress(codes, caller, x))
                })?;
            }
            Request::Pack { codes, fill } => {
                // Gone first: both together would be twice the memory.
                self.packed = None;
                let codes = self.codes(lent, codes)?;
                let scorer = self.instance()?.scorer().ok_or(NO_SCORER)?;
                let bytes = scorer.packed_bytes(codes.nrows())?;
                self.packed = Some(self.pack(codes.nrows(), bytes, fill, |caller, out| {
                    scorer.pack(codes, caller, out)
                })?);
            }
            Request::PackForSearch { codes, fill } => {
                self.packed = None;
                let codes = self.codes(lent, codes)?;
                let search = self.instance()?.search().ok_or(NO_SEARCH)?;
                let bytes = search.packed_bytes(codes.nrows())?;
                self.packed = Some(self.pack(codes.nrows(), bytes, fill, |caller, out| {
                    search.pack(codes, caller, out)
                })?);
            }
            Request::Search { queries, k } => {
                let (packed, n) = self.packed.as_ref().ok_or(NOT_PACKED)?;
                let rows = matrix(lent.lent(queries * dim), queries, dim)?;
                let places = queries.checked_mul(k).filter(|_| k > 0).ok_or(TOO_MUCH)?;
                let slots = slots(&[places.saturating_mul(8), places.saturating_mul(4)]);
                let (ids, estimates) = filled.two(&slots.ok_or(TOO_MUCH)?);
                watched(Place::Packed, packed.addresses());
                calling("search", "queries", || {
                    let search = self.instance()?.search().ok_or(NO_SEARCH)?;
                    self.lend(|caller| {
                        search.search(rows, (packed.read(), *n), k, caller, ids, estimates)
                    })
                })?;
            }
            Request::Score { queries, bounds } => {
                let (packed, n) = self.packed.as_ref().ok_or(NOT_PACKED)?;
                let rows = matrix(lent.lent(queries * dim), queries, dim)?;
                let estimates = queries * n;
                let (bounds, estimates) = if bounds {
                    let all = slots(&[4 * estimates, 4 * estimates]).ok_or(TOO_MUCH)?;
                    let (of_bounds, of_estimates) = filled.two(&all);
                    (Some(of_bounds), of_estimates)
                } else {
                    (None, output(filled, estimates)?)
                };
                watched(Place::Packed, packed.addresses());
                calling("score", "queries", || {
                    let scorer = self.instance()?.scorer().ok_or(NO_SCORER)?;
                    self.lend(|caller| {
                        scorer.score(rows, packed.read(), *n, caller, estimates, bounds)
                    })
                })?;
            }
            Request::Alone(alone) => {
                let pool = || rayon::ThreadPoolBuilder::new().num_threads(1).build();
                self.alone = alone.then(pool).transpose().map_err(|_| NO_THREAD)?;
            }
            Request::Whole(whole) => python::in_whole_blocks(whole),
            Request::Destroy => {
                let instance = self.instance.take();
                calling("destroy", "the instance", || {
                    drop(instance);
                    Ok::<_, Refusal>(())
                })?;
            }
        }
        Ok(Reply::Done)
    }

    fn instance(&self) -> Result<&Instance, Refusal> {
        self.instance.as_ref().ok_or(UNOPENED)
    }

    fn open(&mut self) -> Result<Opened, Refusal> {
        let id = &self.engine.method;
        let loaded = calling("load", "the library", || {
            let opened = load::open(&self.order.library, Some(id));
            opened.map_err(|e| Refusal::Failed(e.to_string()))
        })?;
        super::work::note(self.reporter, "opening the library", loaded.changed);
        let method = loaded.plugin.methods().iter().find(|m| m.about().id == *id);
        let method = method.ok_or_else(|| {
            Refusal::Failed(format!("{} no longer offers {id}", loaded.path.display()))
        })?;
        let instance = calling("create", "config", || {
            method.create(&self.engine.config, self.engine.space).map_err(Refusal::from)
        })?;
        let (about, scorer, search) = (method.about(), instance.scorer(), instance.search());
        let opened = Opened {
            code_bytes: instance.code_bytes(),
            needs_training: about.needs_training,
            deterministic: about.deterministic,
            bounds: scorer.as_ref().is_some_and(|scorer| scorer.has_bounds()),
            scorer: scorer.is_some(),
            search: search.map(|search| search.ranks_estimates()),
            #[cfg(target_os = "linux")]
            helper: python::bridge::pid(),
            #[cfg(not(target_os = "linux"))]
            helper: None,
        };
        self.instance = Some(instance);
        self.plugin = Some(loaded.plugin);
        Ok(opened)
    }

    fn fit(&mut self) -> Result<Reply, Refusal> {
        let dim = self.engine.space.dim;
        let train = self.train.take().map_or_else(|| Kept::new(0), Ok)?.close()?;
        watched(Place::Train, train.addresses());
        let values: &[f32] = train.read();
        let rows = matrix(values, values.len() / dim, dim)?;
        let mut instance = self.instance.take().ok_or(UNOPENED)?;
        let fitted = calling("fit", "train", || self.lend(|caller| instance.fit(rows, caller)));
        self.instance = Some(instance);
        watched(Place::Train, [0..0, 0..0]);
        fitted?;
        self.fitted()
    }

    fn fitted(&mut self) -> Result<Reply, Refusal> {
        let instance = self.instance()?;
        let code_bytes = instance.code_bytes();
        let (model_bytes, ratio) = (instance.model_bytes(), instance.ratio().map(f64::to_bits));
        self.code_bytes = code_bytes;
        Ok(Reply::Fitted { code_bytes, model_bytes, ratio })
    }

    /// Bytes of a code, which are as many as once it was fitted.
    fn width(&self) -> Result<usize, Refusal> {
        match self.instance()?.code_bytes() {
            is if is == self.code_bytes => Ok(is),
            is => Err(Refusal::Width { was: self.code_bytes, is }),
        }
    }

    /// What `pack` makes of `n` codes, in `bytes` bytes.
    fn pack(
        &self,
        n: usize,
        bytes: usize,
        fill: u8,
        pack: impl FnOnce(&Caller<'_>, &mut [u8]) -> Result<(), CallError>,
    ) -> Result<(Closed, usize), Refusal> {
        let mut packed = Kept::new(bytes)?;
        packed.set_canaries();
        watched(Place::Packed, packed.addresses());
        let out = packed.write::<u8>();
        out.fill(fill);
        calling("pack", "codes", || self.lend(|caller| pack(caller, out)))?;
        if !packed.intact() {
            return Err(Refusal::Outside("pack"));
        }
        Ok((packed.close()?, n))
    }

    /// The lent codes as a matrix (rows, code_bytes).
    fn codes<'l>(&self, lent: &'l Area, rows: usize) -> Result<ArrayView2<'l, u8>, Refusal> {
        let width = self.width()?;
        let bytes = rows.checked_mul(width).filter(|b| *b <= super::exchange::ROOM);
        matrix(lent.lent(bytes.ok_or(TOO_MUCH)?), rows, width)
    }

    /// Runs `body` with what is lent to a call.
    fn lend<T>(
        &self,
        body: impl FnOnce(&Caller<'_>) -> Result<T, CallError>,
    ) -> Result<T, Refusal> {
        let log = |level, text: &str| self.reporter.log(level, text);
        let progress = |fraction: f32, _: &str| {
            self.reporter.progress("", fraction);
            // The parent stops a cell by ending its processes.
            true
        };
        let seed = self.engine.seed;
        let (threads, pool) = match &self.alone {
            Some(alone) => (1, alone),
            None => (self.engine.threads, self.pool),
        };
        Ok(body(&Caller { threads, seed, log: &log, progress: &progress, pool })?)
    }
}

const UNOPENED: Refusal = Refusal::Order("no instance was made");
const NO_THREAD: Refusal = Refusal::Order("it cannot start a thread");
const NO_SCORER: Refusal = Refusal::Order("it has no scorer");
const NO_SEARCH: Refusal = Refusal::Order("it has no search");
const NOT_PACKED: Refusal = Refusal::Order("nothing is packed");
const TOO_MUCH: Refusal = Refusal::Order("more values than an area holds");

fn matrix<T>(values: &[T], rows: usize, width: usize) -> Result<ArrayView2<'_, T>, Refusal> {
    ArrayView2::from_shape((rows, width), values).map_err(|_| TOO_MUCH)
}

/// Room for `len` values of output.
fn output<T: super::exchange::Plain>(filled: &mut Area, len: usize) -> Result<&mut [T], Refusal> {
    let slots = slots(&[len.saturating_mul(size_of::<T>())]).ok_or(TOO_MUCH)?;
    Ok(filled.slice(slots[0].clone()))
}

// ---- pages that a call may not touch ------------------------------------------------------------

/// What lies on pages that are watched.
#[derive(Clone, Copy)]
enum Place {
    Lent,
    Filled,
    Train,
    Packed,
}

/// Per place: from and to of its pages, and the end of the guard behind.
static WATCHED: [[AtomicUsize; 3]; 4] = [const { [const { AtomicUsize::new(0) }; 3] }; 4];
/// Of the request under way.
static NUMBER: AtomicU64 = AtomicU64::new(0);
static SOCKET: AtomicI32 = AtomicI32::new(-1);
/// Position in [`CALLS`] of the call under way.
static CALL: AtomicUsize = AtomicUsize::new(0);

/// Functions, and what they are lent.
const CALLS: [[&str; 2]; 12] = [
    ["", ""],
    ["load", "the library"],
    ["create", "config"],
    ["fit", "train"],
    ["save", "the model"],
    ["load", "model"],
    ["compress", "x"],
    ["decompress", "codes"],
    ["pack", "codes"],
    ["score", "queries"],
    ["search", "queries"],
    ["destroy", "the instance"],
];

fn watched(place: Place, [pages, guard]: [std::ops::Range<usize>; 2]) {
    let [from, to, end] = &WATCHED[place as usize];
    from.store(pages.start, Ordering::Relaxed);
    to.store(pages.end, Ordering::Relaxed);
    end.store(guard.end, Ordering::Relaxed);
}

/// Runs `call`, during which a forbidden access is told as that of `function`.
fn calling<T, E>(
    function: &'static str,
    argument: &'static str,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let known = CALLS.iter().position(|known| *known == [function, argument]);
    CALL.store(known.unwrap_or(0), Ordering::Relaxed);
    let answer = call();
    CALL.store(0, Ordering::Relaxed);
    answer
}

/// The handlers that were there before ours: those of the Rust runtime, which tell a stack overflow.
static BEFORE: std::sync::OnceLock<[libc::sigaction; 2]> = std::sync::OnceLock::new();

/// Has accesses to forbidden pages told to the referee.
fn watch_pages() -> std::io::Result<()> {
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = trespass;
    let mut before = Vec::new();
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: all zeros are a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: likewise.
        let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: both live until the call is over.
        if unsafe { libc::sigaction(signal, &raw const action, &raw mut old) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        before.push(old);
    }
    let _ = BEFORE.set([before[0], before[1]]);
    Ok(())
}

extern "C" fn trespass(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo to a SA_SIGINFO handler.
    let info = unsafe { &*info };
    // SAFETY: these two signals carry an address.
    let address = unsafe { info.si_addr() } as usize;
    let [function, argument] = CALLS[CALL.load(Ordering::Relaxed)];
    let what = WATCHED.iter().enumerate().find_map(|(place, [from, to, end])| {
        let pages = from.load(Ordering::Relaxed)..to.load(Ordering::Relaxed);
        let behind = pages.end..end.load(Ordering::Relaxed);
        let of = [argument, "its output", "train", "the packed codes"][place];
        if behind.contains(&address) {
            Some([function, "reached past the end of", of])
        } else {
            pages.contains(&address).then_some([function, "wrote into what it may only read:", of])
        }
    });
    if let Some(what) = what.filter(|_| !function.is_empty()) {
        let mut frame = [0; 256];
        let bytes = trespassed(NUMBER.load(Ordering::Relaxed), what, &mut frame);
        let socket = SOCKET.load(Ordering::Relaxed);
        // SAFETY: writes so many bytes of a frame of our own; a failure leaves a crash to be seen.
        unsafe { libc::write(socket, frame.as_ptr().cast(), bytes) };
        // SAFETY: ends the process; its other threads may still be in the plugin.
        unsafe { libc::_exit(1) };
    }
    // Somebody else's fault: as if we had not been here, once this returns and it happens again.
    let Some(before) = BEFORE.get() else { return };
    let old = &before[usize::from(signal == libc::SIGBUS)];
    // SAFETY: puts back what sigaction gave.
    unsafe { libc::sigaction(signal, old, std::ptr::null_mut()) };
}
