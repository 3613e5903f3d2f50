//! What no code of a Gaussian source can be better than, as a line for pictures.

use crate::metric::rate_distortion::distortion_at;

/// The least relative error at each rate, from a sixteenth of a bit per dimension to `most`, of a
/// Gaussian source with the covariance eigenvalues `spectrum`; with the variance per dimension.
/// None for data that does not vary.
pub(super) fn bound(spectrum: &[f64], most: f64) -> Option<(f64, Vec<(f64, f64)>)> {
    let variance = distortion_at(0.0, spectrum);
    let rates = (0..).map(|step| 0.0625 * (f64::from(step) / 8.0).exp2());
    let points = rates
        .take_while(|rate| *rate < most)
        .map(|rate| (rate, distortion_at(rate, spectrum) / variance));
    (variance > 0.0).then(|| (variance, points.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_falls_to_a_quarter_with_each_bit() {
        let (variance, points) = bound(&[2.0, 2.0], 4.0).unwrap();
        assert_eq!(variance, 2.0);
        let at = |rate: f64| points.iter().find(|point| point.0 == rate).unwrap().1;
        assert_eq!((at(1.0), at(2.0)), (0.25, 0.0625));
        assert!(points.last().unwrap().0 < 4.0);
        assert!(bound(&[0.0], 4.0).is_none());
    }
}
