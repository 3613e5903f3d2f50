//! Which codes can reach a threshold, by sums of u8: `Σⱼ ⌊(maxⱼ − tableⱼ[codeⱼ])·s⌋ ≤ 254`.
//!
//! What a code lacks to the largest sum there is, its deficit, is a sum of entries that are not negative.
//! With `s = 254 / (Σⱼ maxⱼ − threshold)` a code at the threshold has a scaled deficit of 254; rounding
//! down can only make it less. So a code whose u8 sum, saturated, is [`REJECTED`] lies below the
//! threshold, for certain; the others are candidates, and their f32 sums decide. The answer is
//! that of the f32 sums.
//!
//! Saturating tables scaled to the threshold: André, Kermarrec, Le Scouarnec, "Quicker ADC", 2021;
//! the exact check of the candidates is ours.

use super::Path;

/// The largest u8: the sum of a code that cannot reach the threshold.
pub(super) const REJECTED: u8 = u8::MAX;

/// What a scan of tables of `E` entries needs to know to reject codes.
#[derive(Debug)]
pub(super) struct Filter<'a, const E: usize> {
    path: Path,
    tables: &'a [[f32; E]],
    /// The largest entry of each table.
    most: Vec<f32>,
    /// No sum is above, whatever the rounding: Σ most, and all that f32 additions can add.
    bound: f64,
    /// `bound − threshold` for which `rounded` was made.
    range: f64,
    rounded: Vec<[u8; E]>,
}

impl<'a, const E: usize> Filter<'a, E> {
    /// `None` where an entry is not finite, or sums might not be.
    pub(super) fn new(path: Path, tables: &'a [[f32; E]]) -> Option<Self> {
        let mut most = Vec::with_capacity(tables.len());
        let (mut bound, mut magnitude) = (0.0_f64, 0.0_f64);
        for table in tables {
            let [low, high] = path.extremes(table)?;
            most.push(high);
            bound += f64::from(high);
            magnitude += f64::from(low.abs().max(high.abs()));
        }
        if magnitude > f64::from(f32::MAX) / 2.0 {
            return None;
        }
        // n additions err by less than n·2⁻²⁴·Σ|entries|, a little more to first order.
        let rounding = 1.01 * tables.len() as f64 * f64::from(f32::EPSILON) / 2.0 * magnitude;
        bound += rounding;
        Some(Self { path, tables, most, bound, range: f64::INFINITY, rounded: Vec::new() })
    }

    /// Tables whose saturated sum is [`REJECTED`] only for codes below `threshold`; `None` where
    /// that is every code.
    pub(super) fn rounded(&mut self, threshold: f32) -> Option<&[[u8; E]]> {
        let range = self.bound - f64::from(threshold);
        if range < 0.0 {
            return None;
        }
        // Tables of a lower threshold are right, too, but reject less.
        if range < 0.97 * self.range {
            self.range = range;
            // f32 products may err upwards, by less than what is taken away here.
            let scale = (254.0 * (1.0 - 1e-6) / range).min(f64::from(f32::MAX)) as f32;
            self.rounded.resize(self.tables.len(), [0; E]);
            self.path.round_down(self.tables, &self.most, scale, &mut self.rounded);
        }
        Some(&self.rounded)
    }
}

/// The smallest and the largest entry; `None` where one is not finite.
#[inline(always)]
pub(super) fn extremes<const E: usize>(table: &[f32; E]) -> Option<[f32; 2]> {
    const LANES: usize = 16;
    let mut low = [f32::INFINITY; LANES];
    let mut high = [f32::NEG_INFINITY; LANES];
    // Zeros, unless an entry is not finite: then NaN.
    let mut zeros = [0.0_f32; LANES];
    for entries in table.as_chunks::<LANES>().0 {
        for (i, &entry) in entries.iter().enumerate() {
            low[i] = low[i].min(entry);
            high[i] = high[i].max(entry);
            zeros[i] += entry * 0.0;
        }
    }
    let finite = zeros.iter().all(|zero| *zero == 0.0);
    let low = low.into_iter().fold(f32::INFINITY, f32::min);
    let high = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
    finite.then_some([low, high])
}

/// `rounded = ⌊(most − entry)·scale⌋`, at most [`REJECTED`].
#[inline(always)]
pub(super) fn round_down<const E: usize>(
    tables: &[[f32; E]],
    most: &[f32],
    scale: f32,
    rounded: &mut [[u8; E]],
) {
    for ((table, most), rounded) in tables.iter().zip(most).zip(rounded) {
        for (entry, rounded) in table.iter().zip(rounded) {
            *rounded = ((most - entry) * scale).min(255.0) as u8;
        }
    }
}
