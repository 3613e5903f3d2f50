//! Which library serves each `[[method]]`, and whether its parameters are what the method takes.

use std::collections::BTreeMap;
use std::ops::Range;

use vq_plugin_api::Value;
use vq_plugin_api::params::{Kind, Param};

use super::PlanError;
use super::cells::SECOND;
use crate::plugin::{Catalog, Found, ResolveError};
use crate::suggest::nearest_name;
use crate::sweep::{MethodUse, Sweep, SweepSource};

/// A `[[method]]` with the library that serves it and its axes as values of the right kind.
#[derive(Clone, Debug)]
pub struct Chosen<'a> {
    pub(super) used: &'a MethodUse,
    pub(super) found: Found<'a>,
    pub(super) axes: BTreeMap<String, Vec<Value>>,
    /// The same of the method that codes each row a second time.
    pub(super) second: Option<Box<Chosen<'a>>>,
}

impl<'a> Chosen<'a> {
    /// The library and method.
    pub fn found(&self) -> Found<'a> {
        self.found
    }

    /// Where in the sweep its method is named.
    pub fn span(&self) -> Range<usize> {
        self.used.id.span()
    }

    pub(super) fn runs_on(&self, dataset: &str) -> bool {
        let named =
            |names: &Vec<toml::Spanned<String>>| names.iter().any(|n| n.get_ref() == dataset);
        self.used.datasets.as_ref().is_none_or(named)
    }
}

/// Finds the library of each `[[method]]` and checks its axes against the method's schema.
///
/// # Errors
/// An unknown method, parameter or data set, a value that the schema forbids, a digest that
/// differs from the pin.
pub fn choose<'a>(sweep: &'a Sweep, catalog: &'a Catalog) -> Result<Vec<Chosen<'a>>, PlanError> {
    sweep.methods.iter().map(|used| choose_one(sweep, catalog, used)).collect()
}

fn choose_one<'a>(
    sweep: &'a Sweep,
    catalog: &'a Catalog,
    used: &'a MethodUse,
) -> Result<Chosen<'a>, PlanError> {
    let source = &sweep.source;
    let file = used.plugin.as_ref();
    let found =
        catalog.resolve(used.id.get_ref(), file.map(|f| f.get_ref().as_str())).map_err(|e| {
            let span = match (&e, file) {
                (ResolveError::NotInFile { .. }, Some(file)) => file.span(),
                _ => used.id.span(),
            };
            PlanError::at(source, span, &e, "asked for here", Some(resolve_help(&e, catalog)))
        })?;
    if let Some(pin) = &used.digest
        && *pin.get_ref() != found.library.digest
    {
        return Err(PlanError::at(
            source,
            pin.span(),
            format!("{} is not the pinned file", found.library.path.display()),
            "pinned here",
            Some(format!("the file found has the digest {}", found.library.digest)),
        ));
    }
    for name in used.datasets.iter().flatten() {
        if !sweep.datasets.iter().any(|d| d.spec.name == *name.get_ref()) {
            let names = sweep.datasets.iter().map(|d| d.spec.name.as_str());
            let nearest = nearest_name(name.get_ref(), names);
            return Err(PlanError::at(
                source,
                name.span(),
                format!("no [[dataset]] is named `{}`", name.get_ref()),
                "named here",
                nearest.map(|n| format!("did you mean `{n}`?")),
            ));
        }
    }
    let schema = &found.method.params;
    let known = |name: &str, span: Range<usize>| {
        schema
            .iter()
            .find(|p| p.name == name)
            .ok_or_else(|| unknown_parameter(source, span, &found.method.id, name, schema))
    };
    let mut axes = BTreeMap::new();
    for axis in &used.axes {
        let param = known(&axis.name, axis.key_span.clone())?;
        let mut values = Vec::with_capacity(axis.values.len());
        for value in &axis.values {
            let coerced = param.coerce(value.get_ref().clone());
            param.check(&coerced).map_err(|reason| {
                PlanError::at(
                    source,
                    value.span(),
                    format!("{}: {reason}", axis.name),
                    "here",
                    Some(about(param)),
                )
            })?;
            values.push(coerced);
        }
        axes.insert(axis.name.clone(), values);
    }
    for exclude in &used.exclude {
        for (name, _) in &exclude.values {
            known(name.get_ref(), name.span())?;
        }
    }
    let second = used.second.as_deref();
    let second = second.map(|second| choose_one(sweep, catalog, second)).transpose()?;
    if let (Some(second), true) = (&second, schema.iter().any(|p| p.name == SECOND)) {
        return Err(PlanError::at(
            source,
            second.span(),
            format!("{} has a parameter `{SECOND}`", found.method.id),
            "so it cannot have a second code",
            None,
        ));
    }
    Ok(Chosen { used, found, axes, second: second.map(Box::new) })
}

fn resolve_help(error: &ResolveError, catalog: &Catalog) -> String {
    let methods = catalog.methods();
    let ids = || methods.iter().map(|f| f.method.id.as_str());
    match error {
        ResolveError::Ambiguous { .. } => {
            "say which with plugin = \"FILE\" in this [[method]]".into()
        }
        ResolveError::NotInFile { .. } => "`vq-host methods` lists files and their methods".into(),
        ResolveError::Unknown { .. } if methods.is_empty() => {
            let places: Vec<String> =
                catalog.searched.iter().map(|(p, _)| p.display().to_string()).collect();
            format!("no plugin was found at all; searched: {}", places.join(", "))
        }
        ResolveError::Unknown { id } => {
            let all = ids().collect::<Vec<_>>().join(", ");
            match nearest_name(id, ids()) {
                Some(near) => format!("did you mean `{near}`? found are: {all}"),
                None => format!("found are: {all}; `vq-host methods` tells where was searched"),
            }
        }
    }
}

fn unknown_parameter(
    source: &SweepSource,
    span: Range<usize>,
    method: &str,
    name: &str,
    schema: &[Param],
) -> PlanError {
    let names = || schema.iter().map(|p| p.name.as_str());
    let all = names().collect::<Vec<_>>().join(", ");
    let help = match nearest_name(name, names()) {
        Some(near) => format!("did you mean `{near}`? {method} knows: {all}"),
        None if schema.is_empty() => format!("{method} has no parameters"),
        None => format!("{method} knows: {all}"),
    };
    let problem = format!("{method} has no parameter `{name}`");
    PlanError::at(source, span, problem, "unknown parameter", Some(help))
}

fn about(param: &Param) -> String {
    let article = if matches!(param.kind, Kind::Int) { "an" } else { "a" };
    let mut text = format!("{} is {article} {}", param.name, param.kind);
    if let Some(kind) = param.item_kind {
        text += &format!(" of {kind}");
    }
    match (&param.min, &param.max) {
        (Some(min), Some(max)) => text += &format!(" from {min} to {max}"),
        (Some(min), None) => text += &format!(" from {min} on"),
        (None, Some(max)) => text += &format!(" up to {max}"),
        (None, None) => {}
    }
    if !param.choices.is_empty() {
        let choices: Vec<String> = param.choices.iter().map(Value::to_string).collect();
        text += &format!(", one of {}", choices.join(", "));
    }
    if param.help.is_empty() { text } else { format!("{text}: {}", param.help) }
}
