"""Measures cells again, from the plugin libraries themselves, and compares all values with the records.

    recompute.py data FOLDER     writes the rows and the sweeps that the cells are measured on
    recompute.py check FOLDER    recomputes the records in FOLDER/records.json

Shares no code with vq-host: a loader by ctypes (contract.py), the draws (draw.py), the definitions of
docs/metrics.md in numpy (metrics.py).
"""

import json
import math
import pathlib
import sys

import numpy

import contract
import metrics
import transform

# Costs are measured, not computed.
COSTS = ("fit_s", "overhead_s", "empty_call_s")
COST_WORDS = ("_per_s", "rss_bytes", "latency_")
K, RERANK, PAIRS = [1, 10, 100], [1, 2], 500
QUERIES_PER_SCORE = 32
SEARCHES_COMPARED = 256
TRAINING = 4096  # training rows whose error is measured
# Sums in another order; percentiles of row errors are kept in f32.
TOLERANCE, TOLERANCE_F32 = 1e-9, 2**-23

# Rows of another data set cut short, and judged by the neighbours that those have in full.
SHORT, WHOLE, DIM = "short", "l2", 12

METHODS = [
    ("cast", {"type": "f32"}), ("cast", {"type": "fp8_e4m3"}), ("sq", {"bits": 3}), ("lattice", {"bits": 2}),
    ("pq", {"m": 4, "bits": 4}), ("pq", {"m": 2, "bits": 8}), ("rq", {"layers": 2, "bits": 5, "beam": 3}),
]


def blobs(random, n):
    """Clusters far from the origin."""
    centres = numpy.random.default_rng(7).normal(0, 3, (12, 24)) + 40
    return centres[random.integers(0, 12, n)] + random.normal(0, 1, (n, 24))


def lengths(random, n):
    """Directions of equal weight and lengths of very different ones."""
    return random.normal(0, 1, (n, 16)) * random.lognormal(0, 1, (n, 1))


def leaning(random, n):
    """Correlated dimensions about a mean."""
    mix = numpy.random.default_rng(8).normal(0, 1, (20, 20))
    return random.normal(0, 1, (n, 20)) @ mix + 1


# A second code, of a method with a scorer and of one without.
SECOND = [
    ("pq", {"m": 2, "bits": 4}, "sq", {"bits": 4}), ("sq", {"bits": 1}, "pq", {"m": 4, "bits": 8}),
]

# Rows that are transformed before: to the same bits as here, so that any method codes them alike, or
# to nearly the same, which only a lossless code does not magnify.
EXACT = [["centre", {"truncate": 10}], [{"truncate": 9}, "normalise", "centre"]]
NEARLY = [[{"pca": 6}, "rotate"], ["rotate", "normalise", {"truncate": 11}]]
NEAR = 1e-4

DATA = {"l2": blobs, "ip": lengths, "cosine": leaning}


def write(path, rows):
    with open(path, "wb") as file:
        numpy.array(rows.shape, "<u4").tofile(file)
        rows.astype("<f4").tofile(file)


def read(path):
    n, dim = numpy.fromfile(path, "<u4", 2)
    return numpy.fromfile(path, "<f4", offset=8).reshape(n, dim)


def make_data(folder):
    for metric, rows in DATA.items():
        for part, n, seed in [("base", 1500, 1), ("queries", 40, 2), ("train", 1200, 3)]:
            made = rows(numpy.random.default_rng(seed), n).astype(numpy.float32)
            if part == "base":
                made[700:710] = made[3]  # ties
            if part == "queries":
                made[-1] = rows(numpy.random.default_rng(1), 5)[4]  # a row of the base
            write(folder / f"{metric}.{part}.fbin", made)
        methods = tables(METHODS) + "".join(two_codes(*both) for both in SECOND)
        methods += "\n" + tables([("sq", {"bits": 3}), ("rq", {"layers": 2, "bits": 4})], transforms(EXACT))
        methods += "\n" + tables([("cast", {"type": "f32"})], transforms(NEARLY))
        (folder / f"{metric}.toml").write_text(sweep(metric, metric, dataset(metric), methods))
    for part in ("base", "queries", "train"):
        write(folder / f"{SHORT}.{part}.fbin", read(folder / f"{WHOLE}.{part}.fbin")[:, :DIM])
    judged = dataset(SHORT) + f'\nmetric = "ip"\ntruth_of = "{WHOLE}"\n' + dataset(WHOLE)
    methods = tables(METHODS[2:3] + METHODS[4:5], f'datasets = ["{SHORT}"]\n')
    (folder / f"{SHORT}.toml").write_text(sweep(SHORT, WHOLE, judged, methods))


