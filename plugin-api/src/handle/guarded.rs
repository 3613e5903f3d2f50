//! Buffers that a caller lends for a plugin to fill, which show what was left unwritten and what was
//! written beside them.

use super::{Breach, CallError};

/// A buffer between guard zones, for a plugin to fill.
///
/// What is lent starts at a multiple of 64 bytes. A page of canaries lies before and behind it, so
/// that a write just beside it is told by name; where the system has pages that nobody may touch,
/// one of these comes next, and a write farther off ends the process there instead of spoiling
/// somebody's memory.
#[derive(Debug)]
pub struct Guarded<T> {
    pages: Pages,
    len: usize,
    canary: T,
}

impl<T: Copy + PartialEq> Guarded<T> {
    fn with_canary(canary: T) -> Self {
        let mut buffer = Guarded { pages: Pages::around(0), len: 0, canary };
        buffer.lend(0);
        buffer
    }

    /// Room for `len` values, each the canary, so that what is not written shows.
    ///
    /// The filling takes time; whoever times a call lends before the clock starts, and may lend
    /// the same values to any number of calls.
    pub fn lend(&mut self, len: usize) -> &mut [T] {
        self.lend_filled(len, self.canary)
    }

    /// The same with values of `filling`: a value that a call leaves as it was, whatever it was,
    /// is one that the call does not write.
    pub fn lend_filled(&mut self, len: usize, filling: T) -> &mut [T] {
        let bytes = len * size_of::<T>();
        if !self.pages.fit(bytes) {
            self.pages = Pages::around(bytes);
        }
        self.len = len;
        let (canary, zone) = (self.canary, self.zone());
        let all = self.all_mut();
        all[..zone].fill(canary);
        all[zone + len..].fill(canary);
        let lent = &mut all[zone..zone + len];
        lent.fill(filling);
        lent
    }

    /// The room that was lent last once more, for as many values, as the last call left it: nothing is filled.
    pub fn lend_again(&mut self) -> &mut [T] {
        let (zone, len) = (self.zone(), self.len);
        &mut self.all_mut()[zone..][..len]
    }

    /// The values that `function` made of what was lent.
    ///
    /// # Errors
    /// Something beside them was written.
    pub fn finish(&self, function: &'static str) -> Result<&[T], CallError> {
        let (head, rest) = self.all().split_at(self.zone());
        if head.iter().chain(&rest[self.len..]).any(|v| *v != self.canary) {
            let (breach, message) = (Breach::Output, "wrote outside its output".into());
            return Err(CallError::Broke { function, breach, message });
        }
        Ok(self.values())
    }

    /// What an untouched element holds.
    pub fn canary(&self) -> T {
        self.canary
    }

    /// The values as the last call left them.
    pub fn values(&self) -> &[T] {
        &self.all()[self.zone()..][..self.len]
    }

    /// Canaries before the first value.
    fn zone(&self) -> usize {
        self.pages.page / size_of::<T>()
    }

    fn all(&self) -> &[T] {
        let len = self.pages.len / size_of::<T>();
        // SAFETY: so many initialised bytes of ours, at a multiple of 64. A buffer is made for
        // bytes, floats and ids alone, of which any bits are one.
        unsafe { core::slice::from_raw_parts(self.pages.start.cast(), len) }
    }

    fn all_mut(&mut self) -> &mut [T] {
        let len = self.pages.len / size_of::<T>();
        // SAFETY: as above, and `&mut self` has them alone.
        unsafe { core::slice::from_raw_parts_mut(self.pages.start.cast(), len) }
    }
}

impl Guarded<u8> {
    /// An empty buffer for codes.
    pub fn codes() -> Self {
        Self::with_canary(0xA5)
    }
}

impl Guarded<f32> {
    /// An empty buffer for rows and estimates. The canary is a number no method returns.
    pub fn rows() -> Self {
        Self::with_canary(f32::from_bits(0x7E57_C0DE))
    }
}

impl Guarded<u64> {
    /// An empty buffer for ids. The canary is a row that no block has.
    pub fn ids() -> Self {
        Self::with_canary(0x7E57_C0DE_7E57_C0DE)
    }
}

/// A page for canaries, those of the values, a page for canaries.
#[derive(Debug)]
struct Pages {
    start: *mut u8,
    page: usize,
    len: usize,
}

// SAFETY: the memory belongs to this value alone, whichever thread has it.
unsafe impl Send for Pages {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Pages {}

impl Pages {
    /// Around `bytes` bytes of values, all zero.
    fn around(bytes: usize) -> Self {
        let page = system::page();
        let len = bytes.next_multiple_of(page) + 2 * page;
        Pages { start: system::take(len, page), page, len }
    }

    /// True if they are as many as they would be anew.
    fn fit(&self, bytes: usize) -> bool {
        bytes.next_multiple_of(self.page) + 2 * self.page == self.len
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: as they were taken, and no reference is left.
        unsafe { system::give_back(self.start, self.len, self.page) };
    }
}

/// Memory between two pages that nobody may touch.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod system {
    use core::ffi::c_void;

