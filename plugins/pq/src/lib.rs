//! Product quantization: `x̂ = [c₁(i₁), …, c_m(i_m)]`, every sub-vector replaced by its nearest
//! centroid.
//!
//! Training:
//! 1. Cut the d dimensions into m sub-spaces of d/m neighbouring dimensions.
//! 2. In each, k-means finds 2^bits centroids, from at most `points_per_centroid` · 2^bits rows.
//!
//! A code is m indices of `bits` bits, packed: ⌈m·bits/8⌉ bytes. A distance to a code is a sum
//! of m table entries, one table per query and sub-space.
//!
//! Jégou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", 2011.
#![forbid(unsafe_code)]

mod encode;
mod grid;
mod score;
mod train;

use ndarray::{ArrayView2, ArrayViewMut2};
use vq_kernels::Nearest;
use vq_kernels::pack::packed_bytes;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space, Value, export_plugin,
    params,
};

params! {
    /// Parameters of product quantization.
    pub struct Split {
        /// Sub-vectors; must divide the dimension.
        m: usize = 8, min = 1, grid = [8, 16, 32];
        /// Bits per sub-vector: each sub-space has 2^bits centroids.
        bits: u32 = 8, min = 1, max = 12, grid = [4, 8];
        /// Most rounds of k-means.
        iterations: usize = 25, min = 1, max = 10_000;
        /// Training rows used per centroid, a random sample where there are more.
        points_per_centroid: usize = 256, min = 1, max = 1_000_000;
    }
}

/// A product quantizer.
pub struct Pq {
    params: Split,
    metric: Metric,
    /// Dimensions of a sub-space, d/m.
    sub: usize,
    /// (m, 2^bits, sub); empty before training.
    centroids: Vec<f32>,
    /// One per sub-space, made from `centroids`.
    nearest: Vec<Nearest>,
    /// (m, sub, 2^bits): `centroids` with the sub-spaces transposed.
    transposed: Vec<f32>,
}

impl Pq {
    fn k(&self) -> usize {
        1 << self.params.bits
    }

    fn set_centroids(&mut self, centroids: Vec<f32>) {
        let (k, sub) = (self.k(), self.sub);
        self.nearest.clear();
        self.transposed = vec![0.0; centroids.len()];
        for (rows, columns) in
            centroids.chunks_exact(k * sub).zip(self.transposed.chunks_exact_mut(k * sub))
        {
            let rows = ArrayView2::from_shape((k, sub), rows).expect("k rows of a sub-space");
            let transposed = ArrayViewMut2::from_shape((sub, k), columns).expect("as many");
            rows.t().assign_to(transposed);
            self.nearest.push(Nearest::for_l2_centred(rows));
        }
        self.centroids = centroids;
    }
}

impl Quantizer for Pq {
    type Params = Split;
    const METHOD: Method = Method::new("pq", "PQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Product quantization: k-means in each of m sub-spaces")
        .paper("Jégou, Douze, Schmid, Product Quantization for Nearest Neighbor Search, 2011")
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("product,codebook,k-means,scorer");

    fn create(params: Split, space: Space) -> Result<Self, Error> {
        let (m, d) = (params.m, space.dim);
        if !d.is_multiple_of(m) {
            return Err(Error::param("m", format_args!("{m} does not divide d = {d}")));
        }
        Ok(Pq {
            params,
            metric: space.metric,
            sub: d / m,
            centroids: Vec::new(),
            nearest: Vec::new(),
            transposed: Vec::new(),
        })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let centroids = train::centroids(&self.params, train, ctx)?;
        self.set_centroids(centroids);
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        packed_bytes(self.params.m, self.params.bits)
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
        ctx.par_blocks(x, codes, encode::BLOCK, |x, codes| self.encode(x, codes))
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
        let centroids = reader.f32s(self.params.m * self.k() * self.sub)?;
        reader.finish()?;
        self.set_centroids(centroids);
        Ok(())
    }

    fn rate_axes(space: Space, _bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        grid::all_splits(space.dim)
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        grid::expand(request, sink)
    }
}

export_plugin!(Pq: Scorer);
