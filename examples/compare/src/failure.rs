//! Why a request was not served.

use std::path::PathBuf;
use vq_plugin_api::handle::{CallError, DescribeError};

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Not a request.
    #[error("not a request: {0}")]
    Request(#[from] serde_json::Error),
    /// A file that cannot be read or written.
    #[error("cannot {verb} {path}: {source}", path = .path.display())]
    File { verb: &'static str, path: PathBuf, source: std::io::Error },
    /// Not an `.fbin` file.
    #[error("{path} is not {rows} rows of {dim} f32 values", path = .path.display())]
    Shape { path: PathBuf, rows: usize, dim: usize },
    /// More rows wanted than there are.
    #[error("{wanted} rows wanted of {rows}")]
    Rows { wanted: usize, rows: usize },
    /// The dynamic loader refused the library.
    #[error("cannot load {path}: {source}", path = .path.display())]
    Load { path: PathBuf, source: libloading::Error },
    /// The library is no plugin of this version.
    #[error("{path}: {source}", path = .path.display())]
    Describe { path: PathBuf, source: DescribeError },
    /// The library has no such method.
    #[error("{path} has no method {method}", path = .path.display())]
    NoMethod { path: PathBuf, method: String },
    /// The method offers no scorer.
    #[error("{0} has no scorer")]
    NoScorer(String),
    /// The method offers no search.
    #[error("{0} has no search")]
    NoSearch(String),
    /// The plugin's failure.
    #[error(transparent)]
    Call(#[from] CallError),
    /// k-means found nothing.
    #[error("k-means: {0}")]
    KMeans(String),
    /// The host's search failed.
    #[error("exact neighbours: {0}")]
    Neighbours(#[from] vq_host::data::DataError),
    /// No threads.
    #[error("cannot start {threads} threads: {source}")]
    Threads { threads: usize, source: rayon::ThreadPoolBuildError },
    /// A request out of order.
    #[error("nothing is prepared")]
    NothingPrepared,
    /// A work that makes nothing to look at.
    #[error("this work has no answer")]
    NoAnswer,
}

impl Failure {
    /// For `map_err`: a failure to `verb` the file at `path`.
    pub(crate) fn file(
        verb: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Failure {
        let path = path.to_owned();
        move |source| Failure::File { verb, path, source }
    }
}
