//! `transform`: a list of steps is a chain, a list of such lists an axis of chains.

use toml::Spanned;

use super::check::Check;
use super::error::{SweepError, SweepProblem};
use super::wire;
use crate::transform::{Chain, Step, TRANSFORM};

const WORDS: &[(&str, Step)] =
    &[("centre", Step::Centre), ("rotate", Step::Rotate), ("normalise", Step::Normalise)];

/// Makes the step that keeps so many dimensions.
type Keeps = fn(usize) -> Step;

const KEEPING: &[(&str, Keeps)] = &[("truncate", Step::Truncate), ("pca", Step::Pca)];

const STEP: &str = "\"centre\", \"rotate\", \"normalise\", { truncate = 64 } or { pca = 64 }";

impl Check<'_> {
    /// The chains of a data set or a method, at least one and distinct, if there are any.
    pub(super) fn transforms(
        &self,
        written: Option<&Spanned<Vec<Spanned<wire::Value>>>>,
    ) -> Result<Option<Vec<Spanned<Chain>>>, SweepError> {
        let Some(written) = written else { return Ok(None) };
        let is_list =
            |value: &Spanned<wire::Value>| matches!(value.get_ref(), wire::Value::List(_));
        let items = written.get_ref();
        if !items.iter().any(is_list) {
            return Ok(Some(vec![Spanned::new(written.span(), self.chain(items)?)]));
        }
        let mut chains: Vec<Spanned<Chain>> = Vec::new();
        for item in items {
            let wire::Value::List(steps) = item.get_ref() else {
                let (expected, found) = ("a list of steps", item.get_ref().kind());
                return Err(self.wrong(item, expected, found));
            };
            let chain = self.chain(steps)?;
            if let Some(first) = chains.iter().find(|first| *first.get_ref() == chain) {
                let value = self.source.text()[item.span()].to_owned();
                let (key, first) = (TRANSFORM.to_owned(), Some(first.span()));
                let problem = SweepProblem::Duplicate { key, value, first };
                return Err(self.refuse(item.span(), problem));
            }
            chains.push(Spanned::new(item.span(), chain));
        }
        Ok(Some(chains))
    }

    fn chain(&self, steps: &[Spanned<wire::Value>]) -> Result<Chain, SweepError> {
        let steps: Result<Vec<Step>, _> = steps.iter().map(|step| self.step(step)).collect();
        steps.map(Chain::from)
    }

    fn step(&self, written: &Spanned<wire::Value>) -> Result<Step, SweepError> {
        let entries = match written.get_ref() {
            wire::Value::Str(word) => {
                let word = Spanned::new(written.span(), word.clone());
                if let Some((name, _)) = KEEPING.iter().find(|(name, _)| name == word.get_ref()) {
                    let expected = format!("{{ {name} = 64 }}, with the dimensions that it keeps");
                    return Err(self.wrong(written, &expected, "the word alone"));
                }
                return self.choice("step", &word, WORDS);
            }
            wire::Value::Table(entries) => entries,
            other => return Err(self.wrong(written, STEP, other.kind())),
        };
        let mut entries = entries.iter();
        let (Some((name, kept)), None) = (entries.next(), entries.next()) else {
            return Err(self.wrong(written, "a table of one step", "another"));
        };
        let make = self.choice("step", name, KEEPING)?;
        match kept.get_ref() {
            wire::Value::Int(k) => {
                let key = if name.get_ref() == "pca" { "pca" } else { "truncate" };
                Ok(make(self.integer(key, &Spanned::new(kept.span(), *k), 1)?))
            }
            other => Err(self.wrong(kept, "a number of dimensions", other.kind())),
        }
    }

    fn wrong(&self, at: &Spanned<wire::Value>, expected: &str, found: &str) -> SweepError {
        let (expected, found) = (expected.to_owned(), found.to_owned());
        self.refuse(at.span(), SweepProblem::WrongType { expected, found })
    }
}
