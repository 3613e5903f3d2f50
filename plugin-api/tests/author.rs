//! An author's whole plugin, in safe code, driven through the C table as the host drives it.
#![forbid(unsafe_code)]

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis};
use vq_plugin_api::handle::{Caller, Guarded, Plugin, Proposal};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::params::Config;
use vq_plugin_api::{
    Context, Error, ErrorKind, GridRequest, Method, Metric, Quantizer, Space, Value, export_plugin,
    params,
};

params! {
    /// Parameters of the integer lattice.
    pub struct Steps {
        /// Standard deviations that one step spans.
        scale: f32 = 0.5, min = 1e-6, grid = [0.25, 0.5, 1.0];
        /// Panics instead of learning.
        broken: bool = false;
    }
}

/// x̂ = s·round(x / s), one step s per dimension.
pub struct Lattice {
    params: Steps,
    step: Array1<f32>,
}

impl Quantizer for Lattice {
    type Params = Steps;
    const METHOD: Method = Method::new("zlattice", "Z-lattice").version("1.2.3");

    fn create(params: Steps, space: Space) -> Result<Self, Error> {
        if space.dim == 13 {
            return Err(Error::param("scale", "13 is unlucky"));
        }
        Ok(Lattice { params, step: Array1::zeros(space.dim) })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        assert!(!self.params.broken, "asked to break");
        ctx.progress(0.5, "steps")?;
        self.step = train.std_axis(Axis(0), 0.0).mapv(|s| s.max(1e-12) * self.params.scale);
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.step.len()
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        ctx.par_rows(x, codes, |x, code| {
            for ((x, step), code) in x.iter().zip(&self.step).zip(code) {
                *code = (x / step).round().clamp(-128.0, 127.0) as i8 as u8;
            }
        })
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
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
        self.step = reader.f32s(self.step.len())?.into();
        reader.finish()
    }
}

export_plugin!(Lattice);

fn pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads start")
}

fn caller<'a>(
    pool: &'a rayon::ThreadPool,
    go_on: &'a (dyn Fn(f32, &str) -> bool + Sync),
) -> Caller<'a> {
    Caller { threads: 2, seed: 1, log: &|_, _| (), progress: go_on, pool }
}

const SPACE: Space = Space { dim: 3, metric: Metric::L2 };

#[test]
fn a_safe_plugin_round_trips_through_the_c_table() {
    let plugin = Plugin::linked(plugin()).unwrap();
    let method = &plugin.methods()[0];
    assert_eq!(
        (method.about().id.as_str(), method.about().version.as_str()),
        ("zlattice", "1.2.3")
    );
    let pool = pool();
    let caller = caller(&pool, &|_, _| true);
    let x = Array2::from_shape_fn((1000, 3), |(i, j)| ((i * 7 + j * 13) % 31) as f32);
    let mut lattice = method.create(&Config::new(), SPACE).unwrap();
    let early = lattice.compress(x.view(), 3, &caller, &mut [0; 3000]).unwrap_err();
    assert_eq!(early.to_string(), "compress: compress was called before fit or load");
    lattice.fit(x.view(), &caller).unwrap();
    assert_eq!(
        (lattice.code_bytes(), lattice.model_bytes(), lattice.ratio()),
        (3, Some(20), Some(4.0))
    );
    let (mut codes, mut decoded) = (Guarded::codes(), Guarded::rows());
    lattice.compress(x.view(), 3, &caller, codes.lend(3000)).unwrap();
    let codes = ArrayView2::from_shape((1000, 3), codes.finish("compress").unwrap()).unwrap();
    lattice.decompress(codes, &caller, decoded.lend(3000)).unwrap();
    let worst = x.iter().zip(decoded.values()).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(worst < 0.5 * 0.5 * 9.0 && worst > 0.5, "{worst}");

    let model = lattice.save().unwrap().unwrap();
    let mut restored = method.create(&Config::new(), SPACE).unwrap();
    restored.load(&model).unwrap();
    let mut again = vec![0.0; 3000];
    restored.decompress(codes, &caller, &mut again).unwrap();
    assert_eq!(decoded.finish("decompress").unwrap(), again);
    assert!(restored.load(&model[1..]).is_err());
}

#[test]
fn panics_cancels_and_bad_parameters_are_told_apart() {
    let plugin = Plugin::linked(plugin()).unwrap();
    let method = &plugin.methods()[0];
    let pool = pool();
    let x = Array2::<f32>::zeros((10, 3));
    let broken: Config = [("broken".to_owned(), Value::Bool(true))].into();
    let mut instance = method.create(&broken, SPACE).unwrap();
    let error = instance.fit(x.view(), &caller(&pool, &|_, _| true)).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Panicked));
    assert_eq!(error.to_string(), "fit: panicked: asked to break");
    let mut instance = method.create(&Config::new(), SPACE).unwrap();
    let error = instance.fit(x.view(), &caller(&pool, &|_, _| false)).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Cancelled));
    let error = method.create(&Config::new(), Space { dim: 13, ..SPACE }).unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (Some(ErrorKind::BadConfig), "scale: 13 is unlucky")
    );
}

#[test]
fn the_grid_is_the_default_one_the_users_axes_or_the_wanted_rate() {
    let plugin = Plugin::linked(plugin()).unwrap();
    let method = &plugin.methods()[0];
    let labels = |request: &GridRequest| -> Vec<String> {
        let told = method.expand(request).unwrap().into_iter().map(|p| match p {
            Proposal::Emit { label, code_bytes, .. } => format!("{label}: {code_bytes:?}"),
            Proposal::Skip { reason, .. } => reason,
        });
        told.collect()
    };
    let mut request = GridRequest { space: SPACE, bits_per_dim: None, axes: [].into() };
    assert_eq!(labels(&request), ["scale=0.25: Some(3)", "scale=0.5: Some(3)", "scale=1: Some(3)"]);
    request.axes.insert("scale".into(), vec![Value::Int(2), Value::Float(0.0)]);
    assert_eq!(labels(&request), ["scale=2: Some(3)", "scale: 0 is below the minimum 0.000001"]);
    request.axes.clear();
    request.bits_per_dim = Some(2.0);
    assert_eq!(
        labels(&request),
        ["nothing stores 2 bits/dim at d = 3; nearest is scale=0.25 with 8.000"]
    );
}

#[test]
fn transposed_and_broadcast_views_arrive_as_what_they_show() {
    let plugin = Plugin::linked(plugin()).unwrap();
    let method = &plugin.methods()[0];
    let pool = pool();
    let caller = caller(&pool, &|_, _| true);
    let x = Array2::from_shape_fn((40, 3), |(i, j)| ((i * 5 + j * 3) % 11) as f32);
    let mut lattice = method.create(&Config::new(), SPACE).unwrap();
    lattice.fit(x.view(), &caller).unwrap();
    let codes = |x: ArrayView2<'_, f32>| {
        let mut codes = vec![0; 3 * x.nrows()];
        lattice.compress(x, 3, &caller, &mut codes).unwrap();
        codes
    };
    let columns_first = x.t().as_standard_layout().into_owned();
    assert_eq!(codes(columns_first.t()), codes(x.view()));
    let row = x.row(7);
    let broadcast = row.broadcast((5, 3)).unwrap();
    assert_eq!(codes(broadcast), codes(broadcast.to_owned().view()));
}
