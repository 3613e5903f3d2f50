//! The second level.

use ndarray::{ArrayView1, ArrayView2};
use vq_blocks::rotated::{Layout, Sums};
use vq_kernels::pack::packed_bytes;

/// Bytes of a code's second level.
pub(crate) fn bytes(dim: usize, bits: u32) -> usize {
    packed_bytes(dim, bits)
}

/// What the first level leaves of each coordinate, in ±Δ/2 (section 3.2, equation 7): Δ is (u − ℓ) over the
/// last level of the coordinate's width, and the levels are as evenly spaced.
pub(crate) struct Residual {
    layout: Layout,
    /// Δ over u − ℓ, (d).
    parts: Vec<f32>,
    /// Of the last level.
    top: f32,
}

impl Residual {
    /// Of `bits` bits for each coordinate of `first`, each of which has a bit there.
    pub(crate) fn new(first: &Layout, bits: u32) -> Self {
        let runs = first.runs().iter();
        let parts: Vec<f32> =
            runs.flat_map(|run| vec![1.0 / crate::top(run.bits); run.count]).collect();
        let layout = Layout::uniform(parts.len(), bits, &[]);
        Residual { layout, parts, top: crate::top(bits) }
    }

    /// Writes the `code` of what `read` (d) leaves of `z` (d); `values` (d) are overwritten.
    pub(crate) fn encode(
        &self,
        z: &[f32],
        read: &[f32],
        range: f32,
        values: &mut [u16],
        code: &mut [u8],
    ) {
        for (((to, z), read), part) in values.iter_mut().zip(z).zip(read).zip(&self.parts) {
            // No number where the range is 0, which becomes 0.
            let within = (z - read) / (range * part) + 0.5;
            *to = (within * self.top + 0.5).floor().max(0.0).min(self.top) as u16;
        }
        self.layout.write(values, &[], code);
    }

    fn level(&self, t: usize, value: u16) -> f32 {
        (f32::from(value) / self.top - 0.5) * self.parts[t]
    }

    /// Adds what a `code` says to `row` (d).
    pub(crate) fn add(&self, code: ArrayView1<'_, u8>, range: f32, row: &mut [f32]) {
        let mut values = vec![0; row.len()];
        self.layout.read(&code.to_vec(), &mut values, &mut []);
        for (t, (row, value)) in row.iter_mut().zip(values).enumerate() {
            *row += range * self.level(t, value);
        }
    }

    /// Bytes per code of what [`pack`](Self::pack) makes.
    pub(crate) fn packed_bytes(&self) -> usize {
        self.layout.scanned_bytes() + 4
    }

    /// Packs a block `codes` (n, code_bytes): indices, then the range of each code.
    pub(crate) fn pack(&self, codes: ArrayView2<'_, u8>, ranges: &[f32], packed: &mut [u8]) {
        let (indices, factors) = packed.split_at_mut(codes.nrows() * self.layout.scanned_bytes());
        self.layout.pack_values(codes, indices, |_, _, _| ());
        for (to, range) in factors.as_chunks_mut::<4>().0.iter_mut().zip(ranges) {
            *to = range.to_le_bytes();
        }
    }

    /// Bytes of packed indices per code, and tables of products with `z`.
    pub(crate) fn sums(&self, z: &[f32]) -> (usize, Sums) {
        let entry = |t: usize, _: u32, value: u16| self.level(t, value) * z[t];
        (self.layout.scanned_bytes(), self.layout.sums(entry))
    }
}
