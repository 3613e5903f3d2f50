//! Signs of the products of vectors with the rows of a matrix of 16-bit integers: the bits of a sketch.
//!
//! A vector is rounded to 16 bits in steps of its own, products of 128 dimensions are summed in 32 bits, exactly, and
//! these sums are added in f32, the first ones first: the same on every path. AVX2 and AVX-512 VNNI take half the time of
//! products in f32. Where the largest number of a vector is a few times the usual one, and the matrix leaves sums 15 bits, rounding
//! moves a vector by some 3·10⁻⁵ of its norm. `examples/peers` measures it by `turboquant` with `variant = prod`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use ndarray::{ArrayView2, Axis};

#[cfg(target_arch = "x86_64")]
use crate::int16;
use crate::int16::round_row;
use crate::pack::packed_bytes;
use crate::panels::contiguous_rows;
use crate::path::Path;
#[cfg(target_arch = "x86_64")]
use crate::path::Set;

/// Rows that are multiplied at a time.
const LANES: usize = 16;

/// Dimensions whose products are summed in 32 bits.
const SUMMED: usize = 128;

/// Pairs of dimensions of these.
const PAIRS: usize = SUMMED / 2;

/// Two dimensions of some rows, the first in the low half.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([i32; LANES]);

/// The matrix (rows, d). Memory: 2 bytes a number, rows rounded up to a multiple of 16.
///
/// ```
/// use ndarray::array;
/// use vq_kernels::Projections;
///
/// let projections = Projections::new(array![[1, 0], [1, -1], [0, 3]].view());
/// let mut code = [0];
/// projections.signs(array![[-0.25, -0.5]].view(), &mut code);
/// assert_eq!(code, [0b010]);
/// ```
#[derive(Clone, Debug)]
pub struct Projections {
    /// Per 16 rows a line per pair of dimensions.
    lines: Vec<Line>,
    rows: usize,
    dim: usize,
    /// The largest number that a vector is rounded to.
    largest: f32,
}

impl Projections {
    /// # Panics
    /// When there is no row or no dimension.
    #[must_use]
    pub fn new(matrix: ArrayView2<'_, i16>) -> Self {
        let (rows, dim) = matrix.dim();
        assert!(rows > 0 && dim > 0, "a matrix of {rows} rows and {dim} dimensions");
        let at = |row: usize, k: usize| i32::from(matrix.get((row, k)).copied().unwrap_or(0));
        let panels = (0..rows).step_by(LANES);
        let lines = panels.flat_map(|first| {
            (0..dim.div_ceil(2)).map(move |pair| {
                Line(std::array::from_fn(|lane| {
                    let [low, high] = [0, 1].map(|half| at(first + lane, 2 * pair + half));
                    low & 0xFFFF | high << 16
                }))
            })
        });
        let lines = lines.collect();
        // Σ|ŝₖ| over what is summed at once, times the largest number of a vector, stays below 2³¹.
        let sizes = matrix.axis_chunks_iter(Axis(1), SUMMED).flat_map(|part| {
            part.map_axis(Axis(1), |row| row.iter().map(|s| i64::from(*s).abs()).sum::<i64>())
        });
        let most = i64::from(i32::MAX) / sizes.fold(1, i64::max);
        Self { lines, rows, dim, largest: most.min(i64::from(i16::MAX)) as f32 }
    }

    /// Writes bit `i` of the code of each vector of `x` (n, d), one behind the other, where its product with row `i`
    /// is not below 0, into `codes` (n, ⌈rows/8⌉), as [`pack`](crate::pack) packs values of one bit. All products of a
    /// vector with a number that is not finite are 0. Single-threaded, O(n·rows·d).
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn signs(&self, x: ArrayView2<'_, f32>, codes: &mut [u8]) {
        self.signs_on(Path::fastest(), x, codes);
    }

