use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::MAX_DIM;
use super::format::extensions;

/// Why a dataset could not be prepared or read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{doing} {path}")]
    Io {
        /// What was tried: `open`, `read`, `write`, …
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Prepared data cannot be kept or read.
    #[error("{doing} {path}")]
    Cache {
        /// What was tried: `create`, `write`, …
        doing: &'static str,
        /// On which file or folder of the cache.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A folder, a pipe or a device where a file was expected.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// The path cannot be written into a manifest or handed to a worker.
    #[error("{path:?} is not valid UTF-8")]
    NotUtf8 {
        /// What was given.
        path: PathBuf,
    },
    /// The extension names no format we read.
    #[error("{path}: {}; read are {}", named(extension), extensions())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its extension, possibly empty.
        extension: String,
        /// What to do about it, as its first bytes tell.
        advice: &'static str,
    },
    /// What was fetched in its place.
    #[error("{path} is {what}")]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// How to get the right one.
        advice: &'static str,
    },
    /// A table of a file whose format has none.
    #[error("{path}: a .{extension} file has no tables, so none is named `{table}`")]
    NoTables {
        /// The file.
        path: PathBuf,
        /// The table that was asked for.
        table: String,
        /// What the file is taken for.
        extension: &'static str,
    },
    /// A file that a child parses is not what its format says, or has not what is asked of it.
    #[error("{path}: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Files that are read with it as one dataset, itself included.
        files: usize,
    },
    /// No child to parse it.
    #[error("{path}: no confined process can read it: {reason}")]
    NoReader {
        /// The file.
        path: PathBuf,
        /// What the host could not do.
        reason: String,
    },
    /// Many more values than its bytes could hold.
    #[error("{path}: {rows}×{dim} in {found} bytes: no vectors are packed so small")]
    Inflated {
        /// The file.
        path: PathBuf,
        /// Rows it announces.
        rows: u64,
        /// Dimensions it announces.
        dim: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A file cannot be written in a format that its name says.
    #[error("{path}: `.{extension}` is not written; .npy and .fbin are")]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// Its extension, possibly empty.
        extension: String,
    },
    /// A file would be written over one that it is made from.
    #[error("{path} is one of the files that are read")]
    OverItsSource {
        /// The file.
        path: PathBuf,
    },
    /// No public set of that name.
    #[error("there is no public set `{name}`; the most similar name is `{nearest}`")]
    NoSet {
        /// What was asked for.
        name: String,
        /// The name that is most like it.
        nearest: &'static str,
    },
    /// A file cannot be fetched.
    #[error("{address}: {reason}")]
    Fetch {
        /// Where it should be.
        address: String,
        /// Why not.
        reason: String,
    },
    /// What is fetched is not what was fetched the first time.
    #[error(
        "{address}: it is another file than was fetched first: {about} keeps another digest (BLAKE3 {} \
         then, {} now)",
        beginning(first),
        beginning(found)
    )]
    AnotherFile {
        /// Where it is.
        address: String,
        /// The file that keeps the digest.
        about: PathBuf,
        /// BLAKE3, in hex, of the file that was fetched first.
        first: String,
        /// The one of this file.
        found: String,
    },
    /// Neighbours cannot be written in a format that a file's name says.
    #[error("{path}: neighbours are not written as `.{extension}`; as .ibin and .npy they are")]
    NotPublished {
        /// The file.
        path: PathBuf,
        /// Its extension, possibly empty.
        extension: String,
    },
    /// A folder, or a pattern, without a file of vectors.
    #[error("{path}: no file of vectors there{}", elsewhere(below))]
    NoShards {
        /// The folder or the pattern.
        path: PathBuf,
        /// Folders in that folder which have such files.
        below: Vec<PathBuf>,
    },
    /// Files of several formats where one dataset was expected.
    #[error("{path}: files of several formats, as {first} and {second}")]
    SeveralFormats {
        /// The folder or the pattern.
        path: PathBuf,
        /// Name of a file.
        first: String,
        /// Name of one of another format.
        second: String,
    },
    /// A part of a dataset with rows of another dimension than the part before it.
    #[error("{path}: {found} dimensions, the files before it have {expected}")]
    ShardDim {
        /// The file.
        path: PathBuf,
        /// Dimensions of the others.
        expected: usize,
        /// Dimensions of this one.
        found: usize,
    },
    /// A part of a dataset whose vectors are of another table than those of the part before it.
    #[error("{path}: its vectors are `{found}`, those of the files before it `{expected}`")]
    ShardTable {
        /// The file.
        path: PathBuf,
        /// Table or column of the others.
        expected: String,
        /// The one of this file.
        found: String,
    },
    /// Not even a header.
    #[error("{path} is empty")]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// The header cannot be understood.
    #[error("{path}: bad header: {reason}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The header promises another size than the file has.
    #[error("{path}: expected {expected} bytes for {rows}×{dim}, found {found}")]
    Length {
        /// The file.
        path: PathBuf,
        /// Rows in the header.
        rows: u64,
        /// Dimensions in the header.
        dim: u64,
        /// Bytes the header promises, itself included.
        expected: u128,
        /// Bytes there are.
        found: u64,
    },
    /// No rows, or rows without dimensions.
    #[error("{path}: empty data, {rows}×{dim}")]
    Empty {
        /// The file.
        path: PathBuf,
        /// Rows in the header.
        rows: u64,
        /// Dimensions in the header.
        dim: u64,
    },
    /// More dimensions than any real vector has.
    #[error("{what}: {dim} dimensions, at most {MAX_DIM} are supported")]
    TooWide {
        /// The file, or `synthetic data`.
        what: String,
        /// Dimensions asked for.
        dim: u64,
    },
    /// More rows than 32-bit row numbers can name.
    #[error("{what}: {rows} rows, at most {} are supported", u32::MAX)]
    TooManyRows {
        /// The file, or `synthetic data`.
        what: String,
        /// Rows asked for.
        rows: u64,
    },
    /// Column-major storage, which cannot be streamed by rows.
    #[error("{path}: stored in Fortran (column-major) order; save it in C order")]
    ColumnMajor {
        /// The file.
        path: PathBuf,
    },
    /// An array of numbers we do not read.
    #[error("{path}: element type `{dtype}`; supported are f2, f4, f8, i1 and u1")]
    ElementType {
        /// The file.
        path: PathBuf,
        /// Its type, in numpy's notation.
        dtype: String,
    },
    /// An array that is not a matrix.
    #[error("{path}: expected a matrix (rows, dimensions), found shape {shape:?}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The shape found.
        shape: Vec<u64>,
    },
    /// A row that announces another dimension than the first one.
    #[error("{path}: row {row} has {found} dimensions, the rows before it have {expected}")]
    Ragged {
        /// The file.
        path: PathBuf,
        /// The offending row, from 0.
        row: u64,
        /// Dimensions of the first row.
        expected: u64,
        /// Dimensions of this row.
        found: i64,
    },
    /// A NaN or an infinity, also one that arose from a number too large for f32.
    #[error("{path}: row {row}, dimension {column} is {value}")]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The first offending row, from 0.
        row: u64,
        /// The dimension in it, from 0.
        column: usize,
        /// The value as f32.
        value: f32,
    },
    /// A row without a direction, where that matters.
    #[error("{what}: row {row} is zero, and has no direction")]
    ZeroRow {
        /// The file, or what stands for it.
        what: String,
        /// The first such row, from 0.
        row: u64,
    },
    /// Every row of a part was dropped.
    #[error("{what}: every row of the {part} has a NaN or an infinity, or is zero")]
    NoneLeft {
        /// The file, or what stands for it.
        what: String,
        /// `base`, `queries` or `train`.
        part: &'static str,
    },
    /// Queries or train are of another dimension than the base.
    #[error("{path}: {part} has {found} dimensions, the base has {expected}")]
    DimMismatch {
        /// `queries` or `train`.
        part: &'static str,
        /// The file.
        path: PathBuf,
        /// Dimensions of the base.
        expected: usize,
        /// Dimensions of this part.
        found: usize,
    },
    /// Holding out that many queries would leave no base.
    #[error(
        "hold_out = {hold_out} leaves nothing of {rows} {}",
        if *rows == 1 { "row" } else { "rows" }
    )]
    HoldOut {
        /// Queries asked for.
        hold_out: usize,
        /// Rows of the source, after `limit`.
        rows: usize,
    },
    /// A count that must be at least one.
    #[error("{what} must be at least 1")]
    Zero {
        /// Which one: `hold_out`, `sample`, `limit`, …
        what: &'static str,
    },
    /// A source is no longer what it was.
    #[error("{path} {how}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// `changed since it was prepared`, `was removed since it was prepared`, …
        how: &'static str,
    },
    /// A read past the end, or into a block of another width.
    #[error("{path}: rows {first}..{} of {dim} dimensions asked of {rows}×{expected}", first.saturating_add(*count))]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// First row asked for.
        first: usize,
        /// Rows asked for.
        count: usize,
        /// Width of the caller's block.
        dim: usize,
        /// Rows there are.
        rows: usize,
        /// Dimensions they have.
        expected: usize,
    },
    /// Whoever listened to the progress wants no more of it.
    #[error("interrupted")]
    Interrupted,
    /// Nothing was to be made, and something is missing.
    #[error("it is not prepared yet")]
    NotPrepared,
    /// A file of the cache is not what was written.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: &'static str,
    },
}

