//! What can be wrong with a sweep, said at the place where it is written.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::data::DataError;
use crate::python::interpreter::InterpreterError;
use crate::suggest::nearest_name;

/// A sweep's text and the name to show for it; cheap to clone, so that every diagnostic about the
/// sweep, also those of later stages, can carry it.
#[derive(Debug, Clone)]
pub struct SweepSource(NamedSource<Arc<str>>);

impl SweepSource {
    /// Names `text` as `name` in diagnostics.
    pub fn new(name: impl AsRef<str>, text: impl Into<Arc<str>>) -> Self {
        Self(NamedSource::new(name, text.into()))
    }

    /// The file's name as given by the user, or what stands in for one.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The whole text; spans are byte ranges of it.
    pub fn text(&self) -> &str {
        self.0.inner()
    }

    /// The form that miette's diagnostics take as `#[source_code]`.
    pub fn named(&self) -> NamedSource<Arc<str>> {
        self.0.clone()
    }
}

/// Why a sweep was refused, and where in its text.
#[derive(Debug)]
pub struct SweepError {
    problem: Box<SweepProblem>,
    source: SweepSource,
    span: Option<Range<usize>>,
}

impl SweepError {
    /// A problem with what is written at `span` of `source`; no span if it is about no place.
    pub(super) fn new(
        source: &SweepSource,
        span: impl Into<Option<Range<usize>>>,
        problem: SweepProblem,
    ) -> Self {
        Self { problem: Box::new(problem), source: source.clone(), span: span.into() }
    }

    /// What is wrong.
    pub fn problem(&self) -> &SweepProblem {
        &self.problem
    }

    /// What is wrong, by value.
    pub fn into_problem(self) -> SweepProblem {
        *self.problem
    }

    /// The bytes of the sweep's text that are to blame.
    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }
}

impl fmt::Display for SweepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for SweepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.problem)
    }
}

impl Diagnostic for SweepError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.span.is_some().then_some(&self.source.0 as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let here = LabeledSpan::new_primary_with_span(Some(self.problem.label()), self.span()?);
        let first = self
            .problem
            .first()
            .map(|span| LabeledSpan::new_with_span(Some("first here".to_owned()), span));
        Some(Box::new([here].into_iter().chain(first)))
    }
}

