//! What is known of a cell that has a record.

use super::{Outcome, Record};
use crate::metric::Family;

/// How a recorded cell ended, and which families of metrics were measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// How it ended.
    pub outcome: Outcome,
    /// The families, in their order.
    pub metrics: Vec<Family>,
    /// The names that its records give their data set.
    pub datasets: Vec<String>,
}

impl Done {
    /// Whether its record has all that is asked for. A cell that did not go well has nothing of any
    /// family, and would not for being asked for others.
    pub fn answers(&self, wanted: &[Family]) -> bool {
        !self.outcome.is_ok() || wanted.iter().all(|family| self.metrics.contains(family))
    }
}

impl From<&Record> for Done {
    fn from(record: &Record) -> Self {
        let families = Family::ALL.into_iter();
        let metrics = families.filter(|family| record.families().any(|name| name == family.name()));
        let datasets = vec![record.dataset.name.clone()];
        Self { outcome: record.outcome, metrics: metrics.collect(), datasets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn a_record_answers_what_asks_for_no_more_than_it_has() {
        let mut record = sample("a", "x", &[]);
        assert!(Done::from(&record).answers(&[]), "an older record");
        assert!(!Done::from(&record).answers(&[Family::Pairs]));
        record.evaluation["metrics"] = serde_json::json!(["latency", "pairs", "of the future"]);
        let done = Done::from(&record);
        assert_eq!(done.metrics, [Family::Pairs, Family::Latency]);
        assert!(done.answers(&[Family::Latency]));
        assert!(!done.answers(&[Family::Latency, Family::Order]));
        record.outcome = Outcome::Panicked;
        assert!(Done::from(&record).answers(&[Family::Order]));
    }
}
