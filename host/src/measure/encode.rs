//! The encoder's part of a cell: fit, save, encode the base block by block, then the queries.

use super::peer::{Before, Fitted, Model, Peer};
use super::timing::{Timed, time, time_streaming};
use super::unseen::Unseen;
use super::{CODES_PER_SCORE, Cell, Codes, Metrics, QUERIES_PER_SCORE, in_sample};
use crate::worker::exchange::{Opened, Request};
use crate::worker::reporter::Failure;
use ndarray::{Array2, ArrayView2, s};
use std::fs::File;
use std::time::Duration;

/// Rows that are encoded again in other calls: more than 1,000, so that one of these is large.
const AGAIN: usize = 1200;
/// How many of them the first calls take; the last takes the rest.
const SPLIT: [usize; 3] = [1, 7, 64];
/// Rows of a block that are encoded over two fillings: more than 1,000, too.
const FILLED_TWICE: usize = 1280;
/// Training rows whose error is measured.
const TRAINING: usize = 2048;
/// Codes and queries whose estimates are compared with another process's.
const COMPARED_CODES: usize = 1000;
const COMPARED_QUERIES: usize = 4;
/// What codes are found unwritten by: no byte is both.
const FILLS: [u8; 2] = [0xA5, 0x5A];

/// What there is once the encoder is done.
pub(super) struct Encoded {
    pub(super) opened: Opened,
    pub(super) fitted: Fitted,
    pub(super) fit_s: f64,
    /// What was saved before the base came; `None` where the method does not save.
    pub(super) model: Option<Model>,
    /// Encoded and decoded when the codes of the base were sealed.
    pub(super) queries: Queries,
    /// Of some training rows, and the rows.
    pub(super) train: (Array2<f32>, Vec<u8>),
    /// What another process must answer as well.
    pub(super) witness: Witness,
    pub(super) empty_call: Duration,
}

/// Encoded queries. Their codes could tell of the base and its neighbours, so that the decoder gets
/// them last, and must then decode them as the encoder did.
pub(super) struct Queries {
    codes: Vec<u8>,
    pub(super) decoded: Array2<f32>,
}

impl Queries {
    /// That `decoder`, which has nothing else to do any more, decodes them as the encoder did.
    pub(super) fn decode_as_well(&self, decoder: &mut Peer<'_>) -> Result<(), Failure> {
        let mut decoded = vec![0.0; self.decoded.len()];
        decoder.decode_all(&self.codes, 0, &mut decoded)?;
        let bits = |(here, there): (&f32, &f32)| here.to_bits() == there.to_bits();
        let dim = self.decoded.ncols().max(1);
        match decoded.iter().zip(&self.decoded).position(|pair| !bits(pair)) {
            None => Ok(()),
            Some(at) => Err(Failure::invalid(format!(
                "decompress gave another row for the code of query {} in another process",
                at / dim
            ))),
        }
    }
}

/// What the encoder's own decoder and scorer say of some of its codes.
pub(super) struct Witness {
    ids: Vec<usize>,
    codes: Vec<u8>,
    decoded: Vec<f32>,
    /// Of the first queries and codes (q, n); `None` without a scorer.
    scores: Option<Array2<f32>>,
}

