//! Rates: medians over repetitions after a warm-up, on one block in memory.
//!
//! The clock is the referee's and runs from the request of one whole-block call to its answer. Before
//! each call some of its output is spoilt, and after it compared with what the call is known to put
//! out: a call that was not made takes no time, and shows. One that was answered from memory shows beside the calls on
//! what the method had not seen before ([`super::unseen`]).

use super::peer::Peer;
use super::unseen::{Spent, Unseen};
use super::usage::cpu_time;
use super::{Cell, Metrics};
use crate::worker::exchange::{Plain, Request};
use crate::worker::reporter::Failure;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// Where the first two of three repetitions differ by less than this part, there is no third: their median
/// lies between the first two whatever the third says.
const ALIKE: f64 = 0.02;
/// Calls of a stream are at most so many, which together move at most 144 MiB.
const STREAMED_CALLS: usize = 9;
/// A timed repetition lasts at least this long.
const TIMED_AT_LEAST: Duration = Duration::from_millis(30);
/// A call that takes less is timed when calls were made for [`WARM`], and looked at in parts alone: of a repetition so
/// many that leaving out a two-hundredth of the work would show.
const SHORT: Duration = Duration::from_millis(1);
const WARM: Duration = Duration::from_millis(10);
/// Items are taken away from a call that would last longer than this.
const TIMED_AT_MOST: Duration = Duration::from_millis(400);
/// More calls than any repetition has.
const MOST_CALLS: usize = 10_000;
/// Parts of an output that are spoilt and compared around each call, and the values of one: few, for each is a line
/// of the cache that the call has to get back from the referee's processor.
const SPOILT: usize = 16;
const SPOILT_VALUES: usize = 16;
/// A call that takes less than so many empty ones says little of the method.
const TELLING: u32 = 20;
/// Calls that move more bytes than this in a second, in and out, are timed as a stream as well: a block
/// that was just used lies in the caches, which then is what the rate is about.
const STREAMED_ABOVE: f64 = 1e9;

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
    /// What the referee does with each of them besides, which counts into the rate.
    pub(super) beside: Duration,
    /// Bytes that go in and come out for each of them.
    pub(super) bytes: usize,
    /// The same calls, when all was new.
    pub(super) unseen: &'a Unseen,
    /// What the calls put out for all items.
    pub(super) expected: &'a [T],
    /// What no output is.
    pub(super) spoilt: fn(T) -> T,
}

impl<T> Timed<'_, T> {
    fn beside_s(&self) -> f64 {
        self.beside.as_secs_f64()
    }
}

