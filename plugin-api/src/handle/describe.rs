//! What a plugin says of a method, read and checked.

use super::method::Method;
use crate::abi::{self, VqMethod, VqParam, VqStr, flag};
use crate::extension;
use crate::params::{Param, Value};
use crate::thread_state::Changed;
use crate::wire;
use std::sync::Arc;

/// More parameters than any method has.
const MAX_PARAMS: usize = 256;
/// More choices, or values of a default grid, than any parameter has.
const MAX_VALUES: usize = 4096;
/// Characters of a description, a paper, an author list that are kept.
pub(super) const LONG_TEXT: usize = 2000;
/// Bytes of a text among a parameter's values. More is refused, as a value cannot be cut.
const VALUE_BYTES: usize = 4096;
/// Characters of a name, a version, a label that are kept.
pub(super) const SHORT_TEXT: usize = 200;

/// A library's table that is not a v1 plugin.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DescribeError {
    /// The entry function answered NULL.
    #[error(
        "it cannot serve ABI {}.{} (the entry function returned NULL)",
        abi::ABI_MAJOR,
        abi::ABI_MINOR
    )]
    Refused,
    /// The first bytes are wrong.
    #[error("its table does not start with the plugin magic")]
    Magic,
    /// Another major version.
    #[error(
        "it speaks plugin ABI {major}.{minor}, this host speaks {}.{}",
        abi::ABI_MAJOR,
        abi::ABI_MINOR
    )]
    Version {
        /// The plugin's major version.
        major: u32,
        /// The plugin's minor version.
        minor: u32,
    },
    /// A struct of another size: built against another header.
    #[error("its {table} has {found} bytes where ABI 1 has {expected}")]
    Size {
        /// The C name.
        table: &'static str,
        /// As the plugin says.
        found: usize,
        /// As this host was built.
        expected: usize,
    },
    /// A text, list or pointer that cannot be.
    #[error("method {method}: {reason}")]
    Method {
        /// Its id, or its position.
        method: String,
        /// What is wrong.
        reason: String,
    },
    /// A table that cannot be read at all.
    #[error("{0}")]
    Table(String),
}

/// What a plugin says of one of its methods.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields of vq_method, documented there")]
pub struct Descriptor {
    pub id: String,
    pub name: String,
    pub version: String,
    pub description: String,
    pub paper: String,
    pub authors: String,
    pub license: String,
    pub homepage: String,
    pub tags: String,
    pub needs_training: bool,
    pub deterministic: bool,
    pub thread_safe: bool,
    /// Ids of the extensions that it offers, of those this build knows.
    pub extensions: Vec<String>,
    pub params: Vec<Param>,
}

impl Descriptor {
    /// True if the method offers the extension `id`.
    pub fn offers(&self, id: &str) -> bool {
        self.extensions.iter().any(|offered| offered == id)
    }
}

pub(super) fn size(table: &'static str, found: u32, expected: usize) -> Result<(), DescribeError> {
    let found = found as usize;
    if found == expected { Ok(()) } else { Err(DescribeError::Size { table, found, expected }) }
}

