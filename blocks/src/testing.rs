//! Golden models and codes: what a released version of a method stored stays readable, and what it
//! computed stays the same to the bit.
//!
//! `tests/golden/<version>/<case>.bin` of a plugin holds the saved model, the codes of [`rows`], and
//! hashes of the decoded rows and of the scorer's estimates, as that version made them. They are never
//! edited. A new version adds a folder:
//!
//! ```sh
//! VQ_WRITE_GOLDEN=1 cargo test --release -p vq-pq --test golden
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use ndarray::Array2;
use std::path::Path;
use vq_plugin_api::abi::VqPlugin;
use vq_plugin_api::handle::{Caller, Instance, Method, Plugin};
use vq_plugin_api::params::Config;
use vq_plugin_api::{Metric, Space, Value};

/// Rows that golden methods are trained on.
const TRAIN: usize = 900;

/// Rows that are encoded: some seen in training, some not.
const ENCODED: usize = 150;

/// Queries that are scored.
const QUERIES: usize = 5;

/// Seed of every golden method.
const SEED: u64 = 42;

/// One configuration of a method.
pub struct Case {
    /// Name of the file.
    pub name: &'static str,
    /// Dimensions.
    pub dim: usize,
    /// How nearness is measured.
    pub metric: Metric,
    /// Parameters that differ from their defaults.
    pub params: &'static [(&'static str, Param)],
}

/// A value of a parameter, in a constant.
#[derive(Clone, Copy)]
pub enum Param {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A name.
    Name(&'static str),
}

impl Case {
    fn config(&self) -> Config {
        let value = |param: Param| match param {
            Param::Int(value) => Value::Int(value),
            Param::Float(value) => Value::Float(value),
            Param::Name(value) => Value::Str(value.to_owned()),
        };
        self.params.iter().map(|(name, param)| ((*name).to_owned(), value(*param))).collect()
    }

