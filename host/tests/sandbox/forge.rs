//! What a plugin says on ways that are the host's own changes no record, neither its own nor another's.

use super::{Place, quality, users};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Output;
use vq_host::plugin::LibraryDescription;
use vq_host::record::{MetricValue, Outcome, Record, Sandbox};
use vq_host::worker::fault::HostFault;
use vq_host::worker::protocol::{Answer, CheckedMethod, Measured, Message, Role};
use vq_host::worker::sandbox;
use vq_plugin_api::handle::Descriptor;

/// Runs the plugin once per act, as `user`, with what it is to say on the host's pipe.
fn forged(
    place: &Place,
    user: Option<u32>,
    acts: &[&str],
    line: Option<&Message>,
) -> (Output, BTreeMap<String, Record>) {
    forged_among(300, place, user, acts, line)
}

/// The same with so many vectors.
fn forged_among(
    vectors: usize,
    place: &Place,
    user: Option<u32>,
    acts: &[&str],
    line: Option<&Message>,
) -> (Output, BTreeMap<String, Record>) {
    let acts: Vec<String> = acts.iter().map(|act| format!("\"{act}\"")).collect();
    let mut sweep = format!(
        "[sweep]\nname = \"s\"\nseeds = [1]\nmetric = \"l2\"\n\
         [run]\nstore = \"results/s.db\"\n\
         [[dataset]]\nname = \"g\"\n\
         synthetic = {{ kind = \"gaussian\", n = {vectors}, dim = 4, seed = 1 }}\n\
         queries = {{ hold_out = 10 }}\n\
         [evaluate]\nk = [1]\npairs = 10\nrerank = [1]\nrepeats = 3\n\
         [[method]]\nuse = \"forge\"\n",
    );
    writeln!(sweep, "params.act = [{}]", acts.join(", ")).unwrap();
    fs::write(place.path("sweep.toml"), sweep).unwrap();
    let run = ["run", "sweep.toml", "--cache-dir", "prepared-rows", "--force", "--threads", "1"];
    let mut command = place.vq_host(&run, &[]);
    if let Some(line) = line {
        command.env("VQ_TEST_LINE", serde_json::to_string(line).unwrap());
    }
    place.become_user(&mut command, user);
    place.finish_by("act", command)
}

fn measured(names: &[&str], block_rows: usize) -> Message {
    let metric = |name: &&str| MetricValue::new(*name, 1.0).unwrap();
    Message::Answer(Box::new(Answer::Measured(Measured {
        metrics: names.iter().map(metric).collect(),
        recalls: Vec::new(),
        block_rows,
        measured_s: 1e-9,
        threads_used: Some(1.0),
        unproven: None,
        notices: Vec::new(),
    })))
}

/// What an engine has no say in.
fn lines() -> Vec<(&'static str, Message)> {
    let answer = |answer| Message::Answer(Box::new(answer));
    let reason = "forged".to_owned();
    let failed = Answer::Failed { outcome: Outcome::Ok, error: reason.clone() };
    vec![
        ("metrics", measured(&["recall@1", "compress_vectors_per_s"], 300)),
        ("a name twice, a huge block", measured(&["recall@1", "recall@1"], usize::MAX)),
        ("a fault of the host", answer(Answer::HostFailed(HostFault::Begin { reason }))),
        ("another library", answer(Answer::Replaced { how: "was forged".to_owned() })),
        ("an end", answer(failed)),
        ("an end of the encoder", Message::Left(Role::Encoder)),
        ("no sandbox", Message::Confined(Sandbox::Off { reason: "forged".to_owned() })),
    ]
}

const GOES_ON: [&str; 6] =
    ["in_fit", "in_compress", "in_load", "in_decompress", "in_destroy", "later"];
const LEAVES: [&str; 5] = [
    "leaves_in_fit",
    "leaves_in_compress",
    "leaves_in_load",
    "leaves_in_decompress",
    "leaves_in_destroy",
];

