//! The sweep file: which methods with which parameters on which data, measured how.
//!
//! ```text
//! text ─► wire.rs: keys and types, with spans ─► check.rs: values, defaults, files ─► Sweep
//! ```
//!
//! Everything that can be refused without a plugin or data is refused here, at the place where it
//! is written; one problem at a time. The spans stay in the [`Sweep`], so that planning can point
//! at the key of a parameter that its method does not have.
//!
//! Paths in a sweep are relative to the folder of the sweep file, so a sweep works from anywhere.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use crate::data::DatasetSpec;
use crate::metric::Family;
use crate::submit::SubmitOptions;
use crate::transform::Chain;

mod arguments;
mod axis;
mod check;
mod error;
mod transforms;
mod wire;

pub(crate) use arguments::SECOND;
pub use arguments::{
    COMMAND_LINE, RunArguments, data_name, from_arguments, method_table, parameter, toml_string,
};
pub use error::{SweepError, SweepProblem, SweepSource};
pub use vq_plugin_api::Value;

/// A sweep in which every value is present and makes sense by itself.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// What the spans below are ranges of.
    pub source: SweepSource,
    /// Names the default store; the file's stem if the file does not say.
    pub name: String,
    /// Distinct, at least one.
    pub seeds: Vec<u64>,
    /// True rates for every method that names none of its own; positive, distinct.
    pub bits_per_dim: Vec<Spanned<f64>>,
    /// How cells are run.
    pub run: RunOptions,
    /// What is asked of a scheduler.
    pub submit: SubmitOptions,
    /// At least one, names distinct.
    pub datasets: Vec<Dataset>,
    /// What is measured.
    pub evaluate: Evaluate,
    /// At least one; a method may be used several times.
    pub methods: Vec<MethodUse>,
}

/// `[run]`: what cells may use. Nothing here changes a result, timings apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// Cells at once, at least 1.
    pub jobs: usize,
    /// Threads per cell; 0 = cores / jobs.
    pub threads: usize,
    /// Per cell, more than zero.
    pub timeout: Duration,
    /// Bytes per cell, more than zero.
    pub memory: u64,
    /// Bytes that a cell may write to its scratch folder, more than zero.
    pub scratch: u64,
    /// The SQLite file, joined to the sweep file's folder.
    pub store: PathBuf,
    /// The interpreter of methods in Python, or its environment, joined likewise; it was one when the
    /// sweep was read.
    pub python: Option<PathBuf>,
}

/// One `[[dataset]]`.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What to prepare; its files existed when the sweep was read.
    pub spec: DatasetSpec,
    /// The name as written: that of all its sizes, where it has several.
    pub written_name: String,
    /// Where the name is written.
    pub name_span: Range<usize>,
    /// Where `base` or `synthetic` is written.
    pub source_span: Range<usize>,
    /// Where `queries` is written.
    pub queries_span: Range<usize>,
    /// Where `train` is written, if it is.
    pub train_span: Option<Range<usize>>,
    /// Whether the file says by which distance, for it or for all.
    pub metric_written: bool,
    /// The data set whose neighbours its rows are judged by; its own if `None`.
    pub truth_of: Option<Spanned<String>>,
    /// What is done to its rows before methods see them that do not say themselves: each of these chains
    /// in turn, distinct; `None`: nothing.
    pub transforms: Option<Vec<Spanned<Chain>>>,
}

/// `[evaluate]`: what every cell measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluate {
    /// Neighbours for recall@k, each at least 1, distinct.
    pub k: Vec<usize>,
    /// Random pairs for the pairwise metrics, at least 1.
    pub pairs: usize,
    /// Re-ranked candidates as multiples of k, each at least 1, distinct.
    pub rerank: Vec<usize>,
    /// Timed repeats after the warm-up, at least 1.
    pub repeats: usize,
    /// Families of metrics beside those that every record has, in their order.
    pub metrics: Vec<Family>,
}

