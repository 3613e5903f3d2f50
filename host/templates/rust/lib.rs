//! x̂ = m + s·round((x − m) / s): mean m and step s of each dimension, one byte per coordinate.
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::ndarray::{ArrayView1, ArrayView2 as Rows, ArrayViewMut2 as RowsMut, Axis};
use vq_plugin_api::{
    Context, Error, Method, Metric, Quantizer, Scorer, Space, export_plugin, params,
};

params! {
    pub struct {{type}}Params {
        /// Standard deviations of a dimension that one step spans.
        step: f32 = 0.05, min = 1e-6, max = 1e6, grid = [0.025, 0.05, 0.1];
    }
}

/// `step` as told to `create`; (m, s) of each dimension as learned by `fit`.
pub struct {{type}}Quantizer {
    step: f32,
    metric: Metric,
    scale: Vec<(f32, f32)>,
}

impl Quantizer for {{type}}Quantizer {
    type Params = {{type}}Params;
    const METHOD: Method = Method::new("{{id}}", "{{title}}")
        .version(env!("CARGO_PKG_VERSION"))
        .description(env!("CARGO_PKG_DESCRIPTION"))
        .license(env!("CARGO_PKG_LICENSE"));

    fn create(params: Self::Params, space: Space) -> Result<Self, Error> {
        let (step, scale) = (params.step, vec![(0.0, 1.0); space.dim]);
        Ok(Self { step, metric: space.metric, scale })
    }

    fn fit(&mut self, x: Rows<f32>, _: &Context) -> Result<(), Error> {
        let m = x.mean_axis(Axis(0)).ok_or(Error::failed("no rows"))?;
        let s = x.std_axis(Axis(0), 0.0) * self.step;
        let finite = |(m, s): (&f32, &f32)| (m.clamp(-1e38, 1e38), s.min(1e30) + 1e-12);
        self.scale = m.iter().zip(&s).map(finite).collect(); // and s is never 0
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.scale.len()
    }

    fn compress(&self, x: Rows<f32>, codes: RowsMut<u8>, ctx: &Context) -> Result<(), Error> {
        ctx.par_rows(x, codes, |x, code| {
            for ((x, (m, s)), code) in x.iter().zip(&self.scale).zip(code) {
                *code = ((x - m) / s).round() as i8 as u8; // `as i8` saturates
            }
        })
    }

    fn decompress(&self, codes: Rows<u8>, x: RowsMut<f32>, ctx: &Context) -> Result<(), Error> {
        ctx.par_rows(codes, x, |code, x| {
            for ((code, (m, s)), x) in code.iter().zip(&self.scale).zip(x) {
                *x = m + s * f32::from(*code as i8);
            }
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(ModelWriter::new().f32s(self.scale.iter().flat_map(|(m, s)| [*m, *s])).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let flat = reader.f32s(2 * self.scale.len())?; // refuses what is damaged
        self.scale = flat.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        reader.finish()
    }
}

/// Distances straight from codes, without decoding: the headline recall is of these.
impl Scorer for {{type}}Quantizer {
    /// For each dimension what a code is multiplied by, and what is left: (s, q - m) or (q s, q m).
    type Query = Vec<(f64, f64)>;

    fn query(&self, query: ArrayView1<f32>, _: &Context) -> Result<Self::Query, Error> {
        let terms = query.iter().zip(&self.scale).map(|(q, (m, s))| match self.metric {
            Metric::L2 => (f64::from(*s), f64::from(*q) - f64::from(*m)),
            Metric::Ip | Metric::Cosine => (f64::from(*q) * f64::from(*s), f64::from(*q * *m)),
        });
        Ok(terms.collect())
    }

    fn score(
        &self,
        query: &Self::Query,
        codes: Rows<u8>,
        estimates: &mut [f32],
        _bounds: Option<&mut [f32]>, // claims none
    ) -> Result<(), Error> {
        for (code, estimate) in codes.outer_iter().zip(estimates) {
            let terms = query.iter().zip(code).map(|((s, q), code)| (s * f64::from(*code as i8), q));
            let sum: f64 = match self.metric {
                Metric::L2 => terms.map(|(x, q)| (q - x) * (q - x)).sum(),
                Metric::Ip | Metric::Cosine => terms.map(|(x, q)| q + x).sum(),
            };
            *estimate = sum as f32;
        }
        Ok(())
    }
}

export_plugin!({{type}}Quantizer: Scorer);
