"""Writes 60,000 rows of 768 dimensions, as a model's embeddings lie, into six Parquet files.

    pip install numpy pyarrow
    python examples/shards/make.py shards

The rows are 12,000 embedded definitions (examples/data, 384 dimensions) and 48,000 between one of them and one
of its ten nearest, through a fixed layer twice as wide, with noise whose variance falls from direction to
direction. Of unit length; the same on every run.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, WIDE, FILES = 60_000, 768, 6
SOURCE = Path(__file__).resolve().parent.parent / "data" / "glosses-12k-384d.f16bin"


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main(folder):
    random = np.random.default_rng(7)
    n, d = np.fromfile(SOURCE, dtype="<u4", count=2)
    real = unit(np.fromfile(SOURCE, dtype="<f2", offset=8).reshape(n, d).astype(np.float32))
    one = np.concatenate([np.arange(n), random.integers(0, n, ROWS - n)])
    near = np.empty((n, 10), dtype=np.int64)
    for first in range(0, n, 2000):
        scores = real[first : first + 2000] @ real.T
        np.fill_diagonal(scores[:, first:], -1)
        near[first : first + 2000] = np.argpartition(-scores, 9, axis=1)[:, :10]
    other = near[one, random.integers(0, 10, ROWS)]
    share = random.uniform(0.2, 0.8, (ROWS, 1)).astype(np.float32)
    share[:n] = 1
    rows = unit(share * real[one] + (1 - share) * real[other])
    layer, straight = random.standard_normal((2, d, WIDE)).astype(np.float32)
    turned, _ = np.linalg.qr(random.standard_normal((WIDE, WIDE)))
    falling = np.arange(1, WIDE + 1, dtype=np.float32) ** -0.5
    noise = random.standard_normal((ROWS, WIDE), dtype=np.float32) * falling @ turned.astype(np.float32)
    rows = unit(np.tanh(2.2 * rows @ layer) + rows @ straight + 0.6 * noise)[random.permutation(ROWS)]
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(np.split(rows.astype(np.float32), FILES)):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), WIDE)
        ids = pa.array(range(number * len(part), (number + 1) * len(part)))
        pq.write_table(pa.table({"id": ids, "embedding": lists}), folder / f"part-{number:05d}.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
