//! Layers of codebooks: `x̂ = c₁(i₁) + … + c_L(i_L)`, every layer quantizing what the layers before it
//! left.
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

mod cluster;
mod layers;
mod tables;
mod train;

use crate::{Training, contiguous};
use layers::{Beams, Layers};
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use vq_kernels::pack::{pack, packed_bytes, unpack};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{Context, Error};

/// Codebooks of the layers.
pub struct Residual {
    dim: usize,
    shape: Shape,
    /// (layers, 2^bits, d); empty before training.
    centroids: Vec<f32>,
    /// Made from `centroids`.
    layers: Layers,
}

/// What a code holds and how it is sought.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Layers, each one index.
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
}

impl Residual {
    /// Rows of one task: enough that the tables of a layer, fetched into the second-level cache once
    /// per block, are used many times there.
    pub const BLOCK: usize = layers::BLOCK;

    /// Layers of `dim` dimensions, not fitted.
    #[must_use]
    pub fn new(dim: usize, shape: Shape) -> Self {
        Residual { dim, shape, centroids: Vec::new(), layers: Layers::none(shape.beam) }
    }

    /// Bytes of a code.
    #[must_use]
    pub fn code_bytes(&self) -> usize {
        packed_bytes(self.shape.layers, self.shape.bits)
    }

    /// Bytes of the centroids.
    #[must_use]
    pub fn model_bytes(&self) -> u64 {
        4 * self.centroids.len() as u64
    }

    /// Centroids (layers, 2^bits, d); empty before training.
    #[must_use]
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// Replaces the centroids (layers, 2^bits, d).
    ///
    /// # Panics
    /// When there are more or fewer.
    pub fn set_centroids(&mut self, centroids: Vec<f32>) {
        let count = self.shape.layers * self.shape.k() * self.dim;
        assert_eq!(centroids.len(), count, "numbers of the codebooks");
        self.layers = Layers::of(&centroids, self.shape, self.dim);
        self.centroids = centroids;
    }

    /// Learns the layers from the rows `x` (n, d), all randomness from `seed`. `progress` is told the
    /// fraction done and the stage. O(layers · iterations · n · 2^bits · d), and the cost of encoding n
    /// rows.
    ///
    /// # Errors
    /// No rows, a row that is not finite, or what `progress` returns.
    pub fn fit(
        &mut self,
        x: ArrayView2<'_, f32>,
        training: Training,
        seed: u64,
        progress: &dyn Fn(f32, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.set_centroids(train::centroids(self.shape, x, training, seed, progress)?);
        Ok(())
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
        let mut normalised = Array2::zeros(x.dim());
        let x = x.as_standard_layout();
        for (row, mut to) in x.outer_iter().zip(normalised.outer_iter_mut()) {
            if let (Some(row), Some(to)) = (row.to_slice(), to.as_slice_mut()) {
                self.layers.normalise(row, to);
            }
        }
        let mut beams = Beams::new(x.nrows());
        for _ in &self.layers.layers {
            self.layers.extend(normalised.view(), &mut beams);
        }
        for (row, mut code) in codes.outer_iter_mut().enumerate() {
            pack(beams.code(row, 0), self.shape.bits, contiguous(code.as_slice_mut())?);
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
        let (k, dim) = (self.shape.k(), self.dim);
        let codes = codes.as_standard_layout();
        let mut values = vec![0_u16; self.shape.layers];
        for (code, mut x) in codes.outer_iter().zip(x.outer_iter_mut()) {
            let x = contiguous(x.as_slice_mut())?;
            unpack(contiguous(code.to_slice())?, self.shape.bits, &mut values);
            x.fill(0.0);
            for (l, value) in values.iter().enumerate() {
                let row = &self.centroids[(l * k + usize::from(*value)) * dim..][..dim];
                x.iter_mut().zip(row).for_each(|(x, c)| *x += c);
            }
            // Layers of huge values may add up to infinity; no sum is NaN.
            x.iter_mut().for_each(|x| *x = x.clamp(f32::MIN, f32::MAX));
        }
        Ok(())
    }

    /// Appends the centroids to a model.
    #[must_use]
    pub fn save(&self, model: ModelWriter) -> ModelWriter {
        model.f32s(self.centroids.iter().copied())
    }

    /// Reads what [`save`](Self::save) appended.
    ///
    /// # Errors
    /// Another number of centroids, or one that is not finite.
    pub fn load(&mut self, model: &mut ModelReader<'_>) -> Result<(), Error> {
        let centroids = model.f32s(self.shape.layers * self.shape.k() * self.dim)?;
        self.set_centroids(centroids);
        Ok(())
    }
}
