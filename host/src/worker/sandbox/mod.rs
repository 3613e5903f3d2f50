//! What a plugin may touch while it runs in a worker.
//!
//! ```text
//! read     its own library · the system's libraries · what allocators, thread pools and clocks
//!          ask the system · the data of its cell
//! write    its scratch folder, which is also TMPDIR and the working directory · shared memory and
//!          /tmp of its own
//! never    sockets · programs · signals, memory and limits of other processes · rights, owners
//!          and times of files
//! ```
//!
//! What stays open: that a file exists, how large it is and where a link leads.
//!
//! The worker enters before it opens the library, while it still has one thread, and nothing can
//! lead it out again. On Linux, Landlock holds the files (`files`) and a system call filter the
//! rest (`calls`): each denies with EACCES, so that a plugin fails with an error of its own. What
//! the kernel cannot enforce is not enforced; [`offered`] tells, and every record keeps it.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod private;

use crate::plugin::needs::Needs;
use crate::record::Sandbox;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub(super) use private::registrations;

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
    /// The kernel refused a limit.
    #[cfg(target_os = "linux")]
    #[error("its limits: {0}")]
    Limits(nix::errno::Errno),
}

/// What a sandbox can hold on this machine. Changes nothing.
pub fn offered() -> Sandbox {
    #[cfg(target_os = "linux")]
    {
        described(files::support(), calls::supported())
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
    #[expect(dead_code, reason = "the referee's process is being built")]
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
    /// Bytes that one file of it may have.
    pub(super) largest_file: u64,
}

/// Confines this process, which has one thread, to `room` and the libraries of `needs`, for good;
/// answers what holds from now on.
///
/// # Errors
/// The kernel refused what it offers: nothing of the plugin may run then.
#[cfg(target_os = "linux")]
pub(super) fn enter(room: &Room, needs: &Needs) -> Result<Sandbox, EnterError> {
    let calls = calls::supported();
    let held = described(files::support(), calls);
    let mut readable = room.readable.clone();
    readable.extend(files::libraries(needs));
    let own = match (room.role, &room.scratch) {
        (Role::Engine, Some(scratch)) => private::enter(&readable, scratch, room.memory),
        _ => private::Private::default(),
    };
    limits::set(room, own.user).map_err(EnterError::Limits)?;
    files::restrict(&readable, room.scratch.as_deref(), &own)?;
    if calls {
        calls::restrict()?;
    }
    Ok(held)
}

/// Nothing of the kind is known on this platform.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub(super) fn enter(_room: &Room, _needs: &Needs) -> Result<Sandbox, EnterError> {
    Ok(offered())
}

#[cfg(target_os = "linux")]
fn described(files: files::Support, calls: bool) -> Sandbox {
    let mut missing = Vec::new();
    if !files.access {
        missing.push("reading and writing files");
    } else if !files.truncation {
        missing.push("truncating files");
    }
    if !calls {
        missing.push(if files.tcp { "networking other than TCP" } else { "networking" });
        if !files.access {
            missing.push("starting programs");
        }
        missing.push(if files.signals { "limits of other processes" } else { "signals" });
    }
    match (files.access, calls, missing.is_empty()) {
        (_, _, true) => Sandbox::Full,
        (false, false, _) => Sandbox::Off {
            reason: "this kernel has neither Landlock nor system call filters".into(),
        },
        _ => {
            Sandbox::Partial { missing: format!("this kernel cannot deny {}", missing.join(", ")) }
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
        assert_eq!(described(all, true), Sandbox::Full);
        let of_5_13 = Support { truncation: false, tcp: false, signals: false, ..all };
        let old = described(of_5_13, true).to_string();
        assert_eq!(old, "partial: this kernel cannot deny truncating files");
        let unfiltered = described(Support { signals: false, ..all }, false).to_string();
        assert_eq!(
            unfiltered,
            "partial: this kernel cannot deny networking other than TCP, signals"
        );
        let none = Support::default();
        assert!(matches!(described(none, true), Sandbox::Partial { .. }));
        assert!(matches!(described(none, false), Sandbox::Off { .. }));
    }
}
