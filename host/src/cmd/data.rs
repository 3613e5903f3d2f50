//! `vq-host data`: what is in files of vectors, and what is kept of prepared data.

use super::advised::advised;
use super::display::Display;
use super::interrupt::CANCEL;
use super::{COULD_NOT_START, cache_dir, counted, on_screen, say, style};
use crate::cli::{self, DataVerb};
use bytesize::ByteSize;
use miette::{IntoDiagnostic, miette};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use vq_host::data::{
    self, DataError, DatasetSpec, Headers, Inspection, Kept, Metric, Pick, PublicSet, Queries,
    Source, Train, Truth,
};
use vq_host::output;
use vq_host::report::results::Format;
use vq_host::report::table::{self, Column};
use vq_host::report::{fit, plain};

/// Columns that the name of a source gets.
const NAME: usize = 32;
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

pub(super) fn data(args: &cli::DataArgs) -> miette::Result<ExitCode> {
    match &args.verb {
        DataVerb::Cache(args) => cache(args),
        DataVerb::Inspect(args) => inspect(args),
        DataVerb::Convert(args) => {
            let pick = args.limit.map_or(Pick::All, Pick::First);
            convert(&args.from, args.table.as_deref(), pick, &args.to)
        }
        DataVerb::Sample(args) => {
            convert(&args.from, args.table.as_deref(), Pick::Random(args.rows), &args.to)
        }
        DataVerb::Truth(args) => truth(args),
        DataVerb::List(args) => list(args),
        DataVerb::Fetch(args) => fetch(args),
    }
}

/// Each file for itself: that one cannot be read keeps nobody from the others.
fn inspect(args: &cli::InspectArgs) -> miette::Result<ExitCode> {
    if args.format == Format::Csv {
        return Err(miette!("data inspect has no CSV form; use --format table or json"));
    }
    let mut out = say::out();
    let (mut all, mut code) = (Vec::new(), ExitCode::SUCCESS);
    for (i, file) in args.files.iter().enumerate() {
        let display = Display::only_bars();
        let name = file.display().to_string();
        let found = data::inspect(file, args.table.as_deref(), &|progress| {
            display.preparing(&name, progress);
            !CANCEL.load(Ordering::SeqCst)
        });
        display.prepared();
        drop(display);
        match found {
            Ok(found) if args.format == Format::Json => {
                let mut found = serde_json::to_value(&found).into_diagnostic()?;
                found["file"] = name.into();
                all.push(found);
            }
            Ok(found) => {
                let gap = if i > 0 { "\n" } else { "" };
                writeln!(out, "{gap}{}", plain(&name)).into_diagnostic()?;
                for line in told_of(&found) {
                    writeln!(out, "{}", on_screen(&format!("  {line}"), 4)).into_diagnostic()?;
                }
            }
            Err(DataError::Interrupted) => return Err(miette!("interrupted")),
            Err(error) => {
                out.flush().into_diagnostic()?;
                let help = error.remedy();
                say::error(&advised(error, help));
                code = ExitCode::from(COULD_NOT_START);
            }
        }
    }
    if args.format == Format::Json {
        output::write(&all, &mut out).into_diagnostic()?;
    }
    out.flush().into_diagnostic()?;
    Ok(code)
}