def dataset(name):
    parts = "\n".join(f'{part} = "{name}.{part}.fbin"' for part in ("base", "queries", "train"))
    return f'[[dataset]]\nname = "{name}"\n{parts}\n'


def tables(methods, more=""):
    return "\n".join(
        f'[[method]]\nuse = "{use}"\n{more}' + "\n".join(f"params.{k} = {json.dumps(v)}" for k, v in params.items())
        for use, params in methods
    )


def transforms(chains):
    def step(of):
        return json.dumps(of) if isinstance(of, str) else "{ " + ", ".join(f"{k} = {v}" for k, v in of.items()) + " }"

    return "transform = [" + ", ".join("[" + ", ".join(map(step, chain)) + "]" for chain in chains) + "]\n"


def two_codes(use, params, second, of):
    inline = ", ".join(f"{k} = {json.dumps(v)}" for k, v in of.items())
    return "\n" + tables([(use, params)], f'second = {{ use = "{second}", params = {{ {inline} }} }}\n') + "\n"


def sweep(name, metric, datasets, methods):
    return f"""[sweep]
name = "recompute-{name}"
seeds = [5]
metric = "{metric}"
[run]
threads = 2
store = "{name}.db"
{datasets}
[evaluate]
k = {K}
pairs = {PAIRS}
rerank = {RERANK}
repeats = 1
{methods}
"""


def prepared(folder, name, metric, part):
    rows = read(folder / f"{name}.{part}.fbin")
    if metric == "cosine":
        # To unit length: squares are added one after the other, in f64.
        norms = numpy.sqrt(numpy.cumsum(rows.astype(numpy.float64) ** 2, axis=1)[:, -1:])
        rows = (rows.astype(numpy.float64) / norms).astype(numpy.float32)
    return numpy.ascontiguousarray(rows, numpy.float32)


def recomputed(folder, record):
    """All that a record may hold but costs."""
    second = record["params"].pop("second", None)
    first, order, sizes = measured(folder, record)
    if second is None:
        return first
    library = str(folder / "plugins" / f"libvq_{second['use']}.so")
    method = {"id": second["use"], "plugin_path": library}
    again = record | {"params": second["params"], "method": method}
    values, _, more = measured(folder, again, order[:, :max(K) * max(RERANK)])
    n, dim, mse = record["dataset"]["n"], record["dataset"]["dim"], values["mse"]
    values.pop("ratio_claimed", None)
    values.pop("model_bytes", None)
    both = [None if a is None or b is None else a + b for a, b in zip(sizes, more)]
    values |= {name: value for name, value in metrics.size(n, dim, *both, None).items() if value is not None}
    base = prepared(folder, record["dataset"]["name"], record["metric"], "base")
    mean = numpy.array([math.fsum(column) for column in metrics.wide(base).T]) / n
    values["bits_wasted"] = metrics.bits_wasted(values["bits_per_dim"], mse, base, mean)
    return {name: value for name, value in values.items() if value is not None}


