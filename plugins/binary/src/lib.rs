//! Binary codes: a bit for each coordinate of a centred row, as it is, turned at random, or turned so that
//! signs err least (`itq`); or 1.5 and 2 bits by a thermometer of two thresholds. No scalars: rows are read
//! as the mean of the training rows of each state, and estimates are a linear function of the Hamming
//! distance of code and query, fitted in training.
//!
//! Gong, Lazebnik, Gordo, Perronnin, "Iterative Quantization: A Procrustean Approach to Learning Binary Codes
//! for Large-Scale Image Retrieval", 2013; Charikar, "Similarity estimation techniques from rounding
//! algorithms", 2002; 1.5 and 2 bits are Qdrant's (1.15, 2025).
#![forbid(unsafe_code)]

mod itq;
mod states;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use states::States;
use vq_blocks::rotated::{Centring, Frame, Turn};
use vq_blocks::scan::{ByTables, Tables};
use vq_blocks::{rate, scan_by_tables};
use vq_kernels::Draw;
use vq_kernels::bits::hamming;
use vq_kernels::distance::{dot, l2_sq};
use vq_plugin_api::model::{ModelReader, ModelWriter};
use vq_plugin_api::quantizer::product;
use vq_plugin_api::{
    Context, Error, GridRequest, GridSink, Method, Metric, Quantizer, Space, Value, choices,
    export_plugin, params,
};

choices! {
    /// What is done before signs are taken.
    pub enum Rotate { None = "none", Random = "random", Itq = "itq" }
}

choices! {
    /// Bits per coordinate.
    pub enum Levels { One = "1", OneAndHalf = "1.5", Two = "2" }
}

params! {
    /// Parameters of binary codes.
    pub struct BinaryParams {
        /// Bits per dimension, met by coding fewer coordinates; 0: all coordinates.
        rate: f64 = 0.0, min = 0.0, max = 16.0;
        /// Bits of each coordinate.
        levels: Levels = Levels::One;
        /// What is done before signs are taken.
        rotation: Rotate = Rotate::None;
        /// What rows are centred on.
        center: Centring = Centring::Mean;
        /// Rounds of iterative quantization.
        rounds: u32 = 50, min = 0, max = 1000;
    }
}

/// Binary codes; nothing fitted before training.
pub struct Binary {
    params: BinaryParams,
    space: Space,
    /// Coordinates that are coded.
    coded: usize,
    fitted: Option<Fitted>,
}

struct Fitted {
    frame: Frame,
    states: States,
    line: Line,
}

/// An estimate is `constant + per_bit·H`, H being the Hamming distance.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    constant: f32,
    per_bit: f32,
}

/// Rows of one task.
const BLOCK: usize = 256;

/// Training rows whose pairs the line is fitted to.
const PAIRED: usize = 512;

/// `per_bit` has this many binary digits, and `constant` is a multiple of an eighth of it: sums of both are exact,
/// and equal distances give equal estimates.
const DIGITS: i32 = 10;

impl Line {
    /// Least squares over (H, value), for estimates that fall or grow with H as the metric says.
    fn fit(pairs: &[(f64, f64)], metric: Metric, bits: usize) -> Self {
        let n = pairs.len().max(1) as f64;
        let mean_h = pairs.iter().map(|(h, _)| h).sum::<f64>() / n;
        let mean = pairs.iter().map(|(_, value)| value).sum::<f64>() / n;
        let (mut hh, mut hv) = (0.0, 0.0);
        for (h, value) in pairs {
            hh += (h - mean_h).powi(2);
            hv += (h - mean_h) * (value - mean);
        }
        let sign = if metric == Metric::L2 { 1.0 } else { -1.0 };
        let slope = if hh > 0.0 { hv / hh } else { 0.0 };
        // Data that says nothing, or the contrary, must not turn the order round.
        let slope = if slope * sign > 0.0 { slope } else { sign * (1e-3 * mean.abs()).max(1e-6) };
        // So large that no sum leaves the numbers, so small that an eighth is a normal number.
        let most = f64::from(f32::MAX) / (4.0 * bits as f64 + 64.0);
        let size = slope.abs().clamp(1e-30, most);
        let unit = (size.log2().floor() as i32 - DIGITS + 1) as f64;
        let per_bit = sign * (size / unit.exp2()).round() * unit.exp2();
        let eighth = per_bit / 8.0;
        let constant = mean - per_bit * mean_h;
        let constant = (constant / eighth).round() * eighth;
        let limit = f64::from(f32::MAX) / 4.0;
        Line { constant: constant.clamp(-limit, limit) as f32, per_bit: per_bit as f32 }
    }
}

impl Binary {
    fn fitted(&self) -> Result<&Fitted, Error> {
        self.fitted.as_ref().ok_or_else(|| Error::failed("not fitted"))
    }

    /// Bits of `coded` coordinates.
    fn bits(coded: usize, levels: Levels) -> usize {
        match levels {
            Levels::One => coded,
            Levels::OneAndHalf => coded + coded.div_ceil(2),
            Levels::Two => 2 * coded,
        }
    }

