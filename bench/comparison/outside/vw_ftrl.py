"""Vowpal Wabbit with ``--ftrl``."""

from __future__ import annotations

from pathlib import Path

from bench.comparison.method import TOTAL, Method
from bench.comparison.outside import vw_text
from bench.comparison.outside.base import Rows, Run, Runner, Settings

METHOD = Method("vw_ftrl", "Vowpal Wabbit --ftrl", "ftrl_alpha", "l1", TOTAL, {"ftrl_beta": 1.0, "l2": 0.0})
NEEDS, PACKAGE = "pylibvw", "vowpalwabbit"
MOST_ROWS = 200_000
NOTE = "the same slots as text; float32 state; its constant feature is regularised like the others"


def open_rows(rows: Rows, directory: Path) -> Runner:
    """Writes the text once."""
    path = directory / "rows.vw"
    vw_text.write_rows(rows, path)
    bits = vw_text.bits_for(rows.n_slots)

    def run(settings: Settings) -> Run:
        words = [word for name, value in settings.items() for word in (f"--{name}", repr(value))]
        return vw_text.run_file(path, bits, ["--ftrl", *words])

    return run
