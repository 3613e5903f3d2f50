//! Scaled integer lattice: x̂ = s·round(x / s), one step s = scale·σ per dimension, one byte each.
#![forbid(unsafe_code)]

use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::ndarray::{Array1, ArrayView2, ArrayViewMut2, Axis};
use vq_plugin_api::{Context, Error, Method, Quantizer, Space, export_plugin, params};

params! {
    /// Parameters of the integer lattice.
    pub struct Steps {
        /// Standard deviations of a dimension that one step spans.
        scale: f32 = 0.5, min = 1e-6, max = 1e6, grid = [0.0625, 0.25, 0.5];
    }
}

/// The lattice; `step` is s, one per dimension.
pub struct Lattice {
    scale: f32,
    step: Array1<f32>,
}

impl Quantizer for Lattice {
    type Params = Steps;
    const METHOD: Method = Method::new("zlattice", "Z-lattice")
        .version(env!("CARGO_PKG_VERSION"))
        .description(env!("CARGO_PKG_DESCRIPTION"))
        .license(env!("CARGO_PKG_LICENSE"));

    fn create(params: Steps, space: Space) -> Result<Self, Error> {
        Ok(Lattice { scale: params.scale, step: Array1::zeros(space.dim) })
    }

    fn fit(&mut self, train: ArrayView2<f32>, _ctx: &Context) -> Result<(), Error> {
        // Never 0, and small enough to decode to finite numbers where σ is NaN or infinite.
        self.step = train.std_axis(Axis(0), 0.0).mapv(|s| (s * self.scale).min(1e30) + 1e-12);
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.step.len()
    }

    fn compress(
        &self,
        x: ArrayView2<f32>,
        codes: ArrayViewMut2<u8>,
        ctx: &Context,
    ) -> Result<(), Error> {
        ctx.par_rows(x, codes, |x, code| {
            for ((x, step), code) in x.iter().zip(&self.step).zip(code) {
                *code = (x / step).round() as i8 as u8; // a cast from f32 saturates
            }
        })
    }

    fn decompress(
        &self,
        codes: ArrayView2<u8>,
        x: ArrayViewMut2<f32>,
        ctx: &Context,
    ) -> Result<(), Error> {
        ctx.par_rows(codes, x, |code, x| {
            for ((code, step), x) in code.iter().zip(&self.step).zip(x) {
                *x = f32::from(*code as i8) * step;
            }
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(ModelWriter::new().f32s(self.step.iter().copied()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.step = reader.f32s(self.step.len())?.into(); // refuses what is damaged
        reader.finish()
    }
}

export_plugin!(Lattice);

#[cfg(test)]
mod tests {
    use super::*;
    use vq_plugin_api::handle::{Caller, Plugin};
    use vq_plugin_api::ndarray::Array2;
    use vq_plugin_api::params::Config;
    use vq_plugin_api::{Metric, Value};

    const SPACE: Space = Space { dim: 3, metric: Metric::L2 };

    #[test]
    fn no_coordinate_inside_the_range_is_off_by_more_than_half_a_step() {
        let ctx = Context::detached(1, 0);
        let x = Array2::from_shape_fn((200, 3), |(i, j)| ((i * 7 + j * 13) % 31) as f32 - 15.0);
        let mut lattice = Lattice::create(Steps { scale: 0.25 }, SPACE).unwrap();
        lattice.fit(x.view(), &ctx).unwrap();
        let (mut codes, mut decoded) = (Array2::zeros((200, 3)), Array2::zeros((200, 3)));
        lattice.compress(x.view(), codes.view_mut(), &ctx).unwrap();
        lattice.decompress(codes.view(), decoded.view_mut(), &ctx).unwrap();
        for (row, decoded) in x.outer_iter().zip(decoded.outer_iter()) {
            for ((x, y), step) in row.iter().zip(decoded).zip(&lattice.step) {
                assert!((x - y).abs() <= 0.5001 * step, "{x} came back as {y}, step {step}");
            }
        }
    }

    #[test]
    fn a_restored_model_decodes_to_the_same_bits() {
        let ctx = Context::detached(1, 0);
        let x = Array2::from_shape_fn((200, 3), |(i, j)| ((i * 7 + j * 13) % 31) as f32 - 15.0);
        let mut lattice = Lattice::create(Steps { scale: 0.25 }, SPACE).unwrap();
        lattice.fit(x.view(), &ctx).unwrap();
        let mut codes = Array2::zeros((200, 3));
        lattice.compress(x.view(), codes.view_mut(), &ctx).unwrap();
        let model = lattice.save().unwrap();
        let mut restored = Lattice::create(Steps { scale: 0.25 }, SPACE).unwrap();
        restored.load(&model).unwrap();
        let decoded = [&lattice, &restored].map(|lattice| {
            let mut decoded = Array2::zeros((200, 3));
            lattice.decompress(codes.view(), decoded.view_mut(), &ctx).unwrap();
            decoded
        });
        assert_eq!(decoded[0], decoded[1]);
        assert!(restored.load(&model[1..]).is_err());
    }

    #[test]
    fn rows_that_teach_nothing_decode_to_finite_numbers() {
        let ctx = Context::detached(1, 0);
        for value in [0.0, 1.0, 1e30, -3e38, f32::NAN, f32::INFINITY] {
            for rows in [0, 1, 2] {
                let mut lattice = Lattice::create(Steps { scale: 1e6 }, SPACE).unwrap();
                lattice.fit(Array2::from_elem((rows, 3), value).view(), &ctx).unwrap();
                let (mut codes, mut decoded) = (Array2::zeros((1, 3)), Array2::zeros((1, 3)));
                let x = Array2::from_elem((1, 3), value);
                lattice.compress(x.view(), codes.view_mut(), &ctx).unwrap();
                lattice.decompress(codes.view(), decoded.view_mut(), &ctx).unwrap();
                assert!(decoded.iter().all(|y: &f32| y.is_finite()), "{rows} rows of {value}");
            }
        }
    }

    #[test]
    fn the_host_sees_what_was_declared() {
        let plugin = Plugin::linked(plugin()).unwrap();
        let method = &plugin.methods()[0];
        assert_eq!((method.about().id.as_str(), method.about().params.len()), ("zlattice", 1));
        let config = Config::from([("scale".to_owned(), Value::Float(0.0))]);
        let error = method.create(&config, SPACE).unwrap_err();
        assert_eq!(error.message(), "scale: 0 is below the minimum 0.000001");

        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let (log, progress) = (|_, _: &str| (), |_, _: &str| true);
        let caller = Caller { threads: 2, seed: 1, log: &log, progress: &progress, pool: &pool };
        let mut lattice = method.create(&Config::new(), SPACE).unwrap();
        let x = Array2::from_shape_fn((50, 3), |(i, j)| (i * j) as f32);
        lattice.fit(x.view(), &caller).unwrap();
        let mut codes = vec![0; 50 * lattice.code_bytes()];
        lattice.compress(x.view(), lattice.code_bytes(), &caller, &mut codes).unwrap();
        assert_eq!((codes.len(), lattice.ratio()), (150, Some(4.0)));
        // 8 bytes for the count, then the steps.
        assert_eq!(lattice.save().unwrap().map(|model| model.len()), Some(8 + 4 * 3));
    }
}
