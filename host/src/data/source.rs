//! Files people have, read as f32 rows by position.
//!
//! | extension | layout |
//! |---|---|
//! | `.fbin` `.u8bin` `.i8bin` `.f16bin` | big-ann: u32 n, u32 d, then n·d values; little-endian |
//! | `.fvecs` `.bvecs` | each row: i32 d, then d values (f32, u8); little-endian |
//! | `.npy` | numpy: f2, f4, f8, i1, u1 of either byte order, C order, two axes |
//!
//! The size of the file is checked against its header before any row is read, so a
//! header can never ask for more memory than the file has bytes. Values are
//! converted to f32 (f8 is rounded; u8 and i8 keep their integer values).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::error::io;
use super::{DataError, MAX_DIM};

/// What [`SourceFile::open`] understands, for messages.
pub(super) const EXTENSIONS: &str = ".fbin, .u8bin, .i8bin, .f16bin, .fvecs, .bvecs and .npy";

/// Bytes converted at a time.
const CHUNK_BYTES: usize = 1 << 16;

/// numpy pads its header to 64 bytes; only structured types need kilobytes.
const NPY_HEADER_BYTES: u64 = 1 << 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    F64,
    F32,
    F16,
    U8,
    I8,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 => 2,
            Self::U8 | Self::I8 => 1,
        }
    }

    /// Converts `bytes` into as many values; `big` says the byte order.
    fn convert(self, bytes: &[u8], big: bool, out: &mut [f32]) {
        fn each<const N: usize>(
            bytes: &[u8],
            big: bool,
            out: &mut [f32],
            from_le: impl Fn([u8; N]) -> f32,
        ) {
            for (x, raw) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
                let mut raw = *raw;
                if big {
                    raw.reverse();
                }
                *x = from_le(raw);
            }
        }
        match self {
            Self::F64 => each(bytes, big, out, |raw| f64::from_le_bytes(raw) as f32),
            Self::F32 => each(bytes, big, out, f32::from_le_bytes),
            Self::F16 => {
                // Through a slice: only there `half` uses the machine's conversion.
                let mut halves = [f16::ZERO; 256];
                for (out, bytes) in out.chunks_mut(256).zip(bytes.chunks(512)) {
                    let halves = &mut halves[..out.len()];
                    for (half, raw) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        let bits = u16::from_le_bytes(*raw);
                        *half = f16::from_bits(if big { bits.swap_bytes() } else { bits });
                    }
                    halves.convert_to_f32_slice(out);
                }
            }
            Self::U8 => each(bytes, big, out, |[raw]| f32::from(raw)),
            Self::I8 => each(bytes, big, out, |raw| f32::from(i8::from_le_bytes(raw))),
        }
    }
}

/// A checked file of `rows`×`dim` values.
#[derive(Debug)]
pub(super) struct SourceFile {
    file: File,
    path: PathBuf,
    pub(super) rows: usize,
    pub(super) dim: usize,
    element: Element,
    big_endian: bool,
    /// Bytes before the first row.
    offset: u64,
    /// Each row repeats its dimension in four bytes (`.fvecs`).
    prefixed: bool,
}

/// The shape a header announces, before it is believed.
struct Announced {
    rows: u64,
    dim: u64,
    element: Element,
    big_endian: bool,
    offset: u64,
    prefixed: bool,
}

