//! Which part of a data set a failure is about.

use std::error::Error;
use std::fmt;

use crate::data::DataError;

/// What a failed preparation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The source of the rows.
    Base,
    /// The rows searched for, or how many to hold out.
    Queries,
    /// The rows to learn from.
    Train,
    /// Where prepared data is kept: nothing that the sweep says.
    Cache,
}

/// Why a dataset could not be prepared, and which part of it is to blame. Reads as its `error`, and
/// has that one's cause.
#[derive(Debug)]
pub struct PrepareError {
    /// What it is about.
    pub blame: Blame,
    /// What is wrong.
    pub error: DataError,
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for PrepareError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Says that a failure is about `part`, unless it is the cache that fails.
pub(super) fn about(blame: Blame) -> impl Fn(DataError) -> PrepareError {
    move |error| {
        let cache = matches!(error, DataError::Cache { .. } | DataError::Damaged { .. });
        PrepareError { blame: if cache { Blame::Cache } else { blame }, error }
    }
}
