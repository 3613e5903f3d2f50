//! Λ24, the Leech lattice, times √8: `{2c + 4x, Σx even} ∪ {2c + 4x + 1, Σx odd}` with c a word of the binary
//! Golay code and x whole numbers (Conway & Sloane, "Sphere Packings, Lattices and Groups", chapter 4).
//!
//! The 24 coordinates are 6 columns of 4. A word of the Golay code has columns of one parity p, their first
//! bits sum to p, and their sums of the labels 0, 1, ω, ω̄ of the rows with a bit are a word of the hexacode
//! (chapter 11). So a column is one of 16 patterns, given by (p, label sum s, first bit h). Next to each
//! belongs the parity k of its x: the nearest point of `2c + 4x` has one, and the coordinate that loses least by
//! the second nearest x gives the other. What a column costs is a table over (s, h, k); the nearest point of the
//! lattice is the least sum of six entries whose s are a hexacode word, whose h sum to p and whose k sum to the
//! parity of Σx. Two columns at a time are joined, then three pairs for each of the 64 words.
//!
//! The hexacode in decoding: Conway & Sloane, "Soft decoding techniques for codes and lattices, including the
//! Golay code and the Leech lattice", 1986.

use crate::points::{Lattice, round};
use vq_kernels::Path;

/// The Leech lattice times √8.
pub(crate) struct Leech;

const N: usize = 24;
const COLUMNS: usize = 6;
const ROWS: usize = 4;

/// The pattern (p, s, h): which rows of a column have a bit.
const PATTERNS: [[[u8; 2]; 4]; 2] =
    [[[0, 15], [12, 3], [10, 5], [6, 9]], [[14, 1], [2, 13], [4, 11], [8, 7]]];

/// Hexacode words (a, b, c, f(1), f(ω), f(ω̄)) with f(y) = ay² + by + c: by (c, 4a + b), the label sums of the
/// columns in pairs, 4 times the first plus the second.
const WORDS: [[[u8; 3]; 16]; 4] = words();

const fn times(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { (a + b - 2) % 3 + 1 }
}

const fn words() -> [[[u8; 3]; 16]; 4] {
    let mut words = [[[0; 3]; 16]; 4];
    let mut word = 0;
    while word < 64 {
        let (c, a, b) = (word / 16, word / 4 % 4, word % 4);
        let mut f = [0; 4];
        let mut y = 1;
        while y < 4 {
            // Labels are added bit by bit: 1 + ω = ω̄.
            f[y as usize] = times(a, times(y, y)) ^ times(b, y) ^ c;
            y += 1;
        }
        words[c as usize][(4 * a + b) as usize] = [4 * a + b, 4 * c + f[1], 4 * f[2] + f[3]];
        word += 1;
    }
    words
}

/// Coordinates that a word of the Golay code is free in, the first one apart: see `basis`.
const FREE: [usize; 11] = [22, 21, 20, 19, 18, 17, 15, 14, 13, 11, 7];

/// The words with one bit in [`FREE`] and none in coordinate 23.
const GOLAY: [u32; 11] =
    [0x411472, 0x211247, 0x11111e, 0x9065c, 0x50539, 0x3036a, 0x9669, 0x5555, 0x3333, 0xf0f, 0xff];

/// The coordinates that follow from those, the first one apart.
const BOUND: [usize; 11] = [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 16];

/// A parity class of the lattice: the even points, or the odd ones, 1 added.
struct Class {
    /// By bit of c: the nearest `2c + 4x`, with its share of 1, and the way to it.
    value: [[f32; N]; 2],
    off: [[f32; N]; 2],
    /// Squared length of that, what the second nearest adds to it, and the parity of x.
    cost: [[f32; N]; 2],
    flip: [[f32; N]; 2],
    odd: [[u32; N]; 2],
}

