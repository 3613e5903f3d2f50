//! What the processes of a job use right now, from `/proc`: memory of all kinds, threads, scratch.
//!
//! | counted | as |
//! |---|---|
//! | private memory, also in swap | memory, per process: what a fork shares with its parent counts twice |
//! | the kernel's tables of its pages | memory: pages that were only read are none of its private memory, and have tables |
//! | shared memory: mapped, in a file of it that has no name, in folders of the job's own | memory |
//! | files below the scratch folder, and those that were unlinked and are still open | scratch, by blocks |
//!
//! Between two looks a job may pass a limit and come back below it; a file that was unlinked,
//! closed and is still mapped is not seen. Where a process cannot be looked into, its limits
//! (`RLIMIT_DATA`, `RLIMIT_FSIZE`) still hold.

use super::scratch;
use crate::record::Outcome;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often what takes long is looked at: files, and who belongs to a job.
const SELDOM: Duration = Duration::from_millis(250);
/// A look that took long is not repeated before so many times its length has passed.
const IDLE: u32 = 20;
/// Open files of a process that are looked at.
const MAX_OPEN: usize = 4096;
/// Threads beyond the budget: runtimes have some of their own, and pools that wait.
const THREADS_PER_BUDGET: usize = 8;
const MORE_THREADS: usize = 64;
/// How long a killed group may take to end.
const DYING: Duration = Duration::from_secs(2);
/// Folders that may be a job's own, as it sees them.
const PRIVATE: [&str; 2] = ["dev/shm", "tmp"];

/// What a job may use.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    /// Bytes of memory; `None`: no limit.
    pub(super) memory: Option<u64>,
    /// Bytes of shared memory that the host lends each process, and that are not the job's.
    pub(super) lent: u64,
    /// Threads that it was told to use.
    pub(super) threads: usize,
    /// Bytes in the scratch folder.
    pub(super) scratch: u64,
}

/// A limit that was passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// Of memory, bytes.
    Memory(u64),
    /// Of threads.
    Threads {
        /// So many were there.
        found: usize,
        /// So many may be.
        limit: usize,
    },
    /// Of what lies in the scratch folder.
    Scratch(Heap),
}

/// What is too much for a scratch folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heap {
    /// More bytes than this.
    Bytes(u64),
    /// More files than this.
    Files(usize),
    /// Folders nested deeper than this.
    Depth(usize),
}

impl Passed {
    /// How that ends a cell.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Passed::Memory(_) => Outcome::OutOfMemory,
            Passed::Threads { .. } => Outcome::Invalid,
            Passed::Scratch(_) => Outcome::Failed,
        }
    }

    /// As a clause; `stage` is where the work stood.
    pub(super) fn text(&self, stage: &str) -> String {
        let size = |bytes: u64| bytesize::ByteSize(bytes).to_string();
        match self {
            Passed::Memory(limit) => {
                format!("passed the memory limit of {} at {stage}", size(*limit))
            }
            Passed::Threads { found, limit } => {
                format!("had {found} threads at {stage}; more than {limit} are not let")
            }
            Passed::Scratch(Heap::Bytes(limit)) => {
                format!("passed the scratch limit of {} at {stage}", size(*limit))
            }
            Passed::Scratch(Heap::Files(limit)) => {
                format!("had more than {limit} files in its scratch folder at {stage}")
            }
            Passed::Scratch(Heap::Depth(limit)) => {
                format!("nested more than {limit} folders in its scratch folder at {stage}")
            }
        }
    }
}

/// Looks at the processes of a job for as long as it runs.
#[derive(Debug)]
pub(super) struct Watch {
    /// Each leads a process group.
    leaders: Vec<u32>,
    /// Whether they can start processes: nothing denies it.
    forks: bool,
    scratch: Option<PathBuf>,
    budget: Budget,
    members: Vec<u32>,
    /// Bytes that are open without a name, of memory and on disk.
    nameless: (u64, u64),
    peak: u64,
    /// Most resident memory of several processes, bytes.
    resident: u64,
    next_look: Option<Instant>,
    /// What the first leader's clock showed, and when; and the time that was its own.
    clock: Option<(Instant, Duration)>,
    own_time: Duration,
}

