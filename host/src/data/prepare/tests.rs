use super::draw::distinct_rows;
use super::*;
use crate::data::testing::{VERIFIED_WHOLE, small_integers, spec, write_fbin};
use crate::data::unfinished::UNFINISHED;
use crate::data::{Facts, Queries, Source, Train, UnusableRows};
use crate::data::{RowFile, Synthetic, SyntheticKind};
use ndarray::{Array2, Axis, s};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder with a cache and a file of 500 distinct rows.
struct Place {
    folder: tempfile::TempDir,
    values: Array2<f32>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let values = numbered(500);
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
        prepare(spec, 5, &self.path("cache"), &|_| true).map_err(|error| error.error)
    }

    /// Files of the cache with their contents, but for what is known of sources.
    fn kept(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut kept = contents(&self.path("cache"));
        kept.retain(|path, _| !path.starts_with(self.path("cache/sources")));
        kept
    }

    /// Also says how many rows were worked on.
    fn prepare_counting(&self, spec: &DatasetSpec) -> (Prepared, usize) {
        let steps = AtomicUsize::new(0);
        let count = |_| {
            steps.fetch_add(1, Ordering::Relaxed);
            true
        };
        let prepared = prepare(spec, 5, &self.path("cache"), &count).unwrap();
        (prepared, steps.into_inner())
    }
}

