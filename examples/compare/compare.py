#!/usr/bin/env python3
"""Measures our kernels and FAISS alternately in one run. Started by run.sh; see README.md."""

import argparse
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field

# Before anything loads a BLAS: a setting that happens to be in this shell is not how FAISS comes.
for name in [name for name in os.environ if name.startswith(("OPENBLAS_", "GOTO_", "OMP_", "GOMP_"))]:
    del os.environ[name]

import numpy as np

import data as datasets
import machine
import report
from ours import Ours, Refused
from works import all_works

# A timed repetition lasts at least this long.
AT_LEAST_S = 0.3
# What the machine gives to more threads is looked at for so long, beside each repetition.
SPIN_S = 0.1
# Between two sides: whatever still spins goes to sleep.
PAUSE_S = 0.05
# Of each array whose bandwidth is measured: many times the last-level cache.
BANDWIDTH_BYTES = 256 << 20


@dataclass
class Outcome:
    """One work on one number of threads."""

    work: object
    n: int  # rows worked on
    threads: int
    seconds: dict = field(default_factory=dict)  # side: median seconds of one call
    fastest: dict = field(default_factory=dict)  # side: seconds of one call in the fastest repetition
    spread: dict = field(default_factory=dict)  # side: (max − min) / median
    quality: dict = field(default_factory=dict)  # side: error, objective or recall
    spin_s: float | None = None  # seconds of one call of work that threads only divide, the fastest
    intruded: float = 0.0  # most CPU time of the idle side, as a fraction of the timed
    refused: str = ""
    per_call: int = 0  # vectors or codes of one call
    shown_n: int = 0  # rows, of a training those learned from
    flops: float | None = None
    moved: float | None = None


def arguments():
    parser = argparse.ArgumentParser(prog="examples/compare/run.sh", description=__doc__)
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="sift128, glove100 and minilm384 in big-ann files; default: drawn data of the same shapes",
    )
    parser.add_argument(
        "--only", metavar="REGEX", default="", help="works whose name matches, e.g. 'PQ encode.*sift|k-means'"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed repetitions per side; the median counts (default 3)"
    )
    parser.add_argument(
        "--threads",
        default=None,
        metavar="1,2",
        help="thread counts; encodes and decodes run with each, the rest with the largest (default 1 and all cores)",
    )
    parser.add_argument("--markdown", metavar="FILE", help="write the report there")
    parser.add_argument(
        "--blas",
        default="auto",
        metavar="auto|as-installed|CORE",
        help="kernels for FAISS's OpenBLAS where it does not know the CPU (default auto)",
    )
    parser.add_argument("--list", action="store_true", help="name the works and end")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--plugins", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    options.threads = sorted({int(n) for n in (options.threads or f"1,{cores}").split(",")})
    if options.repeats < 1 or options.threads[0] < 1:
        parser.error("--repeats and --threads are at least 1")
    options.works = [work for work in all_works() if re.search(options.only, work.name)]
    if not options.works:
        parser.error(f"no work matches {options.only!r}; --list names them")
    return options


def measure(work, data, counts, repeats, ours, peer):
    """Times the sides in turn, on each of the thread `counts`; an outcome per count, and the answers of the sides."""
    n = min(work.n or len(data.base), len(data.base))
    sides, answers, refused = {}, {}, ""
    try:
        ours.prepare(work, data, n, counts[-1])
        sides["ours"], answers["ours"] = ours.time, lambda: ours.answer(work, data)
    except Refused as reason:
        refused = str(reason)
    for side in ("faiss", "tuned"):
        made = peer.prepare(work, data, n, counts[-1], side == "tuned")
        if made is not None:
            sides[side], answers[side] = made
    order = [(side, threads) for threads in counts for side in sides]
    if work.kind not in ("fit", "kmeans"):
        for side, threads in order:
            sides[side](0, threads)
    times = {turn: [] for turn in order}
    intruded = 0.0
    spins = {threads: [] for threads in counts}
    for _ in range(min(repeats, work.repeats or repeats)):
        if len(counts) > 1:
            for threads in counts:
                calls, seconds = ours.spin(SPIN_S, threads)
                spins[threads].append(seconds / calls)
        for side, threads in order:
            time.sleep(PAUSE_S)
            idle = time.process_time if side == "ours" else ours.cpu_s
            before = idle()
            calls, seconds = sides[side](AT_LEAST_S, threads)
            intruded = max(intruded, (idle() - before) / seconds)
            times[side, threads].append(seconds / calls)
        # Whoever is first this time is last the next.
        order.append(order.pop(0))
    outcomes = []
    for threads in counts:
        outcome = Outcome(work, n, threads, refused=refused, intruded=intruded)
        outcome.per_call = n * (len(data.query) if work.kind == "scan" else 1)
        outcome.shown_n = min(work.train_n or len(data.learn), len(data.learn)) if work.kind == "fit" else n
        outcome.spin_s = min(spins[threads], default=None)
        for side in sides:
            values = times[side, threads]
            outcome.seconds[side] = statistics.median(values)
            outcome.fastest[side] = min(values)
            outcome.spread[side] = (max(values) - min(values)) / outcome.seconds[side]
        outcomes.append(outcome)
    return outcomes, answers


