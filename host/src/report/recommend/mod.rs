//! The answer: which code is small enough and good enough, and how sure that is.
//!
//! Of all configurations with a recall whose lower limit reaches what is asked, the one that stores
//! the fewest bits for each dimension, its model shared among the rows that will be stored. What is
//! unproven, or keeps a model of unknown size, is never recommended.
//!
//! `limit` is how sure a recall is · `growth` is what becomes of it as rows are added · `write` is
//! the answer for people. docs/methodology.md has the formulas.

mod growth;
mod limit;
mod write;

use std::collections::{BTreeMap, BTreeSet};

pub use self::growth::{Growth, Point, Prediction};
use self::limit::{Limit, QueryMean};
pub use self::write::{write_recommendation, write_reproduction};
use super::configuration::Configuration;
use super::marks::Marks;
use crate::record::{DatasetInfo, Record, canonical_json};
use crate::transform::TRANSFORM;

/// Bytes of an original value, which re-ranking reads.
const ORIGINAL_VALUE: f64 = 4.0;

/// A code of a rate below this part of another's is worth more queries to know whether it will do.
const SMALLER: f64 = 0.95;

/// What else is asked of a record, beside a recall: sizes and costs.
const ASKED: [&str; 6] = [
    "bits_per_dim",
    "code_bytes",
    "model_bytes",
    "model_saved_bytes",
    "compress_vectors_per_s",
    "fit_s",
];

/// What is asked of a code.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The least recall@k.
    pub recall: f64,
    /// The k.
    pub k: u32,
    /// The best so many times k are ranked again by exact distance; none are if `None`.
    pub rerank: Option<u32>,
    /// The most bits per dimension, with the model's.
    pub max_bits: Option<f64>,
    /// The fewest vectors to encode per second.
    pub min_encode: Option<f64>,
    /// Rows that will be stored; as many as were measured if `None`.
    pub rows: Option<f64>,
}

impl Question {
    /// The metric that answers it.
    fn metric(&self) -> String {
        match self.rerank {
            None => format!("recall@{}", self.k),
            Some(times) => format!("recall@{}/rerank={times}", self.k),
        }
    }

    /// Takes from a record what no answer to this asks for.
    pub fn trim(&self, record: &mut Record) {
        let asked = self.metric();
        record.metrics.retain(|of| of.name() == asked || ASKED.contains(&of.name()));
        record.metrics.shrink_to_fit();
        record.recalls.retain(|of| of.k() == self.k && self.rerank.is_none());
        record.log = None;
    }
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// What was asked.
    pub question: Question,
    /// One for each data set, by name.
    pub datasets: Vec<Answer>,
    /// Of all data sets, where there are several: what holds on the worst of them.
    pub across: Option<Answer>,
    /// Whether rows of some records were transformed, as a data set of their sweep may ask.
    pub transformed: bool,
}

/// The answer for one data set, or for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The data set; none where it is for all of them.
    pub dataset: Option<DatasetInfo>,
    /// `l2`, `ip` or `cosine`; none where data sets differ in it.
    pub metric: Option<String>,
    /// Configurations that were looked at.
    pub configurations: usize,
    /// Of these, those that are never recommended.
    pub not_proven_or_weighed: usize,
    /// Configurations that did not measure what is asked, and are left out.
    pub without_the_metric: usize,
    /// The smallest that answers.
    pub smallest: Option<Pick>,
    /// The next one, of another method where there is one.
    pub runner_up: Option<Pick>,
    /// One that is smaller still and reaches the recall on average, though not surely: the smallest.
    pub undecided: Option<Pick>,
    /// Where nothing answers, what comes closest.
    pub closest: Option<Pick>,
    /// The smallest whose recall is expected to hold for the rows that will be stored, where these
    /// are more than were measured and the data set was measured at several sizes.
    pub smallest_when_grown: Option<Pick>,
}

