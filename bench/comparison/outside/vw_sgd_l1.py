"""Vowpal Wabbit as it comes: adaptive, normalized, invariant gradient descent, with ``--l1``."""

from __future__ import annotations

from pathlib import Path

from bench.comparison.method import PER_EVENT, Method
from bench.comparison.outside import vw_text
from bench.comparison.outside.base import Rows, Run, Runner, Settings

METHOD = Method("vw_sgd_l1", "Vowpal Wabbit SGD --l1", "learning_rate", "l1", PER_EVENT, strength=20.0)
NEEDS, PACKAGE = "pylibvw", "vowpalwabbit"
MOST_ROWS = 200_000
NOTE = (
    "the same slots as text; its default learner (adaptive, normalized, invariant) with a truncated gradient "
    "that spares the constant feature"
)


def open_rows(rows: Rows, directory: Path) -> Runner:
    """Writes the text once."""
    path = directory / "rows.vw"
    vw_text.write_rows(rows, path)
    bits = vw_text.bits_for(rows.n_slots)

    def run(settings: Settings) -> Run:
        words = [word for name, value in settings.items() for word in (f"--{name}", repr(value))]
        return vw_text.run_file(path, bits, ["--no_bias_regularization", *words])

    return run
