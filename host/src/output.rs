//! The JSON of the verbs that do not print records, for other programs.
//!
//! One vocabulary for all, that of the records: a data set is an object with a `name`, a method an
//! object with an `id`, parameters with values are `params`. `docs/output.md` lists every key, and
//! a test holds it against what is printed. So the keys stand here and not at the types, which
//! also travel between processes.

use crate::data::Prepared;
use crate::plan::{Cell, Skip};
use crate::plugin::{Catalog, Library, Refusal, config_json, value_json};
use crate::record::DatasetInfo;
use crate::worker::protocol::{CheckFinding, Checked, CheckedMethod};
use serde_json::{Value, json};
use vq_plugin_api::handle::Descriptor;
use vq_plugin_api::params::{Kind, Param};

/// What was found, and where.
pub fn catalog(catalog: &Catalog) -> Value {
    let Catalog { libraries, refused, notices, searched } = catalog;
    let libraries: Vec<Value> = libraries.iter().map(library).collect();
    let refused: Vec<Value> = refused
        .iter()
        .map(|Refusal { path, reason, remedy }| {
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
        has_scorer,
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
        "has_scorer": has_scorer,
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
        "default": value_json(default),
        "min": min.as_ref().map(value_json),
        "max": max.as_ref().map(value_json),
        "choices": choices.iter().map(value_json).collect::<Vec<_>>(),
        "grid": grid.iter().map(value_json).collect::<Vec<_>>(),
    })
}

/// A cell of a plan, on the data it will be measured with; `state` is what is to be done about it.
pub fn cell(cell: &Cell, data: &Prepared, state: &str) -> Value {
    let dataset = DatasetInfo {
        name: cell.dataset_name.clone(),
        digest: data.digest.clone(),
        n: data.base.rows as u64,
        dim: data.dim as u64,
        queries: data.queries.rows as u64,
    };
    json!({
        "key": cell.key,
        "dataset": dataset,
        "metric": data.metric.name(),
        "method": cell.method,
        "params": config_json(&cell.config),
        "label": cell.label,
        "seed": cell.seed,
        "code_bytes": cell.code_bytes,
        "bits_per_dim": cell.bits_per_dim,
        "state": state,
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

/// What the conformance kit found.
pub fn check(checked: &Checked) -> Value {
    let Checked { methods } = checked;
    json!({ "methods": methods.iter().map(checked_method).collect::<Vec<_>>() })
}

fn checked_method(checked: &CheckedMethod) -> Value {
    let CheckedMethod { method, checks, findings, skipped, log } = checked;
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
