//! Plugins: where they are looked for, how a library is opened, and what was found.
//!
//! [`mod@discover`] runs in the parent and never executes plugin code: each candidate is read as an
//! object file, then described by a child process. [`load`] runs in the children.

pub mod discover;
pub mod elsewhere;
pub mod load;
pub mod needs;
pub mod remembered;
mod unbuilt;

use crate::python::environment::Environment;
use crate::python::is_python;
use crate::python::source::Source;
use needs::Needs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use vq_plugin_api::Value;
use vq_plugin_api::handle::Descriptor;
use vq_plugin_api::params::{Config, Param};

pub use discover::{Candidate, Described, SearchPath, discover};
pub use remembered::Remembered;

/// What a description may hold, as the process that read it from the library's table keeps to.
const MAX_METHODS: usize = 256;
const MAX_PARAMS: usize = 256;
const MAX_VALUES: usize = 4096;
const MAX_NAME: usize = 64;
/// Bytes of a text in it.
const MAX_TEXT: usize = 16 << 10;

/// What a library says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LibraryDescription {
    /// What built it.
    pub sdk: String,
    /// Major and minor version of the contract.
    pub abi: (u32, u32),
    /// A Rust plugin whose types were compared with ours.
    pub layout_checked: bool,
    /// What it was described in, if it is a Python file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<Environment>,
    /// Its methods.
    pub methods: Vec<Descriptor>,
}

impl LibraryDescription {
    /// Holds it against what a library may offer: whoever wrote it may have been the library.
    ///
    /// # Errors
    /// What is wrong, in a clause.
    pub fn check(&self) -> Result<(), String> {
        let methods = &self.methods;
        // A Python file may turn out to hold no class that can be made.
        let least = usize::from(self.python.is_none());
        if !(least..=MAX_METHODS).contains(&methods.len()) {
            return Err(format!("it offers {} methods", methods.len()));
        }
        short("sdk", &self.sdk)?;
        let mut ids = BTreeSet::new();
        for method in methods {
            if !is_name(&method.id, "-_") {
                return Err(format!(
                    "a method's id is not [a-z][a-z0-9_-]*, {MAX_NAME} characters"
                ));
            }
            if !ids.insert(&method.id) {
                return Err(format!("it offers {} twice", method.id));
            }
            let Descriptor { name, version, description, paper, .. } = method;
            let Descriptor { authors, license, homepage, tags, .. } = method;
            for text in [name, version, description, paper, authors, license, homepage, tags] {
                short("a text", text)?;
            }
            if method.params.len() > MAX_PARAMS {
                return Err(format!("{} has {} parameters", method.id, method.params.len()));
            }
            let mut names = BTreeSet::new();
            for param in &method.params {
                param_is_sound(param)
                    .map_err(|wrong| format!("a parameter of {}: {wrong}", method.id))?;
                if !names.insert(&param.name) {
                    return Err(format!("{} has {} twice", method.id, param.name));
                }
            }
        }
        Ok(())
    }
}

fn param_is_sound(param: &Param) -> Result<(), String> {
    if !is_name(&param.name, "_") {
        return Err("its name is not [a-z][a-z0-9_]*".to_owned());
    }
    short("its help", &param.help)?;
    let values = param.choices.len().max(param.grid.len());
    if values > MAX_VALUES {
        return Err(format!("{values} values"));
    }
    for value in param.choices.iter().chain(&param.grid).chain(&param.default) {
        short("a value", &value.to_string())?;
    }
    param.default.iter().chain(&param.grid).try_for_each(|value| param.check(value))
}

fn is_name(text: &str, also: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
}

fn short(what: &str, text: &str) -> Result<(), String> {
    match text.len() {
        0..=MAX_TEXT => Ok(()),
        bytes => Err(format!("{what} of {bytes} bytes")),
    }
}

/// One library that can be used.
#[derive(Clone, Debug)]
pub struct Library {
    /// Canonical path.
    pub path: PathBuf,
    /// BLAKE3 of the file, hex.
    pub digest: String,
    /// BLAKE3 over the libraries outside the system's folders that it names as needed, hex; `None`
    /// where it names no such library.
    pub needs_digest: Option<String>,
    /// The place of the search order it was found in.
    pub found_in: String,
    /// The Python that a sweep names for it alone, in which it was described.
    pub python: Option<PathBuf>,
    /// What it says of itself.
    pub about: LibraryDescription,
}

impl Library {
    /// What tells it from every other.
    pub fn digests(&self) -> Digests {
        Digests { file: self.digest.clone(), needs: self.needs_digest.clone() }
    }
}

/// What a library is, wherever it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// Of the file.
    pub file: String,
    /// Of what it brings along; see [`Library::needs_digest`].
    pub needs: Option<String>,
}

