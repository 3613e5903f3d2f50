//! The rows of [`Int16Panels`] once more, in integers of 8 bits, to leave most of them out by half the work.
//!
//! Here x and b are what was rounded to 16 bits, and exact. With a whole step q they are rounded once
//! more: b = q·b̂ + β, x = q·x̂ + ξ. The integer score I(b) = x·b + bias(b) of 16 bits is
//!
//! I(b) = q²·J(b) + q·ξ·x̂ + [ξ·(q·b̂ − q·x̂) − (b − x)·β],    J(b) = x̂·b̂ + (b·β + bias(b))/q²,
//!
//! as in [`int16`](super). J is rounded to an integer, by at most 1/2, and the bracket is at most
//! r·(‖ξ‖ + ‖β‖) + ‖ξ‖·(‖ξ‖ + ‖β‖) with r = ‖x − b‖. For squared distances bias(b) is (‖β₁₆‖² − ‖b‖²)/2 up to a
//! known error, β₁₆ being what the rounding to 16 bits took; so rows with a score above F have
//! r² ≤ ‖x‖² − 2·F + ‖β₁₆‖² and twice that error. For inner products, r ≤ ‖x‖ + ‖b‖. A row is left out where J(b)
//! is below what all this leaves of F; the others have their 16-bit scores computed.

use super::Int16Panels;
use crate::Path;

/// The largest of an integer of 8 bits with its sign.
pub(super) const BYTE: i32 = 127;

/// Zeros behind the rows, so that a line of sixteen fours may be read at any of their dimensions.
const BEHIND: usize = 15;

/// ‖ξ‖ beyond which the score of 8 bits says nothing: the sums below would leave their 32 bits.
const MOST_ERROR: f64 = 30_000.0;

/// Rows (rows, d) in 8 bits. Memory: d + 4 bytes each.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    /// Per row its bias, then its dimensions in fours, the first in the lowest byte. The bias makes up for
    /// the 128 that is added to each dimension of a vector. [`BEHIND`] zeros behind all.
    pub(super) rows: Vec<i32>,
    /// q.
    pub(super) step: i32,
    /// max ‖β‖.
    error: f64,
    /// max ‖b‖.
    largest: f64,
}

/// Of a vector, in units of the 16-bit step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// ‖x‖², at least.
    pub(super) norm_sq: f64,
    /// ‖ξ‖², at least.
    pub(super) error_sq: f64,
    /// ξ·x̂, if ‖ξ‖ is not too large.
    pub(super) cross: i32,
}

/// A row in 8 bits, and of what that took away.
struct Rounded {
    /// Σ b̂.
    sum: i32,
    /// b·β.
    cross: i32,
    /// ‖β‖².
    error_sq: i32,
    /// ‖b‖².
    norm_sq: i32,
}

/// Rounds the pairs of a row to `bytes`, four behind each other, the last two zero behind an odd number of pairs.
///
/// Sums may wrap on their way: ‖b‖² is below 2³¹, and so is what Cauchy and Schwarz leave of b·β.
#[inline(always)]
fn round(pairs: &[i32], step: i32, bytes: &mut [i32]) -> Rounded {
    let inverse = 1.0 / step as f32;
    let mut lanes = [[0_i32; 16]; 4];
    let mut sixteen = |pairs: &[i32; 16]| -> [i32; 16] {
        std::array::from_fn(|i| {
            let mut both = 0;
            for half in 0..2 {
                let word = pairs[i] << (16 * (1 - half)) >> 16;
                // Any rounding will do: what it took away is known exactly.
                let nearest = (word as f32 * inverse).round_ties_even() as i32;
                let rounded = nearest.clamp(-BYTE, BYTE);
                let beta = word - step * rounded;
                for (lane, term) in
                    lanes.iter_mut().zip([rounded, word * beta, beta * beta, word * word])
                {
                    lane[i] = lane[i].wrapping_add(term);
                }
                both |= (rounded & 0xFF) << (8 * half);
            }
            both
        })
    };
    let (chunks, rest) = pairs.as_chunks::<16>();
    let mut put = |at: usize, sixteen: [i32; 16]| {
        for (to, two) in bytes[8 * at..].iter_mut().zip(sixteen.as_chunks::<2>().0) {
            *to = two[0] | two[1] << 16;
        }
    };
    for (at, pairs) in chunks.iter().enumerate() {
        put(at, sixteen(pairs));
    }
    if !rest.is_empty() {
        let mut padded = [0; 16];
        padded[..rest.len()].copy_from_slice(rest);
        put(chunks.len(), sixteen(&padded));
    }
    let [sum, cross, error_sq, norm_sq] =
        lanes.map(|lane| lane.iter().fold(0_i32, |sum, of| sum.wrapping_add(*of)));
    Rounded { sum, cross, error_sq, norm_sq }
}

