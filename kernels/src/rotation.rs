//! Rotations: orthogonal maps that spread what a vector has over all dimensions, so that a method
//! may treat every dimension alike.
//!
//! - **Dense**: the orthogonal factor of a Gaussian matrix, signs corrected, is uniform over all rotations
//!   and reflections (Mezzadri 2007, "How to generate random matrices from the classical compact
//!   groups", section 5). O(d²) per vector.
//! - **Hadamard**: rounds of random signs and a Walsh–Hadamard transform, H/√b with b the largest power of
//!   two up to d (Ailon & Chazelle 2009, "The fast Johnson–Lindenstrauss transform"). Where d is no
//!   power of two, rounds transform the first and the last b dimensions in turn: the two overlap, and
//!   nothing is padded. O(d·log d) per vector. Not uniform, but after these rounds near enough to it for
//!   quantizers.
//!
//! - **Learned**: any orthogonal matrix, among them the one that brings one set of rows nearest to
//!   another.
//!
//! All keep norms and inner products up to what f32 rounds.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::Range;

use nalgebra::DMatrix;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use crate::Panels;
use crate::path::Path;
#[cfg(target_arch = "x86_64")]
use crate::path::Set;

/// Values per register.
#[cfg(target_arch = "x86_64")]
const LANES: usize = 16;

/// Rounds where d is a power of two: with three, any vector comes out near a random one.
const ROUNDS: usize = 3;

/// Rounds where it is not: the first and the last dimensions twice each.
const ROUNDS_BY_HALVES: usize = 4;

/// An orthogonal map of d dimensions.
///
/// ```
/// use ndarray::{Array2, array};
/// use vq_kernels::rotation::Rotation;
///
/// let rotation = Rotation::hadamard(3, 7);
/// let x = array![[3.0_f32, 0.0, 4.0]];
/// let (mut turned, mut back) = (Array2::zeros((1, 3)), Array2::zeros((1, 3)));
/// rotation.apply(x.view(), turned.view_mut());
/// assert!((turned.dot(&turned.t())[[0, 0]] - 25.0).abs() < 1e-4);
/// rotation.invert(turned.view(), back.view_mut());
/// assert!((&back - &x).iter().all(|error| error.abs() < 1e-5));
/// ```
#[derive(Clone, Debug)]
pub struct Rotation {
    dim: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Rows of the matrix, and of its transpose.
    Dense { rows: Panels, columns: Panels },
    /// (rounds, d), each ±1/√b within what the round transforms; outside 1, and ±1 in the last.
    Hadamard { factors: Vec<Vec<f32>> },
}

impl Rotation {
    /// A rotation or reflection drawn uniformly: O(d³) once, 8·d² bytes.
    ///
    /// # Panics
    /// When `dim` is 0.
    #[must_use]
    pub fn dense(dim: usize, seed: u64) -> Self {
        assert!(dim > 0, "a dimension to rotate");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let gaussian = DMatrix::<f64>::from_fn(dim, dim, |_, _| StandardNormal.sample(&mut rng));
        let (mut q, r) = gaussian.qr().unpack();
        // Without this the factor depends on how it was computed, and is not uniform.
        for (mut column, r) in q.column_iter_mut().zip(r.diagonal().iter()) {
            column *= if *r < 0.0 { -1.0 } else { 1.0 };
        }
        Self::of(Array2::from_shape_fn((dim, dim), |(i, j)| q[(i, j)] as f32).view())
    }

    /// Multiplies vectors by `matrix` (d, d), which the caller says is orthogonal. 8·d² bytes.
    ///
    /// # Panics
    /// When the matrix is empty or not square.
    #[must_use]
    pub fn of(matrix: ArrayView2<'_, f32>) -> Self {
        let dim = matrix.nrows();
        assert!(dim > 0 && matrix.is_square(), "a square matrix");
        let (rows, columns) = (Panels::for_ip(matrix), Panels::for_ip(matrix.t()));
        Self { dim, kind: Kind::Dense { rows, columns } }
    }

