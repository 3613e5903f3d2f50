//! What the documents say is what the code does, as far as a machine can tell.

use std::path::{Path, PathBuf};
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
        ("rust", sources(&["examples/zlattice/src/lib.rs", "plugin-api/tests/author.rs"])),
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
