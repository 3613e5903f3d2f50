//! SAQ: rows along their principal directions, cut into segments of falling variance, each with bits of its
//! own by a dynamic program ([`plan`]), turned at random and coded by code adjustment ([`adjust`]), with one
//! scale beside it, over [`Basis`].
//!
//! Li et al., "SAQ: Pushing the Limits of Vector Quantization through Code Adjustment and Dimension
//! Segmentation", 2025 (numbers are those of arXiv 2509.12086v1).
#![forbid(unsafe_code)]

pub mod adjust;
mod parts;
pub mod plan;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, Slice};
use parts::{Seek, Segment, unit};
use plan::{MOST_BITS, Part};
use vq_blocks::rotated::{Basis, Centring, Format, Frame, Layout, Query, Scalars, Sums, Turn};
use vq_blocks::{contiguous, rate};
use vq_kernels::draw::seed_of;
use vq_kernels::pack::packed_bytes;
use vq_kernels::rotation::Rotation;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Scorer, Space, choices,
    export_plugin, params,
};

choices! {
    /// What bits are given by: the paper's error of a segment (eq. 17), Σσ²/2^b, or that of its squares.
    pub enum Objective { Paper = "paper", Mse = "mse" }
}

choices! {
    /// Where code adjustment begins.
    pub enum Start { Largest = "largest", Both = "both" }
}

params! {
    /// Parameters of SAQ.
    pub struct SaqParams {
        /// Bits per dimension, scalars included, given to segments by their variance; 0: `bits` decides.
        rate: f64 = 0.0, min = 0.0, max = 16.0, grid = [1.0, 2.0, 4.0, 8.0];
        /// Bits of each coordinate of one segment where `rate` is 0 (CAQ); scalars come beside.
        bits: u32 = 4, min = 1, max = 13;
        /// The error that the bits are to lower: the paper's, or the squared one.
        objective: Objective = Objective::Mse;
        /// Begin with the largest coordinate at the end of the grid, as the paper does, or also with a
        /// clipped range, and keep the better.
        start: Start = Start::Both;
        /// Turns of each coordinate in code adjustment.
        rounds: usize = 6, max = 100;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// Which random rotation within segments.
        rotation: Turn = Turn::Hadamard;
        /// How scalars are stored.
        scalars: Scalars = Scalars::F16;
    }
}

/// SAQ; nothing fitted before training.
pub struct Saq {
    params: SaqParams,
    space: Space,
    code_bytes: usize,
    /// ‖r‖² less what the segments tell of it; estimates of inner products need none.
    rest: Layout,
    fitted: Option<Fitted>,
}

struct Fitted {
    basis: Basis,
    segments: Vec<Segment>,
    /// What the rest is stored in units of.
    rest_unit: f32,
}

/// Rows of one task.
const BLOCK: usize = 256;

/// Rows that scales are learned from.
const SAMPLE: usize = 4096;

impl Saq {
    fn fitted(&self) -> Result<&Fitted, Error> {
        self.fitted.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }

    fn seek(&self) -> Seek {
        Seek { rounds: self.params.rounds, both: self.params.start == Start::Both }
    }

    /// The segments, and the directions that they are made of.
    fn parts(
        &self,
        centre: &vq_kernels::Centre,
        train: ArrayView2<'_, f32>,
    ) -> (Vec<Part>, Array2<f64>) {
        let SaqParams { rate, bits, objective, scalars, .. } = self.params;
        let dim = self.space.dim;
        if rate == 0.0 {
            return (vec![Part { len: dim, bits }], Array2::eye(dim));
        }
        let (variances, directions) = Basis::principal(centre, train);
        let bytes = self.code_bytes - self.rest.code_bytes();
        let left = match objective {
            Objective::Paper => plan::left_by_paper,
            Objective::Mse => plan::left_by_error,
        };
        let parts = plan::plan(&variances, bytes, scalar_bytes(scalars), left);
        (parts.expect("create has left a byte for indices"), directions)
    }

    /// The rows of `directions` that `parts` take, turned within each. The first takes the seed as it is, so
    /// that one segment is turned as other methods turn their rows.
    fn turned(&self, parts: &[Part], directions: &Array2<f64>, seed: u64) -> Array2<f32> {
        let count = parts.iter().map(|part| part.len).sum::<usize>();
        let mut turned = Array2::zeros((count, directions.ncols()));
        let mut at = 0;
        for (s, Part { len, .. }) in parts.iter().enumerate() {
            let own = Slice::from(at..at + len);
            let seed = if s == 0 { seed } else { seed_of(seed, s as u64) };
            let columns = directions.slice_axis(Axis(0), own).mapv(|v| v as f32);
            let columns = columns.t().as_standard_layout().into_owned();
            let rotation = match self.params.rotation {
                Turn::None => None,
                Turn::Hadamard => Some(Rotation::hadamard(*len, seed)),
                Turn::Dense => Some(Rotation::dense(*len, seed)),
            };
            let mut to = Array2::zeros(columns.dim());
            match rotation {
                Some(rotation) => rotation.apply(columns.view(), to.view_mut()),
                None => to.assign(&columns),
            }
            turned.slice_axis_mut(Axis(0), own).assign(&to.t());
            at += len;
        }
        turned
    }
}

