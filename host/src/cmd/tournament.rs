//! `vq-host run --data FILE` without a method: the tournament.

use super::display::Display;
use super::interrupt;
use super::run::{self, run_cells};
use super::{SOME_FAILED, cache_dir, counted, find_plugins, name_picks, plan, say, stored, style};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use vq_host::cost::Costs;
use vq_host::data::{DatasetSpec, Headers, Queries, Source, Train};
use vq_host::plan::Cell;
use vq_host::plugin::Catalog;
use vq_host::record::{Filter, Outcome, Record};
use vq_host::report::one_of_each;
use vq_host::report::recommend::{Question, recommend, write_recommendation};
use vq_host::report::results::{Format, Request, write_results};
use vq_host::session::{Planned, Session};
use vq_host::store::Store;
use vq_host::sweep::{COMMAND_LINE, Sweep};
use vq_host::tournament::{self, Asked, K, RERANK, SEEDS, Size};

pub(super) fn run(args: &cli::RunArgs) -> miette::Result<ExitCode> {
    let began = Instant::now();
    let asked = asked(args)?;
    let (rows, queries) = counts(&asked);
    let cache = cache_dir(args.selection.cache_dir.as_ref())?;
    let catalog = find_plugins(&args.selection.places, &cache, false, &[])?;
    let mut tournament = Tournament { args, catalog, cache, cells: 0 };
    if args.dry_run {
        let size = Size::all(rows, if asked.queries.is_some() { 0 } else { 500 });
        let (planned, _) = tournament.planned(&asked.field(&size))?;
        plan::show(&planned, &args.selection, args.format)?;
        return Ok(ExitCode::SUCCESS);
    }

    say::line("probe: each method once, to see what it costs");
    let (mut probe, display) = tournament.planned(&asked.probe(rows))?;
    tournament.measure(&mut probe, &|_| true, &display)?;
    if let Some(code) = interrupted() {
        return Ok(code);
    }
    let store = probe.store().to_owned();
    let probed = probe.records_of_cells(all_records(&store)?);

    let methods: BTreeSet<&str> = tournament.methods();
    let size = asked.size(rows, queries, &methods, &Costs::of(&probed));
    say::line(&field_line(&asked, &size));
    let (mut field, mut display) = tournament.planned(&asked.field(&size))?;
    let cells: Vec<Cell> = field.cells().cloned().collect();
    let mut before = None;
    loop {
        let measured = field.records_of_cells(all_records(&store)?);
        // What is left to another run, since its plugin's file changed, is left.
        if before.replace(measured.len()) == Some(measured.len()) {
            break;
        }
        let costs = Costs::of(&[probed.clone(), measured.clone()].concat());
        let next = asked.next(&cells, &size, &probed, &measured, &costs);
        if next.is_empty() {
            break;
        }
        let keys: BTreeSet<&str> = next.iter().map(|cell| cell.key.as_str()).collect();
        tournament.measure(&mut field, &|cell| keys.contains(cell.key.as_str()), &display)?;
        if let Some(code) = interrupted() {
            return Ok(code);
        }
        field.select(|_| true);
        display = Display::new();
    }

    field.select(|_| true);
    let measured = field.records_of_cells(all_records(&store)?);
    let finalists = asked.finalists(&size, &probed, &measured);
    let smaller = Asked::sizes(&size);
    let mut records = measured.clone();
    if !finalists.is_empty() {
        say::line(&format!(
            "finals: the best {}, with other seeds and among fewer rows",
            finalists.len()
        ));
        let timeout = asked.budget.as_secs_f64();
        for (sizes, seeds) in [(&[][..], &SEEDS[..]), (&smaller[..], &SEEDS[..1])] {
            let text = asked.finals(&size, &finalists, sizes, seeds, timeout);
            let (mut finals, display) = tournament.planned(&text)?;
            tournament.measure(&mut finals, &|_| true, &display)?;
            if let Some(code) = interrupted() {
                return Ok(code);
            }
            let known: BTreeSet<String> = records.iter().map(|of| of.key.clone()).collect();
            let more = finals.records_of_cells(all_records(&store)?);
            records.extend(more.into_iter().filter(|record| !known.contains(&record.key)));
        }
    }
    let to_go_on = args.write_sweep.as_ref().filter(|_| !finalists.is_empty());
    if let Some(file) = to_go_on {
        let text = asked.finals(&size, &finalists, &smaller, &SEEDS, 0.0);
        let paths: Vec<&Path> = [Some(&asked.data), asked.queries.as_ref()]
            .into_iter()
            .flatten()
            .map(|p| &**p)
            .collect();
        let text = tournament::for_file(&text, &paths, file)
            .map_err(|error| miette!("cannot write {}: {error}", file.display()))?;
        stored::write_file(file, text.as_bytes())?;
    }
    let all = Summary {
        catalog: &tournament.catalog,
        asked: &asked,
        store: &store,
        rows: args.rows.unwrap_or(rows as f64),
        cells: cells.len(),
        probed: &probed,
        measured: &measured,
        seconds: began.elapsed().as_secs_f64(),
        ran: tournament.cells,
        to_go_on: to_go_on.map(PathBuf::as_path),
    };
    all.report(args.format, &records)
}

