"""The report as one HTML page that needs nothing else: styles and drawings are inside, and no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from bench.report import svg
from bench.report.chart import Chart
from bench.report.charts import charts, forest
from bench.report.conclusions import beside_the_paper, conclusions, headline, not_first, remarks
from bench.report.tables import Table, cost, grid, levels, overview, ratios
from bench.report.texts import GLOSSARY, HOW, METHODS, TITLE, facts_of, subtitle

Found = Mapping[str, Any]


def page(found: Found) -> str:
    """The whole document."""
    body = "".join([
        f"<h1>{escape(TITLE)}</h1>", f'<p class="under">{escape(subtitle(found))}</p>',
        f'<p class="headline">{escape(headline(found))}</p>',
        _section("What to conclude", _list(conclusions(found))),
        _section("Where FTRL-Proximal does not win", _list(not_first(found))),
        _forest(found), _drawings(found),
        _section("Figures", "".join(_table(table) for table in _shown(found))),
        _paper(found),
        _section("What was compared, and how", _list(HOW) + _methods(found)),
        _section("Before relying on a figure", _list(remarks(found))),
        _section("Words", _definitions(GLOSSARY)),
        _section("Everything that was tried", _grids(found)),
        _section("To do it again", _again(found)),
    ])  # fmt: skip
    style = sheet("page.css") + sheet("chart.css")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(TITLE)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def sheet(name: str) -> str:
    """A style sheet that lies beside this file."""
    return resources.files("bench.report").joinpath(name).read_text(encoding="utf-8")


def _shown(found: Found) -> list[Table]:
    return [overview(found), ratios(found), levels(found), cost(found)]


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inner}</section>" if inner else ""


def _list(texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def _forest(found: Found) -> str:
    made = forest(found)
    if made is None:
        return ""
    caption = f"<figcaption>{escape(made.text)}</figcaption>"
    figure = f'<figure class="wide">{svg.draw_forest(made)}{caption}</figure>'
    return _section(made.title, f'<div class="figures">{figure}</div>')


def _drawings(found: Found) -> str:
    return _section(
        "Plots", f'<div class="figures">{"".join(_figure(chart) for chart in charts(found))}</div>'
    )


def _figure(chart: Chart) -> str:
    entries = "".join(f"<li>{svg.swatch(s.place)}{escape(s.title)}</li>" for s in chart.series)
    return (
        f"<figure><h3>{escape(chart.title)}</h3>{svg.draw(chart)}"
        f'<ul class="legend">{entries}</ul><figcaption>{escape(chart.text)}</figcaption></figure>'
    )


def _table(table: Table, heading: bool = True) -> str:
    head = "".join(f"<th{_kind(i, table)}>{escape(name)}</th>" for i, name in enumerate(table.columns))
    rows = []
    for number, row in enumerate(table.rows):
        mark = svg.swatch(table.places[number]) if table.places else ""
        cells = [
            f"<td{_kind(i, table)}>{mark if i == 0 else ''}{escape(cell)}</td>" for i, cell in enumerate(row)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    title = f"<h3>{escape(table.title)}</h3>" if heading else ""
    text = f"<p>{escape(table.text)}</p>" if table.text else ""
    return (
        f'{title}{text}<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _kind(column: int, table: Table) -> str:
    if column == 0:
        return ' class="word"'
    return ' class="word words"' if column < table.words else ""


def _paper(found: Found) -> str:
    text = beside_the_paper(found)
    return _section("Beside the published figures", f"<p>{escape(text)}</p>") if text else ""


def _methods(found: Found) -> str:
    known = [
        (facts["title"], METHODS.get(name) or facts.get("note") or "")
        for name, facts in found["contenders"].items()
        if "skipped" not in facts
    ]
    return _definitions([(title, text) for title, text in known if text])


def _definitions(pairs: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in pairs) + "</dl>"


def _grids(found: Found) -> str:
    parts = []
    for facts in found["contenders"].values():
        if "skipped" not in facts:
            table = grid(facts)
            label = f"{table.title}: {len(table.rows)} settings"
            parts.append(
                f"<details><summary>{escape(label)}</summary>{_table(table, heading=False)}</details>"
            )
    return "".join(parts)


def _again(found: Found) -> str:
    command = escape(found["about"]["command"])
    return f"<pre>{command}</pre>{_definitions(facts_of(found))}"
