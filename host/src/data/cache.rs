//! The folder of the cache that belongs to a [`DatasetSpec`], found or made once.
//!
//! ```text
//! <cache>/<key>/manifest.json   key: BLAKE3 of the spec and its files' identities
//!               base.f32        unless the source serves as it is
//!               train.f32
//!               queries.f32
//! <cache>/truth/<key>/k100      key: BLAKE3 of the contents of base and queries, metric
//! ```
//!
//! A folder is filled beside its place and renamed into it, so it is whole or absent;
//! of two preparers the one that comes second takes the first one's. An entry whose
//! manifest cannot be read or whose files have other sizes than it says is made anew.
//! Its contents are not read again: a file's identity (path, size, modification time,
//! inode) is part of the key.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::error::io;
use super::rows::Part;
use super::{DataError, DatasetSpec, Metric, Queries, RowFile, Source, Synthetic, Train};

/// Changes whenever equal requests would give other files.
const LAYOUT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// Folders still being filled. One of a killed process stays behind.
pub(super) const UNFINISHED: &str = ".preparing-";
/// After it an unfinished folder belongs to nobody.
const ABANDONED: Duration = Duration::from_hours(48);

/// What a cache entry was made from; its JSON is what the key is the digest of.
#[derive(PartialEq, Serialize)]
struct Request {
    layout: u32,
    source: Origin,
    queries: Origin,
    train: Origin,
    limit: Option<usize>,
    metric: Metric,
}

#[derive(PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Origin {
    File(Identity),
    Synthetic(Synthetic),
    HoldOut(usize),
    Base,
    Sample(usize),
}

/// A file as long as nobody writes to it.
#[derive(PartialEq, Serialize)]
struct Identity {
    path: PathBuf,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
    inode: u64,
}

impl Request {
    fn new(spec: &DatasetSpec) -> Result<Self, DataError> {
        let file = |path: &Path| Ok(Origin::File(Identity::of(path)?));
        Ok(Self {
            layout: LAYOUT,
            source: match &spec.source {
                Source::File(path) => file(path)?,
                Source::Synthetic(synthetic) => Origin::Synthetic(synthetic.clone()),
            },
            queries: match &spec.queries {
                Queries::File(path) => file(path)?,
                Queries::HoldOut(count) => Origin::HoldOut(*count),
            },
            train: match &spec.train {
                Train::File(path) => file(path)?,
                Train::Base => Origin::Base,
                Train::Sample(count) => Origin::Sample(*count),
            },
            limit: spec.limit,
            metric: spec.metric,
        })
    }

    fn key(&self) -> String {
        let json = serde_json::to_vec(self).expect("numbers and UTF-8 paths have a JSON form");
        blake3::hash(&json).to_hex().to_string()
    }

    /// A file that is no longer what it was.
    fn changed(&self, now: &Self) -> Option<&Path> {
        [(&self.source, &now.source), (&self.queries, &now.queries), (&self.train, &now.train)]
            .into_iter()
            .find_map(|(before, now)| match before {
                Origin::File(identity) if before != now => Some(identity.path.as_path()),
                _ => None,
            })
    }
}

impl Identity {
    fn of(path: &Path) -> Result<Self, DataError> {
        let path = canonical(path)?;
        let about: Metadata = path.metadata().map_err(io("inspect", &path))?;
        Ok(Self {
            size: about.len(),
            modified_s: about.mtime(),
            modified_ns: about.mtime_nsec(),
            inode: about.ino(),
            path,
        })
    }
}

/// The one absolute path of a file or folder, which JSON can hold.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, DataError> {
    let path = path.canonicalize().map_err(io("find", path))?;
    if path.to_str().is_none() {
        return Err(DataError::NotUtf8 { path });
    }
    Ok(path)
}

/// What a cache entry says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The whole key, of which the folder's name is the beginning.
    pub(super) key: String,
    pub(super) base: Part,
    pub(super) train: Part,
    pub(super) queries: Part,
    pub(super) mean: Vec<f64>,
    pub(super) spectrum: Vec<f64>,
    pub(super) notes: Vec<String>,
}

