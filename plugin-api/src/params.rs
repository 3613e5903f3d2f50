//! Typed parameters: one declaration gives the struct, its schema for `--help`, the defaults and
//! the default grid.
//!
//! ```
//! use vq_plugin_api::{Params, params};
//!
//! params! {
//!     /// Parameters of the scaled integer lattice.
//!     pub struct Steps {
//!         /// Standard deviations that one step spans.
//!         scale: f32 = 0.5, min = 1e-6, grid = [0.25, 0.5, 1.0];
//!         /// Bytes per dimension.
//!         bytes: u32 = 1, choices = [1, 2];
//!     }
//! }
//!
//! let schema = Steps::schema();
//! assert_eq!(schema[0].help, "Standard deviations that one step spans.");
//! let steps = Steps::from_config(&[("bytes".into(), 2i64.into())].into()).unwrap();
//! assert_eq!((steps.scale, steps.bytes), (0.5, 2));
//! ```

use crate::Error;
use std::collections::BTreeMap;
use std::fmt;

/// A parameter's value.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// A text.
    Str(String),
    /// A list of values of one kind.
    List(Vec<Value>),
}

/// Values by parameter name.
pub type Config = BTreeMap<String, Value>;

/// The kind of a [`Value`].
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of Value's variants")]
pub enum Kind {
    Bool,
    Int,
    Float,
    Str,
    List,
}

/// One parameter of a method: what a sweep may set, and what `vq-host methods` shows.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// `[a-z][a-z0-9_]*`.
    pub name: String,
    /// One sentence with its unit.
    pub help: String,
    /// The kind of its values.
    pub kind: Kind,
    /// The kind of a list's items.
    pub item_kind: Option<Kind>,
    /// Taken when a configuration omits it; none: what then holds is the method's own affair.
    pub default: Option<Value>,
    /// Inclusive lower end of numbers (of a list's items).
    pub min: Option<Value>,
    /// Inclusive upper end.
    pub max: Option<Value>,
    /// The allowed values; empty: any.
    pub choices: Vec<Value>,
    /// What is swept when the user names no axis; empty: the default alone.
    pub grid: Vec<Value>,
}

/// A struct of parameters; made by [`params!`](macro@crate::params).
pub trait Params: Sized {
    /// The parameters in the order of declaration.
    fn schema() -> Vec<Param>;

    /// Fills the struct from `config`, defaults where it is silent.
    ///
    /// # Errors
    /// An unknown name, a wrong type, a value out of range or not among the choices.
    fn from_config(config: &Config) -> Result<Self, Error>;
}

/// A method without parameters.
impl Params for () {
    fn schema() -> Vec<Param> {
        Vec::new()
    }

    fn from_config(config: &Config) -> Result<Self, Error> {
        check(&Self::schema(), config)
    }
}

/// Checks names, kinds, ranges and choices of `config` against `schema`.
///
/// # Errors
/// The first offending parameter with what is allowed.
pub fn check(schema: &[Param], config: &Config) -> Result<(), Error> {
    for (name, value) in config {
        let Some(param) = schema.iter().find(|p| p.name == *name) else {
            let known: Vec<&str> = schema.iter().map(|p| p.name.as_str()).collect();
            return Err(Error::param(
                name,
                format!("unknown parameter; known are: {}", known.join(", ")),
            ));
        };
        param.check(value).map_err(|reason| Error::param(name, reason))?;
    }
    Ok(())
}

impl Param {
    /// Brings `value` to this parameter's kind where nothing is lost: an int for a float
    /// parameter becomes a float. Anything else stays as it is, for [`Param::check`] to judge.
    pub fn coerce(&self, value: Value) -> Value {
        match value {
            Value::List(items) if self.kind == Kind::List => {
                let float = self.item_kind == Some(Kind::Float);
                Value::List(items.into_iter().map(|v| to_float_if(float, v)).collect())
            }
            other => to_float_if(self.kind == Kind::Float, other),
        }
    }

