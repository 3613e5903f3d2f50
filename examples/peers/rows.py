"""The rows that both sides get: base, learn and query of every set in a folder, or the repository's."""

import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
COMPARE = HERE.parent / "compare"
sys.path.append(str(COMPARE))

import data

OWN = HERE.parent / "data" / "glove-20k-100d.f16bin"
QUERIES, LEARN = 500, 3_500


def unit(rows):
    """Rows of length 1; zero rows, which have no direction, stay."""
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.where(length > 0, length, 1), dtype=np.float32)


def sets(directory):
    """Names of the sets in a folder, each with its files; of the repository's, one set is cut out."""
    if directory is None:
        return {"glove": None}
    found = {}
    for path in sorted(pathlib.Path(directory).glob("*_base.*bin")):
        if path.suffix[1:] in data.TYPES:
            name = path.stem.removesuffix("_base")
            found[name] = {part: path.with_name(f"{name}_{part}{path.suffix}") for part in ("base", "learn", "query")}
    if not found:
        raise SystemExit(f"no NAME_base.fbin, .f16bin or .u8bin in {directory}")
    return found


def metric(files):
    """What codes are compared by: integers by distance, all else as directions."""
    return "l2" if files is not None and files["base"].suffix == ".u8bin" else "cosine"


def load(name, files, limit, folder, most=None):
    """The set, its base cut to `limit` rows, rows to learn from and queries to `most`; and as files for our side."""
    if files is None:
        rows = data.read(OWN, np.float16)
        query, learn, base = np.split(rows, (QUERIES, QUERIES + LEARN))
        parts = {"base": base, "learn": learn, "query": query}
    else:
        parts = {part: data.read(path, data.TYPES[path.suffix[1:]]) for part, path in files.items()}
    if limit is not None:
        parts["base"] = parts["base"][:limit]
    for part, limit in (most or {}).items():
        parts[part] = parts[part][:limit]
    return data.Data(name, parts, folder)


def of_unit_length(of, folder):
    """The same set with rows of unit length."""
    return data.Data(f"{of.name}-unit", {part: unit(getattr(of, part)) for part in ("base", "learn", "query")}, folder)
