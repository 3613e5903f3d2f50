//! What a class in Python tries against others, by Python's own means and around them, is denied, and
//! what it does beyond its limits ends its own cell. `hostile.py` has the attempts.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its place has failed")]

use super::fixture::{Ended, Running, Site, sweep};
use super::{SIGNS, python};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use vq_host::record::{Outcome, Record, Sandbox};
use vq_host::worker::sandbox;

const HOSTILE: &str = include_str!("hostile.py");

/// The user whom nothing belongs to.
const NOBODY: u32 = 65534;

fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Whoever runs this, and an ordinary user where that is root and such a user may run a Python.
fn users() -> Vec<Option<u32>> {
    match nix::unistd::geteuid().is_root() && for_everybody().is_some() {
        true => vec![None, Some(NOBODY)],
        false => vec![None],
    }
}

/// An interpreter that every user may run, and for which the packages of the tests' own were made.
fn for_everybody() -> Option<&'static PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let packages = packages(python()?);
            let version = packages.parent()?.file_name()?.to_str()?;
            let folders = ["/usr/bin", "/usr/local/bin"].map(Path::new);
            let found = folders.map(|folder| folder.join(version)).into_iter().find(|program| {
                let mut probe = Command::new(program);
                probe.args(["-c", "import venv"]).env("HOME", "/").current_dir("/");
                probe.uid(NOBODY).gid(NOBODY).output().is_ok_and(|ended| ended.status.success())
            });
            if found.is_none() {
                skipped(&format!("no {version} that an ordinary user may run"));
            }
            found
        })
        .as_ref()
}

/// A site with the hostile class, what it is to try its hand at, and the Python for `user`; none
/// without a Python, or where the kernel does not hold it.
fn site(user: Option<u32>) -> Option<Site> {
    python()?;
    if sandbox::offered() != Sandbox::Full {
        skipped("this kernel does not hold a plugin fully");
        return None;
    }
    // Not in /tmp, which a worker has its own of: what is denied here is denied by name.
    let site = Site::within(Path::new("/var/tmp"), &[]);
    if let Some(program) = user.and_then(|_| for_everybody()) {
        copied(program, &site, "python");
    }
    site.write("plugins/hostile.py", HOSTILE);
    site.write("plugins/other.py", "secret = 1\n");
    site.write("secret", "for the user only");
    Some(site)
}

/// `vq-host` with `arguments`, as `user`, to whom the site belongs then, with `set` in its environment.
fn vq(site: &Site, user: Option<u32>, arguments: &[&str], set: &[(&str, &str)]) -> Ended {
    // Where every user may run it, and copied by another process: one that another test starts meanwhile
    // would inherit a descriptor that writes it.
    let (like, host) = (site.command(arguments), site.path("vq-host"));
    if !host.exists() {
        assert!(Command::new("cp").arg(like.get_program()).arg(&host).status().unwrap().success());
    }
    let mut command = Command::new(&host);
    command.args(arguments).current_dir(site.path(""));
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let own = user.map(|_| site.path("python"));
    command.env("VQ_PYTHON", own.as_ref().unwrap_or(python().unwrap()));
    command.envs(set.iter().copied());
    if let Some(user) = user {
        let mut all = vec![site.path("")];
        while let Some(path) = all.pop() {
            std::os::unix::fs::lchown(&path, Some(user), Some(user)).unwrap();
            let inner = fs::read_dir(&path).into_iter().flatten();
            all.extend(inner.map(|entry| entry.unwrap().path()));
        }
        command.uid(user).gid(user);
    }
    Running::start(&mut command).end()
}

/// A cell that does nothing, and one for each attempt in each of these calls.
fn cells(attempts: &[&str], when: &[&str]) -> String {
    let methods = format!(
        "[[method]]\nuse = \"hostile\"\n[[method]]\nuse = \"hostile\"\n\
         params.attempt = {attempts:?}\nparams.when = {when:?}\n"
    );
    sweep("[1]", &methods).replace("n = 600", "n = 300")
}

/// The attempt of a record, and in which call.
fn attempt(record: &Record) -> (&str, &str) {
    let of = |name: &str| record.params[name].as_str().unwrap();
    (of("attempt"), of("when"))
}

