"""Every quality metric of docs/metrics.md from rows, decoded rows and estimates, in f64."""

import math

import numpy

import draw

DEPTH = 100  # of the rank correlations


def wide(x):
    return x.astype(numpy.float64)


def mean_of(values):
    return math.fsum(values) / len(values)


def nearest_rank(values, percent):
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * percent // 100), 1) - 1]


def distances(metric, queries, rows):
    """(queries, rows), smaller is nearer: squared, or minus the inner product."""
    queries, rows = wide(queries), wide(rows)
    if metric == "l2":
        return numpy.stack([((rows - query) ** 2).sum(axis=1) for query in queries])
    # Not by BLAS: equal rows have equal products wherever they lie.
    return numpy.stack([0.0 - (rows * query).sum(axis=1) for query in queries])


def relative_error(x, y, mean):
    x, y = wide(x), wide(y)
    return math.fsum(((x - y) ** 2).ravel()) / math.fsum(((x - mean) ** 2).ravel())


def reconstruction(x, y, mean):
    sse = ((wide(x) - wide(y)) ** 2).sum(axis=1)
    norms, decoded_norms = (wide(x) ** 2).sum(axis=1), (wide(y) ** 2).sum(axis=1)
    products = (wide(x) * wide(y)).sum(axis=1)
    cosines = [
        product / math.sqrt(a) / math.sqrt(b) if a > 0 and b > 0 else float(a == b)
        for product, a, b in zip(products, norms, decoded_norms)
    ]
    defined = (norms > 0) | (sse == 0)
    errors = [numpy.float32(e / n) if n > 0 else numpy.float32(0) for e, n in zip(sse[defined], norms[defined])]
    mse = math.fsum(sse) / x.size
    lost = relative_error(x, y, mean)
    found = {
        "mse": mse,
        "sse_per_vector": mse * x.shape[1],
        "relative_error": lost,
        "cosine": mean_of(cosines),
        "row_errors_undefined": int((~defined).sum()),
    }
    if lost > 0:
        found["sqnr_db"] = -10 * math.log10(lost)
    for name, percent in [("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)]:
        found[f"row_error_{name}"] = float(nearest_rank(errors, percent))
    return found


def pairwise(x, y, pairs):
    i, j = numpy.array(draw.row_pairs(len(x), pairs)).T
    x, y = wide(x), wide(y)

    def apart(a, b):
        return numpy.sqrt(((a - b) ** 2).sum(axis=1))

    true = apart(x[i], x[j])
    kept = true > 0
    found = {"pairwise_identical": int((~kept).sum())}
    for name, estimate in [("pairwise", apart(y[i], y[j])), ("pairwise_asymmetric", apart(x[i], y[j]))]:
        errors = abs(estimate[kept] / true[kept] - 1)
        found |= {
            f"{name}_mean": mean_of(errors),
            f"{name}_median": nearest_rank(errors, 50),
            f"{name}_max": max(errors),
        }
    return found


def estimator(true, estimate, bound=None):
    n, error = len(true), estimate - true
    mean_true, mean_estimate = mean_of(true), mean_of(estimate)
    scale = math.sqrt(math.fsum((true - mean_true) ** 2) / n)
    slope = math.fsum((true - mean_true) * (estimate - mean_estimate)) / n / scale**2
    found = {
        "bias": mean_of(error) / scale,
        "slope": slope,
        "intercept": mean_estimate - slope * mean_true,
        "rmse": math.sqrt(mean_of(error**2)),
        "error_p95": nearest_rank(abs(error), 95),
        "error_p99": nearest_rank(abs(error), 99),
        "estimator_scale": scale,
    }
    if bound is not None:
        found["bound_coverage"] = mean_of((abs(error) <= bound).astype(float))
        found["bound_width"] = mean_of(bound) / scale
    return found


def mean_over_queries(values):
    """Added in the order of the queries, as a reader would: recall is to be equal to the last bit."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def retrieval(truth, found, k_list, rerank):
    """`truth`, `found`: per query true distances, nearest first and in the order found."""
    rows = truth.shape[1]

    def recall(k, candidates, of):
        near = [int((f[:candidates] <= t[of - 1]).sum()) for t, f in zip(truth, found)]
        return mean_over_queries([min(n, of) / of for n in near])

    values = {}
    for k in k_list:
        values[f"recall@{k}"] = recall(k, k, k)
        values[f"recall_1@{k}"] = recall(k, k, 1)
        values[f"rank_distortion@{k}"] = 1 - values[f"recall@{k}"]
        for r in rerank:
            values[f"recall@{k}/rerank={r}"] = recall(k, min(r * k, rows), k)
    return values


def rank_agreement(truth, nearness):
    """τ-b (Kendall 1945) and ρ (Spearman 1904) between true distances and estimates, per query (DEPTH)."""
    taus, rhos = [], []
    for true, estimate in zip(-truth[:, :DEPTH], nearness):
        a, b = (numpy.sign(v[:, None] - v[None, :]).astype(int) for v in (true, estimate))
        if not a.any():
            continue
        norm = (abs(a).sum() // 2) * (abs(b).sum() // 2)
        taus.append((a * b).sum() // 2 / math.sqrt(norm) if norm else 0.0)
        # Twice the average rank less its mean.
        a, b = a.sum(axis=1), b.sum(axis=1)
        norm = float((a * a).sum()) * float((b * b).sum())
        rhos.append(float((a * b).sum()) / math.sqrt(norm) if norm else 0.0)
    return {f"kendall_tau@{DEPTH}": mean_of(taus), f"spearman_rho@{DEPTH}": mean_of(rhos)} if taus else {}


def bits_wasted(bits_per_dim, mse, x, mean):
    """Reverse water-filling over the eigenvalues of the covariance, by bisection for the level."""
    centred = wide(x) - mean
    spectrum = numpy.clip(numpy.linalg.eigvalsh(centred.T @ centred / len(x)), 0, None)
    if mse >= spectrum.mean():
        return bits_per_dim
    if mse == 0:
        return None
    low, high = 0.0, float(spectrum.max())
    while True:
        level = (low + high) / 2
        if level in (low, high):
            break
        low, high = (level, high) if numpy.minimum(spectrum, level).mean() < mse else (low, level)
    rate = sum(0.5 * math.log2(value / level) for value in spectrum if value > level) / len(spectrum)
    return bits_per_dim - rate


def size(n, dim, code_bytes, stated, saved, claimed):
    found = {
        "code_bytes": code_bytes,
        "bits_per_dim": 8 * code_bytes / dim,
        "ratio": 4 * dim / code_bytes,
    }
    if stated is not None:
        found["model_bytes"] = stated
    if saved is not None:
        found["model_saved_bytes"] = saved
    if stated is not None or saved is not None:
        found["ratio_amortised"] = 4 * n * dim / (n * code_bytes + max(stated or 0, saved or 0))
    if claimed is not None:
        found["ratio_claimed"] = claimed
    return found
