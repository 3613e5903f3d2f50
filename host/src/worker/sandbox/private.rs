//! Shared memory and `/tmp` of the worker's own: a mount namespace with empty, size-limited ones.
//!
//! OpenMP runtimes of Intel and LLVM register in POSIX shared memory, then in `/tmp`, and abort
//! where they can do neither. What lies in the real folders and belongs to the cell is bound into
//! the new ones; nobody else's files are there. Where the kernel allows no namespace, the single
//! files that these runtimes open are made beforehand and lent instead.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{getgid, getuid};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// The folders that become the worker's own.
const PLACES: [&str; 2] = ["/dev/shm", "/tmp"];
/// More of a cell's files in one of them than are bound one by one; it then stays as it was.
const MOST_BOUND: usize = 256;
/// What both together may hold where the cell's memory has no limit.
const ROOM: u64 = 1 << 30;
/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;
/// Files and folders in one of them: each takes memory of the kernel's.
const MOST_FILES: u64 = 16 * 1024;
const NOTHING: Option<&str> = None;

/// What a worker has of its own.
#[derive(Debug, Default)]
pub(super) struct Private {
    /// Folders with nothing in them but the cell's own files: anything may be written there.
    pub(super) folders: Vec<PathBuf>,
    /// Single files that were made for it in a folder that others use too.
    pub(super) files: Vec<PathBuf>,
    /// It is in a user namespace that it made.
    pub(super) user: bool,
}

/// Gives this process, which has one thread, folders of its own as far as the kernel allows.
/// `needed` are the files it must still reach, `scratch` the folder it may write.
pub(super) fn enter(needed: &[PathBuf], scratch: &Path, memory: Option<u64>) -> Private {
    let mut own = Private::default();
    if let Ok(user) = new_namespace() {
        own.user = user;
        let room = memory.unwrap_or(ROOM) / PLACES.len() as u64;
        for place in PLACES.map(Path::new) {
            // One that cannot be replaced stays what it was: closed.
            if replace(place, needed, scratch, room).is_ok() {
                own.folders.push(place.to_owned());
            }
        }
        // The folder this process stands in is now reached by another way.
        let _ = nix::unistd::chdir(scratch);
    }
    if !own.folders.iter().any(|folder| folder == Path::new(PLACES[0])) {
        own.files = lend();
    }
    own
}