/// The facts, and in one sentence each what they mean.
fn told_of(of: &Inspection) -> Vec<String> {
    let table = of.table.as_ref().map_or_else(String::new, |name| format!(", `{name}`"));
    let files = if of.files > 1 { format!(", {} files", of.files) } else { String::new() };
    let size = ByteSize::b(of.bytes);
    let mut lines = vec![format!(
        "{} × {} of {}: {}{table}{files}, {size}",
        of.rows, of.dim, of.element, of.format
    )];
    if let Some(table) = &of.queries {
        lines.push(format!("`{table}` are its queries: they are taken where none are named"));
    }
    if let Some(table) = &of.learn {
        lines.push(format!("`{table}` are its training rows: they are taken where none are named"));
    }
    if let Some(table) = &of.neighbours {
        lines.push(format!(
            "`{table}` are its queries' neighbours: a run says whether they are right"
        ));
    }
    if let Some(distance) = &of.distance {
        lines.push(format!("it is meant to be searched by {distance} distance"));
    }
    let [least, mean, most] = of.norm;
    let unit = (least - 1.0).abs() < 1e-3 && (most - 1.0).abs() < 1e-3;
    lines.push(format!(
        "length {least:.4} to {most:.4}, mean {mean:.4}: {}",
        match unit {
            true => "all of unit length, so l2, ip and cosine have the same neighbours",
            false => "l2, ip and cosine have different neighbours, so choose the metric with care",
        }
    ));
    let some = |lines: &mut Vec<String>, count: u64, of: &str, meaning: &str| {
        if count > 0 {
            lines.push(format!("{count} {of}: {meaning}"));
        }
    };
    let rows = |what: &str| format!("of {} rows {what}", of.rows);
    some(&mut lines, of.not_finite, &rows("have a NaN or an infinity"), "a run refuses them");
    some(&mut lines, of.zero, &rows("are zero"), "they have no direction, so cosine says nothing");
    let repeated = rows("repeat an earlier one");
    some(&mut lines, of.duplicates, &repeated, "equal neighbours are told apart by nothing");
    let constant = format!("of {} dimensions are nearly constant", of.dim);
    some(&mut lines, of.nearly_constant, &constant, "bits spent on them are lost");
    lines.push(format!(
        "effective dimension {:.1} of {}: {}",
        of.effective_dim,
        of.dim,
        match of.effective_dim < of.dim as f64 / 4.0 {
            true => "few directions hold most of it, so a method that looks for them gains",
            false => "it spreads over many directions, so turning it to the main ones gains little",
        }
    ));
    if let Some(contrast) = of.contrast {
        lines.push(format!(
            "distance contrast {contrast:.2}: {}",
            match contrast < 1.5 {
                true => "the nearest row is little nearer than any, so recall needs many bits",
                false => "the nearest rows stand out, so few bits find them",
            }
        ));
    }
    lines.push(format!(
        "hubness {:.2}: {}",
        of.hubness,
        match of.hubness > 1.5 {
            true => "some rows are neighbours of very many others",
            false => "no row is a neighbour of very many others",
        }
    ));
    if of.sampled < of.rows {
        lines.push(format!("the last three are of {} rows, evenly spaced", of.sampled));
    }
    lines
}

fn convert(from: &Path, table: Option<&str>, pick: Pick, to: &Path) -> miette::Result<ExitCode> {
    let display = Display::only_bars();
    let name = to.display().to_string();
    let converted = data::convert(from, table, pick, to, &|progress| {
        display.preparing(&name, progress);
        !CANCEL.load(Ordering::SeqCst)
    });
    display.prepared();
    drop(display);
    let (rows, dim) = converted.map_err(remedied)?;
    wrote(&format!("{rows} × {dim}"), &name)
}

