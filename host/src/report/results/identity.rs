//! The columns that identify a row, named as in the store's view `results`.

use std::cmp::Ordering;

use crate::record::{Record, canonical_json, natural_key};

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Kind {
    /// UTF-8.
    Text,
    /// A whole number, not negative.
    Whole,
    /// Any number.
    Real,
}

/// A value of a column that identifies rows.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::report) enum Field {
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
pub(in crate::report) type Read = fn(&Record) -> Field;

/// The columns that identify rows, in the order of the store's view.
pub(in crate::report) const IDENTITY: [(&str, Read); 34] = [
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

/// The type of the values in one of the columns of [`IDENTITY`].
pub(in crate::report) fn kind(column: &str) -> Kind {
    match column {
        "seed" | "n" | "dim" | "queries" | "threads" | "jobs" | "exclusive" | "needs_training"
        | "deterministic" | "train_rows" | "train_apart" | "synthetic" | "zero_queries"
        | "queries_in_base" | "duplicate_rows" | "tied_queries" => Kind::Whole,
        "threads_used" | "wall_s" => Kind::Real,
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{Facts, Proof};

    #[test]
    fn every_column_has_values_of_its_kind() {
        let mut record = sample("a", "x", &[]);
        record.dataset.facts = Some(Facts::default());
        (record.dataset.train_rows, record.dataset.train_apart) = (Some(1), Some(true));
        (record.method.needs_training, record.method.deterministic) = (Some(true), Some(true));
        record.method.needs_digest = Some("d".to_owned());
        record.proof = Some(Proof::Proven);
        record.error = Some("e".to_owned());
        record.notices.push("n".to_owned());
        record.timing.threads_used = Some(1.5);
        for (name, read) in IDENTITY {
            let found = match read(&record) {
                Field::Missing => panic!("`{name}` is missing"),
                Field::Text(_) => Kind::Text,
                Field::Whole(_) => Kind::Whole,
                Field::Real(_) => Kind::Real,
            };
            assert_eq!(found, kind(name), "{name}");
        }
    }
}
