//! Vectors in tiles of neighbours, for the rounds of k-means.
//!
//! From round to round the rows move a little and the vectors not at all. So the vectors are rounded to
//! [16-bit integers](crate::int16) once, and sorted by the row each was nearest to and by its distance
//! from it: then the vectors of a tile have much the same rows around them. With R the largest distance
//! of a vector of the tile from its former row g, a row farther from g than 2·R is nearest to none of them.
//! The fewer the dimensions, the fewer rows that leaves: a small part in 4 dimensions, and nearly all in 128,
//! where the lists are given up.
//!
//! After Hamerly's and Elkan's use of the triangle inequality (2010, 2003), with one bound per tile and
//! none kept from round to round. The answers are those of [`Nearest::assign`].

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::int16::{Int16Panels, Near, RowDistances, TILE, Tile};
use crate::{Nearest, Path};

/// Tiles that are assigned as one task.
const TASK: usize = 16;

/// Levels of distance within the vectors of one row, two to an octave of the squared distance.
const LEVELS: usize = 16;

/// Lists are given up where they hold more of the rows than this.
const USEFUL: f64 = 0.8;

/// Vectors (n, d), rounded and sorted; none before the first [`regroup`](Self::regroup).
///
/// Memory: 2·d + 20 bytes per vector.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    /// Every tile asks all rows.
    all: bool,
}

/// A tile of vectors. The last of all repeats its last vector.
#[derive(Clone, Debug)]
struct Group {
    tile: Tile,
    vectors: [u32; TILE],
    /// The row that each was nearest to.
    former: [u32; TILE],
    found: [u32; TILE],
}

impl Groups {
    /// Writes what [`Nearest::assign`] would; false, and nothing written, where there are no groups or
    /// `nearest` was packed in another step. `rows` (rows, d) are those of `nearest`.
    pub(crate) fn assign(
        &mut self,
        nearest: &Nearest,
        rows: ArrayView2<'_, f32>,
        x: ArrayView2<'_, f32>,
        index: &mut [u32],
    ) -> bool {
        let Some(int16) = nearest.int16() else {
            return false;
        };
        if !self.groups.first().is_some_and(|group| int16.has_step_of(&group.tile)) {
            return false;
        }
        let around = (!self.all).then(|| RowDistances::new(int16, rows));
        let tasks = self.groups.par_chunks_mut(TASK);
        let asked: usize =
            tasks.map(|groups| ask(nearest, int16, around.as_ref(), x, groups)).sum();
        for group in &self.groups {
            for (vector, found) in group.vectors.iter().zip(group.found) {
                index[*vector as usize] = found;
            }
        }
        self.all = asked as f64 > USEFUL * (self.groups.len() * rows.nrows()) as f64;
        true
    }

    /// Sorts the vectors `x` (n, d), n > 0, anew, each nearest to the row `index[i]` of `rows` now.
    pub(crate) fn regroup(
        &mut self,
        nearest: &Nearest,
        rows: ArrayView2<'_, f32>,
        x: ArrayView2<'_, f32>,
        index: &[u32],
    ) {
        let Some(int16) = nearest.int16() else {
            self.groups.clear();
            return;
        };
        let as_good = |group: &Group| self.all && int16.has_step_of(&group.tile);
        if self.groups.first().is_some_and(as_good) {
            return;
        }
        let order = sorted(rows, x, index);
        let none = Group {
            tile: Tile::default(),
            vectors: [0; TILE],
            former: [0; TILE],
            found: [0; TILE],
        };
        self.groups.resize(order.len().div_ceil(TILE), none);
        let tasks = self.groups.par_chunks_mut(TASK).zip(order.par_chunks(TASK * TILE));
        tasks.for_each(|(groups, order)| {
            let mut gathered = Array2::zeros((TILE, x.ncols()));
            for (group, order) in groups.iter_mut().zip(order.chunks(TILE)) {
                for i in 0..TILE {
                    let vector = order[i.min(order.len() - 1)];
                    group.vectors[i] = vector;
                    group.former[i] = index[vector as usize];
                    gathered.row_mut(i).assign(&x.row(vector as usize));
                }
                int16.round(gathered.view(), &mut group.tile);
            }
        });
    }
}