/// Rows whose first value is their number, from 1 on.
fn numbered(rows: usize) -> Array2<f32> {
    let mut values = small_integers(rows, 6, 1);
    values.column_mut(0).iter_mut().zip(1_u16..).for_each(|(x, i)| *x = i.into());
    values
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
    let prepared_3 = prepare(&spec, 3, &place.path("cache"), &|_| true).unwrap();
    let prepared_99 = prepare(&spec, 99, &place.path("cache"), &|_| true).unwrap();
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
    for (part, rows) in
        [("base", &base), ("queries", &read(&prepared.queries)), ("train", &read(&prepared.train))]
    {
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
    let before = (place.kept(), entry.metadata().unwrap().ino());

    spec.name = "another label".into();
    let (mut second, steps) = place.prepare_counting(&spec);
    assert_eq!(steps, 0);
    let after = (place.kept(), entry.metadata().unwrap().ino());
    assert!(before == after, "the folder is the same one");
    assert_eq!(second.name, "another label");
    second.name = first.name.clone();
    assert_eq!(second, first);
}

#[test]
fn what_is_damaged_is_made_again_and_only_that_with_a_notice() {
    let place = Place::new();
    let mut spec = place.spec();
    spec.train = Train::Sample(20);
    let prepared = place.prepare(&spec).unwrap();
    let whole = place.kept();
    assert_eq!(whole.len(), 7, "absent, held, rows, two manifests, truth, about: {whole:?}");
    for path in whole.keys().filter(|path| !path.ends_with("about")) {
        let length = whole[path].len();
        for change in [None, Some(0), Some(length - 2), Some(length + 4), Some(length)] {
            match change {
                None => fs::remove_file(path).unwrap(),
                Some(to) => {
                    let mut damaged = whole[path].clone();
                    // Of the same length: one bit, in what the file says.
                    damaged[length / 3] ^= u8::from(to == length);
                    damaged.resize(to, b'}');
                    fs::write(path, damaged).unwrap();
                }
            }
            let others = |path: &PathBuf| {
                let all = whole.keys().filter(|other| other.parent() != path.parent());
                all.map(|path| path.metadata().unwrap().ino()).collect::<Vec<_>>()
            };
            let before = others(path);
            let mut again = place.prepare(&spec).unwrap();
            let notices = std::mem::take(&mut again.notices);
            assert_eq!(again, prepared);
            assert!(place.kept() == whole, "{path:?} {change:?}");
            assert_eq!(others(path), before, "only this one");
            let gone = change.is_none() && path.ends_with("k6");
            assert_eq!(notices.len(), usize::from(!gone), "{path:?} {change:?} {notices:?}");
        }
    }
}

#[test]
fn parts_that_are_the_same_are_prepared_once() {
    let place = Place::new();
    let mut spec = place.spec();
    spec.queries = Queries::File(place.file("q.fbin", &small_integers(4, 6, 9)));
    // Of f16 rows something has to be written.
    let halves = place.values.mapv(half::f16::from_f32);
    let mut bytes = [500_u32.to_le_bytes(), 6_u32.to_le_bytes()].concat();
    bytes.extend(halves.iter().flat_map(|x| x.to_le_bytes()));
    fs::write(place.path("base.f16bin"), bytes).unwrap();
    spec.source = Source::File(place.path("base.f16bin"));
    let first = place.prepare(&spec).unwrap();
    let stages = |spec: &DatasetSpec, k| {
        let stages = std::sync::Mutex::new(Vec::new());
        let told = |at: Progress| {
            stages.lock().unwrap().push(at.stage);
            true
        };
        let prepared = prepare(spec, k, &place.path("cache"), &told).unwrap();
        assert_eq!(prepared.base, first.base);
        let mut stages = stages.into_inner().unwrap();
        stages.retain(|stage| *stage != "settle near ties");
        stages.dedup();
        stages
    };
    assert_eq!(stages(&spec, 9), ["find neighbours"]);
    spec.metric = Metric::Ip;
    assert_eq!(stages(&spec, 5), ["find neighbours"]);
    spec.train = Train::Sample(30);
    assert_eq!(stages(&spec, 5), ["sample train"]);
    spec.queries = Queries::File(place.file("r.fbin", &small_integers(4, 6, 8)));
    assert_eq!(stages(&spec, 5), ["read queries", "find neighbours"]);
}

#[test]
fn a_source_touched_copied_or_moved_is_the_same_one() {
    let place = Place::new();
    let mut spec = place.spec();
    let first = place.prepare(&spec).unwrap();
    let file = fs::File::options().append(true).open(place.path("base.fbin")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(place.prepare_counting(&spec), (first.clone(), 0));
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::copy(place.path("base.fbin"), place.path("elsewhere/b.fbin")).unwrap();
    fs::remove_file(place.path("base.fbin")).unwrap();
    spec.source = Source::File(place.path("elsewhere/b.fbin"));
    let (mut moved, steps) = place.prepare_counting(&spec);
    assert!(steps == 0 && moved.base.path.ends_with("elsewhere/b.fbin"));
    moved.base.path.clone_from(&first.base.path);
    moved.train.path.clone_from(&first.base.path);
    assert_eq!(moved, first);
}

#[test]
fn equal_sources_that_serve_as_they_are_are_each_read_where_they_are() {
    let place = Place::new();
    let mut spec = place.spec();
    spec.queries = Queries::File(place.file("q.fbin", &small_integers(4, 6, 9)));
    let first = place.prepare(&spec).unwrap();
    spec.source = Source::File(place.file("copy.fbin", &place.values));
    let (second, steps) = place.prepare_counting(&spec);
    assert_eq!(steps, 0);
    assert!(first.base.path.ends_with("base.fbin") && second.base.path.ends_with("copy.fbin"));
    fs::remove_file(place.path("copy.fbin")).unwrap();
    assert!(first.unchanged().is_ok());
    let error = second.unchanged().unwrap_err();
    assert!(error.to_string().ends_with("copy.fbin was removed since it was prepared"));
}

#[test]
fn a_source_that_changes_later_or_whose_link_leads_elsewhere_is_told() {
    let place = Place::new();
    let link = place.path("link.fbin");
    std::os::unix::fs::symlink("base.fbin", &link).unwrap();
    let prepared = place.prepare(&spec(link.clone())).unwrap();
    assert!(prepared.unchanged().is_ok());
    // A copy of the same contents leads nowhere else; other contents do.
    let mut values = place.values.clone();
    for (to, same) in [("copy.fbin", true), ("other.fbin", false)] {
        place.file(to, &values);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(to, &link).unwrap();
        assert_eq!(prepared.unchanged().is_ok(), same, "{to}");
        values[(3, 3)] += 1.0;
    }
    let of = place.prepare(&place.spec()).unwrap();
    let mut bytes = fs::read(place.path("base.fbin")).unwrap();
    bytes[100] ^= 1;
    fs::write(place.path("base.fbin"), bytes).unwrap();
    let error = of.unchanged().unwrap_err().to_string();
    assert!(error.ends_with("base.fbin changed since it was prepared"), "{error}");
}

#[test]
fn a_source_that_changes_while_it_is_read_leaves_nothing() {
    let place = Place::new();
    let error = prepare(&place.spec(), 5, &place.path("cache"), &|at| {
        if at.stage == "sum covariance" {
            let mut bytes = fs::read(place.path("base.fbin")).unwrap();
            bytes[100] ^= 1;
            fs::write(place.path("base.fbin"), bytes).unwrap();
        }
        true
    });
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("base.fbin changed while it was being prepared"), "{error}");
    assert!(place.kept().is_empty());
}

#[test]
fn a_cache_that_can_only_be_read_serves_what_it_has() {
    let place = Place::new();
    let prepared = place.prepare(&place.spec()).unwrap();
    let set = |mode| {
        for name in ["cache", "cache/rows", "cache/truth", "cache/sources"] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(place.path(name), mode).unwrap();
        }
    };
    set(0o555);
    // Root may write anyway, and so changes nothing here.
    let again = place.prepare(&place.spec());
    let mut other = place.spec();
    other.limit = Some(99);
    let refused = prepare(&other, 5, &place.path("cache"), &|_| true);
    set(0o755);
    assert_eq!(again.unwrap(), prepared);
    if let Err(error) = refused {
        assert_eq!(error.blame, Blame::Cache);
        assert!(error.error.remedy().unwrap().contains("--cache-dir"));
    }
}

