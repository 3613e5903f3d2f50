//! The kit passes a method that keeps the contract, and names exactly the broken rule of methods
//! with one fault each.

use ndarray::{Array1, ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use vq_plugin_api::abi::{
    SCORER_V1, SEARCH_V1, VqBuf, VqCodes, VqCodesMut, VqCtx, VqMat, VqMatMut, VqMethod, VqParam,
    VqPlugin, VqScorerV1, VqSearchV1, VqStr, VqValue, rc,
};
use vq_plugin_api::conformance::{self, Event, Report, Severity};
use vq_plugin_api::handle::Plugin;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::params::{Config, Param, Params};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Hits, Method, Packed, Quantizer, Scorer, Search, Space,
    Value, params,
};
use vq_plugin_api::{adapter, quantizer};

/// What is wrong with a [`Ladder`].
#[derive(Clone, Copy)]
#[repr(u8)]
enum Fault {
    None,
    NoTexts,
    NoHelp,
    ChoicesOutOfRange,
    EmptyGrid,
    IgnoresAxes,
    ProposesNonsense,
    RateForgotten,
    BluntAtBoundary,
    ClampsSilently,
    AcceptsAnyKind,
    AcceptsUnknown,
    Leaks,
    RefusesOddDimensions,
    GrowsItsCodes,
    LeavesLastRow,
    LeavesCodeByte,
    LeavesCodesOfLargeCalls,
    LeavesRowsOfLargeCalls,
    LeavesEstimate,
    LeavesEstimatesOfLargeCalls,
    LeavesBound,
    LeavesBoundsOfLargeCalls,
    NanOutput,
    NewCodesEachCall,
    NewRowsEachCall,
    IgnoresSeed,
    DependsOnThreads,
    LiesAboutRatio,
    LiesAboutModel,
    DependsOnBatch,
    DependsOnOrder,
    DependsOnLargeCalls,
    DecodesByBatch,
    DecodesLargeCallsOtherwise,
    LoadsWrongly,
    ScoresNan,
    ScoresByBatch,
    ScoresLargeCallsOtherwise,
    ScoresUnrelated,
    ScoresConstantly,
    NegativeBounds,
    InfiniteBounds,
    PoorQuality,
    ProgressDecreases,
    IgnoresCancel,
    SharesState,
    SharesScratch,
    NanFromOneRow,
    PanicsOnOneRow,
    NanFromConstant,
    NanFromHuge,
    PanicsOnNan,
    LoadsTruncated,
    PanicsOnStrangeCodes,
    FindsRowsBeyondTheBlock,
    FindsTwice,
    FindsUnsorted,
    FindsTooFew,
    FindsTheLaterOfEquals,
    FindsAnotherEstimate,
    MissesTheSecond,
    MissesTheLastOfLargeCalls,
    FindsNan,
    // These two claim no ranking.
    MissesTheFirstOfEquals,
    FindsTheFarthest,
}

params! {
    /// Parameters of the ladder.
    struct Rungs {
        /// Rungs per dimension.
        rungs: u32 = 64, min = 2, max = 128, grid = [16, 64];
        /// Where the rungs lie: between the extremes, or jittered by the seed.
        mode: String = "even".into(), choices = ["even".into(), "jittered".into()];
        /// Fraction of the range that is kept.
        keep: f32 = 1.0, min = 0.5, max = 1.0;
    }
}

/// [`Rungs`] with the faults that parameters can have.
struct Settings<const F: u8>(Rungs);

impl<const F: u8> Params for Settings<F> {
    fn schema() -> Vec<Param> {
        schema(F)
    }

    fn from_config(config: &Config) -> Result<Self, Error> {
        rungs(F, config).map(Settings)
    }
}

fn schema(fault: u8) -> Vec<Param> {
    let mut schema = Rungs::schema();
    if fault == Fault::NoHelp as u8 {
        schema[0].help.clear();
    }
    if fault == Fault::ChoicesOutOfRange as u8 {
        schema[0].choices = vec![Value::Int(16), Value::Int(64), Value::Int(4096)];
    }
    schema
}

fn rungs(fault: u8, config: &Config) -> Result<Rungs, Error> {
    let has = |one: Fault| fault == one as u8;
    let mut config = config.clone();
    let schema = Rungs::schema();
    config.retain(|name, value| match schema.iter().find(|param| param.name == *name) {
        None => !has(Fault::AcceptsUnknown),
        Some(param) if param.kind != value.kind() => !has(Fault::AcceptsAnyKind),
        Some(param) => param.check(value).is_ok() || !has(Fault::ClampsSilently),
    });
    if has(Fault::BluntAtBoundary) && config.get("rungs") == Some(&Value::Int(2)) {
        return Err(Error::failed("no"));
    }
    Rungs::from_config(&config)
}

/// More rows or codes than the faults of large calls let pass.
const LARGE: usize = 1000;

/// One byte per dimension: `rungs` levels between the extremes of the training rows.
#[derive(Clone)]
struct Ladder {
    fault: u8,
    rungs: Rungs,
    space: Space,
    low: Array1<f32>,
    step: Array1<f32>,
    fitted: bool,
}

static FITS: AtomicU32 = AtomicU32::new(0);
static CALLS: AtomicU32 = AtomicU32::new(0);
static DECODED: AtomicU32 = AtomicU32::new(0);
static SHARED: Mutex<f32> = Mutex::new(0.0);
static BUSY: AtomicBool = AtomicBool::new(false);

