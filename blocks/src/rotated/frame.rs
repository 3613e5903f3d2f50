//! Centre and rotation.

use crate::scan::Tables;
use ndarray::{Array2, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, Slice, aview1};
use rayon::prelude::*;
use std::ops::Range;
use vq_kernels::distance::{dot, norm_sq};
use vq_kernels::moments::{mean, mean_and_deviation};
use vq_kernels::rotation::Rotation;
use vq_kernels::{Centre, Panels, Path};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{Error, Metric, choices};

choices! {
    /// Which rotation.
    pub enum Turn { None = "none", Hadamard = "hadamard", Dense = "dense" }
}

choices! {
    /// What rows are centred on.
    pub enum Centring { Mean = "mean", None = "none" }
}

/// Rows of one task.
const BLOCK: usize = 512;

/// Coordinates of z stay within ±LIMIT: norms and products of two stay finite in f32.
const LIMIT: f32 = 1e15;

/// Centre and rotation: `z = P·(x − c)·s`.
///
/// s is a power of two that brings the training rows to a magnitude near 1, so that huge and tiny data
/// lose nothing; what a method stores of z is in these units, and [`Query`] gives estimates in those of x.
#[derive(Clone, Debug)]
pub struct Frame {
    centre: Centre,
    turned: Turned,
}

#[derive(Clone, Debug)]
enum Turned {
    /// From a seed, which is what a model keeps.
    Drawn(Turn, u64, Option<Rotation>),
    Learned(Rotation),
    /// Coordinate `i` of z is this one of x.
    Sorted(Vec<usize>),
}

/// Some coordinates of z.
pub(crate) struct SomeCoordinates<'a> {
    frame: &'a Frame,
    some: Range<usize>,
    /// What they are products with, where z is a product with a matrix.
    rows: Option<Panels>,
}

impl SomeCoordinates<'_> {
    /// Writes those of the rows `x` (n, d) into `to` (n, coordinates). Single-threaded.
    pub(crate) fn write(&self, x: ArrayView2<'_, f32>, mut to: ArrayViewMut2<'_, f32>) {
        let mut z = Array2::zeros(x.dim());
        if let Some(rows) = &self.rows {
            self.frame.write_centred(x, z.view_mut());
            rows.scores(z.view(), to);
        } else {
            self.frame.write(x, z.view_mut());
            to.assign(&z.slice_axis(Axis(1), Slice::from(self.some.clone())));
        }
    }
}

impl Frame {
    /// No centre and no rotation yet, for `dim` dimensions: z = x.
    #[must_use]
    pub fn none(dim: usize) -> Self {
        Frame { centre: Centre::none(dim), turned: Turned::drawn(Turn::None, 0, dim) }
    }

    /// Learns the centre from the rows `x` (n, d) and draws the rotation from `seed`. O(n·d), and what the
    /// rotation costs.
    ///
    /// # Errors
    /// No rows, or a row that is not finite.
    pub fn drawn(
        x: ArrayView2<'_, f32>,
        centring: Centring,
        turn: Turn,
        seed: u64,
    ) -> Result<Self, Error> {
        let centre = Self::centre_of(x, centring)?;
        Ok(Frame { turned: Turned::drawn(turn, seed, x.ncols()), centre })
    }

    /// Learns the centre from the rows `x` (n, d), and the order of their coordinates by falling variance, which
    /// z has: for codes that spend more on the first ones. O(n·d).
    ///
    /// # Errors
    /// No rows, or a row that is not finite.
    pub fn sorted(x: ArrayView2<'_, f32>, centring: Centring) -> Result<Self, Error> {
        let centre = Self::centre_of(x, centring)?;
        let Ok((_, deviation)) =
            mean_and_deviation(x, &mut |_| Ok::<(), std::convert::Infallible>(()));
        let mut order: Vec<usize> = (0..x.ncols()).collect();
        order.sort_by(|a, b| deviation[*b].total_cmp(&deviation[*a]));
        Ok(Frame { centre, turned: Turned::Sorted(order) })
    }

    /// A centre and a rotation of the caller's, both of d dimensions.
    #[must_use]
    pub fn learned(centre: Centre, rotation: Rotation) -> Self {
        Frame { centre, turned: Turned::Learned(rotation) }
    }

