//! What may not change a result: threads, blocks, order. And what a cell may hold in memory.

use crate::fixture::{Site, sweep, text, timeless};
use std::collections::BTreeMap;
use vq_host::record::Outcome;

/// The default grid of every shipped method.
fn every_method(site: &Site) -> Vec<String> {
    let catalog = site.vq(&["methods", "--format", "json"]).expect_code(0).json();
    let libraries = catalog["libraries"].as_array().expect("libraries").iter();
    let methods = libraries.flat_map(|l| l["methods"].as_array().expect("methods"));
    methods.map(|method| text(&method["id"])).collect()
}

#[test]
fn equal_seeds_give_equal_records_for_any_threads_blocks_and_order() {
    let site = Site::shipped();
    let methods = every_method(&site);
    assert!(methods.len() >= 5, "{methods:?}");
    let mut used: Vec<String> =
        methods.iter().map(|id| format!("[[method]]\nuse = \"{id}\"\n\n")).collect();
    site.write("forth.toml", &sweep("[5]", &used.concat()));
    used.reverse();
    site.write("back.toml", &sweep("[5]", &used.concat()));
    let said = |store: &str| -> BTreeMap<String, BTreeMap<String, String>> {
        site.records_of(store).iter().map(|r| (r.key.clone(), timeless(r))).collect()
    };
    let run = |sweep: &str, store: &str, more: &[&str]| {
        site.vq(&[&["run", sweep, "--store", store], more].concat()).expect_code(0);
    };
    run("forth.toml", "a.db", &["--threads", "1"]);
    let first = said("a.db");
    assert!(first.len() >= 15, "{} cells", first.len());
    let same = |store: &str| {
        for (key, expected) in &first {
            assert_eq!(&said(store)[key], expected, "{store}");
        }
        assert_eq!(said(store).len(), first.len());
    };
    run("back.toml", "b.db", &["--threads", "2", "--block-rows", "7"]);
    same("b.db");
    run("forth.toml", "c.db", &["--threads", "2", "--block-rows", "64", "--jobs", "2"]);
    same("c.db");
}

#[test]
fn another_seed_is_another_cell() {
    let site = Site::shipped();
    let method = "[[method]]\nuse = \"pq\"\nparams.m = 4\nparams.bits = 4\n";
    site.write("s.toml", &sweep("[1, 2]", method));
    site.vq(&["run", "s.toml"]).expect_code(0);
    let records = site.records();
    assert_eq!(records.len(), 2);
    assert_ne!(records[0].key, records[1].key);
    assert_ne!(records[0].value("mse"), records[1].value("mse"), "k-means began elsewhere");
}

#[test]
fn memory_holds_the_training_sample_and_the_codes_but_not_the_base() {
    let (rows, dim, sample) = (200_000u64, 256u64, 5_000u64);
    let site = Site::shipped();
    site.write(
        "s.toml",
        &format!(
            r#"
[sweep]
name = "large"

[run]
threads = 2
store = "results.db"

[[dataset]]
name = "large"
synthetic = {{ kind = "uniform", n = {}, dim = {dim}, seed = 1 }}
queries = {{ hold_out = 10 }}
train = {{ sample = {sample} }}

[evaluate]
k = [10]
pairs = 1000
rerank = [1]
repeats = 1

[[method]]
use = "sq"
params.bits = 4
"#,
            // Held out and reserved.
            rows + 10 + 100_000
        ),
    );
    site.vq(&["run", "s.toml"]).expect_code(0);
    let records = site.records();
    let record = &records[0];
    assert_eq!((record.outcome, record.dataset.n), (Outcome::Ok, rows));
    let codes = record.value("code_bytes").expect("a size") * rows as f64;
    let train = (4 * sample * dim) as f64;
    let base = (4 * rows * dim) as f64;
    let allowed = train + codes + 100e6;
    assert!(allowed < base, "else a copy of the base would not show");
    let peak = record.value("peak_rss_bytes").expect("a peak");
    println!("peak {:.0} MB of {:.0} MB allowed", peak / 1e6, allowed / 1e6);
    assert!(peak < allowed, "{:.0} MB, allowed are {:.0} MB", peak / 1e6, allowed / 1e6);
}
