use super::*;
use ndarray::Array2;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const DISTANCES: [Distance; 2] = [Distance::L2Sq, Distance::NegativeProduct];

/// All f64 distances, sorted.
fn by_full_sort(
    rows: &Array2<f32>,
    queries: &Array2<f32>,
    by: Distance,
    k: usize,
) -> Vec<Vec<Neighbour>> {
    let of = |x: ndarray::ArrayView1<'_, f32>| {
        let rows = rows.rows().into_iter().zip(0..);
        let mut all: Vec<Neighbour> = rows
            .map(|(row, id)| Neighbour { distance: by.of(slice(&x), slice(&row)), id })
            .collect();
        all.sort();
        all.truncate(k);
        all
    };
    queries.rows().into_iter().map(of).collect()
}

fn mean(rows: &Array2<f32>) -> Vec<f64> {
    rows.columns()
        .into_iter()
        .map(|column| column.iter().map(|x| f64::from(*x)).sum::<f64>() / rows.nrows() as f64)
        .collect()
}

/// Compares with sorting everything, by both distances, for blocks of `step` rows, the last first where that is odd;
/// once more where they come in groups.
#[track_caller]
fn check(rows: &Array2<f32>, queries: &Array2<f32>, k: usize, step: usize) {
    for by in DISTANCES {
        let expected = by_full_sort(rows, queries, by, k);
        for trial in [Trial::new(), Trial::at_once()] {
            let mut knn = Knn::new(queries.view(), by, k, &mean(rows));
            knn.trial = trial;
            let mut blocks: Vec<_> = rows.axis_chunks_iter(Axis(0), step).enumerate().collect();
            if step % 2 == 1 {
                blocks.reverse();
            }
            for (i, block) in blocks {
                knn.push((i * step) as u32, block);
            }
            for (query, (found, expected)) in knn.finish().iter().zip(&expected).enumerate() {
                assert_eq!(&found.nearest, expected, "query {query} by {by:?}, {trial:?}");
            }
        }
    }
}

/// Uniform in −1..1.
fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
}

fn random(n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((n, d), || uniform(&mut rng))
}

#[test]
fn ordinary_rows_are_found_in_blocks_of_any_size() {
    let (rows, queries) = (random(3000, 19, 1), random(70, 19, 2));
    for (k, step) in [(1, 3000), (10, 7), (100, 1000), (1000, 999), (5000, 1024)] {
        check(&rows, &queries, k, step);
    }
}

#[test]
fn rows_far_from_the_origin_are_told_apart() {
    // Metres of an earth-centred frame: f32 has steps of half a metre there.
    let at = [4_208_848.0, 2_334_863.0, 4_171_170.0];
    let there = |n, seed| {
        let mut rows = random(n, 3, seed);
        for mut row in rows.rows_mut() {
            for (x, at) in row.iter_mut().zip(at) {
                *x = (f64::from(*x) * 10_000.0 + at) as f32;
            }
        }
        rows
    };
    check(&there(5000, 1), &there(100, 2), 10, 5000);
}

#[test]
fn two_clouds_on_either_side_leave_the_centre_where_nobody_is() {
    let mut rows = random(2000, 8, 3);
    rows.slice_mut(s![..1000, ..]).mapv_inplace(|x| x + 1e6);
    rows.slice_mut(s![1000.., ..]).mapv_inplace(|x| x - 1e6);
    let queries = rows.slice(s![..;50, ..]).to_owned();
    check(&rows, &queries, 5, 700);
}

#[test]
fn ties_go_to_the_lowest_row_and_equal_rows_cost_little() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let of_few = random(40, 16, 5);
    let rows = Array2::from_shape_fn((6000, 16), |_| 0.0);
    let mut rows = rows;
    for mut row in rows.rows_mut() {
        row.assign(&of_few.row((rng.next_u32() % 40) as usize));
    }
    check(&rows, &random(50, 16, 6), 30, 1500);
    let bits = random(3000, 12, 7).mapv(f32::signum);
    check(&bits, &random(50, 12, 8).mapv(f32::signum), 40, 1000);
    let equal = Array2::from_elem((500, 6), 0.3);
    check(&equal, &random(9, 6, 9), 20, 100);
    check(&equal, &equal.slice(s![..3, ..]).to_owned(), 20, 100);
}

