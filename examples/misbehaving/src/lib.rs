//! Methods that each do one wrong thing, so that a host can be tested on surviving it.
//!
//! All of them are one correct quantizer, 8 bits with one range [lo, hi] for all dimensions,
//!
//! ```text
//! code = round(255·(x − lo) / (hi − lo)),  x̂ = lo + (hi − lo)·code / 255
//! ```
//!
//! with hooks where a [`Fault`] may step in. `faults.rs` lists them, one type each; the README says
//! what the host must answer.

pub mod faults;

use faults::Fault;
use std::marker::PhantomData;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::ndarray::{ArrayView2, ArrayViewMut2, s};
use vq_plugin_api::params::Config;
use vq_plugin_api::quantizer::meets_rate;
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Quantizer, Space, export_plugin,
};

/// The correct quantizer, but for what `F` does to it.
pub struct Sq8<F> {
    dim: usize,
    /// lo and hi, once learned.
    range: Option<[f32; 2]>,
    fault: PhantomData<F>,
}

impl<F: Fault> Sq8<F> {
    /// lo and hi − lo, in f64 so that no finite range overflows.
    fn scale(&self) -> Result<(f64, f64), Error> {
        let [lo, hi] = self.range.ok_or_else(|| Error::failed("called before fit or load"))?;
        Ok((f64::from(lo), f64::from(hi) - f64::from(lo)))
    }
}

impl<F: Fault> Quantizer for Sq8<F> {
    type Params = ();
    const METHOD: Method = Method::new(F::ID, F::ID)
        .version(env!("CARGO_PKG_VERSION"))
        .description(F::DOES)
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("misbehaving");

    fn create((): (), space: Space) -> Result<Self, Error> {
        F::on_create()?;
        Ok(Sq8 { dim: space.dim, range: None, fault: PhantomData })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        F::on_fit();
        ctx.progress(0.0, "range")?;
        let lo = train.iter().copied().fold(f32::INFINITY, f32::min);
        let hi = train.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !lo.is_finite() || !hi.is_finite() {
            return Err(Error::failed("the training rows have no finite range"));
        }
        self.range = Some([lo, hi]);
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        F::code_bytes(self.dim, self.range.is_some())
    }

    fn ratio(&self, space: Space) -> f64 {
        F::ratio(4.0 * space.dim as f64 / self.code_bytes() as f64)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        F::on_compress();
        let (lo, width) = self.scale()?;
        ctx.par_rows(x, codes.view_mut(), |x, code| {
            F::on_row();
            for (x, code) in x.iter().zip(code) {
                // The cast saturates, and turns NaN into 0.
                *code = (255.0 * (f64::from(*x) - lo) / width).round() as u8;
            }
        })?;
        F::spoil_codes(&mut codes);
        Ok(())
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        mut x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let (lo, width) = self.scale()?;
        let rows = F::rows_to_decode(codes.nrows());
        ctx.par_rows(codes.slice(s![..rows, ..]), x.slice_mut(s![..rows, ..]), |code, x| {
            for (code, x) in code.iter().zip(x) {
                *x = (lo + width * f64::from(*code) / 255.0) as f32;
            }
        })?;
        F::spoil_rows(&mut x);
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        let range = self.range.ok_or_else(|| Error::failed("called before fit or load"))?;
        Ok(ModelWriter::new().f32s(range).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let range = reader.f32s(2)?;
        reader.finish()?;
        self.range = Some([range[0], range[1]]);
        Ok(())
    }

    /// The one configuration there is.
    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        F::on_grid();
        let config = Config::new();
        match (Self::create((), request.space), request.bits_per_dim) {
            (Err(error), _) => sink.skip(&config, &error.to_string()),
            (Ok(made), Some(bits)) if !meets_rate(made.code_bytes(), request.space.dim, bits) => {
                sink.skip(&config, &format!("stores 8 bits/dim, {bits} were asked"));
            }
            (Ok(_), _) => {
                sink.emit(&config, "");
            }
        }
        Ok(())
    }
}

export_plugin!(
    Sq8<faults::Abort>,
    Sq8<faults::CodeBytes>,
    Sq8<faults::Create>,
    Sq8<faults::Exit>,
    Sq8<faults::Fork>,
    Sq8<faults::Grid>,
    Sq8<faults::Hang>,
    Sq8<faults::Hog>,
    Sq8<faults::HugeCode>,
    Sq8<faults::Nan>,
    Sq8<faults::Overrun>,
    Sq8<faults::Panic>,
    Sq8<faults::Print>,
    Sq8<faults::Random>,
    Sq8<faults::Ratio>,
    Sq8<faults::Segfault>,
    Sq8<faults::Slow>,
    Sq8<faults::Stack>,
    Sq8<faults::Stop>,
    Sq8<faults::ThreadPanic>,
    Sq8<faults::Unwritten>,
);
