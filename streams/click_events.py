"""Simulated click events: their fields, their text forms' schema, and how well anyone can predict them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SEGMENTS = 12
CATEGORIES = 40
SITES = 400
DEVICES = (b"phone", b"desktop", b"tablet", b"tv")
AD_FORMATS = (b"banner", b"native", b"video", b"carousel", b"story")
CONTEXTS = (
    b"news", b"sport", b"finance", b"travel", b"food", b"music", b"film", b"games",
    b"health", b"science", b"fashion", b"cars", b"garden", b"books", b"weather", b"jobs",
)  # fmt: skip
POSITIONS = 8
TAGS = 200
MAX_TAGS = 4

# The order of the columns of tab and comma separated text; the schema `clicks` says what they mean.
COLUMNS = (
    "click", "id", "timestamp", "user_id", "segment", "item_id", "category", "site", "device",
    "hour", "position", "ad_format", "context", "price", "tags",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Events:
    """Simulated events, one array entry each. Categories are codes from 0 on.

    number       int64, counts the events of the stream; the id is "e<number>"
    milliseconds int64 since 1970 on the synthetic clock
    position     the place on the page, 0 is the top (1 in text)
    cents        int64, the price times 100
    tags         int64[rows, 4], -1 where there are fewer
    probability  float64, the true probability of a click
    label        int64, 1 for a click
    """

    number: Ints
    milliseconds: Ints
    user_id: Ints
    segment: Ints
    item_id: Ints
    category: Ints
    site: Ints
    device: Ints
    hour: Ints
    position: Ints
    ad_format: Ints
    context: Ints
    cents: Ints
    tags: Ints
    probability: Floats
    label: Ints

    def __len__(self) -> int:
        return len(self.label)

    def part(self, start: int, stop: int) -> Events:
        """The events ``start`` to ``stop`` of these."""
        return Events(**{field.name: getattr(self, field.name)[start:stop] for field in fields(self)})


class BestLogLoss:
    """The log loss of the true probabilities: the best that any model can reach.

    loss      mean of -ln p(label) over the drawn labels
    expected  its expectation, the mean entropy -p ln p - (1 - p) ln (1 - p), in nats
    """

    def __init__(self) -> None:
        self.rows = 0
        self.clicks = 0
        self._loss = 0.0
        self._entropy = 0.0

    def update(self, label: Ints, probability: Floats) -> None:
        """Add events with true click probabilities in (0, 1)."""
        miss = np.log1p(-probability)
        hit = np.log(probability)
        self.rows += len(label)
        self.clicks += int(label.sum())
        self._loss -= float(np.where(label == 1, hit, miss).sum())
        self._entropy -= float((probability * hit + (1.0 - probability) * miss).sum())

    @property
    def ctr(self) -> float:
        return self.clicks / self.rows if self.rows else math.nan

    @property
    def loss(self) -> float:
        return self._loss / self.rows if self.rows else math.nan

    @property
    def expected(self) -> float:
        return self._entropy / self.rows if self.rows else math.nan


def best_log_loss(events: Events) -> tuple[float, float]:
    """(loss, expected) of :class:`BestLogLoss` for these events."""
    best = BestLogLoss()
    best.update(events.label, events.probability)
    return best.loss, best.expected
