//! One maker at a time for what is kept: of several processes that want the same, one makes it and
//! the others wait, and find it.
//!
//! ```text
//! <cache>/.turn-<name>    locked by the one that makes it; gone when it has
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::cache_io;
use super::{DataError, OnProgress, Progress};

const TURN: &str = ".turn-";
const LOOKS: Duration = Duration::from_millis(50);

/// The right to make something, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    /// `None` where the file system has no locks: everyone makes it then, and the first one counts.
    held: Option<File>,
}

impl Turn {
    /// Waits until nobody else makes `name`, or `progress` wants no more.
    pub(super) fn take(
        cache: &Path,
        name: &str,
        progress: OnProgress<'_>,
    ) -> Result<Self, DataError> {
        let path = cache.join(format!("{TURN}{name}"));
        loop {
            // As open to others as the umask lets it be: a cache may be shared.
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o666)
                .open(&path)
                .map_err(cache_io("create", &path))?;
            match file.try_lock() {
                // Between our opening and our locking, its last holder may have removed the file.
                Ok(()) if !is_file_at(&file, &path) => {}
                Ok(()) => return Ok(Self { path, held: Some(file) }),
                Err(TryLockError::WouldBlock) => {
                    progress(Progress { stage: "wait for another vq-host", done: 0, total: 0 })?;
                    std::thread::sleep(LOOKS);
                }
                Err(TryLockError::Error(_)) => return Ok(Self { path, held: None }),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // While it is locked, so that this can only be our own.
        if self.held.as_ref().is_some_and(|file| is_file_at(file, &self.path)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_file_at(file: &File, path: &Path) -> bool {
    let place = |about: std::io::Result<fs::Metadata>| about.map(|of| (of.dev(), of.ino())).ok();
    let held = place(file.metadata());
    held.is_some() && held == place(fs::metadata(path))
}

/// Removes what killed processes left behind; failing to is no failure.
pub(super) fn remove_left(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(TURN)
            && let Ok(file) = File::options().write(true).open(&path)
            && file.try_lock().is_ok()
        {
            drop(Turn { path, held: Some(file) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_makes_at_a_time_and_nothing_stays_behind() {
        let cache = tempfile::tempdir().unwrap();
        let (inside, waited) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let wait = |_| {
                        waited.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    };
                    let turn = Turn::take(cache.path(), "rows", &wait).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::sleep(Duration::from_millis(5));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        assert!(waited.into_inner() > 0);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn who_waits_can_be_interrupted_and_what_a_killed_one_left_goes() {
        let cache = tempfile::tempdir().unwrap();
        let held = Turn::take(cache.path(), "rows", &|_| Ok(())).unwrap();
        let tired = |_| Err(DataError::Interrupted);
        assert!(matches!(Turn::take(cache.path(), "rows", &tired), Err(DataError::Interrupted)));
        fs::write(cache.path().join(".turn-left"), "").unwrap();
        remove_left(cache.path());
        let names: Vec<_> =
            fs::read_dir(cache.path()).unwrap().map(|of| of.unwrap().file_name()).collect();
        assert_eq!(names, [".turn-rows"]);
        drop(held);
    }
}
