//! Measures one cell: fit, encode once, walk the base as often as the metrics need.
//!
//! ```text
//! fit ─► compress (codes stay in memory) ─► search: scorer over codes, then one walk that
//! decompresses block by block ─► revisit: exact distances of the rows found ─► pairs ─► time
//! ```
//!
//! Nothing holds the base: memory is the training rows (until fit is over), then the codes, a
//! block of raw and one of decompressed rows, and what each query found. Every result but the
//! timings has the same bits for any block size and number of threads.

use super::codec::{Codec, round_trip};
use super::fault::HostFault;
use super::protocol::{Measured, Measurement};
use super::reporter::{Failure, Reporter};
use super::search::{self, Visits, exact};
use super::usage::Usage;
use crate::data::{DataError, Metric, Prepared, Rows, Truth};
use crate::metric::retrieval::{RANK_DEPTH, found_needed, largest_k};
use crate::metric::{
    DECODED, Hits, PairSample, QueryPairs, Reconstruction, RetrievalMetric, SYMMETRIC, Scan,
    estimator, pairwise, rank_agreement, rate_distortion, retrieval, size,
};
use crate::record::{MetricValue, QueryRecalls};
use ndarray::{Array2, ArrayView2, Axis, s};
use std::time::{Duration, Instant};
use vq_kernels::knn::Knn;
use vq_plugin_api::handle::{Guarded, Method};
use vq_plugin_api::{Metric as PluginMetric, Space};

/// Bytes of raw rows per block, unless told otherwise.
const BLOCK_BYTES: usize = 8 << 20;
/// Codes that the scorer sees per call: enough that its work per query does not count.
const CODES_PER_SCORE: usize = 1 << 16;
/// Queries that the scorer sees per call.
const QUERIES_PER_SCORE: usize = 32;
/// A timed repetition lasts at least this long.
const TIMED_AT_LEAST: Duration = Duration::from_millis(30);
/// Rows are taken away from a timed repetition that would last longer than this.
const TIMED_AT_MOST: Duration = Duration::from_millis(400);
/// Seed of the sampled pairs: the same pairs for every method and every cell seed, so that
/// methods differ only by what they do.
const PAIR_SEED: u64 = 0x5EED_0F9A_1125;

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

/// Measures `cell` with `method`.
///
/// # Errors
/// The plugin's failure or broken promise, or data that cannot be read.
pub fn measure(
    method: &Method,
    cell: &Measurement,
    reporter: &Reporter,
) -> Result<Measured, Failure> {
    let usage = Usage::default();
    // All of it, so that threads that work on after a call are seen too.
    let mut measured = usage.during("all", || measure_all(method, cell, reporter, &usage))?;
    measured.threads_used = usage.most_threads();
    Ok(measured)
}

fn measure_all(
    method: &Method,
    cell: &Measurement,
    reporter: &Reporter,
    usage: &Usage,
) -> Result<Measured, Failure> {
    let started = Instant::now();
    // The host's own parallel loops run in the global pool; the plugin has its own.
    rayon::ThreadPoolBuilder::new()
        .num_threads(cell.threads)
        .build_global()
        .map_err(|e| HostFault::Threads { threads: cell.threads, reason: e.to_string() })?;
    let data = &cell.data;
    let space = Space { dim: data.dim, metric: data.metric.into() };
    let instance = method.create(&cell.config, space)?;
    let (codec, fit_s) = {
        let train = data.train.open()?.read_all()?;
        Codec::fit(instance, train.view(), cell.threads, cell.seed, reporter, usage)?
    };
    let bench = Bench::new(cell, &codec, reporter, usage)?;
    let codes = bench.encode()?;
    let mut metrics = Metrics::default();
    bench.size(&mut metrics)?;
    bench.quality(&codes, &mut metrics)?;
    bench.pairs(&codes, &mut metrics)?;
    metrics.add("fit_s", fit_s)?;
    bench.speed(&codes, &mut metrics)?;
    if let Some(bytes) = peak_rss_bytes() {
        metrics.add("peak_rss_bytes", bytes as f64)?;
    }
    let measured_s = started.elapsed().as_secs_f64();
    let block_rows = bench.block_rows;
    let Metrics { all: metrics, recalls } = metrics;
    Ok(Measured { metrics, recalls, block_rows, measured_s, threads_used: None })
}

