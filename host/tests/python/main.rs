//! Methods in Python, from the file to the record. Needs a Python 3 that can make a virtual
//! environment with numpy; says so where there is none.

#[path = "../fixture/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the fixture serves other targets as well")]
mod fixture;
#[cfg(target_os = "linux")]
mod hostile;

use fixture::{Running, Site, sweep, workspace};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use vq_host::record::{Outcome, Proof, Record};

/// A virtual environment with numpy, made once for a target directory.
fn python() -> Option<&'static PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = make();
        if let Err(why) = &made {
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
        }
        made.ok()
    })
    .as_ref()
}

fn make() -> Result<PathBuf, String> {
    let folder = workspace().join("target/python-tests");
    let ready = folder.join("ready");
    if ready.is_file() {
        return Ok(folder);
    }
    let run = |program: PathBuf, arguments: &[&str]| {
        let done = Command::new(&program).args(arguments).output();
        match done {
            Ok(done) if done.status.success() => Ok(()),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
            Err(error) => Err(format!("{}: {error}", program.display())),
        }
    };
    run("python3".into(), &["-m", "venv", &folder.to_string_lossy()])?;
    run(folder.join("bin/pip"), &["install", "-q", "--only-binary", ":all:", "numpy"])?;
    fs::write(ready, "").map_err(|error| error.to_string())?;
    Ok(folder)
}

/// A method of signs and norms, with `edits`.
const SIGNS: &str = r#"import numpy as np


class Signs:
    """Signs, and the length of the row."""

    def __init__(self, dim, scale: float = 1.0):
        if scale <= 0:
            raise ValueError("scale: is not above 0")
        self.dim, self.scale = dim, scale

    def fit(self, X):
        self.mean = X.mean(axis=0)

    def compress(self, X):
        rest = X - self.mean
        length = np.linalg.norm(rest, axis=1).astype(np.float32)
        return np.packbits(rest > 0, axis=1), length

    def decompress(self, codes):
        signs, length = codes
        signs = np.unpackbits(signs, axis=1)[:, : self.dim] * 2.0 - 1
        return signs * (self.scale * length[:, None] / np.sqrt(self.dim)) + self.mean
"#;

/// A site with `text` as `plugins/signs.py`; none without a Python.
fn site(text: &str) -> Option<Site> {
    python()?;
    let site = Site::with(&[]);
    site.write("plugins/signs.py", text);
    Some(site)
}

fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(SIGNS.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "the method no longer says `{old}`");
        text.replace(old, new)
    })
}

fn vq(site: &Site, arguments: &[&str]) -> fixture::Ended {
    let python = python().expect("a site has one");
    Running::start(site.command(arguments).env("VQ_PYTHON", python)).end()
}

/// The records of a run with `methods`.
fn records(site: &Site, methods: &str) -> Vec<Record> {
    site.write("s.toml", &sweep("[1]", methods));
    // What it ends with stands in the records.
    drop(vq(site, &["run", "s.toml"]));
    site.records()
}

/// The one record of a method with `edits`.
fn record(edits: &[(&str, &str)]) -> Option<Record> {
    let site = site(&edited(edits))?;
    let mut records = records(&site, "[[method]]\nuse = \"signs\"\n");
    assert_eq!(records.len(), 1, "{records:?}");
    records.pop()
}

#[test]
fn a_class_is_measured_in_two_processes_and_is_done_once() {
    let Some(site) = site(SIGNS) else { return };
    let methods = "[[method]]\nuse = \"signs\"\nparams.scale = [0.5, 1, -1]\n";
    let records = records(&site, methods);
    assert_eq!(records.len(), 2, "a ValueError is a skip: {records:?}");
    for record in &records {
        assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
        assert_eq!(record.proof, Some(Proof::Proven), "{record:?}");
        let value = |name: &str| {
            record.metrics.iter().find(|m| m.name() == name).map(|m| m.value()).unwrap()
        };
        assert_eq!(value("code_bytes"), 6.0, "16 signs and a float32");
    }
    vq(&site, &["run", "s.toml"]).expect_code(0).says("nothing to run");
}

