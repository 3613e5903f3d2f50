//! The `k` nearest rows of every query, exactly: as if all f64 distances were sorted, equal ones by id.
//!
//! Estimates of the scores choose which rows are measured in f64. They are made in a frame of their
//! own, centred and scaled to lengths near 1, so that neither a far origin nor a small unit costs them
//! digits. A row is left out only where its estimate proves that it is farther than `k` rows which
//! were measured. Whatever the numbers are, the answer is exact; hard ones only take longer.
//!
//! **The proof.** With the centre c and a power of two s, let x* = s·(x − c) and r* = s·(r − c). The
//! frame holds x' and r', which f32 rounds to within ξ of x* and β of r*. Let D be the `k`-th smallest
//! distance so far.
//!
//! - *Squared distances.* A row that is as near has ‖x* − r*‖ ≤ s·√D, so ‖x' − r'‖ ≤ s·√D + ξ + β =: ρ,
//!   and its score x'·r' − ‖r'‖²/2 = (‖x'‖² − ‖x' − r'‖²)/2 is at least (‖x'‖² − ρ²)/2.
//! - *Inner products.* Only rows are centred: x' = t·x, with t a power of two. A row that is as near has
//!   x·r ≥ −D, so x'·r' ≥ s·t·(−D − x·c) − ‖x'‖·β − ξ·(‖r'‖ + β).
//!
//! Less what estimates may be off: for [`Int16Panels`](crate::Int16Panels) what they say (8 bits, asked
//! first, leave out only rows whose estimate of 16 bits is not needed); for [`Panels`](crate::Panels),
//! whose scores are d fused multiply-adds from a bias that is rounded once, γ·(‖x'‖·‖r'‖ + ‖r'‖²/2) with
//! γ = (d+1)·2⁻²⁴ / (1 − (d+1)·2⁻²⁴) ≤ 1.01·(d+1)·2⁻²⁴ (Higham 2002, §3.1). Values in f64 err by some
//! (d+8)·2⁻⁵² of what they are made of, and steps that underflow by 2⁻¹⁴⁹ each; both are added with a
//! margin.
//!
//! Of large searches, rows that lie far from a query are not even asked: the module `groups`.

mod block;
mod frame;
mod groups;
mod step;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use ndarray::{ArrayView2, Axis, CowArray, Ix2, s};
use rayon::prelude::*;

use crate::distance::{dot, l2_sq, norm_sq};
use crate::panels::contiguous_rows;
use block::Block;
use frame::{Frame, Moved};
use groups::{Bearings, Pivots, Trial, Work};
use step::{Slot, Step};

/// Queries that a thread takes at a time.
const QUERY_CHUNK: usize = 64;
/// Values of the rows in one slot: a quarter of a megabyte of 16-bit integers or a half of f32, a part of the
/// second-level cache.
const SLOT_VALUES: usize = 1 << 17;
/// Most rows of a block: what is met by all queries at a time.
const BLOCK_ROWS: usize = 1 << 14;
/// Queries of at most this length, in the frame, are asked in 16-bit integers; rows have at most 2.
const NEAR: f64 = 8.0;

/// What "near" means. Smaller is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// ‖x − r‖².
    L2Sq,
    /// −x·r.
    NegativeProduct,
}

impl Distance {
    /// The distance of `x` and `r`, both (d), in f64.
    #[must_use]
    pub fn of(self, x: &[f32], r: &[f32]) -> f64 {
        match self {
            Self::L2Sq => l2_sq(x, r),
            // Not a negation: −0 would sort before 0.
            Self::NegativeProduct => 0.0 - dot(x, r),
        }
    }
}

/// A row and how far it is; ordered nearest first, then by id.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    /// See [`Distance`].
    pub distance: f64,
    /// Of the row.
    pub id: u32,
}

