//! Rules on codes: sizes, batches, strides, seeds, saved models, and that decoding is worth it.

use super::cell::{Cell, SEED, as_filled, bits_equal, differing_row};
use super::lab::{Fill, Lab};
use super::{Depth, Log};
use crate::extension;
use ndarray::{Array2, ArrayView2, Axis, s};

/// Rows that are also coded one at a time.
const SINGLE_ROWS: usize = 24;
/// Odd chunk sizes, in turn.
const CHUNKS: [usize; 4] = [7, 13, 1, 64];
/// Rows of a call that is larger than those of small data, and no multiple of a block.
const MANY: usize = 1201;

/// The first rows in another order, each again and again until there are [`MANY`].
fn many(rows: usize) -> Vec<usize> {
    // From the last row on, so that no neighbour stays the one it was.
    (0..rows).rev().cycle().take(MANY).collect()
}

pub(super) fn determinism(cell: &Cell<'_>, log: &mut Log<'_>) {
    let deterministic = cell.method.about().deterministic;
    for threads in [2, 1] {
        if threads == 1 && !deterministic {
            log.skip("one thread against two: the method does not claim VQ_DETERMINISTIC");
            continue;
        }
        let input = format!("a second instance, equal seed and rows, {threads} threads");
        let Some(mut twin) = cell.fresh(log) else { return };
        let caller = cell.lab.caller(threads, SEED);
        if log.must(&input, Lab::fit(&mut twin, cell.train.view(), &caller)).is_none() {
            return;
        }
        let (x, code_bytes) = (cell.x.view(), cell.code_bytes);
        let codes = cell.lab.compress_over(Fill::First, threads, &twin, x, code_bytes);
        let Some(codes) = log.must(&input, codes) else { return };
        if let Some(row) = differing_row(cell.codes.view(), codes.view(), u8::eq) {
            let found = format!("row {row} has another code");
            match deterministic {
                true => log.error("fit", &input, found),
                false => log.warning("fit", &input, found),
            }
            return;
        }
    }
}

pub(super) fn ratio(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(claimed) = cell.instance.ratio() else { return log.skip("the method states none") };
    let true_ratio = 4.0 * cell.space.dim as f64 / cell.code_bytes as f64;
    let miss = (claimed / true_ratio - 1.0).abs();
    if miss.is_nan() || miss > 1e-6 {
        let found = format!("{claimed} with {} bytes, so {true_ratio}", cell.code_bytes);
        log.error("ratio", "", found);
    }
}

pub(super) fn model_bytes(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(stated) = cell.instance.model_bytes() else {
        return log.skip("the method does not state it");
    };
    let Some(Some(saved)) = log.must("", cell.instance.save()) else { return };
    let saved = saved.len() as u64;
    // Above what is saved: a rotation or two that are drawn again from a seed.
    let most = saved + 8 * (cell.space.dim * cell.space.dim) as u64 + 4096;
    if stated > most || saved > 16 * stated + 4096 {
        log.warning("model_bytes", "", format!("{stated}, while save writes {saved} bytes"));
    }
}

pub(super) fn empty_batch(cell: &Cell<'_>, log: &mut Log<'_>) {
    log.must("0 rows", cell.compress(cell.x.slice(s![0..0, ..])));
    log.must("0 codes", cell.decompress(cell.codes.slice(s![0..0, ..])));
}

/// Row ranges: the first rows alone, the rest in odd chunks.
pub(crate) fn chunks(rows: usize) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = (0..rows.min(SINGLE_ROWS)).map(|i| (i, i + 1)).collect();
    let mut start = ranges.len();
    for size in CHUNKS.into_iter().cycle() {
        if start >= rows {
            break;
        }
        ranges.push((start, rows.min(start + size)));
        start = rows.min(start + size);
    }
    ranges
}

pub(super) fn batch_independence(cell: &Cell<'_>, log: &mut Log<'_>) {
    let rows = cell.x.nrows();
    let alike = chunks(rows).into_iter().all(|(start, end)| {
        let input = format!("rows {start} to {end} of {rows}");
        let of: Vec<usize> = (start..end).collect();
        coded_alike(cell, &of, &input, log)
    });
    let backwards: Vec<usize> = (0..rows).rev().collect();
    if alike && coded_alike(cell, &backwards, "all rows, the last one first", log) {
        for extension in extension::KNOWN {
            (extension.law.batch_independence)(cell, log);
        }
        if cell.depth >= Depth::Usual {
            many_rows(cell, log);
        }
    }
}

/// True if the rows `of` the cell, in this order in a call of their own, have the codes they have
/// in one call of all, and these decode to the same; an error otherwise.
fn coded_alike(cell: &Cell<'_>, of: &[usize], input: &str, log: &mut Log<'_>) -> bool {
    let whole = cell.codes.select(Axis(0), of);
    let x = cell.x.select(Axis(0), of);
    let Some(codes) = log.must(input, cell.compress(x.view())) else { return false };
    if let Some(row) = differing_row(whole.view(), codes.view(), u8::eq) {
        let found = format!("row {} has another code than in one call of all", of[row]);
        log.error("compress", input, found);
        return false;
    }
    let Some(decoded) = log.must(input, cell.decompress(whole.view())) else { return false };
    decoded_alike(cell, of, decoded.view(), input, log)
}

