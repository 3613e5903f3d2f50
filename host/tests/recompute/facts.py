"""What `vq-host data inspect` says of a file, computed by numpy: facts.py data FOLDER writes the files,
facts.py check FOLDER compares them with FOLDER/inspect.json.
"""

import json
import pathlib
import sys

import numpy as np

SAMPLED, NEIGHBOURS = 2000, 10


def data(folder):
    draw = np.random.default_rng(7)
    # A few directions hold most of it; some rows are zero, repeat others or are no numbers.
    x = draw.normal(size=(4500, 6)) @ draw.normal(size=(6, 24)) + draw.normal(size=(4500, 24)) + 3
    x[:, 5] = 0.25
    x[[17, 900]] = 0
    x[17, 3] = -0.0
    x[100:140] = x[3000:3040]
    x[[4, 2000], 3] = np.nan, -np.inf
    np.save(folder / "odd.npy", x.astype("f4"))
    unit = draw.normal(size=(1500, 33))
    np.save(folder / "unit.npy", (unit / np.linalg.norm(unit, axis=1)[:, None]).astype("f4"))
    np.save(folder / "bytes.npy", draw.integers(0, 5, size=(300, 3)).astype("u1"))
    np.save(folder / "two.npy", np.array([[1, 2], [4, 6]], "f8"))


def facts(path):
    raw = np.load(path)
    x = raw.astype("f4").astype("f8")
    finite = np.isfinite(x).all(axis=1)
    good = x[finite]
    length = np.linalg.norm(good, axis=1)
    variance = good.var(axis=0)
    stride = -(-len(x) // SAMPLED)
    kept = np.zeros(len(x), bool)
    kept[::stride] = True
    sample = x[kept & finite]
    n = len(sample)
    centred = sample - sample.mean(axis=0)
    products = centred @ centred.T
    off = ~np.eye(n, dtype=bool)
    trace = (centred**2).sum() / n
    l2 = np.sqrt(((sample[:, None] - sample[None]) ** 2).sum(-1)) if n < 400 else np.sqrt(
        np.maximum((sample**2).sum(1)[:, None] + (sample**2).sum(1)[None] - 2 * sample @ sample.T, 0)
    )
    nearest = np.where(off, l2, np.inf)
    near = np.argsort(nearest, axis=1, kind="stable")[:, : min(NEIGHBOURS, n - 1)]
    times = np.bincount(near.ravel(), minlength=n).astype("f8")
    spread = times.std()
    return {
        "element": raw.dtype.str[1:],
        "rows": len(x),
        "dim": x.shape[1],
        "norm": [length.min(), length.mean(), length.max()],
        "not_finite": int((~finite).sum()),
        "zero": int((length == 0).sum()),
        # 0 and -0 are equal.
        "duplicates": len(good) - len(np.unique(good + 0.0, axis=0)),
        "nearly_constant": int((variance <= 1e-6 * variance.mean()).sum()),
        "sampled": n,
        "effective_dim": min(trace**2 / (products[off] ** 2).mean(), x.shape[1]),
        "contrast": l2[off].mean() / nearest.min(axis=1).mean(),
        "hubness": ((times - times.mean()) ** 3).mean() / spread**3 if spread > 0 else 0.0,
    }


def check(folder):
    wrong = []
    for said in json.loads((folder / "inspect.json").read_text()):
        name = pathlib.Path(said["file"]).name
        for key, expected in facts(folder / name).items():
            if name == "bytes.npy" and key in ("contrast", "hubness"):
                # Which of many rows as near is among the ten, and whether 0 is just 0, is anybody's.
                continue
            same = said[key] == expected if isinstance(expected, (int, str)) else np.allclose(
                said[key], expected, rtol=1e-5, atol=1e-9
            )
            if not same:
                wrong.append(f"{name}: {key} is {said[key]}, numpy has {expected}")
    if wrong:
        sys.exit("\n".join(wrong))
    print("the same")


{"data": data, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
