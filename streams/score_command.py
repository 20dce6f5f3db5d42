"""Score events from the newest snapshot: one probability a line, in input order.

An event that cannot be read gives the line "nan"; how many did is said at the end. Events
need no label. A blank line of the input is no event and gives no line.

examples:
  ftrl score events.jsonl --model m --output scores.txt
  cat events.jsonl | ftrl score - --model m --format jsonl > scores.txt
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING

from streams import flags

if TYPE_CHECKING:
    from ftrl_engine.snapshot import Snapshot
    from streams.pipeline import Step
    from streams.progress import ProgressLine

INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_source(parser)
    parser.add_argument("--model", required=True, metavar="DIR", help="the model directory")
    parser.add_argument("--output", metavar="FILE", help="where the probabilities go (default: stdout)")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N scored events")
    flags.add_unused_seed(parser)
    flags.add_output(parser)


def run(args: argparse.Namespace) -> int:
    from ftrl_engine.errors import ConfigError
    from streams.own_source import refuse_own_source
    from streams.progress import ProgressLine

    if args.json and not args.output:
        raise ConfigError("--json prints its object on stdout, so the scores need --output FILE")
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {args.limit}")
    if args.output:
        refuse_own_source("--output", args.output, args.source)
    with ProgressLine(args.quiet) as progress:
        if args.output:
            with closing(_Scores(_created(args.output), f"--output {args.output}")) as output:
                return _score(args, output, progress)
        return _score(args, _Scores(sys.stdout, "standard output"), progress)


class _Scores:
    """Where the lines of scores go; ``name`` is what errors call it."""

    def __init__(self, file: IO[str], name: str) -> None:
        self._file, self._name = file, name

    def write(self, lines: str) -> None:
        with self._named():
            self._file.write(lines)

    def flush(self) -> None:
        with self._named():
            self._file.flush()

    def close(self) -> None:
        with self._named():
            self._file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        from ftrl_engine.errors import SourceError

        try:
            yield
        except BrokenPipeError:
            raise  # nobody reads any more
        except OSError as error:
            raise SourceError(
                f"{self._name}: the scores cannot be written ({error.strerror or error}) and those that are "
                "there are incomplete; make room and score again"
            ) from error


def _created(path: str) -> IO[str]:
    from ftrl_engine.errors import SourceError

    try:
        return open(path, "w", encoding="ascii")
    except OSError as error:
        raise SourceError(
            f"--output {path}: cannot be written: {error.strerror}; name a file in a directory that exists "
            "and can be written to"
        ) from error


def load_snapshot(model: str, progress: ProgressLine) -> Snapshot:
    """The newest undamaged snapshot of the model."""
    from pathlib import Path

    from ftrl_engine.errors import ModelError
    from ftrl_engine.snapshot import Snapshot
    from streams.model_directory import ModelDirectory

    directory = ModelDirectory.open(Path(model), progress.say)
    snapshot = directory.newest(directory.snapshots(), Snapshot.load)
    if snapshot is None:
        raise ModelError(f"model {model}: nothing is published yet; let `ftrl learn` run first")
    return snapshot


def _score(args: argparse.Namespace, output: _Scores, progress: ProgressLine) -> int:
    from streams.codecs.base import open_codec
    from streams.learn_report import damage_warnings
    from streams.memory import keep_loaded
    from streams.pipeline import Pipeline
    from streams.source import open_source
    from streams.stopping import Stop

    snapshot = load_snapshot(args.model, progress)
    model_format = snapshot.provenance.get("format")
    extra = flags.kafka_options(args.kafka, args.source)
    options = flags.source_options(args.format, model_format, snapshot.schema, extra=extra)
    source = open_source(flags.source_of(args.source), {}, options)
    format = flags.choose_format(source, options)
    codec = open_codec(format, snapshot.schema, snapshot.bits, need_label=False)
    keep_loaded()
    stop = Stop()
    started = time.monotonic()
    scored = refused = 0
    first = ""
    try:
        with flags.stop_on_signals(stop), Pipeline(source, codec) as pipeline:
            for step in pipeline.steps():
                if stop.is_set() or scored == args.limit:
                    break
                if step is None:
                    continue
                if args.limit is not None and len(step.batch) > args.limit - scored:
                    step = step.cut(args.limit - scored)
                output.write(lines_of(snapshot, step))
                scored += len(step.batch)
                refused += len(step.refused)
                first = first or "".join(map(str, step.refused[:1]))
                progress.show(f"{scored:,} scored  {refused:,} refused", source.fraction())
    finally:
        source.close()
    output.flush()
    for text in damage_warnings(source.damage(), "scored"):
        progress.say(f"warning: {text}")
    seconds = time.monotonic() - started
    if args.json:
        rate = round(scored / seconds, 1)
        result = {"rows": scored, "rejected": refused, "seconds": round(seconds, 6), "rows_per_second": rate}
        print(json.dumps(result | {"model": args.model, "model_rows": snapshot.rows, "output": args.output}))
    elif args.output or refused:
        reason = f"; the first at {first}" if refused else ""
        progress.say(f"{scored:,} scored, {refused:,} could not be read (nan){reason}")
    if stop.is_set():
        return INTERRUPTED
    if refused and not scored:
        print(f"ftrl score: none of {refused:,} events could be read; the first at {first}", file=sys.stderr)
        return 1
    return 0


def lines_of(snapshot: Snapshot, step: Step) -> str:
    """The step's lines: a probability with nine digits, or nan where an event was refused."""
    import numpy as np

    lines = [f"{p:.9g}" for p in snapshot.score(step.batch).tolist()]
    if step.refused:
        places = np.searchsorted(step.ends, [r.position for r in step.refused], side="right")
        for place in sorted(places.tolist(), reverse=True):
            lines.insert(place, "nan")
    return "\n".join(lines) + "\n" if lines else ""
