"""What is asked whether it is Algorithm 1 of McMahan et al. 2013: one file in this folder each.

Adding a subject is one file; nothing else is edited. The file's name, with dashes for underscores, is
the subject's name. It defines ``NEEDS``, the module without which it is skipped, and a class ``Subject``
made from ``alpha, beta, l1, l2`` that has no intercept. A question that cannot be put to it raises
:class:`NotAsked`. Heavy imports belong inside the methods.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Event(NamedTuple):
    """Features as (slot, value), repeats allowed; label 0 or 1; importance."""

    features: tuple[tuple[int, float], ...]
    label: int
    importance: float = 1.0


class NotAsked(Exception):
    """A question cannot be put to a subject; the text says why."""


class BaseSubject(ABC):
    """A model that learns events one at a time or many at once."""

    def __init__(self, alpha: float, beta: float, l1: float, l2: float) -> None:
        self.alpha, self.beta, self.l1, self.l2 = alpha, beta, l1, l2

    @abstractmethod
    def learn(self, event: Event) -> float:
        """The probability predicted before the event is learned from."""

    @abstractmethod
    def learn_many(self, events: Sequence[Event]) -> None:
        """Learn them in one call, as one does with many."""

    @abstractmethod
    def weights(self, slots: int) -> list[float]:
        """The weights of slots 0 to ``slots - 1``."""

    @abstractmethod
    def saved_and_opened(self, path: Path) -> BaseSubject:
        """Saved in its own format to ``path`` and opened from there, with nothing said again."""

    @abstractmethod
    def learn_always_on(self, labels: NDArray[np.float64], times: int, directory: Path) -> float:
        """The prediction after ``times`` passes over events of one feature, always the same."""


def subject_names() -> list[str]:
    """The subjects there are, ours first."""
    import bench.subjects as package

    names = (m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base")
    return sorted((name.replace("_", "-") for name in names), key=lambda name: (name != "ftrl-engine", name))


def find_subject(name: str) -> ModuleType:
    """The module of a subject."""
    return importlib.import_module(f"bench.subjects.{name.replace('-', '_')}")


def missing(name: str) -> str | None:
    """Why a subject cannot be asked here."""
    needs = find_subject(name).NEEDS
    if importlib.util.find_spec(needs) is not None:
        return None
    return f"{needs} is not installed; pip install 'ftrl-engine[bench]'"
