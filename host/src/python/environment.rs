//! What a method's file found installed when it was described: part of a cell's key, and compared
//! by metadata, without starting Python.

use super::interpreter::Interpreter;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// What tells one build of a distribution from another, as installers write it.
const METADATA: [&str; 3] = ["METADATA", "PKG-INFO", "RECORD"];
/// More than any file imports.
const MOST: usize = 1024;

/// An interpreter and the distributions that a method's file imported from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Tells the interpreter; see [`Interpreter::stamp`].
    pub stamp: String,
    /// `3.11.7`.
    pub version: String,
    /// Folders of metadata of what was imported, in order.
    pub distributions: Vec<PathBuf>,
    /// BLAKE3 over the version and the metadata, in hexadecimal.
    pub digest: String,
}

impl Environment {
    /// Of `interpreter`, whose `version` and `distributions` it told.
    pub fn new(interpreter: &Interpreter, version: String, distributions: Vec<PathBuf>) -> Self {
        let digest = digest(&version, &distributions);
        Environment { stamp: interpreter.stamp(), version, distributions, digest }
    }

    /// Whether it is still so for the method at `file`; `own` is the Python named for it alone.
    pub fn holds(&self, file: &Path, own: Option<&Path>) -> bool {
        self.distributions.len() <= MOST
            && Interpreter::of(file, own).is_ok_and(|now| now.stamp() == self.stamp)
            && digest(&self.version, &self.distributions) == self.digest
    }
}

/// Where a distribution lies does not count, but its name and what its metadata say.
fn digest(version: &str, distributions: &[PathBuf]) -> String {
    let mut all = blake3::Hasher::new();
    all.update(version.as_bytes()).update(&[0]);
    for folder in distributions {
        let name = folder.file_name().unwrap_or_default();
        all.update(name.as_encoded_bytes()).update(&[0]);
        for file in METADATA {
            if let Ok(text) = fs::read(folder.join(file)) {
                all.update(blake3::hash(&text).as_bytes());
            }
        }
    }
    all.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_build_of_a_package_is_another_environment() {
        let folder = tempfile::tempdir().unwrap();
        let of = folder.path().join("numpy-2.4.6.dist-info");
        fs::create_dir(&of).unwrap();
        fs::write(of.join("METADATA"), "Version: 2.4.6").unwrap();
        let all = [of.clone()];
        let first = digest("3.11.7", &all);
        assert_eq!(digest("3.11.7", &all), first);
        assert_ne!(digest("3.11.8", &all), first);
        fs::write(of.join("RECORD"), "numpy/core.so,sha256=1,2").unwrap();
        assert_ne!(digest("3.11.7", &all), first);
    }
}
