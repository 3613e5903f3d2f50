//! The second step: the rows of a data set in the cache, and the digest that cell keys contain.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blame::{Blame, PrepareError, about};
use super::fill::{fill_base, fill_rows, fill_sample, fill_thinned};
use super::headers::Headers;
use super::origins::Origins;
use super::{OnPrepare, digest, interruptible, some};
use crate::data::cache::{Cache, Manifest, Origin, Recipe, canonical};
use crate::data::error::cache_io;
use crate::data::identity::Sources;
use crate::data::reader::Reader;
use crate::data::unfinished::remove_abandoned;
use crate::data::{
    DataError, DatasetSpec, Metric, OnProgress, RowFile, Source, Train, UnusableRows,
};
use crate::record::DatasetInfo;

/// One row in this many that is equal to another is worth a note.
const IDENTICAL_IS_MANY: u64 = 100;

/// Prepared data without its exact neighbours. What a [`Prepared`](crate::data::Prepared) has too
/// is explained there.
#[derive(Clone, Debug)]
pub struct PreparedRows {
    pub(super) headers: Arc<Headers>,
    pub(super) cache: PathBuf,
    /// BLAKE3, in hex, over the contents of base, train and queries and the metric.
    pub digest: String,
    /// The rows that are compressed and searched.
    pub base: RowFile,
    /// The rows methods learn from; may be the base itself.
    pub train: RowFile,
    /// None of `train` was taken from the base.
    pub train_apart: bool,
    /// The rows that are searched for.
    pub queries: RowFile,
    /// Mean of each dimension over the base.
    pub mean: Vec<f64>,
    /// Eigenvalues of the base's covariance, descending.
    pub spectrum: Vec<f64>,
    /// Things about the data a reader of results should know.
    pub notes: Vec<String>,
    /// What was not as it should be when this was prepared, and was mended.
    pub notices: Vec<String>,
    pub(super) zero_queries: u64,
    pub(super) duplicate_rows: u64,
    /// What the neighbours are kept under.
    pub(super) truth_key: String,
    /// For people: where the base comes from.
    pub(super) from: String,
    pub(super) sources: Sources,
}

/// Whether [`Headers::rows`] would find everything in the cache. Nothing is made; a source whose
/// times changed is read.
pub fn is_prepared(spec: &DatasetSpec, cache: &Path) -> bool {
    let found = || {
        let headers = Arc::new(Headers::read(spec).ok()?);
        PreparedRows::take(&headers, cache, false, &|_| Ok(())).ok()
    };
    cache.is_dir() && found().is_some()
}

impl Headers {
    /// Prepares the rows in the folder `cache`. What is there already is used.
    ///
    /// Memory is O(block·d + d²); files are as large as what they hold. Threads: the current rayon
    /// pool.
    ///
    /// # Errors
    /// [`PrepareError`], naming the file and the values that are in the way.
    pub fn rows(self, cache: &Path, progress: OnPrepare<'_>) -> Result<PreparedRows, PrepareError> {
        let (headers, progress) = (Arc::new(self), &interruptible(progress));
        match PreparedRows::take(&headers, cache, true, progress) {
            // Found while it was read, since it is large.
            Err(PrepareError { error: DataError::Damaged { path, .. }, .. }) => {
                forget_blocks(&path);
                PreparedRows::take(&headers, cache, true, progress)
            }
            taken => taken,
        }
    }
}

/// An entry without the digests of its blocks is made anew.
pub(super) fn forget_blocks(of: &Path) {
    let _removed = fs::remove_file(of.with_extension("blocks"));
}

impl PreparedRows {
    /// Bytes that are free where codes are put aside; none where the system does not tell.
    #[cfg(target_os = "linux")]
    pub fn room(&self) -> Option<u64> {
        let of = nix::sys::statvfs::statvfs(&self.cache).ok()?;
        Some(of.blocks_available() * of.fragment_size())
    }

    /// Bytes that are free where codes are put aside; none where the system does not tell.
    #[cfg(not(target_os = "linux"))]
    pub fn room(&self) -> Option<u64> {
        None
    }

