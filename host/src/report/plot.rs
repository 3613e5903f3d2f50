//! Pictures: one number against another for each configuration of a data set, a line a method.
//!
//! From records alone, so that each can be made again from the store; an SVG tells for every mark
//! the configuration and the key of its record.

mod draw;
mod letters;

use std::collections::{BTreeMap, BTreeSet};

use self::draw::{Axis, Drawing, Line, Mark};
use super::bound::bound;
use super::configuration::{Configuration, SIZE, pareto_front};
use super::results::metrics_of;
use super::spread::mean_and_error;
use super::{headline_recall, known, number, plain};
use crate::metric::{Better, info};
use crate::record::{Record, natural_key};

/// What pictures are made of, all from one store.
#[derive(Clone, Copy, Debug)]
pub struct PlotInput<'a> {
    /// The store's file name.
    pub store: &'a str,
    /// The records to show.
    pub records: &'a [Record],
    /// All methods of the store, so that a choice of records changes no colour.
    pub methods: &'a [String],
    /// Eigenvalues of the data sets, by digest.
    pub spectra: &'a BTreeMap<String, Vec<f64>>,
}

/// Which pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct PlotRequest {
    /// The metric across.
    pub x: String,
    /// The metrics up, a picture for each; none is a sensible set.
    pub y: Vec<String>,
    /// Bits per dimension up to which the re-ranking of each method's best is shown.
    pub rate: f64,
    /// No scale is logarithmic.
    pub linear: bool,
}

impl Default for PlotRequest {
    fn default() -> Self {
        Self { x: "bits_per_dim".to_owned(), y: Vec::new(), rate: 2.0, linear: false }
    }
}

/// Why pictures cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlotError {
    /// No record has this metric.
    #[error("no record has the metric `{name}`")]
    UnknownMetric {
        /// The name asked for.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// The encoder refuses.
    #[error("cannot make a PNG: {reason}")]
    Png {
        /// Why.
        reason: String,
    },
}

/// A picture under a name for its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// `glove-recall@10-bits_per_dim`.
    pub name: String,
    drawing: Drawing,
}

impl Picture {
    /// As SVG.
    pub fn svg(&self) -> String {
        self.drawing.svg()
    }

    /// As PNG.
    ///
    /// # Errors
    /// [`PlotError::Png`].
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        self.drawing.png().map_err(|reason| PlotError::Png { reason })
    }

    /// In characters: a letter for each configuration, capital on its method's line.
    pub fn letters(&self, columns: usize, rows: usize, color: bool) -> String {
        letters::drawn(&self.drawing, columns, rows, color)
    }
}

/// Bands of more methods than this would be fog.
const BANDS: usize = 6;
/// Below this, the axes of pictures do not tell values apart any more.
const LEAST: f64 = 1e-10;

/// Makes the pictures of every data set, those without anything to draw left out. O(c log c) each
/// for c configurations.
///
/// # Errors
/// [`PlotError::UnknownMetric`].
pub fn pictures(input: &PlotInput<'_>, request: &PlotRequest) -> Result<Vec<Picture>, PlotError> {
    let present = metrics_of(input.records);
    for name in request.y.iter().chain([&request.x]) {
        if name != SIZE && !present.contains(name) && !input.records.is_empty() {
            return Err(PlotError::UnknownMetric { name: name.clone(), known: present });
        }
    }
    let space = |record: &Record| {
        let data = &record.dataset;
        (natural_key(&data.name), record.metric.clone(), data.digest.clone())
    };
    let spaces: BTreeSet<_> =
        input.records.iter().filter(|record| record.outcome.is_ok()).map(space).collect();
    let mut pictures: Vec<Picture> = Vec::new();
    for wanted in &spaces {
        let records: Vec<&Record> =
            input.records.iter().filter(|record| space(record) == *wanted).collect();
        for picture in of_space(input, request, &records) {
            let taken = pictures.iter().filter(|other| other.name == picture.name).count();
            let name = match taken {
                0 => picture.name,
                // Two data sets of one name: another metric, or other contents.
                _ => {
                    format!("{}-{}-{}", picture.name, wanted.1, &wanted.2[..wanted.2.len().min(8)])
                }
            };
            pictures.push(Picture { name, ..picture });
        }
    }
    Ok(pictures)
}

