//! `.arrow`, `.feather` (version 2): Arrow IPC, as a file or as a stream; a column of lists of
//! numbers, of fixed size or not.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use super::foreign::{
    Content, Foreign, ForeignError, LISTS, Parts, Shape, Sink, choose, no_vectors,
};

pub(super) const FORMAT: Foreign = Foreign { extensions: &["arrow", "feather", "ipc"], open };

const KIND: &str = "column";
/// What a file begins with that is not a stream.
const MAGIC: &[u8; 6] = b"ARROW1";
/// Another format under the same name.
const FEATHER_1: &[u8] = b"FEA1";

struct Table {
    file: File,
    column: usize,
    shape: Shape,
}

impl From<ArrowError> for ForeignError {
    fn from(error: ArrowError) -> Self {
        Self::parser(error)
    }
}

fn open(path: &Path, wanted: Option<&str>) -> Result<Box<dyn Content>, ForeignError> {
    let file = File::open(path)?;
    let (schema, _) = batches(&file, None)?;
    let lists: Vec<(usize, Result<&'static str, String>)> = schema
        .fields()
        .iter()
        .enumerate()
        .filter_map(|(i, field)| Some((i, element(field.data_type())?)))
        // What is asked for by name may be no vectors, and is told so.
        .filter(|(_, of)| wanted.is_some() || of.is_ok())
        .collect();
    if lists.is_empty() {
        let found = schema.fields().iter();
        let found = found.map(|field| no_vectors(field.name(), field.data_type())).collect();
        return Err(ForeignError::None { kind: KIND, of: LISTS, found });
    }
    let names = lists.iter().map(|(i, _)| schema.field(*i).name().clone()).collect();
    let (column, element) = lists[choose(KIND, names, wanted)?].clone();
    let table = schema.field(column).name().clone();
    let element = element.map_err(|found| ForeignError::Element { table: table.clone(), found })?;
    let (mut rows, mut dim) = (0, 0);
    // Rows are not counted anywhere but in the batches.
    for batch in batches(&file, Some(column))?.1 {
        let batch = batch?;
        let lists = batch.column(0);
        let there = || (0..lists.len()).find(|row| lists.is_valid(*row));
        if dim == 0
            && let Some(row) = there()
        {
            dim = first_row(&lists.slice(row, 1));
        }
        rows += batch.num_rows() as u64;
    }
    let shape = Shape { table, rows, dim, element: element.to_owned(), parts: Parts::default() };
    Ok(Box::new(Table { file, column, shape }))
}

type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + 'a>;

/// The schema, and all batches of one column; of every one for `None`.
fn batches(file: &File, column: Option<usize>) -> Result<(SchemaRef, Batches<'_>), ForeignError> {
    let mut reader = BufReader::new(file);
    reader.rewind()?;
    let mut magic = [0; MAGIC.len()];
    let is_file = reader.read_exact(&mut magic).is_ok() && magic == *MAGIC;
    if magic.starts_with(FEATHER_1) {
        let how = "is of the first version of Feather: write it again, version 2 is the usual one";
        return Err(ForeignError::Parser(how.to_owned()));
    }
    reader.rewind()?;
    let columns = column.map(|column| vec![column]);
    // The schema that a reader tells is the one of its projection.
    let (schema, all): (_, Batches<'_>) = if is_file {
        let reader = FileReader::try_new(reader, columns)?;
        (reader.schema(), Box::new(reader))
    } else {
        if is_big_endian(&mut reader)? {
            let how = "is a big-endian stream; write it little-endian";
            return Err(ForeignError::Parser(how.to_owned()));
        }
        reader.rewind()?;
        let reader = StreamReader::try_new(reader, columns)?;
        (reader.schema(), Box::new(reader))
    };
    Ok((schema, all))
}

/// Whether a stream says so, of which a reader of files takes care, and one of streams does not.
fn is_big_endian(stream: &mut impl Read) -> Result<bool, ForeignError> {
    let mut length = [0; 4];
    let mut next = |stream: &mut dyn Read| match stream.read_exact(&mut length) {
        Ok(()) => u32::from_le_bytes(length),
        Err(_) => 0,
    };
    let mut bytes = next(stream);
    // Streams of before 0.15 begin with the length at once.
    if bytes == u32::MAX {
        bytes = next(stream);
    }
    let mut message = Vec::new();
    // A schema of more than 16 MiB is no schema.
    stream.take(u64::from(bytes).min(1 << 24)).read_to_end(&mut message)?;
    let message = arrow_ipc::root_as_message(&message);
    let schema = message.ok().and_then(|message| message.header_as_schema());
    Ok(schema.is_some_and(|schema| schema.endianness() == arrow_ipc::Endianness::Big))
}

/// The type of a list's numbers, or what they are instead; `None` for what is no list.
fn element(of: &DataType) -> Option<Result<&'static str, String>> {
    let (DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _)) =
        of
    else {
        return None;
    };
    Some(match field.data_type() {
        DataType::Float16 => Ok("f2"),
        DataType::Float32 => Ok("f4"),
        DataType::Float64 => Ok("f8"),
        DataType::Int8 => Ok("i1"),
        DataType::UInt8 => Ok("u1"),
        other => Err(other.to_string()),
    })
}

