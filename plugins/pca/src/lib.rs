//! Fewer coordinates: rows along their k leading principal directions, or their first k coordinates as they are
//! (Matryoshka embeddings), in f16 or f32, maybe with the norm of what is left out, over [`Basis`].
//!
//! Pearson, "On lines and planes of closest fit to systems of points in space", 1901; Kusupati et al., "Matryoshka
//! Representation Learning", 2022; the norm: MRQ, 2024 (arXiv 2411.06158).
#![forbid(unsafe_code)]

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, Slice};
use vq_blocks::rotated::{Basis, Centring, Frame, Query, Scalars};
use vq_blocks::{contiguous, rate};
use vq_kernels::distance::norm_sq;
use vq_kernels::{Path, half};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Scorer, Space, choices,
    export_plugin, params,
};

choices! {
    /// Which coordinates are kept.
    pub enum Kept { Pca = "pca", Natural = "natural" }
}

choices! {
    /// What is stored of those left out.
    pub enum Tail { None = "none", Norm = "norm" }
}

params! {
    /// Parameters of PCA.
    pub struct PcaParams {
        /// Bits per dimension, everything included, that as many coordinates as fit fill; 0: `kept` decides.
        rate: f64 = 0.0, min = 0.0, max = 32.0, grid = [1.0, 2.0, 4.0, 8.0];
        /// Coordinates kept where `rate` is 0; all where there are fewer.
        kept: usize = 8, min = 1, max = 65_536;
        /// Along the leading principal directions, or the first ones of each row.
        basis: Kept = Kept::Pca;
        /// The norm of what is left out, which distances count, or nothing.
        tail: Tail = Tail::None;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// How numbers are stored.
        scalars: Scalars = Scalars::F16;
    }
}

/// Kept coordinates; no basis before training.
pub struct Pca {
    params: PcaParams,
    space: Space,
    kept: usize,
    basis: Option<Basis>,
}

/// Rows of one task.
const BLOCK: usize = 256;

/// Codes that are packed side by side.
const LANES: usize = 16;

impl Pca {
    fn basis(&self) -> Result<&Basis, Error> {
        self.basis.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }

    fn with_norm(&self) -> bool {
        self.params.tail == Tail::Norm
    }

    /// Decoded rows are brought to unit length, as cosine compares them.
    fn renormalises(&self) -> bool {
        let natural = self.params.basis == Kept::Natural;
        natural && !self.with_norm() && self.space.metric == Metric::Cosine
    }

    fn numbers(&self) -> usize {
        self.kept + usize::from(self.with_norm())
    }

    fn write(&self, numbers: &[f32], code: &mut [u8]) {
        match self.params.scalars {
            Scalars::F16 => half::encode(numbers, code),
            Scalars::F32 => {
                for (number, to) in numbers.iter().zip(code.as_chunks_mut().0) {
                    *to = number.to_le_bytes();
                }
            }
        }
    }

    /// Numbers that no row has become 0.
    fn read(&self, code: &[u8], numbers: &mut [f32]) {
        match self.params.scalars {
            Scalars::F16 => half::decode(code, numbers),
            Scalars::F32 => {
                for (number, from) in numbers.iter_mut().zip(code.as_chunks().0) {
                    *number = f32::from_le_bytes(*from);
                }
            }
        }
        for number in numbers {
            *number = if number.is_finite() { number.clamp(-1e15, 1e15) } else { 0.0 };
        }
    }

    /// Kept coordinates (n, kept) of `codes`.
    fn coordinates(&self, codes: ArrayView2<'_, u8>) -> Result<Array2<f32>, Error> {
        let mut y = Array2::zeros((codes.nrows(), self.kept));
        let mut numbers = vec![0.0; self.numbers()];
        for (code, mut y) in codes.outer_iter().zip(y.outer_iter_mut()) {
            self.read(contiguous(code.to_slice())?, &mut numbers);
            y.iter_mut().zip(&numbers).for_each(|(y, number)| *y = *number);
        }
        Ok(y)
    }

