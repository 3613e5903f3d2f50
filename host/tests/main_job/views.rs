//! What is made from a store alone: exports, pages, pictures, and the difference between two.

use crate::fixture::{Site, shipped, sweep, text};
use serde_json::Value;
use std::fs;
use vq_host::record::{MetricValue, QueryRecalls, Record, RunInfo};
use vq_host::store::Store;

fn site() -> Site {
    let site = Site::with(&[shipped()["sq"].clone(), shipped()["pq"].clone()]);
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = [4, 8]\n\n\
         [[method]]\nuse = \"pq\"\nparams.m = 4\nparams.bits = 4\n";
    site.write("s.toml", &sweep("[1, 2]", methods));
    site.vq(&["run", "s.toml"]).expect_code(0);
    site
}

/// Writes `records` into a store of their own, as if another build of the plugins had made them.
pub(crate) fn store_of(site: &Site, name: &str, records: &[Record]) {
    let mut store = Store::open(site.path(name)).expect("a new store");
    let run = RunInfo { run_id: "20300101T000000Z-0".to_owned(), ..RunInfo::begin("s", "") };
    store.begin_run(&run).expect("a run");
    for record in records {
        let mut record = record.clone();
        record.run_id.clone_from(&run.run_id);
        record.method.plugin_digest = "another build".to_owned();
        record.key = vq_host::record::cell_key(&record.key_parts());
        store.insert(&record).expect("a record");
    }
}

/// Makes each query find half of what it found of its 10 nearest.
pub(crate) fn halve_recalls(record: &mut Record) {
    let hits: Vec<u32> =
        record.recalls(10).expect("kept").hits().iter().map(|hits| hits / 2).collect();
    let recall = f64::from(hits.iter().sum::<u32>()) / (10.0 * hits.len() as f64);
    record.recalls = vec![QueryRecalls::new(10, hits).expect("fewer hits")];
    record.metrics.retain(|metric| metric.name() != "recall@10");
    record.metrics.push(MetricValue::new("recall@10", recall).expect("finite"));
}

#[test]
fn every_export_has_all_records_by_their_keys() {
    let site = site();
    let mut keys: Vec<String> = site.records().into_iter().map(|record| record.key).collect();
    assert_eq!(keys.len(), 6);
    for format in ["csv", "csv-ann", "jsonl", "markdown"] {
        let arguments = ["export", "results.db", "--format", format];
        let ended = site.vq(&arguments).expect_code(0);
        let missing = keys.iter().filter(|key| !ended.stdout.contains(*key)).count();
        assert_eq!(missing, 0, "{format}:\n{}", ended.stdout);
        let to_file = [&arguments[..], &["-o", "out"]].concat();
        let silent = site.vq(&to_file).expect_code(0);
        assert_eq!(silent.stdout, "");
        let written = fs::read_to_string(site.path("out")).expect("a file");
        assert_eq!(written, ended.stdout, "{format}");
    }
    site.vq(&["export", "results.db", "--format", "parquet", "-o", "deep/out"]).expect_code(0);
    let parquet = fs::read(site.path("deep/out")).expect("a file");
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    keys.retain(|key| !parquet.windows(key.len()).any(|window| window == key.as_bytes()));
    assert!(keys.is_empty(), "not in the Parquet file: {keys:?}");
    let one = site.vq(&["export", "results.db", "--format", "csv", "--columns", "mse"]);
    assert!(one.expect_code(0).stdout.starts_with("dataset,"));
    let nothing = ["export", "results.db", "--format", "csv", "--columns", "mes"];
    site.vq(&nothing).expect_code(1).says("no record has the metric `mes`");
}

#[test]
fn a_row_of_the_best_leads_to_its_records_by_their_keys() {
    let site = site();
    let shown = site.vq(&["results", "results.db", "--best"]).expect_code(0).stdout;
    let told = site.vq(&["results", "results.db", "--best", "--verbose"]).expect_code(0).stdout;
    let records = site.records();
    let mut of_rows = records.iter().filter(|of| shown.contains(&of.label)).peekable();
    assert!(of_rows.peek().is_some(), "{shown}");
    for record in of_rows {
        assert!(told.contains(&record.key), "no key of {}:\n{told}", record.label);
        let key = &record.key[..12];
        let one = site.vq(&["results", "results.db", "--key", key, "--format", "json"]);
        let found = one.expect_code(0).json();
        let found = found.as_array().expect("a list");
        assert_eq!(found.len(), 1, "{key}");
        assert_eq!(text(&found[0]["key"]), record.key);
        let value = |name: &str| {
            let metrics = found[0]["metrics"].as_array().expect("a list").iter();
            let metric = metrics.clone().find(|metric| metric["name"] == name);
            metric.and_then(|metric| metric["value"].as_f64())
        };
        assert_eq!(value("recall@10"), record.value("recall@10"));
    }
    site.vq(&["results", "results.db", "--key", "zz"])
        .expect_code(1)
        .says("no record has a key that begins with `zz`");
}

