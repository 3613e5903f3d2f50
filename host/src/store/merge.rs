//! Two stores become one.

use std::time::SystemTime;

use super::scan::Found;
use super::writer::Writing;
use super::{MergeError, ReadError, Reader, Store, WriteError};
use crate::record::{Outcome, Record};

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Runs that this store did not know.
    pub runs: usize,
    /// Cells that this store did not know.
    pub added: usize,
    /// Cells for which the other store's record was the better one.
    pub replaced: usize,
    /// Cells for which this store's record stayed.
    pub kept: usize,
}

impl Store {
    /// Takes over the runs and cells of `other` in one transaction. Where both have a cell, an ok
    /// record wins over one that is not; otherwise the one that started later wins, so the result
    /// does not depend on the order of merging.
    ///
    /// # Errors
    /// [`MergeError`]; nothing is taken over then, also when `other` is damaged.
    pub fn merge_from(&mut self, other: &Reader) -> Result<Merged, MergeError> {
        self.write(|writing| {
            let mut merged = Merged::default();
            other.scan(|found| {
                match found {
                    Found::Run(run) => merged.runs += usize::from(writing.begin_run(&run)?),
                    Found::Record(theirs) => {
                        match writing.rank(&theirs.key)? {
                            None => merged.added += 1,
                            Some(ours) if Rank::of(&theirs)? > ours => merged.replaced += 1,
                            Some(_) => {
                                merged.kept += 1;
                                return Ok::<(), MergeError>(());
                            }
                        }
                        writing.insert(&theirs)?;
                    }
                    Found::Spectrum(spectrum) => writing.insert_spectrum(&spectrum)?,
                    Found::Damage(damage, _) => {
                        let path = other.path.clone();
                        return Err(ReadError::Damaged { path, damage, more: 0 }.into());
                    }
                }
                Ok(())
            })?;
            Ok(merged)
        })
    }
}

impl Writing<'_> {
    /// The rank of the stored cell with this key.
    fn rank(&self, key: &str) -> Result<Option<Rank>, WriteError> {
        let Some(row) = self.known.cells.get(key) else { return Ok(None) };
        let (outcome, started_at, run_id) = self
            .transaction
            .prepare_cached(
                "SELECT outcome, c.started_at, run_id FROM stored_cells AS c \
                 JOIN stored_runs AS r ON r.id = c.run WHERE c.id = ?1",
            )
            .and_then(|mut statement| {
                statement.query_row([row], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?))
                })
            })
            .map_err(|source| self.failed(&source))?;
        Rank::new(key, outcome == Outcome::Ok.as_str(), &started_at, run_id).map(Some)
    }
}

/// The order by which merging prefers one record of a cell to another: ok, then later. The run's
/// id makes it total.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    ok: bool,
    started: SystemTime,
    run_id: String,
}

impl Rank {
    pub(super) fn of(record: &Record) -> Result<Self, WriteError> {
        Self::new(&record.key, record.outcome.is_ok(), &record.started_at, record.run_id.clone())
    }

    fn new(key: &str, ok: bool, started_at: &str, run_id: String) -> Result<Self, WriteError> {
        let started = humantime::parse_rfc3339(started_at).map_err(|_| WriteError::Time {
            key: key.to_owned(),
            started_at: started_at.to_owned(),
        })?;
        Ok(Self { ok, started, run_id })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::tests::sample;
    use crate::store::tests::{all, columns_of_results, fresh, run};

    #[test]
    fn merging_prefers_ok_and_then_the_later_whichever_way_round() {
        let at = |label: &str, outcome, started_at: &str, value| {
            let mut record = sample("a", label, &[("mse", value), (label, value)]);
            record.outcome = outcome;
            record.started_at = started_at.to_owned();
            record
        };
        let (early, late) = ("2025-11-22T10:00:00Z", "2025-11-22T10:00:00.5Z");
        let ours = [
            at("ours-only", Outcome::Ok, early, 1.0),
            at("ok-beats-later", Outcome::Ok, early, 1.0),
            at("later-ok", Outcome::Ok, early, 1.0),
            at("later-failure", Outcome::Failed, late, 1.0),
        ];
        let mut theirs = [
            at("theirs-only", Outcome::Ok, early, 2.0),
            at("ok-beats-later", Outcome::Crashed, late, 2.0),
            at("later-ok", Outcome::Ok, late, 2.0),
            at("later-failure", Outcome::Failed, early, 2.0),
        ];
        for record in &mut theirs {
            record.run_id = "run-2".to_owned();
        }
        let fill = |id: &str, records: &[Record]| {
            let (folder, _path, mut store) = fresh();
            if id != "run-1" {
                store.begin_run(&run(id)).unwrap();
            }
            for record in records {
                store.insert(record).unwrap();
            }
            (folder, store)
        };
        let (_a, mut one) = fill("run-1", &ours);
        let (_b, mut two) = fill("run-2", &theirs);
        two.insert_spectrum("data", &[3.0]).unwrap();
        let (_c, untouched) = fill("run-1", &ours);
        let expected = Merged { runs: 1, added: 1, replaced: 1, kept: 2 };
        assert_eq!(one.merge_from(&two).unwrap(), expected);
        let expected = Merged { runs: 0, added: 1, replaced: 2, kept: 1 };
        assert_eq!(two.merge_from(&untouched).unwrap(), expected);
        assert_eq!(all(&one), all(&two));
        assert_eq!(columns_of_results(&one), columns_of_results(&two));
        assert_eq!(one.spectra().unwrap(), BTreeMap::from([("data".to_owned(), vec![3.0])]));
        let value = |label: &str| {
            all(&one).into_iter().find(|r| r.label == label).and_then(|r| r.value("mse"))
        };
        assert_eq!(value("ours-only"), Some(1.0));
        assert_eq!(value("theirs-only"), Some(2.0));
        assert_eq!(value("ok-beats-later"), Some(1.0));
        assert_eq!(value("later-ok"), Some(2.0));
        assert_eq!(value("later-failure"), Some(1.0));
        let again = one.merge_from(&two).unwrap();
        assert_eq!(again, Merged { kept: 5, ..Merged::default() });
    }
}
