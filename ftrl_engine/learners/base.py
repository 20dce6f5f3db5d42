"""What every learner is: a table of slots, a few numbers, and one pass of updates.

Adding a learner is one file in this folder that defines one subclass of :class:`Learner`
(of ``LearnerWithIntercept`` in ``intercept.py`` if it adds the shared intercept) with a ``name``,
its ``parameters`` and its kernels, and one oracle of the same name in ``tests/oracles``; nothing
else is edited.
"""

from __future__ import annotations

import importlib
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from ftrl_engine.errors import ConfigError, DataError
from ftrl_engine.given import slots_below
from ftrl_engine.learners import learner_names as learner_names

MAX_SLOTS = 1 << 31
_KEPT_FEATURES = 4096
_RULES: dict[str, Callable[[float], bool]] = {
    "> 0": lambda number: number > 0,
    ">= 0": lambda number: number >= 0,
    "in [0, 1]": lambda number: 0 <= number <= 1,
    ">= 0 and whole": lambda number: number >= 0 and number.is_integer(),
    ">= 1 and whole": lambda number: number >= 1 and number.is_integer(),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named setting: its default, the rule its values obey, and what it means.

    rule is one of "> 0", ">= 0", "in [0, 1]", ">= 0 and whole", ">= 1 and whole", or the words
    that are allowed, joined by "|".
    """

    name: str
    default: float | str
    rule: str
    meaning: str

    def check(self, value: object) -> float | str:
        """The value as it is kept, or ConfigError with the name, the rule and the value."""
        if isinstance(self.default, str):
            if isinstance(value, str) and value in self.rule.split("|"):
                return value
            raise ConfigError(f"{self.name} must be one of {self.rule.replace('|', ', ')}, got {value!r}")
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise ConfigError(f"{self.name} must be a number {self.rule}, got {value!r}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or not _RULES[self.rule](number):
            raise ConfigError(f"{self.name} must be finite and {self.rule}, got {value!r}")
        if self.rule == "> 0" and number < _LEAST:
            raise ConfigError(
                f"{self.name} must be at least {_LEAST:g}, got {value!r}: nothing can be divided by it"
            )
        return number


# Below it, 1 / x is no finite number.
_LEAST = sys.float_info.min
# Slots whose weights are computed at a time.
_PART = 1 << 15


class Learner(ABC):
    """One pass over events, each predicted before it is learned from.

    state    float64[n_slots, width]: what is kept for each slot; zeros in the beginning
    scalars  float64[k]: what is kept once (intercept, counts of steps)
    """

    name: ClassVar[str]
    width: ClassVar[int]
    parameters: ClassVar[tuple[Parameter, ...]]
    _scratch: NDArray[np.float64] | None = None

    def __init__(self, n_slots: int, scalars: int, values: Mapping[str, object]) -> None:
        if isinstance(n_slots, bool) or not isinstance(n_slots, int | np.integer):
            raise ConfigError(f"n_slots must be a whole number, got {n_slots!r}")
        if not 0 < n_slots <= MAX_SLOTS:
            raise ConfigError(f"n_slots must be between 1 and 2**31, got {n_slots}")
        self.n_slots = int(n_slots)
        self.settings = check_parameters(type(self), values)
        try:
            self.state: NDArray[np.float64] = np.zeros((self.n_slots, self.width))
        except MemoryError:
            size = self.n_slots * self.width * 8
            raise ConfigError(
                f"n_slots {self.n_slots} needs {size / 2**30:.1f} GiB, more than there is; use fewer bits"
            ) from None
        self.scalars: NDArray[np.float64] = np.zeros(scalars)

    def learn(self, batch: Batch) -> NDArray[np.float64]:
        """Learn the rows in order; float64[rows], the margin of each before its own update.

        One thread at a time, and no other call of this learner meanwhile.
        """
        self._check(batch)
        if batch.labels is None:
            raise DataError(f"{self.name} needs labels to learn from; this batch has rows without one")
        margins = np.empty(len(batch))
        self._learn(batch, batch.labels, margins)
        return margins

    def margins(self, batch: Batch) -> NDArray[np.float64]:
        """float64[rows], the margins w.x + intercept as they stand; nothing is learned."""
        self._check(batch)
        margins = np.empty(len(batch))
        self._margins(batch, margins)
        return margins

    def weights(self) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """(slots, weights) of every non-zero weight, in the order of the slots."""
        found, values = zip(*self.weight_parts(), strict=True)
        return np.concatenate(found), np.concatenate(values)

    def weight_parts(self) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.float64]]]:
        """:meth:`weights` in parts of a few thousand, so that what is computed stays in the cache."""
        weights = np.empty(min(self.n_slots, _PART))
        for start in range(0, self.n_slots, _PART):
            state = self.state[start : start + _PART]
            part = weights[: len(state)]
            self._weights(state, part)
            slots = np.flatnonzero(part != 0.0)  # of truth values: three times as fast
            yield (slots + start).astype(np.uint32), part[slots]

    def weights_at(self, slots: NDArray[np.uint32]) -> NDArray[np.float64]:
        """float64[len(slots)], the weights of some slots."""
        index = slots_below(slots, self.n_slots)
        weights = np.empty(len(index))
        self._weights(self.state[index], weights)
        return weights

    def counts_at(self, slots: NDArray[np.uint32]) -> NDArray[np.float64] | None:
        """float64[len(slots)], n: the sum of the squared gradients of some slots; None: it keeps none."""
        return None

    @classmethod
    def rates(cls, counts: NDArray[Any], settings: Mapping[str, Any]) -> NDArray[np.float64] | None:
        """How far a weight with the count n moves at most for a gradient of 1; None: n does not tell.

        So an event that gives each feature i the gradient g_i moves its own margin by at most
        sum rate_i |g_i| |x_i| (McMahan et al. 2013, section 7, where it is called the uncertainty).
        ``settings`` are those of the learner that counted.
        """
        return None

    @property
    @abstractmethod
    def intercept(self) -> float:
        """What is added to every margin."""

    @abstractmethod
    def _learn(self, batch: Batch, labels: NDArray[np.float64], margins: NDArray[np.float64]) -> None: ...

    @abstractmethod
    def _margins(self, batch: Batch, margins: NDArray[np.float64]) -> None: ...

    @abstractmethod
    def _weights(self, state: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        """The weights of the slots with this part of the state, with every deferred penalty applied."""

    def scratch(self, batch: Batch, rows: int) -> NDArray[np.float64]:
        """float64[rows, n] with room for the longest row of the batch, filled up to a multiple of four.

        New for each call: threads may ask one learner for margins at the same time.
        """
        return np.empty((rows, max(64, batch.longest_row() + 3)))

    def kept_scratch(self, batch: Batch, rows: int) -> NDArray[np.float64]:
        """As :meth:`scratch`, kept for the next call unless it is large: for learning, one thread at a time.

        ``rows`` is the same in every call.
        """
        kept = self._scratch
        if kept is None or kept.shape[1] < batch.longest_row() + 3:
            kept = self.scratch(batch, rows)
            self._scratch = kept if kept.shape[1] <= _KEPT_FEATURES else None
        return kept

    def _check(self, batch: Batch) -> None:
        if not isinstance(batch, Batch):
            raise DataError(
                f"{self.name} takes a Batch, got {type(batch).__name__}; make one with Batch(...), "
                "Batch.from_scipy or FeatureHasher"
            )
        if batch.n_slots > self.n_slots:
            raise DataError(
                f"the batch was hashed to {batch.n_slots} slots, more than the {self.n_slots} of this learner"
            )


def check_parameters(learner: type[Learner], values: Mapping[str, object]) -> dict[str, float | str]:
    """Every parameter of the learner, given or default, each obeying its rule."""
    known = {parameter.name: parameter for parameter in learner.parameters}
    for name in values:
        if name not in known:
            raise ConfigError(f"{learner.name} has no parameter {name!r}; it has {', '.join(known)}")
    return {name: p.check(values.get(name, p.default)) for name, p in known.items()}


def find_learner(name: str) -> type[Learner]:
    """The learner class of that name."""
    if name not in learner_names():
        raise ConfigError(f"learner must be one of {', '.join(learner_names())}, got {name!r}")
    module = importlib.import_module(f"ftrl_engine.learners.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Learner) and vars(value).get("name") == name:
            return value
    raise ConfigError(f"ftrl_engine/learners/{name}.py defines no Learner with name = {name!r}")


def build(name: str, n_slots: int = 1 << 22, **parameters: Any) -> Learner:
    """A new learner: ``build("ftrl_proximal", n_slots=2**22, alpha=0.1, l1=1.0)``."""
    learner: Any = find_learner(name)
    built: Learner = learner(n_slots, **parameters)
    return built
