//! Files, by Landlock: all access is denied but to what stands here.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use object::elf::{DT_RPATH, DT_RUNPATH};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Endianness, ReadCache};
use std::fs;
use std::path::{Path, PathBuf};

/// The newest interface whose every access we ask for; older kernels enforce what they know.
const NEWEST: ABI = ABI::V6;

/// Folders of libraries and of the data that libraries bring along.
const LIBRARIES: [&str; 16] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/local/lib",
    "/usr/local/lib32",
    "/usr/local/lib64",
    "/usr/share/zoneinfo",
    // Where a system keeps all its packages; readable to all by design.
    "/nix/store",
    "/gnu/store",
    "/run/current-system/sw/lib",
    "/run/opengl-driver/lib",
];

/// What the dynamic loader, allocators, thread pools and clocks look at.
const SYSTEM: [&str; 18] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/timezone",
    "/dev/random",
    "/dev/urandom",
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

/// Devices that forget what is written.
const SINKS: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];

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

/// Leaves this process `readable` and `scratch`, of files, beside what every library needs.
/// Without effect, and without error, where the kernel has no Landlock.
pub(super) fn restrict(readable: &[&Path], scratch: &Path) -> Result<(), RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let drive = read | AccessFs::WriteFile | AccessFs::IoctlDev;
    let libraries = readable.first().map(|library| beside(library)).unwrap_or_default();
    let gpus = gpu_devices();
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
        .add_rules(path_beneath_rules(libraries, read))?
        .add_rules(path_beneath_rules(LIBRARIES, read))?
        .add_rules(path_beneath_rules(configured_folders(), read))?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(["/proc/self"], read))?
        .add_rules(path_beneath_rules(SINKS, AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(gpus, drive))?
        .add_rules(path_beneath_rules(facts, read))?
        .add_rules(path_beneath_rules([scratch], in_scratch()))?
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

fn gpu_devices() -> Vec<PathBuf> {
    let Ok(devices) = fs::read_dir("/dev") else { return Vec::new() };
    let nvidia = devices.flatten().map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"nvidia"))
    });
    let others = GPU_DEVICES.map(PathBuf::from).into_iter().filter(|path| path.exists());
    nvidia.chain(others).collect()
}

/// The shared libraries of the folders that the loader searches for `library`: those it names
/// itself and those of LD_LIBRARY_PATH.
///
/// Libraries only, not their folders: a plugin that names the user's home as a library folder
/// gets to read nothing else there.
fn beside(library: &Path) -> Vec<PathBuf> {
    let mut folders = named_folders(library).unwrap_or_default();
    if let Some(paths) = std::env::var_os("LD_LIBRARY_PATH") {
        folders.extend(std::env::split_paths(&paths));
    }
    let absolute = folders.into_iter().filter(|folder| folder.is_absolute());
    let entries = absolute.filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_library(path)).collect()
}

/// True for `lib*.so` and `lib*.so.1.2`, links to such included.
fn is_library(path: &Path) -> bool {
    let named = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digits = |version: &str| version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        name.ends_with(".so") || name.split_once(".so.").is_some_and(|(_, v)| digits(v))
    };
    // A link called libx.so may lead to anything: what it leads to must be called so as well.
    named(path) && path.canonicalize().is_ok_and(|to| named(&to) && to.is_file())
}

/// RUNPATH and RPATH of `library`, with `$ORIGIN` replaced.
fn named_folders(library: &Path) -> object::Result<Vec<PathBuf>> {
    let Ok(file) = fs::File::open(library) else { return Ok(Vec::new()) };
    let data = &ReadCache::new(file);
    let elf = ElfFile64::<Endianness, _>::parse(data)?;
    let endian = elf.elf_header().endian()?;
    let table = elf.elf_section_table().dynamic_table(endian, data)?;
    let origin = library.parent().unwrap_or(Path::new("/")).display().to_string();
    let mut folders = Vec::new();
    for entry in &table {
        if entry.tag == DT_RUNPATH || entry.tag == DT_RPATH {
            let text = String::from_utf8_lossy(table.string(entry)?);
            let text = text.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
            folders.extend(text.split(':').map(PathBuf::from));
        }
    }
    Ok(folders)
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
        fs::create_dir(path("folder.so")).unwrap();
        let mut lent: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| is_library(path))
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        lent.sort();
        assert_eq!(lent, ["liba.so", "libb.so", "libb.so.1.2"]);
    }

    #[test]
    fn a_file_that_is_no_library_names_no_folders() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libtext.so");
        fs::write(&file, "not an object file").unwrap();
        assert!(named_folders(&file).is_err());
        assert!(named_folders(&folder.path().join("absent.so")).unwrap().is_empty());
    }

    #[test]
    fn the_scratch_folder_runs_nothing() {
        assert!(!in_scratch().contains(AccessFs::Execute));
        assert!(in_scratch().contains(AccessFs::WriteFile | AccessFs::MakeReg));
    }
}