#[test]
fn a_default_number_of_queries_shrinks_to_a_tenth_of_a_small_file() {
    let place = Place::new();
    let mut spec = place.spec();
    spec.queries = Queries::HoldOutUpTo(500);
    for (limit, held, noted) in [(None, 50, true), (Some(19), 1, true), (Some(2), 1, true)] {
        spec.limit = limit;
        let prepared = place.prepare(&spec).unwrap();
        assert_eq!(prepared.queries.rows, held);
        assert_eq!(prepared.notes.len(), usize::from(noted), "{:?}", prepared.notes);
    }
    spec.queries = Queries::HoldOutUpTo(50);
    spec.limit = None;
    assert!(place.prepare(&spec).unwrap().notes.is_empty());
    spec.limit = Some(1);
    let error = place.prepare(&spec).unwrap_err();
    assert!(matches!(error, DataError::HoldOut { hold_out: 1, rows: 1 }));
}

#[test]
fn large_rows_that_are_damaged_are_found_when_they_are_read_and_made_again() {
    VERIFIED_WHOLE.set(1000);
    let place = Place::new();
    // Rows of unit length are not read where they are.
    let spec = DatasetSpec { metric: Metric::Cosine, ..place.spec() };
    let prepared = place.prepare(&spec).unwrap();
    assert!(prepared.base.blocks.is_some() && prepared.queries.blocks.is_none());
    let whole = place.kept();
    let damage = || {
        let mut bytes = fs::read(&prepared.base.path).unwrap();
        bytes[5000] ^= 1;
        fs::write(&prepared.base.path, bytes).unwrap();
    };
    // A cell finds it: the host asks, and the next preparation mends it.
    damage();
    assert_eq!(place.prepare_counting(&spec).1, 0, "nothing is read");
    assert!(prepared.base.open().unwrap().read_all().is_err());
    let error = prepared.discard_damaged().unwrap_err();
    assert!(matches!(error, DataError::Damaged { .. }), "{error}");
    assert_eq!(place.prepare(&spec).unwrap().notices.len(), 1);
    prepared.discard_damaged().unwrap();
    // The preparation itself finds it, where it needs the rows.
    damage();
    fs::remove_file(&prepared.truth.path).unwrap();
    assert_eq!(place.prepare(&spec).unwrap().notices.len(), 1);
    assert!(place.kept() == whole);
}

