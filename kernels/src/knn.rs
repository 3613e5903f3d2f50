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
//! Less what estimates may be off: for [`Int16Panels`] what they say (8 bits, asked first, leave out only rows
//! whose estimate of 16 bits is not needed); for [`Panels`], whose scores are d fused
//! multiply-adds from a bias that is rounded once, γ·(‖x'‖·‖r'‖ + ‖r'‖²/2) with γ = (d+1)·2⁻²⁴ / (1 −
//! (d+1)·2⁻²⁴) ≤ 1.01·(d+1)·2⁻²⁴ (Higham 2002, §3.1). Values in f64 err by some (d+8)·2⁻⁵² of what they
//! are made of, and steps that underflow by 2⁻¹⁴⁹ each; both are added with a margin.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::OnceLock;

use ndarray::{Array2, ArrayView2, Axis, CowArray, Ix2, s};
use rayon::prelude::*;

use crate::cache::fetch;
use crate::distance::{dot, l2_sq, norm_sq};
use crate::int16::{MaxNorm, ScoreError};
use crate::panels::contiguous_rows;
use crate::{Int16Panels, Panels, Path, TopK};

/// Queries that a thread takes at a time.
const QUERY_CHUNK: usize = 64;
/// Values of the rows in one slot: a quarter of a megabyte of words or a half of f32, a part of the
/// second-level cache.
const SLOT_VALUES: usize = 1 << 17;
/// Most rows of a block: what is met by all queries at a time.
const BLOCK_ROWS: usize = 1 << 14;
/// Queries of at most this length, in the frame, are asked in words; rows have at most 2.
const NEAR: f64 = 8.0;
/// Where more than this part of the rows is distinct, looking for equal ones saves nothing.
const DISTINCT: f64 = 0.9;

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
/// Memory: O(n·(k + d)) and some copies of 16,384 rows. Runs in the current rayon pool; the
/// answer does not depend on it, nor on the blocks.
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

/// The queries, where estimates are made.
#[derive(Debug)]
struct Frame {
    /// s; 0 before the first block.
    scale: f64,
    /// x' (n, d).
    x: Array2<f32>,
    /// ‖x'‖.
    norms: Vec<f64>,
    /// What each query was scaled by: s or t.
    scales: Vec<f64>,
}

/// A run of rows of a block.
#[derive(Debug, Default)]
struct Slot {
    first: usize,
    count: usize,
    words: Int16Panels,
    fits: bool,
    panels: OnceLock<Panels>,
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

/// The distinct rows of a block, and where each stands.
struct Block<'r> {
    rows: CowArray<'r, f32, Ix2>,
    /// Per distinct row the position after its last in `places`; empty where row i stands at i.
    ends: Vec<usize>,
    /// Positions of equal rows, ascending.
    places: Vec<u32>,
}

impl<'r> Block<'r> {
    fn of(rows: ArrayView2<'r, f32>) -> Self {
        let n = rows.nrows();
        let hashes: Vec<u64> = rows.axis_iter(Axis(0)).into_par_iter().map(|r| hash(&r)).collect();
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.par_sort_unstable_by_key(|&row| (hashes[row as usize], row));
        let same = |a: u32, b: u32| {
            let (a, b) = (a as usize, b as usize);
            hashes[a] == hashes[b] && bits_equal(&rows.row(a), &rows.row(b))
        };
        // Rows of one hash that differ are taken for runs of their own: that costs time alone.
        let mut runs: Vec<&[u32]> = order.chunk_by(|&a, &b| same(a, b)).collect();
        if runs.len() as f64 > DISTINCT * n as f64 {
            return Self { rows: rows.into(), ends: Vec::new(), places: Vec::new() };
        }
        // In the order of their first rows, for nearness in memory.
        runs.sort_unstable_by_key(|run| run[0]);
        let first: Vec<usize> = runs.iter().map(|run| run[0] as usize).collect();
        let mut places = Vec::with_capacity(n);
        let ends = runs.iter().map(|run| {
            places.extend_from_slice(run);
            places.len()
        });
        let ends = ends.collect();
        Self { rows: rows.select(Axis(0), &first).into(), ends, places }
    }

