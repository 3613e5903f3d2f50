"""FAISS, in this process: the same works, as FAISS comes and tuned. Imported only after the environment is set."""

import ctypes
import json
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
from faiss import swig_ptr

DEFAULT_BLAS_THRESHOLD = faiss.cvar.distance_compute_blas_threshold
TUNED_BLAS_THRESHOLD = 20
SEED = 1234
# Rows that the composed encoder takes at once: their part of a sub-space stays in the second-level cache.
BLOCK = 4096
# What outputs hold before a call, as on our side: both find them equally far away in the caches.
CANARY = 0xA5


class Pq:
    """ProductQuantizer; tuned: codes by searching one IndexFlatL2 per sub-space."""

    def __init__(self, dim, params):
        self.pq = faiss.ProductQuantizer(dim, params["m"], params["bits"])
        self.pq.cp.niter = params["iterations"]
        self.pq.cp.max_points_per_centroid = params["points_per_centroid"]
        self.pq.cp.seed = SEED
        self.code_bytes = self.pq.code_size
        self.teams = {}

    def fit(self, train, tuned):
        self.pq.train(train)

    def encode(self, x, codes, tuned):
        if tuned:
            self.compose(x, codes)
        else:
            self.pq.compute_codes_c(swig_ptr(x), swig_ptr(codes), len(x))

    def prepare_tuned(self):
        """What the composed encoder needs: an index per sub-space."""
        centroids = faiss.vector_to_array(self.pq.centroids).reshape(self.pq.M, self.pq.ksub, self.pq.dsub)
        self.flat = []
        for rows in centroids:
            index = faiss.IndexFlatL2(self.pq.dsub)
            index.add(np.ascontiguousarray(rows))
            self.flat.append(index)

    def compose(self, x, codes):
        threads = faiss.omp_get_max_threads()
        if threads not in self.teams:
            # Threads that each take whole rows, FAISS being single-threaded in them.
            team = ThreadPoolExecutor(threads, initializer=faiss.omp_set_num_threads, initargs=(1,))
            self.teams[threads] = team

        def block(first):
            self.compose_block(x[first : first + BLOCK], codes[first : first + BLOCK])

        list(self.teams[threads].map(block, range(0, len(x), BLOCK)))

    def compose_block(self, x, codes):
        n, sub = len(x), self.pq.dsub
        part = np.empty((n, sub), np.float32)
        distance, label = np.empty((n, 1), np.float32), np.empty((n, 1), np.int64)
        for j, index in enumerate(self.flat):
            np.copyto(part, x[:, j * sub : (j + 1) * sub])
            index.search(part, 1, D=distance, I=label)
            if self.pq.nbits == 8:
                codes[:, j] = label[:, 0]
            elif j % 2 == 0:
                codes[:, j // 2] = label[:, 0]
            else:
                codes[:, j // 2] |= label[:, 0].astype(np.uint8) << 4

    def decode(self, codes, x):
        self.pq.decode_c(swig_ptr(codes), swig_ptr(x), len(x))


class Opq:
    """OPQMatrix before a ProductQuantizer; tuned: the rotation into memory kept, then as [`Pq`]."""

    def __init__(self, dim, params):
        self.matrix = faiss.OPQMatrix(dim, params["m"])
        self.pq = Pq(dim, params | {"iterations": 25, "points_per_centroid": 256})
        self.code_bytes = self.pq.code_bytes
        self.prepare_tuned = self.pq.prepare_tuned
        self.rotated = np.empty((0, dim), np.float32)

    def fit(self, train, tuned):
        self.matrix.train(train)
        self.pq.fit(self.matrix.apply(train), tuned)

    def encode(self, x, codes, tuned):
        if not tuned:
            self.pq.encode(self.matrix.apply(x), codes, tuned)
            return
        # Memory that is there already: as it comes, each call takes new pages.
        if len(self.rotated) != len(x):
            self.rotated = np.empty_like(x)
        self.matrix.apply_noalloc(len(x), swig_ptr(x), swig_ptr(self.rotated))
        self.pq.encode(self.rotated, codes, tuned)

    def decode(self, codes, x):
        rotated = np.empty_like(x)
        self.pq.decode(codes, rotated)
        x[:] = self.matrix.reverse_transform(rotated)


class Prq:
    """ProductResidualQuantizer; tuned: inner-product tables."""

    def __init__(self, dim, params):
        none = faiss.AdditiveQuantizer.ST_decompress
        self.prq = faiss.ProductResidualQuantizer(dim, params["splits"], params["layers"], params["bits"], none)
        self.parts = [faiss.downcast_Quantizer(self.prq.subquantizer(i)) for i in range(params["splits"])]
        for part in self.parts:
            part.max_beam_size = params["beam"]
            part.cp.seed = SEED
        self.code_bytes = self.prq.code_size

    def fit(self, train, tuned):
        self.prq.train(train)

    def prepare_tuned(self):
        for part in self.parts:
            part.compute_codebook_tables()

    def encode(self, x, codes, tuned):
        for part in self.parts:
            part.use_beam_LUT = int(tuned)
        self.prq.compute_codes_c(swig_ptr(x), swig_ptr(codes), len(x))

    def decode(self, codes, x):
        self.prq.decode_c(swig_ptr(codes), swig_ptr(x), len(x))


class Lsq:
    """LocalSearchQuantizer with its defaults."""

    def __init__(self, dim, params):
        none = faiss.AdditiveQuantizer.ST_decompress
        self.lsq = faiss.LocalSearchQuantizer(dim, params["layers"], params["bits"], none)
        self.code_bytes = self.lsq.code_size

    def fit(self, train, tuned):
        self.lsq.train(train)

    def encode(self, x, codes, tuned):
        self.lsq.compute_codes_c(swig_ptr(x), swig_ptr(codes), len(x))

    def decode(self, codes, x):
        self.lsq.decode_c(swig_ptr(codes), swig_ptr(x), len(x))


class Rq:
    """ResidualQuantizer; tuned: inner-product tables, and plain k-means of 25 rounds, the fastest way to as low an error."""

    def __init__(self, dim, params):
        self.rq = {tuned: self.make(dim, params, tuned) for tuned in (False, True)}
        self.code_bytes = self.rq[False].code_size

    def make(self, dim, params, tuned):
        rq = faiss.ResidualQuantizer(dim, params["layers"], params["bits"])
        rq.max_beam_size = params["beam"]
        rq.cp.seed = SEED
        rq.cp.max_points_per_centroid = params["points_per_centroid"]
        if tuned:
            rq.train_type = faiss.ResidualQuantizer.Train_default
            # About the fewest that reach our error.
            rq.cp.niter = 18
            rq.use_beam_LUT = 1
        return rq

    def fit(self, train, tuned):
        self.rq[tuned].train(train)

    def prepare_tuned(self):
        """Nothing: both quantizers are trained."""

    def encode(self, x, codes, tuned):
        self.rq[tuned].compute_codes_c(swig_ptr(x), swig_ptr(codes), len(x))

    def decode(self, codes, x, tuned=False):
        self.rq[tuned].decode_c(swig_ptr(codes), swig_ptr(x), len(x))


class Sq:
    """IndexScalarQuantizer, which has no better way."""

    def __init__(self, dim, params):
        kind = f"QT_{params['bits']}bit" if "bits" in params else "QT_fp16"
        self.index = faiss.IndexScalarQuantizer(dim, getattr(faiss.ScalarQuantizer, kind))
        self.code_bytes = self.index.sa_code_size()

    def fit(self, train, tuned):
        self.index.train(train)

    def encode(self, x, codes, tuned):
        self.index.sa_encode(x, codes=codes)

    def decode(self, codes, x):
        self.index.sa_decode(codes, x=x)


METHODS = {"pq": Pq, "opq": Opq, "lsq": Lsq, "sq": Sq, "cast": Sq}


def quantizer(work, dim):
    """FAISS's quantizer for the method and parameters of a work."""
    if work.method == "rq":
        return (Prq if "splits" in work.params else Rq)(dim, work.params)
    return METHODS[work.method](dim, work.params)


class Peer:
    """FAISS's side of the works."""

    def __init__(self):
        self.codecs = {}

    def codec(self, work, data, tuned):
        """The fitted quantizer, from before where there is one."""
        key = (work.method, tuple(sorted(work.params.items())), data.name)
        if key not in self.codecs:
            self.codecs[key] = quantizer(work, data.dim), set()
        codec, fitted = self.codecs[key]
        # Only RQ's training depends on it.
        tuned = tuned and isinstance(codec, Rq)
        if tuned not in fitted:
            codec.fit(data.learn[: work.train_n], tuned)
            fitted.add(tuned)
        return codec

    def prepare(self, work, data, n, threads, tuned):
        """A function that does the work for some time on some threads, and one that gives what it made.

        None: no tuned way. `threads` are those of the preparation.
        """
        faiss.omp_set_num_threads(threads)
        made = getattr(self, work.kind)(work, data, n, tuned)
        if made is None:
            return None
        run, answer, outputs = made
        threshold = TUNED_BLAS_THRESHOLD if tuned else DEFAULT_BLAS_THRESHOLD

        def timed(at_least_s, threads):
            """Calls and seconds."""
            faiss.omp_set_num_threads(threads)
            faiss.cvar.distance_compute_blas_threshold = threshold
            calls, spent = 0, 0.0
            while calls == 0 or spent < at_least_s:
                for output in outputs:
                    output.fill(CANARY)
                started = time.perf_counter()
                run()
                spent += time.perf_counter() - started
                calls += 1
            return calls, spent

        return timed, answer

    # Each work: a function that does it once, one that gives what was made, and the outputs to
    # fill before a call.

    def encode(self, work, data, n, tuned):
        if tuned and work.method not in ("pq", "opq", "rq"):
            return None
        codec = self.codec(work, data, tuned)
        x = data.base[:n]
        codes = np.zeros((n, codec.code_bytes), np.uint8)
        if tuned:
            codec.prepare_tuned()
        return lambda: codec.encode(x, codes, tuned), lambda: decoded(codec, x, codes, tuned), [codes]

    def decode(self, work, data, n, tuned):
        if tuned:
            return None
        codec = self.codec(work, data, tuned)
        codes = np.zeros((n, codec.code_bytes), np.uint8)
        codec.encode(data.base[:n], codes, False)
        x = np.zeros((n, data.dim), np.float32)
        return lambda: codec.decode(codes, x), lambda: x, [x]

    def fit(self, work, data, n, tuned):
        if tuned and work.method == "lsq":
            return None
        train, made = data.learn[: work.train_n], []

        def run():
            made[:] = [quantizer(work, data.dim)]
            made[0].fit(train, tuned)

        def answer():
            x = data.base[:n]
            codes = np.zeros((n, made[0].code_bytes), np.uint8)
            # PQ's two ways to encode give the same codes.
            tuned_codec = tuned and isinstance(made[0], Rq)
            made[0].encode(x, codes, tuned_codec)
            return decoded(made[0], x, codes, tuned_codec)

        return run, answer, []

    def scan(self, work, data, n, tuned):
        if tuned:
            return None
        codec = self.codec(work, data, False)
        index = faiss.IndexPQ(data.dim, codec.pq.M, codec.pq.nbits)
        index.pq = codec.pq
        index.is_trained = True
        index.add(data.base[:n])
        if work.params["bits"] == 4:
            index = faiss.IndexPQFastScan(index)
        # FAISS keeps at least the nearest.
        k = max(work.top, 1)
        shape = (len(data.query), k)
        distances, labels = np.empty(shape, np.float32), np.empty(shape, np.int64)

        def answer():
            return index.search(data.query, 10)[1]

        return lambda: index.search(data.query, k, D=distances, I=labels), answer, []

    def kmeans(self, work, data, n, tuned):
        p, made = work.params, []

        def run():
            clustering = faiss.Clustering(data.dim, p["k"])
            clustering.niter = p["iterations"]
            clustering.max_points_per_centroid = p["points_per_centroid"]
            clustering.seed = SEED
            index = faiss.IndexFlatL2(data.dim)
            clustering.train(data.base[:n], index)
            made[:] = [faiss.vector_to_array(clustering.centroids)]

        return run, lambda: made[0].reshape(p["k"], data.dim), []

    def neighbours(self, work, data, n, tuned):
        index = faiss.IndexFlatL2(data.dim)
        index.add(data.base[:n])
        shape = (len(data.query), work.top)
        distances, labels = np.empty(shape, np.float32), np.empty(shape, np.int64)
        return lambda: index.search(data.query, work.top, D=distances, I=labels), lambda: labels, []


def decoded(codec, x, codes, tuned):
    """`codes` (n, code_bytes) as rows (n, d)."""
    out = np.empty_like(x)
    if isinstance(codec, Rq):
        codec.decode(codes, out, tuned)
    else:
        codec.decode(codes, out)
    return out


def probe():
    """Seconds of a few works on drawn rows, as JSON: for comparing environments."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((50_000, 128), dtype=np.float32)
    pq = Pq(128, {"m": 16, "bits": 8, "iterations": 4, "points_per_centroid": 256})
    pq.fit(x[:20_000], False)
    pq.prepare_tuned()
    codes = np.zeros((len(x), pq.code_bytes), np.uint8)
    rq = Rq(128, {"layers": 4, "bits": 6, "beam": 5, "iterations": 4, "points_per_centroid": 256})
    rq.fit(x[:2_000], False)
    rq_codes = np.zeros((5_000, rq.code_bytes), np.uint8)
    flat = faiss.IndexFlatL2(128)
    flat.add(x)
    works = {
        "PQ train": lambda: Pq(128, {"m": 8, "bits": 8, "iterations": 4, "points_per_centroid": 64}).fit(x, False),
        "PQ encode": lambda: pq.encode(x, codes, False),
        "PQ encode, composed": lambda: pq.encode(x, codes, True),
        "RQ encode, beam 5": lambda: rq.encode(x[:5_000], rq_codes, False),
        "exact neighbours": lambda: flat.search(x[:500], 100),
    }
    faiss.cvar.distance_compute_blas_threshold = TUNED_BLAS_THRESHOLD
    seconds = {}
    for name, work in works.items():
        work()
        times = []
        for _ in range(3):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        seconds[name] = sorted(times)[1]
    print(json.dumps({"core": blas_core(), "seconds": seconds}))


def blas_core():
    """The kernels that FAISS's BLAS has chosen; None where it is no OpenBLAS."""
    folder = pathlib.Path(faiss.__file__).parent.parent / "faiss_cpu.libs"
    for path in folder.glob("libopenblas*"):
        name = ctypes.CDLL(str(path)).openblas_get_corename
        name.restype = ctypes.c_char_p
        return name().decode()
    return None
