//! Errors with what to do about them; their causes stay.

use miette::Diagnostic;
use std::error::Error;
use std::fmt;

/// An error, its causes, and what to do about it.
#[derive(Debug)]
struct Advised<E> {
    error: E,
    help: Option<&'static str>,
}

impl<E: fmt::Display> fmt::Display for Advised<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: Error> Error for Advised<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl<E: Error> Diagnostic for Advised<E> {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.help.map(|help| Box::new(help) as _)
    }
}

/// `error` with its causes, and what to do about it.
pub(super) fn advised(
    error: impl Error + Send + Sync + 'static,
    help: Option<&'static str>,
) -> miette::Report {
    miette::Report::new(Advised { error, help })
}
