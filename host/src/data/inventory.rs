//! What a cache holds, and how it is emptied. What a running vq-host uses stays, and so does
//! everything that vq-host did not write.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::DataError;
use super::cache::{ENTRY, Manifest, ROWS, SETS, SOURCES, TRUTH};
use super::error::cache_io;
use super::truth::ABOUT;
use super::unfinished::{Unfinished, remove_abandoned};

/// One folder of a cache.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// `base`, `queries`, `train`, `neighbours`, `set` for a public set that was fetched, or `old` for
    /// what this version does not read.
    pub part: String,
    /// The file or what stands for it.
    pub from: String,
    /// Rows, or neighbours per query.
    pub rows: Option<usize>,
    /// Dimensions of a row.
    pub dim: Option<usize>,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was last prepared from.
    #[serde(serialize_with = "rfc_3339")]
    pub last_used: SystemTime,
    /// A running vq-host holds it.
    pub in_use: bool,
    /// The folder.
    pub path: PathBuf,
}

fn rfc_3339<S: serde::Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    crate::record::timestamp(*time).serialize(to)
}

/// What was taken out of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Folders that are gone.
    pub removed: usize,
    /// Bytes they had.
    pub bytes: u64,
    /// Folders that stayed because they are in use.
    pub in_use: usize,
}

/// Everything in the cache `folder`, the longest unused first; nothing if there is no such folder.
///
/// # Errors
/// [`DataError::Cache`] when it cannot be listed.
pub fn inventory(folder: &Path) -> Result<Vec<Kept>, DataError> {
    let mut all = Vec::new();
    for path in folders(&folder.join(ROWS))? {
        let text = fs::read(path.join(ENTRY)).unwrap_or_default();
        let manifest = Manifest::from_text(&text);
        all.extend(kept(&path, manifest.as_ref()));
    }
    for path in folders(&folder.join(TRUTH))? {
        all.extend(kept(&path, None));
    }
    for path in folders(&folder.join(SETS))? {
        all.extend(kept(&path, None));
    }
    // The first layout had all parts in one folder of the cache itself.
    for path in folders(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_key = name.len() == 16 && name.bytes().all(|c| c.is_ascii_hexdigit());
        if is_key && path.join("manifest.json").is_file() {
            all.extend(kept(&path, None));
        }
    }
    all.sort_by(|a, b| (a.last_used, &a.path).cmp(&(b.last_used, &b.path)));
    Ok(all)
}

/// Removes what was not used for `unused`, or everything, but nothing that is in use.
///
/// # Errors
/// [`DataError::Cache`] when the cache cannot be listed or written to.
pub fn clear(folder: &Path, unused: Option<Duration>) -> Result<Cleared, DataError> {
    let mut cleared = Cleared::default();
    if !folder.exists() {
        return Ok(cleared);
    }
    remove_abandoned(folder);
    let now = SystemTime::now();
    for entry in inventory(folder)? {
        let age = now.duration_since(entry.last_used).unwrap_or_default();
        if unused.is_some_and(|unused| age < unused) {
            continue;
        }
        let Some(_locks) = seize(&entry.path) else {
            cleared.in_use += 1;
            continue;
        };
        // Whole or gone, whatever stops us: moved aside first.
        let aside = Unfinished::new(folder)?;
        let gone = fs::rename(&entry.path, aside.path().join("cleared"));
        gone.map_err(cache_io("remove", &entry.path))?;
        cleared.removed += 1;
        cleared.bytes += entry.bytes;
    }
    if unused.is_none() && cleared.in_use == 0 {
        // Short cuts to what is gone.
        let _removed = fs::remove_dir_all(folder.join(SOURCES));
    }
    Ok(cleared)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cache_io("list", folder)(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.map_err(cache_io("list", folder))?.path();
        if path.is_dir() {
            all.push(path);
        }
    }
    Ok(all)
}

