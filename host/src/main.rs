//! The `vq-host` binary: parses, runs one verb, turns errors into messages and exit codes.

mod cli;
mod cmd;

use clap::Parser;
use std::io::{ErrorKind, IsTerminal};
use std::process::ExitCode;

fn main() -> ExitCode {
    let verb = cli::Cli::parse().verb;
    if matches!(verb, cli::Verb::Worker) {
        return vq_host::worker::work::main();
    }
    // Wide enough to read, narrow enough for any terminal; links would litter pipes.
    let _ = miette::set_hook(Box::new(|_| {
        let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let options = miette::MietteHandlerOpts::new().width(100).terminal_links(false);
        Box::new(if color { options } else { options.color(false) }.build())
    }));
    match cmd::dispatch(verb) {
        Ok(code) => code,
        Err(report) => {
            let broken_pipe = report.chain().any(|cause| {
                cause
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
            });
            if broken_pipe {
                // Whoever read our output has seen enough, as in `vq-host results | head`.
                return ExitCode::SUCCESS;
            }
            eprintln!("{report:?}");
            ExitCode::from(cmd::COULD_NOT_START)
        }
    }
}
