//! The measuring of a cell, and of one with two codes: the first method, then the second on what the
//! first finds, then both together.
//!
//! What is decoded, and how near rows seem, is the second's; what is stored and what it costs is both's.

use super::{Measure, Schedule, Scheduled};
use crate::metric::{ratio_source, size};
use crate::plan::Second;
use crate::plugin::Digests;
use crate::record::{MethodInfo, MetricValue, Sandbox};
use crate::worker::children::aside;
use crate::worker::fault::HostFault;
use crate::worker::protocol::{Answer, Engine, Evaluation, Measured, Stage};
use crate::worker::supervise::{CellJob, Ended, Limits, Peaks};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use vq_plugin_api::Space;
use vq_plugin_api::params::Config;

/// What a library must be.
pub(super) fn digests(of: &MethodInfo) -> Digests {
    Digests { file: of.plugin_digest.clone(), needs: of.needs_digest.clone() }
}

/// Measures a cell; answers also the method that the end is about.
pub(super) fn measure<'a>(
    schedule: &Schedule<'_>,
    of: &'a Scheduled<'_>,
    measure: &Measure<'_>,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
) -> Result<(Ended, &'a MethodInfo), HostFault> {
    let Scheduled { cell, data, evaluation } = of;
    type Coder<'c> = (&'c MethodInfo, &'c Config, Option<&'c Path>);
    let job = |(method, config, python): Coder<'_>, evaluation, stage| CellJob {
        engine: Engine {
            method: method.id.clone(),
            config: config.clone(),
            space: Space {
                dim: cell.transform.dim(data.dim).unwrap_or(data.dim),
                metric: cell.transform.metric(data.metric).into(),
            },
            seed: cell.seed,
            threads: schedule.limits.threads,
            python: python.map(Path::to_owned),
        },
        data,
        transform: &cell.transform,
        evaluation,
        stage,
        block_rows: schedule.block_rows,
    };
    let mut run = |method: &MethodInfo, job: &CellJob<'_>, limits: &Limits| {
        let library = Path::new(&method.plugin_path);
        measure(library, &digests(method), job, limits, cancel, on_progress)
    };
    let coder = (&cell.method, &cell.config, cell.python.as_deref());
    let Some(second) = &cell.second else {
        let job = job(coder, evaluation, (Stage::Whole, None));
        return Ok((run(&cell.method, &job, &schedule.limits)?, &cell.method));
    };
    let folder = data.truth.path.parent().unwrap_or(Path::new("."));
    let candidates = File::from(aside(folder)?);
    // Of the first nothing is asked but what it finds, what it stores and what it costs.
    let few = Evaluation { metrics: Vec::new(), ..evaluation.clone() };
    let started = Instant::now();
    let of_first = job(coder, &few, (Stage::First, Some(&candidates)));
    let mut first = run(&cell.method, &of_first, &schedule.limits)?;
    let Answer::Measured(_) = &first.answer else {
        name_stage(&mut first, "first", &cell.method.id);
        return Ok((first, &cell.method));
    };
    let left = schedule.limits.timeout.saturating_sub(started.elapsed());
    let limits =
        Limits { timeout: Duration::from_secs(left.as_secs().max(1)), ..schedule.limits.clone() };
    let Second { method, config, python, .. } = second;
    let of_second =
        job((method, config, python.as_deref()), evaluation, (Stage::Second, Some(&candidates)));
    let mut ended = run(method, &of_second, &limits)?;
    if !matches!(ended.answer, Answer::Measured(_)) {
        name_stage(&mut ended, "second", &method.id);
    }
    Ok((both(first, ended, data.base.rows, data.dim), method))
}

/// Says in the error which of the two codes it is about.
fn name_stage(ended: &mut Ended, stage: &str, method: &str) {
    if let Answer::Failed { error, .. } = &mut ended.answer {
        *error = format!("{stage} code ({method}): {error}");
    }
}

/// Two ends as one: the answer is the second's, with the first's share.
fn both(first: Ended, mut second: Ended, n: usize, dim: usize) -> Ended {
    second.peaks = Peaks {
        encoder: first.peaks.encoder.max(second.peaks.encoder),
        decoder: first.peaks.decoder.max(second.peaks.decoder),
    };
    second.answer = match (first.answer, second.answer) {
        (Answer::Measured(first), Answer::Measured(second)) => {
            Answer::Measured(together(first, second, n, dim))
        }
        (_, other) => other,
    };
    let logs: Vec<String> = [first.log, second.log.take()].into_iter().flatten().collect();
    second.log = (!logs.is_empty()).then(|| logs.join("\n"));
    second.changed.splice(..0, first.changed);
    second.notices =
        [noticed("first", &first.notices), noticed("second", &second.notices)].concat();
    // The looser one: what is said of a cell is to hold for all of it.
    if first.sandbox != Some(Sandbox::Full) {
        second.sandbox = first.sandbox;
    }
    second.wall_s += first.wall_s;
    second
}

fn noticed(stage: &str, of: &[String]) -> Vec<String> {
    of.iter().map(|notice| format!("{stage} code: {notice}")).collect()
}

