//! The order of rows.

use std::str::FromStr;

use super::ResultsError;
use super::identity::{Field, IDENTITY};
use crate::record::{Record, natural_key};
use crate::report::configuration::Configuration;
use crate::report::known;

/// An order of rows. Written `COLUMN`, `COLUMN:asc` or `COLUMN:desc`; rows without the value come
/// last either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// A metric or a column that identifies rows; it need not be shown.
    pub column: String,
    /// The direction; none puts the better metrics first and sorts everything else upwards.
    pub order: Option<Order>,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// A text that is no order of rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sort by `{text}`; write COLUMN, COLUMN:asc or COLUMN:desc")]
pub struct BadSort {
    /// The text.
    pub text: String,
}

impl FromStr for Sort {
    type Err = BadSort;

    fn from_str(text: &str) -> Result<Self, BadSort> {
        let (column, order) = match text.split_once(':') {
            None => (text, None),
            Some((column, "asc")) => (column, Some(Order::Ascending)),
            Some((column, "desc")) => (column, Some(Order::Descending)),
            Some(_) => {
                return Err(BadSort { text: text.to_owned() });
            }
        };
        if column.is_empty() {
            return Err(BadSort { text: text.to_owned() });
        }
        Ok(Self { column: column.to_owned(), order })
    }
}

pub(in crate::report) fn sort(
    rows: &mut [&Record],
    by: Option<&Sort>,
    present: &[String],
) -> Result<(), ResultsError> {
    // The usual order, which a stable sort keeps among equal rows.
    rows.sort_by_cached_key(|record| {
        let of = Configuration { records: vec![record] };
        let size = of.size().unwrap_or(f64::INFINITY);
        // For numbers that are not negative the order of bits is the order of values.
        let bits = size.max(0.0).to_bits();
        (
            natural_key(&record.dataset.name),
            !of.marks().may_lead(),
            bits,
            natural_key(&record.method.id),
            natural_key(&record.label),
            record.seed,
        )
    });
    let Some(Sort { column, order }) = by else {
        return Ok(());
    };
    let identity = IDENTITY.iter().find(|(name, _)| name == column);
    let mut keyed: Vec<(Field, &Record)> = match identity {
        Some((_, field)) => rows.iter().map(|record| (field(record), *record)).collect(),
        None if present.contains(column) => rows
            .iter()
            .map(|record| (record.value(column).map_or(Field::Missing, Field::Real), *record))
            .collect(),
        None if rows.is_empty() => return Ok(()),
        None => {
            let columns = IDENTITY.iter().map(|(name, _)| (*name).to_owned());
            return Err(ResultsError::UnknownColumn {
                name: column.clone(),
                known: columns.chain(present.iter().cloned()).collect(),
            });
        }
    };
    let better_is_larger = identity.is_none() && known(column).higher_is_better == Some(true);
    let descending = order.map_or(better_is_larger, |order| order == Order::Descending);
    keyed.sort_by(|(a, _), (b, _)| {
        let missing = |field: &Field| *field == Field::Missing;
        let order = a.compare(b);
        missing(a).cmp(&missing(b)).then(if descending { order.reverse() } else { order })
    });
    for (row, (_, record)) in rows.iter_mut().zip(keyed) {
        *row = record;
    }
    Ok(())
}
