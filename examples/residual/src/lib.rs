//! Residual quantization: x̂ = C₁[i₁] + … + C_L[i_L], each layer C a k-means of what the layers
//! before it left. Chen, Guan & Wang, 2010.
#![forbid(unsafe_code)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use vq_plugin_api::extension::search::nearer;
use vq_plugin_api::{
    Context, Error, Hits, Method, Metric, Packed, Quantizer, Scorer, Search, Space, Value,
    export_plugin, params,
};

/// Centroids of a layer: an index is one byte.
const K: usize = 256;
/// Rows between two looks at whether to stop: some tens of milliseconds.
const BLOCK: usize = 4096;

params! {
    /// Parameters of residual quantization.
    pub struct Layers {
        /// Layers of 256 centroids; each stores one byte.
        layers: usize = 4, min = 1, max = 64, grid = [2, 4, 8];
        /// Rounds of k-means in each layer.
        iterations: usize = 10, min = 1, max = 1000;
    }
}

/// The quantizer; `centroids` (layers, d, K) has a centroid in each column.
pub struct Residual {
    iterations: usize,
    metric: Metric,
    centroids: Array3<f32>,
}

impl Quantizer for Residual {
    type Params = Layers;
    const METHOD: Method = Method::new("residual", "Residual")
        .version(env!("CARGO_PKG_VERSION"))
        .description(env!("CARGO_PKG_DESCRIPTION"))
        .paper("Chen, Guan, Wang, Approximate Nearest Neighbor Search by Residual Vector Quantization, 2010")
        .license(env!("CARGO_PKG_LICENSE"));

    fn create(params: Layers, space: Space) -> Result<Self, Error> {
        if params.layers > 4 * space.dim {
            let reason = format!("{} bytes are more than {} f32 take", params.layers, space.dim);
            return Err(Error::param("layers", reason));
        }
        let centroids = Array3::zeros((params.layers, space.dim, K));
        Ok(Residual { iterations: params.iterations, metric: space.metric, centroids })
    }

    fn rate_axes(space: Space, bits_per_dim: f64) -> Vec<(&'static str, Vec<Value>)> {
        let layers = (bits_per_dim * space.dim as f64 / 8.0).round();
        vec![("layers", vec![Value::Int(layers as i64)])]
    }

    fn fit(&mut self, train: ArrayView2<f32>, ctx: &Context) -> Result<(), Error> {
        if train.is_empty() || !train.iter().all(|x| x.abs() < 1e15) {
            return Err(Error::failed("training needs rows of finite numbers below 1e15"));
        }
        let mut random = ChaCha8Rng::seed_from_u64(ctx.seed());
        let mut rows = train.to_owned(); // less the layers so far
        let mut index = Array2::zeros((rows.nrows(), 1));
        let rounds = (self.code_bytes() * self.iterations) as f32;
        for (layer, mut book) in self.centroids.outer_iter_mut().enumerate() {
            for mut centroid in book.columns_mut() {
                centroid.assign(&random_row(rows.view(), &mut random));
            }
            for round in 0..=self.iterations {
                let done = (layer * self.iterations + round) as f32 / rounds;
                let centroids = book.view();
                ctx.par_blocks(rows.view(), index.view_mut(), BLOCK, |rows, mut index| {
                    ctx.progress(done, "k-means")?; // an error when the host wants to stop
                    for (row, index) in rows.outer_iter().zip(&mut index) {
                        *index = nearest(centroids, row);
                    }
                    Ok(())
                })?;
                if round < self.iterations {
                    move_to_means(book.view_mut(), rows.view(), &index, &mut random);
                }
            }
            for (mut row, index) in rows.outer_iter_mut().zip(&index) {
                row -= &book.column(usize::from(*index));
            }
        }
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        self.centroids.shape()[0]
    }

