//! A plugin that does what it must not is stopped by the kernel, and the record says so.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its place has failed")]

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;
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

/// A folder with a plugin of one method, `trespass`, and what it is to trespass on.
struct Place {
    folder: tempfile::TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Place {
    /// `None`, with a line that says why, where there is no C compiler.
    fn new() -> Option<Place> {
        let folder = tempfile::tempdir().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["plugins", "home", "results", "scratches"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["home/secret", "home/notes"] {
            fs::write(folder.path().join(name), "for the user only").unwrap();
        }
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(here.join("../plugin-api/include"))
            .arg(here.join("tests/sandbox/trespass.c"))
            .arg("-o")
            .arg(folder.path().join("plugins/libtrespass.so"))
            .status();
        match built {
            Ok(status) => assert!(status.success(), "the test's plugin does not build"),
            Err(error) => {
                eprintln!("skipped: no C compiler to build the test's plugin ({error})");
                return None;
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_vq-host"));
        command
            .args(verb)
            .args(options)
            .current_dir(self.folder.path())
            .env("HOME", self.path("home"))
            // A folder of ours, so that what is left behind there is seen.
            .env("TMPDIR", self.path("scratches"));
        command
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
    fn finish(&self, mut command: Command) -> (Output, BTreeMap<String, Record>) {
        let output = command.output().unwrap();
        let store = Store::open_read_only(self.path("results/s.db"))
            .unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&output.stderr)));
        let records = store.records(&Filter::default()).unwrap();
        let by_act = |record: Record| (record.params["act"].as_str().unwrap().to_owned(), record);
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
            let output = place.vq_host(verb, options).env("TRESPASS_AT_LOAD", &written).output();
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
    let links = ["-Lengine", "-lengine", origin, "-o", "plugins/libtrespass.so"];
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
        let scratch = fs::read_dir(place.path("scratches")).unwrap().flatten().next()?;
        let pid = fs::read_to_string(scratch.path().join("pid")).ok()?;
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
