//! Rows as an offset and a multiple of vectors of levels.

use super::{Frame, Layout, Query, Run, Scan};
use crate::contiguous;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use vq_kernels::Path;
use vq_plugin_api::{Error, Metric};

/// A row as m, w and an index of a level for each coordinate: coordinate t of r = P·(x − c) is m + w·y(t), and 0
/// where there are no bits. A code's first two scalars are m and w; any others are the method's.
#[derive(Clone, Debug)]
pub struct Affine {
    dim: usize,
    scalars: usize,
    layout: Layout,
    /// The runs that have bits, with their levels.
    runs: Vec<(Run, Vec<f32>)>,
}

impl Affine {
    /// Codes of a layout with `scalars` scalars, at least two; `levels` gives the 2^bits levels of a width.
    ///
    /// # Panics
    /// When there are fewer than two scalars.
    #[must_use]
    pub fn new(layout: Layout, scalars: usize, levels: impl Fn(u32) -> Vec<f32>) -> Self {
        assert!(scalars >= 2, "an offset and a factor");
        let runs = layout.stored().map(|run| (run, levels(run.bits))).collect();
        let dim = layout.runs().iter().map(|run| run.count).sum();
        Affine { dim, scalars, layout, runs }
    }

    /// Which coordinates have how many bits.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Coordinates that have bits: the first ones, as [`Layout::within`] shares them out.
    #[must_use]
    pub fn coded(&self) -> usize {
        self.runs.last().map_or(0, |(run, _)| run.range().end)
    }

    /// Writes m + w·y of `values` (d) into `row` (d), 0 where there are no bits.
    pub fn row(&self, values: &[u16], (m, w): (f32, f32), row: &mut [f32]) {
        row.fill(0.0);
        for (run, levels) in &self.runs {
            let (values, row) = (&values[run.range()], &mut row[run.range()]);
            Path::fastest().run(
                #[inline(always)]
                || {
                    let last = levels.len() - 1;
                    for (row, value) in row.iter_mut().zip(values) {
                        *row = m + w * levels[usize::from(*value) & last];
                    }
                },
            );
        }
    }

    /// Writes the rows (n, d) of `codes` (n, code_bytes, or more) back in their space into `x` (n, d), after
    /// `add` has added to row i of the codes what else it knows of it in the frame. Single-threaded.
    ///
    /// # Errors
    /// Rows that are not contiguous.
    pub fn decode(
        &self,
        frame: &Frame,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        mut add: impl FnMut(usize, f32, &mut [f32]),
    ) -> Result<(), Error> {
        let bytes = self.layout.code_bytes();
        let (mut values, mut scalars) = (vec![0; self.dim], vec![0.0; self.scalars]);
        let mut rows = Array2::zeros(x.raw_dim());
        for (i, (code, row)) in codes.outer_iter().zip(rows.outer_iter_mut()).enumerate() {
            let (code, row) = (contiguous(code.to_slice())?, contiguous(row.into_slice())?);
            self.layout.read(&code[..bytes], &mut values, &mut scalars);
            self.row(&values, (scalars[0], scalars[1]), row);
            add(i, scalars[1], row);
        }
        frame.restore(rows.view(), &vec![1.0; x.nrows()], x);
        Ok(())
    }

    /// Bytes per code of what [`pack`](Self::pack) makes.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        self.layout.scanned_bytes() + 4 * 3
    }

    /// Packs a block `codes` (n, code_bytes) into `packed` for a [`Scan`]: indices, then for each code w, what
    /// `term` answers of its number, its row in the frame (d) and its scalars, and m. `term` is what
    /// [`Query::estimate`] takes as the squared norm.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
        mut term: impl FnMut(usize, &mut [f32], &[f32]) -> f64,
    ) {
        let n = codes.nrows();
        assert_eq!(packed.len(), n * self.packed_bytes(), "length of {n} packed codes");
        let (indices, columns) = packed.split_at_mut(n * self.layout.scanned_bytes());
        let columns = columns.as_chunks_mut::<4>().0;
        let mut row = vec![0.0; self.dim];
        self.layout.pack_values(codes, indices, |i, values, scalars| {
            let (m, w) = (scalars[0], scalars[1]);
            self.row(values, (m, w), &mut row);
            columns[i] = w.to_le_bytes();
            columns[n + i] = (term(i, &mut row, scalars) as f32).to_le_bytes();
            columns[2 * n + i] = m.to_le_bytes();
        });
    }

    /// The tables of a query for codes that [`pack`](Self::pack) packed: ⟨m + w·y, z⟩ = w·⟨y, z⟩ + m·Σz.
    #[must_use]
    pub fn scan(&self, query: Query, metric: Metric) -> Scan {
        let levels = |t: usize, _: u32, v: u16| {
            let run = self.runs.partition_point(|(run, _)| run.range().end <= t);
            self.runs[run].1[usize::from(v)] * query.z[t]
        };
        let sums = (self.layout.scanned_bytes(), self.layout.sums(levels));
        let sum: f64 = query.z[..self.coded()].iter().map(|z| f64::from(*z)).sum();
        Scan { query, sums, offset: Some(sum as f32), beside: None, metric, bounds: false }
    }
}
