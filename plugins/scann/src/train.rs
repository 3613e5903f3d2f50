//! Centroids of least loss, given the codes (Guo et al. 2020, section 4.2).
//!
//! The paper solves one system of all centroids. Here one sub-space moves at a time, the others fixed, so
//! that each centroid has a system of its own over its rows (with one sub-space that of Theorem 4.2),
//!
//! `Σ [I + (η − 1)·uⱼuⱼᵀ]·c = Σ [xⱼ + (η − 1)·uⱼ·(s + ⟨uⱼ, xⱼ⟩)]`,
//!
//! with s the error along the row in all other sub-spaces. Its matrix is at least the number of rows times
//! I. A step never raises the loss of the training rows. All sums are f64 in the order of the rows.

use crate::descent::Descent;
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use vq_blocks::Product;
use vq_kernels::Draw;
use vq_kernels::pack::unpack;
use vq_plugin_api::Error;

/// Rows to learn from.
pub(crate) struct Rows {
    /// (n, d).
    x: Array2<f32>,
    /// 1/‖x‖, 0 for a row of zeros.
    inverse: Vec<f64>,
}

impl Rows {
    /// `points` of the rows `train` (n, d), or all where there are no more.
    pub(crate) fn of(train: ArrayView2<'_, f32>, points: usize, seed: u64) -> Self {
        let rows: Vec<usize> = Draw::new(seed).strata(train.nrows(), points).collect();
        let x = train.select(Axis(0), &rows);
        let length = |row: ndarray::ArrayView1<'_, f32>| {
            row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
        };
        let inverse = x.outer_iter().map(|row| 1.0 / length(row));
        let inverse = inverse.map(|inverse| if inverse.is_finite() { inverse } else { 0.0 });
        Rows { inverse: inverse.collect(), x }
    }

    /// Encodes the rows and moves the centroids to where the loss of these codes is least.
    /// O(n · (2^bits · d + d²/m)) on all threads of the current rayon pool.
    pub(crate) fn move_centroids(
        &self,
        product: &mut Product,
        bits: u32,
        weight: f64,
    ) -> Result<(), Error> {
        let (m, k) = (product.sub_spaces(), product.k());
        let codes = self.encode(product, bits, weight)?;
        let sub = self.x.ncols() / m;
        let mut centroids = product.centroids().to_vec();
        let mut parallel = self.parallel(&codes, &centroids, k, sub);
        for j in 0..m {
            let of = RowsOf::sub_space(&codes, m, j, k);
            let before = centroids[j * k * sub..][..k * sub].to_vec();
            let moved = centroids[j * k * sub..][..k * sub].par_chunks_exact_mut(sub);
            moved.enumerate().for_each(|(c, centroid)| {
                self.solve(of.rows(c), j * sub, weight, &parallel, centroid);
            });
            let after = &centroids[j * k * sub..][..k * sub];
            parallel.par_iter_mut().enumerate().for_each(|(i, parallel)| {
                let at = usize::from(codes[i * m + j]) * sub;
                let pairs = before[at..][..sub].iter().zip(&after[at..][..sub]);
                let u = self.x.row(i);
                let u = u.iter().skip(j * sub);
                let gained = pairs.zip(u).map(|((before, after), x)| {
                    (f64::from(*before) - f64::from(*after)) * f64::from(*x)
                });
                *parallel += gained.sum::<f64>() * self.inverse[i];
            });
        }
        product.set_centroids(centroids);
        Ok(())
    }

    /// Indices (n, m) of the rows.
    fn encode(&self, product: &Product, bits: u32, weight: f64) -> Result<Vec<u16>, Error> {
        let (m, descent) = (product.sub_spaces(), Descent::of(product, weight));
        let mut codes = vec![0_u16; self.x.nrows() * m];
        let blocks = self.x.axis_chunks_iter(Axis(0), Product::BLOCK).into_par_iter();
        blocks.zip(codes.par_chunks_mut(Product::BLOCK * m)).try_for_each(|(x, codes)| {
            let mut packed = Array2::zeros((x.nrows(), product.code_bytes()));
            product.encode_block(x, packed.view_mut())?;
            let mut scratch = descent.scratch();
            for ((x, packed), code) in
                x.outer_iter().zip(packed.outer_iter()).zip(codes.chunks_exact_mut(m))
            {
                unpack(vq_blocks::contiguous(packed.to_slice())?, bits, code);
                descent.better(x, code, &mut scratch);
            }
            Ok(())
        })?;
        Ok(codes)
    }

    /// The error ⟨x − x̂, u⟩ along each row.
    fn parallel(&self, codes: &[u16], centroids: &[f32], k: usize, sub: usize) -> Vec<f64> {
        let m = self.x.ncols() / sub;
        let of = |i: usize| {
            let (x, code) = (self.x.row(i), &codes[i * m..][..m]);
            let decoded = code.iter().enumerate().flat_map(|(j, c)| {
                centroids[(j * k + usize::from(*c)) * sub..][..sub].iter().copied()
            });
            let pairs = x.iter().zip(decoded).map(|(x, y)| (f64::from(*x), f64::from(y)));
            pairs.map(|(x, y)| (x - y) * x).sum::<f64>() * self.inverse[i]
        };
        (0..self.x.nrows()).into_par_iter().map(of).collect()
    }

    /// Moves the `centroid` of `rows`, whose sub-vectors begin at `first`, to the least loss. One without
    /// rows stays.
    fn solve(
        &self,
        rows: &[u32],
        first: usize,
        weight: f64,
        parallel: &[f64],
        centroid: &mut [f32],
    ) {
        let sub = centroid.len();
        // About where it is: steps are small, and sums keep their digits.
        let mut matrix = vec![0.0; sub * sub];
        let mut step = vec![0.0; sub];
        let mut u = vec![0.0; sub];
        for i in rows.iter().map(|i| *i as usize) {
            let x = self.x.row(i);
            for (t, u) in u.iter_mut().enumerate() {
                let x = f64::from(x[first + t]);
                *u = x * self.inverse[i];
                step[t] += x - f64::from(centroid[t]);
            }
            let along = weight * parallel[i];
            for (t, a) in u.iter().enumerate() {
                step[t] += along * a;
                let row = &mut matrix[t * sub..][..=t];
                row.iter_mut().zip(&u).for_each(|(sum, b)| *sum += weight * a * b);
            }
        }
        for t in 0..sub {
            matrix[t * sub + t] += rows.len() as f64;
        }
        cholesky_solve(&mut matrix, &mut step);
        if step.iter().all(|step| step.is_finite()) {
            for (value, step) in centroid.iter_mut().zip(&step) {
                let moved = f64::from(*value) + step;
                *value = moved.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
            }
        }
    }
}

