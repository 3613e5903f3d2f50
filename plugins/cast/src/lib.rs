//! Number formats as quantizers: `x̂ⱼ = value(nearest number of the format to xⱼ·σ) / σ`.
//!
//! | `type` | bits | σ | beyond the largest number |
//! |---|---|---|---|
//! | `f32` | 32 | 1 | none: bit-exact, the lossless baseline |
//! | `f16` | 16 | 1 | ±65504 |
//! | `bf16` | 16 | 1 | ±3.39e38 |
//! | `fp8_e4m3` | 8 | 2^k, the largest with `2^k · max|x| ≤ 448` | ±448 / σ |
//! | `int8` | 8 | `127 / max|x|` | ±127 / σ |
//!
//! Training: one pass over the rows for `max|x|`; the first three formats learn nothing. Rounding
//! is to nearest, ties to even; finite values saturate and never become infinite. IEEE 754-2019
//! for f32, f16 and the rounding (4.3.1); OCP 8-bit Floating Point Specification 1.0, section 5.1, for e4m3
//! (bias 7, subnormals, no infinities).
#![forbid(unsafe_code)]

mod encode;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use vq_kernels::{Path, half};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::params::ParamType;
use vq_plugin_api::quantizer::meets_rate;
use vq_plugin_api::{
    Context, Error, Method, Quantizer, Space, Value, choices, export_plugin, params,
};

choices! {
    /// A number format.
    pub enum Format {
        F32 = "f32",
        F16 = "f16",
        Bf16 = "bf16",
        Fp8E4m3 = "fp8_e4m3",
        Int8 = "int8",
    }
}

params! {
    /// Parameters of [`Cast`].
    pub struct CastParams {
        /// Number format that every coordinate is cast to.
        r#type: Format = Format::F16,
            grid = [Format::F32, Format::F16, Format::Bf16, Format::Fp8E4m3, Format::Int8];
    }
}

impl Format {
    const ALL: [Format; 5] =
        [Format::F32, Format::F16, Format::Bf16, Format::Fp8E4m3, Format::Int8];

    fn bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::Bf16 => 2,
            Format::Fp8E4m3 | Format::Int8 => 1,
        }
    }

    fn name(self) -> Value {
        self.into_value()
    }
}

/// Each coordinate in a shorter number format.
pub struct Cast {
    format: Format,
    dim: usize,
    /// `max|x|` of the training rows, for the formats that scale.
    largest: f32,
}

/// Values per task: scheduling stays below a percent.
const TASK: usize = 32 * 1024;

/// Rows per progress report: a fraction of a millisecond each at a thousand dimensions.
const ROWS: usize = 4096;

impl Cast {
    fn learns(&self) -> bool {
        self.format.bytes() == 1
    }
}

impl Quantizer for Cast {
    type Params = CastParams;
    const METHOD: Method = Method::new("cast", "Cast")
        .version(env!("CARGO_PKG_VERSION"))
        .description("each coordinate in a shorter number format: f32, f16, bf16, fp8 e4m3, int8")
        .paper("IEEE 754-2019; Micikevicius et al., OCP 8-bit Floating Point Specification, 2023")
        .authors("vq-host authors")
        .license("MIT OR Apache-2.0")
        .tags(
            "scalar,baseline,\
             FAISS=\"Flat\" if type=f32,\
             pgvector=\"vector\" if type=f32,\
             FAISS=\"SQfp16\" if type=f16,\
             pgvector=\"halfvec\" if type=f16,\
             Milvus=\"FLOAT16_VECTOR\" if type=f16,\
             Qdrant=\"datatype float16\" if type=f16,\
             FAISS=\"SQbf16\" if type=bf16,\
             Milvus=\"BFLOAT16_VECTOR\" if type=bf16",
        );

    fn create(params: CastParams, space: Space) -> Result<Self, Error> {
        Ok(Cast { format: params.r#type, dim: space.dim, largest: 0.0 })
    }

    /// Learns `max|x|` of `train` (n, d); coordinates that are not finite are passed over.
    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let mut largest = 0.0_f32;
        if self.learns() {
            for (i, block) in train.axis_chunks_iter(Axis(0), ROWS).enumerate() {
                ctx.progress((i * ROWS) as f32 / train.nrows() as f32, "largest value")?;
                let finite = |a: f32, x: &f32| if x.is_finite() { a.max(x.abs()) } else { a };
                largest = block.iter().fold(largest, finite);
            }
        }
        self.largest = largest;
        ctx.progress(1.0, "done")
    }

    fn code_bytes(&self) -> usize {
        self.format.bytes() * self.dim
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let path = Path::fastest();
        let scale = match self.format {
            Format::Fp8E4m3 => encode::exp2(encode::e4m3_exponent(self.largest)),
            Format::Int8 => encode::int8_scale(self.largest),
            Format::F32 | Format::F16 | Format::Bf16 => 1.0,
        };
        ctx.par_rows(x, codes, |x, code| {
            path.run(
                #[inline(always)]
                || match self.format {
                    Format::F32 => encode::to_f32(x, code),
                    Format::F16 => half::encode(x, code),
                    Format::Bf16 => encode::to_bf16(x, code),
                    Format::Fp8E4m3 => encode::to_e4m3(x, scale, code),
                    Format::Int8 => encode::to_int8(x, scale, code),
                },
            );
        })
    }

    /// Decodes `codes` (n, code_bytes) into `x` (n, d).
    ///
    /// # Errors
    /// Codes of an infinity or of no number, which only input that is not finite can have.
    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let (path, rows) = (Path::fastest(), TASK / self.dim.max(1));
        let exponent = encode::e4m3_exponent(self.largest);
        ctx.par_blocks(codes, x, rows, |codes, mut x| {
            for (code, mut x) in codes.outer_iter().zip(x.outer_iter_mut()) {
                let (Some(code), Some(x)) = (code.as_slice(), x.as_slice_mut()) else {
                    return Err(Error::failed("rows are not contiguous"));
                };
                let finite = path.run(
                    #[inline(always)]
                    || {
                        match self.format {
                            Format::F32 => encode::from_f32(code, x),
                            Format::F16 => half::decode(code, x),
                            Format::Bf16 => encode::from_bf16(code, x),
                            Format::Fp8E4m3 => encode::from_e4m3(code, exponent, x),
                            Format::Int8 => encode::from_int8(code, self.largest, x),
                        }
                        encode::all_finite(x)
                    },
                );
                if !finite {
                    return Err(Error::failed("a code stands for an infinity or for no number"));
                }
            }
            Ok(())
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(match self.learns() {
            true => ModelWriter::new().f32s([self.largest]).finish(),
            false => Vec::new(),
        })
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let largest = if self.learns() { reader.f32s(1)?[0] } else { 0.0 };
        reader.finish()?;
        if largest < 0.0 {
            return Err(Error::failed(format!("largest magnitude {largest} is negative")));
        }
        self.largest = largest;
        Ok(())
    }

    fn rate_axes(space: Space, bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        let dim = space.dim;
        let fits = |format: &Format| meets_rate(format.bytes() * dim, dim, bits_per_dim);
        let formats: Vec<Value> = Format::ALL.into_iter().filter(fits).map(Format::name).collect();
        if formats.is_empty() { Vec::new() } else { vec![("type", formats)] }
    }
}

export_plugin!(Cast);
