//! Codes of several widths with scalars behind them.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, Slice};
use vq_kernels::lookup::interleave;
use vq_kernels::pack::{pack, packed_bytes, unpack};
use vq_kernels::{Lookup, half};
use vq_plugin_api::Error;

use crate::rate;

/// How a scalar is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Four bytes.
    F32,
    /// Two bytes: 11 significant bits, to ±65504.
    F16,
}

impl Format {
    fn bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 => 2,
        }
    }

    /// What is read again of `scalar`, which is a number.
    #[must_use]
    pub fn rounded(self, scalar: f32) -> f32 {
        match self {
            Format::F32 => scalar,
            Format::F16 => half::decode_one(half::encode_one(scalar)),
        }
    }
}

/// Codes that are interleaved.
pub(super) const INTERLEAVED: usize = 64;

/// Neighbouring coordinates of one width; each run begins at a whole byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first coordinate.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Bits of each, 0 to 16; 0 stores nothing.
    pub bits: u32,
}

impl Run {
    fn bytes(self) -> usize {
        packed_bytes(self.count, self.bits)
    }

    /// Bits of each in a scan: the least that divide 8, for what shares a byte is looked up at once.
    pub(super) fn scanned_bits(self) -> u32 {
        if self.bits > 8 { self.bits } else { self.bits.next_power_of_two() }
    }

    pub(super) fn scanned_bytes(self) -> usize {
        packed_bytes(self.count, self.scanned_bits())
    }

    pub(super) fn range(self) -> Range<usize> {
        self.first..self.first + self.count
    }
}

/// Which bits of a code belong to which coordinate, and the scalars behind them.
///
/// ```
/// use vq_blocks::rotated::{Format, Layout};
///
/// // 12 bytes, 4 of them a norm: 64 bits for 100 coordinates.
/// let layout = Layout::within(100, 12, &[Format::F32]).unwrap();
/// assert_eq!((layout.runs()[0].count, layout.runs()[0].bits, layout.code_bytes()), (64, 1, 12));
/// let mut code = [0; 12];
/// layout.write(&[1; 100], &[2.5], &mut code);
/// let (mut values, mut scalars) = ([9; 100], [0.0]);
/// layout.read(&code, &mut values, &mut scalars);
/// assert_eq!((values[63], values[64], scalars), (1, 0, [2.5]));
/// ```
#[derive(Clone, Debug)]
pub struct Layout {
    dim: usize,
    runs: Vec<Run>,
    scalars: Vec<Format>,
}

impl Layout {
    /// A width for each coordinate, `widths` (d).
    ///
    /// # Panics
    /// When a width is above 16.
    #[must_use]
    pub fn new(widths: &[u32], scalars: &[Format]) -> Self {
        assert!(widths.iter().all(|bits| *bits <= 16), "at most 16 bits per coordinate");
        let mut first = 0;
        let runs = widths.chunk_by(|a, b| a == b).map(|run| {
            first += run.len();
            Run { first: first - run.len(), count: run.len(), bits: run[0] }
        });
        Layout { dim: widths.len(), runs: runs.collect(), scalars: scalars.to_vec() }
    }

    /// `bits` for each of `dim` coordinates.
    ///
    /// # Panics
    /// When `bits` is above 16.
    #[must_use]
    pub fn uniform(dim: usize, bits: u32, scalars: &[Format]) -> Self {
        Self::new(&vec![bits; dim], scalars)
    }

    /// What fills `bytes` per vector, of `dim` exchangeable coordinates: the first k have a bit more than
    /// the rest, k as large as fits (EDEN's fractional rates, without a mask). At most 8 bits each; `None`
    /// where nothing is left beside the scalars.
    #[must_use]
    pub fn within(dim: usize, bytes: usize, scalars: &[Format]) -> Option<Self> {
        let left = bytes.checked_sub(scalars.iter().map(|format| format.bytes()).sum())?;
        let bits = (8 * left / dim.max(1)).min(8) as u32;
        let fits = |k: usize| packed_bytes(k, bits + 1) + packed_bytes(dim - k, bits) <= left;
        let most = if bits == 8 { 0 } else { dim };
        let wider = (0..=most).rev().find(|k| fits(*k))?;
        let widths: Vec<u32> = (0..dim).map(|t| bits + u32::from(t < wider)).collect();
        (bits > 0 || wider > 0).then(|| Self::new(&widths, scalars))
    }

