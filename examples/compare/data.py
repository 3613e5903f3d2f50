"""The rows that both sides get: real ones from a directory, or drawn ones of the same shapes."""

import pathlib

import numpy as np

# Name: dimension, rows of base, learn and query, extension of the files; None is always drawn.
SHAPES = {
    "sift128": (128, 100_000, 50_000, 1_000, "u8bin"),
    "glove100": (100, 100_000, 30_000, 1_000, "fbin"),
    "minilm384": (384, 30_000, 10_000, 500, "f16bin"),
    "million128": (128, 1_000_000, 1, 1_000, None),
}
TYPES = {"u8bin": np.uint8, "fbin": np.float32, "f16bin": np.float16}


class Data:
    """A set's base, learn and query (n, d) as f32, each also an .fbin file for our side."""

    def __init__(self, name, parts, folder):
        self.name = name
        self.dim = parts["base"].shape[1]
        for part, rows in parts.items():
            rows = at_a_line(rows)
            path = folder / f"{name}_{part}.fbin"
            with open(path, "wb") as out:
                np.array(rows.shape, dtype="<u4").tofile(out)
                rows.astype("<f4", copy=False).tofile(out)
            setattr(self, part, rows)
            setattr(self, f"{part}_path", str(path))


def at_a_line(rows):
    """The same (n, d) as f32 from the start of a line of the cache on, as our side has them."""
    room = np.empty(rows.size + 16, dtype=np.float32)
    first = -room.ctypes.data % 64 // 4
    room[first : first + rows.size] = rows.reshape(-1)
    return room[first : first + rows.size].reshape(rows.shape)


def read(path, dtype):
    """The big-ann layout: u32 n, u32 d, then n·d little-endian values."""
    n, d = np.fromfile(path, dtype="<u4", count=2)
    rows = np.fromfile(path, dtype=np.dtype(dtype).newbyteorder("<"), offset=8)
    return rows.reshape(n, d).astype(np.float32)


def load(name, directory, folder):
    """The set `name` from `directory`, or drawn where that is None."""
    dim, *counts, extension = SHAPES[name]
    parts = ("base", "learn", "query")
    if directory is not None and extension is not None:
        paths = {part: pathlib.Path(directory) / f"{name}_{part}.{extension}" for part in parts}
        return Data(name, {p: read(path, TYPES[extension]) for p, path in paths.items()}, folder)
    rows = draw(name, dim, sum(counts))
    ends = np.cumsum(counts)
    return Data(name, dict(zip(parts, np.split(rows, ends[:-1]))), folder)


def draw(name, dim, n):
    """Gaussian clusters with a decaying spectrum; integers, plain or of unit length, as the set is."""
    rng = np.random.default_rng(sum(name.encode()))
    spread = (1.0 + np.arange(dim)) ** -0.5
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    centres = rng.standard_normal((200, dim)) * spread
    rows = centres[rng.integers(200, size=n)] + 0.7 * rng.standard_normal((n, dim)) * spread
    rows = rows @ turn
    if name == "sift128":
        return np.clip(np.rint(rows * 60 + 40), 0, 255)
    if name == "minilm384":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
