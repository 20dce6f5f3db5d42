"""A method that takes part: what its settings are called and how they are tried."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

Settings = Mapping[str, float | str]

TOTAL, PER_EVENT, COUNT = "total", "per event", "count"
# A penalty whose default is smaller is meant for every single event.
_LEAST_TOTAL = 0.01


@dataclass(frozen=True, slots=True)
class Method:
    """One contender of the comparison.

    name      in results, files and JSON; title: for people
    rate      the setting that is the learning rate
    penalty   the setting that makes weights zero; scale tells what it means:
              TOTAL, a threshold for all events together; PER_EVENT, a penalty that every event adds;
              COUNT, the events with a slot before it is learned
    fixed     settings that are the same in every configuration
    strength  how many times stronger than usual a penalty of this method is
    power     the setting of how fast one rate for all slots falls, if it has one
    learner   the learner of this project that it is, or None for a program outside
    """

    name: str
    title: str
    rate: str
    penalty: str
    scale: str
    fixed: Settings = field(default_factory=dict)
    power: str | None = None
    learner: str | None = None
    strength: float = 1.0

    def configuration(self, rate: float, penalty: float, events: int, power: float | None) -> Configuration:
        """``penalty`` is over all events, or a count; what it is for one event follows from ``events``."""
        value = penalty / events if self.scale == PER_EVENT else penalty
        settings: dict[str, float | str] = {self.rate: rate, self.penalty: value}
        if self.power is not None and power is not None:
            settings[self.power] = power
        return Configuration(self.name, settings | dict(self.fixed), rate, penalty, power)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A contender with all its settings; ``penalty`` is the one over all events, or a count."""

    contender: str
    settings: Settings
    rate: float
    penalty: float
    power: float | None = None

    def key(self) -> str:
        """The same for the same contender and settings."""
        return f"{self.contender} {json.dumps(dict(self.settings), sort_keys=True)}"


REFERENCE = "ftrl_proximal"
_TITLES = {
    "ftrl_proximal": "FTRL-Proximal",
    "sgd_l1": "SGD + L1, cumulative penalty",
    "sgd_l1_subgradient": "SGD + L1, subgradient",
    "truncated_gradient": "truncated gradient",
    "fobos": "FOBOS",
    "adagrad_fobos": "FOBOS with AdaGrad rates",
    "rda": "RDA",
    "adagrad_rda": "RDA with AdaGrad rates",
    "ogd_count": "OGD-Count",
}
_2011 = "ftrl_proximal_2011"


def learner_methods() -> list[Method]:
    """Every learner there is, FTRL-Proximal first, and its form of 2011."""
    from ftrl_engine.learners.base import find_learner, learner_names

    methods = [_method_of(name) for name in learner_names()]
    known = {parameter.name for parameter in find_learner(REFERENCE).parameters}
    if "l1_per_event" in known:
        title = "FTRL-Proximal of 2011"
        methods.append(
            Method(_2011, title, "alpha", "l1_per_event", PER_EVENT, {"l1": 0.0}, learner=REFERENCE)
        )
    order = [REFERENCE, _2011, *_TITLES]
    return sorted(methods, key=lambda m: (order.index(m.name) if m.name in order else len(order), m.name))


def _method_of(name: str) -> Method:
    """How a learner is tried, read off its parameters."""
    from ftrl_engine.learners.base import find_learner

    defaults = {parameter.name: parameter.default for parameter in find_learner(name).parameters}
    power = "power" if "power" in defaults else None
    if "count" in defaults:
        penalty, scale = "count", COUNT
    else:
        penalty = "l1"
        scale = PER_EVENT if float(defaults["l1"]) < _LEAST_TOTAL else TOTAL
    return Method(name, _TITLES.get(name, name), "alpha", penalty, scale, power=power, learner=name)
