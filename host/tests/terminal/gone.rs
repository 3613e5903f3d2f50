//! Output that goes away: the work is done all the same, and nothing is measured in vain.

use crate::fixture::{Site, shipped, sweep};
use std::fs::OpenOptions;
use std::process::{Command, Stdio};

fn site() -> Site {
    let site = Site::with(&[shipped()["sq"].clone()]);
    site.write("s.toml", &sweep("[1, 2, 3]", "[[method]]\nuse = \"sq\"\nparams.bits = [4, 8]\n"));
    site
}

/// A device that is always full.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has one").into()
}

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[track_caller]
fn expect_code(command: &mut Command, code: i32) -> String {
    let output = command.stdin(Stdio::null()).output().expect("vq-host starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{}\n{said}", output.status);
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn without_stderr_a_run_goes_on_and_records() {
    for gone in [full, unread] {
        let site = site();
        expect_code(site.command(&["run", "s.toml"]).stderr(gone()), 0);
        assert_eq!(site.records().len(), 6);
        expect_code(site.command(&["run", "missing.toml"]).stderr(gone()), 1);
        expect_code(site.command(&["plan", "s.toml"]).stderr(gone()), 0);
    }
}

#[test]
fn without_a_reader_of_stdout_a_command_does_its_work_and_ends_quietly() {
    let site = site();
    let said = expect_code(site.command(&["run", "s.toml"]).stdout(unread()), 0);
    assert_eq!(site.records().len(), 6);
    assert!(!said.contains("ipe"), "{said}");
    let verbs: [&[&str]; 7] = [
        &["plan", "s.toml"],
        &["plan", "s.toml", "--format", "json"],
        &["methods"],
        &["results", "results.db", "--format", "csv"],
        &["results", "results.db"],
        &["export", "results.db", "--format", "parquet"],
        &["compare", "results.db", "results.db"],
    ];
    for verb in verbs {
        let said = expect_code(site.command(verb).stdout(unread()), 0);
        assert!(!said.contains("ipe"), "{verb:?}: {said}");
    }
}

#[test]
fn results_that_find_a_full_disk_are_an_error_after_the_cells_were_recorded() {
    let site = site();
    let said = expect_code(site.command(&["run", "s.toml"]).stdout(full()), 1);
    assert!(said.contains("No space left"), "{said}");
    assert_eq!(site.records().len(), 6);
    for verb in [&["results", "results.db"][..], &["methods"], &["plan", "s.toml"]] {
        let said = expect_code(site.command(verb).stdout(full()), 1);
        assert!(said.contains("No space left"), "{verb:?}: {said}");
    }
}
