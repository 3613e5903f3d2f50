//! Neighbours in a file.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::Truth;
use crate::data::DataError;
use crate::data::error::{cache_io, io};

/// Format name and version.
const MAGIC: [u8; 8] = *b"vqtruth1";
/// Magic, then queries, neighbours per query and identical queries as u64.
const HEADER_BYTES: usize = 32;
/// BLAKE3 of everything before it.
const TRAILER_BYTES: usize = 32;

/// A file that holds at least `k` exact neighbours per query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TruthFile {
    /// The file.
    pub path: PathBuf,
    /// Neighbours per query: what was asked for, or all rows if there are fewer.
    pub k: usize,
}

pub(super) struct Header {
    pub(super) queries: usize,
    pub(super) k: usize,
    pub(super) identical: u64,
    length: usize,
}

impl Header {
    /// Reads the header and checks the file's length against it.
    pub(super) fn read(path: &Path) -> Result<Self, DataError> {
        let damaged = |reason| DataError::Damaged { path: path.into(), reason };
        let mut file = File::open(path).map_err(io("open", path))?;
        let length = file.metadata().map_err(io("inspect", path))?.len();
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact(&mut bytes).map_err(|_| damaged("no header"))?;
        let (magic, words) = bytes.split_at(8);
        if magic != MAGIC {
            return Err(damaged("not a file of neighbours"));
        }
        let words = words.as_chunks::<8>().0;
        let [queries, k, identical] = [0, 1, 2].map(|i| u64::from_le_bytes(words[i]));
        let expected = u128::from(queries)
            .saturating_mul(u128::from(k))
            .saturating_mul(12)
            .saturating_add((HEADER_BYTES + TRAILER_BYTES) as u128);
        if expected != u128::from(length) {
            return Err(damaged("wrong length"));
        }
        // All fit: the file is that long.
        Ok(Self { queries: queries as usize, k: k as usize, identical, length: length as usize })
    }
}

impl TruthFile {
    /// Reads the first `k` neighbours of every query.
    ///
    /// # Errors
    /// [`DataError::Damaged`] when the file is not what was written,
    /// [`DataError::Io`] when it cannot be read.
    pub fn read(&self) -> Result<Truth, DataError> {
        let damaged = |reason| DataError::Damaged { path: self.path.clone(), reason };
        let header = Header::read(&self.path)?;
        if header.k < self.k {
            return Err(damaged("too few neighbours"));
        }
        let bytes = fs::read(&self.path).map_err(io("read", &self.path))?;
        if bytes.len() != header.length {
            return Err(damaged("wrong length"));
        }
        let (content, checksum) = bytes.split_at(header.length - TRAILER_BYTES);
        if blake3::hash(content).as_bytes() != checksum {
            return Err(damaged("wrong checksum"));
        }
        let (ids, distances) = content[HEADER_BYTES..].split_at(4 * header.queries * header.k);
        let (ids, distances) = (ids.as_chunks::<4>().0, distances.as_chunks::<8>().0);
        let shape = (header.queries, self.k);
        let at = |(query, rank)| query * header.k + rank;
        Ok(Truth {
            ids: Array2::from_shape_fn(shape, |place| u32::from_le_bytes(ids[at(place)])),
            distances: Array2::from_shape_fn(shape, |place| {
                f64::from_le_bytes(distances[at(place)])
            }),
        })
    }
}

pub(super) fn write(truth: &Truth, identical: u64, path: &Path) -> Result<(), DataError> {
    let failed = |source| cache_io("write", path)(source);
    let mut out = BufWriter::new(File::create_new(path).map_err(failed)?);
    let mut digest = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        digest.update(bytes);
        out.write_all(bytes).map_err(failed)
    };
    put(&MAGIC)?;
    let (queries, k) = truth.ids.dim();
    for word in [queries as u64, k as u64, identical] {
        put(&word.to_le_bytes())?;
    }
    for ids in truth.ids.rows() {
        put(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>())?;
    }
    for row in truth.distances.rows() {
        put(&row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
    }
    out.write_all(digest.finalize().as_bytes()).map_err(failed)?;
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)
}
