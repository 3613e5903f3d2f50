//! The JSON of the verbs that do not print records, for other programs.
//!
//! One vocabulary for all, that of the records: a data set is an object with a `name`, a method an
//! object with an `id`, parameters with values are `params`. `docs/output.md` lists every key, and
//! a test holds it against what is printed. So the keys stand here and not at the types, which
//! also travel between processes.

use crate::cost::Expected;
use crate::data::{Facts, PreparedRows};
use crate::plan::{Cell, Skip};
use crate::plugin::{Catalog, Library, Refusal, value_json};
use crate::record::{DatasetInfo, Record};
use crate::report::moves;
use crate::report::recommend::{Answer, Growth, Pick, Point, Prediction, Question, Recommendation};
use crate::worker::protocol::{CheckFinding, Checked, CheckedMethod};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use serde_json::{Value, json};
use std::io::{self, Write};
use vq_plugin_api::handle::Descriptor;
use vq_plugin_api::params::{Kind, Param};

/// Writes `value` for programs, in such a way that people can look at it in a terminal too:
/// whatever would move the cursor or the order of reading is written as `\u` and its number.
///
/// # Errors
/// Whatever `out` says.
pub fn write(value: &(impl Serialize + ?Sized), out: &mut dyn Write) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, Plain(PrettyFormatter::new())))?;
    writeln!(out)
}

/// As [`write()`], on one line.
///
/// # Errors
/// Whatever `out` says.
pub fn write_line(value: &(impl Serialize + ?Sized), out: &mut dyn Write) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, Plain(CompactFormatter)))?;
    writeln!(out)
}

/// JSON without characters that draw on a terminal.
struct Plain<F>(F);

