//! Every fault of `examples/misbehaving`: a record of its own, one line, and nobody else suffers.

use crate::fixture::{MISBEHAVING, Site, ZLATTICE, shipped, sweep};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use vq_host::record::Outcome::{self, Crashed, Invalid, Ok, OutOfMemory, Panicked, Timeout};
use vq_host::record::Record;

/// Method, the outcomes that say its fault, words of the error.
type Fault = (&'static str, &'static [Outcome], &'static str);

const FAULTS: [Fault; 17] = [
    ("bad_abort", &[Crashed], "signal 6"),
    ("bad_code_bytes", &[Invalid], "code_bytes() was 16 before fit and 17 after it"),
    ("bad_exit", &[Crashed], "exit code 0"),
    ("bad_fork", &[Ok], ""),
    ("bad_hog", &[OutOfMemory], "at fit"),
    ("bad_huge_code", &[Invalid], "1099511627776"),
    ("bad_nan", &[Invalid], "decompress returned NaN in row 0"),
    ("bad_overrun", &[Invalid], "its output"),
    ("bad_panic", &[Panicked], "compress"),
    ("bad_print", &[Ok], ""),
    ("bad_random", &[Invalid], "another code"),
    ("bad_ratio", &[Invalid], "ratio() claims 8.000, but 64 bytes in 16 make it 4.000"),
    ("bad_segfault", &[Crashed], "signal 11"),
    ("bad_stack", &[Crashed], "at compress"),
    // Nobody can tell it from the system's own way to end a process without memory.
    ("bad_stop", &[Crashed, OutOfMemory], "at compress"),
    ("bad_thread_panic", &[Panicked], "compress"),
    ("bad_unwritten", &[Invalid], "decompress returned nothing in row "),
];

const TOO_SLOW: [Fault; 2] = [
    ("bad_hang", &[Timeout], "still at fit after the time limit of 2s"),
    ("bad_slow", &[Timeout], "still at fit after the time limit of 2s"),
];

fn site() -> Site {
    Site::with(&[MISBEHAVING.clone(), shipped()["sq"].clone()])
}

/// A sweep of `faults` with good cells before, between and after them.
fn sweep_of(faults: &[Fault]) -> String {
    let good = |bits: usize| format!("[[method]]\nuse = \"sq\"\nparams.bits = {bits}\n\n");
    let mut methods = good(8);
    for (at, (id, ..)) in faults.iter().enumerate() {
        write!(methods, "[[method]]\nuse = \"{id}\"\n\n").expect("a String takes everything");
        if at == faults.len() / 2 {
            methods += &good(4);
        }
    }
    sweep("[1]", &(methods + &good(2)))
}

/// Runs `faults` and looks at every record and line.
fn run(site: &Site, faults: &[Fault], limits: &[&str]) -> Vec<Record> {
    site.write("s.toml", &sweep_of(faults));
    let ended = site.vq(&[&["run", "s.toml"], limits].concat()).expect_code(3);
    let records = site.records();
    assert_eq!(records.len(), faults.len() + 3);
    let lines = ended.lines("[");
    assert_eq!(lines.len(), records.len(), "{}", ended.stderr);
    for record in records.iter().filter(|r| !r.method.id.starts_with("bad_")) {
        assert_eq!(record.outcome, Ok, "{record:?}");
    }
    for (id, outcomes, words) in faults {
        let record = records.iter().find(|r| r.method.id == *id).expect("a record of each");
        let error = record.error.clone().unwrap_or_default();
        assert!(outcomes.contains(&record.outcome), "{id}: {}: {error}", record.outcome);
        assert!(error.contains(words), "{id}: `{words}` is missing in: {error}");
        assert!(!error.contains('\n') && error.len() < 300, "{id}: one line, not: {error}");
        let about = ended.stderr.lines().filter(|line| line.contains(&format!(" {id} ")));
        assert_eq!(about.count(), 1, "{id} has one line in:\n{}", ended.stderr);
        let told = lines.iter().any(|l| l.contains(id) && l.ends_with(&error));
        assert!(told, "{id}: {error} is missing in:\n{}", ended.stderr);
    }
    let failed = records.iter().filter(|r| r.outcome != Ok).count();
    assert!(ended.stderr.contains(&format!("{failed} of {} cells failed", records.len())));
    records
}

#[test]
fn every_fault_gets_its_record_and_its_line_and_the_other_cells_complete() {
    let site = site();
    let records = run(&site, &FAULTS, &["--timeout", "3min", "--memory", "512MiB", "--jobs", "2"]);
    // What the plugin printed is kept with the record, cleaned, and nowhere else.
    let log = |id: &str| {
        let record = records.iter().find(|r| r.method.id == id).expect("a record of each");
        record.log.clone().unwrap_or_default()
    };
    let printed = log("bad_print");
    assert!(printed.starts_with("printed:") && printed.len() < 20_000, "{}", printed.len());
    assert!(!printed.contains('\u{1b}'));
    // bad_fork's child died with its group.
    site.expect_nothing_left();
    site.expect_no_scratch();
}

#[test]
fn a_method_that_never_returns_runs_into_the_time_limit() {
    let site = site();
    let limits = ["--timeout", "2s", "--memory", "512MiB", "--only", "bad_"];
    site.write("s.toml", &sweep_of(&TOO_SLOW));
    // The good cells first, without a limit that a busy machine could break.
    site.vq(&["run", "s.toml", "--only", " sq "]).expect_code(0);
    let ended = site.vq(&[&["run", "s.toml"], &limits[..]].concat()).expect_code(3);
    assert_eq!(ended.lines("[").len(), 2);
    for (id, outcomes, words) in TOO_SLOW {
        let records = site.records();
        let record = records.iter().find(|r| r.method.id == id).expect("a record of each");
        assert!(outcomes.contains(&record.outcome), "{record:?}");
        assert!(record.error.as_ref().is_some_and(|e| e.contains(words)), "{record:?}");
    }
    site.expect_nothing_left();
}

#[test]
fn failed_cells_run_again_only_when_asked() {
    let site = site();
    let faults = [FAULTS[0], FAULTS[8]];
    run(&site, &faults, &[]);
    let again = site.vq(&["run", "s.toml"]).expect_code(3).says("all 5 cells are done");
    assert!(again.stderr.contains("2 of 5 cells failed; --rerun failed tries them again"));
    let before = site.records();
    site.vq(&["run", "s.toml", "--rerun", "failed"])
        .expect_code(3)
        .says("2 cells to run, 3 done already");
    let after = site.records();
    assert_eq!(after.len(), 5);
    assert_eq!(after.iter().filter(|record| before.contains(record)).count(), 3);
    site.vq(&["run", "s.toml", "--rerun", "panicked"]).expect_code(3).says("1 cell to run");
    site.vq(&["run", "s.toml", "--rerun", "broken"]).expect_code(2).says("out_of_memory");
}

#[test]
fn a_method_that_cannot_be_planned_stops_the_run_before_it_starts() {
    let site = site();
    for (id, words) in [
        ("bad_create", "this method cannot be created"),
        ("bad_grid", "the grid generator of bad_grid failed"),
    ] {
        let method = format!("[[method]]\nuse = \"{id}\"\n");
        site.write("s.toml", &sweep("[1]", &method));
        site.vq(&["run", "s.toml"]).expect_code(1).says(words).says("s.toml:");
        assert!(!site.store().exists());
    }
}

/// A site with a sweep of 40 good cells.
pub(crate) fn long_site() -> Site {
    let site = Site::with(&[shipped()["sq"].clone(), ZLATTICE.clone()]);
    let seeds = format!("{:?}", (1..=20).collect::<Vec<_>>());
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = 4\n\n[[method]]\nuse = \"zlattice\"\n\
                   params.scale = 0.5\n";
    site.write("s.toml", &sweep(&seeds, methods));
    site
}

/// Expects the end of a run that the host itself could not go on with, and that the next one
/// takes up where it was.
#[track_caller]
pub(crate) fn expect_taken_up(site: &Site, cells: usize) {
    let kept = site.records();
    assert!(kept.len() < cells && kept.iter().all(|r| r.outcome == Ok), "{}", kept.len());
    site.vq(&["run", "s.toml"]).expect_code(0).says(&format!("{} done already", kept.len()));
    let after = site.records();
    assert_eq!(after.len(), cells);
    assert!(kept.iter().all(|record| after.contains(record)));
    site.expect_no_scratch();
}

#[test]
fn a_folder_for_scratch_that_vanishes_ends_the_run_and_blames_no_cell() {
    let site = long_site();
    for jobs in ["1", "2"] {
        let mut run = site.start(&["run", "s.toml", "--jobs", jobs, "--force"]);
        run.wait_for_cells(2);
        // The run may put something into the folder while it is emptied.
        while let Err(error) = fs::remove_dir_all(site.path("tmp")) {
            assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty, "our folder: {error}");
        }
        let ended =
            run.end().expect_code(1).says("TMPDIR").says("no scratch folder can be made in");
        assert!(ended.lines("[").len() < 40, "{}", ended.stderr);
        assert!(!ended.stderr.contains("crashed"), "{}", ended.stderr);
        fs::create_dir(site.path("tmp")).expect("our folder");
    }
    expect_taken_up(&site, 40);
}

