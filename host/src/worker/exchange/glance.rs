//! The last frame of a side, in memory that both share, for the other side where that waits awake: a word of
//! memory is seen to change in a fraction of a microsecond, a message of a socket in several.
//!
//! It is a copy. Every frame goes through the socket as well, which wakes who sleeps, so that nothing
//! depends on who looks when.

use super::area::{AreaError, NOTICED};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::{NonNull, copy_nonoverlapping};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a frame that is copied; a longer one goes through the socket alone.
const SHORT: usize = 240;
/// Looks between two at the clock: some microseconds.
const LOOKS: usize = 64;

/// What lies at the start of an area.
#[repr(C)]
struct Slot {
    /// Of the frame; written last.
    number: AtomicU64,
    length: AtomicU64,
    text: UnsafeCell<[u8; SHORT]>,
}

/// The first bytes of an area, which no value and no output ever takes.
#[derive(Debug)]
pub(super) struct Glance {
    slot: NonNull<c_void>,
}

// SAFETY: plain memory that stays mapped as long as this lives.
unsafe impl Send for Glance {}

impl Glance {
    /// That of the area `file`, which this side writes, or only reads.
    pub(super) fn map(file: impl AsFd, writes: bool) -> Result<Self, AreaError> {
        let mut access = ProtFlags::PROT_READ;
        access.set(ProtFlags::PROT_WRITE, writes);
        // SAFETY: fresh pages, wherever the kernel likes.
        let slot = unsafe { mmap(None, BYTES, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Glance { slot })
    }

    fn slot(&self) -> &Slot {
        // SAFETY: mapped and page-aligned; any bits are a slot, and all of it may change.
        unsafe { self.slot.cast().as_ref() }
    }

    /// Shows frame `number`, of the side that writes.
    pub(super) fn show(&self, number: u64, text: &[u8]) {
        if text.len() > SHORT {
            return;
        }
        let slot = self.slot();
        // SAFETY: so many bytes are mapped for this side to write, and the other side reads them when it sees
        // the number.
        unsafe { copy_nonoverlapping(text.as_ptr(), slot.text.get().cast(), text.len()) };
        slot.length.store(text.len() as u64, Ordering::Relaxed);
        slot.number.store(number, Ordering::Release);
    }

    /// Waits for frame `number` without sleeping and copies it into `text`; false where it has not come
    /// after so long.
    pub(super) fn see(&self, number: u64, at_most: Duration, text: &mut Vec<u8>) -> bool {
        let (slot, begun) = (self.slot(), Instant::now());
        loop {
            for _ in 0..LOOKS {
                if slot.number.load(Ordering::Acquire) == number {
                    let length = slot.length.load(Ordering::Relaxed).min(SHORT as u64) as usize;
                    text.resize(length, 0);
                    // SAFETY: so many bytes are mapped; any bits are a byte, and what another thread of the
                    // other side does to them meanwhile can only spoil its own frame.
                    unsafe {
                        copy_nonoverlapping(slot.text.get().cast(), text.as_mut_ptr(), length)
                    };
                    return true;
                }
                std::hint::spin_loop();
            }
            if begun.elapsed() > at_most {
                return false;
            }
            // Another cell's thread may need this processor more.
            std::thread::yield_now();
        }
    }
}

impl Drop for Glance {
    fn drop(&mut self) {
        // SAFETY: what `map` mapped, which nothing outlives.
        let _ = unsafe { munmap(self.slot, BYTES.get()) };
    }
}

/// Bytes that are mapped.
const BYTES: NonZeroUsize = NonZeroUsize::new(NOTICED).unwrap();
const _: () = assert!(size_of::<Slot>() <= NOTICED);