    /// A centre alone: z = (x − c)·s.
    #[must_use]
    pub fn centred(centre: Centre) -> Self {
        let dim = centre.shift.len();
        Frame { centre, turned: Turned::drawn(Turn::None, 0, dim) }
    }

    /// Centre and scale of the rows `x` (n, d). O(n·d).
    ///
    /// # Errors
    /// No rows, or a row that is not finite.
    pub fn centre_of(x: ArrayView2<'_, f32>, centring: Centring) -> Result<Centre, Error> {
        if x.nrows() == 0 {
            return Err(Error::failed("no rows to train on"));
        }
        if let Some(row) = x.outer_iter().position(|row| row.iter().any(|x| !x.is_finite())) {
            return Err(Error::failed(format!("training row {row} is not finite")));
        }
        Ok(match centring {
            Centring::Mean => Centre::about(&mean(x), x),
            Centring::None => Centre::about(&vec![0.0; x.ncols()], x),
        })
    }

    /// z (n, d) of the rows `x` (n, d). NaN counts as far away. On all threads of the current rayon pool.
    ///
    /// # Panics
    /// When the rows have another dimension.
    #[must_use]
    pub fn apply(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut z = Array2::zeros(x.dim());
        let blocks = z.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter();
        blocks.zip(x.axis_chunks_iter(Axis(0), BLOCK)).for_each(|(z, x)| self.write(x, z));
        z
    }

    /// Rows that are best written at a time where more follows: as many as share the fetching of a matrix, or few,
    /// which stay in the first-level cache.
    pub(super) fn rows_at_once(&self) -> usize {
        match self.turned {
            Turned::Drawn(Turn::Dense, ..) | Turned::Learned(_) => 64,
            Turned::Drawn(..) | Turned::Sorted(_) => 16,
        }
    }

