//! ASH: rows projected on few learned directions, and their coordinates there coded with more bits each:
//! the point y of a grid that is nearest in direction, with the length of the row beside, over [`Grid`] in a
//! [`Basis`]. Queries stay as they are.
//!
//! Tepper et al., "ASH: Asymmetric Scalar Hashing With Learned Dimensionality Reduction for High-Fidelity Vector
//! Quantization", 2026.
#![forbid(unsafe_code)]

mod train;

use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::rotated::sweep::Sweep;
use vq_blocks::rotated::{
    Basis, ByGrid, Centring, Frame, Grid, NormOf, Query, Scalars, Scale, Scan, levels,
};
use vq_blocks::{rate, scan_by_grid};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::quantizer::product;
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Quantizer, Space, Value, choices, export_plugin,
    params,
};

choices! {
    /// What estimates multiply the points by.
    pub enum Factor { Length = "length", Unbiased = "unbiased", Nearest = "nearest" }
}

params! {
    /// Parameters of ASH.
    pub struct AshParams {
        /// Bits per dimension, everything included, that as many coordinates as fit fill; 0: `kept` decides.
        rate: f64 = 0.0, min = 0.0, max = 16.0, grid = [1.0, 2.0, 4.0, 8.0];
        /// Bits of each coordinate.
        bits: u32 = 4, min = 1, max = 8;
        /// Coordinates where `rate` is 0; all where there are fewer.
        kept: usize = 64, min = 1, max = 65_536;
        /// The scale of estimates: the paper's ‖r‖/‖y‖, the unbiased one, or that of decoded rows.
        scale: Factor = Factor::Length;
        /// Rounds of learning how coordinates are turned.
        rounds: usize = 20, max = 1000;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// How the two scalars are stored.
        scalars: Scalars = Scalars::F16;
    }
}

/// ASH; no basis before training.
pub struct Ash {
    params: AshParams,
    space: Space,
    kept: usize,
    grid: Grid,
    basis: Option<Basis>,
}

/// Rows of one task.
const BLOCK: usize = 256;

impl Ash {
    fn basis(&self) -> Result<&Basis, Error> {
        self.basis.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }
}

