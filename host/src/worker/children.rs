//! The children of a job: how they are started, what each is lent, and what is heard of them.

use super::environment;
use super::exchange::{AREA, Area, AreaError, FILLED, LENT};
use super::fault::HostFault;
use super::lines;
use super::protocol::{Answer, Job, Measurement, Message, Order, Role};
use super::sandbox;
use super::scratch::{Scratch, remove_registrations};
use super::supervise::{CellJob, Limits};
use super::watch::{Budget, Watch};
use super::work::VERB;
use crate::plugin::Digests;
use crate::record::Sandbox;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use wait4::Wait4;

/// How OpenMP's threads wait for each other; read when its library is loaded.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// What happens to a child.
pub(super) enum Event {
    Line(Message),
    /// The end of a child's pipe, and how many lines of it were none.
    Closed(u64),
    Exited(std::io::Result<wait4::ResUse>),
}

/// This very program, even if the file was replaced since it started.
fn executable() -> PathBuf {
    let this = PathBuf::from("/proc/self/exe");
    let named = || std::env::current_exe().unwrap_or_else(|_| this.clone());
    if this.exists() { this.clone() } else { named() }
}

/// What the children of one job are started with.
pub(super) struct Asked<'a> {
    pub(super) library: &'a Path,
    pub(super) digests: Option<&'a Digests>,
    pub(super) limits: &'a Limits,
    pub(super) events: &'a mpsc::SyncSender<(usize, Event)>,
}

impl Asked<'_> {
    /// Encoder, decoder and referee, in this order, all at once: who is not needed yet waits, and
    /// opens no library before it is told to.
    pub(super) fn start_cell(
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
        if let Some(candidates) = cell.stage.1 {
            let again = candidates.try_clone();
            lent.push(again.map_err(|error| HostFault::keep("the cache", &error))?.into());
        }
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
            transform: cell.transform.clone(),
            evaluation: cell.evaluation.clone(),
            stage: cell.stage.0,
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
    pub(super) fn start(
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
pub(crate) fn aside(folder: &Path) -> Result<OwnedFd, HostFault> {
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
pub(super) struct Child {
    /// `None` for one that answers a question.
    pub(super) role: Option<Role>,
    pub(super) pid: u32,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) scratch: Option<Scratch>,
    pub(super) printed: Option<thread::JoinHandle<String>>,
    pub(super) held: Option<Sandbox>,
    pub(super) answer: Option<Answer>,
    /// The referee needs it no more.
    pub(super) left: bool,
    /// What it uses; `None` for the referee.
    pub(super) watch: Option<Watch>,
    pub(super) peak_resident: u64,
    pub(super) exited: Option<Option<ExitStatus>>,
    pub(super) closed: bool,
}

impl Child {
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.exited.flatten()
    }

    pub(super) fn over(&self) -> bool {
        self.exited.is_some() && self.closed
    }

    /// True for one that has plugin code, and is not the one that answers.
    pub(super) fn engine(&self) -> bool {
        matches!(self.role, Some(Role::Encoder | Role::Decoder))
    }

    /// Removes what it left behind.
    pub(super) fn clear(self) {
        // What is left of it goes with its scratch folder, where it has one.
        if self.scratch.is_none() {
            remove_registrations(self.pid);
        }
    }
}

/// Longest line that a job's child may say.
pub(super) fn longest(job: &Job) -> usize {
    match job {
        Job::Engine(_) => lines::OF_WORK,
        Job::Referee(_) => lines::OF_REFEREE,
        Job::Expand { .. } => lines::OF_GRIDS,
        // Each answers in one line.
        Job::Describe { .. } | Job::Check { .. } | Job::Print { .. } | Job::Read(_) => {
            lines::OF_ANSWER
        }
    }
}

pub(super) fn kill_group(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may be gone already: nothing to do then.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
