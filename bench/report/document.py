"""Parts of an HTML page that needs nothing else: styles and drawings are inside, and no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

from bench.report import svg
from bench.report.chart import Chart
from bench.report.tables import Table


def document(title: str, body: str) -> str:
    """The whole page; its body is HTML."""
    style = sheet("page.css") + sheet("chart.css")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def sheet(name: str) -> str:
    """A style sheet that lies beside this file."""
    return resources.files("bench.report").joinpath(name).read_text(encoding="utf-8")


def section(title: str, inner: str) -> str:
    """HTML under a heading; nothing where there is none."""
    return f"<section><h2>{escape(title)}</h2>{inner}</section>" if inner else ""


def listing(texts: Sequence[str]) -> str:
    """Texts as a list."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def figure(chart: Chart) -> str:
    """A chart with its title, legend and text."""
    entries = "".join(
        f"<li>{svg.swatch(s.place, s.join, s.markers or s.join == 'solid')}{escape(s.title)}</li>"
        for s in chart.series
    )
    return (
        f"<figure><h3>{escape(chart.title)}</h3>{svg.draw(chart)}"
        f'<ul class="legend">{entries}</ul><figcaption>{escape(chart.text)}</figcaption></figure>'
    )


def table_of(table: Table, heading: bool = True) -> str:
    """A table with its title and text."""
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


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Words, and what is said of each."""
    return "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in pairs) + "</dl>"