impl Ladder {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault as u8
    }

    fn encode(&self, x: &[f32], code: &mut [u8], shift: u8) {
        let top = self.rungs.rungs as f32 - 1.0;
        for (((x, low), step), code) in x.iter().zip(&self.low).zip(&self.step).zip(code) {
            *code = ((x - low) / step).round().clamp(0.0, top) as u8;
            *code = (*code + shift) % self.rungs.rungs as u8;
        }
    }

    fn decode(&self, code: &[u8], x: &mut [f32]) {
        for (((code, low), step), x) in code.iter().zip(&self.low).zip(&self.step).zip(x) {
            *x = low + f32::from(*code) * step;
        }
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        if train.nrows() == 0 {
            return Err(Error::failed("no rows to learn from"));
        }
        assert!(!(self.has(Fault::PanicsOnOneRow) && train.nrows() == 1), "one row");
        if self.has(Fault::RefusesOddDimensions) && train.ncols() % 2 == 1 {
            return Err(Error::failed("odd"));
        }
        let bad = train.iter().any(|v| !v.is_finite());
        assert!(!(self.has(Fault::PanicsOnNan) && bad), "no order among NaN");
        if bad {
            return Err(Error::failed("a row is not finite"));
        }
        for fraction in [0.0, 0.5, if self.has(Fault::ProgressDecreases) { 0.25 } else { 1.0 }] {
            let answer = ctx.progress(fraction, "ranges");
            if !self.has(Fault::IgnoresCancel) {
                answer?;
            }
        }
        let top = self.rungs.rungs as f32 - 1.0;
        let ends = |from: f32, best: fn(f32, f32) -> f32| {
            train.fold_axis(Axis(0), from, move |a, b| best(*a, *b))
        };
        let (low, high) = (ends(f32::MAX, f32::min), ends(f32::MIN, f32::max));
        let flat = (&high - &low).iter().any(|range| *range == 0.0);
        self.step = ((&high - &low) * (self.rungs.keep / top)).mapv(|s| s.max(1e-30));
        self.low = low;
        if self.rungs.mode == "jittered" {
            self.low -= &(&self.step * (ctx.seed() % 8) as f32 / 8.0);
        }
        if self.has(Fault::IgnoresSeed) {
            self.low += &(&self.step * ((FITS.fetch_add(1, Ordering::Relaxed) % 64) as f32 / 64.0));
        }
        if self.has(Fault::DependsOnThreads) {
            self.low += &(&self.step * ctx.threads() as f32);
        }
        let one_row = self.has(Fault::NanFromOneRow) && train.nrows() == 1;
        let constant = self.has(Fault::NanFromConstant) && flat && train.nrows() > 2;
        let huge = self.has(Fault::NanFromHuge) && train[[0, 0]].abs() > 1e20;
        if one_row || constant || huge {
            self.low.fill(f32::NAN);
        }
        if self.has(Fault::SharesState) {
            *SHARED.lock().expect("no test panics while it holds the lock") = self.low[0];
        }
        self.fitted = true;
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.space.dim + usize::from(self.has(Fault::GrowsItsCodes) && self.fitted)
    }

    fn model_bytes(&self) -> Option<u64> {
        Some(if self.has(Fault::LiesAboutModel) { 1 << 40 } else { 8 * self.space.dim as u64 })
    }

    fn ratio(&self, space: Space) -> f64 {
        let truth = 4.0 * space.dim as f64 / self.code_bytes() as f64;
        if self.has(Fault::LiesAboutRatio) { 1.01 * truth } else { truth }
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let mut shift = 0;
        if self.has(Fault::NewCodesEachCall) {
            shift = (CALLS.fetch_add(1, Ordering::Relaxed) % 2) as u8;
        }
        if self.has(Fault::DependsOnBatch) {
            shift = u8::from(x.nrows() == 1);
        }
        if self.has(Fault::SharesState) {
            shift = u8::from(
                *SHARED.lock().expect("no test panics while it holds the lock") != self.low[0],
            );
        }
        if self.has(Fault::SharesScratch) {
            shift = u8::from(BUSY.swap(true, Ordering::SeqCst));
            std::thread::sleep(Duration::from_millis(2));
            BUSY.store(false, Ordering::SeqCst);
        }
        let large = x.nrows() > LARGE;
        if self.has(Fault::DependsOnOrder) && x.nrows() > 1 {
            // Of the first row and the last: another for most batches backwards.
            shift = u8::from(x[[0, 0]] > x[[x.nrows() - 1, 0]]);
        }
        if self.has(Fault::DependsOnLargeCalls) {
            shift = u8::from(large);
        }
        ctx.par_rows(x, codes, |x, code| {
            let kept = code[0];
            self.encode(x, code, shift);
            if self.has(Fault::LeavesCodeByte)
                || self.has(Fault::LeavesCodesOfLargeCalls) && large && x[0] > 1.0
            {
                code[0] = kept;
            }
        })
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        mut x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let strange = codes.iter().any(|code| u32::from(*code) >= self.rungs.rungs);
        if strange && !self.has(Fault::LeavesCodeByte) {
            assert!(!self.has(Fault::PanicsOnStrangeCodes), "index out of range");
            return Err(Error::failed("a code above the last rung"));
        }
        let n = codes.nrows();
        if self.has(Fault::LeavesLastRow) && n > 1
            || self.has(Fault::LeavesRowsOfLargeCalls) && n > LARGE
        {
            x = x.slice_move(ndarray::s![..n - 1, ..]);
        }
        ctx.par_rows(codes.slice(ndarray::s![..x.nrows(), ..]), x.view_mut(), |code, x| {
            self.decode(code, x);
            if self.has(Fault::PoorQuality) {
                x.iter_mut().for_each(|x| *x *= 9.0);
            }
        })?;
        if self.has(Fault::NanOutput) {
            x[[n / 2, 0]] = f32::NAN;
        }
        if self.has(Fault::DecodesByBatch) && n == 1
            || self.has(Fault::DecodesLargeCallsOtherwise) && n > LARGE
            || self.has(Fault::NewRowsEachCall) && DECODED.fetch_add(1, Ordering::Relaxed) % 2 == 1
        {
            x += 1.0;
        }
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(ModelWriter::new()
            .f32s(self.low.iter().copied())
            .f32s(self.step.iter().copied())
            .finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        if self.has(Fault::LoadsTruncated) && model.len() < 16 + 8 * self.space.dim {
            return Ok(());
        }
        let mut reader = ModelReader::new(model);
        self.low = reader.f32s(self.space.dim)?.into();
        self.step = reader.f32s(self.space.dim)?.into();
        if self.has(Fault::LoadsWrongly) {
            self.step *= 1.0 + f32::EPSILON;
        }
        reader.finish()
    }

    fn score(&self, query: &[f32], codes: ArrayView2<'_, u8>, estimates: &mut [f32]) {
        let mut x = vec![0.0; query.len()];
        let large = estimates.len() > LARGE;
        let kept = estimates.last().copied();
        for (code, estimate) in codes.outer_iter().zip(&mut *estimates) {
            self.decode(&code.to_vec(), &mut x);
            let pairs = query.iter().zip(&x);
            *estimate = match self.space.metric {
                vq_plugin_api::Metric::L2 => pairs.map(|(q, x)| (q - x) * (q - x)).sum(),
                _ => pairs.map(|(q, x)| q * x).sum(),
            };
            if self.has(Fault::ScoresUnrelated) {
                *estimate = -*estimate;
            }
        }
        if self.has(Fault::ScoresNan) {
            estimates[0] = f32::NAN;
        }
        if self.has(Fault::ScoresConstantly) {
            estimates.fill(0.5);
        }
        if self.has(Fault::ScoresLargeCallsOtherwise) && estimates.len() > LARGE {
            estimates.reverse();
        }
        if self.has(Fault::ScoresByBatch) {
            estimates[0] += if estimates.len() == 1 { 0.1 } else { 0.0 };
        }
        if let (Some(last), Some(kept)) = (estimates.last_mut(), kept)
            && (self.has(Fault::LeavesEstimate)
                || self.has(Fault::LeavesEstimatesOfLargeCalls) && large)
        {
            *last = kept;
        }
    }

    fn bounds(&self, mut bounds: &mut [f32]) {
        if self.has(Fault::LeavesBound)
            || self.has(Fault::LeavesBoundsOfLargeCalls) && bounds.len() > LARGE
        {
            bounds = bounds.split_first_mut().map_or(&mut [], |(_, rest)| rest);
        }
        bounds.fill(match self.fault {
            negative if negative == Fault::NegativeBounds as u8 => -1.0,
            infinite if infinite == Fault::InfiniteBounds as u8 => f32::INFINITY,
            _ => 1.0,
        });
    }
}