/// The id that stands for every method found.
pub const ALL_METHODS: &str = "*";

/// One `[[method]]`.
#[derive(Debug, Clone)]
pub struct MethodUse {
    /// The method's id, or [`ALL_METHODS`].
    pub id: Spanned<String>,
    /// Which of several plugin files with this id, by file name or path.
    pub plugin: Option<Spanned<String>>,
    /// The BLAKE3 digest that the plugin file must have: 64 lower-case hexadecimal digits.
    pub digest: Option<Spanned<String>>,
    /// The interpreter that runs it, a method in Python, or its environment, as an absolute path; it was one
    /// when the sweep was read.
    pub python: Option<Spanned<PathBuf>>,
    /// The parameters given, in the order written; empty means the method's own default grid.
    pub axes: Vec<Axis>,
    /// Configurations to leave out.
    pub exclude: Vec<Exclude>,
    /// True rates to ask the method's generator for; positive, distinct.
    pub bits_per_dim: Vec<Spanned<f64>>,
    /// Names of the datasets to run on, of each all its sizes; all of them if `None`.
    pub datasets: Option<Vec<Spanned<String>>>,
    /// What is done to rows before it sees them: each of these chains in turn, distinct; what the data set
    /// says if `None`.
    pub transforms: Option<Vec<Spanned<Chain>>>,
    /// The method that codes each row a second time and ranks what the first finds.
    pub second: Option<Box<MethodUse>>,
}

impl MethodUse {
    /// Whether it stands for every method found.
    pub fn is_all(&self) -> bool {
        self.id.get_ref() == ALL_METHODS
    }

    /// Whether it runs on the data set of this name.
    pub fn runs_on(&self, dataset: &str) -> bool {
        let named = |names: &Vec<Spanned<String>>| names.iter().any(|n| n.get_ref() == dataset);
        self.datasets.as_ref().is_none_or(named)
    }
}

/// One parameter and the values it takes.
#[derive(Debug, Clone)]
pub struct Axis {
    /// The parameter.
    pub name: String,
    /// Where the name is written.
    pub key_span: Range<usize>,
    /// Where the value, the list or the range is written.
    pub value_span: Range<usize>,
    /// At least one, distinct, of one type (integers and floats may mix). The values of a range
    /// have the range's span.
    pub values: Vec<Spanned<Value>>,
}

/// Leaves out the configurations that have all of these values.
#[derive(Debug, Clone)]
pub struct Exclude {
    /// At least one parameter with its value, in the order written.
    pub values: Vec<(Spanned<String>, Spanned<Value>)>,
    /// Where the table is written.
    pub span: Range<usize>,
}

impl Exclude {
    /// Whether a configuration, seen through `value_of`, is to be left out. 1 and 1.0 are the same.
    pub fn applies<'a>(&self, value_of: impl Fn(&str) -> Option<&'a Value>) -> bool {
        self.values.iter().all(|(name, excluded)| {
            value_of(name.get_ref()).is_some_and(|value| axis::same(value, excluded.get_ref()))
        })
    }
}

impl Sweep {
    /// Position of the data set whose neighbours those of data set `at` are judged by, if that is
    /// another one.
    pub fn truth_of(&self, at: usize) -> Option<usize> {
        let name = self.datasets[at].truth_of.as_ref()?;
        self.datasets.iter().position(|other| other.spec.name == *name.get_ref())
    }

