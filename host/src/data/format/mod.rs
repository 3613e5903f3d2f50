//! Files people have, read as f32 rows by position. One file of this folder for each format:
//!
//! | extension | layout | in |
//! |---|---|---|
//! | `.fbin` `.u8bin` `.i8bin` `.f16bin` | big-ann: u32 n, u32 d, then n·d values; little-endian | `fbin` |
//! | `.fvecs` `.bvecs` | each row: i32 d, then d values (f32, u8); little-endian | `fvecs` |
//! | `.npy` | numpy: f2, f4, f8, i1, u1 of either byte order, C order, two axes | `npy` |
//!
//! A link's own name says the format, since what it leads to is often named by its digest; if
//! that says nothing, the next name on the way to the file does.
//!
//! The size of the file is checked against its header before any row is read, so a
//! header can never ask for more memory than the file has bytes. Values are
//! converted to f32 (f8 is rounded; u8 and i8 keep their integer values).

mod element;
mod fbin;
mod fvecs;
mod npy;
mod strided;
#[cfg(test)]
mod testing;

use std::fs::File;
use std::path::Path;

use self::strided::Layout;
pub(super) use self::strided::SourceFile;
use super::DataError;
use super::error::io;

/// A format that is read.
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

/// `.fbin, .u8bin and .npy`: what is read, for messages.
pub(super) fn extensions() -> String {
    let all: Vec<String> =
        FORMATS.iter().flat_map(|of| of.extensions).map(|name| format!(".{name}")).collect();
    match all.split_last() {
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

impl Format {
    fn of(path: &Path) -> Option<(&'static Self, &'static str)> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        FORMATS.iter().find_map(|format| {
            let name = format.extensions.iter().find(|name| **name == extension)?;
            Some((format, *name))
        })
    }

    /// The first name that says one, from `path` along its links to the file.
    fn along(path: &Path) -> Option<(&'static Self, &'static str)> {
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

impl SourceFile {
    /// Opens `path` by its name and checks its size against its header. Of a file with several
    /// tables, `table` is the one; no format has any yet.
    pub(super) fn open(path: &Path, table: Option<&str>) -> Result<Self, DataError> {
        // Asked first: opening a pipe would wait for a writer.
        let about = path.metadata().map_err(io("open", path))?;
        if !about.is_file() {
            return Err(DataError::NotAFile { path: path.into() });
        }
        let Some((format, extension)) = Format::along(path) else {
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            return Err(DataError::UnknownFormat { path: path.into(), extension });
        };
        if let Some(table) = table {
            let (path, table) = (path.into(), table.into());
            return Err(DataError::NoTables { path, table, extension });
        }
        let file = File::open(path).map_err(io("open", path))?;
        let length = about.len();
        if length == 0 {
            return Err(DataError::EmptyFile { path: path.into() });
        }
        let opened = Opened { file, path, length, extension };
        let layout = (format.header)(&opened)?;
        Self::validate(opened.file, path, length, &layout)
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
        file.read(0, &mut values).unwrap();
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
