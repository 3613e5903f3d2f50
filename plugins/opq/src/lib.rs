//! Optimized product quantization: `x̂ = c + Rᵀ·[c₁(i₁), …, c_m(i_m)]`, product quantization of rotated
//! rows, rotation and codebooks learned together: [`train`] over [`Product`] and [`Frame`].
//!
//! Ge, He, Ke, Sun, "Optimized Product Quantization for Approximate Nearest Neighbor Search", 2013.
#![forbid(unsafe_code)]

mod train;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2};
use vq_blocks::rotated::Frame;
use vq_blocks::scan::{self, Estimates, Tables};
use vq_blocks::{Product, Training, rate};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Quantizer, Scorer, Space, Value, export_plugin,
    params,
};

params! {
    /// Parameters of optimized product quantization.
    pub struct OpqParams {
        /// Sub-vectors; must divide the dimension.
        m: usize = 8, min = 1, grid = [8, 16, 32];
        /// Bits per sub-vector: each sub-space has 2^bits centroids.
        bits: u32 = 8, min = 1, max = 12, grid = [4, 8];
        /// Rounds of updating the rotation, each with one round of k-means.
        rounds: usize = 20, max = 10_000;
        /// Most rounds of k-means before and after those.
        iterations: usize = 25, min = 1, max = 10_000;
        /// Training rows used per centroid, a random sample where there are more.
        points_per_centroid: usize = 256, min = 1, max = 1_000_000;
    }
}

/// An optimized product quantizer.
pub struct Opq {
    rounds: usize,
    training: Training,
    space: Space,
    fitted: Fitted,
}

/// What training finds.
struct Fitted {
    /// None where the dimensions as they are err least: product quantization then.
    frame: Option<Frame>,
    product: Product,
}

impl Fitted {
    fn encode_block(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
    ) -> Result<(), Error> {
        match &self.frame {
            Some(frame) => self.product.encode_block(frame.apply(x).view(), codes),
            None => self.product.encode_block(x, codes),
        }
    }

    fn decode_block(
        &self,
        codes: ArrayView2<'_, u8>,
        mut x: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Error> {
        let Some(frame) = &self.frame else { return self.product.decode_block(codes, x) };
        let mut y = Array2::zeros(x.dim());
        self.product.decode_block(codes, y.view_mut())?;
        frame.restore(y.view(), &vec![1.0; y.nrows()], x.view_mut());
        Ok(())
    }
}

impl Quantizer for Opq {
    type Params = OpqParams;
    const METHOD: Method = Method::new("opq", "OPQ")
        .version(env!("CARGO_PKG_VERSION"))
        .description(
            "Optimized product quantization: a learned rotation, then k-means in sub-spaces",
        )
        .paper(
            "Ge, He, Ke, Sun, Optimized Product Quantization for Approximate Nearest Neighbor \
             Search, 2013",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags("product,codebook,k-means,rotation,scorer");

    fn create(params: OpqParams, space: Space) -> Result<Self, Error> {
        let OpqParams { m, bits, rounds, iterations, points_per_centroid } = params;
        let training = Training { iterations, points_per_centroid };
        let fitted = Fitted { frame: None, product: Product::new(space.dim, m, bits)? };
        Ok(Opq { rounds, training, space, fitted })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        self.fitted = train::fitted(self, train, ctx)?;
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.fitted.product.code_bytes()
    }

    fn model_bytes(&self) -> Option<u64> {
        let frame = self.fitted.frame.as_ref().map_or(0, Frame::model_bytes);
        Some(frame + self.fitted.product.model_bytes())
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        ctx.par_blocks(x, codes, Product::BLOCK, |x, codes| self.fitted.encode_block(x, codes))
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        ctx.par_blocks(codes, x, Product::BLOCK, |codes, x| self.fitted.decode_block(codes, x))
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        let model = self.fitted.product.save(ModelWriter::new());
        Ok(match &self.fitted.frame {
            Some(frame) => frame.save(model.u64(1)),
            None => model.u64(0),
        }
        .finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.fitted.product.load(&mut reader)?;
        self.fitted.frame = match reader.u64()? {
            0 => None,
            1 => Some(Frame::load(self.space.dim, &mut reader)?),
            other => return Err(Error::failed(format!("{other} is neither 0 nor 1 rotation"))),
        };
        reader.finish()
    }

    fn rate_axes(space: Space, _bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        rate::all_splits(space.dim)
    }

    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_splits::<Self>(request, sink)
    }
}

impl Opq {
    /// The tables of the rotated query: rotations keep distances.
    fn tables(&self, query: &[f32]) -> Tables {
        let Fitted { frame, product } = &self.fitted;
        match frame {
            Some(frame) => {
                let query = frame.query(query, self.space.metric);
                query.tables(product.tables(&query.z, self.space.metric))
            }
            None => product.tables(query, self.space.metric),
        }
    }
}

impl Scorer for Opq {
    type Query = Estimates;
    const PACKED: bool = true;

    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        mut packed: ArrayViewMut2<'_, u8>,
        _: &Context<'_>,
    ) -> Result<(), Error> {
        let packed = packed.as_slice_mut().ok_or_else(|| Error::failed("strided codes"))?;
        scan::pack(codes, packed);
        Ok(())
    }

    fn query(&self, query: ArrayView1<'_, f32>) -> Result<Estimates, Error> {
        Ok(self.tables(&query.to_vec()).estimates())
    }

    fn score(&self, query: &Estimates, codes: ArrayView2<'_, u8>, estimates: &mut [f32]) {
        let packed = codes.as_standard_layout();
        query.score(packed.as_slice().expect("the layout is standard"), estimates);
    }
}

export_plugin!(Opq: Scorer);
