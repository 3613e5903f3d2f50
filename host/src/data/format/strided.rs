//! Files whose rows lie at fixed strides.

use std::fs::File;

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::element::Element;
use crate::data::error::io;
use crate::data::{DataError, MAX_DIM};

/// Bytes converted at a time.
pub(super) const CHUNK_BYTES: usize = 1 << 16;

/// What a header says of the rows behind it.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) rows: u64,
    pub(super) dim: u64,
    pub(super) element: Element,
    pub(super) big_endian: bool,
    /// Bytes before the first row.
    pub(super) offset: u64,
    /// Each row repeats its dimension in four bytes.
    pub(super) prefixed: bool,
}

impl Layout {
    /// Bytes of a row, its prefix included.
    fn row_bytes(&self) -> u128 {
        u128::from(self.dim) * self.element.bytes() as u128 + if self.prefixed { 4 } else { 0 }
    }

    /// Bytes of all that it says, header included.
    pub(super) fn bytes(&self) -> u128 {
        let rows = u128::from(self.rows).saturating_mul(self.row_bytes());
        rows.saturating_add(u128::from(self.offset))
    }
}

/// A checked file of `rows`×`dim` values.
#[derive(Debug)]
pub(super) struct Strided {
    file: File,
    path: PathBuf,
    pub(super) rows: usize,
    pub(super) dim: usize,
    element: Element,
    big_endian: bool,
    offset: u64,
    prefixed: bool,
}

impl Strided {
    /// Holds what a header says against the `found` bytes of its file.
    pub(super) fn validate(
        file: File,
        path: &Path,
        found: u64,
        header: &Layout,
    ) -> Result<Self, DataError> {
        let &Layout { rows, dim, .. } = header;
        if rows > 0 && dim == 0 {
            let path = path.into();
            return Err(DataError::Empty { path, rows, dim });
        }
        let expected = header.bytes();
        if expected != u128::from(found) {
            return Err(DataError::Length { path: path.into(), rows, dim, expected, found });
        }
        if dim > MAX_DIM as u64 {
            return Err(DataError::TooWide { what: path.display().to_string(), dim });
        }
        Ok(Self {
            file,
            path: path.into(),
            // Fits: the file has at least this many bytes, and dim is small.
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
            dim: dim as usize,
            element: header.element,
            big_endian: header.big_endian,
            offset: header.offset,
            prefixed: header.prefixed,
        })
    }

    /// Whether the file at `path` is the one that is open.
    pub(super) fn is_at(&self, path: &Path) -> std::io::Result<bool> {
        let (here, there) = (self.file.metadata()?, path.metadata()?);
        Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
    }

    /// Bytes up to the end of the first `rows` rows.
    pub(super) fn bytes(&self, rows: usize) -> u64 {
        let prefix = if self.prefixed { 4 } else { 0 };
        self.offset + rows as u64 * (prefix + self.dim * self.element.bytes()) as u64
    }

    /// The type of its numbers.
    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// How the bytes are read: with them, it says all of what the rows are.
    pub(super) fn layout(&self) -> String {
        let Self { element, big_endian, offset, prefixed, dim, .. } = self;
        format!("{element:?} big={big_endian} offset={offset} prefixed={prefixed} dim={dim}")
    }

    /// Bytes before the first row if the file is what [`RowFile`](crate::data::RowFile) reads.
    pub(super) fn raw_f32_offset(&self) -> Option<u64> {
        let raw = self.element == Element::F32 && !self.big_endian && !self.prefixed;
        raw.then_some(self.offset)
    }

    /// Fills `out`, whole rows, with the rows from `first` on; where `finite`, a value that is not is
    /// refused.
    pub(super) fn read(
        &self,
        first: usize,
        out: &mut [f32],
        finite: bool,
    ) -> Result<(), DataError> {
        let prefix = if self.prefixed { 4 } else { 0 };
        let row_bytes = prefix + self.dim * self.element.bytes();
        let rows_at_once = (CHUNK_BYTES / row_bytes).max(1);
        let mut bytes = vec![0; row_bytes * rows_at_once.min(out.len() / self.dim)];
        let mut row = first as u64;
        for rows in out.chunks_mut(rows_at_once * self.dim) {
            let count = rows.len() / self.dim;
            let bytes = &mut bytes[..count * row_bytes];
            self.file
                .read_exact_at(bytes, self.offset + row * row_bytes as u64)
                .map_err(io("read", &self.path))?;
            for (bytes, values) in
                bytes.chunks_exact(row_bytes).zip(rows.chunks_exact_mut(self.dim))
            {
                let (head, bytes) = bytes.split_at(prefix);
                if let Some(head) = head.first_chunk::<4>() {
                    self.check_prefix(row, i32::from_le_bytes(*head))?;
                }
                self.element.convert(bytes, self.big_endian, values);
                if finite {
                    check_finite(&self.path, row, values)?;
                }
                row += 1;
            }
        }
        Ok(())
    }

    fn check_prefix(&self, row: u64, found: i32) -> Result<(), DataError> {
        if i64::from(found) == self.dim as i64 {
            return Ok(());
        }
        Err(DataError::Ragged {
            path: self.path.clone(),
            row,
            expected: self.dim as u64,
            found: found.into(),
        })
    }
}

/// Refuses a row of the file at `path` with a value that is not finite.
pub(super) fn check_finite(path: &Path, row: u64, values: &[f32]) -> Result<(), DataError> {
    // Without an early exit the loop has no branch and vectorises.
    if !values.iter().fold(false, |bad, x| bad | !x.is_finite()) {
        return Ok(());
    }
    let column = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(DataError::NonFinite { path: path.into(), row, column, value: values[column] })
}