    /// Reads and checks the sweep file at `path`.
    ///
    /// # Errors
    /// [`SweepProblem::Read`] if there is no such text file, else as [`Sweep::parse`].
    pub fn load(path: &Path) -> Result<Self, SweepError> {
        let name = path.to_string_lossy();
        let text = std::fs::read_to_string(path).map_err(|source| {
            let problem = SweepProblem::Read { path: path.to_owned(), source };
            SweepError::new(&SweepSource::new(&name, ""), None, problem)
        })?;
        Self::parse(&name, &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks the sweep `text`, shown as `source_name` in diagnostics, with paths relative to
    /// `base_dir`. Looks at the data files' existence and at nothing else outside.
    ///
    /// # Errors
    /// The first [`SweepProblem`] found, with its place in the text.
    pub fn parse(source_name: &str, text: &str, base_dir: &Path) -> Result<Self, SweepError> {
        let source = SweepSource::new(source_name, text);
        let file = wire::read(&source)?;
        check::check(source, file, base_dir)
    }
}

#[cfg(test)]
mod tests {
    use miette::{GraphicalReportHandler, GraphicalTheme};
    use proptest::prelude::*;

    use super::*;
    use crate::data::{Metric, Queries, Source, Synthetic, SyntheticKind, Train};

    const EVERYTHING: &str = r#"
[sweep]
name = "first-look"
seeds = [42]
metric = "l2"                 # l2 | ip | cosine; a dataset may set its own

[run]                         # all optional
jobs = 2                      # cells at once; timings are marked exclusive only when 1
threads = 4                   # per cell; 0 = cores / jobs
timeout = "90s"               # per cell
memory = "1GiB"               # per cell
scratch = "2GiB"              # per cell
store = "elsewhere/first-look.db"

[[dataset]]
name = "glove"
base = "examples/data/glove.fbin"
queries = { hold_out = 500 }
train = { sample = 20000 }
limit = 50000

[[dataset]]
name = "gauss-128"
synthetic = { kind = "gaussian", n = 20000, dim = 128, seed = 1 }
queries = "examples/data/glove.fbin"
train = { apart = false }
metric = "cosine"

[evaluate]
k = [1, 10]
pairs = 1000
rerank = [1, 2]
repeats = 5
metrics = ["latency", "pairs"]

[[method]]
use = "zlattice"
plugin = "libvq_zlattice.so"
params.scale = [8, 16, 32]
params.bits = 8
exclude = [{ scale = 32, bits = 8 }]
datasets = ["gauss-128"]

[[method]]
use = "zlattice"

[[method]]
use = "other"
bits_per_dim = [1, 2, 4]
params.allowed_bits = [[0, 2, 4, 6, 8]]
params.m = { from = 4, to = 64, times = 2 }
"#;

    const LEAST: &str = r#"
[[dataset]]
name = "gauss"
synthetic = { kind = "low_rank", n = 501, dim = 8, seed = 0 }
queries = { hold_out = 500 }

[[method]]
use = "zlattice"
"#;

    fn folder_with_glove() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("examples/data")).unwrap();
        std::fs::write(folder.path().join("examples/data/glove.fbin"), [0; 8]).unwrap();
        folder
    }

