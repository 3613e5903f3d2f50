//! `.csv`, `.tsv`: a row of numbers a line, parted by `,`, `;`, tabs or spaces, under a line of names or
//! none; `.jsonl`, `.ndjson`: an array of numbers a line, or an object with one. Rows are counted by
//! reading all of them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use serde_json::Value;

use super::foreign::{Content, Foreign, ForeignError, Shape, Sink, choose, no_vectors};
use crate::data::MAX_DIM;

pub(super) const DELIMITED: Foreign = Foreign { extensions: &["csv", "tsv"], open: open_delimited };
pub(super) const LINES: Foreign = Foreign { extensions: &["jsonl", "ndjson"], open: open_lines };

const KIND: &str = "column";
const SPACE: u8 = b' ';
/// Bytes of a line: the widest row, with more digits than a number needs.
const LONGEST: u64 = MAX_DIM as u64 * 32;

/// How a line is read.
enum Style {
    Delimited {
        delimiter: u8,
        names: bool,
    },
    /// The field of an object; of none where lines are arrays.
    Json {
        field: Option<String>,
    },
}

struct Table {
    lines: Lines,
    style: Style,
    shape: Shape,
}

fn open_delimited(path: &Path, wanted: Option<&str>) -> Result<Box<dyn Content>, ForeignError> {
    if let Some(wanted) = wanted {
        let (wanted, found) = (wanted.to_owned(), Vec::new());
        return Err(ForeignError::NoSuch { kind: KIND, wanted, found });
    }
    let mut lines = Lines::open(path)?;
    let first = lines.next()?.unwrap_or_default();
    let count = |delimiter| first.iter().filter(|byte| **byte == delimiter).count();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|of| count(*of)).unwrap_or(b',');
    // As numpy.savetxt writes them.
    let delimiter = if count(delimiter) == 0 { SPACE } else { delimiter };
    let mut values = Vec::new();
    let unnamed =
        delimiter != SPACE && first.split(|byte| *byte == delimiter).next().is_some_and(is_empty);
    if unnamed && first.contains(&delimiter) {
        let how = "line 1: the first column has no name, as that of an index: write the rows without \
                   it (index=False)";
        return Err(ForeignError::Parser(how.to_owned()));
    }
    let names = delimited(&first, delimiter, &mut values).is_err() || are_positions(&values);
    Table::of(lines, Style::Delimited { delimiter, names })
}

fn is_empty(field: &[u8]) -> bool {
    field.iter().all(|byte| byte.is_ascii_whitespace() || *byte == b'"')
}

/// 0, 1, 2, …: the names that columns get from who gave them none.
fn are_positions(values: &[f32]) -> bool {
    values.len() > 2 && values.iter().enumerate().all(|(i, value)| *value == i as f32)
}

fn open_lines(path: &Path, wanted: Option<&str>) -> Result<Box<dyn Content>, ForeignError> {
    let mut lines = Lines::open(path)?;
    let first = lines.next()?.unwrap_or_default();
    let parsed: Value = serde_json::from_slice(&first)
        .map_err(|error| ForeignError::Parser(format!("line 1 is no JSON: {error}")))?;
    let field = match parsed {
        Value::Object(fields) => {
            let lists = fields.iter().filter(|(_, of)| {
                of.as_array().is_some_and(|of| !of.is_empty() && of.iter().all(Value::is_number))
            });
            let names: Vec<String> = lists.map(|(name, _)| name.clone()).collect();
            if names.is_empty() {
                let what = |of: &Value| match of {
                    Value::Array(of) if of.is_empty() => "an empty list",
                    Value::Array(_) => "a list of no numbers",
                    Value::Object(_) => "an object",
                    Value::String(_) => "a text",
                    Value::Number(_) => "a number",
                    Value::Bool(_) | Value::Null => "no list",
                };
                let found = fields.iter().map(|(name, of)| no_vectors(name, what(of))).collect();
                return Err(ForeignError::None { kind: KIND, of: "lists of numbers", found });
            }
            let at = choose(KIND, names.clone(), wanted)?;
            Some(names[at].clone())
        }
        _ => None,
    };
    Table::of(lines, Style::Json { field })
}

impl Table {
    fn of(mut lines: Lines, style: Style) -> Result<Box<dyn Content>, ForeignError> {
        lines.rewind()?;
        let table = match &style {
            Style::Json { field } => field.clone().unwrap_or_default(),
            Style::Delimited { .. } => String::new(),
        };
        let shape = Shape {
            table,
            rows: 0,
            dim: 0,
            element: "text".to_owned(),
            parts: super::foreign::Parts::default(),
        };
        let mut table = Self { lines, style, shape };
        let (mut rows, mut dim) = (0, 0);
        table.walk(u64::MAX, &mut |values| {
            rows += 1;
            dim = values.len() as u64;
            Ok(())
        })?;
        (table.shape.rows, table.shape.dim) = (rows, dim);
        Ok(Box::new(table))
    }

