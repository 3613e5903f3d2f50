"""The program: where it is, and how it is called."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

Typed: TypeAlias = str | int | float | os.PathLike[str]
Option: TypeAlias = Typed | Sequence[Typed] | None
"""What a keyword may be that stands for an option of the command."""


class HostError(RuntimeError):
    """The program could not do what it was asked; the text is its own.

    ``code`` is its exit code: 1 could not start or go on, 2 wrong usage, 128 and more a signal.
    """

    def __init__(self, text: str, code: int) -> None:
        """Keep both."""
        super().__init__(text)
        self.code = code


def _installed(end: str) -> Path | None:
    """Find the file of this distribution whose path ends so."""
    try:
        files = metadata.files("vq-host") or []
    except metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())).resolve() for file in files if file.match(end))
    return next((path for path in found if path.is_file()), None)


def program() -> Path:
    """Path of the program: that of this package, else the one on ``PATH``.

    Raises:
        FileNotFoundError: there is none.
    """
    own = _installed("bin/vq-host")
    if own is not None:
        return own
    other = shutil.which("vq-host")
    if other is None:
        message = "vq-host is neither in this package nor on the path: install its wheel again"
        raise FileNotFoundError(message)
    return Path(other)


def default_sweep() -> Path:
    """Path of the default sweep: every method that is found, on two small sets that came with it.

    Raises:
        FileNotFoundError: it is not installed.
    """
    own = _installed("share/vq-host/sweeps.toml")
    if own is None:
        message = "the default sweep is not in this package: install its wheel again"
        raise FileNotFoundError(message)
    return own


def environment() -> dict[str, str]:
    """Give the program's variables: what it says is read, not drawn on a terminal."""
    return {**os.environ, "NO_COLOR": "1"}


def arguments(options: Mapping[str, Option]) -> Iterator[str]:
    """Write options as they are typed: ``max_bits=4`` is ``--max-bits=4``."""
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            yield flag
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from (f"{flag}={_typed(item)}" for item in value)
        else:
            yield f"{flag}={_typed(value)}"


def _typed(value: Typed) -> str:
    """Write a value as it is typed; the host takes no `1e6` where it wants a whole number."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def output(verb: str, store: str | os.PathLike[str], options: Mapping[str, Option]) -> bytes:
    """Call a verb that reads a store, and give what it prints.

    Raises:
        HostError: it could not; the text is its own.
    """
    call = [str(program()), verb, *arguments(options), "--", os.fspath(store)]
    done = subprocess.run(call, capture_output=True, check=False, env=environment())
    if done.returncode != 0:
        raise HostError(done.stderr.decode(errors="replace").strip(), done.returncode)
    return done.stdout
