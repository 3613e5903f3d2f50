//! `.parquet`: a column of lists of numbers, whatever stands beside it.
//!
//! Read below the level of rows: values and their levels, a page at a time. Of the levels, only a
//! list's begin (repetition 0) and a value that is there (the highest definition) are let. What is
//! not there is NaN.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use half::f16;
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::foreign::{
    Content, Foreign, ForeignError, LISTS, Parts, SENT_VALUES, Shape, Sink, choose, no_vectors,
};

pub(super) const FORMAT: Foreign = Foreign { extensions: &["parquet"], open };

const KIND: &str = "column";
/// What writers call the levels between a list and its numbers.
const LIST_LEVELS: [&str; 6] = ["list", "element", "item", "array", "bag", "array_element"];

struct Table {
    file: SerializedFileReader<File>,
    column: usize,
    /// As the file counts them, over all groups of rows.
    rows: u64,
    dim: u64,
    name: String,
    element: &'static str,
}

impl From<ParquetError> for ForeignError {
    fn from(error: ParquetError) -> Self {
        Self::parser(error)
    }
}

fn open(path: &Path, wanted: Option<&str>) -> Result<Box<dyn Content>, ForeignError> {
    let file = SerializedFileReader::new(File::open(path)?)?;
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let lists: Vec<(usize, String, Result<&'static str, String>)> = schema
        .columns()
        .iter()
        .enumerate()
        .filter(|(_, column)| column.max_rep_level() == 1)
        .map(|(i, column)| (i, name(column), element(column)))
        .collect();
    // What is asked for by name may be no vectors, and is told so.
    let lists: Vec<_> =
        lists.into_iter().filter(|(_, _, of)| wanted.is_some() || of.is_ok()).collect();
    if lists.is_empty() {
        let what = |column: &Arc<ColumnDescriptor>| {
            let list = if column.max_rep_level() > 0 { "list of " } else { "" };
            let of = element(column).map_or_else(|of| of, str::to_owned);
            no_vectors(&name(column), format!("{list}{of}"))
        };
        let found = schema.columns().iter().map(what).collect();
        return Err(ForeignError::None { kind: KIND, of: LISTS, found });
    }
    let names = lists.iter().map(|(_, name, _)| name.clone()).collect();
    let (column, name, element) = lists[choose(KIND, names, wanted)?].clone();
    let element = element.map_err(|found| ForeignError::Element { table: name.clone(), found })?;
    let mut rows = 0_u64;
    for group in file.metadata().row_groups() {
        let of_group = u64::try_from(group.num_rows())
            .map_err(|_| ForeignError::parser("a group has fewer rows than none"))?;
        rows = rows.saturating_add(of_group);
    }
    let mut table = Table { file, column, rows, dim: 0, name, element };
    table.dim = table.first_row()?;
    Ok(Box::new(table))
}

/// `emb` of the path `emb.list.element`.
fn name(column: &Arc<ColumnDescriptor>) -> String {
    let mut parts = column.path().parts().to_vec();
    while parts.len() > 1 && parts.last().is_some_and(|last| LIST_LEVELS.contains(&last.as_str())) {
        parts.pop();
    }
    parts.join(".")
}

/// The type of the numbers, or what they are instead.
fn element(column: &Arc<ColumnDescriptor>) -> Result<&'static str, String> {
    match (column.physical_type(), column.converted_type(), column.logical_type_ref()) {
        (Type::FLOAT, ..) => Ok("f4"),
        (Type::DOUBLE, ..) => Ok("f8"),
        (Type::INT32, ConvertedType::INT_8, _) => Ok("i1"),
        (Type::INT32, ConvertedType::UINT_8, _) => Ok("u1"),
        (Type::FIXED_LEN_BYTE_ARRAY, _, Some(LogicalType::Float16))
            if column.type_length() == 2 =>
        {
            Ok("f2")
        }
        (physical, ConvertedType::NONE, _) => Err(physical.to_string()),
        (_, converted, _) => Err(converted.to_string()),
    }
}

impl Table {
    /// Values of the first row that has any; 0 where there is none.
    fn first_row(&self) -> Result<u64, ForeignError> {
        let mut dim = 0;
        let walked = self.walk(self.rows, &mut |values| {
            dim = values.len() as u64;
            if dim > 0 { Err(ErrorKind::Other.into()) } else { Ok(()) }
        });
        // That error is none: no more rows were wanted.
        if dim > 0 { Ok(dim) } else { walked.map(|()| 0) }
    }

