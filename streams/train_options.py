"""TrainOptions: how long to learn and how often to save."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.cadence import Cadence
from streams.name_store import DEFAULT_LIMIT
from streams.sink import Sink
from streams.stopping import Stop

if TYPE_CHECKING:
    from streams.trainer import Trainer

CHECKPOINT_EVERY = Cadence(seconds=30.0)
PUBLISH_EVERY = Cadence(seconds=1.0)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What a trainer is told.

    limit    stop after so many learned events; None: at the end of the source
    stop     set it from a signal handler to end after a clean checkpoint
    report   called about once a second with the :class:`Trainer`
    rejects  where refused events go instead of into the model; closed with the trainer
    names    how many names of learned features to keep beside the model; 0: none
    clock    seconds that only grow; wall: seconds since 1970, for the time of publication
    """

    limit: int | None = None
    checkpoint_every: Cadence = CHECKPOINT_EVERY
    publish_every: Cadence = PUBLISH_EVERY
    stop: Stop = field(default_factory=Stop)
    report: Callable[[Trainer], None] = lambda trainer: None
    rejects: Sink | None = None
    names: int = DEFAULT_LIMIT
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
