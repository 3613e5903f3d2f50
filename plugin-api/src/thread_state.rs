//! What code leaves behind in the thread that ran it: how numbers are rounded, and on which
//! processors the thread may run. A library that changes either, in a constructor or in a call,
//! changes the caller's own arithmetic and speed, and that of every thread started later.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bits for as many processors as Linux can be built for.
const MASK_WORDS: usize = 128;

/// The state of the calling thread, to be put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadState {
    float: Float,
    processors: Option<Box<[u64; MASK_WORDS]>>,
}

/// What was not as it had been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Rounding, flush to zero or trapping of floating-point numbers.
    pub float: bool,
    /// The processors the thread may run on.
    pub processors: bool,
}

impl ThreadState {
    /// Of the calling thread.
    pub fn take() -> Self {
        ThreadState { float: Float::take(), processors: processors() }
    }

    /// Puts it back in the calling thread; answers what had changed.
    pub fn restore(&self) -> Change {
        let float = self.float.restore();
        let Some(mask) = &self.processors else { return Change { float, processors: false } };
        let changed = processors().is_some_and(|now| now != *mask);
        if changed {
            set_processors(mask);
        }
        Change { float, processors: changed }
    }
}

/// What the calls of a plugin have changed so far.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    float: AtomicBool,
    processors: AtomicBool,
}

impl Changed {
    pub(crate) fn note(&self, change: Change) {
        if change.float {
            self.float.store(true, Ordering::Relaxed);
        }
        if change.processors {
            self.processors.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn so_far(&self) -> Change {
        Change {
            float: self.float.load(Ordering::Relaxed),
            processors: self.processors.load(Ordering::Relaxed),
        }
    }
}

impl Change {
    /// True for no change at all.
    pub fn is_none(self) -> bool {
        self == Change::default()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.float, self.processors) {
            (true, true) => "the floating-point environment and the processors of its thread",
            (true, false) => "the floating-point environment",
            (false, true) => "the processors of its thread",
            (false, false) => "nothing",
        })
    }
}

/// The control bits of the floating-point units; what has happened (the sticky flags) is not part
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Float {
    #[cfg(target_arch = "x86_64")]
    sse: u32,
    #[cfg(target_arch = "x86_64")]
    x87: u16,
    #[cfg(target_arch = "aarch64")]
    fpcr: u64,
}

#[cfg(target_arch = "x86_64")]
impl Float {
    /// The sticky flags of MXCSR.
    const STICKY: u32 = 0x3f;

    /// Of the calling thread.
    pub(crate) fn take() -> Self {
        Float { sse: Self::mxcsr() & !Self::STICKY, x87: Self::x87_control() }
    }

    fn mxcsr() -> u32 {
        let mut sse = 0u32;
        // SAFETY: stores the register into `sse`.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut sse, options(nostack)) };
        sse
    }

    fn x87_control() -> u16 {
        let mut x87 = 0u16;
        // SAFETY: stores the control word into `x87`.
        unsafe { std::arch::asm!("fnstcw [{}]", in(reg) &raw mut x87, options(nostack)) };
        x87
    }

    /// Puts it back; answers whether it had changed.
    pub(crate) fn restore(self) -> bool {
        if self == Self::take() {
            return false;
        }
        let (sse, x87) = (self.sse, self.x87);
        // SAFETY: control bits that this thread had before, and no flag that is pending.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const sse, options(nostack)) };
        // SAFETY: any pending exception is cleared first, so that none is raised by this.
        unsafe {
            std::arch::asm!("fnclex", "fldcw [{}]", in(reg) &raw const x87, options(nostack))
        };
        true
    }
}

#[cfg(target_arch = "aarch64")]
impl Float {
    /// Of the calling thread.
    pub(crate) fn take() -> Self {
        let fpcr: u64;
        // SAFETY: reads a register.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack)) };
        Float { fpcr }
    }

    /// Puts it back; answers whether it had changed.
    pub(crate) fn restore(self) -> bool {
        if self == Self::take() {
            return false;
        }
        // SAFETY: the control bits that this thread had before.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) self.fpcr, options(nomem, nostack)) };
        true
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Float {
    /// Nothing that we know of.
    pub(crate) fn take() -> Self {
        Float {}
    }

    /// Nothing to put back.
    pub(crate) fn restore(self) -> bool {
        false
    }
}

#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn sched_getaffinity(pid: i32, size: usize, mask: *mut u64) -> i32;
    fn sched_setaffinity(pid: i32, size: usize, mask: *const u64) -> i32;
}

/// The processors the calling thread may run on; `None` where the system does not tell.
#[cfg(target_os = "linux")]
fn processors() -> Option<Box<[u64; MASK_WORDS]>> {
    let mut mask = Box::new([0; MASK_WORDS]);
    // SAFETY: 0 is the calling thread, and `mask` has the size that is told.
    let told = unsafe { sched_getaffinity(0, size_of_val(&*mask), mask.as_mut_ptr()) };
    (told == 0).then_some(mask)
}

#[cfg(target_os = "linux")]
fn set_processors(mask: &[u64; MASK_WORDS]) {
    // SAFETY: as above. A refusal (processors were taken away meanwhile) leaves things as they are.
    let _ = unsafe { sched_setaffinity(0, size_of_val(mask), mask.as_ptr()) };
}

#[cfg(not(target_os = "linux"))]
fn processors() -> Option<Box<[u64; MASK_WORDS]>> {
    None
}

#[cfg(not(target_os = "linux"))]
fn set_processors(_mask: &[u64; MASK_WORDS]) {}

/// Leaves the calling thread its first processor only.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn pin() {
    let all = processors().expect("Linux tells");
    let first = all.iter().position(|word| *word != 0).expect("a thread has processors");
    let mut one = Box::new([0; MASK_WORDS]);
    one[first] = 1 << all[first].trailing_zeros();
    set_processors(&one);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn flush_to_zero_is_put_back_and_told() {
        let before = ThreadState::take();
        let flushing = 0x9fc0u32;
        // SAFETY: masks all exceptions and flushes; restored below.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const flushing) };
        assert_eq!(before.restore(), Change { float: true, processors: false });
        assert_eq!(ThreadState::take(), before);
        assert!(before.restore().is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_was_pinned_gets_its_processors_back() {
        std::thread::spawn(|| {
            let before = ThreadState::take();
            pin();
            let alone = ThreadState::take() == before;
            assert_eq!(before.restore().processors, !alone);
            assert_eq!(ThreadState::take(), before);
        })
        .join()
        .unwrap();
    }
}
