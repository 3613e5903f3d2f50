//! What a record says of its method.

use serde::{Deserialize, Serialize};

/// The method of a cell and the library it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodInfo {
    /// The method's id in a sweep.
    pub id: String,
    /// The method's own version.
    pub version: String,
    /// The library's file.
    pub plugin_path: String,
    /// BLAKE3 of the library's file, in hexadecimal.
    pub plugin_digest: String,
    /// BLAKE3, in hexadecimal, over the libraries outside the system's folders that the file names
    /// as needed; none where it names no such library.
    pub needs_digest: Option<String>,
    /// Name and version of the SDK that the plugin states.
    pub sdk: String,
    /// ABI version that the plugin states: `1.0`.
    pub abi: String,
    /// Whether the method learns from the training rows; none in records from before this was kept.
    pub needs_training: Option<bool>,
    /// Whether the method promises equal codes for equal seeds; likewise.
    pub deterministic: Option<bool>,
}