impl Ladder {
    fn search(
        &self,
        queries: ArrayView2<'_, f32>,
        codes: Packed<'_>,
        hits: Hits<'_>,
    ) -> Result<(), Error> {
        let (n, k) = (codes.n, hits.k());
        let rows = ArrayView2::from_shape((n, self.space.dim), codes.bytes).expect("all codes");
        let sign = if self.space.metric == vq_plugin_api::Metric::L2 { 1.0 } else { -1.0 };
        hits.fill_each(queries, |query| {
            let mut estimates = vec![0.0; n];
            Ladder { fault: Fault::None as u8, ..self.clone() }.score(
                &query.to_vec(),
                rows,
                &mut estimates,
            );
            let mut best: Vec<(f32, u64)> = estimates.into_iter().zip(0..).collect();
            best.sort_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)).then(a.1.cmp(&b.1)));
            let distinct = n > 3 && best[0].0 != best[1].0;
            if n > 3 {
                match self.fault {
                    f if f == Fault::FindsRowsBeyondTheBlock as u8 => best[1].1 = n as u64,
                    f if f == Fault::FindsTwice as u8 => best[1] = best[0],
                    f if f == Fault::FindsUnsorted as u8 => best.swap(1, 2),
                    f if f == Fault::FindsTooFew as u8 => best.truncate(5),
                    f if f == Fault::FindsTheLaterOfEquals as u8 => {
                        best.sort_by(|a, b| {
                            (sign * a.0).total_cmp(&(sign * b.0)).then(b.1.cmp(&a.1))
                        });
                    }
                    f if f == Fault::FindsAnotherEstimate as u8 => best[0].0 -= sign * 1e-3,
                    f if f == Fault::MissesTheSecond as u8 && distinct && k < n => {
                        best.remove(1);
                    }
                    f if f == Fault::MissesTheLastOfLargeCalls as u8 && n > LARGE => {
                        best.remove(k - 1);
                    }
                    f if f == Fault::MissesTheFirstOfEquals as u8
                        && k < n
                        && best[0].0 == best[1].0 =>
                    {
                        best.remove(0);
                    }
                    f if f == Fault::FindsTheFarthest as u8 && distinct => {
                        drop(best.drain(..n - k.min(n)))
                    }
                    f if f == Fault::FindsNan as u8 => best[0].0 = f32::NAN,
                    _ => {}
                }
            }
            Ok(best)
        })
    }
}

/// The grid generator, with the faults that it can have.
fn expand_grid(fault: u8, request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
    let has = |one: Fault| fault == one as u8;
    let mut request = request.clone();
    let asked = request.bits_per_dim.is_some();
    if has(Fault::EmptyGrid) || has(Fault::RateForgotten) && asked {
        return Ok(());
    }
    if has(Fault::IgnoresAxes) {
        request.axes.clear();
    }
    let schema = schema(fault);
    for mut config in quantizer::cartesian(&schema, &request, &[]) {
        let label = quantizer::label(&schema, &request, &config);
        if has(Fault::ProposesNonsense) {
            config.insert("keep".into(), Value::Float(2.0));
        }
        match rungs(fault, &config) {
            Err(error) if !has(Fault::ProposesNonsense) => sink.skip(&config, &error.to_string()),
            _ => {
                sink.emit(&config, &label);
            }
        }
    }
    Ok(())
}

/// A [`Ladder`] with fault `F`: one method table for each.
struct Faulty<const F: u8>(Ladder);

impl<const F: u8> Quantizer for Faulty<F> {
    type Params = Settings<F>;
    const METHOD: Method = if F == Fault::NoTexts as u8 {
        Method::new("ladder", "Ladder")
    } else {
        Method::new("ladder", "Ladder").version("1").description("Even levels.").license("MIT")
    };

    fn create(Settings(rungs): Settings<F>, space: Space) -> Result<Self, Error> {
        if F == Fault::Leaks as u8 {
            std::hint::black_box(vec![1u8; 64 << 10].leak());
        }
        let (low, step) = (Array1::zeros(space.dim), Array1::ones(space.dim));
        Ok(Faulty(Ladder { fault: F, rungs, space, low, step, fitted: false }))
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        self.0.fit(train, ctx)
    }

    fn code_bytes(&self) -> usize {
        self.0.code_bytes()
    }

    fn model_bytes(&self) -> Option<u64> {
        self.0.model_bytes()
    }

    fn ratio(&self, space: Space) -> f64 {
        self.0.ratio(space)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.0.compress(x, codes, ctx)
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.0.decompress(codes, x, ctx)
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        self.0.save()
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        self.0.load(model)
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        expand_grid(F, request, sink)
    }
}

impl<const F: u8> Scorer for Faulty<F> {
    type Query = Vec<f32>;
    const BOUNDS: bool = true;

    fn query(&self, query: ArrayView1<'_, f32>, _: &Context<'_>) -> Result<Vec<f32>, Error> {
        Ok(query.to_vec())
    }

