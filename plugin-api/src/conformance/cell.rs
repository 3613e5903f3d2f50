//! A cell: one configuration in one space, fitted on Gaussian rows, with codes and decoded rows.
//! Building it judges the facts that all other rules on cells start from.

use super::lab::{Lab, Twice};
use super::{Depth, Log, Subject};
use crate::handle::{CallError, Instance, Method, Proposal};
use crate::params::Config;
use crate::{ErrorKind, GridRequest, Metric, Space};
use ndarray::{Array2, ArrayView2, Axis, s};

/// The seed that cells are fitted with.
pub(super) const SEED: u64 = 7;
/// Rows tried when a method finds the usual training set too small.
const MANY_ROWS: usize = 4096;

/// Random numbers without a dependency: splitmix64 (Steele, Lea & Flood 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, after Box and Muller.
    fn normal(&mut self) -> f64 {
        let (r, angle) = (self.unit(), self.unit());
        (-2.0 * r.ln()).sqrt() * (core::f64::consts::TAU * angle).cos()
    }
}

/// `n` standard normal rows; of unit length where the host would make them so.
pub(crate) fn gaussian(n: usize, space: Space, seed: u64) -> Array2<f32> {
    let mut random = Random(seed);
    let mut x = Array2::from_shape_fn((n, space.dim), |_| random.normal() as f32);
    if space.metric == Metric::Cosine {
        for mut row in x.axis_iter_mut(Axis(0)) {
            let norm = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
            row.mapv_inplace(|v| (f64::from(v) / norm) as f32);
        }
    }
    x
}

/// The first row in which two matrices differ.
pub(super) fn differing_row<T>(
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    same: impl Fn(&T, &T) -> bool,
) -> Option<usize> {
    let differ = |i: &usize| a.row(*i).iter().zip(b.row(*i)).any(|(a, b)| !same(a, b));
    (0..a.nrows().min(b.nrows())).find(differ)
}

/// Which cell to build.
pub(super) struct Plan {
    pub(super) config: Config,
    pub(crate) space: Space,
    /// Rows to fit on and to encode.
    pub(super) rows: usize,
    pub(crate) depth: Depth,
}

impl Plan {
    /// The configurations, dimensions and metrics to examine `subject` on.
    pub(super) fn of(subject: &Subject<'_>, log: &mut Log<'_>) -> Vec<Plan> {
        let Subject { method, fixed, space, .. } = *subject;
        let mut configs = vec![subject.config.clone()];
        let grid = default_grid(method, fixed, space);
        for i in 0..grid.len().min(4) {
            // First, last and evenly between: the ends are where sizes are extreme.
            let config = &grid[i * (grid.len() - 1) / 3.min(grid.len() - 1).max(1)];
            if !configs.contains(config) {
                configs.push(config.clone());
            }
        }
        let mut plans = vec![Plan::deep(subject)];
        let usual = configs.into_iter().skip(1);
        plans.extend(usual.map(|config| Plan { config, space, rows: 600, depth: Depth::Usual }));
        let metrics =
            [Metric::L2, Metric::Ip, Metric::Cosine].map(|metric| Space { metric, ..space });
        let dims = [1, 3, 7, 13, 100].map(|dim| Space { dim, ..space });
        for brief in metrics.into_iter().chain(dims).filter(|other| *other != space) {
            match any_config(method, fixed, brief) {
                Ok(config) => {
                    plans.push(Plan { config, space: brief, rows: 300, depth: Depth::Brief });
                }
                Err(reason) => {
                    log.begin("round-trip", &place_of(brief));
                    log.skip(reason);
                }
            }
        }
        plans
    }

    /// The first of them, examined in full.
    pub(super) fn deep(subject: &Subject<'_>) -> Plan {
        let (config, space) = (subject.config.clone(), subject.space);
        Plan { config, space, rows: 600, depth: Depth::Deep }
    }

    pub(super) fn place(&self) -> String {
        format!("{}, {}", describe(&self.config), place_of(self.space))
    }
}

fn place_of(space: Space) -> String {
    format!("d = {}, {:?}", space.dim, space.metric)
}

