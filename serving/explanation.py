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
from typing import Any

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


class Explainer:
    """Explains events by one snapshot; any thread may call it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._namer = FeatureNamer(snapshot.schema, snapshot.bits)
        self._rates: NDArray[np.float64] | None = None
        self._new_rate = 0.0
        learner = snapshot.provenance.get("learner")
        if isinstance(learner, Mapping):
            self._use_rates(learner)

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

    def _use_rates(self, learner: Mapping[str, Any]) -> None:
        try:
            kind = find_learner(str(learner.get("name")))
            new = kind.rates(np.zeros(1), learner)
            known = self._snapshot.counts
            self._rates = None if known is None or new is None else kind.rates(known.astype(float), learner)
        except (ConfigError, KeyError, TypeError, ValueError):
            return  # of a learner or a version that is not known here
        self._new_rate = 0.0 if new is None else float(new[0])

    def _explain(self, features: list[Feature], names: Names | None) -> Explanation:
        snapshot = self._snapshot
        slots = np.array([feature.slot for feature in features], dtype=np.uint32)
        at = np.minimum(np.searchsorted(snapshot.slots, slots), max(0, len(snapshot.slots) - 1))
        known = snapshot.slots[at] == slots if len(snapshot.slots) else np.zeros(len(slots), dtype=bool)
        by_slot: dict[int, list[str]] = {}
        for feature in features:
            by_slot.setdefault(feature.slot, []).append(shorten(feature.name))
        contributions = []
        for feature, where, found in zip(features, at.tolist(), known.tolist(), strict=True):
            weight = float(snapshot.weights[where]) if found else 0.0
            count, confidence = self._confidence(where) if found else (None, None)
            contributions.append(
                Contribution(
                    feature.name, feature.fields, feature.slot, feature.value, weight,
                    weight * feature.value, count, confidence,
                    _others(feature, by_slot[feature.slot], names),
                )
            )  # fmt: skip
        margin = sum(one.contribution for one in contributions) + snapshot.intercept
        contributions.sort(key=lambda one: (-abs(one.contribution), one.name))
        uncertainty = self._uncertainty(features, at, known, margin) if self._new_rate else None
        return Explanation(sigmoid(margin), margin, snapshot.intercept, uncertainty, contributions)

    def _confidence(self, where: int) -> tuple[float | None, float | None]:
        """Count and confidence of a slot of the snapshot."""
        counts = self._snapshot.counts
        if counts is None or self._rates is None:
            return None, None
        return float(counts[where]), 1.0 - float(self._rates[where]) / self._new_rate

    def _uncertainty(
        self, features: list[Feature], at: NDArray[np.int64], known: NDArray[np.bool_], margin: float
    ) -> Uncertainty:
        # Features that share a slot move together: their values are summed first.
        values: dict[int, float] = {}
        places: dict[int, int] = {}
        for feature, where, found in zip(features, at.tolist(), known.tolist(), strict=True):
            values[feature.slot] = values.get(feature.slot, 0.0) + feature.value
            places[feature.slot] = where if found else -1
        sure = unsure = 0.0
        without = 0
        for slot, value in values.items():
            where = places[slot]
            if where >= 0 and self._rates is not None:
                sure += float(self._rates[where]) * value * value
            else:
                unsure += self._new_rate * value * value
                without += 1
        most = sure + unsure
        return Uncertainty(
            sure if without < len(values) and math.isfinite(sure) else None,
            most if math.isfinite(most) else None,
            (sigmoid(margin - most), sigmoid(margin + most)),
            without,
        )


def _others(feature: Feature, in_event: list[str], names: Names | None) -> list[str]:
    """The other features that are known to have the slot, in the event or in what was learned."""
    own = shorten(feature.name)
    found = dict.fromkeys(name for name in in_event if name != own)
    if names is not None:
        found |= dict.fromkeys(name for name in names[feature.slot] if name != own)
    return list(found)
