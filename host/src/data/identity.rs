//! Whether a source file still has the contents that were prepared.
//!
//! The digest of all used bytes decides. `stat` is a fast path: a file whose stat did not change is
//! not read again. The stat includes ctime because programs cannot set it, while `cp -p` and
//! `touch -d` set the other times.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::error::io;
use super::{DataError, Prepared};

/// Two writes within one tick of a file system's clock leave one time. A file that changed
/// less than this before it was read may have changed again unseen.
const TICK: Duration = Duration::from_secs(2);

/// Bytes after which a reader is told of: what is read in an instant is not.
const REPORTED: u64 = 1 << 26;

pub(super) const BEING_PREPARED: &str = "changed while it was being prepared";
pub(super) const SINCE: &str = "changed since it was prepared";
const GONE: &str = "was removed since it was prepared";

/// What `stat` says of a file as long as nobody writes to it or puts another in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stat {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    device: u64,
}

impl Stat {
    fn new(about: &Metadata) -> Self {
        Self {
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
            inode: about.ino(),
            device: about.dev(),
        }
    }

    /// Whether a write after `moment` would show.
    fn is_settled_at(&self, moment: SystemTime) -> bool {
        let since_1970 = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (Ok(seconds), Ok(nanos)) =
            (u64::try_from(self.changed.0), u32::try_from(self.changed.1))
        else {
            return true;
        };
        since_1970.abs_diff(Duration::new(seconds, nanos)) > TICK
    }
}

/// The first `bytes` bytes of a file, as they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    pub(super) path: PathBuf,
    bytes: u64,
    stat: Stat,
    /// An equal stat means equal contents.
    settled: bool,
    /// BLAKE3, in hex.
    pub(super) digest: String,
}

/// Hears how many bytes are read; its error ends the reading.
pub(super) type OnRead<'a> = &'a dyn Fn(u64) -> Result<(), DataError>;

impl Seen {
    /// Reads the first `bytes` bytes of the file; `report` hears, now and then, how many are read.
    pub(super) fn read(path: &Path, bytes: u64, report: OnRead<'_>) -> Result<Self, DataError> {
        let file = File::open(path).map_err(io("open", path))?;
        let stat = || file.metadata().map_err(io("inspect", path)).map(|of| Stat::new(&of));
        let (moment, before) = (SystemTime::now(), stat()?);
        let mut digest = blake3::Hasher::new();
        let mut left = (&file).take(bytes);
        loop {
            let before = digest.count();
            digest.update_reader((&mut left).take(REPORTED)).map_err(io("read", path))?;
            if digest.count() - before < REPORTED {
                break;
            }
            report(digest.count())?;
        }
        if digest.count() != bytes || stat()? != before {
            return Err(DataError::Changed { path: path.into(), how: BEING_PREPARED });
        }
        Ok(Self {
            path: path.into(),
            bytes,
            settled: before.is_settled_at(moment),
            stat: before,
            digest: digest.finalize().to_hex().to_string(),
        })
    }

    /// The same file under another name.
    pub(super) fn called(&self, path: &Path) -> Self {
        Self { path: path.into(), ..self.clone() }
    }

    /// Whether this is about these bytes of this file.
    pub(super) fn is_of(&self, path: &Path, bytes: u64) -> bool {
        self.path == path && self.bytes == bytes
    }

    /// Whether the file certainly is what it was, as far as that shows without reading it.
    pub(super) fn is_fresh(&self) -> io::Result<bool> {
        let now = Stat::new(&self.path.metadata()?);
        Ok(self.settled && now == self.stat)
    }

