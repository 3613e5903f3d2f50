//! Files for people, which appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::DataError;
use super::error::io;
use super::room::has_room;

/// The length of an npy header, itself included; its end is where rows begin.
const NPY_HEADER: usize = 128;

/// Takes the next bytes of a file.
pub(super) type Out<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), DataError>;

/// Refuses `to` where its folder is none, or where it is one of the files that `reads` says are read,
/// by their paths without links.
pub(super) fn may_be_at(to: &Path, reads: impl FnOnce(&Path) -> bool) -> Result<(), DataError> {
    let folder = folder_of(to).canonicalize().map_err(io("write", to))?;
    if !folder.is_dir() {
        return Err(io("write", to)(ErrorKind::NotADirectory.into()));
    }
    match to.canonicalize() {
        Ok(path) if reads(&path) => Err(DataError::OverItsSource { path: to.into() }),
        _ => Ok(()),
    }
}

fn folder_of(to: &Path) -> &Path {
    to.parent().filter(|of| !of.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes `to` of `bytes` bytes, which `fill` hands over.
pub(super) fn write_whole(
    to: &Path,
    bytes: u64,
    fill: impl FnOnce(Out<'_>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let folder = folder_of(to);
    has_room(folder, bytes).map_err(io("write", to))?;
    let place = tempfile::NamedTempFile::new_in(folder).map_err(io("write", to))?;
    let mut out = BufWriter::with_capacity(1 << 20, place.as_file());
    fill(&mut |bytes| out.write_all(bytes).map_err(io("write", to)))?;
    out.flush().map_err(io("write", to))?;
    drop(out);
    place.as_file().sync_all().map_err(io("write", to))?;
    readable(place.as_file()).map_err(io("write", to))?;
    place.persist(to).map_err(|failed| io("write", to)(failed.error))?;
    Ok(())
}

/// Temporary files are their owner's alone; this one is to be a file like any other.
fn readable(file: &File) -> std::io::Result<()> {
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// The header of a matrix (rows, columns) whose numbers are of the type `descr`.
pub(super) fn npy(descr: &str, rows: usize, columns: usize) -> Vec<u8> {
    let mut head = b"\x93NUMPY\x01\x00".to_vec();
    head.extend(((NPY_HEADER - 10) as u16).to_le_bytes());
    head.extend(
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}")
            .bytes(),
    );
    head.resize(NPY_HEADER - 1, b' ');
    head.push(b'\n');
    head
}
