//! What a person should know of a file of vectors before choosing a method.

use std::collections::HashSet;
use std::path::Path;

use ndarray::{Array1, ArrayView2, Axis};
use serde::Serialize;

use super::prepare::{OnPrepare, interruptible};
use super::reader::Reader;
use super::{DataError, Progress, block_rows};

/// Rows that distances and directions are judged by, evenly spaced.
const SAMPLED: usize = 2000;
/// Neighbours of a row that hubs are counted by.
const NEIGHBOURS: usize = 10;
/// A dimension whose variance is less than this share of the average one is nearly constant.
const NEARLY_CONSTANT: f64 = 1e-6;

/// What is in a file, a folder or a pattern. Lengths and distances are Euclidean.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Format by extension: `parquet`, `npy`, …
    pub format: String,
    /// The table or column, where the format has such.
    pub table: Option<String>,
    /// Files of the data set.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Dimensions.
    pub dim: u64,
    /// Type of the numbers: `f4`, `u1`, …
    pub element: String,
    /// Table of queries that belongs to these rows.
    pub queries: Option<String>,
    /// Table of training rows that belongs to them.
    pub learn: Option<String>,
    /// Table of the queries' neighbours.
    pub neighbours: Option<String>,
    /// Distance that the file names.
    pub distance: Option<String>,
    /// Shortest, mean and longest row, of those that are finite.
    pub norm: [f64; 3],
    /// Rows with a NaN or an infinity.
    pub not_finite: u64,
    /// Rows of zeros.
    pub zero: u64,
    /// Rows that are equal to an earlier one, by a digest of 64 bits.
    pub duplicates: u64,
    /// Dimensions with a variance of less than a millionth of the average.
    pub nearly_constant: u64,
    /// Rows that the numbers below are from.
    pub sampled: u64,
    /// (Σλ)² / Σλ² of the covariance's eigenvalues λ, estimated from pairs of sampled rows.
    pub effective_dim: f64,
    /// Mean distance of two rows over the mean distance of a row to its nearest one; `None` where
    /// these are equal rows.
    pub contrast: Option<f64>,
    /// Skewness of how often a row is among the ten nearest of another.
    pub hubness: f64,
}

/// Reads all rows at `path` and says what they are.
///
/// Memory: O(block·d + 2,000·d + d²), and 16 bytes a row.
///
/// # Errors
/// [`DataError`]: nothing to read there, or it is not what its format says.
pub fn inspect(
    path: &Path,
    table: Option<&str>,
    progress: OnPrepare<'_>,
) -> Result<Inspection, DataError> {
    let reader = Reader::open(path, table)?;
    let progress = interruptible(progress);
    let (rows, dim) = (reader.rows(), reader.dim());
    let stride = rows.div_ceil(SAMPLED).max(1);
    let mut sample = Vec::new();
    let mut seen = HashSet::new();
    let (mut not_finite, mut zero, mut finite) = (0_u64, 0_u64, 0_u64);
    let (mut shortest, mut longest, mut lengths) = (f64::INFINITY, 0.0_f64, 0.0);
    // Of each dimension, less the first finite row, so that a far mean costs no digits.
    let mut origin: Vec<f64> = Vec::new();
    let (mut sums, mut squares) = (vec![0.0; dim], vec![0.0; dim]);
    let mut way = reader.way(rows);
    let step = block_rows(dim);
    let mut block = vec![0.0; step.min(rows) * dim];
    for first in (0..rows).step_by(step) {
        let count = step.min(rows - first);
        let values = &mut block[..count * dim];
        way.take_any(values)?;
        for (i, row) in values.chunks_exact(dim).enumerate() {
            if row.iter().any(|x| !x.is_finite()) {
                not_finite += 1;
                continue;
            }
            finite += 1;
            let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            zero += u64::from(length == 0.0);
            shortest = shortest.min(length);
            longest = longest.max(length);
            lengths += length;
            if origin.is_empty() {
                origin = row.iter().map(|x| f64::from(*x)).collect();
            }
            for (((sum, square), x), from) in
                sums.iter_mut().zip(&mut squares).zip(row).zip(&origin)
            {
                let x = f64::from(*x) - from;
                *sum += x;
                *square += x * x;
            }
            let mut hasher = blake3::Hasher::new();
            for x in row {
                // 0 and −0 are equal.
                hasher.update(&(x + 0.0).to_le_bytes());
            }
            seen.insert(hasher.finalize().as_bytes().first_chunk::<8>().copied());
            if (first + i).is_multiple_of(stride) {
                sample.extend_from_slice(row);
            }
        }
        progress(Progress { stage: "read", done: (first + count) as u64, total: rows as u64 })?;
    }
    let n = finite.max(1) as f64;
    let variances: Vec<f64> = sums
        .iter()
        .zip(&squares)
        .map(|(sum, square)| (square / n - (sum / n).powi(2)).max(0.0))
        .collect();
    let average = variances.iter().sum::<f64>() / dim as f64;
    let nearly = variances.iter().filter(|of| **of <= NEARLY_CONSTANT * average).count();
    let sampled = sample.len() / dim;
    let spread = Spread::of(&sample, dim);
    let described = reader.described();
    Ok(Inspection {
        format: described.format,
        table: described.table,
        files: described.files,
        bytes: described.bytes,
        rows: rows as u64,
        dim: dim as u64,
        element: described.element,
        queries: described.parts.queries,
        learn: described.parts.learn,
        neighbours: described.parts.neighbours,
        distance: described.parts.distance,
        norm: [if finite > 0 { shortest } else { 0.0 }, lengths / n, longest],
        not_finite,
        zero,
        duplicates: finite - seen.len() as u64,
        nearly_constant: nearly as u64,
        sampled: sampled as u64,
        effective_dim: spread.effective_dim,
        contrast: spread.contrast,
        hubness: spread.hubness,
    })
}

