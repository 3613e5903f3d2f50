//! The decoder's second part: the queries are lent, and the method's own scorer searches.

use super::encode::Encoded;
use super::peer::{Before, Peer};
use super::timing::{Timed, time};
use super::{CODES_PER_SCORE, Cell, Codes, Metrics, QUERIES_PER_SCORE, in_sample};
use crate::data::Metric;
use crate::metric::{QueryPairs, Scan};
use crate::worker::exchange::{ROOM, Request};
use crate::worker::reporter::Failure;
use ndarray::{Array2, ArrayView2, Axis, s};

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
}

impl Cell<'_> {
    /// Codes and queries of one call to the scorer, whose outputs must have room.
    fn per_score(&self, codes: &Codes, bounds: bool) -> (usize, usize) {
        let n = (ROOM / codes.width()).min(CODES_PER_SCORE).min(self.data.base.rows).max(1);
        let outputs = if bounds { 2 } else { 1 };
        // A block of many codes is worth more than one of many queries.
        let queries = (ROOM / (4 * outputs * n)).min(ROOM / (4 * self.data.dim));
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
        let groups = watched.axis_chunks_iter(Axis(0), group);
        let mut scans: Vec<Scan> = groups.map(|group| Scan::watching(group, keep)).collect();
        let mut scored = Scored {
            ranked: Vec::new(),
            watched: Array2::zeros((0, watched.ncols())),
            estimates: vec![0.0; pairs.pairs().len()],
            bounds: has_bounds.then(|| vec![0.0; pairs.pairs().len()]),
        };
        let negated = self.data.metric == Metric::L2;
        let mut scores = vec![0.0; group * per_call];
        let mut bounds = vec![0.0; if has_bounds { scores.len() } else { 0 }];
        let parts = self.queries.nrows().div_ceil(group);
        let all = parts * rows.div_ceil(per_call);
        let mut before = 0;
        let mut compared = None;
        for (i, (first, n)) in self.blocks(per_call).enumerate() {
            self.part("pack", i * parts, i * parts, all);
            codes.read(first, decoder.lend_codes(n * codes.width())?)?;
            decoder.pack(n, FILLS[0])?;
            let here = pairs.in_rows(first, n);
            for (g, queries) in self.queries.axis_chunks_iter(Axis(0), group).enumerate() {
                self.part("score", i * parts + g, i * parts + g + 1, all);
                let numbers = g * group..g * group + queries.nrows();
                let scores = &mut scores[..queries.nrows() * n];
                let mut bounds = has_bounds.then(|| &mut bounds[..queries.nrows() * n]);
                decoder.lend_rows(queries.nrows())?.assign(&queries);
                let sampled = in_sample(i * parts + g, first + n == rows && g + 1 == parts);
                let filled = if sampled { Before::Unwritten } else { Before::Anything };
                decoder.during("score", |peer| {
                    let bounds = bounds.as_deref_mut();
                    peer.score(numbers.clone(), (first, n), negated, scores, bounds, filled)
                })?;
                for (slot, pair) in here.iter().enumerate() {
                    if numbers.contains(&(pair.query as usize)) {
                        let at =
                            (pair.query as usize - numbers.start) * n + pair.row as usize - first;
                        let score = f64::from(scores[at]);
                        scored.estimates[before + slot] = if negated { -score } else { score };
                        if let (Some(claimed), Some(bounds)) = (&mut scored.bounds, &bounds) {
                            claimed[before + slot] = f64::from(bounds[at]);
                        }
                    }
                }
                // A scan ranks larger scores first.
                let matrix = ArrayView2::from_shape((queries.nrows(), n), &*scores);
                let matrix = matrix.map_err(Failure::failed)?;
                if first == 0 && g == 0 {
                    let sign = if negated { -1.0 } else { 1.0 };
                    compared = Some(matrix.mapv(|score| sign * score));
                }
                scans[g].push_scores(first as u32, matrix);
            }
            // The last group once more, from codes that were packed over other bytes.
            if first == 0 || first + n == rows {
                self.pack_again(decoder, codes, (first, n), group, &scores, negated)?;
            }
            // After what is packed is known to be whole.
            if let Some(scores) = compared.take() {
                encoded.witness.scored_alike(scores.view())?;
            }
            before += here.len();
        }
        for scan in scans {
            let of = scan.finish();
            scored.ranked.extend(of.ranked);
            scored.watched.append(Axis(0), of.watched.view()).map_err(Failure::failed)?;
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
                peer.score(from..queries, (first, n), negated, &mut again, None, Before::Unwritten)
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
        decoder.lend_rows(last)?.assign(&self.queries.slice(s![from.., ..]));
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
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let (n, group) = self.per_score(codes, false);
        let queries = group.min(self.queries.nrows());
        self.part("pack", 0, 0, 1);
        codes.read(0, decoder.lend_codes(n * codes.width())?)?;
        decoder.pack(n, FILLS[0])?;
        decoder.lend_rows(queries)?.assign(&self.queries.slice(s![..queries, ..]));
        let mut expected = vec![0.0; queries * n];
        decoder.score(0..queries, (0, n), false, &mut expected, None, Before::Unwritten)?;
        let timed = Timed {
            function: "score",
            name: "score_codes_per_s",
            items: queries,
            worth: n,
            expected: &expected,
            spoilt: |_: f32| f32::NAN,
        };
        let request = |queries| Request::Score { queries, bounds: false };
        time(self, decoder, &timed, request, metrics)
    }
}
