"""The quantizers of the nanopq wheel, with its own rounds of training."""
import nanopq


def grid(dim, metric, bits):
    """A byte for each part; parts have to divide the dimensions."""
    if bits is None:
        return [{"m": m} for m in (dim // 16, dim // 8, dim // 4) if m and dim % m == 0]
    most = int(bits * dim / 8)
    return [{"m": m} for m in range(most, 0, -1) if dim % m == 0 and m >= 0.95 * most][:1]


class _Codec:
    GRID = grid

    def __init__(self, dim, metric, seed, m: int = 8):
        if m < 1 or dim % m:
            raise ValueError(f"m: {m} does not divide d = {dim}")
        self.codec, self.seed, self.code_bytes = self.KIND(M=m, Ks=256, verbose=False), seed, m

    def fit(self, X):
        self.codec.fit(X, seed=self.seed)

    def compress(self, X):
        return self.codec.encode(X)

    def decompress(self, codes):
        return self.codec.decode(codes)


class PQ(_Codec):
    """nanopq's PQ: k-means by SciPy."""

    KIND = nanopq.PQ


class OPQ(_Codec):
    """nanopq's OPQ: a rotation learned by turns with the codebooks."""

    KIND = nanopq.OPQ
