//! One child process per piece of plugin work: the parent's side in [`supervise`], the child's in
//! [`work`], what they say to each other in [`protocol`], what the child may touch in [`sandbox`], what was the host's own fault in [`fault`].

pub mod ask;
mod engine;
pub mod environment;
pub(crate) mod exchange;
pub mod fault;
mod lines;
#[cfg(target_os = "linux")]
mod machine;
mod memory;
pub mod protocol;
pub mod reporter;
pub mod sandbox;
mod scratch;
pub mod supervise;
mod watch;
pub mod work;
