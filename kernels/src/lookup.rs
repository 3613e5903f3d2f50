//! Sums over packed codes by table: `out = Σⱼ table[j][codeⱼ]`, the scan of every product or additive
//! quantizer.
//!
//! Codes are packed as [`pack`](crate::pack) packs them. Where the bits of a code divide 8, the codes
//! that share a byte share one table of 256 entries, made once per query, so that a scan costs one
//! load per byte whatever the width: for 4-bit codes, half the loads. Other widths are unpacked on the
//! way.
//!
//! Additive quantizers also encode by tables: [`subtract_rows`].
//!
//! A sum is **defined** as the f32 sum over bytes in their order, the entry of a byte being the f32
//! sum over its codes in their order; for widths that do not divide 8, over codes in their order.

use ndarray::ArrayView2;

use crate::pack::packed_bytes;

/// Codes whose sums run side by side: additions of one sum wait for each other, those of
/// several do not.
const ROWS: usize = 4;

/// The tables of one query.
#[derive(Clone, Debug)]
pub struct Lookup {
    tables: Tables,
    width: usize,
}

#[derive(Clone, Debug)]
enum Tables {
    /// One table per byte.
    Bytes(Vec<[f32; 256]>),
    /// (count, 2^bits) entries.
    Codes { entries: Vec<f32>, bits: u32 },
}

impl Lookup {
    /// Tables for `count` codes of `bits` bits from `entries` (count, 2^bits).
    ///
    /// # Panics
    /// When `bits` is not in 1..=16 or `entries` has another length.
    #[must_use]
    pub fn new(entries: Vec<f32>, count: usize, bits: u32) -> Self {
        assert!((1..=16).contains(&bits), "{bits} bits, expected 1 to 16");
        assert_eq!(entries.len(), count << bits, "entries of {count} tables");
        let width = packed_bytes(count, bits);
        let tables = if 8 % bits == 0 {
            let per_byte = (8 / bits) as usize;
            let mask = (1 << bits) - 1;
            let byte = |entries: &[f32]| {
                std::array::from_fn(|byte| {
                    let codes = entries.chunks_exact(1 << bits).enumerate();
                    codes
                        .map(|(i, table)| table[(byte >> (i as u32 * bits)) & mask])
                        .reduce(|sum, entry| sum + entry)
                        .unwrap_or(0.0)
                })
            };
            Tables::Bytes(entries.chunks(per_byte << bits).map(byte).collect())
        } else {
            Tables::Codes { entries, bits }
        };
        Self { tables, width }
    }

    /// Writes the sum of every row of `codes` (n, ≥ width) into `sums` (n), where the first
    /// `packed_bytes(count, bits)` bytes of a row are its codes and the rest is not read.
    ///
    /// Single-threaded, O(n·count), allocates only where `codes` is not contiguous.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn sums(&self, codes: ArrayView2<'_, u8>, sums: &mut [f32]) {
        let (n, stride) = codes.dim();
        assert!(stride >= self.width, "{stride} bytes per row, expected {}", self.width);
        assert_eq!(n, sums.len(), "length of the sums");
        if self.width == 0 {
            return sums.fill(0.0);
        }
        let codes = codes.as_standard_layout();
        let codes = codes.as_slice().expect("the layout is standard");
        match &self.tables {
            Tables::Bytes(tables) => match tables.len() {
                4 => by_bytes::<4>(tables, codes, stride, sums),
                8 => by_bytes::<8>(tables, codes, stride, sums),
                16 => by_bytes::<16>(tables, codes, stride, sums),
                32 => by_bytes::<32>(tables, codes, stride, sums),
                _ => by_any_bytes(tables, codes, stride, sums),
            },
            Tables::Codes { entries, bits } => {
                for (row, sum) in codes.chunks_exact(stride).zip(sums) {
                    *sum = by_codes(entries, *bits, row);
                }
            }
        }
    }
}

