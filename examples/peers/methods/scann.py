"""ScaNN's asymmetric hashing: codes and codebook as the wheel saves them, packed to the bits that it has in memory.

The wheel has no call that encodes: rows are put into an index of one row, which is saved. Decoded rows are what is
scored; ScaNN's own tables are rounded to a byte.
"""
import io
import os
import pathlib
import pickle
import tempfile

import numpy as np
import scann
from scann.proto import centers_pb2

CODES, BOOK, IDS = "hashed_dataset.npy", "ah_codebook.pb", "scann_docids.pkl"


class _Hashing:
    """Blocks of `block` dimensions, BITS bits each."""

    @classmethod
    def blocks(cls, dim, bits):
        least, most = 0.95 * int(bits * dim / 8), int(bits * dim / 8)
        sizes = [b for b in range(1, dim + 1) if least <= -(-(-(-dim // b) * cls.BITS) // 8) <= most]
        return [{"block": b} for b in sizes[:1]]

    def __init__(self, dim, metric, block: int = 2, threshold: float = 0.2):
        if block < 1:
            raise ValueError(f"block: {block} is not 1 or more")
        # The weight of the error along a row is for products; distances have none.
        options = {} if metric == "l2" else {"anisotropic_quantization_threshold": threshold}
        self.measure, self.options = "squared_l2" if metric == "l2" else "dot_product", options
        self.dim, self.block, self.count = dim, block, -(-dim // block)
        self.code_bytes = -(-self.count * self.BITS // 8)

    def fit(self, X):
        builder = scann.scann_ops_pybind.builder(X, 10, self.measure).set_n_training_threads(1)
        builder = builder.score_ah(self.block, hash_type=self.KIND, **self.options)
        files = saved(builder.build(docids=[str(row) for row in range(len(X))]))
        first = io.BytesIO()
        np.save(first, np.load(io.BytesIO(files[CODES]))[:1])
        self.open(files | {CODES: first.getvalue(), IDS: pickle.dumps(["first"])})

    def open(self, files):
        self.files = files
        book = centers_pb2.CentersForAllSubspaces.FromString(files[BOOK])
        parts = ([centre.feature_value_float for centre in part.center] for part in book.subspace_centers)
        self.centres = [np.array(part, np.float32) for part in parts]

    def compress(self, X):
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.files.items():
                pathlib.Path(folder, name).write_bytes(content)
            index = scann.scann_ops_pybind.load_searcher(folder)
        index.upsert([str(row) for row in range(len(X))], X, batch_size=len(X))
        codes = np.load(io.BytesIO(saved(index)[CODES]))[1:]
        if self.BITS == 8:
            return codes
        codes = np.pad(codes, ((0, 0), (0, self.count % 2)))
        return codes[:, ::2] | codes[:, 1::2] << 4

    def decompress(self, codes):
        if self.BITS == 4:
            codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)[:, : self.count]
        return np.concatenate([centres[codes[:, at]] for at, centres in enumerate(self.centres)], axis=1)

    def save(self):
        return pickle.dumps(self.files)

    def load(self, saved):
        self.open(pickle.loads(saved))


def saved(index):
    """What the wheel writes of an index, by name."""
    with tempfile.TemporaryDirectory() as folder:
        index.serialize(folder, relative_path=True)
        return {name: pathlib.Path(folder, name).read_bytes() for name in os.listdir(folder)}


class LUT16(_Hashing):
    """ScaNN's asymmetric hashing with 16 centres for each block of dimensions; the wheel takes no seed."""

    KIND, BITS = "lut16", 4

    @staticmethod
    def GRID(dim, metric, bits):
        return [{"block": 2}] if bits is None else LUT16.blocks(dim, bits)


class LUT256(_Hashing):
    """ScaNN's asymmetric hashing with 256 centres for each block of dimensions; the wheel takes no seed."""

    KIND, BITS = "lut256", 8

    @staticmethod
    def GRID(dim, metric, bits):
        return [{"block": 4}] if bits is None else LUT256.blocks(dim, bits)
