//! Files people have, read as f32 rows by position. One file of this folder for each format:
//!
//! | extension | layout | in |
//! |---|---|---|
//! | `.fbin` `.u8bin` `.i8bin` `.f16bin` | big-ann: u32 n, u32 d, then n·d values; little-endian | `fbin` |
//! | `.fvecs` `.bvecs` | each row: i32 d, then d values (f32, u8); little-endian | `fvecs` |
//! | `.npy` | numpy: f2, f4, f8, i1, u1 of either byte order, C order, two axes | `npy` |
//!
//! Others are parsed by libraries, in a child that is confined (`foreign` is its side, `confined`
//! the host's):
//!
//! | extension | what of it | in |
//! |---|---|---|
//! | `.parquet` | a column of lists of f2, f4, f8, i1, u1 | `parquet` |
//! | `.arrow` `.feather` `.ipc` | the same, of any kind of list, file or stream | `arrow` |
//! | `.npz` | one of its matrices, stored or deflated | `npz` |
//! | `.hdf5` `.h5` | one of its matrices of f2, f4, f8, i1, u1; layouts of ann-benchmarks and VIBE | `hdf5` |
//! | `.csv` `.tsv` `.jsonl` `.ndjson` | numbers, a row a line | `text` |
//! | `.safetensors` | one of its matrices: F64, F32, F16, BF16, U8, I8 | `safetensors` |
//!
//! A link's own name says the format, since what it leads to is often named by its digest; if
//! that says nothing, the next name on the way to the file does.
//!
//! The size of the file is checked against its header before any row is read, so a
//! header can never ask for more memory than the file has bytes. Values are
//! converted to f32 (f8 is rounded; u8 and i8 keep their integer values).

mod arrow;
mod confined;
mod element;
mod fbin;
pub(super) mod foreign;
mod fvecs;
mod hdf5;
mod npy;
mod npz;
mod parquet;
mod safetensors;
mod strided;
#[cfg(test)]
pub(super) mod testing;
mod text;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use self::confined::{Coming, Confined};
use self::foreign::{FOREIGN, Parts};
use self::strided::{Layout, Strided, check_finite};
use super::DataError;
use super::error::io;

/// A format whose rows lie at fixed strides.
struct Format {
    /// Lower case, without the dot.
    extensions: &'static [&'static str],
    /// Reads what stands before the rows.
    header: fn(&Opened<'_>) -> Result<Layout, DataError>,
}

const FORMATS: [Format; 3] = [fbin::FORMAT, fvecs::FORMAT, npy::FORMAT];

/// A file that is not empty, before its header is read.
struct Opened<'a> {
    file: File,
    path: &'a Path,
    /// Bytes.
    length: u64,
    /// Lower case, one of the format's.
    extension: &'a str,
}

