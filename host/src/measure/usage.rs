//! How many threads an engine's calls really used: CPU time of its process by wall time.

#[cfg(target_os = "linux")]
use nix::time::{clock_getcpuclockid, clock_gettime};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What lasted less says little: a thread that begins or ends takes a part of it.
const TELLING: Duration = Duration::from_millis(20);

/// The processes of an engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Engine {
    /// The one that answers.
    pub(super) pid: u32,
    /// One that works for it.
    pub(super) helper: Option<u32>,
}

/// Adds up what stages took.
#[derive(Debug, Default)]
pub(super) struct Usage(Mutex<BTreeMap<String, (Duration, Duration)>>);

impl Usage {
    /// Runs `body` as part of `stage`, in which the processes of `engine` work.
    pub(super) fn during<T>(&self, stage: &str, engine: Engine, body: impl FnOnce() -> T) -> T {
        let (started, cpu) = (Instant::now(), cpu_time(engine));
        let answer = body();
        self.add(stage, started.elapsed(), cpu_time(engine).saturating_sub(cpu));
        answer
    }

    /// Adds `cpu` time in `wall` time to `stage`.
    pub(super) fn add(&self, stage: &str, wall: Duration, cpu: Duration) {
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match stages.get_mut(stage) {
            Some(sum) => *sum = (sum.0 + wall, sum.1 + cpu),
            None => drop(stages.insert(stage.to_owned(), (wall, cpu))),
        }
    }

    /// CPU seconds per second of wall time, the most of any stage that lasted long enough to tell.
    pub(super) fn most_threads(&self) -> Option<f64> {
        let stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let telling = stages.values().filter(|(wall, _)| *wall >= TELLING);
        telling.map(|(wall, cpu)| cpu.as_secs_f64() / wall.as_secs_f64()).max_by(f64::total_cmp)
    }
}

/// Of all threads of both so far.
pub(super) fn cpu_time(of: Engine) -> Duration {
    time_of(of.pid) + of.helper.map(time_of).unwrap_or_default()
}

/// Of all threads of the process `pid` so far; zero where that cannot be told.
fn time_of(pid: u32) -> Duration {
    #[cfg(target_os = "linux")]
    let time = i32::try_from(pid).ok().and_then(|pid| {
        let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(pid)).ok()?;
        clock_gettime(clock).ok().map(Duration::from)
    });
    #[cfg(not(target_os = "linux"))]
    let time = {
        let _ = pid;
        None
    };
    time.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stages_that_lasted_are_told_and_the_busiest_of_them() {
        let usage = Usage::default();
        let engine = Engine { pid: std::process::id(), helper: None };
        usage.during("short", engine, || ());
        assert_eq!(usage.most_threads(), None);
        usage.during("asleep", engine, || std::thread::sleep(TELLING));
        assert!(usage.most_threads().is_some_and(|threads| threads >= 0.0));
        usage.add("busy", Duration::from_secs(1), Duration::from_secs(9));
        assert_eq!(usage.most_threads(), Some(9.0));
    }

    #[test]
    fn the_time_of_a_process_that_is_not_there_is_none() {
        assert_eq!(time_of(u32::MAX), Duration::ZERO);
        let before = time_of(std::process::id());
        let sum: u64 = std::hint::black_box((0..3_000_000u64).map(std::hint::black_box).sum());
        assert!(sum > 0 && time_of(std::process::id()) > before);
    }
}
