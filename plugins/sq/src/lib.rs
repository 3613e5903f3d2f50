//! Scalar quantization: `x̂ⱼ = level_j[c]`, `c = argmin_c |xⱼ − level_j[c]|`, 2^bits levels, uniform or
//! learned, per dimension or for all: [`Scalar`] has the training.
//!
//! Max, "Quantizing for minimum distortion", 1960; Lloyd, "Least squares quantization in PCM", 1982.
#![forbid(unsafe_code)]

use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::scalar::{Fit, Placement, Range, Settings};
use vq_blocks::{Scalar, rate};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{Context, Error, Method, Quantizer, Space, Value, export_plugin, params};

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
    scalar: Scalar,
}

impl Quantizer for Sq {
    type Params = SqParams;
    const METHOD: Method = Method::new("sq", "SQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("scalar quantization: uniform or Lloyd-Max levels, per dimension or global")
        .paper("Max, Quantizing for minimum distortion, 1960; Lloyd, Least squares quantization in PCM, 1982")
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags(
            "scalar,\
             FAISS=\"SQ{bits}\" if bits=4|6|8 levels=uniform fit=range range=dimension trim=0,\
             Milvus=\"IVF_SQ8\" if bits=8 levels=uniform fit=range range=dimension trim=0,\
             Qdrant=\"nearest is scalar, type int8 (7 bits)\" if bits=7|8 levels=uniform range=global",
        );

    fn create(params: SqParams, space: Space) -> Result<Self, Error> {
        let SqParams { bits, range, levels, fit, trim } = params;
        Ok(Sq { scalar: Scalar::new(space.dim, Settings { bits, range, levels, fit, trim })? })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        self.scalar.fit(train, &|done| ctx.progress(done, "levels"))
    }

    fn code_bytes(&self) -> usize {
        self.scalar.code_bytes()
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.scalar.encode(x, codes, ctx)
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.scalar.decode(codes, x, ctx)
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.scalar.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.scalar.load(&mut reader)?;
        reader.finish()
    }

    fn rate_axes(_: Space, bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        vec![("bits", rate::whole_bits(bits_per_dim, 16))]
    }
}

export_plugin!(Sq);
