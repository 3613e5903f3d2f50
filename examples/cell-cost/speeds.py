#!/usr/bin/env python3
"""Speeds that vq-host measures in a confined process, beside the same calls of the same plugin in one process, by turns.

    speeds.py [--repeats N] [--threads 1,2] [--methods A,B] --data FOLDER VQ_HOST VQ_COMPARE

Encoding and decoding of one block, as large as vq-host lends it, of the set sift128 (FOLDER as of examples/compare;
drawn without it). VQ_COMPARE is the program of examples/compare, which calls a plugin as vq-host does, without a
process between. Both are timed alike: calls for 10 ms that do not count, then the median of three times 30 ms, and no
output is filled between calls. Run it where nothing else runs. Needs numpy.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "compare"))

import data

METHODS = {
    "cast": {"type": "f16"},
    "sq": {"bits": 8},
    "pq": {"m": 16},
    "opq": {"m": 16},
    "rq": {"layers": 4},
    "rabitq": {"bits": 2},
    "turboquant": {"bits": 4},
}
TAGS = {int: "Int", str: "Str"}
# Bytes that vq-host lends at a time.
BLOCK_BYTES = 8 << 20
# Of a short call, as in host/src/measure/timing.rs.
WARM_S, TIMED_S = 0.01, 0.03
NAMES = {"encode": "compress_vectors_per_s", "decode": "decompress_vectors_per_s"}


class OneProcess:
    """The program of examples/compare. One is one draw of where its pages lie, on which depends what a cache holds: each
    turn has a new one, as each of vq-host's is new."""

    def __init__(self, program, plugins, rows, block):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.child = subprocess.Popen([program], text=True, **pipes)
        self.plugins, self.rows, self.block = plugins, rows, block

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait()

    def ask(self, **request):
        print(json.dumps(request), file=self.child.stdin, flush=True)
        answer = json.loads(self.child.stdout.readline())
        if "error" in answer:
            raise SystemExit(answer["error"])
        return answer["ok"]

    def speed(self, method, kind, threads):
        codec = {
            "library": str(self.plugins / f"libvq_{method}.so"),
            "method": method,
            "params": {name: {TAGS[type(value)]: value} for name, value in METHODS[method].items()},
            "train": self.rows.learn_path,
            "train_rows": len(self.rows.learn),
        }
        work = {"kind": kind, "codec": codec, "rows": self.rows.base_path, "n": self.block}
        self.ask(do="prepare", threads=threads, work=work)
        # The first call maps its pages.
        for at_least_s in (0.0, WARM_S):
            self.repetition(threads, at_least_s)
        return statistics.median(self.repetition(threads, TIMED_S) for _ in range(3))

    def repetition(self, threads, at_least_s):
        timed = self.ask(do="time", threads=threads, at_least_s=at_least_s, as_left=True)
        return self.block * timed["calls"] / timed["seconds"]


def by_host(host, rows, folder, method, threads):
    """Both speeds, by name."""
    params = "\n".join(f"params.{name} = {json.dumps(value)}" for name, value in METHODS[method].items())
    sweep = folder / "sweep.toml"
    sweep.write_text(f"""[sweep]
name = "speeds"
metric = "l2"
[run]
threads = {threads}
[evaluate]
k = [10]
rerank = [1]
pairs = 100
metrics = []
[[dataset]]
name = "sift128"
base = "{rows.base_path}"
train = "{rows.learn_path}"
queries = "{rows.query_path}"
[[method]]
use = "{method}"
{params}
""")
    command = [host, "run", sweep, "--force", "--format", "json", "--cache-dir", folder / "cache"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {metric["name"]: metric["value"] for metric in json.loads(done.stdout)[-1]["metrics"]}


def ratio(one, apart):
    """The ratio of the medians, and between what it lies with 95 % (bootstrap, 2,000 draws)."""
    draw = random.Random(1)
    again = lambda values: statistics.median(draw.choices(values, k=len(values)))
    drawn = sorted(again(apart) / again(one) for _ in range(2000))
    return statistics.median(apart) / statistics.median(one), drawn[50], drawn[-51]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--methods", default=",".join(METHODS), help="only these")
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("host", type=pathlib.Path)
    parser.add_argument("compare")
    given = parser.parse_args()
    host = given.host.resolve()
    print("| method | threads | what | one process | vq-host | ratio | 95 % |\n|---|--:|---|--:|--:|--:|:-:|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = data.load("sift128", given.data, folder)
        for threads in map(int, given.threads.split(",")):
            for method in given.methods.split(","):
                speeds = {(kind, side): [] for kind in NAMES for side in ("one process", "vq-host")}

                def alone():
                    with OneProcess(given.compare, host.parent, rows, BLOCK_BYTES // (4 * rows.dim)) as process:
                        for kind in NAMES:
                            speeds[kind, "one process"].append(process.speed(method, kind, threads))

                def confined():
                    measured = by_host(host, rows, folder, method, threads)
                    for kind, name in NAMES.items():
                        speeds[kind, "vq-host"].append(measured[name])

                turn = [alone, confined]
                for _ in range(given.repeats):
                    for side in turn:
                        side()
                    # Whoever is first this time is last the next.
                    turn.reverse()
                for kind in NAMES:
                    one, apart = (speeds[kind, side] for side in ("one process", "vq-host"))
                    medians = f"{statistics.median(one):,.0f} | {statistics.median(apart):,.0f}"
                    found, low, high = ratio(one, apart)
                    print(f"| {method} | {threads} | {kind} | {medians} | {found:.3f} | {low:.2f} to {high:.2f} |", flush=True)


if __name__ == "__main__":
    main()