/// A mount namespace; answers whether it took a user namespace to get it.
fn new_namespace() -> nix::Result<bool> {
    let mount_only = unshare(CloneFlags::CLONE_NEWNS);
    let user = mount_only.is_err();
    if user {
        // Ubuntu lets a program have one, but not mount anything in it.
        let restricted = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
        if fs::read_to_string(restricted).is_ok_and(|text| text.trim() == "1") {
            return Err(Errno::EPERM);
        }
        let (uid, gid) = (getuid(), getgid());
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        // The same user as outside.
        let told = fs::write("/proc/self/setgroups", "deny")
            .and_then(|()| fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")))
            .and_then(|()| fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")));
        told.map_err(|_| Errno::EPERM)?;
        // Another set of rights forgets it.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    }
    // What is mounted from here on is nobody else's to see.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    Ok(user)
}

/// Mounts an empty folder over `place` and binds what is needed of the old one into it.
fn replace(place: &Path, needed: &[PathBuf], scratch: &Path, room: u64) -> nix::Result<()> {
    if !fs::symlink_metadata(place).is_ok_and(|meta| meta.is_dir()) {
        return Err(Errno::ENOTDIR);
    }
    let ways: Vec<Way> = needed.iter().map(|path| Way::to(path)).collect();
    let scratch = Way::to(scratch);
    let mut bound: BTreeMap<&Path, Old> = BTreeMap::new();
    for way in ways.iter().chain([&scratch]) {
        if way.end.starts_with(place) && !bound.contains_key(way.end.as_path()) {
            // One that is not there is not missed.
            let Ok(old) = Old::hold(&way.end) else { continue };
            bound.insert(&way.end, old);
        }
    }
    if bound.len() > MOST_BOUND {
        return Err(Errno::E2BIG);
    }
    let options = format!("mode=1777,nr_inodes={MOST_FILES},size={}k", (room / 1024).max(1024));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some(options.as_str()))?;
    let mut all = bound.iter().try_for_each(|(path, old)| old.bind(path, *path == scratch.end));
    for way in ways.iter().chain([&scratch]) {
        all = all.and_then(|()| way.pave(place).map_err(|_| Errno::EIO));
    }
    if all.is_err() {
        let _ = umount2(place, MntFlags::MNT_DETACH);
    }
    all
}

/// Something in a folder that is about to be covered.
struct Old {
    file: OwnedFd,
    folder: bool,
}

impl Old {
    fn hold(path: &Path) -> nix::Result<Old> {
        let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let folder = fs::metadata(path).is_ok_and(|meta| meta.is_dir());
        Ok(Old { file, folder })
    }

    /// Puts it at `path`, read-only unless it may be written.
    fn bind(&self, path: &Path, writable: bool) -> nix::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let made = match self.folder {
            true => fs::create_dir_all(path),
            false => fs::create_dir_all(parent).and_then(|()| fs::File::create(path).map(drop)),
        };
        made.map_err(|_| Errno::EIO)?;
        let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        mount(Some(from.as_str()), path, NOTHING, MsFlags::MS_BIND, NOTHING)?;
        if writable {
            return Ok(());
        }
        // What the old mount forbids must stay forbidden.
        let kept = fstatvfs(&self.file).map_or(FsFlags::empty(), |of| of.flags());
        let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        for (had, flag) in [
            (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
            (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
            (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
            (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
            (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
            (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
        ] {
            if kept.contains(had) {
                flags |= flag;
            }
        }
        mount(NOTHING, path, NOTHING, flags, NOTHING)
    }
}

/// How the kernel comes to a file: the links it follows and the folders it turns back in.
#[derive(Debug, Default, PartialEq)]
struct Way {
    links: Vec<(PathBuf, PathBuf)>,
    turns: Vec<PathBuf>,
    end: PathBuf,
}

impl Way {
    fn to(path: &Path) -> Way {
        let mut way = Way { end: PathBuf::from("/"), ..Way::default() };
        let mut left: Vec<PathBuf> = Vec::new();
        let queue = |left: &mut Vec<PathBuf>, path: &Path| {
            left.extend(path.components().rev().map(|part| PathBuf::from(part.as_os_str())));
        };
        queue(&mut left, path);
        while let Some(part) = left.pop() {
            if part == Path::new("..") {
                way.turns.push(way.end.clone());
                way.end.pop();
                continue;
            }
            // An absolute part begins anew.
            let next = way.end.join(&part);
            match fs::read_link(&next) {
                Ok(to) if way.links.len() < MOST_LINKS => {
                    queue(&mut left, &to);
                    way.links.push((next, to));
                }
                _ => way.end = next,
            }
        }
        way
    }

    /// Makes its links and turns again in an empty `place`.
    fn pave(&self, place: &Path) -> io::Result<()> {
        for turn in self.turns.iter().filter(|turn| turn.starts_with(place)) {
            fs::create_dir_all(turn)?;
        }
        for (link, to) in self.links.iter().filter(|(link, _)| link.starts_with(place)) {
            fs::create_dir_all(link.parent().unwrap_or(place))?;
            if fs::symlink_metadata(link).is_err() {
                symlink(to, link)?;
            }
        }
        Ok(())
    }
}

/// The files that OpenMP runtimes of Intel and LLVM register in, made for this process.
fn lend() -> Vec<PathBuf> {
    // The runtime finds a file that it did not make, and takes it for a second copy of itself.
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("KMP_DUPLICATE_LIB_OK", "TRUE") };
    let made = |path: &PathBuf| {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|file| file.set_len(REGISTRATION_BYTES)).is_ok()
    };
    registrations(std::process::id()).into_iter().filter(made).collect()
}

/// Bytes that these runtimes map of their file.
const REGISTRATION_BYTES: u64 = 1024;

/// What the runtimes in process `pid` of this user call their files.
pub(crate) fn registrations(pid: u32) -> [PathBuf; 2] {
    let place = Path::new(PLACES[0]);
    let uid = getuid();
    [format!("__KMP_REGISTERED_LIB_{pid}"), format!("__KMP_REGISTERED_LIB_{pid}_{uid}")]
        .map(|name| place.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_file_is_followed_as_the_kernel_does() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let at = |name: &str| folder.join(name);
        fs::create_dir_all(at("store/1")).unwrap();
        fs::write(at("store/1/libx.so"), "").unwrap();
        symlink("store", at("farm")).unwrap();
        symlink("1/libx.so", at("store/libx.so")).unwrap();
        let way = Way::to(&at("farm/1/../libx.so"));
        assert_eq!(way.end, at("store/1/libx.so"));
        assert_eq!(way.turns, [at("store/1")]);
        let links = [(at("farm"), "store".into()), (at("store/libx.so"), "1/libx.so".into())];
        assert_eq!(way.links, links);
        symlink("round", at("round")).unwrap();
        assert_eq!(Way::to(&at("round")).links.len(), MOST_LINKS);
    }
}
