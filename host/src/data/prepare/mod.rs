//! From a [`DatasetSpec`] to prepared rows, their neighbours and their spectrum: each
//! source is walked once, in blocks, and every choice of rows has a fixed, named seed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array2, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::cache::{Cache, Manifest, Origin, Recipe, canonical, contents};
use super::equal::Hashes;
use super::error::{cache_io, io};
use super::identity::Sources;
use super::rows::{Absent, RowSink, normalise};
use super::format::SourceFile;
use super::spectrum::spectrum;
use super::synthetic::Generator;
use super::unfinished::remove_abandoned;
use super::{
    DataError, DatasetSpec, Facts, Metric, OnProgress, Prepared, Progress, Queries, Rows, Source,
    Synthetic, Train, block_rows, truth,
};

/// One row in this many that is equal to another is worth a note.
const IDENTICAL_IS_MANY: u64 = 100;
/// A source of fewer rows reserves none for training: half of it would teach too little, and what
/// is left would be too few to search.
const RESERVES_FROM: usize = 2000;
/// More rows than this are never reserved: what more would teach is little, and the base would
/// lose them.
const MOST_RESERVED: usize = 100_000;
/// Of a file too small for the queries that would be held out, one row in this many is.
const SHARE_HELD_OUT: usize = 10;
/// The file of an entry that says which rows of its source are none of its own.
const ABSENT: &str = "absent";

/// What a failed preparation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The source of the rows.
    Base,
    /// The rows searched for, or how many to hold out.
    Queries,
    /// The rows to learn from.
    Train,
    /// Where prepared data is kept: nothing that the sweep says.
    Cache,
}

/// Why a dataset could not be prepared, and which part of it is to blame.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct PrepareError {
    /// What it is about.
    pub blame: Blame,
    /// What is wrong.
    pub error: DataError,
}

/// Says that a failure is about `part`, unless it is the cache that fails.
fn about(blame: Blame) -> impl Fn(DataError) -> PrepareError {
    move |error| {
        let cache = matches!(error, DataError::Cache { .. } | DataError::Damaged { .. });
        PrepareError { blame: if cache { Blame::Cache } else { blame }, error }
    }
}

/// Prepares `spec` in the folder `cache`, with `truth_k` exact neighbours per query
/// (all rows of the base when it has fewer). What is there already is used. `progress`
/// answers whether to go on; where not, nothing half made stays ([`DataError::Interrupted`]).
///
/// Memory is O(block·d + d² + queries·k); files are as large as what they hold.
/// Threads: the current rayon pool; every result is the same for any number of them.
///
/// # Errors
/// [`PrepareError`], naming the file and the values that are in the way.
pub fn prepare(
    spec: &DatasetSpec,
    truth_k: usize,
    cache: &Path,
    progress: &(dyn Fn(Progress) -> bool + Sync),
) -> Result<Prepared, PrepareError> {
    let progress = &|now| if progress(now) { Ok(()) } else { Err(DataError::Interrupted) };
    match attempt(spec, truth_k, cache, true, progress) {
        // Found while it was read, since it is large: an entry without the digests of its blocks
        // is made anew.
        Err(PrepareError { error: DataError::Damaged { path, .. }, .. }) => {
            let _removed = fs::remove_file(path.with_extension("blocks"));
            attempt(spec, truth_k, cache, true, progress)
        }
        ended => ended,
    }
}

/// Whether [`prepare`] would find everything in the cache. Nothing is made; a source whose times changed
/// is read.
pub fn is_prepared(spec: &DatasetSpec, truth_k: usize, cache: &Path) -> bool {
    cache.is_dir() && attempt(spec, truth_k, cache, false, &|_| Ok(())).is_ok()
}

