//! Which records are wanted.

use super::{Outcome, Record};

/// Which records are wanted; an empty list wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names of datasets.
    pub datasets: Vec<String>,
    /// Ids of methods.
    pub methods: Vec<String>,
    /// Outcomes.
    pub outcomes: Vec<Outcome>,
    /// How their keys begin.
    pub keys: Vec<String>,
}

impl Filter {
    /// True when `record` is wanted.
    pub fn wants(&self, record: &Record) -> bool {
        fn any<T: PartialEq>(list: &[T], item: &T) -> bool {
            list.is_empty() || list.contains(item)
        }
        any(&self.datasets, &record.dataset.name)
            && any(&self.methods, &record.method.id)
            && any(&self.outcomes, &record.outcome)
            && (self.keys.is_empty()
                || self.keys.iter().any(|key| record.key.starts_with(key.as_str())))
    }
}