/// Times the calls that `request` makes for so many items of what is lent. `warm` is how long the same
/// call just took, where it was made already; it is made to warm up otherwise.
pub(super) fn time<T: Plain + PartialEq + fmt::Debug>(
    cell: &Cell<'_>,
    peer: &mut Peer<'_>,
    timed: &Timed<'_, T>,
    warm: Option<Duration>,
    request: impl Fn(usize) -> Request,
    metrics: &mut Metrics,
) -> Result<Option<Call>, Failure> {
    if timed.items == 0 {
        return Ok(None);
    }
    let stage = format!("time {}", timed.function);
    let empty = peer.empty_call()?;
    peer.whole(true)?;
    let per_item = timed.expected.len() / timed.items;
    // The warm-up, which also takes its time, and the repetitions.
    let all = cell.of.evaluation.repeats + 1;
    cell.part(&stage, 0, 1, all);
    let mut calls = Calls { timed, request, place: 0x9E37_79B9_7F4A_7C15, cpu: Duration::ZERO };
    let looked_at = warm.is_none();
    let warm = match warm {
        Some(took) => took,
        None => calls.make(peer, timed.items, per_item, true)?,
    };
    let warm_up = warm.max(Duration::from_nanos(1));
    // The referee looks at a whole output from another processor. Calls then take longer, until caches
    // hold it for the engine again: where they are short, all of a repetition's first third.
    let short = warm_up < SHORT;
    if short {
        let (mut took, mut whole) = (Duration::ZERO, !looked_at);
        while took < WARM {
            took += calls.make(peer, timed.items, per_item, whole)?.max(Duration::from_micros(1));
            whole = false;
        }
    }
    let shrink = (TIMED_AT_MOST.as_secs_f64() / warm_up.as_secs_f64()).min(1.0);
    let items = ((timed.items as f64 * shrink) as usize).clamp(timed.items.min(64), timed.items);
    let (mut rates, mut each, mut cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    for repeat in 1..all {
        if cell.of.evaluation.repeats == 3 && alike(&rates) {
            break;
        }
        cell.part(&stage, repeat, repeat, all);
        calls.cpu = Duration::ZERO;
        let mut took = Duration::ZERO;
        let mut made = 0;
        while made == 0 || (took < TIMED_AT_LEAST && made < MOST_CALLS) {
            let call = calls.make(peer, items, per_item, made == 0 && !short)?;
            each.push(call);
            took += call;
            made += 1;
        }
        cell.usage.add(&stage, took, calls.cpu);
        cpu += calls.cpu;
        let all = took.as_secs_f64() + (made * items) as f64 * timed.beside_s();
        rates.push((made * items * timed.worth) as f64 / all);
    }
    peer.whole(false)?;
    each.sort_unstable();
    let middle = each[each.len() / 2];
    let wall = middle.as_secs_f64() / items as f64;
    let again = Spent { wall, cpu: cpu.as_secs_f64() / (each.len() * items) as f64 };
    if let Some(new) = timed.unseen.beyond(again, timed.worth, timed.bytes) {
        metrics.notice(format!(
            "{} took {:.0} times as long for what was new as for what it had seen, which it answers from memory: its rate \
             is of what was new",
            timed.function,
            new / wall
        ));
        let rate = timed.worth as f64 / (new + timed.beside_s());
        metrics.add_timed(timed.name, vec![rate])?;
        return Ok(None);
    }
    if middle < TELLING * empty {
        let micros = |time: Duration| 1e6 * time.as_secs_f64();
        metrics.notice(format!(
            "a call of {} took {:.0} µs, less than {TELLING} times the {:.0} µs of an empty one: its \
             rate says little",
            timed.function,
            micros(middle),
            micros(empty)
        ));
    }
    metrics.add_timed(timed.name, rates)?;
    Ok(Some(Call { items, took: middle }))
}

/// The part of an output of so many values that a number draws: one of those that follow each other from its start,
/// so that 16 floats are one line of the cache and not two; the last reaches back where it would be shorter.
fn part(values: usize, drawn: usize) -> Range<usize> {
    let len = SPOILT_VALUES.min(values);
    let from = drawn % values.div_ceil(SPOILT_VALUES) * SPOILT_VALUES;
    let from = from.min(values - len);
    from..from + len
}

/// Whether two repetitions say as much as three.
fn alike(rates: &[f64]) -> bool {
    matches!(rates, [a, b] if (a - b).abs() < ALIKE * a.min(*b))
}

/// A call as [`time`] found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Rows of it.
    items: usize,
    /// The median.
    took: Duration,
}

impl Call {
    /// True if it is so fast that caches decide, and it is to be timed as a stream: `bytes` go in and
    /// come out for a row.
    fn is_fast(self, bytes: usize) -> bool {
        (self.items * bytes) as f64 > STREAMED_ABOVE * self.took.as_secs_f64()
    }
}

