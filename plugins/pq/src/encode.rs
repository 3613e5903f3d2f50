//! Rows to packed indices and back, in blocks.

use crate::Pq;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use vq_kernels::Nearest;
use vq_kernels::pack::{pack, unpack};
use vq_plugin_api::Error;

/// Rows of one task: their parts of a sub-space stay in the first-level cache.
pub(crate) const BLOCK: usize = 256;

/// The nearest of one sub-space's centroids.
///
/// Scores are f32 with ‖c‖² in them. So that these carry the distances' digits wherever the data
/// lies, both sides are centred and scaled by a power of two, which rounds nothing: x·s − t with t the
/// scaled mean of the centroids, the largest centred value in 1 ≤ |c| < 2.
pub(crate) struct Encoder {
    nearest: Nearest,
    scale: f32,
    shift: Vec<f32>,
}

impl Encoder {
    /// From `centroids` (k, sub).
    pub(crate) fn new(centroids: &[f32], sub: usize) -> Self {
        let k = centroids.len() / sub;
        let mut mean = vec![0.0_f64; sub];
        for row in centroids.chunks_exact(sub) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += f64::from(*value) / k as f64;
            }
        }
        let deviations = centroids
            .chunks_exact(sub)
            .flat_map(|row| row.iter().zip(&mean).map(|(c, mean)| (f64::from(*c) - mean).abs()));
        let largest = deviations.fold(0.0, f64::max);
        let exponent = if largest > 0.0 { largest.log2().floor() } else { 0.0 };
        let scale = (-exponent).clamp(-126.0, 126.0).exp2();
        let shift: Vec<f32> = mean.iter().map(|mean| (mean * scale) as f32).collect();
        let scale = scale as f32;
        let centred =
            Array2::from_shape_fn((k, sub), |(j, t)| centroids[j * sub + t] * scale - shift[t]);
        Encoder { nearest: Nearest::for_l2(centred.view()), scale, shift }
    }

    /// Centred and scaled columns `from..` of `rows`, into `part` (n, sub).
    fn centre(&self, rows: &[&[f32]], from: usize, part: &mut [f32]) {
        match self.shift.len() {
            2 => self.centre_wide::<2>(rows, from, part),
            4 => self.centre_wide::<4>(rows, from, part),
            8 => self.centre_wide::<8>(rows, from, part),
            16 => self.centre_wide::<16>(rows, from, part),
            sub => {
                for (row, part) in rows.iter().zip(part.chunks_exact_mut(sub)) {
                    let row = &row[from..from + sub];
                    for ((part, x), shift) in part.iter_mut().zip(row).zip(&self.shift) {
                        *part = x * self.scale - shift;
                    }
                }
            }
        }
    }

    /// Of a width known when compiled: a few registers in place of a loop.
    fn centre_wide<const SUB: usize>(&self, rows: &[&[f32]], from: usize, part: &mut [f32]) {
        let Some(shift) = self.shift.first_chunk::<SUB>() else { return };
        for (row, part) in rows.iter().zip(part.as_chunks_mut::<SUB>().0) {
            if let Some(row) = row[from..].first_chunk::<SUB>() {
                *part = std::array::from_fn(|t| row[t] * self.scale - shift[t]);
            }
        }
    }
}

impl Pq {
    /// Encodes a block `x` (n, d) into `codes` (n, code_bytes). O(n · 2^bits · d); allocates its
    /// scratch once per block.
    pub(crate) fn encode(
        &self,
        x: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
    ) -> Result<(), Error> {
        let (n, m, sub) = (x.nrows(), self.params.m, self.sub);
        let x = x.as_standard_layout();
        let rows: Vec<&[f32]> = x.outer_iter().filter_map(|row| row.to_slice()).collect();
        let mut part = Array2::<f32>::zeros((n, sub));
        let mut index = vec![0_u32; n];
        let mut values = vec![0_u16; n * m];
        for (j, encoder) in self.encoders.iter().enumerate() {
            if let Some(part) = part.as_slice_mut() {
                encoder.centre(&rows, j * sub, part);
            }
            encoder.nearest.assign(part.view(), &mut index);
            for (values, index) in values.chunks_exact_mut(m).zip(&index) {
                values[j] = *index as u16;
            }
        }
        for (values, mut code) in values.chunks_exact(m).zip(codes.outer_iter_mut()) {
            let code = code.as_slice_mut().ok_or_else(|| Error::failed("strided codes"))?;
            pack(values, self.params.bits, code);
        }
        Ok(())
    }

    /// Decodes a block `codes` (n, code_bytes) into `x` (n, d). O(n · d).
    pub(crate) fn decode(
        &self,
        codes: ArrayView2<'_, u8>,
        mut x: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Error> {
        let (k, sub) = (self.k(), self.sub);
        let codes = codes.as_standard_layout();
        let mut values = vec![0_u16; self.params.m];
        for (code, mut x) in codes.outer_iter().zip(x.outer_iter_mut()) {
            let code = code.to_slice().ok_or_else(|| Error::failed("strided codes"))?;
            let x = x.as_slice_mut().ok_or_else(|| Error::failed("strided rows"))?;
            unpack(code, self.params.bits, &mut values);
            match sub {
                2 => copy::<2>(&self.centroids, k, &values, x),
                4 => copy::<4>(&self.centroids, k, &values, x),
                8 => copy::<8>(&self.centroids, k, &values, x),
                16 => copy::<16>(&self.centroids, k, &values, x),
                _ => {
                    for ((j, value), x) in values.iter().enumerate().zip(x.chunks_exact_mut(sub)) {
                        let row = j * k + usize::from(*value);
                        x.copy_from_slice(&self.centroids[row * sub..][..sub]);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Copies a row's centroids of a width known when compiled: a few moves in place of a call.
fn copy<const SUB: usize>(centroids: &[f32], k: usize, values: &[u16], x: &mut [f32]) {
    let centroids = centroids.as_chunks::<SUB>().0;
    for ((j, value), x) in values.iter().enumerate().zip(x.as_chunks_mut::<SUB>().0) {
        *x = centroids[j * k + usize::from(*value)];
    }
}
