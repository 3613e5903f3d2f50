//! The decoder's third part: the method's own search finds the nearest codes of a block, and the
//! referee merges the blocks.

use super::peer::{Before, Peer, shown};
use super::scan::FILLS;
use super::timing::{Timed, time};
use super::unseen::Unseen;
use super::{CODES_PER_SCORE, Cell, Codes, Metrics, PAIR_SEED, in_sample};
use crate::data::Metric;
use crate::metric::retrieval::query_sample;
use crate::worker::exchange::{ROOM, Request};
use crate::worker::protocol::Role;
use crate::worker::reporter::Failure;
use ndarray::{ArrayView2, Axis, CowArray, Ix2, s};
use rayon::prelude::*;
use std::time::Duration;
use vq_kernels::top_k::TopK;
use vq_plugin_api::extension::search::Misplaced;

/// Queries that a search sees per call.
const QUERIES_PER_SEARCH: usize = 256;
/// Queries whose answers are compared with what the scorer's estimates rank first.
const COMPARED: usize = 256;
/// Bytes of a place: an id and an estimate.
const PLACE_BYTES: usize = size_of::<u64>() + size_of::<f32>();

/// The queries that a search is asked.
pub(super) struct Asked<'q> {
    /// Their numbers, ascending.
    numbers: Vec<usize>,
    /// Themselves (queries, d).
    rows: CowArray<'q, f32, Ix2>,
}

impl<'q> Asked<'q> {
    /// All of `queries` (n, d).
    pub(super) fn all(queries: ArrayView2<'q, f32>) -> Self {
        Asked { numbers: (0..queries.nrows()).collect(), rows: queries.into() }
    }

