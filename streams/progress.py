"""Progress on stderr: a live line on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

PLAIN_SECONDS = 10.0


class ProgressLine:
    """Shows text that is replaced as work goes on; nothing with ``quiet``."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: Any = None
        self._next = time.monotonic() + PLAIN_SECONDS
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True, markup=False), refresh_per_second=4, transient=True
            )

    def __enter__(self) -> ProgressLine:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, text: str, fraction: float | None = None) -> None:
        """Replace the live line, with a bar where the end is known; or print it every ten seconds."""
        if self._live is not None:
            self._live.update(_with_bar(text, fraction))
        elif not self._quiet and time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_SECONDS
            share = "" if fraction is None else f"{100 * fraction:.0f} %  "
            print(share + text, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._quiet:
            return
        if self._live is not None:
            self._live.console.print(text, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def _with_bar(text: str, fraction: float | None) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    if fraction is None:
        grid.add_row(text)
    else:
        grid.add_row(ProgressBar(total=1.0, completed=fraction, width=20), text)
    return grid


def quantity(value: float | int | None, digits: int = 4) -> str:
    """A number for people: thousands separated, None as a dash."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
