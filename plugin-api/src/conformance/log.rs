//! Collects what the rules find on one method.

use super::Event;
use super::report::{Finding, MethodReport, Severity, Skip};
use super::rule::{Rule, rule};
use crate::ErrorKind;
use crate::handle::{Breach, CallError, SILENT};
use std::collections::BTreeMap;
use std::fmt;

/// Findings of one rule in one function beyond these only say the same again.
const FINDINGS_SHOWN: usize = 2;

/// Collects what the rules find on one method.
pub(crate) struct Log<'o> {
    pub(super) observer: &'o mut dyn FnMut(Event<'_>),
    report: MethodReport,
    rule: &'static Rule,
    place: String,
    pub(super) errors: usize,
    /// Findings by rule and function.
    seen: BTreeMap<(&'static str, &'static str), usize>,
}

impl<'o> Log<'o> {
    pub(super) fn new(method: &str, observer: &'o mut dyn FnMut(Event<'_>)) -> Self {
        Log {
            observer,
            report: MethodReport { id: method.into(), ..MethodReport::default() },
            rule: rule("table"),
            place: String::new(),
            errors: 0,
            seen: BTreeMap::new(),
        }
    }

    pub(super) fn begin(&mut self, id: &'static str, place: &str) {
        self.rule = rule(id);
        self.place = place.into();
        self.report.checks_run += 1;
        let told = if place.is_empty() { String::new() } else { format!(" ({place})") };
        (self.observer)(Event::Begins(&format!("{}: {id}{told}", self.report.id)));
    }

    pub(crate) fn error(&mut self, function: &'static str, input: &str, found: impl Into<String>) {
        self.add(self.rule, Severity::Error, function, input, found.into());
    }

    pub(crate) fn warning(
        &mut self,
        function: &'static str,
        input: &str,
        found: impl Into<String>,
    ) {
        self.add(self.rule, Severity::Warning, function, input, found.into());
    }

    /// Another rule than the current one shows itself broken.
    pub(crate) fn break_rule(
        &mut self,
        id: &'static str,
        function: &'static str,
        input: &str,
        found: impl Into<String>,
    ) {
        self.add(rule(id), Severity::Error, function, input, found.into());
    }

    fn add(
        &mut self,
        rule: &'static Rule,
        severity: Severity,
        function: &'static str,
        input: &str,
        found: String,
    ) {
        self.errors += usize::from(severity == Severity::Error);
        let seen = self.seen.entry((rule.id, function)).or_default();
        *seen += 1;
        if *seen > FINDINGS_SHOWN {
            return;
        }
        let input = match (self.place.as_str(), input) {
            ("", input) => input.to_owned(),
            (place, "") => place.to_owned(),
            (place, input) => format!("{place}; {input}"),
        };
        let finding = Finding {
            method: self.report.id.clone(),
            rule: rule.id,
            function,
            input,
            found,
            contract: rule.contract,
            severity,
        };
        (self.observer)(Event::Found(&finding));
        self.report.findings.push(finding);
    }

    pub(crate) fn skip(&mut self, why: impl fmt::Display) {
        let (rule, place) = (self.rule.id.into(), self.place.clone());
        let skip = Skip { rule, place, why: why.to_string() };
        (self.observer)(Event::Skipped(&skip));
        self.report.skipped.push(skip);
    }

    /// Judges what holds for every call, whatever rule makes it: no panic, no write outside, a
    /// known code. Anything else is for the rule to judge.
    pub(crate) fn judge<T>(
        &mut self,
        input: &str,
        result: Result<T, CallError>,
    ) -> Result<T, CallError> {
        match &result {
            Err(CallError::Broke { function, breach, message }) => {
                let broken = match breach {
                    Breach::Output => "output-bounds",
                    Breach::Lent => "lent-input",
                    Breach::Answer => "return-values",
                };
                self.add(rule(broken), Severity::Error, function, input, message.clone());
            }
            Err(CallError::Said { function, kind: ErrorKind::Panicked, message }) => {
                self.add(rule("no-panic"), Severity::Error, function, input, message.clone());
            }
            Err(CallError::Said { function, message, .. }) if message == SILENT => {
                self.add(
                    rule("return-values"),
                    Severity::Warning,
                    function,
                    input,
                    message.clone(),
                );
            }
            _ => {}
        }
        result
    }

    /// As [`Log::judge`], and any other refusal breaks the current rule.
    pub(crate) fn must<T>(&mut self, input: &str, result: Result<T, CallError>) -> Option<T> {
        match self.judge(input, result) {
            Ok(value) => Some(value),
            Err(error) => {
                if let CallError::Said { function, kind, message } = &error
                    && *kind != ErrorKind::Panicked
                {
                    self.error(function, input, format!("{kind:?}: {message}"));
                }
                None
            }
        }
    }

    pub(super) fn finish(mut self) -> MethodReport {
        for ((rule, function), seen) in &self.seen {
            let hidden = seen.saturating_sub(FINDINGS_SHOWN);
            let mut findings = self.report.findings.iter_mut().rev();
            let last = findings.find(|f| f.rule == *rule && f.function == *function);
            if let Some(last) = last
                && hidden > 0
            {
                last.found.push_str(&format!(" (and {hidden} more like it)"));
            }
        }
        self.report
    }
}
