//! Layer by layer: k-means on what all kept partial codes left, then the beam goes one layer on. At the end
//! all centroids move jointly; with a search once with it and once without, and what errs less stays.

use super::descent::{Descent, Start};
use super::layers::{BLOCK, Beams, Layers, centre_of};
use super::{Search, Shape, cluster, joint as least_squares};
use crate::Training;
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use vq_kernels::draw::seed_of;
use vq_kernels::{Draw, KMeans};
use vq_plugin_api::Error;

/// Blocks that go one layer on between two looks at `progress`.
const BLOCKS_AT_ONCE: usize = 64;

/// Most tries of the search that two results of training are compared by. What is learned with a search needs as
/// many as encoding has: on 20,000 rows of SIFT, 8 layers, it errs more than the other by 6 tries and 9 % less by 16.
const MOST_JUDGED: usize = 16;

/// Steps of least squares in a round that others follow: what follows has other codes.
const FEW_STEPS: usize = 3;

/// Of so many rows one is kept out of training, to compare two results of it: one learns its rows by heart sooner
/// than the other. On 20,000 rows of SIFT, in halves of 8 layers each, both err alike on rows that they learned from,
/// and on others the one 11 % less.
const KEPT_OUT: usize = 32;

/// Which of the seed's streams says which.
const OF_KEPT_OUT: u64 = u64::MAX - 1;

/// Rows for each centroid up to which none is kept out, and what was learned from is compared; so too up to so
/// many rows in all.
const FEW: usize = 16;
const FEW_IN_ALL: usize = 2048;

/// Most rows that two results of training are compared on.
const MOST_COMPARED: usize = 4096;

/// How the layers of a sub-space are learned.
pub(super) struct Learning {
    pub(super) shape: Shape,
    pub(super) training: Training,
    /// Rounds of moving all centroids.
    pub(super) joint: usize,
    pub(super) search: Option<Search>,
    /// What is drawn in encoding, with the row.
    pub(super) encoding_seed: u64,
}

/// What is learned layer by layer, and what for.
struct Drawn {
    learned: Layers,
    /// What it was learned from (n, d), normalised.
    x: Array2<f32>,
    /// The rows that results are compared on.
    compared: Vec<usize>,
    /// What is left of the random numbers.
    draw: Draw,
}

impl Learning {
    /// Learns centroids (layers, 2^bits, d) from `train` (n, d).
    ///
    /// O(layers · (iterations · n·2^bits·d) + the cost of encoding n rows 1 + joint times); memory for the
    /// normalised rows, one residual per training point of k-means, and the codes of the beams.
    pub(super) fn centroids(
        &self,
        train: ArrayView2<'_, f32>,
        seed: u64,
        progress: &dyn Fn(f32, &str) -> Result<(), Error>,
    ) -> Result<Vec<f32>, Error> {
        let Drawn { mut learned, x, compared, mut draw } = self.layers(train, seed, progress)?;
        let layers = self.shape.layers;
        let Some(search) = self.search else {
            self.jointly(&mut learned, x.view(), (layers, self.joint), None, &mut draw, progress)?;
            progress(1.0, "codes of a layer")?;
            return Ok(learned.as_they_add_up());
        };
        let mut plain = learned.again();
        let rounds = (layers, search.plain);
        self.jointly(&mut plain, x.view(), rounds, None, &mut draw, progress)?;
        let rounds = (layers + search.plain, self.joint);
        self.jointly(&mut learned, x.view(), rounds, Some(search), &mut draw, progress)?;
        drop(x);
        let found = [plain, learned].map(|layers| layers.as_they_add_up());
        let mut errors = [0.0; 2];
        for (error, centroids) in errors.iter_mut().zip(&found) {
            progress(self.at((layers + search.plain + self.joint) as f32), "which errs less")?;
            *error = self.error(centroids, train, &compared, search);
        }
        progress(1.0, "which errs less")?;
        let [plain, searched] = found;
        Ok(if errors[0] < errors[1] { plain } else { searched })
    }

    /// The squared error of those `rows` of `train` by `centroids`, encoded with the search, or with a part of it:
    /// more tries go on from fewer, so that they never err more. What a search starts from is the beam's code,
    /// so that it never errs more than that either.
    fn error(
        &self,
        centroids: &[f32],
        train: ArrayView2<'_, f32>,
        rows: &[usize],
        search: Search,
    ) -> f64 {
        let layers = Layers::of(centroids, self.shape, train.ncols());
        let descent = Descent::of(&layers);
        let tries = search.tries.min(MOST_JUDGED);
        let start = Start { tries, drawn: search.drawn, seed: self.encoding_seed };
        let of_block = |rows: &[usize]| {
            let x = layers.normalised(train.select(Axis(0), rows).view());
            let mut codes = vec![0_u16; rows.len() * self.shape.layers];
            layers.encode(x.view(), &mut codes);
            descent.better(&layers, x.view(), &mut codes, start);
            let codes = codes.chunks_exact(self.shape.layers);
            x.outer_iter().zip(codes).map(|(x, code)| layers.error(x, code)).sum::<f64>()
        };
        let errors: Vec<f64> = rows.par_chunks(BLOCK).with_max_len(1).map(of_block).collect();
        layers.unscale() * errors.iter().sum::<f64>()
    }

