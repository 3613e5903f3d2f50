//! Tables that fit: columns of text wrap between words, columns of numbers never do. Where there is
//! too little room, heads fold, then columns that a reader can do without are left out, and what
//! still finds no place goes into another table under the first, which repeats the columns that
//! name its rows.

use std::io::{self, Write};
use std::ops::Range;

use comfy_table::{
    Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, Width,
    presets,
};

use super::Style;
use super::text::{broken, columns, plain};

/// Columns between two columns.
const GAP: usize = 2;
/// A column of text gets at least this, or what it needs if that is less, before a column of
/// numbers goes to the next table.
const READABLE: usize = 16;
/// A word up to this length is not cut.
const WHOLE: usize = 28;
/// The head of a column of numbers wraps at this, or at the numbers' own width if that is more.
const HEAD: usize = 10;
/// The same where room is scarce.
const TIGHT: usize = 5;
/// A column of numbers wider than this wraps after all.
const WIDE: usize = 14;
/// Where numbers stand in several tables, columns that name rows are narrowed to this, so that
/// each table has two columns of numbers at least;
const NARROW: usize = 8;
/// and to this where that is not enough.
const NARROWEST: usize = 5;
/// Characters of a cell that people are shown.
const SHOWN: usize = 2000;

/// One column: its head and a cell for each row.
#[derive(Clone, Debug)]
pub struct Column {
    name: String,
    head: String,
    cells: Vec<String>,
    number: bool,
    spare: bool,
}

impl Column {
    /// Left-aligned and wrapping.
    pub fn text(head: &str, cells: impl IntoIterator<Item = String>) -> Self {
        let cells = cells.into_iter().map(|cell| shown(&cell)).collect();
        let head = plain(head);
        Self { name: head.clone(), head, cells, number: false, spare: false }
    }

    /// Right-aligned; the head wraps to the width of the numbers, after `_`, `/` and spaces.
    pub fn number(head: &str, cells: impl IntoIterator<Item = String>) -> Self {
        let cells = cells.into_iter().map(|cell| shown(&cell)).collect();
        let name = plain(head);
        let mut column = Self { head: String::new(), name, cells, number: true, spare: false };
        column.fold(HEAD);
        column
    }

    /// One that is left out where there is no room for all.
    #[must_use]
    pub fn spare(self) -> Self {
        Self { spare: true, ..self }
    }

    /// True for the column that stands beside a metric's and tells its standard error.
    pub(super) fn is_error(&self) -> bool {
        self.name == "±"
    }

    /// Folds the head of numbers to their width, or to `least` if that is more.
    fn fold(&mut self, least: usize) {
        if self.number {
            let width = self.cells.iter().map(|cell| columns(cell)).max().unwrap_or(0).max(least);
            self.head = folded(&self.name, width, least <= TIGHT);
        }
    }

    /// The width at which nothing wraps.
    fn natural(&self) -> usize {
        let head = self.head.lines().map(columns);
        head.chain(self.cells.iter().map(|cell| columns(cell))).max().unwrap_or(0).max(1)
    }

    /// The width that it gets in any case, if at all possible.
    fn least(&self) -> usize {
        self.natural().min(if self.number { WIDE } else { self.longest_word().max(READABLE) })
    }

    fn longest_word(&self) -> usize {
        let texts = self.cells.iter().chain([&self.head]);
        let words = texts.flat_map(|text| text.split_whitespace()).map(columns);
        words.filter(|width| *width <= WHOLE).max().unwrap_or(1)
    }
}

/// Writes a table of `columns`, the first `names` of which name the rows; answers the heads of
/// those that were left out.
///
/// # Errors
/// Whatever `out` says.
pub fn write(
    columns: &[Column],
    names: usize,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<Vec<String>> {
    write_with(columns, names, style, None, out)
}

/// What stands under a row.
pub(super) type Under<'a> = &'a dyn Fn(usize) -> Vec<String>;

/// As [`write()`]; `under` makes lines that stand under each row.
pub(super) fn write_with(
    columns: &[Column],
    names: usize,
    style: Style,
    under: Option<Under<'_>>,
    out: &mut dyn Write,
) -> io::Result<Vec<String>> {
    let mut columns = columns.to_vec();
    let fits = |columns: &[Column]| span(columns.iter().map(Column::least)) <= style.columns();
    if !fits(&columns) {
        columns.iter_mut().for_each(|column| column.fold(TIGHT));
    }
    let mut left_out = Vec::new();
    while !fits(&columns)
        && let Some(last) = columns.iter().rposition(|column| column.spare)
    {
        left_out.insert(0, columns.remove(last).name);
    }
    let (names, rest) = columns.split_at(names.min(columns.len()));
    let blocks = blocks(names, rest, style.columns());
    for (i, block) in blocks.iter().enumerate() {
        let block: Vec<&Column> = names.iter().chain(*block).collect();
        let under = under.filter(|_| i + 1 == blocks.len());
        if i > 0 {
            writeln!(out)?;
        }
        write_block(&block, style, under, out)?;
    }
    Ok(left_out)
}

/// Divides `rest` into as few runs of columns as fit beside `names`, none of which has one column
/// only. Where that takes room of the names, it takes no more than it must.
fn blocks<'a>(names: &[Column], rest: &'a [Column], available: usize) -> Vec<&'a [Column]> {
    let least = |columns: &[Column]| columns.iter().map(Column::least).collect::<Vec<_>>();
    let (beside, least) = (least(names), least(rest));
    let widest = beside.iter().copied().max().unwrap_or(0);
    let within = |limit: usize| {
        let narrowed: Vec<usize> = beside.iter().map(|&width| width.min(limit)).collect();
        runs(&narrowed, &least, available)
    };
    let pairs = |runs: &[Range<usize>]| runs.iter().all(|run| run.len() > 1);
    let found = (NARROW..=widest.max(NARROW)).rev().map(within).find(|runs| pairs(runs));
    let found = found.or_else(|| {
        (NARROWEST..=widest.max(NARROWEST)).rev().map(within).find(|runs| pairs(&runs[1..]))
    });
    found.unwrap_or_else(|| within(widest)).into_iter().map(|run| &rest[run]).collect()
}

