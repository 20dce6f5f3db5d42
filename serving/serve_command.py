"""Answer scoring requests over HTTP from the newest published snapshot.

The server looks for a newer snapshot all the time and swaps it in without losing a request; a
damaged one is passed over. Without a snapshot it starts and answers 503 until one appears.

  POST /score    {"context": {...}, "candidates": [{...}, ...]} -> {"scores": [...], "model": {...}}
  GET  /healthz  alive            GET /readyz   has a model
  GET  /model    what is served   GET /metrics  Prometheus

examples:
  ftrl serve --model m
  ftrl serve --model m --host 0.0.0.0 --port 80 --max-body 4MB
  curl -d '{"context": {"user_id": "u7"}, "candidates": [{"item_id": "i1"}]}' localhost:8000/score
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from ftrl_engine.errors import ConfigError, FtrlError
from streams import flags

if TYPE_CHECKING:
    import uvicorn

    from serving.app import App

DONE, FAILED, INTERRUPTED = 0, 1, 130
# Requests that are being answered when the end is asked for get this long.
GRACE_SECONDS = 10
IDLE_SECONDS = 75
BACKLOG = 2048
_STEP_SECONDS, _SILENT_STEPS = 0.02, 100
_UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="the model directory")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0 picks a free one (8000)")
    parser.add_argument(
        "--reload-every", default="200ms", metavar="T", help="how often to look for a newer snapshot (200ms)"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body", default="1MB", metavar="SIZE", help="bytes of a request, as 512KB (1MB)"
    )
    limits.add_argument(
        "--max-candidates", type=int, default=10_000, metavar="N", help="candidates of a request (10000)"
    )
    limits.add_argument(
        "--max-open", type=int, default=1000, metavar="N", help="requests being read at once (1000)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="accepted by every command; nothing is drawn")
    flags.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit status."""
    if not 0 <= args.port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535, got {args.port}")
    from streams.cadence import parse_duration

    # What is quickly seen to be wrong is said before anything heavy is loaded.
    reload_seconds = parse_duration(args.reload_every, "--reload-every")
    max_body = parse_size(args.max_body, "--max-body")
    listener = listen(args.host, args.port)
    try:
        from serving.app import create_app

        app = create_app(
            args.model,
            reload_seconds=reload_seconds,
            max_body=max_body,
            max_candidates=args.max_candidates,
            max_open=args.max_open,
        )
        return _serve(args, app, listener)
    finally:
        listener.close()


def parse_size(text: str, name: str) -> int:
    """Bytes of ``1000000``, ``512KB``, ``1MB`` or ``1GB`` (powers of 1024)."""
    match = re.fullmatch(r"(\d{1,12})\s*([KMG]?B|)", text.strip().upper())
    if match is None:
        raise ConfigError(f"{name} must be a size such as 1000000, 512KB or 1MB, got {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; FtrlError says why there is none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise FtrlError(f"cannot listen on {host!r}: {error.strerror}; give an address as --host") from error
    try:
        if os.name != "nt":
            # On Windows the option would let two servers share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise FtrlError(
            f"cannot listen on {host} port {port}: {error.strerror}; stop what uses it or give another "
            "--port (0 picks a free one)"
        ) from error
    return listener


def _serve(args: argparse.Namespace, app: App, listener: socket.socket) -> int:
    try:
        import uvicorn
    except ImportError as error:
        from serving.metrics import INSTALL

        raise ConfigError(f"serving needs the package {error.name}; install it with: {INSTALL}") from error

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            await _first_look(args, app, self)
            if not self.should_exit:
                _announce(args, app, listener)

    config = uvicorn.Config(
        app, loop="auto", http="auto", ws="none", lifespan="on", log_config=None, log_level="error",
        access_log=False, server_header=False, proxy_headers=False, backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=GRACE_SECONDS,
    )  # fmt: skip
    server = Server(config)
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        # uvicorn ends in good order, then raises the signal once more for whoever handled it before.
        received.append(number)

    app.store.start()
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run([listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not server.started:
        return FAILED
    return INTERRUPTED if signal.SIGINT in received else DONE


async def _first_look(args: argparse.Namespace, app: App, server: uvicorn.Server) -> None:
    """Wait until a snapshot that is there is served; /healthz is answered meanwhile."""
    import asyncio

    for step in itertools.count():
        if app.store.looked or server.should_exit:
            return
        if step == _SILENT_STEPS and not args.quiet:
            print(
                "loading the model (compiling, once for this version on this machine) ...",
                file=sys.stderr,
                flush=True,
            )
        await asyncio.sleep(_STEP_SECONDS)


def _announce(args: argparse.Namespace, app: App, listener: socket.socket) -> None:
    """One line with the address, when requests are answered."""
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    served = app.store.current
    if args.json:
        facts: dict[str, Any] = {"url": url, "host": host, "port": port, "pid": os.getpid()}
        version = None if served is None else served.version
        print(json.dumps(facts | {"model": str(args.model), "version": version}), flush=True)
    if args.quiet:
        return
    if served is not None:
        state = f"{served.snapshot.rows:,} rows learned, {len(served.snapshot.slots):,} non-zero weights"
    else:
        state = app.store.error or "nothing is published yet, so /score answers 503 until `ftrl learn` does"
    print(f"serving {args.model} at {url} ({state})", file=sys.stderr, flush=True)
