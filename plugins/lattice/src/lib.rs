//! Lattice quantization: `x̂ = mean + step ∘ r`, r the point of a Voronoi code near
//! `t = (x − mean) / step`, block by block.
//!
//! A block of n dimensions (Z: 1, D4: 4, E8: 8, the Leech lattice Λ24: 24) is coded by the coset of its nearest lattice point
//! in Λ/qΛ, q = 2^bits or `levels`: there are q^n, so that each dimension takes log₂ q bits. A coset
//! decodes to its point of least length; the code's points are those of Λ + a in the Voronoi cell
//! of qΛ (Conway & Sloane 1982, 1983). Dimensions that fill no block go to the next smaller
//! lattice: at d = 100, E8 codes 96 and D4 the last 4.
//!
//! Training:
//! 1. Mean and standard deviation σ of each dimension.
//! 2. For each block the step s, `stepⱼ = scale · s · σⱼ`, and the shift a, some way to a deep
//!    hole, of least squared error on at most 2^14 values: wide steps round more, narrow ones
//!    leave more points outside.
//!
//! O(n·d) for the moments, O(d) for the steps.
#![forbid(unsafe_code)]

mod digits;
mod encode;
mod leech;
mod points;
mod train;

use digits::Digits;
use encode::Voronoi;
use leech::Leech;
use ndarray::{ArrayView2, ArrayViewMut2};
use points::{D4, E8, Lattice, Z};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Mutex;
use train::Choice;
use vq_blocks::rate;
use vq_kernels::moments::mean_and_deviation;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::params::ParamType;
use vq_plugin_api::{
    Context, Error, Method, Quantizer, Space, Value, choices, export_plugin, params,
};

choices! {
    /// A lattice.
    pub enum Kind { Z = "z", D4 = "d4", E8 = "e8", Leech = "leech" }
}

params! {
    /// Parameters of [`LatticeCode`].
    pub struct LatticeParams {
        /// Lattice that blocks of 1 (z), 4 (d4), 8 (e8) or 24 (leech) dimensions are coded in.
        lattice: Kind = Kind::E8, grid = [Kind::E8, Kind::D4, Kind::Z, Kind::Leech];
        /// Bits per dimension.
        bits: u32 = 4, min = 1, max = 8, grid = [2, 4];
        /// Points per dimension, q, for rates of log2(q) between whole bits; 0 is 2^bits.
        levels: u32 = 0, max = 256;
        /// Factor on the learned step; below 1 rounds finer and cuts tails, above 1 the reverse.
        scale: f64 = 1.0, min = 0.01, max = 100.0;
    }
}

/// A Voronoi code for each block of dimensions.
pub struct LatticeCode {
    params: LatticeParams,
    digits: Digits,
    blocks: Vec<Block>,
    mean: Vec<f32>,
    step: Vec<f32>,
    /// 1 / step; 0 for a dimension without spread.
    inv: Vec<f32>,
    /// One per block: how far the lattice is moved to its deep hole.
    shift: Vec<f32>,
}

/// Consecutive dimensions that are coded together.
#[derive(Clone, Copy)]
struct Block {
    kind: Kind,
    start: usize,
}

/// Values per task: scheduling stays below a percent.
const TASK: usize = 16 * 1024;

impl Kind {
    fn dims(self) -> usize {
        match self {
            Kind::Z => 1,
            Kind::D4 => 4,
            Kind::E8 => 8,
            Kind::Leech => 24,
        }
    }
}

/// As many blocks of `kind` as fit `dim` dimensions, then smaller ones.
fn blocks(kind: Kind, dim: usize) -> Vec<Block> {
    let (mut start, mut blocks) = (0, Vec::new());
    for smaller in [Kind::Leech, Kind::E8, Kind::D4, Kind::Z] {
        while smaller.dims() <= kind.dims() && start + smaller.dims() <= dim {
            blocks.push(Block { kind: smaller, start });
            start += smaller.dims();
        }
    }
    blocks
}

impl LatticeCode {
    fn set(&mut self, mean: Vec<f32>, step: Vec<f32>, shift: Vec<f32>) {
        let inverse = |step: &f32| Some(1.0 / step).filter(|inv| inv.is_finite()).unwrap_or(0.0);
        self.inv = step.iter().map(inverse).collect();
        (self.mean, self.step, self.shift) = (mean, step, shift);
    }

