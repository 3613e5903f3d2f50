//! A fitted plugin, called as the host calls it: through its C table, whole matrices in and out,
//! outputs allocated before.
//!
//! The time of a call starts when the output is filled with canaries, or is as the last call left it, and the
//! plugin is called, and ends when it returns: what a referee costs is not the method's.

use crate::failure::Failure;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use ndarray::ArrayView2;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vq_plugin_api::abi;
use vq_plugin_api::handle::{CallError, Caller, Guarded, Instance, Method, Plugin, Scorer, Search};
use vq_plugin_api::params::Config;
use vq_plugin_api::{Metric, Space};

/// Seed of everything on our side.
pub(crate) const SEED: u64 = 42;

/// When the plugin was called last.
#[derive(Clone, Debug)]
struct Clock(Arc<Mutex<Instant>>);

impl Clock {
    fn start(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn spent(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// An instance of a method and what its calls need.
pub(crate) struct Codec {
    instance: Instance,
    code_bytes: usize,
    clock: Clock,
}

/// What a call is given: the threads, which are the budget and the pool behind `parallel_for`, and an output as the
/// last call left it, or filled.
#[derive(Clone, Copy)]
pub(crate) struct Team<'a> {
    pub(crate) threads: usize,
    pub(crate) pool: &'a rayon::ThreadPool,
    pub(crate) as_left: bool,
}

impl Team<'_> {
    fn room<'r, T: Copy + PartialEq>(&self, output: &'r mut Guarded<T>, len: usize) -> &'r mut [T] {
        match self.as_left && output.values().len() == len {
            true => output.lend_again(),
            false => output.lend(len),
        }
    }
}

impl Codec {
    /// An unfitted instance of `method` in the library at `path`, for L2 in `dim` dimensions.
    pub(crate) fn create(
        path: &Path,
        method: &str,
        params: &Config,
        dim: usize,
    ) -> Result<Self, Failure> {
        let clock = Clock(Arc::new(Mutex::new(Instant::now())));
        let watch = clock.clone();
        let method = find(path, method)?.watched(Arc::new(move |_| watch.start()));
        let instance = method.create(params, Space { dim, metric: Metric::L2 })?;
        Ok(Codec { instance, code_bytes: 0, clock })
    }

    /// Learns from `train` (n, d).
    pub(crate) fn fit(
        &mut self,
        train: ArrayView2<'_, f32>,
        team: Team<'_>,
    ) -> Result<Duration, Failure> {
        lend(team, |caller| self.instance.fit(train, caller))?;
        let spent = self.clock.spent();
        self.code_bytes = self.instance.code_bytes();
        Ok(spent)
    }

    /// Encodes `x` (n, d) into `codes` (n, code_bytes).
    pub(crate) fn encode(
        &self,
        x: ArrayView2<'_, f32>,
        codes: &mut Guarded<u8>,
        team: Team<'_>,
    ) -> Result<Duration, Failure> {
        let room = team.room(codes, x.nrows() * self.code_bytes);
        lend(team, |caller| self.instance.compress(x, self.code_bytes, caller, room))?;
        let spent = self.clock.spent();
        codes.finish("compress")?;
        Ok(spent)
    }

    /// Decodes `codes` (n, code_bytes) into `x` (n, d).
    pub(crate) fn decode(
        &self,
        codes: &[u8],
        x: &mut Guarded<f32>,
        team: Team<'_>,
    ) -> Result<Duration, Failure> {
        let rows = codes.len() / self.code_bytes;
        let codes = &codes[..rows * self.code_bytes];
        // Does not fail: the length is the product.
        let codes = ArrayView2::from_shape((rows, self.code_bytes), codes)
            .map_err(|_| Failure::Rows { wanted: rows, rows: 0 })?;
        let room = team.room(x, rows * self.instance.space().dim);
        lend(team, |caller| self.instance.decompress(codes, caller, room))?;
        let spent = self.clock.spent();
        x.finish("decompress")?;
        Ok(spent)
    }

    /// `codes` of n vectors, cut into blocks of `block` and brought into the scorer's layout.
    pub(crate) fn packed(
        &self,
        codes: &[u8],
        block: usize,
        team: Team<'_>,
    ) -> Result<Vec<Packed>, Failure> {
        let scorer = self.scorer()?;
        let mut blocks = Vec::new();
        for codes in codes.chunks(block * self.code_bytes) {
            let len = codes.len() / self.code_bytes;
            let codes = ArrayView2::from_shape((len, self.code_bytes), codes)
                .map_err(|_| Failure::Rows { wanted: len, rows: 0 })?;
            let mut packed = vec![0; scorer.packed_bytes(len)?];
            lend(team, |caller| scorer.pack(codes, caller, &mut packed))?;
            blocks.push(Packed { len, codes: packed });
        }
        Ok(blocks)
    }

