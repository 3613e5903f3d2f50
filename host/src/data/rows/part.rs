//! A part of a dataset as its manifest remembers it, and the sink that writes it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Absent, BLOCK_BYTES, BLOCK_DIGEST_BYTES, RowFile, block_digest};
use crate::data::DataError;
use crate::data::error::{cache_io, io};

/// Rows that take more bytes than this are verified block by block.
pub(in crate::data) const VERIFIED_WHOLE: u64 = 4 << 30;

/// One part of a dataset, as its manifest remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::data) struct Part {
    /// Where the rows are, relative to the cache entry; an empty path stands for a source that
    /// serves as it is.
    pub(in crate::data) rows: RowFile,
    /// BLAKE3, in hex, over the rows' bytes, then rows and dim as u64.
    pub(in crate::data) digest: String,
    /// Rows of which every value is zero.
    pub(in crate::data) zeros: u64,
}

impl Part {
    /// The rows in the entry `folder`, or in the source they stayed in: a cache can be moved, and
    /// equal sources share an entry.
    pub(in crate::data) fn place(&self, folder: &Path, source: Option<&Path>) -> RowFile {
        let path = match source.filter(|_| self.is_in_place()) {
            Some(source) => source.to_owned(),
            None => folder.join(&self.rows.path),
        };
        let beside = |name: &Option<PathBuf>| name.as_ref().map(|name| folder.join(name));
        let (blocks, absent) = (beside(&self.rows.blocks), beside(&self.rows.absent));
        RowFile { path, blocks, absent, ..self.rows.clone() }
    }

    pub(in crate::data) fn is_in_place(&self) -> bool {
        self.rows.path.as_os_str().is_empty()
    }

    /// Makes sure that the file in the entry `folder` is what was written: all of it, or its
    /// length where blocks are verified when they are read. A source vouches for itself.
    pub(in crate::data) fn verify(&self, folder: &Path) -> Result<(), DataError> {
        let place = self.place(folder, None);
        if self.is_in_place() {
            return match place.absent.as_deref().map(|path| (path, Absent::read(path))) {
                None | Some((_, Ok(_))) => Ok(()),
                Some((path, Err(DataError::Io { source, .. }))) => Err(match source.kind() {
                    std::io::ErrorKind::NotFound => {
                        DataError::Damaged { path: path.into(), reason: "it is gone" }
                    }
                    _ => cache_io("read", path)(source),
                }),
                Some((_, Err(error))) => Err(error),
            };
        }
        let damaged = |reason| DataError::Damaged { path: place.path.clone(), reason };
        let open = |path: &Path| {
            File::open(path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => damaged("it is gone"),
                _ => cache_io("open", path)(error),
            })
        };
        let length = |file: &File| Ok(file.metadata().map_err(io("inspect", &place.path))?.len());
        let file = open(&place.path)?;
        if u128::from(length(&file)?) != place.end() {
            return Err(damaged("wrong length"));
        }
        if let Some(path) = &place.blocks {
            let blocks = place.end().div_ceil(BLOCK_BYTES as u128);
            if !path.exists() {
                return Err(damaged("the digests of its blocks are gone"));
            }
            if u128::from(length(&open(path)?)?) != blocks * BLOCK_DIGEST_BYTES as u128 {
                return Err(damaged("the digests of its blocks have the wrong length"));
            }
            return Ok(());
        }
        let mut digest = blake3::Hasher::new();
        digest.update_reader(&file).map_err(cache_io("read", &place.path))?;
        if finished(digest, &place) != self.digest {
            return Err(damaged("wrong digest"));
        }
        Ok(())
    }
}

/// The digest of the rows whose bytes `digest` has seen.
fn finished(mut digest: blake3::Hasher, rows: &RowFile) -> String {
    for size in [rows.rows, rows.dim] {
        digest.update(&(size as u64).to_le_bytes());
    }
    digest.finalize().to_hex().to_string()
}

fn verified_whole() -> u64 {
    #[cfg(test)]
    return crate::data::testing::VERIFIED_WHOLE.get();
    #[cfg(not(test))]
    VERIFIED_WHOLE
}

