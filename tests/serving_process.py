"""A real `ftrl serve` process for tests, and raw HTTP for what a proper client would not send."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

# A cold cache compiles first, on a machine that may be busy.
START_SECONDS = 240.0
FTRL = (sys.executable, "-m", "ftrl_engine")


class Server(NamedTuple):
    """A server that answers, and the object it has printed."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    @property
    def port(self) -> int:
        return int(self.facts["port"])


@contextmanager
def serving(model: Path, *flags: str) -> Iterator[Server]:
    """`ftrl serve` on a free port; killed at the end if it still runs."""
    command = [
        *FTRL,
        "serve",
        "--model",
        str(model),
        "--port",
        "0",
        "--json",
        "--reload-every",
        "20ms",
        *flags,
    ]
    environment = os.environ | {"PYTHONWARNINGS": "default"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield Server(process, json.loads(first_line(process)))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    """What the process prints first; its complaint where it ends instead."""
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(
        target=lambda read: lines.put(read()), args=[process.stdout.readline], daemon=True
    ).start()
    line = lines.get(timeout=START_SECONDS)
    if not line:
        assert process.stderr is not None
        raise AssertionError(f"no server: {process.stderr.read()}")
    return line


def talk_raw(port: int, data: bytes, seconds: float = 10.0, hang_up: bool = True) -> bytes:
    """Send bytes (and no more), then read until the server closes or is silent for ``seconds``."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has closed already; its answer may still be there
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except OSError:
            pass
        return answer
