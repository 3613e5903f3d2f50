//! What people read beside the results: everything that goes to stderr, and the way to stdout.
//!
//! Nothing here panics or fails because nobody listens any more. A closed terminal, a full disk or
//! a reader that has gone takes the words and nothing else: what the command does, it still does.
//! While bars are drawn, lines appear above them. Control characters are made visible, as texts
//! may come from plugins.

use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use miette::{Diagnostic, LabeledSpan, MietteHandlerOpts, ReportHandler, Severity, SourceCode};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, StdoutLock, Write};
use std::sync::{LazyLock, Mutex, PoisonError};
use terminal_size::terminal_size_of;
use vq_host::report::{fit_middle, plain, plain_lines, wrapped};

/// Bars are drawn at most so often, times a second.
const DRAWS: u8 = 20;
/// Columns of what is no terminal.
const COLUMNS: usize = 100;
/// A terminal that does not tell its size.
const UNTOLD: (usize, usize) = (80, 24);

/// The one group of bars; lines are written above it. None where bars cannot be drawn.
static BARS: LazyLock<Option<MultiProgress>> = LazyLock::new(|| {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    (io::stderr().is_terminal() && !dumb).then(|| {
        let screen = Box::new(Screen::default());
        MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(screen, DRAWS))
    })
});

/// The bars, where the terminal takes them.
pub(super) fn bars() -> Option<&'static MultiProgress> {
    BARS.as_ref()
}