impl DataError {
    /// What the user can do about it, where that is not plain from the message.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Length { .. } => {
                "the file is cut short or longer than its header says: copy it again, or check that its extension names its format"
            }
            Self::UnknownFormat { advice, .. } | Self::OtherFile { advice, .. } => advice,
            Self::Io { doing: "open" | "list", source, .. }
                if source.kind() == ErrorKind::PermissionDenied =>
            {
                "you may not read it: its owner can let you, as with chmod +r"
            }
            Self::NoTables { .. } => "name the file alone",
            Self::Foreign { files: 2.., .. } => {
                "if it is no part of the data set, leave it out with a pattern of the others' names, as in 'train*.parquet'"
            }
            Self::NoReader { .. } => "if that lasts, write the vectors as .npy or .fbin",
            Self::Inflated { .. } => "write the file again: what it announces is not in it",
            Self::OverItsSource { .. } => "write to another file",
            Self::NoSet { .. } => "`vq-host data list` shows them all",
            Self::Fetch { .. } => {
                "try again later, it goes on with what is kept; or fetch the file yourself, and name it"
            }
            Self::AnotherFile { .. } => {
                "if its publishers say that they changed it, remove that `.json` and fetch it again"
            }
            Self::NoShards { below, .. } if !below.is_empty() => {
                "name one of these folders, or all of their files with a pattern as in '**/*.parquet'"
            }
            Self::NoShards { .. } => {
                "name a folder of files of one format, or a pattern as in 'shards/*.parquet'"
            }
            Self::SeveralFormats { .. } => "say which with a pattern, as in 'shards/*.parquet'",
            Self::ShardDim { .. } => "the files of a dataset must come from the same space",
            Self::ShardTable { .. } => {
                "name the file and the column, as in base = { file = \"shards/*.parquet\", column = \"emb\" }"
            }
            Self::EmptyFile { .. } => "write or copy it again",
            Self::Header { .. } | Self::Ragged { .. } => {
                "check that the extension names the file's real format"
            }
            Self::ElementType { .. } => {
                "write it as one of these, as with x.astype('float32') in NumPy"
            }
            Self::Shape { .. } => "write it as a matrix, as with x.reshape(rows, -1) in NumPy",
            Self::ColumnMajor { .. } => "write numpy.ascontiguousarray(x)",
            Self::NonFinite { .. } => {
                "remove or mend that row, or leave all such rows out with unusable = \"drop\""
            }
            Self::ZeroRow { .. } => "leave all such rows out with unusable = \"drop\"",
            Self::DimMismatch { .. } => "base, queries and train must come from the same space",
            Self::TooManyRows { .. } => "take only the first rows with `limit`",
            Self::HoldOut { .. } => "hold out fewer rows",
            Self::Changed { .. } => "leave the file as it is while it is used",
            Self::Damaged { .. } => "it is made anew by itself",
            Self::Cache { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    "free the disk, or keep prepared data in another folder with --cache-dir; `vq-host data cache` shows what is kept"
                }
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    "keep prepared data in a folder of your own with --cache-dir"
                }
                _ => "keep prepared data in another folder with --cache-dir",
            },
            _ => return None,
        })
    }
}

/// What the name of a file says that no format is called by.
fn named(extension: &str) -> String {
    match extension {
        "" => "its name has no extension".to_owned(),
        _ => format!("unknown extension `{extension}`"),
    }
}

/// Folders that are named where a folder has none of what is sought.
const NAMED: usize = 3;

/// Where else there are files of vectors, or which files those are.
fn elsewhere(below: &[PathBuf]) -> String {
    if below.is_empty() {
        return format!("; read are {}", extensions());
    }
    let more = if below.len() > NAMED { " and more" } else { "" };
    let named = below.iter().take(NAMED).map(|folder| folder.display().to_string());
    format!(", but in {}{more}", named.collect::<Vec<_>>().join(", "))
}

/// As much of a digest as people compare.
fn beginning(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

/// Wraps an operating system error with what was done to which file.
pub(super) fn io(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> DataError + use<> {
    let path = path.to_path_buf();
    move |source| DataError::Io { doing, path, source }
}

/// The same for what is kept in the cache.
pub(super) fn cache_io(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> DataError + use<> {
    let path = path.to_path_buf();
    move |source| DataError::Cache { doing, path, source }
}
