//! The parent's side of a worker: spawns itself as a child, or as the three of a cell, feeds each
//! one job, survives whatever the plugin does to them, and says how it ended.

use super::environment;
use super::exchange::{AREA, Area, AreaError, FILLED, LENT};
use super::fault::HostFault;
use super::lines::{self, Found, Log, Proposed};
use super::machine::{self, Kept};
use super::memory::{Container, machine_bytes};
use super::protocol::{
    Answer, CheckFinding, Engine, Evaluation, Job, Measurement, Message, Order, Role,
};
use super::sandbox;
use super::scratch::{Scratch, remove_registrations};
use super::watch::{Budget, Watch, end_group, most_resident};
use super::work::VERB;
use crate::data::Prepared;
use crate::plugin::Digests;
use crate::record::{Outcome, Sandbox};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use vq_plugin_api::conformance::Skip;
use wait4::Wait4;

/// How often memory, deadline and cancellation are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a dead child's pipes may stay open (a grandchild could hold them).
const DRAIN: Duration = Duration::from_secs(2);
/// How long an engine that does not answer any more may take to end by itself.
const LAST_STEPS: Duration = Duration::from_millis(500);
/// How OpenMP's threads wait for each other; read when its library is loaded.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";
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
    /// Time of its own, in which it computes or sleeps; `None`: all of it.
    pub own_time: Option<Duration>,
    /// Bytes of anonymous memory.
    pub memory: Option<u64>,
    /// Threads, told to every threading library we know of.
    pub threads: usize,
    /// Bytes of files in the scratch folder.
    pub scratch: u64,
    /// Hold the plugin to its own files, as far as the kernel can (see [`super::sandbox`]).
    pub sandbox: bool,
}

/// Highest resident memory, bytes; 0 where that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Of the encoder.
    pub encoder: u64,
    /// Of the decoder.
    pub decoder: u64,
}

/// How a child, or the children of a cell, ended.
#[derive(Debug)]
pub struct Ended {
    /// Its answer, or what the parent saw instead of one.
    pub answer: Answer,
    /// What a check had found, and could not check, by its end.
    pub checked: (Vec<CheckFinding>, Vec<Skip>),
    /// The configurations that it proposed.
    pub(super) proposed: Proposed,
    /// Its log lines and the tail of whatever it printed.
    pub log: Option<String>,
    /// That tail alone.
    pub printed: String,
    /// What of the machine had changed under it, and was put back.
    pub changed: Vec<String>,
    /// What held the plugin in its place; `None` if the child did not get so far.
    pub sandbox: Option<Sandbox>,
    /// Highest resident memory of a cell's engines.
    pub peaks: Peaks,
    /// Spawn to end, seconds.
    pub wall_s: f64,
}

#[cfg(test)]
impl Ended {
    /// A cell that ended with this answer after a quarter of a second, and said nothing.
    pub(crate) fn testing(answer: Answer) -> Self {
        Ended {
            answer,
            checked: (Vec::new(), Vec::new()),
            proposed: Proposed::default(),
            log: None,
            printed: String::new(),
            changed: Vec::new(),
            sandbox: None,
            peaks: Peaks { encoder: 7, decoder: 5 },
            wall_s: 0.25,
        }
    }
}

enum Event {
    Line(Message),
    /// The end of a child's pipe, and how many lines of it were none.
    Closed(u64),
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
    let (events, inbox) = mpsc::sync_channel(lines::waiting(longest(&job)));
    let asked = Asked { library, digests: digests.as_ref(), limits, events: &events };
    let child = asked.start(0, None, job, Vec::new())?;
    let kept = machine::keep();
    let watched = Watched { limits, container: Container::look(), kept, cancel, started };
    let end = watched.watch(vec![child], &inbox, on_progress)?;
    blameless(limits, &end)?;
    Ok(end)
}

/// What a cell is about, for [`measure`].
#[derive(Debug)]
pub struct CellJob<'a> {
    /// The method.
    pub engine: Engine,
    /// The data.
    pub data: &'a Prepared,
    /// What to measure.
    pub evaluation: &'a Evaluation,
    /// Rows per block; `None`: chosen from the dimension.
    pub block_rows: Option<usize>,
}

