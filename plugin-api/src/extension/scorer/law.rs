//! Rules on the extension `vq.scorer/1`. A method without it passes them.

use crate::Metric;
use crate::conformance::cell::{Cell, gaussian};
use crate::conformance::codec::chunks;
use crate::conformance::lab::{Fill, Lab, both_keep, matrix};
use crate::conformance::log::Log;
use crate::conformance::rule::Run;
use crate::conformance::{Depth, Law, Rule};
use crate::handle::{CallError, Guarded, Instance, Scorer};
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

#[rustfmt::skip] // a table: one line for the id and the check, one for the sentence
const RULES: &[Rule] = &[
    Rule { id: "scorer", run: Run::Cell(Depth::Brief, sane),
        contract: "score fills finite estimates, and bounds that are finite and not negative." },
    Rule { id: "scorer-agreement", run: Run::Cell(Depth::Brief, agreement),
        contract: "Estimates are the space's metric: squared distance for L2, inner product for IP and COSINE." },
];

pub(super) const LAW: Law = Law { rules: RULES, batch_independence, many_codes, after_load };

/// What a scorer said.
pub(crate) struct Scored {
    /// (q, n).
    pub(crate) estimates: Array2<f32>,
    /// (q, n), where the method claims them.
    bounds: Option<Array2<f32>>,
}

/// What `scorer` says of `queries` (q, d) and `n` codes that it packed.
fn ask(
    lab: &Lab,
    scorer: &Scorer<'_>,
    queries: ArrayView2<'_, f32>,
    (packed, n): (&[u8], usize),
    fill: Fill,
) -> Result<Scored, CallError> {
    let pairs = queries.nrows() * n;
    let (mut estimates, mut bounds) = (Guarded::rows(), Guarded::rows());
    let room = estimates.lend_filled(pairs, fill.number());
    let wanted = scorer.has_bounds().then(|| bounds.lend_filled(pairs, fill.number()));
    let done = lab.ask("score", queries, packed, |queries, packed, caller| {
        scorer.score(queries, packed, n, caller, room, wanted)
    });
    let (estimates, bounds) = (estimates.finish("score")?, bounds.finish("score")?);
    done?;
    let shaped = |values: &[f32]| matrix(queries.nrows(), n, values);
    let bounds = scorer.has_bounds().then(|| shaped(bounds));
    Ok(Scored { estimates: shaped(estimates), bounds })
}

fn pack(
    lab: &Lab,
    scorer: &Scorer<'_>,
    codes: ArrayView2<'_, u8>,
    fill: Fill,
) -> Result<Vec<u8>, CallError> {
    lab.pack(scorer.packed_bytes(codes.nrows())?, codes, fill, |codes, caller, packed| {
        scorer.pack(codes, caller, packed)
    })
}

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

/// `None` where the method has no scorer.
pub(crate) fn score(
    cell: &Cell<'_>,
    queries: ArrayView2<'_, f32>,
    codes: ArrayView2<'_, u8>,
) -> Result<Option<Scored>, CallError> {
    score_by(cell, &cell.instance, queries, codes)
}

fn score_by(
    cell: &Cell<'_>,
    instance: &Instance,
    queries: ArrayView2<'_, f32>,
    codes: ArrayView2<'_, u8>,
) -> Result<Option<Scored>, CallError> {
    let Some(scorer) = instance.scorer() else { return Ok(None) };
    let packed = pack(cell.lab, &scorer, codes, Fill::First)?;
    ask(cell.lab, &scorer, queries, (&packed, codes.nrows()), Fill::First).map(Some)
}

