//! Levels for a coordinate of a random point of the sphere (eq. 4): the density of t in −1..1 is
//! ∝ (1 − t²)^((d − 3)/2) (Lemma 1).
//!
//! With t = sin θ and θ = 2·atan w, t = 2w/(1 + w²), the mass is ∫cos^(d − 2)θ dθ with cos θ = (1 − w²)/(1 + w²)
//! and dθ = 2dw/(1 + w²): smooth for every d from 2, and made of sums, products, quotients and square roots
//! alone, which are the same on every machine.

/// Intervals of the table of masses.
const INTERVALS: usize = 4096;

/// Rounds of Newton's method, at most; from eight bits on it takes a dozen.
const ROUNDS: usize = 100;

/// The 2^bits levels of least squared error for √d·t, ascending: where every level is the mean of its cell
/// (Lloyd 1982), by Newton's method.
///
/// # Panics
/// When `bits` is not in 1..=8 or `dim` is 0.
#[must_use]
pub fn levels(dim: usize, bits: u32) -> Vec<f32> {
    assert!((1..=8).contains(&bits) && dim > 0, "{bits} bits of {dim} dimensions");
    let count = 1_usize << (bits - 1);
    let positive = if dim == 1 {
        // Nothing but ±1: the others are there to be as many.
        (1..=count).map(|i| i as f64 / count as f64).collect()
    } else {
        Sphere::new(dim).levels(count)
    };
    let root = (dim as f64).sqrt();
    let positive = positive.into_iter().map(|level| (root * level) as f32);
    positive.clone().rev().map(|level| -level).chain(positive).collect()
}

/// `base` to the power `n`.
fn power(mut base: f64, mut n: usize) -> f64 {
    let mut product = 1.0;
    while n > 0 {
        if n % 2 == 1 {
            product *= base;
        }
        base *= base;
        n /= 2;
    }
    product
}

/// ∫cosᵏθ dθ over w, from 0.
struct Mass {
    k: usize,
    width: f64,
    sums: Vec<f64>,
}

impl Mass {
    /// To w = `end`.
    fn new(k: usize, end: f64) -> Self {
        let width = end / INTERVALS as f64;
        let mut mass = Mass { k, width, sums: vec![0.0] };
        for i in 0..INTERVALS {
            let low = i as f64 * width;
            let sum = mass.sums[i] + mass.between(low, low + width);
            mass.sums.push(sum);
        }
        mass
    }

    fn density(&self, w: f64) -> f64 {
        let square = w * w;
        power((1.0 - square) / (1.0 + square), self.k) * 2.0 / (1.0 + square)
    }

    /// By Simpson's rule.
    fn between(&self, low: f64, high: f64) -> f64 {
        let middle = self.density((low + high) / 2.0);
        (self.density(low) + 4.0 * middle + self.density(high)) * (high - low) / 6.0
    }

    fn to(&self, w: f64) -> f64 {
        let i = ((w / self.width) as usize).min(INTERVALS);
        self.sums[i] + self.between(i as f64 * self.width, w)
    }

    /// The w below which `part` of the whole lies.
    fn quantile(&self, part: f64) -> f64 {
        let wanted = part * self.sums[INTERVALS];
        let i = self.sums.partition_point(|sum| *sum <= wanted).clamp(1, INTERVALS) - 1;
        let within = (wanted - self.sums[i]) / (self.sums[i + 1] - self.sums[i]);
        (i as f64 + within.clamp(0.0, 1.0)) * self.width
    }
}

struct Sphere {
    dim: usize,
    mass: Mass,
    end: f64,
}

impl Sphere {
    fn new(dim: usize) -> Self {
        // Ten standard deviations of t.
        let end = (5.0 / (dim as f64).sqrt()).min(1.0);
        Sphere { dim, mass: Mass::new(dim - 2, end), end }
    }

