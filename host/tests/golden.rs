//! The compatibility promise: plugins of ABI 1, built from what `golden/v1` froze when it was
//! released, work with this host unchanged.
//!
//! `golden/v1` is never edited: when a test here fails, the change that made it fail is wrong.

#[expect(dead_code, unused_imports, reason = "the fixture serves other targets as well")]
mod fixture;

use fixture::build::{build_crate, compile_c};
use fixture::{Site, sweep, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use vq_host::record::Outcome;

/// None without a C compiler, which is said then.
static IN_C: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| compile_c(&frozen("golden.c"), &frozen(""), "libvq_golden_c"));
static IN_RUST: LazyLock<PathBuf> =
    LazyLock::new(|| build_crate(&frozen("rust"), "vq_golden_rust"));

fn frozen(name: &str) -> PathBuf {
    workspace().join("host/tests/golden/v1").join(name)
}

// -- the header ---------------------------------------------------------------------------------

/// A header's preprocessor lines and declarations in order, without comments, blanks made one.
fn declarations(header: &str) -> Vec<String> {
    let mut text = String::new();
    let mut rest = header;
    while let Some((code, comment)) = rest.split_once("/*") {
        text.push_str(code);
        rest = comment.split_once("*/").expect("a comment ends").1;
    }
    text.push_str(rest);
    let mut found = Vec::new();
    let (mut declaration, mut depth) = (String::new(), 0);
    for line in text.replace("\\\n", " ").lines() {
        if line.trim_start().starts_with('#') && declaration.trim().is_empty() {
            found.push(line.to_owned());
            continue;
        }
        for letter in line.chars() {
            declaration.push(letter);
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            if letter == ';' && depth == 0 {
                found.push(std::mem::take(&mut declaration));
            }
        }
        declaration.push(' ');
        // The opening of `extern "C"`, and what closes it.
        if declaration.contains("extern \"C\"") || declaration.trim() == "}" {
            declaration.clear();
            depth = 0;
        }
    }
    found.push(declaration);
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    found.into_iter().map(words).filter(|text| !text.is_empty()).collect()
}

