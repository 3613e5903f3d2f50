//! What an author writes: one type that implements [`Quantizer`].

use crate::Error;
use crate::context::Context;
use crate::params::{Config, Params, Value};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::collections::BTreeMap;

/// How nearness is measured.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Squared Euclidean distance; smaller is nearer.
    L2,
    /// Inner product; larger is nearer.
    Ip,
    /// Inner product of rows that the host made unit length.
    Cosine,
}

/// The space the vectors live in.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Space {
    /// Dimensions d, at least 1.
    pub dim: usize,
    /// How nearness will be measured.
    pub metric: Metric,
}

/// Who a method is: what `vq-host methods` shows and records carry.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) description: &'static str,
    pub(crate) paper: &'static str,
    pub(crate) authors: &'static str,
    pub(crate) license: &'static str,
    pub(crate) homepage: &'static str,
    pub(crate) tags: &'static str,
    pub(crate) needs_training: bool,
}

impl Method {
    /// A method that sweeps call `id` (`[a-z][a-z0-9_-]*`) and people call `name`.
    pub const fn new(id: &'static str, name: &'static str) -> Self {
        Method {
            id,
            name,
            version: "0",
            description: "",
            paper: "",
            authors: "",
            license: "",
            homepage: "",
            tags: "",
            needs_training: true,
        }
    }

    /// The method's version, usually `env!("CARGO_PKG_VERSION")`.
    pub const fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// One line.
    pub const fn description(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Authors, title, year.
    pub const fn paper(mut self, paper: &'static str) -> Self {
        self.paper = paper;
        self
    }

    /// Authors of the implementation.
    pub const fn authors(mut self, authors: &'static str) -> Self {
        self.authors = authors;
        self
    }

    /// SPDX expression.
    pub const fn license(mut self, license: &'static str) -> Self {
        self.license = license;
        self
    }

    /// Where to read more.
    pub const fn homepage(mut self, homepage: &'static str) -> Self {
        self.homepage = homepage;
        self
    }

    /// Comma-separated.
    pub const fn tags(mut self, tags: &'static str) -> Self {
        self.tags = tags;
        self
    }

    /// `fit` learns nothing from the data.
    pub const fn without_training(mut self) -> Self {
        self.needs_training = false;
        self
    }
}

/// A vector quantizer. All methods run inside a rayon pool of the host's thread budget, which is the
/// caller's own thread where that is one; a panic is caught at the boundary and becomes an error.
///
/// The order of calls is `create`, then `fit` or `load`, then the rest. Codes must not depend on
/// how rows are batched or on the number of threads, and all randomness derives from
/// [`Context::seed`].
pub trait Quantizer: Sized + Send + Sync + 'static {
    /// The parameters, declared with [`params!`](macro@crate::params); `()` for none.
    type Params: Params;

    /// Who this method is.
    const METHOD: Method;

    /// The constructor: cheap, and the place to reject a configuration.
    ///
    /// # Errors
    /// [`Error::param`] for a configuration that cannot be in this space.
    fn create(params: Self::Params, space: Space) -> Result<Self, Error>;

    /// Learns from `train` (n, d).
    ///
    /// # Errors
    /// Whatever makes learning impossible; [`Error::cancelled`] from [`Context::progress`].
    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error>;

    /// Stored bytes per vector, everything included; known from `create` on.
    fn code_bytes(&self) -> usize;

    /// Bytes of state that decoding needs. The default is the size of [`Quantizer::save`];
    /// `None` when it is not offered.
    fn model_bytes(&self) -> Option<u64> {
        self.save().ok().map(|model| model.len() as u64)
    }

    /// Original bytes / compressed bytes, as the method claims; the host checks it.
    fn ratio(&self, space: Space) -> f64 {
        4.0 * space.dim as f64 / self.code_bytes() as f64
    }

    /// Encodes `x` (n, d) into `codes` (n, code_bytes).
    ///
    /// # Errors
    /// Whatever makes encoding impossible.
    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error>;

    /// Decodes `codes` (n, code_bytes) into `x` (n, d).
    ///
    /// # Errors
    /// Codes that no vector could have.
    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error>;

    /// The fitted model as bytes, the same whenever it is called after `fit`;
    /// [`ModelWriter`](crate::model::ModelWriter) helps.
    ///
    /// A sweep decodes the codes in another process, which has these bytes alone. A method without
    /// `save` and `load` is marked unproven, unless it is deterministic (as this SDK declares) and
    /// can be fitted again there from the same training rows.
    ///
    /// # Errors
    /// [`Error::unsupported`] unless overridden.
    fn save(&self) -> Result<Vec<u8>, Error> {
        Err(Error::unsupported("save"))
    }

    /// Restores what [`Quantizer::save`] wrote, in an instance of the same configuration; decoding
    /// afterwards is bit-identical. A [`Scorer`](crate::Scorer) should answer as before, too:
    /// otherwise the metrics made of its estimates are marked unproven. The bytes may be damaged:
    /// return an error then.
    ///
    /// # Errors
    /// [`Error::unsupported`] unless overridden; bytes that are no such model.
    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let _ = model;
        Err(Error::unsupported("load"))
    }

    /// The parameter values worth trying to store `bits_per_dim` bits per dimension, for the
    /// parameters that decide the rate. Candidates that miss the rate are dropped by the caller.
    fn rate_axes(space: Space, bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        let _ = (space, bits_per_dim);
        Vec::new()
    }

    /// The configuration-grid generator: emits each combination of the axes that `create`
    /// accepts, skips the others with `create`'s reason.
    ///
    /// # Errors
    /// A request that cannot be understood.
    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        product::<Self>(request, sink)
    }
}

