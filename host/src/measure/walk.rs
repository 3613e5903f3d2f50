//! The decoder's first part: everything is decoded, while no query has been seen.

use super::encode::Encoded;
use super::peer::{Before, Peer};
use super::revisit::{Visits, exact};
use super::timing::{Timed, time, time_streaming};
use super::unseen::Unseen;
use super::{BLOCK_BYTES, Cell, Codes, Metrics, PAIR_SEED, in_sample, second};
use crate::data::Metric;
use crate::metric::{Family, PairSample, QueryPairs, Reconstruction, pairwise, rate_distortion};
use crate::worker::exchange::Request;
use crate::worker::reporter::Failure;
use ndarray::{Array2, ArrayView2, Axis, s};
use vq_kernels::knn::{Found, Knn};

/// What decoding found.
pub(super) struct Decoded {
    /// Per query the rows nearest to it, best first, among the decoded ones.
    pub(super) by_raw: Vec<Vec<u32>>,
    /// The nearness of the first of these, for attention and methods without a scorer.
    pub(super) by_raw_scores: Vec<Vec<f64>>,
    /// The same for the decoded queries.
    pub(super) by_decoded: Vec<Vec<u32>>,
    /// Nearness of the watched rows by what they decode to, for methods without a scorer and for
    /// second codes.
    pub(super) order: Option<Array2<f64>>,
    /// Nearness of a first code's candidates to the decoded queries, for second codes.
    pub(super) symmetric: Option<Array2<f64>>,
    /// Of the sampled query pairs.
    pub(super) true_values: Vec<f64>,
    /// By the decoded rows.
    pub(super) estimates: Vec<f64>,
}

