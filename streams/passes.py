"""Passes over a source: the second and later ones have positions of their own, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
_MARK = "#pass"


def name_in_pass(partition: str, number: int) -> str:
    """The name under which the ``number``-th pass keeps what belongs to a partition."""
    return partition if number == 1 else f"{partition}{_MARK}{number}"


def of_pass(values: Mapping[str, T], number: int) -> dict[str, T]:
    """What belongs to the ``number``-th pass, by partition."""
    if number == 1:
        return {name: value for name, value in values.items() if _MARK not in name}
    suffix = name_in_pass("", number)
    return {name.removesuffix(suffix): value for name, value in values.items() if name.endswith(suffix)}
