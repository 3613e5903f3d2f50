//! Prepared rows: row-major little-endian f32 from an offset of a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayViewMut2, Axis, s};
use serde::{Deserialize, Serialize};

use super::DataError;
use super::error::io;

/// Bytes decoded at a time: stays in the first-level caches.
const CHUNK_BYTES: usize = 1 << 16;

/// Where `rows`×`dim` little-endian f32 lie, row-major, `offset` bytes into `path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowFile {
    /// The file.
    pub path: PathBuf,
    /// Bytes before the first row.
    pub offset: u64,
    /// Number of rows.
    pub rows: usize,
    /// Dimensions of a row.
    pub dim: usize,
}

impl RowFile {
    /// Opens the file for reading by position.
    ///
    /// # Errors
    /// [`DataError::Io`] when it cannot be opened, [`DataError::Length`] when it is
    /// shorter than the rows it should hold.
    pub fn open(&self) -> Result<Rows, DataError> {
        let file = File::open(&self.path).map_err(io("open", &self.path))?;
        let found = file.metadata().map_err(io("inspect", &self.path))?.len();
        if u128::from(found) < self.end() {
            return Err(DataError::Length {
                path: self.path.clone(),
                rows: self.rows as u64,
                dim: self.dim as u64,
                expected: self.end(),
                found,
            });
        }
        Ok(Rows { file, place: self.clone() })
    }

    /// Bytes up to the end of the last row; wide enough for any manifest's numbers.
    pub(super) fn end(&self) -> u128 {
        (self.rows as u128)
            .saturating_mul(self.dim as u128)
            .saturating_mul(4)
            .saturating_add(u128::from(self.offset))
    }
}

/// An open [`RowFile`]. Reads are positional: any number of threads may share it.
#[derive(Debug)]
pub struct Rows {
    file: File,
    place: RowFile,
}

impl Rows {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.place.rows
    }

    /// Dimensions of a row.
    pub fn dim(&self) -> usize {
        self.place.dim
    }

    /// Fills `out` (m, dim) with the m rows from `first` on.
    ///
    /// # Errors
    /// [`DataError::OutOfRange`] past the last row or for another width,
    /// [`DataError::Io`] when the file cannot be read.
    pub fn read(&self, first: usize, mut out: ArrayViewMut2<'_, f32>) -> Result<(), DataError> {
        let (count, dim) = out.dim();
        if dim != self.place.dim || first > self.place.rows || count > self.place.rows - first {
            return Err(DataError::OutOfRange {
                path: self.place.path.clone(),
                first,
                count,
                dim,
                rows: self.place.rows,
                expected: self.place.dim,
            });
        }
        let mut at = self.place.offset + 4 * (first as u64) * (dim as u64);
        let mut bytes = vec![0; CHUNK_BYTES.min(4 * count * dim)];
        if let Some(values) = out.as_slice_mut() {
            return self.decode(at, values, &mut bytes);
        }
        for mut row in out.rows_mut() {
            if let Some(values) = row.as_slice_mut() {
                self.decode(at, values, &mut bytes)?;
            } else {
                let mut values = vec![0.0; dim];
                self.decode(at, &mut values, &mut bytes)?;
                row.iter_mut().zip(&values).for_each(|(to, from)| *to = *from);
            }
            at += 4 * dim as u64;
        }
        Ok(())
    }

    /// All rows (rows, dim): for what is known to be small, such as queries.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_all(&self) -> Result<Array2<f32>, DataError> {
        let mut out = Array2::zeros((self.place.rows, self.place.dim));
        self.read(0, out.view_mut())?;
        Ok(out)
    }

    /// Fills `out` (ids.len(), dim) with the rows `ids`; runs of consecutive ids are
    /// one read.
    pub(super) fn gather(
        &self,
        ids: &[usize],
        mut out: ArrayViewMut2<'_, f32>,
    ) -> Result<(), DataError> {
        let mut done = 0;
        for run in ids.chunk_by(|a, b| a + 1 == *b) {
            self.read(run[0], out.slice_mut(s![done..done + run.len(), ..]))?;
            done += run.len();
        }
        Ok(())
    }

    fn decode(&self, mut at: u64, out: &mut [f32], bytes: &mut [u8]) -> Result<(), DataError> {
        for values in out.chunks_mut((bytes.len() / 4).max(1)) {
            let bytes = &mut bytes[..4 * values.len()];
            self.file.read_exact_at(bytes, at).map_err(io("read", &self.place.path))?;
            for (value, four) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*four);
            }
            at += bytes.len() as u64;
        }
        Ok(())
    }
}

/// One part of a dataset, as its manifest remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Where the rows are; a path inside the cache entry is relative to it.
    pub(super) rows: RowFile,
    /// BLAKE3, in hex, over the rows' bytes, then rows and dim as u64.
    pub(super) digest: String,
}

/// Receives rows in order: digests them, sums their columns and, unless they stay
/// where they are, writes them.
pub(super) struct RowSink {
    file: Option<BufWriter<File>>,
    written: PathBuf,
    place: RowFile,
    digest: blake3::Hasher,
    sums: Vec<f64>,
    bytes: Vec<u8>,
}

