"""What the demo shows: a table that grows on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from streams.progress import quantity

_SHOWN_ROWS = 15
# Short, so that every number fits on a terminal of 80 columns.
_COLUMNS = ("s", "learned", "/s", "log loss", "(best)", "calib.", "weights", "age", "score", "(true)")
_CAPTION = "best: log loss of the true probabilities; age: of the served model; score: of the fixed event"


@dataclass(frozen=True, slots=True)
class Moment:
    """The loop at one moment, by the snapshot that is served.

    best   the log loss of the true probabilities over the same events
    age    seconds since the snapshot was published
    score  of the fixed event; true: its true probability
    """

    seconds: float
    rows: int
    rows_per_second: float
    log_loss: float | None
    best: float | None
    calibration: float | None
    nonzero_weights: int
    age: float
    score: float
    true: float

    def cells(self) -> tuple[str, ...]:
        """The text of each column."""
        return (
            f"{self.seconds:.0f}", f"{self.rows:,}", f"{self.rows_per_second:,.0f}", quantity(self.log_loss),
            quantity(self.best), quantity(self.calibration, 3), f"{self.nonzero_weights:,}",
            f"{self.age:.1f} s", f"{self.score:.4f}", f"{self.true:.4f}",
        )  # fmt: skip

    def line(self) -> str:
        """All of it on one line."""
        seconds, rows, rate, loss, best, calibration, nonzero, age, score, true = self.cells()
        return (
            f"{seconds:>3} s  {rows:>9} learned  {rate:>7}/s  log loss {loss} (best possible {best})  "
            f"calibration {calibration}  non-zeros {nonzero}  model age {age}  score {score} (true {true})"
        )


class DemoView:
    """Shows moments on stderr; nothing with ``quiet``."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._moments: list[Moment] = []
        self._live: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True, markup=False), refresh_per_second=4)

    def __enter__(self) -> DemoView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(text, highlight=False)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def show(self, moment: Moment) -> None:
        """One more moment."""
        if self._live is None:
            self.say(moment.line())
            return
        from rich.table import Table

        self._moments = [*self._moments[1 - _SHOWN_ROWS :], moment]
        table = Table(
            box=None, pad_edge=False, padding=(0, 2, 0, 0), caption=_CAPTION, caption_justify="left"
        )
        for name in _COLUMNS:
            table.add_column(name, justify="right", no_wrap=True)
        for each in self._moments:
            table.add_row(*each.cells())
        self._live.update(table)
