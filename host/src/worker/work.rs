//! The child's side: takes one job from stdin, confines itself, does it, answers on a pipe of its
//! own. Whatever a plugin prints goes to stderr, which the parent captures. Of a cell's three
//! children only the referee (`measure`) answers; the others are engines (`engine`).

use super::engine::{self, Shared};
use super::fault::HostFault;
use super::lines::GRID_BYTES;
use super::protocol::{
    Answer, CheckFinding, CheckedMethod, Job, Made, Message, Order, Stage, Step,
};
use super::read;
use super::reporter::{Failure, Reporter};
use super::sandbox::{self, Room};
use crate::data::Prepared;
use crate::measure;
use crate::plugin::LibraryDescription;
use crate::plugin::load::{self, Loaded, Opened};
use crate::plugin::needs::Needs;
#[cfg(target_os = "linux")]
use crate::python::bridge::Waiting;
#[cfg(target_os = "linux")]
use crate::python::interpreter::Interpreter;
use crate::python::is_python;
#[cfg(target_os = "linux")]
use crate::python::source::Source;
use crate::record::Sandbox;
use nix::sys::resource::{Resource, setrlimit};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use vq_plugin_api::conformance::{Event, Finding, Severity, Skip};
use vq_plugin_api::handle::{Method, Proposal};
use vq_plugin_api::params::Config;
use vq_plugin_api::thread_state::Change;
use vq_plugin_api::{GridRequest, conformance};

/// The verb by which the host starts itself as a worker.
pub(super) const VERB: &str = "worker";
/// How long text on its way through a pipe of this process is waited for.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The descriptors that this process was started to work with, if it was started as a worker.
pub fn asked_for(args: impl IntoIterator<Item = OsString>) -> Option<Vec<i32>> {
    let mut args = args.into_iter().skip(1);
    (args.next()? == VERB).then_some(())?;
    args.map(|number| number.to_str()?.parse().ok()).collect()
}

/// The body of a worker; `lent` are the descriptors it was given beside the standard ones.
pub fn main(lent: &[i32]) -> ExitCode {
    let Ok((pipe, lent)) = take_descriptors(lent) else { return ExitCode::FAILURE };
    let reporter = Arc::new(Reporter::new(pipe));
    let mut text = String::new();
    // A line, not to the end: a referee hears more later.
    let read = std::io::stdin().read_line(&mut text);
    let order: Order = match read
        .map_err(|e| e.to_string())
        .and_then(|_| serde_json::from_str(&text).map_err(|e| e.to_string()))
    {
        Ok(order) => order,
        Err(error) => {
            let reason = format!("it takes its job from vq-host run: {error}");
            fail(&reporter, HostFault::Begin { reason }.into());
            return ExitCode::FAILURE;
        }
    };
    match begin(&order, lent, &reporter) {
        Ok(Some(answer)) => reporter.send(&Message::Answer(Box::new(answer))),
        Ok(None) => {}
        Err(failure) => fail(&reporter, failure),
    }
    // Without running the plugin's exit handlers: the answer is out, and they could still hang.
    std::io::stdout().flush().ok();
    nix_exit()
}

/// Confines this process and does what is ordered; an engine has no answer of its own.
fn begin(
    order: &Order,
    lent: Vec<OwnedFd>,
    reporter: &Arc<Reporter>,
) -> Result<Option<Answer>, Failure> {
    let unable = |reason: String| HostFault::Begin { reason };
    confine(order).map_err(|e| unable(format!("its limits cannot be set: {e}")))?;
    let needs = match &order.job {
        Job::Referee(_) | Job::Read(_) => Needs::default(),
        _ if is_python(&order.library) => Needs::default(),
        _ => Needs::of(&order.library),
    };
    let held = enter(order, &needs, &lent)?;
    let confined = Message::Confined(held);
    if let Some(expected) = &order.digests {
        expected.hold(&order.library, &needs).map_err(|how| Failure::Replaced { how })?;
    }
    match &order.job {
        Job::Engine(engine) => {
            let lent = <[OwnedFd; 3]>::try_from(lent);
            let lent = lent.map_err(|_| unable("it was lent too little".into()))?;
            let shared = Shared::new(lent).map_err(|e| unable(e.to_string()))?;
            engine::serve(order, engine, shared, reporter, confined)?;
            Ok(None)
        }
        Job::Referee(cell) => {
            reporter.send(&confined);
            let mut lent = lent;
            let candidates = if cell.stage == Stage::Whole { None } else { lent.pop() };
            let lent = <[OwnedFd; 8]>::try_from(lent);
            let lent = lent.map_err(|_| unable("it was lent too little".into()))?;
            measure::measure(cell, lent, candidates, reporter).map(Answer::Measured).map(Some)
        }
        Job::Read(reading) => {
            reporter.send(&confined);
            read::read(reading, lent, reporter).map(Some)
        }
        _ => {
            reporter.send(&confined);
            work(order, reporter).map(Some)
        }
    }
}

