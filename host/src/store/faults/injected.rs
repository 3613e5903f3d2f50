//! Kills and full disks at each call of a creation, by strace.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::usual;
use crate::store::tests::{all, run, said};
use crate::store::{OpenError, Store, WriteError};

const CHILD: &str = "store::faults::injected::child_that_makes_a_store_and_writes_a_record";

/// The child of the next two tests.
#[test]
#[ignore = "the child of other tests"]
fn child_that_makes_a_store_and_writes_a_record() {
    let path = std::env::var_os("VQ_HOST_TEST_NEW_STORE").expect("told by the parent");
    let made = Store::open(PathBuf::from(path)).map_err(|error| said(&error));
    let written = made.and_then(|mut store| {
        store.begin_run(&run("run-1")).map_err(|error| said(&error))?;
        store.insert(&usual(0)).map_err(|error| said(&error))
    });
    let mut stderr = io::stderr().lock();
    match written {
        Ok(()) => writeln!(stderr, "stored").unwrap(),
        Err(error) => writeln!(stderr, "refused: {error}").unwrap(),
    }
}

/// Runs the child with the `n`th of `calls` in `folder` answered by `fault`; none where the
/// system does not let us.
fn injected(folder: &Path, calls: &str, fault: &str, n: usize) -> Option<Output> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    // Only calls that reach the store's folder.
    for name in ["", "store.db", "store.db.creating", "store.db.lock", "store.db-journal"] {
        strace.arg("-P").arg(folder.join(name));
    }
    strace.args(["-e", &format!("inject={calls}:{fault}:when={n}")]);
    strace
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--ignored", CHILD])
        .env("VQ_HOST_TEST_NEW_STORE", folder.join("store.db"))
        .output()
        .ok()
}

/// True when strace can do it here; says why the test is skipped otherwise.
fn can_inject() -> bool {
    let folder = TempDir::new().unwrap();
    let works = injected(folder.path(), "fsync,fdatasync", "signal=KILL", 1)
        .is_some_and(|output| !String::from_utf8_lossy(&output.stderr).contains("stored"));
    if !works {
        println!("skipped: strace is not installed, or may not trace here");
    }
    works
}

/// Whatever `fault` left in the folder, the next run is done as if nothing had been.
fn expect_next_run_succeeds(folder: &Path, what: &str) {
    let path = folder.join("store.db");
    match Store::open_read_only(&path) {
        Ok(reader) => assert!(all(&reader).len() <= 1, "{what}"),
        Err(error) => assert!(matches!(error, OpenError::Missing { .. }), "{what}: {error}"),
    }
    let mut store = Store::open(&path).unwrap_or_else(|error| panic!("{what}: {error}"));
    match store.begin_run(&run("run-1")) {
        Ok(()) | Err(WriteError::RepeatedRun { .. }) => {}
        Err(error) => panic!("{what}: {error}"),
    }
    store.insert(&usual(0)).unwrap();
    assert_eq!(all(&store), [usual(0)], "{what}");
    assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}");
    drop(store);
    let left: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["store.db"], "{what}");
}

/// Walks n = 1, 2, … until the child gets through; answers how many faults there were.
fn walk(calls: &str, fault: &str, look: impl Fn(&str, &str)) -> usize {
    for n in 1..200 {
        let folder = TempDir::new().unwrap();
        let output = injected(folder.path(), calls, fault, n).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let what = format!("{fault} at call {n} of {calls}");
        if said.contains("stored")
            && all(&Store::open(folder.path().join("store.db")).unwrap()).len() == 1
        {
            let through = n - 1;
            // One that was answered with a fault and did not matter is not the end.
            if fault == "signal=KILL" || !said.contains("refused") {
                return through;
            }
        }
        look(&said, &what);
        expect_next_run_succeeds(folder.path(), &what);
    }
    panic!("no end of {calls}")
}

#[cfg(target_os = "linux")]
#[test]
fn a_kill_at_any_call_of_a_creation_leaves_what_the_next_run_takes() {
    if !can_inject() {
        return;
    }
    let syncs = walk("fsync,fdatasync", "signal=KILL", |_, _| ());
    assert!(syncs >= 8, "{syncs} syncs: two of the creation, the rest of the first records");
    let calls = "pwrite64,write,ftruncate,rename,renameat,renameat2,unlink,unlinkat";
    let others = walk(calls, "signal=KILL", |_, _| ());
    println!("killed at {syncs} syncs and at {others} other calls");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_at_any_call_of_a_creation_is_named_and_leaves_what_the_next_run_takes() {
    if !can_inject() {
        return;
    }
    let look = |said: &str, what: &str| {
        if let Some((_, error)) = said.split_once("refused: ") {
            // The file system has room again when the program asks it why SQLite could not open.
            let opened = ["it opens for reading only", "unable to open database file"];
            let named = error.contains("No space left on device");
            assert!(named || opened.iter().any(|words| error.contains(words)), "{what}: {error}");
            assert!(error.contains("store.db"), "{what}: {error}");
        }
    };
    let mut faults = 0;
    for calls in ["pwrite64,write", "fsync,fdatasync", "openat"] {
        for n in 1..40 {
            let folder = TempDir::new().unwrap();
            let output = injected(folder.path(), calls, "error=ENOSPC", n).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let what = format!("ENOSPC at call {n} of {calls}");
            faults += usize::from(said.contains("refused"));
            look(&said, &what);
            expect_next_run_succeeds(folder.path(), &what);
        }
    }
    println!("{faults} faults");
    assert!(faults >= 20, "{faults} faults");
}
