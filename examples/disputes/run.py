#!/usr/bin/env python3
"""Runs one dispute and prints its table as Markdown.

    examples/disputes/run.py rabitq-turboquant                  # on the repository's sets
    examples/disputes/run.py rabitq-turboquant --data FOLDER    # on other rows

FOLDER holds NAME_base.EXT and NAME_query.EXT of one or more sets, and NAME_learn.EXT where there are
rows to train on. Needs vq-host in the target directory (cargo build --release) or as VQ_HOST. What
is measured already is taken from the store.
"""

import argparse
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import sets

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
STUDENT = (
    [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]
    + [2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086]
    + [2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]
)

# Heading, metric, digits.
COLUMNS = [
    ("recall@10", "recall@10", 4),
    ("re-rank 4", "recall@10/rerank=4", 4),
    ("rel. error", "relative_error", 5),
    ("slope", "slope", 4),
    ("bias", "bias", 4),
    ("rmse / σ", "rmse", 5),
    ("p99 / σ", "error_p99", 4),
]
# Errors of estimates, which are told as multiples of the deviation of the true values.
OF_SCALE = ["rmse", "error_p99"]


def sweep_of(name, folder, limit, work):
    """The dispute's own sweep, or a copy beside the store with other data sets."""
    own = HERE / f"{name}.toml"
    return own if folder is None else sets.on_other_rows(own, folder, limit, work / own.name)


def mean_and_half_width(values):
    """Mean over seeds and half the width of its 95 % interval; none of one seed."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    quantile = STUDENT[min(len(values) - 1, len(STUDENT)) - 1]
    return mean, quantile * math.sqrt(variance / len(values))


def metric(record, name):
    value = next((m["value"] for m in record["metrics"] if m["name"] == name), None)
    return value / metric(record, "estimator_scale") if value and name in OF_SCALE else value


def cell(values, digits):
    if len(values) == 0:
        return "–"
    mean, half = mean_and_half_width(values)
    return f"{mean:.{digits}f}" if half is None else f"{mean:.{digits}f} ± {half:.{digits}f}"


def tables(records):
    by_dataset = {}
    for record in records:
        # How a configuration is called, the rate apart: it is what rows are sorted by.
        label = re.sub(r"\b(rate|bits)=\S+ ?", "", record["label"]).strip() or "default"
        row = (metric(record, "bits_per_dim"), record["method"]["id"], label)
        by_dataset.setdefault(record["dataset"]["name"], {}).setdefault(row, []).append(record)
    for name, rows in by_dataset.items():
        about = next(iter(rows.values()))[0]["dataset"]
        seeds = sorted({len(cells) for cells in rows.values()})
        print(f"\n**{name}**, {about['n']:,} × {about['dim']}, {about['queries']} queries, ", end="")
        print(f"{' or '.join(map(str, seeds))} seeds, mean ± half of the 95 % interval over seeds\n")
        headings = ["bits/dim", "method", "configuration"] + [heading for heading, _, _ in COLUMNS]
        print("| " + " | ".join(headings) + " |")
        print("|---:|---|---|" + "---:|" * len(COLUMNS))
        for (bits, method, label), cells in sorted(rows.items()):
            shown = [f"{bits:.2f}", method, label]
            for _, wanted, digits in COLUMNS:
                values = [metric(record, wanted) for record in cells]
                shown.append(cell([value for value in values if value is not None], digits))
            print("| " + " | ".join(shown) + " |")


def main():
    names = sorted(path.stem for path in HERE.glob("*.toml"))
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("name", choices=names)
    options.add_argument("--data", type=pathlib.Path, help="a folder of other sets")
    options.add_argument("--limit", type=int, metavar="ROWS", help="only so many first rows of each of these")
    options.add_argument("--jobs", default="1", help="cells at once: nothing in the tables is a time")
    given = options.parse_args()
    host = os.environ.get("VQ_HOST", ROOT / "target" / "release" / "vq-host")
    work = ROOT / "results" / "disputes"
    work.mkdir(parents=True, exist_ok=True)
    sweep = sweep_of(given.name, given.data, given.limit, work)
    other = f"-{given.data.resolve().name}" if given.data else ""
    store = work / f"{given.name}{other}.db"
    ran = subprocess.run(
        [host, "run", sweep, "--store", store, "--jobs", given.jobs, "--format", "json"],
        stdout=subprocess.PIPE,
        check=False,
    )
    records = json.loads(ran.stdout) if ran.stdout else []
    tables([record for record in records if record["outcome"] == "ok"])
    sys.exit(ran.returncode)


main()
