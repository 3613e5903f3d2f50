//! The directions that rows are projected on: the leading principal ones of the rows' own directions, turned so
//! that codes come near.

use ndarray::{Array2, ArrayView2, Axis, Slice};
use rayon::prelude::*;
use vq_blocks::rotated::sweep::Sweep;
use vq_blocks::rotated::{Basis, Grid};
use vq_kernels::distance::norm_sq;
use vq_kernels::moments::products;
use vq_kernels::rotation::Rotation;
use vq_kernels::{Centre, Panels};
use vq_plugin_api::{Context, Error};

/// Rows that directions are learned from.
const ROWS: usize = 8192;

/// Rows of one task.
const BLOCK: usize = 128;

/// W (k, d), k being the coordinates of `grid`, for the rows `x` (n, d): P_k holds the leading right singular vectors
/// of the centred rows of unit length U, and R begins random. Each round codes U·P_kᵀ·Rᵀ, brings the codes Y to unit
/// length, and takes the R of least ‖U·P_kᵀ·Rᵀ − Y‖: the polar factor of Yᵀ·U·P_kᵀ. O(rounds·(n·k·d + k³)).
pub(crate) fn directions(
    centre: &Centre,
    x: ArrayView2<'_, f32>,
    (grid, kept): (&Grid, usize),
    rounds: usize,
    ctx: &Context<'_>,
) -> Result<Array2<f32>, Error> {
    let every = x.nrows().div_ceil(ROWS) as isize;
    let mut units = x.slice_axis(Axis(0), Slice::from(..).step_by(every)).to_owned();
    let mut centred = vec![0.0; x.ncols()];
    for mut row in units.outer_iter_mut() {
        let from = row.to_vec();
        centre.apply(&from, &mut centred);
        let norm = norm_sq(&centred).sqrt();
        // A row without a direction says nothing.
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        for (to, x) in row.iter_mut().zip(&centred) {
            *to = (f64::from(*x) * scale) as f32;
        }
    }
    ctx.progress(0.0, "principal directions")?;
    let (_, leading) = Basis::principal(&Centre::none(x.ncols()), units.view());
    let leading = leading.slice_axis(Axis(0), Slice::from(..kept)).mapv(|value| value as f32);
    let mut z = Array2::zeros((units.nrows(), kept));
    Panels::for_ip(leading.view()).scores(units.view(), z.view_mut());
    let mut rotation = Rotation::dense(kept, ctx.seed());
    for round in 0..rounds {
        ctx.progress(0.3 + 0.7 * round as f32 / rounds as f32, "rotation")?;
        let mut turned = Array2::zeros(z.dim());
        rotation.apply(z.view(), turned.view_mut());
        let coded = coded(grid, turned);
        rotation = Rotation::nearest(products(coded.view(), z.view()).view());
    }
    let mut turned = Array2::zeros((x.ncols(), kept));
    rotation.apply(leading.t().as_standard_layout().view(), turned.view_mut());
    Ok(turned.t().as_standard_layout().into_owned())
}

/// The points of the grid nearest in direction to the rows `z` (n, k), of unit length.
fn coded(grid: &Grid, mut z: Array2<f32>) -> Array2<f32> {
    z.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter().for_each(|mut rows| {
        let (mut sweep, mut indices) = (Sweep::new(grid), vec![0; rows.ncols()]);
        for mut row in rows.outer_iter_mut() {
            let from = row.to_vec();
            let norm = norm_sq(&from).sqrt();
            if norm == 0.0 {
                continue;
            }
            sweep.nearest(&from, norm, &mut indices);
            for (run, levels) in grid.runs() {
                let own = run.first..run.first + run.count;
                for (to, v) in row.iter_mut().skip(run.first).zip(&indices[own]) {
                    *to = levels[usize::from(*v)];
                }
            }
            let scale = 1.0 / norm_sq(&row.to_vec()).sqrt();
            row.iter_mut().for_each(|to| *to = (f64::from(*to) * scale) as f32);
        }
    });
    z
}
