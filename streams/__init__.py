"""Events in; checkpoints and snapshots out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.source import open_source as open_source
    from streams.trainer import train as train

_HOMES = {"open_source": "streams.source", "train": "streams.trainer"}
__all__ = ["open_source", "train"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