def measured(folder, record, candidates=None):
    """The same of one code, and the rows as it ranks them; of `candidates` alone, if there are any."""
    metric, seed = record["metric"], record["seed"]
    name, truth = record["dataset"]["name"], record["evaluation"].get("truth")
    base, queries, train = (prepared(folder, name, metric, part) for part in ("base", "queries", "train"))
    n, dim = base.shape
    chain = transform.learn(record["params"].pop("transform", []), train)
    posed = transform.apply(chain, queries, centred=metric == "l2")
    given = transform.metric(chain, metric)
    method = contract.methods(record["method"]["plugin_path"])[record["method"]["id"]]
    make = lambda: contract.Quantizer(method, record["params"], transform.dim(chain, dim), given)
    encoder = make()
    encoder.fit(transform.apply(chain, train), seed)
    model = encoder.save()
    codes, query_codes = (encoder.compress(transform.apply(chain, rows)) for rows in (base, queries))
    sample = train[[i * len(train) // min(TRAINING, len(train)) for i in range(min(TRAINING, len(train)))]]
    train_codes = encoder.compress(transform.apply(chain, sample))
    decoder = make()
    decoder.load(model)
    decoded, decoded_queries = (transform.back(chain, decoder.decompress(of)) for of in (codes, query_codes))

    mean = numpy.array([math.fsum(column) for column in metrics.wide(base).T]) / n
    kept = transform.bytes_of(chain)
    stated = encoder.model_bytes()
    sizes = [encoder.code_bytes(), None if stated is None else stated + kept, len(model) + kept]
    values = metrics.size(n, dim, *sizes, encoder.ratio())
    values |= metrics.reconstruction(base, decoded, mean)
    errors = {}
    values["relative_error/train"] = metrics.relative_error(
        sample, transform.back(chain, decoder.decompress(train_codes)), mean)
    values["bits_wasted"] = metrics.bits_wasted(values["bits_per_dim"], values["mse"], base, mean)
    values |= metrics.pairwise(base, decoded, PAIRS, errors)

    true = metrics.distances(metric, queries, base)
    by_decoded = metrics.distances(metric, queries, decoded)
    by_symmetric = metrics.distances(metric, decoded_queries, decoded)
    judge, judged = metric, true
    if truth:
        judge = truth["of"]
        judged = metrics.distances(judge, *(prepared(folder, judge, judge, part) for part in ("queries", "base")))
    neighbours = numpy.argsort(judged, axis=1, kind="stable")
    truth = numpy.take_along_axis(judged, neighbours, axis=1)

    def found(by):
        # Of equal estimates the lowest row is first.
        order = numpy.argsort(by, axis=1, kind="stable")
        return numpy.take_along_axis(judged, order, axis=1)

    sign = 1.0 if metric == "l2" else -1.0
    query, row = numpy.array(metrics.draw.query_pairs(len(queries), n, PAIRS)).T
    decoded_errors = {}
    of_decoded = metrics.estimator(sign * true[query, row], sign * by_decoded[query, row], None, decoded_errors)
    retrieval = metrics.retrieval(truth, found(by_decoded), K, RERANK)
    recalls = {k: v for k, v in retrieval.items() if k.startswith("recall@") and "/" not in k}
    nearness = -by_decoded
    if decoder.scorer:
        parts = [decoder.score(posed[i:i + QUERIES_PER_SCORE], codes) for i in range(0, len(posed), QUERIES_PER_SCORE)]
        estimates = numpy.concatenate([part[0] for part in parts])
        bounds = None if parts[0][1] is None else numpy.concatenate([part[1] for part in parts])
        if transform.keeps_scale(chain, metric):
            lacking = transform.constants(chain, queries, metric)[query]
            if not transform.keeps_all(chain, metric, dim):
                bounds = None
            values |= metrics.estimator(
                sign * true[query, row], metrics.wide(estimates)[query, row] + lacking,
                None if bounds is None else metrics.wide(bounds)[query, row], errors,
            )
        errors |= {f"{name}/decoded": error for name, error in decoded_errors.items()}
        values |= {f"{name}/decoded": value for name, value in of_decoded.items()}
        nearness = metrics.wide(estimates) * -sign
        retrieval = metrics.retrieval(truth, found(-nearness), K, RERANK)
        best = -nearness
    else:
        values |= of_decoded
        errors |= decoded_errors
        best = by_decoded
    values |= metrics.rank_agreement(truth, numpy.take_along_axis(nearness, neighbours, axis=1)[:, :metrics.DEPTH])
    order = numpy.argsort(best, axis=1, kind="stable")
    if candidates is not None:
        forms = {"": best, "/decoded": by_decoded, "/symmetric": by_symmetric}
        values |= metrics.by_second(judge, truth, judged, candidates, forms, K, RERANK, errors)
        values |= {f"{name} ±": error for name, error in errors.items()}
        return values, order, sizes
    values |= retrieval | {f"{name}/decoded": value for name, value in recalls.items()}
    if decoder.search_of:
        if decoder.scorer and decoder.search_of.flags & 1:
            values["search_compared"] = min(len(queries), SEARCHES_COMPARED)
        rows = decoder.search(posed, codes, min(max(K) * max(RERANK), n))
        searched = metrics.retrieval(truth, numpy.take_along_axis(judged, rows, axis=1), K, RERANK)
        values |= {f"{name}/search": value for name, value in searched.items() if name.startswith("recall@")}
    symmetric = metrics.retrieval(truth, found(by_symmetric), K, [])
    values |= {f"{name}/symmetric": value for name, value in symmetric.items() if name.startswith("recall@")}
    values |= metrics.beyond_recall(judge, truth, numpy.take_along_axis(judged, order, axis=1), K, errors)
    if metric != "l2" and judge == metric and transform.keeps_scale(chain, metric):
        tau = of_decoded["estimator_scale"]
        values |= metrics.attention(-true, nearness, neighbours, order, tau, errors)
    values |= {f"{name} ±": error for name, error in errors.items()}
    return {name: value for name, value in values.items() if value is not None}, order, sizes


def is_cost(name):
    return name in COSTS or any(word in name for word in COST_WORDS)


def has_error(name):
    """Means whose standard errors are computed here, too."""
    return name.startswith(metrics.WITH_ERRORS)


def agrees(name, here, there, scale, nearly):
    if nearly:
        # Recall may differ where rows are as near as rounding.
        unit = 1.0 if "±" in name or here is None else max(1.0, abs(here), scale)
        return abs(here - there) <= NEAR * unit
    if ("recall" in name or "rank_distortion" in name or isinstance(here, int)) and "±" not in name:
        return here == there
    tolerance = TOLERANCE_F32 if name.startswith("row_error_") else TOLERANCE
    # What rounding leaves of an exact 0 or 1.
    if name.startswith(("attention_", "distance_ratio", "sos", "reconstruction_bias")):
        return abs(here - there) <= 1e-9 * max(1.0, abs(here))
    # Differences of nearly equal numbers are compared in units of what they are differences of.
    unit = {"bias": 1.0, "intercept": scale}.get(name.split("/")[0], 0.0)
    return abs(here - there) <= tolerance * max(abs(here), abs(there), unit)


def check(folder):
    records = json.loads((folder / "records.json").read_text())
    compared, wrong = 0, []
    for record in records:
        cell = f"{record['dataset']['name']} {record['method']['id']} {record['label']}"
        if record["outcome"] != "ok":
            wrong.append(f"{cell}: {record['outcome']}: {record['error']}")
            continue
        quality = [metric for metric in record["metrics"] if not is_cost(metric["name"])]
        there = {metric["name"]: metric["value"] for metric in quality}
        there |= {f"{metric['name']} ±": metric["standard_error"] for metric in quality
                  if "standard_error" in metric and has_error(metric["name"])}
        nearly = record["params"].get("transform") in NEARLY
        here = recomputed(folder, record)
        scale = here.get("estimator_scale", here.get("estimator_scale/decoded"))
        wrong += [f"{cell}: {name} is recorded and not known here" for name in there if name not in here]
        wrong += [f"{cell}: {name} is {here[name]!r} here and not recorded" for name in here if name not in there]
        for name in here.keys() & there.keys():
            compared += 1
            if not agrees(name, here[name], there[name], scale, nearly):
                wrong.append(f"{cell}: {name} is {there[name]!r}, recomputed {here[name]!r}")
    print("\n".join(sorted(wrong)))
    print(f"{len(records)} cells, {compared} values, {len(wrong)} wrong")
    sys.exit(len(records) < 20 or bool(wrong))


if __name__ == "__main__":
    {"data": make_data, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
