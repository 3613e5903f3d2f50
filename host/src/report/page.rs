//! One HTML file that shows a store: chart, tables, failures, machines, digests. Nothing in it is
//! fetched, and its policy forbids it.
//!
//! `page/page.js` draws everything from the JSON made here; it has no step of building and is
//! checked by TypeScript from its comments (`.ci/page`). The template has four holes, which is
//! less than a template engine is for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::bound::bound;
use super::configuration::{Configuration, SIZE};
use super::marks::SIGNS;
use super::results::metrics_of;
use super::spread::mean_and_error;
use super::{known, notices, plain};
use crate::metric::{Better, info};
use crate::record::{DatasetInfo, Record, RunInfo, canonical_json, natural_key};

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// What a page is made of, all from one store.
#[derive(Clone, Copy, Debug)]
pub struct PageInput<'a> {
    /// The store's file name, for readers to ask it.
    pub store: &'a str,
    /// The records to show.
    pub records: &'a [Record],
    /// Descriptions of their runs.
    pub runs: &'a [RunInfo],
    /// Eigenvalues of the data sets, by digest.
    pub spectra: &'a BTreeMap<String, Vec<f64>>,
}

/// The page. The same store gives the same bytes.
///
/// # Errors
/// What JSON cannot hold, which is nothing that a record can.
pub fn page(input: &PageInput<'_>) -> Result<String, serde_json::Error> {
    let data = serde_json::to_string(&Data::of(input))?;
    // Nothing in the data can end its element.
    let data = data.replace('<', "\\u003c");
    let nonce = &blake3::hash(data.as_bytes()).to_hex()[..32];
    let title = format!("vq-host: {}", escaped(&plain(input.store)));
    let hole = |name: &str| match name {
        "title" => title.as_str(),
        "style" => STYLE.trim_end(),
        "data" => data.as_str(),
        "script" => SCRIPT.trim_end(),
        "nonce" => nonce,
        other => unreachable!("the template has no hole `{other}`"),
    };
    let mut page = String::new();
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{")
        && let Some((name, after)) = after.split_once("}}")
    {
        page.push_str(before);
        page.push_str(hole(name));
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The JSON of a page; columns of equal length are a third of the bytes of a list of objects.
#[derive(Serialize)]
struct Data<'a> {
    store: &'a str,
    host_version: &'a str,
    metrics: Vec<Metric>,
    spaces: Vec<Space<'a>>,
    methods: Vec<Method<'a>>,
    runs: Vec<RunInfo>,
    cells: Cells<'a>,
    values: BTreeMap<String, Vec<Option<Rounded<5>>>>,
    errors: BTreeMap<String, Vec<Option<Rounded<2>>>>,
    /// Standard errors over queries of the mean of several seeds, by configuration.
    query_errors: BTreeMap<String, Vec<Option<Rounded<2>>>>,
    marks: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct Metric {
    name: String,
    unit: &'static str,
    better: &'static str,
    ideal: f64,
    meaning: &'static str,
}

/// A data set under a metric.
#[derive(Serialize)]
struct Space<'a> {
    name: &'a str,
    digest: &'a str,
    metric: &'a str,
    n: u64,
    dim: u64,
    queries: u64,
    train_rows: Option<u64>,
    notes: Vec<String>,
    variance: Option<Rounded<6>>,
    /// Bits per dimension and the least relative error of a Gaussian with them.
    bound: Vec<(Rounded<6>, Rounded<6>)>,
}

#[derive(Serialize)]
struct Method<'a> {
    id: &'a str,
    /// The plugin that it comes from, by its file's name.
    family: String,
    builds: Vec<Build<'a>>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Build<'a> {
    version: &'a str,
    file: String,
    plugin_digest: &'a str,
    needs_digest: Option<&'a str>,
    sdk: &'a str,
    abi: &'a str,
}

#[derive(Default, Serialize)]
struct Cells<'a> {
    key: Vec<&'a str>,
    /// Place among the runs; none for one whose description is missing.
    run: Vec<Option<usize>>,
    space: Vec<usize>,
    method: Vec<usize>,
    label: Vec<&'a str>,
    params: Vec<&'a Value>,
    /// As texts: a script's numbers end at 2⁵³.
    seed: Vec<String>,
    outcome: Vec<&'static str>,
    error: Vec<Option<&'a str>>,
    marks: Vec<String>,
    notices: Vec<&'a [String]>,
    /// Equal for records that differ in their seed only.
    configuration: Vec<usize>,
}

/// A number in so many significant digits; the record has them all.
struct Rounded<const DIGITS: usize>(f64);

impl<const DIGITS: usize> Serialize for Rounded<DIGITS> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = format!("{:.*e}", DIGITS - 1, self.0);
        let rounded = text.parse().unwrap_or(self.0);
        // A whole number needs no fraction.
        if rounded == rounded.trunc() && rounded.abs() < 1e15 {
            return serializer.serialize_i64(rounded as i64);
        }
        serializer.serialize_f64(rounded)
    }
}

