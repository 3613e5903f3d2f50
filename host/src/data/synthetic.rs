//! Rows from known distributions, so that a measured error can be compared with theory.
//!
//! Each block of rows is drawn from ChaCha8. Its key is derived from (kind, dim, seed) and its
//! stream is the number of the block. So blocks can be made in any order by any number of threads,
//! and a smaller `n` is a prefix of a larger one.

use ndarray::{Array2, ArrayView1};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{DataError, MAX_DIM};

/// Rows per random stream; part of the data's definition.
pub(super) const BLOCK_ROWS: usize = 256;

/// Number of clusters of [`SyntheticKind::Clustered`].
const CLUSTERS: usize = 64;
/// Standard deviation within a cluster; the centres' is 1.
const WITHIN: f32 = 0.3;
/// Dimensions per latent one of [`SyntheticKind::LowRank`].
const RANK_DIVISOR: usize = 8;
/// Standard deviation of the noise that fills the other dimensions.
const NOISE: f32 = 0.05;

/// `n`×`dim` rows of a known distribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// Which distribution.
    pub kind: SyntheticKind,
    /// Number of rows.
    pub n: usize,
    /// Dimensions of a row.
    pub dim: usize,
    /// Equal seeds give equal rows.
    pub seed: u64,
}

/// A distribution of rows in d dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyntheticKind {
    /// Independent N(0, 1) in each dimension.
    Gaussian,
    /// 64 equally likely clusters with centres drawn from N(0, I), rows N(centre, 0.3²·I).
    Clustered,
    /// Uniform on the unit sphere.
    Sphere,
    /// W·z + 0.05·e with z of max(1, ⌊d/8⌋) and e of d independent N(0, 1), and W
    /// (d, r) drawn once from N(0, 1/r): variance 1.0025 per dimension on average,
    /// nearly all of it in r directions.
    LowRank,
    /// Independent, uniform on [0, 1) in each dimension.
    Uniform,
}

impl SyntheticKind {
    /// The name in sweep files: `gaussian`, `clustered`, `sphere`, `low_rank`, `uniform`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::Clustered => "clustered",
            Self::Sphere => "sphere",
            Self::LowRank => "low_rank",
            Self::Uniform => "uniform",
        }
    }
}

/// Makes the rows of one [`Synthetic`].
#[derive(Debug)]
pub(super) struct Generator {
    kind: SyntheticKind,
    pub(super) rows: usize,
    pub(super) dim: usize,
    key: [u8; 32],
    /// Cluster centres (64, d) or the mixing matrix W (d, r); otherwise (0, 0).
    frame: Array2<f32>,
}

impl Generator {
    pub(super) fn new(synthetic: &Synthetic) -> Result<Self, DataError> {
        let &Synthetic { kind, n, dim, seed } = synthetic;
        for (what, size) in [("n", n), ("dim", dim)] {
            if size == 0 {
                return Err(DataError::Zero { what });
            }
        }
        if dim > MAX_DIM {
            return Err(DataError::TooWide { what: "synthetic data".into(), dim: dim as u64 });
        }
        let mut key = blake3::Hasher::new_derive_key("vq-host synthetic rows 1");
        key.update(&seed.to_le_bytes());
        key.update(&(dim as u64).to_le_bytes());
        key.update(kind.name().as_bytes());
        let mut generator = Self {
            kind,
            rows: n,
            dim,
            key: *key.finalize().as_bytes(),
            frame: Array2::zeros((0, 0)),
        };
        let (shape, scale) = match kind {
            SyntheticKind::Clustered => ((CLUSTERS, dim), 1.0),
            SyntheticKind::LowRank => {
                let rank = (dim / RANK_DIVISOR).max(1);
                ((dim, rank), 1.0 / (rank as f32).sqrt())
            }
            _ => return Ok(generator),
        };
        // Stream 0 is the frame's; blocks of rows count from 1.
        let mut rng = generator.stream(0);
        generator.frame = Array2::from_shape_simple_fn(shape, || scale * normal(&mut rng));
        Ok(generator)
    }

    pub(super) fn kind(&self) -> SyntheticKind {
        self.kind
    }

    /// Fills `out`, whole rows, from row `first` on, a multiple of [`BLOCK_ROWS`].
    pub(super) fn read(&self, first: usize, out: &mut [f32]) {
        debug_assert!(first.is_multiple_of(BLOCK_ROWS), "streams start at blocks");
        out.par_chunks_mut(BLOCK_ROWS * self.dim).enumerate().for_each(|(block, rows)| {
            let mut rng = self.stream(1 + (first / BLOCK_ROWS + block) as u64);
            for row in rows.chunks_exact_mut(self.dim) {
                self.draw(&mut rng, row);
            }
        });
    }

