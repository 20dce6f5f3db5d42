"""The ``ftrl`` command: a table of commands, each loaded only when it runs."""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from ftrl_engine import __version__
from ftrl_engine.errors import ConfigError, FtrlError

# name -> (module with add_arguments(parser) and run(args) -> exit status, what it does)
COMMANDS = {
    "learn": ("streams.learn_command", "learn from events, each predicted before it is learned from"),
    "score": ("streams.score_command", "score events, one probability a line"),
    "serve": ("serving.serve_command", "answer scoring requests over HTTP from the newest snapshot"),
    "compare": (
        "bench.compare_command",
        "FTRL against SGD+L1 and others on your events: table, plots, report",
    ),
    "bench": ("bench.bench_command", "measure speed on this machine, beside installed rivals"),
    "inspect": ("streams.inspect_command", "show what a model is: settings, metrics, largest weights"),
    "simulate": ("streams.simulate_command", "write a click stream with known true probabilities"),
    "warmup": ("serving.warmup_command", "compile everything ahead, for an image or a fresh machine"),
    "demo": ("serving.demo_command", "show the whole loop: clicks, log, learner, server, scores"),
}
FAILED, USAGE, INTERRUPTED = 1, 2, 130
_SWITCH_SECONDS = 0.0005
_OBJECTS_BETWEEN_COLLECTIONS = 50_000
_M_ARENA_MAX = -8  # of mallopt(3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _top_parser()
    if not words or words[0] not in COMMANDS:
        parser.parse_args(words or ["--help"])
        return USAGE
    module = importlib.import_module(COMMANDS[words[0]][0])
    command = argparse.ArgumentParser(
        prog=f"ftrl {words[0]}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(command)
    args = command.parse_args(words[1:])
    try:
        status: int = module.run(args)
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as in `ftrl score ... | head`.
        sys.stderr.close()
        return 128 + signal.SIGPIPE
    except ConfigError as error:
        print(f"ftrl {words[0]}: {error}", file=sys.stderr)
        return USAGE
    except (FtrlError, OSError) as error:
        print(f"ftrl {words[0]}: {error}", file=sys.stderr)
        return FAILED


def program() -> None:
    """The console script. It ends at once: taking the compiled code apart first takes a third of a second.

    Whatever a command has open is closed by the command.
    """
    start_fast()
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def start_fast() -> None:
    """Leave out what a start spends on nothing, a fifth of a second of two cores, and 20 MB of memory.

    Nothing here calls BLAS, whose threads spin until there is work; and while hundreds of modules are
    loaded, looking for garbage after every 700 objects finds none. A thread that comes back from compiled
    code or from the disk waits half a millisecond for one that runs Python, not five.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with suppress(OSError, AttributeError):
        # One heap for all threads (glibc): what the reader and the encoders free, the others use again.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    sys.setswitchinterval(_SWITCH_SECONDS)


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="ftrl",
        usage="ftrl COMMAND ...",
        description="Online sparse learning for recommendation: click streams in, calibrated scores out.",
        epilog=f"commands:\n{table}\n\n`ftrl COMMAND --help` explains each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ftrl-engine {__version__}")
    parser.add_argument("command", choices=sorted(COMMANDS), metavar="COMMAND")
    return parser