    fn score(
        &self,
        query: &Vec<f32>,
        codes: ArrayView2<'_, u8>,
        estimates: &mut [f32],
        bounds: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        self.0.score(query, codes, estimates);
        if let Some(bounds) = bounds {
            self.0.bounds(bounds);
        }
        Ok(())
    }
}

impl<const F: u8> Search for Faulty<F> {
    // A scorer with a fault of its own ranks otherwise.
    const RANKS_ESTIMATES: bool = F == Fault::None as u8
        || F >= Fault::FindsRowsBeyondTheBlock as u8 && F < Fault::MissesTheFirstOfEquals as u8;

    fn search(
        &self,
        queries: ArrayView2<'_, f32>,
        codes: Packed<'_>,
        hits: Hits<'_>,
        _: &Context<'_>,
    ) -> Result<(), Error> {
        self.0.search(queries, codes, hits)
    }
}

/// What the ladder offers, with its table.
fn table<const F: u8>() -> &'static VqMethod {
    use vq_plugin_api::extension::offered;
    adapter::method::<Faulty<F>, (offered::Scorer, (offered::Search, ()))>()
}

fn ladder<const F: u8>() -> &'static VqPlugin {
    adapter::plugin(vec![table::<F>()])
}

/// The rules that fired, true for an error.
fn fired(report: &Report) -> BTreeMap<&'static str, bool> {
    let mut fired = BTreeMap::new();
    for finding in report.findings() {
        *fired.entry(finding.rule).or_default() |= finding.severity == Severity::Error;
    }
    fired
}

fn assert_only(report: &Report, rule: &'static str, severity: Severity) {
    let expected = BTreeMap::from([(rule, severity == Severity::Error)]);
    assert_eq!(fired(report), expected, "\n{report}");
}

macro_rules! one_fault_one_rule {
    ($($test:ident: $fault:ident => $severity:ident $rule:literal;)+) => { $(
        #[test]
        fn $test() {
            let report = conformance::check(ladder::<{ Fault::$fault as u8 }>());
            assert_only(&report, $rule, Severity::$severity);
        }
    )+ };
}

one_fault_one_rule! {
    missing_texts_are_noticed: NoTexts => Warning "descriptor";
    missing_help_is_noticed: NoHelp => Warning "schema";
    choices_outside_the_range_are_noticed: ChoicesOutOfRange => Error "schema";
    an_empty_grid_is_noticed: EmptyGrid => Error "grid-default";
    ignored_axes_are_noticed: IgnoresAxes => Error "grid-axes";
    a_forgotten_rate_is_noticed: RateForgotten => Warning "grid-rate";
    a_blunt_refusal_is_noticed: BluntAtBoundary => Error "config-boundaries";
    silent_clamping_is_noticed: ClampsSilently => Error "config-range";
    values_of_any_kind_are_noticed: AcceptsAnyKind => Error "config-kind";
    accepted_unknown_parameters_are_noticed: AcceptsUnknown => Error "config-unknown";
    a_leak_is_noticed: Leaks => Error "leak";
    refused_dimensions_are_noticed: RefusesOddDimensions => Error "round-trip";
    growing_codes_are_noticed: GrowsItsCodes => Error "code-bytes";
    unwritten_rows_are_noticed: LeavesLastRow => Error "fully-written";
    an_unwritten_code_byte_is_noticed: LeavesCodeByte => Error "fully-written";
    an_unwritten_code_of_a_large_call_is_noticed:
        LeavesCodesOfLargeCalls => Error "fully-written";
    an_unwritten_row_of_a_large_call_is_noticed: LeavesRowsOfLargeCalls => Error "fully-written";
    an_unwritten_estimate_is_noticed: LeavesEstimate => Error "fully-written";
    an_unwritten_estimate_of_a_large_call_is_noticed:
        LeavesEstimatesOfLargeCalls => Error "fully-written";
    an_unwritten_bound_is_noticed: LeavesBound => Error "fully-written";
    an_unwritten_bound_of_a_large_call_is_noticed:
        LeavesBoundsOfLargeCalls => Error "fully-written";
    nan_output_is_noticed: NanOutput => Error "finite-output";
    codes_that_change_between_calls_are_noticed: NewCodesEachCall => Error "determinism";
    rows_that_change_between_calls_are_noticed: NewRowsEachCall => Error "determinism";
    randomness_beside_the_seed_is_noticed: IgnoresSeed => Error "determinism";
    dependence_on_threads_is_noticed: DependsOnThreads => Error "determinism";
    an_untrue_ratio_is_noticed: LiesAboutRatio => Error "ratio";
    an_untrue_model_size_is_noticed: LiesAboutModel => Warning "model-bytes";
    batch_dependent_codes_are_noticed: DependsOnBatch => Error "batch-independence";
    codes_that_depend_on_the_order_are_noticed: DependsOnOrder => Error "batch-independence";
    codes_that_differ_in_large_calls_are_noticed: DependsOnLargeCalls => Error "batch-independence";
    rows_that_differ_in_large_calls_are_noticed: DecodesLargeCallsOtherwise => Error "batch-independence";
    estimates_that_differ_in_large_calls_are_noticed:
        ScoresLargeCallsOtherwise => Error "batch-independence";
    batch_dependent_rows_are_noticed: DecodesByBatch => Error "batch-independence";
    batch_dependent_estimates_are_noticed: ScoresByBatch => Error "batch-independence";
    one_bit_changed_by_load_is_noticed: LoadsWrongly => Error "save-load";
    nan_estimates_are_noticed: ScoresNan => Error "scorer";
    negative_bounds_are_noticed: NegativeBounds => Error "scorer";
    infinite_bounds_are_noticed: InfiniteBounds => Error "scorer";
    constant_estimates_are_noticed: ScoresConstantly => Warning "scorer-agreement";
    unrelated_estimates_are_noticed: ScoresUnrelated => Warning "scorer-agreement";
    decreasing_progress_is_noticed: ProgressDecreases => Error "progress";
    an_ignored_cancel_is_noticed: IgnoresCancel => Error "cancel";
    state_shared_by_instances_is_noticed: SharesState => Error "isolation";
    scratch_shared_by_threads_is_noticed: SharesScratch => Error "concurrency";
    nan_from_one_row_is_noticed: NanFromOneRow => Error "small-training";
    a_panic_on_one_row_is_noticed: PanicsOnOneRow => Error "no-panic";
    nan_from_a_constant_dimension_is_noticed: NanFromConstant => Error "degenerate-data";
    nan_from_huge_values_is_noticed: NanFromHuge => Warning "huge-values";
    a_panic_on_nan_is_noticed: PanicsOnNan => Error "no-panic";
    an_accepted_truncated_model_is_noticed: LoadsTruncated => Warning "damaged-model";
    a_panic_on_strange_codes_is_noticed: PanicsOnStrangeCodes => Error "no-panic";
    a_row_beyond_the_block_is_noticed: FindsRowsBeyondTheBlock => Error "search";
    a_row_found_twice_is_noticed: FindsTwice => Error "search";
    an_unsorted_answer_is_noticed: FindsUnsorted => Error "search";
    an_answer_of_too_few_is_noticed: FindsTooFew => Error "search";
    the_later_of_equal_estimates_is_noticed: FindsTheLaterOfEquals => Error "search";
    another_estimate_than_the_scorers_is_noticed: FindsAnotherEstimate => Error "search-ranking";
    a_missed_code_is_noticed: MissesTheSecond => Error "search-ranking";
    a_missed_code_of_a_large_call_is_noticed:
        MissesTheLastOfLargeCalls => Error "search-ranking";
    nan_from_a_search_is_noticed: FindsNan => Error "search";
    a_lower_row_that_loses_a_tie_is_noticed: MissesTheFirstOfEquals => Error "search-ties";
    a_search_for_the_farthest_is_noticed: FindsTheFarthest => Warning "search-agreement";
}

