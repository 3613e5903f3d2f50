//! Requests and replies: a length and JSON, over a stream socket.

use crate::record::Outcome;
use nix::libc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes of a frame. What needs more goes through an area.
const MOST: usize = 32 << 10;

/// How long who waits stays awake while calls are timed: to be woken takes less than some hundredths of it.
const AWAKE: Duration = Duration::from_millis(1);

/// What an engine is asked to do. What a call reads lies in the area `lent`, what it puts out goes
/// to `filled`, see [`super::slots`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Nothing: the time of the way.
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
    number: u64,
    text: Vec<u8>,
    /// Requests are timed.
    timed: bool,
    /// A processor is left for the referee while an engine works.
    spare: bool,
}

impl Frames {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Frames { socket: socket.into(), number: 0, text: Vec::new(), timed: false, spare: false }
    }

    /// The referee's end: it may wait awake where a processor is left to it beside the `threads` of the engine.
    pub(crate) fn beside(socket: OwnedFd, threads: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Frames { spare: threads < processors, ..Frames::new(socket) }
    }

    fn send<T: Serialize>(&mut self, of: T) -> Result<(), WireError> {
        self.text.clear();
        self.text.extend_from_slice(&[0; 4]);
        let frame = Numbered { number: self.number, of };
        serde_json::to_writer(&mut self.text, &frame).map_err(garbled)?;
        let length = self.text.len() - 4;
        if length > MOST {
            return Err(WireError::Garbled(format!("a message of {length} bytes")));
        }
        self.text[..4].copy_from_slice(&(length as u32).to_le_bytes());
        // One write: who forges frames from another thread does not get into the middle.
        self.socket.write_all(&self.text).map_err(|_| WireError::Gone)
    }

    fn receive<T: DeserializeOwned>(&mut self) -> Result<Numbered<T>, WireError> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).map_err(|_| WireError::Gone)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MOST {
            return Err(WireError::Garbled(format!("a message of {length} bytes")));
        }
        self.text.resize(length, 0);
        self.socket.read_exact(&mut self.text).map_err(|_| WireError::Gone)?;
        serde_json::from_slice(&self.text).map_err(garbled)
    }

    /// Sends a request; its answer is to be awaited.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<(), WireError> {
        self.number += 1;
        self.heed_timing(request);
        self.send(request)
    }

    /// The answer to the last request.
    pub(crate) fn answer(&mut self) -> Result<Reply, WireError> {
        if self.timed && self.spare {
            self.look_out();
        }
        let reply: Numbered<Reply> = self.receive()?;
        if reply.number != self.number {
            return Err(WireError::Garbled("an answer to another request".to_owned()));
        }
        Ok(reply.of)
    }

    /// That nothing else has come.
    pub(crate) fn nothing_more(&mut self) -> Result<(), WireError> {
        let gone = |_| WireError::Gone;
        self.socket.set_nonblocking(true).map_err(gone)?;
        let read = self.socket.read(&mut [0]);
        self.socket.set_nonblocking(false).map_err(gone)?;
        match read {
            // It has left: the next request shows that.
            Ok(0) => Ok(()),
            Ok(_) => Err(WireError::Garbled("two answers to one request".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(WireError::Gone),
        }
    }

    fn heed_timing(&mut self, request: &Request) {
        if let Request::Whole(timed) | Request::Alone(timed) = request {
            self.timed = *timed;
        }
    }

    /// Waits for something to read without sleeping, for a moment: the referee's clock runs from its
    /// request to the answer, and to wake a processor takes as long as a short call.
    fn look_out(&self) {
        let until = Instant::now() + AWAKE;
        let mut byte = 0u8;
        while Instant::now() < until {
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            let place = (&raw mut byte).cast();
            // SAFETY: a byte at most is written to `byte`, which lives until the call is over.
            let seen = unsafe { libc::recv(self.socket.as_raw_fd(), place, 1, flags) };
            if seen >= 0 {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> Result<Request, WireError> {
        // Otherwise the referee judges a whole block meanwhile, for which a processor would wait in vain.
        if self.timed {
            self.look_out();
        }
        let request: Numbered<Request> = self.receive()?;
        self.heed_timing(&request.of);
        self.number = request.number;
        Ok(request.of)
    }

    /// Answers the last request.
    pub(crate) fn reply(&mut self, reply: &Reply) -> Result<(), WireError> {
        self.send(reply)
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

fn garbled(error: serde_json::Error) -> WireError {
    // Not the text itself: it may be anything.
    let what = if error.is_io() { "a message that cannot be sent" } else { "no answer" };
    WireError::Garbled(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Frames, Frames) {
        let (a, b) = UnixStream::pair().unwrap();
        (Frames::new(a.into()), Frames::new(b.into()))
    }

    #[test]
    fn a_request_comes_back_answered() {
        let (mut referee, mut engine) = pair();
        for rows in 0..3 {
            referee.ask(&Request::Compress { rows }).unwrap();
            assert_eq!(engine.request().unwrap(), Request::Compress { rows });
            engine.reply(&Reply::Done).unwrap();
            assert_eq!(referee.answer().unwrap(), Reply::Done);
            referee.nothing_more().unwrap();
        }
    }

    #[test]
    fn an_engine_is_awake_between_the_requests_that_are_timed() {
        let (mut referee, mut engine) = pair();
        let on_and_off = [Request::Whole(true), Request::Alone(true)]
            .into_iter()
            .zip([Request::Whole(false), Request::Alone(false)]);
        for (on, off) in on_and_off {
            for (request, timed) in [(on, true), (Request::Nothing, true), (off, false)] {
                referee.ask(&request).unwrap();
                engine.request().unwrap();
                assert_eq!((engine.timed, referee.timed), (timed, timed), "{request:?}");
            }
        }
    }

    #[test]
    fn two_answers_and_answers_to_other_requests_are_seen() {
        let (mut referee, mut engine) = pair();
        referee.ask(&Request::Nothing).unwrap();
        engine.request().unwrap();
        engine.reply(&Reply::Done).unwrap();
        engine.reply(&Reply::Done).unwrap();
        referee.answer().unwrap();
        assert!(matches!(referee.nothing_more(), Err(WireError::Garbled(_))));

        let (mut referee, mut engine) = pair();
        engine.reply(&Reply::Done).unwrap();
        referee.ask(&Request::Nothing).unwrap();
        assert!(matches!(referee.answer(), Err(WireError::Garbled(_))));
    }

    #[test]
    fn long_and_broken_frames_are_refused_and_an_end_is_an_end() {
        for bytes in [&u32::MAX.to_le_bytes()[..], &[2, 0, 0, 0, b'{', b'}'], &[1, 0, 0, 0, 255]] {
            let (mut referee, engine) = pair();
            (&engine.socket).write_all(bytes).unwrap();
            assert!(matches!(referee.answer(), Err(WireError::Garbled(_))));
            drop(engine);
            assert!(referee.ask(&Request::Nothing).is_err() || referee.answer().is_err());
        }
    }

    #[test]
    fn a_trespass_is_told_as_any_other_answer() {
        let (mut referee, mut engine) = pair();
        referee.ask(&Request::Fit).unwrap();
        engine.request().unwrap();
        let mut frame = [0; 256];
        let bytes = trespassed(engine.place().0, ["fit", "wrote into", "train"], &mut frame);
        (&engine.socket).write_all(&frame[..bytes]).unwrap();
        assert_eq!(referee.answer().unwrap(), Reply::Trespassed("fit wrote into train".into()));
    }
}