/// Receives rows in order: digests them, sums their columns and, unless they stay
/// where they are, writes them.
pub(in crate::data) struct RowSink {
    file: Option<BufWriter<File>>,
    written: PathBuf,
    place: RowFile,
    digest: blake3::Hasher,
    pub(super) blocks: Blocks,
    zeros: u64,
    sums: Vec<f64>,
    bytes: Vec<u8>,
}

/// Digests of all blocks so far; kept only if there turn out to be many.
pub(super) struct Blocks {
    digests: Vec<u8>,
    open: Vec<u8>,
    /// Rows of at most so many bytes do without.
    pub(super) from: u64,
}

impl Blocks {
    fn push(&mut self, mut bytes: &[u8]) {
        while self.open.len() + bytes.len() >= BLOCK_BYTES {
            let (head, rest) = bytes.split_at(BLOCK_BYTES - self.open.len());
            self.open.extend_from_slice(head);
            self.end();
            bytes = rest;
        }
        self.open.extend_from_slice(bytes);
    }

    fn end(&mut self) {
        if !self.open.is_empty() {
            self.digests.extend(block_digest(&self.open));
            self.open.clear();
        }
    }
}

impl RowSink {
    /// Writes rows of `dim` dimensions to the new file `name` in `folder`.
    pub(in crate::data) fn create(
        folder: &Path,
        name: &str,
        dim: usize,
    ) -> Result<Self, DataError> {
        let written = folder.join(name);
        let file = File::create_new(&written).map_err(cache_io("create", &written))?;
        let mut sink = Self::in_place(0, dim);
        sink.file = Some(BufWriter::with_capacity(1 << 20, file));
        sink.place.path = name.into();
        Ok(Self { written, ..sink })
    }

    /// Only looks at rows that stay in their source, from `offset` on.
    pub(in crate::data) fn in_place(offset: u64, dim: usize) -> Self {
        Self {
            file: None,
            written: PathBuf::new(),
            place: RowFile {
                path: PathBuf::new(),
                offset,
                rows: 0,
                dim,
                blocks: None,
                absent: None,
            },
            digest: blake3::Hasher::new(),
            blocks: Blocks { digests: Vec::new(), open: Vec::new(), from: verified_whole() },
            zeros: 0,
            sums: vec![0.0; dim],
            bytes: Vec::new(),
        }
    }

    /// Takes the next rows, whole ones.
    pub(in crate::data) fn push(&mut self, rows: &[f32]) -> Result<(), DataError> {
        for row in rows.chunks_exact(self.place.dim) {
            for (sum, &x) in self.sums.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
            self.zeros += u64::from(row.iter().all(|x| *x == 0.0));
            self.place.rows += 1;
        }
        self.bytes.clear();
        self.bytes.extend(rows.iter().flat_map(|x| x.to_le_bytes()));
        self.digest.update(&self.bytes);
        if let Some(file) = &mut self.file {
            self.blocks.push(&self.bytes);
            file.write_all(&self.bytes).map_err(cache_io("write", &self.written))?;
        }
        Ok(())
    }

    /// Ends the part: (part, mean of each column).
    pub(in crate::data) fn finish(mut self) -> Result<(Part, Vec<f64>), DataError> {
        if let Some(file) = self.file {
            let failed = |source| cache_io("write", &self.written)(source);
            let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
            // The rename that publishes the entry must not overtake its contents.
            file.sync_all().map_err(failed)?;
            if self.place.end() > u128::from(self.blocks.from) {
                self.blocks.end();
                let path = self.written.with_extension("blocks");
                File::create_new(&path)
                    .and_then(|mut file| {
                        file.write_all(&self.blocks.digests)?;
                        file.sync_all()
                    })
                    .map_err(cache_io("write", &path))?;
                self.place.blocks = Some(self.place.path.with_extension("blocks"));
            }
        }
        let rows = self.place.rows as f64;
        self.sums.iter_mut().for_each(|sum| *sum /= rows);
        let digest = finished(self.digest, &self.place);
        Ok((Part { rows: self.place, digest, zeros: self.zeros }, self.sums))
    }
}
