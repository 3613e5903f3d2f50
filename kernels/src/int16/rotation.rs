//! Rotated vectors in integers of 16 bits, cut into sub-spaces, with a bound of what the rounding did to them.
//!
//! A vector z and the rows of a rotation R are rounded to 16 bits in steps of their own: z = ẑ + ζ and R = R̂ + Δ. In
//! a sub-space, whose coordinates are those of some rows R' of R,
//!
//! R'·z = R̂'·ẑ + R'·ζ + Δ'·ẑ.
//!
//! The first product is one of integers, whose sums are exact until they are added up in f32. The others are the error,
//! at most ‖R'‖·‖ζ‖ + ‖Δ'‖·‖ẑ‖ with spectral norms. What f32 makes of R'·z in [`Panels::scores`] differs from it by
//! at most d·2⁻²⁴·‖R'‖_F·‖z‖ (Higham 2002, §3.1). Where the nearest row in a sub-space is nearest by more than that,
//! R'·z is not computed in f32 at all.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};

#[cfg(target_arch = "x86_64")]
use super::turned;
use super::{TILE, WORD, available, round_row, row_of};
#[cfg(doc)]
use crate::Panels;
use crate::distance::{dot, norm_sq};
use crate::panels::contiguous_rows;
use crate::rotation::Rotation;
use crate::{Centre, Nearest, Path};

/// Dimensions whose products are summed in 32 bits.
pub(super) const SUMMED: usize = 64;

/// Norm of so many dimensions, at most, in steps: two of these make less than 2³¹, with what rounding adds.
pub(super) const MOST_SUMMED: f64 = 46_000.0;

/// Most dimensions: beyond them what f32 may round in a rotation leaves too much open. `opq` with 128 sub-spaces of 768
/// dimensions took 1.3 times as long with integers.
const MOST_DIM: usize = 256;

/// Most coordinates of a sub-space: there are more errors to bound than products to save beyond it.
const MOST_PART: usize = 32;

/// A rotation whose rotated vectors are cut into sub-spaces, in integers.
///
/// Memory: 2·d² + 4·d bytes, and d more of each where d is odd.
#[derive(Clone, Debug)]
pub struct Int16Rotation {
    /// (d, ⌈d/2⌉): dimensions in pairs, the first in the low half.
    pub(super) rows: Vec<i32>,
    /// The step of each row.
    pub(super) steps: Vec<f32>,
    pub(super) dim: usize,
    pub(super) parts: Vec<Part>,
}

/// Norms of the rows of a sub-space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Of R', at most.
    pub(super) spectral: f32,
    pub(super) frobenius: f32,
    /// Of Δ', at most.
    pub(super) error: f32,
}

impl Int16Rotation {
    /// Sub-spaces of `part` coordinates; nothing where this machine has no fast integers, where vectors are not
    /// multiplied by a matrix, or where dimensions are many or sub-spaces large.
    ///
    /// O(d²·part). Norms of the rows of the rotation, 1 in a true one, must be within what f32 squares.
    ///
    /// # Panics
    /// When `part` does not divide d.
    #[must_use]
    pub fn new(rotation: &Rotation, part: usize) -> Option<Self> {
        let dim = rotation.dim();
        assert!(dim.is_multiple_of(part), "whole sub-spaces");
        if !available() || part > MOST_PART || dim > MOST_DIM {
            return None;
        }
        let matrix = rotation.dense_rows(0..dim)?;
        let (mut rows, mut steps) = (Vec::with_capacity(dim * dim.div_ceil(2)), Vec::new());
        let mut errors = Array2::<f32>::zeros((dim, dim));
        for (row, mut error) in matrix.outer_iter().zip(errors.outer_iter_mut()) {
            let row = row.to_slice().expect("the layout is standard");
            let norms = row.chunks(SUMMED).map(|row| norm_sq(row).sqrt());
            let norm = norms.fold(0.0, f64::max);
            let largest = row.iter().fold(0.0_f64, |largest, x| largest.max(f64::from(x.abs())));
            let inverse = (MOST_SUMMED / norm).min(WORD / largest) as f32;
            if !inverse.is_normal() || !(1.0 / inverse).is_normal() {
                return None;
            }
            let first = rows.len();
            Path::fastest().run(
                #[inline(always)]
                || round_row(row, inverse, &mut rows),
            );
            let step = 1.0 / inverse;
            let words = rows[first..].iter().flat_map(|pair| [*pair as i16, (*pair >> 16) as i16]);
            for ((error, x), word) in error.iter_mut().zip(row).zip(words) {
                *error = (f64::from(*x) - f64::from(step) * f64::from(word)) as f32;
            }
            steps.push(step);
        }
        let parts =
            matrix.axis_chunks_iter(Axis(0), part).zip(errors.axis_chunks_iter(Axis(0), part));
        let parts = parts.map(|(rows, errors)| {
            let frobenius = (0..part).map(|i| norm_sq(row_of(rows, i)));
            Part {
                spectral: above(spectral(rows)),
                frobenius: above(frobenius.sum::<f64>().sqrt()),
                error: above(spectral(errors)),
            }
        });
        Some(Self { rows, steps, dim, parts: parts.collect() })
    }

