//! One type per fault, in the order of their ids. What a fault does not override is honest.

use std::hint::black_box;
use std::io::Write;
use std::process::{Command, abort, exit};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::sleep;
use std::time::Duration;
use vq_plugin_api::Error;
use vq_plugin_api::ndarray::{ArrayViewMut2, Axis};

/// Where a fault may step into the quantizer.
pub trait Fault: Send + Sync + 'static {
    /// The method's id.
    const ID: &'static str;
    /// What it does wrong, in one line.
    const DOES: &'static str;

    /// Before the grid is expanded.
    fn on_grid() {}

    /// Before an instance is made.
    ///
    /// # Errors
    /// The fault is to refuse.
    fn on_create() -> Result<(), Error> {
        Ok(())
    }

    /// Before fit learns.
    fn on_fit() {}

    /// Stored bytes per vector; `honest` is right.
    fn code_bytes(honest: usize, fitted: bool) -> usize {
        let _ = fitted;
        honest
    }

    /// The claimed ratio; `honest` is right.
    fn ratio(honest: f64) -> f64 {
        honest
    }

    /// Before compress encodes.
    fn on_compress() {}

    /// Before each row is encoded, in a task of the plugin's thread pool.
    fn on_row() {}

    /// After compress: `codes` (n, code_bytes) are right, n is at least 1.
    fn spoil_codes(codes: &mut ArrayViewMut2<'_, u8>) {
        let _ = codes;
    }

    /// How many of `rows` decompress writes.
    fn rows_to_decode(rows: usize) -> usize {
        rows
    }

    /// After decompress: `x` (n, d) is right, n is at least 1.
    fn spoil_rows(x: &mut ArrayViewMut2<'_, f32>) {
        let _ = x;
    }
}

unsafe extern "C" {
    /// POSIX kill(2).
    safe fn kill(pid: i32, signal: i32) -> i32;
}

const SIGKILL: i32 = 9;

fn sleep_forever() -> ! {
    loop {
        sleep(Duration::from_secs(3600));
    }
}

/// `bad_abort`
pub struct Abort;
impl Fault for Abort {
    const ID: &'static str = "bad_abort";
    const DOES: &'static str = "aborts the process in compress";
    fn on_compress() {
        abort();
    }
}

/// `bad_code_bytes`
pub struct CodeBytes;
impl Fault for CodeBytes {
    const ID: &'static str = "bad_code_bytes";
    const DOES: &'static str = "says another code_bytes after fit than before";
    fn code_bytes(honest: usize, fitted: bool) -> usize {
        honest + usize::from(fitted)
    }
}

/// `bad_create`
pub struct Create;
impl Fault for Create {
    const ID: &'static str = "bad_create";
    const DOES: &'static str = "refuses every configuration";
    fn on_create() -> Result<(), Error> {
        Err(Error::failed("this method cannot be created"))
    }
}

/// `bad_exit`
pub struct Exit;
impl Fault for Exit {
    const ID: &'static str = "bad_exit";
    const DOES: &'static str = "ends the process in compress, with exit code 0";
    fn on_compress() {
        exit(0);
    }
}

/// `bad_fork`
pub struct Fork;
impl Fault for Fork {
    const ID: &'static str = "bad_fork";
    const DOES: &'static str = "leaves a child process in fit that holds the output pipes open";
    fn on_fit() {
        // Where there is no such program, there is nothing to leave behind.
        let _ = Command::new("sleep").arg("1000").spawn();
    }
}

/// `bad_grid`
pub struct Grid;
impl Fault for Grid {
    const ID: &'static str = "bad_grid";
    const DOES: &'static str = "panics in expand_grid";
    fn on_grid() {
        panic!("asked to panic in expand_grid");
    }
}

/// `bad_hang`
pub struct Hang;
impl Fault for Hang {
    const ID: &'static str = "bad_hang";
    const DOES: &'static str = "never returns from fit";
    fn on_fit() {
        sleep_forever();
    }
}

/// `bad_hog`
pub struct Hog;
impl Fault for Hog {
    const ID: &'static str = "bad_hog";
    const DOES: &'static str = "allocates and touches memory without end in fit";
    fn on_fit() {
        let mut held: Vec<Vec<u8>> = Vec::new();
        loop {
            // Not zeros, which the allocator could lend without any page behind them.
            held.push(black_box(vec![1; 16 << 20]));
        }
    }
}

/// `bad_huge_code`
pub struct HugeCode;
impl Fault for HugeCode {
    const ID: &'static str = "bad_huge_code";
    const DOES: &'static str = "asks for codes of a tebibyte each";
    fn code_bytes(_honest: usize, _fitted: bool) -> usize {
        1 << 40
    }
}

/// `bad_nan`
pub struct Nan;
impl Fault for Nan {
    const ID: &'static str = "bad_nan";
    const DOES: &'static str = "decompresses the first value of each row to NaN";
    fn spoil_rows(x: &mut ArrayViewMut2<'_, f32>) {
        x.column_mut(0).fill(f32::NAN);
    }
}

