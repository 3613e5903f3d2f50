//! A program that a worker starts before it confines itself, and that is confined as it is: the
//! child that is to become it takes the same walls first.
//!
//! The filter then lets one call of `execve` through: the one with these three addresses, of
//! memory that is gone once the call has been made, at places that nobody was told.

use super::EnterError;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use std::ffi::{CString, c_char};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// Above what the program is given.
const ASIDE: RawFd = 64;

/// What is to be started, and what it gets.
#[derive(Debug)]
pub(crate) struct Program {
    /// The file, then its arguments, the name it is called by first.
    pub(crate) file: CString,
    pub(crate) arguments: Vec<CString>,
    /// `NAME=value`.
    pub(crate) environment: Vec<CString>,
    /// Become descriptors 3, 4 and so on.
    pub(crate) lent: Vec<OwnedFd>,
    /// What has to be executable for it: the file, and its loader.
    pub(crate) executable: Vec<PathBuf>,
}

/// The addresses of the only call that may start it.
pub(super) type Start = [u64; 3];

impl Program {
    /// Starts it, once `confine` has held the child, which this process, of one thread, makes.
    pub(crate) fn start(
        self,
        confine: impl FnOnce(Start) -> Result<(), EnterError>,
    ) -> Result<Pid, EnterError> {
        let unable = |what: &str, error: String| EnterError::Program(format!("{what}: {error}"));
        let list = |of: &[CString]| -> Vec<*const c_char> {
            of.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (arguments, environment) = (list(&self.arguments), list(&self.environment));
        let call =
            [self.file.as_ptr() as u64, arguments.as_ptr() as u64, environment.as_ptr() as u64];
        let (mut ear, mouth) = std::io::pipe().map_err(|e| unable("a pipe", e.to_string()))?;
        let parent = getpid();
        // SAFETY: this process has one thread, so that its child may do all that it may.
        let pid = match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => child,
            Ok(ForkResult::Child) => {
                let report = OwnedFd::from(mouth);
                let failed = arrange(&self.lent, &report, parent)
                    .map_err(|error| unable("its descriptors", error.to_string()))
                    .and_then(|()| confine(call))
                    .err()
                    .unwrap_or_else(|| {
                        // SAFETY: lists of texts that end with a null, alive during the call.
                        unsafe {
                            libc::execve(
                                self.file.as_ptr(),
                                arguments.as_ptr(),
                                environment.as_ptr(),
                            )
                        };
                        unable(&self.file.to_string_lossy(), Errno::last().to_string())
                    });
                let text = failed.to_string();
                // SAFETY: writes so many bytes of a text of ours; where moved to, by `arrange`.
                unsafe { libc::write(ASIDE, text.as_ptr().cast(), text.len()) };
                // SAFETY: ends the child; nothing of ours is left to clean up in it.
                unsafe { libc::_exit(1) }
            }
            Err(error) => return Err(unable("a process", error.to_string())),
        };
        drop(mouth);
        let mut report = String::new();
        // Ends when the program begins, which closes the pipe.
        ear.read_to_string(&mut report).map_err(|e| unable("its report", e.to_string()))?;
        if report.is_empty() { Ok(pid) } else { Err(EnterError::Program(report)) }
    }
}

/// Gives this process the program's descriptors, and what ends it with its parent.
fn arrange(lent: &[OwnedFd], report: &OwnedFd, parent: Pid) -> nix::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(Errno::ESRCH);
    }
    let aside = |fd: RawFd| {
        // SAFETY: takes numbers only; the answer is used below and closed with the program's start.
        Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, ASIDE + 1) })
    };
    let moved = lent.iter().map(|fd| aside(fd.as_raw_fd())).collect::<Result<Vec<_>, _>>()?;
    let null = File::open("/dev/null").map_err(|_| Errno::ENODEV)?;
    let onto = |from: RawFd, to: RawFd| {
        // SAFETY: what lay at `to` is nobody's any more in this child.
        Errno::result(unsafe { libc::dup2(from, to) }).map(drop)
    };
    onto(report.as_raw_fd(), ASIDE)?;
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::fcntl(ASIDE, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    onto(null.as_raw_fd(), 0)?;
    onto(2, 1)?;
    for (i, fd) in moved.iter().enumerate() {
        onto(*fd, 3 + i as RawFd)?;
    }
    // The kernel makes a process's own folder anew once nobody uses it, and the rule about it would
    // be about the old one: this stays open in the program.
    let mut others = 3 + lent.len() as RawFd;
    if let Ok(own) = File::open("/proc/self") {
        // Whatever has the number is the worker's, and must not stay there.
        onto(aside(own.as_raw_fd())?, others)?;
        others += 1;
    }
    // All others are closed when the program begins.
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number >= others) {
            // SAFETY: takes numbers only; one that is closed by now is no matter.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}
