//! What a machine gains by its second processor where nothing is shared: products in registers on as many
//! threads as the first argument says, the same number for each. Prints the products per second.

use std::hint::black_box;
use std::time::Instant;

const PRODUCTS: u64 = 2_000_000_000;

fn main() {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut sums = [black_box(1.0_f64); 8];
                let factor = black_box(1.000_000_1);
                for _ in 0..PRODUCTS / 8 {
                    sums.iter_mut().for_each(|sum| *sum *= factor);
                }
                black_box(sums);
            });
        }
    });
    println!("{}", (threads * PRODUCTS) as f64 / started.elapsed().as_secs_f64());
}
