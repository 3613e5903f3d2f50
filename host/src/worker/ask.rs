//! Short questions to a library, each answered by a child process of its own.

use super::fault::HostFault;
use super::protocol::{Answer, CheckFinding, CheckedMethod, Job, Made, Step};
use super::supervise::{Limits, run};
use crate::plugin::{Candidate, Described, Digests, Refusal};
use crate::record::Outcome;
use crate::report::plain;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use vq_plugin_api::conformance::Skip;
use vq_plugin_api::handle::Proposal;
use vq_plugin_api::params::Config;
use vq_plugin_api::{GridRequest, conformance};

/// Describing and expanding take milliseconds; a library that needs longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// A library that is only looked for has so much time of its own: to compute or to sleep, not to
/// wait for a disk or a processor.
const OWN_TIME: Duration = Duration::from_secs(2);
/// The same of a Python file: what it imports may be as large as torch.
const OWN_TIME_OF_PYTHON: Duration = Duration::from_secs(10);
/// Libraries that are described at once.
const AT_ONCE: usize = 8;
/// Characters of what a refused library printed that are told.
const LAST_WORDS: usize = 160;
/// A clock of whole seconds has gone on when a method is asked again after so long.
const ANOTHER_SECOND: Duration = Duration::from_millis(1100);
/// Memory and scratch for questions.
const MEMORY: u64 = 4 << 30;
const SCRATCH: u64 = 1 << 30;

fn limits(own_time: Option<Duration>, sandbox: bool) -> Limits {
    let (timeout, memory, scratch) = (PATIENCE, Some(MEMORY), SCRATCH);
    Limits { timeout, own_time, memory, threads: 1, scratch, sandbox }
}

/// Removes what processes that were killed left behind: a command that asks no library anything
/// makes no folder of its own, and would leave it there.
pub fn clear_left_behind() {
    super::scratch::sweep_once();
}

/// What each of `libraries` offers, in their order; `patient` with those that take
/// long.
///
/// # Errors
/// What the host could not do.
pub fn describe_all(
    libraries: &[&Candidate],
    patient: bool,
    sandbox: bool,
    cancel: &AtomicBool,
) -> Result<Vec<Described>, HostFault> {
    let own_time = |path: &Path| match crate::python::is_python(path) {
        true => OWN_TIME_OF_PYTHON,
        false => OWN_TIME,
    };
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    // Each child lives no longer than the thread that started it.
    let work = || {
        let mut described = Vec::new();
        while let Some((i, of)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, libraries.get(i)?)))
        {
            let (path, python) = (&of.path, of.python.clone());
            let own_time = (!patient).then(|| own_time(path));
            described.push((i, describe_within(path, python, own_time, sandbox, cancel)));
        }
        described
    };
    let mut described = thread::scope(|scope| {
        let others = threads.min(AT_ONCE).min(libraries.len()).saturating_sub(1);
        // This thread does what no other does.
        let others: Vec<_> = (0..others)
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut described = work();
        for other in others {
            described.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        described
    });
    described.sort_by_key(|(i, _)| *i);
    described.into_iter().map(|(_, described)| described).collect()
}

/// What the library at `path` offers.
///
/// # Errors
/// Why it cannot be used, and what to do; or what the host could not do.
pub fn describe(path: &Path, sandbox: bool, cancel: &AtomicBool) -> Result<Described, HostFault> {
    describe_within(path, None, None, sandbox, cancel)
}

