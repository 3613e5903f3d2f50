//! Thresholds, and the means of what lies between them.
//!
//! One bit says whether a coordinate is at least 0. A thermometer has two thresholds, the mean less and
//! more ⅔ of the standard deviation over the training rows: the low bits of all coordinates say whether
//! it is at least the lower, then the high bits whether it is at least the upper; at 1.5 bits two
//! neighbours share a high bit, set where either has it.

use crate::Levels;
use ndarray::{ArrayView2, ArrayViewMut1, Axis};
use vq_blocks::rotated::Frame;
use vq_kernels::pack::{pack, unpack};
use vq_plugin_api::Error;
use vq_plugin_api::model::{ModelReader, ModelWriter};

/// Of the standard deviation, Qdrant's.
const APART: f64 = 2.0 / 3.0;

/// Rows that are in the frame at a time.
const ROWS: usize = 1024;

pub(crate) struct States {
    levels: Levels,
    /// Lower and upper thresholds, (coded); 0 and unused for one bit.
    lower: Vec<f32>,
    upper: Vec<f32>,
    /// (coded, states): what coordinates of a state are read as.
    means: Vec<f32>,
    /// What the other coordinates are read as.
    rest: Vec<f32>,
}

/// States of a coordinate that its reading depends on: its own bits, and at 1.5 bits its neighbour's low bit
/// and the bit that they share.
fn count(levels: Levels) -> usize {
    match levels {
        Levels::One => 2,
        Levels::OneAndHalf => 8,
        Levels::Two => 4,
    }
}

impl States {
    /// For the first `coded` coordinates that rows like `x` (n, d), n ≥ 1, have in `frame`. O(n·d), and what the
    /// frame costs, once for one bit and else three times, for no copy of all rows is made.
    pub(crate) fn learned(
        frame: &Frame,
        x: ArrayView2<'_, f32>,
        coded: usize,
        levels: Levels,
    ) -> Self {
        let (n, dim) = (x.nrows() as f64, x.ncols());
        let each = |visit: &mut dyn FnMut(&[f32])| {
            for x in x.axis_chunks_iter(Axis(0), ROWS) {
                frame
                    .apply(x)
                    .rows()
                    .into_iter()
                    .filter_map(|z| z.to_slice())
                    .for_each(&mut *visit);
            }
        };
        let count = count(levels);
        let mut mean = vec![0.0_f64; dim];
        let mut sums = vec![(0.0_f64, 0.0_f64); coded * count];
        let zeros = vec![0.0; coded];
        let mut learned =
            States { levels, lower: zeros.clone(), upper: zeros, means: vec![], rest: vec![] };
        let mut bits = vec![0; learned.bits()];
        let mut add_states = |learned: &States, z: &[f32]| {
            learned.set(z, &mut bits);
            for (i, z) in z.iter().take(coded).enumerate() {
                let sum = &mut sums[i * count + learned.state(&bits, i)];
                *sum = (sum.0 + f64::from(*z), sum.1 + 1.0);
            }
        };
        // The threshold of one bit is known before.
        let one = matches!(levels, Levels::One);
        each(&mut |z| {
            mean.iter_mut().zip(z).for_each(|(sum, z)| *sum += f64::from(*z));
            if one {
                add_states(&learned, z);
            }
        });
        mean.iter_mut().for_each(|sum| *sum /= n);
        if !one {
            let mut deviation = vec![0.0_f64; dim];
            each(&mut |z| {
                for ((sum, z), mean) in deviation.iter_mut().zip(z).zip(&mean) {
                    *sum += (f64::from(*z) - mean).powi(2);
                }
            });
            deviation.iter_mut().for_each(|sum| *sum = (*sum / n).sqrt());
            for (i, (mean, deviation)) in mean.iter().zip(&deviation).take(coded).enumerate() {
                learned.lower[i] = (mean - APART * deviation) as f32;
                learned.upper[i] = (mean + APART * deviation) as f32;
            }
            each(&mut |z| add_states(&learned, z));
        }
        learned.means = mean[..coded].iter().flat_map(|mean| vec![*mean as f32; count]).collect();
        learned.rest = mean[coded..].iter().map(|mean| *mean as f32).collect();
        // States that no row has keep the mean of all.
        for (mean, (sum, rows)) in learned.means.iter_mut().zip(sums) {
            if rows > 0.0 {
                *mean = (sum / rows) as f32;
            }
        }
        learned
    }

    fn bits(&self) -> usize {
        crate::Binary::bits(self.lower.len(), self.levels)
    }