#[test]
fn two_runs_with_partly_shared_seeds_show_no_regression() {
    let site = site();
    let others = fs::read_to_string(site.path("s.toml")).expect("a sweep");
    site.write("t.toml", &others.replace("seeds = [1, 2]", "seeds = [2, 3]"));
    site.vq(&["run", "t.toml", "--store", "later.db"]).expect_code(0);
    let ended = site.vq(&["compare", "results.db", "later.db"]).expect_code(0);
    assert!(ended.stdout.contains("nothing got worse"), "{}", ended.stdout);
    assert!(ended.stdout.contains("6 cells with a seed"), "{}", ended.stdout);
    // Two runs in one store, by their ids.
    site.vq(&["run", "t.toml"]).expect_code(0);
    let mut runs: Vec<String> = site.records().into_iter().map(|record| record.run_id).collect();
    runs.dedup();
    let sides = [format!("results.db#{}", runs[0]), format!("results.db#{}", runs[1])];
    let arguments = ["compare", &sides[0], &sides[1], "--format", "json"];
    let compared = site.vq(&arguments).expect_code(1).says("nothing was compared").json();
    // The second run had only the seed to do that the first had not.
    assert_eq!(compared["unshared_seeds"], 9, "{compared}");
    site.vq(&["compare", "results.db", "results.db#1999"]).expect_code(1).says("has no run");
}

#[test]
fn a_worsened_method_is_named_and_ends_with_3() {
    let site = site();
    let mut records = site.records();
    let pq = records.iter_mut().filter(|record| record.method.id == "pq");
    pq.for_each(halve_recalls);
    store_of(&site, "worse.db", &records);
    let ended = site.vq(&["compare", "results.db", "worse.db"]).expect_code(3);
    let worse = ended.stdout.split("worse:").nth(1).expect("a list of what is worse");
    assert!(worse.contains("pq") && worse.contains("recall@10"), "{}", ended.stdout);
    assert!(!worse.contains("sq"), "{}", ended.stdout);
    let compared = site.vq(&["compare", "results.db", "worse.db", "--format", "json"]).json();
    assert_eq!(text(&compared["changes"][0]["method"]), "pq");
    assert_eq!(text(&compared["changes"][0]["verdict"]), "worse");
    site.vq(&["compare", "results.db", "worse.db", "--tolerance", "90%"]).expect_code(0);
    site.vq(&["compare", "results.db", "worse.db", "--metrics", "mes"])
        .expect_code(1)
        .says("did you mean `mse`?");
    // Both are of this machine.
    site.vq(&["compare", "results.db", "worse.db", "--timings"]).expect_code(3);
}

#[test]
fn a_page_and_pictures_are_made_from_the_store_alone() {
    let site = site();
    fs::remove_dir_all(site.path("plugins")).expect("a folder");
    fs::remove_dir_all(site.path("cache")).expect("a folder");
    site.vq(&["report", "results.db", "-o", "deep/page.html"]).expect_code(0);
    let page = fs::read_to_string(site.path("deep/page.html")).expect("a page");
    let drawn = site.vq(&["plot", "results.db", "-o", "pictures"]).expect_code(0);
    let listed: Vec<&str> = drawn.stdout.lines().collect();
    let svgs: Vec<String> = listed
        .iter()
        .filter(|name| name.ends_with(".svg"))
        .map(|name| fs::read_to_string(site.path(name)).expect("a picture"))
        .collect();
    assert!(svgs.len() >= 4 && listed.len() == 2 * svgs.len(), "{listed:?}");
    let records = site.records();
    for record in &records {
        assert!(page.contains(&record.key), "{}", record.label);
    }
    // A mark of several seeds has the key of one of them.
    let marked = |record: &Record| svgs[0].contains(&record.key[..12]);
    assert_eq!(records.iter().filter(|record| marked(record)).count(), 3);
    let path = site.path("").display().to_string();
    assert!(!page.contains(&path) && svgs.iter().all(|svg| !svg.contains(&path)));
    let letters = site.vq(&["plot", "results.db", "--terminal", "--y", "mse"]).expect_code(0);
    assert!(letters.stdout.contains("mse against bits_per_dim on gauss"), "{}", letters.stdout);
    assert!(letters.stdout.lines().all(|line| line.chars().count() <= 100));
    site.vq(&["plot", "results.db", "--y", "mes"]).expect_code(1).says("did you mean `mse`?");
    let none = site.vq(&["plot", "results.db", "--outcome", "failed", "-o", "none"]);
    none.expect_code(0).says("nothing to draw");
    assert!(!site.path("none").exists());
}

