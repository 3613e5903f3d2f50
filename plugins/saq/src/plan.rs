//! Which coordinates take how many bits: a dynamic program over segments of falling variance (section 4.2,
//! algorithm 2).

use vq_kernels::pack::packed_bytes;

/// Neighbouring coordinates of one width, turned and scaled together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many coordinates.
    pub len: usize,
    /// Bits of each, 1 to 13.
    pub bits: u32,
}

impl Part {
    /// Bytes of its coordinates in a code; its scalar comes beside.
    #[must_use]
    pub fn bytes(self) -> usize {
        packed_bytes(self.len, self.bits)
    }
}

/// Most bits of a coordinate, as the authors' program has them.
pub const MOST_BITS: u32 = 13;

/// Most segments: more are hardly ever worth their scalars, and each takes a pass of a scan.
const SEGMENTS: usize = 6;

/// Ends that a segment may have, about.
const ENDS: usize = 128;

/// One segment more has to lower the error by this, as in the authors' program; 1.001 in the paper (section 4.2).
const WORTH: f64 = 1.01;

/// The part of its variance that the best uniform quantizer of N(0,1) leaves of a coordinate (Max 1960, the
/// levels of [`uniform`](vq_blocks::rotated::levels::uniform)), 0 bits first.
const DISTORTION: [f64; MOST_BITS as usize + 1] = [
    1.0,
    0.363_380,
    0.118_846,
    0.037_439_7,
    0.011_542_9,
    0.003_495_21,
    1.040_05e-3,
    3.043_33e-4,
    8.768_62e-5,
    2.491_90e-5,
    6.997_01e-6,
    1.944_41e-6,
    5.355_37e-7,
    1.463_69e-7,
];

/// What is left of a segment's variance by `bits` bits.
#[must_use]
pub fn left_by_error(bits: u32) -> f64 {
    DISTORTION[bits as usize]
}

/// What is left of a segment's variance by `bits` bits, as the paper weighs it (eq. 17, but for 1/π): in
/// proportion to the absolute error.
#[must_use]
pub fn left_by_paper(bits: u32) -> f64 {
    0.5_f64.powi(bits as i32)
}

