//! Layers of codebooks: `x̂ = c₁(i₁) + … + c_L(i_L)`, every layer quantizing what the layers before it
//! left. With `splits` the dimensions are cut into so many sub-spaces of neighbours, each with layers of
//! its own (PRQ).
//!
//! Training, layer by layer:
//! 1. Encode the training rows with the layers so far, keeping the `beam` best codes of each.
//! 2. k-means on the residuals of all kept codes finds the 2^bits centroids of the next layer.
//!
//! and `joint` times at the end: encode the rows, move the centroids of all layers to the least squares of
//! these codes (`joint.rs`).
//!
//! Encoding extends the `beam` best codes of a row by all centroids of the next layer and keeps the
//! `beam` best of those; `beam` = 1 is the greedy encoding. A code is L indices of `bits` bits for each
//! sub-space, packed: ⌈splits·L·bits/8⌉ bytes, with no norm beside it.
//!
//! Chen, Guan, Wang, "Approximate Nearest Neighbor Search by Residual Vector Quantization", 2010;
//! beam search: Babenko & Lempitsky, "Additive Quantization for Extreme Vector Compression", 2014;
//! Liu, Lu, Xu, "Improved Residual Vector Quantization for High-dimensional Approximate Nearest
//! Neighbor Search", 2015.

mod cluster;
mod descent;
mod joint;
mod layers;
mod method;
mod tables;
mod train;

use crate::{Training, contiguous};
use descent::{Descent, Start};
use layers::Layers;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use train::Learning;
use vq_kernels::draw::seed_of;
use vq_kernels::pack::{pack, packed_bytes, unpack};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{Context, Error};

pub use method::{LayerMethod, Layered, ToLearn};

/// Codebooks of the layers.
pub struct Residual {
    dim: usize,
    shape: Shape,
    /// (splits, layers, 2^bits, d/splits); empty before training.
    centroids: Vec<f32>,
    /// Of each sub-space, made from `centroids`.
    parts: Vec<Part>,
    search: Option<Search>,
    /// What is drawn in a search, with the row.
    seed: u64,
}

/// A sub-space.
struct Part {
    layers: Layers,
    /// Where codes are searched for.
    descent: Option<Descent>,
}

/// A local search that betters the codes of the beam (`descent.rs`), in encoding and in training.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Descents from codes with indices drawn anew, in encoding.
    pub tries: usize,
    /// The same for each round of training, with as many draws as there are layers.
    pub training_tries: usize,
    /// Rounds of moving the centroids of a candidate that is learned without a search or noise: what errs less
    /// on rows that neither learned from stays or, where rows are few, on those that both learned from.
    pub plain: usize,
    /// Indices that are drawn anew in encoding.
    pub drawn: usize,
    /// Noise on the centroids in training; it fades out (SR-D). At first the noises of all layers add up to this
    /// part of how far the first codes are from their rows.
    pub noise: f64,
}

/// Most layers of a sub-space that are searched.
pub const MOST_SEARCHED: usize = 32;

/// What a code holds and how it is sought.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sub-spaces of d/splits dimensions.
    pub splits: usize,
    /// Layers of each sub-space, each one index.
    pub layers: usize,
    /// Bits per index, 1 to 16.
    pub bits: u32,
    /// Partial codes kept per row, in training and encoding; 1 is greedy.
    pub beam: usize,
}

impl Shape {
    fn k(self) -> usize {
        1 << self.bits
    }

    /// Indices of a code.
    fn indices(self) -> usize {
        self.splits * self.layers
    }
}

impl Residual {
    /// Rows of one task: enough that the tables of a layer, fetched into the second-level cache once
    /// per block, are used many times there.
    pub const BLOCK: usize = layers::BLOCK;