    /// Hands over `rows` rows, one at a time, or as many as there are.
    fn walk(&mut self, rows: u64, sink: Sink<'_>) -> Result<u64, ForeignError> {
        self.lines.rewind()?;
        if matches!(self.style, Style::Delimited { names: true, .. }) {
            self.lines.next()?;
        }
        let (mut done, mut dim, mut values) = (0, None, Vec::new());
        while done < rows {
            let Some(line) = self.lines.next()? else { break };
            values.clear();
            match &self.style {
                Style::Delimited { delimiter, .. } => delimited(&line, *delimiter, &mut values),
                Style::Json { field } => json(&line, field.as_deref(), &mut values),
            }
            .map_err(|how| ForeignError::Parser(format!("line {}: {how}", self.lines.number)))?;
            let expected = *dim.get_or_insert(values.len() as u64);
            let found = values.len() as u64;
            if found != expected {
                return Err(ForeignError::Ragged { row: done, expected, found });
            }
            sink(&values)?;
            done += 1;
        }
        Ok(done)
    }
}

impl Content for Table {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn send(&mut self, rows: u64, sink: Sink<'_>) -> Result<(), ForeignError> {
        let found = self.walk(rows, sink)?;
        if found < rows {
            return Err(ForeignError::Rows { expected: rows, found });
        }
        Ok(())
    }
}

fn delimited(line: &[u8], delimiter: u8, values: &mut Vec<f32>) -> Result<(), String> {
    let fields = line.split(|byte| *byte == delimiter);
    // Between numbers there may be several.
    for (i, field) in fields.filter(|field| delimiter != SPACE || !field.is_empty()).enumerate() {
        let text = String::from_utf8_lossy(field);
        let text = text.trim().trim_matches('"');
        // Through f64, as every other number of a text.
        let number: f64 = text.parse().map_err(|_| {
            let text: String = text.chars().take(40).collect();
            format!("`{text}` in column {} is no number: write columns of numbers alone", i + 1)
        })?;
        values.push(number as f32);
    }
    Ok(())
}

fn json(line: &[u8], field: Option<&str>, values: &mut Vec<f32>) -> Result<(), String> {
    let parsed: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let list = match field {
        Some(name) => parsed.get(name),
        None => Some(&parsed),
    };
    let list = list.and_then(Value::as_array).ok_or_else(|| match field {
        Some(name) => format!("`{name}` is no list of numbers"),
        None => "it is no list of numbers".to_owned(),
    })?;
    for (i, number) in list.iter().enumerate() {
        let number = number.as_f64().ok_or_else(|| format!("value {} is no number", i + 1))?;
        values.push(number as f32);
    }
    Ok(())
}

/// The lines of a file that are not blank.
struct Lines {
    reader: BufReader<File>,
    /// Of the last one, from 1.
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, ForeignError> {
        Ok(Self { reader: BufReader::with_capacity(1 << 18, File::open(path)?), number: 0 })
    }

    fn rewind(&mut self) -> Result<(), ForeignError> {
        self.number = 0;
        Ok(self.reader.rewind()?)
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, ForeignError> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.reader).take(LONGEST).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if line.last() != Some(&b'\n') && read as u64 == LONGEST {
                let number = self.number;
                let how = format!("line {number} has more than {LONGEST} bytes");
                return Err(ForeignError::Parser(how));
            }
            if self.number == 1 {
                // What some editors put before a text.
                line = line.strip_prefix(b"\xef\xbb\xbf").map_or(line.clone(), <[u8]>::to_vec);
            }
            // A tab before the first field parts it from one that is empty.
            let text = line.trim_ascii_end();
            if !text.is_empty() {
                return Ok(Some(text.to_vec()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(text: &str) -> Result<Shape, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let table = open_delimited(&path, None);
        table.map(|of| of.shape()).map_err(|error| error.to_string())
    }

    #[test]
    fn positions_are_names_and_an_index_is_refused() {
        assert_eq!(opened("0,1,2\n5,6,7\n").unwrap().rows, 1);
        assert_eq!(opened("0,1\n5,6\n").unwrap().rows, 2, "two values may be a row");
        assert_eq!(opened("0,1,3\n5,6,7\n").unwrap().rows, 2);
        let spaced = opened(" 1.0  -2e0 3\n4 5 6 \n").unwrap();
        assert_eq!((spaced.rows, spaced.dim), (2, 3));
        assert_eq!(opened("1\n2\n").unwrap().dim, 1);
        for index in [",0,1\n0,5,6\n", "\"\";a;b\n1;5;6\n", "\t0\t1\t2\n0\t5\t6\t7\n"] {
            let error = opened(index).unwrap_err();
            assert!(error.contains("index=False"), "{error}");
        }
    }
}
