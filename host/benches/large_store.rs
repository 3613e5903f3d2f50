//! How long it takes to ask a store of a million records: to resume a sweep of 1,000 cells, for the
//! best of one data set, for a recommendation, for one record, for a page. No answer may take longer
//! than 2 s but the page, of which each cell is drawn, and the recommendation of every data set.
//!
//! It writes 3 GB into the folder for temporary files, which takes minutes. `RECORDS` is how many.
//! With `FOLDER` the store is made there and stays: the next time it is asked only.
//!
//! ```sh
//! cargo build --release && cargo bench -p vq-host --bench large_store
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark is read where it is run")]

use serde_json::Value;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;
use vq_host::record::{Filter, MetricError, MetricValue, Record};
use vq_host::store::Store;

/// Records of each data set that is of no sweep, and their methods. They lie all over the file.
const OF_EACH: usize = 10_000;
const METHODS: usize = 20;

const STORE: &str = "many.db";

/// 1,000 quick cells.
fn sweep() -> String {
    let seeds: Vec<String> = (0..100).map(|seed| seed.to_string()).collect();
    format!(
        r#"[sweep]
name = "many"
seeds = [{}]
[run]
store = "{STORE}"
[[dataset]]
name = "small"
synthetic = {{ kind = "gaussian", n = 600, dim = 16, seed = 1 }}
queries = {{ hold_out = 20 }}
[evaluate]
repeats = 1
[[method]]
use = "sq"
params.bits = {{ from = 1, to = 10, step = 1 }}
"#,
        seeds.join(", ")
    )
}

fn vq_host(folder: &Path, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    let output = Command::new(env!("CARGO_BIN_EXE_vq-host"))
        .args(arguments)
        .env("VQ_CACHE_DIR", "cache")
        .current_dir(folder)
        .output()?;
    match output.status.success() {
        true => Ok(output),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}

/// Says how long a command takes, and the last line that it says beside its answer.
fn timed(folder: &Path, arguments: &[&str]) -> Result<f64, Box<dyn Error>> {
    let started = Instant::now();
    let output = vq_host(folder, arguments)?;
    let took = started.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{took:>6.2} s  vq-host {}", arguments.join(" "));
    println!("          {}", said.lines().last().unwrap_or_default());
    Ok(took)
}

/// Record `i` of no sweep, of one of so many data sets: `of` under other names, of a configuration
/// and with numbers of its own.
fn other(i: usize, datasets: usize, of: &Record) -> Result<Record, MetricError> {
    let mut record = of.clone();
    let hash = blake3::hash(&i.to_le_bytes());
    record.key = hash.to_hex().to_string();
    record.method.id = format!("method-{}", i % METHODS);
    record.dataset.name = format!("data-{}", i / METHODS % datasets);
    let m = i / METHODS / datasets;
    record.label = format!("m={m}");
    record.params["m"] = m.into();
    let factor = |byte: usize| 0.8 + 0.2 * f64::from(hash.as_bytes()[byte]) / 255.0;
    let scaled = |of: &MetricValue| {
        // Size and quality each by its own: few are the best of their size, as among methods.
        let name = of.name();
        let is_size = ["bits", "ratio", "code", "model"].iter().any(|size| name.starts_with(size));
        let factor = factor(usize::from(is_size));
        let value = factor * of.value();
        match (of.min(), of.max()) {
            (Some(min), Some(max)) => {
                MetricValue::with_range(name, value, factor * min, factor * max)
            }
            _ => MetricValue::with_error(name, value, of.standard_error()),
        }
    };
    record.metrics = of.metrics.iter().map(scaled).collect::<Result<_, _>>()?;
    Ok(record)
}

fn main() -> Result<(), Box<dyn Error>> {
    let records: usize = std::env::var("RECORDS").map_or(Ok(1_000_000), |n| n.parse())?;
    let temporary = tempfile::tempdir()?;
    let kept = std::env::var_os("FOLDER").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(temporary.path());
    if !folder.join(STORE).exists() {
        make(folder, records)?;
    }
    ask(folder)
}

/// Makes the store.
fn make(folder: &Path, records: usize) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("many.toml"), sweep())?;
    // Two records, of which the others are copies.
    let measured = ["run", "many.toml", "--only", "bits=8 seed=7", "--only", "bits=4 seed=7"];
    vq_host(folder, &measured)?;
    let keys = keys(folder)?;

    let mut store = Store::open(folder.join(STORE))?;
    let two = store.records(&Filter::default())?;
    let of = &two[0];
    // Without the last, which is measured when the sweep is resumed.
    let mut of_sweep: Vec<Record> = keys[..keys.len() - 1]
        .iter()
        .filter(|key| two.iter().all(|known| known.key != **key))
        .map(|key| Record { key: key.clone(), ..of.clone() })
        .collect();
    let others = records.saturating_sub(keys.len());
    let (share, datasets) = (others.div_ceil(100), others.div_ceil(OF_EACH));
    for first in (0..others).step_by(share) {
        let last = others.min(first + share);
        let mut some = (first..last)
            .map(|i| other(i, datasets, &two[i % two.len()]))
            .collect::<Result<Vec<Record>, _>>()?;
        // All over the file, as in a store that grew over months.
        some.extend(of_sweep.drain(..of_sweep.len().min(keys.len() / 100)));
        store.insert_all(&some)?;
    }
    store.insert_all(&of_sweep)?;
    drop(store);
    let started = Instant::now();
    drop(Store::open(folder.join(STORE))?);
    println!("{:>6.2} s  indexes, once", started.elapsed().as_secs_f64());
    let bytes = std::fs::metadata(folder.join(STORE))?.len();
    println!("{} records, {:.2} GB", records, bytes as f64 / 1e9);
    Ok(())
}

/// The keys of the sweep.
fn keys(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let planned = vq_host(folder, &["plan", "many.toml", "--format", "json"])?.stdout;
    let planned: Value = serde_json::from_slice(&planned)?;
    let cells = planned["cells"].as_array().into_iter().flatten();
    Ok(cells.filter_map(|cell| cell["key"].as_str()).map(str::to_owned).collect())
}

/// Asks the store.
fn ask(folder: &Path) -> Result<(), Box<dyn Error>> {
    let keys = keys(folder)?;
    let key = keys.first().map_or("", |key| &key[..12]);
    let mut slowest = 0.0_f64;
    for arguments in [
        &["run", "many.toml"][..],
        &["run", "many.toml"],
        &["results", STORE, "--dataset", "data-1", "--best"],
        &["results", STORE, "--dataset", "small", "--best"],
        &["recommend", STORE, "--dataset", "data-1"],
        &["recommend", STORE, "--dataset", "small"],
        &["results", STORE, "--key", key],
    ] {
        slowest = slowest.max(timed(folder, arguments)?);
    }
    timed(folder, &["report", STORE, "-o", "page.html"])?;
    timed(folder, &["recommend", STORE])?;
    match slowest < 2.0 {
        true => Ok(()),
        false => Err(format!("an answer took {slowest:.2} s").into()),
    }
}
