//! Optimized product quantization: `x̂ = c + Rᵀ·[c₁(i₁), …, c_m(i_m)]`, product quantization of rotated
//! rows, rotation and codebooks learned together: `train` over [`Product`] in a [`Frame`](vq_blocks::rotated::Frame).
//!
//! Ge, He, Ke, Sun, "Optimized Product Quantization for Approximate Nearest Neighbor Search", CVPR 2013,
//! eq. 4.
#![forbid(unsafe_code)]

mod train;

use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::scan::{ByTables, Tables};
use vq_blocks::{Product, Training, rate, scan_by_tables};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space, Value, export_plugin,
    params,
};

params! {
    /// Parameters of optimized product quantization.
    pub struct OpqParams {
        /// Sub-vectors; must divide the dimension.
        m: usize = 8, min = 1;
        /// Bits per sub-vector: each sub-space has 2^bits centroids.
        bits: u32 = 8, min = 1, max = 12;
        /// Rounds of updating the rotation, each with one round of k-means.
        rounds: usize = 20, max = 10_000;
        /// Most rounds of k-means before and after those.
        iterations: usize = 25, min = 1, max = 10_000;
        /// Training rows used per centroid, a random sample where there are more.
        points_per_centroid: usize = 256, min = 1, max = 1_000_000;
    }
}

/// An optimized product quantizer.
pub struct Opq {
    rounds: usize,
    training: Training,
    metric: Metric,
    /// Without a frame where the dimensions as they are err least: product quantization then.
    product: Product,
}

impl Quantizer for Opq {
    type Params = OpqParams;
    const METHOD: Method = Method::new("opq", "OPQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description(
            "Optimized product quantization: a learned rotation, then k-means in sub-spaces",
        )
        .paper(
            "Ge, He, Ke, Sun, Optimized Product Quantization for Approximate Nearest Neighbor \
             Search, 2013",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("product,codebook,k-means,rotation,scorer,FAISS=\"OPQ{m},PQ{m}x{bits}\"");

    fn create(params: OpqParams, space: Space) -> Result<Self, Error> {
        let OpqParams { m, bits, rounds, iterations, points_per_centroid } = params;
        let training = Training { iterations, points_per_centroid };
        let product = Product::new(space.dim, m, bits)?;
        Ok(Opq { rounds, training, metric: space.metric, product })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let how = (self.rounds, self.training);
        self.product = train::product(&self.product, how, train::HELD, train, ctx)?;
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.product.code_bytes()
    }

    fn model_bytes(&self) -> Option<u64> {
        Some(self.product.model_bytes())
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.product.encode(x, codes, ctx)
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.product.decode(codes, x, ctx)
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.product.save_with_frame(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.product.load_with_frame(&mut reader)?;
        reader.finish()
    }

    fn rate_axes(space: Space, _bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        rate::all_splits(space.dim)
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_splits::<Self>(request, sink)
    }
}

impl ByTables for Opq {
    fn metric(&self) -> Metric {
        self.metric
    }

    fn tables(&self, query: &[f32]) -> Tables {
        self.product.tables(query, self.metric)
    }
}

scan_by_tables!(Opq);
export_plugin!(Opq: Scorer + Search);
