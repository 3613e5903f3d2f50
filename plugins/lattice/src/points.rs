//! The lattices: nearest points, and integer coordinates in a basis.
//!
//! Conway & Sloane, "Fast quantizing and decoding algorithms for lattice quantizers and codes",
//! 1982. Coordinates of points stay below 2^20, where f32 counts exactly. Λ24 is in `leech`.

/// A lattice of dimension `N` with integer or half-integer points.
pub(crate) trait Lattice<const N: usize> {
    /// Squared packing radius: what is nearer to a point than this has no other nearest point.
    const PACKING_SQ: f32;
    /// Covering radius: nothing is farther from the lattice.
    const COVERING: f32;
    /// Volume of a cell.
    const VOLUME: f64;
    /// A deep hole, at the covering radius from the lattice.
    const HOLE: [f32; N];

    /// The point nearest to `x`, |xᵢ| < 2^20.
    fn nearest(x: &[f32; N]) -> [f32; N];

    /// Coordinates u of the point `p = u·G`.
    fn coordinates(p: &[f32; N]) -> [i32; N];

    /// The point u·G.
    fn point(u: &[i32; N]) -> [f32; N];
}

/// All integers.
pub(crate) struct Z;

/// Four integers with an even sum; the densest lattice of its dimension.
pub(crate) struct D4;

/// D8 ∪ (D8 + ½): eight integers, or eight halves of odd integers, with an even sum.
pub(crate) struct E8;

/// The nearest integer, ties to even, for |x| < 2^22.
#[inline(always)]
pub(crate) fn round(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND) - ROUND
}

/// The nearest point of D_n and its squared distance: where the nearest integers have an odd sum,
/// the one farthest from its coordinate moves to the second nearest (1982, algorithm 2).
#[inline(always)]
fn nearest_dn<const N: usize>(x: &[f32; N]) -> ([f32; N], f32) {
    let mut p = x.map(round);
    let off: [f32; N] = std::array::from_fn(|i| x[i] - p[i]);
    let mut dist_sq: f32 = off.iter().map(|o| o * o).sum();
    let sum: f32 = p.iter().sum();
    if sum as i32 & 1 != 0 {
        let (mut worst, mut most) = (0, off[0].abs());
        for (i, o) in off.iter().enumerate().skip(1) {
            let o = o.abs();
            worst = if o > most { i } else { worst };
            most = if o > most { o } else { most };
        }
        p[worst] += if off[worst] < 0.0 { -1.0 } else { 1.0 };
        dist_sq += 1.0 - 2.0 * most;
    }
    (p, dist_sq)
}

impl Lattice<1> for Z {
    const PACKING_SQ: f32 = 0.25;
    const COVERING: f32 = 0.5;
    const VOLUME: f64 = 1.0;
    const HOLE: [f32; 1] = [0.5];

    #[inline(always)]
    fn nearest(x: &[f32; 1]) -> [f32; 1] {
        x.map(round)
    }

    #[inline(always)]
    fn coordinates(p: &[f32; 1]) -> [i32; 1] {
        p.map(|p| p as i32)
    }

    #[inline(always)]
    fn point(u: &[i32; 1]) -> [f32; 1] {
        u.map(|u| u as f32)
    }
}

impl Lattice<4> for D4 {
    const PACKING_SQ: f32 = 0.5;
    const COVERING: f32 = 1.0;
    const VOLUME: f64 = 2.0;
    const HOLE: [f32; 4] = [0.5; 4];

    #[inline(always)]
    fn nearest(x: &[f32; 4]) -> [f32; 4] {
        nearest_dn(x).0
    }

    /// Three coordinates are free, the fourth makes the sum even.
    #[inline(always)]
    fn coordinates(p: &[f32; 4]) -> [i32; 4] {
        let [a, b, c, d] = p.map(|p| p as i32);
        [a, b, c, (a + b + c + d) / 2]
    }

    #[inline(always)]
    fn point(u: &[i32; 4]) -> [f32; 4] {
        let [a, b, c, half] = *u;
        [a, b, c, 2 * half - a - b - c].map(|p| p as f32)
    }
}

