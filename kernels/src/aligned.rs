//! Tables that begin where a line of the cache begins.
//!
//! A `Vec<f32>` begins at a multiple of 4 bytes, mostly 16 bytes behind a line. Whoever then reads 64 bytes at a time
//! reads two lines each time, and how fast a loop is depends on what the process allocated before.

use std::ops::Deref;

/// Floats of a line: 64 bytes.
const LINE: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Floats that are read again and again, the first at a multiple of 64 bytes. It reads as a slice.
///
/// ```
/// use vq_kernels::Aligned;
///
/// let table = Aligned::from(&[1.0, 2.0, 3.0][..]);
/// assert_eq!(table[1..], [2.0, 3.0]);
/// assert!(table.as_ptr().addr().is_multiple_of(64));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl From<&[f32]> for Aligned {
    fn from(values: &[f32]) -> Self {
        let mut lines = Vec::with_capacity(values.len().div_ceil(LINE));
        for values in values.chunks(LINE) {
            let mut line = [0.0; LINE];
            line[..values.len()].copy_from_slice(values);
            lines.push(Line(line));
        }
        Aligned { lines, len: values.len() }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: lines follow each other without a gap, and hold at least so many floats.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_values_at_the_start_of_a_line() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let values: Vec<f32> = (0..len).map(|i| i as f32 - 3.5).collect();
            let table = Aligned::from(&values[..]);
            assert_eq!(*table, values[..]);
            assert_eq!(*table.clone(), values[..]);
            assert!(table.as_ptr().addr().is_multiple_of(64), "{len}");
        }
    }
}