    /// How far rounds of k-means and joint rounds are, which take about as long.
    fn at(&self, done: f32) -> f32 {
        let searched = self.search.map_or(0, |search| search.plain + 1);
        done / (self.shape.layers + self.joint + searched) as f32
    }

    /// The layers one by one.
    fn layers(
        &self,
        train: ArrayView2<'_, f32>,
        seed: u64,
        progress: &dyn Fn(f32, &str) -> Result<(), Error>,
    ) -> Result<Drawn, Error> {
        let Learning { shape, training, .. } = *self;
        if train.nrows() == 0 {
            return Err(Error::failed("no rows to train on"));
        }
        let (k, layers) = (shape.k(), shape.layers);
        let points = k.saturating_mul(training.points_per_centroid);
        let mut draw = Draw::new(seed);
        let mut rows: Vec<usize> = draw.strata(train.nrows(), points).collect();
        if let Some(row) = rows.iter().find(|row| train.row(**row).iter().any(|x| !x.is_finite())) {
            return Err(Error::failed(format!("training row {row} is not finite")));
        }
        let compared = if self.search.is_some() && rows.len() > FEW_IN_ALL.max(FEW * k) {
            kept_out(&mut rows, seed)
        } else {
            rows.clone()
        };
        let step = compared.len().div_ceil(MOST_COMPARED).max(1);
        let compared = compared.into_iter().step_by(step).collect();
        let sample = train.select(Axis(0), &rows);

        let mut learned = Layers::within(centre_of(sample.view()), shape);
        let mut x = Array2::zeros(sample.dim());
        for (row, mut to) in sample.outer_iter().zip(x.outer_iter_mut()) {
            if let (Some(row), Some(to)) = (row.to_slice(), to.as_slice_mut()) {
                learned.normalise(row, to);
            }
        }
        drop(sample);
        let mut beams: Vec<Beams> =
            x.axis_chunks_iter(Axis(0), BLOCK).map(|rows| Beams::new(rows.nrows())).collect();
        for layer in 0..layers {
            // k-means is the larger part of a layer's time.
            let fraction = |done: f32| self.at(layer as f32 + done);
            let residuals = residuals(&learned, x.view(), &beams, points, &mut draw);
            let kmeans = KMeans {
                k,
                iterations: training.iterations,
                seed: draw.word(),
                max_points_per_centroid: training.points_per_centroid,
            };
            let mut told = |done: f32| progress(fraction(0.8 * done), "k-means of a layer");
            learned.push(cluster::centroids(kmeans, residuals, &mut told)?);
            if layer + 1 == layers {
                break;
            }
            for first in (0..beams.len()).step_by(BLOCKS_AT_ONCE) {
                let done = first as f32 / beams.len() as f32;
                progress(fraction(0.8 + 0.2 * done), "codes of a layer")?;
                let last = (first + BLOCKS_AT_ONCE).min(beams.len());
                beams[first..last].par_iter_mut().enumerate().with_max_len(1).for_each(
                    |(i, beams)| {
                        learned.extend(block(x.view(), first + i), beams);
                    },
                );
            }
        }
        Ok(Drawn { learned, x, compared, draw })
    }

