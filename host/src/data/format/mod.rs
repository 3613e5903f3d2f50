//! Files people have, read as f32 rows by position.
//!
//! | extension | layout |
//! |---|---|
//! | `.fbin` `.u8bin` `.i8bin` `.f16bin` | big-ann: u32 n, u32 d, then n·d values; little-endian |
//! | `.fvecs` `.bvecs` | each row: i32 d, then d values (f32, u8); little-endian |
//! | `.npy` | numpy: f2, f4, f8, i1, u1 of either byte order, C order, two axes |
//!
//! A link's own name says the format, since what it leads to is often named by its digest; if
//! that says nothing, the next name on the way to the file does.
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

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    BigAnn(Element),
    Vecs(Element),
    Npy,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "fbin" => Self::BigAnn(Element::F32),
            "u8bin" => Self::BigAnn(Element::U8),
            "i8bin" => Self::BigAnn(Element::I8),
            "f16bin" => Self::BigAnn(Element::F16),
            "fvecs" => Self::Vecs(Element::F32),
            "bvecs" => Self::Vecs(Element::U8),
            "npy" => Self::Npy,
            _ => return None,
        })
    }

    /// The first name that says one, from `path` along its links to the file.
    fn along(path: &Path) -> Option<Self> {
        let mut path = path.to_path_buf();
        // As many links as the system follows.
        for _ in 0..40 {
            if let Some(format) = Self::of(&path) {
                return Some(format);
            }
            let to = path.read_link().ok()?;
            path = path.parent()?.join(to);
        }
        None
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
    /// Opens `path` by its name and checks its size against its header.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        // Asked first: opening a pipe would wait for a writer.
        let about = path.metadata().map_err(io("open", path))?;
        if !about.is_file() {
            return Err(DataError::NotAFile { path: path.into() });
        }
        let Some(format) = Format::along(path) else {
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            return Err(DataError::UnknownFormat { path: path.into(), extension });
        };
        let file = File::open(path).map_err(io("open", path))?;
        if about.len() == 0 {
            return Err(DataError::Header {
                path: path.into(),
                reason: "the file is empty".into(),
            });
        }
        let announced = match format {
            Format::BigAnn(element) => big_ann_header(&file, path, element)?,
            Format::Vecs(element) => vecs_header(&file, path, about.len(), element)?,
            Format::Npy => npy_header(&file, path)?,
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
        let expected =
            u128::from(rows).saturating_mul(row_bytes).saturating_add(u128::from(header.offset));
        if expected != u128::from(found) {
            return Err(DataError::Length { path: path.into(), rows, dim, expected, found });
        }
        if dim > MAX_DIM as u64 {
            return Err(DataError::TooWide { what: path.display().to_string(), dim });
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

    /// Bytes up to the end of the first `rows` rows.
    pub(super) fn bytes(&self, rows: usize) -> u64 {
        let prefix = if self.prefixed { 4 } else { 0 };
        self.offset + rows as u64 * (prefix + self.dim * self.element.bytes()) as u64
    }

    /// How the bytes are read: with them, it says all of what the rows are.
    pub(super) fn layout(&self) -> String {
        let Self { element, big_endian, offset, prefixed, dim, .. } = self;
        format!("{element:?} big={big_endian} offset={offset} prefixed={prefixed} dim={dim}")
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
            for (bytes, values) in
                bytes.chunks_exact(row_bytes).zip(rows.chunks_exact_mut(self.dim))
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
        Err(DataError::NonFinite { path: self.path.clone(), row, column, value: values[column] })
    }
}

fn big_ann_header(file: &File, path: &Path, element: Element) -> Result<Announced, DataError> {
    let [rows, dim] = [0, 4].map(|at| {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, at).map(|()| u64::from(u32::from_le_bytes(word)))
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
    let bad = |reason: &str| DataError::Header { path: path.into(), reason: reason.into() };
    let mut head = Vec::new();
    file.take(NPY_HEADER_BYTES).read_to_end(&mut head).map_err(io("read", path))?;
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
    // matrix has two brackets; one digit of type and 19 of axes cannot pass 2^64.
    let count = |is: fn(&u8) -> bool| head[start..].iter().filter(|b| is(b)).count();
    if count(|b| b"([{".contains(b)) > 2 || count(u8::is_ascii_digit) > 20 {
        return Err(bad("not a plain matrix of numbers"));
    }
    let plain = [&head[..start], &as_python_3(&head[start..])].concat();
    let header = NpyHeader::from_reader(&*plain).map_err(|e| bad(&e.to_string()))?;

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
            return Err(DataError::ElementType { path: path.into(), dtype: ty.to_string() });
        }
    };
    let &[rows, dim] = header.shape() else {
        return Err(DataError::Shape { path: path.into(), shape: header.shape().to_vec() });
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

/// The same dictionary, of the same length, on one line and without the L that Python 2 writes
/// behind long integers.
fn as_python_3(dictionary: &[u8]) -> Vec<u8> {
    let mut plain = dictionary.to_vec();
    let mut quote = None;
    for (at, c) in dictionary.iter().copied().enumerate() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == b'\'' || c == b'"' => quote = Some(c),
            None => {
                let long = c.eq_ignore_ascii_case(&b'L')
                    && dictionary[..at].last().is_some_and(u8::is_ascii_digit);
                if long || matches!(c, b'\n' | b'\r' | 0) {
                    plain[at] = b' ';
                }
            }
        }
    }
    plain
}

/// A header that ends early is bad; any other failure is the system's.
fn header_error(path: &Path, error: std::io::Error, reason: &str) -> DataError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        let (path, reason) = (path.into(), reason.into());
        return DataError::Header { path, reason };
    }
    io("read", path)(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const VALUES: [f32; 6] = [1.0, 2.0, 3.0, 100.0, 0.0, 7.0];

    fn numbers(element: Element, big: bool) -> Vec<u8> {
        VALUES
            .iter()
            .flat_map(|&x| {
                let mut raw = match element {
                    Element::F64 => f64::from(x).to_le_bytes().to_vec(),
                    Element::F32 => x.to_le_bytes().to_vec(),
                    Element::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
                    Element::U8 => vec![x as u8],
                    Element::I8 => (x as i8).to_le_bytes().to_vec(),
                };
                if big {
                    raw.reverse();
                }
                raw
            })
            .collect()
    }

    fn npy(dict: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((dict.len() as u16 + 1).to_le_bytes());
        bytes.extend(dict.bytes());
        bytes.push(b'\n');
        bytes.extend(data);
        bytes
    }

    fn matrix(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}")
    }

    fn big_ann(rows: u32, dim: u32, data: &[u8]) -> Vec<u8> {
        [&rows.to_le_bytes(), &dim.to_le_bytes(), data].concat()
    }

    fn vecs(row_bytes: usize, data: &[u8]) -> Vec<u8> {
        data.chunks(row_bytes).flat_map(|row| [&3_i32.to_le_bytes(), row].concat()).collect()
    }

    /// (name, content) of the same two rows of three in every format.
    fn every_format() -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<(String, Vec<u8>)> = [
            ("a.fbin", Element::F32),
            ("a.u8bin", Element::U8),
            ("a.i8bin", Element::I8),
            ("a.f16bin", Element::F16),
        ]
        .map(|(name, element)| (name.into(), big_ann(2, 3, &numbers(element, false))))
        .into();
        files.push(("a.fvecs".into(), vecs(12, &numbers(Element::F32, false))));
        files.push(("A.BVECS".into(), vecs(3, &numbers(Element::U8, false))));
        for (name, element) in [
            ("f8", Element::F64),
            ("f4", Element::F32),
            ("f2", Element::F16),
            ("u1", Element::U8),
            ("i1", Element::I8),
        ] {
            for (order, big) in [('<', false), ('>', true)] {
                let order = if name.ends_with('1') { '|' } else { order };
                let dict = matrix(&format!("{order}{name}"), "False", "(2, 3)");
                files.push((format!("{name}{big}.npy"), npy(&dict, &numbers(element, big))));
            }
        }
        files
    }

    fn open(name: &str, content: &[u8]) -> Result<SourceFile, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        SourceFile::open(&path)
    }

    fn read(name: &str, content: &[u8]) -> Result<Vec<f32>, DataError> {
        let file = open(name, content)?;
        let mut out = vec![f32::NAN; file.rows * file.dim];
        file.read(0, &mut out)?;
        Ok(out)
    }

    #[test]
    fn every_format_gives_the_rows_that_were_written() {
        for (name, content) in every_format() {
            let file = open(&name, &content).unwrap();
            assert_eq!((file.rows, file.dim), (2, 3), "{name}");
            assert_eq!(read(&name, &content).unwrap(), VALUES, "{name}");
            let mut second = [0.0; 3];
            file.read(1, &mut second).unwrap();
            assert_eq!(second, VALUES[3..], "{name}");
        }
    }

    #[test]
    fn a_cut_or_lengthened_file_says_what_was_expected_and_found() {
        for (name, content) in every_format() {
            let cut = &content[..content.len() - 1];
            let longer = [&content[..], &[0]].concat();
            let error = open(&name, cut).unwrap_err();
            let DataError::Length { expected, found, .. } = error else {
                panic!("{name}: {error}");
            };
            assert_eq!(expected, content.len() as u128, "{name}");
            assert_eq!(found, content.len() as u64 - 1, "{name}");
            // Bytes after the last row of .fvecs may be the beginning of another.
            let error = open(&name, &longer).unwrap_err().to_string();
            assert!(error.contains("bytes for"), "{name}: {error}");
        }
    }

    #[test]
    fn a_file_shorter_than_its_header_is_an_error() {
        for name in ["a.fbin", "a.u8bin", "a.fvecs", "a.bvecs", "a.npy"] {
            for length in 1..4 {
                let error = open(name, &[1; 4][..length]).unwrap_err();
                assert!(matches!(error, DataError::Header { .. }), "{name}: {error}");
            }
        }
    }

    #[test]
    fn nothing_in_a_file_is_an_error() {
        let no_axis = |shape| npy(&matrix("<f4", "False", shape), &[]);
        for (name, content) in [
            ("a.fbin", big_ann(0, 3, &[])),
            ("a.fbin", big_ann(3, 0, &[])),
            ("a.fvecs", vec![0; 8]),
            ("a.npy", no_axis("(0, 3)")),
            ("a.npy", no_axis("(3, 0)")),
        ] {
            let error = open(name, &content).unwrap_err();
            assert!(matches!(error, DataError::Empty { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn absurd_headers_are_refused_before_anything_is_allocated() {
        let huge = npy(&matrix("<f8", "False", "(4294967296, 4294967)"), &[0; 16]);
        for (name, content) in [
            ("a.fbin", big_ann(u32::MAX, u32::MAX, &[0; 16])),
            ("a.u8bin", big_ann(u32::MAX, 1, &[0; 16])),
            ("a.fvecs", i32::MAX.to_le_bytes().to_vec()),
            ("a.npy", huge),
        ] {
            let error = open(name, &content).unwrap_err();
            assert!(matches!(error, DataError::Length { .. }), "{name}: {error}");
        }
        let wide = big_ann(1, 70_000, &vec![0; 70_000]);
        let error = open("a.u8bin", &wide).unwrap_err();
        assert!(matches!(error, DataError::TooWide { dim: 70_000, .. }));
        let error = open("a.fvecs", &(-3_i32).to_le_bytes()).unwrap_err();
        assert!(error.to_string().ends_with("row 0 has -3 dimensions"));
    }

    #[test]
    fn a_row_of_another_dimension_is_named() {
        let mut content = vecs(12, &numbers(Element::F32, false));
        content[16] = 2;
        for extra in [0, 1] {
            content.resize(32 + extra, 0);
            let error = read("a.fvecs", &content).unwrap_err();
            assert!(
                matches!(error, DataError::Ragged { row: 1, expected: 3, found: 2, .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_value_that_is_not_finite_is_named() {
        let with = |x: f64| {
            let mut data = numbers(Element::F64, false);
            data[32..40].copy_from_slice(&x.to_le_bytes());
            npy(&matrix("<f8", "False", "(2, 3)"), &data)
        };
        // The last one is finite as f64 only.
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39] {
            let error = read("a.npy", &with(x)).unwrap_err();
            let DataError::NonFinite { row, column, .. } = error else {
                panic!("{error}");
            };
            assert_eq!((row, column), (1, 1));
        }
        assert!(read("a.npy", &with(3e38)).is_ok());
    }

    #[test]
    fn arrays_that_are_not_plain_matrices_are_refused() {
        let data = numbers(Element::F32, false);
        let error = |dict: &str| open("a.npy", &npy(dict, &data)).unwrap_err();
        assert!(matches!(error(&matrix("<f4", "True", "(2, 3)")), DataError::ColumnMajor { .. }));
        let ty = error(&matrix("<i8", "False", "(2, 3)"));
        assert!(matches!(ty, DataError::ElementType { .. }));
        assert!(ty.to_string().contains("`<i8`"), "{ty}");
        for shape in ["(6,)", "(1, 2, 3)", "()"] {
            let shape = error(&matrix("<f4", "False", shape));
            assert!(matches!(shape, DataError::Shape { .. }), "{shape}");
        }
    }

    #[test]
    fn a_hostile_npy_header_is_an_error() {
        let deep = "(".repeat(10_000);
        let product = matrix("<f4", "False", "(99999999999999, 99999999999999)");
        let negative = matrix("<f4", "False", "(-2, 3)");
        for dict in [&deep, &product, &negative, "", "{", "{}", "{'descr': '<f4'}"] {
            let error = open("a.npy", &npy(dict, &[])).unwrap_err();
            assert!(matches!(error, DataError::Header { .. }), "{dict}: {error}");
        }
        let mut long = npy(&matrix("<f4", "False", "(2, 3)"), &[]);
        long[6] = 2;
        let error = open("a.npy", &long).unwrap_err();
        assert!(matches!(error, DataError::Header { .. }), "{error}");
    }

    #[test]
    fn npy_headers_of_other_writers_are_read() {
        let data = numbers(Element::F32, false);
        let long = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }";
        let terse = "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<f4\"}";
        let airy = "  { 'descr' : '<f4' ,\n 'fortran_order' : False , 'shape' : ( 2 , 3 ) }  \r\n ";
        for dict in [long, terse, airy] {
            assert_eq!(read("a.npy", &npy(dict, &data)).unwrap(), VALUES, "{dict}");
            for version in [2, 3] {
                let mut wide = npy(dict, &data);
                wide[6] = version;
                wide.splice(10..10, [0, 0]);
                assert_eq!(read("a.npy", &wide).unwrap(), VALUES, "{dict} {version}");
            }
        }
        // An L that belongs to a name is no number's.
        let error = open("a.npy", &npy(&matrix("<f4L", "False", "(2, 3)"), &data)).unwrap_err();
        assert!(matches!(error, DataError::Header { .. }), "{error}");
    }

    #[test]
    fn the_name_that_was_written_says_the_format_of_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let content = big_ann(2, 3, &numbers(Element::F32, false));
        fs::create_dir(at("blobs")).unwrap();
        fs::write(at("blobs/9f86"), &content).unwrap();
        fs::write(at("whole.fbin"), &content).unwrap();
        fs::write(at("misnamed.npy"), &content).unwrap();
        for (link, to) in [
            ("base.fbin", "blobs/9f86"),
            ("blobs/again.FBIN", "9f86"),
            ("twice.fbin", "blobs/again.FBIN"),
            ("through", "twice.fbin"),
            ("plain", "whole.fbin"),
            ("odd.data", "whole.fbin"),
            ("right.fbin", "misnamed.npy"),
        ] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
            let file = SourceFile::open(&at(link)).unwrap();
            assert_eq!((file.rows, file.dim), (2, 3), "{link}");
        }
        std::os::unix::fs::symlink("blobs/9f86", at("nothing")).unwrap();
        let error = SourceFile::open(&at("nothing")).unwrap_err();
        assert!(matches!(error, DataError::UnknownFormat { .. }), "{error}");
    }

    #[test]
    fn an_empty_file_is_called_empty() {
        for name in ["a.fbin", "a.fvecs", "a.npy"] {
            let error = open(name, &[]).unwrap_err().to_string();
            assert!(error.ends_with(" is empty"), "{error}");
        }
    }

    #[test]
    fn an_unknown_extension_lists_the_known_ones() {
        for name in ["a.hdf5", "a.parquet", "a"] {
            let error = open(name, &[]).unwrap_err().to_string();
            assert!(error.contains(".fbin, .u8bin") && error.contains(".npy"));
            assert!(error.contains("hdf5 and parquet are not supported yet"));
        }
    }

    #[test]
    fn a_folder_or_nothing_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.fbin");
        let error = SourceFile::open(&path).unwrap_err();
        assert!(matches!(error, DataError::Io { .. }));
        fs::create_dir(&path).unwrap();
        let error = SourceFile::open(&path).unwrap_err();
        assert!(matches!(error, DataError::NotAFile { .. }));
    }

    #[test]
    fn rows_wider_than_a_chunk_are_read_whole() {
        let dim = CHUNK_BYTES + 3;
        let dim = dim.min(MAX_DIM);
        let data: Vec<u8> = (0..3 * dim).map(|i| (i % 251) as u8).collect();
        let expected: Vec<f32> = data.iter().map(|&x| f32::from(x)).collect();
        let content = big_ann(3, dim as u32, &data);
        assert_eq!(read("a.u8bin", &content).unwrap(), expected);
    }

    #[test]
    fn the_shipped_word_vectors_are_read() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/glove-20k-100d.f16bin");
        let file = SourceFile::open(&path).unwrap();
        assert_eq!((file.rows, file.dim), (20_000, 100));
        let mut values = vec![0.0; file.rows * file.dim];
        file.read(0, &mut values).unwrap();
        // "the" begins with -0.038194.
        assert_eq!(values[0], f16::from_f32(-0.038194).to_f32());
        assert!(values.chunks(100).all(|row| row.iter().any(|x| *x != 0.0)));
    }
}
