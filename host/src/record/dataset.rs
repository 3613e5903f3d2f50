//! What a record says of its data.

use serde::{Deserialize, Serialize};

/// The prepared dataset of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetInfo {
    /// Its name in the sweep.
    pub name: String,
    /// Content digest of the prepared data: base, training sample and queries.
    pub digest: String,
    /// Rows of the base.
    pub n: u64,
    /// Dimensions of a row.
    pub dim: u64,
    /// Number of queries.
    pub queries: u64,
    /// Rows that methods learn from. As with all that follows: none in records from before this
    /// was kept.
    pub train_rows: Option<u64>,
    /// True when no row that methods learn from is in the base.
    pub train_apart: Option<bool>,
    /// What is peculiar about it.
    pub facts: Option<Facts>,
}

impl DatasetInfo {
    /// The name without the rows that `sizes` in a sweep put behind it.
    pub fn family(&self) -> &str {
        let sized = self.name.rsplit_once('@').filter(|(_, rows)| rows.parse() == Ok(self.n));
        sized.map_or(&self.name, |(name, _)| name)
    }
}

/// What is peculiar about some data, counted: results are to be read with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The rows were drawn from a known distribution.
    pub synthetic: bool,
    /// Queries of which every value is zero. All rows tie for them under ip and cosine.
    pub zero_queries: u64,
    /// Queries that are equal to a row of the base.
    pub queries_in_base: u64,
    /// Rows of the base that are equal to an earlier one.
    pub duplicate_rows: u64,
    /// Queries for which another row is as near as the last of the neighbours that are kept, so
    /// that which rows are the nearest is a matter of their numbers.
    pub tied_queries: u64,
}