/// Declarations of `frozen` that `current` does not have, or has in another order. More of them
/// are allowed, for extensions, and so is a higher minor version.
fn missing(frozen: &str, current: &str) -> Vec<String> {
    let mut current = declarations(current).into_iter();
    let mut missing = Vec::new();
    for wanted in declarations(frozen) {
        let minor = "#define VQ_ABI_MINOR ";
        let mut rest = current.clone();
        let same = |d: &String| *d == wanted || d.starts_with(minor) && wanted.starts_with(minor);
        if rest.any(|declaration| same(&declaration)) {
            current = rest;
        } else {
            missing.push(wanted);
        }
    }
    missing
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_header_still_declares_all_that_version_1_declared() {
    let current = read(&workspace().join("plugin-api/include/vq_plugin.h"));
    let missing = missing(&read(&frozen("vq_plugin.h")), &current);
    assert!(missing.is_empty(), "frozen, but changed or gone: {missing:#?}");
}

#[test]
fn any_change_of_a_frozen_declaration_is_noticed() {
    let header = read(&frozen("vq_plugin.h"));
    let names: Vec<String> = declarations(&header)
        .iter()
        .filter_map(|text| text.strip_prefix("typedef struct ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(names.len(), 18, "{names:?}");
    let change = |old: &str, new: &str| {
        assert!(header.contains(old), "{old}");
        missing(&header, &header.replacen(old, new, 1)).len()
    };
    assert_eq!(change("rows, dim, row_stride;", "rows, dim, row_stride, more;"), 1);
    assert_eq!(change("  uint64_t (*model_bytes)", "  size_t (*model_bytes)"), 1);
    assert_eq!(change("#define VQ_CANCELLED 3", "#define VQ_CANCELLED 8"), 1);
    assert_eq!(change("#define VQ_DETERMINISTIC 2u", ""), 1);
    assert_eq!(change("vq_plugin_entry_v1(uint32_t host_major,", "vq_plugin_entry_v1("), 1);
    assert_eq!(change("sizeof(vq_method) == 264", "sizeof(vq_method) == 272"), 1);
    // What a new version may do.
    assert_eq!(change("#define VQ_ABI_MINOR 0u", "#define VQ_ABI_MINOR 1u"), 0);
    assert_eq!(change("/* Borrowed UTF-8. */", "/* UTF-8, borrowed. */"), 0);
    let more = "#define VQ_NEW_V1 \"vq.new/1\"\n#define VQ_SCORER_V1";
    assert_eq!(change("#define VQ_SCORER_V1", more), 0);
}

// -- the plugins --------------------------------------------------------------------------------

/// Runs `sweep` with `plugin` alone; all metrics of each cell, by method.
fn measured(plugin: &Path, methods: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let site = Site::with(&[plugin.to_owned()]);
    site.write("s.toml", &sweep("[1]", methods));
    site.vq(&["run", "s.toml"]).expect_code(0);
    let measured = site.records().into_iter().map(|record| {
        assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
        let metrics = record.metrics.iter();
        let metrics = metrics.map(|m| (m.name().to_owned(), format!("{:?}", m.value()))).collect();
        (record.method.id, metrics)
    });
    measured.collect()
}

/// `check` finds nothing at all; answers what could not be checked, by method.
fn expect_clean(plugin: &Path) -> BTreeMap<String, usize> {
    let file = plugin.to_str().expect("a path in UTF-8");
    let report = Site::with(&[]).vq(&["check", file, "--format", "json"]).expect_code(0).json();
    let methods = report["methods"].as_array().expect("a list of methods").iter();
    let skipped = methods.map(|method| {
        assert_eq!(method["findings"], Value::Array(vec![]), "{method:#}");
        assert!(method["checks"].as_u64().is_some_and(|n| n > 100), "{method:#}");
        (fixture::text(&method["id"]), method["skips"].as_array().map_or(0, Vec::len))
    });
    skipped.collect()
}

/// What `methods ID` says.
fn description(plugin: &Path, method: &str) -> Value {
    let site = Site::with(&[plugin.to_owned()]);
    site.vq(&["methods", method, "--format", "json"]).expect_code(0).json()
}

#[test]
fn a_plugin_in_c_of_version_1_is_described_checked_and_run() {
    let Some(plugin) = &*IN_C else { return };
    let about = description(plugin, "golden_c").to_string();
    for text in ["Golden C", "1.0.0", "étalon", "https://example.org", "None, none, 2026"] {
        assert!(about.contains(text), "{text} is missing in {about}");
    }
    for param in ["bits", "clip", "dither", "range", "factors"] {
        assert!(about.contains(&format!("\"{param}\"")), "{param} is missing in {about}");
    }
    let skipped = expect_clean(plugin);
    // All of the law applies to a method that offers everything.
    assert_eq!(skipped["golden_c"], 0);
    assert!(skipped["golden_c_raw"] > 0);

    let cells = measured(
        plugin,
        r#"
[[method]]
use = "golden_c"
params.bits = [4, 8]
params.clip = 0.9
params.dither = [false, true]
params.range = "global"
params.factors = [[1.0, 1.25]]

[[method]]
use = "golden_c"
bits_per_dim = [4]

[[method]]
use = "golden_c_raw"
"#,
    );
    let of = |id: &str| cells.iter().filter(|(method, _)| method == id).collect::<Vec<_>>();
    assert_eq!((of("golden_c").len(), of("golden_c_raw").len()), (4 + 4, 1));
    for (_, metrics) in of("golden_c") {
        for name in ["mse", "recall@10", "model_bytes", "ratio_claimed", "bound_coverage"] {
            assert!(metrics.contains_key(name), "{name} is missing in {metrics:?}");
        }
    }
    let (_, raw) = of("golden_c_raw")[0];
    assert_eq!((raw["mse"].as_str(), raw.get("ratio_claimed")), ("0.0", None));
}

#[test]
fn a_plugin_in_rust_of_version_1_is_described_checked_and_run() {
    let about = description(&IN_RUST, "golden_rust").to_string();
    for text in ["Golden Rust", "\"levels\"", "The highest code."] {
        assert!(about.contains(text), "{text} is missing in {about}");
    }
    assert_eq!(expect_clean(&IN_RUST), [("golden_rust".into(), 0)].into());
    let cells = measured(&IN_RUST, "[[method]]\nuse = \"golden_rust\"\n");
    assert_eq!(cells.len(), 2);
    for (_, metrics) in cells {
        for name in ["mse", "recall@10", "ratio_claimed", "score_codes_per_s"] {
            assert!(metrics.contains_key(name), "{name} is missing in {metrics:?}");
        }
    }
}
