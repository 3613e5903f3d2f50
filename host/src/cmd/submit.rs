//! `vq-host submit`: a sweep as a job array of a scheduler.

use super::display::Display;
use super::interrupt::CANCEL;
use super::needed::Known;
use super::run::opening;
use super::{SOME_FAILED, cache_dir, counted, plan, say, stored};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vq_host::record::Outcome;
use vq_host::session::Planned;
use vq_host::store::{Reader, Store};
use vq_host::submit::{Load, Scripts, SubmitOptions, Task, batches};

/// Tasks, where nobody says how many.
const TASKS: usize = 64;
/// How often the scheduler is asked, and stores are read.
const LOOKS: Duration = Duration::from_secs(5);
/// Ids of jobs, one a line.
const JOBS: &str = "jobs";

pub(super) fn submit(args: &cli::SubmitArgs) -> miette::Result<ExitCode> {
    let selection = &args.selection;
    if selection.partition.is_some() {
        return Err(miette!(
            help = "leave --partition out; --queue names the scheduler's own",
            "submit shares all cells out among its tasks"
        ));
    }
    let Some(sweep) = &selection.sweep else {
        return Err(miette!(help = "vq-host submit sweep.toml", "submit takes a sweep file"));
    };
    let display = Display::new();
    let store = plan::read_sweep(selection)?.run.store;
    let all = store.with_extension("submit");
    let writes = !args.dry_run;
    if writes {
        take_over_earlier(&all, &store)?;
    }
    let planned = plan::prepare(plan::ask(selection)?, selection, &display)?;
    display.finish();
    let cells = loads(&planned, &cache_dir(selection.cache_dir.as_ref())?)?;
    if cells.is_empty() {
        let all = counted(planned.cells().len(), "cell");
        say::line(&format!("{all} done in {}; nothing to submit", store.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let options = options(args, &planned.sweep.submit);
    refuse_control_characters(&options)?;
    let tasks = batches(&cells, options.tasks.unwrap_or(TASKS));
    let folder = all.join(next(&all).to_string());
    let scripts = Scripts {
        program: std::env::current_exe().into_diagnostic()?,
        sweep: absolute(sweep).into_diagnostic()?,
        directory: std::env::current_dir().into_diagnostic()?,
        folder: absolute(&folder).into_diagnostic()?,
        store: absolute(&store).into_diagnostic()?,
        arguments: arguments(selection)?,
        options,
    };
    let longest = tasks.iter().map(Task::seconds).fold(0.0, f64::max);
    let expected = match longest > 0.0 {
        true => {
            let time = Duration::from_secs_f64(longest.ceil());
            format!(", the longest of about {}", humantime::format_duration(time))
        }
        false => String::new(),
    };
    let (n, of) = (counted(cells.len(), "cell"), counted(tasks.len(), "task"));
    let summary = format!("{n} in {of}{expected}");
    let mut out = say::out();
    if args.dry_run {
        write_dry(&mut out, &scripts, &tasks, args.print).into_diagnostic()?;
        say::line(&format!("{summary}; nothing was written or submitted"));
        return Ok(ExitCode::SUCCESS);
    }
    write_files(&scripts, &tasks)?;
    if args.print {
        for line in scripts.commands(tasks.len()) {
            writeln!(out, "{line}").into_diagnostic()?;
        }
        out.flush().into_diagnostic()?;
        say::line(&format!("{summary}: run the last line when the others have ended"));
        return Ok(ExitCode::SUCCESS);
    }
    let jobs = match args.engine {
        cli::Engine::Slurm => submit_to_slurm(&scripts, tasks.len())?,
    };
    writeln!(out, "{}\n{}", jobs[0], jobs[1]).into_diagnostic()?;
    out.flush().into_diagnostic()?;
    say::line(&format!(
        "{summary} submitted as job {}, merged by job {} into {}",
        jobs[0],
        jobs[1],
        store.display()
    ));
    match args.watch {
        true => watch(&scripts.folder, &jobs, cells.len()),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// What earlier submissions measured and nobody merged, as after a failure.
fn take_over_earlier(all: &Path, store: &Path) -> miette::Result<()> {
    let mut readers: Vec<Reader> = Vec::new();
    for folder in numbered(all).into_values() {
        let jobs = fs::read_to_string(folder.join(JOBS)).unwrap_or_default();
        let jobs: Vec<String> = jobs.lines().map(str::to_owned).collect();
        if at_work(&jobs)? {
            return Err(miette!(
                help = format!("wait for it, or end it: scancel {}", jobs.join(" ")),
                "{} is still at work as job {}",
                folder.display(),
                jobs.join(", ")
            ));
        }
        for path in stores(&folder) {
            match Store::open_read_only(&path) {
                Ok(reader) => readers.push(reader),
                Err(error) => say::warning(&format!("{error}; it is left out")),
            }
        }
    }
    if readers.is_empty() {
        return Ok(());
    }
    let merged = Store::open(store).map_err(opening)?.merge(&readers).into_diagnostic()?;
    for (path, damage) in &merged.damage {
        say::warning(&format!("{}: {damage}; what is sound is taken over", path.display()));
    }
    let new = merged.records.saturating_sub(merged.before);
    if new > 0 {
        let of = counted(new, "record");
        say::line(&format!("{of} of earlier submissions taken over into {}", store.display()));
    }
    Ok(())
}

/// The submissions so far, by their numbers.
fn numbered(all: &Path) -> BTreeMap<u32, PathBuf> {
    let entries = fs::read_dir(all).into_iter().flatten().flatten();
    entries.filter_map(|of| Some((of.file_name().to_str()?.parse().ok()?, of.path()))).collect()
}

fn next(all: &Path) -> u32 {
    numbered(all).last_key_value().map_or(1, |(number, _)| number + 1)
}

/// The stores that the attempts of a submission wrote.
fn stores(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("stores")).into_iter().flatten().flatten();
    let mut stores: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    stores.retain(|path| path.extension().is_some_and(|of| of == "db"));
    stores.sort();
    stores
}

/// The cells to run, with what they are expected to take by the records of the store, or else by a probe.
fn loads(planned: &Planned, cache: &Path) -> miette::Result<Vec<Load>> {
    let known = Known::of(planned, cache)?;
    let load = |cell: &&vq_host::plan::Cell| Load {
        name: cell.name(),
        title: cell.title(),
        seconds: known.seconds(planned, cell),
    };
    Ok(planned.to_run().iter().map(load).collect())
}

/// What is typed wins over what the sweep says.
fn options(args: &cli::SubmitArgs, sweep: &SubmitOptions) -> SubmitOptions {
    let of = sweep.clone();
    SubmitOptions {
        tasks: args.tasks.or(of.tasks),
        account: args.account.clone().or(of.account),
        queue: args.queue.clone().or(of.queue),
        time: args.time.or(of.time),
        memory: args.memory.map(|size| size.as_u64()).or(of.memory),
        cpus: args.cpus.or(of.cpus),
        gpus: args.gpus.or(of.gpus),
        modules: if args.module.is_empty() { of.modules } else { args.module.clone() },
        exclusive: args.exclusive || of.exclusive,
        cache: args.node_cache.clone().or(of.cache),
    }
}

/// A line of a script would end early.
fn refuse_control_characters(options: &SubmitOptions) -> miette::Result<()> {
    let SubmitOptions { account, queue, modules, .. } = options;
    let named = [("account", account), ("queue", queue)].map(|(name, of)| (name, of.as_slice()));
    for (name, values) in named.into_iter().chain([("module", modules.as_slice())]) {
        if let Some(value) = values.iter().find(|value| value.contains(char::is_control)) {
            return Err(miette!("--{name} has a control character: {value:?}"));
        }
    }
    Ok(())
}

/// What tasks need of what was typed here, paths from everywhere.
fn arguments(selection: &cli::Selection) -> miette::Result<Vec<String>> {
    let mut arguments = Vec::new();
    for folder in &selection.places.plugin_dir {
        let folder = absolute(folder).into_diagnostic()?;
        arguments.extend(["--plugin-dir".to_owned(), folder.display().to_string()]);
    }
    for (wanted, name) in [
        (selection.places.allow_world_writable, "--allow-world-writable"),
        (selection.places.no_sandbox, "--no-sandbox"),
    ] {
        if wanted {
            arguments.push(name.to_owned());
        }
    }
    Ok(arguments)
}

fn write_dry(
    out: &mut impl Write,
    scripts: &Scripts,
    tasks: &[Task],
    print: bool,
) -> std::io::Result<()> {
    if print {
        for line in scripts.commands(tasks.len()) {
            writeln!(out, "{line}")?;
        }
        return out.flush();
    }
    let folder = scripts.folder.display();
    writeln!(out, "# {folder}/task.sh, submitted with --array=1-{}", tasks.len())?;
    write!(out, "{}", scripts.slurm_task())?;
    writeln!(out, "\n# {folder}/merge.sh, submitted with --dependency=afterany:JOB")?;
    write!(out, "{}", scripts.slurm_merge())?;
    for (task, number) in tasks.iter().zip(1..) {
        writeln!(out, "\n# {folder}/tasks/{number}.cells")?;
        write!(out, "{}", task.listed())?;
    }
    out.flush()
}

fn write_files(scripts: &Scripts, tasks: &[Task]) -> miette::Result<()> {
    let folder = &scripts.folder;
    let cannot = |path: &Path, error| miette!("cannot create {}: {error}", path.display());
    if let Some(all) = folder.parent() {
        fs::create_dir_all(all).map_err(|error| cannot(all, error))?;
    }
    fs::create_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => miette!(
            help = "submit again",
            "another submission began in {} meanwhile",
            folder.display()
        ),
        _ => cannot(folder, error),
    })?;
    for name in ["stores", "logs", "tasks"] {
        let path = folder.join(name);
        fs::create_dir(&path).map_err(|error| cannot(&path, error))?;
    }
    for (task, number) in tasks.iter().zip(1..) {
        let path = folder.join(format!("tasks/{number}.cells"));
        stored::write_file(&path, task.listed().as_bytes())?;
    }
    stored::write_file(&folder.join("task.sh"), scripts.slurm_task().as_bytes())?;
    stored::write_file(&folder.join("merge.sh"), scripts.slurm_merge().as_bytes())
}

/// Submits the array and the merge that waits for it; their ids.
fn submit_to_slurm(scripts: &Scripts, tasks: usize) -> miette::Result<[String; 2]> {
    let folder = &scripts.folder;
    let array = sbatch(&[format!("--array=1-{tasks}")], &folder.join("task.sh"))?;
    let jobs = folder.join(JOBS);
    stored::write_file(&jobs, format!("{array}\n").as_bytes())?;
    let merge = sbatch(&[format!("--dependency=afterany:{array}")], &folder.join("merge.sh"))
        .map_err(|error| {
            miette!(
                help = "run merge.sh by hand when the array has ended, or scancel it",
                "job {array} is submitted, and its merge is not: {error}"
            )
        })?;
    stored::write_file(&jobs, format!("{array}\n{merge}\n").as_bytes())?;
    Ok([array, merge])
}

fn sbatch(options: &[String], script: &Path) -> miette::Result<String> {
    let ended = Command::new("sbatch").arg("--parsable").args(options).arg(script).output();
    let ended = ended.map_err(|error| {
        miette!(
            help = "submit where the scheduler is, or take --print: a command for each task",
            "sbatch cannot be started: {error}"
        )
    })?;
    let said = String::from_utf8_lossy(&ended.stdout);
    // `4711` or `4711;cluster`.
    let id = said.trim().split(';').next().unwrap_or_default().to_owned();
    if !ended.status.success() || id.is_empty() {
        let why = String::from_utf8_lossy(&ended.stderr);
        return Err(miette!("sbatch refuses {}: {}", script.display(), why.trim()));
    }
    Ok(id)
}

/// Whether the scheduler still has one of these jobs.
fn at_work(jobs: &[String]) -> miette::Result<bool> {
    if jobs.is_empty() {
        return Ok(false);
    }
    let asked = Command::new("squeue").args(["-h", "-o", "%T", "-j", &jobs.join(",")]).output();
    let answer = asked.map_err(|error| {
        miette!(
            help = "ask where the scheduler is",
            "squeue cannot be started, so nobody knows whether job {} is at work: {error}",
            jobs.join(", ")
        )
    })?;
    let unknown = String::from_utf8_lossy(&answer.stderr).contains("Invalid job id");
    if !answer.status.success() && !unknown {
        let why = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        return Err(miette!("squeue does not answer: {why}"));
    }
    Ok(answer.stdout.iter().any(|byte| !byte.is_ascii_whitespace()))
}

/// Tells how many cells are measured until all jobs have ended.
fn watch(folder: &Path, jobs: &[String], cells: usize) -> miette::Result<ExitCode> {
    let began = Instant::now();
    let mut told = usize::MAX;
    loop {
        // A scheduler that is restarted does not answer for a while.
        let working = at_work(jobs).unwrap_or(true);
        let outcomes = outcomes(folder);
        let done = outcomes.values().filter(|of| **of != Outcome::Cancelled).count();
        if done != told {
            let left = match done {
                0 => String::new(),
                _ => {
                    let each = began.elapsed().as_secs_f64() / done as f64;
                    let left =
                        Duration::from_secs_f64((each * (cells - done.min(cells)) as f64).ceil());
                    format!(", about {} left", humantime::format_duration(left))
                }
            };
            say::line(&format!("{done} of {}{left}", counted(cells, "cell")));
            told = done;
        }
        if !working {
            let well = outcomes.values().filter(|of| of.is_ok()).count();
            if well == cells {
                return Ok(ExitCode::SUCCESS);
            }
            let (failed, missing) = (done - well, cells - done.min(cells));
            say::line(&format!(
                "{failed} failed, {missing} are missing: submit again for what is missing; {} tells why",
                folder.join("logs").display()
            ));
            return Ok(ExitCode::from(SOME_FAILED));
        }
        let next = Instant::now() + LOOKS;
        while Instant::now() < next {
            if CANCEL.load(Ordering::Relaxed) {
                return Err(miette!("interrupted"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// How the cells that any attempt measured ended, the best of each.
fn outcomes(folder: &Path) -> BTreeMap<String, Outcome> {
    let mut all = BTreeMap::new();
    for path in stores(folder) {
        // One that is being made is read the next time.
        let Ok(Ok(finished)) = Store::open_read_only(&path).map(|reader| reader.finished()) else {
            continue;
        };
        for (key, done) in finished.outcomes {
            let best = all.entry(key).or_insert(done.outcome);
            if !best.is_ok() && done.outcome != Outcome::Cancelled {
                *best = done.outcome;
            }
        }
    }
    all
}
