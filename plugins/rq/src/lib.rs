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
use vq_blocks::{Residual, Training, rate, scan_by_tables};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space, export_plugin, params,
};

/// Most layers.
const MAX_LAYERS: usize = 256;

/// Most layers of a sub-space that answer a rate: more gain little and take long to learn.
const MOST_LAYERS: usize = 32;

params! {
    /// Parameters of residual quantization.
    pub struct RqParams {
        /// Sub-spaces of neighbouring dimensions, each with layers of its own; must divide the dimension.
        splits: usize = 1, min = 1;
        /// Layers of each: centroids that are added up.
        layers: usize = 8, min = 1, max = MAX_LAYERS;
        /// Bits per layer: each has 2^bits centroids.
        bits: u32 = 8, min = 1, max = 12;
        /// Partial codes kept per row, in training and encoding; 1 is greedy.
        beam: usize = 5, min = 1, max = 256, grid = [5, 1];
        /// Rounds of moving the centroids of all layers together, after the last.
        joint: usize = 2, max = 100;
        /// Most rounds of k-means per layer.
        iterations: usize = 25, min = 1, max = 10_000;
        /// Training rows used per centroid, a sample where there are more.
        points_per_centroid: usize = 256, min = 1, max = 1_000_000;
    }
}

/// A residual quantizer.
pub struct Rq {
    training: Training,
    joint: usize,
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
        .tags(
            "additive,residual,codebook,k-means,beam-search,scorer,\
             FAISS=\"RQ{layers}x{bits}\" if splits=1,\
             FAISS=\"PRQ{splits}x{layers}x{bits}\"",
        );

    fn create(params: RqParams, space: Space) -> Result<Self, Error> {
        let RqParams { splits, layers, bits, beam, joint, iterations, points_per_centroid } =
            params;
        let training = Training { iterations, points_per_centroid };
        let residual = Residual::new(space.dim, Shape { splits, layers, bits, beam })?;
        Ok(Rq { training, joint, metric: space.metric, residual })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let progress = |done: f32, stage: &str| ctx.progress(done, stage);
        self.residual.fit(train, self.training, self.joint, ctx.seed(), &progress)
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

    /// A rate is answered by as many layers of eight bits, or of those that the user fixed, as its budget
    /// holds, in as few sub-spaces as hold them; the default grid is the answer to its rates.
    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_layers::<Self>(MOST_LAYERS, request, sink)
    }
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
