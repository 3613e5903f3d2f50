//! Opens a library and reads its table. Runs in child processes only: a damaged or hostile file
//! can kill the process that opens it.

use super::LibraryDescription;
use crate::python;
#[cfg(target_os = "linux")]
use crate::python::class;
use crate::python::environment::Environment;
use abi_stable::library::{LibraryError, lib_header_from_path};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::error::Error as _;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use vq_plugin_api::abi::{self, VqRootRef};
use vq_plugin_api::handle::{DescribeError, Plugin};
use vq_plugin_api::thread_state::{Change, ThreadState};

/// What is missing in a Python file that offers nothing.
pub const NO_CLASS: &str =
    "it has no class of its own with compress and decompress that can be made";

/// A library that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The dynamic loader refused the file.
    #[error("the dynamic loader refused it: {reason}")]
    Open {
        /// The loader's own words.
        reason: String,
    },
    /// Not a plugin.
    #[error("it has no symbol {}", abi::ENTRY_SYMBOL)]
    NoEntry,
    /// A Rust plugin built with another abi_stable.
    #[error("it was built with an incompatible abi_stable: {reason}")]
    Header {
        /// The difference.
        reason: String,
    },
    /// A Rust plugin built against other types.
    #[error("it was built against a different vq-plugin-api: {difference}")]
    Layout {
        /// The last difference that was found.
        difference: String,
    },
    /// A Python file that cannot be used.
    #[error("{reason}")]
    Python {
        /// The cause, with the line of the file.
        reason: String,
    },
    /// Its table is not a v1 plugin's.
    #[error(transparent)]
    Table(#[from] DescribeError),
}

/// A loaded library; never unloaded, because its threads and thread-locals may outlive any use.
#[derive(Debug)]
pub struct Loaded {
    /// Its methods, ready to be called.
    pub plugin: Plugin,
    /// A Rust plugin whose types were compared with ours.
    pub layout_checked: bool,
    /// What opening it had changed in this thread; it was put back.
    pub changed: Change,
    /// Where it came from.
    pub path: PathBuf,
    /// What it was opened in, if it is a Python file.
    pub python: Option<Environment>,
}

impl Loaded {
    /// As it is told to the parent.
    pub fn describe(&self) -> LibraryDescription {
        LibraryDescription {
            sdk: self.plugin.sdk().to_owned(),
            abi: self.plugin.abi(),
            layout_checked: self.layout_checked,
            python: self.python.clone(),
            methods: self.plugin.methods().iter().map(|m| m.about().clone()).collect(),
        }
    }
}

/// What a process has opened.
#[derive(Debug)]
pub enum Opened {
    /// A plugin.
    Plugin(Loaded),
    /// A Python file without a class that can be made: a base for others.
    Nothing(Environment),
}

/// Opens the Python file at `path` for good, in the interpreter that this process has started: for
/// calls of `method` alone, or to describe all that it offers.
///
/// # Errors
/// Importing it failed; it no longer has the method.
pub fn open_python(path: &Path, method: Option<&str>) -> Result<Opened, LoadError> {
    #[cfg(target_os = "linux")]
    {
        let before = ThreadState::take();
        let (table, environment) = class::open(path, method)
            .map_err(|error| LoadError::Python { reason: error.to_string() })?;
        let Some(table) = table else { return Ok(Opened::Nothing(environment)) };
        let plugin = Plugin::linked(table)?;
        let changed = before.restore();
        let (path, python) = (path.to_owned(), Some(environment));
        Ok(Opened::Plugin(Loaded { plugin, layout_checked: false, changed, path, python }))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (path, method);
        Err(LoadError::Python { reason: "methods in Python need Linux".to_owned() })
    }
}

/// Opens the library or Python file at `path` for good; `method`, if named, is the only one of it that
/// will be called.
///
/// # Errors
/// The loader's refusal, a missing symbol, another layout, another version.
pub fn open(path: &Path, method: Option<&str>) -> Result<Loaded, LoadError> {
    if python::is_python(path) {
        return match open_python(path, method)? {
            Opened::Plugin(loaded) => Ok(loaded),
            Opened::Nothing(_) => Err(LoadError::Python { reason: NO_CLASS.to_owned() }),
        };
    }
    let before = ThreadState::take();
    // SAFETY: opening runs the library's initialisers; that is what a worker process is for.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let library = ManuallyDrop::new(opened.map_err(|e| LoadError::Open {
        // libloading's own text is only "dlopen failed".
        reason: e.source().map_or_else(|| e.to_string(), ToString::to_string),
    })?);
    // SAFETY: the symbol's type is fixed by the contract's version in its name.
    let entry = unsafe { library.get::<abi::Entry>(abi::ENTRY_SYMBOL.as_bytes()) };
    let entry = *entry.map_err(|_| LoadError::NoEntry)?;
    let layout_checked = check_layout(path)?;
    // SAFETY: the contract's entry function; it may run any plugin code.
    let table = unsafe { entry(abi::ABI_MAJOR, abi::ABI_MINOR) };
    // SAFETY: the library stays loaded, and this is what its entry function answered.
    let plugin = unsafe { Plugin::read(table) }?;
    let changed = before.restore();
    Ok(Loaded { plugin, layout_checked, changed, path: path.to_owned(), python: None })
}

/// Compares a Rust plugin's types with ours; `false` for a plugin without an abi_stable module.
fn check_layout(path: &Path) -> Result<bool, LoadError> {
    // The header, not `load_from_file`: that one caches a single instance per type, so that the
    // second plugin would silently be the first.
    let header = match lib_header_from_path(path) {
        Ok(header) => header,
        Err(LibraryError::GetSymbolError { .. }) => return Ok(false),
        Err(error) => return Err(LoadError::Header { reason: last_difference(&error) }),
    };
    match header.ensure_layout::<VqRootRef>() {
        Ok(()) => Ok(true),
        Err(error) => Err(LoadError::Layout { difference: last_difference(&error) }),
    }
}

/// abi_stable's text runs over thousands of characters; its last block names the mismatch.
fn last_difference(error: &LibraryError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let start = lines.iter().rposition(|l| l.starts_with("Error")).unwrap_or(0);
    let block: String = lines[start..].join(" ");
    block.chars().take(200).collect()
}
