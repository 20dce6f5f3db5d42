"""Compare FTRL-Proximal with SGD+L1, other sparse learners and installed programs on the same events.

Events are hashed once; every contender then searches for its own best settings with the same budget,
predicting each event before it learns from it. Intervals are of 95 %, from resampled blocks of events.
A program that is not installed is reported as skipped. With --report or --work, what is finished is
kept, and the same command goes on where it was interrupted.

examples:
  ftrl compare events.tsv.gz --schema criteo --report report
  ftrl compare events.jsonl --quick
  ftrl compare reviews.libsvm --shuffles 5 --only sgd_l1,rda --json
  ftrl compare books.libsvm --protocol 2011 --shuffles 5
  ftrl compare --conformance
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from bench.comparison.defaults import BITS, BUDGET, QUICK_BUDGET
from streams import flags

if TYPE_CHECKING:
    from bench.comparison.contest import Contest, Entry
    from bench.comparison.events import Events
    from bench.comparison.judge import Judge
    from streams.progress import ProgressLine

QUICK_OUTSIDE_ROWS, QUICK_REPLICATES = 2000, 300
MOST_BITS = 28
MOST_SHUFFLES, MOST_THREADS = 100, 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_source(parser, required=False)
    parser.add_argument("--schema", metavar="NAME|FILE", help="what the fields mean (default: auto)")
    parser.add_argument("--report", metavar="DIR", help="write the report there: index.html, tables, plots")
    parser.add_argument(
        "--conformance",
        action="store_true",
        help="without SOURCE: ask ours and others whether they are FTRL",
    )
    parser.add_argument(
        "--protocol", choices=("2011",), help="instead, the comparison of McMahan 2011: AUC and density"
    )
    contest = parser.add_argument_group("contest")
    add = contest.add_argument
    add(
        "--quick",
        action="store_true",
        help=f"a first look: --budget {QUICK_BUDGET}, programs on fewer events",
    )
    add("--budget", type=int, metavar="N", help=f"settings each contender may try (default {BUDGET})")
    add("--only", metavar="NAME,...", help="only these contenders beside ftrl_proximal")
    add("--no-programs", action="store_true", help="our learners only, no programs outside")
    add(
        "--outside-rows", type=int, metavar="N", help="the most events a program outside gets (its own bound)"
    )
    add("--shuffles", type=int, default=0, metavar="N",
        help="passes in random order instead of one in the order of the source (0)")  # fmt: skip
    add("--limit", type=int, metavar="N", help="only the first N events")
    add("--bits", type=int, default=BITS, metavar="B", help=f"hash to 2**B slots ({BITS})")
    add("--tolerance", type=float, metavar="X",
        help="show the sparsest settings within this share of the lowest log loss (0.005)")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of shuffles and intervals (0)")
    run = parser.add_argument_group("run")
    run.add_argument(
        "--threads", type=int, metavar="N", help="learners at work at a time (default: the cores)"
    )
    run.add_argument("--work", metavar="DIR", help="keep finished settings there (default: REPORT/work)")
    flags.add_output(parser)


def run(args: argparse.Namespace) -> int:
    import signal
    import tempfile
    from pathlib import Path

    from ftrl_engine import jit
    from streams.progress import ProgressLine

    _check(args)
    if args.conformance:
        from bench import conformance

        events = conformance.QUICK_EVENTS if args.quick else conformance.EVENTS
        return conformance.report(events, args.json, args.quiet)
    # A signal ends the run like Ctrl-C, so that processes and gigabytes of events do not stay behind.
    signal.signal(signal.SIGTERM, _interrupt)
    with ProgressLine(args.quiet) as progress, tempfile.TemporaryDirectory(prefix="ftrl-compare-") as scratch:
        if jit.cache_is_cold():
            progress.say("compiling (once for this version on this machine, up to a minute) ...")
        if args.protocol:
            return _protocol(args, Path(scratch), progress)
        try:
            found = compare(args, Path(scratch), progress)
        except KeyboardInterrupt:
            progress.say(_interrupted(args))
            raise
        if args.report:
            _write_report(found, Path(args.report), progress)
    if args.json:
        from bench.comparison.results import contract

        print(json.dumps(contract(found)))
    elif not args.quiet or not args.report:
        _print(found)
    return 0


def _work(args: argparse.Namespace) -> str | None:
    """Where finished settings are kept, if anywhere."""
    kept: str | None = args.work or (f"{args.report}/work" if args.report else None)
    return kept


def _interrupted(args: argparse.Namespace) -> str:
    work = _work(args)
    if work is None:
        return (
            "interrupted: nothing was kept; with --report DIR or --work DIR, the same command goes on from "
            "what was finished"
        )
    return f"interrupted: what was finished is kept in {work}; the same command goes on from there"


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _check(args: argparse.Namespace) -> None:
    from bench.comparison.search import LEAST_BUDGET, MOST_BUDGET
    from ftrl_engine.errors import ConfigError

    if bool(args.source) == args.conformance:
        raise ConfigError("name a SOURCE of events to compare on, or --conformance and no SOURCE")
    if args.budget is None:
        args.budget = QUICK_BUDGET if args.quick else BUDGET
    if args.outside_rows is None and args.quick:
        args.outside_rows = QUICK_OUTSIDE_ROWS
    for name, least, most in (
        ("budget", LEAST_BUDGET, MOST_BUDGET),
        ("outside_rows", 100, 1 << 40),
        ("shuffles", 0, MOST_SHUFFLES),
        ("limit", 100, 1 << 40),
        ("bits", 1, MOST_BITS),
        ("tolerance", 0.0, 1.0),
        ("seed", 0, (1 << 63) - 1),
        ("threads", 1, MOST_THREADS),
    ):
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} must be between {least:,} and {most:,}, got {value}")


def compare(args: argparse.Namespace, scratch: Any, progress: ProgressLine) -> dict[str, Any]:
    """All results as plain data: what ``results.json`` of a report holds."""
    from pathlib import Path

    from bench.comparison.clock import Remaining
    from bench.comparison.contest import Contest
    from bench.comparison.facts import about, data_facts
    from bench.comparison.judge import Judge
    from bench.comparison.learn_command import learn_commands
    from bench.comparison.resamples import REPLICATES
    from bench.comparison.search import TOLERANCE

    remaining = Remaining(progress.show)
    tolerance = TOLERANCE if args.tolerance is None else args.tolerance
    methods, programs = contenders(args)
    events = read_events(args, scratch, progress)
    work = _work(args)
    contest = Contest(
        events, args.budget, scratch, Path(work) if work else None, args.shuffles, args.seed,
        args.threads or cores(), args.outside_rows, tolerance, remaining.show,
    )  # fmt: skip
    judge = Judge(args.seed, QUICK_REPLICATES if args.quick else REPLICATES, tolerance)
    entries = contest.learners(methods)
    entries += contest.programs(programs)
    found = judged(contest, judge, entries)
    learn = learn_commands(args, found["contenders"])
    return {"data": data_facts(args, events)} | found | {"about": about(args, contest, judge), "learn": learn}


def _protocol(args: argparse.Namespace, scratch: Any, progress: ProgressLine) -> int:
    from bench.comparison.clock import Remaining
    from bench.comparison.facts import data_facts
    from bench.comparison.protocol_2011 import Protocol2011, print_results

    events = read_events(args, scratch, progress)
    show = Remaining(progress.show).show
    protocol = Protocol2011(events, args.shuffles, args.seed, args.threads or cores(), show)
    found, data = protocol.results(), data_facts(args, events)
    if args.json:
        print(json.dumps({"data": data, "protocol": args.protocol, "totals": found}))
    else:
        print_results(found, data)
    return 0


def contenders(args: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """(our methods, names of programs) that take part; FTRL-Proximal always does."""
    from bench.comparison.method import REFERENCE, learner_methods
    from bench.comparison.outside.base import program_names
    from ftrl_engine.errors import ConfigError

    methods, programs = learner_methods(), [] if args.no_programs else program_names()
    if args.only is None:
        return methods, programs
    wanted = [name.strip() for name in args.only.split(",") if name.strip()]
    known = [method.name for method in methods] + program_names()
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--only must name contenders out of {', '.join(known)}; got {name!r}")
    chosen = [method for method in methods if method.name in (*wanted, REFERENCE)]
    return chosen, [name for name in programs if name in wanted]


def read_events(args: argparse.Namespace, scratch: Any, progress: ProgressLine) -> Events:
    """Hash the source into the scratch directory."""
    from bench.comparison.events import hash_events
    from ftrl_engine.schema import Schema
    from streams.codecs.base import open_codec
    from streams.source import open_source

    schema = Schema.load(args.schema or "auto")
    extra = flags.kafka_options(args.kafka, args.source)
    options = flags.source_options(args.format, None, schema, extra=extra)
    source = open_source(flags.source_of(args.source), {}, options)
    try:
        codec = open_codec(flags.choose_format(source, options), schema, args.bits)
        directory = scratch / "events"
        directory.mkdir()
        return hash_events(
            source, codec, directory, args.limit,
            lambda rows, share: progress.show(f"reading: {rows:,} events", share),
        )  # fmt: skip
    finally:
        source.close()


def judged(contest: Contest, judge: Judge, entries: list[Entry]) -> dict[str, Any]:
    """The figures of all contenders."""
    from bench.comparison.contest import reference_method
    from bench.comparison.judge import portraits, references
    from bench.comparison.results import results

    method = reference_method([entry.method for entry in entries])
    beside = references(contest, entries, method)
    contest.show("intervals", 0.0)
    whole, late = judge.standings(entries, beside), judge.standings(entries, beside, late=True)
    portraits(contest, entries, whole)
    return results(entries, whole, late)


def cores() -> int:
    import os

    if hasattr(os, "sched_getaffinity"):
        return min(MOST_THREADS, len(os.sched_getaffinity(0)))
    return min(MOST_THREADS, os.cpu_count() or 1)


def _write_report(found: dict[str, Any], directory: Any, progress: ProgressLine) -> None:
    from bench.report.folder import write

    progress.show("report", 1.0)
    found["report"] = str(directory)
    written = write(found, directory)
    progress.say(f"report: {written}")


def _print(found: dict[str, Any]) -> None:
    from bench.comparison.summary import print_summary
    from streams.progress import plain_console

    console = plain_console()
    if not console.is_terminal:
        console.width = 120
    print_summary(found, console)