/// Takes the bars off the screen, for good.
pub(crate) fn clear() {
    if let Some(bars) = bars() {
        let _ = bars.clear();
        bars.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// One line; in a terminal that is narrower, several.
pub(crate) fn line(text: &str) {
    indented(text, 0);
}

/// Something that a reader of the results should know.
pub(super) fn note(text: &str) {
    indented(&format!("note: {text}"), 6);
}

/// As [`note`], and not again what this command has said: data may be prepared in several steps.
pub(super) fn note_once(text: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned()) {
        note(text);
    }
}

/// Something that was left out or went another way than asked.
pub(super) fn warning(text: &str) {
    indented(&format!("warning: {text}"), 9);
}

/// `name` as the beginning of a line of the terminal: whole, unless it alone is longer.
pub(super) fn beginning(name: &str) -> String {
    width().map_or_else(|| name.to_owned(), |width| fit_middle(name, width.max(30) - 10))
}

fn indented(text: &str, indent: usize) {
    let text = plain(text);
    raw(&match width() {
        Some(width) => wrapped(&text, indent, width.max(indent + 20)) + "\n",
        None => text + "\n",
    });
}

/// The error that ends the command.
pub(crate) fn error(report: &miette::Report) {
    raw(&format!("{report:?}\n"));
}

fn raw(text: &str) {
    let write = || {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    };
    match bars() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// Columns of stderr where it is a terminal.
pub(super) fn width() -> Option<usize> {
    io::stderr().is_terminal().then(|| size().0)
}

/// Columns of stderr, whatever it is.
pub(super) fn columns() -> usize {
    width().unwrap_or(COLUMNS)
}

/// Rows of the terminal that stderr is.
pub(super) fn height() -> usize {
    size().1
}

/// Columns and rows of the terminal that stderr is.
fn size() -> (usize, usize) {
    terminal_size_of(io::stderr())
        .map_or(UNTOLD, |(width, height)| (usize::from(width.0), usize::from(height.0)))
}

/// How errors look: as wide as the terminal, coloured where that is wanted.
pub(crate) fn install_error_style() {
    let _ = miette::set_hook(Box::new(|_| {
        let color = io::stderr().is_terminal() && style_wanted();
        // Links would litter pipes.
        let options = MietteHandlerOpts::new().width(columns().min(COLUMNS)).terminal_links(false);
        let handler = if color { options } else { options.color(false) }.build();
        Box::new(Escaping(Box::new(handler)))
    }));
}

/// Whether a terminal may get colours.
pub(super) fn style_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// stderr as indicatif draws on it, a frame at a time. Never fails: indicatif panics on an error.
///
/// indicatif fills each line with spaces, so that the terminal wraps to the next. A terminal that
/// becomes narrower then folds every line. Here a line ends where its text does.
#[derive(Debug, Default)]
struct Screen {
    frame: Mutex<Frame>,
}

#[derive(Debug, Default)]
struct Frame {
    text: String,
    /// Texts of this frame: each line is two, its own and the spaces after it.
    texts: usize,
}

impl Screen {
    fn push(&self, text: &str) -> io::Result<()> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner).text.push_str(text);
        Ok(())
    }

    /// A movement of zero would move by one.
    fn step(&self, n: usize, code: char) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.push(&format!("\x1b[{n}{code}")) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        u16::try_from(size().0).unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
        u16::try_from(size().1).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.step(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.step(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.step(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.step(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.push(text)?;
        self.push("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        frame.texts += 1;
        if frame.texts % 2 == 1 {
            if frame.texts > 1 {
                frame.text.push_str("\r\n");
            }
            frame.text.push_str(text);
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.push("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let frame = std::mem::take(&mut *self.frame.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = io::stderr().lock().write_all(frame.text.as_bytes());
        Ok(())
    }
}

/// stdout, where results go. Once its reader has gone, the rest is dropped: that changes neither
/// what the command does nor its exit code. Anything else that fails, such as a full disk, is an
/// error.
pub(super) fn out() -> Out {
    Out { to: io::stdout().lock(), gone: false }
}

/// See [`out`].
pub(super) struct Out {
    to: StdoutLock<'static>,
    gone: bool,
}

impl Out {
    fn told<T>(&mut self, result: io::Result<T>, instead: T) -> io::Result<T> {
        result.or_else(|error| {
            // A closed pipe, a closed terminal, a closed descriptor.
            let left = [Errno::EPIPE, Errno::EIO, Errno::EBADF].map(|errno| Some(errno as i32));
            self.gone = left.contains(&error.raw_os_error());
            if self.gone { Ok(instead) } else { Err(error) }
        })
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gone {
            return Ok(bytes.len());
        }
        let written = self.to.write(bytes);
        self.told(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gone {
            return Ok(());
        }
        let flushed = self.to.flush();
        self.told(flushed, ())
    }
}

/// Draws errors whose texts cannot draw on the terminal.
struct Escaping(Box<dyn ReportHandler>);

impl ReportHandler for Escaping {
    fn debug(&self, error: &dyn Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug(&Escaped::of(error), f)
    }
}

/// An error with plain texts.
struct Escaped<'a> {
    of: &'a dyn Diagnostic,
    text: String,
    cause: Option<Box<Cause>>,
}

impl<'a> Escaped<'a> {
    fn of(of: &'a dyn Diagnostic) -> Self {
        Self { of, text: plain_lines(&of.to_string()), cause: of.source().map(Cause::of) }
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Escaped<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as _)
    }
}

impl Diagnostic for Escaped<'_> {
    fn severity(&self) -> Option<Severity> {
        self.of.severity()
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.of.help().map(|help| Box::new(plain_lines(&help.to_string())) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.of.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let plain = |label: LabeledSpan| {
            LabeledSpan::new_with_span(label.label().map(plain_lines), *label.inner())
        };
        self.of.labels().map(|labels| Box::new(labels.map(plain)) as _)
    }
}

/// What is behind an error, in plain texts.
#[derive(Debug)]
struct Cause {
    text: String,
    cause: Option<Box<Cause>>,
}

impl Cause {
    fn of(error: &(dyn Error + 'static)) -> Box<Self> {
        Box::new(Self {
            text: plain_lines(&error.to_string()),
            cause: error.source().map(Self::of),
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as _)
    }
}
