//! One sweep shared out among many processes, and their stores put together again.

use crate::fixture::{Running, Site, sweep, wait_until};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;
use vq_host::record::{Filter, Record};
use vq_host::store::{Contents, Store};

const METHODS: &str = "[[method]]\nuse = \"sq\"\nparams.bits = [2, 3, 4, 5, 6, 7, 8, 9]\n\n\
     [[method]]\nuse = \"cast\"\nparams.type = [\"f16\", \"fp8_e4m3\"]\n";

/// A site with a sweep of twenty cells over one file, which has to be read and not used in place.
fn twenty_cells() -> Site {
    let site = Site::shipped();
    site.write("s.toml", &sweep("[1, 2]", METHODS));
    site
}

fn contents(site: &Site, store: &str) -> Contents {
    let store = Store::open_read_only(site.path(store)).expect("a store");
    store.contents(&Filter::default()).expect("readable records")
}

/// What a record says of quality: everything but when, where and how fast.
fn quality(record: &Record) -> (String, Vec<(String, f64)>) {
    let timed = |name: &str| {
        let part = ["per_s", "_s/", "latency", "bytes", "threads"];
        name.ends_with("_s") || part.iter().any(|part| name.contains(part))
    };
    let metrics = record.metrics.iter().filter(|metric| !timed(metric.name()));
    (record.key.clone(), metrics.map(|of| (of.name().to_owned(), of.value())).collect())
}

#[test]
fn sixteen_parts_at_once_over_one_cache_are_the_sweep_in_any_order() {
    let site = twenty_cells();
    let planned = site.planned("s.toml");
    assert_eq!(planned.len(), 20);
    fs::remove_dir_all(site.path("cache")).unwrap();
    let parts: Vec<String> = (1..=16).map(|part| format!("hash:{part}/16")).collect();
    let running: Vec<_> =
        parts.iter().map(|part| site.start(&["run", "s.toml", "--partition", part])).collect();
    let ended: Vec<_> = running.into_iter().map(|of| of.end().expect_code(0)).collect();
    // One of them prepared the data and sought neighbours; the others waited or came later.
    for stage in ["find neighbours", "draw base"] {
        let who = ended.iter().filter(|of| of.stderr.contains(stage)).count();
        assert!(who <= 1, "{who} did `{stage}`");
    }
    let entries = |of: &str| fs::read_dir(site.path("cache").join(of)).unwrap().count();
    assert_eq!((entries("rows"), entries("truth")), (1, 1));
    let left = fs::read_dir(site.path("cache")).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        name.starts_with('.').then_some(name)
    });
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());

    let stores: Vec<String> =
        (1..=16).map(|part| format!("results.hash-{part}-of-16.db")).collect();
    let keys: Vec<String> = stores
        .iter()
        .flat_map(|store| site.records_of(store).into_iter().map(|record| record.key))
        .collect();
    let once: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!((keys.len(), &once), (20, &planned), "no cell is lost, none is doubled");

    let merge = |out: &str, order: Vec<&String>| {
        let mut line = vec!["merge", out];
        line.extend(order.into_iter().map(String::as_str));
        site.vq(&line).expect_code(0).says("20 records")
    };
    merge("forth.db", stores.iter().collect());
    merge("back.db", stores.iter().rev().collect());
    let forth = contents(&site, "forth.db");
    assert_eq!(forth, contents(&site, "back.db"));
    merge("forth.db", stores.iter().rev().collect()).says("0 of them new");
    assert_eq!(forth, contents(&site, "forth.db"), "twice is as once");
    merge("back.db", stores.iter().step_by(3).collect());
    assert_eq!(forth, contents(&site, "back.db"));

    // It is the store of the sweep: nothing is left to run, and quality is that of a plain run.
    site.vq(&["run", "s.toml", "--store", "forth.db"]).expect_code(0).says("all 20 cells are done");
    site.vq(&["run", "s.toml"]).expect_code(0);
    let sorted = |records: &[Record]| {
        let mut all: Vec<_> = records.iter().map(quality).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    assert!(sorted(&forth.records) == sorted(&site.records()), "quality is that of a plain run");
}

