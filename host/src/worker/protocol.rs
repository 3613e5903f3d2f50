//! What parent and child say to each other: one JSON order on the child's stdin, JSON lines back on
//! a private pipe, the last of which is the answer. An end without an answer is a crash.
//!
//! A cell has three children. Only the referee, which has no plugin code, answers; of an engine,
//! which has, the parent hears how it is held, how far its call says it is, and what it logs.

use super::fault::HostFault;
use crate::data::{Prepared, Shape};
use crate::metric::Family;
use crate::plugin::{Digests, LibraryDescription};
use crate::record::{MetricValue, Outcome, QueryRecalls, Sandbox};
use crate::transform::Chain;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use vq_plugin_api::conformance::{Print, Skip};
use vq_plugin_api::handle::Proposal;
use vq_plugin_api::params::Config;
use vq_plugin_api::{GridRequest, Level, Space};

/// What a child is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    /// Open the library and tell what it offers.
    Describe {
        /// The Python that is named for it alone, if it is a Python file.
        python: Option<PathBuf>,
    },
    /// Expand grids of one method.
    Expand {
        /// The method's id.
        method: String,
        /// One request per space and target rate.
        requests: Vec<GridRequest>,
        /// As in [`Job::Describe`].
        python: Option<PathBuf>,
    },
    /// Run the conformance kit on one method.
    Check {
        /// The method's id.
        method: String,
        /// What every configuration has.
        fixed: Config,
    },
    /// Print one method, for a comparison with another process.
    Print {
        /// The method's id.
        method: String,
        /// What every configuration has.
        fixed: Config,
    },
    /// Make the calls that the referee of a cell asks for.
    Engine(Box<Engine>),
    /// Measure one cell, with the engines' help.
    Referee(Box<Measurement>),
    /// Look at files of vectors, or send the rows of one; no library is opened.
    Read(Reading),
}

/// Files that a child parses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// All of one format.
    pub files: Vec<PathBuf>,
    /// Which one: lower case, without the dot.
    pub extension: String,
    /// The table or column; `None`: the one that is found.
    pub table: Option<String>,
    /// Whether the table holds lists of row numbers, sent as u32, and no vectors.
    pub lists: bool,
    /// How many rows to send; `None`: none, but to tell what there is.
    pub rows: Option<u64>,
}

/// Which of a cell's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Has the training rows, then the rows to encode.
    Encoder,
    /// Has the saved model and the codes, then the queries.
    Decoder,
    /// Has no plugin code.
    Referee,
}

/// A method as an engine makes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Engine {
    /// The method's id.
    pub method: String,
    /// All its parameters.
    pub config: Config,
    /// Where its vectors live.
    pub space: Space,
    /// The seed.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
    /// As in [`Job::Describe`].
    pub python: Option<PathBuf>,
}

impl Job {
    /// The only method of the library that is called for it.
    pub fn method(&self) -> Option<&str> {
        match self {
            Self::Expand { method, .. }
            | Self::Check { method, .. }
            | Self::Print { method, .. } => Some(method),
            Self::Engine(engine) => Some(&engine.method),
            Self::Describe { .. } | Self::Referee(_) | Self::Read(_) => None,
        }
    }

    /// The Python that is named for the library alone.
    pub fn python(&self) -> Option<&Path> {
        match self {
            Self::Describe { python } | Self::Expand { python, .. } => python.as_deref(),
            Self::Engine(engine) => engine.python.as_deref(),
            Self::Check { .. } | Self::Print { .. } | Self::Referee(_) | Self::Read(_) => None,
        }
    }
}

/// A job and the library it is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The library's path.
    pub library: PathBuf,
    /// What the library must be; `None` before it is known.
    pub digests: Option<Digests>,
    /// Bytes of memory the child may take; `None`: no limit.
    pub memory: Option<u64>,
    /// Bytes that a file of the child's may have.
    pub file_bytes: u64,
    /// Process id of the parent, to notice that it is gone.
    pub parent: u32,
    /// Hold the child to its own files, as far as the kernel can.
    pub sandbox: bool,
    /// The one folder the child may write to, its working directory; `None`: none at all.
    pub scratch: Option<PathBuf>,
    /// What to do.
    pub job: Job,
}

/// Which of the two codes of a row a cell is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// There is one.
    Whole,
    /// The first: what it finds is handed on.
    First,
    /// The second, which ranks that.
    Second,
}