    fn create(&self, method: &Method) -> Instance {
        let space = Space { dim: self.dim, metric: self.metric };
        method.create(&self.config(), space).unwrap()
    }
}

/// Rows (n, dim) in nine clusters of unequal spread, off the origin; one dimension is constant and some
/// values repeat. Sums and products of small integers alone: the same on every machine.
pub fn rows(n: usize, dim: usize) -> Array2<f32> {
    let word = |i: u64, j: u64| {
        let mut z = ((i << 20) | j).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    // Nearly normal, in multiples of 1/128.
    let noise =
        |i, j| word(i, j).to_le_bytes().map(|byte| i32::from(byte) - 127).iter().sum::<i32>();
    Array2::from_shape_fn((n, dim), |(i, j)| {
        let (i, j) = (i as u64, j as u64);
        if j == 3 {
            return 2.5;
        }
        let centre = noise((1 << 30) | (i % 9), j) as f32 / 64.0;
        let spread = (1 + (i + j) % 4) as f32 / 256.0;
        3.0 + centre + spread * noise(i, j) as f32
    })
}

/// FNV-1a over the bits of the numbers.
fn hash(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|value| value.to_bits().to_le_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// What a fitted or loaded method makes of the rows.
struct Made {
    codes: Vec<u8>,
    decoded: u64,
    /// 0 without a scorer.
    estimates: u64,
}

impl Made {
    fn by(made: &Instance, caller: &Caller<'_>) -> Self {
        let (x, width) = (rows(ENCODED, made.space().dim), made.code_bytes());
        let mut codes = vec![0; ENCODED * width];
        made.compress(x.view(), width, caller, &mut codes).unwrap();
        Made::of(codes, made, caller)
    }

    fn of(codes: Vec<u8>, made: &Instance, caller: &Caller<'_>) -> Self {
        let matrix = Array2::from_shape_vec((ENCODED, made.code_bytes()), codes.clone()).unwrap();
        let mut decoded = vec![0.0; ENCODED * made.space().dim];
        made.decompress(matrix.view(), caller, &mut decoded).unwrap();
        let estimates = made.scorer().map_or(0, |scorer| {
            let queries = rows(TRAIN + QUERIES, made.space().dim);
            let queries = queries.view().split_at(ndarray::Axis(0), TRAIN).1;
            let mut packed = vec![0; scorer.packed_bytes(ENCODED).unwrap()];
            scorer.pack(matrix.view(), caller, &mut packed).unwrap();
            let mut estimates = vec![0.0; QUERIES * ENCODED];
            scorer.score(queries, &packed, ENCODED, caller, &mut estimates, None).unwrap();
            hash(&estimates)
        });
        Made { codes, decoded: hash(&decoded), estimates }
    }

    fn to_bytes(&self, model: &[u8]) -> Vec<u8> {
        let lengths = [model.len() as u64, self.codes.len() as u64, self.decoded, self.estimates];
        let mut bytes: Vec<u8> = lengths.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(model);
        bytes.extend(&self.codes);
        bytes
    }
}

/// A golden file.
struct Golden {
    model: Vec<u8>,
    made: Made,
}

impl Golden {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (words, rest) = bytes.split_at(32);
        let word = |i: usize| u64::from_le_bytes(words.as_chunks().0[i]);
        let (model, codes) = rest.split_at(word(0) as usize);
        assert_eq!(codes.len() as u64, word(1), "{}", path.display());
        let made = Made { codes: codes.to_vec(), decoded: word(2), estimates: word(3) };
        Golden { model: model.to_vec(), made }
    }
}

/// Checks the one method of `plugin` against the golden files in `folder`, those of every version; those
/// of the newest also by training again, on 1, 2 and 3 threads.
pub fn check_golden(plugin: &'static VqPlugin, folder: &str, cases: &[Case]) {
    check_golden_but(plugin, folder, cases, &[]);
}

/// As [`check_golden`]; of the files `recoded`, each `version/case`, codes are read and not made again: a
/// later version chooses others that are as good.
pub fn check_golden_but(plugin: &'static VqPlugin, folder: &str, cases: &[Case], recoded: &[&str]) {
    let method = Plugin::linked(plugin).unwrap().methods()[0].clone();
    let newest = method.about().version.clone();
    let newest_folder = Path::new(folder).join(&newest);
    let write = std::env::var_os("VQ_WRITE_GOLDEN").is_some() && !newest_folder.exists();
    let on = |threads: usize, run: &dyn Fn(&Caller<'_>)| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        run(&Caller { threads, seed: SEED, log: &|_, _| (), progress: &|_, _| true, pool: &pool });
    };
    for case in cases {
        for threads in 1..=3 {
            on(threads, &|caller| {
                let mut fitted = case.create(&method);
                fitted.fit(rows(TRAIN, case.dim).view(), caller).unwrap();
                let model = fitted.save().unwrap().unwrap();
                let made = Made::by(&fitted, caller);
                let path = newest_folder.join(case.name).with_extension("bin");
                if write && threads == 1 {
                    std::fs::create_dir_all(&newest_folder).unwrap();
                    std::fs::write(&path, made.to_bytes(&model)).unwrap();
                }
                let golden = Golden::read(&path);
                assert!(golden.model == model, "{}: another model on {threads} threads", case.name);
                assert_same(&golden.made, &made, case.name, threads);
            });
        }
    }
    for version in std::fs::read_dir(folder).unwrap() {
        let version = version.unwrap().path();
        for case in cases {
            let path = version.join(case.name).with_extension("bin");
            if !path.exists() {
                // A case that came after this version.
                assert_ne!(version, newest_folder, "{} is missing", path.display());
                continue;
            }
            let golden = Golden::read(&path);
            on(2, &|caller| {
                let mut loaded = case.create(&method);
                loaded.load(&golden.model).unwrap();
                let read_only = recoded.iter().any(|file| path.with_extension("").ends_with(file));
                let made = if read_only {
                    Made::of(golden.made.codes.clone(), &loaded, caller)
                } else {
                    Made::by(&loaded, caller)
                };
                assert_same(&golden.made, &made, case.name, 2);
                assert!(loaded.save().unwrap().unwrap() == golden.model, "{}", case.name);
            });
        }
    }
}

fn assert_same(golden: &Made, made: &Made, name: &str, threads: usize) {
    assert!(golden.codes == made.codes, "{name}: other codes on {threads} threads");
    assert_eq!(golden.decoded, made.decoded, "{name}: other decoded rows on {threads} threads");
    assert_eq!(golden.estimates, made.estimates, "{name}: other estimates on {threads} threads");
}
