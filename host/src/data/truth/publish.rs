//! Neighbours as files that other programs read.

use std::path::Path;

use super::Truth;
use crate::data::written::{may_be_at, npy, write_whole};
use crate::data::{DataError, Headers, Metric};

/// What is behind the row numbers of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Ibin,
    Npy,
}

fn layout(to: &Path) -> Result<Layout, DataError> {
    let extension = to.extension().unwrap_or_default().to_ascii_lowercase();
    match extension.to_str() {
        Some("npy") => Ok(Layout::Npy),
        Some("ibin") => Ok(Layout::Ibin),
        _ => {
            let extension = extension.to_string_lossy().into_owned();
            Err(DataError::NotPublished { path: to.into(), extension })
        }
    }
}

impl Truth {
    /// Whether neighbours of what `headers` describe may be published at `to`: to be asked before
    /// they are sought.
    ///
    /// # Errors
    /// [`DataError`]: another extension, no such folder, or one of the files that are read.
    pub fn may_be_at(to: &Path, headers: &Headers) -> Result<(), DataError> {
        layout(to)?;
        may_be_at(to, |path| headers.reads(path))
    }

    /// Writes them to `to`, which appears whole or not at all.
    ///
    /// `.ibin`: u32 queries, u32 k, the k row numbers of each query as u32, then their distances as f32
    /// (squared for l2; the product, larger is nearer, for ip and cosine), all little-endian.
    /// `.npy`: the row numbers alone (queries, k), u4.
    ///
    /// # Errors
    /// [`DataError`]: another extension, or nothing can be written.
    pub fn publish(&self, metric: Metric, to: &Path) -> Result<(), DataError> {
        let (queries, k) = self.ids.dim();
        let (head, distances) = match layout(to)? {
            Layout::Npy => (npy("<u4", queries, k), false),
            // Both were numbered by 32 bits.
            Layout::Ibin => ([queries as u32, k as u32].map(u32::to_le_bytes).concat(), true),
        };
        let sign = if metric == Metric::L2 { 1.0 } else { -1.0 };
        let numbers = self.ids.len() * if distances { 8 } else { 4 };
        write_whole(to, (head.len() + numbers) as u64, |out| {
            out(&head)?;
            for ids in self.ids.rows() {
                out(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>())?;
            }
            for row in self.distances.rows().into_iter().filter(|_| distances) {
                let told = row.iter().flat_map(|of| ((sign * of) as f32).to_le_bytes());
                out(&told.collect::<Vec<_>>())?;
            }
            Ok(())
        })
    }
}
