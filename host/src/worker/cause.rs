//! Why a child ended without an answer, and what to do about it, in words.

use super::memory::{Container, machine_bytes};
use crate::record::Outcome;
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Resident anonymous memory, as a part of the limit (or of the machine, if that is less), from
/// which a death counts as out of memory.
const NEAR_LIMIT: f64 = 0.85;

/// Whether `most` bytes of memory are near the limit, or near all that the machine has.
pub(super) fn near_limit(most: u64, limit: Option<u64>) -> bool {
    let room = [limit, machine_bytes()].into_iter().flatten().min();
    room.is_some_and(|room| most as f64 > NEAR_LIMIT * room as f64)
}

/// Adds what to do where the training rows alone, so many rows and bytes, take much of the memory.
pub(super) fn advise(error: &mut String, (rows, bytes): (usize, u64), memory: Option<u64>) {
    let room = [memory, machine_bytes()].into_iter().flatten().min().unwrap_or(u64::MAX);
    let learning = ["at load", "at fit"].iter().any(|stage| error.contains(stage));
    if learning && bytes > room / 8 {
        let fewer = (rows as u128 * u128::from(room) / 8 / u128::from(bytes.max(1))).max(1);
        *error += &format!(
            "; its {rows} training rows take {}: train = {{ sample = {fewer} }} in the sweep takes \
             an eighth of the memory",
            size(bytes)
        );
    }
}

/// What to say of a child that the kernel killed because its container was full.
pub(super) fn out_of_container(
    status: Option<ExitStatus>,
    stage: &str,
    container: &Container,
) -> Option<String> {
    if status?.signal() != Some(Signal::SIGKILL as i32) || !container.killed_since() {
        return None;
    }
    let within = container.limit().map_or_else(
        || "this machine's memory".to_owned(),
        |limit| format!("the container's memory limit of {}", size(limit)),
    );
    Some(format!("killed by the system at {stage}: out of {within}"))
}

/// Why a child ended without an answer.
pub(super) fn cause(
    status: Option<ExitStatus>,
    stage: &str,
    printed: &str,
    near_limit: bool,
    memory: Option<u64>,
) -> (Outcome, String) {
    let limit =
        memory.map_or_else(|| "this machine".to_owned(), |m| format!("the limit of {}", size(m)));
    let allocation_failed = ["memory allocation of", "std::bad_alloc", "Cannot allocate memory"]
        .iter()
        .any(|text| printed.contains(text));
    let signal = status.and_then(|s| s.signal());
    if allocation_failed || (near_limit && signal.is_some()) {
        return (Outcome::OutOfMemory, format!("ran out of memory at {stage}, within {limit}"));
    }
    match (signal, status.and_then(|s| s.code())) {
        (Some(9), _) => {
            (Outcome::Crashed, format!("killed at {stage} by signal 9 (SIGKILL), not by vq-host"))
        }
        (Some(number), _) => {
            let name = Signal::try_from(number).map_or("unknown signal", Signal::as_str);
            (Outcome::Crashed, format!("crashed at {stage}: signal {number} ({name})"))
        }
        (None, Some(code)) => {
            (Outcome::Crashed, format!("ended the process at {stage} with exit code {code}"))
        }
        (None, None) => (Outcome::Crashed, format!("ended at {stage}, nobody saw how")),
    }
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn of(raw: i32, printed: &str, near: bool) -> (Outcome, String) {
        cause(Some(ExitStatus::from_raw(raw)), "fit", printed, near, Some(GIB))
    }

    #[test]
    fn an_end_is_told_by_signal_code_and_stage() {
        let crashed = |raw, words: &str| {
            assert_eq!(of(raw, "", false), (Outcome::Crashed, words.to_owned()));
        };
        crashed(11, "crashed at fit: signal 11 (SIGSEGV)");
        crashed(9, "killed at fit by signal 9 (SIGKILL), not by vq-host");
        crashed(3 << 8, "ended the process at fit with exit code 3");
        crashed(64, "crashed at fit: signal 64 (unknown signal)");
        assert_eq!(cause(None, "fit", "", true, None).1, "ended at fit, nobody saw how");
    }

    /// By what was printed, or by the memory that was there.
    #[test]
    fn an_end_near_the_limit_is_one_of_memory() {
        let words = "ran out of memory at fit, within the limit of 1.0 GiB";
        for (raw, printed, near) in [
            (6, "terminate called after throwing an instance of 'std::bad_alloc'", false),
            (1 << 8, "memory allocation of 80 bytes failed", false),
            (11, "", true),
        ] {
            assert_eq!(of(raw, printed, near), (Outcome::OutOfMemory, words.to_owned()));
        }
        assert_eq!(of(0, "", true).0, Outcome::Crashed, "it left by itself");
        assert!(near_limit(GIB, Some(GIB)) && !near_limit(GIB / 2, Some(GIB)));
    }

    #[test]
    fn fewer_rows_are_advised_where_they_take_much_of_the_memory() {
        let advised = |stage: &str, bytes: u64| {
            let mut error = format!("ran out of memory {stage}");
            advise(&mut error, (1000, bytes), Some(GIB));
            error
        };
        assert!(advised("at fit", GIB).contains("train = { sample = 125 }"));
        assert!(!advised("at compress", GIB).contains("sample"));
        assert!(!advised("at fit", GIB / 100).contains("sample"));
    }
}
