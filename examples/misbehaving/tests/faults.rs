//! Each method does the wrong thing that it is named for, and nothing else that is wrong.
//!
//! What ends or stalls a process happens in a child: this very program, told by an environment
//! variable which method to drive.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vq_misbehaving::plugin;
use vq_plugin_api::handle::{CallError, Caller, Guarded, Instance, Method, Plugin, Proposal};
use vq_plugin_api::ndarray::{Array2, ArrayView2};
use vq_plugin_api::params::Config;
use vq_plugin_api::{ErrorKind, GridRequest, Metric, Space};

const SPACE: Space = Space { dim: 5, metric: Metric::L2 };
const ROWS: usize = 300;
/// Names the method that a child drives.
const DRIVE: &str = "VQ_MISBEHAVING_DRIVE";
/// What a child prints when it came through.
const SURVIVED: &str = "the child came through";

fn method(id: &str) -> Method {
    let plugin = Plugin::linked(plugin()).unwrap();
    plugin.methods().iter().find(|m| m.about().id == id).unwrap().clone()
}

fn with_caller<T>(body: impl FnOnce(&Caller<'_>) -> T) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let (log, progress) = (|_, _: &str| (), |_, _: &str| true);
    body(&Caller { threads: 2, seed: 1, log: &log, progress: &progress, pool: &pool })
}

fn rows() -> Array2<f32> {
    Array2::from_shape_fn((ROWS, SPACE.dim), |(i, j)| ((i * 7 + j * 13) % 31) as f32 - 9.0)
}

/// A fitted instance, and the code length it told before.
fn fitted(id: &str) -> (Instance, usize) {
    let mut instance = method(id).create(&Config::new(), SPACE).unwrap();
    let before = instance.code_bytes();
    with_caller(|caller| instance.fit(rows().view(), caller)).unwrap();
    (instance, before)
}

fn compress(instance: &Instance) -> Result<Vec<u8>, CallError> {
    let mut codes = Guarded::codes();
    let room = codes.lend(ROWS * SPACE.dim);
    let done = with_caller(|caller| instance.compress(rows().view(), SPACE.dim, caller, room));
    let codes = codes.finish("compress")?;
    done?;
    Ok(codes.to_vec())
}

fn decompress(instance: &Instance, codes: &[u8]) -> Guarded<f32> {
    let codes = ArrayView2::from_shape((ROWS, SPACE.dim), codes).unwrap();
    let mut decoded = Guarded::rows();
    let room = decoded.lend(ROWS * SPACE.dim);
    with_caller(|caller| instance.decompress(codes, caller, room)).unwrap();
    decoded
}

/// The rows come back, each value to within half a level of the range 0..=30.
fn round_trips(instance: &Instance) {
    let decoded = decompress(instance, &compress(instance).unwrap());
    for (x, y) in rows().iter().zip(decoded.values()) {
        assert!((x - y).abs() < 0.51 * 30.0 / 255.0, "{x} came back as {y}");
    }
}

#[test]
fn every_method_is_listed_under_its_own_id() {
    let plugin = Plugin::linked(plugin()).unwrap();
    let ids: Vec<_> = plugin.methods().iter().map(|m| m.about().id.clone()).collect();
    assert_eq!(ids.len(), 21);
    assert!(ids.is_sorted() && ids.iter().all(|id| id.starts_with("bad_")), "{ids:?}");
    let readme = include_str!("../README.md");
    for id in ids {
        assert!(readme.contains(&format!("| `{id}` |")), "{id} is not in the README");
    }
}

#[test]
fn what_is_under_every_fault_is_a_correct_quantizer() {
    for id in ["bad_ratio", "bad_grid"] {
        let (instance, before) = fitted(id);
        assert_eq!((before, instance.code_bytes()), (SPACE.dim, SPACE.dim));
        round_trips(&instance);
        let model = instance.save().unwrap().unwrap();
        let mut restored = method(id).create(&Config::new(), SPACE).unwrap();
        restored.load(&model).unwrap();
        assert_eq!(compress(&restored).unwrap(), compress(&instance).unwrap());
        assert!(restored.load(&model[1..]).is_err());
    }
    assert_eq!(fitted("bad_nan").0.ratio(), Some(4.0));
}

#[test]
fn panics_come_back_as_errors() {
    for (id, text) in [
        ("bad_panic", "compress: panicked: asked to panic in compress"),
        ("bad_thread_panic", "compress: panicked: asked to panic in a task"),
    ] {
        let error = compress(&fitted(id).0).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Some(ErrorKind::Panicked), text));
    }
    let request = GridRequest { space: SPACE, bits_per_dim: None, axes: [].into() };
    let error = method("bad_grid").expand(&request).unwrap_err();
    assert_eq!(error.to_string(), "expand_grid: panicked: asked to panic in expand_grid");
}

