//! Numeric kernels shared by the referee and its plugins, and open to anyone's plugin.
//!
//! One law holds throughout: **a result depends on the numbers alone**, not on the instruction set,
//! the number of threads, or how a caller cuts its data into blocks. Sums have a fixed order
//! that every path follows, and ties go to the lowest index.
//!
//! | module | what |
//! |---|---|
//! | [`aligned`] | tables that begin where a line of the cache begins |
//! | [`beam`] | one step of a beam search over additive codes |
//! | [`bits`] | exact products and distances of codes of bits |
//! | [`centre`] | rows brought near the origin |
//! | [`distance`] | inner products and squared distances of two vectors, in f64 |
//! | [`draw`] | random numbers and samples that the seed alone decides |
//! | [`panels`] | scores of many vectors against many rows; the nearest row |
//! | [`knn`] | the `k` nearest rows, exact in f64 whatever the numbers |
//! | [`nearest`] | the nearest row, through integers of 16 bits |
//! | [`top_k`] | the `k` best of a stream of scores |
//! | [`kmeans`] | Lloyd's algorithm, and its steps one by one |
//! | [`moments`] | means, deviations and covariances |
//! | [`pca`] | principal directions |
//! | [`lookup`] | sums over packed codes by table, and the best of them |
//! | [`pack`] | codes of 1 to 16 bits, packed |
//! | [`signs`] | codes of one bit, and products with them |
//! | [`projections`] | signs of products with a matrix of 16-bit integers |
//! | [`levels`] | levels by their indices |
//! | [`half`] | f16 and bf16 |
//! | [`int16`] | scores in integers of 16 bits, with a bound of their error |
//! | [`int8`] | products of many codes with many vectors in 8 bits, and the candidates they leave |
//! | [`rotation`] | random rotations, dense and by Walsh–Hadamard transforms |
//! | [`cache`] | values dropped from the processor's caches |
//! | [`path`] | one loop, compiled for every instruction set |

pub mod aligned;
pub mod beam;
pub mod bits;
pub mod cache;
pub mod centre;
pub mod distance;
pub mod draw;
pub mod half;
pub mod int16;
pub mod int8;
pub mod kmeans;
pub mod knn;
pub mod levels;
pub mod lookup;
pub mod moments;
pub mod nearest;
pub mod pack;
pub mod panels;
pub mod path;
pub mod pca;
pub mod projections;
mod pruning;
pub mod rotation;
pub mod signs;
pub mod top_k;

pub use aligned::Aligned;
pub use centre::Centre;
pub use draw::Draw;
pub use int16::{Int16Panels, Int16Rotation};
pub use kmeans::{KMeans, KMeansError};
pub use lookup::Lookup;
pub use nearest::Nearest;
pub use panels::Panels;
pub use path::Path;
pub use projections::Projections;
pub use top_k::TopK;
