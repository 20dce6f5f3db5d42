"""Answer scoring requests over HTTP from the newest published snapshot.

The server looks for a newer snapshot all the time and swaps it in without losing a request; a
damaged one is passed over. Without a snapshot it starts and answers 503 until one appears. With
--learn it runs `ftrl learn` beside itself; with --feedback on the same stream it learns from what
it is told.

  POST /score    {"context": {...}, "candidates": [{...}, ...]} -> {"scores": [...], "model": {...}}
  GET  /healthz  alive            GET /readyz   has a model
  GET  /model    what is served   GET /metrics  Prometheus    GET /  a page for people
  POST /feedback {"events": [{"id": "...", "click": 1, ...}, ...]} -> {"accepted": 1, "duplicates": 0}
  POST /explain  like /score: every feature's part in a score
  GET  /openapi.json  all routes, also those of KServe v2, TensorFlow Serving and MLflow

examples:
  ftrl serve --model m
  ftrl serve --model m --host 0.0.0.0 --port 80 --max-body 4MB
  ftrl serve --model m --feedback log:events --learn log:events --schema clicks
  curl -d '{"context": {"user_id": "u7"}, "candidates": [{"item_id": "i1"}]}' localhost:8000/score
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from ftrl_engine.errors import ConfigError
from streams import flags
from streams.learn_command import add_settings

if TYPE_CHECKING:
    from serving.serve_run import LearnOptions
    from serving.settings import ServeSettings
    from serving.store import ModelStore

# name, default, metavar, meaning
_LIMITS: tuple[tuple[str, int | str, str, str], ...] = (
    ("max-body", "1MB", "SIZE", "bytes of a request, as 512KB"),
    ("max-candidates", 10_000, "N", "candidates of a request"),
    ("max-fields", 4096, "N", "fields of the context and of each candidate"),
    ("max-open", 1000, "N", "requests being read at once, in each worker"),
    ("max-connections", 10_000, "N", "open connections, in each worker"),
    ("max-header", "64KB", "SIZE", "bytes of a request line and headers"),
    ("header-timeout", "10s", "T", "time to send them"),
    ("body-timeout", "10s", "T", "time to send a body"),
)
_UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="the model directory")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0 picks a free one (8000)")
    parser.add_argument(
        "--reload-every", default="200ms", metavar="T", help="how often to look for a newer snapshot (200ms)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that answer, sharing one copy of the model (1)",
    )
    limits = parser.add_argument_group("limits")
    for name, default, metavar, meaning in _LIMITS:
        kind = int if metavar == "N" else str
        limits.add_argument(
            f"--{name}", type=kind, default=default, metavar=metavar, help=f"{meaning} ({default})"
        )
    access = parser.add_argument_group("access and operation")
    access.add_argument(
        "--token-file",
        metavar="FILE",
        help="clients must show the token in FILE (or in FTRL_TOKEN) as bearer token",
    )
    access.add_argument(
        "--access-log", action="store_true", help="one JSON line on stderr for each answered request"
    )
    access.add_argument(
        "--drain", default="0s", metavar="T", help="on a signal: not ready, but answering, for so long (0s)"
    )
    flags.add_end_with_stdin(access)
    _add_learning(parser)
    flags.add_unused_seed(parser)
    flags.add_output(parser)


def _add_learning(parser: argparse.ArgumentParser) -> None:
    feedback = parser.add_argument_group("learning while serving")
    feedback.add_argument(
        "--learn",
        nargs="+",
        metavar="SOURCE",
        help="follow SOURCE with `ftrl learn` beside the server, as log:DIR",
    )
    feedback.add_argument(
        "--format", metavar="NAME", help="of the events of --learn: tsv, csv, jsonl, ... (default: by name)"
    )
    feedback.add_argument(
        "--feedback", metavar="DEST", help="POST /feedback appends labelled events to log:DIR or kafka://..."
    )
    feedback.add_argument(
        "--feedback-window",
        type=int,
        default=100_000,
        metavar="N",
        help="ids remembered to refuse duplicates (100000)",
    )
    flags.add_kafka(feedback)
    parser.set_defaults(learn_settings=add_settings(parser))


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit status."""
    if not 0 <= args.port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535, got {args.port}")
    from serving.listener import is_local, listen

    learn_options(args)
    settings = settings_of(args)
    if args.end_with_stdin:
        flags.when_stdin_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with listen(args.host, args.port) as listener:
        if settings.token is None and not is_local(listener):
            print(
                f"ftrl serve: warning: everybody who reaches {args.host} may use this server; "
                "set FTRL_TOKEN or --token-file, or listen on 127.0.0.1",
                file=sys.stderr,
                flush=True,
            )
        return _serve(args, settings, listener)


