//! The nearest level of a value, and the value of a level.

use vq_kernels::{Aligned, Path};

/// Adding 2^23 to a number in 0..2^23 rounds it to nearest even and leaves it in the low bits.
const ROUND: f32 = 8_388_608.0;

/// What training learns.
pub(super) enum Codebook {
    Uniform(Uniform),
    Levels(Levels),
}

/// Levels `base + c·step`, c in 0..=top, one line per dimension.
pub(super) struct Uniform {
    pub(super) base: Aligned,
    pub(super) step: Aligned,
    /// 1 / step; 0 for a dimension with one level.
    inv: Aligned,
    top: f32,
}

/// Free levels in ascending order.
///
/// The range from the lowest to the highest end of a cell is cut into equal slots; what lies in
/// one slot has few ends left to compare with.
pub(super) struct Levels {
    /// (sets, count) with one set per dimension or one for all.
    pub(super) levels: Vec<f32>,
    /// (sets, count): the upper ends of the cells; the last is infinite.
    ends: Vec<f32>,
    /// (sets): the lowest end, and slots per unit.
    slots: Vec<(f32, f32)>,
    /// (sets, count · SLOTS + 1): the ends before each slot.
    before: Vec<u16>,
    count: usize,
    /// Sets from one dimension to the next: 1, or 0 where all share one.
    stride: usize,
}

/// Slots per level.
const SLOTS: usize = 8;

/// The largest normal step whose inverse is not finite is far below any difference that matters.
fn inverse(step: f32) -> f32 {
    let inv = 1.0 / step;
    if inv.is_finite() { inv } else { 0.0 }
}

impl Uniform {
    /// Lines of one set, which all `dim` dimensions use, or of `dim` sets; `None` for a negative step or
    /// for levels that are not finite.
    pub(super) fn new(
        mut base: Vec<f32>,
        mut step: Vec<f32>,
        dim: usize,
        levels: usize,
    ) -> Option<Self> {
        let top = (levels - 1) as f32;
        let fine = |(base, step): (&f32, &f32)| *step >= 0.0 && (base + top * step).is_finite();
        if !base.iter().zip(&step).all(fine) {
            return None;
        }
        if base.len() == 1 {
            base = vec![base[0]; dim];
            step = vec![step[0]; dim];
        }
        let inv: Vec<f32> = step.iter().copied().map(inverse).collect();
        let [base, step, inv] = [base, step, inv].map(|line| Aligned::from(&line[..]));
        Some(Uniform { base, step, inv, top })
    }
}

impl Levels {
    /// `levels` (sets, count) with one set or `dim` sets; `None` where they do not ascend.
    pub(super) fn new(levels: Vec<f32>, count: usize) -> Option<Self> {
        if !levels.chunks_exact(count).all(<[f32]>::is_sorted) {
            return None;
        }
        let middle = |pair: &[f32]| ((f64::from(pair[0]) + f64::from(pair[1])) / 2.0) as f32;
        let ends: Vec<f32> = levels
            .chunks_exact(count)
            .flat_map(|set| set.windows(2).map(middle).chain([f32::INFINITY]))
            .collect();
        let stride = usize::from(levels.len() > count);
        let (mut slots, mut before) = (Vec::new(), Vec::new());
        for set in ends.chunks_exact(count) {
            let inner = &set[..count - 1];
            let (low, high) = (inner[0], inner[count - 2]);
            let scale = inverse((high - low) / (count * SLOTS) as f32);
            slots.push((low, scale));
            // By the very rule that places values, so that rounding cannot matter.
            let places: Vec<usize> =
                inner.iter().map(|end| slot(*end, low, scale, count)).collect();
            let ends_before = |slot| places.partition_point(|place| *place < slot) as u16;
            before.extend((0..=count * SLOTS).map(ends_before));
        }
        Some(Levels { levels, ends, slots, before, count, stride })
    }

    /// Writes the levels `indices` (d) into `x` (d).
    pub(super) fn decode(&self, indices: &[u16], x: &mut [f32]) {
        let mut set = 0;
        for (x, index) in x.iter_mut().zip(indices) {
            *x = self.levels[set + usize::from(*index)];
            set += self.stride * self.count;
        }
    }

    /// The number of ends below `x` in `set`.
    #[inline(always)]
    fn nearest(&self, set: usize, x: f32) -> u32 {
        let (low, scale) = self.slots[set];
        let at = set * (self.count * SLOTS + 1) + slot(x, low, scale, self.count);
        let (from, to) = (self.before[at], self.before[at + 1]);
        let ends = set * self.count;
        let ends = &self.ends[ends + usize::from(from)..ends + usize::from(to)];
        u32::from(from) + ends.partition_point(|end| *end < x) as u32
    }
}

