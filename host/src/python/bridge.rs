//! The worker's side of its interpreter: how it is started, and what is asked of it.
//!
//! ```text
//! frame    u32 bytes of JSON · u32 bytes behind it · JSON · bytes      over one socket
//! pages    two files without names, of an exchange area's layout: lent, filled
//!          in a cell also the two that this process shares with the referee
//! ```
//!
//! What lies in the referee's pages is used there, without a copy; all else goes through our own.
//!
//! An interpreter that ends takes this process with it, by the same signal or status: to the host
//! the two are one plugin.

use super::environment::Environment;
use super::interpreter::Interpreter;
use super::source::Source;
use crate::worker::exchange::{AREA, Area, AreaError, MARGIN, Plain, ROOM};
use crate::worker::protocol::Notice;
use crate::worker::sandbox::Program;
use ndarray::{ArrayView2, ArrayViewMut2};
use nix::libc;
use nix::sys::signal::{SigHandler, raise, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use vq_plugin_api::params::{Param, Value as Setting};
use vq_plugin_api::{Error, Space};

const BOOT: &str = include_str!("boot.py");
/// Bytes of JSON, and bytes behind it, that are taken from an interpreter.
const MOST_TEXT: u32 = 64 << 20;
const MOST_BYTES: u32 = 1 << 30;
/// Rows of a call: what a class may take per row in between is its own affair, and limited.
const ROWS: usize = 4096;
/// Pairs of a query and a code that are scored in a call, for the same reason.
const PAIRS: usize = 32 * ROWS;
/// Notices that wait to be taken.
const MOST_NOTICES: usize = 16;

/// An interpreter that was started and opened nothing yet.
#[derive(Debug)]
pub(crate) struct Started {
    pid: Pid,
    interpreter: Interpreter,
    source: Source,
    socket: UnixStream,
    lent: Area,
    filled: Area,
    /// Where the referee's two areas lie in this process, if it has any.
    exchanged: [Range<usize>; 2],
}

/// Where values lie that a request lends, or where those go that it asks for.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Place {
    /// In the referee's area.
    exchanged: bool,
    /// From the area's first byte.
    at: usize,
}

/// A call ended since the class broke the contract, for which a plugin has no return code.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Whether the call that failed last did so because the class broke the contract; asked once.
pub(super) fn broken() -> bool {
    BROKEN.swap(false, Ordering::Relaxed)
}

/// Calls that are timed are those of whole blocks, as a library gets them.
static WHOLE: AtomicBool = AtomicBool::new(false);

/// See [`super::in_whole_blocks`].
pub(super) fn in_whole_blocks(whole: bool) {
    WHOLE.store(whole, Ordering::Relaxed);
}

/// Whether they are asked for now.
pub(super) fn whole_blocks() -> bool {
    WHOLE.load(Ordering::Relaxed)
}

/// Of objects that were given up.
static NOTICED: Mutex<Vec<Notice>> = Mutex::new(Vec::new());

