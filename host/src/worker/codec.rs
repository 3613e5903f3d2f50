//! A fitted method as the measuring code uses it: whole matrices in and out, every promise of the
//! contract checked on the way.

use super::fault::HostFault;
use super::reporter::{Failure, Reporter};
use super::usage::Usage;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use rayon::prelude::*;
use std::time::Instant;
use vq_plugin_api::handle::{Caller, Guarded, Instance, Scorer};

/// A difference between the claimed and the true ratio that is more than rounding.
const RATIO_TOLERANCE: f64 = 1e-6;
/// More code bytes than any method could mean: 16 times the raw vector and a page.
fn absurd_code_bytes(dim: usize) -> usize {
    64 * dim + 4096
}

/// A fitted instance and what its calls need.
pub(super) struct Codec<'a> {
    instance: Instance,
    code_bytes: usize,
    threads: usize,
    seed: u64,
    pool: rayon::ThreadPool,
    reporter: &'a Reporter,
    usage: &'a Usage,
}

impl<'a> Codec<'a> {
    /// Fits `instance` on `train` (n, d); answers the codec and the seconds that fit took.
    pub(super) fn fit(
        mut instance: Instance,
        train: ArrayView2<'_, f32>,
        threads: usize,
        seed: u64,
        reporter: &'a Reporter,
        usage: &'a Usage,
    ) -> Result<(Self, f64), Failure> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| HostFault::Threads { threads, reason: e.to_string() })?;
        let before = instance.code_bytes();
        let started = Instant::now();
        usage.during("fit", || {
            lend("fit", threads, seed, &pool, reporter, |caller| instance.fit(train, caller))
        })?;
        let fit_s = started.elapsed().as_secs_f64();
        let (code_bytes, dim) = (instance.code_bytes(), instance.space().dim);
        if before != 0 && before != code_bytes {
            return Err(Failure::invalid(format!(
                "code_bytes() was {before} before fit and {code_bytes} after it"
            )));
        }
        if code_bytes == 0 || code_bytes > absurd_code_bytes(dim) {
            return Err(Failure::invalid(format!(
                "code_bytes() is {code_bytes} for vectors of {} bytes",
                4 * dim
            )));
        }
        Ok((Codec { instance, code_bytes, threads, seed, pool, reporter, usage }, fit_s))
    }

    pub(super) fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The method's claim, if it makes one that is true.
    pub(super) fn checked_ratio(&self) -> Result<Option<f64>, Failure> {
        let Some(claimed) = self.instance.ratio() else { return Ok(None) };
        let measured = 4.0 * self.instance.space().dim as f64 / self.code_bytes as f64;
        let untrue = (claimed / measured - 1.0).abs() > RATIO_TOLERANCE;
        if untrue || claimed.is_nan() {
            return Err(Failure::invalid(format!(
                "ratio() claims {claimed:.3}, but {} bytes in {} make it {measured:.3}",
                4 * self.instance.space().dim,
                self.code_bytes
            )));
        }
        Ok(Some(claimed))
    }

    /// Runs `body` with what the host lends to a call at `stage`.
    pub(super) fn lend<T>(&self, stage: &str, body: impl FnOnce(&Caller<'_>) -> T) -> T {
        self.usage.during(stage, || self.lend_timed(stage, body))
    }

    /// The same for a call of which many are timed as one: the caller sees to its CPU time.
    pub(super) fn lend_timed<T>(&self, stage: &str, body: impl FnOnce(&Caller<'_>) -> T) -> T {
        lend(stage, self.threads, self.seed, &self.pool, self.reporter, body)
    }

    /// Encodes `x` (n, d) into `codes`, n · code_bytes bytes, through the guarded `buffer`.
    pub(super) fn encode(
        &self,
        x: ArrayView2<'_, f32>,
        buffer: &mut Guarded<u8>,
        codes: &mut [u8],
    ) -> Result<(), Failure> {
        let room = buffer.lend(codes.len());
        let done = self
            .lend("compress", |caller| self.instance.compress(x, self.code_bytes, caller, room));
        codes.copy_from_slice(buffer.finish("compress")?);
        Ok(done?)
    }

    /// Decodes `codes` (n, code_bytes), the rows from `first` on, into `x` (n, d).
    pub(super) fn decode(
        &self,
        codes: ArrayView2<'_, u8>,
        first: usize,
        buffer: &mut Guarded<f32>,
        mut x: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Failure> {
        let dim = x.ncols();
        let room = buffer.lend(x.len());
        let done = self.lend("decompress", |caller| self.instance.decompress(codes, caller, room));
        let values = buffer.finish("decompress")?;
        done?;
        let canary = buffer.canary().to_bits();
        let bad = values
            .par_chunks_exact(dim)
            .position_first(|row| row.iter().any(|v| !v.is_finite() || v.to_bits() == canary));
        if let Some(row) = bad {
            let value = values[row * dim..][..dim]
                .iter()
                .find(|v| !v.is_finite())
                .map_or_else(|| "nothing".to_owned(), f32::to_string);
            return Err(Failure::invalid(format!(
                "decompress returned {value} in row {}",
                first + row
            )));
        }
        let Some(out) = x.as_slice_mut() else {
            return Err(Failure::failed("a block is not contiguous"));
        };
        out.copy_from_slice(values);
        Ok(())
    }

    /// `codes` (n, code_bytes) as `scorer` reads them.
    pub(super) fn pack(
        &self,
        scorer: &Scorer<'_>,
        codes: ArrayView2<'_, u8>,
    ) -> Result<Guarded<u8>, Failure> {
        let mut packed = Guarded::codes();
        let room = packed.lend(scorer.packed_bytes(codes.nrows())?);
        let done = self.lend("pack", |caller| scorer.pack(codes, caller, room));
        packed.finish("pack")?;
        done?;
        Ok(packed)
    }

    /// The scorer, where the method has one.
    pub(super) fn scorer(&self) -> Option<Scorer<'_>> {
        self.instance.scorer()
    }

    /// `codes` as a matrix (n, code_bytes).
    pub(super) fn matrix<'c>(&self, codes: &'c [u8]) -> Result<ArrayView2<'c, u8>, Failure> {
        let rows = codes.len() / self.code_bytes;
        ArrayView2::from_shape((rows, self.code_bytes), codes).map_err(Failure::failed)
    }
}

fn lend<T>(
    stage: &str,
    threads: usize,
    seed: u64,
    pool: &rayon::ThreadPool,
    reporter: &Reporter,
    body: impl FnOnce(&Caller<'_>) -> T,
) -> T {
    // Also for methods that never tell their progress: whatever ends now ends at this stage.
    reporter.within(stage, 0.0);
    let log = |level, text: &str| reporter.log(level, text);
    let progress = |fraction: f32, _: &str| {
        reporter.within(stage, fraction);
        // The parent stops a cell by ending its process.
        true
    };
    body(&Caller { threads, seed, log: &log, progress: &progress, pool })
}

/// Encodes and decodes `x` (n, d): what a stored vector comes back as.
pub(super) fn round_trip(
    codec: &Codec<'_>,
    x: ArrayView2<'_, f32>,
) -> Result<Array2<f32>, Failure> {
    let mut codes = vec![0; x.nrows() * codec.code_bytes()];
    codec.encode(x, &mut Guarded::codes(), &mut codes)?;
    let mut decoded = Array2::zeros(x.dim());
    let codes = codec.matrix(&codes)?;
    codec.decode(codes, 0, &mut Guarded::rows(), decoded.view_mut())?;
    Ok(decoded)
}
