//! What a process may touch in which a plugin runs, or in which the referee looks at what plugins
//! made.
//!
//! ```text
//! read     its own library · the system's libraries · what allocators, thread pools and clocks
//!          ask the system · what its room names
//! write    its scratch folder, which is also TMPDIR and the working directory · shared memory and
//!          /tmp of its own
//! start    threads
//! never    sockets · processes and programs · signals, memory, priorities and limits of other
//!          processes · rights, owners, times and attributes of files · memory that no limit
//!          counts · what root may
//! ```
//!
//! What stays open: that a file exists, how large it is and where a link leads.
//!
//! A process enters before it opens the library, while it still has one thread, and nothing can
//! lead it out again. On Linux, Landlock holds the files (`files`), a filter the system calls
//! (`calls`), limits the process's own use (`limits`): each denies with an error, so that a plugin
//! fails with one of its own. What the kernel cannot enforce is not enforced; [`offered`] tells,
//! and every record keeps it. docs/security.md has the whole model.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod private;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod rights;

use crate::plugin::needs::Needs;
use crate::record::Sandbox;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub(super) use private::registrations;
#[cfg(target_os = "linux")]
pub(crate) use program::Program;

/// A worker that could not be confined although the kernel offers it.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The kernel refused the rules for files.
    #[cfg(target_os = "linux")]
    #[error("Landlock: {0}")]
    Files(#[from] landlock::RulesetError),
    /// The system call filter does not compile.
    #[cfg(target_os = "linux")]
    #[error("the system call filter: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel refused the system call filter.
    #[cfg(target_os = "linux")]
    #[error("the system call filter was refused: {0}")]
    Install(nix::errno::Errno),
    /// The kernel refused to take root's rights.
    #[cfg(target_os = "linux")]
    #[error("the rights of root cannot be given up: {0}")]
    Rights(nix::errno::Errno),
    /// The kernel refused a limit.
    #[cfg(target_os = "linux")]
    #[error("its limits: {0}")]
    Limits(nix::errno::Errno),
    /// The program that was to run beside it does not start.
    #[cfg(target_os = "linux")]
    #[error("a program cannot be started: {0}")]
    Program(String),
}

/// Whether a sandbox keeps a plugin from files that were not lent to it, on this machine.
pub(crate) fn keeps_files() -> bool {
    #[cfg(target_os = "linux")]
    {
        files::support().access
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

/// What a sandbox can hold on this machine. Changes nothing.
pub fn offered() -> Sandbox {
    #[cfg(target_os = "linux")]
    {
        described(files::support(), calls::supported(), nix::unistd::geteuid().is_root())
    }
    #[cfg(not(target_os = "linux"))]
    {
        Sandbox::Off { reason: "this platform has no sandbox that vq-host knows".into() }
    }
}

/// What runs in a process that is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A plugin: an encoder, a decoder, or one that is described, expanded or checked.
    Engine,
    /// The host alone, on data that a plugin had a hand in.
    Referee,
}

/// What a confined process is left.
#[derive(Clone, Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is held there"))]
pub(super) struct Room {
    /// What runs in it.
    pub(super) role: Role,
    /// The files it may read, beside those of the system that every program reads.
    pub(super) readable: Vec<PathBuf>,
    /// The one folder it may write to, its working directory; `None`: it writes to nothing but the
    /// descriptors it was given.
    pub(super) scratch: Option<PathBuf>,
    /// Bytes of memory it may take; `None`: no limit.
    pub(super) memory: Option<u64>,
    /// Threads it was told to use.
    pub(super) threads: usize,
    /// Bytes to which it may let a file grow; `None`: no limit.
    pub(super) largest_file: Option<u64>,
}

/// Confines this process, which has one thread, to `room` and the libraries of `needs`, for good;
/// answers what holds from now on, and the process of `program`, which is held the same way.
///
/// # Errors
/// The kernel refused what it offers: nothing of the plugin may run then.
#[cfg(target_os = "linux")]
pub(super) fn enter(
    room: &Room,
    needs: &Needs,
    program: Option<Program>,
) -> Result<(Sandbox, Option<nix::unistd::Pid>), EnterError> {
    let calls = calls::supported();
    let support = files::support();
    let mut readable = room.readable.clone();
    readable.extend(files::libraries(needs));
    let own = match (room.role, &room.scratch) {
        (Role::Engine, Some(scratch)) => private::enter(&readable, scratch, room.memory),
        _ => private::Private::default(),
    };
    let executable = program.as_ref().map(|of| of.executable.clone()).unwrap_or_default();
    let walls = |executable: &[PathBuf], start: Option<program::Start>| -> Result<(), EnterError> {
        limits::set(room, own.user).map_err(EnterError::Limits)?;
        let devices = files::gpu_devices();
        let gpu = !devices.is_empty();
        files::restrict(&readable, executable, room.scratch.as_deref(), &own, devices)?;
        // Root's data may be another user's. Where Landlock holds, reading is for the files above.
        rights::give_up(support.access && !own.user).map_err(EnterError::Rights)?;
        if calls {
            calls::restrict(room.role, gpu, start)?;
        }
        Ok(())
    };
    let started =
        program.map(|of| of.start(|start| walls(&executable, Some(start)))).transpose()?;
    walls(&[], None)?;
    Ok((described(support, calls, nix::unistd::geteuid().is_root()), started))
}

/// Nothing of the kind is known on this platform.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub(super) fn enter(_room: &Room, _needs: &Needs) -> Result<Sandbox, EnterError> {
    Ok(offered())
}

