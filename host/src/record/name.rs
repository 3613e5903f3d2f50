//! How names are ordered.

/// Sorts names as people do, runs of digits by their value.
pub(crate) fn natural_key(name: &str) -> Vec<(String, u64)> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        pieces.push((text.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_people_count() {
        let mut names = ["recall@100", "mse", "recall@10/rerank=4", "recall@2", "recall@10", "a"];
        names.sort_by_cached_key(|name| natural_key(name));
        let expected = ["a", "mse", "recall@2", "recall@10", "recall@10/rerank=4", "recall@100"];
        assert_eq!(names, expected);
    }
}
