//! From a [`DatasetSpec`] to prepared rows, their neighbours and their spectrum: each
//! source is walked once, in blocks, and every choice of rows has a fixed, named seed.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array2, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::cache::{self, Manifest, canonical};
use super::error::io;
use super::identity::{Seen, Sources};
use super::rows::{RowSink, normalise};
use super::source::SourceFile;
use super::spectrum::spectrum;
use super::synthetic::Generator;
use super::{
    DataError, DatasetSpec, Metric, OnProgress, Prepared, Progress, Queries, Source, Train,
    block_rows, truth,
};

/// One in this many queries found in the base is worth a note.
const IDENTICAL_IS_MANY: u64 = 100;

/// Prepares `spec` in the folder `cache`, with `truth_k` exact neighbours per query
/// (all rows of the base when it has fewer). What is there already is used.
///
/// Memory is O(block·d + d² + queries·k); files are as large as what they hold.
/// Threads: the current rayon pool; every result is the same for any number of them.
///
/// # Errors
/// [`DataError`], naming the file and the values that are in the way.
pub fn prepare(
    spec: &DatasetSpec,
    truth_k: usize,
    cache: &Path,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Prepared, DataError> {
    if truth_k == 0 {
        return Err(DataError::Zero { what: "truth k" });
    }
    fs::create_dir_all(cache).map_err(io("create", cache))?;
    let cache = canonical(cache)?;
    let sources = watched(spec)?;
    let (manifest, folder) =
        cache::find_or_make(&cache, spec, |key, folder| fill(spec, key, folder, progress))?;
    let [base, train, queries] =
        [&manifest.base, &manifest.train, &manifest.queries].map(|part| part.rows.within(&folder));
    let k = truth_k.min(base.rows);
    let truth_key = digest(
        "vq-host exact neighbours 1",
        &[&manifest.base.digest, &manifest.queries.digest],
        spec.metric,
    );
    let (truth, identical) = truth::find(
        &base.open()?,
        &queries.open()?,
        spec.metric,
        k,
        &cache.join("truth").join(&truth_key[..16]),
        progress,
    )?;

    sources.unchanged_so_far()?;
    let mut notes = manifest.notes;
    if matches!(spec.queries, Queries::File(_))
        && identical * IDENTICAL_IS_MANY >= queries.rows as u64
    {
        let all = queries.rows;
        notes.push(format!("{identical} of {all} queries are identical to a base row"));
    }
    Ok(Prepared {
        name: spec.name.clone(),
        metric: spec.metric,
        dim: base.dim,
        digest: digest(
            "vq-host prepared data 1",
            &[&manifest.base.digest, &manifest.train.digest, &manifest.queries.digest],
            spec.metric,
        ),
        base,
        train,
        queries,
        truth,
        mean: manifest.mean,
        spectrum: manifest.spectrum,
        notes,
        sources,
    })
}

/// The files of `spec`, read.
fn watched(spec: &DatasetSpec) -> Result<Sources, DataError> {
    let mut paths = Vec::new();
    if let Source::File(path) = &spec.source {
        paths.push(path);
    }
    if let Queries::File(path) = &spec.queries {
        paths.push(path);
    }
    if let Train::File(path) = &spec.train {
        paths.push(path);
    }
    let seen = paths.into_iter().map(|path| {
        let path = canonical(path)?;
        Seen::read(&path, SourceFile::open(&path)?.bytes())
    });
    seen.collect::<Result<_, _>>().map(Sources::new)
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
    File(SourceFile, PathBuf),
    Synthetic(Generator),
}

impl Reader {
    fn open(path: &Path) -> Result<Self, DataError> {
        let path = canonical(path)?;
        Ok(Self::File(SourceFile::open(&path)?, path))
    }

    fn rows(&self) -> usize {
        match self {
            Self::File(file, _) => file.rows,
            Self::Synthetic(generator) => generator.rows,
        }
    }

    fn dim(&self) -> usize {
        match self {
            Self::File(file, _) => file.dim,
            Self::Synthetic(generator) => generator.dim,
        }
    }

    /// A sink for all of the rows as they are: the file itself if it can serve.
    fn sink(&self, folder: &Path, name: &str, unchanged: bool) -> Result<RowSink, DataError> {
        if let Self::File(file, path) = self
            && let (true, Some(offset)) = (unchanged, file.raw_f32_offset())
        {
            return Ok(RowSink::in_place(path.clone(), offset, self.dim()));
        }
        RowSink::create(folder, name, self.dim())
    }

    /// Shows the first `rows` rows to `each` (first row, values), a block at a time,
    /// at unit length if so asked. Returns how many were zero and stayed it.
    fn walk(
        &self,
        rows: usize,
        unit: bool,
        stage: &'static str,
        progress: OnProgress<'_>,
        mut each: impl FnMut(usize, &[f32]) -> Result<(), DataError>,
    ) -> Result<u64, DataError> {
        let step = block_rows(self.dim());
        let mut zeros = 0;
        let mut block = Array2::zeros((step.min(rows), self.dim()));
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            if count < block.nrows() {
                block = Array2::zeros((count, self.dim()));
            }
            let values = block.as_slice_mut().expect("a block is row-major");
            match self {
                Self::File(file, _) => file.read(first, values)?,
                Self::Synthetic(generator) => generator.read(first, values),
            }
            if unit {
                zeros += normalise(&mut block);
            }
            each(first, block.as_slice().expect("a block is row-major"))?;
            progress(Progress { stage, done: (first + count) as u64, total: rows as u64 });
        }
        Ok(zeros)
    }
}

