//! What Landlock does not see, by a filter over system calls: those named here are as fast as
//! before, and all others are denied.
//!
//! ```text
//! EACCES   what this filter knows and denies
//! ENOSYS   what is newer than this filter, of another architecture, or x32; and clone3, whose
//!          arguments a filter cannot see: C libraries then take clone
//! ```
//!
//! Nothing kills: libraries that try something, and can do without, go on.

use super::{EnterError, Role};
use nix::errno::Errno;
use nix::libc::{self, c_int, c_long};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, Ge, Le, MaskedEq, Ne};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Allowed whatever their arguments, to every confined process.
const ALLOWED: &[c_long] = &[
    // Memory of its own.
    libc::SYS_brk,
    libc::SYS_get_mempolicy,
    libc::SYS_mbind,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_mseal,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    MAP_SHADOW_STACK,
    // Threads, and how they wait for each other.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    FUTEX_WAKE,
    FUTEX_WAIT,
    FUTEX_REQUEUE,
    libc::SYS_getcpu,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Children it never has.
    libc::SYS_wait4,
    libc::SYS_waitid,
    // What is so of it, and of others as anybody may know.
    libc::SYS_capget,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_ioprio_get,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_uname,
    // Clocks, alarms and signals of its own.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_setitimer,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    // Files that Landlock lets it open, and descriptors it was given.
    libc::SYS_chdir,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_sendfile,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_umask,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The same by their older names, which newer processors' kernels do not have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_setrlimit,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_sync_file_range,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[c_long] = &[];

/// Beside them what a plugin does in its scratch folder.
const SCRATCH: &[c_long] = &[
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat2,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_unlinkat,
];
#[cfg(target_arch = "x86_64")]
const SCRATCH_OLD: &[c_long] = &[
    libc::SYS_creat,
    libc::SYS_link,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_symlink,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const SCRATCH_OLD: &[c_long] = &[RENAMEAT];

/// Allowed of the process itself only: its pid, or 0, stands at this place of the arguments.
///
/// Threads of its own by their numbers count as others: a filter cannot tell them.
const OF_ITSELF: &[(c_long, u8)] = &[
    (libc::SYS_migrate_pages, 0),
    (libc::SYS_move_pages, 0),
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
];

/// Signals, where 0 would be the whole group.
const SIGNALS: &[c_long] =
    &[libc::SYS_kill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_tgkill];

/// What a process may ask of itself by prctl.
const PRCTL: &[c_int] = &[
    libc::PR_CAPBSET_READ,
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_NAME,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_GET_PDEATHSIG,
    libc::PR_GET_SECCOMP,
    GET_SPECULATION_CTRL,
    libc::PR_GET_THP_DISABLE,
    libc::PR_GET_TIMERSLACK,
    libc::PR_SET_NAME,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_SET_THP_DISABLE,
    libc::PR_SET_TIMERSLACK,
    libc::PR_SET_VMA,
    // Vectors of ARM, and tags of its pointers.
    SVE_SET_VL,
    SVE_GET_VL,
    PAC_RESET_KEYS,
    SET_TAGGED_ADDR_CTRL,
    GET_TAGGED_ADDR_CTRL,
    SME_SET_VL,
    SME_GET_VL,
];
/// libc has no names for these, or not on every processor.
const GET_SPECULATION_CTRL: c_int = 52;
const SVE_SET_VL: c_int = 50;
const SVE_GET_VL: c_int = 51;
const PAC_RESET_KEYS: c_int = 54;
const SET_TAGGED_ADDR_CTRL: c_int = 55;
const GET_TAGGED_ADDR_CTRL: c_int = 56;
const SME_SET_VL: c_int = 63;
const SME_GET_VL: c_int = 64;
const MAP_SHADOW_STACK: c_long = 453;
const FUTEX_WAKE: c_long = 454;
const FUTEX_WAIT: c_long = 455;
const FUTEX_REQUEUE: c_long = 456;
#[cfg(not(target_arch = "x86_64"))]
const RENAMEAT: c_long = 38;

/// What may be done to a descriptor. No leases, notices or owners: those reach others.
const FCNTL: &[c_int] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_GETFL,
    libc::F_GETPIPE_SZ,
    libc::F_GET_SEALS,
    libc::F_SETFD,
    libc::F_SETFL,
];
/// Locks on a file that all cells may read tell each other numbers, and take memory of the kernel's
/// that no limit counts. The caches of graphics drivers need them.
const LOCKS: &[c_int] = &[
    libc::F_GETLK,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_SETLK,
    libc::F_SETLKW,
];

/// What may be asked of a device: what kind of terminal it is, and how much there is to read.
const IOCTL: &[libc::Ioctl] = &[
    libc::TCGETS,
    libc::TCGETS2,
    libc::TIOCGWINSZ,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONCLEX,
];
/// The letters of graphics drivers: NVIDIA's two, `dri`, `kfd`, `dxg`. File systems have others.
const GPU_LETTERS: &[u8] = b"\0FdKG";

/// The last call that this filter knows.
const NEWEST: u32 = 462;
/// Numbers that are nobody's.
#[cfg(target_arch = "x86_64")]
const HOLES: &[RangeInclusive<u32>] = &[335..=423];
#[cfg(not(target_arch = "x86_64"))]
const HOLES: &[RangeInclusive<u32>] = &[244..=259, 295..=423];

/// How the kernel calls this processor; `None` for one that is not supported.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// True where the kernel takes such a filter, and this file knows the processor's calls.
pub(super) fn supported() -> bool {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: only reads `action`, which lives until the call is over.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    };
    answer == 0 && ARCHITECTURE.is_some()
}

