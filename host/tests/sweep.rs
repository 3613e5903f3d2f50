//! `sweep_full.toml` uses every table and form there is. Every folder of `sweep_errors/` holds a
//! sweep with one mistake and what is said about it; `UPDATE_EXPECT=1` writes what is said now.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{GraphicalReportHandler, GraphicalTheme};
use vq_host::submit::SubmitOptions;
use vq_host::sweep::Sweep;

/// As a terminal of 100 columns without colour shows it, causes included.
fn said_about(sweep: &Path) -> String {
    let Err(error) = Sweep::load(sweep) else {
        return "no mistake found\n".to_owned();
    };
    let mut said = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .with_links(false)
        .render_report(&mut said, &error)
        .expect("writing to a String cannot fail");
    let lines: Vec<_> = said.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned() + "\n"
}

#[test]
fn every_mistake_is_said_where_it_is_written() {
    // Relative, as the crate's folder is where its tests run, so that no output names a machine.
    let mut cases: Vec<PathBuf> = fs::read_dir("tests/sweep_errors")
        .expect("the folder of cases")
        .map(|entry| entry.expect("a case").path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for case in &cases {
        let said = said_about(&case.join("sweep.toml"));
        let expected = case.join("expected.txt");
        if update {
            fs::write(&expected, said).expect("the case's folder is writable");
        } else if said != fs::read_to_string(&expected).unwrap_or_default() {
            wrong.push(format!("{}:\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_full_sweep_is_read_without_complaint() {
    let text = fs::read_to_string("tests/sweep_full.toml").expect("the full sweep");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("examples/data");
    fs::create_dir_all(&data).expect("a folder in it");
    fs::write(data.join("glove.fbin"), []).expect("a file in that");
    let sweep = match Sweep::parse("sweep_full.toml", &text, folder.path()) {
        Ok(sweep) => sweep,
        Err(error) => panic!("{:?}", miette::Report::new(error)),
    };
    let submit = SubmitOptions {
        tasks: Some(16),
        account: Some("lab".to_owned()),
        queue: Some("long".to_owned()),
        time: Some(Duration::from_secs(7200)),
        memory: Some(16 << 30),
        cpus: Some(8),
        gpus: Some(1),
        modules: vec!["gcc/13".to_owned()],
        exclusive: true,
        cache: Some(PathBuf::from("/scratch/vq")),
    };
    assert_eq!(sweep.submit, submit);
    let axes: Vec<_> = sweep
        .methods
        .iter()
        .map(|method| (method.id.get_ref().as_str(), method.axes.len()))
        .collect();
    assert_eq!(axes, [("pq", 2), ("rq", 0), ("saq", 1)]);
    assert_eq!(sweep.run.threads, 0);
    assert_eq!(sweep.datasets.len(), 2);
}