/// The metrics of a cell as they come together.
#[derive(Default)]
struct Metrics {
    all: Vec<MetricValue>,
    recalls: Vec<QueryRecalls>,
}

impl Metrics {
    fn add(&mut self, name: impl Into<String>, value: f64) -> Result<(), Failure> {
        self.all.push(MetricValue::new(name, value).map_err(Failure::failed)?);
        Ok(())
    }

    fn add_named(&mut self, named: Vec<(&'static str, f64)>, suffix: &str) -> Result<(), Failure> {
        named.into_iter().try_for_each(|(name, value)| self.add(format!("{name}{suffix}"), value))
    }

    fn add_retrieval(&mut self, of: Vec<RetrievalMetric>, suffix: &str) -> Result<(), Failure> {
        for RetrievalMetric { name, value, standard_error, hits } in of {
            let metric = MetricValue::with_error(name + suffix, value, standard_error);
            self.all.push(metric.map_err(Failure::failed)?);
            // The plain name's alone: the method at its best.
            if let (Some(Hits { k, by_query }), "") = (hits, suffix) {
                let recalls = QueryRecalls::new(k as u32, by_query).map_err(Failure::failed)?;
                self.recalls.push(recalls);
            }
        }
        Ok(())
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
        self.all.push(value);
        Ok(())
    }
}

/// A fitted method beside its data.
struct Bench<'a> {
    cell: &'a Measurement,
    data: &'a Prepared,
    codec: &'a Codec<'a>,
    base: Rows,
    queries: Array2<f32>,
    truth: Truth,
    block_rows: usize,
    reporter: &'a Reporter,
    usage: &'a Usage,
}

impl<'a> Bench<'a> {
    fn new(
        cell: &'a Measurement,
        codec: &'a Codec<'a>,
        reporter: &'a Reporter,
        usage: &'a Usage,
    ) -> Result<Self, Failure> {
        let data = &cell.data;
        let rows = (BLOCK_BYTES / 4 / data.dim).clamp(256, 1 << 16);
        Ok(Bench {
            cell,
            data,
            codec,
            base: data.base.open()?,
            queries: data.queries.open()?.read_all()?,
            truth: data.truth.read()?,
            block_rows: cell.block_rows.unwrap_or(rows).clamp(1, data.base.rows.max(1)),
            reporter,
            usage,
        })
    }

