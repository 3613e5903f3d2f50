//! The `vq-host` program: parses, runs one verb, turns errors into messages and exit codes.

mod cli;
mod cmd;

use clap::Parser;
use cmd::{interrupt, say};
use std::process::ExitCode;

fn main() -> ExitCode {
    // The child's side of run, plan, methods and check: not for people, and in a hurry.
    if let Some(lent) = vq_host::worker::work::asked_for(std::env::args_os()) {
        return vq_host::worker::work::main(&lent);
    }
    let verb = cli::Cli::parse().verb;
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
