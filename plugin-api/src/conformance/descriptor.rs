//! Rules on what a method says of itself: texts, parameter schema, grid generator, and a
//! constructor that means what the schema says.

use super::cell::{any_config, describe};
use super::{Log, Subject};
use crate::handle::{CallError, Method, Proposal};
use crate::params::{self, Config, Kind, Param};
use crate::{ErrorKind, GridRequest, Metric, Space, Value};
use std::collections::BTreeMap;

/// Dimensions at which people have data.
const COMMON_DIMS: [usize; 7] = [32, 16, 8, 24, 96, 100, 128];

/// A configuration and a space that `create` accepts.
pub(super) fn foothold(method: &Method, fixed: &Config) -> Option<(Config, Space)> {
    let spaces = [Metric::L2, Metric::Ip, Metric::Cosine]
        .into_iter()
        .flat_map(|metric| COMMON_DIMS.map(|dim| Space { dim, metric }));
    spaces.into_iter().find_map(|space| Some((any_config(method, fixed, space).ok()?, space)))
}

pub(super) fn unknown_extension(subject: &Subject<'_>, log: &mut Log<'_>) {
    for id in ["vq.nothing/1", "vq.", ""] {
        if !subject.method.extension(id).is_null() {
            let input = format!("the unknown id {id:?}");
            return log.error("get_extension", &input, "it answers a table");
        }
    }
}

pub(super) fn texts(subject: &Subject<'_>, log: &mut Log<'_>) {
    let about = subject.method.about();
    let texts = [
        ("name", &about.name),
        ("version", &about.version),
        ("description", &about.description),
        ("license", &about.license),
    ];
    for (field, text) in texts {
        if text.trim().is_empty() {
            log.warning(field, "", "it is empty");
        } else if text.chars().any(char::is_control) {
            log.warning(field, "", format!("{text:?} is not one line"));
        }
    }
}

pub(super) fn schema(subject: &Subject<'_>, log: &mut Log<'_>) {
    for param in &subject.method.about().params {
        let name = &format!("parameter {}", param.name);
        if param.help.trim().is_empty() {
            log.warning("params", name, "it has no help");
        }
        if param.kind == Kind::List && param.item_kind.is_none() {
            log.warning("params", name, "it is a list of items of no kind");
        }
        let number = if param.kind == Kind::List { param.item_kind } else { Some(param.kind) };
        for (end, value) in [("min", &param.min), ("max", &param.max)] {
            if let Some(value) = value
                && number != Some(value.kind())
            {
                let kind = number.map_or("nothing".into(), |kind| kind.to_string());
                log.error("params", name, format!("{end} {value} limits {kind}"));
            }
        }
        let ends = [&param.min, &param.max].map(|end| end.as_ref().and_then(Value::as_f64));
        if let [Some(min), Some(max)] = ends
            && min > max
        {
            log.error("params", name, format!("min {min} is above max {max}"));
        }
        for choice in &param.choices {
            if let Err(reason) = param.check(choice) {
                log.error("params", name, format!("choice {choice}: {reason}"));
            }
        }
    }
}

fn request(
    space: Space,
    bits_per_dim: Option<f64>,
    axes: BTreeMap<String, Vec<Value>>,
) -> GridRequest {
    GridRequest { space, bits_per_dim, axes }
}

/// Asks the generator and judges what holds for every answer.
fn expand(
    subject: &Subject<'_>,
    request: &GridRequest,
    input: &str,
    log: &mut Log<'_>,
) -> Option<Vec<Proposal>> {
    let proposals = log.must(input, subject.method.expand(request))?;
    for proposal in &proposals {
        if let Proposal::Skip { config, reason } = proposal
            && reason.is_empty()
        {
            log.error("expand_grid", input, format!("skips {} without a reason", describe(config)));
        }
    }
    Some(proposals)
}

fn at(space: Space) -> String {
    format!("d = {}, {:?}", space.dim, space.metric)
}

