//! Small files in every format.

use std::fs;

use half::{bf16, f16};

use super::element::Element;
use super::strided::Strided;
use super::{Kind, SourceFile};
use crate::data::DataError;

pub(super) const VALUES: [f32; 6] = [1.0, 2.0, 3.0, 100.0, 0.0, 7.0];

pub(super) fn numbers(element: Element, big: bool) -> Vec<u8> {
    VALUES
        .iter()
        .flat_map(|&x| {
            let mut raw = match element {
                Element::F64 => f64::from(x).to_le_bytes().to_vec(),
                Element::F32 => x.to_le_bytes().to_vec(),
                Element::Bf16 => bf16::from_f32(x).to_le_bytes().to_vec(),
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

pub(super) fn npy(dict: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((dict.len() as u16 + 1).to_le_bytes());
    bytes.extend(dict.bytes());
    bytes.push(b'\n');
    bytes.extend(data);
    bytes
}

pub(super) fn matrix(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}")
}

pub(super) fn big_ann(rows: u32, dim: u32, data: &[u8]) -> Vec<u8> {
    [&rows.to_le_bytes(), &dim.to_le_bytes(), data].concat()
}

pub(super) fn vecs(row_bytes: usize, data: &[u8]) -> Vec<u8> {
    data.chunks(row_bytes).flat_map(|row| [&3_i32.to_le_bytes(), row].concat()).collect()
}

/// (name, content) of the same two rows of three in every format.
pub(in crate::data) fn every_format() -> Vec<(String, Vec<u8>)> {
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

pub(super) fn open(name: &str, content: &[u8]) -> Result<Strided, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    match SourceFile::open(&path, None)?.kind {
        Kind::Plain(file) => Ok(file),
        Kind::Confined(file) => panic!("{file:?} has a header of ours"),
    }
}

pub(super) fn read(name: &str, content: &[u8]) -> Result<Vec<f32>, DataError> {
    let file = open(name, content)?;
    let mut out = vec![f32::NAN; file.rows * file.dim];
    file.read(0, &mut out, true)?;
    Ok(out)
}
