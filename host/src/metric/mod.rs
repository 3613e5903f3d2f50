//! Metrics: what is measured about a method, one file per family, and the list of all names.
//!
//! The families are leaves: they see arrays, not plugins, files or records. A worker walks the
//! base in row blocks, in order, and feeds them; each result has the same bits for any block
//! size and any number of threads (per-row values in parallel, sums in row order in f64). A
//! value that would be infinite or undefined is `None` and has no name in a record.
//!

mod draw;
pub mod estimator;
pub mod pairs;
mod percentile;
pub mod rate_distortion;
pub mod reconstruction;
pub mod retrieval;
pub mod size;
