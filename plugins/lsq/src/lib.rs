//! Local search quantization: `x̂ = c₁(i₁) + … + c_L(i_L)`, codes by iterated local search, all codebooks
//! learned together: [`Residual`] with a [`Search`].
//!
//! Martinez, Clement, Hoos, Little, "Revisiting Additive Quantization", 2016; Martinez, Zakhmi, Hoos,
//! Little, "LSQ++: Lower Running Time and Higher Recall in Multi-codebook Quantization", 2018.
#![forbid(unsafe_code)]

use vq_blocks::residual::{LayerMethod, Layered, MOST_SEARCHED, Search, Shape, ToLearn};
use vq_blocks::{Residual, Training};
use vq_plugin_api::{Error, Method, export_plugin, params};

/// What is not worth a parameter.
const SEARCH: Search = Search { tries: 0, training_tries: 2, plain: 2, drawn: 3, noise: 0.75 };

params! {
    /// Parameters of local search quantization.
    pub struct LsqParams {
        /// Sub-spaces of neighbouring dimensions, each with layers of its own; must divide the dimension.
        splits: usize = 1, min = 1;
        /// Layers of each: centroids that are added up.
        layers: usize = 8, min = 1, max = MOST_SEARCHED;
        /// Bits per layer: each has 2^bits centroids.
        bits: u32 = 8, min = 1, max = 8;
        /// Partial codes kept per row, where the search starts; 1 is greedy.
        beam: usize = 5, min = 1, max = 256;
        /// Descents from codes with indices drawn anew, in encoding.
        tries: usize = 16, max = 1000;
        /// Rounds of codes and least squares in training.
        rounds: usize = 36, max = 1000;
        /// Most rounds of k-means per layer, before those.
        iterations: usize = 8, min = 1, max = 10_000;
        /// Training rows used per centroid, a sample where there are more.
        points_per_centroid: usize = 256, min = 1, max = 1_000_000;
    }
}

/// A local search quantizer.
pub type Lsq = Layered<LocalSearch>;

/// How it differs from others of layers.
pub enum LocalSearch {}

impl LayerMethod for LocalSearch {
    type Params = LsqParams;
    const METHOD: Method = Method::new("lsq", "LSQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Local search quantization: additive codebooks learned together, codes by local search")
        .paper(
            "Martinez, Clement, Hoos, Little, Revisiting Additive Quantization, 2016; Martinez, Zakhmi, \
             Hoos, Little, LSQ++: Lower Running Time and Higher Recall in Multi-codebook Quantization, 2018",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags(
            "additive,codebook,local-search,scorer,\
             FAISS=\"LSQ{layers}x{bits}\" if splits=1,\
             FAISS=\"PLSQ{splits}x{layers}x{bits}\"",
        );
    // Few err least at 2 bits per dimension and more, and many cost their square: see "Measured" in the README.
    const MOST_LAYERS: [usize; 2] = [8, 16];

    fn layers(params: LsqParams, dim: usize) -> Result<ToLearn, Error> {
        let LsqParams {
            splits,
            layers,
            bits,
            beam,
            tries,
            rounds,
            iterations,
            points_per_centroid,
        } = params;
        let residual = Residual::new(dim, Shape { splits, layers, bits, beam })?;
        Ok(ToLearn {
            residual: residual.with_search(Search { tries, ..SEARCH })?,
            training: Training { iterations, points_per_centroid },
            joint: rounds,
        })
    }
}

export_plugin!(Lsq: Scorer + Search);