    /// Where not `makes`, what is missing is [`DataError::NotPrepared`].
    pub(super) fn take(
        headers: &Arc<Headers>,
        cache: &Path,
        makes: bool,
        progress: OnProgress<'_>,
    ) -> Result<Self, PrepareError> {
        let spec = &headers.spec;
        fs::create_dir_all(cache)
            .map_err(cache_io("create", cache))
            .map_err(about(Blame::Cache))?;
        let folder = canonical(cache).map_err(about(Blame::Cache))?;
        remove_abandoned(&folder);
        let origins = Origins::read(headers, &folder, progress)?;
        let mut kept = Cache {
            folder: folder.clone(),
            sources: &origins.watched,
            makes,
            progress,
            notices: Vec::new(),
        };
        let unit = spec.metric == Metric::Cosine;
        let unusable = Some(spec.unusable).filter(|of| *of != UnusableRows::Told);

        let (held_out, reserved) = (headers.held_out.unwrap_or(0), headers.reserved);
        let recipe = Recipe::Taken {
            from: &origins.base,
            rows: headers.rows,
            held_out,
            reserved,
            unit,
            statistics: true,
            unusable,
        };
        let base_entry = kept
            .find_or_make(&recipe, |key, folder| fill_base(headers, unit, key, folder, progress))
            .map_err(headers.about(Blame::Base))?;
        let whole = base_entry.rows(headers.base.path());
        let digests = &base_entry.manifest;
        let mut thinned = None;
        if let Some(count) = spec.thin
            && count < whole.rows
        {
            let recipe = Recipe::Thinned { of: &digests.rows.digest, rows: count };
            let entry = kept.find_or_make(&recipe, |key, folder| {
                fill_thinned(&whole.open()?, count, &digests.from, key, folder, progress)
            });
            thinned = Some(entry.map_err(headers.about(Blame::Base))?);
        }
        let base = thinned.as_ref().map_or_else(|| whole.clone(), |entry| entry.rows(None));
        // Of the rows that are measured.
        let measured = thinned.as_ref().map_or(digests, |entry| &entry.manifest);
        let (base_digest, duplicate_rows) = (measured.rows.digest.clone(), measured.duplicates);

        let mut entry_of = |from: &Origin, reader: &Reader, role, stage| {
            let rows = reader.rows();
            let recipe = Recipe::Taken {
                from,
                rows,
                held_out: 0,
                reserved: 0,
                unit,
                statistics: false,
                unusable,
            };
            kept.find_or_make(&recipe, |key, folder| {
                let how = (unit, spec.unusable);
                fill_rows(reader, how, role, stage, key, folder, progress)
            })
        };
        let query_entry = match (&headers.queries, &origins.queries) {
            (Some(reader), Some(from)) => Some(
                entry_of(from, reader, "queries", "read queries")
                    .map_err(headers.about(Blame::Queries))?,
            ),
            _ => None,
        };
        let mut train_entry = match (&headers.train, &origins.train) {
            (Some(reader), Some(from)) => Some(
                entry_of(from, reader, "train", "read train")
                    .map_err(headers.about(Blame::Train))?,
            ),
            _ => None,
        };
        // Where the training rows are drawn from, unless they are a file.
        let reserve = base_entry.reserved();
        let (pool, pool_digest) = match (&reserve, &digests.reserved) {
            (Some(rows), Some(part)) => (rows, &part.digest),
            _ => (&whole, &digests.rows.digest),
        };
        if let Train::Sample(count) | Train::Reserved(Some(count)) = spec.train
            && count < pool.rows
        {
            let recipe = Recipe::Sample { of: pool_digest, rows: count };
            let from = &base_entry.manifest.from;
            let sampled = kept.find_or_make(&recipe, |key, folder| {
                fill_sample(&pool.open()?, count, from, key, folder, progress)
            });
            train_entry = Some(sampled.map_err(headers.about(Blame::Train))?);
        }
        let (queries, queries_digest) = match (&query_entry, base_entry.held(), &digests.held) {
            (Some(entry), ..) => {
                let source = headers.queries.as_ref().and_then(Reader::path);
                (entry.rows(source), &entry.manifest.rows.digest)
            }
            (None, Some(rows), Some(part)) => (rows, &part.digest),
            (None, ..) => return Err(about(Blame::Queries)(DataError::Zero { what: "hold_out" })),
        };
        let (train, train_digest) = match &train_entry {
            Some(entry) => {
                let source = headers.train.as_ref().and_then(Reader::path);
                (entry.rows(source), &entry.manifest.rows.digest)
            }
            None => (pool.clone(), pool_digest),
        };
        // A file of training rows may be what the base was taken from, also under another name.
        let train_apart = match (&headers.train, &origins.train) {
            (Some(file), Some(from)) => {
                !file.shares_a_file_with(&headers.base)
                    && *from != origins.base
                    && *train_digest != digests.rows.digest
            }
            _ => reserve.is_some(),
        };

        let truth_key =
            digest("vq-host exact neighbours 2", &[&base_digest, queries_digest], spec.metric);
        origins.watched.unchanged_so_far().map_err(headers.about(Blame::Base))?;

        let query_part = query_entry.as_ref().map(|entry| &entry.manifest.rows);
        let zero_queries = query_part.or(digests.held.as_ref()).map_or(0, |part| part.zeros);
        let train_file = train_entry.as_ref().filter(|_| origins.train.is_some());
        let train_zeros = train_file.map_or(0, |entry| entry.manifest.rows.zeros);
        let digest = digest(
            "vq-host prepared data 1",
            &[&base_digest, train_digest, queries_digest],
            spec.metric,
        );
        let notices = kept.notices;
        // What is measured comes first; what it was taken from is held as well.
        let whole_at = usize::from(thinned.is_some());
        let entries = [thinned, Some(base_entry), query_entry, train_entry].into_iter().flatten();
        let mut locks = Vec::new();
        let mut manifests = Vec::new();
        for entry in entries {
            manifests.push(entry.manifest);
            locks.extend(entry.hold);
        }
        let measured = &mut manifests[0];
        let mut taken = Self {
            headers: Arc::clone(headers),
            cache: folder,
            digest,
            base,
            train,
            train_apart,
            queries,
            mean: std::mem::take(&mut measured.mean),
            spectrum: measured.spectrum.take().unwrap_or_default(),
            notes: Vec::new(),
            notices,
            zero_queries,
            duplicate_rows,
            truth_key,
            from: std::mem::take(&mut measured.from),
            sources: origins.watched.clone().holding(locks),
        };
        taken.notes = taken.peculiar(&manifests[whole_at], train_zeros);
        let dropped: u64 = manifests.iter().map(|of| of.dropped).sum();
        if dropped > 0 {
            let (rows, have) = match dropped {
                1 => ("1 row is".to_owned(), "it has"),
                n => (format!("{n} rows are"), "they have"),
            };
            let zero = if unit { ", or nothing but zeros" } else { "" };
            taken.notes.push(format!("{rows} left out: {have} a NaN or an infinity{zero}"));
        }
        Ok(taken)
    }

