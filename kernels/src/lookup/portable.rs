//! The reference: one load per byte of a code, for any machine.

use super::{BLOCK, Line};

/// Codes whose sums run side by side: additions of one sum wait for each other, those of
/// several do not.
const ABREAST: usize = 8;

/// The sums of blocks by one table per byte.
pub(super) fn sums(tables: &[[f32; 256]], lines: &[Line], sums: &mut [[f32; BLOCK]]) {
    for (lines, sums) in lines.chunks_exact(tables.len()).zip(sums) {
        for (i, sums) in sums.as_chunks_mut::<ABREAST>().0.iter_mut().enumerate() {
            let mut acc = [0.0; ABREAST];
            for (table, line) in tables.iter().zip(lines) {
                for (acc, byte) in acc.iter_mut().zip(&line.as_chunks::<ABREAST>().0[i]) {
                    *acc += table[usize::from(*byte)];
                }
            }
            *sums = acc;
        }
    }
}

/// The sum of code `i` of a block by one table per byte.
pub(super) fn sum_bytes(tables: &[[f32; 256]], lines: &[Line], i: usize) -> f32 {
    tables.iter().zip(lines).fold(0.0, |sum, (table, line)| sum + table[usize::from(line[i])])
}

/// The sum of code `i` of a block, for codes of any width, which may share bytes.
pub(super) fn sum_codes(entries: &[f32], bits: u32, lines: &[Line], i: usize) -> f32 {
    let mask = (1_u64 << bits) - 1;
    let (mut pending, mut held) = (0_u64, 0);
    let mut bytes = lines.iter().map(|line| line[i]);
    let mut sum = 0.0;
    for table in entries.chunks_exact(1 << bits) {
        while held < bits {
            pending |= u64::from(bytes.next().expect("lines span the codes")) << held;
            held += 8;
        }
        sum += table[(pending & mask) as usize];
        pending >>= bits;
        held -= bits;
    }
    sum
}