#[test]
fn a_method_that_keeps_the_contract_passes() {
    let report = conformance::check(ladder::<{ Fault::None as u8 }>());
    report.assert_clean();
    assert_eq!(fired(&report), [].into(), "\n{report}");
    assert_eq!(report.methods[0].skipped, [], "\n{report}");
    assert!(report.methods[0].checks_run > 100, "{}", report.methods[0].checks_run);
}

#[test]
fn a_worthless_reconstruction_is_noticed() {
    let report = conformance::check(ladder::<{ Fault::PoorQuality as u8 }>());
    assert!(fired(&report).contains_key("quality"), "\n{report}");
    assert_eq!(report.errors().count(), 0, "\n{report}");
}

#[test]
fn nonsense_from_the_generator_is_noticed() {
    let report = conformance::check(ladder::<{ Fault::ProposesNonsense as u8 }>());
    let expected = [("grid-axes", true), ("grid-default", true)];
    assert_eq!(fired(&report), expected.into(), "\n{report}");
}

#[test]
fn the_observer_hears_every_rule_before_it_runs() {
    let plugin = Plugin::linked(ladder::<{ Fault::None as u8 }>()).unwrap();
    let mut heard = Vec::new();
    let report = conformance::check_plugin(&plugin, &mut |event| {
        if let Event::Begins(told) = event {
            heard.push(told.to_owned());
        }
    });
    assert_eq!(heard.len(), report.methods[0].checks_run);
    let batch = "ladder: batch-independence (default configuration, d = 32, L2)";
    assert!(heard.iter().any(|told| told == batch), "{heard:?}");
    let cells = ["d = 1,", "d = 3,", "d = 7,", "d = 13,", "d = 100,", "Ip", "Cosine", "rungs=16"];
    for cell in cells {
        assert!(heard.iter().any(|told| told.contains(cell)), "{cell}: {heard:?}");
    }
}

#[test]
fn the_listing_names_function_input_and_contract() {
    let report = conformance::check(ladder::<{ Fault::PanicsOnOneRow as u8 }>());
    let finding = report.errors().next().unwrap();
    assert_eq!((finding.method.as_str(), finding.function), ("ladder", "fit"));
    assert!(finding.input.contains("default configuration, d = 32, L2"), "{finding}");
    assert!(finding.input.contains("1 rows"), "{finding}");
    assert_eq!(finding.found, "panicked: one row");
    assert!(report.to_string().contains("error no-panic in fit"), "{report}");
    assert!(std::panic::catch_unwind(|| report.assert_clean()).is_err());
}

// -- faults that the safe SDK makes impossible: a good table with one function replaced --------

type Compress = unsafe extern "C" fn(
    *const core::ffi::c_void,
    *const VqCtx,
    VqMat,
    VqCodesMut,
    *mut VqBuf,
) -> i32;

fn good() -> &'static VqMethod {
    static GOOD: std::sync::OnceLock<&'static VqMethod> = std::sync::OnceLock::new();
    GOOD.get_or_init(table::<{ Fault::None as u8 }>)
}

fn good_compress() -> Compress {
    good().compress.expect("the SDK fills the table")
}

fn changed(change: impl FnOnce(&mut VqMethod)) -> Report {
    let mut method = *good();
    change(&mut method);
    conformance::check(adapter::plugin(vec![Box::leak(Box::new(method))]))
}

