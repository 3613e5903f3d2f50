//! Exact neighbours: for each query the k base rows of smallest (distance, id).
//!
//! Estimated scores choose k + margin candidates per query; their distances are
//! computed in f64 and sorted. A bound on the estimates' error decides whether a row
//! outside the candidates could belong to the k; a query where it could is scanned
//! again by f32 scores, every row within their bound being measured in f64. The
//! answer is therefore the same as that of sorting all f64 distances, ties included.
//!
//! **The bound.** Estimates are those of [`Words`], which says how far they may be
//! off, or f32 scores where it has none. An f32 score is s = fl(b + Σ xᵢrᵢ) by d fused
//! multiply-adds from the bias b = fl(−‖r‖²/2), or 0 for inner products. Each rounds its partial sum, and b
//! itself is rounded once, so with u = 2⁻²⁴ (Higham 2002, §3.1)
//! |s − exact| ≤ γ·(‖x‖‖r‖ + ‖r‖²/2), γ = (d+1)u / (1 − (d+1)u), by Cauchy–Schwarz on
//! Σ|xᵢrᵢ|. With d ≤ 65,536, γ ≤ 1.01·(d+1)u. Steps that underflow add at most 2⁻¹⁵⁰
//! each, and the f64 values it is compared with err by (d+4)·2⁻⁵²·(‖x‖+‖r‖)² at most.

use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vq_kernels::distance::{dot, l2_sq, norm_sq};
use vq_kernels::words::{Reach, ScoreError};
use vq_kernels::{Panels, TopK, Words};

use super::cache::{Cache, TRUTH};
use super::error::{cache_io, io};
use super::unfinished::Unfinished;
use super::{DataError, Metric, OnProgress, Progress, Rows, block_rows};

/// Exact neighbours of q queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Base rows (q, k), nearest first; of equally near ones the lowest id first.
    pub ids: Array2<u32>,
    /// Their distances (q, k), smaller is nearer: ‖x−r‖² for l2, −x·r for ip and cosine.
    pub distances: Array2<f64>,
}

/// A file that holds at least `k` exact neighbours per query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TruthFile {
    /// The file.
    pub path: PathBuf,
    /// Neighbours per query: what was asked for, or all rows if there are fewer.
    pub k: usize,
}

/// Beside the files, what they are of.
pub(super) const ABOUT: &str = "about";

/// Format name and version.
const MAGIC: [u8; 8] = *b"vqtruth1";
/// Magic, then queries, neighbours per query and identical queries as u64.
const HEADER_BYTES: usize = 32;
/// BLAKE3 of everything before it.
const TRAILER_BYTES: usize = 32;

/// Queries that share one walk over the base.
const GROUP_VALUES: usize = 1 << 22;
/// Queries a thread takes at a time.
const QUERY_CHUNK: usize = 64;
/// Values of the base in one slot: a quarter of a megabyte of words or a half of f32, a part of the
/// second-level cache.
const SLOT_VALUES: usize = 1 << 17;
/// Candidates that a thread measures at a time.
const PAIRS: usize = 4096;
/// Most rows that one read brings.
const RUN: usize = 512;
/// Candidates that are so many rows apart are still one read.
const GAP: u32 = 16;

/// Where neighbours are kept.
pub(super) struct Place<'a, 'c> {
    pub(super) cache: &'a mut Cache<'c>,
    /// What base, queries and metric are.
    pub(super) key: &'a str,
    /// For people: where the base comes from.
    pub(super) from: &'a str,
}

/// A file of neighbours, how many queries equal a base row, and the lock that keeps the file.
pub(super) type Found = (TruthFile, u64, Option<File>);

/// Finds `k` exact neighbours of each of `queries` in `base`, in a file of the cache
/// that is kept for the next caller. `k` is at most the number of base rows.
pub(super) fn find(
    base: &Rows,
    queries: &Rows,
    metric: Metric,
    k: usize,
    place: Place<'_, '_>,
    progress: OnProgress<'_>,
) -> Result<Found, DataError> {
    let Place { cache, key, from } = place;
    let folder = cache.folder.join(TRUTH).join(&key[..16]);
    if let Some(found) = stored(&folder, queries.rows(), k, &mut cache.notices)? {
        return Ok(found);
    }
    let (truth, identical) = exact_neighbours(base, queries, metric, k, progress)?;
    cache.sources.unchanged_so_far()?;
    fs::create_dir_all(&folder).map_err(cache_io("create", &folder))?;
    // Beside its place first: a file there is whole.
    let beside = Unfinished::new(&cache.folder)?;
    let (whole, path) = (beside.path().join("k"), folder.join(format!("k{k}")));
    write(&truth, identical, &whole)?;
    fs::rename(&whole, &path).map_err(cache_io("write", &path))?;
    // Only people look at it.
    let _told = fs::write(folder.join(ABOUT), from);
    let lock = hold(&path);
    Ok((TruthFile { path, k }, identical, lock))
}

