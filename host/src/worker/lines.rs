//! What a child says, read by a parent that trusts none of it.
//!
//! ```text
//! pipe ──► read: a line at a time, a longer one is garbage; at a pace ──► bounded channel ──► supervise
//! ```
//! A child that says much waits for its pipe: it costs the parent neither memory nor time. Texts are
//! cut and made plain where they arrive, so that nothing behind has to.

use super::protocol::{CheckFinding, CheckedMethod};
use crate::report::{plain, plain_lines};
use serde::de::DeserializeOwned;
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};
use vq_plugin_api::conformance::Skip;
use vq_plugin_api::handle::Proposal;
use vq_plugin_api::{Level, Value};

/// Longest line of a process with plugin code that answers nothing.
pub(super) const OF_WORK: usize = 64 << 10;
/// Longest line that answers for plugin code: what a library offers, what a check found.
pub(super) const OF_ANSWER: usize = 8 << 20;
/// Longest line that lists configurations, and how many bytes of them a child puts on one.
pub(super) const OF_GRIDS: usize = 4 << 20;
pub(super) const GRID_BYTES: usize = 256 << 10;
/// Longest line of a process without plugin code: all metrics of a cell.
pub(super) const OF_REFEREE: usize = 256 << 20;

/// Messages, and bytes of their lines, on the way to the thread that waits for them.
const WAITING: usize = 64;
const WAITING_BYTES: usize = 4 << 20;

/// How often a reader may take what is told here; a child that says more waits.
const PACE: Duration = Duration::from_millis(50);
/// Lines in that time, and bytes of them unless lines may be longer than that.
const LINES: usize = 1024;
const BYTES: usize = 256 << 10;
/// Bytes of a log in that time: it is not looked into.
const LOG_BYTES: usize = 8 << 20;
/// Bytes of a log that are kept, from its end.
const TAIL: usize = 8 << 10;
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Log lines kept per cell, and about how many bytes of them.
const MAX_LOG_LINES: usize = 200;
const MAX_LOG_BYTES: usize = 64 << 10;
/// Lines of the host's own beside them; a worker has a few.
const MAX_NOTES: usize = 20;
/// Findings of a check and skipped checks that are kept, and about how many bytes of them.
const MAX_FOUND: usize = 10_000;
const MAX_FOUND_BYTES: usize = 4 << 20;
/// Configurations of one method that are kept, and about how many bytes of them.
const MAX_PROPOSED: usize = 100_000;
const MAX_PROPOSED_BYTES: usize = 48 << 20;
/// Characters of a log line, an error or a field of a finding, and of a stage, that are kept.
const MAX_TEXT: usize = 4096;
const MAX_STAGE: usize = 400;

/// How many messages of at most so long a line a channel may hold; a child that says more waits.
pub(super) fn waiting(longest: usize) -> usize {
    WAITING.min(WAITING_BYTES / longest)
}

/// How fast a reader may go on.
struct Pace {
    since: Instant,
    lines: usize,
    bytes: usize,
    most_bytes: usize,
}

impl Pace {
    fn of(most_bytes: usize) -> Self {
        Pace { since: Instant::now(), lines: 0, bytes: 0, most_bytes }
    }

    /// Waits where so much more is too much for now.
    fn after(&mut self, lines: usize, bytes: usize) {
        self.lines += lines;
        self.bytes += bytes;
        if self.lines < LINES && self.bytes < self.most_bytes {
            return;
        }
        if let Some(rest) = PACE.checked_sub(self.since.elapsed()) {
            thread::sleep(rest);
        }
        *self = Pace::of(self.most_bytes);
    }
}

/// Reads JSON lines of at most `longest` bytes until the pipe ends or `hear` has heard enough;
/// answers how many lines were none of ours.
pub(super) fn read<M: DeserializeOwned>(
    mut pipe: impl Read,
    longest: usize,
    mut hear: impl FnMut(M) -> bool,
) -> u64 {
    let mut pace = Pace::of(BYTES.max(longest / 8));
    let mut chunk = vec![0; CHUNK];
    let mut line = Vec::new();
    let (mut garbage, mut too_long) = (0, false);
    loop {
        let read = match pipe.read(&mut chunk) {
            Ok(n @ 1..) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
        };
        pace.after(0, read);
        for part in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
            if too_long || line.len() + part.len() > longest {
                too_long = true;
                line = Vec::new();
            } else {
                line.extend_from_slice(part);
            }
            if !part.ends_with(b"\n") {
                continue;
            }
            let message = if too_long { None } else { serde_json::from_slice(&line).ok() };
            too_long = false;
            line.clear();
            pace.after(1, 0);
            let Some(message) = message else {
                garbage += 1;
                continue;
            };
            if !hear(message) {
                return garbage;
            }
        }
    }
    garbage + u64::from(too_long || !line.is_empty())
}

