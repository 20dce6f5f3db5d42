"""The charts of ``ftrl bench --growth``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bench.groups.growth import BITS, FILE, LOG_SLOTS, MEMORY, ROW, SPREAD_SLOTS
from bench.power_law import PowerLaw
from bench.report.chart import Axis, Chart, Series
from bench.result import Result

MEMORY_AIM = 150.0  # MB beside the state table
_FIT_PLACE, _OTHER_PLACE = 9, 2  # colours
_AIM = "The aim is an exponent of 1.0 ± 0.05."
_ROUNDS = "Points are medians, the shade reaches from the fastest to the slowest round."


def growth_charts(results: Sequence[Result]) -> list[Chart]:
    """One for each curve; the two kinds of slots share theirs."""
    return [_features(results), _rows(results), _slots(results), _memory(results)]


def points_of(results: Sequence[Result], curve: str) -> list[Result]:
    """The figures that a curve goes through."""
    return [result for result in results if result.curve == curve and result.size > 0]


def exponents_of(results: Sequence[Result], curve: str) -> list[Result]:
    """How it grows: over all sizes, and where there is one over the last of them."""
    return [result for result in results if result.curve == curve and result.unit == "exponent"]


def _features(results: Sequence[Result]) -> Chart:
    measured = _series(results, ROW, "measured", join="none")
    return Chart(
        "growth-features",
        "Time of one row against its features",
        f"Learning hashed rows into 2^{BITS} slots on one core; the slots are spread evenly over the table, "
        f"so each feature is as far away as any other. {_ROUNDS} {_AIM}",
        _log_axis("features of a row", [x for x, _ in measured.points]),
        _log_axis("time of one row (µs)", _values(measured)),
        [measured, _fit(results, ROW, "features")],
    )


def _rows(results: Sequence[Result]) -> Chart:
    measured = _series(results, FILE, "measured", join="none")
    return Chart(
        "growth-rows",
        "Time from a file to a model against its rows",
        "Reading, parsing, hashing and learning the simulated Criteo log, 39 features a row, checkpoints and "
        "snapshots included, in a process that has started; what ten rows take there is subtracted. "
        f"{_ROUNDS} {_AIM}",
        _log_axis("rows of the file", [x for x, _ in measured.points]),
        _log_axis("time without start-up (s)", _values(measured)),
        [measured, _fit(results, FILE, "rows")],
    )


def _slots(results: Sequence[Result]) -> Chart:
    series = [
        _over_bits(_series(results, LOG_SLOTS, "slots of a click log: few are frequent")),
        _over_bits(_series(results, SPREAD_SLOTS, "slots spread evenly: the worst case", _OTHER_PLACE)),
    ]
    bits = [x for s in series for x, _ in s.points]
    return Chart(
        "growth-slots",
        "Time of one feature against the slots of the table",
        "Learning hashed rows of 39 features on one core. The work is the same everywhere; what grows is the "
        "way to the memory, once the table is larger than the caches. A slot takes 16 bytes: 2^18 slots are "
        f"4 MB, 2^22 are 67 MB and 2^26 are 1,074 MB. {_ROUNDS}",
        Axis("slots of the table, as a power of 2", min(bits) - 0.3, max(bits) + 0.3),
        Axis("time of one feature (ns)", 0.0, 1.1 * max(v for s in series for v in _values(s))),
        series,
    )


def _memory(results: Sequence[Result]) -> Chart:
    series = _series(results, MEMORY, "measured")
    return Chart(
        "growth-memory",
        "Peak memory beside the state table",
        f"The largest resident memory of the process less its table of 2^{BITS} slots (67 MB), for the same "
        f"files. The aim is {MEMORY_AIM:.0f} MB whatever the size of the file. {_ROUNDS}",
        _log_axis("rows of the file", [x for x, _ in series.points]),
        Axis("peak memory without the state (MB)", 0.0, 1.15 * max(MEMORY_AIM, *_values(series))),
        [series],
        [(MEMORY_AIM, f"aim: at most {MEMORY_AIM:.0f} MB")],
    )


def _series(results: Sequence[Result], curve: str, title: str, place: int = 0, join: str = "solid") -> Series:
    found = points_of(results, curve)
    medians = [(result.size, result.median) for result in found]
    band = [(result.size, result.min, result.max) for result in found]
    return Series(curve, title, place, medians, band, markers=True, join=join)


def _over_bits(series: Series) -> Series:
    """The same over the logarithm to base 2 of the slots."""
    points = [(math.log2(x), y) for x, y in series.points]
    return replace(series, points=points, band=[(math.log2(x), low, high) for x, low, high in series.band])


def _fit(results: Sequence[Result], curve: str, what: str) -> Series:
    """The line of the exponent, through the middle of the medians."""
    found, growth = points_of(results, curve), exponents_of(results, curve)[0]
    sizes = [result.size for result in found]
    law = PowerLaw.fit(sizes, [result.median for result in found])
    middle = math.exp(sum(map(math.log, sizes)) / len(sizes))
    line = [(x, law(middle) * (x / middle) ** growth.median) for x in (sizes[0], sizes[-1])]
    title = f"fit: time grows with {what}^{growth.median:.2f} ({growth.min:.2f} to {growth.max:.2f} by round)"
    return Series(f"{curve}, fit", title, _FIT_PLACE, line, join="dashed")


def _values(series: Series) -> list[float]:
    return [value for _, low, high in series.band for value in (low, high)]


def _log_axis(label: str, values: Sequence[float]) -> Axis:
    return Axis(label, min(values) / 1.25, max(values) * 1.25, log=True)
