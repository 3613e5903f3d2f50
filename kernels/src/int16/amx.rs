//! Products of 8-bit integers by the matrix unit of newer Xeons (AMX): 16 rows meet 16 vectors in one instruction.
//!
//! The sums are those of `vpdpbusd`, eight times as many of them at a time. Rows and vectors are taken as they lie in
//! [`super::bytes`] and [`super::vnni`]: a register of the unit is 16 lines of at most 64 bytes at any distance.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{Lanes, TILE};

/// Rows that are multiplied at a time: lines of a register.
pub(super) const ROWS: usize = 16;

/// Fours of dimensions in a line.
const QUADS: usize = 16;

/// Per row the sums for the vectors of a tile.
pub(super) type Sums = [Lanes<i32>; ROWS];

/// The unit, set up in this thread for rows of so many dimensions; given up when dropped.
pub(super) struct Amx {
    /// Fours of dimensions.
    quads: usize,
    /// The set-up is the thread's.
    of_thread: PhantomData<*const ()>,
}

/// What `ldtilecfg` reads: bytes of a line and lines, of each register.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    line_bytes: [u16; 16],
    lines: [u8; 16],
}

const _: () = assert!(size_of::<Shapes>() == 64);

/// Fours of dimensions, `quads` or more, that fill whole lines.
pub(super) fn padded(quads: usize) -> usize {
    quads.next_multiple_of(QUADS)
}

impl Amx {
    /// `None` where this machine has no such unit, or the system does not lend it to this process.
    pub(super) fn new(quads: usize) -> Option<Self> {
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        if quads == 0 || !*AVAILABLE.get_or_init(available) {
            return None;
        }
        let mut shapes =
            Shapes { palette: 1, start: 0, reserved: [0; 14], line_bytes: [0; 16], lines: [0; 16] };
        shapes.line_bytes[..8].fill(4 * QUADS as u16);
        shapes.lines[..8].fill(ROWS as u8);
        // SAFETY: the unit is there, and these are 64 bytes of a shape that it knows.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, preserves_flags, readonly));
        }
        Some(Self { quads, of_thread: PhantomData })
    }

    /// Writes the products of the first of `rows`, each a number that is passed over and then its dimensions with
    /// a sign, with the vectors `x`, without one. Lines are whole: [`padded`] fours of `x` are zero behind its
    /// dimensions, and something lies behind the rows, which meets these zeros.
    pub(super) fn products(&self, rows: &[i32], x: &[Lanes<i32>], sums: &mut Sums) {
        let (width, lines) = (1 + self.quads, padded(self.quads));
        assert!(rows.len() >= (ROWS - 1) * width + 1 + lines, "rows, and something behind them");
        assert_eq!(x.len(), lines, "vectors in whole lines");
        // SAFETY: every line that is read is of 16 rows from behind the first number on, or vectors of one four of
        // dimensions; every line that is written is of `sums`. The registers were shaped by `new`, in this thread.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{row} + {width}]",
                "tileloadd tmm5, [{x} + {lanes}]",
                "tileloadd tmm6, [{x} + {lanes} + 64]",
                "tdpbsud tmm0, tmm4, tmm5",
                "tileloadd tmm7, [{x} + {lanes} + 128]",
                "tdpbsud tmm1, tmm4, tmm6",
                "tileloadd tmm5, [{x} + {lanes} + 192]",
                "tdpbsud tmm2, tmm4, tmm7",
                "tdpbsud tmm3, tmm4, tmm5",
                "add {row}, 64",
                "add {x}, {step}",
                "dec {left}",
                "jnz 2b",
                "tilestored [{sums} + {lanes}], tmm0",
                "tilestored [{sums} + {lanes} + 64], tmm1",
                "tilestored [{sums} + {lanes} + 128], tmm2",
                "tilestored [{sums} + {lanes} + 192], tmm3",
                row = inout(reg) rows[1..].as_ptr() => _,
                x = inout(reg) x.as_ptr() => _,
                left = inout(reg) lines / QUADS => _,
                width = in(reg) 4 * width,
                lanes = in(reg) size_of::<Lanes<i32>>(),
                sums = in(reg) sums.as_mut_ptr(),
                step = const QUADS * size_of::<Lanes<i32>>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Amx {
    fn drop(&mut self) {
        // Else the thread carries eight kilobytes more through every change of threads.
        // SAFETY: the unit is there.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

const _: () = assert!(size_of::<Lanes<i32>>() == 4 * TILE && TILE == 4 * QUADS);

/// Asks the processor, and Linux for leave to use it.
fn available() -> bool {
    #[cfg(not(target_os = "linux"))]
    return false;
    #[cfg(target_os = "linux")]
    {
        // Of leaf 7: the registers, and products of bytes.
        const UNIT: u32 = 1 << 24 | 1 << 25;
        const XSAVE: u32 = 1 << 27;
        // Both halves of the unit's state.
        const STATE: u64 = 3 << 17;
        let has = |leaf, bits, of: fn(std::arch::x86_64::CpuidResult) -> u32| {
            of(__cpuid_count(leaf, 0)) & bits == bits
        };
        if !has(1, XSAVE, |r| r.ecx) || !has(7, UNIT, |r| r.edx) {
            return false;
        }
        // SAFETY: the processor saves such state, so that it tells which.
        let saved = unsafe { _xgetbv(0) };
        saved & STATE == STATE && leave()
    }
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`: for the whole process, of Linux 5.16 and later.
#[cfg(target_os = "linux")]
fn leave() -> bool {
    let answer: i64;
    // SAFETY: the call touches no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inout("rax") 158_i64 => answer,
            in("rdi") 0x1023,
            in("rsi") 18,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_those_of_plain_integers(
            quads in 1_usize..70,
            seed in any::<u64>(),
        ) {
            let Some(amx) = Amx::new(quads) else {
                println!("skipped: this machine has no AMX, or does not lend it");
                return Ok(());
            };
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                (state >> 32) as i32
            };
            let rows: Vec<i32> = (0..ROWS * (1 + quads) + QUADS - 1).map(|_| next()).collect();
            let mut x: Vec<Lanes<i32>> =
                (0..quads).map(|_| Lanes(std::array::from_fn(|_| next()))).collect();
            x.resize(padded(quads), Lanes::default());
            let mut sums = [Lanes::default(); ROWS];
            amx.products(&rows, &x, &mut sums);
            for (row, sums) in rows.chunks_exact(1 + quads).zip(&sums) {
                for (vector, &sum) in sums.0.iter().enumerate() {
                    let products = row[1..].iter().zip(&x).flat_map(|(row, x)| {
                        let (row, x) = (row.to_le_bytes(), x.0[vector].to_le_bytes());
                        (0..4).map(move |i| i32::from(row[i] as i8) * i32::from(x[i]))
                    });
                    prop_assert_eq!(products.sum::<i32>(), sum);
                }
            }
        }
    }
}
