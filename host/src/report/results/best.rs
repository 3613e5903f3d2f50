//! The best of each data set and rate.

use std::collections::BTreeMap;

use crate::record::Record;
use crate::report::configuration::Configuration;
use crate::report::headline_recall;

/// The records of the best configuration for each dataset and rate.
pub(super) fn best_per_rate(records: &[Record]) -> Vec<&Record> {
    let space = |record: &Record| {
        let truth = record.truth_of().map(str::to_owned);
        let dataset = &record.dataset;
        (dataset.name.clone(), dataset.digest.clone(), record.metric.clone(), truth)
    };
    // As elsewhere, a dataset's recall is the one most often asked for on it.
    let mut names: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for record in records {
        let metrics = record.metrics.iter().map(|metric| metric.name());
        names.entry(space(record)).or_default().extend(metrics);
    }
    let headline: BTreeMap<_, _> = names
        .into_iter()
        .filter_map(|(space, names)| Some((space, headline_recall(names.into_iter())?)))
        .collect();

    let mut best: BTreeMap<_, ((bool, f64, f64), Configuration<'_>)> = BTreeMap::new();
    for configuration in Configuration::of(records) {
        let space = space(configuration.first());
        let recall = headline.get(&space).and_then(|k| configuration.mean(&format!("recall@{k}")));
        let (Some(recall), Some(size)) = (recall, configuration.size()) else {
            continue;
        };
        let rate = (2.0 * size).round() as u64;
        // What is not proven is the best only of nothing that is. Of equal recalls the smaller
        // code is the better one.
        let rank = (configuration.marks().may_lead(), recall, -size);
        let better = best.get(&(space.clone(), rate)).is_none_or(|(other, _)| {
            let (a, b) = (rank, *other);
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2)).is_gt()
        });
        if better {
            best.insert((space, rate), (rank, configuration));
        }
    }
    best.into_values().flat_map(|(.., configuration)| configuration.records).collect()
}
