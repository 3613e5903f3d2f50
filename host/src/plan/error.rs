//! A sweep that cannot be planned.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{NamedSource, SourceSpan};

use crate::sweep::SweepSource;

/// A sweep that cannot be planned, said at the place where it is written.
#[derive(Debug, miette::Diagnostic)]
pub struct PlanError {
    problem: Box<str>,
    #[source_code]
    text: Arc<NamedSource<Arc<str>>>,
    #[label("{label}")]
    span: SourceSpan,
    label: Box<str>,
    #[help]
    help: Option<Box<str>>,
    /// What `problem` is the text of, for its own cause.
    error: Option<Box<dyn Error + Send + Sync>>,
}

impl PlanError {
    /// `problem` with what is written at `span` of `source`.
    pub fn at(
        source: &SweepSource,
        span: Range<usize>,
        problem: impl ToString,
        label: impl ToString,
        help: Option<String>,
    ) -> Self {
        PlanError {
            problem: problem.to_string().into(),
            text: Arc::new(source.named()),
            span: span.into(),
            label: label.to_string().into(),
            help: help.map(Into::into),
            error: None,
        }
    }

    /// The same for an `error`, whose cause is kept.
    pub fn of(
        source: &SweepSource,
        span: Range<usize>,
        error: impl Error + Send + Sync + 'static,
        label: impl ToString,
        help: Option<String>,
    ) -> Self {
        let at = Self::at(source, span, &error, label, help);
        Self { error: Some(error.into()), ..at }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl Error for PlanError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_ref()?.source()
    }
}
