//! What can be wrong with a method is found by `run` alone, and said by the function and the fault:
//! one method of `faults.c` each, in one sweep, beside honest ones that nobody blames.
//!
//! What shows in no run `check` finds.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails where a promise is broken")]

#[expect(dead_code, unused_imports, reason = "the fixture serves other targets as well")]
#[path = "../fixture/mod.rs"]
mod fixture;

use fixture::build::compile_c;
use fixture::{Site, workspace};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use vq_host::record::Outcome::{self, Crashed, Failed, Invalid, Ok, Timeout};
use vq_host::record::Record;

/// The library; none without a C compiler.
static FAULTS: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let include = workspace().join("plugin-api/include");
    compile_c(&workspace().join("host/tests/faults/faults.c"), &include, "libvq_faults")
});

/// A method, how its cell may end, and words of the error (of the notices and the proof, where the cell is
/// `ok`), which name function and fault: one of several, where `|` stands between them.
type Expected = (&'static str, &'static [Outcome], &'static str);

const HONEST: [Expected; 5] = [
    ("honest", &[Ok], "\"proven\""),
    ("honest_unpacked", &[Ok], "\"proven\""),
    ("honest_unscored", &[Ok], "\"proven\""),
    ("honest_unsaved", &[Ok], "\"proven\""),
    ("honest_random", &[Ok], "neither saves its model nor is deterministic"),
];

/// In the order of `faults.c`.
const EXPECTED: [Expected; 104] = [
    ("codes_unwritten", &[Invalid], "compress left byte 0 of the code of row "),
    ("codes_half", &[Invalid], "compress left byte 4 of the code of row "),
    ("codes_last", &[Invalid], "compress left byte 0 of the code of row "),
    ("codes_large", &[Invalid], "compress left byte 7 of the code of row "),
    ("codes_odd", &[Invalid], "compress "),
    ("codes_past", &[Invalid], "compress "),
    ("codes_far", &[Invalid], "compress reached past the end of its output"),
    ("codes_before", &[Invalid], "compress wrote outside its output"),
    ("rows_unwritten", &[Invalid], "decompress returned nothing in row "),
    ("rows_half", &[Invalid], "decompress returned nothing in row "),
    ("rows_last", &[Invalid], "decompress returned nothing in row "),
    ("rows_large", &[Invalid], "decompress returned nothing in row "),
    ("rows_odd", &[Invalid], "decompress returned nothing in row "),
    ("rows_past", &[Invalid], "decompress "),
    ("rows_far", &[Invalid], "decompress reached past the end of its output"),
    ("rows_before", &[Invalid], "decompress wrote outside its output"),
    ("rows_nan", &[Invalid], "decompress returned NaN in row "),
    ("rows_infinite", &[Invalid], "decompress returned inf in row "),
    ("estimates_unwritten", &[Invalid], "score returned nothing for query 0 and code 0"),
    ("estimates_half", &[Invalid], "score returned nothing for query 0 and code "),
    ("estimates_last", &[Invalid], "score returned nothing for query "),
    ("estimates_large", &[Invalid], "score returned nothing for query 0 and code 99"),
    ("estimates_odd", &[Invalid], "score returned nothing for query 0 and code 0"),
    ("estimates_past", &[Invalid], "score "),
    ("estimates_far", &[Invalid], "score reached past the end of its output"),
    ("estimates_before", &[Invalid], "score wrote outside its output"),
    ("estimates_nan", &[Invalid], "score returned NaN for query 0 and code 1"),
    ("estimates_infinite", &[Invalid], "score returned inf for query 0 and code 1"),
    ("bounds_unwritten", &[Invalid], "score returned the bound nothing for query 0 and code 0"),
    ("bounds_half", &[Invalid], "score returned the bound nothing for query 0 and code "),
    ("bounds_large", &[Invalid], "score returned the bound nothing for query 0 and code 99"),
    ("bounds_past", &[Invalid], "score wrote outside its output"),
    ("bounds_far", &[Invalid], "score "),
    ("bounds_before", &[Invalid], "score wrote outside its output"),
    ("bounds_nan", &[Invalid], "score returned the bound NaN for query 0 and code 1"),
    ("bounds_infinite", &[Invalid], "score returned the bound inf for query 0 and code 1"),
    ("bounds_negative", &[Invalid], "score returned a negative bound for query 0 and code 1"),
    ("packed_unwritten", &[Invalid], "pack left bytes unwritten that score reads"),
    ("packed_half", &[Invalid], "pack left bytes unwritten that score reads"),
    ("packed_large", &[Invalid], "pack left bytes unwritten that score reads"),
    ("packed_past", &[Invalid], "pack "),
    ("packed_far", &[Invalid], "pack reached past the end of the packed codes"),
    ("packed_before", &[Invalid], "pack wrote outside its output"),
    ("train_changed", &[Invalid], "fit wrote into what it may only read: train"),
    ("x_changed", &[Invalid], "compress wrote into what it may only read: x"),
    // The system does not let it.
    ("x_unprotected", &[Ok], ""),
    ("codes_changed", &[Invalid], "decompress wrote into what it may only read: codes"),
    ("queries_changed", &[Invalid], "score wrote into what it may only read: queries"),
    ("scored_changed", &[Invalid], "score wrote into what it may only read: the packed codes"),
    ("packed_changed", &[Invalid], "score wrote into what it may only read: the packed codes"),
    // A copy of its own: nobody else reads it.
    ("model_changed", &[Ok], ""),
    ("codes_of_neighbours", &[Invalid], "compress gave another code for row "),
    ("codes_of_large_calls", &[Invalid], "compress gave another code for row "),
    ("codes_of_batches", &[Invalid], "compress gave another code for row "),
    ("codes_of_calls", &[Invalid], "compress gave another code for row "),
    // Which of its blocks are on another thread is chance, and so is what a byte of them looks like.
    (
        "codes_of_threads",
        &[Invalid],
        "compress gave another code for row |compress put out something else when it was asked \
         again|compress left byte 0 of the code of row ",
    ),
    ("codes_of_clock", &[Invalid], "compress gave another code for row "),
    ("rows_of_neighbours", &[Invalid], "decompress gave another row "),
    ("rows_of_calls", &[Invalid], "decompress gave another row "),
    ("estimates_of_calls", &[Invalid], "score gave another estimate "),
    ("estimates_of_queries", &[Invalid], "score gave another estimate "),
    ("estimates_of_codes", &[Invalid], "score gave another estimate "),
    // `check` warns.
    ("estimates_constant", &[Ok], ""),
    ("estimates_lost", &[Ok], "its scorer answers otherwise once the model is loaded"),
    ("estimates_refused", &[Ok], "its scorer refuses once the model is loaded"),
    // The saved model is what it is: another run has another. `check` finds it.
    ("fit_of_clock", &[Ok], ""),
    ("fit_of_clock_unsaved", &[Invalid], "in a process that was fitted again"),
    ("side_table", &[Invalid], "decompress gave another row "),
    ("side_file", &[Invalid], "decompress gave another row "),
    ("memorises", &[Ok], ""),
    ("memorises_unsaved", &[Ok], ""),
    (
        "model_grows",
        &[Invalid],
        "save gave another model after the base and the queries were encoded",
    ),
    ("model_of_clock", &[Invalid], "save gave another model "),
    ("model_lost", &[Invalid], "decompress gave another row "),
    ("model_on_a_thread", &[Invalid], "decompress gave another row "),
    ("model_short", &[Failed], "load: no such model"),
    ("model_beyond", &[Invalid], "save "),
    ("model_refused", &[Failed], "load: this is no model of mine"),
    ("model_unsaved", &[Failed], "save: there is no saving this one"),
    // Beside `model_saved_bytes`.
    ("model_bytes_low", &[Ok], ""),
    ("model_bytes_high", &[Ok, Invalid], ""),
    ("code_bytes_grow", &[Invalid], "code_bytes() was 8 before fit and 9 after it"),
    ("code_bytes_later", &[Invalid], "code_bytes() was 8 once it was fitted and is 9 later"),
    ("code_bytes_none", &[Invalid], "code_bytes() is 0 for vectors of 32 bytes"),
    // Where the disk has room.
    ("codes_huge", &[Ok], ""),
    ("model_huge", &[Ok], ""),
    ("ratio_double", &[Invalid], "ratio() claims 8.000, but 32 bytes in 8 make it 4.000"),
    ("ratio_nan", &[Invalid], "ratio() claims NaN, but 32 bytes in 8 make it 4.000"),
    ("packed_bytes_change", &[Ok, Invalid], ""),
    ("rc_unknown", &[Invalid], "compress returned the unknown code 77: what is 77?"),
    ("rc_cancelled", &[Failed], "compress: nobody asked"),
    ("error_huge", &[Failed], "compress: "),
    ("error_beyond", &[Failed], "compress: longer than it is"),
    // Nobody needs it in a run; `check` does.
    ("empty_refused", &[Ok], ""),
    ("floods", &[Ok], ""),
    // Put back after each call.
    ("rounding_changed", &[Ok], ""),
    ("compress_exits", &[Crashed], "ended the process at compress with exit code 0"),
    ("decompress_exits", &[Crashed], "ended the process at decompress with exit code 0"),
    ("save_exits", &[Crashed], "ended the process at save with exit code 0"),
    ("load_exits", &[Crashed], "ended the process at load the model with exit code 0"),
    ("score_exits", &[Crashed], "ended the process at score with exit code 0"),
    // Where it may, the other process answers too: "its process sent an answer to another request".
    ("compress_forks", &[Failed, Invalid], "s"),
    ("closes", &[Crashed], "ended the process at compress"),
    ("speaks", &[Invalid], "its process sent "),
];

/// Ended by the time limit.
const ENDLESS: [Expected; 2] = [
    ("load_hangs", &[Timeout], "still at load the model after the time limit of 3s"),
    ("decompress_stops", &[Timeout], "still at decompress after the time limit of 3s"),
];

/// The methods of `expected`, over enough rows for calls of more than 1,000.
fn sweep(expected: &[&[Expected]]) -> String {
    let mut text = String::from(
        r#"[sweep]
name = "faults"
seeds = [1]

[run]
threads = 2
memory = "1GiB"
timeout = "60s"
store = "results.db"

[[dataset]]
name = "gauss"
synthetic = { kind = "gaussian", n = 6020, dim = 8, seed = 1 }
queries = { hold_out = 20 }

[evaluate]
k = [1, 10]
pairs = 200
rerank = [1]
repeats = 1

"#,
    );
    for (id, ..) in expected.iter().copied().flatten() {
        write!(text, "[[method]]\nuse = \"{id}\"\n\n").unwrap();
    }
    text
}

/// What is wrong with what a cell of `expected` left behind, if anything.
fn complaint(records: &[Record], (id, outcomes, words): &Expected) -> Option<String> {
    let Some(record) = records.iter().find(|r| r.method.id == *id) else {
        return Some(format!("{id}: no record"));
    };
    let error = record.error.clone().unwrap_or_default();
    if !outcomes.contains(&record.outcome) {
        return Some(format!("{id}: {}: {error}", record.outcome));
    }
    let said = match record.outcome {
        Ok => {
            let record = serde_json::to_value(record).unwrap();
            format!("{} {}", record["proof"], record["notices"])
        }
        _ => error,
    };
    let long = said.len() > 4500 || said.chars().any(|c| c.is_control());
    let expected = words.split('|').any(|words| said.contains(words));
    (!expected || long).then(|| format!("{id}: `{words}` is not in: {said}"))
}

#[track_caller]
fn no_complaints(records: &[Record], expected: &[&[Expected]]) {
    let all = expected.iter().copied().flatten();
    let complaints: Vec<String> = all.filter_map(|of| complaint(records, of)).collect();
    assert!(complaints.is_empty(), "{} of them\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_fault_is_found_by_a_run_and_said_by_its_function_and_honest_methods_are_not_blamed() {
    let Some(library) = FAULTS.as_ref() else { return };
    let site = Site::with(std::slice::from_ref(library));
    let all = [&HONEST[..], &EXPECTED[..]];
    site.write("s.toml", &sweep(&all));
    site.vq(&["run", "s.toml", "--jobs", "2"]).expect_code(3);
    let records = site.records();
    assert_eq!(records.len(), HONEST.len() + EXPECTED.len());
    no_complaints(&records, &all);
    // What honest methods and harmless faults are measured with is the same to the last bit.
    let quality = |id: &str| {
        let record = records.iter().find(|r| r.method.id == id).unwrap();
        let timed = ["fit_s", "overhead_s", "peak_rss_bytes", "empty_call_s"];
        let metrics = record.metrics.iter().filter(|m| {
            !timed.contains(&m.name()) && !m.name().contains("_per_s") && !m.name().contains("rss")
        });
        metrics.map(|m| (m.name().to_owned(), m.value().to_bits())).collect::<Vec<_>>()
    };
    let honest = quality("honest_unscored");
    for id in ["x_unprotected", "empty_refused", "floods", "rounding_changed"] {
        assert_eq!(quality(id), honest, "{id}");
    }
    assert_eq!(quality("honest"), quality("honest_unpacked"));
    site.expect_nothing_left();
    site.expect_no_scratch();
}

/// What a method promises beyond what its rows take is its own fault, and the run goes on.
#[test]
#[cfg(target_os = "linux")]
fn a_disk_without_room_for_huge_codes_or_a_huge_model_ends_their_cells_alone() {
    let Some(library) = FAULTS.as_ref() else { return };
    let site = Site::with(std::slice::from_ref(library));
    let cache = site.path("cache");
    std::fs::create_dir(&cache).unwrap();
    let mount = |arguments: &[&std::ffi::OsStr]| {
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).args(arguments).output()
    };
    if !mount(&[cache.as_os_str()]).is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: no small disk can be mounted");
    }
    let wanted = ["honest", "codes_huge", "model_huge"];
    let chosen = |all: &[Expected]| {
        all.iter().copied().filter(|(id, ..)| wanted.contains(id)).collect::<Vec<_>>()
    };
    site.write("s.toml", &sweep(&[&chosen(&EXPECTED), &chosen(&HONEST)]));
    let ended = site.vq(&["run", "s.toml"]);
    let unmounted = std::process::Command::new("umount").arg(&cache).status();
    assert!(unmounted.unwrap().success());
    ended.expect_code(3);
    let full: [Expected; 3] = [
        ("honest", &[Ok], "\"proven\""),
        ("codes_huge", &[Failed], "code_bytes() is 4608 for vectors of 32 bytes, "),
        ("model_huge", &[Failed], "save makes a model of 8.0 MiB, for which the disk has no room"),
    ];
    no_complaints(&site.records(), &[&full]);
}

