//! The host's side of files that a child parses (`foreign`): their shape, and their rows in order.

use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::element::Element;
use super::foreign::Parts;
use crate::data::cache::canonical;
use crate::data::error::io;
use crate::data::{DataError, MAX_DIM};
use crate::worker::protocol::Reading;
use crate::worker::read::{ReadError, Sending, look_at};

/// f32 bytes for each byte of a file, beyond these: deflate makes no more of one.
const MOST_GROWTH: u64 = 4 * 1032;
const SMALL: u64 = 64 << 20;
/// Bytes taken at a time.
const TAKEN: usize = 1 << 18;

/// A file of `rows`×`dim` values whose rows a child sends.
#[derive(Debug)]
pub(super) struct Confined {
    /// Without links, as the child has to open it.
    file: PathBuf,
    /// As the user calls it.
    path: PathBuf,
    extension: &'static str,
    table: String,
    element: String,
    parts: Parts,
    bytes: u64,
    pub(super) rows: usize,
    pub(super) dim: usize,
}

/// The fault of one of `paths`.
fn fault(paths: &[PathBuf], error: ReadError) -> DataError {
    match error {
        ReadError::File(at, reason) => {
            DataError::Foreign { path: paths[at].clone(), reason, files: paths.len() }
        }
        ReadError::Interrupted => DataError::Interrupted,
        ReadError::Host(fault) => {
            DataError::NoReader { path: paths[0].clone(), reason: fault.to_string() }
        }
    }
}

impl Confined {
    /// Has a child look at files of one format, so many bytes each.
    pub(super) fn open(
        paths: &[PathBuf],
        bytes: &[u64],
        extension: &'static str,
        table: Option<&str>,
    ) -> Result<Vec<Self>, DataError> {
        let files = paths.iter().map(|path| canonical(path)).collect::<Result<Vec<_>, _>>()?;
        let reading = Reading {
            files: files.clone(),
            extension: extension.to_owned(),
            table: table.map(str::to_owned),
            lists: false,
            rows: None,
        };
        let shapes = look_at(&reading, bytes.iter().sum()).map_err(|error| fault(paths, error))?;
        let mut all = Vec::with_capacity(paths.len());
        for (((shape, file), path), bytes) in shapes.into_iter().zip(files).zip(paths).zip(bytes) {
            let (rows, dim, path) = (shape.rows, shape.dim, path.clone());
            if rows > 0 && dim == 0 {
                return Err(DataError::Empty { path, rows, dim });
            }
            if dim > MAX_DIM as u64 {
                return Err(DataError::TooWide { what: path.display().to_string(), dim });
            }
            let grown = u128::from(rows) * u128::from(dim) * 4;
            let most = u128::from(*bytes) * u128::from(MOST_GROWTH) + u128::from(SMALL);
            if grown > most {
                return Err(DataError::Inflated { path, rows, dim, found: *bytes });
            }
            all.push(Self {
                file,
                path,
                extension,
                table: shape.table,
                element: shape.element,
                parts: shape.parts,
                bytes: *bytes,
                rows: usize::try_from(rows).unwrap_or(usize::MAX),
                dim: dim as usize,
            });
        }
        Ok(all)
    }

    /// All of them: where its rows end in the file, only its parser knows.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn layout(&self) -> String {
        let Self { extension, table, element, dim, .. } = self;
        format!("{extension} table={table:?} {element} dim={dim}")
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    pub(super) fn element(&self) -> &str {
        &self.element
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The first `rows` rows.
    pub(super) fn start(&self, rows: usize) -> Result<Coming, DataError> {
        let reading = Reading {
            files: Vec::new(),
            extension: self.extension.to_owned(),
            table: Some(self.table.clone()).filter(|table| !table.is_empty()),
            lists: false,
            rows: Some(rows as u64),
        };
        let sending = Sending::start(self.file.clone(), reading, self.bytes);
        let sending = sending.map_err(|error| self.fault(error))?;
        Ok(Coming { sending, bytes: vec![0; TAKEN] })
    }

    fn fault(&self, error: ReadError) -> DataError {
        fault(std::slice::from_ref(&self.path), error)
    }
}

/// The lists of row numbers (lists, length) in the `table` of the file at `path`.
///
/// Memory: that of all lists.
pub(super) fn lists(
    path: &Path,
    extension: &'static str,
    table: &str,
) -> Result<Array2<u32>, DataError> {
    let bytes = path.metadata().map_err(io("inspect", path))?.len();
    let file = canonical(path)?;
    let of = |error| fault(&[path.to_path_buf()], error);
    let mut reading = Reading {
        files: vec![file.clone()],
        extension: extension.to_owned(),
        table: Some(table.to_owned()),
        lists: true,
        rows: None,
    };
    let shape = look_at(&reading, bytes).map_err(of)?.swap_remove(0);
    let (rows, dim) = (shape.rows, shape.dim);
    if rows == 0 || dim == 0 {
        return Err(DataError::Empty { path: path.to_path_buf(), rows, dim });
    }
    let most = u128::from(bytes) * u128::from(MOST_GROWTH) + u128::from(SMALL);
    if dim > MAX_DIM as u64 || u128::from(rows) * u128::from(dim) * 4 > most {
        return Err(DataError::Inflated { path: path.to_path_buf(), rows, dim, found: bytes });
    }
    reading.rows = Some(rows);
    let mut sending = Sending::start(file, reading, bytes).map_err(of)?;
    let mut lists = Array2::zeros((rows as usize, dim as usize));
    let mut row = vec![0; 4 * dim as usize];
    for mut list in lists.rows_mut() {
        sending.take(&mut row).map_err(of)?;
        let numbers = row.as_chunks().0.iter().copied().map(u32::from_le_bytes);
        list.iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
    }
    sending.finish().map_err(of)?;
    Ok(lists)
}

/// Rows on their way from a child.
#[derive(Debug)]
pub(super) struct Coming {
    sending: Sending,
    bytes: Vec<u8>,
}

impl Coming {
    /// Fills `out` with the next values.
    pub(super) fn take(&mut self, of: &Confined, out: &mut [f32]) -> Result<(), DataError> {
        for values in out.chunks_mut(TAKEN / 4) {
            let bytes = &mut self.bytes[..values.len() * 4];
            self.sending.take(bytes).map_err(|error| of.fault(error))?;
            Element::F32.convert(bytes, false, values);
        }
        Ok(())
    }

    /// To be called when all rows are taken.
    pub(super) fn finish(self, of: &Confined) -> Result<(), DataError> {
        self.sending.finish().map_err(|error| of.fault(error))?;
        let now = of.file.metadata().map_err(io("inspect", &of.path))?.len();
        if now != of.bytes {
            let how = "changed while it was read";
            return Err(DataError::Changed { path: of.path.clone(), how });
        }
        Ok(())
    }
}