/// Confines this process, and the interpreter that it starts for a method in Python, which has what
/// an engine was `lent` but for the socket.
#[cfg(target_os = "linux")]
fn enter(order: &Order, needs: &Needs, lent: &[OwnedFd]) -> Result<Sandbox, HostFault> {
    let unable = |reason: String| HostFault::Begin { reason };
    let mut room = room(order);
    let of_plugin = room.role == sandbox::Role::Engine && !matches!(order.job, Job::Read(_));
    let (waiting, program) = if of_plugin && is_python(&order.library) {
        let interpreter = Interpreter::of(&order.library, order.job.python());
        let interpreter = interpreter.map_err(|e| unable(e.to_string()))?;
        let source = Source::of(&order.library).map_err(|e| unable(e.to_string()))?;
        room.readable.extend(source.files.values().cloned());
        room.readable.extend(interpreter.readable());
        let exchanged = match (&order.job, lent) {
            (Job::Engine(_), [_, lent, filled]) => Some([lent, filled]),
            _ => None,
        };
        let prepared = Waiting::prepare(interpreter, source, exchanged);
        let (waiting, program) = prepared.map_err(|e| unable(e.to_string()))?;
        (Some(waiting), Some(program))
    } else {
        (None, None)
    };
    let confine = |e: sandbox::EnterError| HostFault::Confine { reason: e.to_string() };
    let (held, pid) = match order.sandbox {
        true => sandbox::enter(&room, needs, program).map_err(confine)?,
        false => {
            let held = Sandbox::Off { reason: "--no-sandbox".into() };
            (held, program.map(|of| of.start(|_| Ok(()))).transpose().map_err(confine)?)
        }
    };
    if let (Some(waiting), Some(pid)) = (waiting, pid) {
        waiting.started(pid);
    }
    Ok(held)
}

#[cfg(not(target_os = "linux"))]
fn enter(order: &Order, needs: &Needs, _: &[OwnedFd]) -> Result<Sandbox, HostFault> {
    match order.sandbox {
        false => Ok(Sandbox::Off { reason: "--no-sandbox".into() }),
        true => sandbox::enter(&room(order), needs)
            .map_err(|e| HostFault::Confine { reason: e.to_string() }),
    }
}

fn nix_exit() -> ExitCode {
    // SAFETY: ends the process at once; nothing of ours is left to clean up.
    unsafe { nix::libc::_exit(0) }
}

fn fail(reporter: &Reporter, failure: Failure) {
    reporter.send(&Message::Answer(Box::new(failure.into())));
}