/// Filters the calls of this thread and of all that it starts. `gpu`: it may drive graphics
/// processors. `start`: it may begin another program, by a call with these arguments.
pub(super) fn restrict(
    role: Role,
    gpu: bool,
    start: Option<super::program::Start>,
) -> Result<(), EnterError> {
    let program = program(role, gpu, start)?;
    // Without the right to gain rights, anybody may filter itself.
    nix::sys::prctl::set_no_new_privs().map_err(EnterError::Install)?;
    install(&program).map_err(EnterError::Install)
}

fn program(
    role: Role,
    gpu: bool,
    start: Option<super::program::Start>,
) -> Result<BpfProgram, BackendError> {
    let engine = role == Role::Engine;
    let scratch = [SCRATCH, SCRATCH_OLD].into_iter().filter(|_| engine);
    let plain = [ALLOWED, ALLOWED_OLD].into_iter().chain(scratch).flatten();
    let mut plain: BTreeSet<u32> = plain.map(|call| *call as u32).collect();
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();

    let own = u64::from(std::process::id());
    for (call, place) in OF_ITSELF {
        rules.insert(*call, vec![one(*place, own)?, one(*place, 0)?]);
    }
    for (call, kind) in [
        (libc::SYS_setpriority, u64::from(libc::PRIO_PROCESS)),
        (libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS),
    ] {
        let of = |who| SeccompRule::new(vec![is(0, kind)?, is(1, who)?]);
        rules.insert(call, vec![of(own)?, of(0)?]);
    }
    for call in SIGNALS {
        rules.insert(*call, vec![one(0, own)?]);
    }
    rules.insert(libc::SYS_clone, vec![thread()?]);
    if let Some(start) = start {
        let same = (0..).zip(start).map(|(i, at)| SeccompCondition::new(i, Qword, Eq, at));
        rules.insert(libc::SYS_execve, vec![SeccompRule::new(same.collect::<Result<_, _>>()?)?]);
    }
    rules.insert(libc::SYS_mmap, mappings(gpu)?);
    // To whom a socket leads is settled.
    let settled = SeccompCondition::new(4, Qword, Eq, 0)?;
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![settled])?]);
    let asked = u64::from(u32::MAX);
    rules.insert(libc::SYS_personality, vec![one(0, asked)?]);
    let each = |place, values: &mut dyn Iterator<Item = u64>| {
        values.map(|value| one(place, value)).collect::<Result<Vec<_>, _>>()
    };
    let unsigned = |value: &c_int| u64::from(value.cast_unsigned());
    rules.insert(libc::SYS_prctl, each(0, &mut PRCTL.iter().map(unsigned))?);
    let mut commands = each(1, &mut FCNTL.iter().map(unsigned))?;
    if gpu && engine {
        plain.insert(libc::SYS_flock as u32);
        commands.extend(each(1, &mut LOCKS.iter().map(unsigned))?);
    }
    rules.insert(libc::SYS_madvise, advice()?);
    // What is in memory of a file that all may read is no business of a process's.
    let kept_pages = SeccompCondition::new(3, Dword, Ne, libc::POSIX_FADV_DONTNEED as u64)?;
    rules.insert(libc::SYS_fadvise64, vec![SeccompRule::new(vec![kept_pages])?]);
    rules.insert(libc::SYS_preadv2, vec![one(5, 0)?]);
    let mut requests = each(1, &mut IOCTL.iter().map(|request| u64::from(*request as u32)))?;
    if gpu && engine {
        for letter in GPU_LETTERS {
            let driver = MaskedEq(0xff00);
            let request = SeccompCondition::new(1, Dword, driver, u64::from(*letter) << 8)?;
            requests.push(SeccompRule::new(vec![request])?);
        }
    }
    if role == Role::Referee {
        plain.insert(libc::SYS_memfd_create as u32);
        commands.push(one(1, unsigned(&libc::F_ADD_SEALS))?);
    }
    rules.insert(libc::SYS_fcntl, commands);
    rules.insert(libc::SYS_ioctl, requests);

    let denied = SeccompAction::Errno(libc::EACCES.cast_unsigned());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let known: BpfProgram =
        SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?.try_into()?;
    Ok([unknown(), allowed(&plain), known].concat())
}

