//! How the system schedules this process, kept as it was: any process of the same user may change
//! it where no filter of system calls holds, and every later cell would be measured by it.

use nix::errno::Errno;
use nix::libc;
#[cfg(target_os = "linux")]
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
#[cfg(target_os = "linux")]
use nix::unistd::Pid;
use std::fmt;
use std::fs;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// Differences that are remembered for the cells under way.
const MOST_SEEN: usize = 64;

/// Differences that were found, when, and what became of them.
static SEEN: Mutex<Vec<(Instant, String)>> = Mutex::new(Vec::new());

/// What the threads of this process are scheduled by, once plugins could have changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    traits: Vec<Trait>,
}

/// One of the ways in which the system tells threads apart, and this thread's place in it. Systems
/// other than Linux have the nice value alone, of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trait {
    Nice(i32),
    #[cfg(target_os = "linux")]
    Policy {
        policy: i32,
        priority: i32,
    },
    #[cfg(target_os = "linux")]
    Processors(Vec<usize>),
    #[cfg(target_os = "linux")]
    Disk(i32),
}

impl Trait {
    /// Those of a thread or process, 0 for the calling one, as far as they can be asked for.
    fn all(of: i32) -> Vec<Trait> {
        #[cfg(target_os = "linux")]
        let traits = [Self::policy(of), Self::nice(of), Self::processors(of), Self::disk(of)];
        #[cfg(not(target_os = "linux"))]
        let traits = [Self::nice(of)];
        traits.into_iter().flatten().collect()
    }

    #[cfg(target_os = "linux")]
    fn policy(of: i32) -> Option<Trait> {
        // SAFETY: the call reads nothing but its argument.
        let policy = Errno::result(unsafe { libc::sched_getscheduler(of) }).ok()?;
        let mut parameter = libc::sched_param { sched_priority: 0 };
        // SAFETY: it writes to `parameter`, which lives until the call is over.
        Errno::result(unsafe { libc::sched_getparam(of, &raw mut parameter) }).ok()?;
        Some(Trait::Policy { policy, priority: parameter.sched_priority })
    }

    fn nice(of: i32) -> Option<Trait> {
        Errno::clear();
        // SAFETY: the call reads nothing but its arguments.
        let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, of.cast_unsigned()) };
        // -1 is an answer, too.
        (nice != -1 || Errno::last_raw() == 0).then_some(Trait::Nice(nice))
    }

    #[cfg(target_os = "linux")]
    fn processors(of: i32) -> Option<Trait> {
        let set = sched_getaffinity(Pid::from_raw(of)).ok()?;
        let among = (0..CpuSet::count()).filter(|i| set.is_set(*i).unwrap_or(false));
        Some(Trait::Processors(among.collect()))
    }

    #[cfg(target_os = "linux")]
    fn disk(of: i32) -> Option<Trait> {
        // SAFETY: the call reads nothing but its arguments.
        let priority = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, of) };
        i32::try_from(Errno::result(priority).ok()?).ok().map(Trait::Disk)
    }

    /// Gives it to a thread or process.
    fn set(&self, of: i32) -> nix::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Trait::Policy { policy, priority } => {
                let parameter = libc::sched_param { sched_priority: *priority };
                // SAFETY: it reads `parameter`, which lives until the call is over.
                let set = unsafe { libc::sched_setscheduler(of, *policy, &raw const parameter) };
                Errno::result(set).map(drop)
            }
            Trait::Nice(nice) => {
                let who = of.cast_unsigned();
                // SAFETY: the call reads nothing but its arguments.
                let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, who, *nice) };
                Errno::result(set).map(drop)
            }
            #[cfg(target_os = "linux")]
            Trait::Processors(among) => {
                let mut set = CpuSet::new();
                among.iter().try_for_each(|i| set.set(*i))?;
                sched_setaffinity(Pid::from_raw(of), &set)
            }
            #[cfg(target_os = "linux")]
            Trait::Disk(priority) => {
                // SAFETY: the call reads nothing but its arguments.
                let set =
                    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, of, *priority) };
                Errno::result(set).map(drop)
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            #[cfg(target_os = "linux")]
            Trait::Policy { .. } => "scheduling class",
            Trait::Nice(_) => "nice value",
            #[cfg(target_os = "linux")]
            Trait::Processors(_) => "processors",
            #[cfg(target_os = "linux")]
            Trait::Disk(_) => "disk priority",
        }
    }
}

/// `IOPRIO_WHO_PROCESS`.
#[cfg(target_os = "linux")]
const WHO_PROCESS: i32 = 1;

