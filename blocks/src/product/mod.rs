//! Codebooks of sub-spaces: `x̂ = [c₁(i₁), …, c_m(i_m)]`, every sub-vector replaced by its nearest
//! centroid (Jégou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", 2011, eq. 8).
//!
//! The d dimensions are cut into m sub-spaces of d/m neighbouring ones, each with 2^bits centroids. A
//! code is m indices of `bits` bits, packed: ⌈m·bits/8⌉ bytes. The rows are taken as they are, or turned
//! into a [`Frame`] first: `x̂ = c + Pᵀ·[c₁(i₁), …, c_m(i_m)]`.

mod codes;
mod train;

use crate::rotated::Frame;
use crate::scan::Tables;
use crate::{Rows, Training};
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use rayon::prelude::*;
use vq_kernels::distance::l2_sq;
use vq_kernels::lookup::add_terms;
use vq_kernels::pack::packed_bytes;
use vq_kernels::{Aligned, Int16Rotation, Nearest, Path};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{Context, Error, Metric};

/// Turned or chosen coordinates of training rows that are held at a time, or those of a sub-space for each thread.
const HELD_BYTES: usize = 32 << 20;

/// Codebooks of the sub-spaces.
///
/// ```
/// use vq_blocks::{Product, Training};
/// use vq_plugin_api::Context;
/// use vq_plugin_api::ndarray::Array2;
///
/// let ctx = Context::detached(1, 42);
/// let x = Array2::from_shape_fn((500, 6), |(i, j)| ((i * 7 + j * 13) % 31) as f32);
/// let mut product = Product::new(6, 3, 4)?;
/// product.fit(x.view(), Training::default(), 42, &|_| Ok(()))?;
/// let (mut codes, mut back) = (Array2::zeros((500, product.code_bytes())), Array2::zeros((500, 6)));
/// product.encode(x.view(), codes.view_mut(), &ctx)?;
/// product.decode(codes.view(), back.view_mut(), &ctx)?;
/// assert_eq!(product.code_bytes(), 2);
/// # Ok::<(), vq_plugin_api::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Product {
    m: usize,
    bits: u32,
    /// Dimensions of a sub-space, d/m.
    sub: usize,
    frame: Option<Frame>,
    /// The rotation of the frame once more, where integers are fast.
    int16: Option<Int16Rotation>,
    /// (m, 2^bits, sub); empty before training.
    centroids: Aligned,
    /// One per sub-space, made from `centroids`.
    nearest: Vec<Nearest>,
    /// (m, sub, 2^bits): `centroids` with the sub-spaces transposed.
    transposed: Vec<f32>,
}

impl Product {
    /// `m` sub-spaces of `dim / m` dimensions, 2^bits centroids each; not fitted.
    ///
    /// # Errors
    /// `m` does not divide `dim`, or `bits` is not in 1..=16.
    pub fn new(dim: usize, m: usize, bits: u32) -> Result<Self, Error> {
        if m == 0 || !dim.is_multiple_of(m) {
            return Err(Error::param("m", format_args!("{m} does not divide d = {dim}")));
        }
        if !(1..=16).contains(&bits) {
            return Err(Error::param("bits", format_args!("{bits} is not in 1 to 16")));
        }
        let (centroids, transposed) = (Aligned::default(), Vec::new());
        Ok(Product {
            m,
            bits,
            sub: dim / m,
            frame: None,
            int16: None,
            centroids,
            nearest: Vec::new(),
            transposed,
        })
    }

    /// Has the rows turned into `frame`, in which the centroids are from now on; `None` takes them as
    /// they are.
    ///
    /// # Panics
    /// When the frame has another dimension.
    pub fn set_frame(&mut self, frame: Option<Frame>) {
        let parts = frame.as_ref().and_then(Frame::parts);
        self.int16 = parts.and_then(|(_, rotation)| Int16Rotation::new(rotation, self.sub));
        self.frame = frame;
    }

    /// What rows are turned into.
    #[must_use]
    pub fn frame(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }

