//! `vq-host check`: holds a library against the contract, each method in a child process.

use super::interrupt::CANCEL;
use super::{SOME_FAILED, not_interrupted, note_sandbox, on_screen, say};
use crate::cli;
use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, miette};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use vq_host::output;
use vq_host::plugin::LibraryDescription;
use vq_host::report::results::Format;
use vq_host::report::{fit, plain};
use vq_host::suggest;
use vq_host::sweep::parameter;
use vq_host::trial::{Trial, TrialError};
use vq_host::worker::ask::{self, CheckError};
use vq_host::worker::protocol::{Checked, CheckedMethod, Step};
use vq_host::worker::supervise::Limits;
use vq_plugin_api::conformance::Skip;
use vq_plugin_api::handle::Descriptor;
use vq_plugin_api::params::{self, Config};

/// Of what a method said; the JSON form has more.
const LAST_LINES: usize = 10;
/// A person reads no faster.
const SHOW_EVERY: Duration = Duration::from_millis(50);

pub(super) fn check(args: &cli::Check) -> miette::Result<ExitCode> {
    if matches!(args.format, Format::Csv) {
        return Err(miette!("check has no CSV form; use --format table or json"));
    }
    let file = args.file.canonicalize().map_err(|error| {
        miette!(help = "give the path of a built library", "{}: {error}", args.file.display())
    })?;
    let sandbox = !args.no_sandbox;
    note_sandbox(sandbox);
    let about = ask::describe(&file, sandbox, &CANCEL);
    not_interrupted()?;
    let about = about?.map_err(|refusal| {
        miette!(help = refusal.remedy, "{} cannot be used: {}", args.file.display(), refusal.reason)
    })?;
    let limits = Limits {
        timeout: args.timeout,
        own_time: None,
        memory: Some(args.memory.as_u64()),
        threads: 2,
        scratch: args.scratch.as_u64(),
        sandbox,
    };
    let status = say::bars().map(|bars| bars.add(ProgressBar::no_length()));
    if let Some(status) = &status {
        status.set_style(ProgressStyle::with_template("{msg}").into_diagnostic()?);
    }
    let mut checked = Checked { methods: Vec::new() };
    let chosen = chosen(&about, &args.method)?;
    let fixed = fixed(&chosen, &args.param)?;
    let trial = Trial::prepare(&file, &limits, &CANCEL);
    not_interrupted()?;
    let trial = trial.map_err(trial_fault)?;
    for descriptor in chosen {
        let method = &descriptor.id;
        let mut shown: Option<Instant> = None;
        let mut show = |step: &Step| {
            if let Some(status) = &status
                && shown.is_none_or(|at| at.elapsed() > SHOW_EVERY)
            {
                let text = plain(&format!("{method}: {}", step.rule));
                status.set_message(fit(&text, say::columns().saturating_sub(1)));
                shown = Some(Instant::now());
            }
        };
        let mut done = ask::check(&file, method, fixed.clone(), &limits, &CANCEL, &mut show);
        if let Ok(report) = &mut done
            && let Err(error) = trial.of(descriptor, &fixed, &mut show, report)
        {
            done = Err(error);
        }
        if let Some(status) = &status {
            status.finish_and_clear();
        }
        match done {
            Ok(report) => checked.methods.push(report),
            Err(CheckError::Interrupted) => return Err(miette!("interrupted")),
            Err(CheckError::Host(fault)) => return Err(fault.into()),
            Err(CheckError::Worker(error)) => {
                return Err(miette!("{method} cannot be checked: {error}"));
            }
        }
    }
    let mut out = say::out();
    match args.format {
        Format::Json => {
            output::write(&output::check(&checked), &mut out).into_diagnostic()?;
        }
        _ => {
            let layout =
                if about.layout_checked { "layout compared" } else { "layout by size only" };
            let (file, sdk, abi) = (args.file.display(), &about.sdk, about.abi);
            let line = format!("{file}: {sdk}, ABI {}.{}, {layout}", abi.0, abi.1);
            writeln!(out, "{}", on_screen(&line, 2)).into_diagnostic()?;
            show(&checked, &mut out).into_diagnostic()?;
        }
    }
    out.flush().into_diagnostic()?;
    let mut findings = checked.methods.iter().flat_map(|m| &m.findings);
    let broken = findings.any(|finding| finding.severity == "error");
    Ok(if broken { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
}

fn trial_fault(error: TrialError) -> miette::Report {
    match error {
        TrialError::Host(fault) => fault.into(),
        error => miette!("{error}"),
    }
}

/// The methods that the user named, in the library's order; all where none is named.
fn chosen<'a>(
    about: &'a LibraryDescription,
    named: &[String],
) -> miette::Result<Vec<&'a Descriptor>> {
    let ids: Vec<&str> = about.methods.iter().map(|method| method.id.as_str()).collect();
    if let Some(unknown) = named.iter().find(|name| !ids.contains(&name.as_str())) {
        let near = suggest::nearest_name(unknown, ids.iter().copied());
        let help = near.map_or_else(
            || format!("it offers {}", ids.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        return Err(miette!(help = help, "the library offers no method {unknown}"));
    }
    let wanted = |m: &&Descriptor| named.is_empty() || named.contains(&m.id);
    Ok(about.methods.iter().filter(wanted).collect())
}

/// What `--param` fixes, which every method must have.
fn fixed(methods: &[&Descriptor], params: &[String]) -> miette::Result<Config> {
    let mut fixed = Config::new();
    for written in params {
        let Some((name, value)) = parameter(written) else {
            return Err(miette!(
                help = "write --param NAME=VALUE",
                "--param {written} has no value"
            ));
        };
        fixed.insert(name, value);
    }
    for method in methods {
        // As the host does with a sweep's values.
        for param in &method.params {
            if let Some(value) = fixed.get_mut(&param.name) {
                *value = param.coerce(value.clone());
            }
        }
        params::check(&method.params, &fixed).map_err(|error| {
            miette!(
                help = "--method chooses the methods that are checked",
                "{}: {error}",
                method.id
            )
        })?;
    }
    Ok(fixed)
}

/// The lines of `log` and how often each is in it: a check calls every function many times.
fn told_once(log: &str) -> Vec<(&str, usize)> {
    let mut lines: Vec<(&str, usize)> = Vec::new();
    for line in log.lines() {
        match lines.iter_mut().find(|(told, _)| *told == line) {
            Some((_, times)) => *times += 1,
            None => lines.push((line, 1)),
        }
    }
    lines
}

fn show(checked: &Checked, out: &mut dyn Write) -> std::io::Result<()> {
    for method in &checked.methods {
        let CheckedMethod { method: id, checks, findings, skipped, log, made: _ } = method;
        let errors = findings.iter().filter(|f| f.severity == "error").count();
        let warnings = findings.len() - errors;
        let verdict = match (errors, warnings) {
            (0, 0) => "keeps the contract".to_owned(),
            (0, w) => format!("keeps the contract, {w} warnings"),
            (e, w) => format!("{e} broken rules, {w} warnings"),
        };
        let mut line = |text: String, indent| writeln!(out, "{}", on_screen(&text, indent));
        line(String::new(), 0)?;
        line(format!("{id}: {verdict} ({checks} checks)"), 2)?;
        for finding in findings {
            line(format!("  {} {}: {}", finding.severity, finding.rule, finding.found), 4)?;
            line(format!("    in        {}", finding.function), 14)?;
            line(format!("    input     {}", finding.input), 14)?;
            line(format!("    contract  {}", finding.contract), 14)?;
        }
        for skipped in Skip::by_rule(skipped) {
            line(format!("  not checked: {skipped}"), 4)?;
        }
        let log = told_once(log.as_deref().unwrap_or_default());
        let earlier = log.len().saturating_sub(LAST_LINES);
        if earlier > 0 {
            line(format!("  log: {earlier} earlier lines: --format json has them"), 7)?;
        }
        for (text, times) in &log[earlier..] {
            let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
            line(format!("  log: {text}{times}"), 7)?;
        }
    }
    Ok(())
}
