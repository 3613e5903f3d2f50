//! The rights of root, given up for good.

use nix::errno::Errno;
use nix::libc::{self, c_int, c_ulong};

/// Reads files and enters folders of every user.
const CAP_DAC_READ_SEARCH: u32 = 2;
/// More rights than any kernel knows.
const MOST_RIGHTS: c_ulong = 64;
/// `_LINUX_CAPABILITY_VERSION_3`, of two sets of 32.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Set {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Leaves this process no right beyond its user's, but to read what others may not if
/// `reads_all`, where it has that.
pub(super) fn give_up(reads_all: bool) -> Result<(), Errno> {
    // What it may get again by programs, which it cannot run: refused without the right to ask.
    for right in 0..MOST_RIGHTS {
        // SAFETY: takes numbers only.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0) };
    }
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let mut header = Header { version: VERSION, pid: 0 };
    let mut sets = [Set::default(); 2];
    // SAFETY: both live until the call is over, and have the layout of this version.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    let kept = sets[0].permitted & if reads_all { 1 << CAP_DAC_READ_SEARCH } else { 0 };
    let sets = [Set { effective: kept, permitted: kept, inheritable: 0 }, Set::default()];
    // SAFETY: both live until the call is over, and have the layout of this version.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })?;
    Ok(())
}
