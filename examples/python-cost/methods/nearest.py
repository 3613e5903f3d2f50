"""Product quantization in numpy alone, plain as one writes it first."""
import numpy as np


class Nearest:
    """The nearest of 256 training rows in each of `parts` sub-spaces, drawn by a seed of its own."""

    def __init__(self, dim, parts: int = 20):
        if parts < 1 or dim % parts:
            raise ValueError(f"parts: {parts} does not divide {dim}")
        self.parts, self.width = parts, dim // parts

    def fit(self, X):
        chosen = np.random.default_rng(0).choice(len(X), 256, replace=len(X) < 256)
        self.centroids = X[chosen].reshape(256, self.parts, self.width).transpose(1, 0, 2).copy()
        self.half_norms = (self.centroids**2).sum(axis=2) / 2

    def compress(self, X):
        codes = np.empty((len(X), self.parts), np.uint8)
        for j, (centroids, half) in enumerate(zip(self.centroids, self.half_norms)):
            part = X[:, j * self.width:(j + 1) * self.width]
            codes[:, j] = np.argmin(half - part @ centroids.T, axis=1)
        return codes

    def decompress(self, codes):
        return np.concatenate([self.centroids[j][codes[:, j]] for j in range(self.parts)], axis=1)
