//! Signals: what runs is recorded as cancelled, the screen is left clean, the code tells which.

use crate::fixture::{MISBEHAVING, Site, shipped, sweep, wait_until};
use crate::pty::Terminal;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::Command;
use vq_host::record::Outcome;

/// One good cell, then one that never ends.
fn site() -> Site {
    let site = Site::with(&[MISBEHAVING.clone(), shipped()["sq"].clone()]);
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = 8\n\n[[method]]\nuse = \"bad_hang\"\n";
    site.write("s.toml", &sweep("[1]", methods));
    site
}

#[test]
fn ctrl_c_restores_the_screen_and_keeps_what_is_finished() {
    let site = site();
    let mut run = Terminal::vq(&site, &["run", "s.toml"], (80, 24));
    run.wait_for("1/2]");
    wait_until("the second cell", || run.seen().now().contains("fit"));
    run.types(b"\x03");
    let seen = run.expect_code(130).restored().never_wrapped();
    assert!(seen.all().contains("interrupted: finished cells are kept"), "{}", seen.all());
    let outcomes: Vec<Outcome> = site.records().iter().map(|record| record.outcome).collect();
    assert!(outcomes.contains(&Outcome::Ok) && outcomes.contains(&Outcome::Cancelled));
    site.expect_no_scratch();
    site.expect_nothing_left();
}

#[test]
fn each_signal_has_its_code_and_leaves_nothing_behind() {
    let plugin = |site: &Site| {
        let file = site.path("plugins").join(MISBEHAVING.file_name().expect("a name"));
        file.to_str().expect("a path in UTF-8").to_owned()
    };
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        let site = site();
        let mut run = site.start(&["run", "s.toml"]);
        run.wait_for_cells(1);
        site.wait_for_workers(|n| n == 3);
        run.signal(signal);
        run.end().expect_code(code).says("interrupted");
        let cancelled = |r: &vq_host::record::Record| r.outcome == Outcome::Cancelled;
        assert!(site.records().iter().any(cancelled));

        let check = site.start(&["check", &plugin(&site), "--method", "bad_hang"]);
        wait_until("a worker", || !site.workers().is_empty());
        check.signal(signal);
        let ended = check.end().expect_code(code).says("interrupted");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        site.expect_no_scratch();
        site.expect_nothing_left();
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let site = site();
    let mut run = site.start(&["run", "s.toml"]);
    run.wait_for_cells(1);
    site.wait_for_workers(|n| n == 3);
    run.signal(Signal::SIGTERM);
    run.signal(Signal::SIGTERM);
    // Whichever comes first: the end in good order, or the one at once.
    run.end().expect_code(143);
    site.expect_nothing_left();
}

/// Has `command` start with `ignored`, as `nohup` and `trap '' SIGNAL` do.
fn ignoring(command: &mut Command, ignored: Signal) -> &mut Command {
    let ignore = move || {
        // SAFETY: no handler is installed, and none of ours is replaced.
        let before = unsafe { signal(ignored, SigHandler::SigIgn) };
        before.map(drop).map_err(std::io::Error::from)
    };
    // SAFETY: signal() may be called between fork and exec.
    unsafe { command.pre_exec(ignore) }
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    for ignored in [Signal::SIGHUP, Signal::SIGINT] {
        let site = site();
        let mut run = crate::fixture::Running::start(ignoring(
            &mut site.command(&["run", "s.toml"]),
            ignored,
        ));
        run.wait_for_cells(1);
        site.wait_for_workers(|n| n == 3);
        run.signal(ignored);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(site.workers().len(), 3, "it goes on");
        run.signal(Signal::SIGTERM);
        run.end().expect_code(143);
    }
}

#[test]
fn a_closed_terminal_ends_a_run_in_good_order_and_under_nohup_not_at_all() {
    let site = site();
    let mut run = Terminal::vq(&site, &["run", "s.toml"], (80, 24));
    run.wait_for("1/2]");
    site.wait_for_workers(|n| n == 3);
    run.close();
    run.expect_code(129);
    assert!(site.records().iter().any(|record| record.outcome == Outcome::Cancelled));
    site.expect_nothing_left();

    let seeds: Vec<String> = (1..=30).map(|seed| seed.to_string()).collect();
    let seeds = format!("[{}]", seeds.join(", "));
    site.write("t.toml", &sweep(&seeds, "[[method]]\nuse = \"sq\"\nparams.bits = 8\n"));
    let inside = site.command(&["run", "t.toml", "--store", "t.db"]);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("trap '' HUP; exec \"$@\"").arg("sh").arg(inside.get_program());
    shell.args(inside.get_args()).current_dir(site.path(""));
    for (name, value) in inside.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let mut run = Terminal::start(&shell, (80, 24));
    run.wait_for("[ 1/30]");
    run.close();
    run.expect_code(0);
    assert_eq!(site.records_of("t.db").len(), 30);
    assert!(site.records_of("t.db").iter().all(|record| record.outcome.is_ok()));
    site.expect_no_scratch();
}

#[test]
fn a_signal_while_data_is_prepared_ends_the_command() {
    let site = site();
    let text = sweep("[1]", "[[method]]\nuse = \"sq\"\n").replace("n = 600", "n = 400000");
    let text = text.replace("\"gauss\"", &format!("\"{}\"", "gauss-".repeat(12)));
    site.write("s.toml", &text.replace("hold_out = 20", "hold_out = 2000"));
    for verb in ["plan", "run"] {
        let mut run = Terminal::vq(&site, &[verb, "s.toml"], (80, 24));
        wait_until("a bar", || run.seen().bytes().contains("░"));
        // The terminal shows the keys behind the bar, which must not wrap.
        let code = if verb == "run" {
            run.types(b"\x03");
            130
        } else {
            kill(Pid::from_raw(run.id()), Signal::SIGTERM).expect("it runs");
            143
        };
        let seen = run.expect_code(code).restored().never_wrapped();
        assert!(seen.all().contains("interrupted"), "{}", seen.all());
        site.expect_nothing_left();
    }
}
