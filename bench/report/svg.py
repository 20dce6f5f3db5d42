"""Charts as SVG without scripts or fonts of their own; colours are those of the page around them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.report.chart import Axis, Bar, Chart, Forest, Series, tick_label

# Units of the drawing; a page shows it about as large as this, a phone somewhat smaller.
WIDTH, HEIGHT = 520.0, 360.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 78.0, 76.0, 14.0, 46.0
_PLACES = 16  # colours of the style sheet
_SIZE = 3.4  # of a marker


def draw(chart: Chart, style: str = "") -> str:
    """One <svg> element; ``style`` is a style sheet for a file that stands alone."""
    box = _Box(chart.x, chart.y, WIDTH - (_RIGHT if chart.right else 16.0))
    parts = [_grid(box, chart), *_levels(box, chart)]
    clip = f"clip-{chart.name}"
    parts.append(
        f'<clipPath id="{clip}"><rect x="{box.left:.1f}" y="{box.top:.1f}" '
        f'width="{box.right - box.left:.1f}" height="{box.bottom - box.top:.1f}"/></clipPath>'
        f'<g clip-path="url(#{clip})">'
    )
    if chart.diagonal:
        least, most = chart.x.least, chart.x.most
        parts.append(f'<path class="ideal" d="{_path(box, [(least, least), (most, most)])}"/>')
    # The first contender is the reference: it is drawn last, over the others.
    ordered = sorted(chart.series, key=lambda s: -s.place)
    parts += [_shade(box, s) for s in ordered if s.band]
    parts += [_line(box, s, chart) for s in ordered]
    parts.append("</g>")
    return _svg(chart.title, HEIGHT, "".join(parts), style)


class _Box:
    """The area between the axes."""

    def __init__(self, x: Axis, y: Axis, right: float) -> None:
        self.x, self.y = x, y
        self.left, self.right, self.top, self.bottom = _LEFT, right, _TOP, HEIGHT - _BOTTOM

    def at(self, x: float, y: float) -> tuple[float, float]:
        across, up = self.x.share(x), self.y.share(y)
        # Far outside it does not matter where, and short numbers keep the page small.
        across, up = min(max(across, -9.0), 9.0), min(max(up, -9.0), 9.0)
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )


def _svg(title: str, height: float, inner: str, style: str) -> str:
    sheet = f"<style>{style}</style>" if style else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'class="chart"><title>{escape(title)}</title>{sheet}{inner}</svg>'
    )


def _grid(box: _Box, chart: Chart) -> str:
    parts = []
    for tick in chart.x.ticks():
        x, _ = box.at(tick, chart.y.least)
        parts.append(f'<path class="grid" d="M{x:.1f} {box.top:.1f}V{box.bottom:.1f}"/>')
        parts.append(_text(x, box.bottom + 17, tick_label(tick), "middle"))
    for tick in chart.y.ticks():
        _, y = box.at(chart.x.least, tick)
        parts.append(f'<path class="grid" d="M{box.left:.1f} {y:.1f}H{box.right:.1f}"/>')
        parts.append(_text(box.left - 6, y + 4, tick_label(tick), "end"))
    middle = (box.left + box.right) / 2
    parts.append(_text(middle, HEIGHT - 8, chart.x.label, "middle", "label"))
    parts.append(_upright(13, chart.y.label, box))
    if chart.right is not None:
        parts.append(_right_axis(box, chart.y, *chart.right))
    return "".join(parts)


def _right_axis(box: _Box, y: Axis, label: str, factor: float) -> str:
    scale = Axis(label, y.least * factor, y.most * factor)
    parts = []
    for tick in scale.ticks():
        _, at = box.at(box.x.least, tick / factor)
        parts.append(_text(box.right + 6, at + 4, tick_label(tick), "start"))
    return "".join(parts) + _upright(WIDTH - 8, label, box)


def _upright(x: float, text: str, box: _Box) -> str:
    y = (box.top + box.bottom) / 2
    return (
        f'<text class="label" transform="translate({x:.1f} {y:.1f}) rotate(-90)" '
        f'text-anchor="middle">{escape(text)}</text>'
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _levels(box: _Box, chart: Chart) -> list[str]:
    parts = []
    for value, words in chart.levels:
        _, y = box.at(chart.x.least, value)
        parts.append(f'<path class="level" d="M{box.left:.1f} {y:.1f}H{box.right:.1f}"/>')
        parts.append(_text(box.left + 4, y - 4, words, "start"))
    return parts


def _path(box: _Box, points: Sequence[tuple[float, float]]) -> str:
    places = [box.at(x, y) for x, y in points]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def _shade(box: _Box, series: Series) -> str:
    upper = [(x, high) for x, _, high in series.band]
    lower = [(x, low) for x, low, _ in reversed(series.band)]
    return f'<path class="band c{series.place % _PLACES}" d="{_path(box, upper + lower)}Z"/>'


def _line(box: _Box, series: Series, chart: Chart) -> str:
    kind = f"c{series.place % _PLACES}"
    first = " first" if series.place == 0 else ""
    parts = (
        []
        if series.join == "none"
        else [f'<path class="line {kind}{first} {series.join}" d="{_path(box, series.points)}"/>']
    )
    if series.markers or chart.diagonal:
        for x, y in series.points:
            tip = f"{series.title}: {chart.x.label} {_number(x)}, {chart.y.label} {_number(y)}"
            shape = marker(series.place, *box.at(x, y))
            parts.append(f'<path class="mark {kind}" d="{shape}"><title>{escape(tip)}</title></path>')
    return f"<g><title>{escape(series.title)}</title>{''.join(parts)}</g>"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.5g}"


def marker(place: int, x: float, y: float) -> str:
    """The shape of a contender, so that colours alone need not be told apart."""
    a = _SIZE
    shapes = (
        f"M{x - a:.1f} {y:.1f}a{a} {a} 0 1 0 {2 * a} 0a{a} {a} 0 1 0 {-2 * a} 0Z",
        f"M{x - a:.1f} {y - a:.1f}h{2 * a}v{2 * a}h{-2 * a}Z",
        f"M{x:.1f} {y - a * 1.2:.1f}l{a * 1.2:.1f} {a * 2.1:.1f}h{-a * 2.4:.1f}Z",
        f"M{x:.1f} {y - a * 1.3:.1f}l{a * 1.3:.1f} {a * 1.3:.1f}l{-a * 1.3:.1f} "
        f"{a * 1.3:.1f}l{-a * 1.3:.1f} {-a * 1.3:.1f}Z",
        f"M{x:.1f} {y + a * 1.2:.1f}l{a * 1.2:.1f} {-a * 2.1:.1f}h{-a * 2.4:.1f}Z",
    )
    return shapes[place % len(shapes)]


def swatch(place: int, join: str = "solid", marked: bool = True) -> str:
    """The line and marker of a contender, for a legend."""
    kind = f"c{place % _PLACES}"
    first = " first" if place == 0 else ""
    line = "" if join == "none" else f'<path class="line {kind}{first} {join}" d="M1 6H25"/>'
    mark = f'<path class="mark {kind}" d="{marker(place, 13, 6)}"/>' if marked else ""
    return f'<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">{line}{mark}</svg>'


_ROW, _SIDE = 44.0, 14.0


def draw_forest(forest: Forest, style: str = "") -> str:
    """Rows of ratios, each under its words; an interval without an upper end has an arrow."""
    height = _ROW * len(forest.bars) + 60.0
    right = WIDTH - _SIDE

    def at(value: float) -> float:
        return _SIDE + min(max(forest.x.share(value), 0.0), 1.0) * (right - _SIDE)

    bottom = height - 44.0
    parts = []
    for tick in forest.x.ticks():
        kind = "one" if tick == 1 else "grid"
        parts.append(f'<path class="{kind}" d="M{at(tick):.1f} 6V{bottom:.1f}"/>')
        parts.append(_text(at(tick), bottom + 17, tick_label(tick), "middle"))
    parts.append(_text(WIDTH / 2, height - 8, forest.x.label, "middle", "label"))
    for number, bar in enumerate(forest.bars):
        parts.append(_bar(bar, 6.0 + _ROW * number, at, right))
    return _svg(forest.title, height, "".join(parts), style)


def _bar(bar: Bar, top: float, at: object, right: float) -> str:
    """The name in the upper part of the row, with what there is to say; nothing is drawn on it."""
    assert callable(at)
    kind = f"c{bar.place % _PLACES}"
    words = f'<tspan class="soft"> {escape(bar.words)}</tspan>' if bar.filled is None else ""
    name = f'<text class="name" x="{_SIDE:.1f}" y="{top + 15:.1f}">{escape(bar.title)}{words}</text>'
    parts = [name]
    for values, hollow, shift in ((bar.filled, "", 24.0), (bar.hollow, " hollow", 35.0)):
        if values is None:
            continue
        value, low, high = values
        start, end = at(low if low is not None else value), right if high is None else at(high)
        place = top + shift
        parts.append(f'<path class="whisker {kind}{hollow}" d="M{start:.1f} {place:.1f}H{end:.1f}"/>')
        if high is None:
            parts.append(f'<path class="whisker {kind}" d="M{end - 6:.1f} {place - 4:.1f}l6 4l-6 4"/>')
        parts.append(
            f'<circle class="mark {kind}{hollow}" cx="{at(value):.1f}" cy="{place:.1f}" r="4">'
            f"<title>{escape(bar.title)}: {value:.3g}</title></circle>"
        )
    return "".join(parts)