/// Measures one cell with three children: two engines, and a referee that answers.
///
/// # Errors
/// As [`run`].
pub fn measure(
    library: &Path,
    digests: &Digests,
    cell: &CellJob<'_>,
    limits: &Limits,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
) -> Result<Ended, HostFault> {
    let started = Instant::now();
    let _under_way = UnderWay::begin();
    let mut together = None;
    loop {
        if cancel.load(Ordering::SeqCst) {
            return Ok(interrupted(started));
        }
        let (events, inbox) = mpsc::sync_channel(lines::waiting(lines::OF_WORK));
        let asked = Asked { library, digests: Some(digests), limits, events: &events };
        let children = asked.start_cell(cell, together.clone())?;
        let kept = machine::keep();
        let watched = Watched { limits, container: Container::look(), kept, cancel, started };
        let mut end = watched.watch(children, &inbox, on_progress)?;
        blameless(limits, &end)?;
        match &mut end.answer {
            // Once: with one engine there is no reason left.
            Answer::Again { reason } if together.is_none() => {
                together = Some(std::mem::take(reason));
                continue;
            }
            Answer::Again { .. } => {
                let reason = "it asked for the cell again".to_owned();
                return Err(HostFault::Referee { reason });
            }
            Answer::Failed { outcome: Outcome::OutOfMemory, error } => {
                let train = &cell.data.train;
                let bytes = train.rows as u64 * train.dim as u64 * 4;
                advise(error, (train.rows, bytes), limits.memory);
            }
            _ => {}
        }
        return Ok(end);
    }
}

/// A plugin whose scratch folder was taken away, or lies on a full disk, is not to blame for what it
/// made of that. Its own files are removed by now.
fn blameless(limits: &Limits, end: &Ended) -> Result<(), HostFault> {
    let failed = |outcome: &Outcome| *outcome != Outcome::Cancelled;
    if limits.sandbox && matches!(&end.answer, Answer::Failed { outcome, .. } if failed(outcome)) {
        drop(Scratch::make()?);
    }
    Ok(())
}

/// The end of a child that never was.
fn interrupted(started: Instant) -> Ended {
    Ended {
        answer: Answer::Failed { outcome: Outcome::Cancelled, error: "interrupted".to_owned() },
        checked: (Vec::new(), Vec::new()),
        proposed: Proposed::default(),
        log: None,
        printed: String::new(),
        changed: Vec::new(),
        sandbox: None,
        peaks: Peaks::default(),
        wall_s: started.elapsed().as_secs_f64(),
    }
}

/// This very program, even if the file was replaced since it started.
fn executable() -> PathBuf {
    let this = PathBuf::from("/proc/self/exe");
    let named = || std::env::current_exe().unwrap_or_else(|_| this.clone());
    if this.exists() { this.clone() } else { named() }
}

/// What the children of one job are started with.
struct Asked<'a> {
    library: &'a Path,
    digests: Option<&'a Digests>,
    limits: &'a Limits,
    events: &'a mpsc::SyncSender<(usize, Event)>,
}

