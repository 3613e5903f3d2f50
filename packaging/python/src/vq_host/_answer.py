"""Which code to take."""

import json
import os
from typing import Any, cast

from ._command import Option, output


def recommend(store: str | os.PathLike[str], **options: Option) -> dict[str, Any]:
    """Say which code of ``store`` reaches a recall with the fewest bits, and what it costs.

    Args:
        store: The file that :func:`run` gave.
        **options: Those of ``vq-host recommend``: ``recall=0.95``, ``k=10``, ``rerank=4``,
            ``max_bits=4``, ``rows=30e6``, ``dataset="mine"`` and others.

    Returns:
        What ``docs/output.md`` has under *Recommend*: ``["answers"][0]["picks"]`` are the codes.

    Raises:
        HostError: the program could not; the text is its own.
    """
    text = output("recommend", store, {**options, "format": "json"})
    return cast("dict[str, Any]", json.loads(text))
