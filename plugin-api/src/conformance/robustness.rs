//! Rules on misuse, strange data, cancellation, several threads and damaged bytes.

use super::cell::{Cell, Random, SEED, differing_row, gaussian, not_finite};
use super::lab::{Fill, Lab};
use super::{Log, Subject};
use crate::handle::{CallError, Caller, Instance};
use crate::{ErrorKind, Space};
use ndarray::{Array2, ArrayView2, s};
use std::ops::Range;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Created and destroyed in each window of the leak rule.
const LEAK_ROUNDS: usize = 500;
/// Windows after the first, which warms the allocator.
const LEAK_WINDOWS: usize = 4;
/// The leak rule gives up on slower constructors, on a busy machine too.
const LEAK_TIME: Duration = Duration::from_secs(5);
/// Resident pages that one window may gain: 4 MiB, 8 kB an instance.
const LEAK_PAGES: u64 = 1024;

/// Rounds of the concurrency rule in which the calls of two threads overlap. Not one: by the clock a call may
/// have begun while its thread still waits for a processor.
const ROUNDS: usize = 10;
/// It gives up after as many: short calls may never meet, and a busy machine keeps two threads apart.
const MOST_ROUNDS: usize = 50;

/// Pages of this process in memory, where the system tells.
fn resident_pages() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_whitespace().nth(1)?.parse().ok()
}

pub(super) fn leak(subject: &Subject<'_>, log: &mut Log<'_>) {
    let start = Instant::now();
    let mut resident = Vec::new();
    for _ in 0..=LEAK_WINDOWS {
        for _ in 0..LEAK_ROUNDS {
            if log.must("", subject.method.create(&subject.config, subject.space)).is_none() {
                return;
            }
        }
        let Some(pages) = resident_pages() else {
            return log.skip("this system does not tell a process's size");
        };
        resident.push(pages);
        if start.elapsed() > LEAK_TIME && resident.len() <= LEAK_WINDOWS {
            return log.skip("creating takes too long to do it often");
        }
    }
    let grown: Vec<u64> = resident.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let least = grown.iter().min().copied().unwrap_or(0);
    let most = grown.iter().max().copied().unwrap_or(0);
    // Other threads of the process allocate as well; a leak is what grows evenly.
    if least >= LEAK_PAGES && most <= 2 * least {
        let input = format!("{LEAK_ROUNDS} rounds of create and destroy, {LEAK_WINDOWS} times");
        let found = format!("the process grows by {least} to {most} pages each time");
        log.error("destroy", &input, found);
    }
}

/// A refusal was due: anything else but success is one, a panic has its own finding.
fn must_fail<T>(
    result: Result<T, CallError>,
    function: &'static str,
    input: &str,
    log: &mut Log<'_>,
) {
    if log.judge(input, result).is_ok() {
        log.error(function, input, "it succeeds");
    }
}

pub(super) fn order(cell: &Cell<'_>, log: &mut Log<'_>) {
    if !cell.method.about().needs_training {
        return log.skip("the method needs no training");
    }
    let Some(early) = cell.fresh(log) else { return };
    let input = "after create, before fit or load";
    let codes = cell.lab.compress(&early, cell.x.view(), cell.code_bytes);
    must_fail(codes, "compress", input, log);
    must_fail(cell.lab.decompress(&early, cell.codes.view()), "decompress", input, log);
}

pub(super) fn wrong_dimension(cell: &Cell<'_>, log: &mut Log<'_>) {
    let wide = gaussian(50, Space { dim: cell.space.dim + 1, ..cell.space }, 4);
    let input = format!("50 rows of dimension {}", wide.ncols());
    let Some(mut instance) = cell.fresh(log) else { return };
    let caller = cell.lab.caller(2, SEED);
    must_fail(Lab::fit(&mut instance, wide.view(), &caller), "fit", &input, log);
    must_fail(cell.compress(wide.view()), "compress", &input, log);
}