    /// The rows `every` apart with mean 0 and deviation 1, cut to one block.
    fn sample<const N: usize>(
        train: ArrayView2<'_, f32>,
        start: usize,
        mean: &[f64],
        spread: &[f64],
    ) -> (Vec<[f32; N]>, [f64; N]) {
        let every = train.nrows().div_ceil(train::SAMPLE / N);
        let standard = |x: f32, j: usize| {
            let z = (f64::from(x) - mean[j]) / spread[j];
            if z.is_finite() { z as f32 } else { 0.0 }
        };
        let rows = train.outer_iter().step_by(every);
        let cut = |row: ndarray::ArrayView1<'_, f32>| {
            std::array::from_fn(|i| standard(row[start + i], start + i))
        };
        // Relative to the largest, so that squares of huge spreads stay finite.
        let largest = spread[start..start + N].iter().fold(f64::MIN_POSITIVE, |a, s| a.max(*s));
        (rows.map(cut).collect(), std::array::from_fn(|i| (spread[start + i] / largest).powi(2)))
    }

    fn choose<L: Lattice<N>, const N: usize>(
        &self,
        train: ArrayView2<'_, f32>,
        start: usize,
        mean: &[f64],
        spread: &[f64],
    ) -> Choice {
        let (sample, weights) = Self::sample::<N>(train, start, mean, spread);
        train::least_error::<L, N>(&sample, &weights, self.digits.q)
    }

    fn code<L: Lattice<N>, const N: usize>(&self, shift: f32) -> Voronoi<N> {
        Voronoi { q: self.digits.q, shift: L::HOLE.map(|hole| shift * hole) }
    }

    fn encode_block<L: Lattice<N>, const N: usize>(
        &self,
        x: &[f32],
        at: usize,
        shift: f32,
        out: &mut [u16],
    ) {
        let (x, mean, inv) = (&x[at..at + N], &self.mean[at..at + N], &self.inv[at..at + N]);
        let t = std::array::from_fn(|i| {
            // Two huge numbers may be infinitely far apart, and infinity times 0 is no number.
            let off = x[i] - mean[i];
            let off = if off < f32::MAX { off } else { f32::MAX };
            (if off > -f32::MAX { off } else { -f32::MAX }) * inv[i]
        });
        out[at..at + N].copy_from_slice(&self.code::<L, N>(shift).encode::<L>(&t));
    }

    fn decode_block<L: Lattice<N>, const N: usize>(
        &self,
        u: &[u16],
        at: usize,
        shift: f32,
        x: &mut [f32],
    ) {
        let block = std::array::from_fn(|i| u[at + i]);
        let r = self.code::<L, N>(shift).decode::<L>(&block);
        let (mean, step) = (&self.mean[at..at + N], &self.step[at..at + N]);
        for (((x, r), mean), step) in x[at..at + N].iter_mut().zip(r).zip(mean).zip(step) {
            *x = (mean + step * r).clamp(f32::MIN, f32::MAX);
        }
    }
}

impl Quantizer for LatticeCode {
    type Params = LatticeParams;
    const METHOD: Method = Method::new("lattice", "Lattice")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Voronoi codes of the lattices Z, D4, E8 and Λ24 with learned scale")
        .paper(
            "Conway and Sloane, Fast quantizing and decoding algorithms for lattice quantizers \
             and codes, 1982; A fast encoding method for lattice codes and quantizers, 1983",
        )
        .authors("vq-host authors")
        .license("MIT OR Apache-2.0")
        .tags("lattice");

