"""{{title}}: x̂ = m + s·round((x − m) / s), with the mean m and the step s = step·σ of each dimension."""

import numpy as np

# What is measured where a sweep names no parameters.
GRID = {"step": [0.025, 0.05, 0.1]}

# No float32 is larger.
LARGEST = float(np.finfo(np.float32).max)


class {{type}}:
    """Each dimension in steps of its own, one byte per dimension."""

    def __init__(self, step: float = 0.05):
        """`step`: standard deviations of a dimension that one step spans, 1e-6 to 1e6."""
        if not 1e-6 <= step <= 1e6:
            raise ValueError(f"step: {step} is not 1e-6 to 1e6")  # the cell is skipped for this reason
        self.step = step

    def fit(self, X):
        """Learns from rows X (n, d), float32, which cannot be written."""
        self.mean = X.mean(axis=0, dtype=np.float64)
        self.width = X.std(axis=0, dtype=np.float64) * self.step + 1e-30  # never 0

    def compress(self, X):
        """Codes (n, d), int8, of rows X (n, d): each of its own row alone."""
        steps = np.round((X - self.mean) / self.width)
        # What is no number has a code too.
        return np.clip(np.nan_to_num(steps), -128, 127).astype(np.int8)

    def decompress(self, codes):
        """Rows (n, d) of codes (n, d)."""
        return np.clip(self.mean + codes * self.width, -LARGEST, LARGEST)
