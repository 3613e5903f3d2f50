//! Formats that libraries read, or that no header gives the size of: parsed in a confined child.
//!
//! A file of such a format can crash its parser, or ask for more memory than there is. So the
//! host itself never opens one: a child with limits looks at it ([`look`]) or sends its rows as
//! f32 ([`send`]), and `confined` is the host's side of both.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{arrow, hdf5, npz, parquet, safetensors, text};
use crate::data::DataError;

/// What people call a table of vectors; of several, the first of these is taken.
const USUAL: [&str; 12] = [
    "train",
    "base",
    "emb",
    "embedding",
    "embeddings",
    "vector",
    "vectors",
    "features",
    "data",
    "x",
    "arr_0",
    "weight",
];
/// What vectors are, of a format with types.
pub(super) const MATRICES: &str = "matrices of f2, f4, f8, i1 or u1";
/// The same of columns.
pub(super) const LISTS: &str = "lists of f2, f4, f8, i1 or u1";
/// Names of tables that an error lists.
pub(super) const LISTED: usize = 8;
/// Values that are sent at a time, about.
pub(super) const SENT_VALUES: usize = 1 << 16;

/// Vectors in a file, as the child sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// The table or column; empty where a format has one.
    pub table: String,
    /// How many rows.
    pub rows: u64,
    /// Values of each.
    pub dim: u64,
    /// Their type in the file: `f4`, `f2`, `u1`, …
    pub element: String,
    /// What lies beside them, where they are the base of a layout that has such.
    #[serde(default)]
    pub parts: Parts,
}

/// Tables that belong to a base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// The table of queries.
    pub queries: Option<String>,
    /// The table of rows to learn from.
    pub learn: Option<String>,
    /// The table of the queries' nearest rows.
    pub neighbours: Option<String>,
    /// The distance, as the file calls it.
    pub distance: Option<String>,
}

/// Why a file cannot be read; what is read stands before it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForeignError {
    /// The parser's words.
    #[error("{0}")]
    Parser(String),
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("{}", with_cause(.0))]
    Part(#[from] DataError),
    #[error("has no {kind} of vectors, which are {of}{}", told(found))]
    None { kind: &'static str, of: &'static str, found: Vec<String> },
    #[error("has no {kind} `{wanted}`{}", listed(found))]
    NoSuch { kind: &'static str, wanted: String, found: Vec<String> },
    #[error(
        "has several {kind}s of vectors ({}): a sweep says which, as in \
         base = {{ file = \"…\", {kind} = \"{}\" }}",
        joined(found), found.first().map_or("…", String::as_str)
    )]
    Several { kind: &'static str, found: Vec<String> },
    #[error("`{table}` holds {found}; vectors are f2, f4, f8, i1 or u1: write it as one of these")]
    Element { table: String, found: String },
    #[error("`{table}` holds {found}; row numbers are integers")]
    NoNumbers { table: String, found: String },
    #[error("`{table}` has the shape {shape:?}; a matrix (rows, dimensions) is needed")]
    NoMatrix { table: String, shape: Vec<u64> },
    #[error(
        "row {row} has {found} dimensions, the rows before it have {expected}: leave it out, or write \
         vectors of one model alone"
    )]
    Ragged { row: u64, expected: u64, found: u64 },
    #[error("has {found} rows where it announces {expected}: is the file whole?")]
    Rows { expected: u64, found: u64 },
}

/// A table that is none of vectors, and what it is instead, for [`ForeignError::None`].
pub(super) fn no_vectors(name: &str, what: impl fmt::Display) -> String {
    format!("`{name}` ({what})")
}

impl ForeignError {
    /// What a library says of a file, which is not always clear.
    pub(super) fn parser(error: impl fmt::Display) -> Self {
        Self::Parser(format!("{error}: is the file whole, and what its extension says?"))
    }
}

/// An error and what lies under it.
fn with_cause(of: &DataError) -> String {
    of.source().map_or_else(|| of.to_string(), |under| format!("{of}: {under}"))
}

