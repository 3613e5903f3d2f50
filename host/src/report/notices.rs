//! What is peculiar about a data set, in words: results are to be read with it.

use crate::record::{DatasetInfo, Facts};

/// One sentence each.
pub(super) fn of(data: &DatasetInfo) -> Vec<String> {
    let Some(facts) = &data.facts else { return Vec::new() };
    let Facts { synthetic, zero_queries, queries_in_base, duplicate_rows, tied_queries } = *facts;
    let mut sentences = Vec::new();
    if synthetic {
        sentences.push("results on synthetic data seldom transfer to real data".to_owned());
    }
    let queries = data.queries;
    for (count, all, what) in [
        (zero_queries, queries, "queries are zero"),
        (queries_in_base, queries, "queries are equal to a row of the base"),
        (tied_queries, queries, "queries have more nearest rows than are kept, at one distance"),
        (duplicate_rows, data.n, "rows are equal to an earlier one"),
    ] {
        if count > 0 {
            sentences.push(format!("{count} of {all} {what}"));
        }
    }
    sentences
}

/// That recall is against the neighbours of another data set.
pub(super) fn other_truth(name: &str) -> String {
    format!("recall is against the neighbours of {name}, not its own")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn only_what_is_peculiar_is_said() {
        let mut data = sample("a", "x", &[]).dataset;
        assert_eq!(of(&data), Vec::<String>::new());
        data.facts = Some(Facts::default());
        assert_eq!(of(&data), Vec::<String>::new());
        data.facts =
            Some(Facts { synthetic: true, zero_queries: 3, duplicate_rows: 9, ..Facts::default() });
        let said = of(&data).join("; ");
        let expected = "results on synthetic data seldom transfer to real data; 3 of 500 queries are \
            zero; 9 of 10000 rows are equal to an earlier one";
        assert_eq!(said, expected);
    }
}