fn describe_within(
    path: &Path,
    python: Option<PathBuf>,
    own_time: Option<Duration>,
    sandbox: bool,
    cancel: &AtomicBool,
) -> Result<Described, HostFault> {
    let limits = limits(own_time, sandbox);
    let ended = run(path, None, Job::Describe { python }, &limits, cancel, &mut |_, _| ())?;
    let (outcome, error) = match ended.answer {
        Answer::Described(about) => match about.check() {
            Ok(()) => return Ok(Ok(about)),
            Err(wrong) => (Outcome::Invalid, format!("its description cannot be: {wrong}")),
        },
        Answer::Failed { outcome, error } => (outcome, error),
        _ => (Outcome::Crashed, "it answered another question".into()),
    };
    let ours = env!("CARGO_PKG_VERSION");
    // What the loader misses may come, and memory too.
    let lasting = !error.contains("dynamic loader")
        && !matches!(outcome, Outcome::OutOfMemory | Outcome::Cancelled);
    let remedy = match outcome {
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
        Outcome::Crashed if ["(SIGBUS)", "(SIGSEGV)"].iter().any(|end| error.contains(end)) => {
            "copy it again or rebuild it: the file may be cut short".into()
        }
        _ => "report it to the plugin's author, or remove the file".into(),
    };
    Ok(Err(Refusal {
        path: path.to_owned(),
        reason: error.replace(" at load", " while it was loaded") + &last_words(&ended.printed),
        remedy,
        lasting,
    }))
}

/// The end of what a library printed before it ended, as a clause; nothing if it printed nothing.
fn last_words(printed: &str) -> String {
    let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = match words.char_indices().rev().nth(LAST_WORDS) {
        Some((at, character)) => format!("…{}", &words[at + character.len_utf8()..]),
        None => words,
    };
    if text.is_empty() { text } else { format!(", having printed: {}", plain(&text)) }
}

/// The configurations for `requests`, a list each; `python` is the one that is named for the library alone.
///
/// # Errors
/// How the generator failed; or what has nothing to do with it.
pub fn expand(
    library: &Path,
    digests: Digests,
    python: Option<PathBuf>,
    method: &str,
    requests: Vec<GridRequest>,
    sandbox: bool,
    cancel: &AtomicBool,
) -> Result<Vec<Vec<Proposal>>, ExpandError> {
    let expected = requests.len();
    let job = Job::Expand { method: method.to_owned(), requests, python };
    let limits = limits(None, sandbox);
    let ended = run(library, Some(digests), job, &limits, cancel, &mut |_, _| ())?;
    match ended.answer {
        Answer::Expanded => ended.proposed.into_answers(expected).map_err(ExpandError::Method),
        Answer::Failed { error, .. } => Err(ExpandError::Method(error)),
        Answer::Replaced { how } => Err(ExpandError::Replaced { library: library.into(), how }),
        _ => Err(ExpandError::Method("it answered another question".into())),
    }
}

