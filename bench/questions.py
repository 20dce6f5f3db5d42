"""What Algorithm 1 of McMahan et al. 2013 demands, as questions; a plain reference knows the answers.

A question gives its answer in words, raises Wrong with what is wrong, or lets NotAsked pass.
It is put to ``make(alpha, beta, l1, l2)``, with an empty directory and a number of events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.subjects.base import BaseSubject, Event

RATE = 0.001  # of positives, where calibration is asked for
_SLOTS = 12
_CLOSE = 2e-4  # of a probability: what 32-bit state is allowed
_CALIBRATED = 0.02
_PART = 1_000_000


@dataclass(slots=True)
class Reference:
    """Algorithm 1, a slot given twice in one event being one feature with the sum of its values."""

    alpha: float
    beta: float
    l1: float
    l2: float
    z: dict[int, float] = field(default_factory=dict, init=False)
    n: dict[int, float] = field(default_factory=dict, init=False)

    def weight(self, slot: int) -> float:
        z, n = self.z.get(slot, 0.0), self.n.get(slot, 0.0)
        if abs(z) <= self.l1:
            return 0.0
        return -(z - math.copysign(self.l1, z)) / ((self.beta + math.sqrt(n)) / self.alpha + self.l2)

    def learn(self, event: Event) -> float:
        """The probability before the event; every weight is taken before any state changes."""
        x: dict[int, float] = {}
        for slot, value in event.features:
            x[slot] = x.get(slot, 0.0) + value
        w = {slot: self.weight(slot) for slot in x}
        p = 1.0 / (1.0 + math.exp(-sum(w[slot] * value for slot, value in x.items())))
        for slot, value in x.items():
            g = event.importance * (p - event.label) * value
            n = self.n.get(slot, 0.0)
            sigma = (math.sqrt(n + g * g) - math.sqrt(n)) / self.alpha
            self.z[slot] = self.z.get(slot, 0.0) + g - sigma * w[slot]
            self.n[slot] = n + g * g
        return p


Make = Callable[..., BaseSubject]
Question = Callable[[Make, Path, int], str]


class Wrong(Exception):
    """An answer that Algorithm 1 does not give."""


def demand(holds: bool, otherwise: str) -> None:
    """Wrong with the text unless it holds."""
    if not holds:
        raise Wrong(otherwise)


def tokens(count: int, seed: int = 1) -> list[Event]:
    """Events of two different slots, all values 1, that are worth learning from."""
    rng = np.random.default_rng(seed)
    events = []
    for _ in range(count):
        a, b = (int(slot) for slot in rng.choice(_SLOTS, 2, replace=False))
        likely = 1.0 / (1.0 + math.exp(3.0 - 0.5 * (a + b % 3)))
        events.append(Event(((a, 1.0), (b, 1.0)), int(rng.random() < likely)))
    return events


def numbers(count: int) -> list[Event]:
    """Events of one to three slots with values of their own."""
    rng = np.random.default_rng(2)
    return [
        Event(
            tuple(
                (int(slot), float(rng.integers(-8, 9)) / 4 or 1.0)
                for slot in rng.choice(_SLOTS, 3, replace=False)
            ),
            int(rng.random() < 0.4),
        )
        for _ in range(count)
    ]


def follows(make: Make, events: Sequence[Event], **settings: float) -> str:
    """Whether every prediction is that of the reference."""
    chosen = {"alpha": 0.1, "beta": 1.0, "l1": 0.3, "l2": 0.0} | settings
    subject, reference = make(**chosen), Reference(**chosen)
    worst = 0.0
    for number, event in enumerate(events):
        expected, found = reference.learn(event), subject.learn(event)
        worst = max(worst, abs(found - expected))
        demand(worst <= _CLOSE, f"prediction {number + 1} is {found:.5f}, must be {expected:.5f}")
    return f"largest difference {worst:.0e}"


def predictions(make: Make, directory: Path, events: int) -> str:
    """Predictions are those of Algorithm 1, one event after the other."""
    return follows(make, tokens(300))


def values(make: Make, directory: Path, events: int) -> str:
    """Features with values other than 1."""
    return follows(make, numbers(300))


def l2(make: Make, directory: Path, events: int) -> str:
    """l2 belongs to the denominator of the weight."""
    return follows(make, tokens(300), l2=5.0, l1=0.1)


def zeros(make: Make, directory: Path, events: int) -> str:
    """A weight is exactly 0 where |z| <= l1, and nowhere else."""
    settings = {"alpha": 0.1, "beta": 1.0, "l1": 4.0, "l2": 0.0}
    subject, reference = make(**settings), Reference(**settings)
    for event in tokens(150):
        subject.learn(event)
        reference.learn(event)
    expected = [slot for slot in range(_SLOTS) if reference.weight(slot) == 0.0]
    found = [slot for slot, weight in enumerate(subject.weights(_SLOTS)) if weight == 0.0]
    demand(found == expected, f"{len(found)} of {_SLOTS} weights are 0, must be {len(expected)}")
    return f"{len(found)} of {_SLOTS} are 0"


def back_to_zero(make: Make, directory: Path, events: int) -> str:
    """A weight that was not zero becomes exactly 0 again."""
    settings = {"alpha": 0.5, "beta": 1.0, "l1": 1.0, "l2": 0.0}
    subject, reference = make(**settings), Reference(**settings)
    rising, falling = Event(((3, 1.0),), 1), Event(((3, 1.0),), 0)
    for _ in range(4):
        subject.learn(rising)
        reference.learn(rising)
    demand(subject.weights(4)[3] != 0.0, "four positives with l1 = 1 must leave a weight")
    while reference.weight(3) != 0.0:
        subject.learn(falling)
        reference.learn(falling)
    found = subject.weights(4)[3]
    demand(found == 0.0, f"it is still {found:.4f}")
    return "exactly 0"


def importance(make: Make, directory: Path, events: int) -> str:
    """Importance multiplies the gradient, so that n grows by its square."""
    events_of = [Event(e.features, e.label, float(1 + i % 3)) for i, e in enumerate(tokens(200, seed=3))]
    return follows(make, events_of)


def duplicates(make: Make, directory: Path, events: int) -> str:
    """The same slot twice in one event is one feature with the sum of the values."""
    return follows(make, [Event((e.features[0], *e.features), e.label) for e in tokens(100, seed=4)])


def together(make: Make, directory: Path, events: int) -> str:
    """Many events in one call are learned one after the other."""
    settings = {"alpha": 0.1, "beta": 1.0, "l1": 0.3, "l2": 0.0}
    one, many = make(**settings), make(**settings)
    given = tokens(300, seed=5)
    for event in given:
        one.learn(event)
    many.learn_many(given)
    worst = max(abs(a - b) for a, b in zip(one.weights(_SLOTS), many.weights(_SLOTS), strict=True))
    demand(worst <= _CLOSE, f"a weight differs by {worst:.4f}")
    return f"largest difference {worst:.0e}"


def resume(make: Make, directory: Path, events: int) -> str:
    """What was saved goes on exactly, with nothing said again."""
    settings = {"alpha": 0.3, "beta": 1.0, "l1": 0.3, "l2": 0.5}
    whole, begun = make(**settings), make(**settings)
    given = tokens(400, seed=6)
    for event in given:
        whole.learn(event)
    for event in given[:200]:
        begun.learn(event)
    opened = begun.saved_and_opened(directory / "saved")
    for event in given[200:]:
        opened.learn(event)
    worst = max(abs(a - b) for a, b in zip(whole.weights(_SLOTS), opened.weights(_SLOTS), strict=True))
    demand(worst <= 1e-12, f"a weight differs by {worst:.4f}")
    return "the same weights"


def calibration(make: Make, directory: Path, events: int) -> str:
    """A feature that is always on: the prediction after all events is their rate of positives, within 2 %."""
    part = min(_PART, events)
    labels = (np.random.default_rng(7).random(part) < RATE).astype(np.float64)
    found = make(alpha=0.1, beta=1.0, l1=0.0, l2=0.0).learn_always_on(labels, events // part, directory)
    off = found / float(labels.mean()) - 1.0
    demand(abs(off) <= _CALIBRATED, f"it predicts {100 * off:+.1f} %")
    return f"{100 * off:+.1f} %"


QUESTIONS: dict[str, Question] = {
    "predictions": predictions,
    "values": values,
    "l2": l2,
    "exact zeros": zeros,
    "back to zero": back_to_zero,
    "importance": importance,
    "duplicates": duplicates,
    "many at once": together,
    "resume": resume,
    "calibration": calibration,
}
