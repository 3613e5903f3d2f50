//! The error that crosses the boundary: a kind (the return code) and one sentence.

use crate::abi::rc;

/// What went wrong, as far as the caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The method failed on this input.
    Failed,
    /// A configuration that cannot be.
    BadConfig,
    /// The caller asked to stop.
    Cancelled,
    /// The method does not offer this function.
    Unsupported,
    /// A panic was caught at the boundary.
    Panicked,
    /// A buffer of the caller was too small.
    ShortBuffer,
}

/// An error of a quantizer: a kind and one sentence in lower case.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// The method failed; `message` says on what and why.
    pub fn failed(message: impl Into<String>) -> Self {
        Error { kind: ErrorKind::Failed, message: message.into() }
    }

    /// Parameter `name` cannot be so; the host points at it in the user's sweep file.
    pub fn param(name: &str, reason: impl core::fmt::Display) -> Self {
        Error { kind: ErrorKind::BadConfig, message: format!("{name}: {reason}") }
    }

    /// The caller asked to stop.
    pub fn cancelled() -> Self {
        Error { kind: ErrorKind::Cancelled, message: "cancelled".into() }
    }

    /// The method does not offer `function`.
    pub fn unsupported(function: &str) -> Self {
        Error { kind: ErrorKind::Unsupported, message: format!("{function} is not offered") }
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl ErrorKind {
    pub(crate) fn code(self) -> i32 {
        match self {
            ErrorKind::Failed => rc::ERROR,
            ErrorKind::BadConfig => rc::BAD_CONFIG,
            ErrorKind::Cancelled => rc::CANCELLED,
            ErrorKind::Unsupported => rc::UNSUPPORTED,
            ErrorKind::Panicked => rc::PANIC,
            ErrorKind::ShortBuffer => rc::SHORT_BUFFER,
        }
    }

    /// `None` for a code the contract does not know.
    pub(crate) fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            rc::ERROR => ErrorKind::Failed,
            rc::BAD_CONFIG => ErrorKind::BadConfig,
            rc::CANCELLED => ErrorKind::Cancelled,
            rc::UNSUPPORTED => ErrorKind::Unsupported,
            rc::PANIC => ErrorKind::Panicked,
            rc::SHORT_BUFFER => ErrorKind::ShortBuffer,
            _ => return None,
        })
    }
}
