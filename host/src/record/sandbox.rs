//! What held a plugin in its place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What held the plugin in its place while the cell ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sandbox {
    /// The kernel enforced everything: other files, the network and other processes were denied.
    Full,
    /// The kernel enforced a part.
    Partial {
        /// What it could not deny, in a clause.
        missing: String,
    },
    /// Nothing was enforced: the plugin had all rights of the user.
    Off {
        /// Why, in a clause.
        reason: String,
    },
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Partial { missing } => write!(f, "partial: {missing}"),
            Self::Off { reason } => write!(f, "off: {reason}"),
        }
    }
}

/// A text that describes no sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown sandbox `{text}`; full, `partial: …` or `off: …`")]
pub struct UnknownSandbox {
    /// The text.
    pub text: String,
}

impl FromStr for Sandbox {
    type Err = UnknownSandbox;

    fn from_str(text: &str) -> Result<Self, UnknownSandbox> {
        match text.split_once(": ") {
            None if text == "full" => Ok(Self::Full),
            Some(("partial", missing)) => Ok(Self::Partial { missing: missing.to_owned() }),
            Some(("off", reason)) => Ok(Self::Off { reason: reason.to_owned() }),
            _ => Err(UnknownSandbox { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Sandbox {
    type Error = UnknownSandbox;

    fn try_from(text: String) -> Result<Self, UnknownSandbox> {
        text.parse()
    }
}

impl From<Sandbox> for String {
    fn from(sandbox: Sandbox) -> Self {
        sandbox.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sandbox_reads_back_from_its_text() {
        let partial = Sandbox::Partial { missing: "a: b, c".to_owned() };
        for sandbox in [Sandbox::Full, partial, Sandbox::Off { reason: String::new() }] {
            assert_eq!(sandbox.to_string().parse(), Ok(sandbox.clone()));
            let json = serde_json::to_string(&sandbox).unwrap();
            assert_eq!(serde_json::from_str::<Sandbox>(&json).unwrap(), sandbox);
        }
        assert!("fully".parse::<Sandbox>().is_err() && "partial".parse::<Sandbox>().is_err());
    }
}