impl SourceFile {
    /// Opens `path` by its extension and checks its size against its header.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        // Asked first: opening a pipe would wait for a writer.
        let about = path.metadata().map_err(io("open", path))?;
        if !about.is_file() {
            return Err(DataError::NotAFile { path: path.into() });
        }
        let format = path.extension().unwrap_or_default().to_string_lossy();
        let big_ann = |file: &File, element| big_ann_header(file, path, element);
        let file = File::open(path).map_err(io("open", path))?;
        let announced = match format.to_ascii_lowercase().as_str() {
            "fbin" => big_ann(&file, Element::F32)?,
            "u8bin" => big_ann(&file, Element::U8)?,
            "i8bin" => big_ann(&file, Element::I8)?,
            "f16bin" => big_ann(&file, Element::F16)?,
            "fvecs" => vecs_header(&file, path, about.len(), Element::F32)?,
            "bvecs" => vecs_header(&file, path, about.len(), Element::U8)?,
            "npy" => npy_header(&file, path)?,
            _ => {
                return Err(DataError::UnknownFormat {
                    path: path.into(),
                    extension: format.into_owned(),
                });
            }
        };
        Self::believe(file, path, about.len(), &announced)
    }

    fn believe(file: File, path: &Path, found: u64, header: &Announced) -> Result<Self, DataError> {
        let &Announced { rows, dim, .. } = header;
        if rows == 0 || dim == 0 {
            let path = path.into();
            return Err(DataError::Empty { path, rows, dim });
        }
        let row_bytes =
            u128::from(dim) * header.element.bytes() as u128 + if header.prefixed { 4 } else { 0 };
        let expected = u128::from(rows)
            .saturating_mul(row_bytes)
            .saturating_add(u128::from(header.offset));
        if expected != u128::from(found) {
            return Err(DataError::Length {
                path: path.into(),
                rows,
                dim,
                expected,
                found,
            });
        }
        if dim > MAX_DIM as u64 {
            return Err(DataError::TooWide {
                what: path.display().to_string(),
                dim,
            });
        }
        Ok(Self {
            file,
            path: path.into(),
            // Fits: the file has at least this many bytes, and dim is small.
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
            dim: dim as usize,
            element: header.element,
            big_endian: header.big_endian,
            offset: header.offset,
            prefixed: header.prefixed,
        })
    }

    /// Bytes before the first row if the file is what [`super::RowFile`] reads.
    pub(super) fn raw_f32_offset(&self) -> Option<u64> {
        let raw = self.element == Element::F32 && !self.big_endian && !self.prefixed;
        raw.then_some(self.offset)
    }

    /// Fills `out`, whole rows, with the rows from `first` on.
    pub(super) fn read(&self, first: usize, out: &mut [f32]) -> Result<(), DataError> {
        let prefix = if self.prefixed { 4 } else { 0 };
        let row_bytes = prefix + self.dim * self.element.bytes();
        let rows_at_once = (CHUNK_BYTES / row_bytes).max(1);
        let mut bytes = vec![0; row_bytes * rows_at_once.min(out.len() / self.dim)];
        let mut row = first as u64;
        for rows in out.chunks_mut(rows_at_once * self.dim) {
            let count = rows.len() / self.dim;
            let bytes = &mut bytes[..count * row_bytes];
            self.file
                .read_exact_at(bytes, self.offset + row * row_bytes as u64)
                .map_err(io("read", &self.path))?;
            for (bytes, values) in bytes
                .chunks_exact(row_bytes)
                .zip(rows.chunks_exact_mut(self.dim))
            {
                let (head, bytes) = bytes.split_at(prefix);
                if let Some(head) = head.first_chunk::<4>() {
                    self.check_prefix(row, i32::from_le_bytes(*head))?;
                }
                self.element.convert(bytes, self.big_endian, values);
                self.check_finite(row, values)?;
                row += 1;
            }
        }
        Ok(())
    }

    fn check_prefix(&self, row: u64, found: i32) -> Result<(), DataError> {
        if i64::from(found) == self.dim as i64 {
            return Ok(());
        }
        Err(DataError::Ragged {
            path: self.path.clone(),
            row,
            expected: self.dim as u64,
            found: found.into(),
        })
    }

    fn check_finite(&self, row: u64, values: &[f32]) -> Result<(), DataError> {
        // Without an early exit the loop has no branch and vectorises.
        if !values.iter().fold(false, |bad, x| bad | !x.is_finite()) {
            return Ok(());
        }
        let column = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
        Err(DataError::NonFinite {
            path: self.path.clone(),
            row,
            column,
            value: values[column],
        })
    }
}