fn asked(args: &cli::RunArgs) -> miette::Result<Asked> {
    let selection = &args.selection;
    let [data] = selection.data.as_slice() else {
        return Err(miette!(
            help = "name one, or a method with --method",
            "a tournament takes one file of vectors"
        ));
    };
    let mut bits = args.bits.clone();
    bits.sort_by(f64::total_cmp);
    bits.dedup();
    Ok(Asked {
        data: data.clone(),
        queries: selection.queries.clone(),
        metric: selection.metric.clone(),
        limit: selection.limit,
        bits,
        budget: args.budget,
        recall: args.recall,
    })
}

/// Rows of the file, and queries that are a file or the file's own; none of files that cannot be
/// read, which is told when the probe is planned.
fn counts(asked: &Asked) -> (usize, Option<usize>) {
    let look = |path: &Path, limit| {
        let spec = DatasetSpec {
            name: String::new(),
            source: Source::File(path.to_owned()),
            queries: Queries::HoldOutUpTo(1),
            train: Train::Base,
            limit,
            thin: None,
            metric: vq_host::data::Metric::L2,
            own_metric: false,
            unusable: vq_host::data::UnusableRows::Told,
            neighbours: None,
        };
        Headers::read(&spec).ok()
    };
    let base = look(&asked.data, asked.limit);
    let queries = match &asked.queries {
        Some(path) => Some(look(path, None).map_or(0, |headers| headers.rows_used())),
        None => base.as_ref().and_then(Headers::queries_apart),
    };
    (base.map_or(0, |headers| headers.rows_used()), queries)
}

fn field_line(asked: &Asked, size: &Size) -> String {
    let rates: Vec<String> = asked.bits.iter().map(f64::to_string).collect();
    let thinned = match size.thinned {
        Some(rows) => format!("{rows} of {} rows", size.base),
        None => format!("all {} rows", size.base),
    };
    format!(
        "field: every method at {} bits/dim, {thinned}, learned from {}",
        rates.join(", "),
        size.train
    )
}

fn interrupted() -> Option<ExitCode> {
    let code = interrupt::exit_code()?;
    interrupt::say_so("interrupted: finished cells are kept, run again to go on");
    Some(code)
}

fn all_records(store: &Path) -> miette::Result<Vec<Record>> {
    let reader = Store::open_read_only(store).into_diagnostic()?;
    let contents = reader.contents(&Filter::default()).into_diagnostic()?;
    Ok(one_of_each(contents.records, &contents.runs))
}

struct Tournament<'a> {
    args: &'a cli::RunArgs,
    catalog: Catalog,
    cache: PathBuf,
    /// Cells that were measured by this command.
    cells: usize,
}