/// Times a `call` that is fast once more, as a part of a stream: every call has other rows of the base, as
/// `lend` lends them (their first, how many), and neither these nor the room for what it puts out lie in
/// a cache.
pub(super) fn time_streaming<T: Plain + PartialEq + fmt::Debug>(
    cell: &Cell<'_>,
    peer: &mut Peer<'_>,
    timed: &Timed<'_, T>,
    call: Option<Call>,
    request: impl Fn(usize) -> Request,
    mut lend: impl FnMut(&mut Peer<'_>, usize, usize) -> Result<(), Failure>,
    metrics: &mut Metrics,
) -> Result<(), Failure> {
    let bytes = timed.bytes;
    let Some(call) = call.filter(|call| call.is_fast(bytes)) else { return Ok(()) };
    let values = timed.expected.len() / timed.items * call.items;
    let output = values * size_of::<T>();
    let lent = (bytes * call.items).saturating_sub(output);
    let blocks = (cell.data.base.rows / call.items).max(1);
    let mut calls = Calls { timed, request, place: 0x2545_F491_4F6C_DD1D, cpu: Duration::ZERO };
    let (mut rates, mut took) = (Vec::new(), Duration::ZERO);
    peer.whole(true)?;
    while rates.len() < STREAMED_CALLS && (rates.is_empty() || took < TIMED_AT_LEAST) {
        cell.part(&format!("time {}", timed.function), rates.len(), rates.len(), STREAMED_CALLS);
        lend(peer, rates.len() % blocks * call.items, call.items)?;
        let Some(call_took) = calls.make_cold(peer, call.items, values, lent)? else {
            return peer.whole(false);
        };
        let all = call_took.as_secs_f64() + call.items as f64 * timed.beside_s();
        rates.push((call.items * timed.worth) as f64 / all);
        took += call_took;
    }
    peer.whole(false)?;
    metrics.add_timed(&format!("{}_streaming", timed.name), rates)
}

struct Calls<'t, 'a, T, R> {
    timed: &'t Timed<'a, T>,
    request: R,
    /// Where the next part to be spoilt lies.
    place: u64,
    /// What the engine's processors did during the calls. Between them it waits for the next one without
    /// sleeping, which is no thread of the method's.
    cpu: Duration,
}

impl<T: Plain + PartialEq, R: Fn(usize) -> Request> Calls<'_, '_, T, R> {
    fn make(
        &mut self,
        peer: &mut Peer<'_>,
        items: usize,
        per_item: usize,
        whole: bool,
    ) -> Result<Duration, Failure> {
        let expected = &self.timed.expected[..items * per_item];
        let parts = match whole {
            true => std::iter::once(0..expected.len()).collect(),
            false => self.parts(expected.len()),
        };
        self.spoil(peer, expected.len(), &parts, |place| expected.get(place).copied());
        let (request, before) = ((self.request)(items), cpu_time(peer.processes()));
        let took = peer.timed(self.timed.function, &request, size_of_val(expected))?;
        self.cpu += cpu_time(peer.processes()).saturating_sub(before);
        for part in parts {
            self.compare(peer, expected.len(), &part, expected.get(part.clone()))?;
        }
        Ok(took)
    }

    /// Makes the call on what is lent, `lent` bytes, twice, and answers the time of the second, before which
    /// nothing of it lies in a cache; `None` where this machine does not offer that.
    fn make_cold(
        &mut self,
        peer: &mut Peer<'_>,
        items: usize,
        values: usize,
        lent: usize,
    ) -> Result<Option<Duration>, Failure> {
        let (function, request) = (self.timed.function, (self.request)(items));
        let output = values * size_of::<T>();
        peer.timed(function, &request, output)?;
        let parts = self.parts(values);
        let known: Vec<_> = parts.iter().map(|part| peer.put_out::<T>(values, part)).collect();
        let mut first = known.iter().map(|known| known.as_ref().and_then(|v| v.first().copied()));
        self.spoil(peer, values, &parts, |_| first.next().flatten());
        if !peer.evict(lent, output) {
            return Ok(None);
        }
        let took = peer.timed(function, &request, output)?.max(Duration::from_nanos(1));
        for (part, known) in parts.iter().zip(&known) {
            self.compare(peer, values, part, known.as_deref())?;
        }
        Ok(Some(took))
    }

    /// Some parts of an output of so many values. Where a method might guess, it must not: steps of a
    /// full-period generator.
    fn parts(&mut self, values: usize) -> Vec<Range<usize>> {
        let part = |_| {
            self.place = self.place.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            part(values, (self.place >> 33) as usize)
        };
        (0..SPOILT).map(part).collect()
    }

    /// Spoils `parts` of an output of so many values by what the first of them, as `known` tells, is not.
    fn spoil(
        &self,
        peer: &mut Peer<'_>,
        values: usize,
        parts: &[Range<usize>],
        mut known: impl FnMut(usize) -> Option<T>,
    ) {
        for part in parts {
            if let Some(value) = known(part.start) {
                peer.spoil(values, part.clone(), (self.timed.spoilt)(value));
            }
        }
    }

    /// That the part `at` of an output of so many values is `known`.
    fn compare(
        &self,
        peer: &Peer<'_>,
        values: usize,
        at: &Range<usize>,
        known: Option<&[T]>,
    ) -> Result<(), Failure> {
        if known.is_some_and(|known| peer.has_put_out(values, at, known)) {
            return Ok(());
        }
        Err(Failure::invalid(format!(
            "{} put out something else when it was asked again",
            self.timed.function
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_repetitions_are_enough_where_they_are_alike() {
        assert!(alike(&[100.0, 101.9]) && alike(&[101.9, 100.0]));
        assert!(!alike(&[100.0, 102.1]));
        assert!(!alike(&[]) && !alike(&[100.0]) && !alike(&[100.0; 3]));
    }

    #[test]
    fn every_value_lies_in_a_part() {
        for values in [1_usize, 15, 16, 17, 32, 1000] {
            let count = values.div_ceil(SPOILT_VALUES);
            let parts: Vec<_> = (0..count).map(|drawn| part(values, drawn)).collect();
            assert!(parts.iter().all(|part| part.len() == SPOILT_VALUES.min(values)));
            assert!((0..values).all(|value| parts.iter().any(|part| part.contains(&value))));
            assert_eq!(part(values, count), parts[0]);
        }
    }

    #[test]
    fn a_call_is_streamed_above_a_gigabyte_per_second_and_not_at_it() {
        // 400 MB in both directions.
        let call = |millis| Call { items: 1_000_000, took: Duration::from_millis(millis) };
        assert!(call(399).is_fast(400));
        assert!(!call(400).is_fast(400));
        assert!(!call(401).is_fast(400));
        assert!(!Call { items: 0, took: Duration::ZERO }.is_fast(400));
    }
}