/// One configuration; metrics are means over its seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Pick {
    /// The data set that its numbers are of.
    pub dataset: String,
    /// Id of the method.
    pub method: String,
    /// Its configuration.
    pub label: String,
    /// The same as parameters.
    pub params: serde_json::Value,
    /// The plugin's file.
    pub plugin_digest: String,
    /// What else its code is: packages of a method in Python.
    pub needs_digest: Option<String>,
    /// The seeds it was measured with.
    pub seeds: Vec<u64>,
    /// The records that its numbers are of, one for each seed.
    pub keys: Vec<String>,
    /// What limits its numbers.
    pub marks: Marks,
    /// Stored bits per dimension.
    pub bits_per_dim: f64,
    /// The same with the model's, shared among the rows that will be stored.
    pub rate: f64,
    /// The recall that was asked for.
    pub recall: f64,
    /// Its standard error over queries and seeds.
    pub standard_error: f64,
    /// It is above this, with 95 % confidence.
    pub at_least: f64,
    /// Bytes of a code.
    pub code_bytes: f64,
    /// Bytes of the model.
    pub model_bytes: f64,
    /// Rows that will be stored.
    pub rows: f64,
    /// Bytes of all their codes and the model.
    pub total_bytes: f64,
    /// Bytes of the original rows in f32, where re-ranking reads them.
    pub original_bytes: Option<f64>,
    /// Vectors encoded per second.
    pub compress_vectors_per_s: Option<f64>,
    /// Seconds to fit.
    pub fit_s: Option<f64>,
    /// What becomes of its recall as rows are added; none where it was measured at one size.
    pub growth: Option<Growth>,
    /// What it is called in other systems, a system and a name each; nothing until it is named.
    pub elsewhere: Vec<(String, String)>,
}

impl Recommendation {
    /// Names every pick by what `names` says of it.
    pub fn name(&mut self, names: impl Fn(&Pick) -> Vec<(String, String)>) {
        let answers = self.datasets.iter_mut().chain(&mut self.across);
        let picks = answers.flat_map(|answer| {
            let Answer { smallest, runner_up, undecided, closest, smallest_when_grown, .. } =
                answer;
            [smallest, runner_up, undecided, closest, smallest_when_grown]
        });
        for pick in picks.flatten() {
            pick.elsewhere = names(pick);
        }
    }
}

impl Answer {
    /// Its picks and what each of them is.
    pub fn picks(&self) -> Vec<(&'static str, &Pick)> {
        let all = [
            ("smallest", &self.smallest),
            ("runner-up", &self.runner_up),
            ("undecided", &self.undecided),
            ("closest", &self.closest),
            ("when grown", &self.smallest_when_grown),
        ];
        all.into_iter().filter_map(|(role, pick)| Some((role, pick.as_ref()?))).collect()
    }
}

impl Pick {
    fn answers(&self, question: &Question) -> bool {
        self.marks.may_lead() && self.at_least >= question.recall && self.fits(question)
    }

    /// Whether it is as good as asked on average, and may be worse.
    fn may_answer(&self, question: &Question) -> bool {
        let undecided = self.at_least < question.recall && self.recall >= question.recall;
        self.marks.may_lead() && undecided && self.fits(question)
    }

    /// Whether it is as small and as fast as asked.
    fn fits(&self, question: &Question) -> bool {
        let small = question.max_bits.is_none_or(|most| self.rate <= most);
        let speed = self.compress_vectors_per_s;
        small && question.min_encode.is_none_or(|least| speed.is_some_and(|of| of >= least))
    }

    fn holds_when_grown(&self, question: &Question) -> bool {
        let predicted = self.growth.as_ref().and_then(|growth| growth.predicted.as_ref());
        self.answers(question) && predicted.is_some_and(|of| of.at_least >= question.recall)
    }
}

/// Answers `question` from `records`.
///
/// Data sets `NAME@ROWS` are `NAME` at several sizes; the largest answers. O(c log c) for c
/// configurations.
pub fn recommend(records: &[Record], question: &Question) -> Recommendation {
    let mut answering = Answering::new(question.clone());
    answering.add(records);
    answering.end()
}

/// As [`recommend`], of records that are not all there at once.
#[derive(Debug)]
pub struct Answering {
    question: Question,
    /// The answer for each data set, and everything that it was chosen from.
    of_each: BTreeMap<Family, (Answer, Vec<Pick>)>,
    transformed: bool,
}

impl Answering {
    /// With no records yet.
    pub fn new(question: Question) -> Self {
        Self { question, of_each: BTreeMap::new(), transformed: false }
    }

    /// Adds records, among them all of each data set that they are of, at all its sizes.
    pub fn add(&mut self, records: &[Record]) {
        let mut families: BTreeMap<Family, Vec<&Record>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.outcome.is_ok()) {
            families.entry(Family::of(record)).or_default().push(record);
        }
        for (family, records) in families {
            self.of_each.insert(family, of_family(&records, &self.question));
        }
        self.transformed |= records.iter().any(|record| record.params.get(TRANSFORM).is_some());
    }

    /// The answer.
    pub fn end(self) -> Recommendation {
        let Self { question, of_each, transformed } = self;
        let of_each: Vec<(Answer, Vec<Pick>)> = of_each.into_values().collect();
        let across = across(&of_each, &question);
        let datasets = of_each.into_iter().map(|(answer, _)| answer).collect();
        Recommendation { question, datasets, across, transformed }
    }
}

/// A data set at all its sizes: what `sizes` in a sweep makes of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Family {
    name: String,
    metric: String,
    dim: u64,
    queries: u64,
    train_rows: Option<u64>,
}

