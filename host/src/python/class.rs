//! The Python class that this process serves as a quantizer of the SDK, and the table that the SDK
//! makes of it.

use super::bridge::{self, Told, lock, metric, rows_at_once};
use super::environment::Environment;
use crate::plugin::config_json;
use crate::worker::protocol::Notice;
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use vq_plugin_api::abi::{VqMethod, VqPlugin, VqStr};
use vq_plugin_api::adapter;
use vq_plugin_api::extension::offered;
use vq_plugin_api::params::{self, Config, Param};
use vq_plugin_api::quantizer::{cartesian, label};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Params, Quantizer, Scorer, Space,
};

/// What the file of this process offers.
static TOLD: OnceLock<Vec<Told>> = OnceLock::new();
/// Which of it [`Class`] stands for: the functions of a table are not told whose they are.
static SERVED: AtomicUsize = AtomicUsize::new(NONE);
const NONE: usize = usize::MAX;

/// Opens the file at `path`, in the interpreter that was started for it; answers its table, and what
/// it was described in. `None` for a file without a class that can be made.
///
/// This process serves `method`, which then is the only one in the table. Without one all are in it,
/// to be described and not to be called.
///
/// # Errors
/// Importing it failed; it no longer has the method.
pub(crate) fn open(
    path: &Path,
    method: Option<&str>,
) -> Result<(Option<&'static VqPlugin>, Environment), Error> {
    let (opened, environment) = lock()?.open(method.is_none())?;
    let told = TOLD.get_or_init(|| opened.methods);
    if told.is_empty() {
        return Ok((None, environment));
    }
    let served = method.map(|id| {
        let number = told.iter().position(|of| of.id == id);
        number.ok_or_else(|| Error::failed(format!("{} no longer offers {id}", path.display())))
    });
    let served = served.transpose()?;
    let numbers = served.map_or(0..told.len(), |number| number..number + 1);
    let methods = numbers.map(|number| {
        SERVED.store(number, Ordering::Relaxed);
        &*Box::leak(Box::new(table(&told[number])))
    });
    let mut plugin = *adapter::plugin(methods.collect());
    SERVED.store(served.unwrap_or(NONE), Ordering::Relaxed);
    plugin.sdk = forever(format!("Python {}", environment.version));
    Ok((Some(Box::leak(Box::new(plugin))), environment))
}

fn served() -> (usize, &'static Told) {
    let number = SERVED.load(Ordering::Relaxed);
    let told = TOLD.get().and_then(|told| told.get(number));
    (number, told.expect("the file was opened for one of its classes"))
}

fn forever(text: String) -> VqStr {
    VqStr::new(text.leak())
}

/// The SDK's table of the class that is served, in its own words.
fn table(of: &Told) -> VqMethod {
    let offers = |name: &str| of.offers.iter().any(|offered| offered == name);
    let made = match offers("score") {
        true => adapter::method::<Class, (offered::Scorer, ())>(),
        false => adapter::method::<Class, ()>(),
    };
    VqMethod {
        id: forever(of.id.clone()),
        name: forever(of.name.clone()),
        version: forever(of.version.clone()),
        description: forever(match of.description.as_str() {
            "" => format!("The class {} of a Python file", of.name),
            said => said.to_owned(),
        }),
        license: forever("NOASSERTION".to_owned()),
        ratio: made.ratio.filter(|_| offers("get_compression_ratio")),
        ..*made
    }
}

/// The parameters of the class that is served.
struct Values(Config);

impl Params for Values {
    fn schema() -> Vec<Param> {
        served().1.params()
    }

    fn from_config(config: &Config) -> Result<Self, Error> {
        let schema = Self::schema();
        params::check(&schema, config)?;
        let mut all = config.clone();
        for param in schema {
            if let Some(default) = param.default {
                all.entry(param.name).or_insert(default);
            }
        }
        Ok(Values(all))
    }
}

/// An object of the class that is served, in the interpreter.
struct Class {
    instance: u64,
    dim: usize,
    code_bytes: usize,
    ratio: Option<f64>,
    /// As it was fitted, for scores that are asked for outside a call.
    seed: u64,
    /// What `save` gave: it is asked for twice.
    saved: Mutex<Option<Vec<u8>>>,
}

#[derive(Deserialize)]
struct Made {
    instance: u64,
    code_bytes: usize,
}

#[derive(Deserialize)]
struct Fitted {
    code_bytes: usize,
    ratio: Option<f64>,
    /// Of the process that fitted it: one that loads it has no other.
    seed: u64,
}

/// What there is to say of an object that is given up.
#[derive(Deserialize)]
struct Left {
    wide: Vec<Wide>,
    /// It would now be saved as something else than after fit.
    changed: Option<Saved>,
}