/// Why there are no configurations.
#[derive(Debug, thiserror::Error)]
pub enum ExpandError {
    /// The method's generator failed.
    #[error("{0}")]
    Method(String),
    /// The library was replaced since it was found.
    #[error("{} was replaced meanwhile (it {how}): run again", library.display())]
    Replaced {
        /// The file.
        library: PathBuf,
        /// How that shows.
        how: String,
    },
    /// The host's own part failed.
    #[error(transparent)]
    Host(#[from] HostFault),
}

/// The conformance kit's findings on `method` of the library at `path`, whose configurations all
/// have the parameters `fixed`. An end of the process or of the time is one finding more.
///
/// # Errors
/// Why there is none: the library cannot be opened any more, or the user interrupted.
pub fn check(
    path: &Path,
    method: &str,
    fixed: Config,
    limits: &Limits,
    cancel: &AtomicBool,
    on_step: &mut dyn FnMut(&Step),
) -> Result<CheckedMethod, CheckError> {
    let mut stage = String::new();
    let mut step = None;
    let mut checks = 0;
    let job = Job::Check { method: method.to_owned(), fixed: fixed.clone() };
    let ended = run(path, None, job, limits, cancel, &mut |now, _| {
        now.clone_into(&mut stage);
        if let Some(now) = Step::of(now) {
            on_step(&now);
            // A step is told as a rule begins, without a function, and at each call it makes.
            checks += usize::from(now.function.is_empty());
            step = Some(now);
        }
    })?;
    let (outcome, error) = match ended.answer {
        Answer::Checked(checked) => {
            let mut checked = CheckedMethod { log: ended.log, ..checked };
            across(path, fixed, limits, cancel, on_step, &mut checked)?;
            return Ok(checked);
        }
        Answer::Failed { outcome: Outcome::Cancelled, .. } => return Err(CheckError::Interrupted),
        Answer::Failed { outcome, error } => (outcome, error),
        _ => return Err(CheckError::Worker("it answered another question".into())),
    };
    let Some(Step { function, rule }) = step else { return Err(CheckError::Worker(error)) };
    let (broken, found) = match outcome {
        Outcome::Timeout => {
            let limit = humantime::format_duration(limits.timeout);
            (conformance::TERMINATES, format!("still running when the method's {limit} were over"))
        }
        // The stage is told by function and input.
        _ => (conformance::SURVIVES, error.replacen(&format!(" at {stage}"), "", 1)),
    };
    let (mut findings, mut skipped) = ended.checked;
    findings.push(CheckFinding {
        rule: broken.to_owned(),
        severity: "error".to_owned(),
        function: if function.is_empty() { "between calls".to_owned() } else { function },
        input: rule,
        found,
        contract: conformance::rule(broken).contract.to_owned(),
    });
    skipped.push(Skip {
        rule: "what comes after".to_owned(),
        place: String::new(),
        why: "the process had ended".to_owned(),
    });
    Ok(CheckedMethod {
        method: method.to_owned(),
        checks,
        findings,
        skipped,
        log: ended.log,
        made: None,
    })
}

/// Compares what the method made in the process of its check with what it makes in another one,
/// later. One that is not the same twice in one process need not be asked.
fn across(
    path: &Path,
    fixed: Config,
    limits: &Limits,
    cancel: &AtomicBool,
    on_step: &mut dyn FnMut(&Step),
    checked: &mut CheckedMethod,
) -> Result<(), CheckError> {
    let Some(Made { print, age_s }) = checked.made else { return Ok(()) };
    let rule = conformance::rule(conformance::ACROSS);
    if checked.findings.iter().any(|finding| finding.rule == "determinism") {
        return Ok(());
    }
    on_step(&Step { function: String::new(), rule: rule.id.to_owned() });
    let age = Duration::try_from_secs_f64(age_s).unwrap_or_default();
    thread::sleep(ANOTHER_SECOND.saturating_sub(age));
    let job = Job::Print { method: checked.method.clone(), fixed };
    checked.checks += 1;
    let (function, found) = match run(path, None, job, limits, cancel, &mut |_, _| ())?.answer {
        Answer::Printed(Some(again)) => match print.difference(&again) {
            Some((function, how)) => (function, how.to_owned()),
            None => return Ok(()),
        },
        Answer::Printed(None) => ("fit", "it breaks a rule there that it keeps here".to_owned()),
        Answer::Failed { outcome: Outcome::Cancelled, .. } => return Err(CheckError::Interrupted),
        Answer::Failed { error, .. } => ("fit", error),
        _ => return Err(CheckError::Worker("it answered another question".into())),
    };
    checked.findings.push(CheckFinding {
        rule: rule.id.to_owned(),
        severity: "error".to_owned(),
        function: function.to_owned(),
        input: "the same seed and rows in another process, more than a second later".to_owned(),
        found,
        contract: rule.contract.to_owned(),
    });
    Ok(())
}

/// Why a method could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// By the user.
    #[error("interrupted")]
    Interrupted,
    /// The worker ended before the first rule.
    #[error("{0}")]
    Worker(String),
    /// The host's own part failed.
    #[error(transparent)]
    Host(#[from] HostFault),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_a_library_printed_is_told_in_one_line() {
        assert_eq!(last_words(""), "");
        assert_eq!(last_words("no license\n\tfound\n"), ", having printed: no license found");
        let long = "é".repeat(LAST_WORDS);
        assert_eq!(last_words(&long), format!(", having printed: {long}"));
        assert_eq!(last_words(&format!("a{long}")), format!(", having printed: …{long}"));
    }
}