/// A function that left something unwritten, and what.
type Unwritten = (&'static str, String);

/// What `scorer` says of `codes`, if all of it was written.
fn complete(
    cell: &Cell<'_>,
    scorer: &Scorer<'_>,
    codes: ArrayView2<'_, u8>,
) -> Result<Result<Scored, Unwritten>, CallError> {
    let (queries, n) = (queries(cell), codes.nrows());
    let packed = pack(cell.lab, scorer, codes, Fill::First)?;
    let score = |packed: &[u8], fill| ask(cell.lab, scorer, queries.view(), (packed, n), fill);
    let (first, second) = (score(&packed, Fill::First)?, score(&packed, Fill::Second)?);
    if let Some(at) = both_keep(&first.estimates, &second.estimates, Fill::number).first() {
        return Ok(Err(("score", pair_as_filled("estimate", *at))));
    }
    if let (Some(first), Some(second)) = (&first.bounds, &second.bounds)
        && let Some(at) = both_keep(first, second, Fill::number).first()
    {
        return Ok(Err(("score", pair_as_filled("bound", *at))));
    }
    let repacked = pack(cell.lab, scorer, codes, Fill::Second)?;
    if let Some(at) = packed.iter().zip(&repacked).position(|(a, b)| a != b) {
        // What lies between codes may stay as it was, as long as nobody reads it.
        let third = score(&repacked, Fill::First)?;
        let spread = f64::from(first.estimates.std(0.0));
        if differ(first.estimates.view(), third.estimates.view(), spread) {
            let found = format!("byte {at} is as the caller filled it, and estimates depend on it");
            return Ok(Err(("pack", found)));
        }
    }
    Ok(Ok(first))
}

/// The same, for a rule that all of it is written.
fn written(
    cell: &Cell<'_>,
    scorer: &Scorer<'_>,
    codes: ArrayView2<'_, u8>,
    input: &str,
    log: &mut Log<'_>,
) -> Option<Scored> {
    match log.must(input, complete(cell, scorer, codes))? {
        Ok(scored) => Some(scored),
        Err((function, found)) => {
            log.break_rule("fully-written", function, input, found);
            None
        }
    }
}

/// The same, for a rule about something else: `None` where the scorer has a fault that is told
/// already.
fn whole(cell: &Cell<'_>) -> Option<Scored> {
    complete(cell, &cell.instance.scorer()?, codes(cell)).ok()?.ok()
}

/// `the estimate for query 1 and code 7 is as the caller filled it`.
fn pair_as_filled(what: &str, (query, code): (usize, usize)) -> String {
    format!("the {what} for query {query} and code {code} is as the caller filled it")
}

/// Judges that estimates are finite, and bounds finite and not negative.
fn judge_values(scored: &Scored, input: &str, log: &mut Log<'_>) -> bool {
    let first = |wrong: fn(f32) -> bool, of: &Array2<f32>| {
        let wrong = of.indexed_iter().find(|(_, v)| wrong(**v));
        wrong.map(|((query, code), v)| format!("{v} for query {query} and code {code}"))
    };
    if let Some(found) = first(|v| !v.is_finite(), &scored.estimates) {
        log.break_rule("scorer", "score", input, format!("an estimate is {found}"));
        return false;
    }
    let wrong = scored.bounds.as_ref().and_then(|of| first(|v| !v.is_finite() || v < 0.0, of));
    if let Some(found) = wrong {
        log.break_rule("scorer", "score", input, format!("a bound is {found}"));
        return false;
    }
    true
}

fn sane(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(scorer) = cell.instance.scorer() else { return };
    let input = format!("{QUERIES} queries, {CODES} codes");
    let Some(scored) = written(cell, &scorer, codes(cell), &input, log) else { return };
    judge_values(&scored, &input, log);
    let queries = queries(cell);
    log.must("0 codes", score(cell, queries.view(), cell.codes.slice(s![0..0, ..])));
    log.must("0 queries", score(cell, queries.slice(s![0..0, ..]), codes(cell)));
}

/// Block-wise sums may round otherwise; a thousandth of the spread of the estimates is more than
/// that.
fn differ(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, spread: f64) -> bool {
    let mut pairs = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
    pairs.any(|difference| difference.abs() > 1e-3 * spread)
}

/// The codes of the cell's rows `of` in one call, against fewer in a call.
fn many_codes(cell: &Cell<'_>, of: &[usize], input: &str, log: &mut Log<'_>) {
    let Some(scorer) = cell.instance.scorer() else { return };
    let codes = cell.codes.select(Axis(0), of);
    let Some(many) = written(cell, &scorer, codes.view(), input, log) else { return };
    if !judge_values(&many, input, log) {
        return;
    }
    let Ok(Some(few)) = score(cell, queries(cell).view(), cell.codes.view()) else { return };
    let expected = few.estimates.select(Axis(1), of);
    if differ(expected.view(), many.estimates.view(), f64::from(few.estimates.std(0.0))) {
        log.error("score", input, "estimates differ from those of calls with fewer codes");
    }
}

/// What the scorer of an instance that was loaded says is not promised, but what cannot be had there
/// cannot be proven.
fn after_load(cell: &Cell<'_>, loaded: &Instance, log: &mut Log<'_>) {
    let queries = queries(cell);
    let Ok(Some(before)) = score(cell, queries.view(), codes(cell)) else { return };
    match log.judge("after load", score_by(cell, loaded, queries.view(), codes(cell))) {
        Ok(Some(after)) if after.estimates == before.estimates && after.bounds == before.bounds => {
        }
        Ok(_) => log.skip("after load score answers otherwise, which leaves its metrics unproven"),
        Err(error) => log.skip(format!("after load {error}, which leaves its metrics unproven")),
    }
}

/// Pearson's correlation, `None` where one side is constant.
fn correlation(a: &Array2<f64>, b: &Array2<f64>) -> Option<f64> {
    let centred = |x: &Array2<f64>| x - x.mean().unwrap_or(0.0);
    let (a, b) = (centred(a), centred(b));
    let norm = ((&a * &a).sum() * (&b * &b).sum()).sqrt();
    (norm > 0.0).then(|| (&a * &b).sum() / norm)
}

fn agreement(cell: &Cell<'_>, log: &mut Log<'_>) {
    let queries = queries(cell);
    let Some(Scored { estimates, .. }) = whole(cell) else { return };
    let decoded = cell.decoded.slice(s![..CODES, ..]).mapv(f64::from);
    let exact = Array2::from_shape_fn(estimates.raw_dim(), |(q, i)| {
        let pairs = queries.row(q).mapv(f64::from).into_iter().zip(decoded.row(i));
        match cell.space.metric {
            Metric::L2 => pairs.map(|(q, x)| (q - x) * (q - x)).sum::<f64>(),
            Metric::Ip | Metric::Cosine => pairs.map(|(q, x)| q * x).sum(),
        }
    });
    let input = format!("{QUERIES} queries, {CODES} codes");
    let constant = |row: ArrayView1<'_, f32>| row.iter().all(|v| *v == row[0]);
    let differs = |row: ArrayView1<'_, f64>| row.iter().any(|v| *v != row[0]);
    if estimates.outer_iter().all(constant) && exact.outer_iter().all(differs) {
        let found = format!(
            "for every query each estimate is the same ({}), while the rows differ",
            estimates[[0, 0]]
        );
        return log.warning("score", &input, found);
    }
    if let Some(agreement) = correlation(&estimates.mapv(f64::from), &exact)
        && agreement < 0.5
    {
        let found =
            format!("correlation {agreement:.2} with the distances to the decompressed rows");
        log.warning("score", &input, found);
    }
}

/// Estimates of single queries and of blocks of codes against all in one call.
fn batch_independence(cell: &Cell<'_>, log: &mut Log<'_>) {
    let queries = queries(cell);
    let Some(Scored { estimates: whole, .. }) = whole(cell) else { return };
    let spread = f64::from(whole.std(0.0));
    for q in 0..QUERIES {
        let input = format!("query {q} of {QUERIES} alone");
        let query = queries.slice(s![q..=q, ..]);
        let Some(Some(alone)) = log.must(&input, score(cell, query, codes(cell))) else {
            return;
        };
        if differ(whole.slice(s![q..=q, ..]), alone.estimates.view(), spread) {
            return log.error("score", &input, "its estimates differ from those in one call");
        }
    }
    for (start, end) in chunks(CODES) {
        let input = format!("codes {start} to {end} of {CODES}");
        let block = cell.codes.slice(s![start..end, ..]);
        let Some(Some(alone)) = log.must(&input, score(cell, queries.view(), block)) else {
            return;
        };
        if differ(whole.slice(s![.., start..end]), alone.estimates.view(), spread) {
            return log.error("score", &input, "their estimates differ from those in one call");
        }
    }
}