/// Who prepares something at the moment.
fn turns(site: &Site) -> usize {
    let there = fs::read_dir(site.path("cache")).into_iter().flatten().flatten();
    there.filter(|of| of.file_name().to_string_lossy().starts_with(".turn-")).count()
}

/// Rows that are prepared.
fn prepared(site: &Site) -> usize {
    fs::read_dir(site.path("cache/rows")).into_iter().flatten().count()
}

/// A host that is stopped while it draws rows; `None` if it was faster than we.
fn stopped_while_it_prepares() -> Option<(Site, Running)> {
    let site = Site::shipped();
    // A second or so of drawing rows.
    site.write("s.toml", &sweep("[1]", METHODS).replace("n = 600", "n = 1000000"));
    let first = site.start(&["run", "s.toml"]);
    wait_until("the first to prepare", || turns(&site) == 1 || prepared(&site) > 0);
    first.signal(Signal::SIGSTOP);
    // Until each of its threads stands.
    thread::sleep(Duration::from_millis(50));
    (turns(&site) == 1 && prepared(&site) == 0).then_some((site, first))
}

#[test]
fn of_two_hosts_in_one_folder_one_writes_and_prepares_and_the_other_takes_over_when_it_is_killed() {
    let caught = (0..10).find_map(|_| stopped_while_it_prepares());
    let (site, first) = caught.expect("one of ten that is not faster than we");
    site.vq(&["run", "s.toml"])
        .expect_code(1)
        .says("is being written by another vq-host (process ");
    let mut second = site.start(&["run", "s.toml", "--dry-run"]);
    second.wait_for("wait for another vq-host");
    first.signal(Signal::SIGKILL);
    first.end().expect_signal(Signal::SIGKILL);
    second.end().expect_code(0);
    assert_eq!((turns(&site), prepared(&site)), (0, 1));
}

#[test]
fn a_part_has_a_store_of_its_own_and_one_without_cells_is_no_failure() {
    let site = twenty_cells();
    site.vq(&["run", "s.toml", "--partition", "slice:1/400", "--only", "bits=8"])
        .expect_code(0)
        .says("no cell falls into this part");
    site.vq(&["merge", "all.db", "results.slice-1-of-400.db"]).expect_code(0).says("0 records");
    site.vq(&["run", "s.toml", "--partition", "slice:20/20", "--store", "mine.db"]).expect_code(0);
    assert_eq!(site.records_of("mine.db").len(), 1);
    assert!(!site.store().exists());
    site.vq(&["run", "s.toml", "--partition", "hash:17/16"])
        .expect_code(2)
        .says("expected a part from 1 to 16");
    site.vq(&["run", "s.toml", "--partition", "list:nowhere"]).expect_code(2).says("nowhere: ");
}

#[test]
fn merging_names_what_it_cannot_read_and_takes_the_rest() {
    let site = twenty_cells();
    site.vq(&["run", "s.toml", "--only", "bits=8", "--store", "a.db"]).expect_code(0);
    site.vq(&["run", "s.toml", "--only", "bits=4", "--store", "b.db"]).expect_code(0);
    let mut bytes = fs::read(site.path("b.db")).unwrap();
    bytes[..4096].fill(7);
    fs::write(site.path("b.db"), bytes).unwrap();
    let before = fs::metadata(site.path("a.db")).unwrap();
    site.vq(&["merge", "out.db", "a.db", "b.db"])
        .expect_code(3)
        .says("b.db")
        .says("it is left out")
        .says("out.db has 2 records");
    site.vq(&["merge", "out.db", "a.db", "nowhere.db"]).expect_code(1).says("nowhere.db");
    site.vq(&["merge", "other.db", "b.db"]).expect_code(1).says("none of the 1 store can be read");
    assert!(!site.path("other.db").exists());
    assert_eq!(fs::metadata(site.path("a.db")).unwrap().mtime(), before.mtime());
    assert_eq!(site.records_of("out.db").len(), 2);
}
