//! The identity of a cell, and canonical JSON, which it is made of.

use std::fmt::Write as _;

use serde_json::Value;

/// Everything that identifies a cell.
#[derive(Clone, Copy, Debug)]
pub struct CellKeyParts<'a> {
    /// Content digest of the prepared data.
    pub dataset_digest: &'a str,
    /// `l2`, `ip` or `cosine`.
    pub metric: &'a str,
    /// The method's id.
    pub method: &'a str,
    /// Every parameter with the value it has, defaults included.
    pub params: &'a Value,
    /// The evaluation settings.
    pub evaluation: &'a Value,
    /// The seed.
    pub seed: u64,
    /// Digest of the library that holds the method.
    pub plugin_digest: &'a str,
    /// Digest of the libraries that it brings along, if it names any.
    pub needs_digest: Option<&'a str>,
}

/// The identity of a cell: 64 hexadecimal digits, equal on every machine for equal parts.
pub fn cell_key(parts: &CellKeyParts<'_>) -> String {
    let mut object = serde_json::json!({
        "dataset": parts.dataset_digest,
        "evaluation": deciding(parts.evaluation),
        "method": parts.method,
        "metric": parts.metric,
        "params": parts.params,
        "plugin": parts.plugin_digest,
        "seed": parts.seed,
    });
    // Absent rather than null: the key of a library that needs none is what it always was.
    if let Some(needs) = parts.needs_digest {
        object["needs"] = needs.into();
    }
    blake3::hash(canonical_json(&object).as_bytes()).to_hex().to_string()
}

/// What of `evaluation` decides the values of metrics: all but which families of them are measured,
/// and how the data set is called whose neighbours are the true ones.
pub fn deciding(evaluation: &Value) -> Value {
    let mut deciding = evaluation.clone();
    if let Some(settings) = deciding.as_object_mut() {
        settings.remove("metrics");
        if let Some(truth) = settings.get_mut("truth").and_then(Value::as_object_mut) {
            truth.remove("of");
        }
    }
    deciding
}

/// One text per value: no spaces, keys sorted by their bytes, and equal numbers written equally,
/// so `1`, `1.0` and `1e0` are all `1`.
///
/// Integers keep all their digits; other numbers are the shortest decimal, without an exponent,
/// that reads back as the same f64.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
        Value::Number(number) => write_canonical_number(number, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            // Sorted here, since a crate elsewhere may switch serde_json to insertion order.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(item, out);
            }
            out.push('}');
        }
    }
}

fn write_canonical_number(number: &serde_json::Number, out: &mut String) {
    let written = if let Some(integer) = number.as_i64() {
        write!(out, "{integer}")
    } else if let Some(integer) = number.as_u64() {
        write!(out, "{integer}")
    } else {
        // std's Display of f64 is the shortest text that reads back and never has an exponent,
        // unlike the float writer inside serde_json, which has changed over time. `+ 0.0` turns
        // −0 into 0.
        write!(out, "{}", number.as_f64().unwrap_or_default() + 0.0)
    };
    written.expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn parts<'a>(params: &'a Value, evaluation: &'a Value) -> CellKeyParts<'a> {
        CellKeyParts {
            dataset_digest: "0f1e2d",
            metric: "l2",
            method: "example",
            params,
            evaluation,
            seed: 42,
            plugin_digest: "a1b2c3",
            needs_digest: None,
        }
    }

    #[test]
    fn the_key_of_a_cell_never_changes() {
        let params = json!({ "m": 8, "bits": 8, "scale": 0.5, "levels": [0, 2.0, 4] });
        let evaluation = json!({ "k": [1, 10, 100], "pairs": 10_000, "rerank": [1, 4] });
        // A change of this digest makes every stored result be computed again.
        assert_eq!(
            cell_key(&parts(&params, &evaluation)),
            "bd182047e41f4e8de901c6e950ec27b9c39a4ebfb901544dd0ad97a7eba037c6"
        );
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let (params, evaluation) = (json!({ "m": 8 }), json!({ "k": [1] }));
        let (other_params, other_evaluation) = (json!({ "m": 16 }), json!({ "k": [10] }));
        let base = parts(&params, &evaluation);
        let keys = BTreeSet::from([
            cell_key(&base),
            cell_key(&CellKeyParts { dataset_digest: "x", ..base }),
            cell_key(&CellKeyParts { metric: "ip", ..base }),
            cell_key(&CellKeyParts { method: "x", ..base }),
            cell_key(&CellKeyParts { params: &other_params, ..base }),
            cell_key(&CellKeyParts { evaluation: &other_evaluation, ..base }),
            cell_key(&CellKeyParts { seed: 43, ..base }),
            cell_key(&CellKeyParts { plugin_digest: "x", ..base }),
            cell_key(&CellKeyParts { needs_digest: Some("x"), ..base }),
        ]);
        assert_eq!(keys.len(), 9);
    }

    #[test]
    fn which_metrics_are_measured_is_no_part_of_the_key() {
        let params = json!({ "m": 8 });
        let of = |evaluation: Value| cell_key(&parts(&params, &evaluation));
        let few = of(json!({ "k": [1], "metrics": ["pairs"] }));
        assert_eq!(few, of(json!({ "k": [1], "metrics": ["pairs", "order"] })));
        assert_eq!(few, of(json!({ "k": [1] })));
        // Whose neighbours are the true ones is, under any name.
        let truth =
            |of: &str, digest: &str| json!({ "k": [1], "truth": { "of": of, "digest": digest } });
        assert_eq!(of(truth("a", "d1")), of(truth("b", "d1")));
        assert_ne!(of(truth("a", "d1")), of(truth("a", "d2")));
        assert_ne!(of(truth("a", "d1")), few);
    }

    #[test]
    fn canonical_json_writes_equal_values_equally() {
        let text = r#" { "b": 1.0, "a": [ 1e2, -0.0, 0.1, "é\n" ], "c": {"y": null, "x": true} } "#;
        let value: Value = serde_json::from_str(text).unwrap();
        let expected = r#"{"a":[100,0,0.1,"é\n"],"b":1,"c":{"x":true,"y":null}}"#;
        assert_eq!(canonical_json(&value), expected);
        let again: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(canonical_json(&again), expected);
        assert_eq!(canonical_json(&json!(u64::MAX)), u64::MAX.to_string());
        assert_eq!(canonical_json(&json!(1e-7)), "0.0000001");
    }
}
