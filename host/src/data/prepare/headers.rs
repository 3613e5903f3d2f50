//! The first step: what the headers of the files say.

use std::path::Path;

use super::blame::{Blame, PrepareError, about};
use super::leaving::Leaving;
use crate::data::claimed::{Claims, Places};
use crate::data::format::foreign::Parts;
use crate::data::reader::Reader;
use crate::data::{DataError, DatasetSpec, Metric, Queries, Source, Train, UnusableRows};

/// A source of fewer rows reserves none for training: half of it would teach too little, and what
/// is left would be too few to search.
const RESERVES_FROM: usize = 2000;
/// More rows than this are never reserved: what more would teach is little, and the base would
/// lose them.
const MOST_RESERVED: usize = 100_000;
/// Of a file too small for the queries that would be held out, one row in this many is.
const SHARE_HELD_OUT: usize = 10;

/// What a [`DatasetSpec`] asks for, its files open and their headers checked.
#[derive(Debug)]
pub struct Headers {
    pub(super) spec: DatasetSpec,
    pub(super) base: Reader,
    /// Rows of the source that are used.
    pub(super) rows: usize,
    pub(super) held_out: Option<usize>,
    /// Rows that are neither queries nor base.
    pub(super) reserved: usize,
    pub(super) queries: Option<Reader>,
    pub(super) train: Option<Reader>,
    /// Neighbours of the queries that somebody else found.
    pub(super) claims: Option<Claims>,
    pub(super) notes: Vec<String>,
}

impl Headers {
    /// The label that the sweep gave.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The distance that defines a neighbour: the file's own where it names one and nobody asked for
    /// another.
    pub fn metric(&self) -> Metric {
        self.spec.metric
    }

    /// Which rows of the source are in the base, where no query is taken from it.
    pub(super) fn places(&self) -> Places {
        let gone = Leaving::draw(self.rows, 0, self.reserved).all();
        Places { rows: self.base.rows(), used: self.rows, gone }
    }

    /// Whether the file at `path`, which is without links, is one of those that are read.
    pub(in crate::data) fn reads(&self, path: &Path) -> bool {
        let rows = [Some(&self.base), self.queries.as_ref(), self.train.as_ref()];
        rows.into_iter().flatten().any(|reader| reader.is_called(path))
            || self.claims.as_ref().is_some_and(|claims| claims.are_in(path))
    }

    /// Rows of the source that are used.
    pub fn rows_used(&self) -> usize {
        self.rows
    }

    /// Queries that are not held out, where there are such.
    pub fn queries_apart(&self) -> Option<usize> {
        self.queries.as_ref().map(Reader::rows)
    }

    /// Dimensions of every row.
    pub fn dim(&self) -> usize {
        self.base.dim()
    }

