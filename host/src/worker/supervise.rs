//! The parent's side of a worker: spawns itself as a child, feeds it one job, survives whatever
//! the plugin does to it, and says how it ended.

use super::environment;
use super::fault::HostFault;
use super::memory::{Container, machine_bytes};
use super::protocol::{Answer, CheckFinding, Job, Message, Order};
use super::scratch::{Scratch, remove_registrations};
use crate::plugin::Digests;
use crate::record::{Outcome, Sandbox};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use vq_plugin_api::Level;
use vq_plugin_api::conformance::Skip;
use wait4::Wait4;

/// How often memory, deadline and cancellation are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a dead child's pipes may stay open (a grandchild could hold them).
const DRAIN: Duration = Duration::from_secs(2);
/// Bytes of the child's output that are kept, from its end.
const OUTPUT_TAIL: usize = 8 * 1024;
/// A protocol line longer than this is not ours.
const MAX_LINE: u64 = 256 << 20;
/// How OpenMP's threads wait for each other; read when its library is loaded.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";
/// Log lines kept per cell, and about how many bytes of them.
const MAX_LOG_LINES: usize = 200;
const MAX_LOG_BYTES: usize = 64 * 1024;
/// Lines of the host's own beside them; a worker has a few.
const MAX_NOTES: usize = 20;
/// Characters of a log line or an error, and of a stage, that are kept.
const MAX_TEXT: usize = 4096;
const MAX_STAGE: usize = 400;
/// Resident anonymous memory, as a part of the limit (or of the machine, if that is less), from
/// which a death counts as out of memory.
const NEAR_LIMIT: f64 = 0.85;
/// Resident file pages of the program itself, which the memory limit does not count.
const PROGRAM_PAGES: u64 = 32 << 20;

/// What a child may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Wall time.
    pub timeout: Duration,
    /// Bytes of anonymous memory.
    pub memory: Option<u64>,
    /// Threads, told to every threading library we know of.
    pub threads: usize,
    /// Hold the plugin to its own files, as far as the kernel can (see [`super::sandbox`]).
    pub sandbox: bool,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// Its answer, or what the parent saw instead of one.
    pub answer: Answer,
    /// What a check had found, and could not check, by its end.
    pub checked: (Vec<CheckFinding>, Vec<Skip>),
    /// Its log lines and the tail of whatever it printed.
    pub log: Option<String>,
    /// That tail alone.
    pub printed: String,
    /// What held the plugin in its place; `None` if the child did not get so far.
    pub sandbox: Option<Sandbox>,
    /// Highest resident memory, bytes.
    pub peak_rss_bytes: u64,
    /// Spawn to end, seconds.
    pub wall_s: f64,
}

/// What is kept of a child's log lines.
#[derive(Debug, Default)]
struct Log {
    lines: Vec<String>,
    bytes: usize,
    /// Lines of the plugin that are not kept.
    dropped: usize,
    /// The host's own, which no plugin's lines crowd out.
    notes: Vec<String>,
}

impl Log {
    fn line(&mut self, level: Level, text: String) {
        if self.lines.len() >= MAX_LOG_LINES || self.bytes >= MAX_LOG_BYTES {
            self.dropped += 1;
            return;
        }
        let line = format!("{}: {}", name(level), capped(text, MAX_TEXT));
        self.bytes += line.len();
        self.lines.push(line);
    }

    fn note(&mut self, text: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(format!("{}: {}", name(Level::Warn), capped(text, MAX_TEXT)));
        }
    }

    /// All of it, and what the child `printed`; `None` for nothing.
    fn text(mut self, printed: &str) -> Option<String> {
        match self.dropped {
            0 => {}
            1 => self.lines.push("(1 more line is not kept)".to_owned()),
            dropped => self.lines.push(format!("({dropped} more lines are not kept)")),
        }
        self.lines.append(&mut self.notes);
        if !printed.is_empty() {
            self.lines.push(format!("printed:\n{printed}"));
        }
        (!self.lines.is_empty()).then(|| self.lines.join("\n"))
    }
}

enum Event {
    Line(Message),
    Garbage,
    Closed,
    Exited(std::io::Result<wait4::ResUse>),
}

/// Jobs under way.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Whether any job is under way: until none is, children and their scratch folders may be there.
pub fn busy() -> bool {
    UNDER_WAY.load(Ordering::SeqCst) > 0
}

