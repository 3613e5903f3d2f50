//! Whether a record's numbers were shown to come from the stored bytes alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is known about where a cell's decoded rows and estimates came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Proof {
    /// They were made by a process that had the saved model and the codes, and nothing else of
    /// the data.
    Proven,
    /// They may have come from elsewhere.
    Unproven {
        /// Why, in a clause.
        reason: String,
    },
}

impl Proof {
    /// True for [`Proof::Proven`].
    pub const fn is_proven(&self) -> bool {
        matches!(self, Self::Proven)
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("proven"),
            Self::Unproven { reason } => write!(f, "unproven: {reason}"),
        }
    }
}

/// A text that tells no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown proof `{text}`; proven or `unproven: …`")]
pub struct UnknownProof {
    /// The text.
    pub text: String,
}

impl FromStr for Proof {
    type Err = UnknownProof;

    fn from_str(text: &str) -> Result<Self, UnknownProof> {
        match text.split_once(": ") {
            None if text == "proven" => Ok(Self::Proven),
            Some(("unproven", reason)) => Ok(Self::Unproven { reason: reason.to_owned() }),
            _ => Err(UnknownProof { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Proof {
    type Error = UnknownProof;

    fn try_from(text: String) -> Result<Self, UnknownProof> {
        text.parse()
    }
}

impl From<Proof> for String {
    fn from(proof: Proof) -> Self {
        proof.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proof_reads_back_from_its_text() {
        let because = |reason: &str| Proof::Unproven { reason: reason.to_owned() };
        for proof in [Proof::Proven, because("no sandbox: none here"), because("")] {
            assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
            let json = serde_json::to_string(&proof).unwrap();
            assert_eq!(serde_json::from_str::<Proof>(&json).unwrap(), proof);
        }
        for text in ["", "proved", "unproven", "proven: yes"] {
            assert!(text.parse::<Proof>().is_err(), "{text}");
        }
    }
}