    /// Writes z of the rows `x` into `z`, both (n, d); as [`apply`](Self::apply) on one thread.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn write(&self, x: ArrayView2<'_, f32>, mut z: ArrayViewMut2<'_, f32>) {
        assert_eq!(x.dim(), z.dim(), "shape of the rows");
        self.write_centred(x, z.view_mut());
        self.turned.apply_in_place(z);
    }

    fn write_centred(&self, x: ArrayView2<'_, f32>, mut z: ArrayViewMut2<'_, f32>) {
        let x = x.as_standard_layout();
        for (x, mut to) in x.outer_iter().zip(z.outer_iter_mut()) {
            if let (Some(x), Some(to)) = (x.to_slice(), to.as_slice_mut()) {
                Path::fastest().run(
                    #[inline(always)]
                    || centred(&self.centre.shift, self.centre.scale, x, to),
                );
            }
        }
    }

    /// What writes coordinates `some` of z alone.
    pub(crate) fn coordinates(&self, some: Range<usize>) -> SomeCoordinates<'_> {
        let rows = self.parts().and_then(|(_, rotation)| rotation.some_rows(some.clone()));
        SomeCoordinates { frame: self, some, rows }
    }

    /// What rows are centred and rotated by, where they are rotated. Coordinates that are centred are bounded between
    /// the two, by 1e15.
    pub(crate) fn parts(&self) -> Option<(&Centre, &Rotation)> {
        match &self.turned {
            Turned::Drawn(_, _, rotation) => {
                rotation.as_ref().map(|rotation| (&self.centre, rotation))
            }
            Turned::Learned(rotation) => Some((&self.centre, rotation)),
            Turned::Sorted(_) => None,
        }
    }

    /// Writes `x = c + scale·Pᵀ·y / s` for each row of `y` (n, d), one of `scales` (n) each, into `x` (n,
    /// d). Finite where y and scales are and y is within ±1e15. Single-threaded.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn restore(&self, y: ArrayView2<'_, f32>, scales: &[f32], mut x: ArrayViewMut2<'_, f32>) {
        assert_eq!(scales.len(), x.nrows(), "one scale per row");
        self.turned.invert(y, x.view_mut());
        for (mut x, scale) in x.outer_iter_mut().zip(scales) {
            back(&self.centre, *scale, x.view_mut());
        }
    }

    /// What estimates for the query `q` (d) need.
    ///
    /// # Panics
    /// When the query has another dimension.
    #[must_use]
    pub fn query(&self, q: &[f32], metric: Metric) -> Query {
        self.query_as(q, Form::of_values(metric))
    }

    /// As [`query`](Self::query), for unbiased estimates of ⟨z, y⟩; where rows x are of unit length, from
    /// distances: ⟨q, x⟩ = (‖q‖² + 1 − ‖q − x‖²)/2. An estimate errs in proportion to ‖q − c‖ then, not to
    /// ‖q‖, and takes no more bytes.
    ///
    /// # Panics
    /// When the query has another dimension.
    #[must_use]
    pub fn estimator(&self, q: &[f32], metric: Metric) -> Query {
        self.query_as(q, Form::of_estimates(metric))
    }

    /// As [`query`](Self::query) for inner products, of a row of which ⟨z, P·c·s⟩ is known: where
    /// [`Query::estimate`] says the squared norm it takes that, and errs in proportion to ‖q − c‖.
    ///
    /// # Panics
    /// When the query has another dimension.
    #[must_use]
    pub fn centred_product(&self, q: &[f32]) -> Query {
        self.query_as(q, Form::CentredProduct)
    }

    /// P·c·s, (d).
    #[must_use]
    pub fn centre(&self) -> Vec<f32> {
        self.turned.turn(&self.centre.shift)
    }

    fn query_as(&self, q: &[f32], form: Form) -> Query {
        Query::new(&self.centre, q, form, |centred| self.turned.turn(centred))
    }

    /// The square of 1 in the units of the frame: s².
    #[must_use]
    pub fn unit_sq(&self) -> f64 {
        f64::from(self.centre.scale).powi(2)
    }

    /// Bytes of the centre and of what the rotation is made from.
    #[must_use]
    pub fn model_bytes(&self) -> u64 {
        let d = self.centre.shift.len() as u64;
        let turned = match self.turned {
            Turned::Drawn(..) => 8,
            Turned::Learned(_) => 4 * d * d,
            Turned::Sorted(_) => 8 * d,
        };
        4 * (1 + d) + turned
    }

    /// Appends centre and rotation to a model: the seed of a drawn one, which means the same with every
    /// release, the matrix of a learned one.
    #[must_use]
    pub fn save(&self, model: ModelWriter) -> ModelWriter {
        let model = model.f32s([self.centre.scale]).f32s(self.centre.shift.iter().copied());
        match &self.turned {
            Turned::Drawn(turn, seed, _) => model.u64(*turn as u64).u64(*seed),
            Turned::Learned(rotation) => model.u64(LEARNED).f32s(rotation.matrix()),
            Turned::Sorted(order) => {
                order.iter().fold(model.u64(SORTED), |model, from| model.u64(*from as u64))
            }
        }
    }

    /// Reads what [`save`](Self::save) appended, for `dim` dimensions.
    ///
    /// # Errors
    /// Anything that no frame has.
    pub fn load(dim: usize, model: &mut ModelReader<'_>) -> Result<Self, Error> {
        let (scale, shift) = (model.f32s(1)?[0], model.f32s(dim)?);
        if scale <= 0.0 {
            return Err(Error::failed(format!("scale {scale} is not above 0")));
        }
        let kind = model.u64()?;
        let turned = match [Turn::None, Turn::Hadamard, Turn::Dense].get(kind as usize) {
            Some(turn) => Turned::drawn(*turn, model.u64()?, dim),
            None if kind == LEARNED => {
                let matrix = model.matrix(dim, dim)?;
                if matrix.iter().any(|value| value.abs() > 1.001) {
                    return Err(Error::failed("the matrix is no rotation"));
                }
                Turned::Learned(Rotation::of(matrix.view()))
            }
            None if kind == SORTED => {
                let mut order = Vec::new();
                let mut seen = vec![false; dim];
                for _ in 0..dim {
                    let from = model.u64()?;
                    let seen = usize::try_from(from).ok().and_then(|from| seen.get_mut(from));
                    match seen {
                        Some(seen) if !*seen => *seen = true,
                        _ => return Err(Error::failed("no order of the dimensions")),
                    }
                    order.push(from as usize);
                }
                Turned::Sorted(order)
            }
            None => return Err(Error::failed(format!("rotation {kind} is unknown"))),
        };
        Ok(Frame { centre: Centre { scale, shift }, turned })
    }
}

/// Stands for a matrix in a model, where others have the number of their [`Turn`].
const LEARNED: u64 = 3;

