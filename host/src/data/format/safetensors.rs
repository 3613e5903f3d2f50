//! `.safetensors`: u64 length, a JSON object {name: {dtype, shape, data_offsets}}, then the
//! tensors; little-endian. One matrix among them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;

use super::element::Element;
use super::foreign::{
    Content, Foreign, ForeignError, Parts, SENT_VALUES, Shape, Sink, choose, no_vectors,
};

pub(super) const FORMAT: Foreign = Foreign { extensions: &["safetensors"], open };

const KIND: &str = "table";
/// As the format's own library allows.
const MOST_HEADER: u64 = 100_000_000;
/// The one entry that is no tensor.
const METADATA: &str = "__metadata__";

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct Table {
    file: File,
    name: String,
    rows: u64,
    dim: u64,
    element: Element,
    offset: u64,
}

fn open(path: &Path, wanted: Option<&str>) -> Result<Box<dyn Content>, ForeignError> {
    let mut file = File::open(path)?;
    let found = file.metadata()?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let first = length.saturating_add(8);
    if length > MOST_HEADER || first > found {
        return Err(ForeignError::Parser(format!(
            "bad header: {length} bytes long, more than is there"
        )));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header)?;
    let all: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&header)
        .map_err(|error| ForeignError::Parser(format!("bad header: {error}")))?;
    let (mut tensors, mut others) = (Vec::new(), Vec::new());
    for (name, tensor) in all {
        if name == METADATA {
            continue;
        }
        let tensor = Tensor::deserialize(tensor)
            .map_err(|error| ForeignError::Parser(format!("bad header: `{name}`: {error}")))?;
        // What is asked for by name may be no matrix, and is told so.
        if wanted.is_some() || (tensor.shape.len() == 2 && element(&tensor.dtype).is_some()) {
            tensors.push((name, tensor));
        } else {
            let axes: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
            others.push(no_vectors(&name, format!("{} {}", axes.join("×"), tensor.dtype)));
        }
    }
    if tensors.is_empty() {
        let of = "matrices of F64, F32, F16, BF16, U8 or I8";
        return Err(ForeignError::None { kind: KIND, of, found: others });
    }
    let names = tensors.iter().map(|(name, _)| name.clone()).collect();
    let (name, tensor) = tensors.swap_remove(choose(KIND, names, wanted)?);
    let &[rows, dim] = tensor.shape.as_slice() else {
        return Err(ForeignError::NoMatrix { table: name, shape: tensor.shape });
    };
    let Some(element) = element(&tensor.dtype) else {
        return Err(ForeignError::Element { table: name, found: tensor.dtype });
    };
    let (begin, end) = tensor.data_offsets;
    let expected = u128::from(rows) * u128::from(dim) * element.bytes() as u128;
    if u128::from(begin) + expected != u128::from(end) || end > found - first {
        return Err(ForeignError::Parser(format!(
            "bad header: `{name}` is {rows}×{dim} in the bytes {begin} to {end} of {}",
            found - first
        )));
    }
    Ok(Box::new(Table { file, name, rows, dim, element, offset: first + begin }))
}

fn element(dtype: &str) -> Option<Element> {
    Some(match dtype {
        "F64" => Element::F64,
        "F32" => Element::F32,
        "F16" => Element::F16,
        "BF16" => Element::Bf16,
        "U8" => Element::U8,
        "I8" => Element::I8,
        _ => return None,
    })
}

impl Content for Table {
    fn shape(&self) -> Shape {
        let (table, element) = (self.name.clone(), self.element.name().to_owned());
        Shape { table, rows: self.rows, dim: self.dim, element, parts: Parts::default() }
    }

    fn send(&mut self, rows: u64, sink: Sink<'_>) -> Result<(), ForeignError> {
        let size = self.element.bytes();
        let mut bytes = vec![0; SENT_VALUES * size];
        let mut values = vec![0.0; SENT_VALUES];
        let (mut at, mut left) = (self.offset, rows.saturating_mul(self.dim));
        while left > 0 {
            let count = left.min(SENT_VALUES as u64) as usize;
            let bytes = &mut bytes[..count * size];
            self.file.read_exact_at(bytes, at)?;
            self.element.convert(bytes, false, &mut values[..count]);
            sink(&values[..count])?;
            at += bytes.len() as u64;
            left -= count as u64;
        }
        Ok(())
    }
}