    /// Where row `i` of the distinct ones stands.
    fn places(&self, i: usize) -> impl Iterator<Item = u32> {
        let of = match self.ends.get(i) {
            None => &[],
            Some(&end) => &self.places[i.checked_sub(1).map_or(0, |before| self.ends[before])..end],
        };
        of.iter().copied().chain(self.ends.is_empty().then_some(i as u32))
    }
}

/// Four sums side by side, so that no multiplication waits for the one before.
fn hash(row: &ndarray::ArrayView1<'_, f32>) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let step = |state: u64, value: u64| (state ^ value).wrapping_mul(FACTOR).rotate_left(29);
    let bits = |x: &f32| u64::from(x.to_bits());
    let mut states = [1_u64, 2, 3, 4];
    let (eights, rest) = slice(row).as_chunks::<8>();
    for eight in eights {
        for (state, two) in states.iter_mut().zip(eight.as_chunks::<2>().0) {
            *state = step(*state, bits(&two[0]) << 32 | bits(&two[1]));
        }
    }
    states[0] = rest.iter().fold(states[0], |state, x| step(state, bits(x)));
    states.into_iter().fold(0, step)
}

fn bits_equal(a: &ndarray::ArrayView1<'_, f32>, b: &ndarray::ArrayView1<'_, f32>) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Row by row s·(r − c), and the largest norm.
#[derive(Debug, Default)]
struct Moved {
    rows: Array2<f32>,
    largest: f64,
    scale: f64,
}

impl Moved {
    /// Brings `rows` into the frame that suits them.
    fn load(&mut self, centre: &[f32], rows: ArrayView2<'_, f32>) {
        let norms = rows.axis_iter(Axis(0)).into_par_iter().map(|row| {
            Path::fastest().run(
                #[inline(always)]
                || from_centre_sq(slice(&row), centre),
            )
        });
        let largest = norms.reduce(|| 0.0, f64::max).sqrt();
        let scale = to_one(largest);
        if self.rows.dim() != rows.dim() {
            self.rows = Array2::zeros(rows.dim());
        }
        let pairs = self.rows.axis_iter_mut(Axis(0)).into_par_iter().zip(rows.axis_iter(Axis(0)));
        pairs.for_each(|(mut to, row)| {
            Path::fastest().run(
                #[inline(always)]
                || {
                    for (to, (r, c)) in to.iter_mut().zip(row.iter().zip(centre)) {
                        *to = (scale * (f64::from(*r) - f64::from(*c))) as f32;
                    }
                },
            );
        });
        // With what rounding may have added.
        (self.largest, self.scale) = (1.000_001 * scale * largest, scale);
    }
}

/// ‖r − c‖², in sums side by side.
#[inline(always)]
fn from_centre_sq(row: &[f32], centre: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 16];
    let (rows, rest) = row.as_chunks::<16>();
    let (centres, centre_rest) = centre.as_chunks::<16>();
    let square = |r: f32, c: f32| {
        let from = f64::from(r) - f64::from(c);
        from * from
    };
    for (row, centre) in rows.iter().zip(centres) {
        for i in 0..16 {
            sums[i] += square(row[i], centre[i]);
        }
    }
    let rest = rest.iter().zip(centre_rest).map(|(r, c)| square(*r, *c));
    sums.into_iter().chain(rest).sum()
}

/// The power of two that brings `norm` between 1 and 2; 1 for 0.
fn to_one(norm: f64) -> f64 {
    if norm > 0.0 && norm.is_finite() { 2f64.powi(-(norm.log2().floor() as i32)) } else { 1.0 }
}

