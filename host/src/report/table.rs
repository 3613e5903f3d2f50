//! Tables that fit: columns of text wrap, columns of numbers never do, and what still finds no
//! place goes into a second table under the first, which repeats the columns that name its rows.

use std::io::{self, Write};

use comfy_table::{
    Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, Width,
    presets,
};

use super::Style;

/// Columns between two columns.
const GAP: usize = 2;
/// A column of text gets at least this, or what it needs if that is less, before a column of
/// numbers goes to the next table.
const READABLE: usize = 16;
/// The head of a column of numbers wraps at this, or at the numbers' own width if that is more.
const HEAD: usize = 10;
/// A column of numbers wider than this wraps after all.
const WIDE: usize = 14;

/// One column: its head and a cell for each row.
#[derive(Debug)]
pub struct Column {
    head: String,
    cells: Vec<String>,
    number: bool,
}

impl Column {
    /// Left-aligned and wrapping.
    pub fn text(head: &str, cells: impl IntoIterator<Item = String>) -> Self {
        let cells = cells.into_iter().map(|cell| plain(&cell)).collect();
        Self { head: plain(head), cells, number: false }
    }

    /// Right-aligned; the head wraps to the width of the numbers, after `_`, `/` and spaces.
    pub fn number(head: &str, cells: impl IntoIterator<Item = String>) -> Self {
        let cells: Vec<String> = cells.into_iter().map(|cell| plain(&cell)).collect();
        let width = cells.iter().map(|cell| columns(cell)).max().unwrap_or(0).max(HEAD);
        Self { head: folded(&plain(head), width), cells, number: true }
    }

    /// The width at which nothing wraps.
    fn natural(&self) -> usize {
        let head = self.head.lines().map(columns);
        head.chain(self.cells.iter().map(|cell| columns(cell))).max().unwrap_or(0).max(1)
    }

    /// The width that it gets in any case, if at all possible.
    fn least(&self) -> usize {
        self.natural().min(if self.number { WIDE } else { READABLE })
    }
}

/// Writes a table of `columns`, the first `names` of which name the rows.
///
/// # Errors
/// Whatever `out` says.
pub fn write(
    columns: &[Column],
    names: usize,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (names, mut rest) = columns.split_at(names.min(columns.len()));
    loop {
        let mut block: Vec<&Column> = names.iter().collect();
        let mut taken = 0;
        for column in rest {
            block.push(column);
            // The first one goes in whatever it takes, or this would never end.
            if taken > 0 && span(block.iter().map(|column| column.least())) > style.columns() {
                block.pop();
                break;
            }
            taken += 1;
        }
        rest = &rest[taken..];
        for line in block_lines(&block, style) {
            writeln!(out, "{}", line.trim_end())?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
    }
}

/// Columns of the output that columns of these widths take together.
fn span(widths: impl Iterator<Item = usize>) -> usize {
    widths.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// The largest widths that fit into `available`: every column what it needs, but none more than a
/// common limit, which the numbers are exempt from.
fn widths(block: &[&Column], available: usize) -> Vec<usize> {
    let at = |limit: usize| {
        block.iter().map(move |column| match column.number {
            true => column.least(),
            false => column.natural().min(limit),
        })
    };
    let widest = block.iter().map(|column| column.natural()).max().unwrap_or(1);
    let limit = (1..=widest).rev().find(|&limit| span(at(limit)) <= available).unwrap_or(1);
    at(limit).collect()
}

fn block_lines(block: &[&Column], style: Style) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─')))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(style.columns()).unwrap_or(100))
        .force_no_tty();
    if style.color {
        table.enforce_styling();
    }
    table.set_header(block.iter().map(|column| {
        let head = Cell::new(&column.head);
        if style.color { head.add_attribute(Attribute::Bold) } else { head }
    }));
    let rows = block.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    for row in 0..rows {
        table.add_row(block.iter().map(|column| column.cells.get(row).map_or("", String::as_str)));
    }
    let widths = widths(block, style.columns());
    for (i, (column, width)) in block.iter().zip(widths).enumerate() {
        let gap = if i == 0 { 0 } else { GAP };
        let drawn = table.column_mut(i).expect("the header made a column of each");
        drawn.set_padding((gap as u16, 0));
        // An absolute width counts the padding in.
        let total = u16::try_from(width + gap).unwrap_or(u16::MAX);
        drawn.set_constraint(ColumnConstraint::Absolute(Width::Fixed(total)));
        drawn.set_cell_alignment(match column.number {
            true => CellAlignment::Right,
            false => CellAlignment::Left,
        });
    }
    table.lines().collect()
}

/// Breaks a head into lines of at most `width`, where its pieces allow.
fn folded(head: &str, width: usize) -> String {
    let mut text = String::new();
    let mut line = 0;
    for piece in head.split_inclusive(['_', '/', ' ']) {
        let size = columns(piece);
        if line > 0 && line + columns(piece.trim_end()) > width {
            text.truncate(text.trim_end().len());
            text.push('\n');
            line = 0;
        }
        text.push_str(piece);
        line += size;
    }
    text
}

/// Columns that `text` takes at most: no character takes more than two, and none before the
/// Hangul of U+1100 more than one.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| if c < '\u{1100}' || c == '…' || c == '≥' { 1 } else { 2 }).sum()
}

