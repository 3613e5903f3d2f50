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
        Scan { query, sums, offset: Some(sum as f32), beside: None, metric, columns: 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotated::{Centring, Format, Turn};
    use ndarray::{Axis, Slice};
    use vq_kernels::Draw;
    use vq_kernels::distance::{dot, l2_sq, norm_sq};

    const DIM: usize = 11;

    /// Levels that are neither even nor symmetric.
    fn levels(bits: u32) -> Vec<f32> {
        (0..1 << bits).map(|v| (v as f32).powf(1.5) - 0.3).collect()
    }

    /// Runs of 3, 2 and 1 bits, and two coordinates without bits; three scalars, the last the method's.
    fn affine() -> Affine {
        let widths = [3, 3, 3, 2, 2, 2, 2, 1, 1, 0, 0];
        Affine::new(Layout::new(&widths, &[Format::F32; 3]), 3, levels)
    }

    /// Indices, and m, w and a third scalar.
    type Row = (Vec<u16>, [f32; 3]);

    /// `n` random rows and their codes.
    fn codes(affine: &Affine, n: usize) -> (Vec<Row>, Array2<u8>) {
        let mut draw = Draw::new(4);
        let mut codes = Array2::zeros((n, affine.layout().code_bytes()));
        let widths = affine.layout().runs().iter().flat_map(|run| vec![run.bits; run.count]);
        let widths: Vec<u32> = widths.collect();
        let rows = codes.outer_iter_mut().map(|mut code| {
            let values: Vec<u16> = widths.iter().map(|bits| draw.below(1 << bits) as u16).collect();
            let scalars = [draw.normal() as f32, draw.uniform() as f32, draw.normal() as f32];
            let code = code.as_slice_mut().expect("rows are contiguous");
            affine.layout().write(&values, &scalars, code);
            (values, scalars)
        });
        (rows.collect(), codes)
    }

    #[test]
    fn a_row_is_an_offset_and_a_multiple_of_levels_and_nothing_without_bits() {
        let affine = affine();
        assert_eq!(affine.coded(), 9);
        let mut row = [7.0; DIM];
        affine.row(&[0, 1, 7, 0, 3, 2, 1, 1, 0, 0, 0], (10.0, 2.0), &mut row);
        let of = |v: f32| 10.0 + 2.0 * (v.powf(1.5) - 0.3);
        let expected = [0.0, 1.0, 7.0, 0.0, 3.0, 2.0, 1.0, 1.0, 0.0].map(of);
        assert_eq!(row[..9], expected);
        assert_eq!(row[9..], [0.0, 0.0]);
    }

    #[test]
    fn estimates_are_the_metric_of_decoded_rows() {
        let affine = affine();
        let mut draw = Draw::new(8);
        let train = Array2::from_shape_simple_fn((60, DIM), || draw.normal() as f32 + 2.0);
        // More than one interleaved block, and a rest.
        let (rows, codes) = codes(&affine, 150);
        let mut packed = vec![0; 150 * affine.packed_bytes()];
        let mut seen = 0;
        affine.pack(codes.view(), &mut packed, |i, row, scalars| {
            assert_eq!((i, scalars), (seen, &rows[i].1[..]));
            seen += 1;
            let mut expected = [0.0; DIM];
            affine.row(&rows[i].0, (scalars[0], scalars[1]), &mut expected);
            assert_eq!(row, expected);
            norm_sq(row)
        });
        assert_eq!(seen, 150);
        for frame in [
            Frame::sorted(train.view(), Centring::Mean).unwrap(),
            Frame::drawn(train.view(), Centring::Mean, Turn::Dense, 5).unwrap(),
        ] {
            let mut back = Array2::zeros((150, DIM));
            affine.decode(&frame, codes.view(), back.view_mut(), |_, _, _| {}).unwrap();
            for metric in [Metric::L2, Metric::Ip] {
                for q in train.slice_axis(Axis(0), Slice::from(..5)).outer_iter() {
                    let q = q.to_vec();
                    let scan = affine.scan(frame.query(&q, metric), metric);
                    let mut found = vec![0.0; 150];
                    scan.score(&packed, &mut found, None);
                    for (found, x) in found.iter().zip(back.outer_iter()) {
                        let x = x.to_vec();
                        let exact = if metric == Metric::L2 { l2_sq(&q, &x) } else { dot(&q, &x) };
                        let scale = norm_sq(&q) + norm_sq(&x);
                        let off = (f64::from(*found) - exact).abs();
                        assert!(off < 2e-6 * scale, "{metric:?}: {found} {exact}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_added_to_a_row_is_decoded_with_it() {
        let affine = affine();
        let (rows, codes) = codes(&affine, 4);
        let frame = Frame::none(DIM);
        let mut back = Array2::zeros((4, DIM));
        let add = |i: usize, w: f32, row: &mut [f32]| {
            assert_eq!(w, rows[i].1[1]);
            row[DIM - 1] += i as f32;
        };
        affine.decode(&frame, codes.view(), back.view_mut(), add).unwrap();
        assert_eq!(back.column(DIM - 1).to_vec(), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(back.column(DIM - 2).to_vec(), [0.0; 4]);
    }
}
