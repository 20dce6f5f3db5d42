"""How time and memory grow: features of a row, slots of the table, rows of a file. Ours alone.

Rows of 10 and of 1000 features are drawn evenly from the same table, so that each feature costs
the same way to memory and the number of features is all that differs. Slots are also measured with the rows
of a click log, where few features are frequent and most are rare. What ten rows take in a process that has
started already is subtracted from the seconds of a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contenders.base import OURS
from bench.hashed_rows import FEATURES
from bench.power_law import PowerLaw
from bench.result import Outcome, Result
from bench.speed import Bench

BASELINE = None
BITS = 22
# The curves, as their results are named; the two in the middle differ in which slots are used.
ROW = "learn one row"
LOG_SLOTS, SPREAD_SLOTS = "learn one feature, slots of a click log", "learn one feature, slots spread evenly"
FILE, MEMORY = "file to model, without start-up", "peak memory without the state"
SHORT_ROWS = 10
LEAST_ROWS = 200_000  # a curve over rows has two points at least
_CELL_BYTES = 16
_CLOCK_SECONDS = 1e-6  # the least time there is


@dataclass(frozen=True, slots=True)
class Sizes:
    """features a row; cells: rows times features of one run of a kernel; bits of a table; rows of a file.

    warm  rows of the run that does not count: it has every kernel compiled that a longer one needs
    """

    features: Sequence[int]
    cells: int
    bits: Sequence[int]
    rows: Sequence[int]
    warm: int = 60_000


FULL = Sizes(
    (10, 30, 100, 300, 1000), 20_000_000, range(18, 27), (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
)
QUICK = Sizes((10, 100, 1000), 5_000_000, (18, 20, 22, 24, 26), (100_000, 300_000, 1_000_000))


def measure(bench: Bench) -> list[Result]:
    """us a row, ns a feature, seconds and MB (10^6 bytes) of a file, and exponents of two of the curves."""
    sizes = QUICK if bench.quick else FULL
    found: list[Result] = []
    for part in (_features, _slots, _rows):
        # Gigabytes of inputs and models of one part go before the next one begins.
        with TemporaryDirectory(dir=bench.inputs.directory) as directory:
            inputs = replace(bench.inputs, directory=Path(directory))
            found += part(replace(bench, inputs=inputs), sizes)
    return found


def _features(bench: Bench, sizes: Sizes) -> list[Result]:
    """Time of a row against its features."""
    counts = {f"{n} features": n for n in sizes.features}
    jobs = {
        name: {"hashed": str(bench.inputs.spread(max(1, sizes.cells // n), BITS, n)), "bits": BITS}
        for name, n in counts.items()
    }
    lanes = bench.race_jobs("learn_rows", jobs)
    times = {name: [1e6 * _row_seconds(one) for one in lanes[name].outcomes] for name in counts}
    return [*_points(ROW, "us/row", counts, times), *_exponents(ROW, counts, times)]


def _slots(bench: Bench, sizes: Sizes) -> list[Result]:
    """Time of a feature against the slots of the table, for two kinds of rows."""
    rows = max(1, sizes.cells // FEATURES)
    counts = {f"2^{bits} slots": 1 << bits for bits in sizes.bits}
    jobs: dict[str, dict[str, object]] = {}
    for bits, name in zip(sizes.bits, counts, strict=True):
        jobs[f"{LOG_SLOTS}: {name}"] = {"hashed": str(bench.inputs.hashed(rows, bits)), "bits": bits}
        spread = bench.inputs.spread(rows, bits, FEATURES)
        jobs[f"{SPREAD_SLOTS}: {name}"] = {"hashed": str(spread), "bits": bits}
    lanes = bench.race_jobs("learn_rows", jobs)
    found = []
    for curve in (LOG_SLOTS, SPREAD_SLOTS):
        outcomes = {name: lanes[f"{curve}: {name}"].outcomes for name in counts}
        times = {name: [1e9 * _row_seconds(x) / FEATURES for x in outcomes[name]] for name in counts}
        found += _points(curve, "ns/feature", counts, times)
    return found


def _rows(bench: Bench, sizes: Sizes) -> list[Result]:
    """Seconds and peak memory against the rows of a file."""
    most = min(sizes.rows[-1], bench.most_rows or sizes.rows[-1])
    # The longest file first: the others are its beginning.
    files = {n: str(bench.inputs.criteo("tsv", n)) for n in (most, *sizes.rows, SHORT_ROWS) if n <= most}
    shared = {"short": files[SHORT_ROWS], "directory": str(bench.inputs.directory), "bits": BITS}
    counts = {f"{n:,} rows": n for n in sorted(files) if n > SHORT_ROWS}
    jobs = {name: {"criteo": files[n], "rows": n, **shared} for name, n in counts.items()}
    warm = {"criteo": str(bench.inputs.criteo("tsv", sizes.warm)), "rows": sizes.warm, **shared}
    replace(bench, runs=1).race_jobs("learn_file_started", {"warm-up": warm})
    lanes = bench.race_jobs("learn_file_started", jobs)
    times = {name: [_seconds(one) for one in lane.outcomes] for name, lane in lanes.items()}
    peaks = {name: [_without_state(one) for one in lane.outcomes] for name, lane in lanes.items()}
    return [
        *_points(FILE, "s", counts, times),
        *_exponents(FILE, counts, times),
        *_points(MEMORY, "MB", counts, peaks),
    ]


def _row_seconds(outcome: Outcome) -> float:
    return 1.0 / outcome.measures["rows_per_second"]


def _seconds(outcome: Outcome) -> float:
    return max(outcome.measures["seconds"] - outcome.measures["short_seconds"], _CLOCK_SECONDS)


def _without_state(outcome: Outcome) -> float:
    return outcome.peak_mb - (_CELL_BYTES << BITS) / 1e6


def _points(
    curve: str, unit: str, sizes: Mapping[str, int], values: Mapping[str, Sequence[float]]
) -> list[Result]:
    """A figure for each size, by its name."""
    return [
        replace(
            Result.of("growth", f"{curve}: {name}", OURS, unit, values[name]), curve=curve, size=float(size)
        )
        for name, size in sizes.items()
    ]


def _exponents(curve: str, sizes: Mapping[str, int], times: Mapping[str, Sequence[float]]) -> list[Result]:
    """How the curve grows: over all sizes, over the last tenfold, and without what the least size costs.

    A fixed cost makes a straight line flatter in logarithms, though nothing grows slower than its size. What
    is added to the least size is free of it: the exponent of time(n) - time(least) over n - least.
    """
    least, most = min(sizes, key=sizes.__getitem__), max(sizes.values())
    last = {name: size for name, size in sizes.items() if size * 10 >= most}
    found = [_exponent(curve, f"{curve}: growth", sizes, times)]
    if 2 <= len(last) < len(sizes):
        found.append(_exponent(curve, f"{curve}: growth from {next(iter(last))} on", last, times))
    added = {name: size - sizes[least] for name, size in last.items() if name != least}
    if len(added) >= 2:
        more = {
            name: [max(a - b, _CLOCK_SECONDS) for a, b in zip(times[name], times[least], strict=True)]
            for name in added
        }
        found.append(_exponent(curve, f"{curve}: growth of what is added to {least}", added, more))
    return found


def _exponent(
    curve: str, name: str, sizes: Mapping[str, int], times: Mapping[str, Sequence[float]]
) -> Result:
    """The exponent that fits each round; the figure is made of theirs."""
    rounds = zip(*(times[size] for size in sizes), strict=True)
    exponents = [PowerLaw.fit(list(sizes.values()), values).exponent for values in rounds]
    return replace(Result.of("growth", name, OURS, "exponent", exponents), curve=curve)
