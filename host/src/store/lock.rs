//! One writer per store: an exclusive lock on a file beside it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::OpenError;
use super::files::beside;

/// The right to write a store: an exclusive lock on `<store>.lock` beside it, which the system
/// gives back however the process ends.
#[derive(Debug)]
pub(super) struct WriterLock {
    path: PathBuf,
    file: File,
}

impl WriterLock {
    /// Locks the store called `store`, whose file is or will be `target`: a link to a store is
    /// locked where the store is.
    pub(super) fn acquire(store: &Path, target: &Path) -> Result<Self, OpenError> {
        let path = beside(target, ".lock");
        loop {
            let failed =
                |error: io::Error| OpenError::Lock { path: path.clone(), reason: error.into() };
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(|error| OpenError::Beside { path: path.clone(), reason: error.into() })?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let pid = file.read_to_string(&mut holder).ok();
                    let pid = pid.and_then(|_| holder.trim().parse().ok());
                    return Err(OpenError::Locked { path: store.to_owned(), pid });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Between our opening and our locking, its last holder may have removed the file.
            if !is_file_at(&file, &path) {
                continue;
            }
            // For the message of whoever comes next; a full disk may have no room for it.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            return Ok(Self { path, file });
        }
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        // While the lock is still held, so that this can only be our own file. A file that stays
        // behind does no harm: it is the lock that counts.
        if cfg!(unix) && is_file_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// True when `path` still leads to the open `file`.
#[cfg(unix)]
fn is_file_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Elsewhere the lock file is never removed.
#[cfg(not(unix))]
fn is_file_at(_file: &File, _path: &Path) -> bool {
    true
}
