//! What calls take in the pass over the base, when rows, codes and queries are new to a method: these it cannot answer
//! from memory, as it can those that are made again and again for their time.

use super::usage::{Engine, cpu_time};
use crate::worker::reporter::Failure;
use std::time::Duration;

/// Calls that are made again take less than new ones, for what they need lies in the caches. Below one in so many, they
/// are answered from memory.
const FROM_MEMORY: f64 = 3.0;
/// Bytes that a new call moves in a second, though none of them lies in the caches.
const COLD: f64 = 4e9;
/// What a new call may take besides, in seconds: its process sleeps until it is asked.
const WOKEN: f64 = 200e-6;
/// The first call: it maps its memory.
const MAPPED: f64 = 10e-3;
/// A query in a call that has fewer codes than the one that is made again.
const PER_QUERY: f64 = 100e-6;
/// Rows that a class in Python gets at a time where nothing is timed, as in `python/bridge.rs`.
const PIECE: usize = 4096;

/// Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spent {
    pub(super) wall: f64,
    /// Of all processors; 0 where that cannot be told.
    pub(super) cpu: f64,
}

/// Some calls.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// Rows, or codes of queries.
    rows: f64,
    spent: Spent,
    /// Seconds that are not the method's.
    woken: f64,
}

impl Sum {
    fn add(&mut self, of: Sum) {
        self.rows += of.rows;
        self.spent.wall += of.spent.wall;
        self.spent.cpu += of.spent.cpu;
        self.woken += of.woken;
    }
}

/// Calls on rows, codes or queries that a method had not seen before.
#[derive(Debug)]
pub(super) struct Unseen {
    /// Codes that a query meets in a call; 0 for calls on rows.
    codes: usize,
    begun: bool,
    later: Sum,
    all: Sum,
}

impl Unseen {
    /// No call so far.
    pub(super) fn new(codes: usize) -> Self {
        let all = Sum { woken: MAPPED, ..Sum::default() };
        Unseen { codes, begun: false, later: Sum::default(), all }
    }

    /// Makes one `call` of an engine's `processes`, for so many rows or codes of queries; `None` where some of it was
    /// seen before.
    pub(super) fn call(
        &mut self,
        rows: Option<usize>,
        processes: Engine,
        call: impl FnOnce() -> Result<Duration, Failure>,
    ) -> Result<(), Failure> {
        let before = cpu_time(processes);
        let wall = call()?.as_secs_f64();
        if let Some(rows) = rows {
            let cpu = cpu_time(processes).saturating_sub(before).as_secs_f64();
            let pieces = processes.helper.map_or(1, |_| rows.div_ceil(PIECE));
            self.add(rows, Spent { wall, cpu }, pieces);
        }
        Ok(())
    }

    fn add(&mut self, rows: usize, spent: Spent, pieces: usize) {
        let call = Sum { rows: rows as f64, spent, woken: WOKEN * pieces as f64 };
        self.all.add(call);
        if self.begun {
            self.later.add(call);
        }
        self.begun = true;
    }