fn attempt(
    spec: &DatasetSpec,
    truth_k: usize,
    cache: &Path,
    makes: bool,
    progress: OnProgress<'_>,
) -> Result<Prepared, PrepareError> {
    if truth_k == 0 {
        return Err(about(Blame::Base)(DataError::Zero { what: "truth k" }));
    }
    // All headers before any rows: a mistake shows at once.
    let asked = Asked::open(spec)?;
    fs::create_dir_all(cache).map_err(cache_io("create", cache)).map_err(about(Blame::Cache))?;
    let folder = canonical(cache).map_err(about(Blame::Cache))?;
    remove_abandoned(&folder);
    let origins = Origins::read(spec, &asked, &folder, progress)?;
    let mut kept = Cache { folder, sources: &origins.watched, makes, notices: Vec::new() };
    let unit = spec.metric == Metric::Cosine;

    let (held_out, reserved) = (asked.held_out.unwrap_or(0), asked.reserved);
    let recipe = Recipe::Taken {
        from: &origins.base,
        rows: asked.rows,
        held_out,
        reserved,
        unit,
        statistics: true,
    };
    let base_entry = kept
        .find_or_make(&recipe, |key, folder| fill_base(&asked, unit, key, folder, progress))
        .map_err(asked.about(Blame::Base))?;
    let base = base_entry.rows(asked.base.path());
    let digests = &base_entry.manifest;

    let mut entry_of = |from: &Origin, reader: &Reader, role, stage| {
        let rows = reader.rows();
        let recipe =
            Recipe::Taken { from, rows, held_out: 0, reserved: 0, unit, statistics: false };
        kept.find_or_make(&recipe, |key, folder| {
            fill_rows(reader, unit, role, stage, key, folder, progress)
        })
    };
    let query_entry = match (&asked.queries, &origins.queries) {
        (Some(reader), Some(from)) => Some(
            entry_of(from, reader, "queries", "read queries")
                .map_err(asked.about(Blame::Queries))?,
        ),
        _ => None,
    };
    let mut train_entry = match (&asked.train, &origins.train) {
        (Some(reader), Some(from)) => {
            Some(entry_of(from, reader, "train", "read train").map_err(asked.about(Blame::Train))?)
        }
        _ => None,
    };
    // Where the training rows are drawn from, unless they are a file.
    let reserve = base_entry.reserved();
    let (pool, pool_digest) = match (&reserve, &digests.reserved) {
        (Some(rows), Some(part)) => (rows, &part.digest),
        _ => (&base, &digests.rows.digest),
    };
    if let Train::Sample(count) | Train::Reserved(Some(count)) = spec.train
        && count < pool.rows
    {
        let recipe = Recipe::Sample { of: pool_digest, rows: count };
        let from = &base_entry.manifest.from;
        let sampled = kept.find_or_make(&recipe, |key, folder| {
            fill_sample(&pool.open()?, count, from, key, folder, progress)
        });
        train_entry = Some(sampled.map_err(asked.about(Blame::Train))?);
    }
    let (queries, queries_digest) = match (&query_entry, base_entry.held(), &digests.held) {
        (Some(entry), ..) => {
            let source = asked.queries.as_ref().and_then(Reader::path);
            (entry.rows(source), &entry.manifest.rows.digest)
        }
        (None, Some(rows), Some(part)) => (rows, &part.digest),
        (None, ..) => return Err(about(Blame::Queries)(DataError::Zero { what: "hold_out" })),
    };
    let (train, train_digest) = match &train_entry {
        Some(entry) => {
            let source = asked.train.as_ref().and_then(Reader::path);
            (entry.rows(source), &entry.manifest.rows.digest)
        }
        None => (pool.clone(), pool_digest),
    };
    // A file of training rows may be what the base was taken from, also under another name.
    let train_apart = match (&asked.train, &origins.train) {
        (Some(file), Some(from)) => {
            file.path() != asked.base.path()
                && *from != origins.base
                && *train_digest != digests.rows.digest
        }
        _ => reserve.is_some(),
    };

    let truth_key =
        digest("vq-host exact neighbours 2", &[&digests.rows.digest, queries_digest], spec.metric);
    let found = (|| {
        let (base, queries) = (base.open()?, queries.open()?);
        let k = truth_k.min(base.rows());
        let place = truth::Place { cache: &mut kept, key: &truth_key, from: &digests.from };
        truth::find(&base, &queries, spec.metric, k, place, progress)
    })();
    let found = found.map_err(asked.about(Blame::Base))?;
    origins.watched.unchanged_so_far().map_err(asked.about(Blame::Base))?;

    let query_part = query_entry.as_ref().map(|entry| &entry.manifest.rows);
    let facts = Facts {
        synthetic: matches!(spec.source, Source::Synthetic(_)),
        zero_queries: query_part.or(digests.held.as_ref()).map_or(0, |part| part.zeros),
        queries_in_base: found.identical,
        duplicate_rows: digests.duplicates,
        tied_queries: found.tied,
    };
    let mut notes = asked.notes.clone();
    if let Train::Reserved(Some(count)) = spec.train
        && let Some(reserve) = &reserve
        && count > reserve.rows
    {
        let all = reserve.rows;
        notes.push(format!(
            "methods learn from all {all} rows that are kept apart, not from {count}"
        ));
    }
    if matches!(spec.train, Train::File(_)) && !train_apart {
        notes.push(
            "the training rows are the base's: methods learn from the rows they are measured on"
                .into(),
        );
    }
    let source_zeros = digests.parts().map(|part| part.zeros).sum();
    let train_file = train_entry.as_ref().filter(|_| origins.train.is_some());
    let train_zeros = train_file.map_or(0, |entry| entry.manifest.rows.zeros);
    for (zeros, rows, what) in
        [(source_zeros, asked.rows, "source"), (train_zeros, train.rows, "training")]
    {
        if unit && zeros > 0 {
            notes.push(format!(
                "{zeros} of {rows} {what} rows are zero and have no direction: they stay zero"
            ));
        }
    }
    if spec.metric != Metric::L2 && facts.zero_queries > 0 {
        let (zeros, all) = (facts.zero_queries, queries.rows);
        notes.push(format!(
            "{} zero: every row of the base is as near to {} as any other",
            some(zeros, all, "query", "queries"),
            if zeros == 1 { "it" } else { "them" }
        ));
    }
    if digests.spectrum.is_none() {
        notes.push(format!("no covariance spectrum: {} dimensions are too many", base.dim));
    }
    let many = |count: u64, of: usize| count > 0 && count * IDENTICAL_IS_MANY >= of as u64;
    if many(facts.queries_in_base, queries.rows) {
        let queries = some(facts.queries_in_base, queries.rows, "query", "queries");
        notes.push(format!("{queries} identical to a base row"));
    }
    if many(facts.duplicate_rows, base.rows) {
        let rows = some(facts.duplicate_rows, base.rows, "base row", "base rows");
        notes.push(format!("{rows} identical to an earlier one"));
    }
    let digest = digest(
        "vq-host prepared data 1",
        &[&digests.rows.digest, train_digest, queries_digest],
        spec.metric,
    );
    let notices = kept.notices;
    let entries = [Some(base_entry), query_entry, train_entry].into_iter().flatten();
    let mut locks: Vec<fs::File> = found.lock.into_iter().collect();
    let mut manifests = Vec::new();
    for entry in entries {
        manifests.push(entry.manifest);
        locks.extend(entry.hold);
    }
    let Manifest { mean, spectrum, .. } = manifests.swap_remove(0);
    Ok(Prepared {
        name: spec.name.clone(),
        metric: spec.metric,
        dim: base.dim,
        digest,
        base,
        train,
        train_apart,
        queries,
        truth: found.file,
        mean,
        spectrum: spectrum.unwrap_or_default(),
        facts,
        notes,
        notices,
        sources: origins.watched.clone().holding(locks),
    })
}

