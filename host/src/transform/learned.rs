//! A chain with what it took from training rows.
//!
//! `T(x) = Bᵀ·(x − o)` with orthonormal columns of B but for [`Step::Normalise`]; `back(y) = B·y + o`.

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use vq_kernels::Panels;
use vq_kernels::distance::{dot, norm_sq};
use vq_kernels::draw::seed_of;
use vq_kernels::knn::Distance;
use vq_kernels::moments::products;
use vq_kernels::pca::eigen;
use vq_kernels::rotation::Rotation;

use super::{Chain, Step};
use crate::data::{DataError, Metric, Rows};

/// Seed of the rotations: the same for every method and every cell.
const SEED: u64 = 0x7A45_0F0A_3117_D1A5;
/// More training rows than this are represented by as many evenly strided ones.
const SAMPLE_ROWS: usize = 100_000;
/// The same where it is more, for each dimension.
const SAMPLE_PER_DIM: usize = 20;
/// Values of a block of training rows; a sum depends on it.
const BLOCK: usize = 1 << 20;
/// Rows of one task.
const TASK: usize = 256;
/// Bytes of a value.
const F32: usize = size_of::<f32>();

/// A step with what it needs.
enum Part {
    /// The first `keep`; `lost` are the means of the others.
    Truncate { keep: usize, lost: Vec<f32> },
    /// The mean (d).
    Centre { mean: Vec<f32> },
    /// The mean (d), the directions (k, d) and the dimensions (d, k).
    Pca { mean: Vec<f32>, directions: Panels, dimensions: Panels },
    /// Of d.
    Rotate(Rotation),
    /// `length` is the mean one of rows that are not zero, which rows get back.
    Normalise { dim: usize, length: f32 },
}

/// How a row is meant: what queries are compared by an inner product with is centred, and they are not.
#[derive(Clone, Copy, PartialEq)]
enum As {
    Row,
    Product,
}

/// See the module.
pub(crate) struct Learned {
    /// Dimensions of rows before it.
    dim: usize,
    parts: Vec<Part>,
}

impl Part {
    /// Dimensions of rows after it.
    fn dim(&self) -> usize {
        match self {
            Self::Truncate { keep, .. } => *keep,
            Self::Centre { mean } => mean.len(),
            Self::Pca { directions, .. } => directions.rows(),
            Self::Rotate(rotation) => rotation.dim(),
            Self::Normalise { dim, .. } => *dim,
        }
    }

    /// Bytes that have to be kept of it.
    fn bytes(&self) -> usize {
        match self {
            Self::Truncate { lost, .. } => F32 * lost.len(),
            Self::Centre { mean } => F32 * mean.len(),
            Self::Pca { mean, directions, .. } => F32 * mean.len() * (1 + directions.rows()),
            Self::Rotate(_) => size_of::<u64>(),
            Self::Normalise { .. } => F32,
        }
    }

    /// `x` (n, d) to (n, k).
    fn apply(&self, mut x: Array2<f32>, meant: As) -> Array2<f32> {
        let subtract = |x: &mut Array2<f32>, mean: &[f32]| {
            if meant == As::Row {
                for mut row in x.outer_iter_mut() {
                    row.iter_mut().zip(mean).for_each(|(x, mean)| *x -= mean);
                }
            }
        };
        match self {
            Self::Truncate { keep, .. } => {
                x.slice(s![.., ..*keep]).as_standard_layout().into_owned()
            }
            Self::Centre { mean } => {
                subtract(&mut x, mean);
                x
            }
            Self::Pca { mean, directions, .. } => {
                subtract(&mut x, mean);
                scored(directions, &x)
            }
            Self::Rotate(rotation) => {
                rotation.apply_in_place(x.view_mut());
                x
            }
            Self::Normalise { .. } => {
                for mut row in x.outer_iter_mut() {
                    let length = row.as_slice().map_or(0.0, |row| norm_sq(row).sqrt());
                    if length > 0.0 {
                        row.mapv_inplace(|x| (f64::from(x) / length) as f32);
                    }
                }
                x
            }
        }
    }

    /// `y` (n, k) back to (n, d).
    fn back(&self, mut y: Array2<f32>) -> Array2<f32> {
        let add = |x: &mut Array2<f32>, mean: &[f32]| {
            for mut row in x.outer_iter_mut() {
                row.iter_mut().zip(mean).for_each(|(x, mean)| *x += mean);
            }
        };
        match self {
            Self::Truncate { keep, lost } => {
                let mut x = Array2::zeros((y.nrows(), keep + lost.len()));
                x.slice_mut(s![.., ..*keep]).assign(&y);
                add_to_right(&mut x, *keep, lost);
                x
            }
            Self::Centre { mean } => {
                add(&mut y, mean);
                y
            }
            Self::Pca { mean, dimensions, .. } => {
                let mut x = scored(dimensions, &y);
                add(&mut x, mean);
                x
            }
            Self::Rotate(rotation) => {
                let mut x = Array2::zeros(y.dim());
                rotation.invert(y.view(), x.view_mut());
                x
            }
            Self::Normalise { length, .. } => {
                y.mapv_inplace(|y| y * length);
                y
            }
        }
    }
}

