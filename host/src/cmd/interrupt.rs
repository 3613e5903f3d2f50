//! Signals that end a command: Ctrl-C, SIGTERM, and SIGHUP as a terminal closes.
//!
//! The first asks: what runs is recorded as cancelled, workers and their scratch folders go, the
//! screen is left clean. The second ends the process where it stands. A signal that was ignored as
//! the process started stays ignored: `nohup vq-host run …` means it.

use super::say;
use miette::IntoDiagnostic;
use nix::libc;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;
use vq_host::worker::supervise;

/// Set by the first signal; everything that waits looks at it.
pub(super) static CANCEL: AtomicBool = AtomicBool::new(false);
/// The first signal, or 0.
static CAME: AtomicI32 = AtomicI32::new(0);
/// Cells are running: their records come before the end, however long that takes.
static RECORDING: AtomicBool = AtomicBool::new(false);
/// The user was told.
static SAID: AtomicBool = AtomicBool::new(false);
/// For the command to end by itself, once no worker runs any more, and to take away what it has half
/// done: data is prepared in steps of less than that, but for a slow disk or very wide rows.
const GRACE: Duration = Duration::from_secs(3);

/// Begins to listen.
pub(super) fn listen() -> miette::Result<()> {
    let second = Arc::new(AtomicBool::new(false));
    let wanted: Vec<i32> =
        [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !ignored(*signal)).collect();
    for signal in &wanted {
        signal_hook::flag::register_conditional_shutdown(
            *signal,
            code(*signal),
            Arc::clone(&second),
        )
        .into_diagnostic()?;
    }
    let mut signals = Signals::new(&wanted).into_diagnostic()?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        second.store(true, Ordering::SeqCst);
        CAME.store(signal, Ordering::SeqCst);
        CANCEL.store(true, Ordering::SeqCst);
        supervise::ENDING.store(true, Ordering::SeqCst);
        if RECORDING.load(Ordering::SeqCst) {
            return;
        }
        while supervise::busy() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(GRACE);
        say_so("interrupted");
        std::process::exit(code(signal));
    });
    Ok(())
}

/// Clears the screen and says once that the user ended this.
pub(crate) fn say_so(text: &str) {
    if !SAID.swap(true, Ordering::SeqCst) {
        say::clear();
        say::line(text);
    }
}

/// The exit code of a process that ends by a signal, as shells have it.
fn code(signal: i32) -> i32 {
    128 + signal
}

/// With what to exit, if a signal came.
pub(crate) fn exit_code() -> Option<ExitCode> {
    match CAME.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(ExitCode::from(u8::try_from(code(signal)).unwrap_or(u8::MAX))),
    }
}

/// While it lives, the first signal leaves the end of the process to the command.
pub(super) struct Recording(());

impl Recording {
    pub(super) fn begin() -> Self {
        RECORDING.store(true, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDING.store(false, Ordering::SeqCst);
    }
}

/// Whether the process was started with `signal` ignored.
fn ignored(signal: i32) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes the present one, to where it is told.
    let told = unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: it succeeded, so it has written.
    told == 0 && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN
}
