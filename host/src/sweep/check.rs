//! From the wire types to a [`Sweep`]: defaults, ranges of values, names, files.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use toml::Spanned;

use super::arguments::COMMAND_LINE;
use super::error::{SweepError, SweepProblem, SweepSource};
use super::{
    ALL_METHODS, Axis, Dataset, Evaluate, Exclude, MethodUse, RunOptions, Sweep, Value, axis, wire,
};
use crate::data::{
    DatasetSpec, Metric, Queries, Source, Synthetic, SyntheticKind, Train, UnusableRows,
    are_shards, is_pattern, may_have_queries,
};
use crate::metric::Family;
use crate::python::interpreter::Interpreter;
use crate::submit::SubmitOptions;
use crate::suggest::nearest_name;

/// Queries of a file that may have its own, and has none.
const HELD_OUT: usize = 500;

const METRICS: &[(&str, Metric)] =
    &[("l2", Metric::L2), ("ip", Metric::Ip), ("cosine", Metric::Cosine)];

const UNUSABLE: &[(&str, UnusableRows)] =
    &[("refuse", UnusableRows::Refused), ("drop", UnusableRows::Dropped)];

const KINDS: &[(&str, SyntheticKind)] = &[
    ("gaussian", SyntheticKind::Gaussian),
    ("clustered", SyntheticKind::Clustered),
    ("sphere", SyntheticKind::Sphere),
    ("low_rank", SyntheticKind::LowRank),
    ("uniform", SyntheticKind::Uniform),
];

pub(super) fn check(
    source: SweepSource,
    file: wire::File,
    base_dir: &Path,
) -> Result<Sweep, SweepError> {
    let check = Check { source: &source, base_dir };
    let name = match &file.sweep.name {
        Some(name) => check.name("a sweep's name", name)?,
        None => Path::new(source.name())
            .file_stem()
            .map_or_else(|| "sweep".to_owned(), |stem| stem.to_string_lossy().into_owned()),
    };
    let seeds = match &file.sweep.seeds {
        Some(seeds) => {
            check.integers("seeds", seeds, 0)?.into_iter().map(|seed| seed as u64).collect()
        }
        None => vec![42],
    };
    let metric = match &file.sweep.metric {
        Some(metric) => check.choice("metric", metric, METRICS)?,
        None => Metric::L2,
    };
    let bits_per_dim = match &file.sweep.bits_per_dim {
        Some(rates) => check.rates(rates)?,
        None => Vec::new(),
    };
    let run = check.run(&file.run, &name)?;
    let submit = check.submit(&file.submit)?;
    let evaluate = check.evaluate(&file.evaluate)?;

    let mut datasets: Vec<Dataset> = Vec::new();
    for written in &file.dataset.0 {
        let dataset = check.dataset(written, metric, file.sweep.metric.is_some())?;
        for dataset in check.sizes(dataset, written.get_ref().sizes.as_ref())? {
            let same = |of: &&Dataset| of.spec.name == dataset.spec.name;
            if let Some(first) = datasets.iter().find(same) {
                let first = first.name_span.clone();
                let problem = SweepProblem::SameName { name: dataset.spec.name, first };
                return Err(check.refuse(dataset.name_span, problem));
            }
            datasets.push(dataset);
        }
    }
    if datasets.is_empty() {
        return Err(check.no_table("dataset"));
    }
    check.truths(&datasets)?;
    let methods = file
        .method
        .0
        .iter()
        .map(|written| check.method(written, &datasets))
        .collect::<Result<Vec<_>, _>>()?;
    if methods.is_empty() {
        return Err(check.no_table("method"));
    }
    Ok(Sweep { source, name, seeds, bits_per_dim, run, submit, datasets, evaluate, methods })
}

/// What every check needs: what to point at, and where files are.
pub(super) struct Check<'a> {
    pub(super) source: &'a SweepSource,
    base_dir: &'a Path,
}