fn scalar_bytes(scalars: Scalars) -> usize {
    Layout::new(&[], &[scalars.into()]).code_bytes()
}

impl Quantizer for Saq {
    type Params = SaqParams;
    const METHOD: Method = Method::new("saq", "SAQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("SAQ: principal directions in segments with bits by variance, code adjustment")
        .paper(
            "Li et al., SAQ: Pushing the Limits of Vector Quantization through Code Adjustment and \
             Dimension Segmentation, 2025",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("pca,rotation,scalar,unbiased,scorer");

    fn create(params: SaqParams, space: Space) -> Result<Self, Error> {
        let SaqParams { rate, bits, scalars, .. } = params;
        let dim = space.dim;
        let format = Format::from(scalars);
        let rest: &[Format] = if space.metric == Metric::Ip { &[] } else { &[format] };
        let rest = Layout::new(&[], rest);
        let beside = rest.code_bytes() + scalar_bytes(scalars);
        let code_bytes = if rate > 0.0 {
            let budget = rate::budget(dim, rate);
            if budget <= beside {
                let all = format!("the {budget} bytes of {rate} bits/dim at d = {dim}");
                return Err(Error::param("rate", format!("nothing is left of {all}")));
            }
            let bytes = budget.min(packed_bytes(dim, MOST_BITS) + beside);
            rate::fills(bytes, dim, rate).map_err(|reason| Error::param("rate", reason))?;
            bytes
        } else {
            packed_bytes(dim, bits) + beside
        };
        Ok(Saq { params, space, code_bytes, rest, fitted: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let SaqParams { center, scalars, .. } = self.params;
        let centre = Frame::centre_of(train, center)?;
        ctx.progress(0.0, "principal directions")?;
        let (parts, directions) = self.parts(&centre, train);
        ctx.progress(0.8, "scales")?;
        let basis = Basis::new(centre, self.turned(&parts, &directions, ctx.seed()));
        let every = train.nrows().div_ceil(SAMPLE) as isize;
        let sample = train.slice_axis(Axis(0), Slice::from(..).step_by(every));
        let (z, norms) = basis.apply(sample);
        let mut segments = Segment::all(&parts, self.rest.code_bytes(), scalars.into());
        let mut told = vec![0.0; norms.len()];
        for segment in &mut segments {
            segment.learn(self.seek(), z.view(), &mut told);
        }
        let off = norms.iter().zip(&told).map(|(norm, told)| (norm - told).powi(2)).sum::<f64>();
        let mut rest_unit = unit((off / norms.len() as f64).sqrt());
        if self.space.metric == Metric::Cosine {
            // So that what marks a row of zeros, s², is within the range of f16.
            rest_unit = rest_unit.max((basis.unit_sq() * 0.5_f64.powi(15)) as f32);
        }
        self.fitted = Some(Fitted { basis, segments, rest_unit });
        ctx.progress(1.0, "done")
    }

    fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    fn model_bytes(&self) -> Option<u64> {
        let fitted = self.fitted.as_ref()?;
        Some(fitted.basis.model_bytes() + 4 + 8 + 24 * fitted.segments.len() as u64)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let Fitted { basis, segments, rest_unit } = self.fitted()?;
        let (seek, cosine) = (self.seek(), self.space.metric == Metric::Cosine);
        ctx.par_blocks(x, codes, BLOCK, |x, mut codes| {
            codes.fill(0);
            let (z, norms) = basis.apply(x);
            let mut told = vec![0.0; norms.len()];
            for segment in segments {
                segment.encode(seek, z.view(), codes.view_mut(), &mut told);
            }
            if self.rest.code_bytes() > 0 {
                let rows = x.outer_iter().zip(norms.iter().zip(&told));
                for ((x, (norm, told)), code) in rows.zip(codes.outer_iter_mut()) {
                    // As if a row of zeros were longer by the unit that others have: ⟨q, x⟩ = 0.
                    let zero = cosine && x.iter().all(|x| *x == 0.0);
                    let rest = norm - told + if zero { basis.unit_sq() } else { 0.0 };
                    let code = contiguous(code.into_slice())?;
                    let bytes = &mut code[..self.rest.code_bytes()];
                    self.rest.write(&[], &[(rest / f64::from(*rest_unit)) as f32], bytes);
                }
            }
            Ok(())
        })
    }

    /// κ·f·y in every segment; the mean where no bits are.
    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let Fitted { basis, segments, .. } = self.fitted()?;
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            let mut y = Array2::zeros((codes.nrows(), basis.count()));
            for segment in segments {
                segment.decode(codes, y.view_mut());
            }
            basis.restore(y.view(), x);
            Ok(())
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        let Fitted { basis, segments, rest_unit } = self.fitted()?;
        let model = basis.save(ModelWriter::new()).f32s([*rest_unit]).u64(segments.len() as u64);
        Ok(segments.iter().fold(model, |model, segment| segment.save(model)).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let dim = self.space.dim;
        let basis = Basis::load(dim, &mut reader)?;
        let rest_unit = reader.f32s(1)?[0];
        let sizes = (dim, self.rest.code_bytes(), self.code_bytes);
        let segments = Segment::load(sizes, self.params.scalars.into(), &mut reader)?;
        reader.finish()?;
        let count = segments.iter().map(|segment| segment.part.len).sum::<usize>();
        if count != basis.count() || rest_unit <= 0.0 {
            return Err(Error::failed(format!("{count} coordinates, unit {rest_unit}")));
        }
        self.fitted = Some(Fitted { basis, segments, rest_unit });
        Ok(())
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_rate::<Self>(request, sink)
    }
}

/// A query over codes that were packed: the tables of each segment.
pub struct Scan {
    query: Query,
    /// Bytes per code, and tables.
    sums: Vec<(usize, Sums)>,
}

/// ⟨r, v⟩ ≈ Σ fₛ·⟨yₛ, vₛ⟩ over the segments.
impl Scorer for Saq {
    type Query = Scan;
    const PACKED: bool = true;

    fn packed_bytes(&self) -> usize {
        let segments = self.fitted.as_ref().map_or(&[][..], |fitted| &fitted.segments);
        segments.iter().map(|segment| segment.scanned_bytes() + 4).sum::<usize>() + 4
    }

    /// The indices of each segment, then for each segment fₛ of all codes, then ‖r‖² of all codes.
    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        mut packed: ArrayViewMut2<'_, u8>,
        _: &Context<'_>,
    ) -> Result<(), Error> {
        let Fitted { segments, rest_unit, .. } = self.fitted()?;
        let n = codes.nrows();
        let mut rest = contiguous(packed.as_slice_mut())?;
        let mut indices = Vec::new();
        for segment in segments {
            let (own, behind) = rest.split_at_mut(n * segment.scanned_bytes());
            indices.push(own);
            rest = behind;
        }
        let columns = rest.as_chunks_mut::<4>().0;
        let (factors, norms) = columns.split_at_mut(n * segments.len());
        let mut told = vec![0.0; n];
        for (s, (segment, indices)) in segments.iter().zip(indices).enumerate() {
            segment.pack(codes, indices, &mut factors[s * n..][..n], &mut told);
        }
        for ((code, told), norm) in codes.outer_iter().zip(told).zip(norms) {
            let mut rest = [0.0];
            if self.rest.code_bytes() > 0 {
                let code = contiguous(code.to_slice())?;
                self.rest.read(&code[..self.rest.code_bytes()], &mut [], &mut rest);
            }
            let norm_sq = told + f64::from(rest[0]) * f64::from(*rest_unit);
            *norm = (norm_sq as f32).clamp(f32::MIN, f32::MAX).to_le_bytes();
        }
        Ok(())
    }

    fn query(&self, q: ArrayView1<'_, f32>, _: &Context<'_>) -> Result<Scan, Error> {
        let Fitted { basis, segments, .. } = self.fitted()?;
        let query = basis.estimator(&q.to_vec(), self.space.metric);
        let sums = segments.iter().map(|s| (s.scanned_bytes(), s.sums(&query.z))).collect();
        Ok(Scan { query, sums })
    }

    fn score(
        &self,
        Scan { query, sums }: &Scan,
        codes: ArrayView2<'_, u8>,
        estimates: &mut [f32],
        _: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        let n = estimates.len();
        let mut rest = contiguous(codes.to_slice())?;
        let (mut inner, mut part) = (vec![0.0_f64; n], vec![0.0_f32; n]);
        let bytes = sums.iter().map(|(bytes, _)| n * bytes).sum::<usize>();
        let columns = rest[bytes..].as_chunks::<4>().0;
        let (factors, norms) = columns.split_at(n * sums.len());
        for (s, (bytes, sums)) in sums.iter().enumerate() {
            let (indices, behind) = rest.split_at(n * bytes);
            sums.write(indices, &mut part);
            for ((inner, part), factor) in inner.iter_mut().zip(&part).zip(&factors[s * n..]) {
                *inner += f64::from(*part) * f64::from(f32::from_le_bytes(*factor));
            }
            rest = behind;
        }
        for ((estimate, inner), norm) in estimates.iter_mut().zip(inner).zip(norms) {
            *estimate = query.estimate(inner, f64::from(f32::from_le_bytes(*norm)));
        }
        Ok(())
    }
}

export_plugin!(Saq: Scorer);
