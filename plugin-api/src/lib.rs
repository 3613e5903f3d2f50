//! Write a vector quantizer once, as one type, and drop the compiled library into `plugins/`.
//!
//! An author implements [`Quantizer`], declares parameters with [`params!`], and ends with
//! [`export_plugin!`]. A method that estimates distances from codes also implements [`Scorer`], one
//! that finds the nearest codes without writing all estimates [`Search`]. All of it is safe code: a
//! plugin compiles under `#![forbid(unsafe_code)]`.
//!
//! The contract underneath is `include/vq_plugin.h`; [`abi`] is its Rust twin, [`handle`] the
//! calling side, and [`conformance`] the law that every plugin is held to.

pub mod abi;
#[doc(hidden)]
pub mod adapter;
pub mod conformance;
pub mod context;
pub mod error;
pub mod extension;
pub mod handle;
pub mod model;
pub mod params;
pub mod quantizer;
pub mod testing;
pub mod thread_state;
mod wire;

pub use context::{Context, Level};
pub use error::{Error, ErrorKind};
pub use extension::scorer::Scorer;
pub use extension::search::{Hits, Packed, Search};
pub use params::{Params, Value};
pub use quantizer::{GridRequest, GridSink, Method, Metric, Quantizer, Space};

#[doc(hidden)]
pub use abi_stable;
pub use ndarray;
