//! Rates: medians over repetitions after a warm-up, on one block in memory.
//!
//! The clock is the referee's and runs from the request of one whole-block call to its answer. Before
//! each call some of its output is spoilt, and after it compared with what the call is known to put
//! out: a call that was not made takes no time, and shows.

use super::peer::Peer;
use super::usage::cpu_time;
use super::{Cell, Metrics};
use crate::worker::exchange::{Plain, Request};
use crate::worker::reporter::Failure;
use std::fmt;
use std::time::Duration;

/// A timed repetition lasts at least this long.
const TIMED_AT_LEAST: Duration = Duration::from_millis(30);
/// Items are taken away from a call that would last longer than this.
const TIMED_AT_MOST: Duration = Duration::from_millis(400);
/// More calls than any repetition has.
const MOST_CALLS: usize = 10_000;
/// Parts of an output that are spoilt and compared around each call, and the values of one.
const SPOILT: usize = 16;
const SPOILT_VALUES: usize = 64;
/// Empty calls that are timed.
const EMPTY_CALLS: usize = 33;
/// A call that takes less than so many empty ones says little of the method.
const TELLING: u32 = 20;

/// What is timed.
pub(super) struct Timed<'a, T> {
    /// The function.
    pub(super) function: &'static str,
    /// The metric.
    pub(super) name: &'static str,
    /// Rows or queries of one call, at most.
    pub(super) items: usize,
    /// What one of them counts for in the rate.
    pub(super) worth: usize,
    /// What the calls put out for all items.
    pub(super) expected: &'a [T],
    /// What no output is.
    pub(super) spoilt: fn(T) -> T,
}

/// How long calls of an engine take that do nothing.
pub(super) fn empty_call(peer: &mut Peer<'_>) -> Result<Duration, Failure> {
    let mut times = (0..EMPTY_CALLS).map(|_| peer.nothing()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times[EMPTY_CALLS / 2])
}

/// Times the calls that `request` makes for so many items of what is lent.
pub(super) fn time<T: Plain + PartialEq + fmt::Debug>(
    cell: &Cell<'_>,
    peer: &mut Peer<'_>,
    timed: &Timed<'_, T>,
    request: impl Fn(usize) -> Request,
    metrics: &mut Metrics,
) -> Result<(), Failure> {
    if timed.items == 0 {
        return Ok(());
    }
    let stage = format!("time {}", timed.function);
    let empty = empty_call(peer)?;
    let per_item = timed.expected.len() / timed.items;
    // The warm-up, which also takes its time, and the repetitions.
    let all = cell.of.evaluation.repeats + 1;
    cell.part(&stage, 0, 1, all);
    let mut calls = Calls { timed, request, place: 0x9E37_79B9_7F4A_7C15 };
    let warm_up = calls.make(peer, timed.items, per_item, true)?.max(Duration::from_nanos(1));
    let shrink = (TIMED_AT_MOST.as_secs_f64() / warm_up.as_secs_f64()).min(1.0);
    let items = ((timed.items as f64 * shrink) as usize).clamp(timed.items.min(64), timed.items);
    let (mut rates, mut each) = (Vec::new(), Vec::new());
    for repeat in 1..all {
        cell.part(&stage, repeat, repeat, all);
        let cpu = cpu_time(peer.pid());
        let mut took = Duration::ZERO;
        let mut made = 0;
        while made == 0 || (took < TIMED_AT_LEAST && made < MOST_CALLS) {
            let call = calls.make(peer, items, per_item, made == 0)?;
            each.push(call);
            took += call;
            made += 1;
        }
        cell.usage.add(&stage, took, cpu_time(peer.pid()).saturating_sub(cpu));
        rates.push((made * items * timed.worth) as f64 / took.as_secs_f64());
    }
    each.sort_unstable();
    if let Some(middle) = each.get(each.len() / 2).filter(|middle| **middle < TELLING * empty) {
        let micros = |time: Duration| 1e6 * time.as_secs_f64();
        metrics.notice(format!(
            "a call of {} took {:.0} µs, less than {TELLING} times the {:.0} µs of an empty one: its \
             rate says little",
            timed.function,
            micros(*middle),
            micros(empty)
        ));
    }
    metrics.add_timed(timed.name, rates)
}

struct Calls<'t, 'a, T, R> {
    timed: &'t Timed<'a, T>,
    request: R,
    /// Where the next part to be spoilt lies.
    place: u64,
}

impl<T: Plain + PartialEq, R: Fn(usize) -> Request> Calls<'_, '_, T, R> {
    fn make(
        &mut self,
        peer: &mut Peer<'_>,
        items: usize,
        per_item: usize,
        whole: bool,
    ) -> Result<Duration, Failure> {
        let function = self.timed.function;
        let expected = &self.timed.expected[..items * per_item];
        let (parts, len) = match whole {
            true => (1, expected.len()),
            false => (SPOILT, SPOILT_VALUES.min(expected.len())),
        };
        let parts: Vec<_> = (0..parts)
            .map(|_| {
                // Where a method might guess, it must not: a step of a full-period generator.
                self.place = self.place.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                let from = (self.place >> 33) as usize % (expected.len() - len + 1);
                from..from + len
            })
            .collect();
        for part in &parts {
            let with = expected.get(part.start).map(|value| (self.timed.spoilt)(*value));
            with.into_iter().for_each(|with| peer.spoil(expected.len(), part.clone(), with));
        }
        let took = peer.timed(function, &(self.request)(items), size_of_val(expected))?;
        for part in parts {
            if peer.compare(expected, part) != Some(true) {
                return Err(Failure::invalid(format!(
                    "{function} put out something else when it was asked again"
                )));
            }
        }
        Ok(took)
    }
}