    /// Seconds of a row or query that is new, where these, and what the processors did, are more than caches explain
    /// beside one that is asked `again`: it counts for so much, and moves so many bytes. The first call is judged with
    /// the others, and they without it.
    pub(super) fn beyond(&self, again: Spent, worth: usize, bytes: usize) -> Option<f64> {
        let blocks = match self.codes {
            0 => 0,
            codes => worth.div_ceil(codes) - 1,
        };
        let besides = bytes as f64 / COLD + PER_QUERY * blocks as f64;
        let judge = |sum: &Sum| {
            let each = |seconds: f64| seconds / sum.rows * worth as f64;
            let most = |again: f64| FROM_MEMORY * again + besides + each(sum.woken);
            let new = each(sum.spent.wall);
            let worked = sum.spent.cpu == 0.0 || each(sum.spent.cpu) > most(again.cpu);
            (new > most(again.wall) && worked).then_some(new)
        };
        [self.later, self.all].iter().filter(|sum| sum.rows > 0.0).find_map(judge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls for 1,000 rows each, by milliseconds of wall time and of all processors.
    fn unseen(codes: usize, calls: &[(f64, f64)]) -> Unseen {
        let mut unseen = Unseen::new(codes);
        for (wall, cpu) in calls {
            unseen.add(1000, Spent { wall: wall / 1e3, cpu: cpu / 1e3 }, 1);
        }
        unseen
    }

    const AGAIN: Spent = Spent { wall: 1e-6, cpu: 1e-6 };

    fn near(found: Option<f64>, seconds: f64) -> bool {
        found.is_some_and(|found| (found / seconds - 1.0).abs() < 1e-9)
    }

    #[test]
    fn what_is_new_may_take_as_much_longer_as_caches_and_waking_explain() {
        // 3 µs for each row, and 0.2 of waking.
        assert_eq!(unseen(0, &[(9.0, 9.0), (3.1, 3.1)]).beyond(AGAIN, 1, 0), None);
        assert!(near(unseen(0, &[(1.0, 1.0), (4.0, 4.0)]).beyond(AGAIN, 1, 0), 4e-6));
        assert_eq!(unseen(0, &[(1.0, 1.0), (4.0, 4.0)]).beyond(AGAIN, 1, 4000), None);
        // Many that are fast hide none that is slow.
        assert!(near(unseen(0, &[(1.0, 1.0), (1.0, 1.0), (9.0, 9.0)]).beyond(AGAIN, 1, 0), 5e-6));
        // The first may take 10 ms besides.
        assert_eq!(unseen(0, &[(13.0, 13.0)]).beyond(AGAIN, 1, 0), None);
        assert!(near(unseen(0, &[(14.0, 14.0)]).beyond(AGAIN, 1, 0), 14e-6));
        assert_eq!(unseen(0, &[]).beyond(AGAIN, 1, 0), None);
    }

    #[test]
    fn a_call_that_waited_for_a_processor_worked_no_longer() {
        assert_eq!(unseen(0, &[(1.0, 1.0), (900.0, 3.0)]).beyond(AGAIN, 1, 0), None);
        // Two threads, of which one alone works on what is new.
        let again = Spent { wall: 1e-6, cpu: 2e-6 };
        assert_eq!(unseen(0, &[(1.0, 1.0), (4.0, 4.0)]).beyond(again, 1, 0), None);
        assert!(near(unseen(0, &[(1.0, 1.0), (8.0, 8.0)]).beyond(again, 1, 0), 8e-6));
        // Where that cannot be told, the clock on the wall decides.
        assert!(near(unseen(0, &[(1.0, 0.0), (4.0, 0.0)]).beyond(AGAIN, 1, 0), 4e-6));
    }

    #[test]
    fn a_query_among_more_codes_than_a_new_call_has_pays_once_what_it_pays_for_each_call() {
        // 500 codes a call, 2,000 in the one that is made again: three times 100 µs.
        let again = Spent { wall: 1e-6, cpu: 1e-6 };
        let calls = [(1.0, 1.0), (0.35, 0.35)];
        assert_eq!(unseen(500, &calls).beyond(again, 2000, 0), None);
        assert!(near(unseen(2000, &calls).beyond(again, 2000, 0), 7e-4));
    }

    #[test]
    fn a_call_is_timed_by_both_clocks_unless_some_of_it_was_seen() {
        let processes = Engine { pid: std::process::id(), helper: None };
        let mut unseen = Unseen::new(0);
        for rows in [Some(1), None, Some(2)] {
            unseen.call(rows, processes, || Ok(Duration::from_secs(3600))).unwrap();
        }
        assert_eq!((unseen.all.rows, unseen.later.rows), (3.0, 2.0));
        assert_eq!((unseen.all.spent.wall, unseen.later.spent.wall), (7200.0, 3600.0));
        assert!(unseen.all.spent.cpu < 60.0, "{unseen:?}");
    }
}
