//! The law for every plugin: what `include/vq_plugin.h` says, as checks on the C table.
//!
//! An author's test is one line, `conformance::check(plugin()).assert_clean()`; `vq-host check`
//! runs the same on a library. No method is named here: rules learn parameters, ranges and sizes
//! from the descriptor.
//!
//! [`RULES`] is the whole law in order. Rules on the *descriptor* need no data. Rules on a *cell*
//! (one configuration in one space, fitted on Gaussian rows) start from the same few facts: the
//! cell was built, its codes are complete, its rows finite, the same call gives the same codes.
//! Where one of these fails, the rules derived from them are skipped, so that one fault gives one
//! finding.
//!
//! A plugin may crash or hang the process instead of failing; the observer of [`check_plugin`]
//! tells a parent process what was running, which then finds [`SURVIVES`] or [`TERMINATES`] broken.

use crate::abi::VqPlugin;
use crate::handle::{CallError, DescribeError, Method, Plugin};
use crate::params::Config;
use crate::{ErrorKind, Level, Space};
use cell::{Cell, Plan};
use lab::Lab;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

mod cell;
mod codec;
mod descriptor;
mod lab;
mod print;
mod robustness;
mod scorer;

pub use print::{Print, print};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Allowed, but a user will be unhappy.
    Warning,
    /// The contract is broken.
    Error,
}

/// One observation that a plugin is not what the contract says.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The method's id.
    pub method: String,
    /// The rule's id, stable.
    pub rule: &'static str,
    /// The function of the contract, or the part of the descriptor.
    pub function: &'static str,
    /// The input that shows it.
    pub input: String,
    /// What the plugin did.
    pub found: String,
    /// What the contract says.
    pub contract: &'static str,
    /// How bad it is.
    pub severity: Severity,
}

/// What was found on one method.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MethodReport {
    /// The method's id.
    pub id: String,
    /// Rules that ran, once for each cell they ran on.
    pub checks_run: usize,
    /// What broke the contract or is doubtful.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub skipped: Vec<Skip>,
}

/// A rule that could not be checked somewhere.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The rule's id.
    pub rule: String,
    /// The configuration and space; empty for a rule that has none.
    pub place: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Skip { rule, place, why } = self;
        if place.is_empty() {
            write!(f, "{rule}: {why}")
        } else {
            write!(f, "{rule} ({place}): {why}")
        }
    }
}

impl Skip {
    /// A line for each rule of `skipped`, for people: the first reason, and how many more there are.
    pub fn by_rule(skipped: &[Skip]) -> Vec<String> {
        let mut rules: Vec<(&Skip, usize)> = Vec::new();
        for skip in skipped {
            match rules.iter_mut().find(|(first, _)| first.rule == skip.rule) {
                Some((_, more)) => *more += 1,
                None => rules.push((skip, 0)),
            }
        }
        let line = |(first, more): (&Skip, usize)| match more {
            0 => format!("{first}"),
            more => format!("{first}; and {more} more of {}", first.rule),
        };
        rules.into_iter().map(line).collect()
    }
}

