//! A store that is read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter};

use super::error::{is_corruption, open_error, sqlite_error};
use super::files::{beside, set_writable};
use super::row::Texts;
use super::scan::{
    Damage, Found, Which, conditions, most, scan, scan_runs, scan_some, sound_and_damaged,
};
use super::schema::{self, APPLICATION_ID, MIGRATIONS, migrate};
use super::spectra::{self, Spectrum};
use super::{OpenError, ReadError, Reason, reason};
use crate::record::{Done, Filter, Outcome, Record, RunInfo, cell_key};

/// How long to wait for another process that is inside a transaction of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The records that are what was written, in the order they started; metrics sorted by name. Of
    /// a cell there is one for each machine that measured it.
    pub records: Vec<Record>,
    /// Every run that is what was written, in the order they started.
    pub runs: Vec<RunInfo>,
    /// What is not.
    pub damage: Vec<Damage>,
}

/// The cells of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// How each recorded cell ended, on the machine where it went best. A cell whose record is damaged is not among them.
    pub outcomes: HashMap<String, Done>,
    /// What is damaged.
    pub damage: Vec<Damage>,
}

impl Contents {
    fn add(&mut self, found: Found, wants: impl Fn(&Record) -> bool) {
        match found {
            Found::Record(record) if wants(&record) => self.records.push(record),
            Found::Run(run) => self.runs.push(run),
            Found::Record(_) | Found::Spectrum(_) => {}
            Found::Damage(damage, _) => self.damage.push(damage),
        }
    }

    fn sort(&mut self) {
        self.records.sort_by(|a, b| {
            (&a.started_at, &a.key, &a.run_id).cmp(&(&b.started_at, &b.key, &b.run_id))
        });
        self.runs.sort_by(|a, b| (&a.started_at, &a.run_id).cmp(&(&b.started_at, &b.run_id)));
    }
}

impl Finished {
    fn add(&mut self, record: &Record) {
        let done = Done::from(record);
        let rank =
            |of: &Done| (of.outcome.is_ok(), of.outcome != Outcome::Cancelled, of.metrics.len());
        let Some(best) = self.outcomes.get_mut(&record.key) else {
            self.outcomes.insert(record.key.clone(), done);
            return;
        };
        if !best.datasets.contains(&record.dataset.name) {
            best.datasets.push(record.dataset.name.clone());
        }
        if rank(&done) > rank(best) {
            *best = Done { datasets: std::mem::take(&mut best.datasets), ..done };
        }
    }
}

/// What ends a scan early.
enum Failed<E> {
    Read(rusqlite::Error),
    Visit(E),
}

impl<E> From<rusqlite::Error> for Failed<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error)
    }
}

/// A store that is read; it takes no lock and sees whole records only.
#[derive(Debug)]
pub struct Reader {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

impl Reader {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every recorded cell and how it ended, each record held against its checksum.
    ///
    /// # Errors
    /// [`ReadError`]; damaged records are no error, they are named in the answer.
    pub fn finished(&self) -> Result<Finished, ReadError> {
        let mut finished = Finished::default();
        self.scan(|found| {
            match found {
                Found::Run(_) | Found::Spectrum(_) => {}
                Found::Record(record) => finished.add(&record),
                Found::Damage(damage, _) => finished.damage.push(damage),
            }
            Ok::<(), ReadError>(())
        })?;
        Ok(finished)
    }

    /// Whether it has so many records that only what is wanted of it is read, and verified.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn is_large(&self) -> Result<bool, ReadError> {
        schema::is_large(&self.connection).map_err(|source| self.read_error(&source))
    }

