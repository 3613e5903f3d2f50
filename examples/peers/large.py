"""Fit, encode and memory of our methods at the size of VQ-bench's largest set, beside what it publishes."""

import dataclasses
import json
import pathlib
import subprocess

QUERIES = 1_000
# The host keeps so many rows of a large source apart for training.
TRAIN = 100_000
# VQ-bench, arxiv-nomic 1,344,643 x 768: encode seconds and peak GB of a method, by our method and settings.
PUBLISHED = (
    ("rabitq", {"bits": 1}, "RaBitQ 1 bit", 32, 4.6),
    ("rabitq", {"bits": 2}, "extended RaBitQ 2", 97, None),
    ("rabitq", {"bits": 4}, "extended RaBitQ 4", 445, None),
    ("rabitq", {"bits": 6}, "extended RaBitQ 6", 1722, None),
    ("rabitq", {"bits": 4, "search": "fast"}, "extended RaBitQ 4", 445, None),
    ("eden", {"bits": 2}, "EDEN unbiased 2", 31, None),
    ("eden", {"bits": 4}, "EDEN unbiased 4", 41, None),
    ("eden", {"bits": 6}, "EDEN unbiased 6", 99, None),
    ("turboquant", {"bits": 2}, "TurboQuant mse 2", 29, None),
    ("turboquant", {"bits": 4}, "TurboQuant mse 4", 40, None),
    ("turboquant", {"bits": 6}, "TurboQuant mse 6", 98, None),
    ("turboquant", {"bits": 2, "variant": "prod"}, "TurboQuant prod 2", 56, None),
    ("turboquant", {"bits": 4, "variant": "prod"}, "TurboQuant prod 4", 65, None),
    ("osq", {"bits": 4}, None, None, None),
    ("lvq", {"bits": 4}, "min-max per vector 4", 13, None),
    ("saq", {"bits": 4}, None, None, None),
    ("pca", {"rate": 4.0}, None, None, None),
    ("binary", {"rotation": "random"}, "SimHash", 27, 4.5),
    ("binary", {"rotation": "itq"}, "ITQ k=768", 657, 4.5),
    ("sq", {"bits": 4}, "scalar per coordinate 4", 8, None),
    ("pq", {"m": 128, "bits": 8}, "PQ m=128", 392, 17),
    ("pq", {"m": 384, "bits": 8}, "PQ m=384", 938, 34),
    ("opq", {"m": 128, "bits": 8}, "OPQ m=128", 3407, 17),
)


@dataclasses.dataclass
class Large:
    method: str
    settings: dict
    fit_s: float
    encode_s: float
    peak_bytes: float
    block_bytes: float
    train_bytes: float
    theirs: str | None
    theirs_s: float | None
    theirs_gb: float | None

    def over(self):
        """Peak memory beyond what a call is given and gives back: all rows to learn from, or a block of rows and its
        codes, whichever is more."""
        return self.peak_bytes - max(self.train_bytes, self.block_bytes)


def measure(size, options, folder, note):
    """One row per method and configuration; the host draws the rows and maps them."""
    n, dim = (int(part) for part in size.split("x"))
    spare = QUERIES + (TRAIN if n > TRAIN else n)
    text = [
        f'[sweep]\nname = "large"\n\n[run]\nstore = {json.dumps(str(pathlib.Path(folder) / "large.db"))}\n'
        f'timeout = "2h"\nthreads = {options.threads[-1]}\n\n[[dataset]]\nname = "large"\n'
        f'synthetic = {{ kind = "clustered", n = {n + spare}, dim = {dim}, seed = 1 }}\n'
        f"queries = {{ hold_out = {QUERIES} }}\n\n[evaluate]\nk = [10]\npairs = 1000\nrerank = [1]\nrepeats = 1\n"
    ]
    there = []
    for entry in PUBLISHED:
        method, settings = entry[:2]
        if not options.takes(method):
            continue
        if not (pathlib.Path(options.plugins) / f"libvq_{method}.so").exists():
            note(f"{method}: no libvq_{method}.so among the plugins")
            continue
        there.append(entry)
        lines = [f"params.{name} = {json.dumps(value)}" for name, value in settings.items()]
        text.append("\n".join([f"[[method]]\nuse = {json.dumps(method)}", *lines, ""]))
    sweep = pathlib.Path(folder) / "large.toml"
    sweep.write_text("\n".join(text))
    command = [options.host, "run", str(sweep), "--plugin-dir", options.plugins, "--format", "json"]
    command += ["--cache-dir", str(pathlib.Path(folder) / "cache")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"vq-host ended with {done.returncode}")
    records, found = json.loads(done.stdout), []
    for method, settings, theirs, theirs_s, theirs_gb in there:
        wanted = {"search": "exact", "variant": "mse"} | settings
        own = [r for r in records if r["method"]["id"] == method]
        own = [r for r in own if all(r["params"].get(key, value) == value for key, value in wanted.items())]
        for record in own[:1]:
            if record["outcome"] != "ok":
                note(f"{method} {settings}: {record['outcome']}: {record['error']}")
                continue
            values = {m["name"]: m["value"] for m in record["metrics"]}
            rows, block = record["dataset"]["n"], record["timing"]["block_rows"]
            found.append(
                Large(
                    method,
                    settings,
                    values["fit_s"],
                    rows / values["compress_vectors_per_s"],
                    values["encoder_peak_rss_bytes"],
                    block * (dim * 4 + values["code_bytes"]),
                    record["dataset"]["train_rows"] * dim * 4,
                    theirs,
                    theirs_s,
                    theirs_gb,
                )
            )
    return found
