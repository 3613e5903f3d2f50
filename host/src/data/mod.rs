//! What a sweep asks of a dataset.

use std::path::PathBuf;

/// One dataset of a sweep: where its rows come from and how they are split.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetSpec {
    /// The name records carry.
    pub name: String,
    /// Where the base rows come from.
    pub source: Source,
    /// Where the query rows come from.
    pub queries: Queries,
    /// What a method is fitted on.
    pub train: Train,
    /// Only this many first rows of the source.
    pub limit: Option<usize>,
    /// What "near" means.
    pub metric: Metric,
}

/// Where base rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A vector file, its format told by the extension.
    File(PathBuf),
    /// Rows drawn by the host.
    Synthetic(Synthetic),
}

/// Rows drawn from a known distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// The distribution.
    pub kind: SyntheticKind,
    /// Rows.
    pub n: usize,
    /// Dimensions.
    pub dim: usize,
    /// Seed of the generator.
    pub seed: u64,
}

/// The distributions on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntheticKind {
    /// Independent standard normal coordinates.
    Gaussian,
    /// A mixture of Gaussians.
    Clustered,
    /// Uniform on the unit sphere.
    Sphere,
    /// Gaussian in a subspace plus noise.
    LowRank,
    /// Uniform in a cube.
    Uniform,
}

/// Where query rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Queries {
    /// This many rows leave the base.
    HoldOut(usize),
    /// A vector file.
    File(PathBuf),
}

/// What a method is fitted on.
#[derive(Debug, Clone, PartialEq)]
pub enum Train {
    /// The base itself.
    Base,
    /// This many rows of the base.
    Sample(usize),
    /// A vector file.
    File(PathBuf),
}

/// What "near" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Squared Euclidean distance.
    L2,
    /// Inner product.
    Ip,
    /// Cosine of the angle.
    Cosine,
}
