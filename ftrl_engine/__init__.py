"""Online sparse learning: hashed sparse features in, weights out.

The public names are loaded on first use, so that importing the package stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftrl_engine.batch import Batch as Batch
    from ftrl_engine.hasher import FeatureHasher as FeatureHasher
    from ftrl_engine.learners.base import build as build
    from ftrl_engine.schema import Schema as Schema
    from ftrl_engine.snapshot import Snapshot as Snapshot

__version__ = "0.1.0"

_HOMES = {
    "Batch": "ftrl_engine.batch",
    "FeatureHasher": "ftrl_engine.hasher",
    "Schema": "ftrl_engine.schema",
    "Snapshot": "ftrl_engine.snapshot",
    "build": "ftrl_engine.learners.base",
}
__all__ = ["Batch", "FeatureHasher", "Schema", "Snapshot", "build"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
