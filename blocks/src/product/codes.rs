//! Rows to packed indices and back, in blocks.

use super::Product;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use vq_kernels::pack::{pack, unpack};
use vq_plugin_api::Error;

impl Product {
    /// Rows of one task: they stay in the second-level cache.
    pub const BLOCK: usize = 512;

    /// Encodes a block `x` (n, d) into `codes` (n, code_bytes). Single-threaded, O(n · 2^bits · d);
    /// allocates its scratch, a copy of the block among it, once.
    ///
    /// # Errors
    /// Strided codes.
    pub fn encode_block(
        &self,
        x: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
    ) -> Result<(), Error> {
        // Sub-spaces walk over the rows again and again, a few floats of each: over a copy, read in
        // order and held by the second-level cache.
        let x = self.frame().map_or_else(|| x.to_owned(), |frame| frame.apply(x));
        let (n, m) = (x.nrows(), self.m);
        let mut index = vec![0_u32; n];
        let mut values = vec![0_u16; n * m];
        for ((j, part), nearest) in
            x.axis_chunks_iter(Axis(1), self.sub).enumerate().zip(&self.nearest)
        {
            nearest.assign(part, &mut index);
            for (values, index) in values.chunks_exact_mut(m).zip(&index) {
                values[j] = *index as u16;
            }
        }
        for (values, mut code) in values.chunks_exact(m).zip(codes.outer_iter_mut()) {
            let code = code.as_slice_mut().ok_or_else(|| Error::failed("strided codes"))?;
            pack(values, self.bits, code);
        }
        Ok(())
    }

    /// Decodes a block `codes` (n, code_bytes) into `x` (n, d). Single-threaded, O(n · d).
    ///
    /// # Errors
    /// Strided rows.
    pub fn decode_block(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Error> {
        let Some(frame) = self.frame() else { return self.decode_in_frame(codes, x) };
        let mut y = Array2::zeros(x.dim());
        self.decode_in_frame(codes, y.view_mut())?;
        frame.restore(y.view(), &vec![1.0; y.nrows()], x);
        Ok(())
    }

    /// As [`decode_block`](Self::decode_block), without leaving the frame.
    ///
    /// # Errors
    /// Strided rows.
    pub fn decode_in_frame(
        &self,
        codes: ArrayView2<'_, u8>,
        mut x: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Error> {
        let (k, sub) = (self.k(), self.sub);
        let codes = codes.as_standard_layout();
        let mut values = vec![0_u16; self.m];
        for (code, mut x) in codes.outer_iter().zip(x.outer_iter_mut()) {
            let code = code.to_slice().ok_or_else(|| Error::failed("strided codes"))?;
            let x = x.as_slice_mut().ok_or_else(|| Error::failed("strided rows"))?;
            unpack(code, self.bits, &mut values);
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
