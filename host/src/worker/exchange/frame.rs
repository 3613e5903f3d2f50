//! Requests and replies: a length and JSON, over a stream socket, and seen at a glance where a side is awake.

use super::area::AreaError;
use super::glance::Glance;
use crate::record::Outcome;
use nix::libc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes of a frame. What needs more goes through an area.
const MOST: usize = 32 << 10;

/// How long who waits stays awake while calls are timed: to be woken takes some hundredths of it at most.
const AWAKE: Duration = Duration::from_millis(10);

/// What an engine is asked to do. What a call reads lies in the area `lent`, what it puts out goes
/// to `filled`, see [`super::slots`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Nothing but to wake the threads of a call, where there are several: the time of the way.
    Nothing,
    /// Open the library and construct the method.
    Open,
    /// Keep the lent rows, `first` on, of `of` training rows altogether.
    Train {
        /// The first of them.
        first: usize,
        /// How many there are.
        rows: usize,
        /// How many there will be.
        of: usize,
    },
    /// Learn from the training rows, and forget them.
    Fit,
    /// Save the model; it is handed out by [`Request::Model`].
    Save,
    /// Put out `bytes` bytes of the model that was saved, from `from` on.
    Model {
        /// The first byte.
        from: usize,
        /// How many.
        bytes: usize,
    },
    /// Keep the lent bytes, `first` on, of a model of `of` bytes; load it when it is whole.
    Load {
        /// The first byte.
        first: usize,
        /// How many.
        bytes: usize,
        /// How many there will be.
        of: usize,
    },
    /// Encode the lent rows.
    Compress {
        /// How many.
        rows: usize,
    },
    /// Decode the lent codes.
    Decompress {
        /// How many.
        rows: usize,
    },
    /// Bring the lent codes into the scorer's layout and keep that.
    Pack {
        /// How many.
        codes: usize,
        /// What the packed bytes hold before.
        fill: u8,
    },
    /// Estimate between the lent queries and the packed codes.
    Score {
        /// How many.
        queries: usize,
        /// Also claimed half-widths, which lie before the estimates.
        bounds: bool,
    },
    /// Bring the lent codes into the search's layout and keep that.
    PackForSearch {
        /// How many.
        codes: usize,
        /// What the packed bytes hold before.
        fill: u8,
    },
    /// Find the nearest of the packed codes to the lent queries: rows of the block (u64), then
    /// estimates (f32).
    Search {
        /// How many queries.
        queries: usize,
        /// How many codes for each.
        k: usize,
    },
    /// From now on, lend one thread to calls, which are timed; or again as many as there are.
    Alone(bool),
    /// From now on calls are timed: hand a method in Python all rows of a call at once; or again not too many.
    Whole(bool),
    /// Give the instance up.
    Destroy,
}

/// An engine's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// To [`Request::Open`].
    Opened(Opened),
    /// To [`Request::Fit`] and the last [`Request::Load`].
    Fitted {
        /// Stored bytes per vector.
        code_bytes: usize,
        /// Bytes that decoding needs beside the codes, where the method states them.
        model_bytes: Option<u64>,
        /// The bits of the method's claim, where it makes one: it may be no number.
        ratio: Option<u64>,
    },
    /// To [`Request::Save`]: the bytes of the model, where the method saves it.
    Saved(Option<usize>),
    /// The call did not do what was asked.
    Failed {
        /// `failed`, `panicked`, `cancelled` or `invalid`.
        outcome: Outcome,
        /// One line.
        error: String,
    },
    /// The engine's own part failed: there is no memory left, say.
    Broken(String),
    /// A call wrote where it may only read, or read what is not there; the process ends.
    Trespassed(String),
}

/// What is known of a method once it is constructed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Stored bytes per vector, 0 where that is not known before training.
    pub(crate) code_bytes: usize,
    /// Fit learns from the data.
    pub(crate) needs_training: bool,
    /// Equal seed and data give equal codes.
    pub(crate) deterministic: bool,
    /// It has a scorer.
    pub(crate) scorer: bool,
    /// The scorer claims bounds.
    pub(crate) bounds: bool,
    /// It has a search, and whether that claims to rank the scorer's estimates.
    pub(crate) search: Option<bool>,
    /// A process that works for it.
    pub(crate) helper: Option<u32>,
}

