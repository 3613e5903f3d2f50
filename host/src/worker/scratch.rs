//! The folder that a worker may write to, and what becomes of it when nobody is left to remove it.
//!
//! ```text
//! TMPDIR/vq-host-XXXXXX/lock    locked as long as this process lives; says host and worker
//!                      /work    the worker's
//! ```
//!
//! A plugin may leave anything in it: folders nested without end, folders that cannot be read,
//! files by the million. All is removed in this process, but by steps that none of that can upset:
//! from descriptor to descriptor, never following a link; nested folders are moved up and taken one
//! by one, so that neither the stack nor descriptors nor paths grow; and not longer than a deadline,
//! after which the next run goes on.

use super::fault::HostFault;
use super::watch::Heap;
use nix::dir::{Dir, Entry};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString, OsString};
use std::fs::{self, File, Permissions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime};

const PREFIX: &str = "vq-host-";
/// A folder under this name is not locked yet.
const UNFINISHED: &str = ".vq-host-new-";
/// From which age an unfinished folder belongs to nobody.
const UNFINISHED_FOR: Duration = Duration::from_secs(60);
/// From which age a folder of another host counts as left behind: its lock cannot be seen here.
const OTHERS_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long removing a worker's files may take as it ends, and all that is left from before as a
/// run begins.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_AT_START: Duration = Duration::from_secs(10);
/// More files than this, and folders nested deeper, are not let in a scratch folder.
const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// Names that are in memory at once while a folder is removed.
const AT_ONCE: usize = 10_000;

/// A scratch folder; gone when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    lock: File,
}

impl Scratch {
    /// A fresh folder that nobody else may enter, on a disk that takes data. The first one of a
    /// process also removes what dead ones left.
    pub(crate) fn make() -> Result<Self, HostFault> {
        sweep_once();
        let place = place(std::env::var_os("TMPDIR"));
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
    pub(crate) fn work(&self) -> PathBuf {
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
        let note = io::read_to_string(&self.lock).unwrap_or_default();
        remove(&self.folder, &note, Instant::now() + PATIENCE);
    }
}

/// Removes what dead processes left, the first time that it is called.
pub(crate) fn sweep_once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| sweep(&place(std::env::var_os("TMPDIR"))));
}

/// Where scratch folders are made: `tmpdir`, or `/tmp` where that is unset or empty. As a full path,
/// because a worker has another working directory.
fn place(tmpdir: Option<OsString>) -> PathBuf {
    let named = tmpdir.filter(|place| !place.is_empty());
    let place = named.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    std::path::absolute(&place).unwrap_or(place)
}

/// Removes what `note` names, and then the folder, as far as that is done by `until`.
fn remove(folder: &Path, note: &str, until: Instant) {
    if let Some(pid) = note.lines().nth(1).and_then(|pid| pid.parse().ok()) {
        remove_registrations(pid);
    }
    // The lock last, by which the next run knows what is left: to remove a folder that holds something
    // takes a file descriptor, and there may be none.
    let work = folder.join("work");
    if fs::remove_dir(&work).is_err() {
        let _ = remove_folder(&work, until);
    }
    if fs::symlink_metadata(&work).is_err() {
        let _ = fs::remove_file(folder.join("probe"));
        let _ = fs::remove_file(folder.join("lock"));
        let _ = fs::remove_dir(folder);
    }
}

/// Removes a folder and all that is in it.
fn remove_folder(folder: &Path, until: Instant) -> nix::Result<()> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(Errno::EINVAL);
    };
    let parent = nix::fcntl::open(parent, FOLDER, Mode::empty())?;
    let name = CString::new(name.as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
    let top = open_folder(parent.as_fd(), &name)?;
    let mut left = 0;
    loop {
        let before = left;
        left += empty(&top, until)?;
        match unlinkat(&parent, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            // Something is still writing, or cannot be removed.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if left > before => {}
            done => return done,
        }
    }
}

