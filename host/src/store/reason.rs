//! The system's or SQLite's words for why a call failed.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, ErrorCode, ffi};

/// What the system said: `No space left on device (os error 28)`. SQLite's own words where it is
/// SQLite that refuses.
#[derive(Debug)]
pub struct Reason {
    words: Box<str>,
    full: bool,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Reason {}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        let full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Self { words: error.to_string().into(), full }
    }
}

impl Reason {
    /// True when the disk is full, or one's share of it.
    pub fn is_full_disk(&self) -> bool {
        self.full
    }

    /// Why a call on the store at `path` failed; SQLite itself only says "disk I/O error".
    pub(super) fn of(
        error: &rusqlite::Error,
        path: &Path,
        connection: Option<&Connection>,
    ) -> Self {
        let system = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Some(io::Error::from_raw_os_error(nix::libc::ENOSPC)),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => match connection {
                // Where SQLite cannot make its journal, it then looks for one to read.
                Some(connection) => last_error(connection)
                    .filter(|error| error.kind() != io::ErrorKind::NotFound)
                    .or_else(|| nothing_beside(path)),
                None => not_readable(path),
            },
            Some(ErrorCode::ReadOnly) => not_writable(path),
            _ => None,
        };
        let words = || match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly) => "it opens for reading only".to_owned(),
            _ => error.to_string(),
        };
        system.map_or_else(|| Self { words: words().into(), full: false }, Self::from)
    }
}

/// What the system answered to the connection's last call that failed.
fn last_error(connection: &Connection) -> Option<io::Error> {
    // SAFETY: nothing is done with the handle beyond the borrow of its connection.
    let handle = unsafe { connection.handle() };
    // SAFETY: the handle is that of an open connection, of which this reads one number.
    let code = unsafe { ffi::sqlite3_system_errno(handle) };
    (code != 0).then(|| io::Error::from_raw_os_error(code))
}

/// Why the file or its folder may not be written. Asked without opening the file: to close it once
/// more would give up the locks that a connection has on it.
fn not_writable(path: &Path) -> Option<io::Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    [path, folder.unwrap_or(Path::new("."))]
        .into_iter()
        .find_map(|path| access(path, AccessFlags::W_OK).err())
        .map(io::Error::from)
}

/// Why no file can be made beside the store.
fn nothing_beside(path: &Path) -> Option<io::Error> {
    let probe = super::files::beside(path, ".probe");
    let made = OpenOptions::new().write(true).create_new(true).open(&probe);
    if made.is_ok() {
        let _ = fs::remove_file(&probe);
    }
    made.err()
}

/// Why the file cannot be opened for reading.
fn not_readable(path: &Path) -> Option<io::Error> {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => Some(io::ErrorKind::IsADirectory.into()),
        _ => File::open(path).err(),
    }
}

/// The other process that keeps the file locked, where the system tells it.
pub(super) fn holder(path: &Path) -> Option<u32> {
    // Not by a lock of our own: to close the file once more gives up all locks on it.
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt as _;
        let inode = fs::metadata(path).ok()?.ino().to_string();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        // `1: POSIX  ADVISORY  READ 4242 fe:01:131 1073741826 1073742335`
        let mut others = locks.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, "POSIX", _, _, pid, file, ..] = fields[..] else { return None };
            let pid = pid.parse().ok()?;
            let same = file.rsplit(':').next() == Some(&inode);
            (same && pid != std::process::id()).then_some(pid)
        });
        others.next()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}
