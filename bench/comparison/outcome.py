"""What came of one configuration, and the directory that keeps what is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.comparison.method import Configuration
from bench.comparison.tally import Blocks
from ftrl_engine import container
from ftrl_engine.errors import CorruptFileError, DataError

KIND = "comparison-outcome"
DIVERGED = "diverged"


class Point(NamedTuple):
    """How far a learner was after so many events; ``nonzeros`` is None where it was not looked at."""

    events: int
    log_loss: float
    nonzeros: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One configuration after one pass over the events (the mean of several passes over shuffles).

    nonzeros   weights that are not zero at the end; the intercept is none
    seconds    processor time of predicting and learning, one pass
    failed     why it has no result; then blocks is None
    curve      on the way, where it was looked at: of the first pass
    peak_mb    memory of a process of its own, 0 where it shares one
    """

    configuration: Configuration
    blocks: Blocks | None
    nonzeros: float = 0.0
    seconds: float = 0.0
    failed: str | None = None
    curve: tuple[Point, ...] = ()
    peak_mb: float = 0.0

    @property
    def log_loss(self) -> float:
        """Infinity where it failed."""
        return float("inf") if self.blocks is None else self.blocks.log_loss


@dataclass(frozen=True, slots=True)
class Store:
    """Finished outcomes in the files of a directory; None keeps nothing.

    ``about`` is what an outcome depends on beside its configuration: events, order, versions.
    """

    directory: Path | None
    about: Mapping[str, str | int]

    def load(self, configuration: Configuration) -> Outcome | None:
        """The outcome, if it is there and whole."""
        if self.directory is None:
            return None
        try:
            arrays, metadata = container.read(self._path(configuration), KIND)
        except (FileNotFoundError, CorruptFileError):
            return None
        facts = json.loads(metadata["facts"])
        blocks = None if facts["failed"] else Blocks(**arrays)
        curve = tuple(Point(*point) for point in facts.pop("curve"))
        return Outcome(configuration, blocks, curve=curve, **facts)

    def save(self, outcome: Outcome) -> None:
        """Keep it, in one atomic step."""
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[np.float64]] = {}
        if outcome.blocks is not None:
            arrays = {name: getattr(outcome.blocks, name) for name in ("sums", "wins", "histogram")}
        facts = {
            "nonzeros": outcome.nonzeros, "seconds": outcome.seconds, "failed": outcome.failed,
            "curve": outcome.curve, "peak_mb": outcome.peak_mb,
        }  # fmt: skip
        about = outcome.configuration.key()
        try:
            container.write(
                self._path(outcome.configuration), KIND, arrays, {"facts": json.dumps(facts), "of": about}
            )
        except OSError as error:
            raise DataError(
                f"{self.directory}: a result cannot be kept ({error.strerror}); "
                "make room or use another --work"
            ) from error

    def _path(self, configuration: Configuration) -> Path:
        assert self.directory is not None
        text = json.dumps(dict(self.about), sort_keys=True) + configuration.key()
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        return self.directory / f"{configuration.contender}-{digest}.safetensors"
