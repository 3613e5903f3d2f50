//! What a configuration is tied with: those of no larger size that the queries cannot tell from it.

use super::super::configuration::Configuration;
use super::super::spread::{Difference, STANDARD_ERRORS};
use super::Tradeoff;

/// Ties that are named. Who has as many has enough to choose from.
pub(super) const MOST_TIED: usize = 10;

/// Where the ties of a configuration are looked for.
pub(super) struct Ties<'a> {
    configurations: &'a [&'a Configuration<'a>],
    all: &'a [Tradeoff],
    k: Option<u32>,
    /// Those that a tie can be with, by recall, the best first: position, recall and its standard error.
    candidates: Vec<(usize, f64, f64)>,
    /// The largest of these errors.
    most: f64,
}

impl<'a> Ties<'a> {
    pub(super) fn among(
        configurations: &'a [&'a Configuration<'a>],
        all: &'a [Tradeoff],
        k: Option<usize>,
    ) -> Self {
        let may_lead = all.iter().enumerate().filter(|(_, one)| one.marks.may_lead());
        let mut candidates: Vec<(usize, f64, f64)> =
            may_lead.filter_map(|(i, one)| Some((i, one.recall?, one.recall_error?))).collect();
        candidates.sort_by(|(_, a, _), (_, b, _)| b.total_cmp(a));
        let most = candidates.iter().map(|(_, _, error)| *error).fold(0.0, f64::max);
        let k = k.and_then(|k| u32::try_from(k).ok());
        Ties { configurations, all, k, candidates, most }
    }

    /// Names the configurations of no larger size that number `i` is not better than in recall, the
    /// best first. A difference is that of the same queries; where these were not kept, nothing is
    /// said.
    pub(super) fn of(&self, i: usize) -> Vec<String> {
        let one = &self.all[i];
        let queries = |i: usize| self.configurations[i].recall_by_query(self.k?);
        let (Some(recall), Some(error), Some(own)) = (one.recall, one.recall_error, queries(i))
        else {
            return Vec::new();
        };
        // The error of a difference is at most the sum of both, so what is farther apart than that
        // allows is no tie. The margin is for rounding.
        let apart = |recall_of: f64, error_of: f64| {
            recall - recall_of > STANDARD_ERRORS * (error + error_of) + 1e-9
        };
        let near = self.candidates.iter().take_while(|(_, of, _)| !apart(*of, self.most));
        let is_tied = |(j, of, error): &&(usize, f64, f64)| {
            if *j == i || self.all[*j].size > one.size || apart(*of, *error) {
                return false;
            }
            let difference = queries(*j).and_then(|others| Difference::of(&own, &others));
            difference.is_some_and(|difference| !difference.is_better())
        };
        let tied = near.filter(is_tied).take(MOST_TIED);
        tied.map(|(j, ..)| self.all[*j].name()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tradeoff;
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{QueryRecalls, Record};

    proptest! {
        #[test]
        fn ties_are_those_of_all_pairs(
            hits in prop::collection::vec((1_u8..9, prop::collection::vec(0_u32..=3, 12)), 1..40)
        ) {
            let of = |(i, (size, hits)): (usize, &(u8, Vec<u32>))| {
                let mean = f64::from(hits.iter().sum::<u32>()) / 36.0;
                let metrics = [("bits_per_dim", f64::from(*size)), ("recall@3", mean)];
                let mut record = sample("a", &format!("i={i}"), &metrics);
                record.recalls = vec![QueryRecalls::new(3, hits.clone()).unwrap()];
                record
            };
            let records: Vec<Record> = hits.iter().enumerate().map(of).collect();
            let configurations = Configuration::of(&records);
            let all: Vec<Tradeoff> =
                configurations.iter().map(|of| tradeoff(of, Some(3)).unwrap()).collect();
            let sized: Vec<&Configuration<'_>> = configurations.iter().collect();
            let ties = Ties::among(&sized, &all, Some(3));
            for (i, one) in all.iter().enumerate() {
                let queries = |of: usize| sized[of].recall_by_query(3).unwrap();
                let mut expected: Vec<&Tradeoff> = (0..all.len())
                    .filter(|&j| j != i && all[j].size <= one.size)
                    .filter(|&j| !Difference::of(&queries(i), &queries(j)).unwrap().is_better())
                    .map(|j| &all[j])
                    .collect();
                expected.sort_by(|a, b| b.recall.unwrap().total_cmp(&a.recall.unwrap()));
                let expected: Vec<String> =
                    expected.into_iter().map(Tradeoff::name).take(MOST_TIED).collect();
                prop_assert_eq!(ties.of(i), expected);
            }
        }
    }
}
