//! What the referee does to rows before a method sees them: `transform` of a sweep.
//!
//! ```text
//! row (d) ─► truncate · centre · pca · rotate · normalise, any of them in a row ─► (k) ─► method
//! decoded (k) ─► the same backwards, lost dimensions at their mean ─► (d), held against the row
//! ```
//!
//! A [`Chain`] is what a sweep asks for; `Learned` is that chain with what it took from training rows.

mod learned;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::data::Metric;
pub(crate) use learned::Learned;

/// The name under which a record's parameters have a chain, and a sweep asks for one.
pub const TRANSFORM: &str = "transform";

/// Above it the covariance and its decomposition outgrow a cell.
const PCA_DIM: usize = 4096;

/// One thing that is done to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Keeps the first so many dimensions.
    Truncate(usize),
    /// Subtracts the mean of the training rows.
    Centre,
    /// Subtracts that mean, and keeps so many principal directions of the training rows.
    Pca(usize),
    /// Turns by a random rotation, the same in every cell.
    Rotate,
    /// Brings to unit length; a row of zeros stays.
    Normalise,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncate(k) => write!(f, "truncate={k}"),
            Self::Centre => f.write_str("centre"),
            Self::Pca(k) => write!(f, "pca={k}"),
            Self::Rotate => f.write_str("rotate"),
            Self::Normalise => f.write_str("normalise"),
        }
    }
}

/// Why a chain cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It keeps more dimensions than there are.
    #[error("{step} keeps more than the {dim} dimensions that there are")]
    TooMany {
        /// What asks for them.
        step: Step,
        /// Those that reach it.
        dim: usize,
    },
    /// A covariance that is too large.
    #[error("{step} is of at most {PCA_DIM} dimensions, not {dim}: truncate first")]
    TooWide {
        /// What asks for it.
        step: Step,
        /// Those that reach it.
        dim: usize,
    },
}

/// Steps, the first first; none changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chain(Vec<Step>);

impl From<Vec<Step>> for Chain {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

/// `truncate=64 centre`
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.0.iter().map(Step::to_string).collect();
        f.write_str(&steps.join(" "))
    }
}

impl Chain {
    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether rows stay as they are.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Dimensions of rows of `dim` dimensions after it.
    ///
    /// # Errors
    /// [`ChainError`] where it cannot be applied to them.
    pub fn dim(&self, dim: usize) -> Result<usize, ChainError> {
        self.0.iter().try_fold(dim, |dim, &step| match step {
            Step::Truncate(k) | Step::Pca(k) if k > dim => Err(ChainError::TooMany { step, dim }),
            Step::Pca(_) if dim > PCA_DIM => Err(ChainError::TooWide { step, dim }),
            Step::Truncate(k) | Step::Pca(k) => Ok(k),
            Step::Centre | Step::Rotate | Step::Normalise => Ok(dim),
        })
    }

    /// Whether it learns from training rows.
    pub fn learns(&self) -> bool {
        self.0.iter().any(|step| *step != Step::Rotate)
    }

    /// By which distance methods are told that rows are near, where the data's is `metric`: unit length
    /// is lost with a mean or a dimension.
    pub fn metric(&self, metric: Metric) -> Metric {
        if metric == Metric::Cosine && !self.keeps_unit(true) { Metric::Ip } else { metric }
    }

    /// Whether rows have unit length after it, if they have it before or not.
    fn keeps_unit(&self, before: bool) -> bool {
        self.0.iter().fold(before, |unit, step| step.keeps_unit(unit))
    }

    /// Whether estimates of the distance that is left are, up to a constant for each query, estimates of
    /// the data's: not where rows of different lengths are made equally long.
    pub(crate) fn keeps_scale(&self, metric: Metric) -> bool {
        let mut unit = metric == Metric::Cosine;
        self.0.iter().all(|step| {
            let kept = *step != Step::Normalise || unit;
            unit = step.keeps_unit(unit);
            kept
        })
    }

    /// Whether that constant is all that is between the two: nothing of `dim` dimensions is lost.
    pub(crate) fn keeps_all(&self, dim: usize, metric: Metric) -> bool {
        self.dim(dim) == Ok(dim) && self.keeps_scale(metric)
    }
}

impl Step {
    fn keeps_unit(self, unit: bool) -> bool {
        match self {
            Self::Truncate(_) | Self::Centre | Self::Pca(_) => false,
            Self::Rotate => unit,
            Self::Normalise => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(steps: &[Step]) -> Chain {
        steps.to_vec().into()
    }

    #[test]
    fn a_chain_is_written_as_a_sweep_has_it() {
        let of = chain(&[Step::Centre, Step::Pca(8), Step::Truncate(3), Step::Rotate]);
        let json = r#"["centre",{"pca":8},{"truncate":3},"rotate"]"#;
        assert_eq!(serde_json::to_string(&of).unwrap(), json);
        assert_eq!(serde_json::from_str::<Chain>(json).unwrap(), of);
        assert_eq!(of.to_string(), "centre pca=8 truncate=3 rotate");
    }

    #[test]
    fn no_step_keeps_more_dimensions_than_reach_it() {
        assert_eq!(chain(&[Step::Truncate(7), Step::Pca(7)]).dim(7), Ok(7));
        let error = chain(&[Step::Truncate(7), Step::Pca(8)]).dim(100).unwrap_err();
        assert_eq!(error.to_string(), "pca=8 keeps more than the 7 dimensions that there are");
        assert!(chain(&[Step::Pca(8)]).dim(4097).is_err());
        assert_eq!(chain(&[Step::Truncate(4096), Step::Pca(8)]).dim(65_536), Ok(8));
    }

    #[test]
    fn methods_are_told_cosine_only_of_unit_rows() {
        let of = |steps: &[Step]| chain(steps).metric(Metric::Cosine);
        assert_eq!(of(&[]), Metric::Cosine);
        assert_eq!(of(&[Step::Rotate]), Metric::Cosine);
        assert_eq!(of(&[Step::Rotate, Step::Centre]), Metric::Ip);
        assert_eq!(of(&[Step::Truncate(2), Step::Normalise, Step::Rotate]), Metric::Cosine);
        assert_eq!(chain(&[Step::Normalise]).metric(Metric::Ip), Metric::Ip);
        assert_eq!(chain(&[Step::Centre]).metric(Metric::L2), Metric::L2);
    }

    #[test]
    fn only_rows_that_change_their_lengths_lose_the_scale() {
        let of = |steps: &[Step], metric| chain(steps).keeps_scale(metric);
        assert!(of(&[Step::Centre, Step::Pca(2), Step::Rotate], Metric::Ip));
        assert!(of(&[Step::Rotate, Step::Normalise], Metric::Cosine));
        assert!(!of(&[Step::Truncate(2), Step::Normalise], Metric::Cosine));
        assert!(!of(&[Step::Normalise], Metric::L2));
        assert!(chain(&[Step::Pca(4)]).keeps_all(4, Metric::L2));
        assert!(!chain(&[Step::Pca(3)]).keeps_all(4, Metric::L2));
    }
}
