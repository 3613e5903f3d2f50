//! Eight values at a time, four to a 64-bit word: `bits` bytes, whatever the width.

/// Bytes of the window through which eight values are read or written, at most 16 of which are theirs.
const WINDOW: usize = 16;

/// As [`pack`](super::pack) for lengths that were checked.
#[inline(always)]
pub(super) fn pack(values: &[u16], bits: u32, out: &mut [u8]) {
    let (eights, rest) = values.as_chunks::<8>();
    let width = bits as usize;
    for (i, eight) in eights.iter().enumerate() {
        put(eight, bits, &mut out[i * width..], width);
    }
    if !rest.is_empty() {
        let mut eight = [0; 8];
        eight[..rest.len()].copy_from_slice(rest);
        let out = &mut out[eights.len() * width..];
        let len = out.len();
        put(&eight, bits, out, len);
    }
}

/// Writes the first `len` bytes of eight values to the start of `out`. What follows there may be
/// overwritten, since what follows is written later.
#[inline(always)]
fn put(eight: &[u16; 8], bits: u32, out: &mut [u8], len: usize) {
    if let Some(window) = out.first_chunk_mut() {
        join(eight, bits, window);
    } else {
        let mut window = [0; WINDOW];
        join(eight, bits, &mut window);
        out[..len].copy_from_slice(&window[..len]);
    }
}

/// As [`unpack`](super::unpack) for lengths that were checked.
#[inline(always)]
pub(super) fn unpack(bytes: &[u8], bits: u32, values: &mut [u16]) {
    let (eights, rest) = values.as_chunks_mut::<8>();
    let width = bits as usize;
    for (i, eight) in eights.iter_mut().enumerate() {
        *eight = get(&bytes[i * width..], bits);
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&get(&bytes[eights.len() * width..], bits)[..rest.len()]);
    }
}

/// The eight values at the start of `bytes`, which may end within them.
#[inline(always)]
fn get(bytes: &[u8], bits: u32) -> [u16; 8] {
    if let Some(window) = bytes.first_chunk() {
        split(window, bits)
    } else {
        let mut window = [0; WINDOW];
        window[..bytes.len()].copy_from_slice(bytes);
        split(&window, bits)
    }
}

/// Where the second four of eight values begin: a byte, and a bit within it, 0 or 4.
#[inline(always)]
fn second_half(bits: u32) -> (usize, u32) {
    ((bits / 2) as usize, bits % 2 * 4)
}

#[inline(always)]
fn join(eight: &[u16; 8], bits: u32, window: &mut [u8; WINDOW]) {
    let (byte, bit) = second_half(bits);
    let [low, high] = [0, 4].map(|i| gather([0, 1, 2, 3].map(|j| eight[i + j]), bits));
    // For odd widths both halves have bits in the byte between them.
    let shared = if bit == 0 { 0 } else { low >> (4 * bits - bit) };
    window[..8].copy_from_slice(&low.to_le_bytes());
    window[byte..byte + 8].copy_from_slice(&(high << bit | shared).to_le_bytes());
}

#[inline(always)]
fn split(window: &[u8; WINDOW], bits: u32) -> [u16; 8] {
    let (byte, bit) = second_half(bits);
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| window[at + i]));
    let ([a, b, c, d], [e, f, g, h]) =
        (scatter(word(0), bits), scatter(word(byte) >> bit, bits));
    [a, b, c, d, e, f, g, h]
}

/// The lowest `bits` bits.
#[inline(always)]
fn low(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

/// Four values side by side: `Σ valueᵢ · 2^(i·bits)`.
#[inline(always)]
fn gather(four: [u16; 4], bits: u32) -> u64 {
    let mask = low(bits) * 0x0001_0001_0001_0001;
    let [a, b, c, d] = four.map(u64::from);
    let word = (a | b << 16 | c << 32 | d << 48) & mask;
    // Pairs, each in 32 bits; then the four.
    let pairs = low(bits) * 0x0000_0001_0000_0001;
    let word = word & pairs | word >> (16 - bits) & (pairs << bits);
    let half = low(2 * bits);
    word & half | word >> (32 - 2 * bits) & !half
}

/// The reverse of [`gather`]; bits above the four values are dropped.
#[inline(always)]
fn scatter(word: u64, bits: u32) -> [u16; 4] {
    let half = low(2 * bits);
    let word = word & half | (word & !half) << (32 - 2 * bits);
    let pairs = low(bits) * 0x0000_0001_0000_0001;
    let word = word & pairs | (word & (pairs << bits)) << (16 - bits);
    [word, word >> 16, word >> 32, word >> 48].map(|word| word as u16)
}
