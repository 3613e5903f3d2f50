//! Rows from wherever they come, a block at a time.

use std::fmt;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::cache::canonical;
use super::error::io;
use super::format::foreign::Parts;
use super::format::{SourceFile, Walk};
use super::rows::{RowSink, normalise};
use super::shards::files;
use super::synthetic::Generator;
use super::{DataError, OnProgress, Progress, Synthetic, UnusableRows, block_rows};

/// What parts of a data set are called.
const SPLITS: [&str; 9] =
    ["train", "test", "validation", "valid", "val", "dev", "query", "queries", "learn"];

/// Where rows come from, checked.
#[derive(Debug)]
pub(super) enum Reader {
    Files {
        /// At least one; the rows of one come behind those of the other.
        shards: Vec<Shard>,
        /// For people.
        called: String,
    },
    Synthetic(Generator),
}

/// A file of a dataset.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) file: SourceFile,
    /// Without links.
    pub(super) path: PathBuf,
    /// As the user calls it.
    pub(super) written: PathBuf,
}

impl Reader {
    /// A file, a folder of files or a pattern of their names.
    pub(super) fn open(written: &Path, table: Option<&str>) -> Result<Self, DataError> {
        Self::open_all(std::slice::from_ref(&written.to_path_buf()), table)
    }

    /// Several of these as one dataset.
    pub(super) fn open_all(written: &[PathBuf], table: Option<&str>) -> Result<Self, DataError> {
        let mut names = Vec::new();
        for written in written {
            for file in files(written)? {
                names.push(std::path::absolute(&file).map_err(io("find", &file))?);
            }
        }
        let paths = names.iter().map(|name| canonical(name)).collect::<Result<Vec<_>, _>>()?;
        let opened = SourceFile::open_all(&names, table)?;
        let called = match (names.as_slice(), written) {
            ([name], _) => name.display().to_string(),
            (_, [written]) => written.display().to_string(),
            ([first, others @ ..], _) => format!("{} and {} more", first.display(), others.len()),
            ([], _) => String::new(),
        };
        let mut shards: Vec<Shard> = Vec::with_capacity(names.len());
        let all = opened.into_iter().zip(paths).zip(names);
        for ((file, path), written) in all.filter(|((file, _), _)| file.rows > 0) {
            if let Some(first) = shards.first()
                && first.file.dim != file.dim
            {
                let (expected, found) = (first.file.dim, file.dim);
                return Err(DataError::ShardDim { path: written, expected, found });
            }
            // Files of one format name their vectors alike, or give others than was meant.
            let alike = shards.iter().find(|shard| shard.path.extension() == path.extension());
            let tables = alike.and_then(|shard| shard.file.table()).zip(file.table());
            if let Some((expected, found)) = tables.filter(|(expected, found)| expected != found) {
                let (expected, found) = (expected.to_owned(), found.to_owned());
                return Err(DataError::ShardTable { path: written, expected, found });
            }
            shards.push(Shard { file, path, written });
        }
        Ok(Self::Files { shards, called })
    }

    pub(super) fn synthetic(of: &Synthetic) -> Result<Self, DataError> {
        Generator::new(of).map(Self::Synthetic)
    }

    fn shards(&self) -> &[Shard] {
        match self {
            Self::Files { shards, .. } => shards,
            Self::Synthetic(_) => &[],
        }
    }

    /// Whether `path` is one of its files.
    pub(super) fn is_called(&self, called: &Path) -> bool {
        self.shards().iter().any(|shard| called == shard.path || called == shard.written)
    }

