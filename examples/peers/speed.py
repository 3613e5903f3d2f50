"""Encoding and search, ours and a rival's by turns in one run; one process per number of threads."""

import dataclasses
import multiprocessing
import os
import pathlib
import statistics
import tempfile
import time

import matches
import rows
from ours import Ours

# Each repetition lasts at least so long.
AT_LEAST_S = 0.3
# Whatever still spins goes to sleep before the other side's turn.
PAUSE_S = 0.05
# Rows that are encoded: a rival that needs a second for them is slow enough.
ENCODED = 20_000
TOP = 10


@dataclasses.dataclass
class Pair:
    """Medians per second, of vectors encoded or of queries answered; None where a side was not timed."""

    ours: float
    rival: float
    goal: float | None

    def ratio(self):
        return self.ours / self.rival


@dataclasses.dataclass
class Speed:
    match: object
    threads: int
    settings: dict
    rival_bytes: float
    ours_bytes: int | None = None
    encode: Pair | None = None
    search: Pair | None = None


@dataclasses.dataclass
class Work:
    """What examples/compare's program is asked."""

    kind: str
    method: str
    params: dict
    top: int = TOP
    train_n: int | None = None


def repeat(call):
    """Calls per second."""
    calls, started = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - started < AT_LEAST_S:
        call()
        calls += 1
    return calls / (time.perf_counter() - started)


def by_turns(ours, threads, rival, repeats):
    """Medians of calls per second. Each side is called once before."""
    ours.time(0, threads)
    rival()
    rates = ([], [])
    for turn in range(repeats):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            time.sleep(PAUSE_S)
            if side == 0:
                calls, seconds = ours.time(AT_LEAST_S, threads)
                rates[0].append(calls / seconds)
            else:
                rates[1].append(repeat(rival))
    return statistics.median(rates[0]), statistics.median(rates[1])


def measure(options, name, files, threads):
    """All rows of one number of threads, in a process that knows no other."""
    ask = multiprocessing.get_context("spawn")
    environment = {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    os.environ.update({name: str(value) for name, value in environment.items()})
    os.environ["OMP_WAIT_POLICY"] = "passive"
    with ask.Pool(1) as pool:
        found, notes = pool.apply(child, (options, name, files, threads))
    # What a library has built does not travel between processes: a row comes with the number of its match.
    every = matches.speed()
    return [dataclasses.replace(row, match=every[row.match]) for row in found], notes


def child(options, name, files, threads):
    found, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = rows.load(name, files, options.limit, folder)
        sets = {"l2": data, "cosine": rows.of_unit_length(data, folder)}
        ours = Ours(options.program, options.plugins, str(folder))
        for number, match in enumerate(matches.speed()):
            if not options.wanted(match):
                continue
            if not (pathlib.Path(options.plugins) / f"libvq_{match.method}.so").exists():
                notes.append(f"{match.method}: no libvq_{match.method}.so among the plugins")
                continue
            try:
                row = one(match, sets[match.rival.metric], ours, threads, options.repeats)
                found.append(dataclasses.replace(row, match=number))
            except Exception as error:  # a rival may raise anything; what it says is the row
                notes.append(f"speed, {match.rival.name} beside {match.method}: {str(error).splitlines()[0]}")
        ours.close()
    return found, notes


def one(match, data, ours, threads, repeats):
    """Encoding of the first rows, and search over all where it is asked for."""
    rival = match.rival
    rival.fit(data.learn, 1, threads)
    settings = match.settings(data.dim, rival.code_bytes())[0]
    found = Speed(match, threads, settings, rival.code_bytes(), match.code_bytes(data.dim, settings))
    n = min(ENCODED, len(data.base))
    if rival.encode is not None:
        ours.prepare(Work("encode", match.method, settings), data, n, threads)
        a, b = by_turns(ours, threads, rival.encode(data.base[:n], threads), repeats)
        found.encode = Pair(a * n, b * n, match.encode_goal)
    if match.search_goal is None:
        return found
    ours.prepare(Work("scan", match.method, settings), data, len(data.base), threads)
    rival.fill(data.base, threads)
    q = len(data.query)
    a, b = by_turns(ours, threads, lambda: rival.search(data.query, TOP, threads), repeats)
    found.search = Pair(a * q, b * q, match.search_goal)
    return found
