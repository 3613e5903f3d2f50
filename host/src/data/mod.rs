//! Any source of vectors becomes a *prepared dataset*: base, train, queries and their exact
//! neighbours as files in a cache folder, plus a manifest with a content digest.
//!
//! [`prepare()`] does it once; the second call finds the folder and reads only the manifest. Its
//! steps can be taken one by one ([`Headers`], [`PreparedRows`], [`Prepared`]), so that a plan
//! reads headers before rows and finds no neighbours.
//!
//! Nothing here holds a dataset in memory: rows move in blocks, O(block·d). They are read by
//! position instead of through a memory map, because mapped pages count into the resident memory
//! that a cell reports, and a file truncated under a map kills its reader.
//!
//! `format` reads the files people have · `shards` says which files are meant · `synthetic` makes rows · `reader` is either, block by
//! block · `rows` is the one format that everything else sees · `cache` says where they lie,
//! `unfinished` what is being made · `inventory` what is kept · `identity` knows whether a source
//! is still what it was · `prepare` ties these together · `equal` counts rows that are the same ·
//! `spectrum` and `truth` are computed from prepared rows, and neighbours that came with the data are
//! held against `truth` (`claimed`) · `inspect` and `convert` are for people who look at a source before
//! anything is prepared, `written` makes their files · `public` fetches the field's sets · `room` is what
//! the disk has.

mod cache;
mod claimed;
mod convert;
mod equal;
mod error;
mod format;
mod identity;
mod inspect;
mod inventory;
mod prepare;
mod public;
mod reader;
mod room;
mod rows;
mod shards;
mod spectrum;
mod synthetic;
mod truth;
mod turn;
mod unfinished;
mod written;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::record::DatasetInfo;
pub use crate::record::Facts;

pub use convert::{Pick, convert};
pub use error::DataError;
pub use format::foreign::{Parts, Shape};
pub(crate) use format::foreign::{look, send, send_lists};
pub use inspect::{Inspection, inspect};
pub use inventory::{Cleared, Kept, clear, inventory};
pub use prepare::{
    Blame, Headers, OnPrepare, PrepareError, PreparedRows, divided, is_prepared, prepare,
};
pub use public::{PublicFile, PublicSet};
pub use rows::{RowFile, Rows};
pub use synthetic::{Synthetic, SyntheticKind};
pub use truth::{Truth, TruthFile, exact_neighbours};

/// The widest row accepted. Beyond it a header is more likely damaged than meant.
pub const MAX_DIM: usize = 65_536;

/// What a sweep asks of one dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// The label in records and tables. It is not part of the cache key.
    pub name: String,
    /// Where the rows come from.
    pub source: Source,
    /// Which rows are searched for.
    pub queries: Queries,
    /// Which rows methods learn from.
    pub train: Train,
    /// Only the first `limit` rows of the source; more than it has is all of it.
    pub limit: Option<usize>,
    /// Only so many random rows of the base; more than it has is all of it. Queries and training
    /// rows are those of the whole.
    pub thin: Option<usize>,
    /// The distance that defines a neighbour.
    pub metric: Metric,
    /// Where the base's file names its distance, that one defines a neighbour instead.
    pub own_metric: bool,
    /// What becomes of rows that cannot be measured.
    pub unusable: UnusableRows,
    /// A file of the queries' nearest rows of the source, which are held against the exact ones. They
    /// are part of no key.
    pub neighbours: Option<PathBuf>,
}

/// Where the rows come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A file, whose extension says the format, or as one: the files of a folder, or those that a
    /// pattern matches, in the order of their names.
    File(PathBuf),
    /// Several of these as one.
    Files(Vec<PathBuf>),
    /// One of the tables of a file, for formats that have several.
    Table {
        /// The file; its extension says the format.
        file: PathBuf,
        /// The table's name in it.
        table: String,
    },
    /// Rows drawn from a known distribution.
    Synthetic(Synthetic),
}

/// Which rows are searched for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queries {
    /// This many distinct random rows leave the source and become the queries.
    HoldOut(usize),
    /// The source's own where it has such beside its base. Elsewhere as many held out, or a tenth of
    /// the source's rows (at least one) where that is less: a default, which a small file need not
    /// meet.
    HoldOutUpTo(usize),
    /// A file of its own.
    File(PathBuf),
}

/// Which rows methods learn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Train {
    /// Rows that are kept apart: so many random ones of those that the source reserves, or all of
    /// them. How many it reserves, and which, does not depend on how many are asked for. A source
    /// of fewer than 2,000 rows reserves none: its methods learn from the base, or as many of its
    /// rows.
    Reserved(Option<usize>),
    /// The base itself.
    Base,
    /// This many distinct random rows of the base, in ascending order; all of it
    /// when it has no more.
    Sample(usize),
    /// A file of its own.
    File(PathBuf),
}

/// What becomes of rows with a NaN or an infinity, and under cosine of rows of zeros, which have no
/// direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnusableRows {
    /// The former are errors. The latter stay as they are, and a note counts them.
    #[default]
    Told,
    /// Each is an error.
    Refused,
    /// They leave base, queries and training rows, and a note counts them.
    Dropped,
}

