//! The referee of a cell: it has the rows and no plugin code, has two engines make the calls, and
//! compares.
//!
//! ```text
//! encoder  create · fit · save ─► encode the base block by block ─► encode the queries ─► gone
//!                            codes, model (files) ▼
//! decoder  create · load ─► decode everything ─► only now the queries: score
//! referee  rows in, codes out · decoded rows against raw ones · exact distances of what was found
//! ```
//!
//! Nothing holds the base: memory is a block of raw and one of decompressed rows, and what each
//! query found. Every result but the timings has the same bits for any block size and number of
//! threads. What a method keeps beside its model and its codes does not reach the decoder, so
//! that nothing but stored bytes carries information; where that cannot be held, the record says
//! so (`unproven`).

mod beyond;
mod encode;
mod latency;
mod peer;
mod revisit;
mod scan;
mod search;
mod second;
mod timing;
mod turned;
mod unseen;
mod usage;
mod walk;

use crate::data::{DataError, Metric, Prepared, Rows, Truth};
use crate::metric::retrieval::{RANK_DEPTH, found_needed, largest_k};
use crate::metric::{
    DECODED, Family, Hits, QueryPairs, RetrievalMetric, SEARCH, SYMMETRIC, estimator,
    rank_agreement, ratio_source, retrieval, size,
};
use crate::record::{MetricValue, QueryRecalls};
use crate::worker::fault::HostFault;
use crate::worker::protocol::{Measured, Measurement, Message, Role, Stage};
use crate::worker::reporter::{Failure, Reporter};
use beyond::Attended;
use encode::Encoded;
use ndarray::{Array2, Axis};
use nix::errno::Errno;
use peer::Peer;
use revisit::{Known, Visits};
use scan::Scored;
use search::Asked;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use turned::Turned;
use usage::{Usage, cpu_time};
use vq_plugin_api::Metric as PluginMetric;
use walk::Decoded;

/// Bytes of raw rows per block, unless told otherwise.
const BLOCK_BYTES: usize = 8 << 20;
/// Codes that the scorer sees per call: enough that its work per query does not count.
const CODES_PER_SCORE: usize = 1 << 16;
/// Queries that the scorer sees per call.
const QUERIES_PER_SCORE: usize = 32;
/// Seed of the sampled pairs: the same pairs for every method and every cell seed, so that
/// methods differ only by what they do.
const PAIR_SEED: u64 = 0x5EED_0F9A_1125;
/// Training rows that a method which needs none is fitted with in the decoder.
const MADE_UP: usize = 256;

/// True for the calls of a walk whose outputs are filled before, so that unwritten ones show: the
/// first two, the last, and some between.
fn in_sample(call: usize, last: bool) -> bool {
    call < 2 || last || call % 8 == 3
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Failure::Host(error.into())
    }
}

impl From<Metric> for PluginMetric {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::L2 => PluginMetric::L2,
            Metric::Ip => PluginMetric::Ip,
            Metric::Cosine => PluginMetric::Cosine,
        }
    }
}

/// Makes room for `bytes` in `file`, so that a full disk shows before anything is written.
///
/// That there is none for as much as is `fair` is the host's fault. Where a method wants more than
/// that (`what` says what it promised), it is the method's.
fn reserve(
    file: &File,
    bytes: u64,
    fair: u64,
    what: impl FnOnce() -> String,
) -> Result<(), Failure> {
    allocate(file, bytes.min(fair)).map_err(unkept)?;
    if bytes <= fair {
        return Ok(());
    }
    allocate(file, bytes).map_err(|error| {
        match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => {
                // Others need what was taken of it.
                let _ = file.set_len(0);
                Failure::failed(format!("{}, for which the disk has no room", what()))
            }
            _ => unkept(error),
        }
    })
}

fn allocate(file: &File, bytes: u64) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    match nix::fcntl::posix_fallocate(file, 0, i64::try_from(bytes).unwrap_or(i64::MAX)) {
        // Nothing to make room for, or a file system that cannot promise any.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EINVAL) => {}
        Err(error) => return Err(error.into()),
    }
    file.set_len(bytes)
}