/// "3 of 40 rows are", "the 1 row is".
fn some(count: u64, of: usize, one: &str, many: &str) -> String {
    match of {
        1 => format!("the 1 {one} is"),
        _ => format!("{count} of {of} {many} are"),
    }
}

/// What a [`DatasetSpec`] asks for, its files open and their headers checked.
struct Asked {
    base: Reader,
    /// Rows of the source that are used.
    rows: usize,
    held_out: Option<usize>,
    /// Rows that are neither queries nor base.
    reserved: usize,
    queries: Option<Reader>,
    train: Option<Reader>,
    notes: Vec<String>,
}

impl Asked {
    /// Says what a failure is about; a file that changed while another was at work says it itself.
    fn about(&self, blame: Blame) -> impl Fn(DataError) -> PrepareError + use<'_> {
        move |error| {
            let changed = |reader: &Option<Reader>| match (&error, reader) {
                (
                    DataError::Changed { path: changed, .. },
                    Some(Reader::File { path, written, .. }),
                ) => changed == path || changed == written,
                _ => false,
            };
            let blame = match () {
                () if changed(&self.queries) => Blame::Queries,
                () if changed(&self.train) => Blame::Train,
                () => blame,
            };
            about(blame)(error)
        }
    }

    fn open(spec: &DatasetSpec) -> Result<Self, PrepareError> {
        let (base, what) = match &spec.source {
            Source::File(path) => (Reader::open(path), path.display().to_string()),
            Source::Synthetic(synthetic) => {
                (Generator::new(synthetic).map(Reader::Synthetic), "synthetic data".into())
            }
        };
        let base = base.map_err(about(Blame::Base))?;
        let rows = base.rows().min(spec.limit.unwrap_or(usize::MAX));
        if rows == 0 {
            return Err(about(Blame::Base)(DataError::Zero { what: "limit" }));
        }
        if u32::try_from(rows).is_err() {
            let rows = rows as u64;
            return Err(about(Blame::Base)(DataError::TooManyRows { what, rows }));
        }
        let mut notes = Vec::new();
        let held_out = match spec.queries {
            Queries::File(_) => None,
            Queries::HoldOut(count) => Some(count),
            Queries::HoldOutUpTo(most) => {
                let count = most.min((rows / SHARE_HELD_OUT).max(1));
                if count < most {
                    notes.push(format!(
                        "a tenth of the {rows} rows ({count}) is held out as queries, not {most}"
                    ));
                }
                Some(count)
            }
        };
        match held_out {
            Some(0) => {
                return Err(about(Blame::Queries)(DataError::Zero { what: "hold_out" }));
            }
            Some(hold_out) if hold_out >= rows => {
                return Err(about(Blame::Queries)(DataError::HoldOut { hold_out, rows }));
            }
            _ => {}
        }
        let file = |part, name, path: &Path| {
            same_dim(name, path, base.dim()).map(Some).map_err(about(part))
        };
        let queries = match &spec.queries {
            Queries::File(path) => file(Blame::Queries, "queries", path)?,
            Queries::HoldOut(_) | Queries::HoldOutUpTo(_) => None,
        };
        let train = match &spec.train {
            Train::File(path) => file(Blame::Train, "train", path)?,
            Train::Sample(0) | Train::Reserved(Some(0)) => {
                return Err(about(Blame::Train)(DataError::Zero { what: "sample" }));
            }
            Train::Base | Train::Sample(_) | Train::Reserved(_) => None,
        };
        let mut reserved = 0;
        if let Train::Reserved(_) = spec.train {
            if rows >= RESERVES_FROM {
                reserved = ((rows - held_out.unwrap_or(0)) / 2).min(MOST_RESERVED);
            }
            if reserved == 0 {
                notes.push(format!(
                    "{rows} rows are too few to keep some apart for training: methods learn from \
                     the rows they are measured on"
                ));
            }
        }
        Ok(Self { base, rows, held_out, reserved, queries, train, notes })
    }
}

