//! What a configuration is called in other systems, by the tags of its method.
//!
//! ```text
//! tag  := word | SYSTEM="NAME" [ if PARAMETER=VALUE[|VALUE…] … ]
//! ```
//!
//! Tags are parted by commas outside of quotes. `{parameter}` in a name is its value; a name whose
//! conditions do not hold, or that asks for a parameter that is not there, is no name.

use serde_json::Value;

/// A name in another system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// `Lucene`.
    pub system: String,
    /// What it is called there: a factory string, a type, a setting.
    pub name: String,
}

/// The names that `tags` have for the configuration `params`.
pub fn names(tags: &str, params: &Value) -> Vec<Elsewhere> {
    parts(tags).filter_map(|tag| name(tag, params)).collect()
}

/// The words among `tags`, without names.
pub fn words(tags: &str) -> Vec<&str> {
    parts(tags).filter(|tag| !tag.contains('"')).collect()
}

/// What stands between commas outside of quotes.
fn parts(tags: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let between = move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    tags.split(between).map(str::trim).filter(|tag| !tag.is_empty())
}

fn name(tag: &str, params: &Value) -> Option<Elsewhere> {
    let (system, rest) = tag.split_once("=\"")?;
    let (pattern, conditions) = rest.split_once('"')?;
    let conditions = conditions.trim();
    let mut wanted = match conditions.strip_prefix("if ") {
        Some(conditions) => conditions.split_whitespace(),
        None if conditions.is_empty() => "".split_whitespace(),
        None => return None,
    };
    let holds = |condition: &str| {
        let (parameter, values) = condition.split_once('=')?;
        let is = text(params.get(parameter)?);
        values.split('|').any(|value| value == is).then_some(())
    };
    wanted.try_for_each(holds)?;
    let mut name = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (parameter, after) = after.split_once('}')?;
        name += before;
        name += &text(params.get(parameter)?);
        rest = after;
    }
    name += rest;
    Some(Elsewhere { system: system.to_owned(), name })
}

/// A value as it is typed: `4`, not `4.0`.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number
            .as_f64()
            .filter(|number| number.fract() == 0.0 && number.abs() < 1e15)
            .map_or_else(|| number.to_string(), |number| format!("{number:.0}")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TAGS: &str =
        "codes, A=\"turn{m},codes{m}x{bits}\",B=\"half\" if rate=0 bits=4|8, two-words";

    fn told(params: &Value) -> Vec<String> {
        names(TAGS, params).into_iter().map(|of| format!("{} {}", of.system, of.name)).collect()
    }

    #[test]
    fn a_name_has_the_values_of_its_parameters() {
        assert_eq!(
            told(&json!({ "m": 96, "bits": 8, "rate": 0.0 })),
            ["A turn96,codes96x8", "B half"]
        );
        assert_eq!(words(TAGS), ["codes", "two-words"]);
    }

    #[test]
    fn what_does_not_hold_or_is_not_there_has_no_name() {
        assert_eq!(told(&json!({ "m": 96, "bits": 6, "rate": 0.0 })), ["A turn96,codes96x6"]);
        assert_eq!(told(&json!({ "bits": 4, "rate": 0.5 })), [""; 0]);
        assert_eq!(told(&json!({ "bits": 4, "rate": 0 })), ["B half"]);
        for broken in ["A=\"x", "A=\"x{m\"", "A=\"x\" when m=1", "=", "\"", "A=\"x\" if m"] {
            assert_eq!(names(broken, &json!({ "m": 1 })), [], "{broken}");
        }
    }
}
