//! The folder that a worker may write to, and what becomes of it when nobody is left to remove it.
//!
//! ```text
//! TMPDIR/vq-host-XXXXXX/lock    locked as long as this process lives; says host and worker
//!                      /work    the worker's
//! ```

use super::fault::HostFault;
use std::ffi::OsString;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

const PREFIX: &str = "vq-host-";
/// A folder under this name is not locked yet.
const UNFINISHED: &str = ".vq-host-new-";
/// From which age an unfinished folder belongs to nobody.
const UNFINISHED_FOR: Duration = Duration::from_secs(60);
/// From which age a folder of another host counts as left behind: its lock cannot be seen here.
const OTHERS_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// A scratch folder; gone when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    lock: File,
}

impl Scratch {
    /// A fresh folder that nobody else may enter, on a disk that takes data. The first one of a
    /// process also removes what dead ones left.
    pub(super) fn make() -> Result<Self, HostFault> {
        static SWEPT: Once = Once::new();
        let place = place(std::env::var_os("TMPDIR"));
        SWEPT.call_once(|| sweep(&place));
        Self::make_in(&place).map_err(|error| HostFault::scratch(&place, &error))
    }

    fn make_in(place: &Path) -> io::Result<Self> {
        let private = Permissions::from_mode(0o700);
        let new = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(private.clone())
            .tempdir_in(place)?;
        let lock = File::create_new(new.path().join("lock"))?;
        lock.lock()?;
        (&lock).write_all(format!("{}\n", host()).as_bytes())?;
        let work = new.path().join("work");
        fs::create_dir(&work)?;
        fs::set_permissions(&work, private)?;
        // A full disk shows here, where it is plain whose fault it is.
        let probe = new.path().join("probe");
        fs::write(&probe, [1; 4096])?;
        fs::remove_file(probe)?;
        let name = new.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let folder = place.join(name.replacen(UNFINISHED, PREFIX, 1));
        fs::rename(new.path(), &folder)?;
        // It has another name by now.
        let _ = new.keep();
        Ok(Scratch { folder, lock })
    }

    /// The worker's part.
    pub(super) fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// Notes the worker's process, whose registrations are removed with the folder.
    pub(super) fn belongs_to(&self, pid: u32) {
        let _ = (&self.lock).write_all(format!("{pid}\n").as_bytes());
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.lock.rewind();
        remove(&self.folder, io::read_to_string(&self.lock).unwrap_or_default().as_str());
    }
}

/// Where scratch folders are made: `tmpdir`, or `/tmp` where that is unset or empty. As a full path,
/// because a worker has another working directory.
fn place(tmpdir: Option<OsString>) -> PathBuf {
    let named = tmpdir.filter(|place| !place.is_empty());
    let place = named.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    std::path::absolute(&place).unwrap_or(place)
}

/// Removes what `note` names, and then the folder.
fn remove(folder: &Path, note: &str) {
    if let Some(pid) = note.lines().nth(1).and_then(|pid| pid.parse().ok()) {
        remove_registrations(pid);
    }
    // The lock last, by which the next run knows what is left: to remove a folder that holds something
    // takes a file descriptor, and there may be none.
    let work = folder.join("work");
    if fs::remove_dir(&work).is_err() {
        let _ = fs::remove_dir_all(&work);
    }
    if !work.exists() {
        let _ = fs::remove_file(folder.join("probe"));
        let _ = fs::remove_file(folder.join("lock"));
        let _ = fs::remove_dir(folder);
    }
}

/// Removes what OpenMP runtimes of the dead process `pid` left in shared memory.
pub(super) fn remove_registrations(pid: u32) {
    #[cfg(target_os = "linux")]
    for file in super::sandbox::registrations(pid) {
        let _ = fs::remove_file(file);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = pid;
}

/// Removes the folders in `place` whose owner is this user and whose lock is free.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        // A link is not followed.
        let Ok(meta) = entry.metadata() else { continue };
        if !meta.is_dir() || meta.uid() != nix::unistd::getuid().as_raw() {
            continue;
        }
        let modified = meta.modified().unwrap_or_else(|_| SystemTime::now());
        let older = |age: Duration| modified.elapsed().is_ok_and(|elapsed| elapsed > age);
        if name.starts_with(UNFINISHED) && older(UNFINISHED_FOR) {
            let _ = fs::remove_dir_all(entry.path());
        }
        if !name.starts_with(PREFIX) {
            continue;
        }
        let Ok(mut lock) = File::options().read(true).write(true).open(entry.path().join("lock"))
        else {
            continue;
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => continue,
        }
        let note = io::read_to_string(&mut lock).unwrap_or_default();
        if note.lines().next() == Some(host().as_str()) || older(OTHERS_FOR) {
            remove(&entry.path(), &note);
        }
    }
}

fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_has_a_full_path_whatever_tmpdir_is() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(place(Some("some/place".into())), here.join("some/place"));
        assert_eq!(place(Some("/some/place".into())), Path::new("/some/place"));
        assert_eq!(place(Some("".into())), Path::new("/tmp"));
        assert_eq!(place(None), Path::new("/tmp"));
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let used = Scratch::make_in(place.path()).unwrap();
        let dead = Scratch::make_in(place.path()).unwrap();
        let left = dead.folder.clone();
        fs::write(dead.work().join("much"), "of it").unwrap();
        // As a kill leaves it: the lock goes, the folder stays.
        let dead = std::mem::ManuallyDrop::new(dead);
        // SAFETY: the descriptor is not used again; `dead` is never dropped.
        unsafe { nix::libc::close(std::os::fd::AsRawFd::as_raw_fd(&dead.lock)) };
        let others = Scratch::make_in(place.path()).unwrap();
        fs::write(others.folder.join("lock"), "another-host\n").unwrap();
        others.lock.unlock().unwrap();
        for name in ["vq-host-notes", "elsewhere", ".vq-host-new-1"] {
            fs::create_dir(at(name)).unwrap();
        }
        sweep(place.path());
        assert!(!left.exists());
        assert!(used.work().exists() && others.work().exists());
        assert!(at("vq-host-notes").exists() && at("elsewhere").exists());
        assert!(at(".vq-host-new-1").exists());
        let folder = used.folder.clone();
        drop(used);
        assert!(!folder.exists());
    }
}
