//! Products of many codes with many vectors in integers of 8 bits, and which codes they leave as candidates.
//!
//! 64 codes at a time are spread to one byte per coordinate: a [`Tile`], which every vector then meets. What a code
//! is worth to a vector is bounded from above by
//!
//! `constant + factor·(product·of_product + offset) + width·of_width`,
//!
//! three numbers of the code and three of the vector ([`Terms`], [`Reach`]); a candidate is a code for which that is
//! not below what the vector asks for. Whoever calls answers for the bound, and asks the candidates for the rest.
//!
//! With AVX-512 VBMI and VNNI a code of d coordinates costs a vector d/64 multiplications and half a dozen other
//! instructions per 16 codes. The searches in `examples/peers` measure it.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only x86-64 has a path for which tiles are worth their while")
)]

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::path::Path;
#[cfg(target_arch = "x86_64")]
use crate::path::Set;

/// Codes of a tile.
pub const CODES: usize = 64;

/// Coordinates that are spread at a time: what values of 1, 2, 4 or 8 bits fill whole bytes with.
pub const STEP: usize = 8;

/// Most coordinates: products of 255·127 that still fit 32 bits.
pub const MAX_DIM: usize = 1 << 16;

/// One byte of each code of a tile.
pub type Line = [u8; CODES];

/// Four coordinates of each code, codes in the order of [`code_at`].
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Quad([[u8; 4]; CODES]);

/// The code at a place of a tile's answers: four of each 16 in turn, as registers interleave them.
#[must_use]
#[inline(always)]
pub const fn code_at(place: usize) -> usize {
    16 * (place / 4 % 4) + 4 * (place / 16) + place % 4
}

/// Numbers of the codes of a tile, by place.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Terms {
    /// What is added.
    pub constant: [f32; CODES],
    /// What a vector's part is multiplied by.
    pub factor: [f32; CODES],
    /// What its error is multiplied by.
    pub width: [f32; CODES],
}

impl Default for Terms {
    fn default() -> Self {
        let zeros = [0.0; CODES];
        Self { constant: zeros, factor: zeros, width: zeros }
    }
}

/// Numbers of a vector.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// What products are multiplied by.
    pub of_product: f32,
    /// What is added to that.
    pub offset: f32,
    /// What widths are multiplied by.
    pub of_width: f32,
    /// Codes that are surely below are no candidates.
    pub least: f32,
}

impl Reach {
    /// The bound for a code of this `product` at `place`.
    #[must_use]
    #[inline(always)]
    pub fn most(&self, product: i32, terms: &Terms, place: usize) -> f32 {
        let inner = (product as f32).mul_add(self.of_product, self.offset);
        let rest = terms.width[place].mul_add(self.of_width, terms.constant[place]);
        terms.factor[place].mul_add(inner, rest)
    }
}

/// 64 codes, one byte per coordinate.
#[derive(Clone, Debug)]
pub struct Tile {
    quads: Vec<Quad>,
    fast: bool,
}

/// True if this machine does better with tiles than with [tables](crate::lookup).
#[must_use]
pub fn is_fast() -> bool {
    match Path::fastest().0 {
        #[cfg(target_arch = "x86_64")]
        Set::Vbmi => is_x86_feature_detected!("avx512vnni"),
        _ => false,
    }
}

/// Coordinates with a place in a tile, of which `count` are appended at once.
#[must_use]
pub const fn padded(count: usize) -> usize {
    count.next_multiple_of(STEP)
}

/// Appends the coordinates `x` of a vector as they are multiplied with those that [`Tile::push`] appends at once:
/// four to a number, zeros up to [`padded`].
pub fn push_vector(x: &[i8], to: &mut Vec<i32>) {
    for eight in x.chunks(STEP) {
        let mut bytes = [0; STEP];
        bytes.iter_mut().zip(eight).for_each(|(to, x)| *to = *x as u8);
        to.extend(bytes.as_chunks::<4>().0.iter().map(|four| i32::from_le_bytes(*four)));
    }
}

impl Default for Tile {
    fn default() -> Self {
        Self::new()
    }
}

impl Tile {
    /// No coordinates yet.
    #[must_use]
    pub fn new() -> Self {
        Self { quads: Vec::new(), fast: is_fast() }
    }

    /// Forgets all coordinates.
    pub fn clear(&mut self) {
        self.quads.clear();
    }

    /// Appends coordinates of `bits` bits each, which `lines` hold as [`interleave`](crate::lookup::interleave)
    /// does those of 64 codes; a value v counts `weights[v]`. Single-threaded, O(64·d).
    ///
    /// # Panics
    /// When `bits` is not 1, 2, 4 or 8.
    pub fn push(&mut self, lines: &[Line], bits: u32, weights: &[u8; 256]) {
        assert!([1, 2, 4, 8].contains(&bits), "{bits} bits, expected 1, 2, 4 or 8");
        for lines in lines.chunks(bits as usize) {
            let mut eight = [[0; CODES]; STEP];
            eight[..lines.len()].copy_from_slice(lines);
            let lines = &eight[..bits as usize];
            #[cfg(target_arch = "x86_64")]
            if self.fast {
                // SAFETY: `is_fast` found the features.
                self.quads.extend(unsafe { avx512::spread(lines, bits, weights) });
                continue;
            }
            self.quads.extend(spread(lines, bits, weights));
        }
    }

