//! Files of formats that a confined child parses: `files/` has some that each format's own tools
//! wrote (`write.py`), whole ones give their rows, damaged ones an error in one line, whatever the
//! damage.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its place has failed")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

/// Rows and dimensions of every file.
const ROWS: usize = 12;
const DIM: usize = 5;
/// Damaged variants of each format.
const VARIANTS: usize = 200;

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/files")
}

/// The rows of `write.py`, of floats or of one of its integers.
fn expected(element: &str) -> Vec<f32> {
    let raw = (0..ROWS * DIM).map(|at| ((7 * (at / DIM) + 3 * (at % DIM)) % 11) as f32);
    match element {
        "u1" => raw.collect(),
        "i1" => raw.map(|x| x - 5.0).collect(),
        _ => raw.map(|x| (x - 5.0) / 2.0).collect(),
    }
}

/// A folder, blind to the machine's own cache and plugins.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn vq(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vq-host"))
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("VQ_CACHE_DIR")
            .env_remove("XDG_CACHE_HOME")
            .env("HOME", self.0.path())
            .output()
            .unwrap()
    }

    /// The f32 rows that `from` is converted to, and how many dimensions they have.
    fn rows(&self, from: &str, table: Option<&str>) -> Result<(usize, Vec<f32>), String> {
        let mut arguments = vec!["data", "convert", from, "out.fbin"];
        arguments.extend(table.iter().flat_map(|name| ["--table", name]));
        let ended = self.vq(&arguments);
        if !ended.status.success() {
            return Err(text(&ended.stderr));
        }
        let bytes = fs::read(self.path("out.fbin")).unwrap();
        let dim = u32::from_le_bytes(*bytes[4..].first_chunk().unwrap()) as usize;
        Ok((dim, bytes[8..].as_chunks().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect()))
    }
}

/// On one line, however wide the terminal was thought to be.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

fn at(name: &str) -> String {
    files().join(name).display().to_string()
}

#[test]
fn what_each_formats_own_tools_wrote_is_read_to_the_last_bit() {
    let place = Place::new();
    let whole = [
        ("f4.parquet", "f4"),
        ("f8.parquet", "f8"),
        ("f2.parquet", "f2"),
        ("u1.parquet", "u1"),
        ("i1.parquet", "i1"),
        ("f4.feather", "f4"),
        ("f2.arrow", "f2"),
        ("f8.arrow", "f8"),
        ("u1.arrow", "u1"),
        ("f4.npz", "f4"),
        ("f2.npz", "f2"),
        ("f8.npz", "f8"),
        ("i1.npz", "i1"),
        ("f4.safetensors", "f4"),
        ("f2.safetensors", "f2"),
        ("u1.safetensors", "u1"),
        ("f4.hdf5", "f4"),
        ("f2.h5", "f2"),
        ("i1.hdf5", "i1"),
        ("f8.h5", "f8"),
        ("names.csv", "text"),
        ("plain.tsv", "text"),
        ("arrays.jsonl", "text"),
        ("objects.jsonl", "text"),
    ];
    for (name, element) in whole {
        assert_eq!(place.rows(&at(name), None), Ok((DIM, expected(element))), "{name}");
        let looked = place.vq(&["data", "inspect", &at(name), "--format", "json"]);
        let found: Value = serde_json::from_slice(&looked.stdout).unwrap();
        assert_eq!(found[0]["element"], element, "{name}");
        assert_eq!((&found[0]["rows"], &found[0]["dim"]), (&ROWS.into(), &DIM.into()), "{name}");
    }
}