    /// Says what a failure is about; a file that changed while another was at work says it itself.
    pub(super) fn about(&self, blame: Blame) -> impl Fn(DataError) -> PrepareError + use<'_> {
        move |error| {
            let changed = |reader: &Option<Reader>| match (&error, reader) {
                (DataError::Changed { path, .. }, Some(reader)) => reader.is_called(path),
                _ => false,
            };
            let blame = match () {
                () if changed(&self.queries) => Blame::Queries,
                () if changed(&self.train) => Blame::Train,
                () => blame,
            };
            about(blame)(error)
        }
    }

    /// Opens the files of `spec` and checks what their headers say; reads no row and writes
    /// nothing. O(1) for files, O(64·d) for synthetic rows.
    ///
    /// # Errors
    /// [`PrepareError`]: no such file or an unknown format, a header that its file contradicts,
    /// parts of different dimensions, counts that leave no row for the base.
    pub fn read(spec: &DatasetSpec) -> Result<Self, PrepareError> {
        let base = match &spec.source {
            Source::File(path) => Reader::open(path, None),
            Source::Table { file, table } => Reader::open(file, Some(table)),
            Source::Files(paths) => Reader::open_all(paths, None),
            Source::Synthetic(synthetic) => Reader::synthetic(synthetic),
        };
        let base = base.map_err(about(Blame::Base))?;
        let rows = base.rows().min(spec.limit.unwrap_or(usize::MAX));
        if rows == 0 {
            return Err(about(Blame::Base)(DataError::Zero { what: "limit" }));
        }
        if u32::try_from(rows).is_err() {
            let what = match &base {
                Reader::Files { called, .. } => called.clone(),
                Reader::Synthetic(_) => "synthetic data".into(),
            };
            let rows = rows as u64;
            return Err(about(Blame::Base)(DataError::TooManyRows { what, rows }));
        }
        let mut notes = Vec::new();
        if let [first, second, ..] = base.splits().as_slice() {
            notes.push(format!(
                "its files are of several splits, as {first} and {second}: all are the base; a pattern \
                 takes those of one, as in '{first}*'"
            ));
        }
        // Only what nobody asked for otherwise is taken from the file.
        let parts = base.parts().filter(|_| matches!(spec.source, Source::File(_)));
        let own_queries = parts
            .and_then(|(path, parts)| Some((path, parts.queries.as_deref()?)))
            .filter(|_| matches!(spec.queries, Queries::HoldOutUpTo(_)));
        let own_train = parts
            .and_then(|(path, parts)| Some((path, parts.learn.as_deref()?)))
            .filter(|_| matches!(spec.train, Train::Reserved(None)));
        for (own, what) in [(own_queries, "queries"), (own_train, "training rows")] {
            if let Some((_, table)) = own {
                notes.push(format!("the {what} are the file's own, `{table}`"));
            }
        }
        let mut spec = spec.clone();
        let named = parts.and_then(|(_, parts)| parts.distance.as_deref());
        if let Some(distance) = named.filter(|distance| metric_of(distance).is_none()) {
            notes.push(format!(
                "its file says that its distance is {distance}, which is not measured here: it is \
                 measured by {}",
                spec.metric.name()
            ));
        }
        let named = named.and_then(|distance| Some((distance, metric_of(distance)?)));
        if let Some((distance, own)) = named.filter(|(_, own)| *own != spec.metric) {
            let how = if spec.own_metric { "so it" } else { "and it" };
            if spec.own_metric {
                spec.metric = own;
            }
            notes.push(format!(
                "its file says that its distance is {distance}, {how} is measured by {}",
                spec.metric.name()
            ));
        }
        let claims = match (&spec.neighbours, parts, own_queries) {
            // Of the source's rows, by this distance, for these queries.
            _ if spec.thin.is_some() => None,
            (Some(file), ..) => Some(Claims::File(file.clone())),
            (None, Some((file, Parts { neighbours: Some(table), .. })), Some(_))
                if named.is_none_or(|(_, own)| own == spec.metric) =>
            {
                Some(Claims::Table { file: file.to_path_buf(), table: table.clone() })
            }
            _ => None,
        };
        let held_out = match spec.queries {
            Queries::File(_) => None,
            Queries::HoldOutUpTo(_) if own_queries.is_some() => None,
            Queries::HoldOut(count) => Some(count),
            Queries::HoldOutUpTo(most) => {
                let count = most.min((rows / SHARE_HELD_OUT).max(1));
                if count < most {
                    notes.push(format!(
                        "a tenth of the {rows} rows ({count}) is held out as queries, not {most}"
                    ));
                }
                Some(count)
            }
        };
        match held_out {
            Some(0) => {
                return Err(about(Blame::Queries)(DataError::Zero { what: "hold_out" }));
            }
            Some(hold_out) if hold_out >= rows => {
                return Err(about(Blame::Queries)(DataError::HoldOut { hold_out, rows }));
            }
            _ => {}
        }
        let file = |part, name, path: &Path, table| {
            same_dim(name, path, table, base.dim()).map(Some).map_err(about(part))
        };
        let queries = match (&spec.queries, own_queries) {
            (Queries::File(path), _) => file(Blame::Queries, "queries", path, None)?,
            (_, Some((path, table))) => file(Blame::Queries, "queries", path, Some(table))?,
            (Queries::HoldOut(_) | Queries::HoldOutUpTo(_), None) => None,
        };
        let train = match &spec.train {
            Train::File(path) => file(Blame::Train, "train", path, None)?,
            Train::Sample(0) | Train::Reserved(Some(0)) => {
                return Err(about(Blame::Train)(DataError::Zero { what: "sample" }));
            }
            Train::Base | Train::Sample(_) | Train::Reserved(_) => match own_train {
                Some((path, table)) => file(Blame::Train, "train", path, Some(table))?,
                None => None,
            },
        };
        let mut reserved = 0;
        if let (Train::Reserved(_), None) = (&spec.train, &train) {
            reserved = divided(rows, held_out.unwrap_or(0)).1;
            if reserved == 0 {
                notes.push(format!(
                    "{rows} rows are too few to keep some apart for training: methods learn from \
                     the rows they are measured on"
                ));
            }
        }
        // Rows that are dropped are not known before all are read.
        let counted = spec.unusable != UnusableRows::Dropped;
        let claims = claims.filter(|_| held_out.is_none() && counted);
        Ok(Self { spec, base, rows, held_out, reserved, queries, train, claims, notes })
    }
}

/// The rows of a base, and those kept apart for training, of a source of `rows` of which `held_out`
/// are queries.
pub fn divided(rows: usize, held_out: usize) -> (usize, usize) {
    let left = rows.saturating_sub(held_out);
    let reserved = if rows >= RESERVES_FROM { (left / 2).min(MOST_RESERVED) } else { 0 };
    (left - reserved, reserved)
}

/// The metric that a file means by its `distance`, if it is one of ours.
fn metric_of(distance: &str) -> Option<Metric> {
    Some(match distance {
        // Where all are of unit length, every metric has the same neighbours.
        "angular" | "cosine" | "normalized" => Metric::Cosine,
        "euclidean" | "l2" => Metric::L2,
        "ip" | "dot" => Metric::Ip,
        _ => return None,
    })
}

fn same_dim(
    part: &'static str,
    path: &Path,
    table: Option<&str>,
    expected: usize,
) -> Result<Reader, DataError> {
    let reader = Reader::open(path, table)?;
    if reader.dim() != expected {
        return Err(DataError::DimMismatch {
            part,
            path: path.into(),
            expected,
            found: reader.dim(),
        });
    }
    Ok(reader)
}