impl Tournament<'_> {
    fn methods(&self) -> BTreeSet<&str> {
        // Not through the plan: a method may have no configuration at the rate of the probe.
        self.catalog
            .libraries
            .iter()
            .flat_map(|library| &library.about.methods)
            .map(|method| method.id.as_str())
            .collect()
    }

    /// Plans the sweep `text`.
    fn planned(&self, text: &str) -> miette::Result<(Planned, Display)> {
        let selection = &self.args.selection;
        let mut sweep = Sweep::parse(COMMAND_LINE, text, Path::new(""))?;
        if let Some(store) = &selection.store {
            sweep.run.store.clone_from(store);
        }
        let done = plan::done(&sweep)?;
        let session = Session::new(sweep, self.catalog.clone(), self.cache.clone(), done)?;
        let display = Display::new();
        let planned = plan::prepare(session, selection, &display)?;
        display.prepared();
        Ok((planned, display))
    }

    /// Measures the cells of the plan that are `wanted` and have no record yet.
    fn measure(
        &mut self,
        planned: &mut Planned,
        wanted: &dyn Fn(&Cell) -> bool,
        display: &Display,
    ) -> miette::Result<()> {
        planned.select(wanted);
        let to_run = planned.to_run().len();
        if to_run == 0 {
            return Ok(());
        }
        let mut store = Store::open(planned.store()).map_err(run::opening)?;
        let ready =
            plan::with_callbacks(&self.args.selection, display, |on| planned.neighbours(on));
        let ready = match ready {
            Ok(ready) => ready,
            Err(error) => {
                store.abandon();
                return Err(error);
            }
        };
        display.prepared();
        run_cells(run::capacity(self.args, planned), planned, &ready, &mut store, display)?;
        self.cells += to_run;
        display.finish();
        Ok(())
    }
}

/// What is told at the end.
struct Summary<'a> {
    catalog: &'a Catalog,
    asked: &'a Asked,
    store: &'a Path,
    rows: f64,
    cells: usize,
    probed: &'a [Record],
    measured: &'a [Record],
    seconds: f64,
    ran: usize,
    to_go_on: Option<&'a Path>,
}

impl Summary<'_> {
    fn report(&self, format: Format, records: &[Record]) -> miette::Result<ExitCode> {
        let mut out = say::out();
        if format != Format::Table {
            let request = Request { format, ..Request::default() };
            write_results(records, &request, style(), &mut out).into_diagnostic()?;
        } else {
            self.answer(records, &mut out)?;
        }
        out.flush().into_diagnostic()?;
        self.told();
        let failed = self
            .measured
            .iter()
            .filter(|record| !matches!(record.outcome, Outcome::Ok | Outcome::Timeout));
        match failed.count() {
            0 => Ok(ExitCode::SUCCESS),
            n => {
                say::line(&format!("{} failed: vq-host results tells why", counted(n, "cell")));
                Ok(ExitCode::from(SOME_FAILED))
            }
        }
    }

    fn answer(&self, records: &[Record], out: &mut dyn Write) -> miette::Result<()> {
        for rerank in [None, Some(RERANK)] {
            let question = Question {
                recall: self.asked.recall,
                k: K,
                rerank,
                max_bits: None,
                min_encode: None,
                rows: Some(self.rows),
            };
            let mut answer = recommend(records, &question);
            name_picks(&mut answer, self.catalog);
            write_recommendation(&answer, style(), out).into_diagnostic()?;
        }
        Ok(())
    }

    /// What was measured, what was not, and how to go on.
    fn told(&self) {
        let not_ok: BTreeSet<&str> = self
            .probed
            .iter()
            .chain(self.measured)
            .filter(|record| record.outcome == Outcome::Timeout)
            .map(|record| record.method.id.as_str())
            .collect();
        let left = self.cells.saturating_sub(self.measured.len());
        let rest = match left {
            0 => String::new(),
            n => format!("; {n} were decided by others or did not fit into the budget"),
        };
        say::line(&format!(
            "{} of {} measured with one seed{rest}; {} in {:.0} s",
            self.measured.len(),
            counted(self.cells, "configuration"),
            counted(self.ran, "cell"),
            self.seconds
        ));
        if !not_ok.is_empty() {
            let ids: Vec<&str> = not_ok.into_iter().collect();
            say::line(&format!("took too long for this budget: {}", ids.join(", ")));
        }
        let dataset = self.asked.name();
        let store = self.store.display();
        say::line(&format!(
            "everything that was measured: vq-host results {store} --dataset {dataset}"
        ));
        let (recall, rows) = (self.asked.recall, self.rows);
        say::line(&format!(
            "as a sweep, with the keys of its records: vq-host recommend {store} --dataset {dataset} \
             --recall {recall} --rows {rows} --rerank {RERANK}"
        ));
        if let Some(file) = self.to_go_on {
            say::line(&format!("to go on: vq-host run {}", file.display()));
        }
    }
}
