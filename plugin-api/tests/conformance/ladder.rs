//! The method that the kit looks at: even levels, with one of the faults or none.

use ndarray::{Array1, ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use vq_plugin_api::abi::{VqMethod, VqPlugin};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::params::{Config, Param, Params};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Hits, Method, Packed, Quantizer, Scorer, Search, Space,
    Value, adapter, params, quantizer,
};

/// What is wrong with a [`Ladder`].
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Fault {
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
        }
        let large = x.nrows() > LARGE;
        if self.has(Fault::DependsOnOrder) && x.nrows() > 1 {
            // Of the first row and the last: another for most batches backwards.
            shift = u8::from(x[[0, 0]] > x[[x.nrows() - 1, 0]]);
        }
        if self.has(Fault::DependsOnLargeCalls) {
            shift = u8::from(large);
        }
        let done = ctx.par_rows(x, codes, |x, code| {
            let kept = code[0];
            self.encode(x, code, shift);
            if self.has(Fault::LeavesCodeByte)
                || self.has(Fault::LeavesCodesOfLargeCalls) && large && x[0] > 1.0
            {
                code[0] = kept;
            }
        });
        if self.has(Fault::SharesScratch) {
            BUSY.store(false, Ordering::SeqCst);
        }
        done
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
pub(crate) fn table<const F: u8>() -> &'static VqMethod {
    use vq_plugin_api::extension::offered;
    adapter::method::<Faulty<F>, (offered::Scorer, (offered::Search, ()))>()
}

pub(crate) fn ladder<const F: u8>() -> &'static VqPlugin {
    adapter::plugin(vec![table::<F>()])
}
