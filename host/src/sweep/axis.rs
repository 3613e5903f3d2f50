//! Axes: a list is an axis, a value is an axis of one, a range is the list it stands for.
//!
//! Ranges are computed in decimal, as written: `{ from = 0.1, to = 0.5, step = 0.1 }` is exactly
//! 0.1, 0.2, 0.3, 0.4, 0.5, where repeated addition of doubles would give 0.30000000000000004 and
//! with it another cell key.

use std::ops::Range;

use toml::Spanned;

use super::error::{SweepError, SweepProblem, SweepSource};
use super::{Value, wire};

/// The most values of one axis; beyond it a range is a slip of the pen.
const MOST_VALUES: usize = 10_000;

/// The values of `written`, each with the place it came from.
pub(super) fn expand(
    source: &SweepSource,
    name: &str,
    written: &Spanned<wire::Value>,
) -> Result<Vec<Spanned<Value>>, SweepError> {
    let span = written.span();
    let values = match written.get_ref() {
        wire::Value::Table(range) => expand_range(source, span.clone(), range)?
            .into_iter()
            .map(|value| Spanned::new(span.clone(), value))
            .collect(),
        wire::Value::List(list) => {
            list.iter().map(|value| plain(source, name, value)).collect::<Result<Vec<_>, _>>()?
        }
        _ => vec![plain(source, name, written)?],
    };
    if values.is_empty() {
        let problem = SweepProblem::EmptyAxis { name: name.to_owned() };
        return Err(SweepError::new(source, span, problem));
    }
    if values.len() > MOST_VALUES {
        let problem = SweepProblem::RangeTooLong { most: MOST_VALUES };
        return Err(SweepError::new(source, span, problem));
    }
    same_kind(source, name, &values)?;
    distinct(source, name, &values)?;
    Ok(values)
}

/// A value that is not a range: what a list holds, or what an exclusion names.
pub(super) fn plain(
    source: &SweepSource,
    name: &str,
    written: &Spanned<wire::Value>,
) -> Result<Spanned<Value>, SweepError> {
    let span = written.span();
    let value = match written.get_ref() {
        wire::Value::Bool(value) => Value::Bool(*value),
        wire::Value::Int(value) => Value::Int(*value),
        wire::Value::Float(value) if value.is_finite() => Value::Float(*value),
        wire::Value::Float(value) => {
            let problem = SweepProblem::NotFinite { found: *value };
            return Err(SweepError::new(source, span, problem));
        }
        wire::Value::Str(value) => Value::Str(value.clone()),
        wire::Value::List(list) => {
            let values = list
                .iter()
                .map(|value| plain(source, name, value))
                .collect::<Result<Vec<_>, _>>()?;
            same_kind(source, name, &values)?;
            Value::List(values.into_iter().map(Spanned::into_inner).collect())
        }
        wire::Value::Table(_) => {
            let problem = SweepProblem::WrongType {
                expected: "a value (a range stands alone, outside lists)".to_owned(),
                found: "a table".to_owned(),
            };
            return Err(SweepError::new(source, span, problem));
        }
    };
    Ok(Spanned::new(span, value))
}

/// As TOML writes it.
pub(super) fn written(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Str(value) => toml::Value::String(value.clone()).to_string(),
        Value::List(values) => {
            let values: Vec<_> = values.iter().map(written).collect();
            format!("[{}]", values.join(", "))
        }
    }
}

/// Equal for a method: 1 and 1.0 are the same value.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(int), Value::Float(float)) | (Value::Float(float), Value::Int(int)) => {
            *int as f64 == *float
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => a == b,
    }
}

/// The plural, for "mixes integers with strings"; numbers of both types are one kind.
fn kind(value: &Value) -> (&'static str, u8) {
    match value {
        Value::Bool(_) => ("booleans", 0),
        Value::Int(_) => ("integers", 1),
        Value::Float(_) => ("floats", 1),
        Value::Str(_) => ("strings", 2),
        Value::List(_) => ("lists", 3),
    }
}

fn same_kind(
    source: &SweepSource,
    name: &str,
    values: &[Spanned<Value>],
) -> Result<(), SweepError> {
    let Some((first, rest)) = values.split_first() else {
        return Ok(());
    };
    let first = kind(first.get_ref());
    for value in rest {
        let other = kind(value.get_ref());
        if other.1 != first.1 {
            let problem =
                SweepProblem::MixedTypes { name: name.to_owned(), first: first.0, other: other.0 };
            return Err(SweepError::new(source, value.span(), problem));
        }
    }
    Ok(())
}

