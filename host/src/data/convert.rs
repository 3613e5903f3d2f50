//! Any source as one file of f32 rows.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::DataError;
use super::error::io;
use super::prepare::{OnPrepare, interruptible};
use super::reader::Reader;

/// The length of an npy header, itself included; its end is where rows begin.
const NPY_HEADER: usize = 128;

/// Writes the first `limit` rows at `from`, or all, to `to`: `.npy` or `.fbin`. The file appears
/// whole or not at all. Answers (rows, dimensions).
///
/// Memory: O(block·d).
///
/// # Errors
/// [`DataError`]: nothing to read there, it is not what its format says, or nothing can be written.
pub fn convert(
    from: &Path,
    table: Option<&str>,
    limit: Option<usize>,
    to: &Path,
    progress: OnPrepare<'_>,
) -> Result<(usize, usize), DataError> {
    let extension = to.extension().unwrap_or_default().to_ascii_lowercase();
    let reader = Reader::open(from, table)?;
    let (rows, dim) = (reader.rows().min(limit.unwrap_or(usize::MAX)), reader.dim());
    let head = match extension.to_str() {
        Some("npy") => npy(rows, dim),
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
    let folder = to.parent().filter(|of| !of.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = tempfile::NamedTempFile::new_in(folder).map_err(io("write", to))?;
    let mut out = BufWriter::with_capacity(1 << 20, place.as_file());
    out.write_all(&head).map_err(io("write", to))?;
    let mut bytes = Vec::new();
    reader.walk(rows, false, "convert", &interruptible(progress), |_, values| {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        out.write_all(&bytes).map_err(io("write", to))
    })?;
    out.flush().map_err(io("write", to))?;
    drop(out);
    place.as_file().sync_all().map_err(io("write", to))?;
    readable(place.as_file()).map_err(io("write", to))?;
    place.persist(to).map_err(|failed| io("write", to)(failed.error))?;
    Ok((rows, dim))
}

/// Temporary files are their owner's alone; this one is to be a file like any other.
fn readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn npy(rows: usize, dim: usize) -> Vec<u8> {
    let mut head = b"\x93NUMPY\x01\x00".to_vec();
    head.extend(((NPY_HEADER - 10) as u16).to_le_bytes());
    head.extend(
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}").bytes(),
    );
    head.resize(NPY_HEADER - 1, b' ');
    head.push(b'\n');
    head
}
