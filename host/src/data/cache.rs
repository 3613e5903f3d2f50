//! The cache of prepared data.
//!
//! ```text
//! <cache>/rows/<key>/entry         key: BLAKE3 of what the rows are made from, contents and request
//!                    rows.f32      unless the source serves as it is
//!                    absent        the rows of the source that left, where it serves without them
//!                    held.f32      the rows that left as queries, if any
//!                    reserved.f32  the rows that left for training, if any
//!                    *.blocks      digests of their blocks, where rows take more than 4 GiB
//! <cache>/truth/<key>/k101         key: BLAKE3 of the contents of base and queries, metric
//! <cache>/sources/<key>.json       what a source was when its contents were last read
//! <cache>/sets/<set>/…             public sets that were fetched (see `public`)
//! <cache>/.preparing-*             being filled (see `unfinished`)
//! <cache>/.turn-<key>              who makes an entry (see `turn`)
//! ```
//!
//! Base, queries and training rows are separate entries: a change of one leaves the others as they
//! are. Keys contain no paths and no times, so a source that was touched, copied or moved is still
//! found.
//!
//! An entry is filled in a temporary folder and renamed into place, so it is complete or absent. Of
//! several processes that want the same entry one makes it, and the others wait for it; where the
//! file system has no locks each makes it and the first one's is used. An entry is verified by
//! digest before it is used; a very large one is verified while it is read. A damaged entry is made
//! again. Whoever uses an entry holds a shared lock on it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::error::{cache_io, io};
use super::identity::{OnRead, Seen, Sources};
use super::rows::Part;
use super::turn::Turn;
use super::unfinished::Unfinished;
use super::{DataError, OnProgress, RowFile, Synthetic, UnusableRows};

/// Changes whenever equal recipes would give other files.
const LAYOUT: u32 = 3;
pub(super) const ENTRY: &str = "entry";
pub(super) const ROWS: &str = "rows";
pub(super) const TRUTH: &str = "truth";
pub(super) const SOURCES: &str = "sources";
pub(super) const SETS: &str = "sets";

/// What an entry is made from; its JSON is what the key is the digest of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Recipe<'a> {
    /// The first `rows` rows of a source without those held out or reserved.
    Taken {
        from: &'a Origin,
        rows: usize,
        held_out: usize,
        reserved: usize,
        /// Brought to unit length.
        unit: bool,
        /// With the mean and the spectrum that a base has.
        statistics: bool,
        /// `None` where rows that cannot be measured are told of.
        #[serde(skip_serializing_if = "Option::is_none")]
        unusable: Option<UnusableRows>,
    },
    /// Rows drawn from those of this digest.
    Sample { of: &'a str, rows: usize },
    /// A smaller base, drawn from the one of this digest.
    Thinned { of: &'a str, rows: usize },
}

/// Where rows come from, whatever it is called.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// The used bytes of a file and how they are read.
    File {
        digest: String,
        format: String,
    },
    /// The rows of one behind those of the other.
    Files(Vec<Origin>),
    Synthetic(Synthetic),
}

impl Recipe<'_> {
    fn key(&self) -> String {
        let json = serde_json::to_vec(&(LAYOUT, self)).expect("numbers and text have a JSON form");
        blake3::hash(&json).to_hex().to_string()
    }
}

/// The one absolute path of a file or folder, which JSON can hold.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, DataError> {
    let path = path.canonicalize().map_err(io("find", path))?;
    if path.to_str().is_none() {
        return Err(DataError::NotUtf8 { path });
    }
    Ok(path)
}

fn none(count: &u64) -> bool {
    *count == 0
}

/// What a cache entry says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The whole key, of which the folder's name is the beginning.
    pub(super) key: String,
    /// For people: the file or what stands for it.
    pub(super) from: String,
    /// For people: `base`, `queries` or `train`.
    pub(super) role: String,
    pub(super) rows: Part,
    /// The rows that left as queries.
    pub(super) held: Option<Part>,
    /// The rows that left for training.
    pub(super) reserved: Option<Part>,
    /// Rows of the source that were dropped.
    #[serde(default, skip_serializing_if = "none")]
    pub(super) dropped: u64,
    /// Rows that are equal to an earlier one; 0 where nobody asks.
    pub(super) duplicates: u64,
    pub(super) mean: Vec<f64>,
    /// `None` where it was not computed.
    pub(super) spectrum: Option<Vec<f64>>,
}

