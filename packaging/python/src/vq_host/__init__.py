"""vq-host from Python: run a sweep, read its results as a frame, ask which code to take.

>>> import vq_host
>>> store = vq_host.run({
...     "dataset": [{"name": "mine", "base": embeddings, "queries": {"hold_out": 500}}],
...     "method": [{"use": "pq"}, {"use": "sq", "bits_per_dim": [2, 4, 8]}],
... })
>>> frame = vq_host.results(store)
>>> answer = vq_host.recommend(store, recall=0.95, rows=30e6)

Every option of the command is a keyword here, with ``_`` for ``-``: ``--max-bits 4`` is
``max_bits=4``. ``True`` is an option without a value, a list an option repeated, ``None`` and
``False`` no option. ``vq-host run --help`` has them all.
"""

from ._answer import recommend
from ._command import HostError, Option, default_sweep, program
from ._frame import results
from ._run import CellsFailedWarning, run

__all__ = [
    "CellsFailedWarning",
    "HostError",
    "Option",
    "default_sweep",
    "program",
    "recommend",
    "results",
    "run",
]
