//! `vq-host new`: each language's project builds, keeps the contract and is measured with the
//! very commands that are printed; what cannot be is refused and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a test fails where a promise is broken")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const HOST: &str = env!("CARGO_BIN_EXE_vq-host");
/// The checkout's SDK.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-api");
/// The versions this workspace is tested with: with them nothing is downloaded.
const LOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");

fn vq_host(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(HOST);
    command.current_dir(folder).args(args);
    command.env("VQ_CACHE_DIR", folder.join("cache")).env("NO_COLOR", "1");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails with all that was said unless it ended well; answers stdout.
#[track_caller]
fn expect_ok(what: &str, output: &Output) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}\n{err}", output.status);
    out
}

fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// 900 rows of 8 dimensions that look random.
fn write_fbin(path: &Path) {
    let (n, d) = (900_u32, 8_u32);
    let value = |i: u32| ((i.wrapping_mul(2_654_435_761) >> 8) & 0xFFFF) as f32 / 65_536.0 - 0.5;
    let mut bytes = [n.to_le_bytes(), d.to_le_bytes()].concat();
    bytes.extend((0..n * d).flat_map(|i| value(i).to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

/// Makes a project with `args`, then does what is printed, and measures a file of ours.
fn follow_the_printed_steps(args: &[&str], prepare: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let said = expect_ok("new", &vq_host(folder, &[&["new", "my-method"], args].concat()));
    let project = folder.join("my-method");
    prepare(&project);

    let steps: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    // With `vq-host new` itself these are fewer than ten.
    assert!((5..9).contains(&steps.len()), "{said}");
    let mut shell = Command::new("sh");
    shell.current_dir(folder).arg("-ec").arg(steps.join("\n"));
    shell.env("VQ_CACHE_DIR", folder.join("cache")).env_remove("CARGO_TARGET_DIR");
    // As in docs.rs: the crates that all depend on are compiled already.
    shell.env("CARGO_BUILD_BUILD_DIR", Path::new(HOST).ancestors().nth(2).unwrap());
    let out = expect_ok(&said, &shell.output().unwrap());
    assert!(out.contains("my-method: keeps the contract ("), "{out}");
    assert!(project.join("results").join("my-method.db").exists(), "{out}");

    let library = steps.iter().find_map(|step| step.strip_prefix("cp ")).unwrap();
    let library = library.split(' ').next().unwrap();
    let checked = vq_host(&project, &["check", library, "--format", "json"]);
    let checked: serde_json::Value = serde_json::from_str(&expect_ok("check", &checked)).unwrap();
    let method = &checked["methods"][0];
    assert_eq!(method["id"], "my-method", "{checked}");
    assert_eq!(method["findings"], serde_json::json!([]), "{checked}");

    write_fbin(&project.join("rows.fbin"));
    let run = "run --data rows.fbin --method my-method --param step=0.05,0.1 --store own.db";
    let mut run: Vec<&str> = run.split(' ').collect();
    run.extend(["--format", "json"]);
    let measured = expect_ok("run --data", &vq_host(&project, &run));
    let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
    let text = measured.to_string();
    assert_eq!(text.matches(r#""outcome":"ok""#).count(), 2, "{measured:#}");
}

#[test]
fn a_new_rust_project_builds_passes_and_is_measured_as_printed() {
    follow_the_printed_steps(&["--api", SDK], |project| {
        fs::copy(LOCK, project.join("Cargo.lock")).unwrap();
    });
}

#[test]
fn a_new_c_project_builds_passes_and_is_measured_as_printed() {
    if !exists("make") || !exists("cc") {
        return println!("skipped: make or cc is not installed");
    }
    follow_the_printed_steps(&["--lang", "c"], |project| no_warnings(project, "CFLAGS"));
}

#[test]
fn a_new_cpp_project_builds_passes_and_is_measured_as_printed() {
    if !exists("make") || !exists("c++") {
        return println!("skipped: make or c++ is not installed");
    }
    follow_the_printed_steps(&["--lang", "c++"], |project| no_warnings(project, "CXXFLAGS"));
}

/// The project compiles where warnings are errors.
fn no_warnings(project: &Path, flags: &str) {
    let make = |args: &[&str]| Command::new("make").current_dir(project).args(args).output();
    expect_ok("make", &make(&[&format!("{flags}=-O2 -Werror")]).unwrap());
    expect_ok("make clean", &make(&["clean"]).unwrap());
}

/// What is said on stderr, on one line and without the frame.
fn complaint(output: &Output) -> String {
    let plain = text(&output.stderr).replace(['│', '×', '╰', '─', '▶'], " ");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (args, code, said) in [
        (&["new", "My Method"][..], 1, "it begins with 'M' help: try `my-method`"),
        (&["new", ""], 1, "it is empty"),
        (&["new", "a/b"], 1, "the folder with --path DIR"),
        (&["new", "plugin-api"], 1, "its crate would be vq-plugin-api"),
        (&["new", "mine", "--api", "nowhere"], 1, "no folder that holds vq-plugin-api"),
        (&["new", "mine", "--lang", "c", "--api", SDK], 1, "--api is for Rust"),
        (&["new", "mine", "--lang", "python", "--api", SDK], 1, "--api is for Rust"),
        (&["new", "mine", "--lang", "pascal"], 2, "[possible values: rust, c, c++, python]"),
        (&["new"], 2, "NAME"),
    ] {
        let output = vq_host(folder, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(complaint(&output).contains(said), "{args:?}: {}", complaint(&output));
        assert_eq!(text(&output.stdout), "", "{args:?}");
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("taken")).unwrap();
    fs::write(folder.join("file"), "mine").unwrap();
    for args in [&["new", "taken"][..], &["new", "other", "--path", "file"]] {
        let output = vq_host(folder, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = complaint(&output);
        assert!(said.contains("exists already") && said.contains("--path DIR"), "{said}");
    }
    assert_eq!(fs::read_dir(folder.join("taken")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "mine");
}

#[test]
fn the_folder_may_be_elsewhere_and_names_the_method_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let args = ["new", "my-method", "--lang", "c", "--path", "some where/else"];
    let said = expect_ok("new", &vq_host(folder, &args));
    assert!(said.contains("  cd 'some where/else'\n"), "{said}");
    let source = fs::read_to_string(folder.join("some where/else/my_method.c")).unwrap();
    assert!(source.contains(r#".id = TEXT("my-method")"#), "{source}");
}

#[test]
fn a_rust_project_names_the_sdk_as_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let dependency = |name: &str, args: &[&str]| {
        expect_ok("new", &vq_host(folder, &[&["new", name], args].concat()));
        let manifest = fs::read_to_string(folder.join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        manifest["dependencies"]["vq-plugin-api"].clone()
    };
    let by_folder = dependency("by-folder", &["--api", SDK]);
    let expected = fs::canonicalize(SDK).unwrap();
    assert_eq!(by_folder["path"].as_str().map(Path::new), Some(&*expected));
}

#[test]
fn away_from_any_checkout_a_rust_project_asks_for_the_release_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().join("vq-host");
    fs::copy(HOST, &host).unwrap();
    let output = Command::new(host).current_dir(folder.path()).args(["new", "mine"]).output();
    let output = output.unwrap();
    expect_ok("new", &output);
    assert!(complaint(&output).contains("--api DIR names a checkout"), "{}", complaint(&output));
    let manifest = fs::read_to_string(folder.path().join("mine/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let sdk = &manifest["dependencies"]["vq-plugin-api"];
    assert!(sdk["git"].is_str() && sdk["tag"].is_str(), "{sdk}");
}
