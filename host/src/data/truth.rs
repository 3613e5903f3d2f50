//! Exact neighbours: for each query the k base rows of smallest (distance, id), found by
//! [`vq_kernels::knn`] and kept in files. The answer is that of sorting all f64 distances, ties
//! included.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ndarray::{Array2, ArrayView1, s};
use serde::{Deserialize, Serialize};
use vq_kernels::knn::{Distance, Knn};

use super::cache::{Cache, TRUTH};
use super::equal::Sought;
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
/// Rows whose mean is about the middle of all.
const MIDDLE_ROWS: usize = 1024;

/// Where neighbours are kept.
pub(super) struct Place<'a, 'c> {
    pub(super) cache: &'a mut Cache<'c>,
    /// What base, queries and metric are.
    pub(super) key: &'a str,
    /// For people: where the base comes from.
    pub(super) from: &'a str,
}

/// Neighbours that are kept, and what else is known of queries and base by then.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: TruthFile,
    /// Queries that are equal to a base row.
    pub(super) identical: u64,
    /// Queries for which the k-th and the next nearest row are equally near.
    pub(super) tied: u64,
    /// Keeps the file.
    pub(super) lock: Option<File>,
}

/// Finds `k` exact neighbours of each of `queries` in `base`, in a file of the cache
/// that is kept for the next caller. `k` is at most the number of base rows.
///
/// The file has one more, if there is one, which tells where the k-th ties with the next.
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
    let depth = base.rows().min(k + 1);
    if let Some(found) = stored(&folder, queries.rows(), k, depth, &mut cache.notices)? {
        return Ok(found);
    }
    let (truth, identical) = exact_neighbours(base, queries, metric, depth, progress)?;
    cache.sources.unchanged_so_far()?;
    fs::create_dir_all(&folder).map_err(cache_io("create", &folder))?;
    // Beside its place first: a file there is whole.
    let beside = Unfinished::new(&cache.folder)?;
    let (whole, path) = (beside.path().join("k"), folder.join(format!("k{depth}")));
    write(&truth, identical, &whole)?;
    fs::rename(&whole, &path).map_err(cache_io("write", &path))?;
    // Only people look at it.
    let _told = fs::write(folder.join(ABOUT), from);
    let lock = hold(&path);
    Ok(Found { file: TruthFile { path, k }, identical, tied: truth.tied_at(k), lock })
}

impl Truth {
    /// Queries whose `k`-th neighbour is as near as the next one, if that is known.
    fn tied_at(&self, k: usize) -> u64 {
        if self.distances.ncols() <= k {
            return 0;
        }
        let (last, next) = (self.distances.column(k - 1), self.distances.column(k));
        last.iter().zip(next).map(|(last, next)| u64::from(last == next)).sum()
    }
}

/// Keeps the file from being cleared, and remembers that it was used.
fn hold(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    if let Ok(writable) = File::options().append(true).open(path) {
        let _told = writable.set_modified(SystemTime::now());
    }
    file.lock_shared().is_ok().then_some(file)
}

