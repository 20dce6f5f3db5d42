"""What was measured: the runs of each contender, and the figures made of them."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.contenders.base import OURS, Job
from ftrl_engine.errors import FtrlError


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one contender.

    seconds   wall time of the whole process, interpreter start and end included
    measures  what the contender itself measured
    """

    seconds: float
    measures: Mapping[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(slots=True)
class Lane:
    """All runs of one contender; ``wrong`` when it was skipped because its results were not right."""

    contender: str
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: str | None = None
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One figure, as in the JSON of the contract: the median of some runs, or why there is none.

    curve, size  the growth curve it belongs to and where it lies there, for a plot; not in the JSON
    """

    group: str
    name: str
    contender: str
    unit: str
    median: float = 0.0
    min: float = 0.0
    max: float = 0.0
    runs: int = 0
    skipped: str | None = None
    wrong: bool = False
    curve: str = ""
    size: float = 0.0

    @classmethod
    def of(cls, group: str, name: str, contender: str, unit: str, values: Sequence[float]) -> Result:
        """The figure of the values of all runs."""
        middle = statistics.median(values)
        return cls(group, name, contender, unit, middle, min(values), max(values), len(values))

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the contract."""
        head = {"group": self.group, "name": self.name, "contender": self.contender, "unit": self.unit}
        if self.skipped is not None:
            return head | {"skipped": self.skipped}
        return head | {"median": self.median, "min": self.min, "max": self.max, "runs": self.runs}


def results(
    lanes: list[Lane], group: str, name: str, unit: str, value: str | Callable[[Outcome], float]
) -> list[Result]:
    """One result for each contender; ``value`` is a measure, or what makes a figure of an outcome.

    A contender that does not report the measure is left out.
    """
    found = []
    for lane in lanes:
        head = (group, name, lane.contender, unit)
        if lane.skipped is not None:
            found.append(Result(*head, skipped=lane.skipped, wrong=lane.wrong))
        elif not isinstance(value, str):
            found.append(Result.of(*head, [value(outcome) for outcome in lane.outcomes]))
        elif all(value in outcome.measures for outcome in lane.outcomes):
            found.append(Result.of(*head, [outcome.measures[value] for outcome in lane.outcomes]))
    return found


def results_of_module(module: str, group: str, name: str, *arguments: object) -> list[Result]:
    """The results of ``run(*arguments)`` of a module that measures in its own way.

    It returns the rows of the contract's JSON.
    """
    if importlib.util.find_spec(module) is None:
        return [Result(group, name, OURS, "", skipped=f"there is no {module} in this version")]
    return [Result(**row) for row in importlib.import_module(module).run(*arguments)]


def require_all_rows(lanes: list[Lane], job: Job) -> None:
    """FtrlError where ours did not take every row of the job: a figure without them would lie."""
    for outcome in [outcome for lane in lanes if lane.contender == OURS for outcome in lane.outcomes]:
        found, wanted = outcome.measures.get("rows"), job.get("rows")
        if found is not None and found != wanted:
            raise FtrlError(f"bench: {OURS} took {found:.0f} of {wanted} rows; this is a defect, report it")


def require_equal(lanes: list[Lane], measure: str, reference: str, tolerance: float) -> None:
    """Mark as wrong every lane whose ``measure`` is further than ``tolerance`` from the reference's."""
    wanted = next(
        (
            lane.outcomes[0].measures[measure]
            for lane in lanes
            if lane.contender == reference and lane.outcomes
        ),
        None,
    )
    if wanted is None:
        return
    for lane in lanes:
        found = [outcome.measures[measure] for outcome in lane.outcomes if measure in outcome.measures]
        off = [value for value in found if not abs(value - wanted) <= tolerance]
        if lane.skipped is None and off:
            lane.skipped = f"wrong result: {measure} {off[0]!r}, but {reference} has {wanted!r}"
            lane.wrong = True
