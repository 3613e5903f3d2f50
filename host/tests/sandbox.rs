//! A plugin that does what it must not is stopped by the kernel, and the record says so.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
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
        fs::create_dir(folder.path().join("plugins")).unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        fs::create_dir(folder.path().join("results")).unwrap();
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

    /// Runs a sweep of one cell per act; answers its output and the records by act.
    fn run(&self, options: &[&str]) -> (Output, BTreeMap<String, Record>) {
        let mut sweep = String::from(
            "[sweep]\nname = \"s\"\nseeds = [1]\nmetric = \"l2\"\n\
             [run]\nstore = \"results/s.db\"\n\
             [[dataset]]\nname = \"g\"\n\
             synthetic = { kind = \"gaussian\", n = 300, dim = 4, seed = 1 }\n\
             queries = { hold_out = 10 }\n\
             [evaluate]\nk = [1]\npairs = 10\nrerank = [1]\nrepeats = 1\n",
        );
        for (act, target) in self.acts() {
            let target = toml::Value::String(target);
            sweep += &format!(
                "[[method]]\nuse = \"trespass\"\nparams.act = \"{act}\"\nparams.target = {target}\n"
            );
        }
        fs::write(self.path("sweep.toml"), sweep).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_vq-host"))
            .args(["run", "sweep.toml", "--cache-dir", "cache"])
            .args(options)
            .current_dir(self.folder.path())
            .env("HOME", self.path("home"))
            // A folder of ours, so that what is left behind there is seen.
            .env("TMPDIR", self.path("scratches"))
            .output()
            .unwrap();
        let store = Store::open_read_only(self.path("results/s.db"))
            .unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&output.stderr)));
        let records = store.records(&Filter::default()).unwrap();
        let by_act = |record: Record| (record.params["act"].as_str().unwrap().to_owned(), record);
        (output, records.into_iter().map(by_act).collect())
    }
}

#[test]
fn a_plugin_reaches_no_file_network_or_process_of_the_user_and_the_record_says_so() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("scratches")).unwrap();
    match sandbox::offered() {
        Sandbox::Full => {}
        held => return eprintln!("skipped: this kernel does not hold a plugin fully ({held})"),
    }
    let (output, records) = place.run(&[]);
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
        assert!(error.contains("Permission denied") || act == "signal", "{error}");
    }
    assert!(!place.path("results/beside").exists());
    assert_eq!(fs::read(place.path("home/notes")).unwrap(), b"for the user only");
    assert_eq!(fs::read_dir(place.path("scratches")).unwrap().count(), 0, "scratch is left");
}

#[test]
fn without_the_sandbox_the_same_plugin_reaches_everything() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("scratches")).unwrap();
    let (output, records) = place.run(&["--no-sandbox"]);
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

#[test]
fn methods_and_check_confine_what_they_load() {
    let Some(place) = Place::new() else { return };
    let plugin = place.path("plugins/libtrespass.so");
    for (verb, options) in [("check", vec![]), ("check", vec!["--no-sandbox"])] {
        let output = Command::new(env!("CARGO_BIN_EXE_vq-host"))
            .arg(verb)
            .arg(&plugin)
            .args(&options)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(printed.contains("trespass:"), "{verb} {options:?}: {printed}");
    }
}
