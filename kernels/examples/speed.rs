//! Prints the speed of the kernels on this machine: `cargo run --release -p vq-kernels --example speed`.
#![expect(clippy::print_stdout, reason = "the output is the purpose")]

use std::convert::Infallible;
use std::time::Instant;

use ndarray::Array2;
use vq_kernels::bits::{Planes, hamming_to};
use vq_kernels::knn::{Distance, Knn};
use vq_kernels::lookup::interleave;
use vq_kernels::rotation::Rotation;
use vq_kernels::{KMeans, Lookup, Nearest, Panels, TopK, half, pack};

fn main() {
    println!("single thread, best of 31");
    for (d, k) in [
        (4, 256),
        (8, 16),
        (8, 256),
        (16, 256),
        (100, 256),
        (32, 256),
        (48, 256),
        (128, 256),
        (128, 1024),
        (384, 256),
    ] {
        let n = (1 << 27) / (d * k);
        let (x, rows) = (noise(n, d, 1), noise(k, d, 2));
        let panels = Panels::for_l2(rows.view());
        let flops = 2.0 * (n * d * k) as f64;
        let (mut index, mut score) = (vec![0; n], vec![0.0; n]);
        let nearest = best_of_31(|| panels.nearest(x.view(), &mut index, &mut score));
        let block = x.slice(ndarray::s![..n.min(1024), ..]);
        let mut scores = Array2::zeros((block.nrows(), k));
        let all = best_of_31(|| panels.scores(block, scores.view_mut()));
        let filtered = Nearest::for_l2(rows.view());
        let assign = best_of_31(|| filtered.assign(x.view(), &mut index));
        println!(
            "d {d:4} k {k:5}   Gflop/s: nearest {:6.1}   assign {:6.1}   scores {:6.1}",
            flops / nearest / 1e9,
            flops / assign / 1e9,
            flops / all / 1e9 * block.nrows() as f64 / n as f64
        );
    }
    let scores = noise(1, 1_000_000, 3);
    let top = best_of_31(|| {
        let mut top = TopK::new(100);
        top.push_row(0, scores.as_slice().expect("one row"));
        assert_eq!(top.into_sorted().len(), 100);
    });
    println!("top 100 of a million scores: {:.3} ms", top * 1e3);
    let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    for (d, queries) in [(100, 1000), (128, 1000), (128, 4000), (768, 1000)] {
        let n = 1 << 16;
        let (rows, x) = (spread(n, d, 7), spread(queries, d, 8));
        let began = Instant::now();
        single.install(|| {
            let mut knn = Knn::new(x.view(), Distance::L2Sq, 10, &vec![0.0; d]);
            knn.push(0, rows.view());
            assert_eq!(knn.finish().len(), queries);
        });
        let spent = began.elapsed().as_secs_f64();
        let products = (n * d * queries) as f64;
        println!(
            "10 nearest of {n} x {d} for {queries}: {spent:.3} s, {:.0} G products/s",
            products / spent / 1e9
        );
    }
    let n = 100_000;
    for (m, bits) in [(8, 8), (16, 8), (16, 4), (32, 4)] {
        let codes = noise(n, m * bits as usize / 8, 5).mapv(|x| ((x + 0.5) * 256.0) as u8);
        let mut packed = vec![0; codes.len()];
        interleave(codes.view(), &mut packed);
        // Squared: most sums are far from the best, as they are with distances.
        let entries = noise(m, 1 << bits, 6).mapv(|x| -x * x).into_raw_vec_and_offset().0;
        let mut sums = vec![0.0; n];
        let all = best_of_31(|| Lookup::new(entries.clone(), m, bits).sums(&packed, &mut sums));
        let top = best_of_31(|| {
            let mut top = TopK::new(10);
            Lookup::new(entries.clone(), m, bits).push_sums(&packed, 0..n as u32, &mut top);
            assert_eq!(top.into_sorted().len(), 10);
        });
        println!(
            "{m:4} codes of {bits} bits   G codes/s: sums {:5.2}   top 10 {:5.2}",
            n as f64 / all / 1e9,
            n as f64 / top / 1e9
        );
    }
    println!("k-means, all threads, best of 31");
    for (n, d, k) in [(50_000, 16, 256), (65_536, 128, 256)] {
        let x = noise(n, d, 4);
        let kmeans = KMeans { k, iterations: 25, seed: 1, max_points_per_centroid: 256 };
        let time = best_of_31(|| {
            let centroids = kmeans.fit::<Infallible>(x.view(), &mut |_| Ok(()));
            assert!(centroids.is_ok());
        });
        println!("n {n} d {d} k {k}, 25 iterations: {time:.3} s");
    }
    rows_to_codes_and_back();
    rotations();
    codes_of_bits();
}

