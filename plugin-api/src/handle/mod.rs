//! The calling side of the contract: a plugin's tables as safe Rust values.
//!
//! The host and the conformance kit both call through here. Nothing a plugin says is believed
//! unread: texts must be UTF-8, tables complete, return codes known. Outputs are slices of the
//! caller's, who guards them as it needs, for instance by [`Guarded`]; a call fills, allocates and
//! checks nothing around them, so that it can be timed.

mod call;
mod describe;
mod grid;
mod guarded;
mod instance;
mod lending;
mod method;
mod plugin;

pub use crate::extension::scorer::handle::Scorer;
pub use crate::extension::search::handle::Search;
pub use call::{Breach, CallError, SILENT};
pub use describe::{DescribeError, Descriptor};
pub use grid::Proposal;
pub use guarded::Guarded;
pub use instance::Instance;
pub use lending::Caller;
pub use method::{Method, Watch};
pub use plugin::Plugin;

pub(crate) use call::{call, present};