/// Everything that can be wrong with a sweep before any plugin or data is looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepProblem {
    /// The file could not be read.
    #[error("failed to read the sweep {}", path.display())]
    Read {
        /// The sweep file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{message}")]
    Syntax {
        /// What the TOML parser expected or found.
        message: String,
    },
    /// A bare word where a value belongs.
    #[error("`{found}` is not a value")]
    Unquoted {
        /// As written.
        found: String,
    },
    /// A key that means nothing here; it is never ignored.
    #[error("unknown key `{key}`")]
    UnknownKey {
        /// As written.
        key: String,
        /// What may be written there.
        valid: Vec<String>,
    },
    /// A value of the wrong type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// With its article: "an integer".
        expected: String,
        /// With its article: "a string".
        found: String,
    },
    /// A key that has no default is absent.
    #[error("missing key `{key}`")]
    MissingKey {
        /// The key to add.
        key: &'static str,
        /// What to write, as an example.
        example: &'static str,
    },
    /// The sweep has no table of a kind it cannot do without.
    #[error("the sweep has no [[{table}]]")]
    NoTable {
        /// `dataset` or `method`.
        table: &'static str,
    },
    /// An integer below the least that makes sense.
    #[error("`{key}` must be at least {least}, found {found}")]
    TooSmall {
        /// The key.
        key: &'static str,
        /// The least valid value.
        least: i64,
        /// As written.
        found: i64,
    },
    /// A number that must be positive and finite is not.
    #[error("`{key}` must be a positive number, found {found}")]
    NotPositive {
        /// The key.
        key: &'static str,
        /// As written.
        found: String,
    },
    /// `nan` or `inf` where a parameter's value is expected.
    #[error("expected a finite number, found {found}")]
    NotFinite {
        /// As TOML writes it.
        found: f64,
    },
    /// Text that does not read as a duration, a size, a name, a digest.
    #[error("`{found}` is not {what}")]
    Unreadable {
        /// With its article: "a duration".
        what: &'static str,
        /// As written.
        found: String,
        /// What to write instead.
        rule: &'static str,
    },
    /// A word outside a fixed set.
    #[error("unknown {what} `{found}`")]
    UnknownChoice {
        /// What the word names: "metric".
        what: &'static str,
        /// As written.
        found: String,
        /// The valid words.
        valid: Vec<String>,
    },
    /// A list that needs at least one element has none.
    #[error("`{key}` is empty")]
    EmptyList {
        /// The key.
        key: String,
    },
    /// An axis without values would make a grid without configurations.
    #[error("empty axis: `{name}` has no values")]
    EmptyAxis {
        /// The parameter.
        name: String,
    },
    /// The same value twice in one list.
    #[error("`{key}` lists {value} twice")]
    Duplicate {
        /// The key or parameter.
        key: String,
        /// The value, as TOML writes it.
        value: String,
        /// Where it was written first.
        first: Option<Range<usize>>,
    },
    /// Two datasets of one name.
    #[error("two datasets are named `{name}`")]
    SameName {
        /// The name.
        name: String,
        /// Where it was written first.
        first: Range<usize>,
    },
    /// A list whose elements differ in type; only integers and floats may mix.
    #[error("`{name}` mixes {first} with {other}")]
    MixedTypes {
        /// The parameter.
        name: String,
        /// What the list starts with: "integers".
        first: &'static str,
        /// What it continues with.
        other: &'static str,
    },
    /// A dataset with neither `base` nor `synthetic`.
    #[error("the dataset has neither `base` nor `synthetic`")]
    NoSource,
    /// A dataset with both `base` and `synthetic`.
    #[error("the dataset has both `base` and `synthetic`")]
    TwoSources {
        /// Where the other one is written.
        first: Range<usize>,
    },
    /// More queries held out than there are rows.
    #[error(
        "holding out {hold_out} of {rows} {} leaves no base",
        if *rows == 1 { "row" } else { "rows" }
    )]
    NothingLeft {
        /// Queries asked for.
        hold_out: usize,
        /// Rows there are, after `limit`.
        rows: usize,
    },
    /// A data file that does not exist.
    #[error("there is no file {}", path.display())]
    MissingFile {
        /// As looked for: the sweep file's folder joined with what is written.
        path: PathBuf,
        /// Whether the folder it should be in exists.
        folder_exists: bool,
        /// The most similar file name in that folder.
        nearest: Option<String>,
        /// It was named by an option, not in a sweep file.
        command_line: bool,
    },
    /// A folder or a pattern without files of one format.
    #[error(transparent)]
    NoShards(DataError),
    /// A data path that is a device.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// As looked for.
        path: PathBuf,
    },
    /// What `python` names is none.
    #[error(transparent)]
    NoInterpreter(InterpreterError),
    /// A data file that cannot be looked at.
    #[error("failed to look at {}", path.display())]
    Inaccessible {
        /// As looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A range without one of its bounds, or without a stride.
    #[error("the range has no {missing}")]
    RangeIncomplete {
        /// "`from`", "`to`", or "`times` or `step`".
        missing: &'static str,
    },
    /// A range that both multiplies and adds.
    #[error("the range has both `times` and `step`")]
    RangeAmbiguous,
    /// A range that is empty because it runs backwards.
    #[error("the range runs backwards, from {from} to {to}")]
    RangeBackwards {
        /// The first value.
        from: String,
        /// The bound.
        to: String,
    },
    /// A stride that makes no progress.
    #[error("`{key}` must be more than {limit}, found {found}")]
    RangeStuck {
        /// `from`, `times` or `step`.
        key: &'static str,
        /// What it must exceed.
        limit: i64,
        /// As written.
        found: String,
    },
    /// A range that no sweep could mean.
    #[error("the range has more than {most} values")]
    RangeTooLong {
        /// The most values an axis may have.
        most: usize,
    },
    /// A range whose bounds and step are too different in size to add exactly.
    #[error("the range's bounds and step differ too much in size to add exactly")]
    RangeTooFine,
    /// An exclusion that names nothing would exclude everything.
    #[error("the exclusion names no parameter")]
    ExcludesAll,
    /// An exclusion with a value that its axis does not have.
    #[error("the exclusion never applies: `{name}` is never {value}")]
    ExcludesNothing {
        /// The parameter.
        name: String,
        /// The value, as TOML writes it.
        value: String,
        /// The axis' values, as TOML writes them.
        values: Vec<String>,
    },
    /// A key that is about one method, for all of them.
    #[error("`{key}` is about one method, not about all")]
    NotForAll {
        /// The key.
        key: &'static str,
    },
}