/// Of `got through: ['a', 'b']; tried: 3; broken: []`.
fn told(text: &str) -> (Vec<&str>, usize, &str) {
    let (_, rest) = text.split_once("got through: [").unwrap_or_else(|| panic!("{text}"));
    let (through, rest) = rest.split_once("]; tried: ").unwrap_or_else(|| panic!("{text}"));
    let (tried, broken) = rest.split_once("; broken: ").unwrap_or_else(|| panic!("{text}"));
    let through = through.split('\'').filter(|name| !name.trim_matches([',', ' ']).is_empty());
    (through.collect(), tried.parse().unwrap(), broken)
}

#[test]
fn nothing_that_a_class_tries_against_others_gets_through() {
    let secret = [("AWS_SECRET_ACCESS_KEY", "nobody's business")];
    for user in users() {
        let Some(site) = site(user) else { return };
        let calls = ["fit", "compress", "decompress", "load", "score"];
        site.write("s.toml", &cells(&["all"], &calls));
        vq(&site, user, &["run", "s.toml", "--jobs", "2"], &secret).expect_code(3);
        let records = site.records();
        assert_eq!(records.len(), 1 + calls.len(), "{records:?}");
        for record in &records {
            assert_eq!(record.sandbox, Some(Sandbox::Full));
            let error = record.error.as_deref().unwrap_or_default();
            if attempt(record).0 == "nothing" {
                assert_eq!(record.outcome, Outcome::Ok, "{user:?}: {error}");
                continue;
            }
            let (through, tried, broken) = told(error);
            assert!(through.is_empty(), "{user:?}, {:?}: {through:?}", attempt(record));
            assert!(tried > 80 && broken.starts_with("[]"), "{tried} tried; {broken}");
        }
        let at_import = [secret[0], ("VQ_TEST_AT_IMPORT", "1")];
        let ended = vq(&site, user, &["methods", "--refresh"], &at_import);
        let said = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        let (through, _, broken) = told(&said);
        assert!(through.is_empty() && broken.starts_with("[]"), "{user:?}: {said}");
        assert_eq!(fs::read(site.path("secret")).unwrap(), b"for the user only");
        assert!(!site.path("home/filler").exists() && !site.path("plugins/new.py").exists());
        site.expect_nothing_left();
        site.expect_no_scratch();
    }
}

/// Or the test above would show nothing.
#[test]
fn without_the_sandbox_the_same_attempts_get_through() {
    let Some(site) = site(None) else { return };
    site.write("s.toml", &cells(&["all"], &["fit"]));
    let free = [("VQ_TEST_FREE", "1")];
    vq(&site, None, &["run", "s.toml", "--no-sandbox"], &free).expect_code(3);
    let records = site.records();
    let record = records.iter().find(|record| attempt(record).0 == "all").unwrap();
    let (through, tried, broken) = told(record.error.as_deref().unwrap());
    // A container may deny some by itself, and the hook denies what Python would do by its own means.
    assert!(
        2 * through.len() >= tried && broken.starts_with("[]"),
        "{through:?} of {tried}; {broken}"
    );
}

#[test]
fn what_a_class_does_beyond_its_limits_ends_its_own_cell() {
    use Outcome::{Crashed, Failed, Invalid, OutOfMemory};
    let ends: [(&str, &[Outcome]); 7] = [
        ("memory", &[OutOfMemory, Failed, Crashed]),
        ("threads", &[Invalid, Failed]),
        ("file", &[Failed]),
        ("files", &[Failed]),
        ("flood", &[Outcome::Ok]),
        ("escapes", &[Failed]),
        ("answers", &[Invalid, Failed, Crashed]),
    ];
    let attempts = ends.map(|(attempt, _)| attempt);
    let limits = ["--memory", "512MiB", "--scratch", "64MiB", "--threads", "1", "--timeout", "60s"];
    for user in users() {
        let Some(site) = site(user) else { return };
        site.write("s.toml", &cells(&attempts, &["fit"]));
        let run = [&["run", "s.toml", "--jobs", "2"][..], &limits].concat();
        let ended = vq(&site, user, &run, &[]).expect_code(3);
        let drawn = |text: &str| text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'));
        assert!(!drawn(&ended.stderr) && !drawn(&ended.stdout), "{:?}", ended.stderr);
        let records = site.records();
        assert_eq!(records.len(), 1 + ends.len(), "{records:?}");
        for record in &records {
            let (name, _) = attempt(record);
            let error = record.error.as_deref().unwrap_or_default();
            let log = record.log.as_deref().unwrap_or_default();
            let expected = ends.iter().find(|(attempt, _)| *attempt == name);
            let expected = expected.map_or(&[Outcome::Ok][..], |(_, outcomes)| outcomes);
            assert!(expected.contains(&record.outcome), "{user:?}, {name}: {record:?}");
            assert!(!drawn(error) && !drawn(log), "{name}: {error:?} {log:?}");
            assert!(error.len() + log.len() < 100 << 10, "{name}: {} bytes", log.len());
            if name == "escapes" {
                assert!(error.contains("told") && log.contains("printed"), "{error}, {log}");
            }
        }
        let stored = fs::metadata(site.store()).unwrap().len();
        assert!(stored < 4 << 20, "the store has {stored} bytes");
        site.expect_nothing_left();
        site.expect_no_scratch();
    }
}