    /// The words for parts of a data set that its files' names begin with.
    pub(super) fn splits(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for shard in self.shards() {
            let name = shard.written.file_name().unwrap_or_default().to_string_lossy();
            let word: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
            if SPLITS.contains(&word.to_ascii_lowercase().as_str()) && !found.contains(&word) {
                found.push(word);
            }
        }
        found
    }

    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self.shards() {
            [shard] => Some(&shard.path),
            _ => None,
        }
    }

    /// Whether a file of `other`, or a table of it, is one of its own.
    pub(super) fn shares_a_file_with(&self, other: &Self) -> bool {
        let same = |a: &Shard, b: &Shard| a.path == b.path && a.file.layout() == b.file.layout();
        self.shards().iter().any(|shard| other.shards().iter().any(|of| same(shard, of)))
    }

    /// What lies in its one file beside its rows, and belongs to them.
    pub(super) fn parts(&self) -> Option<(&Path, &Parts)> {
        match self.shards() {
            [shard] => Some((&shard.written, shard.file.parts()?)),
            _ => None,
        }
    }

    /// What its files are, for people.
    pub(super) fn described(&self) -> Described {
        let shards = self.shards();
        let of = |what: fn(&SourceFile) -> String| {
            shards.first().map(|shard| what(&shard.file)).unwrap_or_default()
        };
        Described {
            format: of(|file| file.extension.to_owned()),
            table: shards.first().and_then(|shard| shard.file.table()).map(str::to_owned),
            element: of(|file| file.element().to_owned()),
            files: shards.len(),
            bytes: shards.iter().map(|shard| shard.file.bytes(shard.file.rows)).sum(),
            parts: self.parts().map(|(_, parts)| parts.clone()).unwrap_or_default(),
        }
    }

    /// Through its first `rows` rows.
    pub(super) fn way(&self, rows: usize) -> Way<'_> {
        Way { to_come: Box::new(self.within(rows)), here: None, dim: self.dim() }
    }

    /// The files that the first `rows` rows are in, and how many of each.
    pub(super) fn within(&self, rows: usize) -> impl Iterator<Item = (&Shard, usize)> {
        let mut left = rows;
        self.shards().iter().map_while(move |shard| {
            let here = left.min(shard.file.rows);
            left -= here;
            (here > 0).then_some((shard, here))
        })
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Files { shards, .. } => {
                shards.iter().fold(0, |rows, shard| rows.saturating_add(shard.file.rows))
            }
            Self::Synthetic(generator) => generator.rows,
        }
    }

    /// Bits of one of its values, on average where its files differ; of numbers in text and of those that
    /// are drawn, those that they are read as.
    pub(super) fn source_bits(&self) -> f64 {
        let bits = |shard: &Shard| match shard.file.element() {
            "f8" => 64.0,
            "f2" | "bf16" => 16.0,
            "u1" | "i1" => 8.0,
            _ => 32.0,
        };
        let rows: f64 = self.shards().iter().map(|shard| shard.file.rows as f64).sum();
        let sum: f64 = self.shards().iter().map(|of| bits(of) * of.file.rows as f64).sum();
        if rows > 0.0 { sum / rows } else { 32.0 }
    }

    pub(super) fn dim(&self) -> usize {
        match self {
            Self::Files { shards, .. } => shards.first().map_or(0, |shard| shard.file.dim),
            Self::Synthetic(generator) => generator.dim,
        }
    }

    /// Where the rows begin in its one file, if that can serve for them as they are.
    fn in_place(&self, unchanged: bool) -> Option<u64> {
        match self.shards() {
            [shard] if unchanged => shard.file.raw_f32_offset(),
            _ => None,
        }
    }

    /// Whether its rows, `unchanged`, are not copied.
    pub(super) fn is_in_place(&self, unchanged: bool) -> bool {
        self.in_place(unchanged).is_some()
    }

    /// A sink for all of the rows as they are: the file itself if it can serve.
    pub(super) fn sink(&self, folder: &Path, unchanged: bool) -> Result<RowSink, DataError> {
        match self.in_place(unchanged) {
            Some(offset) => Ok(RowSink::in_place(offset, self.dim())),
            None => RowSink::create(folder, "rows.f32", self.dim()),
        }
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
        self.walk_usable(rows, unit, UnusableRows::Told, stage, progress, |first, values, _| {
            each(first, values)
        })
    }

    /// As [`walk`](Self::walk); `each` is also told which of the rows that it sees are to be dropped,
    /// ascending.
    pub(super) fn walk_usable(
        &self,
        rows: usize,
        unit: bool,
        unusable: UnusableRows,
        stage: &'static str,
        progress: OnProgress<'_>,
        mut each: impl FnMut(usize, &[f32], &[u32]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let finite = unusable != UnusableRows::Dropped;
        let mut dropped = Vec::new();
        let step = block_rows(self.dim());
        let mut block = Array2::zeros((step.min(rows), self.dim()));
        let mut way = self.way(rows);
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            if count < block.nrows() {
                block = Array2::zeros((count, self.dim()));
            }
            let values = block.as_slice_mut().expect("a block is row-major");
            match self {
                Self::Files { .. } => way.fill(values, finite)?,
                Self::Synthetic(generator) => generator.read(first, values),
            }
            dropped.clear();
            if unusable != UnusableRows::Told {
                let is_usable = |row: &[f32]| {
                    (finite || row.iter().all(|x| x.is_finite()))
                        && !(unit && row.iter().all(|x| *x == 0.0))
                };
                let bad = values.chunks_exact(self.dim()).enumerate();
                let bad = bad.filter(|(_, row)| !is_usable(row));
                dropped.extend(bad.map(|(at, _)| (first + at) as u32));
            }
            if let (UnusableRows::Refused, Some(row)) = (unusable, dropped.first()) {
                return Err(DataError::ZeroRow { what: self.to_string(), row: u64::from(*row) });
            }
            if unit {
                normalise(&mut block);
            }
            each(first, block.as_slice().expect("a block is row-major"), &dropped)?;
            progress(Progress { stage, done: (first + count) as u64, total: rows as u64 })?;
        }
        Ok(())
    }
}

/// What the files of a dataset are.
pub(super) struct Described {
    pub(super) format: String,
    pub(super) table: Option<String>,
    pub(super) element: String,
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) parts: Parts,
}

/// A way through the first rows of several files, one behind the other.
pub(super) struct Way<'a> {
    to_come: Box<dyn Iterator<Item = (&'a Shard, usize)> + 'a>,
    /// The file that is being read, and how many rows of it are left.
    here: Option<(Walk<'a>, usize)>,
    dim: usize,
}

impl Way<'_> {
    /// Fills `out`, whole rows and no more than are left, whatever the values are.
    pub(super) fn take_any(&mut self, out: &mut [f32]) -> Result<(), DataError> {
        self.fill(out, false)
    }

    /// The same; where `finite`, none may have a value that is not.
    fn fill(&mut self, mut out: &mut [f32], finite: bool) -> Result<(), DataError> {
        while !out.is_empty() {
            let (mut walk, left) = match self.here.take() {
                Some(here) => here,
                None => {
                    let (shard, rows) = self.to_come.next().expect("no more rows than there are");
                    (shard.file.start(rows)?, rows)
                }
            };
            let now = left.min(out.len() / self.dim);
            let (values, others) = out.split_at_mut(now * self.dim);
            walk.take(values, finite)?;
            out = others;
            if now == left {
                walk.finish()?;
            } else {
                self.here = Some((walk, left - now));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { called, .. } => f.write_str(called),
            Self::Synthetic(generator) => write!(f, "synthetic {}", generator.kind().name()),
        }
    }
}
