"""Show the whole loop in one terminal, with the real commands.

Simulated clicks are written to an embedded log; `ftrl learn` follows it, `ftrl serve` serves what
is learned, and this command asks for the score of one event that never changes, once a second.
The true click probabilities are known, so the log loss stands beside the best possible one.

examples:
  ftrl demo
  ftrl demo --seconds 120 --rate 50000
  ftrl demo --keep my-demo
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ftrl_engine.errors import ConfigError
from streams import flags

if TYPE_CHECKING:
    from serving.demo import Outcome

INTERRUPTED = 130
SECONDS, RATE = 30.0, 20_000.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="N", help="how long it runs (30)")
    parser.add_argument("--rate", type=float, default=RATE, metavar="N", help="events a second (20000)")
    parser.add_argument("--keep", metavar="DIR", help="a new directory for log and model, which then stay")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same seed gives the same events (0)"
    )
    flags.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit status."""
    for name, value, least, most in (
        ("--seconds", args.seconds, 1, 3600),
        ("--rate", args.rate, 1, 1_000_000),
        ("--seed", args.seed, 0, 2**63 - 1),
    ):
        if not least <= value <= most:
            raise ConfigError(f"{name} must be between {least} and {most}, got {value}")
    folder = _folder(args.keep)
    try:
        outcome = _run_in(folder, args)
    finally:
        if args.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if outcome is None:
        return INTERRUPTED
    if args.json:
        print(json.dumps(outcome.facts(folder if args.keep else None)))
    else:
        print(_summary(outcome, args.keep))
    return 0


def _folder(keep: str | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="ftrl-demo-"))
    folder = Path(keep)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--keep {keep}: there is something already; give a new directory")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run_in(folder: Path, args: argparse.Namespace) -> Outcome | None:
    """The outcome; None where a signal has ended the demo."""
    import signal

    from serving.demo import Demo
    from serving.demo_view import DemoView
    from streams.stopping import Stop

    stop = Stop()
    hang_up = getattr(signal, "SIGHUP", None)
    with flags.stop_on_signals(stop), DemoView(args.quiet) as view:
        before = None if hang_up is None else signal.signal(hang_up, lambda number, frame: stop.set())
        try:
            with Demo(folder, args.rate, args.seed, view, stop) as demo:
                return demo.run(args.seconds)
        finally:
            if hang_up is not None:
                signal.signal(hang_up, before)


def _ftrl() -> str:
    """The `ftrl` command as the reader can type it here."""
    beside = Path(sys.executable).with_name("ftrl")
    if shutil.which("ftrl"):
        return "ftrl"
    if not beside.is_file():
        return f"{shlex.quote(sys.executable)} -m ftrl_engine"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


def _summary(outcome: Outcome, keep: str | None) -> str:
    facts, ftrl = outcome.facts(None), _ftrl()
    first, last, true = (facts["score"][name] for name in ("first", "last", "true"))
    lines = [
        "",
        f"{facts['rows']:,} events learned in {facts['seconds']:.0f} s, each predicted before that.",
        f"log loss {facts['log_loss']:.4f}; the true probabilities reach {facts['best_log_loss']:.4f}, "
        f"the click rate alone {facts['constant_log_loss']:.4f}.",
        f"{facts['snapshots_served']} models were served one after the other; the score of the fixed event "
        f"went from {first:.4f} to {last:.4f}, and the truth is {true:.4f}.",
        "",
        "Next:",
    ]
    if keep:
        model = shlex.quote(str(Path(keep) / "model"))
        body = json.dumps({"context": outcome.event}, separators=(",", ":"))
        lines += [
            f"  {ftrl} inspect --model {model}",
            f"  {ftrl} serve --model {model}",
            f"and in another terminal, while it serves:\n"
            f"  curl --fail --retry 9 --retry-connrefused -d {shlex.quote(body)} http://127.0.0.1:8000/score",
        ]
    else:
        lines += [
            f"  {ftrl} simulate --to clicks.jsonl --rows 1000000",
            f"  {ftrl} learn clicks.jsonl --schema clicks --model my-model",
            f"  {ftrl} serve --model my-model",
        ]
    return "\n".join(lines)