class Judge:
    """Quality, by one formula for all sides."""

    def __init__(self):
        self.truths = {}

    def __call__(self, work, data, n, answer):
        x = data.base[:n]
        if work.kind in ("scan", "neighbours"):
            return self.recall(data, n, answer)
        if work.kind == "kmeans":
            return objective(x, answer)
        error = np.sum((x.astype(np.float64) - answer) ** 2)
        return float(error / np.sum((x - x.mean(axis=0, dtype=np.float64)) ** 2))

    def recall(self, data, n, found):
        """The part of `found` (q, k) that is as near as the true k-th neighbour."""
        k, hits = found.shape[1], 0
        for query, rows, furthest in zip(data.query, found, self.truth(data, n)[:, k - 1]):
            rows = data.base[np.unique(rows)].astype(np.float64)
            hits += np.count_nonzero(np.sum((rows - query) ** 2, axis=1) <= furthest * (1 + 1e-9))
        return hits / found.size

    def truth(self, data, n):
        """Per query the squared distances of its 100 nearest rows, ascending (q, 100), in f64."""
        if (data.name, n) not in self.truths:
            x = data.base[:n].astype(np.float64)
            norms, found = np.sum(x**2, axis=1), []
            for query in np.array_split(data.query.astype(np.float64), 20):
                scores = norms - 2 * query @ x.T
                # Products round, so that a few more are measured again by differences.
                near = np.argpartition(scores, 120, axis=1)[:, :120]
                exact = [np.sum((x[rows] - q) ** 2, axis=1) for q, rows in zip(query, near)]
                found.append(np.sort(exact, axis=1)[:, :100])
            self.truths[data.name, n] = np.concatenate(found)
        return self.truths[data.name, n]


def objective(x, centroids):
    """Mean squared distance to the nearest centroid."""
    total = 0.0
    norms = np.sum(centroids.astype(np.float64) ** 2, axis=1)
    for rows in np.array_split(x, 20):
        nearest = np.argmin(norms - 2 * rows @ centroids.T, axis=1)
        total += np.sum((rows.astype(np.float64) - centroids[nearest]) ** 2)
    return float(total / len(x))


def main():
    options = arguments()
    if options.list:
        print("\n".join(work.name for work in options.works))
        return 0
    started = time.monotonic()
    load_before = os.getloadavg()
    if load_before[0] > 0.5:
        say(f"the machine is busy (load average {load_before[0]:.2f}): wait until it is quiet for ratios that count")
    # The comparison of environments stands in the page only.
    say("looking at FAISS's environment …")
    environment = machine.FaissEnvironment(options.blas, compare=options.markdown is not None)
    # Only now: FAISS reads its environment when it is loaded.
    from peer import Peer, faiss

    run = report.Run(
        options, environment, machine.describe() | {"FAISS": f"faiss-cpu {faiss.__version__}, numpy {np.__version__}"}
    )
    with tempfile.TemporaryDirectory() as folder:
        ours, peer, judge = Ours(options.program, options.plugins, folder), Peer(), Judge()
        say("measuring what the machine can do …")
        run.measure_limits(ours, BANDWIDTH_BYTES)
        say(run.limits_line())
        sets = {}
        for work in options.works:
            if work.data not in sets:
                sets[work.data] = datasets.load(work.data, options.data, pathlib.Path(folder))
            data = sets[work.data]
            counts = options.threads if work.kind in ("encode", "decode") else options.threads[-1:]
            outcomes, answers = measure(work, data, counts, options.repeats, ours, peer)
            outcomes[-1].quality = {
                side: judge(work, data, outcomes[-1].n, answer()) for side, answer in answers.items()
            }
            for outcome in outcomes:
                run.add(outcome, data)
                say(run.line(outcome))
        # Again, since other programs come and go: the higher figure is the machine's.
        run.measure_limits(ours, BANDWIDTH_BYTES)
        ours.close()
    run.load = load_before, os.getloadavg()
    run.took_s = time.monotonic() - started
    print(run.works_table(), flush=True)
    if options.markdown:
        pathlib.Path(options.markdown).write_text(run.markdown())
        say(f"wrote {options.markdown}")
    return 0


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
