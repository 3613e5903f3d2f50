//! Codes of segments: indices of the points that [`adjust`](crate::adjust) finds, and one scale for each
//! segment.
//!
//! With z a row's coordinates in a segment and y their point, f = ‖z‖²/⟨z, y⟩ makes ⟨z, v⟩ ≈ f·⟨y, v⟩
//! unbiased over rotations (section 3.2). It is all that is stored of a segment: the nearest multiple of y
//! is ρ²·f, and ρ², the squared cosine of the two, is nearly the same for all rows. So rows decode with κ in its
//! place, the factor of least squared error over training rows.

use ndarray::{ArrayView2, ArrayViewMut2, Axis, Slice};
use vq_blocks::rotated::{Format, Layout, Sums};
use vq_kernels::distance::norm_sq;
use vq_plugin_api::Error;
use vq_plugin_api::model::{ModelReader, ModelWriter};

use crate::adjust::{self, Adjust, LANES, Lanes};
use crate::plan::{MOST_BITS, Part};

/// How points are sought.
#[derive(Clone, Copy)]
pub(crate) struct Seek {
    pub(crate) rounds: usize,
    pub(crate) both: bool,
}

/// A segment of coordinates, and its place in a code.
pub(crate) struct Segment {
    pub(crate) part: Part,
    /// The first coordinate, and the first byte.
    at: usize,
    byte: usize,
    /// Indices of up to 8 bits; wider ones as their low 8 bits, and behind them the others.
    layout: Layout,
    /// What f is stored in units of, a power of two.
    unit: f32,
    /// κ.
    shrink: f32,
}

impl Segment {
    /// Those of `parts`, in codes that begin with `bytes` bytes of something else.
    pub(crate) fn all(parts: &[Part], bytes: usize, scalar: Format) -> Vec<Segment> {
        let (mut at, mut byte) = (0, bytes);
        let segment = |part: &Part| {
            let mut widths = vec![part.bits.min(8); part.len];
            if part.bits > 8 {
                widths.resize(2 * part.len, part.bits - 8);
            }
            let layout = Layout::new(&widths, &[scalar]);
            let (part_at, part_byte) = (at, byte);
            at += part.len;
            byte += layout.code_bytes();
            Segment { part: *part, at: part_at, byte: part_byte, layout, unit: 1.0, shrink: 1.0 }
        };
        parts.iter().map(segment).collect()
    }

    /// The index of y = 0, between two.
    fn middle(&self) -> f32 {
        (1_u32 << (self.part.bits - 1)) as f32 - 0.5
    }

    fn adjust(&self, seek: Seek) -> Adjust {
        Adjust::new(self.part.len, self.part.bits, seek.rounds, seek.both)
    }

    /// Hands `row` the number, the point, f and ‖y‖² and ‖z‖² of each of the rows `z` (n, k).
    fn points(
        &self,
        seek: Seek,
        z: ArrayView2<'_, f32>,
        mut row: impl FnMut(usize, &dyn Fn(usize) -> f32, f64, (f64, f64)),
    ) {
        let mut adjust = self.adjust(seek);
        let mut lanes: Vec<Lanes> = vec![[0.0; LANES]; self.part.len];
        let z = z.slice_axis(Axis(1), Slice::from(self.at..self.at + self.part.len));
        for (g, group) in z.axis_chunks_iter(Axis(0), LANES).enumerate() {
            lanes.fill([0.0; LANES]);
            for (l, z) in group.outer_iter().enumerate() {
                lanes.iter_mut().zip(z).for_each(|(lane, z)| lane[l] = *z);
            }
            let (y, sums) = adjust.code(&lanes);
            let adjust::Sums { inner, length_sq, norm_sq } = sums;
            let sums = inner.iter().zip(length_sq).zip(norm_sq).take(group.nrows());
            for (l, ((inner, length_sq), norm_sq)) in sums.enumerate() {
                let factor = if *inner > 0.0 { norm_sq / inner } else { 0.0 };
                row(g * LANES + l, &|i| y[i][l], factor, (length_sq, norm_sq));
            }
        }
    }