/// `m=8 bits=4`.
pub(super) fn describe(config: &Config) -> String {
    if config.is_empty() {
        return "default configuration".into();
    }
    let pairs: Vec<String> = config.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

/// What the default grid offers in `space`, as far as it can be with `fixed`.
pub(super) fn default_grid(method: &Method, fixed: &Config, space: Space) -> Vec<Config> {
    let request = GridRequest { space, bits_per_dim: None, axes: [].into() };
    let proposals = method.expand(&request).unwrap_or_default();
    let mut grid: Vec<Config> = Vec::new();
    for proposal in proposals {
        let Proposal::Emit { mut config, .. } = proposal else { continue };
        config.extend(fixed.clone());
        if !grid.contains(&config) && (fixed.is_empty() || method.create(&config, space).is_ok()) {
            grid.push(config);
        }
    }
    grid
}

/// A configuration with `fixed` that `create` accepts in `space`: the default one, else the first
/// of the default grid, else why not.
pub(super) fn any_config(method: &Method, fixed: &Config, space: Space) -> Result<Config, String> {
    match method.create(fixed, space) {
        Ok(_) => Ok(fixed.clone()),
        Err(error) => {
            default_grid(method, fixed, space).into_iter().next().ok_or(error.to_string())
        }
    }
}

/// A fitted instance and what it made of `x`.
pub(crate) struct Cell<'a> {
    pub(super) method: &'a Method,
    pub(crate) lab: &'a Lab,
    pub(super) config: Config,
    pub(crate) space: Space,
    pub(crate) depth: Depth,
    /// (n, d), what `fit` saw.
    pub(super) train: Array2<f32>,
    /// (n, d), other rows of the same distribution.
    pub(super) x: Array2<f32>,
    pub(crate) instance: Instance,
    pub(crate) code_bytes: usize,
    /// (n, code_bytes) of `x`.
    pub(crate) codes: Array2<u8>,
    /// (n, d) of `codes`.
    pub(crate) decoded: Array2<f32>,
}

impl<'a> Cell<'a> {
    /// Creates, fits, encodes and decodes; `None` when a fact is missing that rules build on.
    pub(super) fn build(subject: &Subject<'a>, plan: &Plan, log: &mut Log<'_>) -> Option<Self> {
        let errors = log.errors;
        let cell = Self::try_build(subject, plan, log).filter(|_| log.errors == errors);
        if cell.is_none() {
            log.skip("the other rules, which build on this");
        }
        cell
    }

    fn try_build(subject: &Subject<'a>, plan: &Plan, log: &mut Log<'_>) -> Option<Self> {
        let Subject { method, lab, .. } = *subject;
        let (space, place) = (plan.space, plan.place());
        log.begin("round-trip", &place);
        let create = || method.create(&plan.config, space);
        let mut instance = log.must("", create())?;
        let promised = instance.code_bytes();
        let mut train = gaussian(plan.rows, space, 1);
        let mut fitted = Lab::fit(&mut instance, train.view(), &lab.caller(2, SEED));
        if fitted.as_ref().is_err_and(|e| e.kind() == Some(ErrorKind::Failed)) {
            train = gaussian(MANY_ROWS, space, 1);
            instance = log.must("", create())?;
            fitted = Lab::fit(&mut instance, train.view(), &lab.caller(2, SEED));
        }
        log.must(&format!("{} gaussian rows", train.nrows()), fitted)?;

        log.begin("code-bytes", &place);
        let code_bytes = instance.code_bytes();
        // 0: only fit tells.
        if promised != 0 && promised != code_bytes {
            let found = format!("{promised} after create, {code_bytes} after fit");
            log.error("code_bytes", "", found);
            return None;
        }
        if code_bytes == 0 || code_bytes > (1 << 20) {
            log.error("code_bytes", "", format!("{code_bytes} bytes for d = {}", space.dim));
            return None;
        }

        log.begin("round-trip", &place);
        let x = gaussian(plan.rows, space, 2);
        let rows = format!("{} gaussian rows", x.nrows());
        let coded = log.must(&rows, lab.compress_twice(&instance, x.view(), code_bytes))?;
        let codes = settled(coded, u8::eq, "compress", (&place, &rows), log)?;
        log.begin("round-trip", &place);
        let decoded = log.must(&rows, lab.decompress_twice(&instance, codes.view()))?;
        let decoded = settled(decoded, bits_equal, "decompress", (&place, &rows), log)?;
        if instance.code_bytes() != code_bytes {
            log.begin("code-bytes", &place);
            let found = format!("{code_bytes} after fit, {} after use", instance.code_bytes());
            log.error("code_bytes", "", found);
        }
        log.begin("finite-output", &place);
        if let Some(row) = not_finite(&decoded) {
            log.error("decompress", &rows, format!("row {row} is not finite"));
        }
        let cell = Cell {
            method,
            lab,
            config: plan.config.clone(),
            space,
            depth: plan.depth,
            train,
            x,
            instance,
            code_bytes,
            codes,
            decoded,
        };
        log.begin("fully-written", &place);
        cell.few_rows_are_written(log);
        Some(cell)
    }

