//! A plugin that does what it must not is stopped by the kernel, and the record says so.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its place has failed")]

mod forge;
mod killed;

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vq_host::record::{Filter, Outcome, Record, Sandbox};
use vq_host::store::Store;
use vq_host::worker::sandbox;

/// Marks the processes of a place in their environment.
const MARK: &str = "VQ_TEST_PLACE";

/// A folder with plugins that do what they must not, and what they are to do it to.
struct Place {
    folder: tempfile::TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Place {
    /// `None`, with a line that says why, where there is no C compiler.
    #[expect(clippy::print_stderr, reason = "a test that skips says so")]
    fn new() -> Option<Place> {
        // Not in /tmp, which a worker has its own of: what is denied here is denied by name.
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["plugins", "home", "results", "scratches"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["home/secret", "home/notes"] {
            fs::write(folder.path().join(name), "for the user only").unwrap();
        }
        for name in ["trespass", "attack", "forge", "linger"] {
            let built = Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-I"])
                .arg(here.join("../plugin-api/include"))
                .arg(here.join(format!("tests/sandbox/{name}.c")))
                .arg("-o")
                .arg(folder.path().join(format!("plugins/lib{name}.so")))
                .args(["-lm", "-lrt"])
                .status();
            match built {
                Ok(status) => assert!(status.success(), "the test's plugin does not build"),
                Err(error) => {
                    eprintln!("skipped: no C compiler to build the test's plugin ({error})");
                    return None;
                }
            }
        }
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        Some(Place { folder, tcp, udp })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What to try, on what.
    fn acts(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.path(name).display().to_string();
        let port = |address: std::net::SocketAddr| address.port().to_string();
        vec![
            ("nothing", String::new()),
            ("scratch", String::new()),
            ("system", String::new()),
            ("read", path("home/secret")),
            ("write", path("results/beside")),
            ("truncate", path("home/notes")),
            ("chmod", path("home/secret")),
            ("connect", port(self.tcp.local_addr().unwrap())),
            ("send", port(self.udp.local_addr().unwrap())),
            ("ring", String::new()),
            ("run", "/bin/true".into()),
            ("signal", String::new()),
            ("limit", String::new()),
            ("survive", String::new()),
            ("leave", String::new()),
        ]
    }

    fn vq_host(&self, verb: &[&str], options: &[&str]) -> Command {
        // Where every user may run it.
        let host = self.path("vq-host");
        if !host.exists() {
            // By another process: one that another test starts meanwhile would inherit a descriptor
            // that writes it, and nobody could run it.
            let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_vq-host")).arg(&host).status();
            assert!(copied.unwrap().success());
        }
        let mut command = Command::new(host);
        command
            .args(verb)
            .args(options)
            .current_dir(self.folder.path())
            .env(MARK, self.folder.path())
            .env("HOME", self.path("home"))
            // A folder of ours, so that what is left behind there is seen.
            .env("TMPDIR", self.path("scratches"));
        command
    }

    /// Has `command` run as `user`, to whom all of this belongs then.
    fn become_user(&self, command: &mut Command, user: Option<u32>) {
        let Some(user) = user else { return };
        let mut all = vec![self.folder.path().to_owned()];
        while let Some(path) = all.pop() {
            std::os::unix::fs::lchown(&path, Some(user), Some(user)).unwrap();
            let inner = fs::read_dir(&path).into_iter().flatten();
            all.extend(inner.map(|entry| entry.unwrap().path()));
        }
        command.uid(user).gid(user);
    }

    /// A sweep of one cell per act.
    fn prepare(&self, acts: &[(&str, String)], options: &[&str]) -> Command {
        let mut sweep = String::from(
            "[sweep]\nname = \"s\"\nseeds = [1]\nmetric = \"l2\"\n\
             [run]\nstore = \"results/s.db\"\n\
             [[dataset]]\nname = \"g\"\n\
             synthetic = { kind = \"gaussian\", n = 300, dim = 4, seed = 1 }\n\
             queries = { hold_out = 10 }\n\
             [evaluate]\nk = [1]\npairs = 10\nrerank = [1]\nrepeats = 1\n",
        );
        for (act, target) in acts {
            let target = toml::Value::String(target.clone());
            sweep += &format!(
                "[[method]]\nuse = \"trespass\"\nparams.act = \"{act}\"\nparams.target = {target}\n"
            );
        }
        fs::write(self.path("sweep.toml"), sweep).unwrap();
        self.vq_host(&["run", "sweep.toml", "--cache-dir", "cache"], options)
    }

    /// Runs it; answers its output and the records by act.
    fn finish(&self, command: Command) -> (Output, BTreeMap<String, Record>) {
        self.finish_by("act", command)
    }

    fn finish_by(&self, param: &str, mut command: Command) -> (Output, BTreeMap<String, Record>) {
        let output = command.output().unwrap();
        let store = Store::open_read_only(self.path("results/s.db"))
            .unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&output.stderr)));
        let records = store.records(&Filter::default()).unwrap();
        let by_act = |record: Record| (record.params[param].as_str().unwrap().to_owned(), record);
        (output, records.into_iter().map(by_act).collect())
    }