fn decoded_alike(
    cell: &Cell<'_>,
    of: &[usize],
    decoded: ArrayView2<'_, f32>,
    input: &str,
    log: &mut Log<'_>,
) -> bool {
    let scale = cell.decoded.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let whole = cell.decoded.select(Axis(0), of);
    let Some(row) = differing_row(whole.view(), decoded, bits_equal) else { return true };
    let found = format!("row {} is decoded otherwise than in one call of all", of[row]);
    // Sums in another order are tolerable, other rows are not.
    let close = |a: &f32, b: &f32| (a - b).abs() <= 1e-4 * scale;
    match differing_row(whole.view(), decoded, close) {
        Some(_) => log.error("decompress", input, found),
        None => log.warning("decompress", input, found + ", by rounding"),
    }
    false
}

/// What shows in calls of many rows alone: they are what a measurement makes.
fn many_rows(cell: &Cell<'_>, log: &mut Log<'_>) {
    let of = many(cell.x.nrows());
    let input = format!("{MANY} rows, those of the cell over and over, the last one first");
    let x = cell.x.select(Axis(0), &of);
    let coded = cell.lab.compress_twice(&cell.instance, x.view(), cell.code_bytes);
    let Some(coded) = log.must(&input, coded) else { return };
    if let Some(at) = coded.unwritten {
        return log.break_rule("fully-written", "compress", &input, as_filled(at, "byte"));
    }
    let whole = cell.codes.select(Axis(0), &of);
    if let Some(row) = differing_row(whole.view(), coded.first.view(), u8::eq) {
        let found = format!("row {row} has another code than in calls of fewer rows");
        return log.error("compress", &input, found);
    }
    let decoded = cell.lab.decompress_twice(&cell.instance, whole.view());
    let Some(decoded) = log.must(&input, decoded) else { return };
    if let Some(at) = decoded.unwritten {
        return log.break_rule("fully-written", "decompress", &input, as_filled(at, "value"));
    }
    if decoded_alike(cell, &of, decoded.first.view(), &input, log) {
        for extension in extension::KNOWN {
            (extension.law.many_codes)(cell, &of, &input, log);
        }
    }
}

/// The rows of `x` as a view into wider rows; `filling` lies between them.
fn widened<T: Copy>(x: ArrayView2<'_, T>, filling: T) -> Array2<T> {
    let mut wide = Array2::from_elem((x.nrows(), x.ncols() + 3), filling);
    wide.slice_mut(s![.., ..x.ncols()]).assign(&x);
    wide
}

pub(super) fn strides(cell: &Cell<'_>, log: &mut Log<'_>) {
    let input = "row_stride is the width plus 3";
    let wide = widened(cell.x.view(), f32::NAN);
    let x = wide.slice(s![.., ..cell.space.dim]);
    if let Some(codes) = log.must(input, cell.compress(x))
        && let Some(row) = differing_row(cell.codes.view(), codes.view(), u8::eq)
    {
        log.error("compress", input, format!("row {row} has another code"));
    }
    let wide = widened(cell.codes.view(), 0xFF);
    let codes = wide.slice(s![.., ..cell.code_bytes]);
    if let Some(decoded) = log.must(input, cell.decompress(codes))
        && let Some(row) = differing_row(cell.decoded.view(), decoded.view(), bits_equal)
    {
        log.error("decompress", input, format!("row {row} is decoded otherwise"));
    }
}

pub(super) fn save_load(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(saved) = log.must("", cell.instance.save()) else { return };
    let Some(model) = saved else { return log.skip("the method does not offer save") };
    let input = format!("the {} bytes that save wrote", model.len());
    let Some(mut restored) = cell.fresh(log) else { return };
    if log.must(&input, restored.load(&model)).is_none() {
        return;
    }
    if restored.code_bytes() != cell.code_bytes {
        let found = format!("{} after load, {} before", restored.code_bytes(), cell.code_bytes);
        return log.error("code_bytes", &input, found);
    }
    let decoded = cell.lab.decompress(&restored, cell.codes.view());
    if let Some(decoded) = log.must("the codes of before, after load", decoded)
        && let Some(row) = differing_row(cell.decoded.view(), decoded.view(), bits_equal)
    {
        log.error("decompress", &input, format!("after load row {row} is decoded otherwise"));
    }
    match log.judge(&input, cell.lab.compress(&restored, cell.x.view(), cell.code_bytes)) {
        Ok(codes) => {
            if let Some(row) = differing_row(cell.codes.view(), codes.view(), u8::eq) {
                log.warning("compress", &input, format!("after load row {row} has another code"));
            }
        }
        // Only decoding is promised after a load.
        Err(error) => log.skip(format!("after load {error}")),
    }
    for extension in extension::KNOWN {
        (extension.law.after_load)(cell, &restored, log);
    }
}

/// Σ‖x − x̂‖² / Σ‖x − mean‖².
fn relative_error(x: ArrayView2<'_, f32>, decoded: ArrayView2<'_, f32>) -> f64 {
    let wide = x.mapv(f64::from);
    let error = (&wide - &decoded.mapv(f64::from)).mapv(|e| e * e).sum();
    let mean = wide.mean_axis(Axis(0)).expect("cells have rows");
    error / (&wide - &mean).mapv(|e| e * e).sum()
}

pub(super) fn quality(cell: &Cell<'_>, log: &mut Log<'_>) {
    let error = relative_error(cell.x.view(), cell.decoded.view());
    if error.is_nan() || error > 1.5 {
        let found = format!("relative error {error:.3} on gaussian rows");
        log.warning("decompress", "", found);
    }
}
