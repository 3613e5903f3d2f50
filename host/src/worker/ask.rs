//! Short questions to a library, each answered by a child process of its own.

use super::protocol::{Answer, Checked, Job};
use super::supervise::{Ended, Limits, run};
use crate::plugin::{LibraryDescription, Refusal};
use crate::record::Outcome;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use vq_plugin_api::GridRequest;
use vq_plugin_api::handle::Proposal;

/// Describing and expanding take milliseconds; a library that needs longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory for questions.
const MEMORY: u64 = 4 << 30;

fn limits(timeout: Duration, sandbox: bool) -> Limits {
    Limits { timeout, memory: Some(MEMORY), threads: 1, sandbox }
}

/// What the library at `path` offers.
///
/// # Errors
/// Why it cannot be used, and what to do.
pub fn describe(
    path: &Path,
    sandbox: bool,
    cancel: &AtomicBool,
) -> Result<LibraryDescription, Refusal> {
    let limits = limits(PATIENCE, sandbox);
    let ended = run(path, None, Job::Describe, &limits, cancel, &mut |_, _| ());
    let (outcome, error) = match ended.answer {
        Answer::Described(about) => return Ok(about),
        Answer::Failed { outcome, error } => (outcome, error),
        _ => (Outcome::Crashed, "it answered another question".into()),
    };
    let ours = env!("CARGO_PKG_VERSION");
    let remedy = match outcome {
        Outcome::Failed if error.contains("cannot confine") => {
            "if you trust it, pass --no-sandbox: it then has all your rights".into()
        }
        Outcome::Failed if error.contains("vq-plugin-api") || error.contains("ABI") => {
            format!("rebuild it against vq-plugin-api {ours} (plugin ABI 1)")
        }
        Outcome::Failed if error.contains("abi_stable") => {
            format!("rebuild it with the abi_stable of vq-plugin-api {ours}")
        }
        Outcome::Failed if error.contains("dynamic loader") => {
            let more = if sandbox {
                "; in the sandbox it finds only the libraries of the system's folders, its RUNPATH and LD_LIBRARY_PATH"
            } else {
                ""
            };
            format!("install or link what it misses, or rebuild it on this system{more}")
        }
        Outcome::Crashed => "copy it again or rebuild it: the file may be cut short".into(),
        _ => "report it to the plugin's author, or remove the file".into(),
    };
    Err(Refusal {
        path: path.to_owned(),
        reason: error.replace(" at load", " while it was loaded"),
        remedy,
    })
}

/// The configurations for `requests`, a list each.
///
/// # Errors
/// One line that says how the generator failed.
pub fn expand(
    library: &Path,
    digest: &str,
    method: &str,
    requests: Vec<GridRequest>,
    sandbox: bool,
    cancel: &AtomicBool,
) -> Result<Vec<Vec<Proposal>>, String> {
    let expected = requests.len();
    let job = Job::Expand { method: method.to_owned(), requests };
    let limits = limits(PATIENCE, sandbox);
    match run(library, Some(digest), job, &limits, cancel, &mut |_, _| ()).answer {
        Answer::Expanded(answers) if answers.len() == expected => Ok(answers),
        Answer::Failed { error, .. } => Err(error),
        _ => Err("it answered another question".into()),
    }
}

/// The conformance kit's findings on the library at `path`.
///
/// # Errors
/// How the child ended instead of answering.
pub fn check(
    path: &Path,
    timeout: Duration,
    sandbox: bool,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
) -> Result<Checked, Box<Ended>> {
    let limits = Limits { threads: 2, ..limits(timeout, sandbox) };
    let ended = run(path, None, Job::Check, &limits, cancel, on_progress);
    match ended.answer {
        Answer::Checked(checked) => Ok(checked),
        _ => Err(Box::new(ended)),
    }
}