#[test]
fn a_table_is_found_by_its_name_or_asked_for() {
    let place = Place::new();
    let first = place.rows(&at("several.parquet"), Some("first"));
    assert_eq!(first, Ok((DIM, expected("f4"))));
    assert_eq!(place.rows(&at("group.h5"), None), Ok((DIM, expected("f4"))), "the only matrix");
    assert_eq!(place.rows(&at("f8.h5"), Some("of/emb")), Ok((DIM, expected("f8"))));
    let queries: Vec<f32> = expected("f4").chunks(DIM).take(3).rev().flatten().copied().collect();
    assert_eq!(place.rows(&at("f4.hdf5"), Some("test")), Ok((DIM, queries)));
    for (name, table, words) in [
        ("several.parquet", None, "has several columns of vectors (`first`, `second`)"),
        ("none.parquet", None, "empty data, 0×0"),
        ("several.parquet", Some("third"), "has no column `third`; it has `first`, `second`"),
        ("f4.npz", Some("ids"), "ids: "),
        ("f4.safetensors", Some("bias"), "`bias` has the shape [5]"),
        ("f4.hdf5", Some("neighbors"), "`neighbors` holds i32"),
        ("f4.hdf5", Some("none"), "has no table `none`"),
    ] {
        let error = place.rows(&at(name), table).unwrap_err();
        assert!(error.contains(words), "{name} {table:?}: {error}");
    }
}

/// Words of a file of neighbours: queries, neighbours of each, then their rows.
fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|raw| u32::from_le_bytes(*raw)).collect()
}

#[test]
fn published_neighbours_are_held_against_the_exact_ones() {
    let place = Place::new();
    let truth = |base: &str, more: &[&str]| {
        let ended = place.vq(&[&["data", "truth", base, "t.ibin", "--k", "4"], more].concat());
        assert!(ended.status.success(), "{}", text(&ended.stderr));
        (text(&ended.stderr), text(&ended.stdout), fs::read(place.path("t.ibin")).unwrap())
    };
    let (notes, said, bytes) = truth(&at("f4.hdf5"), &[]);
    let right = "the neighbours in `neighbors` of its file are right: an exact search found the same \
                 for all 3 queries";
    assert!(notes.contains(right), "{notes}");
    assert!(notes.contains("the queries are the file's own, `test`"), "{notes}");
    assert_eq!(said, "wrote 4 exact neighbours by l2 of 3 queries to t.ibin");
    // The queries are the rows 2, 1 and 0: each is its own nearest one, and 11 rows later comes again.
    let found = words(&bytes);
    assert_eq!(found[..2], [3, 4]);
    assert_eq!([found[2], found[6], found[10]], [2, 1, 0]);
    assert_eq!(found[11], 11, "of equally near rows the first stands first");
    assert_eq!(f32::from_bits(found[14]), 0.0);
    assert_eq!(found.len(), 2 + 2 * 12);

    // One neighbour of the last query is another row, in the very bytes of the file.
    let mut lying = fs::read(files().join("f4.hdf5")).unwrap();
    let lists = &bytes[8..8 + 48];
    let begin = lying.windows(48).position(|of| of == lists).unwrap();
    let far = (0..12).find(|row| !found[10..14].contains(row)).unwrap();
    lying[begin + 44..begin + 48].copy_from_slice(&far.to_le_bytes());
    fs::write(place.path("lying.hdf5"), lying).unwrap();
    let (notes, _, again) = truth("lying.hdf5", &[]);
    let wrong = "the neighbours in `neighbors` of its file are wrong for 1 of 3 queries (first for \
                 query 2): those of an exact search are used";
    assert!(notes.contains(wrong), "{notes}");
    assert_eq!(again, bytes, "what is used is the same");

    // What was written is right, and wrong by another distance.
    fs::copy(place.path("t.ibin"), place.path("gt.ibin")).unwrap();
    let (notes, ..) = truth(&at("i1.hdf5"), &["--neighbours", "gt.ibin"]);
    assert!(notes.contains("gt.ibin are right"), "{notes}");
    let (notes, said, _) = truth(&at("f2.h5"), &[]);
    assert!(notes.contains("its distance is angular, so it is measured by cosine"), "{notes}");
    assert!(notes.contains("are wrong for") && said.contains("by cosine"), "{notes} {said}");
    let (notes, ..) = truth(&at("f2.h5"), &["--metric", "l2"]);
    assert!(!notes.contains("are wrong for"), "they are not by l2, says the file: {notes}");

    let all = place.vq(&["data", "truth", &at("f4.hdf5"), "t.npy", "--k", "99"]);
    assert!(all.status.success(), "{}", text(&all.stderr));
    let length = fs::metadata(place.path("t.npy")).unwrap().len();
    assert_eq!(length, 128 + 3 * 12 * 4, "all rows, where k is more");
    let none = place.vq(&["data", "truth", &at("f8.h5"), "t.ibin"]);
    assert!(text(&none.stderr).contains("has no queries of its own"), "{}", text(&none.stderr));
}

