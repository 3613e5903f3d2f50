//! Files whose format a library parses, read by a confined child: it cannot crash, hang or fill the
//! host, and has no library of a method in it.

use super::fault::HostFault;
use super::protocol::{Answer, Job, Reading};
use super::reporter::{Failure, Reporter};
use super::supervise::{ENDING, Ended, Limits, run_lending};
use crate::data::{Shape, look, send, send_lists};
use crate::record::Outcome;
use std::any::Any;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Memory of a child. What a whole file needs no parser needs.
const MEMORY: u64 = 2 << 30;
/// It writes no file.
const SCRATCH: u64 = 1 << 20;
/// What a child may take to look at a file, or to send as many rows as are asked for at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// Beside that, files without a header are read to their end: one second for so many bytes.
const LOOKED_AT_PER_S: u64 = 8 << 20;
/// Files that one child looks at: what it answers has to fit a line.
const AT_ONCE: usize = 256;
/// Where a child stands before it says so.
const START: &str = "start";
/// How often a child that has sent all is looked at, until it ends.
const LOOK: Duration = Duration::from_millis(1);
/// A job that is watched while its rows are taken has no time limit of its own.
const WHILE_TAKEN: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Why a file gave no rows.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The file is at fault: its number among those asked for, and how.
    File(usize, String),
    /// The host is.
    Host(HostFault),
    /// The user wants no more of it.
    Interrupted,
}

fn limits(timeout: Duration) -> Limits {
    let (memory, scratch) = (Some(MEMORY), SCRATCH);
    Limits { timeout, own_time: None, memory, threads: 1, scratch, sandbox: true }
}

/// What a child may take to look at so many bytes.
fn looked_at_in(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / LOOKED_AT_PER_S)
}

/// What is in each of the files of `reading`, which are `bytes` together.
pub(crate) fn look_at(reading: &Reading, bytes: u64) -> Result<Vec<Shape>, ReadError> {
    let timeout = looked_at_in(bytes);
    let mut shapes = Vec::with_capacity(reading.files.len());
    for some in reading.files.chunks(AT_ONCE) {
        let first = shapes.len();
        let files = some.to_vec();
        let job = Job::Read(Reading { files, rows: None, ..reading.clone() });
        let mut stage = START.to_owned();
        let mut heard = |now: &str, _: f32| now.clone_into(&mut stage);
        let ended =
            run_lending(&some[0], None, job, Vec::new(), &limits(timeout), &ENDING, &mut heard);
        match ended.map_err(ReadError::Host)?.answer {
            Answer::Looked(found) if found.len() <= some.len() => {
                for (i, shape) in found.into_iter().enumerate() {
                    shapes.push(shape.map_err(|how| ReadError::File(first + i, how))?);
                }
                if shapes.len() < first + some.len() {
                    let how = "it was not looked at".to_owned();
                    return Err(ReadError::File(shapes.len(), how));
                }
            }
            Answer::Failed { outcome: Outcome::Cancelled, .. } => {
                return Err(ReadError::Interrupted);
            }
            answer => {
                let at = stage.parse::<usize>().unwrap_or(0).min(some.len() - 1);
                return Err(ReadError::File(first + at, how(answer, &stage)));
            }
        }
    }
    Ok(shapes)
}

/// How a child failed with a file, which it was at as it said `stage`.
fn how(answer: Answer, stage: &str) -> String {
    match answer {
        Answer::Failed { outcome: Outcome::Failed, error } => error,
        Answer::Failed { error, .. } => {
            let error = error.replacen(&format!(" at {stage}"), "", 1);
            format!("the process that reads it {error}")
        }
        _ => "the process that reads it answered another question".to_owned(),
    }
}

/// A child that sends the rows of a file.
#[derive(Debug)]
pub(crate) struct Sending {
    socket: UnixStream,
    /// What the next byte may take.
    patience: Duration,
    child: Option<thread::JoinHandle<Result<Ended, HostFault>>>,
    stop: Arc<AtomicBool>,
}

impl Sending {
    /// Starts one for the first rows of `file`, which has so many bytes.
    pub(crate) fn start(file: PathBuf, reading: Reading, bytes: u64) -> Result<Self, ReadError> {
        let begin =
            |error: std::io::Error| ReadError::Host(HostFault::Begin { reason: error.to_string() });
        let (ours, theirs) = UnixStream::pair().map_err(begin)?;
        // Files without a header are read to their end before a row comes.
        let patience = looked_at_in(bytes);
        ours.set_read_timeout(Some(patience)).map_err(begin)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let job = Job::Read(Reading { files: vec![file.clone()], ..reading });
        // The thread that starts a child has to stay for as long as the child lives.
        let watch = move || {
            let lent = vec![OwnedFd::from(theirs)];
            run_lending(&file, None, job, lent, &limits(WHILE_TAKEN), &stopped, &mut |_, _| ())
        };
        let child = thread::Builder::new().spawn(watch).map_err(begin)?;
        Ok(Self { socket: ours, patience, child: Some(child), stop })
    }

