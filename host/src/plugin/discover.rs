//! Finds plugin libraries without running their code.

use super::needs::Needs;
use super::{Catalog, Digests, Library, LibraryDescription, Refusal};
use crate::python::interpreter::Interpreter;
use crate::python::is_python;
use crate::python::source::{self, Source};
use crate::sweep::ALL_METHODS;
use crate::worker::fault::HostFault;
use object::Object;
use std::collections::BTreeSet;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};
use vq_plugin_api::abi::ENTRY_SYMBOL;

/// A library larger than this is not read.
const MAX_LIBRARY_BYTES: u64 = 1 << 30;

/// Where plugins are under the prefix of an installation.
const INSTALLED: &str = "lib/vq-host/plugins";

/// Where plugins are looked for, in order.
#[derive(Clone, Debug, Default)]
pub struct SearchPath {
    /// Folder, and whether only `libvq_*` files of it count (a build directory has others).
    places: Vec<(PathBuf, bool)>,
    /// Accept folders and files that anybody may write.
    allow_world_writable: bool,
}

impl SearchPath {
    /// `--plugin-dir`s, `VQ_PLUGIN_PATH`, `./plugins`, the places of the executable, the user's and
    /// the system's data folder.
    pub fn standard(plugin_dirs: &[PathBuf], allow_world_writable: bool) -> Self {
        let mut places: Vec<(PathBuf, bool)> =
            plugin_dirs.iter().map(|dir| (dir.clone(), false)).collect();
        if let Some(paths) = std::env::var_os("VQ_PLUGIN_PATH") {
            let listed = std::env::split_paths(&paths).filter(|p| !p.as_os_str().is_empty());
            places.extend(listed.map(|dir| (dir, false)));
        }
        places.push((PathBuf::from("plugins"), false));
        if let Ok(executable) = std::env::current_exe() {
            places.extend(places_of(&executable));
        }
        if let Some(dirs) = user_data_dir() {
            places.push((dirs.join("vq-host").join("plugins"), false));
        }
        if cfg!(unix) {
            for prefix in ["/usr/local", "/usr"] {
                let place = (Path::new(prefix).join(INSTALLED), false);
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
        SearchPath { places, allow_world_writable }
    }
}

/// `plugins` beside the executable, its own folder, which may be the build directory, and
/// `<prefix>/lib/vq-host/plugins` of one that is `<prefix>/bin/vq-host`.
fn places_of(executable: &Path) -> Vec<(PathBuf, bool)> {
    let Some(folder) = executable.parent() else { return Vec::new() };
    let mut places = vec![(folder.join("plugins"), false), (folder.to_owned(), true)];
    if let Some(prefix) = folder.parent().filter(|_| folder.ends_with("bin")) {
        places.push((prefix.join(INSTALLED), false));
    }
    places
}

fn user_data_dir() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    etcetera::choose_base_strategy().ok().map(|dirs| dirs.data_dir())
}

/// What a library offers, or why it cannot be used.
pub type Described = Result<LibraryDescription, Refusal>;

/// The same of several libraries, or what the host could not do.
pub type AllDescribed = Result<Vec<Described>, HostFault>;

/// A file that exports a plugin's symbol.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Canonical path.
    pub path: PathBuf,
    /// What it is.
    pub digests: Digests,
    /// The Python that a sweep names for it alone.
    pub python: Option<PathBuf>,
}