impl Watch {
    /// On the groups that `leaders` lead, which write to `scratch`.
    pub(super) fn new(
        leaders: Vec<u32>,
        forks: bool,
        scratch: Option<PathBuf>,
        budget: Budget,
    ) -> Self {
        let members = leaders.clone();
        Watch {
            leaders,
            forks,
            scratch,
            budget,
            members,
            nameless: (0, 0),
            peak: 0,
            resident: 0,
            next_look: None,
            clock: None,
            own_time: Duration::ZERO,
        }
    }

    /// The limit that is passed by now. Cheap enough for every 50 ms.
    pub(super) fn look(&mut self) -> Option<Passed> {
        let seldom = self.next_look.is_none_or(|at| Instant::now() >= at);
        let started = Instant::now();
        if seldom && self.forks {
            self.members = members(&self.leaders);
        }
        if seldom {
            self.nameless = nameless(&self.members);
        }
        let (mut memory, mut shared, mut threads) = (0u64, self.nameless.0, 0usize);
        let mut resident = 0;
        for status in self.members.iter().filter_map(|pid| Status::of(*pid)) {
            memory += status.private;
            shared += status.shared;
            threads += status.threads;
            resident += status.most_resident;
        }
        self.resident = self.resident.max(resident);
        shared += self.leaders.iter().map(|pid| private_folders(*pid)).sum::<u64>();
        // Mapped and open, it was counted twice.
        let lent = 2 * self.budget.lent * self.members.len() as u64;
        memory += shared.saturating_sub(lent);
        self.peak = self.peak.max(memory);
        self.tell_time();
        let limit = THREADS_PER_BUDGET * self.budget.threads.max(1) + MORE_THREADS;
        let mut passed = match self.budget.memory {
            Some(limit) if memory > limit => Some(Passed::Memory(limit)),
            _ if threads > limit => Some(Passed::Threads { found: threads, limit }),
            _ => None,
        };
        if seldom {
            passed = passed.or_else(|| self.scratch_passed());
            self.next_look = Some(Instant::now() + SELDOM.max(started.elapsed() * IDLE));
        }
        passed
    }

    fn scratch_passed(&self) -> Option<Passed> {
        let limit = self.budget.scratch;
        let heap = match scratch::measured(self.scratch.as_deref()?) {
            Ok(bytes) if bytes + self.nameless.1 > limit => Heap::Bytes(limit),
            Ok(_) => return None,
            Err(heap) => heap,
        };
        Some(Passed::Scratch(heap))
    }

    /// Adds what the first leader computed since the last look, or, if it sleeps, all the time.
    fn tell_time(&mut self) {
        let stat = self.leaders.first().map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")));
        let Some((sleeps, computed)) = stat.and_then(|stat| clock(&stat.ok()?)) else { return };
        let now = Instant::now();
        if let Some((then, before)) = self.clock.replace((now, computed)) {
            let passed = if sleeps { now - then } else { Duration::ZERO };
            self.own_time += passed.max(computed.saturating_sub(before));
        }
    }

    /// How long the first leader has computed or slept, as far as it was seen: not the time in
    /// which it waited for a disk, or for a processor that others had.
    pub(super) fn own_time(&self) -> Duration {
        self.own_time
    }

    /// Most resident memory of all of it that was seen, bytes: of each process the highest.
    pub(super) fn resident(&self) -> u64 {
        self.resident
    }

    /// Most memory that was seen, bytes.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

/// What the kernel says of a process.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    private: u64,
    shared: u64,
    threads: usize,
    most_resident: u64,
}

impl Status {
    fn of(pid: u32) -> Option<Status> {
        fs::read_to_string(format!("/proc/{pid}/status")).ok().map(|text| Self::read(&text))
    }

    fn read(text: &str) -> Status {
        let number = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or(0)
        };
        Status {
            private: (number("RssAnon:") + number("VmSwap:") + number("VmPTE:")) * 1024,
            shared: number("RssShmem:") * 1024,
            threads: usize::try_from(number("Threads:")).unwrap_or(usize::MAX),
            most_resident: number("VmHWM:") * 1024,
        }
    }
}

/// Highest resident memory of a process that is there, bytes.
pub(super) fn most_resident(pid: u32) -> Option<u64> {
    Status::of(pid).map(|status| status.most_resident)
}