    fn create(params: LatticeParams, space: Space) -> Result<Self, Error> {
        let least = params.lattice.dims();
        if least > space.dim {
            let name = params.lattice.into_value();
            let reason = format!("{name} needs {least} dimensions, d = {}", space.dim);
            return Err(Error::param("lattice", reason));
        }
        let blocks = blocks(params.lattice, space.dim);
        let none = Vec::new;
        let (mean, step, inv, shift) = (none(), none(), none(), Vec::new());
        let q = match params.levels {
            0 => 1 << params.bits,
            1 => {
                return Err(Error::param(
                    "levels",
                    "1 tells nothing apart; 2 to 256, or 0 for 2^bits",
                ));
            }
            levels => levels,
        };
        Ok(LatticeCode { params, digits: Digits { q }, blocks, mean, step, inv, shift })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        if train.nrows() == 0 {
            return Err(Error::failed("no training rows"));
        }
        let mut told = |done: f32| ctx.progress(0.2 * done, "moments");
        let (mean, spread) = mean_and_deviation(train, &mut told)?;
        let done = Mutex::new(0);
        let choose = |block: &Block| {
            {
                let mut done = done.lock().unwrap_or_else(|held| held.into_inner());
                ctx.progress(0.2 + 0.8 * *done as f32 / self.blocks.len() as f32, "steps")?;
                *done += 1;
            }
            Ok(match block.kind {
                Kind::Z => self.choose::<Z, 1>(train, block.start, &mean, &spread),
                Kind::D4 => self.choose::<D4, 4>(train, block.start, &mean, &spread),
                Kind::E8 => self.choose::<E8, 8>(train, block.start, &mean, &spread),
                Kind::Leech => self.choose::<Leech, 24>(train, block.start, &mean, &spread),
            })
        };
        let choices: Result<Vec<Choice>, Error> = self.blocks.par_iter().map(choose).collect();
        let choices = choices?;
        let factor = |(block, choice): (&Block, &Choice)| {
            vec![choice.step * self.params.scale; block.kind.dims()]
        };
        let factors = self.blocks.iter().zip(&choices).flat_map(factor);
        let end = f64::from(f32::MAX);
        let step = spread.iter().zip(factors).map(|(s, f)| (s * f).min(end) as f32).collect();
        let mean = mean.iter().map(|mean| *mean as f32).collect();
        self.set(mean, step, choices.iter().map(|choice| choice.shift).collect());
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        let dim = self.blocks.last().map_or(0, |block| block.start + block.kind.dims());
        self.digits.bytes(dim)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let dim = self.mean.len();
        ctx.par_blocks(x, codes, TASK / dim.max(1), |x, mut codes| {
            let mut u = vec![0_u16; dim];
            for (x, mut code) in x.outer_iter().zip(codes.outer_iter_mut()) {
                let x = x.as_slice().map_or_else(|| Cow::Owned(x.to_vec()), Cow::Borrowed);
                for (block, shift) in self.blocks.iter().zip(&self.shift) {
                    let at = block.start;
                    match block.kind {
                        Kind::Z => self.encode_block::<Z, 1>(&x, at, *shift, &mut u),
                        Kind::D4 => self.encode_block::<D4, 4>(&x, at, *shift, &mut u),
                        Kind::E8 => self.encode_block::<E8, 8>(&x, at, *shift, &mut u),
                        Kind::Leech => self.encode_block::<Leech, 24>(&x, at, *shift, &mut u),
                    }
                }
                self.digits.pack(&u, contiguous(code.as_slice_mut())?);
            }
            Ok(())
        })
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let dim = self.mean.len();
        ctx.par_blocks(codes, x, TASK / dim.max(1), |codes, mut x| {
            let mut u = vec![0_u16; dim];
            for (code, mut x) in codes.outer_iter().zip(x.outer_iter_mut()) {
                self.digits.unpack(contiguous(code.as_slice())?, &mut u);
                let x = contiguous(x.as_slice_mut())?;
                for (block, shift) in self.blocks.iter().zip(&self.shift) {
                    let at = block.start;
                    match block.kind {
                        Kind::Z => self.decode_block::<Z, 1>(&u, at, *shift, x),
                        Kind::D4 => self.decode_block::<D4, 4>(&u, at, *shift, x),
                        Kind::E8 => self.decode_block::<E8, 8>(&u, at, *shift, x),
                        Kind::Leech => self.decode_block::<Leech, 24>(&u, at, *shift, x),
                    }
                }
            }
            Ok(())
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(ModelWriter::new()
            .f32s(self.mean.iter().copied())
            .f32s(self.step.iter().copied())
            .f32s(self.shift.iter().copied())
            .finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let dim = self.blocks.last().map_or(0, |block| block.start + block.kind.dims());
        let (mean, step) = (reader.f32s(dim)?, reader.f32s(dim)?);
        let shift = reader.f32s(self.blocks.len())?;
        reader.finish()?;
        if let Some(step) = step.iter().find(|step| **step < 0.0) {
            return Err(Error::failed(format!("step {step} is negative")));
        }
        self.set(mean, step, shift);
        Ok(())
    }

    fn rate_axes(_: Space, bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        let q = bits_per_dim.clamp(1.0, 8.0).exp2().floor() as u32;
        let mut axes = if q.is_power_of_two() {
            vec![("bits", rate::whole_bits(bits_per_dim, 8))]
        } else {
            vec![("levels", vec![Value::from(q)])]
        };
        // With one bit most points lie outside of the code, and rounder cells gain nothing.
        if bits_per_dim < 2.0 {
            let kinds = [Kind::Z, Kind::D4, Kind::E8, Kind::Leech];
            axes.push(("lattice", kinds.map(Kind::into_value).to_vec()));
        }
        axes
    }
}

fn contiguous<T>(row: Option<T>) -> Result<T, Error> {
    row.ok_or_else(|| Error::failed("rows are not contiguous"))
}

export_plugin!(LatticeCode);
