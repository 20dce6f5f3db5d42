"""datatable with ``double_precision=True``."""

from __future__ import annotations

from bench.subjects import datatable

NEEDS = "datatable"


class Subject(datatable.Subject):
    """The same model with 64-bit state."""

    double_precision = True