    /// What a reader of the results should know of the rows. `base` is the manifest of
    /// the whole base; `train_zeros` counts the rows of a training file that are zero.
    fn peculiar(&self, base: &Manifest, train_zeros: u64) -> Vec<String> {
        let spec = &self.headers.spec;
        let mut notes = self.headers.notes.clone();
        if let Train::Reserved(Some(count)) = spec.train
            && base.reserved.is_some()
            && count > self.train.rows
        {
            let all = self.train.rows;
            notes.push(format!(
                "methods learn from all {all} rows that are kept apart, not from {count}"
            ));
        }
        if matches!(spec.train, Train::File(_)) && !self.train_apart {
            notes.push(
                "the training rows are the base's: methods learn from the rows they are measured on"
                    .into(),
            );
        }
        let source_zeros = base.parts().map(|part| part.zeros).sum();
        for (zeros, rows, what) in [
            (source_zeros, self.headers.rows, "source"),
            (train_zeros, self.train.rows, "training"),
        ] {
            if spec.metric == Metric::Cosine && zeros > 0 {
                notes.push(format!(
                    "{zeros} of {rows} {what} rows are zero and have no direction: they stay zero"
                ));
            }
        }
        if spec.metric != Metric::L2 && self.zero_queries > 0 {
            let (zeros, all) = (self.zero_queries, self.queries.rows);
            notes.push(format!(
                "{} zero: every row of the base is as near to {} as any other",
                some(zeros, all, "query", "queries"),
                if zeros == 1 { "it" } else { "them" }
            ));
        }
        if self.spectrum.is_empty() {
            notes
                .push(format!("no covariance spectrum: {} dimensions are too many", self.base.dim));
        }
        if are_many(self.duplicate_rows, self.base.rows) {
            let rows = some(self.duplicate_rows, self.base.rows, "base row", "base rows");
            notes.push(format!("{rows} identical to an earlier one"));
        }
        notes
    }

    /// The label that the sweep gave.
    pub fn name(&self) -> &str {
        self.headers.name()
    }

    /// The distance that defines a neighbour.
    pub fn metric(&self) -> Metric {
        self.headers.metric()
    }

    /// Whether the base was read, and not drawn from a distribution.
    pub fn is_from_file(&self) -> bool {
        !matches!(self.headers.spec.source, Source::Synthetic(_))
    }

    /// Dimensions of every row.
    pub fn dim(&self) -> usize {
        self.base.dim
    }

    /// Bits that a value of the base has in its source.
    pub fn source_bits(&self) -> f64 {
        self.headers.base.source_bits()
    }

    /// What a record says of this data, without the facts: some of them are counted while
    /// neighbours are sought.
    pub fn info(&self) -> DatasetInfo {
        DatasetInfo {
            name: self.name().to_owned(),
            digest: self.digest.clone(),
            n: self.base.rows as u64,
            dim: self.base.dim as u64,
            queries: self.queries.rows as u64,
            train_rows: Some(self.train.rows as u64),
            train_apart: Some(self.train_apart),
            facts: None,
        }
    }
}

/// So many that a reader of the results should know.
pub(super) fn are_many(count: u64, of: usize) -> bool {
    count > 0 && count * IDENTICAL_IS_MANY >= of as u64
}