fn first_row(lists: &ArrayRef) -> u64 {
    match lists.data_type() {
        DataType::List(_) => u64::try_from(lists.as_list::<i32>().value_length(0)).unwrap_or(0),
        DataType::LargeList(_) => {
            u64::try_from(lists.as_list::<i64>().value_length(0)).unwrap_or(0)
        }
        _ => u64::try_from(lists.as_fixed_size_list().value_length()).unwrap_or(0),
    }
}

/// The numbers of `lists`, none of which is missing and each of which has `dim`; `before` is the
/// first one's row.
fn numbers(lists: &ArrayRef, dim: u64, before: u64) -> Result<ArrayRef, ForeignError> {
    fn even(offsets: impl Iterator<Item = u64>, dim: u64, before: u64) -> Result<(), ForeignError> {
        let offsets: Vec<u64> = offsets.collect();
        let lengths = offsets.windows(2).map(|of| of[1].saturating_sub(of[0]));
        match lengths.enumerate().find(|(_, found)| *found != dim) {
            Some((row, found)) => {
                Err(ForeignError::Ragged { row: before + row as u64, expected: dim, found })
            }
            None => Ok(()),
        }
    }
    let (values, from) = match lists.data_type() {
        DataType::List(_) => {
            let lists = lists.as_list::<i32>();
            let offsets = lists.value_offsets();
            even(offsets.iter().map(|of| u64::try_from(*of).unwrap_or(0)), dim, before)?;
            (lists.values(), usize::try_from(offsets[0]).unwrap_or(0))
        }
        DataType::LargeList(_) => {
            let lists = lists.as_list::<i64>();
            let offsets = lists.value_offsets();
            even(offsets.iter().map(|of| u64::try_from(*of).unwrap_or(0)), dim, before)?;
            (lists.values(), usize::try_from(offsets[0]).unwrap_or(0))
        }
        _ => {
            let lists = lists.as_fixed_size_list();
            let found = u64::try_from(lists.value_length()).unwrap_or(0);
            if found != dim {
                return Err(ForeignError::Ragged { row: before, expected: dim, found });
            }
            (lists.values(), 0)
        }
    };
    let count = lists.len() * dim as usize;
    if from.checked_add(count).is_none_or(|end| end > values.len()) {
        return Err(ForeignError::parser("its lists end behind their values"));
    }
    Ok(values.slice(from, count))
}

/// A value that is missing is NaN.
fn as_f32<T: ArrowPrimitiveType>(values: &ArrayRef, number: impl Fn(T::Native) -> f32) -> Vec<f32> {
    let values = values.as_primitive::<T>();
    match values.null_count() {
        0 => values.values().iter().map(|x| number(*x)).collect(),
        _ => values.iter().map(|x| x.map_or(f32::NAN, &number)).collect(),
    }
}

impl Table {
    /// The values of `lists`, none of which is missing; `before` is the first one's row.
    fn values(&self, lists: &ArrayRef, before: u64) -> Result<Vec<f32>, ForeignError> {
        let values = numbers(lists, self.shape.dim, before)?;
        Ok(match values.data_type() {
            DataType::Float16 => as_f32::<Float16Type>(&values, |x| x.to_f32()),
            DataType::Float32 => as_f32::<Float32Type>(&values, |x| x),
            DataType::Float64 => as_f32::<Float64Type>(&values, |x| x as f32),
            DataType::Int8 => as_f32::<Int8Type>(&values, f32::from),
            DataType::UInt8 => as_f32::<UInt8Type>(&values, f32::from),
            other => {
                let table = self.shape.table.clone();
                return Err(ForeignError::Element { table, found: other.to_string() });
            }
        })
    }
}

impl Content for Table {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn send(&mut self, rows: u64, sink: Sink<'_>) -> Result<(), ForeignError> {
        let (mut done, dim) = (0, self.shape.dim);
        for batch in batches(&self.file, Some(self.column))?.1 {
            let batch = batch?;
            let wanted = (batch.num_rows() as u64).min(rows - done) as usize;
            if wanted == 0 {
                continue;
            }
            let lists = batch.column(0).slice(0, wanted);
            let mut at = 0;
            while at < wanted {
                // As many as are there, or are missing.
                let missing = lists.is_null(at);
                let alike = (at..wanted).take_while(|row| lists.is_null(*row) == missing).count();
                match missing {
                    true => sink(&vec![f32::NAN; alike * dim as usize])?,
                    false => sink(&self.values(&lists.slice(at, alike), done + at as u64)?)?,
                }
                at += alike;
            }
            done += wanted as u64;
            if done == rows {
                return Ok(());
            }
        }
        Err(ForeignError::Rows { expected: rows, found: done })
    }
}
