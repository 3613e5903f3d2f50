//! Neighbours that come with a data set. Right ones and wrong ones are published alike, so they are
//! held against the exact search of all rows, and never believed.
//!
//! | extension | layout |
//! |---|---|
//! | `.ibin` `.bin` | big-ann: u32 queries, u32 k, then their k row numbers each, u32; then perhaps their distances, f32 |
//! | `.ivecs` | each query: i32 k, then its k row numbers, i32 |
//! | `.hdf5` `.h5` | the table `neighbors` beside `train` and `test`, of any integers |

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2};
use vq_kernels::knn::Distance;

use super::error::io;
use super::format::{format_of, lists_in};
use super::{DataError, Metric, Rows, Truth};

/// Where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claims {
    /// In a file of their own.
    File(PathBuf),
    /// Beside the rows.
    Table {
        /// The file.
        file: PathBuf,
        /// Its table.
        table: String,
    },
}

/// Rows of the source, by the numbers that they have in the base.
pub(super) struct Places {
    /// Rows of the source.
    pub(super) rows: usize,
    /// The first so many of them are used.
    pub(super) used: usize,
    /// Those of these that left, ascending.
    pub(super) gone: Vec<u32>,
}

enum Place {
    /// Among the rows of the base.
    Base(u32),
    /// Among those that are not.
    Left,
    /// There is no such row.
    Nowhere,
}

impl Places {
    fn of(&self, row: u32) -> Place {
        match (row as usize, self.gone.binary_search(&row)) {
            (row, _) if row >= self.rows => Place::Nowhere,
            (row, _) if row >= self.used => Place::Left,
            (_, Ok(_)) => Place::Left,
            (_, Err(before)) => Place::Base(row - before as u32),
        }
    }
}

/// Row numbers that are said to be the nearest of each query (queries, k), nearest first.
#[derive(Debug)]
pub(super) struct Lists(Array2<u32>);

impl Claims {
    /// For people.
    fn called(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Table { table, .. } => format!("`{table}` of its file"),
        }
    }

    fn file(&self) -> &Path {
        match self {
            Self::File(file) | Self::Table { file, .. } => file,
        }
    }

    /// Whether they are in the file at `path`, which is without links.
    pub(super) fn are_in(&self, path: &Path) -> bool {
        self.file().canonicalize().is_ok_and(|of| of == path)
    }

    fn read(&self) -> Result<Lists, DataError> {
        match self {
            Self::Table { file, table } => lists_in(file, table).map(Lists),
            Self::File(path) => Lists::read(path),
        }
    }

    /// A list for each of `queries`.
    fn read_for(&self, queries: usize) -> Result<Array2<u32>, DataError> {
        let Lists(lists) = self.read()?;
        let found = lists.nrows();
        if found != queries {
            let reason = format!("it has neighbours of {found} queries where there are {queries}");
            return Err(DataError::Header { path: self.file().to_path_buf(), reason });
        }
        Ok(lists)
    }

    /// Holds them against `truth`, the exact neighbours of `queries` in `base`, and answers one line;
    /// none where no row of any list is in the base. Of a table that nobody named the line says why it
    /// cannot be read.
    ///
    /// A list without the rows that are not in the base has to begin with the nearest ones of the base:
    /// each as near as the last of as many exact neighbours. O(queries · k), and a row is read for each
    /// that is none of these.
    ///
    /// # Errors
    /// [`DataError`] when the rows cannot be read, or the lists of a file of their own cannot, or are
    /// not as many as the queries.
    pub(super) fn judged(
        &self,
        places: &Places,
        truth: &Truth,
        (base, queries): (&Rows, &Rows),
        metric: Metric,
    ) -> Result<Option<String>, DataError> {
        let lists = match (self.read_for(queries.rows()), self) {
            (Ok(lists), _) => lists,
            (Err(error), Self::File(_)) | (Err(error @ DataError::Interrupted), _) => {
                return Err(error);
            }
            (Err(error), Self::Table { .. }) => {
                let called = self.called();
                return Ok(Some(format!("the neighbours in {called} cannot be compared: {error}")));
            }
        };
        let mut judge = Judge::new(base, queries, metric);
        let (mut compared, mut wrong, mut first) = (0_u64, 0_u64, None);
        for (query, list) in lists.rows().into_iter().enumerate() {
            let (ids, distances) = (truth.ids.row(query), truth.distances.row(query));
            let exact = ids.iter().copied().zip(distances.iter().copied()).collect::<Vec<_>>();
            let Some(right) = judge.list(query, list.iter().map(|row| places.of(*row)), &exact)?
            else {
                continue;
            };
            compared += 1;
            if !right {
                wrong += 1;
                first = first.or(Some(query));
            }
        }
        let (called, all) = (self.called(), lists.nrows());
        Ok(match (first, compared) {
            (_, 0) => None,
            (Some(first), _) => Some(format!(
                "the neighbours in {called} are wrong for {wrong} of {all} queries (first for query \
                 {first}): those of an exact search are used"
            )),
            (None, _) => Some(format!(
                "the neighbours in {called} are right: an exact search found the same for all \
                 {all} queries"
            )),
        })
    }
}

