"""Ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.subjects.base import BaseSubject, Event
from ftrl_engine.batch import Batch
from ftrl_engine.learners.base import build
from ftrl_engine.losses import sigmoid
from ftrl_engine.metrics import Progressive
from ftrl_engine.schema import Schema
from streams import checkpoint
from streams.model_directory import ModelDirectory, ModelSettings
from streams.newest import read_newest

NEEDS = "ftrl_engine"
_BITS = 10
_SLOTS = 1 << _BITS


class Subject(BaseSubject):
    """The learner alone, without its intercept."""

    def __init__(self, alpha: float, beta: float, l1: float, l2: float) -> None:
        super().__init__(alpha, beta, l1, l2)
        settings = {"alpha": alpha, "beta": beta, "l1": l1, "l2": l2}
        self._learner = build("ftrl_proximal", _SLOTS, intercept="none", **settings)

    def learn(self, event: Event) -> float:
        return float(sigmoid(float(self._learner.learn(_batch([event]))[0])))

    def learn_many(self, events: Sequence[Event]) -> None:
        self._learner.learn(_batch(events))

    def weights(self, slots: int) -> list[float]:
        dense = np.zeros(_SLOTS)
        at, values = self._learner.weights()
        dense[at] = values
        found: list[float] = dense[:slots].tolist()
        return found

    def saved_and_opened(self, path: Path) -> Subject:
        """A model directory: its settings and a checkpoint."""
        learner = self._learner
        settings = ModelSettings(learner.name, learner.settings, _BITS, Schema.load("libsvm"))
        model = ModelDirectory.create(path, settings)
        checkpoint.save(model.checkpoint_path(1), learner, Progressive(), checkpoint.Totals(rows=1))
        other = Subject.__new__(Subject)
        other._learner, _, _ = read_newest(ModelDirectory.open(path))
        return other

    def learn_always_on(self, labels: NDArray[np.float64], times: int, directory: Path) -> float:
        batch = Batch(np.arange(len(labels) + 1), np.zeros(len(labels), np.uint32), labels=labels, n_slots=1)
        for _ in range(times):
            self._learner.learn(batch)
        return float(sigmoid(float(self._learner.margins(batch.rows(0, 1))[0])))


def _batch(events: Sequence[Event]) -> Batch:
    features = [feature for event in events for feature in event.features]
    return Batch(
        np.cumsum([0, *(len(event.features) for event in events)]),
        np.array([slot for slot, _ in features], dtype=np.int64),
        [value for _, value in features],
        [float(event.label) for event in events],
        [event.importance for event in events],
        n_slots=_SLOTS,
    )
