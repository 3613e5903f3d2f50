//! Coordinate descent over the indices of a code (Guo et al. 2020, section 4.2).
//!
//! With all other sub-spaces fixed, whose errors along the row sum to s, the best centroid of sub-space j
//! is the one of least
//!
//! `‖xⱼ − c‖² + (η − 1)·(s + ⟨uⱼ, xⱼ − c⟩)²`.
//!
//! Both products of a row with all centroids are computed once; a visit of a sub-space reads them. All of
//! it is about the mean of the centroids and scaled by a power of two, so that neither a large offset nor a
//! tiny scale costs digits.

use ndarray::ArrayView1;
use vq_blocks::Product;
use vq_kernels::Path;
use vq_kernels::distance::norm_sq;

/// Most visits of each sub-space.
const ROUNDS: usize = 10;

/// The codebooks of a product quantizer and a loss.
pub(crate) struct Descent {
    m: usize,
    k: usize,
    sub: usize,
    /// η − 1.
    weight: f32,
    centre: Vec<f64>,
    scale: f64,
    /// (m, sub, k): centroids about the centre.
    columns: Vec<f32>,
    /// (m, k): their squared lengths.
    norms: Vec<f32>,
}

/// What a row needs.
pub(crate) struct Scratch {
    centred: Vec<f32>,
    unit: Vec<f32>,
    /// (m, k): ‖x − c‖².
    errors: Vec<f32>,
    /// (m, k): ⟨u, c⟩.
    along: Vec<f32>,
    /// (k): the bits of the losses that a visit compares.
    losses: Vec<u32>,
    order: Vec<usize>,
}

impl Descent {
    pub(crate) fn of(product: &Product, weight: f64) -> Self {
        let (m, k) = (product.sub_spaces(), product.k());
        let sub = product.centroids().len() / (m * k);
        let centre = centre_of(product, sub);
        let scale = scale_of(product, sub, &centre);
        let (mut columns, mut norms) = (vec![0.0; m * sub * k], vec![0.0; m * k]);
        for (at, row) in product.centroids().chunks_exact(sub).enumerate() {
            let (j, c) = (at / k, at % k);
            let mut norm = 0.0;
            for (t, value) in row.iter().enumerate() {
                let value = (f64::from(*value) - centre[j * sub + t]) * scale;
                columns[(j * sub + t) * k + c] = value as f32;
                norm += value * value;
            }
            norms[at] = norm as f32;
        }
        Descent { m, k, sub, weight: weight as f32, centre, scale, columns, norms }
    }

    pub(crate) fn scratch(&self) -> Scratch {
        Scratch {
            centred: vec![0.0; self.centre.len()],
            unit: vec![0.0; self.centre.len()],
            errors: vec![0.0; self.m * self.k],
            along: vec![0.0; self.m * self.k],
            losses: vec![0; self.k],
            order: Vec::with_capacity(self.m),
        }
    }

    /// Lowers the loss of the row `x` (d) under `code` (m) until no index alone lowers it further, and tells
    /// whether any index changed. A row of zeros and one that is not finite keep theirs. O(2^bits · d).
    pub(crate) fn better(
        &self,
        x: ArrayView1<'_, f32>,
        code: &mut [u16],
        scratch: &mut Scratch,
    ) -> bool {
        let length = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if !(length > 0.0 && length.is_finite()) {
            return false;
        }
        for (t, x) in x.iter().enumerate() {
            scratch.centred[t] = ((f64::from(*x) - self.centre[t]) * self.scale) as f32;
            scratch.unit[t] = (f64::from(*x) / length) as f32;
        }
        // Farther out than squares are counted, the nearest centroids stay.
        if norm_sq(&scratch.centred) > 1e30 {
            return false;
        }
        Path::fastest().run(
            #[inline(always)]
            || {
                self.fill(scratch);
                self.descend(code, scratch)
            },
        )
    }

    #[inline(always)]
    fn fill(&self, scratch: &mut Scratch) {
        let Scratch { centred, unit, errors, along, .. } = scratch;
        let (k, sub) = (self.k, self.sub);
        let rows = centred.chunks_exact(sub).zip(unit.chunks_exact(sub));
        let books = self.columns.chunks_exact(sub * k).zip(self.norms.chunks_exact(k));
        let tables = errors.chunks_exact_mut(k).zip(along.chunks_exact_mut(k));
        for (((x, u), (columns, norms)), (errors, along)) in rows.zip(books).zip(tables) {
            let far = x.iter().map(|x| x * x).sum::<f32>();
            // k is a power of two: chunks of one width take all.
            if k >= 64 {
                products::<64>(x, u, columns, errors, along);
            } else if k >= 16 {
                products::<16>(x, u, columns, errors, along);
            } else {
                products::<1>(x, u, columns, errors, along);
            }
            for (error, norm) in errors.iter_mut().zip(norms) {
                *error = far + norm - 2.0 * *error;
            }
        }
    }