impl Manifest {
    /// Everything that is kept.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        [Some(&self.rows), self.held.as_ref(), self.reserved.as_ref()].into_iter().flatten()
    }

    /// JSON, and under it a line with its digest.
    fn to_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("finite numbers have a JSON form");
        let digest = blake3::hash(&text).to_hex();
        text.extend(format!("\n{digest}\n").bytes());
        text
    }

    /// What [`to_text`](Self::to_text) wrote, if this is it.
    pub(super) fn from_text(text: &[u8]) -> Option<Self> {
        let (json, digest) = text.strip_suffix(b"\n")?.split_last_chunk::<64>()?;
        let json = json.strip_suffix(b"\n")?;
        let whole = blake3::hash(json).to_hex().as_bytes() == digest;
        whole.then(|| serde_json::from_slice(json).ok())?
    }
}

/// Why an entry cannot be used.
enum Unusable {
    Absent,
    Damaged(String),
    /// Whole, as far as one can tell without being able to read it.
    Unreadable(DataError),
}

/// An entry that is whole and stays as long as this lives.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) manifest: Manifest,
    folder: PathBuf,
    /// `None` where the file system has no locks.
    pub(super) hold: Option<File>,
}

impl Entry {
    /// The rows, or the `source` they stayed in.
    pub(super) fn rows(&self, source: Option<&Path>) -> RowFile {
        self.manifest.rows.place(&self.folder, source)
    }

    /// The rows that left as queries.
    pub(super) fn held(&self) -> Option<RowFile> {
        Some(self.manifest.held.as_ref()?.place(&self.folder, None))
    }

    /// The rows that left for training.
    pub(super) fn reserved(&self) -> Option<RowFile> {
        Some(self.manifest.reserved.as_ref()?.place(&self.folder, None))
    }

    fn load(folder: &Path, key: &str) -> Result<Self, Unusable> {
        let path = folder.join(ENTRY);
        let damaged = |what: &str| Unusable::Damaged(what.to_owned());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // A folder without its manifest is one that somebody took apart.
                return Err(if folder.exists() {
                    damaged("no manifest")
                } else {
                    Unusable::Absent
                });
            }
            Err(error) => return Err(Unusable::Unreadable(cache_io("open", &path)(error))),
        };
        let hold = file.lock_shared().is_ok();
        // Between our opening and our locking, it may have been cleared away.
        let there = path.metadata().map(|now| (now.dev(), now.ino())).ok();
        let ours = file.metadata().map(|own| (own.dev(), own.ino())).ok();
        if there != ours {
            return Err(Unusable::Absent);
        }
        let mut text = Vec::new();
        (&file)
            .read_to_end(&mut text)
            .map_err(cache_io("read", &path))
            .map_err(Unusable::Unreadable)?;
        let of = Manifest::from_text(&text).filter(|of| of.key == key);
        let of = of.ok_or_else(|| damaged("its manifest is not what was written"))?;
        for part in of.parts() {
            match part.verify(folder) {
                Ok(()) => {}
                Err(DataError::Damaged { reason, .. }) => {
                    let kept = if part.is_in_place() { &part.rows.absent } else { &None };
                    let name = kept.as_ref().unwrap_or(&part.rows.path).display();
                    return Err(Unusable::Damaged(format!("{name}: {reason}")));
                }
                Err(error) => return Err(Unusable::Unreadable(error)),
            }
        }
        // That it was used: what is not used for long may be cleared. A cache that is only
        // readable does without.
        if let Ok(writable) = File::options().append(true).open(&path) {
            let _told = writable.set_modified(SystemTime::now());
        }
        Ok(Self { manifest: of, folder: folder.into(), hold: hold.then_some(file) })
    }
}

/// What is kept, seen by one preparation.
pub(super) struct Cache<'a> {
    pub(super) folder: PathBuf,
    /// Asked before anything is kept: what was read must be what its key says.
    pub(super) sources: &'a Sources,
    /// Whether what is missing is made; where not, it is [`DataError::NotPrepared`].
    pub(super) makes: bool,
    /// Hears that another process makes what is wanted, and says how long to wait for it.
    pub(super) progress: OnProgress<'a>,
    /// What was not as it should be.
    pub(super) notices: Vec<String>,
}

