//! Centre and a few directions.

use super::Query;
use super::frame::{Form, back, bounded};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use vq_kernels::distance::norm_sq;
use vq_kernels::moments::products;
use vq_kernels::pca::eigen;
use vq_kernels::{Centre, Panels};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{Error, Metric};

/// Rows that principal directions are computed from, at most.
const ROWS: usize = 65_536;

/// Rows of which a centred copy is held.
const AT_ONCE: usize = 4096;

/// Centre and k orthonormal directions, the rows of W: `z = W·(x − c)·s`, of k ≤ d coordinates; or the first k
/// coordinates as they are.
///
/// s is a [`Frame`](super::Frame)'s; what W leaves of a row is known by the row's norm alone.
#[derive(Clone, Debug)]
pub struct Basis {
    centre: Centre,
    count: usize,
    turned: Option<Directions>,
}

#[derive(Clone, Debug)]
struct Directions {
    matrix: Array2<f32>,
    /// To z, and back.
    rows: Panels,
    columns: Panels,
}

impl Basis {
    /// Of `directions` (k, d), which the caller says are orthonormal. 12·k·d bytes.
    ///
    /// # Panics
    /// When there are none, or they have another dimension than the centre.
    #[must_use]
    pub fn new(centre: Centre, directions: Array2<f32>) -> Self {
        assert!(directions.nrows() > 0, "a direction");
        assert_eq!(directions.ncols(), centre.shift.len(), "dimension of the directions");
        let (rows, columns) = (Panels::for_ip(directions.view()), Panels::for_ip(directions.t()));
        let count = directions.nrows();
        Basis { centre, count, turned: Some(Directions { matrix: directions, rows, columns }) }
    }

    /// The first `count` coordinates.
    ///
    /// # Panics
    /// When there are none, or more than the centre has.
    #[must_use]
    pub fn first(centre: Centre, count: usize) -> Self {
        assert!((1..=centre.shift.len()).contains(&count), "{count} coordinates");
        Basis { centre, count, turned: None }
    }

    /// Variances, descending, and the d principal directions as rows (d, d), of the rows `x` (n, d) about
    /// the centre; from 65,536 of them where there are more. O(n·d² + d³), on all threads of the current
    /// rayon pool.
    ///
    /// # Panics
    /// When there are no rows.
    #[must_use]
    pub fn principal(centre: &Centre, x: ArrayView2<'_, f32>) -> (Vec<f64>, Array2<f64>) {
        let every = x.nrows().div_ceil(ROWS) as isize;
        let x = x.slice_axis(Axis(0), Slice::from(..).step_by(every));
        let mut covariance = Array2::zeros((x.ncols(), x.ncols()));
        for rows in x.axis_chunks_iter(Axis(0), AT_ONCE) {
            let mut centred = rows.as_standard_layout().into_owned();
            for mut row in centred.outer_iter_mut() {
                for (x, shift) in row.iter_mut().zip(&centre.shift) {
                    *x = bounded(*x * centre.scale - shift);
                }
            }
            covariance += &products(centred.view(), centred.view());
        }
        covariance /= x.nrows() as f64;
        let (mut variances, directions) = eigen(covariance.view());
        // Rounding makes zeros negative.
        variances.iter_mut().for_each(|variance| *variance = variance.max(0.0));
        (variances, directions)
    }

    /// Directions k.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The square of 1 in the units of z: s².
    #[must_use]
    pub fn unit_sq(&self) -> f64 {
        f64::from(self.centre.scale).powi(2)
    }