/// Removes what is in `top`, but moves folders that are in its folders into it; answers how much
/// it removed and moved.
fn empty(top: &OwnedFd, until: Instant) -> nix::Result<usize> {
    let mut done = 0;
    for name in names(top)? {
        if Instant::now() > until {
            return Err(Errno::ETIMEDOUT);
        }
        if unlinkat(top, name.as_c_str(), UnlinkatFlags::NoRemoveDir).is_ok()
            || unlinkat(top, name.as_c_str(), UnlinkatFlags::RemoveDir).is_ok()
        {
            done += 1;
            continue;
        }
        // One that cannot be had does not keep the rest.
        let Ok(folder) = open_folder(top.as_fd(), &name) else { continue };
        for inner in names(&folder)? {
            if Instant::now() > until {
                return Err(Errno::ETIMEDOUT);
            }
            let removed = unlinkat(&folder, inner.as_c_str(), UnlinkatFlags::NoRemoveDir).is_ok()
                || unlinkat(&folder, inner.as_c_str(), UnlinkatFlags::RemoveDir).is_ok();
            done += usize::from(removed || move_up(&folder, &inner, top).is_ok());
        }
        done += usize::from(unlinkat(top, name.as_c_str(), UnlinkatFlags::RemoveDir).is_ok());
    }
    Ok(done)
}

/// Moves the folder `name` of `folder` into `top`, under a name that nobody could foresee.
fn move_up(folder: &OwnedFd, name: &CStr, top: &OwnedFd) -> nix::Result<()> {
    let other = format!(".{:016x}", RandomState::new().build_hasher().finish());
    match renameat(folder, name, top, other.as_str()) {
        // A folder that changes its place is written to.
        Err(Errno::EACCES | Errno::EPERM) => {
            open_folder(folder.as_fd(), name)?;
            renameat(folder, name, top, other.as_str())
        }
        moved => moved,
    }
}

/// Names in a folder, as many as are dealt with at once.
fn names(folder: &OwnedFd) -> nix::Result<Vec<CString>> {
    let mut entries = Dir::openat(folder, ".", FOLDER, Mode::empty())?;
    let names = entries.iter().map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    names.filter(|name| !matches!(name, Ok(name) if is_itself(name))).take(AT_ONCE).collect()
}