fn best_of_31(mut run: impl FnMut()) -> f64 {
    (0..31)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// Uniform noise from a linear congruential generator.
fn noise(n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut state = seed;
    Array2::from_shape_simple_fn((n, d), || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    })
}

/// Rows of 128 that stay in the second-level cache.
fn rows_to_codes_and_back() {
    const ROWS: usize = 1000;
    const DIM: usize = 128;
    println!("{ROWS} rows of {DIM}, single thread, best of 31, million rows/s");
    let rate = |time: f64| ROWS as f64 / time / 1e6;
    let values: Vec<u16> = (0..(ROWS * DIM) as u32).map(|i| (i * 40_503) as u16).collect();
    let mut back = values.clone();
    for bits in [1, 3, 4, 6, 8, 11, 16] {
        let width = pack::packed_bytes(DIM, bits);
        let mut codes = vec![0; ROWS * width];
        let packed = best_of_31(|| {
            for (values, code) in values.chunks(DIM).zip(codes.chunks_mut(width)) {
                pack::pack(values, bits, code);
            }
        });
        let unpacked = best_of_31(|| {
            for (code, values) in codes.chunks(width).zip(back.chunks_mut(DIM)) {
                pack::unpack(code, bits, values);
            }
        });
        println!("{bits:2} bits   pack {:6.1}   unpack {:6.1}", rate(packed), rate(unpacked));
    }
    let mut x = noise(ROWS, DIM, 5).into_raw_vec_and_offset().0;
    let mut codes = vec![0; 2 * ROWS * DIM];
    let encoded = best_of_31(|| half::encode(&x, &mut codes));
    let decoded = best_of_31(|| half::decode(&codes, &mut x));
    println!("f16     encode {:5.1}   decode {:5.1}", rate(encoded), rate(decoded));
}

/// Vectors that stay in the second-level cache.
fn rotations() {
    println!("rotations, single thread, best of 31, million vectors/s");
    for d in [100, 128, 384, 768, 1024] {
        let n = (1 << 16) / d;
        let (x, mut to) = (noise(n, d, 7), Array2::zeros((n, d)));
        let mut rate = |rotation: Rotation| {
            n as f64 / best_of_31(|| rotation.apply(x.view(), to.view_mut())) / 1e6
        };
        let (hadamard, dense) = (rate(Rotation::hadamard(d, 1)), rate(Rotation::dense(d, 1)));
        println!("d {d:4}   Hadamard {hadamard:6.2}   dense {dense:6.3}");
    }
}

/// Blocks of codes that stay in the second-level cache.
fn codes_of_bits() {
    const CODES: usize = 2048;
    println!("{CODES} codes of bits, single thread, best of 31, million codes/s");
    let rate = |time: f64| CODES as f64 / time / 1e6;
    let mut out = vec![0; CODES];
    for d in [128, 768, 1536] {
        let bytes = |n, seed| -> Vec<u8> {
            noise(1, n, seed).iter().map(|x| ((x + 0.5) * 256.0) as u8).collect()
        };
        let (one, four) = (bytes(CODES * d / 8, 6), bytes(CODES * d / 2, 7));
        let values = bytes(d, 8);
        let coarse: Vec<u8> = values.iter().map(|value| value >> 4).collect();
        let (coarse, fine) = (Planes::new(&coarse, 4), Planes::new(&values, 8));
        let distances = best_of_31(|| hamming_to(&values[..d / 8], &one, &mut out));
        let single = best_of_31(|| coarse.dots(&one, 1, &mut out));
        let several = best_of_31(|| fine.dots(&four, 4, &mut out));
        println!(
            "d {d:4}   hamming {:7.1}   1 bit by 4 {:7.1}   4 bits by 8 {:7.1}",
            rate(distances),
            rate(single),
            rate(several)
        );
    }
}

/// Rows whose dimensions hold less and less, as those of embeddings do.
fn spread(n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut rows = noise(n, d, seed);
    for (i, mut column) in rows.columns_mut().into_iter().enumerate() {
        column *= (1.0 + i as f32).powf(-0.3);
    }
    rows
}
