//! The referee's handle of an engine: a method in another process, every promise of the contract
//! checked on the way.
//!
//! What comes back is copied before it is looked at. Where an output is to be found unwritten, it
//! is filled before the call with what no honest output is; that, and all copying and comparing,
//! happens while the clock stands still.

use super::usage::{Engine, Usage};
use crate::record::Outcome;
use crate::worker::exchange::{
    Area, AreaError, Frames, Opened, Plain, ROOM, Reply, Request, WireError, slots,
};
use crate::worker::fault::HostFault;
use crate::worker::memory::machine_bytes;
use crate::worker::protocol::Role;
use crate::worker::reporter::{Failure, Reporter};
use ndarray::{ArrayView2, ArrayViewMut2};
use rayon::prelude::*;
use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use vq_kernels::Path;

/// A difference between the claimed and the true ratio that is more than rounding.
const RATIO_TOLERANCE: f64 = 1e-6;
/// Characters of an engine's text that are kept.
const MOST_TEXT: usize = 4096;
/// Bits of a number that no method returns: rows and estimates hold it until they are written.
const UNWRITTEN: u32 = 0x7FA5_C0DE;

/// Empty calls that are timed.
const EMPTY_CALLS: usize = 33;

/// More code bytes than any method could mean: 16 times the raw vector and a page.
fn absurd_code_bytes(dim: usize) -> usize {
    64 * dim + 4096
}

/// What a method says once it is fitted or loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fitted {
    pub(super) code_bytes: usize,
    pub(super) model_bytes: Option<u64>,
    /// The method's claim, where it makes one; it is true.
    pub(super) ratio: Option<f64>,
}

/// What an output holds before a call that writes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Before {
    /// What an earlier call left.
    Anything,
    /// This byte everywhere.
    Byte(u8),
    /// A number that no method returns.
    Unwritten,
}

/// An engine.
pub(super) struct Peer<'a> {
    role: Role,
    processes: Engine,
    frames: Frames,
    lent: Area,
    filled: Area,
    dim: usize,
    /// 0 until it is fitted or loaded.
    code_bytes: usize,
    empty_call: Option<Duration>,
    /// Seconds of CPU time and of wall time in calls that are not timed together with others.
    usage: &'a Usage,
    reporter: &'a Reporter,
}