impl Ord for Neighbour {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Neighbour {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Neighbour {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Neighbour {}

/// The nearest rows of queries (n, d), found while rows go by in blocks of any order.
///
/// Memory: O(n·(k + d)), of large searches one kilobyte more per query, and some copies of 16,384 rows. Runs in the
/// current rayon pool; the answer does not depend on it, nor on the blocks.
///
/// ```
/// use ndarray::array;
/// use vq_kernels::knn::{Distance, Knn};
///
/// let queries = array![[0.0, 1.0]];
/// let mut knn = Knn::new(queries.view(), Distance::L2Sq, 2, &[0.0, 0.0]);
/// knn.push(0, array![[3.0, 1.0], [0.0, 0.0]].view());
/// knn.push(2, array![[0.0, 1.0]].view());
/// let found = &knn.finish()[0];
/// assert_eq!(found.nearest.iter().map(|n| n.id).collect::<Vec<_>>(), [2, 1]);
/// assert!(found.identical);
/// ```
#[derive(Debug)]
pub struct Knn<'q> {
    queries: CowArray<'q, f32, Ix2>,
    by: Distance,
    k: usize,
    centre: Vec<f32>,
    centre_norm: f64,
    /// Per query x·c, for inner products.
    at_centre: Vec<f64>,
    frame: Frame,
    /// Kept to allocate once.
    moved: Moved,
    slots: Vec<Slot>,
    trial: Trial,
    pivots: Option<Arc<Pivots>>,
    /// Of the queries to the pivots.
    bearings: Option<Bearings>,
    /// The number that each query was given with; empty where that is its place.
    order: Vec<usize>,
    found: Vec<Heap>,
}

/// What one query found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// At most `k` rows, nearest first.
    pub nearest: Vec<Neighbour>,
    /// A row that was measured equals the query. Of squared distances: any row.
    pub identical: bool,
}

/// The nearest so far, the farthest of them on top.
#[derive(Clone, Debug, Default)]
struct Heap {
    nearest: BinaryHeap<Neighbour>,
    identical: bool,
}

impl Heap {
    /// False where it is farther than `k` others.
    fn offer(&mut self, k: usize, neighbour: Neighbour) -> bool {
        if self.nearest.len() < k {
            self.nearest.push(neighbour);
            return true;
        }
        let Some(mut farthest) = self.nearest.peek_mut() else { return false };
        let nearer = neighbour < *farthest;
        if nearer {
            *farthest = neighbour;
        }
        nearer
    }

    /// The distance of the `k`-th; infinite while there are fewer.
    fn reach(&self, k: usize) -> f64 {
        match self.nearest.peek() {
            Some(farthest) if self.nearest.len() >= k => farthest.distance,
            _ => f64::INFINITY,
        }
    }
}

impl<'q> Knn<'q> {
    /// Nothing found yet for `queries` (n, d). `centre` (d) is about where rows lie, such as their mean;
    /// it changes the time that is taken and nothing else.
    ///
    /// # Panics
    /// When `k` is 0 or `centre` has another dimension.
    #[must_use]
    pub fn new(queries: ArrayView2<'q, f32>, by: Distance, k: usize, centre: &[f64]) -> Self {
        assert!(k > 0, "k is at least 1");
        assert_eq!(queries.ncols(), centre.len(), "dimension of the centre");
        let queries = contiguous_rows(queries);
        let finite = |c: f64| if c.is_finite() { c as f32 } else { 0.0 };
        let centre: Vec<f32> = centre
            .iter()
            .map(|c| finite(c.clamp(f64::from(f32::MIN), f64::from(f32::MAX))))
            .collect();
        let at_centre = queries.axis_iter(Axis(0)).map(|x| dot(slice(&x), &centre)).collect();
        let n = queries.nrows();
        Self {
            by,
            k,
            centre_norm: norm_sq(&centre).sqrt(),
            centre,
            at_centre,
            frame: Frame::of(queries.dim()),
            moved: Moved::default(),
            slots: Vec::new(),
            trial: Trial::new(),
            pivots: None,
            bearings: None,
            order: Vec::new(),
            found: vec![Heap::default(); n],
            queries,
        }
    }

    /// Shows `rows` (m, d), finite, whose ids are `first, first + 1, …`. O(n·m·d).
    ///
    /// # Panics
    /// When the dimensions differ or an id does not fit a `u32`.
    pub fn push(&mut self, first: u32, rows: ArrayView2<'_, f32>) {
        Self::push_to(&mut [self], first, rows);
    }

    /// Shows `rows` to every one of `searches`, by one distance and of one centre: as pushing them to
    /// each, but what is made of the rows alone is made once.
    ///
    /// # Panics
    /// As [`push`](Self::push), and when the searches differ in distance or centre.
    pub fn push_to(searches: &mut [&mut Self], first: u32, rows: ArrayView2<'_, f32>) {
        for search in &*searches {
            assert_eq!(rows.ncols(), search.queries.ncols(), "dimension of the rows");
            assert_eq!(search.by, searches[0].by, "distance of the searches");
            assert_eq!(search.centre, searches[0].centre, "centre of the searches");
        }
        assert!(rows.nrows() as u64 <= (1 << 32) - u64::from(first), "ids beyond the last u32");
        for (i, rows) in rows.axis_chunks_iter(Axis(0), BLOCK_ROWS).enumerate() {
            let rows = contiguous_rows(rows);
            Self::group_when_due(searches, rows.view());
            let pivots = Self::common_pivots(searches);
            let block = Block::of(rows.view(), pivots.as_deref());
            let work = Self::meet(searches, first + (i * BLOCK_ROWS) as u32, &block);
            for search in &mut *searches {
                search.trial.add(work);
                let pivots = search.pivots.as_ref().map(|pivots| pivots.count());
                if pivots.is_some_and(|pivots| search.trial.has_failed(pivots, BLOCK_ROWS)) {
                    (search.pivots, search.bearings) = (None, None);
                }
            }
        }
    }

