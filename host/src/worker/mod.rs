//! One child process per piece of plugin work: the parent's side in [`supervise`], the child's in
//! [`work`], what they say to each other in [`protocol`], what the child may touch in [`sandbox`], what was the host's own fault in [`fault`].

pub mod ask;
mod codec;
pub mod environment;
pub mod fault;
pub mod measure;
mod memory;
pub mod protocol;
pub mod reporter;
pub mod sandbox;
mod scratch;
mod search;
pub mod supervise;
mod usage;
pub mod work;