/// The slot of `x`, never less for a larger `x`.
#[inline(always)]
fn slot(x: f32, low: f32, scale: f32, count: usize) -> usize {
    let at = (x - low) * scale;
    let at = if at > 0.0 { at } else { 0.0 };
    let last = (count * SLOTS - 1) as f32;
    (if at < last { at } else { last }) as usize
}

impl Codebook {
    pub(super) fn untrained() -> Self {
        let empty = Aligned::default;
        Codebook::Uniform(Uniform { base: empty(), step: empty(), inv: empty(), top: 0.0 })
    }

    /// Writes the index of the level nearest to each value of `x` (d), narrowed to `out` (d).
    #[inline(always)]
    pub(super) fn encode_on<T>(
        &self,
        path: Path,
        x: &[f32],
        out: &mut [T],
        narrow: impl Fn(u32) -> T,
    ) {
        path.run(
            #[inline(always)]
            || self.encode(x, out, narrow),
        );
    }

    #[inline(always)]
    fn encode<T>(&self, x: &[f32], out: &mut [T], narrow: impl Fn(u32) -> T) {
        match self {
            Codebook::Uniform(line) => {
                let lines = line.base.iter().zip(&*line.inv);
                for ((out, x), (base, inv)) in out.iter_mut().zip(x).zip(lines) {
                    let at = (x - base) * inv;
                    // NaN fails both comparisons, so it becomes 0.
                    let at = if at > 0.0 { at } else { 0.0 };
                    let at = if at < line.top { at } else { line.top };
                    *out = narrow((at + ROUND).to_bits() & 0xFFFF);
                }
            }
            Codebook::Levels(levels) => {
                let mut set = 0;
                for (out, x) in out.iter_mut().zip(x) {
                    *out = narrow(levels.nearest(set, *x));
                    set += levels.stride;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_gives_the_codes_of_the_plain_loops(
            // Any bits at all, and halves of steps, where the even level wins.
            x in prop::collection::vec(
                prop_oneof![any::<u32>().prop_map(f32::from_bits), (-20_i8..90).prop_map(|i| f32::from(i) / 4.0)],
                0..150,
            ),
            bits in 2_u32..=16,
        ) {
            let dim = x.len();
            let steps = (0..dim).map(|j| [0.5, 0.0, 1e-39, 3.1][j % 4]).collect();
            let even = Uniform::new(vec![-2.0; dim], steps, dim, 1 << bits);
            let free = Levels::new(vec![-2.0, -0.5, 0.5, 3.0], 4);
            for codebook in [Codebook::Uniform(even.unwrap()), Codebook::Levels(free.unwrap())] {
                let (mut wide, mut narrow) = (vec![0; dim], vec![0; dim]);
                codebook.encode(&x, &mut wide, |index| index as u16);
                codebook.encode(&x, &mut narrow, |index| index as u8);
                for path in Path::available() {
                    let (mut a, mut b) = (vec![9; dim], vec![9; dim]);
                    codebook.encode_on(path, &x, &mut a, |index| index as u16);
                    codebook.encode_on(path, &x, &mut b, |index| index as u8);
                    prop_assert_eq!((&a, &b), (&wide, &narrow), "{:?}", path);
                }
            }
        }
    }

    fn indices(codebook: &Codebook, x: &[f32]) -> Vec<u16> {
        let mut out = vec![0; x.len()];
        codebook.encode(x, &mut out, |index| index as u16);
        out
    }

    /// The value of a level of the first dimension.
    fn value(codebook: &Codebook, index: u16) -> f32 {
        let mut value = [0.0];
        match codebook {
            Codebook::Uniform(line) => return line.base[0] + line.step[0] * f32::from(index),
            Codebook::Levels(levels) => levels.decode(&[index], &mut value),
        }
        value[0]
    }

    #[test]
    fn every_value_goes_to_its_nearest_level() {
        let set = vec![-2.0, -0.5, 0.5, 3.0];
        let free = Codebook::Levels(Levels::new(set, 4).unwrap());
        let even = Codebook::Uniform(Uniform::new(vec![-2.0], vec![0.5], 1, 16).unwrap());
        for i in -500..=900 {
            let x = i as f32 / 100.0 + 0.001;
            for codebook in [&free, &even] {
                let at = value(codebook, indices(codebook, &[x])[0]);
                let count = if let Codebook::Levels(_) = codebook { 4 } else { 16 };
                let nearest = (0..count).map(|level| (x - value(codebook, level)).abs());
                assert_eq!((x - at).abs(), nearest.fold(f32::MAX, f32::min), "{x}");
            }
        }
    }

    #[test]
    fn a_dimension_with_one_level_takes_anything() {
        let line = Codebook::Uniform(Uniform::new(vec![7.0], vec![0.0], 1, 256).unwrap());
        for x in [7.0, 1e30, -1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(value(&line, indices(&line, &[x])[0]), 7.0);
        }
    }
}