impl Family {
    fn of(record: &Record) -> Self {
        let DatasetInfo { dim, queries, train_rows, .. } = &record.dataset;
        Self {
            name: record.dataset.family().to_owned(),
            metric: record.metric.clone(),
            dim: *dim,
            queries: *queries,
            train_rows: *train_rows,
        }
    }
}

/// What makes two configurations the same one on two data sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    method: String,
    plugin_digest: String,
    /// One file in two Pythons is two methods.
    needs_digest: Option<String>,
    params: String,
}

impl Identity {
    fn of(record: &Record) -> Self {
        Self {
            method: record.method.id.clone(),
            plugin_digest: record.method.plugin_digest.clone(),
            needs_digest: record.method.needs_digest.clone(),
            params: canonical_json(&record.params),
        }
    }

    fn of_pick(pick: &Pick) -> Self {
        Self {
            method: pick.method.clone(),
            plugin_digest: pick.plugin_digest.clone(),
            needs_digest: pick.needs_digest.clone(),
            params: canonical_json(&pick.params),
        }
    }
}

/// The answer for a data set, and everything that it was chosen from.
fn of_family(records: &[&Record], question: &Question) -> (Answer, Vec<Pick>) {
    let largest = records.iter().map(|record| record.dataset.n).max().unwrap_or(0);
    let is_largest = |record: &&&Record| record.dataset.n == largest;
    let configurations = Configuration::of(records.iter().filter(is_largest).copied());
    // The same configurations among fewer rows.
    let mut smaller: BTreeMap<Identity, Vec<Point>> = BTreeMap::new();
    for configuration in Configuration::of(records.iter().filter(|of| !is_largest(of)).copied()) {
        let id = Identity::of(configuration.first());
        if let Some(limit) = limit_of(&configuration, question) {
            smaller.entry(id).or_default().push(point(&configuration, limit));
        }
    }
    let mut picks: Vec<Pick> =
        configurations.iter().filter_map(|of| pick(of, question, &smaller)).collect();
    sort(&mut picks);
    let first = records.iter().find(is_largest).map(|record| (&record.dataset, &record.metric));
    let answer = Answer {
        dataset: first.map(|(dataset, _)| dataset.clone()),
        metric: first.map(|(_, metric)| metric.clone()),
        without_the_metric: configurations.len() - picks.len(),
        ..choose(&picks, question)
    };
    (answer, picks)
}

/// The smallest first; of sizes that are the same to a hundredth of a bit per dimension, the better.
fn sort(picks: &mut [Pick]) {
    let size = |pick: &Pick| (100.0 * pick.rate).round();
    picks.sort_by(|a, b| {
        (size(a).total_cmp(&size(b))).then_with(|| b.at_least.total_cmp(&a.at_least))
    });
}

/// Of `picks`, the smallest first.
fn choose(picks: &[Pick], question: &Question) -> Answer {
    let mut answering = picks.iter().filter(|pick| pick.answers(question));
    let smallest = answering.next();
    let others: Vec<&Pick> = answering.collect();
    let other_method = |pick: &&&Pick| smallest.is_some_and(|of| of.method != pick.method);
    let runner_up = others.iter().find(other_method).or(others.first()).copied();
    let may_lead = || picks.iter().filter(|pick| pick.marks.may_lead());
    // Of equally near ones the smallest, which is the last that is looked at.
    let nearest = may_lead().rev().max_by(|a, b| {
        (a.fits(question).cmp(&b.fits(question))).then_with(|| a.at_least.total_cmp(&b.at_least))
    });
    Answer {
        dataset: None,
        metric: None,
        configurations: picks.len(),
        not_proven_or_weighed: picks.len() - may_lead().count(),
        without_the_metric: 0,
        smallest: smallest.cloned(),
        runner_up: runner_up.cloned(),
        undecided: smallest.and_then(|smallest| {
            let mut smaller = picks.iter().take_while(|pick| pick.rate < SMALLER * smallest.rate);
            smaller.find(|pick| pick.may_answer(question)).cloned()
        }),
        closest: if smallest.is_none() { nearest.cloned() } else { None },
        smallest_when_grown: picks.iter().find(|pick| pick.holds_when_grown(question)).cloned(),
    }
}

