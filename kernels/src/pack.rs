//! Codes of 1 to 16 bits each, packed without gaps: `out = Σ valueᵢ · 2^(i·bits)`, little-endian.
//!
//! Value `i` takes the bits `i·bits ..` of the row, least significant first; the row ends at a
//! whole byte and the bits that remain there are zero. Five-bit codes take five bits.

/// Bytes that `count` values of `bits` bits take: `⌈count · bits / 8⌉`.
///
/// # Panics
/// When the number of bits does not fit a `usize`.
#[must_use]
pub fn packed_bytes(count: usize, bits: u32) -> usize {
    count.checked_mul(bits as usize).expect("the bits of one row fit a usize").div_ceil(8)
}

/// Packs `values` into `out`, which holds [`packed_bytes`]`(values.len(), bits)` bytes, all of
/// which are written. Bits of a value above `bits` are dropped.
///
/// # Panics
/// When `bits` is not in 1..=16 or `out` has another length.
pub fn pack(values: &[u16], bits: u32, out: &mut [u8]) {
    check(values.len(), bits, out.len());
    match bits {
        1 => {
            for (byte, eight) in out.iter_mut().zip(values.chunks(8)) {
                *byte = eight
                    .iter()
                    .enumerate()
                    .fold(0, |byte, (i, &value)| byte | (((value & 1) as u8) << i));
            }
        }
        4 => {
            let (pairs, last) = values.as_chunks::<2>();
            for (byte, [low, high]) in out.iter_mut().zip(pairs) {
                *byte = (low & 15) as u8 | ((high & 15) << 4) as u8;
            }
            if let ([value], Some(byte)) = (last, out.last_mut()) {
                *byte = (value & 15) as u8;
            }
        }
        8 => {
            for (byte, &value) in out.iter_mut().zip(values) {
                *byte = value as u8;
            }
        }
        16 => {
            for (bytes, value) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
        }
        _ => pack_any(values, bits, out),
    }
}

/// Unpacks `bytes`, as [`pack`] wrote them, into `values`.
///
/// # Panics
/// When `bits` is not in 1..=16 or `bytes` is not [`packed_bytes`]`(values.len(), bits)` long.
pub fn unpack(bytes: &[u8], bits: u32, values: &mut [u16]) {
    check(values.len(), bits, bytes.len());
    match bits {
        1 => {
            for (eight, &byte) in values.chunks_mut(8).zip(bytes) {
                for (i, value) in eight.iter_mut().enumerate() {
                    *value = u16::from(byte >> i & 1);
                }
            }
        }
        4 => {
            let (pairs, last) = values.as_chunks_mut::<2>();
            for ([low, high], &byte) in pairs.iter_mut().zip(bytes) {
                *low = u16::from(byte & 15);
                *high = u16::from(byte >> 4);
            }
            if let ([value], Some(&byte)) = (last, bytes.last()) {
                *value = u16::from(byte & 15);
            }
        }
        8 => {
            for (value, &byte) in values.iter_mut().zip(bytes) {
                *value = u16::from(byte);
            }
        }
        16 => {
            for (value, &bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = u16::from_le_bytes(bytes);
            }
        }
        _ => unpack_any(bytes, bits, values),
    }
}

fn check(count: usize, bits: u32, bytes: usize) {
    assert!((1..=16).contains(&bits), "{bits} bits, expected 1 to 16");
    assert_eq!(bytes, packed_bytes(count, bits), "length of {count} packed values of {bits} bits");
}

fn pack_any(values: &[u16], bits: u32, out: &mut [u8]) {
    let mask = (1_u64 << bits) - 1;
    let (mut pending, mut held) = (0_u64, 0);
    let mut out = out.iter_mut();
    for &value in values {
        pending |= (u64::from(value) & mask) << held;
        held += bits;
        while held >= 8 {
            *out.next().expect("the length was checked") = pending as u8;
            pending >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        *out.next().expect("the length was checked") = pending as u8;
    }
}

fn unpack_any(bytes: &[u8], bits: u32, values: &mut [u16]) {
    let mask = (1_u64 << bits) - 1;
    let (mut pending, mut held) = (0_u64, 0);
    let mut bytes = bytes.iter();
    for value in values {
        while held < bits {
            let byte = bytes.next().expect("the length was checked");
            pending |= u64::from(*byte) << held;
            held += 8;
        }
        *value = (pending & mask) as u16;
        pending >>= bits;
        held -= bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unpack_after_pack_is_the_identity(bits in 1_u32..=16, values in prop::collection::vec(any::<u16>(), 0..200)) {
            let mut packed = vec![0xAA; packed_bytes(values.len(), bits)];
            pack(&values, bits, &mut packed);
            let mut back = vec![0xAAAA; values.len()];
            unpack(&packed, bits, &mut back);
            let mask = ((1_u32 << bits) - 1) as u16;
            prop_assert_eq!(back, values.iter().map(|v| v & mask).collect::<Vec<_>>());
        }

        #[test]
        fn the_fast_widths_write_what_the_general_one_writes(values in prop::collection::vec(any::<u16>(), 0..200)) {
            for bits in [1, 4, 8, 16] {
                let mut fast = vec![0xAA; packed_bytes(values.len(), bits)];
                let mut general = fast.clone();
                pack(&values, bits, &mut fast);
                pack_any(&values, bits, &mut general);
                prop_assert_eq!(&fast, &general);
                let (mut a, mut b) = (vec![0; values.len()], vec![0; values.len()]);
                unpack(&fast, bits, &mut a);
                unpack_any(&fast, bits, &mut b);
                prop_assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn the_layout_never_changes() {
        let mut out = [0; 2];
        pack(&[0b10101, 0b00011, 0b11111], 5, &mut out);
        assert_eq!(out, [0b0111_0101, 0b0111_1100]);
        let mut out = [0; 2];
        pack(&[1, 2, 3], 4, &mut out);
        assert_eq!(out, [0x21, 0x03]);
        let mut out = [0; 2];
        pack(&[0x1234], 16, &mut out);
        assert_eq!(out, [0x34, 0x12]);
    }

    #[test]
    fn five_bit_codes_take_five_bits() {
        assert_eq!(packed_bytes(8, 5), 5);
        assert_eq!(packed_bytes(9, 5), 6);
        assert_eq!(packed_bytes(0, 5), 0);
    }

    #[test]
    #[should_panic(expected = "17 bits")]
    fn more_than_sixteen_bits_are_refused() {
        pack(&[], 17, &mut []);
    }
}
