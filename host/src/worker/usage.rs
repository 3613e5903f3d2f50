//! How many threads the plugin's calls really used: CPU time of the process by wall time.

use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What lasted less says little: a thread that begins or ends takes a part of it.
const TELLING: Duration = Duration::from_millis(20);

/// Adds up what stages took.
#[derive(Debug, Default)]
pub(super) struct Usage(Mutex<BTreeMap<String, (Duration, Duration)>>);

impl Usage {
    /// Runs `body` as part of `stage`.
    pub(super) fn during<T>(&self, stage: &str, body: impl FnOnce() -> T) -> T {
        let (started, cpu) = (Instant::now(), cpu_time());
        let answer = body();
        let (wall, cpu) = (started.elapsed(), cpu_time().saturating_sub(cpu));
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match stages.get_mut(stage) {
            Some(sum) => *sum = (sum.0 + wall, sum.1 + cpu),
            None => drop(stages.insert(stage.to_owned(), (wall, cpu))),
        }
        answer
    }

    /// CPU seconds per second of wall time, the most of any stage that lasted long enough to tell.
    pub(super) fn most_threads(&self) -> Option<f64> {
        let stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let telling = stages.values().filter(|(wall, _)| *wall >= TELLING);
        telling.map(|(wall, cpu)| cpu.as_secs_f64() / wall.as_secs_f64()).max_by(f64::total_cmp)
    }
}

/// Of all threads of this process so far.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stages_that_lasted_are_told_and_the_busiest_of_them() {
        let usage = Usage::default();
        usage.during("short", || ());
        assert_eq!(usage.most_threads(), None);
        usage.during("asleep", || std::thread::sleep(TELLING));
        assert!(usage.most_threads().is_some_and(|threads| threads >= 0.0));
        let mut stages = usage.0.lock().unwrap();
        stages.insert("busy".into(), (Duration::from_secs(1), Duration::from_secs(9)));
        drop(stages);
        assert_eq!(usage.most_threads(), Some(9.0));
    }
}
