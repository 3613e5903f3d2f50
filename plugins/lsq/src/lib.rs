//! Local search quantization: `x̂ = c₁(i₁) + … + c_L(i_L)`, codes by iterated local search, all codebooks
//! learned together: [`Residual`] with a [`Search`].
//!
//! Martinez, Clement, Hoos, Little, "Revisiting Additive Quantization", 2016; Martinez, Zakhmi, Hoos,
//! Little, "LSQ++: Lower Running Time and Higher Recall in Multi-codebook Quantization", 2018.
#![forbid(unsafe_code)]

use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::residual::{MOST_SEARCHED, Search, Shape};
use vq_blocks::scan::{ByTables, Tables};
use vq_blocks::{Residual, Training, rate, scan_by_tables};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space, export_plugin, params,
};

/// Most layers of a sub-space that answer a rate: more gain little and cost their square.
const MOST_LAYERS: usize = 16;

/// What is not worth a parameter.
const SEARCH: Search = Search { tries: 0, training_tries: 6, plain: 2, drawn: 3, noise: 1.0 };

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
        rounds: usize = 20, max = 1000;
        /// Most rounds of k-means per layer, before those.
        iterations: usize = 25, min = 1, max = 10_000;
        /// Training rows used per centroid, a sample where there are more.
        points_per_centroid: usize = 256, min = 1, max = 1_000_000;
    }
}

/// A local search quantizer.
pub struct Lsq {
    training: Training,
    rounds: usize,
    metric: Metric,
    residual: Residual,
}

impl Quantizer for Lsq {
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

    fn create(params: LsqParams, space: Space) -> Result<Self, Error> {
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
        let training = Training { iterations, points_per_centroid };
        let search = Search { tries, ..SEARCH };
        let residual = Residual::new(space.dim, Shape { splits, layers, bits, beam })?;
        Ok(Lsq { training, rounds, metric: space.metric, residual: residual.with_search(search)? })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let progress = |done: f32, stage: &str| ctx.progress(done, stage);
        self.residual.fit(train, self.training, self.rounds, ctx.seed(), &progress)
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

impl ByTables for Lsq {
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

scan_by_tables!(Lsq);
export_plugin!(Lsq: Scorer + Search);
