//! EDEN: a row r = P·(x − c), turned at random, is brought to the length √d, so that its coordinates are
//! nearly standard normal, and each takes the nearest level of the best quantizer of N(0,1); ‖r‖ and the
//! cosine ρ of r and its levels y stand beside: [`Cells`] over [`Grid`] and [`Frame`].
//!
//! Vargaftik, Ben Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher, "EDEN: Communication-Efficient and
//! Robust Distributed Mean Estimation for Federated Learning", 2022; at one bit it is DRIVE, of the same
//! authors, 2021.
#![forbid(unsafe_code)]

use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::rotated::levels::{self, Cells};
use vq_blocks::rotated::{
    ByGrid, Centring, Frame, Grid, NormOf, Query, Scalars, Scale, Scan, Turn,
};
use vq_blocks::{rate, scan_by_grid};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Quantizer, Space, choices, export_plugin, params,
};

choices! {
    /// What estimates multiply the levels by.
    pub enum Factor { Unbiased = "unbiased", Biased = "biased" }
}

params! {
    /// Parameters of EDEN.
    pub struct EdenParams {
        /// Bits per dimension, scalars included, filled to the byte by mixed widths; 0: `bits` decides.
        rate: f64 = 0.0, min = 0.0, max = 16.0, grid = [1.0, 2.0, 4.0, 8.0];
        /// Bits of each coordinate where `rate` is 0; the scalars come beside.
        bits: u32 = 4, min = 1, max = 8;
        /// The scale of estimates: unbiased, or of the least squared error, which decoding uses always.
        scale: Factor = Factor::Unbiased;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// Which random rotation.
        rotation: Turn = Turn::Hadamard;
        /// How the two scalars are stored.
        scalars: Scalars = Scalars::F16;
    }
}

/// EDEN; no frame before training.
pub struct Eden {
    params: EdenParams,
    space: Space,
    grid: Grid,
    /// Of the grid's runs.
    cells: Vec<Cells>,
    frame: Option<Frame>,
}

/// Rows of one task.
const BLOCK: usize = 256;

impl Eden {
    fn frame(&self) -> Result<&Frame, Error> {
        self.frame.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }
}

impl Quantizer for Eden {
    type Params = EdenParams;
    const METHOD: Method = Method::new("eden", "EDEN")
        .version(env!("CARGO_PKG_VERSION"))
        .description("EDEN: random rotation, Lloyd–Max levels of N(0,1), one scale per row")
        .paper(
            "Vargaftik, Ben Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher, EDEN: \
             Communication-Efficient and Robust Distributed Mean Estimation for Federated Learning, 2022",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("rotation,scalar,unbiased,scorer,search");

    fn create(params: EdenParams, space: Space) -> Result<Self, Error> {
        let size = (params.rate, params.bits);
        let grid = Grid::new(space.dim, size, (params.scalars, true), 0, levels::lloyd_max)?;
        let cells = grid.runs().map(|(_, levels)| Cells::new(levels)).collect();
        Ok(Eden { params, space, grid, cells, frame: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let EdenParams { center, rotation, .. } = self.params;
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
        let root = (self.space.dim as f64).sqrt();
        ctx.par_blocks(x, codes, BLOCK, |x, codes| {
            // Algorithm 1: each coordinate of √d·z/‖z‖ to its nearest level.
            let choose = |z: &[f32], norm: f64, to: &mut [u16]| {
                self.grid.nearest(&self.cells, z, (root / norm) as f32, to);
            };
            self.grid.encode(frame, metric, x, codes, choose, |_, _, _| ())
        })
    }

    /// The multiple of y nearest to the row, ⟨r, y⟩/‖y‖²·y: the biased scale, of DRIVE.
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

/// ⟨r, v⟩ ≈ ‖r‖²/⟨r, y⟩·⟨y, v⟩, unbiased over the rotations (section 2.3, Theorem 2.1); by the biased scale
/// ⟨r, y⟩/‖y‖² estimates are the values of decoded rows.
impl ByGrid for Eden {
    fn scan_bytes(&self) -> usize {
        self.grid.packed_bytes(false)
    }

    fn pack_block(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) -> Result<(), Error> {
        let (scale, norm_of) = match self.params.scale {
            Factor::Unbiased => (Scale::Unbiased, NormOf::Row),
            Factor::Biased => (Scale::Nearest, NormOf::Multiple),
        };
        self.grid.pack(self.frame()?, scale, norm_of, None, codes, packed);
        Ok(())
    }

    fn query(&self, q: &[f32]) -> Result<Query, Error> {
        let (frame, metric) = (self.frame()?, self.space.metric);
        Ok(match self.params.scale {
            Factor::Unbiased => frame.estimator(q, metric),
            Factor::Biased => frame.query(q, metric),
        })
    }

    fn scan(&self, query: Query) -> Result<Scan, Error> {
        Ok(self.grid.scan(query, self.space.metric, false))
    }

    fn grid(&self) -> Option<&Grid> {
        Some(&self.grid)
    }
}

scan_by_grid!(Eden);
export_plugin!(Eden: Scorer + Search);