macro_rules! replaced {
    ($($(#[$meta:meta])* $field:ident: $name:ident($($arg:ident: $ty:ty),+) $body:block => $rule:literal;)+) => { $(
        $(#[$meta])*
        #[test]
        fn $name() {
            unsafe extern "C" fn replacement($($arg: $ty),+) -> i32 $body
            let report = changed(|method| method.$field = Some(replacement));
            assert_only(&report, $rule, Severity::Error);
        }
    )+ };
}

type This = *const core::ffi::c_void;

replaced! {
    compress: codes_written_past_the_end_are_noticed(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good_compress()(this, ctx, x, codes, err) };
        // SAFETY: the kit's buffer goes on for a page after its last code.
        let past = unsafe { codes.data.add(codes.rows * codes.row_stride) };
        // SAFETY: as above.
        unsafe { past.write(0) };
        code
    } => "output-bounds";

    decompress: rows_written_before_the_start_are_noticed(
        this: This,
        ctx: *const VqCtx,
        codes: VqCodes,
        x: VqMatMut,
        err: *mut VqBuf
    ) {
        // SAFETY: the kit's buffer starts a page before its first row.
        let before = unsafe { x.data.sub(1) };
        // SAFETY: as above.
        unsafe { before.write(0.0) };
        // SAFETY: the arguments are passed on.
        unsafe { good().decompress.unwrap()(this, ctx, codes, x, err) }
    } => "output-bounds";

    save: a_model_written_past_the_end_is_noticed(this: This, model: *mut VqBuf, err: *mut VqBuf) {
        // SAFETY: the kit lends its buffer during the call.
        let buf = unsafe { *model };
        // SAFETY: the kit's buffer goes on for a page after its last byte.
        let past = unsafe { buf.ptr.add(buf.cap) };
        // SAFETY: as above.
        unsafe { past.write(0) };
        // SAFETY: the arguments are passed on.
        unsafe { good().save.unwrap()(this, model, err) }
    } => "output-bounds";

    compress: rows_that_compress_writes_into_are_noticed(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good_compress()(this, ctx, x, codes, err) };
        if x.rows > 0 {
            // SAFETY: the first of the values that were lent to read, in memory of the kit's.
            unsafe { x.data.cast_mut().write(0.0) };
        }
        code
    } => "lent-input";

    compress: what_lies_between_rows_is_nobodys_to_write(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        if x.row_stride > x.dim {
            // SAFETY: behind the first row and before the second.
            let between = unsafe { x.data.cast_mut().add(x.dim) };
            // SAFETY: as above.
            unsafe { between.write(0.0) };
        }
        // SAFETY: the arguments are passed on.
        unsafe { good_compress()(this, ctx, x, codes, err) }
    } => "lent-input";

    decompress: codes_that_decompress_writes_into_are_noticed(
        this: This,
        ctx: *const VqCtx,
        codes: VqCodes,
        x: VqMatMut,
        err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good().decompress.unwrap()(this, ctx, codes, x, err) };
        if codes.rows > 0 {
            // SAFETY: the first of the bytes that were lent to read, in memory of the kit's.
            unsafe { codes.data.cast_mut().write(1) };
            // SAFETY: likewise.
            let last = unsafe { codes.data.cast_mut().add(codes.code_bytes - 1) };
            // SAFETY: likewise.
            unsafe { last.write(0) };
        }
        code
    } => "lent-input";

    fit: training_rows_that_fit_writes_into_are_noticed(
        this: *mut core::ffi::c_void, ctx: *const VqCtx, train: VqMat, err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good().fit.unwrap()(this, ctx, train, err) };
        if train.rows > 3 {
            // SAFETY: the first of the values that were lent to read, in memory of the kit's.
            unsafe { train.data.cast_mut().write(0.0) };
        }
        code
    } => "lent-input";

    compress: an_ignored_stride_is_noticed(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        let x = VqMat { row_stride: x.dim, ..x };
        // SAFETY: the arguments are passed on, with fewer floats than were lent.
        unsafe { good_compress()(this, ctx, x, codes, err) }
    } => "strides";

    compress: a_refused_empty_batch_is_noticed(
        this: This, ctx: *const VqCtx, x: VqMat, codes: VqCodesMut, err: *mut VqBuf
    ) {
        // An error with a sentence: "no vq_ctx".
        let ctx = if x.rows == 0 { core::ptr::null() } else { ctx };
        // SAFETY: the arguments are passed on.
        unsafe { good_compress()(this, ctx, x, codes, err) }
    } => "empty-batch";

    decompress: success_before_fit_is_noticed(
        this: This,
        ctx: *const VqCtx,
        codes: VqCodes,
        x: VqMatMut,
        err: *mut VqBuf
    ) {
        // SAFETY: the arguments are passed on.
        let code = unsafe { good().decompress.unwrap()(this, ctx, codes, x, err) };
        // SAFETY: the kit lends its buffer during the call.
        let said = unsafe { (*err).ptr };
        // SAFETY: as above; text is there whenever an error is returned.
        let first = unsafe { said.read() };
        // "decompress was called before fit or load"
        if code == rc::ERROR && first == b'd' { rc::OK } else { code }
    } => "order";

    fit: an_ignored_dimension_is_noticed(
        this: *mut core::ffi::c_void, ctx: *const VqCtx, train: VqMat, err: *mut VqBuf
    ) {
        let fit = good().fit.unwrap();
        // SAFETY: the arguments are passed on.
        let code = unsafe { fit(this, ctx, train, err) };
        if code != rc::ERROR || train.rows != 50 {
            return code;
        }
        let narrow = VqMat { dim: train.dim - 1, ..train };
        // SAFETY: as above, with fewer floats than were lent.
        unsafe { fit(this, ctx, narrow, err) }
    } => "wrong-dimension";

    compress: an_unknown_return_code_is_noticed(
        _this: This, _ctx: *const VqCtx, _x: VqMat, _codes: VqCodesMut, _err: *mut VqBuf
    ) {
        99
    } => "return-values";
}

/// True for the id of the scorer.
fn is_scorer(id: VqStr) -> bool {
    // SAFETY: the host's text lives during the call.
    unsafe { core::slice::from_raw_parts(id.ptr, id.len) == SCORER_V1.as_bytes() }
}

fn good_scorer() -> &'static VqScorerV1 {
    let get = good().get_extension.expect("it has extensions");
    // SAFETY: the SDK's own table; the id lives during the call.
    let table = unsafe { get(VqStr::new(SCORER_V1)) };
    // SAFETY: what that id stands for, static.
    unsafe { &*table.cast() }
}

#[test]
fn places_that_a_search_does_not_write_are_noticed() {
    unsafe extern "C" fn nothing(
        _this: This,
        _ctx: *const VqCtx,
        _queries: VqMat,
        _packed: *const u8,
        _len: usize,
        _n: usize,
        _k: usize,
        _ids: *mut u64,
        _estimates: *mut f32,
        _err: *mut VqBuf,
    ) -> i32 {
        rc::OK
    }
    static TABLE: VqSearchV1 = VqSearchV1 {
        struct_size: size_of::<VqSearchV1>() as u32,
        flags: 0,
        packed_bytes: None,
        pack: None,
        search: Some(nothing),
        reserved: 0,
    };
    unsafe extern "C" fn extension(id: VqStr) -> *const core::ffi::c_void {
        // SAFETY: the host's text lives during the call.
        let id = unsafe { core::slice::from_raw_parts(id.ptr, id.len) };
        if id == SEARCH_V1.as_bytes() { (&raw const TABLE).cast() } else { core::ptr::null() }
    }
    let report = changed(|method| method.get_extension = Some(extension));
    let written = report.findings().filter(|finding| finding.rule == "fully-written").count();
    assert!(written > 0, "\n{report}");
    assert_eq!(report.errors().next().unwrap().function, "search");
}

