//! Makes a new store: the file appears complete or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, MAIN_DB};

use super::OpenError;
use super::files::beside;
use super::reason::Reason;
use super::schema::migrate;

/// Makes an empty store at `path` where there is no file or an empty one. To be called with the
/// store's lock held; what an earlier call left behind when it was killed goes first.
///
/// The file is made in memory, written beside its place, synced, and then renamed: whoever looks
/// sees no file or a whole one. True if it was made where no file was.
pub(super) fn ensure(path: &Path) -> Result<bool, OpenError> {
    let failed =
        |source: io::Error| OpenError::Create { path: path.to_owned(), reason: source.into() };
    let aside = beside(path, ".creating");
    remove(&aside).map_err(failed)?;
    let empty = match fs::metadata(path) {
        Ok(about) if about.len() == 0 && about.is_file() => Some(about.permissions()),
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    // Of an earlier store that had this name: it would be rolled back into ours.
    if remove(&beside(path, "-journal")).map_err(failed)? {
        sync_folder(path).map_err(failed)?;
    }
    let content = content().map_err(|source| OpenError::Create {
        path: path.to_owned(),
        reason: Reason::of(&source, path, None),
    })?;
    let made = empty.is_none();
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
        if let Some(permissions) = empty {
            file.set_permissions(permissions)?;
        }
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        sync_folder(path)
    };
    written().map_err(|error| {
        let _ = remove(&aside);
        failed(error)
    })?;
    Ok(made)
}

/// The bytes of a store without records.
fn content() -> rusqlite::Result<Vec<u8>> {
    let mut connection = Connection::open_in_memory()?;
    migrate(&mut connection, 0)?;
    // Without the pages of tables that later steps drop.
    connection.execute_batch("VACUUM")?;
    Ok(connection.serialize(MAIN_DB)?.to_vec())
}

/// True when there was such a file.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A rename is kept over a power cut once the folder is synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Where `path` leads to, also when there is nothing yet: links are followed, so that the store
/// is made, locked and renamed where it is.
pub(super) fn target(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        let Ok(link) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(link);
    }
    path
}
