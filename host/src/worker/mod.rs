//! Child processes for all plugin work, one for a question and three for a cell: the parent's side
//! in [`supervise`], the child's in [`work`], a plugin's part of a cell in `engine`, what the
//! referee and it lend each other in `exchange`, what parent and child say in [`protocol`], what a
//! child may touch in [`sandbox`], files that a child parses in `read`, what was the host's own fault in [`fault`].

pub mod ask;
mod cause;
pub(crate) mod children;
mod engine;
pub mod environment;
pub(crate) mod exchange;
pub mod fault;
mod lines;
mod machine;
pub(crate) mod memory;
pub mod protocol;
pub(crate) mod read;
pub mod reporter;
pub mod sandbox;
pub(crate) mod scratch;
pub mod supervise;
mod watch;
pub mod work;
