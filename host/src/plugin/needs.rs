//! What the dynamic loader will look for on behalf of a library, found as the loader finds it,
//! without running any of its code: by full path, in RPATH and RUNPATH of each file that asks (with
//! `$ORIGIN`, `$LIB` and `$PLATFORM`), and in LD_LIBRARY_PATH.
//!
//! What is found in none of these is the system's, and what the system's libraries need is too.
//! Libraries that a plugin opens while it runs (`dlopen`) are named nowhere and not found here.

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, Machine};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Endianness, ReadCache};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Folders of libraries that belong to the system, or to a store of packages whose paths say what
/// they hold.
pub(crate) const SYSTEM_FOLDERS: [&str; 15] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/local/lib",
    "/usr/local/lib32",
    "/usr/local/lib64",
    "/nix/store",
    "/gnu/store",
    "/run/current-system/sw/lib",
    "/run/opengl-driver/lib",
];

/// More files than any library needs.
const MOST_FILES: usize = 4096;
/// Where a folder may keep libraries for newer processors.
const FOR_NEWER: [&str; 4] =
    ["", "glibc-hwcaps/x86-64-v4", "glibc-hwcaps/x86-64-v3", "glibc-hwcaps/x86-64-v2"];

/// The files outside the system's folders that loading a library opens, itself excluded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// By the name that asks for it; several files where the processor decides.
    files: BTreeMap<String, Vec<PathBuf>>,
    /// Folders that some file of them names for its libraries.
    folders: BTreeSet<PathBuf>,
}

impl Needs {
    /// What `library` needs. A file that is no library needs nothing.
    pub fn of(library: &Path) -> Needs {
        let from_environment: Vec<PathBuf> = std::env::var_os("LD_LIBRARY_PATH")
            .map(|paths| std::env::split_paths(&paths).collect())
            .unwrap_or_default();
        let mut needs = Needs::default();
        needs.folders.extend(from_environment.iter().filter(|f| f.is_absolute()).cloned());
        let mut seen = BTreeSet::new();
        // Each with the RPATHs of those that led to it, which it inherits.
        let mut left = VecDeque::from([(library.to_owned(), Vec::<PathBuf>::new())]);
        while let Some((file, inherited)) = left.pop_front() {
            if seen.len() >= MOST_FILES || !seen.insert(file.clone()) {
                continue;
            }
            let Some(asks) = Asks::of(&file) else { continue };
            needs.folders.extend(asks.rpath.iter().chain(&asks.runpath).cloned());
            let mut rpaths = inherited;
            if asks.runpath.is_empty() {
                rpaths.splice(0..0, asks.rpath.iter().cloned());
            }
            for name in asks.needed {
                let found = match name.contains('/') {
                    true => vec![PathBuf::from(&name)],
                    false => {
                        let before = if asks.runpath.is_empty() { &rpaths[..] } else { &[] };
                        let folders = before.iter().chain(&from_environment).chain(&asks.runpath);
                        first(folders, &name)
                    }
                };
                let found: Vec<PathBuf> = found.into_iter().filter(|f| !is_systems(f)).collect();
                for file in &found {
                    left.push_back((file.clone(), rpaths.clone()));
                }
                if !found.is_empty() {
                    let base = name.rsplit('/').next().unwrap_or(&name).to_owned();
                    let files = needs.files.entry(base).or_default();
                    files.extend(found.into_iter().filter(|f| f != library));
                    files.sort();
                    files.dedup();
                }
            }
        }
        needs.files.retain(|_, files| !files.is_empty());
        needs
    }

    /// Every file.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.values().flatten().map(PathBuf::as_path)
    }

    /// The folders that are named for libraries.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(PathBuf::as_path)
    }

    /// BLAKE3, in hexadecimal, over names and contents; none where nothing is needed. Where the
    /// files lie does not count.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn digest(&self) -> io::Result<Option<String>> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let mut all = blake3::Hasher::new();
        for (name, files) in &self.files {
            for file in files {
                let mut one = blake3::Hasher::new();
                one.update_reader(fs::File::open(file)?)?;
                all.update(name.as_bytes()).update(&[0]).update(one.finalize().as_bytes());
            }
        }
        Ok(Some(all.finalize().to_hex().to_string()))
    }
}

