//! Data that is small, odd, replaced or damaged, and a cache without room.

use crate::fixture::{Ended, Site, shipped, workspace};
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};
use vq_host::record::Outcome;

/// Rows of 8 dimensions in the big-ann layout, other ones for another seed.
fn fbin(rows: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = [(rows as u32).to_le_bytes(), 8_u32.to_le_bytes()].concat();
    for _ in 0..rows * 8 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(((state >> 40) as f32 / 1e6).to_le_bytes());
    }
    bytes
}

/// A site with `base.fbin`, `q.fbin` and a sweep over them that ends in `rest`.
fn site(rows: usize, rest: &str) -> Site {
    let site = Site::with(&["cast", "sq"].map(|name| shipped()[name].clone()));
    fs::write(site.path("base.fbin"), fbin(rows, 1)).expect("a site is writable");
    fs::write(site.path("q.fbin"), fbin(5, 2)).expect("a site is writable");
    site.write(
        "s.toml",
        &format!(
            "[run]\nstore = \"results.db\"\nthreads = 1\n\n[[dataset]]\nname = \"d\"\n\
             base = \"base.fbin\"\nqueries = \"q.fbin\"\n{rest}"
        ),
    );
    site
}

const LOSSLESS: &str = "[[method]]\nuse = \"cast\"\nparams.type = \"f32\"\n";
/// Of the configurations of `cast`, so that a test of the data is not one of the method.
const ONE_CELL: [&str; 2] = ["--param", "type=f32"];
const QUICK: &str = "[evaluate]\nk = [1, 10]\nrerank = [1]\npairs = 50\nrepeats = 1\n";

/// Checks that stdout has these words.
#[track_caller]
fn prints(ended: &Ended, words: &str) {
    assert!(ended.stdout.contains(words), "`{words}` is missing in:\n{}", ended.stdout);
}

fn set_time(path: &Path) {
    let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_hours(400_000));
    let file = File::options().append(true).open(path).expect("a file");
    file.set_times(times).expect("a time can be set");
}

#[test]
fn other_rows_of_equal_size_time_and_inode_are_measured() {
    let site = site(500, &format!("{QUICK}{LOSSLESS}"));
    let base = site.path("base.fbin");
    set_time(&base);
    site.vq(&["run", "s.toml"]).expect_code(0);
    fs::write(&base, fbin(500, 3)).expect("a site is writable");
    set_time(&base);
    prints(&site.vq(&["plan", "s.toml"]).expect_code(0), "1 cell, 1 to run");
    site.vq(&["run", "s.toml"]).expect_code(0);
    let recalls: Vec<f64> = site
        .records()
        .iter()
        .map(|record| record.metrics.iter().find(|m| m.name() == "recall@10").expect("one").value())
        .collect();
    assert_eq!(recalls, [1.0, 1.0]);
    // What was there before is known again, wherever it lies and whenever it was written.
    fs::write(&base, fbin(500, 1)).expect("a site is writable");
    site.vq(&["run", "s.toml"]).expect_code(0).says("nothing to run");
}