/// Stands for an order.
const SORTED: u64 = 4;

impl Turned {
    fn drawn(turn: Turn, seed: u64, dim: usize) -> Self {
        let rotation = match turn {
            Turn::None => None,
            Turn::Hadamard => Some(Rotation::hadamard(dim, seed)),
            Turn::Dense => Some(Rotation::dense(dim, seed)),
        };
        Turned::Drawn(turn, seed, rotation)
    }

    /// One row `x`, (d).
    fn turn(&self, x: &[f32]) -> Vec<f32> {
        let mut z = aview1(x).insert_axis(Axis(0)).to_owned();
        self.apply_in_place(z.view_mut());
        z.into_raw_vec_and_offset().0
    }

    fn apply_in_place(&self, mut rows: ArrayViewMut2<'_, f32>) {
        match self {
            Turned::Drawn(_, _, Some(rotation)) | Turned::Learned(rotation) => {
                rotation.apply_in_place(rows);
            }
            Turned::Drawn(_, _, None) => (),
            Turned::Sorted(order) => {
                let mut x = vec![0.0; order.len()];
                for mut row in rows.outer_iter_mut() {
                    x.iter_mut().zip(&row).for_each(|(to, from)| *to = *from);
                    row.iter_mut().zip(order).for_each(|(to, from)| *to = x[*from]);
                }
            }
        }
    }

    fn invert(&self, z: ArrayView2<'_, f32>, mut to: ArrayViewMut2<'_, f32>) {
        match self {
            Turned::Drawn(_, _, Some(rotation)) | Turned::Learned(rotation) => {
                rotation.invert(z, to);
            }
            Turned::Drawn(_, _, None) => to.assign(&z),
            Turned::Sorted(order) => {
                for (z, mut to) in z.outer_iter().zip(to.outer_iter_mut()) {
                    z.iter().zip(order).for_each(|(z, at)| to[*at] = *z);
                }
            }
        }
    }
}

/// `x = c + scale·y / s`, where `x` (d) holds y.
pub(super) fn back(centre: &Centre, scale: f32, mut x: ArrayViewMut1<'_, f32>) {
    let unscale = 1.0 / f64::from(centre.scale);
    let end = f64::from(f32::MAX);
    for (x, shift) in x.iter_mut().zip(&centre.shift) {
        let value = f64::from(*shift) + f64::from(scale) * f64::from(*x);
        *x = (value * unscale).clamp(-end, end) as f32;
    }
}

/// `x·scale − shift`, within ±LIMIT. A function, whose arguments are known not to overlap: a closure's would be
/// read again for each coordinate.
#[inline(always)]
fn centred(shift: &[f32], scale: f32, x: &[f32], to: &mut [f32]) {
    for ((to, x), shift) in to.iter_mut().zip(x).zip(shift) {
        *to = bounded(x * scale - shift);
    }
}

/// `x` within ±LIMIT.
#[expect(clippy::manual_clamp, reason = "a NaN becomes −LIMIT, where clamp would keep it")]
#[inline(always)]
pub(super) fn bounded(x: f32) -> f32 {
    x.max(-LIMIT).min(LIMIT)
}

/// What an estimate is made of.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// ‖q − x‖².
    Distance,
    /// ⟨q, x⟩ from ⟨q, x − c⟩.
    Product,
    /// ⟨q, x⟩ from ⟨q − c, x − c⟩ and ⟨x − c, c⟩.
    CentredProduct,
    /// ⟨q, x⟩ from ‖q − x‖², for ‖x‖ = 1.
    UnitProduct,
}

impl Form {
    /// For the values of decoded rows.
    pub(super) fn of_values(metric: Metric) -> Self {
        if metric == Metric::L2 { Form::Distance } else { Form::Product }
    }

    /// For unbiased estimates.
    pub(super) fn of_estimates(metric: Metric) -> Self {
        match metric {
            Metric::L2 => Form::Distance,
            Metric::Ip => Form::Product,
            Metric::Cosine => Form::UnitProduct,
        }
    }
}

/// A query in a [`Frame`]: with `⟨z, y⟩` estimated from a code, the rest of an estimate is the same for
/// all methods.
#[derive(Clone, Debug)]
pub struct Query {
    /// `P·(q − c)·s` for distances, `P·q·s` for inner products, (d).
    pub z: Vec<f32>,
    /// ‖z‖.
    pub norm: f64,
    pub(super) constant: f64,
    pub(super) of_norm: f64,
    pub(super) of_inner: f64,
    unit: f64,
}

