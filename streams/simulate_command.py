"""Write a realistic click stream with known true click probabilities, so that models can be judged.

The events are the same for the same --seed. The summary says which log loss the true
probabilities reach: no model can do better.

examples:
  ftrl simulate --to clicks.jsonl.gz --rows 1000000
  ftrl simulate --to log:events --rate 5000
  ftrl simulate --to - --format vw --rows 100000 | head
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ftrl_engine.errors import ConfigError
from streams import flags
from streams.file_names import ending_of, format_of
from streams.sink import open_sink, scheme_of
from streams.stopping import Stop

if TYPE_CHECKING:
    from streams.click_events import Events
    from streams.progress import ProgressLine
    from streams.simulate import ClickStream
    from streams.simulate_criteo import CriteoRows, CriteoStream
    from streams.sink import Sink

    Part = Events | CriteoRows
    Stream = ClickStream | CriteoStream
    Writer = Callable[[Any, bool], bytes]

FORMATS = ("jsonl", "tsv", "csv", "vw", "parquet", "criteo")
FILE_ROWS = 1_000_000
BLOCK_ROWS = 16_384
# At a given rate, events are sent together about so often, in seconds.
STEP = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``ftrl simulate`` takes."""
    add = parser.add_argument
    add("--to", required=True, metavar="DEST", help="a file (.gz and .zst are compressed), - for stdout, "
        "log:DIR for the embedded event log, or kafka://HOST:PORT/TOPIC")  # fmt: skip
    add("--rows", type=int, metavar="N",
        help=f"stop after N events ({FILE_ROWS:,} to a file, unlimited elsewhere)")  # fmt: skip
    add("--rate", type=float, metavar="R", help="send R events a second (as fast as possible)")
    add(
        "--format",
        choices=FORMATS,
        help="form of the events (from the file name; jsonl where it has no ending)",
    )
    add("--seed", type=int, default=0, metavar="N", help="the same seed gives the same events (0)")
    add("--ctr", type=float, metavar="P", help="mean click-through rate (0.05; criteo: 0.2)")
    add("--users", type=int, metavar="N", help="different users (100,000)")
    add("--items", type=int, metavar="N", help="different items (20,000)")
    add("--drift", type=float, metavar="X",
        help="how fast effects of items change, in turns per million events (0)")  # fmt: skip
    add("--with-truth", action="store_true", help="add true_probability to every event (not vw, criteo)")
    flags.add_kafka(parser)
    flags.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Simulate until the rows are done or a signal comes; returns the exit status."""
    from streams.progress import ProgressLine

    form = _form(args)
    stream, write = _stream(args, form)
    stop = Stop()
    with flags.stop_on_signals(stop), ProgressLine(args.quiet) as progress:
        report = _Report(args, form, progress)
        with _sink(args, form) as sink:
            _send(stream, write, sink, _Pace(args.rate, stop), _rows(args), report)
        report.finish()
    return 130 if stop.is_set() else 0


def _form(args: argparse.Namespace) -> str:
    """The form of the events; ConfigError where the flags contradict each other."""
    form: str = args.format or _form_of_name(args.to)
    _check_parquet(args.to, form)
    if scheme_of(args.to) == "log" and form != "jsonl":
        raise ConfigError(f"--format {form}: a log holds jsonl; leave --format out")
    if args.json and args.to == "-":
        raise ConfigError("--json cannot be used with --to -: the events are on stdout; use --to FILE")
    if args.with_truth and form in ("vw", "criteo"):
        raise ConfigError(
            f"--with-truth: {form} has no place for it; use --format jsonl, tsv, csv or parquet"
        )
    for flag in ("users", "items", "drift"):
        if form == "criteo" and getattr(args, flag) is not None:
            raise ConfigError(f"--{flag} does not apply to --format criteo; leave it out")
    if args.rows is not None and args.rows < 0:
        raise ConfigError(f"--rows must be at least 0; got {args.rows}")
    if args.rate is not None and not 0 < args.rate <= 1e9:
        raise ConfigError(f"--rate must be more than 0 and at most 1e9 events a second; got {args.rate}")
    return form


def _form_of_name(dest: str) -> str:
    """The form that the name of a file tells; jsonl where it has no ending, and for what is no file."""
    if dest == "-" or scheme_of(dest) != "file":
        return "jsonl"
    form = format_of(dest)
    if form in FORMATS:
        return form
    if form is None and not ending_of(dest):
        return "jsonl"
    raise ConfigError(
        f"--to {dest}: events are not written as {form or ending_of(dest)}; end the name in .jsonl, .tsv, "
        ".csv, .vw or .parquet, or give --format"
    )


def _check_parquet(dest: str, form: str) -> None:
    """Parquet is written to files only, and nothing else into a file of that name."""
    if form == "parquet" and (dest == "-" or scheme_of(dest) != "file" or dest.endswith((".gz", ".zst"))):
        raise ConfigError(f"--to {dest}: parquet is written to a file, as it is; use --to FILE.parquet")
    if form != "parquet" and scheme_of(dest) == "file" and format_of(dest) == "parquet":
        raise ConfigError(f"--format {form}: {dest} is the name of a parquet file; use another name")


def _sink(args: argparse.Namespace, form: str) -> Sink:
    if form != "parquet":
        return open_sink(args.to, flags.kafka_options(args.kafka, [args.to]))
    from streams.click_parquet import ParquetSink

    return ParquetSink(args.to, args.with_truth)


def _rows(args: argparse.Namespace) -> int | None:
    """How many events to send; None: no end."""
    if args.rows is not None:
        return int(args.rows)
    return None if args.to == "-" or scheme_of(args.to) != "file" else FILE_ROWS


def _stream(args: argparse.Namespace, form: str) -> tuple[Stream, Writer]:
    """What makes the events, and what writes a part of them (the first part with a header)."""
    from streams import simulate
    from streams.simulate_criteo import CriteoStream, to_criteo

    given = {name: getattr(args, name) for name in ("ctr", "users", "items", "drift", "rate")}
    chosen = {name: value for name, value in given.items() if value is not None}
    if form == "criteo":
        chosen.pop("rate", None)
        return CriteoStream(args.seed, **chosen), lambda rows, first: to_criteo(rows)
    truth: bool = args.with_truth
    writers: dict[str, Writer] = {
        "jsonl": lambda events, first: simulate.to_jsonl(events, truth),
        "tsv": lambda events, first: simulate.to_tsv(events, truth),
        "csv": lambda events, first: simulate.to_csv(events, truth, header=first),
        "parquet": lambda events, first: simulate.to_csv(events, truth, header=False),
        "vw": lambda events, first: simulate.to_vw(events),
    }
    return simulate.ClickStream(args.seed, **chosen), writers[form]


def _send(stream: Stream, write: Writer, sink: Sink, pace: _Pace, rows: int | None, report: _Report) -> None:
    """Send block after block, each in parts as the pace allows."""
    index = 0
    while rows is None or report.best.rows < rows:
        block = stream.block(index, BLOCK_ROWS)
        index += 1
        size = len(block) if rows is None else min(len(block), rows - report.best.rows)
        start = 0
        while start < size:
            count = pace.allow(report.best.rows, size - start)
            if count == 0:
                return
            part = block.part(start, start + count)
            sink.append(write(part, report.best.rows == 0))
            report.add(part)
            start += count


class _Pace:
    """How many events may be sent now: all of them, or ``rate`` a second from the start on."""

    def __init__(self, rate: float | None, stop: Stop, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._stop, self._clock = rate, stop, clock
        self._start = clock()

    def allow(self, sent: int, wanted: int) -> int:
        """Wait until some of ``wanted`` events are due; returns how many, 0 when it is time to stop."""
        while not self._stop.is_set():
            if self._rate is None:
                return wanted
            due = int((self._clock() - self._start) * self._rate) - sent
            if due >= min(wanted, max(1, int(self._rate * STEP))):
                return min(due, wanted)
            self._stop.wait(min(STEP, 1.0 / self._rate))
        return 0


class _Report:
    """The counts of the events sent, on stderr while they are sent and at the end."""

    def __init__(self, args: argparse.Namespace, form: str, progress: ProgressLine) -> None:
        from streams.click_events import BestLogLoss

        self.best = BestLogLoss()
        self._args, self._form, self._progress = args, form, progress
        self._wanted = _rows(args)
        self._start = self._last = time.monotonic()

    def add(self, part: Part) -> None:
        """Count a part that was sent; about once a second, say so."""
        best = self.best
        best.update(part.label, part.probability)
        now = time.monotonic()
        if now - self._last >= 1.0:
            self._last = now
            text = f"{best.rows:,} events, {best.rows / (now - self._start):,.0f}/s, CTR {best.ctr:.4f}"
            self._progress.show(text, best.rows / self._wanted if self._wanted else None)

    def finish(self) -> None:
        """The summary on stderr, and with ``--json`` the object on stdout."""
        best, args = self.best, self._args
        seconds = time.monotonic() - self._start
        per_second = best.rows / seconds if seconds > 0 else 0.0
        self._progress.say(
            f"{best.rows:,} events to {args.to} in {seconds:.1f} s ({per_second:,.0f}/s): "
            f"{best.clicks:,} clicks, CTR {best.ctr:.4f}, best possible log loss {best.loss:.5f} "
            f"(expected {best.expected:.5f})"
        )
        if args.json:
            result = {
                "rows": best.rows,
                "clicks": best.clicks,
                "ctr": best.ctr if best.rows else None,
                "best_log_loss": best.loss if best.rows else None,
                "expected_log_loss": best.expected if best.rows else None,
                "seconds": round(seconds, 3),
                "rows_per_second": round(per_second, 1),
                "to": args.to,
                "format": self._form,
                "seed": args.seed,
            }
            print(json.dumps(result), flush=True)
