//! From a wanted rate to configurations: which numbers of sub-vectors divide the dimension, which
//! widths are whole bits, which codes fill a budget of bytes.

use vq_kernels::pack::packed_bytes;
use vq_plugin_api::params::Param;
pub use vq_plugin_api::quantizer::budget;
use vq_plugin_api::quantizer::{meets_rate, product};
use vq_plugin_api::{Error, GridRequest, GridSink, Params, Quantizer, Value};

/// Whether codes of `code_bytes` answer a rate: not above its budget, and filling 95 % of it.
///
/// # Errors
/// Why not, as the reason to skip a configuration.
pub fn fills(code_bytes: usize, dim: usize, bits_per_dim: f64) -> Result<(), String> {
    let bytes = budget(dim, bits_per_dim);
    let of = format!("the {bytes} bytes of {bits_per_dim} bits/dim at d = {dim}");
    if meets_rate(code_bytes, dim, bits_per_dim) {
        Ok(())
    } else if code_bytes > bytes {
        Err(format!("{code_bytes} bytes are more than {of}"))
    } else {
        Err(format!("{code_bytes} bytes fill less than 95 % of {of}"))
    }
}

/// The whole numbers of bits next to the rate, within 1..=`most`: few dimensions round up to whole bytes.
#[must_use]
pub fn whole_bits(bits_per_dim: f64, most: u32) -> Vec<Value> {
    let clamped = |bits: f64| bits.clamp(1.0, f64::from(most)) as u32;
    let mut bits =
        [bits_per_dim.floor(), bits_per_dim.ceil()].map(clamped).map(Value::from).to_vec();
    bits.dedup();
    bits
}

/// [`expand_rate_or`] for a method whose `bits` decide where `rate` is 0.
///
/// # Errors
/// Those of the general grid generator.
pub fn expand_rate<Q: Quantizer>(
    request: &GridRequest,
    sink: &mut dyn GridSink,
) -> Result<(), Error> {
    expand_rate_or::<Q>("bits", request, sink)
}

/// The grid of a method with parameters `rate`, bits per dimension with everything included, and `other`,
/// which decides where `rate` is 0: a wanted rate becomes the value of `rate`, unless the user names one of
/// the two, and what cannot answer it is skipped with the reason.
///
/// # Errors
/// Those of the general grid generator.
pub fn expand_rate_or<Q: Quantizer>(
    other: &str,
    request: &GridRequest,
    sink: &mut dyn GridSink,
) -> Result<(), Error> {
    let named = request.axes.contains_key("rate") || request.axes.contains_key(other);
    match request.bits_per_dim {
        Some(bits_per_dim) if !named => {
            let mut at_rate = request.clone();
            at_rate.bits_per_dim = None;
            at_rate.axes.insert("rate".to_owned(), vec![Value::Float(bits_per_dim)]);
            product::<Q>(&at_rate, sink)
        }
        _ => product::<Q>(request, sink),
    }
}

/// Bits per sub-vector by preference: whole bytes, then half bytes; the others where
/// neither meets a rate, first those with enough centroids to gain from a sub-vector.
const PREFERENCE: [&[u32]; 3] = [&[8, 4], &[5, 6, 7, 9, 10, 11, 12], &[1, 2, 3]];

/// Bits per dimension of a default grid of sub-vectors.
const SPLIT_RATES: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

/// The grid of a method with parameters `m`, which must divide d, and `bits`, over [`Product`](crate::Product):
/// a rate is answered by all (m, bits) that fill it in 8 and 4 bits, by other widths only where neither can.
/// The default grid is the answer to ½, 1, 2 and 4 bits per dimension, of other widths the first. Where other
/// parameters are named, the default m becomes the nearest that divides.
///
/// # Errors
/// Those of the general grid generator.
pub fn expand_splits<Q: Quantizer>(
    request: &GridRequest,
    sink: &mut dyn GridSink,
) -> Result<(), Error> {
    match request.bits_per_dim {
        Some(bits_per_dim) => at_rate::<Q>(request, bits_per_dim, usize::MAX, sink),
        None if request.axes.is_empty() => SPLIT_RATES.iter().try_for_each(|rate| {
            let mut one = request.clone();
            one.bits_per_dim = Some(*rate);
            at_rate::<Q>(&one, *rate, 1, sink)
        }),
        None if request.axes.contains_key("m") => product::<Q>(request, sink),
        None => product::<Q>(&with_dividing_m(&Q::Params::schema(), request, sink), sink),
    }
}