impl Class {
    #[inline(always)]
    fn of(x: &[f32; N], class: usize) -> Self {
        let zero = [[0.0; N]; 2];
        let mut of = Class { value: zero, off: zero, cost: zero, flip: zero, odd: [[0; N]; 2] };
        for bit in 0..2 {
            let base = (class + 2 * bit) as f32;
            for (i, x) in x.iter().enumerate() {
                let whole = round((x - base) * 0.25);
                let value = base + 4.0 * whole;
                let off = x - value;
                of.value[bit][i] = value;
                of.off[bit][i] = off;
                of.cost[bit][i] = off * off;
                of.flip[bit][i] = 16.0 - 8.0 * off.abs();
                of.odd[bit][i] = whole as i32 as u32 & 1;
            }
        }
        of
    }

    /// Cost, cheapest flip and parity of x of column `j` under a pattern.
    #[inline(always)]
    fn column(&self, j: usize, pattern: u8) -> (f32, f32, u32) {
        let (mut cost, mut flip, mut odd) = (0.0, f32::INFINITY, 0);
        for r in 0..ROWS {
            let (bit, i) = (usize::from(pattern >> r & 1), ROWS * j + r);
            cost += self.cost[bit][i];
            flip = if self.flip[bit][i] < flip { self.flip[bit][i] } else { flip };
            odd ^= self.odd[bit][i];
        }
        (cost, flip, odd)
    }

    /// What pairs of columns cost: (pair, state 2h + k, label sums 4s + s').
    #[inline(always)]
    fn pairs(&self, p: usize) -> [[[f32; 16]; 4]; 3] {
        let mut columns = [[[0.0_f32; 4]; 4]; COLUMNS];
        for (j, column) in columns.iter_mut().enumerate() {
            for (s, states) in column.iter_mut().enumerate() {
                for h in 0..2 {
                    let (cost, flip, odd) = self.column(j, PATTERNS[p][s][h]);
                    states[2 * h + odd as usize] = cost;
                    states[2 * h + (odd ^ 1) as usize] = cost + flip;
                }
            }
        }
        let mut pairs = [[[f32::INFINITY; 16]; 4]; 3];
        for (pair, columns) in pairs.iter_mut().zip(columns.as_chunks::<2>().0) {
            for (state, sums) in pair.iter_mut().enumerate() {
                for one in 0..4 {
                    let mut sum = [0.0_f32; 16];
                    for (at, sum) in sum.iter_mut().enumerate() {
                        *sum = columns[0][at / 4][one] + columns[1][at % 4][one ^ state];
                    }
                    *sums = min(*sums, sum);
                }
            }
        }
        pairs
    }

    /// The least cost of a point and its hexacode word, (c, 4a + b).
    #[inline(always)]
    fn least(&self, p: usize, class: usize) -> (f32, (usize, usize)) {
        let pairs = self.pairs(p);
        let target = 2 * p + class;
        let mut found = (f32::INFINITY, (0, 0));
        for (c, words) in WORDS.iter().enumerate() {
            let (mut second, mut third) = ([[0.0_f32; 16]; 4], [[0.0_f32; 16]; 4]);
            for state in 0..4 {
                for (w, word) in words.iter().enumerate() {
                    second[state][w] = pairs[1][state][usize::from(word[1])];
                    third[state][w] = pairs[2][state][usize::from(word[2])];
                }
            }
            let mut least = [f32::INFINITY; 16];
            for one in 0..4 {
                // The last two pairs in the state that is left to them.
                let mut rest = sum(second[0], third[target ^ one]);
                for two in 1..4 {
                    rest = min(rest, sum(second[two], third[target ^ one ^ two]));
                }
                least = min(least, sum(pairs[0][one], rest));
            }
            for (w, least) in least.iter().enumerate() {
                if *least < found.0 {
                    found = (*least, (c, w));
                }
            }
        }
        found
    }

