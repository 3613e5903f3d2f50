//! What the host could not do. None of it is a method's fault, so none of it is recorded against
//! a cell: it ends the run, which says what, where and what to do, and the next run goes on.

use crate::data::DataError;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// What to do where there are no file descriptors left.
const MORE_FILES: &str = "raise the limit on open files (`ulimit -n`)";

/// Something of the host's own that failed under a cell.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, miette::Diagnostic,
)]
pub enum HostFault {
    /// No folder for what a worker writes.
    #[error("no scratch folder can be made in {}: {reason}", folder.display())]
    #[diagnostic(help("{remedy}; then run again, what is finished is kept"))]
    Scratch {
        /// Where.
        folder: PathBuf,
        /// The system's words.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// No process for a worker.
    #[error("no worker process can be started from {}: {reason}", program.display())]
    #[diagnostic(help("{remedy}; then run again, what is finished is kept"))]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// The system's words.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A worker that ended before it came to the plugin.
    #[error("a worker process could not begin: {reason}")]
    #[diagnostic(help(
        "see that the machine has memory and processes left, and that --memory and --timeout \
         leave room for the worker itself; then run again, what is finished is kept"
    ))]
    Begin {
        /// How it ended.
        reason: String,
    },
    /// A worker that the kernel did not confine although it offers it.
    #[error("a worker process cannot be confined: {reason}")]
    #[diagnostic(help(
        "if you trust the plugins, pass --no-sandbox: they then have all your rights"
    ))]
    Confine {
        /// What was refused.
        reason: String,
    },
    /// A worker without its threads.
    #[error("a worker process cannot start {threads} threads: {reason}")]
    #[diagnostic(help(
        "lower --threads or --jobs, or raise the limit on processes (`ulimit -u`); then run \
         again, what is finished is kept"
    ))]
    Threads {
        /// How many were wanted.
        threads: usize,
        /// The system's words.
        reason: String,
    },
    /// A referee that ended without an answer.
    #[error("the process that measures a cell ended before its time: {reason}")]
    #[diagnostic(help(
        "see that the machine has memory left; if it happens again, report it with the sweep: no \
         plugin can bring that process down. What is finished is kept"
    ))]
    Referee {
        /// How it ended.
        reason: String,
    },
    /// No room for codes and models between the processes of a cell.
    #[error("the codes of a cell cannot be kept in {place}: {reason}")]
    #[diagnostic(help("{remedy}; then run again, what is finished is kept"))]
    Keep {
        /// Where.
        place: String,
        /// The system's words.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// Data that cannot be read, or is not what was prepared.
    #[error("the data of this run cannot be used: {reason}")]
    #[diagnostic(help("{remedy}; then run again, what is finished is kept"))]
    Data {
        /// Which file, and why.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

impl HostFault {
    pub(super) fn scratch(folder: &Path, error: &io::Error) -> Self {
        let remedy = match error.raw_os_error() {
            Some(nix::libc::EMFILE | nix::libc::ENFILE) => MORE_FILES,
            _ => {
                "TMPDIR chooses the place: make that folder again, free space in it, or set TMPDIR \
                 to another"
            }
        };
        HostFault::Scratch {
            folder: folder.to_owned(),
            reason: error.to_string(),
            remedy: remedy.to_owned(),
        }
    }

    /// Codes or a model could not be put aside.
    pub(crate) fn keep(place: &str, error: &io::Error) -> Self {
        let remedy = match error.raw_os_error() {
            Some(nix::libc::EMFILE | nix::libc::ENFILE) => MORE_FILES,
            _ => "free space there: a cell needs as much as its codes and its model take",
        };
        let (place, reason) = (place.to_owned(), error.to_string());
        HostFault::Keep { place, reason, remedy: remedy.to_owned() }
    }

    /// This process cannot have another thread.
    pub(crate) fn thread(error: &io::Error) -> Self {
        HostFault::start(&std::env::current_exe().unwrap_or_default(), error)
    }

    pub(super) fn start(program: &Path, error: &io::Error) -> Self {
        let remedy = match error.raw_os_error() {
            Some(nix::libc::EMFILE | nix::libc::ENFILE) => MORE_FILES,
            Some(nix::libc::EAGAIN) => "raise the limit on processes (`ulimit -u`), or end some",
            Some(nix::libc::ENOMEM) => "free memory",
            Some(nix::libc::ENOENT | nix::libc::EACCES) => {
                "vq-host needs its own file, or /proc, to start workers: put it back"
            }
            _ => "see what the system lacks",
        };
        HostFault::Start {
            program: program.to_owned(),
            reason: error.to_string(),
            remedy: remedy.to_owned(),
        }
    }
}

impl From<DataError> for HostFault {
    fn from(error: DataError) -> Self {
        let mut reason = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            reason += &format!(": {cause}");
        }
        let emfile = std::error::Error::source(&error)
            .and_then(|cause| cause.downcast_ref::<io::Error>())
            .is_some_and(|e| e.raw_os_error() == Some(nix::libc::EMFILE));
        let remedy = match error.remedy() {
            _ if emfile => MORE_FILES,
            Some(remedy) => remedy,
            None => "see that the file is there and that its disk answers",
        };
        HostFault::Data { reason, remedy: remedy.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_for_which_there_are_no_descriptors_asks_for_descriptors() {
        let advice = |number: i32| {
            let error = io::Error::from_raw_os_error(number);
            let fault = HostFault::scratch(Path::new("/tmp"), &error);
            miette::Diagnostic::help(&fault).map(|help| help.to_string()).unwrap_or_default()
        };
        for number in [nix::libc::EMFILE, nix::libc::ENFILE] {
            assert!(advice(number).contains("ulimit -n") && !advice(number).contains("TMPDIR"));
        }
        assert!(advice(nix::libc::ENOSPC).contains("TMPDIR"));
    }
}