    /// What is left unwritten in calls of few rows.
    fn few_rows_are_written(&self, log: &mut Log<'_>) {
        for (start, end) in [(0, 1), (1, 3), (3, 10)] {
            let input = format!("rows {start} to {end}");
            let x = self.x.slice(s![start..end, ..]);
            let coded = self.lab.compress_twice(&self.instance, x, self.code_bytes);
            let Some(coded) = log.must(&input, coded) else { return };
            if let Some(at) = coded.unwritten {
                return log.error("compress", &input, as_filled(at, "byte"));
            }
            let codes = self.codes.slice(s![start..end, ..]);
            let decoded = self.lab.decompress_twice(&self.instance, codes);
            let Some(decoded) = log.must(&input, decoded) else { return };
            if let Some(at) = decoded.unwritten {
                return log.error("decompress", &input, as_filled(at, "value"));
            }
        }
    }

    /// Another instance of the cell's configuration, not fitted.
    pub(super) fn fresh(&self, log: &mut Log<'_>) -> Option<Instance> {
        log.must("another instance", self.method.create(&self.config, self.space))
    }

    pub(crate) fn compress(&self, x: ArrayView2<'_, f32>) -> Result<Array2<u8>, CallError> {
        self.lab.compress(&self.instance, x, self.code_bytes)
    }

    pub(crate) fn decompress(&self, codes: ArrayView2<'_, u8>) -> Result<Array2<f32>, CallError> {
        self.lab.decompress(&self.instance, codes)
    }
}

/// `byte 3 of row 7 is as the caller filled it`.
pub(super) fn as_filled((row, column): (usize, usize), what: &str) -> String {
    format!("{what} {column} of row {row} is as the caller filled it")
}

pub(super) fn bits_equal(a: &f32, b: &f32) -> bool {
    a.to_bits() == b.to_bits()
}

/// What `function` made, if it wrote all of it and the same both times.
fn settled<T: Copy + PartialEq>(
    twice: Twice<T>,
    same: fn(&T, &T) -> bool,
    function: &'static str,
    (place, input): (&str, &str),
    log: &mut Log<'_>,
) -> Option<Array2<T>> {
    log.begin("fully-written", place);
    if let Some(at) = twice.unwritten {
        let what = if function == "compress" { "byte" } else { "value" };
        log.error(function, input, as_filled(at, what));
        return None;
    }
    log.begin("determinism", place);
    if let Some(row) = differing_row(twice.first.view(), twice.second.view(), same) {
        let found = match function {
            "compress" => format!("the same call again gives row {row} another code"),
            _ => format!("the same call again decodes row {row} otherwise"),
        };
        log.error(function, input, found);
    }
    Some(twice.first)
}

/// The first row with a value that is not finite.
pub(super) fn not_finite(rows: &Array2<f32>) -> Option<usize> {
    rows.outer_iter().position(|row| row.iter().any(|v| !v.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussian_rows_are_reproducible_and_standard() {
        let space = Space { dim: 2, metric: Metric::L2 };
        assert_eq!(gaussian(3, space, 1), gaussian(3, space, 1));
        let x = gaussian(2000, space, 1);
        let mean = x.mean().expect("rows");
        let var = x.mapv(|v| (v - mean) * (v - mean)).mean().expect("rows");
        // Five standard errors of 4,000 draws.
        assert!(mean.abs() < 0.08 && (var - 1.0).abs() < 0.12, "{mean} {var}");
        let unit = gaussian(5, Space { metric: Metric::Cosine, ..space }, 1);
        assert!(unit.outer_iter().all(|row| (row.dot(&row) - 1.0).abs() < 1e-6));
    }
}