pub(super) fn progress(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(mut instance) = cell.fresh(log) else { return };
    let heard = Mutex::new(Vec::new());
    let listen = |fraction: f32, _: &str| {
        heard.lock().unwrap_or_else(PoisonError::into_inner).push(fraction);
        true
    };
    // One thread, so that calls arrive in the order in which they were made.
    let caller = Caller { progress: &listen, ..cell.lab.caller(1, SEED) };
    let start = Instant::now();
    if log.must("", Lab::fit(&mut instance, cell.train.view(), &caller)).is_none() {
        return;
    }
    let took_s = start.elapsed().as_secs_f64();
    let heard = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
    if heard.is_empty() && took_s > 2.0 {
        log.warning("fit", "", format!("runs {took_s:.1} s without calling progress"));
    }
    if let Some(outside) = heard.iter().find(|f| !(0.0..=1.0).contains(*f)) {
        log.error("fit", "", format!("progress({outside})"));
    } else if let Some(pair) = heard.windows(2).find(|pair| pair[1] < pair[0]) {
        log.error("fit", "", format!("progress({}) after progress({})", pair[1], pair[0]));
    }
}

pub(super) fn cancel(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(mut instance) = cell.fresh(log) else { return };
    let refused: Mutex<Option<(Instant, f32)>> = Mutex::new(None);
    let refuse = |fraction: f32, _: &str| {
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get_or_insert((Instant::now(), fraction));
        false
    };
    let caller = Caller { progress: &refuse, ..cell.lab.caller(2, SEED) };
    let input = "progress answers stop from its first call on";
    let result = log.judge(input, Lab::fit(&mut instance, cell.train.view(), &caller));
    let Some((since, fraction)) = *refused.lock().unwrap_or_else(PoisonError::into_inner) else {
        return log.skip("fit never called progress");
    };
    let took_s = since.elapsed().as_secs_f64();
    match result {
        Err(error) if error.kind() == Some(ErrorKind::Cancelled) => {
            if took_s > 1.0 {
                log.error("fit", input, format!("it stops {took_s:.1} s later"));
            }
        }
        // Nothing was left to stop.
        Ok(()) if fraction >= 1.0 => {}
        Ok(()) => log.error("fit", input, "it goes on and succeeds"),
        Err(error) => {
            if !matches!(error.kind(), None | Some(ErrorKind::Panicked)) {
                log.error("fit", input, format!("it returns another error: {error}"));
            }
        }
    }
}

pub(super) fn isolation(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(mut other) = cell.fresh(log) else { return };
    let rows = gaussian(cell.train.nrows(), cell.space, 5).mapv(|v| 3.0 * v + 1.0);
    let caller = cell.lab.caller(2, SEED + 1);
    if log.must("other rows", Lab::fit(&mut other, rows.view(), &caller)).is_none() {
        return;
    }
    let input = "after another instance was fitted on other rows with another seed";
    if let Some(codes) = log.must(input, cell.compress(cell.x.view()))
        && let Some(row) = differing_row(cell.codes.view(), codes.view(), u8::eq)
    {
        log.error("compress", input, format!("row {row} of the first has another code"));
    }
    drop(other);
    let input = "after another instance was destroyed";
    if let Some(decoded) = log.must(input, cell.decompress(cell.codes.view()))
        && let Some(row) = differing_row(cell.decoded.view(), decoded.view(), f32::eq)
    {
        log.error("decompress", input, format!("row {row} of the first is decoded otherwise"));
    }
}

pub(super) fn concurrency(cell: &Cell<'_>, log: &mut Log<'_>) {
    if !cell.method.about().thread_safe {
        return log.skip("the method does not claim VQ_THREAD_SAFE");
    }
    let input = "two threads on one instance";
    let (dim, code_bytes, caller) = (cell.space.dim, cell.code_bytes, cell.lab.caller(2, SEED));
    let begin = Barrier::new(2);
    let round = || {
        let mut calls = Vec::new();
        // What is lent is made before: only the calls themselves begin together, and are timed.
        let mut met = |call: &mut dyn FnMut() -> Result<(), CallError>| {
            begin.wait();
            let start = Instant::now();
            let done = call();
            calls.push(start..Instant::now());
            done
        };
        let codes = Lab::encoded(Fill::First, cell.x.view(), code_bytes, |x, room| {
            met(&mut || cell.instance.compress(x, code_bytes, &caller, room))
        });
        let decoded = Lab::decoded(Fill::First, cell.codes.view(), dim, |codes, room| {
            met(&mut || cell.instance.decompress(codes, &caller, room))
        });
        (calls, codes, decoded)
    };
    let mut together = 0;
    for _ in 0..MOST_ROUNDS {
        let both = std::thread::scope(|scope| {
            let other = scope.spawn(round);
            [round(), other.join().expect("the checking thread does not panic")]
        });
        let overlap =
            |(a, b): (&Range<Instant>, &Range<Instant>)| a.start < b.end && b.start < a.end;
        together += usize::from(both[0].0.iter().zip(&both[1].0).all(overlap));
        for (_, codes, decoded) in both {
            let Some(codes) = log.must(input, codes) else { return };
            if let Some(row) = differing_row(cell.codes.view(), codes.view(), u8::eq) {
                return log.error("compress", input, format!("row {row} has another code"));
            }
            let Some(decoded) = log.must(input, decoded) else { return };
            if let Some(row) = differing_row(cell.decoded.view(), decoded.view(), f32::eq) {
                return log.error("decompress", input, format!("row {row} is decoded otherwise"));
            }
        }
        if together == ROUNDS {
            return;
        }
    }
}