pub(super) fn grid_default(subject: &Subject<'_>, log: &mut Log<'_>) {
    let mut emitted = 0;
    for dim in COMMON_DIMS {
        let space = Space { dim, ..subject.space };
        let input = format!("no axes, {}", at(space));
        let Some(proposals) = expand(subject, &request(space, None, [].into()), &input, log) else {
            return;
        };
        let mut configs: Vec<&Config> = Vec::new();
        let mut labels: Vec<&str> = Vec::new();
        for proposal in &proposals {
            let Proposal::Emit { config, label, .. } = proposal else { continue };
            if configs.contains(&config) {
                log.warning("expand_grid", &input, format!("emits {} twice", describe(config)));
            } else if labels.contains(&label.as_str()) {
                log.warning("expand_grid", &input, format!("two configurations are {label:?}"));
            }
            configs.push(config);
            labels.push(label);
        }
        emitted += configs.len();
    }
    if emitted == 0 {
        log.error("expand_grid", "no axes, common dimensions", "no configuration is emitted");
    }
}

/// Up to two values that the schema allows, the default first.
fn some_values(param: &Param) -> Vec<Value> {
    let mut values: Vec<Value> = param.default.iter().cloned().collect();
    let others = param.grid.iter().chain(&param.choices);
    values.extend(others.filter(|value| Some(*value) != param.default.as_ref()).take(1).cloned());
    values
}

pub(super) fn grid_axes(subject: &Subject<'_>, log: &mut Log<'_>) {
    let schema = &subject.method.about().params;
    let known = schema.iter().map(|param| (param, some_values(param)));
    let one_axis = known
        .filter(|(_, values)| !values.is_empty())
        .map(|(param, values)| BTreeMap::from([(param.name.clone(), values)]));
    let usual = |p: &Param| Some((p.name.clone(), vec![p.default.clone()?]));
    let all_axes = schema.iter().filter_map(usual).collect();
    for axes in one_axis.chain([all_axes]).filter(|axes: &BTreeMap<_, _>| !axes.is_empty()) {
        let told: Vec<String> = axes
            .iter()
            .map(|(name, values)| format!("{name} = {}", Value::List(values.clone())))
            .collect();
        let input = format!("axes {}, {}", told.join(", "), at(subject.space));
        let Some(proposals) =
            expand(subject, &request(subject.space, None, axes.clone()), &input, log)
        else {
            return;
        };
        for proposal in proposals {
            match proposal {
                Proposal::Emit { config, .. } => {
                    let foreign = axes.iter().find(|(name, values)| {
                        config.get(*name).is_some_and(|value| !values.contains(value))
                    });
                    if let Some((name, _)) = foreign {
                        let found = format!("{} has another {name}", describe(&config));
                        log.error("expand_grid", &input, found);
                    }
                }
                // The host turns an impossible proposal into a skip; the reason shows it.
                Proposal::Skip { config, .. } => {
                    if let Err(reason) = params::check(schema, &config) {
                        let found = format!("proposes {}: {reason}", describe(&config));
                        log.error("expand_grid", &input, found);
                    }
                }
            }
        }
    }
}

/// A rate that no method stores.
const ABSURD_BITS_PER_DIM: f64 = 10_000.0;

pub(super) fn grid_rate(subject: &Subject<'_>, log: &mut Log<'_>) {
    let Subject { space, .. } = *subject;
    let default = subject.method.expand(&request(space, None, [].into())).unwrap_or_default();
    let offered = default.iter().find_map(|proposal| match proposal {
        Proposal::Emit { code_bytes: Some(bytes), .. } => {
            Some(8.0 * *bytes as f64 / space.dim as f64)
        }
        _ => None,
    });
    for bits in [0.5, 1.0, 2.0, 4.0, 8.0, ABSURD_BITS_PER_DIM].into_iter().chain(offered) {
        let input = format!("bits_per_dim = {bits}, no axes, {}", at(space));
        let asked = request(space, Some(bits), [].into());
        let Some(proposals) = expand(subject, &asked, &input, log) else { return };
        let emitted = proposals.iter().find(|p| matches!(p, Proposal::Emit { .. }));
        match emitted {
            Some(Proposal::Emit { config, .. }) if bits == ABSURD_BITS_PER_DIM => {
                log.error("expand_grid", &input, format!("emits {}", describe(config)));
            }
            None if Some(bits) == offered => {
                let found = "emits nothing, though the default grid stores that rate";
                log.warning("expand_grid", &input, found);
            }
            _ => {}
        }
    }
}

/// The subject's configuration with one value changed.
fn with(subject: &Subject<'_>, name: &str, value: Value) -> Config {
    let mut config = subject.config.clone();
    config.insert(name.into(), value);
    config
}

/// The refusal that the contract asks for: VQ_BAD_CONFIG, and a text that starts with one of
/// `names`.
fn well_refused(error: &CallError, names: &[&str]) -> bool {
    let named =
        |name: &&str| error.message().strip_prefix(*name).is_some_and(|rest| rest.starts_with(':'));
    error.kind() == Some(ErrorKind::BadConfig) && names.iter().any(named)
}

