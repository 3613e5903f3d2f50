//! Levels for single coordinates: `x̂ⱼ = level_j[c]`, `c = argmin_c |xⱼ − level_j[c]|`, 2^bits levels.
//!
//! Uniform levels are `baseⱼ + c·stepⱼ`; `lloyd_max` levels are free. Training, for each dimension
//! or for all values together:
//!
//! 1. The range: smallest and largest training value, less a fraction `trim` at each end.
//! 2. `levels = "uniform"`, `fit = "range"`: the levels divide the range either into 2^bits cells
//!    with a level in the middle of each, or with a level at both ends, whichever errs less on the
//!    training values.
//! 3. `fit = "mse"`: start from the ranges between several quantiles; from the best, alternate
//!    between assigning the values to levels and the least-squares line through them.
//! 4. `levels = "lloyd_max"`: start from levels with density p^(1/3) (Panter & Dite 1951), then
//!    alternate between nearest levels and means (Max 1960; Lloyd 1982, method I).
//!
//! Cost of training: O(n·d·log n) with sorting, O(n·d) for plain ranges. Levels are learned from
//! at most 2^20 values each, every k-th row; ranges without `trim` from all.

mod levels;
mod train;

use crate::contiguous;
use levels::{Codebook, Levels, Uniform};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::borrow::Cow;
use vq_kernels::Path;
use vq_kernels::pack::{self, packed_bytes};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{Context, Error, choices};

choices! {
    /// What shares one set of levels.
    pub enum Range { Dimension = "dimension", Global = "global" }
}

choices! {
    /// Where the levels lie.
    pub enum Placement { Uniform = "uniform", LloydMax = "lloyd_max" }
}

choices! {
    /// What decides the ends of uniform levels.
    pub enum Fit { Range = "range", Mse = "mse" }
}

/// How levels are learned.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bits per dimension, 1 to 16.
    pub bits: u32,
    /// One set of levels per dimension, or one for all.
    pub range: Range,
    /// Evenly spaced levels, or levels learned by Lloyd's algorithm (at most 8 bits).
    pub levels: Placement,
    /// Uniform levels over the whole range of the training values, or where their squared error is
    /// least.
    pub fit: Fit,
    /// Fraction of the training values left outside the range at each end.
    pub trim: f64,
}

impl Settings {
    /// Whether these go together.
    ///
    /// # Errors
    /// The parameter that does not.
    pub fn check(&self) -> Result<(), Error> {
        let learned = self.levels == Placement::LloydMax;
        if learned && self.bits > 8 {
            let reason = format!(
                "{} is more than the 8 bits of lloyd_max: more levels than training can place",
                self.bits
            );
            return Err(Error::param("bits", reason));
        }
        if learned && self.fit == Fit::Mse {
            return Err(Error::param(
                "fit",
                "mse concerns uniform levels; lloyd_max has no other aim",
            ));
        }
        if self.trim > 0.0 && (learned || self.fit == Fit::Mse) {
            let reason = "levels of least squared error choose their own range; trim needs \
                          levels = \"uniform\" and fit = \"range\"";
            return Err(Error::param("trim", reason));
        }
        Ok(())
    }
}

/// Levels of every coordinate.
pub struct Scalar {
    settings: Settings,
    dim: usize,
    codebook: Codebook,
}

/// Values per task: scheduling stays below a percent.
const TASK: usize = 32 * 1024;

/// Bytes of decoded rows that no cache holds until someone reads them.
const PAST_CACHES: usize = 16 << 20;

impl Scalar {
    /// Levels for `dim` dimensions, not fitted.
    ///
    /// # Errors
    /// As [`Settings::check`].
    pub fn new(dim: usize, settings: Settings) -> Result<Self, Error> {
        settings.check()?;
        Ok(Scalar { settings, dim, codebook: Codebook::untrained() })
    }