#[test]
fn a_method_that_cannot_be_created_skips_its_one_configuration() {
    let request = |bits_per_dim| GridRequest { space: SPACE, bits_per_dim, axes: [].into() };
    let skipped = method("bad_create").expand(&request(None)).unwrap();
    let [Proposal::Skip { reason, .. }] = &skipped[..] else { panic!("{skipped:?}") };
    assert_eq!(reason, "this method cannot be created");

    let emitted = method("bad_ratio").expand(&request(Some(8.0))).unwrap();
    assert!(matches!(&emitted[..], [Proposal::Emit { code_bytes: Some(5), .. }]), "{emitted:?}");
    let skipped = method("bad_ratio").expand(&request(Some(4.0))).unwrap();
    let [Proposal::Skip { reason, .. }] = &skipped[..] else { panic!("{skipped:?}") };
    assert_eq!(reason, "stores 8 bits/dim, 4 were asked");
}

#[test]
fn sizes_and_claims_are_untrue_as_promised() {
    assert_eq!(fitted("bad_ratio").0.ratio(), Some(8.0));
    let (instance, before) = fitted("bad_code_bytes");
    assert_eq!((before, instance.code_bytes()), (5, 6));
    let (instance, before) = fitted("bad_huge_code");
    assert_eq!((before, instance.code_bytes()), (1 << 40, 1 << 40));
}

#[test]
fn an_overrun_hits_the_guard_zone_and_nothing_else() {
    let error = compress(&fitted("bad_overrun").0).unwrap_err();
    assert_eq!(error.to_string(), "compress wrote outside its output");
}

#[test]
fn outputs_are_spoiled_as_promised() {
    let (instance, _) = fitted("bad_random");
    assert_ne!(compress(&instance).unwrap(), compress(&instance).unwrap());

    let (instance, _) = fitted("bad_nan");
    let decoded = decompress(&instance, &compress(&instance).unwrap());
    for row in decoded.values().chunks_exact(SPACE.dim) {
        assert!(row[0].is_nan() && row[1..].iter().all(|x| x.is_finite()));
    }

    let (instance, _) = fitted("bad_unwritten");
    let decoded = decompress(&instance, &compress(&instance).unwrap());
    let (canary, values) = (decoded.canary(), decoded.values());
    let (written, last) = values.split_at((ROWS - 1) * SPACE.dim);
    assert!(last.iter().all(|x| *x == canary) && written.iter().all(|x| *x != canary));
}

/// The body of a child; run by hand it does nothing.
#[test]
fn drive_the_method_that_the_environment_names() {
    let Ok(id) = std::env::var(DRIVE) else { return };
    round_trips(&fitted(&id).0);
    println!("{SURVIVED}");
}

#[cfg(unix)]
mod in_a_child {
    use super::*;
    use std::io::{PipeReader, Read};
    use std::os::unix::process::{CommandExt, ExitStatusExt};

    unsafe extern "C" {
        /// POSIX kill(2).
        safe fn kill(pid: i32, signal: i32) -> i32;
    }

