"""Is it Algorithm 1? Questions to ours and to programs outside, with a table of who passes what.

Every subject runs in a process of its own. A reference in plain Python, written from the paper
(McMahan et al. 2013, Algorithm 1), gives the answers; a tolerance allows for 32-bit state.

examples:
  ftrl compare --conformance
  python -m bench.conformance
  python -m bench.conformance --events 1000000 --json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.questions import QUESTIONS, RATE, Wrong
from bench.subjects.base import NotAsked, find_subject, missing, subject_names
from ftrl_engine.errors import ConfigError

EVENTS, QUICK_EVENTS = 30_000_000, 1_000_000
LEAST_EVENTS, MOST_EVENTS = 10_000, 1_000_000_000
TIMEOUT_SECONDS = 1800.0

PASSED, FAILED, NOT_ASKED, SKIPPED = "passed", "failed", "not asked", "skipped"


def ask(name: str, events: int) -> dict[str, dict[str, str]]:
    """All questions to one subject, in this process: question -> {"answer", "detail"}."""
    make = find_subject(name).Subject
    found = {}
    for question, put in QUESTIONS.items():
        with tempfile.TemporaryDirectory(prefix="ftrl-conformance-") as directory:
            try:
                found[question] = {"answer": PASSED, "detail": put(make, Path(directory), events)}
            except Wrong as wrong:
                found[question] = {"answer": FAILED, "detail": str(wrong)}
            except NotAsked as reason:
                found[question] = {"answer": NOT_ASKED, "detail": str(reason)}
    return found


def ask_all(
    events: int, say: Callable[[str], None] = lambda text: None
) -> dict[str, dict[str, dict[str, str]]]:
    """Subject -> question -> answer, each subject in a process of its own."""
    found = {}
    for name in subject_names():
        reason = missing(name)
        if reason is None:
            say(f"asking {name}")
            command = [sys.executable, "-m", "bench.conformance", "--subject", name, "--events", str(events)]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
                )
                if done.returncode == 0:
                    found[name] = json.loads(done.stdout.splitlines()[-1])
                    continue
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
            except subprocess.TimeoutExpired:
                reason = f"took longer than {TIMEOUT_SECONDS:.0f} s"
        found[name] = {question: {"answer": SKIPPED, "detail": reason} for question in QUESTIONS}
    return found


def print_answers(found: dict[str, dict[str, dict[str, str]]], events: int) -> None:
    """The table, and below it what failed or was not asked."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 140
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("question")
    for name in found:
        table.add_column(name, justify="center")
    for question in QUESTIONS:
        table.add_row(question, *(found[name][question]["answer"] for name in found))
    console.print(table)
    for name, answers in found.items():
        for question, answer in answers.items():
            if answer["answer"] in (FAILED, NOT_ASKED):
                console.print(f"{name}, {question}: {answer['answer']}: {answer['detail']}", style="dim")
    reasons = {name: answers["predictions"] for name, answers in found.items()}
    for name, answer in reasons.items():
        if answer["answer"] == SKIPPED:
            console.print(f"{name} skipped: {answer['detail']}")
    console.print(f"calibration after {events:,} events, {100 * RATE:g} % positive")


def check_events(events: int) -> int:
    """``events``, or ConfigError."""
    if not LEAST_EVENTS <= events <= MOST_EVENTS:
        raise ConfigError(f"--events must be between {LEAST_EVENTS:,} and {MOST_EVENTS:,}, got {events}")
    return events


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask all subjects, or the one that is named; 1 where ours does not pass."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.conformance", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument(
        "--events", type=int, default=EVENTS, metavar="N", help=f"of calibration ({EVENTS:,})"
    )
    parser.add_argument("--subject", choices=subject_names(), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, nothing else")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    args = parser.parse_args(arguments)
    try:
        events = check_events(args.events)
    except ConfigError as error:
        parser.error(str(error))
    if args.subject:
        print("\n" + json.dumps(ask(args.subject, events)))
        return 0
    return report(events, args.json, args.quiet)


def report(events: int, as_json: bool, quiet: bool) -> int:
    """Ask all and print; 1 where ours does not pass."""
    found: dict[str, Any] = ask_all(
        events, lambda text: None if quiet else print(text, file=sys.stderr, flush=True)
    )
    if as_json:
        print(json.dumps({"events": events, "subjects": found}))
    else:
        print_answers(found, events)
    ours = found["ftrl-engine"].values()
    return 0 if all(answer["answer"] == PASSED for answer in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