fn joined(names: &[String]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    names.iter().take(LISTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ") + more
}

/// Tables of [`no_vectors`].
fn told(found: &[String]) -> String {
    let more = if found.len() > LISTED { ", …" } else { "" };
    let some = &found[..found.len().min(LISTED)];
    if some.is_empty() { String::new() } else { format!("; it has {}{more}", some.join(", ")) }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; it has {}", joined(names)) }
}

/// Takes values in the order of rows.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[f32]) -> io::Result<()>;

/// The vectors of one file.
pub(super) trait Content {
    fn shape(&self) -> Shape;

    /// Hands over the first `rows` rows, no more than there are.
    fn send(&mut self, rows: u64, sink: Sink<'_>) -> Result<(), ForeignError>;
}

/// Opens a file; of several tables, the named one.
type Open = fn(&Path, Option<&str>) -> Result<Box<dyn Content>, ForeignError>;

/// A format that a child reads.
pub(super) struct Foreign {
    /// Lower case, without the dot.
    pub(super) extensions: &'static [&'static str],
    pub(super) open: Open,
}

pub(super) const FOREIGN: [Foreign; 7] = [
    parquet::FORMAT,
    arrow::FORMAT,
    npz::FORMAT,
    safetensors::FORMAT,
    hdf5::FORMAT,
    text::DELIMITED,
    text::LINES,
];

fn open(
    path: &Path,
    extension: &str,
    table: Option<&str>,
) -> Result<Box<dyn Content>, ForeignError> {
    let format = FOREIGN.iter().find(|of| of.extensions.contains(&extension));
    let format = format.ok_or_else(|| ForeignError::parser("no such format"))?;
    (format.open)(path, table)
}

/// What is in the file at `path`, which is of the format that `extension` names.
///
/// # Errors
/// One line, without the file's name.
pub(crate) fn look(
    path: &Path,
    extension: &str,
    table: Option<&str>,
    lists: bool,
) -> Result<Shape, String> {
    let shape = match lists {
        false => open(path, extension, table).map(|of| of.shape()),
        true => hdf5::Lists::open(path, extension, table).map(|of| of.shape),
    };
    shape.map_err(|e| e.to_string())
}

/// Writes the first `rows` rows to `out`: little-endian f32, one row behind the other.
///
/// # Errors
/// One line, without the file's name.
pub(crate) fn send(
    path: &Path,
    extension: &str,
    table: Option<&str>,
    rows: u64,
    out: &mut dyn Write,
) -> Result<(), String> {
    let mut content = open(path, extension, table).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let mut sink = |values: &[f32]| {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        out.write_all(&bytes)
    };
    content.send(rows, &mut sink).map_err(|e| e.to_string())
}

/// Writes the first `rows` lists of row numbers to `out`: little-endian u32, one list behind the other.
///
/// # Errors
/// One line, without the file's name.
pub(crate) fn send_lists(
    path: &Path,
    extension: &str,
    table: Option<&str>,
    rows: u64,
    out: &mut dyn Write,
) -> Result<(), String> {
    let lists = hdf5::Lists::open(path, extension, table).map_err(|e| e.to_string())?;
    lists.send(rows, out).map_err(|e| e.to_string())
}

/// The one of `found` that is meant: the `wanted` one, the only one, or the one with a usual name.
pub(super) fn choose(
    kind: &'static str,
    found: Vec<String>,
    wanted: Option<&str>,
) -> Result<usize, ForeignError> {
    if let Some(wanted) = wanted {
        let at = found.iter().position(|name| name == wanted);
        return at.ok_or_else(|| ForeignError::NoSuch { kind, wanted: wanted.into(), found });
    }
    match found.len() {
        0 => Err(ForeignError::None { kind, of: "numbers", found }),
        1 => Ok(0),
        _ => {
            let called =
                |usual: &&str| found.iter().position(|name| name.eq_ignore_ascii_case(usual));
            let usual = USUAL.iter().find_map(called);
            usual.ok_or(ForeignError::Several { kind, found })
        }
    }
}