/// Fits a new instance on `train`. Any error but a panic is the method's right.
fn fitted(
    cell: &Cell<'_>,
    train: ArrayView2<'_, f32>,
    input: &str,
    log: &mut Log<'_>,
) -> Result<Instance, CallError> {
    let create = cell.method.create(&cell.config, cell.space);
    let mut instance = log.judge(input, create)?;
    log.judge(input, Lab::fit(&mut instance, train, &cell.lab.caller(2, SEED)))?;
    Ok(instance)
}

/// Encodes and decodes `x`. Any error but a panic is the method's right.
fn round_trip(
    cell: &Cell<'_>,
    instance: &Instance,
    x: ArrayView2<'_, f32>,
    input: &str,
    log: &mut Log<'_>,
) -> Result<Array2<f32>, CallError> {
    let codes = log.judge(input, cell.lab.compress(instance, x, cell.code_bytes))?;
    log.judge(input, cell.lab.decompress(instance, codes.view()))
}

/// Fits on `x`, encodes and decodes it; a refusal is noted.
fn fitted_round_trip(
    cell: &Cell<'_>,
    x: ArrayView2<'_, f32>,
    input: &str,
    log: &mut Log<'_>,
) -> Option<Array2<f32>> {
    let decoded =
        fitted(cell, x, input, log).and_then(|instance| round_trip(cell, &instance, x, input, log));
    decoded.map_err(|error| log.skip(format!("{input}: {error}"))).ok()
}

pub(super) fn small_training(cell: &Cell<'_>, log: &mut Log<'_>) {
    // No rows may be refused, and there is nothing to encode.
    let _ = fitted(cell, cell.train.slice(s![..0, ..]), "fitted: 0 rows", log);
    for rows in 1..3 {
        let input = format!("fitted and encoded: {rows} rows");
        let x = cell.train.slice(s![..rows, ..]);
        if let Some(decoded) = fitted_round_trip(cell, x, &input, log)
            && let Some(row) = not_finite(&decoded)
        {
            log.error("decompress", &input, format!("row {row} is not finite"));
        }
    }
}

/// Finite rows that break divisions, logarithms and seeding.
fn degenerate(cell: &Cell<'_>) -> Vec<(&'static str, Array2<f32>)> {
    let x = &cell.train;
    let shape = x.raw_dim();
    let mut constant = x.clone();
    constant.column_mut(0).fill(1.5);
    let mut outlier = x.clone();
    outlier.row_mut(0).fill(1e4);
    vec![
        ("all rows zero", Array2::zeros(shape)),
        ("all rows equal", Array2::from_shape_fn(shape, |(_, j)| x[[0, j]])),
        ("three rows over and over", Array2::from_shape_fn(shape, |(i, j)| x[[i % 3, j]])),
        ("a constant dimension", constant),
        ("one row far away", outlier),
        ("denormals", Array2::from_shape_fn(shape, |at| x[at] * 1e-39)),
    ]
}