impl Quantizer for Ash {
    type Params = AshParams;
    const METHOD: Method = Method::new("ash", "ASH")
        .version(env!("CARGO_PKG_VERSION"))
        .description("ASH: fewer, learned directions with more bits each, queries as they are")
        .paper(
            "Tepper et al., ASH: Asymmetric Scalar Hashing With Learned Dimensionality Reduction \
             for High-Fidelity Vector Quantization, 2026",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("pca,rotation,scalar,scorer,search");

    fn create(params: AshParams, space: Space) -> Result<Self, Error> {
        let AshParams { rate, bits, kept, scalars, .. } = params;
        let dim = space.dim;
        let kept = if rate > 0.0 {
            let budget = rate::budget(dim, rate);
            let beside = if scalars == Scalars::F16 { 4 } else { 8 };
            let fits = 8 * budget.saturating_sub(beside) / bits as usize;
            if fits == 0 {
                let all = format!("the {budget} bytes of {rate} bits/dim at d = {dim}");
                return Err(Error::param("rate", format!("nothing is left of {all}")));
            }
            fits.min(dim)
        } else {
            kept.min(dim)
        };
        let grid = Grid::new(kept, (0.0, bits), (scalars, true), 0, levels::uniform)?;
        if rate > 0.0 {
            rate::fills(grid.layout().code_bytes(), dim, rate)
                .map_err(|reason| Error::param("rate", reason))?;
        }
        Ok(Ash { params, space, kept, grid, basis: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let centre = Frame::centre_of(train, self.params.center)?;
        let grid = (&self.grid, self.kept);
        let directions = train::directions(&centre, train, grid, self.params.rounds, ctx)?;
        self.basis = Some(Basis::new(centre, directions));
        ctx.progress(1.0, "done")
    }

    fn code_bytes(&self) -> usize {
        self.grid.layout().code_bytes()
    }

    fn model_bytes(&self) -> Option<u64> {
        self.basis.as_ref().map(Basis::model_bytes)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let (basis, metric) = (self.basis()?, self.space.metric);
        ctx.par_blocks(x, codes, BLOCK, |x, codes| {
            let mut sweep = Sweep::new(&self.grid);
            let choose = |z: &[f32], norm, to: &mut [u16]| sweep.nearest(z, norm, to);
            self.grid.encode_in(basis, metric, x, codes, choose)
        })
    }

    /// x̂ = c + ⟨Wr, y⟩/‖y‖²·Wᵀy: the multiple nearest to the row.
    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let basis = self.basis()?;
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            self.grid.decode_in(basis, Scale::Nearest, codes, x)
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.basis()?.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let basis = Basis::load(self.space.dim, &mut reader)?;
        reader.finish()?;
        if basis.count() != self.kept {
            let count = basis.count();
            return Err(Error::failed(format!("{count} directions, {} are kept", self.kept)));
        }
        self.basis = Some(basis);
        Ok(())
    }

    /// A rate is answered by several widths, the default grid by the first of them.
    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        let axes = &request.axes;
        let named = |name| axes.contains_key(name);
        let rates = match request.bits_per_dim {
            Some(rate) if !named("rate") && !named("kept") => vec![rate],
            None if axes.is_empty() => RATES.to_vec(),
            _ => return product::<Self>(request, sink),
        };
        for rate in rates {
            let mut one = request.clone();
            one.bits_per_dim = None;
            one.axes.insert("rate".to_owned(), vec![Value::Float(rate)]);
            if !named("bits") {
                let taken = if request.bits_per_dim.is_some() { usize::MAX } else { 1 };
                let bits = widths(rate).into_iter().take(taken).map(Value::from).collect();
                one.axes.insert("bits".to_owned(), bits);
            }
            product::<Self>(&one, sink)?;
        }
        Ok(())
    }
}

/// Bits per dimension of the default grid.
const RATES: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

/// Bits that a rate is answered by: those that leave about all coordinates, two at least, then those that leave a half and
/// a quarter. 8 at most.
fn widths(rate: f64) -> Vec<u32> {
    let next = |share: f64| (share * rate).log2().round().clamp(0.0, 3.0).exp2() as u32;
    let mut widths = vec![next(1.0).max(2)];
    for other in [next(1.0), next(2.0), next(4.0)] {
        if !widths.contains(&other) {
            widths.push(other);
        }
    }
    widths
}

/// ⟨q, x⟩ ≈ ⟨q, c⟩ + s·⟨W(q − c), y⟩ + ⟨x, c⟩ − ‖c‖², s = ‖r‖/‖y‖ (eqs. 18 and 19), as a distance or from one.
impl ByGrid for Ash {
    fn scan_bytes(&self) -> usize {
        self.grid.packed_bytes(false)
    }

    fn pack_block(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) -> Result<(), Error> {
        let (scale, norm_of) = match self.params.scale {
            Factor::Length => (Scale::Length, NormOf::Row),
            Factor::Unbiased => (Scale::Unbiased, NormOf::Row),
            Factor::Nearest => (Scale::Nearest, NormOf::Multiple),
        };
        self.grid.pack_in(self.basis()?, scale, norm_of, codes, packed);
        Ok(())
    }

    fn query(&self, q: &[f32]) -> Result<Query, Error> {
        let (basis, metric) = (self.basis()?, self.space.metric);
        Ok(match self.params.scale {
            Factor::Nearest => basis.query(q, metric),
            _ => basis.estimator(q, metric),
        })
    }

    fn scan(&self, query: Query) -> Result<Scan, Error> {
        Ok(self.grid.scan(query, self.space.metric, false))
    }

    fn grid(&self) -> Option<&Grid> {
        Some(&self.grid)
    }
}

scan_by_grid!(Ash);
export_plugin!(Ash: Scorer + Search);