    /// Encodes the rows `x` (n, d), normalised, and moves all centroids to where these codes are nearest to
    /// them, in turn, `rounds` times. With a search and several layers, codes start from those of the round before.
    /// `first` is what was done before, for the progress.
    fn jointly(
        &self,
        learned: &mut Layers,
        x: ArrayView2<'_, f32>,
        (first, rounds): (usize, usize),
        search: Option<Search>,
        draw: &mut Draw,
        progress: &dyn Fn(f32, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let layers = self.shape.layers;
        let mut codes = vec![0_u16; x.nrows() * layers];
        let mut short = Vec::new();
        let mut centroids: Vec<_> =
            learned.layers.iter().map(|layer| layer.centroids.clone()).collect();
        for round in 0..rounds {
            progress(self.at((first + round) as f32), "all layers")?;
            let descent = search.map(|search| {
                // So many draws meet 63 % of the layers. More rounds with fewer tries err less than the reverse.
                let start =
                    Start { tries: search.training_tries, drawn: layers, seed: draw.word() };
                (Descent::of(learned), start)
            });
            let rows = x.axis_chunks_iter(Axis(0), BLOCK).into_par_iter();
            rows.zip(codes.par_chunks_mut(BLOCK * layers)).with_max_len(1).for_each(
                |(x, codes)| {
                    // A search goes on from the codes of the round before. Of one layer there is none to search for.
                    if round == 0 || descent.is_none() || layers == 1 {
                        learned.encode(x, codes);
                    }
                    if let Some((descent, start)) = &descent {
                        descent.better(learned, x, codes, *start);
                    }
                },
            );
            if round == 0 && search.is_some() {
                short = learned.short(x, &codes);
            }
            let goes_on = search.is_some() && round + 1 < rounds;
            let steps = if goes_on { FEW_STEPS } else { least_squares::STEPS };
            least_squares::move_to(&mut centroids, x, &codes, steps);
            // A search needs no tables of a beam from here on.
            let beam = if search.is_some() { 1 } else { self.shape.beam };
            let mut next = Layers::within(learned.normal.clone(), Shape { beam, ..self.shape });
            // Martinez 2018, SR-D, has the square root of the rounds to come, and the rows' own deviations in place of
            // what is left of them, which is too much for codes that come near.
            let left = (1.0 - (round + 1) as f64 / rounds as f64).sqrt().sqrt();
            let noise = search.map_or(0.0, |search| search.noise * left) / (layers as f64).sqrt();
            for centroids in &centroids {
                let mut centroids = centroids.clone();
                for mut row in centroids.outer_iter_mut().filter(|_| noise > 0.0) {
                    for (c, deviation) in row.iter_mut().zip(&short) {
                        // Four uniform numbers are nearly normal, and the same on every machine.
                        let four: f64 = (0..4).map(|_| draw.uniform() - 0.5).sum();
                        *c += (four * 3.0_f64.sqrt() * noise * deviation) as f32;
                    }
                }
                next.push(centroids);
            }
            *learned = next;
        }
        Ok(())
    }
}

/// Takes one of [`KEPT_OUT`] `rows` away. Drawn, for rows may come in an order: every 32nd may be of one kind.
fn kept_out(rows: &mut Vec<usize>, seed: u64) -> Vec<usize> {
    let mut draw = Draw::new(seed_of(seed, OF_KEPT_OUT));
    let mut places = draw.strata(rows.len(), rows.len() / KEPT_OUT).peekable();
    let mut place = 0;
    let taken = rows.extract_if(.., |_| {
        place += 1;
        places.next_if_eq(&(place - 1)).is_some()
    });
    taken.collect()
}

/// Rows of block `i`.
fn block(x: ArrayView2<'_, f32>, i: usize) -> ArrayView2<'_, f32> {
    let last = ((i + 1) * BLOCK).min(x.nrows());
    let (_, tail) = x.split_at(Axis(0), i * BLOCK);
    tail.split_at(Axis(0), last - i * BLOCK).0
}

/// What the partial codes of all beams left, or of `points` of them.
fn residuals(
    learned: &Layers,
    x: ArrayView2<'_, f32>,
    beams: &[Beams],
    points: usize,
    draw: &mut Draw,
) -> Array2<f32> {
    let width = beams.first().map_or(1, |beams| beams.width);
    let chosen: Vec<usize> = draw.strata(x.nrows() * width, points).collect();
    let mut residuals = Array2::zeros((chosen.len(), x.ncols()));
    let pairs = residuals.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter();
    pairs.zip(chosen.par_chunks(BLOCK)).for_each(|(mut residuals, chosen)| {
        for (residual, code) in residuals.outer_iter_mut().zip(chosen) {
            let (row, rank) = (code / width, code % width);
            let code = beams[row / BLOCK].code(row % BLOCK, rank);
            learned.residual(x.row(row), code, residual);
        }
    });
    residuals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_kept_out_are_apart_and_of_any_place() {
        for n in [32, 2049, 5000] {
            let all: Vec<usize> = (0..n).map(|row| 3 * row).collect();
            let mut rows = all.clone();
            let taken = kept_out(&mut rows, 7);
            assert_eq!(taken.len(), n / KEPT_OUT);
            let mut both = [&rows[..], &taken].concat();
            both.sort_unstable();
            assert_eq!(both, all);
            let mut places: Vec<usize> = taken.iter().map(|row| row / 3 % KEPT_OUT).collect();
            places.sort_unstable();
            places.dedup();
            assert!(places.len() >= taken.len().min(16), "{n}: {places:?}");
            // Another seed, other rows.
            assert!(n < 64 || kept_out(&mut all.clone(), 8) != taken);
        }
    }
}