    /// The orthogonal map P of least `Σ ‖P·xᵢ − yᵢ‖²`, given `m = Σ yᵢ·xᵢᵀ` (d, d), as
    /// [`products`](crate::moments::products)`(y, x)` gives it (orthogonal Procrustes problem, Schönemann
    /// 1966): P = U·Vᵀ of the singular value decomposition of m. O(d³).
    ///
    /// # Panics
    /// When the matrix is empty, not square, or has a number that is not finite.
    #[must_use]
    pub fn nearest(m: ArrayView2<'_, f64>) -> Self {
        let dim = m.nrows();
        assert!(m.is_square() && m.iter().all(|value| value.is_finite()), "a square matrix");
        let svd = DMatrix::from_fn(dim, dim, |i, j| m[[i, j]]).svd(true, true);
        let (Some(u), Some(v_t)) = (svd.u, svd.v_t) else {
            unreachable!("both were asked for");
        };
        // A loop of ours: nalgebra's product takes other steps on other machines.
        let mut product = Array2::<f64>::zeros((dim, dim));
        for (i, mut row) in product.outer_iter_mut().enumerate() {
            for k in 0..dim {
                let factor = u[(i, k)];
                row.iter_mut().enumerate().for_each(|(j, sum)| *sum += factor * v_t[(k, j)]);
            }
        }
        Self::of(product.mapv(|value| value as f32).view())
    }

    /// The matrix P (d, d) that vectors are multiplied by, P·x, so that [`of`](Self::of) gives the same
    /// dense map again.
    #[must_use]
    pub fn matrix(&self) -> Array2<f32> {
        let (units, mut columns) = (Array2::eye(self.dim), Array2::zeros((self.dim, self.dim)));
        self.apply(units.view(), columns.view_mut());
        columns.reversed_axes().as_standard_layout().into_owned()
    }

    /// Random signs and Walsh–Hadamard transforms: at most 16·d bytes.
    ///
    /// # Panics
    /// When `dim` is 0.
    #[must_use]
    pub fn hadamard(dim: usize, seed: u64) -> Self {
        assert!(dim > 0, "a dimension to rotate");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rounds = if dim.is_power_of_two() { ROUNDS } else { ROUNDS_BY_HALVES };
        let factors = (0..rounds).map(|round| {
            let within = transformed(dim, round);
            let scale = (1.0 / (within.len() as f64).sqrt()) as f32;
            let factor = |t: usize, sign: bool| {
                let size = if within.contains(&t) { scale } else { 1.0 };
                if sign { -size } else { size }
            };
            (0..dim).map(|t| factor(t, rng.next_u32() & 1 == 1)).collect()
        });
        let mut factors: Vec<Vec<f32>> = factors.collect();
        // A sign outside of what a round transforms may as well be given by the next round.
        for round in 1..rounds {
            let (earlier, later) = factors.split_at_mut(round);
            let (before, now) = (&mut earlier[round - 1], &mut later[0]);
            for t in outside(dim, round - 1).into_iter().flatten() {
                now[t] *= before[t];
                before[t] = 1.0;
            }
        }
        Self { dim, kind: Kind::Hadamard { factors } }
    }

    /// d.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Writes every vector of `x` (n, d) rotated into `to` (n, d). Any strides; unit column strides are
    /// fast. Single-threaded.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn apply(&self, x: ArrayView2<'_, f32>, to: ArrayViewMut2<'_, f32>) {
        assert_eq!(x.dim(), (to.nrows(), self.dim), "shape of the vectors");
        match &self.kind {
            Kind::Dense { rows, .. } => rows.scores(x, to),
            Kind::Hadamard { factors } => each_row(
                x,
                to,
                #[inline(always)]
                |path, row| path.rounds(factors, row),
            ),
        }
    }

    /// Some rows of the matrix, where vectors are multiplied by one: their scores are these coordinates of what
    /// [`apply`](Self::apply) makes of a vector, to the bit.
    ///
    /// # Panics
    /// When a row is beyond d.
    #[must_use]
    pub fn some_rows(&self, rows: Range<usize>) -> Option<Panels> {
        Some(Panels::for_ip(self.dense_rows(rows)?.view()))
    }

    /// Some rows of the matrix (d, d), where vectors are multiplied by one.
    pub(crate) fn dense_rows(&self, some: Range<usize>) -> Option<Array2<f32>> {
        match &self.kind {
            Kind::Dense { rows, .. } => Some(rows.unpacked(some)),
            Kind::Hadamard { .. } => None,
        }
    }

    /// Writes some coordinates of what [`apply`](Self::apply) makes of `x` (n, d) into `to` (n, coordinates).
    ///
    /// # Panics
    /// When the shapes disagree, or vectors are not multiplied by a matrix.
    pub(crate) fn rotate_some(
        &self,
        x: ArrayView2<'_, f32>,
        coordinates: Range<usize>,
        to: &mut [f32],
    ) {
        let Kind::Dense { rows, .. } = &self.kind else { panic!("a matrix") };
        rows.some_scores(x, coordinates, to);
    }

    /// As [`apply`](Self::apply), of the rows (n, d) themselves.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn apply_in_place(&self, mut rows: ArrayViewMut2<'_, f32>) {
        assert_eq!(rows.ncols(), self.dim, "shape of the vectors");
        match &self.kind {
            Kind::Dense { .. } => self.apply(rows.to_owned().view(), rows),
            Kind::Hadamard { factors } => {
                let path = Path::fastest();
                for mut rows in rows.axis_chunks_iter_mut(Axis(0), together(self.dim)) {
                    if let Some(rows) = rows.as_slice_mut() {
                        path.run(
                            #[inline(always)]
                            || path.rounds(factors, rows),
                        );
                    } else {
                        self.apply(rows.to_owned().view(), rows);
                    }
                }
            }
        }
    }

    /// As [`apply`](Self::apply), back again.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn invert(&self, x: ArrayView2<'_, f32>, to: ArrayViewMut2<'_, f32>) {
        assert_eq!(x.dim(), (to.nrows(), self.dim), "shape of the vectors");
        match &self.kind {
            Kind::Dense { columns, .. } => columns.scores(x, to),
            Kind::Hadamard { factors } => each_row(
                x,
                to,
                #[inline(always)]
                |path, row| {
                    for (round, factors) in factors.iter().enumerate().rev() {
                        path.butterflies(&mut row[transformed(factors.len(), round)]);
                        row.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
                    }
                },
            ),
        }
    }
}

