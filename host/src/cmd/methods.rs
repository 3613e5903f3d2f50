//! `vq-host methods`: what was found, from where, and what was refused.

use super::{COULD_NOT_START, cache_dir, find_plugins, on_screen, say, style};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::io::Write;
use std::process::ExitCode;
use vq_host::output;
use vq_host::plugin::{Catalog, Found, config_json, elsewhere};
use vq_host::report::results::Format;
use vq_host::report::table::{self, Column};
use vq_host::suggest::nearest_name;
use vq_plugin_api::Value;
use vq_plugin_api::params::Param;

pub(super) fn methods(args: &cli::MethodsArgs) -> miette::Result<ExitCode> {
    let cache = cache_dir(args.cache_dir.as_ref())?;
    let catalog = find_plugins(&args.places, &cache, args.refresh, &[])?;
    let mut out = say::out();
    match (&args.method, args.format) {
        (_, Format::Csv) => {
            return Err(miette!("methods has no CSV form; use --format table or json"));
        }
        (None, Format::Json) => {
            output::write(&output::catalog(&catalog), &mut out).into_diagnostic()?;
        }
        (None, Format::Table) => list(&catalog, args.verbose, &mut out).into_diagnostic()?,
        (Some(id), format) => {
            let found = catalog.resolve(id, None, None).map_err(|error| {
                let methods = catalog.methods();
                let ids = || methods.iter().map(|f| f.method.id.as_str());
                let all = ids().collect::<Vec<_>>().join(", ");
                let help = match nearest_name(id, ids()) {
                    Some(near) => format!("did you mean `{near}`? found are: {all}"),
                    None => format!("found are: {all}"),
                };
                miette!(help = help, "{error}")
            })?;
            match format {
                Format::Json => {
                    output::write(&output::method(found.method), &mut out).into_diagnostic()?;
                }
                _ => show(found, &mut out).into_diagnostic()?,
            }
        }
    }
    out.flush().into_diagnostic()?;
    if catalog.libraries.is_empty() {
        return Ok(ExitCode::from(COULD_NOT_START));
    }
    Ok(ExitCode::SUCCESS)
}

fn list(catalog: &Catalog, verbose: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let methods = catalog.methods();
    if methods.is_empty() {
        writeln!(out, "no plugin was found")?;
    } else {
        let text =
            |head, of: &dyn Fn(&Found<'_>) -> String| Column::text(head, methods.iter().map(of));
        let columns = [
            text("method", &|f| f.method.id.clone()),
            text("version", &|f| f.method.version.clone()).spare(),
            text("what it is", &|f| match f.method.description.as_str() {
                "" => f.method.name.clone(),
                description => description.to_owned(),
            }),
            text("parameters", &|f| {
                f.method.params.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ")
            }),
            text("from", &|f| {
                f.library.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
            })
            .spare(),
        ];
        table::write(&columns, 1, style(), out)?;
        writeln!(out, "{} methods; `vq-host methods METHOD` shows one", methods.len())?;
    }
    if verbose {
        for library in &catalog.libraries {
            let about = &library.about;
            writeln!(out, "\n{}", on_screen(&library.path.display().to_string(), 2))?;
            writeln!(out, "  digest  {}", library.digest)?;
            let built = format!("  built   {}, ABI {}.{}", about.sdk, about.abi.0, about.abi.1);
            writeln!(out, "{}", on_screen(&built, 10))?;
            let checked = if about.layout_checked {
                "compared with this host's"
            } else {
                "by size only (a C plugin)"
            };
            writeln!(out, "  layout  {checked}")?;
            for method in &about.methods {
                let licence =
                    if method.license.is_empty() { "no licence stated" } else { &method.license };
                let offers = format!("  offers  {} {} ({licence})", method.id, method.version);
                writeln!(out, "{}", on_screen(&offers, 10))?;
            }
        }
    }
    if verbose || methods.is_empty() {
        writeln!(out, "\nsearched:")?;
        for (place, exists) in &catalog.searched {
            let note = if *exists { "" } else { " (not there)" };
            writeln!(out, "{}", on_screen(&format!("  {}{note}", place.display()), 4))?;
        }
    }
    Ok(())
}

fn show(found: Found<'_>, out: &mut dyn Write) -> std::io::Result<()> {
    let Found { library, method } = found;
    let title = format!("{} - {} {}", method.id, method.name, method.version);
    writeln!(out, "{}", on_screen(&title, 2))?;
    let mut line = |name: &str, text: &str| match text {
        "" => Ok(()),
        text => writeln!(out, "{}", on_screen(&format!("{name:10} {text}"), 11)),
    };
    line("what", &method.description)?;
    line("paper", &method.paper)?;
    line("authors", &method.authors)?;
    line("licence", &method.license)?;
    line("homepage", &method.homepage)?;
    line("tags", &elsewhere::words(&method.tags).join(","))?;
    line("training", if method.needs_training { "learns from data" } else { "needs none" })?;
    line("extensions", &method.extensions.join(", "))?;
    line("from", &library.path.display().to_string())?;
    if method.params.is_empty() {
        return writeln!(out, "\nno parameters");
    }
    let text =
        |head, of: &dyn Fn(&Param) -> String| Column::text(head, method.params.iter().map(of));
    let columns = [
        text("parameter", &|p| p.name.clone()),
        text("type", &type_of),
        text("default", &|p| p.default.as_ref().map_or_else(|| "none".into(), Value::to_string)),
        text("allowed", &allowed),
        text("default grid", &|p| join(&p.grid)),
        text("meaning", &|p| p.help.clone()),
    ];
    writeln!(out)?;
    table::write(&columns, 1, style(), out)?;
    let usual = |p: &Param| Some((p.name.clone(), p.default.clone()?));
    let defaults = method.params.iter().filter_map(usual).collect();
    let defaults = format!("default configuration: {}", config_json(&defaults));
    writeln!(out, "{}", on_screen(&defaults, 2))
}

fn type_of(param: &Param) -> String {
    match param.item_kind {
        Some(kind) => format!("list of {kind}"),
        None => param.kind.to_string(),
    }
}

fn allowed(param: &Param) -> String {
    if !param.choices.is_empty() {
        return join(&param.choices);
    }
    match (&param.min, &param.max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("from {min}"),
        (None, Some(max)) => format!("up to {max}"),
        (None, None) => "any".into(),
    }
}

fn join(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}
