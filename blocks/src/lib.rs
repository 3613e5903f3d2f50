//! Fitted building blocks of vector quantizers, for the methods that are shipped and for anyone's. Each
//! has training, codes, tables for a scan, and its part of the saved model; a method adds parameters and
//! an [`export_plugin!`](vq_plugin_api::export_plugin). The crate exports no symbol of its own.
//!
//! | block | x̂ | paper |
//! |---|---|---|
//! | [`Product`] | \[c₁(i₁), …, c_m(i_m)\], codebooks of sub-spaces | Jégou, Douze, Schmid 2011 |
//! | [`Residual`] | c₁(i₁) + … + c_L(i_L), by beam search | Chen, Guan, Wang 2010; Babenko & Lempitsky 2014; Liu, Lu, Xu 2015 |
//! | [`Scalar`] | levels per dimension or for all | Max 1960; Lloyd 1982 |
//! | [`rotated`] | c + Pᵀ·y, codes of 0 to 16 bits per coordinate with scalars beside them | Gao & Long 2024 and its relatives |
//!
//! [`scan`] sums tables over packed codes and finds the best; [`rate`] turns a wanted rate into
//! configurations. What is below, k-means, rotations, packing and random numbers, is in [`vq_kernels`].
//!
//! All rows are row-major (n, d) f32, all codes (n, code_bytes) u8. Results depend on rows and seed
//! alone: not on threads, batches or the instruction set.
#![forbid(unsafe_code)]

pub mod product;
pub mod rate;
pub mod residual;
pub mod rotated;
mod rows;

pub mod scalar;
pub mod scan;
pub mod testing;

pub use product::Product;
pub use residual::Residual;
pub use rows::Rows;

pub use scalar::Scalar;

#[doc(hidden)]
pub use vq_plugin_api;

use vq_kernels::KMeansError;
use vq_plugin_api::Error;

/// How codebooks are learned.
#[derive(Clone, Copy, Debug)]
pub struct Training {
    /// Most rounds of k-means.
    pub iterations: usize,
    /// Training rows used per centroid, a random sample where there are more.
    pub points_per_centroid: usize,
}

impl Default for Training {
    fn default() -> Self {
        Training { iterations: 25, points_per_centroid: 256 }
    }
}

/// What ended k-means, as the host is told.
fn failed(error: KMeansError<Error>) -> Error {
    match error {
        KMeansError::Stopped(stopped) => stopped,
        other => Error::failed(other.to_string()),
    }
}

/// A row that has to be contiguous; the host lends no others.
#[doc(hidden)]
pub fn contiguous<T>(row: Option<T>) -> Result<T, Error> {
    row.ok_or_else(|| Error::failed("rows are not contiguous"))
}
