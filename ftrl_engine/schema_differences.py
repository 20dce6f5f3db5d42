"""What differs between two schemas, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftrl_engine.schema import Schema

_SHOWN, _SHOWN_CHARACTERS = 3, 80


def differences(given: Schema, model: Schema) -> str:
    """The first few: "field 'x': transform log1p, the model has log_bucket"."""
    ours, theirs = given.to_dict(), model.to_dict()
    fields, known = ours.pop("fields", {}), theirs.pop("fields", {})
    found = _between(ours, theirs, "")
    for name in dict.fromkeys((*fields, *known)):
        if name not in fields or name not in known:
            has, lacks = ("it", "the model") if name in fields else ("the model", "it")
            found.append(f"field {name!r}: {has} says what it is, {lacks} does not")
        else:
            found += _between(fields[name], known[name], f"field {name!r}: ")
    if not found and list(fields) != list(known):
        found = ["the fields stand in another order"]
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def _between(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> list[str]:
    return [
        f"{where}{key} {_shown(ours.get(key))}, the model has {_shown(theirs.get(key))}"
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key) != theirs.get(key)
    ]


def _shown(value: object) -> str:
    text = "none" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
