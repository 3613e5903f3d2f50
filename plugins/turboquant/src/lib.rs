//! TurboQuant: a row r = P·(x − c), turned at random, is brought to unit length, and each coordinate takes the
//! nearest level of the best quantizer of a coordinate of the unit sphere, with ‖r‖ beside (Algorithm 1,
//! `mse`); or one bit of each goes to signs of random projections of what is left, so that estimates of inner
//! products are unbiased (Algorithm 2, `prod`): [`sphere`] over [`Grid`] and [`Frame`].
//!
//! Zandieh, Daliri, Hadian, Mirrokni, "TurboQuant: Online Vector Quantization with Near-optimal Distortion
//! Rate", 2025.
#![forbid(unsafe_code)]

mod sketch;
pub mod sphere;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};
pub use sketch::Kind;
use sketch::Sketch;
use vq_blocks::rotated::levels::Cells;
use vq_blocks::rotated::{
    ByGrid, Centring, Frame, Grid, NormOf, Query, Scalars, Scale, Scan, Turn,
};
use vq_blocks::{rate, scan_by_grid};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Quantizer, Space, choices, export_plugin, params,
};

choices! {
    /// Algorithm 1 or 2.
    pub enum Variant { Mse = "mse", Prod = "prod" }
}

choices! {
    /// What estimates of `mse` multiply the levels by.
    pub enum Factor { None = "none", Length = "length", Unbiased = "unbiased" }
}

params! {
    /// Parameters of TurboQuant.
    pub struct TurboParams {
        /// Bits per dimension, scalars included, filled to the byte by mixed widths; 0: `bits` decides.
        rate: f64 = 0.0, min = 0.0, max = 16.0, grid = [1.0, 2.0, 4.0, 8.0];
        /// Bits of each coordinate where `rate` is 0, one of them the sketch's in `prod`.
        bits: u32 = 4, min = 1, max = 8;
        /// Least squared error, or unbiased products by a sketch of the rest.
        variant: Variant = Variant::Mse;
        /// Projections of the sketch: independent normal numbers, or a second rotation.
        sketch: Kind = Kind::Gaussian;
        /// The scale of estimates of `mse`: 1; to the row's length; unbiased, with one more scalar.
        scale: Factor = Factor::None;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// Which random rotation.
        rotation: Turn = Turn::Hadamard;
        /// How scalars are stored.
        scalars: Scalars = Scalars::F16;
    }
}

/// TurboQuant; no frame before training.
pub struct Turboquant {
    params: TurboParams,
    space: Space,
    grid: Grid,
    /// Of the grid's runs.
    cells: Vec<Cells>,
    fitted: Option<Fitted>,
}

struct Fitted {
    seed: u64,
    frame: Frame,
    /// In `prod`.
    sketch: Option<Sketch>,
}

/// Rows of one task.
const BLOCK: usize = 256;

impl Turboquant {
    fn fitted(&self) -> Result<&Fitted, Error> {
        self.fitted.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }

    fn drawn_sketch(&self, seed: u64) -> Option<Sketch> {
        let TurboParams { variant, sketch, rotation, scalars, .. } = self.params;
        (variant == Variant::Prod)
            .then(|| Sketch::new(self.space.dim, sketch, rotation, scalars, seed))
    }

    /// The parts of codes: levels with their scalars, and the sketch.
    fn parts<'a, T>(&self, codes: ArrayView2<'a, T>) -> (ArrayView2<'a, T>, ArrayView2<'a, T>) {
        codes.split_at(Axis(1), self.grid.layout().code_bytes())
    }
}

