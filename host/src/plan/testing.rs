//! A catalogue in memory: methods described without a library on disk, and a grid generator of
//! their own, so that plans and runs are tested without building a plugin.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use vq_plugin_api::handle::{Descriptor, Proposal};
use vq_plugin_api::params::{Config, Kind, Param};
use vq_plugin_api::quantizer::{cartesian, label, meets_rate};
use vq_plugin_api::{GridRequest, Value};

use crate::plugin::{Catalog, Found, Library, LibraryDescription};
use crate::sweep::Sweep;
use crate::worker::ask::ExpandError;

/// A parameter without limits; its grid is `grid`, or else its default alone.
pub(crate) fn param(name: &str, default: Value, grid: &[Value]) -> Param {
    let kind = match default {
        Value::Bool(_) => Kind::Bool,
        Value::Int(_) => Kind::Int,
        Value::Float(_) => Kind::Float,
        Value::Str(_) => Kind::Str,
        Value::List(_) => Kind::List,
    };
    Param {
        name: name.to_owned(),
        help: String::new(),
        kind,
        item_kind: None,
        default: Some(default),
        min: None,
        max: None,
        choices: Vec::new(),
        grid: grid.to_vec(),
    }
}

/// `zlattice`: `parts`, which divide d and take `bits` bits each. One of two methods of a library.
fn zlattice() -> Descriptor {
    let parts = Param { min: Some(Value::Int(1)), ..param("parts", Value::Int(4), &[]) };
    let grid = [4, 8].map(Value::Int);
    let bits = Param {
        min: Some(Value::Int(1)),
        max: Some(Value::Int(16)),
        ..param("bits", Value::Int(8), &grid)
    };
    method("zlattice", vec![parts, bits])
}

fn method(id: &str, params: Vec<Param>) -> Descriptor {
    Descriptor {
        id: id.to_owned(),
        name: id.to_owned(),
        version: "1".to_owned(),
        description: String::new(),
        paper: String::new(),
        authors: String::new(),
        license: String::new(),
        homepage: String::new(),
        tags: String::new(),
        needs_training: false,
        deterministic: true,
        thread_safe: true,
        extensions: Vec::new(),
        params,
    }
}

/// A library that is described and not there.
pub(crate) fn library(path: PathBuf, digest: &str, methods: Vec<Descriptor>) -> Library {
    Library {
        path,
        digest: digest.to_owned(),
        needs_digest: None,
        found_in: "memory".to_owned(),
        python: None,
        about: LibraryDescription {
            python: None,
            sdk: "none".to_owned(),
            abi: (1, 0),
            layout_checked: false,
            methods,
        },
    }
}

/// `zlattice` and `plain`, which has no parameter, from one library.
pub(crate) fn catalog() -> Catalog {
    catalog_of(PathBuf::from("/none/libzlattice.so"), "1f")
}

/// The same from the library `path`, whose digest is `digest`.
pub(crate) fn catalog_of(path: PathBuf, digest: &str) -> Catalog {
    let methods = vec![zlattice(), method("plain", Vec::new())];
    Catalog { libraries: vec![library(path, digest, methods)], ..Catalog::default() }
}

/// The grid generator of [`catalog`], and how often it was asked.
#[derive(Default)]
pub(crate) struct Generator {
    pub(crate) asked: Cell<usize>,
}

impl Generator {
    /// The configurations for each request.
    pub(crate) fn expand(
        &self,
        found: Found<'_>,
        requests: Vec<GridRequest>,
    ) -> Result<Vec<Vec<Proposal>>, ExpandError> {
        self.asked.set(self.asked.get() + 1);
        Ok(requests.iter().map(|request| proposals(&found.method.params, request)).collect())
    }
}

fn proposals(schema: &[Param], request: &GridRequest) -> Vec<Proposal> {
    let dim = request.space.dim;
    // Asked for a rate, it tries all widths.
    let widths = [("bits", (1..=16).map(Value::Int).collect())];
    let rate_axes = if request.bits_per_dim.is_some() { &widths[..] } else { &[] };
    let all = cartesian(schema, request, rate_axes);
    let answers = all.into_iter().filter_map(|config| {
        let bytes = code_bytes(&config, dim);
        Some(match (bytes, request.bits_per_dim) {
            (Err(reason), _) => Proposal::Skip { config, reason },
            (Ok(bytes), Some(rate)) if !meets_rate(bytes, dim, rate) => return None,
            (Ok(bytes), _) => {
                let label = label(schema, request, &config);
                Proposal::Emit { config, label, code_bytes: Some(bytes) }
            }
        })
    });
    answers.collect()
}

fn code_bytes(config: &Config, dim: usize) -> Result<usize, String> {
    let number = |name| match config.get(name) {
        Some(Value::Int(n)) => usize::try_from(*n).unwrap_or(0),
        _ => 1,
    };
    let (parts, bits) = (number("parts"), number("bits"));
    match dim.is_multiple_of(parts) {
        true => Ok((parts * bits).div_ceil(8)),
        false => Err(format!("parts: {parts} does not divide d = {dim}")),
    }
}

/// A sweep over 600 × 16 Gaussian rows named `gauss`; `rest` is its methods.
pub(crate) fn sweep(rest: &str) -> Sweep {
    let text = format!(
        "[[dataset]]\nname = \"gauss\"\n\
         synthetic = {{ kind = \"gaussian\", n = 600, dim = 16, seed = 1 }}\n\
         queries = {{ hold_out = 20 }}\n{rest}"
    );
    Sweep::parse("sweep.toml", &text, Path::new("")).unwrap()
}