/// What could not be put aside, or not be read back.
fn unkept(error: std::io::Error) -> Failure {
    Failure::Host(HostFault::keep("the cache", &error))
}

/// Measures `cell` by its engines, with what was `lent`: socket, lent and filled area of the encoder,
/// the same of the decoder, files for codes and model. `candidates` is where the rows that a first code
/// finds are handed on to the second.
///
/// # Errors
/// The plugin's failure or broken promise, the end of an engine, or data that cannot be read.
pub(crate) fn measure(
    of: &Measurement,
    lent: [OwnedFd; 8],
    candidates: Option<OwnedFd>,
    reporter: &Reporter,
) -> Result<Measured, Failure> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(of.threads)
        .build_global()
        .map_err(|e| HostFault::Threads { threads: of.threads, reason: e.to_string() })?;
    // On a thread of the pool, so that none has to be woken for work that one does alone.
    rayon::scope(|_| measure_in_pool(of, lent, candidates, reporter))
}

fn measure_in_pool(
    of: &Measurement,
    lent: [OwnedFd; 8],
    candidates: Option<OwnedFd>,
    reporter: &Reporter,
) -> Result<Measured, Failure> {
    let started = Instant::now();
    let usage = Usage::default();
    let [es, el, ef, ds, dl, df, codes, model] = lent;
    let cell = Cell::new(of, candidates.map(File::from), &usage, reporter)?;
    let (shape, [encoder, decoder]) = ((cell.dim_seen(), of.threads), of.engines);
    let mut encoder = Peer::new(Role::Encoder, encoder, shape, [es, el, ef], &usage, reporter)?;
    let mut decoder = Peer::new(Role::Decoder, decoder, shape, [ds, dl, df], &usage, reporter)?;
    let (mut codes, model) = (Codes::new(codes), File::from(model));
    let mut metrics = Metrics::default();
    let encoded = cell.encode(&mut encoder, &mut codes, &model, &mut metrics)?;
    cell.size(&encoded, &mut metrics)?;

    let mut waited = Duration::ZERO;
    let together = cell.of.together.clone().or_else(|| cell.together(&encoded));
    match together {
        Some(_) => {
            cell.quality(&mut encoder, &encoded, &codes, &mut metrics)?;
            cell.leave(encoder, started)?;
        }
        None => {
            let from = Instant::now();
            cell.leave(encoder, started)?;
            cell.take_over(&mut decoder, &encoded, &model)?;
            waited = from.elapsed();
            let began = Instant::now();
            cell.quality(&mut decoder, &encoded, &codes, &mut metrics)?;
            cell.leave(decoder, began)?;
        }
    }
    metrics.add("fit_s", encoded.fit_s)?;
    metrics.add("empty_call_s", encoded.empty_call.as_secs_f64())?;
    Ok(Measured {
        metrics: metrics.values,
        recalls: metrics.recalls,
        block_rows: cell.block_rows,
        // To change from one process to the other is no part of it.
        measured_s: (started.elapsed() - waited).as_secs_f64(),
        threads_used: usage.most_threads(),
        unproven: of.unproven.clone().or(together),
        notices: metrics.notices,
    })
}

/// The metrics of a cell as they come together.
#[derive(Default)]
struct Metrics {
    values: Vec<MetricValue>,
    recalls: Vec<QueryRecalls>,
    notices: Vec<String>,
}

impl Metrics {
    fn add(&mut self, name: impl Into<String>, value: f64) -> Result<(), Failure> {
        self.values.push(MetricValue::new(name, value).map_err(Failure::failed)?);
        Ok(())
    }