impl Asked<'_> {
    /// Encoder, decoder and referee, in this order, all at once: who is not needed yet waits, and
    /// opens no library before it is told to.
    fn start_cell(
        &self,
        cell: &CellJob<'_>,
        together: Option<String>,
    ) -> Result<Vec<Child>, HostFault> {
        let unable = |error: AreaError| HostFault::Begin { reason: error.to_string() };
        let exchange = || -> Result<[Vec<OwnedFd>; 2], AreaError> {
            let (ours, theirs) = UnixStream::pair()?;
            let (lent, filled) = (Area::file(LENT)?, Area::file(FILLED)?);
            let referee = vec![ours.into(), lent.try_clone()?, filled.try_clone()?];
            Ok([referee, vec![theirs.into(), to_read(lent)?, filled]])
        };
        let [mut lent, encoders] = exchange().map_err(unable)?;
        let [decoding, decoders] = exchange().map_err(unable)?;
        lent.extend(decoding);
        let folder = cell.data.truth.path.parent().unwrap_or(Path::new("."));
        lent.push(aside(folder)?);
        lent.push(aside(folder)?);
        let engine = || Job::Engine(Box::new(cell.engine.clone()));
        let mut children = Vec::with_capacity(3);
        for (role, lent) in [(Role::Encoder, encoders), (Role::Decoder, decoders)] {
            // Those that run end with this function: their pipes close, and nobody asks them.
            match self.start(children.len(), Some(role), engine(), lent) {
                Ok(child) => children.push(child),
                Err(fault) => return Err(end_all(children, fault)),
            }
        }
        let referee = Measurement {
            threads: cell.engine.threads,
            engines: [children[0].pid, children[1].pid],
            unproven: match self.limits.sandbox {
                true if sandbox::keeps_files() => None,
                true => Some("this system cannot keep a plugin from the data".to_owned()),
                false => Some("it ran without a sandbox".to_owned()),
            },
            together,
            data: cell.data.clone(),
            evaluation: cell.evaluation.clone(),
            block_rows: cell.block_rows,
        };
        let job = Job::Referee(Box::new(referee));
        match self.start(2, Some(Role::Referee), job, lent) {
            Ok(child) => children.push(child),
            Err(fault) => return Err(end_all(children, fault)),
        }
        Ok(children)
    }

    /// Starts the child number `number`, which alone gets what is `lent`.
    fn start(
        &self,
        number: usize,
        role: Option<Role>,
        job: Job,
        lent: Vec<OwnedFd>,
    ) -> Result<Child, HostFault> {
        let limits = self.limits;
        let referee = role == Some(Role::Referee);
        // Gone when the child is: it and all it started are dead by then.
        let scratch = (limits.sandbox && !referee).then(Scratch::make).transpose()?;
        let order = Order {
            library: self.library.to_owned(),
            digests: self.digests.filter(|_| !referee).cloned(),
            memory: limits.memory.filter(|_| !referee),
            parent: std::process::id(),
            sandbox: limits.sandbox,
            file_bytes: limits.scratch,
            scratch: scratch.as_ref().map(Scratch::work),
            job,
        };
        let longest = longest(&order.job);
        let program = executable();
        let mut process = spawn(&program, &order, limits, &lent).map_err(|error| {
            // A working directory that is gone shows as a program that is not there.
            match scratch.as_ref().map(Scratch::work).filter(|folder| !folder.exists()) {
                Some(gone) => HostFault::scratch(&gone, &error),
                None => HostFault::start(&program, &error),
            }
        })?;
        drop(lent);
        let pid = process.id();
        if let Some(scratch) = &scratch {
            scratch.belongs_to(pid);
        }
        let budget = Budget {
            memory: limits.memory,
            lent: 2 * AREA as u64,
            threads: limits.threads,
            scratch: limits.scratch,
        };
        let place = scratch.as_ref().map(Scratch::work);
        // Where nothing denies it, it may start processes.
        let watch = (!referee).then(|| Watch::new(vec![pid], true, place, budget));
        // The referee hears more later.
        let stdin = process.stdin.take().filter(|_| referee);
        let printed = listen(process, number, self.events, longest).map_err(|error| {
            // It ends; that nobody waits for it costs an entry in a table until this process ends.
            kill_group(pid);
            HostFault::start(&executable(), &error)
        })?;
        Ok(Child {
            role,
            pid,
            stdin,
            scratch,
            printed: Some(printed),
            held: None,
            answer: None,
            left: false,
            watch,
            peak_resident: 0,
            exited: None,
            closed: false,
        })
    }
}

/// Ends `children`, which cannot do their job; answers why.
fn end_all(children: Vec<Child>, fault: HostFault) -> HostFault {
    for child in children {
        kill_group(child.pid);
        child.clear();
    }
    fault
}