    fn draw(&self, rng: &mut ChaCha8Rng, row: &mut [f32]) {
        match self.kind {
            SyntheticKind::Gaussian => row.fill_with(|| normal(rng)),
            SyntheticKind::Uniform => row.fill_with(|| unit_interval(rng)),
            SyntheticKind::Sphere => {
                row.fill_with(|| normal(rng));
                let norm_sq: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                let norm = norm_sq.sqrt() as f32;
                row.iter_mut().for_each(|x| *x /= norm);
            }
            SyntheticKind::Clustered => {
                // 64 divides 2^32: every cluster is equally likely.
                let centre = self.frame.row(rng.next_u32() as usize % CLUSTERS);
                for (x, c) in row.iter_mut().zip(centre) {
                    *x = c + WITHIN * normal(rng);
                }
            }
            SyntheticKind::LowRank => {
                let z: Vec<f32> = (0..self.frame.ncols()).map(|_| normal(rng)).collect();
                let z = ArrayView1::from(&z);
                for (x, w) in row.iter_mut().zip(self.frame.rows()) {
                    *x = w.dot(&z) + NOISE * normal(rng);
                }
            }
        }
    }

    fn stream(&self, number: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::from_seed(self.key);
        rng.set_stream(number);
        rng
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    StandardNormal.sample(rng)
}

/// Uniform on the multiples of 2⁻²⁴ in [0, 1).
fn unit_interval(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 * 2f32.powi(-24)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [SyntheticKind; 5] = [
        SyntheticKind::Gaussian,
        SyntheticKind::Clustered,
        SyntheticKind::Sphere,
        SyntheticKind::LowRank,
        SyntheticKind::Uniform,
    ];

    fn rows(kind: SyntheticKind, n: usize, dim: usize, seed: u64) -> Array2<f32> {
        let synthetic = Synthetic { kind, n, dim, seed };
        let mut out = Array2::zeros((n, dim));
        let generator = Generator::new(&synthetic).unwrap();
        generator.read(0, out.as_slice_mut().unwrap());
        out
    }

    /// (mean, variance) over all values.
    fn moments(values: &Array2<f32>) -> (f64, f64) {
        let values = values.mapv(f64::from);
        (values.mean().unwrap(), values.var(0.0))
    }

    #[test]
    fn fewer_rows_are_a_prefix_and_seeds_differ() {
        for kind in KINDS {
            let all = rows(kind, 3 * BLOCK_ROWS + 5, 9, 1);
            let some = rows(kind, BLOCK_ROWS + 1, 9, 1);
            assert_eq!(all.slice(ndarray::s![..BLOCK_ROWS + 1, ..]), some);
            assert_ne!(rows(kind, BLOCK_ROWS + 1, 9, 2), some);
            let mut later = Array2::zeros((BLOCK_ROWS, 9));
            let synthetic = Synthetic { kind, n: 1, dim: 9, seed: 1 };
            Generator::new(&synthetic).unwrap().read(2 * BLOCK_ROWS, later.as_slice_mut().unwrap());
            assert_eq!(all.slice(ndarray::s![2 * BLOCK_ROWS..3 * BLOCK_ROWS, ..]), later);
        }
    }

    #[test]
    fn moments_are_those_of_the_documented_distributions() {
        // 160,000 values: the mean of N(0, 1) has a standard deviation of 0.0025.
        let of = |kind| rows(kind, 5000, 32, 7);
        let (mean, variance) = moments(&of(SyntheticKind::Gaussian));
        assert!(mean.abs() < 0.0125 && (variance - 1.0).abs() < 0.02);

        let uniform = of(SyntheticKind::Uniform);
        assert!(uniform.iter().all(|x| (0.0..1.0).contains(x)));
        let (mean, variance) = moments(&uniform);
        assert!((mean - 0.5).abs() < 0.004 && (variance - 1.0 / 12.0).abs() < 0.002);

        let sphere = of(SyntheticKind::Sphere);
        for row in sphere.rows() {
            assert!((row.dot(&row) - 1.0).abs() < 1e-5);
        }
        assert!((moments(&sphere).1 - 1.0 / 32.0).abs() < 1e-4);

        // 64·32 centre coordinates: their variance varies by 0.03.
        let (_, variance) = moments(&of(SyntheticKind::Clustered));
        assert!((variance - 1.09).abs() < 0.15, "{variance}");
        // 32·4 mixing weights: the variance varies by 0.125.
        let (_, variance) = moments(&of(SyntheticKind::LowRank));
        assert!((variance - 1.0).abs() < 0.5, "{variance}");
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        let make = |n, dim| {
            Generator::new(&Synthetic { kind: SyntheticKind::Gaussian, n, dim, seed: 0 }).err()
        };
        assert!(matches!(make(0, 3), Some(DataError::Zero { what: "n" })));
        assert!(matches!(make(3, 0), Some(DataError::Zero { what: "dim" })));
        let wide = make(3, MAX_DIM + 1);
        assert!(matches!(wide, Some(DataError::TooWide { .. })));
    }
}
