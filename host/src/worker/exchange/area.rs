//! Memory that two processes share: a few pages of a file without a name.
//!
//! ```text
//!            ┌ margin ┬───────────── room ─────────────┐
//! no access  │        │  …  zone │ output │ gap        │  no access
//!            └────────┴────────────────────────────────┘
//! ```
//!
//! An output begins at a multiple of 64 bytes and ends less than 64 bytes before the area does:
//! who writes past it meets the gap, which is compared, or the page behind, which ends the call.
//! Several outputs lie one before the other, each with a zone around it.

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rayon::prelude::*;
use std::ffi::c_void;
#[cfg(target_os = "linux")]
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

/// Bytes of values that one call takes or gives.
pub(crate) const ROOM: usize = 8 << 20;
/// Bytes before and between outputs that nobody may write.
const ZONE: usize = 4096;
/// Outputs begin at a multiple of this.
const ALIGNMENT: usize = 64;
/// The first bytes of an area, for [`super::glance`]: neither values nor outputs and their zones reach them.
pub(super) const NOTICED: usize = ZONE;
/// At most two outputs, with a zone before each and what alignment takes.
pub(crate) const MARGIN: usize = 4 * ZONE;
/// All of an area.
pub(crate) const AREA: usize = MARGIN + ROOM;
const BYTES: usize = AREA;
/// No access, before and behind.
const GUARD: usize = 1 << 16;
/// What lies where nobody may write.
const CANARY: u8 = 0xC5;
/// Bytes that are filled, compared or copied by one thread at a time.
const PIECE: usize = 1 << 18;
/// Values that are copied at a time where they are looked at once: they stay in the first-level cache.
const LITTLE: usize = 1 << 12;

/// The area that the referee writes.
pub(crate) const LENT: &str = "lent";
/// The area that the engine writes.
pub(crate) const FILLED: &str = "filled";

