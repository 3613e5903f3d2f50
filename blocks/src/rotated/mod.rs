//! Rows turned about a centre, and codes of a few bits per coordinate with scalars beside them: what
//! RaBitQ (Gao & Long 2024; Gao et al. 2025), EDEN (Vargaftik et al. 2022), OSQ and their relatives have in
//! common, whatever they round to and however they estimate.
//!
//! - A [`Frame`] is centre and rotation: `z = P·(x − c)`, and back.
//! - A [`Basis`] is centre and a few directions: `z = W·(x − c)`, k ≤ d coordinates.
//! - A [`Layout`] says how many bits, 0 to 16, each coordinate of z takes in a code, and which scalars
//!   (a norm, a scale) lie behind them; it packs codes for a scan and sums tables over them.
//! - A [`Grid`] is a layout with levels: rows as multiples of vectors of levels, by whatever rule these are
//!   chosen, with the norm and maybe the cosine stored, from which every [`Scale`] follows; a [`Scan`]
//!   estimates from its codes.
//! - An [`Affine`] is the same for rows as m + w·y, with an interval of their own.
//! - [`levels`] has the levels for normal numbers, and finds the nearest of any.
//! - [`sweep`] finds the point of a grid that is nearest in direction.
//!
//! A method adds the choice of levels and of scales: `examples/rabitq` is one.

mod affine;
mod basis;
mod frame;
mod grid;
mod layout;
pub mod levels;
mod search;
pub mod sweep;
pub mod testing;

pub use affine::Affine;
pub use basis::Basis;
pub use frame::{Centring, Frame, Query, Turn};
pub use grid::{ByGrid, Grid, NormOf, Scalars, Scale, Scan, Stored};
pub use layout::{Format, Layout, Run, Sums};
pub use search::search;