/// The processes of the groups and sessions of `leaders` that have not ended.
fn members(leaders: &[u32]) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_theirs = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        group(&text).is_some_and(|groups| groups.iter().any(|of| leaders.contains(of)))
    };
    pids.filter(of_theirs).collect()
}

/// Process group and session that `/proc/PID/stat` tells; `None` of what has ended.
fn group(stat: &str) -> Option<[u32; 2]> {
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let mut numbers = fields.skip(1).map(|field| field.parse().ok());
    let groups = [numbers.next()??, numbers.next()??];
    (!matches!(state, "Z" | "X")).then_some(groups)
}

/// Whether the process of `/proc/PID/stat` sleeps, and the processor time of all its threads.
fn clock(stat: &str) -> Option<(bool, Duration)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields 3, 14 and 15 of proc(5), in hundredths of a second.
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok());
    let computed = Duration::from_millis((ticks(11)? + ticks(12)?) * 10);
    Some((fields[0] == "S", computed))
}

/// Bytes of files that the processes have open and that have no name any more: in memory, and on
/// disk.
fn nameless(members: &[u32]) -> (u64, u64) {
    let mut files = BTreeMap::new();
    let own: BTreeSet<u64> = members.iter().flat_map(|pid| private_devices(*pid)).collect();
    for pid in members {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for file in open.take(MAX_OPEN) {
            let Ok(meta) = fs::metadata(file.path()) else { continue };
            // What lies in a folder of its own is counted there.
            if meta.is_file() && meta.nlink() == 0 && !own.contains(&meta.dev()) {
                let key = (meta.dev(), meta.ino());
                files.entry(key).or_insert_with(|| (in_memory(&file.path()), meta.blocks() * 512));
            }
        }
    }
    let sum = |wanted: bool| {
        files.values().filter(|(memory, _)| *memory == wanted).map(|(_, bytes)| bytes).sum()
    };
    (sum(true), sum(false))
}

