//! What is refused, and what is told of rows.

use super::*;

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
    let mut apart = crate::data::testing::spec(place.file("many.fbin", &many));
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
