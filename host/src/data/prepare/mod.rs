//! From a [`DatasetSpec`] to prepared data, in three steps, so that each is taken only where it is
//! needed:
//!
//! ```text
//! Headers         files open, shapes and counts checked; reads no row, writes nothing
//!   └► PreparedRows   base, queries, training rows and the digest; walks each source once
//!        └► Prepared      with the exact neighbours of the queries
//! ```
//!
//! Every choice of rows has a fixed, named seed.

mod blame;
mod draw;
mod fill;
mod headers;
mod leaving;
mod neighbours;
mod origins;
mod rows;

use std::path::Path;

use super::{DataError, DatasetSpec, Metric, Prepared, Progress};

pub use self::blame::{Blame, PrepareError};
pub(super) use self::draw::distinct_rows;
pub use self::headers::{Headers, divided};
pub use self::rows::{PreparedRows, is_prepared};

/// Hears how far a preparation is; answers whether to go on.
pub type OnPrepare<'a> = &'a (dyn Fn(Progress) -> bool + Sync);

/// Prepares `spec` in the folder `cache`, with `truth_k` exact neighbours per query
/// (all rows of the base when it has fewer). What is there already is used. `progress`
/// answers whether to go on; where not, nothing half made stays ([`DataError::Interrupted`]).
///
/// Memory is O(block·d + d² + queries·k); files are as large as what they hold.
/// Threads: the current rayon pool; every result is the same for any number of them.
///
/// # Errors
/// [`PrepareError`], naming the file and the values that are in the way.
pub fn prepare(
    spec: &DatasetSpec,
    truth_k: usize,
    cache: &Path,
    progress: OnPrepare<'_>,
) -> Result<Prepared, PrepareError> {
    Headers::read(spec)?.rows(cache, progress)?.with_neighbours(truth_k, progress)
}

/// [`DataError::Interrupted`] once nobody wants to go on.
pub(super) fn interruptible(
    progress: OnPrepare<'_>,
) -> impl Fn(Progress) -> Result<(), DataError> + Sync {
    move |now| if progress(now) { Ok(()) } else { Err(DataError::Interrupted) }
}

/// BLAKE3, in hex, of digests of equal length and the metric.
fn digest(context: &str, parts: &[&str], metric: Metric) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part.as_bytes());
    }
    hasher.update(metric.name().as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// "3 of 40 rows are", "the 1 row is".
fn some(count: u64, of: usize, one: &str, many: &str) -> String {
    match of {
        1 => format!("the 1 {one} is"),
        _ => format!("{count} of {of} {many} are"),
    }
}

#[cfg(test)]
mod tests;
