"""A store as a frame."""

import csv
import io
import os
from collections import defaultdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, overload

from ._command import Option, output

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

# What docs/output.md says of the columns; all others are metrics, which are numbers.
_TEXT = (
    "dataset method label outcome metric error sandbox proof notices started_at method_version"
    " plugin_digest needs_digest params run_id key"
).split()
_FLAG = "exclusive needs_training deterministic train_apart synthetic".split()
_WHOLE = (
    "seed n dim queries threads jobs train_rows zero_queries queries_in_base duplicate_rows"
    " tied_queries"
).split()
_TIME = "started_at"


@overload
def results(
    store: str | os.PathLike[str], *, frame: Literal["pandas"] = ..., **options: Option
) -> "pd.DataFrame": ...


@overload
def results(
    store: str | os.PathLike[str], *, frame: Literal["polars"], **options: Option
) -> "pl.DataFrame": ...


def results(
    store: str | os.PathLike[str],
    *,
    frame: Literal["pandas", "polars"] = "pandas",
    **options: Option,
) -> "pd.DataFrame | pl.DataFrame":
    """Give the records of ``store``, a row each: one data set, method, configuration and seed.

    Args:
        store: The file that :func:`run` gave.
        frame: Whose frame it is to be.
        **options: Those of ``vq-host results``: ``dataset="mine"``, ``method=["pq", "sq"]``,
            ``outcome="ok"``, ``columns="recall@10,mse"``, ``sort="mse"``, ``best=True`` and others.

    Returns:
        The columns of ``docs/output.md`` under *Columns*, then one for each metric under its name
        in ``docs/metrics.md``. What is not known is missing. ``params`` is JSON.

    Raises:
        HostError: the program could not; the text is its own.
        ModuleNotFoundError: ``frame`` is of a package that is not installed.
    """
    if frame not in ("pandas", "polars"):
        message = f"frame is 'pandas' or 'polars', not {frame!r}"
        raise ValueError(message)
    if find_spec(frame) is None:
        other = {"pandas": "polars", "polars": "pandas"}[frame]
        message = f"{frame} is not installed: pip install {frame}, or give frame={other!r}"
        raise ModuleNotFoundError(message, name=frame)
    read = _pandas if frame == "pandas" else _polars
    return read(output("results", store, {**options, "format": "csv"}))


def _pandas(text: bytes) -> "pd.DataFrame":
    import pandas as pd

    kinds: defaultdict[str, str] = defaultdict(lambda: "float64")
    kinds.update(dict.fromkeys(_TEXT, "str"))
    kinds.update(dict.fromkeys(_FLAG, "boolean"))
    kinds.update(dict.fromkeys(_WHOLE, "Int64"))
    rows = pd.read_csv(io.BytesIO(text), dtype=kinds, keep_default_na=False, na_values=[""])
    rows[_TIME] = pd.to_datetime(rows[_TIME], utc=True)
    return rows


def _polars(text: bytes) -> "pl.DataFrame":
    import polars as pl

    names = next(csv.reader([text.split(b"\n", 1)[0].decode()]))
    kinds: dict[str, type[pl.DataType]] = dict.fromkeys(names, pl.Float64)
    kinds.update(dict.fromkeys(_TEXT, pl.String))
    kinds.update(dict.fromkeys([*_FLAG, *_WHOLE], pl.Int64))
    return pl.read_csv(text, schema=kinds).with_columns(
        pl.col(_FLAG).cast(pl.Boolean), pl.col(_TIME).str.to_datetime(time_zone="UTC")
    )
