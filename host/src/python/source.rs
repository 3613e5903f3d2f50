//! The Python files of a method, found and read without running them.
//!
//! `X.py` stands for itself and for the files beside it that it imports, `X/X.py` for all Python
//! files of its folder. Nothing else can be imported from there: what is read has a digest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A larger file is no source.
const MOST_BYTES: u64 = 4 << 20;
/// More files than any method has.
const MOST_FILES: usize = 512;

/// The files of one method, by the names of their modules below the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The module with the class.
    pub module: String,
    /// By module, `a.b`; the folder's own `__init__.py` has the empty name.
    pub files: BTreeMap<String, PathBuf>,
}

/// True if the file at `path` may hold a method: its text defines what a method needs.
pub fn is_candidate(path: &Path) -> bool {
    super::is_python(path)
        && read(path).is_ok_and(|text| {
            let defines = |name: &str| {
                text.lines().any(|line| {
                    let line = line.trim_start().strip_prefix("def ").map(str::trim_start);
                    let rest = line.and_then(|line| line.strip_prefix(name));
                    rest.is_some_and(|rest| rest.trim_start().starts_with('('))
                })
            };
            defines("compress") && defines("decompress")
        })
}

fn read(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    if !meta.is_file() || meta.len() > MOST_BYTES {
        return Err(io::Error::other("it is no source file of at most 4 MiB"));
    }
    fs::read_to_string(path)
}

impl Source {
    /// The files of the method at `path`.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn of(path: &Path) -> io::Result<Source> {
        let named = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).map(String::from);
        let stem = named(path).ok_or_else(|| io::Error::other("its name is not text"))?;
        // A dot would be a package's.
        let module = stem.replace('.', "-");
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut files = BTreeMap::new();
        if folder.file_name().and_then(|name| name.to_str()) == Some(&stem) {
            gather(folder, "", &mut files)?;
            // Whatever it is called.
            files.insert(module.clone(), path.to_owned());
        } else {
            let mut left = vec![(module.clone(), path.to_owned())];
            while let Some((name, file)) = left.pop() {
                if files.len() >= MOST_FILES || files.contains_key(&name) {
                    continue;
                }
                let text = read(&file)?;
                files.insert(name, file);
                for name in imported(&text) {
                    let beside = folder.join(format!("{name}.py"));
                    if beside.is_file() {
                        left.push((name, beside));
                    }
                }
            }
        }
        Ok(Source { module, files })
    }

    /// What its method is called, or how what its methods are called begins.
    pub fn id(&self) -> String {
        id(&self.module)
    }

    /// BLAKE3 over names and contents, in hexadecimal.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn digest(&self) -> io::Result<String> {
        let mut all = blake3::Hasher::new();
        all.update(self.module.as_bytes()).update(&[0]);
        for (name, file) in &self.files {
            let text = blake3::hash(read(file)?.as_bytes());
            all.update(name.as_bytes()).update(&[0]).update(text.as_bytes());
        }
        Ok(all.finalize().to_hex().to_string())
    }
}

/// Whether the file at `path` would be the one of the method `wanted`.
pub fn may_offer(path: &Path, wanted: &str) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let rest = wanted.strip_prefix(&id(&stem.replace('.', "-")));
    super::is_python(path) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// A method's id from the name of its module.
fn id(module: &str) -> String {
    let plain =
        |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
    let id: String = module.chars().map(plain).collect();
    if id.starts_with(|c: char| c.is_ascii_lowercase()) { id } else { format!("m-{id}") }
}

fn gather(folder: &Path, above: &str, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let dot = if above.is_empty() { "" } else { "." };
        if kind.is_dir() && is_word(stem) && path.extension().is_none() && above.len() < 200 {
            gather(&path, &format!("{above}{dot}{stem}"), files)?;
        } else if super::is_python(&path) && path.is_file() && is_word(stem) {
            let name = match stem {
                "__init__" => above.to_owned(),
                stem => format!("{above}{dot}{stem}"),
            };
            if files.len() >= MOST_FILES {
                return Err(io::Error::other(format!("more than {MOST_FILES} Python files")));
            }
            read(&path)?;
            files.insert(name, path);
        }
    }
    Ok(())
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// The first names that import lines of `text` have: `from .a import b`, `import a.b, c`. Too many
/// are no harm: only files that are there count.
fn imported(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim_start);
    let lines = lines.filter(|line| line.starts_with("import ") || line.starts_with("from "));
    let words = lines.flat_map(|line| line.split(|c: char| !(c.is_alphanumeric() || c == '_')));
    words.filter(|word| is_word(word)).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: &str = "import numpy\nfrom .base import Base\n\nclass M(Base):\n    \
                          def compress(self, X): ...\n    def decompress (self, codes): ...\n";

    #[test]
    fn a_text_that_defines_both_functions_is_a_candidate() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        assert!(is_candidate(&at("m.py", METHOD)));
        assert!(!is_candidate(&at("half.py", "def compress(x): ...\n# def decompress(\n")));
        assert!(!is_candidate(&at("m.txt", METHOD)));
        assert!(!is_candidate(&folder.path().join("absent.py")));
    }

    #[test]
    fn the_digest_covers_what_is_imported_from_beside_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("m.py"), METHOD).unwrap();
        fs::write(at("base.py"), "class Base: ...\n").unwrap();
        fs::write(at("other.py"), "1\n").unwrap();
        let digest = || Source::of(&at("m.py")).unwrap().digest().unwrap();
        let first = digest();
        fs::write(at("other.py"), "2\n").unwrap();
        assert_eq!(digest(), first);
        fs::write(at("base.py"), "class Base: pass\n").unwrap();
        assert_ne!(digest(), first);
    }

    #[test]
    fn a_file_may_offer_what_is_called_like_it() {
        for (file, id) in [("m.py", "m"), ("M.py", "m-grid"), ("x.v2.py", "x-v2"), ("9.py", "m-9")]
        {
            assert!(may_offer(Path::new(file), id), "{file} {id}");
        }
        for (file, id) in [("m.so", "m"), ("m.py", "mm"), ("m.py", "n"), ("m-a.py", "m")] {
            assert!(!may_offer(Path::new(file), id), "{file} {id}");
        }
    }

    #[test]
    fn a_folder_of_the_same_name_is_a_package() {
        let folder = tempfile::tempdir().unwrap();
        let m = folder.path().join("m");
        fs::create_dir_all(m.join("parts")).unwrap();
        for file in ["m.py", "__init__.py", "parts/__init__.py", "parts/tables.py"] {
            fs::write(m.join(file), METHOD).unwrap();
        }
        fs::create_dir_all(m.join(".venv/lib")).unwrap();
        fs::write(m.join(".venv/lib/x.py"), "").unwrap();
        let source = Source::of(&m.join("m.py")).unwrap();
        let names: Vec<&str> = source.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["", "m", "parts", "parts.tables"]);
    }

    #[test]
    fn a_name_that_no_import_could_say_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for (place, file, module) in
            [("my-method", "my-method.py", "my-method"), ("other", "X.v2.py", "X-v2")]
        {
            let place = folder.path().join(place);
            fs::create_dir(&place).unwrap();
            fs::write(place.join(file), METHOD).unwrap();
            let source = Source::of(&place.join(file)).unwrap();
            assert_eq!((source.module.as_str(), source.files.len()), (module, 1));
            assert_eq!(source.files[module], place.join(file));
        }
    }
}
