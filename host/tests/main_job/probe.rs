//! `plan --probe`: what no record tells of is measured once, small, and never into the user's store.

use crate::fixture::{MISBEHAVING, Site, shipped, sweep, text};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write;

/// A method that goes well, and one that does not.
const METHODS: &str = "[[method]]\nuse = \"sq\"\nparams.bits = [4, 8]\n\n\
     [[method]]\nuse = \"bad_panic\"\n";

fn site() -> Site {
    let site = Site::with(&[MISBEHAVING.clone(), shipped()["sq"].clone()]);
    site.write("s.toml", &sweep("[1, 2]", METHODS));
    site
}

#[test]
fn a_probe_tells_what_no_record_tells_and_later_plans_know_it() {
    let site = site();
    let before = site.vq(&["plan", "s.toml"]).expect_code(0).stdout;
    for part in [
        "how long 6 cells will take is not known",
        "`vq-host plan --probe` measures one small cell of each of 2 methods to say it",
    ] {
        assert!(before.contains(part), "no `{part}` in:\n{before}");
    }
    let probed = site.vq(&["plan", "s.toml", "--probe"]).expect_code(0);
    let probed = probed.says("probe: one cell of 2 methods");
    assert_eq!(probed.lines("[").len(), 2, "{}", probed.stderr);
    for part in [
        "4 cells take about",
        "by a probe of 1 method; nothing is known of the other 2",
        "bad_panic ended with panicked in its probe: compress: panicked",
    ] {
        assert!(probed.stdout.contains(part), "no `{part}` in:\n{}", probed.stdout);
    }
    assert!(!probed.stdout.contains("plan --probe"), "{}", probed.stdout);
    assert!(!site.store().exists(), "a probe is no result");
    assert_eq!(site.vq(&["plan", "s.toml"]).expect_code(0).stdout, probed.stdout);

    let plan = site.vq(&["plan", "s.toml", "--format", "json"]).expect_code(0).json();
    for cell in plan["cells"].as_array().expect("cells") {
        let known = text(&cell["method"]["id"]) == "sq";
        assert_eq!(cell["expected_s"].as_f64().is_some_and(|s| s > 0.0), known, "{cell}");
        assert_eq!(cell["expected_memory_bytes"].is_u64(), known, "{cell}");
        assert_eq!(cell["expected_by"].as_str(), known.then_some("probe"));
    }
    let outcomes: Vec<String> =
        plan["probes"].as_array().expect("probes").iter().map(|of| text(&of["outcome"])).collect();
    assert_eq!(outcomes, ["panicked", "ok"]);
    // What failed is tried again, what went well is not.
    let again = site.vq(&["plan", "s.toml", "--probe"]).expect_code(0);
    assert_eq!(again.lines("[").len(), 1, "{}", again.stderr);
}

#[test]
fn a_method_with_a_record_is_not_probed_and_a_replaced_one_is_probed_anew() {
    let site = site();
    site.write("one.toml", &sweep("[7]", METHODS));
    site.vq(&["run", "one.toml", "--only", "sq bits=4"]).expect_code(0);
    let probed =
        site.vq(&["plan", "s.toml", "--probe"]).expect_code(0).says("one cell of 1 method,");
    assert!(probed.stdout.contains("4 cells take about"), "{}", probed.stdout);
    assert!(probed.stdout.contains("by records here; nothing"), "{}", probed.stdout);

    fs::remove_file(site.store()).expect("the store");
    site.vq(&["plan", "s.toml", "--probe"]).expect_code(0).says("one cell of 2 methods,");
    let library = site.path("plugins").join(shipped()["sq"].file_name().expect("a name"));
    let mut file = fs::OpenOptions::new().append(true).open(library).expect("the plugin");
    file.write_all(b"another build").expect("it is writable");
    drop(file);
    let after = site.vq(&["plan", "s.toml"]).expect_code(0).stdout;
    assert!(after.contains("how long 6 cells will take is not known"), "{after}");
    site.vq(&["plan", "s.toml", "--probe"]).expect_code(0).says("one cell of 2 methods,");
}

