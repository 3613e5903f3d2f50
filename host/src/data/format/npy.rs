//! `.npy`, numpy's own: f2, f4, f8, i1, u1 of either byte order, C order, two axes.

use std::io::Read;
use std::path::Path;

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::element::Element;
use super::{Format, Layout, Opened};
use crate::data::DataError;
use crate::data::error::io;

/// numpy pads its header to 64 bytes; only structured types need kilobytes.
const HEADER_BYTES: u64 = 1 << 14;

pub(super) const FORMAT: Format = Format { extensions: &["npy"], header };

fn header(of: &Opened<'_>) -> Result<Layout, DataError> {
    parse(&of.file, of.path)
}

/// What `file`, which begins where it stands and is called `path`, says of itself.
pub(super) fn parse(file: impl Read, path: &Path) -> Result<Layout, DataError> {
    let bad = |reason: &str| DataError::Header { path: path.into(), reason: reason.into() };
    let mut head = Vec::new();
    file.take(HEADER_BYTES).read_to_end(&mut head).map_err(io("read", path))?;
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
    Ok(Layout {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::testing::{VALUES, matrix, npy, numbers, open, read};

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
}
