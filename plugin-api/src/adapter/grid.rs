//! `expand_grid` of `vq_method`, and the sink that it answers into.

use super::functions::Shim;
use super::held::guard;
use crate::abi::{VqBuf, VqGridRequest, VqGridSink, VqStr};
use crate::params::{Config, Value};
use crate::wire::{self, Lent};
use crate::{Error, GridRequest, GridSink, Quantizer, Space};

impl<Q: Quantizer> Shim<Q> {
    pub(super) unsafe extern "C" fn expand_grid(
        request: *const VqGridRequest,
        sink: *const VqGridSink,
        err: *mut VqBuf,
    ) -> i32 {
        let body = || {
            // SAFETY: null or valid during the call, by contract.
            let request = unsafe { request.as_ref() }.ok_or_else(|| Error::failed("no request"))?;
            // SAFETY: null or valid during the call, by contract.
            let sink = unsafe { sink.as_ref() }.ok_or_else(|| Error::failed("no sink"))?;
            // SAFETY: lent for the call, by contract.
            let axes = unsafe { wire::slice(request.axes, request.n_axes) }?;
            // SAFETY: lent for the call, by contract.
            let axes = unsafe { wire::read_entries(axes) }?;
            let axes = axes
                .into_iter()
                .map(|(name, value)| match value {
                    Value::List(values) => Ok((name.to_owned(), values)),
                    _ => Err(Error::param(name, "an axis is a list of values")),
                })
                .collect::<Result<_, _>>()?;
            let request = GridRequest {
                space: Space::of(request.space)?,
                bits_per_dim: (request.bits_per_dim > 0.0).then_some(request.bits_per_dim),
                axes,
            };
            Q::expand_grid(&request, &mut RawSink(sink))
        };
        // SAFETY: `err` is the caller's, by contract.
        unsafe { guard(err, body) }
    }
}

/// The plugin's side of a `vq_grid_sink`.
struct RawSink<'a>(&'a VqGridSink);

impl GridSink for RawSink<'_> {
    fn emit(&mut self, config: &Config, label: &str) -> bool {
        let lent = Lent::config(config);
        // SAFETY: the host keeps its sink valid during expand_grid; `lent` outlives the call.
        let stop = unsafe { (self.0.emit)(self.0.host, &lent.as_config(), VqStr::new(label)) };
        stop == 0
    }

    fn skip(&mut self, config: &Config, reason: &str) {
        let lent = Lent::config(config);
        // SAFETY: as in `emit`.
        unsafe { (self.0.skip)(self.0.host, &lent.as_config(), VqStr::new(reason)) }
    }
}
