//! One writer per store: an exclusive lock on a file beside it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::OpenError;

/// The right to write a store: an exclusive lock on `<store>.lock` beside it, which the system
/// gives back however the process ends.
#[derive(Debug)]
pub(super) struct WriterLock {
    path: PathBuf,
    file: File,
}

impl WriterLock {
    pub(super) fn acquire(store: &Path) -> Result<Self, OpenError> {
        // A link to a store is locked where the store is.
        let mut name =
            fs::canonicalize(store).unwrap_or_else(|_| store.to_owned()).into_os_string();
        name.push(OsString::from(".lock"));
        let path = PathBuf::from(name);
        loop {
            let failed = |source| OpenError::Lock { path: path.clone(), source };
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let pid = file.read_to_string(&mut holder).ok();
                    let pid = pid.and_then(|_| holder.trim().parse().ok());
                    return Err(OpenError::Locked { path: store.to_owned(), pid });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // Between our opening and our locking, its last holder may have removed the file.
            if !is_file_at(&file, &path) {
                continue;
            }
            file.set_len(0).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
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
