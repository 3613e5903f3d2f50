//! Any source as one file of f32 rows, all of them or some.

use std::path::Path;

use super::DataError;
use super::prepare::{OnPrepare, distinct_rows, interruptible};
use super::reader::Reader;
use super::written::{may_be_at, npy, write_whole};

/// Which rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// All of them.
    All,
    /// The first so many.
    First(usize),
    /// So many random ones in their order, the same every time; all where there are no more.
    Random(usize),
}

/// Writes rows of the source at `from` to `to`: `.npy` or `.fbin`. The file appears whole or not at
/// all. Answers (rows, dimensions).
///
/// Memory: O(block·d), and 16 bytes for each row that is picked at random.
///
/// # Errors
/// [`DataError`]: nothing to read there, it is not what its format says, `to` is one of the files that
/// are read, or nothing can be written.
pub fn convert(
    from: &Path,
    table: Option<&str>,
    pick: Pick,
    to: &Path,
    progress: OnPrepare<'_>,
) -> Result<(usize, usize), DataError> {
    let extension = to.extension().unwrap_or_default().to_ascii_lowercase();
    let reader = Reader::open(from, table)?;
    may_be_at(to, |path| reader.is_called(path))?;
    let (all, dim) = (reader.rows(), reader.dim());
    let ids = match pick {
        Pick::Random(count) if count < all => {
            Some(distinct_rows("vq-host sample of a file 1", all, count))
        }
        _ => None,
    };
    let first = if let Pick::First(count) = pick { all.min(count) } else { all };
    let rows = ids.as_ref().map_or(first, Vec::len);
    let head = match extension.to_str() {
        Some("npy") => npy("<f4", rows, dim),
        Some("fbin") => {
            let rows = u32::try_from(rows).map_err(|_| DataError::TooManyRows {
                what: from.display().to_string(),
                rows: rows as u64,
            })?;
            // No row is wider than MAX_DIM.
            [rows.to_le_bytes(), (dim as u32).to_le_bytes()].concat()
        }
        _ => {
            let extension = extension.to_string_lossy().into_owned();
            return Err(DataError::NotWritten { path: to.into(), extension });
        }
    };
    write_whole(to, (head.len() + 4 * rows * dim) as u64, |out| {
        out(&head)?;
        let mut left = ids.as_deref();
        let mut bytes = Vec::new();
        // What follows the last row that is wanted is not read.
        let last = ids.as_ref().and_then(|ids| ids.last()).map_or(first, |last| last + 1);
        reader.walk(last, false, "convert", &interruptible(progress), |first, values| {
            bytes.clear();
            let mut put =
                |values: &[f32]| bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
            match &mut left {
                None => put(values),
                Some(ids) => {
                    let end = first + values.len() / dim;
                    let (here, later) = ids.split_at(ids.partition_point(|row| *row < end));
                    *ids = later;
                    here.iter().for_each(|row| put(&values[(row - first) * dim..][..dim]));
                }
            }
            out(&bytes)
        })
    })?;
    Ok((rows, dim))
}