impl<F: Formatter> Formatter for Plain<F> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| moves(*c)) {
            write!(out, "{}\\u{:04x}", &rest[..at], u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

/// What was found, and where.
pub fn catalog(catalog: &Catalog) -> Value {
    let Catalog { libraries, refused, notices, searched } = catalog;
    let libraries: Vec<Value> = libraries.iter().map(library).collect();
    let refused: Vec<Value> = refused
        .iter()
        .map(|Refusal { path, reason, remedy, .. }| {
            json!({ "plugin_path": path.to_string_lossy(), "reason": reason, "remedy": remedy })
        })
        .collect();
    let searched: Vec<Value> = searched
        .iter()
        .map(|(path, exists)| json!({ "path": path.to_string_lossy(), "exists": exists }))
        .collect();
    json!({
        "libraries": libraries,
        "refused": refused,
        "notices": notices,
        "searched": searched,
    })
}

fn library(library: &Library) -> Value {
    let about = &library.about;
    json!({
        "plugin_path": library.path.to_string_lossy(),
        "plugin_digest": library.digest,
        "found_in": library.found_in,
        "sdk": about.sdk,
        "abi": format!("{}.{}", about.abi.0, about.abi.1),
        "layout_checked": about.layout_checked,
        "methods": about.methods.iter().map(method).collect::<Vec<_>>(),
    })
}

/// What a method says of itself.
pub fn method(method: &Descriptor) -> Value {
    let Descriptor {
        id,
        name,
        version,
        description,
        paper,
        authors,
        license,
        homepage,
        tags,
        needs_training,
        deterministic,
        thread_safe,
        extensions,
        params,
    } = method;
    json!({
        "id": id,
        "name": name,
        "version": version,
        "description": description,
        "paper": paper,
        "authors": authors,
        "license": license,
        "homepage": homepage,
        "tags": tags,
        "needs_training": needs_training,
        "deterministic": deterministic,
        "thread_safe": thread_safe,
        "extensions": extensions,
        "schema": params.iter().map(param).collect::<Vec<_>>(),
    })
}

fn param(param: &Param) -> Value {
    let Param { name, help, kind, item_kind, default, min, max, choices, grid } = param;
    json!({
        "name": name,
        "help": help,
        "kind": kind.to_string(),
        "item_kind": item_kind.as_ref().map(Kind::to_string),
        "default": default.as_ref().map(value_json),
        "min": min.as_ref().map(value_json),
        "max": max.as_ref().map(value_json),
        "choices": choices.iter().map(value_json).collect::<Vec<_>>(),
        "grid": grid.iter().map(value_json).collect::<Vec<_>>(),
    })
}

/// A cell of a plan, on the data it will be measured with; `state` is what is to be done about it.
/// `facts` are known where an earlier run sought neighbours: a plan does not. `expected` is what
/// it will take, where that is known.
pub fn cell(
    cell: &Cell,
    data: &PreparedRows,
    facts: Option<Facts>,
    state: &str,
    expected: Option<&Expected>,
) -> Value {
    let dataset = DatasetInfo { name: cell.dataset_name.clone(), facts, ..data.info() };
    json!({
        "key": cell.key,
        "dataset": dataset,
        "metric": data.metric().name(),
        "method": cell.method,
        "params": cell.params(),
        "label": cell.label,
        "seed": cell.seed,
        "code_bytes": cell.code_bytes,
        "bits_per_dim": cell.bits_per_dim,
        "state": state,
        "expected_s": expected.map(|of| of.seconds),
        "expected_memory_bytes": expected.and_then(|of| of.memory).map(|bytes| bytes as u64),
        "expected_by": expected.map(|of| of.by.name()),
    })
}

/// A small cell that was measured to tell what others take.
pub fn probe(record: &Record) -> Value {
    json!({
        "key": record.key,
        "dataset": { "name": record.dataset.name },
        "method": { "id": record.method.id },
        "label": record.label,
        "outcome": record.outcome.as_str(),
        "error": record.error,
        "wall_s": record.wall_s,
    })
}

/// A combination that will not be measured.
pub fn skip(skip: &Skip) -> Value {
    let Skip { dataset, method, what, reason } = skip;
    json!({
        "dataset": { "name": dataset },
        "method": { "id": method },
        "label": what,
        "reason": reason,
    })
}

/// Which code is recommended.
pub fn recommendation(of: &Recommendation) -> Value {
    let Question { recall, k, rerank, max_bits, min_encode, rows } = &of.question;
    json!({
        "question": {
            "recall": recall,
            "k": k,
            "rerank": rerank,
            "max_bits": max_bits,
            "min_encode": min_encode,
            "rows": rows,
        },
        "answers": of.datasets.iter().chain(&of.across).map(answer).collect::<Vec<_>>(),
    })
}

fn answer(answer: &Answer) -> Value {
    let picks = answer.picks();
    json!({
        "dataset": answer.dataset,
        "metric": answer.metric,
        "configurations": answer.configurations,
        "not_proven_or_weighed": answer.not_proven_or_weighed,
        "without_the_metric": answer.without_the_metric,
        "picks": picks.into_iter().map(|(role, pick)| self::pick(role, pick)).collect::<Vec<_>>(),
    })
}

fn pick(role: &str, pick: &Pick) -> Value {
    let growth = pick.growth.as_ref().map(|Growth { points, slope, predicted }| {
        let points: Vec<Value> = points
            .iter()
            .map(|Point { rows, recall, standard_error, keys }| {
                json!({
                    "rows": rows,
                    "recall": recall,
                    "standard_error": standard_error,
                    "keys": keys,
                })
            })
            .collect();
        let predicted = predicted.map(|Prediction { rows, recall, at_least, at_most }| {
            json!({ "rows": rows, "recall": recall, "at_least": at_least, "at_most": at_most })
        });
        json!({ "points": points, "slope": slope, "predicted": predicted })
    });
    let named = |(system, name): &(String, String)| json!({ "system": system, "name": name });
    let elsewhere: Vec<Value> = pick.elsewhere.iter().map(named).collect();
    json!({
        "role": role,
        "dataset": { "name": pick.dataset },
        "method": { "id": pick.method, "plugin_digest": pick.plugin_digest },
        "params": pick.params,
        "label": pick.label,
        "seeds": pick.seeds,
        "keys": pick.keys,
        "bits_per_dim": pick.bits_per_dim,
        "rate": pick.rate,
        "recall": pick.recall,
        "standard_error": pick.standard_error,
        "at_least": pick.at_least,
        "code_bytes": pick.code_bytes,
        "model_bytes": pick.model_bytes,
        "rows": pick.rows,
        "total_bytes": pick.total_bytes,
        "original_bytes": pick.original_bytes,
        "compress_vectors_per_s": pick.compress_vectors_per_s,
        "fit_s": pick.fit_s,
        "learned_from_base": pick.marks.learned_from_base,
        "growth": growth,
        "elsewhere": elsewhere,
    })
}

/// What the conformance kit found.
pub fn check(checked: &Checked) -> Value {
    let Checked { methods } = checked;
    json!({ "methods": methods.iter().map(checked_method).collect::<Vec<_>>() })
}

fn checked_method(checked: &CheckedMethod) -> Value {
    let CheckedMethod { method, checks, findings, skipped, log, made: _ } = checked;
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let CheckFinding { rule, severity, function, input, found, contract } = finding;
            json!({
                "rule": rule,
                "severity": severity,
                "function": function,
                "input": input,
                "found": found,
                "contract": contract,
            })
        })
        .collect();
    let skips: Vec<Value> = skipped
        .iter()
        .map(|skip| json!({ "rule": skip.rule, "place": skip.place, "reason": skip.why }))
        .collect();
    json!({
        "id": method,
        "checks": checks,
        "findings": findings,
        "skips": skips,
        "log": log,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_nothing_that_draws_on_a_terminal_and_means_the_same() {
        let text = "é \u{1b}[31m \u{9b}2J \u{202e}x \u{200f} \u{2069} \u{7f} \"\\";
        let value = json!({ text: [text, {}, [], [1, { "a": null }]] });
        let mut out = Vec::new();
        write(&value, &mut out).unwrap();
        let written = String::from_utf8(out).unwrap();
        assert!(written.contains("é \\u001b[31m \\u009b2J \\u202ex"), "{written}");
        assert!(!written.contains(|c| moves(c) && c != '\n'), "{written}");
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        let usual = json!({ "a": [1, { "b": [] }], "c": {} });
        let mut out = Vec::new();
        write(&usual, &mut out).unwrap();
        let pretty = serde_json::to_string_pretty(&usual).unwrap() + "\n";
        assert_eq!(String::from_utf8(out).unwrap(), pretty);
    }
}
