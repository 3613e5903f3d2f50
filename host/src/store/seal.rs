//! Checksums over records and runs, which show whether what is read is what was written.
//!
//! SQLite checks the structure of its pages, not their contents: a flipped bit in a number gives
//! another number. A field without a value adds nothing to the checksum, so a new column leaves the
//! checksums of older records as they are.

use crate::record::{
    Facts, MetricValue, Proof, QueryRecalls, Record, RunInfo, Sandbox, canonical_json,
};

/// The fields so far, each with its name and its length, to be hashed at once: a record has hundreds
/// of them, each of a few bytes.
struct Seal(Vec<u8>);

impl Seal {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        for part in [name.as_bytes(), bytes] {
            self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.0.extend_from_slice(part);
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        self.bytes(name, text.as_bytes());
    }

    fn maybe(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn whole(&mut self, name: &str, whole: u64) {
        self.bytes(name, &whole.to_le_bytes());
    }

    fn flag(&mut self, name: &str, flag: Option<bool>) {
        if let Some(flag) = flag {
            self.whole(name, flag.into());
        }
    }

    fn real(&mut self, name: &str, real: Option<f64>) {
        if let Some(real) = real {
            // SQLite may give 0 for −0; they are the same number.
            self.bytes(name, &(real + 0.0).to_bits().to_le_bytes());
        }
    }

    /// 64 bits, as SQLite's integers have.
    fn end(self) -> i64 {
        let hash = blake3::hash(&self.0);
        let first = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
        i64::from_le_bytes(*first)
    }
}

/// The checksum of a record.
pub(super) fn of_record(record: &Record) -> i64 {
    with_texts(record, &canonical_json(&record.params), &canonical_json(&record.evaluation))
}

/// The same where the canonical JSON of what many records share is known.
pub(super) fn with_texts(record: &Record, params: &str, evaluation: &str) -> i64 {
    let Record {
        key,
        run_id,
        dataset,
        metric,
        method,
        params: _,
        label,
        seed,
        evaluation: _,
        outcome,
        error,
        log,
        sandbox,
        proof,
        notices,
        timing,
        started_at,
        wall_s,
        metrics,
        recalls,
    } = record;
    let mut seal = Seal::new();
    seal.text("key", key);
    seal.text("run_id", run_id);
    seal.text("dataset", &dataset.name);
    seal.text("dataset_digest", &dataset.digest);
    seal.whole("n", dataset.n);
    seal.whole("dim", dataset.dim);
    seal.whole("queries", dataset.queries);
    if let Some(rows) = dataset.train_rows {
        seal.whole("train_rows", rows);
    }
    seal.flag("train_apart", dataset.train_apart);
    if let Some(facts) = &dataset.facts {
        let Facts { synthetic, zero_queries, queries_in_base, duplicate_rows, tied_queries } =
            *facts;
        seal.flag("synthetic", Some(synthetic));
        seal.whole("zero_queries", zero_queries);
        seal.whole("queries_in_base", queries_in_base);
        seal.whole("duplicate_rows", duplicate_rows);
        seal.whole("tied_queries", tied_queries);
    }
    seal.text("metric", metric);
    seal.text("method", &method.id);
    seal.text("method_version", &method.version);
    seal.text("plugin_path", &method.plugin_path);
    seal.text("plugin_digest", &method.plugin_digest);
    seal.maybe("needs_digest", method.needs_digest.as_deref());
    seal.text("sdk", &method.sdk);
    seal.text("abi", &method.abi);
    seal.flag("needs_training", method.needs_training);
    seal.flag("deterministic", method.deterministic);
    seal.text("params", params);
    seal.text("label", label);
    seal.whole("seed", *seed);
    seal.text("evaluation", evaluation);
    seal.text("outcome", outcome.as_str());
    seal.maybe("error", error.as_deref());
    seal.maybe("log", log.as_deref());
    seal.maybe("sandbox", sandbox.as_ref().map(Sandbox::to_string).as_deref());
    seal.maybe("proof", proof.as_ref().map(Proof::to_string).as_deref());
    for notice in notices {
        seal.text("notice", notice);
    }
    seal.whole("threads", timing.threads.into());
    seal.whole("jobs", timing.jobs.into());
    seal.whole("exclusive", timing.exclusive.into());
    seal.real("load_average", timing.load_average);
    if let Some(rows) = timing.block_rows {
        seal.whole("block_rows", rows);
    }
    seal.real("threads_used", timing.threads_used);
    seal.text("started_at", started_at);
    seal.real("wall_s", Some(*wall_s));
    let mut metrics: Vec<&MetricValue> = metrics.iter().collect();
    metrics.sort_unstable_by_key(|metric| metric.name());
    for metric in metrics {
        seal.text("name", metric.name());
        seal.real("value", Some(metric.value()));
        seal.real("min", metric.min());
        seal.real("max", metric.max());
        seal.real("standard_error", metric.standard_error());
    }
    let mut recalls: Vec<&QueryRecalls> = recalls.iter().collect();
    recalls.sort_unstable_by_key(|recalls| recalls.k());
    for recalls in recalls {
        seal.whole("recall_k", recalls.k().into());
        seal.whole("recall_queries", recalls.hits().len() as u64);
        seal.bytes("hits", &recalls.packed());
    }
    seal.end()
}

/// The checksum of the eigenvalues of the data with this digest.
pub(super) fn of_spectrum(dataset_digest: &str, eigenvalues: &[u8]) -> i64 {
    let mut seal = Seal::new();
    seal.text("dataset_digest", dataset_digest);
    seal.bytes("eigenvalues", eigenvalues);
    seal.end()
}

/// The checksum of a run.
pub(super) fn of_run(run: &RunInfo) -> i64 {
    let RunInfo {
        run_id,
        started_at,
        host_version,
        sweep_name,
        sweep_text,
        cpu_model,
        cpu_features,
        cores,
        memory_bytes,
        os,
        environment,
    } = run;
    let mut seal = Seal::new();
    seal.text("run_id", run_id);
    seal.text("started_at", started_at);
    seal.text("host_version", host_version);
    seal.text("sweep_name", sweep_name);
    seal.text("sweep_text", sweep_text);
    seal.maybe("cpu_model", cpu_model.as_deref());
    seal.text("cpu_features", &cpu_features.join(" "));
    seal.whole("cores", (*cores).into());
    if let Some(bytes) = memory_bytes {
        seal.whole("memory_bytes", *bytes);
    }
    seal.text("os", os);
    for (name, value) in environment {
        seal.text(name, value);
    }
    seal.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn the_checksum_of_an_older_record_never_changes() {
        let record = sample("example", "m=8", &[("recall@10", 0.75), ("mse", 0.1)]);
        assert_eq!(of_record(&record), -2_945_416_770_367_871_866);
    }
}
