//! The codes of a segment: code adjustment (CAQ, algorithm 1).
//!
//! The grid of B bits has the points y with coordinates ±½, 3/2, … up to ±(2^(B−1) − ½). A row z begins in the cell
//! that it lies in when it is stretched to the grid; then its coordinates take turns to move on by 1 wherever
//! that brings y nearer to the direction of z (eq. 12): ⟨z, y⟩²/‖y‖² grows. A move towards the row's own place is
//! the only one that can: N = ⟨z, y⟩ and S = ‖y‖² become N ± zᵢ and S ± 2yᵢ + 1.
//!
//! A move depends on those before it, so that a row by itself runs at the pace of one operation after
//! another: 32 rows go side by side, one in each lane.

use vq_blocks::rotated::levels::uniform_step;
use vq_kernels::Path;

/// Rows that are coded side by side.
pub const LANES: usize = 32;

/// One coordinate of [`LANES`] rows.
pub type Lanes = [f32; LANES];

/// Most bits that a clipped range is tried for: with more it hardly ever is the better one.
const CLIPPED_BITS: u32 = 6;

/// Codes of `LANES` rows.
pub struct Adjust {
    bits: u32,
    rounds: usize,
    /// Starts from the clipped range, too.
    both: bool,
    /// The rows, the largest coordinate of each being 1: their products are within f32.
    unit: Vec<Lanes>,
    y: Vec<Lanes>,
    other: Vec<Lanes>,
}

/// ⟨z, y⟩ and ‖y‖² of each row, and ‖z‖².
#[derive(Clone, Copy)]
pub struct Sums {
    /// ⟨z, y⟩, in units of z.
    pub inner: [f64; LANES],
    /// ‖y‖².
    pub length_sq: [f64; LANES],
    /// ‖z‖².
    pub norm_sq: [f64; LANES],
}

impl Adjust {
    /// For `len` coordinates of `bits` bits, at most `rounds` turns of each; with `both` the better of two
    /// starts: the largest coordinate at the end of the grid (algorithm 1), and, for 2 to 6 bits, coordinates
    /// beyond the range of the best uniform quantizer cut off.
    #[must_use]
    pub fn new(len: usize, bits: u32, rounds: usize, both: bool) -> Self {
        let zeros = vec![[0.0; LANES]; len];
        let both = both && (2..=CLIPPED_BITS).contains(&bits);
        Adjust { bits, rounds, both, unit: zeros.clone(), y: zeros.clone(), other: zeros }
    }

    /// The points of the rows `z` (len), and their sums. Of two cells a coordinate on their boundary begins in
    /// the upper: 0 is coded as +½ where nothing is gained by −½.
    pub fn code(&mut self, z: &[Lanes]) -> (&[Lanes], Sums) {
        let Adjust { bits, rounds, both, ref mut unit, ref mut y, ref mut other } = *self;
        let top = (1_u32 << (bits - 1)) as f32 - 0.5;
        let sums = Path::fastest().run(
            #[inline(always)]
            || {
                let (norm_sq, largest) = sizes(z);
                for (unit, z) in unit.iter_mut().zip(z) {
                    for l in 0..LANES {
                        unit[l] = if largest[l] > 0.0 { z[l] / largest[l] } else { 0.0 };
                    }
                }
                improve(unit, y, [top + 0.5; LANES], top, rounds);
                let mut found = products(z, y);
                if both {
                    let root = (z.len() as f64).sqrt() / uniform_step(bits);
                    let mut stretch = [0.0; LANES];
                    for l in 0..LANES {
                        let size = norm_sq[l].sqrt() / f64::from(largest[l]);
                        stretch[l] = if size > 0.0 { (root / size) as f32 } else { 0.0 };
                    }
                    improve(unit, other, stretch, top, rounds);
                    take_better(y, &mut found, other, &products(z, other));
                }
                let (inner, length_sq) = found;
                Sums { inner, length_sq, norm_sq }
            },
        );
        (y, sums)
    }
}

/// ‖z‖² and the largest |zᵢ|.
#[inline(always)]
fn sizes(z: &[Lanes]) -> ([f64; LANES], Lanes) {
    let (mut norm_sq, mut largest) = ([0.0; LANES], [0.0_f32; LANES]);
    for z in z {
        for l in 0..LANES {
            norm_sq[l] += f64::from(z[l]) * f64::from(z[l]);
            largest[l] = largest[l].max(z[l].abs());
        }
    }
    (norm_sq, largest)
}

/// N and S.
type Found = ([f64; LANES], [f64; LANES]);

#[inline(always)]
fn products(z: &[Lanes], y: &[Lanes]) -> Found {
    let (mut n, mut s) = ([0.0; LANES], [0.0; LANES]);
    for (z, y) in z.iter().zip(y) {
        for l in 0..LANES {
            n[l] += f64::from(y[l]) * f64::from(z[l]);
            s[l] += f64::from(y[l]) * f64::from(y[l]);
        }
    }
    (n, s)
}

