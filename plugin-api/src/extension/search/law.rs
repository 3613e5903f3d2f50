//! Rules on the extension `vq.search/1`. A method without it passes them.

use super::order::{Misplaced, nearer};
use crate::Metric;
use crate::conformance::cell::{Cell, gaussian};
use crate::conformance::lab::{Fill, Lab, both_keep, matrix};
use crate::conformance::log::Log;
use crate::conformance::rule::Run;
use crate::conformance::{Depth, Law, Rule};
use crate::extension::scorer;
use crate::handle::{CallError, Guarded, Instance, Search};
use ndarray::{Array2, ArrayView2, Axis, s};

#[rustfmt::skip] // a table: one line for the id and the check, one for the sentence
const RULES: &[Rule] = &[
    Rule { id: "search", run: Run::Cell(Depth::Brief, sane),
        contract: "search fills k places for each query: rows of the block, none twice, with finite estimates, the best first and of equal ones the lower row; nothing behind the last of n codes." },
    Rule { id: "search-ties", run: Run::Cell(Depth::Brief, ties),
        contract: "Of equal estimates the lower row wins, also the last place." },
    Rule { id: "search-ranking", run: Run::Cell(Depth::Brief, ranking),
        contract: "With VQ_SEARCH_RANKS_ESTIMATES ids and estimates equal those of sorting what the method's own vq.scorer/1 estimates." },
    Rule { id: "search-agreement", run: Run::Cell(Depth::Brief, agreement),
        contract: "A search finds the nearest codes; else picking some at random would be as good." },
];

pub(super) const LAW: Law = Law { rules: RULES, batch_independence, many_codes, after_load };

/// Queries that search.
const QUERIES: usize = 5;
/// Codes that are searched: no multiple of a SIMD block.
const CODES: usize = 203;
/// Codes wanted for each query.
const K: usize = 10;

/// What a search found, both (q, k).
#[derive(PartialEq)]
struct Found {
    ids: Array2<u64>,
    estimates: Array2<f32>,
}

fn queries(cell: &Cell<'_>) -> Array2<f32> {
    gaussian(QUERIES, cell.space, 3)
}

fn codes<'a>(cell: &'a Cell<'_>) -> ArrayView2<'a, u8> {
    cell.codes.slice(s![..CODES, ..])
}

fn pack(
    lab: &Lab,
    search: &Search<'_>,
    codes: ArrayView2<'_, u8>,
    fill: Fill,
) -> Result<Vec<u8>, CallError> {
    lab.pack(search.packed_bytes(codes.nrows())?, codes, fill, |codes, caller, packed| {
        search.pack(codes, caller, packed)
    })
}

fn ask(
    lab: &Lab,
    search: &Search<'_>,
    queries: ArrayView2<'_, f32>,
    (packed, n): (&[u8], usize),
    k: usize,
    fill: Fill,
) -> Result<Found, CallError> {
    let places = queries.nrows() * k;
    let (mut ids, mut estimates) = (Guarded::ids(), Guarded::rows());
    let room = ids.lend_filled(places, fill.id());
    let values = estimates.lend_filled(places, fill.number());
    let done = lab.ask("search", queries, packed, |queries, packed, caller| {
        search.search(queries, (packed, n), k, caller, room, values)
    });
    let (ids, estimates) = (ids.finish("search")?, estimates.finish("search")?);
    done?;
    let rows = queries.nrows();
    Ok(Found { ids: matrix(rows, k, ids), estimates: matrix(rows, k, estimates) })
}

/// What `search` finds among `codes`.
fn found(
    cell: &Cell<'_>,
    search: &Search<'_>,
    queries: ArrayView2<'_, f32>,
    codes: ArrayView2<'_, u8>,
    k: usize,
) -> Result<Found, CallError> {
    let packed = pack(cell.lab, search, codes, Fill::First)?;
    ask(cell.lab, search, queries, (&packed, codes.nrows()), k, Fill::First)
}

/// The same, judged: everything written, and each answer in order.
fn judged(
    cell: &Cell<'_>,
    search: &Search<'_>,
    codes: ArrayView2<'_, u8>,
    k: usize,
    input: &str,
    log: &mut Log<'_>,
) -> Option<Found> {
    let (queries, n) = (queries(cell), codes.nrows());
    let packed = log.must(input, pack(cell.lab, search, codes, Fill::First))?;
    let ask = |packed: &[u8], fill| ask(cell.lab, search, queries.view(), (packed, n), k, fill);
    let first = log.must(input, ask(&packed, Fill::First))?;
    let second = log.must(input, ask(&packed, Fill::Second))?;
    let ids = both_keep(&first.ids, &second.ids, Fill::id);
    let estimates = both_keep(&first.estimates, &second.estimates, Fill::number);
    let unwritten = ids.first().map(|at| ("id", at));
    if let Some((what, (query, place))) = unwritten.or(estimates.first().map(|at| ("estimate", at)))
    {
        let told = format!("the {what} of query {query}, place {place} is as the caller filled it");
        log.break_rule("fully-written", "search", input, told);
        return None;
    }
    if let Some((query, wrong)) = misplaced(&first, cell.space.metric, n) {
        log.break_rule("search", "search", input, format!("query {query}: {wrong}"));
        return None;
    }
    let repacked = log.must(input, pack(cell.lab, search, codes, Fill::Second))?;
    if let Some(at) = packed.iter().zip(&repacked).position(|(a, b)| a != b) {
        // What lies between codes may stay as it was, as long as nobody reads it.
        let third = log.must(input, ask(&repacked, Fill::First))?;
        if !same(&first, &third) {
            let told =
                format!("byte {at} is as the caller filled it, and the answer depends on it");
            log.break_rule("fully-written", "pack", input, told);
            return None;
        }
    }
    Some(first)
}