pub(super) fn degenerate_data(cell: &Cell<'_>, log: &mut Log<'_>) {
    for (what, x) in degenerate(cell) {
        let input = format!("encoded: {what}, fitted on gaussian rows");
        // These rows are finite and of the right dimension: encoding them must work.
        if let Some(codes) = log.must(&input, cell.compress(x.view()))
            && let Some(decoded) = log.must(&input, cell.decompress(codes.view()))
            && let Some(row) = not_finite(&decoded)
        {
            log.error("decompress", &input, format!("row {row} is not finite"));
        }
        let input = format!("fitted and encoded: {what}");
        if let Some(decoded) = fitted_round_trip(cell, x.view(), &input, log)
            && let Some(row) = not_finite(&decoded)
        {
            log.error("decompress", &input, format!("row {row} is not finite"));
        }
    }
}

pub(super) fn huge_values(cell: &Cell<'_>, log: &mut Log<'_>) {
    let huge = cell.train.mapv(|v| v * 1e30);
    let input = "encoded: rows of 1e30, fitted on gaussian rows";
    let encoded = round_trip(cell, &cell.instance, huge.view(), input, log);
    let also = "fitted and encoded: rows of 1e30";
    let learned = fitted(cell, huge.view(), also, log)
        .and_then(|instance| round_trip(cell, &instance, huge.view(), also, log));
    for (input, decoded) in [(input, encoded), (also, learned)] {
        if let Some(row) = decoded.ok().as_ref().and_then(not_finite) {
            log.warning("decompress", input, format!("row {row} is not finite"));
        }
    }
}

pub(super) fn non_finite_input(cell: &Cell<'_>, log: &mut Log<'_>) {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut some = cell.train.clone();
        some.row_mut(1).fill(bad);
        some[[5, cell.space.dim - 1]] = bad;
        let all = Array2::from_elem(cell.train.raw_dim(), bad);
        for (what, x) in [("some values", &some), ("all values", &all)] {
            // Any answer will do; only the calls themselves are judged.
            let input = format!("encoded: {what} {bad}");
            let _ = round_trip(cell, &cell.instance, x.view(), &input, log);
            let input = format!("fitted and encoded: {what} {bad}");
            let _ = fitted(cell, x.view(), &input, log)
                .and_then(|instance| round_trip(cell, &instance, x.view(), &input, log));
        }
    }
}

pub(super) fn damaged_model(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Ok(Some(model)) = cell.instance.save() else {
        return log.skip("the method does not offer save");
    };
    let mut random = Random(6);
    let len = model.len();
    for cut in [0, 1, len / 3, len.saturating_sub(1)].into_iter().filter(|cut| *cut < len) {
        let Some(mut instance) = cell.fresh(log) else { return };
        let input = format!("the first {cut} of {len} bytes of a model");
        if log.judge(&input, instance.load(&model[..cut])).is_ok() {
            log.warning("load", &input, "they are accepted");
        }
    }
    let flipped = |random: &mut Random| {
        let mut bytes = model.clone();
        for _ in 0..1 + len / 16 {
            if let Some(byte) = bytes.get_mut(random.next() as usize % len.max(1)) {
                *byte = random.next() as u8;
            }
        }
        bytes
    };
    let noise = (0..len.max(64)).map(|_| random.next() as u8).collect();
    let mut garbled: Vec<(&str, Vec<u8>)> = vec![
        ("random bytes", noise),
        ("bytes 0xFF", vec![0xFF; len.max(8)]),
        ("a model and 16 bytes more", [&model[..], &[0; 16]].concat()),
    ];
    garbled.extend((0..4).map(|_| ("a model with random changes", flipped(&mut random))));
    for (input, bytes) in garbled {
        let Some(mut instance) = cell.fresh(log) else { return };
        // Changed numbers may well be a model; using it must not crash either.
        if log.judge(input, instance.load(&bytes)).is_ok() {
            let input = &format!("after load accepted {input}");
            let _ = log.judge(input, cell.lab.decompress(&instance, cell.codes.view()));
        }
    }
}

pub(super) fn damaged_codes(cell: &Cell<'_>, log: &mut Log<'_>) {
    let mut random = Random(8);
    let noise = Array2::from_shape_fn(cell.codes.raw_dim(), |_| random.next() as u8);
    let ones = Array2::from_elem(cell.codes.raw_dim(), 0xFF);
    for (input, codes) in [("random bytes", noise), ("bytes 0xFF", ones)] {
        let _ = log.judge(input, cell.decompress(codes.view()));
    }
}
