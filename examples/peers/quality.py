"""Recall and the error of estimates, of our side by the referee, of a rival from what its search returns."""

import dataclasses
import json
import math
import pathlib
import statistics
import subprocess
import time

import numpy as np

from rivals import Unfit
from rows import unit

TOP = 10
# Estimates on both sides. Of ours the pairs are the same for all seeds: that part of their noise, some 0.2 %, no
# interval shows.
PAIRS = 300_000
# Queries and rows of the base, drawn anew for each seed, from whose products a rival's pairs are drawn. More of both would
# be sorted for nothing: a search hands estimates out nearest first.
ASKED, PROBED = 400, 2_500
# Within this nobody is better.
MARGIN = 0.01
# Student's 97.5 % point for 1 to 30 degrees of freedom.
STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclasses.dataclass
class Side:
    """One value per seed; None where a side has none."""

    bytes: float
    recall: list
    error: list | None
    # Medians over seeds, by the way: --parts speed times both sides by turns. None where a side was not timed.
    encode: float | None = None
    scan: float | None = None


@dataclasses.dataclass
class Row:
    match: object
    settings: dict
    ours: Side
    rival: Side


class Truth:
    """Exact neighbours of a set, for the rivals: a found row counts if it is as near as the 10th."""

    def __init__(self, base, queries, metric):
        self.base, self.queries, self.metric = base, queries, metric
        kept = min(4 * TOP, len(base))
        squares = np.einsum("ij,ij->i", base, base) if metric == "l2" else 0
        self.last = np.empty(len(queries))
        for first in range(0, len(queries), 100):
            block = slice(first, first + 100)
            near = squares - (2 if metric == "l2" else 1) * queries[block] @ base.T
            ids = np.argpartition(near, kept - 1, axis=1)[:, :kept]
            self.last[block] = np.sort(self.far(np.arange(len(queries))[block, None], ids), axis=1)[
                :, min(TOP, kept) - 1
            ]

    def far(self, queries, ids):
        """Squared distances, or products with the sign turned, in f64."""
        q, x = self.queries[queries].astype(np.float64), self.base[ids].astype(np.float64)
        return ((q - x) ** 2).sum(-1) if self.metric == "l2" else -(q * x).sum(-1)

    def recall(self, ids):
        far = self.far(np.arange(len(ids))[:, None], ids[:, :TOP])
        return float((far <= self.last[:, None]).sum() / far.size)

    def error(self, asked, rows, ids, estimates, rng):
        """Root mean square error over the standard deviation of what is estimated, by `asked` queries and `rows`."""
        if (ids < 0).any() or not np.isfinite(estimates).all():
            raise Unfit("a search of as many rows as there are returns fewer")
        places = rng.integers(ids.size, size=PAIRS)
        q, x = self.queries[asked].astype(np.float64), self.base[rows].astype(np.float64)
        true = q @ x.T
        if self.metric == "l2":
            true = (q**2).sum(1)[:, None] + (x**2).sum(1) - 2 * true
        true = true[places // ids.shape[1], ids.ravel()[places]]
        squared = (estimates.ravel()[places].astype(np.float64) - true) ** 2
        return math.sqrt(float(squared.mean())) / float(true.std())


def rival_side(rival, data, truth, seeds, threads):
    """The rival's recall and error for each seed, or once where it has no seed."""
    recalls, errors, encodes, scans = [], [], [], []
    turn = unit if rival.metric == "cosine" else lambda rows: rows
    base, learn, queries = turn(data.base), turn(data.learn), turn(data.query)
    for seed in seeds if rival.seeded else seeds[:1]:
        rival.fit(learn, seed, threads)
        started = time.perf_counter()
        rival.fill(base, threads)
        encodes.append(len(base) / (time.perf_counter() - started))
        # The first search of an index may build what the others find.
        rival.search(queries[:1], TOP, threads)
        started = time.perf_counter()
        ids = rival.search(queries, TOP, threads)[0]
        scans.append(len(queries) * len(base) / (time.perf_counter() - started))
        recalls.append(truth.recall(ids))
        if rival.estimates is None:
            continue
        rng = np.random.default_rng(seed)
        asked, rows = (
            rng.choice(len(of), size=min(most, len(of)), replace=False) for of, most in ((queries, ASKED), (base, PROBED))
        )
        rival.fill(np.ascontiguousarray(base[rows]), threads)
        ids, estimates = rival.search(np.ascontiguousarray(queries[asked]), len(rows), threads)
        errors.append(truth.error(asked, rows, ids, estimates, rng))
    encode = statistics.median(encodes) if rival.encode is not None else None
    return Side(rival.code_bytes(), recalls, errors or None, encode, statistics.median(scans))


def toml(value):
    return json.dumps(value)


class Referee:
    """Runs all of ours on one set in one sweep of vq-host."""

    def __init__(self, options, folder):
        self.options, self.folder = options, pathlib.Path(folder)

    def run(self, data, wanted, seeds):
        """Records of each (metric, method, settings) of `wanted`."""
        text = [f"[sweep]\nname = {toml(data.name)}\nseeds = {toml(list(seeds))}\n"]
        run = f"[run]\nthreads = {self.options.threads[-1]}\nstore = {toml(str(self.folder / f'{data.name}.db'))}\n"
        text.append(run)
        text.append(f"[evaluate]\nk = [{TOP}]\npairs = {PAIRS}\nrerank = [1]\nrepeats = 1\nmetrics = [\"estimator\"]\n")
        for metric in sorted({metric for metric, _, _ in wanted}):
            text.append(
                f"[[dataset]]\nname = {toml(metric)}\nmetric = {toml(metric)}\nbase = {toml(data.base_path)}\n"
                f"queries = {toml(data.query_path)}\ntrain = {toml(data.learn_path)}\n"
            )
        for metric, method, settings in wanted:
            lines = [f"params.{name} = {toml(value)}" for name, value in settings.items()]
            text.append("\n".join([f"[[method]]\nuse = {toml(method)}\ndatasets = {toml([metric])}", *lines, ""]))
        sweep = self.folder / f"{data.name}.toml"
        sweep.write_text("\n".join(text))
        command = [self.options.host, "run", str(sweep), "--plugin-dir", self.options.plugins, "--format", "json"]
        command += ["--cache-dir", str(self.folder / "cache"), "--jobs", str(self.options.jobs)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        # 3: some cells failed; their records say how.
        if done.returncode not in (0, 3):
            raise SystemExit(f"vq-host ended with {done.returncode}")
        self.records = json.loads(done.stdout)

    def side(self, metric, method, settings):
        """Our side of a row; raises with the reason where the host has none."""
        own = [r for r in self.records if r["dataset"]["name"] == metric and r["method"]["id"] == method]
        settings = {"rate": 0.0} | settings
        own = [r for r in own if all(same(r["params"].get(name, value), value) for name, value in settings.items())]
        if not own:
            raise Unfit("ours skips this configuration")
        failed = [r for r in own if r["outcome"] != "ok"]
        if failed:
            raise Unfit(f"ours: {failed[0]['outcome']}: {failed[0]['error']}")
        values = [{m["name"]: m["value"] for m in r["metrics"]} for r in own]
        errors = [v["rmse"] / v["estimator_scale"] for v in values]
        encode = statistics.median(v["compress_vectors_per_s"] for v in values)
        scans = [v.get("search_codes_per_s", v.get("score_codes_per_s")) for v in values]
        scan = None if None in scans else statistics.median(scans)
        return Side(values[0]["code_bytes"], [v[f"recall@{TOP}"] for v in values], errors, encode, scan)


def same(a, b):
    return math.isclose(a, b, rel_tol=1e-9) if isinstance(b, float) else a == b


def ratio(ours, rival):
    """Ours over the rival's, and half of the 95 % interval; by Welch, of the ratio of means."""
    a, b = statistics.fmean(ours), statistics.fmean(rival)
    parts = [(statistics.variance(v) / len(v) / m**2, len(v)) for v, m in ((ours, a), (rival, b)) if len(v) > 1 and m]
    total = sum(part for part, _ in parts)
    if b == 0:
        raise Unfit("the rival's mean is 0")
    if total == 0:
        # Nothing is random on either side, or was run twice: there is no interval.
        return a / b, None
    freedom = max(1, int(total**2 / sum(part**2 / (n - 1) for part, n in parts)))
    student = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96 + 2.5 / freedom
    return a / b, a / b * math.sqrt(total) * student


def verdict(of, half, less_is_better):
    """Better or worse where the whole interval lies beyond 1 %, else equal."""
    low, high = of - (half or 0), of + (half or 0)
    if low > 1 + MARGIN:
        return "worse" if less_is_better else "better"
    if high < 1 - MARGIN:
        return "better" if less_is_better else "worse"
    return "equal"


def measure(data, matches, options, folder, note):
    """Rows of one set; what could not be compared goes to `note`, a reason each."""
    seeds = range(1, options.seeds + 1)
    truths, plans, missing, known = {}, [], set(), {}
    for match in matches:
        name = f"{match.rival.name} beside {match.method}"
        if not (pathlib.Path(options.plugins) / f"libvq_{match.method}.so").exists():
            missing.add(match.method)
            continue
        metric = match.rival.metric
        if metric not in truths:
            turn = unit if metric == "cosine" else lambda rows: rows
            truths[metric] = Truth(turn(data.base), turn(data.query), metric)
        try:
            # A rival may stand beside two methods.
            if match.rival.name not in known:
                started = time.perf_counter()
                known[match.rival.name] = rival_side(match.rival, data, truths[metric], seeds, options.threads[-1])
                print(f"  {match.rival.name}: {time.perf_counter() - started:.0f} s", flush=True)
        except (Unfit, RuntimeError, ValueError) as error:
            note(f"{data.name}: {name}: {str(error).splitlines()[0]}")
            continue
        plans.append((match, known[match.rival.name]))
    for method in sorted(missing):
        note(f"{method}: no libvq_{method}.so among the plugins")
    wanted = []
    for match, rival in plans:
        for settings in match.settings(data.dim, rival.bytes):
            if (cell := (match.rival.metric, match.method, settings)) not in wanted:
                wanted.append(cell)
    if not wanted:
        return []
    referee, found = Referee(options, folder), []
    referee.run(data, wanted, seeds)
    for match, rival in plans:
        for settings in match.settings(data.dim, rival.bytes):
            try:
                ours = referee.side(match.rival.metric, match.method, settings)
            except Unfit as error:
                note(f"{data.name}: {match.rival.name}, {match.method} {settings}: {error}")
                continue
            found.append(Row(match, settings, ours, rival))
    return found
