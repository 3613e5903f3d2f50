//! One Parquet file: a row for each record, a typed column for each column of the CSV.
//!
//! Written column by column without Arrow, whose crates take longer to build than all of this
//! workspace's own.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::record::Record;
use crate::report::results::identity::{Field, IDENTITY, Kind, kind};

pub(super) fn write(
    rows: &[&Record],
    metrics: &[String],
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    write_columns(rows, metrics, out).map_err(|error| match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        other => io::Error::other(other),
    })
}

fn write_columns(
    rows: &[&Record],
    metrics: &[String],
    out: &mut (dyn Write + Send),
) -> Result<(), ParquetError> {
    let identity = IDENTITY.iter().map(|(name, _)| (*name, kind(name)));
    let measured = metrics.iter().map(|name| (name.as_str(), Kind::Real));
    let fields = identity.chain(measured).map(|(name, kind)| column(name, kind));
    let fields = fields.collect::<Result<Vec<TypePtr>, _>>()?;
    let schema = Type::group_type_builder("results").with_fields(fields).build()?;
    let properties = WriterProperties::builder().set_created_by(CREATOR.to_owned()).build();
    let mut writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (name, read) in IDENTITY {
        let fields: Vec<Field> = rows.iter().map(|record| read(record)).collect();
        write_column(&mut group, kind(name), &fields)?;
    }
    for name in metrics {
        let value = |record: &&Record| record.value(name).map_or(Field::Missing, Field::Real);
        write_column(&mut group, Kind::Real, &rows.iter().map(value).collect::<Vec<_>>())?;
    }
    group.close()?;
    writer.close()?;
    Ok(())
}

const CREATOR: &str = concat!("vq-host version ", env!("CARGO_PKG_VERSION"));

/// A column of which any value may be missing.
fn column(name: &str, kind: Kind) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Whole => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Kind::Real => (Physical::DOUBLE, None),
    };
    let column = Type::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical)
        .build()?;
    Ok(Arc::new(column))
}

fn write_column(
    group: &mut SerializedRowGroupWriter<'_, &mut (dyn Write + Send)>,
    kind: Kind,
    fields: &[Field],
) -> Result<(), ParquetError> {
    // 1 where there is a value: how Parquet tells what is missing.
    let present: Vec<i16> =
        fields.iter().map(|field| i16::from(*field != Field::Missing)).collect();
    let Some(mut writer) = group.next_column()? else {
        return Err(ParquetError::General("a column too many".to_owned()));
    };
    match kind {
        Kind::Text => {
            let texts = fields.iter().filter_map(|field| match field {
                Field::Text(text) => Some(ByteArray::from(text.as_str())),
                _ => None,
            });
            let values: Vec<ByteArray> = texts.collect();
            writer.typed::<ByteArrayType>().write_batch(&values, Some(&present), None)?;
        }
        Kind::Whole => {
            let wholes = fields.iter().filter_map(|field| match field {
                Field::Whole(whole) => Some(whole.cast_signed()),
                _ => None,
            });
            let values: Vec<i64> = wholes.collect();
            writer.typed::<Int64Type>().write_batch(&values, Some(&present), None)?;
        }
        Kind::Real => {
            let reals = fields.iter().filter_map(|field| match field {
                Field::Real(real) => Some(*real),
                _ => None,
            });
            let values: Vec<f64> = reals.collect();
            writer.typed::<DoubleType>().write_batch(&values, Some(&present), None)?;
        }
    }
    writer.close()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field as Read, Row};

    use super::super::ExportFormat;
    use super::super::tests::{exported, two};

    #[test]
    fn a_file_reads_back_with_types_and_what_is_missing() {
        let records = two();
        let file = exported(&records, ExportFormat::Parquet);
        let reader = SerializedFileReader::new(bytes(file)).unwrap();
        let rows: Vec<Row> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        let of = |row: usize, wanted: &str| {
            let mut columns = rows[row].get_column_iter();
            columns.find(|(name, _)| *name == wanted).unwrap().1.clone()
        };
        assert_eq!(rows.len(), 2);
        assert_eq!(of(0, "label"), Read::Str("m=8 | \"x\", y".to_owned()));
        assert_eq!(of(0, "seed"), Read::ULong(u64::MAX));
        assert_eq!(of(0, "recall@10"), Read::Double(0.1 + 0.2));
        assert_eq!(of(0, "error"), Read::Null);
        assert_eq!(of(1, "recall@10"), Read::Null);
        assert_eq!(of(1, "error"), Read::Str(records[1].error.clone().unwrap()));
        assert_eq!(of(1, "key"), Read::Str(records[1].key.clone()));
    }

    /// The file as a reader wants it.
    fn bytes(file: Vec<u8>) -> std::fs::File {
        use std::io::{Seek as _, Write as _};
        let mut on_disk = tempfile::tempfile().unwrap();
        on_disk.write_all(&file).unwrap();
        on_disk.rewind().unwrap();
        on_disk
    }
}
