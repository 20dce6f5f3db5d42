"""LearnerProcess: `ftrl learn --follow` beside a server, started again when it dies, never left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from serving.restarts import Restarts
from serving.server_state import LearnerState

DONE, USAGE = 0, 2
_STEP_SECONDS = 0.1
# A learner that was asked to end writes a checkpoint first.
STOP_SECONDS, KILL_SECONDS = 30.0, 5.0
_SHOWN = 500


class LearnerProcess:
    """Supervises the command ``ftrl learn`` with ``arguments`` in a thread.

    Its standard input is a pipe that nobody writes to: when the server ends, however it ends, the
    pipe closes, and the learner checkpoints and ends as well. What it says goes to standard error.

    state    is kept up to date
    hopeless  called once where its very first start shows that the flags are wrong
    """

    def __init__(self, arguments: Sequence[str], state: LearnerState, hopeless: Callable[[], None]) -> None:
        self._command = [sys.executable, "-m", "ftrl_engine", "learn", *arguments, "--end-with-stdin"]
        self._state = state
        self._hopeless = hopeless
        self._restarts = Restarts(first=0.2, most=30.0, calm=60.0, per_minute=10)
        self._stop = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._supervise, name="ftrl-learner", daemon=True)

    def start(self) -> None:
        """Start it, and again whenever it dies."""
        self._thread.start()

    def stop(self) -> None:
        """Let it checkpoint and end; by force where it does not."""
        self._stop.set()
        self._thread.join(STOP_SECONDS + 2 * KILL_SECONDS)

    def _supervise(self) -> None:
        first = True
        while not self._stop.is_set():
            started = time.monotonic()
            status, last_words = self._run_once()
            if self._stop.is_set() or status == DONE:
                return  # with DONE it has reached the end that was set for it
            self._state.error = f"ended with status {status}: {last_words or 'it said nothing'}"
            if first and status == USAGE:
                self._hopeless()
                return
            first = False
            due = self._restarts.due(started, time.monotonic())
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            self._state.restarts += 1

    def _run_once(self) -> tuple[int, str]:
        """(status, last line said) of one life of the learner."""
        # A session of its own: Ctrl-C in the terminal is for the server, which ends it in order.
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stderr is not None
        state = self._state
        state.pid, state.started_at, state.running = process.pid, time.time(), True
        said = [""]
        listener = threading.Thread(target=_pass_on, args=[process.stderr, said], daemon=True)
        listener.start()
        try:
            while process.poll() is None and not self._stop.wait(_STEP_SECONDS):
                pass
            process.stdin.close()
            status = _end(process)
        finally:
            state.pid, state.started_at, state.running = None, None, False
        listener.join(KILL_SECONDS)
        return status, said[0]


def _end(process: subprocess.Popen[str]) -> int:
    """The status of a process whose input has ended; by force where it stays."""
    for seconds, insist in ((STOP_SECONDS, process.terminate), (KILL_SECONDS, process.kill)):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            insist()
    return process.wait()


def _pass_on(lines: IO[str], said: list[str]) -> None:
    """Show what the learner says, and keep its last line."""
    with lines:
        for line in lines:
            if line.strip():
                said[0] = line.strip()[:_SHOWN]
                print(f"learner: {line.rstrip()}", file=sys.stderr, flush=True)
