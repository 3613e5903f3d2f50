//! `vq-host check`: holds a library against the contract, in a child process.

use super::{CANCEL, COULD_NOT_START, SOME_FAILED, note_sandbox};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use vq_host::report::results::Format;
use vq_host::worker::ask;
use vq_host::worker::protocol::{Answer, Checked};

pub(super) fn check(args: &cli::Check) -> miette::Result<ExitCode> {
    let file = args.file.canonicalize().map_err(|error| {
        miette!(help = "give the path of a built library", "{}: {error}", args.file.display())
    })?;
    let sandbox = !args.no_sandbox;
    note_sandbox(sandbox);
    let about = ask::describe(&file, sandbox, &CANCEL).map_err(|refusal| {
        miette!(help = refusal.remedy, "{} cannot be used: {}", args.file.display(), refusal.reason)
    })?;
    let terminal = std::io::stderr().is_terminal();
    let mut doing = String::new();
    let checked = ask::check(&file, args.timeout, sandbox, &CANCEL, &mut |what, _| {
        doing = what.to_owned();
        if terminal {
            eprint!("\r\x1b[K{what}");
        }
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    let mut out = std::io::stdout().lock();
    let checked = match checked {
        Ok(checked) => checked,
        Err(ended) => {
            let (Answer::Failed { error, .. }, log) = (ended.answer, ended.log) else {
                return Err(miette!("the worker answered another question"));
            };
            let plugin = args.file.display();
            match args.format {
                Format::Json => {
                    let json = serde_json::json!({ "plugin": plugin.to_string(), "ended": error, "doing": doing });
                    writeln!(out, "{json}").into_diagnostic()?;
                }
                _ => {
                    writeln!(out, "{plugin}: error: {error}").into_diagnostic()?;
                    writeln!(out, "  while doing: {doing}").into_diagnostic()?;
                    writeln!(out, "  contract: no input may end the process or take for ever")
                        .into_diagnostic()?;
                    if let Some(log) = log {
                        writeln!(out, "  {}", log.replace('\n', "\n  ")).into_diagnostic()?;
                    }
                }
            }
            return Ok(ExitCode::from(SOME_FAILED));
        }
    };
    match args.format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &checked).into_diagnostic()?;
            writeln!(out).into_diagnostic()?;
        }
        Format::Csv => return Err(miette!("check has no CSV form; use --format table or json")),
        Format::Table => {
            let layout =
                if about.layout_checked { "layout compared" } else { "layout by size only" };
            writeln!(
                out,
                "{}: {}, ABI {}.{}, {layout}",
                args.file.display(),
                about.sdk,
                about.abi.0,
                about.abi.1
            )
            .into_diagnostic()?;
            show(&checked, &mut out).into_diagnostic()?;
        }
    }
    let errors = checked.methods.iter().flat_map(|m| &m.findings).filter(|f| f.severity == "error");
    Ok(match (errors.count(), checked.methods.is_empty()) {
        (0, false) => ExitCode::SUCCESS,
        (0, true) => ExitCode::from(COULD_NOT_START),
        _ => ExitCode::from(SOME_FAILED),
    })
}

fn show(checked: &Checked, out: &mut dyn Write) -> std::io::Result<()> {
    for method in &checked.methods {
        let errors = method.findings.iter().filter(|f| f.severity == "error").count();
        let warnings = method.findings.len() - errors;
        let verdict = match (errors, warnings) {
            (0, 0) => "keeps the contract".to_owned(),
            (0, w) => format!("keeps the contract, {w} warnings"),
            (e, w) => format!("{e} broken rules, {w} warnings"),
        };
        writeln!(out, "\n{}: {verdict} ({} checks)", method.method, method.checks)?;
        for finding in &method.findings {
            writeln!(out, "  {} {}: {}", finding.severity, finding.rule, finding.found)?;
            writeln!(out, "    in        {}", finding.function)?;
            writeln!(out, "    input     {}", finding.input)?;
            writeln!(out, "    contract  {}", finding.contract)?;
        }
        for skipped in &method.skipped {
            writeln!(out, "  not checked: {skipped}")?;
        }
    }
    Ok(())
}