    /// The positive levels.
    fn levels(&self, count: usize) -> Vec<f64> {
        // Many levels lie with a density of p^(1/3) (Panter & Dite 1951): cos^(d/3)θ dθ.
        let start = Mass::new((self.dim + 1) / 3, self.end);
        let place = |i: usize| {
            let w = start.quantile((i as f64 + 0.5) / count as f64);
            2.0 * w / (1.0 + w * w)
        };
        let mut levels: Vec<f64> = (0..count).map(place).collect();
        for _ in 0..ROUNDS {
            let steps = self.newton(&levels);
            let mut part = 1.0;
            let mut next;
            loop {
                next =
                    levels.iter().zip(&steps).map(|(l, step)| l - part * step).collect::<Vec<_>>();
                let ascending = next.is_sorted_by(|a, b| a < b);
                if (ascending && next[0] > 0.0 && next[count - 1] < 1.0) || part < 1e-9 {
                    break;
                }
                part /= 2.0;
            }
            let largest = steps.iter().fold(0.0, |largest: f64, step| largest.max(step.abs()));
            levels = next;
            if largest < 1e-9 * levels[count - 1] {
                break;
            }
        }
        levels
    }

    /// What Newton's method subtracts from the levels, for the zero of level − mean of its cell; the matrix is
    /// tridiagonal.
    fn newton(&self, levels: &[f64]) -> Vec<f64> {
        let count = levels.len();
        let ends: Vec<End> = std::iter::once(0.0)
            .chain(levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0))
            .map(|t| self.end(t))
            .chain([End { t: 1.0, mass: self.mass.sums[INTERVALS], moment: 0.0, density: 0.0 }])
            .collect();
        let (mut upper, mut right) = (vec![0.0; count], vec![0.0; count]);
        for i in 0..count {
            let (low, high) = (&ends[i], &ends[i + 1]);
            let mass = high.mass - low.mass;
            let mean = (low.moment - high.moment) / mass;
            // How the mean moves with the ends; the outermost stay.
            let by_low = if i > 0 { low.density * (mean - low.t) / mass / 2.0 } else { 0.0 };
            let by_high =
                if i + 1 < count { high.density * (high.t - mean) / mass / 2.0 } else { 0.0 };
            let (before, before_right) =
                if i > 0 { (upper[i - 1], right[i - 1]) } else { (0.0, 0.0) };
            let pivot = 1.0 - by_low - by_high + by_low * before;
            upper[i] = -by_high / pivot;
            right[i] = (levels[i] - mean + by_low * before_right) / pivot;
        }
        for i in (0..count - 1).rev() {
            right[i] -= upper[i] * right[i + 1];
        }
        right
    }

    fn end(&self, t: f64) -> End {
        let cosine = (1.0 - t * t).sqrt();
        // ∫ from t to 1 of t·(1 − t²)^((d − 3)/2) has a closed form.
        let moment = power(cosine, self.dim - 1) / (self.dim - 1) as f64;
        let density = power(cosine, self.dim - 2) / cosine;
        End { t, mass: self.mass.to((t / (1.0 + cosine)).min(self.end)), moment, density }
    }
}

/// An end of a cell: mass below and moment above it, and the density of t there.
struct End {
    t: f64,
    mass: f64,
    moment: f64,
    density: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use vq_blocks::rotated::levels::lloyd_max;

    #[test]
    fn every_level_is_the_mean_of_its_cell() {
        for dim in [2, 3, 4, 5, 7, 16, 100, 768, 10_000] {
            let sphere = Sphere::new(dim);
            for bits in 1..9 {
                let levels = sphere.levels(1 << (bits - 1));
                let off = sphere.newton(&levels).iter().fold(0.0, |a: f64, b| a.max(b.abs()));
                assert!(off < 1e-9 * levels[levels.len() - 1], "d = {dim}, {bits} bits: {off}");
                assert!(levels.is_sorted_by(|a, b| a < b) && levels[0] > 0.0);
            }
        }
    }

    #[test]
    fn three_dimensions_are_uniform_and_many_are_normal() {
        for (i, level) in levels(3, 3)[4..].iter().enumerate() {
            let expected = 3.0_f64.sqrt() * (i as f64 + 0.5) / 4.0;
            assert!((f64::from(*level) - expected).abs() < 1e-6, "{level} {expected}");
        }
        // The circle at one bit: the mean of |cos|, 2/π.
        let circle = f64::from(levels(2, 1)[1]) / 2.0_f64.sqrt();
        assert!((circle - 2.0 / std::f64::consts::PI).abs() < 1e-6, "{circle}");
        assert_eq!(levels(1, 2), [-1.0, -0.5, 0.5, 1.0]);
        for bits in 1..9 {
            for (level, normal) in levels(1_000_000, bits).iter().zip(lloyd_max(bits)) {
                assert!((level - normal).abs() < 1e-4, "{bits} bits: {level} {normal}");
            }
        }
    }
}
