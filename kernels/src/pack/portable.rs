//! Thirty-two values at a time: two to a 32-bit word, four to a 64-bit word, then words to bytes.
//! Plain loops, which the compiler vectorises. Whole bytes need no shifts: rows of few of them, the
//! most common codes there are, go straight.

use super::BLOCK;

/// Bytes through which a block is read or written: its own, 4 to 64 of them, and some that follow.
const WINDOW: usize = 64;

/// As [`pack`](super::pack) for lengths that were checked.
#[inline(always)]
pub(super) fn pack(values: &[u16], bits: u32, mut out: &mut [u8]) {
    if bits == 8 {
        return out.iter_mut().zip(values).for_each(|(byte, value)| *byte = *value as u8);
    }
    for values in values.chunks(BLOCK) {
        let fours = match values.first_chunk() {
            Some(block) => join(block, bits),
            None => {
                let mut block = [0; BLOCK];
                block[..values.len()].copy_from_slice(values);
                join(&block, bits)
            }
        };
        // Bytes beyond the block are overwritten by those that follow.
        if let Some(window) = out.first_chunk_mut() {
            put(&fours, bits, window);
        } else {
            let mut window = [0; WINDOW];
            put(&fours, bits, &mut window);
            out.copy_from_slice(&window[..out.len()]);
        }
        let width = out.len().min(BLOCK / 8 * bits as usize);
        out = &mut out[width..];
    }
}

/// As [`unpack`](super::unpack) for lengths that were checked.
#[inline(always)]
pub(super) fn unpack(mut bytes: &[u8], bits: u32, values: &mut [u16]) {
    if bits == 8 {
        return values.iter_mut().zip(bytes).for_each(|(value, byte)| *value = u16::from(*byte));
    }
    for values in values.chunks_mut(BLOCK) {
        let fours = match bytes.first_chunk() {
            Some(window) => get(window, bits),
            None => {
                let mut window = [0; WINDOW];
                window[..bytes.len()].copy_from_slice(bytes);
                get(&window, bits)
            }
        };
        match values.first_chunk_mut() {
            Some(block) => *block = split(&fours, bits),
            None => values.copy_from_slice(&split(&fours, bits)[..values.len()]),
        }
        bytes = &bytes[bytes.len().min(BLOCK / 8 * bits as usize)..];
    }
}

/// Four values to a word: `Σ valueᵢ · 2^(i·bits)`.
#[inline(always)]
fn join(block: &[u16; BLOCK], bits: u32) -> [u64; BLOCK / 4] {
    let value = |i: usize| u32::from(block[i]) & low(bits) as u32;
    let twos: [u32; BLOCK / 2] = std::array::from_fn(|i| value(2 * i) | value(2 * i + 1) << bits);
    std::array::from_fn(|i| u64::from(twos[2 * i]) | u64::from(twos[2 * i + 1]) << (2 * bits))
}

/// The reverse of [`join`]; bits above the four values are dropped.
#[inline(always)]
fn split(fours: &[u64; BLOCK / 4], bits: u32) -> [u16; BLOCK] {
    let mut twos = [0; BLOCK / 2];
    for (i, four) in fours.iter().enumerate() {
        twos[2 * i] = (four & low(2 * bits)) as u32;
        twos[2 * i + 1] = (four >> (2 * bits)) as u32;
    }
    let mut block = [0; BLOCK];
    for (i, two) in twos.iter().enumerate() {
        block[2 * i] = (two & low(bits) as u32) as u16;
        block[2 * i + 1] = (two >> bits & low(bits) as u32) as u16;
    }
    block
}

#[inline(always)]
fn put(fours: &[u64; BLOCK / 4], bits: u32, window: &mut [u8; WINDOW]) {
    let (byte, bit) = second_four(bits);
    for (i, [first, second]) in fours.as_chunks().0.iter().enumerate() {
        let out = &mut window[i * bits as usize..];
        // For odd widths both words have bits in the byte between them.
        let shared = if bit == 0 { 0 } else { first >> (4 * bits - bit) };
        out[..8].copy_from_slice(&first.to_le_bytes());
        out[byte..byte + 8].copy_from_slice(&(second << bit | shared).to_le_bytes());
    }
}

#[inline(always)]
fn get(window: &[u8; WINDOW], bits: u32) -> [u64; BLOCK / 4] {
    let (byte, bit) = second_four(bits);
    let word = |at: usize| {
        u64::from_le_bytes(*window[at..].first_chunk().expect("a block's words end in the window"))
    };
    let mut fours = [0; BLOCK / 4];
    for (i, fours) in fours.as_chunks_mut().0.iter_mut().enumerate() {
        let at = i * bits as usize;
        *fours = [word(at), word(at + byte) >> bit];
    }
    fours
}

/// Where the second four of eight values begin: a byte, and a bit within it, 0 or 4.
#[inline(always)]
fn second_four(bits: u32) -> (usize, u32) {
    ((bits / 2) as usize, bits % 2 * 4)
}

/// Ones in the lowest `bits` bits.
#[inline(always)]
fn low(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

/// As [`unpack_scaled`](super::unpack_scaled) for lengths that were checked.
#[inline(always)]
pub(super) fn unpack_scaled(bytes: &[u8], bits: u32, base: &[f32], step: &[f32], out: &mut [f32]) {
    /// A multiple of eight values takes whole bytes.
    const HELD: usize = 64;
    let lines = base.iter().zip(step);
    if bits == 8 {
        for ((out, byte), (base, step)) in out.iter_mut().zip(bytes).zip(lines) {
            *out = base + step * f32::from(*byte);
        }
        return;
    }
    let mut values = [0_u16; HELD];
    for ((out, bytes), (base, step)) in out
        .chunks_mut(HELD)
        .zip(bytes.chunks(HELD / 8 * bits as usize))
        .zip(base.chunks(HELD).zip(step.chunks(HELD)))
    {
        let values = &mut values[..out.len()];
        unpack(bytes, bits, values);
        for ((out, value), (base, step)) in out.iter_mut().zip(values).zip(base.iter().zip(step)) {
            // The conversion of a signed number is the cheap one.
            *out = base + step * (i32::from(*value) as f32);
        }
    }
}
