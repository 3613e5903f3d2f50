//! `vq-host check` names the fault of each misbehaving method, and finds none in good ones.

#[expect(dead_code, unused_imports, reason = "the fixture serves other targets as well")]
mod fixture;

use fixture::build::compile_c;
use fixture::{C_SQ8, Ended, MISBEHAVING, RESIDUAL, Site, ZLATTICE, shipped, text, workspace};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Method, the rule it breaks, the function that breaks it, words of what was found.
type Fault = (&'static str, &'static str, &'static str, &'static str);

/// In the order of the plugin. `bad_fork` is not among them: leaving a process behind breaks no
/// rule, and the host ends it.
const FAULTS: [Fault; 18] = [
    ("bad_abort", "survives", "compress", "crashed: signal 6 (SIGABRT)"),
    ("bad_code_bytes", "code-bytes", "code_bytes", "32 after create, 33 after fit"),
    ("bad_create", "grid-default", "create", "none can be created"),
    ("bad_exit", "survives", "compress", "ended the process with exit code 0"),
    ("bad_grid", "no-panic", "expand_grid", "panicked: asked to panic in expand_grid"),
    ("bad_hog", "survives", "fit", "memory"),
    ("bad_huge_code", "code-bytes", "code_bytes", "1099511627776 bytes for d = 32"),
    ("bad_nan", "finite-output", "decompress", "row 0 is not finite"),
    ("bad_overrun", "output-bounds", "compress", "wrote outside its output"),
    ("bad_panic", "no-panic", "compress", "panicked: asked to panic in compress"),
    ("bad_print", "stdout", "stdout", "bad_print 0"),
    ("bad_random", "determinism", "compress", "the same call again gives row 0 another code"),
    ("bad_ratio", "ratio", "ratio", "8 with 32 bytes, so 4"),
    ("bad_segfault", "survives", "compress", "crashed: signal 11 (SIGSEGV)"),
    // Signal 11, or 6 where the runtime notices.
    ("bad_stack", "survives", "compress", "crashed: signal"),
    // Nobody can tell it from the system's own way to end a process without memory.
    ("bad_stop", "survives", "compress", ""),
    ("bad_thread_panic", "no-panic", "compress", "panicked: asked to panic in a task"),
    ("bad_unwritten", "fully-written", "decompress", "row 599 is as the caller filled it"),
];

const TOO_SLOW: [Fault; 2] = [
    ("bad_hang", "terminates", "fit", "still running when the method's 4s were over"),
    ("bad_slow", "terminates", "fit", "still running when the method's 4s were over"),
];

/// `vq-host check` on `plugin`.
fn check(plugin: &Path, arguments: &[&str]) -> Ended {
    let file = plugin.to_str().expect("a path in UTF-8");
    Site::with(&[]).vq(&[&["check", file], arguments].concat())
}

/// The reports of `ended`, one a method.
fn reports(ended: &Ended) -> Vec<Value> {
    ended.json()["methods"].as_array().expect("a list of methods").clone()
}

#[track_caller]
fn expect_fault(report: &Value, (id, rule, function, words): Fault) {
    assert_eq!(report["id"], id);
    let findings = report["findings"].as_array().expect("a list of findings");
    let rules: BTreeSet<String> = findings.iter().map(|f| text(&f["rule"])).collect();
    assert_eq!(rules, [rule.to_owned()].into(), "one fault breaks one rule: {report:#}");
    let first = &findings[0];
    assert_eq!(first["function"], function, "{first:#}");
    assert!(text(&first["found"]).contains(words), "`{words}` is missing in {first:#}");
    for field in ["input", "contract"] {
        assert!(!text(&first[field]).is_empty(), "{field} is empty in {first:#}");
    }
    // Printing is only untidy.
    let severity = if rule == "stdout" { "warning" } else { "error" };
    assert!(findings.iter().all(|f| f["severity"] == severity), "{report:#}");
}

