//! One call into a plugin, and how it can go wrong.

use super::method::Method;
use crate::abi::{VqBuf, rc};
use crate::error::ErrorKind;

/// Bytes of error text that are kept.
const ERROR_BYTES: usize = 4096;
/// The message of a plugin that fails and gives none.
pub const SILENT: &str = "failed without saying why";

/// Which promise a plugin broke in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// It wrote outside its output.
    Output,
    /// It wrote into what it was lent to read.
    Lent,
    /// It answered what the function cannot answer.
    Answer,
}

/// A call that did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin said so.
    #[error("{function}: {message}")]
    Said {
        /// The function of the contract.
        function: &'static str,
        /// What kind of failure.
        kind: ErrorKind,
        /// The plugin's sentence.
        message: String,
    },
    /// The plugin broke the contract.
    #[error("{function} {message}")]
    Broke {
        /// The function of the contract.
        function: &'static str,
        /// Which promise it broke.
        breach: Breach,
        /// What it did, after its name.
        message: String,
    },
}

impl CallError {
    /// The function answered what it cannot answer.
    pub(crate) fn broke(function: &'static str, message: impl Into<String>) -> Self {
        CallError::Broke { function, breach: Breach::Answer, message: message.into() }
    }

    /// The plugin's sentence alone, without the function's name.
    pub fn message(&self) -> &str {
        match self {
            CallError::Said { message, .. } | CallError::Broke { message, .. } => message,
        }
    }

    /// The kind of a failure that the plugin reported itself.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            CallError::Said { kind, .. } => Some(*kind),
            CallError::Broke { .. } => None,
        }
    }
}

/// Calls a function that reports errors, with a buffer for its text.
pub(crate) fn call(
    method: &Method,
    function: &'static str,
    run: impl FnOnce(*mut VqBuf) -> i32,
) -> Result<(), CallError> {
    let mut text = [0; ERROR_BYTES];
    let mut buf = VqBuf::over(&mut text);
    let code = method.guarded(function, || run(&mut buf));
    if code == rc::OK {
        return Ok(());
    }
    let message = one_line(&String::from_utf8_lossy(&text[..buf.len.min(ERROR_BYTES)]));
    match ErrorKind::from_code(code) {
        Some(kind) => Err(CallError::Said {
            function,
            kind,
            message: if message.is_empty() { SILENT.into() } else { message },
        }),
        None => {
            Err(CallError::broke(function, format!("returned the unknown code {code}: {message}")))
        }
    }
}

/// A function that `describe` has seen; the table is frozen, so this does not fail.
pub(crate) fn present<F>(name: &'static str, function: Option<F>) -> Result<F, CallError> {
    function.ok_or_else(|| CallError::broke(name, "is NULL"))
}

/// Control characters become spaces: a plugin's text must not steer a terminal.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