/// Takes `rows`, each (n), from `sums` (n), one row after the other:
/// `sums ← (sums − rows[0]) − rows[1] − …`. O(n · rows), no allocation.
///
/// # Panics
/// When a row has another length.
pub fn subtract_rows(sums: &mut [f32], rows: &[&[f32]]) {
    for row in rows {
        assert_eq!(row.len(), sums.len(), "length of a row");
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: AVX-512F was detected on the line above.
        return unsafe { subtract_avx512(sums, rows) };
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected on the line above.
        return unsafe { subtract_avx2(sums, rows) };
    }
    subtract(sums, rows);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn subtract_avx512(sums: &mut [f32], rows: &[&[f32]]) {
    subtract(sums, rows);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn subtract_avx2(sums: &mut [f32], rows: &[&[f32]]) {
    subtract(sums, rows);
}

#[inline(always)]
fn subtract(sums: &mut [f32], rows: &[&[f32]]) {
    /// Sums that stay in registers while the rows pass by.
    const WIDE: usize = 64;
    let (chunks, rest) = sums.as_chunks_mut::<WIDE>();
    let done = chunks.len() * WIDE;
    for (c, sums) in chunks.iter_mut().enumerate() {
        let mut held = *sums;
        for row in rows {
            let row: &[f32; WIDE] = row[c * WIDE..].first_chunk().expect("the length was checked");
            for (sum, value) in held.iter_mut().zip(row) {
                *sum -= value;
            }
        }
        *sums = held;
    }
    for row in rows {
        for (sum, value) in rest.iter_mut().zip(&row[done..]) {
            *sum -= value;
        }
    }
}

/// Rows of a width known when compiled, so that the loop over bytes unrolls.
fn by_bytes<const W: usize>(tables: &[[f32; 256]], codes: &[u8], stride: usize, sums: &mut [f32]) {
    let tables: &[[f32; 256]; W] = tables.first_chunk().expect("W counts the tables");
    let (groups, rest) = sums.as_chunks_mut::<ROWS>();
    let (grouped, codes_rest) = codes.split_at(groups.len() * ROWS * stride);
    for (rows, sums) in grouped.chunks_exact(ROWS * stride).zip(groups) {
        let row = |i: usize| rows[i * stride..].first_chunk::<W>().expect("rows span the codes");
        let rows: [&[u8; W]; ROWS] = std::array::from_fn(row);
        let mut sum = [0.0; ROWS];
        for j in 0..W {
            for (sum, row) in sum.iter_mut().zip(rows) {
                *sum += tables[j][row[j] as usize];
            }
        }
        *sums = sum;
    }
    by_any_bytes(tables, codes_rest, stride, rest);
}

fn by_any_bytes(tables: &[[f32; 256]], codes: &[u8], stride: usize, sums: &mut [f32]) {
    let (groups, rest) = sums.as_chunks_mut::<ROWS>();
    let (grouped, codes_rest) = codes.split_at(groups.len() * ROWS * stride);
    for (rows, sums) in grouped.chunks_exact(ROWS * stride).zip(groups) {
        let rows: [&[u8]; ROWS] = std::array::from_fn(|i| &rows[i * stride..][..tables.len()]);
        let mut sum = [0.0; ROWS];
        for (j, table) in tables.iter().enumerate() {
            for (sum, row) in sum.iter_mut().zip(rows) {
                *sum += table[row[j] as usize];
            }
        }
        *sums = sum;
    }
    for (row, sum) in codes_rest.chunks_exact(stride).zip(rest) {
        *sum = tables.iter().zip(row).fold(0.0, |sum, (table, byte)| sum + table[*byte as usize]);
    }
}

fn by_codes(entries: &[f32], bits: u32, row: &[u8]) -> f32 {
    let mask = (1_u64 << bits) - 1;
    let (mut pending, mut held) = (0_u64, 0);
    let mut bytes = row.iter();
    let mut sum = 0.0;
    for table in entries.chunks_exact(1 << bits) {
        while held < bits {
            pending |= u64::from(*bytes.next().expect("rows span the codes")) << held;
            held += 8;
        }
        sum += table[(pending & mask) as usize];
        pending >>= bits;
        held -= bits;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::pack;
    use ndarray::Array2;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_width_sums_the_entries_of_its_codes(
            bits in 1_u32..=12,
            count in 0_usize..40,
            n in 0_usize..11,
            beside in 0_usize..5,
            seed in any::<u32>(),
        ) {
            let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16;
            // Whole numbers: the order of additions changes nothing, any sum is exact.
            let entries: Vec<f32> = (0..count << bits).map(|i| (noise(i) % 1000) as f32).collect();
            let width = packed_bytes(count, bits);
            let mut codes = Array2::from_elem((n, width + beside), 0xAA_u8);
            let mut expected = vec![0.0; n];
            for (i, mut row) in codes.outer_iter_mut().enumerate() {
                let values: Vec<u16> = (0..count)
                    .map(|j| (noise(77 * i + 1001 * j) & ((1 << bits) - 1)) as u16)
                    .collect();
                expected[i] = values.iter().enumerate().map(|(j, v)| entries[(j << bits) + *v as usize]).sum();
                pack(&values, bits, &mut row.as_slice_mut().unwrap()[..width]);
            }
            let lookup = Lookup::new(entries, count, bits);
            let mut sums = vec![9.0; n];
            lookup.sums(codes.view(), &mut sums);
            prop_assert_eq!(&sums, &expected);
            let turned = codes.t().as_standard_layout().into_owned();
            lookup.sums(turned.t(), &mut sums);
            prop_assert_eq!(&sums, &expected);
        }
    }

    #[test]
    fn rows_are_subtracted_in_their_order_at_every_width() {
        for n in [0, 1, 63, 64, 65, 256, 300] {
            let row = |seed: usize| -> Vec<f32> {
                (0..n).map(|i| ((i * seed) as f32 * 0.61).sin() * seed as f32).collect()
            };
            let rows = [row(3), row(5), row(11)];
            let expected: Vec<f32> =
                (0..n).map(|i| rows.iter().fold(row(7)[i], |sum, row| sum - row[i])).collect();
            let mut sums = row(7);
            subtract_rows(&mut sums, &rows.each_ref().map(Vec::as_slice));
            assert_eq!(sums, expected);
        }
    }

    #[test]
    fn a_sum_does_not_depend_on_its_neighbours() {
        let entries: Vec<f32> = (0..8 << 8).map(|i| (i as f32 * 0.37).sin()).collect();
        let codes = Array2::from_shape_fn((37, 8), |(i, j)| (i * 91 + j * 53) as u8);
        let lookup = Lookup::new(entries, 8, 8);
        let mut together = [0.0; 37];
        lookup.sums(codes.view(), &mut together);
        for (i, sum) in together.iter().enumerate() {
            let mut alone = [0.0];
            lookup.sums(codes.slice(ndarray::s![i..=i, ..]), &mut alone);
            assert_eq!(alone[0].to_bits(), sum.to_bits());
        }
    }
}