#[test]
fn every_fault_is_named_and_none_hides_the_next() {
    let mut arguments = vec!["--format", "json", "--timeout", "4min", "--memory", "512MiB"];
    for (id, ..) in FAULTS {
        arguments.extend(["--method", id]);
    }
    let ended = check(&MISBEHAVING, &arguments).expect_code(3);
    let reports = reports(&ended);
    assert_eq!(reports.len(), FAULTS.len());
    for (report, fault) in reports.iter().zip(FAULTS) {
        expect_fault(report, fault);
        let crashed = fault.1 == "survives";
        let input = text(&report["findings"][0]["input"]);
        assert!(!crashed || input == "round-trip (default configuration, d = 32, L2)", "{input}");
        assert_eq!(crashed, report["skips"].to_string().contains("the process had ended"));
    }
}

/// The example in C with other words in some places; `None` without a compiler.
fn edited_c(name: &str, edits: &[(&str, &str)]) -> Option<PathBuf> {
    let source = fs::read_to_string(workspace().join("examples/c-sq8/c_sq8.c")).expect("a file");
    let edit = |text: String, (old, new): &(&str, &str)| {
        assert!(text.contains(old), "c_sq8.c no longer says `{old}`: adapt the test");
        text.replace(old, new)
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(format!("{name}.c"));
    fs::write(&file, edits.iter().fold(source, edit)).expect("a writable folder");
    let header = workspace().join("plugin-api/include");
    compile_c(&file, &header, &format!("libvq_{name}"))
}

/// As it would be with a seed from the clock, when the process began.
#[test]
fn what_differs_in_another_process_alone_is_named() {
    let began = "static time_t began;
        __attribute__((constructor)) static void begin(void) { began = time(NULL); }
        static vq_rc fit(vq_instance *self,";
    let late =
        "  lo[0] -= (float)(began % 1000);\n  self->ready = 1;\n  return VQ_OK;\n}\n\nstruct";
    let edits = [
        ("#include <math.h>", "#include <math.h>\n#include <time.h>"),
        ("static vq_rc fit(vq_instance *self,", began),
        ("  self->ready = 1;\n  return VQ_OK;\n}\n\nstruct", late),
    ];
    let Some(plugin) = edited_c("began", &edits) else { return };
    let report = &reports(&check(&plugin, &["--format", "json"]).expect_code(3))[0];
    let words = "the saved model is another";
    expect_fault(report, ("c_sq8", "deterministic-across-processes", "fit", words));
}

#[test]
fn what_was_found_before_the_end_of_the_process_is_kept() {
    let faults = [
        ("{ return 4.0 * (double)self->dim", "{ return 8.0 * (double)self->dim"),
        ("  memcpy(self->range, model.ptr, model.len);", "  abort();"),
    ];
    let Some(plugin) = edited_c("twice", &faults) else { return };
    let report = &reports(&check(&plugin, &["--format", "json"]).expect_code(3))[0];
    let findings = report["findings"].as_array().expect("a list of findings");
    let rules: Vec<String> = findings.iter().map(|f| text(&f["rule"])).collect();
    assert_eq!(rules, ["ratio", "survives"], "{report:#}");
    assert_eq!(findings[1]["function"], "load");
    assert_eq!(report["skips"][0]["rule"], "what comes after", "{report:#}");
}

#[test]
fn a_parameter_may_be_fixed_for_what_is_fitted() {
    let sq = &shipped()["sq"];
    let report = &reports(&check(sq, &["--param", "bits=4", "--format", "json"]).expect_code(0))[0];
    // Of the default grid, bits apart, there is little left to fit.
    let usual = &reports(&check(sq, &["--format", "json"]).expect_code(0))[0];
    assert!(report["checks"].as_u64() < usual["checks"].as_u64(), "{report:#}");
    check(sq, &["--param", "bitss=4"]).expect_code(1).says("sq: bitss: unknown parameter");
    check(sq, &["--param", "bits=0"]).expect_code(1).says("sq: bits: 0 is below the minimum 1");
    check(sq, &["--param", "bits"]).expect_code(1).says("--param bits has no value");
}

#[test]
fn a_rule_that_cannot_be_checked_is_one_line_and_each_place_is_in_the_json() {
    let Some(plugin) = C_SQ8.as_ref() else { return };
    let json = &reports(&check(plugin, &["--format", "json"]).expect_code(0))[0];
    let skipped = json["skips"].as_array().expect("a list");
    let rules: BTreeSet<String> = skipped.iter().map(|skip| text(&skip["rule"])).collect();
    let table = check(plugin, &[]).expect_code(0).stdout;
    assert_eq!(table.matches("  not checked: ").count(), rules.len(), "{table}");
    assert!(skipped.iter().all(|skip| skip["reason"].is_string() && skip["place"].is_string()));
}

#[test]
fn a_method_that_never_comes_back_is_named_when_its_time_is_over() {
    let names = ["--method", "bad_slow", "--method", "bad_hang"];
    let ended =
        check(&MISBEHAVING, &[&names[..], &["--format", "json", "--timeout", "4s"]].concat());
    let ended = ended.expect_code(3);
    for (report, fault) in reports(&ended).iter().zip(TOO_SLOW) {
        expect_fault(report, fault);
    }
}

#[test]
fn a_process_left_behind_does_not_disturb_the_check() {
    // The sandbox would not let it start a program.
    let arguments = ["--method", "bad_fork", "--no-sandbox", "--format", "json"];
    let ended = check(&MISBEHAVING, &arguments).expect_code(0);
    assert_eq!(reports(&ended)[0]["findings"], Value::Array(vec![]));
}

#[test]
fn the_table_says_what_the_json_says() {
    let arguments = ["--method", "bad_abort", "--method", "bad_ratio"];
    let table = check(&MISBEHAVING, &arguments).expect_code(3).stdout;
    for line in [
        "bad_abort: 1 broken rules, 0 warnings",
        "  error survives: crashed: signal 6 (SIGABRT)",
        "    in        compress",
        "    input     round-trip (default configuration, d = 32, L2)",
        "    contract  No input may end the process",
        "bad_ratio: ",
        "  error ratio: 8 with 32 bytes, so 4",
    ] {
        assert!(table.contains(line), "`{line}` is missing in:\n{table}");
    }
}

#[test]
fn an_unknown_method_is_told_with_the_nearest_name() {
    let ended = check(&MISBEHAVING, &["--method", "bad_abrot"]).expect_code(1);
    ended.says("the library offers no method bad_abrot").says("did you mean bad_abort?");
}

#[test]
fn good_plugins_come_out_clean() {
    let examples = [&*ZLATTICE, &*RESIDUAL].into_iter().chain(C_SQ8.as_ref());
    let examples = examples.map(|plugin| ("example", plugin));
    let shipped = shipped().iter().map(|(name, plugin)| (name.as_str(), plugin));
    let plugins: Vec<(&str, &PathBuf)> = examples.chain(shipped).collect();
    // Most of a check is a wait for the next second: four of them at once.
    let next = AtomicUsize::new(0);
    let clean = || {
        while let Some((name, plugin)) = plugins.get(next.fetch_add(1, Ordering::Relaxed)) {
            // It trains for minutes otherwise, with four of them at once.
            let quick: &[&str] = if *name == "lsq" { &["--param", "rounds=1"] } else { &[] };
            let ended = check(plugin, &[&["--format", "json"], quick].concat()).expect_code(0);
            for report in reports(&ended) {
                let findings = report["findings"].as_array().expect("a list of findings");
                // Two bits per dimension leave little at d = 32 where rows have scalars of their own.
                let poor = |finding: &Value| {
                    let rule = text(&finding["rule"]);
                    let input = text(&finding["input"]);
                    input.contains("rate=2 ") && ["quality", "search-agreement"].contains(&&*rule)
                };
                assert!(findings.iter().all(poor), "{report:#}");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(clean);
        }
    });
}