/// `bad_overrun`
pub struct Overrun;
impl Fault for Overrun {
    const ID: &'static str = "bad_overrun";
    const DOES: &'static str = "writes eight bytes past the end of the codes";
    fn spoil_codes(codes: &mut ArrayViewMut2<'_, u8>) {
        let Some(last) = codes.len_of(Axis(0)).checked_sub(1) else { return };
        let end = codes.row_mut(last).as_mut_ptr().wrapping_add(codes.ncols());
        for i in 0..8 {
            // SAFETY: none, and that is the fault. The hosts it is meant for keep a guard zone
            // there, and nothing but the zone is hit. Volatile, so that the write is not dropped.
            unsafe { end.wrapping_add(i).write_volatile(0xBD) }
        }
    }
}

/// `bad_panic`
pub struct Panic;
impl Fault for Panic {
    const ID: &'static str = "bad_panic";
    const DOES: &'static str = "panics in compress";
    fn on_compress() {
        panic!("asked to panic in compress");
    }
}

/// `bad_print`
pub struct Print;
impl Print {
    /// Calls that print: enough for any host, few enough for one that calls a thousand times.
    const CALLS: u8 = 8;

    /// True for the first calls of the process.
    fn still_speaks() -> bool {
        static CALLS: AtomicU8 = AtomicU8::new(0);
        CALLS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
            (calls < Self::CALLS).then_some(calls + 1)
        })
        .is_ok()
    }

    /// More than a pipe holds, with what a terminal or a line protocol could take for its own.
    fn chatter(to: &mut dyn Write) {
        for i in 0..10_000 {
            // A closed pipe is not this method's business.
            let _ = writeln!(to, "\x1b[31mbad_print {i}\x1b[0m {{\"answer\": {{\"ok\": true}}}}\r");
        }
        let _ = to.flush();
    }
}
impl Fault for Print {
    const ID: &'static str = "bad_print";
    const DOES: &'static str = "prints half a megabyte to stdout and to stderr, in eight calls";
    fn on_fit() {
        if !Self::still_speaks() {
            return;
        }
        Self::chatter(&mut std::io::stdout());
        Self::chatter(&mut std::io::stderr());
    }
    fn on_compress() {
        Self::on_fit();
    }
}

/// `bad_random`
pub struct Random;
impl Fault for Random {
    const ID: &'static str = "bad_random";
    const DOES: &'static str = "gives other codes in each call";
    fn spoil_codes(codes: &mut ArrayViewMut2<'_, u8>) {
        static CALLS: AtomicU8 = AtomicU8::new(0);
        let offset = CALLS.fetch_add(1, Ordering::Relaxed) % 8;
        // By at most 7 of 255 levels: wrong, and yet of tolerable quality.
        codes.mapv_inplace(|code| code ^ offset);
    }
}

/// `bad_ratio`
pub struct Ratio;
impl Fault for Ratio {
    const ID: &'static str = "bad_ratio";
    const DOES: &'static str = "claims twice its compression ratio";
    fn ratio(honest: f64) -> f64 {
        2.0 * honest
    }
}

/// `bad_segfault`
pub struct Segfault;
impl Fault for Segfault {
    const ID: &'static str = "bad_segfault";
    const DOES: &'static str = "writes to an unmapped address in compress";
    fn on_compress() {
        let nowhere = std::ptr::without_provenance_mut::<u8>(black_box(16));
        // SAFETY: none, and that is the fault: nothing is mapped in the first page.
        unsafe { nowhere.write_volatile(1) }
    }
}

/// `bad_slow`
pub struct Slow;
impl Fault for Slow {
    const ID: &'static str = "bad_slow";
    const DOES: &'static str = "sleeps 30 s in fit without a sign of progress";
    fn on_fit() {
        sleep(Duration::from_secs(30));
    }
}

/// `bad_stack`
pub struct Stack;
impl Stack {
    fn descend(depth: u64) -> u64 {
        // Used after the call, so that it cannot become a loop.
        let frame = black_box([depth; 64]);
        if black_box(true) { Self::descend(depth + 1) + frame[63] } else { 0 }
    }
}
impl Fault for Stack {
    const ID: &'static str = "bad_stack";
    const DOES: &'static str = "recurses without end in compress";
    fn on_compress() {
        black_box(Self::descend(0));
    }
}

/// `bad_stop`
pub struct Stop;
impl Fault for Stop {
    const ID: &'static str = "bad_stop";
    const DOES: &'static str = "kills its own process with SIGKILL in compress";
    fn on_compress() {
        kill(std::process::id().cast_signed(), SIGKILL);
        // The signal may reach another thread first.
        sleep_forever();
    }
}

/// `bad_thread_panic`
pub struct ThreadPanic;
impl Fault for ThreadPanic {
    const ID: &'static str = "bad_thread_panic";
    const DOES: &'static str = "panics in the tasks of its thread pool in compress";
    fn on_row() {
        panic!("asked to panic in a task");
    }
}

/// `bad_unwritten`
pub struct Unwritten;
impl Fault for Unwritten {
    const ID: &'static str = "bad_unwritten";
    const DOES: &'static str = "leaves the last row of decompress unwritten";
    fn rows_to_decode(rows: usize) -> usize {
        rows - 1
    }
}