    /// How many records it counts that `filter` wants.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn counted(&self, filter: &Filter) -> Result<usize, ReadError> {
        let counted = || {
            if *filter == Filter::default() {
                return schema::tally(&self.connection);
            }
            let (conditions, values) = conditions(filter);
            let sql = format!("SELECT count(*) FROM stored_cells WHERE {conditions}");
            let values = params_from_iter(values);
            let count = self.connection.query_row(&sql, values, |row| row.get::<_, i64>(0))?;
            Ok(usize::try_from(count).unwrap_or(0))
        };
        counted().map_err(|source| self.read_error(&source))
    }

    /// As [`Reader::finished`], of the cells with these keys.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn finished_of(&self, keys: &[&str]) -> Result<Finished, ReadError> {
        let Contents { records, damage, .. } = self.of_cells(keys)?;
        let mut finished = Finished { damage, ..Finished::default() };
        records.iter().for_each(|record| finished.add(record));
        Ok(finished)
    }

    /// The records of the cells with these keys, and all runs.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn of_cells(&self, keys: &[&str]) -> Result<Contents, ReadError> {
        if self.is_large()? {
            return self.some(Which::Of(keys), |_| {});
        }
        let wanted: HashSet<&str> = keys.iter().copied().collect();
        self.contents_where(|record| wanted.contains(record.key.as_str()))
    }

    /// The last records that were written of those that `filter` wants, at most so many.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn newest(&self, most: usize, filter: &Filter) -> Result<Contents, ReadError> {
        self.some(Which::Newest(most, filter), |_| {})
    }

    fn some(&self, which: Which<'_>, trim: impl Fn(&mut Record)) -> Result<Contents, ReadError> {
        let mut contents = Contents::default();
        self.scanning(
            |connection, visit| scan_some(connection, which, visit),
            |mut found| {
                if let Found::Record(record) = &mut found {
                    trim(record);
                }
                contents.add(found, |_| true);
                Ok::<(), ReadError>(())
            },
        )?;
        contents.sort();
        Ok(contents)
    }

    /// The names of the data sets and the ids of the methods that there are records of, sorted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn names(&self) -> Result<(Vec<String>, Vec<String>), ReadError> {
        let names = |column| -> rusqlite::Result<Vec<String>> {
            let sql = schema::names_of(column, schema::is_indexed(&self.connection)?);
            self.connection.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
        };
        let both = names("dataset").and_then(|datasets| Ok((datasets, names("method")?)));
        both.map_err(|source| self.read_error(&source))
    }

    /// The records that `filter` wants, in the order they started; metrics sorted by name.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Damaged`] when anything in the store is.
    pub fn records(&self, filter: &Filter) -> Result<Vec<Record>, ReadError> {
        let Contents { records, damage, .. } = self.contents(filter)?;
        let more = damage.len().saturating_sub(1);
        match damage.into_iter().next() {
            Some(damage) => Err(ReadError::Damaged { path: self.path.clone(), damage, more }),
            None => Ok(records),
        }
    }

    /// As [`Reader::records`], but what is damaged is left out and named: whatever the filter, unless
    /// the store is [large](Reader::is_large).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn contents(&self, filter: &Filter) -> Result<Contents, ReadError> {
        self.trimmed(filter, |_| {})
    }

    /// As [`Reader::contents`], each record without what `trim` takes from it: of many, what nobody
    /// asks for fills the memory.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn trimmed(
        &self,
        filter: &Filter,
        trim: impl Fn(&mut Record),
    ) -> Result<Contents, ReadError> {
        if *filter != Filter::default() && self.is_large()? {
            return self.some(Which::Wanted(filter), trim);
        }
        let mut contents = self.contents_where(|record| filter.wants(record))?;
        contents.records.iter_mut().for_each(trim);
        Ok(contents)
    }

    pub(super) fn contents_where(
        &self,
        wants: impl Fn(&Record) -> bool,
    ) -> Result<Contents, ReadError> {
        let mut contents = Contents::default();
        self.scan(|found| {
            contents.add(found, &wants);
            Ok::<(), ReadError>(())
        })?;
        contents.sort();
        Ok(contents)
    }

    /// Says how many, where so many records are damaged that
    /// [`discard_damaged`](super::Store::discard_damaged) refuses.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn too_damaged(&self) -> Result<Option<String>, ReadError> {
        let read = || {
            let _moment = self.connection.unchecked_transaction()?;
            let (sound, damaged) = sound_and_damaged(&self.connection)?;
            most(&self.connection, sound.len(), &damaged)
        };
        read().map_err(|source| self.read_error(&source))
    }

    /// Every run, in the order they started.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn runs(&self) -> Result<Vec<RunInfo>, ReadError> {
        let mut runs = Vec::new();
        self.scanning(
            |connection, mut visit| scan_runs(connection, &mut visit).map(|_| ()),
            |found| {
                match found {
                    Found::Run(run) => runs.push(run),
                    Found::Damage(damage, _) => {
                        return Err(ReadError::Damaged {
                            path: self.path.clone(),
                            damage,
                            more: 0,
                        });
                    }
                    Found::Record(_) | Found::Spectrum(_) => {}
                }
                Ok(())
            },
        )?;
        runs.sort_by(|a, b| (&a.started_at, &a.run_id).cmp(&(&b.started_at, &b.run_id)));
        Ok(runs)
    }

    /// The eigenvalues of each data set's covariance, descending, by the digest of the data; those
    /// that are damaged are left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn spectra(&self) -> Result<BTreeMap<String, Vec<f64>>, ReadError> {
        let mut spectra = BTreeMap::new();
        self.scanning(
            |connection, mut visit| {
                spectra::scan(connection, &Texts::load(connection)?, &mut visit)
            },
            |found| {
                if let Found::Spectrum(Spectrum { dataset_digest, eigenvalues }) = found {
                    spectra.insert(dataset_digest, eigenvalues);
                }
                Ok::<(), ReadError>(())
            },
        )?;
        Ok(spectra)
    }

    /// Looks for damage: pages and indexes, rows that belong to nothing, records that are not what
    /// was written and keys that are not their cell's digest. One line per finding, none for a
    /// sound file. Reads the whole file.
    ///
    /// # Errors
    /// [`ReadError`] when the file cannot even be searched.
    pub fn check(&self) -> Result<Vec<String>, ReadError> {
        let mut findings = Vec::new();
        let read = |findings: &mut Vec<String>| {
            let mut statement = self.connection.prepare("PRAGMA integrity_check")?;
            for line in statement.query_map([], |row| row.get::<_, String>(0))? {
                findings.push(line?);
            }
            findings.retain(|line| line != "ok");
            let mut statement = self.connection.prepare("PRAGMA foreign_key_check")?;
            let orphans = statement.query_map([], |row| {
                Ok(format!(
                    "a row of `{}` belongs to no row of `{}`",
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(2)?
                ))
            })?;
            for line in orphans {
                findings.push(line?);
            }
            Ok(())
        };
        read(&mut findings).map_err(|source| self.read_error(&source))?;
        self.scan(|found| {
            match found {
                Found::Record(record) if record.key != cell_key(&record.key_parts()) => {
                    findings.push(format!("cell {} has another's key", record.key));
                }
                Found::Record(_) | Found::Run(_) | Found::Spectrum(_) => {}
                Found::Damage(damage, _) => findings.push(damage.to_string()),
            }
            Ok::<(), ReadError>(())
        })?;
        Ok(findings)
    }

    /// The columns of `results` before its metrics.
    #[cfg(test)]
    pub(crate) fn identity_columns(&self) -> Vec<&'static str> {
        schema::IDENTITY.split(", ").collect()
    }

    /// Shows `visit` everything as it is at one moment.
    pub(super) fn scan<E: From<ReadError>>(
        &self,
        visit: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        self.scanning(|connection, visit| scan(connection, visit), visit)
    }

    /// Shows `visit` what `scan` finds at one moment.
    fn scanning<E: From<ReadError>>(
        &self,
        scan: impl FnOnce(
            &Connection,
            &mut dyn FnMut(Found) -> Result<(), Failed<E>>,
        ) -> Result<(), Failed<E>>,
        mut visit: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let read = || -> Result<(), Failed<E>> {
            // Ends without a trace when it is dropped.
            let _moment = self.connection.unchecked_transaction()?;
            scan(&self.connection, &mut |found| visit(found).map_err(Failed::Visit))
        };
        read().map_err(|failed| match failed {
            Failed::Read(source) => self.read_error(&source).into(),
            Failed::Visit(error) => error,
        })
    }

    pub(super) fn connect(path: PathBuf, flags: OpenFlags) -> Result<Self, OpenError> {
        let connect = || {
            let connection =
                Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(PATIENCE)?;
            // A store may come from someone else: its schema gets to call nothing.
            connection.execute_batch("PRAGMA trusted_schema = OFF;")?;
            Ok(connection)
        };
        match connect() {
            Ok(connection) => Ok(Self { path, connection }),
            Err(source) => Err(open_error(&path, None, &source)),
        }
    }

    /// The file's schema version, 0 when it is new; refuses what is not ours, newer than
    /// us, or has tables that no vq-host made.
    pub(super) fn schema_version(&self) -> Result<usize, OpenError> {
        // At one moment: another process may be upgrading the file.
        let _moment =
            self.connection.unchecked_transaction().map_err(|source| self.open_error(&source))?;
        let header = || -> rusqlite::Result<(i32, i64, i64)> {
            let pragma = |sql| self.connection.query_row(sql, [], |row| row.get(0));
            let id = self.connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
            let version = pragma("PRAGMA user_version")?;
            Ok((id, version, pragma("SELECT count(*) FROM sqlite_schema")?))
        };
        let path = || self.path.clone();
        let (id, version, entries) = header().map_err(|source| self.open_error(&source))?;
        if (id, version, entries) == (0, 0, 0) {
            return Ok(0);
        }
        let found = match usize::try_from(version) {
            Ok(found) if id == APPLICATION_ID && found > 0 => found,
            _ => return Err(OpenError::NotAStore { path: path() }),
        };
        if found > MIGRATIONS.len() {
            return Err(OpenError::Newer { path: path(), found, known: MIGRATIONS.len() });
        }
        let other = schema::difference(&self.connection, found);
        match other.map_err(|source| self.open_error(&source))? {
            Some(detail) => Err(OpenError::Corrupted { path: path(), detail }),
            None => Ok(found),
        }
    }

    /// A store whose last writer was killed and that we may not write cannot be rolled back where
    /// it is: a copy of it can.
    pub(super) fn rolled_back_elsewhere(&self) -> Option<(Self, usize)> {
        let journal = beside(&self.path, "-journal");
        if !journal.exists() {
            return None;
        }
        let folder = tempfile::tempdir().ok()?;
        let copy = folder.path().join("store.db");
        fs::copy(&self.path, &copy).ok()?;
        fs::copy(&journal, beside(&copy, "-journal")).ok()?;
        // A copy has the rights of what it was copied from.
        for file in [&copy, &beside(&copy, "-journal")] {
            set_writable(file).ok()?;
        }
        let copied = Self::connect(copy, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
        let found = copied.schema_version().ok()?;
        let reader =
            Self { path: self.path.clone(), connection: in_memory(&copied.connection).ok()? };
        Some((reader, found))
    }

    /// A copy of the store in memory, brought to our schema; the file stays as it is.
    pub(super) fn upgraded_in_memory(&self, found: usize) -> Result<Self, OpenError> {
        let upgraded = || {
            let mut connection = match found {
                0 => Connection::open_in_memory()?,
                _ => in_memory(&self.connection)?,
            };
            migrate(&mut connection, found)?;
            Ok(connection)
        };
        match upgraded() {
            Ok(connection) => Ok(Self { path: self.path.clone(), connection }),
            Err(source) => Err(self.open_error(&source)),
        }
    }

    pub(super) fn reason(&self, source: &rusqlite::Error) -> Reason {
        Reason::of(source, &self.path, Some(&self.connection))
    }

    pub(super) fn open_error(&self, source: &rusqlite::Error) -> OpenError {
        open_error(&self.path, Some(&self.connection), source)
    }

    pub(super) fn read_error(&self, source: &rusqlite::Error) -> ReadError {
        let path = self.path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                ReadError::Busy { pid: reason::holder(&path), path }
            }
            _ if is_corruption(source) => ReadError::Corrupted { path, detail: source.to_string() },
            _ => ReadError::Sqlite { path, reason: self.reason(source) },
        }
    }
}

