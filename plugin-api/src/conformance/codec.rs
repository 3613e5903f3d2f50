//! Rules on codes: sizes, batches, strides, seeds, saved models, and that decoding is worth it.

use super::Log;
use super::cell::{Cell, SEED, differing_row};
use ndarray::{Array2, ArrayView2, Axis, s};

/// Rows that are also coded one at a time.
const SINGLE_ROWS: usize = 24;
/// Odd chunk sizes, in turn.
const CHUNKS: [usize; 4] = [7, 13, 1, 64];

fn bits_equal(a: &f32, b: &f32) -> bool {
    a.to_bits() == b.to_bits()
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
        if log.must(&input, twin.fit(cell.train.view(), &caller)).is_none() {
            return;
        }
        let codes = cell.lab.compress_on(threads, &twin, cell.x.view(), cell.code_bytes);
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
pub(super) fn chunks(rows: usize) -> Vec<(usize, usize)> {
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
    let scale = cell.decoded.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    for (start, end) in chunks(cell.x.nrows()) {
        let input = format!("rows {start} to {end} of {}", cell.x.nrows());
        let rows = s![start..end, ..];
        let Some(codes) = log.must(&input, cell.compress(cell.x.slice(rows))) else { return };
        let whole = cell.codes.slice(rows);
        if let Some(row) = differing_row(whole, codes.view(), u8::eq) {
            let found = format!("row {} has another code than in one call", start + row);
            return log.error("compress", &input, found);
        }
        let Some(decoded) = log.must(&input, cell.decompress(whole)) else { return };
        let whole = cell.decoded.slice(rows);
        if let Some(row) = differing_row(whole, decoded.view(), bits_equal) {
            let found = format!("row {} is decoded otherwise than in one call", start + row);
            // Sums in another order are tolerable, other rows are not.
            let close = |a: &f32, b: &f32| (a - b).abs() <= 1e-4 * scale;
            match differing_row(whole, decoded.view(), close) {
                Some(_) => log.error("decompress", &input, found),
                None => log.warning("decompress", &input, found + ", by rounding"),
            }
            return;
        }
    }
    super::scorer::batch_independence(cell, log);
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
