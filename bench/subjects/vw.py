"""Vowpal Wabbit with --ftrl, without its constant feature."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.subjects.base import BaseSubject, Event
from ftrl_engine.losses import sigmoid

NEEDS = "pylibvw"
_ALWAYS = ("--quiet", "--noconstant")


class Subject(BaseSubject):
    """A workspace; slots are names that are numbers, which stand for themselves."""

    def __init__(self, alpha: float, beta: float, l1: float, l2: float) -> None:
        super().__init__(alpha, beta, l1, l2)
        self._workspace = _open(["--no_stdin", *self._words()])

    def _words(self) -> list[str]:
        numbers = (("ftrl_alpha", self.alpha), ("ftrl_beta", self.beta), ("l1", self.l1), ("l2", self.l2))
        words = [word for name, value in numbers for word in (f"--{name}", repr(value))]
        return ["--ftrl", "--loss_function", "logistic", "-b", "10", *_ALWAYS, *words]

    def learn(self, event: Event) -> float:
        example = self._workspace._parse(_line(event))[0]
        self._workspace.predict(example)
        margin = float(example.get_partial_prediction())
        self._workspace.learn(example)
        self._workspace._finish_example(example)
        return float(sigmoid(margin))

    def learn_many(self, events: Sequence[Event]) -> None:
        """From a file, as one does."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "events.vw"
            path.write_text("".join(f"{_line(event)}\n" for event in events), encoding="ascii")
            self._workspace = _open(["-d", str(path), *self._words()])
            self._workspace.run_parser()

    def weights(self, slots: int) -> list[float]:
        return [float(self._workspace.get_weight(slot, 0)) for slot in range(slots)]

    def saved_and_opened(self, path: Path) -> Subject:
        self._workspace.save(str(path))
        other = Subject.__new__(Subject)
        BaseSubject.__init__(other, self.alpha, self.beta, self.l1, self.l2)
        other._workspace = _open(["--no_stdin", *_ALWAYS, "-i", str(path)])
        return other

    def learn_always_on(self, labels: NDArray[np.float64], times: int, directory: Path) -> float:
        text = b"".join(np.where(labels == 1.0, b"1 | 0\n", b"-1 | 0\n").tolist())
        with open(directory / "always.vw", "wb") as file:
            for _ in range(times):
                file.write(text)
        self._workspace = _open(["-d", str(directory / "always.vw"), *self._words()])
        self._workspace.run_parser()
        return float(sigmoid(self.weights(1)[0]))


def _open(words: list[str]) -> Any:
    return importlib.import_module("pylibvw").vw(words)


def _line(event: Event) -> str:
    features = " ".join(f"{slot}:{value!r}" for slot, value in event.features)
    return f"{2 * event.label - 1} {event.importance!r} | {features}"
