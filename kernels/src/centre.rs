//! Rows brought near the origin and to a magnitude near 1: `x·scale − shift`, for arithmetic in f32 that
//! would lose the digits of distances far from the origin.

use ndarray::ArrayView2;

use crate::panels::contiguous_rows;

/// `x·scale − shift`, rounded to f32 after either step.
#[derive(Clone, Debug)]
pub struct Centre {
    /// A power of two, so that it rounds nothing.
    pub scale: f32,
    /// Scaled, (d).
    pub shift: Vec<f32>,
}

impl Centre {
    /// What changes nothing, for `dim` dimensions.
    #[must_use]
    pub fn none(dim: usize) -> Self {
        Self { scale: 1.0, shift: vec![0.0; dim] }
    }

    /// About `mean` (d), the mean of `rows` (n, d); their largest centred magnitude is in 1..2.
    #[must_use]
    pub fn about(mean: &[f64], rows: ArrayView2<'_, f32>) -> Self {
        let mut largest = 0.0_f64;
        for row in rows.outer_iter() {
            for (mean, value) in mean.iter().zip(row) {
                largest = largest.max((f64::from(*value) - mean).abs());
            }
        }
        let exponent = if largest > 0.0 { largest.log2().floor() } else { 0.0 };
        let scale = (-exponent).clamp(-126.0, 126.0).exp2();
        let shift = mean.iter().map(|mean| (mean * scale) as f32).collect();
        Self { scale: scale as f32, shift }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.scale == 1.0 && self.shift.iter().all(|shift| *shift == 0.0)
    }

    /// Centres `row` into `to`, both (d).
    pub fn apply(&self, row: &[f32], to: &mut [f32]) {
        for ((to, x), shift) in to.iter_mut().zip(row).zip(&self.shift) {
            *to = x * self.scale - shift;
        }
    }

    /// Rows (n, d) centred, held in `scratch`.
    pub(crate) fn centred<'a>(
        &self,
        rows: ArrayView2<'_, f32>,
        scratch: &'a mut Vec<f32>,
    ) -> ArrayView2<'a, f32> {
        scratch.clear();
        for row in contiguous_rows(rows).outer_iter() {
            if let Some(row) = row.to_slice() {
                self.append(row, scratch);
            }
        }
        ArrayView2::from_shape(rows.dim(), scratch).expect("as many as rows")
    }

    /// Appends a centred row.
    pub(crate) fn append(&self, row: &[f32], centred: &mut Vec<f32>) {
        match row.len() {
            2 => self.append_short::<2>(row, centred),
            4 => self.append_short::<4>(row, centred),
            8 => self.append_short::<8>(row, centred),
            16 => self.append_short::<16>(row, centred),
            _ => {
                let pairs = row.iter().zip(&self.shift);
                centred.extend(pairs.map(|(x, shift)| x * self.scale - shift));
            }
        }
    }

    /// Of a length known when compiled: a few registers in place of a loop.
    fn append_short<const D: usize>(&self, row: &[f32], centred: &mut Vec<f32>) {
        if let (Some(row), Some(shift)) = (row.first_chunk::<D>(), self.shift.first_chunk::<D>()) {
            let row: [f32; D] = std::array::from_fn(|i| row[i] * self.scale - shift[i]);
            centred.extend_from_slice(&row);
        }
    }
}
