//! Rows to learn from, taken from those that the host lends without a copy of them all.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, CowArray, Ix2, Slice};

/// All rows of (n, d), or some of them.
///
/// ```
/// use vq_blocks::Rows;
/// use vq_plugin_api::ndarray::array;
///
/// let x = array![[0.0], [1.0], [2.0]];
/// let rows = Rows::chosen(x.view(), &[0, 2]);
/// assert_eq!((rows.count(), rows.block(1..2)), (2, array![[2.0]].into()));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    x: ArrayView2<'a, f32>,
    chosen: Option<&'a [usize]>,
}

impl<'a> From<ArrayView2<'a, f32>> for Rows<'a> {
    fn from(x: ArrayView2<'a, f32>) -> Self {
        Self { x, chosen: None }
    }
}

impl<'a> Rows<'a> {
    /// The rows `chosen` of `x` (n, d). An error that names a row counts among these.
    ///
    /// # Panics
    /// When one is beyond n.
    #[must_use]
    pub fn chosen(x: ArrayView2<'a, f32>, chosen: &'a [usize]) -> Self {
        assert!(chosen.iter().all(|row| *row < x.nrows()), "rows of {}", x.nrows());
        Self { x, chosen: Some(chosen) }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.chosen.map_or(self.x.nrows(), <[usize]>::len)
    }

    /// d.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.x.ncols()
    }

    /// All at once, where these are all.
    pub(crate) fn whole(&self) -> Option<ArrayView2<'a, f32>> {
        self.chosen.is_none().then_some(self.x)
    }

    /// The rows `range` of these (rows, d), a copy where they are not neighbours.
    ///
    /// # Panics
    /// When the range is beyond the last.
    #[must_use]
    pub fn block(&self, range: Range<usize>) -> CowArray<'a, f32, Ix2> {
        match self.chosen {
            None => self.x.slice_axis_move(Axis(0), Slice::from(range)).into(),
            Some(chosen) => {
                let mut rows = Array2::zeros((range.len(), self.dim()));
                for (mut row, chosen) in rows.outer_iter_mut().zip(&chosen[range]) {
                    row.assign(&self.x.row(*chosen));
                }
                rows.into()
            }
        }
    }

    /// Ranges of `size` rows each, the last of what is left.
    ///
    /// # Panics
    /// When `size` is 0.
    pub fn blocks(&self, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let count = self.count();
        (0..count).step_by(size).map(move |first| first..count.min(first + size))
    }
}
