//! Anisotropic vector quantization: codes of product quantization, `x̂ = [c₁(i₁), …, c_m(i_m)]`, chosen
//! and learned by a loss that dreads an error along the row more than one across it, because the former
//! moves the inner products with the queries that the row should be found by:
//!
//! `‖e⊥‖² + η·‖e∥‖² = ‖e‖² + (η − 1)·⟨e, u⟩²`, with `e = x − x̂`, `u = x/‖x‖` (Theorem 3.2) and
//! `η = (d − 1)·T²/(1 − T²)`, the limit for many dimensions (Theorem 3.4) with the threshold T relative to
//! ‖x‖, at least 1 (Theorem 3.3).
//!
//! Training:
//! 1. Product quantization, exactly `pq` with the same seed.
//! 2. `rounds` times: codes of the training rows by that loss (`descent`), then the centroids of least loss
//!    given these codes (`train`).
//!
//! Encoding starts from the nearest centroids and changes one index at a time. Codes, tables and estimates
//! are those of [`Product`].
//!
//! Guo, Sun, Lindgren, Geng, Simcha, Chern, Kumar, "Accelerating Large-Scale Inference with Anisotropic
//! Vector Quantization", 2020.
#![forbid(unsafe_code)]

mod descent;
mod train;

use descent::Descent;
use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::scan::{ByTables, Tables};
use vq_blocks::{Product, Training, contiguous, rate, scan_by_tables};
use vq_kernels::pack::{pack, unpack};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space, Value, export_plugin,
    params,
};

params! {
    /// Parameters of anisotropic vector quantization.
    pub struct ScannParams {
        /// Sub-vectors; must divide the dimension.
        m: usize = 8, min = 1;
        /// Bits per sub-vector: each sub-space has 2^bits centroids.
        bits: u32 = 8, min = 1, max = 12;
        /// Cosine between a row and the queries that matter, from which the loss follows; 0 is pq.
        threshold: f64 = 0.2, min = 0.0, max = 0.99;
        /// Rounds of codes and centroids by the loss.
        rounds: usize = 10, max = 1000;
        /// Most rounds of k-means, before those.
        iterations: usize = 25, min = 1, max = 10_000;
        /// Training rows used per centroid, a random sample where there are more.
        points_per_centroid: usize = 256, min = 1, max = 1_000_000;
    }
}

/// A product quantizer with a loss for inner products.
pub struct Scann {
    training: Training,
    rounds: usize,
    metric: Metric,
    bits: u32,
    /// η − 1; 0 is product quantization.
    weight: f64,
    product: Product,
    descent: Option<Descent>,
}

impl Scann {
    fn set(&mut self, product: Product) {
        self.descent = (self.weight > 0.0).then(|| Descent::of(&product, self.weight));
        self.product = product;
    }
}

/// η − 1 for rows of `dim` dimensions (Theorem 3.4).
fn weight(threshold: f64, dim: usize) -> f64 {
    let square = threshold * threshold;
    let eta = (dim as f64 - 1.0) * square / (1.0 - square);
    // Below 1 errors across the row would count more: the reverse of the aim.
    (eta - 1.0).max(0.0)
}

impl Quantizer for Scann {
    type Params = ScannParams;
    const METHOD: Method = Method::new("scann", "ScaNN")
        .version(env!("CARGO_PKG_VERSION"))
        .description(
            "Product quantization by a loss for inner products: errors along a row count more",
        )
        .paper(
            "Guo, Sun, Lindgren, Geng, Simcha, Chern, Kumar, Accelerating Large-Scale Inference with \
             Anisotropic Vector Quantization, 2020",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("product,codebook,k-means,anisotropic,scorer");

    fn create(params: ScannParams, space: Space) -> Result<Self, Error> {
        let ScannParams { m, bits, threshold, rounds, iterations, points_per_centroid } = params;
        Ok(Scann {
            training: Training { iterations, points_per_centroid },
            rounds,
            metric: space.metric,
            bits,
            weight: weight(threshold, space.dim),
            product: Product::new(space.dim, m, bits)?,
            descent: None,
        })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let mut product = self.product.clone();
        let rounds = if self.weight > 0.0 { self.rounds } else { 0 };
        // A round takes about as long as two of k-means.
        let first = self.training.iterations as f32;
        let first = first / (first + 2.0 * rounds as f32);
        let progress = |done: f32| ctx.progress(first * done, "k-means in sub-spaces");
        product.fit(train, self.training, ctx.seed(), &progress)?;
        let points = product.k().saturating_mul(self.training.points_per_centroid);
        let rows = train::Rows::of(train, points, ctx.seed());
        for round in 0..rounds {
            let done = first + (1.0 - first) * round as f32 / rounds as f32;
            ctx.progress(done, "codes and centroids")?;
            rows.move_centroids(&mut product, self.bits, self.weight)?;
        }
        self.set(product);
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
        ctx.par_blocks(x, codes, Product::BLOCK, |x, mut codes| {
            self.product.encode_block(x, codes.view_mut())?;
            let Some(descent) = &self.descent else { return Ok(()) };
            let mut values = vec![0_u16; self.product.sub_spaces()];
            let mut scratch = descent.scratch();
            for (x, mut code) in x.outer_iter().zip(codes.outer_iter_mut()) {
                let code = contiguous(code.as_slice_mut())?;
                unpack(code, self.bits, &mut values);
                if descent.better(x, &mut values, &mut scratch) {
                    pack(&values, self.bits, code);
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
        self.product.decode(codes, x, ctx)
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.product.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let (mut reader, mut product) = (ModelReader::new(model), self.product.clone());
        product.load(&mut reader)?;
        reader.finish()?;
        self.set(product);
        Ok(())
    }

    fn rate_axes(space: Space, _bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        rate::all_splits(space.dim)
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_splits::<Self>(request, sink)
    }
}

impl ByTables for Scann {
    fn metric(&self) -> Metric {
        self.metric
    }

    fn tables(&self, query: &[f32]) -> Tables {
        self.product.tables(query, self.metric)
    }
}

scan_by_tables!(Scann);
export_plugin!(Scann: Scorer + Search);