impl<'a> Peer<'a> {
    pub(super) fn new(
        role: Role,
        pid: u32,
        (dim, threads): (usize, usize),
        [socket, lent, filled]: [OwnedFd; 3],
        usage: &'a Usage,
        reporter: &'a Reporter,
    ) -> Result<Self, HostFault> {
        let map = || {
            let frames = Frames::beside(socket, &lent, &filled, threads)?;
            let areas = [Area::map(&lent, true)?, Area::map(&filled, true)?];
            // Mapped before: nobody maps a sealed one for writing.
            Area::seal(&lent, true)?;
            Area::seal(&filled, false)?;
            Ok((frames, areas))
        };
        let unable = |e: AreaError| HostFault::Begin { reason: e.to_string() };
        let (frames, [lent, filled]) = map().map_err(unable)?;
        Ok(Peer {
            role,
            processes: Engine { pid, helper: None },
            frames,
            lent,
            filled,
            dim,
            code_bytes: 0,
            empty_call: None,
            usage,
            reporter,
        })
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn processes(&self) -> Engine {
        self.processes
    }

    /// The most rows that one call encodes or decodes.
    pub(super) fn most_rows(&self) -> usize {
        (ROOM / (4 * self.dim).max(self.code_bytes)).max(1)
    }

    /// One request and its answer, and how long that took.
    fn ask(&mut self, request: &Request) -> Result<(Reply, Duration), Failure> {
        let answer = self.frames.ask(request);
        let error = |text: String| text.chars().take(MOST_TEXT).collect::<String>();
        match answer {
            Ok((Reply::Failed { outcome, error: text }, _)) => {
                let outcome = match outcome {
                    // Cancelled too is only said: nobody asks a call to stop.
                    Outcome::Panicked | Outcome::Invalid | Outcome::OutOfMemory => outcome,
                    _ => Outcome::Failed,
                };
                Err(Failure::Method { outcome, error: error(text) })
            }
            Ok((Reply::Trespassed(text), _)) => Err(Failure::invalid(error(text))),
            Ok((Reply::Broken(text), _)) => {
                Err(Failure::failed(format!("its process could not go on: {}", error(text))))
            }
            Ok(answer) => Ok(answer),
            Err(WireError::Gone) => Err(Failure::Ended(self.role)),
            Err(WireError::Garbled(what)) => {
                Err(Failure::invalid(format!("its process sent {what}")))
            }
        }
    }

    /// The same for a call whose outputs of `bytes` are put into `filled`.
    fn call(
        &mut self,
        function: &str,
        request: &Request,
        bytes: &[usize],
        before: Before,
    ) -> Result<(Vec<Range<usize>>, Duration), Failure> {
        let slots = slots(bytes).ok_or_else(|| no_room(function))?;
        match before {
            Before::Anything => {}
            Before::Byte(byte) => slots.iter().for_each(|slot| {
                let slot = self.filled.slice::<u8>(slot.clone());
                slot.par_chunks_mut(1 << 18).for_each(|piece| piece.fill(byte));
            }),
            Before::Unwritten => slots.iter().for_each(|slot| {
                let slot = self.filled.slice::<f32>(slot.clone());
                let unwritten = f32::from_bits(UNWRITTEN);
                slot.par_chunks_mut(1 << 16).for_each(|piece| piece.fill(unwritten));
            }),
        }
        self.filled.set_canaries(&slots);
        match self.ask(request)? {
            (Reply::Done, took) if self.filled.intact(&slots) => Ok((slots, took)),
            (Reply::Done, _) => {
                Err(Failure::invalid(format!("{function} wrote outside its output")))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Runs `body` as a part of `stage`, with the CPU time the engine takes meanwhile.
    pub(super) fn during<T>(&mut self, stage: &str, body: impl FnOnce(&mut Self) -> T) -> T {
        let (usage, processes) = (self.usage, self.processes);
        usage.during(stage, processes, || body(self))
    }

    /// The time that nothing takes.
    fn nothing(&mut self) -> Result<Duration, Failure> {
        Ok(self.ask(&Request::Nothing)?.1)
    }

    /// Has the library opened and the method made.
    pub(super) fn open(&mut self) -> Result<Opened, Failure> {
        self.reporter.part("load", 0.0, 1.0);
        match self.ask(&Request::Open)?.0 {
            Reply::Opened(mut opened) => {
                // Taken: the method is the same wherever it runs.
                self.processes.helper = opened.helper.take();
                Ok(opened)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Has it learn from all `of` training rows, of which `fill` fills a block (rows, d) from a first one
    /// on; answers the seconds that took.
    pub(super) fn fit(
        &mut self,
        of: usize,
        before: usize,
        mut fill: impl FnMut(usize, ArrayViewMut2<'_, f32>) -> Result<(), Failure>,
    ) -> Result<(Fitted, f64), Failure> {
        self.reporter.part("fit", 0.0, 1.0);
        let step = (ROOM / (4 * self.dim)).max(1);
        for first in (0..of).step_by(step) {
            let rows = step.min(of - first);
            fill(first, self.lend_rows(rows)?)?;
            self.ask(&Request::Train { first, rows, of })?;
        }
        let asked = self.during("fit", |peer| peer.ask(&Request::Fit));
        let (reply, took) = asked?;
        Ok((self.fitted_as(reply, before)?, took.as_secs_f64()))
    }

    /// The same with `rows` rows that are nobody's, for a method that learns nothing.
    pub(super) fn fit_made_up(&mut self, rows: usize, before: usize) -> Result<Fitted, Failure> {
        self.reporter.part("fit", 0.0, 1.0);
        let rows = rows.min(ROOM / (4 * self.dim)).max(1);
        let mut lent = self.lend_rows(rows)?;
        // Values between -1 and 1 without an order, always the same.
        let value = |i: usize| (i as u32).wrapping_mul(0x9E37_79B9) as i32 as f32 / 2f32.powi(31);
        lent.iter_mut().enumerate().for_each(|(i, v)| *v = value(i + 1));
        self.ask(&Request::Train { first: 0, rows, of: rows })?;
        let (reply, _) = self.ask(&Request::Fit)?;
        self.fitted_as(reply, before)
    }

    /// What fit answered, with codes of as many bytes as `before` it, where that was known (not 0).
    fn fitted_as(&mut self, reply: Reply, before: usize) -> Result<Fitted, Failure> {
        let fitted = self.fitted(reply)?;
        if before != 0 && before != fitted.code_bytes {
            return Err(Failure::invalid(format!(
                "code_bytes() was {before} before fit and {} after it",
                fitted.code_bytes
            )));
        }
        Ok(fitted)
    }

    fn fitted(&mut self, reply: Reply) -> Result<Fitted, Failure> {
        let Reply::Fitted { code_bytes, model_bytes, ratio } = reply else {
            return Err(unexpected(&reply));
        };
        if code_bytes == 0 || code_bytes > absurd_code_bytes(self.dim) {
            return Err(Failure::invalid(format!(
                "code_bytes() is {code_bytes} for vectors of {} bytes",
                4 * self.dim
            )));
        }
        self.code_bytes = code_bytes;
        let ratio = ratio.map(f64::from_bits);
        let measured = 4.0 * self.dim as f64 / code_bytes as f64;
        match ratio {
            Some(claimed)
                if claimed.is_nan() || (claimed / measured - 1.0).abs() > RATIO_TOLERANCE =>
            {
                Err(Failure::invalid(format!(
                    "ratio() claims {claimed:.3}, but {} bytes in {code_bytes} make it \
                     {measured:.3}",
                    4 * self.dim
                )))
            }
            _ => Ok(Fitted { code_bytes, model_bytes, ratio }),
        }
    }

    /// Has the model saved and puts it into `file`; `None` where the method does not save. One of
    /// more than `fair` bytes must not need more room than there is.
    pub(super) fn save(&mut self, file: &File, fair: u64) -> Result<Option<Model>, Failure> {
        self.reporter.part("save", 0.0, 1.0);
        let bytes = match self.ask(&Request::Save)?.0 {
            Reply::Saved(None) => return Ok(None),
            Reply::Saved(Some(bytes)) => bytes,
            other => return Err(unexpected(&other)),
        };
        // It is in that process's memory, or it is not: room on a disk is made for no other claim.
        if machine_bytes().is_some_and(|memory| bytes as u64 > memory) {
            return Err(Failure::invalid(format!(
                "save claims a model of {bytes} bytes, more than there is memory"
            )));
        }
        let mut digest = blake3::Hasher::new();
        let what = || format!("save makes a model of {}", bytesize::ByteSize(bytes as u64));
        super::reserve(file, bytes as u64, fair, what)?;
        let mut part = Vec::new();
        for from in (0..bytes).step_by(ROOM) {
            let some = ROOM.min(bytes - from);
            let request = Request::Model { from, bytes: some };
            let (slots, _) = self.call("save", &request, &[some], Before::Anything)?;
            part.resize(some, 0);
            self.filled.copy(slots[0].clone(), &mut part, |_, _| ());
            digest.update(&part);
            file.write_all_at(&part, from as u64).map_err(super::unkept)?;
        }
        Ok(Some(Model { bytes, digest: digest.finalize() }))
    }

    /// Has the `model` in `file` loaded.
    pub(super) fn load(&mut self, file: &File, model: &Model) -> Result<Fitted, Failure> {
        self.reporter.part("load the model", 0.0, 1.0);
        let of = model.bytes;
        let mut first = 0;
        loop {
            let bytes = ROOM.min(of - first);
            file.read_exact_at(self.lent.values(bytes), first as u64).map_err(super::unkept)?;
            let (reply, _) = self.ask(&Request::Load { first, bytes, of })?;
            first += bytes;
            if first >= of {
                return self.fitted(reply);
            }
        }
    }

    /// Room for `rows` rows (rows, d) to lend.
    pub(super) fn lend_rows(&mut self, rows: usize) -> Result<ArrayViewMut2<'_, f32>, Failure> {
        let dim = self.dim;
        check_room("rows", 4 * rows * dim)?;
        ArrayViewMut2::from_shape((rows, dim), self.lent.values(rows * dim))
            .map_err(Failure::failed)
    }

    /// Room for `bytes` bytes of codes to lend.
    pub(super) fn lend_codes(&mut self, bytes: usize) -> Result<&mut [u8], Failure> {
        check_room("codes", bytes)?;
        Ok(self.lent.values(bytes))
    }

    /// Encodes the `rows` rows that were lent into `codes`.
    pub(super) fn compress(
        &mut self,
        rows: usize,
        codes: &mut [u8],
        before: Before,
    ) -> Result<Duration, Failure> {
        let request = Request::Compress { rows };
        let (slots, took) = self.call("compress", &request, &[codes.len()], before)?;
        self.filled.copy(slots[0].clone(), codes, |_, _| ());
        Ok(took)
    }

    /// Decodes the `rows` codes that were lent, those of the rows from `first` on, into `x`.
    pub(super) fn decompress(
        &mut self,
        first: usize,
        rows: usize,
        x: &mut [f32],
        before: Before,
    ) -> Result<Duration, Failure> {
        let request = Request::Decompress { rows };
        let (slots, took) = self.call("decompress", &request, &[size_of_val(x)], before)?;
        if let Some(at) = self.copy_finite(&slots[0], x, |value| value) {
            return Err(Failure::invalid(format!(
                "decompress returned {} in row {}",
                shown(x[at]),
                first + at / self.dim
            )));
        }
        Ok(took)
    }

    /// Copies floats out, each changed by `change`; answers where the first is that is not finite
    /// then.
    fn copy_finite(
        &self,
        slot: &Range<usize>,
        out: &mut [f32],
        change: impl Fn(f32) -> f32 + Sync,
    ) -> Option<usize> {
        let bad = AtomicUsize::new(usize::MAX);
        self.filled.copy(slot.clone(), out, |first, piece| {
            if let Some(at) = change_finite(piece, &change) {
                bad.fetch_min(first + at, Ordering::Relaxed);
            }
        });
        Some(bad.into_inner()).filter(|at| *at < usize::MAX)
    }

    /// Has the `codes` codes that were lent packed for scoring.
    pub(super) fn pack(&mut self, codes: usize, fill: u8) -> Result<(), Failure> {
        self.pack_by(&Request::Pack { codes, fill })
    }

    /// Has the codes that were lent packed as `request` says.
    pub(super) fn pack_by(&mut self, request: &Request) -> Result<(), Failure> {
        self.during("pack", |peer| peer.call("pack", request, &[], Before::Anything)).map(drop)
    }

    /// Estimates between the `queries` that are lent and the `n` packed codes, which are those from
    /// `first` on, larger is nearer if `negated`; claimed half-widths into `bounds` (queries · n).
    /// The estimates of a query are handed to `look` in pieces, one after the other: its state, the
    /// position of the first of them, the piece.
    pub(super) fn score_into<S: Send>(
        &mut self,
        queries: Range<usize>,
        (first, n): (usize, usize),
        negated: bool,
        bounds: Option<&mut [f32]>,
        before: Before,
        (states, look): (&mut [S], impl Fn(&mut S, usize, &[f32]) + Sync),
    ) -> Result<Duration, Failure> {
        let request = Request::Score { queries: queries.len(), bounds: bounds.is_some() };
        let bytes = 4 * queries.len() * n;
        let all = [bytes, bytes];
        let outputs = if bounds.is_some() { &all[..] } else { &all[..1] };
        let (slots, took) = self.call("score", &request, outputs, before)?;
        let place =
            |at: usize| format!("for query {} and code {}", queries.start + at / n, first + at % n);
        let bad = Mutex::new(None::<(usize, f32)>);
        self.filled.copy_rows(slots[slots.len() - 1].clone(), states, |state, from, piece| {
            let wrong = match negated {
                true => change_finite(piece, |estimate: f32| -estimate),
                false => change_finite(piece, |estimate| estimate),
            };
            if let Some(at) = wrong {
                let mut bad = bad.lock().unwrap_or_else(PoisonError::into_inner);
                if bad.is_none_or(|(first, _)| from + at < first) {
                    *bad = Some((from + at, piece[at]));
                }
            }
            look(state, from % n, piece);
        });
        if let Some((at, value)) = bad.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let returned = shown(if negated { -value } else { value });
            return Err(Failure::invalid(format!("score returned {returned} {}", place(at))));
        }
        if let Some(bounds) = bounds {
            // One that is negative is no bound either.
            let bad = self.copy_finite(&slots[0], bounds, |bound| match bound < 0.0 {
                true => f32::from_bits(f32::NAN.to_bits() | 1),
                false => bound,
            });
            if let Some(at) = bad {
                let returned = match bounds[at].to_bits() {
                    bits if bits == f32::NAN.to_bits() | 1 => "a negative bound".to_owned(),
                    _ => format!("the bound {}", shown(bounds[at])),
                };
                return Err(Failure::invalid(format!("score returned {returned} {}", place(at))));
            }
        }
        Ok(took)
    }

    /// Makes the call of `request`, a call of `function`, and copies its two outputs out.
    pub(super) fn two_outputs<A: Plain, B: Plain>(
        &mut self,
        function: &str,
        request: &Request,
        (first, second): (&mut [A], &mut [B]),
        before: Before,
    ) -> Result<Duration, Failure> {
        let bytes = [size_of_val(first), size_of_val(second)];
        let (slots, took) = self.call(function, request, &bytes, before)?;
        self.filled.copy(slots[0].clone(), first, |_, _| ());
        self.filled.copy(slots[1].clone(), second, |_, _| ());
        Ok(took)
    }

    /// The same into `scores` (queries · n), without bounds.
    pub(super) fn score(
        &mut self,
        queries: Range<usize>,
        codes: (usize, usize),
        negated: bool,
        scores: &mut [f32],
        before: Before,
    ) -> Result<Duration, Failure> {
        let mut rows: Vec<_> = scores.chunks_exact_mut(codes.1).collect();
        let keep = |row: &mut &mut [f32], from: usize, piece: &[f32]| {
            row[from..from + piece.len()].copy_from_slice(piece);
        };
        self.score_into(queries, codes, negated, None, before, (&mut rows, keep))
    }

    /// The values in `at` of the output of `len` values that the last call put out.
    pub(super) fn put_out<T: Plain>(&self, len: usize, at: &Range<usize>) -> Option<Vec<T>> {
        let slot = slots(&[len.checked_mul(size_of::<T>())?])?.pop()?;
        let mut copy = vec![T::default(); at.len()];
        let bytes = at.start * size_of::<T>()..at.end * size_of::<T>();
        self.filled.copy(slot.start + bytes.start..slot.start + bytes.end, &mut copy, |_, _| ());
        Some(copy)
    }

    /// Whether the values in `at` of the output of `len` values that the last call put out are `known`.
    pub(super) fn has_put_out<T: Plain + PartialEq>(
        &self,
        len: usize,
        at: &Range<usize>,
        known: &[T],
    ) -> bool {
        let slot = slots(&[len.saturating_mul(size_of::<T>())]).and_then(|mut slots| slots.pop());
        let Some(start) = slot.map(|slot| slot.start).filter(|_| known.len() == at.len()) else {
            return false;
        };
        let bytes = start + at.start * size_of::<T>()..start + at.end * size_of::<T>();
        self.filled.is(bytes, known)
    }

    /// Spoils the values in `at` of an output of `len` values, so that it shows whether the next call writes them.
    pub(super) fn spoil<T: Plain>(&mut self, len: usize, at: Range<usize>, with: T) {
        let slot = slots(&[len * size_of::<T>()]).and_then(|mut slots| slots.pop());
        if let Some(slot) = slot {
            self.filled.slice::<T>(slot)[at].fill(with);
        }
    }

    /// Makes the call of `request`, whose output has `bytes`, for its time alone.
    pub(super) fn timed(
        &mut self,
        function: &str,
        request: &Request,
        bytes: usize,
    ) -> Result<Duration, Failure> {
        Ok(self.call(function, request, &[bytes], Before::Anything)?.1)
    }

    /// Drops what is lent, its first `lent` bytes, and room for an output of `output` bytes from the
    /// processor's caches; false where this machine does not offer that.
    pub(super) fn evict(&self, lent: usize, output: usize) -> bool {
        let slot = slots(&[output]).and_then(|mut slots| slots.pop());
        self.lent.evict_values(lent) && slot.is_some_and(|slot| self.filled.evict(&slot))
    }

    /// How long calls of its process take that do nothing, which is measured once.
    pub(super) fn empty_call(&mut self) -> Result<Duration, Failure> {
        if let Some(known) = self.empty_call {
            return Ok(known);
        }
        self.whole(true)?;
        let mut times = (0..EMPTY_CALLS).map(|_| self.nothing()).collect::<Result<Vec<_>, _>>()?;
        self.whole(false)?;
        times.sort_unstable();
        Ok(*self.empty_call.insert(times[EMPTY_CALLS / 2]))
    }

    /// Lends one thread to calls from now on, or again as many as there are.
    pub(super) fn alone(&mut self, alone: bool) -> Result<(), Failure> {
        match self.ask(&Request::Alone(alone))?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Calls are timed from now on, or no longer: an engine waits for them without sleeping, and calls a method in
    /// Python with all rows of a call.
    pub(super) fn whole(&mut self, whole: bool) -> Result<(), Failure> {
        match self.ask(&Request::Whole(whole))?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the instance given up.
    pub(super) fn destroy(&mut self) -> Result<(), Failure> {
        self.reporter.part("destroy", 0.0, 1.0);
        match self.ask(&Request::Destroy)?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Encodes and decodes `x` (n, d) elsewhere than in the base: the codes alone.
    pub(super) fn encode_all(
        &mut self,
        x: ArrayView2<'_, f32>,
        before: Before,
    ) -> Result<Vec<u8>, Failure> {
        let width = self.code_bytes;
        let mut codes = vec![0; x.nrows() * width];
        let step = self.most_rows();
        for (x, codes) in
            x.axis_chunks_iter(ndarray::Axis(0), step).zip(codes.chunks_mut(step * width))
        {
            self.lend_rows(x.nrows())?.assign(&x);
            self.during("compress", |peer| peer.compress(x.nrows(), codes, before))?;
        }
        Ok(codes)
    }

    /// Decodes `codes`, any number, into rows (n, d); `first` is the number of the first in errors.
    pub(super) fn decode_all(
        &mut self,
        codes: &[u8],
        first: usize,
        x: &mut [f32],
    ) -> Result<(), Failure> {
        let (width, dim) = (self.code_bytes, self.dim);
        let step = self.most_rows();
        for (i, (codes, x)) in codes.chunks(step * width).zip(x.chunks_mut(step * dim)).enumerate()
        {
            self.lend_codes(codes.len())?.copy_from_slice(codes);
            self.during("decompress", |peer| {
                peer.decompress(first + i * step, codes.len() / width, x, Before::Unwritten)
            })?;
        }
        Ok(())
    }
}

/// A model that was saved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    pub(super) bytes: usize,
    digest: blake3::Hash,
}

/// Changes each of `values`; answers where the first is that is not finite then.
fn change_finite(values: &mut [f32], change: impl Fn(f32) -> f32) -> Option<usize> {
    let largest = Path::fastest().run(
        #[inline(always)]
        || {
            values.iter_mut().fold(0, |largest: u32, value| {
                *value = change(*value);
                largest.max(value.abs().to_bits())
            })
        },
    );
    // Numbers without a sign are ordered as their bits are, and those that are not finite are above.
    if largest < f32::INFINITY.to_bits() {
        return None;
    }
    values.iter().position(|value| !value.is_finite())
}

/// A value for an error: what is not a number that a method returned is nothing at all.
pub(super) fn shown(value: f32) -> String {
    if value.to_bits() & 0x7FFF_FFFF == UNWRITTEN {
        "nothing".to_owned()
    } else {
        value.to_string()
    }
}

fn no_room(function: &str) -> Failure {
    Failure::failed(format!("{function}: more output than {ROOM} bytes"))
}

fn check_room(what: &str, bytes: usize) -> Result<(), Failure> {
    if bytes > ROOM {
        return Err(Failure::failed(format!("{what} of {bytes} bytes in one call")));
    }
    Ok(())
}

fn unexpected(reply: &Reply) -> Failure {
    let what = match reply {
        Reply::Done => "no answer but that it is done",
        Reply::Opened(_) | Reply::Fitted { .. } | Reply::Saved(_) => {
            "the answer to another request"
        }
        Reply::Failed { .. } | Reply::Broken(_) | Reply::Trespassed(_) => "a failure",
    };
    Failure::invalid(format!("its process sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_forged_size_of_a_model_is_the_methods_fault_and_no_full_disk() {
        let (socket, engine) = UnixStream::pair().unwrap();
        let [lent, filled] = ["lent", "filled"].map(|name| Area::file(name).unwrap());
        let mut engine = Frames::new(engine.into(), &lent, &filled).unwrap();
        let forger = std::thread::spawn(move || {
            engine.request().unwrap();
            engine.reply(&Reply::Saved(Some(1 << 60))).unwrap();
        });
        let usage = Usage::default();
        let reporter = Reporter::new(tempfile::tempfile().unwrap().into());
        let lent = [socket.into(), lent, filled];
        let peer = Peer::new(Role::Encoder, std::process::id(), (4, 1), lent, &usage, &reporter);
        let saved = peer.unwrap().save(&tempfile::tempfile().unwrap(), 0);
        forger.join().unwrap();
        match saved {
            Err(Failure::Method { outcome, error }) => {
                assert_eq!(outcome, Outcome::Invalid);
                assert!(error.contains("save claims a model"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}
