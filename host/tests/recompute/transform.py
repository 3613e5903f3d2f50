"""What is done to rows before a method sees them, as docs/metrics.md says it: a chain is a list of steps with what
they learned. Rows are f32 after each step."""

import numpy

import draw
from metrics import wide

SEED = 0x7A450F0A3117D1A5  # of rotations
MASK = 2**64 - 1


def f32(x):
    return numpy.ascontiguousarray(x, numpy.float32)


def added(values):
    """Along the first axis one after the other, in f64."""
    return numpy.cumsum(wide(values), axis=0)[-1]


def lengths(x):
    return numpy.sqrt((wide(x) ** 2).sum(axis=1))


def learn(steps, train):
    chain, x = [], train
    for at, step in enumerate(steps):
        name, keep = (step, None) if isinstance(step, str) else next(iter(step.items()))
        mean = f32(added(x) / len(x))
        if name == "truncate":
            part = {"keep": keep, "lost": mean[keep:]}
        elif name == "centre":
            part = {"mean": mean}
        elif name == "pca":
            centred = wide(x - mean)
            part = {"mean": mean, "directions": f32(numpy.linalg.eigh(centred.T @ centred)[1].T[::-1][:keep])}
        elif name == "rotate":
            part = {"matrix": hadamard(x.shape[1], mixed(SEED + (at + 1) * 0x9E3779B97F4A7C15))}
        else:
            part = {"length": numpy.float32(added(lengths(x)) / max(1, numpy.count_nonzero(lengths(x))))}
        chain.append((name, part))
        x = apply(chain[-1:], x)
    return chain


def mixed(z):
    """The finaliser of splitmix64."""
    z &= MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def hadamard(dim, seed):
    """Rounds of random signs and Walsh–Hadamard transforms, of the first and the last dimensions in turn."""
    most = 1 << (dim.bit_length() - 1)
    words = draw.words(seed)
    walsh = numpy.array([[1.0]])
    while len(walsh) < most:
        walsh = numpy.block([[walsh, walsh], [walsh, -walsh]])
    matrix = numpy.eye(dim)
    for turn in range(3 if most == dim else 4):
        within = slice(0, most) if turn % 2 == 0 else slice(dim - most, dim)
        signs = numpy.array([-1.0 if next(words) & 1 else 1.0 for _ in range(dim)])
        matrix = signs[:, None] * matrix
        matrix[within] = walsh @ matrix[within] / numpy.sqrt(most)
    return matrix


def apply(chain, x, centred=True):
    """Rows, or what they are compared with by an inner product, which is not centred."""
    for name, of in chain:
        if "mean" in of and centred:
            x = x - of["mean"]
        if name == "truncate":
            x = x[:, :of["keep"]]
        elif name == "pca":
            x = wide(x) @ wide(of["directions"]).T
        elif name == "rotate":
            x = wide(x) @ of["matrix"].T
        elif name == "normalise":
            # Squares are added one after the other.
            size = numpy.sqrt(numpy.cumsum(wide(x) ** 2, axis=1)[:, -1:])
            x = numpy.divide(wide(x), size, out=numpy.zeros(x.shape), where=size > 0)
        x = f32(x)
    return x


def back(chain, y):
    for name, of in reversed(chain):
        if name == "truncate":
            y = numpy.concatenate([y, numpy.tile(of["lost"], (len(y), 1))], axis=1)
        elif name == "pca":
            y = f32(wide(y) @ wide(of["directions"]))
        elif name == "rotate":
            y = wide(y) @ of["matrix"]
        elif name == "normalise":
            y = y * of["length"]
        if "mean" in of:
            y = y + of["mean"]
        y = f32(y)
    return y


def dim(chain, of):
    for name, part in chain:
        of = {"truncate": part.get("keep"), "pca": len(part.get("directions", ()))}.get(name, of)
    return of


def keeps_unit(name, unit):
    return unit if name == "rotate" else name == "normalise"


def metric(chain, of):
    unit = True
    for name, _ in chain:
        unit = keeps_unit(name, unit)
    return "ip" if of == "cosine" and not unit else of


def keeps_scale(chain, metric):
    unit = metric == "cosine"
    for name, _ in chain:
        if name == "normalise" and not unit:
            return False
        unit = keeps_unit(name, unit)
    return True


def keeps_all(chain, metric, of):
    return keeps_scale(chain, metric) and dim(chain, of) == of


def constants(chain, queries, metric):
    if metric == "l2":
        return ((wide(queries) - wide(back(chain, apply(chain, queries)))) ** 2).sum(axis=1)
    origin = back(chain, numpy.zeros((1, dim(chain, queries.shape[1])), numpy.float32))
    return (wide(queries) * wide(origin)).sum(axis=1)


def bytes_of(chain):
    """Means, directions and lengths in f32; of a rotation its seed."""
    kept = {"truncate": "lost", "centre": "mean", "pca": "mean"}
    return sum(
        8 if name == "rotate" else 4 if name == "normalise"
        else 4 * of[kept[name]].size + 4 * of.get("directions", numpy.zeros(0)).size
        for name, of in chain
    )
