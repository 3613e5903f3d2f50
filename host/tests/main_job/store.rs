//! Stores that may only be read, that are empty, full or damaged.

use crate::fixture::{Site, shipped, sweep};
use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn site() -> Site {
    let site = Site::with(&[shipped()["sq"].clone()]);
    site.write("s.toml", &sweep("[1]", "[[method]]\nuse = \"sq\"\nparams.bits = [2, 4, 8]\n"));
    site
}

#[test]
fn an_empty_file_is_a_new_store() {
    let site = site();
    site.write("results.db", "");
    site.vq(&["results", "results.db"]).expect_code(0);
    site.vq(&["plan", "s.toml"]).expect_code(0);
    assert_eq!(fs::metadata(site.store()).expect("a file").len(), 0);
    site.vq(&["run", "s.toml"]).expect_code(0);
    assert_eq!(site.records().len(), 3);
}

#[test]
fn a_damaged_record_is_named_left_out_and_measured_again() {
    let site = site();
    site.vq(&["run", "s.toml"]).expect_code(0);
    // Not all: a rate that one record alone has is a column of the whole store alone.
    let shown =
        ["results", "results.db", "--format", "csv", "--columns", "mse,relative_error,recall@1"];
    let whole = site.vq(&shown).expect_code(0).stdout;
    let store = Connection::open(site.store()).expect("a SQLite file");
    let changed = "UPDATE stored_metrics SET value = value * 2 WHERE cell = 2 AND name = 3";
    assert_eq!(store.execute(changed, []).expect("a change"), 1);
    drop(store);
    let ended = site.vq(&shown).expect_code(3).says("is damaged (cell ");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 1 + 2, "{}", ended.stdout);
    assert!(lines.iter().all(|line| whole.contains(line)), "no other numbers");
    site.vq(&["plan", "s.toml"]).expect_code(0).says("is damaged (cell ");
    site.vq(&["run", "s.toml"]).expect_code(0).says("1 cell to run, 2 done already");
    site.vq(&["results", "results.db"]).expect_code(0);
    assert_eq!(site.records().len(), 3);
}

#[test]
fn a_damaged_description_of_a_run_is_taken_out_where_nothing_is_left_to_run() {
    let site = site();
    site.vq(&["run", "s.toml"]).expect_code(0);
    let store = Connection::open(site.store()).expect("a SQLite file");
    assert_eq!(store.execute("UPDATE stored_runs SET os = 'other'", []).expect("a change"), 1);
    drop(store);
    site.vq(&["results", "results.db"])
        .expect_code(3)
        .says("is damaged; its records are not")
        .says("`vq-host run` takes a damaged description out and keeps the run's records");
    site.vq(&["run", "s.toml"]).expect_code(0).says("nothing to run");
    site.vq(&["results", "results.db"]).expect_code(0);
    assert_eq!(site.records().len(), 3);
}

/// Root may write everything: there, somebody else runs the program.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

fn as_user(site: &Site, arguments: &[&str]) -> std::io::Result<Output> {
    let mut command: Command = site.command(arguments);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output()
}

fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("root gives files away");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            give_away(&entry.expect("an entry").path());
        }
    }
}

#[test]
fn a_store_that_may_only_be_read_answers_results_and_nothing_to_run() {
    let site = site();
    if is_root() {
        give_away(&site.path(""));
    }
    if !as_user(&site, &["--version"]).is_ok_and(|output| output.status.success()) {
        println!("skipped: another user may not start the program here");
        return;
    }
    let vq = |arguments: &[&str], code: i32, words: &str| {
        let output = as_user(&site, arguments).expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    vq(&["run", "s.toml"], 0, "3 cells to run");
    let results = ["results", "results.db", "--format", "csv"];
    let before = vq(&results, 0, "");
    let allow = |file: u32, folder: u32| {
        fs::set_permissions(site.store(), Permissions::from_mode(file)).expect("rights");
        fs::set_permissions(site.path(""), Permissions::from_mode(folder)).expect("rights");
    };
    for (file, folder) in [(0o444, 0o755), (0o644, 0o555), (0o444, 0o555)] {
        allow(file, folder);
        assert_eq!(vq(&results, 0, ""), before);
        vq(&["plan", "s.toml"], 0, "");
        vq(&["run", "s.toml"], 0, "nothing to run");
        vq(&["run", "s.toml", "--force"], 1, "Permission denied");
    }
    allow(0o644, 0o755);
    vq(&["run", "s.toml", "--force"], 0, "3 cells to run");
}

/// A file system of so many bytes at `small`, until it is dropped.
struct Small<'a>(&'a Site);

impl<'a> Small<'a> {
    fn mount(site: &'a Site, bytes: &str) -> Option<Self> {
        let folder = site.path("small");
        fs::create_dir(&folder).expect("a site is writable");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]).arg(&folder);
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(site))
    }

    fn grow(&self, bytes: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(self.0.path("small"));
        assert!(mount.status().expect("mount is there").success());
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path("small")).status();
    }
}

#[test]
fn a_full_disk_under_the_store_is_named_and_the_next_run_succeeds() {
    let site = site();
    let Some(small) = Small::mount(&site, "8k") else {
        println!("skipped: no small file system can be mounted here");
        return;
    };
    let run = ["run", "s.toml", "--store", "small/results.db"];
    // Too small for a store, then for its records.
    site.vq(&run).expect_code(1).says("No space left on device");
    small.grow("40k");
    site.vq(&run).expect_code(1).says("No space left on device");
    small.grow("4m");
    site.vq(&run).expect_code(0);
    assert_eq!(site.records_of("small/results.db").len(), 3);
    let left = fs::read_dir(site.path("small")).expect("the folder").count();
    assert_eq!(left, 1, "one file and nothing beside it");
}