    /// Codes of `dim` coordinates at `bits_per_dim` bits each, all included, filled to the bit
    /// ([`within`](Self::within)); with 0 at `bits` for each coordinate and the scalars beside. `beside` bytes of
    /// a code are something else.
    ///
    /// # Errors
    /// A rate that scalars leave nothing of, or that 8 bits each do not fill.
    pub fn sized(
        dim: usize,
        (bits_per_dim, bits): (f64, u32),
        scalars: &[Format],
        beside: usize,
    ) -> Result<Self, Error> {
        if bits_per_dim <= 0.0 {
            return Ok(Self::uniform(dim, bits, scalars));
        }
        let bytes = rate::budget(dim, bits_per_dim);
        let layout = Self::within(dim, bytes.saturating_sub(beside), scalars).ok_or_else(|| {
            let all = format!("the {bytes} bytes of {bits_per_dim} bits/dim at d = {dim}");
            Error::param("rate", format!("nothing is left of {all}"))
        })?;
        rate::fills(layout.code_bytes() + beside, dim, bits_per_dim)
            .map_err(|reason| Error::param("rate", reason))?;
        Ok(layout)
    }

    /// The runs of equal widths, in order.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Bytes of a code.
    #[must_use]
    pub fn code_bytes(&self) -> usize {
        self.value_bytes() + self.scalars.iter().map(|format| format.bytes()).sum::<usize>()
    }

