//! `vq-host new`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host new my-method
  vq-host new my-method --lang c
  vq-host new my-method --lang python
  vq-host new my-method --lang c++ --path ~/code/my-method
  vq-host new my-method --api ../vq-host/plugin-api";

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The method's id, as sweeps will call it: a to z first, then also 0 to 9, - and _
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The language to write it in
    #[arg(long, value_name = "LANG", default_value = "rust")]
    pub(crate) lang: Language,
    /// The project's folder, which must not exist yet; default: ./NAME
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// The folder where a Rust project finds vq-plugin-api; default: in the checkout this program
    /// was built in, else the tag of its own release in the repository
    #[arg(long, value_name = "DIR")]
    pub(crate) api: Option<String>,
}

/// The language of a new project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    C,
    #[value(name = "c++", alias = "cpp")]
    Cpp,
    Python,
}

impl Language {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::C => "C",
            Language::Cpp => "C++",
            Language::Python => "Python",
        }
    }
}