/// How far a vector of this `norm` in the frame is from where it belongs.
fn off(norm: f64, dim: usize) -> f64 {
    2f64.powi(-23) * norm + (dim as f64).sqrt() * 2f64.powi(-148)
}

/// How estimates were made.
#[derive(Clone, Copy)]
enum Estimate {
    Words(ScoreError),
    Single,
}

/// Rounded down, so that what it excludes stays excluded.
fn lower(x: f64) -> f32 {
    let rounded = x as f32;
    if f64::from(rounded) > x { rounded.next_down() } else { rounded }
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
            frame: Frame {
                scale: 0.0,
                x: Array2::zeros(queries.dim()),
                norms: vec![0.0; n],
                scales: vec![1.0; n],
            },
            moved: Moved::default(),
            slots: Vec::new(),
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
            Self::meet(searches, first + (i * BLOCK_ROWS) as u32, &Block::of(rows.view()));
        }
    }

    /// Per query what it found.
    #[must_use]
    pub fn finish(self) -> Vec<Found> {
        let found = self.found.into_par_iter().map(|heap| Found {
            identical: heap.identical,
            nearest: heap.nearest.into_sorted_vec(),
        });
        found.collect()
    }

    fn meet(searches: &mut [&mut Self], first: u32, block: &Block<'_>) {
        let Some(one) = searches.first_mut() else { return };
        let (by, centre) = (one.by, std::mem::take(&mut one.centre));
        let (mut moved, mut slots) =
            (std::mem::take(&mut one.moved), std::mem::take(&mut one.slots));
        moved.load(&centre, block.rows.view());
        one.centre = centre;
        let mut longest = 0.0_f64;
        for search in &mut *searches {
            search.enter(moved.scale);
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
            found.par_chunks_mut(QUERY_CHUNK).enumerate().for_each(|(chunk, found)| {
                let step = Step { knn, first, block, moved: &moved, slots: &slots };
                step.meet(chunk * QUERY_CHUNK, found);
            });
            search.found = found;
        }
        if let Some(one) = searches.first_mut() {
            (one.moved, one.slots) = (moved, slots);
        }
    }

    /// Brings the queries into the frame of `scale`.
    fn enter(&mut self, scale: f64) {
        if self.frame.scale == scale {
            return;
        }
        let (by, centre) = (self.by, &self.centre);
        let Frame { x, norms, scales, .. } = &mut self.frame;
        x.axis_iter_mut(Axis(0))
            .into_par_iter()
            .zip(self.queries.axis_iter(Axis(0)))
            .zip(norms)
            .zip(scales)
            .for_each(|(((mut moved, x), norm), own)| {
                *own = match by {
                    Distance::L2Sq => scale,
                    Distance::NegativeProduct => to_one(norm_sq(slice(&x)).sqrt()),
                };
                for ((to, x), c) in moved.iter_mut().zip(x).zip(centre) {
                    let c = if by == Distance::L2Sq { f64::from(*c) } else { 0.0 };
                    *to = (*own * (f64::from(*x) - c)) as f32;
                }
                *norm = norm_sq(moved.as_slice().expect("rows are contiguous")).sqrt();
            });
        self.frame.scale = scale;
    }
}

impl Slot {
    /// Packs `rows`, those of the block from `first` on, for queries of at most `longest`.
    fn load(&mut self, by: Distance, first: usize, rows: ArrayView2<'_, f32>, longest: f64) {
        (self.first, self.count) = (first, rows.nrows());
        self.panels = OnceLock::new();
        let reach = MaxNorm::Of(longest);
        self.fits = longest > 0.0
            && match by {
                Distance::L2Sq => self.words.pack_l2(rows, reach),
                Distance::NegativeProduct => self.words.pack_ip(rows, reach),
            };
        if self.fits {
            self.words.add_bytes();
        }
    }