    fn add_named(&mut self, named: Vec<(&'static str, f64)>, suffix: &str) -> Result<(), Failure> {
        named.into_iter().try_for_each(|(name, value)| self.add(format!("{name}{suffix}"), value))
    }

    /// The same with standard errors.
    fn add_means(
        &mut self,
        named: Vec<(&'static str, f64, Option<f64>)>,
        suffix: &str,
    ) -> Result<(), Failure> {
        for (name, value, error) in named {
            let metric = MetricValue::with_error(format!("{name}{suffix}"), value, error);
            self.values.push(metric.map_err(Failure::failed)?);
        }
        Ok(())
    }

    fn add_retrieval(&mut self, of: Vec<RetrievalMetric>, suffix: &str) -> Result<(), Failure> {
        for RetrievalMetric { name, value, standard_error, hits } in of {
            let metric = MetricValue::with_error(name + suffix, value, standard_error);
            self.values.push(metric.map_err(Failure::failed)?);
            // The plain name's alone: the method at its best.
            if let (Some(Hits { k, by_query }), "") = (hits, suffix) {
                let recalls = QueryRecalls::new(k as u32, by_query).map_err(Failure::failed)?;
                self.recalls.push(recalls);
            }
        }
        Ok(())
    }

    fn notice(&mut self, notice: String) {
        self.notices.push(notice);
    }

    /// The median with the extremes.
    fn add_timed(&mut self, name: &str, mut values: Vec<f64>) -> Result<(), Failure> {
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return Ok(()) };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        let value = MetricValue::with_range(name, median, *min, *max).map_err(Failure::failed)?;
        self.values.push(value);
        Ok(())
    }
}

/// The codes of the base, in a file without a name.
struct Codes {
    file: File,
    width: usize,
}

impl Codes {
    fn new(file: OwnedFd) -> Self {
        Codes { file: File::from(file), width: 0 }
    }

    /// From here on codes have `width` bytes, which are those of vectors (rows, dim).
    fn begin(&mut self, width: usize, rows: usize, dim: usize) -> Result<(), Failure> {
        self.width = width;
        let (n, raw) = (rows as u64, 4 * dim);
        reserve(&self.file, n * width as u64, n * raw as u64, || {
            let all = bytesize::ByteSize(n * width as u64);
            format!("code_bytes() is {width} for vectors of {raw} bytes, {all} for all {n} codes")
        })
    }

    fn width(&self) -> usize {
        self.width
    }

    /// Puts down the codes of the rows from `first` on.
    fn write(&self, first: usize, codes: &[u8]) -> Result<(), Failure> {
        self.file.write_all_at(codes, first as u64 * self.width as u64).map_err(unkept)
    }

    /// Fills `codes` with those of the rows from `first` on.
    fn read(&self, first: usize, codes: &mut [u8]) -> Result<(), Failure> {
        self.file.read_exact_at(codes, first as u64 * self.width as u64).map_err(unkept)
    }
}

/// Rows that were found for each query, the best first.
struct Found {
    /// By raw queries among decompressed rows.
    decoded: Vec<Vec<u32>>,
    /// By decompressed queries.
    symmetric: Vec<Vec<u32>>,
    /// By the method's own estimates.
    scored: Option<Vec<Vec<u32>>>,
    /// By the method's own search.
    searched: Searched,
}

/// What the method's own search finds.
enum Searched {
    /// It has none.
    Nothing,
    /// What its estimates rank first, as it claims, which was proved for some of the queries.
    AsScored,
    /// These rows for each query, the best first.
    Found(Vec<Vec<u32>>),
}

/// The rows alone.
fn numbers(ranked: Vec<Vec<(f32, u32)>>) -> Vec<Vec<u32>> {
    let rows = ranked.into_iter();
    rows.map(|found| found.into_iter().map(|(_, row)| row).collect()).collect()
}

/// Rows and queries whose distances are the true ones.
struct Judge {
    metric: Metric,
    base: Rows,
    queries: Array2<f32>,
}

/// A cell and its data.
struct Cell<'a> {
    of: &'a Measurement,
    /// What a first code found, best first (queries, c); this one ranks it.
    candidates: Option<Array2<u32>>,
    /// Where this one's findings go, if another code is to rank them.
    hands_on: Option<File>,
    data: &'a Prepared,
    base: Rows,
    queries: Array2<f32>,
    /// What is done to rows before the method sees them; nothing where it sees them as they are.
    turned: Option<Turned>,
    truth: Truth,
    /// What found rows are judged by.
    judge: Judge,
    known: Known,
    block_rows: usize,
    usage: &'a Usage,
    reporter: &'a Reporter,
}

