//! The order that a search answers in.

use crate::Metric;
use crate::abi::SEARCH_NONE;
use std::cmp::Ordering;

/// A place of a search's answer that holds what it may not.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Misplaced {
    /// Neither a row of the block nor, behind the last of its codes, empty.
    #[error("place {place} of {n} codes holds row {id}")]
    NoRow {
        /// From 0.
        place: usize,
        /// Codes of the block.
        n: usize,
        /// What the place holds.
        id: u64,
    },
    /// Behind the last code of the block, where a place is empty.
    #[error("place {place} of {n} codes holds row {id} and estimate {estimate}, expected none")]
    NotEmpty {
        /// From 0.
        place: usize,
        /// Codes of the block.
        n: usize,
        /// What the place holds.
        id: u64,
        /// What the place holds.
        estimate: f32,
    },
    /// A row that an earlier place holds.
    #[error("row {id} is found twice")]
    Twice {
        /// The row.
        id: u64,
    },
    /// NaN or infinite.
    #[error("the estimate of row {id} is {estimate}")]
    NotFinite {
        /// The row.
        id: u64,
        /// Its estimate.
        estimate: f32,
    },
    /// Better than the one before it, or as good and of a lower row.
    #[error("place {place} is nearer than the one before it, or as near and of a lower row")]
    Order {
        /// From 0.
        place: usize,
    },
}

impl Misplaced {
    /// The first place of one query's answer, `ids` and `estimates` (k) of a block of `n` codes,
    /// that breaks the contract.
    pub fn first(metric: Metric, n: usize, ids: &[u64], estimates: &[f32]) -> Option<Self> {
        let mut before: Option<(f32, u64)> = None;
        for (place, (&id, &estimate)) in ids.iter().zip(estimates).enumerate() {
            if place >= n {
                if id != SEARCH_NONE || !estimate.is_nan() {
                    return Some(Misplaced::NotEmpty { place, n, id, estimate });
                }
                continue;
            }
            if id >= n as u64 {
                return Some(Misplaced::NoRow { place, n, id });
            }
            if !estimate.is_finite() {
                return Some(Misplaced::NotFinite { id, estimate });
            }
            if before.is_some_and(|before| !nearer(metric, before, (estimate, id)).is_lt()) {
                let twice = ids[..place].contains(&id);
                return Some(match twice {
                    true => Misplaced::Twice { id },
                    false => Misplaced::Order { place },
                });
            }
            before = Some((estimate, id));
        }
        // Equal rows with different estimates are in order and yet twice.
        let mut rows: Vec<u64> = ids.iter().copied().take(n).collect();
        rows.sort_unstable();
        let twice = rows.windows(2).find(|pair| pair[0] == pair[1]);
        twice.map(|pair| Misplaced::Twice { id: pair[0] })
    }
}

/// Which of two (estimate, row) a search names first: the nearer by `metric`, of equal ones the
/// lower row; NaN last. A total order.
pub fn nearer(metric: Metric, a: (f32, u64), b: (f32, u64)) -> Ordering {
    let by_estimate = match metric {
        Metric::L2 => a.0.partial_cmp(&b.0),
        Metric::Ip | Metric::Cosine => b.0.partial_cmp(&a.0),
    };
    let by_estimate = by_estimate.unwrap_or_else(|| a.0.is_nan().cmp(&b.0.is_nan()));
    by_estimate.then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_misplaced_answer_is_told() {
        let judge = |ids: &[u64], estimates: &[f32], n| {
            Misplaced::first(Metric::L2, n, ids, estimates).map(|found| found.to_string())
        };
        let none = SEARCH_NONE;
        assert_eq!(judge(&[4, 1, 2, 0], &[0.5, 1.0, 1.0, 3.0], 9), None);
        assert_eq!(
            judge(&[1, 0, none], &[-0.0, 0.0, f32::NAN], 2),
            Some("place 1 is nearer than the one before it, or as near and of a lower row".into())
        );
        assert_eq!(judge(&[0, 1, none], &[-0.0, 0.0, f32::NAN], 2), None);
        assert!(judge(&[9], &[0.0], 9).unwrap().contains("row 9"));
        assert!(judge(&[0, none], &[0.0, 1.0], 5).unwrap().contains("place 1 of 5"));
        assert!(judge(&[0, none], &[0.0, 1.0], 1).unwrap().contains("expected none"));
        assert!(judge(&[0, 0], &[0.0, 0.0], 5).unwrap().contains("row 0 is found twice"));
        assert!(judge(&[0, 3, 0], &[0.0, 1.0, 2.0], 5).unwrap().contains("row 0 is found twice"));
        assert!(judge(&[2, 1], &[1.0, f32::INFINITY], 5).unwrap().contains("inf"));
        let order = Misplaced::first(Metric::Ip, 5, &[2, 1], &[1.0, 2.0]);
        assert_eq!(order, Some(Misplaced::Order { place: 1 }));
        assert_eq!(Misplaced::first(Metric::Ip, 5, &[2, 1], &[2.0, 1.0]), None);
    }
}