/// What holds on every data set: each configuration with its worst recall and its largest size.
fn across(of_each: &[(Answer, Vec<Pick>)], question: &Question) -> Option<Answer> {
    if of_each.len() < 2 {
        return None;
    }
    let mut worst: BTreeMap<Identity, (usize, Pick)> = BTreeMap::new();
    for (_, picks) in of_each {
        let mut seen = BTreeSet::new();
        for pick in picks {
            let id = Identity::of_pick(pick);
            if !seen.insert(id.clone()) {
                continue;
            }
            let (times, of) = worst.entry(id).or_insert_with(|| (0, pick.clone()));
            *times += 1;
            let rate = of.rate.max(pick.rate);
            let slowest = of.compress_vectors_per_s.zip(pick.compress_vectors_per_s);
            let marks = if pick.marks.may_lead() { of.marks } else { pick.marks };
            if pick.at_least < of.at_least {
                *of = pick.clone();
            }
            (of.rate, of.marks) = (rate, marks);
            of.compress_vectors_per_s = slowest.map(|(a, b)| a.min(b));
        }
    }
    let everywhere = worst.into_values().filter(|(times, _)| *times == of_each.len());
    let mut picks: Vec<Pick> = everywhere.map(|(_, pick)| pick).collect();
    sort(&mut picks);
    let metric = |(answer, _): &(Answer, Vec<Pick>)| answer.metric.clone();
    let first = metric(&of_each[0]);
    let metric = first.filter(|_| of_each.iter().all(|of| metric(of) == metric(&of_each[0])));
    Some(Answer { metric, smallest_when_grown: None, ..choose(&picks, question) })
}

/// How sure the recall is that is asked for; none where a record does not have it.
fn limit_of(configuration: &Configuration<'_>, question: &Question) -> Option<Limit> {
    let metric = question.metric();
    let by_seed = configuration.values(&metric);
    if by_seed.len() < configuration.records.len() {
        return None;
    }
    let kept = match question.rerank {
        None => configuration.recall_by_query(question.k),
        Some(_) => None,
    };
    let queries = configuration.first().dataset.queries as usize;
    let of_queries = match kept {
        Some(recalls) => QueryMean::of(&recalls)?,
        // Errors of seeds for the same queries go together, so that their mean is no less than
        // the error of the mean.
        None => {
            let errors = configuration.records.iter().map(|of| of.standard_error(&metric));
            let squares = errors.map(|error| error.map(|error| error * error));
            let squares: Vec<f64> = squares.collect::<Option<_>>()?;
            let mean = by_seed.iter().sum::<f64>() / by_seed.len() as f64;
            let square = squares.iter().sum::<f64>() / squares.len() as f64;
            QueryMean::with_error(mean, square.sqrt(), queries)?
        }
    };
    Some(Limit::of(of_queries, &by_seed))
}

fn point(configuration: &Configuration<'_>, limit: Limit) -> Point {
    let dataset = &configuration.first().dataset;
    Point {
        rows: dataset.n,
        recall: limit.mean,
        standard_error: limit.standard_error,
        keys: keys(configuration),
    }
}

fn keys(configuration: &Configuration<'_>) -> Vec<String> {
    configuration.records.iter().map(|record| record.key.clone()).collect()
}

fn pick(
    configuration: &Configuration<'_>,
    question: &Question,
    smaller: &BTreeMap<Identity, Vec<Point>>,
) -> Option<Pick> {
    let first = configuration.first();
    let limit = limit_of(configuration, question)?;
    let bits_per_dim = configuration.mean("bits_per_dim")?;
    let code_bytes = configuration.mean("code_bytes")?;
    let (n, dim) = (first.dataset.n as f64, first.dataset.dim as f64);
    let rows = question.rows.unwrap_or(n);
    let model_bytes = configuration.model_bytes().unwrap_or(0.0);
    let here = point(configuration, limit);
    let growth = smaller.get(&Identity::of(first)).map(|points| {
        let queries = first.dataset.queries as f64 * f64::from(question.k);
        Growth::of(points.iter().chain([&here]).cloned().collect(), queries, rows)
    });
    Some(Pick {
        dataset: first.dataset.name.clone(),
        method: first.method.id.clone(),
        label: first.label.clone(),
        params: first.params.clone(),
        plugin_digest: first.method.plugin_digest.clone(),
        needs_digest: first.method.needs_digest.clone(),
        seeds: configuration.records.iter().map(|record| record.seed).collect(),
        keys: keys(configuration),
        marks: configuration.marks(),
        bits_per_dim,
        rate: bits_per_dim + 8.0 * model_bytes / (rows * dim),
        recall: limit.mean,
        standard_error: limit.standard_error,
        at_least: limit.at_least,
        code_bytes,
        model_bytes,
        rows,
        total_bytes: rows * code_bytes + model_bytes,
        original_bytes: question.rerank.map(|_| ORIGINAL_VALUE * rows * dim),
        compress_vectors_per_s: configuration.mean("compress_vectors_per_s"),
        fit_s: configuration.mean("fit_s"),
        growth,
        elsewhere: Vec::new(),
    })
}

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod tests;