/// The whole file in `folder` with the fewest neighbours, at least `depth`, that are enough.
fn stored(
    folder: &Path,
    queries: usize,
    k: usize,
    depth: usize,
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
            && held >= depth
        {
            enough.push((held, path));
        }
    }
    enough.sort();
    for (held, path) in enough {
        let lock = hold(&path);
        let deep = TruthFile { path: path.clone(), k: depth };
        let file = TruthFile { path, k };
        let whole = deep.read().and_then(|truth| Ok((truth, Header::read(&file.path)?)));
        match whole {
            Ok((truth, header)) if header.queries == queries && header.k == held => {
                let (identical, tied) = (header.identical, truth.tied_at(k));
                return Ok(Some(Found { file, identical, tied, lock }));
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

impl From<Metric> for Distance {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::L2 => Self::L2Sq,
            Metric::Ip | Metric::Cosine => Self::NegativeProduct,
        }
    }
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
    let dim = base.dim();
    let group = (GROUP_VALUES / dim.max(4 * k)).clamp(64, 4096);
    let total = queries.rows().div_ceil(group) as u64 * base.rows() as u64;
    let centre = about_the_middle(base)?;

    let mut truth = Truth {
        ids: Array2::zeros((queries.rows(), k)),
        distances: Array2::zeros((queries.rows(), k)),
    };
    let sought = Sought::new(queries)?;
    let mut behind = 0;
    let step = block_rows(dim);
    let mut block = Array2::zeros((step.min(base.rows()), dim));
    for first_query in (0..queries.rows()).step_by(group) {
        let count = group.min(queries.rows() - first_query);
        let mut x = Array2::zeros((count, dim));
        queries.read(first_query, x.view_mut())?;
        let mut knn = Knn::new(x.view(), metric.into(), k, &centre);
        for first in (0..base.rows()).step_by(step) {
            let count = step.min(base.rows() - first);
            let mut block = block.slice_mut(s![..count, ..]);
            base.read_in_pool(first, block.view_mut())?;
            if first_query == 0 {
                sought.look_in(block.view())?;
            }
            // Rows of a prepared base are numbered by u32.
            knn.push(first as u32, block.view());
            behind += count as u64;
            progress(Progress { stage: "find neighbours", done: behind, total })?;
        }
        for (query, found) in (first_query..).zip(knn.finish()) {
            for (rank, neighbour) in found.nearest.into_iter().enumerate() {
                truth.ids[(query, rank)] = neighbour.id;
                truth.distances[(query, rank)] = neighbour.distance;
            }
        }
    }
    Ok((truth, sought.found()))
}

/// The mean of some rows from all over the base: near enough to the middle that distances between
/// rows are not small beside those from it.
fn about_the_middle(base: &Rows) -> Result<Vec<f64>, DataError> {
    let step = base.rows().div_ceil(MIDDLE_ROWS);
    let ids: Vec<usize> = (0..base.rows()).step_by(step).collect();
    let mut rows = Array2::zeros((ids.len(), base.dim()));
    base.gather(&ids, rows.view_mut())?;
    let mean = |column: ArrayView1<'_, f32>| {
        column.iter().map(|x| f64::from(*x)).sum::<f64>() / ids.len() as f64
    };
    Ok(rows.columns().into_iter().map(mean).collect())
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
                    (Distance::from(metric).of(x, row), id)
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
        let mut cache = Cache { folder, sources: &sources, makes: true, notices: Vec::new() };
        let key = "0123456789abcdef";
        let place = Place { cache: &mut cache, key, from: "here" };
        let found = find(base, queries, Metric::L2, k, place, &|_| Ok(())).unwrap();
        (found, cache.notices)
    }

    /// Finds and compares.
    #[track_caller]
    fn check(base: &Array2<f32>, queries: &Array2<f32>, metric: Metric, k: usize) {
        let folder = tempfile::tempdir().unwrap();
        let base_rows = prepared_rows(folder.path(), "base", base);
        let query_rows = prepared_rows(folder.path(), "queries", queries);
        let (found, _) = exact_neighbours(&base_rows, &query_rows, metric, k, &|_| Ok(())).unwrap();
        assert_eq!(found, by_full_sort(base, queries, metric, k));
    }

    #[test]
    fn neighbours_are_those_of_a_full_sort() {
        for metric in METRICS {
            // More rows than a set of panels, a tail, more queries than a chunk.
            let base = small_integers(9001, 33, 1).mapv(|x| x * 0.37);
            let queries = small_integers(101, 33, 2).mapv(|x| x * 0.41);
            check(&base, &queries, metric, 10);
            let large = 2.0_f32.powi(50);
            check(&(base * large), &(queries * large), metric, 10);
        }
    }

    #[test]
    fn ties_are_settled_by_the_lowest_id() {
        for metric in METRICS {
            // 7² distinct rows, each some 40 times: every list ends within a tie.
            check(&small_integers(2000, 2, 1), &small_integers(60, 2, 2), metric, 10);
            check(&Array2::zeros((700, 3)), &small_integers(5, 3, 2), metric, 7);
        }
    }

    #[test]
    fn data_far_from_the_origin_is_exact_too() {
        // ‖x‖² is 10¹² times the distances: f32 scores say nothing.
        let far = |n, seed| small_integers(n, 16, seed).mapv(|x| 1e6 + x / 4.0);
        check(&far(3000, 1), &far(20, 2), Metric::L2, 10);
        check(&far(3000, 1), &far(20, 2), Metric::Ip, 10);
    }

    #[test]
    fn one_enormous_row_changes_nothing_for_the_others() {
        let mut base = small_integers(3000, 16, 1).mapv(|x| x + 0.1);
        base.row_mut(17).fill(1e9);
        let queries = small_integers(20, 16, 2);
        check(&base, &queries, Metric::L2, 10);
        check(&base, &queries, Metric::Ip, 10);
    }

    #[test]
    fn values_whose_scores_overflow_f32_are_exact_too() {
        for metric in METRICS {
            let base = small_integers(500, 8, 1).mapv(|x| x * 1e30);
            let queries = small_integers(9, 8, 2).mapv(|x| x * 1e30);
            check(&base, &queries, metric, 10);
            let tiny = small_integers(500, 8, 1).mapv(|x| x * 1e-30);
            check(&tiny, &queries.mapv(|x| x / 1e30 / 1e30), metric, 10);
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
        let found = || kept(folder.path(), &base, &queries, 5).0.identical;
        assert_eq!([found(), found()], [3, 3]);
        let of = exact_neighbours(&base, &queries, Metric::Ip, 1, &|_| Ok(())).unwrap().1;
        assert_eq!(of, 3, "also where the nearest row is another one");
    }

    #[test]
    fn queries_whose_last_neighbour_ties_with_the_next_row_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        // Distances of 0, 1, 1, 4, 4, 9 and 0, 1, 4, 9, 16, 25.
        let base = ndarray::array![[0.0], [1.0], [-1.0], [2.0], [-2.0], [3.0]];
        let queries = prepared_rows(folder.path(), "q", &ndarray::array![[0.0], [-2.0]]);
        let base = prepared_rows(folder.path(), "base", &base);
        let tied = |k| kept(folder.path(), &base, &queries, k).0.tied;
        let expected = [0, 1, 0, 1, 0, 0];
        assert_eq!([1, 2, 3, 4, 5, 6].map(tied), expected);
        assert_eq!([1, 2, 3, 4, 5, 6].map(tied), expected, "also from the cache");
    }

    #[test]
    fn a_stored_file_serves_every_smaller_k() {
        let folder = tempfile::tempdir().unwrap();
        let base = prepared_rows(folder.path(), "base", &small_integers(300, 9, 1));
        let queries = prepared_rows(folder.path(), "queries", &small_integers(8, 9, 2));
        let find = |k| kept(folder.path(), &base, &queries, k).0.file;
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
        let file = find().0.file;
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
            let (again, notices) = find();
            assert_eq!((&again.file, notices.len()), (&file, 1), "{notices:?}");
            assert_eq!(file.read().unwrap(), truth, "it is made again");
            assert!(find().1.is_empty());
        }
    }
}
