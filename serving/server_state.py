"""What the parts of a server say of themselves: in /readyz and /metrics, the same from every worker."""

from __future__ import annotations

import msgspec


class LearnerState(msgspec.Struct):
    """The learner beside the server (``--learn``).

    running   whether its process is alive; started_at, seconds since 1970, is when it began
    restarts  how often it was started again
    error     the last thing it said before it ended for no good reason
    """

    source: str
    running: bool = False
    pid: int | None = None
    started_at: float | None = None
    restarts: int = 0
    error: str | None = None


class FeedbackState(msgspec.Struct):
    """Where feedback goes, and what is wrong with it; None where nothing is."""

    destination: str
    error: str | None = None


class ServerState(msgspec.Struct):
    """The whole server, as one process after the other learns of it.

    draining  the end was asked for: ready for no more, but what comes is still answered
    waiting   how many workers answer already and have no model yet
    """

    draining: bool = False
    workers: int = 1
    waiting: int = 0
    worker_restarts: int = 0
    learner: LearnerState | None = None
    feedback: FeedbackState | None = None

    def parts(self) -> dict[str, object]:
        """What /readyz says of the parts that there are."""
        found = {"learner": self.learner, "feedback": self.feedback}
        return {name: msgspec.to_builtins(part) for name, part in found.items() if part is not None}
