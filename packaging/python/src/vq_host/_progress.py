"""What the program says while it works, as a bar or as lines."""

import re
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Never, Self

if TYPE_CHECKING:
    from tqdm import tqdm

# `[ 3/18] glove pq m=50 bits=8: …, 0.6 s`
_CELL = re.compile(r"\[ *(\d+)/(\d+)\] (.*)")
_PREPARING = "preparing "


class Progress:
    """A bar where tqdm is installed, else lines."""

    def __init__(self, *, shown: bool) -> None:
        """Draw nothing yet."""
        self._bar: tqdm[Never] | None = None
        self._shown = shown
        if shown:
            try:
                from tqdm.auto import tqdm as drawn
            except ModuleNotFoundError:
                return
            self._bar = drawn(desc="vq-host", unit=" cells", file=sys.stderr, dynamic_ncols=True)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def line(self, text: str) -> None:
        """Show a line that the program said."""
        if not self._shown:
            return
        cell = _CELL.match(text)
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
        elif cell is not None:
            self._count(int(cell[1]), int(cell[2]), cell[3])
        elif text.startswith(_PREPARING):
            self._bar.set_postfix_str(text)
        else:
            self._bar.write(text, file=sys.stderr)

    def _count(self, done: int, cells: int, title: str) -> None:
        assert self._bar is not None  # noqa: S101
        # A run on `data` goes in stages, each with cells of its own.
        if done < self._bar.n or self._bar.total != cells:
            self._bar.reset(cells)
        self._bar.set_postfix_str(title, refresh=False)
        self._bar.update(done - self._bar.n)