impl Cache<'_> {
    pub(super) fn may_make(&self) -> Result<(), DataError> {
        if self.makes { Ok(()) } else { Err(DataError::NotPrepared) }
    }

    /// The entry of `recipe`; if there is none that is whole, `fill(key, folder)` makes it beside
    /// its place and a rename puts it there.
    pub(super) fn find_or_make(
        &mut self,
        recipe: &Recipe<'_>,
        fill: impl FnOnce(&str, &Path) -> Result<Manifest, DataError>,
    ) -> Result<Entry, DataError> {
        let key = recipe.key();
        let all = self.folder.join(ROWS);
        let folder = all.join(&key[..16]);
        match Entry::load(&folder, &key) {
            Ok(entry) => return Ok(entry),
            Err(Unusable::Absent | Unusable::Damaged(_)) if self.makes => {}
            Err(Unusable::Unreadable(error)) => return Err(error),
            Err(Unusable::Absent | Unusable::Damaged(_)) => return Err(DataError::NotPrepared),
        }
        fs::create_dir_all(&all).map_err(cache_io("create", &all))?;
        let _turn = Turn::take(&self.folder, &key[..16], self.progress)?;
        // Somebody else may have made it meanwhile.
        match Entry::load(&folder, &key) {
            Ok(entry) => return Ok(entry),
            Err(Unusable::Absent) => {}
            Err(Unusable::Unreadable(error)) => return Err(error),
            Err(Unusable::Damaged(how)) => self.notices.push(format!(
                "prepared rows in {} are damaged ({how}) and are made again",
                folder.display()
            )),
        }
        let place = Unfinished::new(&self.folder)?;
        let manifest = fill(&key, place.path())?;
        self.sources.unchanged_so_far()?;
        place.write(ENTRY, &manifest.to_text())?;

        // A rename replaces no folder that has files in it. If one is there, another preparer was
        // faster, or it is damaged and goes when its new place goes.
        if fs::rename(place.path(), &folder).is_err() && Entry::load(&folder, &key).is_err() {
            let aside = Unfinished::new(&self.folder)?;
            let _moved = fs::rename(&folder, aside.path().join("damaged"));
            let renamed = fs::rename(place.path(), &folder);
            if let (Err(error), false) = (renamed, folder.join(ENTRY).exists()) {
                return Err(cache_io("replace", &folder)(error));
            }
        }
        Entry::load(&folder, &key).map_err(|unusable| match unusable {
            Unusable::Unreadable(error) => error,
            Unusable::Damaged(_) | Unusable::Absent => {
                DataError::Damaged { path: folder, reason: "it does not stay what was written" }
            }
        })
    }
}

/// The first `bytes` bytes of the file at `path`, which are only read if they may have changed
/// since they were read last; `report` hears how many are, `wait` that another process reads them.
pub(super) fn contents(
    cache: &Path,
    path: &Path,
    bytes: u64,
    report: OnRead<'_>,
    wait: OnProgress<'_>,
) -> Result<Seen, DataError> {
    let name = blake3::hash(format!("{bytes} {}", path.display()).as_bytes()).to_hex();
    let folder = cache.join(SOURCES);
    let place = folder.join(format!("{}.json", &name[..16]));
    let known = || {
        let known = serde_json::from_slice::<Seen>(&fs::read(&place).ok()?).ok()?;
        let usable = known.is_of(path, bytes) && known.is_fresh().is_ok_and(|fresh| fresh);
        usable.then_some(known)
    };
    if let Some(known) = known() {
        return Ok(known);
    }
    // Reading a large file from eight processes at once would be slower than from one. A cache that
    // is only readable does without.
    let _turn = Turn::take(cache, &name[..16], wait).ok();
    if let Some(known) = known() {
        return Ok(known);
    }
    let seen = Seen::read(path, bytes, report)?;
    // Only a short cut: a cache without room for it, or without writing rights, reads again.
    let text = serde_json::to_vec_pretty(&seen).expect("text and numbers have a JSON form");
    let _kept = fs::create_dir_all(&folder).and_then(|()| {
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        std::io::Write::write_all(&mut file, &text)?;
        file.persist(&place).map_err(|e| e.error)
    });
    Ok(seen)
}
