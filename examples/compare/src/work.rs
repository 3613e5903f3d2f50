//! The works: what is prepared, timed, and looked at afterwards.

use crate::codec::{Codec, Found, Packed, SEED, Team};
use crate::failure::Failure;
use crate::matrix;
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use vq_host::data::{Metric, RowFile, Rows as FileRows, exact_neighbours};
use vq_kernels::{KMeans, Path as CpuPath};
use vq_plugin_api::handle::Guarded;
use vq_plugin_api::params::Config;

/// Codes that the scorer sees per call, and queries: as the host does it.
const CODES_PER_SCORE: usize = 1 << 16;
const QUERIES_PER_SCORE: usize = 32;
/// Rounds of 128 products that threads share where they share nothing else: some ten milliseconds.
const SPINS: usize = 3_000_000;
/// Neighbours that the answer of a scan names.
const ANSWERED: usize = 10;

/// A method with its settings, and the rows it learns from.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    library: PathBuf,
    method: String,
    params: Config,
    train: PathBuf,
    train_rows: usize,
}

/// What is done once per call. Files are `.fbin`; of `rows`, the first `n`.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Work {
    /// Fits; answers `rows` after a round trip (n, d).
    Fit { codec: Spec, rows: PathBuf, n: usize },
    /// Encodes `rows`; answers them after a round trip (n, d).
    Encode { codec: Spec, rows: PathBuf, n: usize },
    /// Decodes the codes of `rows`; answers the decoded (n, d).
    Decode { codec: Spec, rows: PathBuf, n: usize },
    /// With `top` = 0 the scorer's estimates from each of `queries` to the codes of `rows`, of
    /// which nothing is kept; else the `top` nearest by its search. Answers the 10 nearest (q, 10), u32.
    Scan { codec: Spec, rows: PathBuf, n: usize, queries: PathBuf, top: usize },
    /// Answers the centroids (k, d).
    Kmeans { rows: PathBuf, n: usize, k: usize, iterations: usize, points_per_centroid: usize },
    /// Answers the `top` exact neighbours (q, top), u32.
    Neighbours { rows: PathBuf, n: usize, queries: PathBuf, top: usize },
    /// Copies `bytes`, a block per thread.
    Copy { bytes: usize },
    /// Reads `bytes`, a block per thread.
    Read { bytes: usize },
}

/// The prepared work, and what the next ones may use again.
#[derive(Default)]
pub(crate) struct Shop {
    matrices: HashMap<PathBuf, Rc<Array2<f32>>>,
    codecs: HashMap<String, Rc<Codec>>,
    pools: HashMap<usize, Rc<rayon::ThreadPool>>,
    ready: Option<Ready>,
}

struct Ready {
    task: Task,
    threads: usize,
    pool: Rc<rayon::ThreadPool>,
}

/// The first `n` rows of a matrix.
struct Rows {
    of: Rc<Array2<f32>>,
    n: usize,
}

impl Rows {
    fn view(&self) -> ArrayView2<'_, f32> {
        self.of.slice(s![..self.n, ..])
    }
}

enum Task {
    Fit {
        spec: Spec,
        train: Rows,
        rows: Rows,
        fitted: Option<Rc<Codec>>,
    },
    Encode {
        codec: Rc<Codec>,
        rows: Rows,
        codes: Guarded<u8>,
    },
    Decode {
        codec: Rc<Codec>,
        codes: Guarded<u8>,
        x: Guarded<f32>,
    },
    Scan {
        codec: Rc<Codec>,
        blocks: Vec<Packed>,
        /// All codes in one, for the search.
        block: Packed,
        queries: Rows,
        top: usize,
        estimates: Guarded<f32>,
        found: Found,
    },
    Kmeans {
        rows: Rows,
        kmeans: KMeans,
        centroids: Option<Array2<f32>>,
    },
    Neighbours {
        base: FileRows,
        queries: FileRows,
        top: usize,
        ids: Option<Array2<u32>>,
    },
    Copy {
        from: Vec<f32>,
        to: Vec<f32>,
    },
    Read {
        from: Vec<u64>,
    },
}

