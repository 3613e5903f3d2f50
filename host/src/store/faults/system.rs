//! What the system refuses, and what earlier processes left behind.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rusqlite::OpenFlags;
use tempfile::TempDir;

use super::{several, usual};
use crate::record::Record;
use crate::store::files::beside;
use crate::store::row::{Known, insert_record};
use crate::store::schema::MIGRATIONS;
use crate::store::tests::{all, fresh, said};
use crate::store::{OpenError, Reader, Store};

#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_refused_and_not_waited_for() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    let mut paths = vec![PathBuf::from("/dev/null")];
    if Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
        paths.push(pipe);
    }
    for path in paths {
        for error in [Store::open(&path).unwrap_err(), Store::open_read_only(&path).unwrap_err()] {
            assert!(error.to_string().contains("is not a regular file"), "{error}");
        }
        assert!(!beside(&path, ".lock").exists());
    }
}

#[test]
fn a_full_disk_is_named_and_loses_nothing_that_was_stored() {
    let (_folder, path, mut store) = fresh();
    let records = several();
    store.insert(&records[0]).unwrap();
    store.connection.execute_batch("PRAGMA max_page_count = 20").unwrap();
    let mut large = usual(7);
    large.log = Some("x".repeat(200_000));
    let refused = store.insert(&large).unwrap_err();
    assert!(refused.is_full_disk());
    let error = said(&refused);
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("store.db"), "{error}");
    store.connection.execute_batch("PRAGMA max_page_count = 100000").unwrap();
    store.insert(&large).unwrap();
    store.insert(&records[1]).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(all(&store).len(), 3);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn what_a_killed_creation_and_an_earlier_store_left_behind_is_cleaned_up() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    fs::write(beside(&path, ".creating"), "half a sto").unwrap();
    fs::write(beside(&path, ".lock"), "4242\n").unwrap();
    // The journal of a store that was removed, and not its journal with it.
    let (_other, other, mut store) = fresh();
    store.connection.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
    let mut known = Known::load(&store.connection).unwrap();
    for i in 0..50 {
        let record = Record { log: Some("x".repeat(4000)), ..usual(i) };
        insert_record(&store.connection, &mut known, 1, &record).unwrap();
    }
    fs::copy(beside(&other, "-journal"), beside(&path, "-journal")).unwrap();
    store.known = None;
    drop(Store::open(&path).unwrap());
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["store.db"]);
    assert_eq!(all(&Store::open_read_only(&path).unwrap()), []);
    assert_eq!(Store::open(&path).unwrap().check().unwrap(), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_makes_the_store_where_it_leads() {
    let folder = TempDir::new().unwrap();
    let (link, file) = (folder.path().join("link.db"), folder.path().join("far/away/store.db"));
    std::os::unix::fs::symlink("far/away/store.db", &link).unwrap();
    let store = Store::open(&link).unwrap();
    assert!(matches!(Store::open(&file), Err(OpenError::Locked { .. })));
    drop(store);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(all(&Store::open_read_only(&file).unwrap()), []);
}

#[test]
fn two_that_make_one_store_make_one_and_the_other_is_told() {
    let folder = TempDir::new().unwrap();
    for round in 0..20 {
        let path = folder.path().join(format!("{round}.db"));
        let start = std::sync::Barrier::new(4);
        let ended: Vec<_> = std::thread::scope(|scope| {
            let open = || {
                start.wait();
                let store = Store::open(&path);
                start.wait();
                store.map(|_| ())
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ended.iter().filter(|made| made.is_ok()).count(), 1, "{ended:?}");
        let refused = ended.iter().filter(|made| matches!(made, Err(OpenError::Locked { .. })));
        assert_eq!(refused.count(), 3, "{ended:?}");
        assert_eq!(all(&Store::open_read_only(&path).unwrap()), []);
    }
}

/// Opened only for reading, SQLite cannot roll back.
#[test]
fn a_reader_that_may_not_write_rolls_a_killed_writer_back_in_a_copy() {
    let (folder, path, mut store) = fresh();
    let kept = usual(0);
    store.insert(&kept).unwrap();
    store.connection.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
    let mut known = Known::load(&store.connection).unwrap();
    for i in 1..50 {
        let record = Record { log: Some("x".repeat(4000)), ..usual(i) };
        insert_record(&store.connection, &mut known, 1, &record).unwrap();
    }
    let copy = folder.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::copy(beside(&path, "-journal"), beside(&copy, "-journal")).unwrap();
    let before = fs::read(&copy).unwrap();
    let reader = Reader::connect(copy.clone(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let error = reader.schema_version().unwrap_err();
    assert!(matches!(error, OpenError::Sqlite { .. }), "{error:?}");
    let (reader, found) = reader.rolled_back_elsewhere().expect("a copy");
    assert_eq!((found, all(&reader)), (MIGRATIONS.len(), vec![kept]));
    assert_eq!(fs::read(&copy).unwrap(), before);
}

#[test]
fn what_the_system_refuses_is_said_in_its_words() {
    let folder = TempDir::new().unwrap();
    let error = said(&Store::open_read_only(folder.path()).unwrap_err());
    assert!(error.to_lowercase().contains("is a directory"), "{error}");
    fs::write(folder.path().join("file"), "x").unwrap();
    let error = said(&Store::open(folder.path().join("file/store.db")).unwrap_err());
    assert!(error.contains("Not a directory") || error.contains("File exists"), "{error}");
    // Even root may not make files here.
    let error = said(&Store::open("/proc/store.db").unwrap_err());
    assert!(error.contains("/proc/store.db.lock`: No such file or directory"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn who_holds_the_file_is_named() {
    if Command::new("sqlite3").arg("-version").output().is_err() {
        println!("skipped: there is no sqlite3 program to hold the file");
        return;
    }
    let (_folder, path, mut store) = fresh();
    let mut other = Command::new("sqlite3")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = other.stdin.take().unwrap();
    stdin.write_all(b"BEGIN EXCLUSIVE;\nSELECT 'begun';\n").unwrap();
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(other.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    store.connection.busy_timeout(Duration::from_millis(20)).unwrap();
    let error = store.insert(&usual(0)).unwrap_err().to_string();
    assert!(error.contains(&format!("(process {})", other.id())), "{error}");
    drop(stdin);
    other.wait().unwrap();
    store.insert(&usual(0)).unwrap();
}
