//! How much memory there is, and whether the kernel took a process away for want of it.

use std::fs;
use std::path::{Path, PathBuf};

/// The memory controller of the container (cgroup) this process is in, as it was told.
#[derive(Debug)]
pub(super) struct Container {
    /// Where its files lie, the innermost first.
    folders: Vec<PathBuf>,
    kills: u64,
}

impl Container {
    /// As things stand now.
    pub(super) fn look() -> Self {
        let told = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::among(&told, Path::new("/sys/fs/cgroup"))
    }

    /// `told` is `/proc/self/cgroup`, `root` where controllers are mounted.
    fn among(told: &str, root: &Path) -> Self {
        let mut folders = Vec::new();
        for line in told.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let root = match controllers {
                "" => root.to_owned(),
                of if of.split(',').any(|name| name == "memory") => root.join("memory"),
                _ => continue,
            };
            // In a container the path may be the one outside, and the container's own is the root.
            let own = root.join(path.trim_start_matches('/'));
            folders
                .extend(own.ancestors().take_while(|f| f.starts_with(&root)).map(Path::to_owned));
        }
        let mut container = Container { folders, kills: 0 };
        container.kills = container.kills_now();
        container
    }

    /// Processes that were killed in it so far.
    fn kills_now(&self) -> u64 {
        let of = |folder: &PathBuf| {
            let files = ["memory.events", "memory.oom_control"].map(|name| folder.join(name));
            let text = files.iter().find_map(|file| fs::read_to_string(file).ok())?;
            let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
            line.trim().parse::<u64>().ok()
        };
        self.folders.iter().find_map(of).unwrap_or(0)
    }

    /// True if the kernel has killed a process of it since it was looked at.
    pub(super) fn killed_since(&self) -> bool {
        self.kills_now() > self.kills
    }

    /// The least of its limits; `None` where it has none.
    pub(super) fn limit(&self) -> Option<u64> {
        let files = self.folders.iter().flat_map(|folder| {
            ["memory.max", "memory.limit_in_bytes"].map(|name| folder.join(name))
        });
        let limits = files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
        // Version 1 says "none" by a number of all the pages there could be.
        limits.filter(|limit| *limit < 1 << 60).min()
    }
}

/// All the memory of this machine.
pub(crate) fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_in_the_container_is_seen_by_either_version_of_cgroups() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("slurm/job")).unwrap();
        fs::create_dir_all(at("memory/docker/1")).unwrap();
        let second = "0::/slurm/job\n";
        let first = "9:name=systemd:/\n4:memory:/docker/1\n0::/absent\n";
        for (told, events, limit) in [
            (second, "slurm/job/memory.events", "slurm/memory.max"),
            (first, "memory/docker/1/memory.oom_control", "memory/docker/1/memory.limit_in_bytes"),
        ] {
            fs::write(at(events), "low 0\noom 7\noom_kill 2\n").unwrap();
            fs::write(at(limit), "1048576\n").unwrap();
            let container = Container::among(told, root.path());
            assert!(!container.killed_since());
            assert_eq!(container.limit(), Some(1 << 20));
            fs::write(at(events), "low 0\noom 8\noom_kill 3\n").unwrap();
            assert!(container.killed_since());
            fs::write(at(limit), "max\n").unwrap();
            assert_eq!(container.limit(), None);
        }
        assert!(!Container::among("", root.path()).killed_since());
    }
}