/// Quadratic, and only ever over a list that a person wrote or a range of distinct values.
fn distinct(source: &SweepSource, name: &str, values: &[Spanned<Value>]) -> Result<(), SweepError> {
    for (i, value) in values.iter().enumerate() {
        if let Some(first) = values[..i].iter().find(|first| same(first.get_ref(), value.get_ref()))
        {
            let problem = SweepProblem::Duplicate {
                key: name.to_owned(),
                value: written(value.get_ref()),
                first: (first.span() != value.span()).then(|| first.span()),
            };
            return Err(SweepError::new(source, value.span(), problem));
        }
    }
    Ok(())
}

/// A number of a range.
#[derive(Debug, Clone, Copy)]
enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }

    fn decimal(self) -> Decimal {
        match self {
            Self::Int(int) => Decimal { digits: i128::from(int), exponent: 0 },
            Self::Float(float) => Decimal::shortest(float),
        }
    }

    fn written(self) -> String {
        match self {
            Self::Int(int) => int.to_string(),
            Self::Float(float) => format!("{float:?}"),
        }
    }
}

/// digits · 10^exponent
#[derive(Debug, Clone, Copy)]
struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// The shortest decimal that reads back as `float`: what a person wrote, up to 17 digits.
    fn shortest(float: f64) -> Self {
        let text = format!("{float:e}");
        let (mantissa, exponent) = text.split_once('e').expect("`{:e}` writes an exponent");
        let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let exponent: i32 = exponent.parse().expect("`{:e}` writes an integer exponent");
        Self {
            digits: mantissa.replace('.', "").parse().expect("at most 17 digits"),
            exponent: exponent - i32::try_from(fraction).expect("at most 17 digits"),
        }
    }

    /// The digits when counted in units of 10^exponent, which must not be the larger one.
    fn in_units(self, exponent: i32) -> Option<i128> {
        if self.digits == 0 {
            return Some(0);
        }
        let shift = u32::try_from(self.exponent - exponent).ok()?;
        self.digits.checked_mul(10_i128.checked_pow(shift)?)
    }

    /// The product, or none if it has more digits than fit.
    fn times(self, factor: Self) -> Option<Self> {
        let mut product = Self {
            digits: self.digits.checked_mul(factor.digits)?,
            exponent: self.exponent + factor.exponent,
        };
        while product.digits != 0 && product.digits % 10 == 0 {
            product.digits /= 10;
            product.exponent += 1;
        }
        Some(product)
    }

    /// The nearest float, rounded once.
    fn as_f64(self) -> f64 {
        format!("{}e{}", self.digits, self.exponent)
            .parse()
            .expect("digits and an exponent are a float")
    }
}

/// The values from `from` to `to`, both included where the stride meets them.
///
/// All integers give integers; one float among the three makes floats.
fn expand_range(
    source: &SweepSource,
    span: Range<usize>,
    table: &wire::Table,
) -> Result<Vec<Value>, SweepError> {
    const KEYS: [&str; 4] = ["from", "to", "times", "step"];
    let refuse = |span: Range<usize>, problem| Err(SweepError::new(source, span, problem));
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.get_ref().as_str())) {
        let problem = SweepProblem::UnknownKey {
            key: key.get_ref().clone(),
            valid: KEYS.map(str::to_owned).to_vec(),
        };
        return refuse(key.span(), problem);
    }
    let number = |key: &str| -> Result<Option<(Number, Range<usize>)>, SweepError> {
        let Some(value) = table.get(key) else {
            return Ok(None);
        };
        let number = match value.get_ref() {
            wire::Value::Int(int) => Number::Int(*int),
            wire::Value::Float(float) if float.is_finite() => Number::Float(*float),
            wire::Value::Float(float) => {
                let problem = SweepProblem::NotFinite { found: *float };
                return Err(SweepError::new(source, value.span(), problem));
            }
            other => {
                let problem = SweepProblem::WrongType {
                    expected: "a number".to_owned(),
                    found: other.kind().to_owned(),
                };
                return Err(SweepError::new(source, value.span(), problem));
            }
        };
        Ok(Some((number, value.span())))
    };
    let incomplete = |missing| SweepProblem::RangeIncomplete { missing };
    let Some((from, from_span)) = number("from")? else {
        return refuse(span, incomplete("`from`"));
    };
    let Some((to, _)) = number("to")? else {
        return refuse(span, incomplete("`to`"));
    };
    if from.as_f64() > to.as_f64() {
        let problem = SweepProblem::RangeBackwards { from: from.written(), to: to.written() };
        return refuse(span, problem);
    }
    let stuck =
        |key, limit, found: Number| SweepProblem::RangeStuck { key, limit, found: found.written() };
    let values = match (number("times")?, number("step")?) {
        (None, None) => return refuse(span, incomplete("`times` or `step`")),
        (Some(_), Some(_)) => return refuse(span, SweepProblem::RangeAmbiguous),
        (Some((times, times_span)), None) => {
            if times.as_f64() <= 1.0 {
                return refuse(times_span, stuck("times", 1, times));
            }
            if from.as_f64() <= 0.0 {
                return refuse(from_span, stuck("from", 0, from));
            }
            geometric(from, to, times)
        }
        (None, Some((step, step_span))) => {
            if step.as_f64() <= 0.0 {
                return refuse(step_span, stuck("step", 0, step));
            }
            arithmetic(from, to, step)
        }
    };
    values.map_err(|problem| SweepError::new(source, span, problem))
}

