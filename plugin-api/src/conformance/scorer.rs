//! Rules on the extension `vq.scorer/1`. A method without it passes them.

use super::Log;
use super::cell::{Cell, SEED, gaussian, matrix, unwritten};
use super::codec::chunks;
use crate::Metric;
use crate::handle::{CallError, Guarded};
use ndarray::{Array2, ArrayView2, s};

/// Queries that are scored.
const QUERIES: usize = 5;
/// Codes that are scored: no multiple of a SIMD block.
const CODES: usize = 203;

fn queries(cell: &Cell<'_>) -> Array2<f32> {
    gaussian(QUERIES, cell.space, 3)
}

fn codes<'a>(cell: &'a Cell<'_>) -> ArrayView2<'a, u8> {
    cell.codes.slice(s![..CODES, ..])
}

/// Estimates (q, n), and bounds (q, n) where the method claims them.
type Scored = (Array2<f32>, Option<Array2<f32>>);

/// `None` where the method has no scorer.
fn score(
    cell: &Cell<'_>,
    queries: ArrayView2<'_, f32>,
    codes: ArrayView2<'_, u8>,
) -> Result<Option<Scored>, CallError> {
    let Some(scorer) = cell.instance.scorer() else { return Ok(None) };
    let caller = cell.lab.caller(2, SEED);
    let mut packed = Guarded::codes();
    let done = scorer.pack(codes, &caller, packed.lend(scorer.packed_bytes(codes.nrows())?));
    let packed = packed.finish("pack")?;
    done?;
    let (mut estimates, mut bounds) = (Guarded::rows(), Guarded::rows());
    let n = codes.nrows();
    let room = estimates.lend(queries.nrows() * n);
    let wanted = scorer.has_bounds().then(|| bounds.lend(queries.nrows() * n));
    let done = scorer.score(queries, packed, n, &caller, room, wanted);
    let (estimates, bounds) = (estimates.finish("score")?, bounds.finish("score")?);
    done?;
    let shaped = |values: &[f32]| matrix(queries.nrows(), n, values);
    Ok(Some((shaped(estimates), scorer.has_bounds().then(|| shaped(bounds)))))
}

pub(super) fn sane(cell: &Cell<'_>, log: &mut Log<'_>) {
    if !cell.method.about().has_scorer {
        return;
    }
    let queries = queries(cell);
    let input = format!("{QUERIES} queries, {CODES} codes");
    let Some(Some((estimates, bounds))) =
        log.must(&input, score(cell, queries.view(), codes(cell)))
    else {
        return;
    };
    let first = |wrong: fn(f32) -> bool, of: &Array2<f32>| {
        of.indexed_iter().find(|(_, v)| wrong(**v)).map(|(at, v)| format!("{v} at {at:?}"))
    };
    if let Some(found) = first(unwritten, &estimates) {
        log.error("score", &input, format!("an estimate is as the caller filled it: {found}"));
    } else if let Some(found) = first(|v| !v.is_finite(), &estimates) {
        log.error("score", &input, format!("an estimate is {found}"));
    }
    // An infinite bound claims nothing, which is true.
    let bounds = bounds.unwrap_or_default();
    if let Some(found) = first(unwritten, &bounds) {
        log.error("score", &input, format!("a bound is as the caller filled it: {found}"));
    } else if let Some(found) = first(|v| v.is_nan() || v < 0.0, &bounds) {
        log.error("score", &input, format!("a bound is {found}"));
    }
    log.must("0 codes", score(cell, queries.view(), cell.codes.slice(s![0..0, ..])));
    log.must("0 queries", score(cell, queries.slice(s![0..0, ..]), codes(cell)));
}

/// Pearson's correlation, `None` where one side is constant.
fn correlation(a: &Array2<f64>, b: &Array2<f64>) -> Option<f64> {
    let centred = |x: &Array2<f64>| x - x.mean().unwrap_or(0.0);
    let (a, b) = (centred(a), centred(b));
    let norm = ((&a * &a).sum() * (&b * &b).sum()).sqrt();
    (norm > 0.0).then(|| (&a * &b).sum() / norm)
}

pub(super) fn agreement(cell: &Cell<'_>, log: &mut Log<'_>) {
    let queries = queries(cell);
    let Ok(Some((estimates, _))) = score(cell, queries.view(), codes(cell)) else { return };
    let decoded = cell.decoded.slice(s![..CODES, ..]).mapv(f64::from);
    let exact = Array2::from_shape_fn(estimates.raw_dim(), |(q, i)| {
        let pairs = queries.row(q).mapv(f64::from).into_iter().zip(decoded.row(i));
        match cell.space.metric {
            Metric::L2 => pairs.map(|(q, x)| (q - x) * (q - x)).sum::<f64>(),
            Metric::Ip | Metric::Cosine => pairs.map(|(q, x)| q * x).sum(),
        }
    });
    if let Some(agreement) = correlation(&estimates.mapv(f64::from), &exact)
        && agreement < 0.5
    {
        let found =
            format!("correlation {agreement:.2} with the distances to the decompressed rows");
        log.warning("score", &format!("{QUERIES} queries, {CODES} codes"), found);
    }
}

/// Estimates of single queries and of blocks of codes against all in one call. Block-wise sums
/// may round otherwise; a thousandth of the spread of the estimates is more than that.
pub(super) fn batch_independence(cell: &Cell<'_>, log: &mut Log<'_>) {
    let queries = queries(cell);
    let Ok(Some((whole, _))) = score(cell, queries.view(), codes(cell)) else { return };
    let spread = f64::from(whole.std(0.0));
    let differs = |a: ArrayView2<'_, f32>, b: &Array2<f32>| {
        let mut pairs = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
        pairs.any(|difference| difference.abs() > 1e-3 * spread)
    };
    for q in 0..QUERIES {
        let input = format!("query {q} of {QUERIES} alone");
        let query = queries.slice(s![q..=q, ..]);
        let Some(Some((alone, _))) = log.must(&input, score(cell, query, codes(cell))) else {
            return;
        };
        if differs(whole.slice(s![q..=q, ..]), &alone) {
            return log.error("score", &input, "its estimates differ from those in one call");
        }
    }
    for (start, end) in chunks(CODES) {
        let input = format!("codes {start} to {end} of {CODES}");
        let block = cell.codes.slice(s![start..end, ..]);
        let Some(Some((alone, _))) = log.must(&input, score(cell, queries.view(), block)) else {
            return;
        };
        if differs(whole.slice(s![.., start..end]), &alone) {
            return log.error("score", &input, "their estimates differ from those in one call");
        }
    }
}