    /// Bytes per code of what [`pack`](Self::pack) makes: scalars are f32 there.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        self.scanned_bytes() + 4 * self.scalars.len()
    }

    /// Bytes per code of what [`pack_values`](Self::pack_values) makes.
    #[must_use]
    pub fn scanned_bytes(&self) -> usize {
        self.stored().map(Run::scanned_bytes).sum()
    }

    /// Writes `values` (d), of coordinates without bits none, and `scalars` as `code` (code_bytes). A
    /// scalar that is no number becomes 0, an infinite one the largest.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn write(&self, values: &[u16], scalars: &[f32], code: &mut [u8]) {
        assert_eq!(
            (values.len(), scalars.len()),
            (self.dim, self.scalars.len()),
            "numbers of a code"
        );
        assert_eq!(code.len(), self.code_bytes(), "length of a code");
        let (bits, rest) = code.split_at_mut(self.value_bytes());
        self.write_values(values, bits);
        self.write_scalars(scalars, rest);
    }

    /// As [`write`](Self::write), of values that are packed already, run by run.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn write_packed(&self, values: &[u8], scalars: &[f32], code: &mut [u8]) {
        assert_eq!(scalars.len(), self.scalars.len(), "scalars of a code");
        assert_eq!(code.len(), self.code_bytes(), "length of a code");
        let (bits, rest) = code.split_at_mut(self.value_bytes());
        bits.copy_from_slice(values);
        self.write_scalars(scalars, rest);
    }

    /// Writes the beginning of a code.
    pub(super) fn write_values(&self, values: &[u16], bits: &mut [u8]) {
        let mut rest = bits;
        for run in self.stored() {
            let (bytes, after) = rest.split_at_mut(run.bytes());
            pack(&values[run.range()], run.bits, bytes);
            rest = after;
        }
    }

    /// Writes the end of a code.
    pub(super) fn write_scalars(&self, scalars: &[f32], mut rest: &mut [u8]) {
        for (scalar, format) in scalars.iter().zip(&self.scalars) {
            let (bytes, after) = rest.split_at_mut(format.bytes());
            let scalar = if scalar.is_nan() { 0.0 } else { scalar.clamp(f32::MIN, f32::MAX) };
            match format {
                Format::F32 => bytes.copy_from_slice(&scalar.to_le_bytes()),
                Format::F16 => bytes.copy_from_slice(&half::encode_one(scalar)),
            }
            rest = after;
        }
    }

    /// Reads a `code` (code_bytes) into `values` (d), 0 for coordinates without bits, and `scalars`. A
    /// scalar that [`write`](Self::write) cannot have written becomes 0.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn read(&self, code: &[u8], values: &mut [u16], scalars: &mut [f32]) {
        assert_eq!(
            (values.len(), scalars.len()),
            (self.dim, self.scalars.len()),
            "numbers of a code"
        );
        assert_eq!(code.len(), self.code_bytes(), "length of a code");
        values.fill(0);
        let mut rest = code;
        for run in self.stored() {
            let (bytes, after) = rest.split_at(run.bytes());
            unpack(bytes, run.bits, &mut values[run.range()]);
            rest = after;
        }
        for (scalar, format) in scalars.iter_mut().zip(&self.scalars) {
            let (bytes, after) = rest.split_at(format.bytes());
            let found = match (format, bytes) {
                (Format::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
                (Format::F16, &[a, b]) => half::decode_one([a, b]),
                _ => unreachable!("as many bytes as the format has"),
            };
            *scalar = if found.is_finite() { found } else { 0.0 };
            rest = after;
        }
    }

    /// Encodes a block of rows `z` (n, d) into `codes` (n, code_bytes): `encode` writes the values (d) of a
    /// row and answers its scalars. Single-threaded.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn write_rows<const S: usize>(
        &self,
        z: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
        mut encode: impl FnMut(&[f32], &mut [u16]) -> [f32; S],
    ) {
        let (mut values, mut code) = (vec![0; self.dim], vec![0; self.code_bytes()]);
        let z = z.as_standard_layout();
        for (z, mut to) in z.outer_iter().zip(codes.outer_iter_mut()) {
            let scalars = encode(z.as_slice().unwrap_or_default(), &mut values);
            self.write(&values, &scalars, &mut code);
            to.iter_mut().zip(&code).for_each(|(to, byte)| *to = *byte);
        }
    }

    /// Decodes a block `codes` (n, code_bytes) into rows `y` (n, d): `decode` makes a row of values (d) and
    /// scalars, and answers what it is to be multiplied with, which is the result (n), for
    /// [`Frame::restore`](super::Frame::restore). Single-threaded.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn read_rows<const S: usize>(
        &self,
        codes: ArrayView2<'_, u8>,
        mut y: ArrayViewMut2<'_, f32>,
        mut decode: impl FnMut(&[u16], [f32; S], &mut [f32]) -> f32,
    ) -> Vec<f32> {
        let (mut values, mut scalars, mut row) = (vec![0; self.dim], [0.0; S], vec![0.0; self.dim]);
        let codes = codes.as_standard_layout();
        let pairs = codes.outer_iter().zip(y.outer_iter_mut());
        let scale = |(code, mut y): (ArrayView1<'_, u8>, ArrayViewMut1<'_, f32>)| {
            self.read(code.as_slice().unwrap_or_default(), &mut values, &mut scalars);
            let scale = decode(&values, scalars, &mut row);
            y.iter_mut().zip(&row).for_each(|(y, value)| *y = *value);
            scale
        };
        pairs.map(scale).collect()
    }

    /// Packs a block `codes` (n, code_bytes) into `packed` (n · packed_bytes): the values, as
    /// [`pack_values`](Self::pack_values) does, then each scalar of all codes.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn pack(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) {
        let n = codes.nrows();
        assert_eq!(packed.len(), n * self.packed_bytes(), "length of {n} packed codes");
        let (values, columns) = packed.split_at_mut(n * self.scanned_bytes());
        let columns = columns.as_chunks_mut::<4>().0;
        self.pack_values(codes, values, |i, _, scalars| {
            for (j, scalar) in scalars.iter().enumerate() {
                columns[j * n + i] = scalar.to_le_bytes();
            }
        });
    }

    /// Packs the values of a block `codes` (n, code_bytes) into `packed` (n · scanned_bytes) for [`Sums`]:
    /// those of each run interleaved, at 1, 2, 4 or 8 bits each, which share no byte boundary and are
    /// looked up at once. Hands each row's number, values (d) and scalars to `row`.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn pack_values(
        &self,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
        mut row: impl FnMut(usize, &[u16], &[f32]),
    ) {
        let n = codes.nrows();
        assert_eq!(packed.len(), n * self.scanned_bytes(), "length of {n} packed codes");
        let mut parts = Vec::new();
        let mut rest = packed;
        for run in self.stored() {
            let (part, after) = rest.split_at_mut(n * run.scanned_bytes());
            parts.push((run, part, Array2::zeros((INTERLEAVED, run.scanned_bytes()))));
            rest = after;
        }
        let mut values = vec![0; self.dim];
        let mut scalars = vec![0.0; self.scalars.len()];
        let mut contiguous = vec![0; codes.ncols()];
        for (b, block) in codes.axis_chunks_iter(Axis(0), INTERLEAVED).enumerate() {
            for (i, code) in block.outer_iter().enumerate() {
                contiguous.iter_mut().zip(code).for_each(|(to, byte)| *to = *byte);
                self.read(&contiguous, &mut values, &mut scalars);
                for (run, _, wide) in &mut parts {
                    let wide = wide.row_mut(i).into_slice().expect("rows are contiguous");
                    pack(&values[run.range()], run.scanned_bits(), wide);
                }
                row(b * INTERLEAVED + i, &values, &scalars);
            }
            for (run, part, wide) in &mut parts {
                let bytes = run.scanned_bytes();
                let to = &mut part[b * INTERLEAVED * bytes..][..block.nrows() * bytes];
                interleave(wide.slice_axis(Axis(0), Slice::from(..block.nrows())), to);
            }
        }
    }

    /// Scalar `j` of each of `n` packed codes.
    ///
    /// # Panics
    /// When `packed` is not that of n codes or there is no such scalar.
    pub fn scalars<'a>(
        &self,
        packed: &'a [u8],
        n: usize,
        j: usize,
    ) -> impl Iterator<Item = f32> + use<'a> {
        assert_eq!(packed.len(), n * self.packed_bytes(), "length of {n} packed codes");
        assert!(j < self.scalars.len(), "a scalar of the layout");
        let columns = packed[n * self.scanned_bytes()..].as_chunks().0;
        columns[j * n..][..n].iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    /// Tables of a query that give coordinate `t` with the value `v` of `bits` bits the entry
    /// `entry(t, bits, v)`. O(d · 2^bits).
    pub fn sums(&self, entry: impl Fn(usize, u32, u16) -> f32) -> Sums {
        let run_sums = self.stored().map(|run| {
            let (count, held) = (1_usize << run.bits, 1 << run.scanned_bits());
            let mut entries = vec![0.0; run.count * held];
            for (t, entries) in run.range().zip(entries.chunks_exact_mut(held)) {
                for (v, to) in entries[..count].iter_mut().enumerate() {
                    *to = entry(t, run.bits, v as u16);
                }
            }
            (run.scanned_bytes(), Lookup::new(entries, run.count, run.scanned_bits()))
        });
        Sums { runs: run_sums.collect() }
    }

    /// The runs that have bits.
    pub(super) fn stored(&self) -> impl Iterator<Item = Run> + use<'_> {
        self.runs.iter().copied().filter(|run| run.bits > 0)
    }

    pub(super) fn value_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes()).sum()
    }
}

