//! Runs that go well: what is computed, what is not computed again, and in which forms it is told.

use crate::fixture::{Site, shipped, sweep, text};
use std::collections::BTreeSet;
use std::fs;
use vq_host::record::Outcome;

const TWO_METHODS: &str = "[[method]]\nuse = \"sq\"\nparams.bits = [4, 8]\n\n\
     [[method]]\nuse = \"cast\"\nparams.type = [\"f16\", \"fp8_e4m3\"]\n";

/// A site with a sweep of eight cells.
fn eight_cells() -> Site {
    let site = Site::shipped();
    site.write("s.toml", &sweep("[1, 2]", TWO_METHODS));
    site
}

#[test]
fn a_second_run_says_that_everything_is_done_and_computes_nothing() {
    let site = eight_cells();
    let first = site.vq(&["run", "s.toml"]).expect_code(0).says("8 cells to run, 0 done already");
    assert_eq!(first.lines("[").len(), 8);
    let before = site.records();
    assert_eq!(before.len(), 8);
    let second =
        site.vq(&["run", "s.toml"]).expect_code(0).says("all 8 cells are done in results.db");
    assert_eq!(second.lines("[").len(), 0);
    assert_eq!(second.stdout, first.stdout, "the table is the same");
    assert!(site.records() == before, "the records are the same, times included");
}

#[test]
fn a_wider_sweep_adds_only_its_new_cells() {
    let site = eight_cells();
    site.vq(&["run", "s.toml"]).expect_code(0);
    let before = site.records();
    site.write("s.toml", &sweep("[1, 2, 3]", TWO_METHODS));
    site.vq(&["run", "s.toml"]).expect_code(0).says("4 cells to run, 8 done already");
    let after = site.records();
    assert_eq!(after.len(), 12);
    assert!(before.iter().all(|record| after.contains(record)), "old records are untouched");
}

#[test]
fn only_selects_cells_by_their_title() {
    let site = eight_cells();
    site.vq(&["run", "s.toml", "--only", "bits=8 seed=1"]).expect_code(0);
    assert_eq!(site.records().len(), 1);
    site.vq(&["run", "s.toml", "--only", "type=f16", "--only", "seed=2"]).expect_code(0);
    assert_eq!(site.records().len(), 1 + 5);
    site.vq(&["run", "s.toml", "--only", "no such cell"])
        .expect_code(1)
        .says("selects none of the 8 cells")
        .says("titles look like: gauss sq bits=4 seed=1");
}

#[test]
fn force_measures_again_what_is_selected() {
    let site = eight_cells();
    site.vq(&["run", "s.toml"]).expect_code(0);
    let before = site.records();
    site.vq(&["run", "s.toml", "--force", "--only", "bits=4"])
        .expect_code(0)
        .says("2 cells to run, 0 done already");
    let after = site.records();
    assert_eq!(after.len(), 8);
    let same = after.iter().filter(|record| before.contains(record)).count();
    assert_eq!(same, 6);
}

#[test]
fn jobs_run_side_by_side_and_say_that_timings_are_shared() {
    let site = eight_cells();
    site.vq(&["run", "s.toml", "--jobs", "2"]).expect_code(0);
    let records = site.records();
    assert_eq!(records.len(), 8);
    assert!(records.iter().all(|r| r.timing.jobs == 2 && !r.timing.exclusive));
    site.vq(&["run", "s.toml", "--jobs", "0"]).expect_code(2);
}

/// The sweep of [`sweep`] with its data set under these names.
fn named(names: &[&str], rest: &str) -> String {
    let text = sweep("[1]", rest);
    let start = text.find("[[dataset]]").expect("a data set");
    let end = text.find("[evaluate]").expect("what to measure");
    let block = &text[start..end];
    let blocks = names.iter().map(|name| block.replace("\"gauss\"", &format!("{name:?}")));
    format!("{}{}{}", &text[..start], blocks.collect::<String>(), &text[end..])
}