/// `text` in at most `width` columns, its end cut off if need be.
pub fn fit(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    for c in text.chars() {
        cut.push(c);
        if columns(&cut) + 1 > width {
            cut.pop();
            break;
        }
    }
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

/// `text` with everything made visible that could move the cursor, change colours or the order of
/// reading: what a plugin calls itself is not ours to obey.
pub fn plain(text: &str) -> String {
    escaped(text, |_| false)
}

/// As [`plain`], but lines stay lines.
pub fn plain_lines(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

fn escaped(text: &str, allowed: impl Fn(char) -> bool) -> String {
    let moves = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let hidden = |c: char| moves(c) && !allowed(c);
    if !text.contains(hidden) {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        if hidden(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `text` in the colour with this code, where colour is wanted.
pub(super) fn painted(text: &str, style: Style, code: &str) -> String {
    match style.color {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(columns: &[Column], names: usize, width: usize) -> String {
        let mut out = Vec::new();
        write(columns, names, Style { width, color: false }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn strings<const N: usize>(cells: [&str; N]) -> Vec<String> {
        cells.map(str::to_owned).into()
    }

    #[test]
    fn a_small_table_takes_what_it_needs() {
        let columns = [
            Column::text("method", strings(["a", "longer"])),
            Column::number("compress_vectors_per_s", strings(["1.2 M", "900"])),
        ];
        let expected = "\
method  compress_
         vectors_
            per_s
─────────────────
a           1.2 M
longer        900
";
        assert_eq!(drawn(&columns, 1, 100), expected);
    }

    #[test]
    fn text_wraps_and_numbers_do_not() {
        let label = "m=8 bits=8 ".repeat(12);
        let columns = [
            Column::text("configuration", [label, "x".repeat(150)]),
            Column::number("mse", strings(["0.1234567", "1"])),
        ];
        let text = drawn(&columns, 1, 100);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.contains("0.1234567"));
        assert_eq!(text.matches('x').count(), 150);
    }

    #[test]
    fn columns_that_do_not_fit_go_into_a_table_of_their_own() {
        let mut columns = vec![Column::text("method", strings(["example"]))];
        for i in 0..30 {
            columns.push(Column::number(&format!("metric_{i}"), strings(["0.12345"])));
        }
        for width in [0, 60, 77, 100, 500] {
            let text = drawn(&columns, 1, width);
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= width.clamp(60, 100), "{widest} in {width}:\n{text}");
            assert_eq!(text.matches("0.12345").count(), 30);
            assert_eq!(text.matches("example").count(), text.split("\n\n").count());
        }
    }

    #[test]
    fn what_a_plugin_says_cannot_draw_on_the_terminal() {
        assert_eq!(plain("m=8\u{1b}[31m\n\u{202e}x é"), "m=8\\u{1b}[31m\\n\\u{202e}x é");
    }

    #[test]
    fn a_cut_text_ends_in_an_ellipsis_within_the_width() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("ab cdef", 4), "ab…");
        assert_eq!(fit("漢字漢字", 5), "漢字…");
    }
}