fn add_to_right(x: &mut Array2<f32>, from: usize, lost: &[f32]) {
    for mut row in x.slice_mut(s![.., from..]).outer_iter_mut() {
        row.iter_mut().zip(lost).for_each(|(x, mean)| *x = *mean);
    }
}

fn scored(panels: &Panels, x: &Array2<f32>) -> Array2<f32> {
    let mut y = Array2::zeros((x.nrows(), panels.rows()));
    panels.scores(x.view(), y.view_mut());
    y
}

impl Learned {
    /// Learns `chain` from `train`, all of whose rows have its dimensions. One pass for each mean and two
    /// for principal directions, O(n·d²) and O(d³) then; of more than max(100,000, 20·d) rows as many
    /// evenly strided ones. The bits depend on the rows alone.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub(crate) fn learn(chain: &Chain, train: &Rows) -> Result<Self, DataError> {
        let mut learned = Self { dim: train.dim(), parts: Vec::new() };
        for (at, step) in chain.steps().iter().enumerate() {
            let dim = learned.dim_after();
            let part = match *step {
                Step::Truncate(keep) => {
                    let lost =
                        if keep < dim { learned.mean(train)?.split_off(keep) } else { vec![] };
                    Part::Truncate { keep, lost }
                }
                Step::Centre => Part::Centre { mean: learned.mean(train)? },
                Step::Pca(keep) => learned.principal(train, keep)?,
                Step::Rotate => Part::Rotate(Rotation::hadamard(dim, seed_of(SEED, at as u64))),
                Step::Normalise => {
                    let (mut sum, mut rows) = (0.0, 0);
                    learned.each_block(train, |block| {
                        for row in block.outer_iter() {
                            let length = row.as_slice().map_or(0.0, |row| norm_sq(row).sqrt());
                            sum += length;
                            // Zeros come back as zeros, whatever the length.
                            rows += usize::from(length > 0.0);
                        }
                    })?;
                    Part::Normalise { dim, length: (sum / rows.max(1) as f64) as f32 }
                }
            };
            learned.parts.push(part);
        }
        Ok(learned)
    }

    /// Shows training rows to `see`, as far as they are transformed by now.
    fn each_block(&self, train: &Rows, mut see: impl FnMut(&Array2<f32>)) -> Result<(), DataError> {
        let all = train.rows();
        let sample = all.min(SAMPLE_ROWS.max(SAMPLE_PER_DIM * self.dim));
        // In 128 bits: the product may pass 2^64.
        let nth = |i: usize| (i as u128 * all as u128 / sample as u128) as usize;
        let step = (BLOCK / self.dim).clamp(1, 4 * TASK);
        for first in (0..sample).step_by(step) {
            let mut block = Array2::zeros((step.min(sample - first), self.dim));
            if sample == all {
                train.read_in_pool(first, block.view_mut())?;
            } else {
                for (i, row) in block.axis_chunks_iter_mut(Axis(0), 1).enumerate() {
                    train.read(nth(first + i), row)?;
                }
            }
            see(&self.rows(block.view()));
        }
        Ok(())
    }

    /// The mean of training rows, as far as they are transformed by now.
    fn mean(&self, train: &Rows) -> Result<Vec<f32>, DataError> {
        let (mut sum, mut rows) = (vec![0.0; self.dim_after()], 0);
        self.each_block(train, |block| {
            for row in block.outer_iter() {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            rows += block.nrows();
        })?;
        Ok(sum.into_iter().map(|sum| (sum / rows.max(1) as f64) as f32).collect())
    }

    fn principal(&self, train: &Rows, keep: usize) -> Result<Part, DataError> {
        let mean = self.mean(train)?;
        let mut covariance = Array2::zeros((mean.len(), mean.len()));
        let centre = Part::Centre { mean };
        self.each_block(train, |block| {
            let centred = centre.apply(block.clone(), As::Row);
            covariance += &products(centred.view(), centred.view());
        })?;
        let Part::Centre { mean } = centre else { unreachable!("it was made above") };
        let (_, vectors) = eigen(covariance.view());
        let directions = vectors.slice(s![..keep, ..]).mapv(|v| v as f32);
        let dimensions = directions.t().as_standard_layout().into_owned();
        Ok(Part::Pca {
            mean,
            directions: Panels::for_ip(directions.view()),
            dimensions: Panels::for_ip(dimensions.view()),
        })
    }

    /// Dimensions of rows after it.
    pub(crate) fn dim_after(&self) -> usize {
        self.parts.last().map_or(self.dim, Part::dim)
    }

    /// Bytes of all that decoding needs of it.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// Transforms `x` (n, d) into `to` (n, k), by the threads of the current pool.
    pub(crate) fn rows_into(&self, x: ArrayView2<'_, f32>, to: ArrayViewMut2<'_, f32>) {
        self.into(x, to, As::Row);
    }

    /// Rows `x` (n, d) as methods see them (n, k).
    pub(crate) fn rows(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut to = Array2::zeros((x.nrows(), self.dim_after()));
        self.rows_into(x, to.view_mut());
        to
    }

    /// Queries `x` (n, d) as scorers see them (n, k): for an inner product only the other side is centred.
    pub(crate) fn queries(&self, x: ArrayView2<'_, f32>, metric: Metric) -> Array2<f32> {
        let mut to = Array2::zeros((x.nrows(), self.dim_after()));
        let meant = if metric == Metric::L2 { As::Row } else { As::Product };
        self.into(x, to.view_mut(), meant);
        to
    }

    fn into(&self, x: ArrayView2<'_, f32>, mut to: ArrayViewMut2<'_, f32>, meant: As) {
        let tasks = x.axis_chunks_iter(Axis(0), TASK).into_par_iter();
        tasks.zip(to.axis_chunks_iter_mut(Axis(0), TASK)).for_each(|(x, mut to)| {
            let x = x.as_standard_layout().into_owned();
            to.assign(&self.parts.iter().fold(x, |x, part| part.apply(x, meant)));
        });
    }

    /// Decoded rows `y` (n, k) as rows (n, d): what was lost is at its mean.
    pub(crate) fn back(&self, y: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut x = Array2::zeros((y.nrows(), self.dim));
        let tasks = y.axis_chunks_iter(Axis(0), TASK).into_par_iter();
        tasks.zip(x.axis_chunks_iter_mut(Axis(0), TASK)).for_each(|(y, mut x)| {
            let y = y.as_standard_layout().into_owned();
            x.assign(&self.parts.iter().rev().fold(y, |y, part| part.back(y)));
        });
        x
    }

    /// What is to be added to estimates of each of `queries` (n, d), so that they are of distances or
    /// products with rows as [`back`](Self::back) gives them: `‖q − back(T(q))‖²`, or `⟨q, back(0)⟩`.
    pub(crate) fn constants(&self, queries: ArrayView2<'_, f32>, metric: Metric) -> Vec<f64> {
        let own = match metric {
            Metric::L2 => self.back(self.rows(queries).view()),
            Metric::Ip | Metric::Cosine => self.back(Array2::zeros((1, self.dim_after())).view()),
        };
        let constant = |(at, query): (usize, ndarray::ArrayView1<'_, f32>)| {
            let query = query.to_vec();
            let row = |i: usize| own.row(i).to_vec();
            match metric {
                Metric::L2 => Distance::L2Sq.of(&query, &row(at)),
                Metric::Ip | Metric::Cosine => dot(&query, &row(0)),
            }
        };
        queries.outer_iter().enumerate().map(constant).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::RowFile;
    use ndarray::{Array1, array};

    /// `rows` as training rows.
    fn train(rows: &Array2<f32>) -> (tempfile::TempDir, Rows) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(&path, bytes).unwrap();
        let (rows, dim) = rows.dim();
        let file = RowFile { path, offset: 0, rows, dim, blocks: None, absent: None };
        (folder, file.open().unwrap())
    }

    fn learn(steps: &[Step], rows: &Array2<f32>) -> Learned {
        let (_folder, rows) = train(rows);
        Learned::learn(&steps.to_vec().into(), &rows).unwrap()
    }

    /// Correlated rows about a mean, of falling variance.
    fn leaning(n: usize, d: usize) -> Array2<f32> {
        let mut draw = vq_kernels::Draw::new(3);
        let mut rows = Array2::zeros((n, d));
        for mut row in rows.outer_iter_mut() {
            let z: Vec<f64> = (0..d).map(|t| draw.normal() * 0.5_f64.powi(t as i32)).collect();
            for (t, x) in row.iter_mut().enumerate() {
                *x = (3.0 + z[t] + 0.5 * z[(t + 1) % d] + 0.25 * z[0]) as f32;
            }
        }
        rows
    }

    fn far(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
        (a - b).iter().map(|e| f64::from(*e).powi(2)).sum()
    }

    #[test]
    fn what_keeps_all_dimensions_comes_back() {
        let rows = leaning(600, 7);
        for steps in [
            &[Step::Centre, Step::Rotate][..],
            &[Step::Rotate, Step::Rotate],
            &[Step::Pca(7)],
            &[Step::Truncate(7), Step::Pca(7), Step::Rotate, Step::Centre],
        ] {
            let of = learn(steps, &rows);
            assert_eq!(of.dim_after(), 7);
            let back = of.back(of.rows(rows.view()).view());
            assert!(far(&rows, &back) < 1e-8, "{steps:?}: {}", far(&rows, &back));
        }
    }

    #[test]
    fn lost_dimensions_are_at_their_mean() {
        let rows = array![[1.0_f32, 2.0, 7.0], [3.0, 4.0, 9.0]];
        let of = learn(&[Step::Truncate(1), Step::Centre], &rows);
        assert_eq!(of.rows(rows.view()), array![[-1.0], [1.0]]);
        let back = of.back(array![[10.0_f32]].view());
        assert_eq!(back, array![[12.0, 3.0, 8.0]]);
        // The mean of the first and of the two others.
        assert_eq!(of.bytes(), 12);
    }

    #[test]
    fn principal_directions_keep_the_energy_of_the_spectrum() {
        let rows = leaning(900, 8);
        let mean = vq_kernels::moments::mean(rows.view());
        let mean = Array1::from(mean).mapv(|mean| mean as f32);
        let centred = &rows - &mean;
        let (values, _) = eigen(products(centred.view(), centred.view()).view());
        for keep in [1, 3, 8] {
            let of = learn(&[Step::Pca(keep)], &rows);
            let lost = far(&rows, &of.back(of.rows(rows.view()).view()));
            let expected: f64 = values[keep..].iter().sum();
            assert!((lost - expected).abs() < 1e-4 * values[0], "{keep}: {lost} {expected}");
        }
    }

    #[test]
    fn estimates_with_their_constants_are_of_rows_as_they_come_back() {
        let (rows, queries) = (leaning(500, 6), leaning(9, 6));
        for steps in [
            &[Step::Centre, Step::Rotate][..],
            &[Step::Truncate(4)],
            &[Step::Rotate, Step::Pca(3), Step::Truncate(2)],
        ] {
            let of = learn(steps, &rows);
            let seen = of.rows(rows.view());
            let back = of.back(seen.view());
            for metric in [Metric::L2, Metric::Ip] {
                let distance = Distance::from(metric);
                let posed = of.queries(queries.view(), metric);
                let constants = of.constants(queries.view(), metric);
                for (q, constant) in constants.iter().enumerate() {
                    let value = |queries: &Array2<f32>, rows: &Array2<f32>| {
                        let value = distance.of(&queries.row(q).to_vec(), &rows.row(q).to_vec());
                        if metric == Metric::L2 { value } else { -value }
                    };
                    let (whole, part) = (value(&queries, &back), value(&posed, &seen));
                    assert!((part + constant - whole).abs() < 1e-4, "{steps:?} {metric:?}");
                }
            }
        }
    }

    #[test]
    fn the_bits_depend_on_no_number_of_threads_and_no_block() {
        let rows = leaning(2500, 9);
        let steps = [Step::Centre, Step::Pca(5), Step::Rotate, Step::Normalise];
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let of = learn(&steps, &rows);
                let seen = of.rows(rows.view());
                (seen.clone(), of.back(seen.view()), of.rows(rows.slice(s![700..703, ..])))
            })
        };
        let (seen, back, some) = on(1);
        assert_eq!(on(3), (seen.clone(), back, some.clone()));
        assert_eq!(seen.slice(s![700..703, ..]), some);
    }

    #[test]
    fn one_row_equal_rows_and_one_dimension_are_rows_like_any() {
        let steps = [Step::Centre, Step::Rotate, Step::Pca(1), Step::Normalise];
        for rows in
            [array![[2.0_f32, 3.0, 4.0]], Array2::from_elem((5, 3), -1.5), array![[4.0], [4.0]]]
        {
            let of = learn(&steps, &rows);
            let seen = of.rows(rows.view());
            // Nothing is left of a row that is the mean, and it has no direction.
            assert!(seen.iter().all(|x| *x == 0.0), "{seen}");
            let back = of.back(seen.view());
            assert!(far(&rows, &back) < 1e-10, "{back}");
        }
        let of = learn(&[Step::Normalise], &array![[3.0_f32, 4.0], [0.0, 0.0], [0.0, 15.0]]);
        let seen = of.rows(array![[0.0_f32, 0.0], [6.0, 8.0]].view());
        assert_eq!(seen, array![[0.0, 0.0], [0.6, 0.8]]);
        // Back at the mean length of the two that have one, 10.
        assert!((of.back(seen.view())[[1, 1]] - 8.0).abs() < 1e-5);
    }
}