#[test]
fn a_source_that_changes_under_a_run_ends_it_and_leaves_no_ok() {
    let seeds = "[sweep]\nseeds = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]\n";
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = [1, 2, 3, 4, 5, 6, 7, 8]\n";
    let overwrite = |site: &Site| {
        let file = File::options().write(true).open(site.path("base.fbin")).expect("a file");
        file.write_all_at(&fbin(3000, 3), 0).expect("a write");
    };
    let replace = |site: &Site| {
        fs::write(site.path("new"), fbin(3000, 3)).expect("a site is writable");
        fs::rename(site.path("new"), site.path("base.fbin")).expect("a rename");
    };
    let cut = |site: &Site| {
        let file = File::options().write(true).open(site.path("base.fbin")).expect("a file");
        file.set_len(5000).expect("a cut");
    };
    let remove = |site: &Site| fs::remove_file(site.path("base.fbin")).expect("a file");
    for (change, told) in [
        (&overwrite as &dyn Fn(&Site), "changed"),
        (&replace, "changed"),
        (&cut, "changed"),
        (&remove, "was removed"),
    ] {
        let site = site(3000, "");
        let text = fs::read_to_string(site.path("s.toml")).expect("just written");
        site.write("s.toml", &format!("{seeds}{text}{QUICK}{methods}"));
        let before = fs::read(site.path("base.fbin")).expect("a file");
        let mut run = site.start(&["run", "s.toml"]);
        run.wait_for_cells(2);
        change(&site);
        run.end().expect_code(1).says(&format!("base.fbin {told} since it was prepared"));
        let records = site.records();
        assert!(records.len() < 128, "the run goes on");
        assert!(records.iter().all(|record| record.outcome == Outcome::Ok), "nobody is blamed");
        site.expect_no_scratch();
        // Every record is about the rows that were there: put back, they are not measured again.
        fs::write(site.path("base.fbin"), before).expect("a site is writable");
        let plan = site.vq(&["plan", "s.toml"]).expect_code(0);
        prints(&plan, &format!("128 cells, {} to run", 128 - records.len()));
    }
}

#[test]
fn a_k_above_the_rows_is_told_and_left_out() {
    let rest = "[evaluate]\nk = [1, 10, 100]\nrerank = [1, 10]\npairs = 50\nrepeats = 1\n";
    for rows in [30, 1] {
        let site = site(rows, &format!("{rest}{LOSSLESS}"));
        let above = if rows == 1 { "10, 100" } else { "100" };
        site.vq(&["run", "s.toml"])
            .expect_code(0)
            .says(&format!("metrics of k = {above} are not recorded"));
        let records = site.records();
        let metrics: Vec<&str> = records[0].metrics.iter().map(|m| m.name()).collect();
        assert_eq!(metrics.contains(&"recall@10/rerank=10"), rows == 30);
        assert!(metrics.contains(&"recall_1@1"), "{metrics:?}");
        assert!(!metrics.iter().any(|name| name.contains("@100")), "{metrics:?}");
    }
}

#[test]
fn the_defaults_of_the_command_line_suit_a_small_file() {
    let site = site(30, LOSSLESS);
    for rows in [2, 30, 400, 560] {
        let name = format!("of {rows}\nrows.fbin");
        fs::write(site.path(&name), fbin(rows, 4)).expect("a site is writable");
        let store = format!("{rows}.db");
        let asked = ["run", "--data", &name, "--store", &store, "--method", "cast"];
        let asked = [&asked[..], &ONE_CELL].concat();
        let held = (rows / 10).max(1);
        site.vq(&asked)
            .expect_code(0)
            .says(&format!("a tenth of the {rows} rows ({held}) is held out as queries, not 500"));
        let records = site.records_of(&store);
        assert_eq!(records[0].dataset.queries, held as u64);
        assert_eq!(records[0].dataset.n, (rows - held) as u64);
    }
    fs::write(site.path("one.fbin"), fbin(1, 4)).expect("a site is writable");
    let one = [&["run", "--data", "one.fbin", "--method", "cast"][..], &ONE_CELL].concat();
    site.vq(&one).expect_code(1).says("name a file of queries with --queries FILE");
    site.vq(&[&one[..], &["--queries", "q.fbin"]].concat()).expect_code(0);
    let limited = ["run", "--data", "base.fbin", "--method", "cast"];
    let limited = [&limited[..], &ONE_CELL, &["--limit"]].concat();
    site.vq(&[&limited[..], &["20"]].concat()).expect_code(0).says("(2) is held out");
    site.vq(&[&limited[..], &["1"]].concat()).expect_code(1).says("raise --limit");
}

