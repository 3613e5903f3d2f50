//! What identifies the source of rows: its contents, not its name.

use std::path::Path;

use super::blame::{Blame, PrepareError, about};
use super::headers::Headers;
use crate::data::cache::{Origin, contents};
use crate::data::error::io;
use crate::data::identity::{BEING_PREPARED, Sources};
use crate::data::reader::{Reader, Shard};
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
        let mut of = |reader: &Reader, rows: usize, stage| {
            let mut files = Vec::new();
            let mut behind = 0;
            for (shard, here) in reader.within(rows) {
                let Shard { file, path, written } = shard;
                let bytes = file.bytes(here);
                let report = |read: u64| {
                    let done = (here as u128 * u128::from(read) / u128::from(bytes)) as u64;
                    progress(Progress { stage, done: behind + done, total: rows as u64 })
                };
                let seen = contents(cache, path, bytes, &report, progress)?;
                // The digest is of what is at the path; rows come from what was opened there.
                if !file.is_at(path).map_err(io("inspect", path))? {
                    return Err(DataError::Changed { path: path.clone(), how: BEING_PREPARED });
                }
                files.push(Origin::File { digest: seen.digest.clone(), format: file.layout() });
                behind += here as u64;
                // A link may be made to lead elsewhere.
                if written != path {
                    watched.push(seen.called(written));
                }
                watched.push(seen);
            }
            Ok(match files.len() {
                0 | 1 => files.pop(),
                _ => Some(Origin::Files(files)),
            })
        };
        let file = of(&headers.base, headers.rows, "digest base").map_err(about(Blame::Base))?;
        let base = match (file, &headers.spec.source) {
            (None, Source::Synthetic(synthetic)) => {
                Origin::Synthetic(Synthetic { n: headers.rows, ..synthetic.clone() })
            }
            (Some(file), _) => file,
            (None, _) => {
                let path = headers.base.to_string().into();
                return Err(about(Blame::Base)(DataError::NoShards { path, below: Vec::new() }));
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
