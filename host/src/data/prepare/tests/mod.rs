mod cache;
mod division;
mod sources;
mod told;

use super::draw::distinct_rows;
use super::*;
use crate::data::testing::{VERIFIED_WHOLE, small_integers, spec, write_fbin};
use crate::data::unfinished::UNFINISHED;
use crate::data::{Facts, Queries, Source, Train, UnusableRows};
use crate::data::{RowFile, Synthetic, SyntheticKind};
use ndarray::{Array2, Axis, s};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder with a cache and a file of 500 distinct rows.
struct Place {
    folder: tempfile::TempDir,
    values: Array2<f32>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let values = numbered(500);
        write_fbin(&folder.path().join("base.fbin"), values.view());
        Self { folder, values }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, values: &Array2<f32>) -> PathBuf {
        write_fbin(&self.path(name), values.view());
        self.path(name)
    }

    fn spec(&self) -> DatasetSpec {
        spec(self.path("base.fbin"))
    }

    fn prepare(&self, spec: &DatasetSpec) -> Result<Prepared, DataError> {
        prepare(spec, 5, &self.path("cache"), &|_| true).map_err(|error| error.error)
    }

    /// Files of the cache with their contents, but for what is known of sources.
    fn kept(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut kept = contents(&self.path("cache"));
        kept.retain(|path, _| !path.starts_with(self.path("cache/sources")));
        kept
    }

    /// Also says how many rows were worked on.
    fn prepare_counting(&self, spec: &DatasetSpec) -> (Prepared, usize) {
        let steps = AtomicUsize::new(0);
        let count = |_| {
            steps.fetch_add(1, Ordering::Relaxed);
            true
        };
        let prepared = prepare(spec, 5, &self.path("cache"), &count).unwrap();
        (prepared, steps.into_inner())
    }
}

/// Rows whose first value is their number, from 1 on.
fn numbered(rows: usize) -> Array2<f32> {
    let mut values = small_integers(rows, 6, 1);
    values.column_mut(0).iter_mut().zip(1_u16..).for_each(|(x, i)| *x = i.into());
    values
}

fn read(file: &RowFile) -> Array2<f32> {
    file.open().unwrap().read_all().unwrap()
}

/// Files below `folder` with their contents.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}
