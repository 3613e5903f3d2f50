//! Voronoi codes: the `q^n` cosets of qΛ in Λ, each standing for its point of least length.
//!
//! Conway & Sloane, "A fast encoding method for lattice codes and quantizers", 1983. Encode:
//! `u = coordinates(Q(t − a)) mod q`. Decode: `y = u·G + a`, `r = y − q·Q(y / q)`. Both hold when
//! the point is in the Voronoi cell of qΛ around the origin; farther out, t is drawn towards the
//! origin until they do.

use crate::points::Lattice;

/// Coordinates this far out overload every code; below it, f32 counts halves and integers.
const FAR: f32 = 524_288.0;

/// A code with q points per coordinate; `shift` moves the lattice against the origin.
#[derive(Clone, Copy)]
pub(crate) struct Voronoi<const N: usize> {
    pub(crate) q: u32,
    pub(crate) shift: [f32; N],
}

impl<const N: usize> Voronoi<N> {
    fn q(&self) -> f32 {
        self.q as f32
    }

    /// The coset of the point near `t`.
    #[inline(always)]
    pub(crate) fn encode<L: Lattice<N>>(&self, t: &[f32; N]) -> [u16; N] {
        let t = t.map(|t| if t < FAR { t } else { FAR }).map(|t| if t > -FAR { t } else { -FAR });
        match self.hold::<L>(&t, 1.0) {
            Some(u) => u,
            None => self.draw_in::<L>(&t),
        }
    }

    /// The coset of the point nearest to `t·factor`, if it decodes to that point.
    #[inline(always)]
    fn hold<L: Lattice<N>>(&self, t: &[f32; N], factor: f32) -> Option<[u16; N]> {
        let p = L::nearest(&std::array::from_fn(|i| t[i] * factor - self.shift[i]));
        let q = self.q as i32;
        let u = L::coordinates(&p);
        // Division takes longer than the search.
        let u = if self.q.is_power_of_two() {
            u.map(|u| u & (q - 1))
        } else {
            u.map(|u| u.rem_euclid(q))
        };
        let u = u.map(|u| u as u16);
        let y: [f32; N] = std::array::from_fn(|i| p[i] + self.shift[i]);
        let q = self.q();
        // A ball within the Voronoi cell spares most points the second search.
        let safe = 0.999 * q * q * L::PACKING_SQ;
        let inside = y.iter().map(|y| y * y).sum::<f32>() < safe;
        (inside || self.decode::<L>(&u) == y).then_some(u)
    }

    /// The last point that decodes, going out from the origin to `t`.
    #[cold]
    fn draw_in<L: Lattice<N>>(&self, t: &[f32; N]) -> [u16; N] {
        // Nothing beyond this radius is nearest to a point of the code.
        let reach = (self.q() + 1.0) * L::COVERING;
        let length = t.iter().map(|t| f64::from(*t).powi(2)).sum::<f64>().sqrt() as f32;
        let (mut inside, mut outside) = (0.0, (reach / length).min(1.0));
        let mut best = self.hold::<L>(t, outside).or_else(|| self.hold::<L>(t, 0.0));
        // To a sixteenth of a cell.
        for _ in 0..self.q.ilog2() + 4 {
            let middle = (inside + outside) / 2.0;
            match self.hold::<L>(t, middle) {
                Some(u) => (best, inside) = (Some(u), middle),
                None => outside = middle,
            }
        }
        // Input that is no number may have any code.
        best.unwrap_or([0; N])
    }

    /// The point of least length in the coset `u`.
    #[inline(always)]
    pub(crate) fn decode<L: Lattice<N>>(&self, u: &[u16; N]) -> [f32; N] {
        let p = L::point(&u.map(i32::from));
        let (q, inv) = (self.q(), 1.0 / self.q());
        let y: [f32; N] = std::array::from_fn(|i| p[i] + self.shift[i]);
        let far = L::nearest(&y.map(|y| y * inv));
        std::array::from_fn(|i| y[i] - q * far[i])
    }
}
