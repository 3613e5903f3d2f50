"""Our side, a child process that speaks JSON lines; see src/main.rs."""

import json
import os
import subprocess

import numpy as np

WRAP = {bool: "Bool", int: "Int", float: "Float", str: "Str"}


class Refused(Exception):
    """Our side could not do what it was asked; the text says why."""


class Ours:
    def __init__(self, program, plugins, folder):
        self.plugins, self.folder = plugins, folder
        self.child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        self.child.stdin.write(json.dumps(request) + "\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise Refused(f"our side ended with code {self.child.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]

    def prepare(self, work, data, n, threads):
        self.ask(do="prepare", threads=threads, work=self.describe(work, data, n))

    def describe(self, work, data, n):
        described = {"kind": work.kind, "rows": data.base_path, "n": n}
        if work.method:
            train_n = min(work.train_n or len(data.learn), len(data.learn))
            described["codec"] = {
                "library": os.path.join(self.plugins, f"libvq_{work.method}.so"),
                "method": work.method,
                "params": {name: {WRAP[type(value)]: value} for name, value in work.params.items()},
                "train": data.learn_path,
                "train_rows": train_n,
            }
        if work.kind in ("scan", "neighbours"):
            described |= {"queries": data.query_path, "top": work.top}
        if work.kind == "kmeans":
            described |= work.params
        return described

    def time(self, at_least_s, threads):
        """Calls and seconds."""
        answer = self.ask(do="time", at_least_s=at_least_s, threads=threads)
        return answer["calls"], answer["seconds"]

    def spin(self, at_least_s, threads):
        """As `time`, of work that the threads only divide: what the machine gives to more of them."""
        answer = self.ask(do="spin", at_least_s=at_least_s, threads=threads)
        return answer["calls"], answer["seconds"]

    def answer(self, work, data):
        """What the prepared work made: rows, ids or centroids."""
        path = os.path.join(self.folder, "answer")
        self.ask(do="answer", path=path)
        if work.kind in ("scan", "neighbours"):
            return np.fromfile(path, "<u4").reshape(len(data.query), -1).astype(np.int64)
        return np.fromfile(path, "<f4").reshape(-1, data.dim)

    def bandwidth(self, kind, threads, size):
        """Bytes per second of "copy" (read and written bytes together) or "read"."""
        self.ask(do="prepare", threads=threads, work={"kind": kind, "bytes": size})
        self.time(0, threads)
        rates = []
        for _ in range(3):
            calls, seconds = self.time(0.2, threads)
            rates.append(calls * size * (2 if kind == "copy" else 1) / seconds)
        return sorted(rates)[1]

    def cpu_s(self):
        """CPU seconds that the child has used."""
        with open(f"/proc/{self.child.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.child.stdin.close()
        self.child.wait()