/// The first answer, by its query, that is out of order.
fn misplaced(found: &Found, metric: Metric, n: usize) -> Option<(usize, Misplaced)> {
    let answers = found.ids.outer_iter().zip(found.estimates.outer_iter()).enumerate();
    answers.into_iter().find_map(|(query, (ids, estimates))| {
        let wrong = Misplaced::first(metric, n, &ids.to_vec(), &estimates.to_vec())?;
        Some((query, wrong))
    })
}

/// Equal ids and values; an empty place equals an empty one.
fn same(a: &Found, b: &Found) -> bool {
    let equal = |(a, b): (&f32, &f32)| a == b || a.is_nan() && b.is_nan();
    a.ids == b.ids && a.estimates.iter().zip(&b.estimates).all(equal)
}

fn sane(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(search) = cell.instance.search() else { return };
    for (n, k) in [(CODES, K), (CODES, 1), (CODES, CODES), (64, 100), (7, 20), (1, 1), (0, 3)] {
        let input = format!("{QUERIES} queries, {n} codes, k = {k}");
        let codes = cell.codes.slice(s![..n, ..]);
        if judged(cell, &search, codes, k, &input, log).is_none() {
            return;
        }
    }
    let none = gaussian(0, cell.space, 3);
    log.must("0 queries", found(cell, &search, none.view(), codes(cell), K));
}

fn ties(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(search) = cell.instance.search() else { return };
    let same = cell.codes.select(Axis(0), &[0; CODES]);
    let input = format!("{CODES} equal codes, k = {K}");
    let Some(found) = judged(cell, &search, same.view(), K, &input, log) else { return };
    for (query, (ids, values)) in
        found.ids.outer_iter().zip(found.estimates.outer_iter()).enumerate()
    {
        let equal = values.iter().all(|value| *value == values[0]);
        if equal && !ids.iter().copied().eq(0..K as u64) {
            let told = format!("query {query}: equal estimates, and rows {:?}", ids.to_vec());
            return log.error("search", &input, told);
        }
    }
}

/// What sorting the scorer's estimates gives; `None` without a scorer that works.
fn ranked(cell: &Cell<'_>, codes: ArrayView2<'_, u8>, k: usize) -> Option<Found> {
    let scored = scorer::law::score(cell, queries(cell).view(), codes).ok()??;
    let n = codes.nrows();
    let mut ids = Array2::from_elem((QUERIES, k), crate::abi::SEARCH_NONE);
    let mut estimates = Array2::from_elem((QUERIES, k), f32::NAN);
    for (query, row) in scored.estimates.outer_iter().enumerate() {
        let mut pairs: Vec<(f32, u64)> = row.iter().copied().zip(0..).collect();
        pairs.sort_by(|a, b| nearer(cell.space.metric, *a, *b));
        for (place, (estimate, id)) in pairs.into_iter().take(k.min(n)).enumerate() {
            ids[[query, place]] = id;
            estimates[[query, place]] = estimate;
        }
    }
    Some(Found { ids, estimates })
}

