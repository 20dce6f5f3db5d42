"""The commands of the demo as processes of their own, and what is asked of the server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from ftrl_engine.errors import FtrlError

STOP_SECONDS = 30.0
_ASK_SECONDS, _END_SECONDS = 10.0, 5.0
_TAIL_BYTES = 4096


class Command:
    """``ftrl NAME ...`` running; its output goes to files in ``folder``.

    Its standard input is a pipe that nobody writes to: when the demo ends, however it ends, the pipe
    closes, and the command ends as well.
    """

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        self._stdout, self._stderr = folder / f"{name}.stdout", folder / f"{name}.stderr"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            # A session of its own: Ctrl-C in the terminal is for the demo, which ends them in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ftrl_engine", name, *arguments, "--end-with-stdin"],
                stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """FtrlError where it has ended, with the last line it has said."""
        status = self._process.poll()
        if status is not None:
            raise FtrlError(f"`ftrl {self.name}` has ended with status {status}: {self._last_words()}")

    def facts(self) -> dict[str, Any] | None:
        """The JSON object it has printed, if it has."""
        text = self._stdout.read_text(encoding="utf-8")
        return None if not text.endswith("\n") else dict(json.loads(text.splitlines()[-1]))

    def stop(self, fine: tuple[int, ...]) -> None:
        """Ask it to end; FtrlError where it does not, or not with a status that is fine."""
        self.check()
        self._process.terminate()
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise FtrlError(f"`ftrl {self.name}` has not ended {STOP_SECONDS:g} s after SIGTERM") from None
        self._close()
        if status not in fine:
            raise FtrlError(f"`ftrl {self.name}` has ended with status {status}: {self._last_words()}")

    def end(self) -> None:
        """End it whatever it does, in order if it can within a few seconds; nothing where it has ended."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _last_words(self) -> str:
        lines = self._stderr.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")


class Client:
    """Asks the server; one connection, opened again where it was lost."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = HTTPConnection(host, port, timeout=_ASK_SECONDS)

    def ask(self, method: str, path: str, data: Any = None) -> tuple[int, dict[str, Any]]:
        """(status, answer); FtrlError where there is none."""
        try:
            self._connection.request(method, path, None if data is None else json.dumps(data))
            answer = self._connection.getresponse()
            return answer.status, dict(json.loads(answer.read()))
        except (OSError, HTTPException, ValueError) as error:
            self._connection.close()
            raise FtrlError(f"the server does not answer {method} {path}: {error!r}") from error

    def close(self) -> None:
        self._connection.close()


def wait_until(done: Callable[[], bool], seconds: float, what: str, check: Callable[[], None]) -> None:
    """Look ten times a second; ``check`` may raise; FtrlError after ``seconds``."""
    end = time.monotonic() + seconds
    while not done():
        check()
        if time.monotonic() > end:
            raise FtrlError(f"{what} has not happened in {seconds:g} s")
        time.sleep(0.1)