/// The tables of one query over a [`Layout`].
#[derive(Clone, Debug)]
pub struct Sums {
    /// Bytes per code and tables of each run.
    runs: Vec<(usize, Lookup)>,
}

impl Sums {
    /// Writes the sum of the entries of every code into `out` (n); `packed` is a block of n codes as
    /// [`Layout::pack`] made it. Single-threaded, O(n · d).
    ///
    /// # Panics
    /// When `packed` is shorter than n codes.
    pub fn write(&self, packed: &[u8], out: &mut [f32]) {
        self.write_rows((packed, out.len()), 0..out.len(), out);
    }

    /// Writes the sums of the entries of the codes `rows` into `out`, as many; `packed` is a block of `n`
    /// codes as [`Layout::pack`] made it. Single-threaded, O(rows · d).
    ///
    /// # Panics
    /// When `packed` is not that of n codes, the rows are not among them, or they do not begin at a multiple
    /// of 64.
    pub fn write_rows(&self, (packed, n): (&[u8], usize), rows: Range<usize>, out: &mut [f32]) {
        assert!(rows.start.is_multiple_of(INTERLEAVED), "rows from {}", rows.start);
        // Codes are interleaved by 64, fewer at the end alone: other ends would cut a block.
        assert!(rows.end == n || rows.end.is_multiple_of(INTERLEAVED), "rows to {}", rows.end);
        let mut rest = packed;
        let mut part = vec![0.0; if self.runs.len() > 1 { out.len() } else { 0 }];
        out.fill(0.0);
        for (i, (bytes, lookup)) in self.runs.iter().enumerate() {
            let (codes, after) = rest.split_at(n * bytes);
            let codes = &codes[rows.start * bytes..rows.end * bytes];
            if i == 0 {
                lookup.sums(codes, out);
            } else {
                lookup.sums(codes, &mut part);
                out.iter_mut().zip(&part).for_each(|(out, part)| *out += part);
            }
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vq_kernels::Draw;

    proptest! {
        #[test]
        fn codes_come_back_and_sums_are_those_of_the_entries(
            widths in prop::collection::vec(prop_oneof![0_u32..9, Just(1)], 1..40),
            n in 0_usize..150,
            from in 0_usize..3,
            seed in any::<u64>(),
        ) {
            let layout = Layout::new(&widths, &[Format::F32, Format::F16]);
            let (dim, mut draw) = (widths.len(), Draw::new(seed));
            let mut codes = Array2::zeros((n, layout.code_bytes()));
            let mut all = Vec::new();
            for mut code in codes.outer_iter_mut() {
                let values: Vec<u16> = widths.iter().map(|bits| draw.below(1 << bits) as u16).collect();
                let scalars = [draw.normal() as f32, draw.below(99) as f32];
                layout.write(&values, &scalars, code.as_slice_mut().unwrap());
                let (mut found, mut found_scalars) = (vec![7; dim], [0.0; 2]);
                layout.read(code.as_slice().unwrap(), &mut found, &mut found_scalars);
                prop_assert_eq!((&found, found_scalars), (&values, scalars));
                all.push((values, scalars));
            }
            let entry = |t: usize, bits: u32, v: u16| (t + 3 * usize::from(v)) as f32 + bits as f32;
            let mut packed = vec![0; n * layout.packed_bytes()];
            layout.pack(codes.view(), &mut packed);
            let mut sums = vec![9.0; n];
            let tables = layout.sums(entry);
            tables.write(&packed, &mut sums);
            let cut = (64 * from).min(n / 64 * 64);
            let mut parts = vec![9.0; n];
            tables.write_rows((&packed, n), 0..cut, &mut parts[..cut]);
            tables.write_rows((&packed, n), cut..n, &mut parts[cut..]);
            prop_assert_eq!(&sums, &parts);
            for (i, (values, scalars)) in all.iter().enumerate() {
                let entries = (0..dim).filter(|t| widths[*t] > 0).map(|t| entry(t, widths[t], values[t]));
                prop_assert_eq!(sums[i], entries.sum::<f32>());
                for (j, scalar) in scalars.iter().enumerate() {
                    prop_assert_eq!(layout.scalars(&packed, n, j).nth(i), Some(*scalar));
                }
            }
        }

        #[test]
        fn a_budget_is_filled_and_not_exceeded(dim in 1_usize..300, bytes in 0_usize..400) {
            let Some(layout) = Layout::within(dim, bytes, &[Format::F32, Format::F16]) else {
                prop_assert!(bytes < 6 + packed_bytes(1, 1));
                return Ok(());
            };
            prop_assert!(layout.code_bytes() <= bytes);
            // One coordinate more moves the sum of two rounded lengths by a byte at most, so that none is left.
            let all_wide = layout.runs() == [Run { first: 0, count: dim, bits: 8 }];
            prop_assert!(layout.code_bytes() == bytes || all_wide);
        }
    }

    #[test]
    fn scalars_that_are_no_numbers_are_stored_as_numbers() {
        let layout = Layout::uniform(3, 2, &[Format::F32, Format::F16]);
        let mut code = [0; 7];
        layout.write(&[0, 1, 3], &[f32::NAN, f32::INFINITY], &mut code);
        let (mut values, mut scalars) = ([0; 3], [1.0; 2]);
        layout.read(&code, &mut values, &mut scalars);
        assert_eq!((values, scalars), ([0, 1, 3], [0.0, 65504.0]));
        code[1..].fill(0xFF);
        layout.read(&code, &mut values, &mut scalars);
        assert_eq!(scalars, [0.0, 0.0]);
    }
}