    /// Writes the products of all codes with `vectors` (v, as [`push_vector`] wrote them) into `products` (v), by
    /// place, and the candidates of each, of which `terms` and `reaches` (v) decide, into `candidates` (v).
    ///
    /// # Panics
    /// When the shapes disagree, or there are more than [`MAX_DIM`] coordinates.
    pub fn meet(
        &self,
        vectors: &[i32],
        terms: &Terms,
        reaches: &[Reach],
        products: &mut [[i32; CODES]],
        candidates: &mut [u64],
    ) {
        let width = self.quads.len();
        assert!(4 * width <= MAX_DIM, "{} coordinates, expected at most {MAX_DIM}", 4 * width);
        assert_eq!(vectors.len(), reaches.len() * width, "numbers of {} vectors", reaches.len());
        assert_eq!(products.len(), reaches.len(), "products of each vector");
        assert_eq!(candidates.len(), reaches.len(), "candidates of each vector");
        #[cfg(target_arch = "x86_64")]
        if self.fast {
            // SAFETY: `is_fast` found the features.
            unsafe { avx512::meet(&self.quads, vectors, terms, reaches, products, candidates) };
            return;
        }
        for (v, products) in products.iter_mut().enumerate() {
            *products = [0; CODES];
            for (quad, four) in self.quads.iter().zip(&vectors[v * width..][..width]) {
                for (product, codes) in products.iter_mut().zip(&quad.0) {
                    let pairs = codes.iter().zip(four.to_le_bytes());
                    *product += pairs.map(|(c, x)| i32::from(*c) * i32::from(x as i8)).sum::<i32>();
                }
            }
            candidates[v] = 0;
            for (place, product) in products.iter().enumerate() {
                let below = reaches[v].most(*product, terms, place) < reaches[v].least;
                candidates[v] |= u64::from(!below) << place;
            }
        }
    }
}

/// Eight coordinates of `bits` bits from as many lines.
fn spread(lines: &[Line], bits: u32, weights: &[u8; 256]) -> [Quad; 2] {
    let mut quads = [Quad([[0; 4]; CODES]); 2];
    let mask = ((1_u32 << bits) - 1) as u8;
    for (q, quad) in quads.iter_mut().enumerate() {
        for (place, four) in quad.0.iter_mut().enumerate() {
            for (i, to) in four.iter_mut().enumerate() {
                let bit = (4 * q + i) * bits as usize;
                let value = lines[bit / 8][code_at(place)] >> (bit % 8) & mask;
                *to = weights[usize::from(value)];
            }
        }
    }
    quads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draw;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_finds_the_products_of_the_values_and_the_same_candidates(
            runs in prop::collection::vec((0_usize..4, 1_usize..40), 1..4),
            v in 0_usize..11,
            seed in any::<u64>(),
        ) {
            let mut draw = Draw::new(seed);
            let mut tiles = vec![Tile { quads: Vec::new(), fast: false }, Tile::new()];
            // Weights of each code, and of each vector its integers.
            let (mut codes, mut integers) = (vec![Vec::new(); CODES], vec![Vec::new(); v]);
            let mut vectors = vec![Vec::new(); v];
            for (log, count) in runs {
                let bits = 1 << log;
                let weights: [u8; 256] = std::array::from_fn(|_| draw.word() as u8);
                let lines: Vec<Line> = (0..(count * bits).div_ceil(8))
                    .map(|_| std::array::from_fn(|_| draw.word() as u8))
                    .collect();
                tiles.iter_mut().for_each(|tile| tile.push(&lines, bits as u32, &weights));
                for (i, code) in codes.iter_mut().enumerate() {
                    code.extend((0..count).map(|t| {
                        let value = lines[t * bits / 8][i] >> (t * bits % 8);
                        weights[usize::from(value) & ((1 << bits) - 1)]
                    }));
                }
                for (integers, vector) in integers.iter_mut().zip(&mut vectors) {
                    let x: Vec<i8> = (0..count).map(|_| draw.word() as i8).collect();
                    push_vector(&x, vector);
                    integers.extend(x);
                }
            }
            let mut terms = Terms::default();
            for numbers in [&mut terms.constant, &mut terms.factor, &mut terms.width] {
                numbers.iter_mut().for_each(|number| *number = draw.normal() as f32);
            }
            terms.constant[5] = f32::NAN;
            let reaches: Vec<Reach> = (0..v).map(|_| Reach {
                of_product: 1e-4 * draw.normal() as f32,
                offset: draw.normal() as f32,
                of_width: draw.normal() as f32,
                least: draw.normal() as f32,
            }).collect();
            for tile in tiles {
                let (mut products, mut candidates) = (vec![[9; CODES]; v], vec![9; v]);
                tile.meet(&vectors.concat(), &terms, &reaches, &mut products, &mut candidates);
                for (i, products) in products.iter().enumerate() {
                    for (place, product) in products.iter().enumerate() {
                        let pairs = codes[code_at(place)].iter().zip(&integers[i]);
                        let expected: i32 = pairs.map(|(c, x)| i32::from(*c) * i32::from(*x)).sum();
                        prop_assert_eq!(*product, expected);
                        let below = reaches[i].most(expected, &terms, place) < reaches[i].least;
                        prop_assert_eq!(candidates[i] >> place & 1 == 1, !below);
                    }
                    prop_assert!(candidates[i] >> 5 & 1 == 1, "no number is no reason to leave a code out");
                }
            }
        }
    }

    #[test]
    fn every_code_has_a_place() {
        let mut codes: Vec<usize> = (0..CODES).map(code_at).collect();
        codes.sort_unstable();
        assert!(codes.into_iter().eq(0..CODES));
    }
}