impl<'a> Data<'a> {
    fn of(input: &PageInput<'a>) -> Self {
        let PageInput { store, records, runs, spectra } = *input;
        let described = described(records, runs);
        let mut names = metrics_of(records);
        let spaces = spaces(records);
        let mut ids: Vec<&str> = records.iter().map(|record| record.method.id.as_str()).collect();
        ids.sort_by_cached_key(|id| natural_key(id));
        ids.dedup();
        let place = |space: (&str, &str, &str)| {
            spaces.iter().position(|data| key_of(data) == space).unwrap_or_default()
        };
        let mut cells = Cells::default();
        let mut configurations: BTreeMap<_, usize> = BTreeMap::new();
        let mut grouped: Vec<Vec<&Record>> = Vec::new();
        for record in records {
            let space = place(key_of(record));
            let identity = (
                space,
                record.method.id.as_str(),
                record.method.plugin_digest.as_str(),
                canonical_json(&record.params),
                canonical_json(&record.evaluation),
            );
            let id = *configurations.entry(identity).or_insert(grouped.len());
            if id == grouped.len() {
                grouped.push(Vec::new());
            }
            grouped[id].push(record);
            let method = ids.iter().position(|id| *id == record.method.id).unwrap_or_default();
            let marks = Configuration { records: vec![record] }.marks();
            cells.key.push(&record.key);
            cells.run.push(described.iter().position(|run| run.run_id == record.run_id));
            cells.space.push(space);
            cells.method.push(method);
            cells.label.push(&record.label);
            cells.params.push(&record.params);
            cells.seed.push(record.seed.to_string());
            cells.outcome.push(record.outcome.as_str());
            cells.error.push(record.error.as_deref());
            cells.marks.push(marks.signs());
            cells.notices.push(&record.notices);
            cells.configuration.push(id);
        }
        let mut values: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut errors: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for name in &names {
            let column = |of: fn(&Record, &str) -> Option<f64>| {
                records.iter().map(|record| of(record, name)).collect::<Vec<_>>()
            };
            let value = column(Record::value).into_iter().map(|value| value.map(Rounded));
            values.insert(name.clone(), value.collect());
            let error = column(Record::standard_error);
            if error.iter().any(Option::is_some) {
                let error = error.into_iter().map(|error| error.map(Rounded));
                errors.insert(name.clone(), error.collect());
            }
        }
        let size = |record| Configuration { records: vec![record] }.amortised_bits();
        let sizes: Vec<Option<f64>> = records.iter().map(size).collect();
        if sizes.iter().any(Option::is_some) {
            values
                .insert(SIZE.to_owned(), sizes.into_iter().map(|bits| bits.map(Rounded)).collect());
            let at = names.iter().position(|name| name == "bits_per_dim").map_or(0, |at| at + 1);
            names.insert(at, SIZE.to_owned());
        }
        Self {
            store,
            host_version: env!("CARGO_PKG_VERSION"),
            metrics: names.into_iter().map(metric).collect(),
            spaces: spaces.iter().map(|record| space(record, records, spectra)).collect(),
            methods: ids.iter().map(|id| method(id, records)).collect(),
            runs: described,
            query_errors: query_errors(&grouped),
            cells,
            values,
            errors,
            marks: SIGNS.iter().map(|(sign, _, meaning)| (*sign, *meaning)).collect(),
        }
    }
}

