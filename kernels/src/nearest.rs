//! The nearest of many rows: the index that [`Panels::nearest`] finds, found through
//! [16-bit integers](crate::int16) where the machine multiplies those faster.
//!
//! Integer scores and a bound of their error decide nearly every vector: where the best score is ahead
//! of the second by more, it is that of the nearest row. For the rest the scores as
//! [`panels`](crate::panels) defines them decide. The answer is the same with 16-bit integers and without.

use ndarray::{ArrayView2, Axis, s};

use crate::Panels;
use crate::centre::Centre;
use crate::int16::{Int16Panels, MaxNorm};
use crate::panels::contiguous_rows;

/// With fewer rows rounding the vectors costs more than it saves.
const LEAST_ROWS: usize = 8;

/// Vectors that 16-bit integers decide between two looks at how many were left open.
const DECIDED: usize = 1024;

/// Vectors that are centred at a time where 16-bit integers do not do it on the way.
const CENTRED: usize = 256;

/// Rows (rows, d) packed for [`assign`](Self::assign).
///
/// Memory: at most 6·d + 14 bytes per row.
///
/// ```
/// use ndarray::array;
/// use vq_kernels::Nearest;
///
/// let nearest = Nearest::for_l2(array![[0.0, 0.0], [4.0, 3.0]].view());
/// let mut index = [0; 2];
/// nearest.assign(array![[4.0, 2.0], [1.0, 1.0]].view(), &mut index);
/// assert_eq!(index, [1, 0]);
/// ```
#[derive(Clone, Debug)]
pub struct Nearest {
    centre: Centre,
    panels: Panels,
    int16: Option<Int16Panels>,
}

impl Nearest {
    /// Packs `rows` (rows, d) to find the row of least ‖x − r‖².
    #[must_use]
    pub fn for_l2(rows: ArrayView2<'_, f32>) -> Self {
        // Residuals are far longer than their centroids.
        Self::for_l2_within(rows, MaxNorm::TimesLargestRow(4.0))
    }

    /// As [`for_l2`](Self::for_l2), fastest for vectors within `reach`.
    pub(crate) fn for_l2_within(rows: ArrayView2<'_, f32>, reach: MaxNorm) -> Self {
        let panels = Panels::for_l2(rows);
        let mut int16 = Int16Panels::default();
        let used = rows.nrows() >= LEAST_ROWS && int16.pack_l2(rows, reach);
        let int16 = used.then_some(int16);
        Self { centre: Centre::none(rows.ncols()), panels, int16 }
    }

    /// As [`for_l2`](Self::for_l2), wherever the rows lie: scores are f32 with ‖r‖² in them, and carry
    /// the digits of the distances only where these are not far smaller. So rows and vectors are
    /// centred on the mean of the rows and scaled by a power of two first.
    #[must_use]
    pub fn for_l2_centred(rows: ArrayView2<'_, f32>) -> Self {
        let centre = Centre::about(&mean(rows), rows);
        let mut centred = Vec::new();
        let rows = centre.centred(rows, &mut centred);
        let panels = Panels::for_l2(rows);
        let mut int16 = Int16Panels::default();
        let used =
            rows.nrows() >= LEAST_ROWS && int16.pack_to_decide(rows, MaxNorm::TimesLargestRow(2.0));
        Self { centre, panels, int16: used.then_some(int16) }
    }

    /// The same rows, for scores.
    #[must_use]
    pub fn panels(&self) -> &Panels {
        &self.panels
    }