/// Why there is no area.
#[derive(Debug, thiserror::Error)]
#[error("memory to exchange values cannot be had: {0}")]
pub(crate) struct AreaError(#[from] io::Error);

impl AreaError {
    /// True if all memory was used up.
    pub(crate) fn no_memory(&self) -> bool {
        self.0.raw_os_error() == Some(libc::ENOMEM)
    }
}

impl From<nix::errno::Errno> for AreaError {
    fn from(error: nix::errno::Errno) -> Self {
        AreaError(error.into())
    }
}

/// Pages of `file` between pages without access.
#[derive(Debug)]
pub(crate) struct Area {
    /// The reservation: a guard, the pages, a guard.
    reserved: NonNull<c_void>,
    writable: bool,
}

// SAFETY: the pages are plain memory that stays mapped as long as the area lives.
unsafe impl Send for Area {}
// SAFETY: a shared area is only read; what writes takes it uniquely.
unsafe impl Sync for Area {}

impl Area {
    /// A file of an area's size without a name, for both sides to map.
    pub(crate) fn file(name: &str) -> Result<OwnedFd, AreaError> {
        #[cfg(target_os = "linux")]
        let file = {
            use nix::sys::memfd::{MFdFlags, memfd_create};
            let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
            File::from(memfd_create(name, flags)?)
        };
        #[cfg(not(target_os = "linux"))]
        let file = {
            let _ = name;
            tempfile::tempfile()?
        };
        file.set_len(BYTES as u64)?;
        Ok(file.into())
    }

    /// Maps `file`, for writing or for reading alone.
    pub(crate) fn map(file: impl AsFd, writable: bool) -> Result<Self, AreaError> {
        let none = ProtFlags::PROT_NONE;
        let all = NonZeroUsize::MIN.saturating_add(GUARD + BYTES + GUARD - 1);
        // SAFETY: a fresh reservation, wherever the kernel likes.
        let reserved = unsafe { mmap_anonymous(None, all, none, MapFlags::MAP_PRIVATE) }?;
        let area = Area { reserved, writable };
        let mut access = ProtFlags::PROT_READ;
        access.set(ProtFlags::PROT_WRITE, writable);
        let at = NonZeroUsize::new(area.start().addr().get());
        let bytes = NonZeroUsize::MIN.saturating_add(BYTES - 1);
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: replaces pages in the middle of our own reservation, which nobody uses yet.
        unsafe { mmap(at, bytes, access, flags, file, 0) }?;
        area.advise();
        Ok(area)
    }

    /// Keeps both processes to the size of `file`; `lent`: and nobody may map it for writing any
    /// more. Those who have done so already still write.
    pub(crate) fn seal(file: impl AsFd, lent: bool) -> Result<(), AreaError> {
        #[cfg(target_os = "linux")]
        {
            use nix::fcntl::{FcntlArg, SealFlag, fcntl};
            let mut seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
            if lent {
                // F_SEAL_FUTURE_WRITE, of Linux 5.1, which nix does not name.
                seals |= SealFlag::from_bits_retain(0x10);
            }
            fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (file, lent);
        Ok(())
    }

    /// Large pages, where the system has them for shared memory: whole blocks are walked.
    fn advise(&self) {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: only advice about our own pages.
            let _ = unsafe {
                nix::sys::mman::madvise(
                    self.start().cast(),
                    BYTES,
                    nix::sys::mman::MmapAdvise::MADV_HUGEPAGE,
                )
            };
        }
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: the guard is a part of the reservation.
        unsafe { self.reserved.byte_add(GUARD) }.cast()
    }

    /// A pointer to the bytes `range` of the room, for who checks the range.
    fn at(&self, range: &Range<usize>) -> NonNull<u8> {
        assert!(range.start <= range.end && range.end <= BYTES, "{range:?} lies in the area");
        // SAFETY: within the area, by the line above.
        unsafe { self.start().add(range.start) }
    }

    /// The addresses of its pages, and of the guard behind.
    pub(crate) fn addresses(&self) -> [Range<usize>; 2] {
        let start = self.start().addr().get();
        [start..start + BYTES, start + BYTES..start + BYTES + GUARD]
    }

    /// The first `len` values of the room, for the side that alone writes them. Of the referee's
    /// `lent`, and of the engine's `filled` while a call is under way.
    pub(crate) fn values<T: Plain>(&mut self, len: usize) -> &mut [T] {
        self.slice(MARGIN..MARGIN + len * size_of::<T>())
    }

    /// The values in `range`, as [`slots`] gave it.
    pub(crate) fn slice<T: Plain>(&mut self, range: Range<usize>) -> &mut [T] {
        assert!(self.writable, "the area is mapped for writing");
        let (start, len) = (self.at(&range), range.len() / size_of::<T>());
        // SAFETY: in the mapped area, at a multiple of 64 bytes; any bits are a value of T; the
        // contract of the two sides leaves this side the only writer, and `&mut self` the only user.
        unsafe { std::slice::from_raw_parts_mut(start.cast().as_ptr(), len) }
    }

    /// The values of two outputs.
    pub(crate) fn two<A: Plain, B: Plain>(
        &mut self,
        slots: &[Range<usize>],
    ) -> (&mut [A], &mut [B]) {
        assert!(slots.len() == 2 && slots[0].end <= slots[1].start, "two outputs apart");
        let all = self.slice::<u8>(slots[0].start..slots[1].end);
        let (first, second) = all.split_at_mut(slots[1].start - slots[0].start);
        let first = &mut first[..slots[0].len()];
        // SAFETY: at a multiple of 64 bytes; any bits are a value of A.
        let (_, first, _) = unsafe { first.align_to_mut() };
        // SAFETY: likewise.
        let (_, second, _) = unsafe { second.align_to_mut() };
        (first, second)
    }

    /// The first `len` values of the room, for the side that only reads them, while the other side
    /// waits for an answer.
    pub(crate) fn lent<T: Plain>(&self, len: usize) -> &[T] {
        let start = self.at(&(MARGIN..MARGIN + len * size_of::<T>()));
        // SAFETY: in the mapped area, page-aligned; any bits are a value of T.
        unsafe { std::slice::from_raw_parts(start.cast().as_ptr(), len) }
    }

    /// Copies the values in `range` out, in parallel, and hands each piece to `look` (the position
    /// of its first value, the copy). Only the copy is looked at: the other side may still write.
    pub(crate) fn copy<T: Plain>(
        &self,
        range: Range<usize>,
        out: &mut [T],
        look: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert_eq!(range.len(), size_of_val(out), "the copy has the size of what is copied");
        let start = Address(self.at(&range).as_ptr());
        let piece = PIECE / size_of::<T>();
        let copy = |(i, out): (usize, &mut [T])| {
            // SAFETY: within `range`, whose length `out` has.
            let from = unsafe { start.at().add(i * PIECE) };
            let to: *mut u8 = out.as_mut_ptr().cast();
            // SAFETY: `from` is mapped for `out`'s bytes, and no bits are wrong; what a writer on the
            // other side does meanwhile can only spoil its own values.
            unsafe { std::ptr::copy_nonoverlapping(from, to, size_of_val(out)) };
            look(i * piece, out);
        };
        // To wake another thread takes longer than to copy a little.
        match out.len() > piece {
            true => out.par_chunks_mut(piece).enumerate().for_each(copy),
            false => copy((0, out)),
        }
    }

    /// True if the values in `range` are `known`.
    pub(crate) fn is<T: Plain + PartialEq>(&self, range: Range<usize>, known: &[T]) -> bool {
        assert_eq!(range.len(), size_of_val(known), "as many values as are known");
        let mut pieces: Vec<_> = known.chunks(LITTLE).map(|known| (known, true)).collect();
        let (whole, rest) = pieces.split_at_mut(known.len() / LITTLE);
        let compare = |(known, same): &mut (&[T], bool), _: usize, copy: &mut [T]| {
            *same = *known == copy;
        };
        let end = range.start + whole.len() * LITTLE * size_of::<T>();
        self.copy_rows(range.start..end, whole, compare);
        self.copy_rows(end..range.end, rest, compare);
        pieces.into_iter().all(|(_, same)| same)
    }

    /// Copies the values in `range` out, row by row, one for each of `states`, and hands the pieces of a
    /// row to `look` one after the other (its state, the position of the first value, the copy). As
    /// [`copy`](Self::copy), but nothing is kept.
    pub(crate) fn copy_rows<T: Plain, S: Send>(
        &self,
        range: Range<usize>,
        states: &mut [S],
        look: impl Fn(&mut S, usize, &mut [T]) + Sync,
    ) {
        let width = range.len() / size_of::<T>() / states.len().max(1);
        assert_eq!(range.len(), states.len() * width * size_of::<T>(), "a row for each state");
        let start = Address(self.at(&range).as_ptr());
        let copy_row = |(row, state): (usize, &mut S)| {
            let mut copy = [T::default(); LITTLE];
            for from in (0..width).step_by(LITTLE) {
                let copy = &mut copy[..LITTLE.min(width - from)];
                let first = row * width + from;
                // SAFETY: within `range`, which has `states` rows of `width` values.
                let from = unsafe { start.at().add(first * size_of::<T>()) };
                let to: *mut u8 = copy.as_mut_ptr().cast();
                // SAFETY: as in `copy`.
                unsafe { std::ptr::copy_nonoverlapping(from, to, size_of_val(copy)) };
                look(state, first, copy);
            }
        };
        match range.len() > PIECE {
            true => states.par_iter_mut().enumerate().for_each(copy_row),
            false => states.iter_mut().enumerate().for_each(copy_row),
        }
    }

    /// Drops the first `bytes` bytes of the room from the processor's caches, for both sides; false where
    /// this machine does not offer that.
    pub(crate) fn evict_values(&self, bytes: usize) -> bool {
        vq_kernels::cache::evict::<u8>(self.lent(bytes))
    }

    /// The same for the bytes in `range`.
    pub(crate) fn evict(&self, range: &Range<usize>) -> bool {
        let start = self.at(range).as_ptr();
        // SAFETY: in the mapped area; no byte is read.
        let bytes: &[u8] = unsafe { std::slice::from_raw_parts(start, range.len()) };
        vq_kernels::cache::evict(bytes)
    }

    /// Puts canaries around the outputs `slots`, in ascending order.
    pub(crate) fn set_canaries(&mut self, slots: &[Range<usize>]) {
        for around in around(slots) {
            self.slice::<u8>(around).fill(CANARY);
        }
    }

    /// True if nobody wrote around the outputs `slots`.
    pub(crate) fn intact(&self, slots: &[Range<usize>]) -> bool {
        around(slots).into_iter().all(|around| {
            let mut copy = vec![0u8; around.len()];
            self.copy(around, &mut copy, |_, _| ());
            copy.iter().all(|byte| *byte == CANARY)
        })
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the whole reservation, which nothing outlives.
        let _ = unsafe { munmap(self.reserved, GUARD + BYTES + GUARD) };
    }
}

/// A pointer that other threads may follow.
#[derive(Clone, Copy)]
struct Address(*mut u8);

// SAFETY: whoever follows it says why it may.
unsafe impl Send for Address {}
// SAFETY: likewise.
unsafe impl Sync for Address {}

impl Address {
    fn at(self) -> *const u8 {
        self.0
    }
}

/// Numbers of which any bits are a value.
pub(crate) trait Plain: Copy + Default + Send + Sync + 'static {}
impl Plain for u8 {}
impl Plain for f32 {}
impl Plain for u64 {}

/// Where outputs of so many bytes lie in an area, in the same order: the last ends at its end.
/// `None` where they have no room.
pub(crate) fn slots(bytes: &[usize]) -> Option<Vec<Range<usize>>> {
    if bytes.iter().try_fold(0usize, |sum, bytes| sum.checked_add(*bytes))? > ROOM {
        return None;
    }
    let mut end = BYTES;
    let mut slots = Vec::with_capacity(bytes.len());
    for bytes in bytes.iter().rev() {
        let start = end.checked_sub(*bytes)? / ALIGNMENT * ALIGNMENT;
        slots.push(start..start + bytes);
        end = start.checked_sub(ZONE)?;
    }
    slots.reverse();
    Some(slots)
}

/// What lies before, between and behind `slots`.
fn around(slots: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut around = Vec::with_capacity(slots.len() + 1);
    let mut from = slots.first().map_or(BYTES, |first| first.start - ZONE);
    for slot in slots {
        around.push(from..slot.start);
        from = slot.end;
    }
    around.push(from..BYTES);
    around
}

/// Values of the engine's own that the plugin may only read: training rows, packed codes. Written
/// once, then read-only, with a page without access behind.
#[derive(Debug)]
pub(crate) struct Kept {
    pages: NonNull<c_void>,
    bytes: usize,
    mapped: usize,
}

// SAFETY: plain memory that stays mapped as long as this lives.
unsafe impl Send for Kept {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Kept {}

impl Kept {
    /// Room for `bytes` bytes, zero so far.
    pub(crate) fn new(bytes: usize) -> Result<Self, AreaError> {
        let mapped = (ZONE + bytes).next_multiple_of(GUARD) + GUARD;
        let length = NonZeroUsize::MIN.saturating_add(mapped - 1);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: fresh pages, wherever the kernel likes.
        let pages = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }?;
        let kept = Kept { pages, bytes, mapped };
        #[cfg(target_os = "linux")]
        {
            use nix::sys::mman::{MmapAdvise, madvise};
            // SAFETY: only advice about our own pages.
            let _ = unsafe { madvise(kept.pages, mapped - GUARD, MmapAdvise::MADV_HUGEPAGE) };
        }
        kept.protect(mapped - GUARD, GUARD, ProtFlags::PROT_NONE)?;
        Ok(kept)
    }

    /// The offset of the first byte: the last value ends where the pages do, but for alignment.
    fn offset(&self) -> usize {
        (self.mapped - GUARD - self.bytes) / ALIGNMENT * ALIGNMENT
    }

    fn protect(&self, from: usize, bytes: usize, access: ProtFlags) -> Result<(), AreaError> {
        // SAFETY: within the pages.
        let from = unsafe { self.pages.byte_add(from) };
        // SAFETY: our own pages; who still has a reference to them asks for no more than is left.
        unsafe { nix::sys::mman::mprotect(from, bytes, access) }?;
        Ok(())
    }

    /// All of it, for writing.
    pub(crate) fn write<T: Plain>(&mut self) -> &mut [T] {
        // SAFETY: within the pages.
        let start = unsafe { self.pages.byte_add(self.offset()) };
        // SAFETY: writable until `close`, which takes `self`; aligned to 64 bytes; any bits are a T.
        unsafe {
            std::slice::from_raw_parts_mut(start.cast().as_ptr(), self.bytes / size_of::<T>())
        }
    }

    /// The addresses of its pages, and of the guard behind.
    pub(crate) fn addresses(&self) -> [Range<usize>; 2] {
        let start = self.pages.addr().get();
        let end = start + self.mapped;
        [start..end - GUARD, end - GUARD..end]
    }

    /// Bytes before and behind the values, which nobody may write.
    fn around(&self) -> [Range<usize>; 2] {
        let start = self.offset();
        [start - ZONE..start, start + self.bytes..self.mapped - GUARD]
    }

    /// Puts canaries around the values.
    pub(crate) fn set_canaries(&mut self) {
        for around in self.around() {
            // SAFETY: within the pages.
            let from: NonNull<u8> = unsafe { self.pages.byte_add(around.start) }.cast();
            // SAFETY: so many bytes of our own pages, writable until `close`.
            unsafe { from.write_bytes(CANARY, around.len()) };
        }
    }

    /// True if nobody wrote around the values since [`Kept::set_canaries`].
    pub(crate) fn intact(&self) -> bool {
        self.around().into_iter().all(|around| {
            // SAFETY: within the pages.
            let from = unsafe { self.pages.byte_add(around.start) };
            // SAFETY: so many bytes of our own pages; any bits are a byte.
            let bytes = unsafe { std::slice::from_raw_parts(from.cast().as_ptr(), around.len()) };
            bytes.iter().all(|byte: &u8| *byte == CANARY)
        })
    }

    /// The same, read-only from now on.
    pub(crate) fn close(self) -> Result<Closed, AreaError> {
        self.protect(0, self.mapped - GUARD, ProtFlags::PROT_READ)?;
        Ok(Closed(self))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped, which nothing outlives.
        let _ = unsafe { munmap(self.pages, self.mapped) };
    }
}

/// [`Kept`] values that nobody can write any more.
#[derive(Debug)]
pub(crate) struct Closed(Kept);

impl Closed {
    /// All of it.
    pub(crate) fn read<T: Plain>(&self) -> &[T] {
        // SAFETY: within the pages.
        let start = unsafe { self.0.pages.byte_add(self.0.offset()) };
        // SAFETY: mapped, aligned to 64 bytes; any bits are a T.
        unsafe { std::slice::from_raw_parts(start.cast().as_ptr(), self.0.bytes / size_of::<T>()) }
    }

    /// As of [`Kept::addresses`].
    pub(crate) fn addresses(&self) -> [Range<usize>; 2] {
        self.0.addresses()
    }
}

/// The size of a page matters nowhere: guards are multiples of any that this is built for.
const _: () = assert!(GUARD.is_multiple_of(65536) && MARGIN.is_multiple_of(ZONE));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_values_nor_outputs_and_their_zones_reach_the_first_bytes() {
        for first in [0, 1, ALIGNMENT, ROOM / 2 + 1, ROOM - 1, ROOM] {
            let slots = slots(&[first, ROOM - first]).unwrap();
            assert!(around(&slots)[0].start >= NOTICED, "{first}");
        }
        const { assert!(MARGIN >= NOTICED) };
    }

    #[test]
    fn outputs_lie_apart_and_end_where_the_area_does() {
        assert_eq!(slots(&[ROOM]).unwrap()[0], MARGIN..BYTES);
        assert_eq!(slots(&[ROOM + 1]), None);
        assert_eq!(slots(&[usize::MAX, 2]), None);
        let two = slots(&[10, 100]).unwrap();
        assert_eq!(two[1], BYTES - 128..BYTES - 28);
        assert_eq!(two[0].len(), 10);
        assert!(two[0].end + ZONE <= two[1].start && two[0].start.is_multiple_of(ALIGNMENT));
        assert!(slots(&[ROOM / 2 + 1, ROOM / 2 - 1]).is_some());
        assert_eq!(slots(&[]), Some(vec![]));
    }

    #[test]
    fn what_one_side_writes_the_other_reads_and_writes_outside_show() {
        let file = Area::file(FILLED).unwrap();
        let mut engine = Area::map(&file, true).unwrap();
        let mut referee = Area::map(&file, true).unwrap();
        Area::seal(&file, false).unwrap();
        let out = slots(&[13, 40]).unwrap();
        referee.set_canaries(&out);
        engine.slice::<f32>(out[1].clone()).fill(1.5);
        let mut copy = vec![0f32; 10];
        referee.copy(out[1].clone(), &mut copy, |_, _| ());
        assert_eq!(copy, [1.5; 10]);
        let mut sums = [0.0, 0.0];
        referee.copy_rows(out[1].clone(), &mut sums, |sum, first, copy: &mut [f32]| {
            *sum += first as f32 + copy.iter().sum::<f32>();
        });
        assert_eq!(sums, [7.5, 12.5]);
        assert!(referee.is(out[1].clone(), &[1.5; 10]));
        assert!(!referee.is(out[1].clone(), &[[1.5; 9].as_slice(), &[2.5]].concat()));
        assert!(referee.intact(&out));
        let place = out[0].end;
        engine.slice::<u8>(place..place + 1).fill(0);
        assert!(!referee.intact(&out));
        engine.slice::<u8>(place..place + 1).fill(CANARY);
        engine.slice::<u8>(out[0].start - 1..out[0].start).fill(0);
        assert!(!referee.intact(&out));
    }

    #[test]
    fn rows_are_copied_in_pieces_up_to_the_end_of_the_area() {
        let file = Area::file(FILLED).unwrap();
        let mut area = Area::map(&file, true).unwrap();
        let width = 2 * LITTLE + 1;
        let out = slots(&[4 * 3 * width]).unwrap().pop().unwrap();
        let values = area.slice::<f32>(out.clone());
        values.iter_mut().zip(0_u16..).for_each(|(value, i)| *value = f32::from(i));
        let mut rows: [Vec<f32>; 3] = Default::default();
        area.copy_rows(out, &mut rows, |row, first, piece: &mut [f32]| {
            assert_eq!(piece[0], first as f32);
            row.extend_from_slice(piece);
        });
        let expected: Vec<f32> = (0_u16..).map(f32::from).take(3 * width).collect();
        assert_eq!(rows.concat(), expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_lent_cannot_be_mapped_for_writing_or_cut() {
        let file = Area::file(LENT).unwrap();
        let mut referee = Area::map(&file, true).unwrap();
        Area::seal(&file, true).unwrap();
        assert!(Area::map(&file, true).is_err());
        let engine = Area::map(&file, false).unwrap();
        referee.values::<f32>(3).copy_from_slice(&[1.0, 2.0, 3.0]);
        assert_eq!(engine.lent::<f32>(3), [1.0, 2.0, 3.0]);
        assert!(File::from(file).set_len(0).is_err());
    }

    #[test]
    fn kept_values_are_read_back() {
        for bytes in [0, 4, 4096, 100_000] {
            let mut kept = Kept::new(bytes).unwrap();
            kept.set_canaries();
            kept.write::<u8>().iter_mut().enumerate().for_each(|(i, v)| *v = i as u8);
            assert!(kept.intact());
            let closed = kept.close().unwrap();
            assert_eq!(closed.read::<u8>().len(), bytes);
            assert!(closed.read::<u8>().iter().enumerate().all(|(i, v)| *v == i as u8));
        }
    }
}
