//! Rows from wherever they come, a block at a time.

use std::fmt;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::cache::canonical;
use super::error::io;
use super::format::SourceFile;
use super::rows::{RowSink, normalise};
use super::synthetic::Generator;
use super::{DataError, OnProgress, Progress, Synthetic, block_rows};

/// Where rows come from, checked.
#[derive(Debug)]
pub(super) enum Reader {
    File {
        file: SourceFile,
        /// Without links.
        path: PathBuf,
        /// As the user calls it.
        written: PathBuf,
    },
    Synthetic(Generator),
}

impl Reader {
    pub(super) fn open(written: &Path, table: Option<&str>) -> Result<Self, DataError> {
        let path = canonical(written)?;
        let written = std::path::absolute(written).map_err(io("find", written))?;
        Ok(Self::File { file: SourceFile::open(&written, table)?, path, written })
    }

    pub(super) fn synthetic(of: &Synthetic) -> Result<Self, DataError> {
        Generator::new(of).map(Self::Synthetic)
    }

    /// Whether `path` is this file.
    pub(super) fn is_called(&self, called: &Path) -> bool {
        match self {
            Self::File { path, written, .. } => called == path || called == written,
            Self::Synthetic(_) => false,
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => Some(path),
            Self::Synthetic(_) => None,
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::File { file, .. } => file.rows,
            Self::Synthetic(generator) => generator.rows,
        }
    }

    pub(super) fn dim(&self) -> usize {
        match self {
            Self::File { file, .. } => file.dim,
            Self::Synthetic(generator) => generator.dim,
        }
    }

    /// A sink for all of the rows as they are: the file itself if it can serve.
    pub(super) fn sink(&self, folder: &Path, unchanged: bool) -> Result<RowSink, DataError> {
        if let Self::File { file, .. } = self
            && let (true, Some(offset)) = (unchanged, file.raw_f32_offset())
        {
            return Ok(RowSink::in_place(offset, self.dim()));
        }
        RowSink::create(folder, "rows.f32", self.dim())
    }

    /// Shows the first `rows` rows to `each` (first row, values), a block at a time,
    /// at unit length if so asked.
    pub(super) fn walk(
        &self,
        rows: usize,
        unit: bool,
        stage: &'static str,
        progress: OnProgress<'_>,
        mut each: impl FnMut(usize, &[f32]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let step = block_rows(self.dim());
        let mut block = Array2::zeros((step.min(rows), self.dim()));
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            if count < block.nrows() {
                block = Array2::zeros((count, self.dim()));
            }
            let values = block.as_slice_mut().expect("a block is row-major");
            match self {
                Self::File { file, .. } => file.read(first, values)?,
                Self::Synthetic(generator) => generator.read(first, values),
            }
            if unit {
                normalise(&mut block);
            }
            each(first, block.as_slice().expect("a block is row-major"))?;
            progress(Progress { stage, done: (first + count) as u64, total: rows as u64 })?;
        }
        Ok(())
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { written, .. } => write!(f, "{}", written.display()),
            Self::Synthetic(generator) => write!(f, "synthetic {}", generator.kind().name()),
        }
    }
}