/// What the rows come from, told by contents.
struct Origins {
    base: Origin,
    queries: Option<Origin>,
    train: Option<Origin>,
    watched: Sources,
}

impl Origins {
    fn read(
        spec: &DatasetSpec,
        asked: &Asked,
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
                let seen = contents(cache, path, bytes, &report)?;
                let digest = seen.digest.clone();
                // A link may be made to lead elsewhere.
                if written != path {
                    watched.push(seen.called(written));
                }
                watched.push(seen);
                Ok(Some(Origin::File { digest, format: file.layout() }))
            }
        };
        let file = of(&asked.base, asked.rows, "digest base").map_err(about(Blame::Base))?;
        let base = match (file, &spec.source) {
            (None, Source::Synthetic(synthetic)) => {
                Origin::Synthetic(Synthetic { n: asked.rows, ..synthetic.clone() })
            }
            (Some(file), _) => file,
            (None, Source::File(path)) => {
                return Err(about(Blame::Base)(DataError::NotAFile { path: path.clone() }));
            }
        };
        let mut of = |reader: &Option<Reader>, stage, blame| match reader {
            Some(reader) => of(reader, reader.rows(), stage).map_err(about(blame)),
            None => Ok(None),
        };
        let queries = of(&asked.queries, "digest queries", Blame::Queries)?;
        let train = of(&asked.train, "digest train", Blame::Train)?;
        Ok(Self { base, queries, train, watched: Sources::new(watched) })
    }
}

