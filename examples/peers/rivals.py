"""Independent implementations behind one shape: fit, encode, fill, search, bytes.

`codes_apart`: codes can be had without an index around them, and decoded. A library that cannot be imported, or that
cannot do what is asked, raises Unfit with the reason.
Imported in processes whose environment (threads, BLAS) is set.
"""

import importlib
import importlib.metadata
import os
import pathlib
import tempfile

import numpy as np

# Rows that the bytes per vector are told from: both multiples of the blocks that libraries pack.
FEW, MORE = 1024, 2048

PACKAGES = ("faiss-cpu", "nanopq", "rabitqlib", "scalable-vs", "scann", "turbovec")


class Unfit(Exception):
    """Why a library does not take part."""


def library(module):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unfit(f"{module} does not import here: {error}") from None


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Faiss:
    """RaBitQ, EDEN and TurboQuant behind a seeded rotation; rows in the base's own metric."""

    package, seeded, codes_apart = "faiss-cpu", True, True
    estimates = "all distances that a search returns"

    def __init__(self, kind, bits, rotation="dense", metric="l2", as_installed=False):
        self.kind, self.bits, self.rotation, self.metric = kind, bits, rotation, metric
        self.as_installed = as_installed
        self.name = f"FAISS {kind} {bits}"
        self.centred = kind in ("RaBitQ", "RaBitQ FastScan", "EDEN")

    def fit(self, train, seed, threads):
        faiss = library("faiss")
        faiss.omp_set_num_threads(threads)
        dim = train.shape[1]
        if self.rotation == "dense":
            turn = faiss.RandomRotationMatrix(dim, dim)
        else:
            turn = faiss.HadamardRotation(dim)
        turn.init(seed)
        self.index = faiss.IndexPreTransform(turn, self.inner(faiss, turn.d_out))
        self.index.train(train)

    def inner(self, faiss, dim):
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        if self.kind == "RaBitQ":
            index = faiss.IndexRaBitQ(dim, metric, self.bits)
            if not self.as_installed:
                # Queries as they are: the default rounds them to 4 bits at 1 bit per coordinate.
                index.qb = 0
            return index
        if self.kind == "RaBitQ FastScan":
            return faiss.IndexRaBitQFastScan(dim, metric, 32, self.bits)
        if self.kind == "EDEN":
            return faiss.IndexEDEN(dim, metric, self.bits)
        ending = {"TurboQuant mse": "tqmse", "TurboQuant prod": "tq"}[self.kind]
        return faiss.IndexScalarQuantizer(dim, getattr(faiss.ScalarQuantizer, f"QT_{self.bits}bit_{ending}"), metric)

    def encode(self, x, threads):
        codes = np.empty((len(x), self.code_bytes()), np.uint8)
        return lambda: self.index.sa_encode(x, codes)

    def fill(self, x, threads):
        self.index.reset()
        self.index.add(x)

    def search(self, queries, k, threads):
        estimates, ids = self.index.search(queries, k)
        return ids, estimates

    def code_bytes(self):
        return self.index.sa_code_size()


class FaissItq:
    """Signs after ITQ, Hamming distance; which estimates nothing, so its recall alone is compared."""

    package, seeded, centred, rotation, metric, bits = "faiss-cpu", False, True, "learned", "l2", 1
    codes_apart = True
    name, estimates = "FAISS ITQ", None

    def fit(self, train, seed, threads):
        faiss = library("faiss")
        faiss.omp_set_num_threads(threads)
        dim = train.shape[1]
        self.index = faiss.IndexPreTransform(
            faiss.ITQTransform(dim, dim, False), faiss.IndexLSH(dim, dim, False, False)
        )
        self.index.train(train)

    encode, fill, search, code_bytes = Faiss.encode, Faiss.fill, Faiss.search, Faiss.code_bytes


