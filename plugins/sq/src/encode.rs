//! The nearest level of a value, and the value of a level.

/// Adding 2^23 to a number in 0..2^23 rounds it to nearest even and leaves it in the low bits.
const ROUND: f32 = 8_388_608.0;

/// What training learns.
pub(crate) enum Codebook {
    Uniform(Uniform),
    Levels(Levels),
}

/// Levels `base + c·step`, c in 0..=top, one line per dimension.
pub(crate) struct Uniform {
    pub(crate) base: Vec<f32>,
    pub(crate) step: Vec<f32>,
    /// 1 / step; 0 for a dimension with one level.
    inv: Vec<f32>,
    top: f32,
}

/// Free levels in ascending order.
pub(crate) struct Levels {
    /// (sets, count) with one set per dimension or one for all.
    pub(crate) levels: Vec<f32>,
    /// (sets, count): the upper ends of the cells; the last is infinite and never reached.
    ends: Vec<f32>,
    count: usize,
    /// Distance between the sets of consecutive dimensions: `count`, or 0 for one set.
    stride: usize,
}

/// The largest normal step whose inverse is not finite is far below any difference that matters.
fn inverse(step: f32) -> f32 {
    let inv = 1.0 / step;
    if inv.is_finite() { inv } else { 0.0 }
}

impl Uniform {
    /// Lines of one set, which all `dim` dimensions use, or of `dim` sets; `None` for a negative step or
    /// for levels that are not finite.
    pub(crate) fn new(
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
        let inv = step.iter().copied().map(inverse).collect();
        Some(Uniform { base, step, inv, top })
    }
}

impl Levels {
    /// `levels` (sets, count) with one set or `dim` sets; `None` where they do not ascend.
    pub(crate) fn new(levels: Vec<f32>, count: usize) -> Option<Self> {
        if !levels.chunks_exact(count).all(<[f32]>::is_sorted) {
            return None;
        }
        let stride = if levels.len() == count { 0 } else { count };
        let middle = |pair: &[f32]| ((f64::from(pair[0]) + f64::from(pair[1])) / 2.0) as f32;
        let ends = levels
            .chunks_exact(count)
            .flat_map(|set| set.windows(2).map(middle).chain([f32::INFINITY]))
            .collect();
        Some(Levels { levels, ends, count, stride })
    }
}

impl Codebook {
    pub(crate) fn untrained() -> Self {
        let empty = Vec::new;
        Codebook::Uniform(Uniform { base: empty(), step: empty(), inv: empty(), top: 0.0 })
    }

    /// Writes the index of the level nearest to each value of `x` (d), narrowed to `out` (d).
    #[inline(always)]
    pub(crate) fn encode<T>(&self, x: &[f32], out: &mut [T], narrow: impl Fn(u32) -> T) {
        match self {
            Codebook::Uniform(line) => {
                let lines = line.base.iter().zip(&line.inv);
                for ((out, x), (base, inv)) in out.iter_mut().zip(x).zip(lines) {
                    let at = (x - base) * inv;
                    // These comparisons make 0 of no number.
                    let at = if at > 0.0 { at } else { 0.0 };
                    let at = if at < line.top { at } else { line.top };
                    *out = narrow((at + ROUND).to_bits() & 0xFFFF);
                }
            }
            Codebook::Levels(levels) => {
                let mut ends = 0;
                for (out, x) in out.iter_mut().zip(x) {
                    let set = &levels.ends[ends..ends + levels.count];
                    *out = narrow(cell(set, *x));
                    ends += levels.stride;
                }
            }
        }
    }

    /// Writes the values of the levels `indices` (d) into `x` (d).
    #[inline(always)]
    pub(crate) fn decode<T: Copy + Into<u32>>(&self, indices: &[T], x: &mut [f32]) {
        match self {
            Codebook::Uniform(line) => {
                let lines = line.base.iter().zip(&line.step);
                for ((x, index), (base, step)) in x.iter_mut().zip(indices).zip(lines) {
                    // At most 16 bits: the conversion of a signed number is the cheap one.
                    *x = base + ((*index).into() as i32 as f32) * step;
                }
            }
            Codebook::Levels(levels) => {
                let mut set = 0;
                for (x, index) in x.iter_mut().zip(indices) {
                    *x = levels.levels[set + (*index).into() as usize];
                    set += levels.stride;
                }
            }
        }
    }
}

/// The number of ends below `x`: a binary search without branches. The count is a power of two
/// and the last end is never passed.
#[inline(always)]
fn cell(ends: &[f32], x: f32) -> u32 {
    let (mut below, mut half) = (0, ends.len() / 2);
    while half > 0 {
        below += if x > ends[below + half - 1] { half } else { 0 };
        half /= 2;
    }
    below as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(codebook: &Codebook, x: &[f32]) -> Vec<u32> {
        let mut out = vec![0; x.len()];
        codebook.encode(x, &mut out, |index| index);
        out
    }

    #[test]
    fn every_value_goes_to_its_nearest_level() {
        let set = vec![-2.0, -0.5, 0.5, 3.0];
        let free = Codebook::Levels(Levels::new(set, 4).unwrap());
        let even = Codebook::Uniform(Uniform::new(vec![-2.0], vec![0.5], 1, 16).unwrap());
        for i in -500..=900 {
            let x = i as f32 / 100.0 + 0.001;
            for codebook in [&free, &even] {
                let mut at = [0.0];
                codebook.decode(&indices(codebook, &[x]), &mut at);
                let count = if let Codebook::Levels(_) = codebook { 4 } else { 16 };
                let nearest = (0..count).map(|c: u32| {
                    let mut level = [0.0];
                    codebook.decode(&[c], &mut level);
                    (x - level[0]).abs()
                });
                assert_eq!((x - at[0]).abs(), nearest.fold(f32::MAX, f32::min), "{x}");
            }
        }
    }

    #[test]
    fn a_dimension_with_one_level_takes_anything() {
        let line = Codebook::Uniform(Uniform::new(vec![7.0], vec![0.0], 1, 256).unwrap());
        for x in [7.0, 1e30, -1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut back = [0.0];
            line.decode(&indices(&line, &[x]), &mut back);
            assert_eq!(back, [7.0]);
        }
    }
}
