//! A sweep from command-line arguments: rendered as a sweep's text, then read like any other, so
//! that there is one reader and one form of diagnostics.

use super::Value;
use crate::transform::TRANSFORM;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What stands for the file's name where the sweep comes from arguments.
pub const COMMAND_LINE: &str = "command line";
/// The key of a `[[method]]`, and among a record's parameters, that holds the second method and its own.
pub(crate) const SECOND: &str = "second";

/// What `run` takes instead of a sweep file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunArguments {
    /// `--data FILE`, repeatable; each file becomes a dataset named by its stem.
    pub data: Vec<PathBuf>,
    /// `--queries FILE`; without one, 500 rows of each data file are held out, or a tenth of them
    /// where that is less.
    pub queries: Option<PathBuf>,
    /// `--metric l2|ip|cosine`
    pub metric: Option<String>,
    /// `--limit ROWS` of each data file.
    pub limit: Option<usize>,
    /// `--method ID`
    pub method: String,
    /// True rates, where the method is every method.
    pub bits_per_dim: Vec<f64>,
    /// `--param name=value`, repeatable; see [`from_arguments`].
    pub params: Vec<String>,
    /// `--store FILE`
    pub store: Option<PathBuf>,
}

/// A file may be called what no data set can be.
fn plain(name: &OsStr) -> String {
    name.to_string_lossy().replace(char::is_control, " ")
}

/// What a data set is called that was given by its path alone: the stem of its name; of a pattern,
/// what stands before the first wildcard, or its folder's name.
pub fn data_name(data: &Path) -> String {
    // `.` and `..` have a name where they lead.
    let found = data.file_name().is_none().then(|| data.canonicalize().ok()).flatten();
    let data = found.as_deref().unwrap_or(data);
    let stem = plain(data.file_stem().unwrap_or(data.as_os_str()));
    let is_pattern = |text: &str| text.contains(['*', '?', '[']);
    if !is_pattern(&stem) || data.exists() {
        return stem;
    }
    let before = stem.split(['*', '?', '[']).next().unwrap_or_default();
    let before = before.trim_end_matches(['-', '_', '.']);
    if !before.is_empty() {
        return before.to_owned();
    }
    let folders = data.ancestors().skip(1).filter_map(Path::file_name).map(plain);
    folders.into_iter().find(|name| !is_pattern(name)).unwrap_or(stem)
}

/// The sweep that the arguments ask for, as the text of a sweep file whose paths are relative to
/// the current folder.
///
/// A parameter's value reads as TOML, commas outside brackets and quotes separate the values of an
/// axis, and a word that is no TOML value is a string:
///
/// ```
/// use vq_host::sweep::{RunArguments, from_arguments};
///
/// let arguments = RunArguments {
///     data: vec!["glove.fbin".into()],
///     method: "zlattice".to_owned(),
///     params: vec!["scale=0.25,0.5".to_owned(), "kind=e8".to_owned()],
///     ..RunArguments::default()
/// };
/// let text = from_arguments(&arguments);
/// assert!(text.contains("params.scale = [0.25, 0.5]\nparams.kind = \"e8\"\n"));
/// ```
///
/// Nothing is checked here: an argument without `=` becomes a key without a value, and the reader
/// says so.
pub fn from_arguments(arguments: &RunArguments) -> String {
    let mut text = String::from("[sweep]\nname = \"command-line\"\n");
    // Writing to a String cannot fail.
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key} = {value}");
    };
    if let Some(metric) = &arguments.metric {
        line("metric", &toml_string(metric));
    }
    if !arguments.bits_per_dim.is_empty() {
        line("bits_per_dim", &format!("{:?}", arguments.bits_per_dim));
    }
    if let Some(store) = &arguments.store {
        line("\n[run]\nstore", &toml_string(&store.to_string_lossy()));
    }
    let mut names: Vec<String> = Vec::new();
    for data in &arguments.data {
        let stem = data_name(data);
        // Two files of one stem, in different folders or formats, are told apart by their paths.
        let name = if names.contains(&stem) { plain(data.as_os_str()) } else { stem };
        line("\n[[dataset]]\nname", &toml_string(&name));
        line("base", &toml_string(&data.to_string_lossy()));
        match &arguments.queries {
            Some(queries) => line("queries", &toml_string(&queries.to_string_lossy())),
            // Nobody asked for so many: under the name of COMMAND_LINE, a small file gives fewer.
            None => line("queries", "{ hold_out = 500 }"),
        }
        if let Some(limit) = arguments.limit {
            line("limit", &limit.to_string());
        }
        names.push(name);
    }
    line("\n[[method]]\nuse", &toml_string(&arguments.method));
    for param in &arguments.params {
        let (name, value) = param.split_once('=').unwrap_or((param, ""));
        let values = split_outside_brackets(value);
        let value = match values.as_slice() {
            [value] => value_text(value),
            values => {
                let values: Vec<_> = values.iter().map(|value| value_text(value)).collect();
                format!("[{}]", values.join(", "))
            }
        };
        line(&format!("params.{}", key(name.trim())), &value);
    }
    text
}