    #[test]
    fn every_key_of_a_sweep_arrives() {
        let folder = folder_with_glove();
        let sweep = Sweep::parse("sweeps.toml", EVERYTHING, folder.path()).unwrap();
        assert_eq!(sweep.name, "first-look");
        assert_eq!(sweep.seeds, [42]);
        let run = RunOptions {
            jobs: 2,
            threads: 4,
            timeout: Duration::from_secs(90),
            memory: 1 << 30,
            scratch: 2 << 30,
            store: folder.path().join("elsewhere/first-look.db"),
            python: None,
        };
        assert_eq!(sweep.run, run);
        let metrics = vec![Family::Pairs, Family::Latency];
        let (k, rerank) = (vec![1, 10], vec![1, 2]);
        let evaluate = Evaluate { k, pairs: 1000, rerank, repeats: 5, metrics };
        assert_eq!(sweep.evaluate, evaluate);

        let glove = folder.path().join("examples/data/glove.fbin");
        let specs = [
            DatasetSpec {
                name: "glove".to_owned(),
                source: Source::File(glove.clone()),
                queries: Queries::HoldOut(500),
                train: Train::Reserved(Some(20_000)),
                limit: Some(50_000),
                thin: None,
                metric: Metric::L2,
                own_metric: false,
                unusable: crate::data::UnusableRows::Told,
                neighbours: None,
            },
            DatasetSpec {
                name: "gauss-128".to_owned(),
                source: Source::Synthetic(Synthetic {
                    kind: SyntheticKind::Gaussian,
                    n: 20_000,
                    dim: 128,
                    seed: 1,
                }),
                queries: Queries::File(glove),
                train: Train::Base,
                limit: None,
                thin: None,
                metric: Metric::Cosine,
                own_metric: false,
                unusable: crate::data::UnusableRows::Told,
                neighbours: None,
            },
        ];
        assert!(sweep.datasets.iter().map(|d| &d.spec).eq(&specs));

        let [first, second, third] = sweep.methods.as_slice() else {
            panic!("three methods");
        };
        assert_eq!(first.id.get_ref(), "zlattice");
        assert_eq!(first.plugin.as_ref().unwrap().get_ref(), "libvq_zlattice.so");
        assert_eq!(first.datasets.as_ref().unwrap()[0].get_ref(), "gauss-128");
        assert!(second.axes.is_empty() && second.exclude.is_empty() && second.datasets.is_none());
        let rates: Vec<_> = third.bits_per_dim.iter().map(|rate| *rate.get_ref()).collect();
        assert_eq!(rates, [1.0, 2.0, 4.0]);
        let inner = [0, 2, 4, 6, 8].map(Value::Int).to_vec();
        assert_eq!(third.axes[0].values[0].get_ref(), &Value::List(inner));
        assert_eq!(third.axes[1].values.len(), 5);
    }

    #[test]
    fn axes_keep_their_order_and_their_places_in_the_text() {
        let folder = folder_with_glove();
        let sweep = Sweep::parse("sweeps.toml", EVERYTHING, folder.path()).unwrap();
        let [scale, bits] = sweep.methods[0].axes.as_slice() else {
            panic!("two axes");
        };
        assert_eq!((scale.name.as_str(), bits.name.as_str()), ("scale", "bits"));
        let text = sweep.source.text();
        assert_eq!(&text[scale.key_span.clone()], "scale");
        assert_eq!(&text[scale.value_span.clone()], "[8, 16, 32]");
        assert_eq!(&text[scale.values[1].span()], "16");
        assert_eq!(&text[sweep.methods[0].exclude[0].span.clone()], "{ scale = 32, bits = 8 }");
        assert_eq!(&text[sweep.datasets[0].source_span.clone()], "\"examples/data/glove.fbin\"");
        assert_eq!(&text[sweep.methods[2].id.span()], "\"other\"");
    }

    #[test]
    fn what_a_sweep_leaves_out_has_the_documented_default() {
        let sweep = Sweep::parse("folder/least.toml", LEAST, Path::new("folder")).unwrap();
        assert_eq!(sweep.name, "least");
        assert_eq!(sweep.seeds, [42]);
        let run = RunOptions {
            jobs: 1,
            threads: 0,
            timeout: Duration::from_secs(600),
            memory: 8 << 30,
            scratch: 1 << 30,
            store: PathBuf::from("folder/results/least.db"),
            python: None,
        };
        assert_eq!(sweep.run, run);
        let (k, rerank) = (vec![1, 10, 100], vec![1, 2, 4, 10]);
        let metrics = Family::usual();
        let evaluate = Evaluate { k, pairs: 10_000, rerank, repeats: 3, metrics };
        assert_eq!(sweep.evaluate, evaluate);
        assert_eq!(sweep.datasets[0].spec.metric, Metric::L2);
        assert_eq!(sweep.datasets[0].spec.train, Train::Reserved(None));
    }

