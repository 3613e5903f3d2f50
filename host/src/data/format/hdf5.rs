//! `.hdf5`, `.h5`: one of its matrices; `train` and `test` are base and queries in the layout of
//! ann-benchmarks, `neighbors` the queries' nearest rows, and `learn` the training rows in that of VIBE.

use std::io::Write;
use std::path::Path;

use hdf5_pure::{AttrValue, Dataset, Datatype, DatatypeByteOrder, Error, File, Group};

use super::element::Element;
use super::foreign::{
    Content, Foreign, ForeignError, LISTED, MATRICES, Parts, SENT_VALUES, Shape, Sink, choose,
    no_vectors,
};

pub(super) const FORMAT: Foreign = Foreign { extensions: &["hdf5", "h5"], open };

const KIND: &str = "table";
/// Groups in groups that are looked at where no vectors lie outside of them,
const DEPTH: u32 = 4;
/// and how many of their tables.
const MOST_TABLES: usize = 1024;

struct Table {
    dataset: Dataset,
    shape: Shape,
    element: Element,
    big_endian: bool,
}

impl From<Error> for ForeignError {
    fn from(error: Error) -> Self {
        Self::parser(error)
    }
}

fn open(path: &Path, wanted: Option<&str>) -> Result<Box<dyn Content>, ForeignError> {
    let file = File::open_streaming(path)?;
    let all = file.root().datasets()?;
    let table = match wanted {
        // It may lie in a group.
        Some(wanted) if wanted.contains('/') => wanted.to_owned(),
        _ => {
            let is_matrix = |name: &&String| {
                let dataset = file.dataset(name);
                dataset.is_ok_and(|of| {
                    of.shape().is_ok_and(|shape| shape.len() == 2)
                        && of.datatype().is_ok_and(|of| element(&of).is_some())
                })
            };
            // What is asked for by name may be no matrix, and is told so.
            let mut found: Vec<String> =
                all.iter().filter(|name| wanted.is_some() || is_matrix(name)).cloned().collect();
            if found.is_empty() {
                let mut below = Vec::new();
                tables_in(&file.root(), "", DEPTH, &mut below)?;
                found = below.iter().filter(is_matrix).cloned().collect();
                if found.is_empty() {
                    let what = |name: &String| {
                        let of = file.dataset(name).ok();
                        let axes = of.as_ref().and_then(|of| of.shape().ok()).unwrap_or_default();
                        let axes: Vec<String> = axes.iter().map(u64::to_string).collect();
                        let dtype = of.and_then(|of| of.dtype().ok());
                        let dtype = dtype.map_or("no numbers".to_owned(), |of| of.to_string());
                        no_vectors(name, format!("{} {dtype}", axes.join("×")).trim())
                    };
                    let found = all.iter().chain(&below).take(LISTED + 1).map(what).collect();
                    return Err(ForeignError::None { kind: KIND, of: MATRICES, found });
                }
            }
            let at = choose(KIND, found.clone(), wanted)?;
            found[at].clone()
        }
    };
    let dataset = file.dataset(&table)?;
    let shape = dataset.shape()?;
    let &[rows, dim] = shape.as_slice() else {
        return Err(ForeignError::NoMatrix { table, shape });
    };
    let of = dataset.datatype()?;
    let Some((element, big_endian)) = element(&of) else {
        return Err(ForeignError::Element { table, found: dataset.dtype()?.to_string() });
    };
    let has = |name: &str| all.iter().any(|of| of == name).then(|| name.to_owned());
    let parts = if table == "train" {
        Parts {
            queries: has("test"),
            learn: has("learn"),
            neighbours: has("neighbors"),
            distance: distance(&file),
        }
    } else {
        Parts::default()
    };
    let shape = Shape { table, rows, dim, element: element.name().to_owned(), parts };
    Ok(Box::new(Table { dataset, shape, element, big_endian }))
}

/// Appends the paths of the tables in the groups of `group`, which is at `path`.
fn tables_in(group: &Group, path: &str, depth: u32, all: &mut Vec<String>) -> Result<(), Error> {
    for (name, group) in group.iter_groups()? {
        let path = format!("{path}{name}/");
        all.extend(group.datasets()?.into_iter().map(|name| format!("{path}{name}")));
        // A group may be in itself.
        if depth > 1 && all.len() < MOST_TABLES {
            tables_in(&group, &path, depth - 1, all)?;
        }
    }
    Ok(())
}

/// What the file says of the distance that its neighbours are by.
fn distance(file: &File) -> Option<String> {
    match file.root().attrs().ok()?.remove("distance")? {
        AttrValue::String(text)
        | AttrValue::AsciiString(text)
        | AttrValue::VarLenString(text)
        | AttrValue::VarLenAsciiString(text) => Some(text),
        _ => None,
    }
}