/// The segments, in the order of the coordinates, of least error within `bytes` bytes, each with `beside` bytes
/// of scalars: Σ `left`(bits)·Σσ² over the segments, and Σσ² of the coordinates behind them. Of equal error, the
/// fewest. `variances` (d) are those of the coordinates, falling. None where not a bit fits.
/// O(128²·bytes), for d ≤ 128 O(d²·bytes).
#[must_use]
pub fn plan(
    variances: &[f64],
    bytes: usize,
    beside: usize,
    left: impl Fn(u32) -> f64,
) -> Option<Vec<Part>> {
    let dim = variances.len();
    // Whole bytes, whatever the bits, unless there are few coordinates.
    let unit = if dim <= ENDS { 1 } else { 8 * dim.div_ceil(8 * ENDS) };
    let mut ends: Vec<usize> = (0..dim).step_by(unit).collect();
    ends.push(dim);
    let mut sums = vec![0.0; ends.len()];
    for i in 1..ends.len() {
        sums[i] = sums[i - 1] + variances[ends[i - 1]..ends[i]].iter().sum::<f64>();
    }
    let behind = |end: usize| sums[ends.len() - 1] - sums[end];
    // What a segment from one end to another costs and leaves.
    let part = |from: usize, to: usize, bits: u32| {
        let part = Part { len: ends[to] - ends[from], bits };
        (part, part.bytes() + beside, left(bits) * (sums[to] - sums[from]))
    };
    // least[s][end][bytes]: the least error of s segments up to `end` in at most so many bytes.
    let none = vec![vec![f64::INFINITY; bytes + 1]; ends.len()];
    let mut least = vec![none.clone()];
    least[0][0].fill(0.0);
    let mut best: Option<(f64, usize, usize)> = None;
    for s in 1..=SEGMENTS {
        let mut now = none.clone();
        for (to, now) in now.iter_mut().enumerate().skip(1) {
            for (from, before) in least[s - 1][..to].iter().enumerate() {
                for bits in 1..=MOST_BITS {
                    let (_, cost, error) = part(from, to, bits);
                    if cost > bytes {
                        break;
                    }
                    for (now, before) in now[cost..].iter_mut().zip(before) {
                        *now = now.min(before + error);
                    }
                }
            }
        }
        let of_s = (1..ends.len()).map(|end| (now[end][bytes] + behind(end), s, end));
        let of_s = of_s.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|found| found.0.is_finite());
        if let Some(found) = of_s
            && best.is_none_or(|best| found.0 * WORTH < best.0)
        {
            best = Some(found);
        }
        least.push(now);
    }
    let (_, s, mut to) = best?;
    let mut parts = Vec::with_capacity(s);
    let mut bytes = bytes;
    for s in (0..s).rev() {
        // The same sums again, of which one was the least.
        let wanted = least[s + 1][to][bytes];
        let starts = (0..to).flat_map(|from| (1..=MOST_BITS).map(move |bits| (from, bits)));
        let (from, found, cost) = starts
            .map(|(from, bits)| (from, part(from, to, bits)))
            .find(|(from, (_, cost, error))| {
                *cost <= bytes && least[s][*from][bytes - cost] + error == wanted
            })
            .map(|(from, (part, cost, _))| (from, part, cost))?;
        parts.push(found);
        (to, bytes) = (from, bytes - cost);
    }
    parts.reverse();
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn falling(dim: usize, by: f64) -> Vec<f64> {
        (0..dim).map(|t| by.powi(t as i32)).collect()
    }

    fn used(parts: &[Part], beside: usize) -> usize {
        parts.iter().map(|part| part.bytes() + beside).sum()
    }

    #[test]
    fn equal_variances_make_one_segment_and_nothing_makes_none() {
        let found = plan(&[1.0; 128], 68, 4, left_by_error).unwrap();
        assert_eq!(found, [Part { len: 128, bits: 4 }]);
        assert_eq!(plan(&[1.0; 128], 4, 4, left_by_error), None);
        assert_eq!(plan(&[0.0; 3], 6, 4, left_by_error).unwrap().len(), 1);
        assert_eq!(plan(&[2.0], 3, 2, left_by_error).unwrap(), [Part { len: 1, bits: 8 }]);
    }

    #[test]
    fn falling_variances_take_falling_bits_within_the_budget() {
        for (dim, by) in [(100, 0.96), (384, 0.985), (13, 0.5), (1100, 0.995)] {
            for rate in [1, 2, 4, 8] {
                let bytes = rate * dim / 8;
                let Some(found) = plan(&falling(dim, by), bytes, 2, left_by_error) else {
                    assert!(bytes < 3, "{dim} {rate}");
                    continue;
                };
                assert!(
                    used(&found, 2) <= bytes && found.iter().map(|p| p.len).sum::<usize>() <= dim
                );
                assert!(found.is_sorted_by(|a, b| a.bits > b.bits), "{found:?}");
                // A byte that could widen or lengthen the last segment does.
                assert!(used(&found, 2) * 100 >= bytes * 85, "{dim} {rate}: {found:?} of {bytes}");
            }
        }
    }

    /// All ways to cut five coordinates, and all widths.
    #[test]
    fn no_other_plan_errs_less_by_a_percent_for_each_segment() {
        fn all(len: usize, bytes: usize, so_far: &mut Vec<Part>, see: &mut dyn FnMut(&[Part])) {
            see(so_far);
            for part in
                (1..=len).flat_map(|l| (1..=MOST_BITS).map(move |bits| Part { len: l, bits }))
            {
                if part.bytes() < bytes {
                    so_far.push(part);
                    all(len - part.len, bytes - part.bytes() - 1, so_far, see);
                    so_far.pop();
                }
            }
        }
        for left in [left_by_error, left_by_paper] {
            for (variances, bytes) in
                [([9.0, 5.0, 1.0, 0.5, 0.1], 7), ([1.0, 0.1, 0.01, 1e-3, 0.0], 5)]
            {
                let error = |parts: &[Part]| {
                    let mut at = 0;
                    let mut sum = 0.0;
                    for part in parts {
                        let of = variances[at..at + part.len].iter().sum::<f64>();
                        sum += left(part.bits) * of;
                        at += part.len;
                    }
                    sum + variances[at..].iter().sum::<f64>()
                };
                let found = error(&plan(&variances, bytes, 1, left).unwrap());
                let mut least = f64::INFINITY;
                all(5, bytes, &mut Vec::new(), &mut |parts| least = least.min(error(parts)));
                assert!(least <= found && found <= least * WORTH.powi(5), "{found} {least}");
            }
        }
    }
}
