"""The contest: every method searches for its best settings with the same budget on the same events."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.comparison.events import Events
from bench.comparison.method import REFERENCE, Configuration, Method
from bench.comparison.outcome import Outcome, Store
from bench.comparison.outside.base import Skipped, find_program, missing, version_of
from bench.comparison.program import Program
from bench.comparison.search import TOLERANCE, Found, Search, search
from bench.comparison.trial import Trial
from ftrl_engine import __version__, learners

Run = Callable[[Sequence[Configuration], Callable[[float], None]], Iterable[Outcome]]
# Text and, where it is known, the share of the work that is done.
Show = Callable[[str, float], None]


@dataclass(slots=True)
class Entry:
    """What one contender did.

    rows      the events it got, from the first on; outside: a program, and not a learner of ours
    outcomes  of every configuration, in the order they were tried
    portrait  of the chosen one, looked at on the way
    """

    method: Method
    rows: int
    outside: bool = False
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: str | None = None
    portrait: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Contest:
    """Events, budget and where things are kept.

    budget   configurations of each contender
    work     directory of finished outcomes, None to keep nothing; scratch: for files of this run
    outside_rows  the most events that a program outside gets, None for its own bound
    """

    events: Events
    budget: int
    scratch: Path
    work: Path | None = None
    shuffles: int = 0
    seed: int = 0
    threads: int = 1
    outside_rows: int | None = None
    tolerance: float = TOLERANCE
    show: Show = lambda text, share: None

    def learners(self, methods: Sequence[Method], rows: int | None = None) -> list[Entry]:
        """The searches of our learners, all in one pass a stage."""
        trial = self.trial(rows)
        trial.learners.update({m.name: m.learner for m in methods if m.learner is not None})
        entries = [Entry(method, len(trial.events)) for method in methods]
        store = self.store(trial, our_version())
        text = f"{len(methods)} learners" if len(methods) > 1 else methods[0].title

        def run(part: Sequence[Configuration], report: Callable[[float], None]) -> Iterable[Outcome]:
            return _kept(store, part, trial.run, report)

        self._search(entries, trial, run, text)
        return entries

    def portrait(self, method: Method, rows: int, configuration: Configuration) -> Outcome:
        """A configuration of a learner of ours once more, looked at on the way."""
        trial = replace(self.trial(rows), learners={method.name: method.learner or ""}, curves=True)
        store = self.store(trial, f"{our_version()} portrait")
        return next(iter(_kept(store, [configuration], trial.run, lambda share: None)))

    def programs(self, names: Sequence[str]) -> list[Entry]:
        """The searches of programs outside, each in a process of its own, ``threads`` at a time."""
        live: set[Program] = set()
        # Those that take longest begin first.
        slow = sorted(names, key=lambda name: (find_program(name).MOST_ROWS, name))
        with ThreadPoolExecutor(self.threads) as pool:
            futures = {name: pool.submit(self._program, name, live) for name in slow}
            try:
                return [futures[name].result() for name in names]
            except BaseException:
                for future in futures.values():
                    future.cancel()
                for program in list(live):
                    program.close()
                raise

    def _program(self, name: str, live: set[Program]) -> Entry:
        module = find_program(name)
        bound = module.MOST_ROWS if self.outside_rows is None else self.outside_rows
        trial = self.trial(min(bound, len(self.events)))
        entry = Entry(module.METHOD, len(trial.events), outside=True, skipped=missing(name))
        if entry.skipped is not None:
            return entry
        store = self.store(trial, f"{__version__} {version_of(name)}")
        with Program(name, trial, self.scratch / name) as program:
            live.add(program)

            def run(part: Sequence[Configuration], report: Callable[[float], None]) -> Iterable[Outcome]:
                return _kept(store, part, program.run, report)

            try:
                self._search([entry], trial, run, entry.method.title)
            except Skipped as reason:
                entry.skipped = str(reason)
            live.discard(program)
        return entry

    def trial(self, rows: int | None = None) -> Trial:
        """The first ``rows`` events, or all."""
        events = self.events if rows is None else self.events.head(rows)
        return Trial(events, {}, self.shuffles, self.seed, self.threads)

    def store(self, trial: Trial, version: str) -> Store:
        """Where outcomes are kept that depend on all this."""
        about: Mapping[str, str | int] = {
            "events": trial.events.digest, "rows": len(trial.events), "blocks": trial.block_count,
            "shuffles": self.shuffles, "seed": self.seed if self.shuffles else 0, "version": version,
        }  # fmt: skip
        return Store(self.work, about)

    def _search(self, entries: Sequence[Entry], trial: Trial, run: Run, text: str) -> None:
        """Stage by stage, the same stage of all entries together."""
        scale = typical_value(trial.events)
        searches = {
            e.method.name: search(e.method, self.budget, len(trial.events), scale, self.tolerance)
            for e in entries
        }
        by_name = {entry.method.name: entry for entry in entries}
        stages = {name: next(one) for name, one in searches.items()}
        total, done = self.budget * len(entries), 0
        while stages:
            flat = [configuration for stage in stages.values() for configuration in stage]

            def report(share: float, before: int = done, count: int = len(flat)) -> None:
                self.show(text, min(1.0, (before + share * count) / total))

            for outcome in run(flat, report):
                by_name[outcome.configuration.contender].outcomes.append(outcome)
            done += len(flat)
            stages = _next_stages(searches, stages, by_name)


def _next_stages(
    searches: Mapping[str, Search], stages: Mapping[str, list[Configuration]], entries: Mapping[str, Entry]
) -> dict[str, list[Configuration]]:
    found = {}
    for name, stage in stages.items():
        last = entries[name].outcomes[len(entries[name].outcomes) - len(stage) :]
        try:
            found[name] = searches[name].send([Found(one.log_loss, one.nonzeros) for one in last])
        except StopIteration:
            continue
    return found


def _kept(
    store: Store, configurations: Sequence[Configuration], run: Run, report: Callable[[float], None]
) -> Iterator[Outcome]:
    """What is finished comes from the store, the rest from ``run``; each is kept as soon as it is there."""
    kept = [store.load(configuration) for configuration in configurations]
    missing_ones = [c for c, outcome in zip(configurations, kept, strict=True) if outcome is None]
    done = len(configurations) - len(missing_ones)
    fresh = iter(run(missing_ones, lambda share: report((done + share * len(missing_ones)) / len(kept))))
    for outcome in kept:
        if outcome is None:
            outcome = next(fresh)
            store.save(outcome)
        yield outcome


def our_version() -> str:
    """The version and the sources of the learners: an outcome of others is not taken up again."""
    digest = hashlib.sha256()
    for path in sorted(Path(learners.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return f"{__version__} {digest.hexdigest()[:16]}"


def typical_value(events: Events) -> float:
    """The root of the mean squared feature value; 1 where all are 1."""
    values = events.batch.values
    return float(np.sqrt(np.mean(values * values))) if len(events.batch.raw_values) else 1.0


def reference_method(methods: Sequence[Method]) -> Method:
    """FTRL-Proximal, which all others are held against."""
    return next(method for method in methods if method.name == REFERENCE)