/// One keeps its training rows in its model, one in a model of a size that it does not tell, one in
/// memory and one in files, and a code is four bytes that find them.
#[test]
fn who_learns_rows_by_heart_heads_no_table_and_no_advice() {
    let Some(library) = FAULTS.as_ref() else { return };
    let site = Site::with(std::slice::from_ref(library));
    let cheats = ["memorises", "memorises_unsaved", "side_table", "side_file"];
    let chosen = |expected: &[Expected]| {
        let wanted = |id: &str| id == "honest" || cheats.contains(&id);
        expected.iter().copied().filter(|(id, ..)| wanted(id)).collect::<Vec<_>>()
    };
    let sweep = sweep(&[&chosen(&HONEST), &chosen(&EXPECTED)]);
    // Where it learns what it is measured on, it is without loss.
    for (apart, lossless, store) in [(true, false, "apart.db"), (false, true, "same.db")] {
        let train = format!("hold_out = 20 }}\ntrain = {{ apart = {apart} }}");
        site.write("s.toml", &sweep.replacen("hold_out = 20 }", &train, 1));
        let ended = site.vq(&["run", "s.toml", "--store", store]).expect_code(3);
        let records = site.records_of(store);
        let recall = |id: &str| {
            let record = records.iter().find(|r| r.method.id == id).unwrap();
            record.metrics.iter().find(|m| m.name() == "recall@10").unwrap().value()
        };
        assert_eq!(recall("memorises") == 1.0, lossless);
        let rows = ended.stdout.lines().skip_while(|line| !line.starts_with('─')).skip(1);
        let head = rows.clone().next().unwrap();
        assert!(head.starts_with("honest "), "{}", ended.stdout);
        let advice = rows.clone().find(|line| line.starts_with("smallest code with")).unwrap();
        assert!(advice.contains(": honest at 8.00"), "{advice}");
        assert!(!cheats.iter().any(|id| advice.contains(id)), "{advice}");
    }
}

