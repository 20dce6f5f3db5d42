"""Being asked to stop."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from streams.stopping import Stop

ROOT = Path(__file__).resolve().parent.parent
# Signals that come a few microseconds after the wait has begun, many times.
INTERRUPTED_WAITS = """
import random, signal, time
from streams.stopping import Stop
stop = Stop()
signal.signal(signal.SIGALRM, lambda number, frame: stop.set())
draw = random.Random(1)
for _ in range(4000):
    stop = Stop()
    signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 2e-5))
    while not stop.wait(0.005):
        pass
"""


def test_a_signal_handler_may_set_what_the_thread_it_interrupts_waits_for() -> None:
    """With threading.Event one of a few hundred hangs: both take its lock."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_WAITS], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0


def test_it_wakes_who_waits_and_stays_set() -> None:
    stop = Stop()
    assert not stop.is_set()
    assert not stop.wait(0.01)
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    assert stop.wait(60.0)
    assert time.monotonic() - began < 30
    stop.set()
    assert all(stop.wait(60.0) for _ in range(3))
    assert stop.is_set()
