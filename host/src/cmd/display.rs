//! What `run` shows while it works.

use super::say;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::sync::Mutex;
use std::time::Duration;
use vq_host::data;
use vq_host::plan::Cell;
use vq_host::record::{Outcome, Record};

/// Bars with ETA on a terminal, plain lines elsewhere; always on stderr.
pub(super) struct Display {
    bars: Option<Bars>,
    /// Cells finished and to run.
    count: Mutex<(usize, usize)>,
    /// The stage of data preparation that was last named in a plain line.
    preparing: Mutex<String>,
}

struct Bars {
    all: &'static MultiProgress,
    data: ProgressBar,
    total: ProgressBar,
    slots: Mutex<Vec<ProgressBar>>,
}

impl Display {
    pub(super) fn new() -> Self {
        let bars = say::bars().map(|all| {
            let hidden = || {
                let bar = ProgressBar::hidden();
                bar.set_style(ProgressStyle::default_bar());
                bar
            };
            Bars { data: hidden(), total: hidden(), slots: Mutex::new(Vec::new()), all }
        });
        Display { bars, count: Mutex::new((0, 0)), preparing: Mutex::new(String::new()) }
    }

    pub(super) fn say(&self, line: &str) {
        say::line(line);
    }

    pub(super) fn preparing(&self, name: &str, progress: data::Progress) {
        let what = format!("{name}: {}", progress.stage);
        if let Some(bars) = &self.bars {
            if bars.data.is_hidden() {
                bars.all.add(bars.data.clone());
                bars.data.set_style(style_of("{msg:40} {wide_bar} {percent:>3}% {eta:>4}"));
            }
            bars.data.set_length(progress.total);
            bars.data.set_position(progress.done);
            bars.data.set_message(what);
        } else if let Ok(mut last) = self.preparing.lock()
            && *last != what
        {
            say::line(&format!("preparing {what}"));
            *last = what;
        }
    }

    pub(super) fn prepared(&self) {
        if let Some(bars) = &self.bars {
            bars.data.finish_and_clear();
        }
    }

    pub(super) fn begin(&self, cells: usize, jobs: usize) {
        if let Ok(mut count) = self.count.lock() {
            *count = (0, cells);
        }
        let Some(bars) = &self.bars else { return };
        let Ok(mut slots) = bars.slots.lock() else { return };
        // First: a bar can only be put before one that is in the group.
        bars.all.add(bars.total.clone());
        for _ in 0..jobs {
            let bar = bars.all.insert_before(&bars.total, ProgressBar::new(100));
            bar.set_style(style_of("  {msg:58!} {wide_bar} {elapsed:>4}"));
            bar.enable_steady_tick(Duration::from_millis(250));
            slots.push(bar);
        }
        bars.total.set_length(cells as u64);
        bars.total.set_style(style_of("{pos}/{len} cells {wide_bar} elapsed {elapsed} eta {eta}"));
        bars.total.enable_steady_tick(Duration::from_millis(250));
    }

    pub(super) fn started(&self, slot: usize, cell: &Cell) {
        self.with_slot(slot, |bar| {
            bar.reset();
            bar.set_message(cell.title());
        });
    }

    pub(super) fn progress(&self, slot: usize, stage: &str, fraction: f32) {
        self.with_slot(slot, |bar| {
            bar.set_position((100.0 * fraction) as u64);
            let message = bar.message();
            let title = message.split(" · ").next().unwrap_or_default();
            bar.set_message(format!("{title} · {stage}"));
        });
    }

    pub(super) fn finished(&self, slot: usize, record: &Record) {
        self.with_slot(slot, |bar| bar.set_message(""));
        let (done, of) = self.count.lock().map_or((0, 0), |mut count| {
            count.0 += 1;
            *count
        });
        if let Some(bars) = &self.bars {
            bars.total.inc(1);
        }
        let width = of.to_string().len();
        let title = format!("{} {} {}", record.dataset.name, record.method.id, record.label);
        let end = match record.outcome {
            Outcome::Ok => summary(record),
            outcome => {
                format!("{outcome}: {}", record.error.as_deref().unwrap_or("no cause known"))
            }
        };
        self.say(&format!("[{done:>width$}/{of}] {title} seed={}: {end}", record.seed));
    }

    fn with_slot(&self, slot: usize, act: impl FnOnce(&ProgressBar)) {
        if let Some(bars) = &self.bars
            && let Ok(slots) = bars.slots.lock()
            && let Some(bar) = slots.get(slot)
        {
            act(bar);
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bars) = &self.bars {
            if let Ok(slots) = bars.slots.lock() {
                slots.iter().for_each(ProgressBar::finish_and_clear);
            }
            bars.total.finish_and_clear();
        }
    }
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn summary(record: &Record) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, metric: &str, digits: usize| {
        if let Some(value) = record.value(metric) {
            parts.push(format!("{name} {value:.digits$}"));
        }
    };
    part("bits/dim", "bits_per_dim", 3);
    part("rel. error", "relative_error", 4);
    part("recall@10", "recall@10", 3);
    parts.push(format!("{:.1} s", record.wall_s));
    parts.join(", ")
}
