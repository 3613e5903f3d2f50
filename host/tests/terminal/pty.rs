//! A pseudo-terminal with the binary in it, and the screen that a person would see.

use crate::fixture::{Site, wait_until};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use vt100::Parser;

/// Rows of a screen from which nothing scrolls away.
const TALL: u16 = 3000;

/// A command in a terminal.
pub(crate) struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Option<Box<dyn MasterPty + Send>>,
    typist: Option<Box<dyn Write + Send>>,
    seen: Arc<Mutex<Seen>>,
    closed: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

/// What the terminal has shown so far.
pub(crate) struct Seen {
    screen: Parser,
    tall: Parser,
    bytes: Vec<u8>,
}

fn cells(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).expect("a terminal has a size")
}

fn size((cols, rows): (u16, u16)) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}

impl Terminal {
    /// Starts `command` in a terminal of so many columns and rows.
    pub(crate) fn start(command: &Command, (cols, rows): (u16, u16)) -> Self {
        let pair = native_pty_system().openpty(size((cols, rows))).expect("a pseudo-terminal");
        let mut inside = CommandBuilder::new(command.get_program());
        inside.args(command.get_args());
        inside.cwd(command.get_current_dir().expect("a site has a folder"));
        for name in ["NO_COLOR", "COLUMNS", "LINES"] {
            inside.env_remove(name);
        }
        inside.env("TERM", "xterm-256color");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            }
        }
        let child = pair.slave.spawn_command(inside).expect("the command starts");
        let mut reader = pair.master.try_clone_reader().expect("the terminal can be read");
        let typist = pair.master.take_writer().expect("the terminal can be typed into");
        let seen = Arc::new(Mutex::new(Seen {
            screen: Parser::new(cells(rows), cells(cols), 0),
            tall: Parser::new(cells(TALL), cells(cols), 0),
            bytes: Vec::new(),
        }));
        let shown = Arc::clone(&seen);
        let closed = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&closed);
        let listener = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // Its end is an error on Linux.
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                let mut shown = shown.lock().expect("nobody panics");
                shown.screen.process(&chunk[..n]);
                shown.tall.process(&chunk[..n]);
                shown.bytes.extend_from_slice(&chunk[..n]);
                // It holds the terminal open, too.
                if ends.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        Terminal {
            child,
            master: Some(pair.master),
            typist: Some(typist),
            seen,
            closed,
            listener: Some(listener),
        }
    }

    /// `vq-host` with `arguments` in this site.
    pub(crate) fn vq(site: &Site, arguments: &[&str], size: (u16, u16)) -> Self {
        Self::start(&site.command(arguments), size)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics")
    }

    /// Waits until `text` has been shown.
    pub(crate) fn wait_for(&self, text: &str) {
        wait_until(text, || self.seen().all().contains(text));
    }

    pub(crate) fn resize(&self, (cols, rows): (u16, u16)) {
        let mut seen = self.seen();
        self.master.as_ref().expect("it is open").resize(size((cols, rows))).expect("a new size");
        seen.screen.screen_mut().set_size(cells(rows), cells(cols));
        seen.tall.screen_mut().set_size(cells(TALL), cells(cols));
    }

    /// Types what the keyboard would send.
    pub(crate) fn types(&mut self, bytes: &[u8]) {
        self.typist.as_mut().expect("it is open").write_all(bytes).expect("the terminal takes it");
    }

    /// Closes the window.
    pub(crate) fn close(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        self.typist = None;
        self.master = None;
    }

    /// Its id.
    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.process_id().expect("it was started")).expect("a process id")
    }

    /// Waits for its end, which is with `code`; answers everything it has shown.
    #[track_caller]
    pub(crate) fn expect_code(mut self, code: u32) -> Seen {
        let status = self.child.wait().expect("our child");
        self.typist = None;
        self.listener.take().map(JoinHandle::join);
        drop(self.master.take());
        let seen = std::mem::replace(
            &mut *self.seen(),
            Seen { screen: Parser::default(), tall: Parser::default(), bytes: Vec::new() },
        );
        assert_eq!(status.exit_code(), code, "{status:?}\n{}", seen.all());
        seen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Seen {
    /// Everything that was shown and not taken off the screen again.
    pub(crate) fn all(&self) -> String {
        self.tall.screen().contents()
    }

    /// What is on the screen.
    pub(crate) fn now(&self) -> String {
        self.screen.screen().contents()
    }

    /// The bytes as they came.
    pub(crate) fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Itself, in which no line was too long for the terminal.
    #[track_caller]
    pub(crate) fn never_wrapped(self) -> Self {
        let screen = self.tall.screen();
        let wrapped = (0..TALL).find(|row| screen.row_wrapped(*row));
        let cols = screen.size().1.get();
        assert!(
            wrapped.is_none(),
            "in {cols} columns wraps `{}` of:\n{}",
            screen.rows(0, cols).nth(wrapped.unwrap_or(0).into()).unwrap_or_default(),
            self.all()
        );
        self
    }

    /// Itself, with a screen as a shell wants it: no bar is left, the cursor is there and at the
    /// beginning of a line.
    #[track_caller]
    pub(crate) fn restored(self) -> Self {
        for gauge in ['█', '░'] {
            assert!(!self.all().contains(gauge), "a bar is left:\n{}", self.all());
        }
        let screen = self.screen.screen();
        assert!(!screen.hide_cursor());
        assert_eq!(screen.cursor_position().1, 0, "{}", self.now());
        self
    }
}