    fn run(&self, acts: &[(&str, String)], options: &[&str]) -> (Output, BTreeMap<String, Record>) {
        self.finish(self.prepare(acts, options))
    }
}

#[test]
fn a_plugin_reaches_no_file_network_or_process_of_the_user_and_the_record_says_so() {
    let Some(place) = Place::new() else { return };
    match sandbox::offered() {
        Sandbox::Full => {}
        held => return eprintln!("skipped: this kernel does not hold a plugin fully ({held})"),
    }
    let (output, records) = place.run(&place.acts(), &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(!said.contains("note: plugins"), "nothing to note on this kernel: {said}");
    assert_eq!(records.len(), place.acts().len());
    for (act, target) in place.acts() {
        let record = &records[act];
        assert_eq!(record.sandbox, Some(Sandbox::Full), "{act}");
        if ["nothing", "scratch", "system"].contains(&act) {
            assert_eq!(record.outcome, Outcome::Ok, "{act}: {:?}", record.error);
            continue;
        }
        let error = record.error.as_deref().unwrap_or_default();
        assert_eq!(record.outcome, Outcome::Failed, "{act} {target}: {error}");
        assert!(error.contains(act) && error.contains(&target), "{error}");
        assert!(error.contains("Permission denied"), "{error}");
    }
    assert!(!place.path("results/beside").exists());
    assert_eq!(fs::read(place.path("home/notes")).unwrap(), b"for the user only");
    assert_eq!(fs::read_dir(place.path("scratches")).unwrap().count(), 0, "scratch is left");
}

/// The bits of all metrics of `record` that no clock and no kernel has a part in.
fn quality(record: &Record) -> BTreeMap<String, u64> {
    let timed = |name: &str| {
        name.contains("_per_s") || name.ends_with("_s") || name.ends_with("_rss_bytes")
    };
    let metrics = record.metrics.iter().filter(|metric| !timed(metric.name()));
    metrics.map(|metric| (metric.name().to_owned(), metric.value().to_bits())).collect()
}

/// Root, and an ordinary user where root runs this.
fn users() -> Vec<Option<u32>> {
    match nix::unistd::geteuid().is_root() {
        true => vec![None, Some(NOBODY)],
        false => vec![None],
    }
}

/// The user whom nothing belongs to.
const NOBODY: u32 = 65534;

/// Runs the plugin that attacks, once per call in which it does, as `user`; answers what got
/// through by call, and what is expected to without a sandbox.
fn attacked(
    place: &Place,
    user: Option<u32>,
    at_load: bool,
    options: &[&str],
) -> BTreeMap<String, [BTreeSet<String>; 2]> {
    let calls = ["fit", "compress", "decompress", "load"];
    let mut sweep = String::from(
        "[sweep]\nname = \"s\"\nseeds = [1]\nmetric = \"l2\"\n\
         [run]\nstore = \"results/s.db\"\n\
         [[dataset]]\nname = \"g\"\n\
         synthetic = { kind = \"gaussian\", n = 300, dim = 4, seed = 1 }\n\
         queries = { hold_out = 10 }\n\
         [evaluate]\nk = [1]\npairs = 10\nrerank = [1]\nrepeats = 1\n",
    );
    for call in calls {
        sweep += &format!("[[method]]\nuse = \"attack\"\nparams.when = \"{call}\"\n");
    }
    fs::write(place.path("sweep.toml"), sweep).unwrap();
    let run = ["run", "sweep.toml", "--cache-dir", "cache", "--force", "--memory", "1GiB"];
    let mut command = place.vq_host(&run, options);
    command.env("AWS_SECRET_ACCESS_KEY", "nobody's business");
    if at_load {
        command.env("VQ_TEST_ATTACK_AT_LOAD", "1");
    }
    if options.contains(&"--no-sandbox") {
        command.env("VQ_TEST_FREE", "1");
    }
    place.become_user(&mut command, user);
    let (_, records) = place.finish_by("when", command);
    let told = |call: &str| {
        let error = records[call].error.clone().unwrap_or_default();
        let (_, told) = error.split_once("got through:").unwrap_or_else(|| panic!("{error}"));
        let (through, expected) = told.split_once("; expected:").unwrap();
        [through, expected].map(|names| names.split_whitespace().map(str::to_owned).collect())
    };
    calls.map(|call| (call.to_owned(), told(call))).into()
}

#[test]
fn nothing_that_hurts_others_carries_over_outlives_or_evades_gets_through() {
    match sandbox::offered() {
        Sandbox::Full => {}
        held => return eprintln!("skipped: this kernel does not hold a plugin fully ({held})"),
    }
    for user in users() {
        // A fresh place for each: what one user made is not the other's to write.
        let Some(place) = Place::new() else { return };
        for at_load in [false, true] {
            for (call, [through, _]) in attacked(&place, user, at_load, &[]) {
                assert!(through.is_empty(), "{call}, {user:?}, {at_load}: {through:?}");
            }
        }
    }
}

/// Or the test above would show nothing.
#[test]
fn without_the_sandbox_the_same_attacks_get_through() {
    for user in users() {
        let Some(place) = Place::new() else { return };
        for (call, [through, expected]) in attacked(&place, user, false, &["--no-sandbox"]) {
            let missed: Vec<_> = expected.difference(&through).collect();
            // A container may deny some of them itself.
            assert!(missed.len() <= expected.len() / 2, "{call}, {user:?}: {missed:?}");
            if !missed.is_empty() {
                eprintln!("skipped: this machine denies {missed:?} by itself");
            }
        }
    }
}

/// A runtime with threads of its own uses all that it was promised.
#[test]
fn openmp_runs_within_with_its_full_thread_budget() {
    let Some(place) = Place::new() else { return };
    let openmp = Command::new("cc")
        .args(["-shared", "-fPIC", "-fopenmp", "-xc", "/dev/null", "-o", "/dev/null"])
        .stderr(Stdio::null())
        .status();
    if !openmp.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: no OpenMP to build with");
    }
    plugin_with(&place, &["-fopenmp", "-DWITH_OPENMP"]);
    for options in [&["--threads", "1"][..], &["--threads", "2"]] {
        let mut command = place.prepare(
            &[("openmp", options[1].to_owned()), ("threads", "32".to_owned())],
            &[options, &["--force"]].concat(),
        );
        command.env("OMP_PROC_BIND", "true").env("GOMP_CPU_AFFINITY", "0");
        let (_, records) = place.finish(command);
        for (act, record) in records {
            assert_eq!(record.outcome, Outcome::Ok, "{act}: {:?}", record.error);
        }
    }
}

