"""Wheels that hand out their codes, as methods in Python, beside ours: all by the referee, one cell after the other."""

import dataclasses
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tomllib

from quality import STUDENT

HERE = pathlib.Path(__file__).resolve().parent
METHODS = HERE / "methods"
SWEEP = HERE / "peers.toml"
TOP = 10
# Whose codes take more bytes than the rate: ours with exactly their bytes stands beside them.
BESIDE = {"faiss-rabitq": "rabitq", "faiss-eden": "eden", "faiss-turboquantprod": "turboquant"}
# A cell that takes longer is run a second time before all seeds are: where nothing is random, twice is enough.
LONG_S = 5


@dataclasses.dataclass
class Line:
    """One configuration: its records, one for each seed."""

    rate: float
    method: str
    records: list
    beside: str | None = None

    def values(self, name):
        of = ({metric["name"]: metric["value"] for metric in record["metrics"]} for record in self.records)
        return [values[name] for values in of if name in values]

    def one(self, *names):
        """The median over seeds of the first of these metrics that there is."""
        found = next((values for values in map(self.values, names) if values), None)
        return None if found is None else statistics.median(found)

    def bytes(self):
        return int(self.values("code_bytes")[0])

    def configuration(self):
        if self.beside:
            return f"at most the bytes of `{self.beside}`"
        record = self.records[0]
        # Where all is at its default there is no label.
        return record["label"] or " ".join(f"{name}={value}" for name, value in record["params"].items())


class Host:
    """vq-host on one set."""

    def __init__(self, data, metric, options, folder):
        self.data, self.metric, self.options, self.folder = data, metric, options, folder
        self.evaluate = tomllib.loads(SWEEP.read_text())["evaluate"]

    def run(self, use, rate, params, seeds):
        """The records of one method at one rate, or the reason why there are none."""
        sweep = self.folder / "codes.toml"
        sweep.write_text(self.text(use, rate, params, seeds))
        if self.options.is_over():
            done = self.ask("plan", sweep)
            cells = json.loads(done.stdout)["cells"] if done.returncode == 0 else []
            left = {cell["seed"] for cell in cells if cell["state"] == "to run"}
            seeds = [seed for seed in seeds if seed not in left]
            if cells and not seeds:
                return [], "not reached in the time there was"
            sweep.write_text(self.text(use, rate, params, seeds))
        done = self.ask("run", sweep)
        if "has no valid configuration" in done.stderr:
            return [], why(done.stderr)
        # 3: some cells failed; their records say how.
        if done.returncode not in (0, 3):
            raise SystemExit(f"vq-host ended with {done.returncode} for {use}\n{done.stderr}")
        return json.loads(done.stdout), None

    def ask(self, verb, sweep):
        command = [self.options.host, verb, str(sweep), "--format", "json", "--store", self.options.store]
        command += ["--cache-dir", str(self.folder / "cache"), "--plugin-dir", str(METHODS)]
        command += ["--plugin-dir", self.options.plugins]
        environment = os.environ | {"VQ_PYTHON": sys.prefix, "NO_COLOR": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def text(self, use, rate, params, seeds):
        text = ["[sweep]", 'name = "peers"', f"seeds = {list(seeds)}"]
        text += [f"bits_per_dim = {rate!r}"] if rate is not None else []
        text += ["[run]", f"threads = {self.options.threads[-1]}", f'timeout = "{self.options.timeout}s"', "[evaluate]"]
        text += [f"{name} = {json.dumps(value)}" for name, value in self.evaluate.items()]
        text += ["[[dataset]]", f"name = {json.dumps(self.data.name)}", f"metric = {json.dumps(self.metric)}"]
        paths = {"base": self.data.base_path, "queries": self.data.query_path, "train": self.data.learn_path}
        text += [f"{name} = {json.dumps(path)}" for name, path in paths.items()]
        text += ["[[method]]", f"use = {json.dumps(use)}"]
        text += [f"params.{name} = {value}" for name, value in params.items()]
        return "\n".join(text) + "\n"

    def line(self, use, rate, params, shown, beside=None):
        """A line, or why there is none, and whether that is how a cell ended."""
        seeds = range(1, self.options.seeds + 1)
        # The first alone says whether the others are worth their time.
        over = self.options.is_over()
        records, reason = self.run(use, rate, params, seeds if over else seeds[:1])
        if reason is not None:
            return None, reason, False
        line = Line(shown, use, went_well(records), beside)
        if not line.records:
            return None, f"{records[0]['outcome']}: {records[0]['error']}", True
        if over:
            return line, None, False
        if line.one("fit_s") > LONG_S:
            line.records = went_well(self.run(use, rate, params, seeds[:2])[0])
            if len(set(line.values("relative_error"))) == 1:
                return line, None, False
        # Where time is over meanwhile, what there is.
        line.records = went_well(self.run(use, rate, params, seeds)[0]) or line.records
        return line, None, False


def went_well(records):
    return [record for record in records if record["outcome"] == "ok"]


def measure(data, metric, options, folder):
    """Lines of one set, and (method, reason, rates) of what has none; lower rates first: after one that fails the
    next are not tried.
    """
    sweep, found, missed, failed = tomllib.loads(SWEEP.read_text()), [], {}, set()
    host, dim = Host(data, metric, options, folder), data.dim

    def take(use, rate, params, shown, beside=None):
        line, reason, ended = host.line(use, rate, params, shown, beside)
        if line is not None:
            found.append(line)
            print(text_of(line), flush=True)
            return line
        name = f"{use} (bytes of {beside})" if beside else use
        missed.setdefault((name, reason), []).append(shown)
        print(f"{shown:>2}    – {name}: {reason}", flush=True)
        if ended:
            failed.add(use)
        return None

    for rate in sorted({rate for of in sweep["method"] for rate in asked(of)}):
        for of in sweep["method"]:
            use = of["use"]
            if not options.takes(use) or rate not in asked(of):
                continue
            if use in failed:
                missed.setdefault((use, "not tried after that"), []).append(rate)
                continue
            line = take(use, rate, {}, rate) if "bits_per_dim" in of else take(use, None, {"bits": rate}, rate)
            if line is not None and use in BESIDE:
                # A hundredth of a byte more, lest a rounding takes one.
                take(BESIDE[use], (line.bytes() + 0.01) * 8 / dim, {}, rate, beside=use)
    return found, [(*key, rates) for key, rates in missed.items()]


def asked(method):
    """Rates, or bits beside which a code has numbers."""
    return method.get("bits_per_dim") or method["params"]["bits"]


def why(said):
    """The method's reason for having no configuration."""
    reason = re.search(r"help: (.*)", said).group(1)
    return "no configuration of so many bytes" if "offered nothing" in reason else reason


def mean(values):
    """Mean and half of the 95 % interval over seeds; None of one seed, or where all are equal."""
    if len(set(values)) < 2:
        return statistics.fmean(values), None
    return statistics.fmean(values), STUDENT[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))


def scan(line):
    return line.one("search_codes_per_s", "score_codes_per_s")


def text_of(line):
    recall, error = mean(line.values(f"recall@{TOP}"))[0], mean(line.values("relative_error"))[0]
    told = f"{line.rate:>2} {line.bytes():>4} {line.method:21} {line.configuration()[:24]:24}"
    return f"{told} {recall:.4f} {error:.5f} {line.one('fit_s'):6.1f} s"