/// BLAKE3, in hex, of digests of equal length and the metric.
fn digest(context: &str, parts: &[&str], metric: Metric) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part.as_bytes());
    }
    hasher.update(metric.name().as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// Where rows come from, checked.
enum Reader {
    File {
        file: SourceFile,
        /// Without links.
        path: PathBuf,
        /// As the user calls it.
        written: PathBuf,
    },
    Synthetic(Generator),
}

impl Reader {
    fn open(written: &Path) -> Result<Self, DataError> {
        let path = canonical(written)?;
        let written = std::path::absolute(written).map_err(io("find", written))?;
        Ok(Self::File { file: SourceFile::open(&written)?, path, written })
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => Some(path),
            Self::Synthetic(_) => None,
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::File { file, .. } => file.rows,
            Self::Synthetic(generator) => generator.rows,
        }
    }

    fn dim(&self) -> usize {
        match self {
            Self::File { file, .. } => file.dim,
            Self::Synthetic(generator) => generator.dim,
        }
    }

    /// A sink for all of the rows as they are: the file itself if it can serve.
    fn sink(&self, folder: &Path, unchanged: bool) -> Result<RowSink, DataError> {
        if let Self::File { file, .. } = self
            && let (true, Some(offset)) = (unchanged, file.raw_f32_offset())
        {
            return Ok(RowSink::in_place(offset, self.dim()));
        }
        RowSink::create(folder, "rows.f32", self.dim())
    }

    /// Shows the first `rows` rows to `each` (first row, values), a block at a time,
    /// at unit length if so asked.
    fn walk(
        &self,
        rows: usize,
        unit: bool,
        stage: &'static str,
        progress: OnProgress<'_>,
        mut each: impl FnMut(usize, &[f32]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let step = block_rows(self.dim());
        let mut block = Array2::zeros((step.min(rows), self.dim()));
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            if count < block.nrows() {
                block = Array2::zeros((count, self.dim()));
            }
            let values = block.as_slice_mut().expect("a block is row-major");
            match self {
                Self::File { file, .. } => file.read(first, values)?,
                Self::Synthetic(generator) => generator.read(first, values),
            }
            if unit {
                normalise(&mut block);
            }
            each(first, block.as_slice().expect("a block is row-major"))?;
            progress(Progress { stage, done: (first + count) as u64, total: rows as u64 })?;
        }
        Ok(())
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { written, .. } => write!(f, "{}", written.display()),
            Self::Synthetic(generator) => write!(f, "synthetic {}", generator.kind().name()),
        }
    }
}

/// The rows of a source that are not in its base: ascending, in neither list twice.
struct Leaving {
    held_out: Vec<usize>,
    reserved: Vec<usize>,
}

impl Leaving {
    /// Which rows are held out does not depend on how many are reserved.
    fn draw(rows: usize, held_out: usize, reserved: usize) -> Self {
        let held_out = distinct_rows("vq-host held out rows 1", rows, held_out);
        let left = Absent::new(held_out.iter().map(|row| *row as u32));
        let of_left =
            distinct_rows("vq-host rows reserved for training 1", rows - held_out.len(), reserved);
        let reserved = of_left.into_iter().map(|row| left.run(row).0).collect();
        Self { held_out, reserved }
    }

    fn all(&self) -> Vec<u32> {
        let both = self.held_out.iter().chain(&self.reserved);
        let mut both: Vec<u32> = both.map(|row| *row as u32).collect();
        both.sort_unstable();
        both
    }
}

