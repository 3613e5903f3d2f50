//! Every verb in terminals of every size.

use crate::fixture::{Site, ZLATTICE, shipped, sweep};
use crate::pty::{Seen, Terminal};

const SIZES: [(u16, u16); 4] = [(60, 15), (80, 24), (100, 30), (200, 50)];
/// Longer than some terminals are wide.
const LONG: &str = "a-data-set-with-quite-a-long-name-that-says-a-lot-about-it";

const METHODS: &str = "[[method]]\nuse = \"sq\"\nparams.bits = [4, 8]\n\n\
     [[method]]\nuse = \"cast\"\nparams.type = [\"f16\", \"fp8_e4m3\"]\n";

fn site(seeds: &str) -> Site {
    let site = Site::with(&[shipped()["sq"].clone(), shipped()["cast"].clone(), ZLATTICE.clone()]);
    site.write("s.toml", &sweep(seeds, METHODS).replace("\"gauss\"", &format!("\"{LONG}\"")));
    site
}

/// The lines about finished cells.
fn results(seen: &Seen) -> Vec<String> {
    seen.all().lines().filter(|line| line.starts_with('[')).map(str::to_owned).collect()
}

#[test]
fn the_main_job_fits_every_terminal_and_leaves_it_clean() {
    for size in SIZES {
        let site = site("[1, 2]");
        let run = Terminal::vq(&site, &["run", "s.toml", "--jobs", "2"], size);
        let seen = run.expect_code(0).never_wrapped().restored();
        let lines = results(&seen);
        assert_eq!(lines.len(), 8, "{size:?}\n{}", seen.all());
        for line in &lines {
            let named = line.contains(" sq ") || line.contains(" cast ");
            assert!(named && line.ends_with(" s"), "{size:?}: {line}");
            assert_eq!(line.contains('…'), size.0 < 140, "{size:?}: {line}");
            // Configurations have `bits` too.
            let rate = [" b/d ", "bits/dim "].iter().any(|name| line.contains(name));
            assert!(rate || size.0 < 72, "{size:?}: {line}");
        }
        assert!(seen.bytes().contains("cells  elapsed"), "the whole run has a bar");
        assert!(seen.bytes().contains('░'), "bars are drawn");
        assert!(seen.all().contains("recall@10 ≥ 0.9"), "{}", seen.all());
        // Nothing left alone: a second table would repeat the heads that name its rows.
        let all = seen.all();
        let heads = all.lines().filter(|l| l.starts_with("method ") && l.contains("configuration"));
        assert_eq!(heads.count(), 1, "{all}");
    }
}

#[test]
fn every_other_verb_fits_every_terminal() {
    let site = site("[1, 2]");
    site.vq(&["run", "s.toml"]).expect_code(0);
    let library = site.path("plugins").join(ZLATTICE.file_name().expect("a name"));
    let library = library.to_str().expect("a path in UTF-8");
    // Names in the sweep of this site are longer than a line.
    site.write("typo.toml", &sweep("[1]", "[[method]]\nuse = \"sq\"\nparams.bitz = [4, 8]\n"));
    let verbs: [(&[&str], u32); 10] = [
        (&["plan", "s.toml"], 0),
        (&["plan", "s.toml", "--only", "nothing of this kind"], 1),
        (&["run", "s.toml"], 0),
        (&["run", "typo.toml"], 1),
        (&["methods"], 0),
        (&["methods", "sq"], 0),
        (&["results", "results.db"], 0),
        (&["compare", "results.db", "results.db"], 0),
        (&["plot", "results.db", "--terminal"], 0),
        (&["check", library], 0),
    ];
    for size in SIZES {
        for (verb, code) in verbs {
            let seen = Terminal::vq(&site, verb, size).expect_code(code).restored();
            // Paths stay whole, for they are copied.
            let folder = site.path("");
            let paths = seen.all().contains(folder.to_str().expect("a path in UTF-8"));
            if !(paths && size.0 < 100) {
                seen.never_wrapped();
            }
        }
    }
}

#[test]
fn a_terminal_that_changes_its_size_keeps_every_result() {
    let seeds: Vec<String> = (1..=10).map(|seed| seed.to_string()).collect();
    let site = site(&format!("[{}]", seeds.join(", ")));
    let run = Terminal::vq(&site, &["run", "s.toml"], (100, 30));
    run.wait_for("[ 3/40]");
    run.resize((80, 15));
    run.wait_for("[20/40]");
    run.resize((120, 40));
    let seen = run.expect_code(0).restored();
    assert_eq!(results(&seen).len(), 40, "{}", seen.all());
}

#[test]
fn data_is_prepared_under_a_bar_in_run_and_plan() {
    // A plan seeks no neighbours.
    for (verb, stage) in [("run", "gauss: find neighbours"), ("plan", "gauss: read base")] {
        let site = site("[1]");
        // Long enough to be seen.
        let text = sweep("[1]", METHODS).replace("n = 600", "n = 120000");
        site.write("s.toml", &text.replace("hold_out = 20", "hold_out = 500"));
        let seen =
            Terminal::vq(&site, &[verb, "s.toml", "--only", "bits=4"], (80, 24)).expect_code(0);
        assert!(seen.bytes().contains(stage), "{verb}: {}", seen.bytes());
        assert_eq!(seen.bytes().contains("find neighbours"), verb == "run", "{}", seen.bytes());
        assert!(!seen.bytes().contains("  :"), "{verb}: {}", seen.bytes());
        assert!(!seen.all().contains("find neighbours"), "{}", seen.all());
        assert!(!site.vq(&["plan", "s.toml"]).expect_code(0).stderr.contains("preparing"));
    }
}

#[test]
fn a_dumb_terminal_gets_lines_and_no_escapes() {
    let site = site("[1]");
    let mut command = site.command(&["run", "s.toml"]);
    command.env("TERM", "dumb");
    let seen = Terminal::start(&command, (80, 24)).expect_code(0).never_wrapped();
    assert!(!seen.bytes().contains('\u{1b}'), "{}", seen.bytes());
    assert!(!seen.bytes().contains('░'));
    assert_eq!(results(&seen).len(), 4);
}

#[test]
fn no_color_means_no_colour() {
    let site = site("[1]");
    // Colour is of the form ESC [ … m.
    let coloured = |bytes: &str| {
        bytes.split("\u{1b}[").skip(1).any(|rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
        })
    };
    for (arguments, code) in [(["run", "s.toml"], 0), (["run", "missing.toml"], 1)] {
        let mut command = site.command(&arguments);
        let plain = Terminal::start(command.env("NO_COLOR", "1"), (80, 24)).expect_code(code);
        assert!(!coloured(&plain.bytes()), "{arguments:?}: {}", plain.bytes());
        let seen = Terminal::vq(&site, &arguments, (80, 24)).expect_code(code);
        assert!(coloured(&seen.bytes()), "{arguments:?}: {}", seen.bytes());
    }
}