    /// Before `dim` is known, each row may be as wide as it likes.
    fn walk(&self, rows: u64, sink: Sink<'_>) -> Result<(), ForeignError> {
        let mut done = 0;
        for group in 0..self.file.num_row_groups() {
            if done == rows {
                break;
            }
            let here = self.file.get_row_group(group)?;
            let expected = here.metadata().num_rows() as u64;
            let wanted = expected.min(rows - done);
            let read = match here.get_column_reader(self.column)? {
                ColumnReader::FloatColumnReader(column) => {
                    self.column(column, (done, wanted), |x| *x, sink)
                }
                ColumnReader::DoubleColumnReader(column) => {
                    self.column(column, (done, wanted), |x| *x as f32, sink)
                }
                ColumnReader::Int32ColumnReader(column) => {
                    // No more than eight bits: exact.
                    self.column(column, (done, wanted), |x| *x as f32, sink)
                }
                ColumnReader::FixedLenByteArrayColumnReader(column) => {
                    self.column(column, (done, wanted), half, sink)
                }
                _ => {
                    Err(ForeignError::parser("its column is not of the type that its schema says"))
                }
            }?;
            if read < wanted {
                return Err(ForeignError::Rows { expected, found: read });
            }
            done += wanted;
        }
        Ok(())
    }

    /// Hands over rows of one group, and answers how many there were.
    fn column<T: DataType>(
        &self,
        mut column: ColumnReaderImpl<T>,
        (before, wanted): (u64, u64),
        number: impl Fn(&T::T) -> f32,
        sink: Sink<'_>,
    ) -> Result<u64, ForeignError> {
        let of = self.file.metadata().file_metadata().schema_descr().column(self.column);
        let present = of.max_def_level();
        // From this level on there is a place for a value.
        let place = present - i16::from(of.self_type().is_optional());
        let (mut there, mut starts, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut numbers = Vec::new();
        let at_once = SENT_VALUES.checked_div(self.dim as usize).unwrap_or(1).max(1);
        let mut done = 0;
        while done < wanted {
            there.clear();
            starts.clear();
            values.clear();
            let most = at_once.min((wanted - done) as usize);
            let (read, _, levels) =
                column.read_records(most, Some(&mut there), Some(&mut starts), &mut values)?;
            if read == 0 {
                break;
            }
            let levels = levels.min(starts.len()).min(there.len());
            let (there, starts) = (&there[..levels], &starts[..levels]);
            numbers.clear();
            if there.iter().all(|level| *level == present) {
                if self.dim > 0 {
                    self.are_whole(starts, before + done, read)?;
                }
                numbers.extend(values.iter().map(&number));
            } else {
                let mut values = values.iter().map(&number);
                let value = |level| match level == present {
                    true => values.next().unwrap_or(f32::NAN),
                    false => f32::NAN,
                };
                self.with_gaps((there, starts), place, before + done, value, &mut numbers)?;
            }
            sink(&numbers)?;
            done += read as u64;
        }
        Ok(done)
    }

    /// Appends rows of which some, or some values, are missing: of each of these all is NaN. A level below
    /// `place` has no value, and the one right below it is that of an empty list.
    fn with_gaps(
        &self,
        (there, starts): (&[i16], &[i16]),
        place: i16,
        before: u64,
        mut value: impl FnMut(i16) -> f32,
        numbers: &mut Vec<f32>,
    ) -> Result<(), ForeignError> {
        let mut begin = 0;
        for (row, starts) in starts.chunk_by(|_, next| *next != 0).enumerate() {
            let levels = &there[begin..begin + starts.len()];
            begin += starts.len();
            let found = match levels {
                [level] if *level + 1 == place => 0,
                [level] if *level < place => {
                    numbers.extend(std::iter::repeat_n(f32::NAN, self.dim as usize));
                    continue;
                }
                _ => levels.len() as u64,
            };
            if self.dim > 0 && found != self.dim {
                let row = before + row as u64;
                return Err(ForeignError::Ragged { row, expected: self.dim, found });
            }
            if found > 0 {
                numbers.extend(levels.iter().map(|level| value(*level)));
            }
        }
        Ok(())
    }

    /// Every row of `starts`, which has `read` of them, has as many values as the first row.
    fn are_whole(&self, starts: &[i16], before: u64, read: usize) -> Result<(), ForeignError> {
        let dim = self.dim as usize;
        let whole = |row: &[i16]| row[0] == 0 && row[1..].iter().all(|start| *start != 0);
        if starts.len() == read * dim && starts.chunks_exact(dim).all(whole) {
            return Ok(());
        }
        let lengths = starts.chunk_by(|_, next| *next != 0).map(<[i16]>::len);
        let (row, found) = lengths.enumerate().find(|(_, found)| *found != dim).unwrap_or((0, 0));
        Err(ForeignError::Ragged {
            row: before + row as u64,
            expected: self.dim,
            found: found as u64,
        })
    }
}

fn half(bytes: &FixedLenByteArray) -> f32 {
    let bytes: &ByteArray = bytes;
    bytes.data().first_chunk().map_or(f32::NAN, |raw| f16::from_le_bytes(*raw).to_f32())
}

impl Content for Table {
    fn shape(&self) -> Shape {
        let (table, element) = (self.name.clone(), self.element.to_owned());
        Shape { table, rows: self.rows, dim: self.dim, element, parts: Parts::default() }
    }

    fn send(&mut self, rows: u64, sink: Sink<'_>) -> Result<(), ForeignError> {
        self.walk(rows, sink)
    }
}
