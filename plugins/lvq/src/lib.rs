//! LVQ, locally-adaptive vector quantization: the coordinates of a centred row go to evenly spaced levels
//! from the least of them to the largest, which stand beside; a second level quantizes what is left
//! within ±Δ/2, without scalars of its own: [`Affine`] and `Residual` over a [`Frame`].
//!
//! Aguerrebere, Bhati, Hildebrand, Tepper, Willke, "Similarity search in the blink of an eye with compressed
//! indices", 2023.
#![forbid(unsafe_code)]

mod residual;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use residual::Residual;
use vq_blocks::rotated::{
    Affine, ByGrid, Centring, Format, Frame, Layout, Query, Scalars, Scan, Turn,
};
use vq_blocks::{contiguous, rate, scan_by_grid};
use vq_kernels::Path;
use vq_kernels::distance::norm_sq;
use vq_kernels::levels::index;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Quantizer, Space, export_plugin, params,
};

params! {
    /// Parameters of LVQ.
    pub struct LvqParams {
        /// Bits per dimension, scalars included, filled to the byte by mixed widths; 0: `bits` decides.
        rate: f64 = 0.0, min = 0.0, max = 16.0, grid = [1.0, 2.0, 4.0, 8.0];
        /// Bits of each coordinate in the first level where `rate` is 0; the scalars come beside.
        bits: u32 = 8, min = 1, max = 8;
        /// Bits of each coordinate in the second level, part of the rate; 0: none.
        residual: u32 = 0, min = 0, max = 8;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// Which random rotation before.
        rotation: Turn = Turn::None;
        /// How the two scalars are stored.
        scalars: Scalars = Scalars::F16;
    }
}

/// LVQ; no frame before training.
pub struct Lvq {
    params: LvqParams,
    space: Space,
    affine: Affine,
    residual: Option<Residual>,
    frame: Option<Frame>,
}

/// Rows of one task.
const BLOCK: usize = 256;

/// Coordinates at a time.
const LANES: usize = 16;

impl Lvq {
    fn frame(&self) -> Result<&Frame, Error> {
        self.frame.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }

    /// The parts of codes: first level with its scalars, and second.
    fn parts<'a, T>(&self, codes: ArrayView2<'a, T>) -> (ArrayView2<'a, T>, ArrayView2<'a, T>) {
        codes.split_at(Axis(1), self.affine.layout().code_bytes())
    }

    /// ℓ and u − ℓ of the coordinates `z` as `format` stores them, rounded so that nothing lies outside
    /// (section 3, definition 1).
    fn range(z: &[f32], format: Format) -> (f32, f32) {
        let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (lanes, rest) = z.as_chunks::<LANES>();
        Path::fastest().run(
            #[inline(always)]
            || {
                for z in lanes {
                    for i in 0..LANES {
                        low[i] = low[i].min(z[i]);
                        high[i] = high[i].max(z[i]);
                    }
                }
            },
        );
        let low = low.iter().chain(rest).fold(f32::INFINITY, |a, b| a.min(*b));
        let high = high.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        if low >= high {
            // No coordinates, or all the same.
            return (if z.is_empty() { 0.0 } else { format.rounded(low) }, 0.0);
        }
        let low = below(low, format);
        (low, -below(low - high, format))
    }

    /// Writes the indices of the first level of `z` (d): of two levels as near, the upper.
    fn round(&self, z: &[f32], (low, range): (f32, f32), to: &mut [u16]) {
        to.fill(0);
        if range == 0.0 {
            return;
        }
        for run in self.affine.layout().runs().iter().filter(|run| run.bits > 0) {
            let rows = run.first..run.first + run.count;
            let top = top(run.bits);
            let per_level = (top / range).min(f32::MAX);
            let (z, to) = (&z[rows.clone()], &mut to[rows]);
            Path::fastest().run(
                #[inline(always)]
                || {
                    for (to, z) in to.iter_mut().zip(z) {
                        // Equation 3.
                        let level = ((z - low) * per_level + 0.5).floor().max(0.0).min(top);
                        *to = index(level);
                    }
                },
            );
        }
    }
}

/// Of the last level.
fn top(bits: u32) -> f32 {
    f32::from((1_u16 << bits) - 1)
}

/// Levels of the range 0 to 1.
fn levels(bits: u32) -> Vec<f32> {
    (0..=top(bits) as u16).map(|k| f32::from(k) / top(bits)).collect()
}

/// The largest number not above `x` that `format` stores, or the next.
fn below(x: f32, format: Format) -> f32 {
    let nearest = format.rounded(x);
    if nearest <= x {
        return nearest;
    }
    // Three quarters to one and a half of the last digit of f16, subnormal numbers included.
    format.rounded(nearest - (nearest.abs() * (1.5 / 2048.0)).max(0.75 / 16_777_216.0))
}

