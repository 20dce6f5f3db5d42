"""datatable: its Ftrl model as it comes, float32."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.subjects.base import BaseSubject, Event, NotAsked

NEEDS = "datatable"
_BINS = 1024


class Subject(BaseSubject):
    """A model on frames of one column a feature; a slot is its own hash."""

    double_precision = False

    def __init__(self, alpha: float, beta: float, l1: float, l2: float) -> None:
        super().__init__(alpha, beta, l1, l2)
        self._datatable = importlib.import_module("datatable")
        self._model = importlib.import_module("datatable.models").Ftrl(
            alpha=alpha, beta=beta, lambda1=l1, lambda2=l2, nbins=_BINS, nepochs=1, model_type="binomial",
            double_precision=self.double_precision,
        )  # fmt: skip
        self._hashes: dict[int, NDArray[np.uint64]] = {}

    def learn(self, event: Event) -> float:
        features = self._features([event])
        probability = 0.5
        if self._model.model is not None:
            probability = float(self._model.predict(features)[0, "True"])
        self._model.fit(features, self._labels([event]))
        return probability

    def learn_many(self, events: Sequence[Event]) -> None:
        # Where it keeps the order of the events: more threads take them as they come.
        self._datatable.options.nthreads = 1
        self._model.fit(self._features(events), self._labels(events))

    def weights(self, slots: int) -> list[float]:
        z, n = self._model.model.to_numpy().astype(np.float64)[:slots].T
        shrunk = np.maximum(np.abs(z) - self.l1, 0.0)
        found: list[float] = (
            # It learns the probability of the other label, so signs are turned.
            np.sign(z) * shrunk / ((self.beta + np.sqrt(n)) / self.alpha + self.l2)
        ).tolist()
        return found

    def saved_and_opened(self, path: Path) -> Subject:
        raise NotAsked("it has no format of its own")

    def learn_always_on(self, labels: NDArray[np.float64], times: int, directory: Path) -> float:
        features = self._datatable.Frame(np.zeros((len(labels), 1), np.int64), names=["c0"])
        truth = self._datatable.Frame(labels == 1.0)
        for _ in range(times):
            self._model.fit(features, truth)
        return float(self._model.predict(features[:1, :])[0, "True"])

    def _features(self, events: Sequence[Event]) -> Any:
        widths = {len(event.features) for event in events}
        values = {value for event in events for _, value in event.features}
        if len(widths) > 1 or values != {1.0}:
            raise NotAsked("it takes one value a column and no numbers")
        if {event.importance for event in events} != {1.0}:
            raise NotAsked("it takes no importance")
        slots = np.array([[slot for slot, _ in event.features] for event in events], dtype=np.uint64)
        width = slots.shape[1]
        cells = (slots - self._hashes_of(width)).astype(np.int64)
        return self._datatable.Frame(cells, names=[f"c{k}" for k in range(width)])

    def _labels(self, events: Sequence[Event]) -> Any:
        return self._datatable.Frame(np.array([event.label == 1 for event in events]))

    def _hashes_of(self, width: int) -> NDArray[np.uint64]:
        if width not in self._hashes:
            model = importlib.import_module("datatable.models").Ftrl(nbins=2, model_type="binomial")
            names = [f"c{k}" for k in range(width)]
            frame = self._datatable.Frame(np.zeros((2, width), np.int64), names=names)
            model.fit(frame, self._datatable.Frame(np.array([True, False])))
            self._hashes[width] = np.array(model.colname_hashes, dtype=np.uint64)
        return self._hashes[width]