/// One cell, as its referee needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Threads for plugin and host, which work in turn.
    pub threads: usize,
    /// Process ids of encoder and decoder, for their CPU time.
    pub engines: [u32; 2],
    /// Why nothing can be proved about this cell, if so.
    pub unproven: Option<String>,
    /// Why the encoder is to decode as well, if it must: that was tried with two engines.
    pub together: Option<String>,
    /// The data.
    pub data: Prepared,
    /// What is done to rows before the method sees them.
    pub transform: Chain,
    /// What to measure.
    pub evaluation: Evaluation,
    /// Which code it is about.
    pub stage: Stage,
    /// Rows per block; `None`: chosen from the dimension.
    pub block_rows: Option<usize>,
}

/// The evaluation settings; all but `metrics` are part of a cell's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Revision of the metrics' definitions.
    pub definitions: u32,
    /// Neighbours looked for.
    pub k: Vec<usize>,
    /// Random pairs for pair and estimator metrics.
    pub pairs: usize,
    /// Factors of the re-rank curve.
    pub rerank: Vec<usize>,
    /// Timed repetitions.
    pub repeats: usize,
    /// Families of metrics that are measured, in their order. Not in the key: they change no other
    /// metric, so that a record that has more of them is a record of the same cell.
    pub metrics: Vec<Family>,
    /// Whose neighbours are the true ones, where they are not the data set's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<OtherTruth>,
}

/// Another data set with the same rows, whose neighbours are the true ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherTruth {
    /// Its name in the sweep; not in the key.
    pub of: String,
    /// Over its prepared data.
    pub digest: String,
}

impl Evaluation {
    /// Whether a family is measured.
    pub fn has(&self, family: Family) -> bool {
        self.metrics.contains(&family)
    }
}

/// A line from the child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The first line, before any plugin code runs: what holds the plugin in its place.
    Confined(Sandbox),
    /// Where the work stands; `fraction` of the stage.
    Progress {
        /// `fit`, `compress`, …; empty for an engine, which only knows its call.
        stage: String,
        /// 0 to 1.
        fraction: f32,
        /// Where the stage will stand when the call under way is done; as `fraction` without one.
        to: f32,
    },
    /// The referee needs that engine no more, and waits for a line that says that it is gone.
    Left(Role),
    /// A log line of the plugin.
    Log {
        /// How loud.
        level: Level,
        /// The line.
        text: String,
    },
    /// A line of the host's own about the plugin, for the log.
    Note(String),
    /// What a reader of the record should know of the method.
    Notice(Notice),
    /// What a check has just found: it counts even if the process ends before the answer.
    Found(CheckFinding),
    /// What a check has just found impossible to check; likewise.
    Skipped(Skip),
    /// Some configurations of [`Job::Expand`], in their order.
    Proposed {
        /// Position of the request that they answer.
        request: usize,
        /// What the method proposes.
        proposals: Vec<Proposal>,
    },
    /// The last line.
    Answer(Box<Answer>),
}

/// What an engine noticed of its method. Numbers alone: who forges one finds no words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Codes hold numbers of a type that is wider than their values.
    Wide {
        /// Which array of several, from 0 on.
        part: Option<u32>,
        /// `i`, `u` or `b`, for integers with and without a sign and truth values.
        kind: char,
        /// Bits of one of them.
        bits: u32,
        /// Bits that their values need.
        needed: u32,
        /// Bytes of them in a code.
        bytes: u32,
        /// Bytes that these would be without the bits that are not needed.
        packed: u32,
    },
    /// What the method would be saved as is not what it was saved as when it was fitted.
    Changed {
        /// It has no `save` of its own.
        pickled: bool,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Wide { part, kind, bits, needed, bytes, packed } => {
                match part {
                    Some(part) => write!(f, "part {} of the codes is ", u64::from(part) + 1)?,
                    None => f.write_str("codes are ")?,
                }
                match kind {
                    'i' => write!(f, "int{bits}")?,
                    'u' => write!(f, "uint{bits}")?,
                    _ => f.write_str("bool")?,
                }
                let each = if needed == 1 { "1 bit".to_owned() } else { format!("{needed} bits") };
                write!(
                    f,
                    ", {bytes} bytes per vector, and no value needs more than {each}: packed they would \
                     take {packed}"
                )
            }
            Self::Changed { pickled } => {
                let what = if pickled { "a pickle of it" } else { "what its save() gives" };
                write!(
                    f,
                    "{what} differs later from the one made after fit, which decoded: what compress, \
                     decompress or score keep in the object is lost"
                )
            }
        }
    }
}

