//! Our side of the comparison with FAISS: a child of `compare.py` that does one work at a time.
//!
//! One JSON object a line on stdin, one answer a line on stdout:
//! ```text
//! {"do":"prepare","threads":2,"work":{"kind":"encode",…}}   → {"ok":{}}
//! {"do":"time","threads":1,"at_least_s":0.3}                → {"ok":{"calls":7,"seconds":0.31}}
//! {"do":"time","threads":1,"at_least_s":0.3,"as_left":true} → the same, into outputs as the last call left them
//! {"do":"spin","threads":1,"at_least_s":0.3}                → the same, for work that no two threads share
//! {"do":"answer","path":"…"}                                → {"ok":{}}, what the work made in that file
//! anything that goes wrong                                  → {"error":"…"}
//! ```
//! Between two lines nothing runs here, so that the other side has the machine.

mod codec;
mod failure;
mod matrix;
mod work;

use failure::Failure;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use work::{Shop, Work};

/// What the parent asks.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// Makes a work ready, on so many threads: data read, method fitted, outputs allocated.
    Prepare { work: Work, threads: usize },
    /// Does the prepared work again and again until that much time is measured. Outputs are filled before each call, or
    /// as the last one left them.
    Time {
        at_least_s: f64,
        threads: usize,
        #[serde(default)]
        as_left: bool,
    },
    /// Multiplies in registers again and again: what more threads gain where memory is not asked.
    Spin { at_least_s: f64, threads: usize },
    /// Writes what the work made.
    Answer { path: PathBuf },
}

fn main() -> ExitCode {
    let mut shop = Shop::default();
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let Ok(line) = line else { return ExitCode::FAILURE };
        let answer = match serve(&mut shop, &line) {
            Ok(answer) => json!({ "ok": answer }),
            Err(failure) => json!({ "error": failure.to_string() }),
        };
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn serve(shop: &mut Shop, line: &str) -> Result<Value, Failure> {
    match serde_json::from_str(line)? {
        Request::Prepare { work, threads } => {
            shop.prepare(work, threads)?;
            Ok(json!({}))
        }
        Request::Time { at_least_s, threads, as_left } => {
            repeat(at_least_s, || shop.run(threads, as_left))
        }
        Request::Spin { at_least_s, threads } => repeat(at_least_s, || shop.spin(threads)),
        Request::Answer { path } => {
            shop.answer(&path)?;
            Ok(json!({}))
        }
    }
}

/// Calls until so many seconds are measured; answers how many calls, and the seconds.
fn repeat(
    at_least_s: f64,
    mut call: impl FnMut() -> Result<Duration, Failure>,
) -> Result<Value, Failure> {
    let at_least = Duration::try_from_secs_f64(at_least_s).unwrap_or_default();
    let (mut calls, mut spent) = (0_u64, Duration::ZERO);
    while calls == 0 || spent < at_least {
        spent += call()?;
        calls += 1;
    }
    Ok(json!({ "calls": calls, "seconds": spent.as_secs_f64() }))
}
