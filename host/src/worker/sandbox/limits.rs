//! What a process may take, by limits of its own that nothing in it can raise again.

use super::{Role, Room};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use std::fs;

/// Open descriptors of a plugin, each of which may hold memory of the kernel's.
const MOST_DESCRIPTORS: u64 = 4096;
/// Threads per thread that was asked for, and beside these: runtimes keep helpers, and pools of
/// several libraries stand beside each other.
const THREADS_EACH: usize = 8;
const THREADS_BESIDE: usize = 64;

/// Sets them. `own_user`: this process is in a user namespace that it made.
pub(super) fn set(room: &Room, own_user: bool) -> Result<(), Errno> {
    // A write that would make a file larger fails, instead of ending the process.
    // SAFETY: nothing here handles this signal.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    if let Some(largest) = room.largest_file {
        setrlimit(Resource::RLIMIT_FSIZE, largest, largest)?;
    }
    // Real time, and more than the user's share of the processors.
    for resource in [Resource::RLIMIT_RTPRIO, Resource::RLIMIT_NICE, Resource::RLIMIT_MSGQUEUE] {
        setrlimit(resource, 0, 0)?;
    }
    if room.role == Role::Engine {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let most = hard.min(MOST_DESCRIPTORS);
        setrlimit(Resource::RLIMIT_NOFILE, soft.min(most), most)?;
    }
    // Elsewhere the threads of all the user's processes count, and root's count nowhere.
    if own_user && counts_by_namespace() {
        let most = (room.threads.max(1) * THREADS_EACH + THREADS_BESIDE) as libc::rlim_t;
        let (_, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
        setrlimit(Resource::RLIMIT_NPROC, most.min(hard), most.min(hard))?;
    }
    Ok(())
}

/// True where the kernel counts a user's threads within each user namespace (Linux 5.14).
fn counts_by_namespace() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(14))
}