/// Assigns the vectors of some groups; answers how many rows their tiles were asked against.
fn ask(
    nearest: &Nearest,
    int16: &Int16Panels,
    around: Option<&RowDistances>,
    x: ArrayView2<'_, f32>,
    groups: &mut [Group],
) -> usize {
    let mut asked = 0;
    let (mut open, mut near) = (Vec::new(), Near::default());
    for (g, group) in groups.iter_mut().enumerate() {
        if let Some(around) = around {
            around.list(int16, &group.tile, &group.former, &mut near);
            asked += near.rows().len();
        } else {
            asked += nearest.panels().rows();
        }
        let listed = around.map(|_| near.rows());
        let mut left = int16.decide_tile(&group.tile, listed, &mut group.found);
        while left != 0 {
            open.push((g, left.trailing_zeros() as usize));
            left &= left - 1;
        }
    }
    let mut rest = Array2::zeros((open.len(), x.ncols()));
    for (mut rest, &(g, i)) in rest.outer_iter_mut().zip(&open) {
        rest.assign(&x.row(groups[g].vectors[i] as usize));
    }
    let (mut found, mut scores) = (vec![0; open.len()], vec![0.0; open.len()]);
    nearest.panels().nearest(rest.view(), &mut found, &mut scores);
    for ((g, i), found) in open.into_iter().zip(found) {
        groups[g].found[i] = found;
    }
    asked
}

/// The vectors by their row, within it roughly by their distance from it. Only speed depends on the order.
fn sorted(rows: ArrayView2<'_, f32>, x: ArrayView2<'_, f32>, index: &[u32]) -> Vec<u32> {
    let mut distances_sq = vec![0.0_f32; x.nrows()];
    let tasks = distances_sq.par_chunks_mut(TASK * TILE).enumerate();
    tasks.for_each(|(task, distances_sq)| {
        let first = task * TASK * TILE;
        Path::fastest().run(
            #[inline(always)]
            || {
                for (i, to) in distances_sq.iter_mut().enumerate() {
                    let row = rows.index_axis(Axis(0), index[first + i] as usize);
                    let x = x.index_axis(Axis(0), first + i);
                    *to = distance_sq(x.to_slice().unwrap_or(&[]), row.to_slice().unwrap_or(&[]));
                }
            },
        );
    });
    // The bits of positive floats are in their order.
    let largest = distances_sq.iter().fold(0, |largest, distance| distance.to_bits().max(largest));
    let bucket = |vector: usize| {
        let halves = (largest - distances_sq[vector].to_bits()) >> 22;
        let level = (LEVELS - 1).saturating_sub(halves as usize);
        index[vector] as usize * LEVELS + level
    };
    let mut next = vec![0_u32; rows.nrows() * LEVELS + 1];
    for vector in 0..x.nrows() {
        next[bucket(vector) + 1] += 1;
    }
    for bucket in 1..next.len() {
        next[bucket] += next[bucket - 1];
    }
    let mut order = vec![0; x.nrows()];
    for vector in 0..x.nrows() {
        let place = &mut next[bucket(vector)];
        order[*place as usize] = vector as u32;
        *place += 1;
    }
    order
}