    fn decode(
        &self,
        codes: ArrayView2<'_, u8>,
        mut x: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Error> {
        self.basis()?.restore(self.coordinates(codes)?.view(), x.view_mut());
        if self.renormalises() {
            for mut x in x.outer_iter_mut() {
                let gain = gain(contiguous(x.as_slice())?);
                x.iter_mut().for_each(|x| *x = (f64::from(*x) * gain) as f32);
            }
        }
        Ok(())
    }
}

/// What makes `x` a row of unit length; 1 for one of zeros.
fn gain(x: &[f32]) -> f64 {
    let norm = norm_sq(x).sqrt();
    if norm > 0.0 { 1.0 / norm } else { 1.0 }
}

impl Quantizer for Pca {
    type Params = PcaParams;
    const METHOD: Method = Method::new("pca", "PCA")
        .version(env!("CARGO_PKG_VERSION"))
        .description(
            "fewer coordinates: principal directions or the first ones, maybe the tail's norm",
        )
        .paper(
            "Pearson, On lines and planes of closest fit, 1901; Kusupati et al., Matryoshka \
             Representation Learning, 2022; MRQ, 2024",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags(
            "pca,truncation,baseline,scorer,\
             FAISS=\"PCA{kept},SQfp16\" if rate=0 basis=pca tail=none scalars=f16,\
             FAISS=\"PCA{kept},Flat\" if rate=0 basis=pca tail=none scalars=f32",
        );

    fn create(params: PcaParams, space: Space) -> Result<Self, Error> {
        let PcaParams { rate, kept, tail, scalars, .. } = params;
        let dim = space.dim;
        let size = if scalars == Scalars::F16 { 2 } else { 4 };
        let beside = if tail == Tail::Norm { size } else { 0 };
        let kept = if rate > 0.0 {
            let budget = rate::budget(dim, rate);
            let fits = budget.saturating_sub(beside) / size;
            if fits == 0 {
                let all = format!("the {budget} bytes of {rate} bits/dim at d = {dim}");
                return Err(Error::param("rate", format!("no coordinate fits {all}")));
            }
            let kept = fits.min(dim);
            rate::fills(kept * size + beside, dim, rate)
                .map_err(|reason| Error::param("rate", reason))?;
            kept
        } else {
            kept.min(dim)
        };
        Ok(Pca { params, space, kept, basis: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let centre = Frame::centre_of(train, self.params.center)?;
        ctx.progress(0.0, "principal directions")?;
        self.basis = Some(match self.params.basis {
            Kept::Natural => Basis::first(centre, self.kept),
            Kept::Pca => {
                let (_, directions) = Basis::principal(&centre, train);
                let leading = directions.slice_axis(Axis(0), Slice::from(..self.kept));
                Basis::new(centre, leading.mapv(|value| value as f32))
            }
        });
        ctx.progress(1.0, "done")
    }

    fn code_bytes(&self) -> usize {
        self.numbers() * if self.params.scalars == Scalars::F16 { 2 } else { 4 }
    }

    fn model_bytes(&self) -> Option<u64> {
        self.basis.as_ref().map(Basis::model_bytes)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let (basis, cosine) = (self.basis()?, self.space.metric == Metric::Cosine);
        ctx.par_blocks(x, codes, BLOCK, |x, mut codes| {
            let (z, norms) = basis.apply(x);
            let (mut numbers, mut read) = (vec![0.0; self.numbers()], vec![0.0; self.numbers()]);
            let rows = x.outer_iter().zip(z.outer_iter().zip(norms));
            for ((x, (z, norm)), code) in rows.zip(codes.outer_iter_mut()) {
                let code = contiguous(code.into_slice())?;
                numbers.iter_mut().zip(z).for_each(|(number, z)| *number = *z);
                if self.with_norm() {
                    numbers[self.kept] = 0.0;
                    self.write(&numbers, code);
                    // Beside the coordinates as they will be read.
                    self.read(code, &mut read);
                    // As if a row of zeros were longer by the unit that others have: ⟨q, x⟩ = 0.
                    let zero = cosine && x.iter().all(|x| *x == 0.0);
                    let more = if zero { basis.unit_sq() } else { 0.0 };
                    let left = norm - norm_sq(&read[..self.kept]) + more;
                    numbers[self.kept] = left.max(0.0).sqrt() as f32;
                }
                self.write(&numbers, code);
            }
            Ok(())
        })
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        ctx.par_blocks(codes, x, BLOCK, |codes, x| self.decode(codes, x))
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.basis()?.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let basis = Basis::load(self.space.dim, &mut reader)?;
        reader.finish()?;
        if basis.count() != self.kept {
            let count = basis.count();
            return Err(Error::failed(format!("{count} directions, {} are kept", self.kept)));
        }
        self.basis = Some(basis);
        Ok(())
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_rate_or::<Self>("kept", request, sink)
    }
}

/// With t the norm of what is left out, ‖q − x‖² ≈ ‖q_k − y‖² + ‖q_t‖² + t²: the product of the two tails, whose
/// mean is 0, is all that is missing. Without it estimates are the values of decoded rows.
impl Scorer for Pca {
    type Query = Query;
    const PACKED: bool = true;

    fn packed_bytes(&self) -> usize {
        4 * (self.kept + 2)
    }

    /// The coordinates of 16 codes side by side; then for all codes the squared norm, and what the estimate is
    /// multiplied by.
    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        mut packed: ArrayViewMut2<'_, u8>,
        _: &Context<'_>,
    ) -> Result<(), Error> {
        let n = codes.nrows();
        let words = contiguous(packed.as_slice_mut())?.as_chunks_mut::<4>().0;
        let (coordinates, columns) = words.split_at_mut(n * self.kept);
        let (norms, gains) = columns.split_at_mut(n);
        let mut numbers = vec![0.0; self.numbers()];
        let mut x = Array2::zeros((1, self.space.dim));
        for (i, code) in codes.outer_iter().enumerate() {
            self.read(contiguous(code.to_slice())?, &mut numbers);
            let (first, l) = (i / LANES * LANES, i % LANES);
            let side_by_side = LANES.min(n - first);
            let (y, tail) = numbers.split_at(self.kept);
            for (t, y) in y.iter().enumerate() {
                coordinates[first * self.kept + t * side_by_side + l] = y.to_le_bytes();
            }
            let tail_sq = tail.first().map_or(0.0, |tail| f64::from(*tail).powi(2));
            norms[i] = ((norm_sq(y) + tail_sq) as f32).to_le_bytes();
            let mut longer = 1.0;
            if self.renormalises() {
                let y = ArrayView2::from_shape((1, self.kept), y);
                let y = y.map_err(|e| Error::failed(e.to_string()))?;
                self.basis()?.restore(y, x.view_mut());
                longer = gain(contiguous(x.as_slice())?);
            }
            gains[i] = (longer as f32).to_le_bytes();
        }
        Ok(())
    }

    fn query(&self, q: ArrayView1<'_, f32>, _: &Context<'_>) -> Result<Query, Error> {
        let (basis, q) = (self.basis()?, q.to_vec());
        let metric = self.space.metric;
        Ok(if self.with_norm() { basis.estimator(&q, metric) } else { basis.query(&q, metric) })
    }

    fn score(
        &self,
        query: &Query,
        codes: ArrayView2<'_, u8>,
        estimates: &mut [f32],
        _: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        let n = estimates.len();
        let words = contiguous(codes.to_slice())?.as_chunks::<4>().0;
        let (coordinates, columns) = words.split_at(n * self.kept);
        let (norms, gains) = columns.split_at(n);
        Path::fastest().run(
            #[inline(always)]
            || {
                let mut rest = coordinates;
                for (g, estimates) in estimates.chunks_mut(LANES).enumerate() {
                    let (own, behind) = rest.split_at(self.kept * estimates.len());
                    let mut sums = [0.0_f32; LANES];
                    if estimates.len() == LANES {
                        for (y, z) in own.as_chunks::<LANES>().0.iter().zip(&query.z) {
                            for (sum, y) in sums.iter_mut().zip(y) {
                                *sum += z * f32::from_le_bytes(*y);
                            }
                        }
                    } else {
                        for (y, z) in own.chunks(estimates.len()).zip(&query.z) {
                            for (sum, y) in sums.iter_mut().zip(y) {
                                *sum += z * f32::from_le_bytes(*y);
                            }
                        }
                    }
                    let first = g * LANES;
                    for (l, estimate) in estimates.iter_mut().enumerate() {
                        let norm = f64::from(f32::from_le_bytes(norms[first + l]));
                        let value = query.estimate(f64::from(sums[l]), norm);
                        let value = value * f32::from_le_bytes(gains[first + l]);
                        *estimate = value.clamp(f32::MIN, f32::MAX);
                    }
                    rest = behind;
                }
            },
        );
        Ok(())
    }
}

export_plugin!(Pca: Scorer);
