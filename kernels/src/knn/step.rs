//! Some queries meet a block: estimates choose the rows that are measured.

use std::ops::Range;
use std::sync::OnceLock;

use ndarray::{Array2, ArrayView2, Axis, s};

use super::block::Block;
use super::frame::Moved;
use super::groups::Work;
use super::{Distance, Heap, Knn, NEAR, Neighbour, slice};
use crate::cache::fetch;
use crate::int16::{MaxNorm, ScoreError};
use crate::{Int16Panels, Panels, TopK};

/// A run of rows of a block.
#[derive(Debug, Default)]
pub(super) struct Slot {
    first: usize,
    count: usize,
    int16: Int16Panels,
    fits: bool,
    panels: OnceLock<Panels>,
}
impl Slot {
    /// Packs `rows`, those of the block from `first` on, for queries of at most `longest`.
    pub(super) fn load(
        &mut self,
        by: Distance,
        first: usize,
        rows: ArrayView2<'_, f32>,
        longest: f64,
    ) {
        (self.first, self.count) = (first, rows.nrows());
        self.panels = OnceLock::new();
        let reach = MaxNorm::Of(longest);
        self.fits = longest > 0.0
            && match by {
                Distance::L2Sq => self.int16.pack_l2(rows, reach),
                Distance::NegativeProduct => self.int16.pack_ip(rows, reach),
            };
        if self.fits {
            self.int16.add_bytes();
        }
    }

    /// What `asked` rows of the block are of it, from its first row on.
    fn share_of(&self, asked: &[Range<usize>]) -> Vec<Range<usize>> {
        let own = self.first..self.first + self.count;
        let shares = asked.iter().map(|of| of.start.max(own.start)..of.end.min(own.end));
        let shares = shares.filter(|of| !of.is_empty());
        shares.map(|of| of.start - own.start..of.end - own.start).collect()
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
pub(super) struct Step<'a, 'q, 'b> {
    pub(super) knn: &'a Knn<'q>,
    pub(super) first: u32,
    pub(super) block: &'a Block<'b>,
    pub(super) moved: &'a Moved,
    pub(super) slots: &'a [Slot],
}

impl Step<'_, '_, '_> {
    /// Lets the queries from `start` on meet the block; answers how much of it was asked for them.
    pub(super) fn meet(&self, start: usize, found: &mut [Heap]) -> Work {
        let Knn { k, frame, .. } = self.knn;
        // Enough that near ties rarely send a query around again.
        let keep = k + k / 4 + 32;
        let mut by_int16 = Vec::new();
        let mut by_f32 = Vec::new();
        let int16 = !self.slots.is_empty() && self.slots.iter().all(|slot| slot.fits);
        for (i, heap) in found.iter_mut().enumerate() {
            if self.knn.by == Distance::NegativeProduct && frame.norms[start + i] == 0.0 {
                // All rows are equally near to a zero query, so that the first are nearest.
                let is_first = |of: &usize| {
                    self.block.places(*of).next().is_some_and(|place| (place as usize) < *k)
                };
                for place in (0..self.block.rows.nrows()).filter(is_first) {
                    self.measure(start + i, place, heap);
                }
            } else if int16 && frame.norms[start + i] <= NEAR {
                by_int16.push(i);
            } else {
                by_f32.push(i);
            }
        }
        let mut open = Vec::new();
        let rows = self.block.rows.nrows();
        let asked = self.asked(start, found, &by_int16);
        self.shortlist(start, found, &by_int16, keep, Some(&asked), &mut open);
        self.shortlist(start, found, &by_f32, keep, None, &mut open);
        self.settle(start, found, open);
        let of_int16 = asked.iter().map(ExactSizeIterator::len).sum::<usize>() * by_int16.len();
        Work {
            asked: (of_int16 + rows * by_f32.len()) as u64,
            all: (rows * (by_int16.len() + by_f32.len())) as u64,
            rows: rows as u64,
        }
    }

    /// The rows that may be as near to one of the queries `of` as its `k`-th.
    fn asked(&self, start: usize, found: &[Heap], of: &[usize]) -> Vec<Range<usize>> {
        let rows = self.block.rows.nrows();
        match &self.knn.bearings {
            Some(bearings) if !self.block.balls.is_empty() => {
                let reached = of.iter().map(|&i| (start + i, found[i].reach(self.knn.k)));
                bearings.leave_out(reached).rows(&self.block.balls, rows)
            }
            _ => std::iter::once(0..rows).collect(),
        }
    }

    /// Measures the best estimated rows for the queries `of`, of those that are `asked` by 16-bit integers or
    /// else of all; appends to `open`, with the rows that were measured, those for which others may be as near.
    fn shortlist(
        &self,
        start: usize,
        found: &mut [Heap],
        of: &[usize],
        keep: usize,
        asked: Option<&[Range<usize>]>,
        open: &mut Vec<(usize, Vec<u32>)>,
    ) {
        if of.is_empty() || asked.is_some_and(<[_]>::is_empty) {
            return;
        }
        let rows: Vec<usize> = of.iter().map(|i| start + i).collect();
        let x = self.knn.frame.x.select(Axis(0), &rows);
        let estimates: Vec<Estimate> = rows
            .iter()
            .map(|&query| match asked {
                None => Estimate::F32,
                Some(_) => {
                    let norm = self.knn.frame.norms[query];
                    let errors = self.slots.iter().map(|slot| slot.int16.error(norm));
                    Estimate::Int16(errors.fold(ScoreError::default(), ScoreError::max))
                }
            })
            .collect();
        let mut tops: Vec<TopK> = of
            .iter()
            .zip(&estimates)
            .map(|(&i, estimate)| TopK::above(keep, self.least(start + i, &found[i], *estimate)))
            .collect();
        match asked {
            Some(asked) => {
                let mut errors = vec![ScoreError::default(); of.len()];
                // Where groups leave few rows, these are near, and 8 bits would leave out little more.
                let few = asked.iter().map(ExactSizeIterator::len).sum::<usize>()
                    < self.block.rows.nrows() / 4;
                for slot in self.slots {
                    let asked = slot.share_of(asked);
                    slot.int16.offer(
                        x.view(),
                        slot.first as u32,
                        &asked,
                        !few,
                        &mut tops,
                        &mut errors,
                    );
                }
            }
            None => self.each_scores(x.view(), |slot, query, scores| {
                tops[query].push_row(slot.first as u32, scores);
            }),
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
        let least = |at: usize, heap: &Heap| self.least(start + at, heap, Estimate::F32);
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
            Estimate::Int16(error) => error.at(distance),
            Estimate::F32 => {
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

/// How estimates were made.
#[derive(Clone, Copy)]
enum Estimate {
    Int16(ScoreError),
    F32,
}

/// Rounded down, so that what it excludes stays excluded.
fn lower(x: f64) -> f32 {
    let rounded = x as f32;
    if f64::from(rounded) > x { rounded.next_down() } else { rounded }
}

/// How far a vector of this `norm` in the frame is from where it belongs.
fn off(norm: f64, dim: usize) -> f64 {
    2f64.powi(-23) * norm + (dim as f64).sqrt() * 2f64.powi(-148)
}
