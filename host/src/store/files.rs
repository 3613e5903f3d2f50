//! The files of a store.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `path` with more at its end: a file that belongs to it.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// True for pipes and devices, which may be waited for without end. What is wrong with a folder,
/// the system says.
pub(super) fn is_no_file(about: &fs::Metadata) -> bool {
    !about.is_file() && !about.is_dir()
}

pub(super) fn set_writable(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))
}
