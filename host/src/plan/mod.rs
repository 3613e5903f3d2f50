//! Sweep + descriptors → cells. Pure: nothing here opens a library or reads data, so that
//! everything that can be rejected is rejected before anything trains.
//!
//! ```text
//! choose: sweep × catalog ─► methods with checked axes
//! requests: methods × shapes of data ─► what to ask each grid generator (asked by the caller)
//! assemble: the answers ─► candidates, skips
//! into_plan: candidates × digests of data × seeds ─► cells with their keys
//! ```

mod cells;
mod choose;
mod error;
mod grids;
mod partition;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use crate::data::{Headers, Metric};

pub use cells::{Candidate, Cell, Grids, Plan, Second, Skip, evaluation, same_contents};
pub use choose::{Choice, Chosen, choose};
pub use error::PlanError;
pub use grids::{Asked, assemble, requests};
pub use partition::{Partition, PartitionError, Share};

/// What planning has to know of a data set: its header says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataShape {
    /// The data set's name.
    pub name: String,
    /// Dimensions of a row.
    pub dim: usize,
    /// The distance that defines a neighbour.
    pub metric: Metric,
}

impl From<&Headers> for DataShape {
    fn from(of: &Headers) -> Self {
        Self { name: of.name().to_owned(), dim: of.dim(), metric: of.metric() }
    }
}
