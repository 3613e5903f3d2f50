//! A table of GitHub's Markdown, for issues and pages.

use std::io::{self, Write};

use crate::record::Record;
use crate::report::{number, plain};

/// Writes the table: data set, method, configuration, seed, outcome, metrics, key.
pub(super) fn write(rows: &[&Record], metrics: &[String], out: &mut dyn Write) -> io::Result<()> {
    let names = ["data set", "method", "configuration", "seed", "outcome"];
    let head: Vec<String> =
        names.into_iter().map(str::to_owned).chain(metrics.iter().map(|name| cell(name))).collect();
    writeln!(out, "| {} | key |", head.join(" | "))?;
    writeln!(out, "|{}{}---|", "---|".repeat(names.len()), "--:|".repeat(metrics.len()))?;
    for record in rows {
        let texts = [
            cell(&record.dataset.name),
            cell(&record.method.id),
            cell(&record.label),
            record.seed.to_string(),
            record.outcome.to_string(),
        ];
        let values = metrics.iter().map(|name| {
            record.value(name).map_or_else(String::new, |value| number::metric(name, value))
        });
        let all: Vec<String> = texts.into_iter().chain(values).collect();
        writeln!(out, "| {} | `{}` |", all.join(" | "), record.key)?;
    }
    Ok(())
}

/// `text` as it is to be read: nothing in it ends a cell or is markup.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    for c in plain(text).chars() {
        match c {
            '&' => cell.push_str("&amp;"),
            '<' => cell.push_str("&lt;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '~' => cell.extend(['\\', c]),
            _ => cell.push(c),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::super::ExportFormat;
    use super::super::tests::{text, two};

    #[test]
    fn a_row_is_one_line_of_equally_many_cells() {
        let records = two();
        let text = text(&records, ExportFormat::Markdown);
        let expected = format!(
            "\
| data set | method | configuration | seed | outcome | bits\\_per\\_dim | recall@10 | fit\\_s | key |
|---|---|---|---|---|--:|--:|--:|---|
| glove | a | m=8 \\| \"x\", y | {} | ok | 2.00 | 0.3000 | 1.50 | `{}` |
| glove | b | m=16 | 42 | failed |  |  |  | `{}` |
",
            u64::MAX,
            records[0].key,
            records[1].key
        );
        assert_eq!(text, expected);
    }
}