    /// The blocks of the base as (first row, rows).
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let (rows, step) = (self.data.base.rows, self.block_rows);
        (0..rows).step_by(step).map(move |first| (first, step.min(rows - first)))
    }

    /// What comes next is the part `from` to `to` of `stage`, in parts of `of`.
    fn part(&self, stage: &str, from: usize, to: usize, of: usize) {
        let share = |at: usize| at as f32 / of.max(1) as f32;
        self.reporter.part(share(from), share(to));
        self.reporter.progress(stage, share(from));
    }

    /// What comes next is about the rows from `first` on.
    fn rows(&self, stage: &str, first: usize, len: usize) {
        self.part(stage, first, first + len, self.data.base.rows);
    }

    /// Encodes the base once; n · code_bytes bytes.
    fn encode(&self) -> Result<Vec<u8>, Failure> {
        let width = self.codec.code_bytes();
        let mut codes = vec![0; self.data.base.rows * width];
        let mut raw = Array2::zeros((self.block_rows, self.data.dim));
        let mut buffer = Guarded::codes();
        for (first, len) in self.blocks() {
            self.rows("compress", first, len);
            let mut raw = raw.slice_mut(s![..len, ..]);
            self.base.read(first, raw.view_mut())?;
            let codes = &mut codes[first * width..][..len * width];
            self.codec.encode(raw.view(), &mut buffer, codes)?;
        }
        Ok(codes)
    }

    fn size(&self, metrics: &mut Metrics) -> Result<(), Failure> {
        let claimed = self.codec.checked_ratio()?;
        let model_bytes = self.codec.instance().model_bytes();
        let code_bytes = self.codec.code_bytes();
        let of = size(
            self.data.base.rows,
            self.data.dim,
            code_bytes,
            model_bytes.and_then(|bytes| usize::try_from(bytes).ok()),
        );
        metrics.add("code_bytes", code_bytes as f64)?;
        metrics.add_named(of.named(), "")?;
        model_bytes.map_or(Ok(()), |bytes| metrics.add("model_bytes", bytes as f64))?;
        claimed.map_or(Ok(()), |ratio| metrics.add("ratio_claimed", ratio))
    }

    /// Reconstruction, estimator and retrieval, from the scorer's scan and two walks.
    fn quality(&self, codes: &[u8], metrics: &mut Metrics) -> Result<(), Failure> {
        let rows = self.data.base.rows;
        let evaluation = &self.cell.evaluation;
        let most_k = largest_k(&evaluation.k, rows);
        let most = found_needed(&evaluation.k, &evaluation.rerank, rows);
        let watched = search::left(&self.truth.ids, RANK_DEPTH);
        let pairs = QueryPairs::new(self.queries.nrows(), rows, evaluation.pairs, PAIR_SEED);
        let scored = self.scan_codes(codes, watched, most, &pairs)?;

        // One walk decompresses everything once.
        let headline = scored.is_none();
        let metric = self.data.metric;
        let k = if headline { most } else { most_k };
        let mut by_decoded = Knn::new(self.queries.view(), metric.into(), k, &self.data.mean);
        self.part("compress", 0, 0, 1);
        let decoded_queries = round_trip(self.codec, self.queries.view())?;
        let mut by_symmetric =
            Knn::new(decoded_queries.view(), metric.into(), most_k, &self.data.mean);
        let watched: Vec<_> = watched.rows().into_iter().map(|ids| ids.to_vec()).collect();
        let mut neighbours = headline.then(|| Visits::new(&watched));
        let mut reconstruction = Reconstruction::new(&self.data.mean);
        let (mut true_values, mut estimates) = (Vec::new(), Vec::new());
        self.walk(codes, |first, raw, decoded| {
            // Two searches, with raw and with decompressed queries.
            let (from, len, all) = (2 * first, raw.nrows(), 2 * self.data.base.rows);
            self.part("search", from, from + len, all);
            reconstruction.push(raw, decoded);
            // Rows of a prepared base are numbered by u32.
            by_decoded.push(first as u32, decoded);
            self.part("search", from + len, from + 2 * len, all);
            by_symmetric.push(first as u32, decoded);
            if let Some(neighbours) = &mut neighbours {
                neighbours.pass(metric, self.queries.view(), first, decoded)?;
            }
            for pair in pairs.in_rows(first, raw.nrows()) {
                let query = row(self.queries.view(), pair.query as usize)?;
                let at = pair.row as usize - first;
                true_values.push(self.value(exact(metric, query, row(raw, at)?)));
                estimates.push(self.value(exact(metric, query, row(decoded, at)?)));
            }
            Ok(())
        })?;
        let reconstruction = reconstruction.finish();
        if let Some(of) = &reconstruction {
            metrics.add_named(of.named(), "")?;
            let bits = 8.0 * self.codec.code_bytes() as f64 / self.data.dim as f64;
            let wasted = rate_distortion::bits_wasted(bits, of.mse, &self.data.spectrum);
            wasted.map_or(Ok(()), |bits| metrics.add("bits_wasted", bits))?;
        }

        let order = match (&scored, neighbours) {
            (Some(scored), _) => scored.watched.mapv(f64::from),
            (None, Some(neighbours)) => -nearness(&neighbours.finish(), RANK_DEPTH),
            (None, None) => Array2::zeros((0, 0)),
        };
        let truth = search::left(&self.truth.distances, RANK_DEPTH);
        metrics.add_retrieval(rank_agreement(truth, order.view(), RANK_DEPTH), "")?;
        if let Some(scored) = &scored {
            let of = estimator(&true_values, &scored.estimates, scored.bounds.as_deref());
            of.map_or(Ok(()), |of| metrics.add_named(of.named(), ""))?;
        }
        let suffix = if headline { "" } else { DECODED };
        let of = estimator(&true_values, &estimates, None);
        of.map_or(Ok(()), |of| metrics.add_named(of.named(), suffix))?;

        let ids = |knn: Knn<'_>| -> Vec<Vec<u32>> {
            let rows = knn.finish().into_iter();
            rows.map(|found| found.nearest.iter().map(|n| n.id).collect()).collect()
        };
        let mut found = vec![ids(by_decoded), ids(by_symmetric)];
        found.extend(scored.map(|scored| {
            let rows = scored.ranked.into_iter();
            rows.map(|found| found.into_iter().map(|(_, row)| row).collect()).collect()
        }));
        self.recall(&found, metrics, most, most_k)
    }

    /// Measures recall of the rows found, per query best first. `found`: decoded, symmetric, and the
    /// scorer's if there is one.
    fn recall(
        &self,
        found: &[Vec<Vec<u32>>],
        metrics: &mut Metrics,
        most: usize,
        most_k: usize,
    ) -> Result<(), Failure> {
        let mut visits: Vec<Visits> = found.iter().map(|found| Visits::new(found)).collect();
        let mut raw = Array2::zeros((self.block_rows, self.data.dim));
        for (first, len) in self.blocks() {
            self.rows("re-rank", first, len);
            if visits.iter().any(|visits| visits.wants(first, len)) {
                let mut raw = raw.slice_mut(s![..len, ..]);
                self.base.read(first, raw.view_mut())?;
                for visits in &mut visits {
                    visits.pass(self.data.metric, self.queries.view(), first, raw.view())?;
                }
            }
        }
        let mut distances = visits.into_iter().map(Visits::finish);
        let (decoded, symmetric, scored) = (distances.next(), distances.next(), distances.next());
        let evaluation = &self.cell.evaluation;
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
        if let Some(scored) = scored {
            metrics.add_retrieval(judge(scored, most, &evaluation.rerank)?, "")?;
        }
        if let Some(symmetric) = symmetric {
            metrics.add_retrieval(recalls(&judge(symmetric, most_k, &[])?), SYMMETRIC)?;
        }
        Ok(())
    }

    /// A "smaller is nearer" distance in the metric's own sense.
    fn value(&self, distance: f64) -> f64 {
        match self.data.metric {
            Metric::L2 => distance,
            Metric::Ip | Metric::Cosine => -distance,
        }
    }

    /// Calls `visit(first, raw, decoded)` for every block, in order.
    fn walk(
        &self,
        codes: &[u8],
        mut visit: impl FnMut(usize, ArrayView2<'_, f32>, ArrayView2<'_, f32>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let codes = self.codec.matrix(codes)?;
        let mut raw = Array2::zeros((self.block_rows, self.data.dim));
        let mut decoded = raw.clone();
        let mut buffer = Guarded::rows();
        for (first, len) in self.blocks() {
            self.rows("decompress", first, len);
            let mut raw = raw.slice_mut(s![..len, ..]);
            let mut decoded = decoded.slice_mut(s![..len, ..]);
            self.base.read(first, raw.view_mut())?;
            let codes = codes.slice(s![first..first + len, ..]);
            self.codec.decode(codes, first, &mut buffer, decoded.view_mut())?;
            visit(first, raw.view(), decoded.view())?;
        }
        Ok(())
    }

    /// What the method's own scorer finds; `None` for a method without one.
    fn scan_codes(
        &self,
        codes: &[u8],
        watched: ArrayView2<'_, u32>,
        keep: usize,
        pairs: &QueryPairs,
    ) -> Result<Option<Scored>, Failure> {
        let Some(scorer) = self.codec.scorer() else { return Ok(None) };
        let codes = self.codec.matrix(codes)?;
        let groups = watched.axis_chunks_iter(Axis(0), QUERIES_PER_SCORE);
        let mut scans: Vec<Scan> = groups.map(|group| Scan::watching(group, keep)).collect();
        let mut scored = Scored {
            ranked: Vec::new(),
            watched: Array2::zeros((0, watched.ncols())),
            estimates: vec![0.0; pairs.pairs().len()],
            bounds: scorer.has_bounds().then(|| vec![0.0; pairs.pairs().len()]),
        };
        let (mut estimates, mut bounds) = (Guarded::rows(), Guarded::rows());
        let rows = self.data.base.rows;
        let mut before = 0;
        for (i, codes) in codes.axis_chunks_iter(Axis(0), CODES_PER_SCORE).enumerate() {
            let (first, n) = (i * CODES_PER_SCORE, codes.nrows());
            let parts = self.queries.nrows().div_ceil(QUERIES_PER_SCORE);
            let all = parts * rows.div_ceil(CODES_PER_SCORE);
            self.part("score", i * parts, i * parts, all);
            let packed = self.codec.pack(&scorer, codes)?;
            let here = pairs.in_rows(first, n);
            for (g, queries) in
                self.queries.axis_chunks_iter(Axis(0), QUERIES_PER_SCORE).enumerate()
            {
                self.part("score", i * parts + g, i * parts + g + 1, all);
                let room = estimates.lend(queries.nrows() * n);
                let wanted = scorer.has_bounds().then(|| bounds.lend(queries.nrows() * n));
                let done = self.codec.lend("score", |caller| {
                    scorer.score(queries, packed.values(), n, caller, room, wanted)
                });
                let (estimates, bounds) = (estimates.finish("score")?, bounds.finish("score")?);
                done?;
                let group = g * QUERIES_PER_SCORE..g * QUERIES_PER_SCORE + queries.nrows();
                let matrix = ArrayView2::from_shape((queries.nrows(), n), estimates);
                let matrix = matrix.map_err(Failure::failed)?;
                if let Some(at) = matrix.iter().position(|e| !e.is_finite()) {
                    return Err(Failure::invalid(format!(
                        "score returned {} for query {} and code {}",
                        estimates[at],
                        group.start + at / n,
                        first + at % n
                    )));
                }
                for (slot, pair) in here.iter().enumerate() {
                    if group.contains(&(pair.query as usize)) {
                        let at =
                            (pair.query as usize - group.start) * n + pair.row as usize - first;
                        scored.estimates[before + slot] = f64::from(estimates[at]);
                        if let Some(claimed) = &mut scored.bounds {
                            claimed[before + slot] = f64::from(bounds[at]);
                        }
                    }
                }
                // A scan ranks larger scores first.
                match self.data.metric {
                    Metric::L2 => scans[g].push_scores(first as u32, matrix.mapv(|e| -e).view()),
                    Metric::Ip | Metric::Cosine => scans[g].push_scores(first as u32, matrix),
                }
            }
            before += here.len();
        }
        for scan in scans {
            let of = scan.finish();
            scored.ranked.extend(of.ranked);
            scored.watched.append(Axis(0), of.watched.view()).map_err(Failure::failed)?;
        }
        Ok(Some(scored))
    }

    fn pairs(&self, codes: &[u8], metrics: &mut Metrics) -> Result<(), Failure> {
        let rows = self.data.base.rows;
        let sample = PairSample::new(rows, self.cell.evaluation.pairs, PAIR_SEED);
        let matrix = self.codec.matrix(codes)?;
        let mut buffer = Guarded::rows();
        let (all, mut done) = (sample.pairs().len(), 0);
        let measured = pairwise(&sample, self.data.dim, |ids, mut raw, decoded| {
            // Both rows of a pair, unless another has it too.
            let next = (done + ids.len() / 2).min(all);
            self.part("pairs", done, next, all);
            done = next;
            for (id, mut raw) in ids.iter().zip(raw.axis_chunks_iter_mut(Axis(0), 1)) {
                self.base.read(*id as usize, raw.view_mut())?;
            }
            let ids: Vec<usize> = ids.iter().map(|id| *id as usize).collect();
            self.codec.decode(matrix.select(Axis(0), &ids).view(), 0, &mut buffer, decoded)
        })?;
        let Some(of) = measured else { return Ok(()) };
        metrics.add_named(of.named(), "")
    }

    /// Vectors per second, medians over repetitions after a warm-up, on one block in memory.
    fn speed(&self, codes: &[u8], metrics: &mut Metrics) -> Result<(), Failure> {
        let width = self.codec.code_bytes();
        let rows = self.block_rows.min(self.data.base.rows);
        let mut raw = Array2::zeros((rows, self.data.dim));
        self.base.read(0, raw.view_mut())?;
        let mut buffer = Guarded::codes();
        let mut again = vec![0; rows * width];
        self.codec.encode(raw.view(), &mut buffer, &mut again)?;
        if let Some(row) = (0..rows).find(|row| {
            let code = row * width..(row + 1) * width;
            codes[code.clone()] != again[code]
        }) {
            return Err(Failure::invalid(format!(
                "compress gave another code for row {row} when it was asked again"
            )));
        }
        let room = buffer.lend(rows * width);
        self.timed("time compress", "compress_vectors_per_s", rows, metrics, |rows| {
            let raw = raw.slice(s![..rows, ..]);
            let room = &mut room[..rows * width];
            self.codec.lend_timed("time compress", |caller| {
                self.codec.instance().compress(raw, width, caller, room)
            })?;
            Ok(rows)
        })?;
        buffer.finish("compress")?;
        let matrix = self.codec.matrix(&codes[..rows * width])?;
        let mut buffer = Guarded::rows();
        let room = buffer.lend(rows * self.data.dim);
        self.timed("time decompress", "decompress_vectors_per_s", rows, metrics, |rows| {
            let codes = matrix.slice(s![..rows, ..]);
            let room = &mut room[..rows * self.data.dim];
            self.codec.lend_timed("time decompress", |caller| {
                self.codec.instance().decompress(codes, caller, room)
            })?;
            Ok(rows)
        })?;
        buffer.finish("decompress")?;
        let Some(scorer) = self.codec.scorer() else { return Ok(()) };
        let n = CODES_PER_SCORE.min(self.data.base.rows);
        let codes = self.codec.matrix(&codes[..n * width])?;
        let packed = self.codec.pack(&scorer, codes)?;
        let most = QUERIES_PER_SCORE.min(self.queries.nrows());
        let room = buffer.lend(most * n);
        self.timed("time score", "score_codes_per_s", most, metrics, |queries| {
            let queries = self.queries.slice(s![..queries, ..]);
            let room = &mut room[..queries.nrows() * n];
            self.codec.lend_timed("time score", |caller| {
                scorer.score(queries, packed.values(), n, caller, room, None)
            })?;
            Ok(queries.nrows() * n)
        })?;
        buffer.finish("score")?;
        Ok(())
    }

    /// Times `run(items)`, which answers how many things it did, on at most `items` items.
    fn timed(
        &self,
        stage: &str,
        name: &str,
        items: usize,
        metrics: &mut Metrics,
        mut run: impl FnMut(usize) -> Result<usize, Failure>,
    ) -> Result<(), Failure> {
        if items == 0 {
            return Ok(());
        }
        // The warm-up, which also takes its time, and the repetitions.
        let all = self.cell.evaluation.repeats + 1;
        self.part(stage, 0, 1, all);
        let started = Instant::now();
        run(items)?;
        let warm_up = started.elapsed().max(Duration::from_nanos(1));
        let shrink = (TIMED_AT_MOST.as_secs_f64() / warm_up.as_secs_f64()).min(1.0);
        let items = ((items as f64 * shrink) as usize).clamp(items.min(64), items);
        let rounds = (TIMED_AT_LEAST.as_secs_f64() / warm_up.as_secs_f64()).ceil().clamp(1.0, 1e4);
        let mut rates = Vec::new();
        for repeat in 1..all {
            self.part(stage, repeat, repeat, all);
            let rate = self.usage.during(stage, || {
                let started = Instant::now();
                let mut did = 0;
                for _ in 0..rounds as usize {
                    did += run(items)?;
                }
                Ok::<_, Failure>(did as f64 / started.elapsed().as_secs_f64())
            })?;
            rates.push(rate);
        }
        metrics.add_timed(name, rates)
    }
}

/// What a method's own scorer said.
struct Scored {
    ranked: Vec<Vec<(f32, u32)>>,
    watched: Array2<f32>,
    /// In the order of the sampled pairs.
    estimates: Vec<f64>,
    bounds: Option<Vec<f64>>,
}

fn row<'r>(of: ArrayView2<'r, f32>, at: usize) -> Result<&'r [f32], Failure> {
    of.index_axis_move(Axis(0), at)
        .to_slice()
        .ok_or_else(|| Failure::failed("a block is not contiguous"))
}

/// `distances` as a matrix (queries, m): the nearest `m` of every query, or as many as there are.
fn nearness(distances: &[Vec<f64>], m: usize) -> Array2<f64> {
    let m = distances.iter().map(Vec::len).min().unwrap_or(0).min(m);
    Array2::from_shape_fn((distances.len(), m), |(query, i)| distances[query][i])
}

/// The highest resident memory this process had.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}