/// The first `most` characters of `text`, with an ellipsis where it has more.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads the table of the method at `position` of its plugin.
pub(super) fn describe(
    raw: &'static VqMethod,
    position: usize,
    changed: &Arc<Changed>,
) -> Result<Descriptor, DescribeError> {
    let wrong =
        |method: &str, reason: String| DescribeError::Method { method: method.into(), reason };
    let text = |what: &str, text: VqStr, most: usize| {
        // SAFETY: the plugin's static text.
        let text = unsafe { text.text() };
        text.map(|text| cut(text, most))
            .map_err(|e| wrong(&format!("number {position}"), format!("{what}: {e}")))
    };
    let id = text("id", raw.id, SHORT_TEXT)?;
    if !is_name(&id, "-_") {
        return Err(wrong(
            &format!("number {position}"),
            format!("id {id:?} is not [a-z][a-z0-9_-]*"),
        ));
    }
    let missing = [
        ("create", raw.create.is_none()),
        ("destroy", raw.destroy.is_none()),
        ("fit", raw.fit.is_none()),
        ("code_bytes", raw.code_bytes.is_none()),
        ("compress", raw.compress.is_none()),
        ("decompress", raw.decompress.is_none()),
        ("load (save is there)", raw.save.is_some() && raw.load.is_none()),
        ("save (load is there)", raw.save.is_none() && raw.load.is_some()),
    ];
    if let Some((function, _)) = missing.iter().find(|(_, missing)| *missing) {
        return Err(wrong(&id, format!("it has no {function}")));
    }
    if raw.n_params > MAX_PARAMS {
        return Err(wrong(&id, format!("it has {} parameters", raw.n_params)));
    }
    // SAFETY: `n_params` descriptions, says the table.
    let raw_params: &[VqParam] =
        unsafe { wire::slice(raw.params, raw.n_params) }.map_err(|e| wrong(&id, e.to_string()))?;
    let mut params: Vec<Param> = Vec::new();
    for raw in raw_params {
        // SAFETY: the plugin's static table.
        let param = unsafe { wire::read_param(raw) }.map_err(|e| wrong(&id, e.to_string()))?;
        let name = &param.name;
        if !is_name(name, "_") {
            let name = cut(name, SHORT_TEXT);
            return Err(wrong(&id, format!("parameter {name:?} is not [a-z][a-z0-9_]*")));
        }
        let values = param.choices.len().max(param.grid.len());
        if values > MAX_VALUES {
            return Err(wrong(
                &id,
                format!("parameter {name} has {values} choices or grid values"),
            ));
        }
        let values = param.choices.iter().chain(&param.grid).chain(&param.default);
        if let Some(bytes) = values.map(longest_text).max().filter(|bytes| *bytes > VALUE_BYTES) {
            return Err(wrong(
                &id,
                format!("parameter {name} has a value of {bytes} bytes, above {VALUE_BYTES}"),
            ));
        }
        if params.iter().any(|p| p.name == *name) {
            return Err(wrong(&id, format!("parameter {name} stands twice")));
        }
        let mut usual = param.default.iter().chain(&param.grid);
        usual.try_for_each(|value| param.check(value)).map_err(|reason| {
            let reason = cut(&reason, LONG_TEXT);
            wrong(&id, format!("parameter {name}, default or grid: {reason}"))
        })?;
        params.push(Param { help: cut(&param.help, LONG_TEXT), ..param });
    }
    let mut method = Method {
        raw,
        watch: None,
        changed: Arc::clone(changed),
        about: Descriptor {
            name: text("name", raw.name, SHORT_TEXT)?,
            version: text("version", raw.version, SHORT_TEXT)?,
            description: text("description", raw.description, LONG_TEXT)?,
            paper: text("paper", raw.paper, LONG_TEXT)?,
            authors: text("authors", raw.authors, LONG_TEXT)?,
            license: text("license", raw.license, SHORT_TEXT)?,
            homepage: text("homepage", raw.homepage, LONG_TEXT)?,
            tags: text("tags", raw.tags, LONG_TEXT)?,
            needs_training: raw.flags & flag::NEEDS_TRAINING != 0,
            deterministic: raw.flags & flag::DETERMINISTIC != 0,
            thread_safe: raw.flags & flag::THREAD_SAFE != 0,
            extensions: Vec::new(),
            params,
            id,
        },
    };
    for extension in extension::KNOWN {
        let offered = (extension.offered)(&method).map_err(|e| wrong(&method.about.id, e))?;
        if offered {
            method.about.extensions.push(extension.id.to_owned());
        }
    }
    Ok(method.about)
}

/// Bytes of the longest text in `value`.
fn longest_text(value: &Value) -> usize {
    match value {
        Value::Str(text) => text.len(),
        Value::List(items) => items.iter().map(longest_text).max().unwrap_or(0),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
    }
}

fn is_name(text: &str, also: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
}
