//! Which rows of a file are left out.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::data::DataError;
use crate::data::error::{cache_io, io};

/// Which rows of a file are left out, kept in a file: their numbers, ascending, as little-endian
/// u32, then their BLAKE3.
#[derive(Debug, Default)]
pub(in crate::data) struct Absent {
    /// How many rows that are there come before each that is not; ascending, since those that are
    /// not do not count.
    before: Vec<u32>,
}

impl Absent {
    /// `rows` are distinct and ascending.
    pub(in crate::data) fn new(rows: impl IntoIterator<Item = u32>) -> Self {
        Self { before: rows.into_iter().zip(0..).map(|(row, nth)| row - nth).collect() }
    }

    pub(in crate::data) fn len(&self) -> usize {
        self.before.len()
    }

    /// Where the `row`-th of the rows that are there lies among all, and how many follow one
    /// another from it on.
    pub(in crate::data) fn run(&self, row: usize) -> (usize, usize) {
        let gone = self.before.partition_point(|before| *before as usize <= row);
        let run = self.before.get(gone).map_or(usize::MAX, |next| *next as usize - row);
        (row + gone, run)
    }

    /// Writes the new file at `path`.
    pub(in crate::data) fn write(&self, path: &Path) -> Result<(), DataError> {
        let rows = self.before.iter().zip(0..).map(|(before, nth): (_, u32)| before + nth);
        let mut bytes: Vec<u8> = rows.flat_map(u32::to_le_bytes).collect();
        let digest = blake3::hash(&bytes);
        bytes.extend(digest.as_bytes());
        File::create_new(path)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            })
            .map_err(cache_io("write", path))
    }

    /// Reads what [`write`](Self::write) wrote, and nothing else.
    pub(in crate::data) fn read(path: &Path) -> Result<Self, DataError> {
        let damaged = |reason| DataError::Damaged { path: path.into(), reason };
        let bytes = std::fs::read(path).map_err(io("read", path))?;
        let whole = bytes.split_last_chunk::<{ blake3::OUT_LEN }>();
        let (rows, digest) = whole.ok_or_else(|| damaged("wrong length"))?;
        if blake3::hash(rows).as_bytes() != digest {
            return Err(damaged("wrong digest"));
        }
        Ok(Self::new(rows.as_chunks::<4>().0.iter().copied().map(u32::from_le_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::RowFile;
    use crate::data::testing::{prepared_rows, small_integers};

    #[test]
    fn a_list_of_absent_rows_that_is_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let whole = prepared_rows(folder.path(), "a", &small_integers(50, 4, 1));
        let path = folder.path().join("absent");
        Absent::new([3, 4, 49]).write(&path).unwrap();
        let place = RowFile { rows: 47, absent: Some(path.clone()), ..whole.place };
        assert!(place.open().is_ok());
        // It says how many rows the file has.
        assert!(matches!(
            RowFile { rows: 48, ..place.clone() }.open(),
            Err(DataError::Length { .. })
        ));
        let bytes = std::fs::read(&path).unwrap();
        for (at, length) in [(0, 44), (20, 44), (43, 44), (0, 40), (0, 0)] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            damaged.truncate(length);
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(place.open(), Err(DataError::Damaged { .. })));
            assert!(matches!(place.verify_blocks(), Err(DataError::Damaged { .. })));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(place.open(), Err(DataError::Io { .. })));
    }
}