/// `None` for a folder that is gone by now.
fn kept(path: &Path, manifest: Option<&Manifest>) -> Option<Kept> {
    let lies_in = |part: &str| path.parent().is_some_and(|parent| parent.ends_with(part));
    let (neighbours, is_set) = (lies_in(TRUTH), lies_in(SETS));
    let mut bytes = 0;
    let mut last_used = SystemTime::UNIX_EPOCH;
    let mut deepest = None;
    for entry in fs::read_dir(path).ok()?.flatten() {
        let Ok(about) = entry.metadata() else { continue };
        bytes += about.len();
        last_used = last_used.max(about.modified().unwrap_or(last_used));
        // A run takes the rows of a set where they are, and writes nothing there.
        if is_set {
            last_used = last_used.max(about.accessed().unwrap_or(last_used));
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let k: Option<usize> = name.strip_prefix('k').and_then(|k| k.parse().ok());
        deepest = deepest.max(k);
    }
    let (part, from) = match manifest {
        Some(manifest) => (manifest.role.clone(), manifest.from.clone()),
        None if neighbours => {
            let from = fs::read_to_string(path.join(ABOUT)).unwrap_or_default();
            ("neighbours".into(), from)
        }
        None if is_set => {
            let name = path.file_name().unwrap_or_default();
            ("set".into(), name.to_string_lossy().into_owned())
        }
        None => ("old".into(), "an earlier version's".into()),
    };
    Some(Kept {
        part,
        from,
        rows: manifest.map(|of| of.rows.rows.rows).or(deepest),
        dim: manifest.map(|of| of.rows.rows.dim),
        bytes,
        last_used,
        in_use: seize(path).is_none(),
        path: path.into(),
    })
}

/// Locks on the files of a folder that its users hold; `None` if somebody does.
fn seize(path: &Path) -> Option<Vec<File>> {
    let mut locks = Vec::new();
    for entry in fs::read_dir(path).ok()?.flatten() {
        let Ok(file) = File::open(entry.path()) else { continue };
        match file.try_lock() {
            Ok(()) => locks.push(file),
            Err(fs::TryLockError::WouldBlock) => return None,
            // No locks on this file system: age is all there is to go by.
            Err(fs::TryLockError::Error(_)) => {}
        }
    }
    Some(locks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::{small_integers, spec, write_fbin};
    use crate::data::{DatasetSpec, Metric, prepare};

    #[test]
    fn what_is_kept_is_listed_and_cleared_by_age_but_nothing_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        assert_eq!(inventory(&cache).unwrap(), []);
        assert_eq!(clear(&cache, None).unwrap(), Cleared::default());
        let base = folder.path().join("base.fbin");
        write_fbin(&base, small_integers(50, 4, 1).view());
        // Of unit length: not as they are in the file.
        let spec = DatasetSpec { metric: Metric::Cosine, ..spec(base.clone()) };
        let prepared = prepare(&spec, 5, &cache, &|_| true).unwrap();
        // Of the first layout, of a killed process, and of somebody else.
        let old = cache.join("0123456789abcdef");
        for path in [&old, &cache.join("photographs")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("manifest.json"), "{}").unwrap();
        }
        let long_ago = SystemTime::now() - Duration::from_hours(24 * 40);
        let manifest = File::options().append(true).open(old.join("manifest.json")).unwrap();
        manifest.set_modified(long_ago).unwrap();

        let all = inventory(&cache).unwrap();
        let parts: Vec<_> = all.iter().map(|kept| (kept.part.as_str(), kept.in_use)).collect();
        assert_eq!(parts[0], ("old", false));
        assert!(parts.contains(&("base", true)) && parts.contains(&("neighbours", true)));
        let of_base = all.iter().find(|kept| kept.part == "base").unwrap();
        assert_eq!((of_base.rows, of_base.dim), (Some(40), Some(4)));
        assert_eq!(of_base.from, base.display().to_string());
        assert!(of_base.bytes > 50 * 4 * 4);

        let month = Some(Duration::from_hours(24 * 30));
        let cleared = clear(&cache, month).unwrap();
        assert_eq!(cleared, Cleared { removed: 1, bytes: 2, in_use: 0 });
        assert_eq!(clear(&cache, None).unwrap(), Cleared { in_use: 2, ..Cleared::default() });
        assert_eq!(prepared.base.open().unwrap().rows(), 40);
        drop(prepared);
        assert_eq!(clear(&cache, None).unwrap().removed, 2);
        assert_eq!(inventory(&cache).unwrap(), []);
        assert!(cache.join("photographs/manifest.json").exists());

        let set = cache.join(SETS).join("glove-25-angular");
        fs::create_dir_all(&set).unwrap();
        fs::write(set.join("data.hdf5"), "1234").unwrap();
        let all = inventory(&cache).unwrap();
        let told: Vec<_> = all.iter().map(|of| (&*of.part, &*of.from, of.bytes)).collect();
        assert_eq!(told, [("set", "glove-25-angular", 4)]);
        let being_fetched = File::create(set.join(".turn-data.hdf5")).unwrap();
        being_fetched.lock().unwrap();
        assert_eq!(clear(&cache, None).unwrap(), Cleared { in_use: 1, ..Cleared::default() });
        drop(being_fetched);
        assert_eq!(clear(&cache, month).unwrap(), Cleared::default());
        assert_eq!(clear(&cache, None).unwrap().removed, 1);
        assert!(!set.exists());
        prepare(&spec, 5, &cache, &|_| true).unwrap();
    }
}
