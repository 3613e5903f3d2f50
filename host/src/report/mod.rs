//! Reports: records → tables for people, JSON and CSV for programs.
//!
//! Pure: a report sees records and nothing else, so each can be made again from the store at any
//! time. The caller says how wide the output is and whether it takes colour.

mod bound;
mod changes;
pub mod compare;
mod configuration;
pub mod export;
mod failures;
mod machines;
mod marks;
mod notices;
mod number;
pub mod page;
pub mod plot;
pub mod recommend;
pub mod results;
mod spread;
pub mod table;
mod text;
pub mod tradeoffs;

pub use changes::quality_changed;
pub use machines::{disagreements, one_of_each};
pub use marks::Marks;
pub(crate) use text::moves;
pub use text::{columns, fit, fit_middle, plain, plain_lines, title};

/// How tables are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns of the output; tables keep between 60 and 200 whatever this says.
    pub width: usize,
    /// Whether escape codes for colour may be written: a terminal, and no `NO_COLOR`.
    pub color: bool,
}

impl Style {
    /// 100 columns without colour: for files and pipes.
    pub const PLAIN: Self = Self { width: 100, color: false };

    /// Columns a table may take.
    fn columns(self) -> usize {
        self.width.clamp(60, 200)
    }
}

impl Default for Style {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// `text` between words in lines of at most `width` columns, all but the first after `indent`
/// spaces. A word that is longer than a line stays whole: it may be a path.
pub fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let mut lines = String::new();
    let mut taken = 0;
    for (i, word) in text.split(' ').enumerate() {
        let size = columns(word);
        if i > 0 {
            if taken + 1 + size > width && taken > indent {
                lines.truncate(lines.trim_end().len());
                lines.push('\n');
                lines.extend(std::iter::repeat_n(' ', indent));
                taken = indent;
                if word.is_empty() {
                    continue;
                }
            } else {
                lines.push(' ');
                taken += 1;
            }
        }
        lines.push_str(word);
        taken += size;
    }
    lines
}

/// The sentence about `n` configurations that took more threads than they were given.
fn too_many_threads(n: usize) -> Option<String> {
    match n {
        0 => None,
        1 => Some(
            "1 configuration used more threads than it was given: its speeds do not compare".into(),
        ),
        n => Some(format!(
            "{n} configurations used more threads than they were given: their speeds do not compare"
        )),
    }
}

/// What a report has to know about a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// Unit of its values; empty for a pure number.
    unit: &'static str,
    /// The better direction, where there is one.
    higher_is_better: Option<bool>,
}

/// The metric called `name`. The only place where reports learn about metrics.
fn known(name: &str) -> Known {
    let info = crate::metric::info(name);
    Known {
        unit: info.map_or("", |info| info.unit),
        higher_is_better: info.and_then(|info| info.higher_is_better()),
    }
}

/// The recall that stands for a whole dataset: `recall@10`, or the one with the largest k where
/// nobody asked for 10.
fn headline_recall<'a>(metrics: impl Iterator<Item = &'a str>) -> Option<usize> {
    let rank = |name: &str| {
        let k: usize = name.strip_prefix("recall@")?.parse().ok()?;
        Some((k == 10, k))
    };
    metrics.filter_map(rank).max().map(|(_, k)| k)
}