impl Cell<'_> {
    /// Everything that the decoder does before it sees a query. `most` and `most_k` neighbours are
    /// looked for by raw and by decoded queries.
    pub(super) fn decode(
        &self,
        decoder: &mut Peer<'_>,
        encoded: &Encoded,
        codes: &Codes,
        pairs: &QueryPairs,
        (most, most_k): (usize, usize),
        metrics: &mut Metrics,
    ) -> Result<Decoded, Failure> {
        let metric = self.data.metric;
        let headline = !encoded.opened.scorer;
        let step = self.step(decoder);
        let k = if headline { most } else { most_k };
        let mut by_raw = Knn::new(self.queries.view(), metric.into(), k, &self.data.mean);
        let mirrors = self.turned_back(encoded.queries.decoded.view());
        let mut by_decoded = Knn::new(mirrors.view(), metric.into(), most_k, &self.data.mean);
        let watched: Vec<_> = self.watched().rows().into_iter().map(|ids| ids.to_vec()).collect();
        let mut neighbours = (headline || self.candidates.is_some()).then(|| Visits::new(&watched));
        let candidates = self.candidates.as_ref().map(second::rows);
        let mut mirrored = candidates.map(|rows| Visits::new(&rows));
        let mut reconstruction = Reconstruction::new(&self.data.mean);
        let (mut true_values, mut estimates) = (Vec::new(), Vec::new());
        let (first_block, unseen) = self.walk(decoder, codes, step, |first, raw, decoded| {
            // Two searches, with raw and with decompressed queries.
            let (from, len, all) = (2 * first, raw.nrows(), 2 * self.data.base.rows);
            self.part("search", from, from + 2 * len, all);
            encoded.witness.decoded_alike(first, decoded)?;
            let decoded = self.turned_back(decoded);
            let decoded = decoded.view();
            reconstruction.push(raw, decoded);
            // Rows of a prepared base are numbered by u32.
            Knn::push_to(&mut [&mut by_raw, &mut by_decoded], first as u32, decoded);
            if let Some(neighbours) = &mut neighbours {
                neighbours.pass(metric, self.queries.view(), first, decoded)?;
            }
            if let Some(mirrored) = &mut mirrored {
                mirrored.pass(metric, mirrors.view(), first, decoded)?;
            }
            for pair in pairs.in_rows(first, raw.nrows()) {
                let query = row(self.queries.view(), pair.query as usize)?;
                let at = pair.row as usize - first;
                true_values.push(self.value(exact(metric, query, row(raw, at)?)));
                estimates.push(self.value(exact(metric, query, row(decoded, at)?)));
            }
            Ok(())
        })?;
        if let Some(of) = reconstruction.finish() {
            metrics.add_named(of.named(), "")?;
            let bits = 8.0 * codes.width() as f64 / self.data.dim as f64;
            let wasted = rate_distortion::bits_wasted(bits, of.mse, &self.data.spectrum);
            wasted.map_or(Ok(()), |bits| metrics.add("bits_wasted", bits))?;
        }
        self.training_error(decoder, encoded, metrics)?;
        if self.of.evaluation.has(Family::Pairs) {
            self.pairs(decoder, codes, metrics)?;
        }

        let rows = step.min(self.data.base.rows);
        let width = codes.width();
        codes.read(0, decoder.lend_codes(rows * width)?)?;
        let timed = Timed {
            function: "decompress",
            name: "decompress_vectors_per_s",
            items: rows,
            worth: 1,
            beside: self.turning_back(&first_block, rows)?,
            bytes: self.bytes_moved(codes),
            unseen: &unseen,
            expected: &first_block,
            spoilt: |_: f32| f32::NAN,
        };
        let request = |rows| Request::Decompress { rows };
        let call = time(self, decoder, &timed, None, request, metrics)?;
        let lend = |decoder: &mut Peer<'_>, first, len: usize| {
            codes.read(first, decoder.lend_codes(len * width)?)
        };
        time_streaming(self, decoder, &timed, call, request, lend, metrics)?;

        let ids = |found: &[Found]| -> Vec<Vec<u32>> {
            found.iter().map(|found| found.nearest.iter().map(|n| n.id).collect()).collect()
        };
        let near = |found: Option<Visits>| found.map(|found| -nearness(&found.finish()));
        let (order, symmetric) = (near(neighbours), near(mirrored));
        let (by_raw, by_decoded) = (by_raw.finish(), ids(&by_decoded.finish()));
        let depth = if headline { self.attended() } else { 0 };
        let first = |of: &Found| of.nearest.iter().take(depth).map(|n| -n.distance).collect();
        let by_raw_scores = by_raw.iter().map(first).collect();
        let by_raw = ids(&by_raw);
        Ok(Decoded { by_raw, by_raw_scores, by_decoded, order, symmetric, true_values, estimates })
    }

    /// Calls `visit(first, raw, decoded)` for every block of the base, in order; answers the first
    /// block of `step` rows decoded, and what the calls took.
    fn walk(
        &self,
        decoder: &mut Peer<'_>,
        codes: &Codes,
        step: usize,
        mut visit: impl FnMut(usize, ArrayView2<'_, f32>, ArrayView2<'_, f32>) -> Result<(), Failure>,
    ) -> Result<(Vec<f32>, Unseen), Failure> {
        let (rows, dim, width) = (self.data.base.rows, self.dim_seen(), codes.width());
        let mut raw = Array2::zeros((step.min(rows), self.data.dim));
        let mut decoded = vec![0.0; raw.nrows() * dim];
        let (mut first_block, mut unseen) = (Vec::new(), Unseen::new(0));
        for (call, (first, len)) in self.blocks(self.unseen_step(step)).enumerate() {
            self.rows("decompress", first, len);
            let mut raw = raw.slice_mut(s![..len, ..]);
            self.base.read_in_pool(first, raw.view_mut())?;
            let decoded = &mut decoded[..len * dim];
            codes.read(first, decoder.lend_codes(len * width)?)?;
            let sampled = in_sample(call, first + len == rows);
            let before = if sampled { Before::Unwritten } else { Before::Anything };
            decoder.during("decompress", |peer| {
                let processes = peer.processes();
                unseen.call(Some(len), processes, || peer.decompress(first, len, decoded, before))
            })?;
            if first < step {
                first_block.extend_from_slice(&decoded[..len.min(step - first) * dim]);
            }
            let decoded = ArrayView2::from_shape((len, dim), decoded).map_err(Failure::failed)?;
            visit(first, raw.view(), decoded)?;
        }
        Ok((first_block, unseen))
    }

    /// The error on rows that the method learned from, beside that on the base.
    fn training_error(
        &self,
        decoder: &mut Peer<'_>,
        encoded: &Encoded,
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let (rows, codes) = &encoded.train;
        let shape = (rows.nrows(), self.dim_seen());
        let mut decoded = vec![0.0; shape.0 * shape.1];
        self.part("decompress", 1, 1, 1);
        decoder.decode_all(codes, 0, &mut decoded)?;
        let decoded = ArrayView2::from_shape(shape, &decoded).map_err(Failure::failed)?;
        let decoded = self.turned_back(decoded);
        let mut of = Reconstruction::new(&self.data.mean);
        of.push(rows.view(), decoded.view());
        let error = of.finish().and_then(|of| of.relative_error);
        error.map_or(Ok(()), |error| metrics.add("relative_error/train", error))
    }

    fn pairs(
        &self,
        decoder: &mut Peer<'_>,
        codes: &Codes,
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let rows = self.data.base.rows;
        let sample = PairSample::new(rows, self.of.evaluation.pairs, PAIR_SEED);
        let (all, mut done) = (sample.pairs().len(), 0);
        let width = codes.width();
        // A base of one block is read once, and not row by row.
        let whole = rows <= self.block_rows && rows * width <= BLOCK_BYTES;
        let (mut base, mut coded) = (Array2::zeros((0, self.data.dim)), Vec::new());
        if whole {
            base = Array2::zeros((rows, self.data.dim));
            self.base.read_in_pool(0, base.view_mut())?;
            coded = vec![0; rows * width];
            codes.read(0, &mut coded)?;
        }
        let mut gathered = Vec::new();
        let measured = pairwise(&sample, self.data.dim, |ids, mut raw, mut decoded| {
            // Both rows of a pair, unless another has it too.
            let next = (done + ids.len() / 2).min(all);
            self.part("pairs", done, next, all);
            done = next;
            gathered.resize(ids.len() * width, 0);
            let places = gathered.chunks_exact_mut(width);
            for ((id, mut raw), code) in
                ids.iter().zip(raw.axis_chunks_iter_mut(Axis(0), 1)).zip(places)
            {
                let id = *id as usize;
                if whole {
                    raw.assign(&base.slice(s![id..=id, ..]));
                    code.copy_from_slice(&coded[id * width..][..width]);
                } else {
                    self.base.read(id, raw.view_mut())?;
                    codes.read(id, code)?;
                }
            }
            if self.turned.is_some() {
                let mut seen = Array2::zeros((ids.len(), self.dim_seen()));
                decoder.decode_all(&gathered, 0, seen.as_slice_mut().unwrap_or_default())?;
                decoded.assign(&self.turned_back(seen.view()));
                return Ok(());
            }
            let Some(decoded) = decoded.as_slice_mut() else {
                return Err(Failure::failed("a block is not contiguous"));
            };
            decoder.decode_all(&gathered, 0, decoded)
        })?;
        let Some(of) = measured else { return Ok(()) };
        metrics.add_means(of.named(), "")
    }

    /// A "smaller is nearer" distance in the metric's own sense.
    fn value(&self, distance: f64) -> f64 {
        match self.data.metric {
            Metric::L2 => distance,
            Metric::Ip | Metric::Cosine => -distance,
        }
    }
}

fn row<'r>(of: ArrayView2<'r, f32>, at: usize) -> Result<&'r [f32], Failure> {
    of.index_axis_move(Axis(0), at)
        .to_slice()
        .ok_or_else(|| Failure::failed("a block is not contiguous"))
}

/// `distances` as a matrix (queries, m), of as many as every query has.
fn nearness(distances: &[Vec<f64>]) -> Array2<f64> {
    let m = distances.iter().map(Vec::len).min().unwrap_or(0);
    Array2::from_shape_fn((distances.len(), m), |(query, i)| distances[query][i])
}
