"""Runs a sweep that is a dict, a file, or vectors."""

import os
import subprocess
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import tomli_w

from ._command import HostError, Option, arguments, environment, program
from ._progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors: TypeAlias = NDArray[np.generic]

# How an error of the host begins, and one of its command line.
_ERROR = ("  \N{MULTIPLICATION SIGN} ", "error: ")
# How the host says that cells failed.
_SOME_FAILED = 3
# Time to end by itself after Ctrl-C: the host was told too, where both have one terminal or kernel.
_GRACE_S = 10


class CellsFailedWarning(UserWarning):
    """Some cells did not end well; the column ``error`` of the results says why."""


def run(
    sweep: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    data: "str | os.PathLike[str] | Vectors | None" = None,
    queries: "str | os.PathLike[str] | Vectors | None" = None,
    store: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **options: Option,
) -> Path:
    """Measure what is not in the store yet.

    A sweep as a dict has the keys of the file, ``docs/sweep.md``. Its paths are relative to the
    working directory; rows may also be arrays of NumPy, (n, d), which are saved for the time of
    the run. With ``data`` instead of a sweep every method is tried on it, within two minutes or
    what ``budget`` says, as ``vq-host run --data`` does.

    Args:
        sweep: A dict, or the path of a sweep file.
        data: Vectors (n, d), or the path of a file, a folder or a pattern.
        queries: Queries for ``data``, likewise; without it some rows are held out.
        store: The file of results; default: what the sweep says, else ``results/NAME.db``, where
            NAME is ``python`` for a dict without one and ``command-line`` for ``data``.
        progress: Show what is done: a bar where tqdm is installed, else lines on ``sys.stderr``.
        **options: Those of ``vq-host run``: ``metric="cosine"``, ``rows=30e6``, ``budget="10min"``,
            ``jobs=2``, ``only="pq"``, ``rerun="failed"`` and others.

    Returns:
        The store's path. What was in it stays there, and is not measured again.

    Raises:
        HostError: the program could not; the text is its own.
        TypeError: a value of the dict is nothing that TOML has.
        ValueError: neither a sweep nor data is given, or both; or ``write_sweep`` with arrays.
    """
    if (sweep is None) == (data is None):
        message = "run wants a sweep or data, one of the two"
        raise ValueError(message)
    if options.get("write_sweep") and not isinstance(data, str | os.PathLike):
        message = "write_sweep wants data in a file: an array's is gone when the run ends"
        raise ValueError(message)
    with ExitStack() as stack:
        arrays = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vq-host-")))
        file = None
        where = Path("results", "command-line.db")
        if isinstance(sweep, Mapping):
            described = _plain(sweep, "", arrays)
            if isinstance(described.setdefault("sweep", {}), dict):
                described["sweep"].setdefault("name", "python")
            where = _store(described, Path(), "python")
            file = stack.enter_context(_written(described))
        elif sweep is not None:
            file = Path(sweep)
            where = _store_of(file)
        where = Path(store or where)
        call = [str(program()), "run", *arguments({**options, "store": where})]
        rows = {"data": data, "queries": queries}
        call += arguments(
            {name: _plain(x, name, arrays) for name, x in rows.items() if x is not None}
        )
        call += ["--", str(file)] if file is not None else []
        code, text = _watched(call, Progress(shown=progress))
    if isinstance(sweep, Mapping):
        text = text.replace(str(file), "sweep")
    if code == _SOME_FAILED:
        message = f"some cells failed: `error` of vq_host.results({str(where)!r}) says why"
        warnings.warn(message, CellsFailedWarning, stacklevel=2)
    elif code != 0:
        raise HostError(text or f"vq-host ended with exit code {code}", code)
    return where


def _plain(value: Any, where: str, arrays: Path) -> Any:  # noqa: ANN401
    """Give `value` as TOML has it; tables of numbers become files in `arrays`."""
    if isinstance(value, Mapping):
        prefix = f"{where}." if where else ""
        return {str(key): _plain(item, f"{prefix}{key}", arrays) for key, item in value.items()}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray) and value.ndim > 1:
        # Data sets are called as their files: `data` is.
        file = arrays / str(len(list(arrays.iterdir()))) / f"{where.rpartition('.')[2]}.npy"
        file.parent.mkdir()
        numpy.save(file, value)
        return str(file)
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item, f"{where}[{i}]", arrays) for i, item in enumerate(value)]
    if not isinstance(value, str | int | float):
        message = f"{where} is of type {type(value).__name__}, which TOML does not have"
        if value is None:
            message = f"{where} is None, which TOML does not have: leave the key out"
        raise TypeError(message)
    return value


@contextmanager
def _written(sweep: Mapping[str, Any]) -> Iterator[Path]:
    """Write a sweep into the working directory, which its paths are relative to, and remove it."""
    text = tomli_w.dumps(sweep)
    descriptor, name = tempfile.mkstemp(prefix=".vq-host-", suffix=".toml", dir=Path.cwd())
    try:
        os.close(descriptor)
        Path(name).write_text(text, "utf-8")
        yield Path(name)
    finally:
        Path(name).unlink()


def _store_of(file: Path) -> Path:
    """Say where a sweep file keeps its results."""
    try:
        described = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        # The host says better what is wrong with it.
        described = {}
    return _store(described, file.parent, file.stem)


def _store(sweep: Mapping[str, Any], folder: Path, name: str) -> Path:
    """Say where a sweep keeps its results. What is no table here the host refuses."""
    tables = {key: value for key, value in sweep.items() if isinstance(value, Mapping)}
    name = str(tables.get("sweep", {}).get("name", name))
    return folder / str(tables.get("run", {}).get("store", f"results/{name}.db"))


def _watched(call: Sequence[str], progress: Progress) -> tuple[int, str]:
    """Run `call` and show what it says; gives its exit code and its error."""
    with (
        progress,
        subprocess.Popen(
            call,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=environment(),
        ) as host,
    ):
        assert host.stderr is not None  # noqa: S101
        try:
            said = _heard(host.stderr, progress)
            return host.wait(), said
        except BaseException:
            _ended(host)
            raise


def _heard(lines: IO[str], progress: Progress) -> str:
    """Show what the host says while it works, and give the error that it ends with."""
    error: list[str] = []
    for line in lines:
        if error or line.startswith(_ERROR):
            error.append(line)
        else:
            progress.line(line.rstrip("\n"))
    return "".join(error).strip()


def _ended(host: subprocess.Popen[str]) -> None:
    """Wait until what runs is recorded as cancelled; a host that was not told is told."""
    try:
        host.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        host.terminate()
        host.wait()
