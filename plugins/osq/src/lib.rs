//! OSQ, optimised scalar quantization: the coordinates of a centred row r go to evenly spaced points of an
//! interval of the row's own, which is fitted to err little along r and, less, across it; beside the
//! indices stand the interval and what estimates need of r: `interval` over [`Affine`] and [`Frame`].
//!
//! What Lucene and Elasticsearch call "Better Binary Quantization" since December 2024 (apache/lucene
//! 14078), after the interval of LVQ (Aguerrebere et al. 2023, definition 1) and the loss of Guo et al. 2020,
//! Theorem 3.2.
#![forbid(unsafe_code)]

mod interval;

use interval::{Fitter, Interval, points};
use ndarray::{ArrayView2, ArrayViewMut2};
use vq_blocks::rotated::{
    Affine, ByGrid, Centring, Format, Frame, Layout, Query, Scalars, Scan, Turn,
};
use vq_blocks::{contiguous, rate, scan_by_grid};
use vq_kernels::distance::{dot, norm_sq};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space, export_plugin, params,
};

params! {
    /// Parameters of OSQ.
    pub struct OsqParams {
        /// Bits per dimension, scalars included, filled to the byte by mixed widths; 0: `bits` decides.
        rate: f64 = 0.0, min = 0.0, max = 16.0, grid = [1.0, 2.0, 4.0, 8.0];
        /// Bits of each coordinate where `rate` is 0; the scalars come beside.
        bits: u32 = 4, min = 1, max = 8;
        /// Weight of the error across the row; 1: the least squared error.
        lambda: f64 = 0.1, min = 0.0, max = 1.0;
        /// Bits of each coordinate of a query in estimates; 0: f32.
        query_bits: u32 = 0, min = 0, max = 8;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// Which random rotation before.
        rotation: Turn = Turn::None;
        /// How scalars are stored.
        scalars: Scalars = Scalars::F16;
    }
}

/// OSQ; no frame before training.
pub struct Osq {
    params: OsqParams,
    space: Space,
    affine: Affine,
    fitter: Fitter,
    /// Whether codes have a third scalar.
    corrected: bool,
    frame: Option<Frame>,
}

/// Rows of one task.
const BLOCK: usize = 256;

impl Osq {
    fn frame(&self) -> Result<&Frame, Error> {
        self.frame.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }

    /// What estimates take of the row `z` in the frame besides products with a query: ⟨z, c⟩ for inner
    /// products, ‖z‖² otherwise.
    fn term(&self, z: &[f32], centre: &[f32]) -> f64 {
        if self.space.metric == Metric::Ip { dot(z, centre) } else { norm_sq(z) }
    }
}

impl Quantizer for Osq {
    type Params = OsqParams;
    const METHOD: Method = Method::new("osq", "OSQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Optimised scalar quantization (BBQ): an interval per row, fitted to it")
        .paper("Trent et al., OptimizedScalarQuantizer, Apache Lucene 14078, 2024")
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags(
            "scalar,rotation,scorer,search,\
             Elasticsearch=\"bbq_flat, bbq_hnsw\" if rate=0 bits=1,\
             Elasticsearch=\"nearest is bbq_flat, bbq_hnsw\" if rate=1,\
             Lucene=\"Lucene104ScalarQuantizedVectorsFormat SINGLE_BIT_QUERY_NIBBLE\" if rate=0 bits=1,\
             Lucene=\"Lucene104ScalarQuantizedVectorsFormat DIBIT_QUERY_NIBBLE\" if rate=0 bits=2,\
             Lucene=\"Lucene104ScalarQuantizedVectorsFormat PACKED_NIBBLE\" if rate=0 bits=4,\
             Lucene=\"Lucene104ScalarQuantizedVectorsFormat SEVEN_BIT\" if rate=0 bits=7,\
             Lucene=\"Lucene104ScalarQuantizedVectorsFormat UNSIGNED_BYTE\" if rate=0 bits=8,\
             Lucene=\"nearest is Lucene104ScalarQuantizedVectorsFormat, {rate} bits\" if rate=1|2|4|8",
        );