    /// Layers of `dim` dimensions, not fitted.
    ///
    /// # Errors
    /// The sub-spaces do not divide `dim`.
    pub fn new(dim: usize, shape: Shape) -> Result<Self, Error> {
        if shape.splits == 0 || !dim.is_multiple_of(shape.splits) {
            let what = format_args!("{} does not divide d = {dim}", shape.splits);
            return Err(Error::param("splits", what));
        }
        let (centroids, parts) = (Vec::new(), Vec::new());
        Ok(Residual { dim, shape, centroids, parts, search: None, seed: 0 })
    }

    /// Has codes searched for after the beam.
    ///
    /// # Errors
    /// Tables of more than 8 bits or of more than [`MOST_SEARCHED`] layers would not fit memory.
    pub fn with_search(self, search: Search) -> Result<Self, Error> {
        if self.shape.bits > 8 {
            return Err(Error::param("bits", format_args!("{} is above 8", self.shape.bits)));
        }
        if self.shape.layers > MOST_SEARCHED {
            let what = format_args!("{} is above {MOST_SEARCHED}", self.shape.layers);
            return Err(Error::param("layers", what));
        }
        Ok(Residual { search: Some(search), ..self })
    }

    /// Bytes of a code.
    #[must_use]
    pub fn code_bytes(&self) -> usize {
        packed_bytes(self.shape.indices(), self.shape.bits)
    }

    /// Bytes of the centroids.
    #[must_use]
    pub fn model_bytes(&self) -> u64 {
        4 * self.centroids.len() as u64
    }

    /// Centroids (splits, layers, 2^bits, d/splits); empty before training.
    #[must_use]
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// Replaces the centroids (splits, layers, 2^bits, d/splits).
    ///
    /// # Panics
    /// When there are more or fewer.
    pub fn set_centroids(&mut self, centroids: Vec<f32>) {
        let (sub, count) = (self.sub(), self.shape.layers * self.shape.k() * self.dim);
        assert_eq!(centroids.len(), count, "numbers of the codebooks");
        let part = |centroids| {
            let layers = Layers::of(centroids, self.shape, sub);
            let descent = self.search.map(|_| Descent::of(&layers));
            Part { layers, descent }
        };
        self.parts = centroids.chunks_exact(count / self.shape.splits).map(part).collect();
        self.centroids = centroids;
    }

    /// Dimensions of a sub-space.
    fn sub(&self) -> usize {
        self.dim / self.shape.splits
    }