    /// Learns the levels from the rows `x` (n, d). Training is deterministic: it draws nothing.
    ///
    /// # Errors
    /// No rows, or what `progress` returns.
    pub fn fit(
        &mut self,
        x: ArrayView2<'_, f32>,
        progress: &(dyn Fn(f32) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        if x.nrows() == 0 {
            return Err(Error::failed("no training rows"));
        }
        self.codebook = train::codebook(x, &self.settings, progress)?;
        Ok(())
    }

    /// Bytes of a code.
    #[must_use]
    pub fn code_bytes(&self) -> usize {
        packed_bytes(self.dim, self.settings.bits)
    }

    /// Encodes `x` (n, d) into `codes` (n, code_bytes). O(n·d).
    ///
    /// # Errors
    /// Strided codes, which the host never lends.
    pub fn encode(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let path = Path::fastest();
        ctx.par_blocks(x, codes, self.rows_per_task(), |x, mut codes| {
            let mut indices = vec![0_u16; self.dim];
            for (x, mut code) in x.outer_iter().zip(codes.outer_iter_mut()) {
                let x = x.as_slice().map_or_else(|| Cow::Owned(x.to_vec()), Cow::Borrowed);
                let code = contiguous(code.as_slice_mut())?;
                if self.settings.bits == 8 {
                    self.codebook.encode_on(path, &x, code, |index| index as u8);
                } else {
                    self.codebook.encode_on(path, &x, &mut indices, |index| index as u16);
                    pack::pack(&indices, self.settings.bits, code);
                }
            }
            Ok(())
        })
    }

    /// Decodes `codes` (n, code_bytes) into `x` (n, d). O(n·d).
    ///
    /// # Errors
    /// Strided rows, which the host never lends.
    pub fn decode(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let past_caches = x.len() * size_of::<f32>() >= PAST_CACHES;
        ctx.par_blocks(codes, x, self.rows_per_task(), |codes, mut x| {
            let bits = self.settings.bits;
            let levels = match &self.codebook {
                Codebook::Uniform(Uniform { base, step, .. }) => {
                    pack::unpack_scaled(codes, bits, base, step, x, past_caches);
                    return Ok(());
                }
                Codebook::Levels(levels) => levels,
            };
            let mut indices = vec![0_u16; self.dim];
            for (code, mut x) in codes.outer_iter().zip(x.outer_iter_mut()) {
                pack::unpack(contiguous(code.as_slice())?, bits, &mut indices);
                levels.decode(&indices, contiguous(x.as_slice_mut())?);
            }
            Ok(())
        })
    }

    /// Appends the levels to a model.
    #[must_use]
    pub fn save(&self, model: ModelWriter) -> ModelWriter {
        match &self.codebook {
            Codebook::Uniform(uniform) => {
                let sets = self.sets();
                model
                    .f32s(uniform.base.iter().copied().take(sets))
                    .f32s(uniform.step.iter().copied().take(sets))
            }
            Codebook::Levels(levels) => model.f32s(levels.levels.iter().copied()),
        }
    }

    /// Reads what [`save`](Self::save) appended.
    ///
    /// # Errors
    /// Other numbers of levels, or levels that no training gives.
    pub fn load(&mut self, model: &mut ModelReader<'_>) -> Result<(), Error> {
        let (sets, count) = (self.sets(), 1 << self.settings.bits);
        self.codebook = match self.settings.levels {
            Placement::Uniform => {
                let (base, step) = (model.f32s(sets)?, model.f32s(sets)?);
                Codebook::Uniform(
                    Uniform::new(base, step, self.dim, count)
                        .ok_or_else(|| Error::failed("a step is negative or leads to infinity"))?,
                )
            }
            Placement::LloydMax => Codebook::Levels(
                Levels::new(model.f32s(sets * count)?, count)
                    .ok_or_else(|| Error::failed("levels do not ascend"))?,
            ),
        };
        Ok(())
    }

    /// Sets of levels: one per dimension, or one.
    fn sets(&self) -> usize {
        match self.settings.range {
            Range::Dimension => self.dim,
            Range::Global => 1,
        }
    }

    fn rows_per_task(&self) -> usize {
        (TASK / self.dim).max(1)
    }
}