    #[inline(always)]
    fn descend(&self, code: &mut [u16], scratch: &mut Scratch) -> bool {
        let Scratch { centred, unit, errors, along, losses, order } = scratch;
        let k = self.k;
        let entry = |table: &[f32], j: usize, c: u16| table[j * k + usize::from(c)];
        // The error along the row.
        let whole: f32 = centred.iter().zip(&*unit).map(|(x, u)| x * u).sum();
        let decoded: f32 = code.iter().enumerate().map(|(j, c)| entry(along, j, *c)).sum();
        let mut parallel = whole - decoded;
        order.clear();
        order.extend(0..self.m);
        let start = |j: usize| entry(errors, j, code[j]);
        order.sort_by(|a, b| start(*b).total_cmp(&start(*a)));
        let (mut changed, mut open) = (false, self.m);
        for j in order.iter().cycle().take(ROUNDS * self.m).copied() {
            let rest = parallel + entry(along, j, code[j]);
            let tables = (&errors[j * k..][..k], &along[j * k..][..k]);
            let least = weigh(tables.0, tables.1, rest, self.weight, losses);
            open -= 1;
            if least < losses[usize::from(code[j])] {
                let found = losses.iter().position(|loss| *loss == least);
                code[j] = found.map_or(code[j], |found| found as u16);
                parallel = rest - entry(along, j, code[j]);
                // What it is best with is new to all others.
                (changed, open) = (true, self.m - 1);
            }
            if open == 0 {
                break;
            }
        }
        changed
    }
}

/// Means of the centroids (d).
fn centre_of(product: &Product, sub: usize) -> Vec<f64> {
    let (m, k) = (product.sub_spaces(), product.k());
    let mut centre = vec![0.0; m * sub];
    for (at, row) in product.centroids().chunks_exact(sub).enumerate() {
        let centre = &mut centre[at / k * sub..][..sub];
        centre.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    centre.iter_mut().for_each(|sum| *sum /= k as f64);
    centre
}

/// A power of two that brings the centroids' coordinates within ±1.
fn scale_of(product: &Product, sub: usize, centre: &[f64]) -> f64 {
    let mut largest = 0.0_f64;
    for (at, row) in product.centroids().chunks_exact(sub).enumerate() {
        for (value, centre) in row.iter().zip(&centre[at / product.k() * sub..]) {
            largest = largest.max((f64::from(*value) - centre).abs());
        }
    }
    if largest > 0.0 { (-largest.log2().ceil()).exp2() } else { 1.0 }
}

/// Products of `x` and `u` (sub) with all centroids, `columns` (sub, k), N of them at a time.
#[inline(always)]
fn products<const N: usize>(
    x: &[f32],
    u: &[f32],
    columns: &[f32],
    of_x: &mut [f32],
    of_u: &mut [f32],
) {
    let k = of_x.len();
    let (of_x, of_u) = (of_x.as_chunks_mut::<N>().0, of_u.as_chunks_mut::<N>().0);
    for (c, (of_x, of_u)) in of_x.iter_mut().zip(of_u).enumerate() {
        let (mut held_x, mut held_u) = ([0.0_f32; N], [0.0_f32; N]);
        for (t, (x, u)) in x.iter().zip(u).enumerate() {
            let column: &[f32; N] =
                columns[t * k + c * N..].first_chunk().expect("N centroids of a column");
            for ((held_x, held_u), value) in held_x.iter_mut().zip(&mut held_u).zip(column) {
                *held_x += x * value;
                *held_u += u * value;
            }
        }
        (*of_x, *of_u) = (held_x, held_u);
    }
}

/// Writes the bits of each `error + weight·(rest − along)²` and answers the least: of numbers that are not
/// negative, bits have the order. Integers, because the least of these is found in wide registers.
#[inline(always)]
fn weigh(errors: &[f32], along: &[f32], rest: f32, weight: f32, losses: &mut [u32]) -> u32 {
    let mut least = u32::MAX;
    for ((error, along), loss) in errors.iter().zip(along).zip(losses) {
        let parallel = rest - along;
        // Rounding may leave an error just below 0.
        *loss = (error + weight * (parallel * parallel)).max(0.0).to_bits();
        least = least.min(*loss);
    }
    least
}
