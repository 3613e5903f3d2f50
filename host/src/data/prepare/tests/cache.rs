//! What is kept, found again and made again.

use super::*;

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
fn a_prepared_dataset_survives_json() {
    let place = Place::new();
    let prepared = place.prepare(&place.spec()).unwrap();
    let text = serde_json::to_string(&prepared).unwrap();
    assert_eq!(serde_json::from_str::<Prepared>(&text).unwrap(), prepared);
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
