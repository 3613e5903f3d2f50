//! A method's grid generator: which configurations are worth measuring.

use super::call::{CallError, call, one_line};
use super::describe::{LONG_TEXT, SHORT_TEXT, cut};
use super::method::Method;
use crate::abi::{VqConfig, VqGridRequest, VqGridSink, VqStr};
use crate::params::{Config, check};
use crate::quantizer::{cartesian, label, meets_rate};
use crate::wire::{self, Lent};
use crate::{GridRequest, GridSink};
use core::ffi::c_void;

/// More configurations than anybody sweeps.
const MAX_CONFIGS: usize = 100_000;

/// One answer of a grid generator.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
pub enum Proposal {
    /// A configuration to measure, every parameter filled in.
    Emit {
        /// All parameters.
        config: Config,
        /// `m=8 bits=4`.
        label: String,
        /// Stored bytes per vector, where the method knows before training.
        code_bytes: Option<usize>,
    },
    /// A combination that cannot be.
    Skip {
        /// What was tried.
        config: Config,
        /// Why it cannot be.
        reason: String,
    },
}

/// Collects proposals; also the host's side of `vq_grid_sink`.
#[derive(Default)]
struct Proposals(Vec<(Config, Result<String, String>)>);

impl GridSink for Proposals {
    fn emit(&mut self, config: &Config, label: &str) -> bool {
        self.0.push((config.clone(), Ok(cut(&one_line(label), SHORT_TEXT))));
        self.0.len() < MAX_CONFIGS
    }

    fn skip(&mut self, config: &Config, reason: &str) {
        if self.0.len() < MAX_CONFIGS {
            self.0.push((config.clone(), Err(cut(&one_line(reason), LONG_TEXT))));
        }
    }
}

/// # Safety
/// `host` is the `Proposals` that `expand` lent; `config` and `text` live during the call.
unsafe fn proposals<'a>(
    host: *mut c_void,
    config: *const VqConfig,
    text: VqStr,
) -> Option<(&'a mut Proposals, Config, &'a str)> {
    // SAFETY: passed on.
    let proposals = unsafe { host.cast::<Proposals>().as_mut() }?;
    // SAFETY: passed on.
    let config = unsafe { wire::read_config(config) }.ok()?;
    // SAFETY: passed on.
    let text = unsafe { text.text() }.ok()?;
    Some((proposals, config, text))
}

unsafe extern "C" fn sink_emit(host: *mut c_void, config: *const VqConfig, label: VqStr) -> i32 {
    // SAFETY: the plugin passes back what `expand` lent.
    match unsafe { proposals(host, config, label) } {
        Some((proposals, config, label)) => i32::from(!proposals.emit(&config, label)),
        None => 1,
    }
}

unsafe extern "C" fn sink_skip(host: *mut c_void, config: *const VqConfig, reason: VqStr) {
    // SAFETY: the plugin passes back what `expand` lent.
    if let Some((proposals, config, reason)) = unsafe { proposals(host, config, reason) } {
        proposals.skip(&config, reason);
    }
}

impl Method {
    /// The configurations for `request`: the generator's, or the cartesian product where the
    /// method has none. Each is completed with defaults, checked against the schema and tried on
    /// the constructor; what fails becomes a skip with its reason.
    ///
    /// # Errors
    /// The generator failed.
    pub fn expand(&self, request: &GridRequest) -> Result<Vec<Proposal>, CallError> {
        let schema = &self.about.params;
        let mut answers = Proposals::default();
        if let Some(expand_grid) = self.raw.expand_grid {
            let lent = Lent::axes(&request.axes);
            let raw = VqGridRequest {
                struct_size: size_of::<VqGridRequest>() as u32,
                reserved: 0,
                space: request.space.raw(),
                bits_per_dim: request.bits_per_dim.unwrap_or(0.0),
                axes: lent.entries().as_ptr(),
                n_axes: lent.entries().len(),
            };
            let sink = VqGridSink {
                struct_size: size_of::<VqGridSink>() as u32,
                reserved: 0,
                host: (&raw mut answers).cast(),
                emit: sink_emit,
                skip: sink_skip,
            };
            call(self, "expand_grid", |err| {
                // SAFETY: all three live during the call; the table is the plugin's own.
                unsafe { expand_grid(&raw, &sink, err) }
            })?;
        } else {
            for config in cartesian(schema, request, &[]) {
                let label = label(schema, request, &config);
                answers.emit(&config, &label);
            }
        }
        let dim = request.space.dim;
        let mut proposals = Vec::with_capacity(answers.0.len());
        for (mut config, answer) in answers.0 {
            let label = match answer {
                Ok(label) => label,
                Err(reason) => {
                    proposals.push(Proposal::Skip { config, reason });
                    continue;
                }
            };
            for param in schema {
                if let Some(default) = &param.default {
                    config.entry(param.name.clone()).or_insert_with(|| default.clone());
                }
            }
            let made = check(schema, &config).map_err(|e| e.to_string()).and_then(|()| {
                self.create(&config, request.space).map_err(|e| e.message().to_owned())
            });
            let missed = |bytes: usize| {
                request.bits_per_dim.filter(|bits| bytes > 0 && !meets_rate(bytes, dim, *bits))
            };
            proposals.push(match made.map(|instance| instance.code_bytes()) {
                Err(reason) => Proposal::Skip { config, reason },
                Ok(bytes) => match missed(bytes) {
                    Some(bits) => {
                        let rate = 8.0 * bytes as f64 / dim as f64;
                        let reason = format!("stores {rate:.3} bits/dim, {bits} were asked");
                        Proposal::Skip { config, reason }
                    }
                    None => {
                        Proposal::Emit { config, label, code_bytes: (bytes > 0).then_some(bytes) }
                    }
                },
            });
        }
        Ok(proposals)
    }
}
