//! Scans of packed codes: estimates of all, or the k best.
//!
//! A query becomes [`Tables`]; an estimate is the sum of one entry per index of the code, plus what is the
//! same for all codes, plus, where a method has one, a term per code that lies behind the packed codes.
//! [`Estimates`] writes them all; [`Search`] finds the k best and computes few of them where the machine
//! can rule codes out by sums of 8-bit integers (4-bit and 8-bit indices, see [`vq_kernels::lookup`]).
//! Both give the same numbers; of equal ones the lowest row wins.
//!
//! ```
//! use vq_blocks::scan::{self, Tables};
//! use vq_plugin_api::Metric;
//! use vq_plugin_api::ndarray::array;
//!
//! // Three codes of two 4-bit indices: (3, 1), (0, 2), (3, 1).
//! let codes = array![[0x13_u8], [0x20], [0x13]];
//! let mut packed = [0; 3];
//! scan::pack(codes.view(), &mut packed);
//! let tables = Tables::new((0..32).map(|i| i as f32).collect(), 2, 4);
//! let mut estimates = [0.0; 3];
//! tables.clone().estimates().score(&packed, &mut estimates);
//! assert_eq!(estimates, [3.0 + 17.0, 0.0 + 18.0, 3.0 + 17.0]);
//! assert_eq!(tables.clone().search(Metric::L2).top_k(&packed, 3, 2), [(18.0, 1), (20.0, 0)]);
//! assert_eq!(tables.search(Metric::Ip).top_k(&packed, 3, 2), [(20.0, 0), (20.0, 2)]);
//! ```

use ndarray::ArrayView2;
use vq_kernels::lookup::interleave;
use vq_kernels::pack::packed_bytes;
use vq_kernels::{Lookup, TopK};
use vq_plugin_api::{Context, Error, Metric, Quantizer};

/// Bytes of a term per code: an f32, little-endian.
pub const TERM_BYTES: usize = size_of::<f32>();

/// Codes whose estimates are computed between two looks at the best; a multiple of what is interleaved.
const STEP: usize = 1024;

/// Packs a block `codes` (n, code_bytes) into the front of `packed`, interleaved, and answers the rest of
/// it: the place for terms. Single-threaded, O(n · code_bytes).
///
/// # Panics
/// When `packed` is shorter than the codes.
pub fn pack<'a>(codes: ArrayView2<'_, u8>, packed: &'a mut [u8]) -> &'a mut [u8] {
    let (interleaved, terms) = packed.split_at_mut(codes.len());
    interleave(codes, interleaved);
    terms
}

/// What estimates of one query are added up from.
#[derive(Clone, Debug)]
pub struct Tables {
    entries: Vec<f32>,
    count: usize,
    bits: u32,
    sum: Sum,
}

/// What becomes of the sum of a code's entries.
#[derive(Clone, Copy, Debug)]
struct Sum {
    constant: f32,
    terms: bool,
    least: f32,
}

impl Tables {
    /// Tables (count, 2^bits) for codes of `count` indices of `bits` bits. The sums must be finite.
    ///
    /// # Panics
    /// When there are more or fewer entries, or `bits` is not in 1..=16.
    #[must_use]
    pub fn new(entries: Vec<f32>, count: usize, bits: u32) -> Self {
        assert!((1..=16).contains(&bits), "{bits} bits, expected 1 to 16");
        assert_eq!(entries.len(), count << bits, "entries of {count} tables");
        let sum = Sum { constant: 0.0, terms: false, least: f32::NEG_INFINITY };
        Tables { entries, count, bits, sum }
    }

    /// Tables of estimates that are `unit` times as large, plus `constant`: in the entries, so that sums
    /// stay what is compared.
    #[must_use]
    pub fn scaled(mut self, unit: f64, constant: f64) -> Self {
        let limit = f64::from(f32::MAX) / (self.count + 1) as f64;
        for (i, entry) in self.entries.iter_mut().enumerate() {
            let constant = if i >> self.bits == 0 { constant } else { 0.0 };
            *entry = (unit * f64::from(*entry) + constant).clamp(-limit, limit) as f32;
        }
        self
    }

    /// Adds `constant` to every estimate.
    #[must_use]
    pub fn plus(mut self, constant: f32) -> Self {
        self.sum.constant = constant;
        self
    }

    /// Adds to every estimate the term that lies behind the packed codes: an f32 for each code.
    #[must_use]
    pub fn with_terms(mut self) -> Self {
        self.sum.terms = true;
        self
    }

    /// Makes estimates below 0 be 0: rounding must not make a distance negative.
    #[must_use]
    pub fn not_negative(mut self) -> Self {
        self.sum.least = 0.0;
        self
    }

    /// For the estimates of all codes.
    #[must_use]
    pub fn estimates(self) -> Estimates {
        let (width, sum) = (self.width(), self.sum);
        Estimates { lookup: Lookup::new(self.entries, self.count, self.bits), width, sum }
    }