    /// z (n, k) of the rows `x` (n, d), and ‖x − c‖²·s² (n). NaN counts as far away. Single-threaded,
    /// O(n·k·d).
    ///
    /// # Panics
    /// When the rows have another dimension.
    #[must_use]
    pub fn apply(&self, x: ArrayView2<'_, f32>) -> (Array2<f32>, Vec<f64>) {
        let mut centred = Array2::zeros(x.dim());
        let x = x.as_standard_layout();
        let mut norms = Vec::with_capacity(x.nrows());
        for (x, mut to) in x.outer_iter().zip(centred.outer_iter_mut()) {
            if let (Some(x), Some(to)) = (x.to_slice(), to.as_slice_mut()) {
                self.centre.apply(x, to);
                to.iter_mut().for_each(|to| *to = bounded(*to));
                norms.push(norm_sq(to));
            }
        }
        let mut z = Array2::zeros((x.nrows(), self.count()));
        match &self.turned {
            Some(turned) => turned.rows.scores(centred.view(), z.view_mut()),
            None => z.assign(&centred.slice_axis(Axis(1), Slice::from(..self.count))),
        }
        (z, norms)
    }

    /// Writes `x = c + Wᵀ·y / s` for each row of `y` (n, k) into `x` (n, d). Finite where y is within ±1e15.
    /// Single-threaded.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn restore(&self, y: ArrayView2<'_, f32>, mut x: ArrayViewMut2<'_, f32>) {
        match &self.turned {
            Some(turned) => turned.columns.scores(y, x.view_mut()),
            None => {
                let (mut kept, mut left) = x.view_mut().split_at(Axis(1), self.count);
                kept.assign(&y);
                left.fill(0.0);
            }
        }
        for x in x.outer_iter_mut() {
            back(&self.centre, 1.0, x);
        }
    }

    /// As [`Frame::query`](super::Frame::query), of what lies in the basis; `‖q − c‖²` is all of it.
    ///
    /// # Panics
    /// When the query has another dimension.
    #[must_use]
    pub fn query(&self, q: &[f32], metric: Metric) -> Query {
        self.query_as(q, Form::of_values(metric))
    }

    /// As [`Frame::estimator`](super::Frame::estimator), of what lies in the basis; `‖q − c‖²` is all of it.
    ///
    /// # Panics
    /// When the query has another dimension.
    #[must_use]
    pub fn estimator(&self, q: &[f32], metric: Metric) -> Query {
        self.query_as(q, Form::of_estimates(metric))
    }

    fn query_as(&self, q: &[f32], form: Form) -> Query {
        Query::new(&self.centre, q, form, |centred| {
            let Some(turned) = &self.turned else { return centred[..self.count].to_vec() };
            let mut z = vec![0.0; self.count];
            let from = ArrayView2::from_shape((1, q.len()), centred).expect("one row");
            let to = ArrayViewMut2::from_shape((1, self.count), &mut z).expect("one row");
            turned.rows.scores(from, to);
            z
        })
    }

    /// Bytes of centre and directions.
    #[must_use]
    pub fn model_bytes(&self) -> u64 {
        let (k, d) = (self.count as u64, self.centre.shift.len() as u64);
        4 * (1 + d) + 16 + if self.turned.is_some() { 4 * k * d } else { 0 }
    }

    /// Appends centre and directions to a model.
    #[must_use]
    pub fn save(&self, model: ModelWriter) -> ModelWriter {
        let centre = &self.centre;
        let model = model.f32s([centre.scale]).f32s(centre.shift.iter().copied());
        let model = model.u64(self.count as u64).u64(u64::from(self.turned.is_some()));
        match &self.turned {
            Some(turned) => model.f32s(turned.matrix.iter().copied()),
            None => model,
        }
    }

    /// Reads what [`save`](Self::save) appended, for `dim` dimensions.
    ///
    /// # Errors
    /// Anything that no basis has.
    pub fn load(dim: usize, model: &mut ModelReader<'_>) -> Result<Self, Error> {
        let (scale, shift) = (model.f32s(1)?[0], model.f32s(dim)?);
        if scale <= 0.0 {
            return Err(Error::failed(format!("scale {scale} is not above 0")));
        }
        let count = model.u64()?;
        if !(1..=dim as u64).contains(&count) {
            return Err(Error::failed(format!("{count} directions of {dim} dimensions")));
        }
        let (centre, count) = (Centre { scale, shift }, count as usize);
        match model.u64()? {
            0 => return Ok(Basis::first(centre, count)),
            1 => {}
            kind => return Err(Error::failed(format!("basis {kind} is unknown"))),
        }
        let directions = model.matrix(count, dim)?;
        if directions.iter().any(|value| value.abs() > 1.001) {
            return Err(Error::failed("the directions are not of unit length"));
        }
        Ok(Basis::new(centre, directions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotated::{Centring, Frame};
    use vq_kernels::Draw;
    use vq_kernels::distance::{dot, l2_sq};

    /// Rows whose coordinates in a turned system have the deviations 2, 1, ½, ….
    fn rows() -> Array2<f32> {
        let mut draw = Draw::new(3);
        let mut x = Array2::from_shape_simple_fn((400, 6), || draw.normal() as f32);
        for (t, mut column) in x.columns_mut().into_iter().enumerate() {
            column *= 2.0 * 0.5_f32.powi(t as i32);
        }
        let rotation = vq_kernels::rotation::Rotation::dense(6, 1);
        let mut turned = Array2::zeros(x.dim());
        rotation.apply(x.view(), turned.view_mut());
        turned + 5.0
    }

    fn basis(x: &Array2<f32>, count: usize) -> (Vec<f64>, Basis) {
        let centre = Frame::centre_of(x.view(), Centring::Mean).unwrap();
        let (variances, directions) = Basis::principal(&centre, x.view());
        let kept = directions.slice_axis(Axis(0), Slice::from(..count)).mapv(|v| v as f32);
        (variances, Basis::new(centre, kept))
    }

    #[test]
    fn principal_directions_leave_the_variance_of_the_others() {
        let x = rows();
        for count in 1..=6 {
            let (variances, basis) = basis(&x, count);
            let (z, _) = basis.apply(x.view());
            let mut back = Array2::zeros(x.dim());
            basis.restore(z.view(), back.view_mut());
            let left = l2_sq(x.as_slice().unwrap(), back.as_slice().unwrap()) / 400.0;
            let expected = variances[count..].iter().sum::<f64>() / basis.unit_sq();
            assert!((left - expected).abs() < 1e-4 * expected + 1e-9, "{count}: {left} {expected}");
        }
    }

    #[test]
    fn estimates_are_exact_for_exact_products() {
        let mut x = rows();
        for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
            if metric == Metric::Cosine {
                for mut row in x.outer_iter_mut() {
                    let norm = norm_sq(&row.to_vec()).sqrt() as f32;
                    row /= norm;
                }
            }
            let (_, basis) = basis(&x, 6);
            let (z, norms) = basis.apply(x.view());
            let q = x.row(9).to_vec();
            let query = basis.estimator(&q, metric);
            for ((x, z), norm) in x.outer_iter().zip(z.outer_iter()).zip(norms) {
                let (x, z) = (x.to_vec(), z.to_vec());
                let exact = if metric == Metric::L2 { l2_sq(&q, &x) } else { dot(&q, &x) };
                let found = f64::from(query.estimate(dot(&query.z, &z), norm));
                assert!((found - exact).abs() < 1e-5 * norm_sq(&q), "{found} {exact}");
            }
        }
    }

    #[test]
    fn a_model_gives_the_same_bits_again_and_damage_is_refused() {
        let x = rows();
        let (_, principal) = basis(&x, 2);
        let first = Basis::first(principal.centre.clone(), 4);
        for basis in [principal, first] {
            let model = basis.save(ModelWriter::new()).finish();
            let loaded = Basis::load(6, &mut ModelReader::new(&model)).unwrap();
            assert_eq!(loaded.apply(x.view()), basis.apply(x.view()));
            assert!(Basis::load(6, &mut ModelReader::new(&model[..model.len() - 1])).is_err());
            assert!(Basis::load(1, &mut ModelReader::new(&model)).is_err());
        }
    }
}