/// What holds on a kernel that offers this.
#[cfg(target_os = "linux")]
fn described(files: files::Support, calls: bool, root: bool) -> Sandbox {
    let mut missing = Vec::new();
    if !files.access {
        missing.push("reading and writing files");
    } else if !files.truncation {
        missing.push("truncating files");
    }
    if !calls {
        missing.push(if files.tcp { "networking other than TCP" } else { "networking" });
        missing.push(if files.access { "starting processes" } else { "starting programs" });
        if !files.signals {
            missing.push("signals");
        }
        missing.push("priorities and limits of other processes");
        missing.push("memory that is shared without a file");
        missing.push("attributes of files");
    }
    match (files.access, calls, missing.is_empty()) {
        (_, _, true) => Sandbox::Full,
        (false, false, _) => Sandbox::Off {
            reason: "this kernel has neither Landlock nor system call filters".into(),
        },
        (access, _, _) => {
            let without = if root && !access {
                "; root's rights over others' files are given up"
            } else {
                ""
            };
            let missing = format!("this kernel cannot deny {}{without}", missing.join(", "));
            Sandbox::Partial { missing }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::files::Support;
    use super::*;

    #[test]
    fn what_a_kernel_lacks_is_named() {
        let all = Support { access: true, truncation: true, tcp: true, signals: true };
        assert_eq!(described(all, true, true), Sandbox::Full);
        let of_5_13 = Support { truncation: false, tcp: false, signals: false, ..all };
        let old = described(of_5_13, true, true).to_string();
        assert_eq!(old, "partial: this kernel cannot deny truncating files");
        let unfiltered = described(Support { signals: false, ..all }, false, false).to_string();
        assert_eq!(
            unfiltered,
            "partial: this kernel cannot deny networking other than TCP, starting processes, \
             signals, priorities and limits of other processes, memory that is shared without a \
             file, attributes of files"
        );
        let none = Support::default();
        assert_eq!(
            described(none, true, true).to_string(),
            "partial: this kernel cannot deny reading and writing files; root's rights over \
             others' files are given up"
        );
        assert!(matches!(described(none, true, false), Sandbox::Partial { .. }));
        assert!(matches!(described(none, false, true), Sandbox::Off { .. }));
    }
}
