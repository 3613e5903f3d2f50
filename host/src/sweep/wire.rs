//! The sweep file as written: every key known, every type right, every value with its span, and
//! nothing else checked.
//!
//! Keys without which a sweep means nothing are `Option`s all the same: that they are missing is
//! then said by us, at the table that misses them.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::error::{SweepError, SweepProblem, SweepSource};

/// The whole file.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) sweep: Head,
    #[serde(default)]
    pub(super) run: Run,
    #[serde(default)]
    pub(super) submit: Submit,
    #[serde(default)]
    pub(super) dataset: Tables<Dataset>,
    #[serde(default)]
    pub(super) evaluate: Evaluate,
    #[serde(default)]
    pub(super) method: Tables<MethodTable>,
}

/// `[sweep]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Head {
    pub(super) name: Option<Spanned<String>>,
    pub(super) seeds: Option<Spanned<Vec<Spanned<i64>>>>,
    pub(super) metric: Option<Spanned<String>>,
    pub(super) bits_per_dim: Option<Spanned<Value>>,
}

/// `[run]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Run {
    pub(super) jobs: Option<Spanned<i64>>,
    pub(super) threads: Option<Spanned<i64>>,
    pub(super) timeout: Option<Spanned<String>>,
    pub(super) memory: Option<Spanned<String>>,
    pub(super) scratch: Option<Spanned<String>>,
    pub(super) store: Option<Spanned<String>>,
    pub(super) python: Option<Spanned<String>>,
}

/// `[submit]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Submit {
    pub(super) tasks: Option<Spanned<i64>>,
    pub(super) account: Option<Spanned<String>>,
    pub(super) queue: Option<Spanned<String>>,
    pub(super) time: Option<Spanned<String>>,
    pub(super) memory: Option<Spanned<String>>,
    pub(super) cpus: Option<Spanned<i64>>,
    pub(super) gpus: Option<Spanned<i64>>,
    pub(super) modules: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) exclusive: Option<bool>,
    pub(super) cache: Option<Spanned<String>>,
}

/// `[[dataset]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Dataset {
    pub(super) name: Option<Spanned<String>>,
    pub(super) base: Option<Spanned<Base>>,
    pub(super) synthetic: Option<Spanned<Synthetic>>,
    pub(super) queries: Option<Spanned<PathOr<HoldOut>>>,
    pub(super) train: Option<Spanned<PathOr<Sample>>>,
    pub(super) limit: Option<Spanned<i64>>,
    pub(super) sizes: Option<Spanned<Vec<Spanned<Value>>>>,
    pub(super) metric: Option<Spanned<String>>,
    pub(super) neighbours: Option<Spanned<String>>,
    pub(super) unusable: Option<Spanned<String>>,
    pub(super) truth_of: Option<Spanned<String>>,
    pub(super) transform: Option<Spanned<Vec<Spanned<Value>>>>,
}

/// `{ file = "a.hdf5", table = "train" }`, `{ file = "a.parquet", column = "emb" }`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InTable {
    pub(super) file: Option<Spanned<String>>,
    pub(super) table: Option<Spanned<String>>,
    pub(super) column: Option<Spanned<String>>,
}

/// `synthetic = { kind, n, dim, seed }`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Synthetic {
    pub(super) kind: Option<Spanned<String>>,
    pub(super) n: Option<Spanned<i64>>,
    pub(super) dim: Option<Spanned<i64>>,
    pub(super) seed: Option<Spanned<i64>>,
}

/// `{ hold_out = 500 }`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldOut {
    pub(super) hold_out: Option<Spanned<i64>>,
}

/// `{ sample = 20000, apart = false }`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    pub(super) sample: Option<Spanned<i64>>,
    pub(super) apart: Option<bool>,
}

/// `[evaluate]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Evaluate {
    pub(super) k: Option<Spanned<Vec<Spanned<i64>>>>,
    pub(super) pairs: Option<Spanned<i64>>,
    pub(super) rerank: Option<Spanned<Vec<Spanned<i64>>>>,
    pub(super) repeats: Option<Spanned<i64>>,
    pub(super) metrics: Option<Spanned<Vec<Spanned<String>>>>,
}

/// `[[method]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct MethodTable {
    #[serde(rename = "use")]
    pub(super) id: Option<Spanned<String>>,
    pub(super) plugin: Option<Spanned<String>>,
    pub(super) digest: Option<Spanned<String>>,
    pub(super) python: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) params: Table,
    #[serde(default)]
    pub(super) exclude: Vec<Spanned<Table>>,
    pub(super) bits_per_dim: Option<Spanned<Value>>,
    pub(super) datasets: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) transform: Option<Spanned<Vec<Spanned<Value>>>>,
    pub(super) second: Option<Spanned<Second>>,
}

/// `second = { use, plugin, python, params }`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Second {
    #[serde(rename = "use")]
    pub(super) id: Option<Spanned<String>>,
    pub(super) plugin: Option<Spanned<String>>,
    pub(super) python: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) params: Table,
}

/// A table with keys that only a method knows.
pub(super) type Table = BTreeMap<Spanned<String>, Spanned<Value>>;

/// Any value that TOML can write, dates apart.
#[derive(Debug)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Spanned<Value>>),
    Table(Table),
}