#[test]
fn each_class_of_a_file_is_a_method_with_its_own_parameters_and_codes() {
    let bytes = [
        ("class Signs", "class Bytes"),
        ("scale: float = 1.0", "bias: int = 3"),
        ("if scale <= 0", "if bias < 0"),
        ("scale: is not above 0", "bias: is below 0"),
        ("self.dim, self.scale = dim, scale", "self.dim, self.scale = dim, float(bias)"),
        (
            "np.packbits(rest > 0, axis=1), length",
            "np.packbits(rest > 0, axis=1), rest.astype('f2')",
        ),
        ("signs, length = codes", "return codes[1] + self.mean"),
    ];
    let Some(site) = site(&[SIGNS, &edited(&bytes)].concat()) else { return };
    let methods = "[[method]]\nuse = \"signs-signs\"\nparams.scale = [1, -1]\n\
                   [[method]]\nuse = \"signs-bytes\"\nparams.bias = [0, 1, -1]\n";
    let records = records(&site, methods);
    let told = |record: &Record| {
        let bytes = record.metrics.iter().find(|m| m.name() == "code_bytes").map(|m| m.value());
        (record.method.id.clone(), record.label.clone(), record.outcome, bytes)
    };
    let mut told: Vec<_> = records.iter().map(told).collect();
    told.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let of =
        |id: &str, label: &str, bytes| (id.to_owned(), label.to_owned(), Outcome::Ok, Some(bytes));
    let expected = [
        of("signs-bytes", "bias=0", 34.0),
        of("signs-bytes", "bias=1", 34.0),
        of("signs-signs", "scale=1", 6.0),
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_exception_is_told_with_the_line_of_the_file() {
    let raise = ("rest = X - self.mean", "raise RuntimeError('no more')");
    let Some(record) = record(&[raise]) else { return };
    assert_eq!(record.outcome, Outcome::Failed);
    let error = record.error.unwrap();
    assert!(error.contains("RuntimeError: no more (signs.py:"), "{error}");
}

#[test]
fn what_is_lent_cannot_be_written() {
    let Some(record) = record(&[("rest = X - self.mean", "X -= self.mean; rest = X")]) else {
        return;
    };
    let error = record.error.unwrap();
    assert!(error.contains("work on a copy (signs.py:"), "{error}");
}

#[test]
fn codes_of_another_type_than_at_first_are_refused() {
    let later = (
        "rest > 0, axis=1), length",
        "rest > 0, axis=1), length.astype('f8' if len(X) > 2 else 'f4')",
    );
    let Some(record) = record(&[later]) else { return };
    assert_eq!(record.outcome, Outcome::Invalid);
    let error = record.error.unwrap();
    assert!(error.contains("f8 of () per row; after fit it gave"), "{error}");
}

#[test]
fn what_the_walls_deny_a_library_they_deny_a_class() {
    let attempts = [
        ("open('/etc/shadow')", "PermissionError"),
        ("open('/etc/passwd')", "PermissionError"),
        ("__import__('socket').create_connection(('127.0.0.1', 22))", "PermissionError"),
        ("__import__('subprocess').run(['id'])", "may not start processes"),
        ("__import__('os').fork()", "may not start processes"),
        ("__import__('os').execv('/bin/true', ['true'])", "may not start processes"),
        ("__import__('os').kill(__import__('os').getppid(), 9)", "PermissionError"),
        ("__import__('os').setpriority(1, 0, -5)", "PermissionError"),
        ("__import__('os').listdir('/root')", "PermissionError"),
        ("__import__('os').chmod('.', 0o777)", "PermissionError"),
        (
            "__import__('_ctypes').dlopen; c = __import__('ctypes').CDLL(None, use_errno=True); \
             r = c.execv(b'/bin/true', None); raise OSError(c and __import__('ctypes').get_errno(), 'exec')",
            "PermissionError: [Errno 13] exec",
        ),
        (
            "c = __import__('ctypes').CDLL(None, use_errno=True); r = c.fork(); \
             raise OSError(__import__('ctypes').get_errno(), 'fork')",
            "PermissionError: [Errno 13] fork",
        ),
    ];
    for (attempt, denied) in attempts {
        let Some(record) = record(&[("self.mean = X.mean(axis=0)", attempt)]) else { return };
        let error = record.error.unwrap_or_default();
        assert!(error.contains(denied), "{attempt}: {error}");
    }
}

#[test]
fn what_is_shared_with_the_worker_keeps_its_size_and_its_side() {
    let grow = "__import__('os').ftruncate(5, 1 << 24)";
    let write = "o = __import__('os'); o.pwrite(o.open('/proc/self/fd/4', o.O_RDWR), b'x', 0)";
    for attempt in [grow, write] {
        let Some(record) = record(&[("self.mean = X.mean(axis=0)", attempt)]) else { return };
        let error = record.error.unwrap_or_default();
        assert!(error.contains("PermissionError: [Errno 1]"), "{attempt}: {error}");
    }
}

#[test]
fn an_interpreter_that_dies_or_says_too_much_is_told_apart() {
    let ends = [
        ("__import__('os').abort()", "SIGABRT"),
        ("__import__('os')._exit(7)", "exit code 7"),
        ("__import__('os').write(3, b'\\xff' * 8)", "exit code"),
    ];
    for (attempt, told) in ends {
        let Some(record) = record(&[("self.mean = X.mean(axis=0)", attempt)]) else { return };
        assert_eq!(record.outcome, Outcome::Crashed, "{attempt}");
        let error = record.error.unwrap_or_default();
        assert!(error.contains(told), "{attempt}: {error}");
    }
}

#[test]
fn what_is_no_answer_is_refused_in_words() {
    let rows = "return signs * (self.scale * length[:, None] / np.sqrt(self.dim)) + self.mean";
    let wrong = [
        (rows, "return (signs + self.mean) * 1j", "decompress gave complex128"),
        (
            "return np.packbits(rest > 0, axis=1), length",
            "return np.zeros(len(X), [('a', 'u1')])",
            "give a dict of its fields",
        ),
        (
            "    def compress",
            "    def get_compression_ratio(self, X): return float('nan')\n\n    def compress",
            "get_compression_ratio gave nan",
        ),
    ];
    for (old, new, told) in wrong {
        let Some(record) = record(&[(old, new)]) else { return };
        let error = record.error.unwrap_or_default();
        assert!(error.contains(told), "{told}: {error}");
    }
}

#[test]
fn check_finds_what_a_class_may_not_do() {
    let broken = [
        // State that lives in the process alone.
        (
            vec![
                ("self.mean = X.mean(axis=0)", "global MEAN; MEAN = X.mean(axis=0); self.mean = 0"),
                ("+ self.mean", "+ MEAN"),
            ],
            "",
        ),
        (vec![("rest = X - self.mean", "rest = X - X.mean(axis=0)")], "batch"),
        (vec![("signs * (", "np.nan * signs * (")], "NaN"),
        (vec![("X.mean(axis=0)", "np.random.default_rng().normal(size=self.dim)")], ""),
    ];
    let Some(clean) = site(SIGNS) else { return };
    vq(&clean, &["check", "plugins/signs.py"]).expect_code(0);
    for (edits, _) in broken {
        let Some(site) = site(&edited(&edits)) else { return };
        let ended = vq(&site, &["check", "plugins/signs.py"]);
        ended.expect_code(3);
    }
}

#[test]
fn a_parameter_that_is_not_set_is_left_to_the_class_and_never_shown_as_a_number() {
    let optional = edited(&[
        (
            "dim, scale: float = 1.0",
            "dim, scale: float = 1.0, top: int | None = None, low: Optional[float] = None, \
             fast: Optional[bool] = None, kind: Optional[Literal['a', 'b']] = None",
        ),
        ("import numpy as np\n", "from typing import Literal, Optional\nimport numpy as np\n"),
        (
            "self.dim, self.scale = dim, scale",
            "assert top in (None, 3) and low is fast is kind is None; self.dim, self.scale = dim, scale",
        ),
    ]);
    let Some(site) = site(&optional) else { return };
    let shown = vq(&site, &["methods", "signs"]);
    assert!(shown.stdout.contains("none"), "{}", shown.stdout);
    let told = vq(&site, &["methods", "signs", "--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let of = |name: &str| {
        let schema = told["schema"].as_array().unwrap();
        schema.iter().find(|param| param["name"] == name).unwrap()["default"].clone()
    };
    assert!(of("top").is_null() && of("fast").is_null() && of("kind").is_null(), "{told:#}");
    assert_eq!(of("scale"), 1.0);
    let methods = "[[method]]\nuse = \"signs\"\n[[method]]\nuse = \"signs\"\nparams.top = [3]\n";
    let mut records = records(&site, methods);
    records.sort_by_key(|record| record.params.to_string());
    let params: Vec<_> = records.iter().map(|record| record.params.to_string()).collect();
    assert_eq!(params, [r#"{"scale":1,"top":3}"#, r#"{"scale":1}"#]);
    assert!(records.iter().all(|record| record.outcome == Outcome::Ok), "{records:?}");
}

#[test]
fn a_parameter_without_a_default_has_to_be_named() {
    let Some(site) = site(&edited(&[("scale: float = 1.0", "scale: float, wide: bool = False")]))
    else {
        return;
    };
    site.write("s.toml", &sweep("[1]", "[[method]]\nuse = \"signs\"\n"));
    let plan = vq(&site, &["plan", "s.toml"]).expect_code(1);
    plan.says("scale: has no default: name it in the sweep");
    let named = records(&site, "[[method]]\nuse = \"signs\"\nparams.scale = [2]\n");
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(named[0].outcome, Outcome::Ok);
}

#[test]
fn the_python_that_a_sweep_names_goes_before_that_of_the_variable() {
    let Some(site) = site(SIGNS) else { return };
    let python = python().unwrap();
    let methods = "[[method]]\nuse = \"signs\"\n";
    let run = format!("[run]\npython = \"{}\"", python.display());
    let named = sweep("[1]", methods).replace("[run]", &run);
    site.write("s.toml", &named);
    let mut run = site.command(&["run", "s.toml"]);
    Running::start(run.env("VQ_PYTHON", "/nowhere")).end().expect_code(0);
    assert_eq!(site.records().len(), 1);
    site.write("s.toml", &sweep("[1]", methods));
    let mut run = site.command(&["run", "s.toml"]);
    let without = Running::start(run.env("VQ_PYTHON", "/nowhere")).end();
    without.expect_code(1).says("/nowhere is no Python interpreter");
}

#[test]
fn a_new_python_project_passes_and_is_measured_as_printed() {
    let Some(python) = python() else { return };
    let site = Site::with(&[]);
    let said = vq(&site, &["new", "my-method", "--lang", "python"]).expect_code(0).stdout;
    let steps: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let mut shell = Command::new("sh");
    // As `vq`, whose folder and cache these are.
    let like = site.command(&[]);
    shell.current_dir(like.get_current_dir().unwrap());
    shell.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("VQ_PYTHON", python).arg("-ec").arg(steps.join("\n"));
    let ended = Running::start(&mut shell).end().expect_code(0);
    assert!(ended.stdout.contains("my_method: keeps the contract ("), "{}", ended.stdout);
    let checked = ["check", "my-method/plugins/my_method.py", "--format", "json"];
    let checked = vq(&site, &checked).expect_code(0).json();
    assert_eq!(checked["methods"][0]["findings"], serde_json::json!([]), "{checked:#}");
    let records = site.records_of("my-method/results/my_method.db");
    assert_eq!(records.len(), 3, "{records:?}");
    assert!(records.iter().all(|record| record.outcome == Outcome::Ok), "{records:?}");
}

/// Distances by decoding; asserts what it is called with.
const SCORED: &str = "
    def score(self, queries, codes):
        drawn, expected = np.random.random(), np.random.RandomState(7).random()
        if drawn != expected or random.random() != random.Random(7).random():
            raise RuntimeError('seeded with another seed')
        if len(queries) == 1:
            raise RuntimeError('one query at a time')
        rows = self.decompress(codes)
        return ((queries[:, None] - rows[None]) ** 2).sum(axis=2)
";

#[test]
fn a_score_is_asked_for_many_queries_with_the_seed_of_the_cell_where_it_was_loaded_too() {
    let text = edited(&[("import numpy as np\n", "import random\nimport numpy as np\n")]);
    let Some(site) = site(&(text + SCORED)) else { return };
    site.write("s.toml", &sweep("[7]", "[[method]]\nuse = \"signs\"\n"));
    vq(&site, &["run", "s.toml"]).expect_code(0);
    let records = site.records();
    assert_eq!(records[0].outcome, Outcome::Ok, "{records:?}");
    // Where it refuses in the process that decodes, the cell is done again by one process.
    assert_eq!(records[0].proof, Some(Proof::Proven), "{records:?}");
    assert!(records[0].metrics.iter().any(|of| of.name() == "score_codes_per_s"), "{records:?}");
}

#[test]
fn calls_are_of_4096_rows_and_timed_ones_of_whole_blocks() {
    let told = ("rest = X - self.mean", "rest = told(X) - self.mean");
    let tell = (
        "\n\nclass Signs",
        "\n\nROWS = [0]\n\n\ndef told(X):\n    if len(X) > 4096:\n        \
         raise RuntimeError(f'{len(X)} rows after {max(ROWS)}')\n    ROWS.append(len(X))\n    return X\n\n\n\
         class Signs",
    );
    let Some(site) = site(&edited(&[told, tell])) else { return };
    let text = sweep("[1]", "[[method]]\nuse = \"signs\"\n").replace("n = 600", "n = 20000");
    site.write("s.toml", &text);
    drop(vq(&site, &["run", "s.toml"]));
    let error = site.records()[0].error.clone().unwrap_or_default();
    // Half of the rows that are not held out; the walk before the timing went by in smaller calls.
    assert!(error.contains("9990 rows after 4096"), "{error}");
}

#[test]
fn codes_wider_than_their_values_and_an_object_that_changes_are_told_in_the_record() {
    let wide = [
        ("np.packbits(rest > 0, axis=1), length", "(rest > 0).astype(np.int64), length"),
        ("np.unpackbits(signs, axis=1)[:, : self.dim] * 2.0", "signs * 2.0"),
    ];
    let Some(told) = record(&wide) else { return };
    assert_eq!(told.outcome, Outcome::Ok, "{told:?}");
    let said = "part 1 of the codes is int64, 128 bytes per vector, and no value needs more than 1 bit: \
                packed they would take 2";
    assert_eq!(told.notices.iter().filter(|of| *of == said).count(), 1, "{:?}", told.notices);
    assert!(!told.log.unwrap_or_default().contains("packed"), "once is enough");

    let of_class = |record: &Record| {
        let words = ["packed they", "pickle", "save()"];
        let told = record.notices.iter();
        told.filter(|notice| words.iter().any(|word| notice.contains(word))).count()
    };
    let packed = record(&[]).unwrap();
    assert_eq!(of_class(&packed), 0, "{:?}", packed.notices);

    let counts = ("rest = X - self.mean", "self.seen = len(X); rest = X - self.mean");
    let changed = record(&[counts]).unwrap();
    assert_eq!(changed.outcome, Outcome::Ok, "{changed:?}");
    assert!(
        changed.notices.iter().any(|notice| notice.starts_with("a pickle of it differs later")),
        "{:?}",
        changed.notices
    );
    let saves = "\n    def save(self):\n        return repr((getattr(self, 'seen', 0), self.mean.tolist())).encode()\n
    def load(self, saved):\n        self.mean = np.array(eval(saved)[1])\n";
    let saves = format!("{saves}\n    def compress");
    let saved = record(&[counts, ("    def compress", &saves)]).unwrap();
    assert!(
        saved.notices.iter().any(|notice| notice.starts_with("what its save() gives differs")),
        "{saved:?}"
    );
}

#[test]
fn one_class_in_two_pythons_is_two_methods() {
    let Some(site) = site(SIGNS) else { return };
    let (other, packages) = hostile::copied(Path::new("python3"), &site, "other");
    let record = fs::read_dir(&packages).unwrap().map(|entry| entry.unwrap().path());
    let mut information = record.filter(|path| path.to_string_lossy().ends_with(".dist-info"));
    let metadata = information.next().unwrap().join("METADATA");
    let text = fs::read_to_string(&metadata).unwrap();
    fs::write(&metadata, text + "\nanother build\n").unwrap();
    let method = |python: &str| format!("[[method]]\nuse = \"signs\"\npython = \"{python}\"\n");
    let first = python().unwrap().display().to_string();
    site.write("s.toml", &sweep("[1]", &(method(&first) + &method("other"))));
    let run = |variable: &str| {
        let mut run = site.command(&["run", "s.toml"]);
        Running::start(run.env("VQ_PYTHON", variable)).end()
    };
    // That no Python can be had otherwise is no matter.
    let ran = run("/nowhere").expect_code(0);
    assert!(!ran.stderr.contains("left out"), "{}", ran.stderr);
    let records = site.records();
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(records.iter().all(|record| record.outcome == Outcome::Ok), "{records:?}");
    assert_ne!(records[0].method.needs_digest, records[1].method.needs_digest);
    assert_ne!(records[0].key, records[1].key);
    run("/nowhere").expect_code(0).says("nothing to run");
    // Where it lies does not count.
    fs::rename(&other, site.path("moved")).unwrap();
    site.write("s.toml", &sweep("[1]", &(method(&first) + &method("moved"))));
    run("/nowhere").expect_code(0).says("nothing to run");

    let mut bare = Command::new("python3");
    bare.args(["-m", "venv", "--without-pip"]).arg(site.path("bare"));
    assert!(bare.status().unwrap().success());
    site.write("s.toml", &sweep("[1]", &method("bare")));
    let refused = run(&first).expect_code(1);
    refused.says("no Python file offers the method `signs` with this Python").says("has no numpy");
}
