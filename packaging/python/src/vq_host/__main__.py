"""``python -m vq_host …`` is ``vq-host …``, for where that is not on the path."""

import os
import sys

from ._command import program


def main() -> None:
    """Become the program."""
    path = str(program())
    os.execv(path, [path, *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
