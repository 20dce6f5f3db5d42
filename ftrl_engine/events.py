"""Events that are Python mappings, one at a time: the careful path beside the fast ones.

Whatever a fast path cannot take (escapes, nesting) comes here, so both must give the same
slots. Nested mappings are flattened with dots; a list is one value each; ``None``, an empty
text and an empty list are missing values. A float in a token field is written as Python
writes it, and as a whole number where it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import DataError
from ftrl_engine.hashing import MIN_BITS, as_buffer, salt
from ftrl_engine.jit import kernel
from ftrl_engine.kept import Kept
from ftrl_engine.plan import KIND, NAME_HI, NAME_LO, SKIP, UNKNOWN, Plan, find_field, make_plan
from ftrl_engine.rows import finish
from ftrl_engine.schema import Schema
from ftrl_engine.sink import Sink, begin, make_sink
from ftrl_engine.values import DECIMAL_FORM, FALSE_FORM, INTEGER_FORM, TEXT, TRUE_FORM, WORD, add_value

MAX_DEPTH = 32
MAX_KNOWN_SALTS = 1 << 16
_EXACT = 2.0**53

Value = tuple[str, int, str]  # field, form, text
Skips = Callable[[str, bool], bool]


class EventEncoder:
    """Writes mappings to a sink by one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._sink: Sink | None = None
        self._words: Any = None  # of the plan and of that sink
        self._salts: dict[str, int] = {}
        bounds = plan.fields[:, [NAME_LO, NAME_HI, KIND]].tolist()
        self._kinds: dict[str, int] = {plan.names[lo:hi].tobytes().decode(): kind for lo, hi, kind in bounds}

    def add(self, event: Mapping[str, Any], sink: Sink, record: int, need_label: bool) -> None:
        """Add one event as the row of ``record``; DataError where a value has no meaning."""
        salts, forms, bounds, pieces = [], [], [0], []
        for field, form, text in flatten(event, self._skips):
            try:
                data = text.encode()
                salts.append(self._salt(field))
            except UnicodeEncodeError as error:
                raise DataError(f"field {field!r}: {text!r} holds half of a surrogate pair") from error
            forms.append(form)
            pieces.append(data)
            bounds.append(bounds[-1] + len(data))
        if sink is not self._sink:
            self._sink, self._words = sink, KEPT.words(self.plan, sink)
        add_event(
            self._words, np.array(salts, dtype=np.uint64), np.array(forms, dtype=np.int64),
            np.array(bounds, dtype=np.int64), as_buffer(b"".join(pieces), padding=64), record, need_label,
        )  # fmt: skip

    def _skips(self, field: str, whole: bool) -> bool:
        """Whether the field means nothing; ``whole`` asks about an object with fields of its own."""
        others = UNKNOWN if whole else self.plan.others
        return self._kinds.get(field, others) == SKIP

    def _salt(self, field: str) -> int:
        known = self._salts.get(field)
        if known is None:
            known = salt(field)
            if len(self._salts) < MAX_KNOWN_SALTS:
                self._salts[field] = known
        return known


KEPT = Kept(lambda: (make_plan(Schema(), MIN_BITS), make_sink(0, 0)))
_recall = KEPT.recall


@kernel
def add_event(
    words: Any, salts: NDArray[np.uint64], forms: NDArray[np.int64], bounds: NDArray[np.int64],
    data: NDArray[np.uint8], record: int, need_label: bool,
) -> None:  # fmt: skip
    """Add the row whose value i belongs to the field with ``salts[i]``; ``words`` are those of KEPT."""
    plan, sink = _recall(words)
    begin(sink)
    for i in range(len(salts)):
        field = find_field(plan, salts[i])
        add_value(plan, sink, field, salts[i], forms[i], data, bounds[i], bounds[i + 1])
    finish(plan, sink, record, need_label)


def flatten(event: Mapping[str, Any], skips: Skips = lambda field, whole: False) -> Iterator[Value]:
    """(field, form, text) of every value that is not missing, in the order of the event.

    What ``skips(field, whole)`` is true of is not looked at, so it may hold anything.
    """
    if not isinstance(event, Mapping):
        raise DataError(f"an event must be an object of fields, got {type(event).__name__}")
    yield from _walk(event, "", 0, skips)


def _walk(event: Mapping[str, Any], prefix: str, depth: int, skips: Skips) -> Iterator[Value]:
    if depth > MAX_DEPTH:
        raise DataError(f"nested more than {MAX_DEPTH} deep")
    for key, value in event.items():
        field = prefix + str(key)
        if type(value) is str:  # as nearly all are, and asking what else it might be takes longer
            if not skips(field, False):
                yield field, TEXT, value
            continue
        if value is None or skips(field, isinstance(value, Mapping)):
            continue
        if isinstance(value, Mapping):
            yield from _walk(value, field + ".", depth + 1, skips)
        elif isinstance(value, list | tuple | set | frozenset | np.ndarray):
            yield from _words(field, value)
        else:
            yield (field, *_scalar(field, value))


def _words(field: str, values: Iterable[Any]) -> Iterator[Value]:
    # A set has no order of its own, and the order of features decides the last bits of a sum.
    for value in sorted(values, key=str) if isinstance(values, set | frozenset) else values:
        if value is None:
            continue
        if isinstance(value, Mapping | list | tuple | set | frozenset | np.ndarray):
            raise DataError(f"field {field!r}: a list may hold text and numbers, not {type(value).__name__}")
        yield field, WORD, _scalar(field, value)[1]


def _scalar(field: str, value: Any) -> tuple[int, str]:
    if isinstance(value, str):
        return TEXT, value
    if isinstance(value, bool | np.bool_):
        return (TRUE_FORM, "true") if value else (FALSE_FORM, "false")
    if isinstance(value, int | np.integer):
        return INTEGER_FORM, _integer_text(field, value)
    if isinstance(value, float | np.floating):
        return DECIMAL_FORM, float_text(float(value))
    raise DataError(f"field {field!r}: a value must be text, a number or a truth value, got {value!r}")


def _integer_text(field: str, value: Any) -> str:
    try:
        return str(value)
    except ValueError as error:
        raise DataError(f"field {field!r}: an integer of more than 4300 digits") from error


def float_text(x: float) -> str:
    """A float as a token: whole numbers without a point, others as Python writes them."""
    return str(int(x)) if x.is_integer() and abs(x) < _EXACT else repr(x)