    const PROT_NONE: i32 = 0;
    const PROT_READ_WRITE: i32 = 3;
    const MAP_PRIVATE_ANONYMOUS: i32 = 0x22;
    const SC_PAGESIZE: i32 = 30;

    unsafe extern "C" {
        fn mmap(
            at: *mut c_void,
            len: usize,
            access: i32,
            flags: i32,
            fd: i32,
            from: i64,
        ) -> *mut c_void;
        fn mprotect(at: *mut c_void, len: usize, access: i32) -> i32;
        fn munmap(at: *mut c_void, len: usize) -> i32;
        safe fn sysconf(name: i32) -> i64;
    }

    pub(super) fn page() -> usize {
        usize::try_from(sysconf(SC_PAGESIZE)).unwrap_or(4096)
    }

    /// `len` bytes of zero, a multiple of `page`.
    pub(super) fn take(len: usize, page: usize) -> *mut u8 {
        let nowhere = core::ptr::null_mut();
        // SAFETY: new memory, wherever the system finds room.
        let mapped =
            unsafe { mmap(nowhere, len + 2 * page, PROT_NONE, MAP_PRIVATE_ANONYMOUS, -1, 0) };
        // MAP_FAILED is −1.
        assert_ne!(mapped.addr(), usize::MAX, "no memory for {len} bytes");
        let start = mapped.cast::<u8>().wrapping_add(page);
        // SAFETY: all but the first and the last page of what was mapped just now.
        let opened = unsafe { mprotect(start.cast(), len, PROT_READ_WRITE) };
        assert_eq!(opened, 0, "no memory for {len} bytes");
        start
    }

    /// # Safety
    /// `take` answered `start` for this `len` and `page`, and nothing refers to it any more.
    pub(super) unsafe fn give_back(start: *mut u8, len: usize, page: usize) {
        let mapped = start.wrapping_sub(page);
        // SAFETY: the whole of what `take` mapped, says the caller.
        unsafe { munmap(mapped.cast(), len + 2 * page) };
    }
}

/// Memory of the allocator's: there are canaries alone, which a write far off misses.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod system {
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

    pub(super) fn page() -> usize {
        4096
    }

    fn layout(len: usize, page: usize) -> Layout {
        Layout::from_size_align(len, page).expect("a page is a power of two")
    }

    /// `len` bytes of zero, a multiple of `page`.
    pub(super) fn take(len: usize, page: usize) -> *mut u8 {
        let layout = layout(len, page);
        // SAFETY: two pages at least.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() { handle_alloc_error(layout) } else { start }
    }

    /// # Safety
    /// `take` answered `start` for this `len` and `page`, and nothing refers to it any more.
    pub(super) unsafe fn give_back(start: *mut u8, len: usize, page: usize) {
        // SAFETY: says the caller.
        unsafe { dealloc(start, layout(len, page)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_lent_as_they_are_filled_and_come_back_as_written() {
        let mut buffer = Guarded::rows();
        let canary = buffer.canary();
        let room = buffer.lend(3);
        assert_eq!(room, [canary; 3]);
        assert_eq!(room.as_ptr().addr() % 64, 0);
        room[1] = 2.0;
        assert_eq!(buffer.finish("decompress").unwrap(), [canary, 2.0, canary]);
        assert_eq!(buffer.lend_again(), [canary, 2.0, canary]);
        assert_eq!(buffer.lend_filled(2, 7.0), [7.0; 2]);
        assert_eq!(buffer.lend(0), []);
        assert_eq!(buffer.lend(5000).len(), 5000);
        buffer.finish("decompress").unwrap();
    }

    #[test]
    fn a_write_beside_what_was_lent_is_told_with_the_functions_name() {
        for len in [10, 4096, 5000] {
            for beside in [-1, len, len + 4095] {
                let mut buffer = Guarded::codes();
                let lent = buffer.lend(len as usize).as_mut_ptr();
                let at = lent.wrapping_offset(beside);
                // SAFETY: in the page of canaries before or behind what was lent.
                unsafe { at.write(0) };
                let error = buffer.finish("compress").unwrap_err();
                assert_eq!(error.to_string(), "compress wrote outside its output");
            }
        }
    }

    /// Tells a child of the test below to write.
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    const FAR_OFF: &str = "VQ_GUARDED_WRITES_FAR_OFF";

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn a_write_far_off_ends_the_process() {
        use std::os::unix::process::ExitStatusExt;
        if std::env::var_os(FAR_OFF).is_some() {
            let mut buffer = Guarded::codes();
            let beyond = buffer.pages.start.wrapping_add(buffer.pages.len);
            buffer.lend(10);
            // SAFETY: none: this ends the process, which is what is tested.
            unsafe { beyond.write_volatile(0) };
            return;
        }
        let test = "handle::guarded::tests::a_write_far_off_ends_the_process";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(FAR_OFF, "1")
            // AddressSanitizer would take the signal and exit instead.
            .env("ASAN_OPTIONS", "handle_segv=0")
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(11), "{child:?}");
    }
}