/// One `name=value`, the value read as [`from_arguments`] reads it; `None` without a value, or with
/// one that no parameter has, such as a date.
pub fn parameter(written: &str) -> Option<(String, Value)> {
    fn value(read: toml::Value) -> Option<Value> {
        Some(match read {
            toml::Value::Boolean(flag) => Value::Bool(flag),
            toml::Value::Integer(number) => Value::Int(number),
            toml::Value::Float(number) => Value::Float(number),
            toml::Value::String(text) => Value::Str(text),
            toml::Value::Array(items) => {
                Value::List(items.into_iter().map(value).collect::<Option<_>>()?)
            }
            toml::Value::Datetime(_) | toml::Value::Table(_) => return None,
        })
    }
    let (name, text) = written.split_once('=')?;
    let read: toml::Table = format!("value = {}", value_text(text)).parse().ok()?;
    Some((name.trim().to_owned(), value(read.get("value")?.clone())?))
}

/// `text` as a sweep writes a string.
pub fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A `[[method]]` that is the configuration `params`, a JSON object, and no other; `beside` are
/// lines under its head.
pub fn method_table(method: &str, params: &serde_json::Value, beside: &str) -> String {
    fn value(of: &serde_json::Value) -> String {
        match of {
            serde_json::Value::String(text) => toml_string(text),
            serde_json::Value::Array(items) => {
                let items: Vec<String> = items.iter().map(value).collect();
                format!("[{}]", items.join(", "))
            }
            serde_json::Value::Object(entries) => {
                let entries = entries.iter();
                let entries: Vec<String> =
                    entries.map(|(name, of)| format!("{} = {}", key(name), axis(of))).collect();
                format!("{{ {} }}", entries.join(", "))
            }
            other => other.to_string(),
        }
    }
    // A list alone is an axis, a list in a list one value.
    fn axis(of: &serde_json::Value) -> String {
        match of {
            serde_json::Value::Array(_) => format!("[{}]", value(of)),
            _ => value(of),
        }
    }
    let mut text = format!("[[method]]\n{beside}use = {}\n", toml_string(method));
    for (name, of) in params.as_object().into_iter().flatten() {
        let _ = match (name.as_str(), of) {
            // A second code, whose digests a sweep does not say.
            (SECOND, serde_json::Value::Object(second)) => {
                let told = ["use", "params"].into_iter();
                let told = told.filter_map(|key| Some((key.to_owned(), second.get(key)?.clone())));
                writeln!(text, "{SECOND} = {}", value(&serde_json::Value::Object(told.collect())))
            }
            // A list alone is a chain, not an axis.
            (TRANSFORM, serde_json::Value::Array(_)) => {
                writeln!(text, "{TRANSFORM} = {}", value(of))
            }
            _ => writeln!(text, "params.{} = {}", key(name), axis(of)),
        };
    }
    text
}

fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { toml_string(name) }
}

/// TOML as it is, and anything else as a string, except what was plainly meant as TOML: its fault
/// is then shown by the reader.
fn value_text(written: &str) -> String {
    let written = written.trim();
    let meant_as_toml = written.starts_with(['[', '{', '"', '\'']) && !written.contains('\n');
    let is_toml = toml::de::DeValue::parse(written).is_ok();
    if written.is_empty() || meant_as_toml || is_toml {
        written.to_owned()
    } else {
        toml_string(written)
    }
}

/// The pieces between commas that stand outside `[]`, `{}` and quotes.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut depth = 0_usize;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                pieces.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_with_two_codes_is_a_table_that_can_be_read() {
        let params = serde_json::json!({
            "m": 8,
            "second": {
                "use": "fine", "version": "1", "plugin": "1f",
                "params": { "bits": 8, "of": [1, 2], "rest": "no" }
            }
        });
        let text = method_table("coarse", &params, "");
        let expected = "[[method]]\nuse = \"coarse\"\nparams.m = 8\nsecond = { params = { bits = 8, \
             of = [[1, 2]], rest = \"no\" }, use = \"fine\" }\n";
        assert_eq!(text, expected);
        assert!(text.parse::<toml::Table>().is_ok());
    }

    #[test]
    fn a_pattern_is_called_by_its_beginning_or_its_folder() {
        for (path, name) in [
            ("a/glove.hdf5", "glove"),
            ("a/shards", "shards"),
            ("a/shards/*.parquet", "shards"),
            ("a/shards/train-*-of-?.parquet", "train"),
            ("*.npy", "*"),
        ] {
            assert_eq!(data_name(Path::new(path)), name, "{path}");
        }
    }
}