    /// For the codes of the best estimates: the least for L2, the largest otherwise.
    #[must_use]
    pub fn search(mut self, metric: Metric) -> Search {
        let sign = if metric == Metric::L2 { -1.0 } else { 1.0 };
        let Sum { constant, terms, least } = self.sum;
        // What follows a sum may make two that differ equal, and then the lower row is the better.
        let by_sums = constant == 0.0 && !terms && least == f32::NEG_INFINITY;
        if by_sums {
            self.entries.iter_mut().for_each(|entry| *entry *= sign);
        }
        Search { sign, by_sums, estimates: self.estimates() }
    }

    fn width(&self) -> usize {
        packed_bytes(self.count, self.bits)
    }
}

/// Estimates of all codes of a block.
#[derive(Clone, Debug)]
pub struct Estimates {
    lookup: Lookup,
    width: usize,
    sum: Sum,
}

impl Estimates {
    /// Writes the estimates of a block of n codes, packed, into `estimates` (n). Single-threaded,
    /// O(n · code_bytes).
    ///
    /// # Panics
    /// When `packed` is not that of n codes.
    pub fn score(&self, packed: &[u8], estimates: &mut [f32]) {
        let (interleaved, terms) = packed.split_at(estimates.len() * self.width);
        self.score_part(interleaved, terms, estimates);
    }

    fn score_part(&self, interleaved: &[u8], terms: &[u8], estimates: &mut [f32]) {
        let Sum { constant, terms: with_terms, least } = self.sum;
        self.lookup.sums(interleaved, estimates);
        if with_terms {
            let terms = terms.as_chunks().0;
            assert_eq!(terms.len(), estimates.len(), "one term per code");
            for (estimate, term) in estimates.iter_mut().zip(terms) {
                let term = f32::from_le_bytes(*term);
                *estimate = (*estimate + (constant + term)).max(least);
            }
        } else if constant != 0.0 || least > f32::NEG_INFINITY {
            estimates.iter_mut().for_each(|estimate| *estimate = (*estimate + constant).max(least));
        }
    }
}

/// The best codes of a block.
#[derive(Clone, Debug)]
pub struct Search {
    /// What makes the best estimate the largest.
    sign: f32,
    /// The sums are the estimates, times the sign.
    by_sums: bool,
    estimates: Estimates,
}

impl Search {
    /// The `k` best of a block of `n` codes, packed, as (estimate, row), the best first; all where n < k.
    /// Single-threaded, O(n · code_bytes).
    ///
    /// # Panics
    /// When `packed` is not that of n codes, or n is beyond 2^32 − 1.
    #[must_use]
    pub fn top_k(&self, packed: &[u8], n: usize, k: usize) -> Vec<(f32, u64)> {
        let rows = u32::try_from(n).expect("rows of a block fit 32 bits");
        let mut top = TopK::new(k.min(n));
        let Estimates { lookup, width, sum } = &self.estimates;
        let (interleaved, terms) = packed.split_at(n * width);
        if self.by_sums {
            lookup.push_sums(interleaved, 0..rows, &mut top);
        } else {
            let mut scores = [0.0; STEP];
            for first in (0..n).step_by(STEP) {
                let last = n.min(first + STEP);
                let part = |bytes| first * bytes..last * bytes;
                let scores = &mut scores[..last - first];
                let terms = if sum.terms { &terms[part(TERM_BYTES)] } else { &[] };
                self.estimates.score_part(&interleaved[part(*width)], terms, scores);
                scores.iter_mut().for_each(|score| *score *= self.sign);
                top.push_row(first as u32, scores);
            }
        }
        // Not multiplied: that would make −0 of 0.
        let estimate = |score: f32| if self.sign < 0.0 { 0.0 - score } else { score };
        let best = top.into_sorted().into_iter();
        best.map(|(score, row)| (estimate(score), u64::from(row))).collect()
    }
}

/// A method whose estimates are sums of [`Tables`]: what [`scan_by_tables!`](crate::scan_by_tables) makes a
/// [`Scorer`](vq_plugin_api::Scorer) and a [`Search`](vq_plugin_api::Search) of.
pub trait ByTables: Quantizer {
    /// The metric of the method's space.
    fn metric(&self) -> Metric;

    /// The tables of `query` (d), in the units of the metric.
    fn tables(&self, query: &[f32]) -> Tables;

    /// Bytes per code of what [`pack`](Self::pack) makes.
    fn packed_bytes(&self) -> usize {
        self.code_bytes()
    }

    /// Packs a block `codes` (n, code_bytes) into `packed` (n · packed_bytes): [`pack`](fn@pack), and terms
    /// behind it where the tables want them.
    ///
    /// # Errors
    /// Codes that no vector could have.
    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let _ = ctx;
        pack(codes, packed);
        Ok(())
    }
}

