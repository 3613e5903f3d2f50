//! Which Python runs a method, found without starting it: the one that the sweep names for this method
//! (an interpreter, or the folder of a virtual environment), then `.venv` beside the method's file,
//! then what the sweep names for all, then `VQ_PYTHON`, then `python3` on the path.

use object::Endianness;
use object::ReadCache;
use object::read::elf::{ElfFile64, ProgramHeader};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The variable that names it.
pub const VARIABLE: &str = "VQ_PYTHON";
/// A virtual environment of a method's own, beside its file.
const OWN: &str = ".venv";

/// What this command's sweep names.
static NAMED: OnceLock<PathBuf> = OnceLock::new();

/// From now on `path` stands where [`VARIABLE`] did, in this process and in the workers that it
/// starts. The first path told holds: a command has one sweep.
pub fn name(path: PathBuf) {
    // Workers have a folder of their own.
    let _ = NAMED.set(std::path::absolute(&path).unwrap_or(path));
}

/// What [`name`] was told.
pub(crate) fn named() -> Option<&'static Path> {
    NAMED.get().map(PathBuf::as_path)
}

/// An interpreter, and where its packages lie.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// The program itself, links followed.
    pub program: PathBuf,
    /// The environment it belongs to.
    pub prefix: PathBuf,
    /// Folders of installed packages, in their order.
    pub sites: Vec<PathBuf>,
    /// Folders it has to read beside these: its own library.
    pub libraries: Vec<PathBuf>,
}

/// Why there is none.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InterpreterError {
    /// No `python3` on the path.
    #[error("there is no python3 on the path; name one by {VARIABLE}")]
    Absent,
    /// What was named is none.
    #[error("{} is no Python interpreter or virtual environment: {reason}", path.display())]
    Unusable {
        /// As named.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl Interpreter {
    /// The interpreter for the method at `file`; `own` is what its sweep names for it alone.
    ///
    /// # Errors
    /// There is none, or what is named is none.
    pub fn of(file: &Path, own: Option<&Path>) -> Result<Interpreter, InterpreterError> {
        if let Some(own) = own {
            return Self::at(own);
        }
        let own = file.parent().unwrap_or(Path::new(".")).join(OWN);
        if own.join("pyvenv.cfg").is_file() {
            return Self::at(&own);
        }
        let variable = || std::env::var_os(VARIABLE).filter(|named| !named.is_empty());
        if let Some(named) = named().map(PathBuf::from).or_else(|| variable().map(PathBuf::from)) {
            return Self::at(&named);
        }
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&folders).map(|folder| folder.join("python3"));
        // What version managers put there is a script, which the walls would not run.
        let found = found.filter(|path| path.is_absolute()).find_map(|path| Self::at(&path).ok());
        found.ok_or(InterpreterError::Absent)
    }

    /// The interpreter at `path`, or of the environment there.
    ///
    /// # Errors
    /// It is none.
    pub fn at(path: &Path) -> Result<Interpreter, InterpreterError> {
        let unusable =
            |reason: &str| InterpreterError::Unusable { path: path.into(), reason: reason.into() };
        let named = match path.is_dir() {
            true => path.join("bin/python3"),
            false => path.to_owned(),
        };
        let program = named.canonicalize().map_err(|e| unusable(&e.to_string()))?;
        loader(&program)
            .ok_or_else(|| unusable("not a program, but perhaps a script about one"))?;
        let up = |file: &Path| file.parent().and_then(Path::parent).map(Path::to_owned);
        let base = up(&program).ok_or_else(|| unusable("it lies in no bin folder"))?;
        let version = version(&program, &base)
            .ok_or_else(|| unusable("no lib/python3.N with its library beside it"))?;
        let of = |root: &Path| {
            let folders = ["lib", "lib64"].map(|lib| root.join(lib).join(&version));
            folders.map(|folder| folder.join("site-packages"))
        };
        let debian = [
            PathBuf::from("/usr/local/lib").join(&version).join("dist-packages"),
            PathBuf::from("/usr/lib/python3/dist-packages"),
        ];
        let system = || {
            of(&base).into_iter().chain(debian.into_iter().filter(|_| base == Path::new("/usr")))
        };
        let venv =
            named.parent().and_then(Path::parent).filter(|root| root.join("pyvenv.cfg").is_file());
        let (prefix, sites): (PathBuf, Vec<PathBuf>) = match venv {
            Some(root) => {
                let settings = fs::read_to_string(root.join("pyvenv.cfg")).unwrap_or_default();
                let shares = settings.lines().any(|line| {
                    let (name, value) = line.split_once('=').unwrap_or_default();
                    name.trim() == "include-system-site-packages" && value.trim() == "true"
                });
                let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
                let sites = of(&root).into_iter().chain(system().filter(|_| shares)).collect();
                (root, sites)
            }
            None => (base.clone(), system().collect()),
        };
        let mut seen = Vec::new();
        for site in sites.into_iter().filter(|site| site.is_dir()) {
            let site = site.canonicalize().unwrap_or(site);
            if !seen.contains(&site) {
                seen.push(site);
            }
        }
        let libraries = ["lib", "lib64"].map(|lib| base.join(lib));
        let libraries = libraries.into_iter().filter(|folder| folder.is_dir()).collect();
        Ok(Interpreter { program, prefix, sites: seen, libraries })
    }

    /// All that it must be able to read.
    pub fn readable(&self) -> Vec<PathBuf> {
        let own = [self.program.clone(), self.prefix.join("pyvenv.cfg")];
        let all = own.into_iter().chain(self.libraries.clone()).chain(self.sites.clone());
        all.filter(|path| path.exists()).collect()
    }

    /// What has to be executable for it.
    pub fn executable(&self) -> Vec<PathBuf> {
        [Some(self.program.clone()), loader(&self.program)].into_iter().flatten().collect()
    }

    /// Tells this very program from another one in its place, without reading it.
    pub fn stamp(&self) -> String {
        let meta = fs::metadata(&self.program);
        let stamp = meta.map_or_else(
            |_| String::new(),
            |of| format!("{} {}.{:09}", of.len(), of.mtime(), of.mtime_nsec()),
        );
        format!("{}\0{}\0{stamp}", self.program.display(), self.prefix.display())
    }
}

/// `python3.11`, by the program's name or the only library beside it.
fn version(program: &Path, base: &Path) -> Option<String> {
    let has_library = |name: &str| {
        ["lib", "lib64"].iter().any(|lib| base.join(lib).join(name).join("os.py").is_file())
    };
    let name = program.file_name()?.to_str()?.to_owned();
    if has_library(&name) {
        return Some(name);
    }
    let entries = fs::read_dir(base.join("lib")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let found: Vec<String> =
        names.filter(|name| name.starts_with("python3.") && has_library(name)).collect();
    <[String; 1]>::try_from(found).ok().map(|[name]| name)
}

/// The loader that the program at `path` names; `None` for what is no program.
fn loader(path: &Path) -> Option<PathBuf> {
    let data = ReadCache::new(fs::File::open(path).ok()?);
    let elf = ElfFile64::<Endianness, _>::parse(&data).ok()?;
    let headers = elf.elf_program_headers().iter();
    let named = headers.filter_map(|header| header.interpreter(elf.endian(), &data).ok().flatten());
    let named =
        named.map(|text| PathBuf::from(String::from_utf8_lossy(text).into_owned())).next()?;
    Some(named.canonicalize().unwrap_or(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_interpreter_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("python3");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let error = Interpreter::at(&script).unwrap_err().to_string();
        assert!(error.contains("a script"), "{error}");
        let error = Interpreter::at(folder.path()).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
