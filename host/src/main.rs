//! The `vq-host` binary: parses, runs one verb, turns errors into messages and exit codes.

mod cli;
mod cmd;

use clap::Parser;
use cmd::{interrupt, say};
use std::process::ExitCode;

fn main() -> ExitCode {
    let verb = cli::Cli::parse().verb;
    if matches!(verb, cli::Verb::Worker) {
        return vq_host::worker::work::main();
    }
    say::install_error_style();
    match cmd::dispatch(verb) {
        Ok(code) => code,
        Err(report) => {
            if let Some(code) = interrupt::exit_code() {
                interrupt::say_so("interrupted");
                return code;
            }
            say::clear();
            say::error(&report);
            ExitCode::from(cmd::COULD_NOT_START)
        }
    }
}
