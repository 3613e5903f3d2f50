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

/// The largest of an integer of 8 bits with its sign.
pub(super) const BYTE: i32 = 127;

/// ‖ξ‖ beyond which the score of 8 bits says nothing: the sums below would leave their 32 bits.
const MOST_ERROR: f64 = 30_000.0;

/// Rows (rows, d) in 8 bits. Memory: d + 4 bytes each.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    /// Per row its bias, then its dimensions in fours, the first in the lowest byte. The bias makes up for
    /// the 128 that is added to each dimension of a vector.
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

/// The dimensions of a packed row, with a zero behind an odd number of them.
fn words(row: &[i32]) -> impl Iterator<Item = i16> {
    row[1..].iter().flat_map(|pair| [*pair as i16, (pair >> 16) as i16])
}

impl Bytes {
    /// `None` where all rows are zero.
    pub(super) fn new(int16: &Int16Panels) -> Option<Self> {
        let width = 1 + int16.dim.div_ceil(2);
        let rows = || int16.rows.chunks_exact(width);
        let most = rows().flat_map(words).map(|word| i32::from(word).abs()).max()?;
        let step = (most + BYTE - 1) / BYTE;
        if step == 0 {
            return None;
        }
        let square = i64::from(step * step);
        let quads = int16.dim.div_ceil(4);
        let mut packed = Vec::with_capacity(int16.rows.len() / width * (1 + quads));
        let (mut error_sq, mut norm_sq) = (0_i64, 0_i64);
        let mut bytes = vec![0_i8; 4 * quads];
        for row in rows() {
            let (mut sum, mut cross, mut row_error_sq, mut row_norm_sq) = (0, 0_i64, 0_i64, 0_i64);
            for (byte, word) in bytes.iter_mut().zip(words(row)) {
                let word = i32::from(word);
                // Towards the nearest, halves upwards.
                let rounded = (2 * word + step).div_euclid(2 * step).clamp(-BYTE, BYTE);
                let beta = word - step * rounded;
                *byte = rounded as i8;
                sum += rounded;
                cross += i64::from(word * beta);
                row_error_sq += i64::from(beta * beta);
                row_norm_sq += i64::from(word * word);
            }
            error_sq = error_sq.max(row_error_sq);
            norm_sq = norm_sq.max(row_norm_sq);
            let of_row = cross + i64::from(row[0]);
            // |b·β + bias|/q² is at most some 127²·d, and so is the sum: far from 32 bits.
            let bias = (2 * of_row + square).div_euclid(2 * square) as i32 - 128 * sum;
            packed.push(bias);
            packed.extend(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|four| i32::from_le_bytes(four.map(|b| b as u8))),
            );
        }
        let root = |of: i64| 1.000_001 * (of as f64).sqrt();
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
