//! Neighbours that are kept in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::file::{Header, write};
use super::{TruthFile, exact_neighbours};
use crate::data::cache::{Cache, TRUTH};
use crate::data::error::cache_io;
use crate::data::turn::Turn;
use crate::data::unfinished::Unfinished;
use crate::data::{DataError, Metric, OnProgress, Rows};

/// Beside the files, what they are of.
pub(in crate::data) const ABOUT: &str = "about";

/// Where neighbours are kept.
pub(in crate::data) struct Place<'a, 'c> {
    pub(in crate::data) cache: &'a mut Cache<'c>,
    /// What base, queries and metric are.
    pub(in crate::data) key: &'a str,
    /// For people: where the base comes from.
    pub(in crate::data) from: &'a str,
}

/// Neighbours that are kept, and what else is known of queries and base by then.
#[derive(Debug)]
pub(in crate::data) struct Found {
    pub(in crate::data) file: TruthFile,
    /// Queries that are equal to a base row.
    pub(in crate::data) identical: u64,
    /// Queries for which the k-th and the next nearest row are equally near.
    pub(in crate::data) tied: u64,
    /// Keeps the file.
    pub(in crate::data) lock: Option<File>,
}

/// Finds `k` exact neighbours of each of `queries` in `base`, in a file of the cache
/// that is kept for the next caller. `k` is at most the number of base rows.
///
/// The file has one more, if there is one, which tells where the k-th ties with the next.
pub(in crate::data) fn find(
    base: &Rows,
    queries: &Rows,
    metric: Metric,
    k: usize,
    place: Place<'_, '_>,
    progress: OnProgress<'_>,
) -> Result<Found, DataError> {
    let Place { cache, key, from } = place;
    let folder = cache.folder.join(TRUTH).join(&key[..16]);
    let depth = base.rows().min(k + 1);
    if let Some(found) = stored(&folder, queries.rows(), k, depth, &mut cache.notices)? {
        return Ok(found);
    }
    cache.may_make()?;
    let _turn = Turn::take(&cache.folder, &key[..16], cache.progress)?;
    if let Some(found) = stored(&folder, queries.rows(), k, depth, &mut cache.notices)? {
        return Ok(found);
    }
    let (truth, identical) = exact_neighbours(base, queries, metric, depth, progress)?;
    cache.sources.unchanged_so_far()?;
    fs::create_dir_all(&folder).map_err(cache_io("create", &folder))?;
    // Beside its place first: a file there is whole.
    let beside = Unfinished::new(&cache.folder)?;
    let (whole, path) = (beside.path().join("k"), folder.join(format!("k{depth}")));
    write(&truth, identical, &whole)?;
    fs::rename(&whole, &path).map_err(cache_io("write", &path))?;
    // Only people look at it.
    let _told = fs::write(folder.join(ABOUT), from);
    let lock = hold(&path);
    Ok(Found { file: TruthFile { path, k }, identical, tied: truth.tied_at(k), lock })
}

/// Keeps the file from being cleared, and remembers that it was used.
fn hold(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    if let Ok(writable) = File::options().append(true).open(path) {
        let _told = writable.set_modified(SystemTime::now());
    }
    file.lock_shared().is_ok().then_some(file)
}

/// The whole file in `folder` with the fewest neighbours, at least `depth`, that are enough.
fn stored(
    folder: &Path,
    queries: usize,
    k: usize,
    depth: usize,
    notices: &mut Vec<String>,
) -> Result<Option<Found>, DataError> {
    let mut enough: Vec<(usize, PathBuf)> = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cache_io("list", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(cache_io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(held) = name.strip_prefix('k').and_then(|k| k.parse().ok())
            && held >= depth
        {
            enough.push((held, path));
        }
    }
    enough.sort();
    for (held, path) in enough {
        let lock = hold(&path);
        let deep = TruthFile { path: path.clone(), k: depth };
        let file = TruthFile { path, k };
        let whole = deep.read().and_then(|truth| Ok((truth, Header::read(&file.path)?)));
        match whole {
            Ok((truth, header)) if header.queries == queries && header.k == held => {
                let (identical, tied) = (header.identical, truth.tied_at(k));
                return Ok(Some(Found { file, identical, tied, lock }));
            }
            Ok(_) => notices.push(damaged_notice(&file.path, "another one's")),
            Err(DataError::Damaged { reason, .. }) => {
                notices.push(damaged_notice(&file.path, reason));
            }
            // Cleared away meanwhile.
            Err(DataError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Of no use to anybody, and not to be told of again.
        let _removed = fs::remove_file(&file.path);
    }
    Ok(None)
}

fn damaged_notice(path: &Path, how: &str) -> String {
    format!("the exact neighbours in {} are damaged ({how}) and are found again", path.display())
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;
    use crate::data::testing::{prepared_rows, small_integers};
    use crate::data::truth::tests::kept;

    #[test]
    fn a_stored_file_serves_every_smaller_k() {
        let folder = tempfile::tempdir().unwrap();
        let base = prepared_rows(folder.path(), "base", &small_integers(300, 9, 1));
        let queries = prepared_rows(folder.path(), "queries", &small_integers(8, 9, 2));
        let find = |k| kept(folder.path(), &base, &queries, k).0.file;
        let ten = find(10);
        let five = find(5);
        assert_eq!(ten.path, five.path);
        let (ten, five) = (ten.read().unwrap(), five.read().unwrap());
        assert_eq!(five.ids, ten.ids.slice(s![.., ..5]));
        assert_eq!(five.distances, ten.distances.slice(s![.., ..5]));

        let twenty = find(20);
        assert_eq!(twenty.read().unwrap().ids.slice(s![.., ..10]), ten.ids);
        assert_eq!(find(10).k, 10);
    }

    #[test]
    fn a_damaged_file_is_found_out_and_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let base = prepared_rows(folder.path(), "base", &small_integers(300, 9, 1));
        let queries = prepared_rows(folder.path(), "queries", &small_integers(8, 9, 2));
        let find = || kept(folder.path(), &base, &queries, 10);
        let file = find().0.file;
        let truth = file.read().unwrap();
        let whole = fs::read(&file.path).unwrap();
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        for damaged in [&whole[..whole.len() - 1], &whole[..20], &[], &flipped(0), &flipped(40)] {
            fs::write(&file.path, damaged).unwrap();
            assert!(matches!(file.read(), Err(DataError::Damaged { .. })));
            let (again, notices) = find();
            assert_eq!((&again.file, notices.len()), (&file, 1), "{notices:?}");
            assert_eq!(file.read().unwrap(), truth, "it is made again");
            assert!(find().1.is_empty());
        }
    }
}
