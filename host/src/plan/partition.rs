//! Cells shared out among machines, before any data is read.
//!
//! ```text
//! hash:3/16     those whose name falls into the third of sixteen parts, whatever else is in the sweep
//! slice:3/16    every sixteenth, beginning with the third, in the order of the plan
//! list:FILE     those that a file names
//! ```
//!
//! A cell's key has the digest of its data and is not known yet. Its [name](super::Cell::name) is: data set,
//! method, parameters, seed. It holds no path and nothing of a machine, so that all share out alike.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::json;
use vq_plugin_api::params::Config;

use super::Second;
use crate::plugin::config_json;
use crate::record::canonical_json;
use crate::transform::Chain;

/// Digits of a cell's name.
const DIGITS: usize = 16;

/// Which of all cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partition {
    /// By name: a cell stays where it is when others are added.
    Hash(Share),
    /// By position: parts differ by one cell at most.
    Slice(Share),
    /// The cells that a file names.
    List {
        /// The file.
        file: PathBuf,
        /// [Names](super::Cell::name).
        names: HashSet<String>,
    },
}

/// One of so many parts, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    part: u64,
    of: u64,
}

/// Why a text is no [`Partition`].
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// It has no such form.
    #[error("expected hash:3/16, slice:3/16 or list:FILE")]
    Form,
    /// There is no such part.
    #[error("expected a part from 1 to {of}, of at least one")]
    Part {
        /// How many parts there are.
        of: u64,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line of the file does not begin with a name.
    #[error("{path}: line {line} does not begin with the {DIGITS} digits of a cell's name")]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

impl Share {
    fn has(self, number: u64) -> bool {
        number % self.of == self.part - 1
    }
}

impl FromStr for Share {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<Self, PartitionError> {
        let (part, of) = text.split_once('/').ok_or(PartitionError::Form)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| PartitionError::Form);
        let (part, of) = (number(part)?, number(of)?);
        if part == 0 || part > of {
            return Err(PartitionError::Part { of });
        }
        Ok(Self { part, of })
    }
}

impl FromStr for Partition {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<Self, PartitionError> {
        match text.split_once(':') {
            Some(("hash", share)) => Ok(Self::Hash(share.parse()?)),
            Some(("slice", share)) => Ok(Self::Slice(share.parse()?)),
            Some(("list", file)) => Self::listed(Path::new(file)),
            _ => Err(PartitionError::Form),
        }
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hash(Share { part, of }) => write!(f, "hash:{part}/{of}"),
            Self::Slice(Share { part, of }) => write!(f, "slice:{part}/{of}"),
            Self::List { file, .. } => write!(f, "list:{}", file.display()),
        }
    }
}

impl Partition {
    /// Reads the names with which the lines of a file begin; what follows on a line is for people.
    fn listed(file: &Path) -> Result<Self, PartitionError> {
        let path = || file.to_owned();
        let text = fs::read_to_string(file)
            .map_err(|source| PartitionError::File { path: path(), source })?;
        let mut names = HashSet::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let name = line.split(' ').next().unwrap_or_default();
            let is_name =
                name.len() == DIGITS && name.bytes().all(|digit| digit.is_ascii_hexdigit());
            if !is_name {
                return Err(PartitionError::Line { path: path(), line: at + 1 });
            }
            names.insert(name.to_owned());
        }
        Ok(Self::List { file: path(), names })
    }

    /// Whether it has the cell at position `at` of all, which is called `name`.
    ///
    /// # Panics
    /// When `name` is not made of 16 hexadecimal digits.
    pub fn has(&self, at: usize, name: &str) -> bool {
        match self {
            Self::Hash(share) => {
                share.has(u64::from_str_radix(name, 16).expect("a name is of hexadecimal digits"))
            }
            Self::Slice(share) => share.has(at as u64),
            Self::List { names, .. } => names.contains(name),
        }
    }

    /// What a store of its own adds to the name of the sweep's: `hash-3-of-16`; nothing for a list.
    pub fn suffix(&self) -> Option<String> {
        match self {
            Self::Hash(Share { part, of }) => Some(format!("hash-{part}-of-{of}")),
            Self::Slice(Share { part, of }) => Some(format!("slice-{part}-of-{of}")),
            Self::List { .. } => None,
        }
    }
}

/// What a cell is called before its data is read: 16 hexadecimal digits over the data set's name,
/// the method, all parameters and the seed, equal on every machine and for every build of a plugin.
pub(super) fn cell_name(
    dataset: &str,
    method: &str,
    config: &Config,
    (transform, second): (&Chain, Option<&Second>),
    seed: u64,
) -> String {
    let second = second.map(|second| json!([second.method.id, config_json(&second.config)]));
    let mut name = json!([dataset, method, config_json(config), second, seed]);
    // Absent rather than empty: names of cells without are what they always were.
    if let (false, Some(name)) = (transform.is_empty(), name.as_array_mut()) {
        name.push(json!(transform));
    }
    let digest = blake3::derive_key("vq-host 2025 cell name", canonical_json(&name).as_bytes());
    blake3::Hash::from_bytes(digest).to_hex()[..DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_partition_is_refused_with_what_is_one() {
        for text in ["", "hash", "hash:", "hash:3", "hash:a/3", "count:1/2", "3/16", "hash:1/2/3"] {
            let error = text.parse::<Partition>().unwrap_err().to_string();
            assert_eq!(error, "expected hash:3/16, slice:3/16 or list:FILE", "{text}");
        }
        for text in ["hash:0/3", "slice:4/3", "hash:0/0"] {
            let error = text.parse::<Partition>().unwrap_err().to_string();
            assert!(error.starts_with("expected a part from 1 to"), "{text}: {error}");
        }
        for text in ["hash:3/16", "slice:1/1"] {
            assert_eq!(text.parse::<Partition>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_list_names_cells_and_a_line_that_names_none_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cells");
        fs::write(&file, "0123456789abcdef gauss a bits=4\n\nfedcba9876543210\n").unwrap();
        let list: Partition = format!("list:{}", file.display()).parse().unwrap();
        assert!(list.has(7, "0123456789abcdef") && list.has(0, "fedcba9876543210"));
        assert!(!list.has(0, "0000000000000000"));
        fs::write(&file, "0123456789abcdef\ngauss\n").unwrap();
        let error = format!("list:{}", file.display()).parse::<Partition>().unwrap_err();
        assert!(error.to_string().contains("line 2 does not begin with"), "{error}");
    }

    #[test]
    fn every_position_is_in_one_slice_and_slices_differ_by_one_at_most() {
        let slices: Vec<Partition> =
            (1..=7).map(|part| format!("slice:{part}/7").parse().unwrap()).collect();
        let name = "0000000000000000";
        let of = |at| slices.iter().filter(|slice| slice.has(at, name)).count();
        assert!((0..30).all(|at| of(at) == 1));
        let sizes = slices.iter().map(|slice| (0..30).filter(|at| slice.has(*at, name)).count());
        assert!(sizes.into_iter().all(|size| (4..=5).contains(&size)));
    }
}