    /// The point of a hexacode word: of the first bits that sum to p those of least cost, and where Σx has the
    /// wrong parity the coordinate that loses least by it.
    fn point(&self, p: usize, class: usize, word: (usize, usize)) -> [f32; N] {
        let sums = WORDS[word.0][word.1].map(|pair| [pair / 4, pair % 4]);
        let patterns: [[u8; 2]; COLUMNS] =
            std::array::from_fn(|j| PATTERNS[p][usize::from(sums[j / 2][j % 2])]);
        let columns: [[(f32, f32, u32); 2]; COLUMNS] =
            std::array::from_fn(|j| patterns[j].map(|pattern| self.column(j, pattern)));
        let (mut least, mut chosen) = (f32::INFINITY, 0);
        for bits in (0_usize..1 << COLUMNS).filter(|bits| bits.count_ones() as usize % 2 == p) {
            let (mut cost, mut flip, mut odd) = (0.0, f32::INFINITY, 0);
            for (j, of) in columns.iter().enumerate() {
                let (of_column, least, parity) = of[bits >> j & 1];
                cost += of_column;
                flip = least.min(flip);
                odd ^= parity;
            }
            let cost = if odd as usize == class { cost } else { cost + flip };
            if cost < least {
                (least, chosen) = (cost, bits);
            }
        }
        let bit = |i: usize| {
            let j = i / ROWS;
            usize::from(patterns[j][chosen >> j & 1] >> (i % ROWS) & 1)
        };
        let mut point: [f32; N] = std::array::from_fn(|i| self.value[bit(i)][i]);
        let odd = (0..N).fold(0, |odd, i| odd ^ self.odd[bit(i)][i]);
        if odd as usize != class {
            let flips = (0..N).map(|i| (self.flip[bit(i)][i], i));
            let (_, i) = flips.reduce(|a, b| if b.0 < a.0 { b } else { a }).unwrap_or((0.0, 0));
            point[i] += if self.off[bit(i)][i] < 0.0 { -4.0 } else { 4.0 };
        }
        point
    }
}

#[inline(always)]
fn sum(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
    a.iter_mut().zip(&b).for_each(|(a, b)| *a += b);
    a
}

#[inline(always)]
fn min(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
    a.iter_mut().zip(&b).for_each(|(a, b)| *a = if *b < *a { *b } else { *a });
    a
}

impl Lattice<N> for Leech {
    const PACKING_SQ: f32 = 8.0;
    const COVERING: f32 = 4.0;
    const VOLUME: f64 = 68_719_476_736.0;
    const HOLE: [f32; N] = {
        let mut hole = [0.0; N];
        hole[0] = 4.0;
        hole
    };

    fn nearest(x: &[f32; N]) -> [f32; N] {
        Path::fastest().run(
            #[inline(always)]
            || {
                let classes = [Class::of(x, 0), Class::of(x, 1)];
                let mut found = (f32::INFINITY, 0, 0, (0, 0));
                for (class, of) in classes.iter().enumerate() {
                    for p in 0..2 {
                        let (cost, word) = of.least(p, class);
                        if cost < found.0 {
                            found = (cost, class, p, word);
                        }
                    }
                }
                let (_, class, p, word) = found;
                classes[class].point(p, class, word)
            },
        )
    }

    /// A triangular basis: (−3, 1, …, 1), which coordinate 23 counts; twice the words of [`GOLAY`], which
    /// those of [`FREE`] count; 4 in coordinate 0 and in one of [`BOUND`]; 8 in coordinate 0.
    fn coordinates(p: &[f32; N]) -> [i32; N] {
        let mut rest = p.map(|p| p as i32);
        let mut u = [0; N];
        u[23] = rest[23];
        for (i, rest) in rest.iter_mut().enumerate() {
            *rest -= u[23] * if i == 0 { -3 } else { 1 };
        }
        for (at, word) in FREE.iter().zip(GOLAY) {
            u[*at] = rest[*at] / 2;
            for (i, rest) in rest.iter_mut().enumerate() {
                *rest -= 2 * u[*at] * (word >> i & 1) as i32;
            }
        }
        for at in BOUND {
            u[at] = rest[at] / 4;
            rest[0] -= 4 * u[at];
        }
        u[0] = rest[0] / 8;
        u
    }