#[test]
fn what_never_ends_is_ended_by_the_time_limit_and_said_by_its_function() {
    let Some(library) = FAULTS.as_ref() else { return };
    let site = Site::with(std::slice::from_ref(library));
    site.write("s.toml", &sweep(&[&ENDLESS]));
    site.vq(&["run", "s.toml", "--jobs", "2", "--timeout", "3s"]).expect_code(3);
    no_complaints(&site.records(), &[&ENDLESS]);
    site.expect_nothing_left();
}

#[test]
fn what_shows_in_no_run_is_found_by_check() {
    let Some(library) = FAULTS.as_ref() else { return };
    let site = Site::with(std::slice::from_ref(library));
    let check = |id: &str| {
        let library = library.display().to_string();
        site.vq(&["check", &library, "--method", id, "--format", "json"]).json()
    };
    let found = check("empty_refused");
    let findings = found["methods"][0]["findings"].as_array().unwrap();
    let told = |finding: &serde_json::Value| {
        finding["function"] == "compress" && finding["found"].to_string().contains("no rows")
    };
    assert!(findings.iter().any(told), "{found:#}");
    for (id, _, proof) in HONEST {
        let found = check(id);
        let findings = found["methods"][0]["findings"].as_array().unwrap();
        // What a run says of its proof, and no error.
        let told = findings.iter().map(|f| (&f["severity"], &f["function"], &f["found"]));
        let told: Vec<String> = told.map(|(a, b, c)| format!("{a} {b} {c}")).collect();
        let expected = match proof {
            "\"proven\"" => vec![],
            reason => vec![format!("\"warning\" \"save\" \"ok, but unproven: it {reason}\"")],
        };
        assert_eq!(told, expected, "{id}");
    }
    // A run would say of these what the kit cannot: it is asked in one process.
    for (id, words) in [
        ("estimates_lost", "\"ok, but unproven: its scorer answers otherwise"),
        ("side_table", "\"invalid: decompress gave another row "),
    ] {
        let found = check(id)["methods"][0]["findings"].clone();
        let as_in_run = |f: &&serde_json::Value| f["rule"] == "measured-as-in-run";
        let told = found.as_array().unwrap().iter().find(as_in_run).map(|f| f["found"].to_string());
        assert!(told.is_some_and(|told| told.starts_with(words)), "{id}: {found:#}");
    }
}

#[test]
fn every_method_of_the_library_is_in_a_table() {
    let source = include_str!("faults.c");
    let listed = source.lines().filter_map(|line| line.strip_prefix("  X(")?.split(',').next());
    let listed: Vec<&str> = listed.collect();
    let expected = HONEST.iter().chain(&EXPECTED).chain(&ENDLESS).map(|(id, ..)| *id);
    assert_eq!(listed, expected.collect::<Vec<_>>());
}