/// See [`super::noticed`].
pub(super) fn noticed() -> Vec<Notice> {
    std::mem::take(&mut *NOTICED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Keeps what was noticed of an object.
pub(super) fn notice(notice: Notice) {
    let mut kept = NOTICED.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < MOST_NOTICES {
        kept.push(notice);
    }
}

/// What is asked of an interpreter, before and after it was started.
#[derive(Debug)]
pub(crate) struct Waiting {
    interpreter: Interpreter,
    source: Source,
    socket: UnixStream,
    lent: Area,
    filled: Area,
}

impl Waiting {
    /// Makes what the two share, and the program to be started with its part of it; `exchanged` are
    /// the referee's areas, lent and filled, where there is a referee.
    pub(crate) fn prepare(
        interpreter: Interpreter,
        source: Source,
        exchanged: Option<[&OwnedFd; 2]>,
    ) -> Result<(Waiting, Program), AreaError> {
        let (ours, theirs) = UnixStream::pair()?;
        let (lent, filled) = (Area::file("python lent")?, Area::file("python filled")?);
        let (our_lent, our_filled) = (Area::map(&lent, true)?, Area::map(&filled, true)?);
        // What lies in them is memory that no limit on the interpreter counts, and what is lent could
        // be opened again for writing.
        Area::seal(&lent, true)?;
        Area::seal(&filled, false)?;
        let to_read = File::open(format!("/proc/self/fd/{}", lent.as_raw_fd()))?;
        let mut files: Vec<OwnedFd> = vec![theirs.into(), to_read.into(), filled];
        if let Some([lent, filled]) = exchanged {
            files.extend([lent.try_clone()?, filled.try_clone()?]);
        }
        let text = |text: &str| CString::new(text).map_err(io::Error::from);
        let file = CString::new(interpreter.program.as_os_str().as_encoded_bytes());
        let file = file.map_err(io::Error::from)?;
        let mut arguments = vec![file.clone()];
        for argument in ["-S", "-s", "-u", "-X", "utf8", "-X", "faulthandler", "-c", BOOT] {
            arguments.push(text(argument)?);
        }
        arguments.extend([text(&AREA.to_string())?, text(&(files.len() - 1).to_string())?]);
        let mut environment = Vec::new();
        let own = [("PYTHONHASHSEED", "0"), ("PYTHONDONTWRITEBYTECODE", "1")];
        for (name, value) in own {
            environment.push(text(&format!("{name}={value}"))?);
        }
        for (name, value) in std::env::vars_os() {
            let pair = [name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat();
            environment.push(CString::new(pair).map_err(io::Error::from)?);
        }
        let executable = interpreter.executable();
        let (socket, filled) = (ours, our_filled);
        let waiting = Waiting { interpreter, source, socket, lent: our_lent, filled };
        Ok((waiting, Program { file, arguments, environment, lent: files, executable }))
    }

    /// The program of it runs as `pid`.
    pub(crate) fn started(self, pid: Pid) {
        let Waiting { interpreter, source, socket, lent, filled } = self;
        let exchanged = [0..0, 0..0];
        let started = Started { pid, interpreter, source, socket, lent, filled, exchanged };
        let _ = STARTED.set(Mutex::new(started));
    }
}

/// This process has one interpreter, if any.
static STARTED: OnceLock<Mutex<Started>> = OnceLock::new();

/// Tells where the referee's areas lie, lent and filled, which the interpreter has mapped as well.
pub(crate) fn exchanging(areas: [Range<usize>; 2]) {
    if let Ok(mut started) = lock() {
        started.exchanged = areas;
    }
}

/// The process of the interpreter.
pub(crate) fn pid() -> Option<u32> {
    STARTED.get().map(|_| lock().ok().map(|of| of.pid.as_raw().cast_unsigned()))?
}

pub(super) fn lock() -> Result<MutexGuard<'static, Started>, Error> {
    let started = STARTED.get().ok_or_else(|| Error::failed("no interpreter was started"))?;
    Ok(started.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What a file offers, as its interpreter tells.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Opened {
    pub(super) methods: Vec<Told>,
    version: String,
    distributions: Vec<std::path::PathBuf>,
}

/// A class.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) version: String,
    params: Vec<ToldParam>,
    /// Functions beyond those that every method has.
    pub(super) offers: Vec<String>,
    /// `own`, or `bits` for a grid that takes target rates.
    pub(super) grid: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct ToldParam {
    name: String,
    help: String,
    kind: String,
    item_kind: Option<String>,
    default: Value,
    choices: Vec<Value>,
    grid: Vec<Value>,
}

impl Told {
    /// Its parameters, in the SDK's terms.
    pub(super) fn params(&self) -> Vec<Param> {
        use vq_plugin_api::params::Kind;
        let kind = |name: &str| match name {
            "bool" => Kind::Bool,
            "int" => Kind::Int,
            "float" => Kind::Float,
            "list" => Kind::List,
            _ => Kind::Str,
        };
        let all = |values: &[Value]| values.iter().filter_map(setting).collect();
        let param = |of: &ToldParam| {
            let param = Param {
                name: of.name.clone(),
                help: of.help.clone(),
                kind: kind(&of.kind),
                item_kind: of.item_kind.as_deref().map(kind),
                default: setting(&of.default),
                min: None,
                max: None,
                choices: all(&of.choices),
                grid: all(&of.grid),
            };
            Param { default: param.default.clone().map(|value| param.coerce(value)), ..param }
        };
        self.params.iter().map(param).collect()
    }
}

/// A JSON value as a parameter's.
pub(super) fn setting(value: &Value) -> Option<Setting> {
    Some(match value {
        Value::Bool(v) => Setting::Bool(*v),
        Value::Number(v) => match v.as_i64() {
            Some(v) => Setting::Int(v),
            None => Setting::Float(v.as_f64()?),
        },
        Value::String(v) => Setting::Str(v.clone()),
        Value::Array(items) => Setting::List(items.iter().map(setting).collect::<Option<_>>()?),
        Value::Null | Value::Object(_) => return None,
    })
}

/// What an interpreter answers.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Ok(Value),
    Log((String, String)),
    #[serde(untagged)]
    Failed {
        error: String,
        kind: String,
    },
}

impl Started {
    /// Opens the method that it was started for; `describe`: it is to tell what it imported.
    pub(super) fn open(&mut self, describe: bool) -> Result<(Opened, Environment), Error> {
        // As they were found outside: here not all of them can be seen.
        let (interpreter, source) = (self.interpreter.clone(), self.source.clone());
        let opened: Opened = self.ask(json!({
            "op": "open",
            "program": interpreter.program,
            "prefix": interpreter.prefix,
            "sites": interpreter.sites,
            "module": source.module,
            "modules": source.files,
            "id": source.id(),
            "describe": describe,
        }))?;
        let distributions = opened.distributions.clone();
        let environment = Environment::new(&interpreter, opened.version.clone(), distributions);
        Ok((opened, environment))
    }

    /// Asks for something that needs no values.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, request: Value) -> Result<T, Error> {
        self.call(&request, &[], &mut |_, _| ()).map(|(answer, _)| answer)
    }

    /// Sends `request` and `bytes`; answers what came back. Log lines go to `log`.
    pub(super) fn call<T: DeserializeOwned>(
        &mut self,
        request: &Value,
        bytes: &[u8],
        log: &mut dyn FnMut(&str, &str),
    ) -> Result<(T, Vec<u8>), Error> {
        let sent = self.send(request, bytes);
        if sent.is_err() {
            self.end();
        }
        loop {
            let Ok((text, bytes)) = self.receive() else { self.end() };
            let reply: Reply = serde_json::from_slice(&text)
                .map_err(|e| Error::failed(format!("its interpreter speaks nonsense: {e}")))?;
            match reply {
                Reply::Ok(answer) => {
                    let answer = serde_json::from_value(answer);
                    let nonsense = |e| Error::failed(format!("its interpreter answered: {e}"));
                    return answer.map(|answer| (answer, bytes)).map_err(nonsense);
                }
                Reply::Log((level, text)) => log(&level, &text),
                Reply::Failed { error, kind } => {
                    return Err(match kind.as_str() {
                        "config" => match error.split_once(": ") {
                            Some((name, reason)) => Error::param(name, reason),
                            None => Error::param("__init__", error),
                        },
                        "unsupported" => Error::unsupported("save"),
                        kind => {
                            BROKEN.store(kind == "invalid", Ordering::Relaxed);
                            Error::failed(error)
                        }
                    });
                }
            }
        }
    }

    fn send(&mut self, request: &Value, bytes: &[u8]) -> io::Result<()> {
        let text = serde_json::to_vec(request)?;
        let length = |of: &[u8]| u32::try_from(of.len()).map_err(io::Error::other);
        let mut frame = Vec::with_capacity(8 + text.len());
        frame.extend(length(&text)?.to_le_bytes());
        frame.extend(length(bytes)?.to_le_bytes());
        frame.extend(text);
        self.socket.write_all(&frame)?;
        self.socket.write_all(bytes)
    }

    fn receive(&mut self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut lengths = [0; 8];
        self.socket.read_exact(&mut lengths)?;
        let [a, b, c, d, e, f, g, h] = lengths;
        let (text, bytes) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if text > MOST_TEXT || bytes > MOST_BYTES {
            return Err(io::Error::other("a frame that is too long"));
        }
        let mut read = |length: u32| {
            let mut bytes = vec![0; length as usize];
            self.socket.read_exact(&mut bytes).map(|()| bytes)
        };
        Ok((read(text)?, read(bytes)?))
    }

    /// Ends this process as the interpreter ended.
    fn end(&self) -> ! {
        // One that only closed its socket, or said what was not taken, has no more to say: it ends
        // when nobody listens, for no signal reaches it from within the walls.
        // SAFETY: nobody uses the descriptor again, as this process ends below.
        unsafe { libc::close(self.socket.as_raw_fd()) };
        let status = match waitpid(self.pid, None) {
            Ok(WaitStatus::Signaled(_, signalled, _)) => {
                // SAFETY: the default action, which ends this process.
                let _ = unsafe { signal(signalled, SigHandler::SigDfl) };
                // To this very thread: another would get it after this one is gone.
                let _ = raise(signalled);
                1
            }
            Ok(WaitStatus::Exited(_, status)) => status,
            _ => 1,
        };
        // SAFETY: ends the process at once, as a plugin's `exit` would.
        unsafe { libc::_exit(status) }
    }

    /// Room for `len` values that the next request lends.
    pub(super) fn lend<T: Plain>(&mut self, len: usize) -> &mut [T] {
        self.lent.values(len)
    }

    /// Lends `values`, which are copied unless they are the referee's.
    pub(super) fn lend_rows<T: Plain>(&mut self, values: ArrayView2<'_, T>) -> Place {
        if let Some(place) = values.as_slice().and_then(|all| within(&self.exchanged[0], all)) {
            return place;
        }
        copy(values, self.lend(values.len()));
        OWN
    }

    /// Lends queries and codes together, likewise.
    pub(super) fn lend_both(
        &mut self,
        queries: ArrayView2<'_, f32>,
        codes: ArrayView2<'_, u8>,
    ) -> [Place; 2] {
        let lent = |range: &Range<usize>| queries.as_slice().and_then(|all| within(range, all));
        if let Some(place) = lent(&self.exchanged[0]) {
            return [place, self.lend_rows(codes)];
        }
        // Codes may be of any type, numpy's among them: they begin where each of these may.
        let behind = (4 * queries.len()).next_multiple_of(64);
        copy(codes, &mut self.lend(behind + codes.len())[behind..]);
        copy(queries, self.lend(queries.len()));
        [OWN, Place { at: OWN.at + behind, ..OWN }]
    }

    /// Where the next request is to put `values`.
    pub(super) fn room_for<T: Plain>(&self, values: &ArrayViewMut2<'_, T>) -> Place {
        values.as_slice().and_then(|all| within(&self.exchanged[1], all)).unwrap_or(OWN)
    }

    /// Has `values` hold what the last request put at `place`, as [`Self::room_for`] gave it.
    pub(super) fn take<T: Plain>(&self, place: Place, values: ArrayViewMut2<'_, T>) {
        if !place.exchanged {
            copy_out(self.filled.lent(values.len()), values);
        }
    }
}

/// Where our own areas' values begin.
const OWN: Place = Place { exchanged: false, at: MARGIN };

/// The place of `values` in the area at `addresses`, if they lie in it.
fn within<T>(addresses: &Range<usize>, values: &[T]) -> Option<Place> {
    let start = values.as_ptr().addr();
    let inside = addresses.start <= start && start + size_of_val(values) <= addresses.end;
    inside.then(|| Place { exchanged: true, at: start - addresses.start })
}

/// Copies rows of `from`, wherever they lie, one behind the other.
fn copy<T: Copy>(from: ArrayView2<'_, T>, to: &mut [T]) {
    match from.as_slice() {
        Some(all) => to.copy_from_slice(all),
        None => {
            let rows = to.chunks_exact_mut(from.ncols().max(1)).zip(from.outer_iter());
            rows.for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(to, from)| *to = *from));
        }
    }
}

