//! RaBitQ: a row is turned at random and each coordinate keeps its sign, o̅ = sign(P·(x − c))/√d, with
//! ‖x − c‖ and ⟨o̅, o⟩ beside the d bits, o the unit vector of P·(x − c).
//!
//! Gao & Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
//! Nearest Neighbor Search", 2024.
#![forbid(unsafe_code)]

use vq_blocks::rotated::{Centring, Format, Frame, Layout, Query, Sums, Turn};
use vq_kernels::distance::norm_sq;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2};
use vq_plugin_api::{Context, Error, Method, Quantizer, Scorer, Space, export_plugin, params};

params! {
    /// Parameters of RaBitQ.
    pub struct RabitqParams {
        /// Which random rotation.
        rotation: Turn = Turn::Dense;
        /// Half-width of the error bound, in standard deviations of a random direction.
        epsilon: f64 = 1.9, min = 0.0, max = 100.0;
    }
}

/// RaBitQ; no frame before training.
pub struct Rabitq {
    params: RabitqParams,
    space: Space,
    layout: Layout,
    frame: Option<Frame>,
}

/// Rows of one task.
const BLOCK: usize = 256;

impl Rabitq {
    fn frame(&self) -> Result<&Frame, Error> {
        self.frame.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }
}

impl Quantizer for Rabitq {
    type Params = RabitqParams;
    const METHOD: Method = Method::new("rabitq", "RaBitQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description(env!("CARGO_PKG_DESCRIPTION"))
        .paper("Gao, Long, RaBitQ, 2024")
        .license(env!("CARGO_PKG_LICENSE"));

    fn create(params: RabitqParams, space: Space) -> Result<Self, Error> {
        let layout = Layout::uniform(space.dim, 1, &[Format::F32, Format::F32]);
        Ok(Rabitq { params, space, layout, frame: None })
    }

    fn fit(&mut self, train: ArrayView2<f32>, ctx: &Context) -> Result<(), Error> {
        let turn = self.params.rotation;
        self.frame = Some(Frame::drawn(train, Centring::Mean, turn, ctx.seed())?);
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.layout.code_bytes()
    }

    fn compress(
        &self,
        x: ArrayView2<f32>,
        codes: ArrayViewMut2<u8>,
        ctx: &Context,
    ) -> Result<(), Error> {
        let frame = self.frame()?;
        ctx.par_blocks(x, codes, BLOCK, |x, mut codes| {
            let mut code = vec![0; self.code_bytes()];
            for (z, mut to) in frame.apply(x).outer_iter().zip(codes.outer_iter_mut()) {
                let z = z.to_vec();
                let signs: Vec<u16> = z.iter().map(|z| u16::from(*z >= 0.0)).collect();
                let norm = norm_sq(&z).sqrt();
                // ⟨o̅, o⟩ = Σ|zₜ| / (√d·‖z‖); 0 for the centre itself, whose norm says it all.
                let sum: f64 = z.iter().map(|z| f64::from(z.abs())).sum();
                let cosine = if norm > 0.0 { sum / (z.len() as f64).sqrt() / norm } else { 0.0 };
                self.layout.write(&signs, &[norm as f32, cosine as f32], &mut code);
                to.iter_mut().zip(&code).for_each(|(to, byte)| *to = *byte);
            }
            Ok(())
        })
    }

    /// The multiple of o̅ nearest to the row: ‖x − c‖·⟨o̅, o⟩·o̅. Estimates use ‖x − c‖/⟨o̅, o⟩ instead.
    fn decompress(
        &self,
        codes: ArrayView2<u8>,
        x: ArrayViewMut2<f32>,
        ctx: &Context,
    ) -> Result<(), Error> {
        let (frame, dim) = (self.frame()?, self.space.dim);
        let unit = (1.0 / (dim as f64).sqrt()) as f32;
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            let (mut signs, mut scalars) = (vec![0; dim], [0.0; 2]);
            let (mut y, mut scales) = (Array2::zeros(x.raw_dim()), vec![0.0; codes.nrows()]);
            for ((code, mut y), scale) in
                codes.outer_iter().zip(y.outer_iter_mut()).zip(&mut scales)
            {
                self.layout.read(&code.to_vec(), &mut signs, &mut scalars);
                *scale = scalars[0] * scalars[1].clamp(0.0, 1.0);
                y.iter_mut().zip(&signs).for_each(|(y, s)| *y = if *s == 1 { unit } else { -unit });
            }
            frame.restore(y.view(), &scales, x);
            Ok(())
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
}

impl Scorer for Rabitq {
    /// The query in the frame, and tables of ⟨o̅, z⟩.
    type Query = (Query, Sums);
    const PACKED: bool = true;
    const BOUNDS: bool = true;

    fn packed_bytes(&self) -> usize {
        self.layout.packed_bytes()
    }

    fn pack(
        &self,
        codes: ArrayView2<u8>,
        mut packed: ArrayViewMut2<u8>,
        _: &Context,
    ) -> Result<(), Error> {
        let packed = packed.as_slice_mut().ok_or_else(|| Error::failed("strided codes"))?;
        self.layout.pack(codes, packed);
        Ok(())
    }

    fn query(&self, query: ArrayView1<f32>) -> Result<(Query, Sums), Error> {
        let query = self.frame()?.query(&query.to_vec(), self.space.metric);
        let unit = (1.0 / (self.space.dim as f64).sqrt()) as f32;
        let sums = self.layout.sums(|t, _, sign| if sign == 1 { unit } else { -unit } * query.z[t]);
        Ok((query, sums))
    }

    /// ⟨o, q⟩ ≈ ⟨o̅, q⟩/⟨o̅, o⟩ (eq. 12): unbiased over the rotations.
    fn score(&self, (query, sums): &(Query, Sums), codes: ArrayView2<u8>, estimates: &mut [f32]) {
        let packed: Vec<u8> = codes.iter().copied().collect();
        let n = estimates.len();
        sums.write(&packed, estimates);
        let scalars = self.layout.scalars(&packed, n, 0).zip(self.layout.scalars(&packed, n, 1));
        for (estimate, (norm, cosine)) in estimates.iter_mut().zip(scalars) {
            let (norm, cosine) = (f64::from(norm), f64::from(cosine));
            let inner = if cosine > 0.0 { norm * f64::from(*estimate) / cosine } else { 0.0 };
            *estimate = query.estimate(inner, norm * norm);
        }
    }

    /// √((1 − ⟨o̅, o⟩²)/⟨o̅, o⟩²)·ε₀/√(d − 1) times the norms (eq. 16).
    fn bounds(&self, (query, _): &(Query, Sums), codes: ArrayView2<u8>, bounds: &mut [f32]) {
        let packed: Vec<u8> = codes.iter().copied().collect();
        let n = bounds.len();
        let scalars = self.layout.scalars(&packed, n, 0).zip(self.layout.scalars(&packed, n, 1));
        let deviations = self.params.epsilon / ((self.space.dim - 1).max(1) as f64).sqrt();
        for (bound, (norm, cosine)) in bounds.iter_mut().zip(scalars) {
            let cosine_sq = f64::from(cosine).powi(2);
            let off =
                if cosine > 0.0 { ((1.0 - cosine_sq).max(0.0) / cosine_sq).sqrt() } else { 0.0 };
            *bound = query.half_width(off * deviations * f64::from(norm).abs() * query.norm);
        }
    }
}

export_plugin!(Rabitq: Scorer);