#[test]
fn two_names_of_one_content_have_rows_of_their_own_and_are_measured_once() {
    let site = Site::shipped();
    site.write("s.toml", &named(&["d", "e"], TWO_METHODS));
    let plan = site.vq(&["plan", "s.toml"]).expect_code(0).says("e is the same data as d");
    assert!(plan.stdout.contains("8 cells, 4 to run"), "{}", plan.stdout);
    assert_eq!(plan.stdout.matches("same as d").count(), 4, "{}", plan.stdout);
    let ran = site.vq(&["run", "s.toml"]).expect_code(0);
    assert!(ran.stderr.contains("4 cells to run, 0 done already, 4 the same"), "{}", ran.stderr);
    assert_eq!(site.records().len(), 4);
    let table = |name: &str| {
        let from = ran.stdout.find(&format!("{name}  580 × 16")).expect("a table of each");
        ran.stdout[from..].lines().skip(1).take_while(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(table("d"), table("e"));
    // The second name alone is done as well, and told under its own name.
    let only = site.vq(&["run", "s.toml", "--only", "e sq"]).expect_code(0).says("nothing to run");
    assert!(only.stdout.starts_with("e  580"), "{}", only.stdout);
}

#[test]
fn a_renamed_data_set_is_told_under_its_new_name() {
    let site = Site::shipped();
    site.write("s.toml", &named(&["old"], TWO_METHODS));
    site.vq(&["run", "s.toml"]).expect_code(0);
    site.write("s.toml", &named(&["new"], TWO_METHODS));
    let again = site.vq(&["run", "s.toml"]).expect_code(0).says("all 4 cells are done");
    assert!(again.stdout.starts_with("new  580"), "{}", again.stdout);
    assert!(!again.stdout.contains("old"), "{}", again.stdout);
    let csv = site.vq(&["run", "s.toml", "--format", "csv"]).expect_code(0);
    assert_eq!(csv.stdout.lines().filter(|line| line.starts_with("new,")).count(), 4);
    // The store knows the new name, too, and each cell is one record still.
    assert_eq!(site.records().len(), 4);
    let results = site.vq(&["results", "results.db", "--dataset", "new"]).expect_code(0);
    assert!(!results.stdout.contains("old"), "{}", results.stdout);
}

#[test]
fn names_that_change_places_do_so_in_the_store() {
    let site = Site::shipped();
    let other = named(&["a"], TWO_METHODS).replace("seed = 1 }", "seed = 2 }");
    let block = |text: &str, name: &str| {
        let from = text.find("[[dataset]]").expect("a data set");
        let to = text.find("[evaluate]").expect("what to measure");
        text[from..to].replace("\"a\"", &format!("{name:?}"))
    };
    let one = named(&["a"], TWO_METHODS);
    let both = |first: &str, second: &str| {
        let blocks = block(&one, first) + &block(&other, second);
        one.replace(&block(&one, "a"), &blocks)
    };
    site.write("s.toml", &both("d", "e"));
    site.vq(&["run", "s.toml"]).expect_code(0);
    let named_in_store = || -> BTreeSet<(String, String)> {
        site.records().into_iter().map(|r| (r.dataset.name, r.dataset.digest)).collect()
    };
    let before = named_in_store();
    site.write("s.toml", &both("e", "d"));
    site.vq(&["run", "s.toml"]).expect_code(0).says("nothing to run");
    let after = named_in_store();
    assert_eq!(before.len(), 2);
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
}

#[test]
fn where_nothing_can_be_stored_no_data_is_prepared() {
    let site = eight_cells();
    site.write("file", "");
    let run = site.vq(&["run", "s.toml", "--store", "file/results.db"]).expect_code(1);
    assert!(run.stderr.contains("file"), "{}", run.stderr);
    assert!(!run.stderr.contains("preparing"), "{}", run.stderr);
    assert!(!site.path("cache").exists(), "nothing was prepared");
}

#[test]
fn a_store_that_cannot_be_written_tells_all_the_same_that_all_is_done() {
    let site = eight_cells();
    let first = site.vq(&["run", "s.toml"]).expect_code(0);
    // Stands for a file system that can only be read, which root may write all the same.
    let lock = fs::File::create(site.path("results.db.lock")).expect("a site is writable");
    lock.lock().expect("nobody else has it");
    let again = site.vq(&["run", "s.toml"]).expect_code(0).says("nothing to run");
    assert_eq!(again.stdout, first.stdout);
    site.write("s.toml", &sweep("[1, 2, 3]", TWO_METHODS));
    site.vq(&["run", "s.toml"]).expect_code(1).says("is being written by another vq-host");
    fs::remove_dir_all(site.path("cache")).expect("a cache");
    let cold = site.vq(&["run", "s.toml"]).expect_code(1).says("is being written");
    assert!(!cold.stderr.contains("preparing"), "{}", cold.stderr);
}

#[test]
fn a_dry_run_trains_nothing_and_makes_no_store() {
    let site = eight_cells();
    let dry = site.vq(&["run", "s.toml", "--dry-run"]).expect_code(0);
    assert!(dry.stdout.contains("8 cells, 8 to run"), "{}", dry.stdout);
    assert!(!site.store().exists());
    assert_eq!(dry.stdout, site.vq(&["plan", "s.toml"]).expect_code(0).stdout);
}

#[test]
fn a_plan_in_json_is_the_cells_that_a_run_records() {
    let site = eight_cells();
    let planned = site.planned("s.toml");
    site.vq(&["run", "s.toml"]).expect_code(0);
    let recorded: BTreeSet<String> = site.records().into_iter().map(|r| r.key).collect();
    assert_eq!(planned, recorded);
    let plan = site.vq(&["plan", "s.toml", "--format", "json"]).expect_code(0).json();
    let states: BTreeSet<String> =
        plan["cells"].as_array().expect("cells").iter().map(|c| text(&c["state"])).collect();
    assert_eq!(states, BTreeSet::from(["done: ok".to_owned()]));
}

#[test]
fn json_and_csv_are_alone_on_stdout() {
    let site = eight_cells();
    let json = site.vq(&["run", "s.toml", "--format", "json"]).expect_code(0).json();
    assert_eq!(json.as_array().map(Vec::len), Some(8));
    let csv = site.vq(&["run", "s.toml", "--format", "csv"]).expect_code(0);
    let rows = csv::Reader::from_reader(csv.stdout.as_bytes()).into_records().count();
    assert_eq!(rows, 8);
    let results = site.vq(&["results", "results.db", "--format", "json"]).expect_code(0).json();
    assert_eq!(results, json);
    let methods = site.vq(&["methods", "--format", "json"]).expect_code(0).json();
    assert!(methods["libraries"].as_array().is_some_and(|l| !l.is_empty()));
}

#[test]
fn a_pipe_gets_no_escape_codes_and_tables_of_at_most_100_columns() {
    let site = eight_cells();
    let commands: [&[&str]; 6] = [
        &["run", "s.toml"],
        &["plan", "s.toml"],
        &["results", "results.db"],
        &["results", "results.db", "--best"],
        &["methods"],
        &["methods", "sq"],
    ];
    for arguments in commands {
        let ended = site.vq(arguments).expect_code(0);
        assert!(!(ended.stdout + &ended.stderr).contains('\u{1b}'), "{arguments:?}");
    }
    for arguments in commands {
        let stdout = site.vq(arguments).expect_code(0).stdout;
        // Above the first empty line `methods METHOD` quotes the plugin; paths are as long as
        // they are.
        let table = stdout.rsplit("\n\n").next().unwrap_or_default();
        let table = table.lines().filter(|line| !line.contains(['/', '{']));
        let widest = table.map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(widest <= 100, "{arguments:?} is {widest} wide:\n{stdout}");
    }
    site.vq(&["run", "missing.toml"]).expect_code(1);
    let error = site.vq(&["run", "missing.toml"]).stderr;
    assert!(!error.contains('\u{1b}'), "{error}");
}

#[test]
fn results_are_filtered_sorted_and_reduced_to_the_best() {
    let site = eight_cells();
    site.vq(&["run", "s.toml"]).expect_code(0);
    let rows = |more: &[&str]| -> Vec<(String, String, f64)> {
        let mut arguments = vec!["results", "results.db", "--format", "csv"];
        arguments.extend(more);
        let csv = site.vq(&arguments).expect_code(0).stdout;
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let head = reader.headers().expect("a head").clone();
        let at = |name: &str| head.iter().position(|column| column == name).expect("a column");
        let (method, label, mse) = (at("method"), at("label"), at("mse"));
        let row = |row: Result<csv::StringRecord, csv::Error>| {
            let row = row.expect("a row");
            let number = row[mse].parse().expect("a number");
            (row[method].to_owned(), row[label].to_owned(), number)
        };
        reader.into_records().map(row).collect()
    };
    assert_eq!(rows(&[]).len(), 8);
    let filtered = rows(&["--method", "sq"]);
    assert!(filtered.len() == 4 && filtered.iter().all(|row| row.0 == "sq"), "{filtered:?}");
    assert_eq!(rows(&["--dataset", "gauss", "--outcome", "ok"]).len(), 8);
    assert_eq!(rows(&["--columns", "mse"]).len(), 8);
    let sorted = rows(&["--sort", "mse"]);
    assert!(sorted.is_sorted_by(|a, b| a.2 <= b.2), "{sorted:?}");
    let sorted = rows(&["--sort", "mse:desc"]);
    assert!(sorted.is_sorted_by(|a, b| a.2 >= b.2), "{sorted:?}");
    let best = rows(&["--best"]);
    assert!(!best.is_empty() && best.len() <= 8, "{best:?}");
    let ended = site.vq(&["run", "s.toml"]).expect_code(0).stdout;
    let best = site.vq(&["results", "results.db", "--best"]).expect_code(0).stdout;
    assert_eq!(best, ended, "one table");
    let none = site.vq(&["results", "results.db", "--outcome", "crashed"]).expect_code(0);
    assert_eq!(none.stdout, "no results\n");
    let unknown = site.vq(&["results", "results.db", "--dataset", "gauss1"]).expect_code(1);
    unknown
        .says("results.db has no results of the data set `gauss1`")
        .says("did you mean `gauss`? it has results of gauss");
    let unknown = site.vq(&["results", "results.db", "--method", "sq", "--method", "other"]);
    unknown.expect_code(1).says("no results of the method `other`");
    for (option, value) in [("--columns", "msee"), ("--sort", "msee")] {
        site.vq(&["results", "results.db", option, value]).expect_code(1).says("`msee`");
    }
    site.vq(&["results", "none.db"]).expect_code(1).says("there is no store at none.db");
}

/// Writes `words.fbin`: rows and dimensions as u32, then the values.
fn write_words(site: &Site, rows: u32) {
    let dim = 8u32;
    let mut bytes = [rows.to_le_bytes(), dim.to_le_bytes()].concat();
    for i in 0..rows * dim {
        // Any spread of values will do.
        let value = f64::from(i.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX);
        bytes.extend((value as f32).to_le_bytes());
    }
    fs::write(site.path("words.fbin"), bytes).expect("a site is writable");
}

#[test]
fn a_file_alone_is_a_tournament_that_answers_and_can_be_gone_on_with() {
    let site = Site::with(&["sq", "cast"].map(|id| shipped()[id].clone()));
    write_words(&site, 5200);
    let arguments = ["run", "--data", "words.fbin", "--bits", "2,8", "--budget", "1min"];
    let more = ["--recall", "0.8", "--rows", "1e6", "--write-sweep", "next.toml"];
    let asked = [&arguments[..], &more].concat();
    let ran = site.vq(&asked).expect_code(0).says("finals: the best").says("to go on");
    assert!(ran.stderr.contains("vq-host recommend results/command-line.db"), "{}", ran.stderr);
    for part in ["smallest", "1.0 M vectors", "as rows are added"] {
        assert!(ran.stdout.contains(part), "no `{part}` in:\n{}", ran.stdout);
    }
    let records = site.records_of("results/command-line.db");
    let seeds: BTreeSet<u64> = records.iter().map(|record| record.seed).collect();
    let names: BTreeSet<&str> = records.iter().map(|of| of.dataset.name.as_str()).collect();
    assert_eq!(seeds.len(), 3);
    assert_eq!(names, BTreeSet::from(["words", "words probe", "words@587"]));
    // It is done, and the sweep that it wrote is as well, but for seeds among fewer rows.
    let again = site.vq(&asked).expect_code(0);
    assert_eq!(again.lines("[").len(), 0, "{}", again.stderr);
    assert_eq!(again.stdout, ran.stdout);
    let store = ["--store", "results/command-line.db"];
    let plan = site.vq(&[&["plan", "next.toml", "--format", "json"][..], &store].concat()).json();
    let cells = plan["cells"].as_array().expect("cells");
    assert!(cells.iter().any(|cell| text(&cell["state"]) == "done: ok"), "{plan}");
    assert!(cells.iter().all(|cell| {
        text(&cell["state"]) == "done: ok" || text(&cell["dataset"]["name"]) == "words@587"
    }));
    // What it answered, the store answers.
    let ask = ["recommend", "results/command-line.db", "--dataset", "words", "--recall", "0.8"];
    let answer = site.vq(&[&ask[..], &["--rows", "1e6"]].concat()).expect_code(0);
    assert!(ran.stdout.starts_with(answer.stdout.split("to measure").next().unwrap_or_default()));
    site.vq(&["plan", "--data", "words.fbin"]).expect_code(0);
}

#[test]
fn a_plan_names_the_limits_that_its_cells_would_hit() {
    let site = Site::shipped();
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = [4, 8]\n";
    site.write("s.toml", &sweep("[1]", methods));
    site.write("t.toml", &sweep("[2]", methods));
    site.vq(&["run", "s.toml"]).expect_code(0);
    let plain = site.vq(&["plan", "t.toml"]).expect_code(0).stdout;
    assert!(plain.contains("2 cells take about") && !plain.contains("likely"), "{plain}");
    let tight = "timeout = \"1ms\"\nmemory = \"8KiB\"";
    site.write("t.toml", &sweep("[2]", methods).replace("memory = \"1GiB\"", tight));
    let told = site.vq(&["plan", "t.toml"]).expect_code(0).stdout;
    for part in [
        "2 cells of these are likely to reach the time limit of 1ms: sq",
        "its training rows alone are more than the 8.0 KiB of memory that it may take",
    ] {
        assert!(told.contains(part), "no `{part}` in:\n{told}");
    }
    // A record of few rows tells that many would be too many.
    let many = sweep("[2]", methods).replace("n = 600", "n = 200000").replace("1GiB", "4MiB");
    site.write("t.toml", &many);
    let told = site.vq(&["plan", "t.toml"]).expect_code(0).stdout;
    let over = "likely to take more than the 4.0 MiB of memory that a cell may: sq (";
    assert!(told.contains(over), "no `{over}` in:\n{told}");
}

#[test]
fn one_method_on_one_file_needs_no_sweep() {
    let site = Site::shipped();
    write_words(&site, 700);
    let arguments = ["run", "--data", "words.fbin", "--method", "sq", "--param", "bits=4,8"];
    let more = ["--store", "one.db", "--metric", "cosine"];
    site.vq(&[&arguments[..], &more].concat()).expect_code(0);
    let records = site.records_of("one.db");
    let labels: Vec<&str> = records.iter().map(|r| r.label.as_str()).collect();
    assert_eq!(labels, ["bits=4", "bits=8"]);
    assert!(records.iter().all(|r| r.outcome == Outcome::Ok && r.dataset.name == "words"));
    assert!(records.iter().all(|r| r.metric == "cosine" && r.dataset.n == 630));
    site.vq(&["run"]).expect_code(2);
    site.vq(&["run", "--data", "words.fbin", "--method", "sq", "--param", "bits=many"])
        .expect_code(1)
        .says("params.bits");
}