    /// Learns unit and κ from the rows `z` (n, k), and adds κ·f²·‖y‖² of each to `told` (n).
    pub(crate) fn learn(&mut self, seek: Seek, z: ArrayView2<'_, f32>, told: &mut [f64]) {
        let (mut square, mut norm, mut longer) = (0.0, 0.0, 0.0);
        let mut lengths = vec![0.0; z.nrows()];
        self.points(seek, z, |i, _, factor, (length_sq, norm_sq)| {
            square += factor * factor;
            norm += norm_sq;
            lengths[i] = factor * factor * length_sq;
            longer += lengths[i];
        });
        self.unit = unit((square / z.nrows() as f64).sqrt());
        self.shrink = if longer > 0.0 { (norm / longer).min(1.0) as f32 } else { 1.0 };
        let shrink = f64::from(self.shrink);
        told.iter_mut().zip(lengths).for_each(|(told, length)| *told += shrink * length);
    }

    /// Writes the codes of the rows `z` (n, k) into their places in `codes` (n, code_bytes), and adds what
    /// they tell of ‖z‖² to `told` (n).
    pub(crate) fn encode(
        &self,
        seek: Seek,
        z: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
        told: &mut [f64],
    ) {
        let (middle, wide) = (self.middle(), self.part.bits > 8);
        let len = self.part.len;
        let mut values = vec![0_u16; if wide { 2 * len } else { len }];
        let mut code = vec![0; self.layout.code_bytes()];
        self.points(seek, z, |i, y, factor, (length_sq, norm_sq)| {
            if norm_sq > 0.0 {
                for (t, value) in values[..len].iter_mut().enumerate() {
                    *value = (y(t) + middle) as u16;
                }
                if wide {
                    let (low, high) = values.split_at_mut(len);
                    for (low, high) in low.iter_mut().zip(high) {
                        (*low, *high) = (*low & 0xFF, *low >> 8);
                    }
                }
            } else {
                values.fill(0);
            }
            self.layout.write(&values, &[(factor / f64::from(self.unit)) as f32], &mut code);
            // As it will be read.
            let stored = self.scalar(&code);
            told[i] += self.told(stored, length_sq);
            let to = codes.row_mut(i).into_slice().map(|to| &mut to[self.byte..]);
            if let Some(to) = to {
                to[..code.len()].copy_from_slice(&code);
            }
        });
    }

    /// f of a code of this segment.
    fn scalar(&self, code: &[u8]) -> f32 {
        let bytes = &code[self.part.bytes()..];
        let mut found = [0.0];
        Layout::new(&[], &[self.format()]).read(bytes, &mut [], &mut found);
        self.factor(found[0])
    }

    fn format(&self) -> Format {
        if self.layout.code_bytes() - self.part.bytes() == 2 { Format::F16 } else { Format::F32 }
    }

    fn factor(&self, stored: f32) -> f32 {
        (stored * self.unit).clamp(0.0, f32::MAX)
    }

    /// κ·f²·‖y‖².
    fn told(&self, factor: f32, length_sq: f64) -> f64 {
        f64::from(self.shrink) * f64::from(factor).powi(2) * length_sq
    }

    /// The coordinates of y that `values` stand for.
    fn point(&self, values: &[u16], y: &mut [f32]) {
        let (low, high) = values.split_at(self.part.len);
        for (t, (y, low)) in y.iter_mut().zip(low).enumerate() {
            let value = low | high.get(t).map_or(0, |high| high << 8);
            *y = f32::from(value) - self.middle();
        }
    }

