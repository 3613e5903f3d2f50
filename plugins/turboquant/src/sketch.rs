//! Signs of random projections of what the levels leave: QJL (Zandieh, Daliri, Han, 2024), as Definition 1
//! and Algorithm 2 of TurboQuant have it; unbiased by its Lemma 4.

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2};
use std::f64::consts::FRAC_PI_2;
use vq_blocks::rotated::{Format, Layout, Scalars, Sums, Turn};
use vq_kernels::distance::norm_sq;
use vq_kernels::draw::seed_of;
use vq_kernels::pack::packed_bytes;
use vq_kernels::rotation::Rotation;
use vq_kernels::{Draw, Projections, signs};
use vq_plugin_api::{Error, choices};

choices! {
    /// The matrix of the projections.
    pub enum Kind { Gaussian = "gaussian", Rotation = "rotation" }
}

/// d signs and the norm γ of what is left.
pub(super) fn layout(dim: usize, scalars: Scalars) -> Layout {
    Layout::uniform(dim, 1, &[Format::from(scalars)])
}

/// Steps of 1 in a Gaussian S, whose numbers are rounded to whole steps.
const STEPS: f64 = 512.0;

/// S (d, d): independent normal numbers, or √d times a rotation, of which only the rotation is kept.
pub(super) struct Sketch {
    layout: Layout,
    dim: usize,
    matrix: Rotation,
    /// The same in integers, where it is Gaussian: signs come by these.
    projections: Option<Projections>,
    /// Of the signs, in estimates: √(π/2)/d, times √d where only the rotation is kept.
    unbiased: f64,
    /// As part of it, the factor of least squared error.
    nearest: f64,
}

impl Sketch {
    pub(super) fn new(dim: usize, kind: Kind, turn: Turn, scalars: Scalars, seed: u64) -> Self {
        // Another stream than the rotation of the rows.
        let seed = seed_of(seed, 1);
        let root = (dim as f64).sqrt();
        let (matrix, projections, unbiased, nearest) = match kind {
            Kind::Gaussian => {
                let mut draw = Draw::new(seed);
                // At most 8.6 in size, as of 53 bits: far from what 16 bits end at.
                let steps = Array2::from_shape_simple_fn((dim, dim), || {
                    (STEPS * draw.normal()).round_ties_even() as i16
                });
                let matrix = steps.mapv(|steps| f32::from(steps) / STEPS as f32);
                // No rotation, but it is multiplied by in the same ways. With w = √(π/2)/d·γ·Sᵀsign(Sε),
                // E⟨w, ε⟩ = γ² and E‖w‖² = γ²·(π/2 + 1 − 1/d).
                let nearest = 1.0 / (FRAC_PI_2 + 1.0 - root.powi(-2));
                let projections = Some(Projections::new(steps.view()));
                let unbiased = FRAC_PI_2.sqrt() / root.powi(2);
                (Rotation::of(matrix.view()), projections, unbiased, nearest)
            }
            Kind::Rotation => {
                let rotation = match turn {
                    Turn::Dense => Rotation::dense(dim, seed),
                    Turn::Hadamard | Turn::None => Rotation::hadamard(dim, seed),
                };
                // ‖w‖² = γ²·π/2.
                (rotation, None, FRAC_PI_2.sqrt() / root, 1.0 / FRAC_PI_2)
            }
        };
        Sketch { layout: layout(dim, scalars), dim, matrix, projections, unbiased, nearest }
    }

    /// Writes the codes (n, code_bytes) of `rest` (n, d): sign(S·ε), 1 where it is not below 0, and γ = ‖ε‖
    /// (Algorithm 2, lines 5 to 7), of a Gaussian sketch as [`Projections`] has them. O(d²) per
    /// row, or O(d·log d) by a Hadamard rotation.
    pub(super) fn encode(
        &self,
        rest: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
    ) -> Result<(), Error> {
        let bytes = packed_bytes(self.dim, 1);
        let mut bits = vec![0; rest.nrows() * bytes];
        if let Some(projections) = &self.projections {
            projections.signs(rest, &mut bits);
        } else {
            let mut projected = Array2::zeros(rest.dim());
            self.matrix.apply(rest, projected.view_mut());
            for (projected, bits) in projected.outer_iter().zip(bits.chunks_exact_mut(bytes)) {
                signs::encode(contiguous(&projected)?, 1.0, bits);
            }
        }
        let mut code = vec![0; self.layout.code_bytes()];
        for ((rest, bits), mut to) in
            rest.outer_iter().zip(bits.chunks_exact(bytes)).zip(codes.outer_iter_mut())
        {
            let gamma = norm_sq(contiguous(&rest)?).sqrt() as f32;
            self.layout.write_packed(bits, &[gamma], &mut code);
            to.iter_mut().zip(&code).for_each(|(to, byte)| *to = *byte);
        }
        Ok(())
    }

    /// What is left, as far as the codes (n, code_bytes) say, (n, d).
    pub(super) fn decode(&self, codes: ArrayView2<'_, u8>) -> Array2<f32> {
        let mut signs = Array2::zeros((codes.nrows(), self.dim));
        let (mut values, mut gamma) = (vec![0; self.dim], [0.0]);
        for (code, mut row) in codes.outer_iter().zip(signs.outer_iter_mut()) {
            self.layout.read(&code.to_vec(), &mut values, &mut gamma);
            let size = (self.nearest * self.unbiased * f64::from(gamma[0])) as f32;
            row.iter_mut()
                .zip(&values)
                .for_each(|(to, v)| *to = if *v == 1 { size } else { -size });
        }
        let mut rest = Array2::zeros(signs.dim());
        self.matrix.invert(signs.view(), rest.view_mut());
        rest
    }

    /// Packs a block `codes` (n, code_bytes): signs, then the factor of each code's.
    pub(super) fn pack(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) {
        let (signs, factors) = packed.split_at_mut(codes.nrows() * self.layout.scanned_bytes());
        let factors = factors.as_chunks_mut::<4>().0;
        self.layout.pack_values(codes, signs, |i, _, gamma| {
            factors[i] = ((self.unbiased * f64::from(gamma[0])) as f32).to_le_bytes();
        });
    }

    /// Bytes of packed signs per code, and tables of ⟨Sᵀ·signs, z⟩ = ⟨signs, S·z⟩.
    pub(super) fn sums(&self, z: &[f32]) -> (usize, Sums) {
        let z = ArrayView2::from_shape((1, self.dim), z).expect("one row");
        let mut projected = Array2::zeros(z.dim());
        self.matrix.apply(z, projected.view_mut());
        let entry = |t: usize, _: u32, v: u16| projected[[0, t]] * if v == 1 { 1.0 } else { -1.0 };
        (self.layout.scanned_bytes(), self.layout.sums(entry))
    }
}

fn contiguous<'a>(row: &ArrayView1<'a, f32>) -> Result<&'a [f32], Error> {
    row.to_slice().ok_or_else(|| Error::failed("rows are not contiguous"))
}
