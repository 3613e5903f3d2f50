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


# Means whose standard errors are compared.
WITH_ERRORS = (
    "pairwise_mean", "pairwise_asymmetric_mean", "bias", "bound_coverage", "bound_width", "ndcg@", "recall_share_90@",
    "distance_ratio@", "sos@", "attention_",
)


def standard_error(values):
    mean = mean_of(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


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
        "reconstruction_bias": common(x, y) / (math.fsum(sse) / len(x)) if sse.any() else 0.0,
        "reconstruction_slope": slope(x, y, mean),
        "row_errors_undefined": int((~defined).sum()),
    }
    if lost > 0:
        found["sqnr_db"] = -10 * math.log10(lost)
    for name, percent in [("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)]:
        found[f"row_error_{name}"] = float(nearest_rank(errors, percent))
    return found


def common(x, y):
    """The squared norm of the mean error."""
    errors = wide(y) - wide(x)
    return math.fsum((math.fsum(column) / len(x)) ** 2 for column in errors.T)


def slope(x, y, mean):
    """Of decoded rows on rows, about the mean row, all dimensions together."""
    centred = (wide(x) - mean).ravel()
    return math.fsum(centred * (wide(y) - mean).ravel()) / math.fsum(centred * centred)


def pairwise(x, y, pairs, standard_errors):
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
        standard_errors[f"{name}_mean"] = standard_error(errors)
    return found


def estimator(true, estimate, bound, standard_errors):
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
    standard_errors["bias"] = standard_error(error) / scale
    if bound is not None:
        covered = (abs(error) <= bound).astype(float)
        found["bound_coverage"] = mean_of(covered)
        found["bound_width"] = mean_of(bound) / scale
        standard_errors["bound_coverage"] = standard_error(covered)
        standard_errors["bound_width"] = standard_error(bound) / scale
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


def beyond_recall(metric, truth, found, k_list, standard_errors):
    """Order, distances and spread of what was found: per query true distances, in the order found."""
    values = {}
    for k in k_list:
        hits = numpy.array([f[:k] <= t[k - 1] for t, f in zip(truth, found)])
        discounts = 1 / numpy.log2(numpy.arange(k) + 2)
        gains = [math.fsum(discounts[hit]) / math.fsum(discounts) for hit in hits]
        values[f"ndcg@{k}"], standard_errors[f"ndcg@{k}"] = mean_of(gains), standard_error(gains)
        recalls = hits.sum(axis=1) / k
        for percent in (1, 5, 50):
            values[f"recall_p{percent}@{k}"] = float(nearest_rank(recalls, percent))
        many = [float(10 * int(hit.sum()) >= 9 * k) for hit in hits]
        values[f"recall_share_90@{k}"] = mean_over_queries(many)
        standard_errors[f"recall_share_90@{k}"] = standard_error(many)
        sums = {}
        if metric == "l2":
            sums["distance_ratio"] = numpy.sqrt
        if metric == "cosine":
            sums["distance_ratio"] = lambda minus_cosine: numpy.sqrt(numpy.clip(2 + 2 * minus_cosine, 0, None))
        if metric != "l2":
            sums["sos"] = lambda minus_score: -minus_score
        for name, value in sums.items():
            a = numpy.array([math.fsum(value(f[:k])) for f in found])
            b = numpy.array([math.fsum(value(t[:k])) for t in truth])
            if math.fsum(b) <= 0:
                continue
            ratio = math.fsum(a) / math.fsum(b)
            rest = math.sqrt(math.fsum((a - ratio * b) ** 2) / (len(a) - 1) / len(a))
            values[f"{name}@{k}"], standard_errors[f"{name}@{k}"] = ratio, rest / mean_of(b)
    return values


def by_second(metric, truth, true, candidates, forms, k_list, rerank, standard_errors):
    """Of a second code that ranks `candidates`, per query in the order of a first, by the distances (queries, n) of each
    of `forms`, a suffix each."""
    def ranked(distances, count):
        rows = []
        for query, found in enumerate(candidates):
            some = numpy.sort(found[:min(count, truth.shape[1])])
            rows.append(some[numpy.argsort(distances[query][some], kind="stable")])
        return numpy.take_along_axis(true, numpy.array(rows), axis=1)

    values = {}
    for k in k_list:
        for r in sorted(rerank):
            of_k = retrieval(truth, ranked(forms[""], r * k), [k], [])
            values[f"recall@{k}/second={r}"] = of_k[f"recall@{k}"]
        # Of the most candidates.
        found = ranked(forms[""], max(rerank) * k)
        values |= retrieval(truth, found, [k], rerank) | beyond_recall(metric, truth, found, [k], standard_errors)
        for suffix in ("/decoded", "/symmetric"):
            of_form = retrieval(truth, ranked(forms[suffix], max(rerank) * k), [k], [])
            values[f"recall@{k}{suffix}"] = of_form[f"recall@{k}"]
    return values


def attention(scores, estimates, neighbours, order, tau, standard_errors):
    """Between softmax(score/τ) and softmax(estimate/τ) over the DEPTH nearest and the DEPTH ranked first."""
    def softmax(x):
        e = numpy.exp(x - x.max())
        return e / math.fsum(e)

    kl, tv = [], []
    for score, estimate, near, first in zip(scores, estimates, neighbours, order):
        pool = sorted(set(near[:DEPTH]) | set(first[:DEPTH]))
        p, q = softmax(score[pool] / tau), softmax(estimate[pool] / tau)
        kl.append(math.fsum(p * numpy.log(p / q)))
        tv.append(math.fsum(abs(p - q)) / 2)
    found = {f"attention_kl@{DEPTH}": kl, f"attention_tv@{DEPTH}": tv}
    standard_errors |= {name: standard_error(values) for name, values in found.items()}
    return {name: mean_of(values) for name, values in found.items()}


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
        # The files hold f32.
        "source_bits_per_dim": 32.0,
        "ratio_source": 32 * dim / (8 * code_bytes),
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
