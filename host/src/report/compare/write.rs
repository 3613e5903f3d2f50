//! A comparison for people.

use std::io::{self, Write};

use super::super::table::{self, Column};
use super::super::text::{painted, plain, title};
use super::super::{Style, columns, fit, number, wrapped};
use super::{Change, Comparison, MethodDifference, OutcomeChange, Settings, Verdict};

/// Lines of a list; JSON has all.
const LINES: usize = 20;

/// Writes a row for each method, then what got worse, then what got better.
///
/// # Errors
/// What `out` returns.
pub fn write_comparison(
    of: &Comparison,
    settings: &Settings,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    if of.methods.is_empty() {
        writeln!(out, "no cell is in both")?;
    } else {
        write_methods(of, style, out)?;
    }
    write_outcomes(of, style, out)?;
    for (verdict, heading, code) in [
        (Verdict::Worse, "worse", "1;31"),
        (Verdict::Unclear, "worse, and nothing tells whether by chance", "1"),
        (Verdict::Better, "better", "1"),
    ] {
        let these: Vec<&Change> =
            of.changes.iter().filter(|change| change.verdict == verdict).collect();
        write_changes(&these, heading, code, style, out)?;
    }
    writeln!(out)?;
    for note in notes(of, settings) {
        writeln!(out, "{}", wrapped(&note, 2, style.columns()))?;
    }
    let sentence = match of.is_worse() {
        true => "something got worse",
        false if of.is_empty() => "nothing was compared",
        false => "nothing got worse",
    };
    let code = if of.is_worse() { "1;31" } else { "1" };
    writeln!(out, "{}", painted(sentence, style, code))
}

fn write_methods(of: &Comparison, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let count = |head: &str, of_method: fn(&MethodDifference) -> usize| {
        Column::number(head, of.methods.iter().map(|method| of_method(method).to_string()))
    };
    let mut table = vec![
        Column::text("method", of.methods.iter().map(|method| method.method.clone())),
        count("configurations", |method| method.configurations),
        count("numbers compared", |method| method.compared),
        count("worse", |method| method.worse),
        count("better", |method| method.better),
    ];
    let mut where_any = |head: &str, of_method: fn(&MethodDifference) -> usize| {
        if of.methods.iter().any(|method| of_method(method) > 0) {
            table.push(count(head, of_method));
        }
    };
    where_any("unclear", |method| method.unclear);
    where_any("now failing", |method| method.failed);
    where_any("recovered", |method| method.recovered);
    table::write(&table, 1, style, out)?;
    Ok(())
}

fn write_changes(
    changes: &[&Change],
    heading: &str,
    code: &str,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", painted(&format!("{heading}:"), style, code))?;
    let shown = || changes.iter().take(LINES);
    let value = |change: &Change, value: f64| number::metric(&change.name, value);
    let table = [
        Column::text("data set", shown().map(|change| change.dataset.clone())),
        Column::text("method", shown().map(|change| change.method.clone())),
        Column::text("configuration", shown().map(|change| change.label.clone())),
        Column::text("number", shown().map(|change| change.name.clone())),
        Column::number("before", shown().map(|change| value(change, change.before))),
        Column::number("after", shown().map(|change| value(change, change.after))),
        Column::number("change", shown().map(|change| percent(change.relative))),
        Column::number("p", shown().map(|change| change.p.map_or("–".to_owned(), probability))),
    ];
    table::write(&table, 4, style, out)?;
    more(changes.len(), out)
}

fn write_outcomes(of: &Comparison, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for (worse, heading) in [(true, "no longer ok:"), (false, "ok now:")] {
        let these: Vec<&OutcomeChange> =
            of.outcomes.iter().filter(|change| change.is_worse() == worse).collect();
        if these.is_empty() {
            continue;
        }
        let code = if worse { "1;31" } else { "1" };
        writeln!(out, "\n{}", painted(heading, style, code))?;
        for change in these.iter().take(LINES) {
            let OutcomeChange { dataset, method, label, seed, before, after, cause, .. } = change;
            let rest = format!("{method} {label} seed {seed}");
            let width = style.columns();
            let name = title(&plain(dataset), " · ", &plain(&rest), width / 2);
            let ended = if worse { after } else { before };
            let line = format!("  {name} · {ended}");
            let room = width.saturating_sub(columns(&line) + 3);
            let cause = cause.as_deref().map(plain).unwrap_or_default();
            let cause = if cause.is_empty() { cause } else { format!(" · {}", fit(&cause, room)) };
            writeln!(out, "{line}{cause}")?;
        }
        more(these.len(), out)?;
    }
    Ok(())
}

fn more(all: usize, out: &mut dyn Write) -> io::Result<()> {
    match all.checked_sub(LINES) {
        Some(more @ 1..) => writeln!(out, "… and {more} more (--format json)"),
        _ => Ok(()),
    }
}

/// What a reader has to know of the numbers.
fn notes(of: &Comparison, settings: &Settings) -> Vec<String> {
    let mut notes = vec![format!(
        "counted: more than {} of the value, and below 5 % by chance over all {} tests (Holm)",
        percent_of(settings.tolerance),
        of.tests
    )];
    let several = |n: usize, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    let configurations = |n| several(n, "configuration", "configurations");
    if of.only_in_first + of.only_in_second > 0 {
        notes.push(format!(
            "not compared: {} only in the first, {} only in the second",
            configurations(of.only_in_first),
            of.only_in_second
        ));
    }
    if of.unshared_seeds > 0 {
        let cells = several(of.unshared_seeds, "cell", "cells");
        notes.push(format!("not compared: {cells} with a seed that the other has not"));
    }
    if of.unequal_conditions > 0 {
        let cells = several(of.unequal_conditions, "cell", "cells");
        notes.push(format!(
            "times not compared: {cells} with other threads, or with other cells beside"
        ));
    }
    if !of.changes.is_empty() {
        notes.push("keys of the records: --format json".to_owned());
    }
    notes
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:+.2} %", 100.0 * share))
}

fn percent_of(share: f64) -> String {
    format!("{} %", number::significant(100.0 * share, 2))
}

fn probability(p: f64) -> String {
    if p < 1e-4 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}
