//! What the host lends to each call: threads, seed, progress, log.

use crate::Error;
use crate::abi::{VqCtx, VqStr};
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;
use std::marker::PhantomData;

/// The host's side of one call. Shared freely between the call's threads.
pub struct Context<'a> {
    raw: Option<VqCtx>,
    threads: usize,
    seed: u64,
    call: PhantomData<&'a VqCtx>,
}

// SAFETY: the contract lets the callbacks behind `raw` be called from any thread during the call,
// and the lifetime keeps the context from outliving it.
unsafe impl Sync for Context<'_> {}
// SAFETY: as above.
unsafe impl Send for Context<'_> {}

/// How loud a log line is.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the usual three")]
pub enum Level {
    Debug,
    Info,
    Warn,
}

impl<'a> Context<'a> {
    /// A context without a host, for a method's own tests.
    pub fn detached(threads: usize, seed: u64) -> Context<'static> {
        Context { raw: None, threads, seed, call: PhantomData }
    }

    pub(crate) fn of(raw: &'a VqCtx) -> Self {
        Context {
            raw: Some(*raw),
            threads: raw.threads.max(1) as usize,
            seed: raw.seed,
            call: PhantomData,
        }
    }

    /// The thread budget; rayon's current pool has as many.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// All randomness of a method derives from it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Reports the fraction done (0 to 1, not decreasing within a call) and gives the host a
    /// chance to stop. Call it at least every few hundred milliseconds.
    ///
    /// # Errors
    /// [`Error::cancelled`] when the host wants to stop: pass it on with `?`.
    pub fn progress(&self, fraction: f32, stage: &str) -> Result<(), Error> {
        let Some(raw) = &self.raw else { return Ok(()) };
        // SAFETY: `raw` came from a host that keeps its callbacks valid during the call.
        let stop = unsafe { (raw.progress)(raw.host, fraction, VqStr::new(stage)) };
        if stop == 0 { Ok(()) } else { Err(Error::cancelled()) }
    }

    /// One line into the record's log.
    pub fn log(&self, level: Level, text: &str) {
        let Some(raw) = &self.raw else { return };
        // SAFETY: as in `progress`.
        unsafe { (raw.log)(raw.host, level as u32, VqStr::new(text)) }
    }

    /// Calls `row(input, output)` for each pair of rows, in parallel on the thread budget.
    ///
    /// # Errors
    /// Rows of `output` that are not contiguous, which the host never lends.
    pub fn par_rows<A: Copy + Sync, B: Copy + Send>(
        &self,
        input: ArrayView2<'_, A>,
        output: ArrayViewMut2<'_, B>,
        row: impl Fn(&[A], &mut [B]) + Sync,
    ) -> Result<(), Error> {
        // One task of about this many input values keeps scheduling below a percent.
        const VALUES_PER_TASK: usize = 16 * 1024;
        let rows = (VALUES_PER_TASK / input.ncols().max(1)).max(1);
        self.par_blocks(input, output, rows, |input, mut output| {
            for (input, mut output) in input.outer_iter().zip(output.outer_iter_mut()) {
                let Some(output) = output.as_slice_mut() else {
                    return Err(Error::failed("output rows are not contiguous"));
                };
                match input.as_slice() {
                    Some(input) => row(input, output),
                    None => row(&input.to_vec(), output),
                }
            }
            Ok(())
        })
    }

    /// Calls `block(input, output)` for blocks of at most `rows` consecutive rows, in parallel on
    /// the thread budget.
    ///
    /// # Errors
    /// An error of any block.
    pub fn par_blocks<A: Sync, B: Send>(
        &self,
        input: ArrayView2<'_, A>,
        mut output: ArrayViewMut2<'_, B>,
        rows: usize,
        block: impl Fn(ArrayView2<'_, A>, ArrayViewMut2<'_, B>) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let rows = rows.max(1);
        // rayon over an index range: ndarray's own parallel iterator splits down to one row.
        let blocks: Vec<_> = input
            .axis_chunks_iter(Axis(0), rows)
            .zip(output.axis_chunks_iter_mut(Axis(0), rows))
            .collect();
        if self.threads == 1 {
            return blocks.into_iter().try_for_each(|(input, output)| block(input, output));
        }
        blocks.into_par_iter().with_max_len(1).try_for_each(|(input, output)| block(input, output))
    }
}
