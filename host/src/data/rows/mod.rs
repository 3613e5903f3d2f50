//! Prepared rows: row-major little-endian f32 from an offset of a file.
//!
//! Rows of the cache are verified as a whole before they are used. Above [`VERIFIED_WHOLE`] bytes
//! that would take too long. Such a file has a digest for each block, and each block is compared
//! when it is read.
//!
//! If some rows of a source are left out, the others need no copy: [`Absent`] lists the missing
//! ones, four bytes each.

mod absent;
mod part;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::error::io;

pub(super) use self::absent::Absent;
#[cfg(test)]
pub(super) use self::part::VERIFIED_WHOLE;
pub(super) use self::part::{Part, RowSink};

/// Bytes decoded at a time: stays in the first-level caches.
const CHUNK_BYTES: usize = 1 << 16;
/// Rows that one thread of several reads at a time.
const ROWS_AT_ONCE: usize = 512;
/// Bytes of such a block; small, since a single row costs one.
const BLOCK_BYTES: usize = CHUNK_BYTES;
/// Bytes of a block's digest: what damages a file by accident does not meet it.
const BLOCK_DIGEST_BYTES: usize = 16;

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
    /// Digests of the blocks, where whatever is read is compared with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<PathBuf>,
    /// Which rows of the file are none of these, if any: their numbers are left out in counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<PathBuf>,
}

impl RowFile {
    /// Opens the file for reading by position.
    ///
    /// # Errors
    /// [`DataError::Io`] when it cannot be opened, [`DataError::Length`] when it is
    /// shorter than the rows it should hold, [`DataError::Damaged`] when it is not known which of
    /// them are absent.
    pub fn open(&self) -> Result<Rows, DataError> {
        let file = File::open(&self.path).map_err(io("open", &self.path))?;
        let absent = self.absent.as_deref().map(Absent::read).transpose()?;
        let found = file.metadata().map_err(io("inspect", &self.path))?.len();
        let rows = self.rows.saturating_add(absent.as_ref().map_or(0, Absent::len));
        let expected = Self { rows, ..self.clone() }.end();
        if u128::from(found) < expected {
            return Err(DataError::Length {
                path: self.path.clone(),
                rows: rows as u64,
                dim: self.dim as u64,
                expected,
                found,
            });
        }
        let blocks = self.blocks.as_ref();
        let blocks = blocks.map(|path| File::open(path).map_err(io("open", path))).transpose()?;
        Ok(Rows { file, blocks, absent, place: self.clone() })
    }