    /// What vectors are centred on.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn centre(&self) -> &Centre {
        &self.centre
    }

    /// The same rows as integers, where those are fast.
    pub(crate) fn int16(&self) -> Option<&Int16Panels> {
        self.int16.as_ref()
    }

    /// Writes for every vector of `x` (n, d) the index of the nearest row into `index` (n).
    ///
    /// Ties and numbers that are none as for [`Panels::nearest`]. Any strides; a unit column stride
    /// is fast. Single-threaded, O(n·rows·d); allocates scratch once per call.
    ///
    /// # Panics
    /// When the shapes disagree, or there is a vector but no row.
    pub fn assign(&self, x: ArrayView2<'_, f32>, index: &mut [u32]) {
        assert_eq!(x.ncols(), self.panels.dim(), "dimension of the vectors");
        assert_eq!(index.len(), x.nrows(), "length of the indices");
        let decided = self.int16.as_ref().map_or(0, |int16| self.assign_by_int16(int16, x, index));
        let (x, index) = (x.split_at(Axis(0), decided).1, &mut index[decided..]);
        if self.centre.is_none() {
            return self.panels.nearest(x, index, &mut vec![0.0; x.nrows()]);
        }
        let mut centred = Vec::new();
        let mut scores = [0.0; CENTRED];
        for (x, index) in x.axis_chunks_iter(Axis(0), CENTRED).zip(index.chunks_mut(CENTRED)) {
            let x = self.centre.centred(x, &mut centred);
            self.panels.nearest(x, index, &mut scores[..index.len()]);
        }
    }

    /// Assigns the first vectors and answers how many: all, unless too many are left to the panels.
    fn assign_by_int16(
        &self,
        int16: &Int16Panels,
        x: ArrayView2<'_, f32>,
        index: &mut [u32],
    ) -> usize {
        let x = contiguous_rows(x);
        let (mut open, mut rest) = (Vec::new(), Vec::new());
        let (mut found, mut scores) = (Vec::new(), Vec::new());
        let mut done = 0;
        for index in index.chunks_mut(DECIDED) {
            let x = x.slice(s![done..done + index.len(), ..]);
            open.clear();
            int16.decide(&self.centre, x, index, &mut open);
            // One vector that is left open costs as much as 16-bit integers save on one or two.
            if 3 * open.len() > index.len() {
                return done;
            }
            rest.clear();
            for &i in &open {
                let row = x.index_axis_move(Axis(0), i as usize);
                self.centre.append(row.to_slice().expect("columns are contiguous"), &mut rest);
            }
            let rest = ArrayView2::from_shape((open.len(), x.ncols()), &rest).expect("whole rows");
            found.resize(open.len(), 0);
            scores.resize(open.len(), 0.0);
            self.panels.nearest(rest, &mut found, &mut scores);
            for (&i, found) in open.iter().zip(&found) {
                index[i as usize] = *found;
            }
            done += index.len();
        }
        done
    }
}

