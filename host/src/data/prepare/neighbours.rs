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
        let damaged = match self.find(truth_k, going_on) {
            // Rows too large to be verified beforehand are verified while they are read.
            Err(PrepareError { error: DataError::Damaged { path, .. }, .. }) => path,
            found => return found.map(|found| self.prepared(found)),
        };
        let again = self.again(&damaged, progress)?;
        let found = again.find(truth_k, going_on)?;
        Ok(again.prepared(found))
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

    fn find(
        &self,
        truth_k: usize,
        progress: OnProgress<'_>,
    ) -> Result<(truth::Found, Vec<String>), PrepareError> {
        let mut kept = Cache {
            folder: self.cache.clone(),
            sources: &self.sources,
            makes: true,
            notices: Vec::new(),
        };
        let found = (|| {
            let (base, queries) = (self.base.open()?, self.queries.open()?);
            let k = truth_k.min(base.rows());
            let place = truth::Place { cache: &mut kept, key: &self.truth_key, from: &self.from };
            let found = truth::find(&base, &queries, self.metric(), k, place, progress)?;
            self.sources.unchanged_so_far()?;
            Ok(found)
        })();
        Ok((found.map_err(self.headers.about(Blame::Base))?, kept.notices))
    }

    fn prepared(self, (found, notices): (truth::Found, Vec<String>)) -> Prepared {
        let truth::Found { file, identical, tied, lock } = found;
        let Self { base, queries, mut notes, .. } = self;
        if are_many(identical, queries.rows) {
            let queries = some(identical, queries.rows, "query", "queries");
            notes.push(format!("{queries} identical to a base row"));
        }
        let spec = &self.headers.spec;
        Prepared {
            name: spec.name.clone(),
            metric: spec.metric,
            dim: base.dim,
            digest: self.digest,
            base,
            train: self.train,
            train_apart: self.train_apart,
            queries,
            truth: file,
            mean: self.mean,
            spectrum: self.spectrum,
            facts: Facts {
                synthetic: matches!(spec.source, Source::Synthetic(_)),
                zero_queries: self.zero_queries,
                queries_in_base: identical,
                duplicate_rows: self.duplicate_rows,
                tied_queries: tied,
            },
            notes,
            notices: [self.notices, notices].concat(),
            sources: self.sources.holding(lock),
        }
    }
}
