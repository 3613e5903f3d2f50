//! What is otherwise in a second record of one cell.

use super::{known, number};
use crate::metric::OF_SOURCE;
use crate::record::Record;

/// A line about the quality that changed from `before` to `after`, two records of one cell, where
/// the method promises that it does not; none where all is as it was.
///
/// Times and memory may differ. A metric that one of the two lacks says nothing.
pub fn quality_changed(before: &Record, after: &Record) -> Option<String> {
    let mut changed = differs(before, after, 0.0);
    let (name, was, is) = changed.next()?;
    let more = match changed.count() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let [was, is] = number::both(name, was, is);
    let run = &before.run_id;
    Some(format!(
        "its quality changed though the method is deterministic: {name} is {is} and was {was}{more} \
         (run {run})"
    ))
}

/// Name and both values of each metric of quality, of a method that promises equal codes, that
/// differs by more than this share.
pub(super) fn differs<'a>(
    before: &'a Record,
    after: &'a Record,
    tolerance: f64,
) -> impl Iterator<Item = (&'a str, f64, f64)> {
    let promised = after.method.deterministic == Some(true);
    let compared = promised && before.outcome.is_ok() && after.outcome.is_ok();
    after.metrics.iter().filter(move |_| compared).filter_map(move |metric| {
        let (name, is) = (metric.name(), metric.value());
        let is_quality = crate::metric::info(name).is_some()
            // Two files may hold the same rows.
            && !OF_SOURCE.contains(&name)
            && !matches!(known(name).unit, "s")
            && !known(name).unit.ends_with("/s")
            && !name.ends_with("peak_rss_bytes");
        let was = before.value(name).filter(|_| is_quality)?;
        let same = was == is || (was - is).abs() <= tolerance * was.abs().max(is.abs());
        (!same).then_some((name, was, is))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{MetricValue, Outcome};

    #[test]
    fn only_quality_of_a_deterministic_method_may_not_change() {
        let record = |mse: f64, fit: f64| {
            let mut record = sample("a", "x", &[("fit_s", fit), ("mse", mse)]);
            record.method.deterministic = Some(true);
            record
        };
        let before = record(1.0, 2.0);
        assert_eq!(quality_changed(&before, &record(1.0, 3.0)), None);
        let line = quality_changed(&before, &record(1.5, 3.0)).unwrap();
        assert!(line.contains("mse is 1.500 and was 1.000 (run run-1)"), "{line}");
        let line = quality_changed(&before, &record(1.0 + 1e-12, 3.0)).unwrap();
        assert!(line.contains("mse is 1.000000000001 and was 1 "), "{line}");
        let sourced = |ratio: f64| {
            let mut record = record(1.0, 2.0);
            record.metrics.push(MetricValue::new("ratio_source", ratio).unwrap());
            record
        };
        assert_eq!(quality_changed(&sourced(4.0), &sourced(1.0)), None, "of another file");
        let mut failed = record(1.5, 3.0);
        failed.outcome = Outcome::Failed;
        assert_eq!(quality_changed(&before, &failed), None);
        let mut other = record(1.5, 3.0);
        other.method.deterministic = Some(false);
        assert_eq!(quality_changed(&before, &other), None);
    }
}
