"""The report as one HTML page that needs nothing else: styles and drawings are inside, and no scripts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from bench.report import svg
from bench.report.charts import charts, forest
from bench.report.conclusions import USE_TITLE, beside_the_paper, conclusions, not_first, remarks
from bench.report.document import definitions, document, figure, listing, section, table_of
from bench.report.headline import headline, headline_figures
from bench.report.tables import Table, cost, grid, levels, overview, ratios
from bench.report.texts import GLOSSARY, METHODS, TITLE, facts_of, how, subtitle
from bench.report.use import commands, use_text

Found = Mapping[str, Any]


def page(found: Found) -> str:
    """The whole document."""
    body = "".join([
        f"<h1>{escape(TITLE)}</h1>", f'<p class="under">{escape(subtitle(found))}</p>',
        f'<div class="headline"><p>{escape(headline(found))}</p>'
        f'<p class="figures-of">{escape(headline_figures(found))}</p></div>',
        section("What to conclude", listing(conclusions(found))),
        section("Where FTRL-Proximal does not win", listing(not_first(found))),
        section(USE_TITLE, _use(found)),
        _forest(found), _drawings(found),
        section("Figures", "".join(table_of(table) for table in _shown(found))),
        _paper(found),
        section("What was compared, and how", listing(how(found)) + _methods(found)),
        section("Before relying on a figure", listing(remarks(found))),
        section("Words", definitions(GLOSSARY)),
        section("Everything that was tried", _grids(found)),
        section("To do it again", _again(found)),
    ])  # fmt: skip
    return document(TITLE, body)


def _use(found: Found) -> str:
    parts = [f"<h3>{escape(title)}</h3><pre>{escape(command)}</pre>" for title, command in commands(found)]
    return f"<p>{escape(use_text(found))}</p>{''.join(parts)}"


def _shown(found: Found) -> list[Table]:
    return [overview(found), ratios(found), levels(found), cost(found)]


def _forest(found: Found) -> str:
    made = forest(found)
    if made is None:
        return ""
    caption = f"<figcaption>{escape(made.text)}</figcaption>"
    drawing = f'<figure class="wide">{svg.draw_forest(made)}{caption}</figure>'
    return section(made.title, f'<div class="figures">{drawing}</div>')


def _drawings(found: Found) -> str:
    return section("Plots", f'<div class="figures">{"".join(figure(chart) for chart in charts(found))}</div>')


def _paper(found: Found) -> str:
    text = beside_the_paper(found)
    return section("Beside the published figures", f"<p>{escape(text)}</p>") if text else ""


def _methods(found: Found) -> str:
    known = [
        (facts["title"], METHODS.get(name) or facts.get("note") or "")
        for name, facts in found["contenders"].items()
        if "skipped" not in facts
    ]
    return definitions([(title, text) for title, text in known if text])


def _grids(found: Found) -> str:
    parts = []
    for facts in found["contenders"].values():
        if "skipped" not in facts:
            table = grid(facts)
            label = f"{table.title}: {len(table.rows)} settings"
            parts.append(
                f"<details><summary>{escape(label)}</summary>{table_of(table, heading=False)}</details>"
            )
    return "".join(parts)


def _again(found: Found) -> str:
    command = escape(found["about"]["command"])
    return f"<pre>{command}</pre>{definitions(facts_of(found))}"