#[cfg(target_os = "linux")]
fn in_memory(file: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    statfs(file).is_ok_and(|of| of.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_file: &Path) -> bool {
    false
}

/// Where a process sees folders that are its own, with their devices.
fn private(pid: u32) -> impl Iterator<Item = (PathBuf, u64)> {
    PRIVATE.into_iter().filter_map(move |name| {
        let place = Path::new("/proc").join(format!("{pid}/root")).join(name);
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
        let (its, ours) = (device(&place).ok()?, device(&Path::new("/").join(name)).ok());
        (Some(its) != ours && in_memory(&place)).then_some((place, its))
    })
}

fn private_devices(pid: u32) -> impl Iterator<Item = u64> {
    private(pid).map(|(_, device)| device)
}

/// Bytes in folders of memory that are a process's own.
#[cfg(target_os = "linux")]
fn private_folders(pid: u32) -> u64 {
    let used = |place: &Path| {
        let of = nix::sys::statvfs::statvfs(place).ok()?;
        Some(of.blocks().saturating_sub(of.blocks_free()) * of.fragment_size())
    };
    private(pid).filter_map(|(place, _)| used(&place)).sum()
}

#[cfg(not(target_os = "linux"))]
fn private_folders(_pid: u32) -> u64 {
    0
}

/// Kills the group that `leader` led, again and again until nobody is left of it; `false` if some
/// are after all.
pub(super) fn end_group(leader: u32) -> bool {
    let Ok(group) = i32::try_from(leader) else { return true };
    let until = Instant::now() + DYING;
    loop {
        // One that was forked while the others were killed is there the next time.
        match killpg(Pid::from_raw(group), Signal::SIGKILL) {
            Err(Errno::ESRCH) => return true,
            // Those that ended may stay in the table as long as nobody takes note.
            _ if members(&[leader]).is_empty() => return true,
            _ if Instant::now() > until => return false,
            _ => thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    fn budget() -> Budget {
        Budget { memory: None, lent: 0, threads: 1, scratch: 1 << 20 }
    }

    #[test]
    fn a_status_is_read_whatever_it_lacks() {
        let text = "Name:\tx\nVmHWM:\t     400 kB\nRssAnon:\t 100 kB\nVmPTE:\t 2 kB\nRssFile:\t 9 kB\n\
                    RssShmem:\t  20 kB\nVmSwap:\t 3 kB\nThreads:\t7\n";
        let most_resident = 400 << 10;
        let status = Status { private: 105 << 10, shared: 20 << 10, threads: 7, most_resident };
        assert_eq!(Status::read(text), status);
        assert_eq!(Status::read(""), Status::default());
        assert!(most_resident_of_this() > 1 << 20);
    }

    fn most_resident_of_this() -> u64 {
        most_resident(std::process::id()).expect("this process is there")
    }

    #[test]
    fn a_group_is_read_behind_any_name() {
        assert_eq!(group("7 (a) Z 1 (b)) S 1 22 33 0 -1"), Some([22, 33]));
        assert_eq!(group("7 (a) Z 1 22 33 0 -1"), None, "it has ended");
        for text in ["", "7 (a)", "7 (a) S 1", "7 (a) S 1 x 33"] {
            assert_eq!(group(text), None, "{text}");
        }
    }

    #[test]
    fn a_clock_tells_who_computes_and_who_sleeps() {
        let stat = |state: &str| format!("7 (a b) {state} 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20");
        assert_eq!(clock(&stat("S")), Some((true, Duration::from_secs(2))));
        assert_eq!(clock(&stat("D")), Some((false, Duration::from_secs(2))));
        assert_eq!(clock("7 (a b) S 1"), None);
        let mut asleep = Command::new("sleep").arg("100").spawn().unwrap();
        let mut watch = Watch::new(vec![asleep.id()], false, None, budget());
        while watch.own_time() < Duration::from_millis(50) {
            assert_eq!(watch.look(), None);
        }
        asleep.kill().unwrap();
        asleep.wait().unwrap();
    }

    #[test]
    fn all_of_a_group_is_counted_and_ended() {
        let script = "sleep 100 & sleep 100 & wait";
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", script]).process_group(0).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        while members(&[shell.id()]).len() < 3 {
            thread::sleep(Duration::from_millis(2));
        }
        let mut watch = Watch::new(vec![shell.id()], true, None, budget());
        assert_eq!(watch.look(), None);
        assert_eq!(watch.members.len(), 3);
        assert!(watch.peak() > 0);
        assert!(end_group(shell.id()), "nobody is left but who is not waited for");
        shell.wait().unwrap();
        assert!(end_group(shell.id()));
        assert!(members(&[shell.id()]).is_empty());
    }

    #[test]
    fn what_is_in_memory_counts_whatever_it_is_called() {
        let shared = nix::sys::memfd::memfd_create("area", nix::sys::memfd::MFdFlags::empty());
        let file = fs::File::from(shared.unwrap());
        let before = nameless(&[std::process::id()]);
        std::io::Write::write_all(&mut &file, &[1; 3 << 20]).unwrap();
        let unlinked = tempfile::tempfile_in("/var/tmp").unwrap();
        std::io::Write::write_all(&mut &unlinked, &[1; 2 << 20]).unwrap();
        let after = nameless(&[std::process::id()]);
        assert!(after.0 + after.1 >= before.0 + before.1 + (5 << 20), "{before:?} {after:?}");
        assert!(after.0 >= before.0 + (3 << 20));
    }

    #[test]
    fn each_limit_is_told_with_where_the_work_stood() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("much"), vec![1; 2 << 20]).unwrap();
        let pid = std::process::id();
        let of = |budget, scratch| Watch::new(vec![pid], false, scratch, budget).look();
        let scratch = of(budget(), Some(folder.path().to_owned())).unwrap();
        assert_eq!(scratch.text("fit"), "passed the scratch limit of 1.0 MiB at fit");
        assert_eq!(scratch.outcome(), Outcome::Failed);
        let memory = of(Budget { memory: Some(1 << 10), ..budget() }, None).unwrap();
        assert_eq!(memory.text("fit"), "passed the memory limit of 1.0 KiB at fit");
        assert_eq!(memory.outcome(), Outcome::OutOfMemory);
        assert_eq!(of(Budget { threads: 1000, ..budget() }, None), None);
        let threads = Passed::Threads { found: 100, limit: 72 };
        assert_eq!(threads.text("fit"), "had 100 threads at fit; more than 72 are not let");
    }
}
