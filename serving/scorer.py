"""Scorer: the bytes of a request in, its scores out, by one snapshot."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import DataError
from ftrl_engine.plan import KIND, LABEL, SKIP, WEIGHT, Plan, make_plan
from ftrl_engine.schema import Schema
from ftrl_engine.sink import BAD_NUMBER, OK, REASONS, TOO_MANY_FEATURES, make_sink
from ftrl_engine.snapshot import Snapshot
from serving.request_answer import answer_request
from serving.request_arrays import (
    KEPT,
    ROW,
    VALUE,
    Values,
    Weights,
    make_answer,
    make_likeness,
    make_scan,
    make_work,
)
from serving.request_json import KEY_CELLS, ROOM
from serving.request_like import MAX_LIKE_BYTES
from serving.request_rows import (
    MAX_REQUEST_FEATURES,
    NOT_FINITE,
    TOO_MUCH_WORK,
    score_request,
)
from serving.request_values import (
    FieldSalts,
    TooLargeError,
    TooManyFieldsError,
    ValueList,
    decode_request,
)
from serving.score_counts import FIRST_RESULT, MISSING, UNKNOWN
from serving.settings import DEFAULT_MAX_BODY, DEFAULT_MAX_CANDIDATES, DEFAULT_MAX_FIELDS, ServeSettings

# Values of a request that takes the fast way.
_FAST_VALUES = 1 << 18


class Scored(msgspec.Struct, frozen=True, eq=False):
    """The answer to one request.

    results  float64, as in :class:`serving.request_arrays.Answer`
    """

    results: NDArray[np.float64]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """In the order of the candidates."""
        return self.results[FIRST_RESULT:]

    @property
    def scores(self) -> list[float]:
        """The probabilities."""
        scores: list[float] = self.probabilities.tolist()
        return scores

    @property
    def unknown(self) -> float:
        """Fields that changed no score.

        The schema does not name them, and either it leaves such fields out or the model has no weight for
        what they hold.
        """
        return float(self.results[UNKNOWN])

    @property
    def missing(self) -> float:
        """Fields of the schema without a value, over all rows."""
        return float(self.results[MISSING])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scored) and np.array_equal(self.results, other.results)

    __hash__ = None  # type: ignore[assignment]


class Scorer:
    """Scores requests by one snapshot; one thread at a time.

    max_body bytes and max_candidates a request, max_fields in its context and in each candidate;
    more raises TooLargeError.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        max_candidates: int = DEFAULT_MAX_CANDIDATES,
        max_body: int = DEFAULT_MAX_BODY,
        max_fields: int = DEFAULT_MAX_FIELDS,
    ) -> None:
        self._max_fields = max_fields
        self._max_candidates, self._max_body = max_candidates, max_body
        self._plan = scoring_plan(snapshot)
        self._salts = FieldSalts()
        self._single = _single_fields(snapshot.schema)
        self._data = bytearray(max_body + ROOM + MAX_LIKE_BYTES)
        self._values = Values(
            keys=np.empty(_FAST_VALUES, dtype=np.int64),
            salts=np.empty(_FAST_VALUES, dtype=np.uint64),
            forms=np.empty(_FAST_VALUES, dtype=np.int64),
            starts=np.empty(_FAST_VALUES, dtype=np.int64),
            ends=np.empty(_FAST_VALUES, dtype=np.int64),
            bounds=np.empty(max_candidates + 1, dtype=np.int64),
            data=np.frombuffer(self._data, dtype=np.uint8),
        )
        self._answer = make_answer(max_candidates)
        self._scan = make_scan(_FAST_VALUES, KEY_CELLS)
        self._like = make_likeness()
        self._work = make_work(self._plan, _FAST_VALUES, _FAST_VALUES)
        self._fixed = (self._plan, make_sink(0, 0))
        self._results = self._answer.results
        self._weigh(snapshot)

    def successor(self, snapshot: Snapshot) -> Scorer | None:
        """A scorer of a snapshot of the same schema, in the scratch of this one and in its thread.

        None where the schema is another one. It is ready at once and needs no memory but the weights.
        """
        mine = self.snapshot
        if snapshot.schema != mine.schema or snapshot.bits != mine.bits:
            return None
        other = copy.copy(self)
        other._weigh(snapshot)
        return other

    def _weigh(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._weights = Weights(*snapshot.table, snapshot.intercept)
        self._words = KEPT.words(
            *self._fixed, self._values, self._scan, self._like, self._work, self._weights, self._answer
        )

    def score(self, body: bytes) -> Scored:
        """The scores of the request in ``body``; DataError says what is wrong with it."""
        if len(body) > self._max_body:
            raise TooLargeError(f"{len(body)} bytes are more than the {self._max_body} allowed")
        if not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError:
                return self.score_carefully(body)
        self._data[: len(body)] = body
        rows = answer_request(self._words, len(body), self._max_fields)
        if rows < 0:
            return self.score_carefully(body)
        return Scored(self._results[: FIRST_RESULT + rows].copy())

    def score_carefully(self, body: bytes) -> Scored:
        """The same for any request: what :meth:`score` does where the fast way is not open."""
        request = decode_request(body, self._max_candidates)
        listed = ValueList.of(request, self._salts, self._single)
        listed.check_fields(self._max_fields)
        values = listed.arrays()
        work = make_work(self._plan, int(values.bounds[0]), len(values.keys))
        answer = make_answer(request.rows)
        words = KEPT.words(*self._fixed, values, self._scan, self._like, work, self._weights, answer)
        reason = score_request(words, request.rows)
        if reason != OK:
            value, row = int(work.state[VALUE]), int(work.state[ROW])
            where = "" if row < 0 or request.candidates is None else f" of candidates[{row}]"
            raise _refusal(reason, listed.describe(value) if value >= 0 else None, where)
        return Scored(answer.results)


def scorer_of(settings: ServeSettings) -> Callable[[Snapshot], Scorer]:
    """Makes scorers within the limits of a server."""
    return partial(
        Scorer,
        max_candidates=settings.max_candidates,
        max_body=settings.max_body,
        max_fields=settings.max_fields,
    )


def scoring_plan(snapshot: Snapshot) -> Plan:
    """The plan of the snapshot's schema, in which label and importance are left out."""
    plan = make_plan(snapshot.schema, snapshot.bits)
    kinds = plan.fields[:, KIND]
    kinds[(kinds == LABEL) | (kinds == WEIGHT)] = SKIP
    return plan


def _single_fields(schema: Schema) -> frozenset[str]:
    """The fields that the schema says hold tokens or a number, so never an object."""
    return frozenset(field.name for field in schema.fields if field.kind != "auto")


def _refusal(reason: int, value: tuple[str, str] | None, where: str) -> DataError:
    if reason == TOO_MUCH_WORK:
        return TooLargeError(
            f"more than {MAX_REQUEST_FEATURES} features in one request, crosses included; send several"
        )
    if reason == NOT_FINITE:
        return DataError(f"the score{where} is not finite: a number field holds too large a number")
    if reason == TOO_MANY_FEATURES:
        return TooManyFieldsError(f"the event{where} cannot be scored: {REASONS[reason]}")
    if value is None:
        return DataError(f"the event{where} cannot be scored: {REASONS[reason]}")
    field, text = value
    if reason == BAD_NUMBER:
        return DataError(f"field {field!r}{where} must be a finite number, got {text!r}")
    return DataError(f"field {field!r}{where}: {REASONS[reason]}, got {text!r}")