    fn panels(&self, step: &Step<'_, '_, '_>) -> &Panels {
        self.panels.get_or_init(|| {
            let rows = step.moved.rows.slice(s![self.first..self.first + self.count, ..]);
            match step.knn.by {
                Distance::L2Sq => Panels::for_l2(rows),
                Distance::NegativeProduct => Panels::for_ip(rows),
            }
        })
    }
}

/// A block that some queries meet.
struct Step<'a, 'q, 'b> {
    knn: &'a Knn<'q>,
    first: u32,
    block: &'a Block<'b>,
    moved: &'a Moved,
    slots: &'a [Slot],
}

impl Step<'_, '_, '_> {
    /// Lets the queries from `start` on meet the block.
    fn meet(&self, start: usize, found: &mut [Heap]) {
        let Knn { k, frame, .. } = self.knn;
        // Enough that near ties rarely send a query around again.
        let keep = k + k / 4 + 32;
        let mut by_words = Vec::new();
        let mut by_panels = Vec::new();
        let words = !self.slots.is_empty() && self.slots.iter().all(|slot| slot.fits);
        for (i, heap) in found.iter_mut().enumerate() {
            if self.knn.by == Distance::NegativeProduct && frame.norms[start + i] == 0.0 {
                // All rows are equally near to a zero query.
                for place in 0..self.block.rows.nrows().min(*k) {
                    self.measure(start + i, place, heap);
                }
            } else if words && frame.norms[start + i] <= NEAR {
                by_words.push(i);
            } else {
                by_panels.push(i);
            }
        }
        let mut open = Vec::new();
        self.shortlist(start, found, &by_words, keep, true, &mut open);
        self.shortlist(start, found, &by_panels, keep, false, &mut open);
        self.settle(start, found, open);
    }

    /// Measures the best estimated rows for the queries `of`; appends to `open`, with the rows that were
    /// measured, those for which others may be as near.
    fn shortlist(
        &self,
        start: usize,
        found: &mut [Heap],
        of: &[usize],
        keep: usize,
        words: bool,
        open: &mut Vec<(usize, Vec<u32>)>,
    ) {
        if of.is_empty() {
            return;
        }
        let rows: Vec<usize> = of.iter().map(|i| start + i).collect();
        let x = self.knn.frame.x.select(Axis(0), &rows);
        let estimates: Vec<Estimate> = rows
            .iter()
            .map(|&query| match words {
                false => Estimate::Single,
                true => {
                    let norm = self.knn.frame.norms[query];
                    let errors = self.slots.iter().map(|slot| slot.words.error(norm));
                    Estimate::Words(errors.fold(ScoreError::default(), ScoreError::max))
                }
            })
            .collect();
        let mut tops: Vec<TopK> = of
            .iter()
            .zip(&estimates)
            .map(|(&i, estimate)| TopK::above(keep, self.least(start + i, &found[i], *estimate)))
            .collect();
        if words {
            let mut errors = vec![ScoreError::default(); of.len()];
            for slot in self.slots {
                slot.words.offer(x.view(), slot.first as u32, &mut tops, &mut errors);
            }
        } else {
            self.each_scores(x.view(), |slot, query, scores| {
                tops[query].push_row(slot.first as u32, scores);
            });
        }
        let mut shortlists = of.iter().zip(estimates).zip(tops.into_iter().map(TopK::into_sorted));
        let mut next = shortlists.next();
        self.fetch(next.as_ref());
        while let Some(((&i, estimate), mut kept)) = next {
            // Rows are far apart: those of the next query come while this one's are measured.
            next = shortlists.next();
            self.fetch(next.as_ref());
            let full = kept.len() == keep && keep < self.block.rows.nrows();
            let worst = kept.last().map_or(f32::NEG_INFINITY, |(score, _)| *score);
            let mut floor = f32::NEG_INFINITY;
            // The best first, so that those measured exclude others.
            kept.retain(|(score, place)| {
                let excluded = surely_below(*score, floor);
                if !excluded && self.measure(start + i, *place as usize, &mut found[i]) {
                    floor = self.least(start + i, &found[i], estimate);
                }
                !excluded
            });
            if full && !surely_below(worst, self.least(start + i, &found[i], estimate)) {
                let mut measured: Vec<u32> = kept.into_iter().map(|(_, place)| place).collect();
                measured.sort_unstable();
                open.push((i, measured));
            }
        }
    }

    /// Has the rows of a shortlist come nearer.
    fn fetch<T>(&self, shortlist: Option<&(T, Vec<(f32, u32)>)>) {
        for (_, place) in shortlist.map_or(&[][..], |(_, kept)| kept) {
            fetch(slice(&self.block.rows.row(*place as usize)));
        }
    }

    /// Measures every other row that may be as near, for the queries that are `open`.
    fn settle(&self, start: usize, found: &mut [Heap], open: Vec<(usize, Vec<u32>)>) {
        if open.is_empty() {
            return;
        }
        let rows: Vec<usize> = open.iter().map(|(i, _)| start + i).collect();
        let x = self.knn.frame.x.select(Axis(0), &rows);
        let least = |at: usize, heap: &Heap| self.least(start + at, heap, Estimate::Single);
        let mut floors: Vec<f32> = open.iter().map(|(i, _)| least(*i, &found[*i])).collect();
        self.each_scores(x.view(), |slot, query, scores| {
            let (i, measured) = &open[query];
            for (at, &score) in scores.iter().enumerate() {
                let place = slot.first + at;
                if !surely_below(score, floors[query])
                    && measured.binary_search(&(place as u32)).is_err()
                    && self.measure(start + i, place, &mut found[*i])
                {
                    floors[query] = least(*i, &found[*i]);
                }
            }
        });
    }

    /// Calls `each(slot, query, scores)` with the f32 scores of every slot's rows for every query of `x`.
    fn each_scores(&self, x: ArrayView2<'_, f32>, mut each: impl FnMut(&Slot, usize, &[f32])) {
        let widest = self.slots.iter().map(|slot| slot.count).max().unwrap_or(0);
        let mut scores = Array2::zeros((x.nrows(), widest));
        for slot in self.slots {
            let mut scores = scores.slice_mut(s![.., ..slot.count]);
            slot.panels(self).scores(x, scores.view_mut());
            for (query, row) in scores.axis_iter(Axis(0)).enumerate() {
                each(slot, query, row.to_slice().expect("scores are row-major"));
            }
        }
    }

    /// Offers the rows at `place` of the distinct ones to `query`; true if one is among the nearest now.
    fn measure(&self, query: usize, place: usize, heap: &mut Heap) -> bool {
        let (x, row) = (self.knn.queries.row(query), self.block.rows.row(place));
        let (x, row) = (slice(&x), slice(&row));
        let distance = self.knn.by.of(x, row);
        heap.identical |= x == row;
        let mut places = self.block.places(place);
        let mut offer =
            |place| heap.offer(self.knn.k, Neighbour { distance, id: self.first + place });
        // Ascending: where one is too far, so are the others.
        let nearer = places.next().is_some_and(&mut offer);
        nearer && {
            let _ = places.all(offer);
            true
        }
    }

    /// The estimate that a row has at least, if it is as near to `query` as the `k`-th of `heap`.
    fn least(&self, query: usize, heap: &Heap, estimate: Estimate) -> f32 {
        let Knn { by, k, frame, centre_norm, at_centre, .. } = self.knn;
        let reach = heap.reach(*k);
        if reach == f64::INFINITY {
            return f32::NEG_INFINITY;
        }
        let dim = frame.x.ncols();
        let (norm, scale, largest) = (frame.norms[query], self.moved.scale, self.moved.largest);
        let (xi, beta) = (off(norm, dim), off(largest, dim));
        let digits = (dim as f64 + 8.0) * 2f64.powi(-51);
        let (exact, distance) = match by {
            Distance::L2Sq => {
                let radius = scale * reach.sqrt() * (1.0 + digits) + xi + beta;
                let (norm_sq, radius_sq) = (norm * norm, radius * radius);
                ((norm_sq - radius_sq) / 2.0 - digits * (norm_sq + radius_sq), radius)
            }
            Distance::NegativeProduct => {
                let both = scale * frame.scales[query];
                let product = both * (-reach - at_centre[query]);
                let length = norm * (largest + 2.0 * scale * centre_norm);
                let lost = norm * beta + xi * (largest + beta) + digits * (length + product.abs());
                (product - lost, norm + largest)
            }
        };
        let wrong = match estimate {
            Estimate::Words(error) => error.at(distance),
            Estimate::Single => {
                let d = dim as f64 + 1.0;
                let size = norm * largest + largest * largest / 2.0;
                1.01 * d * 2f64.powi(-24) * size + d * 2f64.powi(-149)
            }
        };
        lower(exact - wrong)
    }
}