    /// Writes the index of the nearest row in every sub-space, one [`Nearest`] each, for every vector of `x` (n, d)
    /// once centred and rotated by `rotation`, which these integers were made of, into `index` (sub-spaces, n): what
    /// [`Nearest::assign`] finds for what [`Rotation::apply`] makes of the centred vectors.
    ///
    /// False, and nothing of use in `index`, where it would take longer than just that, for a few vectors or where these
    /// errors leave too much open, and where a centred vector is no number or has a norm of 1e15 or more.
    /// Single-threaded, O(n·d·(d + rows)).
    ///
    /// # Panics
    /// When the shapes disagree, or rows of `index` are not one behind the other.
    pub fn assign(
        &self,
        (centre, rotation): (&Centre, &Rotation),
        x: ArrayView2<'_, f32>,
        nearest: &[Nearest],
        mut index: ArrayViewMut2<'_, u32>,
    ) -> bool {
        assert_eq!(
            (x.ncols(), centre.shift.len()),
            (self.dim, self.dim),
            "dimension of the vectors"
        );
        assert_eq!(nearest.len(), self.parts.len(), "as many as sub-spaces");
        assert_eq!(index.dim(), (nearest.len(), x.nrows()), "an index for each");
        let part = self.dim / nearest.len();
        assert!(nearest.iter().all(|of| of.panels().dim() == part), "dimension of the sub-spaces");
        if x.nrows() < TILE / 2 || nearest.iter().all(|of| of.int16().is_none()) {
            return false;
        }
        let x = contiguous_rows(x);
        let index = index.as_slice_mut().expect("indices are contiguous");
        let mut open = vec![Vec::<u32>::new(); nearest.len()];
        #[cfg(target_arch = "x86_64")]
        // SAFETY: there are such integers only where `available` detected the features.
        let usual = unsafe { turned::decide(self, centre, x.view(), nearest, index, &mut open) };
        #[cfg(not(target_arch = "x86_64"))]
        let usual = false;
        // Here too, one that is left open costs as much as integers save on a few.
        if !usual || OPEN * open.iter().map(Vec::len).sum::<usize>() > index.len() {
            return false;
        }
        let (mut centred, mut rotated, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for (j, ((open, nearest), index)) in
            open.iter().zip(nearest).zip(index.chunks_exact_mut(x.nrows())).enumerate()
        {
            centred.clear();
            for i in open {
                centre.append(row_of(x.view(), *i as usize), &mut centred);
            }
            rotated.resize(open.len() * part, 0.0);
            let vectors = ArrayView2::from_shape((open.len(), self.dim), &centred);
            let coordinates = j * part..(j + 1) * part;
            rotation.rotate_some(vectors.expect("whole vectors"), coordinates, &mut rotated);
            found.resize(open.len(), 0);
            let rotated = ArrayView2::from_shape((open.len(), part), &rotated);
            nearest.assign(rotated.expect("as many"), &mut found);
            for (i, found) in open.iter().zip(&found) {
                index[*i as usize] = *found;
            }
        }
        true
    }
}

/// Where one of so many is left open, 16-bit integers save nothing.
const OPEN: usize = 4;

/// At least the largest singular value: ‖A‖² is at most the largest sum of magnitudes in a row of A·Aᵀ (Gershgorin).
fn spectral(rows: ArrayView2<'_, f32>) -> f64 {
    let product = |i, j| dot(row_of(rows, i), row_of(rows, j)).abs();
    let sums = (0..rows.nrows()).map(|i| (0..rows.nrows()).map(|j| product(i, j)).sum::<f64>());
    sums.fold(0.0, f64::max).sqrt()
}

/// An f32 that is not below.
fn above(value: f64) -> f32 {
    (1.000_001 * value) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nearest::tests::noise;
    use ndarray::s;
    use proptest::prelude::*;

    /// `rows` codebook rows in each sub-space, near rotated vectors, in groups of `alike` that are nearly the same.
    fn codebooks(
        rotated: &Array2<f32>,
        part: usize,
        rows: usize,
        alike: usize,
        seed: u32,
    ) -> Vec<Nearest> {
        let off = noise(rows, part, seed, 1);
        let codebooks = rotated.axis_chunks_iter(Axis(1), part).map(|rotated| {
            let largest = rotated.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            let codebook = Array2::from_shape_fn((rows, part), |(r, t)| {
                let first = r / alike * alike;
                let near =
                    rotated[[first * 7 % rotated.nrows(), t]] + 0.2 * largest * off[[first, t]];
                near * (1.0 + 1e-6 * (r - first) as f32)
            });
            Nearest::for_l2_centred(codebook.view())
        });
        codebooks.collect()
    }

    fn expected(rotated: &Array2<f32>, part: usize, nearest: &[Nearest]) -> Array2<u32> {
        let mut index = Array2::zeros((nearest.len(), rotated.nrows()));
        let parts = rotated.axis_chunks_iter(Axis(1), part).zip(nearest);
        for ((rotated, nearest), mut index) in parts.zip(index.outer_iter_mut()) {
            nearest.assign(rotated, index.as_slice_mut().unwrap());
        }
        index
    }

    #[test]
    #[should_panic(expected = "dimension of the sub-spaces")]
    fn rows_of_another_dimension_are_refused() {
        let rotation = Rotation::dense(8, 1);
        let int16 = Int16Rotation::new(&rotation, 2)
            .expect("dimension of the sub-spaces: skipped, no fast integers");
        let nearest = vec![Nearest::for_l2_centred(noise(256, 8, 1, 1).view()); 4];
        let (x, centre) = (noise(64, 8, 2, 1), Centre::none(8));
        int16.assign((&centre, &rotation), x.view(), &nearest, Array2::zeros((4, 64)).view_mut());
    }

    #[test]
    fn most_is_decided_without_rotating_in_f32() {
        let (n, dim, part) = (512, 128, 8);
        let rotation = Rotation::dense(dim, 3);
        let Some(int16) = Int16Rotation::new(&rotation, part) else {
            eprintln!("skipped: no fast integers");
            return;
        };
        let z = noise(n, dim, 1, 1);
        let mut rotated = Array2::zeros((n, dim));
        rotation.apply(z.view(), rotated.view_mut());
        let nearest = codebooks(&rotated, part, 256, 1, 2);
        let mut index = Array2::zeros((dim / part, n));
        let mut open = vec![Vec::new(); nearest.len()];
        // SAFETY: there are such integers only where `available` detected the features.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            turned::decide(
                &int16,
                &Centre::none(dim),
                z.view(),
                &nearest,
                index.as_slice_mut().unwrap(),
                &mut open,
            );
        }
        let left: usize = open.iter().map(Vec::len).sum();
        assert!(left < index.len() / 10, "{left} of {}", index.len());
        let expected = expected(&rotated, part, &nearest);
        let wrong = (0..nearest.len()).flat_map(|j| (0..n).map(move |i| (j, i)));
        let wrong = wrong.filter(|(j, i)| expected[[*j, *i]] != index[[*j, *i]]);
        for (j, i) in wrong {
            assert!(open[j].contains(&(i as u32)), "sub-space {j}, vector {i}");
        }
        let centre = Centre::none(dim);
        assert!(int16.assign((&centre, &rotation), z.view(), &nearest, index.view_mut()));
        assert_eq!(index, expected);
    }

    proptest! {
        #[test]
        fn integers_change_no_answer(
            n in 32_usize..200,
            (part, parts) in (1_usize..20, 1_usize..12),
            rows in prop::sample::select(vec![8_usize, 20, 128, 256, 300]),
            alike in prop::sample::select(vec![1_usize, 2, 8]),
            kind in 0_usize..5,
            offset in prop::sample::select(vec![0.0_f32, 1.0, -1e4]),
            unturned in any::<bool>(),
            spoilt in 0_usize..4,
            seed in any::<u32>(),
        ) {
            let dim = part * parts;
            let rotation = if unturned {
                Rotation::of(Array2::eye(dim).view())
            } else {
                Rotation::dense(dim, u64::from(seed))
            };
            let mut z = noise(n, dim, seed, kind);
            // Some vectors lie far from all others, some are one coordinate.
            z.slice_mut(s![n / 2.., ..]).mapv_inplace(|z| z + offset);
            z.slice_mut(s![n - 3, 1..]).fill(0.0);
            if spoilt > 0 {
                z[[n / 3, dim / 2]] = [f32::NAN, f32::INFINITY, f32::MAX][spoilt - 1];
            }
            let centre = Centre { scale: 0.25, shift: noise(1, dim, seed ^ 2, 1).into_iter().collect() };
            let (mut centred, mut rotated) = (Vec::new(), Array2::zeros((n, dim)));
            rotation.apply(centre.centred(z.view(), &mut centred), rotated.view_mut());
            let clean = rotated.slice(s![..n / 3, ..]).to_owned();
            let nearest = codebooks(&clean, part, rows, alike, seed ^ 1);
            let Some(int16) = Int16Rotation::new(&rotation, part) else { return Ok(()) };
            let mut index = Array2::zeros((parts, n));
            if int16.assign((&centre, &rotation), z.view(), &nearest, index.view_mut()) {
                prop_assert_eq!(index, expected(&rotated, part, &nearest));
            }
        }
    }
}