/// Reads to the end and keeps the tail, so that a chatty plugin neither blocks nor fills memory.
pub(super) fn tail(mut pipe: impl Read) -> String {
    let mut pace = Pace::of(LOG_BYTES);
    let mut chunk = vec![0; CHUNK];
    let mut kept = Vec::new();
    loop {
        let read = match pipe.read(&mut chunk) {
            Ok(n @ 1..) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
        };
        pace.after(0, read);
        kept.extend_from_slice(&chunk[read.saturating_sub(TAIL)..read]);
        if kept.len() > 4 * TAIL {
            kept.drain(..kept.len() - TAIL);
        }
    }
    kept.drain(..kept.len().saturating_sub(TAIL));
    let text = String::from_utf8_lossy(&kept);
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect::<String>()
        .trim()
        .to_owned()
}

/// `stage` as it is kept.
pub(super) fn stage(text: &str) -> String {
    plain(&capped(text, MAX_STAGE))
}

/// The error `text` as it is kept.
pub(super) fn error(text: &str) -> String {
    plain_lines(&capped(text, MAX_TEXT))
}

/// The first `most` characters of a text that came from a child.
fn capped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is kept of a child's log lines.
#[derive(Debug, Default)]
pub(super) struct Log {
    lines: Vec<String>,
    bytes: usize,
    /// Lines of the plugin that are not kept.
    dropped: u64,
    /// The host's own, which no plugin's lines crowd out.
    notes: Vec<String>,
}

impl Log {
    /// A line of the plugin.
    pub(super) fn line(&mut self, level: Level, text: &str) {
        if self.lines.len() >= MAX_LOG_LINES || self.bytes >= MAX_LOG_BYTES {
            self.dropped += 1;
            return;
        }
        let line = format!("{}: {}", name(level), error(text));
        self.bytes += line.len();
        self.lines.push(line);
    }

    /// A line of the host's own.
    pub(super) fn note(&mut self, text: &str) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(format!("{}: {}", name(Level::Warn), error(text)));
        }
    }

    /// What arrived on the host's own pipe and was not the host's.
    pub(super) fn garbage(&mut self, lines: u64) {
        match lines {
            0 => {}
            1 => self.note("a line on vq-host's own pipe was not vq-host's"),
            lines => self.note(&format!("{lines} lines on vq-host's own pipe were not vq-host's")),
        }
    }

    /// All of it, and what the child `printed`; `None` for nothing.
    pub(super) fn text(mut self, printed: &str) -> Option<String> {
        match self.dropped {
            0 => {}
            1 => self.lines.push("(1 more line is not kept)".to_owned()),
            dropped => self.lines.push(format!("({dropped} more lines are not kept)")),
        }
        self.lines.append(&mut self.notes);
        if !printed.is_empty() {
            self.lines.push(format!("printed:\n{printed}"));
        }
        (!self.lines.is_empty()).then(|| self.lines.join("\n"))
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warning",
    }
}

/// What a check has found, as far as it is kept.
#[derive(Debug, Default)]
pub(super) struct Found {
    findings: Vec<CheckFinding>,
    skipped: Vec<Skip>,
    bytes: usize,
}

impl Found {
    /// A broken rule.
    pub(super) fn finding(&mut self, of: CheckFinding) {
        let CheckFinding { rule, severity, function, input, found, contract } = of;
        let texts = [rule, severity, function, input, found, contract];
        if let Some(texts) = self.kept(self.findings.len(), texts) {
            let [rule, severity, function, input, found, contract] = texts;
            let of = CheckFinding { rule, severity, function, input, found, contract };
            self.findings.push(of);
        }
    }

    /// A check that could not be run.
    pub(super) fn skip(&mut self, of: Skip) {
        let texts = [of.rule, of.place, of.why];
        if let Some([rule, place, why]) = self.kept(self.skipped.len(), texts) {
            self.skipped.push(Skip { rule, place, why });
        }
    }