/// Begins with the point in whose cell `stretch` times z lies, and takes turns of all coordinates until none moves.
/// N and S in f32 decide: a move that they mistake for a gain changes the cosine by what f32 rounds.
#[inline(always)]
fn improve(z: &[Lanes], y: &mut [Lanes], stretch: Lanes, top: f32, rounds: usize) {
    let (mut n, mut s) = ([0.0; LANES], [0.0; LANES]);
    for (z, y) in z.iter().zip(&mut *y) {
        for l in 0..LANES {
            let cell = (z[l] * stretch[l]).floor() + 0.5;
            y[l] = cell.max(-top).min(top);
            n[l] += y[l] * z[l];
            s[l] += y[l] * y[l];
        }
    }
    // Two levels are a sign, which is best as it is.
    let rounds = if top < 1.0 { 0 } else { rounds };
    for _ in 0..rounds {
        if !turn(z, y, &mut n, &mut s, top) {
            return;
        }
    }
}

/// One turn of each coordinate; whether one moved.
#[inline(always)]
fn turn(z: &[Lanes], y: &mut [Lanes], n: &mut Lanes, s: &mut Lanes, top: f32) -> bool {
    let mut moved = [0_i32; LANES];
    for (z, y) in z.iter().zip(y) {
        for l in 0..LANES {
            // To where S/N·z lies.
            let side = if s[l] * z[l] >= n[l] * y[l] { 1.0 } else { -1.0 };
            let (added, longer) = (side * z[l], 2.0 * side * y[l] + 1.0);
            // (N + added)²/(S + longer) > N²/S.
            let gains = s[l] * (added * (2.0 * n[l] + added)) > n[l] * n[l] * longer;
            let next = y[l] + side;
            let goes = gains & (n[l] + added > 0.0) & (next.abs() <= top);
            n[l] += if goes { added } else { 0.0 };
            s[l] += if goes { longer } else { 0.0 };
            y[l] = if goes { next } else { y[l] };
            moved[l] |= i32::from(goes);
        }
    }
    moved.iter().any(|moved| *moved != 0)
}

/// Leaves in `y` the point of the larger cosine, of equal ones its own.
#[inline(always)]
fn take_better(y: &mut [Lanes], (n, s): &mut Found, other: &[Lanes], (on, os): &Found) {
    let mut better = [false; LANES];
    for l in 0..LANES {
        better[l] = on[l] * on[l] * s[l] > n[l] * n[l] * os[l];
        n[l] = if better[l] { on[l] } else { n[l] };
        s[l] = if better[l] { os[l] } else { s[l] };
    }
    for (y, other) in y.iter_mut().zip(other) {
        for l in 0..LANES {
            y[l] = if better[l] { other[l] } else { y[l] };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vq_kernels::Draw;

    fn rows(len: usize) -> Vec<Lanes> {
        let mut draw = Draw::new(4);
        (0..len).map(|_| std::array::from_fn(|_| draw.normal() as f32)).collect()
    }

    /// ⟨z, y⟩²/(‖z‖²·‖y‖²) of row `l`.
    fn cosine_sq(z: &[Lanes], y: &[Lanes], l: usize) -> f64 {
        let sum = |a: &[Lanes], b: &[Lanes]| {
            a.iter().zip(b).map(|(a, b)| f64::from(a[l]) * f64::from(b[l])).sum::<f64>()
        };
        sum(z, y).powi(2) / (sum(z, z) * sum(y, y))
    }

    #[test]
    fn no_single_move_would_do_better_and_sums_are_those_of_the_point() {
        let z = rows(37);
        for bits in [1, 2, 3, 5, 8, 13] {
            for both in [false, true] {
                let mut adjust = Adjust::new(z.len(), bits, 1000, both);
                let (y, sums) = adjust.code(&z);
                let top = f64::from(1_u32 << (bits - 1)) - 0.5;
                for l in 0..LANES {
                    let found = cosine_sq(&z, y, l);
                    let told = sums.inner[l].powi(2) / (sums.norm_sq[l] * sums.length_sq[l]);
                    assert!((found - told).abs() < 1e-12, "{found} {told}");
                    for i in 0..z.len() {
                        for side in [-1.0, 1.0] {
                            let mut moved = y.to_vec();
                            moved[i][l] += side;
                            if f64::from(moved[i][l]).abs() <= top {
                                assert!(cosine_sq(&z, &moved, l) < found + 1e-7, "{bits} bits");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn two_starts_are_never_worse_than_one() {
        let z = rows(100);
        for bits in 2..=9 {
            let [one, two] = [false, true].map(|both| {
                let mut adjust = Adjust::new(z.len(), bits, 6, both);
                let (y, _) = adjust.code(&z);
                std::array::from_fn::<f64, LANES, _>(|l| cosine_sq(&z, y, l))
            });
            assert!(one.iter().zip(&two).all(|(one, two)| *two > one - 1e-14), "{one:?} {two:?}");
            assert!(one != two || bits > 4, "{bits} bits");
        }
    }

    #[test]
    fn zeros_and_lone_coordinates_have_codes() {
        let mut adjust = Adjust::new(3, 4, 6, true);
        let mut z = vec![[0.0; LANES]; 3];
        z[1][1] = -2.0;
        z[0][2] = 1e-30;
        let (y, sums) = adjust.code(&z);
        assert_eq!([y[0][0], y[1][0], y[2][0]], [0.5; 3]);
        assert_eq!((sums.inner[0], sums.norm_sq[0]), (0.0, 0.0));
        assert_eq!([y[0][1], y[1][1], y[2][1]], [0.5, -7.5, 0.5]);
        assert_eq!(y[0][2], 7.5);
    }
}