impl Value {
    /// With its article: "a string".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Str(_) => "a string",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

const ANY_VALUE: &str = "a boolean, a number, a string, a list or a range";

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ANY_VALUE)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Int(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Str(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Value::List(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(Value::Table)
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

/// A path, or a table that says which rows.
#[derive(Debug)]
pub(super) enum PathOr<T> {
    Path(String),
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PathOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrTable<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for StringOrTable<T> {
            type Value = PathOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or a table")
            }
            fn visit_str<E>(self, path: &str) -> Result<Self::Value, E> {
                Ok(PathOr::Path(path.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(PathOr::Table)
            }
        }
        deserializer.deserialize_any(StringOrTable(PhantomData))
    }
}

/// A path, several that are one dataset, or a table of a file.
#[derive(Debug)]
pub(super) enum Base {
    File(String),
    Files(Vec<String>),
    InTable(InTable),
}

impl<'de> Deserialize<'de> for Base {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyBase;
        impl<'de> Visitor<'de> for AnyBase {
            type Value = Base;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, a list of paths or a table")
            }
            fn visit_str<E>(self, path: &str) -> Result<Self::Value, E> {
                Ok(Base::File(path.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = list.next_element()? {
                    paths.push(path);
                }
                Ok(Base::Files(paths))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                InTable::deserialize(MapAccessDeserializer::new(map)).map(Base::InTable)
            }
        }
        deserializer.deserialize_any(AnyBase)
    }
}

/// The tables of one `[[name]]`.
#[derive(Debug)]
pub(super) struct Tables<T>(pub(super) Vec<Spanned<T>>);

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tables<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Tables<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of [[tables]]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut tables = Vec::new();
                while let Some(table) = list.next_element()? {
                    tables.push(table);
                }
                Ok(Tables(tables))
            }
            // `[method]` is a table where a list is meant; left to the default, the error would
            // call it a map.
            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                Err(A::Error::custom("invalid type: map, expected a list of [[tables]]"))
            }
        }
        deserializer.deserialize_any(List(PhantomData))
    }
}

/// Reads the text, and says what the TOML reader has to say in this crate's words.
pub(super) fn read(source: &SweepSource) -> Result<File, SweepError> {
    let document = toml::de::Deserializer::parse(source.text()).map_err(|error| {
        let span = error.span();
        let written = span.clone().and_then(|span| source.text().get(span));
        let problem = syntax(error.message(), written.unwrap_or_default());
        SweepError::new(source, span, problem)
    })?;
    File::deserialize(document).map_err(|error| {
        let span = error.span();
        let problem = in_our_words(error.message(), source.text(), span.as_ref());
        SweepError::new(source, span, problem)
    })
}

/// The TOML reader's sentences are good where punctuation is wrong, and puzzling where a value is:
/// it calls `first-look` an invalid boolean, for its `f`.
fn syntax(message: &str, written: &str) -> SweepProblem {
    let about_a_value = message.starts_with("string values must be quoted")
        || (message.starts_with("invalid ") && !message.contains("key"));
    let message = match written {
        "" if about_a_value => "missing value".to_owned(),
        _ if about_a_value
            && written.starts_with(|c: char| c.is_alphabetic() || "/.~".contains(c)) =>
        {
            return SweepProblem::Unquoted { found: written.to_owned() };
        }
        _ if message == "duplicate key" => format!("duplicate key `{written}`"),
        _ => message.replace('\n', "; "),
    };
    SweepProblem::Syntax { message }
}

/// serde hands its errors over as sentences only; their forms are few and stable.
fn in_our_words(message: &str, text: &str, span: Option<&Range<usize>>) -> SweepProblem {
    if let Some((key, valid)) =
        message.strip_prefix("unknown field `").and_then(|rest| rest.rsplit_once("`, expected "))
    {
        return SweepProblem::UnknownKey {
            key: key.to_owned(),
            valid: valid.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        };
    }
    if let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        // The TOML reader shows a date to serde as a map with a private key.
        let is_date = span.and_then(|span| text.get(span.clone())).is_some_and(|written| {
            written.starts_with(|c: char| c.is_ascii_digit())
                && !found.starts_with("integer")
                && !found.starts_with("floating")
        });
        let found = match found.split([' ', '`']).next() {
            _ if is_date => "a date",
            Some("string") => "a string",
            Some("integer") => "an integer",
            Some("floating") => "a float",
            Some("boolean") => "a boolean",
            Some("sequence") => "a list",
            Some("map") => "a table",
            _ => found,
        };
        let expected = match expected {
            "i64" | "i128" => "an integer",
            "a sequence" => "a list",
            "a map" => "a table",
            // What the private key is not, in the words of the private type that reads keys.
            _ if is_date && expected.contains("span") => ANY_VALUE,
            other => other,
        };
        let (expected, found) = match (expected, found) {
            // An integer that is not good enough as an integer, or as any value, is too large.
            ("an integer" | ANY_VALUE, "an integer") => {
                ("an integer of at most 64 bits", "a larger one")
            }
            other => other,
        };
        return SweepProblem::WrongType { expected: expected.to_owned(), found: found.to_owned() };
    }
    SweepProblem::Syntax { message: message.to_owned() }
}