/// How a job ended, as far as the child can tell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Of [`Job::Describe`].
    Described(LibraryDescription),
    /// Of [`Job::Expand`]: all was [`Message::Proposed`].
    Expanded,
    /// Of [`Job::Check`].
    Checked(CheckedMethod),
    /// Of [`Job::Print`]; `None` where the method breaks rules that it would be checked by.
    Printed(Option<Print>),
    /// Of [`Job::Referee`].
    Measured(Measured),
    /// Of [`Job::Read`] without rows: one for each file, up to the first that cannot be read.
    Looked(Vec<Result<Shape, String>>),
    /// Of [`Job::Read`]: all rows were sent.
    Sent,
    /// An engine ended before its time: how, its parent sees.
    Ended(Role),
    /// It has to be done again, by one engine.
    Again {
        /// Why.
        reason: String,
    },
    /// The library is not the one that was planned with; none of its code has run.
    Replaced {
        /// How that shows, after the file's name: `has other contents`.
        how: String,
    },
    /// The host's own part could not be done.
    HostFailed(HostFault),
    /// The job could not be done.
    Failed {
        /// What kind of end.
        outcome: Outcome,
        /// One line.
        error: String,
    },
}

/// The conformance kit's findings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// One per method.
    pub methods: Vec<CheckedMethod>,
}

/// The findings on one method.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckedMethod {
    /// Its id.
    pub method: String,
    /// Checks that ran.
    pub checks: usize,
    /// Broken rules.
    pub findings: Vec<CheckFinding>,
    /// Checks that could not be run, and why.
    pub skipped: Vec<Skip>,
    /// Its log lines and what it printed.
    pub log: Option<String>,
    /// What its first configuration made, where that is to be the same in another process.
    pub made: Option<Made>,
}

/// What a method made of known rows, and when.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Made {
    /// What it made.
    pub print: Print,
    /// Seconds that have passed since.
    pub age_s: f64,
}

/// One broken rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckFinding {
    /// Stable name of the rule.
    pub rule: String,
    /// `error` or `warning`.
    pub severity: String,
    /// The function of the contract.
    pub function: String,
    /// The input that shows it.
    pub input: String,
    /// What happened.
    pub found: String,
    /// What the contract says.
    pub contract: String,
}

/// What the kit is about to do, as the stage of a progress line: `fit: round-trip (d = 32, L2)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The function of the contract that is called; empty between calls.
    pub function: String,
    /// The rule under examination and where: its configuration and space.
    pub rule: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.function, self.rule)
    }
}

impl Step {
    /// The step that a stage tells; `None` for a stage of another kind.
    pub fn of(stage: &str) -> Option<Step> {
        let (function, rule) = stage.split_once(": ")?;
        Some(Step { function: function.into(), rule: rule.into() })
    }
}

/// What the referee measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// All metrics.
    pub metrics: Vec<MetricValue>,
    /// What each query found, for each k.
    pub recalls: Vec<QueryRecalls>,
    /// Rows per block that were used.
    pub block_rows: usize,
    /// Wall time of the measuring; the rest of the cell's is the host's own.
    pub measured_s: f64,
    /// CPU seconds per second of wall time, the most of any stage.
    pub threads_used: Option<f64>,
    /// Why it is not shown that only the stored bytes carry information, if it is not.
    pub unproven: Option<String>,
    /// What a reader of the record should know.
    pub notices: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_a_sentence_of_numbers() {
        let wide =
            Notice::Wide { part: None, kind: 'i', bits: 64, needed: 8, bytes: 160, packed: 20 };
        assert_eq!(
            wide.to_string(),
            "codes are int64, 160 bytes per vector, and no value needs more than 8 bits: packed they \
             would take 20"
        );
        let Notice::Wide { bytes, packed, .. } = wide else { unreachable!("as made") };
        let part = Notice::Wide { part: Some(1), kind: 'b', bits: 8, needed: 1, bytes, packed };
        let said = part.to_string();
        assert!(said.starts_with("part 2 of the codes is bool, 160 bytes"), "{said}");
        assert!(said.contains("more than 1 bit:"), "{said}");
    }

    #[test]
    fn a_step_travels_as_the_stage_of_a_progress_line() {
        for function in ["fit", ""] {
            let rule = "round-trip (a=1 b=x: y, d = 32, L2)".into();
            let step = Step { function: function.into(), rule };
            assert_eq!(Step::of(&step.to_string()), Some(step));
        }
        assert_eq!(Step::of("load"), None);
    }
}