    /// Makes groups around some of `rows`, which come next, if all `searches` want that now.
    fn group_when_due(searches: &mut [&mut Self], rows: ArrayView2<'_, f32>) {
        let queries = searches.iter().map(|search| search.queries.nrows() as u64).sum();
        let are_due = searches.iter().all(|search| search.trial.is_due(queries));
        if searches.is_empty() || !are_due {
            return;
        }
        if let Some(pivots) = Pivots::among(rows).map(Arc::new) {
            searches.iter_mut().for_each(|search| search.group(&pivots));
        }
    }

    /// The pivots of all `searches`, if these have the same.
    fn common_pivots(searches: &[&mut Self]) -> Option<Arc<Pivots>> {
        let pivots = searches.first()?.pivots.as_ref()?;
        let same = |search: &&mut Self| {
            search.pivots.as_ref().is_some_and(|other| Arc::ptr_eq(pivots, other))
        };
        searches.iter().all(same).then(|| pivots.clone())
    }

    /// From here on rows come in groups around `pivots`; queries stand in the order that suits that.
    fn group(&mut self, pivots: &Arc<Pivots>) {
        let (bearings, order) = Bearings::take(pivots, self.queries.view(), self.by);
        self.queries = self.queries.select(Axis(0), &order).into();
        self.at_centre = order.iter().map(|query| self.at_centre[*query]).collect();
        self.found = order.iter().map(|query| std::mem::take(&mut self.found[*query])).collect();
        self.frame = Frame::of(self.queries.dim());
        (self.pivots, self.bearings, self.order) = (Some(pivots.clone()), Some(bearings), order);
        self.trial.begin();
    }

    /// Per query what it found.
    #[must_use]
    pub fn finish(self) -> Vec<Found> {
        let mut found: Vec<Found> = self
            .found
            .into_par_iter()
            .map(|heap| Found {
                identical: heap.identical,
                nearest: heap.nearest.into_sorted_vec(),
            })
            .collect();
        if !self.order.is_empty() {
            let mut numbered: Vec<_> = self.order.into_iter().zip(found).collect();
            numbered.sort_unstable_by_key(|(query, _)| *query);
            found = numbered.into_iter().map(|(_, found)| found).collect();
        }
        found
    }

    /// Answers how much of the block was asked.
    fn meet(searches: &mut [&mut Self], first: u32, block: &Block<'_>) -> Work {
        let mut work = Work::default();
        let Some(one) = searches.first_mut() else { return work };
        let (by, centre) = (one.by, std::mem::take(&mut one.centre));
        let (mut moved, mut slots) =
            (std::mem::take(&mut one.moved), std::mem::take(&mut one.slots));
        moved.load(&centre, block.rows.view());
        one.centre = centre;
        let mut longest = 0.0_f64;
        for search in &mut *searches {
            let Self { queries, by, centre, frame, .. } = &mut **search;
            frame.enter(moved.scale, queries.view(), *by, centre);
            let near = search.frame.norms.iter().copied().filter(|norm| *norm <= NEAR);
            longest = near.fold(longest, f64::max);
        }
        let size = (SLOT_VALUES / block.rows.ncols().max(1)).clamp(32, 4096) / 32 * 32;
        slots.resize_with(block.rows.nrows().div_ceil(size), Slot::default);
        slots.par_iter_mut().enumerate().for_each(|(i, slot)| {
            let count = size.min(block.rows.nrows() - i * size);
            let rows = moved.rows.slice(s![i * size..i * size + count, ..]);
            slot.load(by, i * size, rows, longest);
        });
        for search in &mut *searches {
            let mut found = std::mem::take(&mut search.found);
            let knn: &Self = search;
            let chunks = found.par_chunks_mut(QUERY_CHUNK).enumerate().map(|(chunk, found)| {
                let step = Step { knn, first, block, moved: &moved, slots: &slots };
                step.meet(chunk * QUERY_CHUNK, found)
            });
            work = work.beside(chunks.reduce(Work::default, Work::beside));
            search.found = found;
        }
        if let Some(one) = searches.first_mut() {
            (one.moved, one.slots) = (moved, slots);
        }
        work
    }
}

fn slice<'a>(row: &'a ndarray::ArrayView1<'_, f32>) -> &'a [f32] {
    row.as_slice().expect("rows are contiguous")
}

#[cfg(test)]
mod tests;
