//! The child's side: takes one job from stdin, does it, answers on a pipe that the plugin does
//! not know of. Whatever the plugin prints goes to stderr, which the parent captures.

use super::fault::HostFault;
use super::protocol::{Answer, CheckFinding, CheckedMethod, Job, Message, Order, Step};
use super::reporter::{Failure, Reporter};
use super::sandbox::{Role, Room};
use super::{measure, sandbox};
use crate::plugin::load::{self, Loaded};
use crate::plugin::needs::Needs;
use crate::record::Sandbox;
use nix::sys::resource::{Resource, setrlimit};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use vq_plugin_api::conformance::{Event, Finding, Severity};
use vq_plugin_api::handle::Method;
use vq_plugin_api::params::Config;
use vq_plugin_api::thread_state::Change;
use vq_plugin_api::{GridRequest, conformance};

/// How long text on its way through a pipe of this process is waited for.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Bytes that one file of a plugin may have.
const LARGEST_FILE: u64 = 1 << 30;

/// The body of `vq-host worker`.
pub fn main() -> ExitCode {
    let Ok(reporter) = take_stdout().map(|pipe| Arc::new(Reporter::new(pipe))) else {
        return ExitCode::FAILURE;
    };
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
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
    if let Err(error) = confine(&order) {
        let reason = format!("its limits cannot be set: {error}");
        fail(&reporter, HostFault::Begin { reason }.into());
        return ExitCode::FAILURE;
    }
    let needs = Needs::of(&order.library);
    let held = match room(&order) {
        Some(room) => sandbox::enter(&room, &needs),
        None => Ok(Sandbox::Off { reason: "--no-sandbox".into() }),
    };
    match held {
        Ok(held) => reporter.send(&Message::Confined(held)),
        Err(error) => {
            fail(&reporter, HostFault::Confine { reason: error.to_string() }.into());
            return ExitCode::FAILURE;
        }
    }
    match work(&order, &needs, &reporter) {
        Ok(answer) => reporter.send(&Message::Answer(Box::new(answer))),
        Err(failure) => fail(&reporter, failure),
    }
    // Without running the plugin's exit handlers: the answer is out, and they could still hang.
    std::io::stdout().flush().ok();
    nix_exit()
}

/// What the process that does `order` is left; `None` without a sandbox.
fn room(order: &Order) -> Option<Room> {
    let mut readable = vec![order.library.clone()];
    let mut threads = 1;
    if let Job::Measure(cell) = &order.job {
        let data = &cell.data;
        let rows = [&data.base, &data.train, &data.queries];
        readable.extend(rows.map(|rows| rows.path.clone()));
        readable.extend(rows.iter().filter_map(|rows| rows.blocks.clone()));
        readable.push(data.truth.path.clone());
        threads = cell.threads;
    }
    Some(Room {
        role: Role::Engine,
        readable,
        scratch: Some(order.scratch.clone()?),
        memory: order.memory,
        threads,
        largest_file: Some(LARGEST_FILE),
    })
}

fn nix_exit() -> ExitCode {
    // SAFETY: ends the process at once; nothing of ours is left to clean up.
    unsafe { nix::libc::_exit(0) }
}

fn fail(reporter: &Reporter, failure: Failure) {
    reporter.send(&Message::Answer(Box::new(failure.into())));
}

/// Keeps the real stdout for ourselves and points descriptor 1 at stderr.
///
/// Descriptors that the user's shell or scheduler left to us are closed: the plugin could use what
/// they lead to, and no sandbox would ask.
fn take_stdout() -> nix::Result<OwnedFd> {
    let private = nix::fcntl::fcntl(std::io::stdout(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(10))?;
    nix::unistd::dup2_stdout(std::io::stderr())?;
    #[cfg(target_os = "linux")]
    for (first, last) in [(3, private - 1), (private + 1, i32::MAX)] {
        let (first, last) = (first.cast_unsigned(), last.cast_unsigned());
        // SAFETY: nothing of ours is open beyond the standard descriptors yet, but `private`,
        // which is in neither range. Without effect before Linux 5.9.
        unsafe { nix::libc::syscall(nix::libc::SYS_close_range, first, last, 0u32) };
    }
    // SAFETY: fcntl has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(private) })
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

fn work(order: &Order, needs: &Needs, reporter: &Arc<Reporter>) -> Result<Answer, Failure> {
    reporter.progress("load", 0.0);
    if let Some(expected) = &order.digests {
        expected.hold(&order.library, needs).map_err(|how| Failure::Replaced { how })?;
    }
    let loaded = load::open(&order.library).map_err(Failure::failed)?;
    note(reporter, "opening the library", loaded.changed);
    let answer = answer(order, &loaded, reporter);
    note(reporter, "a call of the library", loaded.plugin.changed());
    answer
}

/// Tells what plugin code left behind in a thread of ours.
fn note(reporter: &Reporter, what: &str, changed: Change) {
    if !changed.is_none() {
        let note = format!("{what} changed {changed}, and vq-host put it back");
        reporter.send(&Message::Note(note));
    }
}

fn answer(order: &Order, loaded: &Loaded, reporter: &Arc<Reporter>) -> Result<Answer, Failure> {
    match &order.job {
        Job::Describe => Ok(Answer::Described(loaded.describe())),
        Job::Expand { method, requests } => expand(find(loaded, method)?, requests, reporter),
        Job::Check { method, fixed } => {
            check(find(loaded, method)?, fixed, reporter).map(Answer::Checked)
        }
        Job::Measure(cell) => {
            let method = find(loaded, &cell.method)?;
            measure::measure(method, cell, reporter).map(Answer::Measured)
        }
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
    let expanded = requests.iter().map(|request| method.expand(request));
    Ok(Answer::Expanded(expanded.collect::<Result<_, _>>()?))
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
    let hear = {
        let reporter = Arc::clone(reporter);
        Arc::new(move |level, text: &str| reporter.log(level, text))
    };
    let report = conformance::check_method(&watched, fixed, hear, &mut |event| match event {
        Event::Begins(line) => {
            // The kit says `method: rule (where)`; the parent knows the method.
            let rule = line.split_once(": ").map_or(line, |(_, rule)| rule);
            begins(&|step| *step = Step { function: String::new(), rule: rule.into() });
        }
        Event::Found(finding) => reporter.send(&Message::Found(told(finding))),
        Event::Skipped(skip) => reporter.send(&Message::Skipped(skip.clone())),
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
    Ok(CheckedMethod {
        method: report.id,
        checks: report.checks_run,
        findings,
        skipped: report.skipped,
        log: None,
    })
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
