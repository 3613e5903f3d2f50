"""What the numbers were measured on, what it could do at most, and the environment FAISS gets."""

import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512vbmi",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
)
ROOT = pathlib.Path(__file__).resolve().parents[2]
# OpenBLAS's kernels for AVX-512 and AVX2, and the names it gives to choices that are at least as good.
AVX512_CORES = ("SkylakeX", "Cooperlake", "SapphireRapids")
AVX2_CORES = AVX512_CORES + ("Haswell", "Zen")


def cpu():
    """Model and flags."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(reversed([line.split("\t: ", 1) for line in lines if "\t: " in line]))
    fields = {name.strip(): value for name, value in fields.items()}
    flags = fields.get("flags", "").split()
    family = "/".join(fields.get(name, "?") for name in ("cpu family", "model", "stepping"))
    return f"{fields.get('model name', platform.processor())} (family/model/stepping {family})", flags


def said(*command):
    """What a command prints; "unknown" where it cannot."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe():
    """Label and text, for people."""
    model, flags = cpu()
    has = [flag for flag in FLAGS if flag in flags]
    amx = "present" if "amx_tile" in flags else "absent"
    changed = " with uncommitted changes" if said("git", "status", "--porcelain", "--untracked-files=no") else ""
    return {
        "CPU": model,
        "cores online": str(os.cpu_count()),
        "instructions": f"{' '.join(has)}; AMX {amx}",
        "system": f"{platform.system()} {platform.release()}, {platform.libc_ver()[0]} {platform.libc_ver()[1]}",
        "rustc": said("rustc", "--version"),
        "commit": said("git", "rev-parse", "--short=12", "HEAD") + changed,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def fresh(code, environment, python=sys.executable):
    """Runs Python code in a process with that environment on top; its output as JSON."""
    env = os.environ | environment
    env = {name: value for name, value in env.items() if value is not None}
    done = subprocess.run(
        [python, "-c", code], env=env, capture_output=True, text=True, cwd=pathlib.Path(__file__).parent
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)


SGEMM = """
import time, numpy as np
a = np.random.default_rng(1).standard_normal((2048, 2048), dtype=np.float32)
b, c, times = a.T.copy(), np.empty_like(a), []
for _ in range(9):
    started = time.perf_counter()
    np.matmul(a, b, out=c)
    times.append(time.perf_counter() - started)
print(2 * 2048**3 / sorted(times)[4])
"""


def sgemm(threads):
    """Floating point operations per second of numpy's BLAS at 2048³, in a process of its own."""
    return fresh(
        SGEMM, {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "OPENBLAS_CORETYPE": None}
    )


class FaissEnvironment:
    """The variables FAISS runs under, and how fast it was under the others.

    FAISS's threads must sleep while our side is timed: OMP_WAIT_POLICY=passive. The wheel's
    OpenBLAS is older than some CPUs and falls back to kernels without AVX there; it is given
    the best kernels the CPU can run, unless `blas` says "as-installed" or names others.
    """

    def __init__(self, blas, compare):
        flags = cpu()[1]
        self.found = fresh("import json, peer; print(json.dumps(peer.blas_core()))", {})
        self.core = self.better(flags) if blas == "auto" else None if blas == "as-installed" else blas
        self.seconds = self.compared() if compare else {}
        os.environ["OMP_WAIT_POLICY"] = "passive"
        if self.core is not None:
            os.environ["OPENBLAS_CORETYPE"] = self.core

    def compared(self):
        """(core, wait policy): seconds of a few works, in processes of their own."""
        cores = [None] if self.core is None else [None, self.core]
        rounds = {(core, wait): [] for core in cores for wait in (None, "passive")}
        for _ in range(2):
            for (core, wait), of in rounds.items():
                probed = fresh("import peer; peer.probe()", {"OPENBLAS_CORETYPE": core, "OMP_WAIT_POLICY": wait})
                of.append(probed["seconds"])
        return {case: {name: min(seconds[name] for seconds in of) for name in of[0]} for case, of in rounds.items()}

    def better(self, flags):
        if self.found is None:
            return None
        if "avx512f" in flags:
            return None if self.found in AVX512_CORES else "SkylakeX"
        return None if self.found in AVX2_CORES or "avx2" not in flags else "Haswell"

    def cost_of_passive(self):
        """Geometric mean over the probe's works of time with passive waiting over time without."""
        passive, default = self.seconds[self.core, "passive"], self.seconds[self.core, None]
        return statistics.geometric_mean(passive[name] / default[name] for name in passive)