#[test]
fn an_import_that_hangs_costs_its_own_time_once_and_the_others_are_found() {
    let Some(site) = site(None) else { return };
    for (name, hangs) in
        [("busy", "while True:\n    pass\n"), ("idle", "import time\ntime.sleep(999)\n")]
    {
        site.write(&format!("plugins/{name}.py"), &format!("{hangs}{SIGNS}"));
    }
    site.write("plugins/signs.py", SIGNS);
    for most in [19, 8] {
        let started = Instant::now();
        let ended = vq(&site, None, &["methods"], &[]).expect_code(0);
        let took = started.elapsed();
        assert!(ended.stdout.contains("signs"), "{}", ended.stdout);
        for name in ["busy.py is left out", "idle.py is left out"] {
            assert!(ended.stderr.contains(name), "{}", ended.stderr);
        }
        assert!(took < Duration::from_secs(most), "{took:?}");
    }
    site.expect_nothing_left();
}

/// Where the packages of the environment at `root` lie.
fn packages(root: &Path) -> PathBuf {
    let lib = fs::read_dir(root.join("lib")).unwrap();
    let python = lib.map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    python.unwrap().join("site-packages")
}

/// A copy of the tests' environment in `site`, made by `program`, into which a test may write; and where
/// its packages lie.
pub(super) fn copied(program: &Path, site: &Site, name: &str) -> (PathBuf, PathBuf) {
    let (from, to) = (python().unwrap(), site.path(name));
    let made = Command::new(program).args(["-m", "venv", "--without-pip"]).arg(&to).status();
    assert!(made.unwrap().success());
    let (from, to_packages) = (packages(from), packages(&to));
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("numpy") {
            let done = Command::new("cp").arg("-r").arg(&path).arg(&to_packages).status();
            assert!(done.unwrap().success());
        }
    }
    (to, to_packages)
}

#[test]
fn what_an_environment_runs_at_its_start_runs_within_or_not_at_all() {
    let Some(site) = site(None) else { return };
    let (venv, packages) = copied(Path::new("python3"), &site, "venv");
    let write = |name: &str, file: &str| {
        let text = format!(
            "import os\nopen(os.path.join(os.environ['VQ_TEST_SITE'], 'home', '{file}'), 'w')\n"
        );
        fs::write(packages.join(name), text).unwrap();
    };
    write("evil.py", "by-pth");
    fs::write(packages.join("evil.pth"), "import evil\n").unwrap();
    write("sitecustomize.py", "by-site");
    write("usercustomize.py", "by-user");
    site.write("plugins/signs.py", SIGNS);
    site.write("s.toml", &sweep("[1]", "[[method]]\nuse = \"signs\"\n"));
    let named = [("VQ_PYTHON", venv.to_str().unwrap())];
    let written = || {
        let entries = fs::read_dir(site.path("home")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("by-")).collect::<Vec<_>>()
    };
    vq(&site, None, &["run", "s.toml"], &named).expect_code(0);
    assert_eq!(written(), Vec::<String>::new());
    // Nobody holds the first then; the other two are not asked for in any case.
    vq(&site, None, &["methods", "--no-sandbox"], &named).expect_code(0);
    assert_eq!(written(), ["by-pth"]);
}