impl Quantizer for Lvq {
    type Params = LvqParams;
    const METHOD: Method = Method::new("lvq", "LVQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Locally-adaptive vector quantization: a range per row, one or two levels")
        .paper(
            "Aguerrebere, Bhati, Hildebrand, Tepper, Willke, Similarity search in the blink of an eye \
             with compressed indices, 2023",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags(
            "scalar,rotation,scorer,search,\
             SVS=\"LVQ{bits}\" if rate=0 bits=4|8 residual=0 rotation=none,\
             SVS=\"LVQ{bits}x{residual}\" if rate=0 bits=4|8 residual=4|8 rotation=none,\
             SVS=\"nearest is LVQ{rate}\" if rate=4|8 residual=0 rotation=none",
        );

    fn create(params: LvqParams, space: Space) -> Result<Self, Error> {
        let LvqParams { rate, bits, residual, scalars, .. } = params;
        let scalars = [Format::from(scalars); 2];
        let beside = residual::bytes(space.dim, residual);
        let layout = Layout::sized(space.dim, (rate, bits), &scalars, beside)?;
        let affine = Affine::new(layout, scalars.len(), levels);
        if residual > 0 && affine.coded() < space.dim {
            let reason =
                "beside the second level, the first has less than a bit for each coordinate";
            return Err(Error::param("rate", reason));
        }
        let residual = (residual > 0).then(|| Residual::new(affine.layout(), residual));
        Ok(Lvq { params, space, affine, residual, frame: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let LvqParams { center, rotation, .. } = self.params;
        self.frame = Some(match rotation {
            // Coordinates that vary most come first, where mixed widths have more bits.
            Turn::None => Frame::sorted(train, center)?,
            _ => Frame::drawn(train, center, rotation, ctx.seed())?,
        });
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        let LvqParams { residual, .. } = self.params;
        self.affine.layout().code_bytes() + residual::bytes(self.space.dim, residual)
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
        let (frame, format) = (self.frame()?, self.params.scalars.into());
        let (layout, coded) = (self.affine.layout(), self.affine.coded());
        ctx.par_blocks(x, codes, BLOCK, |x, mut codes| {
            let z = frame.apply(x);
            let (mut values, mut read) = (vec![0; z.ncols()], vec![0.0; z.ncols()]);
            for (z, code) in z.outer_iter().zip(codes.outer_iter_mut()) {
                let (z, code) = (contiguous(z.to_slice())?, contiguous(code.into_slice())?);
                let (first, second) = code.split_at_mut(layout.code_bytes());
                // What is stored is what codes are made for.
                let (low, range) = Self::range(&z[..coded], format);
                self.round(z, (low, range), &mut values);
                layout.write(&values, &[low, range], first);
                if let Some(residual) = &self.residual {
                    self.affine.row(&values, (low, range), &mut read);
                    residual.encode(z, &read, range, &mut values, second);
                }
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
        let frame = self.frame()?;
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            let (_, second) = self.parts(codes);
            self.affine.decode(frame, codes, x, |i, range, row| {
                if let Some(residual) = &self.residual {
                    residual.add(second.row(i), range, row);
                }
            })
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

/// Estimates are the values of decoded rows: ⟨q, x̂⟩ = ⟨q, c⟩ + ℓ·Σz + (u − ℓ)·⟨y, z⟩ with the levels y of both codes.
impl ByGrid for Lvq {
    fn scan_bytes(&self) -> usize {
        self.affine.packed_bytes() + self.residual.as_ref().map_or(0, Residual::packed_bytes)
    }

    fn pack_block(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) -> Result<(), Error> {
        let (first, second) = self.parts(codes);
        let (levels, rest) = packed.split_at_mut(codes.nrows() * self.affine.packed_bytes());
        let mut ranges = vec![0.0; codes.nrows()];
        self.affine.pack(first, levels, |i, row, scalars| {
            ranges[i] = scalars[1];
            if let Some(residual) = &self.residual {
                residual.add(second.row(i), scalars[1], row);
            }
            norm_sq(row)
        });
        if let Some(residual) = &self.residual {
            residual.pack(second, &ranges, rest);
        }
        Ok(())
    }

    fn query(&self, q: &[f32]) -> Result<Query, Error> {
        Ok(self.frame()?.query(q, self.space.metric))
    }

    fn scan(&self, query: Query) -> Result<Scan, Error> {
        let beside = self.residual.as_ref().map(|residual| residual.sums(&query.z));
        let scan = self.affine.scan(query, self.space.metric);
        Ok(match beside {
            Some((bytes, sums)) => scan.and(bytes, sums),
            None => scan,
        })
    }
}

scan_by_grid!(Lvq);
export_plugin!(Lvq: Scorer + Search);

#[cfg(test)]
mod tests {
    use super::*;
    use vq_kernels::Draw;

    #[test]
    fn stored_ranges_hold_every_coordinate() {
        let mut draw = Draw::new(2);
        for _ in 0..20_000 {
            let size = 10.0_f64.powf(6.0 * draw.uniform() - 5.0);
            let z: Vec<f32> = (0..3).map(|_| (size * draw.normal()) as f32).collect();
            let (low, range) = Lvq::range(&z, Format::F16);
            assert_eq!((Format::F16.rounded(low), Format::F16.rounded(range)), (low, range));
            let most = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let least = z.iter().copied().fold(f32::INFINITY, f32::min);
            assert!(low <= least && low + range >= most * (1.0 - 1e-7), "{z:?} {low} {range}");
            let wide = f64::from(range) / f64::from(most - least);
            let lost = 2e-3 * f64::from(least.abs() + most.abs()) + 2e-7;
            assert!(wide < 1.002 + lost / f64::from(most - least), "{z:?} {low} {range}");
        }
        assert_eq!(Lvq::range(&[0.5; 4], Format::F16), (0.5, 0.0));
        assert_eq!(Lvq::range(&[], Format::F32), (0.0, 0.0));
    }
}
