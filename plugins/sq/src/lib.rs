//! Scalar quantization: `x̂ⱼ = level_j[c]`, `c = argmin_c |xⱼ − level_j[c]|`, 2^bits levels.
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
#![forbid(unsafe_code)]

mod encode;
mod train;

use encode::{Codebook, Levels, Uniform};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::borrow::Cow;
use vq_kernels::Path;
use vq_kernels::pack::{self, packed_bytes};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, Method, Quantizer, Space, Value, choices, export_plugin, params,
};

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

params! {
    /// Parameters of [`Sq`].
    pub struct SqParams {
        /// Bits per dimension.
        bits: u32 = 8, min = 1, max = 16, grid = [4, 8];
        /// One set of levels per dimension, or one for all.
        range: Range = Range::Dimension;
        /// Evenly spaced levels, or levels learned by Lloyd's algorithm (at most 8 bits).
        levels: Placement = Placement::Uniform;
        /// Uniform levels over the whole range of the training values, or where their squared
        /// error is least.
        fit: Fit = Fit::Range;
        /// Fraction of the training values left outside the range at each end.
        trim: f64 = 0.0, min = 0.0, max = 0.25;
    }
}

/// One level per coordinate.
pub struct Sq {
    params: SqParams,
    dim: usize,
    codebook: Codebook,
}

/// Values per task: scheduling stays below a percent.
const TASK: usize = 32 * 1024;

/// Bytes of decoded rows that no cache holds until someone reads them.
const PAST_CACHES: usize = 16 << 20;

impl Sq {
    fn levels(&self) -> usize {
        1 << self.params.bits
    }

    /// Sets of levels: one per dimension, or one.
    fn sets(&self) -> usize {
        match self.params.range {
            Range::Dimension => self.dim,
            Range::Global => 1,
        }
    }

    fn blocks(&self) -> usize {
        (TASK / self.dim).max(1)
    }
}

impl Quantizer for Sq {
    type Params = SqParams;
    const METHOD: Method = Method::new("sq", "SQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("scalar quantization: uniform or Lloyd-Max levels, per dimension or global")
        .paper("Max, Quantizing for minimum distortion, 1960; Lloyd, Least squares quantization in PCM, 1982")
        .authors("vq-host authors")
        .license("MIT OR Apache-2.0")
        .tags("scalar");

    fn create(params: SqParams, space: Space) -> Result<Self, Error> {
        let learned = params.levels == Placement::LloydMax;
        if learned && params.bits > 8 {
            let reason = format!(
                "{} is more than the 8 bits of lloyd_max: more levels than training can place",
                params.bits
            );
            return Err(Error::param("bits", reason));
        }
        if learned && params.fit == Fit::Mse {
            return Err(Error::param(
                "fit",
                "mse concerns uniform levels; lloyd_max has no other aim",
            ));
        }
        if params.trim > 0.0 && (learned || params.fit == Fit::Mse) {
            let reason = "levels of least squared error choose their own range; trim needs \
                          levels = \"uniform\" and fit = \"range\"";
            return Err(Error::param("trim", reason));
        }
        Ok(Sq { params, dim: space.dim, codebook: Codebook::untrained() })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        if train.nrows() == 0 {
            return Err(Error::failed("no training rows"));
        }
        self.codebook = train::codebook(train, &self.params, ctx)?;
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        packed_bytes(self.dim, self.params.bits)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let path = Path::fastest();
        ctx.par_blocks(x, codes, self.blocks(), |x, mut codes| {
            let mut indices = vec![0_u16; self.dim];
            for (x, mut code) in x.outer_iter().zip(codes.outer_iter_mut()) {
                let x = x.as_slice().map_or_else(|| Cow::Owned(x.to_vec()), Cow::Borrowed);
                let code = contiguous(code.as_slice_mut())?;
                if self.params.bits == 8 {
                    self.codebook.encode_on(path, &x, code, |index| index as u8);
                } else {
                    self.codebook.encode_on(path, &x, &mut indices, |index| index as u16);
                    pack::pack(&indices, self.params.bits, code);
                }
            }
            Ok(())
        })
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let past_caches = x.len() * size_of::<f32>() >= PAST_CACHES;
        ctx.par_blocks(codes, x, self.blocks(), |codes, mut x| {
            let bits = self.params.bits;
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

    fn save(&self) -> Result<Vec<u8>, Error> {
        let writer = ModelWriter::new();
        Ok(match &self.codebook {
            Codebook::Uniform(uniform) => {
                let sets = self.sets();
                writer
                    .f32s(uniform.base.iter().copied().take(sets))
                    .f32s(uniform.step.iter().copied().take(sets))
            }
            Codebook::Levels(levels) => writer.f32s(levels.levels.iter().copied()),
        }
        .finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let sets = self.sets();
        self.codebook = match self.params.levels {
            Placement::Uniform => {
                let (base, step) = (reader.f32s(sets)?, reader.f32s(sets)?);
                Codebook::Uniform(
                    Uniform::new(base, step, self.dim, self.levels())
                        .ok_or_else(|| Error::failed("a step is negative or leads to infinity"))?,
                )
            }
            Placement::LloydMax => Codebook::Levels(
                Levels::new(reader.f32s(sets * self.levels())?, self.levels())
                    .ok_or_else(|| Error::failed("levels do not ascend"))?,
            ),
        };
        reader.finish()
    }

    fn rate_axes(_: Space, bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        // Whole bits only; next to the wish, since few dimensions round up to whole bytes.
        let bits = [bits_per_dim.floor(), bits_per_dim.ceil()].map(|b| b.clamp(1.0, 16.0) as u32);
        let mut bits = bits.map(Value::from).to_vec();
        bits.dedup();
        vec![("bits", bits)]
    }
}

fn contiguous<T>(row: Option<T>) -> Result<T, Error> {
    row.ok_or_else(|| Error::failed("rows are not contiguous"))
}

export_plugin!(Sq);