fn of_space(input: &PlotInput<'_>, request: &PlotRequest, records: &[&Record]) -> Vec<Picture> {
    let configurations = Configuration::of(records.iter().copied());
    let names = || records.iter().flat_map(|record| &record.metrics).map(|metric| metric.name());
    let k = headline_recall(names());
    let mut pictures = Vec::new();
    let usual = || {
        let recall = k.map(|k| format!("recall@{k}"));
        let others = ["relative_error", "bias", "compress_vectors_per_s", "score_codes_per_s"];
        recall.into_iter().chain(others.map(str::to_owned)).collect()
    };
    let ys: Vec<String> = if request.y.is_empty() { usual() } else { request.y.clone() };
    for y in &ys {
        pictures.extend(against(input, request, &configurations, y));
    }
    if request.y.is_empty()
        && let Some(k) = k
    {
        pictures.extend(reranked(input, request, &configurations, k));
    }
    pictures
}

/// The metric `y` against that of the request.
fn against(
    input: &PlotInput<'_>,
    request: &PlotRequest,
    configurations: &[Configuration<'_>],
    y: &str,
) -> Option<Picture> {
    let x = request.x.as_str();
    let points: Vec<(&Configuration<'_>, f64, f64)> =
        configurations.iter().filter_map(|of| Some((of, of.number(x)?, of.number(y)?))).collect();
    let first = points.first()?.0.first();
    let axis = |name: &str, values: &mut dyn Iterator<Item = f64>, spread: f64| {
        let is_share = known(name).unit.is_empty() && known(name).higher_is_better == Some(true);
        let log = !request.linear && !is_share && spans(values, spread);
        Axis { label: label(name), log }
    };
    let (x_axis, y_axis) = (
        axis(x, &mut points.iter().map(|point| point.1), 4.0),
        axis(y, &mut points.iter().map(|point| point.2), 30.0),
    );
    let drawn = |value: f64, axis: &Axis| !axis.log || value >= LEAST;
    let all = points.len();
    let points: Vec<_> =
        points.into_iter().filter(|(_, a, b)| drawn(*a, &x_axis) && drawn(*b, &y_axis)).collect();
    let mut lines: BTreeMap<usize, Vec<&(&Configuration<'_>, f64, f64)>> = BTreeMap::new();
    for point in &points {
        lines.entry(style(input, &point.0.first().method.id)).or_default().push(point);
    }
    let mut lines: Vec<Line> =
        lines.into_iter().map(|(style, points)| line(style, &points, x, y)).collect();
    if lines.len() > BANDS {
        lines.iter_mut().flat_map(|line| &mut line.marks).for_each(|mark| mark.half = None);
    }
    let bound = bound_line(input, first, x, y, &points, &y_axis);
    let along = |line: &Line| line.marks.iter().filter(|mark| mark.on_line).count() > 1;
    let banded =
        lines.iter().any(|line| along(line) && line.marks.iter().any(|m| m.half.is_some()));
    let mut notes = vec!["lines join the best of each method"];
    if banded {
        notes.push("bands are 95 % intervals");
    }
    let elsewhere = points.iter().filter(|(of, ..)| is_of_another_machine(of, [x, y])).count();
    let elsewhere = match elsewhere {
        0 => String::new(),
        n => format!("; {n} of another machine than most are off the lines"),
    };
    let left_out = all - points.len();
    let left_out = match left_out {
        0 => String::new(),
        n => format!("; {n} not above 0 left out"),
    };
    let name = plain(&first.dataset.name);
    Some(Picture {
        name: file_name(&[&name, y, x]),
        drawing: Drawing {
            title: format!("{y} against {x} on {name}"),
            subtitle: format!("{}; {}{elsewhere}{left_out}", about(input, first), notes.join("; ")),
            x: x_axis,
            y: y_axis,
            lines,
            bound,
        },
    })
}

/// Whether one of these metrics is a time, and that of `of` does not compare with most.
fn is_of_another_machine(of: &Configuration<'_>, metrics: [&str; 2]) -> bool {
    let unit = |name| known(name).unit;
    of.marks().elsewhere
        && metrics.iter().any(|name| unit(name) == "s" || unit(name).ends_with("/s"))
}

/// A method's marks.
fn line(style: usize, points: &[&(&Configuration<'_>, f64, f64)], x: &str, y: &str) -> Line {
    let ranked: Vec<(f64, Option<f64>)> = points
        .iter()
        .map(|(of, a, b)| {
            let leads = of.marks().may_lead() && !is_of_another_machine(of, [x, y]);
            let quality = quality(y, *b).filter(|_| leads);
            (quality_or_zero(x, *a), quality)
        })
        .collect();
    let ranks = quality(x, 0.0).is_some() && quality(y, 0.0).is_some();
    let front = if ranks { pareto_front(&ranked) } else { vec![true; points.len()] };
    let marks = points.iter().zip(front).map(|((of, a, b), on_line)| Mark {
        x: *a,
        y: *b,
        half: half(of, y),
        on_line: on_line && !is_of_another_machine(of, [x, y]),
        tells: format!(
            "{} {}: {x} {}, {y} {}, key {}",
            plain(&of.first().method.id),
            plain(&of.first().label),
            number::metric(x, *a),
            number::metric(y, *b),
            of.first().key.get(..12).unwrap_or(&of.first().key)
        ),
    });
    let name = points.first().map(|(of, ..)| plain(&of.first().method.id)).unwrap_or_default();
    Line { name, style, marks: marks.collect() }
}

/// What of the true neighbours is missed after re-ranking more and more, by the best code of each
/// method at the rate of the request.
fn reranked(
    input: &PlotInput<'_>,
    request: &PlotRequest,
    configurations: &[Configuration<'_>],
    k: usize,
) -> Option<Picture> {
    let recall = format!("recall@{k}");
    let start = format!("{recall}/rerank=");
    let mut best: BTreeMap<&str, (&Configuration<'_>, f64)> = BTreeMap::new();
    for of in configurations.iter().filter(|of| of.marks().may_lead()) {
        let (Some(size), Some(found)) = (of.number("bits_per_dim"), of.mean(&recall)) else {
            continue;
        };
        // A budget that a code fills to the byte may end a hair above.
        if size > 1.05 * request.rate {
            continue;
        }
        let better =
            best.get(of.first().method.id.as_str()).is_none_or(|(_, other)| found > *other);
        if better {
            best.insert(&of.first().method.id, (of, found));
        }
    }
    let first = best.values().next()?.0.first();
    let mut left_out = 0;
    let mut lines: Vec<Line> = best
        .iter()
        .map(|(id, (of, _))| {
            let mut marks: Vec<Mark> = Vec::new();
            for metric in &of.first().metrics {
                let r = metric.name().strip_prefix(&start).and_then(|r| r.parse::<u32>().ok());
                let Some((r, found)) = r.zip(of.mean(metric.name())) else { continue };
                let missed = 1.0 - found;
                if missed < 1e-9 {
                    left_out += 1;
                    continue;
                }
                let name = metric.name();
                let key = of.first().key.get(..12).unwrap_or(&of.first().key);
                marks.push(Mark {
                    x: f64::from(r),
                    y: missed,
                    half: half(of, name),
                    on_line: true,
                    tells: format!(
                        "{} {}: {name} {found:.4}, key {key}",
                        plain(id),
                        plain(&of.first().label)
                    ),
                });
            }
            let bits = of.number("bits_per_dim").unwrap_or_default();
            let name = format!("{} {} ({bits:.2})", plain(id), plain(&of.first().label));
            Line { name, style: style(input, id), marks }
        })
        .filter(|line| !line.marks.is_empty())
        .collect();
    if lines.is_empty() {
        return None;
    }
    if lines.len() > BANDS {
        lines.iter_mut().flat_map(|line| &mut line.marks).for_each(|mark| mark.half = None);
    }
    let values = || lines.iter().flat_map(|line| &line.marks).map(|mark| mark.y);
    let log = !request.linear && spans(&mut values(), 10.0);
    let name = plain(&first.dataset.name);
    let none = match left_out {
        0 => String::new(),
        n => format!("; {n} that miss none left out"),
    };
    Some(Picture {
        name: file_name(&[&name, "rerank", &recall]),
        drawing: Drawing {
            title: format!("Neighbours missed after re-ranking, on {name}"),
            subtitle: format!(
                "{}; best of each method up to {} bits/dim (its bits in brackets){none}",
                about(input, first),
                request.rate
            ),
            x: Axis {
                label: format!("r: the best r·{k} found are ranked again with the originals"),
                log: !request.linear,
            },
            y: Axis { label: format!("1 − {recall}, lower is better"), log },
            lines,
            bound: None,
        },
    })
}

/// The rate–distortion bound in the units of the axes, no longer than what is drawn beside it.
fn bound_line(
    input: &PlotInput<'_>,
    first: &Record,
    x: &str,
    y: &str,
    points: &[(&Configuration<'_>, f64, f64)],
    y_axis: &Axis,
) -> Option<(String, Vec<(f64, f64)>)> {
    let spectrum = input.spectra.get(&first.dataset.digest)?;
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)))
    };
    let xs = range(&mut points.iter().map(|point| point.1));
    let ys = range(&mut points.iter().map(|point| point.2));
    let (variance, rates) = bound(spectrum, 64.0)?;
    let line = rates.into_iter().filter_map(|(bits, error)| {
        let a = match x {
            "bits_per_dim" | SIZE => bits,
            "ratio" => 32.0 / bits,
            _ => return None,
        };
        let b = match y {
            "relative_error" => error,
            "mse" => error * variance,
            "sqnr_db" => -10.0 * error.log10(),
            _ => return None,
        };
        let within = xs.0 / 1.05 <= a && a <= 1.05 * xs.1 && b >= ys.0 / 4.0 && b.is_finite();
        (within && (!y_axis.log || b > LEAST)).then_some((a, b))
    });
    let line: Vec<(f64, f64)> = line.collect();
    (line.len() > 1).then(|| ("Gaussian bound".to_owned(), line))
}

/// A method's place among all of the store.
fn style(input: &PlotInput<'_>, id: &str) -> usize {
    let mut all: Vec<&String> = input.methods.iter().collect();
    all.sort_by_cached_key(|id| natural_key(id));
    all.iter().position(|known| *known == id).unwrap_or(all.len())
}

fn about(input: &PlotInput<'_>, record: &Record) -> String {
    let data = &record.dataset;
    let store = plain(input.store);
    format!("{} × {}, {} queries, {}; {store}", data.n, data.dim, data.queries, record.metric)
}

/// What an axis is called.
fn label(name: &str) -> String {
    let unit = match known(name).unit {
        "" => String::new(),
        unit => format!(" ({unit})"),
    };
    let better = match info(name).map(|info| info.better) {
        Some(Better::Higher) => ", higher is better".to_owned(),
        Some(Better::Lower) => ", lower is better".to_owned(),
        Some(Better::Near(ideal)) => format!(", best at {ideal}"),
        _ => String::new(),
    };
    format!("{name}{unit}{better}")
}

/// Whether all values are above 0 and the largest is so many times the smallest.
fn spans(values: &mut dyn Iterator<Item = f64>, times: f64) -> bool {
    // What an axis cannot tell from 0 has no say.
    let (least, most, negative) = values
        .filter(|value| *value == 0.0 || value.abs() >= LEAST)
        .fold((f64::INFINITY, 0.0_f64, false), |(least, most, negative), value| {
            let least = if value > 0.0 { least.min(value) } else { least };
            (least, most.max(value), negative || value < 0.0)
        });
    !negative && most > times * least
}

/// How good a value is; none where no direction is better.
fn quality(name: &str, value: f64) -> Option<f64> {
    if name == SIZE {
        return Some(-value);
    }
    match info(name)?.better {
        Better::Higher => Some(value),
        Better::Lower => Some(-value),
        Better::Near(ideal) => Some(-(value - ideal).abs()),
        Better::Neither => None,
    }
}

/// The cost of a value, by which a front is sorted.
fn quality_or_zero(name: &str, value: f64) -> f64 {
    -quality(name, value).unwrap_or(0.0)
}

/// Half the 95 % interval of a mean over queries or rows, and over seeds; none where neither is
/// known.
fn half(of: &Configuration<'_>, name: &str) -> Option<f64> {
    let k = name.strip_prefix("recall@").and_then(|k| k.parse().ok());
    let by_query = k.and_then(|k| mean_and_error(&of.recall_by_query(k)?)).map(|(_, error)| error);
    let stated = || {
        let errors: Option<Vec<f64>> =
            of.records.iter().map(|record| record.standard_error(name)).collect();
        let errors = errors?;
        let squares: f64 = errors.iter().map(|error| error * error).sum();
        Some(squares.sqrt() / errors.len() as f64)
    };
    let queries = by_query.or_else(stated);
    let seeds = mean_and_error(&of.values(name)).map(|(_, error)| error);
    (queries.is_some() || seeds.is_some())
        .then(|| 1.96 * queries.unwrap_or(0.0).hypot(seeds.unwrap_or(0.0)))
}

/// Parts of a file's name, without what a shell or a file system may not like.
fn file_name(parts: &[&str]) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() || "._@-".contains(c) { c } else { '_' };
    let name: String = parts.join("-").chars().map(fine).collect();
    // A name of dots alone, or that begins with one, is not what a data set's name is to become.
    name.trim_start_matches('.').chars().take(150).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{MetricValue, Outcome, RunInfo};
    use crate::report::one_of_each;

    fn made(records: &[Record], request: &PlotRequest) -> Vec<Picture> {
        let mut methods: Vec<String> =
            records.iter().map(|record| record.method.id.clone()).collect();
        methods.dedup();
        let spectra = BTreeMap::from([("d1".to_owned(), vec![2.0, 2.0])]);
        let input = PlotInput { store: "s.db", records, methods: &methods, spectra: &spectra };
        pictures(&input, request).unwrap()
    }

    fn point(method: &str, label: &str, bits: f64, recall: f64) -> Record {
        let metrics = [
            ("bits_per_dim", bits),
            ("recall@10", recall),
            ("recall@10/rerank=1", recall),
            ("recall@10/rerank=4", 0.5 + recall / 2.0),
            ("relative_error", (-2.0 * bits).exp2() * 1.5),
        ];
        sample(method, label, &metrics)
    }

    #[test]
    fn the_set_has_recall_error_and_reranking_of_what_was_measured() {
        let records =
            [point("a", "x", 1.0, 0.5), point("a", "y", 2.0, 0.4), point("b", "z", 4.0, 0.9)];
        let pictures = made(&records, &PlotRequest::default());
        let names: Vec<&str> = pictures.iter().map(|picture| picture.name.as_str()).collect();
        let expected = [
            "glove-recall@10-bits_per_dim",
            "glove-relative_error-bits_per_dim",
            "glove-rerank-recall@10",
        ];
        assert_eq!(names, expected);
        let [recall, error, rerank] = &pictures[..] else { unreachable!() };
        // The larger code with the worse recall is off the line.
        let on_line: Vec<bool> =
            recall.drawing.lines[0].marks.iter().map(|mark| mark.on_line).collect();
        assert_eq!(on_line, [true, false]);
        assert_eq!(recall.drawing.bound, None);
        let (_, bound) = error.drawing.bound.as_ref().unwrap();
        assert!(bound.contains(&(1.0, 0.25)), "{bound:?}");
        assert!(error.drawing.y.log && !recall.drawing.y.log);
        // Up to 2 bits only one method has a code.
        assert_eq!(rerank.drawing.lines.len(), 1);
        assert_eq!(rerank.drawing.lines[0].marks[1].y, 0.25);
    }

    #[test]
    fn every_mark_of_an_svg_tells_its_key() {
        let records = [point("a<b", "x", 1.0, 0.5), point("a<b", "y", 2.0, 0.6)];
        for picture in made(&records, &PlotRequest::default()) {
            let svg = picture.svg();
            let keys = records.iter().filter(|record| svg.contains(&record.key[..12])).count();
            assert!(keys >= 1, "{}", picture.name);
            assert!(!svg.contains("a<b"), "{}", picture.name);
            assert!(picture.png().unwrap().starts_with(b"\x89PNG"));
        }
    }

    #[test]
    fn what_is_missing_or_failed_is_left_out() {
        let mut failed = point("b", "x", 1.0, 0.5);
        failed.outcome = Outcome::Failed;
        let bare = sample("c", "x", &[("bits_per_dim", 1.0)]);
        assert_eq!(made(&[failed.clone(), bare.clone()], &PlotRequest::default()), []);
        assert_eq!(made(&[], &PlotRequest::default()), []);
        let good = point("a", "x", 1.0, 0.5);
        let request = PlotRequest { y: vec!["recall@10".to_owned()], ..PlotRequest::default() };
        let pictures = made(&[good, failed, bare], &request);
        assert_eq!(pictures.len(), 1);
        assert_eq!(pictures[0].drawing.lines.len(), 1);
    }

    #[test]
    fn bands_are_of_queries_and_seeds() {
        let mut first = point("a", "x", 1.0, 0.5);
        first.metrics.retain(|metric| metric.name() != "recall@10");
        let mut second = Record { seed: 7, ..first.clone() };
        first.metrics.push(MetricValue::with_error("recall@10", 0.5, Some(0.03)).unwrap());
        second.metrics.push(MetricValue::with_error("recall@10", 0.6, Some(0.04)).unwrap());
        let records = [first, second];
        let pictures = made(&records, &PlotRequest::default());
        let mark = &pictures[0].drawing.lines[0].marks[0];
        // Queries: √(0.03² + 0.04²) / 2 = 0.025. Seeds: 0.05.
        let expected = 1.96 * 0.025_f64.hypot(0.05);
        assert!((mark.half.unwrap() - expected).abs() < 1e-12, "{mark:?}");
    }

    #[test]
    fn a_speed_of_another_machine_is_off_the_lines() {
        let records = [("x", 1.0, "one"), ("y", 2.0, "one"), ("z", 4.0, "two")];
        let records = records.map(|(label, bits, run)| {
            let mut record = point("a", label, bits, 0.5);
            record.run_id = run.to_owned();
            record.metrics.push(MetricValue::new("compress_vectors_per_s", 1e6 / bits).unwrap());
            record
        });
        let run = |id: &str| RunInfo {
            run_id: id.to_owned(),
            cpu_model: Some(id.to_owned()),
            ..RunInfo::begin("s", "")
        };
        let records = one_of_each(records.to_vec(), &[run("one"), run("two")]);
        let picture = |y: &str| {
            let request = PlotRequest { y: vec![y.to_owned()], ..PlotRequest::default() };
            made(&records, &request).remove(0).drawing
        };
        let speed = picture("compress_vectors_per_s");
        assert_eq!(speed.lines[0].marks.iter().filter(|mark| mark.on_line).count(), 1);
        assert!(!speed.lines[0].marks[2].on_line);
        assert!(speed.subtitle.contains("1 of another machine than most"), "{}", speed.subtitle);
        assert!(!picture("recall@10").subtitle.contains("another machine"));
    }

    #[test]
    fn an_unknown_metric_is_an_error() {
        let records = [point("a", "x", 1.0, 0.5)];
        let input =
            PlotInput { store: "s.db", records: &records, methods: &[], spectra: &BTreeMap::new() };
        let request = PlotRequest { x: "mse".to_owned(), ..PlotRequest::default() };
        assert!(matches!(pictures(&input, &request), Err(PlotError::UnknownMetric { .. })));
        let request = PlotRequest { x: SIZE.to_owned(), ..PlotRequest::default() };
        assert!(pictures(&input, &request).is_ok());
    }

    #[test]
    fn names_of_files_are_harmless() {
        assert_eq!(file_name(&["../a b", "recall@10/x"]), "_a_b-recall@10_x");
    }
}