    /// m.
    #[must_use]
    pub fn sub_spaces(&self) -> usize {
        self.m
    }

    /// Centroids of each sub-space, 2^bits.
    #[must_use]
    pub fn k(&self) -> usize {
        1 << self.bits
    }

    /// Bytes of a code.
    #[must_use]
    pub fn code_bytes(&self) -> usize {
        packed_bytes(self.m, self.bits)
    }

    /// Bytes of the centroids and of the frame.
    #[must_use]
    pub fn model_bytes(&self) -> u64 {
        4 * self.centroids.len() as u64 + self.frame.as_ref().map_or(0, Frame::model_bytes)
    }

    /// Centroids (m, 2^bits, d/m); empty before training.
    #[must_use]
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// Replaces the centroids (m, 2^bits, d/m).
    ///
    /// # Panics
    /// When there are more or fewer.
    pub fn set_centroids(&mut self, centroids: Vec<f32>) {
        let (k, sub) = (self.k(), self.sub);
        assert_eq!(centroids.len(), self.m * k * sub, "numbers of m codebooks");
        self.nearest.clear();
        self.transposed = vec![0.0; centroids.len()];
        for (rows, columns) in
            centroids.chunks_exact(k * sub).zip(self.transposed.chunks_exact_mut(k * sub))
        {
            let rows = ArrayView2::from_shape((k, sub), rows).expect("k rows of a sub-space");
            let transposed = ArrayViewMut2::from_shape((sub, k), columns).expect("as many");
            rows.t().assign_to(transposed);
            self.nearest.push(Nearest::for_l2_centred(rows));
        }
        self.centroids = Aligned::from(&centroids[..]);
    }

    /// k-means in every sub-space on `rows` (n, d), all randomness from `seed`. `progress` is told
    /// the fraction done, from several threads. O(iterations · n · 2^bits · d).
    ///
    /// # Errors
    /// No rows, a row that is not finite, or what `progress` returns.
    pub fn fit<'a>(
        &mut self,
        rows: impl Into<Rows<'a>>,
        training: Training,
        seed: u64,
        progress: &(dyn Fn(f32) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        self.learn(rows.into(), training, seed, progress, false)
    }

    /// As [`fit`](Self::fit), going on from the centroids that it has.
    ///
    /// # Errors
    /// As for [`fit`](Self::fit).
    pub fn refine<'a>(
        &mut self,
        rows: impl Into<Rows<'a>>,
        training: Training,
        seed: u64,
        progress: &(dyn Fn(f32) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        self.learn(rows.into(), training, seed, progress, true)
    }

    fn learn(
        &mut self,
        rows: Rows<'_>,
        training: Training,
        seed: u64,
        progress: &(dyn Fn(f32) -> Result<(), Error> + Sync),
        go_on: bool,
    ) -> Result<(), Error> {
        let found = train::centroids(self, rows, training, seed, progress, go_on, HELD_BYTES)?;
        self.set_centroids(found);
        Ok(())
    }

    /// Encodes `x` (n, d) into `codes` (n, code_bytes). O(n · 2^bits · d).
    ///
    /// # Errors
    /// Strided codes, which the host never lends.
    pub fn encode(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        ctx.par_blocks(x, codes, Self::BLOCK, |x, codes| self.encode_block(x, codes))
    }

    /// Decodes `codes` (n, code_bytes) into `x` (n, d). O(n · d).
    ///
    /// # Errors
    /// Strided rows, which the host never lends.
    pub fn decode(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        ctx.par_blocks(codes, x, Self::BLOCK, |codes, x| self.decode_block(codes, x))
    }

