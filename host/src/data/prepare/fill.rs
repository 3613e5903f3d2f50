//! Entries of the cache are filled here: a base, rows of a file, a sample of rows.

use std::borrow::Cow;
use std::path::Path;

use ndarray::{Array2, s};

use super::draw::distinct_rows;
use super::headers::Headers;
use super::leaving::Leaving;
use crate::data::cache::Manifest;
use crate::data::equal::Hashes;
use crate::data::error::cache_io;
use crate::data::reader::Reader;
use crate::data::room::has_room;
use crate::data::rows::{Absent, Part, RowSink};
use crate::data::spectrum::spectrum;
use crate::data::{DataError, OnProgress, Progress, Rows, UnusableRows, block_rows};

/// The file of an entry that says which rows of its source are none of its own.
const ABSENT: &str = "absent";

/// Fills `folder` with a base and what it leaves for queries and training, and answers the manifest.
///
/// Memory: O(block·d), and 8 bytes for each row of the source.
pub(super) fn fill_base(
    headers: &Headers,
    unit: bool,
    key: &str,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<Manifest, DataError> {
    let Headers { base: source, rows, .. } = headers;
    let dim = source.dim();
    let stays = source.is_in_place(!unit);
    let leave = headers.held_out.unwrap_or(0) + headers.reserved;
    room_for(folder, if stays { leave } else { *rows }, dim)?;
    let leaving = Leaving::draw(*rows, headers.held_out.unwrap_or(0), headers.reserved);
    let part = |name, rows: &[usize]| match rows {
        [] => Ok(None),
        _ => RowSink::create(folder, name, dim).map(Some),
    };
    let mut base = source.sink(folder, !unit)?;
    let mut queries = part("held.f32", &leaving.held_out)?;
    let mut reserve = part("reserved.f32", &leaving.reserved)?;
    let gone = leaving.all();
    let mut hashes = Hashes::of(rows - gone.len());
    let mut to_go = gone.as_slice();
    let mut to_leave = [(&leaving.held_out, &mut queries), (&leaving.reserved, &mut reserve)]
        .map(|(rows, sink)| (rows.as_slice(), sink));
    // Kept together before they are pushed: where every other row leaves, runs are short.
    let mut staying: Vec<f32> = Vec::new();
    let mut dropped: Vec<u32> = Vec::new();
    let unusable = headers.spec.unusable;
    source.walk_usable(*rows, unit, unusable, "read base", progress, |first, values, bad| {
        let end = first + values.len() / dim;
        for (rows, sink) in &mut to_leave {
            let (here, later) = rows.split_at(rows.partition_point(|row| *row < end));
            *rows = later;
            let usable = |row: &&usize| bad.binary_search(&(**row as u32)).is_err();
            for row in here.iter().filter(usable) {
                let at = (row - first) * dim;
                if let Some(sink) = sink {
                    sink.push(&values[at..at + dim])?;
                }
            }
        }
        let (here, later) = to_go.split_at(to_go.partition_point(|row| (*row as usize) < end));
        to_go = later;
        dropped.extend(bad);
        let leaving = merged(here, bad);
        staying.clear();
        let mut at = 0;
        for row in leaving.iter() {
            let to = (*row as usize - first) * dim;
            staying.extend_from_slice(&values[at..to]);
            at = to + dim;
        }
        let values = match at {
            0 => values,
            _ => {
                staying.extend_from_slice(&values[at..]);
                &staying
            }
        };
        hashes.push(values, dim);
        base.push(values)
    })?;
    let (mut base, mean) = base.finish()?;
    let gone = merged(&gone, &dropped);
    if base.is_in_place() && !gone.is_empty() {
        base.rows.absent = Some(ABSENT.into());
        Absent::new(gone.iter().copied()).write(&folder.join(ABSENT))?;
    }
    let finish = |sink: Option<RowSink>| sink.map(|sink| Ok(sink.finish()?.0)).transpose();
    let (held, reserved) = (finish(queries)?, finish(reserve)?);
    for (part, name) in
        [(Some(&base), "base"), (held.as_ref(), "queries"), (reserved.as_ref(), "train")]
    {
        some_left(source, part, name)?;
    }
    let place = base.place(folder, source.path()).open()?;
    let duplicates = hashes.duplicates(&place, progress)?;
    let spectrum = spectrum(&place, &mean, progress)?;
    Ok(Manifest {
        key: key.into(),
        from: source.to_string(),
        role: "base".into(),
        rows: base,
        held,
        reserved,
        dropped: dropped.len() as u64,
        duplicates,
        mean,
        spectrum,
    })
}

/// Both, ascending; neither has a number twice.
fn merged<'a>(a: &'a [u32], b: &[u32]) -> Cow<'a, [u32]> {
    if b.is_empty() {
        return Cow::Borrowed(a);
    }
    let mut both = [a, b].concat();
    both.sort_unstable();
    both.dedup();
    Cow::Owned(both)
}