/// Libraries try to ask programs such as `lscpu`, and go on without.
#[test]
fn a_refused_program_fails_no_cell() {
    let Some(place) = Place::new() else { return };
    let (_, records) = place.run(&[("asks", "lscpu".to_owned())], &[]);
    assert_eq!(records["asks"].outcome, Outcome::Ok, "{:?}", records["asks"].error);
}

#[test]
fn without_the_sandbox_the_same_plugin_reaches_everything() {
    let Some(place) = Place::new() else { return };
    let (output, records) = place.run(&place.acts(), &["--no-sandbox"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for (act, _) in place.acts() {
        let record = &records[act];
        assert_eq!(record.outcome, Outcome::Ok, "{act}: {:?}", record.error);
        assert_eq!(record.sandbox.as_ref().unwrap().to_string(), "off: --no-sandbox");
    }
    assert!(place.path("results/beside").exists());
    assert_eq!(fs::read(place.path("home/notes")).unwrap(), b"");
}

/// The verbs that load plugins without running cells.
#[test]
fn a_library_is_confined_before_its_initialisers_run() {
    let Some(place) = Place::new() else { return };
    if matches!(sandbox::offered(), Sandbox::Off { .. }) {
        return eprintln!("skipped: this kernel has no sandbox");
    }
    let written = place.path("home/written");
    for verb in [&["methods"][..], &["check", "plugins/libtrespass.so"]] {
        for (options, expected) in [(&[][..], false), (&["--no-sandbox"], true)] {
            let output = place.vq_host(verb, options).env("VQ_TEST_AT_LOAD", &written).output();
            let output = output.unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(printed.contains("trespass"), "{verb:?} {options:?}: {printed}");
            assert_eq!(written.exists(), expected, "{verb:?} {options:?}");
            let _ = fs::remove_file(&written);
        }
    }
}

#[test]
fn libraries_that_a_plugin_names_relative_to_itself_are_found() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("engine")).unwrap();
    fs::write(place.path("engine.c"), "int engine(void) { return 7; }").unwrap();
    fs::write(place.path("engine/secret"), "beside the library").unwrap();
    let shared = ["-shared", "-fPIC", "-Wl,--no-as-needed"];
    let cc = |arguments: &[&str]| {
        let mut cc = Command::new("cc");
        assert!(
            cc.args(shared).args(arguments).current_dir(&place.folder).status().unwrap().success()
        );
    };
    cc(&["engine.c", "-o", "engine/libengine.so"]);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = here.join("tests/sandbox/trespass.c").display().to_string();
    let include = format!("-I{}", here.join("../plugin-api/include").display());
    let origin = "-Wl,-rpath,$ORIGIN/../engine";
    let links = ["-Lengine", "-lengine", origin, "-o", "plugins/libtrespass.so", "-lm", "-lrt"];
    cc(&[&[source.as_str(), &include][..], &links].concat());
    let output = place.vq_host(&["methods"], &[]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("trespass"), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let secret = place.path("engine/secret").display().to_string();
    let (_, records) = place.run(&[("read", secret)], &[]);
    if !matches!(sandbox::offered(), Sandbox::Off { .. }) {
        assert_eq!(records["read"].outcome, Outcome::Failed);
    }
}

/// Compiles `arguments` into a shared library, in the folder of `place`.
fn shared(place: &Place, arguments: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wl,--no-as-needed"]).args(arguments).current_dir(&place.folder);
    assert!(cc.status().unwrap().success(), "{arguments:?}");
}

/// Builds the test's plugin with more for the linker.
fn plugin_with(place: &Place, links: &[&str]) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = here.join("tests/sandbox/trespass.c").display().to_string();
    let include = format!("-I{}", here.join("../plugin-api/include").display());
    let of = [source.as_str(), &include, "-o", "plugins/libtrespass.so", "-lm", "-lrt"];
    shared(place, &[&of[..], links].concat());
}