/// Keeps the real stdout for ourselves, points descriptor 1 at stderr, and takes what was `lent`.
///
/// Descriptors that the user's shell or scheduler left to us are closed: the plugin could use what
/// they lead to, and no sandbox would ask.
fn take_descriptors(lent: &[i32]) -> nix::Result<(OwnedFd, Vec<OwnedFd>)> {
    let private = nix::fcntl::fcntl(std::io::stdout(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(10))?;
    nix::unistd::dup2_stdout(std::io::stderr())?;
    #[cfg(target_os = "linux")]
    close_all_but(lent.iter().copied().chain([private]).collect());
    // SAFETY: fcntl has just made this descriptor, and nobody else knows of it.
    let private = unsafe { OwnedFd::from_raw_fd(private) };
    // SAFETY: the parent opened these for this process alone, which has only just begun.
    let lent = lent.iter().map(|number| unsafe { OwnedFd::from_raw_fd(*number) });
    Ok((private, lent.collect()))
}

/// Closes what is open beyond the standard descriptors and those `kept`. Without effect before Linux
/// 5.9.
#[cfg(target_os = "linux")]
fn close_all_but(mut kept: Vec<i32>) {
    kept.sort_unstable();
    let mut from = 3;
    for until in kept.into_iter().chain([i32::MAX]) {
        if from < until {
            let (first, last) = (from.cast_unsigned(), (until - 1).cast_unsigned());
            // SAFETY: nothing of ours is open beyond the standard descriptors yet, but those in
            // `kept`, which lie in no such range.
            unsafe { nix::libc::syscall(nix::libc::SYS_close_range, first, last, 0u32) };
        }
        from = until.saturating_add(1);
    }
}

/// What the job of `order` has to touch.
fn room(order: &Order) -> Room {
    let engine = |threads| {
        (sandbox::Role::Engine, vec![order.library.clone()], threads, Some(order.file_bytes))
    };
    let (role, readable, threads, largest_file) = match &order.job {
        // What it writes is the codes.
        Job::Referee(cell) => (sandbox::Role::Referee, files(&cell.data), cell.threads, None),
        Job::Engine(of) => engine(of.threads),
        Job::Read(of) => (sandbox::Role::Engine, of.files.clone(), 1, Some(order.file_bytes)),
        _ => engine(1),
    };
    let (scratch, memory) = (order.scratch.clone(), order.memory);
    Room { role, readable, scratch, memory, threads, largest_file }
}

/// The files of prepared `data`.
fn files(data: &Prepared) -> Vec<PathBuf> {
    let rows = [&data.base, &data.train, &data.queries];
    let judge = data.judge.iter().flat_map(|judge| [&judge.base, &judge.queries]);
    let files = rows.into_iter().chain(judge).flat_map(|rows| rows.files());
    files.chain([data.truth.path.as_path()]).map(PathBuf::from).collect()
}

/// Dies with the parent, leaves no core dumps, keeps to the memory limit.
fn confine(order: &Order) -> nix::Result<()> {
    #[cfg(target_os = "linux")]
    {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if nix::unistd::getppid().as_raw().cast_unsigned() != order.parent {
            return Err(nix::errno::Errno::ESRCH);
        }
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if let Some(memory) = order.memory {
        // Private writable memory: heap, stacks, anonymous maps; the mapped files of libraries
        // do not count, unlike with RLIMIT_AS.
        setrlimit(Resource::RLIMIT_DATA, memory, memory)?;
    }
    Ok(())
}

fn work(order: &Order, reporter: &Arc<Reporter>) -> Result<Answer, Failure> {
    reporter.progress("load", 0.0);
    if matches!(order.job, Job::Describe { .. }) && is_python(&order.library) {
        return Ok(Answer::Described(match load::open_python(&order.library, None) {
            Ok(Opened::Plugin(loaded)) => loaded.describe(),
            Ok(Opened::Nothing(python)) => LibraryDescription {
                sdk: String::new(),
                abi: (0, 0),
                layout_checked: false,
                python: Some(python),
                methods: Vec::new(),
            },
            Err(error) => return Err(Failure::failed(error)),
        }));
    }
    let loaded = load::open(&order.library, order.job.method()).map_err(Failure::failed)?;
    note(reporter, "opening the library", loaded.changed);
    let answer = answer(order, &loaded, reporter);
    note(reporter, "a call of the library", loaded.plugin.changed());
    answer
}

/// Tells what plugin code left behind in a thread of ours.
pub(super) fn note(reporter: &Reporter, what: &str, changed: Change) {
    if !changed.is_none() {
        let note = format!("{what} changed {changed}, and vq-host put it back");
        reporter.send(&Message::Note(note));
    }
}

fn answer(order: &Order, loaded: &Loaded, reporter: &Arc<Reporter>) -> Result<Answer, Failure> {
    match &order.job {
        Job::Describe { .. } => Ok(Answer::Described(loaded.describe())),
        Job::Expand { method, requests, .. } => expand(find(loaded, method)?, requests, reporter),
        Job::Check { method, fixed } => {
            check(find(loaded, method)?, fixed, reporter).map(Answer::Checked)
        }
        Job::Print { method, fixed } => {
            reporter.progress("print", 0.0);
            let hear = heard_by(reporter);
            Ok(Answer::Printed(conformance::print(find(loaded, method)?, fixed, hear)))
        }
        Job::Engine(_) | Job::Referee(_) | Job::Read(_) => Err(Failure::failed("not a question")),
    }
}

fn find<'a>(loaded: &'a Loaded, id: &str) -> Result<&'a Method, Failure> {
    loaded
        .plugin
        .methods()
        .iter()
        .find(|m| m.about().id == id)
        .ok_or_else(|| Failure::failed(format!("{} no longer offers {id}", loaded.path.display())))
}