fn truth(args: &cli::TruthArgs) -> miette::Result<ExitCode> {
    let cache = cache_dir(args.cache_dir.as_ref())?;
    let spec = DatasetSpec {
        name: args.base.display().to_string(),
        source: Source::File(args.base.clone()),
        queries: args.queries.clone().map_or(Queries::HoldOutUpTo(1), Queries::File),
        train: Train::Base,
        limit: args.limit,
        thin: None,
        metric: args.metric.unwrap_or(Metric::L2),
        own_metric: args.metric.is_none(),
        unusable: data::UnusableRows::Told,
        neighbours: args.neighbours.clone(),
    };
    let display = Display::only_bars();
    let progress = |progress| {
        display.preparing(&spec.name, progress);
        !CANCEL.load(Ordering::SeqCst)
    };
    let headers = Headers::read(&spec).map_err(|of| remedied(of.error))?;
    if headers.queries_apart().is_none() {
        return Err(miette!(
            help = "name them with --queries FILE",
            "{} has no queries of its own",
            plain(&spec.name)
        ));
    }
    Truth::may_be_at(&args.to, &headers).map_err(remedied)?;
    let prepared = headers
        .rows(&cache, &progress)
        .and_then(|rows| rows.with_neighbours(args.k, &progress))
        .map_err(|of| remedied(of.error))?;
    display.prepared();
    drop(display);
    for text in prepared.notices.iter().chain(&prepared.notes) {
        say::line(&plain(text));
    }
    let truth = prepared.truth.read().map_err(remedied)?;
    truth.publish(prepared.metric, &args.to).map_err(remedied)?;
    let (k, queries) = (prepared.truth.k, prepared.queries.rows);
    let metric = prepared.metric.name();
    let name = args.to.display().to_string();
    wrote(&format!("{k} exact neighbours by {metric} of {}", counted(queries, "query")), &name)
}