/// Counts one job for as long as it lives.
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs one job in a child of its own.
///
/// Blocks until the child is gone; the calling thread must be the one that stays, because the
/// kernel kills the child when the thread that spawned it ends.
///
/// # Errors
/// What the host could not do: the plugin has nothing to do with it.
pub fn run(
    library: &Path,
    digests: Option<Digests>,
    job: Job,
    limits: &Limits,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
) -> Result<Ended, HostFault> {
    let started = Instant::now();
    let _under_way = UnderWay::begin();
    // After the line above: who cancels and then sees that nothing is under way may rely on it.
    if cancel.load(Ordering::SeqCst) {
        return Ok(interrupted(started));
    }
    // Gone when this function returns: the child and all it started are dead by then.
    let scratch = limits.sandbox.then(Scratch::make).transpose()?;
    let container = Container::look();
    let trained_on = trained_on(&job);
    let order = Order {
        library: library.to_owned(),
        digests,
        memory: limits.memory,
        parent: std::process::id(),
        scratch: scratch.as_ref().map(Scratch::work),
        job,
    };
    let program = executable();
    let child = spawn(&program, &order, limits).map_err(|error| {
        // A working directory that is gone shows as a program that is not there.
        match scratch.as_ref().map(Scratch::work).filter(|folder| !folder.exists()) {
            Some(gone) => HostFault::scratch(&gone, &error),
            None => HostFault::start(&program, &error),
        }
    })?;
    let pid = child.id();
    if let Some(scratch) = &scratch {
        scratch.belongs_to(pid);
    }
    let ended = watch(child, limits, &container, cancel, on_progress, started);
    // What is left of it goes with its scratch folder, where it has one.
    if scratch.is_none() {
        remove_registrations(pid);
    }
    let mut ended = ended?;
    if let Answer::Failed { outcome: Outcome::OutOfMemory, error } = &mut ended.answer {
        advise(error, trained_on, limits.memory);
    }
    let confined = scratch.is_some();
    drop(scratch);
    // A plugin whose scratch folder was taken away, or lies on a full disk, is not to blame for
    // what it made of that. Its own files are removed by now.
    if confined
        && matches!(&ended.answer, Answer::Failed { outcome, .. } if *outcome != Outcome::Cancelled)
    {
        drop(Scratch::make()?);
    }
    Ok(ended)
}

/// The end of a child that never was.
fn interrupted(started: Instant) -> Ended {
    Ended {
        answer: Answer::Failed { outcome: Outcome::Cancelled, error: "interrupted".to_owned() },
        checked: (Vec::new(), Vec::new()),
        log: None,
        printed: String::new(),
        sandbox: None,
        peak_rss_bytes: 0,
        wall_s: started.elapsed().as_secs_f64(),
    }
}

/// This very program, even if the file was replaced since it started.
fn executable() -> PathBuf {
    let this = PathBuf::from("/proc/self/exe");
    let named = || std::env::current_exe().unwrap_or_else(|_| this.clone());
    if this.exists() { this.clone() } else { named() }
}

fn spawn(program: &Path, order: &Order, limits: &Limits) -> std::io::Result<std::process::Child> {
    let threads = limits.threads.max(1).to_string();
    let job = serde_json::to_string(order)?;
    let mut command = Command::new(program);
    command
        .arg0("vq-host")
        .arg("worker")
        .env_clear()
        .envs(environment::passed())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group: Ctrl-C reaches only the parent, and one signal reaches all descendants.
        .process_group(0)
        .envs(
            [
                "RAYON_NUM_THREADS",
                "OMP_NUM_THREADS",
                "OPENBLAS_NUM_THREADS",
                "MKL_NUM_THREADS",
                "BLIS_NUM_THREADS",
            ]
            .map(|name| (name, &threads)),
        )
        .env("RUST_BACKTRACE", "0");
    if let Some(place) = std::env::var_os("TMPDIR") {
        command.env("TMPDIR", place);
    }
    if let Some(scratch) = &order.scratch {
        command.current_dir(scratch).env("TMPDIR", scratch);
    }
    // A thread that waits by spinning takes the core that the thread it waits for needs, as soon
    // as anything else runs on the machine (docs/methodology.md has what that cost).
    if std::env::var_os(WAIT_POLICY).is_none() {
        command.env(WAIT_POLICY, "passive");
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that dies before it reads shows as a missing answer, with a better reason.
        let _ = stdin.write_all(job.as_bytes());
    }
    Ok(child)
}