/// What the user asked of a grid generator.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
pub struct GridRequest {
    /// The space of the data set.
    pub space: Space,
    /// The wanted true rate, 8·code_bytes / d.
    pub bits_per_dim: Option<f64>,
    /// The user's axes; none: the default grid.
    pub axes: BTreeMap<String, Vec<Value>>,
}

/// Where a grid generator answers.
pub trait GridSink {
    /// One configuration and its short label; `false` when the caller wants no more.
    fn emit(&mut self, config: &Config, label: &str) -> bool;
    /// One combination that cannot be, and why.
    fn skip(&mut self, config: &Config, reason: &str);
}

/// The part of a rate's budget that codes have to fill to be an answer to it.
pub const FILLED: f64 = 0.95;

/// Bytes per vector that `bits_per_dim` bits per dimension allow: ⌊rate·d/8⌋.
#[must_use]
pub fn budget(dim: usize, bits_per_dim: f64) -> usize {
    // A rate such as 0.1 times 80 must not end below a whole number.
    (bits_per_dim * dim as f64 / 8.0 + 1e-9).floor() as usize
}

/// True if codes of `code_bytes` answer a rate: not above its [`budget`], and filling 95 % of it. 12 bytes answer
/// 1 bit per dimension at d = 100, 11 and 13 do not.
pub fn meets_rate(code_bytes: usize, dim: usize, bits_per_dim: f64) -> bool {
    let bytes = budget(dim, bits_per_dim);
    code_bytes <= bytes && code_bytes as f64 >= FILLED * bytes as f64
}

/// The configurations that a schema and a request span: the user's axes; for the other
/// parameters `rate_axes` under a target rate, else the default grid when the user named no axis,
/// else the default.
pub fn cartesian(
    schema: &[crate::params::Param],
    request: &GridRequest,
    rate_axes: &[(&'static str, Vec<Value>)],
) -> Vec<Config> {
    let mut configs = vec![Config::new()];
    for param in schema {
        let rate = rate_axes.iter().find(|(name, _)| *name == param.name);
        let values = match (request.axes.get(&param.name), rate) {
            (Some(values), _) => values.clone(),
            (None, Some((_, values))) => values.clone(),
            (None, None) if request.axes.is_empty() && !param.grid.is_empty() => param.grid.clone(),
            (None, None) => match &param.default {
                Some(default) => vec![default.clone()],
                None => continue,
            },
        };
        configs = configs
            .into_iter()
            .flat_map(|config| {
                values.iter().map(move |value| {
                    let mut config = config.clone();
                    config.insert(param.name.clone(), param.coerce(value.clone()));
                    config
                })
            })
            .collect();
    }
    configs
}

/// `m=8 bits=4`: the parameters that the user named, that have a grid, or that differ from their
/// defaults.
pub fn label(schema: &[crate::params::Param], request: &GridRequest, config: &Config) -> String {
    let told = schema.iter().filter(|param| {
        let changed = config.get(&param.name) != param.default.as_ref();
        changed || request.axes.contains_key(&param.name) || !param.grid.is_empty()
    });
    told.filter_map(|param| config.get(&param.name).map(|value| format!("{}={value}", param.name)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// What [`Quantizer::expand_grid`] does unless overridden; an override that only adapts the
/// request hands it on to here.
///
/// # Errors
/// None so far.
pub fn product<Q: Quantizer>(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
    let schema = Q::Params::schema();
    let rate_axes =
        request.bits_per_dim.map(|bits| Q::rate_axes(request.space, bits)).unwrap_or_default();
    let mut nearest: Option<(usize, String)> = None;
    let mut emitted = 0usize;
    for config in cartesian(&schema, request, &rate_axes) {
        let made = Q::Params::from_config(&config).and_then(|p| Q::create(p, request.space));
        let label = label(&schema, request, &config);
        match (made, request.bits_per_dim) {
            // Candidates of `rate_axes` are guesses of ours, not wishes of the user.
            (Err(_), Some(_)) if request.axes.is_empty() => {}
            (Err(error), _) => sink.skip(&config, &error.to_string()),
            (Ok(made), Some(bits)) if !meets_rate(made.code_bytes(), request.space.dim, bits) => {
                let bytes = made.code_bytes();
                let miss =
                    |bytes: usize| (8.0 * bytes as f64 / request.space.dim as f64 - bits).abs();
                if nearest.as_ref().is_none_or(|(best, _)| miss(bytes) < miss(*best)) {
                    nearest = Some((bytes, label));
                }
            }
            (Ok(_), _) => {
                emitted += 1;
                if !sink.emit(&config, &label) {
                    return Ok(());
                }
            }
        }
    }
    if emitted == 0
        && let (Some(bits), Some((bytes, label))) = (request.bits_per_dim, nearest)
    {
        let dim = request.space.dim;
        let rate = 8.0 * bytes as f64 / dim as f64;
        sink.skip(
            &Config::new(),
            &format!(
                "nothing stores {bits} bits/dim at d = {dim}; nearest is {label} with {rate:.3}"
            ),
        );
    }
    Ok(())
}