#[test]
fn rows_to_learn_from_are_kept_apart_and_a_sweep_may_say_otherwise() {
    let rows_of = |rows, train: &str| {
        let site = site(rows, &format!("{train}\n{QUICK}{LOSSLESS}"));
        let ended = site.vq(&["run", "s.toml"]).expect_code(0);
        (site.records()[0].dataset.n, ended)
    };
    for (rows, train, n, said) in [
        (2000, "", 1000, None),
        (2001, "train = { sample = 30 }", 1001, None),
        (2000, "train = { sample = 3000 }", 1000, Some("from all 1000 rows that are kept apart")),
        (2000, "train = { apart = false }", 2000, None),
        (2000, "train = { sample = 30, apart = false }", 2000, None),
        (2000, "train = \"q.fbin\"", 2000, None),
        (2000, "train = \"base.fbin\"", 2000, Some("learn from the rows they are measured on")),
        (1999, "", 1999, Some("1999 rows are too few to keep some apart for training")),
    ] {
        let (found, ended) = rows_of(rows, train);
        assert_eq!(found, n, "{train}");
        let notes = ended.lines("note: d: ").len();
        assert_eq!(notes, usize::from(said.is_some()), "{train}: {}", ended.stderr);
        if let Some(said) = said {
            ended.says(said);
        }
    }
}

#[test]
fn zero_queries_and_queries_that_are_in_the_base_are_counted() {
    let site = site(0, "");
    // Each row twice, so that the other one stays where one is held out.
    let once = fbin(3000, 1);
    let rows = once[8..].chunks(32).flat_map(|row| [row, row].concat());
    let twice = [6000_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat();
    fs::write(site.path("base.fbin"), twice.into_iter().chain(rows).collect::<Vec<u8>>())
        .expect("a site is writable");
    let mut queries = fbin(50, 2);
    queries[8..8 + 32 * 20].fill(0);
    fs::write(site.path("q.fbin"), queries).expect("a site is writable");
    let text = fs::read_to_string(site.path("s.toml")).expect("just written") + LOSSLESS;
    let zeros = "20 of 50 queries are zero: every row of the base is as near to them as any other";
    for (metric, told) in [("l2", false), ("ip", true), ("cosine", true)] {
        site.write("s.toml", &format!("[sweep]\nmetric = \"{metric}\"\n{text}"));
        let ended = site.vq(&["plan", "s.toml"]).expect_code(0);
        assert_eq!(ended.stderr.contains(zeros), told, "{metric}: {}", ended.stderr);
    }
    let held = text.replace("\"q.fbin\"", "{ hold_out = 100 }");
    site.write("s.toml", &held.replace("\nbase", "\ntrain = { apart = false }\nbase"));
    let is_told = |ended: &Ended| {
        ended.lines("note: d: ").iter().any(|note| {
            let count = note.split(' ').nth(2).and_then(|count| count.parse().ok());
            note.ends_with("of 100 queries are identical to a base row")
                && count.is_some_and(|count: usize| (90..=100).contains(&count))
        })
    };
    // The latter are counted while neighbours are sought, which a plan does not do.
    for (verb, told) in [("plan", false), ("run", true), ("run", true), ("plan", true)] {
        let ended = site.vq(&[verb, "s.toml"]).expect_code(0);
        assert_eq!(is_told(&ended), told, "{verb}: {}", ended.stderr);
    }
}

#[test]
fn a_mistake_in_a_file_stands_at_its_key_also_through_links() {
    let site = site(50, "");
    let mut broken = fbin(5, 2);
    broken[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::create_dir(site.path("blobs")).expect("a site is writable");
    fs::write(site.path("blobs/9f86"), broken).expect("a site is writable");
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, site.path(name)).expect("a link");
    };
    link("blobs/9f86", "broken.fbin");
    link("base.fbin", "same.fbin");
    for (base, queries, train, at) in [
        ("base.fbin", "blobs/../broken.fbin", "same.fbin", 6),
        ("same.fbin", "q.fbin", "blobs/../broken.fbin", 7),
        ("blobs/../broken.fbin", "q.fbin", "same.fbin", 5),
    ] {
        site.write(
            "s.toml",
            &format!(
                "[run]\nstore = \"results.db\"\n[[dataset]]\nname = \"d\"\nbase = \"{base}\"\n\
                 queries = \"{queries}\"\ntrain = \"{train}\"\n{LOSSLESS}"
            ),
        );
        site.vq(&["plan", "s.toml"])
            .expect_code(1)
            .says("broken.fbin: row 0, dimension 0 is NaN")
            .says(&format!("[s.toml:{at}:"));
    }
}

