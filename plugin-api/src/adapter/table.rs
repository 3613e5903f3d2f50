//! The static tables: `vq_plugin`, and a `vq_method` for each quantizer.

use super::functions::Shim;
use crate::Quantizer;
use crate::abi::{ABI_MAJOR, ABI_MINOR, MAGIC, VqMethod, VqParam, VqPlugin, VqStr, VqValue, flag};
use crate::extension::Offers;
use crate::params::{Params, Value};
use crate::wire::Lent;
use core::ffi::c_void;

fn lent_forever(text: &'static str) -> VqStr {
    VqStr::new(text)
}

/// The table of a method with the extensions `E`, for [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
pub fn method<Q: Quantizer, E: Offers<Q>>() -> &'static VqMethod {
    let params: Vec<VqParam> = Q::Params::schema()
        .into_iter()
        .map(|param| {
            // Described once per process and never freed, like the library itself.
            let param: &'static crate::params::Param = Box::leak(Box::new(param));
            let lent: &'static mut Lent<'static> = Box::leak(Box::default());
            let mut list_or_null = |items: &'static [Value]| match items {
                [] => VqValue::NULL,
                items => lent.list(items),
            };
            let choices = list_or_null(&param.choices);
            let grid = list_or_null(&param.grid);
            VqParam {
                struct_size: size_of::<VqParam>() as u32,
                kind: param.kind.code(),
                item_kind: param.item_kind.map_or(0, |kind| kind.code()),
                reserved: 0,
                name: lent_forever(&param.name),
                help: lent_forever(&param.help),
                default_value: param.default.as_ref().map_or(VqValue::NULL, |v| lent.value(v)),
                min: param.min.as_ref().map_or(VqValue::NULL, |v| lent.value(v)),
                max: param.max.as_ref().map_or(VqValue::NULL, |v| lent.value(v)),
                choices,
                grid,
            }
        })
        .collect();
    let params: &'static [VqParam] = params.leak();
    let about = Q::METHOD;
    let training = if about.needs_training { flag::NEEDS_TRAINING } else { 0 };
    Box::leak(Box::new(VqMethod {
        struct_size: size_of::<VqMethod>() as u32,
        flags: training | flag::DETERMINISTIC | flag::THREAD_SAFE,
        id: lent_forever(about.id),
        name: lent_forever(about.name),
        version: lent_forever(about.version),
        description: lent_forever(about.description),
        paper: lent_forever(about.paper),
        authors: lent_forever(about.authors),
        license: lent_forever(about.license),
        homepage: lent_forever(about.homepage),
        tags: lent_forever(about.tags),
        params: params.as_ptr(),
        n_params: params.len(),
        expand_grid: Some(Shim::<Q>::expand_grid),
        create: Some(Shim::<Q>::create),
        destroy: Some(Shim::<Q>::destroy),
        fit: Some(Shim::<Q>::fit),
        code_bytes: Some(Shim::<Q>::code_bytes),
        model_bytes: Some(Shim::<Q>::model_bytes),
        ratio: Some(Shim::<Q>::ratio),
        compress: Some(Shim::<Q>::compress),
        decompress: Some(Shim::<Q>::decompress),
        save: Some(Shim::<Q>::save),
        load: Some(Shim::<Q>::load),
        get_extension: Some(get_extension::<Q, E>),
    }))
}

unsafe extern "C" fn get_extension<Q: Quantizer, E: Offers<Q>>(id: VqStr) -> *const c_void {
    // SAFETY: lent for the call, by contract.
    unsafe { id.text() }.map_or(core::ptr::null(), E::table)
}

/// The plugin's table, for [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
pub fn plugin(methods: Vec<&'static VqMethod>) -> &'static VqPlugin {
    let methods: &'static [&'static VqMethod] = methods.leak();
    Box::leak(Box::new(VqPlugin {
        magic: MAGIC,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        struct_size: size_of::<VqPlugin>() as u32,
        reserved: 0,
        sdk: lent_forever(concat!("vq-plugin-api ", env!("CARGO_PKG_VERSION"))),
        methods: methods.as_ptr().cast(),
        n_methods: methods.len(),
    }))
}
