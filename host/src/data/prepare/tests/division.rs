//! Which rows are base, queries and training rows.

use super::*;

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
