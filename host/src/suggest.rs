//! The nearest valid name, for "did you mean".

/// The candidate closest to `name`, or none if even that one is a different word.
///
/// Closeness is the optimal string alignment distance (insertions, deletions, substitutions and
/// swaps of neighbours), blind to letter case. A candidate counts as near when at most a third of
/// the longer name differs, one character always being near enough for names longer than one. Of
/// equally near candidates the first wins.
///
/// ```
/// use vq_host::suggest::nearest_name;
///
/// assert_eq!(nearest_name("seed", ["name", "seeds"]), Some("seeds"));
/// assert_eq!(nearest_name("colour", ["name", "seeds"]), None);
/// ```
pub fn nearest_name<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let longer = name.chars().count().max(candidate.chars().count());
            let near_enough = if longer > 1 { (longer / 3).max(1) } else { 0 };
            let distance = strsim::osa_distance(&wanted, &candidate.to_lowercase());
            (distance <= near_enough).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest_name;

    #[test]
    fn one_wrong_letter_finds_the_name_it_was_meant_to_be() {
        assert_eq!(nearest_name("hold_uot", ["hold_out"]), Some("hold_out"));
        assert_eq!(nearest_name("Metric", ["name", "metric"]), Some("metric"));
        assert_eq!(nearest_name("glove.fbin", ["glove.f16bin", "README.md"]), Some("glove.f16bin"));
    }

    #[test]
    fn a_different_word_is_not_suggested() {
        assert_eq!(nearest_name("x", ["k"]), None);
        assert_eq!(nearest_name("iterations", ["name", "seeds", "metric"]), None);
        assert_eq!(nearest_name("m", []), None);
    }

    #[test]
    fn the_first_of_equally_near_names_wins() {
        assert_eq!(nearest_name("bat", ["cat", "hat"]), Some("cat"));
    }
}