/// How some rows lie to each other.
struct Spread {
    effective_dim: f64,
    contrast: Option<f64>,
    hubness: f64,
}

impl Spread {
    /// Of `rows` (n, dim), one behind the other.
    fn of(rows: &[f32], dim: usize) -> Self {
        let n = rows.len() / dim;
        let rows = ArrayView2::from_shape((n, dim), rows).expect("whole rows");
        let Some(mean) = rows.mapv(f64::from).mean_axis(Axis(0)).filter(|_| n > 1) else {
            return Self { effective_dim: 0.0, contrast: None, hubness: 0.0 };
        };
        let centred = rows.mapv(f64::from) - &mean;
        let products = centred.dot(&centred.t());
        let norms: Array1<f64> = products.diag().to_owned();
        // Products of a row with itself would make the sample's size seem a dimension.
        let of_pairs = products.iter().map(|x| x * x).sum::<f64>() - norms.dot(&norms);
        let (trace, squares) = (norms.sum() / n as f64, of_pairs / (n * (n - 1)) as f64);
        let most = rows.ncols() as f64;
        let effective_dim = if squares > 0.0 { (trace * trace / squares).min(most) } else { 0.0 };
        let mut times = vec![0.0_f64; n];
        let (mut all, mut nearest) = (0.0, 0.0);
        let mut others: Vec<(f64, usize)> = Vec::with_capacity(n);
        for i in 0..n {
            others.clear();
            for j in (0..n).filter(|j| *j != i) {
                let l2_sq = (norms[i] + norms[j] - 2.0 * products[[i, j]]).max(0.0);
                others.push((l2_sq, j));
                all += l2_sq.sqrt();
            }
            let k = NEIGHBOURS.min(others.len());
            others.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0));
            others[..k].iter().for_each(|(_, j)| times[*j] += 1.0);
            let least = others[..k].iter().map(|(of, _)| *of).fold(f64::INFINITY, f64::min);
            nearest += least.sqrt();
        }
        let pairs = (n * (n - 1)) as f64;
        let contrast = (nearest > 0.0).then(|| (all / pairs) / (nearest / n as f64));
        Self { effective_dim, contrast, hubness: skewness(&times) }
    }
}

fn skewness(of: &[f64]) -> f64 {
    let n = of.len() as f64;
    let mean = of.iter().sum::<f64>() / n;
    let moment = |power| of.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / n;
    let spread = moment(2).sqrt();
    if spread > 0.0 { moment(3) / spread.powi(3) } else { 0.0 }
}
