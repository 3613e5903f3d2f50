#!/usr/bin/env python3
"""Prepares a base, encodes it and measures its recall, and watches the memory of all processes: how much of it is
their own (RssAnon and RssShmem; pages of files do not count), and when it was most. Prints a Markdown table.

    run.py [--gib 6] [--dim 128] [--queries 1000] [--work FOLDER] [--memory 2GiB] [--below BYTES] [--within BYTES]
           VQ_HOST

With --below it fails where the peak is not below that. With --within it measures the cell twice more: with all files
in the page cache, and in a memory control group of so many bytes, the page cache included (as root).
"""

import argparse
import pathlib
import subprocess
import sys
import threading
import time

SWEEP = """[sweep]
name = "large"

[run]
timeout = "2h"
memory = "{memory}"
scratch = "{scratch}GiB"
store = "large.db"

[[dataset]]
name = "{gib:g}GiB"
synthetic = {{ kind = "{kind}", n = {rows}, dim = {dim}, seed = 1 }}
queries = {{ hold_out = {queries} }}

[[method]]
use = "pq"
params.m = [{m}]
params.bits = [8]
"""
LOOK_S = 0.02


def own_bytes(pid):
    """Bytes of a process that no file has; 0 where it is gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon", "RssShmem")))


def tree(root):
    """A process and all below it."""
    below = {}
    for place in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # A name may hold blanks and brackets.
            parent = int(place.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        below.setdefault(parent, []).append(int(place.parent.name))
    found = [root]
    for pid in found:
        found.extend(below.get(pid, []))
    return found


class Watched:
    """A command whose processes are looked at until it ends."""

    def __init__(self, command, folder):
        self.peak, self.lines = 0, []
        started = time.monotonic()
        child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        threads = [threading.Thread(target=self.hear, args=(pipe,)) for pipe in (child.stdout, child.stderr)]
        for thread in threads:
            thread.start()
        while child.poll() is None:
            each = [own_bytes(pid) for pid in tree(child.pid)]
            if sum(each) > self.peak:
                self.peak, self.at, self.each = sum(each), time.monotonic() - started, sorted(each, reverse=True)
            time.sleep(LOOK_S)
        for thread in threads:
            thread.join()
        self.wall = time.monotonic() - started
        if child.returncode:
            sys.exit("\n".join([f"{command} ended with {child.returncode}", *self.lines]))

    def hear(self, pipe):
        self.lines.extend(line.rstrip() for line in pipe)


def confined(command, most):
    """The command, in a control group where it has so many bytes, pages of files included."""
    for group, limit in (("memory/vq-large", "memory.limit_in_bytes"), ("vq-large", "memory.max")):
        folder = pathlib.Path("/sys/fs/cgroup") / group
        try:
            folder.mkdir(exist_ok=True)
            (folder / limit).write_text(str(most))
        except OSError:
            continue
        return ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh", *command]
    sys.exit("--within: no memory control group can be made here; be root where /sys/fs/cgroup can be written")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--gib", type=float, default=6)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--kind", default="clustered")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("larger-than-memory"))
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--below", type=int)
    parser.add_argument("--within", type=int)
    parser.add_argument("host", type=pathlib.Path)
    given = parser.parse_args()
    host, folder = given.host.resolve(), given.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = int(given.gib * 2**30) // (4 * given.dim)
    scratch = 1 + rows * given.m // 2**30
    (folder / "large.toml").write_text(SWEEP.format(rows=rows, scratch=scratch, **vars(given)))
    print(f"| {rows:,} × {given.dim} f32, {given.gib:g} GiB | wall time s | own memory MiB | of each process MiB, at s |")
    print("|---|---:|---:|---|")
    places = ["--cache-dir", "cache"]
    steps = {
        "prepare": [host, "plan", "large.toml", *places],
        "neighbours, encode, evaluate": [host, "run", "large.toml", *places, "--force"],
    }
    peaks, walls, lines = [], [], []

    def step(name, command):
        watched = Watched(list(map(str, command)), folder)
        each = ", ".join(str(of >> 20) for of in watched.each if of >> 20)
        print(f"| {name} | {watched.wall:.0f} | {watched.peak >> 20} | {each} at {watched.at:.0f} |", flush=True)
        peaks.append(watched.peak)
        walls.append(watched.wall)
        lines[:] = watched.lines

    for name, command in steps.items():
        step(name, command)
    if given.within:
        again = steps["neighbours, encode, evaluate"]
        for place in sorted((folder / "cache" / "rows").rglob("*.f32")):
            with place.open("rb") as rows:
                while rows.read(1 << 24):
                    pass
        step("encode, evaluate: files in memory", again)
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        step(f"encode, evaluate: within {given.within / 2**30:g} GiB", confined(again, given.within))
        print(f"\nspeed within {given.within / 2**30:g} GiB: {walls[-2] / walls[-1]:.2f} of that in memory")
    print("\n" + "\n".join(lines))
    if given.below and max(peaks) >= given.below:
        sys.exit(f"{max(peaks)} bytes of own memory, {given.below} are too many")


main()