impl Check<'_> {
    pub(super) fn refuse(&self, span: Range<usize>, problem: SweepProblem) -> SweepError {
        SweepError::new(self.source, span, problem)
    }

    fn no_table(&self, table: &'static str) -> SweepError {
        let end = self.source.text().trim_end().len();
        self.refuse(end..end, SweepProblem::NoTable { table })
    }

    fn duration(&self, written: &Spanned<String>) -> Result<Duration, SweepError> {
        let duration = humantime::parse_duration(written.get_ref());
        let rule = "write a duration such as \"90s\", \"10min\" or \"1h 30min\"";
        self.readable("a duration", rule, written, duration.ok())
    }

    fn size(&self, written: &Spanned<String>) -> Result<u64, SweepError> {
        let size = written.get_ref().parse::<ByteSize>();
        let rule = "write a size such as \"8GiB\" or \"500MB\"";
        self.readable("a size", rule, written, size.ok()).map(|size| size.as_u64())
    }

    fn submit(&self, submit: &wire::Submit) -> Result<SubmitOptions, SweepError> {
        let name = |what, written: &Option<Spanned<String>>| {
            written.as_ref().map(|written| self.name(what, written)).transpose()
        };
        let modules = match &submit.modules {
            Some(written) => written.get_ref().as_slice(),
            None => &[],
        };
        Ok(SubmitOptions {
            tasks: self.at_least("tasks", submit.tasks.as_ref(), 1)?,
            account: name("an account", &submit.account)?,
            queue: name("a queue", &submit.queue)?,
            time: submit.time.as_ref().map(|written| self.duration(written)).transpose()?,
            memory: submit.memory.as_ref().map(|written| self.size(written)).transpose()?,
            cpus: self.at_least("cpus", submit.cpus.as_ref(), 1)?,
            gpus: self.at_least("gpus", submit.gpus.as_ref(), 1)?,
            modules: modules
                .iter()
                .map(|written| self.name("a module", written))
                .collect::<Result<_, _>>()?,
            exclusive: submit.exclusive.unwrap_or(false),
            cache: name("a path", &submit.cache)?.map(PathBuf::from),
        })
    }

    fn run(&self, run: &wire::Run, name: &str) -> Result<RunOptions, SweepError> {
        let timeout = match &run.timeout {
            Some(written) => self.duration(written)?,
            None => Duration::from_secs(600),
        };
        let size = |written: &Option<_>, default: ByteSize| match written {
            Some(written) => self.size(written),
            None => Ok(default.as_u64()),
        };
        let memory = size(&run.memory, ByteSize::gib(8))?;
        let scratch = size(&run.scratch, ByteSize::gib(1))?;
        for (key, written, zero) in [
            ("timeout", &run.timeout, timeout.is_zero()),
            ("memory", &run.memory, memory == 0),
            ("scratch", &run.scratch, scratch == 0),
        ] {
            if let (Some(written), true) = (written, zero) {
                let problem = SweepProblem::NotPositive { key, found: written.get_ref().clone() };
                return Err(self.refuse(written.span(), problem));
            }
        }
        let store = match &run.store {
            Some(store) => self.name("a path", store).map(|_| PathBuf::from(store.get_ref()))?,
            None => PathBuf::from(format!("results/{name}.db")),
        };
        Ok(RunOptions {
            jobs: self.at_least("jobs", run.jobs.as_ref(), 1)?.unwrap_or(1),
            threads: self.at_least("threads", run.threads.as_ref(), 0)?.unwrap_or(0),
            timeout,
            memory,
            scratch,
            store: self.base_dir.join(store),
            python: run.python.as_ref().map(|written| self.python(written)).transpose()?,
        })
    }

    fn python(&self, written: &Spanned<String>) -> Result<PathBuf, SweepError> {
        let path = self.base_dir.join(self.name("a path", written)?);
        Interpreter::at(&path)
            .map_err(|why| self.refuse(written.span(), SweepProblem::NoInterpreter(why)))?;
        Ok(path)
    }

    fn own_python(
        &self,
        written: Option<&Spanned<String>>,
    ) -> Result<Option<Spanned<PathBuf>>, SweepError> {
        let read = |of: &Spanned<String>| {
            let path = self.python(of)?;
            // Workers have a folder of their own.
            Ok(Spanned::new(of.span(), std::path::absolute(&path).unwrap_or(path)))
        };
        written.map(read).transpose()
    }

    fn evaluate(&self, evaluate: &wire::Evaluate) -> Result<Evaluate, SweepError> {
        let multiples = |key, written: &Option<_>, default: &[usize]| match written {
            Some(written) => self.integers(key, written, 1),
            None => Ok(default.to_vec()),
        };
        Ok(Evaluate {
            k: multiples("k", &evaluate.k, &[1, 10, 100])?,
            pairs: self.at_least("pairs", evaluate.pairs.as_ref(), 1)?.unwrap_or(10_000),
            rerank: multiples("rerank", &evaluate.rerank, &[1, 2, 4, 10])?,
            repeats: self.at_least("repeats", evaluate.repeats.as_ref(), 1)?.unwrap_or(3),
            metrics: match &evaluate.metrics {
                Some(written) => self.families(written.get_ref())?,
                None => Family::usual(),
            },
        })
    }

    fn families(&self, written: &[Spanned<String>]) -> Result<Vec<Family>, SweepError> {
        let choices = Family::ALL.map(|family| (family.name(), family));
        let mut families = Vec::new();
        for (i, name) in written.iter().enumerate() {
            if let Some(first) = written[..i].iter().find(|first| *first == name) {
                let problem = SweepProblem::Duplicate {
                    key: "metrics".to_owned(),
                    value: axis::written(&Value::Str(name.get_ref().clone())),
                    first: Some(first.span()),
                };
                return Err(self.refuse(name.span(), problem));
            }
            families.push(self.choice("family", name, &choices)?);
        }
        families.sort_unstable();
        Ok(families)
    }

    fn dataset(
        &self,
        written: &Spanned<wire::Dataset>,
        metric: Metric,
        metric_written: bool,
    ) -> Result<Dataset, SweepError> {
        let table = written.span();
        let dataset = written.get_ref();
        let name = self.required(&table, dataset.name.as_ref(), "name", "name = \"…\"")?;
        let limit = self.at_least("limit", dataset.limit.as_ref(), 1)?;
        let (source, source_span) = match (&dataset.base, &dataset.synthetic) {
            (Some(base), None) => (self.base(base)?, base.span()),
            (None, Some(written)) => (Source::Synthetic(self.synthetic(written)?), written.span()),
            (Some(base), Some(synthetic)) => {
                let (base, synthetic) = (base.span(), synthetic.span());
                let (first, second) = if base.start < synthetic.start {
                    (base, synthetic)
                } else {
                    (synthetic, base)
                };
                return Err(self.refuse(second, SweepProblem::TwoSources { first }));
            }
            (None, None) => return Err(self.refuse(table, SweepProblem::NoSource)),
        };
        let (queries, queries_span) = match (&dataset.queries, &source) {
            (None, Source::File(path)) if may_have_queries(path) => {
                (Queries::HoldOutUpTo(HELD_OUT), source_span.clone())
            }
            (written, _) => {
                let example = "queries = { hold_out = 500 }";
                let written = self.required(&table, written.as_ref(), "queries", example)?;
                (self.queries(written, &source, limit)?, written.span())
            }
        };
        let train = match dataset.train.as_ref().map(|train| (train.span(), train.get_ref())) {
            None => Train::Reserved(None),
            Some((span, wire::PathOr::Path(path))) => Train::File(self.file(span, path)?),
            Some((span, wire::PathOr::Table(rows))) => {
                if rows.apart.is_none() {
                    // A table that says nothing is not finished.
                    let example = "sample = 20000";
                    self.required(&span, rows.sample.as_ref(), "sample", example)?;
                }
                match (rows.apart, self.at_least("sample", rows.sample.as_ref(), 1)?) {
                    (Some(false), None) => Train::Base,
                    (Some(false), Some(count)) => Train::Sample(count),
                    (None | Some(true), count) => Train::Reserved(count),
                }
            }
        };
        let metric = match &dataset.metric {
            Some(metric) => self.choice("metric", metric, METRICS)?,
            None => metric,
        };
        let metric_written = dataset.metric.is_some() || metric_written;
        let unusable = dataset.unusable.as_ref();
        let unusable = unusable.map(|word| self.choice("unusable", word, UNUSABLE)).transpose()?;
        let neighbours = dataset.neighbours.as_ref();
        let neighbours =
            neighbours.map(|path| self.file(path.span(), path.get_ref())).transpose()?;
        let written_name = self.name("a dataset's name", name)?;
        Ok(Dataset {
            name_span: name.span(),
            source_span,
            queries_span,
            train_span: dataset.train.as_ref().map(Spanned::span),
            metric_written,
            truth_of: dataset.truth_of.clone(),
            transforms: self.transforms(dataset.transform.as_ref())?,
            spec: DatasetSpec {
                name: written_name.clone(),
                source,
                queries,
                train,
                limit,
                thin: None,
                metric,
                own_metric: !metric_written,
                unusable: unusable.unwrap_or_default(),
                neighbours,
            },
            written_name,
        })
    }

    /// That every `truth_of` names another data set.
    fn truths(&self, datasets: &[Dataset]) -> Result<(), SweepError> {
        for dataset in datasets {
            let Some(name) = &dataset.truth_of else { continue };
            let others = datasets.iter().filter(|other| other.spec.name != dataset.spec.name);
            if !others.clone().any(|other| other.spec.name == *name.get_ref()) {
                let problem = SweepProblem::UnknownChoice {
                    what: "other dataset",
                    found: name.get_ref().clone(),
                    valid: others.map(|other| other.spec.name.clone()).collect(),
                };
                return Err(self.refuse(name.span(), problem));
            }
        }
        Ok(())
    }

    /// The data set at each of its sizes; as it is where it has none.
    fn sizes(
        &self,
        whole: Dataset,
        written: Option<&Spanned<Vec<Spanned<wire::Value>>>>,
    ) -> Result<Vec<Dataset>, SweepError> {
        const KEY: &str = "sizes";
        let Some(written) = written else { return Ok(vec![whole]) };
        if written.get_ref().is_empty() {
            let problem = SweepProblem::EmptyList { key: KEY.to_owned() };
            return Err(self.refuse(written.span(), problem));
        }
        let mut all: Vec<Dataset> = Vec::new();
        for size in written.get_ref() {
            let mut dataset = whole.clone();
            dataset.spec.thin = match size.get_ref() {
                wire::Value::Str(word) if word == "all" => None,
                wire::Value::Int(rows) => {
                    Some(self.integer(KEY, &Spanned::new(size.span(), *rows), 1)?)
                }
                other => {
                    let expected = "a number of rows or \"all\"".to_owned();
                    let problem =
                        SweepProblem::WrongType { expected, found: other.kind().to_owned() };
                    return Err(self.refuse(size.span(), problem));
                }
            };
            if let Some(rows) = dataset.spec.thin {
                dataset.spec.name = format!("{}@{rows}", whole.written_name);
            }
            if all.iter().any(|other| other.spec.thin == dataset.spec.thin) {
                let value = self.source.text()[size.span()].to_owned();
                let problem = SweepProblem::Duplicate { key: KEY.to_owned(), value, first: None };
                return Err(self.refuse(size.span(), problem));
            }
            all.push(dataset);
        }
        Ok(all)
    }

    fn queries(
        &self,
        written: &Spanned<wire::PathOr<wire::HoldOut>>,
        source: &Source,
        limit: Option<usize>,
    ) -> Result<Queries, SweepError> {
        let span = written.span();
        let rows = match written.get_ref() {
            wire::PathOr::Path(path) => return Ok(Queries::File(self.file(span, path)?)),
            wire::PathOr::Table(rows) => rows,
        };
        let hold_out = rows.hold_out.as_ref();
        let hold_out = self.required(&span, hold_out, "hold_out", "hold_out = 500")?;
        let rows = self.integer("hold_out", hold_out, 1)?;
        if self.source.name() == COMMAND_LINE {
            // A default there.
            return Ok(Queries::HoldOutUpTo(rows));
        }
        self.leaves_a_base(source, limit, hold_out.span(), rows)?;
        Ok(Queries::HoldOut(rows))
    }

    fn base(&self, written: &Spanned<wire::Base>) -> Result<Source, SweepError> {
        let span = written.span();
        Ok(match written.get_ref() {
            wire::Base::File(path) => Source::File(self.file(span, path)?),
            wire::Base::Files(paths) => {
                if paths.is_empty() {
                    return Err(
                        self.refuse(span, SweepProblem::EmptyList { key: "base".to_owned() })
                    );
                }
                let all = paths.iter().map(|path| self.file(span.clone(), path));
                Source::Files(all.collect::<Result<_, _>>()?)
            }
            wire::Base::InTable(of) => {
                let file = self.required(&span, of.file.as_ref(), "file", "file = \"a.hdf5\"")?;
                // Whatever the format calls it, it is one thing.
                let table = of.table.as_ref().or(of.column.as_ref());
                let table = self.required(&span, table, "table", "table = \"train\"")?;
                Source::Table {
                    file: self.file(file.span(), file.get_ref())?,
                    table: self.name("a table's name", table)?,
                }
            }
        })
    }

    fn synthetic(&self, written: &Spanned<wire::Synthetic>) -> Result<Synthetic, SweepError> {
        let table = written.span();
        let synthetic = written.get_ref();
        let kind = synthetic.kind.as_ref();
        let kind = self.required(&table, kind, "kind", "kind = \"gaussian\"")?;
        let n = self.required(&table, synthetic.n.as_ref(), "n", "n = 20000")?;
        let dim = self.required(&table, synthetic.dim.as_ref(), "dim", "dim = 128")?;
        let seed = self.required(&table, synthetic.seed.as_ref(), "seed", "seed = 1")?;
        Ok(Synthetic {
            kind: self.choice("kind", kind, KINDS)?,
            n: self.integer("n", n, 1)?,
            dim: self.integer("dim", dim, 1)?,
            seed: self.integer("seed", seed, 0)? as u64,
        })
    }

    /// A file's rows are counted when it is prepared; a synthetic source's are known now.
    fn leaves_a_base(
        &self,
        source: &Source,
        limit: Option<usize>,
        span: Range<usize>,
        hold_out: usize,
    ) -> Result<(), SweepError> {
        let generated = match source {
            Source::Synthetic(synthetic) => synthetic.n,
            Source::File(_) | Source::Files(_) | Source::Table { .. } => usize::MAX,
        };
        let rows = generated.min(limit.unwrap_or(usize::MAX));
        if hold_out >= rows {
            return Err(self.refuse(span, SweepProblem::NothingLeft { hold_out, rows }));
        }
        Ok(())
    }

    fn method(
        &self,
        written: &Spanned<wire::MethodTable>,
        datasets: &[Dataset],
    ) -> Result<MethodUse, SweepError> {
        let method = written.get_ref();
        let id = self.required(&written.span(), method.id.as_ref(), "use", "use = \"…\"")?;
        self.name("a method's id", id)?;
        if id.get_ref() == ALL_METHODS {
            let params = in_written_order(&method.params).first().map(|(name, _)| name.span());
            let exclude = method.exclude.first().map(Spanned::span);
            for (key, span) in [
                ("plugin", method.plugin.as_ref().map(Spanned::span)),
                ("digest", method.digest.as_ref().map(Spanned::span)),
                ("python", method.python.as_ref().map(Spanned::span)),
                ("second", method.second.as_ref().map(Spanned::span)),
                ("params", params),
                ("exclude", exclude),
            ] {
                if let Some(span) = span {
                    return Err(self.refuse(span, SweepProblem::NotForAll { key }));
                }
            }
        }
        if let Some(plugin) = &method.plugin {
            self.name("a plugin's file name", plugin)?;
        }
        if let Some(digest) = &method.digest {
            let hex = |c| matches!(c, b'0'..=b'9' | b'a'..=b'f');
            let is_digest = digest.get_ref().len() == 64 && digest.get_ref().bytes().all(hex);
            let rule = "a digest is the 64 lower-case hexadecimal digits of the file's BLAKE3";
            self.readable("a digest", rule, digest, is_digest.then_some(()))?;
        }
        let axes = self.axes(&method.params)?;
        let exclude = method
            .exclude
            .iter()
            .map(|written| self.exclude(written, &axes))
            .collect::<Result<_, _>>()?;
        let bits_per_dim = match &method.bits_per_dim {
            Some(rates) => self.rates(rates)?,
            None => Vec::new(),
        };
        if let Some(written) = &method.datasets {
            self.known_datasets(written, datasets)?;
        }
        Ok(MethodUse {
            id: id.clone(),
            plugin: method.plugin.clone(),
            digest: method.digest.clone(),
            python: self.own_python(method.python.as_ref())?,
            axes,
            exclude,
            bits_per_dim,
            datasets: method.datasets.as_ref().map(|names| with_sizes(names.get_ref(), datasets)),
            transforms: self.transforms(method.transform.as_ref())?,
            second: match &method.second {
                Some(second) => Some(Box::new(self.second(second)?)),
                None => None,
            },
        })
    }

    fn second(&self, written: &Spanned<wire::Second>) -> Result<MethodUse, SweepError> {
        let second = written.get_ref();
        let id = self.required(&written.span(), second.id.as_ref(), "use", "use = \"…\"")?;
        self.name("a method's id", id)?;
        if let Some(plugin) = &second.plugin {
            self.name("a plugin's file name", plugin)?;
        }
        Ok(MethodUse {
            id: id.clone(),
            plugin: second.plugin.clone(),
            digest: None,
            python: self.own_python(second.python.as_ref())?,
            axes: self.axes(&second.params)?,
            exclude: Vec::new(),
            bits_per_dim: Vec::new(),
            datasets: None,
            transforms: None,
            second: None,
        })
    }

    fn axes(&self, params: &wire::Table) -> Result<Vec<Axis>, SweepError> {
        let axis = |(name, values): (&Spanned<String>, &Spanned<wire::Value>)| {
            Ok(Axis {
                name: name.get_ref().clone(),
                key_span: name.span(),
                value_span: values.span(),
                values: axis::expand(self.source, name.get_ref(), values)?,
            })
        };
        in_written_order(params).into_iter().map(axis).collect()
    }

    fn exclude(
        &self,
        written: &Spanned<wire::Table>,
        axes: &[Axis],
    ) -> Result<Exclude, SweepError> {
        if written.get_ref().is_empty() {
            return Err(self.refuse(written.span(), SweepProblem::ExcludesAll));
        }
        let mut values = Vec::new();
        for (name, value) in in_written_order(written.get_ref()) {
            let value = axis::plain(self.source, name.get_ref(), value)?;
            // A parameter that has no axis here may have one in the method's default grid.
            let axis = axes.iter().find(|axis| axis.name == *name.get_ref());
            if let Some(axis) = axis
                && !axis.values.iter().any(|v| axis::same(v.get_ref(), value.get_ref()))
            {
                let problem = SweepProblem::ExcludesNothing {
                    name: axis.name.clone(),
                    value: axis::written(value.get_ref()),
                    values: axis.values.iter().map(|v| axis::written(v.get_ref())).collect(),
                };
                return Err(self.refuse(value.span(), problem));
            }
            values.push((name.clone(), value));
        }
        Ok(Exclude { values, span: written.span() })
    }

    fn rates(&self, written: &Spanned<wire::Value>) -> Result<Vec<Spanned<f64>>, SweepError> {
        const KEY: &str = "bits_per_dim";
        let values = axis::expand(self.source, KEY, written)?;
        let rate = |value: Spanned<Value>| {
            let span = value.span();
            let problem = match value.get_ref() {
                Value::Int(rate) if *rate > 0 => return Ok(Spanned::new(span, *rate as f64)),
                Value::Float(rate) if *rate > 0.0 => return Ok(Spanned::new(span, *rate)),
                number @ (Value::Int(_) | Value::Float(_)) => {
                    SweepProblem::NotPositive { key: KEY, found: axis::written(number) }
                }
                other => SweepProblem::WrongType {
                    expected: "a number".to_owned(),
                    found: axis::written(other),
                },
            };
            Err(self.refuse(span, problem))
        };
        values.into_iter().map(rate).collect()
    }

    fn known_datasets(
        &self,
        written: &Spanned<Vec<Spanned<String>>>,
        datasets: &[Dataset],
    ) -> Result<(), SweepError> {
        let names = written.get_ref();
        if names.is_empty() {
            let problem = SweepProblem::EmptyList { key: "datasets".to_owned() };
            return Err(self.refuse(written.span(), problem));
        }
        for (i, name) in names.iter().enumerate() {
            let named = |dataset: &Dataset| {
                dataset.spec.name == *name.get_ref() || dataset.written_name == *name.get_ref()
            };
            if !datasets.iter().any(named) {
                let problem = SweepProblem::UnknownChoice {
                    what: "dataset",
                    found: name.get_ref().clone(),
                    valid: datasets.iter().map(|dataset| dataset.spec.name.clone()).collect(),
                };
                return Err(self.refuse(name.span(), problem));
            }
            if let Some(first) = names[..i].iter().find(|first| *first == name) {
                let problem = SweepProblem::Duplicate {
                    key: "datasets".to_owned(),
                    value: axis::written(&Value::Str(name.get_ref().clone())),
                    first: Some(first.span()),
                };
                return Err(self.refuse(name.span(), problem));
            }
        }
        Ok(())
    }

    fn required<'w, T>(
        &self,
        table: &Range<usize>,
        written: Option<&'w Spanned<T>>,
        key: &'static str,
        example: &'static str,
    ) -> Result<&'w Spanned<T>, SweepError> {
        written.ok_or_else(|| self.refuse(table.clone(), SweepProblem::MissingKey { key, example }))
    }

    pub(super) fn integer(
        &self,
        key: &'static str,
        written: &Spanned<i64>,
        least: i64,
    ) -> Result<usize, SweepError> {
        let found = *written.get_ref();
        if found < least {
            return Err(self.refuse(written.span(), SweepProblem::TooSmall { key, least, found }));
        }
        Ok(usize::try_from(found).expect("not below `least`, which is not negative"))
    }

    fn at_least(
        &self,
        key: &'static str,
        written: Option<&Spanned<i64>>,
        least: i64,
    ) -> Result<Option<usize>, SweepError> {
        written.map(|written| self.integer(key, written, least)).transpose()
    }

    fn integers(
        &self,
        key: &'static str,
        written: &Spanned<Vec<Spanned<i64>>>,
        least: i64,
    ) -> Result<Vec<usize>, SweepError> {
        let list = written.get_ref();
        if list.is_empty() {
            let problem = SweepProblem::EmptyList { key: key.to_owned() };
            return Err(self.refuse(written.span(), problem));
        }
        for (i, value) in list.iter().enumerate() {
            if let Some(first) = list[..i].iter().find(|first| *first == value) {
                let problem = SweepProblem::Duplicate {
                    key: key.to_owned(),
                    value: value.get_ref().to_string(),
                    first: Some(first.span()),
                };
                return Err(self.refuse(value.span(), problem));
            }
        }
        list.iter().map(|value| self.integer(key, value, least)).collect()
    }

    fn readable<T>(
        &self,
        what: &'static str,
        rule: &'static str,
        written: &Spanned<String>,
        read: Option<T>,
    ) -> Result<T, SweepError> {
        read.ok_or_else(|| {
            let found = written.get_ref().clone();
            self.refuse(written.span(), SweepProblem::Unreadable { what, found, rule })
        })
    }

    pub(super) fn choice<T: Copy>(
        &self,
        what: &'static str,
        written: &Spanned<String>,
        choices: &[(&str, T)],
    ) -> Result<T, SweepError> {
        let found = written.get_ref();
        match choices.iter().find(|(name, _)| name == found) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let problem = SweepProblem::UnknownChoice {
                    what,
                    found: found.clone(),
                    valid: choices.iter().map(|(name, _)| (*name).to_owned()).collect(),
                };
                Err(self.refuse(written.span(), problem))
            }
        }
    }

    /// Names are printed in tables and ids are typed in shells, so no control characters.
    fn name(&self, what: &'static str, written: &Spanned<String>) -> Result<String, SweepError> {
        let name = written.get_ref();
        let printable = !name.trim().is_empty() && !name.chars().any(char::is_control);
        let rule = "write at least one character, and no control characters";
        self.readable(what, rule, written, printable.then(|| name.clone()))
    }

    /// The path to an existing data file.
    fn file(&self, span: Range<usize>, written: &str) -> Result<PathBuf, SweepError> {
        let path = self.base_dir.join(written);
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => Ok(path),
            Ok(found) if !found.is_dir() => Err(self.refuse(span, SweepProblem::NotAFile { path })),
            Ok(_) => self.shards(span, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_pattern(&path) => {
                self.shards(span, path)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let command_line = self.source.name() == COMMAND_LINE;
                Err(self.refuse(span, missing_file(path, command_line)))
            }
            Err(source) => Err(self.refuse(span, SweepProblem::Inaccessible { path, source })),
        }
    }

    /// A folder or a pattern, which has files of one format.
    fn shards(&self, span: Range<usize>, path: PathBuf) -> Result<PathBuf, SweepError> {
        match are_shards(&path) {
            Ok(()) => Ok(path),
            Err(error) => Err(self.refuse(span, SweepProblem::NoShards(error))),
        }
    }
}

fn missing_file(path: PathBuf, command_line: bool) -> SweepProblem {
    // The folder of a bare file name is "", which means the current one.
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let entries = fs::read_dir(folder);
    let folder_exists = entries.is_ok();
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    let nearest = nearest_name(&wanted, names.iter().map(String::as_str)).map(str::to_owned);
    SweepProblem::MissingFile { path, folder_exists, nearest, command_line }
}

/// The TOML reader sorts a table's keys; people expect to find them as they wrote them.
/// A name of several sizes stands for them all.
fn with_sizes(names: &[Spanned<String>], datasets: &[Dataset]) -> Vec<Spanned<String>> {
    let of = |name: &Spanned<String>| {
        let written = name.get_ref().clone();
        let named = move |dataset: &&Dataset| {
            dataset.spec.name == written || dataset.written_name == written
        };
        let span = name.span();
        let called = move |dataset: &Dataset| Spanned::new(span.clone(), dataset.spec.name.clone());
        datasets.iter().filter(named).map(called)
    };
    names.iter().flat_map(of).collect()
}

fn in_written_order(table: &wire::Table) -> Vec<(&Spanned<String>, &Spanned<wire::Value>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