#[test]
fn the_first_rows_are_nearest_to_a_zero_query_also_in_groups_and_last() {
    let rows = random(300, 3, 21);
    let queries = Array2::zeros((2, 3));
    let mut knn = Knn::new(queries.view(), Distance::NegativeProduct, 30, &mean(&rows));
    knn.trial = Trial::at_once();
    for (first, next) in [(200, 300), (180, 200), (0, 180)] {
        knn.push(first as u32, rows.slice(s![first..next, ..]));
    }
    assert!(knn.pivots.is_some());
    for found in knn.finish() {
        assert_eq!(found.nearest.iter().map(|n| n.id).collect::<Vec<_>>(), Vec::from_iter(0..30));
    }
}

#[test]
fn zero_queries_and_rows_are_as_near_as_they_are() {
    let mut rows = random(600, 5, 10);
    rows.slice_mut(s![..;3, ..]).fill(0.0);
    rows.slice_mut(s![1..;3, ..]).fill(-0.0);
    let mut queries = random(20, 5, 11);
    queries.slice_mut(s![..;2, ..]).fill(0.0);
    check(&rows, &queries, 7, 250);
    check(&Array2::zeros((10, 5)), &queries, 3, 4);
}

#[test]
fn near_copies_of_unit_length_are_told_apart() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let mut rows = random(1, 24, 13).broadcast((3000, 24)).unwrap().to_owned();
    rows.mapv_inplace(|x| x + 1e-6 * uniform(&mut rng));
    for mut row in rows.rows_mut() {
        let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        row.mapv_inplace(|x| (f64::from(x) / norm) as f32);
    }
    let queries = rows.slice(s![..;60, ..]).to_owned();
    check(&rows, &queries, 10, 3000);
}

#[test]
fn one_row_one_query_and_one_dimension_are_enough() {
    check(&random(1, 1, 1), &random(1, 1, 2), 1, 1);
    check(&random(1, 33, 1), &random(3, 33, 2), 4, 1);
    check(&random(900, 1, 1), &random(30, 1, 2), 8, 100);
}

#[test]
fn searches_that_share_rows_find_what_each_finds_alone() {
    let rows = random(3000, 21, 1);
    // One far beyond what 16-bit integers reach, and one of a few queries.
    let queries = [random(70, 21, 2), random(5, 21, 3) * 1e9, random(3, 21, 4)];
    let mean = mean(&rows);
    for by in DISTANCES {
        let search = |x: usize| Knn::new(queries[x].view(), by, 3 + 7 * x, &mean);
        let mut together = [0, 1, 2].map(search);
        let mut alone = [0, 1, 2].map(search);
        for (i, block) in rows.axis_chunks_iter(Axis(0), 700).enumerate() {
            // Blocks of other scales, too.
            let block = &block * 8_f32.powi(i as i32);
            Knn::push_to(&mut together.each_mut(), (i * 700) as u32, block.view());
            for search in &mut alone {
                search.push((i * 700) as u32, block.view());
            }
        }
        for (together, alone) in together.into_iter().zip(alone) {
            assert_eq!(together.finish(), alone.finish());
        }
    }
    Knn::push_to(&mut [], 0, rows.view());
}

#[test]
fn searches_in_groups_share_rows_with_others() {
    let rows = clusters(9, 3000, 10, 1);
    let queries = [clusters(9, 80, 10, 2), clusters(9, 70, 10, 3)];
    for by in DISTANCES {
        let mut searches = queries.each_ref().map(|x| Knn::new(x.view(), by, 5, &[0.0; 10]));
        // First in no groups, then together in groups, one of them alone, together again, with one that is in no group.
        for (i, block) in rows.axis_chunks_iter(Axis(0), 500).enumerate() {
            let first = (500 * i) as u32;
            let [one, other] = &mut searches;
            match i {
                2 | 4 => {
                    one.push(first, block);
                    other.push(first, block);
                }
                _ => Knn::push_to(&mut [one, other], first, block),
            }
            assert!(searches.iter().all(|search| search.pivots.is_some() == (i > 0)));
            match i {
                0 => searches.iter_mut().for_each(|search| search.trial = Trial::at_once()),
                4 => searches[1].pivots = None,
                _ => {}
            }
            if i == 4 {
                break;
            }
        }
        let [one, other] = &mut searches;
        Knn::push_to(&mut [one, other], 2500, rows.slice(s![2500.., ..]));
        for (knn, queries) in searches.into_iter().zip(&queries) {
            let found: Vec<_> = knn.finish().into_iter().map(|found| found.nearest).collect();
            assert_eq!(found, by_full_sort(&rows, queries, by, 5));
        }
    }
}

