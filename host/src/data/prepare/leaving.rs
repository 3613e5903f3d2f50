//! Which rows leave a source before the rest of it becomes the base.

use super::draw::distinct_rows;
use crate::data::rows::Absent;

/// The rows of a source that are not in its base: ascending, in neither list twice.
pub(super) struct Leaving {
    pub(super) held_out: Vec<usize>,
    pub(super) reserved: Vec<usize>,
}

impl Leaving {
    /// Which rows are held out does not depend on how many are reserved.
    pub(super) fn draw(rows: usize, held_out: usize, reserved: usize) -> Self {
        let held_out = distinct_rows("vq-host held out rows 1", rows, held_out);
        let left = Absent::new(held_out.iter().map(|row| *row as u32));
        let of_left =
            distinct_rows("vq-host rows reserved for training 1", rows - held_out.len(), reserved);
        let reserved = of_left.into_iter().map(|row| left.run(row).0).collect();
        Self { held_out, reserved }
    }

    pub(super) fn all(&self) -> Vec<u32> {
        let both = self.held_out.iter().chain(&self.reserved);
        let mut both: Vec<u32> = both.map(|row| *row as u32).collect();
        both.sort_unstable();
        both
    }
}
