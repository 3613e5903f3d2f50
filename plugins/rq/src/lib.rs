//! Residual quantization: `x̂ = c₁(i₁) + … + c_L(i_L)`, every layer quantizing what the layers before
//! it left.
//!
//! Training, layer by layer:
//! 1. Encode the training rows with the layers so far, keeping the `beam` best codes of each.
//! 2. k-means on the residuals of all kept codes finds the 2^bits centroids of the next layer.
//!
//! Encoding extends the `beam` best codes of a row by all centroids of the next layer and keeps the
//! `beam` best of those; `beam` = 1 is the greedy encoding. A code is L indices of `bits` bits,
//! packed: ⌈L·bits/8⌉ bytes, with no norm beside it.
//!
//! Chen, Guan, Wang, "Approximate Nearest Neighbor Search by Residual Vector Quantization", 2010;
//! beam search: Babenko & Lempitsky, "Additive Quantization for Extreme Vector Compression", 2014;
//! Liu, Lu, Xu, "Improved Residual Vector Quantization for High-dimensional Approximate Nearest
//! Neighbor Search", 2015.
#![forbid(unsafe_code)]

mod cluster;
mod draw;
mod encode;
mod score;
mod train;

use encode::Layers;
use ndarray::{ArrayView2, ArrayViewMut2};
use vq_kernels::pack::packed_bytes;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::quantizer::product;
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Quantizer, Space, Value, export_plugin, params,
};

/// Most layers.
const MAX_LAYERS: usize = 256;

params! {
    /// Parameters of residual quantization.
    pub struct Residual {
        /// Layers: centroids that are added up.
        layers: usize = 8, min = 1, max = MAX_LAYERS, grid = [2, 4, 8];
        /// Bits per layer: each has 2^bits centroids.
        bits: u32 = 8, min = 1, max = 12;
        /// Partial codes kept per row, in training and encoding; 1 is greedy.
        beam: usize = 5, min = 1, max = 256, grid = [1, 5];
        /// Most rounds of k-means per layer.
        iterations: usize = 25, min = 1, max = 10_000;
        /// Training rows used per centroid, a sample where there are more.
        points_per_centroid: usize = 256, min = 1, max = 1_000_000;
    }
}

/// A residual quantizer.
pub struct Rq {
    params: Residual,
    space: Space,
    /// (layers, 2^bits, d); empty before training.
    centroids: Vec<f32>,
    /// Made from `centroids`.
    layers: Layers,
}

impl Rq {
    fn k(&self) -> usize {
        1 << self.params.bits
    }

    fn set_centroids(&mut self, centroids: Vec<f32>) {
        self.layers = Layers::of(&centroids, &self.params, self.space.dim);
        self.centroids = centroids;
    }
}

impl Quantizer for Rq {
    type Params = Residual;
    const METHOD: Method = Method::new("rq", "RQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Residual quantization: layers of k-means, encoded greedily or by beam search")
        .paper(
            "Chen, Guan, Wang, Approximate Nearest Neighbor Search by Residual Vector \
             Quantization, 2010; Babenko, Lempitsky, Additive Quantization for Extreme Vector \
             Compression, 2014; Liu, Lu, Xu, Improved Residual Vector Quantization, 2015",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("additive,residual,codebook,k-means,beam-search,scorer");

    fn create(params: Residual, space: Space) -> Result<Self, Error> {
        let layers = Layers::none(params.beam);
        Ok(Rq { params, space, centroids: Vec::new(), layers })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let centroids = train::centroids(&self.params, train, ctx)?;
        self.set_centroids(centroids);
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        packed_bytes(self.params.layers, self.params.bits)
    }

    fn model_bytes(&self) -> Option<u64> {
        Some(4 * self.centroids.len() as u64)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        // Small batches in smaller blocks, so that every thread has some.
        let rows = x.nrows().div_ceil(4 * ctx.threads()).clamp(encode::SCORED, encode::BLOCK);
        ctx.par_blocks(x, codes, rows, |x, codes| self.encode(x, codes))
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        ctx.par_blocks(codes, x, encode::BLOCK, |codes, x| self.decode(codes, x))
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(ModelWriter::new().f32s(self.centroids.iter().copied()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let centroids = reader.f32s(self.params.layers * self.k() * self.space.dim)?;
        reader.finish()?;
        self.set_centroids(centroids);
        Ok(())
    }

    /// As many layers of eight bits as come nearest to the rate; fewer bits where one layer of eight
    /// is too much.
    fn rate_axes(space: Space, bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        let wanted = bits_per_dim * space.dim as f64;
        let bits = (wanted.round() as u32).clamp(1, 8);
        vec![
            ("layers", vec![Value::from(layers_at(wanted, f64::from(bits)))]),
            ("bits", vec![Value::from(bits)]),
        ]
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        // Bits that the user fixed ask for another number of layers each.
        let (Some(rate), Some(widths), None) =
            (request.bits_per_dim, request.axes.get("bits"), request.axes.get("layers"))
        else {
            return product::<Self>(request, sink);
        };
        let wanted = rate * request.space.dim as f64;
        for bits in widths {
            let layers = layers_at(wanted, bits.as_f64().unwrap_or(8.0));
            let mut one = request.clone();
            one.axes.insert("bits".to_owned(), vec![bits.clone()]);
            one.axes.insert("layers".to_owned(), vec![Value::from(layers)]);
            product::<Self>(&one, sink)?;
        }
        Ok(())
    }
}

/// Layers of `bits` bits nearest to `wanted` bits per vector.
fn layers_at(wanted: f64, bits: f64) -> usize {
    (wanted / bits).round().clamp(1.0, MAX_LAYERS as f64) as usize
}

export_plugin!(Rq: Scorer);
