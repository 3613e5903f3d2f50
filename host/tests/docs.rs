//! What the documents say is what the code does, as far as a machine can tell.

use std::env::consts::DLL_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::Command;
use vq_host::metric::{METRICS, MetricInfo, info};
use vq_host::sweep::Sweep;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The fenced blocks of `text` in this `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => {
                found.extend(open.take().filter(|(wanted, _)| *wanted).map(|(_, block)| block));
            }
            (Some(named), None) => open = Some((named == language, String::new())),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

#[test]
fn every_metric_is_explained_and_every_explained_metric_exists() {
    let text = read("docs/metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let explained: Vec<(&str, &str)> = rows.filter(|(name, _)| !name.starts_with('/')).collect();
    for MetricInfo { name, .. } in METRICS {
        let times = explained.iter().filter(|(explained, _)| explained == name).count();
        assert_eq!(times, 1, "docs/metrics.md explains `{name}` {times} times");
    }
    for (name, rest) in explained {
        let example = name.replace("{k}", "10").replace("{r}", "4");
        let listed = info(&example).unwrap_or_else(|| panic!("there is no metric `{name}`"));
        let arrow = match listed.higher_is_better() {
            Some(true) => "↑",
            Some(false) => "↓",
            None => "",
        };
        assert!(rest.starts_with(&format!(" | {arrow}")), "`{name}` is better the other way");
    }
}

#[test]
fn the_sweeps_in_the_reference_are_valid() {
    let sweeps = blocks(&read("docs/sweep.md"), "toml");
    let whole = sweeps.iter().filter(|block| block.contains("[[dataset]]"));
    let read = whole.map(|text| match Sweep::parse("docs/sweep.md", text, &root()) {
        Ok(sweep) => sweep.methods.len(),
        Err(error) => panic!("{error}\n{text}"),
    });
    assert_eq!(read.collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn the_code_in_the_guide_is_that_of_the_examples() {
    let guide = read("docs/adding-a-method.md");
    let sources = |paths: &[&str]| paths.iter().map(|path| read(path)).collect::<Vec<_>>();
    let languages = [
        ("toml", sources(&["examples/zlattice/Cargo.toml", "examples/residual/Cargo.toml"])),
        (
            "rust",
            sources(&[
                "examples/zlattice/src/lib.rs",
                "examples/residual/src/lib.rs",
                "examples/rabitq/src/lib.rs",
            ]),
        ),
        ("c", sources(&["examples/c-sq8/c_sq8.c"])),
    ];
    for (language, sources) in languages {
        let shown = blocks(&guide, language);
        assert!(!shown.is_empty(), "the guide shows no {language}");
        for block in shown {
            let copied = sources.iter().any(|source| source.contains(&block));
            assert!(copied, "not in an example:\n{block}");
        }
    }
}

/// Each block of commands in `guide` and the example it is run in: the last one named before it.
fn commands(guide: &str) -> Vec<(String, String)> {
    let mut rest = guide;
    let mut found = Vec::new();
    let mut example = "";
    for block in blocks(guide, "sh") {
        let (before, after) = rest.split_once(&block).expect("a block of the guide");
        if let Some((_, named)) = before.rsplit_once("`examples/") {
            example = named.split('`').next().unwrap_or_default();
        }
        found.push((example.to_owned(), block));
        rest = after;
    }
    found
}

#[cfg(unix)]
#[test]
fn the_commands_in_the_guide_work_in_the_examples() {
    use std::os::unix::fs::symlink;
    // A copy of the repository in which only the examples are real: they leave files behind. Always in the same
    // place, as cargo tells crates of different folders apart and keeps what it made of each.
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide");
    if copy.exists() {
        std::fs::remove_dir_all(&copy).unwrap();
    }
    let place_all = |folder: &str, apart_from: &[&str]| {
        std::fs::create_dir_all(copy.join(folder)).unwrap();
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let (name, from) = entry.map(|e| (e.file_name(), e.path())).unwrap();
            let to = copy.join(folder).join(&name);
            match name.to_string_lossy() {
                name if apart_from.iter().any(|end| name.ends_with(end)) => {}
                _ if from.is_dir() => symlink(from.canonicalize().unwrap(), to).unwrap(),
                _ => std::fs::copy(from, to).map(|_| ()).unwrap(),
            }
        }
    };
    let examples = ["zlattice", "residual", "rabitq", "c-sq8"];
    place_all("", &["examples", "target", ".git"]);
    place_all("examples", &examples);
    // The crates of this repository where they are: other tests' examples are built with them too.
    let here = format!("path = \"{}/", root().canonicalize().unwrap().display());
    for example in examples.map(|name| format!("examples/{name}")) {
        place_all(&example, &["target", "plugins", "results", DLL_SUFFIX]);
        let manifest = copy.join(example).join("Cargo.toml");
        if let Ok(text) = std::fs::read_to_string(&manifest) {
            std::fs::write(&manifest, text.replace("path = \"../../", &here)).unwrap();
        }
    }
    let host = Path::new(env!("CARGO_BIN_EXE_vq-host")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(host.to_owned()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(path).unwrap();
    let commands = commands(&read("docs/adding-a-method.md"));
    let places: Vec<&str> = commands.iter().map(|(example, _)| example.as_str()).collect();
    assert_eq!(places, ["zlattice", "residual", "rabitq", "c-sq8"]);
    for (example, block) in &commands {
        if example == "c-sq8" && Command::new("cc").arg("--version").output().is_err() {
            println!("skipped: there is no C compiler");
            continue;
        }
        let mut shell = Command::new("sh");
        shell.current_dir(copy.join("examples").join(example)).args(["-exc", block]);
        shell.env("PATH", &path).env("VQ_CACHE_DIR", copy.join("cache"));
        // The crates that all depend on are compiled already.
        shell.env("CARGO_BUILD_BUILD_DIR", host.parent().unwrap());
        let output = shell.env_remove("CARGO_TARGET_DIR").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "in examples/{example}:\n{block}\n{said}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        documents.push(format!("docs/{}", entry.unwrap().file_name().to_string_lossy()));
    }
    for document in documents.iter().filter(|name| name.ends_with(".md")) {
        let text = read(document);
        let folder = root().join(document).parent().unwrap().to_owned();
        for after in text.split("](").skip(1) {
            let target = after.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{document} links to {target}");
            }
        }
    }
}