#[test]
fn damaged_prepared_data_is_made_again_and_blamed_on_nobody() {
    let site = site(200, &format!("train = {{ sample = 50 }}\n{QUICK}{LOSSLESS}"));
    site.vq(&["run", "s.toml"]).expect_code(0);
    let first = site.records();
    let mut told = 0;
    for folder in ["cache/rows", "cache/truth"] {
        for entry in fs::read_dir(site.path(folder)).expect("a cache") {
            let entry = entry.expect("an entry").path();
            for name in ["rows.f32", "k101"] {
                let Ok(mut bytes) = fs::read(entry.join(name)) else { continue };
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(entry.join(name), bytes).expect("a cache is writable");
                told += 1;
            }
        }
    }
    assert_eq!(told, 2, "the sample and the neighbours");
    site.vq(&["run", "s.toml", "--force"])
        .expect_code(0)
        .says("are damaged (rows.f32: wrong digest) and are made again")
        .says("are damaged (wrong checksum) and are found again");
    let again = site.records();
    assert_eq!(again[0].key, first[0].key);
    let plan = site.vq(&["plan", "s.toml"]).expect_code(0);
    assert!(!plan.stderr.contains("damaged"), "{}", plan.stderr);
}

#[test]
fn a_cache_that_vanishes_under_a_run_is_nobodys_fault_and_the_next_run_goes_on() {
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = [1, 2, 3, 4, 5, 6, 7, 8]\n";
    let site = site(2000, "");
    let text = fs::read_to_string(site.path("s.toml")).expect("just written");
    let seeds = "[sweep]\nseeds = [1, 2, 3]\n";
    let text = text.replace("queries = \"q.fbin\"", "queries = { hold_out = 20 }");
    site.write("s.toml", &format!("{seeds}{text}{QUICK}{methods}"));
    let mut run = site.start(&["run", "s.toml"]);
    run.wait_for_cells(2);
    fs::remove_dir_all(site.path("cache")).expect("a cache");
    run.end().expect_code(1).says("the data of this run cannot be used");
    assert!(site.records().iter().all(|record| record.outcome == Outcome::Ok));
    site.vq(&["run", "s.toml"]).expect_code(0);
    assert_eq!(site.records().len(), 24);
}

#[test]
fn a_full_cache_is_one_clear_line_and_leaves_nothing_half() {
    let site = site(4000, &format!("train = {{ sample = 3000 }}\n{QUICK}{LOSSLESS}"));
    let small = site.path("small");
    fs::create_dir(&small).expect("a site is writable");
    // A file system of its own, which only a namespace of our own lets us make.
    let script = "mount -t tmpfs -o size=64k none small || exit
                  run() { \"$0\" run s.toml --cache-dir small --no-sandbox; echo \"exit $?\"; }
                  run; find small -name '.preparing*'
                  mount -o remount,size=16m small; run";
    let vq = site.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).arg(vq.get_program()).current_dir(site.path(""));
    for (name, value) in vq.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut probe = Command::new("unshare");
    probe.args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]);
    if !probe.output().is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: no small file system can be made here");
        return;
    }
    let ended = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let said = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    let told: Vec<&str> =
        told.lines().filter(|line| line.starts_with("exit") || line.contains("prep")).collect();
    assert_eq!(told, ["exit 1", "exit 0"], "{said}");
    assert!(said.contains("are needed, the disk has") && said.contains("--cache-dir"), "{said}");
}

