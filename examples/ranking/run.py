#!/usr/bin/env python3
"""Ranks every method at equal bits by error, recall, bias and speed, from one sweep; prints Markdown.

    examples/ranking/run.py                                     # the repository's sets
    examples/ranking/run.py --data FOLDER [--limit ROWS]        # NAME_base.EXT, NAME_query.EXT, NAME_learn.EXT

Needs vq-host in the target directory (cargo build --release) or as VQ_HOST. What is measured already is taken from the
store. Speeds are of the machine: run it where nothing else runs.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.append(str(HERE.parent / "disputes"))

import sets

# Heading, metric, how it is written, and what of it is better: a larger value, a smaller one, or one nearer to zero.
COLUMNS = [
    ("recall@10", "recall@10", "{:.4f}", lambda v: -v),
    ("re-rank 4", "recall@10/rerank=4", "{:.4f}", lambda v: -v),
    ("rel. error", "relative_error", "{:.3g}", lambda v: v),
    ("bias", "bias", "{:+.4f}", abs),
    ("encode rows/s", "compress_vectors_per_s", "{:,.0f}", lambda v: -v),
    ("fit s", "fit_s", "{:.2f}", lambda v: v),
]
# Of sizes up to this part below the rate.
LEAST = 0.95


def values_of(record):
    found = {metric["name"]: metric["value"] for metric in record["metrics"]}
    return {heading: found.get(name) for heading, name, _, _ in COLUMNS} | {"bits": found.get("bits_per_dim")}


def rate_of(record):
    """The rate that the configuration answers."""
    bits = values_of(record)["bits"]
    return next((rate for rate in (1, 2, 4, 8) if LEAST * rate <= bits <= rate), None)


def table(records):
    rows = [(record, values_of(record)) for record in records]
    places = {}
    for heading, _, _, key in COLUMNS:
        known = sorted(key(values[heading]) for _, values in rows if values[heading] is not None)
        places[heading] = {value: known.index(value) + 1 for value in known}
    best = COLUMNS[0]
    rows.sort(key=lambda row: row[1][best[0]] is None or best[3](row[1][best[0]]))
    print("| method | configuration | bits/dim | " + " | ".join(heading for heading, *_ in COLUMNS) + " |")
    print("|---|---|---:|" + "---:|" * len(COLUMNS))
    for record, values in rows:
        shown = [record["method"]["id"], record["label"], f"{values['bits']:.2f}"]
        for heading, _, how, key in COLUMNS:
            value = values[heading]
            shown.append("–" if value is None else f"{how.format(value)} ({places[heading][key(value)]})")
        print("| " + " | ".join(shown) + " |")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=pathlib.Path, help="a folder of other sets")
    options.add_argument("--limit", type=int, metavar="ROWS", help="only so many first rows of each of these")
    options.add_argument("--threads", default="2")
    given = options.parse_args()
    host = os.environ.get("VQ_HOST", ROOT / "target" / "release" / "vq-host")
    work = ROOT / "results" / "ranking"
    work.mkdir(parents=True, exist_ok=True)
    sweep, store = HERE / "ranking.toml", work / "own.db"
    if given.data:
        store = work / f"{given.data.resolve().name}.db"
        sweep = sets.on_other_rows(sweep, given.data, given.limit, work / "other.toml")
    command = [host, "run", sweep, "--store", store, "--threads", given.threads, "--format", "json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    records = json.loads(ran.stdout) if ran.stdout else []
    for name in dict.fromkeys(record["dataset"]["name"] for record in records):
        of_set = [record for record in records if record["dataset"]["name"] == name]
        about = of_set[0]["dataset"]
        size = f"{about['n']:,} × {about['dim']}, {about['queries']:,} queries, {of_set[0]['metric']}"
        for rate in (1, 2, 4, 8):
            here = [record for record in of_set if record["outcome"] == "ok" and rate_of(record) == rate]
            if here:
                print(f"\n### {name}, {rate} bit{'s' * (rate > 1)} per dimension\n\n{size}. In brackets its place among these.\n")
                table(here)
        ended = [record for record in of_set if record["outcome"] != "ok"]
        if ended:
            print(f"\nNo row of {name}:")
            for record in ended:
                why = re.sub(r"\s+", " ", record.get("error") or "")
                print(f"- {record['method']['id']} {record['label']}: {record['outcome']}, {why}")
    sys.exit(ran.returncode)


main()