/// By full path, by the RUNPATH of a library that is itself found by one, and behind a link to a
/// file that is not called a library: as package managers lay them out.
#[test]
fn what_the_loader_finds_without_the_sandbox_it_finds_within() {
    let Some(place) = Place::new() else { return };
    for folder in ["a/deep", "store", "farm"] {
        fs::create_dir_all(place.path(folder)).unwrap();
    }
    fs::write(place.path("deep.c"), "int deep(void) { return 7; }").unwrap();
    fs::write(place.path("near.c"), "int deep(void); int near(void) { return deep(); }").unwrap();
    shared(&place, &["deep.c", "-o", "a/deep/libdeep.so"]);
    let origin = ["-La/deep", "-ldeep", "-Wl,-rpath,$ORIGIN/deep"];
    shared(&place, &[&["near.c", "-o", "a/libnear.so"][..], &origin].concat());
    shared(&place, &["deep.c", "-o", "store/0a1b2c"]);
    std::os::unix::fs::symlink("../store/0a1b2c", place.path("farm/libfarm.so")).unwrap();
    let full = place.path("a/deep/libdeep.so").display().to_string();
    let near = ["-La", "-lnear", "-Wl,-rpath-link,a/deep", "-Wl,-rpath,$ORIGIN/../a"];
    let farm = ["-Lfarm", "-lfarm", "-Wl,-rpath,$ORIGIN/../farm"];
    for links in [&[full.as_str()][..], &near, &farm] {
        plugin_with(&place, links);
        for options in [&[][..], &["--no-sandbox"]] {
            let output = place.vq_host(&["methods"], options).output().unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(printed.contains("trespass"), "{links:?} {options:?}: {printed}{said}");
        }
        let (output, records) = place.run(&[("system", String::new())], &["--force"]);
        assert_eq!(output.status.code(), Some(0), "{links:?}: {records:?}");
    }
}

