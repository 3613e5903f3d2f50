//! Latency: how long single queries took over all codes.

use super::percentile::nearest_rank;

/// Queries from which on a 99th percentile is more than the slowest.
const ENOUGH: usize = 100;

/// `latency_p50_s`, `latency_p99_s` and `latency_bytes_per_s`, of the `seconds` that each query took over
/// `bytes` of codes; nearest-rank percentiles, the 99th of 100 queries or more.
pub fn latency(mut seconds: Vec<f64>, bytes: usize) -> Vec<(&'static str, f64)> {
    seconds.sort_unstable_by(f64::total_cmp);
    let Some(median) = nearest_rank(&seconds, 50) else { return Vec::new() };
    let mut named = vec![("latency_p50_s", median)];
    if seconds.len() >= ENOUGH {
        named.extend(nearest_rank(&seconds, 99).map(|p99| ("latency_p99_s", p99)));
    }
    if median > 0.0 {
        named.push(("latency_bytes_per_s", bytes as f64 / median));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::latency;

    #[test]
    fn few_queries_have_no_99th_percentile() {
        assert_eq!(latency(vec![], 9), []);
        let few = latency(vec![0.5, 0.25, 2.0], 100);
        assert_eq!(few, [("latency_p50_s", 0.5), ("latency_bytes_per_s", 200.0)]);
        let many = latency((1..=100).rev().map(f64::from).collect(), 100);
        assert_eq!(many[..2], [("latency_p50_s", 50.0), ("latency_p99_s", 99.0)]);
    }
}
