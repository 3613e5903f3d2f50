//! From a [`Quantizer`](crate::Quantizer) to the C table: here, and in the `shim.rs` of each
//! extension, author code meets raw pointers, and nowhere else.
//!
//! Every function checks what it was given, runs the author's code in a pool of the host's thread
//! budget, and turns errors and panics into return codes.

mod export;
mod functions;
mod grid;
mod held;
mod table;

pub(crate) use held::{Held, context, guard, in_pool};
pub use table::{method, plugin};

// A panic that aborts would take the host's worker down before the guard could return an error.
#[cfg(panic = "abort")]
compile_error!("a vq-host plugin must be built with panic = \"unwind\"");
