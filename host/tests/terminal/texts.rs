//! What a plugin says is shown and never obeyed; its log lines are shown where one looks for them.

use crate::fixture::build::compile_c;
use crate::fixture::{Site, sweep, workspace};
use std::fs;

/// The example in C, whose every text wants to draw: on the screen, in colour, backwards.
fn drawing() -> Option<Site> {
    let source = workspace().join("examples/c-sq8/c_sq8.c");
    let mut text = fs::read_to_string(source).expect("the example in C");
    let mut edit = |old: &str, new: &str| {
        assert!(text.contains(old), "the example no longer says `{old}`: adapt the test");
        text = text.replacen(old, new, 1);
    };
    let evil = r#"\033[31mred\033[0m \033]0;title\007 \033[2J\nline\r \302\233 \342\200\256gnp"#;
    for old in [
        "SQ8 in C",
        "8-bit scalar quantization per dimension, an example in C",
        "scalar, example",
        "Part of each dimension's training range that the 256 levels span.",
    ] {
        edit(&format!("TEXT(\"{old}\")"), &format!("TEXT(\"{evil}\")"));
    }
    edit(
        "  const vq_str stage = TEXT(\"ranges\");\n",
        &format!(
            "  const vq_str stage = TEXT(\"{evil}\");\n  \
             ctx->log(ctx->host, VQ_LOG_INFO, (vq_str)TEXT(\"told {evil}\"));\n  \
             if (train.dim == 16) return fail(err, VQ_ERROR, \"failed {evil}\");\n"
        ),
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("drawing.c");
    fs::write(&source, text).expect("a temporary folder is writable");
    let plugin = compile_c(&source, &workspace().join("plugin-api/include"), "libdrawing")?;
    let site = Site::with(&[plugin]);
    site.write("s.toml", &sweep("[1]", "[[method]]\nuse = \"c_sq8\"\n"));
    Some(site)
}

#[track_caller]
fn expect_plain(what: &[&str], text: &str) {
    let drawn = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
    let found = text.chars().find(drawn);
    assert!(found.is_none(), "{what:?} writes {found:?}:\n{}", text.escape_debug());
}

#[test]
fn no_verb_lets_a_plugin_draw_on_the_terminal() {
    let Some(site) = drawing() else { return };
    let library = site.path("plugins/libdrawing.so");
    let library = library.to_str().expect("a path in UTF-8");
    site.vq(&["run", "s.toml"]).expect_code(3);
    let verbs: [&[&str]; 13] = [
        &["methods"],
        &["methods", "-v"],
        &["methods", "c_sq8"],
        &["methods", "\u{1b}[31m"],
        &["plan", "s.toml"],
        &["run", "s.toml", "--force"],
        &["results", "results.db"],
        &["results", "results.db", "-v"],
        &["compare", "results.db", "results.db"],
        &["plot", "results.db", "--terminal"],
        &["export", "results.db", "--format", "markdown"],
        &["export", "results.db", "--format", "jsonl"],
        &["check", library],
    ];
    for verb in verbs {
        let ended = site.vq(verb);
        expect_plain(verb, &ended.stdout);
        expect_plain(verb, &ended.stderr);
    }
}

#[test]
fn check_and_verbose_results_show_what_a_method_logged() {
    let Some(site) = drawing() else { return };
    let library = site.path("plugins/libdrawing.so");
    let check = site.vq(&["check", library.to_str().expect("a path in UTF-8")]);
    assert!(check.stdout.contains("log: info: told "), "{}", check.stdout);
    assert!(check.stdout.contains(" times)"), "the same line once:\n{}", check.stdout);
    site.vq(&["run", "s.toml"]).expect_code(3);
    let results = site.vq(&["results", "results.db", "--verbose"]).expect_code(0).stdout;
    for part in ["    log     info: told ", "    cause   ", "    sandbox ", "    plugin  c_sq8"] {
        assert!(results.contains(part), "`{part}` is missing in:\n{results}");
    }
    let brief = site.vq(&["results", "results.db"]).expect_code(0).stdout;
    assert!(!brief.contains("told "), "{brief}");
}
