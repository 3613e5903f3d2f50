//! Product quantization: `x̂ = [c₁(i₁), …, c_m(i_m)]`, every sub-vector replaced by its nearest
//! centroid: [`Product`] on the dimensions in their given order. A distance to a code is a sum of m table
//! entries, one table per query and sub-space.
//!
//! Jégou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", 2011.
#![forbid(unsafe_code)]

use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::scan::{ByTables, Tables};
use vq_blocks::{Product, Training, rate, scan_by_tables};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space, Value, export_plugin,
    params,
};

params! {
    /// Parameters of product quantization.
    pub struct Split {
        /// Sub-vectors; must divide the dimension.
        m: usize = 8, min = 1;
        /// Bits per sub-vector: each sub-space has 2^bits centroids.
        bits: u32 = 8, min = 1, max = 12;
        /// Most rounds of k-means.
        iterations: usize = 25, min = 1, max = 10_000;
        /// Training rows used per centroid, a random sample where there are more.
        points_per_centroid: usize = 256, min = 1, max = 1_000_000;
    }
}

/// A product quantizer.
pub struct Pq {
    training: Training,
    metric: Metric,
    product: Product,
}

impl Quantizer for Pq {
    type Params = Split;
    const METHOD: Method = Method::new("pq", "PQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Product quantization: k-means in each of m sub-spaces")
        .paper("Jégou, Douze, Schmid, Product Quantization for Nearest Neighbor Search, 2011")
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("product,codebook,k-means,scorer,FAISS=\"PQ{m}x{bits}\",Milvus=\"IVF_PQ m={m} nbits={bits}\"");

    fn create(params: Split, space: Space) -> Result<Self, Error> {
        let Split { m, bits, iterations, points_per_centroid } = params;
        let training = Training { iterations, points_per_centroid };
        Ok(Pq { training, metric: space.metric, product: Product::new(space.dim, m, bits)? })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let progress = |done: f32| ctx.progress(done, "k-means in sub-spaces");
        self.product.fit(train, self.training, ctx.seed(), &progress)
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
        Ok(self.product.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.product.load(&mut reader)?;
        reader.finish()
    }

    fn rate_axes(space: Space, _bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        rate::all_splits(space.dim)
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_splits::<Self>(request, sink)
    }
}

impl ByTables for Pq {
    fn metric(&self) -> Metric {
        self.metric
    }

    fn tables(&self, query: &[f32]) -> Tables {
        self.product.tables(query, self.metric)
    }
}

scan_by_tables!(Pq);
export_plugin!(Pq: Scorer + Search);