#[test]
fn a_line_on_the_hosts_pipe_changes_no_record_whatever_it_says() {
    let users = users();
    for (number, &user) in users.iter().enumerate() {
        let Some(place) = Place::new() else { return };
        let (_, honest) = forged(&place, user, &["nothing"], None);
        let honest = &honest["nothing"];
        assert_eq!(honest.outcome, Outcome::Ok, "{:?}", honest.error);
        let acts = [&["nothing"], &GOES_ON[..], &LEAVES[..], &["fails"]].concat();
        // A line is read alike whoever the user is: the users share them out, each in every act.
        for (what, line) in lines().into_iter().skip(number).step_by(users.len()) {
            let (output, records) = forged(&place, user, &acts, Some(&line));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{what}: {said}");
            assert_eq!(records.len(), acts.len(), "{what}: {said}");
            for (act, record) in &records {
                let error = record.error.as_deref().unwrap_or_default();
                assert_eq!(record.sandbox, Some(sandbox::offered()), "{what}, {act}");
                if act == "fails" {
                    assert_eq!(
                        (record.outcome, error),
                        (Outcome::Failed, "fit: it does not want to")
                    );
                } else if LEAVES.contains(&act.as_str()) {
                    assert_eq!(record.outcome, Outcome::Crashed, "{what}, {act}: {error}");
                    assert!(error.contains("ended the process at"), "{what}, {act}: {error}");
                    assert!(!record.metrics.iter().any(|metric| metric.name() == "recall@1"));
                } else {
                    assert_eq!(record.outcome, Outcome::Ok, "{what}, {act}: {error}");
                    assert_eq!(quality(record), quality(honest), "{what}, {act}");
                    assert_eq!(record.proof, honest.proof, "{what}, {act}");
                }
            }
        }
    }
}

#[test]
fn a_reply_that_is_not_the_hosts_own_ends_that_cell_alone() {
    for user in users() {
        let Some(place) = Place::new() else { return };
        let replies =
            ["reply_of_before", "reply_for_each", "reply_half", "reply_giant", "reply_large"];
        let acts = [&["nothing"], &replies[..], &["reply_never"]].concat();
        let (output, records) = forged(&place, user, &acts, None);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), records.len()), (Some(3), acts.len()), "{said}");
        assert_eq!(records["nothing"].outcome, Outcome::Ok);
        for act in replies {
            let error = records[act].error.as_deref().unwrap_or_default();
            assert_eq!(records[act].outcome, Outcome::Invalid, "{act}: {error}");
            assert!(error.starts_with("its process sent "), "{act}: {error}");
        }
        let never = &records["reply_never"];
        assert_eq!(never.outcome, Outcome::Crashed, "{:?}", never.error);
    }
}

/// There are none in a process with a plugin, in whatever call it looks.
#[test]
fn neither_results_nor_names_of_data_lie_in_a_plugins_process() {
    for user in users() {
        let Some(place) = Place::new() else { return };
        let (_, records) = forged(&place, user, &["heap_names", "heap_files"], None);
        for (act, record) in records {
            assert_eq!(record.outcome, Outcome::Ok, "{act}: {:?}", record.error);
        }
    }
}

/// In the C library and in the kernel's page of code that it calls.
#[test]
fn clocks_that_a_plugin_stops_measure_nothing() {
    for user in users() {
        let Some(place) = Place::new() else { return };
        let (_, records) =
            forged(&place, user, &["clock_honest", "clock_libc", "clock_vdso"], None);
        let speed = |act: &str| {
            let record: &Record = &records[act];
            assert_eq!(record.outcome, Outcome::Ok, "{act}: {:?}", record.error);
            let mut speeds = record.metrics.iter().filter(|m| m.name() == "compress_vectors_per_s");
            speeds.next().unwrap().value()
        };
        // In each call it sleeps so long by the system's own clock, whatever this machine is busy with.
        let fastest = 290.0 / 0.003;
        for act in ["clock_honest", "clock_libc", "clock_vdso"] {
            let log = records[act].log.as_deref().unwrap_or_default();
            if act != "clock_honest" && !log.contains("the clock stands still") {
                eprintln!("skipped: {act} cannot be patched here");
            }
            let speed = speed(act);
            assert!(speed < fastest, "{act}: {speed} vectors per second");
        }
    }
}

/// What takes 10 µs for each vector that is new.
#[test]
fn what_is_answered_from_memory_counts_as_long_as_what_is_new() {
    // A tenth of the codes is decoded before, when the decoder shows that it decodes as the encoder does.
    let fastest = 1.2 / 10e-6;
    for user in users() {
        let Some(place) = Place::new() else { return };
        let acts = ["nothing", "remembers_rows", "remembers_calls"];
        let (_, records) = forged_among(20_000, &place, user, &acts, None);
        for act in acts {
            let record = &records[act];
            assert_eq!(record.outcome, Outcome::Ok, "{act}: {:?}", record.error);
            for function in ["compress", "decompress"] {
                let name = format!("{function}_vectors_per_s");
                let speed = record.metrics.iter().find(|m| m.name() == name).unwrap().value();
                let told = record.notices.iter().any(|notice| {
                    notice.starts_with(&format!("{function} took ")) && notice.contains("memory")
                });
                assert_eq!(told, act != "nothing", "{act}: {:?}", record.notices);
                assert_eq!(speed <= fastest, told, "{act}: {function} {speed} vectors per second");
            }
        }
    }
}