impl Manifest {
    /// The manifest in `folder` if all it speaks of is there.
    fn load(folder: &Path, key: &str) -> Option<Self> {
        let text = fs::read(folder.join(MANIFEST)).ok()?;
        let manifest: Self = serde_json::from_slice(&text).ok()?;
        let dim = manifest.base.rows.dim;
        let whole = manifest.key == key
            && manifest.mean.len() == dim
            && (manifest.spectrum.is_empty() || manifest.spectrum.len() == dim)
            && [&manifest.base, &manifest.train, &manifest.queries]
                .iter()
                .all(|part| part.rows.dim == dim && part.rows.is_whole(folder));
        whole.then_some(manifest)
    }
}

impl RowFile {
    /// The same rows with the path made absolute: files of the entry are named
    /// relative to it, so that a cache can be moved.
    pub(super) fn within(&self, folder: &Path) -> Self {
        Self { path: folder.join(&self.path), ..self.clone() }
    }

    /// Whether the file has the size this says; a source used in place may go on
    /// behind the last row.
    fn is_whole(&self, folder: &Path) -> bool {
        let Ok(about) = folder.join(&self.path).metadata() else {
            return false;
        };
        let found = u128::from(about.len());
        if self.path.is_absolute() { found >= self.end() } else { found == self.end() }
    }
}

/// The entry of `spec` in `cache` and its folder; if there is none that is whole,
/// `fill(key, folder)` makes it beside its place and a rename puts it there.
pub(super) fn find_or_make(
    cache: &Path,
    spec: &DatasetSpec,
    fill: impl FnOnce(&str, &Path) -> Result<Manifest, DataError>,
) -> Result<(Manifest, PathBuf), DataError> {
    let request = Request::new(spec)?;
    let key = request.key();
    let folder = cache.join(&key[..16]);
    if let Some(manifest) = Manifest::load(&folder, &key) {
        return Ok((manifest, folder));
    }
    remove_abandoned(cache);
    let place = unfinished(cache)?;
    let manifest = fill(&key, place.path())?;
    if let Some(path) = request.changed(&Request::new(spec)?) {
        let how = "changed while it was being prepared";
        return Err(DataError::Changed { path: path.into(), how });
    }
    let text = serde_json::to_vec_pretty(&manifest).expect("finite numbers have a JSON form");
    let path = place.path().join(MANIFEST);
    fs::write(&path, text).map_err(io("write", &path))?;

    // A rename replaces no folder that has files in it.
    if fs::rename(place.path(), &folder).is_ok() {
        return Ok((manifest, folder));
    }
    if let Some(winner) = Manifest::load(&folder, &key) {
        return Ok((winner, folder));
    }
    // What is there is damaged. Moved into ours, it goes when ours goes.
    let aside = unfinished(cache)?;
    // Another preparer may have been faster; then there is nothing to move.
    let _moved = fs::rename(&folder, aside.path().join("damaged"));
    if let Err(error) = fs::rename(place.path(), &folder) {
        let winner = Manifest::load(&folder, &key);
        let winner = winner.ok_or_else(|| io("replace", &folder)(error))?;
        return Ok((winner, folder));
    }
    Ok((manifest, folder))
}

/// A folder to fill, as open to others as the umask lets it be: a cache may be shared.
fn unfinished(cache: &Path) -> Result<TempDir, DataError> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(cache)
        .map_err(io("create a folder in", cache))
}

/// Removes what killed processes left behind; failing to is no failure.
fn remove_abandoned(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    for entry in entries.flatten() {
        let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
        let age = entry
            .metadata()
            .and_then(|about| about.modified())
            .map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        if unfinished && age.is_ok_and(|age| age > ABANDONED) {
            let _removed = fs::remove_dir_all(entry.path());
        }
    }
}