/// Why no frame came or went.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The other process is gone.
    #[error("the other process is gone")]
    Gone,
    /// What came is no answer to what was asked.
    #[error("{0}")]
    Garbled(String),
}

/// A frame with its number.
#[derive(Serialize, Deserialize)]
struct Numbered<T> {
    number: u64,
    of: T,
}

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Frames {
    socket: UnixStream,
    /// Where this side shows its last frame, and where it sees the other's.
    shown: Glance,
    seen: Glance,
    number: u64,
    text: Vec<u8>,
    /// A frame that was seen and is still to come through the socket; empty if there is none.
    owed: Vec<u8>,
    /// Requests are timed.
    timed: bool,
    /// How long this side may wait awake while requests are timed, where it may.
    awake: Option<Duration>,
}

impl Frames {
    /// The engine's end, with the areas that it reads and writes.
    pub(crate) fn new(
        socket: OwnedFd,
        lent: impl AsFd,
        filled: impl AsFd,
    ) -> Result<Self, AreaError> {
        // Where nothing is timed the referee judges a whole block meanwhile, for which a processor would wait
        // in vain; where something is, it needs none of the engine's.
        Ok(Frames::between(socket, Glance::map(filled, true)?, Glance::map(lent, false)?, true))
    }

    /// The referee's end: it may wait awake where a processor is left to it beside the `threads` of the engine.
    pub(crate) fn beside(
        socket: OwnedFd,
        lent: impl AsFd,
        filled: impl AsFd,
        threads: usize,
    ) -> Result<Self, AreaError> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let (shown, seen) = (Glance::map(lent, true)?, Glance::map(filled, false)?);
        Ok(Frames::between(socket, shown, seen, threads < processors))
    }

    fn between(socket: OwnedFd, shown: Glance, seen: Glance, awake: bool) -> Self {
        let (socket, text, owed) = (socket.into(), Vec::new(), Vec::new());
        let awake = awake.then_some(AWAKE);
        Frames { socket, shown, seen, number: 0, text, owed, timed: false, awake }
    }

    /// Writes a frame with the last number, to be sent.
    fn write<T: Serialize>(&mut self, of: T) -> Result<(), WireError> {
        self.text.clear();
        self.text.extend_from_slice(&[0; 4]);
        let frame = Numbered { number: self.number, of };
        serde_json::to_writer(&mut self.text, &frame).map_err(garbled)?;
        let length = self.text.len() - 4;
        if length > MOST {
            return Err(WireError::Garbled(format!("a message of {length} bytes")));
        }
        self.text[..4].copy_from_slice(&(length as u32).to_le_bytes());
        Ok(())
    }

    fn send(&mut self) -> Result<(), WireError> {
        self.shown.show(self.number, &self.text[4..]);
        // One write: who forges frames from another thread does not get into the middle.
        self.socket.write_all(&self.text).map_err(|_| WireError::Gone)
    }

    /// The next frame, which may have that number.
    fn receive<T: DeserializeOwned>(&mut self, number: u64) -> Result<Numbered<T>, WireError> {
        let awake = self.awake.filter(|_| self.timed);
        if awake.is_some_and(|awake| self.seen.see(number, awake, &mut self.text)) {
            std::mem::swap(&mut self.text, &mut self.owed);
            return serde_json::from_slice(&self.owed).map_err(garbled);
        }
        self.read()?;
        serde_json::from_slice(&self.text).map_err(garbled)
    }

    /// Reads the text of a frame from the socket.
    fn read(&mut self) -> Result<(), WireError> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).map_err(|_| WireError::Gone)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MOST {
            return Err(WireError::Garbled(format!("a message of {length} bytes")));
        }
        self.text.resize(length, 0);
        self.socket.read_exact(&mut self.text).map_err(|_| WireError::Gone)
    }

    /// Takes the frame that was seen from the socket, where it has yet to come.
    fn settle(&mut self) -> Result<(), WireError> {
        if self.owed.is_empty() {
            return Ok(());
        }
        self.read()?;
        let same = self.text == self.owed;
        self.owed.clear();
        if same { Ok(()) } else { Err(two_answers()) }
    }

    /// Sends a request and waits for its answer, and says how long after it that was there.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<(Reply, Duration), WireError> {
        self.nothing_more()?;
        self.number += 1;
        self.heed_timing(request);
        self.write(request)?;
        let begun = Instant::now();
        self.send()?;
        let reply: Numbered<Reply> = self.receive(self.number)?;
        let took = begun.elapsed();
        if reply.number != self.number {
            return Err(WireError::Garbled("an answer to another request".to_owned()));
        }
        Ok((reply.of, took))
    }

    /// That nothing but the last answer has come. Asked before the next request: what is timed is looked at
    /// first, so that who shows an answer and sends it later has no more time.
    fn nothing_more(&mut self) -> Result<(), WireError> {
        self.settle()?;
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let place = (&raw mut byte).cast();
        // SAFETY: a byte at most is written to `byte`, which lives until the call is over.
        match unsafe { libc::recv(self.socket.as_raw_fd(), place, 1, flags) } {
            // It has left: the next request shows that.
            0 => Ok(()),
            1.. => Err(two_answers()),
            _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Ok(()),
            _ => Err(WireError::Gone),
        }
    }

    fn heed_timing(&mut self, request: &Request) {
        if let Request::Whole(timed) | Request::Alone(timed) = request {
            self.timed = *timed;
        }
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> Result<Request, WireError> {
        self.settle()?;
        let request: Numbered<Request> = self.receive(self.number + 1)?;
        self.heed_timing(&request.of);
        self.number = request.number;
        Ok(request.of)
    }

    /// Answers the last request.
    pub(crate) fn reply(&mut self, reply: &Reply) -> Result<(), WireError> {
        self.write(reply)?;
        self.send()
    }

    /// The number of the last request, and the descriptor of this end: what [`trespassed`] needs.
    pub(crate) fn place(&self) -> (u64, i32) {
        (self.number, self.socket.as_raw_fd())
    }
}