    fn point(u: &[i32; N]) -> [f32; N] {
        let mut p: [i32; N] = [u[23]; N];
        p[0] = -3 * u[23] + 8 * u[0];
        for (at, word) in FREE.iter().zip(GOLAY) {
            for (i, p) in p.iter_mut().enumerate() {
                *p += 2 * u[*at] * (word >> i & 1) as i32;
            }
        }
        for at in BOUND {
            p[at] += 4 * u[at];
            p[0] += 4 * u[at];
        }
        p.map(|p| p as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vq_kernels::Draw;

    /// The 4,096 words of the Golay code, spanned by the basis.
    fn golay() -> Vec<u32> {
        let all = (1_u32 << N) - 1;
        let basis: Vec<u32> = GOLAY.into_iter().chain([all]).collect();
        let sum = |chosen: usize| {
            let words = basis.iter().enumerate().filter(|(i, _)| chosen >> i & 1 == 1);
            words.fold(0, |sum, (_, word)| sum ^ word)
        };
        (0..1 << 12).map(sum).collect()
    }

    #[test]
    fn the_code_is_golays() {
        let mut weights = [0; N + 1];
        golay().iter().for_each(|word| weights[word.count_ones() as usize] += 1);
        assert_eq!([0, 8, 12, 16, 24].map(|w| weights[w]), [1, 759, 2576, 759, 1]);
        let bound = BOUND.iter().chain(&FREE).chain(&[0, 23]).fold(0_u32, |all, i| all | 1 << i);
        assert_eq!(bound, (1 << N) - 1);
    }

    /// By the definition: every word, every class.
    fn nearest_of_all(x: &[f32; N], golay: &[u32]) -> f32 {
        let mut least = f32::INFINITY;
        for class in 0..2 {
            let of = Class::of(x, class);
            for word in golay {
                let bit = |i: usize| (word >> i & 1) as usize;
                let odd = (0..N).fold(0, |odd, i| odd ^ of.odd[bit(i)][i]);
                let cost: f32 = (0..N).map(|i| of.cost[bit(i)][i]).sum();
                let flip = (0..N).map(|i| of.flip[bit(i)][i]).fold(f32::INFINITY, f32::min);
                least = least.min(if odd as usize == class { cost } else { cost + flip });
            }
        }
        least
    }

    #[test]
    fn the_nearest_point_is_that_of_a_search_over_all_words() {
        let (golay, mut draw) = (golay(), Draw::new(5));
        for i in 0..400 {
            let spread = [2.0, 20.0, 300.0][i % 3];
            let x = std::array::from_fn(|_| (spread * draw.normal()) as f32);
            let p = Leech::nearest(&x);
            let sq: f32 = x.iter().zip(&p).map(|(x, p)| (x - p).powi(2)).sum();
            let least = nearest_of_all(&x, &golay);
            assert!((sq - least).abs() < 1e-3 * least, "{sq} {least} {x:?}");
        }
    }

    #[test]
    fn the_shortest_vectors_are_196560() {
        // Squared lengths of 32: (±2^8) with an even number of signs, (±4^2), (∓3, ±1^23).
        let golay = golay();
        let mut found = 0;
        for word in golay.iter().filter(|word| word.count_ones() == 8) {
            let places: Vec<usize> = (0..N).filter(|i| word >> i & 1 == 1).collect();
            for signs in (0_u32..256).filter(|signs| signs.count_ones() % 2 == 0) {
                let mut v = [0.0; N];
                places
                    .iter()
                    .enumerate()
                    .for_each(|(b, i)| v[*i] = 2.0 - 4.0 * (signs >> b & 1) as f32);
                found += u32::from(Leech::nearest(&v) == v);
            }
        }
        assert_eq!(found, 759 * 128);
        let mut others = 0;
        for word in &golay {
            for three in 0..N {
                let v = std::array::from_fn(|i| {
                    let v = if i == three { -3.0 } else { 1.0 };
                    if word >> i & 1 == 1 { -v } else { v }
                });
                others += u32::from(Leech::nearest(&v) == v);
            }
        }
        assert_eq!(others, 4096 * 24);
        // (±4, ±4, 0, …): 1,104 more.
        let mut v = [0.0; N];
        (v[3], v[20]) = (4.0, -4.0);
        assert_eq!(Leech::nearest(&v), v);
    }
}
