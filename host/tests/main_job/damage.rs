//! A run that is killed, interrupted or met by a second one.

use crate::fixture::{MISBEHAVING, Running, Site, shipped, sweep};
use nix::sys::signal::Signal;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::time::Duration;
use vq_host::record::Outcome;

/// Pseudo-random numbers below `n`, the same in every test run.
fn draw(state: &mut u64, n: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % n
}

/// Tables and counts as SQLite itself sees them, without our reader.
fn integrity(site: &Site) -> (String, usize, usize) {
    let store = Connection::open(site.store()).expect("a SQLite file");
    let check = store.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    let count = |sql: &str| {
        let count: i64 = store.query_row(sql, [], |row| row.get(0)).expect("a count");
        usize::try_from(count).expect("a count")
    };
    let cells = count("SELECT count(*) FROM cells");
    let measured = count("SELECT count(DISTINCT cell_key) FROM metrics");
    (check.expect("an answer"), cells, measured)
}

#[test]
fn ten_kills_lose_no_finished_cell_double_none_and_leave_no_worker() {
    let site = Site::shipped();
    let method = "[[method]]\nuse = \"sq\"\nparams.bits = { from = 1, to = 8, step = 1 }\n";
    site.write("s.toml", &sweep("[1, 2, 3, 4, 5]", method));
    let planned = site.planned("s.toml");
    assert_eq!(planned.len(), 40);
    let mut state = 7;
    let mut workers_seen = 0;
    let mut finished = 0;
    for kill in 0..10 {
        let mut run = site.start(&["run", "s.toml", "--jobs", "2"]);
        // Every third one early: while plugins are described or data is prepared.
        if kill % 3 != 2 {
            run.wait_for_cells(usize::try_from(draw(&mut state, 3)).expect("small"));
        }
        std::thread::sleep(Duration::from_millis(draw(&mut state, 60)));
        workers_seen += site.workers().len();
        run.signal(Signal::SIGKILL);
        let told = run.end().expect_signal(Signal::SIGKILL).lines("[").len();
        site.wait_for_workers(|left| left == 0);
        // A cell is told once it is stored, and stays.
        if site.store().exists() {
            let (check, cells, measured) = integrity(&site);
            assert_eq!((check.as_str(), measured), ("ok", cells));
            assert!(cells >= finished + told, "{cells} cells, told {finished} + {told}");
            finished = cells;
        }
    }
    assert!(workers_seen > 0, "some kill met a worker");
    site.vq(&["run", "s.toml"]).expect_code(0);
    assert_eq!(integrity(&site), ("ok".to_owned(), 40, 40));
    let recorded: BTreeSet<String> = site.records().into_iter().map(|r| r.key).collect();
    assert_eq!(recorded, planned);
    site.expect_nothing_left();
}

/// A site whose run ends three cells and then hangs in a fourth.
fn hanging() -> (Site, Running) {
    let site = Site::with(&[MISBEHAVING.clone(), shipped()["sq"].clone()]);
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = [2, 4, 8]\n\n\
         [[method]]\nuse = \"bad_hang\"\n";
    site.write("s.toml", &sweep("[1]", methods));
    let mut run = site.start(&["run", "s.toml", "--timeout", "1h"]);
    run.wait_for_cells(3);
    // The workers of those three are gone before their end is told.
    site.wait_for_workers(|alive| alive == 3);
    (site, run)
}

#[test]
fn ctrl_c_keeps_what_is_done_and_runs_the_interrupted_cell_next_time() {
    let (site, run) = hanging();
    run.signal(Signal::SIGINT);
    let ended = run.end().expect_code(130).says("interrupted: finished cells are kept");
    assert_eq!(ended.lines("[").len(), 4);
    site.expect_nothing_left();
    site.expect_no_scratch();
    let outcome = |id: &str| -> Vec<Outcome> {
        let records = site.records().into_iter();
        records.filter(|r| r.method.id == id).map(|r| r.outcome).collect()
    };
    assert_eq!(outcome("sq"), [Outcome::Ok; 3]);
    assert_eq!(outcome("bad_hang"), [Outcome::Cancelled]);
    site.vq(&["run", "s.toml", "--timeout", "1s"])
        .expect_code(3)
        .says("1 cell to run, 3 done already");
    assert_eq!(outcome("bad_hang"), [Outcome::Timeout]);
}

#[test]
fn ctrl_c_while_data_is_prepared_leaves_nothing_half_made() {
    let site = Site::shipped();
    let large = sweep("[1]", "[[method]]\nuse = \"sq\"\n").replace("n = 600", "n = 1000000");
    // Neighbours take long, so that a busy machine does not come to measuring first.
    let large = large.replace("hold_out = 20", "hold_out = 5000");
    site.write("s.toml", &large);
    for stage in ["read base", "sum covariance"] {
        let mut run = site.start(&["run", "s.toml"]);
        run.wait_for(stage);
        run.signal(Signal::SIGINT);
        run.end().expect_code(130).says("interrupted");
        for left in ["results.db", "results.db.lock"] {
            assert!(!site.path(left).exists(), "{stage}: {left} stays");
        }
        let kept = std::fs::read_dir(site.path("cache")).expect("a cache").flatten();
        let names: Vec<_> = kept.map(|entry| entry.file_name()).collect();
        let half = names.iter().any(|name| name.to_string_lossy().starts_with(".preparing"));
        assert!(!half, "{stage}: {names:?}");
    }
}

#[test]
fn sigterm_ends_a_run_as_ctrl_c_does() {
    let (site, run) = hanging();
    run.signal(Signal::SIGTERM);
    run.end().expect_code(143);
    assert_eq!(site.records().len(), 4);
    site.expect_nothing_left();
}

#[test]
fn two_runs_do_not_write_one_store() {
    let (site, run) = hanging();
    site.vq(&["run", "s.toml", "--force", "--only", "bits=4"])
        .expect_code(1)
        .says("is being written by another vq-host (process ");
    // Looking is allowed.
    site.vq(&["results", "results.db"]).expect_code(0);
    site.vq(&["plan", "s.toml"]).expect_code(0);
    drop(run);
    site.vq(&["run", "s.toml", "--force", "--only", "bits=4"]).expect_code(0);
}
