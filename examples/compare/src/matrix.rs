//! Matrices as files: `u32 n, u32 d`, then n·d little-endian f32 values, row-major.

use crate::failure::Failure;
use ndarray::Array2;
use std::fs;
use std::path::Path;

/// Bytes before the first value.
pub(crate) const HEADER_BYTES: u64 = 8;

/// Reads the `.fbin` file at `path`: (n, d).
pub(crate) fn read(path: &Path) -> Result<Array2<f32>, Failure> {
    let bytes = fs::read(path).map_err(Failure::file("read", path))?;
    let (words, _) = bytes.as_chunks::<4>();
    let size = |i: usize| words.get(i).map_or(0, |word| u32::from_le_bytes(*word) as usize);
    let (rows, dim) = (size(0), size(1));
    let values = words.iter().skip(2).map(|word| f32::from_le_bytes(*word)).collect();
    Array2::from_shape_vec((rows, dim), values).map_err(|_| Failure::Shape {
        path: path.to_owned(),
        rows,
        dim,
    })
}

/// Writes values of 4 bytes, without a header.
pub(crate) fn write(path: &Path, values: impl Iterator<Item = [u8; 4]>) -> Result<(), Failure> {
    let bytes: Vec<u8> = values.flatten().collect();
    fs::write(path, bytes).map_err(Failure::file("write", path))
}
