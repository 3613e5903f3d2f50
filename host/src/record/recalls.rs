//! What each query found: the values whose mean is `recall@k`, kept so that two methods can be
//! compared query by query without the data.

use serde::{Deserialize, Serialize};

/// Of each query, how many of the k rows found are among its k nearest, ties counted; over k, that
/// is the query's `recall@k`, by the method's own scorer where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RecallsWire", into = "RecallsWire")]
pub struct QueryRecalls {
    k: u32,
    hits: Vec<u32>,
}

/// The JSON of [`QueryRecalls`]: a text, since a list would be a line for each query.
#[derive(Serialize, Deserialize)]
#[serde(rename = "QueryRecalls", deny_unknown_fields)]
struct RecallsWire {
    k: u32,
    hits: String,
}

/// Why recalls are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecallsError {
    /// A k of 0, of which there is no share.
    #[error("recall@0 is of nothing")]
    Zero,
    /// More hits than rows looked for.
    #[error("a query has {hits} of its {k} nearest")]
    TooMany {
        /// Its hits.
        hits: u32,
        /// What was looked for.
        k: u32,
    },
    /// A text that is not a list of numbers.
    #[error("`{text}` is not a number of hits")]
    NotANumber {
        /// The part of it that is none.
        text: String,
    },
    /// Packed bytes that are too many or too few.
    #[error("{bytes} bytes do not hold recall@{k} of {queries} queries")]
    Length {
        /// The k.
        k: u32,
        /// Queries.
        queries: usize,
        /// Bytes there are.
        bytes: usize,
    },
}

impl QueryRecalls {
    /// The hits of each query, in the order of the queries.
    ///
    /// # Errors
    /// [`RecallsError`] for a k of 0 or more than k hits.
    pub fn new(k: u32, hits: Vec<u32>) -> Result<Self, RecallsError> {
        if k == 0 {
            return Err(RecallsError::Zero);
        }
        match hits.iter().find(|hits| **hits > k) {
            Some(&hits) => Err(RecallsError::TooMany { hits, k }),
            None => Ok(Self { k, hits }),
        }
    }

    /// The k of `recall@k`.
    pub fn k(&self) -> u32 {
        self.k
    }

    /// Hits of each query, none more than k.
    pub fn hits(&self) -> &[u32] {
        &self.hits
    }

    /// Bits that a query takes: as many as k has.
    fn bits(k: u32) -> usize {
        (u32::BITS - k.leading_zeros()) as usize
    }

    fn bytes(k: u32, queries: usize) -> usize {
        (queries * Self::bits(k)).div_ceil(8)
    }

    /// All hits in ⌈log₂(k + 1)⌉ bits each, the lowest bit of the first query first.
    pub fn packed(&self) -> Vec<u8> {
        let bits = Self::bits(self.k);
        let mut bytes = Vec::with_capacity(Self::bytes(self.k, self.hits.len()));
        // Fewer than 8 bits, and the 32 of a number.
        let (mut waiting, mut there) = (0_u64, 0);
        for hits in &self.hits {
            waiting |= u64::from(*hits) << there;
            there += bits;
            while there >= 8 {
                bytes.push(waiting as u8);
                (waiting, there) = (waiting >> 8, there - 8);
            }
        }
        if there > 0 {
            bytes.push(waiting as u8);
        }
        bytes
    }

    /// The inverse of [`packed`](Self::packed), for `queries` queries.
    ///
    /// # Errors
    /// [`RecallsError`] for bytes that it does not make.
    pub fn unpacked(k: u32, queries: usize, bytes: &[u8]) -> Result<Self, RecallsError> {
        let wrong = || RecallsError::Length { k, queries, bytes: bytes.len() };
        let bits = Self::bits(k);
        if queries.checked_mul(bits).ok_or_else(wrong)?.div_ceil(8) != bytes.len() {
            return Err(wrong());
        }
        let (mut waiting, mut there) = (0_u64, 0);
        let mut bytes = bytes.iter();
        let hits = (0..queries).map(|_| {
            while there < bits {
                waiting |= u64::from(bytes.next().copied().unwrap_or(0)) << there;
                there += 8;
            }
            let hits = waiting & ((1 << bits) - 1);
            (waiting, there) = (waiting >> bits, there - bits);
            hits as u32
        });
        Self::new(k, hits.collect())
    }
}

impl TryFrom<RecallsWire> for QueryRecalls {
    type Error = RecallsError;

    fn try_from(wire: RecallsWire) -> Result<Self, RecallsError> {
        let hits = wire.hits.split_ascii_whitespace().map(|text| {
            text.parse().map_err(|_| RecallsError::NotANumber { text: text.to_owned() })
        });
        Self::new(wire.k, hits.collect::<Result<_, _>>()?)
    }
}

impl From<QueryRecalls> for RecallsWire {
    fn from(recalls: QueryRecalls) -> Self {
        let hits: Vec<String> = recalls.hits.iter().map(u32::to_string).collect();
        Self { k: recalls.k, hits: hits.join(" ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hits_are_packed_from_the_lowest_bit_on() {
        let of = |k, hits: &[u32]| QueryRecalls::new(k, hits.to_vec()).unwrap().packed();
        assert_eq!(of(1, &[1, 0, 0, 1, 1, 1, 1, 1, 1]), [0b1111_1001, 1]);
        assert_eq!(of(10, &[10, 3]), [0x3a]);
        assert_eq!(of(100, &[100, 1]), [0b1110_0100, 0]);
        assert!(of(100, &[]).is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(QueryRecalls::new(0, vec![]), Err(RecallsError::Zero));
        let many = Err(RecallsError::TooMany { hits: 11, k: 10 });
        assert_eq!(QueryRecalls::new(10, vec![10, 11]), many);
        assert_eq!(QueryRecalls::unpacked(10, 2, &[0xba]), many);
        for bytes in [&[][..], &[0, 0]] {
            assert!(QueryRecalls::unpacked(10, 2, bytes).is_err());
        }
        for hits in ["1 x", "-1", "11", "1.5"] {
            let text = format!(r#"{{"k":10,"hits":"{hits}"}}"#);
            assert!(serde_json::from_str::<QueryRecalls>(&text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn packed_and_written_recalls_read_back(
            (k, hits) in (1_u32..2000).prop_flat_map(|k| (Just(k), prop::collection::vec(0..=k, 0..50)))
        ) {
            let recalls = QueryRecalls::new(k, hits).unwrap();
            let packed = recalls.packed();
            let again = QueryRecalls::unpacked(k, recalls.hits().len(), &packed);
            prop_assert_eq!(again, Ok(recalls.clone()));
            let text = serde_json::to_string(&recalls).unwrap();
            prop_assert_eq!(serde_json::from_str::<QueryRecalls>(&text).unwrap(), recalls);
        }
    }
}