    #[test]
    fn training_rows_are_kept_apart_unless_the_sweep_says_otherwise() {
        let train = |written: &str| {
            let queries = "queries = { hold_out = 500 }\n";
            let text = LEAST.replace(queries, &format!("{queries}train = {written}\n"));
            let sweep = Sweep::parse("s.toml", &text, Path::new(""));
            sweep.map(|sweep| sweep.datasets[0].spec.train.clone())
        };
        for (written, expected) in [
            ("{ sample = 9 }", Train::Reserved(Some(9))),
            ("{ sample = 9, apart = true }", Train::Reserved(Some(9))),
            ("{ apart = true }", Train::Reserved(None)),
            ("{ sample = 9, apart = false }", Train::Sample(9)),
            ("{ apart = false }", Train::Base),
        ] {
            assert_eq!(train(written).unwrap(), expected, "{written}");
        }
        for (written, problem) in [
            ("{}", "missing key `sample`"),
            ("{ apart = 1 }", "expected a boolean, found an integer"),
            ("{ sample = 0, apart = false }", "`sample` must be at least 1, found 0"),
        ] {
            assert_eq!(train(written).unwrap_err().to_string(), problem);
        }
    }

    #[test]
    fn sizes_make_a_data_set_of_each_and_the_name_stands_for_all() {
        let queries = "queries = { hold_out = 500 }\n";
        let sized = format!("{queries}sizes = [100, \"all\"]\n");
        let text = LEAST.replace(queries, &sized) + "datasets = [\"gauss\"]\n";
        let sweep = Sweep::parse("s.toml", &text, Path::new("")).unwrap();
        let specs = sweep.datasets.iter().map(|of| (of.spec.name.as_str(), of.spec.thin));
        assert_eq!(specs.collect::<Vec<_>>(), [("gauss@100", Some(100)), ("gauss", None)]);
        assert!(sweep.datasets.iter().all(|of| sweep.methods[0].runs_on(&of.spec.name)));
        let one = text.replace("[\"gauss\"]", "[\"gauss@100\"]");
        let sweep = Sweep::parse("s.toml", &one, Path::new("")).unwrap();
        assert!(!sweep.methods[0].runs_on("gauss"));
        for (written, problem) in [
            ("[]", "`sizes` is empty"),
            ("[5, 5]", "`sizes` lists 5 twice"),
            ("[0]", "`sizes` must be at least 1, found 0"),
            ("[\"most\"]", "expected a number of rows or \"all\", found a string"),
        ] {
            let text = text.replace("[100, \"all\"]", written);
            let error = Sweep::parse("s.toml", &text, Path::new("")).unwrap_err();
            assert_eq!(error.to_string(), problem);
        }
    }

    #[test]
    fn an_exclusion_applies_when_all_its_values_do() {
        let folder = folder_with_glove();
        let sweep = Sweep::parse("sweeps.toml", EVERYTHING, folder.path()).unwrap();
        let exclude = &sweep.methods[0].exclude[0];
        let applies = |scale: Value, bits: Option<Value>| {
            exclude.applies(|name| if name == "scale" { Some(&scale) } else { bits.as_ref() })
        };
        assert!(applies(Value::Float(32.0), Some(Value::Int(8))));
        assert!(!applies(Value::Int(16), Some(Value::Int(8))));
        assert!(!applies(Value::Int(32), None));
    }