impl Quantizer for Turboquant {
    type Params = TurboParams;
    const METHOD: Method = Method::new("turboquant", "TurboQuant")
        .version(env!("CARGO_PKG_VERSION"))
        .description(
            "TurboQuant: random rotation, best levels of the sphere, maybe a sketch of the rest",
        )
        .paper(
            "Zandieh, Daliri, Hadian, Mirrokni, TurboQuant: Online Vector Quantization with \
             Near-optimal Distortion Rate, 2025",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags(
            "rotation,scalar,scorer,search,\
             Qdrant=\"turbo, bits{bits}\" if rate=0 bits=1|2|4 variant=mse,\
             Qdrant=\"nearest is turbo, bits{rate}\" if rate=1|2|4 variant=mse",
        );

    fn create(params: TurboParams, space: Space) -> Result<Self, Error> {
        let TurboParams { rate, bits, variant, scale, scalars, .. } = params;
        if variant == Variant::Prod && scale != Factor::None {
            return Err(Error::param("scale", "prod estimates by its sketch, without a scale"));
        }
        let (bits, beside) = match variant {
            Variant::Mse => (bits, 0),
            Variant::Prod => (bits - 1, sketch::layout(space.dim, scalars).code_bytes()),
        };
        let angle = scale == Factor::Unbiased;
        let levels = |bits| sphere::levels(space.dim, bits);
        let grid = Grid::new(space.dim, (rate, bits), (scalars, angle), beside, levels)?;
        let cells = grid.runs().map(|(_, levels)| Cells::new(levels)).collect();
        Ok(Turboquant { params, space, grid, cells, fitted: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let TurboParams { center, rotation, .. } = self.params;
        let seed = ctx.seed();
        let frame = Frame::drawn(train, center, rotation, seed)?;
        self.fitted = Some(Fitted { seed, frame, sketch: self.drawn_sketch(seed) });
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        let TurboParams { variant, scalars, .. } = self.params;
        let sketch = sketch::layout(self.space.dim, scalars).code_bytes();
        self.grid.layout().code_bytes() + if variant == Variant::Prod { sketch } else { 0 }
    }

    fn model_bytes(&self) -> Option<u64> {
        self.fitted.as_ref().map(|fitted| 8 + fitted.frame.model_bytes())
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let Fitted { frame, sketch, .. } = self.fitted()?;
        let (dim, metric) = (self.space.dim, self.space.metric);
        let root = (dim as f64).sqrt();
        ctx.par_blocks(x, codes, BLOCK, |x, mut codes| {
            // Algorithm 1, line 6: each coordinate of z/‖z‖ to its nearest level.
            let choose = |z: &[f32], norm: f64, to: &mut [u16]| {
                self.grid.nearest(&self.cells, z, (root / norm) as f32, to);
            };
            let rows = x.nrows();
            let mut rest = Vec::with_capacity(if sketch.is_some() { rows * dim } else { 0 });
            let leave = |z: &[f32], y: &[f32], _: &mut [u8]| {
                rest.extend(z.iter().zip(y).map(|(z, y)| z - y));
            };
            self.grid.encode(frame, metric, x, codes.view_mut(), choose, leave)?;
            let Some(sketch) = sketch else { return Ok(()) };
            let (_, to) = codes.split_at(Axis(1), self.grid.layout().code_bytes());
            let rest = ArrayView2::from_shape((rows, dim), &rest);
            sketch.encode(rest.expect("a rest of each row"), to)
        })
    }

    /// In `mse` c + ‖r‖/√d·Pᵀy (Algorithm 1, line 10). In `prod` what the sketch says of the rest comes to
    /// it, by the factor of least squared error instead of the unbiased one of estimates.
    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let Fitted { frame, sketch, .. } = self.fitted()?;
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            let Some(sketch) = sketch else {
                return self.grid.decode(frame, Scale::Plain, codes, x);
            };
            let (levels, signs) = self.parts(codes);
            let mut y = sketch.decode(signs);
            self.grid.add_rows(Scale::Plain, levels, y.view_mut());
            frame.restore(y.view(), &vec![1.0; y.nrows()], x);
            Ok(())
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        let Fitted { seed, frame, .. } = self.fitted()?;
        Ok(frame.save(ModelWriter::new().u64(*seed)).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let seed = reader.u64()?;
        let frame = Frame::load(self.space.dim, &mut reader)?;
        reader.finish()?;
        self.fitted = Some(Fitted { seed, frame, sketch: self.drawn_sketch(seed) });
        Ok(())
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_rate::<Self>(request, sink)
    }
}

impl ByGrid for Turboquant {
    fn scan_bytes(&self) -> usize {
        let sketch = match self.params.variant {
            Variant::Mse => 0,
            Variant::Prod => {
                sketch::layout(self.space.dim, self.params.scalars).scanned_bytes() + 4
            }
        };
        self.grid.packed_bytes(false) + sketch
    }

    fn pack_block(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) -> Result<(), Error> {
        let Fitted { frame, sketch, .. } = self.fitted()?;
        let (scale, norm_of) = match (self.params.scale, self.params.variant) {
            (Factor::None, Variant::Mse) => (Scale::Plain, NormOf::Multiple),
            (Factor::None, Variant::Prod) => (Scale::Plain, NormOf::Row),
            (Factor::Length, _) => (Scale::Length, NormOf::Row),
            (Factor::Unbiased, _) => (Scale::Unbiased, NormOf::Row),
        };
        let (levels, signs) = self.parts(codes);
        let (first, rest) = packed.split_at_mut(codes.nrows() * self.grid.packed_bytes(false));
        self.grid.pack(frame, scale, norm_of, None, levels, first);
        if let Some(sketch) = sketch {
            sketch.pack(signs, rest);
        }
        Ok(())
    }

    fn query(&self, q: &[f32]) -> Result<Query, Error> {
        let (frame, metric) = (&self.fitted()?.frame, self.space.metric);
        // Estimates of `mse` without a scale are the values of decoded rows; the others are of the row.
        Ok(match (self.params.scale, self.params.variant) {
            (Factor::None, Variant::Mse) => frame.query(q, metric),
            _ => frame.estimator(q, metric),
        })
    }

    fn grid(&self) -> Option<&Grid> {
        (self.params.variant == Variant::Mse).then_some(&self.grid)
    }

    fn scan(&self, query: Query) -> Result<Scan, Error> {
        let beside = self.fitted()?.sketch.as_ref().map(|sketch| sketch.sums(&query.z));
        let scan = self.grid.scan(query, self.space.metric, false);
        Ok(match beside {
            Some((bytes, sums)) => scan.and(bytes, sums),
            None => scan,
        })
    }
}

scan_by_grid!(Turboquant);
export_plugin!(Turboquant: Scorer + Search);