impl Query {
    /// Of `q` (d), `turn` making z of its centred coordinates.
    pub(super) fn new(
        Centre { scale, shift }: &Centre,
        q: &[f32],
        form: Form,
        turn: impl FnOnce(&[f32]) -> Vec<f32>,
    ) -> Self {
        let moves = form != Form::Product;
        let moved = q.iter().zip(shift);
        let centred: Vec<f32> =
            moved.map(|(q, shift)| bounded(q * scale - if moves { *shift } else { 0.0 })).collect();
        let constant = match form {
            // ⟨q, x⟩ = ⟨q, c⟩ + ⟨q, x − c⟩.
            Form::Product => dot(&centred, shift),
            // ⟨q, x⟩ = ⟨q, c⟩ + ⟨x − c, c⟩ + ⟨q − c, x − c⟩.
            Form::CentredProduct => dot(&centred, shift) + norm_sq(shift),
            Form::Distance | Form::UnitProduct => norm_sq(&centred),
        };
        let z = turn(&centred);
        let unit = f64::from(*scale).powi(-2);
        let (constant, of_norm, of_inner) = match form {
            Form::Distance => (unit * constant, unit, -2.0 * unit),
            Form::Product => (unit * constant, 0.0, unit),
            Form::CentredProduct => (unit * constant, unit, unit),
            Form::UnitProduct => ((norm_sq(q) + 1.0 - unit * constant) / 2.0, -unit / 2.0, unit),
        };
        Query { norm: norm_sq(&z).sqrt(), z, constant, of_norm, of_inner, unit }
    }

    /// The estimate in the units of the metric, from `inner`, the estimate of ⟨z, y⟩, and `norm_sq` = ‖y‖²
    /// where y is the row in the frame: `‖z‖² + ‖y‖² − 2⟨z, y⟩`, or `⟨q, c⟩ + ⟨z, y⟩`.
    #[must_use]
    #[inline(always)]
    pub fn estimate(&self, inner: f64, norm_sq: f64) -> f32 {
        finite(self.constant + self.of_norm * norm_sq + self.of_inner * inner)
    }

    /// The half-width of an estimate's error from that of `inner`.
    #[must_use]
    #[inline(always)]
    pub fn half_width(&self, inner: f64) -> f32 {
        finite(self.of_inner.abs() * inner)
    }

    /// Tables whose sums are estimates in the units of the metric, from tables of [`z`](Self::z) whose sums
    /// are in those of the frame: distances, or products with z.
    #[must_use]
    pub fn tables(&self, of_z: Tables) -> Tables {
        // Sums of distances have ‖z‖² in them.
        of_z.scaled(self.unit, if self.of_norm > 0.0 { 0.0 } else { self.constant })
    }
}

