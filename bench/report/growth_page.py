"""What ``ftrl bench --growth`` found, as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from bench.groups.growth import FILE, MEMORY, ROW
from bench.report.document import definitions, document, figure, section, table_of
from bench.report.growth_charts import exponents_of, growth_charts, points_of
from bench.report.tables import Table
from bench.result import Result
from bench.table import quantity
from ftrl_engine.errors import DataError

TITLE = "How ftrl-engine grows"
Facts = Mapping[str, object]


def write(machine: Facts, results: Sequence[Result], path: Path) -> None:
    """Write the page; DataError where that fails."""
    found = [result for result in results if result.group == "growth"]
    try:
        path.write_text(page(machine, found), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"--plot {path}: cannot be written ({error.strerror}); choose another place"
        ) from error


def page(machine: Facts, results: Sequence[Result]) -> str:
    """The whole document."""
    figures = "".join(figure(chart) for chart in growth_charts(results))
    body = "".join([
        f"<h1>{escape(TITLE)}</h1>", f'<p class="under">{escape(_machine(machine))}</p>',
        f'<p class="headline">{escape(headline(results))}</p>',
        f'<div class="figures">{figures}</div>',
        section("Figures", table_of(_table(results), heading=False)),
        section("Where it was measured", definitions(_facts(machine))),
    ])  # fmt: skip
    return document(TITLE, body)


def headline(results: Sequence[Result]) -> str:
    """What was found, in three sentences."""
    row, file = exponents_of(results, ROW), exponents_of(results, FILE)
    peaks = points_of(results, MEMORY)
    return (
        f"The time of one row grows with its features to the power {_range(row)}. The time from a file to a "
        f"model grows with the rows to the power {_range(file)}. Beside the state table, memory peaks at "
        f"{peaks[0].median:.0f} MB with {peaks[0].size:,.0f} rows and at {peaks[-1].median:.0f} MB with "
        f"{peaks[-1].size:,.0f}."
    )


def _range(exponents: Sequence[Result]) -> str:
    first, *others = exponents
    text = f"{first.median:.2f} ({first.min:.2f} to {first.max:.2f} in {first.runs} rounds"
    for other in others:
        text += f"; {other.median:.2f} {other.name.partition(': growth ')[2]}"
    return f"{text})"


def _table(results: Sequence[Result]) -> Table:
    rows = [
        [result.name, *(quantity(value) for value in (result.median, result.min, result.max)), result.unit]
        for result in results
    ]
    return Table("", "Medians of all rounds, with the least and the largest value.",
                 ["what", "median", "least", "most", "unit"], rows)  # fmt: skip


def _machine(machine: Facts) -> str:
    return (
        f"{machine['processor']}, {machine['usable_cores']} cores, {machine['memory_gb']} GB, "
        f"Python {machine['python']}"
    )


def _facts(machine: Facts) -> list[tuple[str, str]]:
    packages = machine["packages"]
    assert isinstance(packages, dict)
    versions = ", ".join(f"{name} {packages[name]}" for name in ("ftrl-engine", "numpy", "numba"))
    return [
        ("machine", _machine(machine)),
        ("system", str(machine["system"])),
        ("versions", versions),
        ("load of the machine before", str(machine["load_before"])),
    ]