const IOPRIO_WHO_PROCESS: u64 = 1;

fn is(place: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(place, Dword, Eq, value)
}

fn one(place: u8, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![is(place, value)?])
}

/// A thread, of this process and in its namespaces.
fn thread() -> Result<SeccompRule, BackendError> {
    let wanted = libc::CLONE_THREAD;
    let never = libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWUTS
        | libc::CLONE_PARENT
        | libc::CLONE_PIDFD
        | libc::CLONE_PTRACE
        | libc::CLONE_VFORK;
    let mask = u64::from((wanted | never).cast_unsigned());
    let wanted = u64::from(wanted.cast_unsigned());
    SeccompRule::new(vec![SeccompCondition::new(0, Dword, MaskedEq(mask), wanted)?])
}

/// Private memory, and files that several share. Neither stacks that grow down nor memory that is
/// shared without a file: the limit on memory does not count them. Graphics drivers need the
/// latter.
fn mappings(gpu: bool) -> Result<Vec<SeccompRule>, BackendError> {
    let kind = libc::MAP_TYPE | libc::MAP_GROWSDOWN;
    let of_file = if gpu { kind } else { kind | libc::MAP_ANONYMOUS };
    let rule = |mask: c_int, value: c_int| {
        let mask = MaskedEq(u64::from(mask.cast_unsigned()));
        let value = u64::from(value.cast_unsigned());
        SeccompRule::new(vec![SeccompCondition::new(3, Dword, mask, value)?])
    };
    Ok(vec![
        rule(kind, libc::MAP_PRIVATE)?,
        rule(of_file, libc::MAP_SHARED)?,
        rule(of_file, libc::MAP_SHARED_VALIDATE)?,
    ])
}

/// All advice about memory but to drop pages of files, which others may have in theirs (20 and 21),
/// and to share equal pages with other processes (12).
fn advice() -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |bounds: &[(SeccompCmpOp, u64)]| {
        let bounds = bounds.iter().cloned();
        let of = bounds.map(|(op, bound)| SeccompCondition::new(2, Dword, op, bound));
        SeccompRule::new(of.collect::<Result<_, _>>()?)
    };
    Ok(vec![rule(&[(Le, 11)])?, rule(&[(Ge, 13), (Le, 19)])?, rule(&[(Ge, 22)])?])
}

