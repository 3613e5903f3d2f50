//! `.npz`: a zip of `.npy` files, stored or deflated; one matrix of numbers among them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::foreign::{
    Content, Foreign, ForeignError, MATRICES, Parts, SENT_VALUES, Shape, Sink, choose, no_vectors,
};
use super::npy;
use super::strided::Layout;
use crate::data::{DataError, MAX_DIM};

pub(super) const FORMAT: Foreign = Foreign { extensions: &["npz"], open };

const KIND: &str = "table";
/// Members that are looked at. A file of vectors has a handful.
const MOST_MEMBERS: usize = 4096;

struct Table {
    archive: ZipArchive<BufReader<File>>,
    member: usize,
    name: String,
    layout: Layout,
}

impl From<ZipError> for ForeignError {
    fn from(error: ZipError) -> Self {
        Self::parser(error)
    }
}

fn open(path: &Path, wanted: Option<&str>) -> Result<Box<dyn Content>, ForeignError> {
    let mut archive = ZipArchive::new(BufReader::new(File::open(path)?))?;
    let mut members = Vec::new();
    for i in 0..archive.len().min(MOST_MEMBERS) {
        let member = archive.by_index(i)?;
        let name = member.name()?.into_owned();
        let Some(name) = name.strip_suffix(".npy") else { continue };
        let size = member.size();
        members.push((i, name.to_owned(), header(member, name, size)));
    }
    // What is asked for by name may be no matrix, and is told so.
    let is_none = |error: &DataError| {
        matches!(error, DataError::Shape { .. } | DataError::ElementType { .. })
    };
    let what = |of: &Result<Layout, DataError>| match of {
        Err(DataError::Shape { shape, .. }) => format!("{} axes", shape.len()),
        Err(DataError::ElementType { dtype, .. }) => dtype.clone(),
        _ => "a matrix".to_owned(),
    };
    let all = members.iter().map(|(_, name, of)| no_vectors(name, what(of))).collect();
    members.retain(|(.., layout)| wanted.is_some() || !layout.as_ref().is_err_and(is_none));
    if members.is_empty() {
        return Err(ForeignError::None { kind: KIND, of: MATRICES, found: all });
    }
    let names = members.iter().map(|(_, name, _)| name.clone()).collect();
    let (member, name, layout) = members.swap_remove(choose(KIND, names, wanted)?);
    Ok(Box::new(Table { archive, member, name, layout: layout? }))
}

/// The layout of the member `name` of `size` bytes, all of which it says something of.
fn header(member: impl Read, name: &str, size: u64) -> Result<Layout, DataError> {
    let path = Path::new(name);
    let layout = npy::parse(member, path)?;
    let expected = layout.bytes();
    if expected != u128::from(size) {
        let Layout { rows, dim, .. } = layout;
        return Err(DataError::Length { path: path.into(), rows, dim, expected, found: size });
    }
    Ok(layout)
}

impl Content for Table {
    fn shape(&self) -> Shape {
        let Layout { rows, dim, element, .. } = self.layout;
        Shape {
            table: self.name.clone(),
            rows,
            dim,
            element: element.name().to_owned(),
            parts: Parts::default(),
        }
    }

    fn send(&mut self, rows: u64, sink: Sink<'_>) -> Result<(), ForeignError> {
        let Layout { dim, element, big_endian, offset, .. } = self.layout;
        let mut member = self.archive.by_index(self.member)?;
        std::io::copy(&mut (&mut member).take(offset), &mut std::io::sink())?;
        // Wider rows are refused before any is asked for.
        let dim = dim.min(MAX_DIM as u64) as usize;
        let at_once = (SENT_VALUES / dim.max(1)).max(1);
        let mut bytes = vec![0; at_once * dim * element.bytes()];
        let mut values = vec![0.0; at_once * dim];
        let mut left = rows;
        while left > 0 {
            let count = left.min(at_once as u64) as usize * dim;
            let bytes = &mut bytes[..count * element.bytes()];
            member.read_exact(bytes)?;
            element.convert(bytes, big_endian, &mut values[..count]);
            sink(&values[..count])?;
            left -= (count / dim.max(1)) as u64;
        }
        // To the end, where the checksum is compared.
        if rows == self.layout.rows {
            let more = member.read(&mut [0])?;
            if more > 0 {
                return Err(ForeignError::parser("has more behind its rows"));
            }
        }
        Ok(())
    }
}
