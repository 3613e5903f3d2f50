//! Rows to packed indices and back, in blocks.

use super::Product;
use crate::rotated::Frame;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, aview1};
use vq_kernels::pack::{pack, unpack};
use vq_plugin_api::Error;

impl Product {
    /// Rows of one task: they stay in the second-level cache.
    pub const BLOCK: usize = 512;

    /// Encodes a block `x` (n, d) into `codes` (n, code_bytes). Single-threaded, O(n · (2^bits + d) · d) with a
    /// rotation, else O(n · 2^bits · d); allocates its scratch, maybe a copy of the block among it, once.
    ///
    /// # Errors
    /// Strided codes.
    pub fn encode_block(
        &self,
        x: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
    ) -> Result<(), Error> {
        let m = self.m;
        let mut values = vec![0_u16; x.nrows() * m];
        self.assign(x, &mut values);
        for (values, mut code) in values.chunks_exact(m).zip(codes.outer_iter_mut()) {
            let code = code.as_slice_mut().ok_or_else(|| Error::failed("strided codes"))?;
            pack(values, self.bits, code);
        }
        Ok(())
    }

    /// Writes the nearest centroids of the rows `x` (n, d) into `values` (n, m).
    fn assign(&self, x: ArrayView2<'_, f32>, values: &mut [u16]) {
        let m = self.m;
        let mut write = |j: usize, index: ArrayView1<'_, u32>| {
            for (values, index) in values.chunks_exact_mut(m).zip(index) {
                values[j] = *index as u16;
            }
        };
        if let (Some(int16), Some(of)) = (&self.int16, self.frame().and_then(Frame::parts))
            && !self.nearest.is_empty()
        {
            let mut index = Array2::zeros((m, x.nrows()));
            if int16.assign(of, x, &self.nearest, index.view_mut()) {
                index.outer_iter().enumerate().for_each(|(j, index)| write(j, index));
                return;
            }
        }
        // Sub-spaces walk over the rows again and again, a few floats of each: over a copy, read in
        // order and held by the second-level cache.
        let copy = self.frame().map_or_else(|| x.to_owned(), |frame| frame.apply(x));
        let mut index = vec![0; x.nrows()];
        let parts = copy.axis_chunks_iter(Axis(1), self.sub).zip(&self.nearest);
        for (j, (part, nearest)) in parts.enumerate() {
            nearest.assign(part, &mut index);
            write(j, aview1(&index));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Training;
    use crate::rotated::Centring;
    use vq_kernels::int16::MaxNorm;
    use vq_kernels::rotation::Rotation;
    use vq_kernels::{Draw, Int16Panels};
    use vq_plugin_api::model::{ModelReader, ModelWriter};

    #[test]
    fn integers_of_the_rotation_change_no_code() -> Result<(), Error> {
        for (dim, m, bits, offset) in [(48, 6, 8, 0.0), (21, 7, 4, 1e3), (33, 11, 8, 0.0)] {
            let mut draw = Draw::new(5);
            // Few values, so that some rows lie halfway between centroids.
            let x = Array2::from_shape_simple_fn((1500, dim), || {
                offset + (draw.below(9) as f32 - 4.0) * 0.5
            });
            let mut product = Product::new(dim, m, bits)?;
            let centre = Frame::centre_of(x.view(), Centring::Mean)?;
            product.set_frame(Some(Frame::learned(centre, Rotation::dense(dim, 3))));
            product.fit(x.view(), Training::default(), 1, &|_| Ok(()))?;
            let codes = |product: &Product| {
                let mut codes = Array2::zeros((1500, product.code_bytes()));
                product.encode_block(x.view(), codes.view_mut())?;
                Ok::<_, Error>(codes)
            };
            let fast = Int16Panels::default().pack_l2(Array2::eye(8).view(), MaxNorm::Of(1.0));
            assert_eq!(product.int16.is_some(), fast, "d = {dim}");
            if let (Some(int16), Some(of)) =
                (&product.int16, product.frame().and_then(Frame::parts))
            {
                let mut index = Array2::zeros((m, 1500));
                assert!(
                    int16.assign(of, x.view(), &product.nearest, index.view_mut()),
                    "d = {dim}"
                );
            }
            let without = Product { int16: None, ..product.clone() };
            assert_eq!(codes(&product)?, codes(&without)?, "d = {dim}");

            let model = product.save_with_frame(ModelWriter::new()).finish();
            let mut loaded = Product::new(dim, m, bits)?;
            loaded.load_with_frame(&mut ModelReader::new(&model))?;
            assert_eq!(loaded.int16.is_some(), product.int16.is_some());
            assert_eq!(codes(&loaded)?, codes(&product)?);
        }
        Ok(())
    }
}
