//! `vq-host data`: what is kept of prepared data.

use super::advised::advised;
use super::{cache_dir, counted, say, style};
use crate::cli::{self, DataVerb};
use bytesize::ByteSize;
use miette::{IntoDiagnostic, miette};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use vq_host::data::{self, DataError, Kept};
use vq_host::output;
use vq_host::report::fit;
use vq_host::report::results::Format;
use vq_host::report::table::{self, Column};

/// Columns that the name of a source gets.
const NAME: usize = 32;
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

pub(super) fn data(args: &cli::DataArgs) -> miette::Result<ExitCode> {
    match &args.verb {
        DataVerb::Cache(args) => cache(args),
    }
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