    /// Every file that is read when these rows are.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let beside = [&self.blocks, &self.absent].into_iter().flatten();
        std::iter::once(&self.path).chain(beside).map(PathBuf::as_path)
    }

    /// Compares everything with the digests of the blocks, where there are any.
    pub(super) fn verify_blocks(&self) -> Result<(), DataError> {
        if self.blocks.is_none() {
            // Of rows that are absent there is a digest too.
            return self.absent.as_deref().map_or(Ok(()), |path| Absent::read(path).map(drop));
        }
        let rows = self.open()?;
        let length = (self.end() - u128::from(self.offset)) as u64;
        let mut bytes = vec![0; BLOCK_BYTES];
        for at in (0..length).step_by(BLOCK_BYTES) {
            let bytes = &mut bytes[..BLOCK_BYTES.min((length - at) as usize)];
            rows.read_block(self.blocks.as_deref(), at, bytes)?;
        }
        Ok(())
    }

    /// Bytes up to the end of the last row, if none is absent; wide enough for any manifest's
    /// numbers.
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
    blocks: Option<File>,
    absent: Option<Absent>,
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
    /// [`DataError::Io`] when the file cannot be read, [`DataError::Damaged`] when it is not what
    /// was written.
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
        if let Some(absent) = &self.absent {
            return self.read_around(absent, first, out);
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

    /// As [`read`](Self::read), by the threads of the current rayon pool.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_in_pool(
        &self,
        first: usize,
        mut out: ArrayViewMut2<'_, f32>,
    ) -> Result<(), DataError> {
        let parts = out.axis_chunks_iter_mut(Axis(0), ROWS_AT_ONCE).into_par_iter().enumerate();
        parts.try_for_each(|(i, rows)| self.read(first.saturating_add(i * ROWS_AT_ONCE), rows))
    }

    /// As [`read`](Self::read) where rows are absent: they are read with those around them, since
    /// many small reads cost more than a few that are too large.
    fn read_around(
        &self,
        absent: &Absent,
        first: usize,
        mut out: ArrayViewMut2<'_, f32>,
    ) -> Result<(), DataError> {
        let (count, dim) = out.dim();
        let Some(last) = count.checked_sub(1).map(|more| absent.run(first + more).0) else {
            return Ok(());
        };
        let row_bytes = 4 * dim;
        let at_once = (CHUNK_BYTES / row_bytes).max(1);
        let mut bytes = vec![0; row_bytes * at_once.min(last + 1 - absent.run(first).0)];
        let mut done = 0;
        while done < count {
            let from = absent.run(first + done).0;
            let to = (from + at_once).min(last + 1);
            let bytes = &mut bytes[..row_bytes * (to - from)];
            self.file
                .read_exact_at(bytes, self.place.offset + from as u64 * row_bytes as u64)
                .map_err(io("read", &self.place.path))?;
            while done < count {
                let (at, run) = absent.run(first + done);
                if at >= to {
                    break;
                }
                let run = run.min(to - at).min(count - done);
                let bytes = bytes[(at - from) * row_bytes..].chunks_exact(row_bytes);
                let out = out.slice_mut(s![done..done + run, ..]);
                for (mut row, bytes) in out.into_outer_iter_mut().zip(bytes) {
                    let values = bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes);
                    match row.as_slice_mut() {
                        Some(row) => row.iter_mut().zip(values).for_each(|(to, x)| *to = x),
                        None => row.iter_mut().zip(values).for_each(|(to, x)| *to = x),
                    }
                }
                done += run;
            }
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

    fn decode(&self, mut at: u64, mut out: &mut [f32], bytes: &mut [u8]) -> Result<(), DataError> {
        while !out.is_empty() {
            let mut count = (bytes.len() / 4).max(1);
            if self.blocks.is_some() {
                // Up to the end of a block, so that each is read once.
                let into = (at - self.place.offset) as usize % BLOCK_BYTES;
                count = count.min((BLOCK_BYTES - into) / 4);
            }
            let (values, rest) = out.split_at_mut(count.min(out.len()));
            let bytes = &mut bytes[..4 * values.len()];
            self.fill(at, bytes)?;
            for (value, four) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*four);
            }
            at += bytes.len() as u64;
            out = rest;
        }
        Ok(())
    }

    /// Fills `bytes`, all of one block, from `at` on.
    fn fill(&self, at: u64, bytes: &mut [u8]) -> Result<(), DataError> {
        let Some(path) = &self.place.blocks else {
            return self.file.read_exact_at(bytes, at).map_err(io("read", &self.place.path));
        };
        let at = at - self.place.offset;
        let into = at as usize % BLOCK_BYTES;
        let first = at - into as u64;
        let left = self.place.end() - u128::from(self.place.offset) - u128::from(first);
        let length = BLOCK_BYTES.min(left as usize);
        if bytes.len() == length {
            return self.read_block(Some(path), first, bytes);
        }
        let mut block = vec![0; length];
        self.read_block(Some(path), first, &mut block)?;
        bytes.copy_from_slice(&block[into..into + bytes.len()]);
        Ok(())
    }

    /// Reads the block that starts `at` bytes into the rows and compares it with its digest.
    fn read_block(&self, path: Option<&Path>, at: u64, block: &mut [u8]) -> Result<(), DataError> {
        let damaged = |reason| DataError::Damaged { path: self.place.path.clone(), reason };
        self.file
            .read_exact_at(block, self.place.offset + at)
            .map_err(io("read", &self.place.path))?;
        let (Some(blocks), Some(path)) = (&self.blocks, path) else {
            return Ok(());
        };
        let mut digest = [0; BLOCK_DIGEST_BYTES];
        let number = at / BLOCK_BYTES as u64;
        blocks
            .read_exact_at(&mut digest, number * BLOCK_DIGEST_BYTES as u64)
            .map_err(io("read", path))?;
        if block_digest(block) != digest {
            return Err(damaged("a block has the wrong digest"));
        }
        Ok(())
    }
}

fn block_digest(block: &[u8]) -> [u8; BLOCK_DIGEST_BYTES] {
    let digest = blake3::hash(block);
    let mut short = [0; BLOCK_DIGEST_BYTES];
    short.copy_from_slice(&digest.as_bytes()[..BLOCK_DIGEST_BYTES]);
    short
}

