//! Every folder of `plan_errors/` holds a sweep with one mistake, its files, and what
//! `vq-host run` says about it; `UPDATE_EXPECT=1` writes what is said now.

use crate::fixture::{Site, shipped};
use std::fs;
use std::path::PathBuf;

#[test]
fn every_mistake_ends_the_run_before_anything_trains_and_is_said_where_it_is_written() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/plan_errors");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("a case").path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 10, "{cases:?}");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    // One site for all: none of them makes anything but prepared data.
    // Only these plugins, so that a new one changes no list of what is found.
    let site = Site::with(&["cast", "pq", "sq"].map(|name| shipped()[name].clone()));
    let plugin = fs::read(&shipped()["sq"]).expect("a plugin");
    let digest = blake3::hash(&plugin).to_hex().to_string();
    for case in &cases {
        for entry in fs::read_dir(case).expect("a case") {
            let file = entry.expect("a file").path();
            fs::copy(&file, site.path(&file.file_name().expect("a name").to_string_lossy()))
                .expect("a site is writable");
        }
        let ended = site.vq(&["run", "sweep.toml"]).expect_code(1);
        assert_eq!(ended.stdout, "", "{}", case.display());
        assert!(!site.path("results").exists(), "{} makes a store", case.display());
        // Preparing data, what is said of it and what this kernel cannot enforce are told, and are
        // not the mistake.
        let aside = |line: &str| line.starts_with("preparing ") || line.starts_with("note: ");
        let lines = ended.stderr.lines().filter(|line| !aside(line));
        let said = lines.map(str::trim_end).collect::<Vec<_>>().join("\n");
        let folder = site.path("").display().to_string();
        let said = said.replace(&folder, "").replace(&digest, "[digest]").trim().to_owned() + "\n";
        assert!(said.contains("sweep.toml:"), "{} has no place:\n{said}", case.display());
        let expected = case.join("expected.txt");
        if update {
            fs::write(&expected, said).expect("the case's folder is writable");
        } else if said != fs::read_to_string(&expected).unwrap_or_default() {
            wrong.push(format!("{}:\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