/// The largest |dimension| of rows that each begin with a number that is none.
#[inline(always)]
fn largest(rows: &[i32], width: usize) -> i32 {
    let mut most = [0_i32; 16];
    let mut look = |pairs: &[i32]| {
        for (most, pair) in most.iter_mut().zip(pairs) {
            *most = (*most).max((pair << 16 >> 16).abs()).max((pair >> 16).abs());
        }
    };
    for row in rows.chunks_exact(width) {
        let (chunks, rest) = row[1..].as_chunks::<16>();
        chunks.iter().for_each(|pairs| look(pairs));
        look(rest);
    }
    most.into_iter().max().unwrap_or(0)
}

impl Bytes {
    /// `None` where all rows are zero.
    pub(super) fn new(int16: &Int16Panels) -> Option<Self> {
        let width = 1 + int16.dim.div_ceil(2);
        let path = Path::fastest();
        let most = path.run(
            #[inline(always)]
            || largest(&int16.rows, width),
        );
        let step = (most + BYTE - 1) / BYTE;
        if step == 0 {
            return None;
        }
        let square = i64::from(step * step);
        let quads = int16.dim.div_ceil(4);
        let mut packed = vec![0; int16.rows.len() / width * (1 + quads) + BEHIND];
        let (mut error_sq, mut norm_sq) = (0, 0);
        path.run(
            #[inline(always)]
            || {
                let rows = int16.rows.chunks_exact(width).zip(packed.chunks_exact_mut(1 + quads));
                for (row, packed) in rows {
                    let of = round(&row[1..], step, &mut packed[1..]);
                    error_sq = error_sq.max(of.error_sq);
                    norm_sq = norm_sq.max(of.norm_sq);
                    let of_row = i64::from(of.cross) + i64::from(row[0]);
                    // |b·β + bias|/q² is at most some 127²·d, and so is the sum: far from 32 bits.
                    packed[0] = (2 * of_row + square).div_euclid(2 * square) as i32 - 128 * of.sum;
                }
            },
        );
        let root = |of: i32| 1.000_001 * f64::from(of).sqrt();
        Some(Self { rows: packed, step, error: root(error_sq), largest: root(norm_sq) })
    }

    /// The score of 8 bits that a row has at least whose score of 16 bits is above `floor`, for a vector
    /// of these sizes.
    pub(super) fn least(&self, int16: &Int16Panels, of: Sizes, floor: i32) -> i32 {
        let xi = 1.000_001 * of.error_sq.sqrt();
        if floor == i32::MIN || xi > MOST_ERROR {
            return i32::MIN;
        }
        let floor = f64::from(floor);
        let norm = 1.000_001 * of.norm_sq.sqrt();
        let apart = norm + self.largest;
        let distance = if int16.l2 {
            let rounded = f64::from(int16.error).powi(2) + 2.0 * f64::from(int16.bias_error());
            (of.norm_sq - 2.0 * floor + rounded).max(0.0).sqrt().min(apart)
        } else {
            apart
        };
        let both = xi + self.error;
        let step = f64::from(self.step);
        let least = floor - step * f64::from(of.cross) - (distance + xi) * both;
        // What f64 rounds is far below the last half.
        (least / (step * step) - 1.0).floor().max(f64::from(i32::MIN)) as i32
    }
}