/// The mean of `rows`, each term divided before it is added.
fn mean(rows: ArrayView2<'_, f32>) -> Vec<f64> {
    let mut mean = vec![0.0_f64; rows.ncols()];
    for row in rows.outer_iter() {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += f64::from(*value) / rows.nrows() as f64;
        }
    }
    mean
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::distance::norm_sq;
    use ndarray::Array2;
    use proptest::prelude::*;

    pub(crate) fn noise(n: usize, d: usize, seed: u32, kind: usize) -> Array2<f32> {
        let mut state = u64::from(seed) + 1;
        Array2::from_shape_simple_fn((n, d), || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bits = (state >> 40) as u32;
            let even = bits as f32 / (1 << 23) as f32 - 1.0;
            match kind {
                // Few values: ties are common.
                0 => (even * 3.0).round(),
                1 => even,
                // A wide range: most of it is lost to eight bits.
                2 => even * even.mul_add(20.0, -3.0).exp2(),
                3 => even * 1e-20,
                _ => even * 1e18,
            }
        })
    }

    proptest! {
        #[test]
        fn integers_change_no_answer(
            n in 0_usize..150,
            rows in 1_usize..700,
            dim in 1_usize..90,
            kinds in (0_usize..5, 0_usize..5),
            near in any::<bool>(),
            spoilt in 0_usize..4,
            twins in prop::option::of(prop::sample::select(vec![1e-7_f32, 1e-6, 1e-5, 1e-4])),
            seed in any::<u32>(),
        ) {
            let mut rows = noise(rows, dim, seed, kinds.0);
            if let Some(apart) = twins {
                // Every second row is nearly the one before.
                for r in (1..rows.nrows()).step_by(2) {
                    let twin = rows.row(r - 1).mapv(|value| value * (1.0 + apart));
                    rows.row_mut(r).assign(&twin);
                }
            }
            let mut x = noise(n, dim, seed ^ 1, kinds.1);
            if near {
                // As in k-means: vectors beside rows.
                for (i, mut x) in x.outer_iter_mut().enumerate() {
                    x *= 0.01;
                    x += &rows.row(i % rows.nrows());
                }
            }
            if n > 0 && spoilt > 0 {
                x[[n / 2, dim / 2]] = [f32::NAN, f32::INFINITY, f32::MAX][spoilt - 1];
            }
            let panels = Panels::for_l2(rows.view());
            let (mut expected, mut score) = (vec![7; n], vec![0.0; n]);
            panels.nearest(x.view(), &mut expected, &mut score);
            let mut twos = Int16Panels::default();
            let in_twos = rows.nrows().is_multiple_of(2)
                && twos.pack_in_twos(rows.view(), MaxNorm::TimesLargestRow(2.0));
            let reach = x.outer_iter().map(|x| norm_sq(x.as_slice().unwrap()).sqrt());
            let reach = reach.fold(0.0, f64::max);
            for nearest in [
                Nearest::for_l2(rows.view()),
                Nearest::for_l2_within(rows.view(), MaxNorm::TimesLargestRow(2.0)),
                Nearest::for_l2_within(rows.view(), MaxNorm::Of(reach)),
                // Most vectors are beyond it.
                Nearest::for_l2_within(rows.view(), MaxNorm::Of(reach * 0.1)),
                // Twins are mates, or mates are near each other.
                Nearest {
                    int16: in_twos.then_some(twos),
                    ..Nearest::for_l2(rows.view())
                },
            ] {
                let mut found = vec![9; n];
                nearest.assign(x.view(), &mut found);
                prop_assert_eq!(&found, &expected);
                // Column-major.
                let turned = x.t().as_standard_layout().into_owned();
                found.fill(9);
                nearest.assign(turned.t(), &mut found);
                prop_assert_eq!(&found, &expected);
            }
        }

        #[test]
        fn halfway_between_mates_both_are_looked_at(
            dim in 1_usize..40,
            close in prop::sample::select(vec![1e-7_f32, 1e-6, 1e-4, 1e-2]),
            seed in any::<u32>(),
        ) {
            // The first two are mates; what is beside them lies far off.
            let mut rows = noise(8, dim, seed, 1);
            for (r, mut row) in rows.outer_iter_mut().enumerate().skip(2) {
                row += 10.0 * (r / 2) as f32;
            }
            let middle = (&rows.row(0) + &rows.row(1)) * 0.5;
            let x = noise(200, dim, seed ^ 1, 1) * close + &middle;
            let (mut expected, mut score) = (vec![7; 200], vec![0.0; 200]);
            Panels::for_l2(rows.view()).nearest(x.view(), &mut expected, &mut score);
            let mut twos = Int16Panels::default();
            let packed = twos.pack_in_twos(rows.view(), MaxNorm::TimesLargestRow(2.0));
            let int16 = packed.then_some(twos);
            let mut found = vec![9; 200];
            Nearest { int16, ..Nearest::for_l2(rows.view()) }.assign(x.view(), &mut found);
            prop_assert_eq!(&found, &expected);
        }

        #[test]
        fn centring_is_part_of_the_definition(
            n in 0_usize..150,
            rows in 1_usize..300,
            dim in prop_oneof![1_usize..9, 1_usize..130],
            offset in prop::sample::select(vec![0.0_f32, -3.5, 1e4]),
            seed in any::<u32>(),
        ) {
            let rows = noise(rows, dim, seed, 1) + offset;
            let x = noise(n, dim, seed ^ 1, 1) + offset;
            let nearest = Nearest::for_l2_centred(rows.view());
            let Centre { scale, shift } = &nearest.centre;
            let centred = |rows: &Array2<f32>| {
                Array2::from_shape_fn(rows.dim(), |(i, t)| rows[[i, t]] * scale - shift[t])
            };
            let panels = Panels::for_l2(centred(&rows).view());
            let (mut expected, mut score) = (vec![7; n], vec![0.0; n]);
            panels.nearest(centred(&x).view(), &mut expected, &mut score);
            let mut found = vec![9; n];
            nearest.assign(x.view(), &mut found);
            prop_assert_eq!(&found, &expected);
            let without = Nearest { int16: None, ..nearest };
            without.assign(x.view(), &mut found);
            prop_assert_eq!(&found, &expected);
        }
    }
}
