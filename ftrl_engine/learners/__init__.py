"""The learners: one a file in this folder, beside the few files that they share."""

from __future__ import annotations

import pkgutil

_SHARED = ("base", "intercept", "rows", "steps")


def learner_names() -> list[str]:
    """The learners there are."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _SHARED)
