//! A method of layers: [`Residual`] behind parameters of its own.

use super::Residual;
use crate::scan::{ByTables, Tables};
use crate::{Training, rate, scan_by_tables};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::marker::PhantomData;
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::params::Params;
use vq_plugin_api::{Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space};

/// What tells one method of layers from another; [`Layered`] is the quantizer.
pub trait LayerMethod: 'static {
    /// Its parameters, `splits`, `layers` and `bits` among them.
    type Params: Params;

    /// Who it is.
    const METHOD: Method;

    /// Most layers of a sub-space that answer a rate: of the recommended answer, and of the other.
    const MOST_LAYERS: [usize; 2];

    /// The layers that `params` ask for in `dim` dimensions.
    ///
    /// # Errors
    /// They cannot be in so many dimensions.
    fn layers(params: Self::Params, dim: usize) -> Result<ToLearn, Error>;
}

/// Layers that are not fitted, and how they will be.
pub struct ToLearn {
    /// The layers.
    pub residual: Residual,
    /// How each is learned.
    pub training: Training,
    /// Rounds of moving the centroids of all together, after the last.
    pub joint: usize,
}

/// The quantizer of the method `M`.
pub struct Layered<M> {
    residual: Residual,
    training: Training,
    joint: usize,
    metric: Metric,
    method: PhantomData<fn() -> M>,
}

impl<M: LayerMethod> Quantizer for Layered<M> {
    type Params = M::Params;
    const METHOD: Method = M::METHOD;

    fn create(params: M::Params, Space { dim, metric, .. }: Space) -> Result<Self, Error> {
        let ToLearn { residual, training, joint } = M::layers(params, dim)?;
        Ok(Layered { residual, training, joint, metric, method: PhantomData })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let progress = |done: f32, stage: &str| ctx.progress(done, stage);
        self.residual.fit(train, self.training, self.joint, ctx.seed(), &progress)
    }

    fn code_bytes(&self) -> usize {
        self.residual.code_bytes()
    }

    fn model_bytes(&self) -> Option<u64> {
        Some(self.residual.model_bytes())
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.residual.encode(x, codes, ctx)
    }

    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.residual.decode(codes, x, ctx)
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(self.residual.save(ModelWriter::new()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        self.residual.load(&mut reader)?;
        reader.finish()
    }

    /// A rate is answered by as many layers of eight bits, or of those that the user fixed, as its budget
    /// holds, in as few sub-spaces as hold them, few in each and then more; the default grid is the first answer
    /// to its rates.
    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        rate::expand_layers::<Self>(M::MOST_LAYERS, request, sink)
    }
}

impl<M: LayerMethod> ByTables for Layered<M> {
    fn metric(&self) -> Metric {
        self.metric
    }

    fn tables(&self, query: &[f32]) -> Tables {
        self.residual.tables(query, self.metric)
    }

    fn packed_bytes(&self) -> usize {
        self.residual.packed_bytes(self.metric)
    }

    fn pack(
        &self,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        self.residual.pack(codes, self.metric, packed, ctx)
    }
}

scan_by_tables!([M: LayerMethod] Layered<M>);