    /// Writes the bits of `z` (d).
    fn set(&self, z: &[f32], bits: &mut [u16]) {
        let coded = self.lower.len();
        let (low, high) = bits.split_at_mut(coded);
        for ((low, z), lower) in low.iter_mut().zip(z).zip(&self.lower) {
            *low = u16::from(z >= lower);
        }
        let mut upper = z.iter().zip(&self.upper).map(|(z, upper)| u16::from(z >= upper));
        match self.levels {
            Levels::One => {}
            Levels::OneAndHalf => high.fill_with(|| {
                let (a, b) = (upper.next().unwrap_or(0), upper.next().unwrap_or(0));
                a | b
            }),
            Levels::Two => high.iter_mut().zip(upper).for_each(|(high, bit)| *high = bit),
        }
    }

    /// The state of coordinate `i`.
    fn state(&self, bits: &[u16], i: usize) -> usize {
        let (low, high) = bits.split_at(self.lower.len());
        let state = match self.levels {
            Levels::One => low[i],
            Levels::OneAndHalf => low[i] + 2 * low.get(i ^ 1).unwrap_or(&0) + 4 * high[i / 2],
            Levels::Two => low[i] + 2 * high[i],
        };
        usize::from(state)
    }

    /// Writes the `code` of `z` (d).
    pub(crate) fn encode(&self, z: &[f32], code: &mut [u8]) {
        let mut bits = vec![0; self.bits()];
        self.set(z, &mut bits);
        pack(&bits, 1, code);
    }

    /// Writes what `code` is read as into `row` (d).
    pub(crate) fn decode(&self, code: &[u8], mut row: ArrayViewMut1<'_, f32>) {
        let (coded, states) = (self.lower.len(), count(self.levels));
        let mut bits = vec![0; self.bits()];
        unpack(code, 1, &mut bits);
        for (i, row) in row.iter_mut().take(coded).enumerate() {
            *row = self.means[i * states + self.state(&bits, i)];
        }
        row.iter_mut().skip(coded).zip(&self.rest).for_each(|(row, rest)| *row = *rest);
    }

    pub(crate) fn model_bytes(&self) -> u64 {
        let thresholds = if self.levels == Levels::One { 0 } else { 2 * self.lower.len() };
        4 * (thresholds + self.means.len() + self.rest.len()) as u64
    }

    pub(crate) fn save(&self, model: ModelWriter) -> ModelWriter {
        let model = match self.levels {
            Levels::One => model,
            _ => model.f32s(self.lower.iter().copied()).f32s(self.upper.iter().copied()),
        };
        model.f32s(self.means.iter().copied()).f32s(self.rest.iter().copied())
    }

    pub(crate) fn load(
        dim: usize,
        coded: usize,
        levels: Levels,
        model: &mut ModelReader<'_>,
    ) -> Result<Self, Error> {
        let mut thresholds = || match levels {
            Levels::One => Ok(vec![0.0; coded]),
            _ => model.f32s(coded),
        };
        let (lower, upper) = (thresholds()?, thresholds()?);
        let (means, rest) = (model.f32s(coded * count(levels))?, model.f32s(dim - coded)?);
        Ok(States { levels, lower, upper, means, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use vq_kernels::Draw;

    /// More rows than are in the frame at a time.
    #[test]
    fn states_are_those_of_all_rows() {
        let (n, dim, coded) = (2 * ROWS + 7, 5, 4);
        let mut draw = Draw::new(4);
        let x = Array2::from_shape_simple_fn((n, dim), || (0.3 + draw.normal()) as f32);
        for levels in [Levels::One, Levels::Two] {
            let found = States::learned(&Frame::none(dim), x.view(), coded, levels);
            for (i, column) in x.axis_iter(Axis(1)).enumerate() {
                let column: Vec<f64> = column.iter().map(|x| f64::from(*x)).collect();
                let of = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
                let mean = of(&column);
                if i >= coded {
                    assert_eq!(found.rest, [mean as f32]);
                    continue;
                }
                let squares: Vec<f64> = column.iter().map(|x| (x - mean).powi(2)).collect();
                let apart = APART * of(&squares).sqrt();
                let (lower, upper) = match levels {
                    Levels::One => (0.0, f32::INFINITY),
                    _ => ((mean - apart) as f32, (mean + apart) as f32),
                };
                for state in 0..count(levels) {
                    let within = |x: &f64| {
                        let bits = (*x >= f64::from(lower), *x >= f64::from(upper));
                        usize::from(bits.0) + 2 * usize::from(bits.1) == state
                    };
                    let values: Vec<f64> = column.iter().copied().filter(within).collect();
                    let expected = if values.is_empty() { mean } else { of(&values) } as f32;
                    assert_eq!(found.means[i * count(levels) + state], expected, "{i} {state}");
                }
            }
        }
    }
}
