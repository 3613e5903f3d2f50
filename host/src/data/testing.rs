//! Small datasets and files for this module's tests.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView2};

use super::rows::{self, RowSink};
use super::{DatasetSpec, Metric, Queries, Rows, Source, Train};

thread_local! {
    /// Stands in for [`rows::VERIFIED_WHOLE`]: no test writes as much.
    pub(super) static VERIFIED_WHOLE: Cell<u64> = const { Cell::new(rows::VERIFIED_WHOLE) };
}

/// Rows (n, d) of small integers, so that sums are exact and ties are common.
pub(super) fn small_integers(n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut state = seed;
    Array2::from_shape_simple_fn((n, d), || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % 7) as f32 - 3.0
    })
}

/// Writes `values` in the big-ann layout.
pub(super) fn write_fbin(path: &Path, values: ArrayView2<'_, f32>) {
    let mut bytes = Vec::new();
    for size in [values.nrows(), values.ncols()] {
        bytes.extend((size as u32).to_le_bytes());
    }
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

/// `values` as prepared rows in the new file `name` of `folder`.
pub(super) fn prepared_rows(folder: &Path, name: &str, values: &Array2<f32>) -> Rows {
    let mut sink = RowSink::create(folder, name, values.ncols()).unwrap();
    sink.push(values.as_slice().unwrap()).unwrap();
    let (part, _) = sink.finish().unwrap();
    part.place(folder, None).open().unwrap()
}

/// A file that serves as it is, searched for ten of its rows.
pub(super) fn spec(base: PathBuf) -> DatasetSpec {
    DatasetSpec {
        name: "test".into(),
        source: Source::File(base),
        queries: Queries::HoldOut(10),
        train: Train::Base,
        limit: None,
        thin: None,
        metric: Metric::L2,
        own_metric: false,
        unusable: crate::data::UnusableRows::Told,
        neighbours: None,
    }
}