    /// Estimates between `queries` (q, d) and a block of codes into `estimates` (q, len).
    pub(crate) fn score(
        &self,
        queries: ArrayView2<'_, f32>,
        block: &Packed,
        estimates: &mut Guarded<f32>,
        team: Team<'_>,
    ) -> Result<Duration, Failure> {
        let scorer = self.scorer()?;
        let room = team.room(estimates, queries.nrows() * block.len);
        lend(team, |caller| scorer.score(queries, &block.codes, block.len, caller, room, None))?;
        let spent = self.clock.spent();
        estimates.finish("score")?;
        Ok(spent)
    }

    /// `codes` of n vectors in one block, brought into the search's layout.
    pub(crate) fn packed_for_search(
        &self,
        codes: &[u8],
        team: Team<'_>,
    ) -> Result<Packed, Failure> {
        let search = self.search_of()?;
        let len = codes.len() / self.code_bytes;
        let codes = ArrayView2::from_shape((len, self.code_bytes), codes)
            .map_err(|_| Failure::Rows { wanted: len, rows: 0 })?;
        let mut packed = vec![0; search.packed_bytes(len)?];
        lend(team, |caller| search.pack(codes, caller, &mut packed))?;
        Ok(Packed { len, codes: packed })
    }

    /// The `k` nearest codes of a block to each of `queries` (q, d).
    pub(crate) fn search(
        &self,
        queries: ArrayView2<'_, f32>,
        block: &Packed,
        k: usize,
        found: &mut Found,
        team: Team<'_>,
    ) -> Result<Duration, Failure> {
        let search = self.search_of()?;
        let places = queries.nrows() * k;
        let (ids, estimates) =
            (team.room(&mut found.ids, places), team.room(&mut found.estimates, places));
        let codes = (&block.codes[..], block.len);
        lend(team, |caller| search.search(queries, codes, k, caller, ids, estimates))?;
        let spent = self.clock.spent();
        found.ids.finish("search")?;
        found.estimates.finish("search")?;
        Ok(spent)
    }

    fn search_of(&self) -> Result<Search<'_>, Failure> {
        let id = || self.instance.method().about().id.clone();
        self.instance.search().ok_or_else(|| Failure::NoSearch(id()))
    }

    fn scorer(&self) -> Result<Scorer<'_>, Failure> {
        let id = || self.instance.method().about().id.clone();
        self.instance.scorer().ok_or_else(|| Failure::NoScorer(id()))
    }
}

/// A block of codes as the scorer or the search reads it.
pub(crate) struct Packed {
    /// Rows.
    pub(crate) len: usize,
    pub(crate) codes: Vec<u8>,
}

/// What a search found, both (q, k).
pub(crate) struct Found {
    pub(crate) ids: Guarded<u64>,
    pub(crate) estimates: Guarded<f32>,
}

impl Found {
    pub(crate) fn nothing() -> Self {
        Found { ids: Guarded::ids(), estimates: Guarded::rows() }
    }
}

fn lend<T>(
    team: Team<'_>,
    call: impl FnOnce(&Caller<'_>) -> Result<T, CallError>,
) -> Result<T, CallError> {
    call(&Caller {
        threads: team.threads,
        seed: SEED,
        log: &|_, _| (),
        progress: &|_, _| true,
        pool: team.pool,
    })
}

/// The method `id` of the library at `path`, which is never unloaded.
fn find(path: &Path, id: &str) -> Result<Method, Failure> {
    let load = |source| Failure::Load { path: path.to_owned(), source };
    // SAFETY: runs the initialisers of a library that this repository built a moment ago.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let library = ManuallyDrop::new(library.map_err(load)?);
    // SAFETY: the symbol's type is fixed by the contract's version in its name.
    let entry = unsafe { library.get::<abi::Entry>(abi::ENTRY_SYMBOL.as_bytes()) };
    let entry = entry.map_err(load)?;
    // SAFETY: the contract's entry function.
    let table = unsafe { entry(abi::ABI_MAJOR, abi::ABI_MINOR) };
    // SAFETY: the library stays loaded, and this is what its entry function answered.
    let plugin = unsafe { Plugin::read(table) }
        .map_err(|source| Failure::Describe { path: path.to_owned(), source })?;
    let method = plugin.methods().iter().find(|method| method.about().id == id);
    method
        .cloned()
        .ok_or_else(|| Failure::NoMethod { path: path.to_owned(), method: id.to_owned() })
}