/// Measures rows that a list has and the exact neighbours have not.
struct Judge<'a> {
    base: &'a Rows,
    queries: &'a Rows,
    of: Distance,
    row: Array2<f32>,
    query: Array2<f32>,
}

impl<'a> Judge<'a> {
    fn new(base: &'a Rows, queries: &'a Rows, metric: Metric) -> Self {
        let (row, query) = (Array2::zeros((1, base.dim())), Array2::zeros((1, base.dim())));
        Self { base, queries, of: metric.into(), row, query }
    }

    /// Whether a query's list is right, as far as it is of the base; `None` where it has no row of it.
    fn list(
        &mut self,
        query: usize,
        list: impl Iterator<Item = Place>,
        exact: &[(u32, f64)],
    ) -> Result<Option<bool>, DataError> {
        let mut rows: Vec<u32> = Vec::with_capacity(exact.len());
        for place in list {
            match place {
                Place::Nowhere => return Ok(Some(false)),
                Place::Base(row) if rows.len() < exact.len() => rows.push(row),
                Place::Base(_) | Place::Left => {}
            }
        }
        let Some((_, farthest)) = rows.len().checked_sub(1).map(|last| exact[last]) else {
            return Ok(None);
        };
        let mut nearest: Vec<u32> = exact[..rows.len()].iter().map(|(row, _)| *row).collect();
        rows.sort_unstable();
        nearest.sort_unstable();
        if rows == nearest {
            return Ok(Some(true));
        }
        if rows.windows(2).any(|two| two[0] == two[1]) {
            return Ok(Some(false));
        }
        for row in rows.iter().filter(|row| nearest.binary_search(row).is_err()) {
            if self.distance(query, *row)? > farthest {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    fn distance(&mut self, query: usize, row: u32) -> Result<f64, DataError> {
        self.base.read(row as usize, self.row.view_mut())?;
        self.queries.read(query, self.query.view_mut())?;
        let values = |of: &'_ Array2<f32>| -> Array1<f32> { of.row(0).to_owned() };
        let (query, row) = (values(&self.query), values(&self.row));
        Ok(self.of.of(query.as_slice().unwrap_or(&[]), row.as_slice().unwrap_or(&[])))
    }
}

impl Lists {
    /// Reads a file of neighbours.
    pub(super) fn read(path: &Path) -> Result<Self, DataError> {
        if let Some("hdf5" | "h5") = format_of(path) {
            return lists_in(path, NEIGHBOURS).map(Self);
        }
        let bytes = fs::read(path).map_err(io("read", path))?;
        let words: Vec<u32> =
            bytes.as_chunks().0.iter().map(|raw| u32::from_le_bytes(*raw)).collect();
        let bad =
            |reason: &str| DataError::Header { path: path.to_path_buf(), reason: reason.into() };
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let chained = extension == "ivecs";
        let (rows, k) = match words[..] {
            [k, ..] if chained && k > 0 => (words.len() / (k as usize + 1), k as usize),
            [rows, k, ..] if !chained => (rows as usize, k as usize),
            _ => return Err(bad("too short for the numbers of queries and neighbours")),
        };
        let numbers = rows as u128 * k as u128;
        let lengths = match chained {
            true => [numbers + rows as u128; 2],
            // Without and with distances.
            false => [2 + numbers, 2 + 2 * numbers],
        };
        let found = bytes.len() as u64;
        if !lengths.iter().any(|words| 4 * words == u128::from(found)) {
            let (rows, dim, expected) = (rows as u64, k as u64, 4 * lengths[0]);
            return Err(DataError::Length { path: path.into(), rows, dim, expected, found });
        }
        let list = |row: usize| match chained {
            true => &words[row * (k + 1)..][..k + 1],
            false => &words[2 + row * k..][..k],
        };
        if chained && (0..rows).any(|row| list(row)[0] != k as u32) {
            return Err(bad("lists of different lengths"));
        }
        let skip = usize::from(chained);
        Ok(Self(Array2::from_shape_fn((rows, k), |(row, rank)| list(row)[rank + skip])))
    }
}

/// What the layouts of ann-benchmarks and VIBE call them.
pub(super) const NEIGHBOURS: &str = "neighbors";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::exact_neighbours;
    use crate::data::testing::{prepared_rows, small_integers};

    fn words(of: &[u32]) -> Vec<u8> {
        of.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn each_layout_gives_the_lists_that_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let expected = ndarray::array![[3_u32, 4, 5], [7, 1, 0]];
        let lists = [3, 4, 5, 7, 1, 0];
        let head = [2, 3];
        let distances = [0_u32; 6];
        for (name, content) in [
            ("a.ibin", [&head[..], &lists].concat()),
            ("a.bin", [&head[..], &lists, &distances].concat()),
            ("a.ivecs", [&[3][..], &lists[..3], &[3], &lists[3..]].concat()),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, words(&content)).unwrap();
            assert_eq!(Lists::read(&path).unwrap().0, expected, "{name}");
            for damaged in [&content[..content.len() - 1], &content[..1], &[]] {
                fs::write(&path, words(damaged)).unwrap();
                assert!(Lists::read(&path).is_err(), "{name}");
            }
        }
        let path = folder.path().join("b.ivecs");
        fs::write(&path, words(&[2, 0, 1, 1, 5, 6])).unwrap();
        assert!(Lists::read(&path).unwrap_err().to_string().contains("different lengths"));
    }

    #[test]
    fn lists_are_right_where_each_row_is_as_near_as_the_exact_ones() {
        let folder = tempfile::tempdir().unwrap();
        // Of the 40 rows of the source the first 30 are used, and 5 and 9 of them left.
        let values = small_integers(40, 2, 1);
        let gone = vec![5, 9];
        let in_base: Vec<usize> = (0..30).filter(|row| ![5, 9].contains(row)).collect();
        let base = prepared_rows(folder.path(), "base", &values.select(ndarray::Axis(0), &in_base));
        let queries = prepared_rows(folder.path(), "queries", &small_integers(6, 2, 2));
        let (truth, _) = exact_neighbours(&base, &queries, Metric::L2, 4, &|_| Ok(())).unwrap();
        let places = Places { rows: 40, used: 30, gone };
        let path = folder.path().join("a.ibin");
        let judged = |lists: &Array2<u32>| {
            let all: Vec<u32> = lists.iter().copied().collect();
            let head = [lists.nrows() as u32, lists.ncols() as u32];
            fs::write(&path, words(&[&head[..], &all].concat())).unwrap();
            let claims = Claims::File(path.clone());
            claims.judged(&places, &truth, (&base, &queries), Metric::L2)
        };
        // All rows of the source, nearest first, ties by the highest number.
        let asked = queries.read_all().unwrap();
        let of_all = |query: usize| {
            let mut all: Vec<(f32, std::cmp::Reverse<u32>)> = (0..40)
                .map(|row| {
                    let apart = &values.row(row) - &asked.row(query);
                    (apart.dot(&apart), std::cmp::Reverse(row as u32))
                })
                .collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            all.into_iter().map(|(_, row)| row.0).collect::<Vec<_>>()
        };
        let lists = Array2::from_shape_fn((6, 12), |(query, rank)| of_all(query)[rank]);
        let told = judged(&lists).unwrap().unwrap();
        assert!(told.ends_with("are right: an exact search found the same for all 6 queries"));
        for wrong in [of_all(3)[39], of_all(3)[1], 40, u32::MAX] {
            let mut lists = lists.clone();
            let place = lists
                .row(3)
                .iter()
                .position(|row| matches!(places.of(*row), Place::Base(_)) && *row != of_all(3)[1]);
            lists[(3, place.unwrap())] = wrong;
            let told = judged(&lists).unwrap().unwrap();
            assert!(told.contains("wrong for 1 of 6 queries (first for query 3)"), "{told}");
        }
        let left = Array2::from_elem((6, 2), 35);
        assert_eq!(judged(&left).unwrap(), None);
        let error = judged(&Array2::zeros((5, 2))).unwrap_err().to_string();
        assert!(error.ends_with("it has neighbours of 5 queries where there are 6"), "{error}");

        // Nobody asked for the table of a file.
        let file = folder.path().join("gone.hdf5");
        let told = |claims: Claims| claims.judged(&places, &truth, (&base, &queries), Metric::L2);
        let note = told(Claims::Table { file: file.clone(), table: NEIGHBOURS.into() });
        let note = note.unwrap().unwrap();
        let begins = "the neighbours in `neighbors` of its file cannot be compared: ";
        assert!(note.starts_with(begins), "{note}");
        told(Claims::File(file)).unwrap_err();
    }
}