/// The type of the numbers, and whether they are big-endian; `None` for what is not read.
fn element(of: &Datatype) -> Option<(Element, bool)> {
    let (element, order) = match of {
        Datatype::FloatingPoint { size, byte_order, layout } => {
            let element = match (*size, layout.exponent_size) {
                (8, 11) => Element::F64,
                (4, 8) => Element::F32,
                (2, 5) => Element::F16,
                (2, 8) => Element::Bf16,
                _ => return None,
            };
            (element, byte_order)
        }
        Datatype::FixedPoint { size: 1, byte_order, layout } => {
            (if layout.signed { Element::I8 } else { Element::U8 }, byte_order)
        }
        _ => return None,
    };
    match order {
        DatatypeByteOrder::LittleEndian => Some((element, false)),
        DatatypeByteOrder::BigEndian => Some((element, true)),
        _ => None,
    }
}

impl Content for Table {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn send(&mut self, rows: u64, sink: Sink<'_>) -> Result<(), ForeignError> {
        let dim = self.shape.dim as usize;
        let at_once = (SENT_VALUES / dim.max(1)).max(1) as u64;
        let mut values = Vec::new();
        let mut done = 0;
        while done < rows {
            let count = at_once.min(rows - done);
            let bytes = self.dataset.read_raw_rows(done, count)?;
            values.resize(count as usize * dim, 0.0);
            if bytes.len() != values.len() * self.element.bytes() {
                let row_bytes = (dim * self.element.bytes()).max(1);
                let found = done + (bytes.len() / row_bytes) as u64;
                return Err(ForeignError::Rows { expected: self.shape.rows, found });
            }
            self.element.convert(&bytes, self.big_endian, &mut values);
            sink(&values)?;
            done += count;
        }
        Ok(())
    }
}

/// A matrix of row numbers.
pub(super) struct Lists {
    dataset: Dataset,
    pub(super) shape: Shape,
    bytes: usize,
    signed: bool,
    big_endian: bool,
}

impl Lists {
    /// The `table` of the file at `path`, which no other format has.
    pub(super) fn open(
        path: &Path,
        extension: &str,
        table: Option<&str>,
    ) -> Result<Self, ForeignError> {
        let Some(table) = table.filter(|_| FORMAT.extensions.contains(&extension)) else {
            let wanted = table.unwrap_or_default().to_owned();
            return Err(ForeignError::NoSuch { kind: KIND, wanted, found: Vec::new() });
        };
        let dataset = File::open_streaming(path)?.dataset(table)?;
        let shape = dataset.shape()?;
        let table = table.to_owned();
        let &[rows, dim] = shape.as_slice() else {
            return Err(ForeignError::NoMatrix { table, shape });
        };
        let (bytes, signed, big_endian) = match dataset.datatype()? {
            Datatype::FixedPoint { size: size @ (4 | 8), byte_order, layout } => {
                (size as usize, layout.signed, byte_order == DatatypeByteOrder::BigEndian)
            }
            _ => {
                let found = dataset.dtype()?.to_string();
                return Err(ForeignError::NoNumbers { table, found });
            }
        };
        let element = format!("{}{bytes}", if signed { "i" } else { "u" });
        let shape = Shape { table, rows, dim, element, parts: Parts::default() };
        Ok(Self { dataset, shape, bytes, signed, big_endian })
    }

    /// Writes the first `rows` lists as u32; what is none is the largest, which no row has.
    pub(super) fn send(&self, rows: u64, out: &mut dyn Write) -> Result<(), ForeignError> {
        let at_once = (SENT_VALUES as u64 / self.shape.dim.max(1)).max(1);
        let mut done = 0;
        while done < rows {
            let count = at_once.min(rows - done);
            let bytes = self.dataset.read_raw_rows(done, count)?;
            if bytes.len() as u64 != count * self.shape.dim * self.bytes as u64 {
                return Err(ForeignError::Rows { expected: self.shape.rows, found: done });
            }
            let mut numbers = Vec::with_capacity(bytes.len() / self.bytes * 4);
            for raw in bytes.chunks_exact(self.bytes) {
                numbers.extend(self.number(raw).to_le_bytes());
            }
            out.write_all(&numbers)?;
            done += count;
        }
        Ok(())
    }

    fn number(&self, raw: &[u8]) -> u32 {
        let mut wide = [0; 8];
        wide[..raw.len()].copy_from_slice(raw);
        if self.big_endian {
            wide[..raw.len()].reverse();
        }
        let negative = self.signed && wide[raw.len() - 1] >= 0x80;
        let number = if negative { u64::MAX } else { u64::from_le_bytes(wide) };
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}