/// The runs that `records` are of. Folders of the one who ran them are nobody else's business.
fn described(records: &[Record], runs: &[RunInfo]) -> Vec<RunInfo> {
    let ids: BTreeSet<&str> = records.iter().map(|record| record.run_id.as_str()).collect();
    let mut runs: Vec<RunInfo> =
        runs.iter().filter(|run| ids.contains(run.run_id.as_str())).cloned().collect();
    for run in &mut runs {
        run.environment.retain(|_, value| !value.contains('/'));
    }
    runs
}

/// What records must share to be in one chart.
fn key_of(record: &Record) -> (&str, &str, &str) {
    (&record.dataset.name, &record.metric, &record.dataset.digest)
}

/// One record of each data set and metric.
fn spaces(records: &[Record]) -> Vec<&Record> {
    let mut seen = BTreeSet::new();
    let mut spaces: Vec<&Record> =
        records.iter().filter(|record| seen.insert(key_of(record))).collect();
    spaces.sort_by_cached_key(|record| {
        let (name, metric, digest) = key_of(record);
        (natural_key(name), metric, digest)
    });
    spaces
}

fn metric(name: String) -> Metric {
    if name == SIZE {
        let meaning = "stored bits per dimension with the model's bytes shared out to all rows";
        return Metric { name, unit: "bits", better: "lower", ideal: 0.0, meaning };
    }
    let info = info(&name);
    let (better, ideal) = match info.map(|info| info.better) {
        Some(Better::Higher) => ("higher", 0.0),
        Some(Better::Lower) => ("lower", 0.0),
        Some(Better::Near(ideal)) => ("near", ideal),
        Some(Better::Neither) | None => ("neither", 0.0),
    };
    let meaning = info.map_or("", |info| info.meaning);
    Metric { unit: known(&name).unit, better, ideal, meaning, name }
}

fn space<'a>(
    record: &'a Record,
    records: &[Record],
    spectra: &BTreeMap<String, Vec<f64>>,
) -> Space<'a> {
    let DatasetInfo { name, digest, n, dim, queries, train_rows, .. } = &record.dataset;
    let here = records.iter().filter(|other| key_of(other) == key_of(record));
    let most = here.filter_map(|record| record.value("bits_per_dim")).fold(1.0, f64::max);
    let bound = spectra.get(digest).and_then(|spectrum| bound(spectrum, 1.2 * most));
    let (variance, bound) = bound.unzip();
    let bound = bound.unwrap_or_default().into_iter();
    Space {
        name,
        digest,
        metric: &record.metric,
        n: *n,
        dim: *dim,
        queries: *queries,
        train_rows: *train_rows,
        notes: notices::of(&record.dataset),
        variance: variance.map(Rounded),
        bound: bound.map(|(rate, error)| (Rounded(rate), Rounded(error))).collect(),
    }
}

