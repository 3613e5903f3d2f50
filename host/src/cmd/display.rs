//! What `run` and `plan` show while they work.

use super::say;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vq_host::data;
use vq_host::plan::Cell;
use vq_host::record::{Outcome, Record};
use vq_host::report::{columns, fit, fit_middle, plain, title};

/// A bar is drawn anew at least so often, for its clock.
const TICK: Duration = Duration::from_millis(125);
/// Columns of a stage: the longest is `time decompress`.
const STAGE: usize = 15;
/// From here on numbers have their names beside them.
const NAMED: usize = 72;
/// Rows of a terminal that are not for bars of cells.
const OTHER_ROWS: usize = 7;
/// Columns of a terminal that bars leave free: it writes `^C` after them, and where that wraps the
/// bar is no longer where it was.
const FREE: usize = 3;

/// Bars with ETA on a terminal, plain lines elsewhere; always on stderr.
pub(super) struct Display {
    bars: Option<Bars>,
    /// Whether data preparation is told where there are no bars.
    tells: bool,
    run: Arc<Mutex<Run>>,
    /// The stage of data preparation that was last named in a plain line.
    preparing: Mutex<String>,
}

struct Bars {
    all: &'static MultiProgress,
    data: Mutex<Option<(ProgressBar, Arc<Mutex<Step>>)>>,
    run: Mutex<Vec<ProgressBar>>,
    slots: Mutex<Vec<Arc<Mutex<Slot>>>>,
}

/// The run as a whole.
#[derive(Default)]
struct Run {
    finished: usize,
    failed: usize,
    cells: usize,
    began: Option<Instant>,
    /// The last end of a cell.
    last: Option<Instant>,
    /// The cells differ in their seeds, so that titles name them.
    seeds: bool,
    /// Columns of the longest title.
    widest: usize,
}

/// A step of data preparation.
struct Step {
    name: String,
    stage: &'static str,
    began: Option<Instant>,
    fraction: f64,
}