/// `file` for a process that may map it for reading alone, even before it is sealed.
fn to_read(file: OwnedFd) -> std::io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        let place = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::File::open(place).map(OwnedFd::from)
    }
    #[cfg(not(target_os = "linux"))]
    {
        Ok(file)
    }
}

/// A file without a name beside the prepared data in `folder`, or where temporary files go.
fn aside(folder: &Path) -> Result<OwnedFd, HostFault> {
    let beside = folder.parent().unwrap_or(folder);
    tempfile::tempfile_in(beside)
        .or_else(|_| tempfile::tempfile())
        .map(OwnedFd::from)
        .map_err(|error| HostFault::keep(&beside.display().to_string(), &error))
}

/// Has everything that comes from child `number` sent to `events`; answers what it prints.
fn listen(
    mut process: std::process::Child,
    number: usize,
    events: &mpsc::SyncSender<(usize, Event)>,
    longest: usize,
) -> std::io::Result<thread::JoinHandle<String>> {
    let (stderr, stdout) = (process.stderr.take(), process.stdout.take());
    let output =
        thread::Builder::new().spawn(move || stderr.map(lines::tail).unwrap_or_default())?;
    let heard = events.clone();
    let listen = move || {
        let hear = |line| heard.send((number, Event::Line(line))).is_ok();
        let garbage = stdout.map_or(0, |pipe| lines::read(pipe, longest, hear));
        let _ = heard.send((number, Event::Closed(garbage)));
    };
    thread::Builder::new().spawn(listen)?;
    let ends = events.clone();
    let wait = move || drop(ends.send((number, Event::Exited(process.wait4()))));
    thread::Builder::new().spawn(wait)?;
    Ok(output)
}

/// Held while a child is started, so that no other child is given what is lent to that one.
static STARTING: Mutex<()> = Mutex::new(());

fn spawn(
    program: &Path,
    order: &Order,
    limits: &Limits,
    lent: &[OwnedFd],
) -> std::io::Result<std::process::Child> {
    let threads = limits.threads.max(1).to_string();
    let mut job = serde_json::to_string(order)?;
    job.push('\n');
    let mut command = Command::new(program);
    command
        .arg0("vq-host")
        .arg(VERB)
        .args(lent.iter().map(|fd| fd.as_raw_fd().to_string()))
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
    let mut child = {
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = |fd: &OwnedFd, flags| fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop);
        lent.iter().try_for_each(|fd| keep(fd, FdFlag::empty()))?;
        let child = command.spawn();
        lent.iter().try_for_each(|fd| keep(fd, FdFlag::FD_CLOEXEC))?;
        child?
    };
    if let Some(stdin) = &mut child.stdin {
        // A child that dies before it reads shows as a missing answer, with a better reason.
        let _ = stdin.write_all(job.as_bytes());
    }
    Ok(child)
}

/// A child, and what is known of it so far.
struct Child {
    /// `None` for one that answers a question.
    role: Option<Role>,
    pid: u32,
    stdin: Option<ChildStdin>,
    scratch: Option<Scratch>,
    printed: Option<thread::JoinHandle<String>>,
    held: Option<Sandbox>,
    answer: Option<Answer>,
    /// The referee needs it no more.
    left: bool,
    /// What it uses; `None` for the referee.
    watch: Option<Watch>,
    peak_resident: u64,
    exited: Option<Option<ExitStatus>>,
    closed: bool,
}

impl Child {
    fn over(&self) -> bool {
        self.exited.is_some() && self.closed
    }

    /// True for one that has plugin code, and is not the one that answers.
    fn engine(&self) -> bool {
        matches!(self.role, Some(Role::Encoder | Role::Decoder))
    }

    /// Removes what it left behind.
    fn clear(self) {
        // What is left of it goes with its scratch folder, where it has one.
        if self.scratch.is_none() {
            remove_registrations(self.pid);
        }
    }
}

/// What one job is watched with.
struct Watched<'a> {
    limits: &'a Limits,
    container: Container,
    kept: Kept,
    cancel: &'a AtomicBool,
    started: Instant,
}