/// Brings each row (n, d) of `rows` to unit length in place; a zero row stays zero.
pub(super) fn normalise(rows: &mut Array2<f32>) {
    for mut row in rows.axis_iter_mut(Axis(0)) {
        let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if norm != 0.0 {
            row.mapv_inplace(|x| (f64::from(x) / norm) as f32);
        }
    }
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
    fn several_threads_read_what_one_reads() {
        let folder = tempfile::tempdir().unwrap();
        let values = small_integers(1300, 3, 1);
        let rows = prepared_rows(folder.path(), "a", &values);
        let mut out = Array2::zeros((1299, 3));
        rows.read_in_pool(1, out.view_mut()).unwrap();
        assert_eq!(out, values.slice(s![1.., ..]));
        let error = rows.read_in_pool(2, out.view_mut());
        assert!(matches!(error, Err(DataError::OutOfRange { .. })));
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
    fn rows_around_those_that_are_absent_are_read_in_any_blocks() {
        let folder = tempfile::tempdir().unwrap();
        // Rows of 2, 64 and 160 KiB too: of the last, one is more than is read at a time.
        for (dim, rows) in [(3, 20_000), (512, 300), (16_384, 9), (40_000, 7)] {
            let values = small_integers(rows, dim, 1);
            let whole = prepared_rows(folder.path(), &format!("{dim}"), &values);
            let every = |from: usize, step| (from..rows).step_by(step).map(|row| row as u32);
            for (name, gone) in [
                ("none", Vec::new()),
                ("first", vec![0]),
                ("last", vec![rows as u32 - 1]),
                ("odd", every(1, 2).collect()),
                ("all but even thirds", (0..rows as u32).filter(|row| row % 3 != 0).collect()),
                ("a long stretch", (1..rows as u32 - 1).collect()),
            ] {
                let path = folder.path().join(format!("{name} {dim}"));
                Absent::new(gone.iter().copied()).write(&path).unwrap();
                let here: Vec<usize> =
                    (0..rows).filter(|row| !gone.contains(&(*row as u32))).collect();
                let place = RowFile { rows: here.len(), absent: Some(path), ..whole.place.clone() };
                let some = place.open().unwrap();
                let expected = values.select(Axis(0), &here);
                assert_eq!(some.read_all().unwrap(), expected, "{name} {dim}");
                let (first, count) = (here.len() / 3, here.len() / 2);
                let mut wide = Array2::zeros((count, 2 * dim));
                some.read(first, wide.slice_mut(s![.., ..;2])).unwrap();
                some.read(first, wide.slice_mut(s![.., 1..;2])).unwrap();
                let expected = expected.slice(s![first..first + count, ..]);
                assert_eq!(wide.slice(s![.., ..;2]), expected);
                assert_eq!(wide.slice(s![.., 1..;2]), expected);
                some.read(here.len(), Array2::zeros((0, dim)).view_mut()).unwrap();
                assert!(some.read(here.len(), Array2::zeros((1, dim)).view_mut()).is_err());
            }
        }
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
        let place = |rows| RowFile {
            path: path.clone(),
            offset: 8,
            rows,
            dim: 4,
            blocks: None,
            absent: None,
        };
        assert!(place(1).open().is_ok());
        assert!(matches!(place(2).open(), Err(DataError::Length { expected: 40, found: 39, .. })));
        assert!(place(usize::MAX).open().is_err());
    }

    #[test]
    fn large_rows_are_verified_by_the_block_whatever_is_read_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let values = small_integers(3000, 37, 1);
        let mut sink = RowSink::create(folder.path(), "a.f32", 37).unwrap();
        sink.blocks.from = 100_000;
        for rows in values.axis_chunks_iter(Axis(0), 700) {
            sink.push(rows.as_slice().unwrap()).unwrap();
        }
        let (part, _) = sink.finish().unwrap();
        let place = part.place(folder.path(), None);
        assert!(place.blocks.is_some());
        let rows = place.open().unwrap();
        assert_eq!(rows.read_all().unwrap(), values);
        let mut some = Array2::zeros((500, 37));
        rows.read(440, some.view_mut()).unwrap();
        assert_eq!(some, values.slice(s![440..940, ..]));
        part.verify(folder.path()).unwrap();
        place.verify_blocks().unwrap();

        // A bit in the block that starts in row 1771 and ends in row 2214.
        let file = File::options().read(true).write(true).open(&place.path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 2000 * 37 * 4).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 2000 * 37 * 4).unwrap();
        for row in [0, 1770, 2215, 2999] {
            rows.read(row, Array2::zeros((1, 37)).view_mut()).unwrap();
        }
        for row in [1771, 1900, 2000, 2214] {
            let error = rows.read(row, Array2::zeros((1, 37)).view_mut());
            assert!(matches!(error, Err(DataError::Damaged { .. })), "{row}");
        }
        assert!(matches!(rows.read_all(), Err(DataError::Damaged { .. })));
        assert!(matches!(place.verify_blocks(), Err(DataError::Damaged { .. })));
    }

    #[test]
    fn rows_become_unit_vectors_and_zeros_stay() {
        let mut rows = ndarray::array![[3.0, 4.0], [0.0, -0.0], [3e38, 3e38], [1e-45, 0.0]];
        normalise(&mut rows);
        let half = 0.5_f32.sqrt();
        assert_eq!(rows, ndarray::array![[0.6, 0.8], [0.0, 0.0], [half, half], [1.0, 0.0]]);
    }
}
