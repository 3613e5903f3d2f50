//! Write a vector quantizer once, as one type, and drop the compiled library into `plugins/`.
//!
//! An author implements [`Quantizer`] (and [`Scorer`] where the method estimates distances from
//! codes), declares parameters with [`params!`], and ends with [`export_plugin!`]. All of it is
//! safe code: a plugin compiles under `#![deny(unsafe_code)]`.
//!
//! The contract underneath is `include/vq_plugin.h`; [`abi`] is its Rust twin, [`handle`] the
//! calling side, and [`conformance`] the law that every plugin is held to.

pub mod abi;
#[doc(hidden)]
pub mod adapter;
pub mod conformance;
pub mod context;
pub mod error;
pub mod handle;
pub mod model;
pub mod params;
pub mod quantizer;
pub mod scorer;
pub mod thread_state;
mod wire;

pub use context::{Context, Level};
pub use error::{Error, ErrorKind};
pub use params::{Params, Value};
pub use quantizer::{GridRequest, GridSink, Method, Metric, Quantizer, Space};
pub use scorer::Scorer;

#[doc(hidden)]
pub use abi_stable;
pub use ndarray;