impl fmt::Display for Trait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(target_os = "linux")]
            Trait::Policy { policy, priority } => {
                match *policy {
                    libc::SCHED_OTHER => f.write_str("other"),
                    libc::SCHED_FIFO => f.write_str("fifo"),
                    libc::SCHED_RR => f.write_str("rr"),
                    libc::SCHED_BATCH => f.write_str("batch"),
                    libc::SCHED_IDLE => f.write_str("idle"),
                    policy => write!(f, "{policy}"),
                }?;
                if *priority == 0 { Ok(()) } else { write!(f, " {priority}") }
            }
            Trait::Nice(nice) => write!(f, "{nice}"),
            #[cfg(target_os = "linux")]
            Trait::Processors(among) => f.write_str(&ranges(among)),
            #[cfg(target_os = "linux")]
            Trait::Disk(priority) => {
                let class = ["none", "realtime", "best-effort", "idle"];
                let class = class.get((priority >> 13) as usize).unwrap_or(&"unknown");
                write!(f, "{class} {}", priority & 7)
            }
        }
    }
}

/// `0-3,8`.
#[cfg(target_os = "linux")]
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let text = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(usize::to_string).collect(),
    });
    text.collect::<Vec<_>>().join(",")
}

/// The differences that are found while it lives.
#[derive(Debug)]
pub(super) struct Kept {
    since: Instant,
}

impl State {
    /// That of the calling thread.
    fn look() -> Self {
        State { traits: Trait::all(0) }
    }

    /// Compares with it the processes or threads `ids`, which are `whose`, and puts back what
    /// differs where that is permitted; answers what did.
    fn restore(&self, ids: &[i32], whose: &str) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        for (id, was) in ids.iter().flat_map(|id| self.traits.iter().map(move |was| (*id, was))) {
            let all = Trait::all(id);
            let now = all.iter().find(|now| now.name() == was.name());
            let Some(now) = now.filter(|now| *now != was) else { continue };
            let put_back = match was.set(id) {
                Ok(()) => "and put back".to_owned(),
                Err(error) => format!("and cannot be put back ({})", error.desc()),
            };
            let name = was.name();
            let line =
                format!("changed from outside: {whose} {name} from {was} to {now}, {put_back}");
            if !told.contains(&line) {
                told.push(line);
            }
        }
        told
    }
}

/// Begins to keep this process as it was when this was called first.
pub(super) fn keep() -> Kept {
    started_with();
    Kept { since: Instant::now() }
}

fn started_with() -> &'static State {
    static STARTED_WITH: OnceLock<State> = OnceLock::new();
    STARTED_WITH.get_or_init(State::look)
}

impl Kept {
    /// Looks at the threads of this process and at `children`, which run none but our own code.
    pub(super) fn check(&self, children: &[u32]) {
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let threads: Vec<i32> =
            threads.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let children: Vec<i32> =
            children.iter().filter_map(|pid| i32::try_from(*pid).ok()).collect();
        let state = started_with();
        let mut found = state.restore(&threads, "vq-host's");
        found.extend(state.restore(&children, "the referee's"));
        if found.is_empty() {
            return;
        }
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        seen.extend(found.into_iter().map(|line| (now, line)));
        let surplus = seen.len().saturating_sub(MOST_SEEN);
        seen.drain(..surplus);
    }

    /// What was found since, for whichever cell: it was as bad for each that ran.
    pub(super) fn end(self) -> Vec<String> {
        self.check(&[]);
        let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<String> = Vec::new();
        for (_, line) in seen.iter().filter(|(at, _)| *at >= self.since) {
            if !lines.contains(line) {
                lines.push(line.clone());
            }
        }
        lines
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn processors_are_told_in_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
        assert_eq!(ranges(&[5]), "5");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn what_was_done_to_a_thread_is_told_and_undone() {
        let state = State::look();
        let (told, id) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            told.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = ended.recv();
        });
        let id = id.recv().unwrap();
        assert_eq!(state.restore(&[id], "its"), Vec::<String>::new());
        let Trait::Nice(nice) = Trait::nice(0).unwrap() else { unreachable!() };
        let Trait::Disk(disk) = Trait::disk(0).unwrap() else { unreachable!() };
        let mut expected = Vec::new();
        if nice < 19 {
            Trait::Nice(nice + 1).set(id).unwrap();
            expected.push(format!("its nice value from {nice} to {}, and", nice + 1));
        }
        let idle = Trait::Disk(3 << 13);
        if Trait::Disk(disk) != idle && idle.set(id).is_ok() {
            let disk = Trait::Disk(disk);
            expected.push(format!("its disk priority from {disk} to idle 0, and"));
        }
        if let Some(Trait::Processors(all)) = Trait::processors(0)
            && all.len() > 1
        {
            Trait::Processors(all[..1].to_vec()).set(id).unwrap();
            let (all, one) = (ranges(&all), all[0]);
            expected.push(format!("its processors from {all} to {one}, and"));
        }
        let told = state.restore(&[id], "its");
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for expected in expected {
            assert!(told.iter().any(|line| line.contains(&expected)), "{expected}: {told:?}");
        }
        // What could be put back, is.
        let left = state.restore(&[id], "its");
        assert!(left.iter().all(|line| line.contains("cannot be put back")), "{left:?}");
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn a_process_that_nobody_changed_has_nothing_to_tell() {
        let kept = keep();
        kept.check(&[std::process::id()]);
        assert_eq!(kept.end(), Vec::<String>::new());
    }
}
