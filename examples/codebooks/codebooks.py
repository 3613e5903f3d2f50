"""Our codebook methods beside those of FAISS: the same training rows, the same base, equal bytes.

Writes a line as soon as a cell is done, so that a run may be stopped; what FILE has already is not measured again.
"""

import argparse
import contextlib
import json
import multiprocessing
import pathlib
import queue
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "compare"))

import data

RATES = (0.5, 1, 2, 4)
MOST_SEARCHED = 32  # layers of lsq
HEAD = (
    "| set | bytes | side | configuration | relative error | train s | encode rows/s |\n"
    "|---|---|---|---|---|---|---|\n"
)


def shapes(dim, code_bytes, most_first=False):
    """(splits, layers) whose layers of 8 bits are `code_bytes`: in 1, 2, 4 and 8 sub-spaces, and in the fewest with at
    most 8 layers each."""
    able = [s for s in range(1, dim + 1) if code_bytes % s == 0 and dim % s == 0]
    fewest = next((s for s in able if code_bytes // s <= 8), 1)
    return [(s, code_bytes // s) for s in sorted({1, 2, 4, 8, fewest} & set(able), reverse=most_first)]


def ours(dim, code_bytes):
    """Method and parameters of ours that take so many bytes."""
    if dim % code_bytes == 0:
        yield "pq", {"m": code_bytes, "bits": 8}
        yield "opq", {"m": code_bytes, "bits": 8}
    for splits, layers in shapes(dim, code_bytes):
        yield "rq", {"splits": splits, "layers": layers, "beam": 5}
        if layers <= MOST_SEARCHED:
            yield "lsq", {"splits": splits, "layers": layers}


def theirs(faiss, dim, code_bytes):
    """Names and what makes the quantizer, at the same bytes; FAISS adds no norm to these codes."""
    none = faiss.AdditiveQuantizer.ST_decompress
    if dim % code_bytes == 0:
        # Without polysemous training, which is for another search.
        yield f"PQ{code_bytes}x8np", lambda: faiss.index_factory(dim, f"PQ{code_bytes}x8np")
        yield f"OPQ{code_bytes},PQ{code_bytes}x8np", lambda: faiss.index_factory(
            dim, f"OPQ{code_bytes},PQ{code_bytes}x8np"
        )
    for splits, layers in shapes(dim, code_bytes):
        if splits == 1:
            yield f"RQ{layers}x8", lambda n=layers: faiss.ResidualQuantizer(dim, n, 8, none)
        else:
            yield (
                f"PRQ{splits}x{layers}x8",
                lambda s=splits, n=layers: faiss.ProductResidualQuantizer(dim, s, n, 8, none),
            )
    # Most sub-spaces first: their layers are fewest, and the time grows with the square of those.
    for splits, layers in shapes(dim, code_bytes, most_first=True):
        if splits == 1:
            yield f"LSQ{layers}x8", lambda n=layers: faiss.LocalSearchQuantizer(dim, n, 8, none)
        else:
            yield (
                f"PLSQ{splits}x{layers}x8",
                lambda s=splits, n=layers: faiss.ProductLocalSearchQuantizer(dim, s, n, 8, none),
            )


class Sheet:
    """The lines so far, in a file."""

    def __init__(self, path):
        self.path = path
        if not path.exists():
            path.write_text(HEAD)
        self.keys = {tuple(line.split(" | ")[:4]) for line in path.read_text().splitlines()[2:]}

    @staticmethod
    def start(of, code_bytes, side, name):
        return (f"| {of}", str(code_bytes), side, name)

    def has(self, *key):
        return self.start(*key) in self.keys

    def add(self, key, *values):
        line = " | ".join((*self.start(*key), *values)) + " |"
        print(line, flush=True)
        with self.path.open("a") as to:
            to.write(line + "\n")


def measure_theirs(make_at, dim, code_bytes, learn, base, threads, seconds, answer):
    """One of FAISS's cells, in a process that ends when it has had its processor seconds."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    import faiss

    faiss.omp_set_num_threads(threads)
    made = list(theirs(faiss, dim, code_bytes))[make_at][1]()
    index = isinstance(made, faiss.Index)
    began = time.perf_counter()
    made.train(learn)
    fit = time.perf_counter() - began
    encode, decode = (made.sa_encode, made.sa_decode) if index else (made.compute_codes, made.decode)
    lost, spent = 0.0, 0.0
    for first in range(0, len(base), 10_000):
        rows = base[first : first + 10_000]
        began = time.perf_counter()
        codes = encode(rows)
        spent += time.perf_counter() - began
        assert codes.shape[1] == code_bytes, codes.shape
        lost += float(((rows - decode(codes)).astype(np.float64) ** 2).sum())
    answer.put((lost, fit, len(base) / spent))


def variance(base):
    return float(((base - base.mean(0, dtype=np.float64)) ** 2).sum())


def beside(options, name, learn, base, sheet, code_bytes):
    import faiss

    dim = base.shape[1]
    for at, (label, _) in enumerate(theirs(faiss, dim, code_bytes)):
        key = (name, code_bytes, "FAISS", label)
        if sheet.has(*key) or not re.search(options.only, label):
            continue
        fork = multiprocessing.get_context("spawn")
        answer = fork.Queue()
        seconds = 60 * options.minutes * options.threads
        what = (at, dim, code_bytes, learn, base, options.threads, seconds, answer)
        child = fork.Process(target=measure_theirs, args=what)
        child.start()
        found = None
        while found is None and child.is_alive():
            with contextlib.suppress(queue.Empty):
                found = answer.get(timeout=1)
        child.join()
        if child.exitcode == 0 and found is None:  # It answered and ended between two looks.
            found = answer.get(timeout=1)
        if found is None and child.exitcode not in (-signal.SIGXCPU, -signal.SIGKILL):
            raise SystemExit(f"{label} of {name} ended with {child.exitcode}")
        if found is None:
            sheet.add(key, f"not done in {options.minutes} min", "", "")
        else:
            lost, fit, speed = found
            sheet.add(key, f"{lost / variance(base):.5f}", f"{fit:.1f}", f"{speed:,.0f}")


def by_referee(options, name, files, folder, sheet, code_bytes, dim):
    for method, params in ours(dim, code_bytes):
        label = " ".join([method, *(f"{key}={value}" for key, value in params.items())])
        key = (name, code_bytes, "ours", label)
        if sheet.has(*key) or not re.search(options.only, label):
            continue
        lines = [
            f'[sweep]\nname = "codebooks"\n[run]\nthreads = {options.threads}\ntimeout = "{options.minutes}min"',
            f"store = {json.dumps(str(folder / 'codebooks.db'))}",
            "[evaluate]\nk = [10]\npairs = 1000\nrerank = [1]\nrepeats = 1\nmetrics = []",
            f"[[dataset]]\nname = {json.dumps(name)}",
            *(f"{part} = {json.dumps(str(path))}" for part, path in files.items()),
            f'[[method]]\nuse = "{method}"',
            *(f"params.{key} = {value}" for key, value in params.items()),
        ]
        sweep = folder / "codebooks.toml"
        sweep.write_text("\n".join(lines) + "\n")
        command = [options.host, "run", str(sweep), "--format", "json", "--cache-dir", str(folder / "cache")]
        command += ["--plugin-dir", options.plugins] if options.plugins else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        records = json.loads(done.stdout) if done.returncode in (0, 3) else []
        if not records:
            raise SystemExit(f"vq-host ended with {done.returncode} for {label}")
        record = records[-1]
        if record["outcome"] != "ok":
            sheet.add(key, record["outcome"], "", "")
            continue
        values = {metric["name"]: metric["value"] for metric in record["metrics"]}
        assert values["code_bytes"] == code_bytes, (label, values["code_bytes"])
        sheet.add(
            key,
            f"{values['relative_error']:.5f}",
            f"{values['fit_s']:.1f}",
            f"{values['compress_vectors_per_s']:,.0f}",
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=pathlib.Path, help="a folder of NAME_base, NAME_learn, NAME_query")
    parser.add_argument("--sets", help="A,B: some of the sets")
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="bits per dimension")
    parser.add_argument("--learn", type=int, default=20_000, help="first rows of learn that both sides get")
    parser.add_argument("--limit", type=int, help="first rows of the base")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=int, default=30, help="most time of a cell; FAISS's: of each thread's processor")
    parser.add_argument("--side", choices=("ours", "theirs"), help="one of them alone")
    parser.add_argument("--only", default="", metavar="REGEX", help="configurations that match, such as LSQ")
    parser.add_argument("--host", default="vq-host")
    parser.add_argument("--plugins", help="folder of our plugins, where the host does not find them")
    parser.add_argument("--markdown", type=pathlib.Path, default=pathlib.Path("codebooks.md"))
    options = parser.parse_args()
    sheet = Sheet(options.markdown)
    bases = sorted(path for path in options.data.glob("*_base.*bin") if path.suffix[1:] in data.TYPES)
    wanted = options.sets.split(",") if options.sets else [path.stem.removesuffix("_base") for path in bases]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for path in bases:
            name = path.stem.removesuffix("_base")
            if name not in wanted:
                continue
            most = {"base": options.limit, "learn": options.learn, "query": None}
            rows, files = {}, {}
            for part, limit in most.items():
                read = data.read(path.with_name(f"{name}_{part}{path.suffix}"), data.TYPES[path.suffix[1:]])
                rows[part] = np.ascontiguousarray(read[:limit], dtype=np.float32)
                key = "queries" if part == "query" else "train" if part == "learn" else part
                files[key] = folder / f"{name}_{part}.fbin"
                with files[key].open("wb") as to:
                    to.write(np.array(rows[part].shape, "<u4").tobytes() + rows[part].astype("<f4").tobytes())
            dim = rows["base"].shape[1]
            for rate in map(float, options.rates.split(",")):
                code_bytes = int(rate * dim / 8)
                if options.side != "theirs":
                    by_referee(options, name, files, folder, sheet, code_bytes, dim)
                if options.side != "ours":
                    beside(options, name, rows["learn"], rows["base"], sheet, code_bytes)


if __name__ == "__main__":
    main()
