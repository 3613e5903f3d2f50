//! Files, by Landlock: all access is denied but to what stands here.

use super::private::Private;
use crate::plugin::needs::{Needs, SYSTEM_FOLDERS};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The newest interface whose every access we ask for; older kernels enforce what they know.
const NEWEST: ABI = ABI::V6;

/// What the dynamic loader, allocators, thread pools and clocks look at.
const SYSTEM: [&str; 20] = [
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/timezone",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/hugepages",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Devices that forget what is written. Not `/dev/zero`: memory of it that is shared and written
/// is counted by no limit.
const SINKS: [&str; 2] = ["/dev/null", "/dev/full"];

/// Graphics processors, as their drivers document them: devices to drive, and what is read about
/// them.
const GPU_DEVICES: [&str; 3] = ["/dev/dri", "/dev/dxg", "/dev/kfd"];
const GPU_FACTS: [&str; 8] = [
    "/proc/devices",
    "/proc/driver/nvidia",
    "/proc/modules",
    "/sys/bus/pci",
    "/sys/class/kfd",
    "/sys/devices",
    "/sys/module/amdgpu",
    "/sys/module/nvidia",
];

/// What this kernel's Landlock can deny.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Support {
    /// Opening, making and removing files (Linux 5.13).
    pub(super) access: bool,
    /// Truncating files without opening them (Linux 6.2).
    pub(super) truncation: bool,
    /// Binding and connecting TCP sockets (Linux 6.7).
    pub(super) tcp: bool,
    /// Signals to processes outside (Linux 6.12).
    pub(super) signals: bool,
}

/// Asks the kernel; restricts nothing.
pub(super) fn support() -> Support {
    let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    Support {
        access: strict().handle_access(AccessFs::from_all(ABI::V1)).is_ok(),
        truncation: strict().handle_access(AccessFs::Truncate).is_ok(),
        tcp: strict().handle_access(AccessNet::from_all(ABI::V4)).is_ok(),
        signals: strict().scope(Scope::from_all(ABI::V6)).is_ok(),
    }
}

/// Leaves this process `readable`, `scratch` and `gpus`, of files, beside what every library needs,
/// and lets it run what is `executable`.
/// Without effect, and without error, where the kernel has no Landlock.
pub(super) fn restrict(
    readable: &[PathBuf],
    executable: &[PathBuf],
    scratch: Option<&Path>,
    own: &Private,
    gpus: Vec<PathBuf>,
) -> Result<(), RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let drive = read | AccessFs::WriteFile | AccessFs::IoctlDev;
    let facts: &[&str] = if gpus.is_empty() { &[] } else { &GPU_FACTS };
    // The kernel makes a process's own folder anew once nobody uses it, and the rule would be
    // about the old one: hold it open as long as the process lives.
    if let Ok(own) = PathFd::new("/proc/self") {
        std::mem::forget(own);
    }
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(executable, AccessFs::ReadFile | AccessFs::Execute))?
        .add_rules(path_beneath_rules(SYSTEM_FOLDERS, read))?
        .add_rules(path_beneath_rules(configured_folders(), read))?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(["/proc/self"], read))?
        .add_rules(path_beneath_rules(SINKS, AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(gpus, drive))?
        .add_rules(path_beneath_rules(facts, read))?
        .add_rules(path_beneath_rules(scratch, in_scratch()))?
        .add_rules(path_beneath_rules(&own.folders, in_scratch()))?
        .add_rules(path_beneath_rules(&own.files, AccessFs::ReadFile | AccessFs::WriteFile))?
        .restrict_self()?;
    Ok(())
}

/// Everything but running programs and making devices and sockets.
fn in_scratch() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute
        | AccessFs::MakeBlock
        | AccessFs::MakeChar
        | AccessFs::MakeSock
        | AccessFs::IoctlDev;
    AccessFs::from_all(NEWEST) & !never
}

/// The folders that the system's administrator gave to the dynamic loader.
fn configured_folders() -> Vec<PathBuf> {
    let included = fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten().flatten();
    let files = included.map(|entry| entry.path()).chain(["/etc/ld.so.conf".into()]);
    let texts = files.filter_map(|file| fs::read_to_string(file).ok());
    let folders: Vec<PathBuf> = texts
        .flat_map(|text| text.lines().map(|line| PathBuf::from(line.trim())).collect::<Vec<_>>())
        .filter(|folder| folder.is_absolute() && folder.parent().is_some())
        .collect();
    folders
}

/// The graphics processors of this machine.
pub(super) fn gpu_devices() -> Vec<PathBuf> {
    let Ok(devices) = fs::read_dir("/dev") else { return Vec::new() };
    let nvidia = devices.flatten().map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"nvidia"))
    });
    let others = GPU_DEVICES.map(PathBuf::from).into_iter().filter(|path| path.exists());
    nvidia.chain(others).collect()
}

/// The libraries that `needs` names, and all others of the folders that are named for libraries:
/// a plugin may look for more while it runs.
///
/// Libraries only, not their folders: a plugin that names the user's home as a library folder
/// gets to read nothing else there.
pub(super) fn libraries(needs: &Needs) -> Vec<PathBuf> {
    let entries = needs.folders().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let beside = entries.flatten().map(|entry| entry.path()).filter(|path| is_library(path));
    needs.files().map(Path::to_owned).chain(beside).collect()
}

/// True for `lib*.so` and `lib*.so.1.2`, links to such included.
fn is_library(path: &Path) -> bool {
    let named = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digits = |version: &str| version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        name.ends_with(".so") || name.split_once(".so.").is_some_and(|(_, v)| digits(v))
    };
    // A link called libx.so may lead to anything: what it leads to must be called so as well, or
    // be a library, as in stores that call their files by what they hold.
    named(path)
        && path.canonicalize().is_ok_and(|to| to.is_file() && (named(&to) || is_object(&to)))
}

/// True for what begins as object files do.
fn is_object(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_files_that_are_called_libraries_are_lent_from_a_library_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["liba.so", "libb.so.1.2", "key.sock", "id.so.txt", "notes"] {
            fs::write(path(name), "").unwrap();
        }
        symlink(path("libb.so.1.2"), path("libb.so")).unwrap();
        symlink(path("notes"), path("libnotes.so")).unwrap();
        fs::write(path("0a1b"), b"\x7fELF and so on").unwrap();
        symlink(path("0a1b"), path("libfarm.so")).unwrap();
        fs::create_dir(path("folder.so")).unwrap();
        let mut lent: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| is_library(path))
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        lent.sort();
        assert_eq!(lent, ["liba.so", "libb.so", "libb.so.1.2", "libfarm.so"]);
    }

    #[test]
    fn the_scratch_folder_runs_nothing() {
        assert!(!in_scratch().contains(AccessFs::Execute));
        assert!(in_scratch().contains(AccessFs::WriteFile | AccessFs::MakeReg));
    }
}