/// Bits per dimension of a default grid of layers.
const LAYER_RATES: [f64; 3] = [0.25, 0.5, 1.0];

/// The grid of a method with parameters `splits`, which must divide d, `layers` of each and `bits`, over
/// [`Residual`](crate::Residual): a rate is answered by as many layers of eight bits, or of those that are named,
/// as its budget holds, in the fewest sub-spaces that share them evenly, at most `most[0]` each: the recommended
/// shape. The answer with at most `most[1]` each comes after it where it is another. The default grid is the first
/// answer to ¼, ½ and 1 bit per dimension, with the grids of the other parameters.
///
/// # Errors
/// Those of the general grid generator.
pub fn expand_layers<Q: Quantizer>(
    most: [usize; 2],
    request: &GridRequest,
    sink: &mut dyn GridSink,
) -> Result<(), Error> {
    let (plain, dim) = (request.axes.is_empty(), request.space.dim);
    let rates = match request.bits_per_dim {
        Some(rate) if !request.axes.contains_key("layers") => vec![rate],
        None if plain => LAYER_RATES.to_vec(),
        _ => return product::<Q>(request, sink),
    };
    let named = |name: &str| request.axes.get(name).cloned();
    let widths = named("bits").unwrap_or(vec![Value::from(8_u32)]);
    for (rate, bits) in rates.iter().flat_map(|rate| widths.iter().map(move |bits| (rate, bits))) {
        let held = (8 * budget(dim, *rate)) as f64 / bits.as_f64().unwrap_or(8.0);
        let held = held.floor().max(1.0) as usize;
        let splits = named("splits").unwrap_or_else(|| {
            let mut shapes = most.map(|most| Value::from(fewest_splits(dim, held, most))).to_vec();
            shapes.dedup();
            // Its three rates are a default grid by themselves.
            shapes.truncate(if request.bits_per_dim.is_some() { shapes.len() } else { 1 });
            shapes
        });
        for splits in splits {
            let each = splits.as_f64().map_or(held, |splits| held / splits.max(1.0) as usize);
            let mut one = request.clone();
            one.bits_per_dim = Some(*rate);
            one.axes.insert("layers".to_owned(), vec![Value::from(each.clamp(1, 256))]);
            if splits != Value::from(1_usize) || request.axes.contains_key("splits") {
                one.axes.insert("splits".to_owned(), vec![splits]);
            }
            if request.axes.contains_key("bits") {
                one.axes.insert("bits".to_owned(), vec![bits.clone()]);
            }
            let schema = Q::Params::schema();
            for param in schema.iter().filter(|param| plain && param.grid.len() > 1) {
                one.axes.insert(param.name.clone(), param.grid.clone());
            }
            product::<Q>(&one, sink)?;
        }
    }
    Ok(())
}

/// The fewest sub-spaces of `dim` dimensions with at most `most` of `layers` each, which they share evenly or, where no
/// number of them does, so that 95 % are used. Where all have more, those with the fewest.
fn fewest_splits(dim: usize, layers: usize, most: usize) -> usize {
    let used = |splits: usize| layers - layers % splits;
    let nearly_all = |splits: &usize| 20 * used(*splits) >= 19 * layers;
    let splits: Vec<usize> = divisors(dim).filter(nearly_all).collect();
    let mut fit = splits.iter().filter(|splits| layers / **splits <= most);
    let even = fit.clone().find(|splits| used(**splits) == layers);
    even.or(fit.next()).or(splits.last()).copied().unwrap_or(1)
}

/// All (m, bits) that could be asked of a rate, for
/// [`rate_axes`](vq_plugin_api::Quantizer::rate_axes): what the answer "nearest is" is sought in.
#[must_use]
pub fn all_splits(dim: usize) -> Vec<(&'static str, Vec<Value>)> {
    let bits = (1..=12_u32).map(Value::from).collect();
    vec![("m", divisors(dim).map(Value::from).collect()), ("bits", bits)]
}

