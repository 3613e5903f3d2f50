//! Which (m, bits) are worth trying: m must divide d, so that a fixed list of m serves few
//! dimensions.

use crate::Pq;
use vq_kernels::pack::packed_bytes;
use vq_plugin_api::params::Param;
use vq_plugin_api::quantizer::{meets_rate, product};
use vq_plugin_api::{Error, GridRequest, GridSink, Params, Quantizer, Value};

/// Bits per sub-vector by preference: whole bytes, then half bytes; the others where
/// neither meets a rate, first those with enough centroids to gain from a sub-vector.
const PREFERENCE: [&[u32]; 3] = [&[8, 4], &[5, 6, 7, 9, 10, 11, 12], &[1, 2, 3]];

pub(crate) fn expand(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
    let schema = <Pq as Quantizer>::Params::schema();
    match request.bits_per_dim {
        Some(bits_per_dim) => at_rate(request, bits_per_dim, sink),
        None if request.axes.contains_key("m") => product::<Pq>(request, sink),
        None => {
            let request = with_dividing_m(&schema, request, sink);
            product::<Pq>(&request, sink)
        }
    }
}

/// All that could be asked of a rate: what the answer "nearest is" is sought in.
pub(crate) fn all_splits(dim: usize) -> Vec<(&'static str, Vec<Value>)> {
    let bits = (1..=12_u32).map(Value::from).collect();
    vec![("m", divisors(dim).map(Value::from).collect()), ("bits", bits)]
}

fn divisors(dim: usize) -> impl Iterator<Item = usize> {
    (1..=dim).filter(move |m| dim.is_multiple_of(*m))
}

/// The request with every m of the default grid replaced by the divisor of d nearest to it.
fn with_dividing_m(
    schema: &[Param],
    request: &GridRequest,
    sink: &mut dyn GridSink,
) -> GridRequest {
    let dim = request.space.dim;
    let mut adapted = request.clone();
    for param in schema {
        // Axes once inserted silence the default grids of the other parameters.
        let swept = request.axes.is_empty() && !param.grid.is_empty();
        if swept {
            adapted.axes.insert(param.name.clone(), param.grid.clone());
        } else if param.name == "m" {
            adapted.axes.insert(param.name.clone(), vec![param.default.clone()]);
        }
    }
    let mut ms: Vec<Value> = Vec::new();
    for wanted in adapted.axes.remove("m").unwrap_or_default() {
        let Some(number) = wanted.as_f64() else { continue };
        let far = |m: &usize| (*m as f64 / number).ln().abs();
        let nearest = divisors(dim).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(1);
        let found = Value::from(nearest);
        if found != wanted {
            let config = [("m".to_owned(), wanted.clone())].into();
            let reason = format!("m: {wanted} does not divide d = {dim}; {found} is tried instead");
            sink.skip(&config, &reason);
        }
        if !ms.contains(&found) {
            ms.push(found);
        }
    }
    adapted.axes.insert("m".to_owned(), ms);
    adapted
}

/// The pairs that store the wanted rate, of the most preferred bits that can.
fn at_rate(request: &GridRequest, bits_per_dim: f64, sink: &mut dyn GridSink) -> Result<(), Error> {
    let dim = request.space.dim;
    let allowed = |name: &str, value: Value| {
        request.axes.get(name).is_none_or(|values| values.contains(&value))
    };
    let wanted_bits = bits_per_dim * dim as f64;
    let exact = |m: usize, bits: u32| ((m * bits as usize) as f64 - wanted_bits).abs() < 1e-6;
    let close = |m: usize, bits: u32| meets_rate(packed_bytes(m, bits), dim, bits_per_dim);
    let pairs_with = |fits: &dyn Fn(usize, u32) -> bool, widths: &[u32]| -> Vec<(usize, u32)> {
        let widths = widths.iter().filter(|bits| allowed("bits", Value::from(**bits)));
        let ms: Vec<usize> = divisors(dim).filter(|m| allowed("m", Value::from(*m))).collect();
        widths
            .flat_map(|bits| ms.iter().map(move |m| (*m, *bits)))
            .filter(|(m, bits)| fits(*m, *bits) && close(*m, *bits))
            .collect()
    };
    let pairs = [&exact as &dyn Fn(usize, u32) -> bool, &close]
        .into_iter()
        .flat_map(|fits| PREFERENCE.map(|widths| (fits, widths)))
        .map(|(fits, widths)| pairs_with(fits, widths))
        .find(|pairs| !pairs.is_empty());
    let Some(pairs) = pairs else {
        // Nothing fits: the general way says what comes nearest.
        return product::<Pq>(request, sink);
    };
    for (m, bits) in pairs {
        let mut one = request.clone();
        one.axes.insert("m".to_owned(), vec![Value::from(m)]);
        one.axes.insert("bits".to_owned(), vec![Value::from(bits)]);
        product::<Pq>(&one, sink)?;
    }
    Ok(())
}