#[inline(always)]
fn distance_sq(x: &[f32], row: &[f32]) -> f32 {
    let mut sums = [0.0; 4];
    let ((x, x_rest), (row, row_rest)) = (x.as_chunks::<4>(), row.as_chunks::<4>());
    for (x, row) in x.iter().zip(row) {
        for lane in 0..4 {
            sums[lane] += (x[lane] - row[lane]) * (x[lane] - row[lane]);
        }
    }
    let rest = x_rest.iter().zip(row_rest).map(|(x, row)| (x - row) * (x - row));
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int16::MaxNorm;
    use crate::nearest::tests::noise;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn neighbours_alone_give_the_same_answers(
            n in 1_usize..400,
            rows in 8_usize..300,
            dim in 1_usize..40,
            kinds in (0_usize..3, 0_usize..3),
            moves in prop::collection::vec(0.0_f32..0.5, 1..4),
            wrong in any::<bool>(),
            seed in any::<u32>(),
        ) {
            let mut rows = noise(rows, dim, seed, kinds.0);
            let mut x = noise(n, dim, seed ^ 1, kinds.1);
            for (i, mut x) in x.outer_iter_mut().enumerate() {
                // Beside a row, which makes lists short; some far from any.
                if i % 7 != 0 {
                    x *= 0.05;
                    x += &rows.row(i * i % rows.nrows());
                }
            }
            let reach = x.outer_iter().chain(rows.outer_iter()).map(|x| x.dot(&x).sqrt());
            let reach = MaxNorm::Of(1.01 * f64::from(reach.fold(0.0, f32::max)));
            let mut groups = Groups::default();
            let mut found = vec![0; n];
            for moved in moves {
                let nearest = Nearest::for_l2_within(rows.view(), reach);
                let mut expected = vec![0; n];
                nearest.panels().nearest(x.view(), &mut expected, &mut vec![0.0; n]);
                if groups.assign(&nearest, rows.view(), x.view(), &mut found) {
                    prop_assert_eq!(&found, &expected);
                }
                if wrong {
                    // Former rows are only a guess.
                    expected.iter_mut().for_each(|row| *row /= 2);
                }
                groups.regroup(&nearest, rows.view(), x.view(), &expected);
                let goal = noise(rows.nrows(), dim, seed ^ 2, 1);
                rows.zip_mut_with(&goal, |row, to| {
                    *row += moved * (0.5 * to - *row);
                });
                groups.all &= wrong;
            }
            let nearest = Nearest::for_l2_within(rows.view(), reach);
            let mut expected = vec![0; n];
            nearest.panels().nearest(x.view(), &mut expected, &mut vec![0.0; n]);
            if groups.assign(&nearest, rows.view(), x.view(), &mut found) {
                prop_assert_eq!(&found, &expected);
            }
        }
    }

    #[test]
    fn a_row_hardly_nearer_than_the_former_is_found() {
        for dim in [1, 2, 5, 16, 33] {
            let rows = noise(64, dim, dim as u32, 1);
            let nearest = Nearest::for_l2_within(rows.view(), MaxNorm::Of(2.0 * dim as f64));
            for other in 1..64 {
                // A bit farther than half way from row 0: D is hardly less than 2·r.
                let half_way = &rows.row(0) + (&rows.row(other) - &rows.row(0)) * 0.5001;
                let x = half_way.insert_axis(Axis(0));
                let mut expected = [0];
                nearest.panels().nearest(x.view(), &mut expected, &mut [0.0]);
                let mut groups = Groups::default();
                groups.regroup(&nearest, rows.view(), x.view(), &[0]);
                let mut found = [0];
                if groups.assign(&nearest, rows.view(), x.view(), &mut found) {
                    assert_eq!(found, expected, "d = {dim}, row {other}");
                }
            }
        }
    }

    #[test]
    fn lists_are_short_where_neighbours_lie_together() {
        let rows = noise(256, 4, 1, 1);
        let x = noise(20_000, 4, 2, 1);
        let nearest = Nearest::for_l2_within(rows.view(), MaxNorm::Of(2.0));
        let Some(int16) = nearest.int16() else {
            return;
        };
        let mut index = vec![0; x.nrows()];
        nearest.assign(x.view(), &mut index);
        let mut groups = Groups::default();
        groups.regroup(&nearest, rows.view(), x.view(), &index);
        let around = RowDistances::new(int16, rows.view());
        let asked = ask(&nearest, int16, Some(&around), x.view(), &mut groups.groups);
        assert!(asked * 3 < groups.groups.len() * 256, "{asked}");
        assert!(groups.assign(&nearest, rows.view(), x.view(), &mut index));
        assert!(!groups.all);
    }
}