    fn signs_on(&self, path: Path, x: ArrayView2<'_, f32>, codes: &mut [u8]) {
        let bytes = packed_bytes(self.rows, 1);
        assert_eq!(x.ncols(), self.dim, "dimension of the vectors");
        assert_eq!(codes.len(), x.nrows() * bytes, "length of the codes");
        let x = contiguous_rows(x);
        let width = self.dim.div_ceil(2);
        let mut pairs = Vec::with_capacity(x.nrows() * width);
        for x in x.outer_iter() {
            let x = x.to_slice().expect("columns are contiguous");
            path.run(
                #[inline(always)]
                || self.round(x, &mut pairs),
            );
        }
        let (lines, to) = (&self.lines, (bytes, &mut *codes));
        match path.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 | Set::Vbmi if int16::available() => {
                // SAFETY: `available` detected the features.
                unsafe { avx512::signs(lines, &pairs, width, to) }
            }
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 | Set::Vbmi | Set::Avx2 => {
                // SAFETY: these sets exist only where AVX2 was detected.
                unsafe { avx2::signs(lines, &pairs, width, to) }
            }
            _ => portable(lines, &pairs, width, to),
        }
        // What is behind the last row met rows of zeros.
        for code in codes.chunks_exact_mut(bytes) {
            code[bytes - 1] &= 0xFF >> (8 * bytes - self.rows);
        }
    }

    /// Appends `x` (d) as pairs of 16-bit integers.
    #[inline(always)]
    fn round(&self, x: &[f32], pairs: &mut Vec<i32>) {
        // Without their signs numbers are ordered as their bits are, and what is none comes last.
        let largest = x.iter().fold(0, |largest, x| largest.max(x.abs().to_bits()));
        let largest = f32::from_bits(largest);
        if !largest.is_finite() || largest == 0.0 {
            pairs.resize(pairs.len() + x.len().div_ceil(2), 0);
        } else if largest < SMALL {
            let x: Vec<f32> = x.iter().map(|x| x / SMALL).collect();
            round_row(&x, self.largest / (largest / SMALL), pairs);
        } else {
            round_row(x, self.largest / largest, pairs);
        }
    }
}

/// Vectors without a number as large are scaled first: 32767 over it is none that f32 has. 2⁻⁹⁶.
const SMALL: f32 = f32::from_bits((127 - 96) << 23);