/// The files called `name` in the first of `folders` that has one.
fn first<'a>(folders: impl Iterator<Item = &'a PathBuf>, name: &str) -> Vec<PathBuf> {
    for folder in folders {
        let places = FOR_NEWER.iter().map(|newer| folder.join(newer).join(name));
        // One for another processor is passed over, as the loader does.
        let found: Vec<PathBuf> = places.filter(|file| Asks::of(file).is_some()).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn is_systems(file: &Path) -> bool {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    SYSTEM_FOLDERS.iter().any(|folder| file.starts_with(folder))
}

/// What one file asks of the loader.
struct Asks {
    needed: Vec<String>,
    rpath: Vec<PathBuf>,
    runpath: Vec<PathBuf>,
}

impl Asks {
    /// `None` for what is not a library of this processor.
    fn of(file: &Path) -> Option<Asks> {
        if !fs::metadata(file).is_ok_and(|meta| meta.is_file()) {
            return None;
        }
        Self::read(file).ok().flatten()
    }

    fn read(file: &Path) -> object::Result<Option<Asks>> {
        let Ok(opened) = fs::File::open(file) else { return Ok(None) };
        let data = &ReadCache::new(opened);
        let elf = ElfFile64::<Endianness, _>::parse(data)?;
        let endian = elf.elf_header().endian()?;
        if elf.elf_header().e_machine(endian) != machine() {
            return Ok(None);
        }
        let table = elf.elf_section_table().dynamic_table(endian, data)?;
        let mut asks = Asks { needed: Vec::new(), rpath: Vec::new(), runpath: Vec::new() };
        for entry in &table {
            if ![DT_NEEDED, DT_RPATH, DT_RUNPATH].contains(&entry.tag) {
                continue;
            }
            let text = String::from_utf8_lossy(table.string(entry)?);
            match entry.tag {
                DT_NEEDED => asks.needed.extend(expanded(&text, file)),
                DT_RPATH => asks.rpath.extend(text.split(':').flat_map(|f| folders(f, file))),
                _ => asks.runpath.extend(text.split(':').flat_map(|f| folders(f, file))),
            }
        }
        Ok(Some(asks))
    }
}

fn folders(text: &str, asking: &Path) -> impl Iterator<Item = PathBuf> {
    // A relative folder means another one wherever the process stands.
    expanded(text, asking).into_iter().map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// `text` with the loader's names replaced, in each way that this machine might.
fn expanded(text: &str, asking: &Path) -> Vec<String> {
    let origin = asking.parent().unwrap_or(Path::new("/")).display().to_string();
    let text = text.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
    let beside = format!("lib/{ARCH}-linux-gnu");
    let text = each(&text, "LIB", &["lib64", "lib", &beside]);
    text.iter().flat_map(|text| each(text, "PLATFORM", &[ARCH, "haswell", "xeon_phi"])).collect()
}

fn each(text: &str, name: &str, values: &[&str]) -> Vec<String> {
    if !text.contains(&format!("${name}")) && !text.contains(&format!("${{{name}}}")) {
        return vec![text.to_owned()];
    }
    let replaced = |value: &&str| {
        text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
    };
    values.iter().map(replaced).collect()
}

fn machine() -> Machine {
    match ARCH {
        "x86_64" => object::elf::EM_X86_64,
        "aarch64" => object::elf::EM_AARCH64,
        "riscv64" => object::elf::EM_RISCV,
        "powerpc64" => object::elf::EM_PPC64,
        "s390x" => object::elf::EM_S390,
        _ => object::elf::EM_NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_library_needs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libtext.so");
        fs::write(&file, "not an object file").unwrap();
        for file in [file, folder.path().join("absent.so")] {
            let needs = Needs::of(&file);
            assert_eq!(needs.digest().unwrap(), None);
            assert_eq!(needs.files().count(), 0);
        }
    }

    #[test]
    fn the_loaders_names_are_replaced() {
        let asking = Path::new("/opt/a/lib.so");
        assert_eq!(expanded("$ORIGIN/../b", asking), ["/opt/a/../b"]);
        let lib = format!("/opt/a/lib/{ARCH}-linux-gnu");
        assert_eq!(expanded("${ORIGIN}/$LIB", asking), ["/opt/a/lib64", "/opt/a/lib", &lib]);
        assert!(expanded("/x/$PLATFORM", asking).contains(&format!("/x/{ARCH}")));
        assert_eq!(folders("relative", asking).count(), 0);
    }
}
