"""The quantizers of the faiss-cpu wheel: its defaults, but for the seed and for queries, which stay as they are."""
import pickle

import faiss
import numpy as np

# Codes without a byte for the norm: what is searched are decoded rows.
NO_NORM = faiss.AdditiveQuantizer.ST_decompress


def budget(dim, bits):
    """The bytes that `bits` per dimension allow, least and most."""
    most = int(bits * dim / 8)
    return 0.95 * most, most


def fills(dim, bits, code_bits):
    least, most = budget(dim, bits)
    return least <= -(-code_bits // 8) <= most


def kind(metric):
    return faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT


class _Codec:
    """An index that is used for its codes alone."""

    def __init__(self, index):
        self.index, self.code_bytes = index, index.sa_code_size()

    def fit(self, X):
        self.index.train(X)

    def compress(self, X):
        return self.index.sa_encode(X)

    def decompress(self, codes):
        return self.index.sa_decode(codes)

    def save(self):
        return faiss.serialize_index(self.index).tobytes()

    def load(self, saved):
        self.index = faiss.deserialize_index(np.frombuffer(saved, np.uint8))


class _Turned(_Codec):
    """An index behind a rotation, which is applied in f64: FAISS's own rounds a row by how many rows stand beside it,
    so that a row on the edge between two codes would have either.
    """

    def __init__(self, index, turn):
        super().__init__(index)
        self.turn = turn

    def turned(self, X):
        return (X @ self.rotation.T).astype(np.float32)

    def fit(self, X):
        matrix = faiss.vector_to_array(self.turn.A).reshape(self.turn.d_out, self.turn.d_in)
        self.rotation = matrix.astype(np.float64)
        super().fit(self.turned(X))

    def compress(self, X):
        return super().compress(self.turned(X))

    def decompress(self, codes):
        return super().decompress(codes) @ self.rotation

    def save(self):
        # It was f32 before.
        return pickle.dumps((self.rotation.astype(np.float32), super().save()))

    def load(self, saved):
        rotation, index = pickle.loads(saved)
        self.rotation = rotation.astype(np.float64)
        super().load(index)


def random(dim, seed):
    """A rotation that is drawn, not learned."""
    turn = faiss.RandomRotationMatrix(dim, dim)
    turn.init(seed)
    return turn


class _Estimator(_Turned):
    """Its estimates are the index's, by a range search that nothing is too far for."""

    def score(self, queries, codes):
        index = self.index
        index.reset()
        index.add_sa_codes(codes)
        far = np.inf if index.metric_type == faiss.METRIC_L2 else -np.inf
        # In the order of the codes.
        _, estimates, _ = index.range_search(self.turned(queries), far)
        index.reset()
        return estimates.reshape(len(queries), len(codes))


def product_grid(dim, metric, bits):
    """Parts that divide the dimensions; of 8 bits where these fill the rate, else what fills it best."""
    if bits is None:
        return [{"m": m} for m in (dim // 16, dim // 8, dim // 4) if m and dim % m == 0]
    found = [(m, b) for m in range(1, dim + 1) if dim % m == 0 for b in range(4, 13) if fills(dim, bits, m * b)]
    found.sort(key=lambda of: (of[1] != 8, -of[0] * of[1], of[1]))
    return [{"m": m, "nbits": b} for m, b in found[:1]]


class PQ(_Codec):
    """FAISS's IndexPQ, without polysemous training."""

    GRID = product_grid

    def __init__(self, dim, metric, seed, m: int = 8, nbits: int = 8):
        refuse_parts(dim, m)
        index = faiss.IndexPQ(dim, m, nbits, kind(metric))
        index.pq.cp.seed = seed
        super().__init__(index)


class OPQ(_Turned):
    """FAISS's OPQMatrix before IndexPQ; the rotation starts from FAISS's own seed, k-means from ours."""

    GRID = product_grid

    def __init__(self, dim, metric, seed, m: int = 8, nbits: int = 8):
        refuse_parts(dim, m)
        index, self.inside = faiss.IndexPQ(dim, m, nbits, kind(metric)), faiss.ProductQuantizer(dim, m, nbits)
        index.pq.cp.seed = self.inside.cp.seed = seed
        turn = faiss.OPQMatrix(dim, m)
        turn.pq = self.inside
        super().__init__(index, turn)

    def fit(self, X):
        self.turn.train(X)
        super().fit(X)


def refuse_parts(dim, m):
    if m < 1 or dim % m:
        raise ValueError(f"m: {m} does not divide d = {dim}")


def layers_grid(dim, metric, bits):
    """As many layers of 8 bits as the rate has bytes."""
    return [{"layers": int(of * dim / 8)} for of in ([0.5, 1] if bits is None else [bits])]


class RQ(_Codec):
    """FAISS's residual quantizer, its beam and its training."""

    GRID = layers_grid

    def __init__(self, dim, metric, seed, layers: int = 8):
        index = faiss.IndexResidualQuantizer(dim, layers, 8, kind(metric), NO_NORM)
        index.rq.cp.seed = seed
        super().__init__(index)


class LSQ(_Codec):
    """FAISS's local search quantizer (LSQ++). What it tries for a row depends on the rows of the call."""

    GRID = layers_grid

    def __init__(self, dim, metric, seed, layers: int = 8):
        index = faiss.IndexLocalSearchQuantizer(dim, layers, 8, kind(metric), NO_NORM)
        index.lsq.random_seed = seed
        super().__init__(index)


def split_layers_grid(dim, metric, bits):
    """Four sub-spaces, or the next number that divides the dimensions and leaves 8 layers or fewer."""
    found = []
    for of in [1, 2] if bits is None else [bits]:
        most = int(of * dim / 8)
        fit = [(s, most // s) for s in range(4, dim + 1) if dim % s == 0 and 1 <= most // s <= 8]
        fit = [(splits, layers) for splits, layers in fit if splits * layers >= 0.95 * most]
        found += [{"splits": splits, "layers": layers} for splits, layers in fit[:1]]
    return found


class PRQ(_Codec):
    """FAISS's product of residual quantizers."""

    GRID = split_layers_grid

    def __init__(self, dim, metric, seed, splits: int = 2, layers: int = 4):
        refuse_splits(dim, splits)
        index = faiss.IndexProductResidualQuantizer(dim, splits, layers, 8, kind(metric), NO_NORM)
        for of in range(splits):
            part(index.prq, of).cp.seed = seed + of
        super().__init__(index)


class PLSQ(_Codec):
    """FAISS's product of local search quantizers, with the same dependence."""

    GRID = split_layers_grid

    def __init__(self, dim, metric, seed, splits: int = 2, layers: int = 4):
        refuse_splits(dim, splits)
        index = faiss.IndexProductLocalSearchQuantizer(dim, splits, layers, 8, kind(metric), NO_NORM)
        for of in range(splits):
            part(index.plsq, of).random_seed = seed + of
        super().__init__(index)


def refuse_splits(dim, splits):
    if splits < 1 or dim % splits:
        raise ValueError(f"splits: {splits} does not divide d = {dim}")


def part(quantizer, of):
    return faiss.downcast_AdditiveQuantizer(quantizer.subquantizer(of))


class SQ(_Codec):
    """FAISS's scalar quantizer, each dimension between the ends seen in training; nothing is random."""

    @staticmethod
    def GRID(dim, metric, bits):
        return [{"bits": b} for b in (4, 6, 8) if bits is None or fills(dim, bits, b * dim)]

    def __init__(self, dim, metric, bits: int = 8):
        if bits not in (4, 6, 8):
            raise ValueError(f"bits: FAISS's range quantizer has 4, 6 and 8, not {bits}")
        super().__init__(faiss.IndexScalarQuantizer(dim, quantizer(f"{bits}bit"), kind(metric)))


def quantizer(name):
    return getattr(faiss.ScalarQuantizer, f"QT_{name}")


class RaBitQ(_Estimator):
    """FAISS's IndexRaBitQ after a dense random rotation; query_bits = 0 leaves queries as they are."""

    GRID = {"bits": [1, 2, 4, 8]}

    def __init__(self, dim, metric, seed, bits: int = 1, query_bits: int = 0):
        if not 1 <= bits <= 9:
            raise ValueError(f"bits: {bits} is not 1 to 9")
        inner = faiss.IndexRaBitQ(dim, kind(metric), bits)
        inner.qb = query_bits
        super().__init__(inner, random(dim, seed))


class EDEN(_Estimator):
    """FAISS's IndexEDEN after a dense random rotation."""

    GRID = {"bits": [1, 2, 4, 8]}

    def __init__(self, dim, metric, seed, bits: int = 1):
        if not 1 <= bits <= 8:
            raise ValueError(f"bits: {bits} is not 1 to 8")
        super().__init__(faiss.IndexEDEN(dim, kind(metric), bits), random(dim, seed))


class TurboQuant(_Turned):
    """FAISS's TurboQuant without a sketch (QT_Nbit_tqmse) after a dense random rotation. No length is kept."""

    @staticmethod
    def GRID(dim, metric, bits):
        return [{"bits": b} for b in (1, 2, 4, 8) if bits is None or fills(dim, bits, b * dim)]

    def __init__(self, dim, metric, seed, bits: int = 2):
        refuse_lengths(metric)
        if bits not in (1, 2, 3, 4, 8):
            raise ValueError(f"bits: FAISS has 1, 2, 3, 4 and 8, not {bits}")
        inner = faiss.IndexScalarQuantizer(dim, quantizer(f"{bits}bit_tqmse"), kind(metric))
        super().__init__(inner, random(dim, seed))


class TurboQuantProd(_Turned):
    """FAISS's TurboQuant with a sketch of what is left (QT_Nbit_tq) after a dense random rotation."""

    GRID = {"bits": [2, 3, 4, 5]}

    def __init__(self, dim, metric, seed, bits: int = 2):
        refuse_lengths(metric)
        if not 2 <= bits <= 5:
            raise ValueError(f"bits: FAISS has 2 to 5, not {bits}")
        inner = faiss.IndexScalarQuantizer(dim, quantizer(f"{bits}bit_tq"), kind(metric))
        super().__init__(inner, random(dim, seed))


def refuse_lengths(metric):
    if metric != "cosine":
        raise ValueError("FAISS's TurboQuant takes rows of unit length: metric cosine")