impl Digests {
    /// Whether the file `library`, which needs `needs`, still is what these tell.
    ///
    /// # Errors
    /// How it shows that it is not, after the file's name: `has other contents`.
    pub fn hold(&self, library: &Path, needs: &Needs) -> Result<(), String> {
        let gone = |e| format!("cannot be read any more: {e}");
        if is_python(library) {
            let now = Source::of(library).and_then(|source| source.digest()).map_err(gone)?;
            let same = now == self.file;
            return if same { Ok(()) } else { Err("has other contents".to_owned()) };
        }
        let mut file = blake3::Hasher::new();
        File::open(library).and_then(|of| file.update_reader(of).map(drop)).map_err(gone)?;
        if file.finalize().to_hex().as_str() != self.file {
            return Err("has other contents".to_owned());
        }
        if needs.digest().map_err(gone)? != self.needs {
            return Err("needs other libraries".to_owned());
        }
        Ok(())
    }
}

/// A candidate that cannot be used.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// As found.
    pub path: PathBuf,
    /// Why, in a clause.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// The file alone is the cause: as long as it stays the same, so does this.
    pub lasting: bool,
}

/// Everything the search found.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Usable libraries in search order.
    pub libraries: Vec<Library>,
    /// Candidates that were refused.
    pub refused: Vec<Refusal>,
    /// Shadowed methods and the like, a line each.
    pub notices: Vec<String>,
    /// The places that were searched, and whether they exist.
    pub searched: Vec<(PathBuf, bool)>,
}

/// A method and the library it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The library.
    pub library: &'a Library,
    /// The method.
    pub method: &'a Descriptor,
}

/// A method id that does not lead to one library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing offers it.
    #[error("no plugin offers the method `{id}`")]
    Unknown {
        /// As asked.
        id: String,
    },
    /// The named plugin does not offer it.
    #[error("no plugin file named `{file}` offers the method `{id}`")]
    NotInFile {
        /// As asked.
        id: String,
        /// As asked.
        file: String,
    },
    /// Two libraries of one folder offer it.
    #[error("{} and {} both offer the method `{id}`", first.display(), second.display())]
    Ambiguous {
        /// As asked.
        id: String,
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

impl Catalog {
    /// All methods that a sweep can use without naming a Python for them, in search order; a shadowed one
    /// does not appear.
    pub fn methods(&self) -> Vec<Found<'_>> {
        let mut found: Vec<Found<'_>> = Vec::new();
        for library in self.libraries.iter().filter(|library| library.python.is_none()) {
            for method in &library.about.methods {
                if !found.iter().any(|f| f.method.id == method.id) {
                    found.push(Found { library, method });
                }
            }
        }
        found
    }

    /// The library and method behind `id`, from the plugin file `file` if one is named, and in `python` if
    /// that is.
    ///
    /// # Errors
    /// Nothing offers it, or two libraries of one folder do.
    pub fn resolve(
        &self,
        id: &str,
        file: Option<&str>,
        python: Option<&Path>,
    ) -> Result<Found<'_>, ResolveError> {
        let offers = |library: &&Library| library.about.methods.iter().any(|m| m.id == id);
        let named = |library: &&Library| file.is_none_or(|file| is_named(library, file));
        let runs_in = |library: &&Library| library.python.as_deref() == python;
        let mut candidates = self.libraries.iter().filter(offers).filter(named).filter(runs_in);
        let Some(library) = candidates.next() else {
            let id = id.to_owned();
            return Err(match file {
                Some(file) => ResolveError::NotInFile { id, file: file.to_owned() },
                None => ResolveError::Unknown { id },
            });
        };
        let twin = candidates
            .find(|other| other.found_in == library.found_in && other.digest != library.digest);
        if let Some(twin) = twin {
            return Err(ResolveError::Ambiguous {
                id: id.to_owned(),
                first: library.path.clone(),
                second: twin.path.clone(),
            });
        }
        let method = library.about.methods.iter().find(|m| m.id == id);
        method
            .map(|method| Found { library, method })
            .ok_or_else(|| ResolveError::Unknown { id: id.to_owned() })
    }
}

/// `plugin = "file"` may give the file name, the name without `lib` and suffix, or a path.
fn is_named(library: &Library, file: &str) -> bool {
    let stem = library.path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let wanted = Path::new(file);
    library.path.file_name() == wanted.file_name()
        && (wanted.components().count() == 1
            || wanted.canonicalize().is_ok_and(|path| path == library.path))
        || file == stem
        || Some(file) == stem.strip_prefix("lib")
}

/// A configuration as plain JSON, for records and keys: `{"bits":8,"m":16}`.
pub fn config_json(config: &Config) -> serde_json::Value {
    let fields = config.iter().map(|(name, value)| (name.clone(), value_json(value)));
    serde_json::Value::Object(fields.collect())
}

/// A parameter's value as plain JSON.
pub(crate) fn value_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(v) => (*v).into(),
        Value::Int(v) => (*v).into(),
        Value::Float(v) => (*v).into(),
        Value::Str(v) => v.as_str().into(),
        Value::List(items) => items.iter().map(value_json).collect::<Vec<_>>().into(),
    }
}