impl Watched<'_> {
    /// Watches `children` until all are gone. The last of them answers.
    fn watch(
        self,
        mut children: Vec<Child>,
        inbox: &mpsc::Receiver<(usize, Event)>,
        on_progress: &mut dyn FnMut(&str, f32),
    ) -> Result<Ended, HostFault> {
        let last = children.len() - 1;
        let mut checked = Found::default();
        let mut proposed = Proposed::default();
        let mut log = Log::default();
        let mut stage = String::from("start");
        // The part of the stage that a call under way covers.
        let mut part = (0.0, 1.0);
        let mut killed: Option<(Outcome, String)> = None;
        let mut drain_until: Option<Instant> = None;
        let mut end_by: Option<Instant> = None;
        let mut next_look = Instant::now();
        while !children.iter().all(Child::over) {
            match inbox.recv_timeout(TICK) {
                Ok((number, Event::Line(message))) => {
                    let child = &mut children[number];
                    match message {
                        // The first answer counts: a process answers once. An engine has none to
                        // give, but that it could not begin.
                        Message::Answer(answer) if number == last || child.held.is_none() => {
                            if child.role.is_none() && child.held.is_some() && answer.begins() {
                                // It had begun: these are the plugin's words.
                                child.answer.get_or_insert(Answer::Failed {
                                    outcome: Outcome::Invalid,
                                    error: "it answered in the host's place".to_owned(),
                                });
                            } else if !child.engine() || answer.begins() {
                                child.answer.get_or_insert(*answer);
                            }
                            let ended = matches!(child.answer, Some(Answer::Ended(_)));
                            if child.role.is_some() && !ended {
                                // Nobody needs the engines any more.
                                children[..last].iter().for_each(|child| kill_group(child.pid));
                            }
                        }
                        // The first word counts: later ones could be the plugin's.
                        Message::Confined(held) => {
                            child.held.get_or_insert(held);
                        }
                        Message::Progress { fraction, .. } if child.engine() => {
                            on_progress(
                                &stage,
                                part.0 + fraction.clamp(0.0, 1.0) * (part.1 - part.0),
                            );
                        }
                        Message::Progress { stage: now, fraction, to } => {
                            stage = lines::stage(&now);
                            part = (fraction, to);
                            on_progress(&stage, fraction);
                        }
                        Message::Left(role) if child.role == Some(Role::Referee) => {
                            let of = children.iter_mut().find(|child| child.role == Some(role));
                            if let Some(of) = of {
                                of.peak_resident =
                                    of.peak_resident.max(most_resident(of.pid).unwrap_or(0));
                                of.left = true;
                                kill_group(of.pid);
                            }
                        }
                        Message::Log { level, text } => log.line(level, &text),
                        Message::Note(text) => log.note(&text),
                        Message::Found(finding) if child.role.is_none() => {
                            checked.finding(finding);
                        }
                        Message::Skipped(skip) if child.role.is_none() => checked.skip(skip),
                        Message::Proposed { request, proposals } if child.role.is_none() => {
                            proposed.take(request, proposals);
                        }
                        Message::Answer(_)
                        | Message::Left(_)
                        | Message::Found(_)
                        | Message::Skipped(_)
                        | Message::Proposed { .. } => {}
                    }
                }
                Ok((number, Event::Closed(garbage))) => {
                    log.garbage(garbage);
                    children[number].closed = true;
                }
                Ok((number, Event::Exited(usage))) => {
                    let child = &mut children[number];
                    let usage = usage.ok();
                    let peak = usage.as_ref().map_or(0, |usage| usage.rusage.maxrss);
                    child.peak_resident = child.peak_resident.max(peak);
                    child.exited = Some(usage.map(|usage| usage.status));
                    // Whatever the plugin started dies with it, and lets go of the pipes.
                    end_group(child.pid);
                    if number == last && !matches!(child.answer, Some(Answer::Ended(_))) {
                        children.iter().for_each(|child| kill_group(child.pid));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tell_who_left(&mut children);
            // An engine that closed its socket may be about to end: its own end says more than ours.
            if matches!(children[last].answer, Some(Answer::Ended(_))) {
                let until = *end_by.get_or_insert_with(|| Instant::now() + LAST_STEPS);
                if Instant::now() > until {
                    children.iter().for_each(|child| kill_group(child.pid));
                }
            }
            if children.iter().all(|child| child.exited.is_some()) {
                let until = drain_until.get_or_insert_with(|| Instant::now() + DRAIN);
                if Instant::now() > *until {
                    break;
                }
                continue;
            }
            if killed.is_none() && Instant::now() >= next_look {
                next_look = Instant::now() + TICK;
                killed = self.verdict(&mut children, &stage);
                if killed.is_some() {
                    children.iter().for_each(|child| kill_group(child.pid));
                }
            }
        }
        self.conclude(children, &stage, killed, log, (checked, proposed))
    }

    /// Tells the referee of those that left, once all they started is gone too.
    fn tell_who_left(&self, children: &mut [Child]) {
        let Some((referee, engines)) = children.split_last_mut() else { return };
        for engine in engines {
            if engine.left && engine.exited.is_some() {
                engine.left = false;
                if let Some(stdin) = &mut referee.stdin {
                    // One that is gone itself needs no word.
                    let _ = stdin.write_all(b"gone\n");
                }
            }
        }
    }

    /// Why the children have to be ended now, if so.
    fn verdict(&self, children: &mut [Child], stage: &str) -> Option<(Outcome, String)> {
        if self.cancel.load(Ordering::Relaxed) {
            return Some((Outcome::Cancelled, "interrupted".to_owned()));
        }
        if self.started.elapsed() > self.limits.timeout {
            let limit = humantime::format_duration(self.limits.timeout);
            let error = format!("still at {stage} after the time limit of {limit}");
            return Some((Outcome::Timeout, error));
        }
        if let Some(referee) = children.last().filter(|c| c.role == Some(Role::Referee)) {
            self.kept.check(&[referee.pid]);
        }
        children.iter_mut().filter(|child| child.exited.is_none()).find_map(|child| {
            let watch = child.watch.as_mut()?;
            if let Some(passed) = watch.look() {
                return Some((passed.outcome(), passed.text(stage)));
            }
            let limit = self.limits.own_time.filter(|limit| watch.own_time() > *limit)?;
            let limit = humantime::format_duration(limit);
            Some((Outcome::Timeout, format!("still at {stage} after {limit}")))
        })
    }

    fn conclude(
        self,
        mut children: Vec<Child>,
        stage: &str,
        killed: Option<(Outcome, String)>,
        log: Log,
        (checked, proposed): (Found, Proposed),
    ) -> Result<Ended, HostFault> {
        let printed: Vec<String> = children
            .iter_mut()
            .map(|child| child.printed.take().and_then(|of| join_within(of, DRAIN)))
            .map(Option::unwrap_or_default)
            .collect();
        let sandbox = children[0].held.clone();
        let peak = |role| {
            let of = children.iter().find(|child| child.role == Some(role));
            of.map_or(0, |child| child.peak_resident)
        };
        let peaks = Peaks { encoder: peak(Role::Encoder), decoder: peak(Role::Decoder) };
        let answer = self.answer(&mut children, &printed, stage, killed);
        children.into_iter().for_each(Child::clear);
        let printed = printed.into_iter().filter(|text| !text.is_empty());
        let printed = printed.collect::<Vec<_>>().join("\n");
        Ok(Ended {
            answer: answer?,
            checked: checked.into_parts(),
            proposed,
            changed: self.kept.end(),
            log: log.text(&printed),
            printed,
            sandbox,
            peaks,
            wall_s: self.started.elapsed().as_secs_f64(),
        })
    }

    /// What came of it, once all children are gone.
    fn answer(
        &self,
        children: &mut [Child],
        printed: &[String],
        stage: &str,
        killed: Option<(Outcome, String)>,
    ) -> Result<Answer, HostFault> {
        // That one could not begin says more than what the others made of that.
        let begun = children.iter_mut().filter(|child| child.engine());
        if let Some(answer) = begun.filter_map(|child| child.answer.take()).next() {
            return match answer {
                Answer::HostFailed(fault) => Err(fault),
                answer => Ok(answer),
            };
        }
        let last = children.len() - 1;
        let answer = children[last].answer.take();
        let confined = children.iter().all(|child| child.held.is_some());
        match (killed, answer) {
            (_, Some(Answer::HostFailed(fault))) => Err(fault),
            (_, Some(Answer::Failed { outcome, error })) => {
                Ok(Answer::Failed { outcome, error: lines::error(&error) })
            }
            (None, Some(Answer::Ended(role))) => {
                let of = children.iter().position(|child| child.role == Some(role));
                self.cause_of(&children[of.unwrap_or(0)], &printed[of.unwrap_or(0)], stage)
            }
            (Some((outcome, error)), Some(Answer::Ended(_)) | None) => {
                if !confined && outcome != Outcome::Cancelled {
                    return Err(HostFault::Begin { reason: error });
                }
                Ok(Answer::Failed { outcome, error })
            }
            (_, Some(Answer::Checked(of))) => Ok(Answer::Checked(lines::checked(of))),
            // An answer that was on its way when the limit struck is worth more than the limit.
            (_, Some(answer)) => Ok(answer),
            (None, None) if children[last].role == Some(Role::Referee) => {
                let (_, reason) = cause(children[last].status(), stage, "", false, None);
                let printed = printed[last].lines().next_back().unwrap_or_default();
                let printed = if printed.is_empty() { "" } else { &format!(" ({printed})") };
                Err(HostFault::Referee { reason: format!("{reason}{printed}") })
            }
            (None, None) => self.cause_of(&children[last], &printed[last], stage),
        }
    }

    /// Why `child` ended by itself, without an answer.
    fn cause_of(&self, child: &Child, printed: &str, stage: &str) -> Result<Answer, HostFault> {
        let watched = child.watch.as_ref().map_or(0, Watch::peak);
        let most = watched.max(child.peak_resident.saturating_sub(PROGRAM_PAGES));
        let room = [self.limits.memory, machine_bytes()].into_iter().flatten().min();
        let near = room.is_some_and(|room| most as f64 > NEAR_LIMIT * room as f64);
        let (outcome, error) = match out_of_container(child.status(), stage, &self.container) {
            Some(error) => (Outcome::OutOfMemory, error),
            None => cause(child.status(), stage, printed, near, self.limits.memory),
        };
        // It says that it is confined before it opens the library.
        if child.held.is_none() {
            let printed = if printed.is_empty() { "" } else { &format!(" ({printed})") };
            return Err(HostFault::Begin { reason: format!("{error}{printed}") });
        }
        Ok(Answer::Failed { outcome, error })
    }
}

impl Child {
    fn status(&self) -> Option<ExitStatus> {
        self.exited.flatten()
    }
}

impl Answer {
    /// True for what a process may answer before it is confined.
    fn begins(&self) -> bool {
        matches!(self, Answer::HostFailed(_) | Answer::Replaced { .. })
    }
}

/// Longest line that a job's child may say.
fn longest(job: &Job) -> usize {
    match job {
        Job::Engine(_) => lines::OF_WORK,
        Job::Referee(_) => lines::OF_REFEREE,
        Job::Expand { .. } => lines::OF_GRIDS,
        // Each answers in one line.
        Job::Describe | Job::Check { .. } | Job::Print { .. } => lines::OF_ANSWER,
    }
}

/// Adds what to do where the training rows alone, so many rows and bytes, take much of the memory.
fn advise(error: &mut String, (rows, bytes): (usize, u64), memory: Option<u64>) {
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

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

fn kill_group(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may be gone already: nothing to do then.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn join_within<T>(thread: thread::JoinHandle<T>, patience: Duration) -> Option<T> {
    let end = Instant::now() + patience;
    while !thread.is_finished() && Instant::now() < end {
        thread::sleep(Duration::from_millis(2));
    }
    if thread.is_finished() { thread.join().ok() } else { None }
}
