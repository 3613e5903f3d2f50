#!/usr/bin/env python3
"""Measures what one large cell costs, per vq-host: CPU seconds of all its processes and wall time on one and on
two threads, in turn, and beside it what the machine itself gains by a second thread. Prints a Markdown table.

    run.py [--repeats N] [--work FOLDER] [--param NAME=VALUE …] NAME=VQ_HOST …

Each VQ_HOST is a program with its plugins beside it. Exact neighbours are found before, in a run that does not count.
A vq-host that does not know `train.apart` takes the training rows from the base, as all others are told to.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent


def cost(command, folder):
    """CPU seconds (user and system, with all children) and wall time."""
    def cpu():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before, started = cpu(), time.monotonic()
    with open(folder / "run.log", "w") as log:
        subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=True)
    return cpu() - before, time.monotonic() - started


def own_gain(program):
    """Products per second on two threads by those on one."""
    one, two = (float(subprocess.check_output([program, str(n)])) for n in (1, 2))
    return two / one


def sweep(host, folder, params):
    """The sweep in the folder of a host, told as it understands."""
    text = (HERE / "sweep.toml").read_text()
    apart = "train = { apart = false }\n"
    told = text.replace("# run.py writes", apart + "# run.py writes")
    for name, value in params.items():
        lines = [line for line in told.splitlines() if not line.startswith(f"params.{name} ")]
        told = "\n".join([*lines, f"params.{name} = [{value}]", ""])
    path = folder / "sweep.toml"
    path.write_text(told)
    planned = subprocess.run([host, "plan", path], cwd=folder, capture_output=True)
    if planned.returncode:
        path.write_text(told.replace(apart, ""))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("cell-cost"))
    parser.add_argument("--param", action="append", default=[])
    parser.add_argument("hosts", nargs="+")
    given = parser.parse_args()
    params = dict(param.split("=", 1) for param in given.param)
    hosts = dict(host.split("=", 1) for host in given.hosts)
    program = (given.work / "own_gain").resolve()
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rustc", "-O", "--edition", "2024", "-o", program, HERE / "own_gain.rs"], check=True)
    commands = {}
    for name, host in hosts.items():
        folder = (given.work / name).resolve()
        folder.mkdir(exist_ok=True)
        host = os.path.abspath(host)
        sweep(host, folder, params)
        commands[name] = ([host, "run", "sweep.toml", "--cache-dir", folder / "cache", "--force"], folder)
        # Prepares the data.
        cost(commands[name][0], folder)
    costs, gains = {(name, threads): [] for name in hosts for threads in (1, 2)}, []
    for _ in range(given.repeats):
        gains.append(own_gain(program))
        for (name, threads), costs_of in costs.items():
            command, folder = commands[name]
            costs_of.append(cost([*command, "--threads", str(threads)], folder))
    gain = statistics.median(gains)
    print("| vq-host | CPU s, 1 thread | wall s | CPU s, 2 threads | wall s | 1 → 2 threads | of the machine's own |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in hosts:
        (cpu_1, wall_1), (cpu_2, wall_2) = (
            [statistics.median(values) for values in zip(*costs[name, threads])] for threads in (1, 2)
        )
        print(f"| {name} | {cpu_1:.1f} | {wall_1:.1f} | {cpu_2:.1f} | {wall_2:.1f} "
              f"| {wall_1 / wall_2:.2f} | {wall_1 / wall_2 / gain:.2f} |")
    print(f"\nThe machine's own gain, products in registers: {gain:.2f} (median of {given.repeats}).")


if __name__ == "__main__":
    main()