/// Implements [`Scorer`](vq_plugin_api::Scorer) and [`Search`](vq_plugin_api::Search), which ranks by the
/// scorer's estimates, for a type with [`ByTables`].
#[macro_export]
macro_rules! scan_by_tables {
    // What the type is generic over, in brackets.
    ([$($generics:tt)*] $method:ty) => {
        impl<$($generics)*> $crate::vq_plugin_api::Scorer for $method {
            type Query = $crate::scan::Estimates;
            const PACKED: bool = true;

            fn packed_bytes(&self) -> usize {
                $crate::scan::ByTables::packed_bytes(self)
            }

            fn pack(
                &self,
                codes: $crate::vq_plugin_api::ndarray::ArrayView2<'_, u8>,
                mut packed: $crate::vq_plugin_api::ndarray::ArrayViewMut2<'_, u8>,
                ctx: &$crate::vq_plugin_api::Context<'_>,
            ) -> ::std::result::Result<(), $crate::vq_plugin_api::Error> {
                let packed = $crate::contiguous(packed.as_slice_mut())?;
                $crate::scan::ByTables::pack(self, codes, packed, ctx)
            }

            fn query(
                &self,
                query: $crate::vq_plugin_api::ndarray::ArrayView1<'_, f32>,
                _: &$crate::vq_plugin_api::Context<'_>,
            ) -> ::std::result::Result<Self::Query, $crate::vq_plugin_api::Error> {
                let tables = $crate::scan::ByTables::tables(self, &query.to_vec());
                ::std::result::Result::Ok(tables.estimates())
            }

            fn score(
                &self,
                query: &Self::Query,
                codes: $crate::vq_plugin_api::ndarray::ArrayView2<'_, u8>,
                estimates: &mut [f32],
                _: ::std::option::Option<&mut [f32]>,
            ) -> ::std::result::Result<(), $crate::vq_plugin_api::Error> {
                query.score($crate::contiguous(codes.to_slice())?, estimates);
                ::std::result::Result::Ok(())
            }
        }

        impl<$($generics)*> $crate::vq_plugin_api::Search for $method {
            const RANKS_ESTIMATES: bool = true;

            fn packed_bytes(&self, n: usize) -> usize {
                n * $crate::scan::ByTables::packed_bytes(self)
            }

            fn pack(
                &self,
                codes: $crate::vq_plugin_api::ndarray::ArrayView2<'_, u8>,
                packed: &mut [u8],
                ctx: &$crate::vq_plugin_api::Context<'_>,
            ) -> ::std::result::Result<(), $crate::vq_plugin_api::Error> {
                $crate::scan::ByTables::pack(self, codes, packed, ctx)
            }

            fn search(
                &self,
                queries: $crate::vq_plugin_api::ndarray::ArrayView2<'_, f32>,
                codes: $crate::vq_plugin_api::Packed<'_>,
                hits: $crate::vq_plugin_api::Hits<'_>,
                _: &$crate::vq_plugin_api::Context<'_>,
            ) -> ::std::result::Result<(), $crate::vq_plugin_api::Error> {
                let k = hits.k();
                hits.fill_each(queries, |query| {
                    let tables = $crate::scan::ByTables::tables(self, &query.to_vec());
                    let search = tables.search($crate::scan::ByTables::metric(self));
                    ::std::result::Result::Ok(search.top_k(codes.bytes, codes.n, k))
                })
            }
        }
    };
    ($method:ty) => {
        $crate::scan_by_tables!([] $method);
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;
    use vq_kernels::Draw;

    proptest! {
        #[test]
        fn a_search_gives_what_sorting_the_estimates_gives(
            n in 0_usize..3000,
            count in 1_usize..20,
            bits in 1_u32..9,
            k in 0_usize..120,
            plain in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let mut draw = Draw::new(seed);
            let codes = Array2::from_shape_simple_fn((n, packed_bytes(count, bits)), || draw.word() as u8);
            // Few values, so that estimates are often equal.
            let entries = (0..count << bits).map(|_| draw.below(7) as f32 - 3.0).collect();
            let mut tables = Tables::new(entries, count, bits);
            let mut packed = vec![0; codes.len()];
            if !plain {
                tables = tables.plus(1e7).with_terms().not_negative();
                packed.resize(codes.len() + n * TERM_BYTES, 0);
            }
            for term in pack(codes.view(), &mut packed).as_chunks_mut::<TERM_BYTES>().0 {
                *term = (draw.below(5) as f32 - 1e7).to_le_bytes();
            }
            let mut estimates = vec![9.0; n];
            tables.clone().estimates().score(&packed, &mut estimates);
            for metric in [Metric::L2, Metric::Ip] {
                let mut order: Vec<(f32, u64)> = estimates.iter().copied().zip(0..).collect();
                order.sort_by(|(a, i), (b, j)| {
                    let better = if metric == Metric::L2 { a.total_cmp(b) } else { b.total_cmp(a) };
                    better.then(i.cmp(j))
                });
                order.truncate(k);
                prop_assert_eq!(tables.clone().search(metric).top_k(&packed, n, k), order);
            }
        }
    }
}
