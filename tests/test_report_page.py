"""The report of `ftrl compare` in a real browser: what a person sees, in light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ftrl_engine import cli
from ftrl_engine.jit import COMPILED
from tests.browser import Browser, chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not COMPILED, reason="needs compiled learners"),
]

ROWS = 2000
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
# Relative luminance and contrast as WCAG 2.1 defines them.
CONTRAST = """
const luminance = (c) => c.match(/[0-9.]+/g).slice(0, 3).map(Number)
  .map((x) => x / 255).map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
  .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
const ground = luminance(getComputedStyle(document.body).backgroundColor);
const against = (c) => {
  const [low, high] = [ground, luminance(c)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    clicks, report = folder / "clicks.jsonl", folder / "report"
    words = ["simulate", "--to", str(clicks), "--rows", str(ROWS), "--ctr", "0.2", "--users", "300"]
    assert cli.main([*words, "--items", "200", "--quiet"]) == 0
    words = ["compare", str(clicks), "--schema", "clicks", "--no-programs", "--budget", "13"]
    assert cli.main([*words, "--report", str(report), "--quiet"]) == 0
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_report_can_be_read(
    report: Path, browser: Browser, size: str, scheme: str, tmp_path: Path
) -> None:
    browser.resize(*SIZES[size], scheme)
    browser.open(f"file://{report}/index.html")
    assert browser.complaints() == []
    # Wide tables scroll inside; the page does not.
    assert browser.run("return document.documentElement.scrollWidth") <= SIZES[size][0]
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.removeprefix("rgb(").rstrip(")").split(","))) < 150) == (scheme == "dark")
    texts = browser.run(
        CONTRAST + "return ['h1', 'h2', 'p', 'td', 'figcaption', 'li']"
        ".map((s) => against(getComputedStyle(document.querySelector(s)).color));"
    )
    assert min(texts) >= 4.5, "WCAG 2.1 AA, text"
    lines = browser.run(
        CONTRAST + "return [...Array(16).keys()].map((i) => {"
        "const probe = document.createElement('i'); probe.style.color = `var(--c${i})`;"
        "document.body.append(probe); const found = against(getComputedStyle(probe).color);"
        "probe.remove(); return found; });"
    )
    assert min(lines) >= 3.0, "WCAG 2.1 AA, graphical objects"
    browser.screenshot(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 50_000


def test_every_plot_has_titles_with_units_and_a_legend(report: Path, browser: Browser) -> None:
    browser.resize(*SIZES["desk"])
    browser.open(f"file://{report}/index.html")
    figures = browser.run(
        "return [...document.querySelectorAll('figure')].map((f) => [f, [...f.querySelectorAll('svg text')]])"
        ".map(([f, texts]) => ({texts: texts.map((t) => t.textContent),"
        "small: Math.min(...texts.map((t) => t.getBoundingClientRect().height)),"
        "legend: f.querySelectorAll('.legend li').length,"
        "caption: (f.querySelector('figcaption')?.textContent ?? '').length}));"
    )
    assert len(figures) >= 6
    for figure in figures:
        assert sum(text[0].isalpha() and len(text) > 2 for text in figure["texts"]) >= 2, figure["texts"]
        assert figure["small"] >= 9, "pixels"
        assert figure["caption"] > 40
    assert sum(figure["legend"] >= 5 for figure in figures) >= 5


@pytest.mark.parametrize("size", SIZES)
def test_the_text_of_the_plots_is_large_enough_and_runs_into_nothing(
    report: Path, browser: Browser, size: str
) -> None:
    browser.resize(*SIZES[size])
    browser.open(f"file://{report}/index.html")
    least = browser.run(
        "return Math.min(...[...document.querySelectorAll('svg.chart text')].map((t) => "
        "parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getBoundingClientRect().width / 520));"
    )
    assert least >= 10, "pixels"
    crossed = browser.run(
        "return [...document.querySelectorAll('svg.chart')].flatMap((svg) => {"
        "const box = (e) => e.getBoundingClientRect(), inner = box(svg);"
        "const texts = [...svg.querySelectorAll('text')], marks = [...svg.querySelectorAll('circle')];"
        "const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&"
        "  Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;"
        "return texts.filter((t, i) => box(t).left < inner.left - 1 || box(t).right > inner.right + 1 ||"
        "  [...texts.slice(i + 1), ...marks].some((other) => over(box(t), box(other))))"
        ".map((t) => `${svg.querySelector('title').textContent}: ${t.textContent}`); });"
    )
    assert crossed == []