    fn create(params: OsqParams, space: Space) -> Result<Self, Error> {
        let corrected = space.metric != Metric::Ip || params.center == Centring::Mean;
        let scalars = vec![Format::from(params.scalars); if corrected { 3 } else { 2 }];
        let layout = Layout::sized(space.dim, (params.rate, params.bits), &scalars, 0)?;
        let affine = Affine::new(layout, scalars.len(), points);
        let fitter = Fitter::new(&affine, params.lambda);
        Ok(Osq { params, space, affine, fitter, corrected, frame: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let OsqParams { center, rotation, .. } = self.params;
        self.frame = Some(match rotation {
            // Coordinates that vary most come first, where mixed widths have more bits.
            Turn::None => Frame::sorted(train, center)?,
            _ => Frame::drawn(train, center, rotation, ctx.seed())?,
        });
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.affine.layout().code_bytes()
    }

    fn model_bytes(&self) -> Option<u64> {
        self.frame.as_ref().map(Frame::model_bytes)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let frame = self.frame()?;
        let (layout, format, centre) =
            (self.affine.layout(), self.params.scalars.into(), frame.centre());
        ctx.par_blocks(x, codes, BLOCK, |x, mut codes| {
            let z = frame.apply(x);
            let (mut values, mut read) = (vec![0; z.ncols()], vec![0.0; z.ncols()]);
            for ((x, z), code) in x.outer_iter().zip(z.outer_iter()).zip(codes.outer_iter_mut()) {
                let (z, code) = (contiguous(z.to_slice())?, contiguous(code.into_slice())?);
                let Interval { m, w } = self.fitter.fit(z, format, &mut values);
                let mut scalars = [m, w, 0.0];
                if self.corrected {
                    self.affine.row(&values, (m, w), &mut read);
                    let mut off = self.term(z, &centre) - self.term(&read, &centre);
                    if self.space.metric == Metric::Cosine && x.iter().all(|x| *x == 0.0) {
                        // ⟨q, x⟩ = (‖q‖² + 1 − ‖q − x‖²)/2 of a zero row: as if it were longer by the unit
                        // that others have.
                        off += frame.unit_sq();
                    }
                    // As a length, which stays in the range of f16.
                    scalars[2] = off.signum() as f32 * off.abs().sqrt() as f32;
                }
                layout.write(&values, &scalars[..2 + usize::from(self.corrected)], code);
            }
            Ok(())
        })
    }

    /// c + Pᵀ(m + w·g), the interval's points as they are.
    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let frame = self.frame()?;
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            self.affine.decode(frame, codes, x, |_, _, _| ())
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.frame()?.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.frame = Some(Frame::load(self.space.dim, &mut reader)?);
        reader.finish()
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_rate::<Self>(request, sink)
    }
}

/// ‖q − x‖² ≈ ‖q − c‖² + ‖r‖² − 2⟨q − c, x̂ − c⟩, or ⟨q, x⟩ ≈ ⟨q, c⟩ + ⟨r, c⟩ + ⟨q − c, x̂ − c⟩, in which the query
/// may have been quantized likewise.
impl ByGrid for Osq {
    fn scan_bytes(&self) -> usize {
        self.affine.packed_bytes()
    }

    fn pack_block(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) -> Result<(), Error> {
        let centre = self.frame()?.centre();
        self.affine.pack(codes, packed, |_, read, scalars| match scalars.get(2) {
            Some(off) => {
                let off = f64::from(*off);
                self.term(read, &centre) + off * off.abs()
            }
            None => 0.0,
        });
        Ok(())
    }

    fn query(&self, q: &[f32]) -> Result<Query, Error> {
        let (frame, metric) = (self.frame()?, self.space.metric);
        let mut query = match metric {
            Metric::Ip => frame.centred_product(q),
            _ => frame.estimator(q, metric),
        };
        if self.params.query_bits > 0 {
            let OsqParams { query_bits, lambda, .. } = self.params;
            query.z = Fitter::uniform(q.len(), query_bits, lambda).rounded(&query.z);
        }
        Ok(query)
    }

    fn scan(&self, query: Query) -> Result<Scan, Error> {
        Ok(self.affine.scan(query, self.space.metric))
    }
}

scan_by_grid!(Osq);
export_plugin!(Osq: Scorer + Search);