/// False for a NaN, which only an overflow makes: such a row is measured.
fn surely_below(score: f32, floor: f32) -> bool {
    score < floor
}

fn slice<'a>(row: &'a ndarray::ArrayView1<'_, f32>) -> &'a [f32] {
    row.as_slice().expect("rows are contiguous")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    const DISTANCES: [Distance; 2] = [Distance::L2Sq, Distance::NegativeProduct];

    /// All f64 distances, sorted.
    fn by_full_sort(
        rows: &Array2<f32>,
        queries: &Array2<f32>,
        by: Distance,
        k: usize,
    ) -> Vec<Vec<Neighbour>> {
        let of = |x: ndarray::ArrayView1<'_, f32>| {
            let rows = rows.rows().into_iter().zip(0..);
            let mut all: Vec<Neighbour> = rows
                .map(|(row, id)| Neighbour { distance: by.of(slice(&x), slice(&row)), id })
                .collect();
            all.sort();
            all.truncate(k);
            all
        };
        queries.rows().into_iter().map(of).collect()
    }

    fn mean(rows: &Array2<f32>) -> Vec<f64> {
        rows.columns()
            .into_iter()
            .map(|column| column.iter().map(|x| f64::from(*x)).sum::<f64>() / rows.nrows() as f64)
            .collect()
    }

    /// Compares with sorting everything, by both distances, for blocks of `step` rows.
    #[track_caller]
    fn check(rows: &Array2<f32>, queries: &Array2<f32>, k: usize, step: usize) {
        for by in DISTANCES {
            let mut knn = Knn::new(queries.view(), by, k, &mean(rows));
            for (i, block) in rows.axis_chunks_iter(Axis(0), step).enumerate() {
                knn.push((i * step) as u32, block);
            }
            let found = knn.finish();
            let expected = by_full_sort(rows, queries, by, k);
            for (query, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(&found.nearest, expected, "query {query} by {by:?}");
            }
        }
    }

    /// Uniform in −1..1.
    fn uniform(rng: &mut ChaCha8Rng) -> f32 {
        (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn random(n: usize, d: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((n, d), || uniform(&mut rng))
    }

    #[test]
    fn ordinary_rows_are_found_in_blocks_of_any_size() {
        let (rows, queries) = (random(3000, 19, 1), random(70, 19, 2));
        for (k, step) in [(1, 3000), (10, 7), (100, 1000), (1000, 999), (5000, 1024)] {
            check(&rows, &queries, k, step);
        }
    }

    #[test]
    fn rows_far_from_the_origin_are_told_apart() {
        // Metres of an earth-centred frame: f32 has steps of half a metre there.
        let at = [4_208_848.0, 2_334_863.0, 4_171_170.0];
        let there = |n, seed| {
            let mut rows = random(n, 3, seed);
            for mut row in rows.rows_mut() {
                for (x, at) in row.iter_mut().zip(at) {
                    *x = (f64::from(*x) * 10_000.0 + at) as f32;
                }
            }
            rows
        };
        check(&there(5000, 1), &there(100, 2), 10, 5000);
    }

    #[test]
    fn two_clouds_on_either_side_leave_the_centre_where_nobody_is() {
        let mut rows = random(2000, 8, 3);
        rows.slice_mut(s![..1000, ..]).mapv_inplace(|x| x + 1e6);
        rows.slice_mut(s![1000.., ..]).mapv_inplace(|x| x - 1e6);
        let queries = rows.slice(s![..;50, ..]).to_owned();
        check(&rows, &queries, 5, 700);
    }

    #[test]
    fn ties_go_to_the_lowest_row_and_equal_rows_cost_little() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let of_few = random(40, 16, 5);
        let rows = Array2::from_shape_fn((6000, 16), |_| 0.0);
        let mut rows = rows;
        for mut row in rows.rows_mut() {
            row.assign(&of_few.row((rng.next_u32() % 40) as usize));
        }
        check(&rows, &random(50, 16, 6), 30, 1500);
        let bits = random(3000, 12, 7).mapv(f32::signum);
        check(&bits, &random(50, 12, 8).mapv(f32::signum), 40, 1000);
        let equal = Array2::from_elem((500, 6), 0.3);
        check(&equal, &random(9, 6, 9), 20, 100);
        check(&equal, &equal.slice(s![..3, ..]).to_owned(), 20, 100);
    }

    #[test]
    fn zero_queries_and_rows_are_as_near_as_they_are() {
        let mut rows = random(600, 5, 10);
        rows.slice_mut(s![..;3, ..]).fill(0.0);
        rows.slice_mut(s![1..;3, ..]).fill(-0.0);
        let mut queries = random(20, 5, 11);
        queries.slice_mut(s![..;2, ..]).fill(0.0);
        check(&rows, &queries, 7, 250);
        check(&Array2::zeros((10, 5)), &queries, 3, 4);
    }

    #[test]
    fn near_copies_of_unit_length_are_told_apart() {
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let mut rows = random(1, 24, 13).broadcast((3000, 24)).unwrap().to_owned();
        rows.mapv_inplace(|x| x + 1e-6 * uniform(&mut rng));
        for mut row in rows.rows_mut() {
            let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            row.mapv_inplace(|x| (f64::from(x) / norm) as f32);
        }
        let queries = rows.slice(s![..;60, ..]).to_owned();
        check(&rows, &queries, 10, 3000);
    }

    #[test]
    fn one_row_one_query_and_one_dimension_are_enough() {
        check(&random(1, 1, 1), &random(1, 1, 2), 1, 1);
        check(&random(1, 33, 1), &random(3, 33, 2), 4, 1);
        check(&random(900, 1, 1), &random(30, 1, 2), 8, 100);
    }

    #[test]
    fn searches_that_share_rows_find_what_each_finds_alone() {
        let rows = random(3000, 21, 1);
        // One far beyond what words reach, and one of a few queries.
        let queries = [random(70, 21, 2), random(5, 21, 3) * 1e9, random(3, 21, 4)];
        let mean = mean(&rows);
        for by in DISTANCES {
            let search = |x: usize| Knn::new(queries[x].view(), by, 3 + 7 * x, &mean);
            let mut together = [0, 1, 2].map(search);
            let mut alone = [0, 1, 2].map(search);
            for (i, block) in rows.axis_chunks_iter(Axis(0), 700).enumerate() {
                // Blocks of other scales, too.
                let block = &block * 8_f32.powi(i as i32);
                Knn::push_to(&mut together.each_mut(), (i * 700) as u32, block.view());
                for search in &mut alone {
                    search.push((i * 700) as u32, block.view());
                }
            }
            for (together, alone) in together.into_iter().zip(alone) {
                assert_eq!(together.finish(), alone.finish());
            }
        }
        Knn::push_to(&mut [], 0, rows.view());
    }

    #[test]
    fn identical_rows_are_told() {
        let rows = random(300, 4, 1);
        let mut queries = random(4, 4, 2);
        queries.row_mut(2).assign(&rows.row(77));
        let mut knn = Knn::new(queries.view(), Distance::L2Sq, 1, &[0.0; 4]);
        knn.push(0, rows.view());
        let identical: Vec<bool> = knn.finish().iter().map(|found| found.identical).collect();
        assert_eq!(identical, [false, false, true, false]);
    }

    /// How rows and queries are made.
    #[derive(Clone, Copy, Debug)]
    struct Made {
        seed: u64,
        /// Power of ten of the unit.
        scale: i32,
        /// Power of ten of where the origin is.
        offset: Option<i32>,
        /// Values are whole multiples of this part of the unit: ties.
        grid: Option<u8>,
        /// Rows are up to 10^spread smaller than the unit.
        spread: i32,
        /// Rows are copies of so few, up to 10^−this.
        copies: Option<(u8, i32)>,
        /// Rows and queries have length 1.
        unit: bool,
        /// Some queries are rows.
        own: bool,
    }

    fn made() -> impl Strategy<Value = Made> {
        (
            any::<u64>(),
            -38_i32..=37,
            prop::option::of(-38_i32..=37),
            prop::option::of(1_u8..5),
            0_i32..12,
            prop::option::of((1_u8..6, 4_i32..40)),
            (any::<bool>(), any::<bool>()),
        )
            .prop_map(|(seed, scale, offset, grid, spread, copies, (unit, own))| Made {
                seed,
                scale,
                offset,
                grid,
                spread,
                copies,
                unit,
                own,
            })
    }

    impl Made {
        /// (n, d), finite; the same of the same `draw`.
        fn rows(self, draw: u64, n: usize, d: usize) -> Array2<f32> {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ draw);
            let at = self.offset.map_or(0.0, |e| 10_f32.powi(e));
            let mut rows = random(n, d, rng.next_u64());
            for mut row in rows.rows_mut() {
                let own = 10_f32.powi(-(rng.next_u32() as i32 & 0xFFFF) % (self.spread + 1));
                row.mapv_inplace(|x| {
                    let x = self.grid.map_or(x, |g| (x * f32::from(g)).round() / f32::from(g));
                    x * own
                });
            }
            if let Some((few, digits)) = self.copies {
                // Of both rows and queries.
                let of = random(usize::from(few), d, self.seed);
                for mut row in rows.rows_mut() {
                    row *= 10_f32.powi(-digits);
                    row += &of.row(rng.next_u32() as usize % usize::from(few));
                }
            }
            for mut row in rows.rows_mut() {
                row.mapv_inplace(|x| {
                    let x = x * 10_f32.powi(self.scale) + at;
                    if x.is_finite() { x } else { f32::MAX.copysign(x) }
                });
                let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                if self.unit && norm > 0.0 {
                    row.mapv_inplace(|x| (f64::from(x) / norm) as f32);
                }
            }
            rows
        }

        fn check(self, n: usize, d: usize, k: usize, step: usize) {
            let (rows, mut queries) = (self.rows(1, n, d), self.rows(2, 9, d));
            if self.own {
                for (i, mut query) in queries.rows_mut().into_iter().enumerate().step_by(2) {
                    query.assign(&rows.row(i * 7 % n));
                }
            }
            check(&rows, &queries, k, step);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn whatever_the_numbers_the_neighbours_are_those_of_sorting(
            made in made(),
            n in 1_usize..700,
            d in 1_usize..40,
            k in 1_usize..60,
            step in 1_usize..400,
        ) {
            made.check(n, d, k, step);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn ten_thousand_times_no_neighbour_is_missed(
            made in made(),
            n in 1_usize..100,
            d in 1_usize..20,
            k in 1_usize..12,
            step in 1_usize..60,
        ) {
            made.check(n, d, k, step);
        }
    }
}
