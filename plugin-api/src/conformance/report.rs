//! What was found.

use super::rule::rule;
use crate::handle::DescribeError;
use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Allowed, but a user will be unhappy.
    Warning,
    /// The contract is broken.
    Error,
}

/// One observation that a plugin is not what the contract says.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The method's id.
    pub method: String,
    /// The rule's id, stable.
    pub rule: &'static str,
    /// The function of the contract, or the part of the descriptor.
    pub function: &'static str,
    /// The input that shows it.
    pub input: String,
    /// What the plugin did.
    pub found: String,
    /// What the contract says.
    pub contract: &'static str,
    /// How bad it is.
    pub severity: Severity,
}

/// What was found on one method.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MethodReport {
    /// The method's id.
    pub id: String,
    /// Rules that ran, once for each cell they ran on.
    pub checks_run: usize,
    /// What broke the contract or is doubtful.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub skipped: Vec<Skip>,
}

/// A rule that could not be checked somewhere.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The rule's id.
    pub rule: String,
    /// The configuration and space; empty for a rule that has none.
    pub place: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Skip { rule, place, why } = self;
        if place.is_empty() {
            write!(f, "{rule}: {why}")
        } else {
            write!(f, "{rule} ({place}): {why}")
        }
    }
}

impl Skip {
    /// A line for each rule of `skipped`, for people: the first reason, and how many more there are.
    pub fn by_rule(skipped: &[Skip]) -> Vec<String> {
        let mut rules: Vec<(&Skip, usize)> = Vec::new();
        for skip in skipped {
            match rules.iter_mut().find(|(first, _)| first.rule == skip.rule) {
                Some((_, more)) => *more += 1,
                None => rules.push((skip, 0)),
            }
        }
        let line = |(first, more): (&Skip, usize)| match more {
            0 => format!("{first}"),
            more => format!("{first}; and {more} more of {}", first.rule),
        };
        rules.into_iter().map(line).collect()
    }
}

/// What was found on a plugin; its `Display` is the listing for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// By method, in the plugin's order.
    pub methods: Vec<MethodReport>,
}

impl Report {
    /// The report on a table that could not even be read.
    pub fn unreadable(error: &DescribeError) -> Self {
        let rule = rule("table");
        let finding = Finding {
            method: String::new(),
            rule: rule.id,
            function: "vq_plugin_entry_v1",
            input: "the plugin's table".into(),
            found: error.to_string(),
            contract: rule.contract,
            severity: Severity::Error,
        };
        let method =
            MethodReport { checks_run: 1, findings: vec![finding], ..MethodReport::default() };
        Report { methods: vec![method] }
    }

    /// All findings, in the order of methods and rules.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.methods.iter().flat_map(|method| &method.findings)
    }

    /// The findings that break the contract.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings().filter(|finding| finding.severity == Severity::Error)
    }

    /// Passes if no finding breaks the contract.
    ///
    /// # Panics
    /// With the listing otherwise.
    pub fn assert_clean(&self) {
        assert!(self.errors().next().is_none(), "the plugin breaks its contract\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for method in &self.methods {
            let errors = method.findings.iter().filter(|x| x.severity == Severity::Error).count();
            writeln!(
                f,
                "{}: {} checks, {errors} errors, {} warnings, {} skipped",
                if method.id.is_empty() { "plugin" } else { &method.id },
                method.checks_run,
                method.findings.len() - errors,
                method.skipped.len(),
            )?;
            for finding in &method.findings {
                write!(f, "{finding}")?;
            }
            for skipped in Skip::by_rule(&method.skipped) {
                writeln!(f, "  skipped {skipped}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        writeln!(f, "  {severity} {} in {}", self.rule, self.function)?;
        writeln!(f, "    input     {}", self.input)?;
        writeln!(f, "    found     {}", self.found)?;
        writeln!(f, "    contract  {}", self.contract)
    }
}