fn watch(
    mut child: std::process::Child,
    limits: &Limits,
    container: &Container,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
    started: Instant,
) -> Result<Ended, HostFault> {
    let pid = child.id();
    let (events, inbox) = mpsc::channel();
    let (stderr, stdout) = (child.stderr.take(), child.stdout.take());
    let lines = events.clone();
    let listening = thread::Builder::new()
        .spawn(move || stderr.map(tail).unwrap_or_default())
        .and_then(|output| {
            let listen = move || stdout.into_iter().for_each(|pipe| read_lines(pipe, &lines));
            thread::Builder::new().spawn(listen)?;
            Ok(output)
        })
        .and_then(|output| {
            let wait = move || drop(events.send(Event::Exited(child.wait4())));
            thread::Builder::new().spawn(wait)?;
            Ok(output)
        });
    let output = listening.map_err(|error| {
        // It ends; that nobody waits for it costs an entry in a table until this process ends.
        kill_group(pid);
        HostFault::start(&executable(), &error)
    })?;

    let mut answer = None;
    let mut sandbox = None;
    let mut checked = (Vec::new(), Vec::new());
    let mut log = Log::default();
    let mut stage = String::from("start");
    let mut killed: Option<(Outcome, String)> = None;
    let mut exited: Option<(Option<ExitStatus>, u64)> = None;
    let mut closed = false;
    let mut peak_anonymous = 0u64;
    let mut drain_until = None;
    while exited.is_none() || !closed {
        match inbox.recv_timeout(TICK) {
            Ok(Event::Line(Message::Answer(last))) => answer = Some(*last),
            // The first word counts: later ones could be the plugin's.
            Ok(Event::Line(Message::Confined(held))) => {
                sandbox.get_or_insert(held);
            }
            Ok(Event::Line(Message::Progress { stage: now, fraction })) => {
                let now = capped(now, MAX_STAGE);
                on_progress(&now, fraction);
                stage = now;
            }
            Ok(Event::Line(Message::Found(finding))) => checked.0.push(finding),
            Ok(Event::Line(Message::Skipped(skip))) => checked.1.push(skip),
            Ok(Event::Line(Message::Log { level, text })) => log.line(level, text),
            Ok(Event::Line(Message::Note(text))) => log.note(text),
            Ok(Event::Garbage) => {}
            Ok(Event::Closed) => closed = true,
            Ok(Event::Exited(usage)) => {
                let usage = usage.ok();
                exited = Some((usage.map(|u| u.status), usage.map_or(0, |u| u.rusage.maxrss)));
                // Whatever the plugin started dies with it, and lets go of the pipes.
                kill_group(pid);
                drain_until = Some(Instant::now() + DRAIN);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if drain_until.is_some_and(|end| Instant::now() > end) {
            break;
        }
        if exited.is_some() || killed.is_some() {
            continue;
        }
        let anonymous = anonymous_bytes(pid);
        peak_anonymous = peak_anonymous.max(anonymous);
        let verdict = if cancel.load(Ordering::Relaxed) {
            Some((Outcome::Cancelled, "interrupted".to_owned()))
        } else if started.elapsed() > limits.timeout {
            let limit = humantime::format_duration(limits.timeout);
            Some((Outcome::Timeout, format!("still at {stage} after the time limit of {limit}")))
        } else {
            limits.memory.filter(|limit| anonymous > *limit).map(|limit| {
                (
                    Outcome::OutOfMemory,
                    format!("passed the memory limit of {} at {stage}", size(limit)),
                )
            })
        };
        if verdict.is_some() {
            kill_group(pid);
            killed = verdict;
        }
    }
    let printed = join_within(output, DRAIN).unwrap_or_default();
    let (status, max_rss) = exited.unwrap_or((None, 0));
    let answer = match (killed, answer) {
        (_, Some(Answer::HostFailed(fault))) => return Err(fault),
        (_, Some(Answer::Failed { outcome, error })) => {
            Answer::Failed { outcome, error: capped(error, MAX_TEXT) }
        }
        // An answer that was on its way when the limit struck is worth more than the limit.
        (_, Some(answer)) => answer,
        (Some((outcome, error)), None) => {
            if sandbox.is_none() && outcome != Outcome::Cancelled {
                return Err(HostFault::Begin { reason: error });
            }
            Answer::Failed { outcome, error }
        }
        (None, None) => {
            let most = peak_anonymous.max(max_rss.saturating_sub(PROGRAM_PAGES)) as f64;
            let room = [limits.memory, machine_bytes()].into_iter().flatten().min();
            let near = room.is_some_and(|room| most > NEAR_LIMIT * room as f64);
            let (outcome, error) = match out_of_container(status, &stage, container) {
                Some(error) => (Outcome::OutOfMemory, error),
                None => cause(status, &stage, &printed, near, limits.memory),
            };
            // It says that it is confined before it opens the library.
            if sandbox.is_none() {
                let printed = if printed.is_empty() { printed } else { format!(" ({printed})") };
                return Err(HostFault::Begin { reason: format!("{error}{printed}") });
            }
            Answer::Failed { outcome, error }
        }
    };
    Ok(Ended {
        answer,
        checked,
        log: log.text(&printed),
        printed,
        sandbox,
        peak_rss_bytes: max_rss,
        wall_s: started.elapsed().as_secs_f64(),
    })
}

/// The rows a cell's method learns from and their bytes, all of which are in memory until fit is
/// over.
fn trained_on(job: &Job) -> Option<(usize, u64)> {
    let Job::Measure(cell) = job else { return None };
    let train = &cell.data.train;
    Some((train.rows, train.rows as u64 * train.dim as u64 * 4))
}

/// Adds what to do where the training rows alone take much of the memory.
fn advise(error: &mut String, trained_on: Option<(usize, u64)>, memory: Option<u64>) {
    let Some((rows, bytes)) = trained_on else { return };
    let room = [memory, machine_bytes()].into_iter().flatten().min().unwrap_or(u64::MAX);
    let learning = ["at load", "at fit"].iter().any(|stage| error.contains(stage));
    if learning && bytes > room / 8 {
        let fewer = (rows as u128 * u128::from(room) / 8 / u128::from(bytes.max(1))).max(1);
        *error += &format!(
            "; its {rows} training rows take {}: train = {{ sample = {fewer} }} in the sweep takes \
             an eighth of the memory",
            size(bytes)
        );
    }
}

/// What to say of a child that the kernel killed because its container was full.
fn out_of_container(
    status: Option<ExitStatus>,
    stage: &str,
    container: &Container,
) -> Option<String> {
    if status?.signal() != Some(Signal::SIGKILL as i32) || !container.killed_since() {
        return None;
    }
    let within = container.limit().map_or_else(
        || "this machine's memory".to_owned(),
        |limit| format!("the container's memory limit of {}", size(limit)),
    );
    Some(format!("killed by the system at {stage}: out of {within}"))
}

/// Why a child ended without an answer.
fn cause(
    status: Option<ExitStatus>,
    stage: &str,
    printed: &str,
    near_limit: bool,
    memory: Option<u64>,
) -> (Outcome, String) {
    let limit =
        memory.map_or_else(|| "this machine".to_owned(), |m| format!("the limit of {}", size(m)));
    let allocation_failed = ["memory allocation of", "std::bad_alloc", "Cannot allocate memory"]
        .iter()
        .any(|text| printed.contains(text));
    let signal = status.and_then(|s| s.signal());
    if allocation_failed || (near_limit && signal.is_some()) {
        return (Outcome::OutOfMemory, format!("ran out of memory at {stage}, within {limit}"));
    }
    match (signal, status.and_then(|s| s.code())) {
        (Some(9), _) => {
            (Outcome::Crashed, format!("killed at {stage} by signal 9 (SIGKILL), not by vq-host"))
        }
        (Some(number), _) => {
            let name = Signal::try_from(number).map_or("unknown signal", Signal::as_str);
            (Outcome::Crashed, format!("crashed at {stage}: signal {number} ({name})"))
        }
        (None, Some(code)) => {
            (Outcome::Crashed, format!("ended the process at {stage} with exit code {code}"))
        }
        (None, None) => (Outcome::Crashed, format!("ended at {stage}, nobody saw how")),
    }
}

/// The first `most` characters of a text that came from a child.
fn capped(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warning",
    }
}

fn kill_group(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may be gone already: nothing to do then.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Resident memory that belongs to the process alone (the mapped files of others do not count).
fn anonymous_bytes(pid: u32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        let number = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok());
        number.unwrap_or(0)
    };
    (kilobytes("RssAnon:") + kilobytes("RssShmem:")) * 1024
}

