//! What lies in the processor's caches.

/// Drops `values` from all caches of the machine, changes being written to memory first: whoever reads
/// them next finds them as cold as what was never read. Of lines at both ends all is dropped. False where
/// this machine does not offer that, and nothing was done then.
///
/// ```
/// let values = vec![1.0_f32; 1 << 16];
/// let cold = vq_kernels::cache::evict(&values);
/// assert_eq!(cold, cfg!(target_arch = "x86_64"));
/// assert!(values.iter().all(|value| *value == 1.0));
/// ```
#[must_use]
pub fn evict<T>(values: &[T]) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let (start, bytes) = (values.as_ptr().cast(), size_of_val(values));
        // Only one of the two instructions lets lines be dropped side by side: some fifty times as fast.
        if x86_64::many_at_once() {
            x86_64::each_line(start, bytes, x86_64::drop_line);
        } else {
            x86_64::each_line(start, bytes, x86_64::drop_line_in_order);
        }
        x86_64::wait();
        true
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = values;
        false
    }
}

/// Has `values`, which are needed soon, come into the caches meanwhile.
#[inline]
pub(crate) fn fetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86_64::each_line(values.as_ptr().cast(), size_of_val(values), x86_64::fetch_line);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __cpuid, __cpuid_count, _MM_HINT_T0, _mm_clflush, _mm_mfence, _mm_prefetch,
    };

    /// Bytes of a cache line.
    const LINE: usize = 64;

    /// Whether there is CLFLUSHOPT.
    pub(super) fn many_at_once() -> bool {
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx >> 23 & 1 == 1
    }

    #[inline(always)]
    pub(super) fn each_line(start: *const u8, bytes: usize, each: impl Fn(*const u8)) {
        if bytes == 0 {
            // Where nothing is, there may be no memory either.
            return;
        }
        let from = start.addr() % LINE;
        for at in (0..from + bytes).step_by(LINE) {
            each(start.wrapping_sub(from).wrapping_add(at));
        }
    }

    /// Until all that was dropped is gone.
    pub(super) fn wait() {
        // SAFETY: orders memory accesses, and is a part of every x86-64.
        unsafe { _mm_mfence() };
    }

    #[inline(always)]
    pub(super) fn fetch_line(line: *const u8) {
        // SAFETY: a hint, which faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }

    /// Only where there is CLFLUSHOPT.
    #[inline(always)]
    pub(super) fn drop_line(line: *const u8) {
        // SAFETY: no value changes by it, of a line that a caller has a reference into.
        unsafe { asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    pub(super) fn drop_line_in_order(line: *const u8) {
        // SAFETY: as in `drop_line`; it is a part of every x86-64.
        unsafe { _mm_clflush(line) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing_nothing_is_dropped_or_fetched() {
        // An empty vector points to no memory.
        assert_eq!(evict(&Vec::<f32>::new()), cfg!(target_arch = "x86_64"));
        fetch(&Vec::<f32>::new());
    }
}