impl<'a> Cell<'a> {
    fn new(
        of: &'a Measurement,
        file: Option<File>,
        usage: &'a Usage,
        reporter: &'a Reporter,
    ) -> Result<Self, Failure> {
        let data = &of.data;
        let rows = (BLOCK_BYTES / 4 / data.dim).clamp(1, 1 << 16);
        let (truth, known) = Known::read(data)?;
        let queries = data.queries.open()?.read_all()?;
        let judge = match &data.judge {
            Some(judge) => Judge {
                metric: judge.metric,
                base: judge.base.open()?,
                queries: judge.queries.open()?.read_all()?,
            },
            None => {
                Judge { metric: data.metric, base: data.base.open()?, queries: queries.clone() }
            }
        };
        let candidates = match (of.stage, &file) {
            (Stage::Second, Some(file)) => Some(second::read(file, queries.nrows())?),
            _ => None,
        };
        let turned = match of.transform.is_empty() {
            true => None,
            false => Some(Turned::learn(of, queries.view(), reporter)?),
        };
        Ok(Cell {
            of,
            candidates,
            hands_on: file.filter(|_| of.stage == Stage::First),
            data,
            base: data.base.open()?,
            queries,
            turned,
            truth,
            judge,
            known,
            block_rows: of.block_rows.unwrap_or(rows).clamp(1, data.base.rows.max(1)),
            usage,
            reporter,
        })
    }

    /// Rows of a block whose codes have room too.
    fn step(&self, peer: &Peer<'_>) -> usize {
        self.block_rows.min(peer.most_rows())
    }

    /// The same in a pass over what the method has not seen, where a second call tells what it takes: the first maps its
    /// memory as well.
    fn unseen_step(&self, step: usize) -> usize {
        step.min(self.data.base.rows.div_ceil(2)).max(1)
    }

    /// Bytes that go in and come out where a row is encoded or decoded.
    fn bytes_moved(&self, codes: &Codes) -> usize {
        4 * self.dim_seen() + codes.width()
    }