fn portable(lines: &[Line], pairs: &[i32], width: usize, (bytes, codes): (usize, &mut [u8])) {
    for (x, code) in pairs.chunks_exact(width).zip(codes.chunks_exact_mut(bytes)) {
        for (lines, code) in lines.chunks_exact(width).zip(code.chunks_mut(LANES / 8)) {
            let mut totals = [0.0_f32; LANES];
            for (lines, x) in lines.chunks(PAIRS).zip(x.chunks(PAIRS)) {
                let mut sums = [0_i32; LANES];
                for (line, x) in lines.iter().zip(x) {
                    for (sum, row) in sums.iter_mut().zip(line.0) {
                        // The halves of both, each with its sign.
                        let low = i32::from(row as i16) * i32::from(*x as i16);
                        *sum += low + (row >> 16) * (*x >> 16);
                    }
                }
                totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum as f32);
            }
            let bits =
                totals.iter().enumerate().map(|(lane, total)| u16::from(*total >= 0.0) << lane);
            let bits = bits.sum::<u16>().to_le_bytes();
            code.copy_from_slice(&bits[..code.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nearest::tests::noise;
    use ndarray::Array2;
    use proptest::prelude::*;

    /// The definition, of sums that i64 holds, for vectors of usual size.
    fn expected(projections: &Projections, matrix: &Array2<i16>, x: &[f32]) -> Vec<u8> {
        let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { projections.largest / largest } else { 0.0 };
        let mut code = vec![0; packed_bytes(matrix.nrows(), 1)];
        for (i, row) in matrix.outer_iter().enumerate() {
            let product =
                |(s, x): (&i16, &f32)| i64::from(*s) * (x * inverse).round_ties_even() as i64;
            let terms: Vec<i64> = row.iter().zip(x).map(product).collect();
            let sums = terms.chunks(SUMMED).map(|terms| terms.iter().sum::<i64>() as f32);
            let product = sums.fold(0.0, |all, sum| all + sum);
            code[i / 8] |= u8::from(product >= 0.0) << (i % 8);
        }
        code
    }

    #[test]
    fn sums_of_the_largest_numbers_stay_in_range() {
        // As large as they come, all of one sign, more dimensions than are summed at once.
        for (size, dim) in [(i16::MAX, 128), (i16::MIN, 300), (1, 1000)] {
            let matrix = Array2::from_elem((17, dim), size);
            let projections = Projections::new(matrix.view());
            let x = Array2::from_shape_fn((2, dim), |(i, _)| if i == 0 { 1e30 } else { -7.0 });
            for path in Path::available() {
                let mut codes = [0xAA; 6];
                projections.signs_on(path, x.view(), &mut codes);
                let (above, below) = ([0xFF, 0xFF, 1], [0; 3]);
                let expected = if size > 0 { [above, below] } else { [below, above] };
                assert_eq!(codes, expected.concat()[..], "{path:?} {size} {dim}");
            }
        }
    }

    #[test]
    fn signs_of_tiny_vectors_are_those_of_large_ones() {
        let matrix = noise(40, 70, 1, 1).mapv(|s| (s * 1000.0) as i16);
        let projections = Projections::new(matrix.view());
        let x = noise(9, 70, 2, 0);
        let mut expected = vec![0; 9 * 5];
        projections.signs(x.view(), &mut expected);
        // Subnormal, and every one exact.
        let tiny = x.mapv(|x| x * f32::from_bits(1 << 5));
        for path in Path::available() {
            let mut codes = vec![0; 9 * 5];
            projections.signs_on(path, tiny.view(), &mut codes);
            assert_eq!(codes, expected, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn every_path_gives_the_signs_of_the_products_of_integers(
            n in 0_usize..30,
            rows in 1_usize..90,
            dim in prop::sample::select(vec![1_usize, 2, 3, 15, 16, 33, 127, 128, 129, 255, 257, 300]),
            size in prop::sample::select(vec![1_i32, 3, 600, 32_767]),
            kind in 0_usize..5,
            spoilt in 0_usize..4,
            seed in any::<u32>(),
        ) {
            let matrix = noise(rows, dim, seed ^ 1, 1).mapv(|s| (s * size as f32).round() as i16);
            let mut x = noise(n, dim, seed, kind);
            if n > 0 {
                x.row_mut(n / 2).fill(0.0);
            }
            if n > 0 && spoilt > 0 {
                x[[n / 3, dim / 2]] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][spoilt - 1];
            }
            let projections = Projections::new(matrix.view());
            let bytes = packed_bytes(rows, 1);
            let signs = |path: Path, x: ArrayView2<'_, f32>| {
                let mut codes = vec![0xAA; n * bytes];
                projections.signs_on(path, x, &mut codes);
                codes
            };
            let reference = signs(Path::available().last().unwrap(), x.view());
            let column_major = x.t().as_standard_layout().into_owned();
            for path in Path::available() {
                prop_assert_eq!(&signs(path, x.view()), &reference, "{:?}", path);
                prop_assert_eq!(&signs(path, column_major.t()), &reference, "{:?}", path);
            }
            for (x, code) in x.outer_iter().zip(reference.chunks(bytes)) {
                let x = x.to_vec();
                if x.iter().any(|x| !x.is_finite()) {
                    let zeros = expected(&projections, &matrix, &vec![0.0; dim]);
                    prop_assert_eq!(code, &zeros);
                } else {
                    prop_assert_eq!(code, &expected(&projections, &matrix, &x));
                }
            }
        }
    }
}