/// Its advice, to move the file elsewhere, would break the plugin.
#[test]
fn a_library_beside_a_plugin_that_needs_it_is_no_reason_for_a_warning() {
    let Some(place) = Place::new() else { return };
    fs::write(place.path("part.c"), "int part(void) { return 7; }").unwrap();
    for name in ["part", "other"] {
        shared(&place, &["part.c", "-o", &format!("plugins/lib{name}.so")]);
    }
    plugin_with(&place, &["-Wl,--no-as-needed", "-Lplugins", "-lpart", "-Wl,-rpath,$ORIGIN"]);
    let output = place.vq_host(&["methods"], &[]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(String::from_utf8_lossy(&output.stdout).contains("trespass"), "{said}");
    assert!(said.contains("libother.so is left out: it exports no symbol"), "{said}");
    assert!(!said.contains("libpart.so"), "{said}");
}

#[test]
fn a_library_that_a_plugin_brings_along_is_part_of_its_cells_keys() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("engine")).unwrap();
    let engine = |value: &str| {
        let source = format!("int engine(void) {{ return {value}; }}");
        fs::write(place.path("engine.c"), source).unwrap();
        shared(&place, &["engine.c", "-o", "engine/libengine.so"]);
    };
    let acts = [("nothing", String::new())];
    let runs = |expected: &str| {
        let output = place.prepare(&acts, &[]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(expected), "{expected} is missing in: {said}");
        let store = Store::open_read_only(place.path("results/s.db")).unwrap();
        store.records(&Filter::default()).unwrap()
    };
    let alone = runs("1 cell to run, 0 done already");
    assert_eq!(alone[0].method.needs_digest, None, "the system's libraries do not count");
    engine("7");
    plugin_with(&place, &["-Lengine", "-lengine", "-Wl,-rpath,$ORIGIN/../engine"]);
    runs("1 cell to run, 0 done already");
    runs("nothing to run");
    engine("8");
    let records = runs("1 cell to run, 0 done already");
    assert_eq!(records.len(), 3);
    let files: BTreeSet<&str> = records.iter().map(|r| r.method.plugin_digest.as_str()).collect();
    assert_eq!(files.len(), 2, "the file alone does not tell the last two apart");
    // Where it lies does not matter.
    fs::rename(place.path("engine"), place.path("motor")).unwrap();
    let mut run = place.prepare(&acts, &[]);
    let output = run.env("LD_LIBRARY_PATH", place.path("motor")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nothing to run"), "{said}");
}

/// With a mount namespace of its own, and where the kernel allows none.
#[test]
fn openmp_runtimes_register_in_shared_memory_and_nobody_else_sees_it() {
    let Some(place) = Place::new() else { return };
    if matches!(sandbox::offered(), Sandbox::Off { .. }) {
        return eprintln!("skipped: this kernel has no sandbox");
    }
    let left = || {
        let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().starts_with("__KMP_REG")).count()
    };
    let mark = PathBuf::from(format!("/tmp/vq-trespass-{}", std::process::id()));
    let acts = [("register", String::new()), ("write", mark.display().to_string())];
    let before = left();
    let (_, own) = place.run(&acts, &[]);
    assert_eq!(own["register"].outcome, Outcome::Ok, "{:?}", own["register"].error);
    assert!(!mark.exists());
    let mut alone = place.prepare(&acts, &["--force"]);
    without(&mut alone, libc::SYS_unshare);
    let (_, lent) = place.finish(alone);
    assert_eq!(lent["register"].outcome, Outcome::Ok, "{:?}", lent["register"].error);
    let error = lent["write"].error.as_deref().unwrap_or_default();
    assert!(error.contains("Permission denied"), "the folder itself is not lent: {error}");
    assert!(!mark.exists());
    assert_eq!(left(), before, "registrations are left");
    let (_, free) = place.run(&acts[..1], &["--force", "--no-sandbox"]);
    assert_eq!(free["register"].outcome, Outcome::Ok, "{:?}", free["register"].error);
    assert_eq!(left(), before, "registrations of a worker without a sandbox are left");
}