impl Shop {
    fn pool(&mut self, threads: usize) -> Result<Rc<rayon::ThreadPool>, Failure> {
        if let Some(pool) = self.pools.get(&threads) {
            return Ok(pool.clone());
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = Rc::new(pool.map_err(|source| Failure::Threads { threads, source })?);
        self.pools.insert(threads, pool.clone());
        Ok(pool)
    }

    fn rows(&mut self, path: &Path, n: usize) -> Result<Rows, Failure> {
        let of = match self.matrices.get(path) {
            Some(matrix) => matrix.clone(),
            None => {
                let matrix = Rc::new(matrix::read(path)?);
                self.matrices.insert(path.to_owned(), matrix.clone());
                matrix
            }
        };
        if n > of.nrows() {
            return Err(Failure::Rows { wanted: n, rows: of.nrows() });
        }
        Ok(Rows { of, n })
    }

    /// The fitted codec of `spec`: from before, where there is one. Results do not depend on the
    /// number of threads, so neither does the codec.
    fn codec(&mut self, spec: &Spec, team: Team<'_>) -> Result<Rc<Codec>, Failure> {
        let key = serde_json::to_string(spec)?;
        if let Some(codec) = self.codecs.get(&key) {
            return Ok(codec.clone());
        }
        let train = self.rows(&spec.train, spec.train_rows)?;
        let mut codec = spec.create(train.of.ncols())?;
        codec.fit(train.view(), team)?;
        let codec = Rc::new(codec);
        self.codecs.insert(key, codec.clone());
        Ok(codec)
    }

    /// Makes `work` ready; the one before is forgotten.
    pub(crate) fn prepare(&mut self, work: Work, threads: usize) -> Result<(), Failure> {
        self.ready = None;
        let pool = self.pool(threads)?;
        let team = Team { threads, pool: &pool, as_left: false };
        let task = match work {
            Work::Fit { codec, rows, n } => {
                let train = self.rows(&codec.train, codec.train_rows)?;
                Task::Fit { train, rows: self.rows(&rows, n)?, spec: codec, fitted: None }
            }
            Work::Encode { codec, rows, n } => {
                let codec = self.codec(&codec, team)?;
                Task::Encode { codec, rows: self.rows(&rows, n)?, codes: Guarded::codes() }
            }
            Work::Decode { codec, rows, n } => {
                let (codec, codes) = self.encoded(&codec, &rows, n, team)?;
                Task::Decode { codec, codes, x: Guarded::rows() }
            }
            Work::Scan { codec, rows, n, queries, top } => {
                let (codec, codes) = self.encoded(&codec, &rows, n, team)?;
                let blocks = codec.packed(codes.values(), CODES_PER_SCORE, team)?;
                let block = codec.packed_for_search(codes.values(), team)?;
                let all = matrix::read(&queries)?.nrows();
                let queries = self.rows(&queries, all)?;
                let (estimates, found) = (Guarded::rows(), Found::nothing());
                Task::Scan { codec, blocks, block, queries, top, estimates, found }
            }
            Work::Kmeans { rows, n, k, iterations, points_per_centroid } => {
                let kmeans = KMeans {
                    k,
                    iterations,
                    seed: SEED,
                    max_points_per_centroid: points_per_centroid,
                };
                Task::Kmeans { rows: self.rows(&rows, n)?, kmeans, centroids: None }
            }
            Work::Neighbours { rows, n, queries, top } => {
                let dim = self.rows(&rows, n)?.of.ncols();
                let q = self.rows(&queries, 0)?.of.nrows();
                let (base, queries) = (file_rows(&rows, n, dim)?, file_rows(&queries, q, dim)?);
                Task::Neighbours { base, queries, top, ids: None }
            }
            // Written once here, so that no page is mapped while the clock runs.
            Work::Copy { bytes } => {
                Task::Copy { from: vec![1.0; bytes / 4], to: vec![2.0; bytes / 4] }
            }
            Work::Read { bytes } => Task::Read { from: vec![1; bytes / 8] },
        };
        self.ready = Some(Ready { task, threads, pool });
        Ok(())
    }

    fn encoded(
        &mut self,
        spec: &Spec,
        rows: &Path,
        n: usize,
        team: Team<'_>,
    ) -> Result<(Rc<Codec>, Guarded<u8>), Failure> {
        let codec = self.codec(spec, team)?;
        let rows = self.rows(rows, n)?;
        let mut codes = Guarded::codes();
        codec.encode(rows.view(), &mut codes, team)?;
        Ok((codec, codes))
    }

    /// Does the prepared work once, on so many threads, into an output `as_left` by the call before, or filled.
    pub(crate) fn run(&mut self, threads: usize, as_left: bool) -> Result<Duration, Failure> {
        let pool = self.pool(threads)?;
        let ready = self.ready.as_mut().ok_or(Failure::NothingPrepared)?;
        ready.task.run(Team { threads, pool: &pool, as_left })
    }

    /// Multiplies in registers: so many products, divided among the threads.
    pub(crate) fn spin(&mut self, threads: usize) -> Result<Duration, Failure> {
        let pool = self.pool(threads)?;
        let started = Instant::now();
        pool.install(|| {
            (0..threads).into_par_iter().with_max_len(1).for_each(|_| spin(SPINS / threads));
        });
        Ok(started.elapsed())
    }

    /// Writes what the prepared work made to `path`, row-major, 4 bytes a value.
    pub(crate) fn answer(&mut self, path: &Path) -> Result<(), Failure> {
        let ready = self.ready.as_mut().ok_or(Failure::NothingPrepared)?;
        let team = Team { threads: ready.threads, pool: &ready.pool, as_left: false };
        ready.task.answer(team, path)
    }
}

impl Spec {
    fn create(&self, dim: usize) -> Result<Codec, Failure> {
        Codec::create(&self.library, &self.method, &self.params, dim)
    }
}

impl Task {
    fn run(&mut self, team: Team<'_>) -> Result<Duration, Failure> {
        match self {
            Task::Fit { spec, train, fitted, .. } => {
                let mut codec = spec.create(train.of.ncols())?;
                let spent = codec.fit(train.view(), team)?;
                *fitted = Some(Rc::new(codec));
                Ok(spent)
            }
            Task::Encode { codec, rows, codes } => codec.encode(rows.view(), codes, team),
            Task::Decode { codec, codes, x } => codec.decode(codes.values(), x, team),
            Task::Scan { codec, blocks, queries, top: 0, estimates, .. } => {
                scan(codec, blocks, queries.view(), estimates, team)
            }
            Task::Scan { codec, block, queries, top, found, .. } => {
                codec.search(queries.view(), block, *top, found, team)
            }
            Task::Kmeans { rows, kmeans, centroids } => {
                let x = rows.view();
                let started = Instant::now();
                let found = team.pool.install(|| kmeans.fit::<Infallible>(x, &mut |_| Ok(())));
                let spent = started.elapsed();
                *centroids = Some(found.map_err(|error| Failure::KMeans(error.to_string()))?);
                Ok(spent)
            }
            Task::Neighbours { base, queries, top, ids } => {
                let started = Instant::now();
                let found = team
                    .pool
                    .install(|| exact_neighbours(base, queries, Metric::L2, *top, &|_| Ok(())));
                let spent = started.elapsed();
                *ids = Some(found?.0.ids);
                Ok(spent)
            }
            Task::Copy { from, to } => {
                let part = from.len().div_ceil(team.threads);
                let started = Instant::now();
                team.pool.install(|| {
                    let parts = to.par_chunks_mut(part).zip(from.par_chunks(part));
                    parts.for_each(|(to, from)| to.copy_from_slice(from));
                });
                black_box(to);
                Ok(started.elapsed())
            }
            Task::Read { from } => {
                let part = from.len().div_ceil(team.threads);
                let started = Instant::now();
                let sum = team.pool.install(|| {
                    let sums = from
                        .par_chunks(part)
                        .map(|from| from.iter().fold(0_u64, |sum, value| sum.wrapping_add(*value)));
                    sums.reduce(|| 0, u64::wrapping_add)
                });
                black_box(sum);
                Ok(started.elapsed())
            }
        }
    }