fn is_itself(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Opens the folder `name` of `at`, having made it ours to read and change; never what a link of
/// that name leads to.
fn open_folder(at: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = FOLDER | OFlag::O_NOFOLLOW;
    let opened = match openat(at, name, flags, Mode::empty()) {
        Err(Errno::EACCES) => {
            give(at, name)?;
            openat(at, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    let mode = Mode::from_bits_truncate(fstat(&opened)?.st_mode);
    if !mode.contains(Mode::S_IRWXU) {
        fchmod(&opened, Mode::S_IRWXU)?;
    }
    Ok(opened)
}

/// Lets this user into the folder `name` of `at`.
#[cfg(target_os = "linux")]
fn give(at: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    use std::os::fd::AsRawFd;
    // By a descriptor of this very folder: a link that takes its place meanwhile is not followed.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = openat(at, name, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(|_| Errno::EACCES)
}

#[cfg(not(target_os = "linux"))]
fn give(at: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    use nix::sys::stat::{FchmodatFlags, fchmodat};
    fchmodat(at, name, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink)
}

/// Bytes that the files below `folder` take on disk.
///
/// # Errors
/// More files, or folders nested deeper, than anybody needs.
pub(super) fn measured(folder: &Path) -> Result<u64, Heap> {
    let entered = |folder: OwnedFd| -> nix::Result<_> {
        Ok((folder.try_clone().map_err(|_| Errno::EMFILE)?, Dir::from_fd(folder)?.into_iter()))
    };
    let top = nix::fcntl::open(folder, FOLDER, Mode::empty());
    let Ok(top) = top.and_then(entered) else { return Ok(0) };
    // The way down.
    let mut way = vec![top];
    let (mut bytes, mut files) = (0u64, 0usize);
    while let Some((at, entries)) = way.last_mut() {
        let Some(entry) = entries.next() else {
            way.pop();
            continue;
        };
        let Ok(entry): nix::Result<Entry> = entry else { continue };
        let name = entry.file_name();
        if is_itself(name) {
            continue;
        }
        let Ok(stat) = fstatat(&*at, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        files += 1;
        if files > MAX_FILES {
            return Err(Heap::Files(MAX_FILES));
        }
        bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
            // Gone again, perhaps.
            let Ok(inner) = open_folder(at.as_fd(), name).and_then(entered) else { continue };
            if way.len() > MAX_DEPTH {
                return Err(Heap::Depth(MAX_DEPTH));
            }
            way.push(inner);
        }
    }
    Ok(bytes)
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
    let until = Instant::now() + PATIENCE_AT_START;
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
            let _ = remove_folder(&entry.path(), until);
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
            remove(&entry.path(), &note, until);
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

    /// As a plugin may leave it, to whoever removes it.
    fn in_a_fresh_folder(make: impl FnOnce(&OwnedFd)) -> PathBuf {
        let place = tempfile::tempdir().unwrap().keep();
        let folder = place.join("work");
        fs::create_dir(&folder).unwrap();
        make(&nix::fcntl::open(&folder, FOLDER, Mode::empty()).unwrap());
        folder
    }

    fn removed(folder: &Path) -> bool {
        let done = remove_folder(folder, Instant::now() + Duration::from_secs(3600));
        let gone = done.is_ok() && !folder.exists();
        if gone {
            fs::remove_dir(folder.parent().unwrap()).unwrap();
        }
        gone
    }

    fn nested(top: &OwnedFd, depth: usize, mode: Mode) {
        use nix::sys::stat::mkdirat;
        let mut at = top.try_clone().unwrap();
        for _ in 0..depth {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            let next = openat(&at, "d", FOLDER, Mode::empty()).unwrap();
            openat(&next, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::empty()).unwrap();
            fchmod(&at, mode).unwrap();
            at = next;
        }
    }

    #[test]
    fn nineteen_thousand_nested_folders_are_removed_with_few_descriptors() {
        let folder = in_a_fresh_folder(|top| nested(top, 19_000, Mode::S_IRWXU));
        assert!(removed(&folder));
    }

    #[test]
    fn folders_that_cannot_be_read_are_removed() {
        for mode in [0o300, 0o000, 0o500, 0o100] {
            let mode = Mode::from_bits_truncate(mode);
            let folder = in_a_fresh_folder(|top| nested(top, 5, mode));
            assert!(removed(&folder), "{mode:?}");
        }
    }

    #[test]
    fn what_a_link_leads_to_stays() {
        let beside = tempfile::tempdir().unwrap();
        fs::write(beside.path().join("kept"), "of the user").unwrap();
        fs::set_permissions(beside.path(), Permissions::from_mode(0o500)).unwrap();
        let folder = in_a_fresh_folder(|top| {
            nix::unistd::symlinkat(beside.path(), top, "link").unwrap();
            nix::sys::stat::mkdirat(top, "d", Mode::S_IRWXU).unwrap();
            nix::unistd::symlinkat(beside.path(), top, "d/link").unwrap();
        });
        assert!(removed(&folder));
        assert_eq!(fs::read(beside.path().join("kept")).unwrap(), b"of the user");
        let mode = fs::metadata(beside.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o500);
    }

    #[test]
    fn while_others_still_write_removing_ends_and_goes_on_later() {
        let folder = in_a_fresh_folder(|_| ());
        let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writer = {
            let (folder, end) = (folder.clone(), end.clone());
            std::thread::spawn(move || {
                for i in 0u64.. {
                    if end.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    let inner = folder.join(format!("{}", i % 100));
                    let _ = fs::create_dir_all(&inner);
                    let _ = fs::write(inner.join("f"), "again");
                }
            })
        };
        let _ = remove_folder(&folder, Instant::now() + Duration::from_millis(300));
        end.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
        let _ = fs::create_dir(&folder);
        assert!(removed(&folder));
    }

    #[test]
    fn what_lies_in_a_folder_is_measured_and_too_much_of_it_is_told() {
        let folder = in_a_fresh_folder(|top| nested(top, 3, Mode::S_IRWXU));
        fs::write(folder.join("d/d/much"), vec![1; 1 << 20]).unwrap();
        let bytes = measured(&folder).unwrap();
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
        assert!(removed(&folder));
        let folder = in_a_fresh_folder(|top| nested(top, MAX_DEPTH + 2, Mode::S_IRWXU));
        assert_eq!(measured(&folder), Err(Heap::Depth(MAX_DEPTH)));
        assert!(removed(&folder));
        assert_eq!(measured(&folder), Ok(0), "it is gone");
    }
}