/// Rows by the centroid that they have in a sub-space, in their order.
struct RowsOf {
    rows: Vec<u32>,
    /// (k + 1): where each centroid's begin.
    begin: Vec<usize>,
}

impl RowsOf {
    fn sub_space(codes: &[u16], m: usize, j: usize, k: usize) -> Self {
        let mut begin = vec![0; k + 1];
        let indices = || codes.iter().skip(j).step_by(m).map(|c| usize::from(*c));
        indices().for_each(|c| begin[c + 1] += 1);
        for c in 0..k {
            begin[c + 1] += begin[c];
        }
        let (mut next, mut rows) = (begin.clone(), vec![0; codes.len() / m]);
        for (i, c) in indices().enumerate() {
            rows[next[c]] = i as u32;
            next[c] += 1;
        }
        RowsOf { rows, begin }
    }

    fn rows(&self, c: usize) -> &[u32] {
        &self.rows[self.begin[c]..self.begin[c + 1]]
    }
}

/// Solves `matrix`·y = `right` for a positive definite matrix (n, n), of which the lower triangle is given;
/// y takes the place of `right`, and is not finite where the matrix is not positive definite. O(n³).
fn cholesky_solve(matrix: &mut [f64], right: &mut [f64]) {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let (above, row) = matrix.split_at_mut(i * n);
            let other = if j < i { &above[j * n..][..j] } else { &[] };
            let sum: f64 = if j < i {
                row[..j].iter().zip(other).map(|(a, b)| a * b).sum()
            } else {
                row[..i].iter().map(|a| a * a).sum()
            };
            row[j] = if j < i { (row[j] - sum) / above[j * n + j] } else { (row[i] - sum).sqrt() };
        }
    }
    for i in 0..n {
        let sum: f64 = matrix[i * n..][..i].iter().zip(&*right).map(|(a, b)| a * b).sum();
        right[i] = (right[i] - sum) / matrix[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|j| matrix[j * n + i] * right[j]).sum();
        right[i] = (right[i] - sum) / matrix[i * n + i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_positive_definite_system_is_solved() {
        let n = 7;
        let mut draw = Draw::new(3);
        let a: Vec<f64> = (0..n * n).map(|_| draw.normal()).collect();
        let entry = |i: usize, j: usize| {
            let dot: f64 = (0..n).map(|t| a[i * n + t] * a[j * n + t]).sum();
            dot + if i == j { 1.0 } else { 0.0 }
        };
        let mut matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
        let wanted: Vec<f64> = (0..n).map(|_| draw.normal()).collect();
        let times = |i: usize| (0..n).map(|j| entry(i, j) * wanted[j]).sum();
        let mut right: Vec<f64> = (0..n).map(times).collect();
        cholesky_solve(&mut matrix, &mut right);
        assert!(right.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{right:?}");
    }
}