    /// Some from all over `queries` (n, d), enough for a proof.
    pub(super) fn some(queries: ArrayView2<'q, f32>) -> Self {
        let numbers = query_sample(queries.nrows(), COMPARED, PAIR_SEED);
        Asked { rows: queries.select(Axis(0), &numbers).into(), numbers }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

/// What a search answered, both (queries, k).
struct Answer {
    ids: Vec<u64>,
    estimates: Vec<f32>,
}

/// What was found.
pub(super) struct Search {
    /// Per query (score, row), the best first: the best of all blocks, larger scores are nearer.
    pub(super) found: Vec<Vec<(f32, u32)>>,
    /// What the calls took in which all was new.
    pub(super) unseen: Unseen,
}

impl Answer {
    fn new() -> Self {
        Answer { ids: Vec::new(), estimates: Vec::new() }
    }

    /// Has `decoder` search for `k` of its packed codes for `queries` lent queries; answers how long that took.
    fn ask(
        &mut self,
        decoder: &mut Peer<'_>,
        queries: usize,
        k: usize,
        before: Before,
    ) -> Result<Duration, Failure> {
        self.ids.resize(queries * k, 0);
        self.estimates.resize(queries * k, 0.0);
        let outputs = (&mut self.ids[..], &mut self.estimates[..]);
        decoder.during("search", |peer| {
            peer.two_outputs("search", &Request::Search { queries, k }, outputs, before)
        })
    }

    /// That the answer of `k` places for the queries of these `numbers`, among `n` codes from `first` on, is
    /// in order.
    fn judge(
        &self,
        metric: Metric,
        (numbers, k): (&[usize], usize),
        (first, n): (usize, usize),
    ) -> Result<(), Failure> {
        let answers = self.ids.par_chunks(k).zip(self.estimates.par_chunks(k)).enumerate();
        let wrong = answers.find_map_first(|(q, (ids, estimates))| {
            Misplaced::first(metric.into(), n, ids, estimates).map(|wrong| (q, wrong))
        });
        let Some((q, wrong)) = wrong else { return Ok(()) };
        let what = match wrong {
            Misplaced::NotFinite { id, estimate } => {
                format!("the estimate {} for row {}", shown(estimate), first as u64 + id)
            }
            Misplaced::NoRow { place, id, .. } if is_unwritten(id) => {
                format!("nothing in place {place}")
            }
            other => format!("an answer that cannot be: {other}"),
        };
        Err(Failure::invalid(format!("search returned {what} for query {}", numbers[q])))
    }
}

/// Bits that the referee puts where an id is to be written.
fn is_unwritten(id: u64) -> bool {
    shown(f32::from_bits(id as u32)) == "nothing" && (id >> 32) as u32 == id as u32
}

impl Cell<'_> {
    /// Codes and queries of one call, whose outputs must have room for `k` places each.
    fn per_search(&self, codes: &Codes, k: usize, most: usize, asked: usize) -> (usize, usize) {
        let n = (ROOM / codes.width()).min(most).min(self.data.base.rows).max(1);
        let queries = (ROOM / 2 / (PLACE_BYTES * k)).min(ROOM / (4 * self.dim_seen()));
        (n, queries.clamp(1, QUERIES_PER_SEARCH).min(asked.max(1)))
    }

    /// What the method's own search finds for each query of `asked`, the `keep` best.
    pub(super) fn search(
        &self,
        decoder: &mut Peer<'_>,
        codes: &Codes,
        asked: &Asked<'_>,
        keep: usize,
    ) -> Result<Search, Failure> {
        // The scorer's blocks: what is said of the same codes in calls of other sizes may be
        // rounded otherwise.
        let (per_call, group) = self.per_search(codes, keep, CODES_PER_SCORE, asked.len());
        // Two calls, see `unseen_step`.
        let group = group.min(asked.len().div_ceil(2));
        let (rows, metric) = (self.data.base.rows, self.data.metric);
        let sign = if metric == Metric::L2 { -1.0 } else { 1.0 };
        let mut best: Vec<TopK> = asked.numbers.iter().map(|_| TopK::new(keep)).collect();
        let parts = asked.len().div_ceil(group);
        let all = parts * rows.div_ceil(per_call);
        let (mut answer, mut again) = (Answer::new(), Answer::new());
        let mut unseen = Unseen::new(per_call);
        for (i, (first, n)) in self.blocks(per_call).enumerate() {
            self.part("pack", i * parts, i * parts, all);
            self.pack_for_search(decoder, codes, (first, n), FILLS[0])?;
            for (g, queries) in asked.rows.axis_chunks_iter(Axis(0), group).enumerate() {
                self.part("search", i * parts + g, i * parts + g + 1, all);
                decoder.lend_rows(queries.nrows())?.assign(&queries);
                let sampled = in_sample(i * parts + g, first + n == rows && g + 1 == parts);
                let before = if sampled { Before::Unwritten } else { Before::Anything };
                let (processes, role) = (decoder.processes(), decoder.role());
                // Queries are new to the first block alone.
                let new = (first == 0).then_some(queries.nrows() * n);
                let asks = || answer.ask(decoder, queries.nrows(), keep, before);
                unseen
                    .call(new, processes, asks)
                    .map_err(|failure| refused(failure, role, first == 0 && g == 0))?;
                let numbers = &asked.numbers[g * group..][..queries.nrows()];
                answer.judge(metric, (numbers, keep), (first, n))?;
                let best = &mut best[g * group..][..queries.nrows()];
                let found = answer.ids.par_chunks(keep).zip(answer.estimates.par_chunks(keep));
                best.par_iter_mut().zip(found).for_each(|(best, (ids, estimates))| {
                    for (id, estimate) in ids.iter().zip(estimates).take(n) {
                        best.push(sign * estimate, first as u32 + *id as u32);
                    }
                });
            }
            // The last group once more, from codes that were packed over other bytes.
            if first == 0 || first + n == rows {
                let last = answer.ids.len() / keep;
                self.pack_for_search(decoder, codes, (first, n), FILLS[1])?;
                let from = asked.len() - last;
                decoder.lend_rows(last)?.assign(&asked.rows.slice(s![from.., ..]));
                again.ask(decoder, last, keep, Before::Unwritten)?;
                if let Some(q) = differing(&answer, &again, keep) {
                    let query = from + q;
                    return Err(Failure::invalid(format!(
                        "search finds something else for query {query} when the codes are packed again"
                    )));
                }
            }
        }
        Ok(Search { found: best.into_par_iter().map(TopK::into_sorted).collect(), unseen })
    }

    fn pack_for_search(
        &self,
        decoder: &mut Peer<'_>,
        codes: &Codes,
        (first, n): (usize, usize),
        fill: u8,
    ) -> Result<(), Failure> {
        codes.read(first, decoder.lend_codes(n * codes.width())?)?;
        decoder.pack_by(&Request::PackForSearch { codes: n, fill })
    }

    /// Times the search among as many of the first codes as one call takes.
    ///
    /// Estimates are spoilt and compared around the calls. Who has them right has searched.
    pub(super) fn time_search(
        &self,
        decoder: &mut Peer<'_>,
        codes: &Codes,
        (asked, unseen): (&Asked<'_>, &Unseen),
        keep: usize,
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let (n, queries) = self.per_search(codes, keep, usize::MAX, asked.len());
        let k = keep.min(n);
        self.part("pack", 0, 0, 1);
        self.pack_for_search(decoder, codes, (0, n), FILLS[0])?;
        decoder.lend_rows(queries)?.assign(&asked.rows.slice(s![..queries, ..]));
        let mut answer = Answer::new();
        let warm = answer.ask(decoder, queries, k, Before::Unwritten)?;
        answer.judge(self.data.metric, (&asked.numbers, k), (0, n))?;
        let timed = Timed {
            function: "search",
            name: "search_codes_per_s",
            items: queries,
            worth: n,
            beside: Duration::ZERO,
            bytes: 4 * self.dim_seen() + PLACE_BYTES * k + n * codes.width() / queries,
            unseen,
            expected: &answer.estimates,
            spoilt: |_: f32| f32::NAN,
        };
        let request = |queries| Request::Search { queries, k };
        time(self, decoder, &timed, Some(warm), request, metrics).map(drop)
    }
}

/// What refuses once the model is loaded is asked where it was fitted.
fn refused(failure: Failure, role: Role, at_first: bool) -> Failure {
    match failure {
        Failure::Method { error, .. } if at_first && role == Role::Decoder => Failure::Again {
            reason: format!("its search refuses once the model is loaded: {error}"),
        },
        other => other,
    }
}

/// The first query for which two answers of `k` places differ.
fn differing(a: &Answer, b: &Answer, k: usize) -> Option<usize> {
    let bits = |of: &[f32]| of.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let rows =
        |of: &Answer, q: usize| (of.ids[q * k..][..k].to_vec(), bits(&of.estimates[q * k..][..k]));
    (0..a.ids.len() / k).find(|q| rows(a, *q) != rows(b, *q))
}

/// That the search ranks as its method's estimates do, values and rows: `searched` for the queries that
/// were `asked`, `scored` for all.
///
/// # Errors
/// The flag `VQ_SEARCH_RANKS_ESTIMATES` is untrue.
pub(super) fn ranks_the_estimates(
    asked: &Asked<'_>,
    searched: &[Vec<(f32, u32)>],
    scored: &[Vec<(f32, u32)>],
    metric: Metric,
) -> Result<(), Failure> {
    let told = |score: f32| if metric == Metric::L2 { -score } else { score };
    for (&query, searched) in asked.numbers.iter().zip(searched) {
        let pairs = searched.iter().zip(&scored[query]).enumerate();
        if let Some((place, (found, estimated))) = pairs.into_iter().find(|(_, (a, b))| a != b) {
            return Err(Failure::invalid(format!(
                "search ranks row {} with {} in place {place} for query {query}, its estimates row {} \
                 with {}, though it claims to rank them",
                found.1,
                told(found.0),
                estimated.1,
                told(estimated.0)
            )));
        }
    }
    Ok(())
}