/// Creates what may work; a refusal must be a good one.
fn may_create(subject: &Subject<'_>, config: &Config, input: &str, log: &mut Log<'_>) {
    let schema = &subject.method.about().params;
    let names: Vec<&str> = schema.iter().map(|param| param.name.as_str()).collect();
    if let Err(error) = log.judge(input, subject.method.create(config, subject.space)) {
        refusal(&error, &names, input, log);
    }
}

/// Creates what must not work, because of parameter `name`.
fn must_refuse(subject: &Subject<'_>, config: &Config, name: &str, log: &mut Log<'_>) {
    let input = format!("{}, {}", describe(config), at(subject.space));
    match log.judge(&input, subject.method.create(config, subject.space)) {
        Ok(_) => log.error("create", &input, "it is accepted"),
        Err(error) => refusal(&error, &[name], &input, log),
    }
}

fn refusal(error: &CallError, names: &[&str], input: &str, log: &mut Log<'_>) {
    // A panic or a broken promise has its own finding.
    let judged = !matches!(error.kind(), None | Some(ErrorKind::Panicked));
    if judged && !well_refused(error, names) {
        let kind = error.kind().map_or(String::new(), |kind| format!("{kind:?}: "));
        log.error("create", input, format!("refused with {kind}{}", error.message()));
    }
}

/// The value in the shape of the parameter: a list of it where the parameter is a list.
fn shaped(param: &Param, value: Value) -> Value {
    if param.kind == Kind::List { Value::List(vec![value]) } else { value }
}

pub(super) fn boundaries(subject: &Subject<'_>, log: &mut Log<'_>) {
    for param in &subject.method.about().params {
        let ends = [&param.min, &param.max].into_iter().flatten();
        let ends = ends.map(|end| shaped(param, end.clone()));
        let truths =
            [false, true].map(Value::Bool).into_iter().filter(|_| param.kind == Kind::Bool);
        let values = ends.chain(param.choices.iter().chain(&param.grid).cloned()).chain(truths);
        for value in values {
            if param.check(&value).is_ok() {
                let config = with(subject, &param.name, value);
                let input = format!("{}, {}", describe(&config), at(subject.space));
                may_create(subject, &config, &input, log);
            }
        }
    }
}

pub(super) fn out_of_range(subject: &Subject<'_>, log: &mut Log<'_>) {
    let beyond = |end: &Value, step: f64| match end {
        Value::Int(i) if step < 0.0 => i.checked_sub(1).map(Value::Int),
        Value::Int(i) => i.checked_add(1).map(Value::Int),
        Value::Float(f) => Some(Value::Float(f + step * f.abs().max(1.0))),
        _ => None,
    };
    for param in &subject.method.about().params {
        let below = param.min.as_ref().and_then(|min| beyond(min, -1.0));
        let above = param.max.as_ref().and_then(|max| beyond(max, 1.0));
        let mut values: Vec<Value> =
            below.into_iter().chain(above).map(|value| shaped(param, value)).collect();
        let stranger = match param.choices.first() {
            Some(Value::Str(_)) => Some(Value::Str("no such choice".into())),
            Some(Value::Int(_)) => (0..).map(Value::Int).find(|v| !param.choices.contains(v)),
            _ => None,
        };
        values.extend(stranger);
        for value in values.into_iter().filter(|value| param.check(value).is_err()) {
            must_refuse(subject, &with(subject, &param.name, value), &param.name, log);
        }
    }
}

pub(super) fn wrong_kind(subject: &Subject<'_>, log: &mut Log<'_>) {
    for param in &subject.method.about().params {
        let wrong = |kind| match kind {
            Some(Kind::Str) => Value::Int(1),
            _ => Value::Str("a text".into()),
        };
        let mut values = vec![wrong(Some(param.kind))];
        if param.kind == Kind::List {
            values.push(Value::List(vec![wrong(param.item_kind)]));
        }
        for value in values {
            must_refuse(subject, &with(subject, &param.name, value), &param.name, log);
        }
    }
}

pub(super) fn unknown_parameter(subject: &Subject<'_>, log: &mut Log<'_>) {
    const NAME: &str = "no_such_parameter";
    must_refuse(subject, &with(subject, NAME, Value::Int(1)), NAME, log);
}
