//! A host that is killed leaves nothing behind for longer than a moment, whatever a plugin does to stay.

use super::{MARK, Place, users};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vq_host::record::Sandbox;
use vq_host::worker::sandbox;

/// Where the plugin stands when the host is killed, and the next command.
const MOMENTS: [(&str, &[&str]); 10] = [
    ("open", &["methods"]),
    ("create", &["results", "results/s.db"]),
    ("fit", &["data", "cache", "--cache-dir", "cache"]),
    ("save", &["check", "plugins/libtrespass.so"]),
    ("compress", &["plan", "sweep.toml"]),
    ("compress-4", &["methods", "--refresh"]),
    ("load", &["results", "results/s.db"]),
    ("decompress", &["data", "cache", "--cache-dir", "cache"]),
    ("decompress-3", &["new", "fresh"]),
    ("destroy", &["methods"]),
];

/// Processes that were started in `place` and have memory.
fn processes(place: &Place) -> BTreeSet<u32> {
    let mark = format!("{MARK}={}", place.folder.path().display());
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = |id: &u32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|set| set == mark.as_bytes())
    };
    ids.filter(ours).collect()
}

/// Whether a thread of process `id` has not ended: one may still write when the first has no memory
/// any more.
fn runs(id: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    let state = |stat: String| stat.rsplit_once(')').map(|(_, rest)| rest.trim().chars().next());
    stats.filter_map(state).any(|state| !matches!(state, Some('Z' | 'X')))
}

/// Names in the folder for scratch folders.
fn scratches(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("scratches")).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_host_that_is_killed_at_any_moment_leaves_no_process_and_the_next_command_no_scratch() {
    if sandbox::offered() != Sandbox::Full {
        return eprintln!("skipped: this kernel does not hold a plugin fully");
    }
    for user in users() {
        let Some(place) = Place::new() else { return };
        for (moment, next) in MOMENTS {
            killed_at(&place, user, moment);
            let mut command = place.vq_host(next, &[]);
            place.become_user(&mut command, user);
            let output = command.output().unwrap();
            let left = scratches(&place);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(left.is_empty(), "{moment}, {user:?}: {left:?} after {next:?}: {said}");
        }
    }
}

/// Runs cells until the plugin is at `moment`, and kills the host.
fn killed_at(place: &Place, user: Option<u32>, moment: &str) {
    let sweep = "[sweep]\nname = \"s\"\nseeds = [1, 2]\nmetric = \"l2\"\n\
         [run]\nstore = \"results/s.db\"\n\
         [[dataset]]\nname = \"g\"\n\
         synthetic = { kind = \"gaussian\", n = 300, dim = 4, seed = 1 }\n\
         queries = { hold_out = 10 }\n\
         [evaluate]\nk = [1]\npairs = 10\nrerank = [1]\nrepeats = 1\n\
         [[method]]\nuse = \"linger\"\n";
    fs::write(place.path("sweep.toml"), sweep).unwrap();
    let run = ["run", "sweep.toml", "--cache-dir", "cache", "--force", "--jobs", "2"];
    let mut run: Command = place.vq_host(&run, &[]);
    run.env("VQ_TEST_LINGERS", "1");
    place.become_user(&mut run, user);
    let said = place.path("said");
    run.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
    let mut host = run.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let at = |mark: &Path| mark.join(format!("work/at-{moment}")).exists();
    while !scratches(place).iter().any(|name| at(&place.path("scratches").join(name))) {
        let said = || fs::read_to_string(&said).unwrap();
        assert!(host.try_wait().unwrap().is_none(), "{moment}, {user:?}: it ended: {}", said());
        assert!(Instant::now() < until, "{moment}, {user:?}: it never came there");
        sleep(Duration::from_millis(1));
    }
    let started = processes(place);
    host.kill().unwrap();
    host.wait().unwrap();
    let killed = Instant::now();
    loop {
        let left: BTreeSet<u32> = &processes(place) | &started;
        let left: Vec<u32> = left.into_iter().filter(|id| runs(*id)).collect();
        if left.is_empty() {
            break;
        }
        // Milliseconds on an idle machine; other tests keep this one busy.
        assert!(killed.elapsed() < Duration::from_secs(10), "{moment}, {user:?}: {left:?}");
        sleep(Duration::from_millis(10));
    }
    assert!(!scratches(place).is_empty(), "{moment}: what is the next command to remove?");
}