/// Keeps the file from being cleared, and remembers that it was used.
fn hold(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    if let Ok(writable) = File::options().append(true).open(path) {
        let _told = writable.set_modified(SystemTime::now());
    }
    file.lock_shared().is_ok().then_some(file)
}

/// The whole file in `folder` with the fewest neighbours that are enough.
fn stored(
    folder: &Path,
    queries: usize,
    k: usize,
    notices: &mut Vec<String>,
) -> Result<Option<Found>, DataError> {
    let mut enough: Vec<(usize, PathBuf)> = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cache_io("list", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(cache_io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(held) = name.strip_prefix('k').and_then(|k| k.parse().ok())
            && held >= k
        {
            enough.push((held, path));
        }
    }
    enough.sort();
    for (held, path) in enough {
        let lock = hold(&path);
        let file = TruthFile { path, k };
        let whole = file.read().and_then(|_| Header::read(&file.path));
        match whole {
            Ok(header) if header.queries == queries && header.k == held => {
                return Ok(Some((file, header.identical, lock)));
            }
            Ok(_) => notices.push(damaged_notice(&file.path, "another one's")),
            Err(DataError::Damaged { reason, .. }) => {
                notices.push(damaged_notice(&file.path, reason));
            }
            // Cleared away meanwhile.
            Err(DataError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Of no use to anybody, and not to be told of again.
        let _removed = fs::remove_file(&file.path);
    }
    Ok(None)
}

fn damaged_notice(path: &Path, how: &str) -> String {
    format!("the exact neighbours in {} are damaged ({how}) and are found again", path.display())
}

struct Header {
    queries: usize,
    k: usize,
    identical: u64,
    length: usize,
}

impl Header {
    /// Reads the header and checks the file's length against it.
    fn read(path: &Path) -> Result<Self, DataError> {
        let damaged = |reason| DataError::Damaged { path: path.into(), reason };
        let mut file = File::open(path).map_err(io("open", path))?;
        let length = file.metadata().map_err(io("inspect", path))?.len();
        let mut bytes = [0; HEADER_BYTES];
        std::io::Read::read_exact(&mut file, &mut bytes).map_err(|_| damaged("no header"))?;
        let (magic, words) = bytes.split_at(8);
        if magic != MAGIC {
            return Err(damaged("not a file of neighbours"));
        }
        let words = words.as_chunks::<8>().0;
        let [queries, k, identical] = [0, 1, 2].map(|i| u64::from_le_bytes(words[i]));
        let expected = u128::from(queries)
            .saturating_mul(u128::from(k))
            .saturating_mul(12)
            .saturating_add((HEADER_BYTES + TRAILER_BYTES) as u128);
        if expected != u128::from(length) {
            return Err(damaged("wrong length"));
        }
        // All fit: the file is that long.
        Ok(Self { queries: queries as usize, k: k as usize, identical, length: length as usize })
    }
}

impl TruthFile {
    /// Reads the first `k` neighbours of every query.
    ///
    /// # Errors
    /// [`DataError::Damaged`] when the file is not what was written,
    /// [`DataError::Io`] when it cannot be read.
    pub fn read(&self) -> Result<Truth, DataError> {
        let damaged = |reason| DataError::Damaged { path: self.path.clone(), reason };
        let header = Header::read(&self.path)?;
        if header.k < self.k {
            return Err(damaged("too few neighbours"));
        }
        let bytes = fs::read(&self.path).map_err(io("read", &self.path))?;
        if bytes.len() != header.length {
            return Err(damaged("wrong length"));
        }
        let (content, checksum) = bytes.split_at(header.length - TRAILER_BYTES);
        if blake3::hash(content).as_bytes() != checksum {
            return Err(damaged("wrong checksum"));
        }
        let (ids, distances) = content[HEADER_BYTES..].split_at(4 * header.queries * header.k);
        let (ids, distances) = (ids.as_chunks::<4>().0, distances.as_chunks::<8>().0);
        let shape = (header.queries, self.k);
        let at = |(query, rank)| query * header.k + rank;
        Ok(Truth {
            ids: Array2::from_shape_fn(shape, |place| u32::from_le_bytes(ids[at(place)])),
            distances: Array2::from_shape_fn(shape, |place| {
                f64::from_le_bytes(distances[at(place)])
            }),
        })
    }
}

fn write(truth: &Truth, identical: u64, path: &Path) -> Result<(), DataError> {
    let failed = |source| cache_io("write", path)(source);
    let mut out = BufWriter::new(File::create_new(path).map_err(failed)?);
    let mut digest = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        digest.update(bytes);
        out.write_all(bytes).map_err(failed)
    };
    put(&MAGIC)?;
    let (queries, k) = truth.ids.dim();
    for word in [queries as u64, k as u64, identical] {
        put(&word.to_le_bytes())?;
    }
    for ids in truth.ids.rows() {
        put(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>())?;
    }
    for row in truth.distances.rows() {
        put(&row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
    }
    out.write_all(digest.finalize().as_bytes()).map_err(failed)?;
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)
}

/// A base row and how far it is; ordered nearest first, then by id.
#[derive(Debug, Clone, Copy)]
struct Neighbour {
    distance: f64,
    id: u32,
}

impl Ord for Neighbour {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Neighbour {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Neighbour {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Neighbour {}

fn distance(metric: Metric, x: &[f32], row: &[f32]) -> f64 {
    match metric {
        Metric::L2 => l2_sq(x, row),
        // Not a negation: −0 would sort before 0.
        Metric::Ip | Metric::Cosine => 0.0 - dot(x, row),
    }
}

/// A query as the bound sees it.
struct Query<'a> {
    x: &'a [f32],
    norm: f64,
    metric: Metric,
}

impl<'a> Query<'a> {
    fn new(x: ArrayView1<'a, f32>, metric: Metric) -> Self {
        let x = x.to_slice().expect("queries are row-major");
        let norm = norm_sq(x).sqrt();
        Self { x, norm, metric }
    }

    /// The exact score that belongs to `distance`.
    fn score(&self, distance: f64) -> f64 {
        match self.metric {
            Metric::L2 => (self.norm * self.norm - distance) / 2.0,
            Metric::Ip | Metric::Cosine => -distance,
        }
    }

    /// The largest distance of a row of at least this exact score and at most this norm.
    fn distance(&self, score: f64, norm: f64) -> f64 {
        let of_row = match self.metric {
            Metric::L2 => 0.0,
            Metric::Ip | Metric::Cosine => norm * norm,
        };
        let square = self.norm * self.norm + of_row - 2.0 * score + 2.0 * self.rounding(norm);
        square.max(0.0).sqrt()
    }

    /// How far f64 scores against rows of at most `norm` may be off.
    fn rounding(&self, norm: f64) -> f64 {
        (self.x.len() as f64 + 4.0) * 2f64.powi(-52) * (self.norm + norm).powi(2)
    }

    /// How far f32 scores against rows of at most `norm` may be off; infinite where f32
    /// may overflow.
    fn error(&self, norm: f64) -> f64 {
        let d = self.x.len() as f64;
        let size = self.norm * norm + norm * norm / 2.0;
        if size > f64::from(f32::MAX) / 2.0 {
            return f64::INFINITY;
        }
        1.01 * (d + 1.0) * 2f64.powi(-24) * size + (d + 1.0) * 2f64.powi(-149)
    }

    /// Whether a row of this f32 `score` and at most this `norm` is certainly worse than
    /// one of the exact score `good`.
    fn surely_worse(&self, score: f32, norm: f64, good: f64) -> bool {
        // False for a NaN, which only an overflow makes.
        f64::from(score) + self.error(norm) + self.rounding(norm) < good
    }
}

/// One query's candidates.
struct Shortlist {
    /// (estimated score, row).
    kept: Vec<(f32, u32)>,
    /// No row left out has a larger estimate.
    worst: f32,
    /// How far estimates may be off.
    error: ScoreError,
}

/// What one query's candidates came to.
enum Verdict {
    /// These are the neighbours.
    Proven(Vec<Neighbour>),
    /// They may not be; but k rows are known to have at least this exact score.
    Doubtful(f64),
}

/// Finds the `k` exact neighbours of each of `queries` in `base`, in the current rayon pool;
/// also says how many queries equal a row of the base.
///
/// Reads `base` in blocks: memory does not grow with its rows. O(queries · rows · d).
///
/// # Errors
/// [`DataError`] when either file cannot be read.
///
/// # Panics
/// When `k` is 0 or more than the rows of `base`, or the dimensions disagree.
pub fn exact_neighbours(
    base: &Rows,
    queries: &Rows,
    metric: Metric,
    k: usize,
    progress: OnProgress<'_>,
) -> Result<(Truth, u64), DataError> {
    assert!((1..=base.rows()).contains(&k), "k is a number of rows");
    // Enough that near ties in f32 rarely send a query around again.
    let keep = k + k / 4 + 32;
    let group = (GROUP_VALUES / base.dim().max(4 * keep)).clamp(QUERY_CHUNK, 4096);
    let total = queries.rows().div_ceil(group) as u64 * base.rows() as u64;

    let mut truth = Truth {
        ids: Array2::zeros((queries.rows(), k)),
        distances: Array2::zeros((queries.rows(), k)),
    };
    let mut identical = 0;
    let mut walk = Walk::new(base, metric);
    for first in (0..queries.rows()).step_by(group) {
        let count = group.min(queries.rows() - first);
        let mut x = Array2::zeros((count, queries.dim()));
        queries.read(first, x.view_mut())?;

        let behind = (first / group) as u64 * base.rows() as u64;
        let report = |done: usize| {
            progress(Progress { stage: "find neighbours", done: behind + done as u64, total });
        };
        let shortlists = walk.candidates(x.view(), keep, &report)?;
        let (measured, equal) = measure(base, x.view(), metric, &shortlists)?;
        identical += equal;
        let largest = walk.largest_norm;
        let verdicts: Vec<Verdict> = x
            .axis_iter(Axis(0))
            .into_par_iter()
            .zip(&shortlists)
            .zip(measured)
            .map(|((x, shortlist), measured)| {
                judge(&Query::new(x, metric), shortlist, measured, k, largest)
            })
            .collect();

        let mut doubtful = Vec::new();
        for (query, verdict) in verdicts.into_iter().enumerate() {
            match verdict {
                Verdict::Proven(found) => truth.set(first + query, &found),
                Verdict::Doubtful(good) => doubtful.push((query, good)),
            }
        }
        if doubtful.is_empty() {
            continue;
        }
        let scanned = walk.scan(x.view(), &doubtful, k, &|done| {
            progress(Progress {
                stage: "settle near ties",
                done: done as u64,
                total: base.rows() as u64,
            });
        })?;
        for ((query, _), found) in doubtful.into_iter().zip(scanned) {
            truth.set(first + query, &found);
        }
    }
    Ok((truth, identical))
}

impl Truth {
    fn set(&mut self, query: usize, found: &[Neighbour]) {
        for (rank, neighbour) in found.iter().enumerate() {
            self.ids[(query, rank)] = neighbour.id;
            self.distances[(query, rank)] = neighbour.distance;
        }
    }
}

/// Measures the candidates of each of `x` (n, d) in f64; also says how many of `x` equal one of
/// theirs.
///
/// All together and in the order of the file: queries share candidates, and neighbouring
/// rows are one read.
fn measure(
    base: &Rows,
    x: ArrayView2<'_, f32>,
    metric: Metric,
    shortlists: &[Shortlist],
) -> Result<(Vec<Vec<Neighbour>>, u64), DataError> {
    let mut pairs: Vec<(u32, u32)> = (0..)
        .zip(shortlists)
        .flat_map(|(query, shortlist)| shortlist.kept.iter().map(move |(_, id)| (*id, query)))
        .collect();
    pairs.par_sort_unstable();
    let measured: Vec<Vec<(u32, Neighbour, bool)>> = pairs
        .par_chunks(PAIRS)
        .map(|pairs| {
            let mut rows = Array2::zeros((RUN, base.dim()));
            let mut measured = Vec::with_capacity(pairs.len());
            let mut left = pairs;
            while let Some(&(first, _)) = left.first() {
                // Rows in between are read along: a read costs more than a few rows.
                let more = left
                    .windows(2)
                    .take_while(|two| two[1].0 - two[0].0 <= GAP && two[1].0 - first < RUN as u32)
                    .count();
                let (run, rest) = left.split_at(more + 1);
                left = rest;
                let count = (run[more].0 - first) as usize + 1;
                base.read(first as usize, rows.slice_mut(s![..count, ..]))?;
                for &(id, query) in run {
                    let row = rows.index_axis(Axis(0), (id - first) as usize);
                    let row = row.to_slice().expect("rows are row-major");
                    let x = x.index_axis_move(Axis(0), query as usize);
                    let x = x.to_slice().expect("queries are row-major");
                    let neighbour = Neighbour { distance: distance(metric, x, row), id };
                    measured.push((query, neighbour, row == x));
                }
            }
            Ok(measured)
        })
        .collect::<Result<_, DataError>>()?;
    let mut found: Vec<Vec<Neighbour>> =
        shortlists.iter().map(|shortlist| Vec::with_capacity(shortlist.kept.len())).collect();
    let mut equal = vec![false; shortlists.len()];
    for (query, neighbour, same) in measured.into_iter().flatten() {
        found[query as usize].push(neighbour);
        equal[query as usize] |= same;
    }
    Ok((found, equal.into_iter().map(u64::from).sum()))
}

/// Whether the best `k` of the candidates `measured` are the neighbours.
fn judge(
    query: &Query<'_>,
    shortlist: &Shortlist,
    mut measured: Vec<Neighbour>,
    k: usize,
    largest: f64,
) -> Verdict {
    measured.sort_unstable();
    measured.truncate(k);
    // Fewer than k only where estimates were no numbers: every row is as good then.
    let Some(last) = measured.get(k - 1) else { return Verdict::Doubtful(f64::NEG_INFINITY) };
    let good = query.score(last.distance);
    // A row as good as the k-th is estimated at least as this.
    let farthest = query.distance(good, largest);
    let least = good - shortlist.error.at(farthest) - query.rounding(largest);
    // False for a NaN, which only an overflow makes.
    if f64::from(shortlist.worst) < least {
        Verdict::Proven(measured)
    } else {
        Verdict::Doubtful(good)
    }
}

/// Walks over the base in blocks; each block is read and packed by all threads, then
/// met by all queries.
struct Walk<'a> {
    base: &'a Rows,
    metric: Metric,
    slots: Vec<Slot>,
    /// Rows of one slot.
    slot_rows: usize,
    largest_norm: f64,
}

/// A run of base rows, ready to be scored.
struct Slot {
    first: usize,
    count: usize,
    rows: Array2<f32>,
    largest_norm: f64,
    words: Words,
    panels: Panels,
    /// One per row where the panels hold them.
    norms_sq: Vec<f64>,
    packed: Packed,
}

/// Where a slot's rows are scored.
#[derive(Clone, Copy, PartialEq)]
enum Packed {
    Words,
    Panels,
}

/// What a walk asks of a slot.
#[derive(Clone, Copy)]
enum Scores {
    /// Of any kind, for vectors of at most this norm.
    Estimated(f64),
    /// f32.
    Single,
}

impl<'a> Walk<'a> {
    fn new(base: &'a Rows, metric: Metric) -> Self {
        let slot_rows = (SLOT_VALUES / base.dim()).clamp(32, 4096) / 32 * 32;
        let empty = || Slot {
            first: 0,
            count: 0,
            rows: Array2::zeros((slot_rows, base.dim())),
            largest_norm: 0.0,
            words: Words::default(),
            panels: Panels::for_ip(ArrayView2::from_shape((0, base.dim()), &[]).expect("no rows")),
            norms_sq: Vec::new(),
            packed: Packed::Panels,
        };
        let slots = block_rows(base.dim()).div_ceil(slot_rows);
        Self {
            base,
            metric,
            slots: (0..slots).map(|_| empty()).collect(),
            slot_rows,
            largest_norm: 0.0,
        }
    }

    /// Shows the base to `each`, a block of slots at a time.
    fn blocks(
        &mut self,
        scores: Scores,
        report: &(dyn Fn(usize) + Sync),
        mut each: impl FnMut(&[Slot]),
    ) -> Result<(), DataError> {
        let block = self.slots.len() * self.slot_rows;
        for start in (0..self.base.rows()).step_by(block) {
            let end = self.base.rows().min(start + block);
            let used = (end - start).div_ceil(self.slot_rows);
            let slots = &mut self.slots[..used];
            let (base, metric, size) = (self.base, self.metric, self.slot_rows);
            slots.par_iter_mut().enumerate().try_for_each(|(i, slot)| {
                let first = start + i * size;
                slot.load(base, metric, first, size.min(end - first), scores)
            })?;
            for slot in &*slots {
                self.largest_norm = self.largest_norm.max(slot.largest_norm);
            }
            each(slots);
            report(end);
        }
        Ok(())
    }

    /// The `keep` rows of the largest estimates for each of `x` (n, d).
    fn candidates(
        &mut self,
        x: ArrayView2<'_, f32>,
        keep: usize,
        report: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Shortlist>, DataError> {
        let mut tops = vec![TopK::new(keep); x.nrows()];
        let mut errors = vec![ScoreError::default(); x.nrows()];
        let metric = self.metric;
        let norms = x.axis_iter(Axis(0)).map(|x| Query::new(x, metric).norm);
        let reach = norms.fold(0.0, f64::max);
        self.blocks(Scores::Estimated(reach), report, |slots| {
            tops.par_chunks_mut(QUERY_CHUNK)
                .zip(errors.par_chunks_mut(QUERY_CHUNK))
                .zip(x.axis_chunks_iter(Axis(0), QUERY_CHUNK))
                .for_each(|((tops, errors), x)| {
                    offer(slots, x, metric, tops, errors);
                });
        })?;
        // Where no row is left out, none can be missed.
        let every = self.base.rows() <= keep;
        let shortlists = tops.into_par_iter().zip(errors).map(|(top, error)| {
            let kept = top.into_sorted();
            let worst = if every { None } else { kept.last() };
            Shortlist { worst: worst.map_or(f32::NEG_INFINITY, |(score, _)| *score), kept, error }
        });
        Ok(shortlists.collect())
    }

    /// The exact `k` neighbours of the queries (row of `x`, score that k rows reach).
    fn scan(
        &mut self,
        x: ArrayView2<'_, f32>,
        doubtful: &[(usize, f64)],
        k: usize,
        report: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Vec<Neighbour>>, DataError> {
        let metric = self.metric;
        let rows: Vec<usize> = doubtful.iter().map(|(query, _)| *query).collect();
        let x = x.select(Axis(0), &rows);
        let mut found = vec![BinaryHeap::with_capacity(k + 1); doubtful.len()];
        self.blocks(Scores::Single, report, |slots| {
            found
                .par_chunks_mut(QUERY_CHUNK)
                .zip(x.axis_chunks_iter(Axis(0), QUERY_CHUNK))
                .zip(doubtful.par_chunks(QUERY_CHUNK))
                .for_each(|((found, x), doubtful)| {
                    each_scores(slots, x, |slot, query, scores| {
                        let (_, good) = doubtful[query];
                        let heap = &mut found[query];
                        let query = Query::new(x.index_axis_move(Axis(0), query), metric);
                        for (i, &score) in scores.iter().enumerate() {
                            if !query.surely_worse(score, slot.norms_sq[i].sqrt(), good) {
                                let row = slot.rows.row(i);
                                let row = row.to_slice().expect("rows are row-major");
                                heap.push(Neighbour {
                                    distance: distance(metric, query.x, row),
                                    id: (slot.first + i) as u32,
                                });
                                if heap.len() > k {
                                    heap.pop();
                                }
                            }
                        }
                    });
                });
        })?;
        Ok(found.into_iter().map(BinaryHeap::into_sorted_vec).collect())
    }
}

impl Slot {
    fn load(
        &mut self,
        base: &Rows,
        metric: Metric,
        first: usize,
        count: usize,
        scores: Scores,
    ) -> Result<(), DataError> {
        (self.first, self.count) = (first, count);
        let mut rows = self.rows.slice_mut(s![..count, ..]);
        base.read(first, rows.view_mut())?;
        let rows = rows.view();
        let fits = match (scores, metric) {
            (Scores::Single, _) => false,
            (Scores::Estimated(reach), Metric::L2) => self.words.pack_l2(rows, Reach::Norm(reach)),
            (Scores::Estimated(reach), _) => self.words.pack_ip(rows, Reach::Norm(reach)),
        };
        if fits {
            self.packed = Packed::Words;
            self.largest_norm = self.words.norm();
            return Ok(());
        }
        self.packed = Packed::Panels;
        match metric {
            Metric::L2 => self.panels.pack_l2(rows),
            Metric::Ip | Metric::Cosine => self.panels.pack_ip(rows),
        }
        self.norms_sq.clear();
        self.norms_sq.extend(
            rows.axis_iter(Axis(0)).map(|row| norm_sq(row.to_slice().expect("rows are row-major"))),
        );
        self.largest_norm = self.norms_sq.iter().fold(0.0_f64, |a, b| a.max(*b)).sqrt();
        Ok(())
    }
}

/// Offers every row of the slots that may be kept to the queries `x`.
fn offer(
    slots: &[Slot],
    x: ArrayView2<'_, f32>,
    metric: Metric,
    tops: &mut [TopK],
    errors: &mut [ScoreError],
) {
    let (by_words, by_panels): (Vec<_>, Vec<_>) =
        slots.iter().partition(|slot| slot.packed == Packed::Words);
    for slot in by_words {
        slot.words.offer(x, slot.first as u32, tops, errors);
    }
    let norms = by_panels.iter().map(|slot| slot.largest_norm);
    if let Some(norm) = norms.reduce(f64::max) {
        for (x, error) in x.axis_iter(Axis(0)).zip(errors) {
            let constant = Query::new(x, metric).error(norm);
            *error = error.max(ScoreError { per_distance: 0.0, constant });
        }
    }
    each_scores(by_panels, x, |slot, query, scores| {
        tops[query].push_row(slot.first as u32, scores);
    });
}

/// Calls `each(slot, query, scores)` for every query of `x` and every slot, the scores
/// being those of the slot's rows.
fn each_scores<'a>(
    slots: impl IntoIterator<Item = &'a Slot, IntoIter: Clone>,
    x: ArrayView2<'_, f32>,
    mut each: impl FnMut(&Slot, usize, &[f32]),
) {
    let slots = slots.into_iter();
    let widest = slots.clone().map(|slot| slot.count).max().unwrap_or(0);
    let mut scores = Array2::zeros((x.nrows(), widest));
    for slot in slots {
        let mut scores = scores.slice_mut(s![.., ..slot.count]);
        slot.panels.scores(x, scores.view_mut());
        for (query, row) in scores.axis_iter(Axis(0)).enumerate() {
            each(slot, query, row.to_slice().expect("scores are row-major"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::identity::Sources;
    use crate::data::testing::{prepared_rows, small_integers};

    const METRICS: [Metric; 2] = [Metric::L2, Metric::Ip];

    /// All f64 distances, sorted.
    fn by_full_sort(base: &Array2<f32>, queries: &Array2<f32>, metric: Metric, k: usize) -> Truth {
        let mut truth = Truth {
            ids: Array2::zeros((queries.nrows(), k)),
            distances: Array2::zeros((queries.nrows(), k)),
        };
        for (query, x) in queries.rows().into_iter().enumerate() {
            let mut all: Vec<(f64, u32)> = base
                .rows()
                .into_iter()
                .zip(0..)
                .map(|(row, id)| {
                    let (x, row) = (x.to_slice().unwrap(), row.to_slice().unwrap());
                    (distance(metric, x, row), id)
                })
                .collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            for (rank, (distance, id)) in all.into_iter().take(k).enumerate() {
                truth.ids[(query, rank)] = id;
                truth.distances[(query, rank)] = distance;
            }
        }
        truth
    }

    /// What [`find`] finds with a cache in `folder`, and its notices.
    fn kept(folder: &Path, base: &Rows, queries: &Rows, k: usize) -> (Found, Vec<String>) {
        let sources = Sources::default();
        let folder = folder.to_path_buf();
        let mut cache = Cache { folder, sources: &sources, notices: Vec::new() };
        let key = "0123456789abcdef";
        let place = Place { cache: &mut cache, key, from: "here" };
        let found = find(base, queries, Metric::L2, k, place, &|_| {}).unwrap();
        (found, cache.notices)
    }

    /// Finds and compares; returns whether a query had to be settled by a second scan.
    fn check(base: &Array2<f32>, queries: &Array2<f32>, metric: Metric, k: usize) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let base_rows = prepared_rows(folder.path(), "base", base);
        let query_rows = prepared_rows(folder.path(), "queries", queries);
        let settled = std::sync::atomic::AtomicBool::new(false);
        let report = |progress: Progress| {
            if progress.stage == "settle near ties" {
                settled.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        };
        let (found, _) = exact_neighbours(&base_rows, &query_rows, metric, k, &report).unwrap();
        assert_eq!(found, by_full_sort(base, queries, metric, k));
        settled.into_inner()
    }

    #[test]
    fn neighbours_are_those_of_a_full_sort() {
        for metric in METRICS {
            // More rows than a set of panels, a tail, more queries than a chunk.
            let base = small_integers(9001, 33, 1).mapv(|x| x * 0.37);
            let queries = small_integers(101, 33, 2).mapv(|x| x * 0.41);
            check(&base, &queries, metric, 10);
            // Too large for words: by panels, as on machines that have no fast integers.
            let large = 2.0_f32.powi(50);
            let settled = check(&(base * large), &(queries * large), metric, 10);
            assert!(!settled);
        }
    }

    #[test]
    fn ties_are_settled_by_the_lowest_id() {
        for metric in METRICS {
            // 7² distinct rows, each some 40 times: every list ends within a tie.
            let settled = check(&small_integers(2000, 2, 1), &small_integers(60, 2, 2), metric, 10);
            assert!(settled);
            let settled = check(&Array2::zeros((700, 3)), &small_integers(5, 3, 2), metric, 7);
            assert!(settled);
        }
    }

    #[test]
    fn data_far_from_the_origin_is_exact_too() {
        // ‖x‖² is 10¹² times the distances: f32 scores say nothing.
        let far = |n, seed| small_integers(n, 16, seed).mapv(|x| 1e6 + x / 4.0);
        assert!(check(&far(3000, 1), &far(20, 2), Metric::L2, 10));
        assert!(check(&far(3000, 1), &far(20, 2), Metric::Ip, 10));
    }

    #[test]
    fn one_enormous_row_changes_nothing_for_the_others() {
        let mut base = small_integers(3000, 16, 1).mapv(|x| x + 0.1);
        base.row_mut(17).fill(1e9);
        let queries = small_integers(20, 16, 2);
        assert!(check(&base, &queries, Metric::L2, 10));
        check(&base, &queries, Metric::Ip, 10);
    }

    #[test]
    fn values_whose_scores_overflow_f32_are_exact_too() {
        for metric in METRICS {
            let base = small_integers(500, 8, 1).mapv(|x| x * 1e30);
            let queries = small_integers(9, 8, 2).mapv(|x| x * 1e30);
            assert!(check(&base, &queries, metric, 10));
            let tiny = small_integers(500, 8, 1).mapv(|x| x * 1e-30);
            assert!(check(&tiny, &queries.mapv(|x| x / 1e30 / 1e30), metric, 10));
        }
    }

    #[test]
    fn all_rows_may_be_neighbours() {
        for metric in METRICS {
            check(&small_integers(40, 5, 1), &small_integers(3, 5, 2), metric, 40);
            check(&small_integers(1, 5, 1), &small_integers(3, 5, 2), metric, 1);
        }
    }

    #[test]
    fn queries_that_equal_a_base_row_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let base = small_integers(300, 9, 1);
        let mut queries = small_integers(8, 9, 2);
        for query in 0..3 {
            queries.row_mut(query).assign(&base.row(100 * query));
        }
        let base = prepared_rows(folder.path(), "base", &base);
        let queries = prepared_rows(folder.path(), "queries", &queries);
        let found = || kept(folder.path(), &base, &queries, 5).0.1;
        assert_eq!([found(), found()], [3, 3]);
    }

    #[test]
    fn a_stored_file_serves_every_smaller_k() {
        let folder = tempfile::tempdir().unwrap();
        let base = prepared_rows(folder.path(), "base", &small_integers(300, 9, 1));
        let queries = prepared_rows(folder.path(), "queries", &small_integers(8, 9, 2));
        let find = |k| kept(folder.path(), &base, &queries, k).0.0;
        let ten = find(10);
        let five = find(5);
        assert_eq!(ten.path, five.path);
        let (ten, five) = (ten.read().unwrap(), five.read().unwrap());
        assert_eq!(five.ids, ten.ids.slice(s![.., ..5]));
        assert_eq!(five.distances, ten.distances.slice(s![.., ..5]));

        let twenty = find(20);
        assert_eq!(twenty.read().unwrap().ids.slice(s![.., ..10]), ten.ids);
        assert_eq!(find(10).k, 10);
    }

    #[test]
    fn a_damaged_file_is_found_out_and_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let base = prepared_rows(folder.path(), "base", &small_integers(300, 9, 1));
        let queries = prepared_rows(folder.path(), "queries", &small_integers(8, 9, 2));
        let find = || kept(folder.path(), &base, &queries, 10);
        let ((file, ..), _) = find();
        let truth = file.read().unwrap();
        let whole = fs::read(&file.path).unwrap();
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        for damaged in [&whole[..whole.len() - 1], &whole[..20], &[], &flipped(0), &flipped(40)] {
            fs::write(&file.path, damaged).unwrap();
            assert!(matches!(file.read(), Err(DataError::Damaged { .. })));
            let ((again, ..), notices) = find();
            assert_eq!((&again, notices.len()), (&file, 1), "{notices:?}");
            assert_eq!(file.read().unwrap(), truth, "it is made again");
            assert!(find().1.is_empty());
        }
    }
}
