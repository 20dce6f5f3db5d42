"""Explanation: where a score comes from, feature by feature, and how sure the model is of it.

The margin of an event is the intercept plus w x over its features. A learner that keeps n, the sum
of squared gradients of each slot, also tells how far the weight of the slot still moves: by
``rate(n)`` at most for a gradient of 1. From it follow

    confidence of a feature    1 - rate(n) / rate(0), from 0 (never seen) towards 1
    uncertainty of a margin    sum rate(n_i) x_i^2, the most that one more event like this one can
                               change it (McMahan et al. 2013, section 7)

A snapshot holds n of the slots it has weights for; of the others n is not known, and the
uncertainty is given both without them and as if they were new.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError
from ftrl_engine.events import Value
from ftrl_engine.learners.base import find_learner
from ftrl_engine.losses import sigmoid
from ftrl_engine.naming import Feature, FeatureNamer, TooManyFeaturesError
from ftrl_engine.snapshot import Snapshot
from serving.request_values import FieldSalts, Request, TooLargeError, ValueList
from streams.names import Names, shorten

# Of one request, over all of its candidates; it bounds the time and the answer.
MAX_EXPLAINED_FEATURES = 10_000


class Contribution(msgspec.Struct):
    """One feature's part of a margin: contribution = weight * value.

    count        n of its slot; None where the snapshot does not know it
    shared_with  other features that are known to have the same slot, so this weight is theirs too
    """

    name: str
    fields: tuple[str, ...]
    slot: int
    value: float
    weight: float
    contribution: float
    count: float | None
    confidence: float | None
    shared_with: list[str]


class Uncertainty(msgspec.Struct):
    """How far one more event like this can move the margin.

    margin           by the features whose n is known; None where that is none of them
    margin_at_most   as if the others had never been seen; None where it is no finite number
    score            [lowest, highest] of the score that ``margin_at_most`` allows
    features_without_count  those others
    """

    margin: float | None
    margin_at_most: float | None
    score: tuple[float, float]
    features_without_count: int


class Explanation(msgspec.Struct):
    """One event: score = sigmoid(margin), margin = intercept + the sum of the contributions."""

    score: float
    margin: float
    intercept: float
    uncertainty: Uncertainty | None
    contributions: list[Contribution]


class _Slots(NamedTuple):
    """What a snapshot knows of some slots; NaN stands for what it does not know."""

    weights: NDArray[np.float64]
    counts: NDArray[np.float64]
    rates: NDArray[np.float64]


class Explainer:
    """Explains events by one snapshot; any thread may call it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._namer = FeatureNamer(snapshot.schema, snapshot.bits)
        self._new_rate = float(self._rates(np.zeros(1))[0])

    def explain(self, request: Request, names: Names | None) -> list[Explanation]:
        """An explanation for each row of the request, which the scorer has found to be sound."""
        context, *rows = ValueList.of(request, FieldSalts(), frozenset()).events()
        try:
            return self._explain_rows(context, rows, names)
        except TooManyFeaturesError as error:
            raise TooLargeError(
                f"more than {MAX_EXPLAINED_FEATURES} features to explain in one request, crosses "
                "included; send fewer candidates"
            ) from error

    def _explain_rows(
        self, context: list[Value], rows: list[list[Value]], names: Names | None
    ) -> list[Explanation]:
        room = MAX_EXPLAINED_FEATURES
        shared = self._namer.cells(context, room)
        found: list[Explanation] = []
        for values in rows:
            hidden = {field for field, _, _ in values}
            cells = [cell for cell in shared if cell.field not in hidden]
            cells += self._namer.cells(values, room)
            features = self._namer.features(cells, room)
            room -= len(features)
            found.append(self._explain(features, names))
        return found

    def _rates(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rates of slots with these counts; NaN where the learner is unknown or has none."""
        learner = self._snapshot.provenance.get("learner")
        rates = None
        if isinstance(learner, Mapping):
            # It may be of another version, or written by hand.
            with suppress(ConfigError, KeyError, TypeError, ValueError):
                rates = find_learner(str(learner.get("name"))).rates(counts, learner)
        return np.full(len(counts), np.nan) if rates is None else rates

    def _look_up(self, features: list[Feature]) -> _Slots:
        snapshot = self._snapshot
        slots = np.array([feature.slot for feature in features], dtype=np.uint32)
        if not len(snapshot.slots):
            unknown = np.full(len(slots), np.nan)
            return _Slots(np.zeros(len(slots)), unknown, unknown)
        at = np.minimum(np.searchsorted(snapshot.slots, slots), len(snapshot.slots) - 1)
        found = snapshot.slots[at] == slots
        weights = np.where(found, snapshot.weights[at].astype(np.float64), 0.0)
        counts = np.full(len(slots), np.nan)
        if snapshot.counts is not None:
            counts = np.where(found, snapshot.counts[at].astype(np.float64), np.nan)
        return _Slots(weights, counts, self._rates(counts))

    def _explain(self, features: list[Feature], names: Names | None) -> Explanation:
        known = self._look_up(features)
        by_slot: dict[int, list[str]] = {}
        for feature in features:
            by_slot.setdefault(feature.slot, []).append(shorten(feature.name))
        confidences = 1.0 - known.rates / self._new_rate
        contributions = [
            Contribution(
                feature.name, feature.fields, feature.slot, feature.value, weight, weight * feature.value,
                _finite(count), _finite(confidence), _others(feature, by_slot[feature.slot], names),
            )
            for feature, weight, count, confidence in zip(
                features, known.weights.tolist(), known.counts.tolist(), confidences.tolist(), strict=True
            )
        ]  # fmt: skip
        intercept = self._snapshot.intercept
        margin = sum(one.contribution for one in contributions) + intercept
        contributions.sort(key=lambda one: (-abs(one.contribution), one.name))
        uncertainty = None if math.isnan(self._new_rate) else self._uncertainty(features, known.rates, margin)
        return Explanation(sigmoid(margin), margin, intercept, uncertainty, contributions)

    def _uncertainty(self, features: list[Feature], rates: NDArray[np.float64], margin: float) -> Uncertainty:
        # Features that share a slot move together: their values are summed first.
        values: dict[int, float] = {}
        rate_of: dict[int, float] = {}
        for feature, rate in zip(features, rates.tolist(), strict=True):
            values[feature.slot] = values.get(feature.slot, 0.0) + feature.value
            rate_of[feature.slot] = rate
        unknown = [slot for slot, rate in rate_of.items() if math.isnan(rate)]
        sure = sum(rate_of[slot] * x * x for slot, x in values.items() if not math.isnan(rate_of[slot]))
        most = sure + sum(self._new_rate * values[slot] * values[slot] for slot in unknown)
        return Uncertainty(
            _finite(sure) if len(unknown) < len(values) else None,
            _finite(most),
            (sigmoid(margin - most), sigmoid(margin + most)),
            len(unknown),
        )


def _finite(x: float) -> float | None:
    """JSON has no other numbers."""
    return x if math.isfinite(x) else None


def _others(feature: Feature, in_event: list[str], names: Names | None) -> list[str]:
    """The other features that are known to have the slot, in the event or in what was learned."""
    own = shorten(feature.name)
    found = dict.fromkeys(name for name in in_event if name != own)
    if names is not None:
        found |= dict.fromkeys(name for name in names[feature.slot] if name != own)
    return list(found)
