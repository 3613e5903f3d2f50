//! Folders that are being filled. Each names its process, which keeps it locked while it lives. So
//! the next run can tell work in progress from what a killed process left behind, and removes the
//! latter.
//!
//! ```text
//! <cache>/.preparing-XXXXXX/owner    locked; the machine's name and the process
//!                           entry/   what will be renamed to its place
//! ```

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::error::cache_io;
use super::{DataError, turn};

pub(super) const UNFINISHED: &str = ".preparing-";
const OWNER: &str = "owner";
/// After it a folder of another machine, whose locks may not reach us, belongs to nobody.
const ABANDONED: Duration = Duration::from_hours(48);
/// A folder has no owner only for the moment of its making.
const UNOWNED: Duration = Duration::from_mins(10);

/// A folder to fill; it goes, with what is left in it, when this is dropped.
pub(super) struct Unfinished {
    entry: PathBuf,
    _folder: TempDir,
    _lock: File,
}

impl Unfinished {
    /// As open to others as the umask lets it be: a cache may be shared.
    pub(super) fn new(cache: &Path) -> Result<Self, DataError> {
        let make = || {
            let folder = tempfile::Builder::new()
                .prefix(UNFINISHED)
                .permissions(Permissions::from_mode(0o777))
                .tempdir_in(cache)?;
            // Whoever sees an owner sees it locked.
            let (path, hidden) = (folder.path().join(OWNER), folder.path().join("new"));
            let mut lock = File::create_new(&hidden)?;
            // Without locks on this file system, age alone decides.
            let _locked = lock.lock();
            writeln!(lock, "{}\n{}", machine(), std::process::id())?;
            fs::rename(hidden, path)?;
            let entry = folder.path().join("entry");
            fs::create_dir(&entry)?;
            Ok(Self { entry, _folder: folder, _lock: lock })
        };
        make().map_err(cache_io("create a folder in", cache))
    }

    /// The folder to fill and rename.
    pub(super) fn path(&self) -> &Path {
        &self.entry
    }

    /// Puts a whole file into it.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), DataError> {
        let path = self.entry.join(name);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(content)?;
            // The rename that publishes it must not overtake its contents.
            file.sync_all()
        };
        write().map_err(cache_io("write", &path))
    }
}

/// What this machine is called, as far as that tells it from others.
fn machine() -> String {
    nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into())
}

/// Removes what killed processes left behind; failing to is no failure.
pub(super) fn remove_abandoned(cache: &Path) {
    turn::remove_left(cache);
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    for entry in entries.flatten() {
        if is_unfinished(&entry.file_name()) && is_abandoned(&entry.path()) {
            let _removed = fs::remove_dir_all(entry.path());
        }
    }
}

pub(super) fn is_unfinished(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(UNFINISHED)
}

fn is_abandoned(folder: &Path) -> bool {
    let older_than = |path: &Path, most| {
        let written = path.metadata().and_then(|about| about.modified());
        let age = written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        age.is_ok_and(|age| age > most)
    };
    let path = folder.join(OWNER);
    let Ok(owner) = fs::read_to_string(&path) else {
        return older_than(folder, UNOWNED);
    };
    if owner.lines().next() != Some(machine().as_str()) {
        return older_than(&path, ABANDONED);
    }
    match File::open(&path).map(|file| file.try_lock()) {
        Ok(Ok(())) => true,
        Ok(Err(fs::TryLockError::WouldBlock)) => false,
        Ok(Err(fs::TryLockError::Error(_))) | Err(_) => older_than(&path, ABANDONED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::FileTimes;

    fn folder(cache: &Path, name: &str, owner: Option<&str>, age: Duration) -> PathBuf {
        let folder = cache.join(format!("{UNFINISHED}{name}"));
        fs::create_dir(&folder).unwrap();
        let written = FileTimes::new().set_modified(SystemTime::now() - age);
        if let Some(owner) = owner {
            fs::write(folder.join(OWNER), format!("{owner}\n1\n")).unwrap();
            let owner = File::options().append(true).open(folder.join(OWNER)).unwrap();
            owner.set_times(written).unwrap();
        }
        File::open(&folder).unwrap().set_times(written).unwrap();
        folder
    }

    #[test]
    fn what_a_killed_process_left_goes_at_once_and_work_in_progress_stays() {
        let cache = tempfile::tempdir().unwrap();
        let hour = Duration::from_hours(1);
        let ours = Unfinished::new(cache.path()).unwrap();
        ours.write("half", b"x").unwrap();
        let dead = folder(cache.path(), "dead", Some(&machine()), Duration::ZERO);
        let far = folder(cache.path(), "far", Some("another machine"), hour);
        let long = folder(cache.path(), "long", Some("another machine"), 72 * hour);
        let born = folder(cache.path(), "born", None, Duration::ZERO);
        let unborn = folder(cache.path(), "unborn", None, hour);
        let stranger = cache.path().join("notes");
        fs::create_dir(&stranger).unwrap();
        remove_abandoned(cache.path());
        let left = [&dead, &far, &long, &born, &unborn, &stranger].map(|path| path.exists());
        assert_eq!(left, [false, true, false, true, false, true]);
        assert!(ours.path().join("half").exists());
        let path = ours.path().to_owned();
        drop(ours);
        assert!(!path.parent().unwrap().exists());
    }
}
