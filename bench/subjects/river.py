"""River: LogisticRegression with its FTRLProximal optimizer, without its intercept."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.subjects.base import BaseSubject, Event, NotAsked

NEEDS = "river"
_MOST_EVENTS = 1_000_000


class Subject(BaseSubject):
    """A model on dicts."""

    def __init__(self, alpha: float, beta: float, l1: float, l2: float) -> None:
        super().__init__(alpha, beta, l1, l2)
        linear, optim = (importlib.import_module(f"river.{name}") for name in ("linear_model", "optim"))
        optimizer = optim.FTRLProximal(alpha=alpha, beta=beta, l1=l1, l2=l2)
        self._model = linear.LogisticRegression(optimizer=optimizer, intercept_lr=0.0)

    def learn(self, event: Event) -> float:
        features = dict(event.features)
        if len(features) < len(event.features):
            raise NotAsked("a dict holds a feature once")
        probability = float(self._model.predict_proba_one(features)[True])
        self._model.learn_one(features, event.label == 1, w=event.importance)
        return probability

    def learn_many(self, events: Sequence[Event]) -> None:
        pandas = importlib.import_module("pandas")
        columns = sorted({slot for event in events for slot, _ in event.features})
        table = [[dict(event.features).get(slot, 0.0) for slot in columns] for event in events]
        labels = pandas.Series([event.label == 1 for event in events])
        self._model.learn_many(pandas.DataFrame(table, columns=columns), labels)

    def weights(self, slots: int) -> list[float]:
        return [float(self._model.weights.get(slot, 0.0)) for slot in range(slots)]

    def saved_and_opened(self, path: Path) -> Subject:
        raise NotAsked("it has no format of its own")

    def learn_always_on(self, labels: NDArray[np.float64], times: int, directory: Path) -> float:
        if len(labels) * times > _MOST_EVENTS:
            raise NotAsked(f"it takes minutes for more than {_MOST_EVENTS:,} events")
        feature = {0: 1.0}
        for _ in range(times):
            for label in (labels == 1.0).tolist():
                self._model.learn_one(feature, label)
        return float(self._model.predict_proba_one(feature)[True])
