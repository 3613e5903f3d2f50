"""Product quantization by FAISS itself: IndexPQ of the `faiss-cpu` wheel."""
import faiss
import numpy as np


class FaissPQ:
    """FAISS's IndexPQ, 8 bits for each of `parts` sub-spaces."""

    def __init__(self, dim, parts: int = 20):
        if parts < 1 or dim % parts:
            raise ValueError(f"parts: {parts} does not divide {dim}")
        self.code_bytes = parts
        self.index = faiss.IndexPQ(dim, parts, 8)

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
