"""How to use what a comparison found: the commands that learn with the settings it chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.comparison.method import REFERENCE
from bench.report.conclusions import names_grouped
from bench.report.words import percent

Found = Mapping[str, Any]


def use_text(found: Found) -> str:
    """What the commands do."""
    share = percent(found["about"]["tolerance"])
    return (
        "Each command learns the whole source into the directory model, with the sparsest settings within "
        f"{share} of the lowest log loss. A penalty for each event is for streams about as long as this one."
    )


def commands(found: Found) -> list[tuple[str, str]]:
    """(title, command) of FTRL-Proximal, then of our learners that are as accurate with fewer weights."""
    names = [REFERENCE, *names_grouped(found)["fewer"]]
    return [
        (found["contenders"][name]["title"], found["learn"][name]) for name in names if name in found["learn"]
    ]
