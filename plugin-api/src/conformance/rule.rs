//! The law, a sentence of the contract each.

use super::cell::Cell;
use super::log::Log;
use super::{Subject, codec, descriptor, robustness};
use crate::extension;
use crate::handle::Instance;
use std::fmt;

/// One sentence of the contract and how it is checked.
pub struct Rule {
    /// Stable, for people to search and for tests to name.
    pub id: &'static str,
    /// The sentence.
    pub contract: &'static str,
    pub(crate) run: Run,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({})", self.id)
    }
}

pub(crate) enum Run {
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
pub(crate) enum Depth {
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
/// The rule of a method that does otherwise in another process; a parent process compares [`Print`](super::Print)s.
pub const ACROSS: &str = "deterministic-across-processes";
/// The rule of a method that a run would not record as `ok` and proven; a parent process measures it.
pub const AS_IN_RUN: &str = "measured-as-in-run";
/// The rule of a method that printed; for whoever owns the process's standard output to judge.
pub const STDOUT: &str = "stdout";

/// The rules on what every method has, in the order in which they are checked.
#[rustfmt::skip] // a table: one line for the id and the check, one for the sentence
const RULES: &[Rule] = &[
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
    Rule { id: "extensions", run: Run::Method(descriptor::unknown_extension),
        contract: "get_extension answers a table for an id that the method offers, NULL for any other." },
    Rule { id: "leak", run: Run::Method(robustness::leak),
        contract: "destroy gives back what create took." },

    Rule { id: "round-trip", run: Run::Throughout,
        contract: "create, fit, compress and decompress succeed on finite data in the space they were created for." },
    Rule { id: "code-bytes", run: Run::Throughout,
        contract: "code_bytes is at least 1 and the same from create to destroy; 0 before fit where only fit tells." },
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

/// The law, in the order in which it is checked: what every method has, then what extensions add.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(extension::rules())
}

/// What an extension adds to the law.
pub(crate) struct Law {
    /// Rules of its own.
    pub(crate) rules: &'static [Rule],
    /// Part of `batch-independence`: what it answers in calls of any size.
    pub(crate) batch_independence: fn(&Cell<'_>, &mut Log<'_>),
    /// Part of the same: what it answers for these rows of the cell's codes in one large call.
    pub(crate) many_codes: fn(&Cell<'_>, &[usize], &str, &mut Log<'_>),
    /// Part of `save-load`: what it answers from an instance that was loaded.
    pub(crate) after_load: fn(&Cell<'_>, &Instance, &mut Log<'_>),
}

/// The rule named `id`.
///
/// # Panics
/// Without such a rule; ids are constants of this module.
pub fn rule(id: &str) -> &'static Rule {
    rules().find(|rule| rule.id == id).expect("a rule is named as among the rules")
}