/// Fills `folder` with a base and what it leaves for queries and training, and answers the manifest.
///
/// Memory: O(block·d), and 8 bytes for each row of the source.
fn fill_base(
    asked: &Asked,
    unit: bool,
    key: &str,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<Manifest, DataError> {
    let Asked { base: source, rows, .. } = asked;
    let dim = source.dim();
    let leaving = Leaving::draw(*rows, asked.held_out.unwrap_or(0), asked.reserved);
    let part = |name, rows: &[usize]| match rows {
        [] => Ok(None),
        _ => RowSink::create(folder, name, dim).map(Some),
    };
    let mut base = source.sink(folder, !unit)?;
    let mut queries = part("held.f32", &leaving.held_out)?;
    let mut reserve = part("reserved.f32", &leaving.reserved)?;
    let gone = leaving.all();
    let mut hashes = Hashes::of(rows - gone.len());
    let mut to_go = gone.as_slice();
    let mut to_leave = [(&leaving.held_out, &mut queries), (&leaving.reserved, &mut reserve)]
        .map(|(rows, sink)| (rows.as_slice(), sink));
    // Kept together before they are pushed: where every other row leaves, runs are short.
    let mut staying: Vec<f32> = Vec::new();
    source.walk(*rows, unit, "read base", progress, |first, values| {
        let end = first + values.len() / dim;
        for (rows, sink) in &mut to_leave {
            let (here, later) = rows.split_at(rows.partition_point(|row| *row < end));
            *rows = later;
            for row in here {
                let at = (row - first) * dim;
                if let Some(sink) = sink {
                    sink.push(&values[at..at + dim])?;
                }
            }
        }
        let (here, later) = to_go.split_at(to_go.partition_point(|row| (*row as usize) < end));
        to_go = later;
        staying.clear();
        let mut at = 0;
        for row in here {
            let to = (*row as usize - first) * dim;
            staying.extend_from_slice(&values[at..to]);
            at = to + dim;
        }
        let values = match at {
            0 => values,
            _ => {
                staying.extend_from_slice(&values[at..]);
                &staying
            }
        };
        hashes.push(values, dim);
        base.push(values)
    })?;
    let (mut base, mean) = base.finish()?;
    if base.is_in_place() && !gone.is_empty() {
        base.rows.absent = Some(ABSENT.into());
        Absent::new(gone).write(&folder.join(ABSENT))?;
    }
    let finish = |sink: Option<RowSink>| sink.map(|sink| Ok(sink.finish()?.0)).transpose();
    let (held, reserved) = (finish(queries)?, finish(reserve)?);
    let place = base.place(folder, source.path()).open()?;
    let duplicates = hashes.duplicates(&place, progress)?;
    let spectrum = spectrum(&place, &mean, progress)?;
    Ok(Manifest {
        key: key.into(),
        from: source.to_string(),
        role: "base".into(),
        rows: base,
        held,
        reserved,
        duplicates,
        mean,
        spectrum,
    })
}

/// Fills `folder` with all rows of a file of queries or training rows.
fn fill_rows(
    source: &Reader,
    unit: bool,
    role: &str,
    stage: &'static str,
    key: &str,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<Manifest, DataError> {
    let mut sink = source.sink(folder, !unit)?;
    let push = |_, values: &[f32]| sink.push(values);
    source.walk(source.rows(), unit, stage, progress, push)?;
    Ok(Manifest {
        key: key.into(),
        from: source.to_string(),
        role: role.into(),
        rows: sink.finish()?.0,
        held: None,
        reserved: None,
        duplicates: 0,
        mean: Vec::new(),
        spectrum: None,
    })
}

/// Fills `folder` with `count` of some rows.
fn fill_sample(
    rows: &Rows,
    count: usize,
    from: &str,
    key: &str,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<Manifest, DataError> {
    let ids = distinct_rows("vq-host training rows 1", rows.rows(), count);
    let dim = rows.dim();
    let mut train = RowSink::create(folder, "rows.f32", dim)?;
    let step = block_rows(dim);
    let mut block = Array2::zeros((step.min(ids.len()), dim));
    for (i, ids) in ids.chunks(step).enumerate() {
        let mut block = block.slice_mut(s![..ids.len(), ..]);
        rows.gather(ids, block.view_mut())?;
        train.push(block.as_slice().expect("a block is row-major"))?;
        progress(Progress {
            stage: "sample train",
            done: (i * step + ids.len()) as u64,
            total: count as u64,
        })?;
    }
    Ok(Manifest {
        key: key.into(),
        from: from.into(),
        role: "train".into(),
        rows: train.finish()?.0,
        held: None,
        reserved: None,
        duplicates: 0,
        mean: Vec::new(),
        spectrum: None,
    })
}

fn same_dim(part: &'static str, path: &Path, expected: usize) -> Result<Reader, DataError> {
    let reader = Reader::open(path)?;
    if reader.dim() != expected {
        return Err(DataError::DimMismatch {
            part,
            path: path.into(),
            expected,
            found: reader.dim(),
        });
    }
    Ok(reader)
}

/// `count` distinct numbers below `rows`, ascending, the same ones every time.
///
/// Floyd's algorithm (Bentley & Floyd 1987): O(count), whatever `rows` is. The seed is
/// derived from its `name`; queries and training rows are unrelated samples.
fn distinct_rows(name: &str, rows: usize, count: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::from_seed(blake3::derive_key(name, &[]));
    let mut chosen = std::collections::HashSet::with_capacity(count);
    for last in rows - count..rows {
        let row = below(&mut rng, last as u64 + 1) as usize;
        if !chosen.insert(row) {
            chosen.insert(last);
        }
    }
    let mut chosen: Vec<usize> = chosen.into_iter().collect();
    chosen.sort_unstable();
    chosen
}

/// Uniform below `bound` (Lemire 2019); ours, so that no dependency's next version
/// draws other rows.
fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    loop {
        let wide = u128::from(rng.next_u64()) * u128::from(bound);
        if wide as u64 >= bound.wrapping_neg() % bound {
            return (wide >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests;
