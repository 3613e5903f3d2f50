//! The decoder's second part: the queries are lent, and the method's own scorer searches.

use super::encode::Encoded;
use super::peer::{Before, Peer};
use super::timing::{Timed, time};
use super::unseen::Unseen;
use super::{CODES_PER_SCORE, Cell, Codes, Metrics, QUERIES_PER_SCORE, in_sample};
use crate::data::Metric;
use crate::metric::{QueryPairs, Scan};
use crate::worker::exchange::{ROOM, Request};
use crate::worker::reporter::Failure;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;
use std::time::Duration;

/// What packed codes hold before they are packed, and once more to see that nothing else counts.
pub(super) const FILLS: [u8; 2] = [0, 0xFF];

/// What a method's own scorer said.
pub(super) struct Scored {
    /// Per query, best first.
    pub(super) ranked: Vec<Vec<(f32, u32)>>,
    pub(super) watched: Array2<f32>,
    /// In the order of the sampled pairs.
    pub(super) estimates: Vec<f64>,
    pub(super) bounds: Option<Vec<f64>>,
    /// What the calls took in which all was new.
    pub(super) unseen: Unseen,
}

impl Cell<'_> {
    /// Codes and queries of one call to the scorer, whose outputs must have room.
    fn per_score(&self, codes: &Codes, bounds: bool) -> (usize, usize) {
        let n = (ROOM / codes.width()).min(CODES_PER_SCORE).min(self.data.base.rows).max(1);
        let outputs = if bounds { 2 } else { 1 };
        // A block of many codes is worth more than one of many queries.
        let queries = (ROOM / (4 * outputs * n)).min(ROOM / (4 * self.dim_seen()));
        (n, queries.clamp(1, QUERIES_PER_SCORE))
    }

    /// Has all queries scored against all codes.
    pub(super) fn scan(
        &self,
        decoder: &mut Peer<'_>,
        codes: &Codes,
        encoded: &Encoded,
        watched: ArrayView2<'_, u32>,
        keep: usize,
        pairs: &QueryPairs,
    ) -> Result<Scored, Failure> {
        let has_bounds = encoded.opened.bounds;
        let (per_call, group) = self.per_score(codes, has_bounds);
        let rows = self.data.base.rows;
        // Two calls, see `unseen_step`.
        let group = group.min(self.queries.nrows().div_ceil(2)).max(1);
        let asked = self.posed();
        let (mut scans, slots) = scans(watched, pairs, keep);
        let mut claimed = has_bounds.then(|| vec![0.0; pairs.pairs().len()]);
        let negated = self.data.metric == Metric::L2;
        let mut bounds = vec![0.0; if has_bounds { group * per_call } else { 0 }];
        let parts = self.queries.nrows().div_ceil(group);
        let all = parts * rows.div_ceil(per_call);
        let (mut before, mut unseen) = (0, Unseen::new(per_call));
        for (i, (first, n)) in self.blocks(per_call).enumerate() {
            self.part("pack", i * parts, i * parts, all);
            codes.read(first, decoder.lend_codes(n * codes.width())?)?;
            decoder.pack(n, FILLS[0])?;
            let here = pairs.in_rows(first, n);
            let at_an_end = first == 0 || first + n == rows;
            let (mut compared, mut last) = (None, None);
            let groups = asked.axis_chunks_iter(Axis(0), group).zip(scans.chunks_mut(group));
            for (g, (queries, scans)) in groups.enumerate() {
                self.part("score", i * parts + g, i * parts + g + 1, all);
                let numbers = g * group..g * group + queries.nrows();
                let mut bounds = has_bounds.then(|| &mut bounds[..queries.nrows() * n]);
                decoder.lend_rows(queries.nrows())?.assign(&queries);
                let sampled = in_sample(i * parts + g, first + n == rows && g + 1 == parts);
                let filled = if sampled { Before::Unwritten } else { Before::Anything };
                // All estimates of a call, where they are compared with others.
                let (to_compare, to_repeat) = (first == 0 && g == 0, at_an_end && g + 1 == parts);
                let mut kept =
                    vec![0.0; if to_compare || to_repeat { queries.nrows() * n } else { 0 }];
                let mut rows = kept.chunks_exact_mut(n);
                let mut states: Vec<_> = scans.iter_mut().map(|scan| (scan, rows.next())).collect();
                decoder.during("score", |peer| {
                    let bounds = bounds.as_deref_mut();
                    let of = (first, n);
                    let see = |(scan, kept): &mut (&mut Scan, Option<&mut [f32]>),
                               from: usize,
                               scores: &[f32]| {
                        // A scan ranks larger scores first.
                        scan.push((first + from) as u32, scores);
                        if let Some(kept) = kept {
                            kept[from..from + scores.len()].copy_from_slice(scores);
                        }
                    };
                    // Queries are new to the first block alone, and calls that are timed have no bounds.
                    let new = (first == 0 && !has_bounds).then_some(queries.nrows() * n);
                    unseen.call(new, peer.processes(), || {
                        peer.score_into(
                            numbers.clone(),
                            of,
                            negated,
                            bounds,
                            filled,
                            (&mut states, see),
                        )
                    })
                })?;
                if let (Some(claimed), Some(bounds)) = (&mut claimed, &bounds) {
                    for (slot, pair) in here.iter().enumerate() {
                        if numbers.contains(&(pair.query as usize)) {
                            let query = pair.query as usize - numbers.start;
                            let at = query * n + pair.row as usize - first;
                            claimed[before + slot] = f64::from(bounds[at]);
                        }
                    }
                }
                if to_compare {
                    let matrix = ArrayView2::from_shape((queries.nrows(), n), &kept);
                    let sign = if negated { -1.0 } else { 1.0 };
                    compared = Some(matrix.map_err(Failure::failed)?.mapv(|score| sign * score));
                }
                if to_repeat {
                    last = Some(kept);
                }
            }
            // The last group once more, from codes that were packed over other bytes.
            if let Some(scores) = last {
                self.pack_again(decoder, codes, (first, n), group, &scores, negated)?;
            }
            // After what is packed is known to be whole.
            if let Some(scores) = compared {
                encoded.witness.scored_alike(scores.view())?;
            }
            before += here.len();
        }
        let columns = watched.ncols();
        let mut scored = Scored {
            ranked: Vec::with_capacity(scans.len()),
            watched: Array2::zeros((scans.len(), columns)),
            estimates: vec![0.0; pairs.pairs().len()],
            bounds: claimed,
            unseen,
        };
        let seen: Vec<_> = scans.into_par_iter().map(Scan::finish).collect();
        for (query, (of, slots)) in seen.into_iter().zip(slots).enumerate() {
            scored.ranked.push(of.ranked);
            let (neighbours, sampled) = of.watched.split_at(columns);
            scored.watched.row_mut(query).iter_mut().zip(neighbours).for_each(|(to, v)| *to = *v);
            for (slot, score) in slots.into_iter().zip(sampled) {
                let score = f64::from(*score);
                let estimate = if negated { -score } else { score };
                scored.estimates[slot] = self.of_whole_rows(query, estimate);
            }
        }
        Ok(scored)
    }

    /// That packed bytes which packing leaves unwritten do not count: the queries that are still lent
    /// score the same.
    fn pack_again(
        &self,
        decoder: &mut Peer<'_>,
        codes: &Codes,
        (first, n): (usize, usize),
        group: usize,
        scores: &[f32],
        negated: bool,
    ) -> Result<(), Failure> {
        let queries = self.queries.nrows();
        let last = (queries - 1) % group + 1;
        let from = queries - last;
        let mut again = vec![0.0; last * n];
        let mut other = |decoder: &mut Peer<'_>| {
            decoder.during("score", |peer| {
                peer.score(from..queries, (first, n), negated, &mut again, Before::Unwritten)
            })?;
            let at = (0..again.len()).find(|at| again[*at].to_bits() != scores[*at].to_bits());
            Ok::<_, Failure>(
                at.map(|at| format!("query {} and code {}", from + at / n, first + at % n)),
            )
        };
        // First as they are packed, so that only packing is blamed for what comes of packing.
        if let Some(which) = other(decoder)? {
            return Err(Failure::invalid(format!(
                "score gave another estimate for {which} when it was asked again"
            )));
        }
        codes.read(first, decoder.lend_codes(n * codes.width())?)?;
        decoder.pack(n, FILLS[1])?;
        decoder.lend_rows(last)?.assign(&self.posed().slice(s![from.., ..]));
        match other(decoder)? {
            None => Ok(()),
            Some(which) => Err(Failure::invalid(format!(
                "pack left bytes unwritten that score reads: {which} have another estimate when the \
                 codes are packed again"
            ))),
        }
    }

    /// Times the scorer on the first codes.
    pub(super) fn time_score(
        &self,
        decoder: &mut Peer<'_>,
        codes: &Codes,
        unseen: &Unseen,
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let (n, group) = self.per_score(codes, false);
        let queries = group.min(self.queries.nrows());
        self.part("pack", 0, 0, 1);
        codes.read(0, decoder.lend_codes(n * codes.width())?)?;
        decoder.pack(n, FILLS[0])?;
        decoder.lend_rows(queries)?.assign(&self.posed().slice(s![..queries, ..]));
        let mut expected = vec![0.0; queries * n];
        let warm = decoder.score(0..queries, (0, n), false, &mut expected, Before::Unwritten)?;
        let timed = Timed {
            function: "score",
            name: "score_codes_per_s",
            items: queries,
            worth: n,
            beside: Duration::ZERO,
            bytes: 4 * (self.dim_seen() + n),
            unseen,
            expected: &expected,
            spoilt: |_: f32| f32::NAN,
        };
        let request = |queries| Request::Score { queries, bounds: false };
        time(self, decoder, &timed, Some(warm), request, metrics).map(drop)
    }
}

/// A scan for each query, of its neighbours `watched` (queries, m) and its rows among `pairs`; and the
/// positions of the latter in `pairs`.
fn scans(
    watched: ArrayView2<'_, u32>,
    pairs: &QueryPairs,
    keep: usize,
) -> (Vec<Scan>, Vec<Vec<usize>>) {
    let mut slots = vec![Vec::new(); watched.nrows()];
    for (slot, pair) in pairs.pairs().iter().enumerate() {
        slots[pair.query as usize].push(slot);
    }
    let scan = |(neighbours, slots): (ArrayView1<'_, u32>, &Vec<usize>)| {
        let sampled = slots.iter().map(|slot| pairs.pairs()[*slot].row);
        Scan::watching(neighbours.iter().copied().chain(sampled), keep)
    };
    let scans = watched.rows().into_iter().zip(&slots).map(scan).collect();
    (scans, slots)
}
