//! Numbers of a file as f32.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The type of a file's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    Bf16,
    U8,
    I8,
}

impl Element {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 | Self::I8 => 1,
        }
    }

    /// As numpy calls it; the one that it does not know as its users do.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F64 => "f8",
            Self::F32 => "f4",
            Self::F16 => "f2",
            Self::Bf16 => "bf16",
            Self::U8 => "u1",
            Self::I8 => "i1",
        }
    }

    /// Converts `bytes` into as many values; `big` says the byte order.
    pub(super) fn convert(self, bytes: &[u8], big: bool, out: &mut [f32]) {
        fn each<const N: usize>(
            bytes: &[u8],
            big: bool,
            out: &mut [f32],
            from_le: impl Fn([u8; N]) -> f32,
        ) {
            for (x, raw) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
                let mut raw = *raw;
                if big {
                    raw.reverse();
                }
                *x = from_le(raw);
            }
        }
        match self {
            Self::F64 => each(bytes, big, out, |raw| f64::from_le_bytes(raw) as f32),
            Self::F32 => each(bytes, big, out, f32::from_le_bytes),
            Self::F16 => {
                // Through a slice: only there `half` uses the machine's conversion.
                let mut halves = [f16::ZERO; 256];
                for (out, bytes) in out.chunks_mut(256).zip(bytes.chunks(512)) {
                    let halves = &mut halves[..out.len()];
                    for (half, raw) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        let bits = u16::from_le_bytes(*raw);
                        *half = f16::from_bits(if big { bits.swap_bytes() } else { bits });
                    }
                    halves.convert_to_f32_slice(out);
                }
            }
            Self::Bf16 => each(bytes, big, out, |raw| bf16::from_le_bytes(raw).to_f32()),
            Self::U8 => each(bytes, big, out, |[raw]| f32::from(raw)),
            Self::I8 => each(bytes, big, out, |raw| f32::from(i8::from_le_bytes(raw))),
        }
    }
}