    fn answer(&mut self, team: Team<'_>, path: &Path) -> Result<(), Failure> {
        match self {
            Task::Fit { rows, fitted, .. } => {
                let codec = fitted.as_ref().ok_or(Failure::NothingPrepared)?;
                round_trip(codec, rows.view(), team, path)
            }
            Task::Encode { codec, rows, .. } => round_trip(codec, rows.view(), team, path),
            Task::Decode { codec, codes, x } => {
                codec.decode(codes.values(), x, team)?;
                matrix::write(path, x.values().iter().map(|value| value.to_le_bytes()))
            }
            Task::Scan { codec, block, queries, found, .. } => {
                codec.search(queries.view(), block, ANSWERED, found, team)?;
                matrix::write(path, found.ids.values().iter().map(|id| (*id as u32).to_le_bytes()))
            }
            Task::Kmeans { centroids, .. } => {
                let centroids = centroids.as_ref().ok_or(Failure::NothingPrepared)?;
                matrix::write(path, centroids.iter().map(|value| value.to_le_bytes()))
            }
            Task::Neighbours { ids, .. } => {
                let ids = ids.as_ref().ok_or(Failure::NothingPrepared)?;
                matrix::write(path, ids.iter().map(|id| id.to_le_bytes()))
            }
            Task::Copy { .. } | Task::Read { .. } => Err(Failure::NoAnswer),
        }
    }
}

fn spin(times: usize) {
    let mut sums = [[1.0_f32; 16]; 8];
    CpuPath::fastest().run(
        #[inline(always)]
        || {
            for _ in 0..times {
                for sum in sums.as_flattened_mut() {
                    *sum = *sum * 0.999 + 1e-3;
                }
            }
        },
    );
    black_box(sums);
}

/// The first `rows` rows of an `.fbin` file, as the host's search reads them.
fn file_rows(path: &Path, rows: usize, dim: usize) -> Result<FileRows, Failure> {
    let offset = matrix::HEADER_BYTES;
    Ok(RowFile { path: path.to_owned(), offset, rows, dim, blocks: None, absent: None }.open()?)
}

fn round_trip(
    codec: &Codec,
    rows: ArrayView2<'_, f32>,
    team: Team<'_>,
    path: &Path,
) -> Result<(), Failure> {
    let (mut codes, mut x) = (Guarded::codes(), Guarded::rows());
    codec.encode(rows, &mut codes, team)?;
    codec.decode(codes.values(), &mut x, team)?;
    matrix::write(path, x.values().iter().map(|value| value.to_le_bytes()))
}

/// Estimates of all queries for all codes, block by block.
fn scan(
    codec: &Codec,
    blocks: &[Packed],
    queries: ArrayView2<'_, f32>,
    estimates: &mut Guarded<f32>,
    team: Team<'_>,
) -> Result<Duration, Failure> {
    let mut spent = Duration::ZERO;
    for queries in queries.axis_chunks_iter(ndarray::Axis(0), QUERIES_PER_SCORE) {
        for block in blocks {
            spent += codec.score(queries, block, estimates, team)?;
        }
    }
    Ok(spent)
}