    /// The squared error `Σ ‖x − x̂‖²` of `rows` (n, d), summed in f64 in their order on any number of
    /// threads. O(n · 2^bits · d).
    ///
    /// # Errors
    /// None so far.
    pub fn error<'a>(&self, rows: impl Into<Rows<'a>>) -> Result<f64, Error> {
        let rows = rows.into();
        let blocks: Vec<_> = rows.blocks(Self::BLOCK).collect();
        let errors: Result<Vec<f64>, Error> = blocks
            .into_par_iter()
            .map(|block| {
                let x = rows.block(block);
                let mut codes = Array2::zeros((x.nrows(), self.code_bytes()));
                let mut back = Array2::zeros(x.dim());
                self.encode_block(x.view(), codes.view_mut())?;
                self.decode_block(codes.view(), back.view_mut())?;
                let (x, back) = (x.as_standard_layout(), back.as_slice());
                let rows = x.as_slice().into_iter().zip(back);
                Ok(rows.map(|(x, back)| l2_sq(x, back)).sum())
            })
            .collect();
        Ok(errors?.into_iter().sum())
    }

    /// The tables of `query` (d), in the units of `metric`: `‖q − x̂‖² = Σⱼ ‖qⱼ − cⱼ(iⱼ)‖²` and
    /// `⟨q, x̂⟩ = Σⱼ ⟨qⱼ, cⱼ(iⱼ)⟩`; the former is eq. 13 ("ADC"). O(2^bits · d).
    ///
    /// # Panics
    /// Before training, or when the query has another dimension.
    #[must_use]
    pub fn tables(&self, query: &[f32], metric: Metric) -> Tables {
        assert_eq!(query.len(), self.m * self.sub, "dimension of the query");
        if let Some(frame) = &self.frame {
            let query = frame.query(query, metric);
            return query.tables(self.tables_in_frame(&query.z, metric));
        }
        self.tables_in_frame(query, metric)
    }

    fn tables_in_frame(&self, query: &[f32], metric: Metric) -> Tables {
        let (m, k, sub) = (self.m, self.k(), self.sub);
        assert_eq!(self.transposed.len(), m * k * sub, "centroids, which training makes");
        // A sum of m entries stays finite, whatever the query.
        let limit = f64::from(f32::MAX) / (m + 1) as f64;
        let mut entries = vec![0.0; m * k];
        let mut sums = vec![0.0_f64; k];
        let parts = query.chunks_exact(sub).zip(self.transposed.chunks_exact(k * sub));
        for ((query, columns), entries) in parts.zip(entries.chunks_exact_mut(k)) {
            sums.fill(0.0);
            match metric {
                Metric::L2 => add_terms(query, columns, &mut sums, |q, c| (q - c) * (q - c)),
                Metric::Ip | Metric::Cosine => add_terms(query, columns, &mut sums, |q, c| q * c),
            }
            Path::fastest().run(
                #[inline(always)]
                || {
                    for (entry, sum) in entries.iter_mut().zip(&sums) {
                        *entry = sum.clamp(-limit, limit) as f32;
                    }
                },
            );
        }
        Tables::new(entries, m, self.bits)
    }

    /// Appends the centroids, without the frame, to a model.
    #[must_use]
    pub fn save(&self, model: ModelWriter) -> ModelWriter {
        model.f32s(self.centroids.iter().copied())
    }

    /// Reads what [`save`](Self::save) appended.
    ///
    /// # Errors
    /// Another number of centroids, or one that is not finite.
    pub fn load(&mut self, model: &mut ModelReader<'_>) -> Result<(), Error> {
        self.set_centroids(model.f32s(self.m * self.k() * self.sub)?);
        Ok(())
    }

    /// As [`save`](Self::save), then the frame.
    #[must_use]
    pub fn save_with_frame(&self, model: ModelWriter) -> ModelWriter {
        let model = self.save(model);
        match &self.frame {
            Some(frame) => frame.save(model.u64(1)),
            None => model.u64(0),
        }
    }

    /// Reads what [`save_with_frame`](Self::save_with_frame) appended.
    ///
    /// # Errors
    /// Anything that it never appends.
    pub fn load_with_frame(&mut self, model: &mut ModelReader<'_>) -> Result<(), Error> {
        self.load(model)?;
        self.set_frame(match model.u64()? {
            0 => None,
            1 => Some(Frame::load(self.m * self.sub, model)?),
            other => return Err(Error::failed(format!("{other} frames"))),
        });
        Ok(())
    }
}
