//! Drawings: marks, lines and bands on two axes, as SVG and PNG.
//!
//! A method has the same colour, mark and dashes in every picture of a store. The eight colours
//! differ in lightness as well as in hue and stand 3:1 or better against white; marks and dashes
//! tell apart what is printed in grey.

use kuva::backend::raster::RasterBackend;
use kuva::backend::svg::SvgBackend;
use kuva::plot::legend::{LegendEntry, LegendPosition, LegendShape};
use kuva::plot::line::{LinePlot, LineStyle};
use kuva::plot::scatter::{MarkerShape, ScatterPlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::{Scene, render_multiple};
use std::sync::Arc;

const COLOURS: [&str; 8] =
    ["#0060a8", "#c2410c", "#007a5a", "#a21c74", "#7d5a00", "#3f3f46", "#5b3fb8", "#0b6b82"];
const SHAPES: [MarkerShape; 7] = [
    MarkerShape::Circle,
    MarkerShape::Square,
    MarkerShape::Triangle,
    MarkerShape::Diamond,
    MarkerShape::TriangleDown,
    MarkerShape::Star,
    MarkerShape::Hexagon,
];
const DASHES: [LineStyle; 4] =
    [LineStyle::Solid, LineStyle::Dashed, LineStyle::Dotted, LineStyle::DashDot];
const GREY: &str = "#4a525c";
/// Pixels of the drawing without a legend below it.
const SIZE: (f64, f64) = (860.0, 520.0);
/// Legends with more entries stand below, in columns.
const BESIDE: usize = 14;
/// Of more methods the lines are thin, and of more configurations the marks are small.
const MANY_LINES: usize = 12;
const MANY_MARKS: usize = 600;
/// Wider axes have labels at 1, 2 and 5 of each decade.
const MOST_OCTAVES: f64 = 9.5;
/// Pixels of a PNG for each of the drawing.
const DENSITY: f32 = 2.0;

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// What it shows, with its unit.
    pub(super) label: String,
    /// Whether equal ratios take equal room.
    pub(super) log: bool,
}

impl Axis {
    /// Its label and its scale.
    fn told(&self) -> String {
        let scale = if self.log { ", log" } else { "" };
        format!("{}{scale}", self.label)
    }
}

/// A configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Half the 95 % interval of `y`.
    pub(super) half: Option<f64>,
    /// Whether no other of its method is as good in both, so that its line goes through it.
    pub(super) on_line: bool,
    /// What an SVG tells of it: configuration and key.
    pub(super) tells: String,
}

/// A method.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Its place among all methods of the store, for colour, mark and dashes.
    pub(super) style: usize,
    pub(super) marks: Vec<Mark>,
}

/// All that is drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Drawing {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// What no code can be better than, and what it is called.
    pub(super) bound: Option<(String, Vec<(f64, f64)>)>,
}

impl Drawing {
    /// As SVG.
    pub(super) fn svg(&self) -> String {
        SvgBackend::default().render_scene(&self.scene())
    }

    /// As PNG.
    ///
    /// # Errors
    /// What the encoder says.
    pub(super) fn png(&self) -> Result<Vec<u8>, String> {
        RasterBackend::new().with_scale(DENSITY).render_scene(&self.scene())
    }

