//! A measured number.

use serde::{Deserialize, Serialize};

/// A measured number under its name; always finite, because neither JSON nor a comparison knows
/// what to do with NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "MetricWire", into = "MetricWire")]
pub struct MetricValue {
    name: String,
    value: f64,
    min: Option<f64>,
    max: Option<f64>,
    standard_error: Option<f64>,
}

/// The JSON of a [`MetricValue`], before it is validated.
#[derive(Serialize, Deserialize)]
#[serde(rename = "MetricValue", deny_unknown_fields)]
struct MetricWire {
    name: String,
    value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standard_error: Option<f64>,
}

/// Why a metric is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// NaN or an infinity.
    #[error("metric `{name}` is {value}, not a finite number")]
    NonFinite {
        /// The metric's name.
        name: String,
        /// Its value, or the bound that is not finite.
        value: f64,
    },
    /// A standard error below zero.
    #[error("metric `{name}` has the standard error {value}")]
    Negative {
        /// The metric's name.
        name: String,
        /// The standard error.
        value: f64,
    },
    /// An empty name or one with control characters, which could not become a column.
    #[error("{name:?} cannot name a metric")]
    Name {
        /// The name.
        name: String,
    },
}

impl MetricValue {
    /// A single value.
    ///
    /// # Errors
    /// [`MetricError`] when `value` is not finite or `name` is empty or has control characters.
    pub fn new(name: impl Into<String>, value: f64) -> Result<Self, MetricError> {
        Self::checked(name.into(), value, [None; 3])
    }

    /// A median with the smallest and the largest of its repeats.
    ///
    /// # Errors
    /// As [`MetricValue::new`], for any of the three.
    pub fn with_range(
        name: impl Into<String>,
        value: f64,
        min: f64,
        max: f64,
    ) -> Result<Self, MetricError> {
        Self::checked(name.into(), value, [Some(min), Some(max), None])
    }

    /// A mean with its standard error, where it is a mean of more than one.
    ///
    /// # Errors
    /// As [`MetricValue::new`], also for the standard error, which is not negative.
    pub fn with_error(
        name: impl Into<String>,
        value: f64,
        standard_error: Option<f64>,
    ) -> Result<Self, MetricError> {
        Self::checked(name.into(), value, [None, None, standard_error])
    }

    /// A metric as it was stored; the smallest and the largest of its repeats and its standard
    /// error.
    pub(crate) fn checked(
        name: String,
        value: f64,
        [min, max, standard_error]: [Option<f64>; 3],
    ) -> Result<Self, MetricError> {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(MetricError::Name { name });
        }
        let all = [Some(value), min, max, standard_error];
        if let Some(value) = all.into_iter().flatten().find(|x| !x.is_finite()) {
            return Err(MetricError::NonFinite { name, value });
        }
        match standard_error {
            Some(value) if value < 0.0 => Err(MetricError::Negative { name, value }),
            _ => Ok(Self { name, value, min, max, standard_error }),
        }
    }

    /// Name with its unit, such as `fit_s` or `recall@10`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value; the median where it was repeated.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The smallest of the repeats.
    pub fn min(&self) -> Option<f64> {
        self.min
    }

    /// The largest of the repeats.
    pub fn max(&self) -> Option<f64> {
        self.max
    }

    /// The standard error of a mean over queries or rows.
    pub fn standard_error(&self) -> Option<f64> {
        self.standard_error
    }
}

impl TryFrom<MetricWire> for MetricValue {
    type Error = MetricError;

    fn try_from(wire: MetricWire) -> Result<Self, MetricError> {
        Self::checked(wire.name, wire.value, [wire.min, wire.max, wire.standard_error])
    }
}

impl From<MetricValue> for MetricWire {
    fn from(metric: MetricValue) -> Self {
        let MetricValue { name, value, min, max, standard_error } = metric;
        Self { name, value, min, max, standard_error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_that_is_not_finite_is_refused() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(
                MetricValue::new("sqnr_db", value),
                Err(MetricError::NonFinite { name, .. }) if name == "sqnr_db"
            ));
            assert!(MetricValue::with_range("fit_s", 1.0, value, 2.0).is_err());
            assert!(MetricValue::with_range("fit_s", 1.0, 1.0, value).is_err());
            assert!(MetricValue::with_error("mse", 1.0, Some(value)).is_err());
        }
        let negative = MetricValue::with_error("mse", 1.0, Some(-0.5));
        assert!(matches!(negative, Err(MetricError::Negative { .. })), "{negative:?}");
        let line = r#"{"name":"mse","value":null}"#;
        assert!(serde_json::from_str::<MetricValue>(line).is_err());
        let line = r#"{"name":"","value":1.0}"#;
        assert!(serde_json::from_str::<MetricValue>(line).is_err());
    }
}
