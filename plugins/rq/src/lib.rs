//! Residual quantization: `x̂ = c₁(i₁) + … + c_L(i_L)`, every layer quantizing what the layers before
//! it left, encoded greedily or by beam search: [`Residual`].
//!
//! Chen, Guan, Wang, "Approximate Nearest Neighbor Search by Residual Vector Quantization", 2010;
//! beam search: Babenko & Lempitsky, "Additive Quantization for Extreme Vector Compression", 2014;
//! Liu, Lu, Xu, "Improved Residual Vector Quantization for High-dimensional Approximate Nearest
//! Neighbor Search", 2015.
#![forbid(unsafe_code)]

use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::residual::Shape;
use vq_blocks::scan::{ByTables, Tables};
use vq_blocks::{Residual, Training, scan_by_tables};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::quantizer::product;
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space, Value, export_plugin,
    params,
};

/// Most layers.
const MAX_LAYERS: usize = 256;

params! {
    /// Parameters of residual quantization.
    pub struct RqParams {
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
    training: Training,
    metric: Metric,
    residual: Residual,
}

impl Quantizer for Rq {
    type Params = RqParams;
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

    fn create(params: RqParams, space: Space) -> Result<Self, Error> {
        let RqParams { layers, bits, beam, iterations, points_per_centroid } = params;
        let training = Training { iterations, points_per_centroid };
        let residual = Residual::new(space.dim, Shape { layers, bits, beam });
        Ok(Rq { training, metric: space.metric, residual })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let progress = |done: f32, stage: &str| ctx.progress(done, stage);
        self.residual.fit(train, self.training, ctx.seed(), &progress)
    }

    fn code_bytes(&self) -> usize {
        self.residual.code_bytes()
    }

    fn model_bytes(&self) -> Option<u64> {
        Some(self.residual.model_bytes())
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.residual.encode(x, codes, ctx)
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.residual.decode(codes, x, ctx)
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.residual.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.residual.load(&mut reader)?;
        reader.finish()
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

impl ByTables for Rq {
    fn metric(&self) -> Metric {
        self.metric
    }

    fn tables(&self, query: &[f32]) -> Tables {
        self.residual.tables(query, self.metric)
    }

    fn packed_bytes(&self) -> usize {
        self.residual.packed_bytes(self.metric)
    }

    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.residual.pack(codes, self.metric, packed, ctx)
    }
}

scan_by_tables!(Rq);
export_plugin!(Rq: Scorer + Search);
