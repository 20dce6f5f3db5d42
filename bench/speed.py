"""Measuring: contenders run in turn, each run in a fresh process that prints one JSON line.

A round runs every contender once; the next round begins with another one, so that a slow
minute of a shared machine falls on all of them. Figures are medians over the rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.contenders.base import OURS, Job, contenders_for, missing
from bench.inputs import Inputs
from bench.result import Lane, Outcome, require_all_rows
from ftrl_engine.errors import FtrlError

# A process that takes longer is ended and reported as skipped.
TIMEOUT_SECONDS = 900.0
MAX_PARSE_ROWS = 200_000
MAX_REASON = 200  # characters kept of an error message

Command = Callable[[], list[str]]


class _NotMeasured(Exception):
    """A process said why it does not take part, or failed."""

    def __init__(self, reason: str, failed: bool) -> None:
        super().__init__(reason)
        self.failed = failed


@dataclass(frozen=True, slots=True)
class Bench:
    """What the groups measure with.

    rows       rows of the larger inputs; runs: rounds; quick: leave out what takes long
    say        called with a line about what is going on
    most_rows  the largest input of groups that choose sizes of their own; None: as they like
    """

    inputs: Inputs
    rows: int
    runs: int
    quick: bool = False
    say: Callable[[str], None] = lambda text: None
    most_rows: int | None = None

    @property
    def parse_rows(self) -> int:
        """Rows of inputs that go through a parser alone."""
        return min(self.rows, MAX_PARSE_ROWS)

    def file_job(self, rows: int, bits: int) -> dict[str, Any]:
        """A job on the same rows in the forms that the contenders read."""
        return {
            "criteo": str(self.inputs.criteo("tsv", rows)),
            "vw": None if missing("vw") else str(self.inputs.criteo("vw", rows)),
            "rows": rows,
            "directory": str(self.inputs.directory),
            "bits": bits,
        }

    def race(
        self, function: str, job: Job, runs: int | None = None, only: Sequence[str] | None = None
    ) -> list[Lane]:
        """Run ``function(job)`` of every contender that defines it, or of some only."""
        names = [name for name in contenders_for(function) if only is None or name in only]
        commands = {name: partial(worker_command, name, function, job) for name in names}
        lanes = self.race_commands(commands, function, runs)
        require_all_rows(lanes, job)
        return lanes

    def race_commands(
        self, commands: Mapping[str, Command], what: str, runs: int | None = None
    ) -> list[Lane]:
        """Run command lines in turn; one that prints JSON fills the outcome's measures."""
        lanes = [Lane(name) for name in commands]
        for lane in lanes:
            lane.skipped = missing(lane.contender)
        turns = [(f"{what}: {lane.contender}", lane, commands[lane.contender]) for lane in lanes]
        self._take_turns(turns, runs or self.runs)
        return lanes

    def race_jobs(self, function: str, jobs: Mapping[str, Job]) -> dict[str, Lane]:
        """Run ``function(job)`` of ours for several jobs in turn: a lane for each, by its name."""
        lanes = {name: Lane(OURS) for name in jobs}
        turns: list[tuple[str, Lane, Command]] = [
            (f"{function}: {name}", lanes[name], partial(worker_command, OURS, function, job))
            for name, job in jobs.items()
        ]
        self._take_turns(turns, self.runs)
        for name, job in jobs.items():
            require_all_rows([lanes[name]], job)
        return lanes

    def _take_turns(self, turns: list[tuple[str, Lane, Command]], rounds: int) -> None:
        for number in range(rounds):
            shift = number % len(turns) if turns else 0
            for title, lane, command in turns[shift:] + turns[:shift]:
                if lane.skipped is None:
                    self.say(f"{title}, run {number + 1} of {rounds}")
                    self._run(lane, command())

    def _run(self, lane: Lane, command: list[str]) -> None:
        try:
            lane.outcomes.append(run_process(command))
        except _NotMeasured as error:
            if error.failed and lane.contender == OURS:
                raise FtrlError(f"bench: {' '.join(command[:5])} ...: {error}") from None
            lane.skipped = str(error)


def worker_command(contender: str, function: str, job: Job) -> list[str]:
    """The command line that runs ``function(job)`` of a contender in a process of its own."""
    return [sys.executable, "-m", "bench.worker", contender, function, json.dumps(dict(job))]


def installed_environment() -> dict[str, str]:
    """What a measured process sees: a checkout keeps its bytecode, as a package that was installed does."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_process(command: list[str]) -> Outcome:
    """Run one command to its end."""
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            env=installed_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _NotMeasured(f"took longer than {TIMEOUT_SECONDS:.0f} s", failed=True) from None
    seconds = time.perf_counter() - started
    stdout, stderr = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return outcome_of(done.returncode, stdout, stderr, seconds)


def outcome_of(status: int, stdout: str, stderr: str, seconds: float) -> Outcome:
    """What a process that has ended says: the last line of its stdout, if that is JSON."""
    if status != 0:
        lines = stderr.strip().splitlines()
        reason = lines[-1][:MAX_REASON] if lines else "no message"
        raise _NotMeasured(f"failed with exit status {status}: {reason}", failed=True)
    lines = stdout.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return Outcome(seconds)
    reply = json.loads(lines[-1])
    if "skipped" in reply:
        raise _NotMeasured(reply["skipped"], failed=False)
    measures = reply.get("measures", reply)
    return Outcome(seconds, measures, reply.get("peak_mb", 0.0), reply.get("cpu_seconds", 0.0))