#[test]
fn the_cache_is_shown_and_cleared() {
    let site = site(200, &format!("train = {{ sample = 50 }}\n{QUICK}{LOSSLESS}"));
    let vq = |arguments: &[&str]| site.vq(arguments).expect_code(0);
    prints(&vq(&["data", "cache"]), "0 entries, 0 B in ");
    site.vq(&["run", "s.toml"]).expect_code(0);
    let shown = site.vq(&["data", "cache"]).expect_code(0);
    for word in ["base.fbin", "q.fbin", "neighbours", "50 × 8", "just now", "4 entries"] {
        prints(&shown, word);
    }
    let json = site.vq(&["data", "cache", "--format", "json"]).expect_code(0).json();
    assert_eq!(json["entries"].as_array().map(Vec::len), Some(4));
    prints(&vq(&["data", "cache", "--clear", "--older-than", "1d"]), "removed 0 B");
    prints(&vq(&["data", "cache", "--clear"]), ": 4 folders");
    prints(&vq(&["data", "cache"]), "0 entries");
    site.vq(&["run", "s.toml"]).expect_code(0).says("nothing to run");
}

#[test]
fn run_takes_files_of_any_format_by_their_names_alone() {
    let site = Site::with(&[shipped()["cast"].clone()]);
    let files = workspace().join("host/tests/foreign/files");
    fs::create_dir(site.path("shards")).expect("a folder");
    for name in ["f4.parquet", "f8.parquet"] {
        fs::copy(files.join(name), site.path("shards").join(name)).expect("a copy");
    }
    let file = |name: &str| files.join(name).display().to_string();
    for (data, rows, queries) in [
        ("shards".to_owned(), 22, 2),
        ("shards/*.parquet".to_owned(), 22, 2),
        (file("f4.feather"), 11, 1),
        (file("f8.arrow"), 11, 1),
        (file("f4.npz"), 11, 1),
        (file("f4.safetensors"), 11, 1),
        (file("f4.hdf5"), 12, 3),
        (file("f2.h5"), 12, 3),
        (file("names.csv"), 11, 1),
        (file("objects.jsonl"), 11, 1),
    ] {
        let store = format!("{}.db", data.replace('/', "_"));
        let asked = ["run", "--data", &data, "--store", &store, "--method", "cast"];
        let ended = site.vq(&[&asked[..], &ONE_CELL].concat()).expect_code(0);
        let records = site.records_of(&store);
        let found = (records[0].dataset.n, records[0].dataset.queries);
        assert_eq!(found, (rows, queries), "{data}: {}", ended.stderr);
        let recall = records[0].metrics.iter().find(|of| of.name() == "recall@10");
        assert_eq!(recall.expect("one").value(), 1.0, "{data}");
    }
    let own = ["run", "--data", &file("f2.h5"), "--method", "cast"];
    site.vq(&[&own[..], &ONE_CELL].concat())
        .expect_code(0)
        .says("the queries are the file's own, `test`")
        .says("the training rows are the file's own, `learn`")
        .says("its file says that its distance is angular, so it is measured by cosine");
    let several = ["run", "--data", &file("several.parquet"), "--method", "cast"];
    site.vq(&several).expect_code(1).says("has several columns of vectors (`first`, `second`)");
    site.write(
        "column.toml",
        &format!(
            "[[dataset]]\nname = \"d\"\nbase = {{ file = {:?}, column = \"second\" }}\n\
             queries = {{ hold_out = 2 }}\n{QUICK}{LOSSLESS}",
            file("several.parquet")
        ),
    );
    site.vq(&["run", "column.toml"]).expect_code(0);
    site.write(
        "list.toml",
        &format!(
            "[[dataset]]\nname = \"d\"\nbase = [\"shards/f8.parquet\", {:?}]\n\
             queries = \"shards/f4*\"\n{QUICK}{LOSSLESS}",
            file("f4.npz")
        ),
    );
    prints(&site.vq(&["run", "list.toml"]).expect_code(0), "d  24 × 5, 12 queries, l2");
    // Of one format, what is called differently is something else.
    let others = site.path("others");
    fs::create_dir(&others).expect("a folder");
    fs::copy(files.join("f4.parquet"), others.join("a.parquet")).expect("a copy");
    fs::copy(files.join("several.parquet"), others.join("b.parquet")).expect("a copy");
    let other = site.vq(&["run", "--data", "others", "--method", "cast"]).expect_code(1);
    other.says("has several columns of vectors");
}
