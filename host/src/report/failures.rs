//! The cells that did not go well: one line each, dataset · method and label · outcome · cause.

use std::io::{self, Write};

use serde::Serialize;

use super::Style;
use super::text::{columns, fit, painted, plain, title};
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
    // The cause comes last and is cut first, so it is given half of the line if it needs that.
    let width = style.columns();
    for failure in failures.iter().take(LINES) {
        let Failure { dataset, method, label, outcome, cause, .. } = failure;
        let configuration = plain(format!("{method} {label}").trim_end());
        let cause = plain(cause.as_deref().unwrap_or("no cause was given"));
        let end = format!(" · {outcome} · {cause}");
        let room = width.saturating_sub(2 + columns(&end)).max(width / 2);
        let cell = title(&plain(dataset), " · ", &configuration, room);
        writeln!(out, "{}", fit(&format!("  {cell}{end}"), width))?;
    }
    if let Some(more @ 1..) = failures.len().checked_sub(LINES) {
        writeln!(out, "  … and {more} more")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_of_a_data_set_hides_neither_method_nor_configuration() {
        let failure = |dataset: &str, cause: &str| Failure {
            dataset: dataset.to_owned(),
            method: "example".to_owned(),
            label: "m=8 bits=4".to_owned(),
            seed: 1,
            outcome: Outcome::Cancelled,
            cause: Some(cause.to_owned()),
        };
        let long = "a-very-long-data-set-name-for-which-there-is-no-room-in-one-line-of-a-screen";
        let failures = [failure(long, "interrupted"), failure(long, &"a cause ".repeat(40))];
        for width in [60, 80, 120] {
            let mut out = Vec::new();
            write(&failures, Style { width, color: false }, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            for line in text.lines().skip(1) {
                assert!(columns(line) <= width, "{line}");
                assert!(line.contains(" · example m=8 bits=4 · cancelled · "), "{line}");
            }
            // All of the room is used.
            assert_eq!(text.lines().nth(1).map(columns), Some(width), "{text}");
        }
    }
}
