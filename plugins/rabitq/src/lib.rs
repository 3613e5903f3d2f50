//! RaBitQ: a row r = P·(x − c), turned at random, is coded as the point y of a grid of 1 to 8 bits per
//! coordinate (2025, eqs. 7 and 8) whose direction is nearest, with ‖r‖ and the cosine ρ of the two beside
//! it: [`sweep`](vq_blocks::rotated::sweep) over [`Grid`] and [`Frame`].
//!
//! Gao & Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
//! Nearest Neighbor Search", 2024; Gao, Gou, Xu, Yang, Long, Wong, "Practical and Asymptotically Optimal
//! Quantization of High-Dimensional Vectors in Euclidean Space for Approximate Nearest Neighbor Search",
//! 2025.
#![forbid(unsafe_code)]

use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::rotated::sweep::{Fast, Sweep};
use vq_blocks::rotated::{
    ByGrid, Centring, Frame, Grid, NormOf, Query, Scalars, Scale, Scan, Turn, levels,
};
use vq_blocks::{rate, scan_by_grid};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Quantizer, Space, choices, export_plugin, params,
};

choices! {
    /// How the point of the grid is sought.
    pub enum Seek { Exact = "exact", Fast = "fast" }
}

params! {
    /// Parameters of RaBitQ.
    pub struct RabitqParams {
        /// Bits per dimension, scalars included, filled to the byte by mixed widths; 0: `bits` decides.
        rate: f64 = 0.0, min = 0.0, max = 16.0, grid = [1.0, 2.0, 4.0, 8.0];
        /// Bits of each coordinate where `rate` is 0; the scalars come beside.
        bits: u32 = 4, min = 1, max = 8;
        /// The nearest direction of the whole grid, or of one scale for all rows.
        search: Seek = Seek::Exact;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// Which random rotation.
        rotation: Turn = Turn::Hadamard;
        /// How the two scalars are stored.
        scalars: Scalars = Scalars::F16;
        /// Half-width of the error bound, in standard deviations of a random direction.
        epsilon: f64 = 1.9, min = 0.0, max = 100.0;
    }
}

/// RaBitQ; no frame before training.
pub struct Rabitq {
    params: RabitqParams,
    space: Space,
    grid: Grid,
    frame: Option<Frame>,
}

/// Rows of one task.
const BLOCK: usize = 256;

impl Rabitq {
    fn frame(&self) -> Result<&Frame, Error> {
        self.frame.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }

    /// ε₀/√(d − 1) of eq. 14.
    fn deviations(&self) -> f64 {
        self.params.epsilon / ((self.space.dim - 1).max(1) as f64).sqrt()
    }
}

impl Quantizer for Rabitq {
    type Params = RabitqParams;
    const METHOD: Method = Method::new("rabitq", "RaBitQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("RaBitQ: random rotation, nearest direction of a grid, unbiased estimates")
        .paper(
            "Gao, Long, RaBitQ, 2024; Gao, Gou, Xu, Yang, Long, Wong, Practical and Asymptotically \
             Optimal Quantization, 2025",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags(
            "rotation,scalar,unbiased,bounds,scorer,search,\
             FAISS=\"RaBitQ\" if rate=0 bits=1,\
             Milvus=\"IVF_RABITQ\" if rate=0 bits=1,\
             FAISS=\"nearest is RaBitQ\" if rate=1,\
             Milvus=\"nearest is IVF_RABITQ\" if rate=1",
        );

    fn create(params: RabitqParams, space: Space) -> Result<Self, Error> {
        let size = (params.rate, params.bits);
        let grid = Grid::new(space.dim, size, (params.scalars, true), 0, levels::uniform)?;
        Ok(Rabitq { params, space, grid, frame: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let RabitqParams { center, rotation, .. } = self.params;
        self.frame = Some(Frame::drawn(train, center, rotation, ctx.seed())?);
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.grid.layout().code_bytes()
    }

    fn model_bytes(&self) -> Option<u64> {
        self.frame.as_ref().map(Frame::model_bytes)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let (frame, metric) = (self.frame()?, self.space.metric);
        ctx.par_blocks(x, codes, BLOCK, |x, codes| match self.params.search {
            Seek::Exact => {
                let mut sweep = Sweep::new(&self.grid);
                let choose = |z: &[f32], norm, to: &mut [u16]| sweep.nearest(z, norm, to);
                self.grid.encode(frame, metric, x, codes, choose, |_, _, _| ())
            }
            Seek::Fast => {
                let fast = Fast::new(&self.grid);
                let choose = |z: &[f32], norm, to: &mut [u16]| fast.round(z, norm, to);
                self.grid.encode(frame, metric, x, codes, choose, |_, _, _| ())
            }
        })
    }

    /// The multiple of y nearest to the row; estimates use the unbiased one.
    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let frame = self.frame()?;
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            self.grid.decode(frame, Scale::Nearest, codes, x)
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.frame()?.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.frame = Some(Frame::load(self.space.dim, &mut reader)?);
        reader.finish()
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_rate::<Self>(request, sink)
    }
}

/// ⟨r, v⟩ ≈ ‖r‖²/⟨r, y⟩·⟨y, v⟩ (2024, Theorem 3.2, eq. 13), within ‖r‖·‖v‖·√((1 − ρ²)/ρ²)·ε₀/√(d − 1)
/// (eq. 14) of it.
impl ByGrid for Rabitq {
    const BOUNDED: bool = true;

    fn scan_bytes(&self) -> usize {
        self.grid.packed_bytes(true)
    }

    fn pack_block(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) -> Result<(), Error> {
        let deviations = Some(self.deviations());
        self.grid.pack(self.frame()?, Scale::Unbiased, NormOf::Row, deviations, codes, packed);
        Ok(())
    }

    fn query(&self, q: &[f32]) -> Result<Query, Error> {
        Ok(self.frame()?.estimator(q, self.space.metric))
    }

    fn scan(&self, query: Query) -> Result<Scan, Error> {
        Ok(self.grid.scan(query, self.space.metric, true))
    }

    fn grid(&self) -> Option<&Grid> {
        Some(&self.grid)
    }
}

scan_by_grid!(Rabitq);
export_plugin!(Rabitq: Scorer + Search);