/// The Walsh–Hadamard transform of `x` in natural order, not normalised: twice applied it multiplies by
/// the length. The sums are those of the butterflies of distance 1, 2, 4, …, in this order.
/// O(n·log n), in place.
///
/// # Panics
/// When the length is no power of two.
pub fn walsh_hadamard(x: &mut [f32]) {
    assert!(x.len().is_power_of_two(), "a power of two");
    let path = Path::fastest();
    path.run(
        #[inline(always)]
        || path.butterflies(x),
    );
}

impl Path {
    /// All rounds of a Hadamard rotation of `rows`, one behind the other. A round of all before the next, for what
    /// comes of a row is waited for. To be called within [`run`](Self::run).
    #[inline(always)]
    fn rounds(self, factors: &[Vec<f32>], rows: &mut [f32]) {
        for (round, factors) in factors.iter().enumerate() {
            let within = transformed(factors.len(), round);
            for row in rows.chunks_exact_mut(factors.len()) {
                self.turn(&mut row[within.clone()], &factors[within.clone()]);
            }
        }
        if let Some((last, factors)) = factors.iter().enumerate().next_back() {
            for row in rows.chunks_exact_mut(factors.len()) {
                for outside in outside(factors.len(), last) {
                    let factors = &factors[outside.clone()];
                    row[outside].iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
                }
            }
        }
    }

    /// The butterflies of the products with `factors`. To be called within [`run`](Self::run).
    #[inline(always)]
    fn turn(self, x: &mut [f32], factors: &[f32]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 | Set::Vbmi if x.len() >= LANES => {
                // SAFETY: these sets exist only where AVX-512 F was detected.
                unsafe { avx512::turn(x.as_chunks_mut().0, factors.as_chunks().0) }
            }
            _ => {
                x.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
                butterflies(x);
            }
        }
    }

    /// To be called within [`run`](Self::run).
    #[inline(always)]
    fn butterflies(self, x: &mut [f32]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 | Set::Vbmi if x.len() >= LANES => {
                // SAFETY: these sets exist only where AVX-512 F was detected.
                unsafe { avx512::butterflies(x.as_chunks_mut().0) }
            }
            _ => butterflies(x),
        }
    }
}

/// Rows that go through a round together: those that the first-level cache holds, up to a few.
fn together(dim: usize) -> usize {
    (4096 / dim).clamp(1, 8)
}

/// The dimensions that a round transforms: the first or the last, as many as the largest power of two.
#[inline(always)]
fn transformed(dim: usize, round: usize) -> Range<usize> {
    let most = 1 << dim.ilog2();
    if round.is_multiple_of(2) { 0..most } else { dim - most..dim }
}

/// All other dimensions.
#[inline(always)]
fn outside(dim: usize, round: usize) -> [Range<usize>; 2] {
    let within = transformed(dim, round);
    [0..within.start, within.end..dim]
}

/// Copies each row and changes the copy.
fn each_row(
    x: ArrayView2<'_, f32>,
    mut to: ArrayViewMut2<'_, f32>,
    change: impl Fn(Path, &mut [f32]),
) {
    let path = Path::fastest();
    let change = |row: &mut [f32]| {
        path.run(
            #[inline(always)]
            || change(path, row),
        );
    };
    for (x, mut to) in x.outer_iter().zip(to.outer_iter_mut()) {
        to.assign(&x);
        if let Some(row) = to.as_slice_mut() {
            change(row);
        } else {
            let mut copy = to.to_vec();
            change(&mut copy);
            to.iter_mut().zip(copy).for_each(|(to, value)| *to = value);
        }
    }
}