/// Takes the log lines of a method that is checked, from any thread.
pub type Hear = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// What an observer hears while a check runs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// What is about to run: `method: rule (place)`.
    Begins(&'a str),
    /// What was just found; its text may still grow in the report, by how often it was seen.
    Found(&'a Finding),
    /// What cannot be checked.
    Skipped(&'a Skip),
    /// What the first configuration made just now.
    Printed(&'a Print),
}

/// What was found on a plugin; its `Display` is the listing for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// By method, in the plugin's order.
    pub methods: Vec<MethodReport>,
}

/// Checks a plugin linked into this program; for an author's own test.
pub fn check(plugin: &'static VqPlugin) -> Report {
    match Plugin::linked(plugin) {
        Ok(plugin) => check_plugin(&plugin, &mut |_| ()),
        Err(error) => Report::unreadable(&error),
    }
}

/// Checks a plugin. `observer` hears each [`Event`], so that a parent process can say what a crash
/// or a hang came from, and what was found before.
pub fn check_plugin(plugin: &Plugin, observer: &mut dyn FnMut(Event<'_>)) -> Report {
    let methods = plugin
        .methods()
        .iter()
        .map(|method| check_method(method, &Config::new(), Arc::new(|_, _| ()), observer));
    Report { methods: methods.collect() }
}

/// Checks one method, whose log lines `hear` takes, as [`check_plugin`] checks all; for a parent process that gives each method
/// a process of its own, so that one that ends the process costs only its own report. A parent
/// that also wants to know the function hands in a [`Method::watched`].
///
/// Cells are built with the parameters of `fixed`, where the default and the grid have others: a
/// way to check a method whose usual training takes minutes. Rules on the descriptor are not
/// concerned.
pub fn check_method(
    method: &Method,
    fixed: &Config,
    hear: Hear,
    observer: &mut dyn FnMut(Event<'_>),
) -> MethodReport {
    let mut log = Log::new(&method.about().id, observer);
    examine(method, fixed, &Lab::new(hear), &mut log);
    log.finish()
}

impl Report {
    /// The report on a table that could not even be read.
    pub fn unreadable(error: &DescribeError) -> Self {
        let rule = rule("table");
        let finding = Finding {
            method: String::new(),
            rule: rule.id,
            function: "vq_plugin_entry_v1",
            input: "the plugin's table".into(),
            found: error.to_string(),
            contract: rule.contract,
            severity: Severity::Error,
        };
        let method =
            MethodReport { checks_run: 1, findings: vec![finding], ..MethodReport::default() };
        Report { methods: vec![method] }
    }

    /// All findings, in the order of methods and rules.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.methods.iter().flat_map(|method| &method.findings)
    }

    /// The findings that break the contract.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings().filter(|finding| finding.severity == Severity::Error)
    }

    /// Passes if no finding breaks the contract.
    ///
    /// # Panics
    /// With the listing otherwise.
    pub fn assert_clean(&self) {
        assert!(self.errors().next().is_none(), "the plugin breaks its contract\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for method in &self.methods {
            let errors = method.findings.iter().filter(|x| x.severity == Severity::Error).count();
            writeln!(
                f,
                "{}: {} checks, {errors} errors, {} warnings, {} skipped",
                if method.id.is_empty() { "plugin" } else { &method.id },
                method.checks_run,
                method.findings.len() - errors,
                method.skipped.len(),
            )?;
            for finding in &method.findings {
                write!(f, "{finding}")?;
            }
            for skipped in Skip::by_rule(&method.skipped) {
                writeln!(f, "  skipped {skipped}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        writeln!(f, "  {severity} {} in {}", self.rule, self.function)?;
        writeln!(f, "    input     {}", self.input)?;
        writeln!(f, "    found     {}", self.found)?;
        writeln!(f, "    contract  {}", self.contract)
    }
}

/// One sentence of the contract and how it is checked.
pub struct Rule {
    /// Stable, for people to search and for tests to name.
    pub id: &'static str,
    /// The sentence.
    pub contract: &'static str,
    run: Run,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({})", self.id)
    }
}

enum Run {
    /// Judged on every call that any rule makes, or while a cell is built.
    Throughout,
    /// Judged by a parent process, which sees what the checking process cannot: its own end, and
    /// where its output went.
    Outside,
    /// On the descriptor and the constructor.
    Method(fn(&Subject<'_>, &mut Log<'_>)),
    /// On each fitted cell of at least this depth.
    Cell(Depth, fn(&Cell<'_>, &mut Log<'_>)),
}

/// How thoroughly a cell is examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Odd dimensions and the other metrics: what is cheap.
    Brief,
    /// A configuration of the grid: also what needs another fit.
    Usual,
    /// The first configuration: everything.
    Deep,
}

/// The rule of a method that ended the process; only a parent process can say so.
pub const SURVIVES: &str = "survives";
/// The rule of a method that did not come back; only a parent process can say so.
pub const TERMINATES: &str = "terminates";
/// The rule of a method that does otherwise in another process; a parent process compares [`Print`]s.
pub const ACROSS: &str = "deterministic-across-processes";
/// The rule of a method that a run would not record as `ok` and proven; a parent process measures it.
pub const AS_IN_RUN: &str = "measured-as-in-run";
/// The rule of a method that printed; for whoever owns the process's standard output to judge.
pub const STDOUT: &str = "stdout";

/// The law, in the order in which it is checked.
#[rustfmt::skip] // a table: one line for the id and the check, one for the sentence
pub const RULES: &[Rule] = &[
    Rule { id: "table", run: Run::Throughout,
        contract: "The table of an ABI 1 plugin: magic, version, struct sizes, texts in UTF-8, all required functions, every default and grid value allowed by its own parameter." },
    Rule { id: "no-panic", run: Run::Throughout,
        contract: "No panic, exception or longjmp may leave a plugin function; one that the SDK stopped (VQ_PANIC) is a bug. Whatever the input: return an error." },
    Rule { id: "output-bounds", run: Run::Throughout,
        contract: "The caller allocates every output; the plugin fills it and writes nowhere else." },
    Rule { id: "lent-input", run: Run::Throughout,
        contract: "What the caller lends to read (rows, queries, codes) stays as it is." },
    Rule { id: "return-values", run: Run::Throughout,
        contract: "A function returns one of the vq_rc codes; an error comes with a sentence in err; a success comes with what was asked." },

    Rule { id: SURVIVES, run: Run::Outside,
        contract: "No input may end the process: no signal, no abort, no exit, no memory without end." },
    Rule { id: TERMINATES, run: Run::Outside,
        contract: "No input may keep a function from returning." },
    Rule { id: STDOUT, run: Run::Outside,
        contract: "Stdout belongs to nobody: a plugin speaks through vq_ctx.log." },

    Rule { id: "descriptor", run: Run::Method(descriptor::texts),
        contract: "A method says who it is: name, version, one line of description, licence." },
    Rule { id: "schema", run: Run::Method(descriptor::schema),
        contract: "A parameter has a help sentence; min, max and choices are of its kind and agree with each other." },
    Rule { id: "grid-default", run: Run::Method(descriptor::grid_default),
        contract: "Without axes the generator emits the default grid, and says why it skips a combination; some common dimension has a configuration." },
    Rule { id: "grid-axes", run: Run::Method(descriptor::grid_axes),
        contract: "With axes the generator emits only the values that the user gave, inside the method's own schema." },
    Rule { id: "grid-rate", run: Run::Method(descriptor::grid_rate),
        contract: "With a wanted rate (8 * code_bytes / d) the generator emits what stores it, and nothing for a rate that cannot be." },
    Rule { id: "config-boundaries", run: Run::Method(descriptor::boundaries),
        contract: "create accepts every value that the schema allows, or refuses it with VQ_BAD_CONFIG and a text that starts with a parameter's name and a colon." },
    Rule { id: "config-range", run: Run::Method(descriptor::out_of_range),
        contract: "create refuses a value outside min, max or choices with VQ_BAD_CONFIG and a text that starts with the parameter's name and a colon." },
    Rule { id: "config-kind", run: Run::Method(descriptor::wrong_kind),
        contract: "create refuses a value of another kind with VQ_BAD_CONFIG and a text that starts with the parameter's name and a colon." },
    Rule { id: "config-unknown", run: Run::Method(descriptor::unknown_parameter),
        contract: "create refuses an unknown parameter with VQ_BAD_CONFIG and a text that starts with its name and a colon." },
    Rule { id: "leak", run: Run::Method(robustness::leak),
        contract: "destroy gives back what create took." },

    Rule { id: "round-trip", run: Run::Throughout,
        contract: "create, fit, compress and decompress succeed on finite data in the space they were created for." },
    Rule { id: "code-bytes", run: Run::Throughout,
        contract: "code_bytes is at least 1 and the same from create to destroy." },
    Rule { id: "fully-written", run: Run::Throughout,
        contract: "The plugin fills the whole output: each code, each row, each estimate." },
    Rule { id: "finite-output", run: Run::Throughout,
        contract: "decompress answers finite rows for codes of finite rows." },
    Rule { id: "determinism", run: Run::Cell(Depth::Usual, codec::determinism),
        contract: "All randomness derives from the seed: the same call gives the same codes, and with VQ_DETERMINISTIC an equal seed and equal data give equal codes on any thread count." },
    Rule { id: ACROSS, run: Run::Outside,
        contract: "With VQ_DETERMINISTIC an equal seed and equal data give an equal model, codes and rows in every process, whenever it runs." },

    Rule { id: "ratio", run: Run::Cell(Depth::Brief, codec::ratio),
        contract: "ratio is original bytes / compressed bytes: 4 * d / code_bytes." },
    Rule { id: "model-bytes", run: Run::Cell(Depth::Usual, codec::model_bytes),
        contract: "model_bytes is the state that decoding needs: codebooks, rotation, ranges." },
    Rule { id: "empty-batch", run: Run::Cell(Depth::Brief, codec::empty_batch),
        contract: "n may be 0." },
    Rule { id: "batch-independence", run: Run::Cell(Depth::Brief, codec::batch_independence),
        contract: "A row's code does not depend on the other rows of the call, nor does what is decoded or estimated from it." },
    Rule { id: "strides", run: Run::Cell(Depth::Brief, codec::strides),
        contract: "Consecutive rows lie row_stride elements apart, which may be more than the width; what lies between is not the plugin's." },
    Rule { id: "save-load", run: Run::Cell(Depth::Brief, codec::save_load),
        contract: "load on an instance of the same configuration and space takes what save wrote; afterwards decompress is bit-identical." },
    Rule { id: "scorer", run: Run::Cell(Depth::Brief, scorer::sane),
        contract: "score fills finite estimates, and bounds that are finite and not negative." },
    Rule { id: "scorer-agreement", run: Run::Cell(Depth::Brief, scorer::agreement),
        contract: "Estimates are the space's metric: squared distance for L2, inner product for IP and COSINE." },
    Rule { id: "quality", run: Run::Cell(Depth::Usual, codec::quality),
        contract: "A reconstruction is nearer to its row than a constant is; else storing the mean would be better." },
    Rule { id: "order", run: Run::Cell(Depth::Usual, robustness::order),
        contract: "create, then fit or load, then everything else; before that, an error." },
    Rule { id: "wrong-dimension", run: Run::Cell(Depth::Usual, robustness::wrong_dimension),
        contract: "Rows of another dimension than the space's are refused with an error." },
    Rule { id: "progress", run: Run::Cell(Depth::Usual, robustness::progress),
        contract: "progress reports a fraction in 0..1 that does not decrease within a call, and is called while a long fit runs." },
    Rule { id: "cancel", run: Run::Cell(Depth::Usual, robustness::cancel),
        contract: "When progress answers non-zero the plugin stops soon and returns VQ_CANCELLED." },
    Rule { id: "concurrency", run: Run::Cell(Depth::Deep, robustness::concurrency),
        contract: "With VQ_THREAD_SAFE the const functions may be called from several threads at once." },
    Rule { id: "isolation", run: Run::Cell(Depth::Deep, robustness::isolation),
        contract: "Several instances live at once and do not know of each other." },
    Rule { id: "small-training", run: Run::Cell(Depth::Deep, robustness::small_training),
        contract: "fit on no row, one row or two rows works or says why not; where it works, codes decode to finite rows." },
    Rule { id: "degenerate-data", run: Run::Cell(Depth::Deep, robustness::degenerate_data),
        contract: "Duplicates, zeros, constant dimensions and denormals are finite data: codes of them decode to finite rows." },
    Rule { id: "huge-values", run: Run::Cell(Depth::Deep, robustness::huge_values),
        contract: "Finite input of any size gives an error or finite rows." },
    Rule { id: "non-finite-input", run: Run::Cell(Depth::Deep, robustness::non_finite_input),
        contract: "On NaN or infinity a plugin may return an error or any code, but must not crash or hang." },
    Rule { id: "damaged-model", run: Run::Cell(Depth::Deep, robustness::damaged_model),
        contract: "load on truncated or changed bytes returns an error and does not crash." },
    Rule { id: "damaged-codes", run: Run::Cell(Depth::Deep, robustness::damaged_codes),
        contract: "decompress on bytes that no row could have given returns an error or any row, and does not crash." },

    Rule { id: AS_IN_RUN, run: Run::Outside,
        contract: "A run records it as ok and proven: encoder, decoder and referee are three processes, and nothing but the saved model and the codes leads from the first to the second." },
];

/// The rule named `id`.
///
/// # Panics
/// Without such a rule; ids are constants of this module.
pub fn rule(id: &str) -> &'static Rule {
    RULES.iter().find(|rule| rule.id == id).expect("a rule is named as in RULES")
}

/// The method under examination and a configuration it accepts.
struct Subject<'a> {
    method: &'a Method,
    lab: &'a Lab,
    /// What every configuration has.
    fixed: &'a Config,
    /// A configuration that `create` accepts in `space`.
    config: Config,
    space: Space,
}

fn examine(method: &Method, fixed: &Config, lab: &Lab, log: &mut Log<'_>) {
    let Some((config, space)) = descriptor::foothold(method, fixed) else {
        log.begin("grid-default", "");
        log.error(
            "create",
            "the default configuration and the default grid at common dimensions, all metrics",
            "none can be created",
        );
        return;
    };
    let subject = Subject { method, lab, fixed, config, space };
    for rule in RULES {
        if let Run::Method(run) = rule.run {
            log.begin(rule.id, "");
            run(&subject, log);
        }
    }
    for plan in Plan::of(&subject, log) {
        let Some(cell) = Cell::build(&subject, &plan, log) else { continue };
        if plan.depth == Depth::Deep {
            (log.observer)(Event::Printed(&Print::of(&cell)));
        }
        for rule in RULES {
            if let Run::Cell(depth, run) = rule.run
                && plan.depth >= depth
            {
                log.begin(rule.id, &plan.place());
                run(&cell, log);
            }
        }
    }
}

/// Findings of one rule in one function beyond these only say the same again.
const FINDINGS_SHOWN: usize = 2;

/// Collects what the rules find on one method.
struct Log<'o> {
    observer: &'o mut dyn FnMut(Event<'_>),
    report: MethodReport,
    rule: &'static Rule,
    place: String,
    errors: usize,
    /// Findings by rule and function.
    seen: BTreeMap<(&'static str, &'static str), usize>,
}