#[test]
fn shared_memory_of_a_worker_ends_where_its_memory_does() {
    let Some(place) = Place::new() else { return };
    if matches!(sandbox::offered(), Sandbox::Off { .. }) {
        return eprintln!("skipped: this kernel has no sandbox");
    }
    let (_, records) = place.run(&[("fill", "300".into())], &["--memory", "256MiB"]);
    let error = records["fill"].error.as_deref().unwrap_or_default();
    // Where there is no folder of its own, there is nothing to fill.
    assert!(["No space left", "Permission denied"].iter().any(|e| error.contains(e)), "{error}");
}

/// Two ways or more past each limit; the cell beside it is what it always was.
#[test]
fn what_passes_a_limit_ends_its_own_cell() {
    if sandbox::offered() != Sandbox::Full {
        return eprintln!("skipped: this kernel does not hold a plugin fully");
    }
    use Outcome::{Crashed, Failed, Invalid, OutOfMemory};
    let limits: [(&str, &[Outcome]); 8] = [
        ("memory", &[OutOfMemory, Failed, Crashed]),
        ("tables", &[OutOfMemory]),
        // Where the kernel counts, the call fails.
        ("threads", &[Invalid, Failed]),
        ("file", &[Failed]),
        ("files", &[Failed]),
        ("unlinked", &[Failed]),
        ("number", &[Failed]),
        ("depth", &[Failed]),
    ];
    let users = users();
    for &user in &users {
        let Some(place) = Place::new() else { return };
        for (limit, outcomes) in limits {
            // A hundred thousand files take long to make and to remove, and are counted alike.
            if limit == "number" && Some(&user) != users.last() {
                continue;
            }
            let acts = [("nothing", String::new()), ("exceed", limit.to_owned())];
            let few = ["--memory", "256MiB", "--scratch", "64MiB", "--force", "--threads", "1"];
            let mut command = place.prepare(&acts, &few);
            place.become_user(&mut command, user);
            let (_, records) = place.finish(command);
            let (beside, record) = (&records["nothing"], &records["exceed"]);
            assert_eq!(beside.outcome, Outcome::Ok, "{limit}, {user:?}: {:?}", beside.error);
            let error = record.error.as_deref().unwrap_or_default();
            let ended = outcomes.contains(&record.outcome);
            assert!(ended, "{limit}, {user:?}: {}: {error}", record.outcome);
            let left = fs::read_dir(place.path("scratches")).unwrap().count();
            assert_eq!(left, 0, "{limit}, {user:?}: scratch is left");
        }
    }
}

#[test]
fn a_plugin_sees_the_variables_that_libraries_read_and_no_others() {
    let Some(place) = Place::new() else { return };
    let names = ["OMP_SCHEDULE", "LC_ALL", "VQ_TEST_SITE", "AWS_SECRET_ACCESS_KEY", "OMP_PLACES"];
    for sandbox in [&[][..], &["--no-sandbox"]] {
        for (i, name) in names.iter().enumerate() {
            let options = [sandbox, &["--force"]].concat();
            let mut run = place.prepare(&[("environment", (*name).to_owned())], &options);
            for name in names {
                run.env(name, "C");
            }
            run.output().unwrap();
            let store = Store::open_read_only(place.path("results/s.db")).unwrap();
            let records = store.records(&Filter::default()).unwrap();
            let record = records.iter().find(|r| r.params["target"] == **name).unwrap();
            let expected = if i < 3 { Outcome::Ok } else { Outcome::Failed };
            assert_eq!(record.outcome, expected, "{name}: {:?}", record.error);
            for run in store.runs().unwrap() {
                assert_eq!(run.environment.get("OMP_SCHEDULE").map(String::as_str), Some("C"));
                assert!(!run.environment.contains_key("AWS_SECRET_ACCESS_KEY"));
                assert!(!run.environment.contains_key("OMP_PLACES"));
            }
        }
    }
}