class RabitqLib:
    """rabitqlib's IVF with one cluster at the mean of the training rows: a flat scan of its codes."""

    package, seeded, centred, rotation, metric = "rabitqlib", True, True, "hadamard", "l2"
    codes_apart = False
    estimates = "all distances that a search returns, high_accuracy"

    def __init__(self, bits, fast=False, as_installed=False):
        self.bits, self.fast = bits, fast
        # It saves on the query at 1 and 2 bits unless told otherwise.
        self.high_accuracy = None if as_installed else True
        self.name = f"rabitqlib {bits}" + (" fast" if fast else " exact" if bits > 1 else "")

    def fit(self, train, seed, threads):
        # It takes no seed: each index draws a rotation of its own.
        self.module = library("rabitqlib")
        self.centre = train.mean(axis=0, dtype=np.float64).astype(np.float32)[None]
        few, more = self.saved(train, FEW), self.saved(train, MORE)
        # Without the row's id, 4 bytes, which an index needs and a code does not.
        self.bytes = (more - few) / (MORE - FEW) - 4

    def saved(self, train, n):
        rows = np.resize(train, (n, train.shape[1]))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "index")
            self.build(rows, 1).save(path)
            return os.path.getsize(path)

    def build(self, x, threads):
        index = self.module.IvfIndex(dim=x.shape[1], max_elements=len(x), num_clusters=1, nbits=self.bits, metric="l2")
        clusters = np.zeros(len(x), np.uint32)
        index.build(x, self.centre, clusters, num_threads=threads, fast_quantization=self.fast)
        return index

    def encode(self, x, threads):
        return lambda: self.build(x, threads)

    def fill(self, x, threads):
        self.index = self.build(x, threads)

    def search(self, queries, k, threads):
        how = {"nprobe": 1, "high_accuracy": self.high_accuracy, "num_threads": threads}
        ids, estimates = self.index.search(queries, k=k, **how)
        return ids.astype(np.int64), estimates

    def code_bytes(self):
        return self.bytes


class TurboVec:
    """turbovec: TurboQuant with the unbiased scale, inner products, a rotation that is always the same."""

    package, seeded, centred, rotation, metric = "turbovec", False, False, "dense", "cosine"
    codes_apart = False
    estimates = "all inner products that a search returns"

    def __init__(self, bits, calibrated=False):
        self.bits, self.calibrated = bits, calibrated
        self.name = f"turbovec {bits}" + (" calibrated" if calibrated else "")

    def fit(self, train, seed, threads):
        self.module = library("turbovec")
        if train.shape[1] % 8:
            raise Unfit(f"turbovec takes dimensions that are multiples of 8, not {train.shape[1]}")
        self.train = train
        few, more = (len(self.build(np.resize(train, (n, train.shape[1]))).to_bytes()) for n in (FEW, MORE))
        self.bytes = (more - few) / (MORE - FEW)

    def build(self, x):
        index = self.module.TurboQuantIndex(dim=x.shape[1], bit_width=self.bits)
        if self.calibrated:
            index.calibrate(self.train)
        index.add(x)
        return index

    def encode(self, x, threads):
        return lambda: self.build(x)

    def fill(self, x, threads):
        self.index = self.build(x)
        self.index.prepare()

    def search(self, queries, k, threads):
        estimates, ids = self.index.search(queries, k)
        return ids, estimates

    def code_bytes(self):
        return self.bytes


class Svs:
    """LVQ of scalable-vs, searched row by row. It reads rows from a file, so its encoding is not timed."""

    package, seeded, centred, rotation, metric = "scalable-vs", False, True, "none", "l2"
    codes_apart = False
    estimates, encode = "all distances that a search returns", None

    def __init__(self, bits, residual=0):
        self.bits, self.residual = bits, residual
        self.name = f"SVS LVQ {bits}" + (f"x{residual}" if residual else "")

    def fit(self, train, seed, threads):
        # It ends the whole process where it does not want to run.
        if "GenuineIntel" not in pathlib.Path("/proc/cpuinfo").read_text():
            raise Unfit("scalable-vs has LVQ on Intel's processors alone")
        self.module, self.dim = library("svs"), train.shape[1]

    def fill(self, x, threads):
        svs = self.module
        with tempfile.TemporaryDirectory() as folder:
            path = str(pathlib.Path(folder) / "rows.fvecs")
            svs.write_vecs(x, path)
            rows = svs.VectorDataLoader(path, svs.DataType.float32)
            rows = svs.LVQLoader(rows, self.bits, self.residual)
            self.index = svs.Flat(rows, distance=svs.DistanceType.L2, num_threads=threads)

    def search(self, queries, k, threads):
        self.index.num_threads = threads
        ids, estimates = self.index.search(queries, k)
        return ids.astype(np.int64), estimates

    def code_bytes(self):
        # Both levels and two f16 scalars; what it adds to align rows is not counted.
        return -(-self.dim * self.bits // 8) + -(-self.dim * self.residual // 8) + 4
