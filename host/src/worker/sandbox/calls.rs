//! What Landlock does not see, by a filter over system calls: a short list is denied with EACCES,
//! everything else is as fast as before.

use super::EnterError;
use nix::errno::Errno;
use nix::libc::{self, c_long};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, Ne};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;

/// Denied whatever their arguments.
const DENIED: &[c_long] = &[
    // The network, and sockets of other programs on this machine.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // The same, without a system call for each.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Other programs; a script counts as one.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes: their memory, files and signals.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    // Leaving the process group, which the parent ends as a whole.
    libc::SYS_setsid,
    libc::SYS_setpgid,
    // The user's keys.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // Rights, owners, times and labels of files, which Landlock leaves to everybody.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    // Files by handle instead of by path, and other views of the file system.
    libc::SYS_open_by_handle_at,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_chroot,
    // The machine, for a run as root.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_acct,
];

/// What newer processors' kernels no longer have.
#[cfg(target_arch = "x86_64")]
const DENIED_OLD: &[c_long] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_OLD: &[c_long] = &[];

/// Programs for x86-64's 32-bit pointers give the same calls with this bit.
const X32: c_long = 0x4000_0000;

/// True where the kernel takes such a filter, and the filter's compiler knows the processor.
pub(super) fn supported() -> bool {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: only reads `action`, which lives until the call is over.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    };
    answer == 0 && TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

/// Filters the calls of this thread and of all that it starts.
pub(super) fn restrict() -> Result<(), EnterError> {
    let program = program()?;
    // Without the right to gain rights, anybody may filter itself.
    nix::sys::prctl::set_no_new_privs().map_err(EnterError::Install)?;
    install(&program).map_err(EnterError::Install)
}

fn program() -> Result<BpfProgram, BackendError> {
    let own = u64::from(std::process::id());
    let is = |argument, compare, value| SeccompCondition::new(argument, Dword, compare, value);
    let not_own = || SeccompRule::new(vec![is(0, Ne, own)?]);
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        DENIED.iter().chain(DENIED_OLD).map(|call| (*call, Vec::new())).collect();
    // A process may signal itself: that is how it aborts.
    for call in
        [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo]
    {
        rules.insert(call, vec![not_own()?]);
    }
    // Its own limits, not its parent's; 0 is itself, too.
    let limits = SeccompRule::new(vec![is(0, Ne, own)?, is(0, Ne, 0)?])?;
    rules.insert(libc::SYS_prlimit64, vec![limits]);
    // It was told to die with its parent, and keeps to it.
    let survive = is(0, Eq, u64::from(libc::PR_SET_PDEATHSIG.cast_unsigned()))?;
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![survive])?]);
    if cfg!(target_arch = "x86_64") {
        let twins: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(twins);
    }
    let denied = SeccompAction::Errno(libc::EACCES.cast_unsigned());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)?.try_into()
}

/// Installs it without the mitigations that kernels before 5.16 add to a filtered process: they
/// slow its memory accesses, and this process is measured.
fn install(program: &BpfProgram) -> Result<(), Errno> {
    let mut filter: Vec<libc::sock_filter> = program
        .iter()
        .map(|step| libc::sock_filter { code: step.code, jt: step.jt, jf: step.jf, k: step.k })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::E2BIG)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` points at `len` steps of `filter`, and both live until the call is over;
    // the kernel copies them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    Errno::result(answer).map(drop)
}
