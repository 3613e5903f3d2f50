//! The columns that identify a row, named as in the store's view `results`.

use std::cmp::Ordering;

use crate::record::{Record, canonical_json, natural_key};

/// A value of a column that identifies rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    Missing,
    Text(String),
    Whole(u64),
    Real(f64),
}

impl Field {
    fn whole(whole: Option<u64>) -> Self {
        whole.map_or(Self::Missing, Self::Whole)
    }

    fn flag(flag: Option<bool>) -> Self {
        Self::whole(flag.map(u64::from))
    }

    pub(super) fn write(self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Text(text) => text,
            Self::Whole(whole) => whole.to_string(),
            Self::Real(real) => real.to_string(),
        }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => natural_key(a).cmp(&natural_key(b)),
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            // One column has one type, so only what is missing comes here.
            _ => Ordering::Equal,
        }
    }
}

/// Takes one column's value from a record.
pub(super) type Read = fn(&Record) -> Field;

/// The columns that identify rows, in the order of the store's view.
pub(super) const IDENTITY: [(&str, Read); 34] = [
    ("dataset", |record| Field::Text(record.dataset.name.clone())),
    ("method", |record| Field::Text(record.method.id.clone())),
    ("label", |record| Field::Text(record.label.clone())),
    ("seed", |record| Field::Whole(record.seed)),
    ("outcome", |record| Field::Text(record.outcome.to_string())),
    ("metric", |record| Field::Text(record.metric.clone())),
    ("n", |record| Field::Whole(record.dataset.n)),
    ("dim", |record| Field::Whole(record.dataset.dim)),
    ("queries", |record| Field::Whole(record.dataset.queries)),
    ("error", |record| record.error.clone().map_or(Field::Missing, Field::Text)),
    ("sandbox", |record| {
        let text = record.sandbox.as_ref().map(ToString::to_string);
        text.map_or(Field::Missing, Field::Text)
    }),
    ("proof", |record| {
        let text = record.proof.as_ref().map(ToString::to_string);
        text.map_or(Field::Missing, Field::Text)
    }),
    ("notices", |record| match record.notices.as_slice() {
        [] => Field::Missing,
        notices => Field::Text(canonical_json(&serde_json::json!(notices))),
    }),
    ("threads", |record| Field::Whole(record.timing.threads.into())),
    ("jobs", |record| Field::Whole(record.timing.jobs.into())),
    ("exclusive", |record| Field::Whole(record.timing.exclusive.into())),
    ("threads_used", |record| record.timing.threads_used.map_or(Field::Missing, Field::Real)),
    ("started_at", |record| Field::Text(record.started_at.clone())),
    ("wall_s", |record| Field::Real(record.wall_s)),
    ("method_version", |record| Field::Text(record.method.version.clone())),
    ("needs_training", |record| Field::flag(record.method.needs_training)),
    ("deterministic", |record| Field::flag(record.method.deterministic)),
    ("train_rows", |record| Field::whole(record.dataset.train_rows)),
    ("train_apart", |record| Field::flag(record.dataset.train_apart)),
    ("synthetic", |record| Field::flag(record.dataset.facts.map(|facts| facts.synthetic))),
    ("zero_queries", |record| Field::whole(record.dataset.facts.map(|facts| facts.zero_queries))),
    ("queries_in_base", |record| {
        Field::whole(record.dataset.facts.map(|facts| facts.queries_in_base))
    }),
    ("duplicate_rows", |record| {
        Field::whole(record.dataset.facts.map(|facts| facts.duplicate_rows))
    }),
    ("tied_queries", |record| Field::whole(record.dataset.facts.map(|facts| facts.tied_queries))),
    ("plugin_digest", |record| Field::Text(record.method.plugin_digest.clone())),
    ("needs_digest", |record| {
        record.method.needs_digest.clone().map_or(Field::Missing, Field::Text)
    }),
    ("params", |record| Field::Text(canonical_json(&record.params))),
    ("run_id", |record| Field::Text(record.run_id.clone())),
    ("key", |record| Field::Text(record.key.clone())),
];
