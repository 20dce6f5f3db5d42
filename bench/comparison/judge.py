"""The judge: from outcomes to standings, each contender beside FTRL-Proximal on the same events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bench.comparison.contest import Contest, Entry
from bench.comparison.method import REFERENCE, Method
from bench.comparison.outcome import Outcome
from bench.comparison.resamples import REPLICATES, Resamples
from bench.comparison.search import TOLERANCE
from bench.comparison.standing import Standing
from ftrl_engine.errors import DataError

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Standings:
    """contenders: name -> standing; references: rows -> FTRL-Proximal on the first so many events."""

    contenders: Mapping[str, Standing]
    references: Mapping[int, Standing]


@dataclass(frozen=True, slots=True)
class Judge:
    """How outcomes become figures: seed of the bootstrap, its replicates, the tolerance of the choice."""

    seed: int = 0
    replicates: int = REPLICATES
    tolerance: float = TOLERANCE

    def standings(
        self, entries: Sequence[Entry], references: Sequence[Entry], late: bool = False
    ) -> Standings:
        """By all events, or by their second half; contenders without any result are left out."""
        found = {entry.method.name: self._standing(entry, late) for entry in entries}
        beside = {entry.rows: self._standing(entry, late) for entry in references}
        if None in beside.values():
            raise DataError(
                "FTRL-Proximal has no result on these events, so nothing can be compared with it; "
                "check that feature values are of moderate size"
            )
        return Standings(_known(found), _known(beside))

    def _standing(self, entry: Entry, late: bool) -> Standing | None:
        outcomes = [_late(outcome) for outcome in entry.outcomes] if late else entry.outcomes
        blocks = next((outcome.blocks for outcome in outcomes if outcome.blocks is not None), None)
        if blocks is None:
            return None
        return Standing.of(outcomes, Resamples(len(blocks.sums), self.seed, self.replicates), self.tolerance)


def _late(outcome: Outcome) -> Outcome:
    return replace(outcome, blocks=None if outcome.blocks is None else outcome.blocks.late())


def _known(found: Mapping[K, Standing | None]) -> dict[K, Standing]:
    return {key: standing for key, standing in found.items() if standing is not None}


def references(contest: Contest, entries: Sequence[Entry], method: Method) -> list[Entry]:
    """FTRL-Proximal on all events, and on the beginnings that some programs got."""
    found = [entry for entry in entries if entry.method.name == REFERENCE]
    rows = {entry.rows for entry in entries if entry.outcomes} - {entry.rows for entry in found}
    for count in sorted(rows):
        found += contest.learners([method], count)
    return found


def portraits(contest: Contest, entries: Sequence[Entry], standings: Standings) -> None:
    """Look at the chosen settings of our learners once more, on the way."""
    ours = [entry for entry in entries if not entry.outside and entry.method.name in standings.contenders]
    for done, entry in enumerate(ours):
        contest.show("learning curves", done / len(ours))
        chosen = standings.contenders[entry.method.name].outcome.configuration
        entry.portrait = contest.portrait(entry.method, entry.rows, chosen)
