//! `docs/output.md` is what is printed: every key and column, both ways.

use crate::fixture::{C_SQ8, MISBEHAVING, Site, shipped, sweep, text, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use vq_host::metric::info;

/// The table under a heading of the page: the code of each row's first cell, and its second cell.
fn documented(heading: &str) -> Vec<(String, String)> {
    let page = fs::read_to_string(workspace().join("docs/output.md")).expect("the page");
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(key, rest)| (key.to_owned(), rest.split(" |").next().unwrap_or_default().to_owned()))
        .collect()
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "any" => true,
        "null" => value.is_null(),
        "text" => value.is_string(),
        "whole" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "true" | "false" => value.is_boolean(),
        "list" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the page has a type `{other}`"),
    }
}

/// Holds every key of `value` against the page, and counts where it was seen.
fn walk(
    value: &Value,
    at: &str,
    types: &BTreeMap<String, String>,
    seen: &mut BTreeMap<String, usize>,
) {
    let mut look = |key: String, value: &Value| {
        let open = format!("{at}.*");
        let key = if types.contains_key(&open) { open } else { key };
        let kind = types.get(&key).unwrap_or_else(|| panic!("`{key}` is printed: {value}"));
        let right = kind.split(" or ").any(|kind| is(value, kind));
        assert!(right, "`{key}` is {kind}, not {value}");
        *seen.entry(key.clone()).or_default() += 1;
        // What may be anything is not looked into.
        let described =
            types.keys().any(|other| other.len() > key.len() && other.starts_with(&key));
        if described {
            walk(value, &key, types, seen);
        }
    };
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                look(if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, value);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| look(format!("{at}[]"), item)),
        _ => {}
    }
}

/// The keys that `outputs` print are those under `heading`, no more and no fewer.
#[track_caller]
fn compare(heading: &str, outputs: &[Value]) {
    let types: BTreeMap<String, String> = documented(heading).into_iter().collect();
    let mut seen = BTreeMap::new();
    for output in outputs {
        walk(output, "", &types, &mut seen);
    }
    let unseen: Vec<&String> = types.keys().filter(|key| !seen.contains_key(*key)).collect();
    assert!(unseen.is_empty(), "{heading}: no example prints {unseen:?}");
}

fn site() -> Site {
    let site = Site::with(&[MISBEHAVING.clone(), shipped()["sq"].clone(), shipped()["pq"].clone()]);
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = [4, 8]\n\n\
         [[method]]\nuse = \"pq\"\nparams.m = [4, 7]\nparams.bits = 4\n\n\
         [[method]]\nuse = \"bad_print\"\n\n[[method]]\nuse = \"bad_panic\"\n";
    // And one that is judged by the neighbours of the first.
    let other = "[[dataset]]\nname = \"other\"\ntruth_of = \"gauss\"\nqueries = { hold_out = 20 }\n\
         synthetic = { kind = \"uniform\", n = 600, dim = 16, seed = 2 }\n\n[evaluate]";
    let sweep = sweep("[1]", methods).replace("repeats = 1", "repeats = 2");
    let sweep = sweep.replace("[evaluate]", other);
    site.write("s.toml", &sweep);
    site
}

