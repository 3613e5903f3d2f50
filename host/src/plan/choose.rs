//! Which library serves each `[[method]]`, and whether its parameters are what the method takes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use vq_plugin_api::Value;
use vq_plugin_api::params::{Kind, Param};

use super::PlanError;
use crate::plugin::{Catalog, Found, Library, ResolveError};
use crate::python::source;
use crate::suggest::nearest_name;
use crate::sweep::{Dataset, MethodUse, SECOND, Sweep, SweepSource};
use crate::transform::TRANSFORM;

/// A `[[method]]` with the library that serves it and its axes as values of the right kind.
#[derive(Clone, Debug)]
pub struct Chosen<'a> {
    pub(super) used: &'a MethodUse,
    pub(super) found: Found<'a>,
    pub(super) axes: BTreeMap<String, Vec<Value>>,
    /// The true rates to ask for; none asks for the grid.
    pub(super) rates: &'a [Spanned<f64>],
    /// Of the answers to a rate, only the first is taken: the one that the method recommends.
    pub(super) first_only: bool,
    /// Where it is one of all, the `[[method]]`s of its own, which replace it.
    replaced_by: Vec<&'a MethodUse>,
    /// The same of the method that codes each row a second time.
    pub(super) second: Option<Box<Chosen<'a>>>,
}

/// The methods of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Choice<'a> {
    /// In the order of the sweep; of `use = "*"`, in that of the search.
    pub methods: Vec<Chosen<'a>>,
    /// Of `use = "*"`: the ids of methods that cannot be taken, and why not.
    pub left_out: Vec<(&'a str, String)>,
}

impl<'a> Chosen<'a> {
    /// The library and method.
    pub fn found(&self) -> Found<'a> {
        self.found
    }

    /// Where the sweep names it.
    pub fn span(&self) -> Range<usize> {
        self.used.id.span()
    }

    /// Whether it is one of all, so that what it cannot do is skipped instead of an error.
    pub fn is_one_of_all(&self) -> bool {
        self.used.is_all()
    }

    pub(super) fn runs_on(&self, dataset: &str) -> bool {
        self.used.runs_on(dataset) && !self.replaced_by.iter().any(|other| other.runs_on(dataset))
    }
}

/// Finds the library of each `[[method]]` and checks its axes against the method's schema.
///
/// # Errors
/// An unknown method, parameter or data set, a value that the schema forbids, a digest that
/// differs from the pin; all methods, where none is found.
pub fn choose<'a>(sweep: &'a Sweep, catalog: &'a Catalog) -> Result<Choice<'a>, PlanError> {
    let mut choice = Choice::default();
    for used in &sweep.methods {
        if used.is_all() {
            choose_all(sweep, catalog, used, &mut choice)?;
        } else {
            choice.methods.push(choose_one(sweep, catalog, used)?);
        }
    }
    Ok(choice)
}

/// Every method found. One that two files of a folder offer is left out: nobody said which.
fn choose_all<'a>(
    sweep: &'a Sweep,
    catalog: &'a Catalog,
    used: &'a MethodUse,
    choice: &mut Choice<'a>,
) -> Result<(), PlanError> {
    let all = catalog.methods();
    if all.is_empty() {
        let unknown = ResolveError::Unknown { id: used.id.get_ref().clone() };
        let help = Some(resolve_help(&unknown, catalog));
        let (problem, label) = ("there is no method at all", "every method found");
        return Err(PlanError::at(&sweep.source, used.id.span(), problem, label, help));
    }
    for found in all {
        let id = found.method.id.as_str();
        let replaced_by: Vec<&MethodUse> =
            sweep.methods.iter().filter(|other| other.id.get_ref() == id).collect();
        let runs = |dataset: &Dataset| {
            let name = &dataset.spec.name;
            used.runs_on(name) && !replaced_by.iter().any(|other| other.runs_on(name))
        };
        if !sweep.datasets.iter().any(runs) {
            continue;
        }
        match catalog.resolve(id, None, None) {
            Err(error) => choice.left_out.push((id, error.to_string())),
            Ok(found) => choice.methods.push(Chosen {
                used,
                found,
                axes: BTreeMap::new(),
                rates: rates(sweep, used),
                first_only: true,
                replaced_by,
                second: None,
            }),
        }
    }
    Ok(())
}

/// The rates of a `[[method]]`: its own, or those of the sweep.
fn rates<'a>(sweep: &'a Sweep, used: &'a MethodUse) -> &'a [Spanned<f64>] {
    if used.bits_per_dim.is_empty() { &sweep.bits_per_dim } else { &used.bits_per_dim }
}

fn choose_one<'a>(
    sweep: &'a Sweep,
    catalog: &'a Catalog,
    used: &'a MethodUse,
) -> Result<Chosen<'a>, PlanError> {
    let source = &sweep.source;
    let file = used.plugin.as_ref();
    let (id, named) = (used.id.get_ref().as_str(), file.map(|f| f.get_ref().as_str()));
    let python = used.python.as_ref();
    let found = catalog
        .resolve(id, named, python.map(|python| python.get_ref().as_path()))
        .map_err(|e| {
            if let Some(python) = python {
                return unusable_python(sweep, catalog, used, python);
            }
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
    if schema.iter().any(|p| p.name == TRANSFORM)
        && let Some(chain) = used.transforms.iter().flatten().next()
    {
        return Err(PlanError::at(
            source,
            chain.span(),
            format!("{} has a parameter `{TRANSFORM}`", found.method.id),
            "so its rows cannot be transformed",
            None,
        ));
    }
    if let (Some(second), true) = (&second, schema.iter().any(|p| p.name == SECOND)) {
        return Err(PlanError::at(
            source,
            second.span(),
            format!("{} has a parameter `{SECOND}`", found.method.id),
            "so it cannot have a second code",
            None,
        ));
    }
    // Rates of one's own are asked of one method, and whoever names parameters wants all of them.
    let first_only = used.bits_per_dim.is_empty() && used.axes.is_empty();
    let (rates, second) = (rates(sweep, used), second.map(Box::new));
    Ok(Chosen { used, found, axes, rates, first_only, replaced_by: Vec::new(), second })
}

/// Why no method is the one that is asked for in a Python of its own.
fn unusable_python(
    sweep: &Sweep,
    catalog: &Catalog,
    used: &MethodUse,
    python: &Spanned<PathBuf>,
) -> PlanError {
    let id = used.id.get_ref();
    let offers = |library: &&Library| library.about.methods.iter().any(|method| method.id == *id);
    if catalog.libraries.iter().filter(offers).any(|library| library.about.python.is_none()) {
        let problem = format!("{id} is no method in Python");
        let help = Some("leave `python` out".to_owned());
        return PlanError::at(&sweep.source, python.span(), problem, "named for it here", help);
    }
    let refused = catalog.refused.iter().filter(|refused| source::may_offer(&refused.path, id));
    let told: Vec<String> =
        refused.map(|refused| format!("{}: {}", refused.path.display(), refused.reason)).collect();
    let help = match told.is_empty() {
        true => "`vq-host methods` lists files and their methods".to_owned(),
        false => told.join("\n"),
    };
    let problem = format!("no Python file offers the method `{id}` with this Python");
    PlanError::at(&sweep.source, python.span(), problem, "named here", Some(help))
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
