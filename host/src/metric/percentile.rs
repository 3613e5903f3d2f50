//! Nearest-rank percentiles: the p-th of n sorted values is the ⌈p·n/100⌉-th smallest.
//!
//! Always a value that occurred, never an interpolation, so it does not depend on how a
//! library blends two neighbours; the median of an even count is its lower middle.

/// The `percent`-th nearest-rank percentile of `sorted` (ascending); `None` when it is empty.
///
/// 0 gives the smallest value, 100 the largest.
pub(super) fn nearest_rank<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    // Integer arithmetic: 0.95·20 in floating point is 19.000000000000004 on some paths.
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::nearest_rank;

    #[test]
    fn percentiles_are_the_textbook_nearest_ranks() {
        let sorted = [15, 20, 35, 40, 50];
        let got = [5, 30, 40, 50, 100].map(|p| nearest_rank(&sorted, p).unwrap());
        assert_eq!(got, [15, 20, 20, 35, 50]);
    }

    #[test]
    fn a_rank_that_is_whole_is_not_rounded_up() {
        let sorted: Vec<u32> = (1..=20).collect();
        assert_eq!(nearest_rank(&sorted, 95), Some(19));
        assert_eq!(nearest_rank(&sorted, 0), Some(1));
    }

    #[test]
    fn one_value_is_every_percentile_and_none_has_none() {
        assert_eq!(nearest_rank(&[7.0], 50), Some(7.0));
        assert_eq!(nearest_rank::<f64>(&[], 50), None);
    }
}
