//! What the child tells the parent while it works, and how a job fails.

use super::fault::HostFault;
use super::protocol::{Answer, Message, Role};
use crate::record::Outcome;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use vq_plugin_api::handle::CallError;
use vq_plugin_api::{ErrorKind, Level};

/// Progress lines are sent at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// Sends lines to the parent.
#[derive(Debug)]
pub struct Reporter {
    pipe: Mutex<File>,
    last: Mutex<(String, Instant)>,
}

impl Reporter {
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Reporter {
            pipe: Mutex::new(File::from(pipe)),
            last: Mutex::new((String::new(), Instant::now())),
        }
    }

    pub(crate) fn send(&self, message: &Message) {
        let Ok(mut line) = serde_json::to_vec(message) else { return };
        line.push(b'\n');
        // One write per line: lines of several threads do not mix. A parent that is gone takes
        // this process with it.
        let _ = self.pipe.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
    }

    /// Where the work stands.
    pub fn progress(&self, stage: &str, fraction: f32) {
        self.part(stage, fraction, fraction);
    }

    /// What comes next, a call perhaps, is the part `from` to `to` of `stage`.
    pub(crate) fn part(&self, stage: &str, from: f32, to: f32) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 == stage && last.1.elapsed() < PROGRESS_EVERY {
            return;
        }
        *last = (stage.to_owned(), Instant::now());
        drop(last);
        let [fraction, to] =
            [from, to].map(|at| if at.is_finite() { at.clamp(0.0, 1.0) } else { 0.0 });
        self.send(&Message::Progress { stage: stage.to_owned(), fraction, to });
    }

    /// A log line of the plugin.
    pub fn log(&self, level: Level, text: &str) {
        self.send(&Message::Log { level, text: text.chars().take(2000).collect() });
    }
}

/// A job that could not be done.
#[derive(Debug)]
pub enum Failure {
    /// By the plugin.
    Method {
        /// The kind of end.
        outcome: Outcome,
        /// One line.
        error: String,
    },
    /// By the library, which is not the planned one.
    Replaced {
        /// How that shows.
        how: String,
    },
    /// By the host.
    Host(HostFault),
    /// An engine has ended.
    Ended(Role),
    /// Another engine cannot do it.
    Again {
        /// Why.
        reason: String,
    },
}

impl Failure {
    /// The plugin broke the contract.
    pub fn invalid(error: impl Into<String>) -> Self {
        Failure::Method { outcome: Outcome::Invalid, error: error.into() }
    }

    /// Anything that is neither a broken contract nor a panic.
    pub fn failed(error: impl ToString) -> Self {
        Failure::Method { outcome: Outcome::Failed, error: error.to_string() }
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Method { outcome, error } => Answer::Failed { outcome, error },
            Failure::Replaced { how } => Answer::Replaced { how },
            Failure::Host(fault) => Answer::HostFailed(fault),
            Failure::Ended(role) => Answer::Ended(role),
            Failure::Again { reason } => Answer::Again { reason },
        }
    }
}

impl From<HostFault> for Failure {
    fn from(fault: HostFault) -> Self {
        Failure::Host(fault)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let outcome = match error.kind() {
            Some(ErrorKind::Panicked) => Outcome::Panicked,
            Some(ErrorKind::Cancelled) => Outcome::Cancelled,
            Some(_) => Outcome::Failed,
            None => Outcome::Invalid,
        };
        Failure::Method { outcome, error: error.to_string() }
    }
}