    /// Checks the kind, range and choices of `value`.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        if value.kind() != self.kind {
            return Err(format!("expected {}, found {} {value}", self.kind, value.kind()));
        }
        match value {
            Value::List(items) => {
                for item in items {
                    if self.item_kind.is_some_and(|kind| kind != item.kind()) {
                        let kind = self.item_kind.unwrap_or(Kind::Int);
                        return Err(format!("expected a list of {kind}, found {item} in it"));
                    }
                    self.check_range(item)?;
                }
            }
            single => self.check_range(single)?,
        }
        if self.choices.is_empty() || self.choices.contains(value) {
            return Ok(());
        }
        let choices: Vec<String> = self.choices.iter().map(Value::to_string).collect();
        Err(format!("{value} is not one of {}", choices.join(", ")))
    }

    /// Completes a declaration: range ends in the kind of the numbers they limit, and choices
    /// that the declaration gives instead of the type.
    #[doc(hidden)]
    pub fn declared(mut self, choices: Vec<Value>) -> Self {
        let float = self.kind == Kind::Float || self.item_kind == Some(Kind::Float);
        self.min = self.min.map(|end| to_float_if(float, end));
        self.max = self.max.map(|end| to_float_if(float, end));
        if !choices.is_empty() {
            self.choices = choices;
        }
        self
    }

    fn check_range(&self, value: &Value) -> Result<(), String> {
        let Some(number) = value.as_f64() else { return Ok(()) };
        if !number.is_finite() {
            return Err(format!("{value} is not finite"));
        }
        let below = |end: &Option<Value>| end.as_ref().and_then(Value::as_f64);
        match (below(&self.min), below(&self.max)) {
            (Some(min), _) if number < min => Err(format!("{value} is below the minimum {min}")),
            (_, Some(max)) if number > max => Err(format!("{value} is above the maximum {max}")),
            _ => Ok(()),
        }
    }
}

fn to_float_if(float: bool, value: Value) -> Value {
    match value {
        Value::Int(i) if float => Value::Float(i as f64),
        other => other,
    }
}

impl Value {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Float(_) => Kind::Float,
            Value::Str(_) => Kind::Str,
            Value::List(_) => Kind::List,
        }
    }

    /// The number an int or a float holds.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(v) => write!(f, "{v}"),
            Value::Int(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v}"),
            Value::Str(v) => write!(f, "{v}"),
            Value::List(items) => {
                write!(f, "[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
                }
                write!(f, "]")
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Float => "float",
            Kind::Str => "string",
            Kind::List => "list",
        })
    }
}

/// A Rust type that a parameter can have.
pub trait ParamType: Sized {
    /// The kind of its values.
    const KIND: Kind;
    /// The kind of its items, for lists.
    const ITEM_KIND: Option<Kind> = None;

    /// The allowed values, where the type itself limits them (see [`choices!`](crate::choices)).
    fn choices() -> Vec<Value> {
        Vec::new()
    }

    /// As a value.
    fn into_value(self) -> Value;

    /// From a value; `None` when the kind or the width does not fit.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! int_params {
    ($($ty:ty),+) => { $(
        impl ParamType for $ty {
            const KIND: Kind = Kind::Int;
            fn into_value(self) -> Value {
                Value::Int(i64::try_from(self).unwrap_or(i64::MAX))
            }
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Int(i) => Self::try_from(*i).ok(),
                    _ => None,
                }
            }
        }
        impl From<$ty> for Value {
            fn from(v: $ty) -> Value { v.into_value() }
        }
    )+ };
}
int_params!(i32, i64, u8, u16, u32, u64, usize);

impl ParamType for f64 {
    const KIND: Kind = Kind::Float;
    fn into_value(self) -> Value {
        Value::Float(self)
    }
    fn from_value(value: &Value) -> Option<Self> {
        value.as_f64()
    }
}

impl ParamType for f32 {
    const KIND: Kind = Kind::Float;
    fn into_value(self) -> Value {
        // Through the shortest decimal, so that 0.2 stays 0.2 in tables and keys.
        Value::Float(self.to_string().parse().unwrap_or(f64::from(self)))
    }
    fn from_value(value: &Value) -> Option<Self> {
        value.as_f64().map(|v| v as f32)
    }
}