/// Judges the promise of the flag on `codes`; false where it is broken.
fn ranks(
    cell: &Cell<'_>,
    search: &Search<'_>,
    (codes, k): (ArrayView2<'_, u8>, usize),
    input: &str,
    log: &mut Log<'_>,
) -> bool {
    let Ok(found) = found(cell, search, queries(cell).view(), codes, k) else { return false };
    if misplaced(&found, cell.space.metric, codes.nrows()).is_some() {
        return false; // told by the rule `search`
    }
    let Some(expected) = ranked(cell, codes, k) else { return false };
    let pairs = found.ids.indexed_iter().zip(&found.estimates);
    let differs = |(at, id): ((usize, usize), &u64), value: &f32| {
        let (wanted, expected) = (expected.ids[at], expected.estimates[at]);
        let equal = *value == expected || value.is_nan() && expected.is_nan();
        let place = format!("query {}, place {}", at.0, at.1);
        (*id != wanted || !equal).then(|| {
            format!(
                "{place}: row {id} with {value}, the estimates rank row {wanted} with {expected}"
            )
        })
    };
    match pairs.into_iter().find_map(|(pair, value)| differs(pair, value)) {
        Some(told) => {
            log.break_rule("search-ranking", "search", input, told);
            false
        }
        None => true,
    }
}

fn ranking(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(search) = cell.instance.search().filter(Search::ranks_estimates) else { return };
    if cell.instance.scorer().is_none() {
        let told = "VQ_SEARCH_RANKS_ESTIMATES is set, and there is no vq.scorer/1";
        return log.error("get_extension", "", told);
    }
    for (n, k) in [(CODES, K), (CODES, CODES), (64, 1), (7, 20), (1, 1)] {
        let input = format!("{QUERIES} queries, {n} codes, k = {k}");
        let codes = cell.codes.slice(s![..n, ..]);
        if !ranks(cell, &search, (codes, k), &input, log) {
            return;
        }
    }
}

fn agreement(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(search) = cell.instance.search() else { return };
    let queries = queries(cell);
    let Ok(found) = found(cell, &search, queries.view(), codes(cell), K) else { return };
    let mut hits = 0;
    for (query, ids) in queries.outer_iter().zip(found.ids.outer_iter()) {
        let exact = |x: ndarray::ArrayView1<'_, f32>| match cell.space.metric {
            Metric::L2 => query.iter().zip(x).map(|(q, x)| (q - x) * (q - x)).sum::<f32>(),
            Metric::Ip | Metric::Cosine => query.dot(&x),
        };
        let decoded = cell.decoded.slice(s![..CODES, ..]);
        let mut pairs: Vec<(f32, u64)> = decoded.outer_iter().map(exact).zip(0..).collect();
        pairs.sort_by(|a, b| nearer(cell.space.metric, *a, *b));
        hits += pairs[..K].iter().filter(|(_, id)| ids.iter().any(|found| found == id)).count();
    }
    // By chance 0.05; rows that decode alike may make it small as well.
    let recall = hits as f64 / (QUERIES * K) as f64;
    let distinct = cell.decoded.slice(s![..CODES, ..]);
    let alike = distinct.outer_iter().filter(|row| row == distinct.row(0)).count();
    if recall < 0.2 && alike < K {
        let input = format!("{QUERIES} queries, {CODES} codes, k = {K}");
        let told =
            format!("{recall:.2} of the {K} nearest decompressed rows are among those found");
        log.warning("search", &input, told);
    }
}

/// Block-wise sums may round otherwise; a thousandth of the spread is more than that.
fn differ(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> bool {
    let spread = f64::from(a.std(0.0)).max(f64::from(f32::MIN_POSITIVE));
    let mut pairs = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
    pairs.any(|difference| difference.abs() > 1e-3 * spread)
}

/// Single queries against all in one call.
fn batch_independence(cell: &Cell<'_>, log: &mut Log<'_>) {
    let Some(search) = cell.instance.search() else { return };
    let queries = queries(cell);
    let Ok(whole) = found(cell, &search, queries.view(), codes(cell), K) else { return };
    let wanted = codes(cell);
    for q in 0..QUERIES {
        let input = format!("query {q} of {QUERIES} alone");
        let query = queries.slice(s![q..=q, ..]);
        let alone = found(cell, &search, query, wanted, K);
        let Some(alone) = log.must(&input, alone) else { return };
        if differ(whole.estimates.slice(s![q..=q, ..]), alone.estimates.view()) {
            return log.error("search", &input, "it finds others than in one call of all");
        }
    }
}

/// The codes of the cell's rows `of` in one call.
fn many_codes(cell: &Cell<'_>, of: &[usize], input: &str, log: &mut Log<'_>) {
    let Some(search) = cell.instance.search() else { return };
    let codes = cell.codes.select(Axis(0), of);
    let input = format!("{input}, k = {K}");
    if judged(cell, &search, codes.view(), K, &input, log).is_some() && search.ranks_estimates() {
        ranks(cell, &search, (codes.view(), K), &input, log);
    }
}

/// As of a scorer: not promised, but what cannot be had after a load cannot be proven.
fn after_load(cell: &Cell<'_>, loaded: &Instance, log: &mut Log<'_>) {
    let (Some(search), Some(again)) = (cell.instance.search(), loaded.search()) else { return };
    let queries = queries(cell);
    let Ok(before) = found(cell, &search, queries.view(), codes(cell), K) else { return };
    let after = found(cell, &again, queries.view(), codes(cell), K);
    match log.judge("after load", after) {
        Ok(after) if same(&after, &before) => {}
        Ok(_) => log.skip("after load search answers otherwise, which leaves its metrics unproven"),
        Err(error) => log.skip(format!("after load {error}, which leaves its metrics unproven")),
    }
}
