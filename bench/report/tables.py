"""Tables of a report, for the page, for Markdown and for CSV alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.comparison.results import AT_AUC, AT_LATE_LOSS, AT_LOSS, LEVELS
from bench.report.charts import contenders
from bench.report.conclusions import LEVELS_TITLE, PUBLISHED
from bench.report.words import count, loss, loss_between, percent, settings, size, times

Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """The first ``words`` columns are text, the others numbers; places colours the rows of contenders."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    places: Sequence[int] = ()


def tables(found: Found) -> list[Table]:
    """Those that every report shows."""
    return [overview(found), ratios(found), levels(found), cost(found)]


def overview(found: Found) -> Table:
    """What each contender reached with the settings that are shown."""
    rows, places = [], []
    for place, _, facts in contenders(found):
        places.append(place)
        rows.append([
            facts["title"], settings(facts["settings"]), loss(facts["log_loss"]),
            loss_between(facts["log_loss_interval"]), loss(facts["log_loss_lowest"]), loss(facts["auc"]),
            loss(facts["normalized_entropy"]),
            "–" if facts["calibration"] is None else f"{facts['calibration']:.3f}",
            count(facts["nonzero_weights"]),
        ])  # fmt: skip
    share = percent(found["about"]["tolerance"])
    return Table(
        "What each contender reached",
        f"Each at its sparsest settings that lose no more than {share} of its own lowest log loss (column "
        "lowest), so rows are not at equal log loss; the next table compares there. Log loss and "
        "normalized entropy: lower is better; AUC: higher is better; calibration: "
        "predicted positives / observed positives, 1 is right. Intervals are of 95 %.",
        ["contender", "settings", "log loss", "interval", "lowest", "AUC", "norm. entropy", "calibration",
         "non-zeros"],
        rows, words=2, places=places,
    )  # fmt: skip


def ratios(found: Found) -> Table:
    """Non-zeros relative to FTRL-Proximal, at four kinds of equality."""
    rows, places = [], []
    for place, name, facts in contenders(found):
        if name not in found[AT_LOSS]:
            continue
        at_loss = found[AT_LOSS][name]
        paper = f"{1 + PUBLISHED[name] / 100:.2f} ×" if name in PUBLISHED else ""
        late, auc = found[AT_LATE_LOSS].get(name), found[AT_AUC].get(name)
        cells = [_cell(ratio) for ratio in (at_loss, at_loss["at_its_own"], late, auc)]
        places.append(place)
        rows.append([facts["title"], *cells, paper])
    return Table(
        "Non-zero weights, times those of FTRL-Proximal",
        "Above 1, FTRL-Proximal needs fewer. First at the log loss of FTRL-Proximal, then at the log loss "
        "that the contender itself reaches (its lowest and as much more), at equal log loss over the second "
        "half of the events alone (when all have learned the most), and at equal AUC (gaps there are of "
        "AUC); last, what was published in 2013 for search advertising.",
        ["contender", "at FTRL's log loss", "at its own log loss", "second half alone", "at equal AUC",
         "paper"],
        rows, places=places,
    )  # fmt: skip


def _cell(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None:
        return "–"
    if ratio["ratio"] is not None:
        return times(ratio)
    return f"not reached: {loss(ratio['gap'])} above" if ratio.get("gap") is not None else "not reached"


def levels(found: Found) -> Table:
    """Non-zeros that several log losses take."""
    rows, places = [], []
    for place, name, facts in contenders(found):
        if facts["rows"] == found["data"]["rows"]:
            places.append(place)
            rows.append([facts["title"], *(count(mine) for _, mine, _ in found["levels"][name])])
    first = next(iter(found["levels"].values()))
    columns = [
        f"{loss(level)} (+{percent(share)})" for share, (level, _, _) in zip(LEVELS, first, strict=True)
    ]
    return Table(
        LEVELS_TITLE,
        "For several log losses above the lowest of FTRL-Proximal, interpolated along each contender's "
        "frontier; a dash where it never gets there.",
        ["contender", *columns],
        rows,
        places=places,
    )


def cost(found: Found) -> Table:
    """Speed and memory."""
    rows, places = [], []
    slots = 1 << found["data"]["bits"]
    for place, _, facts in contenders(found):
        state = facts["state_bytes_a_slot"]
        memory = f"{size(state * slots)} table" if state else f"{count(facts['peak_mb'])} MB process"
        places.append(place)
        speed = count(facts["rows_per_second"])
        rows.append([facts["title"], speed, memory, size(facts["snapshot_bytes"])])
    return Table(
        "Cost",
        "Events a second of processor time on one core. For the learners: predicting and learning hashed "
        "rows, and the table they keep. For programs outside: everything their process does for one pass, "
        "its own reading and the way it has to be asked included, and its largest memory. A snapshot "
        "needs a slot and a weight for each non-zero. The medians of all settings, on a machine that "
        "may do other work: an idea. The command ftrl bench compares speed with care.",
        ["contender", "events/s", "memory", "snapshot"],
        rows, places=places,
    )  # fmt: skip


def grid(facts: Mapping[str, Any]) -> Table:
    """All that one contender tried."""
    rows = []
    for tried in facts["grid"]:
        if "failed" in tried:
            rows.append([settings(tried["settings"]), tried["failed"], "", "", "", ""])
            continue
        calibration = tried["calibration"]
        rows.append([
            settings(tried["settings"]), loss(tried["log_loss"]), loss(tried["auc"]),
            "–" if calibration is None else f"{calibration:.3f}", count(tried["nonzero_weights"]),
            "shown" if tried["chosen"] else "",
        ])  # fmt: skip
    columns = ["settings", "log loss", "AUC", "calibration", "non-zero weights", ""]
    fixed = f"Not searched: {settings(facts['fixed'])}." if facts["fixed"] else ""
    return Table(facts["title"], " ".join(filter(None, (facts["note"], fixed))), columns, rows)