impl Lattice<8> for E8 {
    const PACKING_SQ: f32 = 0.5;
    const COVERING: f32 = 1.0;
    const VOLUME: f64 = 1.0;
    const HOLE: [f32; 8] = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];

    /// The nearer of the nearest points of D8 and of D8 + ½ (1982, algorithm 5).
    #[inline(always)]
    fn nearest(x: &[f32; 8]) -> [f32; 8] {
        let (whole, whole_sq) = nearest_dn(x);
        let (half, half_sq) = nearest_dn(&x.map(|x| x - 0.5));
        if half_sq < whole_sq { half.map(|p| p + 0.5) } else { whole }
    }

    /// u₁ = 2p₁; the integers pᵢ − p₁, i ≥ 2, have an even sum as those of D7 have.
    #[inline(always)]
    fn coordinates(p: &[f32; 8]) -> [i32; 8] {
        let apart: [i32; 8] = p.map(|each| (each - p[0]) as i32);
        let half = apart.iter().sum::<i32>() / 2;
        let [_, b, c, d, e, f, g, _] = apart;
        [(2.0 * p[0]) as i32, b, c, d, e, f, g, half]
    }

    #[inline(always)]
    fn point(u: &[i32; 8]) -> [f32; 8] {
        let [first, b, c, d, e, f, g, half] = *u;
        let last = 2 * half - (b + c + d + e + f + g);
        let first = first as f32 * 0.5;
        [0, b, c, d, e, f, g, last].map(|apart| first + apart as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leech::Leech;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn uniform(rng: &mut ChaCha8Rng, side: f64) -> f32 {
        ((rng.next_u32() as f64 / 4_294_967_296.0 - 0.5) * side) as f32
    }

    /// E‖x − Q(x)‖² / (n·V^(2/n)) for x uniform over a cube of 1000 cells' width, against the
    /// published constant: within 1 %, at four standard errors below 1 %.
    fn assert_second_moment<L: Lattice<N>, const N: usize>(samples: usize, published: f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(N as u64);
        let unit = N as f64 * L::VOLUME.powf(2.0 / N as f64);
        let (mut sum, mut square) = (0.0, 0.0);
        for _ in 0..samples {
            // Fractions of 2^−13 or more stay exact next to integers below 2^10.
            let x = std::array::from_fn(|_| round(uniform(&mut rng, 1000.0) * 8192.0) / 8192.0);
            let p = L::nearest(&x);
            let sq: f64 = x.iter().zip(&p).map(|(x, p)| f64::from(x - p).powi(2)).sum();
            assert!(sq <= f64::from(L::COVERING).powi(2) * 1.0001);
            sum += sq / unit;
            square += (sq / unit).powi(2);
        }
        let n = samples as f64;
        let mean = sum / n;
        let standard_error = ((square / n - mean * mean) / n).sqrt() / published;
        assert!(4.0 * standard_error < 0.01, "standard error {standard_error}");
        assert!((mean / published - 1.0).abs() < 0.01, "{mean}, published {published}");
    }

    #[test]
    fn cells_have_the_second_moments_of_conway_and_sloane() {
        assert_second_moment::<Z, 1>(200_000, 1.0 / 12.0);
        assert_second_moment::<D4, 4>(100_000, 0.076603);
        assert_second_moment::<E8, 8>(50_000, 0.071682);
        assert_second_moment::<Leech, 24>(20_000, 0.065771);
    }

    /// Is any sum of up to two of the shortest vectors nearer than the nearest point?
    fn assert_nearest<L: Lattice<N>, const N: usize>(shortest: &[[f32; N]]) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let sq = |x: &[f32; N], p: &[f32; N]| -> f32 {
            x.iter().zip(p).map(|(x, p)| (x - p).powi(2)).sum()
        };
        for _ in 0..300 {
            let x = std::array::from_fn(|_| uniform(&mut rng, 20.0));
            let p = L::nearest(&x);
            for v in shortest {
                let other = std::array::from_fn(|i| p[i] + v[i]);
                assert!(sq(&x, &p) <= sq(&x, &other) + 1e-4, "{x:?}: {other:?} before {p:?}");
            }
        }
    }

    /// Vectors with coordinates in {−1, −½, 0, ½, 1} that the lattice holds, of squared length 2:
    /// their half-spaces bound the cells of root lattices.
    fn roots<L: Lattice<N>, const N: usize>() -> Vec<[f32; N]> {
        let mut roots = Vec::new();
        for (half, choices) in [(0.0, 3_usize), (0.5, 2)] {
            for word in 0..choices.pow(N as u32) {
                let v: [f32; N] = std::array::from_fn(|i| {
                    (word / choices.pow(i as u32) % choices) as f32 - 1.0 + half
                });
                if v.iter().map(|v| v * v).sum::<f32>() == 2.0 && L::nearest(&v) == v {
                    roots.push(v);
                }
            }
        }
        roots
    }

    #[test]
    fn no_neighbour_is_nearer_than_the_nearest_point() {
        let (d4, e8) = (roots::<D4, 4>(), roots::<E8, 8>());
        assert_eq!((d4.len(), e8.len()), (24, 240));
        assert_nearest::<D4, 4>(&d4);
        assert_nearest::<E8, 8>(&e8);
    }

    fn assert_basis<L: Lattice<N>, const N: usize>() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        for _ in 0..2000 {
            let p = L::nearest(&std::array::from_fn(|_| uniform(&mut rng, 300.0)));
            assert_eq!(L::point(&L::coordinates(&p)), p);
            let u = std::array::from_fn(|_| (rng.next_u32() % 256) as i32);
            let p = L::point(&u);
            assert_eq!(L::nearest(&p), p, "a combination of the basis is a point");
            assert_eq!(L::coordinates(&p), u);
        }
        let hole = L::HOLE;
        let p = L::nearest(&hole);
        let sq: f32 = hole.iter().zip(&p).map(|(x, p)| (x - p).powi(2)).sum();
        assert_eq!(sq, L::COVERING.powi(2));
    }

    #[test]
    fn points_and_coordinates_are_each_others_inverse() {
        assert_basis::<Z, 1>();
        assert_basis::<D4, 4>();
        assert_basis::<E8, 8>();
        assert_basis::<Leech, 24>();
    }
}