    fn kept<const N: usize>(&mut self, so_far: usize, texts: [String; N]) -> Option<[String; N]> {
        if so_far >= MAX_FOUND || self.bytes >= MAX_FOUND_BYTES {
            return None;
        }
        let texts = texts.map(|text| error(&text));
        self.bytes += texts.iter().map(String::len).sum::<usize>();
        Some(texts)
    }

    /// Findings, and what could not be checked.
    pub(super) fn into_parts(self) -> (Vec<CheckFinding>, Vec<Skip>) {
        (self.findings, self.skipped)
    }
}

/// What a check answered, as it is kept.
pub(super) fn checked(of: CheckedMethod) -> CheckedMethod {
    let mut kept = Found::default();
    of.findings.into_iter().for_each(|finding| kept.finding(finding));
    of.skipped.into_iter().for_each(|skip| kept.skip(skip));
    let (findings, skipped) = kept.into_parts();
    CheckedMethod {
        method: stage(&of.method),
        checks: of.checks,
        findings,
        skipped,
        log: None,
        made: of.made,
    }
}

/// The configurations that a method proposes, as far as they are kept.
#[derive(Debug, Default)]
pub(super) struct Proposed {
    answers: Vec<Vec<Proposal>>,
    count: usize,
    bytes: usize,
}

impl Proposed {
    /// Some that answer the request at position `request`.
    pub(super) fn take(&mut self, request: usize, proposals: Vec<Proposal>) {
        self.count = self.count.saturating_add(proposals.len()).max(request);
        self.bytes += proposals.iter().map(bytes_of).sum::<usize>();
        if self.too_many() {
            self.answers = Vec::new();
            return;
        }
        if self.answers.len() <= request {
            self.answers.resize_with(request + 1, Vec::new);
        }
        self.answers[request].extend(proposals);
    }

    fn too_many(&self) -> bool {
        self.count > MAX_PROPOSED || self.bytes > MAX_PROPOSED_BYTES
    }

    /// A list for each of `requests` requests.
    ///
    /// # Errors
    /// There are more than are kept, or some for a request that was none.
    pub(super) fn into_answers(mut self, requests: usize) -> Result<Vec<Vec<Proposal>>, String> {
        if self.too_many() {
            return Err(format!(
                "it proposes more than {MAX_PROPOSED} configurations, or more than {} of them",
                bytesize::ByteSize(MAX_PROPOSED_BYTES as u64)
            ));
        }
        if self.answers.len() > requests {
            return Err("it answered a request that was none".to_owned());
        }
        self.answers.resize_with(requests, Vec::new);
        Ok(self.answers)
    }
}