#[test]
fn a_table_for_an_unknown_id_is_noticed() {
    unsafe extern "C" fn extension(id: VqStr) -> *const core::ffi::c_void {
        // SAFETY: the host's text lives during the call.
        let known = unsafe { core::slice::from_raw_parts(id.ptr, id.len) } == SEARCH_V1.as_bytes();
        if known { core::ptr::null() } else { core::ptr::from_ref(good_scorer()).cast() }
    }
    let report = changed(|method| method.get_extension = Some(extension));
    assert_only(&report, "extensions", Severity::Error);
}

/// The report on the good method with `scorer` for its own.
macro_rules! with_scorer {
    ($($field:ident: $value:expr),+) => {{
        static TABLE: std::sync::OnceLock<VqScorerV1> = std::sync::OnceLock::new();
        TABLE.get_or_init(|| VqScorerV1 { $($field: $value,)+ ..*good_scorer() });
        unsafe extern "C" fn extension(id: VqStr) -> *const core::ffi::c_void {
            if is_scorer(id) { core::ptr::from_ref(TABLE.get().unwrap()).cast() } else { core::ptr::null() }
        }
        changed(|method| method.get_extension = Some(extension))
    }};
}

#[test]
fn queries_and_packed_codes_that_score_writes_into_are_noticed() {
    unsafe extern "C" fn into_queries(
        this: This,
        ctx: *const VqCtx,
        queries: VqMat,
        codes: *const u8,
        len: usize,
        n: usize,
        estimates: VqMatMut,
        bounds: VqMatMut,
        err: *mut VqBuf,
    ) -> i32 {
        let score = good_scorer().score.expect("it scores");
        // SAFETY: the arguments are passed on.
        let code = unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) };
        if queries.rows > 0 {
            // SAFETY: the first of the values that were lent to read, in memory of the kit's.
            unsafe { queries.data.cast_mut().write(9.0) };
        }
        code
    }
    unsafe extern "C" fn into_codes(
        this: This,
        ctx: *const VqCtx,
        queries: VqMat,
        codes: *const u8,
        len: usize,
        n: usize,
        estimates: VqMatMut,
        bounds: VqMatMut,
        err: *mut VqBuf,
    ) -> i32 {
        let score = good_scorer().score.expect("it scores");
        // SAFETY: the arguments are passed on.
        let code = unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) };
        if len > 0 {
            // SAFETY: the first of the bytes that were lent to read, in memory of the kit's.
            let first = unsafe { codes.read() };
            // SAFETY: likewise.
            unsafe { codes.cast_mut().write(!first) };
        }
        code
    }
    for (report, name) in [
        (with_scorer!(score: Some(into_queries)), "queries"),
        (with_scorer!(score: Some(into_codes)), "codes"),
    ] {
        assert_only(&report, "lent-input", Severity::Error);
        let finding = report.errors().next().unwrap();
        let found = format!("wrote into {name}, which it was lent");
        assert_eq!((finding.function, &finding.found), ("score", &found));
    }
}

/// Packed codes that begin with eight bytes that nothing is written into.
mod padded {
    use super::*;

    pub(super) const PADDING: usize = 8;

    pub(super) unsafe extern "C" fn packed_bytes(this: This, n: usize) -> usize {
        // SAFETY: the instance is passed on.
        PADDING + n * unsafe { good().code_bytes.expect("it says so")(this) }
    }

    pub(super) unsafe extern "C" fn pack(
        _this: This,
        _ctx: *const VqCtx,
        codes: VqCodes,
        packed: *mut u8,
        _packed_len: usize,
        _err: *mut VqBuf,
    ) -> i32 {
        for row in 0..codes.rows {
            // SAFETY: a row of what was lent.
            let from = unsafe { codes.data.add(row * codes.row_stride) };
            // SAFETY: its place behind the padding.
            let to = unsafe { packed.add(PADDING + row * codes.code_bytes) };
            // SAFETY: a code of each, in memory of its own.
            unsafe { to.copy_from_nonoverlapping(from, codes.code_bytes) };
        }
        rc::OK
    }

    pub(super) unsafe extern "C" fn score(
        this: This,
        ctx: *const VqCtx,
        queries: VqMat,
        codes: *const u8,
        len: usize,
        n: usize,
        estimates: VqMatMut,
        bounds: VqMatMut,
        err: *mut VqBuf,
    ) -> i32 {
        let score = good_scorer().score.expect("it scores");
        // SAFETY: `packed_bytes` has asked for the padding.
        let (codes, len) = (unsafe { codes.add(PADDING) }, len - PADDING);
        // SAFETY: the arguments are passed on.
        unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) }
    }

    /// The same, adding a byte of the padding to the first estimate.
    pub(super) unsafe extern "C" fn score_of_padding(
        this: This,
        ctx: *const VqCtx,
        queries: VqMat,
        codes: *const u8,
        len: usize,
        n: usize,
        estimates: VqMatMut,
        bounds: VqMatMut,
        err: *mut VqBuf,
    ) -> i32 {
        // SAFETY: the arguments are passed on.
        let code = unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) };
        if estimates.rows > 0 && n > 0 {
            // SAFETY: the first byte of the padding.
            let padding = f32::from(unsafe { codes.read() });
            // SAFETY: the first estimate, which was just written.
            let first = unsafe { estimates.data.read() };
            // SAFETY: likewise.
            unsafe { estimates.data.write(first + padding) };
        }
        code
    }
}

#[test]
fn packed_bytes_that_nobody_reads_may_stay_unwritten() {
    let report = with_scorer!(
        packed_bytes: Some(padded::packed_bytes),
        pack: Some(padded::pack),
        score: Some(padded::score)
    );
    assert_eq!(fired(&report), [].into(), "\n{report}");
}

#[test]
fn packed_bytes_that_are_read_must_be_written() {
    let report = with_scorer!(
        packed_bytes: Some(padded::packed_bytes),
        pack: Some(padded::pack),
        score: Some(padded::score_of_padding)
    );
    assert_only(&report, "fully-written", Severity::Error);
    assert_eq!(report.errors().next().unwrap().function, "pack");
}

#[test]
fn a_table_without_fit_is_noticed() {
    let report = changed(|method| method.fit = None);
    assert_only(&report, "table", Severity::Error);
    assert_eq!(report.errors().next().unwrap().found, "method ladder: it has no fit");
}

