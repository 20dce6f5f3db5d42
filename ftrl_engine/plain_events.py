"""Events that are plain dictionaries of text and numbers, encoded by way of their JSON.

Writing one as JSON and reading that by compiled code takes a tenth of what looking at each value in
Python takes. What the JSON would not tell apart, or not hold, is left to :mod:`ftrl_engine.events`: the
slots are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from ftrl_engine.json_keys import make_keys
from ftrl_engine.json_objects import KEPT, encode_json
from ftrl_engine.plan import Plan
from ftrl_engine.sink import Sink

MAX_TEXT = 1 << 16
_BEYOND = 64  # bytes that are read beyond a text
_NAMES = frozenset({str})
_ITEMS = frozenset({str, int, float, bool, type(None)})
_VALUES = _ITEMS | {list}


class PlainEvents:
    """Writes plain dictionaries to a sink by one plan; one thread at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._keys = plan, make_keys()
        self._memory = bytearray(MAX_TEXT + _BEYOND)
        self._data = np.frombuffer(self._memory, dtype=np.uint8)
        self._start, self._end = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
        self._encode = msgspec.json.Encoder().encode
        self._sink: Sink | None = None
        self._words: Any = None

    def add(self, event: Mapping[str, Any], sink: Sink) -> bool:
        """Add one event as a row, or refuse it; False: nothing is done."""
        if type(event) is not dict or not _NAMES.issuperset(map(type, event)):
            return False
        kinds = set(map(type, event.values()))
        if not kinds <= _ITEMS and not _are_lists_of_items(event, kinds):
            return False
        try:
            text = self._encode(event)
        except (ValueError, OverflowError, RecursionError):
            return False  # half of a surrogate pair, an integer of more than 64 bits
        # A number that is not finite is written as null.
        if len(text) > MAX_TEXT or (b"null" in text and (float in kinds or list in kinds)):
            return False
        if sink is not self._sink:
            self._sink, self._words = sink, KEPT.words(self._plan, sink, self._keys)
        self._memory[: len(text)] = text
        self._end[0] = len(text)
        done, _ = encode_json(self._words, self._data, self._start, self._end, 0, 1, False, False)
        return bool(done == 1)


def _are_lists_of_items(event: dict[str, Any], kinds: set[type]) -> bool:
    return kinds <= _VALUES and all(
        _ITEMS.issuperset(map(type, value)) for value in event.values() if type(value) is list
    )
