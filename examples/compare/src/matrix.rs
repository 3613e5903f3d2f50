//! Matrices as files: `u32 n, u32 d`, then n·d little-endian f32 values, row-major.

use crate::failure::Failure;
use ndarray::{Array1, Array2, s};
use std::fs;
use std::path::Path;

/// Bytes before the first value.
pub(crate) const HEADER_BYTES: u64 = 8;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Reads the `.fbin` file at `path`: (n, d), from the start of a line of the cache on, where vq-host's lent rows begin, too.
pub(crate) fn read(path: &Path) -> Result<Array2<f32>, Failure> {
    let bytes = fs::read(path).map_err(Failure::file("read", path))?;
    let (words, _) = bytes.as_chunks::<4>();
    let size = |i: usize| words.get(i).map_or(0, |word| u32::from_le_bytes(*word) as usize);
    let (rows, dim) = (size(0), size(1));
    let mut values = Vec::<f32>::with_capacity(words.len() + LINE / size_of::<f32>());
    let before = values.as_ptr().align_offset(LINE);
    values.resize(before, 0.0);
    values.extend(words.iter().skip(2).map(|word| f32::from_le_bytes(*word)));
    let values = Array1::from_vec(values).slice_move(s![before..]);
    values.into_shape_with_order((rows, dim)).map_err(|_| Failure::Shape {
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
