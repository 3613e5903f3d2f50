//! Several files as one dataset: a folder, a pattern or a list.

use std::fs::File;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, glob_with};

use super::DataError;
use super::error::io;
use super::format::format_of;

/// The files that `written` stands for, in the order of their names: those of a folder, those that
/// a pattern matches, or itself. All are of one format.
///
/// # Errors
/// [`DataError::NoShards`] and [`DataError::SeveralFormats`].
pub(super) fn files(written: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found: Vec<PathBuf> = if written.is_dir() {
        let entries = written.read_dir().map_err(io("list", written))?;
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(io("list", written))?;
        entries.into_iter().map(|entry| entry.path()).filter(|path| is_shown(path)).collect()
    } else if !written.exists() && is_pattern(written) {
        // One that is no pattern matches nothing.
        let shown = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
        let matched = written.to_str().and_then(|text| glob_with(text, shown).ok());
        let matched = matched.into_iter().flatten().collect::<Result<Vec<_>, _>>();
        matched.map_err(|error| io("list", error.path())(error.into()))?
    } else {
        return Ok(vec![written.to_path_buf()]);
    };
    found.retain(|path| format_of(path).is_some() && !path.is_dir());
    found.sort();
    // One that is left out would make another data set.
    for path in &found {
        if path.metadata().map_err(io("open", path))?.is_file() {
            File::open(path).map_err(io("open", path))?;
        }
    }
    found.retain(|path| path.is_file());
    let Some(first) = found.first() else {
        return Err(DataError::NoShards { path: written.into(), below: below(written, DEPTH) });
    };
    if let Some(other) = found.iter().find(|path| format_of(path) != format_of(first)) {
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (first, second) = (name(first), name(other));
        return Err(DataError::SeveralFormats { path: written.into(), first, second });
    }
    Ok(found)
}

/// Folders in folders that are looked at.
const DEPTH: usize = 3;

/// The folders in `folder` that have a file of vectors, by their names.
fn below(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let shown = entries.map(|entry| entry.path()).filter(|path| is_shown(path));
    let mut folders: Vec<PathBuf> = shown.filter(|path| path.is_dir()).collect();
    folders.sort();
    let has_some = |folder: &Path| {
        let mut entries = folder.read_dir().into_iter().flatten().flatten();
        entries.any(|entry| is_shown(&entry.path()) && format_of(&entry.path()).is_some())
    };
    let each = folders.into_iter().flat_map(|folder| match has_some(&folder) {
        true => vec![folder],
        false if depth > 1 => below(&folder, depth - 1),
        false => Vec::new(),
    });
    each.collect()
}

/// Whether something of `written` is there, before any of it is read.
pub(super) fn are_there(written: &Path) -> bool {
    files(written).is_ok_and(|files| files.iter().all(|file| file.is_file()))
}

pub(super) fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte))
}

fn is_shown(path: &Path) -> bool {
    path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_and_a_pattern_are_their_files_in_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        for name in ["b.parquet", "a.PARQUET", "_SUCCESS", ".hidden.parquet", "README.md"] {
            fs::write(at(name), "").unwrap();
        }
        let expected = vec![at("a.PARQUET"), at("b.parquet")];
        assert_eq!(files(folder.path()).unwrap(), expected);
        assert_eq!(files(&at("*[.][pP]*")).unwrap(), expected);
        assert_eq!(files(&at("?.parquet")).unwrap(), expected[1..]);
        fs::write(at("[x].fbin"), "").unwrap();
        assert_eq!(files(&at("[x].fbin")).unwrap(), [at("[x].fbin")], "a name before a pattern");
        let error = files(folder.path()).unwrap_err().to_string();
        assert!(error.contains("several formats, as [x].fbin and a.PARQUET"), "{error}");
        for nothing in [at("sub"), at("*.npy"), at("[")] {
            assert!(files(&nothing).is_err() || !are_there(&nothing), "{nothing:?}");
        }
        assert!(matches!(files(&at("sub")).unwrap_err(), DataError::NoShards { .. }));
        fs::create_dir_all(at("repository/data/train")).unwrap();
        fs::write(at("repository/data/train/0.parquet"), "").unwrap();
        let error = files(&at("repository")).unwrap_err();
        let there = at("repository/data/train").display().to_string();
        let expected = format!("no file of vectors there, but in {there}");
        assert!(error.to_string().ends_with(&expected), "{error}");
        assert!(error.remedy().unwrap().starts_with("name one of these folders"));
        std::os::unix::fs::symlink(at("nowhere"), at("sub/a.parquet")).unwrap();
        for dangling in [at("sub"), at("sub/*.parquet")] {
            let error = files(&dangling).unwrap_err().to_string();
            assert!(error.starts_with("open ") && error.ends_with("a.parquet"), "{error}");
        }
    }
}