/// What one of the cells at work is about.
#[derive(Default)]
struct Slot {
    dataset: String,
    rest: String,
    stage: String,
    fraction: f64,
    began: Option<Instant>,
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Display {
    /// Also tells of data preparation where there are no bars.
    pub(super) fn new() -> Self {
        Self::telling(true)
    }

    /// Tells of nothing where there are no bars.
    pub(super) fn only_bars() -> Self {
        Self::telling(false)
    }

    fn telling(tells: bool) -> Self {
        let bars = say::bars().map(|all| Bars {
            all,
            data: Mutex::default(),
            run: Mutex::default(),
            slots: Mutex::default(),
        });
        Display { bars, tells, run: Arc::default(), preparing: Mutex::default() }
    }

    pub(super) fn say(&self, line: &str) {
        say::line(line);
    }

    pub(super) fn preparing(&self, name: &str, progress: data::Progress) {
        if let Some(bars) = &self.bars {
            let mut data = held(&bars.data);
            let began = || Step {
                name: plain(name),
                stage: progress.stage,
                began: Some(Instant::now()),
                fraction: 0.0,
            };
            let (bar, step) = data.get_or_insert_with(|| {
                let step = Arc::new(Mutex::new(began()));
                let drawn = Arc::clone(&step);
                (bar(bars.all, move |width| held(&drawn).line(width, Instant::now())), step)
            });
            let mut now = held(step);
            let another = now.name != plain(name) || now.stage != progress.stage;
            if another {
                *now = began();
            }
            now.fraction = progress.done as f64 / progress.total.max(1) as f64;
            drop(now);
            if another {
                bar.force_draw();
            }
        } else if self.tells {
            let what = format!("{name}: {}", progress.stage);
            let mut last = held(&self.preparing);
            if *last != what {
                say::line(&format!("preparing {what}"));
                *last = what;
            }
        }
    }

    pub(super) fn prepared(&self) {
        if let Some(bars) = &self.bars
            && let Some((bar, _)) = held(&bars.data).take()
        {
            bar.finish_and_clear();
        }
    }

    pub(super) fn begin(&self, cells: &[&Cell], jobs: usize) {
        let seeds = cells.iter().any(|cell| cell.seed != cells[0].seed);
        let title =
            |cell: &&Cell| columns(&plain(&cell.dataset_name)) + 1 + columns(&rest_of(cell, seeds));
        *held(&self.run) = Run {
            cells: cells.len(),
            began: Some(Instant::now()),
            seeds,
            widest: cells.iter().map(title).max().unwrap_or(0),
            ..Run::default()
        };
        if say::width().is_some_and(|width| width < NAMED) {
            say::line("of each cell: bits/dim, rel. error, recall@10, time");
        }
        let Some(bars) = &self.bars else { return };
        let (mut slots, mut drawn) = (held(&bars.slots), held(&bars.run));
        let room = say::height().saturating_sub(OTHER_ROWS).max(1);
        for i in 0..jobs.min(cells.len()) {
            let slot = Arc::new(Mutex::new(Slot::default()));
            if i < room {
                let (slot, run) = (Arc::clone(&slot), Arc::clone(&self.run));
                drawn.push(bar(bars.all, move |width| {
                    let widest = held(&run).widest;
                    held(&slot).line(width, widest, Instant::now())
                }));
            }
            slots.push(slot);
        }
        let run = Arc::clone(&self.run);
        drawn.push(bar(bars.all, move |width| held(&run).line(width, Instant::now())));
    }

    pub(super) fn started(&self, slot: usize, cell: &Cell) {
        let seeds = held(&self.run).seeds;
        self.with_slot(slot, |slot| {
            *slot = Slot {
                dataset: plain(&cell.dataset_name),
                rest: rest_of(cell, seeds),
                began: Some(Instant::now()),
                ..Slot::default()
            };
        });
    }

    pub(super) fn progress(&self, slot: usize, stage: &str, fraction: f32) {
        self.with_slot(slot, |slot| slot.reach(stage, fraction.into()));
    }

    pub(super) fn finished(&self, slot: usize, record: &Record) {
        self.with_slot(slot, |slot| slot.began = None);
        let mut run = held(&self.run);
        run.finished += 1;
        run.failed += usize::from(!record.outcome.is_ok());
        run.last = Some(Instant::now());
        let line = run.told(record, say::width());
        drop(run);
        say::line(&line);
    }

    fn with_slot(&self, slot: usize, act: impl FnOnce(&mut Slot)) {
        if let Some(bars) = &self.bars
            && let Some(slot) = held(&bars.slots).get(slot)
        {
            act(&mut held(slot));
        }
    }

    pub(super) fn finish(&self) {
        self.prepared();
        if let Some(bars) = &self.bars {
            held(&bars.run).drain(..).for_each(|bar| bar.finish_and_clear());
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A bar under those that are there, which draws the line that `line` makes for a width.
fn bar(
    all: &MultiProgress,
    line: impl Fn(usize) -> String + Clone + Send + Sync + 'static,
) -> ProgressBar {
    let style = ProgressStyle::with_template("{line}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("line", move |_: &ProgressState, to: &mut dyn Write| {
            let _ = to.write_str(&line(say::columns().saturating_sub(FREE)));
        });
    let bar = ProgressBar::no_length().with_style(style);
    let bar = all.add(bar);
    bar.enable_steady_tick(TICK);
    bar
}

/// Method, configuration and, where cells differ in it, the seed.
fn rest_of(cell: &Cell, seeds: bool) -> String {
    rest(&cell.method.id, &cell.label, seeds.then_some(cell.seed))
}

fn rest(method: &str, label: &str, seed: Option<u64>) -> String {
    let seed = seed.map(|seed| format!("seed={seed}")).unwrap_or_default();
    let parts = [method, label, &seed].into_iter().filter(|part| !part.is_empty());
    plain(&parts.collect::<Vec<_>>().join(" "))
}

impl Step {
    fn line(&self, width: usize, now: Instant) -> String {
        let spent = self.began.map_or(Duration::ZERO, |began| now.duration_since(began));
        let left = match self.fraction > 0.0 {
            true => spent.mul_f64((1.0 / self.fraction - 1.0).clamp(0.0, 1e6)),
            false => Duration::ZERO,
        };
        let gauge = gauge(self.fraction, gauge_width(width));
        let right = format!("{gauge} {:>3.0}%  eta {}", 100.0 * self.fraction, clock(left));
        let room = width.saturating_sub(columns(&right) + 4);
        let name = room.saturating_sub(columns(self.stage) + 2);
        let left = format!("{}: {}", fit_middle(&self.name, name), self.stage);
        fit(&format!("  {}  {right}", padded(&left, room.min(48))), width)
    }
}

impl Slot {
    /// A bar goes back only with its stage, whatever a plugin tells.
    fn reach(&mut self, stage: &str, fraction: f64) {
        let before = if self.stage == stage { self.fraction } else { 0.0 };
        self.fraction = fraction.clamp(0.0, 1.0).max(before);
        if self.stage != stage {
            self.stage = plain(stage);
        }
    }

    fn line(&self, width: usize, widest: usize, now: Instant) -> String {
        let Some(began) = self.began else { return String::new() };
        let gauge_width = gauge_width(width);
        let room = title_room(width, widest);
        let title = padded(&title(&self.dataset, " ", &self.rest, room), room);
        let stage = padded(&fit(&self.stage, STAGE), STAGE);
        let gauge = gauge(self.fraction, gauge_width);
        let percent = 100.0 * self.fraction;
        let clock = clock(now.duration_since(began));
        fit(&format!("  {title}  {stage} {gauge} {percent:>3.0}% {clock:>5}"), width)
    }
}

/// Columns of the titles in the bars of cells.
fn title_room(width: usize, widest: usize) -> usize {
    width.saturating_sub(2 + 2 + STAGE + 1 + gauge_width(width) + 5 + 6).min(widest)
}

impl Run {
    fn line(&self, width: usize, now: Instant) -> String {
        let Some(began) = self.began else { return String::new() };
        let elapsed = now.duration_since(began);
        let eta = self.last.map(|last| eta(self.finished, self.cells, last - began, elapsed));
        let failed = match self.failed {
            0 => String::new(),
            n => format!(", {n} failed"),
        };
        let text = format!(
            "  {}/{} cells{failed}  elapsed {}  eta {}",
            self.finished,
            self.cells,
            clock(elapsed),
            eta.map_or_else(|| "–".to_owned(), clock),
        );
        let fraction = self.finished as f64 / self.cells.max(1) as f64;
        let before = 2 + title_room(width, self.widest) + 2 + STAGE;
        let bar = gauge(fraction, gauge_width(width));
        let line = format!("{} {bar} {:>3.0}%", padded(&text, before), 100.0 * fraction);
        // The gauge is the least of it.
        if columns(&line) <= width { line } else { fit(&text, width) }
    }

    /// The line about a finished cell: in a terminal it fits the width, numbers and all.
    fn told(&self, record: &Record, width: Option<usize>) -> String {
        let (done, of) = (self.finished, self.cells);
        let digits = of.to_string().len();
        let count = format!("[{done:>digits$}/{of}] ");
        let Record { dataset, method, label, outcome, seed, .. } = record;
        let cause = record.error.as_deref().unwrap_or("no cause known");
        let Some(width) = width else {
            let end = match outcome {
                Outcome::Ok => numbers(record, LONG),
                _ => format!("{outcome}: {cause}"),
            };
            return format!(
                "{count}{} {}: {end}",
                dataset.name,
                rest(&method.id, label, Some(*seed))
            );
        };
        let name = plain(&dataset.name);
        let rest = rest(&method.id, label, self.seeds.then_some(*seed));
        let whole = columns(&name) + 1 + columns(&rest);
        if !outcome.is_ok() {
            // The cause is cut first, and the title takes what the rest of the line leaves.
            let end = format!(": {outcome}: {}", plain(cause));
            let left = width.saturating_sub(columns(&count) + columns(&end));
            let room = left.max(width / 3).max(20);
            return fit(&format!("{count}{}{end}", title(&name, " ", &rest, room)), width);
        }
        // For all lines of the run the same, if titles let it.
        let widest = self.widest.max(whole);
        let room = |names: Names| width.saturating_sub(columns(&count) + 2 + names.most);
        let (wanted, least): (&[Names], _) = match width {
            NAMED.. => (&[LONG, SHORT, BRIEF], TERSE),
            _ => (&[LISTED], BARE),
        };
        let names = wanted.iter().copied().find(|names| room(*names) >= widest).unwrap_or(least);
        let end = numbers(record, names);
        let room = width.saturating_sub(columns(&count) + 2 + columns(&end));
        format!("{count}{}: {end}", title(&name, " ", &rest, room))
    }
}

/// How the numbers of a cell are told.
#[derive(Clone, Copy)]
struct Names {
    /// What precedes each.
    names: [&'static str; 3],
    /// What stands between two.
    between: &'static str,
    /// Columns that they usually take at most.
    most: usize,
}

const LONG: Names =
    Names { names: ["bits/dim ", "rel. error ", "recall@10 "], between: ", ", most: 58 };
const SHORT: Names = Names { names: ["bits/dim ", "err ", "recall "], between: ", ", most: 49 };
const BRIEF: Names = Names { names: ["b/d ", "err ", "recall "], between: ", ", most: 44 };
const TERSE: Names = Names { between: " ", most: 41, ..BRIEF };
const LISTED: Names = Names { names: ["", "", ""], between: ", ", most: 31 };
const BARE: Names = Names { between: " ", most: 28, ..LISTED };

fn numbers(record: &Record, Names { names, between, .. }: Names) -> String {
    let metrics = [("bits_per_dim", 3), ("relative_error", 4), ("recall@10", 3)];
    let mut parts = Vec::new();
    for (name, (metric, digits)) in names.into_iter().zip(metrics) {
        match record.value(metric) {
            Some(value) => parts.push(format!("{name}{value:.digits$}")),
            // Without names the place tells which number it is.
            None if name.is_empty() => parts.push("–".to_owned()),
            None => {}
        }
    }
    parts.push(format!("{:.1} s", record.wall_s));
    parts.join(between)
}

/// For how long `cells` will still run: as long a cell as so far. `last`: when the last one ended,
/// `now`: how long it has been, both since the beginning.
fn eta(finished: usize, cells: usize, last: Duration, now: Duration) -> Duration {
    let each = last.div_f64(finished.max(1) as f64);
    let all = each.mul_f64(cells as f64);
    // A cell that takes longer than the others does not make the end come earlier.
    let remaining = cells.saturating_sub(finished);
    all.saturating_sub(now).max(each.mul_f64(remaining.saturating_sub(1) as f64))
}

/// `7s`, `3m05s`, `2h07m`, `3d04h`.
fn clock(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

fn gauge_width(width: usize) -> usize {
    match width {
        ..72 => 6,
        72..100 => 14,
        _ => 20,
    }
}

fn gauge(fraction: f64, width: usize) -> String {
    let full = (fraction.clamp(0.0, 1.0) * width as f64).floor() as usize;
    "█".repeat(full) + &"░".repeat(width.saturating_sub(full))
}

/// `text` with spaces up to `width` columns.
fn padded(text: &str, width: usize) -> String {
    text.to_owned() + &" ".repeat(width.saturating_sub(columns(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(dataset: &str, rest: &str) -> Slot {
        let (dataset, rest) = (dataset.to_owned(), rest.to_owned());
        Slot { dataset, rest, began: Some(Instant::now()), ..Slot::default() }
    }

    #[test]
    fn a_long_name_hides_neither_method_nor_stage_at_any_width() {
        let mut slot = slot(&"a-data-set-of-a-rather-long-name".repeat(3), "ab m=8 bits=4");
        slot.reach("time decompress", 0.456);
        for width in [60, 80, 100, 200] {
            let line = slot.line(width, 110, Instant::now());
            assert!(columns(&line) <= width, "{width}: {line}");
            for part in ["ab m=8 bits=4", "time decompress", "46%", "0s", "█"] {
                assert!(line.contains(part), "{width}: `{part}` is missing in {line}");
            }
        }
    }

    #[test]
    fn a_bar_goes_back_only_with_its_stage() {
        let mut slot = slot("d", "m");
        slot.reach("fit", 0.5);
        slot.reach("fit", 0.0);
        assert_eq!(slot.fraction, 0.5);
        slot.reach("compress", 0.1);
        assert_eq!(slot.fraction, 0.1);
    }

    #[test]
    fn the_eta_is_that_of_the_whole_run() {
        let s = Duration::from_secs;
        assert_eq!(eta(2, 10, s(4), s(4)), s(16));
        assert_eq!(eta(2, 10, s(4), s(5)), s(15));
        // The third hangs: seven others are still to come.
        assert_eq!(eta(2, 10, s(4), s(500)), s(14));
        assert_eq!(eta(10, 10, s(20), s(20)), s(0));
        let run = Run {
            finished: 123,
            cells: 76_832,
            failed: 12,
            began: Some(Instant::now()),
            widest: 30,
            ..Run::default()
        };
        for width in [60, 80, 200] {
            let line = run.line(width, Instant::now());
            assert!(columns(&line) <= width, "{width}: {line}");
            assert!(line.contains("123/76832 cells, 12 failed"), "{line}");
        }
    }

    #[test]
    fn a_time_is_short() {
        let of = |s| clock(Duration::from_secs(s));
        assert_eq!([of(7), of(185), of(7620), of(273_600)], ["7s", "3m05s", "2h07m", "3d04h"]);
    }

    #[test]
    fn a_data_step_fits_and_keeps_its_stage() {
        let step = Step {
            name: "n".repeat(90),
            stage: "find neighbours",
            began: Some(Instant::now()),
            fraction: 0.25,
        };
        for width in [60, 80, 200] {
            let line = step.line(width, Instant::now());
            assert!(columns(&line) <= width && line.contains("find neighbours"), "{line}");
            assert!(line.contains("25%"), "{line}");
        }
    }
}