/// How a file is read.
enum Reads {
    Plain(&'static Format),
    Confined,
}

/// `fbin, u8bin and npy`: what is read, for messages; no line is broken before a dot.
pub(super) fn extensions() -> String {
    let plain = FORMATS.iter().flat_map(|of| of.extensions);
    let foreign = FOREIGN.iter().flat_map(|of| of.extensions);
    let all: Vec<&str> = plain.chain(foreign).copied().collect();
    match all.split_last() {
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// What is often fetched in place of a file, and what to do then.
fn stands_for_another(path: &Path) -> Option<(&'static str, &'static str)> {
    const PAGE: &str = "fetch the file itself: its address may need a login, or another path";
    const INSTEAD: [(&[u8], &str, &str); 4] = [
        (
            b"version https://git-lfs.",
            "a pointer of Git LFS, not the file that it stands for",
            "fetch that with `git lfs pull`",
        ),
        (b"<!DOCTYPE", "a web page", PAGE),
        (b"<!doctype", "a web page", PAGE),
        (b"<html", "a web page", PAGE),
    ];
    let first = first_bytes(path)?;
    let found = INSTEAD.iter().find(|(bytes, ..)| first.starts_with(bytes))?;
    Some((found.1, found.2))
}

fn first_bytes(path: &Path) -> Option<Vec<u8>> {
    let mut first = Vec::new();
    File::open(path).ok()?.take(32).read_to_end(&mut first).ok()?;
    Some(first)
}

/// What to do with a file whose name says no format that is read.
fn advice_by_bytes(path: &Path) -> &'static str {
    const BEGINNINGS: [(&[u8], &str); 9] = [
        (b"PAR1", "it begins as Parquet does: let its name, or a link to it, end in .parquet"),
        (b"\x89HDF", "it begins as HDF5 does: let its name, or a link to it, end in .hdf5"),
        (b"ARROW1", "it begins as Arrow IPC does: let its name, or a link to it, end in .arrow"),
        (b"\x93NUMPY", "it begins as .npy does: let its name, or a link to it, end so"),
        (b"\x1f\x8b", "it is compressed: unpack it first, as with gunzip -k"),
        (b"\x28\xb5\x2f\xfd", "it is compressed: unpack it first, as with zstd -d"),
        (b"BZh", "it is compressed: unpack it first, as with bunzip2 -k"),
        (b"\xfd7zXZ", "it is compressed: unpack it first, as with unxz -k"),
        (b"PK\x03\x04", "it is a zip: unpack it first; one of .npy files may end in .npz instead"),
    ];
    let first = first_bytes(path).unwrap_or_default();
    let known = BEGINNINGS.iter().find(|(bytes, _)| first.starts_with(bytes));
    known.map_or("write its vectors as .npy or .fbin, or as .csv of numbers alone", |(_, of)| of)
}

/// What big-ann's own scripts put behind the name of a file of which they fetched the first rows.
const CROPPED: &str = "crop_nb_";

impl Reads {
    fn of(path: &Path) -> Option<(Self, &'static str)> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        if let Some(rows) = extension.strip_prefix(CROPPED)
            && rows.parse::<u64>().is_ok()
        {
            return Self::of(&path.with_extension(""));
        }
        let called =
            |names: &[&'static str]| names.iter().find(|name| **name == extension).copied();
        let plain = FORMATS
            .iter()
            .find_map(|format| Some((Self::Plain(format), called(format.extensions)?)));
        let foreign = || FOREIGN.iter().find_map(|format| called(format.extensions));
        plain.or_else(|| Some((Self::Confined, foreign()?)))
    }

    /// The first name that says one, from `path` along its links to the file.
    fn along(path: &Path) -> Option<(Self, &'static str)> {
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

/// The format that the name of a file says, lower case and without the dot.
pub(super) fn format_of(path: &Path) -> Option<&'static str> {
    Reads::along(path).map(|(_, extension)| extension)
}

/// The lists of row numbers (lists, length) in the `table` of the file at `path`.
pub(super) fn lists_in(path: &Path, table: &str) -> Result<Array2<u32>, DataError> {
    match Reads::along(path) {
        Some((Reads::Confined, extension)) => confined::lists(path, extension, table),
        found => {
            let extension = found.map_or("", |(_, extension)| extension);
            let (path, table) = (path.into(), table.into());
            Err(DataError::NoTables { path, table, extension })
        }
    }
}

/// A checked file of `rows`×`dim` values.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) rows: usize,
    pub(super) dim: usize,
    /// Lower case, without the dot.
    pub(super) extension: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Plain(Strided),
    Confined(Confined),
}

impl SourceFile {
    /// Opens `path` by its name and checks its size against its header. Of a file with several
    /// tables, `table` is the one.
    #[cfg(test)]
    pub(super) fn open(path: &Path, table: Option<&str>) -> Result<Self, DataError> {
        let mut one = Self::open_all(&[path.to_path_buf()], table)?;
        Ok(one.swap_remove(0))
    }

    /// Opens each of `paths`; what a child has to look at, one looks at together. One of several may
    /// have no row.
    pub(super) fn open_all(paths: &[PathBuf], table: Option<&str>) -> Result<Vec<Self>, DataError> {
        let mut all = Vec::with_capacity(paths.len());
        let mut foreign: Vec<(PathBuf, u64)> = Vec::new();
        let mut of = "";
        let look = |some: &mut Vec<(PathBuf, u64)>,
                    extension: &'static str,
                    all: &mut Vec<Self>|
         -> Result<(), DataError> {
            let (paths, bytes): (Vec<_>, Vec<_>) = some.drain(..).unzip();
            if !paths.is_empty() {
                let files = Confined::open(&paths, &bytes, extension, table)?;
                all.extend(
                    files.into_iter().map(|file| Self::new(extension, Kind::Confined(file))),
                );
            }
            Ok(())
        };
        for path in paths {
            // Asked first: opening a pipe would wait for a writer.
            let about = path.metadata().map_err(io("open", path))?;
            if !about.is_file() {
                return Err(DataError::NotAFile { path: path.into() });
            }
            let Some((reads, extension)) = Reads::along(path) else {
                let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
                let advice = advice_by_bytes(path);
                return Err(DataError::UnknownFormat { path: path.into(), extension, advice });
            };
            let length = about.len();
            if length == 0 {
                return Err(DataError::EmptyFile { path: path.into() });
            }
            if let Some((what, advice)) = stands_for_another(path) {
                return Err(DataError::OtherFile { path: path.into(), what, advice });
            }
            if extension != of {
                look(&mut foreign, of, &mut all)?;
                of = extension;
            }
            match reads {
                Reads::Confined => foreign.push((path.clone(), length)),
                Reads::Plain(format) => {
                    if let Some(table) = table {
                        let (path, table) = (path.into(), table.into());
                        return Err(DataError::NoTables { path, table, extension });
                    }
                    let file = File::open(path).map_err(io("open", path))?;
                    let opened = Opened { file, path, length, extension };
                    let layout = (format.header)(&opened)?;
                    let file = Strided::validate(opened.file, path, length, &layout)?;
                    all.push(Self::new(extension, Kind::Plain(file)));
                }
            }
        }
        look(&mut foreign, of, &mut all)?;
        // Writers in parallel leave files without a row beside others.
        if let (Some(path), true) = (paths.first(), all.iter().all(|file| file.rows == 0)) {
            let dim = all.first().map_or(0, |file| file.dim as u64);
            return Err(DataError::Empty { path: path.clone(), rows: 0, dim });
        }
        Ok(all)
    }

    fn new(extension: &'static str, kind: Kind) -> Self {
        let (rows, dim) = match &kind {
            Kind::Plain(file) => (file.rows, file.dim),
            Kind::Confined(file) => (file.rows, file.dim),
        };
        Self { rows, dim, extension, kind }
    }

    /// Bytes of the file that the first `rows` rows are told by.
    pub(super) fn bytes(&self, rows: usize) -> u64 {
        match &self.kind {
            Kind::Plain(file) => file.bytes(rows),
            Kind::Confined(file) => file.bytes(),
        }
    }

    /// How the bytes are read: with them, it says all of what the rows are.
    pub(super) fn layout(&self) -> String {
        match &self.kind {
            Kind::Plain(file) => file.layout(),
            Kind::Confined(file) => file.layout(),
        }
    }

    /// Bytes before the first row if the file is what [`RowFile`](crate::data::RowFile) reads.
    pub(super) fn raw_f32_offset(&self) -> Option<u64> {
        match &self.kind {
            Kind::Plain(file) => file.raw_f32_offset(),
            Kind::Confined(_) => None,
        }
    }

    /// Whether the file at `path` is still the one that rows are read from.
    pub(super) fn is_at(&self, path: &Path) -> std::io::Result<bool> {
        match &self.kind {
            Kind::Plain(file) => file.is_at(path),
            // Opened by its path each time.
            Kind::Confined(_) => Ok(true),
        }
    }

    /// The table or column that its rows are, where its format has such.
    pub(super) fn table(&self) -> Option<&str> {
        match &self.kind {
            Kind::Plain(_) => None,
            Kind::Confined(file) => Some(file.table()).filter(|table| !table.is_empty()),
        }
    }

    /// The type of its numbers, as numpy calls it.
    pub(super) fn element(&self) -> &str {
        match &self.kind {
            Kind::Plain(file) => file.element().name(),
            Kind::Confined(file) => file.element(),
        }
    }

    /// What lies beside its rows, and belongs to them.
    pub(super) fn parts(&self) -> Option<&Parts> {
        match &self.kind {
            Kind::Plain(_) => None,
            Kind::Confined(file) => Some(file.parts()),
        }
    }

    /// The first `rows` rows, in their order.
    pub(super) fn start(&self, rows: usize) -> Result<Walk<'_>, DataError> {
        let coming = match &self.kind {
            Kind::Plain(_) => None,
            Kind::Confined(file) => Some(file.start(rows)?),
        };
        Ok(Walk { file: self, next: 0, coming })
    }
}

/// A way through a file.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    file: &'a SourceFile,
    next: usize,
    coming: Option<Coming>,
}

impl Walk<'_> {
    /// Fills `out`, whole rows, with those that come next; where `finite`, a value that is not is
    /// refused.
    pub(super) fn take(&mut self, out: &mut [f32], finite: bool) -> Result<(), DataError> {
        let dim = self.file.dim;
        match (&self.file.kind, &mut self.coming) {
            (Kind::Plain(file), _) => file.read(self.next, out, finite)?,
            (Kind::Confined(file), Some(coming)) => {
                coming.take(file, out)?;
                for (row, values) in out.chunks_exact(dim).enumerate().filter(|_| finite) {
                    check_finite(file.path(), (self.next + row) as u64, values)?;
                }
            }
            (Kind::Confined(_), None) => unreachable!("a walk begins with its child"),
        }
        self.next += out.len() / dim;
        Ok(())
    }

