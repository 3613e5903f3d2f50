//! How long `vq-host plan` takes for many cells of which half are done. The time per cell must not
//! grow with their number.
//!
//! ```sh
//! cargo build --release && cargo bench -p vq-host --bench plan
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark is read where it is run")]

use serde_json::Value;
use std::collections::HashSet;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use vq_host::record::{Filter, Record};
use vq_host::store::Store;

/// Configurations of the sweep: as many cells for each seed.
const CONFIGURATIONS: usize = 16;
const CELLS: [usize; 3] = [19_216, 38_416, 76_832];

/// A sweep of quick cells, with `seeds` for the names of all seeds.
fn sweep(seeds: usize) -> String {
    let seeds: Vec<String> = (0..seeds).map(|seed| seed.to_string()).collect();
    format!(
        r#"[sweep]
name = "many"
seeds = [{}]
[run]
store = "many.db"
[[dataset]]
name = "small"
synthetic = {{ kind = "gaussian", n = 600, dim = 16, seed = 1 }}
queries = {{ hold_out = 20 }}
[evaluate]
repeats = 1
[[method]]
use = "sq"
params.bits = {{ from = 1, to = 16, step = 1 }}
"#,
        seeds.join(", ")
    )
}

fn vq_host(folder: &Path, arguments: &[&str]) -> Result<(Vec<u8>, Duration), Box<dyn Error>> {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_vq-host"))
        .args(arguments)
        .args(["--cache-dir", "cache"])
        .current_dir(folder)
        .output()?;
    let took = started.elapsed();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok((output.stdout, took))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    // One record, of which the others are copies.
    std::fs::write(folder.join("many.toml"), sweep(1))?;
    vq_host(folder, &["run", "many.toml", "--only", "bits=8"])?;
    let store = || Store::open(folder.join("many.db"));
    let record = store()?.records(&Filter::default())?.swap_remove(0);
    let mut done = HashSet::from([record.key.clone()]);
    println!("{:>8}  {:>8}  {:>8}", "cells", "plan s", "µs/cell");
    for cells in CELLS {
        std::fs::write(folder.join("many.toml"), sweep(cells / CONFIGURATIONS))?;
        let (json, _) = vq_host(folder, &["plan", "many.toml", "--format", "json"])?;
        let plan: Value = serde_json::from_slice(&json)?;
        let keys = plan["cells"].as_array().into_iter().flatten();
        let keys: Vec<&str> = keys.filter_map(|cell| cell["key"].as_str()).collect();
        let new: Vec<Record> = (keys.iter().step_by(2))
            .filter(|key| done.insert((**key).to_owned()))
            .map(|key| Record { key: (*key).to_owned(), ..record.clone() })
            .collect();
        store()?.insert_all(&new)?;
        let left = keys.iter().filter(|key| !done.contains(**key)).count();
        let (table, took) = vq_host(folder, &["plan", "many.toml"])?;
        let last = String::from_utf8(table)?.lines().last().unwrap_or_default().to_owned();
        let expected = format!("{cells} cells, {left} to run");
        if !last.starts_with(&expected) {
            return Err(format!("`{expected}` is missing in `{last}`").into());
        }
        let each = 1e6 * took.as_secs_f64() / cells as f64;
        println!("{cells:>8}  {:>8.2}  {each:>8.1}", took.as_secs_f64());
    }
    Ok(())
}