    /// Writes κ·f·y of each of `codes` (n, code_bytes) into this segment's coordinates of `y` (n, k).
    pub(crate) fn decode(&self, codes: ArrayView2<'_, u8>, mut y: ArrayViewMut2<'_, f32>) {
        let y = y.slice_axis_mut(Axis(1), Slice::from(self.at..self.at + self.part.len));
        self.layout.read_rows(self.own(codes), y, |values, [stored], y| {
            self.point(values, y);
            let factor = self.shrink * self.factor(stored);
            y.iter_mut().for_each(|y| *y = (*y * factor).clamp(-1e15, 1e15));
            1.0
        });
    }

    /// This segment's bytes of `codes`.
    fn own<'a>(&self, codes: ArrayView2<'a, u8>) -> ArrayView2<'a, u8> {
        let (_, from) = codes.split_at(Axis(1), self.byte);
        from.split_at(Axis(1), self.layout.code_bytes()).0
    }

    /// Bytes per code of what [`pack`](Self::pack) makes.
    pub(crate) fn scanned_bytes(&self) -> usize {
        self.layout.scanned_bytes()
    }

    /// Packs the indices of `codes` (n, code_bytes) into `packed`, f of each into `factors` (n), and adds what
    /// they tell of ‖z‖² to `told` (n).
    pub(crate) fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
        factors: &mut [[u8; 4]],
        told: &mut [f64],
    ) {
        let mut y = vec![0.0; self.part.len];
        self.layout.pack_values(self.own(codes), packed, |i, values, scalars| {
            self.point(values, &mut y);
            let factor = self.factor(scalars[0]);
            factors[i] = factor.to_le_bytes();
            told[i] += self.told(factor, norm_sq(&y));
        });
    }

    /// Tables whose sums are ⟨y, z⟩ of this segment for the query `z` (k).
    pub(crate) fn sums(&self, z: &[f32]) -> Sums {
        let (z, middle, len) = (&z[self.at..], self.middle(), self.part.len);
        self.layout.sums(|t, _, v| {
            if t < len { z[t] * (f32::from(v) - middle) } else { z[t - len] * f32::from(v << 8) }
        })
    }

    pub(crate) fn save(&self, model: ModelWriter) -> ModelWriter {
        let Part { len, bits } = self.part;
        model.u64(len as u64).u64(u64::from(bits)).f32s([self.unit]).f32s([self.shrink])
    }

    /// Reads what [`save`](Self::save) appended for as many segments as `count` says.
    pub(crate) fn load(
        (dim, bytes, code_bytes): (usize, usize, usize),
        scalar: Format,
        model: &mut ModelReader<'_>,
    ) -> Result<Vec<Segment>, Error> {
        let count = model.u64()?;
        if !(1..=dim as u64).contains(&count) {
            return Err(Error::failed(format!("{count} segments of {dim} dimensions")));
        }
        let (mut parts, mut learned) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (len, bits) = (model.u64()?, model.u64()?);
            if !(1..=dim as u64).contains(&len) || !(1..=u64::from(MOST_BITS)).contains(&bits) {
                return Err(Error::failed(format!("a segment of {len} times {bits} bits")));
            }
            parts.push(Part { len: len as usize, bits: bits as u32 });
            let [unit, shrink] = [model.f32s(1)?[0], model.f32s(1)?[0]];
            if unit <= 0.0 || !(0.0..=1.0).contains(&shrink) {
                return Err(Error::failed(format!("unit {unit}, factor {shrink}")));
            }
            learned.push((unit, shrink));
        }
        let mut segments = Segment::all(&parts, bytes, scalar);
        let end = segments.last().map_or(0, |last| last.byte + last.layout.code_bytes());
        if end > code_bytes || parts.iter().map(|part| part.len).sum::<usize>() > dim {
            return Err(Error::failed("segments longer than a code"));
        }
        for (segment, (unit, shrink)) in segments.iter_mut().zip(learned) {
            (segment.unit, segment.shrink) = (unit, shrink);
        }
        Ok(segments)
    }
}

/// The power of two next to `size`.
pub(crate) fn unit(size: f64) -> f32 {
    if size > 0.0 { size.log2().round().clamp(-100.0, 100.0).exp2() as f32 } else { 1.0 }
}