    /// Fills `bytes` with what comes next.
    pub(crate) fn take(&mut self, mut bytes: &mut [u8]) -> Result<(), ReadError> {
        let mut until = Instant::now() + self.patience;
        while !bytes.is_empty() {
            match self.socket.read(bytes) {
                Ok(0) => return Err(self.why()),
                Ok(read) => {
                    bytes = &mut bytes[read..];
                    if self.patience > PATIENCE {
                        self.patience = PATIENCE;
                        until = Instant::now() + PATIENCE;
                        if self.socket.set_read_timeout(Some(PATIENCE)).is_err() {
                            return Err(self.late());
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(self.late()),
            }
            if Instant::now() > until && !bytes.is_empty() {
                return Err(self.late());
            }
        }
        Ok(())
    }

    /// To be asked when all rows are taken: whether the file was whole.
    pub(crate) fn finish(mut self) -> Result<(), ReadError> {
        loop {
            match self.socket.read(&mut [0]) {
                Ok(0) => break,
                Ok(_) => {
                    self.end();
                    let how = "has more than it announced: it changed, or is damaged".to_owned();
                    return Err(ReadError::File(0, how));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(self.late()),
            }
        }
        match self.ended() {
            Ok(Answer::Sent) => Ok(()),
            Ok(answer) => Err(ReadError::File(0, how(answer, START))),
            Err(fault) => Err(fault),
        }
    }

    fn late(&mut self) -> ReadError {
        self.end();
        let limit = humantime::format_duration(self.patience);
        ReadError::File(0, format!("the process that reads it sent nothing for {limit}"))
    }

    /// Why no more comes.
    fn why(&mut self) -> ReadError {
        match self.ended() {
            Ok(Answer::Sent) => ReadError::File(0, "has fewer rows than it announces".to_owned()),
            Ok(answer) => ReadError::File(0, how(answer, START)),
            Err(fault) => fault,
        }
    }

    fn ended(&mut self) -> Result<Answer, ReadError> {
        // It has closed its end, and may still not end.
        let until = Instant::now() + PATIENCE;
        while self.child.as_ref().is_some_and(|child| !child.is_finished()) {
            if Instant::now() > until {
                self.end();
                let limit = humantime::format_duration(PATIENCE);
                let how = format!("the process that reads it did not end for {limit}");
                return Err(ReadError::File(0, how));
            }
            thread::sleep(LOOK);
        }
        let gone = || HostFault::Begin { reason: "nobody watched it".to_owned() };
        let ended = self.child.take().and_then(|child| child.join().ok());
        ended.ok_or_else(gone).flatten().map(|ended| ended.answer).map_err(ReadError::Host)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // One that waits to be read from ends with it.
        let _closed = self.socket.shutdown(Shutdown::Both);
        drop(self.child.take().map(thread::JoinHandle::join));
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.end();
    }
}

/// The child's side.
pub(super) fn read(
    reading: &Reading,
    lent: Vec<OwnedFd>,
    reporter: &Reporter,
) -> Result<Answer, Failure> {
    let Reading { files, extension, table, lists, rows } = reading;
    let table = table.as_deref();
    let Some(rows) = *rows else {
        let mut found = Vec::with_capacity(files.len());
        for (i, file) in files.iter().enumerate() {
            reporter.progress(&i.to_string(), 0.0);
            let shape = guarded(|| look(file, extension, table, *lists));
            let failed = shape.is_err();
            found.push(shape);
            if failed {
                break;
            }
        }
        return Ok(Answer::Looked(found));
    };
    let pipe = lent.into_iter().next().ok_or_else(|| Failure::failed("it was lent no pipe"))?;
    let file = files.first().ok_or_else(|| Failure::failed("no file was named"))?;
    let mut pipe = File::from(pipe);
    let send = if *lists { send_lists } else { send };
    guarded(|| send(file, extension, table, rows, &mut pipe)).map_err(Failure::failed)?;
    Ok(Answer::Sent)
}

/// A parser that panics says that its file is not what it knows.
fn guarded<T>(parse: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(parse)).unwrap_or_else(|panic| {
        let words = words(&*panic);
        Err(format!("is damaged, and its parser gave up: {words}"))
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn more_than_was_announced_is_an_error() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut sending = Sending {
            socket: ours,
            patience: PATIENCE + PATIENCE,
            child: None,
            stop: Arc::clone(&stop),
        };
        theirs.write_all(b"12345").unwrap();
        sending.take(&mut [0; 4]).unwrap();
        assert_eq!(sending.patience, PATIENCE, "only the first byte may take longer");
        let ReadError::File(0, how) = sending.finish().unwrap_err() else { panic!("the host's") };
        assert_eq!(how, "has more than it announced: it changed, or is damaged");
        assert!(stop.load(Ordering::SeqCst), "the child is ended");
    }
}
