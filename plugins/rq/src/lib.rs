//! Residual quantization: `x̂ = c₁(i₁) + … + c_L(i_L)`, every layer quantizing what the layers before
//! it left, encoded greedily or by beam search: [`Residual`].
//!
//! Chen, Guan, Wang, "Approximate Nearest Neighbor Search by Residual Vector Quantization", 2010;
//! beam search: Babenko & Lempitsky, "Additive Quantization for Extreme Vector Compression", 2014;
//! Liu, Lu, Xu, "Improved Residual Vector Quantization for High-dimensional Approximate Nearest
//! Neighbor Search", 2015.
#![forbid(unsafe_code)]

use vq_blocks::residual::{LayerMethod, Layered, Shape, ToLearn};
use vq_blocks::{Residual, Training};
use vq_plugin_api::{Error, Method, export_plugin, params};

/// Most layers.
const MAX_LAYERS: usize = 256;

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
pub type Rq = Layered<BeamSearch>;

/// How it differs from others of layers.
pub enum BeamSearch {}

impl LayerMethod for BeamSearch {
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
    // Few err least at 2 and 4 bits per dimension, and take a part of the time; at 1 bit of embeddings many do: see
    // "Measured" in the README.
    const MOST_LAYERS: [usize; 2] = [8, 32];

    fn layers(params: RqParams, dim: usize) -> Result<ToLearn, Error> {
        let RqParams { splits, layers, bits, beam, joint, iterations, points_per_centroid } =
            params;
        let residual = Residual::new(dim, Shape { splits, layers, bits, beam })?;
        Ok(ToLearn { residual, training: Training { iterations, points_per_centroid }, joint })
    }
}

export_plugin!(Rq: Scorer + Search);