    fn encode(&self, fitted: &Fitted, x: ArrayView2<'_, f32>, mut codes: ArrayViewMut2<'_, u8>) {
        let z = fitted.frame.apply(x);
        let mut code = vec![0; self.code_bytes()];
        for (z, mut to) in z.outer_iter().zip(codes.outer_iter_mut()) {
            fitted.states.encode(&z.to_vec(), &mut code);
            to.iter_mut().zip(&code).for_each(|(to, byte)| *to = *byte);
        }
    }

    /// Hamming distances and values of the metric of all pairs of a sample of the rows.
    fn pairs(&self, fitted: &Fitted, train: ArrayView2<'_, f32>, seed: u64) -> Vec<(f64, f64)> {
        let rows: Vec<usize> = Draw::new(seed).strata(train.nrows(), PAIRED).collect();
        let sample = train.select(Axis(0), &rows);
        let mut codes = Array2::zeros((sample.nrows(), self.code_bytes()));
        self.encode(fitted, sample.view(), codes.view_mut());
        let rows: Vec<(Vec<f32>, Vec<u8>)> = sample
            .outer_iter()
            .zip(codes.outer_iter())
            .map(|(x, c)| (x.to_vec(), c.to_vec()))
            .collect();
        let mut pairs = Vec::new();
        for (i, (a, code)) in rows.iter().enumerate() {
            for (b, other) in &rows[..i] {
                let value = if self.space.metric == Metric::L2 { l2_sq(a, b) } else { dot(a, b) };
                pairs.push((f64::from(hamming(code, other)), value));
            }
        }
        pairs
    }
}

impl Quantizer for Binary {
    type Params = BinaryParams;
    const METHOD: Method = Method::new("binary", "Binary codes")
        .version(env!("CARGO_PKG_VERSION"))
        .description(
            "Signs of rows, plain, turned at random or by ITQ; thermometers of 1.5 and 2 bits",
        )
        .paper(
            "Gong, Lazebnik, Gordo, Perronnin, Iterative Quantization, 2013; Charikar, Similarity \
             estimation techniques from rounding algorithms, 2002",
        )
        .authors("vq-host authors")
        .license(env!("CARGO_PKG_LICENSE"))
        .tags(
            "binary,rotation,scorer,search,\
             pgvector=\"binary_quantize\" if rate=0 rotation=none levels=1 center=none,\
             Qdrant=\"binary, one_bit\" if rate=0 rotation=none levels=1 center=none,\
             Qdrant=\"binary, one_and_half_bits\" if rate=0 rotation=none levels=1.5 center=mean,\
             Qdrant=\"binary, two_bits\" if rate=0 rotation=none levels=2 center=mean,\
             FAISS=\"ITQ,LSH\" if rate=0 rotation=itq levels=1 center=mean",
        );

    fn create(params: BinaryParams, space: Space) -> Result<Self, Error> {
        let BinaryParams { rate, levels, .. } = params;
        let mut coded = space.dim;
        if rate > 0.0 {
            let bytes = rate::budget(space.dim, rate);
            while Self::bits(coded, levels) > 8 * bytes {
                coded -= 1;
            }
            if coded == 0 {
                let dim = space.dim;
                let reason = format!("no bit fits the 0 bytes of {rate} bits/dim at d = {dim}");
                return Err(Error::param("rate", reason));
            }
            rate::fills(Self::bits(coded, levels).div_ceil(8), space.dim, rate)
                .map_err(|reason| Error::param("rate", reason))?;
        }
        Ok(Binary { params, space, coded, fitted: None })
    }

    fn fit(&mut self, train: ArrayView2<'_, f32>, ctx: &Context<'_>) -> Result<(), Error> {
        let BinaryParams { center, rotation, rounds, levels, .. } = self.params;
        let frame = match rotation {
            // Where not all are coded, those that vary most.
            Rotate::None => Frame::sorted(train, center)?,
            Rotate::Random => Frame::drawn(train, center, Turn::Hadamard, ctx.seed())?,
            Rotate::Itq => {
                itq::frame(train, center, (self.coded, rounds as usize), itq::HELD, ctx)?
            }
        };
        let states = States::learned(&frame, train, self.coded, levels);
        let unfitted = Line { constant: 0.0, per_bit: 0.0 };
        let mut fitted = Fitted { frame, states, line: unfitted };
        let pairs = self.pairs(&fitted, train, ctx.seed());
        fitted.line = Line::fit(&pairs, self.space.metric, Self::bits(self.coded, levels));
        self.fitted = Some(fitted);
        Ok(())
    }

    fn code_bytes(&self) -> usize {
        Self::bits(self.coded, self.params.levels).div_ceil(8)
    }

    fn model_bytes(&self) -> Option<u64> {
        let fitted = self.fitted.as_ref()?;
        Some(fitted.frame.model_bytes() + fitted.states.model_bytes() + 8)
    }

    fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        codes: ArrayViewMut2<'_, u8>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let fitted = self.fitted()?;
        ctx.par_blocks(x, codes, BLOCK, |x, codes| {
            self.encode(fitted, x, codes);
            Ok(())
        })
    }

    /// c + Pᵀ of the mean of each coordinate's state.
    fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let Fitted { frame, states, .. } = self.fitted()?;
        ctx.par_blocks(codes, x, BLOCK, |codes, x| {
            let mut rows = Array2::zeros(x.raw_dim());
            for (code, row) in codes.outer_iter().zip(rows.outer_iter_mut()) {
                states.decode(&code.to_vec(), row);
            }
            frame.restore(rows.view(), &vec![1.0; x.nrows()], x);
            Ok(())
        })
    }

    fn save(&self) -> Result<Vec<u8>, Error> {
        let Fitted { frame, states, line } = self.fitted()?;
        let model = states.save(frame.save(ModelWriter::new()));
        Ok(model.f32s([line.constant, line.per_bit]).finish())
    }

    fn load(&mut self, model: &[u8]) -> Result<(), Error> {
        let mut reader = ModelReader::new(model);
        let frame = Frame::load(self.space.dim, &mut reader)?;
        let states = States::load(self.space.dim, self.coded, self.params.levels, &mut reader)?;
        let line = reader.f32s(2)?;
        reader.finish()?;
        let line = Line { constant: line[0], per_bit: line[1] };
        self.fitted = Some(Fitted { frame, states, line });
        Ok(())
    }

    /// A rate is answered by the least bits per coordinate that reach it, unless they are named.
    fn expand_grid(request: &GridRequest, sink: &mut dyn GridSink) -> Result<(), Error> {
        let rates: Vec<f64> = match (request.axes.get("rate"), request.bits_per_dim) {
            (Some(rates), _) => rates.iter().filter_map(Value::as_f64).collect(),
            (None, Some(wanted)) => vec![wanted],
            (None, None) if request.axes.is_empty() => vec![1.0, 1.5, 2.0],
            (None, None) => return product::<Self>(request, sink),
        };
        for rate in rates {
            let mut one = request.clone();
            one.bits_per_dim = None;
            one.axes.insert("rate".to_owned(), vec![Value::Float(rate)]);
            let levels = if rate <= 1.0 {
                "1"
            } else if rate <= 1.5 {
                "1.5"
            } else {
                "2"
            };
            let levels = || vec![Value::Str(levels.to_owned())];
            one.axes.entry("levels".to_owned()).or_insert_with(levels);
            product::<Self>(&one, sink)?;
        }
        Ok(())
    }
}

impl ByTables for Binary {
    fn metric(&self) -> Metric {
        self.space.metric
    }

    /// Of four bits each: how many differ from the query's.
    fn tables(&self, query: &[f32]) -> Tables {
        let Some(Fitted { frame, states, line }) = &self.fitted else {
            // The host scores with what it fitted or loaded.
            return Tables::new(vec![0.0; 32 * self.code_bytes()], 2 * self.code_bytes(), 4);
        };
        let x = ArrayView2::from_shape((1, query.len()), query).expect("one row");
        let mut code = vec![0; self.code_bytes()];
        states.encode(&frame.apply(x).row(0).to_vec(), &mut code);
        let halves = code.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        let entries = halves.enumerate().flat_map(|(i, half)| {
            let constant = if i == 0 { line.constant } else { 0.0 };
            (0..16_u8).map(move |v| constant + line.per_bit * (v ^ half).count_ones() as f32)
        });
        Tables::new(entries.collect(), 2 * self.code_bytes(), 4)
    }
}

scan_by_tables!(Binary);
export_plugin!(Binary: Scorer + Search);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_that_of_least_squares_and_its_sums_are_exact() {
        let mut draw = Draw::new(1);
        let pairs: Vec<(f64, f64)> = (0..2000)
            .map(|_| {
                let h = draw.below(128) as f64;
                (h, 3.7 + 0.0123 * h + 0.1 * draw.normal())
            })
            .collect();
        let Line { constant, per_bit } = Line::fit(&pairs, Metric::L2, 128);
        assert!((per_bit / 0.0123 - 1.0).abs() < 0.01 && (constant - 3.7).abs() < 0.02);
        for h in 0..128 {
            let whole = f64::from(constant) + f64::from(per_bit) * f64::from(h);
            assert_eq!(f64::from(whole as f32), whole);
        }
        // Values that grow where they should fall.
        assert!(Line::fit(&pairs, Metric::Ip, 128).per_bit < 0.0);
        for pairs in
            [&[][..], &[(3.0, 1e38)], &[(3.0, 0.0), (3.0, 0.0)], &[(1.0, 0.0), (2.0, 1e39)]]
        {
            let Line { constant, per_bit } = Line::fit(pairs, Metric::L2, 128);
            assert!(constant.is_finite() && per_bit > 0.0 && per_bit.is_finite(), "{pairs:?}");
        }
    }
}