/// A copy of a store, page by page.
pub(super) fn in_memory(connection: &Connection) -> rusqlite::Result<Connection> {
    let mut copy = Connection::open_in_memory()?;
    copy_into(connection, &mut copy)?;
    Ok(copy)
}

/// Copies a store over another, page by page in one transaction, whatever stood there. Whoever is in
/// the way is waited for as in any transaction, and not for ever.
pub(super) fn copy_into(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    match Backup::new(from, to)?.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(sqlite_error(ErrorCode::DatabaseBusy)),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::record::Outcome;
    use crate::record::tests::sample;
    use crate::store::Store;
    use crate::store::schema::VIEW_METRICS;
    use crate::store::tests::{all, columns_of_results, fresh, run};

    #[test]
    fn the_filter_selects_by_dataset_method_and_outcome() {
        let (_folder, _path, mut store) = fresh();
        let a = sample("a", "x", &[]);
        let mut b = sample("b", "x", &[]);
        b.outcome = Outcome::Crashed;
        store.insert(&a).unwrap();
        store.insert(&b).unwrap();
        let wanted = |filter| store.records(&filter).unwrap();
        let methods = vec!["b".to_owned()];
        assert_eq!(wanted(Filter { methods, ..Filter::default() }), [b.clone()]);
        let outcomes = vec![Outcome::Ok, Outcome::Failed];
        assert_eq!(wanted(Filter { outcomes, ..Filter::default() }), [a]);
        let datasets = vec!["elsewhere".to_owned()];
        assert_eq!(wanted(Filter { datasets, ..Filter::default() }), []);
    }

    #[test]
    fn the_view_gains_a_column_with_each_new_metric() {
        let (_folder, path, mut store) = fresh();
        let identity = columns_of_results(&store);
        assert_eq!(identity.first().map(String::as_str), Some("dataset"));
        store.insert(&sample("a", "x", &[("recall@10", 0.5), ("recall@2", 0.25)])).unwrap();
        let added = |store: &Reader| columns_of_results(store)[identity.len()..].to_vec();
        assert_eq!(added(&store), ["recall@2", "recall@10"]);
        store.insert(&sample("b", "x", &[("it's \"odd\", n", 2.0), ("dim", 3.0)])).unwrap();
        assert_eq!(added(&store).len(), 4);
        drop(store);
        let store = Store::open(&path).unwrap();
        let found: (f64, Option<f64>) = store
            .connection
            .query_row(
                r#"SELECT "recall@10", "it's ""odd"", n" FROM results WHERE method = 'a'"#,
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!(found, (0.5, None));
    }

    #[test]
    fn the_view_holds_hundreds_of_metrics() {
        let (_folder, _path, mut store) = fresh();
        let names: Vec<String> = (0..VIEW_METRICS + 50).map(|i| format!("recall@{i}")).collect();
        let metrics: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.5)).collect();
        store.insert(&sample("a", "x", &metrics)).unwrap();
        let query = "SELECT \"recall@777\" FROM results";
        let value: f64 = store.connection.query_row(query, [], |row| row.get(0)).unwrap();
        assert_eq!(value, 0.5);
        store.connection.query_row("SELECT * FROM results", [], |_| Ok(())).unwrap();
    }

    #[test]
    fn a_reader_sees_what_is_written_meanwhile_and_writes_nothing() {
        let (_folder, path, mut store) = fresh();
        let reader = Store::open_read_only(&path).unwrap();
        assert_eq!(all(&reader), []);
        store.insert(&sample("a", "x", &[("mse", 1.0)])).unwrap();
        assert_eq!(all(&reader).len(), 1);
        assert!(reader.connection.execute("DELETE FROM cells", []).is_err());
    }

    #[test]
    fn a_store_of_a_newer_schema_is_refused() {
        let (_folder, path, store) = fresh();
        let newer = MIGRATIONS.len() + 1;
        store.connection.pragma_update(None, "user_version", newer as i64).unwrap();
        drop(store);
        for error in [Store::open(&path).unwrap_err(), Store::open_read_only(&path).unwrap_err()] {
            assert!(matches!(error, OpenError::Newer { found, .. } if found == newer));
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_alone() {
        let folder = TempDir::new().unwrap();
        let text = folder.path().join("notes.txt");
        fs::write(&text, "a few notes, longer than the header of a database\n".repeat(40)).unwrap();
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        for path in [text, foreign] {
            let before = fs::read(&path).unwrap();
            for error in
                [Store::open(&path).unwrap_err(), Store::open_read_only(&path).unwrap_err()]
            {
                assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
                assert!(error.to_string().contains(path.to_str().unwrap()));
            }
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }

    #[test]
    fn a_damaged_store_says_so_and_never_panics() {
        let (folder, path, mut store) = fresh();
        for i in 0..50 {
            store.insert(&sample("a", &i.to_string(), &[("mse", 1.0)])).unwrap();
        }
        drop(store);
        let whole = fs::read(&path).unwrap();
        let mut reported = 0;
        for page in 0..whole.len() / 4096 {
            let mut bytes = whole.clone();
            bytes[page * 4096 + 100..(page + 1) * 4096].fill(0xa5);
            let copy = folder.path().join("copy.db");
            fs::write(&copy, &bytes).unwrap();
            let found = match Store::open(&copy) {
                Err(error) => {
                    assert!(error.to_string().contains("copy.db"));
                    true
                }
                Ok(store) => {
                    let found = store.check();
                    found.map_or(true, |lines| !lines.is_empty())
                }
            };
            reported += usize::from(found);
        }
        assert!(reported > whole.len() / 4096 - 3, "{reported} of {}", whole.len() / 4096);
        let copy = folder.path().join("cut.db");
        fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
        let cut = Store::open(&copy).map(|store| store.check().is_ok_and(|found| found.is_empty()));
        assert!(!matches!(cut, Ok(true)));
    }

    #[test]
    fn reading_a_store_that_is_not_there_makes_no_file() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("none.db");
        assert!(matches!(Store::open_read_only(&path), Err(OpenError::Missing { .. })));
        fs::write(&path, "").unwrap();
        assert_eq!(all(&Store::open_read_only(&path).unwrap()), [], "an empty file is a new store");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        Store::open(&path).unwrap().begin_run(&run("run-1")).unwrap();
    }

    #[test]
    fn a_key_that_is_not_its_cells_is_found() {
        let (_folder, _path, mut store) = fresh();
        let mut record = sample("a", "x", &[]);
        record.seed += 1;
        store.insert(&record).unwrap();
        assert_eq!(store.check().unwrap().len(), 1);
    }
}