    fn scene(&self) -> Scene {
        let marks = || self.lines.iter().flat_map(|line| &line.marks);
        let ends = range(&self.x, marks().map(|mark| mark.x));
        // Rates are powers of two, and so are the labels of an axis of few of them.
        let octaves =
            ends.filter(|(low, high)| (1.5..=MOST_OCTAVES).contains(&(high / low).log2()));
        let across = |x: f64| if octaves.is_some() { x.log2() } else { x };
        let mut plots: Vec<Plot> = Vec::new();
        let mut legend: Vec<LegendEntry> = Vec::new();
        if let Some((name, points)) = &self.bound {
            let line = LinePlot::new()
                .with_data(points.iter().map(|(x, y)| (across(*x), *y)))
                .with_color(GREY);
            plots.push(line.with_stroke_width(1.6).with_dotted().into());
            legend.push(LegendEntry {
                label: name.clone(),
                color: GREY.to_owned(),
                shape: LegendShape::Line,
                dasharray: LineStyle::Dotted.dasharray(),
            });
        }
        for line in &self.lines {
            let color = COLOURS[line.style % COLOURS.len()];
            let marker = SHAPES[line.style % SHAPES.len()];
            let mut along: Vec<&Mark> = line.marks.iter().filter(|mark| mark.on_line).collect();
            along.sort_by(|a, b| a.x.total_cmp(&b.x));
            if along.len() > 1 {
                let dashes =
                    DASHES[(line.style + line.style / COLOURS.len()) % DASHES.len()].clone();
                let mut path = LinePlot::new()
                    .with_data(along.iter().map(|mark| (across(mark.x), mark.y)))
                    .with_color(color)
                    .with_stroke_width(if self.lines.len() > MANY_LINES { 1.0 } else { 1.8 })
                    .with_line_style(dashes);
                if along.iter().any(|mark| mark.half.is_some()) {
                    let half = |mark: &Mark| mark.half.unwrap_or(0.0);
                    let low = along.iter().map(|mark| self.above_zero(mark.y - half(mark), mark.y));
                    path = path.with_band(low, along.iter().map(|mark| mark.y + half(mark)));
                }
                plots.push(path.into());
            }
            let scale = if marks().count() > MANY_MARKS { 0.7 } else { 1.0 };
            for (on_line, size) in [(false, 3.4 * scale), (true, 4.6 * scale)] {
                let these: Vec<&Mark> =
                    line.marks.iter().filter(|mark| mark.on_line == on_line).collect();
                if these.is_empty() {
                    continue;
                }
                let marks = ScatterPlot::new()
                    .with_data(these.iter().map(|mark| (across(mark.x), mark.y)))
                    .with_color(if on_line { color.to_owned() } else { pale(color) })
                    .with_marker(marker)
                    .with_size(size)
                    .with_tooltips()
                    .with_tooltip_labels(these.iter().map(|mark| mark.tells.clone()));
                plots.push(marks.into());
            }
            legend.push(LegendEntry {
                label: line.name.clone(),
                color: color.to_owned(),
                shape: LegendShape::Marker(marker),
                dasharray: None,
            });
        }
        let entries = legend.len();
        let beside = entries <= BESIDE;
        // Below, the drawing keeps its height.
        let widest = legend.iter().map(|entry| entry.label.chars().count()).max().unwrap_or(0);
        let in_a_row = (SIZE.0 / (7.5 * widest as f64 + 60.0)).max(1.0) as usize;
        let below = if beside { 0.0 } else { 19.0 * entries.div_ceil(in_a_row) as f64 + 10.0 };
        let mut layout = Layout::auto_from_plots(&plots)
            .with_width(SIZE.0)
            .with_height(SIZE.1 + below)
            .with_title(&self.title)
            .with_title_size(15)
            .with_subtitle(&self.subtitle)
            .with_subtitle_wrap(120)
            .with_x_label(self.x.told())
            .with_y_label(self.y.told())
            .with_legend_entries(legend)
            .with_legend_position(match beside {
                true => LegendPosition::OutsideRightTop,
                false => LegendPosition::OutsideBottomColumns,
            })
            .with_legend_box(false);
        // Whole decades would leave half of a picture empty.
        if let Some((low, high)) = ends {
            layout = layout.with_x_axis_min(across(low)).with_x_axis_max(across(high));
        }
        if let Some((low, high)) = range(&self.y, marks().map(|mark| mark.y)) {
            layout = layout.with_y_axis_min(low).with_y_axis_max(high);
        }
        for (axis, is_x) in [(&self.x, true), (&self.y, false)] {
            if !axis.log {
                continue;
            }
            let format = TickFormat::Custom(Arc::new(tick));
            let power = TickFormat::Custom(Arc::new(|power: f64| tick(power.exp2())));
            layout = match is_x {
                true if octaves.is_some() => layout.with_x_tick_step(1.0).with_x_tick_format(power),
                true => layout.with_log_x().with_x_tick_format(format),
                false => layout.with_log_y().with_y_tick_format(format),
            };
        }
        render_multiple(plots, layout)
    }

    /// The lower end of a band, which a log scale keeps above 0.
    fn above_zero(&self, low: f64, value: f64) -> f64 {
        if self.y.log && low <= 0.0 { value / 10.0 } else { low }
    }
}

/// The ends of a log scale, a little beyond its values; none for another.
fn range(axis: &Axis, values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) =
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    let beyond = if low < high { (high / low).powf(0.04) } else { 2.0 };
    (axis.log && low > 0.0 && high > 0.0).then(|| (low / beyond, high * beyond))
}

/// Half way to white.
fn pale(color: &str) -> String {
    let part = |at: usize| u8::from_str_radix(color.get(at..at + 2).unwrap_or("80"), 16);
    let halved = [1, 3, 5].map(|at| u16::from(part(at).unwrap_or(128)).midpoint(255));
    format!("#{:02x}{:02x}{:02x}", halved[0], halved[1], halved[2])
}

/// A label of a log scale: `0.25`, `20`, `10 k`, `3e-5`.
fn tick(value: f64) -> String {
    let size = value.abs();
    let short = |scaled: f64| {
        let text = format!("{scaled:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match size {
        _ if value == 0.0 => "0".to_owned(),
        size if size < 1e-3 => format!("{value:.0e}"),
        size if size < 1e4 => short(value),
        size if size < 1e6 => short(value / 1e3) + " k",
        size if size < 1e9 => short(value / 1e6) + " M",
        size if size < 1e12 => short(value / 1e9) + " G",
        _ => format!("{value:.0e}"),
    }
}