#[test]
fn too_few_file_descriptors_are_the_machines_fault_and_no_cells() {
    let site = Site::with(&[shipped()["sq"].clone()]);
    let method = "[[method]]\nuse = \"sq\"\nparams.bits = [2, 4, 8]\n";
    site.write("s.toml", &sweep("[1]", method));
    let mut named = 0;
    for most in (5..32).step_by(2) {
        let mut run = site.command(&["run", "s.toml", "--force", "--jobs", "3"]);
        let limit = move || setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(io::Error::from);
        // SAFETY: between fork and exec, the closure makes one system call.
        unsafe { run.pre_exec(limit) };
        let ended = run.output().expect("vq-host starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(matches!(ended.status.code(), Some(0 | 1)), "{most}: {}: {said}", ended.status);
        if site.store().exists() {
            assert!(site.records().iter().all(|record| record.outcome == Ok), "{most}: {said}");
        }
        named += usize::from(said.contains("ulimit -n"));
    }
    assert!(named > 0, "no limit was one that stops a worker");
    // Without a descriptor nothing can be removed: that is left to the next run.
    site.vq(&["run", "s.toml"]).expect_code(0);
    site.expect_no_scratch();
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let site = long_site();
    let mut run = site.start(&["run", "s.toml", "--jobs", "2"]);
    run.wait_for_cells(1);
    // Two cells are under way at almost any moment.
    run.signal(Signal::SIGKILL);
    run.end().expect_signal(Signal::SIGKILL);
    site.expect_nothing_left();
    site.vq(&["methods"]).expect_code(0);
    site.expect_no_scratch();
}

#[test]
fn out_of_memory_with_all_training_rows_advises_a_sample() {
    let site = Site::with(std::slice::from_ref(&MISBEHAVING));
    let wide = sweep("[1]", "[[method]]\nuse = \"bad_hog\"\n");
    site.write("s.toml", &wide.replace("n = 600, dim = 16", "n = 80000, dim = 512"));
    site.vq(&["run", "s.toml", "--memory", "256MiB"]).expect_code(3);
    let records = site.records();
    let error = records[0].error.clone().unwrap_or_default();
    assert_eq!(records[0].outcome, OutOfMemory, "{error}");
    assert!(error.contains("train = { sample = "), "{error}");
}

#[test]
fn of_two_codes_the_failure_names_the_one_that_failed_and_the_bytes_of_both_are_counted() {
    let site = site();
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = 2\nsecond = { use = \"bad_panic\" }\n\n\
         [[method]]\nuse = \"bad_panic\"\nsecond = { use = \"sq\", params = { bits = 8 } }\n\n\
         [[method]]\nuse = \"sq\"\nparams.bits = 2\nsecond = { use = \"sq\", params = { bits = [4, 8] } }\n\n\
         [[method]]\nuse = \"sq\"\nparams.bits = 2\n";
    site.write("s.toml", &sweep("[1]", methods));
    let ended = site.vq(&["run", "s.toml"]).expect_code(3);
    let table = &ended.stdout;
    assert!(table.contains("bits=2 + sq bits=8"), "{table}");
    let records = site.records();
    let errors: Vec<&str> = records.iter().filter_map(|of| of.error.as_deref()).collect();
    for stage in ["first", "second"] {
        let begins = format!("{stage} code (bad_panic): ");
        let told =
            errors.iter().any(|error| error.starts_with(&begins) && error.contains("compress"));
        assert!(told, "{begins}: {errors:?}");
    }
    let of = |label: &str| {
        let record = records.iter().find(|of| of.label == label && of.error.is_none());
        record.unwrap_or_else(|| panic!("no {label} among {records:?}"))
    };
    let value = |label: &str, name: &str| of(label).value(name).expect(name);
    let alone = value("bits=2", "code_bytes");
    let (four, eight) = ("bits=2 + sq bits=4", "bits=2 + sq bits=8");
    assert_eq!(value(eight, "code_bytes") - alone, 2.0 * (value(four, "code_bytes") - alone));
    assert_eq!(of(eight).params["second"]["use"], "sq");
    assert_eq!(of(eight).params["second"]["plugin"], of(four).method.plugin_digest.as_str());
    // Candidates of a coarse code, ranked by a fine one: better than the coarse one alone.
    assert!(value(eight, "recall@10") > value("bits=2", "recall@10"));
    assert!(value(eight, "recall@10/second=2") >= value(eight, "recall@10/second=1"));
    assert_eq!(value(eight, "recall@10/second=1"), value("bits=2", "recall@10"));
    // All candidates ranked exactly are what the first code alone gives with re-ranking; fewer of them are
    // those that the second ranks first.
    assert_eq!(value(eight, "recall@10/rerank=2"), value("bits=2", "recall@10/rerank=2"));
    assert_eq!(value(eight, "recall@10/rerank=1"), value(eight, "recall@10"));
    assert!(value(eight, "recall@10/rerank=2") >= value(eight, "recall@10"));
    // By rows, and by rows and queries, as a fine second code decodes them.
    let by = |form: &str| value(eight, &format!("recall@10/{form}"));
    assert!((by("decoded") - by("symmetric")).abs() < 0.05);
    assert!(by("decoded") > value("bits=2", "recall@10/decoded"));
    assert!(of(eight).value("recall@10/search").is_none());
    // All is done, and known to be.
    site.vq(&["run", "s.toml"]).expect_code(3).says("all 5 cells are done");
}