#[inline(always)]
fn finite(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use vq_kernels::Draw;

    fn rows(n: usize, d: usize, scale: f32, offset: f32) -> Array2<f32> {
        let mut draw = Draw::new(5);
        Array2::from_shape_simple_fn((n, d), || scale * (offset + draw.normal() as f32))
    }

    #[test]
    fn rows_come_back_and_estimates_are_exact_for_exact_products() {
        for (turn, metric, scales) in [
            (Turn::None, Metric::L2, &[1.0, 1e-15, 1e15][..]),
            (Turn::Hadamard, Metric::Ip, &[1.0, 1e-15, 1e15]),
            (Turn::Dense, Metric::L2, &[1.0, 1e-15, 1e15]),
            (Turn::Dense, Metric::Ip, &[1.0, 1e-15, 1e15]),
            (Turn::Dense, Metric::Cosine, &[1.0]),
        ] {
            for &scale in scales {
                let mut x = rows(50, 13, scale, 9.0);
                if metric == Metric::Cosine {
                    for mut row in x.outer_iter_mut() {
                        let norm = norm_sq(&row.to_vec()).sqrt() as f32;
                        row /= norm;
                    }
                }
                let frame = Frame::drawn(x.view(), Centring::Mean, turn, 3).unwrap();
                let y = frame.apply(x.view());
                let mut back = Array2::zeros(x.dim());
                frame.restore(y.view(), &[1.0; 50], back.view_mut());
                assert!((&back - &x).iter().all(|error| error.abs() < 1e-5 * scale));
                let q = x.row(7).to_vec();
                let query = frame.estimator(&q, metric);
                for (x, y) in x.outer_iter().zip(y.outer_iter()) {
                    let (x, y) = (x.to_vec(), y.to_vec());
                    let exact = match metric {
                        Metric::L2 => vq_kernels::distance::l2_sq(&q, &x),
                        _ => dot(&q, &x),
                    };
                    let found = f64::from(query.estimate(dot(&query.z, &y), norm_sq(&y)));
                    assert!((found - exact).abs() < 1e-4 * norm_sq(&q), "{found} {exact}");
                }
            }
        }
    }

    #[test]
    fn a_model_gives_the_same_bits_again_and_damage_is_refused() {
        let x = rows(40, 6, 1.0, 2.0);
        let centre = Frame::centre_of(x.view(), Centring::None).unwrap();
        let learned = Frame::learned(centre, Rotation::dense(6, 8));
        let drawn = [Turn::None, Turn::Hadamard, Turn::Dense]
            .map(|turn| Frame::drawn(x.view(), Centring::Mean, turn, 3).unwrap());
        let sorted = Frame::sorted(x.view(), Centring::Mean).unwrap();
        for frame in drawn.iter().chain([&learned, &sorted]) {
            let model = frame.save(ModelWriter::new()).finish();
            let again = Frame::load(6, &mut ModelReader::new(&model)).unwrap();
            assert_eq!(again.apply(x.view()), frame.apply(x.view()));
            assert_eq!(again.save(ModelWriter::new()).finish(), model);
            for cut in 0..model.len() {
                assert!(Frame::load(6, &mut ModelReader::new(&model[..cut])).is_err());
            }
        }
    }

    #[test]
    fn sorted_coordinates_vary_less_and_less_and_come_back() {
        let spread = [1.0, 5.0, 0.0, 3.0, 5.0];
        let mut x = rows(60, 5, 1.0, 2.0);
        x.outer_iter_mut().for_each(|mut row| row *= &ndarray::arr1(&spread));
        let frame = Frame::sorted(x.view(), Centring::Mean).unwrap();
        let z = frame.apply(x.view());
        let variances: Vec<f32> = z.columns().into_iter().map(|z| z.var(0.0)).collect();
        assert!(variances.is_sorted_by(|a, b| a >= b) && variances[4] == 0.0, "{variances:?}");
        let mut back = Array2::zeros(x.dim());
        frame.restore(z.view(), &[1.0; 60], back.view_mut());
        assert!((&back - &x).iter().all(|error| error.abs() < 1e-5));
    }

    #[test]
    fn exact_products_about_the_centre_give_exact_estimates() {
        let x = rows(50, 7, 3.0, 2.0);
        let frame = Frame::drawn(x.view(), Centring::Mean, Turn::Dense, 3).unwrap();
        let (y, centre) = (frame.apply(x.view()), frame.centre());
        let q = x.row(7).to_vec();
        let query = frame.centred_product(&q);
        for (x, y) in x.outer_iter().zip(y.outer_iter()) {
            let (x, y) = (x.to_vec(), y.to_vec());
            let found = f64::from(query.estimate(dot(&query.z, &y), dot(&y, &centre)));
            assert!((found - dot(&q, &x)).abs() < 1e-4 * norm_sq(&q), "{found}");
        }
    }

    #[test]
    fn rows_of_no_numbers_stay_within_the_limit_and_decode_to_finite_ones() {
        let frame =
            Frame::drawn(rows(40, 5, 1.0, 0.0).view(), Centring::Mean, Turn::Dense, 1).unwrap();
        let odd = ndarray::arr2(&[[f32::NAN; 5], [f32::INFINITY; 5], [f32::MIN; 5]]);
        let z = frame.apply(odd.view());
        assert!(z.iter().all(|z| z.abs() < 1e16));
        let mut back = Array2::zeros((3, 5));
        frame.restore(z.view(), &[f32::MAX; 3], back.view_mut());
        assert!(back.iter().all(|x| x.is_finite()));
        assert!(Frame::drawn(odd.view(), Centring::Mean, Turn::None, 1).is_err());
    }
}
