//! RaBitQ: a row is turned at random and each coordinate keeps its sign, o̅ = sign(P·(x − c))/√d, with
//! ‖x − c‖ and ⟨o̅, o⟩ beside the d bits, o the unit vector of P·(x − c).
//!
//! Gao & Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound …", 2024.
#![forbid(unsafe_code)]

use vq_blocks::rotated::{Centring, Format, Frame, Layout, Query, Sums, Turn};
use vq_kernels::distance::norm_sq;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2};
use vq_plugin_api::{Context, Error, Method, Quantizer, Scorer, Space, export_plugin, params};

params! {
    /// Parameters of RaBitQ.
    pub struct RabitqParams {
        /// Half-width of the error bound, in standard deviations of a random direction.
        epsilon: f64 = 1.9, min = 0.0, max = 100.0;
    }
}

/// RaBitQ; `frame` is P and c.
pub struct Rabitq {
    epsilon: f64,
    space: Space,
    layout: Layout,
    frame: Frame,
}

type Rows<'a> = ArrayView2<'a, f32>;
type Codes<'a> = ArrayView2<'a, u8>;
type CodesMut<'a> = ArrayViewMut2<'a, u8>;
const BLOCK: usize = 256; // rows of one task

impl Rabitq {
    /// A coordinate of o̅.
    fn level(&self, sign: u16) -> f32 {
        (2.0 * f32::from(sign) - 1.0) / (self.space.dim as f32).sqrt()
    }
}

impl Quantizer for Rabitq {
    type Params = RabitqParams;
    const METHOD: Method = Method::new("rabitq1", "RaBitQ, 1 bit")
        .version(env!("CARGO_PKG_VERSION"))
        .description(env!("CARGO_PKG_DESCRIPTION"))
        .paper("Gao, Long, RaBitQ, 2024")
        .license(env!("CARGO_PKG_LICENSE"));

    fn create(params: RabitqParams, space: Space) -> Result<Self, Error> {
        let layout = Layout::uniform(space.dim, 1, &[Format::F32, Format::F32]);
        Ok(Rabitq { epsilon: params.epsilon, space, layout, frame: Frame::none(space.dim) })
    }

    fn fit(&mut self, train: Rows, ctx: &Context) -> Result<(), Error> {
        self.frame = Frame::drawn(train, Centring::Mean, Turn::Dense, ctx.seed())?;
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.layout.code_bytes()
    }

    fn compress(&self, x: Rows, codes: CodesMut, ctx: &Context) -> Result<(), Error> {
        ctx.par_blocks(x, codes, BLOCK, |x, codes| {
            self.layout.write_rows(self.frame.apply(x).view(), codes, |z, signs| {
                signs.iter_mut().zip(z).for_each(|(sign, z)| *sign = u16::from(*z >= 0.0));
                // ⟨o̅, o⟩ = Σ|zₜ| / (√d·‖z‖); 0 for the centre itself, whose norm says it all.
                let sum: f64 = z.iter().map(|z| f64::from(z.abs())).sum();
                let norm = norm_sq(z).sqrt();
                let cosine = if norm > 0.0 { sum / (z.len() as f64).sqrt() / norm } else { 0.0 };
                [norm as f32, cosine as f32]
            });
            Ok(())
        })
    }

    /// The multiple of o̅ nearest to the row: ‖x − c‖·⟨o̅, o⟩·o̅. Estimates use ‖x − c‖/⟨o̅, o⟩ instead.
    fn decompress(&self, codes: Codes, x: ArrayViewMut2<f32>, ctx: &Context) -> Result<(), Error> {
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            let mut y = Array2::zeros(x.raw_dim());
            let scales = self.layout.read_rows(codes, y.view_mut(), |signs, [norm, cosine], y| {
                y.iter_mut().zip(signs).for_each(|(y, sign)| *y = self.level(*sign));
                norm * cosine.clamp(0.0, 1.0)
            });
            self.frame.restore(y.view(), &scales, x);
            Ok(())
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.frame.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.frame = Frame::load(self.space.dim, &mut reader)?;
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

    fn pack(&self, codes: Codes, mut packed: CodesMut, _: &Context) -> Result<(), Error> {
        let packed = packed.as_slice_mut().ok_or_else(|| Error::failed("strided codes"))?;
        self.layout.pack(codes, packed);
        Ok(())
    }

    fn query(&self, query: ArrayView1<f32>, _: &Context) -> Result<(Query, Sums), Error> {
        let query = self.frame.query(&query.to_vec(), self.space.metric);
        let sums = self.layout.sums(|t, _, sign| self.level(sign) * query.z[t]);
        Ok((query, sums))
    }

    /// ⟨o, q⟩ ≈ ⟨o̅, q⟩/⟨o̅, o⟩ (eq. 12), unbiased over the rotations, and within
    /// √((1 − ⟨o̅, o⟩²)/⟨o̅, o⟩²)·ε₀/√(d − 1) of it (eq. 16), both times ‖x − c‖ and ‖q − c‖.
    fn score(
        &self,
        (query, sums): &(Query, Sums),
        codes: Codes,
        estimates: &mut [f32],
        mut bounds: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        let packed = codes.to_slice().ok_or_else(|| Error::failed("strided codes"))?;
        sums.write(packed, estimates);
        let deviations = self.epsilon / ((self.space.dim - 1).max(1) as f64).sqrt();
        let scalar = |j| self.layout.scalars(packed, estimates.len(), j).map(f64::from);
        for (i, (norm, cosine)) in scalar(0).zip(scalar(1)).enumerate() {
            let inverse = if cosine > 0.0 { norm / cosine } else { 0.0 };
            let inner = inverse * f64::from(estimates[i]);
            estimates[i] = query.estimate(inner, norm * norm);
            if let Some(bounds) = &mut bounds {
                let off = inverse.abs() * (1.0 - cosine * cosine).max(0.0).sqrt();
                bounds[i] = query.half_width(off * deviations * query.norm);
            }
        }
        Ok(())
    }
}

export_plugin!(Rabitq: Scorer);