    /// The blocks of the base, `step` rows each, as (first row, rows).
    fn blocks(&self, step: usize) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.data.base.rows;
        (0..rows).step_by(step).map(move |first| (first, step.min(rows - first)))
    }

    /// What comes next is the part `from` to `to` of `stage`, in parts of `of`.
    fn part(&self, stage: &str, from: usize, to: usize, of: usize) {
        let share = |at: usize| at as f32 / of.max(1) as f32;
        self.reporter.part(stage, share(from), share(to));
    }

    /// What comes next is about the rows from `first` on.
    fn rows(&self, stage: &str, first: usize, len: usize) {
        self.part(stage, first, first + len, self.data.base.rows);
    }

    fn size(&self, encoded: &Encoded, metrics: &mut Metrics) -> Result<(), Failure> {
        let fitted = encoded.fitted;
        // What is done to rows before is a part of the model.
        let more = self.turned.as_ref().map_or(0, Turned::bytes);
        let stated = fitted.model_bytes.map(|bytes| bytes.saturating_add(more));
        let saved = encoded.model.as_ref().map(|model| model.bytes as u64 + more);
        let model = stated.max(saved).and_then(|bytes| usize::try_from(bytes).ok());
        let of = size(self.data.base.rows, self.data.dim, fitted.code_bytes, model);
        metrics.add("code_bytes", fitted.code_bytes as f64)?;
        metrics.add_named(of.named(), "")?;
        let source_bits = self.data.source_bits;
        metrics.add("source_bits_per_dim", source_bits)?;
        let of_source = ratio_source(source_bits, self.data.dim, fitted.code_bytes);
        of_source.map_or(Ok(()), |ratio| metrics.add("ratio_source", ratio))?;
        stated.map_or(Ok(()), |bytes| metrics.add("model_bytes", bytes as f64))?;
        saved.map_or(Ok(()), |bytes| metrics.add("model_saved_bytes", bytes as f64))?;
        fitted.ratio.map_or(Ok(()), |ratio| metrics.add("ratio_claimed", ratio))
    }

    /// Why the encoder must decode as well, if another process cannot have what it needs.
    fn together(&self, encoded: &Encoded) -> Option<String> {
        let opened = &encoded.opened;
        if encoded.model.is_some() {
            None
        } else if !opened.deterministic {
            Some("it neither saves its model nor is deterministic".into())
        } else if opened.needs_training && !self.data.train_apart {
            Some("it does not save its model, and learned from rows that it is measured on".into())
        } else {
            None
        }
    }

    /// Makes the decoder what the encoder was when it saved.
    fn take_over(
        &self,
        decoder: &mut Peer<'_>,
        encoded: &Encoded,
        model: &File,
    ) -> Result<(), Failure> {
        let opened = decoder.open()?;
        if opened != encoded.opened {
            return Err(Failure::invalid("create made another method in another process"));
        }
        let fitted = match &encoded.model {
            Some(saved) => decoder.load(model, saved)?,
            None if opened.needs_training => {
                self.fit(decoder, &self.data.train.open()?, opened.code_bytes)?.0
            }
            None => decoder.fit_made_up(MADE_UP, opened.code_bytes)?,
        };
        if fitted.code_bytes != encoded.fitted.code_bytes {
            return Err(Failure::invalid(format!(
                "code_bytes() was {} when the codes were made and is {} where they are decoded",
                encoded.fitted.code_bytes, fitted.code_bytes
            )));
        }
        encoded.witness.decodes_as_well(
            decoder,
            match &encoded.model {
                Some(_) => "has only the model and the codes",
                None => "was fitted again",
            },
        )
    }

    /// Has the instance of `engine` given up, and waits until its process is gone.
    fn leave(&self, mut engine: Peer<'_>, began: Instant) -> Result<(), Failure> {
        engine.destroy()?;
        // All of it, so that threads that work on after a call are seen too.
        self.usage.add("all", began.elapsed(), cpu_time(engine.processes()));
        let role = engine.role();
        self.reporter.send(&Message::Left(role));
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(1..) => Ok(()),
            _ => Err(HostFault::Begin { reason: "its parent is gone".into() }.into()),
        }
    }

    /// Reconstruction, estimator and retrieval, and the rates of decoding and scoring.
    fn quality(
        &self,
        decoder: &mut Peer<'_>,
        encoded: &Encoded,
        codes: &Codes,
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let rows = self.data.base.rows;
        let evaluation = &self.of.evaluation;
        let most_k = largest_k(&evaluation.k, rows);
        let most = found_needed(&evaluation.k, &evaluation.rerank, rows);
        let depth = self.attended();
        let sampled =
            if evaluation.has(Family::Estimator) || depth > 0 { evaluation.pairs } else { 0 };
        let pairs = QueryPairs::new(self.queries.nrows(), rows, sampled, PAIR_SEED);
        // What a second code itself would find is not asked.
        let (keep, most_k) = match self.candidates {
            Some(_) => (1, 1),
            None => (most.max(depth), most_k),
        };
        let decoded = self.decode(decoder, encoded, codes, &pairs, (keep, most_k), metrics)?;
        let opened = &encoded.opened;
        let scored = match opened.scorer {
            true => {
                self.scores_as_well(decoder, encoded, codes)?;
                let watched = self.watched();
                let scored = self.scan(decoder, codes, encoded, watched.view(), keep, &pairs)?;
                self.time_score(decoder, codes, &scored.unseen, metrics)?;
                Some(scored)
            }
            false => None,
        };
        let (searched, unseen) =
            match (opened.search.filter(|_| self.candidates.is_none()), &scored) {
                (Some(true), Some(scored)) => {
                    let asked = Asked::some(self.posed());
                    let searched = self.search(decoder, codes, &asked, most)?;
                    let metric = self.data.metric;
                    search::ranks_the_estimates(&asked, &searched.found, &scored.ranked, metric)?;
                    metrics.add("search_compared", asked.len() as f64)?;
                    self.time_search(decoder, codes, (&asked, &searched.unseen), most, metrics)?;
                    (Searched::AsScored, Some(searched.unseen))
                }
                (Some(_), _) => {
                    let asked = Asked::all(self.posed());
                    let searched = self.search(decoder, codes, &asked, most)?;
                    self.time_search(decoder, codes, (&asked, &searched.unseen), most, metrics)?;
                    (Searched::Found(numbers(searched.found)), Some(searched.unseen))
                }
                (None, _) => (Searched::Nothing, None),
            };
        if evaluation.has(Family::Latency) {
            // Asked of the search where there is one.
            let of_scorer = scored.as_ref().filter(|_| opened.search.is_none());
            let unseen = unseen.as_ref().or(of_scorer.map(|scored| &scored.unseen));
            self.latency(decoder, encoded, codes, most_k, unseen, metrics)?;
        }
        self.part("decompress", 1, 1, 1);
        encoded.queries.decode_as_well(decoder)?;
        self.judge(decoded, scored, searched, (most, most_k), metrics)
    }

    /// That the scorer answers as it did in the encoder.
    fn scores_as_well(
        &self,
        decoder: &mut Peer<'_>,
        encoded: &Encoded,
        codes: &Codes,
    ) -> Result<(), Failure> {
        if decoder.role() == Role::Encoder {
            return Ok(());
        }
        let again = |reason: String| Failure::Again { reason };
        match self.witness_scores(decoder, &encoded.opened, codes) {
            Ok(scores) if encoded.witness.scores_as_well(scores.as_ref()) => Ok(()),
            Ok(_) => Err(again("its scorer answers otherwise once the model is loaded".into())),
            Err(Failure::Method { error, .. }) => {
                Err(again(format!("its scorer refuses once the model is loaded: {error}")))
            }
            Err(other) => Err(other),
        }
    }

    fn judge(
        &self,
        decoded: Decoded,
        scored: Option<Scored>,
        searched: Searched,
        (most, most_k): (usize, usize),
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let by_rows = decoded.order.unwrap_or_else(|| Array2::zeros((0, 0)));
        let by_scorer = scored.as_ref().map(|scored| scored.watched.mapv(f64::from));
        let evaluation = &self.of.evaluation;
        // Columns of neighbours, then of candidates.
        let neighbours = self.watched_neighbours();
        let at_best = by_scorer.as_ref().unwrap_or(&by_rows).view();
        let (order, of_candidates) = at_best.split_at(Axis(1), neighbours);
        if evaluation.has(Family::Order) {
            let truth = revisit::left(&self.truth.distances, RANK_DEPTH);
            metrics.add_retrieval(rank_agreement(truth, order, RANK_DEPTH), "")?;
        }
        let by_decoded = estimator(&decoded.true_values, &decoded.estimates, None);
        let tau = by_decoded.map_or(0.0, |of| of.scale);
        if evaluation.has(Family::Estimator) {
            if let Some(scored) = scored.as_ref().filter(|_| self.keeps_scale()) {
                // A bound is claimed for what the method sees.
                let bounds = scored.bounds.as_deref().filter(|_| self.keeps_all());
                let of = estimator(&decoded.true_values, &scored.estimates, bounds);
                of.map_or(Ok(()), |of| metrics.add_means(of.named(), ""))?;
            }
            let suffix = if scored.is_some() { DECODED } else { "" };
            by_decoded.map_or(Ok(()), |of| metrics.add_means(of.named(), suffix))?;
        }
        if let Some(candidates) = &self.candidates {
            let by = [
                Some(("", of_candidates)),
                Some((DECODED, by_rows.view().split_at(Axis(1), neighbours).1)),
                decoded.symmetric.as_ref().map(|of| (SYMMETRIC, of.view())),
            ];
            return self.judge_second(candidates, by.into_iter().flatten(), metrics);
        }
        let depth = self.attended();
        let ranked = match &scored {
            Some(scored) => {
                let first = |found: &Vec<(f32, u32)>| {
                    found.iter().take(depth).map(|(score, _)| f64::from(*score)).collect()
                };
                scored.ranked.iter().map(first).collect()
            }
            None => decoded.by_raw_scores,
        };
        let attended = Attended { order: order.to_owned(), ranked, tau };

        let scored = scored.map(|scored| numbers(scored.ranked));
        let found =
            Found { decoded: decoded.by_raw, symmetric: decoded.by_decoded, scored, searched };
        self.recall(found, &attended, metrics, most, most_k)
    }

    /// Measures recall of the rows found.
    fn recall(
        &self,
        found: Found,
        attended: &Attended,
        metrics: &mut Metrics,
        most: usize,
        most_k: usize,
    ) -> Result<(), Failure> {
        let Found { decoded, symmetric, scored, searched } = found;
        let of = |rows: &Vec<Vec<u32>>| Visits::unknown(rows, &self.known, 0);
        let plain =
            |rows: &Vec<Vec<u32>>| Visits::unknown(rows, &self.known, self.measured_depth(most_k));
        let mut visits = [
            Some(if scored.is_some() { of(&decoded) } else { plain(&decoded) }),
            Some(of(&symmetric)),
            scored.as_ref().map(plain),
            match &searched {
                Searched::Found(rows) => Some(of(rows)),
                Searched::Nothing | Searched::AsScored => None,
            },
        ];
        self.revisit(&mut visits)?;
        let ids = scored.as_ref().unwrap_or(&decoded);
        if let Some(file) = &self.hands_on {
            second::hand_on(file, ids, most)?;
        }
        let [decoded, symmetric, scored, found] = visits.map(|visits| visits.map(Visits::finish));
        if let Some(first) = scored.as_ref().or(decoded.as_ref()) {
            self.beyond_recall(&self.of.evaluation.k, ids, first, attended, metrics)?;
        }
        let evaluation = &self.of.evaluation;
        let judge = |mut found: Vec<Vec<f64>>, keep: usize, rerank: &[usize]| {
            found.iter_mut().for_each(|found| found.truncate(keep));
            let truth = self.truth.distances.view();
            retrieval(truth, &found, self.data.base.rows, &evaluation.k, rerank)
                .map_err(Failure::failed)
        };
        let recalls = |of: &[RetrievalMetric]| {
            let plain =
                |m: &&RetrievalMetric| m.name.starts_with("recall@") && !m.name.contains('/');
            of.iter().filter(plain).cloned().collect::<Vec<_>>()
        };
        let decoded = decoded.map(|found| match scored {
            Some(_) => judge(found, most_k, &[]),
            None => judge(found, most, &evaluation.rerank),
        });
        if let Some(decoded) = decoded.transpose()? {
            metrics.add_retrieval(recalls(&decoded), DECODED)?;
            if scored.is_none() {
                metrics.add_retrieval(decoded, "")?;
            }
        }
        let mut of_search =
            found.map(|found| judge(found, most, &evaluation.rerank)).transpose()?;
        if let Some(scored) = scored {
            let scored = judge(scored, most, &evaluation.rerank)?;
            if matches!(searched, Searched::AsScored) {
                of_search = Some(scored.clone());
            }
            metrics.add_retrieval(scored, "")?;
        }
        self.spread_of_recall(metrics)?;
        if let Some(symmetric) = symmetric {
            metrics.add_retrieval(recalls(&judge(symmetric, most_k, &[])?), SYMMETRIC)?;
        }
        if let Some(mut of) = of_search {
            of.retain(|metric| metric.name.starts_with("recall@"));
            metrics.add_retrieval(of, SEARCH)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;

    #[test]
    fn room_that_a_method_wants_beyond_what_is_fair_is_its_own_fault_and_the_rest_is_the_hosts() {
        let file = tempfile::tempfile().unwrap();
        let what = || "code_bytes() is 1".to_owned();
        reserve(&file, 4096, 4096, what).unwrap();
        reserve(&file, 8192, 4096, what).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 8192);
        // More than any disk has.
        const HUGE: u64 = 1 << 60;
        match reserve(&file, HUGE, 4096, what) {
            Err(Failure::Method { outcome: Outcome::Failed, error }) => {
                assert_eq!(error, "code_bytes() is 1, for which the disk has no room");
                assert_eq!(file.metadata().unwrap().len(), 0);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            reserve(&file, HUGE, HUGE, what),
            Err(Failure::Host(HostFault::Keep { .. }))
        ));
    }
}