/// Writes [`Reply::Trespassed`] to request `number` into `frame`, without allocating: a process whose
/// call has just met a page it may not touch says so in a signal handler. Answers the bytes written.
pub(crate) fn trespassed(number: u64, what: [&str; 3], frame: &mut [u8; 256]) -> usize {
    let (length, text) = frame.split_at_mut(4);
    let mut left = &mut text[..];
    // What does not fit is no whole frame, and an end without an answer is a crash.
    let [function, did, argument] = what;
    let written = write!(
        left,
        "{{\"number\":{number},\"of\":{{\"Trespassed\":\"{function} {did} {argument}\"}}}}"
    );
    let bytes = 252 - left.len();
    length.copy_from_slice(&(bytes as u32).to_le_bytes());
    if written.is_ok() { 4 + bytes } else { 0 }
}

fn two_answers() -> WireError {
    WireError::Garbled("two answers to one request".to_owned())
}

fn garbled(error: serde_json::Error) -> WireError {
    // Not the text itself: it may be anything.
    let what = if error.is_io() { "a message that cannot be sent" } else { "no answer" };
    WireError::Garbled(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::area::{Area, FILLED, LENT};
    use super::*;
    use std::thread;

    fn ends() -> (Frames, Frames) {
        let (a, b) = UnixStream::pair().unwrap();
        let (lent, filled) = (Area::file(LENT).unwrap(), Area::file(FILLED).unwrap());
        let referee = Frames::beside(a.into(), &lent, &filled, 0).unwrap();
        (referee, Frames::new(b.into(), &lent, &filled).unwrap())
    }

    /// Asks `requests` of an engine that answers each by `answer`; what came of them.
    fn ask(
        requests: &[Request],
        answer: impl FnMut(&mut Frames, Request) + Send,
    ) -> Vec<Result<Reply, WireError>> {
        ask_awake(AWAKE, requests, answer)
    }

    /// The same, where the referee waits so long awake.
    fn ask_awake(
        awake: Duration,
        requests: &[Request],
        mut answer: impl FnMut(&mut Frames, Request) + Send,
    ) -> Vec<Result<Reply, WireError>> {
        let (mut referee, mut engine) = ends();
        referee.awake = Some(awake);
        thread::scope(|scope| {
            scope.spawn(move || {
                while let Ok(request) = engine.request() {
                    answer(&mut engine, request);
                }
            });
            let mut ask = |request| Ok(referee.ask(request)?.0);
            let answers = requests.iter().map(&mut ask).collect();
            drop(referee);
            answers
        })
    }

    #[test]
    fn each_request_comes_once_and_is_answered() {
        let timed = [Request::Whole(true), Request::Alone(true)];
        let not = [Request::Whole(false), Request::Alone(false)];
        let mut requests = Vec::new();
        for (on, off) in timed.into_iter().zip(not) {
            let calls = (0..40).map(|rows| Request::Compress { rows });
            requests.extend([on].into_iter().chain(calls.clone()).chain([off]).chain(calls));
        }
        let mut came = Vec::new();
        let answers = ask(&requests, |engine, request| {
            came.push((request, engine.timed));
            // So that an answer is waited for awake, and asleep.
            if came.len().is_multiple_of(20) {
                thread::sleep(2 * AWAKE);
            }
            engine.reply(&Reply::Done).unwrap();
        });
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Reply::Done))), "{answers:?}");
        let (came, timed): (Vec<_>, Vec<_>) = came.into_iter().unzip();
        assert_eq!(came, requests);
        assert_eq!(timed, [[true; 41], [false; 41]].concat().repeat(2));
    }

    #[test]
    fn two_answers_and_answers_to_other_requests_are_seen() {
        // A second answer may come when the next request is asked already. What is read from the socket then
        // shows it; who looked at the next answer first sees it before the request after that.
        let read = [Request::Nothing, Request::Nothing];
        let seen = [Request::Whole(true), Request::Nothing, Request::Nothing];
        for (requests, pause) in [(&read[..], 0), (&read, 2), (&seen, 0), (&seen, 2)] {
            let answers = ask(requests, |engine, _| {
                // Nobody may hear it: a second answer ends the asking before this one is read.
                let _ = engine.reply(&Reply::Done);
                thread::sleep(Duration::from_millis(pause));
                let _ = engine.reply(&Reply::Done);
            });
            let garbled = |a: &Result<_, _>| matches!(a, Err(WireError::Garbled(_)));
            assert!(answers.iter().any(garbled), "{pause} ms: {answers:?}");
        }
        let answers = ask(&read[..1], |engine, _| {
            engine.number += 1;
            engine.reply(&Reply::Done).unwrap();
        });
        assert!(matches!(answers[..], [Err(WireError::Garbled(_))]), "{answers:?}");
    }

    #[test]
    fn an_answer_that_is_shown_must_be_the_one_that_is_sent() {
        let requests = [Request::Whole(true), Request::Nothing, Request::Nothing];
        // Longer than anybody is kept from a processor: what is shown is seen before what is sent.
        let answers = ask_awake(Duration::from_secs(60), &requests, |engine, request| {
            if request == Request::Nothing {
                engine.write(Reply::Done).unwrap();
                engine.shown.show(engine.number, &engine.text[4..]);
                let _ = engine.write(Reply::Saved(None)).and_then(|()| {
                    engine.socket.write_all(&engine.text).map_err(|_| WireError::Gone)
                });
            } else {
                engine.reply(&Reply::Done).unwrap();
            }
        });
        let expected = [true, true, false];
        assert!(answers.iter().zip(expected).all(|(a, ok)| a.is_ok() == ok), "{answers:?}");
        assert!(matches!(answers[2], Err(WireError::Garbled(_))), "{answers:?}");
    }

    #[test]
    fn long_and_broken_frames_are_refused_and_an_end_is_an_end() {
        for bytes in [&u32::MAX.to_le_bytes()[..], &[2, 0, 0, 0, b'{', b'}'], &[1, 0, 0, 0, 255]] {
            let (mut referee, engine) = ends();
            (&engine.socket).write_all(bytes).unwrap();
            // It lies there before anything is asked for; then it is the answer.
            assert!(matches!(referee.ask(&Request::Nothing), Err(WireError::Garbled(_))));
            assert!(matches!(referee.receive::<Reply>(1), Err(WireError::Garbled(_))));
            drop(engine);
            let gone = referee.ask(&Request::Nothing);
            assert!(matches!(gone, Err(WireError::Gone)), "{gone:?}");
        }
    }

    #[test]
    fn a_trespass_is_told_as_any_other_answer() {
        let answers = ask(&[Request::Fit], |engine, _| {
            let (number, _) = engine.place();
            let mut frame = [0; 256];
            let bytes = trespassed(number, ["fit", "wrote into", "train"], &mut frame);
            (&engine.socket).write_all(&frame[..bytes]).unwrap();
        });
        let expected = Reply::Trespassed("fit wrote into train".into());
        assert!(matches!(&answers[..], [Ok(reply)] if *reply == expected), "{answers:?}");
    }
}