fn big_ann_header(file: &File, path: &Path, element: Element) -> Result<Announced, DataError> {
    let [rows, dim] = [0, 4].map(|at| {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, at)
            .map(|()| u64::from(u32::from_le_bytes(word)))
    });
    let short = |e| header_error(path, e, "too short for the number of rows and dimensions");
    Ok(Announced {
        rows: rows.map_err(short)?,
        dim: dim.map_err(short)?,
        element,
        big_endian: false,
        offset: 8,
        prefixed: false,
    })
}

fn vecs_header(
    file: &File,
    path: &Path,
    length: u64,
    element: Element,
) -> Result<Announced, DataError> {
    let dim_at = |at| {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, at)
            .map(|()| i32::from_le_bytes(word))
            .map_err(|e| header_error(path, e, "too short for a row's dimension"))
    };
    let first = dim_at(0)?;
    let Ok(dim) = u64::try_from(first) else {
        return Err(DataError::Header {
            path: path.into(),
            reason: format!("row 0 has {first} dimensions"),
        });
    };
    let row_bytes = 4 + dim * element.bytes() as u64;
    // The number of rows is nowhere stored. A length that no number of rows explains
    // is either a row of another dimension or a cut: the prefixes tell which.
    if !length.is_multiple_of(row_bytes) {
        for row in 1..length / row_bytes {
            let found = dim_at(row * row_bytes)?;
            if found != first {
                return Err(DataError::Ragged {
                    path: path.into(),
                    row,
                    expected: dim,
                    found: found.into(),
                });
            }
        }
    }
    Ok(Announced {
        rows: length.div_ceil(row_bytes),
        dim,
        element,
        big_endian: false,
        offset: 0,
        prefixed: true,
    })
}

fn npy_header(file: &File, path: &Path) -> Result<Announced, DataError> {
    let bad = |reason: &str| DataError::Header {
        path: path.into(),
        reason: reason.into(),
    };
    let mut head = Vec::new();
    file.take(NPY_HEADER_BYTES)
        .read_to_end(&mut head)
        .map_err(io("read", path))?;
    let (start, length): (usize, usize) = match head.as_slice() {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => {
            (10, usize::from(u16::from_le_bytes([*a, *b])))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => {
            (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize)
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', version, ..] => {
            return Err(bad(&format!("unknown npy version {version}")));
        }
        _ => return Err(bad("not an npy file")),
    };
    let Some(head) = start.checked_add(length).and_then(|end| head.get(..end)) else {
        return Err(bad(&format!("{length} bytes long, more than is there")));
    };
    // The parser recurses into brackets and multiplies the axes unchecked. A plain
    // matrix has two brackets and, below 2^64 values, fewer than 25 digits.
    let count = |is: fn(&u8) -> bool| head[start..].iter().filter(|b| is(b)).count();
    if count(|b| b"([{".contains(b)) > 2 || count(u8::is_ascii_digit) > 20 {
        return Err(bad("not a plain matrix of numbers"));
    }
    let header = NpyHeader::from_reader(head).map_err(|e| bad(&e.to_string()))?;

    let DType::Plain(ty) = header.dtype() else {
        return Err(bad("not a plain matrix of numbers"));
    };
    let element = match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 8) => Element::F64,
        (TypeChar::Float, 4) => Element::F32,
        (TypeChar::Float, 2) => Element::F16,
        (TypeChar::Uint, 1) => Element::U8,
        (TypeChar::Int, 1) => Element::I8,
        _ => {
            return Err(DataError::ElementType {
                path: path.into(),
                dtype: ty.to_string(),
            });
        }
    };
    let &[rows, dim] = header.shape() else {
        return Err(DataError::Shape {
            path: path.into(),
            shape: header.shape().to_vec(),
        });
    };
    if header.order() != Order::C {
        return Err(DataError::ColumnMajor { path: path.into() });
    }
    Ok(Announced {
        rows,
        dim,
        element,
        big_endian: ty.endianness() == Endianness::Big,
        offset: head.len() as u64,
        prefixed: false,
    })
}

/// A header that ends early is bad; any other failure is the system's.
fn header_error(path: &Path, error: std::io::Error, reason: &str) -> DataError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        let (path, reason) = (path.into(), reason.into());
        return DataError::Header { path, reason };
    }
    io("read", path)(error)
}