#[test]
fn nothing_is_written_over_what_it_is_made_from_and_where_it_cannot_be_nothing_is_sought() {
    let place = Place::new();
    fs::copy(files().join("f4.npz"), place.path("a.npz")).unwrap();
    assert!(place.vq(&["data", "convert", "a.npz", "a.fbin"]).status.success());
    std::os::unix::fs::symlink("a.fbin", place.path("link.fbin")).unwrap();
    fs::copy(files().join("f4.hdf5"), place.path("gt.ibin")).unwrap();
    let base = at("f4.hdf5");
    let truth = ["data", "truth", &base];
    for (line, words) in [
        (
            &["data", "convert", "a.fbin", "./a.fbin"][..],
            "a.fbin is one of the files that are read",
        ),
        (
            &["data", "sample", "a.fbin", "link.fbin", "--rows", "2"],
            "link.fbin is one of the files",
        ),
        (&[&truth[..], &["gt.ibin", "--neighbours", "gt.ibin"]].concat(), "gt.ibin is one of the"),
        (&[&truth[..], &["t.txt"]].concat(), "neighbours are not written as `.txt`"),
        (&[&truth[..], &["nowhere/t.ibin"]].concat(), "write nowhere/t.ibin"),
    ] {
        let ended = place.vq(line);
        let told = text(&ended.stderr);
        assert!(!ended.status.success() && told.contains(words), "{line:?}: {told}");
    }
    let same = place.rows("a.fbin", None);
    assert_eq!(same, Ok((DIM, expected("f4"))));
    assert!(!place.path(".cache").exists(), "rows were prepared");
}

#[test]
fn a_sample_has_so_many_rows_in_their_order_and_is_the_same_again() {
    let place = Place::new();
    let sample = |from: &str, rows: &str| {
        let ended = place.vq(&["data", "sample", from, "s.fbin", "--rows", rows]);
        assert!(ended.status.success(), "{}", text(&ended.stderr));
        fs::read(place.path("s.fbin")).unwrap()
    };
    // Each row is found behind the one before it.
    let all = expected("f4");
    for rows in ["1", "5", "11"] {
        let bytes = sample(&at("f8.parquet"), rows);
        assert_eq!(bytes, sample(&at("f4.npz"), rows), "the same rows of the same number");
        let mut left = all.chunks(DIM);
        let picked: Vec<f32> = words(&bytes[8..]).into_iter().map(f32::from_bits).collect();
        assert_eq!(picked.len(), rows.parse::<usize>().unwrap() * DIM);
        assert!(picked.chunks(DIM).all(|row| left.any(|of| of == row)), "{picked:?}");
    }
    assert_eq!(sample(&at("f4.npz"), "100")[8..].len(), ROWS * DIM * 4);
}

