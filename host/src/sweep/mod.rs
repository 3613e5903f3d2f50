//! The sweep file: which methods with which parameters on which data, measured how.
//!
//! ```text
//! text ─► wire.rs: keys and types, with spans ─► check.rs: values, defaults, files ─► Sweep
//! ```
//!
//! Everything that can be refused without a plugin or data is refused here, at the place where it
//! is written; one problem at a time. The spans stay in the [`Sweep`], so that planning can point
//! at the key of a parameter that its method does not have.
//!
//! Paths in a sweep are relative to the folder of the sweep file, so a sweep works from anywhere.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use crate::data::DatasetSpec;

mod arguments;
mod axis;
mod check;
mod error;
mod wire;

pub use arguments::{RunArguments, from_arguments};
pub use error::{SweepError, SweepProblem, SweepSource};

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// Text.
    Str(String),
    /// A list-valued parameter's value.
    List(Vec<Self>),
}

/// A sweep in which every value is present and makes sense by itself.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// What the spans below are ranges of.
    pub source: SweepSource,
    /// Names the default store; the file's stem if the file does not say.
    pub name: String,
    /// Distinct, at least one.
    pub seeds: Vec<u64>,
    /// How cells are run.
    pub run: RunOptions,
    /// At least one, names distinct.
    pub datasets: Vec<Dataset>,
    /// What is measured.
    pub evaluate: Evaluate,
    /// At least one; a method may be used several times.
    pub methods: Vec<MethodUse>,
}

/// `[run]`: what cells may use. Nothing here changes a result, timings apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// Cells at once, at least 1.
    pub jobs: usize,
    /// Threads per cell; 0 = cores / jobs.
    pub threads: usize,
    /// Per cell, more than zero.
    pub timeout: Duration,
    /// Bytes per cell, more than zero.
    pub memory: u64,
    /// The SQLite file, joined to the sweep file's folder.
    pub store: PathBuf,
}

/// One `[[dataset]]`.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What to prepare; its files existed when the sweep was read.
    pub spec: DatasetSpec,
    /// Where the name is written.
    pub name_span: Range<usize>,
    /// Where `base` or `synthetic` is written.
    pub source_span: Range<usize>,
    /// Where `queries` is written.
    pub queries_span: Range<usize>,
    /// Where `train` is written, if it is.
    pub train_span: Option<Range<usize>>,
}

/// `[evaluate]`: what every cell measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluate {
    /// Neighbours for recall@k, each at least 1, distinct.
    pub k: Vec<usize>,
    /// Random pairs for the pairwise metrics, at least 1.
    pub pairs: usize,
    /// Re-ranked candidates as multiples of k, each at least 1, distinct.
    pub rerank: Vec<usize>,
    /// Timed repeats after the warm-up, at least 1.
    pub repeats: usize,
}

/// One `[[method]]`.
#[derive(Debug, Clone)]
pub struct MethodUse {
    /// The method's id.
    pub id: Spanned<String>,
    /// Which of several plugin files with this id, by file name or path.
    pub plugin: Option<Spanned<String>>,
    /// The BLAKE3 digest that the plugin file must have: 64 lower-case hexadecimal digits.
    pub digest: Option<Spanned<String>>,
    /// The parameters given, in the order written; empty means the method's own default grid.
    pub axes: Vec<Axis>,
    /// Configurations to leave out.
    pub exclude: Vec<Exclude>,
    /// True rates to ask the method's generator for; positive, distinct.
    pub bits_per_dim: Vec<Spanned<f64>>,
    /// Names of the datasets to run on; all of them if `None`.
    pub datasets: Option<Vec<Spanned<String>>>,
}

/// One parameter and the values it takes.
#[derive(Debug, Clone)]
pub struct Axis {
    /// The parameter.
    pub name: String,
    /// Where the name is written.
    pub key_span: Range<usize>,
    /// Where the value, the list or the range is written.
    pub value_span: Range<usize>,
    /// At least one, distinct, of one type (integers and floats may mix). The values of a range
    /// have the range's span.
    pub values: Vec<Spanned<Value>>,
}

/// Leaves out the configurations that have all of these values.
#[derive(Debug, Clone)]
pub struct Exclude {
    /// At least one parameter with its value, in the order written.
    pub values: Vec<(Spanned<String>, Spanned<Value>)>,
    /// Where the table is written.
    pub span: Range<usize>,
}

impl Exclude {
    /// Whether a configuration, seen through `value_of`, is to be left out. 1 and 1.0 are the same.
    pub fn applies<'a>(&self, value_of: impl Fn(&str) -> Option<&'a Value>) -> bool {
        self.values.iter().all(|(name, excluded)| {
            value_of(name.get_ref()).is_some_and(|value| axis::same(value, excluded.get_ref()))
        })
    }
}

impl Sweep {
    /// Reads and checks the sweep file at `path`.
    ///
    /// # Errors
    /// [`SweepProblem::Read`] if there is no such text file, else as [`Sweep::parse`].
    pub fn load(path: &Path) -> Result<Self, SweepError> {
        let name = path.to_string_lossy();
        let text = std::fs::read_to_string(path).map_err(|source| {
            let problem = SweepProblem::Read {
                path: path.to_owned(),
                source,
            };
            SweepError::new(&SweepSource::new(&name, ""), None, problem)
        })?;
        Self::parse(&name, &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks the sweep `text`, shown as `source_name` in diagnostics, with paths relative to
    /// `base_dir`. Looks at the data files' existence and at nothing else outside.
    ///
    /// # Errors
    /// The first [`SweepProblem`] found, with its place in the text.
    pub fn parse(source_name: &str, text: &str, base_dir: &Path) -> Result<Self, SweepError> {
        let source = SweepSource::new(source_name, text);
        let file = wire::read(&source)?;
        check::check(source, file, base_dir)
    }
}
