"""The report as Markdown, for a repository or a mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.chart import Chart, Forest
from bench.report.charts import charts, forest
from bench.report.conclusions import USE_TITLE, beside_the_paper, conclusions, not_first, remarks
from bench.report.headline import headline, headline_figures
from bench.report.tables import Table, tables
from bench.report.texts import GLOSSARY, METHODS, TITLE, facts_of, how, subtitle
from bench.report.use import commands, use_text

Found = Mapping[str, Any]


def markdown(found: Found) -> str:
    """The whole document; its pictures are the SVG files beside it."""
    parts = [f"# {TITLE}", subtitle(found), f"**{headline(found)}**", headline_figures(found)]
    parts += ["## What to conclude", _list(conclusions(found))]
    parts += ["## Where FTRL-Proximal does not win", _list(not_first(found))]
    parts += [f"## {USE_TITLE}", use_text(found)]
    parts += [f"{title}:\n\n```\n{command}\n```" for title, command in commands(found)]
    drawn = forest(found)
    shown: list[Chart | Forest] = [*charts(found)]
    for chart in [*([drawn] if drawn is not None else []), *shown]:
        parts += [f"![{chart.title}]({chart.name}.svg)", chart.text]
    for table in tables(found):
        parts += [f"## {table.title}", table.text, pipe_table(table)]
    paper = beside_the_paper(found)
    parts += ["## Beside the published figures", paper] if paper else []
    parts += ["## What was compared, and how", _list(how(found))]
    known = found["contenders"].items()
    named = [(facts["title"], METHODS.get(name) or facts.get("note")) for name, facts in known]
    parts += [_list([f"{title}: {text}" for title, text in named if text])]
    parts += ["## Before relying on a figure", _list(remarks(found))] if remarks(found) else []
    parts += ["## Words", _list([f"{name}: {text}" for name, text in GLOSSARY])]
    parts += ["## To do it again", f"```\n{found['about']['command']}\n```"]
    parts += [_list([f"{name}: {text}" for name, text in facts_of(found)])]
    return "\n\n".join(parts) + "\n"


def pipe_table(table: Table) -> str:
    """A table of Markdown."""
    lines = [_row(table.columns)]
    lines.append(_row(["---" if i < table.words else "---:" for i in range(len(table.columns))]))
    return "\n".join([*lines, *map(_row, table.rows)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
