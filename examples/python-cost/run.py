"""What a method in Python pays for being measured, and that it is measured right.

    run.py VQ_HOST VENV [TURNS]

For each class in methods/: vectors per second through vq-host beside those of the same calls made directly, on one
thread in the same environment, by turns (medians of TURNS, 1); and the relative error that vq-host found beside the one
found directly. VENV has numpy and, for FAISS's class, faiss-cpu. Run it where nothing else runs.
"""

import importlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
METHODS = {"nearest": {"parts": 20}, "faisspq": {"parts": 20}}
ROWS, QUERIES, DIM = 20_000, 100, 100
# Rows of a call: of those that are timed, vq-host gives a class in Python so many.
BLOCK = (8 << 20) // (4 * DIM)
REPEATS = 9
SEED = 1
FUNCTIONS = ("compress", "decompress")


def direct(folder):
    """Prints, by method, what calls take and the error."""
    import numpy as np

    sys.path.insert(0, str(HERE / "methods"))
    rows = np.load(folder / "base.npy")
    parts = [slice(i, i + BLOCK) for i in range(0, len(rows), BLOCK)]
    found = {}
    for name, params in METHODS.items():
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        cls = next(of for of in vars(module).values() if isinstance(of, type))
        method = cls(DIM, **params)
        started = time.perf_counter()
        method.fit(np.load(folder / "train.npy"))
        found[name] = {"fit_s": time.perf_counter() - started}
        given = {"compress": rows, "decompress": np.concatenate([method.compress(rows[part]) for part in parts])}
        for function, values in given.items():
            took = []
            for _ in range(REPEATS + 1):
                started = time.perf_counter()
                for part in parts:
                    decoded = getattr(method, function)(values[part])
                took.append(time.perf_counter() - started)
            found[name][f"{function}_vectors_per_s"] = len(rows) / statistics.median(took[1:])
        decoded = method.decompress(given["decompress"]).astype(np.float64)
        lost, all_of_it = ((rows - of).astype(np.float64) for of in (decoded, rows.mean(axis=0, dtype=np.float64)))
        found[name]["relative_error"] = float((lost**2).sum() / (all_of_it**2).sum())
    print(json.dumps(found))


def bridged(host, environment, folder):
    """By method, the metrics of its record."""
    text = f"[sweep]\nname = \"python\"\nseeds = [{SEED}]\n[run]\nthreads = 1\n[evaluate]\nk = [10]\n[[dataset]]\n"
    text += "".join(f"{what} = \"{what}.npy\"\n" for what in ("base", "queries", "train")) + "name = \"normal\"\n"
    for name, params in METHODS.items():
        text += f'[[method]]\nuse = "{name}"\n' + "".join(f"params.{key} = {value}\n" for key, value in params.items())
    (folder / "sweep.toml").write_text(text)
    at = ["--store", "store.db"]
    run = [host, "run", "sweep.toml", *at, "--force", "--plugin-dir", str(HERE / "methods"), "--cache-dir", "cache"]
    subprocess.run(run, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    told = [host, "results", "store.db", "--format", "json"]
    told = subprocess.run(told, cwd=folder, check=True, capture_output=True, text=True).stdout
    metrics = {record["method"]["id"]: record["metrics"] for record in json.loads(told)}
    return {name: {metric["name"]: metric["value"] for metric in of} for name, of in metrics.items()}


def main():
    if sys.argv[1] == "direct":
        return direct(pathlib.Path(sys.argv[2]))
    host, python = os.path.abspath(sys.argv[1]), os.path.join(os.path.abspath(sys.argv[2]), "bin", "python3")
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    environment = os.environ | one | {"VQ_PYTHON": python}
    # Without this glibc may give the pages of large arrays back after each, and take them again as zeros: half of the
    # time of `nearest`, in one process and not in another.
    keeps = {f"MALLOC_{name}_": str(1 << 30) for name in ("TRIM_THRESHOLD", "MMAP_THRESHOLD")}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make = f"""import numpy as np; make = np.random.default_rng({SEED}).standard_normal
for name, n in ("base", {ROWS}), ("queries", {QUERIES}), ("train", {ROWS}):
    np.save(name, make((n, {DIM}), np.float32))"""
        subprocess.run([python, "-c", make], cwd=folder, check=True)
        speeds, found = {}, {}
        for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 1):
            direct_run = [python, __file__, "direct", str(folder)]
            told = subprocess.run(direct_run, env=environment | keeps, check=True, capture_output=True, text=True).stdout
            sides = {"directly": json.loads(told), "through vq-host": bridged(host, environment, folder)}
            for side, by_method in sides.items():
                for name, values in by_method.items():
                    for what, value in values.items():
                        speeds.setdefault((name, what), {}).setdefault(side, []).append(value)
    report(speeds)


def report(speeds):
    print("| method | what | through vq-host | directly | ratio |\n|---|---|---|---|---|")
    for (name, what), of in speeds.items():
        if len(of) == 2:
            apart, alone = (statistics.median(of[side]) for side in ("through vq-host", "directly"))
            print(f"| {name} | {what} | {apart:.6g} | {alone:.6g} | {apart / alone:.5f} |")


if __name__ == "__main__":
    main()