impl<'o> Log<'o> {
    fn new(method: &str, observer: &'o mut dyn FnMut(Event<'_>)) -> Self {
        Log {
            observer,
            report: MethodReport { id: method.into(), ..MethodReport::default() },
            rule: rule("table"),
            place: String::new(),
            errors: 0,
            seen: BTreeMap::new(),
        }
    }

    fn begin(&mut self, id: &'static str, place: &str) {
        self.rule = rule(id);
        self.place = place.into();
        self.report.checks_run += 1;
        let told = if place.is_empty() { String::new() } else { format!(" ({place})") };
        (self.observer)(Event::Begins(&format!("{}: {id}{told}", self.report.id)));
    }

    fn error(&mut self, function: &'static str, input: &str, found: impl Into<String>) {
        self.add(self.rule, Severity::Error, function, input, found.into());
    }

    fn warning(&mut self, function: &'static str, input: &str, found: impl Into<String>) {
        self.add(self.rule, Severity::Warning, function, input, found.into());
    }

    /// Another rule than the current one shows itself broken.
    fn break_rule(
        &mut self,
        id: &'static str,
        function: &'static str,
        input: &str,
        found: impl Into<String>,
    ) {
        self.add(rule(id), Severity::Error, function, input, found.into());
    }

    fn add(
        &mut self,
        rule: &'static Rule,
        severity: Severity,
        function: &'static str,
        input: &str,
        found: String,
    ) {
        self.errors += usize::from(severity == Severity::Error);
        let seen = self.seen.entry((rule.id, function)).or_default();
        *seen += 1;
        if *seen > FINDINGS_SHOWN {
            return;
        }
        let input = match (self.place.as_str(), input) {
            ("", input) => input.to_owned(),
            (place, "") => place.to_owned(),
            (place, input) => format!("{place}; {input}"),
        };
        let finding = Finding {
            method: self.report.id.clone(),
            rule: rule.id,
            function,
            input,
            found,
            contract: rule.contract,
            severity,
        };
        (self.observer)(Event::Found(&finding));
        self.report.findings.push(finding);
    }

    fn skip(&mut self, why: impl fmt::Display) {
        let (rule, place) = (self.rule.id.into(), self.place.clone());
        let skip = Skip { rule, place, why: why.to_string() };
        (self.observer)(Event::Skipped(&skip));
        self.report.skipped.push(skip);
    }

    /// Judges what holds for every call, whatever rule makes it: no panic, no write outside, a
    /// known code. Anything else is for the rule to judge.
    fn judge<T>(&mut self, input: &str, result: Result<T, CallError>) -> Result<T, CallError> {
        match &result {
            Err(CallError::Broke { function, message }) => {
                let broken = match message {
                    outside if outside.contains("outside its output") => "output-bounds",
                    lent if lent.contains(lab::LENT) => "lent-input",
                    _ => "return-values",
                };
                self.add(rule(broken), Severity::Error, function, input, message.clone());
            }
            Err(CallError::Said { function, kind: ErrorKind::Panicked, message }) => {
                self.add(rule("no-panic"), Severity::Error, function, input, message.clone());
            }
            Err(CallError::Said { function, message, .. })
                if message == "failed without saying why" =>
            {
                self.add(
                    rule("return-values"),
                    Severity::Warning,
                    function,
                    input,
                    message.clone(),
                );
            }
            _ => {}
        }
        result
    }

    /// As [`Log::judge`], and any other refusal breaks the current rule.
    fn must<T>(&mut self, input: &str, result: Result<T, CallError>) -> Option<T> {
        match self.judge(input, result) {
            Ok(value) => Some(value),
            Err(error) => {
                if let CallError::Said { function, kind, message } = &error
                    && *kind != ErrorKind::Panicked
                {
                    self.error(function, input, format!("{kind:?}: {message}"));
                }
                None
            }
        }
    }

    fn finish(mut self) -> MethodReport {
        for ((rule, function), seen) in &self.seen {
            let hidden = seen.saturating_sub(FINDINGS_SHOWN);
            let mut findings = self.report.findings.iter_mut().rev();
            let last = findings.find(|f| f.rule == *rule && f.function == *function);
            if let Some(last) = last
                && hidden > 0
            {
                last.found.push_str(&format!(" (and {hidden} more like it)"));
            }
        }
        self.report
    }
}