/// Divides columns of the widths `least` into as few runs as fit beside columns of the widths
/// `beside`; if they let it, none but the first has one column only.
fn runs(beside: &[usize], least: &[usize], available: usize) -> Vec<Range<usize>> {
    let fits = |some: &[usize]| span(beside.iter().chain(some).copied()) <= available;
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut first = 0;
    while first < least.len() || runs.is_empty() {
        // The first one goes in whatever it takes, or this would never end.
        let most = (first + 1..=least.len())
            .take_while(|&end| end == first + 1 || fits(&least[first..end]));
        let end = most.last().unwrap_or(least.len());
        runs.push(first..end);
        first = end;
    }
    // From the last one on, each that is alone takes a column of the one before it.
    for i in (1..runs.len()).rev() {
        if runs[i].len() == 1 && runs[i - 1].len() > 1 {
            runs[i - 1].end -= 1;
            runs[i].start -= 1;
        }
    }
    runs
}

/// Columns of the output that columns of these widths take together.
fn span(widths: impl Iterator<Item = usize>) -> usize {
    widths.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// The largest widths that fit into `available`: every column what it needs, but none more than a
/// common limit, which numbers and whole words are exempt from as long as that is possible.
fn widths(block: &[&Column], available: usize) -> Vec<usize> {
    // Measured once: texts may be long, and rows many.
    let sizes: Vec<(bool, usize, usize)> = block
        .iter()
        .map(|column| match column.number {
            true => (true, column.least(), 0),
            false => (false, column.natural(), column.longest_word()),
        })
        .collect();
    let at = |limit: usize, whole: bool| {
        sizes.iter().map(move |&(number, size, word)| match number {
            true => size,
            false => size.min(if whole { limit.max(word) } else { limit }),
        })
    };
    let widest = sizes.iter().map(|size| size.1).max().unwrap_or(1).min(available);
    let fitting =
        |whole: bool| (1..=widest).rev().find(|&limit| span(at(limit, whole)) <= available);
    match fitting(true) {
        Some(limit) => at(limit, true).collect(),
        None => at(fitting(false).unwrap_or(1), false).collect(),
    }
}

fn write_block(
    block: &[&Column],
    style: Style,
    under: Option<Under<'_>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows = block.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    let widths = widths(block, style.columns());
    let Some(under) = under else {
        return write_rows(block, &widths, style, true, 0..rows, out);
    };
    write_rows(block, &widths, style, true, 0..0, out)?;
    for row in 0..rows {
        write_rows(block, &widths, style, false, row..row + 1, out)?;
        for line in under(row) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn write_rows(
    block: &[&Column],
    widths: &[usize],
    style: Style,
    head: bool,
    rows: Range<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─')))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(style.columns()).unwrap_or(100))
        .force_no_tty();
    if style.color {
        table.enforce_styling();
    }
    if head {
        table.set_header(block.iter().map(|column| {
            let head = Cell::new(&column.head);
            if style.color { head.add_attribute(Attribute::Bold) } else { head }
        }));
    }
    for row in rows {
        table.add_row(block.iter().zip(widths).map(|(column, width)| {
            let text = column.cells.get(row).map_or("", String::as_str);
            if column.number { text.to_owned() } else { broken(text, *width) }
        }));
    }
    for (i, (column, width)) in block.iter().zip(widths).enumerate() {
        let gap = if i == 0 { 0 } else { GAP };
        let drawn = table.column_mut(i).expect("the header or a row made a column of each");
        drawn.set_padding((gap as u16, 0));
        // An absolute width counts the padding in.
        let total = u16::try_from(width + gap).unwrap_or(u16::MAX);
        drawn.set_constraint(ColumnConstraint::Absolute(Width::Fixed(total)));
        drawn.set_cell_alignment(match column.number {
            true => CellAlignment::Right,
            false => CellAlignment::Left,
        });
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Breaks a head into lines of at most `width`, where its pieces allow; where room is scarce it has
/// more of them.
fn folded(head: &str, width: usize, scarce: bool) -> String {
    let ends = |c: char| matches!(c, '_' | '/' | ' ') || (scarce && c == '-');
    let begins = |c: char| scarce && c == '@';
    let mut text = String::new();
    let mut line = 0;
    let mut rest = head;
    while !rest.is_empty() {
        let ended = |(at, c): (usize, char)| {
            let after = at + c.len_utf8();
            let next = rest[after..].chars().next();
            (ends(c) || next.is_some_and(begins)).then_some(after)
        };
        let (piece, left) =
            rest.split_at(rest.char_indices().find_map(ended).unwrap_or(rest.len()));
        rest = left;
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

/// What a table has of a cell: [`plain`], and not without end.
fn shown(cell: &str) -> String {
    match cell.char_indices().nth(SHOWN) {
        Some((end, _)) => plain(&cell[..end]) + "…",
        None => plain(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_column_is_alone_in_a_second_table() {
        let column = |i: usize| Column::number(&format!("metric_{i}"), strings(["0.12345"]));
        for all in 2..20 {
            let columns: Vec<Column> =
                std::iter::once(Column::text("method", strings(["example"])))
                    .chain((1..all).map(column))
                    .collect();
            for width in [60, 70, 80, 100] {
                let text = drawn(&columns, 1, width);
                for table in text.split("\n\n").skip(1) {
                    assert!(table.matches("0.12345").count() > 1, "{all} in {width}:\n{text}");
                }
                assert_eq!(text.matches("0.12345").count(), all - 1);
            }
        }
    }

    #[test]
    fn where_room_is_scarce_heads_fold_and_spare_columns_are_left_out() {
        let columns = [
            Column::text("method", strings(["example"])),
            Column::text("configuration", strings(["levels=[0,2,4,6,8] bits=4"])),
            Column::number("recall@10", strings(["0.123"])),
            Column::number("compress_vectors_per_s", strings(["1.2 M"])),
            Column::number("a_metric_that_is_long", strings(["1234567"])).spare(),
            Column::number("another_metric", strings(["1234567"])).spare(),
        ];
        let mut out = Vec::new();
        let style = Style { width: 60, color: false };
        let left_out = write(&columns, 2, style, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(left_out, ["another_metric"], "{text}");
        assert!(text.contains("levels=[0,2,4,6,8]") && !text.contains("\n\n"), "{text}");
        assert!(text.lines().all(|line| columns_of(line) <= 60), "{text}");
        let mut out = Vec::new();
        let style = Style { width: 200, color: false };
        assert!(write(&columns, 2, style, &mut out).unwrap().is_empty());
    }

    fn columns_of(line: &str) -> usize {
        line.chars().count()
    }

    fn drawn(columns: &[Column], names: usize, width: usize) -> String {
        let mut out = Vec::new();
        write(columns, names, Style { width, color: false }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn strings<const N: usize>(cells: [&str; N]) -> Vec<String> {
        cells.map(str::to_owned).into()
    }

    #[test]
    fn a_text_of_a_mebibyte_takes_no_time() {
        let columns = [
            Column::text("method", strings(["example"])),
            Column::text("what it is", ["word ".repeat(1 << 18)]),
        ];
        let started = std::time::Instant::now();
        let text = drawn(&columns, 1, 80);
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
        assert_eq!(text.matches("word").count(), SHOWN / "word ".len());
        assert!(text.contains('…'), "{text}");
        let lines = broken(&"x".repeat(1 << 20), 16);
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
        assert_eq!(lines.lines().count(), 1 << 16);
    }

    #[test]
    fn long_names_leave_room_for_two_columns_of_numbers() {
        let dataset = "a-long-name-of-a-data-set-that-is-on-disk";
        let metrics = ["bits_per_dim", "relative_error", "recall@10", "compress_vectors_per_s"];
        for all in 2..=5 {
            let mut columns = vec![
                Column::text("dataset", strings([dataset])),
                Column::text("method", strings(["example"])),
                Column::text("label", strings(["m=8 bits=4 iterations=25"])),
                Column::text("outcome", strings(["out-of-memory"])),
            ];
            let metrics = metrics.iter().chain(&["fit_s"]).take(all);
            columns.extend(metrics.map(|name| Column::number(name, strings(["0.12345"]))));
            for width in [60, 70, 80] {
                let text = drawn(&columns, 4, width);
                assert!(text.lines().all(|line| columns_of(line) <= width), "{text}");
                for (i, table) in text.split("\n\n").enumerate() {
                    let numbers = table.matches("0.12345").count();
                    assert!(numbers > 1 || (i == 0 && all % 2 == 1), "{all} in {width}:\n{text}");
                }
            }
        }
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
            assert!(widest <= width.clamp(60, 200), "{widest} in {width}:\n{text}");
            assert_eq!(text.matches("0.12345").count(), 30);
            assert_eq!(text.matches("example").count(), text.split("\n\n").count());
        }
    }
}
