"""Which charts a report has, made of its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.comparison.method import REFERENCE
from bench.comparison.results import AT_LOSS
from bench.report.chart import Axis, Bar, Chart, Forest, Series, padded

Found = Mapping[str, Any]
# The share of the way from the lowest loss to that of a constant that a frontier shows.
_SHOWN = 0.4
_SKIPPED_BEGINNING = 0.04  # of a learning curve, where every learner knows next to nothing


def charts(found: Found) -> list[Chart]:
    """All that there is enough data for."""
    made = [
        _frontier(found, outside=False),
        _frontier(found, outside=True),
        _auc_frontier(found),
        _learning(found),
        _behind(found),
        _sparsity(found),
        _calibration(found),
    ]
    return [chart for chart in made if chart is not None]


def forest(found: Found) -> Forest | None:
    """Non-zeros at equal log loss as multiples of FTRL-Proximal's."""
    bars = []
    for place, (name, facts) in enumerate(found["contenders"].items()):
        ratio = found[AT_LOSS].get(name)
        if ratio is None:
            continue
        own = ratio["at_its_own"]
        bars.append(Bar(facts["title"], place, _triple(ratio), _triple(own), _words(ratio)))
    known = [v for bar in bars for t in (bar.filled, bar.hollow) if t is not None for v in t if v is not None]
    if not known:
        return None
    least, most = min([0.5, *known]), max([2.0, *known])
    text = (
        "How many non-zero weights a contender needs for the same log loss, as a multiple of those of "
        "FTRL-Proximal. Filled: at the log loss of FTRL-Proximal; “not reached: +0.001” is how much "
        "higher the lowest log loss of the contender is. Hollow: at the log loss that the contender itself "
        "can reach. The lines are 95 % intervals; right of 1, FTRL-Proximal needs fewer."
    )
    x = Axis("non-zero weights, times those of FTRL-Proximal", least / 1.15, min(most * 1.15, 1e4), log=True)
    return Forest("nonzeros-at-equal-loss", "Weights needed for the same log loss", text, x, bars)


def _triple(ratio: Mapping[str, Any]) -> tuple[float, float | None, float | None] | None:
    if ratio["ratio"] is None:
        return None
    return ratio["ratio"], ratio["interval"][0], ratio["interval"][1]


def _words(ratio: Mapping[str, Any]) -> str:
    return "" if ratio["ratio"] is not None else f"– not reached: +{ratio['gap']:.4f}"


def contenders(found: Found) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """(place, name, facts) of every contender with a result."""
    for place, (name, facts) in enumerate(found["contenders"].items()):
        if "skipped" not in facts:
            yield place, name, facts


def _frontier(found: Found, outside: bool) -> Chart | None:
    rows = found["data"]["rows"]
    chosen = [
        (place, name, facts)
        for place, name, facts in contenders(found)
        if (facts["outside"] == outside or name == REFERENCE) and facts["rows"] == rows
    ]
    if len(chosen) < 2:
        return None
    series = [
        Series(name, facts["title"], place, facts["frontier"], _band(facts, "frontier"), markers=True)
        for place, name, facts in chosen
    ]
    constant = found["data"]["constant_log_loss"]
    lowest = min(facts["log_loss_lowest"] for _, _, facts in chosen)
    highest = max(loss for s in series for _, loss in s.points)
    top = min(highest, lowest + _SHOWN * (constant - lowest)) if constant and constant > lowest else highest
    level = next(iter(found[AT_LOSS].values()))["level"] if found[AT_LOSS] else lowest
    least, most = padded([lowest, top], 0.06)
    kind = "programs" if outside else "learners"
    return Chart(
        f"frontier-{kind}",
        "Log loss against non-zero weights: " + ("programs outside" if outside else "the learners"),
        "Each line is what one contender can do: the lowest log loss (lower is better) that it reached "
        "with so many non-zero weights. Left and low is best. The shade is the 95 % interval of the "
        "difference to FTRL-Proximal on the same events.",
        _count_axis(series),
        Axis("log loss (nats an event)", least, most),
        series,
        [(level, "compared here")],
        right=("normalized entropy", 1.0 / constant) if constant else None,
    )


def _count_axis(series: list[Series]) -> Axis:
    counts = [max(1.0, count) for s in series for count, _ in s.points]
    return Axis("non-zero weights", max(1.0, min(counts) / 1.3), max(counts) * 1.3, log=True)


def _band(facts: Mapping[str, Any], name: str) -> list[tuple[float, float, float]]:
    pairs = zip(facts[name], facts[f"{name}_band"], strict=True)
    return [(point[0], low, high) for point, (low, high) in pairs if low is not None and high is not None]