impl SweepProblem {
    /// The few words beside the caret.
    fn label(&self) -> String {
        match self {
            Self::Read { .. } | Self::Syntax { .. } => "here".to_owned(),
            Self::Unquoted { .. } => "text needs quotes".to_owned(),
            Self::UnknownKey { .. } => "not a key of this table".to_owned(),
            Self::WrongType { expected, .. } => format!("should be {expected}"),
            Self::MissingKey { key, .. } => format!("this table has no `{key}`"),
            Self::NoTable { .. } => "the sweep ends here".to_owned(),
            Self::TooSmall { least, .. } => format!("less than {least}"),
            Self::NotPositive { .. } => "not positive".to_owned(),
            Self::NotFinite { .. } => "not finite".to_owned(),
            Self::Unreadable { what, .. } => format!("not {what}"),
            Self::UnknownChoice { what, .. } => format!("no such {what}"),
            Self::EmptyList { .. } | Self::EmptyAxis { .. } => "no values".to_owned(),
            Self::Duplicate { .. } | Self::SameName { .. } => "and again here".to_owned(),
            Self::MixedTypes { other, .. } => format!("{other} from here"),
            Self::NoSource => "no rows to quantize".to_owned(),
            Self::TwoSources { .. } => "only one can be the source".to_owned(),
            Self::NothingLeft { .. } => "too many".to_owned(),
            Self::MissingFile { .. } => "no such file".to_owned(),
            Self::NotAFile { .. } => "not a file".to_owned(),
            Self::NoShards(_) => "cannot be read".to_owned(),
            Self::NoInterpreter(_) => "no Python".to_owned(),
            Self::Inaccessible { .. } => "cannot be looked at".to_owned(),
            Self::RangeIncomplete { missing } => format!("no {missing}"),
            Self::RangeAmbiguous => "one of the two".to_owned(),
            Self::RangeBackwards { .. } => "no value lies between".to_owned(),
            Self::RangeStuck { limit, .. } => format!("not more than {limit}"),
            Self::RangeTooLong { .. } => "too many values".to_owned(),
            Self::RangeTooFine => "cannot be added exactly".to_owned(),
            Self::ExcludesAll => "would exclude every configuration".to_owned(),
            Self::ExcludesNothing { .. } => "not a value of its axis".to_owned(),
            Self::NotForAll { .. } => "not beside `use = \"*\"`".to_owned(),
        }
    }

