//! A drawing in characters: a letter for each method, for terminals and pipes, with or without
//! colour.

use std::fmt::Write as _;

use super::draw::{Axis, Drawing};
use crate::report::{columns, fit};

/// Columns of the labels at the left axis.
const LEFT: usize = 9;
/// The colour code of each method; letters tell apart what has the same.
const CODES: [u8; 6] = [34, 31, 32, 35, 33, 36];

/// The letter of a method: 26, then again from the first.
fn letter(style: usize, capital: bool) -> char {
    let letter = char::from(b'a' + u8::try_from(style % 26).unwrap_or(0));
    if capital { letter.to_ascii_uppercase() } else { letter }
}

/// The drawing within `width` columns and about `height` rows.
pub(super) fn drawn(of: &Drawing, width: usize, height: usize, color: bool) -> String {
    let (wide, high) = (width.max(40) - LEFT - 2, height.max(12) - 6);
    let marks = || of.lines.iter().flat_map(|line| &line.marks);
    let xs = Scale::of(&of.x, marks().map(|mark| mark.x));
    let ys = Scale::of(&of.y, marks().map(|mark| mark.y));
    let mut cells: Vec<Vec<Option<(char, usize)>>> = vec![vec![None; wide]; high];
    let place = |x: f64, y: f64| {
        let column = (xs.share(x) * (wide - 1) as f64).round();
        let row = ((1.0 - ys.share(y)) * (high - 1) as f64).round();
        (row as usize, column as usize)
    };
    if let Some((_, line)) = &of.bound {
        for &(x, y) in line.iter().filter(|(x, y)| xs.holds(*x) && ys.holds(*y)) {
            let (row, column) = place(x, y);
            cells[row][column] = Some(('·', usize::MAX));
        }
    }
    // Those on lines last: they are what is looked for.
    for on_line in [false, true] {
        for line in &of.lines {
            for mark in line.marks.iter().filter(|mark| mark.on_line == on_line) {
                let (row, column) = place(mark.x, mark.y);
                cells[row][column] = Some((letter(line.style, on_line), line.style));
            }
        }
    }
    let painted = |text: &str, style: usize| match color && style != usize::MAX {
        true => format!("\u{1b}[{}m{text}\u{1b}[0m", CODES[style % CODES.len()]),
        false => text.to_owned(),
    };
    let mut text = format!("{}\n", fit(&of.title, width));
    let _ = writeln!(text, "{}", fit(&format!("↑ {}", axis_text(&of.y)), width));
    for (row, cells) in cells.iter().enumerate() {
        let label = match row % 4 == 0 || row + 1 == high {
            true => short(ys.at(1.0 - row as f64 / (high - 1) as f64)),
            false => String::new(),
        };
        let _ = write!(text, "{label:>LEFT$} │");
        for cell in cells {
            match cell {
                Some((c, style)) => text.push_str(&painted(&c.to_string(), *style)),
                None => text.push(' '),
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    let _ = writeln!(text, "{:>LEFT$} └{}", "", "─".repeat(wide));
    let mut below = " ".repeat(LEFT + 2);
    for step in 0..=4 {
        let label = short(xs.at(f64::from(step) / 4.0));
        let middle = LEFT + 2 + step as usize * (wide - 1) / 4;
        let start = middle.saturating_sub(columns(&label) / 2).min(width - columns(&label));
        let room = start.saturating_sub(columns(&below));
        below = below + &" ".repeat(room) + &label;
    }
    let _ = writeln!(text, "{below}\n{}", fit(&format!("→ {}", axis_text(&of.x)), width));
    let mut names = of.lines.iter().map(|line| {
        let entry = fit(&format!("{} {}", letter(line.style, true), line.name), width);
        (painted(&entry, line.style), columns(&entry))
    });
    let mut used = 0;
    let bound = of.bound.as_ref().map(|(name, _)| (format!("· {name}"), columns(name) + 2));
    for (entry, size) in names.by_ref().chain(bound) {
        if used > 0 && used + 2 + size > width {
            text.push('\n');
            used = 0;
        }
        if used > 0 {
            text.push_str("  ");
            used += 2;
        }
        text.push_str(&entry);
        used += size;
    }
    text.push('\n');
    text
}

fn axis_text(axis: &Axis) -> String {
    axis.label.clone() + if axis.log { ", log" } else { "" }
}

fn short(value: f64) -> String {
    crate::report::number::significant(value, 3)
}

/// The room that values take.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = match axis.log {
            _ if low < high => (low, high),
            true => (low / 2.0, low * 2.0),
            false => (low - 0.5, low + 0.5),
        };
        Self { low, high, log: axis.log }
    }

    fn share(&self, value: f64) -> f64 {
        match self.log {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        }
    }

    fn at(&self, share: f64) -> f64 {
        match self.log {
            true => self.low * (self.high / self.low).powf(share),
            false => self.low + (self.high - self.low) * share,
        }
    }

    fn holds(&self, value: f64) -> bool {
        (0.0..=1.0).contains(&self.share(value))
    }
}

#[cfg(test)]
mod tests {
    use super::super::draw::{Line, Mark};
    use super::*;

    fn drawing(lines: Vec<Line>) -> Drawing {
        let axis = |label: &str, log| Axis { label: label.to_owned(), log };
        Drawing {
            title: "title".to_owned(),
            subtitle: String::new(),
            x: axis("bits", true),
            y: axis("recall", false),
            lines,
            bound: Some(("bound".to_owned(), vec![(1.0, 0.0), (9.0, 0.0)])),
        }
    }

    #[test]
    fn letters_stand_where_their_values_are() {
        let mark =
            |x: f64, y: f64, on_line| Mark { x, y, half: None, on_line, tells: String::new() };
        let marks = vec![mark(1.0, 0.0, true), mark(2.0, 0.75, false), mark(4.0, 1.0, true)];
        let line = Line { name: "first".to_owned(), style: 0, marks };
        let text = drawn(&drawing(vec![line]), 40, 14, false);
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows.iter().all(|row| columns(row) <= 40), "{text}");
        let at = |row: usize, c: char| rows[row].chars().position(|other| other == c);
        assert_eq!((at(2, 'A'), at(9, 'A')), (Some(39), Some(11)), "{text}");
        assert_eq!(at(4, 'a'), Some(25), "{text}");
        assert!(rows.last().unwrap().starts_with("A first  · bound"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn one_mark_and_forty_methods_fit() {
        let mark = Mark { x: 1.0, y: 0.5, half: None, on_line: true, tells: String::new() };
        let line = |style: usize| Line {
            name: format!("a-method-{style}"),
            style,
            marks: vec![mark.clone()],
        };
        for lines in [vec![line(0)], (0..40).map(line).collect()] {
            let text = drawn(&drawing(lines), 80, 24, true);
            assert!(text.contains('\u{1b}'));
        }
    }
}