    fn compress(
        &self,
        x: ArrayView2<f32>,
        codes: ArrayViewMut2<u8>,
        ctx: &Context,
    ) -> Result<(), Error> {
        ctx.par_rows(x, codes, |x, code| {
            let mut left = Array1::from_vec(x.to_vec());
            for (book, index) in self.centroids.outer_iter().zip(code) {
                *index = nearest(book, left.view());
                left -= &book.column(usize::from(*index));
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
            x.fill(0.0);
            for (book, index) in self.centroids.outer_iter().zip(code) {
                for (x, c) in x.iter_mut().zip(book.column(usize::from(*index))) {
                    *x += c;
                }
            }
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        Ok(ModelWriter::new().f32s(self.centroids.iter().copied()).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let numbers = reader.f32s(self.centroids.len())?; // refuses what is damaged
        self.centroids.iter_mut().zip(numbers).for_each(|(c, number)| *c = number);
        reader.finish()
    }
}

/// ⟨q, c⟩ of every centroid (layers, K), and ‖q‖².
pub struct Tables {
    products: Array2<f32>,
    norm: f32,
}

/// ⟨q, x̂⟩ = Σ ⟨q, c⟩ and ‖q − x̂‖² = ‖q‖² − 2⟨q, x̂⟩ + ‖x̂‖². What is packed is each code and, behind it,
/// its ‖x̂‖², which follows from the code and is not stored.
impl Scorer for Residual {
    type Query = Tables;
    const PACKED: bool = true;

    fn packed_bytes(&self) -> usize {
        self.code_bytes() + size_of::<f32>()
    }

    fn pack(
        &self,
        codes: ArrayView2<u8>,
        packed: ArrayViewMut2<u8>,
        ctx: &Context,
    ) -> Result<(), Error> {
        ctx.par_rows(codes, packed, |code, packed| {
            let mut x = Array1::<f32>::zeros(self.centroids.dim().1);
            for (book, index) in self.centroids.outer_iter().zip(code) {
                x += &book.column(usize::from(*index));
            }
            let (index, norm) = packed.split_at_mut(code.len());
            index.copy_from_slice(code);
            norm.copy_from_slice(&x.dot(&x).to_le_bytes());
        })
    }

    fn query(&self, query: ArrayView1<f32>, _ctx: &Context) -> Result<Tables, Error> {
        let mut products = Array2::zeros((self.code_bytes(), K));
        for (mut row, book) in products.outer_iter_mut().zip(self.centroids.outer_iter()) {
            row.assign(&query.dot(&book));
        }
        Ok(Tables { products, norm: query.dot(&query) })
    }

    fn score(
        &self,
        query: &Tables,
        codes: ArrayView2<u8>,
        estimates: &mut [f32],
        _bounds: Option<&mut [f32]>, // claims none
    ) -> Result<(), Error> {
        for (code, estimate) in codes.outer_iter().zip(estimates) {
            let (index, norm) = code.split_at(Axis(0), self.code_bytes());
            let norm = f32::from_le_bytes([norm[0], norm[1], norm[2], norm[3]]);
            let terms = index.iter().zip(query.products.outer_iter());
            let product: f32 = terms.map(|(i, products)| products[usize::from(*i)]).sum();
            *estimate = match self.metric {
                Metric::L2 => (query.norm - 2.0 * product + norm).max(0.0), // rounding aside
                Metric::Ip | Metric::Cosine => product,
            };
        }
        Ok(())
    }
}

/// The best estimates of [`Scorer`]. A search worth offering rules most codes out without estimating
/// them, as `vq-blocks` does with `scan`.
impl Search for Residual {
    const RANKS_ESTIMATES: bool = true;

    fn packed_bytes(&self, n: usize) -> usize {
        n * Scorer::packed_bytes(self)
    }

    fn pack(&self, codes: ArrayView2<u8>, packed: &mut [u8], ctx: &Context) -> Result<(), Error> {
        let shape = (codes.nrows(), Scorer::packed_bytes(self));
        let packed = ArrayViewMut2::from_shape(shape, packed).expect("as many as asked for");
        Scorer::pack(self, codes, packed, ctx)
    }

    fn search(
        &self,
        queries: ArrayView2<f32>,
        codes: Packed,
        hits: Hits,
        ctx: &Context,
    ) -> Result<(), Error> {
        let (n, k) = (codes.n, hits.k().min(codes.n));
        let shape = (n, Scorer::packed_bytes(self));
        let codes = ArrayView2::from_shape(shape, codes.bytes).expect("as many as asked for");
        let order = |a: &(f32, u64), b: &(f32, u64)| nearer(self.metric, *a, *b);
        hits.fill_each(queries, |query| {
            let mut estimates = vec![0.0; n];
            self.score(&self.query(query, ctx)?, codes, &mut estimates, None)?;
            let mut best: Vec<(f32, u64)> = estimates.into_iter().zip(0..).collect();
            best.select_nth_unstable_by(k - 1, order); // neither n nor k is 0
            best.truncate(k);
            best.sort_unstable_by(order);
            Ok(best)
        })
    }
}

/// The centroid of `book` (d, K) nearest to `row`; the first where all distances are NaN.
fn nearest(book: ArrayView2<f32>, row: ArrayView1<f32>) -> u8 {
    let mut distance = [0.0; K]; // of all side by side, as vector instructions like it
    for (x, values) in row.iter().zip(book.outer_iter()) {
        for (distance, c) in distance.iter_mut().zip(values) {
            *distance += (x - c) * (x - c);
        }
    }
    (1..K).fold(0, |best, i| if distance[i] < distance[best] { i } else { best }) as u8
}

/// Moves each centroid to the mean of the rows that have its index, or, where there are none, to
/// a random row. Summed in the order of the rows, so that threads change nothing.
fn move_to_means(
    mut book: ArrayViewMut2<f32>,
    rows: ArrayView2<f32>,
    index: &Array2<u8>,
    random: &mut ChaCha8Rng,
) {
    let (mut sums, mut counts) = (Array2::<f64>::zeros((K, rows.ncols())), [0u32; K]);
    for (row, index) in rows.outer_iter().zip(index) {
        counts[usize::from(*index)] += 1;
        let mut sum = sums.row_mut(usize::from(*index));
        sum.zip_mut_with(&row, |sum, x| *sum += f64::from(*x));
    }
    for ((mut centroid, sum), count) in book.columns_mut().into_iter().zip(sums.rows()).zip(counts)
    {
        match count {
            0 => centroid.assign(&random_row(rows, random)),
            n => centroid.zip_mut_with(&sum, |c, sum| *c = (sum / f64::from(n)) as f32),
        }
    }
}

fn random_row<'a>(rows: ArrayView2<'a, f32>, random: &mut ChaCha8Rng) -> ArrayView1<'a, f32> {
    rows.index_axis_move(Axis(0), (random.next_u64() % rows.nrows() as u64) as usize)
}

export_plugin!(Residual: Scorer + Search);

#[cfg(test)]
mod tests {
    use super::*;
    use vq_plugin_api::conformance;

    const SPACE: Space = Space { dim: 6, metric: Metric::L2 };

    /// 2,000 rows without a pattern that k-means could know.
    fn rows() -> Array2<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        Array2::from_shape_simple_fn((2000, SPACE.dim), || random.next_u32() as f32 / 2e9 - 1.0)
    }

    fn fitted(layers: usize, x: &Array2<f32>, ctx: &Context) -> Residual {
        let mut method = Residual::create(Layers { layers, iterations: 5 }, SPACE).unwrap();
        method.fit(x.view(), ctx).unwrap();
        method
    }

    fn decoded(method: &Residual, x: &Array2<f32>, ctx: &Context) -> Array2<f32> {
        let mut codes = Array2::zeros((x.nrows(), method.code_bytes()));
        let mut y = Array2::zeros(x.raw_dim());
        method.compress(x.view(), codes.view_mut(), ctx).unwrap();
        method.decompress(codes.view(), y.view_mut(), ctx).unwrap();
        y
    }

    #[test]
    fn the_plugin_keeps_its_contract() {
        conformance::check(plugin()).assert_clean();
    }

    #[test]
    fn each_layer_leaves_less_than_half_of_the_error_that_was_left() {
        let (x, ctx) = (rows(), Context::detached(1, 7));
        let errors = [1, 2, 3].map(|layers| {
            let y = decoded(&fitted(layers, &x, &ctx), &x, &ctx);
            (&x - &y).mapv(|e| f64::from(e * e)).sum()
        });
        assert!(errors.windows(2).all(|pair| pair[1] < pair[0] / 2.0), "{errors:?}");
    }

    #[test]
    fn the_seed_alone_decides_the_model() {
        let x = rows();
        let model =
            |threads, seed| fitted(2, &x, &Context::detached(threads, seed)).save().unwrap();
        assert_eq!(model(1, 7), model(2, 7));
        assert_ne!(model(1, 7), model(1, 8));
    }

    #[test]
    fn a_restored_model_decodes_to_the_same_bits() {
        let (x, ctx) = (rows(), Context::detached(1, 7));
        let method = fitted(2, &x, &ctx);
        let mut restored = Residual::create(Layers { layers: 2, iterations: 5 }, SPACE).unwrap();
        restored.load(&method.save().unwrap()).unwrap();
        assert_eq!(decoded(&method, &x, &ctx), decoded(&restored, &x, &ctx));
        assert!(restored.load(&method.save().unwrap()[1..]).is_err());
    }
}