/// An array of codes whose values need fewer bits than its type has.
#[derive(Deserialize)]
struct Wide {
    part: Option<u32>,
    kind: char,
    bits: u32,
    needed: u32,
    bytes: u32,
    packed: u32,
}

impl From<Wide> for Notice {
    fn from(Wide { part, kind, bits, needed, bytes, packed }: Wide) -> Self {
        Notice::Wide { part, kind, bits, needed, bytes, packed }
    }
}

/// How an object became bytes.
#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Saved {
    Pickled,
    Itself,
}

#[derive(Deserialize)]
struct Grid {
    configs: Vec<Proposed>,
}

#[derive(Deserialize)]
struct Proposed {
    label: String,
    params: serde_json::Map<String, Json>,
}

impl Drop for Class {
    fn drop(&mut self) {
        let Ok(mut bridge) = lock() else { return };
        let request = json!({ "op": "destroy", "instance": self.instance });
        if let Ok(Left { wide, changed }) = bridge.ask(request) {
            let wide = wide.into_iter().map(Notice::from);
            let changed = changed.map(|how| Notice::Changed { pickled: how == Saved::Pickled });
            wide.chain(changed).for_each(bridge::notice);
        }
    }
}

impl Class {
    /// A request about this object; its log lines go to the host.
    fn ask<T: serde::de::DeserializeOwned>(
        &self,
        bridge: &mut bridge::Started,
        ctx: &Context<'_>,
        mut request: Json,
    ) -> Result<T, Error> {
        request["instance"] = self.instance.into();
        request["seed"] = ctx.seed().into();
        request["threads"] = ctx.threads().into();
        let mut log = |level: &str, text: &str| {
            let level = match level {
                "warn" => vq_plugin_api::Level::Warn,
                "debug" => vq_plugin_api::Level::Debug,
                _ => vq_plugin_api::Level::Info,
            };
            ctx.log(level, text);
        };
        bridge.call(&request, &[], &mut log).map(|(answer, _)| answer)
    }
}

impl Quantizer for Class {
    type Params = Values;

    // Its own words stand in the table.
    const METHOD: Method = Method::new("python", "Python");

    fn create(params: Values, space: Space) -> Result<Self, Error> {
        let made: Made = lock()?.ask(json!({
            "op": "create",
            "class": served().0,
            "params": config_json(&params.0),
            "dim": space.dim,
            "metric": metric(space),
        }))?;
        let Made { instance, code_bytes } = made;
        Ok(Class {
            instance,
            dim: space.dim,
            code_bytes,
            ratio: None,
            seed: 0,
            saved: Mutex::new(None),
        })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let mut bridge = lock()?;
        let block = rows_at_once(4 * self.dim);
        for (i, rows) in train.axis_chunks_iter(Axis(0), block).enumerate() {
            let from = bridge.lend_rows(rows);
            let request = json!({
                "op": "train", "first": i * block, "rows": rows.nrows(), "of": train.nrows(), "from": from,
            });
            self.ask::<Json>(&mut bridge, ctx, request)?;
        }
        let fitted: Fitted = self.ask(&mut bridge, ctx, json!({ "op": "fit" }))?;
        (self.code_bytes, self.ratio, self.seed) = (fitted.code_bytes, fitted.ratio, fitted.seed);
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    fn ratio(&self, _: Space) -> f64 {
        self.ratio.unwrap_or(f64::NAN)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let mut bridge = lock()?;
        let block = rows_at_once((4 * self.dim).max(self.code_bytes));
        let blocks = codes.axis_chunks_iter_mut(Axis(0), block);
        for (x, codes) in x.axis_chunks_iter(Axis(0), block).zip(blocks) {
            let (from, to) = (bridge.lend_rows(x), bridge.room_for(&codes));
            let request = json!({
                "op": "compress", "rows": x.nrows(), "from": from, "to": to,
                "timed": bridge::whole_blocks(),
            });
            self.ask::<Json>(&mut bridge, ctx, request)?;
            bridge.take(to, codes);
        }
        Ok(())
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        mut x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let mut bridge = lock()?;
        let block = rows_at_once((4 * self.dim).max(self.code_bytes));
        let blocks = x.axis_chunks_iter_mut(Axis(0), block);
        for (codes, x) in codes.axis_chunks_iter(Axis(0), block).zip(blocks) {
            let (from, to) = (bridge.lend_rows(codes), bridge.room_for(&x));
            let request =
                json!({ "op": "decompress", "rows": codes.nrows(), "from": from, "to": to });
            self.ask::<Json>(&mut bridge, ctx, request)?;
            bridge.take(to, x);
        }
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_none() {
            let request = json!({ "op": "save", "instance": self.instance });
            let (_, bytes) = lock()?.call::<Json>(&request, &[], &mut |_, _| ())?;
            *saved = Some(bytes);
        }
        saved.clone().ok_or_else(|| Error::unsupported("save"))
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let request = json!({ "op": "load", "instance": self.instance });
        let (fitted, _) = lock()?.call::<Fitted>(&request, model, &mut |_, _| ())?;
        (self.code_bytes, self.ratio, self.seed) = (fitted.code_bytes, fitted.ratio, fitted.seed);
        Ok(())
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        let ((number, of), schema) = (served(), Values::schema());
        let takes_bits = of.grid.as_deref() == Some("bits");
        if of.grid.is_some() && request.axes.is_empty() {
            let Space { dim, .. } = request.space;
            let bits = request.bits_per_dim.filter(|_| takes_bits);
            let grid: Grid = lock()?.ask(json!({
                "op": "grid", "class": number, "dim": dim, "metric": metric(request.space), "bits": bits,
            }))?;
            for Proposed { label: name, params } in grid.configs {
                let config: Config = params
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, bridge::setting(&value)?)))
                    .collect();
                let name = if name.is_empty() { label(&schema, request, &config) } else { name };
                propose(request, takes_bits, &config, &name, sink);
            }
            return Ok(());
        }
        for config in cartesian(&schema, request, &[]) {
            propose(request, false, &config, &label(&schema, request, &config), sink);
        }
        Ok(())
    }
}