fn together(first: Measured, second: Measured, n: usize, dim: usize) -> Measured {
    let value = |of: &Measured, name: &str| {
        of.metrics.iter().find(|metric| metric.name() == name).map(MetricValue::value)
    };
    let two = |name: &str| value(&first, name).zip(value(&second, name));
    let sum = |name: &str| two(name).map(|(a, b)| a + b);
    let code_bytes = sum("code_bytes").unwrap_or(0.0);
    let models = [sum("model_bytes"), sum("model_saved_bytes")];
    let model = models.into_iter().flatten().reduce(f64::max);
    let mut changed: Vec<(&str, Option<f64>)> = vec![
        ("code_bytes", Some(code_bytes)),
        ("model_bytes", models[0]),
        ("model_saved_bytes", models[1]),
        ("ratio_claimed", None),
        ("ratio_amortised", None),
        ("fit_s", sum("fit_s")),
        // Each row is encoded by both.
        (
            "compress_vectors_per_s",
            two("compress_vectors_per_s").map(|(a, b)| 1.0 / (1.0 / a + 1.0 / b)),
        ),
        ("compress_vectors_per_s_streaming", None),
        ("decompress_vectors_per_s_streaming", None),
        // Every code of the first is looked at, and few of the second.
        ("score_codes_per_s", value(&first, "score_codes_per_s")),
        ("search_codes_per_s", value(&first, "search_codes_per_s")),
        (
            "bits_wasted",
            value(&second, "bits_wasted").zip(value(&first, "bits_per_dim")).map(|(a, b)| a + b),
        ),
    ];
    let whole = |bytes: f64| bytes as usize;
    let of_source = value(&first, "source_bits_per_dim")
        .and_then(|bits| ratio_source(bits, dim, whole(code_bytes)));
    changed.push(("ratio_source", of_source));
    changed.extend(
        size(n, dim, whole(code_bytes), model.map(whole))
            .named()
            .into_iter()
            .map(|(k, v)| (k, Some(v))),
    );
    let kept = second
        .metrics
        .iter()
        .filter(|metric| changed.iter().all(|(name, _)| *name != metric.name()));
    let mut metrics: Vec<MetricValue> = kept.cloned().collect();
    for (at, (name, value)) in changed.iter().enumerate() {
        // The last word on a name counts.
        let last = changed[at + 1..].iter().all(|(other, _)| other != name);
        metrics
            .extend(value.filter(|_| last).and_then(|value| MetricValue::new(*name, value).ok()));
    }
    Measured {
        metrics,
        recalls: second.recalls,
        block_rows: second.block_rows,
        measured_s: first.measured_s + second.measured_s,
        threads_used: [first.threads_used, second.threads_used]
            .into_iter()
            .flatten()
            .reduce(f64::max),
        unproven: first.unproven.or(second.unproven),
        notices: [noticed("first", &first.notices), noticed("second", &second.notices)].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(metrics: &[(&str, f64)]) -> Measured {
        Measured {
            metrics: metrics
                .iter()
                .map(|(name, of)| MetricValue::new(*name, *of).unwrap())
                .collect(),
            recalls: Vec::new(),
            block_rows: 1,
            measured_s: 1.0,
            threads_used: None,
            unproven: None,
            notices: vec!["slow".to_owned()],
        }
    }

    #[test]
    fn bytes_and_times_are_both_and_quality_is_the_seconds() {
        let first = [
            ("code_bytes", 4.0),
            ("bits_per_dim", 2.0),
            ("fit_s", 1.0),
            ("compress_vectors_per_s", 100.0),
            ("score_codes_per_s", 9.0),
            ("mse", 5.0),
            ("model_saved_bytes", 10.0),
        ];
        let second = [
            ("code_bytes", 16.0),
            ("bits_per_dim", 8.0),
            ("bits_wasted", 0.5),
            ("fit_s", 2.0),
            ("compress_vectors_per_s", 300.0),
            ("mse", 0.5),
            ("model_saved_bytes", 30.0),
            ("model_bytes", 1.0),
        ];
        let both = together(measured(&first), measured(&second), 10, 16);
        let value = |name: &str| {
            let mut of = both.metrics.iter().filter(|metric| metric.name() == name);
            let value = of.next().map(MetricValue::value);
            assert!(of.next().is_none(), "{name} twice");
            value
        };
        assert_eq!(value("code_bytes"), Some(20.0));
        assert_eq!(value("bits_per_dim"), Some(10.0));
        assert_eq!(value("bits_wasted"), Some(2.5));
        assert_eq!(value("model_saved_bytes"), Some(40.0));
        // Of one of the two nothing is known.
        assert_eq!(value("model_bytes"), None);
        assert_eq!(value("ratio"), Some(64.0 / 20.0));
        assert_eq!(value("ratio_amortised"), Some(640.0 / 240.0));
        assert_eq!(value("fit_s"), Some(3.0));
        assert!((value("compress_vectors_per_s").unwrap() - 75.0).abs() < 1e-9);
        assert_eq!((value("score_codes_per_s"), value("mse")), (Some(9.0), Some(0.5)));
        assert_eq!(both.notices, ["first code: slow", "second code: slow"]);
    }
}
