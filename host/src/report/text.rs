//! Text in a terminal: how wide it is, how it is cut, and what in it must not be obeyed.

use unicode_width::UnicodeWidthStr;

use super::Style;

/// A cut moves back to the end of a word over at most so many columns.
const WORD: usize = 12;

/// Columns that `text` takes in a terminal.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// `text` in lines of at most `width` columns. Words stay whole where they can; those that are too
/// long break after a mark, and in their middle only where they have none.
pub(super) fn broken(text: &str, width: usize) -> String {
    let width = width.max(1);
    let mut lines = String::new();
    let mut taken = 0;
    let mut add = |piece: &str, space: bool| {
        let size = columns(piece);
        if taken > 0 && taken + usize::from(space) + size > width {
            lines.push('\n');
            taken = 0;
        } else if space && taken > 0 {
            lines.push(' ');
            taken += 1;
        }
        lines.push_str(piece);
        taken += size;
    };
    for word in text.split(' ') {
        if columns(word) <= width {
            add(word, true);
            continue;
        }
        let mut space = true;
        for piece in word.split_inclusive(['-', '_', '/', ',', '.', ':', '=']) {
            let mut piece = piece;
            // Measures no more than a line at a time: a word may be long.
            while beginning(piece, width).len() < piece.len() {
                let part = match beginning(piece, width) {
                    "" => piece,
                    part => part,
                };
                add(part, std::mem::take(&mut space));
                piece = &piece[part.len()..];
            }
            if !piece.is_empty() {
                add(piece, std::mem::take(&mut space));
            }
        }
    }
    lines
}

/// `text` in at most `width` columns, its end cut off if need be.
pub fn fit(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut cut = beginning(text, width.saturating_sub(1)).to_owned();
    // Not in the middle of a word, where one has ended shortly before.
    if !text[cut.len()..].starts_with(' ')
        && let Some(end) = cut.rfind(' ')
        && columns(&cut[end..]) <= WORD
    {
        cut.truncate(end);
    }
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

/// `text` in at most `width` columns, its middle cut out if need be.
pub fn fit_middle(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let head = beginning(text, room - room / 2);
    let backwards: String = text.chars().rev().collect();
    let tail: String = beginning(&backwards, room / 2).chars().rev().collect();
    format!("{head}…{tail}")
}

/// A data set's name and, after `between`, what else tells a cell from others, in at most `room`
/// columns. The name gives way first, then the rest, each in its middle, so that the method is
/// always there.
pub fn title(dataset: &str, between: &str, rest: &str, room: usize) -> String {
    /// Less of a name says nothing.
    const NAME: usize = 6;
    let beside = columns(between);
    let name = fit_middle(dataset, room.saturating_sub(columns(rest) + beside).max(NAME));
    let free = room.saturating_sub(columns(&name) + beside);
    fit_middle(&format!("{name}{between}{}", fit_middle(rest, free)), room)
}

/// As much of `text`, from its beginning, as `width` columns take.
fn beginning(text: &str, width: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += columns(c.encode_utf8(&mut [0; 4]));
        taken > width
    });
    end.map_or(text, |(at, _)| &text[..at])
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

/// Whether `c` moves the cursor, changes colours or the order of reading, or cannot be seen.
pub(crate) fn moves(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn escaped(text: &str, allowed: impl Fn(char) -> bool) -> String {
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

    #[test]
    fn what_a_plugin_says_cannot_draw_on_the_terminal() {
        assert_eq!(plain("m=8\u{1b}[31m\n\u{202e}x é"), "m=8\\u{1b}[31m\\n\\u{202e}x é");
    }

    #[test]
    fn a_word_too_long_for_its_column_breaks_after_a_mark() {
        assert_eq!(broken("a long-data-set name", 10), "a long-\ndata-set\nname");
        assert_eq!(broken("abcdefgh ij", 4), "abcd\nefgh\nij");
        assert_eq!(broken("m=8 bits=4", 20), "m=8 bits=4");
        assert_eq!(broken("漢字", 1), "漢字");
    }

    #[test]
    fn a_cut_moves_back_to_the_end_of_a_word_that_is_near() {
        assert_eq!(fit("a cause that is long", 14), "a cause that…");
        assert_eq!(fit(&format!("a {}", "b".repeat(40)), 30).len(), 29 + '…'.len_utf8());
        assert_eq!(fit_middle("abcdefgh", 5), "ab…gh");
        assert_eq!(fit_middle("abcdefgh", 8), "abcdefgh");
        assert_eq!(fit_middle("漢字漢字漢字", 6), "漢…字");
    }

    #[test]
    fn a_cut_text_ends_in_an_ellipsis_within_the_width() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("ab cdef", 4), "ab…");
        assert_eq!(fit("漢字漢字", 5), "漢字…");
    }

    #[test]
    fn titles_are_shortened_in_the_middle_and_the_data_set_gives_way_first() {
        assert_eq!(title("glove", " ", "ab m=8", 20), "glove ab m=8");
        assert_eq!(title("a-very-long-data-set", " ", "ab m=8", 16), "a-ve…-set ab m=8");
        let both = title("a-very-long-data-set", " ", "ab levels=[0,2,4,6,8] bits=12", 20);
        assert!(both.starts_with("a-v…et ab ") && both.ends_with("its=12"), "{both}");
        assert!(columns(&both) <= 20);
    }
}