fn copy_out<T: Copy>(from: &[T], mut to: ArrayViewMut2<'_, T>) {
    if let Some(all) = to.as_slice_mut() {
        return all.copy_from_slice(from);
    }
    let width = to.ncols().max(1);
    let rows = to.outer_iter_mut().zip(from.chunks_exact(width));
    rows.for_each(|(mut to, from)| to.iter_mut().zip(from).for_each(|(to, from)| *to = *from));
}

/// How many rows go into one call, of so many bytes each, of the larger side.
pub(super) fn rows_at_once(bytes: usize) -> usize {
    let most = if whole_blocks() { usize::MAX } else { ROWS };
    (ROOM / bytes.max(1)).clamp(1, most)
}

/// How many queries go into one call, of `bytes` each, and codes of `width` bytes with them: their
/// room is one.
pub(super) fn scored_at_once(queries: usize, bytes: usize, width: usize) -> (usize, usize) {
    let queries = (ROOM / 2 / bytes.max(1)).clamp(1, queries.max(1));
    let room = ROOM.saturating_sub((queries * bytes).next_multiple_of(64));
    let codes = (room / width.max(1)).min(ROOM / 4 / queries).min(PAIRS / queries);
    (queries, codes.max(1))
}

/// The name of a space's metric, as sweeps have it.
pub(super) fn metric(space: Space) -> &'static str {
    match space.metric {
        vq_plugin_api::Metric::L2 => "l2",
        vq_plugin_api::Metric::Ip => "ip",
        vq_plugin_api::Metric::Cosine => "cosine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scored_at_once_fits_and_has_no_more_pairs_than_a_class_can_bear() {
        for (queries, bytes, width) in
            [(1, 400, 20), (32, 6144, 192), (9, ROOM, 1), (7, 4, ROOM / 2)]
        {
            let (q, codes) = scored_at_once(queries, bytes, width);
            assert!(q >= 1 && q <= queries && codes >= 1, "{q} and {codes}");
            assert!(q * codes <= PAIRS && 4 * q * codes <= ROOM, "{q} and {codes}");
            assert!(q == 1 || q * bytes + codes * width <= ROOM, "{q} and {codes}");
        }
        assert_eq!(scored_at_once(32, 400, 20), (32, ROWS));
    }

    #[test]
    fn only_what_lies_wholly_in_an_area_is_used_there() {
        let values = [0f32; 16];
        let start = values.as_ptr().addr();
        let area = start + 8..start + 48;
        let at = |range: Range<usize>| within(&area, &values[range]).map(|place| place.at);
        assert_eq!(at(2..12), Some(0));
        assert_eq!(at(5..7), Some(12));
        assert_eq!(at(1..5), None);
        assert_eq!(at(11..13), None);
        assert_eq!(within(&(0..0), &values).map(|place| place.at), None);
    }
}