/// That not all rows of a part were dropped.
fn some_left(source: &Reader, part: Option<&Part>, name: &'static str) -> Result<(), DataError> {
    match part {
        Some(of) if of.rows.rows == 0 => {
            Err(DataError::NoneLeft { what: source.to_string(), part: name })
        }
        _ => Ok(()),
    }
}

/// That there is room in `folder` for so many rows.
fn room_for(folder: &Path, rows: usize, dim: usize) -> Result<(), DataError> {
    has_room(folder, 4 * rows as u64 * dim as u64).map_err(cache_io("write", folder))
}

/// Fills `folder` with all rows of a file of queries or training rows.
pub(super) fn fill_rows(
    source: &Reader,
    (unit, unusable): (bool, UnusableRows),
    role: &'static str,
    stage: &'static str,
    key: &str,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<Manifest, DataError> {
    room_for(folder, if source.is_in_place(!unit) { 0 } else { source.rows() }, source.dim())?;
    let mut sink = source.sink(folder, !unit)?;
    let (dim, mut dropped) = (source.dim(), Vec::new());
    source.walk_usable(source.rows(), unit, unusable, stage, progress, |first, values, bad| {
        dropped.extend(bad);
        let mut at = 0;
        for row in bad {
            let to = (*row as usize - first) * dim;
            sink.push(&values[at..to])?;
            at = to + dim;
        }
        sink.push(&values[at..])
    })?;
    let mut rows = sink.finish()?.0;
    some_left(source, Some(&rows), role)?;
    if rows.is_in_place() && !dropped.is_empty() {
        rows.rows.absent = Some(ABSENT.into());
        Absent::new(dropped.iter().copied()).write(&folder.join(ABSENT))?;
    }
    Ok(Manifest {
        key: key.into(),
        from: source.to_string(),
        role: role.into(),
        rows,
        held: None,
        reserved: None,
        dropped: dropped.len() as u64,
        duplicates: 0,
        mean: Vec::new(),
        spectrum: None,
    })
}

/// Fills `folder` with a base of `count` of the rows of another.
///
/// Memory: O(block·d), and 8 bytes for each row of it.
pub(super) fn fill_thinned(
    rows: &Rows,
    count: usize,
    from: &str,
    key: &str,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<Manifest, DataError> {
    let ids = distinct_rows("vq-host rows of a thinned base 1", rows.rows(), count);
    let dim = rows.dim();
    let mut hashes = Hashes::of(count);
    let (base, mean) = gathered(rows, &ids, folder, "thin base", progress, |values| {
        hashes.push(values, dim);
    })?;
    let place = base.place(folder, None).open()?;
    let duplicates = hashes.duplicates(&place, progress)?;
    let spectrum = spectrum(&place, &mean, progress)?;
    Ok(Manifest {
        key: key.into(),
        from: from.into(),
        role: "base".into(),
        rows: base,
        held: None,
        reserved: None,
        dropped: 0,
        duplicates,
        mean,
        spectrum,
    })
}

/// Copies the rows `ids` into `folder`, and shows `on_block` what is copied.
fn gathered(
    rows: &Rows,
    ids: &[usize],
    folder: &Path,
    stage: &'static str,
    progress: OnProgress<'_>,
    mut on_block: impl FnMut(&[f32]),
) -> Result<(Part, Vec<f64>), DataError> {
    let dim = rows.dim();
    room_for(folder, ids.len(), dim)?;
    let mut sink = RowSink::create(folder, "rows.f32", dim)?;
    let step = block_rows(dim);
    let mut block = Array2::zeros((step.min(ids.len()), dim));
    for (i, of_block) in ids.chunks(step).enumerate() {
        let mut block = block.slice_mut(s![..of_block.len(), ..]);
        rows.gather(of_block, block.view_mut())?;
        let values = block.as_slice().expect("a block is row-major");
        on_block(values);
        sink.push(values)?;
        let done = (i * step + of_block.len()) as u64;
        progress(Progress { stage, done, total: ids.len() as u64 })?;
    }
    sink.finish()
}

/// Fills `folder` with `count` of some rows.
pub(super) fn fill_sample(
    rows: &Rows,
    count: usize,
    from: &str,
    key: &str,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<Manifest, DataError> {
    let ids = distinct_rows("vq-host training rows 1", rows.rows(), count);
    let (train, _) = gathered(rows, &ids, folder, "sample train", progress, |_| {})?;
    Ok(Manifest {
        key: key.into(),
        from: from.into(),
        role: "train".into(),
        rows: train,
        held: None,
        reserved: None,
        dropped: 0,
        duplicates: 0,
        mean: Vec::new(),
        spectrum: None,
    })
}
