//! Numbers below q in few bits: whole ones where q is a power of two, else digits of numbers to base q, as many
//! digits as 64 bits hold. That is at most 2.5 % above log₂ q bits each in long rows.

use vq_kernels::pack;

/// Numbers below `q`.
#[derive(Clone, Copy)]
pub(crate) struct Digits {
    pub(crate) q: u32,
}

impl Digits {
    /// Bits of `count` numbers.
    fn width(self, count: usize) -> u32 {
        let largest = u128::from(self.q).pow(count as u32) - 1;
        u128::BITS - largest.leading_zeros()
    }

    /// How many make a number of 64 bits.
    fn group(self) -> usize {
        let fits = |count: &usize| self.width(*count) <= 64;
        (1..=64).take_while(fits).last().unwrap_or(1)
    }

    /// Bytes of `count` numbers.
    pub(crate) fn bytes(self, count: usize) -> usize {
        if self.q.is_power_of_two() {
            return pack::packed_bytes(count, self.q.ilog2());
        }
        let group = self.group();
        let rest = if count.is_multiple_of(group) { 0 } else { self.width(count % group) as usize };
        (count / group * self.width(group) as usize + rest).div_ceil(8)
    }

    /// Writes `values` into `code`, [`bytes`](Self::bytes) long.
    pub(crate) fn pack(self, values: &[u16], code: &mut [u8]) {
        if self.q.is_power_of_two() {
            return pack::pack(values, self.q.ilog2(), code);
        }
        let (mut held, mut filled) = (0_u128, 0);
        let mut bytes = code.iter_mut();
        for digits in values.chunks(self.group()) {
            let add = |sum: u64, digit: &u16| sum * u64::from(self.q) + u64::from(*digit);
            held |= u128::from(digits.iter().rev().fold(0, add)) << filled;
            filled += self.width(digits.len());
            while filled >= 8 {
                bytes.next().into_iter().for_each(|byte| *byte = held as u8);
                (held, filled) = (held >> 8, filled - 8);
            }
        }
        bytes.for_each(|byte| (*byte, held) = (held as u8, 0));
    }

    /// Reads what [`pack`](Self::pack) wrote; any bytes give numbers below q.
    pub(crate) fn unpack(self, code: &[u8], values: &mut [u16]) {
        if self.q.is_power_of_two() {
            return pack::unpack(code, self.q.ilog2(), values);
        }
        let (mut held, mut filled) = (0_u128, 0);
        let mut bytes = code.iter();
        for digits in values.chunks_mut(self.group()) {
            let width = self.width(digits.len());
            while filled < width {
                held |= u128::from(bytes.next().copied().unwrap_or(0)) << filled;
                filled += 8;
            }
            let mut number = held & ((1 << width) - 1);
            (held, filled) = (held >> width, filled - width);
            for digit in digits {
                *digit = (number % u128::from(self.q)) as u16;
                number /= u128::from(self.q);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(q in 2_u32..=256, words in prop::collection::vec(any::<u32>(), 1..200)) {
            let digits = Digits { q };
            let values: Vec<u16> = words.iter().map(|word| (word % q) as u16).collect();
            let mut code = vec![0xA5; digits.bytes(values.len())];
            digits.pack(&values, &mut code);
            let mut back = vec![9; values.len()];
            digits.unpack(&code, &mut back);
            prop_assert_eq!(back, values);
        }
    }

    #[test]
    fn few_bits_are_lost() {
        for q in 2..=256_u32 {
            let (bytes, bits) = (Digits { q }.bytes(6400), f64::from(q).log2());
            assert!(bytes as f64 * 8.0 < 6400.0 * bits * 1.025 + 8.0, "{q}: {bytes}");
        }
        assert_eq!(Digits { q: 3 }.bytes(40), 8);
    }
}
