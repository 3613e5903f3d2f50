//! Methods that are classes in Python files.
//!
//! ```text
//! host, never running Python     source: which files are one, and what they are · interpreter: which
//!                                Python, found by looking · environment: what was installed in it
//! worker, before it is confined  starts the interpreter, held by the same walls, which runs boot.py
//! worker, then                   bridge: frames and shared pages · class: the SDK's traits over it, so
//!                                that all above sees a plugin's table like any other
//! ```
//!
//! The worker's process is the plugin; the interpreter is a child of it, in its group, under its
//! limits and its walls. docs/adding-a-method.md has what authors see.

#[cfg(target_os = "linux")]
pub(crate) mod bridge;
#[cfg(target_os = "linux")]
pub(crate) mod class;
pub mod environment;
pub mod interpreter;
pub mod source;

use crate::worker::protocol::Notice;
use std::path::Path;

/// Whether the call that failed last did so because a class broke the contract; asked once.
pub(crate) fn broke_contract() -> bool {
    #[cfg(target_os = "linux")]
    return bridge::broken();
    #[cfg(not(target_os = "linux"))]
    false
}

/// What was noticed of the objects that were given up since this was asked last.
pub(crate) fn noticed() -> Vec<Notice> {
    #[cfg(target_os = "linux")]
    return bridge::noticed();
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// From now on a class gets all rows of a call at once; or again not too many.
pub(crate) fn in_whole_blocks(whole: bool) {
    #[cfg(target_os = "linux")]
    bridge::in_whole_blocks(whole);
    #[cfg(not(target_os = "linux"))]
    let _ = whole;
}

/// True for the name of a Python file.
pub fn is_python(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py")
}