/// Searches `path`; `describe` tells what each of several libraries offers, in their order, or why
/// it cannot be used. `uses` are ids of methods that are wanted, each with the Python that is named for it
/// alone: their files are described in that.
///
/// # Errors
/// What the host could not do: the libraries have nothing to do with it.
pub fn discover(
    path: &SearchPath,
    uses: &[(&str, Option<&Path>)],
    describe: &mut dyn FnMut(&[Candidate]) -> AllDescribed,
) -> Result<Catalog, HostFault> {
    let mut catalog = Catalog::default();
    let mut seen = BTreeSet::new();
    // In search order: where a candidate was found, or why a file is none.
    let mut found: Vec<Result<(String, Candidate), Refusal>> = Vec::new();
    for (place, only_ours) in &path.places {
        let Ok(entries) = fs::read_dir(place) else {
            catalog.searched.push((place.clone(), false));
            continue;
        };
        catalog.searched.push((place.clone(), true));
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter_map(|file| candidate(file, *only_ours))
            .collect();
        files.sort();
        if files.is_empty() {
            continue;
        }
        let for_anybody = |path: &Path, reason: &str| Refusal {
            path: path.to_owned(),
            reason: reason.to_owned(),
            remedy: "chmod o-w it, or pass --allow-world-writable".into(),
            lasting: false,
        };
        if !path.allow_world_writable && is_world_writable(place) {
            found.push(Err(for_anybody(place, "anybody may write into this plugin folder")));
            continue;
        }
        for file in files {
            let canonical = file.canonicalize().unwrap_or_else(|_| file.clone());
            if !seen.insert(canonical.clone()) {
                continue;
            }
            if !path.allow_world_writable && is_world_writable(&canonical) {
                found.push(Err(for_anybody(&canonical, "anybody may write to this file")));
                continue;
            }
            let found_in = place.display().to_string();
            for python in pythons(&canonical, uses) {
                let inspected = inspect(&canonical, python);
                let (path, python) = (canonical.clone(), python.map(Path::to_owned));
                let candidate = |digests| Candidate { path, digests, python };
                found.push(inspected.map(|digests| (found_in.clone(), candidate(digests))));
            }
        }
    }
    let candidates: Vec<Candidate> =
        found.iter().flatten().map(|(_, candidate)| candidate.clone()).collect();
    let mut described =
        if candidates.is_empty() { Vec::new() } else { describe(&candidates)? }.into_iter();
    for found in found {
        let (found_in, Candidate { path, digests, python }) = match found {
            Ok(found) => found,
            Err(refusal) => {
                catalog.refused.push(refusal);
                continue;
            }
        };
        match described.next() {
            // A base for other classes.
            Some(Ok(about)) if about.methods.is_empty() => {}
            Some(Ok(about)) => {
                let Digests { file: digest, needs } = digests;
                let installed = about.python.as_ref().map(|python| python.digest.clone());
                let needs_digest = installed.or(needs);
                catalog.add(Library { path, digest, needs_digest, found_in, python, about });
            }
            Some(Err(mut refusal)) => {
                if let Some(python) = python {
                    refusal.reason = format!("with {}, {}", python.display(), refusal.reason);
                }
                catalog.refused.push(refusal);
            }
            None => {}
        }
    }
    catalog.drop_needed();
    // A build directory has no sources.
    for (place, _) in path.places.iter().filter(|(_, only_ours)| !only_ours) {
        catalog.tell_unbuilt(place);
    }
    Ok(catalog)
}

/// In which Pythons the file at `path` is described: those that `uses` name for methods of it, and that
/// of all methods (`None`) unless each of them has its own.
fn pythons<'u>(path: &Path, uses: &[(&str, Option<&'u Path>)]) -> BTreeSet<Option<&'u Path>> {
    let of_file = |(id, _): &&(&str, _)| source::may_offer(path, id) || *id == ALL_METHODS;
    let wanted: BTreeSet<_> = uses.iter().filter(of_file).map(|(_, python)| *python).collect();
    if wanted.is_empty() { BTreeSet::from([None]) } else { wanted }
}

/// Why a library that is no plugin is refused.
fn no_plugin() -> String {
    format!("it exports no symbol {ENTRY_SYMBOL}")
}

/// The file that `found` in a folder of plugins stands for: a library, a Python file with a method,
/// or that of a folder of the same name.
fn candidate(found: PathBuf, only_ours: bool) -> Option<PathBuf> {
    let is_folder = !only_ours && found.is_dir();
    let name = found.file_name().filter(|_| is_folder).and_then(|name| name.to_str());
    let found = name.map_or_else(|| found.clone(), |name| found.join(format!("{name}.py")));
    let python = !only_ours && source::is_candidate(&found);
    (python || is_library(&found, only_ours)).then_some(found)
}

/// True for a file that the platform would load as a library.
fn is_library(file: &Path, only_ours: bool) -> bool {
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let ours = format!("{DLL_PREFIX}vq_");
    name.ends_with(DLL_SUFFIX) && (!only_ours || name.starts_with(&ours)) && file.is_file()
}

#[cfg(unix)]
fn is_world_writable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o002 != 0)
}