fn expand(
    method: &Method,
    requests: &[GridRequest],
    reporter: &Reporter,
) -> Result<Answer, Failure> {
    reporter.progress("expand_grid", 0.0);
    for (request, asked) in requests.iter().enumerate() {
        let (mut some, mut bytes) = (Vec::new(), 0);
        let send = |proposals: Vec<Proposal>| {
            if !proposals.is_empty() {
                reporter.send(&Message::Proposed { request, proposals });
            }
        };
        for proposal in method.expand(asked)? {
            bytes += serde_json::to_string(&proposal).map_or(0, |text| text.len());
            some.push(proposal);
            if bytes > GRID_BYTES {
                send(std::mem::take(&mut some));
                bytes = 0;
            }
        }
        send(some);
    }
    Ok(Answer::Expanded)
}

fn check(
    method: &Method,
    fixed: &Config,
    reporter: &Arc<Reporter>,
) -> Result<CheckedMethod, Failure> {
    let step = Arc::new(Mutex::new(Step::default()));
    let stepped = {
        let (step, reporter) = (Arc::clone(&step), Arc::clone(reporter));
        move |change: &dyn Fn(&mut Step)| {
            let mut step = step.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut step);
            reporter.progress(&step.to_string(), 0.0);
        }
    };
    let printed = overhear_stdout().map_err(Failure::failed)?;
    let begins = stepped.clone();
    let calls = move |function: &'static str| stepped(&|step| step.function = function.into());
    let watched = method.watched(Arc::new(calls));
    let hear = heard_by(reporter);
    let mut made = None;
    let report = conformance::check_method(&watched, fixed, hear, &mut |event| match event {
        Event::Begins(line) => {
            // The kit says `method: rule (where)`; the parent knows the method.
            let rule = line.split_once(": ").map_or(line, |(_, rule)| rule);
            begins(&|step| *step = Step { function: String::new(), rule: rule.into() });
        }
        Event::Found(finding) => reporter.send(&Message::Found(told(finding))),
        Event::Skipped(skip) => reporter.send(&Message::Skipped(skip.clone())),
        Event::Printed(print) => made = Some((*print, Instant::now())),
    });
    let mut findings: Vec<CheckFinding> = report.findings.iter().map(told).collect();
    flush_c_streams();
    if let Ok(text) = printed.recv_timeout(LAST_WORDS) {
        let text: String =
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
        findings.push(CheckFinding {
            rule: conformance::STDOUT.to_owned(),
            severity: "warning".to_owned(),
            function: "stdout".to_owned(),
            input: "all calls of the check".to_owned(),
            found: format!("it printed, first of all: {}", text.trim()),
            contract: conformance::rule(conformance::STDOUT).contract.to_owned(),
        });
    }
    let mut skipped = report.skipped;
    if !method.about().deterministic {
        made = None;
        skipped.push(Skip {
            rule: conformance::ACROSS.to_owned(),
            place: String::new(),
            why: "the method does not claim VQ_DETERMINISTIC".to_owned(),
        });
    }
    Ok(CheckedMethod {
        method: report.id,
        checks: report.checks_run,
        findings,
        skipped,
        log: None,
        made: made.map(|(print, at)| Made { print, age_s: at.elapsed().as_secs_f64() }),
    })
}

/// Log lines of a method that is checked go where others go.
fn heard_by(reporter: &Arc<Reporter>) -> conformance::Hear {
    let reporter = Arc::clone(reporter);
    Arc::new(move |level, text: &str| reporter.log(level, text))
}

fn told(finding: &Finding) -> CheckFinding {
    CheckFinding {
        rule: finding.rule.to_owned(),
        severity: match finding.severity {
            Severity::Error => "error".to_owned(),
            Severity::Warning => "warning".to_owned(),
        },
        function: finding.function.to_owned(),
        input: finding.input.clone(),
        found: finding.found.clone(),
        contract: finding.contract.to_owned(),
    }
}

/// Points descriptor 1 at a pipe, whose text goes on to stderr; answers the first of it.
fn overhear_stdout() -> std::io::Result<mpsc::Receiver<String>> {
    let (mut ear, mouth) = std::io::pipe()?;
    nix::unistd::dup2_stdout(&mouth)?;
    let (first, heard) = mpsc::sync_channel(1);
    // Not waited for: a process that the plugin left behind may hold the pipe for ever.
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = ear.read(&mut chunk) {
            // Full from the first text on.
            let _ = first.try_send(String::from_utf8_lossy(&chunk[..n]).into_owned());
            let _ = std::io::stderr().write_all(&chunk[..n]);
        }
    });
    Ok(heard)
}

/// What a C plugin has printed waits in a buffer of the C library.
fn flush_c_streams() {
    // SAFETY: NULL stands for all streams; no stream is used otherwise in this process.
    unsafe { nix::libc::fflush(std::ptr::null_mut()) };
}
