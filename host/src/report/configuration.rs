//! Configurations: records that differ in their seed only, and their means.

use std::collections::BTreeMap;

use super::machines::is_elsewhere;
use super::marks::Marks;
use crate::record::{Proof, Record, canonical_json, deciding};

/// The share of a code's bits from which on its model's are counted in.
const MATTERS: f64 = 0.01;

/// What [`amortised_bits`](Configuration::amortised_bits) is called beside metrics.
pub(super) const SIZE: &str = "bits_per_dim with model";

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
                // One file in two Pythons is two methods.
                &record.method.needs_digest,
                canonical_json(&record.params),
                canonical_json(&deciding(&record.evaluation)),
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

    /// The metric of each seed that has it.
    pub(super) fn values(&self, metric: &str) -> Vec<f64> {
        self.records.iter().filter_map(|record| record.value(metric)).collect()
    }

    /// The mean over the seeds that have the metric.
    pub(super) fn mean(&self, metric: &str) -> Option<f64> {
        let values = self.values(metric);
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The mean of the metric, or of what [`SIZE`] names.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        if name == SIZE { self.amortised_bits() } else { self.mean(name) }
    }

    /// `recall@k` of each query, the mean over seeds; none where a seed's was not kept.
    pub(super) fn recall_by_query(&self, k: u32) -> Option<Vec<f64>> {
        let mut sums = vec![0.0; self.first().recalls(k)?.hits().len()];
        for record in &self.records {
            let hits = record.recalls(k)?.hits();
            if hits.len() != sums.len() {
                return None;
            }
            sums.iter_mut().zip(hits).for_each(|(sum, hits)| *sum += f64::from(*hits));
        }
        let all = f64::from(k) * self.records.len() as f64;
        sums.iter_mut().for_each(|sum| *sum /= all);
        Some(sums)
    }

    /// Bytes of the model: what it says it needs or what was saved of it, whichever is more.
    pub(super) fn model_bytes(&self) -> Option<f64> {
        let sizes = [self.mean("model_bytes"), self.mean("model_saved_bytes")];
        sizes.into_iter().flatten().reduce(f64::max)
    }

    /// Bits of the model for each value of the data.
    fn model_bits(&self) -> Option<f64> {
        let data = &self.first().dataset;
        Some(8.0 * self.model_bytes()? / (data.n as f64 * data.dim as f64))
    }

    /// Bits per dimension with the model's shared among all rows, where its size is known.
    pub(super) fn amortised_bits(&self) -> Option<f64> {
        Some(self.mean("bits_per_dim")? + self.model_bits()?)
    }

    /// Whether the model's bits are counted into the [`size`](Self::size): where they are a
    /// hundredth of the code's, or the method could have learned the rows by heart.
    pub(super) fn model_matters(&self) -> bool {
        let bits = self.mean("bits_per_dim").unwrap_or(0.0);
        self.model_bits().is_some_and(|model| {
            model > 0.0 && (model >= MATTERS * bits || self.marks().learned_from_base)
        })
    }

    /// Bits per dimension by which configurations are ordered: the code's, and the model's where
    /// they matter.
    pub(super) fn size(&self) -> Option<f64> {
        if self.model_matters() { self.amortised_bits() } else { self.mean("bits_per_dim") }
    }

    /// What limits its numbers; of ties it knows nothing. What is not known of older records is
    /// not held against them.
    pub(super) fn marks(&self) -> Marks {
        let any = |limits: fn(&Record) -> bool| self.records.iter().any(|record| limits(record));
        let learns = any(|record| record.method.needs_training == Some(true));
        Marks {
            unproven: any(|record| matches!(record.proof, Some(Proof::Unproven { .. }))),
            unweighed: learns && self.model_bits().is_none(),
            learned_from_base: any(|record| record.learned_from_base() == Some(true)),
            elsewhere: any(is_elsewhere),
            tied: false,
        }
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
    use crate::record::tests::sample;
    use crate::record::{Outcome, QueryRecalls};

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
    fn a_model_counts_where_it_is_a_hundredth_of_the_code_or_may_be_the_rows() {
        // 10,000 rows of 100 dimensions: 1,250 bytes are a hundredth of a bit for each value.
        let of = |bytes: f64, learned: bool| {
            let mut record = sample("a", "x", &[("bits_per_dim", 1.0), ("model_bytes", bytes)]);
            record.method.needs_training = Some(true);
            record.dataset.train_apart = Some(!learned);
            let records = [record];
            let configuration = &Configuration::of(&records)[0];
            (configuration.size(), configuration.marks().learned_from_base)
        };
        assert_eq!(of(1249.0, false), (Some(1.0), false));
        assert_eq!(of(1250.0, false), (Some(1.01), false));
        assert_eq!(of(125.0, true), (Some(1.001), true));
        // The data itself as a model.
        assert_eq!(of(4_000_000.0, false), (Some(33.0), false));
    }

    #[test]
    fn what_was_saved_is_weighed_where_it_is_more_than_the_claim() {
        let metrics =
            [("bits_per_dim", 1.0), ("model_bytes", 0.0), ("model_saved_bytes", 125_000.0)];
        let mut record = sample("a", "x", &metrics);
        record.method.needs_training = Some(true);
        let mut unweighed = record.clone();
        unweighed.metrics.truncate(1);
        let records = [record];
        assert_eq!(Configuration::of(&records)[0].size(), Some(2.0));
        assert!(Configuration::of(&records)[0].marks().may_lead());
        assert!(Configuration::of([&unweighed])[0].marks().unweighed);
        unweighed.method.needs_training = None;
        assert!(Configuration::of([&unweighed])[0].marks().may_lead(), "an older record");
    }

    #[test]
    fn seeds_are_averaged_for_each_query() {
        let mut a = sample("a", "x", &[]);
        let mut b = Record { seed: 7, ..a.clone() };
        a.recalls = vec![QueryRecalls::new(10, vec![10, 0, 4]).unwrap()];
        b.recalls = vec![QueryRecalls::new(10, vec![5, 0, 6]).unwrap()];
        let records = [a, b];
        let configurations = Configuration::of(&records);
        assert_eq!(configurations[0].recall_by_query(10), Some(vec![0.75, 0.0, 0.5]));
        assert_eq!(configurations[0].recall_by_query(1), None);
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