#[test]
fn a_damaged_store_of_probes_stops_no_plan_and_is_made_again() {
    let site = site();
    site.vq(&["plan", "s.toml"]).expect_code(0);
    let store = site.path("cache/probes.db");
    let told = || site.vq(&["plan", "s.toml", "--probe"]).expect_code(0);
    for damage in ["something else", "SQLite format 3\0 and then nothing that is one"] {
        fs::write(&store, damage).expect("the cache is writable");
        let plain = site.vq(&["plan", "s.toml"]).expect_code(0);
        assert_eq!(plain.lines("note: what earlier probes told cannot be read").len(), 1);
        let probed = told().says("what earlier probes told cannot be read");
        assert!(probed.stdout.contains("by a probe of 1 method"), "{}", probed.stdout);
        assert_eq!(site.vq(&["plan", "s.toml"]).expect_code(0).lines("note: what").len(), 0);
    }
    // A part of it is damaged.
    let mut bytes = fs::read(&store).expect("a store");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x55);
    fs::write(&store, bytes).expect("the cache is writable");
    site.vq(&["plan", "s.toml"]).expect_code(0);
    assert!(told().stdout.contains("by a probe of 1 method"));
    // Where no store can be, nothing is probed, and the plan is told all the same.
    fs::remove_file(&store).expect("the store");
    fs::create_dir(&store).expect("a folder of this name");
    let plain = told().says("nothing is probed");
    assert!(plain.stdout.contains("is not known"), "{}", plain.stdout);
}

#[test]
fn a_probe_takes_a_few_rows_of_large_data_whatever_its_queries_and_training_rows_are() {
    let site = Site::with(&[shipped()["sq"].clone()]);
    let data = |name: &str, dim: usize, rest: &str| {
        let rows = format!("{{ kind = \"gaussian\", n = 20000, dim = {dim}, seed = 1 }}");
        format!(
            "[[dataset]]\nname = \"{name}\"\nsynthetic = {rows}\nqueries = {{ hold_out = 900 }}\n{rest}\n"
        )
    };
    let told = |name: &str, data: &str| {
        let methods = "[[method]]\nuse = \"sq\"\nparams.bits = 4\ndatasets = [\"a\"]\n\n\
             [[method]]\nuse = \"sq\"\nparams.bits = 8\n";
        site.write(name, &format!("[run]\nstore = \"results.db\"\n\n{data}\n{methods}"));
        let _cleared = fs::remove_file(site.path("cache/probes.db"));
        let plan = site.vq(&["plan", name, "--probe", "--format", "json"]).expect_code(0).json();
        let record = site.records_of("cache/probes.db").remove(0);
        assert_eq!(plan["probes"].as_array().expect("probes").len(), 1);
        assert_eq!(plan["probes"][0]["outcome"], "ok");
        assert_eq!(text(&plan["probes"][0]["key"]), record.key);
        (plan["cells"].as_array().expect("cells").clone(), record)
    };
    let sizes = data("a", 8, "sizes = [\"all\", 3000]\n");
    let (cells, record) = told("sizes.toml", &sizes);
    assert_eq!((record.dataset.n, record.dataset.queries), (2250, 500));
    let seconds = |at: usize| cells[at]["expected_s"].as_f64().expect("a number");
    assert_eq!(cells.len(), 4);
    assert!(seconds(0) > seconds(2), "more rows take longer: {cells:?}");
    // The widest of all: without its judge, which a few rows would not go with.
    let base = "train = { apart = false }\n";
    let judged = format!("{base}truth_of = \"judge\"\n");
    let all = [data("a", 8, ""), data("judge", 8, base), data("wide", 16, &judged)].concat();
    let (_, record) = told("wide.toml", &all);
    let of = &record.dataset;
    assert_eq!((of.name.as_str(), of.n, of.dim, record.truth_of()), ("wide", 4500, 16, None));
}

#[test]
fn an_interrupted_probe_tells_nothing_and_leaves_nothing() {
    let site = Site::with(&[MISBEHAVING.clone(), shipped()["sq"].clone()]);
    let methods = METHODS.replace("bad_panic", "bad_hang");
    site.write("s.toml", &sweep("[1, 2]", &methods));
    let mut probe = site.start(&["plan", "s.toml", "--probe", "--only", "bad_hang"]);
    probe.wait_for("probe: one cell");
    site.wait_for_workers(|there| there > 0);
    probe.signal(Signal::SIGINT);
    let ended = probe.end().expect_code(130).says("interrupted");
    assert_eq!(ended.stdout, "", "no plan is told");
    site.expect_nothing_left();
    site.expect_no_scratch();
    // It is no fault of the method.
    let after = site.vq(&["plan", "s.toml"]).expect_code(0).stdout;
    assert!(after.contains("one small cell of each of 2 methods"), "{after}");
}
