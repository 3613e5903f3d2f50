//! The field's public sets: what there is (`sets`), and how it comes here (`fetch`).
//!
//! ```text
//! <cache>/sets/<set>/<file>         whole
//!                    <file>.part    the beginning of it, as far as it came
//!                    <file>.json    what it is: where from, which edition, its digest
//! ```
//!
//! Nobody publishes digests of these files. The digest of the first download is kept, also when the
//! file is removed, and the next download has to have it too. With the cache it is cleared.

mod fetch;
mod sets;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cache::SETS;
use super::prepare::{OnPrepare, interruptible};
use super::{DataError, Metric};

use self::sets::PUBLIC;

/// A set of vectors that anybody may fetch.
#[derive(Debug, Clone, Serialize)]
pub struct PublicSet {
    /// As its publishers call it.
    pub name: &'static str,
    /// What the vectors are of.
    pub of: &'static str,
    /// Rows of the base.
    pub rows: u64,
    /// Dimensions.
    pub dim: u64,
    /// Bytes of the vectors of the base: the files are little more.
    pub bytes: u64,
    /// The distance it is meant to be searched by.
    pub metric: Metric,
    /// Its licence where that is certain; where not, `page` may tell.
    pub licence: Option<&'static str>,
    /// Where people read about it.
    pub page: &'static str,
    /// Its files, the base first.
    pub files: Vec<PublicFile>,
}

/// A file of one.
#[derive(Debug, Clone, Serialize)]
pub struct PublicFile {
    /// The key of a data set in a sweep that takes it: `base`, `queries`, `neighbours`.
    pub key: &'static str,
    /// Where it is.
    pub address: String,
    /// What it is called here.
    pub name: &'static str,
    /// Only its beginning is fetched, with so many rows of so many bytes, and its header says so then.
    pub first: Option<(u32, u64)>,
}

impl PublicSet {
    /// Every set there is.
    pub fn all() -> Vec<Self> {
        PUBLIC.iter().map(sets::Listed::set).collect()
    }

    /// The set of this `name`.
    ///
    /// # Errors
    /// [`DataError::NoSet`], with the most similar name.
    pub fn named(name: &str) -> Result<Self, DataError> {
        if let Some(found) = PUBLIC.iter().find(|of| of.name == name) {
            return Ok(found.set());
        }
        // Who writes the beginning of a name means it.
        let apart = |of: &&sets::Listed| {
            (!of.name.contains(name), strsim::damerau_levenshtein(of.name, name))
        };
        let nearest = PUBLIC.iter().min_by_key(apart).map_or("", |of| of.name);
        Err(DataError::NoSet { name: name.to_owned(), nearest })
    }

    /// Where its files are kept: `cache` is where prepared data is.
    pub fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(SETS).join(self.name)
    }

    /// Whether all of its files are here.
    pub fn is_here(&self, cache: &Path) -> bool {
        self.files.iter().all(|file| self.folder(cache).join(file.name).is_file())
    }

    /// Fetches what is not here, and goes on where an earlier try ended; answers (key, file).
    ///
    /// # Errors
    /// [`DataError`]: no answer or another than is needed, no room, or not what was fetched before.
    pub fn fetch(
        &self,
        cache: &Path,
        progress: OnPrepare<'_>,
    ) -> Result<Vec<(&'static str, PathBuf)>, DataError> {
        let progress = interruptible(progress);
        let folder = self.folder(cache);
        let fetched = self.files.iter().map(|file| {
            let path = fetch::fetch(file, &folder, &progress)?;
            Ok((file.key, path))
        });
        fetched.collect()
    }
}
