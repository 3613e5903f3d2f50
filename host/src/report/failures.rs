//! The cells that did not go well: one line each, dataset · method and label · outcome · cause.

use std::io::{self, Write};

use serde::Serialize;

use super::Style;
use super::table::{fit, painted, plain};
use crate::record::{Outcome, Record};

/// Lines of a list; the store has the rest.
const LINES: usize = 20;

/// A cell that did not go well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Name of the dataset.
    pub dataset: String,
    /// Id of the method.
    pub method: String,
    /// Its configuration.
    pub label: String,
    /// The seed.
    pub seed: u64,
    /// How the cell ended.
    pub outcome: Outcome,
    /// Why.
    pub cause: Option<String>,
}

impl Failure {
    /// The cells among `records` that did not go well, in their order.
    pub(super) fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Self> {
        records
            .into_iter()
            .filter(|record| !record.outcome.is_ok())
            .map(|record| Self {
                dataset: record.dataset.name.clone(),
                method: record.method.id.clone(),
                label: record.label.clone(),
                seed: record.seed,
                outcome: record.outcome,
                cause: record.error.clone(),
            })
            .collect()
    }
}

/// Writes the list, or nothing when there is nothing to list.
pub(super) fn write(failures: &[Failure], style: Style, out: &mut dyn Write) -> io::Result<()> {
    let heading = match failures.len() {
        0 => return Ok(()),
        1 => "1 cell did not go well:".to_owned(),
        n => format!("{n} cells did not go well:"),
    };
    writeln!(out, "{}", painted(&heading, style, "1;31"))?;
    // The cause comes last and is cut first, so it is given at least half of the line.
    let width = style.columns();
    for failure in failures.iter().take(LINES) {
        let Failure { dataset, method, label, outcome, cause, .. } = failure;
        let cell = format!("{} · {} {}", plain(dataset), plain(method), plain(label));
        let cause = plain(cause.as_deref().unwrap_or("no cause was given"));
        let line = format!("  {} · {outcome} · {cause}", fit(&cell, width / 2));
        writeln!(out, "{}", fit(&line, width))?;
    }
    if let Some(more @ 1..) = failures.len().checked_sub(LINES) {
        writeln!(out, "  … and {more} more")?;
    }
    Ok(())
}