    /// To be called when all rows are taken.
    pub(super) fn finish(self) -> Result<(), DataError> {
        match (&self.file.kind, self.coming) {
            (Kind::Confined(file), Some(coming)) => coming.finish(file),
            _ => Ok(()),
        }
    }
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
    use std::fs;

    use half::f16;

    use super::element::Element;
    use super::testing::*;
    use super::*;

    #[test]
    fn every_format_gives_the_rows_that_were_written() {
        for (name, content) in every_format() {
            let file = open(&name, &content).unwrap();
            assert_eq!((file.rows, file.dim), (2, 3), "{name}");
            assert_eq!(read(&name, &content).unwrap(), VALUES, "{name}");
            let mut second = [0.0; 3];
            file.read(1, &mut second, true).unwrap();
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
            let file = SourceFile::open(&at(link), None).unwrap();
            assert_eq!((file.rows, file.dim), (2, 3), "{link}");
        }
        std::os::unix::fs::symlink("blobs/9f86", at("nothing")).unwrap();
        let error = SourceFile::open(&at("nothing"), None).unwrap_err();
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
        for name in ["a.txt", "a"] {
            let error = open(name, &[]).unwrap_err().to_string();
            assert!(error.contains("fbin, u8bin") && error.contains("parquet"));
        }
        for (content, words) in [
            (&b"PAR1 and more"[..], "end in .parquet"),
            (b"\x1f\x8b\x08", "gunzip"),
            (b"the 0.1 0.2", "as .npy or .fbin"),
            (b"", "as .npy or .fbin"),
        ] {
            let advice = open("a.gz", content).unwrap_err().remedy().unwrap();
            assert!(advice.contains(words), "{advice}");
        }
    }

