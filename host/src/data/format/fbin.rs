//! `.fbin` `.u8bin` `.i8bin` `.f16bin`, as big-ann-benchmarks writes them: u32 n, u32 d, then n·d
//! values, little-endian.

use std::os::unix::fs::FileExt;

use super::element::Element;
use super::{Format, Layout, Opened, header_error};
use crate::data::DataError;

pub(super) const FORMAT: Format =
    Format { extensions: &["fbin", "u8bin", "i8bin", "f16bin"], header };

fn header(of: &Opened<'_>) -> Result<Layout, DataError> {
    let element = match of.extension {
        "u8bin" => Element::U8,
        "i8bin" => Element::I8,
        "f16bin" => Element::F16,
        _ => Element::F32,
    };
    let [rows, dim] = [0, 4].map(|at| {
        let mut word = [0; 4];
        of.file.read_exact_at(&mut word, at).map(|()| u64::from(u32::from_le_bytes(word)))
    });
    let short = |e| header_error(of.path, e, "too short for the number of rows and dimensions");
    Ok(Layout {
        rows: rows.map_err(short)?,
        dim: dim.map_err(short)?,
        element,
        big_endian: false,
        offset: 8,
        prefixed: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MAX_DIM;
    use crate::data::format::strided::CHUNK_BYTES;
    use crate::data::format::testing::{VALUES, big_ann, numbers, open, read};

    #[test]
    fn each_type_of_number_gives_the_rows_that_were_written() {
        for (name, element) in [
            ("a.fbin", Element::F32),
            ("a.u8bin", Element::U8),
            ("a.i8bin", Element::I8),
            ("A.F16BIN", Element::F16),
        ] {
            let content = big_ann(2, 3, &numbers(element, false));
            assert_eq!(read(name, &content).unwrap(), VALUES, "{name}");
        }
    }

    #[test]
    fn bytes_of_i8_have_a_sign_and_those_of_u8_none() {
        let content = big_ann(1, 2, &[0xff, 0x80]);
        assert_eq!(read("a.i8bin", &content).unwrap(), [-1.0, -128.0]);
        assert_eq!(read("a.u8bin", &content).unwrap(), [255.0, 128.0]);
    }

    #[test]
    fn a_file_shorter_than_its_header_is_an_error() {
        for length in 1..8 {
            let error = open("a.fbin", &[1; 8][..length]).unwrap_err();
            assert!(matches!(error, DataError::Header { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn rows_wider_than_a_chunk_are_read_whole() {
        let dim = (CHUNK_BYTES + 3).min(MAX_DIM);
        let data: Vec<u8> = (0..3 * dim).map(|i| (i % 251) as u8).collect();
        let expected: Vec<f32> = data.iter().map(|&x| f32::from(x)).collect();
        let content = big_ann(3, dim as u32, &data);
        assert_eq!(read("a.u8bin", &content).unwrap(), expected);
    }
}