def settings_of(args: argparse.Namespace) -> ServeSettings:
    """What the flags and the environment say; ConfigError where they break a rule."""
    from serving.access_token import read_token
    from serving.settings import ServeSettings
    from streams.cadence import parse_duration

    settings = ServeSettings(
        model=str(args.model),
        reload_seconds=parse_duration(args.reload_every, "--reload-every"),
        max_body=parse_size(args.max_body, "--max-body"),
        max_candidates=args.max_candidates,
        max_fields=args.max_fields,
        max_open=args.max_open,
        body_seconds=parse_duration(args.body_timeout, "--body-timeout"),
        max_header=parse_size(args.max_header, "--max-header"),
        header_seconds=parse_duration(args.header_timeout, "--header-timeout"),
        max_connections=args.max_connections,
        drain_seconds=0.0 if args.drain in ("0", "0s") else parse_duration(args.drain, "--drain"),
        workers=args.workers,
        token=read_token(args.token_file, os.environ.get("FTRL_TOKEN")),
        access_log=args.access_log,
    )
    settings.check()
    return settings


def parse_size(text: str, name: str) -> int:
    """Bytes of ``1000000``, ``512KB``, ``1MB`` or ``1GB`` (powers of 1024)."""
    match = re.fullmatch(r"(\d{1,12})\s*([KMG]?B|)", text.strip().upper())
    if match is None:
        raise ConfigError(f"{name} must be a size such as 1000000, 512KB or 1MB, got {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def _serve(args: argparse.Namespace, settings: ServeSettings, listener: socket.socket) -> int:
    from serving.metrics import extra_needed
    from serving.serve_run import FeedbackOptions, ServeRun

    for package in ("uvicorn", "prometheus_client", "orjson"):
        # Workers would end before they can say it.
        if importlib.util.find_spec(package) is None:
            raise extra_needed(package)

    def slow() -> None:
        if not args.quiet:
            text = "loading the model (compiling, once for this version on this machine) ..."
            print(text, file=sys.stderr, flush=True)

    address = listener.getsockname()
    uris = [args.feedback or "", args.rejects or "", *(args.learn or ())]
    properties = flags.kafka_options(args.kafka, uris)
    feedback = None
    if args.feedback is not None:
        feedback = FeedbackOptions(
            args.feedback, args.feedback_window, properties if args.feedback.startswith("kafka:") else None
        )
    ready = partial(_announce, args, address)
    return ServeRun(settings, listener, ready, slow, feedback, learn_options(args)).run()


def learn_options(args: argparse.Namespace) -> LearnOptions | None:
    """What --learn asks for; ConfigError where its flags stand without it."""
    from serving.serve_run import LearnOptions

    given: list[str] = []
    for action in args.learn_settings:
        value = getattr(args, action.dest)
        if value == action.default:
            continue
        for each in value if isinstance(value, list) else [value]:
            given += [f"{action.option_strings[0]}={each}"]
    if args.format is not None:
        given += [f"--format={args.format}"]
    if args.learn is None:
        if given:
            raise ConfigError(f"{given[0].partition('=')[0]} is for learning; give --learn SOURCE as well")
        return None
    if "-" in args.learn:
        raise ConfigError("--learn -: standard input cannot be followed again; name a log, a topic or a file")
    if args.kafka is not None and any(uri.startswith("kafka:") for uri in (*args.learn, args.rejects or "")):
        given += [f"--kafka={args.kafka}"]
    if args.quiet:
        given += ["--quiet"]
    return LearnOptions(" ".join(args.learn), [*args.learn, "--model", args.model, "--follow", *given])


def _announce(args: argparse.Namespace, address: Any, store: ModelStore) -> None:
    """One line with the address, when requests are answered."""
    host, port = address[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    served = store.current
    if args.json:
        facts: dict[str, Any] = {"url": url, "host": host, "port": port, "pid": os.getpid()}
        version = None if served is None else served.version
        facts |= {"model": str(args.model), "version": version, "workers": args.workers}
        print(json.dumps(facts), flush=True)
    if args.quiet:
        return
    if served is not None:
        state = f"{served.snapshot.rows:,} rows learned, {len(served.snapshot.slots):,} non-zero weights"
    else:
        state = store.error or "nothing is published yet, so /score answers 503 until `ftrl learn` does"
    print(f"serving {args.model} at {url} ({state})", file=sys.stderr, flush=True)
