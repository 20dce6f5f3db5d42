"""The folder of a report: the page, its plots as files, and every figure as data."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report import svg
from bench.report.charts import charts, forest
from bench.report.document import sheet
from bench.report.markdown import markdown
from bench.report.page import page
from bench.report.plots import write_plots
from ftrl_engine.errors import DataError

Found = Mapping[str, Any]
_COLUMNS = (
    "contender", "rows", "log_loss", "log_loss_low", "log_loss_high", "auc", "normalized_entropy",
    "calibration", "nonzero_weights", "log_loss_lowest", "rows_per_second", "settings", "skipped",
)  # fmt: skip
_GRID_COLUMNS = (
    "contender", "settings", "log_loss", "auc", "calibration", "nonzero_weights", "chosen", "failed"
)  # fmt: skip


def write(found: Found, directory: Path) -> Path:
    """Write all files, over those of an earlier report; returns the path of the page."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (directory / "report.md").write_text(markdown(found), encoding="utf-8")
        _write_contenders(found, directory / "contenders.csv")
        _write_grid(found, directory / "grid.csv")
        _write_drawings(found, directory)
        write_plots(found, directory)
        (directory / "index.html").write_text(page(found), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"--report {directory}: cannot be written ({error.strerror}); choose another directory"
        ) from error
    return directory / "index.html"


def _write_drawings(found: Found, directory: Path) -> None:
    style = sheet("page.css").partition("* {")[0] + sheet("chart.css") + "svg{background:var(--paper)}"
    for chart in charts(found):
        (directory / f"{chart.name}.svg").write_text(svg.draw(chart, style), encoding="utf-8")
    ratios = forest(found)
    if ratios is not None:
        (directory / f"{ratios.name}.svg").write_text(svg.draw_forest(ratios, style), encoding="utf-8")


def _write_contenders(found: Found, path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        lines.writeheader()
        for name, facts in found["contenders"].items():
            line = dict(facts) | {"contender": name}
            if "skipped" not in facts:
                low, high = facts["log_loss_interval"]
                line |= {
                    "log_loss_low": low,
                    "log_loss_high": high,
                    "settings": json.dumps(facts["settings"]),
                }
            lines.writerow(line)


def _write_grid(found: Found, path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, _GRID_COLUMNS)
        lines.writeheader()
        for name, facts in found["contenders"].items():
            for tried in facts.get("grid", ()):
                lines.writerow(tried | {"contender": name, "settings": json.dumps(tried["settings"])})