impl Cell<'_> {
    /// Everything that the encoder does.
    pub(super) fn encode(
        &self,
        encoder: &mut Peer<'_>,
        codes: &mut Codes,
        model: &File,
        metrics: &mut Metrics,
    ) -> Result<Encoded, Failure> {
        let opened = encoder.open()?;
        let train = self.data.train.open()?;
        let (fitted, fit_s) = self.fit(encoder, &train, opened.code_bytes)?;
        let (rows, dim) = (self.data.base.rows, self.data.dim);
        // No model need be larger than the rows.
        let fair = 4 * rows as u64 * dim as u64;
        let saved = encoder.save(model, fair)?;
        codes.begin(fitted.code_bytes, rows, dim)?;
        let step = self.step(encoder);
        // Before the base: codes that are made later could tell of it.
        let train = self.encode_training(encoder, &train)?;
        let (first_block, unseen) = self.encode_base(encoder, codes, step)?;
        let witness = self.encode_again(encoder, codes)?;

        // The block is lent anew: other rows were meanwhile.
        let rows = step.min(self.data.base.rows);
        self.lend(encoder, 0, rows)?;
        let timed = Timed {
            function: "compress",
            name: "compress_vectors_per_s",
            items: rows,
            worth: 1,
            beside: self.turning(rows)?,
            bytes: self.bytes_moved(codes),
            unseen: &unseen,
            expected: &first_block,
            spoilt: |byte: u8| !byte,
        };
        let rows = |rows| Request::Compress { rows };
        let call = time(self, encoder, &timed, None, rows, metrics)?;
        let lend = |encoder: &mut Peer<'_>, first, len| self.lend(encoder, first, len);
        time_streaming(self, encoder, &timed, call, rows, lend, metrics)?;

        // The base is sealed: now the queries may be seen.
        self.part("compress", 0, 1, 1);
        let queries = self.turned_rows(self.queries.view());
        let queries = encoder.encode_all(queries.view(), Before::Byte(FILLS[0]))?;
        let mut decoded_queries = Array2::zeros((self.queries.nrows(), self.dim_seen()));
        let rows = decoded_queries.as_slice_mut().unwrap_or_default();
        encoder.decode_all(&queries, 0, rows)?;
        let queries = Queries { codes: queries, decoded: decoded_queries };
        let scores = self.witness_scores(encoder, &opened, codes)?;
        if let Some(saved) = &saved {
            let again = encoder.save(model, fair)?;
            if again.as_ref() != Some(saved) {
                return Err(Failure::invalid(
                    "save gave another model after the base and the queries were encoded",
                ));
            }
        }
        let empty_call = encoder.empty_call()?;
        let witness = Witness { scores, ..witness };
        let model = saved;
        Ok(Encoded { opened, fitted, fit_s, model, queries, train, witness, empty_call })
    }

    /// Encodes the base once; answers the codes of its first block of `step` rows, and what the calls took, in which all was new.
    fn encode_base(
        &self,
        encoder: &mut Peer<'_>,
        codes: &Codes,
        step: usize,
    ) -> Result<(Vec<u8>, Unseen), Failure> {
        let width = codes.width();
        let rows = self.data.base.rows;
        let (mut first_block, mut unseen) = (Vec::new(), Unseen::new(0));
        let mut block = vec![0; step.min(rows) * width];
        for (call, (first, len)) in self.blocks(self.unseen_step(step)).enumerate() {
            self.rows("compress", first, len);
            self.lend(encoder, first, len)?;
            let block = &mut block[..len * width];
            let sampled = in_sample(call, first + len == rows);
            let before = if sampled { Before::Byte(FILLS[0]) } else { Before::Anything };
            encoder.during("compress", |peer| {
                unseen.call(Some(len), peer.processes(), || peer.compress(len, block, before))
            })?;
            if sampled {
                // The end of the block, in a call that is large as well: all of it would cost as
                // much as encoding does.
                let some = len.min(FILLED_TWICE);
                let skipped = len - some;
                if skipped > 0 {
                    self.lend(encoder, first + skipped, some)?;
                }
                let block = &block[skipped * width..];
                let mut again = vec![0; block.len()];
                encoder.during("compress", |peer| {
                    peer.compress(some, &mut again, Before::Byte(FILLS[1]))
                })?;
                if let Some(at) = (0..again.len()).find(|at| block[*at] != again[*at]) {
                    let (row, byte) = (first + skipped + at / width, at % width);
                    // In one of the two calls it still holds what was there before.
                    let unwritten = block[at] == FILLS[0] || again[at] == FILLS[1];
                    let what = if unwritten { "left" } else { "gave another code for" };
                    return Err(Failure::invalid(if unwritten {
                        format!("compress {what} byte {byte} of the code of row {row} unwritten")
                    } else {
                        format!("compress {what} row {row} when it was asked again")
                    }));
                }
            }
            codes.write(first, block)?;
            if first < step {
                first_block.extend_from_slice(&block[..len.min(step - first) * width]);
            }
        }
        Ok((first_block, unseen))
    }

    /// Encodes rows from all over the base again, in another order and in other calls, and has some
    /// decoded for comparison.
    fn encode_again(&self, encoder: &mut Peer<'_>, codes: &Codes) -> Result<Witness, Failure> {
        let (rows, width) = (self.data.base.rows, codes.width());
        let most = AGAIN.min(encoder.most_rows() + SPLIT.iter().sum::<usize>()).min(rows);
        let ids: Vec<usize> = (0..most).rev().map(|i| i * rows / most).collect();
        let mut expected = vec![0; ids.len() * width];
        for (id, code) in ids.iter().zip(expected.chunks_exact_mut(width)) {
            codes.read(*id, code)?;
        }
        let mut from = 0;
        for len in SPLIT.into_iter().chain([usize::MAX]) {
            let len = len.min(most - from);
            let ids = &ids[from..from + len];
            self.lend_some(encoder, ids)?;
            let mut again = vec![0; len * width];
            encoder.during("compress", |peer| {
                peer.compress(len, &mut again, Before::Byte(FILLS[1]))
            })?;
            let expected = &expected[from * width..][..len * width];
            let differs =
                |at: &usize| again[at * width..][..width] != expected[at * width..][..width];
            if let Some(at) = (0..len).find(differs) {
                return Err(Failure::invalid(format!(
                    "compress gave another code for row {} in a call of {len} rows in another order",
                    ids[at]
                )));
            }
            from += len;
        }
        self.part("decompress", 0, 1, 1);
        let mut decoded = vec![0.0; ids.len() * self.dim_seen()];
        encoder.decode_all(&expected, 0, &mut decoded)?;
        Ok(Witness { ids, codes: expected, decoded, scores: None })
    }

    /// Encodes rows from all over the training rows.
    fn encode_training(
        &self,
        encoder: &mut Peer<'_>,
        train: &crate::data::Rows,
    ) -> Result<(Array2<f32>, Vec<u8>), Failure> {
        self.part("compress", 0, 0, 1);
        let most = TRAINING.min(train.rows());
        let mut rows = Array2::zeros((most, self.data.dim));
        for i in 0..most {
            train.read(i * train.rows() / most, rows.slice_mut(s![i..=i, ..]))?;
        }
        let codes = encoder.encode_all(self.turned_rows(rows.view()).view(), Before::Anything)?;
        Ok((rows, codes))
    }

    /// Estimates between the first queries and the first codes.
    pub(super) fn witness_scores(
        &self,
        peer: &mut Peer<'_>,
        opened: &Opened,
        codes: &Codes,
    ) -> Result<Option<Array2<f32>>, Failure> {
        if !opened.scorer {
            return Ok(None);
        }
        let width = codes.width();
        let most = (crate::worker::exchange::ROOM / width).min(CODES_PER_SCORE);
        let n = COMPARED_CODES.min(self.data.base.rows).min(most);
        self.part("pack", 0, 0, 1);
        codes.read(0, peer.lend_codes(n * width)?)?;
        peer.pack(n, FILLS[0])?;
        let queries = COMPARED_QUERIES.min(self.queries.nrows()).min(QUERIES_PER_SCORE);
        peer.lend_rows(queries)?.assign(&self.posed().slice(s![..queries, ..]));
        self.part("score", 0, 0, 1);
        let mut scores = vec![0.0; queries * n];
        peer.during("score", |peer| {
            peer.score(0..queries, (0, n), false, &mut scores, Before::Unwritten)
        })?;
        Array2::from_shape_vec((queries, n), scores).map(Some).map_err(Failure::failed)
    }
}

