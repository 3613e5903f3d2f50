//! How long one query takes over all codes, with one thread.

use super::encode::Encoded;
use super::peer::{Before, Peer};
use super::scan::FILLS;
use super::unseen::{Spent, Unseen};
use super::usage::cpu_time;
use super::{Cell, Codes, Metrics};
use crate::metric::latency;
use crate::worker::exchange::{ROOM, Request};
use crate::worker::reporter::Failure;
use ndarray::{Array2, s};
use std::time::{Duration, Instant};
use vq_plugin_api::extension::search::Misplaced;

/// Wall time that all queries together may take, what lies around their calls included.
const AT_MOST: Duration = Duration::from_secs(1);
/// CPU time in wall time above which a call had more than one thread.
const ONE_THREAD: f64 = 1.15;

impl Cell<'_> {
    /// Times single queries against all codes, block after block, by the method's own search (for
    /// `most_k`) or else by its scorer; nothing for a method with neither.
    ///
    /// Each block is packed once, and not in the time. There are as many queries as fit into
    /// [`AT_MOST`], and one at least. They were asked before, in calls that are `unseen`.
    pub(super) fn latency(
        &self,
        decoder: &mut Peer<'_>,
        encoded: &Encoded,
        codes: &Codes,
        most_k: usize,
        unseen: Option<&Unseen>,
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let searches = encoded.opened.search.is_some();
        if !searches && !encoded.opened.scorer {
            return Ok(());
        }
        let rows = self.data.base.rows;
        let most = if searches { usize::MAX } else { ROOM / 4 };
        let per_call = (ROOM / codes.width()).min(most).min(rows).max(1);
        let blocks: Vec<_> = self.blocks(per_call).collect();
        let mut queries = self.queries.nrows();
        let mut times = vec![Duration::ZERO; queries];
        let mut first_scores = Array2::zeros((queries.min(4), per_call));
        let (cpu, mut wall) = (cpu_time(decoder.processes()), Duration::ZERO);
        let mut alone = Duration::ZERO;
        decoder.alone(true)?;
        let mut call = Call { searches, k: most_k, scores: Vec::new(), ids: Vec::new() };
        for (i, (first, n)) in blocks.iter().copied().enumerate() {
            self.part("time one query", i, i + 1, blocks.len());
            codes.read(first, decoder.lend_codes(n * codes.width())?)?;
            decoder.pack_by(&match searches {
                true => Request::PackForSearch { codes: n, fill: FILLS[0] },
                false => Request::Pack { codes: n, fill: FILLS[0] },
            })?;
            if i == 0 {
                // The first call warms up, the second tells how many there may be.
                call.make(self, decoder, 0, (first, n))?;
                let started = Instant::now();
                call.make(self, decoder, 0, (first, n))?;
                let all = started.elapsed().as_secs_f64().max(1e-9) * blocks.len() as f64;
                queries = queries.min((AT_MOST.as_secs_f64() / all) as usize).max(1);
            }
            let before = cpu_time(decoder.processes());
            for (query, time) in times.iter_mut().enumerate().take(queries) {
                let took = call.make(self, decoder, query, (first, n))?;
                *time += took;
                wall += took;
                if i == 0 && !searches && query < first_scores.nrows() {
                    let scores = ndarray::ArrayView1::from(&call.scores[..]);
                    first_scores.slice_mut(s![query, ..n]).assign(&scores);
                }
            }
            alone += cpu_time(decoder.processes()).saturating_sub(before);
        }
        decoder.alone(false)?;
        if !searches && queries >= first_scores.nrows() {
            encoded.witness.scored_alike(first_scores.view())?;
        }
        // Packing is in the CPU time, but not in the other.
        let cpu = cpu_time(decoder.processes()).saturating_sub(cpu);
        if blocks.len() == 1 && cpu.as_secs_f64() > ONE_THREAD * wall.as_secs_f64() + 0.1 {
            metrics.notice(
                "one query had more than the one thread that it was lent: its latency does not \
                 compare"
                    .to_owned(),
            );
        }
        let mut seconds: Vec<f64> = times[..queries].iter().map(Duration::as_secs_f64).collect();
        let bytes = rows * codes.width();
        seconds.sort_by(f64::total_cmp);
        let middle = seconds[queries / 2];
        // By what the processors did, where that can be told: new queries had more of them.
        let cpu = alone.as_secs_f64() / queries as f64;
        let wall = if cpu > 0.0 { 0.0 } else { middle / self.of.threads as f64 };
        let again = Spent { wall, cpu };
        if unseen.is_some_and(|unseen| unseen.beyond(again, rows, bytes).is_some()) {
            metrics.notice(
                "one query that was seen before takes less than a third of what it took when it was new, and is answered from \
                 memory: its latency is not known"
                    .to_owned(),
            );
            return Ok(());
        }
        metrics.add_named(latency(seconds, bytes), "")
    }
}

/// Calls for one query, and what they put out.
struct Call {
    searches: bool,
    /// Rows that a search is asked for.
    k: usize,
    scores: Vec<f32>,
    ids: Vec<u64>,
}

impl Call {
    /// Asks for `query` among the `n` packed codes, which are those from `first` on; answers how long
    /// that took. What comes back is whole, or it is an error.
    fn make(
        &mut self,
        cell: &Cell<'_>,
        decoder: &mut Peer<'_>,
        query: usize,
        (first, n): (usize, usize),
    ) -> Result<Duration, Failure> {
        decoder.lend_rows(1)?.assign(&cell.posed().slice(s![query..=query, ..]));
        if !self.searches {
            self.scores.resize(n, 0.0);
            let of = query..query + 1;
            return decoder.score(of, (first, n), false, &mut self.scores, Before::Unwritten);
        }
        let k = self.k.min(n);
        self.scores.resize(k, 0.0);
        self.ids.resize(k, 0);
        let outputs = (&mut self.ids[..], &mut self.scores[..]);
        let request = Request::Search { queries: 1, k };
        let took = decoder.two_outputs("search", &request, outputs, Before::Unwritten)?;
        match Misplaced::first(cell.data.metric.into(), n, &self.ids, &self.scores) {
            None => Ok(took),
            Some(wrong) => Err(Failure::invalid(format!(
                "search returned an answer that cannot be for query {query} alone: {wrong}"
            ))),
        }
    }
}
