//! NVQ, non-uniform vector quantization: the coordinates of a centred row go to levels of the row's own,
//! which a logistic curve spreads over its range, closer where it has more coordinates: `curve` and `fit`
//! over a [`Layout`] and a [`Frame`].
//!
//! Tepper, Willke, "Individualized non-uniform quantization for vector search", 2025 (arXiv 2509.18471), as in
//! JVector's `NVQuantization`.
#![forbid(unsafe_code)]

mod curve;
mod fit;
mod scan;

use fit::{Fit, Fitter};
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use vq_blocks::rotated::{Centring, Format, Frame, Layout, Scalars, Turn};
use vq_blocks::{contiguous, rate};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Quantizer, Space, export_plugin, params,
};

params! {
    /// Parameters of NVQ.
    pub struct NvqParams {
        /// Bits per dimension, scalars included, filled to the byte by mixed widths; 0: `bits` decides.
        rate: f64 = 0.0, min = 0.0, max = 16.0, grid = [4.0, 8.0];
        /// Bits of each coordinate where `rate` is 0; the curve and the range come beside.
        bits: u32 = 8, min = 1, max = 8;
        /// Curves of which the error itself is computed, of 256.
        tries: usize = 16, min = 1, max = curve::CURVES;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// Which random rotation before.
        rotation: Turn = Turn::None;
        /// How the two scalars of the range are stored.
        scalars: Scalars = Scalars::F16;
    }
}

/// NVQ; no frame before training.
pub struct Nvq {
    params: NvqParams,
    space: Space,
    layout: Layout,
    fitter: Fitter,
    frame: Option<Frame>,
}

/// Rows of one task.
const BLOCK: usize = 256;

/// Bytes of a code that name the curve; the last.
const CURVE_BYTES: usize = 1;

impl Nvq {
    fn frame(&self) -> Result<&Frame, Error> {
        self.frame.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }

    /// Reads the indices of a `code` (code_bytes) into `values` (d), and what stands beside.
    fn read(&self, code: &[u8], values: &mut [u16]) -> Fit {
        let (code, curve) = code.split_at(self.layout.code_bytes());
        let mut range = [0.0; 2];
        self.layout.read(code, values, &mut range);
        Fit { curve: curve[0], m: range[0], w: range[1] }
    }
}

impl Quantizer for Nvq {
    type Params = NvqParams;
    const METHOD: Method = Method::new("nvq", "NVQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description(
            "Non-uniform vector quantization: levels of each row by a logistic curve of its own",
        )
        .paper("Tepper, Willke, Individualized non-uniform quantization for vector search, 2025")
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags(
            "scalar,non-uniform,rotation,scorer,search,\
             JVector=\"nearest is NVQuantization, 1 sub-vector\" if rate=0 bits=8 rotation=none,\
             JVector=\"nearest is NVQuantization, 1 sub-vector\" if rate=8 rotation=none",
        );

    fn create(params: NvqParams, space: Space) -> Result<Self, Error> {
        let scalars = [Format::from(params.scalars); 2];
        let layout = Layout::sized(space.dim, (params.rate, params.bits), &scalars, CURVE_BYTES)?;
        let fitter = Fitter::new(&layout, params.tries);
        Ok(Nvq { params, space, layout, fitter, frame: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let NvqParams { center, rotation, .. } = self.params;
        self.frame = Some(match rotation {
            // Coordinates that vary most come first, where mixed widths have more bits.
            Turn::None => Frame::sorted(train, center)?,
            _ => Frame::drawn(train, center, rotation, ctx.seed())?,
        });
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.layout.code_bytes() + CURVE_BYTES
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
        let (frame, format) = (self.frame()?, self.params.scalars.into());
        ctx.par_blocks(x, codes, BLOCK, |x, mut codes| {
            let z = frame.apply(x);
            let mut values = vec![0; z.ncols()];
            for (z, code) in z.outer_iter().zip(codes.outer_iter_mut()) {
                let (z, code) = (contiguous(z.to_slice())?, contiguous(code.into_slice())?);
                let (code, curve) = code.split_at_mut(self.layout.code_bytes());
                let fit = self.fitter.fit(z, format, &mut values);
                self.layout.write(&values, &[fit.m, fit.w], code);
                curve[0] = fit.curve;
            }
            Ok(())
        })
    }

    /// c + Pᵀ(m + w·l).
    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let frame = self.frame()?;
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            let (mut values, mut rows) = (vec![0; x.ncols()], Array2::zeros(x.raw_dim()));
            for (code, row) in codes.outer_iter().zip(rows.outer_iter_mut()) {
                let (code, row) = (contiguous(code.to_slice())?, contiguous(row.into_slice())?);
                let fit = self.read(code, &mut values);
                self.fitter.read(&values, fit, row);
            }
            frame.restore(rows.view(), &vec![1.0; x.nrows()], x);
            Ok(())
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

export_plugin!(Nvq: Scorer + Search);
