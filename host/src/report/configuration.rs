//! Configurations: records that differ in their seed only, and their means.

use std::collections::BTreeMap;

use crate::record::{Record, canonical_json};

/// The ok records of one method, one configuration and one dataset, one per seed.
#[derive(Debug)]
pub(super) struct Configuration<'a> {
    /// At least one.
    pub(super) records: Vec<&'a Record>,
}

impl<'a> Configuration<'a> {
    /// Groups the ok records among `records`, in the order in which each first appears.
    pub(super) fn of(records: impl IntoIterator<Item = &'a Record>) -> Vec<Self> {
        let mut configurations: Vec<Self> = Vec::new();
        let mut positions = BTreeMap::new();
        for record in records.into_iter().filter(|record| record.outcome.is_ok()) {
            let identity = (
                &record.dataset.name,
                &record.dataset.digest,
                &record.metric,
                &record.method.id,
                &record.method.plugin_digest,
                canonical_json(&record.params),
                canonical_json(&record.evaluation),
            );
            let at = *positions.entry(identity).or_insert(configurations.len());
            if at == configurations.len() {
                configurations.push(Self { records: Vec::new() });
            }
            configurations[at].records.push(record);
        }
        configurations
    }

    /// Any of its records, for what they share.
    pub(super) fn first(&self) -> &'a Record {
        self.records[0]
    }

    /// Whether any of its records used more threads than it was given.
    pub(super) fn over_budget(&self) -> bool {
        self.records.iter().any(|record| record.timing.over_budget())
    }

    /// The mean over the seeds that have the metric.
    pub(super) fn mean(&self, metric: &str) -> Option<f64> {
        let values = self.records.iter().filter_map(|record| record.value(metric));
        let (count, sum) =
            values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
        (count > 0).then(|| sum / f64::from(count))
    }
}

/// For each of `points` (size, quality): whether no other is as good in both and better in one.
/// Smaller sizes and larger qualities are better; a point without quality is never best.
pub(super) fn pareto_front(points: &[(f64, Option<f64>)]) -> Vec<bool> {
    let mut order: Vec<(usize, f64, f64)> = points
        .iter()
        .enumerate()
        .filter_map(|(i, &(size, quality))| quality.map(|quality| (i, size, quality)))
        .collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.2.total_cmp(&a.2)));
    let mut best = vec![false; points.len()];
    let mut last: Option<(f64, f64)> = None;
    for (i, size, quality) in order {
        // Among smaller codes and better ones of this size, `last` has the best quality.
        let stands = last.is_none_or(|(last_size, last_quality)| {
            quality > last_quality || (quality == last_quality && size == last_size)
        });
        if stands {
            best[i] = true;
            last = Some((size, quality));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Outcome;
    use crate::record::tests::sample;

    #[test]
    fn seeds_of_a_configuration_are_averaged() {
        let a = sample("a", "x", &[("mse", 1.0)]);
        let mut b = a.clone();
        b.seed = 7;
        b.metrics = sample("a", "x", &[("mse", 2.0), ("fit_s", 5.0)]).metrics;
        let mut failed = a.clone();
        failed.outcome = Outcome::Failed;
        let other = sample("a", "y", &[]);
        let records = [a, b, failed, other];
        let configurations = Configuration::of(&records);
        assert_eq!(configurations.len(), 2);
        assert_eq!(configurations[0].records.len(), 2);
        assert_eq!(configurations[0].mean("mse"), Some(1.5));
        assert_eq!(configurations[0].mean("fit_s"), Some(5.0));
        assert_eq!(configurations[1].mean("mse"), None);
    }

    #[test]
    fn equal_points_are_both_on_the_front() {
        let points = [(1.0, Some(0.5)), (1.0, Some(0.5)), (2.0, Some(0.5)), (3.0, None)];
        assert_eq!(pareto_front(&points), [true, true, false, false]);
    }

    proptest! {
        #[test]
        fn the_front_is_what_nothing_dominates(
            grid in prop::collection::vec((0_u8..6, prop::option::of(0_u8..6)), 0..30)
        ) {
            let points: Vec<(f64, Option<f64>)> = grid
                .into_iter()
                .map(|(size, quality)| (f64::from(size), quality.map(f64::from)))
                .collect();
            let expected: Vec<bool> = points
                .iter()
                .map(|&(size, quality)| {
                    quality.is_some_and(|quality| {
                        !points.iter().any(|&(s, q)| q.is_some_and(|q| {
                            s <= size && q >= quality && (s < size || q > quality)
                        }))
                    })
                })
                .collect();
            prop_assert_eq!(pareto_front(&points), expected);
        }
    }
}