    /// Learns the layers from the rows `x` (n, d), all randomness from `seed`. `progress` is told the
    /// fraction done and the stage. O(layers · iterations · n · 2^bits · d), and 1 + `joint` times the cost
    /// of encoding n rows.
    ///
    /// # Errors
    /// No rows, a row that is not finite, or what `progress` returns.
    pub fn fit(
        &mut self,
        x: ArrayView2<'_, f32>,
        training: Training,
        joint: usize,
        seed: u64,
        progress: &dyn Fn(f32, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut centroids = Vec::with_capacity(self.shape.layers * self.shape.k() * self.dim);
        let whole = seed;
        for (i, part) in self.split(x).enumerate() {
            let at = |done: f32| (i as f32 + done) / self.shape.splits as f32;
            let progress = |done: f32, stage: &str| progress(at(done), stage);
            let seed = if i == 0 { seed } else { seed_of(seed, i as u64) };
            let learning = Learning {
                shape: self.shape,
                training,
                joint,
                search: self.search,
                encoding_seed: whole,
            };
            centroids.extend(learning.centroids(part, seed, &progress)?);
        }
        self.seed = seed;
        self.set_centroids(centroids);
        Ok(())
    }

    /// The sub-spaces of `x` (n, d).
    fn split<'a>(&self, x: ArrayView2<'a, f32>) -> impl Iterator<Item = ArrayView2<'a, f32>> {
        let sub = self.sub();
        let part = move |i: usize| x.split_at(Axis(1), i * sub).1.split_at(Axis(1), sub).0;
        (0..self.shape.splits).map(part)
    }

    /// Encodes `x` (n, d) into `codes` (n, code_bytes). O(n · 2^bits · (d + beam · layers) · layers).
    ///
    /// # Errors
    /// Strided codes, which the host never lends.
    pub fn encode(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        // Small batches in smaller blocks, so that every thread has some.
        let rows = x.nrows().div_ceil(4 * ctx.threads()).clamp(layers::SCORED, Self::BLOCK);
        ctx.par_blocks(x, codes, rows, |x, codes| self.encode_block(x, codes))
    }

    /// Decodes `codes` (n, code_bytes) into `x` (n, d). O(n · layers · d).
    ///
    /// # Errors
    /// Strided rows, which the host never lends.
    pub fn decode(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        ctx.par_blocks(codes, x, Self::BLOCK, |codes, x| self.decode_block(codes, x))
    }

    /// Encodes a block `x` (n, d) into `codes` (n, code_bytes). Single-threaded.
    ///
    /// # Errors
    /// Strided codes.
    pub fn encode_block(
        &self,
        x: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
    ) -> Result<(), Error> {
        let (indices, layers) = (self.shape.indices(), self.shape.layers);
        let mut values = vec![0_u16; x.nrows() * indices];
        let mut codes_of_part = vec![0_u16; x.nrows() * layers];
        for (i, (x, part)) in self.split(x).zip(&self.parts).enumerate() {
            let x = part.layers.normalised(x);
            part.layers.encode(x.view(), &mut codes_of_part);
            if let (Some(descent), Some(search)) = (&part.descent, self.search) {
                let Search { tries, drawn, .. } = search;
                let start = Start { tries, drawn, seed: self.seed };
                descent.better(&part.layers, x.view(), &mut codes_of_part, start);
            }
            let codes = codes_of_part.chunks_exact(layers);
            for (values, code) in values.chunks_exact_mut(indices).zip(codes) {
                values[i * layers..][..layers].copy_from_slice(code);
            }
        }
        for (values, mut code) in values.chunks_exact(indices).zip(codes.outer_iter_mut()) {
            pack(values, self.shape.bits, contiguous(code.as_slice_mut())?);
        }
        Ok(())
    }

    /// Decodes a block `codes` (n, code_bytes) into `x` (n, d). Single-threaded, O(n · layers · d).
    ///
    /// # Errors
    /// Strided rows.
    pub fn decode_block(
        &self,
        codes: ArrayView2<'_, u8>,
        mut x: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Error> {
        let (k, sub) = (self.shape.k(), self.sub());
        let codes = codes.as_standard_layout();
        let mut values = vec![0_u16; self.shape.indices()];
        for (code, mut x) in codes.outer_iter().zip(x.outer_iter_mut()) {
            let x = contiguous(x.as_slice_mut())?;
            unpack(contiguous(code.to_slice())?, self.shape.bits, &mut values);
            x.fill(0.0);
            for (l, value) in values.iter().enumerate() {
                let row = &self.centroids[(l * k + usize::from(*value)) * sub..][..sub];
                let x = &mut x[l / self.shape.layers * sub..][..sub];
                x.iter_mut().zip(row).for_each(|(x, c)| *x += c);
            }
            // Layers of huge values may add up to infinity; no sum is NaN.
            x.iter_mut().for_each(|x| *x = x.clamp(f32::MIN, f32::MAX));
        }
        Ok(())
    }

    /// Appends the centroids to a model, and the seed of a search.
    #[must_use]
    pub fn save(&self, model: ModelWriter) -> ModelWriter {
        let model = model.f32s(self.centroids.iter().copied());
        if self.search.is_some() { model.u64(self.seed) } else { model }
    }

    /// Reads what [`save`](Self::save) appended.
    ///
    /// # Errors
    /// Another number of centroids, or one that is not finite.
    pub fn load(&mut self, model: &mut ModelReader<'_>) -> Result<(), Error> {
        let centroids = model.f32s(self.shape.layers * self.shape.k() * self.dim)?;
        if self.search.is_some() {
            self.seed = model.u64()?;
        }
        self.set_centroids(centroids);
        Ok(())
    }
}