/// `count` clusters of radius about 1, ten times as far from each other; `which` rows of them.
fn clusters(count: usize, n: usize, d: usize, which: u64) -> Array2<f32> {
    let centres = random(count, d, 77) * 10.0;
    let mut rows = random(n, d, which);
    for (i, mut row) in rows.rows_mut().into_iter().enumerate() {
        row += &centres.row(i * 7 % count);
    }
    rows
}

#[test]
fn groups_leave_out_most_of_what_lies_in_clusters() {
    let (rows, queries) = (clusters(20, 6000, 24, 1), clusters(20, 300, 24, 2));
    for (by, most) in [(Distance::L2Sq, 0.27), (Distance::NegativeProduct, 0.6)] {
        let expected = by_full_sort(&rows, &queries, by, 10);
        let mut knn = Knn::new(queries.view(), by, 10, &mean(&rows));
        knn.trial = Trial::at_once();
        let mut works = Vec::new();
        for (i, rows) in rows.axis_chunks_iter(Axis(0), 2000).enumerate() {
            Knn::group_when_due(&mut [&mut knn], rows);
            let block = Block::of(rows, knn.pivots.as_deref());
            works.push(Knn::meet(&mut [&mut knn], (i * 2000) as u32, &block));
        }
        let all = |work: &Work| work.asked == work.all;
        assert!(works.iter().all(|work| work.all == 600_000) && all(&works[0]));
        if crate::int16::available() {
            let asked = works[1..].iter().map(|work| work.asked).sum::<u64>() as f64;
            assert!(asked < most * 1.2e6, "{by:?}: {works:?}");
        } else {
            println!("skipped: this CPU has no AVX-512 VNNI");
        }
        for (query, (found, expected)) in knn.finish().iter().zip(&expected).enumerate() {
            assert_eq!(&found.nearest, expected, "query {query} by {by:?}");
        }
    }
}

#[test]
fn groups_are_made_when_due_and_given_up_where_they_save_little() {
    if !crate::int16::available() {
        println!("skipped: this CPU has no AVX-512 VNNI");
        return;
    }
    let (n, queries) = (BLOCK_ROWS, clusters(20, 1200, 24, 2));
    let some = queries.slice(s![..;60, ..]).to_owned();
    for (rows, kept) in [(clusters(20, 3 * n, 24, 1), true), (random(3 * n, 24, 1), false)] {
        for by in DISTANCES {
            let mut knn = Knn::new(queries.view(), by, 10, &mean(&rows));
            let mut grouped = Vec::new();
            for (i, block) in rows.axis_chunks_iter(Axis(0), n).enumerate() {
                knn.push((i * n) as u32, block);
                grouped.push((knn.pivots.is_some(), !knn.order.is_empty()));
                // Much else was met.
                knn.trial.add(Work { all: 1 << 28, ..Work::default() });
            }
            assert_eq!(grouped, [(false, false), (kept, true), (kept, true)], "{by:?}");
            let found = knn.finish().into_iter().step_by(60).map(|found| found.nearest);
            assert_eq!(found.collect::<Vec<_>>(), by_full_sort(&rows, &some, by, 10), "{by:?}");
        }
    }
}

#[test]
fn groups_wait_for_work_and_for_queries() {
    let mut trial = Trial::new();
    let work = Work { asked: 0, all: 10_000_000, rows: 1000 };
    let due: Vec<bool> = (0..30).map(|_| (trial.is_due(9999), trial.add(work)).0).collect();
    let first = crate::int16::available().then_some(27);
    assert_eq!(due.iter().position(|due| *due), first);
    assert!(!trial.is_due(1000));
    trial.begin();
    assert!(!trial.is_due(9999));
    // A row costs what 512 queries ask of it.
    for (asked, failed) in [(487, false), (489, true)] {
        trial.add(Work { asked: 50 * asked, all: 50_000, rows: 50 });
        assert!(!trial.has_failed(128, 100));
        trial.add(Work { asked: 50 * asked, all: 50_000, rows: 50 });
        assert_eq!(trial.has_failed(128, 100), failed);
    }
}