const fn step(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// Answers for calls from `first` to `last`.
fn between(first: u32, last: u32, answer: u32) -> [sock_filter; 3] {
    [
        step(libc::BPF_JMP | libc::BPF_K | libc::BPF_JGE, 0, 2, first),
        step(libc::BPF_JMP | libc::BPF_K | libc::BPF_JGT, 1, 0, last),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, answer),
    ]
}

/// The middle of the filter: what is allowed whatever its arguments, by ranges. The kernel works
/// out the answer for each call when it takes a filter, which takes milliseconds for a long one.
fn allowed(calls: &BTreeSet<u32>) -> BpfProgram {
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for call in calls {
        match ranges.last_mut() {
            Some(range) if *range.end() + 1 == *call => *range = *range.start()..=*call,
            _ => ranges.push(*call..=*call),
        }
    }
    let answers = ranges.iter().flat_map(|of| between(*of.start(), *of.end(), ALLOW));
    answers.collect()
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// The beginning of the filter: ENOSYS for what the rest of it does not know.
fn unknown() -> BpfProgram {
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let is_ours = libc::BPF_JMP | libc::BPF_K | libc::BPF_JEQ;
    let clone3 = libc::SYS_clone3 as u32;
    // `struct seccomp_data` begins with the call's number, then the architecture.
    let mut steps = vec![
        load(4),
        step(is_ours, 1, 0, ARCHITECTURE.unwrap_or(0)),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, UNKNOWN),
        load(0),
    ];
    for range in HOLES.iter().cloned().chain([clone3..=clone3, NEWEST + 1..=u32::MAX]) {
        steps.extend(between(*range.start(), *range.end(), UNKNOWN));
    }
    steps
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

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EACCES as u32;

    /// What the filter answers, worked out as the kernel does.
    fn answer(program: &BpfProgram, architecture: u32, call: u32, arguments: &[u64]) -> u32 {
        let word = |offset: u32| match offset {
            0 => call,
            4 => architecture,
            _ => {
                let argument = arguments.get((offset as usize - 16) / 8).copied().unwrap_or(0);
                (argument >> (offset % 8 * 8)) as u32
            }
        };
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            match step.code {
                0x20 => accumulator = word(step.k),
                0x54 => accumulator &= step.k,
                0x05 => at += step.k as usize,
                0x15 => at += jump(accumulator == step.k),
                0x25 => at += jump(accumulator > step.k),
                0x35 => at += jump(accumulator >= step.k),
                0x06 => return step.k,
                code => panic!("this filter has no step {code:#x}"),
            }
        }
    }

    #[track_caller]
    fn expect(role: Role, call: c_long, arguments: &[u64], expected: u32) {
        let program = program(role, false, None).unwrap();
        let ours = ARCHITECTURE.unwrap();
        let call = u32::try_from(call).unwrap();
        assert_eq!(answer(&program, ours, call, arguments), expected, "{call} {arguments:x?}");
    }

    /// A signal in place of flags stands for a process.
    #[test]
    fn threads_are_started_and_processes_are_not() {
        let thread = 0x3d_0f00;
        for role in [Role::Engine, Role::Referee] {
            expect(role, libc::SYS_clone, &[thread], ALLOW);
            for flags in [
                libc::SIGCHLD as u64,
                (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u64,
                thread | libc::CLONE_NEWNS as u64,
                thread | libc::CLONE_PTRACE as u64,
            ] {
                expect(role, libc::SYS_clone, &[flags], DENY);
            }
            expect(role, libc::SYS_execve, &[], DENY);
            expect(role, libc::SYS_clone3, &[], UNKNOWN);
        }
    }

    #[test]
    fn what_is_newer_or_of_another_processor_is_answered_as_by_an_older_kernel() {
        let program = program(Role::Engine, true, None).unwrap();
        let ours = ARCHITECTURE.unwrap();
        let getpid = libc::SYS_getpid as u32;
        assert_eq!(answer(&program, ours, getpid, &[]), ALLOW);
        assert_eq!(answer(&program, ours ^ 1, getpid, &[]), UNKNOWN);
        for call in [NEWEST + 1, 400, 0x4000_0000 | getpid, u32::MAX] {
            assert_eq!(answer(&program, ours, call, &[]), UNKNOWN, "{call}");
        }
    }

    #[test]
    fn a_process_changes_itself_and_no_other() {
        let own = u64::from(std::process::id());
        for (call, _) in OF_ITSELF {
            expect(Role::Engine, *call, &[0], ALLOW);
            expect(Role::Engine, *call, &[own], ALLOW);
            expect(Role::Engine, *call, &[own + 1], DENY);
        }
        expect(Role::Engine, libc::SYS_setpriority, &[0, own], ALLOW);
        expect(Role::Engine, libc::SYS_setpriority, &[1, own], DENY);
        expect(Role::Engine, libc::SYS_kill, &[own], ALLOW);
        expect(Role::Engine, libc::SYS_kill, &[0], DENY);
    }

    #[test]
    fn only_the_referee_makes_and_seals_memory_that_is_shared() {
        let shared = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64;
        let seals = libc::F_ADD_SEALS as u64;
        for (role, expected) in [(Role::Engine, DENY), (Role::Referee, ALLOW)] {
            expect(role, libc::SYS_memfd_create, &[], expected);
            expect(role, libc::SYS_fcntl, &[3, seals], expected);
            expect(role, libc::SYS_mmap, &[0, 4096, 3, shared], DENY);
            expect(role, libc::SYS_mmap, &[0, 4096, 3, libc::MAP_SHARED as u64], ALLOW);
        }
        expect(Role::Engine, libc::SYS_mkdirat, &[], ALLOW);
        expect(Role::Referee, libc::SYS_mkdirat, &[], DENY);
    }

    #[test]
    fn files_that_all_may_read_carry_nothing_from_one_process_to_another() {
        for advice in [0, 4, 8, 9, 14, 19, 22, 102] {
            expect(Role::Engine, libc::SYS_madvise, &[0, 4096, advice], ALLOW);
        }
        for advice in [12, 20, 21] {
            expect(Role::Engine, libc::SYS_madvise, &[0, 4096, advice], DENY);
        }
        expect(Role::Engine, libc::SYS_fadvise64, &[3, 0, 0, 2], ALLOW);
        expect(Role::Engine, libc::SYS_fadvise64, &[3, 0, 0, 4], DENY);
        expect(Role::Engine, libc::SYS_preadv2, &[3, 0, 1, 0, 0, 0], ALLOW);
        expect(Role::Engine, libc::SYS_preadv2, &[3, 0, 1, 0, 0, 8], DENY);
        expect(Role::Engine, libc::SYS_flock, &[3, 2], DENY);
        for command in LOCKS {
            expect(Role::Engine, libc::SYS_fcntl, &[3, *command as u64], DENY);
            let program = program(Role::Engine, true, None).unwrap();
            let call = libc::SYS_fcntl as u32;
            let with_gpu = answer(&program, ARCHITECTURE.unwrap(), call, &[3, *command as u64]);
            assert_eq!(with_gpu, ALLOW);
        }
    }

    #[test]
    fn a_socket_is_used_where_it_leads_already() {
        expect(Role::Engine, libc::SYS_sendto, &[3, 0x1000, 10], ALLOW);
        expect(Role::Engine, libc::SYS_sendto, &[3, 0x1000, 10, 0, 1 << 40, 16], DENY);
        for call in [libc::SYS_socket, libc::SYS_sendmsg, libc::SYS_recvmsg] {
            expect(Role::Engine, call, &[], DENY);
        }
    }
}