fn divisors(dim: usize) -> impl Iterator<Item = usize> {
    (1..=dim).filter(move |m| dim.is_multiple_of(*m))
}

/// The request with the default m, or the divisor of d nearest to it.
fn with_dividing_m(
    schema: &[Param],
    request: &GridRequest,
    sink: &mut dyn GridSink,
) -> GridRequest {
    let dim = request.space.dim;
    let mut adapted = request.clone();
    let default = schema.iter().find(|param| param.name == "m");
    let default = default.and_then(|param| param.default.as_ref());
    if let Some((wanted, number)) = default.and_then(|m| Some((m, m.as_f64()?))) {
        let far = |m: &usize| (*m as f64 / number).ln().abs();
        let nearest = divisors(dim).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(1);
        let found = Value::from(nearest);
        if found != *wanted {
            let config = [("m".to_owned(), wanted.clone())].into();
            let reason = format!("m: {wanted} does not divide d = {dim}; {found} is tried instead");
            sink.skip(&config, &reason);
        }
        adapted.axes.insert("m".to_owned(), vec![found]);
    }
    adapted
}

/// The pairs that fill the wanted rate, of the most preferred bits that can; of bits that are not whole or half
/// bytes at most `others`.
fn at_rate<Q: Quantizer>(
    request: &GridRequest,
    bits_per_dim: f64,
    others: usize,
    sink: &mut dyn GridSink,
) -> Result<(), Error> {
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
    let Some(mut pairs) = pairs else {
        // Nothing fits: the general way says what comes nearest.
        return product::<Q>(request, sink);
    };
    if !pairs.iter().any(|(_, bits)| PREFERENCE[0].contains(bits)) {
        pairs.truncate(others);
    }
    for (m, bits) in pairs {
        let mut one = request.clone();
        one.axes.insert("m".to_owned(), vec![Value::from(m)]);
        one.axes.insert("bits".to_owned(), vec![Value::from(bits)]);
        product::<Q>(&one, sink)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_and_nearly_filled() {
        assert_eq!(
            [budget(100, 1.0), budget(128, 1.0), budget(80, 0.1), budget(7, 1.0)],
            [12, 16, 1, 0]
        );
        assert!(fills(12, 100, 1.0).is_ok() && fills(61, 128, 4.0).is_ok());
        assert_eq!(
            fills(13, 100, 1.0).unwrap_err(),
            "13 bytes are more than the 12 bytes of 1 bits/dim at d = 100"
        );
        assert_eq!(
            fills(60, 128, 4.0).unwrap_err(),
            "60 bytes fill less than 95 % of the 64 bytes of 4 bits/dim at d = 128"
        );
    }

    #[test]
    fn sub_spaces_share_layers_evenly_or_nearly_so_and_as_few_as_hold_them() {
        let shape = |dim, layers, most| {
            let splits = fewest_splits(dim, layers, most);
            (splits, layers / splits)
        };
        assert_eq!([16, 8, 3].map(|most| shape(128, 16, most)), [(1, 16), (2, 8), (8, 2)]);
        assert_eq!([32, 12, 8].map(|most| shape(384, 48, most)), [(2, 24), (4, 12), (6, 8)]);
        // 36 of 37.
        assert_eq!([32, 12].map(|most| shape(300, 37, most)), [(2, 18), (3, 12)]);
        // 12 of 13 are too few, and a prime has no sub-spaces of more than one dimension.
        assert_eq!(shape(104, 13, 12), (13, 1));
        assert_eq!(shape(127, 15, 12), (1, 15));
        assert_eq!(shape(7, 1, 12), (1, 1));
    }

    #[test]
    fn whole_bits_lie_next_to_the_rate() {
        let bits = |rate| whole_bits(rate, 8);
        assert_eq!(bits(2.0), [Value::Int(2)]);
        assert_eq!(bits(2.5), [Value::Int(2), Value::Int(3)]);
        assert_eq!((bits(0.1), bits(40.0)), (vec![Value::Int(1)], vec![Value::Int(8)]));
    }
}
