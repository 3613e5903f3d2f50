//! Size: `bits_per_dim` = 8·code_bytes / d, `ratio` = 4d / code_bytes,
//! `ratio_amortised` = 4nd / (n·code_bytes + model_bytes), `ratio_source` = d·source_bits / (8·code_bytes).
//!
//! An original vector is d f32 values, 4d bytes. `code_bytes` are all bytes stored per
//! vector, per-vector scalars and padding included; the model's bytes (codebooks, rotation)
//! are shared by all vectors and therefore counted only in the amortised ratio, by what the method
//! states or what it saved, whichever is more.

/// Bytes of one f32.
const ORIGINAL_BYTES_PER_DIM: f64 = 4.0;

/// What a code costs to store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeMetrics {
    /// Stored bits per dimension.
    pub bits_per_dim: f64,
    /// Original bytes per stored byte; `None` for a code of no bytes, whose ratio is infinite.
    pub ratio: Option<f64>,
    /// The same with the model's bytes spread over the n vectors; `None` when the
    /// model's bytes are not known, or nothing at all is stored.
    pub ratio_amortised: Option<f64>,
}

impl SizeMetrics {
    /// The values that exist, under their metric names.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let mut named = vec![("bits_per_dim", self.bits_per_dim)];
        named.extend(self.ratio.map(|v| ("ratio", v)));
        named.extend(self.ratio_amortised.map(|v| ("ratio_amortised", v)));
        named
    }
}

/// The size of `n` codes of `code_bytes` each for vectors of `dim` dimensions, with a model of
/// `model_bytes` if that is known.
///
/// # Panics
/// When `dim` is 0: a prepared dataset has at least one dimension.
pub fn size(n: usize, dim: usize, code_bytes: usize, model_bytes: Option<usize>) -> SizeMetrics {
    assert!(dim > 0, "a vector has at least one dimension");
    let (rows, dims, bytes) = (n as f64, dim as f64, code_bytes as f64);
    let per_stored = |original: f64, stored: f64| (stored > 0.0).then(|| original / stored);
    SizeMetrics {
        bits_per_dim: 8.0 * bytes / dims,
        ratio: per_stored(ORIGINAL_BYTES_PER_DIM * dims, bytes),
        ratio_amortised: model_bytes.and_then(|model| {
            per_stored(ORIGINAL_BYTES_PER_DIM * rows * dims, rows * bytes + model as f64)
        }),
    }
}

/// What depends on the file that rows were read from: all else is equal where rows are.
pub const OF_SOURCE: [&str; 2] = ["source_bits_per_dim", "ratio_source"];

/// Bytes of an original vector of `dim` values as its source has them, `source_bits` each, for each byte of
/// a code of `code_bytes`; `None` for a code of no bytes, whose ratio is infinite.
pub fn ratio_source(source_bits: f64, dim: usize, code_bytes: usize) -> Option<f64> {
    (code_bytes > 0).then(|| source_bits * dim as f64 / (8.0 * code_bytes as f64))
}

#[cfg(test)]
mod tests {
    use super::{ratio_source, size};

    #[test]
    fn a_source_of_bytes_is_credited_with_bytes() {
        assert_eq!(ratio_source(8.0, 128, 128), Some(1.0));
        assert_eq!(ratio_source(32.0, 128, 8), size(1, 128, 8, None).ratio);
        assert_eq!(ratio_source(16.0, 3, 0), None);
    }

    #[test]
    fn eight_bytes_for_128_dimensions_are_half_a_bit_each() {
        let got = size(1_000_000, 128, 8, Some(131_072));
        assert_eq!(got.bits_per_dim, 0.5);
        assert_eq!(got.ratio, Some(64.0));
        assert_eq!(got.ratio_amortised, Some(512_000_000.0 / 8_131_072.0));
    }

    #[test]
    fn a_model_of_no_bytes_leaves_the_ratio_as_it_is() {
        let got = size(10, 3, 5, Some(0));
        assert_eq!(got.ratio, got.ratio_amortised);
        assert_eq!(got.bits_per_dim, 40.0 / 3.0);
    }

    #[test]
    fn an_unstated_model_has_no_amortised_ratio() {
        assert_eq!(size(10, 4, 4, None).ratio_amortised, None);
        assert_eq!(size(10, 4, 4, None).named().len(), 2);
    }

    #[test]
    fn a_code_of_no_bytes_has_no_finite_ratio() {
        let got = size(10, 4, 0, Some(16));
        assert_eq!((got.bits_per_dim, got.ratio), (0.0, None));
        assert_eq!(got.ratio_amortised, Some(10.0));
        assert_eq!(size(10, 4, 0, Some(0)).ratio_amortised, None);
    }
}