/// An instance that was loaded and has no scorer, or another: only decoding is promised.
#[test]
fn a_scorer_that_is_gone_after_load_is_noted_and_no_fault() {
    unsafe extern "C" fn only_once_fitted(
        this: This,
        ctx: *const VqCtx,
        queries: VqMat,
        codes: *const u8,
        len: usize,
        n: usize,
        estimates: VqMatMut,
        bounds: VqMatMut,
        err: *mut VqBuf,
    ) -> i32 {
        if LOADED.lock().unwrap().contains(&this.addr()) {
            const WHY: &str = "not after load";
            // SAFETY: the kit lends its buffer, larger than this, during the call.
            let text = unsafe { &mut *err };
            // SAFETY: as above.
            unsafe { text.ptr.copy_from_nonoverlapping(WHY.as_ptr(), WHY.len()) };
            text.len = WHY.len();
            return rc::UNSUPPORTED;
        }
        let score = good_scorer().score.expect("it scores");
        // SAFETY: the arguments are passed on.
        unsafe { score(this, ctx, queries, codes, len, n, estimates, bounds, err) }
    }
    static LOADED: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());
    static TABLE: std::sync::OnceLock<VqScorerV1> = std::sync::OnceLock::new();
    TABLE.get_or_init(|| VqScorerV1 { score: Some(only_once_fitted), ..*good_scorer() });
    unsafe extern "C" fn extension(id: VqStr) -> *const core::ffi::c_void {
        if is_scorer(id) {
            core::ptr::from_ref(TABLE.get().unwrap()).cast()
        } else {
            core::ptr::null()
        }
    }
    unsafe extern "C" fn load(this: *mut core::ffi::c_void, model: VqStr, err: *mut VqBuf) -> i32 {
        LOADED.lock().unwrap().insert(this.addr());
        // SAFETY: the arguments are passed on.
        unsafe { good().load.unwrap()(this, model, err) }
    }
    unsafe extern "C" fn fit(
        this: *mut core::ffi::c_void,
        ctx: *const VqCtx,
        train: VqMat,
        err: *mut VqBuf,
    ) -> i32 {
        LOADED.lock().unwrap().remove(&this.addr());
        // SAFETY: the arguments are passed on.
        unsafe { good().fit.unwrap()(this, ctx, train, err) }
    }
    let report = changed(|method| {
        method.get_extension = Some(extension);
        method.load = Some(load);
        method.fit = Some(fit);
    });
    assert_eq!(fired(&report), [].into(), "\n{report}");
    let note = &report.methods[0].skipped[0];
    assert_eq!(note.rule, "save-load");
    assert!(note.why.contains("leaves its metrics unproven"), "{note}");
}

#[test]
fn a_print_is_the_same_each_time_and_tells_what_differs() {
    let silent = || std::sync::Arc::new(|_: vq_plugin_api::Level, _: &str| ());
    let print = |plugin: &'static VqPlugin| {
        let plugin = Plugin::linked(plugin).unwrap();
        conformance::print(&plugin.methods()[0], &Config::new(), silent())
    };
    let good = ladder::<{ Fault::None as u8 }>();
    let first = print(good).unwrap();
    assert_eq!(print(good), Some(first));
    let plugin = Plugin::linked(good).unwrap();
    let mut heard = None;
    conformance::check_plugin(&plugin, &mut |event| {
        if let Event::Printed(print) = event {
            assert_eq!(heard.replace(*print), None, "one print for a method");
        }
    });
    assert_eq!(heard, Some(first), "a check prints what print does");

    let differs = |plugin| print(plugin).unwrap().difference(&print(plugin).unwrap());
    let seedless = ladder::<{ Fault::IgnoresSeed as u8 }>();
    assert_eq!(differs(seedless).map(|(function, _)| function), Some("fit"));
    assert_eq!(differs(good), None);
    assert_eq!(print(ladder::<{ Fault::NanOutput as u8 }>()), None, "there is nothing to print");
}

#[test]
fn rules_have_distinct_ids_and_a_sentence() {
    let ids: BTreeSet<&str> = conformance::rules().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), conformance::rules().count());
    assert!(conformance::rules().all(|rule| rule.contract.ends_with('.')));
}

/// Texts are shown to people, and some of what shows them is quadratic in a word's length.
#[test]
fn endless_texts_are_cut_and_too_many_values_refused() {
    let plugin = ladder::<{ Fault::None as u8 }>();
    // SAFETY: the table's own pointer.
    let method = unsafe { *plugin.methods };
    // SAFETY: likewise.
    let method: &VqMethod = unsafe { &*method };
    let big: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
    let huge = VqMethod { description: VqStr::new(big), name: VqStr::new(big), ..*method };
    let table = |method: VqMethod| -> &'static VqPlugin {
        let method: *const VqMethod = Box::leak(Box::new(method));
        let methods: &'static [*const VqMethod] = Box::leak(Box::new([method]));
        Box::leak(Box::new(VqPlugin { methods: methods.as_ptr(), n_methods: 1, ..*plugin }))
    };
    let read = Plugin::linked(table(huge)).unwrap();
    let about = read.methods()[0].about();
    assert_eq!(about.description.chars().count(), 2001);
    assert!(about.description.ends_with('…') && about.name.chars().count() == 201);
    let nameless = VqMethod { id: VqStr::new(big), ..*method };
    let refused = Plugin::linked(table(nameless)).unwrap_err().to_string();
    assert!(refused.len() < 500, "{} bytes", refused.len());
    // SAFETY: the table's own pointer.
    let param = unsafe { &*method.params };
    let values = vec![param.default_value; 5000].leak();
    let choices = VqValue {
        kind: vq_plugin_api::abi::kind::LIST,
        items: values.as_ptr(),
        n_items: values.len(),
        ..VqValue::NULL
    };
    let params: &'static [VqParam] = Box::leak(Box::new([VqParam { choices, ..*param }]));
    let many = VqMethod { params: params.as_ptr(), n_params: 1, ..*method };
    let refused = Plugin::linked(table(many)).unwrap_err().to_string();
    assert!(refused.contains("has 5000 choices or grid values"), "{refused}");
    let long =
        VqValue { kind: vq_plugin_api::abi::kind::STRING, s: VqStr::new(big), ..VqValue::NULL };
    let long = vec![long].leak();
    let choices = VqValue { items: long.as_ptr(), n_items: 1, ..choices };
    let params: &'static [VqParam] = Box::leak(Box::new([VqParam { choices, ..*param }]));
    let endless = VqMethod { params: params.as_ptr(), n_params: 1, ..*method };
    let refused = Plugin::linked(table(endless)).unwrap_err().to_string();
    assert!(refused.contains("has a value of 1048576 bytes, above 4096"), "{refused}");
}