    /// Makes sure that the file is what it was; what its stat is now is remembered.
    fn check(&mut self, changed: &'static str) -> Result<(), DataError> {
        let fault = |how| DataError::Changed { path: self.path.clone(), how };
        match self.is_fresh() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(fault(GONE)),
            Err(error) => return Err(io("inspect", &self.path)(error)),
        }
        match Self::read(&self.path, self.bytes, &|_| Ok(())) {
            Ok(now) if now.digest == self.digest => *self = now,
            Ok(_) | Err(DataError::Changed { .. }) => return Err(fault(changed)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The files that a dataset was prepared from. Clones watch together.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    files: Arc<Mutex<Vec<Seen>>>,
    /// What is used of the cache is not cleared.
    held: Vec<Arc<File>>,
}

impl Sources {
    pub(super) fn new(files: Vec<Seen>) -> Self {
        Self { files: Arc::new(Mutex::new(files)), held: Vec::new() }
    }

    /// To be asked when all is read.
    pub(super) fn unchanged_so_far(&self) -> Result<(), DataError> {
        self.check(BEING_PREPARED)
    }

    /// Also keeps these locks for as long as anybody watches.
    pub(super) fn holding(mut self, locks: impl IntoIterator<Item = File>) -> Self {
        self.held.extend(locks.into_iter().map(Arc::new));
        self
    }

    fn check(&self, changed: &'static str) -> Result<(), DataError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter_mut().try_for_each(|file| file.check(changed))
    }
}

/// Where data came from is not part of what it is.
impl PartialEq for Sources {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Prepared {
    /// Makes sure that the files this was prepared from still hold what they held: what was
    /// measured meanwhile is only then about this data.
    ///
    /// Costs a `stat` per file; a file whose stat differs is read again, and if its contents
    /// are the same, the new stat is remembered. Knows nothing in a copy that went through
    /// JSON: only the process that prepared the data can tell.
    ///
    /// # Errors
    /// [`DataError::Changed`] with the first file that is another one or gone,
    /// [`DataError::Io`] when one cannot be looked at.
    pub fn unchanged(&self) -> Result<(), DataError> {
        self.sources.check(SINCE)?;
        self.judge.as_ref().map_or(Ok(()), |judge| judge.sources.check(SINCE))
    }

    /// Reads again what is verified only while it is read, because it is large: for when a cell
    /// could not read its data. What is damaged is made again by the next preparation.
    ///
    /// # Errors
    /// [`DataError::Damaged`] with the first file that is not what was written,
    /// [`DataError::Io`] when one cannot be read.
    pub fn discard_damaged(&self) -> Result<(), DataError> {
        let judge = self.judge.iter().flat_map(|judge| [&judge.base, &judge.queries]);
        for rows in [&self.base, &self.train, &self.queries].into_iter().chain(judge) {
            let verified = rows.verify_blocks();
            if let (Err(DataError::Damaged { .. }), Some(blocks)) = (&verified, &rows.blocks) {
                // An entry without them is not whole.
                let _removed = std::fs::remove_file(blocks);
            }
            verified?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, FileTimes};

    /// A file that was written long ago, as far as `Seen` is told.
    fn settled(path: &Path) -> Sources {
        let mut seen = Seen::read(path, path.metadata().unwrap().len(), &|_| Ok(())).unwrap();
        seen.settled = true;
        Sources::new(vec![seen])
    }

    fn check(sources: &Sources) -> Result<(), String> {
        sources.check(SINCE).map_err(|e| e.to_string())
    }

    #[test]
    fn other_contents_of_equal_size_and_time_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_hours(400_000));
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        // Settled or not: clocks may not have ticked since.
        let young = Sources::new(vec![Seen::read(&path, 3, &|_| Ok(())).unwrap()]);
        assert_eq!((check(&young), check(&young)), (Ok(()), Ok(())));
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        let error = check(&young).unwrap_err();
        assert_eq!(error, format!("{} changed since it was prepared", path.display()));
    }

    #[test]
    fn equal_contents_with_another_stat_are_read_once_and_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let sources = settled(&path);
        fs::write(folder.path().join("b"), "one").unwrap();
        fs::rename(folder.path().join("b"), &path).unwrap();
        assert_eq!(check(&sources), Ok(()));
        let stat = sources.files.lock().unwrap()[0].stat.clone();
        assert_eq!(stat, Stat::new(&path.metadata().unwrap()));
    }

    #[test]
    fn files_cut_replaced_or_gone_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b\nc");
        fs::write(&path, "one").unwrap();
        let sources = settled(&path);
        fs::write(&path, "o").unwrap();
        assert!(check(&sources).unwrap_err().ends_with("changed since it was prepared"));
        fs::write(&path, "one and more").unwrap();
        assert_eq!(check(&sources), Ok(()), "what is used is the same");
        fs::remove_file(&path).unwrap();
        assert!(check(&sources).unwrap_err().ends_with("was removed since it was prepared"));
    }

    #[test]
    fn a_young_file_is_not_trusted_by_its_times() {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        let folder = tempfile::tempdir().unwrap();
        let stat = Stat { changed: (1000, 0), ..Stat::new(&folder.path().metadata().unwrap()) };
        let settled = [900, 999, 1000, 1002, 1003].map(|s| stat.is_settled_at(at(s)));
        assert_eq!(settled, [true, false, false, false, true]);
    }
}