#[test]
fn every_key_and_column_that_is_printed_is_explained_with_its_type_and_the_other_way_round() {
    let site = site();
    // Half of it done: each state of a cell but `again`.
    site.vq(&["run", "s.toml", "--only", "sq"]).expect_code(0);
    let plan = site.vq(&["plan", "s.toml", "--probe", "--format", "json"]).expect_code(0).json();
    compare("Plan", &[plan]);

    let ran = site.vq(&["run", "s.toml", "--format", "json"]).expect_code(3).json();
    let results = site.vq(&["results", "results.db", "--format", "json"]).expect_code(0).json();
    compare("Records", &[ran, results.clone()]);
    let mut other = site.records();
    for record in &mut other {
        match record.method.id.as_str() {
            "pq" => record.metrics.retain(|metric| metric.name() != "relative_error"),
            "sq" => record.outcome = vq_host::record::Outcome::Failed,
            _ => {}
        }
        if record.method.id == "pq" {
            let worse = vq_host::record::MetricValue::new("relative_error", 2.0);
            record.metrics.push(worse.expect("finite"));
        }
    }
    crate::views::store_of(&site, "other.db", &other);
    let compared =
        site.vq(&["compare", "results.db", "other.db", "--format", "json"]).expect_code(3).json();
    let recalls = other.iter_mut().filter(|record| record.outcome.is_ok());
    recalls.for_each(crate::views::halve_recalls);
    crate::views::store_of(&site, "third.db", &other);
    let more = site.vq(&["compare", "results.db", "third.db", "--format", "json"]).json();
    compare("Compare", &[compared, more]);
    let cache = site.vq(&["data", "cache", "--format", "json"]).expect_code(0).json();
    compare("Cache", &[cache]);
    let public = site.vq(&["data", "list", "--format", "json"]).expect_code(0).json();
    compare("Public sets", &[public]);

    let two = "[[dataset]]\nname = \"b\"\n\
        synthetic = { kind = \"gaussian\", n = 900, dim = 16, seed = 2 }\n\
        queries = { hold_out = 20 }\nsizes = [200, \"all\"]\n\n[[method]]\nuse = \"sq\"\nparams.bits = 8\n";
    site.write("two.toml", &format!("[run]\nstore = \"results.db\"\n\n{two}"));
    site.vq(&["run", "two.toml"]).expect_code(0);
    let asked = |more: &[&str]| {
        let ask = ["recommend", "results.db", "--recall", "0.5", "--format", "json"];
        site.vq(&[&ask, more].concat()).expect_code(0).json()
    };
    let limits = ["--rerank", "2", "--max-bits", "9", "--min-encode", "1"];
    compare("Recommendation", &[asked(&["--rows", "1e6"]), asked(&limits)]);

    let csv = site.vq(&["results", "results.db", "--format", "csv"]).expect_code(0).stdout;
    let head: Vec<&str> = csv.lines().next().unwrap_or_default().split(',').collect();
    let columns = documented("Columns");
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(head[..names.len()], names);
    for metric in &head[names.len()..] {
        assert!(info(metric).is_some(), "the column `{metric}` is not in docs/metrics.md");
    }
    // Each column says which key of a record it is.
    let records = documented("Records");
    for (column, key) in &columns {
        let key = key.trim_start_matches('`').split('`').next().unwrap_or_default();
        let named = records.iter().any(|(known, _)| *known == format!("[].{key}"));
        assert!(named, "`{column}` is said to be `{key}`, which no record has");
    }
    // The view in the store is the same table.
    let store = rusqlite::Connection::open(site.store()).expect("a SQLite file");
    let view = store.prepare("SELECT * FROM results").expect("the view");
    assert_eq!(view.column_names()[..names.len()], names);
    let measured = view.column_names().len() - names.len();
    assert_eq!(measured, head.len() - names.len(), "as many metrics in both");
}

#[test]
fn what_methods_and_check_print_is_explained_with_its_type_and_the_other_way_round() {
    let site = site();
    fs::write(site.path("plugins/libbroken.so"), "no library").expect("a site is writable");
    // The same method a second time makes a notice.
    let folder = site.path("more");
    fs::create_dir(&folder).expect("a site is writable");
    // Another file, for what stands behind an object file does not matter.
    let mut other = fs::read(&shipped()["sq"]).expect("a built plugin");
    other.push(0);
    fs::write(folder.join("libother_sq.so"), other).expect("a site is writable");
    let methods =
        site.vq(&["methods", "--plugin-dir", "more", "--format", "json"]).expect_code(0).json();
    let libraries = methods["libraries"].as_array().expect("libraries").clone();
    let mut each: Vec<Value> = libraries
        .iter()
        .flat_map(|library| library["methods"].as_array().expect("methods").clone())
        .collect();
    compare("Methods", &[methods]);
    each.push(site.vq(&["methods", "pq", "--format", "json"]).expect_code(0).json());
    assert!(each.iter().any(|method| text(&method["id"]) == "pq"));
    compare("One method", &each);

    let broken = MISBEHAVING.display().to_string();
    let mut checked = vec![
        site.vq(&["check", &broken, "--method", "bad_nan", "--format", "json"]).json(),
        site.vq(&["check", &broken, "--method", "bad_print", "--format", "json"]).json(),
    ];
    if let Some(plugin) = C_SQ8.as_ref() {
        let plugin = plugin.display().to_string();
        checked.push(site.vq(&["check", &plugin, "--format", "json"]).json());
    }
    compare("Check", &checked);
}
