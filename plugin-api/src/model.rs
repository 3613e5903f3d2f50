//! Bytes of a fitted model: little-endian, each array with its length, read back with checks.

use crate::Error;
use ndarray::Array2;

/// Writes a model for [`Quantizer::save`](crate::Quantizer::save).
#[derive(Default)]
pub struct ModelWriter(Vec<u8>);

impl ModelWriter {
    /// An empty model.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a list of numbers.
    pub fn f32s(mut self, values: impl IntoIterator<Item = f32>) -> Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 8]);
        for value in values {
            self.0.extend_from_slice(&value.to_le_bytes());
        }
        let count = (self.0.len() - start - 8) as u64 / 4;
        self.0[start..start + 8].copy_from_slice(&count.to_le_bytes());
        self
    }

    /// Appends one number.
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what [`ModelWriter`] wrote, in the same order.
pub struct ModelReader<'a>(&'a [u8]);

impl<'a> ModelReader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        ModelReader(bytes)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let Some((head, tail)) = self.0.split_at_checked(len) else {
            return Err(Error::failed(format!("model ends {} bytes early", len - self.0.len())));
        };
        self.0 = tail;
        Ok(head)
    }

    /// One number.
    ///
    /// # Errors
    /// The bytes end early.
    pub fn u64(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?;
        let mut value = [0; 8];
        value.copy_from_slice(bytes);
        Ok(u64::from_le_bytes(value))
    }

    /// A list of exactly `len` finite numbers.
    ///
    /// # Errors
    /// Another length, an early end, or a number that is not finite.
    pub fn f32s(&mut self, len: usize) -> Result<Vec<f32>, Error> {
        let found = self.u64()?;
        if found != len as u64 {
            return Err(Error::failed(format!("model has {found} numbers where {len} belong")));
        }
        let bytes = self.take(len.saturating_mul(4))?;
        let read = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let values: Vec<f32> = bytes.chunks_exact(4).map(read).collect();
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(Error::failed(format!("model number {at} is not finite"))),
            None => Ok(values),
        }
    }

    /// A matrix of exactly this shape.
    ///
    /// # Errors
    /// As for [`ModelReader::f32s`].
    pub fn matrix(&mut self, rows: usize, cols: usize) -> Result<Array2<f32>, Error> {
        let values = self.f32s(rows.saturating_mul(cols))?;
        Array2::from_shape_vec((rows, cols), values).map_err(|e| Error::failed(e.to_string()))
    }

    /// Checks that nothing is left over.
    ///
    /// # Errors
    /// Bytes are left.
    pub fn finish(self) -> Result<(), Error> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(Error::failed(format!("model has {left} bytes too many"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written_and_refuses_damage() {
        let bytes = ModelWriter::new().u64(7).f32s([1.0, 2.0, 3.0, 4.0]).finish();
        let mut reader = ModelReader::new(&bytes);
        assert_eq!(reader.u64().unwrap(), 7);
        assert_eq!(reader.matrix(2, 2).unwrap(), ndarray::array![[1.0, 2.0], [3.0, 4.0]]);
        reader.finish().unwrap();
        for cut in 0..bytes.len() {
            let mut reader = ModelReader::new(&bytes[..cut]);
            assert!(reader.u64().and_then(|_| reader.f32s(4)).is_err());
        }
        let nan = ModelWriter::new().f32s([f32::NAN]).finish();
        assert!(ModelReader::new(&nan).f32s(1).is_err());
    }
}