impl Witness {
    /// That another process, one that `has` only so much, decodes as the encoder did.
    pub(super) fn decodes_as_well(&self, decoder: &mut Peer<'_>, has: &str) -> Result<(), Failure> {
        let mut decoded = vec![0.0; self.decoded.len()];
        decoder.decode_all(&self.codes, 0, &mut decoded)?;
        let dim = decoded.len() / self.ids.len().max(1);
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let rows = decoded.chunks(dim.max(1)).zip(self.decoded.chunks(dim.max(1)));
        let differs = |(here, there): (&[f32], &[f32])| bits(here) != bits(there);
        match rows.map(differs).position(|differs| differs) {
            None => Ok(()),
            Some(at) => Err(Failure::invalid(format!(
                "decompress gave another row {} in a process that {has}",
                self.ids[at]
            ))),
        }
    }

    /// That the rows of a block, those from `first` on, are decoded as some of them were among others.
    pub(super) fn decoded_alike(
        &self,
        first: usize,
        block: ArrayView2<'_, f32>,
    ) -> Result<(), Failure> {
        let here = first..first + block.nrows();
        let rows = self.ids.iter().zip(self.decoded.chunks(block.ncols()));
        for (id, row) in rows.filter(|(id, _)| here.contains(id)) {
            let mut values = block.row(id - first).into_iter().zip(row);
            if values.any(|(a, b)| a.to_bits() != b.to_bits()) {
                return Err(Failure::invalid(format!(
                    "decompress gave another row {id} among other rows"
                )));
            }
        }
        Ok(())
    }

    /// True unless another process's `scores` are not the encoder's.
    pub(super) fn scores_as_well(&self, scores: Option<&Array2<f32>>) -> bool {
        let (Some(here), Some(there)) = (scores, &self.scores) else { return true };
        here.dim() == there.dim() && other_score(here.view(), there.view()).is_none()
    }

    /// That the first queries and codes have the same `scores` (q, n) in a call with others.
    pub(super) fn scored_alike(&self, scores: ArrayView2<'_, f32>) -> Result<(), Failure> {
        let Some(there) = &self.scores else { return Ok(()) };
        let (queries, codes) = there.dim();
        if scores.nrows() < queries || scores.ncols() < codes {
            return Ok(());
        }
        match other_score(scores.slice(s![..queries, ..codes]), there.view()) {
            None => Ok(()),
            Some((query, code)) => Err(Failure::invalid(format!(
                "score gave another estimate for query {query} and code {code} in a call of \
                 {} queries and {} codes",
                scores.nrows(),
                scores.ncols()
            ))),
        }
    }
}

/// Where two matrices of estimates differ by more than the order of a sum explains.
fn other_score(here: ArrayView2<'_, f32>, there: ArrayView2<'_, f32>) -> Option<(usize, usize)> {
    const TOLERANCE: f32 = 1e-4;
    let scale = there.iter().fold(f32::MIN_POSITIVE, |most, v| most.max(v.abs()));
    let mut pairs = here.indexed_iter().zip(there);
    pairs.find(|((_, a), b)| (*a - *b).abs() > TOLERANCE * scale).map(|((at, _), _)| at)
}
