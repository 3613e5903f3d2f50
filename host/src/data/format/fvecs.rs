//! `.fvecs` `.bvecs`, as the TEXMEX data sets have them: each row is i32 d, then d values (f32, u8),
//! little-endian.

use std::os::unix::fs::FileExt;

use super::element::Element;
use super::{Format, Layout, Opened, header_error};
use crate::data::DataError;

pub(super) const FORMAT: Format = Format { extensions: &["fvecs", "bvecs"], header };

fn header(of: &Opened<'_>) -> Result<Layout, DataError> {
    let &Opened { ref file, path, length, extension } = of;
    let element = if extension == "bvecs" { Element::U8 } else { Element::F32 };
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
    Ok(Layout {
        rows: length.div_ceil(row_bytes),
        dim,
        element,
        big_endian: false,
        offset: 0,
        prefixed: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::testing::{VALUES, numbers, open, read, vecs};

    #[test]
    fn either_type_of_number_gives_the_rows_that_were_written() {
        let floats = vecs(12, &numbers(Element::F32, false));
        assert_eq!(read("a.fvecs", &floats).unwrap(), VALUES);
        let bytes = vecs(3, &numbers(Element::U8, false));
        assert_eq!(read("A.BVECS", &bytes).unwrap(), VALUES);
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
    fn a_dimension_that_cannot_be_is_named() {
        let error = open("a.fvecs", &(-3_i32).to_le_bytes()).unwrap_err();
        assert!(error.to_string().ends_with("row 0 has -3 dimensions"));
        let error = open("a.fvecs", &i32::MAX.to_le_bytes()).unwrap_err();
        assert!(matches!(error, DataError::Length { .. }), "{error}");
        let error = open("a.bvecs", &[1, 0, 0]).unwrap_err();
        assert!(matches!(error, DataError::Header { .. }), "{error}");
    }
}