/// The distance that defines a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Squared Euclidean distance.
    L2,
    /// Inner product, larger is nearer.
    Ip,
    /// Inner product of rows brought to unit length during preparation.
    Cosine,
}

impl Metric {
    /// The name in sweep files and records: `l2`, `ip` or `cosine`.
    pub fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Ip => "ip",
            Self::Cosine => "cosine",
        }
    }
}

/// How far a preparation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, as a verb phrase: `read base`, `find neighbours`.
    pub stage: &'static str,
    /// Rows of this stage behind us.
    pub done: u64,
    /// Rows of this stage altogether.
    pub total: u64,
}

/// Everything a cell needs to know of its data; handed to worker processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// The label the sweep gave.
    pub name: String,
    /// The distance that defines a neighbour.
    pub metric: Metric,
    /// Dimensions of every row of every part.
    pub dim: usize,
    /// Bits that a value of the base has in its source.
    pub source_bits: f64,
    /// BLAKE3, in hex, over the contents of base, train and queries and the metric.
    pub digest: String,
    /// The rows that are compressed and searched.
    pub base: RowFile,
    /// The rows methods learn from; may be the base itself.
    pub train: RowFile,
    /// No method learns from the rows that it is measured on: none of `train` was taken from the
    /// base. False where `train` is the base, a sample of it, or a file of the same contents.
    pub train_apart: bool,
    /// The rows that are searched for.
    pub queries: RowFile,
    /// The exact neighbours of the queries in the base.
    pub truth: TruthFile,
    /// What `truth` is of, and found rows are judged by, where that is not this data.
    #[serde(default)]
    pub judge: Option<Judge>,
    /// Mean of each dimension over the base.
    pub mean: Vec<f64>,
    /// Eigenvalues of the base's covariance (divisor n), descending, none negative.
    /// Taken from at most max(100,000, 20·d) evenly strided rows; empty above 4,096
    /// dimensions (a note says so).
    pub spectrum: Vec<f64>,
    /// What is peculiar about the data, counted.
    pub facts: Facts,
    /// Things about the data a reader of results should know.
    pub notes: Vec<String>,
    /// What was not as it should be when this was prepared, and was mended.
    #[serde(skip)]
    pub notices: Vec<String>,
    /// The files this was prepared from; see [`unchanged`](Self::unchanged).
    #[serde(skip)]
    sources: identity::Sources,
}

/// Rows and queries of another data set with the same ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// The distance that defines a neighbour there.
    pub metric: Metric,
    /// Dimensions of its rows.
    pub dim: usize,
    /// As many rows as the base has.
    pub base: RowFile,
    /// As many queries as there are.
    pub queries: RowFile,
    #[serde(skip)]
    sources: identity::Sources,
}

impl Prepared {
    /// This data with the neighbours of `other` as the true ones: its rows have the same ids.
    ///
    /// # Panics
    /// When they differ in their numbers of rows or queries.
    pub fn judged_by(mut self, other: &Prepared) -> Self {
        let numbers = |of: &Prepared| (of.base.rows, of.queries.rows);
        assert_eq!(numbers(&self), numbers(other), "rows with the same ids");
        self.truth.clone_from(&other.truth);
        // What is counted while neighbours are sought is of these neighbours.
        self.facts.tied_queries = other.facts.tied_queries;
        self.judge = Some(Judge {
            metric: other.metric,
            dim: other.dim,
            base: other.base.clone(),
            queries: other.queries.clone(),
            sources: other.sources.clone(),
        });
        self
    }

    /// What a record says of this data.
    pub fn info(&self) -> DatasetInfo {
        DatasetInfo {
            name: self.name.clone(),
            digest: self.digest.clone(),
            n: self.base.rows as u64,
            dim: self.dim as u64,
            queries: self.queries.rows as u64,
            train_rows: Some(self.train.rows as u64),
            train_apart: Some(self.train_apart),
            facts: Some(self.facts),
        }
    }
}

/// Whether files stand behind `path`: itself, those of a folder, or those that a pattern matches.
pub fn is_source(path: &Path) -> bool {
    shards::are_there(path)
}

/// Why no file of vectors stands behind `path`, a folder or a pattern of names.
///
/// # Errors
/// [`DataError`]: none there, several formats, or one that cannot be opened.
pub fn are_shards(path: &Path) -> Result<(), DataError> {
    shards::files(path).map(drop)
}

/// Whether `path` may be a pattern of names.
pub fn is_pattern(path: &Path) -> bool {
    shards::is_pattern(path)
}

/// Whether a file may have queries of its own beside its base, by its format.
pub fn may_have_queries(path: &Path) -> bool {
    matches!(format::format_of(path), Some("hdf5" | "h5"))
}

/// Rows of a block when walking data of `dim` dimensions: about 4 MiB, and always
/// a multiple of the synthetic generator's block.
fn block_rows(dim: usize) -> usize {
    let step = synthetic::BLOCK_ROWS;
    ((1 << 20) / dim / step * step).clamp(step, 16_384)
}

/// The callback every stage reports to.
type OnProgress<'a> = &'a (dyn Fn(Progress) -> Result<(), DataError> + Sync);

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod testing;
