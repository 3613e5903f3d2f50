//! Families of metrics that a sweep may leave out or ask for.

use serde::{Deserialize, Serialize};

/// Metrics that are measured together, beside those that every record has.
///
/// The names are part of sweeps and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `pairwise_…`
    Pairs,
    /// `bias`, `slope`, `rmse`, …
    Estimator,
    /// `kendall_tau@{k}`, `spearman_rho@{k}`, `ndcg@{k}`
    Order,
    /// `recall_p1@{k}`, …: recall as single queries have it.
    Queries,
    /// `distance_ratio@{k}`, `sos@{k}`
    Distances,
    /// `attention_kl@{k}`, `attention_tv@{k}`
    Attention,
    /// `latency_…`
    Latency,
}

impl Family {
    /// All of them, in the order of their declaration.
    pub const ALL: [Family; 7] = [
        Family::Pairs,
        Family::Estimator,
        Family::Order,
        Family::Queries,
        Family::Distances,
        Family::Attention,
        Family::Latency,
    ];

    /// Those of a sweep that does not say: all that cost little.
    pub fn usual() -> Vec<Family> {
        Self::ALL.into_iter().filter(|family| *family != Family::Latency).collect()
    }

    /// The name in sweeps and records.
    pub fn name(self) -> &'static str {
        match self {
            Family::Pairs => "pairs",
            Family::Estimator => "estimator",
            Family::Order => "order",
            Family::Queries => "queries",
            Family::Distances => "distances",
            Family::Attention => "attention",
            Family::Latency => "latency",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Family;

    #[test]
    fn a_family_is_written_as_it_is_named() {
        for family in Family::ALL {
            assert_eq!(serde_json::json!(family), family.name());
        }
        assert!(Family::ALL.is_sorted() && !Family::usual().contains(&Family::Latency));
    }
}
