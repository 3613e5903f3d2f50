//! One file per verb; what several verbs need stands here.

mod advised;
mod check;
mod compare;
mod completions;
mod data;
mod display;
mod export;
pub(crate) mod interrupt;
mod man;
mod merge;
mod methods;
mod needed;
mod new;
mod plan;
mod plot;
mod probe;
mod recommend;
mod report;
mod results;
mod run;
pub(crate) mod say;
mod stored;
mod submit;
mod tournament;

use crate::cli::{Places, Verb};
use interrupt::CANCEL;
use miette::miette;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use vq_host::plugin::elsewhere;
use vq_host::plugin::{Catalog, Remembered, SearchPath, discover};
use vq_host::record::Sandbox;
use vq_host::report::recommend::Recommendation;
use vq_host::report::{Style, plain, wrapped};
use vq_host::sweep::MethodUse;
use vq_host::transform::TRANSFORM;
use vq_host::worker::{ask, sandbox};

/// The run could not start.
pub(crate) const COULD_NOT_START: u8 = 1;
/// Finished, but some cells failed.
const SOME_FAILED: u8 = 3;

pub(crate) fn dispatch(verb: Verb) -> miette::Result<ExitCode> {
    interrupt::listen()?;
    ask::clear_left_behind();
    match verb {
        Verb::Run(args) => run::run(args),
        Verb::Plan(args) => plan::plan(&args),
        Verb::Methods(args) => methods::methods(&args),
        Verb::Check(args) => check::check(&args),
        Verb::New(args) => new::new(&args),
        Verb::Results(args) => results::results(&args),
        Verb::Compare(args) => compare::compare(&args),
        Verb::Plot(args) => plot::plot(&args),
        Verb::Report(args) => report::report(&args),
        Verb::Export(args) => export::export(&args),
        Verb::Submit(args) => submit::submit(&args),
        Verb::Merge(args) => merge::merge(&args),
        Verb::Recommend(args) => recommend::recommend(&args),
        Verb::Data(args) => data::data(&args),
        Verb::Completions(args) => completions::completions(&args),
        Verb::Man(args) => man::man(&args),
    }
}

/// Finds plugins; what was refused is said on stderr, a line each. Those that `cache` does not
/// know are asked what they offer; all, and with more patience, where it is to be `refreshed`.
/// The plugins found, of which `methods` want some in a Python of their own.
fn find_plugins(
    places: &Places,
    cache: &Path,
    refreshed: bool,
    methods: &[MethodUse],
) -> miette::Result<Catalog> {
    let catalog = plugins_at_hand(places, cache, refreshed, methods)?;
    note_sandbox(!places.no_sandbox);
    for refused in &catalog.refused {
        let path = refused.path.display();
        say::warning(&format!("{path} is left out: {}; {}", refused.reason, refused.remedy));
    }
    for notice in &catalog.notices {
        say::note(notice);
    }
    Ok(catalog)
}

/// The same without a word of what was refused.
fn plugins_at_hand(
    places: &Places,
    cache: &Path,
    refreshed: bool,
    methods: &[MethodUse],
) -> miette::Result<Catalog> {
    let path = SearchPath::standard(&places.plugin_dir, places.allow_world_writable);
    let sandbox = !places.no_sandbox;
    let remembered = Remembered::in_cache(cache, sandbox);
    let seconds = methods.iter().filter_map(|method| method.second.as_deref());
    let uses = methods.iter().chain(seconds).map(|of| {
        let python = of.python.as_ref().map(|python| python.get_ref().as_path());
        (of.id.get_ref().as_str(), python)
    });
    let catalog = discover(&path, &uses.collect::<Vec<_>>(), &mut |candidates| {
        remembered.describe(candidates, refreshed, &mut |unknown| {
            ask::describe_all(unknown, refreshed, sandbox, &CANCEL)
        })
    });
    not_interrupted()?;
    Ok(catalog?)
}

/// Names picks by the tags of the methods in `catalog`.
fn name_picks(recommendation: &mut Recommendation, catalog: &Catalog) {
    recommendation.name(|pick| {
        let mut methods = catalog.libraries.iter().flat_map(|library| &library.about.methods);
        let method = methods.find(|method| method.id == pick.method);
        // A code of transformed rows has no name there.
        let method = method.filter(|_| pick.params.get(TRANSFORM).is_none());
        let names = method.map(|method| elsewhere::names(&method.tags, &pick.params));
        names.into_iter().flatten().map(|of| (of.system, of.name)).collect()
    });
}

/// Fails once a signal came.
fn not_interrupted() -> miette::Result<()> {
    match CANCEL.load(Ordering::Relaxed) {
        true => Err(miette!("interrupted")),
        false => Ok(()),
    }
}

/// Says once per command, on stderr, what the sandbox of the workers does not hold.
fn note_sandbox(wanted: bool) {
    match sandbox::offered() {
        Sandbox::Partial { missing } if wanted => {
            say::note(&format!("plugins are confined in part: {missing}"));
        }
        Sandbox::Off { reason } if wanted => {
            say::note(&format!("plugins run with all your rights: {reason}"));
        }
        _ => {}
    }
}

/// `1 cell`, `2 cells`, `2 entries`.
fn counted(n: usize, what: &str) -> String {
    match (n, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        (_, None) => format!("{n} {what}s"),
    }
}

/// How tables look on this stdout.
fn style() -> Style {
    let terminal = std::io::stdout().is_terminal();
    let width =
        terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    Style {
        width: width.filter(|_| terminal).unwrap_or(Style::PLAIN.width),
        color: terminal && say::style_wanted(),
    }
}

/// `text` between words within the terminal that stdout is, all lines but the first after `indent`
/// spaces; as it is where stdout is something else. Nothing in it can draw.
fn on_screen(text: &str, indent: usize) -> String {
    let text = plain(text);
    match std::io::stdout().is_terminal() {
        true => wrapped(&text, indent, style().width.max(indent + 20)),
        false => text,
    }
}

/// Where prepared data is kept: as told, else in the user's cache folder.
fn cache_dir(told: Option<&PathBuf>) -> miette::Result<PathBuf> {
    use etcetera::BaseStrategy;
    if let Some(dir) = told {
        return Ok(dir.clone());
    }
    let strategy = etcetera::choose_base_strategy()
        .map_err(|e| miette!(help = "pass --cache-dir DIR", "no place for prepared data: {e}"))?;
    Ok(strategy.cache_dir().join("vq-host"))
}