fn read_lines(pipe: impl Read, events: &mpsc::Sender<Event>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let event = match serde_json::from_slice(&line) {
            Ok(message) => Event::Line(message),
            Err(_) => Event::Garbage,
        };
        if events.send(event).is_err() {
            break;
        }
    }
    let _ = events.send(Event::Closed);
}

/// Reads to the end and keeps the tail, so that a chatty plugin neither blocks nor fills memory.
fn tail(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0u8; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..n]);
        if kept.len() > 2 * OUTPUT_TAIL {
            kept.drain(..kept.len() - OUTPUT_TAIL);
        }
    }
    kept.drain(..kept.len().saturating_sub(OUTPUT_TAIL));
    let text = String::from_utf8_lossy(&kept);
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect::<String>()
        .trim()
        .to_owned()
}

fn join_within<T>(thread: thread::JoinHandle<T>, patience: Duration) -> Option<T> {
    let end = Instant::now() + patience;
    while !thread.is_finished() && Instant::now() < end {
        thread::sleep(Duration::from_millis(2));
    }
    if thread.is_finished() { thread.join().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_logs_much_does_not_crowd_out_what_the_host_says_of_it() {
        let mut log = Log::default();
        for i in 0..MAX_LOG_LINES + 3 {
            log.line(Level::Info, format!("line {i}"));
        }
        log.note("it changed something".into());
        let text = log.text("hello").unwrap();
        let end = "\n(3 more lines are not kept)\nwarning: it changed something\nprinted:\nhello";
        assert!(text.starts_with("info: line 0\n") && text.ends_with(end), "{text}");
        assert_eq!(Log::default().text(""), None);
    }
}