#[test]
fn rows_that_are_no_matrix_are_named() {
    let place = Place::new();
    for (name, words) in [
        ("ragged.parquet", "row 2 has 1 dimensions, the rows before it have 2"),
        ("ragged.feather", "row 2 has 1 dimensions, the rows before it have 2"),
        ("null.parquet", "row 1, dimension 1 is NaN"),
        ("null.feather", "row 1, dimension 1 is NaN"),
        ("huge.h5", "1000000000×1000 in"),
    ] {
        let error = place.rows(&at(name), None).unwrap_err();
        assert!(error.contains(name) && error.contains(words), "{name}: {error}");
    }
    for name in ["gaps.parquet", "gaps.feather"] {
        let error = place.rows(&at(name), None).unwrap_err();
        assert!(error.contains("row 0, dimension 0 is NaN"), "{name}: {error}");
        let looked = place.vq(&["data", "inspect", &at(name), "--format", "json"]);
        let found: Value = serde_json::from_slice(&looked.stdout).unwrap();
        let numbers = ["rows", "dim", "not_finite"].map(|key| found[0][key].as_u64());
        assert_eq!(numbers, [Some(6), Some(2), Some(3)], "{name}");
    }
    let deep = "[".repeat(100_000);
    for (name, content, words) in [
        ("a.csv", "1,2\n3,x\n", "line 2: `x` in column 2 is no number"),
        ("b.csv", "1,2\n3\n", "row 1 has 1 dimensions"),
        ("c.jsonl", "[1,2]\n[3,\"x\"]\n", "line 2: value 2 is no number"),
        ("d.jsonl", &deep, "line 1 is no JSON"),
        ("e.csv", "a,b\n", "empty data, 0×0"),
        ("f.jsonl", "{\"a\":\"b\"}\n", "which are lists of numbers; it has `a` (a text)"),
    ] {
        fs::write(place.path(name), content).unwrap();
        let error = place.rows(name, None).unwrap_err();
        assert!(error.contains(words), "{name}: {error}");
    }
}

#[test]
fn a_file_that_asks_for_a_terabyte_ends_its_own_process_alone() {
    let place = Place::new();
    let mut bytes = fs::read(files().join("f4.feather")).unwrap();
    // A compressed buffer begins with the length of what is in it.
    let length = (ROWS * DIM * 4) as u64;
    let words = bytes.as_chunks_mut::<8>().0;
    let place_of = words.iter().position(|word| u64::from_le_bytes(*word) == length).unwrap();
    words[place_of] = (1_u64 << 40).to_le_bytes();
    fs::write(place.path("bomb.feather"), bytes).unwrap();
    let error = place.rows("bomb.feather", None).unwrap_err();
    let words = "the process that reads it ran out of memory, within the limit of 2.0 GiB";
    assert!(error.contains(words), "{error}");
}

#[test]
fn shards_are_one_data_set_in_the_order_of_their_names() {
    let place = Place::new();
    fs::create_dir(place.path("shards")).unwrap();
    for name in ["b.parquet", "a.parquet", "c.parquet"] {
        fs::copy(files().join("f4.parquet"), place.path("shards").join(name)).unwrap();
    }
    fs::copy(files().join("f8.parquet"), place.path("shards/b.parquet")).unwrap();
    fs::write(place.path("shards/README.md"), "three").unwrap();
    let three = expected("f4").repeat(3);
    assert_eq!(place.rows("shards", None), Ok((DIM, three.clone())));
    assert_eq!(place.rows("shards/?.parquet", None), Ok((DIM, three)));
    assert_eq!(place.rows("shards/[ab].parquet", None), Ok((DIM, expected("f4").repeat(2))));
    let limited = place.vq(&["data", "convert", "shards", "some.npy", "--limit", "13"]);
    assert!(limited.status.success(), "{}", text(&limited.stderr));
    assert_eq!(fs::metadata(place.path("some.npy")).unwrap().len(), 128 + 13 * DIM as u64 * 4);
    fs::copy(files().join("none.parquet"), place.path("shards/aa.parquet")).unwrap();
    assert_eq!(place.rows("shards", None), Ok((DIM, expected("f4").repeat(3))), "none has no row");
    fs::copy(files().join("ragged.parquet"), place.path("shards/d.parquet")).unwrap();
    let error = place.rows("shards", None).unwrap_err();
    assert!(error.contains("d.parquet: 2 dimensions, the files before it have 5"), "{error}");
}

