//! Under which circumstances a cell ran.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The conditions of a cell's timings; times are comparable only between equal conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingInfo {
    /// Threads of the cell.
    pub threads: u32,
    /// Cells that ran at once.
    pub jobs: u32,
    /// True when the run gave the machine to this cell alone.
    pub exclusive: bool,
    /// The machine's one-minute load average when the cell began, where the system tells it.
    pub load_average: Option<f64>,
    /// Rows of a block in the walk over the base.
    pub block_rows: Option<u64>,
    /// CPU seconds per second of wall time in the plugin's calls, the most of any stage; above
    /// `threads`, the plugin took more than it was given.
    pub threads_used: Option<f64>,
}

impl TimingInfo {
    /// True when the plugin's calls took more CPU time than its threads have, by more than what
    /// threads take to come and go: its speeds are those of more threads than it was given.
    pub fn over_budget(&self) -> bool {
        self.threads_used.is_some_and(|used| used > 1.1 * f64::from(self.threads))
    }
}

/// `time` as RFC 3339 in UTC with milliseconds: `2025-11-22T20:31:00.000Z`.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
