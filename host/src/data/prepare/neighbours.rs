//! The last step: the exact neighbours of the queries.

use std::path::Path;

use super::blame::{Blame, PrepareError, about};
use super::rows::{PreparedRows, are_many, forget_blocks};
use super::{OnPrepare, interruptible, some};
use crate::data::cache::Cache;
use crate::data::identity::SINCE;
use crate::data::{DataError, Facts, OnProgress, Prepared, Source, truth};

impl PreparedRows {
    /// Finds `truth_k` exact neighbours of each query (all rows of the base when it has fewer), or
    /// takes those in the cache.
    ///
    /// O(queries · rows · d) where they are not there yet; memory is O(block·d + queries·k).
    /// Threads: the current rayon pool.
    ///
    /// # Errors
    /// [`PrepareError`]; [`DataError::Changed`] where damaged rows had to be made again and their
    /// source is another one by now.
    pub fn with_neighbours(
        self,
        truth_k: usize,
        progress: OnPrepare<'_>,
    ) -> Result<Prepared, PrepareError> {
        if truth_k == 0 {
            return Err(about(Blame::Base)(DataError::Zero { what: "truth k" }));
        }
        let going_on = &interruptible(progress);
        let mut notices = Vec::new();
        let damaged = match self.find(truth_k, true, &mut notices, going_on) {
            // Rows too large to be verified beforehand are verified while they are read.
            Err(PrepareError { error: DataError::Damaged { path, .. }, .. }) => path,
            found => return self.prepared(found?, notices),
        };
        let again = self.again(&damaged, progress)?;
        let found = again.find(truth_k, true, &mut notices, going_on)?;
        again.prepared(found, notices)
    }

    /// The counts of what is peculiar, where `truth_k` neighbours are in the cache already; nothing
    /// is made. With it, what a reader of results should know, also of damage that was found.
    pub fn known_facts(&self, truth_k: usize) -> (Option<Facts>, Vec<String>) {
        let mut notes = Vec::new();
        let found = self.find(truth_k, false, &mut notes, &|_| Ok(())).ok();
        if let Some(found) = &found {
            notes.extend(self.identical(found));
        }
        (found.map(|found| self.facts(&found)), notes)
    }

    /// The same rows, made anew because `damaged` is.
    fn again(self, damaged: &Path, progress: OnPrepare<'_>) -> Result<Self, PrepareError> {
        forget_blocks(damaged);
        let Self { headers, cache, digest, base, mut notices, .. } = self;
        let again = Self::take(&headers, &cache, true, &interruptible(progress))?;
        if again.digest != digest {
            let error = DataError::Changed { path: base.path, how: SINCE };
            return Err(about(Blame::Base)(error));
        }
        notices.extend(again.notices);
        Ok(Self { notices, ..again })
    }

    /// Where not `makes`, what is missing is [`DataError::NotPrepared`].
    fn find(
        &self,
        truth_k: usize,
        makes: bool,
        notices: &mut Vec<String>,
        progress: OnProgress<'_>,
    ) -> Result<truth::Found, PrepareError> {
        let folder = self.cache.clone();
        let mut kept =
            Cache { folder, sources: &self.sources, makes, progress, notices: Vec::new() };
        let found = (|| {
            let (base, queries) = (self.base.open()?, self.queries.open()?);
            let k = truth_k.min(base.rows());
            let place = truth::Place { cache: &mut kept, key: &self.truth_key, from: &self.from };
            let found = truth::find(&base, &queries, self.metric(), k, place, progress)?;
            self.sources.unchanged_so_far()?;
            Ok(found)
        })();
        notices.append(&mut kept.notices);
        found.map_err(self.headers.about(Blame::Base))
    }

    fn facts(&self, found: &truth::Found) -> Facts {
        Facts {
            synthetic: matches!(self.headers.spec.source, Source::Synthetic(_)),
            zero_queries: self.zero_queries,
            queries_in_base: found.identical,
            duplicate_rows: self.duplicate_rows,
            tied_queries: found.tied,
        }
    }

    /// The note on queries that are equal to a base row, where there are many.
    fn identical(&self, found: &truth::Found) -> Option<String> {
        let rows = self.queries.rows;
        are_many(found.identical, rows).then(|| {
            let queries = some(found.identical, rows, "query", "queries");
            format!("{queries} identical to a base row")
        })
    }

    /// What the neighbours are worth that somebody else found, where the data set came with such.
    fn claims_judged(&self, found: &truth::Found) -> Result<Option<String>, PrepareError> {
        let Some(claims) = &self.headers.claims else { return Ok(None) };
        let judged = || {
            let (base, queries) = (self.base.open()?, self.queries.open()?);
            let (places, truth) = (self.headers.places(), found.file.read()?);
            claims.judged(&places, &truth, (&base, &queries), self.metric())
        };
        judged().map_err(self.headers.about(Blame::Base))
    }

    fn prepared(self, found: truth::Found, notices: Vec<String>) -> Result<Prepared, PrepareError> {
        let (facts, identical) = (self.facts(&found), self.identical(&found));
        let judged = self.claims_judged(&found)?;
        let truth::Found { file, lock, .. } = found;
        let spec = &self.headers.spec;
        Ok(Prepared {
            name: spec.name.clone(),
            metric: spec.metric,
            dim: self.base.dim,
            source_bits: self.headers.base.source_bits(),
            digest: self.digest,
            base: self.base,
            train: self.train,
            train_apart: self.train_apart,
            queries: self.queries,
            truth: file,
            judge: None,
            mean: self.mean,
            spectrum: self.spectrum,
            facts,
            notes: self.notes.into_iter().chain(identical).chain(judged).collect(),
            notices: [self.notices, notices].concat(),
            sources: self.sources.holding(lock),
        })
    }
}