/// Numbers that are the same on every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % n
    }
}

/// One of many ways to damage `whole`.
fn damaged(whole: &[u8], how: usize, draw: &mut Draw) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let place = draw.below(bytes.len());
    match how % 5 {
        0 => bytes.truncate(place),
        1 => bytes[place] ^= 1 << draw.below(8),
        // A count or an offset that lies.
        2 | 3 => {
            let lies: [&[u8]; 6] = [
                &[0xff; 4],
                &[0xff; 8],
                &[0; 4],
                &[0xff, 0xff, 0xff, 0x7f],
                &[0x80; 9],
                b"99999999",
            ];
            for (byte, lie) in bytes[place..].iter_mut().zip(lies[draw.below(lies.len())]) {
                *byte = *lie;
            }
        }
        // A part that stands twice, or is gone.
        _ => {
            let end = (place + 1 + draw.below(32)).min(bytes.len());
            match draw.below(2) {
                0 => drop(bytes.drain(place..end)),
                _ => {
                    let part = bytes[place..end].to_vec();
                    bytes.splice(place..place, part);
                }
            }
        }
    }
    bytes
}

#[test]
fn no_damage_does_more_than_end_in_an_error() {
    let formats: [&[&str]; 6] = [
        &["f4.parquet", "f8.parquet", "f2.parquet", "u1.parquet"],
        &["f4.feather", "f2.arrow", "f8.arrow", "u1.arrow"],
        &["f4.npz", "f2.npz", "i1.npz"],
        &["f4.safetensors", "u1.safetensors"],
        &["f4.hdf5", "f2.h5", "i1.hdf5"],
        &["names.csv", "objects.jsonl", "arrays.jsonl", "plain.tsv"],
    ];
    let place = Place::new();
    let mut names = Vec::new();
    for (format, of) in formats.into_iter().enumerate() {
        let mut draw = Draw(format as u64);
        let whole: Vec<Vec<u8>> =
            of.iter().map(|name| fs::read(files().join(name)).unwrap()).collect();
        for variant in 0..VARIANTS {
            let which = variant % of.len();
            let bytes = damaged(&whole[which], variant / of.len(), &mut draw);
            let name = format!("{variant:03}-{}", of[which]);
            fs::write(place.path(&name), bytes).unwrap();
            names.push(name);
        }
    }
    let (place, half) = (&place, names.len() / 2);
    let ended: Vec<Output> = thread::scope(|scope| {
        let inspect = |names: &[String]| {
            let mut arguments = vec!["data", "inspect", "--format", "json"];
            arguments.extend(names.iter().map(String::as_str));
            place.vq(&arguments)
        };
        let (first, second) = names.split_at(half);
        let other = scope.spawn(move || inspect(first));
        vec![inspect(second), other.join().unwrap()]
    });
    let mut told = BTreeSet::new();
    let mut refused = String::new();
    for ended in ended {
        assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
        let found: Value = serde_json::from_slice(&ended.stdout).unwrap();
        for of in found.as_array().unwrap() {
            told.insert(of["file"].as_str().unwrap().to_owned());
        }
        refused += &text(&ended.stderr);
    }
    for host in ["panicked at", "no confined process", "RUST_BACKTRACE"] {
        assert!(!refused.contains(host), "{host}: {refused}");
    }
    let silent: Vec<&String> =
        names.iter().filter(|name| !told.contains(*name) && !refused.contains(*name)).collect();
    assert!(silent.is_empty(), "neither read nor refused: {silent:?}");
    // Bits of a value may change and stay numbers; most damage is found.
    assert!(told.len() < names.len() / 2, "{} of {} were read", told.len(), names.len());
}