def _auc_frontier(found: Found) -> Chart | None:
    rows = found["data"]["rows"]
    series = [
        Series(name, facts["title"], place, facts["frontier_auc"], _band(facts, "frontier_auc"), markers=True)
        for place, name, facts in contenders(found)
        if facts["rows"] == rows and facts["auc"] is not None
    ]
    if len(series) < 2:
        return None
    best = max(auc for s in series for _, auc in s.points)
    lowest = max(min(auc for s in series for _, auc in s.points), best - _SHOWN * (best - 0.5))
    least, most = padded([lowest, best], 0.06)
    return Chart(
        "frontier-auc",
        "AUC against non-zero weights",
        "The area under the ROC curve is the probability that a positive event gets a higher score than a "
        "negative one; higher is better, and 0.5 is guessing.",
        _count_axis(series),
        Axis("AUC", least, most),
        series,
    )


def _learning(found: Found) -> Chart | None:
    rows = found["data"]["rows"]
    series = [
        Series(name, facts["title"], place, points)
        for place, name, facts in contenders(found)
        if facts["rows"] == rows
        and len(points := [(x, y) for x, y, _ in facts["curve"] if x >= rows * _SKIPPED_BEGINNING]) > 1
    ]
    if not series:
        return None
    ends = sorted(s.points[-1][1] for s in series)
    reference = next((s for s in series if s.name == REFERENCE), series[0])
    middle = ends[len(ends) // 2]
    losses = [y for _, y in reference.points] + [middle + 1.5 * (middle - ends[0])]
    shown = min(max(losses), ends[0] + 4.0 * max(middle - ends[0], 0.02 * ends[0]))
    least, most = padded([min(ends[0], *(y for _, y in reference.points)), shown], 0.06)
    return Chart(
        "learning-curves",
        "Log loss as events come in",
        "The mean log loss of all predictions so far, each made before its event was learned from, with "
        "the settings shown in the table.",
        Axis("events", 0.0, float(rows)),
        Axis("log loss so far (nats an event)", least, most),
        series,
    )


def _behind(found: Found) -> Chart | None:
    """The learning curves without what is hard for all alike."""
    rows = found["data"]["rows"]
    curves = {
        name: (place, facts["title"], {x: y for x, y, _ in facts["curve"] if x >= rows * _SKIPPED_BEGINNING})
        for place, name, facts in contenders(found)
        if facts["rows"] == rows
    }
    base = curves[REFERENCE][2]
    series = [
        Series(name, title, place, [(x, y - base[x]) for x, y in curve.items() if x in base])
        for name, (place, title, curve) in curves.items()
    ]
    if len(series) < 2:
        return None
    ends = sorted(abs(s.points[-1][1]) for s in series)
    # The worst quarter must not press all others together.
    most = 1.6 * max(ends[int(0.75 * (len(ends) - 1))], 1e-4)
    lowest = min(y for s in series for _, y in s.points)
    return Chart(
        "behind",
        "Log loss above that of FTRL-Proximal",
        "The same curves less that of FTRL-Proximal: above zero a contender is behind, below zero it is "
        "ahead.",
        Axis("events", 0.0, float(rows)),
        Axis("difference in log loss so far", max(-most, 1.15 * min(lowest, -0.05 * most)), most),
        series,
    )


def _sparsity(found: Found) -> Chart | None:
    rows = found["data"]["rows"]
    series = []
    for place, name, facts in contenders(found):
        points = [(x, max(1.0, count)) for x, _, count in facts["curve"] if count is not None]
        if facts["rows"] == rows and len(points) > 1:
            series.append(Series(name, facts["title"], place, points))
    if not series:
        return None
    counts = [count for s in series for _, count in s.points]
    return Chart(
        "sparsity",
        "Non-zero weights as events come in",
        "How many weights are not zero after so many events: what has to be kept and served.",
        Axis("events", 0.0, float(rows)),
        Axis("non-zero weights", max(1.0, min(counts) / 1.3), max(counts) * 1.3, log=True),
        series,
    )


def _calibration(found: Found) -> Chart | None:
    rows = found["data"]["rows"]
    series = [
        Series(name, facts["title"], place, [(p, o) for p, o, _ in facts["reliability"]])
        for place, name, facts in contenders(found)
        if facts["rows"] == rows
    ]
    values = [v for s in series for point in s.points for v in point if v > 0]
    if not values:
        return None
    log = max(values) / min(values) > 100 and found["data"]["label_mean"] < 0.1
    if log:
        series = [Series(s.name, s.title, s.place, [(p, o) for p, o in s.points if o > 0]) for s in series]
    least, most = (
        (min(values) / 1.2, min(1.0, max(values) * 1.2)) if log else (0.0, min(1.0, 1.05 * max(values)))
    )
    return Chart(
        "calibration",
        "Calibration: predicted and observed rate",
        "Events in twenty groups of rising prediction: the rate predicted for a group, and the share of "
        "positives in it. On the diagonal both are equal.",
        Axis("predicted rate", least, most, log),
        Axis("observed rate", least, most, log),
        series,
        diagonal=True,
    )