#[test]
fn of_many_records_a_page_shows_the_newest_and_a_recommendation_reads_its_data_set_alone() {
    let site = Site::shipped();
    site.write("s.toml", &sweep("[1]", "[[method]]\nuse = \"sq\"\nparams.bits = [8]\n"));
    site.vq(&["run", "s.toml"]).expect_code(0);
    let one = site.records().swap_remove(0);
    let other = |i: usize| {
        let mut record = one.clone();
        record.key = blake3::hash(&i.to_le_bytes()).to_hex().to_string();
        record.dataset.name = match i {
            // The same at the size that it has.
            5_099 => format!("data-3@{}", one.dataset.n),
            _ => format!("data-{}", i % 100),
        };
        record
    };
    let others: Vec<Record> = (0..5_100).map(other).collect();
    Store::open(site.store()).unwrap().insert_all(&others).unwrap();
    site.vq(&["report", "results.db", "-o", "page.html"])
        .expect_code(0)
        .says("the page shows the newest 5000 of 5101 records");
    let some = site.vq(&["report", "results.db", "--dataset", "data-3", "-o", "some.html"]);
    assert!(!some.expect_code(0).stderr.contains("the page shows"));
    let answers = |of: &[&str]| -> Vec<(Value, u64)> {
        let asked = [&["recommend", "results.db", "--recall", "0.5", "--format", "json"], of];
        let answered = site.vq(&asked.concat()).expect_code(0);
        let told = answered.stderr.contains("reading 5101 records of 101 data sets, one after");
        assert_eq!(told, of.is_empty(), "{}", answered.stderr);
        let json: Value = serde_json::from_str(&answered.stdout).expect("JSON");
        let answers = json["answers"].as_array().expect("a list").iter();
        let of = |answer: &Value| {
            (answer["dataset"]["name"].clone(), answer["configurations"].as_u64().unwrap())
        };
        answers.map(of).collect()
    };
    // Not of data-30 as well.
    let of_one = answers(&["--dataset", "data-3"]);
    assert!(of_one.len() == 1 && of_one[0].1 == 2, "{of_one:?}");
    let of_each = answers(&[]);
    // One more for what holds on all of them.
    assert_eq!(of_each.len(), 102, "{of_each:?}");
    assert!(of_each.contains(&of_one[0]));
    site.vq(&["recommend", "results.db", "--dataset", "data-300"])
        .expect_code(1)
        .says("results.db has no results of the data set `data-300`")
        .says("did you mean `data-30`? it has results of data-0, data-1, data-10,")
        .says(", …");
    let by_key = site.vq(&["results", "results.db", "--key", &others[42].key[..10]]);
    let by_key = by_key.expect_code(0).stdout;
    assert!(by_key.contains("data-42 ") && by_key.matches("data-").count() == 1, "{by_key}");
    site.vq(&["results", "results.db", "--key", "none"])
        .expect_code(1)
        .says("no record has a key that begins with `none`");

    // Only what is read is verified.
    let connection = rusqlite::Connection::open(site.store()).expect("a store");
    connection.execute("UPDATE stored_cells SET wall_s = wall_s + 1 WHERE id = 2", []).unwrap();
    site.vq(&["recommend", "results.db"]).expect_code(3).says("the record of data-0 sq");
    site.vq(&["recommend", "results.db", "--dataset", "data-3"]).expect_code(0);
}
