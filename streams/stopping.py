"""Being asked to stop, by a signal or by another thread."""

from __future__ import annotations

import queue
from contextlib import suppress


class Stop:
    """Set once; may be waited for by one thread, and set by any thread or by a signal handler.

    A signal handler runs in the main thread between two of its instructions. If that thread is about to
    wait for a ``threading.Event``, it holds the lock that ``set`` takes, and the handler would wait for
    ever; ``SimpleQueue.put`` takes no lock that Python code can hold.
    """

    def __init__(self) -> None:
        self._asked = False
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def is_set(self) -> bool:
        """Whether somebody has asked."""
        return self._asked

    def set(self) -> None:
        """Ask, and wake who waits."""
        self._asked = True
        self._told.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait so long or until somebody asks; returns whether somebody has.

        A signal that comes in the moment before the wait is handled after it, so waits should be short.
        """
        if not self._asked:
            with suppress(queue.Empty):
                self._told.get(timeout=seconds)
        return self._asked
