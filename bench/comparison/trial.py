"""Trial: many configurations of our learners over the same events, in one pass.

Every batch of hashed rows goes to all learners before the next one is looked at, in threads, because
the learners leave the interpreter alone while they work. A learner belongs to one thread at a time and
shares nothing but the rows, so no figure depends on the number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.comparison.events import Events
from bench.comparison.method import Configuration
from bench.comparison.outcome import DIVERGED, Outcome, Point
from bench.comparison.tally import BINS, BLOCKS, Blocks, Tally, blocks_of
from ftrl_engine.batch import Batch
from ftrl_engine.learners.base import Learner, build, find_learner

# Learners of one pass: what an interruption loses, and what memory holds.
MOST_AT_ONCE = 64
MOST_BYTES = 4 << 30

Report = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """How configurations are tried.

    learners  contender -> the learner it is
    shuffles  0 keeps the order of the events; else the passes, each in a random order of its own
    threads   learners that work at a time
    """

    events: Events
    learners: dict[str, str]
    shuffles: int = 0
    seed: int = 0
    threads: int = 1
    blocks: int = BLOCKS
    curves: bool = False  # look at every learner after each K-th part of the events
    _orders: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def block_count(self) -> int:
        return min(self.blocks, len(self.events))

    def run(
        self, configurations: Sequence[Configuration], report: Report = lambda share: None
    ) -> Iterator[Outcome]:
        """The outcomes in order; ``report`` is told which share of all the work is done."""
        at_once = self._at_once(configurations)
        for first in range(0, len(configurations), at_once):
            part = configurations[first : first + at_once]

            def tell(share: float, first: int = first, count: int = len(part)) -> None:
                report((first + share * count) / len(configurations))

            yield from self._run_together(part, tell)

    def _at_once(self, configurations: Sequence[Configuration]) -> int:
        """Learners whose tables and histograms fit into MOST_BYTES."""
        widest = max(find_learner(self.learners[c.contender]).width for c in configurations)
        each = self.events.slots * widest * 8 + self.block_count * 2 * BINS * 8
        return max(1, min(MOST_AT_ONCE, MOST_BYTES // each))

    def _run_together(self, part: Sequence[Configuration], report: Report) -> list[Outcome]:
        passes = max(1, self.shuffles)
        runs: list[list[_Lane]] = []
        with ThreadPoolExecutor(self.threads) as pool:
            for number in range(passes):
                lanes = [self._lane(configuration) for configuration in part]
                runs.append(lanes)
                done = 0
                for rows, batch in self.events.batches(self.order(number)):
                    blocks = blocks_of(rows, len(self.events), self.block_count)
                    list(pool.map(lambda lane, b=batch, k=blocks: lane.take(b, k), lanes))
                    done += len(rows)
                    report((number + done / len(self.events)) / passes)
                list(pool.map(_Lane.finish, lanes))
        return [_outcome(part[i], [lanes[i] for lanes in runs]) for i in range(len(part))]

    def _lane(self, configuration: Configuration) -> _Lane:
        name = self.learners[configuration.contender]
        learner = build(name, self.events.slots, **configuration.settings)
        points = self.block_count if self.curves else 0
        return _Lane(learner, Tally(self.block_count), len(self.events), points)

    def order(self, number: int) -> NDArray[np.int64] | None:
        """The order of the rows in one pass; None is that of the source."""
        if not self.shuffles:
            return None
        while len(self._orders) <= number:
            rng = np.random.default_rng([self.seed, len(self._orders)])
            self._orders.append(rng.permutation(len(self.events)))
        return self._orders[number]


class _Lane:
    """One learner on its way through the events."""

    def __init__(self, learner: Learner, tally: Tally, total: int, points: int) -> None:
        self._learner: Learner | None = learner
        self._tally = tally
        self._total = total
        self._points = points
        self._rows = 0
        self.seconds = 0.0
        self.nonzeros = 0
        self.curve: list[Point] = []
        self.blocks: Blocks | None = None

    def take(self, batch: Batch, blocks: NDArray[np.int64]) -> None:
        """Learn the rows; ``blocks`` are those they are counted in."""
        if self._points == 0:
            self._take(batch, blocks)
            return
        points = blocks_of(np.arange(self._rows, self._rows + len(batch)), self._total, self._points)
        cuts = [0, *(np.flatnonzero(np.diff(points)) + 1).tolist(), len(batch)]
        for start, stop in pairwise(cuts):
            self._take(batch.rows(start, stop), blocks[start:stop])
            if self._learner is not None and not self._tally.diverged:
                nonzeros = float(len(self._learner.weights()[0]))
                self.curve.append(Point(self._rows, self._tally.log_loss, nonzeros))

    def _take(self, batch: Batch, blocks: NDArray[np.int64]) -> None:
        if self._learner is None or self._tally.diverged or batch.labels is None:
            return
        started = time.thread_time()
        margins = self._learner.learn(batch)
        self.seconds += time.thread_time() - started
        self._rows += len(batch)
        self._tally.add(margins, batch.labels, batch.importance, blocks)

    def finish(self) -> None:
        """Take the results and give the memory back."""
        if self._learner is not None and not self._tally.diverged:
            self.nonzeros = len(self._learner.weights()[0])
            self.blocks = self._tally.blocks()
        self._learner = None


def _outcome(configuration: Configuration, lanes: Sequence[_Lane]) -> Outcome:
    blocks = [lane.blocks for lane in lanes if lane.blocks is not None]
    seconds = float(np.mean([lane.seconds for lane in lanes]))
    if len(blocks) < len(lanes):
        return Outcome(configuration, None, seconds=seconds, failed=DIVERGED)
    return Outcome(
        configuration,
        Blocks.mean(blocks),
        float(np.mean([lane.nonzeros for lane in lanes])),
        seconds,
        curve=tuple(lanes[0].curve),
    )