impl ParamType for bool {
    const KIND: Kind = Kind::Bool;
    fn into_value(self) -> Value {
        Value::Bool(self)
    }
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }
}

impl ParamType for String {
    const KIND: Kind = Kind::Str;
    fn into_value(self) -> Value {
        Value::Str(self)
    }
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Str(v) => Some(v.clone()),
            _ => None,
        }
    }
}

impl<T: ParamType> ParamType for Vec<T> {
    const KIND: Kind = Kind::List;
    const ITEM_KIND: Option<Kind> = Some(T::KIND);
    fn into_value(self) -> Value {
        Value::List(self.into_iter().map(T::into_value).collect())
    }
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) => items.iter().map(T::from_value).collect(),
            _ => None,
        }
    }
}

impl From<f64> for Value {
    fn from(v: f64) -> Value {
        Value::Float(v)
    }
}
impl From<bool> for Value {
    fn from(v: bool) -> Value {
        Value::Bool(v)
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Value {
        Value::Str(v.into())
    }
}

/// Reads one field for [`params!`](macro@crate::params), after [`check`] has passed.
#[doc(hidden)]
pub fn field<T: ParamType>(config: &Config, name: &str, default: T) -> Result<T, Error> {
    match config.get(name) {
        None => Ok(default),
        Some(value) => T::from_value(value)
            .ok_or_else(|| Error::param(name, format!("{value} does not fit its type"))),
    }
}

/// Declares a struct of parameters; see the [module](mod@crate::params) for the form. Each field is
/// `name: type = default` with optional `min`, `max`, `choices` and `grid`, in that order.
#[macro_export]
macro_rules! params {
    (
        $(#[$meta:meta])*
        $vis:vis struct $struct:ident {
            $(
                $(#[doc = $help:literal])*
                $name:ident : $ty:ty = $default:expr
                $(, min = $min:expr)? $(, max = $max:expr)?
                $(, choices = [$($choice:expr),* $(,)?])?
                $(, grid = [$($grid:expr),* $(,)?])?
                ;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $struct {
            $( $(#[doc = $help])* pub $name: $ty, )*
        }

        impl $crate::Params for $struct {
            fn schema() -> ::std::vec::Vec<$crate::params::Param> {
                ::std::vec![ $( {
                    type T = $ty;
                    let value = <T as $crate::params::ParamType>::into_value;
                    let param = $crate::params::Param {
                        name: stringify!($name).trim_start_matches("r#").into(),
                        help: [$($help),*].map(str::trim).join(" "),
                        kind: <T as $crate::params::ParamType>::KIND,
                        item_kind: <T as $crate::params::ParamType>::ITEM_KIND,
                        default: Some(value($default)),
                        min: None $(.or(Some($crate::params::Value::from($min))))?,
                        max: None $(.or(Some($crate::params::Value::from($max))))?,
                        choices: <T as $crate::params::ParamType>::choices(),
                        grid: ::std::vec![ $($( value($grid) ),*)? ],
                    };
                    param.declared(::std::vec![ $($( value($choice) ),*)? ])
                } ),* ]
            }

            fn from_config(config: &$crate::params::Config) -> ::std::result::Result<Self, $crate::Error> {
                $crate::params::check(&Self::schema(), config)?;
                Ok($struct { $(
                    $name: $crate::params::field(
                        config,
                        stringify!($name).trim_start_matches("r#"),
                        $default,
                    )?,
                )* })
            }
        }
    };
}

/// Declares an enum whose variants are the allowed texts of a parameter.
///
/// ```
/// vq_plugin_api::choices! {
///     /// Where the levels lie.
///     pub enum Levels { Uniform = "uniform", LloydMax = "lloyd_max" }
/// }
/// ```
#[macro_export]
macro_rules! choices {
    ($(#[$meta:meta])* $vis:vis enum $enum:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $enum {
            $(
                $(#[$vmeta])*
                #[doc = concat!("`", $text, "`")]
                $variant
            ),+
        }

        impl $crate::params::ParamType for $enum {
            const KIND: $crate::params::Kind = $crate::params::Kind::Str;
            fn choices() -> ::std::vec::Vec<$crate::params::Value> {
                ::std::vec![$( $crate::params::Value::from($text) ),+]
            }
            fn into_value(self) -> $crate::params::Value {
                match self { $( $enum::$variant => $crate::params::Value::from($text) ),+ }
            }
            fn from_value(value: &$crate::params::Value) -> ::std::option::Option<Self> {
                match value {
                    $crate::params::Value::Str(text) => match text.as_str() {
                        $( $text => Some($enum::$variant), )+
                        _ => None,
                    },
                    _ => None,
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    choices! {
        /// Where the levels lie.
        enum Levels { Uniform = "uniform", LloydMax = "lloyd_max" }
    }

    params! {
        /// All the kinds.
        struct All {
            /// Sub-vectors; must divide
            /// the dimension.
            m: usize = 8, min = 1, grid = [8, 16];
            /// A scale.
            scale: f32 = 0.2, min = 0, max = 1.5;
            /// Levels.
            levels: Levels = Levels::Uniform, grid = [Levels::Uniform, Levels::LloydMax];
            /// Widths.
            allowed: Vec<i64> = vec![0, 2], min = 0, max = 8;
            /// A keyword.
            r#type: String = "f16".into(), choices = ["f16".into(), "bf16".into()];
        }
    }

    fn config(pairs: &[(&str, Value)]) -> Config {
        pairs.iter().map(|(k, v)| (k.to_string(), v.clone())).collect()
    }

    #[test]
    fn schema_says_what_the_declaration_says() {
        let schema = All::schema();
        assert_eq!(schema[0].help, "Sub-vectors; must divide the dimension.");
        assert_eq!(schema[0].grid, vec![Value::Int(8), Value::Int(16)]);
        assert_eq!(schema[1].default, Some(Value::Float(0.2)));
        assert_eq!(schema[1].max, Some(Value::Float(1.5)));
        assert_eq!(schema[1].min, Some(Value::Float(0.0)));
        assert_eq!(schema[2].choices.len(), 2);
        assert_eq!(schema[3].item_kind, Some(Kind::Int));
        assert_eq!(schema[4].name, "type");
    }

    #[test]
    fn defaults_fill_what_a_configuration_omits() {
        let all = All::from_config(&config(&[("levels", "lloyd_max".into())])).unwrap();
        assert_eq!(all.levels, Levels::LloydMax);
        assert_eq!((all.m, all.scale, all.allowed), (8, 0.2, vec![0, 2]));
        assert_eq!(all.r#type, "f16");
    }

    #[test]
    fn each_wrong_value_is_named_with_what_is_allowed() {
        let error =
            |pairs: &[(&str, Value)]| All::from_config(&config(pairs)).unwrap_err().to_string();
        assert_eq!(error(&[("m", Value::Int(0))]), "m: 0 is below the minimum 1");
        assert_eq!(error(&[("m", "x".into())]), "m: expected int, found string x");
        assert_eq!(
            error(&[("levels", "log".into())]),
            "levels: log is not one of uniform, lloyd_max"
        );
        assert_eq!(
            error(&[("mm", Value::Int(1))]),
            "mm: unknown parameter; known are: m, scale, levels, allowed, type"
        );
        let list = Value::List(vec![Value::Int(9)]);
        assert_eq!(error(&[("allowed", list)]), "allowed: 9 is above the maximum 8");
        assert_eq!(error(&[("scale", Value::Float(f64::NAN))]), "scale: NaN is not finite");
    }

    #[test]
    fn an_int_serves_a_float_parameter() {
        let schema = All::schema();
        assert_eq!(schema[1].coerce(Value::Int(1)), Value::Float(1.0));
        assert_eq!(schema[0].coerce(Value::Int(1)), Value::Int(1));
    }
}