    #[test]
    fn what_was_fetched_in_place_of_a_file_is_told() {
        for (name, content, words) in [
            (
                "a.parquet",
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:0"[..],
                "Git LFS",
            ),
            ("a.npy", b"<!DOCTYPE html><html>", "a web page"),
        ] {
            let error = open(name, content).unwrap_err();
            assert!(error.to_string().contains(words) && error.remedy().is_some(), "{error}");
        }
    }

    #[test]
    fn the_first_rows_of_a_file_keep_the_format_that_stands_before() {
        let whole = big_ann(2, 3, &numbers(Element::F32, false));
        assert_eq!(read("base.1B.fbin.crop_nb_2", &whole).unwrap(), VALUES);
        for name in ["base.1B.crop_nb_2", "base.fbin.crop_nb_", "base.fbin.part"] {
            let error = open(name, &whole).unwrap_err();
            assert!(matches!(error, DataError::UnknownFormat { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn a_folder_or_nothing_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.fbin");
        let error = SourceFile::open(&path, None).unwrap_err();
        assert!(matches!(error, DataError::Io { .. }));
        fs::create_dir(&path).unwrap();
        let error = SourceFile::open(&path, None).unwrap_err();
        assert!(matches!(error, DataError::NotAFile { .. }));
    }

    #[test]
    fn the_shipped_word_vectors_are_read() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/glove-20k-100d.f16bin");
        let file = SourceFile::open(&path, None).unwrap();
        assert_eq!((file.rows, file.dim), (20_000, 100));
        let mut values = vec![0.0; file.rows * file.dim];
        file.start(file.rows).unwrap().take(&mut values, true).unwrap();
        // "the" begins with -0.038194.
        assert_eq!(values[0], f16::from_f32(-0.038194).to_f32());
        assert!(values.chunks(100).all(|row| row.iter().any(|x| *x != 0.0)));
    }

    #[test]
    fn a_table_of_a_file_that_has_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.fbin");
        fs::write(&path, big_ann(2, 3, &numbers(Element::F32, false))).unwrap();
        let error = SourceFile::open(&path, Some("train")).unwrap_err().to_string();
        assert!(error.ends_with("a.fbin: a .fbin file has no tables, so none is named `train`"));
    }
}