/// Fills `folder` with everything but the manifest, which it returns.
fn fill(
    spec: &DatasetSpec,
    key: &str,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<Manifest, DataError> {
    let unit = spec.metric == Metric::Cosine;
    let (source, what) = match &spec.source {
        Source::File(path) => (Reader::open(path)?, path.display().to_string()),
        Source::Synthetic(synthetic) => {
            (Reader::Synthetic(Generator::new(synthetic)?), "synthetic data".into())
        }
    };
    let dim = source.dim();
    let rows = source.rows().min(spec.limit.unwrap_or(usize::MAX));
    if rows == 0 {
        return Err(DataError::Zero { what: "limit" });
    }
    if u32::try_from(rows).is_err() {
        let rows = rows as u64;
        return Err(DataError::TooManyRows { what, rows });
    }
    // Both before the base is walked: a mistake shows at once.
    let query_file = match &spec.queries {
        Queries::File(path) => Some(same_dim("queries", path, dim)?),
        Queries::HoldOut(_) => None,
    };
    let train_file = match &spec.train {
        Train::File(path) => Some(same_dim("train", path, dim)?),
        Train::Sample(0) => return Err(DataError::Zero { what: "sample" }),
        Train::Base | Train::Sample(_) => None,
    };
    let held = match spec.queries {
        Queries::HoldOut(0) => return Err(DataError::Zero { what: "hold_out" }),
        Queries::HoldOut(hold_out) if hold_out >= rows => {
            return Err(DataError::HoldOut { hold_out, rows });
        }
        Queries::HoldOut(count) => distinct_rows("vq-host held out rows 1", rows, count),
        Queries::File(_) => Vec::new(),
    };

    let mut notes = Vec::new();
    let mut base = source.sink(folder, "base.f32", held.is_empty() && !unit)?;
    let mut queries = match &query_file {
        Some(file) => file.sink(folder, "queries.f32", !unit)?,
        None => RowSink::create(folder, "queries.f32", dim)?,
    };
    let mut to_leave = held.iter().copied().peekable();
    let zeros = source.walk(rows, unit, "read base", progress, |first, values| {
        let end = first + values.len() / dim;
        let mut at = first;
        while let Some(leaves) = to_leave.next_if(|row| *row < end) {
            let (row, next) = (leaves - first, leaves - first + 1);
            base.push(&values[(at - first) * dim..row * dim])?;
            queries.push(&values[row * dim..next * dim])?;
            at = leaves + 1;
        }
        base.push(&values[(at - first) * dim..])
    })?;
    note_zeros(&mut notes, zeros, rows, "source rows");
    let (base, mean) = base.finish()?;
    let base_rows = base.rows.within(folder).open()?;

    if let Some(file) = query_file {
        let push = |_, values: &[f32]| queries.push(values);
        let zeros = file.walk(file.rows(), unit, "read queries", progress, push)?;
        note_zeros(&mut notes, zeros, file.rows(), "queries");
    }
    let (queries, _) = queries.finish()?;

    let train = match (train_file, &spec.train) {
        (Some(file), _) => {
            let mut train = file.sink(folder, "train.f32", !unit)?;
            let push = |_, values: &[f32]| train.push(values);
            let zeros = file.walk(file.rows(), unit, "read train", progress, push)?;
            note_zeros(&mut notes, zeros, file.rows(), "training rows");
            train.finish()?.0
        }
        (None, Train::Sample(count)) if *count < base.rows.rows => {
            let ids = distinct_rows("vq-host training rows 1", base.rows.rows, *count);
            let mut train = RowSink::create(folder, "train.f32", dim)?;
            let step = block_rows(dim);
            let mut block = Array2::zeros((step.min(ids.len()), dim));
            for (i, ids) in ids.chunks(step).enumerate() {
                let mut block = block.slice_mut(s![..ids.len(), ..]);
                base_rows.gather(ids, block.view_mut())?;
                train.push(block.as_slice().expect("a block is row-major"))?;
                progress(Progress {
                    stage: "sample train",
                    done: (i * step + ids.len()) as u64,
                    total: *count as u64,
                });
            }
            train.finish()?.0
        }
        (None, _) => base.clone(),
    };

    let spectrum = spectrum(&base_rows, &mean, progress)?.unwrap_or_else(|| {
        notes.push(format!("no covariance spectrum: {dim} dimensions are too many"));
        Vec::new()
    });
    Ok(Manifest { key: key.into(), base, train, queries, mean, spectrum, notes })
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

fn note_zeros(notes: &mut Vec<String>, zeros: u64, of: usize, what: &str) {
    if zeros > 0 {
        notes
            .push(format!("{zeros} of {of} {what} are zero and have no direction: they stay zero"));
    }
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
mod tests {
    use super::*;
    use crate::data::cache::UNFINISHED;
    use crate::data::testing::{small_integers, spec, write_fbin};
    use crate::data::{RowFile, Synthetic, SyntheticKind};
    use ndarray::Axis;
    use std::collections::{BTreeMap, HashSet};
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A folder with a cache and a file of 500 distinct rows.
    struct Place {
        folder: tempfile::TempDir,
        values: Array2<f32>,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut values = small_integers(500, 6, 1);
            for (i, x) in values.column_mut(0).iter_mut().enumerate() {
                *x = 1.0 + i as f32;
            }
            write_fbin(&folder.path().join("base.fbin"), values.view());
            Self { folder, values }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn file(&self, name: &str, values: &Array2<f32>) -> PathBuf {
            write_fbin(&self.path(name), values.view());
            self.path(name)
        }

        fn spec(&self) -> DatasetSpec {
            spec(self.path("base.fbin"))
        }

        fn prepare(&self, spec: &DatasetSpec) -> Result<Prepared, DataError> {
            prepare(spec, 5, &self.path("cache"), &|_| {})
        }

        /// Also says how many rows were worked on.
        fn prepare_counting(&self, spec: &DatasetSpec) -> (Prepared, usize) {
            let steps = AtomicUsize::new(0);
            let count = |_| {
                steps.fetch_add(1, Ordering::Relaxed);
            };
            let prepared = prepare(spec, 5, &self.path("cache"), &count).unwrap();
            (prepared, steps.into_inner())
        }
    }

    fn read(file: &RowFile) -> Array2<f32> {
        file.open().unwrap().read_all().unwrap()
    }

    /// Files below `folder` with their contents.
    fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(contents(&path));
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
        found
    }

    #[test]
    fn held_out_rows_leave_the_base() {
        let place = Place::new();
        let prepared = place.prepare(&place.spec()).unwrap();
        let (base, queries) = (read(&prepared.base), read(&prepared.queries));
        assert_eq!((base.dim(), queries.dim()), ((490, 6), (10, 6)));
        // The first column numbers the rows of the source.
        let row = |values: &Array2<f32>| values.column(0).mapv(|x| x as usize - 1).to_vec();
        let (kept, held) = (row(&base), row(&queries));
        assert!(kept.is_sorted() && held.is_sorted());
        let all: HashSet<usize> = kept.iter().chain(&held).copied().collect();
        assert_eq!(all.len(), 500, "disjoint, and nothing is lost");
        assert_eq!(place.values.select(Axis(0), &kept), base);
        assert_eq!(place.values.select(Axis(0), &held), queries);
    }

    #[test]
    fn training_rows_are_distinct_rows_of_the_base_in_order() {
        let place = Place::new();
        let mut spec = place.spec();
        spec.train = Train::Sample(100);
        let prepared = place.prepare(&spec).unwrap();
        let (base, train) = (read(&prepared.base), read(&prepared.train));
        assert_eq!(train.dim(), (100, 6));
        let numbers = train.column(0).to_vec();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        let of_base: HashSet<u32> = base.column(0).iter().map(|x| *x as u32).collect();
        assert!(numbers.iter().all(|x| of_base.contains(&(*x as u32))));
    }

    #[test]
    fn a_training_sample_of_everything_is_the_base() {
        let place = Place::new();
        let mut spec = place.spec();
        for train in [Train::Base, Train::Sample(490), Train::Sample(9999)] {
            spec.train = train;
            let prepared = place.prepare(&spec).unwrap();
            assert_eq!(prepared.train, prepared.base);
        }
    }

    #[test]
    fn raw_rows_are_used_where_they_are_and_limit_takes_the_first() {
        let place = Place::new();
        let mut spec = place.spec();
        spec.queries = Queries::File(place.file("q.fbin", &small_integers(4, 6, 9)));
        for (limit, rows) in [(None, 500), (Some(37), 37), (Some(10_000), 500)] {
            spec.limit = limit;
            let prepared = place.prepare(&spec).unwrap();
            assert_eq!(prepared.base.path, place.path("base.fbin").canonicalize().unwrap());
            assert_eq!((prepared.base.offset, prepared.base.rows), (8, rows));
            let expected = place.values.slice(s![..rows, ..]);
            assert_eq!(read(&prepared.base), expected);
            let mean = expected.mapv(f64::from).mean_axis(Axis(0)).unwrap();
            for (found, expected) in prepared.mean.iter().zip(mean) {
                assert!((found - expected).abs() < 1e-9);
            }
            assert_eq!(prepared.spectrum.len(), 6);
        }
    }

    #[test]
    fn more_neighbours_than_rows_are_all_rows() {
        let place = Place::new();
        let mut spec = place.spec();
        spec.limit = Some(13);
        let prepared = place.prepare(&spec).unwrap();
        let prepared_3 = prepare(&spec, 3, &place.path("cache"), &|_| {}).unwrap();
        let prepared_99 = prepare(&spec, 99, &place.path("cache"), &|_| {}).unwrap();
        assert_eq!([prepared_99.truth.k, prepared_3.truth.k], [3, 3]);
        assert_eq!(prepared.truth.read().unwrap().ids.dim(), (10, 3));
    }

    #[test]
    fn cosine_rows_have_unit_length_and_zeros_are_noted() {
        let place = Place::new();
        let mut values = small_integers(60, 6, 4);
        values.column_mut(1).fill(2.0);
        values.row_mut(7).fill(0.0);
        let mut spec = spec(place.file("z.fbin", &values));
        spec.queries = Queries::File(place.path("base.fbin"));
        spec.train = Train::File(place.path("base.fbin"));
        spec.metric = Metric::Cosine;
        let prepared = place.prepare(&spec).unwrap();
        let base = read(&prepared.base);
        for (part, rows) in [
            ("base", &base),
            ("queries", &read(&prepared.queries)),
            ("train", &read(&prepared.train)),
        ] {
            for (i, row) in rows.rows().into_iter().enumerate() {
                let norm = row.mapv(f64::from).mapv(|x| x * x).sum();
                let expected = if part == "base" && i == 7 { 0.0 } else { 1.0 };
                assert!((norm - expected).abs() < 1e-6, "{part} {i}");
            }
        }
        assert_eq!(prepared.notes.len(), 1, "{:?}", prepared.notes);
        assert!(prepared.notes[0].starts_with("1 of 60 source rows are zero"));
        let truth = prepared.truth.read().unwrap();
        assert!(truth.distances.iter().all(|x| (-1.001..1.001).contains(x)));
    }

    #[test]
    fn queries_taken_from_the_base_are_noted() {
        let place = Place::new();
        let mut queries = small_integers(40, 6, 9).mapv(|x| x + 0.5);
        queries.row_mut(3).assign(&place.values.row(20));
        let mut spec = place.spec();
        spec.queries = Queries::File(place.file("q.fbin", &queries));
        let prepared = place.prepare(&spec).unwrap();
        let expected = "1 of 40 queries are identical to a base row";
        assert_eq!(prepared.notes, [expected]);
        assert_eq!(place.prepare(&spec).unwrap().notes, [expected], "also from the cache");
    }

    #[test]
    fn a_second_preparation_reads_and_writes_nothing() {
        let place = Place::new();
        let mut spec = place.spec();
        spec.train = Train::Sample(20);
        let (first, steps) = place.prepare_counting(&spec);
        assert!(steps > 0);
        let entry = first.base.path.parent().unwrap().to_path_buf();
        let before = (contents(&place.path("cache")), entry.metadata().unwrap().ino());

        spec.name = "another label".into();
        let (mut second, steps) = place.prepare_counting(&spec);
        assert_eq!(steps, 0);
        let after = (contents(&place.path("cache")), entry.metadata().unwrap().ino());
        assert!(before == after, "the folder is the same one");
        assert_eq!(second.name, "another label");
        second.name = first.name.clone();
        assert_eq!(second, first);
    }

    #[test]
    fn a_damaged_entry_is_made_again() {
        let place = Place::new();
        let mut spec = place.spec();
        spec.train = Train::Sample(20);
        let prepared = place.prepare(&spec).unwrap();
        let whole = contents(&place.path("cache"));
        assert_eq!(whole.len(), 5, "base, train, queries, manifest, truth");
        for path in whole.keys() {
            for length in [None, Some(0), Some(whole[path].len() - 2), Some(whole[path].len() + 4)]
            {
                match length {
                    None => fs::remove_file(path).unwrap(),
                    Some(length) => {
                        let mut damaged = whole[path].clone();
                        damaged.resize(length, b'}');
                        fs::write(path, damaged).unwrap();
                    }
                }
                assert_eq!(place.prepare(&spec).unwrap(), prepared);
                assert!(contents(&place.path("cache")) == whole, "{path:?} {length:?}");
            }
        }
    }

    #[test]
    fn a_file_written_to_is_prepared_again() {
        let place = Place::new();
        let mut spec = place.spec();
        spec.queries = Queries::File(place.file("q.fbin", &small_integers(4, 6, 9)));
        let before = place.prepare(&spec).unwrap();
        let mut values = place.values.clone();
        values[(0, 0)] += 1.0;
        place.file("base.fbin", &values);
        let after = place.prepare(&spec).unwrap();
        assert_ne!(after.digest, before.digest);
        assert_eq!(after.base, before.base);
    }

    #[test]
    fn the_digest_follows_contents_and_metric_alone() {
        let place = Place::new();
        let spec = place.spec();
        let digest = |spec: &DatasetSpec| place.prepare(spec).unwrap().digest;
        let original = digest(&spec);

        let mut copy = spec.clone();
        copy.source = Source::File(place.file("copy.fbin", &place.values));
        assert_eq!(digest(&copy), original);
        let mut all = spec.clone();
        all.limit = Some(500);
        assert_eq!(digest(&all), original);

        let mut others = [spec.clone(), spec.clone(), spec.clone(), spec];
        others[0].metric = Metric::Ip;
        others[1].limit = Some(499);
        others[2].train = Train::Sample(10);
        others[3].queries = Queries::HoldOut(11);
        let digests: HashSet<String> = others.iter().map(digest).collect();
        assert!(digests.len() == 4 && !digests.contains(&original));
    }

    #[test]
    fn everything_is_the_same_on_any_number_of_threads() {
        let spec = |kind| DatasetSpec {
            name: "s".into(),
            source: Source::Synthetic(Synthetic { kind, n: 9000, dim: 40, seed: 3 }),
            queries: Queries::HoldOut(100),
            train: Train::Sample(1000),
            limit: Some(8500),
            metric: Metric::Cosine,
        };
        for kind in [SyntheticKind::Clustered, SyntheticKind::LowRank] {
            let results = [1, 2, 5].map(|threads| {
                let cache = tempfile::tempdir().unwrap();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let prepared =
                    pool.install(|| prepare(&spec(kind), 10, cache.path(), &|_| {}).unwrap());
                let truth = prepared.truth.read().unwrap();
                assert_eq!(prepared.base.rows, 8400);
                (prepared.digest, prepared.mean, prepared.spectrum, truth)
            });
            assert!(results[0] == results[1] && results[0] == results[2]);
        }
    }

    #[test]
    fn preparers_at_once_agree() {
        let place = Place::new();
        let spec = place.spec();
        let results: Vec<Prepared> = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..8).map(|_| scope.spawn(|| place.prepare(&spec).unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(results.iter().all(|one| *one == results[0]));
        assert_eq!(read(&results[0].base).nrows(), 490);
        let left: Vec<_> = fs::read_dir(place.path("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(UNFINISHED))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn requests_that_cannot_be_met_are_precise_errors() {
        let place = Place::new();
        let error = |change: &dyn Fn(&mut DatasetSpec)| {
            let mut spec = place.spec();
            change(&mut spec);
            place.prepare(&spec).unwrap_err()
        };
        let narrow = place.file("narrow.fbin", &small_integers(4, 5, 9));
        for part in ["queries", "train"] {
            let mismatch = error(&|spec| match part {
                "queries" => spec.queries = Queries::File(narrow.clone()),
                _ => spec.train = Train::File(narrow.clone()),
            });
            assert!(
                mismatch.to_string().ends_with(&format!("{part} has 5 dimensions, the base has 6")),
                "{mismatch}"
            );
        }
        for hold_out in [500, 501, usize::MAX] {
            let error = error(&|spec| spec.queries = Queries::HoldOut(hold_out));
            assert!(matches!(error, DataError::HoldOut { rows: 500, .. }));
        }
        let zero = [
            error(&|spec| spec.queries = Queries::HoldOut(0)),
            error(&|spec| spec.train = Train::Sample(0)),
            error(&|spec| spec.limit = Some(0)),
        ];
        assert!(zero.iter().all(|e| matches!(e, DataError::Zero { .. })));
        let missing = error(&|spec| spec.source = Source::File("no such.fbin".into()));
        assert!(missing.to_string().contains("no such.fbin"));
        let entries = contents(&place.path("cache"));
        assert!(entries.is_empty(), "a failure leaves nothing: {entries:?}");
    }

    #[test]
    fn a_prepared_dataset_survives_json() {
        let place = Place::new();
        let prepared = place.prepare(&place.spec()).unwrap();
        let text = serde_json::to_string(&prepared).unwrap();
        assert_eq!(serde_json::from_str::<Prepared>(&text).unwrap(), prepared);
    }

    #[test]
    fn samples_are_uniform() {
        // 20,000 draws of 5 out of 20: each number is expected 5,000 times, with a
        // standard deviation of 61.
        let mut counts = [0_u32; 20];
        for i in 0..20_000 {
            for row in distinct_rows(&format!("test {i}"), 20, 5) {
                counts[row] += 1;
            }
        }
        assert!(counts.iter().all(|c| c.abs_diff(5000) < 5 * 61), "{counts:?}");
        assert_eq!(distinct_rows("test", 7, 7), [0, 1, 2, 3, 4, 5, 6]);
    }
}
