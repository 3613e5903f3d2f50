//! Numbers as people read them in a table.

use super::known;

/// A metric's value in few characters, according to its unit.
pub(super) fn metric(name: &str, value: f64) -> String {
    match known(name).unit {
        "s" => seconds(value),
        "bits" => format!("{value:.2}"),
        "bytes" => amount(value),
        unit if unit.ends_with("/s") => amount(value),
        _ if name.starts_with("recall") || name.starts_with("rank_distortion") => {
            format!("{value:.4}")
        }
        _ => significant(value, 4),
    }
}

/// Two values of a metric that differ, in as few characters as show it.
pub(super) fn both(name: &str, first: f64, second: f64) -> [String; 2] {
    let short = [first, second].map(|value| metric(name, value));
    if short[0] == short[1] { [first, second].map(|value| value.to_string()) } else { short }
}

/// Seconds, without the unit: `0.0012`, `1.43`, `32.5`, `1204`.
pub(super) fn seconds(value: f64) -> String {
    match value.abs() {
        size if size < 0.1 => significant(value, 2),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Many of something, by powers of 1000: `24`, `1.2 M`, `373 k`. Whole numbers below 10,000 keep
/// all their digits.
pub(super) fn amount(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 10_000.0 {
        return format!("{value:.0}");
    }
    let mut scaled = value;
    // 999.5 would be written as 1000.
    for unit in ["", " k", " M", " G", " T"] {
        if scaled.abs() < 9.95 {
            return format!("{scaled:.1}{unit}");
        }
        if scaled.abs() < 999.5 {
            return format!("{scaled:.0}{unit}");
        }
        scaled /= 1000.0;
    }
    format!("{value:.2e}")
}

/// `digits` significant digits; with an exponent where zeros would hide them.
pub(super) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    if (-4.0..7.0).contains(&magnitude) {
        let decimals = (digits as f64 - 1.0 - magnitude).max(0.0) as usize;
        format!("{value:.decimals$}")
    } else {
        format!("{value:.*e}", digits - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let amounts = [24.0, 1536.0, 0.5, 999.7, 23_456.0, 373_400.0, 999_600.0, 1_234_567.0];
        let written = ["24", "1536", "0.5", "1.0 k", "23 k", "373 k", "1.0 M", "1.2 M"];
        assert_eq!(amounts.map(amount), written);
        assert_eq!(amount(1e20), "1.00e20");
        let times = [0.0, 0.001_234, 0.14, 1.428, 32.46, 1204.3];
        assert_eq!(times.map(seconds), ["0", "0.0012", "0.14", "1.43", "32.5", "1204"]);
        assert_eq!(metric("bits_per_dim", 4.25), "4.25");
        assert_eq!(metric("recall@10/rerank=4", 0.93456), "0.9346");
        assert_eq!(metric("relative_error", 0.012_345), "0.01235");
        assert_eq!(metric("relative_error", 7.8e-5), "7.800e-5");
        assert_eq!(metric("mse", -123_456.0), "-123456");
    }
}