#[test]
fn digests_that_cell_keys_are_made_of_stay_what_they_were() {
    // Of version 0.1.0's first layout of the cache; stores hold them.
    let place = Place::new();
    let queries = place.file("q.fbin", &small_integers(4, 6, 9));
    let mut held = place.spec();
    held.train = Train::Sample(20);
    let mut cosine = place.spec();
    cosine.queries = Queries::File(queries);
    cosine.train = Train::File(place.path("base.fbin"));
    cosine.limit = Some(200);
    cosine.metric = Metric::Cosine;
    let mut synthetic = place.spec();
    let kind = SyntheticKind::Clustered;
    synthetic.source = Source::Synthetic(Synthetic { kind, n: 300, dim: 6, seed: 3 });
    synthetic.metric = Metric::Ip;
    // Of 2,000 rows or more, from before any were kept apart.
    let large = |kind, n, dim, seed, held, train| DatasetSpec {
        source: Source::Synthetic(Synthetic { kind, n, dim, seed }),
        queries: Queries::HoldOut(held),
        train,
        ..place.spec()
    };
    let base = large(SyntheticKind::Clustered, 3000, 6, 3, 100, Train::Base);
    let mut sample = large(SyntheticKind::Gaussian, 5000, 8, 1, 500, Train::Sample(1000));
    sample.metric = Metric::Ip;
    let mut limited = large(SyntheticKind::LowRank, 4000, 16, 2, 50, Train::Sample(9999));
    (limited.limit, limited.metric) = (Some(2500), Metric::Cosine);
    let small = large(SyntheticKind::Uniform, 1999, 5, 4, 10, Train::Reserved(None));
    for (spec, digest) in [
        (held, "d517dfd0e9e9795ad9f1535ffa9146705e488060e0844dc48b3163c94be6de78"),
        (cosine, "a6bf06004e2a9d8d9bd0119d23e591cc45f8d52a8f4945c79011ab051b16db14"),
        (synthetic, "ac523d5366691ee690c6fdf308d589b449069203d15fbae880de07757e92a5c3"),
        (base, "5bef5ab1b7699c86ef0abd904a205fdd98732c945194decb63408cb9b547d998"),
        (sample, "f273b8d4a0c46b6de915fde607d38780f5c19bc5845c4a241ab2dc5a053390d3"),
        (limited, "a28aef7dd7a79aa806bca5a9ca1a2ab2b1bc87e39895279915eb4c597cb172e9"),
        (small, "b6a076cb921e92b0daa4c764c57e28979eee6de0be29e586d033f4c5f22d88f2"),
    ] {
        assert_eq!(place.prepare(&spec).unwrap().digest, digest);
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
        thin: None,
        metric: Metric::Cosine,
        own_metric: false,
        unusable: UnusableRows::Told,
        neighbours: None,
    };
    for kind in [SyntheticKind::Clustered, SyntheticKind::LowRank] {
        let results = [1, 2, 5].map(|threads| {
            let cache = tempfile::tempdir().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let prepared =
                pool.install(|| prepare(&spec(kind), 10, cache.path(), &|_| true).unwrap());
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
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| place.prepare(&spec).unwrap())).collect();
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
    assert!(!place.path("cache").exists(), "a failure leaves nothing");
}

#[test]
fn a_prepared_dataset_survives_json() {
    let place = Place::new();
    let prepared = place.prepare(&place.spec()).unwrap();
    let text = serde_json::to_string(&prepared).unwrap();
    assert_eq!(serde_json::from_str::<Prepared>(&text).unwrap(), prepared);
}

#[test]
fn a_thinned_base_leaves_queries_and_training_rows_as_they_are() {
    let place = Place::new();
    let mut spec = place.spec();
    spec.source = Source::File(place.file("many.fbin", &numbered(2400)));
    spec.train = Train::Reserved(None);
    let whole = place.prepare(&spec).unwrap();
    spec.thin = Some(200);
    let thinned = place.prepare(&spec).unwrap();
    assert_eq!((&thinned.queries, &thinned.train), (&whole.queries, &whole.train));
    assert!(thinned.digest != whole.digest && thinned.train_apart);
    let row = |file: &RowFile| read(file).column(0).mapv(|x| x as usize).to_vec();
    let (all, drawn) = (row(&whole.base), row(&thinned.base));
    assert!(drawn.len() == 200 && drawn.is_sorted_by(|a, b| a < b));
    assert!(drawn.iter().all(|row| all.contains(row)));
    // Statistics and neighbours are of the rows that are left.
    let mean = read(&thinned.base).column(0).mapv(f64::from).mean().unwrap();
    assert!((thinned.mean[0] - mean).abs() < 1e-9 && !thinned.spectrum.is_empty());
    assert_eq!(place.prepare(&spec).unwrap(), thinned, "taken from the cache");
    spec.thin = Some(5000);
    assert_eq!(place.prepare(&spec).unwrap().digest, whole.digest, "no more than there is");
}

#[test]
fn rows_to_learn_from_are_neither_in_the_base_nor_among_the_queries() {
    let place = Place::new();
    let values = numbered(2400);
    let mut spec = place.spec();
    spec.source = Source::File(place.file("many.fbin", &values));
    spec.queries = Queries::HoldOut(100);
    spec.train = Train::Base;
    let old = place.prepare(&spec).unwrap();
    assert_eq!((old.train_apart, &old.train, old.base.rows), (false, &old.base, 2300));
    spec.train = Train::Reserved(None);
    let prepared = place.prepare(&spec).unwrap();
    assert!(prepared.train_apart && prepared.notes.is_empty(), "{:?}", prepared.notes);
    assert_eq!(prepared.queries.rows, 100);
    assert_eq!(read(&prepared.queries), read(&old.queries), "the same ones are held out");
    let row = |file: &RowFile| read(file).column(0).mapv(|x| x as usize - 1).to_vec();
    let parts = [&prepared.base, &prepared.train, &prepared.queries].map(row);
    assert_eq!(parts.each_ref().map(Vec::len), [1150, 1150, 100]);
    assert!(parts.iter().all(|part| part.is_sorted()));
    let all: HashSet<usize> = parts.iter().flatten().copied().collect();
    assert_eq!(all.len(), 2400, "disjoint, and nothing is lost");
    assert_eq!(read(&prepared.base), values.select(Axis(0), &parts[0]));

    // Another sample is of the same reserve, and changes nothing else.
    let reserve: HashSet<usize> = parts[1].iter().copied().collect();
    for count in [1, 40, 1149] {
        spec.train = Train::Reserved(Some(count));
        let sampled = place.prepare(&spec).unwrap();
        let drawn = row(&sampled.train);
        assert!(drawn.len() == count && drawn.is_sorted_by(|a, b| a < b));
        assert!(drawn.iter().all(|row| reserve.contains(row)) && sampled.train_apart);
        assert_eq!(
            (&sampled.base, &sampled.queries, &sampled.truth),
            (&prepared.base, &prepared.queries, &prepared.truth)
        );
    }
    for (count, notes) in [(1150, 0), (1151, 1)] {
        spec.train = Train::Reserved(Some(count));
        let sampled = place.prepare(&spec).unwrap();
        assert_eq!((&sampled.train, &sampled.digest), (&prepared.train, &prepared.digest));
        assert_eq!(sampled.notes.len(), notes, "{:?}", sampled.notes);
    }
}

#[test]
fn how_many_rows_are_reserved_depends_on_the_source_alone() {
    let place = Place::new();
    let mut spec = place.spec();
    spec.source = Source::File(place.file("many.fbin", &numbered(2100)));
    spec.queries = Queries::File(place.file("q.fbin", &small_integers(4, 6, 9)));
    for train in [Train::Reserved(None), Train::Reserved(Some(20))] {
        spec.train = train.clone();
        for (limit, rows, apart) in
            [(None, 1050, true), (Some(2000), 1000, true), (Some(1999), 1999, false)]
        {
            spec.limit = limit;
            let prepared = place.prepare(&spec).unwrap();
            assert_eq!((prepared.base.rows, prepared.train_apart), (rows, apart));
            let told = prepared.notes.iter().any(|note| note.contains("too few to keep some"));
            assert_eq!(told, !apart, "{:?}", prepared.notes);
            let old = match train {
                Train::Reserved(Some(count)) => Train::Sample(count),
                _ => Train::Base,
            };
            let old = place.prepare(&DatasetSpec { train: old, ..spec.clone() }).unwrap();
            assert_eq!(old.digest == prepared.digest, !apart, "as it always was");
        }
    }
    // Nothing is left to be reserved, and one row to be searched.
    spec.limit = None;
    spec.queries = Queries::HoldOut(2099);
    let prepared = place.prepare(&spec).unwrap();
    assert_eq!((prepared.base.rows, prepared.train_apart), (1, false));
}

#[test]
fn rows_read_where_they_are_are_those_of_a_copy() {
    let place = Place::new();
    // The same rows, in a format that is read where it is, and in one that is not.
    let values = numbered(3000).mapv(|x| x % 256.0);
    let copied = values.mapv(|x| x as i8 as f32);
    let mut bytes = [3000_u32.to_le_bytes(), 6_u32.to_le_bytes()].concat();
    bytes.extend(values.iter().map(|x| *x as i8 as u8));
    fs::write(place.path("many.i8bin"), bytes).unwrap();
    let raw = place.file("many.fbin", &copied);
    let spec = |source, train| DatasetSpec { train, ..spec(source) };
    for train in [Train::Reserved(None), Train::Sample(70), Train::Base] {
        let here = place.prepare(&spec(raw.clone(), train.clone())).unwrap();
        let copy = place.prepare(&spec(place.path("many.i8bin"), train)).unwrap();
        assert!(here.base.absent.is_some() && here.base.path.ends_with("many.fbin"));
        assert!(copy.base.absent.is_none() && copy.base.path.ends_with("rows.f32"));
        assert_eq!(read(&here.base), read(&copy.base));
        assert_eq!(
            (&here.digest, &here.truth, &here.mean, &here.spectrum, &here.facts),
            (&copy.digest, &copy.truth, &copy.mean, &copy.spectrum, &copy.facts)
        );
    }
    let bytes: u64 = crate::data::inventory(&place.path("cache"))
        .unwrap()
        .iter()
        .filter(|kept| kept.from.ends_with("many.fbin") && kept.part == "base")
        .map(|kept| kept.bytes)
        .sum();
    assert!(bytes < 50_000, "{bytes}: two lists and a reserve, no base of 72,000 bytes");
}

#[test]
fn a_file_of_training_rows_is_apart_unless_it_is_the_bases() {
    let place = Place::new();
    let copy = place.file("copy.fbin", &place.values);
    let mut other = place.values.clone();
    other[(7, 1)] += 1.0;
    let other = place.file("other.fbin", &other);
    let queries = place.file("q.fbin", &small_integers(4, 6, 9));
    for queries in [Queries::HoldOut(10), Queries::File(queries)] {
        for (train, apart) in
            [(place.path("base.fbin"), false), (copy.clone(), false), (other.clone(), true)]
        {
            let mut spec = place.spec();
            (spec.queries, spec.train) = (queries.clone(), Train::File(train.clone()));
            let prepared = place.prepare(&spec).unwrap();
            assert_eq!(prepared.train_apart, apart);
            spec.limit = Some(400);
            let limited = place.prepare(&spec).unwrap();
            assert_eq!(limited.train_apart, train != place.path("base.fbin"));
            assert_eq!(prepared.notes.len(), usize::from(!apart), "{:?}", prepared.notes);
            assert_eq!(prepared.train.rows, 500);
        }
    }
}

#[test]
fn what_is_peculiar_is_counted_and_told_where_it_matters() {
    let place = Place::new();
    // Each row twice; the last two rows are zero.
    let mut values = numbered(600);
    for row in 0..600 {
        let first = values.row(row / 2 * 2).to_owned();
        values.row_mut(row).assign(&first);
    }
    values.slice_mut(s![598.., ..]).fill(0.0);
    let mut queries = small_integers(50, 6, 9) + 5000.0;
    queries.slice_mut(s![..3, ..]).fill(-0.0);
    queries.row_mut(3).assign(&values.row(10));
    let mut spec = spec(place.file("twice.fbin", &values));
    spec.queries = Queries::File(place.file("q.fbin", &queries));
    for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
        spec.metric = metric;
        let prepared = place.prepare(&spec).unwrap();
        let Facts { synthetic, zero_queries, queries_in_base, duplicate_rows, tied_queries } =
            prepared.facts;
        assert_eq!((synthetic, zero_queries), (false, 3));
        // Of unit length, more of these may be one.
        assert!(queries_in_base == 4 || metric == Metric::Cosine && queries_in_base >= 4);
        assert!(duplicate_rows == 300 || metric == Metric::Cosine && duplicate_rows >= 300);
        // Five neighbours of pairs: the fifth is half of one.
        assert!(tied_queries >= 45, "{tied_queries}");
        let told = |text: &str| prepared.notes.iter().any(|note| note.starts_with(text));
        assert_eq!(told("3 of 50 queries are zero: every row"), metric != Metric::L2);
        assert!(told(&format!("{queries_in_base} of 50 queries are identical to a base row")));
        assert!(told(&format!("{duplicate_rows} of 600 base rows are identical")));
        assert_eq!(place.prepare(&spec).unwrap(), prepared, "also from the cache");
    }
    // Of each pair that a query is taken from, the other row stays.
    spec.queries = Queries::HoldOut(20);
    spec.metric = Metric::L2;
    let prepared = place.prepare(&spec).unwrap();
    let held = read(&prepared.queries);
    let pairs: HashSet<u32> = held.column(0).iter().map(|x| *x as u32).collect();
    assert_eq!(prepared.facts.queries_in_base, 20 - 2 * (20 - pairs.len() as u64));
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

#[test]
fn of_many_that_want_the_same_data_at_once_one_prepares_it() {
    let place = Place::new();
    let stages = std::sync::Mutex::new(Vec::new());
    let digests: HashSet<String> = std::thread::scope(|scope| {
        let prepare = || {
            let tell = |now: Progress| {
                if now.done == now.total && now.total > 0 {
                    stages.lock().unwrap().push(now.stage);
                }
                true
            };
            prepare(&place.spec(), 5, &place.path("cache"), &tell).unwrap().digest
        };
        let all: Vec<_> = (0..16).map(|_| scope.spawn(prepare)).collect();
        all.into_iter().map(|of| of.join().unwrap()).collect()
    });
    assert_eq!(digests.len(), 1);
    // As often as by one alone.
    let together = stages.into_inner().unwrap();
    let alone = std::sync::Mutex::new(Vec::new());
    let tell = |now: Progress| {
        if now.done == now.total && now.total > 0 {
            alone.lock().unwrap().push(now.stage);
        }
        true
    };
    prepare(&place.spec(), 5, &place.path("another cache"), &tell).unwrap();
    let alone = alone.into_inner().unwrap();
    assert!(alone.contains(&"find neighbours"), "{alone:?}");
    assert_eq!(together, alone);
}

#[test]
fn rows_that_cannot_be_measured_are_dropped_or_refused_as_is_asked() {
    let place = Place::new();
    let mut values = place.values.clone();
    values[(3, 1)] = f32::NAN;
    values[(499, 0)] = f32::INFINITY;
    values.row_mut(70).fill(0.0);
    let mut queries = numbered(4) + 0.5;
    queries.row_mut(2).fill(0.0);
    let mut spec = spec(place.file("odd.fbin", &values));
    spec.queries = Queries::File(place.file("queries.fbin", &queries));
    let error = place.prepare(&spec).unwrap_err();
    assert!(matches!(error, DataError::NonFinite { row: 3, column: 1, .. }), "{error}");

    // Where they are in place, and copied at unit length.
    spec.unusable = UnusableRows::Dropped;
    let finite: Vec<usize> = (0..500).filter(|row| ![3, 499].contains(row)).collect();
    let prepared = place.prepare(&spec).unwrap();
    assert_eq!(prepared.base.path, place.path("odd.fbin").canonicalize().unwrap());
    assert_eq!(read(&prepared.base), values.select(Axis(0), &finite));
    assert_eq!(prepared.queries.rows, 4, "zeros are as good as others under l2");
    let left_out = |of: &Prepared| of.notes.iter().find(|note| note.contains("left out")).cloned();
    let told = "2 rows are left out: they have a NaN or an infinity";
    assert_eq!(left_out(&prepared).as_deref(), Some(told));
    spec.metric = Metric::Cosine;
    let prepared = place.prepare(&spec).unwrap();
    let usable: Vec<usize> = finite.iter().copied().filter(|row| *row != 70).collect();
    let mut expected = values.select(Axis(0), &usable);
    crate::data::rows::normalise(&mut expected);
    assert_eq!(read(&prepared.base), expected);
    assert_eq!(read(&prepared.queries), {
        let mut left = queries.select(Axis(0), &[0, 1, 3]);
        crate::data::rows::normalise(&mut left);
        left
    });
    assert!(left_out(&prepared).unwrap().starts_with("4 rows are left out"));

    // Held out, kept apart or staying: whatever is dropped is in no part.
    let mut many = Array2::from_shape_fn((3000, 2), |(row, k)| (row * 2 + k + 1) as f32);
    (0..3000).step_by(3).for_each(|row| many[(row, 1)] = f32::NAN);
    let mut apart = super::super::testing::spec(place.file("many.fbin", &many));
    (apart.train, apart.unusable) = (Train::Reserved(None), UnusableRows::Dropped);
    apart.queries = Queries::HoldOut(300);
    let prepared = place.prepare(&apart).unwrap();
    let mut firsts: Vec<f32> = [&prepared.base, &prepared.queries, &prepared.train]
        .iter()
        .flat_map(|part| read(part).column(0).to_vec())
        .collect();
    firsts.sort_by(f32::total_cmp);
    let expected = (0..3000).filter(|row| row % 3 > 0).map(|row| (row * 2 + 1) as f32);
    assert_eq!(firsts, expected.collect::<Vec<_>>());

    let mut zero = spec.clone();
    zero.unusable = UnusableRows::Refused;
    zero.source = Source::File(place.file("zero.fbin", &values.select(Axis(0), &[0, 1, 70])));
    let error = place.prepare(&zero).unwrap_err();
    assert!(matches!(error, DataError::ZeroRow { row: 2, .. }), "{error}");
    let nothing = Array2::from_elem((3, values.ncols()), f32::NAN);
    spec.source = Source::File(place.file("nothing.fbin", &nothing));
    let error = place.prepare(&spec).unwrap_err();
    assert!(matches!(error, DataError::NoneLeft { part: "base", .. }), "{error}");
}