/// Emits `config`, or skips it where it cannot be made, or where nothing says what rate it has.
fn propose(
    request: &GridRequest,
    at_rate: bool,
    config: &Config,
    name: &str,
    sink: &mut dyn GridSink,
) {
    let (_, of) = served();
    let made = Values::from_config(config)
        .and_then(|values| Class::create(values, request.space))
        .map_err(|error| error.to_string());
    match made {
        Err(reason) => sink.skip(config, &reason),
        Ok(made) if request.bits_per_dim.is_some() && made.code_bytes == 0 && !at_rate => {
            sink.skip(
                config,
                &format!(
                    "{} does not say how long a code is before it is fitted: give it code_bytes, \
                     or a GRID that takes bits, to ask for a rate",
                    of.name
                ),
            );
        }
        Ok(_) => drop(sink.emit(config, name)),
    }
}

impl Scorer for Class {
    type Query = Vec<f32>;

    fn query(&self, query: ArrayView1<'_, f32>, _: &Context<'_>) -> Result<Vec<f32>, Error> {
        Ok(query.to_vec())
    }

    // One query of no call: whoever asks so has no context.
    fn score(
        &self,
        query: &Vec<f32>,
        codes: ArrayView2<'_, u8>,
        estimates: &mut [f32],
        _: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        let unshaped = |e: ndarray::ShapeError| Error::failed(e.to_string());
        let queries = ArrayView2::from_shape((1, query.len()), query).map_err(unshaped)?;
        let shape = (1, estimates.len());
        let estimates = ArrayViewMut2::from_shape(shape, estimates).map_err(unshaped)?;
        self.score_blocks(queries, codes, estimates, self.seed, 1)
    }

    fn score_all(
        &self,
        queries: ArrayView2<'_, f32>,
        codes: ArrayView2<'_, u8>,
        estimates: ArrayViewMut2<'_, f32>,
        _: Option<ArrayViewMut2<'_, f32>>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.score_blocks(queries, codes, estimates, ctx.seed(), ctx.threads())
    }
}

impl Class {
    /// Scores some queries and some codes at a time.
    fn score_blocks(
        &self,
        queries: ArrayView2<'_, f32>,
        codes: ArrayView2<'_, u8>,
        mut estimates: ArrayViewMut2<'_, f32>,
        seed: u64,
        threads: usize,
    ) -> Result<(), Error> {
        let mut bridge = lock()?;
        let (some, block) =
            bridge::scored_at_once(queries.nrows(), 4 * self.dim, self.code_bytes.max(1));
        let groups = queries.axis_chunks_iter(Axis(0), some);
        for (queries, mut estimates) in groups.zip(estimates.axis_chunks_iter_mut(Axis(0), some)) {
            let blocks = codes.axis_chunks_iter(Axis(0), block);
            for (codes, estimates) in blocks.zip(estimates.axis_chunks_iter_mut(Axis(1), block)) {
                let [queries_at, codes_at] = bridge.lend_both(queries, codes);
                let to = bridge.room_for(&estimates);
                let request = json!({
                    "op": "score", "instance": self.instance, "seed": seed, "threads": threads,
                    "queries": queries.nrows(), "rows": codes.nrows(),
                    "from": queries_at, "codes": codes_at, "to": to,
                });
                bridge.ask::<Json>(request)?;
                bridge.take(to, estimates);
            }
        }
        Ok(())
    }
}
