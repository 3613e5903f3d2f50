//! How a cell ended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was measured.
    Ok,
    /// The plugin returned an error.
    Failed,
    /// The plugin panicked and its adapter caught it.
    Panicked,
    /// The worker ended without a final record: a signal, an abort, an exit.
    Crashed,
    /// The cell's time was up.
    Timeout,
    /// The cell's memory was used up.
    OutOfMemory,
    /// The plugin broke its contract: wrong sizes, NaN, a write past the end, an untrue ratio.
    Invalid,
    /// The user stopped the run.
    Cancelled,
}

impl Outcome {
    /// Every outcome, in the order of the definition.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Failed,
        Self::Panicked,
        Self::Crashed,
        Self::Timeout,
        Self::OutOfMemory,
        Self::Invalid,
        Self::Cancelled,
    ];

    /// The stored name: `out_of_memory`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Crashed => "crashed",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out_of_memory",
            Self::Invalid => "invalid",
            Self::Cancelled => "cancelled",
        }
    }

    /// True for [`Outcome::Ok`].
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown outcome `{name}`; one of ok, failed, panicked, crashed, timeout, out_of_memory, invalid, cancelled"
)]
pub struct UnknownOutcome {
    /// The text.
    pub name: String,
}

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(name: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == name)
            .ok_or_else(|| UnknownOutcome { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_reads_back_from_its_name() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{outcome}\""));
        }
        assert!("okay".parse::<Outcome>().is_err());
    }
}
