//! A plugin that says more than anybody reads costs its own cell's time: not the parent's memory,
//! not the store, not other cells; and one that hangs as it is opened hangs once.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its place has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;
use vq_host::record::{Filter, Outcome, Record};
use vq_host::store::Store;

/// What the parent may take beyond what an honest run takes.
const MORE: u64 = 64 << 20;

/// A folder with a plugin of one method, `flood`.
struct Place(tempfile::TempDir);

impl Place {
    /// `None`, with a line that says why, where there is no C compiler.
    #[expect(clippy::print_stderr, reason = "a test that skips says so")]
    fn new() -> Option<Place> {
        let place = Place(tempfile::tempdir().unwrap());
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["plugins", "home"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(here.join("../plugin-api/include"))
            .arg(here.join("tests/flood/flood.c"))
            .arg("-o")
            .arg(place.path("plugins/libflood.so"))
            .status();
        match built {
            Ok(status) => assert!(status.success(), "the test's plugin does not build"),
            Err(error) => {
                eprintln!("skipped: no C compiler to build the test's plugin ({error})");
                return None;
            }
        }
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn vq_host(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vq-host"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("VQ_CACHE_DIR")
            .env_remove("XDG_CACHE_HOME")
            .env("HOME", self.path("home"));
        command
    }

    /// One cell per act; answers the records, and the most memory that the parent had.
    fn run(&self, acts: &[&str]) -> (Vec<Record>, u64) {
        let store = format!("{}.db", acts.join("-"));
        let acts = acts.iter().map(|act| format!("\"{act}\"")).collect::<Vec<_>>().join(", ");
        let sweep = format!(
            "[sweep]\nname = \"s\"\nseeds = [1]\nmetric = \"l2\"\n\
             [run]\nstore = \"{store}\"\n\
             [[dataset]]\nname = \"g\"\n\
             synthetic = {{ kind = \"gaussian\", n = 300, dim = 4, seed = 1 }}\n\
             queries = {{ hold_out = 10 }}\n\
             [evaluate]\nk = [1]\npairs = 10\nrerank = [1]\nrepeats = 1\n\
             [[method]]\nuse = \"flood\"\nparams.act = [{acts}]\n"
        );
        fs::write(self.path("sweep.toml"), sweep).unwrap();
        let most = most_of(&mut self.vq_host(&["run", "sweep.toml"]));
        let bytes = fs::metadata(self.path(&store)).unwrap().len();
        assert!(bytes < 4 << 20, "the store has {bytes} bytes");
        let store = Store::open_read_only(self.path(&store)).unwrap();
        (store.records(&Filter::default()).unwrap(), most)
    }
}

/// Runs `command`; answers the most memory that it had.
fn most_of(command: &mut Command) -> u64 {
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while run.try_wait().unwrap().is_none() {
        most = most.max(most_resident(run.id()).unwrap_or(0));
        thread::sleep(Duration::from_millis(10));
    }
    most
}

fn most_resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[test]
fn a_flood_is_its_own_cells_and_leaves_parent_store_and_neighbours_as_they_are() {
    let Some(place) = Place::new() else { return };
    let (_, honest) = place.run(&["nothing"]);
    let floods = ["log", "print", "progress", "garbage", "lines", "logs", "nested", "proposed"];
    for flood in floods {
        let (records, most) = place.run(&["nothing", flood]);
        assert!(most < honest + MORE, "{flood}: {most} bytes, {honest} without");
        assert_eq!(records.len(), 2, "{flood}");
        for record in &records {
            let (act, log) = (&record.params["act"], record.log.as_deref().unwrap_or_default());
            if act == "nothing" {
                assert_eq!(record.outcome, Outcome::Ok, "beside {flood}: {:?}", record.error);
                assert_eq!(record.log, None, "beside {flood}");
            }
            assert!(log.len() < 256 << 10, "{act}: a log of {} bytes", log.len());
            for text in [log, record.error.as_deref().unwrap_or_default()] {
                assert!(!text.contains('\u{1b}'), "{act}: {text}");
            }
        }
    }
}

/// As it is opened, to be described or to list configurations.
#[test]
fn a_flood_where_a_library_is_asked_leaves_the_parent_as_it_is() {
    let Some(place) = Place::new() else { return };
    place.run(&["nothing"]);
    let floods = ["print", "garbage", "lines", "logs", "nested", "proposed"];
    for verb in [&["methods", "--refresh"][..], &["plan", "sweep.toml"]] {
        let honest = most_of(&mut place.vq_host(verb));
        for flood in floods {
            let most = most_of(place.vq_host(verb).env("VQ_TEST_FLOOD", flood));
            assert!(most < honest + MORE, "{verb:?}, {flood}: {most} bytes, {honest} without");
        }
    }
}

#[test]
fn a_library_that_hangs_is_waited_for_once() {
    for hangs in ["asleep", "computing"] {
        waited_for_once(hangs);
    }
}

fn waited_for_once(how: &str) {
    let Some(place) = Place::new() else { return };
    let methods = |more: &[&str], hangs: bool| -> Output {
        let mut command = place.vq_host(&[&["methods"], more].concat());
        if hangs {
            command.env("VQ_TEST_HANGS", how);
        }
        command.output().unwrap()
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let again = "`vq-host methods --refresh` asks it again";
    let first = methods(&[], true);
    assert!(said(&first).contains("after 2s"), "{}", said(&first));
    // It would not hang any more, but is not asked.
    let second = methods(&[], false);
    assert!(said(&second).contains("after 2s"), "{}", said(&second));
    assert!(said(&second).contains(again), "{}", said(&second));
    let third = methods(&["--refresh"], false);
    assert!(String::from_utf8_lossy(&third.stdout).contains("flood"), "{}", said(&third));
    let fourth = methods(&[], true);
    assert!(String::from_utf8_lossy(&fourth.stdout).contains("flood"), "{}", said(&fourth));
}