fn method<'a>(id: &'a str, records: &'a [Record]) -> Method<'a> {
    let file = |path: &str| {
        let name = Path::new(path).file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let these = || records.iter().map(|record| &record.method).filter(|method| method.id == id);
    let builds: BTreeSet<Build<'_>> = these()
        .map(|method| Build {
            version: &method.version,
            file: file(&method.plugin_path),
            plugin_digest: &method.plugin_digest,
            needs_digest: method.needs_digest.as_deref(),
            sdk: &method.sdk,
            abi: &method.abi,
        })
        .collect();
    let family = builds.first().map(|build| {
        let stem = build.file.split('.').next().unwrap_or_default();
        stem.trim_start_matches("lib").trim_start_matches("vq_").to_owned()
    });
    Method { id, family: family.unwrap_or_default(), builds: builds.into_iter().collect() }
}

/// For each kept recall and each configuration of several seeds, the standard error over queries of
/// their mean.
fn query_errors(configurations: &[Vec<&Record>]) -> BTreeMap<String, Vec<Option<Rounded<2>>>> {
    let several = || configurations.iter().filter(|records| records.len() > 1);
    let ks: BTreeSet<u32> =
        several().flatten().flat_map(|record| &record.recalls).map(|recalls| recalls.k()).collect();
    let error = |records: &Vec<&Record>, k: u32| {
        let ok = records.iter().copied().filter(|record| record.outcome.is_ok());
        let of = Configuration { records: ok.collect() };
        if of.records.len() < 2 {
            return None;
        }
        let (_, error) = mean_and_error(&of.recall_by_query(k)?)?;
        Some(Rounded(error))
    };
    let column = |k: u32| configurations.iter().map(|records| error(records, k)).collect();
    ks.into_iter().map(|k| (format!("recall@{k}"), column(k))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{Outcome, QueryRecalls};

    fn data_of(page: &str) -> Value {
        let (_, after) = page.split_once("id=\"data\">").unwrap();
        serde_json::from_str(after.split_once("</script>").unwrap().0).unwrap()
    }

    fn made(records: &[Record]) -> String {
        let spectra = BTreeMap::from([("d1".to_owned(), vec![4.0, 1.0])]);
        page(&PageInput { store: "a<b>.db", records, runs: &[], spectra: &spectra }).unwrap()
    }

    #[test]
    fn nothing_that_a_plugin_says_becomes_markup() {
        let mut record = sample("a", "</script><script>alert(1)</script>{{script}}", &[]);
        record.outcome = Outcome::Failed;
        record.error = Some("<img src=x>".to_owned());
        let page = made(&[record.clone()]);
        assert_eq!(page.matches("<script").count(), 2);
        assert!(!page.contains("<img") && page.contains("<title>vq-host: a&lt;b&gt;.db</title>"));
        let data = data_of(&page);
        assert_eq!(data["cells"]["label"][0], record.label.as_str());
        assert_eq!(data["cells"]["key"][0], record.key.as_str());
        assert_eq!(page, made(&[record]), "the same again");
    }

    #[test]
    fn a_page_has_every_metric_of_every_record_and_what_is_missing() {
        let known = [("bits_per_dim", 2.0), ("model_bytes", 125_000.0), ("mse", 1.0 / 3.0)];
        let mut first = sample("a", "x", &known);
        first.method.needs_training = Some(true);
        let second = sample("b", "y", &[("bits_per_dim", 4.0), ("a_new_metric", 5.0)]);
        let data = data_of(&made(&[first, second]));
        let values = &data["values"];
        assert_eq!(values["mse"], serde_json::json!([0.33333, null]));
        assert_eq!(values["a_new_metric"], serde_json::json!([null, 5]));
        // 125,000 bytes are one bit for each of 10,000 × 100 values.
        assert_eq!(values[SIZE], serde_json::json!([3, null]));
        let names: Vec<&str> = data["metrics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["a_new_metric", "bits_per_dim", SIZE, "model_bytes", "mse"]);
        // λ = 4, 1 at one bit: θ and D are ½, of a variance of 2.5.
        let bound = data["spaces"][0]["bound"].as_array().unwrap();
        let at_one = bound.iter().find(|point| point[0] == 1).unwrap();
        assert_eq!(at_one[1], 0.2);
    }

    #[test]
    fn seeds_are_one_configuration_with_the_error_of_their_mean() {
        let mut first = sample("a", "x", &[("recall@10", 0.5)]);
        first.recalls = vec![QueryRecalls::new(10, vec![10, 0, 4, 6]).unwrap()];
        let mut second = Record { seed: u64::MAX, ..first.clone() };
        second.recalls = vec![QueryRecalls::new(10, vec![10, 2, 4, 6]).unwrap()];
        let data = data_of(&made(&[first, second]));
        assert_eq!(data["cells"]["configuration"], serde_json::json!([0, 0]));
        assert_eq!(data["cells"]["seed"][1], u64::MAX.to_string());
        // Means 1, 0.1, 0.4, 0.6: their standard error is 0.189 or so.
        assert_eq!(data["query_errors"]["recall@10"], serde_json::json!([0.19]));
    }
}
