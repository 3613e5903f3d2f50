//! Every metric but the costs is what a program that shares no code with this one computes from the
//! plugins themselves: Python with numpy, in f64, with a loader of its own.
//!
//! `recompute.py` writes four data sets and their sweeps, this test has the binary measure them, and
//! `recompute.py` measures and compares. Where numpy cannot be had the test says so and passes;
//! where `CI` is `true` it fails.

#![cfg(unix)]

#[expect(dead_code, unused_imports, reason = "the fixture serves other targets as well")]
#[path = "../fixture/mod.rs"]
mod fixture;

use fixture::{Site, workspace};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Sweeps, each with a store of its own.
const SWEEPS: [&str; 4] = ["l2", "ip", "cosine", "short"];

fn folder() -> PathBuf {
    workspace().join("host/tests/recompute")
}

fn run(program: &Path, args: &[&str]) -> Result<Output, String> {
    let output = Command::new(program)
        .args(args)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!(
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// A Python that has numpy: the system's, or one that is made here, once for all tests.
fn python() -> Result<PathBuf, String> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(find_python).clone()
}

fn find_python() -> Result<PathBuf, String> {
    let has_numpy = |python: &Path| run(python, &["-c", "import numpy"]).is_ok();
    let system = PathBuf::from("python3");
    if has_numpy(&system) {
        return Ok(system);
    }
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recompute-venv");
    let python = made.join("bin/python");
    if !has_numpy(&python) {
        run(&system, &["-m", "venv", "--clear", &made.display().to_string()])?;
        let wanted = folder().join("requirements.txt").display().to_string();
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(&python, &[&install[..], &["--requirement", &wanted]].concat())?;
    }
    Ok(python)
}

#[test]
fn what_is_recorded_is_what_numpy_computes_from_the_plugins_themselves() {
    let python = match python() {
        Ok(python) => python,
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{why}"),
        Err(why) => return eprintln!("skipped: there is no numpy to recompute with: {why}"),
    };
    let site = Site::shipped();
    let script = folder().join("recompute.py").display().to_string();
    let data = site.path("").display().to_string();
    run(&python, &[&script, "data", &data]).unwrap();
    let mut records = Vec::new();
    for sweep in SWEEPS {
        site.vq(&["run", &format!("{sweep}.toml")]).expect_code(0);
        let results = site.vq(&["results", &format!("{sweep}.db"), "--format", "json"]);
        let Value::Array(of) = results.expect_code(0).json() else { panic!("a list of records") };
        records.extend(of);
    }
    site.write("records.json", &Value::Array(records).to_string());
    match run(&python, &[&script, "check", &data]) {
        Ok(compared) => println!("{}", String::from_utf8_lossy(&compared.stdout)),
        Err(wrong) => panic!("{wrong}"),
    }
}

#[test]
fn what_inspect_says_of_files_is_what_numpy_says() {
    let python = match python() {
        Ok(python) => python,
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{why}"),
        Err(why) => return eprintln!("skipped: there is no numpy to look with: {why}"),
    };
    let site = Site::with(&[]);
    let script = folder().join("facts.py").display().to_string();
    let data = site.path("").display().to_string();
    run(&python, &[&script, "data", &data]).unwrap();
    let files = ["odd.npy", "unit.npy", "bytes.npy", "two.npy"];
    let ask = ["data", "inspect", "--format", "json"];
    let said = site.vq(&[&ask[..], &files].concat()).expect_code(0).json();
    assert_eq!(said.as_array().map(Vec::len), Some(files.len()));
    site.write("inspect.json", &said.to_string());
    run(&python, &[&script, "check", &data]).unwrap();
}