#[inline(always)]
fn butterflies(x: &mut [f32]) {
    let mut distance = 1;
    while distance < x.len() {
        for pair in x.chunks_exact_mut(2 * distance) {
            let (low, high) = pair.split_at_mut(distance);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        distance *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::{dot, norm_sq};
    use crate::nearest::tests::noise;
    use proptest::prelude::*;

    /// H[i][j] = (−1)^(bits that i and j share).
    fn by_definition(x: &[f32]) -> Vec<f64> {
        let sign =
            |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
        (0..x.len())
            .map(|i| x.iter().enumerate().map(|(j, x)| sign(i, j) * f64::from(*x)).sum())
            .collect()
    }

    fn apply(rotation: &Rotation, x: &Array2<f32>) -> Array2<f32> {
        let mut to = Array2::zeros(x.dim());
        rotation.apply(x.view(), to.view_mut());
        to
    }

    proptest! {
        #[test]
        fn transforms_are_those_of_the_definition(log in 0_u32..12, kind in 0_usize..3, seed in any::<u32>()) {
            let n = 1 << log;
            let x = noise(1, n, seed, kind).into_raw_vec_and_offset().0;
            let mut portable = x.clone();
            Path::available().last().expect("there is one").butterflies(&mut portable);
            let scale: f64 = x.iter().map(|x| f64::from(x.abs())).sum();
            for (found, expected) in portable.iter().zip(by_definition(&x)) {
                prop_assert!((f64::from(*found) - expected).abs() <= 1e-6 * scale);
            }
            let mut fastest = x.clone();
            walsh_hadamard(&mut fastest);
            prop_assert_eq!(&fastest, &portable);
            for path in Path::available() {
                let mut fast = x.clone();
                path.run(#[inline(always)] || path.butterflies(&mut fast));
                prop_assert_eq!(&fast, &portable, "{:?}", path);
            }
        }

        #[test]
        fn rotations_keep_norms_and_products_and_come_back(
            n in 1_usize..5,
            dim in 1_usize..150,
            dense in any::<bool>(),
            seed in any::<u32>(),
        ) {
            let seeded = if dense { Rotation::dense } else { Rotation::hadamard };
            let rotation = seeded(dim, u64::from(seed));
            let x = noise(n, dim, seed, 1);
            let turned = apply(&rotation, &x);
            let mut back = Array2::zeros((n, dim));
            rotation.invert(turned.view(), back.view_mut());
            let close = |a: f64, b: f64, size: f64| (a - b).abs() <= 1e-5 * size;
            for i in 0..n {
                let row = |x: &Array2<f32>, i: usize| x.row(i).to_vec();
                let (a, b) = (row(&x, i), row(&x, 0));
                let size = (norm_sq(&a) * norm_sq(&b)).sqrt();
                let product = dot(&row(&turned, i), &row(&turned, 0));
                prop_assert!(close(product, dot(&a, &b), size));
                for (a, b) in a.iter().zip(row(&back, i)) {
                    prop_assert!(close(f64::from(*a), f64::from(b), norm_sq(&x.row(i).to_vec()).sqrt()));
                }
            }
            // Column-major in and out.
            let mut column_major = Array2::zeros((dim, n));
            rotation.apply(x.t().as_standard_layout().t(), column_major.view_mut().reversed_axes());
            prop_assert_eq!(column_major.t(), turned);
            prop_assert_eq!(apply(&seeded(dim, u64::from(seed)), &x), apply(&rotation, &x));
        }
    }

    /// Round after round of one row, each with all of its signs.
    fn step_by_step(dim: usize, seed: u64, row: &mut [f32]) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rounds = if dim.is_power_of_two() { ROUNDS } else { ROUNDS_BY_HALVES };
        for round in 0..rounds {
            let within = transformed(dim, round);
            let scale = (1.0 / (within.len() as f64).sqrt()) as f32;
            for (t, x) in row.iter_mut().enumerate() {
                let size = if within.contains(&t) { scale } else { 1.0 };
                *x *= if rng.next_u32() & 1 == 1 { -size } else { size };
            }
            butterflies(&mut row[within]);
        }
    }

    #[test]
    fn every_path_turns_many_rows_as_one_step_by_step() {
        let bits = |x: &Array2<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for dim in [1, 2, 3, 15, 16, 17, 31, 33, 100, 384, 768, 2048, 5000] {
            let rotation = Rotation::hadamard(dim, 9);
            let Kind::Hadamard { factors } = &rotation.kind else { unreachable!() };
            for n in [0, 1, 7, 8, 9, 17] {
                // Zeros of both signs among them.
                let mut x = noise(n, dim, 3, 0);
                x.iter_mut().step_by(3).for_each(|x| *x = -*x);
                let mut expected = x.clone();
                for mut row in expected.outer_iter_mut() {
                    step_by_step(dim, 9, row.as_slice_mut().unwrap());
                }
                for path in Path::available() {
                    let mut turned = x.clone();
                    let rows = turned.as_slice_mut().unwrap();
                    path.run(
                        #[inline(always)]
                        || path.rounds(factors, rows),
                    );
                    assert_eq!(bits(&turned), bits(&expected), "{path:?}: {n} x {dim}");
                }
                let mut turned = x.clone();
                rotation.apply_in_place(turned.view_mut());
                assert_eq!(bits(&turned), bits(&expected), "{n} x {dim}");
                // A part of a wider matrix, and column-major.
                let mut wide = Array2::zeros((n, dim + 3));
                let mut part = wide.slice_mut(ndarray::s![.., 1..=dim]);
                part.assign(&x);
                rotation.apply_in_place(part.view_mut());
                assert_eq!(bits(&part.to_owned()), bits(&expected), "{n} x {dim} of more");
                let mut columns = x.t().as_standard_layout().into_owned();
                rotation.apply_in_place(columns.view_mut().reversed_axes());
                let turned = columns.t().as_standard_layout().into_owned();
                assert_eq!(bits(&turned), bits(&expected), "{n} x {dim} by columns");
            }
        }
    }

    /// Coordinates of a rotated unit vector have the variance 1/d, and no dimension keeps its own.
    #[test]
    fn one_dimension_is_spread_over_all() {
        for dim in [64, 100, 128, 200] {
            for seeded in [Rotation::dense, Rotation::hadamard] {
                let units = Array2::eye(dim);
                let (mut fourth, mut most) = (0.0, 0.0_f32);
                for seed in 0..8 {
                    let turned = apply(&seeded(dim, seed), &units);
                    fourth += turned.iter().map(|x| f64::from(*x).powi(4)).sum::<f64>() / 8.0;
                    most = turned.iter().fold(most, |most, x| most.max(x.abs()));
                }
                // E x⁴ = 3/(d·(d + 2)) for a uniform direction, over d² coordinates.
                let kurtosis = fourth * (dim as f64 + 2.0) / (3.0 * dim as f64);
                assert!((0.8..1.3).contains(&kurtosis), "d = {dim}: {kurtosis}");
                assert!(most < 0.9, "d = {dim}: {most}");
            }
        }
    }

    /// A plugin may save a seed in place of a matrix: it has to mean the same with the next release.
    #[test]
    fn seeds_mean_what_they_always_meant() {
        let x = Array2::from_shape_fn((1, 5), |(_, t)| t as f32 + 1.0);
        for (seeded, expected) in [
            (
                Rotation::dense as fn(usize, u64) -> Rotation,
                [-0.207_468, -2.885_795, -4.080_422, 2.258_99, -4.987_611],
            ),
            (Rotation::hadamard, [0.0, -3.5, -6.5, 0.5, -0.5]),
        ] {
            let found = apply(&seeded(5, 1), &x);
            let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
            assert!(found.iter().zip(&expected).all(close), "{found}");
        }
    }

    #[test]
    fn a_learned_rotation_undoes_a_turn_and_survives_as_a_matrix() {
        let x = noise(300, 9, 4, 1);
        let turn = Rotation::dense(9, 3);
        let y = apply(&turn, &x);
        let found = Rotation::nearest(crate::moments::products(y.view(), x.view()).view());
        let close =
            |a: &Array2<f32>, b: &Array2<f32>| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(&found.matrix(), &turn.matrix()));
        let again = Rotation::of(found.matrix().view());
        assert_eq!(apply(&again, &x), apply(&found, &x));
        // Few rows say nothing of most directions: still a rotation.
        let few = x.slice(ndarray::s![..2, ..]);
        let found = Rotation::nearest(crate::moments::products(few, few).view()).matrix();
        assert!(close(&found.dot(&found.t()), &Array2::eye(9)));
    }

    #[test]
    fn seeds_differ() {
        let x = noise(1, 64, 1, 1);
        for seeded in [Rotation::dense, Rotation::hadamard] {
            assert_ne!(apply(&seeded(64, 1), &x), apply(&seeded(64, 2), &x));
        }
    }
}