#[cfg(not(unix))]
fn is_world_writable(_path: &Path) -> bool {
    false
}

/// Reads the file as an object file that exports the entry symbol; answers what it is.
fn inspect(path: &Path, python: Option<&Path>) -> Result<Digests, Refusal> {
    if is_python(path) {
        return inspect_python(path, python);
    }
    let refuse = |reason: String, remedy: &str| Refusal {
        path: path.to_owned(),
        reason,
        remedy: remedy.to_owned(),
        lasting: false,
    };
    let io = |e: std::io::Error| refuse(e.to_string(), "check that the file can be read");
    let len = fs::metadata(path).map_err(io)?.len();
    if len > MAX_LIBRARY_BYTES {
        return Err(refuse(format!("it has {len} bytes"), "remove it: no plugin is that large"));
    }
    let bytes = fs::read(path).map_err(io)?;
    let remedy = "copy it again or rebuild it, or remove it from the plugin folder";
    let object = object::File::parse(&*bytes)
        .map_err(|e| refuse(format!("it is not a shared library ({e})"), remedy))?;
    let exports = object
        .exports()
        .map_err(|e| refuse(format!("its symbols cannot be read ({e})"), remedy))?;
    let mut has_entry = false;
    for export in exports {
        let export =
            export.map_err(|e| refuse(format!("its symbols cannot be read ({e})"), remedy))?;
        // Mach-O prefixes C names with an underscore.
        if let object::NameOrOrdinal::Name(name) = export.name() {
            has_entry |= name.strip_prefix(b"_").unwrap_or(name) == ENTRY_SYMBOL.as_bytes();
        }
    }
    if !has_entry {
        return Err(refuse(
            no_plugin(),
            "export it (Rust: export_plugin!, C: vq_plugin.h), or move the file elsewhere",
        ));
    }
    // One that is there and cannot be read is one that the loader cannot read either.
    let needs = Needs::of(path).digest().map_err(io)?;
    Ok(Digests { file: blake3::hash(&bytes).to_hex().to_string(), needs })
}

/// What a Python file is, and with which interpreter it would run.
fn inspect_python(path: &Path, python: Option<&Path>) -> Result<Digests, Refusal> {
    let refuse = |reason: String, remedy: &str| Refusal {
        path: path.to_owned(),
        reason,
        remedy: remedy.to_owned(),
        lasting: false,
    };
    let file = Source::of(path).and_then(|source| source.digest());
    let file = file.map_err(|e| refuse(e.to_string(), "check that its files can be read"))?;
    let remedy = "install Python 3.9 or newer with numpy, or set VQ_PYTHON";
    let interpreter = Interpreter::of(path, python).map_err(|e| refuse(e.to_string(), remedy))?;
    let needs = blake3::hash(interpreter.stamp().as_bytes()).to_hex().to_string();
    Ok(Digests { file, needs: Some(needs) })
}

impl Catalog {
    /// A library that is no plugin but that a plugin needs is where it belongs.
    fn drop_needed(&mut self) {
        let reason = no_plugin();
        if !self.refused.iter().any(|refused| refused.reason == reason) {
            return;
        }
        let canonical = |file: &Path| file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let needs = self.libraries.iter().map(|library| Needs::of(&library.path));
        let needed: BTreeSet<PathBuf> =
            needs.flat_map(|needs| needs.files().map(canonical).collect::<Vec<_>>()).collect();
        self.refused.retain(|it| it.reason != reason || !needed.contains(&canonical(&it.path)));
    }

    /// Adds a library unless an equal file is there; tells of methods it does not get to serve.
    fn add(&mut self, library: Library) {
        let same = |known: &Library| {
            known.digests() == library.digests() && known.python == library.python
        };
        if self.libraries.iter().any(same) {
            return;
        }
        for method in &library.about.methods {
            let earlier = self.libraries.iter().find(|known| {
                known.found_in != library.found_in
                    && known.about.methods.iter().any(|m| m.id == method.id)
            });
            if let Some(earlier) = earlier {
                self.notices.push(format!(
                    "method {} is taken from {}, not from {}",
                    method.id,
                    earlier.path.display(),
                    library.path.display()
                ));
            }
        }
        self.libraries.push(library);
    }
}