    /// What to do about it.
    fn help(&self) -> Option<String> {
        const RANGE: &str = "a range is `{ from = 4, to = 64, times = 2 }` or `{ from = 0.1, to = 0.5, step = 0.1 }`";
        match self {
            Self::Unquoted { found } => Some(format!("write `\"{found}\"`")),
            Self::UnknownKey { key, valid } => Some(unknown_key_help(key, valid)),
            Self::WrongType { expected, .. } if expected.starts_with("a list of [[") => {
                Some("a table of a list is opened with two brackets".to_owned())
            }
            Self::MissingKey { example, .. } => Some(format!("add `{example}`")),
            Self::NoTable { table: "dataset" } => Some(
                "add one, such as\n[[dataset]]\nname = \"gauss\"\nsynthetic = { kind = \"gaussian\", n = 20000, dim = 128, seed = 1 }\nqueries = { hold_out = 500 }".to_owned(),
            ),
            Self::NoTable { .. } => Some("add one, such as\n[[method]]\nuse = \"…\"\n\n`vq-host methods` lists what can be used".to_owned()),
            Self::Unreadable { rule, .. } => Some((*rule).to_owned()),
            Self::UnknownChoice { what, found, valid } => Some(choice_help(what, found, valid)),
            Self::EmptyAxis { name } => Some(format!(
                "give `{name}` a value, or leave it out to have the method's own default"
            )),
            Self::MixedTypes { .. } => Some("integers and floats may mix, nothing else".to_owned()),
            Self::NoSource => Some(
                "add `base = \"file\"` or `synthetic = { kind = \"gaussian\", n = 20000, dim = 128, seed = 1 }`"
                    .to_owned(),
            ),
            Self::TwoSources { .. } => Some("give each its own [[dataset]]".to_owned()),
            Self::MissingFile { path, folder_exists, nearest, command_line } => {
                let rule = match command_line {
                    true => "paths are relative to the folder you are in",
                    false => "paths are relative to the sweep file's folder",
                };
                Some(missing_file_help(path, *folder_exists, nearest.as_deref(), rule))
            }
            Self::NoShards(error) => error.remedy().map(str::to_owned),
            Self::NoInterpreter(_) => Some(
                "name a python3 program or the folder of a virtual environment, relative to the sweep file's folder"
                    .to_owned(),
            ),
            Self::RangeIncomplete { .. } | Self::RangeAmbiguous | Self::RangeBackwards { .. } => {
                Some(RANGE.to_owned())
            }
            Self::RangeTooFine => Some("list the values instead".to_owned()),
            Self::ExcludesNothing { name, values, .. } => {
                Some(format!("`{name}` is {}", values.join(", ")))
            }
            Self::NotForAll { .. } => Some(
                "give that method a [[method]] of its own, which replaces what `*` says of it"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Where else to look.
    fn first(&self) -> Option<Range<usize>> {
        match self {
            Self::Duplicate { first, .. } => first.clone(),
            Self::SameName { first, .. } | Self::TwoSources { first } => Some(first.clone()),
            _ => None,
        }
    }
}

fn unknown_key_help(key: &str, valid: &[String]) -> String {
    let nearest = match nearest_name(key, valid.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean `{nearest}`?\n"),
        // The likeliest mistake in a [[method]] is a parameter written beside `params`.
        None if valid.iter().any(|valid| valid == "params") => {
            format!("a method's parameter is written `params.{key}`\n")
        }
        None => String::new(),
    };
    format!("{nearest}valid keys: {}", quoted(valid))
}

fn choice_help(what: &str, found: &str, valid: &[String]) -> String {
    let nearest = match nearest_name(found, valid.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean `{nearest}`?\n"),
        None => String::new(),
    };
    let all = match what.strip_suffix('y') {
        Some(word) => format!("{word}ies"),
        None => format!("{what}s"),
    };
    format!("{nearest}valid {all}: {}", quoted(valid))
}

fn missing_file_help(
    path: &std::path::Path,
    folder_exists: bool,
    nearest: Option<&str>,
    rule: &str,
) -> String {
    if path.iter().any(|part| part == "~") {
        return "`~` is what a shell makes a home folder of, at the beginning of a word: write it out"
            .to_owned();
    }
    match (nearest, path.parent()) {
        (Some(nearest), _) => format!("did you mean `{nearest}`, which is in that folder?"),
        (None, Some(folder)) if !folder_exists => {
            format!("there is no folder {} either; {rule}", folder.display())
        }
        _ => rule.to_owned(),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