/// About how many bytes a proposal takes.
fn bytes_of(proposal: &Proposal) -> usize {
    /// A node of a map, with room for this many entries.
    const NODE: usize = 640;
    const ENTRIES: usize = 11;
    fn of(value: &Value) -> usize {
        let own = match value {
            Value::Str(text) => text.len(),
            Value::List(items) => items.iter().map(of).sum(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
        };
        size_of::<Value>() + own
    }
    let (config, text) = match proposal {
        Proposal::Emit { config, label, .. } => (config, label),
        Proposal::Skip { config, reason } => (config, reason),
    };
    let entries = config.iter().map(|(name, value)| name.len() + of(value)).sum::<usize>();
    size_of::<Proposal>() + text.len() + config.len().div_ceil(ENTRIES) * NODE + entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};
    use vq_plugin_api::params::Config;

    fn lines_of(text: &[u8], longest: usize) -> (Vec<u32>, u64) {
        let mut heard = Vec::new();
        let garbage = read(Cursor::new(text), longest, |number| {
            heard.push(number);
            true
        });
        (heard, garbage)
    }

    #[test]
    fn lines_arrive_in_order_and_what_is_none_is_counted() {
        assert_eq!(lines_of(b"1\n2\n{\n\n3\n", 10), (vec![1, 2, 3], 2));
        assert_eq!(lines_of(b"", 10), (vec![], 0));
        assert_eq!(lines_of(b"1\n23", 10), (vec![1], 1), "a line that was cut is none");
    }

    #[test]
    fn a_line_that_is_too_long_is_garbage_and_the_next_one_is_heard() {
        let mut text = b"1\n".to_vec();
        text.extend([b'2'; 9]);
        text.extend(b"\n3\n");
        text.extend([b'4'; 3 * CHUNK]);
        text.extend(b"\n5\n");
        text.extend([b'6'; 2 * CHUNK]);
        assert_eq!(lines_of(&text, 9), (vec![1, 3, 5], 3));
        assert_eq!(lines_of(b"12345678\n", 9), (vec![12_345_678], 0));
    }

    #[test]
    fn a_reader_that_has_heard_enough_lets_go_of_the_pipe() {
        let (ear, mut mouth) = std::io::pipe().unwrap();
        let reader = thread::spawn(move || read(ear, OF_WORK, |number: u32| number < 2));
        let flood = b"1\n2\n".repeat(CHUNK);
        assert!(mouth.write_all(&flood).is_err(), "the pipe has no reader any more");
        assert_eq!(reader.join().unwrap(), 0);
    }

    #[test]
    fn of_a_log_without_end_the_end_is_kept() {
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                let n = self.0.min(into.len());
                into[..n].fill(b'x');
                self.0 -= n;
                Ok(n)
            }
        }
        let pipe = Endless(20 << 20).chain(Cursor::new("\u{1b}[31mthe end\n"));
        let text = tail(pipe);
        assert!(text.len() <= TAIL && text.ends_with("x[31mthe end"), "{}", text.len());
        assert_eq!(tail(Cursor::new("a\tb\n")), "a\tb");
    }

    #[test]
    fn texts_are_cut_and_draw_nothing() {
        let stage = stage(&"fit\u{1b}[2J\n".repeat(MAX_STAGE));
        assert!(!stage.contains(char::is_control) && stage.len() < 10 * MAX_STAGE);
        assert!(error(&"é".repeat(MAX_TEXT + 1)).ends_with("é…"));
        assert_eq!(error("one\ntwo"), "one\ntwo");
    }

    #[test]
    fn a_plugin_that_logs_much_does_not_crowd_out_what_the_host_says_of_it() {
        let mut log = Log::default();
        for i in 0..MAX_LOG_LINES + 3 {
            log.line(Level::Info, &format!("line {i}"));
        }
        log.note("it changed something");
        log.garbage(2);
        let text = log.text("hello").unwrap();
        let end = "\n(3 more lines are not kept)\nwarning: it changed something\n\
                   warning: 2 lines on vq-host's own pipe were not vq-host's\nprinted:\nhello";
        assert!(text.starts_with("info: line 0\n") && text.ends_with(end), "{text}");
        assert_eq!(Log::default().text(""), None);
    }

    #[test]
    fn of_findings_without_end_some_are_kept() {
        let skip = |why: &str| Skip { rule: "r".into(), place: String::new(), why: why.into() };
        let mut found = Found::default();
        (0..MAX_FOUND + 5).for_each(|_| found.skip(skip("")));
        assert_eq!(found.into_parts().1.len(), MAX_FOUND);
        let mut found = Found::default();
        (0..MAX_FOUND).for_each(|_| found.skip(skip(&"w".repeat(2 * MAX_TEXT))));
        let (_, skipped) = found.into_parts();
        assert!(skipped.len() <= MAX_FOUND_BYTES / MAX_TEXT + 1);
        assert_eq!(skipped[0].why.chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn of_configurations_without_end_none_are_kept_and_that_is_said() {
        let proposal = |text: &str| Proposal::Skip {
            config: Config::from([("a".to_owned(), Value::Str(text.to_owned()))]),
            reason: String::new(),
        };
        let mut few = Proposed::default();
        few.take(1, vec![proposal("x"); 3]);
        few.take(1, vec![proposal("y")]);
        let answers = few.into_answers(3).unwrap();
        assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [0, 4, 0]);

        let mut many = Proposed::default();
        (0..MAX_PROPOSED / 1000 + 5).for_each(|_| many.take(0, vec![proposal(""); 1000]));
        assert!(many.answers.is_empty());
        assert!(many.into_answers(1).unwrap_err().contains("more than 100000 configurations"));
        let mut long = Proposed::default();
        (0..60).for_each(|_| long.take(0, vec![proposal(&"x".repeat(1 << 20))]));
        assert!(long.into_answers(1).is_err());
        for request in [1, usize::MAX] {
            let mut strange = Proposed::default();
            strange.take(request, Vec::new());
            assert!(strange.into_answers(1).is_err(), "{request}");
        }
    }

    #[test]
    fn what_waits_to_be_heard_is_bounded_in_bytes() {
        for longest in [OF_WORK, OF_ANSWER, OF_GRIDS] {
            assert!(waiting(longest) * longest <= WAITING_BYTES);
        }
        assert_eq!(waiting(OF_WORK), WAITING);
    }
}