/// A check whose kit is forged, by an end or by waiting, still tells what a run would.
#[test]
fn a_forged_check_does_not_pass_where_a_run_is_invalid() {
    for user in users() {
        let Some(place) = Place::new() else { return };
        let clean = Message::Answer(Box::new(Answer::Checked(CheckedMethod {
            method: "forge".to_owned(),
            checks: 999,
            findings: Vec::new(),
            skipped: Vec::new(),
            log: None,
            made: None,
        })));
        for act in ["check_leaves", "check_waits"] {
            let param = format!("act={act}");
            let check = ["check", "plugins/libforge.so", "--param", &param, "--timeout", "5s"];
            let mut command = place.vq_host(&check, &["--format", "json"]);
            command.env("VQ_TEST_LINE", serde_json::to_string(&clean).unwrap());
            place.become_user(&mut command, user);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{act}: {said}");
            let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let method = &told["methods"][0];
            assert!(method["checks"].as_u64() > Some(998), "the forged answer was taken: {told:#}");
            let findings = method["findings"].as_array().unwrap();
            assert!(!findings.is_empty(), "{told:#}");
            for finding in findings {
                assert_eq!(finding["rule"], "measured-as-in-run", "{told:#}");
                let found = finding["found"].as_str().unwrap();
                assert!(found.starts_with("invalid: decompress gave another row"), "{found}");
            }
            let (_, records) = forged(&place, user, &[act], None);
            assert_eq!(records[act].outcome, Outcome::Invalid, "{:?}", records[act].error);
        }
    }
}

/// Of other plugins nothing is lost, and nothing that it says draws on a terminal.
#[test]
fn a_forged_description_is_held_against_what_one_may_be() {
    for user in users() {
        let Some(place) = Place::new() else { return };
        let methods = |line: Option<&Message>, when: &str| {
            let mut command = place.vq_host(&["methods", "--refresh"], &[]);
            if let Some(line) = line {
                command.env("VQ_TEST_LINE", serde_json::to_string(line).unwrap());
            }
            place.become_user(&mut command, user);
            let output = command.env("VQ_TEST_FORGE_AT_LOAD", when).output().unwrap();
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            (text(&output.stdout), text(&output.stderr))
        };
        let honest = described();
        let change = |change: &dyn Fn(&mut LibraryDescription)| {
            let mut of = honest.clone();
            change(&mut of);
            Message::Answer(Box::new(Answer::Described(of)))
        };
        let refused = [
            change(&|of| of.methods.push(of.methods[0].clone())),
            change(&|of| of.methods = vec![of.methods[0].clone(); 300]),
            change(&|of| of.methods[0].id = "a\u{1b}[2Jb".to_owned()),
            change(&|of| of.methods[0].description = "x".repeat(100_000)),
        ];
        // What ends a command where it is true.
        let reason = "forged".to_owned();
        let fault = Answer::HostFailed(HostFault::Begin { reason });
        let other = Answer::Replaced { how: "was forged".to_owned() };
        for answer in [fault, other, Answer::Expanded] {
            let (listed, said) = methods(Some(&Message::Answer(Box::new(answer))), "leaves");
            assert!(said.contains("libforge.so is left out: "), "{said}");
            assert!(listed.contains("trespass") && !listed.contains("forge"), "{listed}");
        }
        for when in ["leaves", "stays"] {
            for line in &refused[..if when == "stays" { 3 } else { 1 }] {
                let (listed, said) = methods(Some(line), when);
                assert!(said.contains("libforge.so is left out: "), "{said}");
                assert!(said.contains("its description cannot be"), "{said}");
                assert!(listed.contains("trespass") && !listed.contains("forge"), "{listed}");
                assert!(!listed.contains('\u{1b}') && !said.contains('\u{1b}'), "{said}");
            }
            let drawn = change(&|of| of.methods[0].name = "forged\u{1b}[2J".to_owned());
            let (listed, said) = methods(Some(&drawn), when);
            assert!(listed.contains("trespass"), "{listed}{said}");
            assert!(!listed.contains('\u{1b}') && !said.contains('\u{1b}'), "{listed}");
        }
        let (listed, said) = methods(None, "");
        assert!(listed.contains("trespass") && listed.contains("forge"), "{listed}{said}");
    }
}

/// A description that could be the plugin's.
fn described() -> LibraryDescription {
    let text = || "forged".to_owned();
    let method = Descriptor {
        id: "forged".to_owned(),
        name: text(),
        version: text(),
        description: text(),
        paper: text(),
        authors: text(),
        license: text(),
        homepage: text(),
        tags: text(),
        needs_training: true,
        deterministic: true,
        thread_safe: true,
        extensions: Vec::new(),
        params: Vec::new(),
    };
    let methods = vec![method];
    LibraryDescription { sdk: text(), abi: (1, 0), layout_checked: false, python: None, methods }
}