impl RowSink {
    /// Writes rows of `dim` dimensions to the new file `name` in `folder`.
    pub(super) fn create(folder: &Path, name: &str, dim: usize) -> Result<Self, DataError> {
        let written = folder.join(name);
        let file = File::create_new(&written).map_err(io("create", &written))?;
        Ok(Self {
            file: Some(BufWriter::with_capacity(1 << 20, file)),
            written,
            ..Self::in_place(name.into(), 0, dim)
        })
    }

    /// Only looks at rows that stay in `path`, from `offset` on.
    pub(super) fn in_place(path: PathBuf, offset: u64, dim: usize) -> Self {
        Self {
            file: None,
            written: PathBuf::new(),
            place: RowFile { path, offset, rows: 0, dim },
            digest: blake3::Hasher::new(),
            sums: vec![0.0; dim],
            bytes: Vec::new(),
        }
    }

    /// Takes the next rows, whole ones.
    pub(super) fn push(&mut self, rows: &[f32]) -> Result<(), DataError> {
        for row in rows.chunks_exact(self.place.dim) {
            for (sum, &x) in self.sums.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
            self.place.rows += 1;
        }
        self.bytes.clear();
        self.bytes.extend(rows.iter().flat_map(|x| x.to_le_bytes()));
        self.digest.update(&self.bytes);
        if let Some(file) = &mut self.file {
            file.write_all(&self.bytes).map_err(io("write", &self.written))?;
        }
        Ok(())
    }

    /// Ends the part: (part, mean of each column).
    pub(super) fn finish(mut self) -> Result<(Part, Vec<f64>), DataError> {
        if let Some(file) = self.file {
            let failed = |source| io("write", &self.written)(source);
            let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
            // The rename that publishes the entry must not overtake its contents.
            file.sync_all().map_err(failed)?;
        }
        for size in [self.place.rows, self.place.dim] {
            self.digest.update(&(size as u64).to_le_bytes());
        }
        let rows = self.place.rows as f64;
        self.sums.iter_mut().for_each(|sum| *sum /= rows);
        let part = Part { rows: self.place, digest: self.digest.finalize().to_hex().to_string() };
        Ok((part, self.sums))
    }
}

/// Brings each row (n, d) of `rows` to unit length in place; a zero row stays zero.
/// Returns how many were zero.
pub(super) fn normalise(rows: &mut Array2<f32>) -> u64 {
    let mut zeros = 0;
    for mut row in rows.axis_iter_mut(Axis(0)) {
        let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if norm == 0.0 {
            zeros += 1;
        } else {
            row.mapv_inplace(|x| (f64::from(x) / norm) as f32);
        }
    }
    zeros
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::{prepared_rows, small_integers};

    #[test]
    fn any_block_of_any_stride_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let values = small_integers(50, 7, 1);
        let rows = prepared_rows(folder.path(), "a", &values);
        assert_eq!(rows.read_all().unwrap(), values);
        let mut wide = Array2::zeros((20, 14));
        rows.read(5, wide.slice_mut(s![.., 3..10])).unwrap();
        assert_eq!(wide.slice(s![.., 3..10]), values.slice(s![5..25, ..]));
        rows.read(5, wide.slice_mut(s![.., ..;2])).unwrap();
        assert_eq!(wide.slice(s![.., ..;2]), values.slice(s![5..25, ..]));
        rows.read(50, Array2::zeros((0, 7)).view_mut()).unwrap();
    }

    #[test]
    fn gathered_rows_come_in_the_order_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let values = small_integers(50, 7, 1);
        let rows = prepared_rows(folder.path(), "a", &values);
        let ids = [3, 4, 5, 9, 49, 0, 1, 1];
        let mut out = Array2::zeros((ids.len(), 7));
        rows.gather(&ids, out.view_mut()).unwrap();
        assert_eq!(out, values.select(Axis(0), &ids));
    }

    #[test]
    fn reads_past_the_end_or_of_another_width_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let rows = prepared_rows(folder.path(), "a", &small_integers(50, 7, 1));
        for (first, shape) in [(0, (1, 6)), (49, (2, 7)), (51, (0, 7)), (usize::MAX, (1, 7))] {
            let error = rows.read(first, Array2::zeros(shape).view_mut());
            assert!(matches!(error, Err(DataError::OutOfRange { .. })));
        }
    }

    #[test]
    fn a_file_shorter_than_its_rows_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [0; 39]).unwrap();
        let place = |rows| RowFile { path: path.clone(), offset: 8, rows, dim: 4 };
        assert!(place(1).open().is_ok());
        assert!(matches!(place(2).open(), Err(DataError::Length { expected: 40, found: 39, .. })));
        assert!(place(usize::MAX).open().is_err());
    }

    #[test]
    fn rows_become_unit_vectors_and_zeros_stay() {
        let mut rows = ndarray::array![[3.0, 4.0], [0.0, -0.0], [3e38, 3e38], [1e-45, 0.0]];
        assert_eq!(normalise(&mut rows), 1);
        let half = 0.5_f32.sqrt();
        assert_eq!(rows, ndarray::array![[0.6, 0.8], [0.0, 0.0], [half, half], [1.0, 0.0]]);
    }
}
