"""Why an event is refused, in words: the field and the value that the compiled code gave a number for.

Plain Python and slow, because only refused events come here. The rules are those of
:mod:`ftrl_engine.values`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from ftrl_engine.events import Value
from ftrl_engine.naming import is_decimal, number_of
from ftrl_engine.plan import AUTO, LABEL, NUMBER, SKIP, UNKNOWN, WEIGHT, planned_fields
from ftrl_engine.schema import LABEL_NAMES, Field, Schema
from ftrl_engine.sink import BAD_LABEL, BAD_NUMBER, BAD_WEIGHT, MAX_VALUE, NO_LABEL, REASONS, TWO_LABELS
from ftrl_engine.values import DECIMAL_FORM, FALSE_FORM, TEXT, TRUE_FORM, WORD

_SHOWN_CHARACTERS, _SHOWN_FIELDS = 40, 8
TOLD = (NO_LABEL, BAD_LABEL, BAD_WEIGHT, BAD_NUMBER, TWO_LABELS)


class RefusalTeller:
    """Finds the value that a reason in TOLD means."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._fields = {field.name: (field, kind) for field, kind in planned_fields(schema)}
        self._others = AUTO if schema.others == "auto" else SKIP

    def skips(self, field: str, whole: bool) -> bool:
        """As :func:`ftrl_engine.events.flatten` asks it."""
        return self._about(field, UNKNOWN if whole else self._others)[1] == SKIP

    def tell(self, reason: int, values: Iterable[Value], names: Sequence[str]) -> str:
        """The reason in words; ``values`` are those of the event, ``names`` its fields."""
        values = [value for value in values if value[2]]
        if reason == NO_LABEL:
            return self._no_label(names)
        if reason == TWO_LABELS:
            labels = [repr(field) for field, _, _ in values if self._kind(field) == LABEL]
            return f"more than one label ({', '.join(labels)}); name the label's field in a schema"
        for field, form, text in values:
            kind = self._kind(field)
            if reason == BAD_LABEL and kind == LABEL and not self._is_label(form, text):
                return self._bad_label(field, text)
            if reason == BAD_WEIGHT and kind == WEIGHT and not 0 <= _number(form, text) <= MAX_VALUE:
                return f"importance {field!r} must be a number from 0 to {MAX_VALUE:g}, got {shown(text)}"
            if reason == BAD_NUMBER and not self._is_number(field, form, text):
                return f"field {field!r}: {REASONS[BAD_NUMBER]}, got {shown(text)}"
        return REASONS[reason]

    def _about(self, field: str, others: int) -> tuple[Field, int]:
        return self._fields.get(field) or (Field(field), others)

    def _kind(self, field: str) -> int:
        return self._about(field, self._others)[1]

    def _is_label(self, form: int, text: str) -> bool:
        if form in (TRUE_FORM, FALSE_FORM):
            return True
        x = _number(form, text)
        if self.schema.label_at_least is not None:
            return math.isfinite(x)
        return x in (0.0, 1.0) or (form == TEXT and text.lower() in ("true", "false"))

    def _is_number(self, field: str, form: int, text: str) -> bool:
        """Whether a value is what the field takes, be it a number or not."""
        about, kind = self._about(field, self._others)
        decimal = form == DECIMAL_FORM or (form == TEXT and is_decimal(text))
        if kind != NUMBER and not (kind == AUTO and decimal):
            return True
        x = _number(form, text)
        as_it_is = kind == NUMBER and about.transform == "none"
        return math.isfinite(x) and not (as_it_is and abs(x) > MAX_VALUE)

    def _no_label(self, names: Sequence[str]) -> str:
        label = self.schema.label
        empty = next((name for name in names if self._kind(name) == LABEL), None)
        if empty is not None:
            return f"no label: field {empty!r} has no value"
        what = f"the event has no field {label!r}"
        cure = ""
        if label is None:
            what = f"the event has none of the fields {', '.join(LABEL_NAMES)}"
            cure = '; name its field in a schema: label = "..."'
        some = ", ".join(name[:_SHOWN_CHARACTERS] for name in names[:_SHOWN_FIELDS])
        more = ", ..." if len(names) > _SHOWN_FIELDS else ""
        return f"no label: {what}; it has {some or 'no fields'}{more}{cure}"

    def _bad_label(self, field: str, text: str) -> str:
        if self.schema.label_at_least is not None:
            return f"label {field!r} must be a number, got {shown(text)}"
        cure = "write 0 and 1"
        if math.isfinite(number_of(text)):
            cure += f", or label = {{ field = {json.dumps(field)}, at_least = ... }} in a schema"
        return f"label {field!r} must be 0 or 1, got {shown(text)}; {cure}"


def shown(text: str) -> str:
    """A value in quotes, cut where it is long."""
    return f"{text[:_SHOWN_CHARACTERS]!r}{'...' if len(text) > _SHOWN_CHARACTERS else ''}"


def _number(form: int, text: str) -> float:
    """NaN where the value is no number: neither a truth value nor part of a list is one."""
    return math.nan if form in (TRUE_FORM, FALSE_FORM, WORD) else number_of(text)