/// from, from + step, … ≤ to
fn arithmetic(from: Number, to: Number, step: Number) -> Result<Vec<Value>, SweepProblem> {
    let all = [from, to, step].map(Number::decimal);
    let exponent = all[0].exponent.min(all[1].exponent).min(all[2].exponent);
    let [first, last, stride] = all.map(|decimal| decimal.in_units(exponent));
    let (Some(first), Some(last), Some(stride)) = (first, last, stride) else {
        return Err(SweepProblem::RangeTooFine);
    };
    let Some(distance) = last.checked_sub(first) else {
        return Err(SweepProblem::RangeTooFine);
    };
    let steps = usize::try_from(distance / stride).unwrap_or(usize::MAX);
    if steps >= MOST_VALUES {
        return Err(SweepProblem::RangeTooLong { most: MOST_VALUES });
    }
    let integers = matches!((from, to, step), (Number::Int(_), Number::Int(_), Number::Int(_)));
    Ok((0..=steps)
        .map(|i| {
            let digits = first + i as i128 * stride;
            if integers {
                Value::Int(i64::try_from(digits).expect("between two i64"))
            } else {
                Value::Float(Decimal { digits, exponent }.as_f64())
            }
        })
        .collect())
}

/// from, from · times, from · times², … ≤ to
fn geometric(from: Number, to: Number, times: Number) -> Result<Vec<Value>, SweepProblem> {
    let mut values = Vec::new();
    if let (Number::Int(from), Number::Int(to), Number::Int(times)) = (from, to, times) {
        let mut next = Some(from);
        // At most 63 doublings fit an i64, so the length needs no check.
        while let Some(value) = next.filter(|&value| value <= to) {
            values.push(Value::Int(value));
            next = value.checked_mul(times);
        }
        return Ok(values);
    }
    let factor = times.decimal();
    let mut exact = Some(from.decimal());
    let mut value = from.as_f64();
    while value <= to.as_f64() {
        if values.len() == MOST_VALUES {
            return Err(SweepProblem::RangeTooLong { most: MOST_VALUES });
        }
        values.push(Value::Float(value));
        exact = exact.and_then(|exact| exact.times(factor));
        // A product of more than 38 digits is no decimal that anyone wrote; `to` cannot be it.
        value = exact.map_or_else(|| value * times.as_f64(), Decimal::as_f64);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn values(written: &str) -> Result<Vec<Value>, SweepProblem> {
        let text = format!("axis = {written}");
        let source = SweepSource::new("test", text.as_str());
        let table: BTreeMap<String, Spanned<wire::Value>> = toml::from_str(&text).unwrap();
        match expand(&source, "axis", &table["axis"]) {
            Ok(values) => Ok(values.into_iter().map(Spanned::into_inner).collect()),
            Err(error) => {
                let span = error.span().unwrap();
                assert!(span.start >= 7 && span.end <= text.len());
                Err(error.into_problem())
            }
        }
    }

    fn ints(values: impl IntoIterator<Item = i64>) -> Vec<Value> {
        values.into_iter().map(Value::Int).collect()
    }

    fn floats(values: impl IntoIterator<Item = f64>) -> Vec<Value> {
        values.into_iter().map(Value::Float).collect()
    }

    #[test]
    fn a_scalar_is_an_axis_of_one_and_a_list_an_axis_of_its_elements() {
        assert_eq!(values("8").unwrap(), ints([8]));
        assert_eq!(values("[8, 16]").unwrap(), ints([8, 16]));
        assert_eq!(values("true").unwrap(), [Value::Bool(true)]);
        assert_eq!(values("[1, 0.5]").unwrap(), [Value::Int(1), Value::Float(0.5)]);
    }

    #[test]
    fn a_list_of_lists_is_an_axis_of_list_values() {
        assert_eq!(
            values("[[0, 2], [], [\"a\"]]").unwrap(),
            [
                Value::List(ints([0, 2])),
                Value::List(vec![]),
                Value::List(vec![Value::Str("a".to_owned())]),
            ]
        );
    }

    #[test]
    fn a_multiplying_range_of_integers_stays_integer() {
        assert_eq!(values("{ from = 4, to = 64, times = 2 }").unwrap(), ints([4, 8, 16, 32, 64]));
        assert_eq!(values("{ from = 5, to = 64, times = 3 }").unwrap(), ints([5, 15, 45]));
        assert_eq!(values("{ from = 7, to = 7, times = 3 }").unwrap(), ints([7]));
    }

    #[test]
    fn a_multiplying_range_ends_before_it_overflows() {
        let range = format!("{{ from = 1, to = {}, times = 10 }}", i64::MAX);
        assert_eq!(values(&range).unwrap().len(), 19);
        let range = format!("{{ from = 1.0, to = {:e}, times = 10 }}", f64::MAX);
        assert_eq!(values(&range).unwrap().len(), 309);
    }

    #[test]
    fn an_adding_range_of_integers_stays_integer() {
        assert_eq!(values("{ from = -4, to = 4, step = 3 }").unwrap(), ints([-4, -1, 2]));
        let all = format!("{{ from = {}, to = {}, step = {} }}", i64::MIN, i64::MAX, i64::MAX);
        assert_eq!(values(&all).unwrap(), ints([i64::MIN, -1, i64::MAX - 1]));
    }

    #[test]
    fn an_adding_range_of_decimals_gives_the_decimals_as_written() {
        assert_eq!(
            values("{ from = 0.1, to = 0.5, step = 0.1 }").unwrap(),
            floats([0.1, 0.2, 0.3, 0.4, 0.5])
        );
        assert_eq!(
            values("{ from = 0.0, to = 1e-20, step = 5e-21 }").unwrap(),
            floats([0.0, 5e-21, 1e-20])
        );
        assert_eq!(values("{ from = 1, to = 2.2, step = 0.5 }").unwrap(), floats([1.0, 1.5, 2.0]));
    }

    #[test]
    fn a_multiplying_range_of_decimals_gives_the_decimals_as_written() {
        assert_eq!(
            values("{ from = 0.001, to = 10, times = 10 }").unwrap(),
            floats([0.001, 0.01, 0.1, 1.0, 10.0])
        );
        assert_eq!(values("{ from = 0.1, to = 0.9, times = 3 }").unwrap(), floats([0.1, 0.3, 0.9]));
    }

    #[test]
    fn a_range_of_more_than_ten_thousand_values_is_refused_without_building_it() {
        assert_eq!(values("{ from = 1, to = 10_000, step = 1 }").unwrap().len(), 10_000);
        for range in [
            "{ from = 0, to = 10_000, step = 1 }",
            "{ from = 0, to = 9_223_372_036_854_775_807, step = 1 }",
            "{ from = 1.0, to = 10, times = 1.0000000000000002 }",
        ] {
            assert!(matches!(values(range), Err(SweepProblem::RangeTooLong { most: 10_000 })));
        }
    }

    #[test]
    fn a_step_too_small_to_add_exactly_is_refused() {
        assert!(matches!(
            values("{ from = 1e300, to = 2e300, step = 1e-300 }"),
            Err(SweepProblem::RangeTooFine)
        ));
    }

    #[test]
    fn an_integer_beyond_64_bits_is_called_too_large() {
        let text = "[[method]]\nparams.m = 99999999999999999999\n";
        let error = wire::read(&SweepSource::new("test", text)).unwrap_err();
        assert_eq!(error.to_string(), "expected an integer of at most 64 bits, found a larger one");
    }

    proptest! {
        #[test]
        fn adding_hundredths_never_drifts(from in -500_i32..500, count in 1_i32..200, step in 1_i32..90) {
            let hundredths = |n: i32| f64::from(n) / 100.0;
            let last = from + (count - 1) * step;
            let written = format!(
                "{{ from = {:.2}, to = {:.2}, step = {:.2} }}",
                hundredths(from), hundredths(last), hundredths(step)
            );
            let expected = (0..count).map(|i| hundredths(from + i * step));
            prop_assert_eq!(values(&written).unwrap(), floats(expected));
        }
    }
}