    #[test]
    fn a_sweep_file_that_is_not_there_or_not_text_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.toml");
        let error = Sweep::load(&path).unwrap_err();
        assert!(matches!(error.problem(), SweepProblem::Read { .. }));
        assert!(std::error::Error::source(&error).is_some());
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        let error = Sweep::load(&path).unwrap_err();
        assert!(matches!(error.problem(), SweepProblem::Read { .. }));
    }

    #[test]
    fn command_line_arguments_read_like_a_sweep() {
        let folder = folder_with_glove();
        let arguments = RunArguments {
            data: vec!["examples/data/glove.fbin".into(), "./examples/data/glove.fbin".into()],
            method: "zlattice".to_owned(),
            metric: Some("ip".to_owned()),
            store: Some("x.db".into()),
            limit: Some(1000),
            params: [
                "m=8,16,32",
                "scale=0.5",
                "fast=true",
                "kind=e8,d4",
                "odd name=a \"b\"",
                "bits=[0, 2],[4]",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..RunArguments::default()
        };
        let sweep =
            Sweep::parse("command line", &from_arguments(&arguments), folder.path()).unwrap();
        let names: Vec<_> = sweep.datasets.iter().map(|d| d.spec.name.as_str()).collect();
        assert_eq!(names, ["glove", "./examples/data/glove.fbin"]);
        let spec = &sweep.datasets[0].spec;
        assert_eq!(
            (&spec.queries, spec.limit, spec.metric),
            (&Queries::HoldOutUpTo(500), Some(1000), Metric::Ip)
        );
        assert_eq!(sweep.run.store, folder.path().join("x.db"));
        let axes: Vec<_> = sweep.methods[0]
            .axes
            .iter()
            .map(|axis| {
                let values: Vec<_> =
                    axis.values.iter().map(|v| axis::written(v.get_ref())).collect();
                format!("{}: {}", axis.name, values.join(" | "))
            })
            .collect();
        assert_eq!(
            axes,
            [
                "m: 8 | 16 | 32",
                "scale: 0.5",
                "fast: true",
                "kind: \"e8\" | \"d4\"",
                "odd name: 'a \"b\"'",
                "bits: [0, 2] | [4]",
            ]
        );
    }

    #[test]
    fn a_command_line_mistake_is_shown_in_the_text_it_became() {
        let arguments = RunArguments {
            data: vec!["nowhere.fbin".into()],
            method: "zlattice".to_owned(),
            params: vec!["m".to_owned()],
            ..RunArguments::default()
        };
        let error =
            Sweep::parse("command line", &from_arguments(&arguments), Path::new("")).unwrap_err();
        assert_eq!(error.to_string(), "missing value");
        let arguments = RunArguments { params: vec![], ..arguments };
        let error =
            Sweep::parse("command line", &from_arguments(&arguments), Path::new("")).unwrap_err();
        assert_eq!(error.to_string(), "there is no file nowhere.fbin");
        let help = miette::Diagnostic::help(&error).expect("it has one").to_string();
        assert_eq!(help, "paths are relative to the folder you are in");
    }

    /// Whatever is cut out of a sweep or put into it, the answer is a sweep or an error that
    /// renders, at a place in the text.
    #[test]
    fn a_damaged_sweep_is_answered_without_a_panic() {
        // With the data in place, so that damage behind the datasets is looked at too.
        let folder = folder_with_glove();
        let pieces = [
            "",
            "=",
            "[",
            "]",
            "{",
            "}",
            "\"",
            "'",
            "\n",
            "#",
            ",",
            "[[",
            "é",
            "1",
            "-",
            "1e400",
            "nan",
            "0x",
            "2025-01-01",
            "\u{0}",
            "\"\"\"",
            "true",
            ".",
            "\r",
        ];
        proptest!(|(at in 0..EVERYTHING.len(), cut in 0_usize..12, put in prop::sample::select(pieces.to_vec()))| {
            let mut text = EVERYTHING.to_owned();
            text.replace_range(at..(at + cut).min(text.len()), put);
            if let Err(error) = Sweep::parse("sweeps.toml", &text, folder.path()) {
                let span = error.span().expect("what is parsed has a place");
                prop_assert!(text.get(span).is_some());
                let mut rendered = String::new();
                GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
                    .render_report(&mut rendered, &error)
                    .unwrap();
                prop_assert!(!rendered.contains("$__"), "{rendered}");
                prop_assert!(!rendered.contains("Failed to read contents"), "{rendered}");
            }
        });
    }
}
