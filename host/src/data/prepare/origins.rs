//! What identifies the source of rows: its contents, not its name.

use std::path::Path;

use super::blame::{Blame, PrepareError, about};
use super::headers::Headers;
use crate::data::cache::{Origin, contents};
use crate::data::identity::Sources;
use crate::data::reader::Reader;
use crate::data::{DataError, OnProgress, Progress, Source, Synthetic};

/// What the rows come from, told by contents.
pub(super) struct Origins {
    pub(super) base: Origin,
    pub(super) queries: Option<Origin>,
    pub(super) train: Option<Origin>,
    pub(super) watched: Sources,
}

impl Origins {
    pub(super) fn read(
        headers: &Headers,
        cache: &Path,
        progress: OnProgress<'_>,
    ) -> Result<Self, PrepareError> {
        let mut watched = Vec::new();
        let mut of = |reader: &Reader, rows: usize, stage| match reader {
            Reader::Synthetic(_) => Ok(None),
            Reader::File { file, path, written } => {
                let (bytes, total) = (file.bytes(rows), rows as u64);
                let report = |read: u64| {
                    let done = (u128::from(total) * u128::from(read) / u128::from(bytes)) as u64;
                    progress(Progress { stage, done, total })
                };
                let seen = contents(cache, path, bytes, &report, progress)?;
                let digest = seen.digest.clone();
                // A link may be made to lead elsewhere.
                if written != path {
                    watched.push(seen.called(written));
                }
                watched.push(seen);
                Ok(Some(Origin::File { digest, format: file.layout() }))
            }
        };
        let file = of(&headers.base, headers.rows, "digest base").map_err(about(Blame::Base))?;
        let base = match (file, &headers.spec.source) {
            (None, Source::Synthetic(synthetic)) => {
                Origin::Synthetic(Synthetic { n: headers.rows, ..synthetic.clone() })
            }
            (Some(file), _) => file,
            (None, Source::File(path) | Source::Table { file: path, .. }) => {
                return Err(about(Blame::Base)(DataError::NotAFile { path: path.clone() }));
            }
        };
        let mut of = |reader: &Option<Reader>, stage, blame| match reader {
            Some(reader) => of(reader, reader.rows(), stage).map_err(about(blame)),
            None => Ok(None),
        };
        let queries = of(&headers.queries, "digest queries", Blame::Queries)?;
        let train = of(&headers.train, "digest train", Blame::Train)?;
        Ok(Self { base, queries, train, watched: Sources::new(watched) })
    }
}
