"""FAISS through vq-host beside FAISS called directly: the same error within 0.01 %, and the same neighbours.

    same.py VQ_HOST             in an environment with requirements.txt

Each quantizer is made here a second time, without the classes in methods/, trained on the same rows with the same
seed, and asked in one call where vq-host asks in many. Ends with 1 where anything differs by more. Of the neighbours
of all queries two may be others: FAISS rotates in f32 and methods/faiss.py in f64, so a row that lies on the edge
between two codes may have either.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import faiss
import numpy as np

import rows
from quality import TOP, Truth

HERE = pathlib.Path(__file__).resolve().parent
SEED, WITHIN, OTHERS = 1, 1e-4, 2
NO_NORM = faiss.AdditiveQuantizer.ST_decompress
BASE = 5_000


def seeded_pq(dim, kind):
    index = faiss.IndexPQ(dim, 20, 8, kind)
    index.pq.cp.seed = SEED
    return index


def seeded_rq(dim, kind):
    index = faiss.IndexResidualQuantizer(dim, 4, 8, kind, NO_NORM)
    index.rq.cp.seed = SEED
    return index


def rotated(index):
    turn = faiss.RandomRotationMatrix(index.d, index.d)
    turn.init(SEED)
    return faiss.IndexPreTransform(turn, index)


def queries_as_they_are(dim, kind):
    index = faiss.IndexRaBitQ(dim, kind, 4)
    index.qb = 0
    return rotated(index)


def levels(name):
    return lambda dim, kind: faiss.IndexScalarQuantizer(dim, getattr(faiss.ScalarQuantizer, f"QT_{name}"), kind)


CASES = [
    ("faiss-pq", {"m": 20}, "l2", seeded_pq),
    ("faiss-rq", {"layers": 4}, "l2", seeded_rq),
    ("faiss-sq", {"bits": 4}, "l2", levels("4bit")),
    ("faiss-sq", {"bits": 8}, "l2", levels("8bit")),
    ("faiss-rabitq", {"bits": 4}, "l2", queries_as_they_are),
    ("faiss-eden", {"bits": 4}, "l2", lambda dim, kind: rotated(faiss.IndexEDEN(dim, kind, 4))),
    ("faiss-turboquant", {"bits": 4}, "cosine", lambda dim, kind: rotated(levels("4bit_tqmse")(dim, kind))),
]


def direct(make, metric, data):
    """Relative error and recall, by FAISS's own search.

    It is asked for all rows, as the referee asks for all estimates: for ten, RaBitQ's search leaves out rows by a bound
    that some of the nearest do not keep.
    """
    turn = rows.unit if metric == "cosine" else lambda of: of
    base, learn, queries = turn(data.base), turn(data.learn), turn(data.query)
    index = make(data.dim, faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)
    index.train(learn)
    lost = (base - index.sa_decode(index.sa_encode(base))).astype(np.float64)
    spread = base - base.mean(axis=0, dtype=np.float64)
    index.add(base)
    recall = Truth(base, queries, metric).recall(index.search(queries, len(base))[1])
    return {"relative_error": float((lost**2).sum() / (spread**2).sum()), f"recall@{TOP}": recall}


def bridged(host, use, params, metric, data, folder):
    """The same by the referee."""
    paths = {"base": data.base_path, "queries": data.query_path, "train": data.learn_path}
    text = [f"[sweep]\nname = \"same\"\nseeds = [{SEED}]\n[run]\nthreads = 1\n[evaluate]\nk = [{TOP}]\nmetrics = []"]
    text += ["[[dataset]]", 'name = "words"', f"metric = {json.dumps(metric)}"]
    text += [f"{name} = {json.dumps(path)}" for name, path in paths.items()]
    text += ["[[method]]", f"use = {json.dumps(use)}", *(f"params.{name} = {value}" for name, value in params.items())]
    (folder / "same.toml").write_text("\n".join(text) + "\n")
    command = [host, "run", "same.toml", "--format", "json", "--store", "same.db", "--cache-dir", "cache"]
    command += ["--plugin-dir", str(HERE / "methods")]
    environment = os.environ | {"VQ_PYTHON": sys.prefix}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"vq-host ended with {done.returncode} for {use}\n{done.stderr}")
    (record,) = json.loads(done.stdout)
    return {of["name"]: of["value"] for of in record["metrics"]}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    host, differ = os.path.abspath(sys.argv[1]), 0
    faiss.omp_set_num_threads(1)
    print("| method | metric | through vq-host | directly | apart by |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = rows.load("words", None, BASE, folder)
        for use, params, metric, make in CASES:
            found = bridged(host, use, params, metric, data, folder)
            told = " ".join(f"{name}={value}" for name, value in params.items())
            for name, value in direct(make, metric, data).items():
                apart = abs(found[name] - value)
                differ += apart > (WITHIN * value if name == "relative_error" else OTHERS / data.query.shape[0] / TOP)
                print(f"| {use} {told} | {name} | {found[name]:.6f} | {value:.6f} | {apart / value:.6%} |", flush=True)
    sys.exit(f"{differ} differ by more than that" if differ else 0)


if __name__ == "__main__":
    main()