    /// A child in a process group of its own, that ends with its whole group.
    struct Driven(Child);

    impl Driven {
        /// Drives `id`, with stdout and stderr into one pipe.
        fn start(id: &str) -> (Self, PipeReader) {
            let this = std::env::current_exe().unwrap();
            let (pipe, end) = std::io::pipe().unwrap();
            // 2 GiB: enough for all but the hog. No core dumps.
            let mut command = Command::new("sh");
            command
                .args(["-c", "ulimit -c 0; ulimit -v 2097152; exec \"$@\"", "sh"])
                .arg(this)
                .args(["--exact", "drive_the_method_that_the_environment_names", "--nocapture"])
                .env(DRIVE, id)
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(end.try_clone().unwrap())
                .stderr(end);
            (Driven(command.spawn().unwrap()), pipe)
        }

        fn runs_after(&mut self, time: Duration) -> bool {
            let end = Instant::now() + time;
            while Instant::now() < end {
                if self.0.try_wait().unwrap().is_some() {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            true
        }
    }

    impl Drop for Driven {
        fn drop(&mut self) {
            // The id is a live or zombie child's or the id of a group that `bad_fork` left behind.
            kill(-self.0.id().cast_signed(), 9);
            let _ = self.0.wait();
        }
    }

    /// The signal or exit code that ended `id`, and what it printed.
    fn end_of(id: &str) -> (Result<i32, i32>, String) {
        let (mut child, mut pipe) = Driven::start(id);
        let reader = std::thread::spawn(move || {
            let mut printed = Vec::new();
            pipe.read_to_end(&mut printed).unwrap();
            String::from_utf8_lossy(&printed).into_owned()
        });
        let status = child.0.wait().unwrap();
        drop(child);
        let how = status.signal().ok_or_else(|| status.code().unwrap_or(-1));
        (how, reader.join().unwrap())
    }

    #[test]
    fn a_method_that_only_chatters_comes_through() {
        let (how, printed) = end_of("bad_print");
        assert_eq!(how, Err(0), "{printed}");
        assert!(printed.contains(SURVIVED) && printed.len() > 1_900_000, "{}", printed.len());
    }

    #[test]
    fn signals_and_exits_end_the_process_without_a_word() {
        for (id, expected) in [
            ("bad_abort", [Ok(6)].as_slice()),
            ("bad_segfault", &[Ok(11), Ok(7)]),
            ("bad_stack", &[Ok(11), Ok(6), Ok(7)]),
            ("bad_stop", &[Ok(9)]),
            ("bad_exit", &[Err(0)]),
        ] {
            let (how, printed) = end_of(id);
            assert!(expected.contains(&how), "{id} ended with {how:?}: {printed}");
            assert!(!printed.contains(SURVIVED), "{id} came through");
        }
    }

    #[test]
    fn the_hog_takes_all_it_may() {
        let (how, printed) = end_of("bad_hog");
        assert_eq!(how, Ok(6), "{printed}");
        assert!(printed.contains("memory allocation of 16777216 bytes failed"), "{printed}");
    }

    #[test]
    fn what_stalls_is_still_there_after_a_second() {
        for id in ["bad_hang", "bad_slow"] {
            let (mut child, _pipe) = Driven::start(id);
            assert!(child.runs_after(Duration::from_secs(1)), "{id} ended");
        }
    }

    #[test]
    fn a_child_left_behind_holds_the_pipe_until_its_group_is_ended() {
        let (mut child, mut pipe) = Driven::start("bad_fork");
        assert!(child.0.wait().unwrap().success());
        let reader = std::thread::spawn(move || {
            let mut printed = String::new();
            pipe.read_to_string(&mut printed).map(|_| printed)
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(!reader.is_finished(), "nobody holds the pipe");
        drop(child);
        assert!(reader.join().unwrap().unwrap().contains(SURVIVED));
    }
}