#[test]
fn rounding_and_processors_that_a_plugin_changes_are_put_back_and_told() {
    let Some(place) = Place::new() else { return };
    let (_, honest) = place.run(&[("nothing", String::new())], &[]);
    let honest = quality(&honest["nothing"]);
    let one_processor = std::thread::available_parallelism().is_ok_and(|n| n.get() == 1);
    for (change, told) in [
        ("rounding", "the floating-point environment"),
        ("flushing", "the floating-point environment"),
        ("pinning", "the processors of its thread"),
    ] {
        let nothing_to_change = match change {
            "flushing" => !cfg!(target_arch = "x86_64"),
            "pinning" => one_processor,
            _ => false,
        };
        if nothing_to_change {
            eprintln!("skipped: {change} is nothing on this machine");
            continue;
        }
        let (_, in_fit) = place.run(&[("change", change.to_owned())], &["--force"]);
        let mut at_load = place.prepare(&[("nothing", String::new())], &["--force"]);
        at_load.env("VQ_TEST_CHANGES", change);
        let (_, at_load) = place.finish(at_load);
        for record in [&in_fit["change"], &at_load["nothing"]] {
            assert_eq!(record.outcome, Outcome::Ok, "{:?}", record.error);
            assert_eq!(quality(record), honest, "{change}");
            let log = record.log.as_deref().unwrap_or_default();
            assert!(log.contains(told) && log.contains("put it back"), "{change}: {log}");
        }
    }
}

/// Makes `command` run as on a kernel without `call`.
fn without(command: &mut Command, call: libc::c_long) {
    let denied = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let rules = [(call, Vec::new())].into_iter().collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let install = move || seccompiler::apply_filter(&program).map_err(std::io::Error::other);
    // SAFETY: between fork and exec, the closure makes two system calls and, unless they fail,
    // allocates nothing.
    unsafe { command.pre_exec(install) };
}

#[test]
fn what_an_older_kernel_cannot_hold_is_said_once_and_recorded() {
    let Some(place) = Place::new() else { return };
    if sandbox::offered() != Sandbox::Full {
        return eprintln!("skipped: this kernel does not hold a plugin fully");
    }
    let missing = [
        (libc::SYS_landlock_create_ruleset, "reading and writing files", vec!["read", "write"]),
        (libc::SYS_seccomp, "networking other than TCP", vec!["send", "ring"]),
    ];
    for (call, cannot, pass) in missing {
        let cells = ["read", "write", "connect", "send"];
        let acts: Vec<_> =
            place.acts().into_iter().filter(|(act, _)| cells.contains(act)).collect();
        let mut command = place.prepare(&acts, &["--force"]);
        without(&mut command, call);
        let (output, records) = place.finish(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.matches("note: plugins are confined in part").count(), 1, "{said}");
        assert!(said.contains(cannot), "{said}");
        for (act, _) in acts {
            let record = &records[act];
            let held = record.sandbox.as_ref().unwrap().to_string();
            assert!(held.starts_with("partial: ") && held.contains(cannot), "{held}");
            assert_eq!(record.outcome.is_ok(), pass.contains(&act), "{act}: {:?}", record.error);
        }
    }
}

#[test]
fn descriptors_that_the_users_shell_left_open_do_not_reach_a_plugin() {
    let Some(place) = Place::new() else { return };
    let acts = [("inherit", "9".to_owned())];
    let run = place.prepare(&acts, &[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9<home/secret; exec \"$0\" \"$@\""]).arg(run.get_program());
    shell.args(run.get_args()).current_dir(&place.folder);
    let (_, records) = place.finish(shell);
    let error = records["inherit"].error.as_deref();
    assert_eq!(error, Some("fit: inherit 9: Bad file descriptor"));
}

#[test]
fn a_confined_worker_ends_with_its_parent() {
    let Some(place) = Place::new() else { return };
    if matches!(sandbox::offered(), Sandbox::Off { .. }) {
        return eprintln!("skipped: this kernel has no sandbox");
    }
    let mut run = place.prepare(&[("stay", String::new())], &[]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(30);
    let wait_for = |what: &mut dyn FnMut() -> Option<String>| loop {
        if let Some(found) = what() {
            break found;
        }
        assert!(Instant::now() < patience, "nothing happened");
        sleep(Duration::from_millis(10));
    };
    let worker = wait_for(&mut || {
        // One of those of the cell's two processes with the plugin.
        let scratches = fs::read_dir(place.path("scratches")).unwrap().flatten();
        let mut pids = scratches.map(|scratch| fs::read_to_string(scratch.path().join("work/pid")));
        let pid = pids.find_map(Result::ok)?;
        pid.ends_with('\n').then(|| pid.trim().to_owned())
    });
    run.kill().unwrap();
    run.wait().unwrap();
    wait_for(&mut || match fs::read_to_string(format!("/proc/{worker}/status")) {
        // Nobody may be there to take note of its death.
        Ok(status) => status.contains("State:\tZ").then(String::new),
        Err(_) => Some(String::new()),
    });
}