#[test]
fn rows_on_the_edge_of_what_is_left_out_are_found() {
    // Whole numbers on a line: distances from pivots are those of many rows, and many rows tie.
    let line = |n: usize, step: usize| {
        Array2::from_shape_fn(
            (n, 2),
            |(i, axis)| if axis == 0 { (i * step % 512) as f32 } else { 3.0 },
        )
    };
    check(&line(4096, 5), &line(100, 37), 9, 512);
    // Rows that are their pivots, and one far from all.
    let mut rows = line(2048, 64);
    rows[(1999, 1)] = 1e6;
    check(&rows, &rows.slice(s![1990..2010, ..]).to_owned(), 300, 512);
}

#[test]
fn identical_rows_are_told() {
    let rows = random(300, 4, 1);
    let mut queries = random(4, 4, 2);
    queries.row_mut(2).assign(&rows.row(77));
    let mut knn = Knn::new(queries.view(), Distance::L2Sq, 1, &[0.0; 4]);
    knn.push(0, rows.view());
    let identical: Vec<bool> = knn.finish().iter().map(|found| found.identical).collect();
    assert_eq!(identical, [false, false, true, false]);
}

/// How rows and queries are made.
#[derive(Clone, Copy, Debug)]
struct Made {
    seed: u64,
    /// Power of ten of the unit.
    scale: i32,
    /// Power of ten of where the origin is.
    offset: Option<i32>,
    /// Values are whole multiples of this part of the unit: ties.
    grid: Option<u8>,
    /// Rows are up to 10^spread smaller than the unit.
    spread: i32,
    /// Rows are copies of so few, up to 10^−this.
    copies: Option<(u8, i32)>,
    /// Rows and queries have length 1.
    unit: bool,
    /// Some queries are rows.
    own: bool,
}

fn made() -> impl Strategy<Value = Made> {
    (
        any::<u64>(),
        -38_i32..=37,
        prop::option::of(-38_i32..=37),
        prop::option::of(1_u8..5),
        0_i32..12,
        prop::option::of((1_u8..6, 4_i32..40)),
        (any::<bool>(), any::<bool>()),
    )
        .prop_map(|(seed, scale, offset, grid, spread, copies, (unit, own))| Made {
            seed,
            scale,
            offset,
            grid,
            spread,
            copies,
            unit,
            own,
        })
}

impl Made {
    /// (n, d), finite; the same of the same `draw`.
    fn rows(self, draw: u64, n: usize, d: usize) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ draw);
        let at = self.offset.map_or(0.0, |e| 10_f32.powi(e));
        let mut rows = random(n, d, rng.next_u64());
        for mut row in rows.rows_mut() {
            let own = 10_f32.powi(-(rng.next_u32() as i32 & 0xFFFF) % (self.spread + 1));
            row.mapv_inplace(|x| {
                let x = self.grid.map_or(x, |g| (x * f32::from(g)).round() / f32::from(g));
                x * own
            });
        }
        if let Some((few, digits)) = self.copies {
            // Of both rows and queries.
            let of = random(usize::from(few), d, self.seed);
            for mut row in rows.rows_mut() {
                row *= 10_f32.powi(-digits);
                row += &of.row(rng.next_u32() as usize % usize::from(few));
            }
        }
        for mut row in rows.rows_mut() {
            row.mapv_inplace(|x| {
                let x = x * 10_f32.powi(self.scale) + at;
                if x.is_finite() { x } else { f32::MAX.copysign(x) }
            });
            let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            if self.unit && norm > 0.0 {
                row.mapv_inplace(|x| (f64::from(x) / norm) as f32);
            }
        }
        rows
    }

    fn check(self, n: usize, d: usize, k: usize, step: usize) {
        let (rows, mut queries) = (self.rows(1, n, d), self.rows(2, 9, d));
        if self.own {
            for (i, mut query) in queries.rows_mut().into_iter().enumerate().step_by(2) {
                query.assign(&rows.row(i * 7 % n));
            }
        }
        check(&rows, &queries, k, step);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_the_numbers_the_neighbours_are_those_of_sorting(
        made in made(),
        n in 1_usize..700,
        d in 1_usize..40,
        k in 1_usize..60,
        step in 1_usize..400,
    ) {
        made.check(n, d, k, step);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn ten_thousand_times_no_neighbour_is_missed(
        made in made(),
        n in 1_usize..100,
        d in 1_usize..20,
        k in 1_usize..12,
        step in 1_usize..60,
    ) {
        made.check(n, d, k, step);
    }
}