fn list(args: &cli::ListArgs) -> miette::Result<ExitCode> {
    let cache = cache_dir(args.cache_dir.as_ref())?;
    let sets = PublicSet::all();
    let mut out = say::out();
    match args.format {
        Format::Json => {
            let mut all = serde_json::to_value(&sets).into_diagnostic()?;
            for (set, told) in sets.iter().zip(all.as_array_mut().into_iter().flatten()) {
                told["here"] = set.is_here(&cache).into();
                told["folder"] = set.folder(&cache).display().to_string().into();
            }
            output::write(&all, &mut out).into_diagnostic()?;
        }
        Format::Csv => {
            return Err(miette!("data list has no CSV form; use --format table or json"));
        }
        Format::Table => {
            let text =
                |head, of: &dyn Fn(&PublicSet) -> String| Column::text(head, sets.iter().map(of));
            let number =
                |head, of: &dyn Fn(&PublicSet) -> String| Column::number(head, sets.iter().map(of));
            let columns = [
                text("name", &|set| set.name.to_owned()),
                number("rows", &|set| format!("{} × {}", set.rows, set.dim)),
                number("size", &|set| ByteSize::b(set.bytes).to_string()),
                text("metric", &|set| set.metric.name().to_owned()),
                text("licence", &|set| set.licence.unwrap_or("see its page").to_owned()),
                text("here", &|set| if set.is_here(&cache) { "yes" } else { "" }.to_owned()),
                text("of", &|set| set.of.to_owned()),
            ];
            table::write(&columns, 2, style(), &mut out).into_diagnostic()?;
            writeln!(out, "\npages:").into_diagnostic()?;
            let pages: BTreeSet<&str> = sets.iter().map(|set| set.page).collect();
            for page in pages {
                writeln!(out, "  {page}").into_diagnostic()?;
            }
        }
    }
    out.flush().into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the lines of a sweep that take what was fetched.
fn fetch(args: &cli::FetchArgs) -> miette::Result<ExitCode> {
    let cache = cache_dir(args.cache_dir.as_ref())?;
    let set = PublicSet::named(&args.name).map_err(remedied)?;
    let display = Display::only_bars();
    let fetched = set.fetch(&cache, &|progress| {
        display.preparing(set.name, progress);
        !CANCEL.load(Ordering::SeqCst)
    });
    display.prepared();
    drop(display);
    let files = fetched.map_err(remedied)?;
    say::line(&format!("licence: {}; see {}", set.licence.unwrap_or("not known here"), set.page));
    let mut out = say::out();
    writeln!(out, "[[dataset]]\nname = \"{}\"", set.name).into_diagnostic()?;
    for (key, path) in &files {
        // A sweep's paths are taken from its folder, wherever that will be.
        let path = std::path::absolute(path).into_diagnostic()?;
        writeln!(out, "{key} = {:?}", path.display().to_string()).into_diagnostic()?;
    }
    writeln!(out, "metric = \"{}\"", set.metric.name()).into_diagnostic()?;
    out.flush().into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

fn remedied(error: DataError) -> miette::Report {
    let help = error.remedy();
    advised(error, help)
}

fn wrote(what: &str, to: &str) -> miette::Result<ExitCode> {
    let mut out = say::out();
    writeln!(out, "wrote {what} to {}", plain(to)).into_diagnostic()?;
    out.flush().into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

fn cache(args: &cli::CacheArgs) -> miette::Result<ExitCode> {
    let folder = cache_dir(args.cache_dir.as_ref())?;
    let mut out = say::out();
    if args.clear {
        let cleared = data::clear(&folder, args.older_than).map_err(told)?;
        let kept = match cleared.in_use {
            0 => String::new(),
            n => format!("; {} in use and stays", counted(n, "entry")),
        };
        writeln!(
            out,
            "removed {} from {}: {}{kept}",
            ByteSize::b(cleared.bytes),
            folder.display(),
            counted(cleared.removed, "folder")
        )
        .into_diagnostic()?;
        out.flush().into_diagnostic()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut entries = data::inventory(&folder).map_err(told)?;
    let now = SystemTime::now();
    let age = |entry: &Kept| now.duration_since(entry.last_used).unwrap_or_default();
    entries.retain(|entry| args.older_than.is_none_or(|unused| age(entry) >= unused));
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    match args.format {
        Format::Json => {
            let json = serde_json::json!({ "folder": folder, "bytes": bytes, "entries": entries });
            output::write(&json, &mut out).into_diagnostic()?;
        }
        Format::Csv => {
            return Err(miette!("data cache has no CSV form; use --format table or json"));
        }
        Format::Table => {
            let text =
                |head, of: &dyn Fn(&Kept) -> String| Column::text(head, entries.iter().map(of));
            let number =
                |head, of: &dyn Fn(&Kept) -> String| Column::number(head, entries.iter().map(of));
            let columns = [
                text("made from", &|entry| short(&entry.from)),
                text("part", &|entry| entry.part.clone()),
                number("rows", &|entry| match (entry.rows, entry.dim) {
                    (Some(rows), Some(dim)) => format!("{rows} × {dim}"),
                    (Some(k), None) => format!("k ≤ {k}"),
                    (None, _) => String::new(),
                }),
                number("size", &|entry| ByteSize::b(entry.bytes).to_string()),
                number("last used", &|entry| match entry.in_use {
                    true => "in use".into(),
                    false => ago(age(entry)),
                }),
            ];
            if !entries.is_empty() {
                table::write(&columns, 2, style(), &mut out).into_diagnostic()?;
                writeln!(out).into_diagnostic()?;
            }
            let entries = counted(entries.len(), "entry");
            writeln!(out, "{entries}, {} in {}", ByteSize::b(bytes), folder.display())
                .into_diagnostic()?;
        }
    }
    out.flush().into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

fn told(error: DataError) -> miette::Report {
    advised(error, Some("see that the folder is yours, or name another with --cache-dir"))
}

/// A file with the folder that it lies in, if there is room for it.
fn short(from: &str) -> String {
    let path = Path::new(from);
    let name = |path: Option<&OsStr>| path.map(|name| name.to_string_lossy().into_owned());
    let file = name(path.file_name()).filter(|_| path.is_absolute());
    let folder = name(path.parent().and_then(Path::file_name));
    let both = folder.zip(file.clone()).map(|(folder, file)| format!("{folder}/{file}"));
    both.filter(|both| both.chars().count() <= NAME)
        .or_else(|| file.map(|file| fit(&file, NAME)))
        .unwrap_or_else(|| fit(from, NAME))
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        0..3600 => "just now".into(),
        s @ 3600..DAY => format!("{} ago", counted((s / 3600) as usize, "hour")),
        s => format!("{} ago", counted((s / DAY) as usize, "day")),
    }
}
